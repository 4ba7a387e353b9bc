"""Batches of worker processes: those of the loader, whatever happens to the processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cloudpickle
import numpy as np
import pytest

from segjax.data import workers
from segjax.data.augment import Noise
from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, Sampling, prefetch
from segjax.errors import InputError
from segjax.volume import Volume

GB = 10**9

pytest.importorskip("grain")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find this file


def make_loader(kind=Loader):
    shape = (12, 10)
    rng = np.random.default_rng(0)
    label = (rng.random(shape) > 0.9).astype(np.uint8)
    volume = Volume(label, np.eye(3))
    image = rng.random((*shape, 1), np.float32)
    cases = [LoadedCase(f"case{i}", image * i, label, volume, volume) for i in range(1, 4)]
    return kind(cases, Sampling((6, 6), 2, patches_per_case=4), augment=(Noise(),), seed=3)


class Witness(Loader):
    """Give what a worker process sees instead of batches."""

    def batch(self, step):
        import jax

        backends = sys.modules["jax._src.xla_bridge"]._backends
        devices = os.environ["CUDA_VISIBLE_DEVICES"] or "none"
        platform = jax.config.jax_platforms
        return np.array([os.getpid(), len(backends)]), np.array([devices, platform])


class BadFile(Loader):
    def batch(self, step):
        if step == 2:
            raise InputError("/data/brain.npy: cannot be read")
        return super().batch(step)


class StubbornError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")


class BadError(Loader):
    def batch(self, step):
        raise StubbornError(7, "cannot be unpickled")


class Dying(Loader):
    def batch(self, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step)


def same(a, b):
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def alive(pid):
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_training_goes_on_exactly_with_any_number_of_workers():
    loader, steps = make_loader(), iter(range(3, 15))
    for number, count in ((2, 5), (0, 2), (1, 5)):
        first = next(steps)
        batches = prefetch(loader, range(first, 15), workers=number)
        for step in (first, *(next(steps) for _ in range(count - 1))):
            assert same(next(batches), loader.batch(step))
        batches.close()


def test_workers_stop_after_the_last_step():
    assert len(list(prefetch(make_loader(), range(3), workers=1))) == 3


def test_workers_are_other_processes_without_devices_that_end_when_closed():
    before = dict(os.environ)
    batches = prefetch(make_loader(Witness), range(100), workers=1)
    (pid, backends), (devices, platform) = next(batches)
    assert dict(os.environ) == before
    assert pid != os.getpid()
    assert (backends, devices, platform) == (0, "none", "cpu")
    batches.close()
    assert not alive(pid)


def test_error_of_a_worker_arrives_as_it_was():
    batches = prefetch(make_loader(BadFile), range(9), workers=1)
    next(batches)
    next(batches)
    with pytest.raises(InputError, match=r"^/data/brain.npy: cannot be read$"):
        next(batches)


def test_error_that_cannot_travel_arrives_as_text():
    with pytest.raises(RuntimeError, match=r"StubbornError: cannot be unpickled \(7\)"):
        next(prefetch(make_loader(BadError), range(9), workers=1))


def test_errors_travel_or_become_text_in_the_worker_itself():
    with pytest.raises(InputError, match="cannot be read"):
        workers._Draw(make_loader(BadFile))(2)
    with pytest.raises(RuntimeError, match="StubbornError: cannot be unpickled"):
        workers._Draw(make_loader(BadError))(0)
    assert same(workers._Draw(make_loader())(4), make_loader().batch(4))


def test_worker_begins_without_devices_and_without_ctrl_c(monkeypatch):
    signals, jax = mock.Mock(), mock.Mock()
    monkeypatch.setattr(signal, "signal", signals)
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "3"})
    monkeypatch.setitem(sys.modules, "jax", jax)
    workers._begin_worker(0, 1)
    signals.assert_called_once_with(signal.SIGINT, signal.SIG_IGN)
    jax.config.update.assert_called_once_with("jax_platforms", "cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_worker_ends_when_its_parent_has_ended(monkeypatch):
    parent, end = mock.Mock(), mock.Mock()
    monkeypatch.setattr(os, "_exit", end)
    workers._end_with_parent()  # this process is no worker
    end.assert_not_called()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    workers._end_with_parent()
    parent.join.assert_called_once_with()
    end.assert_called_once_with(1)


def test_environment_is_that_of_before_after_the_workers_have_started(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with workers._environment({"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}):
        assert (os.environ["OMP_NUM_THREADS"], os.environ["JAX_PLATFORMS"]) == ("1", "cpu")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "JAX_PLATFORMS" not in os.environ


def test_killed_worker_is_said():
    batches = prefetch(make_loader(Dying), range(9), workers=1)
    with pytest.raises(InputError, match=r"was killed \(exit code -9.*fewer workers"):
        list(batches)


def test_missing_grain_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(
        InputError, match=r'need the package grain \(pip install .*"\.\[train\]" in '
    ):
        prefetch(make_loader(), range(2), workers=1)


@pytest.mark.parametrize(
    ("steps", "workers", "depth", "message"),
    [
        ([1, 2], 1, 2, "the steps of a range"),
        (range(2), -1, 2, "-1 workers"),
        (range(2), 1, 0, "0 batches ahead"),
    ],
)
def test_impossible_requests_are_refused(steps, workers, depth, message):
    with pytest.raises(InputError, match=message):
        prefetch(make_loader(), steps, workers=workers, depth=depth)


PROGRAM = """
import os, signal, sys, time
import numpy as np
from segjax.data.loader import prefetch

