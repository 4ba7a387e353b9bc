"""The page of one patient without ground truth: measurements, slices, every lesion, doubts."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segjax.data.io.formats import check_same_grid
from segjax.errors import InputError
from segjax.evaluate.measure import LabelMeasures
from segjax.files import atomic_path, check_new, check_target
from segjax.progress import track
from segjax.report import clinical, page
from segjax.report.patient_facts import (
    Content,
    Patient,
    Table,
    criteria_table,
    definitions,
    diameters_of,
    lesion_name,
    lesion_table,
    lesion_told,
    made,
    size_table,
    slice_of,
    slices_heading,
    slices_told,
    summary,
    warnings_of,
    zone_table,
)
from segjax.report.patient_pdf import write_pdf
from segjax.report.patient_slices import (
    KeySlice,
    LesionId,
    Mark,
    colour_of,
    detail_shape,
    draw_detail,
    draw_whole,
    key_slices,
    pieces_of,
    size_in_inches,
)
from segjax.report.patient_texts import Language, language_of
from segjax.report.style import new_figure, picture
from segjax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Patient", "check_free", "write_patient"]

_SHOWN = 20  # lesions in the table that one need not unfold
_WHOLE, _ALONE, _DETAIL = 4.8, 3.4, 2.1  # inches of the longer side
_PAGE, _SHEET = "report.html", "report.pdf"
_DRAWN = ("slice-*.png", "slice-*.svg", "lesion-*.png", "lesion-*.svg")


def write_patient(
    patient: Patient,
    out: str | os.PathLike[str],
    *,
    language: str = "en",
    seconds: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write what was measured of a patient as a page, as a PDF, and its slices as pictures.

    The page holds all it shows, and asks the network for nothing; the PDF has one or two sheets of
    A4. Both show up to six slices, those on which the diameters of the largest lesions were
    measured, with outlines, scale bars and the patient's sides; and list the lesions. Everything
    gets its place at the end, so that what fails leaves what was there before.

    Args:
        patient: Image, mask and measurements.
        out: A folder, made if absent, for ``report.html``, ``report.pdf`` and ``figures/`` (each
            slice and each enlarged lesion as PNG and SVG); or a file, ``.html`` or ``.pdf``, for
            the page or the sheets alone.
        language: ``"en"`` or ``"fr"``.
        seconds: Time that the measurements took, which the page tells.
        overwrite: Replace files of an earlier report, but never those of a run.

    Returns:
        The page, the PDF, or both.

    Raises:
        InputError: Mask or brain do not lie on the image's grid, language or criteria are unknown
            or are not of pictures, a file exists, or one cannot be written.

    Example:
        >>> from segjax import read
        >>> from segjax.evaluate.measure import measure_mask
        >>> flair, lesions = read("flair.nii.gz"), read("lesions.nii.gz")
        >>> found = measure_mask(lesions, labels=["background", "lesion"], image=flair)
        >>> patient = Patient("Patient 7", flair, lesions, found)
        >>> [path.name for path in write_patient(patient, "report", language="fr")]
        ['report.html', 'report.pdf']
    """
    out, words = Path(out), language_of(language)
    check_free(out, overwrite=overwrite)
    _check(patient)
    content = _content(patient, words, seconds)
    if out.suffix.lower() in _WRITERS:
        with atomic_path(out, overwrite=overwrite) as path:
            _WRITERS[out.suffix.lower()](content, path)
        return (out,)
    folder = page.make_folder(out)
    with TemporaryDirectory(prefix=".", dir=folder) as temporary:
        new = Path(temporary)
        figures = page.make_folder(new / RunFolder.figures)
        _write_page(content, new / _PAGE, figures)
        write_pdf(content, new / _SHEET)
        _place(new, folder)
    return folder / _PAGE, folder / _SHEET


