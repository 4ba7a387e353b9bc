"""The loop around the members of a sweep that share a network."""

import contextlib
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from segjax.data.loaded import LoadedCase
from segjax.data.loader import Loader, prefetch
from segjax.data.splits import Split
from segjax.evaluate.scores import Scores
from segjax.interrupt import Stop
from segjax.train.config import TrainConfig
from segjax.train.display import show_loading
from segjax.train.network import Network
from segjax.train.resident import ResidentLoader, keep_on_devices
from segjax.train.run import AHEAD, Underway
from segjax.train.scoring import Scorer
from segjax.train.sweeps.display import SweepDisplay
from segjax.train.sweeps.member import Member, MemberRun
from segjax.train.sweeps.together import Programs, Seat, Together, deal, powers_of_two


@dataclass(frozen=True)
class SweepData:
    """What all members of a sweep share.

    Attributes:
        split: Names of the cases.
        loader: Where the batches come from; of another seed when reseeded.
        batches: For each device that members train on, what gives the batch of any step; of
            another seed when reseeded.
        validation: Cases to choose the best epoch by.
        test: Cases to measure the best network on.
    """

    split: Split
    loader: Loader
    batches: Mapping[jax.Device, Loader | ResidentLoader]
    validation: Sequence[LoadedCase]
    test: Sequence[LoadedCase]


def make_batches(
    loader: Loader, on_device: bool | None, devices: Sequence[jax.Device]
) -> Mapping[jax.Device, Loader | ResidentLoader]:
    """Make the source of all batches for each device.

    Args:
        loader: Where they come from.
        on_device: Whether to keep the cases on every device; ``None``: where it is no CPU and
            they fit.
        devices: Which members train on.

    Raises:
        InputError: They have to fit and do not.
    """
    if kept := keep_on_devices(loader, devices, on_device):
        return kept
    show_loading("drawn by threads of this process")
    return dict.fromkeys(devices, loader)


_Key = tuple[jax.Device, int, int]  # what a batch depends on: its source's device, seed, step


class _Streams:
    """The batches of all members, each drawn once for all members of a seed at the same step."""

    def __init__(self, sources: Mapping[jax.Device, Loader | ResidentLoader], last: int):
        self._sources, self._last = sources, last
        self._first = {  # of the devices that share a source
            device: next(d for d, other in sources.items() if other is source)
            for device, source in sources.items()
        }
        self._open: dict[_Key, Generator[Any, None, None]] = {}
        self._drawn: dict[_Key, Any] = {}
        self._placed: dict[tuple[_Key, jax.Device], Any] = {}

    def follow(self, runs: Sequence[MemberRun]) -> None:
        """Open and close streams, so that there is one for each member."""
        wanted = {self._key(run) for run in runs if not run.finished}
        for key in set(self._open) - wanted:
            self._open.pop(key).close()
        for key in wanted - set(self._open):
            device, seed, step = key
            source = self._sources[device].reseeded(seed)
            self._open[key] = prefetch(source, range(step, self._last))

    def next(self) -> None:
        """Draw the next batch of every stream."""
        self._drawn = {key: next(stream) for key, stream in self._open.items()}
        self._open = {(d, seed, step + 1): s for (d, seed, step), s in self._open.items()}
        self._placed = {}

    def batch(self, run: MemberRun) -> Any:
        """Return the batch that was drawn for a member's next step, on its device."""
        assert run.device is not None
        place = self._key(run), run.device
        if place not in self._placed:
            self._placed[place] = jax.device_put(self._drawn[place[0]], run.device)
        return self._placed[place]

    def close(self) -> None:
        """Stop drawing."""
        for stream in self._open.values():
            stream.close()
        self._open.clear()

    def _key(self, run: MemberRun) -> _Key:
        """Return what a member's next batch depends on."""
        assert run.device is not None
        return self._first[run.device], run.member.seed, run.begun


class _Group:
    """Members that make their steps in one call, on one device."""

    def __init__(self, programs: Programs, runs: list[MemberRun], device: jax.Device):
        self.runs, self.device, self._programs = runs, device, programs
        states = [jax.device_put(run.take_state(), device) for run in runs]
        self._packed: PyTree = programs.pack(states)
        self._keys = [jax.device_put(run.key, device) for run in runs]
        alphas = [np.float32(run.member.alpha) for run in runs]
        self._alphas = jax.device_put(alphas, device)

    def step(self, streams: _Streams) -> jax.Array:
        """Begin a step of every member; return their losses, to be waited for."""
        batches = [streams.batch(run) for run in self.runs]
        seats = list(map(Seat, batches, self._keys, self._alphas))
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


