import json
import os
import resource
import socket
import subprocess
import sys
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train import devices
from segjax.train.devices import choose_devices, connect_hosts

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


# Compiles as a program for an accelerator would: prints the folder, and what lies in it.
COMPILING = """
import sys
import jax
from segjax.train.devices import keep_compiled_programs
jax.default_backend = lambda: sys.argv[1]
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
folder = keep_compiled_programs()
jax.jit(lambda x: x * 2 + 1)(1.0)
print(folder, len(list(folder.iterdir())) if folder and folder.is_dir() else 0)
"""


@pytest.mark.parametrize(
    ("backend", "variables", "folder"),
    [
        ("gpu", {"XDG_CACHE_HOME": "caches"}, "caches/segjax/compiled"),
        ("gpu", {"XDG_CACHE_HOME": "file"}, None),
        ("cpu", {"HOME": "home"}, None),
        ("gpu", {"JAX_COMPILATION_CACHE_DIR": "chosen"}, "chosen"),
    ],
)
def test_programs_for_accelerators_are_kept_on_disk(tmp_path, backend, variables, folder):
    (tmp_path / "file").touch()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "XDG_CACHE_HOME" and not name.startswith("JAX_")
    }
    environment |= {name: str(tmp_path / value) for name, value in variables.items()}
    command = [sys.executable, "-c", COMPILING, backend]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    assert kept == str(folder and tmp_path / folder)
    assert (int(count) > 0) == (folder is not None)


# Losses of four steps, for each number of devices; every host feeds its own rows.
TRAINING = """
import json, sys
counts, address, hosts, index = json.loads(sys.argv[1])
from segjax.train.devices import choose_devices, connect_hosts
if hosts > 1:
    connect_hosts(address, hosts=hosts, index=index)
import jax, numpy as np
from segjax.models.unet_plus_plus import UNetPlusPlus
from segjax.train.config import OptimizerConfig
from segjax.train.losses import Loss
from segjax.train.optimizers import make_optimizer
from segjax.train.step import init_state, make_train_step
model = UNetPlusPlus(features=(2, 3), dropout=0.3)
optimizer = make_optimizer(OptimizerConfig(), 10)
step = make_train_step(model, Loss(), optimizer)
for count in counts:
    chosen = choose_devices(8, devices=jax.devices()[:count])
    state = chosen.replicate(init_state(model, optimizer, jax.random.key(0), (8, 8, 8)))
    rng = np.random.default_rng(0)
    rows, losses = chosen.rows(8), []
    for _ in range(4):
        images = rng.standard_normal((8, 8, 8, 8, 1)).astype(np.float32)
        labels = (images[..., 0] > 0.5).astype(np.int32)
        batch = chosen.place((images[rows], labels[rows]), 8)
        state, metrics = step(state, *batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    print("losses", json.dumps([chosen.count, losses]))
"""


def start_training(counts, *, hosts=1, index=0, address=""):
    settings = json.dumps([counts, address, hosts, index])
    local = f"--xla_force_host_platform_device_count={max(counts) // hosts}"
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, settings],
        env={**os.environ, "XLA_FLAGS": local, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )


def losses_by_count(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    lines = [line.split(" ", 1) for line in output.splitlines() if line.startswith("losses ")]
    return dict(json.loads(values) for _, values in lines)


@pytest.mark.slow
def test_any_number_of_devices_and_hosts_gives_the_same_losses():
    losses = losses_by_count(start_training([1, 2, 4, 8]))
    assert sorted(losses) == [1, 2, 4, 8]
    assert losses[1][-1] < losses[1][0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    pair = [start_training([4], hosts=2, index=index, address=address) for index in range(2)]
    for host in pair:
        np.testing.assert_allclose(losses_by_count(host)[4], losses[1], atol=1e-5)
    for count in (2, 4, 8):
        np.testing.assert_allclose(losses[count], losses[1], atol=1e-5)


class FakeDevice:
    def __init__(self, process_index):
        self.process_index = process_index


@pytest.mark.filterwarnings("ignore:batch_size")
@pytest.mark.parametrize(("batch_size", "count"), [(8, 4), (6, 3), (7, 1), (2, 2), (1, 1)])
def test_as_many_devices_are_taken_as_share_a_batch_evenly(batch_size, count):
    found = [FakeDevice(0) for _ in range(4)]
    assert choose_devices(batch_size, devices=found).count == count


def test_devices_without_work_are_pointed_out():
    with pytest.warns(UserWarning, match="batch_size 2: 2 of 8 devices are used; 8 would use all"):
        choose_devices(2, devices=[FakeDevice(0)] * 8)
    with pytest.warns(UserWarning, match="batch_size 9: 3 of 8 devices .* 16 would use all"):
        choose_devices(9, devices=[FakeDevice(0)] * 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_devices(16, devices=[FakeDevice(0)] * 8)


def test_several_hosts_need_a_batch_that_all_can_share(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"batch_size 6: 4 devices on 2 hosts .* multiple of 4"):
        choose_devices(6, devices=[FakeDevice(0)] * 2 + [FakeDevice(1)] * 2)


def test_each_host_feeds_the_rows_of_its_own_devices(monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    chosen = choose_devices(8, devices=[FakeDevice(0)] * 2 + [FakeDevice(1)] * 2)
    assert chosen.rows(8) == slice(4, 8)


def test_a_batch_is_placed_and_a_state_copied():
    chosen = choose_devices(2, devices=jax.devices()[:1])
    batch = chosen.place({"images": np.ones((2, 3))}, 2)
    assert batch["images"].shape == (2, 3)
    np.testing.assert_array_equal(chosen.replicate(np.arange(3)), [0, 1, 2])


@pytest.mark.parametrize(("backend", "early"), [("cpu", 0), ("gpu", 1)])
def test_batches_are_placed_one_ahead_on_an_accelerator(backend, early, monkeypatch):
    chosen = choose_devices(2, devices=jax.devices()[:1])
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    drawn, closed = [], []

    def batches():
        try:
            for step in range(5):
                drawn.append(step)
                yield np.full((2, 3), step)
        finally:
            closed.append(True)

    placed = chosen.ahead(batches(), 2)
    for step in range(3):
        assert next(placed)[0, 0] == step
        assert drawn[-1] == step + early
    placed.close()
    assert closed == [True]
    assert [int(batch[0, 0]) for batch in chosen.ahead(batches(), 2)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("plugins", "backend", "kept"),
    [((), None, "memory"), (("cuda",), "cpu", "memory"), (("cuda",), "gpu", "programs")],
)
def test_memory_is_kept_on_a_cpu_and_programs_on_an_accelerator(
    plugins, backend, kept, monkeypatch
):
    def found():
        assert backend is not None, "JAX was started"
        return backend

    done = []
    monkeypatch.setattr(jax, "default_backend", found)
    monkeypatch.setattr(devices, "entry_points", lambda group: plugins)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    monkeypatch.setattr(jax, "config", SimpleNamespace(jax_platforms=None))
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: done.append("memory"))
    monkeypatch.setattr(devices, "keep_compiled_programs", lambda: done.append("programs"))
    devices.prepare_process()
    assert done == [kept]


def test_half_an_address_is_refused():
    with pytest.raises(InputError, match="give address, number of hosts and index"):
        connect_hosts("node7:8476", hosts=2)


def test_hosts_that_cannot_be_connected_are_an_error(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no coordinator\ndetails")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match=r"cannot be connected: no coordinator$"):
        connect_hosts()
