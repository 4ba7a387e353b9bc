"""Compare folders of masks, file by file."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.formats import check_same_grid, read_label, stem
from segjax.errors import InputError
from segjax.evaluate.metrics import COLUMNS
from segjax.evaluate.overlap import overlap_table
from segjax.files import atomic_path
from segjax.progress import track

__all__ = ["Pair", "compare_masks", "match_masks", "write_metrics"]

Row = dict[str, str | float]

_NAMED = 3  # cases that a warning names


class Pair(NamedTuple):
    """The files of one case: its true labels and what was predicted."""

    case: str
    truth: Path
    prediction: Path


def match_masks(predictions: str | Path, labels: str | Path) -> list[Pair]:
    """Find the label of every predicted mask, by name.

    Args:
        predictions: Folder of predicted masks, or one file.
        labels: Folder of true labels with the same names (suffixes may differ), or one file.

    Returns:
        The pairs, sorted by name. Labels without a prediction are left out, and so are the
        ``NAME_probabilities`` that ``segjax predict --probabilities`` writes.

    Raises:
        InputError: There is no prediction, or one has no label.

    Warns:
        UserWarning: Labels have no prediction.

    Example:
        >>> match_masks("masks/a.nii.gz", "labels/a_truth.nii.gz")  # doctest: +SKIP
        [Pair(case='a', truth=PosixPath('labels/a_truth.nii.gz'), ...)]
    """
    predictions, labels = Path(predictions), Path(labels)
    if predictions.is_file() and labels.is_file():
        return [Pair(stem(predictions), labels, predictions)]
    found, truths = _masks(predictions), _masks(labels)
    if missing := sorted(set(found) - set(truths)):
        raise InputError(
            f"{labels}: no label named {missing[0]} for {found[missing[0]]}"
            f"{f' (nor for {len(missing) - 1} others)' if len(missing) > 1 else ''}"
        )
    if left_out := sorted(set(truths) - set(found)):
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        warnings.warn(
            f"{predictions}: no prediction for {', '.join(left_out[:_NAMED])}{more}; left out",
            stacklevel=2,
        )
    return [Pair(name, truths[name], found[name]) for name in sorted(found)]


def compare_masks(pairs: Sequence[Pair], *, names: Sequence[str] = ()) -> list[Row]:
    """Measure how well each predicted mask covers its label.

    Args:
        pairs: The files of each case.
        names: Names of the label values 1, 2, …; their numbers where none are given.

    Returns:
        The rows of :func:`segjax.evaluate.overlap.overlap_table`, each with its ``case``; none
        for a label that occurs in no file, which would count as perfect.

    Raises:
        InputError: A file is no label map, holds more labels than names, or lies on another
            grid than its partner.
    """
    present = _values(pairs)
    numbers = [str(value) for value in range(1, max(present, default=1) + 1)]
    labels = ("background", *(names or numbers))
    measured = {labels[value] for value in present or {1} if value < len(labels)}
    return [
        {"case": pair.case, **row}
        for pair in track(pairs, "Comparing")
        for row in _compare(pair, labels)
        if row["label"] in measured
    ]


def write_metrics(
    rows: Iterable[Row], path: str | Path, *, split: str = "", overwrite: bool = False
) -> Path:
    """Write rows as CSV, one line for each case, label and metric.

    The columns are those of a run's ``metrics.csv``, so that
    :func:`segjax.evaluate.metrics.read_metrics` reads it; run stays empty and epoch is 0.

    Args:
        rows: What :func:`compare_masks` returned.
        path: File to write.
        split: What the cases were for, such as ``"test"``.
        overwrite: Replace a file that exists.

    Returns:
        The file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    with (
        atomic_path(Path(path), overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for row in rows:
            for metric, value in row.items():
                if metric not in ("case", "label"):
                    where = {"case": row["case"], "label": row["label"], "split": split}
                    table.writerow({"epoch": 0, **where, "metric": metric, "value": value})
    return Path(path)


def _masks(folder: Path) -> dict[str, Path]:
    from segjax.data.formats import IMAGE_SUFFIXES

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give two folders, or two files")
    listed = [f for f in sorted(folder.iterdir()) if not f.name.startswith(".")]
    files = {stem(f): f for f in listed if f.name.endswith(IMAGE_SUFFIXES)}
    files = {name: file for name, file in files.items() if not name.endswith("_probabilities")}
    if not files:
        raise InputError(f"{folder}: holds no mask ({', '.join(IMAGE_SUFFIXES)})")
    return files


def _values(pairs: Sequence[Pair]) -> set[int]:
    """List the foreground values that occur in any file."""
    files = [file for pair in pairs for file in (pair.truth, pair.prediction)]
    found = [np.unique(read_label(file).data) for file in track(files, "Reading", unit="file")]
    return {int(value) for value in np.concatenate(found)} - {0}


def _compare(pair: Pair, labels: Sequence[str]) -> list[Row]:
    truth = read_label(pair.truth, classes=len(labels))
    prediction = read_label(pair.prediction, classes=len(labels))
    check_same_grid(prediction, truth, (str(pair.prediction), str(pair.truth)))
    return overlap_table(truth.data, prediction.data, labels, truth.spacing)