class SweepLoop:
    """Trains members of one network, several at a time.

    Members need not be at the same step: one that ends early gives its place to the next, so that
    programs stay full. They are of a few sizes alone, powers of two, each compiled once, and hold
    no members that are finished. Each of several devices trains members of its own.

    Args:
        config: Of any of the members, which differ in seed, alpha and name.
        data: Cases.
        together: How members share a program.
        checkpoint_seconds: Time between two checkpoints of all members.
        tensorboard: Whether to write TensorBoard logs of each member.
        display: Where to show how far they are.

    Attributes:
        stop: Looked at after every step of all members: checkpoints are written then.
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
        self._devices = tuple(data.batches)
        per_epoch = data.loader.steps_per_epoch
        network = Network(config, per_epoch)
        self._programs = Programs(config, per_epoch, together)
        self._validation = {
            device: Scorer(
                data.validation,
                config,
                network.predict,
                device=device,
                locality=lambda: network.locality,
            )
            for device in self._devices
        }
        self._test = Scorer(data.test, config, network.predict, locality=lambda: network.locality)
        self._streams = _Streams(data.batches, config.epochs * per_epoch)
        self._underway, self._saved = Underway(), time.monotonic()
        self.stop = Stop()
        self._start = functools.partial(
            MemberRun,
            split=data.split,
            loader=data.loader,
            first_state=jax.jit(network.first_state),
            tensorboard=tensorboard,
        )

    def run(self, queue: deque[tuple[Member, Path]], at_once: int) -> Iterator[MemberRun]:
        """Train members to their ends.

        Args:
            queue: Members and their folders; emptied.
            at_once: Most members under way at a time on each device.

        Yields:
            Each member that has ended, as soon as it has, with all its files written.
        """
        active: list[MemberRun] = []
        try:
            while queue or active:
                while queue and len(active) < at_once * len(self._devices):
                    active.append(self._start(*queue.popleft()))
                self._until_one_ends(active, at_once)
                for run in [run for run in active if run.finished]:
                    run.finish(self._test.scores)
                    active.remove(run)
                    yield run
        except BaseException:
            with contextlib.ExitStack() as stack:
                for run in active:
                    stack.push(run)
                raise
        finally:
            self._streams.close()

    def _until_one_ends(self, active: Sequence[MemberRun], at_once: int) -> None:
        """Let all members make steps until one of them is finished."""
        for run, device in zip(
            active, deal([run.device for run in active], self._devices), strict=True
        ):
            run.device = device
        groups = [group for d in self._devices for group in self._groups(active, d, at_once)]
        self._streams.follow(active)
        while not any(run.finished for run in active):
            self._round(groups, active)
        self._underway.settle(active)
        for group in groups:
            group.release()

    def _groups(
        self, active: Sequence[MemberRun], device: jax.Device, at_once: int
    ) -> list[_Group]:
        """Make the programs of one device."""
        waiting = deque(run for run in active if run.device == device)
        return [
            _Group(self._programs, [waiting.popleft() for _ in range(size)], device)
            for size in powers_of_two(len(waiting), at_once)
        ]

    def _round(self, groups: Sequence[_Group], active: Sequence[MemberRun]) -> None:
        """Make one step of every member, and what is due after it."""
        self._streams.next()
        for group in groups:
            self._underway.append(group.step(self._streams), group.runs)
        self._underway.settle(active, ahead=AHEAD * len(groups))
        if any(run.epoch_is_over for run in active):
            self._underway.settle(active)
            self._end_epochs(groups)
        if self.stop.asked or time.monotonic() - self._saved >= self._between:
            self._save(groups, active)
        self.stop.check()

    def _end_epochs(self, groups: Sequence[_Group]) -> None:
        """Validate the members that are at the end of an epoch, one on each device at a time."""
        over = [(g, i) for g in groups for i, run in enumerate(g.runs) if run.epoch_is_over]
        queues = ([place for place in over if place[0].device == d] for d in self._devices)
        for places in itertools.zip_longest(*queues):
            begun = [self._begin_validation(*place) for place in places if place]
            for run, state, wait in begun:
                loss, _ = run.end_epoch(wait and wait())
                run.hold_best(state)
                self._display.epoch(run, loss)

    def _begin_validation(
        self, group: _Group, index: int
    ) -> tuple[MemberRun, Any, Callable[[], Scores] | None]:
        run, state = group.runs[index], group.state(index)
        if not run.is_validated:
            return run, state, None
        return run, state, self._validation[group.device].start(state.variables)

    def _save(self, groups: Sequence[_Group], active: Sequence[MemberRun]) -> None:
        """Write checkpoints of all members that have more to do."""
        self._underway.settle(active)
        places = [(g, i) for g in groups for i, run in enumerate(g.runs) if not run.finished]
        for group, index in places:  # all at once: a member's next waits for its last
            group.runs[index].save(None)
        for group, index in places:
            group.runs[index].save(group.state(index))
        self._saved = time.monotonic()
