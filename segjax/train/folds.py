"""What the folds of a cross-validation came to."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.train.metrics import METRICS_FILE

FOLDS_FILE = "folds.csv"
COLUMNS = ("fold", "epoch", "case", "label", "metric", "value")


@dataclass(frozen=True)
class FoldScore:
    """Dice of one label in one case, by the best network of its fold."""

    fold: int
    epoch: int
    case: str
    label: str
    dice: float


def fold_folder(out: str | Path, fold: int) -> Path:
    """Return the folder of a fold's run.

    Example:
        >>> fold_folder("out", 3).name
        'fold3'
    """
    return Path(out) / f"fold{fold}"


def read_folds(out: str | Path, folds: int) -> list[FoldScore]:
    """Read the Dice of every case that was validated, at the best epoch of its fold.

    Args:
        out: Folder of the cross-validation, which holds ``fold0``, ``fold1``, …
        folds: Number of folds; those that were not validated yet are left out.

    Raises:
        InputError: A metrics file cannot be read.
    """
    from segjax.evaluate.metrics import best_epoch, read_metrics, validation_dice

    scores = []
    for fold in range(folds):
        path = fold_folder(out, fold) / METRICS_FILE
        if not path.is_file():
            continue
        metrics = read_metrics(path)
        if (best := best_epoch(metrics)) is not None:
            table = validation_dice(metrics)
            rows = table[table.epoch == best]
            scores += [
                FoldScore(fold, best, case, label, value)
                for case, label, value in zip(
                    rows.case.tolist(), rows.label.tolist(), rows.value.tolist(), strict=True
                )
            ]
    return scores


def write_folds(scores: Sequence[FoldScore], out: str | Path) -> Path:
    """Write ``folds.csv``: a row for every fold, case and label.

    Args:
        scores: As :func:`read_folds` returned them.
        out: Folder of the cross-validation.

    Returns:
        The file, replaced where it was there.

    Raises:
        InputError: It cannot be written.
    """
    path = Path(out) / FOLDS_FILE
    rows = [(s.fold, s.epoch, s.case, s.label, "dice", repr(s.dice)) for s in scores]
    with (
        atomic_path(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return path


def mean_by_label(scores: Sequence[FoldScore]) -> dict[str, dict[int, float]]:
    """Average Dice over the cases of each fold, for each label and for ``"mean"`` of the labels.

    Returns:
        Label -> fold -> mean Dice.

    Raises:
        InputError: There is no score.

    Example:
        >>> mean_by_label([FoldScore(0, 3, "a", "lesion", 0.5), FoldScore(0, 3, "b", "lesion", 1)])
        {'lesion': {0: 0.75}}
    """
    if not scores:
        raise InputError("no fold was validated yet")
    folds = sorted({score.fold for score in scores})
    labels = list(dict.fromkeys(score.label for score in scores))
    table = {
        label: {
            fold: fmean(s.dice for s in scores if (s.fold, s.label) == (fold, label))
            for fold in folds
        }
        for label in labels
    }
    if len(labels) > 1:
        table["mean"] = {fold: fmean(table[label][fold] for label in labels) for fold in folds}
    return table


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float, float]:
    """Return mean and standard deviation over folds, of n - 1 degrees of freedom; 0 of one fold.

    Example:
        >>> mean_and_deviation({0: 0.5, 1: 0.75, 2: 1.0})
        (0.75, 0.25)
    """
    numbers = list(values.values())
    return fmean(numbers), stdev(numbers) if len(numbers) > 1 else 0.0
