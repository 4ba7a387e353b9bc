"""Show how far a loop is, without noise in short ones and in log files."""

import atexit
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from segjax.text import many

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["track"]

T = TypeVar("T")
Show = Callable[[str, int | None, str], AbstractContextManager[Callable[[], None]]]

_PATIENCE = 2.0  # seconds before a bar appears
_BETWEEN_LINES = 30.0  # seconds between lines where there is no terminal

_screen = threading.Lock()  # held by the loop that shows its progress
_bars: dict[int, "Progress"] = {}  # what that loop shows on a terminal, by its thread


def track(
    iterable: Iterable[T], description: str, *, total: int | None = None, unit: str = "case"
) -> Generator[T, None, None]:
    """Yield the items of an iterable and show on stderr how far it is.

    On a terminal: a bar with items done, time elapsed and time left, from the time on when the
    loop has lasted 2 seconds, and a bar of its own for a loop inside it that lasts as long.
    Elsewhere: a plain line, at most every 30 seconds, and none for a loop inside another one.

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
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    outermost = _screen.acquire(blocking=False)
    try:
        yield from _shown(iterable, _way(outermost)(description, total, unit))
    finally:
        if outermost:
            _screen.release()


def _way(outermost: bool) -> Show:
    if not outermost:
        return _bar_below if threading.get_ident() in _bars else _nothing
    return _bar if sys.stderr.isatty() else _lines


def _shown(iterable: Iterable[T], shown: AbstractContextManager[Callable[[], None]]) -> Iterator[T]:
    with shown as advance:
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
        TextColumn("{task.fields[unit]} ·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(description, total=total, unit=many(unit))
    timer = threading.Timer(_PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    atexit.register(progress.stop)  # gives the cursor back when an error ends the program
    _bars[threading.get_ident()] = progress
    try:
        yield lambda: progress.advance(task)
    finally:
        _bars.clear()
        timer.cancel()
        timer.join()
        progress.stop()
        atexit.unregister(progress.stop)


@contextmanager
def _bar_below(description: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    progress = _bars[threading.get_ident()]
    task = progress.add_task(description, total=total, unit=many(unit), visible=False)
    timer = threading.Timer(_PATIENCE, lambda: progress.update(task, visible=True))
    timer.daemon = True
    timer.start()
    try:
        yield lambda: progress.advance(task)
    finally:
        timer.cancel()
        timer.join()
        progress.remove_task(task)


@contextmanager
def _nothing(description: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    yield lambda: None


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
    line = f"{description}: {done}{f'/{total}' if total else ''} {many(unit)}, {_duration(elapsed)}"
    left = f", {_duration(elapsed / done * (total - done))} left" if total else ""
    return line + left


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
