"""Show how far a loop is, without noise in short ones and in log files."""

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")

_PATIENCE = 2.0  # seconds before a bar appears
_BETWEEN_LINES = 30.0  # seconds between lines where there is no terminal

_screen = threading.Lock()  # held by the loop that shows its progress


def track(
    iterable: Iterable[T], description: str, *, total: int | None = None, unit: str = "case"
) -> Iterator[T]:
    """Yield the items of an iterable and show on stderr how far it is.

    On a terminal: a bar with items done, time elapsed and time left, from the time on when the
    loop has lasted 2 seconds. Elsewhere: a plain line, at most every 30 seconds. A loop inside
    another one shows nothing.

    Args:
        iterable: What to loop over.
        description: What the loop does, in a word or two.
        total: Number of items; ``len(iterable)`` when None and known.
        unit: What one item is.

    Yields:
        The items.

    Example:
        >>> list(track(["flair", "t1"], "Reading", unit="image"))
        ['flair', 't1']
    """
    if not _screen.acquire(blocking=False):
        yield from iterable
        return
    try:
        yield from _shown(iterable, description, total, unit)
    finally:
        _screen.release()


def _shown(iterable: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    show = _bar if sys.stderr.isatty() else _lines
    with show(description, total, unit) as advance:
        for item in iterable:
            yield item
            advance()


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}s ·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(description, total=total)
    timer = threading.Timer(_PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    atexit.register(progress.stop)  # gives the cursor back when an error ends the program
    try:
        yield lambda: progress.advance(task)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
        atexit.unregister(progress.stop)


@contextmanager
def _lines(description: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    start = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal last, done
        done += 1
        now = time.monotonic()
        if now - last >= _BETWEEN_LINES:
            last = now
            print(_line(description, done, total, unit, now - start), file=sys.stderr, flush=True)

    yield advance


def _line(description: str, done: int, total: int | None, unit: str, elapsed: float) -> str:
    line = f"{description}: {done}{f'/{total}' if total else ''} {unit}s, {_duration(elapsed)}"
    left = f", {_duration(elapsed / done * (total - done))} left" if total else ""
    return line + left


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
