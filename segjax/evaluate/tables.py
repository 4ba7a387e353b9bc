"""Write what was measured of many cases as CSV."""

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from segjax.evaluate.compare import Comparison, Row
from segjax.evaluate.scores import DICE, measures_of, of_absent, score_of_row
from segjax.files import atomic_path
from segjax.runs.metrics import COLUMNS

__all__ = ["write_lesions", "write_metrics"]


def write_metrics(
    rows: Iterable[Row], path: str | Path, *, split: str = "", overwrite: bool = False
) -> Path:
    """Write rows as CSV, one line for each case, label and metric.

    The columns are those of a run's ``metrics.csv``, so that
    :func:`segjax.runs.metrics.read_metrics` reads it; run stays empty and epoch is 0. Where a
    case lacks a label, ``false_positive_ml`` (``false_positive_pixels`` of 2D images) stands in
    the place of Dice and of all else that tells how well a label is met, so that means over the
    file are those over the cases that hold it.

    Args:
        rows: What :func:`segjax.evaluate.compare.score` returned.
        path: File to write.
        split: What the cases were for, such as ``"test"``.
        overwrite: Replace a file that exists.

    Returns:
        The file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    lines = (
        {"epoch": 0, "case": row["case"], "label": row["label"], "split": split}
        | {"metric": metric, "value": value}
        for row in rows
        for metric, value in _measures(row).items()
    )
    return _write(lines, COLUMNS, Path(path), overwrite=overwrite)


def _measures(row: Row) -> dict[str, str | float]:
    """Return what a row measures; of a case that lacks the label what means something there."""
    score = score_of_row(row)
    if score.metric == DICE:
        return measures_of(row)
    return {score.metric: score.value, **of_absent(row)}


def write_lesions(
    cases: Iterable[Comparison], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write every lesion of every case as CSV, one line for each.

    The columns are ``case``, ``label``, ``mask`` (truth or prediction), ``lesion`` (its number,
    the largest first), ``outcome`` (found, missed; true, false), ``voxels``, ``mm3`` (``mm2`` of
    2D images), and the centre ``x``, ``y``, ``z`` in mm: to the patient's right, front and head,
    as viewers show it.

    Args:
        cases: What :func:`segjax.evaluate.compare.compare_cases` measured.
        path: File to write.
        overwrite: Replace a file that exists.

    Returns:
        The file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    cases = list(cases)
    rows = [row for case in cases for row in _lesion_rows(case)]
    rank = len(cases[0].affine) - 1 if cases else 3
    columns = ("case", "label", "mask", "lesion", "outcome", "voxels", f"mm{rank}", *"xyz"[:rank])
    return _write(rows, columns, Path(path), overwrite=overwrite)


def _write(
    rows: Iterable[Mapping[str, object]], columns: Collection[str], path: Path, *, overwrite: bool
) -> Path:
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)
    return path


def _lesion_rows(case: Comparison) -> Iterable[Row]:
    for label, match in case.lesions.items():
        for mask, lesions, words in (
            ("truth", match.truth, ("missed", "found")),
            ("prediction", match.prediction, ("false", "true")),
        ):
            for number, lesion in enumerate(lesions, 1):
                place = case.affine[:-1] @ np.array([*lesion.centre, 1.0])
                yield {
                    "case": case.pair.case,
                    "label": label,
                    "mask": mask,
                    "lesion": number,
                    "outcome": words[lesion.matched],
                    "voxels": lesion.voxels,
                    f"mm{match.rank}": round(lesion.size, 4),
                    **dict(zip("xyz", np.round(place, 2).tolist(), strict=False)),
                }
