"""A follow-up's page on sheets of A4, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from segjax.evaluate.followed import is_compared
from segjax.evaluate.followup import Comparison
from segjax.report.followup_facts import (
    Content,
    change_facts,
    change_heading,
    changed,
    comparison_name,
    followup_definitions,
    followup_made,
    followup_title,
    growth_table,
    kinds_of,
    lesion_rows,
    outlines_told,
    tiles_of,
    verdict,
    visit_table,
)
from segjax.report.followup_plots import draw_loads
from segjax.report.followup_slices import (
    AFTER,
    COLOURS,
    PANELS,
    SIGNS,
    ChangeCut,
    Scene,
    change_cuts,
    chequers,
    draw_change,
    draw_chequer,
    draw_tile,
    frame_shape,
    mosaic,
    slice_name,
)
from segjax.report.followup_trust import (
    activity_table,
    check_table,
    checked,
    criteria_notes,
    findable,
    followup_warnings,
    registration_table,
)
from segjax.report.patient_facts import Table
from segjax.report.patient_slices import size_in_inches
from segjax.report.sheet import (
    HEIGHT,
    MARGIN,
    ROW,
    TEXT,
    WIDTH,
    Sheet,
    within,
    wrapped,
    write_sheets,
)
from segjax.report.style import FAINT

__all__ = ["write_followup_pdf"]

_PICTURED = 12  # changes of a document that are shown in pictures
_ROWS = 60  # lesions that are listed of two visits
_MOST_WARNINGS = 8
_PANEL = 1.62  # inches of a picture's side
_GAP = 0.08
_TILES = 6
_PLOT = 1.9  # inches of the plot's height
_SMALL = 7.5
_ON_PAPER = {AFTER: "#B8A800"}  # yellow is too bright there


def write_followup_pdf(content: Content, path: Path) -> None:
    """Write the sheets: what changed, each change, all lesions, how sure.

    Args:
        content: What they show.
        path: PDF file.
    """
    paper = _Paper()
    _head(paper, content)
    _loads(paper, content)
    for comparison, scene in zip(content.followup.comparisons, content.scenes, strict=True):
        _comparison(paper, content, comparison, scene)
    _check(paper, content)
    _registration(paper, content)
    _end(paper, content)
    title = followup_title(content.followup, content.language)
    write_sheets(paper.sheets, title, path, content.language)


class _Paper:
    """Sheets that are filled one after the other."""

    def __init__(self) -> None:
        self.sheets = [Sheet()]

    def room_for(self, inches: float) -> Sheet:
        """Return the last sheet, a new one where some inches are not free."""
        if self.sheets[-1].room < inches:
            self.sheets.append(Sheet())
        return self.sheets[-1]

    def heading(self, text: str, after: float = 0.6) -> None:
        """Write a heading with room for what comes after it."""
        self.room_for(after + 0.35).heading(text)

    def paragraph(self, text: str, size: float = 8.0, **more: str) -> None:
        """Write lines over the whole width."""
        lines = len(wrapped(text, TEXT, size))
        self.room_for(lines * size * 0.0185).paragraph(text, size, **more)

    def table(self, table: Table) -> None:
        """Draw a table, on as many sheets as its rows need."""
        rows, head = table.rows, 0.6
        while rows:
            sheet = self.room_for(head + 2 * ROW)
            count = max(1, int((sheet.room - head) / ROW))
            sheet.table(Table(table.headings, rows[:count]))
            rows = rows[count:]


def _head(paper: _Paper, content: Content) -> None:
    followup, language = content.followup, content.language
    sheet = paper.sheets[0]
    for line in wrapped(followup_title(followup, language), TEXT, 16):
        sheet.text(MARGIN, sheet.y, line, 15, weight="bold")
        sheet.y += 0.3
    told = f"{language['not_for_diagnosis']} {language['not_for_diagnosis_more']}"
    sheet.paragraph(told, _SMALL, color="#9C3D00")
    paper.heading(language["verdict"])
    for comparison in followup.comparisons:
        if len(followup.comparisons) > 1:
            paper.paragraph(comparison_name(content, comparison), _SMALL, color=FAINT)
        for text in verdict(content, comparison):
            paper.paragraph(text, 11, weight="bold")
    warnings = followup_warnings(content)
    if warnings:
        paper.heading(language["warnings"])
        for text in warnings[:_MOST_WARNINGS]:
            paper.paragraph(f"• {text}")
        if (left := len(warnings) - _MOST_WARNINGS) > 0:
            paper.paragraph(language.many("lines_left", left), _SMALL, color=FAINT)


def _loads(paper: _Paper, content: Content) -> None:
    measured = any(visit.loads for visit in content.followup.visits)
    paper.heading(content.language["loads" if measured else "visits"])
    if measured:
        sheet = paper.room_for(_PLOT + 0.5)
        wide = 0.8 * TEXT
        box = (
            (MARGIN + 0.5) / WIDTH, 1 - (sheet.y + _PLOT) / HEIGHT,
            (wide - 0.5) / WIDTH, (_PLOT - 0.1) / HEIGHT,
        )  # fmt: skip
        draw_loads(sheet.figure.add_axes(box), content)
        sheet.y += _PLOT + 0.4
    paper.table(visit_table(content))


def _comparison(paper: _Paper, content: Content, comparison: Comparison, scene: Scene) -> None:
    language = content.language
    if len(content.scenes) > 1:
        paper.heading(comparison_name(content, comparison), 1.2)
    _tiles(paper, tiles_of(content, comparison))
    _notes(
        paper, language["criteria"], activity_table(content, comparison), criteria_notes(language)
    )
    _notes(paper, language["growth"], growth_table(content, comparison), [language["growth_told"]])
    _overview(paper, content, scene, comparison)
    _changes(paper, content, scene, comparison)
    whole = lesion_rows(content, comparison, narrow=True)
    if whole.rows:
        paper.heading(language["all_lesions"], 1.2)
        paper.table(Table(whole.headings, whole.rows[:_ROWS]))
    if (left := len(whole.rows) - _ROWS) > 0:
        paper.paragraph(language.many("rest_of", left), _SMALL, color=FAINT)


def _tiles(paper: _Paper, facts: dict[str, str]) -> None:
    """Write values in large letters, each over its name, four in a line."""
    entries = list(facts.items())
    for start in range(0, len(entries), 4):
        sheet = paper.room_for(0.6)
        for n, (name, value) in enumerate(entries[start : start + 4]):
            x = MARGIN + n * TEXT / 4
            sheet.text(x, sheet.y, value, 12, weight="bold")
            for line, part in enumerate(wrapped(name, TEXT / 4 - 0.1, 7)):
                sheet.text(x, sheet.y + 0.23 + 0.12 * line, part, 7, color=FAINT)
        sheet.y += 0.55


def _notes(paper: _Paper, heading: str, table: Table | None, notes: Sequence[str]) -> None:
    if table is None:
        return
    paper.heading(heading, 1.0)
    paper.table(table)
    for note in notes:
        paper.paragraph(note, 7, color=FAINT)


def _overview(paper: _Paper, content: Content, scene: Scene, comparison: Comparison) -> None:
    language = content.language
    tiles = mosaic(scene, _TILES)
    visit = content.followup.visits[comparison.second].name
    name = "overview_told" if changed(comparison) else "overview_nothing"
    side = (TEXT - 2 * _GAP) / 3
    sizes = [
        within((side, 2.3), size_in_inches(*frame_shape(scene, tile.place, tile.box), side))
        for tile in tiles
    ]
    high = max(height for _, height in sizes)
    paper.heading(language["overview"], high + 0.5)
    paper.paragraph(language.say(name, visit=visit), _SMALL, color=FAINT)
    _legend(paper, [(COLOURS[k], "-", f"{SIGNS[k]} {language[k]}") for k in kinds_of(comparison)])
    for start in range(0, len(tiles), 3):
        sheet = paper.room_for(high + 0.25)
        for n, tile in enumerate(tiles[start : start + 3]):
            x = MARGIN + n * (side + _GAP)
            draw_tile(sheet.picture(x, sheet.y, sizes[start + n]), scene, tile, language)
            below = sheet.y + sizes[start + n][1] + 0.02
            sheet.text(x, below, slice_name(scene, tile.place, language), 7, color=FAINT)
        sheet.y += high + 0.22


def _changes(paper: _Paper, content: Content, scene: Scene, comparison: Comparison) -> None:
    """Draw the largest changes, each in a line with what is told of it."""
    language, found = content.language, changed(comparison)
    if not found and is_compared(content.followup, comparison):
        paper.heading(language["nothing_changed"])
        for text in (language["nothing_changed_more"], *findable(content)):
            paper.paragraph(text)
    if not found:
        return
    most = max(1, _PICTURED // len(content.scenes))
    paper.heading(language["changes"], _PANEL + 0.8)
    notes = [language["changes_told"]]
    if scene.difference is not None:
        notes.append(language.say("grey_scale", reach=language.number(scene.reach)))
    if len(found) > most:
        notes.append(language.many("changes_left", len(found) - most))
    paper.paragraph(" ".join(notes), _SMALL, color=FAINT)
    lines = [
        (_ON_PAPER.get(colour, colour), line, text)
        for colour, line, text in outlines_told(content, comparison, found[:most])
    ]
    if scene.difference is None:
        lines += [(COLOURS[k], "-", language[n]) for k, n in (("new", "gained"), ("gone", "lost"))]
    _legend(paper, lines)
    for what in change_cuts(scene, found[:most]):
        _change(paper, content, scene, what)


def _legend(paper: _Paper, entries: Sequence[tuple[str, str, str]]) -> None:
    if entries:
        sheet = paper.room_for(0.4)
        sheet.y += 0.05
        sheet.legend(entries)
        sheet.y += 0.03


def _change(paper: _Paper, content: Content, scene: Scene, what: ChangeCut) -> None:
    language = content.language
    sheet = paper.room_for(_PANEL + 0.3)
    sheet.y += 0.05
    shape = frame_shape(scene, what.place, what.box)
    size = within((_PANEL, _PANEL), size_in_inches(*shape, _PANEL))
    for n, panel in enumerate(PANELS):
        x = MARGIN + n * (_PANEL + _GAP)
        draw_change(sheet.picture(x, sheet.y, size), scene, what, panel, language)
        name = language[scene.third if panel == "difference" else panel]
        sheet.text(x, sheet.y + size[1] + 0.02, name, 7, color=FAINT)
    x, y = MARGIN + 3 * (_PANEL + _GAP) + 0.05, sheet.y
    sheet.text(x, y, change_heading(what.change, content), 9.5, weight="bold")
    y += 0.2
    facts = [*change_facts(what.change, content), ("", slice_name(scene, what.place, language))]
    for name, value in facts:
        told = f"{name}{language['colon']}{value}" if name else value
        for line in wrapped(told, WIDTH - MARGIN - x, 7):
            sheet.text(x, y, line, 7)
            y += 0.125
    sheet.y = max(sheet.y + size[1] + 0.2, y + 0.05)


def _check(paper: _Paper, content: Content) -> None:
    texts, table = checked(content), check_table(content)
    if not texts:
        return
    paper.heading(content.language["check"], 1.0)
    for text in texts:
        paper.paragraph(text)
    if table is not None:
        paper.table(table)


def _registration(paper: _Paper, content: Content) -> None:
    followup, language = content.followup, content.language
    side = (TEXT - 2 * _GAP) / 3
    paper.heading(language["registration"], 1.2)
    for comparison, scene in zip(followup.comparisons, content.scenes, strict=True):
        if len(content.scenes) > 1:
            paper.paragraph(comparison_name(content, comparison), _SMALL, color=FAINT)
        paper.table(registration_table(content, comparison))
        if scene.images is None:
            continue
        sheet = paper.room_for(2.2)
        highest = 0.0
        for n, (place, box) in enumerate(chequers(scene)):
            whole = size_in_inches(*frame_shape(scene, place, box), side)
            size = within((side, 2.0), whole)
            highest = max(highest, size[1])
            axes = sheet.picture(MARGIN + n * (side + _GAP), sheet.y, size)
            draw_chequer(axes, scene, place, box, language)
        sheet.y += highest + 0.15


def _end(paper: _Paper, content: Content) -> None:
    language = content.language
    paper.heading(language["definitions"], 1.0)
    for text in followup_definitions(language):
        paper.paragraph(text, _SMALL)
    paper.heading(language["made"], 1.0)
    paper.table(followup_made(content))
