"""The loop around the members of a sweep that share a network."""

import functools
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from segjax.data.datasets import LoadedCase, Split
from segjax.data.loader import Loader, Sampling, TrainingCase, prefetch
from segjax.errors import InputError
from segjax.train._member import Member, MemberRun
from segjax.train._sweep_display import SweepDisplay
from segjax.train.config import TrainConfig
from segjax.train.fit import Network, steps_per_epoch
from segjax.train.resident import ResidentLoader
from segjax.train.scoring import Scorer
from segjax.train.together import Programs, Seat, Together, powers_of_two

_AHEAD = 2  # rounds that may be under way before the host waits for the oldest of them


@dataclass(frozen=True)
class SweepData:
    """What all members of a sweep share.

    Attributes:
        split: Names of the cases.
        batches: Gives the batch of any step; of another seed when reseeded.
        validation: Cases to choose the best epoch by.
        test: Cases to measure the best network on.
    """

    split: Split
    batches: Loader | ResidentLoader
    validation: Sequence[LoadedCase]
    test: Sequence[LoadedCase]


def make_batches(
    config: TrainConfig, cases: Sequence[TrainingCase], on_device: bool | None
) -> Loader | ResidentLoader:
    """Make the source of all batches.

    Args:
        config: Patches and augmentation.
        cases: To train on.
        on_device: Whether to keep them on the device; ``None``: where it is no CPU and they fit.

    Raises:
        InputError: They have to fit and do not.
    """
    sampling = Sampling(
        config.patch_size, config.batch_size, config.foreground, config.patches_per_case
    )
    loader = Loader(cases, sampling, augment=config.augment, seed=config.seed)
    if on_device is False or (on_device is None and jax.default_backend() == "cpu"):
        return loader
    try:
        return ResidentLoader(loader)
    except InputError:
        if on_device:
            raise
        return loader


