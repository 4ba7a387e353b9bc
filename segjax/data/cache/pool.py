"""Run jobs in processes of their own."""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from segjax.data.cache.make import Job, Outcome
from segjax.errors import InputError
from segjax.machine import cores

_MOST = 8  # processes, unless more are asked for: each holds a volume and its copies
_THREADS = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def default_workers() -> int:
    """Return how many processes are used where nothing else is asked for."""
    return min(cores(), _MOST)


def run(
    do: Callable[[Job], Outcome], jobs: Sequence[Job], workers: int
) -> Generator[Outcome, None, None]:
    """Do jobs in parallel; a single worker is this process.

    Args:
        do: Function of a module, which never raises for a bad case.
        jobs: What to do.
        workers: Number of processes; they share the cores among the threads of their libraries.

    Yields:
        The outcome of each job, as soon as it is known.

    Raises:
        InputError: A worker was killed.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(do, jobs)
        return
    with _threads(max(1, cores() // workers)):
        executor = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)
        try:
            futures = [executor.submit(do, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                f"one of the {workers} worker processes was killed, perhaps because memory was "
                "short: use fewer workers; what is finished is kept"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the environment that processes started meanwhile take their numbers of threads from."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: str(count) for name in _THREADS})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """Prepare a worker: it ends with its parent, and at Ctrl-C without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
