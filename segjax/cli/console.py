"""Tables and lines on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

_WIDE = 200  # columns where the output goes into a file or a pipe: nothing to wrap for


def console() -> Console:
    """Return a console on standard output, which keeps lines whole where nobody watches."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=_WIDE)


def print_facts(facts: Mapping[str, str], *, title: str | None = None) -> None:
    """Print names and values as two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    if title:
        console().print(f"[bold]{title}[/bold]")
    console().print(table)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, footer: Sequence[str] | None = None
) -> None:
    """Print a table whose first column is text and whose others are numbers, flushed right."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=footer is not None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(
            name,
            footer=footer[index] if footer else "",
            justify="left" if index == 0 else "right",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_paths(paths: Mapping[str, Path]) -> None:
    """Print what was written and where, one line each, ready to be copied."""
    width = max(map(len, paths), default=0)
    for name, path in paths.items():
        console().print(f"[bold]{name:<{width}}[/bold]  {path}", soft_wrap=True)
