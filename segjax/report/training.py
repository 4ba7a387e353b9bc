"""One HTML page that shows a whole training: curves, Dice of each case, pictures, settings, origin.

The page needs nothing but itself: its pictures are embedded, it loads no script and no font.
"""

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.io.formats import check_same_grid
from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.evaluate.metrics import (
    best_epoch,
    counted_epoch,
    read_metrics,
    validation_dice,
    validation_scores,
)
from segjax.evaluate.overlap import overlap_table
from segjax.evaluate.roles import NOT_KNOWN, read_roles
from segjax.evaluate.scores import DICE, OVERLAPS, Score, absent_in_words, by_label, score_of_row
from segjax.files import atomic_path
from segjax.provenance import Provenance, duration, here_and_now, read_parts
from segjax.report.plots import dice_by_case, learning_curves, overlay
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Example", "write_report"]

Row = Sequence[str | float | int]

_HEADINGS = {
    "dice": "Dice",
    "positive_predictive_value": "predictive value",
    "truth_ml": "truth (ml)",
    "prediction_ml": "prediction (ml)",
    "truth_voxels": "truth (voxels)",
    "prediction_voxels": "prediction (voxels)",
}


@dataclass(frozen=True, eq=False)
class Example:
    """One case to show in a report.

    Attributes:
        name: Name of the case.
        image: The image.
        truth: Label map on the image's grid; None where it is not known. Voxels of the value
            :data:`segjax.data.labels.IGNORED` count for nothing.
        prediction: Label map on the image's grid.

    Example:
        >>> Example("case 7", flair, None, mask).name  # doctest: +SKIP
        'case 7'
    """

    name: str
    image: Volume
    truth: Volume | None
    prediction: Volume


def write_report(run: str | os.PathLike[str], *, examples: Sequence[Example] = ()) -> Path:
    """Write ``report.html`` into the folder of a run, and its pictures into ``figures/``.

    Reads ``config.json`` and ``metrics.csv`` of the run, and where they are there ``split.json``,
    which says what each case was for, and ``provenance.json``, which says how the training came
    about; an earlier report is replaced.

    Args:
        run: Folder of a training run.
        examples: Cases to show, in this order.

    Returns:
        Path of the page.

    Raises:
        InputError: When the folder is no run, its files cannot be read, or a mask does not lie
            on its image's grid.

    Example:
        >>> write_report("run", examples=[Example("case 7", flair, truth, mask)])  # doctest: +SKIP
        PosixPath('run/report.html')
    """
    run = Path(run)
    config = _read_config(run / "config.json")
    metrics = read_metrics(run / "metrics.csv")
    figures = _folder(run / "figures")
    roles = read_roles(run)
    sections = [
        _overview(config, metrics, roles),
        _training(run / "metrics.csv", metrics, figures),
        _examples(examples, config, figures, roles=roles),
        _cases(roles),
        _settings(config),
        _origin(read_parts(run)),
    ]
    title = f"{config.get('name') or run.resolve().name}: {config.get('model', 'training')}"
    return _write_page(run / "report.html", title, sections)


def _write_page(path: Path, title: str, sections: Sequence[str]) -> Path:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(_page(title, [*sections, _written()]), encoding="utf-8")
    return path


def _page(title: str, sections: Sequence[str]) -> str:
    return _PAGE.format(title=escape(title), style=_STYLE, sections="\n".join(sections))


def _written() -> str:
    """Say when the page was written, and by which version."""
    now = here_and_now()
    words = f"Page written {now.date.replace('T', ' ')} by segjax {now.versions['segjax']}."
    return f"<p class='note'>{escape(words)}</p>"


def _origin(parts: Sequence[Provenance]) -> str:
    """Say how a result came about, part by part where it took several."""
    tables = [_table(("", ""), list(part.facts().items())) for part in parts]
    if len(parts) > 1:
        tables = [
            f"<details><summary>Part {n} of {len(parts)}, {escape(part.facts()['date'])}</summary>"
            f"{table}</details>"
            for n, (part, table) in enumerate(zip(parts, tables, strict=True), 1)
        ]
    return f"<h2>How it came about</h2>{''.join(tables)}" if parts else ""


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; give the folder of a training run") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: is no configuration of a run")
    return config


def _folder(path: Path) -> Path:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror})") from error
    return path


def _overview(config: Mapping[str, Any], metrics: "pd.DataFrame", roles: Mapping[str, str]) -> str:
    facts = {"model": config.get("model", ""), "epochs": metrics.epoch.max()}
    if (epoch := best_epoch(metrics)) is not None:
        rows = validation_dice(metrics)
        best = rows[rows.epoch == epoch]
        facts = {"mean validation Dice": f"{best.value.mean():.3f}", "best epoch": epoch} | facts
        facts["validation cases"] = len(validation_scores(metrics, epoch))
    facts |= {f"{role} cases": len(names) for role, names in _by_role(roles).items()}
    seconds = metrics[metrics.metric == "seconds"].value
    if len(seconds):
        facts["time of training"] = duration(seconds.max())
    return _tiles(facts)


