"""The table of a run's metrics, which survives a crash at any moment."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from segjax.files import atomic_path
from segjax.train.checkpoints import disk_errors

METRICS_FILE = "metrics.csv"
COLUMNS = ("run", "epoch", "split", "case", "label", "metric", "value")


class Row(NamedTuple):
    """One value.

    Attributes:
        epoch: Epoch at whose end it was measured, from 1 on.
        split: ``"train"`` or ``"validation"``.
        metric: ``"loss"``, ``"seconds"``, or that of a :class:`segjax.evaluate.scores.Score`.
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
        with (
            atomic_path(self.path, overwrite=True) as path,
            path.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *kept])

    def _read(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))[1:]

    def _values(self, row: Row) -> tuple[str | int | float, ...]:
        return self._run, row.epoch, row.split, row.case, row.label, row.metric, row.value


def _is_whole(row: list[str]) -> bool:
    return len(row) == len(COLUMNS) and row[1].isdecimal()