def check_free(out: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a place where :func:`write_patient` would replace what it should not.

    Args:
        out: Folder, or file that ends in ``.html`` or ``.pdf``; need not exist.
        overwrite: Whether files of an earlier report may be replaced.

    Raises:
        InputError: It is the folder of a run, or a file exists, or it is of another kind, or lies
            in no folder.
    """
    out = Path(out)
    if out.suffix.lower() in _WRITERS:
        check_target(out, overwrite=overwrite)
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder, or a file that ends in .html or .pdf")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; create it first")
    if RunFolder(out).kind:
        raise InputError(f"{out}: is the folder of a run, with results of its own; name another")
    for name in () if overwrite else (_PAGE, _SHEET, RunFolder.figures):
        check_new(out / name)


def _check(patient: Patient) -> None:
    for name, other in (("mask", patient.mask), ("brain", patient.brain)):
        if other is not None:
            files = patient.files
            named = files.get("image", "image"), files.get(name, name)
            check_same_grid(patient.image, other, named)


def _content(patient: Patient, language: Language, seconds: float | None) -> Content:
    pieces = pieces_of(patient.mask, patient.labels)
    return Content(
        patient,
        key_slices(patient.image, patient.mask, patient.labels, pieces),
        warnings_of(patient, pieces, language),
        criteria_table(patient, language),
        made(patient, language, seconds),
        language,
    )


def _write_alone(content: Content, path: Path) -> None:
    with TemporaryDirectory() as figures:
        _write_page(content, path, Path(figures), kinds=(".png",))


_WRITERS = {".html": _write_alone, ".pdf": write_pdf}


def _place(new: Path, folder: Path) -> None:
    """Move what was written to its place, and pictures of an earlier report away."""
    figures = folder / RunFolder.figures
    for pattern in _DRAWN:
        for old in figures.glob(pattern):
            old.unlink()
    for path in sorted(file for file in new.rglob("*") if file.is_file()):
        target = folder / path.relative_to(new)
        page.make_folder(target.parent)
        path.replace(target)


def _write_page(
    content: Content, path: Path, figures: Path, kinds: Sequence[str] = (".png", ".svg")
) -> None:
    patient, _, warnings, criteria, origin, language = content
    sections = [
        clinical.banner(language),
        clinical.warnings(warnings, language),
        *(_summary(patient, label, language) for label in patient.labels),
        _nothing(language) if not patient.lesions else "",
        _criteria(criteria, language),
        _slices(content, figures, kinds),
        *(_lesions(content, label) for label in patient.labels),
        f"<h2>{escape(language['definitions'])}</h2>",
        *(page.note(escape(text)) for text in definitions(patient, language)),
        f"<h2>{escape(language['made'])}</h2>{_table(origin)}",
    ]
    title = language.say("title", name=patient.name)
    text = page.page_text(title, sections, language=language.code, style=clinical.STYLE)
    path.write_text(text, encoding="utf-8")


def _nothing(language: Language) -> str:
    return f"<h2>{escape(language['no_lesion'])}</h2><p>{escape(language['no_lesion_more'])}</p>"


def _heading(patient: Patient, label: LabelMeasures, text: str, language: Language) -> str:
    """Return a heading, which names the label where there are several."""
    if len(patient.labels) > 1:
        text = f"{text}{language['colon']}{language.translate(label.label)}"
    return f"<h2>{escape(text)}</h2>"


def _summary(patient: Patient, label: LabelMeasures, language: Language) -> str:
    if not patient.lesions:
        return ""
    heading = _heading(patient, label, language["summary"], language)
    parts = [heading, page.tiles(summary(patient, label, language))]
    if len(label.lesions) > 1:
        parts.append(_table(size_table(patient, label, language)))
    if zones := zone_table(patient, label, language):
        parts.append(_table(zones))
    return "".join(parts)


def _criteria(table: Table | None, language: Language) -> str:
    return f"<h2>{escape(language['criteria'])}</h2>{_table(table)}" if table else ""


def _slices(content: Content, figures: Path, kinds: Sequence[str]) -> str:
    patient, slices, language = content.patient, content.slices, content.language
    cards = [
        _card(content, number, key, figures, kinds)
        for number, key in enumerate(track(slices, "Drawing"), 1)
    ]
    told = slices_told(patient, slices, language)
    note = page.note(escape(told)) if told else ""
    heading = f"<h2>{escape(slices_heading(slices, language))}</h2>"
    return f'{heading}{note}{_legend(content)}<div class="slices">{"".join(cards)}</div>'


def _legend(content: Content) -> str:
    patient, language = content.patient, content.language
    if not patient.lesions:
        return ""
    outlines = [
        (
            f"border:2px solid {colour_of(label.value)}",
            language.say("outline", label=language.translate(label.label)),
        )
        for label in patient.labels
    ]
    lines = [
        ("border-top:3px solid #B8A800;height:0", language["longest_line"]),
        ("border-top:3px dashed #B8A800;height:0", language["perpendicular_line"]),
    ]
    items = "".join(
        f'<span><i style="{style}"></i>{escape(text)}</span>' for style, text in outlines + lines
    )
    return f'<p class="legend">{items}</p>'


def _card(content: Content, number: int, key: KeySlice, figures: Path, kinds: Sequence[str]) -> str:
    """Draw a slice and its lesions, and return what shows them."""
    patient, language = content.patient, content.language
    name = key.name(language)
    marked = _named(patient, key.marks, language)
    whole = _draw_whole(figures / f"slice-{number}", key, language, kinds)
    alt = language.say("overview_alt", slice=name, numbers=marked) if key.marks else name
    details = "".join(
        page.picture(
            _draw_detail(figures, key, mark, patient, language, kinds),
            language.say("detail_alt", number=lesion_name(patient, mark.lesion, language)),
        )
        for mark in key.enlarged
    )
    beside = f'<div class="details">{details}</div>' if details else ""
    pictures = f'<div class="pictures">{page.picture(whole, alt)}{beside}</div>'
    caption = (
        f"<figcaption><b>{escape(name)}</b>{_told_lesions(patient, key, language)}</figcaption>"
    )
    return f'<figure id="slice-{number}">{pictures}{caption}</figure>'


def _named(patient: Patient, marks: Sequence[Mark], language: Language) -> str:
    return ", ".join(lesion_name(patient, mark.lesion, language) for mark in marks)


def _told_lesions(patient: Patient, key: KeySlice, language: Language) -> str:
    if not key.marks:
        return ""
    links = ", ".join(
        f'<a href="#{_anchor(mark.lesion)}">'
        f"{escape(lesion_name(patient, mark.lesion, language))}</a>"
        for mark in key.marks
    )
    drawn = ", ".join(escape(_measured(patient, mark, language)) for mark in key.measured)
    return f"<br>{language.many('on_it', len(key.marks), numbers=links, drawn=drawn)}"


def _measured(patient: Patient, mark: Mark, language: Language) -> str:
    name = lesion_name(patient, mark.lesion, language)
    return f"{name} ({diameters_of(patient, mark.lesion, language)})" if mark.large else name


def _draw_whole(path: Path, key: KeySlice, language: Language, kinds: Sequence[str]) -> Path:
    figure = new_figure(size_in_inches(key.view.image.shape, key.view.aspect, _WHOLE))
    figure.set_layout_engine("none")
    figure.set_facecolor("black")
    draw_whole(figure.add_axes((0, 0, 1, 1)), key, language)
    return _saved(figure, path, kinds)


def _draw_detail(
    figures: Path,
    key: KeySlice,
    mark: Mark,
    patient: Patient,
    language: Language,
    kinds: Sequence[str],
) -> Path:
    side = _ALONE if len(key.enlarged) == 1 else _DETAIL
    figure = new_figure(size_in_inches(detail_shape(key, mark), key.view.aspect, side))
    figure.set_layout_engine("none")
    figure.set_facecolor("black")
    told = lesion_told(patient, mark.lesion, language)
    draw_detail(
        figure.add_axes((0, 0, 1, 1)), key, mark, told, language, inches=figure.get_figwidth()
    )
    several = f"{mark.lesion.value}-" if len(patient.labels) > 1 else ""
    return _saved(figure, figures / f"lesion-{several}{mark.lesion.number}", kinds)


def _saved(figure: "Figure", path: Path, kinds: Sequence[str]) -> Path:
    """Write a figure in each format, and return the PNG file."""
    for kind in kinds:
        with picture(path.with_name(path.name + kind)) as save:
            save(figure)
    return path.with_name(path.name + ".png")


def _lesions(content: Content, label: LabelMeasures) -> str:
    patient, language = content.patient, content.language
    if not patient.lesions:
        return ""
    heading = _heading(patient, label, language["table"], language)
    if not label.lesions:
        return f"{heading}<p>{escape(language['no_lesion_of'])}</p>"
    whole = lesion_table(patient, label, content.slices, language)
    shown = Table(whole.headings, whole.rows[:_SHOWN], whole.lesions[:_SHOWN])
    rest = Table(whole.headings, whole.rows[_SHOWN:], whole.lesions[_SHOWN:])
    text = heading + _table(shown, content.slices)
    if not rest.rows:
        return text
    summary_ = escape(language.many("rest", len(rest.rows)))
    return f"{text}<details><summary>{summary_}</summary>{_table(rest, content.slices)}</details>"


def _anchor(lesion: LesionId) -> str:
    return f"lesion-{lesion.value}-{lesion.number}"


def _table(table: Table, slices: Sequence[KeySlice] = ()) -> str:
    """Return a table whose rows of lesions can be linked to, and link to their slices."""
    if not table.lesions:
        return clinical.table(table)
    pairs = zip(table.rows, table.lesions, strict=True)
    return clinical.table(table, [_lesion_row(row, lesion, slices) for row, lesion in pairs])


def _lesion_row(cells: Sequence[str], lesion: LesionId, slices: Sequence[KeySlice]) -> str:
    anchor = f' id="{_anchor(lesion)}"'
    shown = slice_of(lesion, slices)
    if shown is None or not shown.plane:
        return clinical.row(cells, anchor)
    *others, last = cells
    number = next(n for n, key in enumerate(slices, 1) if key is shown)
    link = f'<td><a href="#slice-{number}">{escape(last)}</a></td></tr>'
    return clinical.row(others, anchor).removesuffix("</tr>") + link
