"""One HTML page that shows a whole training: curves, Dice, pictures, settings, origin."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.io.formats import check_same_grid
from segjax.data.labels import IGNORED
from segjax.evaluate.overlap import overlap_table
from segjax.evaluate.roles import NOT_KNOWN, by_role, read_roles, role_in_words
from segjax.evaluate.scores import by_label, validation_scores
from segjax.provenance import read_parts
from segjax.report import page
from segjax.report.plots import dice_by_case, learning_curves, overlay
from segjax.runs.folder import RunFolder
from segjax.runs.metrics import best_epoch, counted_epoch, read_metrics, validation_dice
from segjax.text import duration
from segjax.volume import Volume

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Example", "write_report"]


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
        >>> from segjax import read
        >>> Example("case 7", read("flair.nii.gz"), None, read("lesions.nii.gz")).name
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
        >>> write_report("run")
        PosixPath('run/report.html')
    """
    folder = RunFolder(Path(run))
    config = page.read_config(folder.config)
    metrics = read_metrics(folder.metrics)
    figures = page.make_folder(folder.figures)
    roles = read_roles(run)
    sections = [
        _overview(config, metrics, roles),
        _training(folder.metrics, metrics, figures),
        _examples(examples, config, figures, roles=roles),
        page.cases(roles),
        page.settings(config),
        page.origin(read_parts(run)),
    ]
    title = f"{config.get('name') or folder.path.resolve().name}: {config.get('model', 'training')}"
    return page.write_page(folder.report, title, sections)


def _overview(config: Mapping[str, Any], metrics: "pd.DataFrame", roles: Mapping[str, str]) -> str:
    facts = {"model": config.get("model", ""), "epochs": metrics.epoch.max()}
    if (epoch := best_epoch(metrics)) is not None:
        rows = validation_dice(metrics)
        best = rows[rows.epoch == epoch]
        facts = {"mean validation Dice": f"{best.value.mean():.3f}", "best epoch": epoch} | facts
        facts["validation cases"] = len(validation_scores(metrics, epoch))
    facts |= {f"{role} cases": len(names) for role, names in by_role(roles).items()}
    seconds = metrics[metrics.metric == "seconds"].value
    if len(seconds):
        facts["time of training"] = duration(seconds.max())
    return page.tiles(facts)


def _training(path: Path, metrics: "pd.DataFrame", figures: Path) -> str:
    learning_curves(path, figures / "learning_curves.png", overwrite=True)
    parts = [page.picture(figures / "learning_curves.png", "Loss and validation Dice by epoch")]
    if (epoch := best_epoch(metrics)) is not None:
        dice_by_case(path, figures / "dice_by_case.png", overwrite=True)
        rows = validation_dice(metrics)
        best = rows[rows.epoch == epoch]
        parts.append(f"<h2>Validation Dice, epoch {epoch}</h2>")
        dice = {str(name): own.tolist() for name, own in best.groupby("label", sort=False).value}
        parts.append(page.dice_summary(dice))
        parts.append(page.absent_note(by_label(validation_scores(metrics, epoch))))
        parts.append(page.picture(figures / "dice_by_case.png", "Dice of each case"))
        parts.append(_case_table(best))
    elif (epoch := counted_epoch(metrics)) is not None:
        newest = by_label(validation_scores(metrics, epoch))
        parts.append(f"<h2>Validation, epoch {epoch}</h2>{page.absent_note(newest)}")
    return "<h2>Training</h2>" + "".join(parts)


def _case_table(best: "pd.DataFrame") -> str:
    """Return the Dice of every case and label, the worst case first."""
    labels = list(dict.fromkeys(best.label))
    table = best.pivot_table("value", "case", "label")[labels]
    table["mean"] = table.mean(axis=1)
    table = table.sort_values("mean")
    rows = [(str(case), *values) for case, *values in table.itertuples()]
    body = page.table(("case", *table.columns), rows)
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
    return "<h2>Examples</h2>" + "".join(shown) + page.note(page.CONVENTIONS)


def _example(example: Example, labels: Sequence[str], path: Path, role: str) -> str:
    image, (truth, prediction) = example.image, _masks(example)
    masks = {"truth": truth, "prediction": prediction}
    title = f"{example.name} ({role_in_words(role)})"
    overlay(image, **masks, path=path, title=title, labels=labels, overwrite=True)
    parts = [
        f"<h3>{escape(title)}</h3>",
        page.picture(path, f"{title}: image, truth and prediction"),
    ]
    if truth is not None:
        rows = overlap_table(
            truth=truth.data, prediction=prediction.data, labels=labels, spacing=image.affine
        )
        names = page.headings(rows[0]) if rows else []
        parts.append(page.table(names, [page.measures(row) for row in rows]))
    return f"<section>{''.join(parts)}</section>"


def _masks(example: Example) -> tuple[Volume | None, Volume]:
    """Return truth and prediction, both background where the truth is to be ignored."""
    truth, prediction = example.truth, example.prediction
    if truth is None or not (ignored := truth.data == IGNORED).any():
        return truth, prediction
    check_same_grid(prediction, truth, ("prediction", "truth"))
    return truth.with_data(truth.data * ~ignored), prediction.with_data(prediction.data * ~ignored)
