"""What Ctrl-C does: it is answered at once, and a loop ends where nothing is lost."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

__all__ = ["Stop", "answer_at_once", "noted", "stoppable"]

_AGAIN = "Ctrl-C again ends at once"
_EXIT_CODE = 130  # of a program that Ctrl-C ended
_PATIENCE = 0.5  # seconds for which an end without a note is waited for
_SHOW_CURSOR = "\x1b[?25h"  # which bars hide

_notes: list[str] = []  # what the innermost block says when it is interrupted comes last
_telling = threading.Lock()


class Stop:
    """The wish that a loop stop, as soon as it has saved what it did.

    Attributes:
        asked: Whether Ctrl-C was pressed.
    """

    asked = False

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` where it was."""
        if self.asked:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stoppable(note: str) -> Iterator[Stop]:
    """Let the first Ctrl-C be a wish, and the second raise ``KeyboardInterrupt`` as always.

    Outside the main thread, where signals do not arrive, and where they are ignored, Ctrl-C does
    what it did.

    Args:
        note: What happens at the first one, for standard error.

    Yields:
        What the loop has to look at.

    Raises:
        KeyboardInterrupt: At the end, where the loop did not look.

    Example:
        >>> with stoppable("stopping: saving first") as stop:
        ...     stop.asked
        False
    """
    stop, before = Stop(), signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):
        yield stop
        return

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop.asked = True
        _tell()

    with noted(note):
        signal.signal(signal.SIGINT, ask)
        try:
            yield stop
        finally:
            signal.signal(signal.SIGINT, before)
    stop.check()


@contextlib.contextmanager
def noted(note: str) -> Iterator[None]:
    """Have :func:`answer_at_once` say what Ctrl-C does to a block, which it ends as always.

    Args:
        note: A few words.
    """
    _notes.append(note)
    depth = len(_notes)
    try:
        yield
    finally:
        del _notes[depth - 1 :]


@contextlib.contextmanager
def answer_at_once() -> Iterator[None]:
    """Answer the first Ctrl-C at once, and end the process at the second.

    Python's own handlers wait until compiled code returns, such as a compiler or a filter; a
    thread that the system wakes does not. For a program of its own, not for a library.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()


def _watch(reader: socket.socket) -> None:
    """Read the number of every signal that arrives, until the other end is closed."""
    if not _await_interrupt(reader):
        return
    if _notes:
        _tell()
    else:
        reader.settimeout(_PATIENCE)
    try:
        again = _await_interrupt(reader)
    except TimeoutError:
        _say(f"stopping; {_AGAIN}")
        reader.settimeout(None)
        again = _await_interrupt(reader)
    if again:
        _end()


def _await_interrupt(reader: socket.socket) -> bool:
    """Wait for Ctrl-C; return False where there will be none."""
    while numbers := reader.recv(1):
        if numbers[0] == signal.SIGINT:
            return True
    return False


def _tell() -> None:
    """Say the innermost note, once."""
    with _telling, contextlib.suppress(IndexError):
        if note := _notes[-1]:
            _notes[-1] = ""
            _say(f"{note}; {_AGAIN}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end() -> None:
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write(_SHOW_CURSOR)
    _say("ended at once: what was saved before is whole")
    os._exit(_EXIT_CODE)
