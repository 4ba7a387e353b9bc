"""The page of a follow-up: what changed between visits, each change in pictures, how sure."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segjax.evaluate.changes import KINDS, LesionChange
from segjax.evaluate.followed import is_compared
from segjax.evaluate.followup import Comparison, FollowUp
from segjax.files import atomic_path, check_target
from segjax.progress import track
from segjax.report import clinical, page
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
from segjax.report.followup_pdf import write_followup_pdf
from segjax.report.followup_plots import draw_loads
from segjax.report.followup_slices import (
    COLOURS,
    PANELS,
    SIGNS,
    ChangeCut,
    Scene,
    Tile,
    change_cuts,
    chequers,
    draw_change,
    draw_chequer,
    draw_tile,
    frame_shape,
    mosaic,
    scene_of,
    slice_name,
)
from segjax.report.followup_texts import followup_language
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
from segjax.report.patient_texts import Language
from segjax.report.style import new_figure, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_followup_page"]

_PICTURED = 24  # changes of a page that are shown in pictures
_TILES = 9  # slices of the overview of a page
_SHOWN = 20  # lesions in the table that one need not unfold
_PANEL, _TILE, _CHEQUER = 2.6, 2.6, 3.0  # inches of the longer side
_PLOT = (4.6, 2.6)
_PAGE, _SHEETS = "report.html", "report.pdf"


def write_followup_page(
    followup: FollowUp,
    folder: str | os.PathLike[str],
    *,
    language: str = "en",
    pdf: bool = False,
    files: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write what changed between the visits of a patient as a page, and as sheets of A4.

    The page holds all it shows and asks the network for nothing. It says first in words what
    changed; the 24 largest changes are shown before, after and as a difference at the same place,
    all lesions listed.

    Args:
        followup: The visits and what changed.
        folder: Where to write ``report.html`` and ``report.pdf``; made if absent.
        language: ``"en"`` or ``"fr"``.
        pdf: Whether to write the sheets too.
        files: What it came from: names of files by ``image``, ``mask``, ``brain``, ``model`` or
            the names of visits.
        overwrite: Replace files of an earlier report.

    Returns:
        The files: ``"html"``, and ``"pdf"`` where it was asked for.

    Raises:
        InputError: The language is unknown, a file exists or cannot be written.

    Example:
        >>> import numpy as np
        >>> from segjax.evaluate.followup import Visit, follow_up
        >>> from segjax.volume import Volume
        >>> lesion = np.zeros((24, 24, 24), np.uint8)
        >>> lesion[4:10, 4:10, 4:10] = 1
        >>> before, after = Volume(0 * lesion, np.eye(4)), Volume(lesion, np.eye(4))
        >>> found = follow_up([Visit("2023", mask=before), Visit("2024", mask=after)])
        >>> write_followup_page(found, "followed", language="fr")["html"].name
        'report.html'
    """
    words = followup_language(language)
    kinds = {"html": _PAGE, **({"pdf": _SHEETS} if pdf else {})}
    paths = {kind: page.make_folder(Path(folder)) / name for kind, name in kinds.items()}
    for path in paths.values():
        check_target(path, overwrite=overwrite)
    scenes = tuple(scene_of(followup, comparison) for comparison in followup.comparisons)
    content = Content(followup, scenes, dict(files or {}), words)
    with ExitStack() as stack:
        places = {
            kind: stack.enter_context(atomic_path(path, overwrite=overwrite))
            for kind, path in paths.items()
        }
        with TemporaryDirectory() as figures:
            places["html"].write_text(_page(content, Path(figures)), encoding="utf-8")
        if pdf:
            write_followup_pdf(content, places["pdf"])
    return paths


