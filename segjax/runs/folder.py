"""The folder of a training, of a sweep or of a cross-validation: names, what it is, how far."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segjax.errors import InputError
from segjax.files import locked, read_json, read_json_object

__all__ = ["Kind", "RunFolder", "owned"]

Kind = Literal["run", "sweep", "cross-validation"]
_FOLD = re.compile(r"fold(\d+)")


class _Entry:
    """A file or folder of a fixed name; of the class itself, the name alone."""

    def __init__(self, name: str):
        self._name = Path(name)

    def __get__(self, folder: "RunFolder | None", owner: type) -> Path:
        return self._name if folder is None else folder.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """What lies where in the folder of a run, of a sweep or of a cross-validation.

    Every name is that of a file or folder in it, whether it is there or not.

    Args:
        path: The folder; need not exist.

    Example:
        >>> RunFolder(Path("out")).fold(3).metrics.as_posix()
        'out/fold3/metrics.csv'
        >>> str(RunFolder.metrics)
        'metrics.csv'
    """

    path: Path

    config = _Entry("config.json")
    split = _Entry("split.json")
    inputs = _Entry("inputs.json")
    metrics = _Entry("metrics.csv")
    provenance = _Entry("provenance.json")
    checkpoints = _Entry("checkpoints")
    tensorboard = _Entry("tensorboard")
    init = _Entry("init.npz")
    failed_batch = _Entry("failed-batch.npz")
    model = _Entry("model.onnx")
    report = _Entry("report.html")
    figures = _Entry("figures")
    lesions = _Entry("lesions.csv")  # of an evaluation

    grid = _Entry("sweep.json")
    runs = _Entry("runs")
    result = _Entry("result.json")  # of one training of a sweep, when it ends
    results = _Entry("results.csv")
    images = _Entry("images.csv")
    examples = _Entry("examples")

    fold_scores = _Entry("folds.csv")

    @property
    def kind(self) -> Kind | None:
        """What the folder is; None where it is none of these."""
        if self.config.is_file():
            return "run"
        if self.grid.is_file():
            return "sweep"
        begun = self.fold_scores.is_file() or any(fold.config.is_file() for fold in self.folds)
        return "cross-validation" if begun else None

    def member(self, name: str) -> "RunFolder":
        """Return the folder of one training of a sweep."""
        return RunFolder(self.runs / name)

    @property
    def sweep(self) -> "RunFolder | None":
        """The sweep that the run is a part of, if it is."""
        whole = RunFolder(self.path.absolute().parent.parent)
        return whole if whole.grid.exists() else None

    def fold(self, number: int) -> "RunFolder":
        """Return the folder of one fold of a cross-validation."""
        return RunFolder(self.path / f"fold{number}")

    @property
    def folds(self) -> tuple["RunFolder", ...]:
        """The folders of folds that are there, by their numbers."""
        found = [fold for fold in self.path.glob("fold*") if _FOLD.fullmatch(fold.name)]
        return tuple(map(RunFolder, sorted(found, key=lambda fold: int(fold.name[4:]))))

    @property
    def other_folds(self) -> tuple["RunFolder", ...]:
        """All folds of the cross-validation that the run is a part of; none of another run."""
        return RunFolder(self.path.parent).folds if _FOLD.fullmatch(self.path.name) else ()

    @property
    def has_checkpoints(self) -> bool:
        """Whether a training has got as far as a checkpoint."""
        return bool(self._steps())

    @property
    def planned_epochs(self) -> int:
        """For how many epochs a training was begun; 0 where none is there."""
        return read_json_object(self.config).get("epochs", 0) if self.config.exists() else 0

    @property
    def epoch(self) -> int | None:
        """Epochs that the newest readable checkpoint has seen; None where there is none."""
        return self._learned()[0]

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train, by the newest readable checkpoint."""
        if self.result.is_file():
            return True
        epoch, stale = self._learned()
        patience = read_json_object(self.config).get("patience")
        tired = patience is not None and stale >= patience
        return epoch is not None and (tired or epoch >= self.planned_epochs)

    def _steps(self) -> list[Path]:
        """Return the folders of the checkpoints, the newest first."""
        steps = [step for step in self.checkpoints.glob("*") if step.name.isdecimal()]
        return sorted(steps, key=lambda step: int(step.name), reverse=True)

    def _learned(self) -> tuple[int | None, int]:
        """Return epochs done and those without a better validation, by the newest checkpoint."""
        for step in self._steps():
            with contextlib.suppress(InputError, KeyError, TypeError, ValueError, AttributeError):
                meta = read_json(step / "content" / "metadata")["meta"]
                return int(meta.get("epoch", 0)), int(meta.get("stale", 0))
        return None, 0


@contextlib.contextmanager
def owned(run: Path) -> Iterator[None]:
    """Make the folder and keep other trainings out of it; a killed one keeps nobody out.

    Where the block leaves the folder empty, it is removed again, with the parents made for it.

    Raises:
        InputError: Another training is running in the folder, or it cannot be made.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if run.is_file() else f"cannot be made ({error.strerror})"
        raise InputError(f"{run}: {reason}; give another folder for the run") from error
    with locked(run) as free:
        if not free:
            raise InputError(f"{run}: another training is running in this folder; wait for it")
        try:
            yield
        finally:
            for folder in (RunFolder(run).checkpoints, *made):
                with contextlib.suppress(OSError):  # one that holds something stays
                    folder.rmdir()
