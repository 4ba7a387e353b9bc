"""The loop around the training step: sample, step, validate, save, resume."""

import json
import math
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np

from segjax.codec import check_survives
from segjax.data.cases import Case, Dataset, StoredCase
from segjax.data.loader import Loader, prefetch
from segjax.data.splits import Split
from segjax.data.workers import default_workers
from segjax.errors import InputError
from segjax.evaluate.scores import DICE, FALSE_POSITIVES, Score, Scores
from segjax.interrupt import Stop, stoppable
from segjax.provenance import recording
from segjax.runs.folder import RunFolder, owned
from segjax.text import plural
from segjax.train.cases import Loaded, choose_cases, folder_of_cases, load_cases
from segjax.train.checkpoints import Checkpoints
from segjax.train.config import TrainConfig
from segjax.train.devices import Devices, choose_devices, gather_floats, is_first_host, share_first
from segjax.train.display import Display, show_loading, show_resumption, show_training
from segjax.train.inputs import check_inputs, write_inputs
from segjax.train.network import Network, Objects, check_network, handed
from segjax.train.resident import keep_on_devices
from segjax.train.resume import check_run
from segjax.train.run import AHEAD, Progress, Run, Underway, make_loader
from segjax.train.scoring import Scorer
from segjax.train.step import TrainState
from segjax.train.tensorboard import check_tensorboard, overlay_png
from segjax.train.transfer import hold, recorded


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Attributes:
        run: Its folder.
        epochs: Epochs done; fewer than configured where it stopped early.
        best_epoch: Epoch of the best validation, from 1 on; ``None`` where no validation case
            holds a label.
        best_dice: Its Dice, averaged over the pairs of case and label whose truth holds the label.
        seconds: Time of training and validation, over all its parts.

    Example:
        >>> FitResult(Path("run"), epochs=20, best_epoch=17, best_dice=0.89, seconds=61).best_dice
        0.89
    """

    run: Path
    epochs: int
    best_epoch: int | None
    best_dice: float | None
    seconds: float


@dataclass(frozen=True)
class Loading:
    """How batches get to the network, which decides the time of a training and not its result.

    Where a CPU trains, a thread of this process draws them. For an accelerator, all training cases
    are kept on it where they fit; else processes draw the batches, where grain is installed.

    Attributes:
        workers: Processes that draw and augment batches ahead (they need the package grain, and a
            program that begins with ``if __name__ == "__main__":``); 0 takes a thread of this
            process. Any number gives the same bits. ``None`` leaves it to the rule above.
        on_device: Whether all training cases are kept on the device, and batches cut and
            augmented there (:class:`segjax.train.resident.ResidentLoader`). Images differ from
            those of the other ways by rounding. ``None`` leaves it to the rule above, unless a
            number of workers is given.

    Raises:
        InputError: The number is negative, or both are asked for.

    Example:
        >>> Loading(workers=2, on_device=True)
        Traceback (most recent call last):
        segjax.errors.InputError: ...
    """

    workers: int | None = None
    on_device: bool | None = None

    def __post_init__(self) -> None:
        if (self.workers or 0) < 0:
            raise InputError(f"{self.workers} workers: give 0 or more")
        if self.workers and self.on_device:
            raise InputError(
                f"{self.workers} workers (--workers) have nothing to do where data are kept on the "
                "device (--data-on-device): choose one of both"
            )

    def batches(self, loader: Loader, steps: range) -> Generator[Any, None, None]:
        """Return the batches of some steps, drawn ahead; close them after use."""
        on_host = self.on_device is None and self.workers is not None
        wanted = False if on_host else self.on_device
        if kept := keep_on_devices(loader, jax.local_devices()[:1], wanted):
            return prefetch(next(iter(kept.values())), steps)
        workers = self.workers
        if workers is None:
            workers = 0 if jax.default_backend() == "cpu" else default_workers(loader.nbytes)
        processes = plural(workers, "process") if workers else "a thread of this process"
        show_loading(f"drawn by {processes}")
        return prefetch(loader, steps, workers=workers)


_AS_FITS = Loading()


class RunFinishedError(InputError):
    """The folder holds this very training, and it is finished.

    Attributes:
        result: What it came to.

    Example:
        >>> result = FitResult(Path("run"), epochs=20, best_epoch=17, best_dice=0.89, seconds=61)
        >>> raise RunFinishedError(result)
        Traceback (most recent call last):
        segjax.train._fit.RunFinishedError: run: this training is finished (epochs: 20, best ...
    """

    def __init__(self, result: FitResult):
        self.result = result
        dice = "" if result.best_dice is None else f", best Dice {result.best_dice:.4f}"
        super().__init__(
            f"{result.run}: this training is finished (epochs: {result.epochs}{dice}) and is not "
            "overwritten; give another folder to train again"
        )


def fit(
    config: TrainConfig,
    dataset: Dataset[StoredCase],
    split: Split,
    out: str | Path,
    *,
    resume: bool = True,
    checkpoint_seconds: float = 60.0,
    loading: Loading = _AS_FITS,
    tensorboard: bool = False,
    **objects: Unpack[Objects],
) -> FitResult:
    """Train a network, validate it on whole cases, and keep the best.

    The folder gets ``config.json``, ``split.json``, ``inputs.json`` (digests of the cases),
    ``metrics.csv``, ``provenance.json`` (date, command, data, time, machine and versions of each
    part of the training) and ``checkpoints/``, and with ``config.init`` the weights that it starts
    from in ``init.npz``, so that it goes on where their source has moved. A training that was
    stopped at any moment, even by ``kill -9``, goes on when ``fit`` is called again with the same
    arguments, and ends on the same CPU with the same parameters to the bit and the same metrics
    (``seconds`` apart) as if it had never been stopped. Validation measures Dice on whole cases,
    against the label map on the grid that it has on disk. Data that cannot be used leave nothing
    behind. At Ctrl-C a checkpoint is written before ``KeyboardInterrupt`` comes.

    With the schedule ``"constant"`` a training goes on for more epochs than it was begun with, and
    ends as if all had been asked for at once.

    The same configuration, data and split give the same bits again, in any process and with any
    number of workers, on one CPU with the same versions of JAX and segjax and the same number of
    devices. A GPU chooses its kernels by timing them, and some of these add in an order that
    varies: by XLA's documentation ``XLA_FLAGS=--xla_gpu_deterministic_ops=true`` keeps it from
    both, and costs speed.

    Cases of a cache are read patch by patch, so that a set of any size takes no more memory than
    a small one; others are read and preprocessed as a whole before the first step.

    Args:
        config: What to train.
        dataset: Labelled cases, or those of a cache that was made with ``config.pipeline``.
        split: Names of the cases to train and to validate on.
        out: Folder of the run.
        resume: Whether to go on with a training that is there.
        checkpoint_seconds: Time after which a checkpoint is written within an epoch; at the end
            of each there always is one.
        loading: How batches get to the network; may change from one part of a training to the
            next, and then only from or to ``on_device`` at the price of rounding.
        tensorboard: Whether to write curves, and a picture of a validation case whenever Dice
            rises, for TensorBoard to show (:class:`segjax.train.tensorboard.Board`).
        objects: A ``network``, ``loss`` or ``optimizer`` that has no name, in the place of the
            configured one: see :class:`segjax.train.network.Objects`. The run then goes on only
            where it is handed over again.

    Raises:
        RunFinishedError: The folder holds this training, finished.
        InputError: The data, the configuration or the folder cannot be used, a part of the
            configuration has no name to be stored by, a case has changed since the training there
            began, the disk is full, or the loss is not finite any more (the batch lies in
            ``failed-batch.npz`` then); the message says what to do.

    Example:
        >>> import functools
        >>> import segjax
        >>> network = functools.partial(segjax.models.UNet, channels=(4, 8), strides=(2,))
        >>> network = segjax.register("network", "small", network)
        >>> settings = {"model": "small", "epochs": 1, "patch_size": (32, 32)}
        >>> plan = segjax.plan("slices", settings)
        >>> fit(plan.config, plan.dataset, plan.split, "first-run").epochs
        1
    """
    with handed(config, **objects) as marked:
        return _fit(
            marked,
            dataset,
            split,
            Path(out),
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            loading=loading,
            tensorboard=tensorboard,
        )


def _fit(
    config: TrainConfig,
    dataset: Dataset[StoredCase],
    split: Split,
    out: Path,
    *,
    resume: bool,
    checkpoint_seconds: float,
    loading: Loading,
    tensorboard: bool,
) -> FitResult:
    check_survives(config, kind=TrainConfig)
    config = recorded(config, out)
    cases = choose_cases(dataset, split)
    if tensorboard:
        check_tensorboard()
    per_epoch = math.ceil(len(split.train) * config.patches_per_case / config.batch_size)
    network = Network(config, per_epoch)
    check_network(network)
    if config.patience is not None and not cases.validation:
        warnings.warn("patience does nothing without validation cases", stacklevel=2)
    devices = choose_devices(config.batch_size)
    with _folder(out, config, split, resume=resume) as checkpoints:
        folder = RunFolder(out)
        identities = check_inputs(out, cases, begun=folder.has_checkpoints) if checkpoints else {}
        planned = folder.planned_epochs if checkpoints else config.epochs
        restored = checkpoints and _last(network, checkpoints, planned)
        state, progress = _shared(restored or (network.first(out), {}), devices)
        if progress.finished(config):
            if planned < config.epochs:
                _warn_of_patience(out, config, progress)
            raise RunFinishedError(_result(out, progress))
        done = {"done": progress.epoch, "first_step": progress.steps(per_epoch)}
        show_resumption(config.epochs, per_epoch, **done)
        data = load_cases(config, cases)
        loader = make_loader(config, data.train, rows=devices.rows(config.batch_size))
        run = Run(out, config, loader, checkpoints, progress)
        shown = next((case.source for case in cases.validation), None)
        loop = _Loop(network, data, run, devices, shown=shown, seconds=checkpoint_seconds)
        steps = range(run.step, config.epochs * per_epoch)
        drawn = devices.ahead(loading.batches(loader, steps), config.batch_size)
        with closing(drawn) as batches, run:
            if checkpoints:
                hold(config, out, begun=folder.has_checkpoints)
            run.begin(split, tensorboard=tensorboard)
            if checkpoints:
                write_inputs(out, identities, config, data.train)
            part = recording(out, folder_of_cases(cases)) if checkpoints else nullcontext()
            with part:
                loop.run(state, batches)
    return _result(out, run.progress)


class _Loop:
    """The loop around the steps of one training."""

    def __init__(
        self,
        network: Network,
        data: Loaded,
        run: Run,
        devices: Devices,
        *,
        shown: Case | None,
        seconds: float,
    ):
        self._config, self._network, self._run, self._devices = run.config, network, run, devices
        self._validation, self._shown = data.validation, shown
        self._between, self._stop = seconds, Stop()
        self._scorer = Scorer(
            data.validation[jax.process_index() :: jax.process_count()],
            run.config,
            network.predict,
            devices=devices.count,
            locality=lambda: network.locality,
        )
        self._underway, self._saved = Underway(), time.monotonic()

    def run(self, state: TrainState, batches: Iterator[Any]) -> None:
        """Train to the end, or until Ctrl-C, at which a checkpoint is written."""
        run = self._run
        shown = show_training(run.config.epochs, run.steps_per_epoch, first_step=run.step)
        note = "stopping: writing a checkpoint first"
        self._underway = Underway()
        with shown as display, stoppable(note) as self._stop:
            while not run.finished:
                state = self._steps(state, batches, display)
                self._end_epoch(state, display)

    def _steps(self, state: TrainState, batches: Iterator[Any], display: Display) -> TrainState:
        """Do the steps that are left of an epoch."""
        run, last = self._run, (self._run.progress.epoch + 1) * self._run.steps_per_epoch
        for step in range(run.step + 1, last + 1):
            images, labels = next(batches)
            key = self._network.dropout_key
            state, metrics = self._network.train_step(state, images, labels, key)
            self._underway.append(metrics["loss"], [run])
            self._settle(AHEAD)
            display.step(step, next(iter(run.progress.losses[-1:]), None))
            if self._stop.asked or (self._due() and step != last):
                self._save(state)
            self._stop.check()
        self._settle()
        return state

    def _settle(self, ahead: int = 0) -> None:
        self._underway.settle([self._run], ahead=ahead)
        if self._run.failure is not None:
            raise self._run.failure

    def _end_epoch(self, state: TrainState, display: Display) -> None:
        """Validate the network of an epoch, and write what the epoch gave."""
        run, epoch = self._run, self._run.progress.epoch + 1
        scores = None
        if run.is_validated and self._validation:
            display.validate(epoch)
            try:
                scores = self._validate(state)
            except KeyboardInterrupt:
                self._save(state)
                raise
        self._settle()
        loss, dice = run.end_epoch(scores)
        if run.board and run.progress.is_best and self._shown:
            run.board.picture(epoch, "validation", self._draw(state, self._shown, epoch))
        self._save(state)
        display.epoch(epoch, loss, dice, run.progress.best_dice)

    def _due(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return time.monotonic() - self._saved >= self._between

    def _save(self, state: TrainState) -> None:
        self._settle()
        self._run.save(state)
        self._saved = time.monotonic()

    def _validate(self, state: TrainState) -> Scores:
        """Measure all cases; the hosts share them."""
        hosts, names = jax.process_count(), self._config.labels[1:]
        table = np.zeros((len(self._validation), len(names), 2))
        variables = self._devices.local(state.variables)
        found = self._scorer.scores(variables, self._stop.check)
        mine = range(jax.process_index(), len(table), hosts)
        for index, scores in zip(mine, found.values(), strict=True):
            table[index] = [(scores[name].metric == DICE, scores[name].value) for name in names]
        table = gather_floats(table).sum(axis=0) if hosts > 1 else table
        absent = FALSE_POSITIVES[len(self._config.patch_size)]
        return {
            case.name: {
                name: Score(DICE if there else absent, value)
                for name, (there, value) in zip(names, row, strict=True)
            }
            for case, row in zip(self._validation, table.tolist(), strict=True)
        }

    def _draw(self, state: TrainState, source: Case, epoch: int) -> bytes | None:
        """Draw how the network segments the first validation case."""
        case = self._validation[0].loaded()
        mask = self._scorer.segment(self._devices.local(state.variables), case)
        labels, title = self._config.labels, f"{case.name}, epoch {epoch}"
        return overlay_png(source, case.raw_label, mask, labels=labels, title=title)


@contextmanager
def _folder(
    out: Path, config: TrainConfig, split: Split, *, resume: bool
) -> Iterator[Checkpoints | None]:
    """Open the folder of the run for the first host, whose part it is to write."""
    if not is_first_host():
        yield None
        return
    with owned(out):
        check_run(out, config, split, resume=resume)
        with Checkpoints(RunFolder(out).checkpoints) as checkpoints:
            yield checkpoints


def _shared(
    start: tuple[TrainState, dict[str, Any]], devices: Devices
) -> tuple[TrainState, Progress]:
    """Give all hosts and devices what the first host goes on from."""
    state, text = share_first(start[0], json.dumps(start[1]))
    return devices.replicate(state), Progress.from_json(json.loads(text))


def _last(
    network: Network, checkpoints: Checkpoints, planned: int
) -> tuple[TrainState, dict[str, Any]] | None:
    """Read the newest checkpoint that a training of all epochs would have had, too.

    The last of fewer epochs may have ended with a validation that is out of step with the others.
    """
    config, template = network.config, jax.eval_shape(network.init)
    restored = checkpoints.restore_last(template)
    if restored is None or not config.epochs > planned == restored[1]["epoch"]:
        return restored
    if planned % config.validate_every == 0:
        return restored
    warnings.warn(
        f"the validation after epoch {planned} is dropped, and the steps since the checkpoint "
        f"before it are done again: a training of {config.epochs} epochs with validate_every "
        f"{config.validate_every} has none there",
        stacklevel=3,
    )
    return checkpoints.restore_last(template, before=int(restored[0].step))


def _warn_of_patience(run: Path, config: TrainConfig, progress: Progress) -> None:
    warnings.warn(
        f"{run}: the training there stopped after epoch {progress.epoch}, since its patience of "
        f"{config.patience} was over: more epochs change nothing",
        stacklevel=3,
    )


def _result(run: Path, progress: Progress) -> FitResult:
    return FitResult(run, progress.epoch, progress.best_epoch, progress.best_dice, progress.seconds)
