"""A patient's page on one or two sheets of A4, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segjax.evaluate.measure import LabelMeasures
from segjax.report.patient_facts import (
    Content,
    Patient,
    Table,
    definitions,
    label_table,
    lesion_table,
    lesion_told,
    size_table,
    size_told,
    slices_heading,
    slices_told,
    summary,
    zone_table,
)
from segjax.report.patient_slices import (
    KeySlice,
    Mark,
    colour_of,
    detail_shape,
    draw_detail,
    draw_whole,
    size_in_inches,
)
from segjax.report.patient_texts import Language
from segjax.report.sheet import (
    MARGIN,
    ROW,
    TEXT,
    Sheet,
    within,
    wrapped,
    write_sheets,
)
from segjax.report.style import FAINT

__all__ = ["write_pdf"]

_LEAST_ROWS = 3  # of a table of lesions
_TABLE = 1.05  # inches that one takes beside its rows
_MOST_ROWS, _MOST_WARNINGS = 12, 8  # that the first sheet has room for
_MANY = 2  # labels; more are told in one table
_LEAST_SLICE = 1.6  # inches of a row of slices


def write_pdf(content: Content, path: Path) -> None:
    """Write the sheets: figures, first slice and lesions; then the other slices and the origin.

    Args:
        content: What they show.
        path: PDF file.
    """
    title = content.language.say("title", name=content.patient.name)
    write_sheets(_sheets(content), title, path, content.language)


def _sheets(content: Content) -> list[Sheet]:
    first = Sheet()
    _head(first, content)
    _figures(first, content)
    more = content.slices[_first_slices(first, content) :]
    needed = 0.0 if more else _rest_height(content)
    left = _tables(first, content, content.patient.labels, first.room - needed)
    if not more and not left and first.room >= needed:
        _origin(first, content)
        return [first]
    second = Sheet()
    left = _tables(second, content, left, second.room - _rest_height(content) - _slices_least(more))
    if left:
        names = ", ".join(content.language.translate(label.label) for label in left)
        second.paragraph(content.language.say("left_out", labels=names), 7.5, color=FAINT)
        second.y += 0.1
    _other_slices(second, content, more)
    _origin(second, content)
    return [first, second]


def _head(sheet: Sheet, content: Content) -> None:
    patient, language = content.patient, content.language
    title = language.say("title", name=patient.name)
    for line in wrapped(title, TEXT, 16):
        sheet.text(MARGIN, sheet.y, line, 15, weight="bold")
        sheet.y += 0.3
    told = f"{language['not_for_diagnosis']} {language['not_for_diagnosis_more']}"
    sheet.paragraph(told, 7.5, color="#9C3D00")
    if content.warnings:
        sheet.heading(language["warnings"])
        for text in content.warnings[:_MOST_WARNINGS]:
            sheet.paragraph(f"• {text}", 8)
        _say_left(sheet, len(content.warnings) - _MOST_WARNINGS, language)


def _figures(sheet: Sheet, content: Content) -> None:
    """Draw the figures of each label, and beside each other its lesions by size and by zone."""
    patient, language = content.patient, content.language
    if not patient.lesions:
        sheet.heading(language["no_lesion"])
        sheet.paragraph(language["no_lesion_more"])
        return
    if len(patient.labels) > _MANY:
        sheet.heading(language["summary"])
        _cut_table(sheet, label_table(patient, language), language)
    for label in patient.labels if len(patient.labels) <= _MANY else ():
        sheet.heading(language["summary"] + _of_label(patient, label, language))
        for n, (what, value) in enumerate(summary(patient, label, language).items()):
            x = MARGIN + n * TEXT / 4
            sheet.text(x, sheet.y, value, 12.5, weight="bold")
            sheet.text(x, sheet.y + 0.23, what, 7, color=FAINT)
        sheet.y += 0.5
        if len(label.lesions) > 1:
            beside = [size_table(patient, label, language), zone_table(patient, label, language)]
            _beside(sheet, [table for table in beside if table])
    if content.criteria:
        _cut_table(sheet, content.criteria, language)


def _cut_table(sheet: Sheet, table: Table, language: Language) -> None:
    """Draw the first rows of a table, and say how many are left out."""
    sheet.table(Table(table.headings, table.rows[:_MOST_ROWS]))
    _say_left(sheet, len(table.rows) - _MOST_ROWS, language)


def _say_left(sheet: Sheet, count: int, language: Language) -> None:
    if count > 0:
        sheet.paragraph(language.many("lines_left", count), 7.5, color=FAINT)


def _beside(sheet: Sheet, tables: Sequence[Table]) -> None:
    top, gap = sheet.y, 0.25
    width = (TEXT - gap * (len(tables) - 1)) / len(tables)
    bottoms = []
    for n, table in enumerate(tables):
        sheet.y = top
        sheet.table(table, MARGIN + n * (width + gap), width)
        bottoms.append(sheet.y)
    sheet.y = max(bottoms)


def _first_slices(sheet: Sheet, content: Content) -> int:
    """Draw the first slice, and the second beside it where there is room; return how many."""
    slices, gap = content.slices, 0.2
    sheet.heading(slices_heading(content.slices, content.language))
    height = min(3.6, max(2.2, sheet.room - _LEAST_ROWS * ROW - 1.2))
    count = 1 if slices[0].enlarged else min(2, len(slices))
    width = (TEXT - gap * (count - 1)) / count
    for n, key in enumerate(slices[:count]):
        _draw_slice(sheet, content, key, (MARGIN + n * (width + gap), sheet.y), (width, height))
    sheet.y += height + 0.25
    _legend(sheet, content)
    return count


def _legend(sheet: Sheet, content: Content) -> None:
    patient, language = content.patient, content.language
    if not patient.lesions:
        return
    entries: list[tuple[str, Any, str]] = [
        (
            colour_of(label.value),
            "-",
            language.say("outline", label=language.translate(label.label)),
        )
        for label in patient.labels
    ]
    yellow = "#B8A800"
    entries += [
        (yellow, "-", language["longest_line"]),
        (yellow, (0, (3, 1.5)), language["perpendicular_line"]),
    ]
    sheet.legend(entries)


def _draw_slice(
    sheet: Sheet,
    content: Content,
    key: KeySlice,
    place: tuple[float, float],
    room: tuple[float, float],
) -> None:
    """Draw a slice and beside it its lesions, with the name of the slice below."""
    x, y = place
    width, height = room
    language, gap = content.language, 0.08
    shape = key.view.image.shape
    side = 0.62 if key.enlarged else 1.0
    size = within((width * side, height), size_in_inches(shape, key.view.aspect, 9.0))
    draw_whole(sheet.picture(x, y, size), key, language)
    sheet.text(x, y + size[1] + 0.03, key.name(language), 7.5, color=FAINT)
    left, room_left = x + size[0] + gap, width - size[0] - gap
    columns, cell = _cells(len(key.enlarged), (room_left, height), gap)
    for n, mark in enumerate(key.enlarged):
        down, across = divmod(n, columns)
        at = left + across * (cell + gap), y + down * (cell + gap)
        _draw_enlarged(sheet, content, key, mark, at, cell)


def _cells(count: int, room: tuple[float, float], gap: float) -> tuple[int, float]:
    """Return in how many columns squares are largest, and their side."""

    def side(columns: int) -> float:
        rows = max(1, -(-count // columns))
        across = (room[0] - gap * (columns - 1)) / columns
        return min(across, (room[1] - gap * (rows - 1)) / rows)

    columns = max((1, 2), key=side)
    return columns, side(columns)


def _draw_enlarged(
    sheet: Sheet,
    content: Content,
    key: KeySlice,
    mark: Mark,
    place: tuple[float, float],
    most: float,
) -> None:
    size = size_in_inches(detail_shape(key, mark), key.view.aspect, most)
    told = lesion_told(content.patient, mark.lesion, content.language)
    axes = sheet.picture(*place, size)
    draw_detail(axes, key, mark, told, content.language, inches=size[0])


def _tables(
    sheet: Sheet, content: Content, labels: Sequence[LabelMeasures], room: float
) -> list[LabelMeasures]:
    """List the largest lesions of labels in some inches; return the labels without room."""
    waiting = [label for label in labels if label.lesions]
    while waiting:
        rows = int((room / len(waiting) - _TABLE) / ROW)
        rows = max(rows, min(_LEAST_ROWS, len(waiting[0].lesions)))
        if room < _TABLE + min(rows, len(waiting[0].lesions)) * ROW:
            break
        begin = sheet.y
        _lesions(sheet, content, waiting.pop(0), rows)
        room -= sheet.y - begin
    return waiting


def _lesions(sheet: Sheet, content: Content, label: LabelMeasures, most: int) -> None:
    patient, language = content.patient, content.language
    sheet.heading(language["table"] + _of_label(patient, label, language))
    whole = lesion_table(patient, label, content.slices, language)
    sheet.table(Table(whole.headings, whole.rows[:most]))
    if left := label.lesions[most:]:
        size = size_told(sum(lesion.size for lesion in left), patient.image, language)
        sheet.paragraph(language.many("rest_of", len(left), size=size), 7.5, color=FAINT)


def _of_label(patient: Patient, label: LabelMeasures, language: Language) -> str:
    """Return what names a label in a heading; nothing where it is the only one."""
    if len(patient.labels) == 1:
        return ""
    return f"{language['colon']}{language.translate(label.label)}"


def _slices_least(slices: Sequence[KeySlice]) -> float:
    return -(-len(slices) // 2) * _LEAST_SLICE


def _other_slices(sheet: Sheet, content: Content, slices: Sequence[KeySlice]) -> None:
    gap, below = 0.25, 0.35
    if slices and (told := slices_told(content.patient, content.slices, content.language)):
        sheet.paragraph(told, 7.5, color=FAINT)
        sheet.y += 0.1
    width = (TEXT - gap) / 2
    rows = -(-len(slices) // 2)
    height = min(3.0, (sheet.room - _rest_height(content)) / max(rows, 1) - below)
    for n, key in enumerate(slices):
        down, across = divmod(n, 2)
        place = MARGIN + across * (width + gap), sheet.y + down * (height + below)
        _draw_slice(sheet, content, key, place, (width, height))
    sheet.y += rows * (height + below)


def _rest_height(content: Content) -> float:
    """Return the inches that the definitions and the origin take."""
    texts = definitions(content.patient, content.language)
    lines = sum(len(wrapped(text, TEXT, 7.5)) for text in texts)
    return 0.9 + lines * 7.5 * 0.0185 + len(content.origin.rows) * ROW


def _origin(sheet: Sheet, content: Content) -> None:
    language = content.language
    sheet.heading(language["definitions"])
    for text in definitions(content.patient, language):
        sheet.paragraph(text, 7.5)
    sheet.heading(language["made"])
    sheet.table(content.origin)
