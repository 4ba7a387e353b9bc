"""One training of a sweep: what it has learned so far, and the folder it lives in."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.cases import Split
from segjax.errors import InputError
from segjax.evaluate.scores import DICE, Score, Scores, mean_dice
from segjax.files import atomic_path
from segjax.runs.folder import check_run, write_run
from segjax.runs.metrics import METRICS_FILE, MetricsFile, Row
from segjax.train._fit import Network, Progress, score_rows
from segjax.train.checkpoints import CHECKPOINT_FOLDER, Checkpoints
from segjax.train.config import TrainConfig
from segjax.train.step import TrainState
from segjax.train.tensorboard import Board
from segjax.train.transfer import warm_start

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Member:
    """One combination of a sweep.

    Attributes:
        kernel: Kernel size of the network.
        alpha: Weight of false negatives in the Tversky loss.
        seed: Of first weights, data order, augmentation and dropout.
        config: All of that as the configuration of an ordinary training.
    """

    kernel: int
    alpha: float
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """Name of the member and of its folder."""
        return self.config.name


@dataclass(frozen=True)
class MemberResult:
    """What a finished member came to.

    Attributes:
        validation_dice: Highest mean Dice of the validation cases that hold a label; None where it
            diverged before, or no case holds one.
        epoch: Its epoch.
        epochs: Epochs done.
        steps: Steps done.
        seconds: Its share of the time that its program ran.
        test: What counts by case and label of the best network on the test cases.
        error: Why it ended before its time; empty where all was well.
    """

    validation_dice: float | None
    epoch: int | None
    epochs: int
    steps: int
    seconds: float
    test: Scores
    error: str = ""

    @property
    def test_dice(self) -> float | None:
        """Mean Dice over the pairs of test case and label whose truth holds the label."""
        return mean_dice(self.test)


def read_result(folder: Path) -> MemberResult | None:
    """Read what a member came to; ``None`` where it is not finished.

    Raises:
        InputError: The file cannot be read.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return MemberResult(**{**content, "test": _scores(content["test"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is no result of a sweep ({error}); remove it") from error


class MemberRun:
    """A member that trains, in a folder that any command takes as an ordinary run.

    Args:
        member: What to train.
        folder: Of the member.
        split: Names of the cases.
        first_state: Draws the first parameters by a key.
        steps_per_epoch: Steps of each epoch.
        tensorboard: Whether to write TensorBoard logs too.

    Attributes:
        state: After the steps done, as long as no program holds it.
        device: Which it trains on; ``None`` before it is given one.
        progress: How far it is.
        begun: Steps that were handed to the device; the losses of the newest are not known yet.
        error: Why it ends before its time; empty while all is well.
    """

    def __init__(
        self,
        member: Member,
        folder: Path,
        split: Split,
        first_state: Callable[[jax.Array], TrainState],
        steps_per_epoch: int,
        *,
        tensorboard: bool = False,
    ):
        check_run(folder, member.config, split, resume=True)
        folder.mkdir(parents=True, exist_ok=True)
        network = Network(member.config, steps_per_epoch)
        self.member, self._folder, self._per_epoch = member, folder, steps_per_epoch
        self.key, self.error = network.dropout_key, ""
        self._template = jax.eval_shape(first_state, network.first_key)
        self._checkpoints = Checkpoints(folder / CHECKPOINT_FOLDER)
        restored = self._checkpoints.restore_last(self._template)
        state, meta = restored or (self._first(first_state, network.first_key), None)
        self.state: TrainState | None = state
        self.device: jax.Device | None = None
        self.progress = _progress(meta) if meta else Progress()
        self._saved = self.step if meta else -1
        self._best: tuple[TrainState, Progress] | None = None
        self.begun = self.step
        write_run(folder, member.config, split)
        self._metrics = MetricsFile(folder / METRICS_FILE, member.name)
        self._metrics.rewind(self.progress.epoch)
        self._board = None
        if tensorboard:
            self._board = Board(folder, member.config, steps_per_epoch, self.step)

    def _first(self, draw: Callable[[jax.Array], TrainState], key: jax.Array) -> TrainState:
        return warm_start(draw(key), self.member.config)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.progress.epoch * self._per_epoch + len(self.progress.losses)

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of an epoch have begun, but not yet its validation."""
        return self.begun == (self.progress.epoch + 1) * self._per_epoch

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self.error) or self.progress.finished(self.member.config)

    def take_state(self) -> TrainState:
        """Hand the state over to a program, which uses its memory again."""
        state, self.state = self.state, None
        assert state is not None
        return state

    def add_loss(self, loss: float) -> None:
        """Add the loss of a step; one that is not finite ends the member."""
        if not math.isfinite(loss):
            self.error = f"the loss became {loss} at step {self.step + 1}"
        self.progress = dataclasses.replace(self.progress, losses=(*self.progress.losses, loss))

    def add_seconds(self, seconds: float) -> None:
        """Add time that was spent on this member."""
        total = self.progress.seconds + seconds
        self.progress = dataclasses.replace(self.progress, seconds=total)

    @property
    def is_validated(self) -> bool:
        """Whether the epoch that is over ends with a validation."""
        epoch, config = self.progress.epoch + 1, self.member.config
        return epoch % config.validate_every == 0 or epoch == config.epochs

    def end_epoch(self, state: TrainState, scores: Scores | None) -> None:
        """Write what an epoch gave, and keep the state where it is the best so far."""
        losses, epoch = self.progress.losses, self.progress.epoch + 1
        rows = [Row(epoch, "train", "loss", float(np.mean(losses)))]
        self.progress = dataclasses.replace(self.progress, epoch=epoch, losses=())
        if scores is not None:
            rows += score_rows(epoch, scores)
            self.progress = self.progress.validated(mean_dice(scores))
        self._metrics.append([*rows, Row(epoch, "train", "seconds", self.progress.seconds)])
        if self._board:
            self._board.epoch(epoch, losses, scores, self.progress.seconds)
        if scores is not None and self.progress.best_epoch == epoch:
            self._best = jax.tree.map(jnp.copy, state), self.progress

    def save(self, state: TrainState) -> None:
        """Write the best state, where it is new, and the present one."""
        if self._best is not None:
            self._write(*self._best, best=True)
            self._best = None
        if self._board:
            self._board.steps(self.progress.epoch, self.progress.losses)
        self._write(state, self.progress)

    def finish(self, measure: Callable[[Any], Scores]) -> None:
        """Write the last checkpoint and what the member came to.

        Args:
            measure: Gives the scores of the test cases for the variables of a network.
        """
        if not self.error:
            self.save(self.take_state())
        elif self._best is not None:
            self._write(*self._best, best=True)
        found = self._checkpoints.restore_best(self._template)
        if found is None and not self.error:  # no validation case holds a label
            found = self._checkpoints.restore_last(self._template)
        progress = self.progress
        result = MemberResult(
            progress.best_dice,
            progress.best_epoch,
            progress.epoch,
            self.step,
            progress.seconds,
            measure(found[0].variables) if found else {},
            self.error,
        )
        with atomic_path(self._folder / RESULT_FILE, overwrite=True) as path:
            path.write_text(json.dumps(dataclasses.asdict(result), indent=1) + "\n")
        self.close()

    def close(self) -> None:
        """Wait for what is still being written."""
        self._checkpoints.close()
        if self._board:
            self._board.close()

    def _write(self, state: TrainState, progress: Progress, *, best: bool = False) -> None:
        step = progress.epoch * self._per_epoch + len(progress.losses)
        if step > self._saved:
            self._checkpoints.save(step, state, dataclasses.asdict(progress), best=best)
            self._saved = step


def _progress(meta: dict[str, Any]) -> Progress:
    return Progress(**{**meta, "losses": tuple(meta["losses"])})


def _scores(content: Mapping[str, Mapping[str, Any]]) -> Scores:
    """Read scores from JSON; those of earlier versions are Dice alone."""
    return {
        case: {
            label: Score(*one) if isinstance(one, list) else Score(DICE, float(one))
            for label, one in labels.items()
        }
        for case, labels in content.items()
    }