def _by_role(roles: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case, role in roles.items():
        found.setdefault(role, []).append(case)
    return found


def _cases(roles: Mapping[str, str]) -> str:
    """Name the cases that were for training, validation and testing."""
    rows = [(role, len(names), ", ".join(names)) for role, names in _by_role(roles).items()]
    if not rows:
        return ""
    table = _table(("for", "number", "cases"), rows)
    names = plural(len(roles), "case")
    return (
        f"<h2>Cases</h2><details><summary>What each of {names} was for</summary>{table}</details>"
    )


def _tiles(facts: Mapping[str, object]) -> str:
    tiles = (
        f"<div><b>{escape(str(v))}</b><span>{escape(k)}</span></div>" for k, v in facts.items()
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _training(path: Path, metrics: "pd.DataFrame", figures: Path) -> str:
    learning_curves(path, figures / "learning_curves.png", overwrite=True)
    parts = [_picture(figures / "learning_curves.png", "Loss and validation Dice by epoch")]
    if (epoch := best_epoch(metrics)) is not None:
        dice_by_case(path, figures / "dice_by_case.png", overwrite=True)
        rows = validation_dice(metrics)
        best = rows[rows.epoch == epoch]
        parts.append(f"<h2>Validation Dice, epoch {epoch}</h2>")
        parts.append(_label_summary(best))
        parts.append(_absent_note(by_label(validation_scores(metrics, epoch))))
        parts.append(_picture(figures / "dice_by_case.png", "Dice of each case"))
        parts.append(_case_table(best))
    elif (epoch := counted_epoch(metrics)) is not None:
        newest = by_label(validation_scores(metrics, epoch))
        parts.append(f"<h2>Validation, epoch {epoch}</h2>{_absent_note(newest)}")
    return "<h2>Training</h2>" + "".join(parts)


def _absent_note(scores: Mapping[str, Sequence[Score]]) -> str:
    """Say what was found in cases that lack a label; nothing where all hold all."""
    told = {label: absent_in_words(own) for label, own in scores.items()}
    absent = [f"Without {escape(label)}: {words}." for label, words in told.items() if words]
    if not absent:
        return ""
    return f"<p class='note'>Dice is over the cases that hold the label. {' '.join(absent)}</p>"


def _label_summary(best: "pd.DataFrame") -> str:
    groups = best.groupby("label", sort=False).value
    rows = [
        (str(label), v.mean(), v.std(ddof=0), v.median(), v.min(), v.max(), len(v))
        for label, v in groups
    ]
    return _table(("label", "mean", "standard deviation", "median", "lowest", "highest", "n"), rows)


def _case_table(best: "pd.DataFrame") -> str:
    """Return the Dice of every case and label, the worst case first."""
    labels = list(dict.fromkeys(best.label))
    table = best.pivot_table("value", "case", "label")[labels]
    table["mean"] = table.mean(axis=1)
    table = table.sort_values("mean")
    rows = [(str(case), *values) for case, *values in table.itertuples()]
    body = _table(("case", *table.columns), rows)
    heading = "Every validation case, the worst first"
    return f"<details><summary>{heading}</summary>{body}</details>"


def _examples(
    examples: Sequence[Example],
    config: Mapping[str, Any],
    figures: Path,
    *,
    roles: Mapping[str, str],
) -> str:
    if not examples:
        return ""
    labels = tuple(config.get("labels", ()))
    shown = (
        _example(e, labels, figures / f"example_{i}.png", roles.get(e.name, NOT_KNOWN))
        for i, e in enumerate(examples, 1)
    )
    return "<h2>Examples</h2>" + "".join(shown) + f"<p class='note'>{_CONVENTIONS}</p>"


def _example(example: Example, labels: Sequence[str], path: Path, role: str) -> str:
    image, (truth, prediction) = example.image, _masks(example)
    masks = {"truth": truth, "prediction": prediction}
    title = f"{example.name} ({_role_in_words(role)})"
    overlay(image, **masks, path=path, title=title, labels=labels, overwrite=True)
    parts = [f"<h3>{escape(title)}</h3>", _picture(path, f"{title}: image, truth and prediction")]
    if truth is not None:
        rows = overlap_table(
            truth=truth.data, prediction=prediction.data, labels=labels, spacing=image.affine
        )
        names = [_HEADINGS.get(name, name) for name in rows[0]] if rows else []
        parts.append(_table(names, [_measures(row) for row in rows]))
    return f"<section>{''.join(parts)}</section>"


def _role_in_words(role: str) -> str:
    return "whether it was trained on is not known" if role == NOT_KNOWN else f"{role} case"


def _measures(row: Mapping[str, str | float | int]) -> Row:
    """Return the cells of a row; dashes for what an absent label has not."""
    if score_of_row(row).metric == DICE:
        return list(row.values())
    return [nan if name in OVERLAPS else value for name, value in row.items()]


def _masks(example: Example) -> tuple[Volume | None, Volume]:
    """Return truth and prediction, both background where the truth is to be ignored."""
    truth, prediction = example.truth, example.prediction
    if truth is None or not (ignored := truth.data == IGNORED).any():
        return truth, prediction
    check_same_grid(prediction, truth, ("prediction", "truth"))
    return truth.with_data(truth.data * ~ignored), prediction.with_data(prediction.data * ~ignored)


def _settings(config: Mapping[str, Any]) -> str:
    return f"<h2>Settings</h2>{_table(('setting', 'value'), list(_flat(config)))}"


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Yield nested settings as dotted names and text; the items of a list stand on one row each."""
    items = value if isinstance(value, list) else []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif any(isinstance(item, Mapping) for item in items):
        for number, item in enumerate(items, 1):
            yield f"{name} {number}", ", ".join(f"{key} {text}" for key, text in _flat(item))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, items)) or "none"
    else:
        yield name, "none" if value is None else str(value)


def _table(headings: Sequence[str], rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: str | float | int) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    text = "–" if text == "nan" else text
    return f'<td class="number">{text}</td>'


def _picture(path: Path, description: str) -> str:
    """Embed a PNG file; two of its pixels make one of the page."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20]) // 2
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img width="{width}" alt="{escape(description)}" src="{source}">'


_CONVENTIONS = """The slice with most foreground of each case, in radiological convention: the
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
<html lang="en">
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
