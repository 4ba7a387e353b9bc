"""The loop around the training step: sample, step, validate, save, resume."""

import contextlib
import dataclasses
import functools
import json
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from segjax.data.cache.cache import CachedCase
from segjax.data.cases import Case, Split
from segjax.data.loader import Loader, Sampling, prefetch
from segjax.errors import InputError
from segjax.evaluate.scores import DICE, FALSE_POSITIVES, Score, Scores, mean_dice
from segjax.interrupt import Stop, stoppable
from segjax.provenance import recording
from segjax.runs.folder import check_run, has_checkpoints, owned, planned_epochs, write_run
from segjax.runs.metrics import METRICS_FILE, MetricsFile, Row
from segjax.train.cases import (
    AnyDataset,
    Chosen,
    Loaded,
    choose_cases,
    folder_of_cases,
    load_cases,
    with_maps,
)
from segjax.train.checkpoints import CHECKPOINT_FOLDER, Checkpoints
from segjax.train.config import TrainConfig, create_model
from segjax.train.devices import (
    Devices,
    choose_devices,
    gather_floats,
    is_first_host,
    share_first,
)
from segjax.train.display import Display, show_resumption, show_training
from segjax.train.failure import save_failed_batch
from segjax.train.inputs import check_inputs, write_inputs
from segjax.train.optimizers import make_optimizer
from segjax.train.resident import ResidentLoader
from segjax.train.step import (
    TrainState,
    init_state,
    make_predict,
    make_train_step,
)
from segjax.train.storable import check_storable
from segjax.train.tensorboard import Board, check_tensorboard, overlay_png
from segjax.train.transfer import freeze, freeze_norms, hold, recorded, warm_start
from segjax.train.validate import segment_case, validate_cases, window_batch

_AHEAD = 2  # steps that may be under way before the host waits for the oldest of them


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
    """

    run: Path
    epochs: int
    best_epoch: int | None
    best_dice: float | None
    seconds: float


@dataclass(frozen=True)
class Loading:
    """How batches get to the network, which decides the time of a training and not its result.

    Attributes:
        workers: Processes that draw and augment batches ahead (they need the package grain);
            0 takes a thread of this process. Any number gives the same bits.
        on_device: Whether all training cases are kept on the device, and batches cut and
            augmented there (:class:`segjax.train.resident.ResidentLoader`). Images differ from
            those of the other ways by rounding.

    Raises:
        InputError: The number is negative, or both are asked for.
    """

    workers: int = 0
    on_device: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"{self.workers} workers: give 0 or more")
        if self.workers and self.on_device:
            raise InputError(
                f"{self.workers} workers have nothing to do where data are kept on the device: "
                "choose one of both"
            )

    def batches(self, loader: Loader, steps: range) -> Generator[Any, None, None]:
        """Return the batches of some steps, drawn ahead; close them after use."""
        if not self.on_device:
            return prefetch(loader, steps, workers=self.workers)
        source = ResidentLoader(loader)
        for first in steps[:1]:
            source.batch(first)  # compiles: XLA may hang where two threads do so
        return prefetch(source, steps)


_BY_THREAD = Loading()


class RunFinishedError(InputError):
    """The folder holds this very training, and it is finished.

    Attributes:
        result: What it came to.
    """

    def __init__(self, result: FitResult):
        self.result = result
        dice = "" if result.best_dice is None else f", best Dice {result.best_dice:.4f}"
        super().__init__(
            f"{result.run}: this training is finished (epochs: {result.epochs}{dice}) and is not "
            "overwritten; give another folder to train again"
        )


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


def fit(
    config: TrainConfig,
    dataset: AnyDataset,
    split: Split,
    out: str | Path,
    *,
    resume: bool = True,
    checkpoint_seconds: float = 60.0,
    loading: Loading = _BY_THREAD,
    tensorboard: bool = False,
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

    Raises:
        RunFinishedError: The folder holds this training, finished.
        InputError: The data, the configuration or the folder cannot be used, a part of the
            configuration has no name to be stored by, a case has changed since the training there
            began, the disk is full, or the loss is not finite any more (the batch lies in
            ``failed-batch.npz`` then); the message says what to do.

    Example:
        >>> dataset = find_cases("brains")  # doctest: +SKIP
        >>> split = split_cases([case.name for case in dataset.cases])  # doctest: +SKIP
        >>> fit(default_config(dataset), dataset, split, "run").best_dice  # doctest: +SKIP
        0.887
    """
    out = Path(out)
    check_storable(config)
    config = recorded(config, out)
    cases = choose_cases(dataset, split)
    if tensorboard:
        check_tensorboard()
    network = Network(config, steps_per_epoch(config, split))
    if config.patience is not None and not cases.validation:
        warnings.warn("patience does nothing without validation cases", stacklevel=2)
    devices = choose_devices(config.batch_size)
    with _folder(out, config, split, resume=resume) as checkpoints:
        identities = check_inputs(out, cases, begun=has_checkpoints(out)) if checkpoints else {}
        planned = planned_epochs(out) if checkpoints else config.epochs
        restored = checkpoints and _last(network, checkpoints, planned)
        state, progress = _shared(restored or (network.first(out), {}), devices)
        if progress.finished(config):
            if planned < config.epochs:
                _warn_of_patience(out, config, progress)
            raise RunFinishedError(_result(out, progress))
        per_epoch = network.steps_per_epoch
        done = {"done": progress.epoch, "first_step": progress.steps(per_epoch)}
        show_resumption(config.epochs, per_epoch, **done)
        data = load_cases(config, cases)
        files = _Files(out, config.name, checkpoints, checkpoint_seconds)
        loop = _Loop(network, data, files, devices, shown=_first_source(cases))
        with (
            contextlib.closing(loop.batches(loading, progress)) as batches,
            contextlib.closing(files),
        ):
            if checkpoints:
                hold(config, out, begun=has_checkpoints(out))
                write_run(out, config, split)
                write_inputs(out, identities, config, data.train)
            if tensorboard:
                files.open_board(config, steps_per_epoch(config, split), loop.first_step(progress))
            data_folder = folder_of_cases(cases)
            with recording(out, data_folder) if checkpoints else contextlib.nullcontext():
                progress = loop.run(state, progress, batches)
    return _result(out, progress)


