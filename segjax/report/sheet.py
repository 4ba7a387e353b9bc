"""A sheet of A4 that is filled from its top: headings, paragraphs, tables and pictures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.extras import needed_for
from segjax.report.patient_facts import Table
from segjax.report.patient_texts import Language
from segjax.report.style import FAINT, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "HEIGHT",
    "LETTER",
    "MARGIN",
    "ROW",
    "TEXT",
    "WIDTH",
    "Sheet",
    "within",
    "wrapped",
    "write_sheets",
]

WIDTH, HEIGHT = 8.27, 11.69
"""Of a sheet, in inches."""
MARGIN = 0.6
"""At its left, right and top, in inches."""
TEXT = WIDTH - 2 * MARGIN
"""Width of what stands on it, in inches."""
ROW = 0.175
"""Height of a row of a table, in inches."""
LETTER = 0.0078
"""Inches of a letter's width for each point of its size."""
_BOTTOM = HEIGHT - 0.75
_DPI = 200


def write_sheets(sheets: Sequence["Sheet"], title: str, path: Path, language: Language) -> None:
    """Write sheets, numbered at their feet.

    Args:
        sheets: In their order.
        title: Of the file.
        path: PDF file.
        language: Of what stands at their feet.
    """
    with needed_for("drawing figures"):
        from matplotlib.backends.backend_pdf import PdfPages
    about = {"Title": title, "Creator": "segjax", "Producer": None}
    with PdfPages(path, metadata=about) as pdf:
        for number, sheet in enumerate(sheets, 1):
            sheet.footer(language, number, len(sheets))
            pdf.savefig(sheet.figure, dpi=_DPI)


class Sheet:
    """A sheet that is filled from its top."""

    def __init__(self) -> None:
        self.figure: Figure = new_figure((WIDTH, HEIGHT))
        self.figure.set_layout_engine("none")
        self.y = MARGIN

    @property
    def room(self) -> float:
        """Inches that are free."""
        return _BOTTOM - self.y

    def text(self, x: float, y: float, text: str, size: float, **more: Any) -> None:
        """Write a line; x and y in inches from the upper left."""
        more = {"color": INK, "va": "top", "parse_math": False, **more}
        self.figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, **more)

    def paragraph(self, text: str, size: float = 8.0, **more: Any) -> None:
        """Write lines over the whole width."""
        for line in wrapped(text, TEXT, size):
            self.text(MARGIN, self.y, line, size, **more)
            self.y += size * 0.0185

    def heading(self, text: str) -> None:
        """Write a heading."""
        self.y += 0.1
        self.text(MARGIN, self.y, text, 10.5, weight="bold")
        self.y += 0.25

    def rule(self, x: float, y: float, width: float, colour: str = "#C8CDD3") -> None:
        """Draw a horizontal line."""
        from matplotlib.lines import Line2D

        ends = [x / WIDTH, (x + width) / WIDTH]
        level = [1 - y / HEIGHT] * 2
        self.figure.add_artist(Line2D(ends, level, color=colour, lw=0.6))

    def table(self, table: Table, x: float = MARGIN, width: float = TEXT) -> None:
        """Draw a table; every cell on one line, headings on as many as they need."""
        widths, size = _column_widths(table, width)
        lefts = [x + sum(widths[:column]) for column in range(len(widths))]
        if any(table.headings):
            heads = [
                wrapped(name, own - 0.06, size)
                for name, own in zip(table.headings, widths, strict=True)
            ]
            for left, lines in zip(lefts, heads, strict=True):
                for n, line in enumerate(lines):
                    self.text(left, self.y + n * 0.13, line, size, color=FAINT)
            self.y += 0.13 * max(map(len, heads)) + 0.05
            self.rule(x, self.y - 0.02, width)
        for row in table.rows:
            for left, cell in zip(lefts, row, strict=True):
                self.text(left, self.y + 0.025, cell, size)
            self.y += ROW
            self.rule(x, self.y, width, "#E4E7EB")
        self.y += 0.08

    def picture(self, x: float, y: float, size: tuple[float, float]) -> Any:
        """Return axes of a picture; place and size in inches."""
        box = (x / WIDTH, 1 - (y + size[1]) / HEIGHT, size[0] / WIDTH, size[1] / HEIGHT)
        self.figure.add_artist(_black(box))
        return self.figure.add_axes(box)

    def legend(self, entries: Sequence[tuple[str, Any, str]]) -> None:
        """Explain lines by their colours and styles, as matplotlib takes them."""
        from matplotlib.lines import Line2D

        x = MARGIN
        for colour, style, text in entries:
            width = 0.5 + 7 * LETTER * len(text)
            if x > MARGIN and x + width > WIDTH - MARGIN:
                x, self.y = MARGIN, self.y + 0.16
            level = [1 - (self.y + 0.06) / HEIGHT] * 2
            ends = [x / WIDTH, (x + 0.25) / WIDTH]
            self.figure.add_artist(Line2D(ends, level, color=colour, lw=1.6, ls=style))
            self.text(x + 0.3, self.y, text, 7, color=FAINT)
            x += width
        self.y += 0.15

    def footer(self, language: Language, number: int, count: int) -> None:
        """Write what stands below every sheet."""
        self.rule(MARGIN, HEIGHT - 0.62, TEXT)
        told = f"{language['not_for_diagnosis']} segjax"
        self.text(MARGIN, HEIGHT - 0.55, told, 7.5, color=FAINT)
        page = language.say("page_of", number=number, count=count)
        self.text(WIDTH - MARGIN, HEIGHT - 0.55, page, 7.5, color=FAINT, ha="right")


def _black(box: tuple[float, float, float, float]) -> Any:
    from matplotlib.patches import Rectangle

    left, bottom, width, height = box
    return Rectangle((left, bottom), width, height, color="black", lw=0, zorder=-1)


def within(room: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    """Scale a picture so that it fills some room.

    Example:
        >>> within((4.0, 4.0), (1.0, 2.0))
        (2.0, 4.0)
    """
    scale = min(room[0] / size[0], room[1] / size[1])
    return size[0] * scale, size[1] * scale


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines of some inches, in letters of some points.

    Example:
        >>> wrapped("two words", 0.4, 8)
        ['two', 'words']
    """
    return textwrap.wrap(text, max(4, int(width / (size * LETTER)))) or [""]


def _column_widths(table: Table, width: float) -> tuple[list[float], float]:
    """Return the widths of columns, and the size of letters with which all cells fit."""
    letters = [
        max(
            [len(row[column]) for row in table.rows]
            + [len(word) for word in table.headings[column].split()]
            + [3]
        )
        + 2
        for column in range(len(table.headings))
    ]
    size = min(8.0, max(4.5, width / (sum(letters) * LETTER)))
    needed = [n * size * LETTER for n in letters]
    if not any(table.headings):
        return [needed[0], width - needed[0]], size
    spare = (width - sum(needed)) / len(needed)
    return [own + max(0.0, spare) for own in needed], size
