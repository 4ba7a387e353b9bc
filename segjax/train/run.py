"""One training, whoever makes its steps: how far it is, and what it writes into its folder."""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax.data.loaded import TrainingCase
from segjax.data.loader import Loader, Sampling
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.evaluate.scores import Scores, mean_dice
from segjax.runs.folder import RunFolder
from segjax.runs.metrics import MetricsFile, Row
from segjax.train.checkpoints import Checkpoints
from segjax.train.config import TrainConfig
from segjax.train.failure import save_failed_batch
from segjax.train.resume import write_run
from segjax.train.step import TrainState
from segjax.train.tensorboard import Board

__all__ = ["AHEAD", "Progress", "Run", "Underway", "make_loader"]

AHEAD = 2  # steps that may be under way before the host waits for the oldest of them
_ALL = slice(None)


@dataclass(frozen=True)
class Progress:
    """How far a training is: with the state, all that it takes to go on exactly.

    Attributes:
        epoch: Epochs done, validation included.
        losses: Losses of the steps of the epoch under way.
        best_dice: Highest mean validation Dice.
        best_epoch: Its epoch.
        stale: Validations since then.
        seconds: Time so far.
    """

    epoch: int = 0
    losses: tuple[float, ...] = ()
    best_dice: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    seconds: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """Read what a checkpoint keeps beside the state; of nothing, the beginning."""
        return cls(**{**values, "losses": tuple(values.get("losses", ()))})

    @property
    def is_best(self) -> bool:
        """Whether no epoch before the one that has just ended was as good."""
        return not self.losses and self.best_epoch == self.epoch

    def steps(self, per_epoch: int) -> int:
        """Return how many steps are done."""
        return self.epoch * per_epoch + len(self.losses)

    def finished(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or Dice has not risen for too long."""
        tired = config.patience is not None and self.stale >= config.patience
        return self.epoch >= config.epochs or tired

    def validated(self, dice: float | None) -> "Progress":
        """Return the progress after the validation of an epoch; without a Dice it is the same."""
        if dice is None:
            return self
        if self.best_dice is None or dice > self.best_dice:
            return dataclasses.replace(self, best_dice=dice, best_epoch=self.epoch, stale=0)
        return dataclasses.replace(self, stale=self.stale + 1)


class Run:
    """A training, in a folder that any command takes: :func:`fit` drives one, a sweep several.

    Args:
        folder: Of the run.
        config: What is trained.
        loader: Where the batches come from.
        checkpoints: In the folder; ``None`` on a host that writes nothing.
        progress: How far it is.

    Attributes:
        progress: As given, and from then on what the methods make of it.
        failure: Why it ends before its time; ``None`` while all is well.
        board: Its TensorBoard logs, where there are any.

    Example:
        >>> from segjax.data import LoadedCase
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> case = LoadedCase("head", image.channels_last, label.data, image, label)
        >>> loader = Loader([case], Sampling((16, 16), batch_size=2))
        >>> config = TrainConfig("unet2d-k3", (16, 16))
        >>> run = Run(Path("own-run"), config, loader, None, Progress())
        >>> run.begin(Split(("head",), ()))
        >>> run.add_loss(0.7)
        >>> run.end_epoch(None)
        (0.7, None)
        >>> run.progress.epoch
        1
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        loader: Loader,
        checkpoints: Checkpoints | None,
        progress: Progress,
    ):
        self.folder, self.config, self.progress = folder, config, progress
        self.failure: InputError | None = None
        self.board: Board | None = None
        self._loader, self._checkpoints = loader, checkpoints
        self._metrics = MetricsFile(RunFolder(folder).metrics, config.name)
        self._best: tuple[TrainState, Progress] | None = None
        self._saved = progress

    def begin(self, split: Split, *, tensorboard: bool = False) -> None:
        """Write what is trained, and drop what was measured after the present progress.

        Raises:
            InputError: The folder cannot be written.
        """
        if self._checkpoints is None:
            return
        write_run(self.folder, self.config, split)
        self._metrics.rewind(self.progress.epoch)
        if tensorboard:
            self.board = Board(self.folder, self.config, self.steps_per_epoch, self.step)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of each epoch."""
        return self._loader.steps_per_epoch

    @property
    def step(self) -> int:
        """Steps done, which is the number of the next one, counted from 0."""
        return self.progress.steps(self.steps_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.failure is not None or self.progress.finished(self.config)

    @property
    def is_validated(self) -> bool:
        """Whether the epoch under way ends with a validation."""
        epoch = self.progress.epoch + 1
        return epoch % self.config.validate_every == 0 or epoch == self.config.epochs

    def add_loss(self, loss: float) -> None:
        """Add the loss of a step; one that is not finite ends the training, its batch is kept.

        Raises:
            InputError: The batch cannot be written.
        """
        if self.failure is not None:
            return
        if not math.isfinite(loss):
            self.failure = InputError(f"the loss became {loss} at step {self.step + 1}")
            if self._checkpoints is not None:
                place = self.folder, self.config, self._loader, self.step
                self.failure = save_failed_batch(*place, loss)
        losses = (*self.progress.losses, loss)
        self.progress = dataclasses.replace(self.progress, losses=losses)

    def add_seconds(self, seconds: float) -> None:
        """Add time that was spent on this training."""
        total = self.progress.seconds + seconds
        self.progress = dataclasses.replace(self.progress, seconds=total)

    def end_epoch(self, scores: Scores | None) -> tuple[float, float | None]:
        """Write what an epoch gave.

        Args:
            scores: Of its validation; ``None`` where there was none.

        Returns:
            Mean loss, and mean Dice of the validation where a case holds a label.
        """
        losses, epoch = self.progress.losses, self.progress.epoch + 1
        loss = float(np.mean(losses))
        dice = None if scores is None else mean_dice(scores)
        self.progress = dataclasses.replace(self.progress, epoch=epoch, losses=()).validated(dice)
        if self._checkpoints is not None:
            rows = [Row(epoch, "train", "loss", loss)]
            rows += [] if scores is None else _score_rows(epoch, scores)
            seconds = self.progress.seconds
            self._metrics.append([*rows, Row(epoch, "train", "seconds", seconds)])
            if self.board:
                self.board.epoch(epoch, losses, scores, seconds)
        return loss, dice

    def hold_best(self, state: TrainState) -> None:
        """Copy the state where it is the best so far, until the next checkpoint is written."""
        if self.progress.is_best:
            self._best = jax.tree.map(jnp.copy, state), self.progress

    def save(self, state: TrainState | None) -> None:
        """Write a checkpoint of the best state, where it was held, and of the present one.

        The last one goes on being written after the return.

        Args:
            state: The present state; ``None`` where there is none to go on from.

        Raises:
            InputError: The disk is or was full or not writable.
        """
        if self._checkpoints is None:
            return
        if self.board:
            self.board.steps(self.progress.epoch, self.progress.losses)
        if self._best is not None:
            self._write(*self._best)
            self._best = None
        if state is not None:
            self._write(state, self.progress)

    def close(self) -> None:
        """Wait for what is still being written.

        Raises:
            InputError: The disk was full or not writable.
        """
        self.__exit__(None, None, None)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if self._checkpoints is not None:
                self._checkpoints.__exit__(*error)
        finally:
            if self.board:
                self.board.close()

    def _write(self, state: TrainState, progress: Progress) -> None:
        if (progress.epoch, progress.losses) == (self._saved.epoch, self._saved.losses):
            return
        assert self._checkpoints is not None
        last, every = progress.epoch == self.config.epochs, self.config.validate_every
        self._checkpoints.save(
            progress.steps(self.steps_per_epoch),
            state,
            dataclasses.asdict(progress),
            best=progress.is_best,
            keep_former=last and progress.epoch % every != 0,
        )
        self._saved = progress


class Underway:
    """Losses of the newest steps, and the time that trainings take together.

    Waiting for a loss only some steps later keeps the device busy all the time, and keeps the
    host from running ahead without limit.
    """

    def __init__(self) -> None:
        self._losses: deque[tuple[Float[Array, "*run"], Sequence[Run]]] = deque()
        self._marked = time.monotonic()

    def append(self, losses: Float[Array, "*run"], runs: Sequence[Run]) -> None:
        """Add the losses of one step of some trainings, which the device may not know yet."""
        losses.copy_to_host_async()
        self._losses.append((losses, runs))

    def settle(self, runs: Sequence[Run], *, ahead: int = 0) -> None:
        """Wait for all losses but some of the newest; share the time since the last call.

        Args:
            runs: All trainings under way, which get equal shares.
            ahead: How many of :meth:`append` may be left.
        """
        while len(self._losses) > ahead:
            losses, own = self._losses.popleft()
            values = np.ravel(jax.device_get(losses)).tolist()
            for run, loss in zip(own, values, strict=True):
                run.add_loss(loss)
        now = time.monotonic()
        for run in runs:
            run.add_seconds((now - self._marked) / len(runs))
        self._marked = now


def make_loader(
    config: TrainConfig, cases: Sequence[TrainingCase], *, rows: slice = _ALL
) -> Loader:
    """Make the source of a training's batches, of which a host makes some rows.

    Raises:
        InputError: Patch size, channels or cases do not fit together.
    """
    sampling = Sampling(
        config.patch_size, config.batch_size, config.foreground, config.patches_per_case
    )
    return Loader(cases, sampling, augment=config.augment, seed=config.seed, rows=rows)


def _score_rows(epoch: int, scores: Scores) -> list[Row]:
    """Return the rows of a validation for the metrics file."""
    return [
        Row(epoch, "validation", score.metric, score.value, case, label)
        for case, labels in scores.items()
        for label, score in labels.items()
    ]
