"""What the HTML pages of reports are made of: their frame, tables, pictures, settings, origin.

A page needs nothing but itself: its pictures are embedded, it loads no script and no font.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import nan
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

from segjax.errors import InputError
from segjax.evaluate.roles import by_role
from segjax.evaluate.scores import DICE, Score, absent_in_words, of_absent, score_of_row
from segjax.evaluate.statistics import mean_interval
from segjax.evaluate.summary import interval_in_words
from segjax.files import atomic_path
from segjax.provenance import Provenance, here_and_now
from segjax.text import plural

__all__ = [
    "CONVENTIONS",
    "Cells",
    "absent_note",
    "cases",
    "dice_summary",
    "headings",
    "make_folder",
    "measures",
    "note",
    "origin",
    "page_text",
    "picture",
    "read_config",
    "settings",
    "table",
    "tiles",
    "write_page",
]

Cells = Sequence[str | float | int]

_HEADINGS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "surface_dice": "surface Dice",
    "hausdorff_mm": "Hausdorff (mm)",
    "lesionwise_dice": "lesion-wise Dice",
    "positive_predictive_value": "predictive value",
    "truth_ml": "truth (ml)",
    "prediction_ml": "prediction (ml)",
    "truth_voxels": "truth (pixels)",
    "prediction_voxels": "prediction (pixels)",
}


def write_page(path: Path, title: str, sections: Sequence[str]) -> Path:
    """Write a page that says at its end when and by which version it was written.

    Args:
        path: The file; replaced where it is there.
        title: Heading, as text.
        sections: HTML of what follows it.
    """
    now = here_and_now()
    written = f"Page written {now.date.replace('T', ' ')} by segjax {now.versions['segjax']}."
    with atomic_path(path, overwrite=True) as temporary:
        text = page_text(title, [*sections, note(escape(written))])
        temporary.write_text(text, encoding="utf-8")
    return path


def page_text(title: str, sections: Sequence[str], *, language: str = "en", style: str = "") -> str:
    """Return the HTML of a whole page.

    Args:
        title: Heading, as text.
        sections: HTML of what follows it.
        language: Code of the language that it is written in.
        style: CSS after that of all pages.
    """
    return _PAGE.format(
        title=escape(title),
        style=_STYLE + style,
        sections="\n".join(sections),
        language=escape(language),
    )


def note(html: str) -> str:
    """Return a paragraph in small print."""
    return f"<p class='note'>{html}</p>"


def tiles(facts: Mapping[str, object]) -> str:
    """Return values in large type, each over its name."""
    each = (f"<div><b>{escape(str(v))}</b><span>{escape(k)}</span></div>" for k, v in facts.items())
    return f'<div class="tiles">{"".join(each)}</div>'


def table(columns: Sequence[str], rows: Iterable[Cells]) -> str:
    """Return a table of text, of counts, and of numbers with three decimals; NaN is a dash.

    Example:
        >>> table(["case", "Dice"], [["a", 0.5]]).partition("</tr>")[2]
        '<tr><td>a</td><td class="number">0.500</td></tr></table></div>'
    """
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def picture(path: Path, description: str) -> str:
    """Embed a PNG file; two of its pixels make one of the page."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20]) // 2
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img width="{width}" alt="{escape(description)}" src="{source}">'


def origin(parts: Sequence[Provenance]) -> str:
    """Say how a result came about, part by part where it took several."""
    tables = [table(("", ""), list(part.facts().items())) for part in parts]
    if len(parts) > 1:
        tables = [
            f"<details><summary>Part {n} of {len(parts)}, {escape(part.facts()['date'])}</summary>"
            f"{own}</details>"
            for n, (part, own) in enumerate(zip(parts, tables, strict=True), 1)
        ]
    return f"<h2>How it came about</h2>{''.join(tables)}" if parts else ""


def settings(config: Mapping[str, Any]) -> str:
    """Return the settings of a training, one on each line."""
    return f"<h2>Settings</h2>{table(('setting', 'value'), list(_flat(config)))}"


def cases(roles: Mapping[str, str]) -> str:
    """Name the cases that were for training, validation and testing; nothing without roles."""
    if not roles:
        return ""
    rows = [(role, len(names), ", ".join(names)) for role, names in by_role(roles).items()]
    summary = f"<summary>What each of {plural(len(roles), 'case')} was for</summary>"
    return f"<h2>Cases</h2><details>{summary}{table(('for', 'number', 'cases'), rows)}</details>"


