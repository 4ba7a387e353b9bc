"""The ``segjax`` command: one module per subcommand, which parses, calls the library and prints.

Example:
    >>> from segjax.cli import main
    >>> main(["--version"])
    segjax 0.1.0
    0
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``segjax`` command and return its exit code.

    Args:
        argv: Arguments after the program's name; those of the process when ``None``.

    Returns:
        0 after success, 1 after an error, 2 after wrong usage, 130 after Ctrl-C, which ends the
        process at once when it is pressed twice. An error prints one line on standard error, or
        its traceback where ``--debug`` is on the line.
    """
    from segjax.cli import failures, parsing
    from segjax.interrupt import answer_at_once

    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        with answer_at_once(), failures.warnings_in_one_line():
            parsing.parse([argument for argument in arguments if argument != "--debug"])()
        sys.stdout.flush()
    except BaseException as error:
        return failures.report(error, arguments, debug=debug)
    return 0
