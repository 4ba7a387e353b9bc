"""The table of a run's metrics: written so that it survives a crash at any moment, and read."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import disk_errors, write_csv

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "DICE",
    "FALSE_POSITIVES",
    "MetricsFile",
    "Row",
    "best_epoch",
    "counted_epoch",
    "read_metrics",
    "validation_dice",
    "validation_rows",
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
DICE = "dice"
FALSE_POSITIVES = {2: "false_positive_pixels", 3: "false_positive_ml"}
"""Name of what counts where the truth lacks a label, by the rank of the masks."""


class Row(NamedTuple):
    """One value.

    Attributes:
        epoch: Epoch at whose end it was measured, from 1 on.
        split: ``"train"`` or ``"validation"``.
        metric: ``"loss"``, ``"seconds"``, :data:`DICE` or one of :data:`FALSE_POSITIVES`.
        value: The value.
        case: Name of the case; empty for a value of all cases.
        label: Name of the label; empty for a value of all labels.
    """

    epoch: int
    split: str
    metric: str
    value: float
    case: str = ""
    label: str = ""


class MetricsFile:
    """A tidy CSV file with the columns ``run, epoch, split, case, label, metric, value``.

    Args:
        path: The file.
        run: Name of the run, the same in every row.

    Example:
        >>> import tempfile
        >>> metrics = MetricsFile(Path(tempfile.mkdtemp()) / "metrics.csv", "first")
        >>> metrics.rewind(0)
        >>> metrics.append([Row(1, "train", "loss", 0.5)])
        >>> metrics.path.read_text().splitlines()[1]
        'first,1,train,,,loss,0.5'
    """

    def __init__(self, path: Path, run: str):
        self.path = path
        self._run = run

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows; they are on the disk when this returns.

        Raises:
            InputError: The disk is full or not writable.
        """
        with disk_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(self._values(row) for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, epoch: int) -> None:
        """Keep the rows up to an epoch, and drop those after it and any that was cut short.

        The file is made where it is absent.

        Args:
            epoch: Last epoch to keep; 0 keeps no row.
        """
        kept = [row for row in self._read() if _is_whole(row) and int(row[1]) <= epoch]
        write_csv([COLUMNS, *kept], self.path, overwrite=True)

    def _read(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))[1:]

    def _values(self, row: Row) -> tuple[str | int | float, ...]:
        return self._run, row.epoch, row.split, row.case, row.label, row.metric, row.value


def read_metrics(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read a metrics file.

    Args:
        path: CSV file with the columns ``run, epoch, split, case, label, metric, value``.

    Returns:
        One row for each value.

    Raises:
        InputError: When the file cannot be read, lacks a column or holds text for a number.

    Example:
        >>> sorted(read_metrics("run/metrics.csv").metric.unique())
        ['dice', 'loss', 'seconds']
    """
    with needed_for("reading metrics"):
        import pandas as pd
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


def validation_rows(metrics: "pd.DataFrame", epoch: int) -> list[Row]:
    """Return what counts by validation case and label at the end of an epoch.

    Args:
        metrics: Table that ``read_metrics`` gave.
        epoch: The epoch.

    Returns:
        In the order of the table: Dice where the case holds the label, else what was found.
    """
    rows = _scored(metrics[metrics.epoch == epoch])
    return [
        Row(*values) for values in zip(*(rows[name].tolist() for name in Row._fields), strict=True)
    ]


def _scored(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of one validation case and label each."""
    wanted = metrics.metric.isin([DICE, *FALSE_POSITIVES.values()])
    return metrics[wanted & (metrics.split == "validation") & (metrics.case != "")]


def _is_whole(row: list[str]) -> bool:
    return len(row) == len(COLUMNS) and row[1].isdecimal()
