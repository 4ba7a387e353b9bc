"""Draw batches in worker processes, by grain."""

import atexit
import contextlib
import gc
import multiprocessing
import multiprocessing.util  # its own exit handler comes before ours and so runs after it
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from segjax.errors import InputError
from segjax.extras import how_to_install
from segjax.machine import available_bytes, cores

__all__ = ["default_workers", "prefetch_by_workers"]

_MOST = 8  # processes, unless more are asked for
_SHARE = 1 / 2  # of the memory that cases may take in this process and the others together

_NO_DEVICES = {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def default_workers(copied: int = 0) -> int:
    """Return how many processes draw batches for an accelerator, where nobody says.

    Args:
        copied: Bytes of the cases in memory, of which each process gets a copy.

    Returns:
        All usable cores but one, which is the training's, at most 8 and no more than have room for
        the cases; 0 where grain is missing, or the program would begin again in every process.

    Warns:
        UserWarning: One of these is so; the message says what to do.

    Example:
        >>> default_workers() in range(9)
        True
    """
    if find_spec("grain") is None:
        obstacle = f"install grain ({how_to_install('train')})"
    elif not _is_guarded():
        obstacle = 'let the program begin with if __name__ == "__main__":'
    elif (room := _room(copied)) < 1:
        obstacle = "preprocess the cases into a cache (segjax preprocess), which needs no copies"
    else:
        return min(cores() - 1, _MOST, room)
    warnings.warn(
        "a thread of this process draws the training patches, and the device may have to wait for "
        f"it: {obstacle}, so that processes draw them",
        stacklevel=4,
    )
    return 0


def _room(copied: int) -> int:
    """Return of how many processes the memory has room for the cases."""
    memory = available_bytes()
    return int(_SHARE * memory[0]) // copied - 1 if copied and memory else _MOST


def _is_guarded() -> bool:
    """Return whether spawned processes leave out what the program does; notebooks have no file."""
    main = sys.modules["__main__"]
    file: str | None = getattr(main, "__file__", None)
    if file is None or main.__spec__ is not None:  # the latter where it is python -m
        return True
    with contextlib.suppress(OSError):
        return "__main__" in Path(file).read_text(encoding="utf-8", errors="replace")
    return True


def prefetch_by_workers(
    loader: Any, steps: Iterable[int], *, workers: int, depth: int = 2
) -> Generator[Any, None, None]:
    """Draw batches ahead of their use, in processes of their own.

    grain spawns the processes, so that it is safe after JAX has begun; worker ``w`` draws every
    ``workers``-th step, and batches come in the order of the steps. Since a batch depends on its
    step alone, the state of the pipeline is the number of the next step: a new pipeline over the
    steps that are left goes on exactly, with any number of workers.

    Workers pay where drawing and augmenting a batch takes longer than carrying it over from
    another process, 1 to 2 ms per MB.

    Workers see no accelerator and compute nothing with JAX (grain imports it where it is
    installed, for its trees). They leave Ctrl-C to this process, and end when it dies. As ever
    with spawned processes, a program that calls this begins with ``if __name__ == "__main__":``.

    Args:
        loader: Where batches come from; pickled once per worker.
        steps: Numbers of the steps, a ``range``.
        workers: Number of processes, at least 1.
        depth: Batches that each worker draws ahead.

    Returns:
        An iterator over the batches, as ``loader.batch`` returns them; the processes start with
        the first batch and end when it is exhausted or closed.

    Raises:
        InputError: grain is missing, or a worker was killed.

    Example:
        >>> from segjax.data import LoadedCase, Loader, Sampling
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> batches = prefetch_by_workers(loader, range(1000), workers=1)
        >>> images, labels = next(batches)
        >>> images.shape
        (2, 16, 16, 1)
        >>> batches.close()

    Source:
        https://google-grain.readthedocs.io, ``IterDataset.mp_prefetch``.
    """
    if not isinstance(steps, range):
        raise InputError(f"workers draw the steps of a range, not of {steps!r}")
    if workers < 1 or depth < 1:
        raise InputError(f"{workers} workers that draw {depth} batches ahead: give numbers over 0")
    batches = _batches(_pipeline(loader, steps, workers, depth))
    _unfinished.add(batches)
    return batches


_unfinished: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
_process = os.getpid()


@atexit.register
def _close_unfinished() -> None:
    """End the processes of a program that an error ended, while Python can still do that."""
    if os.getpid() != _process:  # a fork, whose parent still draws
        return
    for batches in list(_unfinished):
        with contextlib.suppress(ValueError):  # a thread is drawing from it
            batches.close()


def _batches(pipeline: Any) -> Generator[Any, None, None]:
    iterator = iter(pipeline)
    try:
        with _environment(_NO_DEVICES | _ONE_THREAD):  # for the processes, which start now
            batch = _take(iterator)
        while batch is not None:
            yield batch
            batch = _take(iterator)
    except Exception as error:
        iterator.close()
        traceback.clear_frames(error.__traceback__)  # they hold batches
        raise _readable(error) from error.__cause__
    finally:
        iterator.close()
        del iterator
        _free_shared_memory()


def _pipeline(loader: Any, steps: range, workers: int, depth: int) -> Any:
    try:
        import grain  # type: ignore[import-untyped]
        from absl import flags
    except ImportError as error:
        raise InputError(
            f"workers need the package grain ({how_to_install('train')}); or load with 0 workers"
        ) from error
    if not flags.FLAGS.is_parsed():  # grain reads its flags, which only absl's programs parse
        flags.FLAGS.mark_as_parsed()
    grain.config.update("py_traceback_filtering", "off")  # it would add to the text of errors
    batches = grain.MapDataset.range(steps.start, steps.stop, steps.step).map(_Draw(loader))
    unthreaded = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=depth)
    return batches.to_iter_dataset(unthreaded).mp_prefetch(options, worker_init_fn=_begin_worker)


@dataclass(frozen=True)
class _Draw:
    """Draw a batch in a worker; errors that cannot travel to the parent become text."""

    loader: Any

    def __call__(self, step: int) -> Any:
        try:
            return self.loader.batch(step)
        except Exception as error:
            if _travels(error):
                raise
            raise RuntimeError(f"{type(error).__name__}: {error}") from None


def _travels(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return False
    return True


def _begin_worker(index: int, count: int) -> None:
    """Prepare a worker: no devices, no Ctrl-C, no life after its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(_NO_DEVICES)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _take(iterator: Iterator[Any]) -> Any:
    """Return the next batch in memory of its own, which frees the shared one; None at the end."""
    batch = next(iterator, None)
    return None if batch is None else tuple(np.array(array) for array in batch)


def _free_shared_memory() -> None:
    """Free that of batches which nobody took, before the program can end."""
    from grain.multiprocessing import SharedMemoryArray  # type: ignore[import-untyped]

    gc.collect()
    pool = getattr(SharedMemoryArray, "_del_thread_pool", None)
    if pool is not None:
        with contextlib.suppress(multiprocessing.TimeoutError):
            pool.apply_async(int).get(timeout=10)  # done after all that its one thread has to free


def _readable(error: Exception) -> Exception:
    """Say what to do about a worker that was killed."""
    if "terminated unexpectedly" not in str(error):
        return error
    code = str(error).partition("exit code ")[2].partition(".")[0]
    return InputError(
        f"a process that loads training patches was killed (exit code {code}; -9 is often too "
        "little memory, -7 too little shared memory, 1 a program that does not begin with "
        'if __name__ == "__main__":): load with fewer workers, or with 0'
    )
