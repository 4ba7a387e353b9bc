"""What the folds of a cross-validation came to."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from segjax.errors import InputError
from segjax.evaluate.scores import DICE, Score
from segjax.files import atomic_path
from segjax.runs.metrics import METRICS_FILE

FOLDS_FILE = "folds.csv"
COLUMNS = ("fold", "epoch", "case", "label", "metric", "value")


@dataclass(frozen=True)
class FoldScore:
    """What counts of one label in one case, by the best network of its fold.

    Attributes:
        fold: Number of the fold.
        epoch: Epoch of its best network; where none of its cases holds a label, of the newest.
        case: Name of the case.
        label: Name of the label.
        score: Dice where the case holds the label, else what was found.
    """

    fold: int
    epoch: int
    case: str
    label: str
    score: Score


def fold_folder(out: str | Path, fold: int) -> Path:
    """Return the folder of a fold's run.

    Example:
        >>> fold_folder("out", 3).name
        'fold3'
    """
    return Path(out) / f"fold{fold}"


def read_folds(out: str | Path, folds: int) -> list[FoldScore]:
    """Read what counts of every case that was validated, at the best epoch of its fold.

    Args:
        out: Folder of the cross-validation, which holds ``fold0``, ``fold1``, …
        folds: Number of folds; those that were not validated yet are left out.

    Raises:
        InputError: A metrics file cannot be read.
    """
    from segjax.evaluate.metrics import counted_epoch, read_metrics, validation_scores

    scores = []
    for fold in range(folds):
        path = fold_folder(out, fold) / METRICS_FILE
        if not path.is_file():
            continue
        metrics = read_metrics(path)
        if (epoch := counted_epoch(metrics)) is not None:
            scores += [
                FoldScore(fold, epoch, case, label, score)
                for case, labels in validation_scores(metrics, epoch).items()
                for label, score in labels.items()
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
    rows = [(s.fold, s.epoch, s.case, s.label, s.score.metric, s.score.value) for s in scores]
    with (
        atomic_path(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return path


def mean_by_label(scores: Sequence[FoldScore]) -> dict[str, dict[int, float]]:
    """Average Dice over the cases of each fold, for each label and for ``"mean"`` of the labels.

    Returns:
        Label -> fold -> mean Dice of the cases that hold the label; a fold without one is left
        out.

    Raises:
        InputError: There is no score.

    Example:
        >>> mean_by_label([
        ...     FoldScore(0, 3, "a", "lesion", Score("dice", 0.5)),
        ...     FoldScore(0, 3, "b", "lesion", Score("dice", 1.0)),
        ... ])
        {'lesion': {0: 0.75}}
    """
    if not scores:
        raise InputError("no fold was validated yet")
    table: dict[str, dict[int, float]] = {score.label: {} for score in scores}
    for fold in sorted({score.fold for score in scores}):
        own = [score for score in scores if score.fold == fold]
        for label, means in table.items():
            dice = [s.score.value for s in own if s.label == label and s.score.metric == DICE]
            if dice:
                means[fold] = fmean(dice)
    return table | ({"mean": _mean_of_labels(table.values())} if len(table) > 1 else {})


def _mean_of_labels(labels: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Average the labels of each fold that has any."""
    folds: dict[int, list[float]] = {}
    for means in labels:
        for fold, mean in means.items():
            folds.setdefault(fold, []).append(mean)
    return {fold: fmean(means) for fold, means in sorted(folds.items())}


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float, float]:
    """Return mean and standard deviation over folds, of n - 1 degrees of freedom; 0 of one fold.

    Example:
        >>> mean_and_deviation({0: 0.5, 1: 0.75, 2: 1.0})
        (0.75, 0.25)
    """
    numbers = list(values.values())
    return fmean(numbers), stdev(numbers) if len(numbers) > 1 else 0.0