def _page(content: Content, figures: Path) -> str:
    followup, language = content.followup, content.language
    pencil = _Pencil(figures)
    each = max(1, _PICTURED // len(followup.comparisons))
    pairs = [_comparison(content, number, pencil, each) for number in range(len(content.scenes))]
    sections = [
        clinical.banner(language),
        _verdict(content),
        clinical.warnings(followup_warnings(content), language),
        *(
            [_loads(content, pencil), *pairs]
            if len(pairs) > 1
            else [*pairs, _loads(content, pencil)]
        ),
        _check(content),
        _registration(content, pencil),
        _heading(language["definitions"]),
        *(page.note(escape(text)) for text in followup_definitions(language)),
        _heading(language["made"]),
        clinical.table(followup_made(content)),
    ]
    title = followup_title(followup, language)
    style = clinical.STYLE + _STYLE
    return page.page_text(title, sections, language=language.code, style=style)


class _Pencil:
    """Draws pictures, and embeds them.

    Args:
        folder: For their files.
    """

    def __init__(self, folder: Path):
        self._folder, self._count = folder, 0

    def __call__(
        self, draw: Callable[["Axes"], None], size: tuple[float, float], description: str
    ) -> str:
        """Return the HTML of a picture without a frame, of some inches."""
        figure = new_figure(size)
        figure.set_layout_engine("none")
        figure.set_facecolor("black")
        draw(figure.add_axes((0, 0, 1, 1)))
        return self.save(figure, description)

    def plot(
        self, draw: Callable[["Axes"], None], size: tuple[float, float], description: str
    ) -> str:
        """Return the HTML of a plot."""
        figure = new_figure(size)
        draw(figure.subplots())
        return self.save(figure, description)

    def save(self, figure: "Figure", description: str) -> str:
        """Write a figure, and embed it."""
        self._count += 1
        path = self._folder / f"{self._count}.png"
        with picture(path) as save:
            save(figure)
        return page.picture(path, description)


def _heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def _verdict(content: Content) -> str:
    """Say in large letters what changed, of many visits in the order of time."""
    followup, language = content.followup, content.language
    parts = []
    for comparison in followup.comparisons:
        lines = "".join(f"<p>{escape(text)}</p>" for text in verdict(content, comparison))
        if len(followup.comparisons) > 1:
            lines = _heading(comparison_name(content, comparison), 3) + lines
        parts.append(lines)
    heading = _heading(language["verdict"])
    if len(followup.comparisons) == 1:
        parts.append(page.tiles(tiles_of(content, followup.comparisons[0])))
    return f'<section class="verdict">{heading}{"".join(parts)}</section>'


def _loads(content: Content, pencil: _Pencil) -> str:
    language = content.language
    table = visit_table(content)
    if not any(visit.loads for visit in content.followup.visits):
        return _heading(language["visits"]) + clinical.table(table)
    plot = pencil.plot(partial(draw_loads, content=content), _PLOT, language["loads_alt"])
    heading = _heading(language["loads"])
    return f'{heading}<div class="loads">{plot}{clinical.table(table)}</div>'


def _comparison(content: Content, number: int, pencil: _Pencil, most: int) -> str:
    """Return the section of two visits that follow each other."""
    followup, scene, language = content.followup, content.scenes[number], content.language
    comparison = followup.comparisons[number]
    several = len(followup.comparisons) > 1
    parts = [
        _heading(comparison_name(content, comparison)) if several else "",
        page.tiles(tiles_of(content, comparison)) if several else "",
        _overview(content, scene, comparison, pencil),
        _changes(content, number, pencil, most),
        _table(content, number),
        _titled("growth", growth_table(content, comparison), [language["growth_told"]], language),
        _titled(
            "criteria", activity_table(content, comparison), criteria_notes(language), language
        ),
    ]
    return f'<section class="pair" id="pair-{number + 1}">{"".join(parts)}</section>'


def _titled(name: str, table: Table | None, notes: Sequence[str], language: Language) -> str:
    """Return a table under its heading, with notes; nothing without a table."""
    if table is None:
        return ""
    told = "".join(page.note(escape(note)) for note in notes)
    return f"{_heading(language[name])}{clinical.table(table)}{told}"


def _overview(content: Content, scene: Scene, comparison: Comparison, pencil: _Pencil) -> str:
    language = content.language
    visit = content.followup.visits[comparison.second].name
    tiles = mosaic(scene, max(3, _TILES // len(content.scenes)))
    name = "overview_told" if changed(comparison) else "overview_nothing"
    told = page.note(escape(language.say(name, visit=visit)))
    pictures = "".join(_tile(scene, tile, pencil, language) for tile in tiles)
    kinds = [
        (f"background:{COLOURS[k]}", f"{SIGNS[k]} {language[k]}") for k in kinds_of(comparison)
    ]
    heading = _heading(language["overview"])
    return f'{heading}{told}{_legend(kinds)}<div class="mosaic">{pictures}</div>'


def _tile(scene: Scene, tile: Tile, pencil: _Pencil, language: Language) -> str:
    name = slice_name(scene, tile.place, language)
    numbers = ", ".join(str(change.number) for change in tile.changes)
    alt = language.say("tile_alt", slice=name, numbers=numbers) if numbers else name
    size = size_in_inches(*frame_shape(scene, tile.place, tile.box), _TILE)
    draw = partial(draw_tile, scene=scene, tile=tile, language=language)
    caption = f"<figcaption>{escape(name)}</figcaption>"
    return f"<figure>{pencil(draw, size, alt)}{caption}</figure>"


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(
        f'<span><i style="{style}"></i>{escape(text)}</span>' for style, text in entries
    )
    return f'<p class="legend">{items}</p>' if items else ""


def _changes(content: Content, number: int, pencil: _Pencil, most: int) -> str:
    """Show the largest changes before, after and as a difference."""
    scene, language = content.scenes[number], content.language
    comparison = content.followup.comparisons[number]
    found = changed(comparison)
    if not found:
        return _nothing(content) if is_compared(content.followup, comparison) else ""
    shown = change_cuts(scene, found[:most])
    cards = [
        _card(content, number, what, pencil) for what in track(shown, "Drawing", unit="change")
    ]
    left = len(found) - len(shown)
    notes = [language["changes_told"]]
    if scene.images is None:
        notes.append(language["no_images"])
    if scene.difference is not None:
        notes.append(language.say("grey_scale", reach=language.number(scene.reach)))
    if left:
        notes.append(language.many("changes_left", left))
    outlines = outlines_told(content, comparison, found[:most])
    legend = [(f"border:2px {line} {colour}", text) for colour, line, text in outlines]
    if scene.difference is None:
        legend += [
            (f"background:{COLOURS['new']}", language["gained"]),
            (f"background:{COLOURS['gone']}", language["lost"]),
        ]
    told = page.note(escape(" ".join(notes)))
    return f"{_heading(language['changes'])}{told}{_legend(legend)}{''.join(cards)}"


def _nothing(content: Content) -> str:
    """Say that nothing changed, and what could have been found."""
    language = content.language
    known = findable(content) or [language["nothing_to_find"]]
    texts = "".join(f"<p>{escape(text)}</p>" for text in (language["nothing_changed_more"], *known))
    return _heading(language["nothing_changed"]) + texts


def _card(content: Content, number: int, what: ChangeCut, pencil: _Pencil) -> str:
    """Return the pictures of a change, and what is told of it."""
    scene, language = content.scenes[number], content.language
    change = what.change
    heading = change_heading(change, content)
    size = size_in_inches(*frame_shape(scene, what.place, what.box), _PANEL)
    panels = []
    for panel in PANELS:
        name = language[scene.third if panel == "difference" else panel]
        draw = partial(draw_change, scene=scene, what=what, panel=panel, language=language)
        kind = language[change.kind]
        alt = language.say("panel_alt", number=change.number, kind=kind, which=name)
        panels.append(f"<div>{pencil(draw, size, alt)}<span>{escape(name)}</span></div>")
    facts = [
        *change_facts(change, content),
        (language["slice_name"], slice_name(scene, what.place, language)),
    ]
    told = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    link = f'<a href="#{_anchor(number, change)}-row">{escape(heading)}</a>'
    return (
        f'<figure class="change {change.kind}" id="{_anchor(number, change)}">'
        f"<figcaption><h3>{link}</h3></figcaption>"
        f'<div class="panels">{"".join(panels)}</div><dl>{told}</dl></figure>'
    )


def _anchor(number: int, change: LesionChange) -> str:
    return f"change-{number + 1}-{change.value}-{change.number}"


def _table(content: Content, number: int) -> str:
    """List all lesions; kinds can be hidden, without a script."""
    comparison, language = content.followup.comparisons[number], content.language
    if not comparison.changes:
        return ""
    whole = lesion_rows(content, comparison)
    pictured = {c.number for c in changed(comparison)[: max(1, _PICTURED // len(content.scenes))]}
    rows = [
        _lesion_row(number, cells, change, linked=change.number in pictured)
        for cells, change in zip(whole.rows, comparison.changes, strict=True)
    ]
    text = clinical.table(whole, rows[:_SHOWN])
    if rest := rows[_SHOWN:]:
        summary = escape(language.many("rest", len(rest)))
        text += f"<details><summary>{summary}</summary>{clinical.table(whole, rest)}</details>"
    boxes = "".join(_filter(kind, comparison, language) for kind in KINDS)
    shown = f'<p class="filter">{escape(language["show"])} {boxes}</p>'
    return f"{_heading(language['all_lesions'])}{shown}{text}"


def _lesion_row(number: int, cells: Sequence[str], change: LesionChange, *, linked: bool) -> str:
    anchor = _anchor(number, change)
    row = clinical.row(cells[1:], f' class="{change.kind}" id="{anchor}-row"')
    name = escape(cells[0])
    first = f'<a href="#{anchor}">{name}</a>' if linked else name
    start, _, rest = row.partition("<td>")
    return f"{start}<td>{first}</td><td>{rest}"


def _filter(kind: str, comparison: Comparison, language: Language) -> str:
    count = sum(change.kind == kind for change in comparison.changes)
    if not count:
        return ""
    name = f"{SIGNS[kind]} {language[kind]} ({language.number(count)})"
    return (
        f'<label><input type="checkbox" class="show-{kind}" checked autocomplete="off"> '
        f"{escape(name)}</label> "
    )


def _check(content: Content) -> str:
    language = content.language
    texts = checked(content)
    if not texts:
        return ""
    told = "".join(f"<p>{escape(text)}</p>" for text in texts)
    table = check_table(content)
    return _heading(language["check"]) + told + ("" if table is None else clinical.table(table))


def _registration(content: Content, pencil: _Pencil) -> str:
    followup, language = content.followup, content.language
    parts = [_heading(language["registration"])]
    for comparison, scene in zip(followup.comparisons, content.scenes, strict=True):
        if len(followup.comparisons) > 1:
            parts.append(_heading(comparison_name(content, comparison), 3))
        parts.append(clinical.table(registration_table(content, comparison)))
        if scene.images is not None:
            first, second = (followup.visits[n].name for n in (comparison.first, comparison.second))
            told = language.say("registration_told", first=first, second=second)
            pictures = "".join(_chequer(scene, pencil, language))
            parts.append(f'{page.note(escape(told))}<div class="mosaic">{pictures}</div>')
    return "".join(parts)


def _chequer(scene: Scene, pencil: _Pencil, language: Language) -> list[str]:
    found = []
    for place, box in chequers(scene):
        name = slice_name(scene, place, language)
        plane = language[("sagittal", "coronal", "axial")[place.axis]]
        size = size_in_inches(*frame_shape(scene, place, box), _CHEQUER)
        draw = partial(draw_chequer, scene=scene, place=place, box=box, language=language)
        image = pencil(draw, size, language.say("chequer_alt", plane=plane))
        found.append(f"<figure>{image}<figcaption>{escape(name)}</figcaption></figure>")
    return found


_HIDDEN = "\n".join(
    f"section:has(.show-{kind}:not(:checked)) tr.{kind} {{ display: none; }}" for kind in KINDS
)
_EDGES = "\n".join(
    f"figure.change.{kind} {{ border-left: 4px solid {COLOURS[kind]}; }}" for kind in KINDS
)

_STYLE = f"""
.verdict p {{ font-size: 20px; line-height: 1.4; font-weight: 600; margin: 0 0 8px; }}
.verdict h2 {{ margin-top: 24px; }}
.mosaic {{ display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px;
  align-items: start; }}
.mosaic figure {{ margin: 0; padding: 8px; }}
.mosaic img, .panels img {{ width: 100%; }}
.mosaic figcaption {{ font-size: 12px; color: var(--faint); margin-top: 4px; }}
.loads {{ display: flex; flex-wrap: wrap; gap: 0 16px; align-items: flex-start; }}
.loads .scroll {{ flex: 1 1 340px; min-width: 0; }}
.loads th {{ white-space: normal; }}
.loads td {{ white-space: nowrap; }}
.tiles div {{ flex-basis: 100px; padding: 10px 12px; }}
.legend i {{ border-radius: 2px; }}
.panels {{ display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px; }}
.panels span {{ display: block; font-size: 13px; color: var(--faint); margin-top: 2px; }}
figure.change figcaption {{ margin: 0 0 8px; }}
figure.change h3 {{ margin: 0; font-size: 16px; }}
figure.change:target, tr:target td {{ outline: 2px solid #E69F00; outline-offset: -2px; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 6px 16px;
  margin: 10px 0 0; }}
dt {{ font-size: 12px; color: var(--faint); }}
dd {{ margin: 0; font-size: 14px; font-variant-numeric: tabular-nums; }}
th {{ white-space: normal; }}
th, td {{ padding: 6px 8px; }}
tr {{ scroll-margin-top: 40px; }}
.filter {{ display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px; margin: 0; }}
.filter label {{ white-space: nowrap; }}
{_EDGES}
{_HIDDEN}
@media (max-width: 600px) {{
  .mosaic, .panels {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 6px; }}
  .mosaic figure {{ padding: 4px; }}
  .verdict p {{ font-size: 17px; }}
  dl {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }}
}}
@media print {{
  .verdict p {{ font-size: 13pt; }}
  .filter {{ display: none; }}
  tr.new, tr.enlarged, tr.stable, tr.shrunk, tr.gone {{ display: table-row !important; }}
  .tiles {{ flex-wrap: wrap; }}
  .legend i, figure.change {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  h2 + .note {{ break-after: avoid; }}
  dl {{ grid-template-columns: repeat(5, 1fr); gap: 2px 8px; margin-top: 4px; }}
  dt {{ font-size: 7pt; }} dd {{ font-size: 8pt; }}
  figure.change {{ margin-bottom: 8px; }}
  .panels {{ max-width: 150mm; }}
  table {{ font-size: 6.5pt; }} th, td {{ padding: 2px 3px; }}
}}
"""
