"""Read the metrics of a run: a tidy table, one row for each value."""

import os
from typing import TYPE_CHECKING

from segjax.errors import InputError
from segjax.evaluate.scores import DICE, FALSE_POSITIVES, Score
from segjax.extras import how_to_install

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "best_epoch",
    "counted_epoch",
    "read_metrics",
    "validation_dice",
    "validation_scores",
]

COLUMNS = {
    "run": str,
    "epoch": int,
    "split": str,
    "case": str,
    "label": str,
    "metric": str,
    "value": float,
}
"""Columns of a metrics file and their types; ``case`` and ``label`` may be empty text."""


def read_metrics(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read a metrics file.

    Args:
        path: CSV file with the columns ``run, epoch, split, case, label, metric, value``.

    Returns:
        One row for each value.

    Raises:
        InputError: When the file cannot be read, lacks a column or holds text for a number.

    Example:
        >>> read_metrics("run/metrics.csv").value.max()  # doctest: +SKIP
        0.8931
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(f"reading metrics needs pandas: {how_to_install('train')}") from error
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
        return table[list(COLUMNS)].astype(COLUMNS)
    except KeyError as error:
        columns = ", ".join(COLUMNS)
        raise InputError(f"{path}: is no metrics file, whose columns are {columns}") from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a metrics file ({reason})") from error


def validation_dice(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows that hold the Dice of one validation case and label.

    There is one for every case and label whose truth holds the label. (Runs of segjax 0.1.0 hold
    one for the others too: 1 where nothing was found, else 0.)

    Args:
        metrics: Table that ``read_metrics`` gave.

    Returns:
        Some of its rows; none before the first validation.
    """
    wanted = (metrics.split == "validation") & (metrics.metric == DICE) & (metrics.case != "")
    return metrics[wanted]


def best_epoch(metrics: "pd.DataFrame") -> int | None:
    """Return the epoch whose mean validation Dice is highest, the first of equals.

    Args:
        metrics: Table that ``read_metrics`` gave.

    Returns:
        The epoch; None before the first validation, or where no case holds a label.
    """
    means = validation_dice(metrics).groupby("epoch").value.mean()
    return None if means.empty else int(means.index[int(means.argmax())])


def counted_epoch(metrics: "pd.DataFrame") -> int | None:
    """Return the epoch whose network counts: the best, or the newest where none has a Dice.

    Args:
        metrics: Table that ``read_metrics`` gave.

    Returns:
        The epoch; None before the first validation.
    """
    best, validated = best_epoch(metrics), _scored(metrics).epoch
    return int(validated.max()) if best is None and len(validated) else best


def validation_scores(metrics: "pd.DataFrame", epoch: int) -> dict[str, dict[str, Score]]:
    """Return what counts by validation case and label at the end of an epoch.

    Args:
        metrics: Table that ``read_metrics`` gave.
        epoch: The epoch.

    Returns:
        The scores, in the order of the table.
    """
    rows = _scored(metrics[metrics.epoch == epoch])
    scores: dict[str, dict[str, Score]] = {}
    columns = (rows[name].tolist() for name in ("case", "label", "metric", "value"))
    for case, label, metric, value in zip(*columns, strict=True):
        scores.setdefault(case, {})[label] = Score(metric, value)
    return scores


def _scored(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of one validation case and label each."""
    wanted = metrics.metric.isin([DICE, *FALSE_POSITIVES.values()])
    return metrics[wanted & (metrics.split == "validation") & (metrics.case != "")]