def dice_summary(dice: Mapping[str, Sequence[float]]) -> str:
    """Return mean with its interval, standard deviation, median, extremes and number of Dice.

    Args:
        dice: Of the cases that hold a label, by label.
    """
    return table(_SPREAD, [(label, *_spread(values)) for label, values in dice.items()])


def absent_note(scores: Mapping[str, Sequence[Score]]) -> str:
    """Say what was found in cases that lack a label; nothing where all hold all."""
    told = {label: absent_in_words(own) for label, own in scores.items()}
    absent = [f"Without {escape(label)}: {words}." for label, words in told.items() if words]
    words = f"Dice is over the cases that hold the label. {' '.join(absent)}"
    return note(words) if absent else ""


def headings(row: Iterable[str]) -> list[str]:
    """Return what stands over the measures of :func:`segjax.evaluate.overlap.overlap_table`."""
    return [_HEADINGS.get(name) or _in_words(name) for name in row]


def _in_words(name: str) -> str:
    words = name.removesuffix("_mm").replace("_", " ").replace("lesionwise", "lesion-wise")
    words = words.replace("hd95", "HD95").replace("assd", "ASSD")
    return f"{words} (mm)" if name.endswith("_mm") else words


def measures(row: Mapping[str, str | float | int]) -> Cells:
    """Return the cells of a row; dashes for what an absent label has not."""
    if score_of_row(row).metric == DICE:
        return list(row.values())
    told = {"case", "label", *of_absent(row)}
    return [value if name in told else nan for name, value in row.items()]


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a run as they are written.

    Raises:
        InputError: The file cannot be read, or holds no settings.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; give the folder of a training run") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: is no configuration of a run")
    return config


def make_folder(path: Path) -> Path:
    """Make a folder where it is not there yet.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror})") from error
    return path


def _cell(value: str | float | int) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    text = {"nan": "–", "inf": "∞", "-inf": "−∞"}.get(text, text)
    return f'<td class="number">{text}</td>'


_SPREAD = (
    "label", "mean", "95 % interval", "standard deviation", "median", "lowest", "highest", "n",
)  # fmt: skip


def _spread(dice: Sequence[float]) -> Cells:
    if not dice:
        return (nan, "–", *[nan] * 4, 0)
    interval = interval_in_words(mean_interval(dice))
    return fmean(dice), interval, pstdev(dice), median(dice), min(dice), max(dice), len(dice)


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Yield nested settings as dotted names and text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield from _flat_list(value, name)
    else:
        yield name, "none" if value is None else str(value)


def _flat_list(items: list[Any], name: str) -> Iterable[tuple[str, str]]:
    """Yield plain values in one row; each item in its own where they have settings."""
    if not any(isinstance(item, Mapping) for item in items):
        yield name, ", ".join(map(str, items)) or "none"
        return
    for number, item in enumerate(items, 1):
        yield f"{name} {number}", ", ".join(f"{key} {text}" for key, text in _flat(item))


CONVENTIONS = """The slice with most foreground of each case, in radiological convention: the
patient's right is on the left (2D images are shown as they are stored). Dice, sensitivity and
predictive value are of the whole case; a dash stands where it lacks the label."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --faint: #646d78; --line: #dfe3e8;
  --card: #fff; --page: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --faint: #9aa4b0; --line: #353b44;
  --card: #20242a; --page: #16191d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; font-weight: 650; margin: 0 0 20px; }
h2 { font-size: 18px; font-weight: 650; margin: 40px 0 12px; }
h3 { font-size: 15px; font-weight: 600; margin: 20px 0 4px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; }
.tiles div { flex: 1 1 140px; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 12px 16px; }
.tiles b { display: block; font-size: 22px; font-weight: 650; }
.tiles span, .note { color: var(--faint); font-size: 13px; }
img { display: block; max-width: 100%; height: auto; background: #fff; padding: 12px;
  border: 1px solid var(--line); border-radius: 8px; margin: 12px 0; }
section { margin-bottom: 28px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 11px; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th { color: var(--faint); font-weight: 550; white-space: nowrap; }
td.number { font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: var(--faint); }
"""

_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{sections}
</main>
</body>
</html>
"""