class SweepLoop:
    """Trains members of one network, several at a time.

    Members need not be at the same step: one that ends early gives its place to the next, so that
    programs stay full. They are of a few sizes alone, powers of two, each compiled once, and hold
    no members that are finished.

    Args:
        config: Of any of the members, which differ in seed, alpha and name.
        data: Cases.
        together: How members share a program.
        checkpoint_seconds: Time between two checkpoints of all members.
        tensorboard: Whether to write TensorBoard logs of each member.
        display: Where to show how far they are.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: SweepData,
        together: Together,
        *,
        checkpoint_seconds: float,
        tensorboard: bool,
        display: SweepDisplay,
    ):
        self._data, self._display, self._between = data, display, checkpoint_seconds
        self._per_epoch = steps_per_epoch(config, data.split)
        network = Network(config, self._per_epoch)
        self._programs = Programs(config, self._per_epoch, together)
        self._validation = Scorer(data.validation, config, network.predict)
        self._test = Scorer(data.test, config, network.predict)
        self._streams = _Streams(data.batches, config.epochs * self._per_epoch)
        self._pending: deque[tuple[jax.Array, list[MemberRun]]] = deque()
        self._marked = self._saved = time.monotonic()
        self._start = functools.partial(
            MemberRun,
            split=data.split,
            first_state=jax.jit(network.first_state),
            steps_per_epoch=self._per_epoch,
            tensorboard=tensorboard,
        )

    def run(self, queue: deque[tuple[Member, Path]], at_once: int) -> Iterator[MemberRun]:
        """Train members to their ends.

        Args:
            queue: Members and their folders; emptied.
            at_once: Most members under way at a time.

        Yields:
            Each member that has ended, as soon as it has, with all its files written.
        """
        active: list[MemberRun] = []
        try:
            while queue or active:
                while queue and len(active) < at_once:
                    active.append(self._start(*queue.popleft()))
                self._until_one_ends(active, at_once)
                for run in [run for run in active if run.finished]:
                    run.finish(self._test.scores)
                    active.remove(run)
                    yield run
        finally:
            self._streams.close()
            for run in active:
                run.close()

    def _until_one_ends(self, active: Sequence[MemberRun], at_once: int) -> None:
        """Let all members make steps until one of them is finished."""
        groups = list(self._groups(active, at_once))
        self._streams.follow(active)
        while not any(run.finished for run in active):
            self._round(groups, active)
        self._settle(0, active)
        for group in groups:
            group.release()

    def _groups(self, active: Sequence[MemberRun], at_once: int) -> Iterator["_Group"]:
        waiting = deque(active)
        for size in powers_of_two(len(active), at_once):
            yield _Group(self._programs, [waiting.popleft() for _ in range(size)])

    def _round(self, groups: Sequence["_Group"], active: Sequence[MemberRun]) -> None:
        """Make one step of every member, and what is due after it."""
        batches = self._streams.next()
        for group in groups:
            self._pending.append((group.step(batches), group.runs))
        self._settle(_AHEAD * len(groups), active)
        if any(run.epoch_is_over for run in active):
            self._settle(0, active)
            for group in groups:
                self._end_epochs(group)
        if time.monotonic() - self._saved >= self._between:
            self._save(groups, active)

    def _end_epochs(self, group: "_Group") -> None:
        for index, run in enumerate(group.runs):
            if run.epoch_is_over and not run.error:
                state, loss = group.state(index), run.progress.losses[-1]
                scores = self._validation.scores(state.variables) if run.is_validated else None
                run.end_epoch(state, scores)
                self._display.epoch(run, loss)

    def _save(self, groups: Sequence["_Group"], active: Sequence[MemberRun]) -> None:
        """Write checkpoints of all members that have more to do."""
        self._settle(0, active)
        for group in groups:
            for index, run in enumerate(group.runs):
                if not run.finished:
                    run.save(group.state(index))
        self._saved = time.monotonic()

    def _settle(self, ahead: int, active: Sequence[MemberRun]) -> None:
        """Wait for losses, but for those of the newest programs; share the time among members."""
        while len(self._pending) > ahead:
            losses, runs = self._pending.popleft()
            for run, loss in zip(runs, np.asarray(losses).tolist(), strict=True):
                run.add_loss(loss)
        now = time.monotonic()
        for run in active:
            run.add_seconds((now - self._marked) / len(active))
        self._marked = now


class _Group:
    """Members that make their steps in one call."""

    def __init__(self, programs: Programs, runs: list[MemberRun]):
        self.runs, self._programs = runs, programs
        self._packed: PyTree = programs.pack([run.take_state() for run in runs])
        self._alphas = [np.float32(run.member.alpha) for run in runs]

    def step(self, batches: dict[tuple[int, int], Any]) -> jax.Array:
        """Begin a step of every member; return their losses, to be waited for."""
        seats = [
            Seat(batches[_stream(run)], run.key, alpha)
            for run, alpha in zip(self.runs, self._alphas, strict=True)
        ]
        self._packed, losses = self._programs.step(self._packed, seats)
        for run in self.runs:
            run.begun += 1
        return losses

    def state(self, index: int) -> Any:
        """Return the state of a member, which does not outlive the next step."""
        return self._programs.unpack(self._packed, index)

    def release(self) -> None:
        """Hand the states back to the members."""
        for index, run in enumerate(self.runs):
            run.state = self.state(index)


def _stream(run: MemberRun) -> tuple[int, int]:
    """Return what a member's next batch depends on."""
    return run.member.seed, run.begun


class _Streams:
    """The batches of all members, each drawn once where members of a seed are at the same step."""

    def __init__(self, batches: Loader | ResidentLoader, last: int):
        self._batches, self._last = batches, last
        self._open: dict[tuple[int, int], Generator[Any, None, None]] = {}

    def follow(self, runs: Sequence[MemberRun]) -> None:
        """Open and close streams, so that there is one for each member."""
        wanted = {_stream(run) for run in runs if not run.finished}
        for key in set(self._open) - wanted:
            self._open.pop(key).close()
        for seed, step in wanted - set(self._open):
            source = self._batches.reseeded(seed)
            self._open[seed, step] = prefetch(source, range(step, self._last))

    def next(self) -> dict[tuple[int, int], Any]:
        """Return the next batch of every stream, on the device."""
        batches = {key: jax.device_put(next(stream)) for key, stream in self._open.items()}
        self._open = {(seed, step + 1): stream for (seed, step), stream in self._open.items()}
        return batches

    def close(self) -> None:
        """Stop drawing."""
        for stream in self._open.values():
            stream.close()
        self._open.clear()
