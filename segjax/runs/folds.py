"""What the folds of a cross-validation came to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev

from segjax.errors import InputError
from segjax.files import read_csv, write_csv
from segjax.runs.folder import RunFolder
from segjax.runs.metrics import DICE, counted_epoch, read_metrics, validation_rows

__all__ = [
    "FoldScore",
    "mean_and_deviation",
    "mean_by_label",
    "read_folds",
    "read_scores",
    "write_folds",
]


@dataclass(frozen=True)
class FoldScore:
    """What counts of one label in one case, by the best network of its fold.

    Attributes:
        fold: Number of the fold.
        epoch: Epoch of its best network; where none of its cases holds a label, of the newest.
        case: Name of the case.
        label: Name of the label.
        metric: ``"dice"`` where the case holds the label, else the name of what was found.
        value: Its value.
    """

    fold: int
    epoch: int
    case: str
    label: str
    metric: str
    value: float


def read_folds(out: str | Path, folds: int) -> list[FoldScore]:
    """Read what counts of every case that was validated, at the best epoch of its fold.

    Args:
        out: Folder of the cross-validation, which holds ``fold0``, ``fold1``, …
        folds: Number of folds; those that were not validated yet are left out.

    Raises:
        InputError: A metrics file cannot be read.
    """
    paths = {fold: RunFolder(Path(out)).fold(fold).metrics for fold in range(folds)}
    there = {fold: read_metrics(path) for fold, path in paths.items() if path.is_file()}
    return [
        FoldScore(fold, epoch, row.case, row.label, row.metric, row.value)
        for fold, metrics in there.items()
        if (epoch := counted_epoch(metrics)) is not None
        for row in validation_rows(metrics, epoch)
    ]


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
    path = RunFolder(Path(out)).fold_scores
    rows = [[field.name for field in fields(FoldScore)], *map(astuple, scores)]
    write_csv(rows, path, overwrite=True)
    return path


def read_scores(path: Path) -> list[FoldScore]:
    """Read what :func:`write_folds` wrote.

    Raises:
        InputError: The file cannot be read, or is no such table.
    """
    rows = read_csv(path)
    try:
        return [
            FoldScore(
                int(row["fold"]), int(row["epoch"]), row["case"], row["label"], row["metric"],
                float(row["value"]),
            )
            for row in rows
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no table of the folds of a cross-validation") from error


def mean_by_label(scores: Sequence[FoldScore]) -> dict[str, dict[int, float]]:
    """Average Dice over the cases of each fold, for each label and for ``"mean"`` of the labels.

    Returns:
        Label -> fold -> mean Dice of the cases that hold the label; a fold without one is left
        out.

    Raises:
        InputError: There is no score.

    Example:
        >>> mean_by_label([
        ...     FoldScore(0, 3, "a", "lesion", "dice", 0.5),
        ...     FoldScore(0, 3, "b", "lesion", "dice", 1.0),
        ... ])
        {'lesion': {0: 0.75}}
    """
    if not scores:
        raise InputError("no fold was validated yet")
    dice: dict[str, dict[int, list[float]]] = {score.label: {} for score in scores}
    for score in sorted(scores, key=lambda one: one.fold):
        if score.metric == DICE:
            dice[score.label].setdefault(score.fold, []).append(score.value)
    table = {label: _means(folds) for label, folds in dice.items()}
    return table | ({"mean": _mean_of_labels(table.values())} if len(table) > 1 else {})


def _mean_of_labels(labels: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Average the labels of each fold that has any."""
    folds: dict[int, list[float]] = {}
    for means in labels:
        for fold, mean in means.items():
            folds.setdefault(fold, []).append(mean)
    return _means(dict(sorted(folds.items())))


def _means(values: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {fold: fmean(own) for fold, own in values.items()}


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float, float]:
    """Return mean and standard deviation over folds, of n - 1 degrees of freedom; 0 of one fold.

    Example:
        >>> mean_and_deviation({0: 0.5, 1: 0.75, 2: 1.0})
        (0.75, 0.25)
    """
    numbers = list(values.values())
    return fmean(numbers), stdev(numbers) if len(numbers) > 1 else 0.0
