"""Show how far a loop is, without noise in short ones and in log files."""

import atexit
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from segjax.text import clock, many

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["BETWEEN_LINES", "Lines", "has_bar", "make_bar", "say", "track"]

T = TypeVar("T")
Show = Callable[[str, int | None, str], AbstractContextManager[Callable[[], None]]]

_PATIENCE = 2.0  # seconds before a bar appears
BETWEEN_LINES = 30.0  # seconds between lines where there is no terminal

_screen = threading.Lock()  # held by the loop that shows its progress
_bars: dict[int, "Progress"] = {}  # what that loop shows on a terminal, by its thread


def track(
    iterable: Iterable[T], description: str, *, total: int | None = None, unit: str = "case"
) -> Generator[T, None, None]:
    """Yield the items of an iterable and show on stderr how far it is.

    On a terminal: a bar with items done, time elapsed and time left, from the time on when the
    loop has lasted 2 seconds, and a bar of its own for a loop inside it that lasts as long.
    Elsewhere, or without the package rich: a plain line, at most every 30 seconds, and none for a
    loop inside another one.

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
    return _bar if has_bar() else _lines


def _shown(iterable: Iterable[T], shown: AbstractContextManager[Callable[[], None]]) -> Iterator[T]:
    with shown as advance:
        for item in iterable:
            yield item
            advance()


def say(text: str) -> None:
    """Print a line on stderr at once."""
    print(text, file=sys.stderr, flush=True)


def has_bar() -> bool:
    """Say whether stderr shows bars: it is a terminal, and the package rich is there.

    Example:
        >>> has_bar()  # without a terminal
        False
    """
    return sys.stderr.isatty() and find_spec("rich") is not None


def make_bar(told: str, *, counted: bool = True, left: str = "") -> "Progress":
    """Return a bar on stderr: description, bar, items done, what is told, time elapsed and left.

    Args:
        told: Text with fields of the task, such as ``"loss {task.fields[loss]}"``.
        counted: Whether to show the number of items done and of all.
        left: Text that tells the time left; by default it is estimated from the items done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *([MofNCompleteColumn()] if counted else []),
        TextColumn(f"{told} ·"),
        TimeElapsedColumn(),
        *([TextColumn(f"· {left}")] if left else [TextColumn("· left"), TimeRemainingColumn()]),
        console=Console(stderr=True),
        refresh_per_second=4,
        speed_estimate_period=600,  # over several items, and epochs with their validations
    )


class Lines:
    """Plain lines on stderr that tell how far a loop is, where there is no terminal.

    Args:
        total: Items of the loop; None where that is not known, and no time left is told then.
        done: Items that were done before.
        between: Seconds between two lines at least.
        elapsed: Whether to tell the time so far.
    """

    def __init__(
        self,
        total: float | None = None,
        *,
        done: float = 0.0,
        between: float = 0.0,
        elapsed: bool = False,
    ):
        self._total, self._first, self._between = total, done, between
        self._elapsed, self._start = elapsed, time.monotonic()
        self._last = self._start

    def tell(self, text: str, done: float = 0.0, *, always: bool = False) -> None:
        """Print a line, unless the last one was too short ago.

        Args:
            text: What is told before the times.
            done: Items done, those of before among them.
            always: Whether to print it all the same.
        """
        now = time.monotonic()
        if not always and now - self._last < self._between:
            return
        self._last, elapsed, made = now, now - self._start, done - self._first
        parts = [text, clock(elapsed)] if self._elapsed else [text]
        if self._total and made > 0:  # not where all but a validation was made before
            parts.append(f"{clock(elapsed / made * (self._total - done))} left")
        say(", ".join(parts))


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    progress = make_bar("{task.fields[unit]}")
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
    lines, done = Lines(total, between=BETWEEN_LINES, elapsed=True), 0
    of, units = f"/{total}" if total else "", many(unit)

    def advance() -> None:
        nonlocal done
        done += 1
        lines.tell(f"{description}: {done}{of} {units}", done)

    yield advance
