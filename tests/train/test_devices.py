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


class FakeGlibc:
    """Records what it is told; refuses the options that it does not know."""

    gnu_get_libc_version = None

    def __init__(self, known):
        self.known, self.told = known, {}

    def mallopt(self, option, value):
        self.told[option] = value
        return int(option in self.known)


@pytest.mark.parametrize(("known", "done"), [((-1, -2, -4, -8), True), ((-1, -2, -4), False)])
def test_glibc_is_told_never_to_give_memory_back(monkeypatch, known, done):
    library = FakeGlibc(known)
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: library)
    assert devices.keep_freed_memory() is done
    # no mmap, no trimming, one arena, growth by 64 MB: the numbers of glibc's malloc.h
    assert library.told == {-4: 0, -1: -1, -8: 1, -2: 64 * 1024 * 1024}


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    monkeypatch.setattr(devices.sys, "platform", platform)
    assert devices.keep_freed_memory() is False


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: object())
    assert devices.keep_freed_memory() is False
