"""What a failed command says: one line on standard error, and its exit code."""

import contextlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from segjax.cli.parsing import COMMANDS, UsageError
from segjax.errors import InputError
from segjax.extras import extra_of, how_to_install

_GO_ON = {
    "demo": "remove its folder to start again",
    "train": "the same command again goes on from the last checkpoint",
    "preprocess": "the same command again goes on where it stopped",
    "sweep": "the same command again goes on where it stopped",
    "predict": "the same command with --skip-existing makes the masks that lack",
    "watch": "the same command again goes on where it stopped",
    "followup": "the same command again goes on where it stopped",
}
_EXIT_USAGE, _EXIT_INTERRUPTED, _EXIT_PIPE = 2, 130, 141


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print warnings as ``segjax: warning: ...``, without the place in the code."""

    def show(message: Warning | str, *place: object, **more: object) -> None:
        print(f"segjax: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def report(error: BaseException, arguments: Sequence[str], *, debug: bool) -> int:
    """Say on standard error what went wrong, in one line, and return the exit code.

    Args:
        error: What the command raised.
        arguments: The command line, which decides which extra a missing package belongs to.
        debug: Print the traceback instead of one line.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return _EXIT_PIPE
    if debug:
        traceback.print_exception(error)
    else:
        print(f"segjax: {_line(error, arguments)}", file=sys.stderr)
    return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    return _EXIT_USAGE if isinstance(error, UsageError) else 1


def _line(error: BaseException, arguments: Sequence[str]) -> str:
    if isinstance(error, KeyboardInterrupt):
        command = next((word for word in arguments if not word.startswith("-")), "")
        return "; ".join(["interrupted", *([_GO_ON[command]] if command in _GO_ON else [])])
    return "error: " + " ".join(_message(error, arguments).split())


def _message(error: BaseException, arguments: Sequence[str]) -> str:
    command = next((word for word in arguments if not word.startswith("-")), "")
    if isinstance(error, UsageError):
        known = [command] if command in COMMANDS else []
        return f"{error}; see {' '.join(['segjax', *known])} --help"
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error)):
        return f"segjax {command} needs {error.name}: {how_to_install(extra)}"
    if isinstance(error, MemoryError):
        return f"out of memory; try a smaller --batch-size or --patch-size ({error})"
    if isinstance(error, InputError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error} (unexpected: --debug shows where it comes from)"


def _silence_stdout() -> None:
    """Let the interpreter's last flush write nowhere: the reader of the pipe has left."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