def check_patch_size(config: TrainConfig, model: Any) -> None:
    """Refuse a patch that does not fit the network, and say which would.

    Raises:
        InputError: The patch has another rank, or sizes that the network cannot halve.
    """
    sizes, multiple, rank = config.patch_size, model.size_multiple, model.spatial_dims
    slices = rank == 2 and len(sizes) == 3 and sizes[2] == 1
    if len(sizes) != rank and not slices:
        slices_too = ", or x y 1 for the slices of volumes" if rank == 2 else ""
        raise InputError(
            f"patch_size {_text(sizes)} does not fit {config.model}: give {rank} numbers"
            + slices_too
        )
    if any(size % multiple for size in sizes[:rank]):
        lower = [max(multiple, size // multiple * multiple) for size in sizes[:rank]]
        upper = [-(-size // multiple) * multiple for size in sizes[:rank]]
        either = dict.fromkeys([_text([*lower, *sizes[rank:]]), _text([*upper, *sizes[rank:]])])
        raise InputError(
            f"patch_size {_text(sizes)}: {config.model} needs multiples of {multiple}; "
            f"{' or '.join(either)} would do"
        )


class Network:
    """A network and the functions that train it.

    Args:
        config: Network, loss and optimizer.
        steps_per_epoch: Steps of each epoch, which the learning rate follows.

    Raises:
        InputError: There is no such network, or the patches do not fit it.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int):
        dropout = {} if config.dropout is None else {"dropout": config.dropout}
        model = create_model(
            config.model,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            **dropout,
        )
        check_patch_size(config, model)
        self.config, self.steps_per_epoch, self._model = config, steps_per_epoch, model
        optimizer = make_optimizer(config.optimizer, config.epochs * steps_per_epoch)
        self._optimizer = freeze(optimizer, config.freeze)
        self.first_key, self.dropout_key = jax.random.split(jax.random.key(config.seed))
        train_step = make_train_step(
            model,
            config.loss,
            self._optimizer,
            ema=config.ema,
            compute_dtype=config.compute_dtype,
            deep_supervision=config.deep_supervision,
        )
        self.train_step = freeze_norms(train_step, config.freeze)
        self.predict = make_predict(model, config.activation)

    def init(self) -> TrainState:
        """Draw the first parameters of the configured seed."""
        return self.first_state(self.first_key)

    def first_state(self, key: jax.Array) -> TrainState:
        """Draw the first parameters by another key."""
        return init_state(
            self._model,
            self._optimizer,
            key,
            self.config.patch_size,
            ema=self.config.ema,
        )

    def first(self, run: Path) -> TrainState:
        """Draw the first parameters, or take those that the training starts from.

        Args:
            run: Folder of the training, which may hold a copy of those.

        Raises:
            InputError: As :func:`segjax.train.transfer.warm_start`.
        """
        return warm_start(self.init(), self.config, run)


class _Files:
    """What a training writes while it runs; nothing on hosts without checkpoints."""

    def __init__(self, run: Path, name: str, checkpoints: Checkpoints | None, seconds: float):
        self._run, self._metrics = run, MetricsFile(run / METRICS_FILE, name)
        self._checkpoints, self._between, self._saved = checkpoints, seconds, time.monotonic()
        self.board: Board | None = None

    def open_board(self, config: TrainConfig, steps_per_epoch: int, done: int) -> None:
        """Write TensorBoard logs too, from the steps on that are done."""
        if self._checkpoints:
            self.board = Board(self._run, config, steps_per_epoch, done)

    def close(self) -> None:
        """Close the TensorBoard logs."""
        if self.board:
            self.board.close()

    def due(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return self._checkpoints is not None and time.monotonic() - self._saved >= self._between

    def rewind(self, epoch: int) -> None:
        """Drop the metrics of later epochs."""
        if self._checkpoints:
            self._metrics.rewind(epoch)

    def end_epoch(self, progress: Progress, losses: Sequence[float], scores: Scores | None) -> None:
        """Write what an epoch gave."""
        if self._checkpoints is None:
            return
        epoch, seconds = progress.epoch, progress.seconds
        rows = [Row(epoch, "train", "loss", float(np.mean(losses)))]
        rows += [] if scores is None else score_rows(epoch, scores)
        self._metrics.append([*rows, Row(epoch, "train", "seconds", seconds)])
        if self.board:
            self.board.epoch(epoch, losses, scores, seconds)

    def failure(self, config: TrainConfig, loader: Loader, step: int, loss: float) -> InputError:
        """Save the batch of a step and return the error that stops the training."""
        if self._checkpoints is None:
            return InputError(f"the loss became {loss} at step {step + 1}")
        return save_failed_batch(self._run, config, loader, step, loss)

    def save(self, state: TrainState, progress: Progress, **options: bool) -> None:
        """Write a checkpoint, with the options of :meth:`Checkpoints.save`."""
        if self._checkpoints is None:
            return
        if self.board:
            self.board.steps(progress.epoch, progress.losses)
        meta = dataclasses.asdict(progress)
        self._checkpoints.save(int(state.step), state, meta, **options)
        self._saved = time.monotonic()


class _Loop:
    """A training that runs."""

    def __init__(
        self,
        network: Network,
        data: Loaded,
        files: _Files,
        devices: Devices,
        *,
        shown: Case | None = None,
    ):
        config = network.config
        self._config, self._network, self._files = config, network, files
        self._devices, self._shown = devices, shown
        sampling = Sampling(
            config.patch_size, config.batch_size, config.foreground, config.patches_per_case
        )
        self._loader = Loader(
            data.train,
            sampling,
            augment=config.augment,
            seed=config.seed,
            rows=devices.rows(config.batch_size),
        )
        self._validation, self._stop = data.validation, Stop()
        self._window_batch = window_batch(data.validation, config)

    def batches(self, loading: Loading, progress: Progress) -> Generator[Any, None, None]:
        """Draw the batches of all steps that are left, ahead of their use."""
        last = self._config.epochs * self._loader.steps_per_epoch
        return loading.batches(self._loader, range(self.first_step(progress), last))

    def run(self, state: TrainState, progress: Progress, batches: Iterator[Any]) -> Progress:
        """Train to the end, or until Ctrl-C, at which a checkpoint is written."""
        self._files.rewind(progress.epoch)
        self._started, self._batches = time.monotonic() - progress.seconds, batches
        first, per_epoch = self.first_step(progress), self._loader.steps_per_epoch
        with (
            show_training(self._config.epochs, per_epoch, first_step=first) as display,
            stoppable("stopping: writing a checkpoint first") as self._stop,
        ):
            while not progress.finished(self._config):
                state, progress = self._epoch(state, progress, display)
        return progress

    def first_step(self, progress: Progress) -> int:
        """Return the number of the next step, counted from 0."""
        return progress.steps(self._loader.steps_per_epoch)

    def _epoch(
        self, state: TrainState, progress: Progress, display: Display
    ) -> tuple[TrainState, Progress]:
        """Do what is left of an epoch: steps, validation, metrics, checkpoint."""
        state, losses = self._steps(state, progress, display)
        begun = dataclasses.replace(progress, losses=tuple(losses))
        epoch, loss = progress.epoch + 1, float(np.mean(losses))
        progress = dataclasses.replace(progress, epoch=epoch, losses=())
        scores, dice = None, None
        if self._is_validated(epoch):
            display.validate(epoch)
            try:
                scores = self._validate(state)
            except KeyboardInterrupt:
                self._save_within_epoch(state, begun)
                raise
            dice = mean_dice(scores)
            progress = progress.validated(dice)
        best = dice is not None and progress.best_epoch == epoch
        progress = dataclasses.replace(progress, seconds=time.monotonic() - self._started)
        self._files.end_epoch(progress, losses, scores)
        if best and self._files.board and self._shown:
            self._files.board.picture(epoch, "validation", self._draw(state, self._shown, epoch))
        last_alone = epoch == self._config.epochs and epoch % self._config.validate_every != 0
        self._files.save(state, progress, best=best, keep_former=last_alone)
        display.epoch(epoch, loss, dice, progress.best_dice)
        return state, progress

    def _steps(
        self, state: TrainState, progress: Progress, display: Display
    ) -> tuple[TrainState, list[float]]:
        """Do the steps that are left of an epoch; return the losses of all of its steps."""
        start = progress.epoch * self._loader.steps_per_epoch
        losses = _Losses(progress.losses, functools.partial(self._failure, start))
        steps = range(self.first_step(progress), start + self._loader.steps_per_epoch)
        for step in steps:
            images, labels = self._devices.place(next(self._batches), self._config.batch_size)
            state, metrics = self._network.train_step(
                state, images, labels, self._network.dropout_key
            )
            losses.append(metrics["loss"])
            display.step(step + 1, losses.latest)
            if self._stop.asked or (self._files.due() and step != steps[-1]):
                self._save_within_epoch(state, dataclasses.replace(progress, losses=losses.all()))
            self._stop.check()
        return state, list(losses.all())

    def _save_within_epoch(self, state: TrainState, progress: Progress) -> None:
        seconds = time.monotonic() - self._started
        self._files.save(state, dataclasses.replace(progress, seconds=seconds))

    def _predict(self, variables: PyTree, patches: Any) -> Any:
        self._stop.check()
        return self._network.predict(variables, patches)

    def _failure(self, first_step: int, index: int, loss: float) -> InputError:
        """Return the error of a loss that is not finite, at a step of the epoch."""
        return self._files.failure(self._config, self._loader, first_step + index, loss)

    def _is_validated(self, epoch: int) -> bool:
        regular = epoch % self._config.validate_every == 0 or epoch == self._config.epochs
        return regular and bool(self._validation)

    def _validate(self, state: TrainState) -> Scores:
        """Measure all cases; the hosts share them."""
        variables = self._devices.local(state.variables)
        hosts, names = jax.process_count(), self._config.labels[1:]
        table = np.zeros((len(self._validation), len(names), 2))
        mine = range(jax.process_index(), len(table), hosts)
        found = validate_cases(
            (with_maps(self._validation[index]) for index in mine),
            lambda patches: self._predict(variables, patches),
            self._config,
            batch_size=self._window_batch,
        )
        for index, scores in zip(mine, found, strict=True):
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
        case, variables = with_maps(self._validation[0]), self._devices.local(state.variables)
        mask = segment_case(
            case,
            lambda patches: self._network.predict(variables, patches),
            self._config,
            batch_size=self._window_batch,
        )
        labels, title = self._config.labels, f"{case.name}, epoch {epoch}"
        return overlay_png(source, case.raw_label, mask, labels=labels, title=title)


class _Losses:
    """The losses of an epoch, of which the newest may still be under way on the device.

    Waiting for a loss only some steps later keeps the device busy all the time, and keeps the
    host from running ahead without limit.
    """

    def __init__(self, done: Sequence[float], failure: Callable[[int, float], InputError]):
        self._done, self._failure = list(done), failure
        self._pending: deque[jax.Array] = deque()

    @property
    def latest(self) -> float | None:
        """The newest loss that is known."""
        return self._done[-1] if self._done else None

    def append(self, loss: jax.Array) -> None:
        """Add the loss of a step.

        Raises:
            InputError: An earlier one is not finite.
        """
        self._pending.append(loss)
        self._settle(_AHEAD)

    def all(self) -> tuple[float, ...]:
        """Wait for all losses and return them.

        Raises:
            InputError: One is not finite.
        """
        self._settle(0)
        return tuple(self._done)

    def _settle(self, ahead: int) -> None:
        while len(self._pending) > ahead:
            self._done.append(float(self._pending.popleft()))
            if not math.isfinite(self._done[-1]):
                raise self._failure(len(self._done) - 1, self._done[-1])


def score_rows(epoch: int, scores: Scores) -> list[Row]:
    """Return the rows of a validation for the metrics file."""
    return [
        Row(epoch, "validation", score.metric, score.value, case, label)
        for case, labels in scores.items()
        for label, score in labels.items()
    ]


def steps_per_epoch(config: TrainConfig, split: Split) -> int:
    """Return how many steps make an epoch."""
    return math.ceil(len(split.train) * config.patches_per_case / config.batch_size)


@contextlib.contextmanager
def _folder(
    out: Path, config: TrainConfig, split: Split, *, resume: bool
) -> Iterator[Checkpoints | None]:
    """Open the folder of the run for the first host, whose part it is to write."""
    if not is_first_host():
        yield None
        return
    with owned(out):
        check_run(out, config, split, resume=resume)
        with Checkpoints(out / CHECKPOINT_FOLDER) as checkpoints:
            yield checkpoints


def _shared(
    start: tuple[TrainState, dict[str, Any]], devices: Devices
) -> tuple[TrainState, Progress]:
    """Give all hosts and devices what the first host goes on from."""
    state, text = share_first(start[0], json.dumps(start[1]))
    meta = json.loads(text)
    progress = Progress(**{**meta, "losses": tuple(meta["losses"])}) if meta else Progress()
    return devices.replicate(state), progress


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
    return checkpoints.restore_last(template, before=int(restored[0].step))


def _warn_of_patience(run: Path, config: TrainConfig, progress: Progress) -> None:
    warnings.warn(
        f"{run}: the training there stopped after epoch {progress.epoch}, since its patience of "
        f"{config.patience} was over: more epochs change nothing",
        stacklevel=3,
    )


def _first_source(cases: Chosen) -> Case | None:
    """Return the files of the first validation case."""
    sources = (case.source if isinstance(case, CachedCase) else case for case in cases.validation)
    return next(sources, None)


def _result(run: Path, progress: Progress) -> FitResult:
    return FitResult(run, progress.epoch, progress.best_epoch, progress.best_dice, progress.seconds)


def _text(sizes: Sequence[int]) -> str:
    return " ".join(map(str, sizes))
