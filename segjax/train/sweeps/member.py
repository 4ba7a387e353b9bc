"""One training of a sweep: what it has learned so far, and the folder it lives in."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from segjax.data.loader import Loader
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.evaluate.scores import DICE, Score, Scores, mean_dice
from segjax.files import write_json
from segjax.runs.folder import RunFolder
from segjax.train.checkpoints import Checkpoints
from segjax.train.config import TrainConfig
from segjax.train.network import Network
from segjax.train.resume import check_run
from segjax.train.run import Progress, Run
from segjax.train.step import TrainState


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
    path = RunFolder(folder).result
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return MemberResult(**{**content, "test": _scores(content["test"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is no result of a sweep ({error}); remove it") from error


class MemberRun(Run):
    """A member that trains.

    Args:
        member: What to train.
        folder: Of the member.
        split: Names of the cases.
        loader: Where the batches of any member come from.
        first_state: Draws the first parameters by a key.
        tensorboard: Whether to write TensorBoard logs too.

    Attributes:
        state: After the steps done, as long as no program holds it.
        device: Which it trains on; ``None`` before it is given one.
        begun: Steps that were handed to the device; the losses of the newest are not known yet.
    """

    def __init__(
        self,
        member: Member,
        folder: Path,
        *,
        split: Split,
        loader: Loader,
        first_state: Callable[[jax.Array], TrainState],
        tensorboard: bool = False,
    ):
        check_run(folder, member.config, split, resume=True)
        folder.mkdir(parents=True, exist_ok=True)
        network = Network(member.config, loader.steps_per_epoch)
        self._template = jax.eval_shape(first_state, network.first_key)
        self._own = Checkpoints(RunFolder(folder).checkpoints)
        restored = self._own.restore_last(self._template)
        state, meta = restored or (first_state(network.first_key), {})
        loader, progress = loader.reseeded(member.seed), Progress.from_json(meta)
        super().__init__(folder, member.config, loader, self._own, progress)
        self.member, self.key = member, network.dropout_key
        self.state: TrainState | None = state
        self.device: jax.Device | None = None
        self.begun = self.step
        self.begin(split, tensorboard=tensorboard)

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of an epoch have begun, but not yet its validation."""
        over = self.begun == (self.progress.epoch + 1) * self.steps_per_epoch
        return over and self.failure is None

    def take_state(self) -> TrainState:
        """Hand the state over to a program, which uses its memory again."""
        state, self.state = self.state, None
        assert state is not None
        return state

    def finish(self, measure: Callable[[Any], Scores]) -> None:
        """Write the last checkpoint and what the member came to.

        Args:
            measure: Gives the scores of the test cases for the variables of a network.
        """
        self.save(None if self.failure else self.take_state())
        found = self._own.restore_best(self._template)
        if found is None and not self.failure:  # no validation case holds a label
            found = self._own.restore_last(self._template)
        progress = self.progress
        result = MemberResult(
            progress.best_dice,
            progress.best_epoch,
            progress.epoch,
            self.step,
            progress.seconds,
            measure(found[0].variables) if found else {},
            str(self.failure or "").removeprefix(f"{self.folder}{os.sep}"),
        )
        path = RunFolder(self.folder).result
        write_json(dataclasses.asdict(result), path, overwrite=True, indent=1)
        self.close()


def _scores(content: Mapping[str, Mapping[str, Any]]) -> Scores:
    """Read scores from JSON; those of earlier versions are Dice alone."""
    return {
        case: {
            label: Score(*one) if isinstance(one, list) else Score(DICE, float(one))
            for label, one in labels.items()
        }
        for case, labels in content.items()
    }