class Slow:
    def batch(self, step):
        time.sleep(0.01)
        return (np.array([os.getpid()]),)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs are born deaf to it
    batches = prefetch(Slow(), range(10**6), workers=2)
    print(*{int(next(batches)[0][0]) for _ in range(4)}, flush=True)
    for _ in batches:
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_program(tmp_path, by):
    """SIGINT goes to the whole group, as Ctrl-C in a terminal does."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    send = os.killpg if by == signal.SIGINT else os.kill
    send(process.pid, by)
    error = process.communicate(timeout=60)[1]
    patience = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not any(map(alive, pids))
    if by == signal.SIGINT:
        assert error.count("KeyboardInterrupt") == 1
        assert "leaked" not in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "end"), [("loader", "batches.close()"), ("loader", "pass"), ("workers", "pass")]
)
def test_ending_early_leaves_nothing_behind_that_python_would_warn_of(tmp_path, module, end):
    program = PROGRAM.replace("for _ in batches:\n        pass", end)
    if module == "workers":  # imported first, before anything that multiprocessing brings
        program = program.replace(
            "loader import prefetch", "workers import prefetch_by_workers as prefetch"
        )
    script = tmp_path / "program.py"
    script.write_text(program)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == ""


@pytest.mark.parametrize(("cores", "count"), [(1, 0), (4, 3), (64, 8)])
def test_an_accelerator_gets_all_cores_but_one(cores, count, monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: cores)
    assert workers.default_workers() == count


@pytest.mark.parametrize(
    ("size", "count"), [(0, 8), (5 * GB, 8), (10 * GB, 5), (20 * GB, 2), (40 * GB, 0)]
)
def test_no_more_processes_copy_the_cases_than_half_the_memory_has_room_for(
    size, count, monkeypatch
):
    monkeypatch.setattr(workers, "cores", lambda: 64)
    monkeypatch.setattr(workers, "available_bytes", lambda: (128 * GB, "computer"))
    told = pytest.warns(UserWarning, match="segjax preprocess") if not count else nullcontext()
    with told:
        assert workers.default_workers(size) == count


@pytest.mark.parametrize(
    ("program", "count"),
    [("fit()", 0), ('if __name__ == "__main__":\n    fit()', 3), (None, 3)],
)
def test_a_program_that_processes_would_begin_again_gets_none(
    program, count, tmp_path, monkeypatch
):
    main = SimpleNamespace(__spec__=None)
    if program:
        main.__file__ = str(tmp_path / "program.py")
        Path(main.__file__).write_text(program)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(workers, "cores", lambda: 4)
    told = pytest.warns(UserWarning, match="begin with if __name__") if not count else nullcontext()
    with told:
        assert workers.default_workers() == count


def test_a_missing_grain_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"device may have to wait .*install grain.*\[train\]"):
        assert workers.default_workers() == 0
