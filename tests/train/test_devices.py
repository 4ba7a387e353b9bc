import resource
import subprocess
import sys

import pytest

from segjax.train import devices

# Allocates and frees 256 MB ten times and counts the pages that were faulted in.
FAULTS = """
import ctypes, resource
from segjax.train.devices import keep_freed_memory
kept = {call}
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
for round in range(10):
    block = library.malloc(256 << 20)
    ctypes.memset(block, round, 256 << 20)
    library.free(block)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(call: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", FAULTS.format(call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a matter of Linux")
def test_freed_memory_is_not_faulted_in_again():
    pages = (256 << 20) // resource.getpagesize()
    _, usual = faults("False")
    kept, fewer = faults("keep_freed_memory()")
    assert kept
    if usual > 9 * pages:  # huge pages off: every round faults every page
        assert fewer < 2 * pages
    assert fewer < usual / 4


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    monkeypatch.setattr(devices.sys, "platform", platform)
    assert devices.keep_freed_memory() is False


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: object())
    assert devices.keep_freed_memory() is False
