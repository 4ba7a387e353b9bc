"""Train a network many times: every combination of kernel size, alpha and seed."""

import dataclasses
import itertools
import json
import math
import re
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import segjax
from segjax.codec import check_survives
from segjax.data.cases import Dataset, StoredCase
from segjax.data.io.formats import read_image
from segjax.data.labels import foreground
from segjax.data.sources import files_in
from segjax.data.splits import Split, write_split
from segjax.errors import InputError
from segjax.evaluate.scores import DICE, mean_dice
from segjax.files import atomic_path, write_csv, write_json
from segjax.interrupt import stoppable
from segjax.provenance import recording
from segjax.runs.folder import RunFolder, owned
from segjax.text import exact
from segjax.train.cases import (
    Chosen,
    choose_cases,
    folder_of_cases,
    load_cases,
    read_case,
)
from segjax.train.checkpoints import load_variables
from segjax.train.config import TrainConfig, differences
from segjax.train.inputs import check_inputs, write_inputs
from segjax.train.network import Network, check_network
from segjax.train.resume import check_split
from segjax.train.run import make_loader
from segjax.train.sweeps.display import SweepDisplay, show_sweep
from segjax.train.sweeps.loop import SweepData, SweepLoop, make_batches
from segjax.train.sweeps.member import Member, MemberResult, read_result
from segjax.train.sweeps.together import Together, check_together, with_alpha
from segjax.train.tensorboard import check_tensorboard
from segjax.train.validate import segment_case

__all__ = ["Execution", "Member", "MemberResult", "SweepConfig", "SweepResult", "sweep"]

_AT_ONCE: dict[Together, int] = {"vmap": 8, "unrolled": 4, "apart": 1}
_EXAMPLES = 4  # test images whose masks are kept


@dataclass(frozen=True)
class SweepConfig:
    """A grid of trainings, which share everything but kernel size, alpha and seed.

    Attributes:
        base: What they share; its loss has a Tversky term, and its model is one of a family whose
            names end with the kernel size, such as ``unet2d-k3``.
        kernels: Kernel sizes.
        alphas: Weights of false negatives in the Tversky loss, in [0, 1].
        seeds: Of first weights, data order, augmentation and dropout.

    Raises:
        InputError: A list is empty or holds a value twice, a value is out of range, or the base
            has no kernel size or no Tversky loss.

    Example:
        >>> from segjax.train.losses import Loss, Term
        >>> base = TrainConfig("unet2d-k3", (256, 256), loss=Loss((Term("tversky"),)))
        >>> grid = SweepConfig(base, kernels=(3, 5), alphas=(0.1, 0.5, 0.9), seeds=(0, 1))
        >>> len(grid.members), grid.members[0].name, grid.members[-1].config.model
        (12, 'k3-a0.1-s0', 'unet2d-k5')
    """

    base: TrainConfig
    kernels: tuple[int, ...]
    alphas: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("kernels", "alphas", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} of a sweep: give one or more, each once; not {values}")
        if wrong := [alpha for alpha in self.alphas if not 0 <= alpha <= 1]:
            raise InputError(f"alpha {wrong[0]} is out of range: give numbers from 0 to 1")
        if not re.search(_KERNEL, self.base.model):
            raise InputError(f"model {self.base.model} has no kernel size to vary: take unet2d-k3")
        with_alpha(self.base.loss, 0.5)
        if self.base.init is not None:
            raise InputError("init: members of a sweep start from their own seeds; leave it out")

    @property
    def members(self) -> tuple[Member, ...]:
        """All combinations; seeds vary fastest, then alphas."""
        grid = itertools.product(self.kernels, self.alphas, self.seeds)
        return tuple(self._member(*values) for values in grid)

    def _member(self, kernel: int, alpha: float, seed: int) -> Member:
        config = dataclasses.replace(
            self.base,
            model=re.sub(_KERNEL, f"-k{kernel}", self.base.model),
            loss=with_alpha(self.base.loss, alpha),
            seed=seed,
            name=f"k{kernel}-a{exact(alpha)}-s{seed}",
        )
        return Member(kernel, alpha, seed, config)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as JSON values."""
        values = {name: list(getattr(self, name)) for name in ("kernels", "alphas", "seeds")}
        return {"base": self.base.to_json(), **values}


_KERNEL = r"-k\d+$"


@dataclass(frozen=True)
class Execution:
    """How a sweep is carried out, which decides its time and, but for rounding, not its results.

    Attributes:
        together: How members share a program, see :class:`segjax.train.sweeps.together.Programs`.
        at_once: Most members under way at a time on each device; ``None`` takes 8, 4 or 1 for
            "vmap", "unrolled" and "apart". More take more memory; apart there is never more
            than one.
        on_device: Whether all training cases are kept on each device, and batches cut and
            augmented there; ``None``: on a GPU, where they fit.
        checkpoint_seconds: Time between two checkpoints of all members under way.
        tensorboard: Whether to write TensorBoard logs of each member, into its own folder.
        devices: How many devices of this machine train members, each its own; ``None``: all.

    Raises:
        InputError: A value is unknown or out of range, or several are wanted at once apart.

    Example:
        >>> Execution("apart").members_at_once
        1
    """

    together: Together = "apart"
    at_once: int | None = None
    on_device: bool | None = None
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False
    devices: int | None = None

    def __post_init__(self) -> None:
        check_together(self.together)
        if self.at_once is not None and self.at_once < 1:
            raise InputError(f"{self.at_once} members at once: give 1 or more")
        if self.at_once is not None and self.at_once > 1 and self.together == "apart":
            raise InputError(
                f"{self.at_once} members at once (--at-once): members train one after the other "
                "apart; leave it out, or let them share a program (--together unrolled)"
            )
        if self.devices is not None and self.devices < 1:
            raise InputError(f"{self.devices} devices: give 1 or more")

    @property
    def members_at_once(self) -> int:
        """Most members under way at a time on each device."""
        return self.at_once or _AT_ONCE[self.together]

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """The devices that train members, fewer than wanted where there are fewer."""
        return tuple(jax.local_devices()[: self.devices])


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    A member that failed counts by the best network it had until then, and not at all where it had
    none.

    Attributes:
        folder: Its folder.
        members: All of its members.
        results: What each came to, by name; nothing of those that are not finished.

    Example:
        >>> SweepResult(Path("sweep"), (), {}).best is None
        True
    """

    folder: Path
    members: tuple[Member, ...]
    results: Mapping[str, MemberResult]

    @property
    def best(self) -> Member | None:
        """The member with the highest validation Dice, the first of equals."""
        measured = [m for m, result in self._ended if result.validation_dice is not None]
        return max(measured, key=self._validation_dice, default=None)

    @property
    def failed(self) -> tuple[Member, ...]:
        """The members that ended before their time."""
        return tuple(member for member, result in self._ended if result.error)

    @property
    def run(self) -> Path | None:
        """The folder of the best member, an ordinary run."""
        return RunFolder(self.folder).member(self.best.name).path if self.best else None

    def mean_test_dice(self, kernel: int, alpha: float) -> float | None:
        """Average the test Dice of a combination over its seeds; ``None`` where none has any."""
        own = [result for m, result in self._ended if (m.kernel, m.alpha) == (kernel, alpha)]
        known = [result.test_dice for result in own if result.test_dice is not None]
        return sum(known) / len(known) if known else None

    @property
    def _ended(self) -> list[tuple[Member, MemberResult]]:
        return [(m, self.results[m.name]) for m in self.members if m.name in self.results]

    def _validation_dice(self, member: Member) -> float:
        dice = self.results[member.name].validation_dice
        return -math.inf if dice is None else dice


_DEFAULT = Execution()


def sweep(
    config: SweepConfig,
    dataset: Dataset[StoredCase],
    split: Split,
    out: str | Path,
    *,
    execution: Execution = _DEFAULT,
) -> SweepResult:
    """Train every combination of a grid, each with its own early stopping, and measure them.

    Members of one network train several at a time, as one program on each device; each gets what
    :func:`segjax.train.fit` would have given it, but for rounding. Stopped at any moment,
    even by ``kill -9``, the sweep goes on when it is called again with the same arguments;
    members that are finished are not touched again. The grid may grow from call to call; the
    split stays what it was.

    The folder gets ``sweep.json``, ``split.json``, ``provenance.json``, ``results.csv`` (a row for
    each finished member), ``images.csv`` (Dice by member, test case and label), ``examples/`` (test
    images with the masks of the best member) and ``runs/``, where each member has the folder of an
    ordinary training. A member whose loss is not finite any more ends there, with the batch in its
    ``failed-batch.npz``; the table says so.

    Args:
        config: The grid.
        dataset: Labelled cases, or those of a cache that was made with the base's pipeline.
        split: Names of the cases to train on, to stop by and to measure on: the same for all.
        out: Folder of the sweep.
        execution: How it is carried out.

    Raises:
        InputError: The data, the configuration or the folder cannot be used, or the disk is full;
            the message says what to do.

    Example:
        >>> import functools
        >>> from segjax.data import find_cases, split_cases
        >>> from segjax.train.losses import Loss, Term
        >>> network = functools.partial(segjax.models.UNet, channels=(4, 8), strides=(2,))
        >>> network = segjax.register("network", "small-k3", network)
        >>> dataset = find_cases("slices")
        >>> split = split_cases([case.name for case in dataset.cases], test=0.2)
        >>> base = TrainConfig("small-k3", (32, 32), epochs=1, loss=Loss((Term("tversky"),)))
        >>> sweep(SweepConfig(base, (3,), (0.5,), (0,)), dataset, split, "alphas").best.name
        'k3-a0.5-s0'
    """
    out = Path(out)
    check_survives(config.base, kind=TrainConfig)
    if jax.process_count() > 1:
        raise InputError(
            "a sweep takes the devices of one machine: give each machine other seeds or kernels, "
            "and a folder of its own"
        )
    chosen = choose_cases(dataset, split, test=True)
    if not split.validation or not split.test:
        raise InputError("a sweep needs validation and test cases: change the split")
    if execution.tensorboard:
        check_tensorboard()
    for member in {member.kernel: member for member in config.members}.values():
        check_network(Network(member.config, 1))
    with owned(out):
        _check_folder(out, config, split)
        identities = check_inputs(out, chosen)
        results = _read_results(out, config.members)
        if len(results) < len(config.members):
            _train(config, chosen, split, out, execution, identities)
        results = _read_results(out, config.members)
        _write_tables(out, config.members, results)
        result = SweepResult(out, config.members, results)
        _write_examples(result, chosen)
    return result


def _check_folder(out: Path, config: SweepConfig, split: Split) -> None:
    """Refuse the folder of another sweep, or of one on other cases."""
    folder = RunFolder(out)
    path = folder.grid
    if not path.exists():
        if folder.runs.exists():
            raise InputError(f"{out}: holds runs but no sweep.json; give another folder")
        return
    try:
        before = TrainConfig.from_json(json.loads(path.read_text(encoding="utf-8"))["base"])
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: cannot be read as a sweep ({error})") from error
    if changed := differences(before, config.base):
        raise InputError(
            f"{out}: holds a sweep with another configuration: {'; '.join(changed)}; "
            f"use that one to go on with it (--config {path}), or give another folder"
        )
    check_split(folder.split, split)


def _train(
    config: SweepConfig,
    chosen: Chosen,
    split: Split,
    out: Path,
    execution: Execution,
    identities: Mapping[str, Any],
) -> None:
    """Train all members that are not finished, one network after the other."""
    loaded = load_cases(config.base, chosen)
    with_masks = ([case.loaded() for case in part] for part in loaded[1:])
    devices = execution.local_devices
    loader = make_loader(config.base, loaded.train)
    batches = make_batches(loader, execution.on_device, devices)
    data = SweepData(split, loader, batches, *with_masks)
    _write_plan(out, config, split)
    write_inputs(out, identities, config.base, loaded.train)
    members, results = config.members, _read_results(out, config.members)
    with recording(out, folder_of_cases(chosen)), show_sweep(members, results) as display:
        for kernel in sorted(config.kernels):
            own = [m for m in members if m.kernel == kernel and m.name not in results]
            own.sort(key=lambda member: member.seed)  # they share their batches
            if own:
                _train_kernel(own, data, out, config, execution=execution, display=display)


def _train_kernel(
    members: Sequence[Member],
    data: SweepData,
    out: Path,
    config: SweepConfig,
    *,
    execution: Execution,
    display: SweepDisplay,
) -> None:
    loop = SweepLoop(
        members[0].config,
        data,
        execution.together,
        checkpoint_seconds=execution.checkpoint_seconds,
        tensorboard=execution.tensorboard,
        display=display,
    )
    queue = deque((member, RunFolder(out).member(member.name).path) for member in members)
    with stoppable("stopping: writing checkpoints first") as loop.stop:
        for run in loop.run(queue, execution.members_at_once):
            results = _read_results(out, config.members)
            _write_tables(out, config.members, results)
            display.end(run.member, results[run.member.name])


def _write_plan(out: Path, config: SweepConfig, split: Split) -> None:
    write_split(split, RunFolder(out).split, overwrite=True)  # first: a grid has always its split
    values = {"segjax": segjax.__version__, **config.to_json()}
    write_json(values, RunFolder(out).grid, overwrite=True)


def _read_results(out: Path, members: Sequence[Member]) -> dict[str, MemberResult]:
    folder = RunFolder(out)
    found = {member.name: read_result(folder.member(member.name).path) for member in members}
    return {name: result for name, result in found.items() if result is not None}


def _write_tables(
    out: Path, members: Sequence[Member], results: Mapping[str, MemberResult]
) -> None:
    """Write one row for each finished member, and one for each of its test images."""
    done = [(member, results[member.name]) for member in members if member.name in results]
    _write_table([_row(*pair) for pair in done], RunFolder(out).results)
    images = [row for pair in done for row in _image_rows(*pair)]
    _write_table(images, RunFolder(out).images)


def _write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    values = [[row.get(name) for name in columns] for row in rows]
    write_csv([columns, *values], path, overwrite=True)


def _row(member: Member, result: MemberResult) -> dict[str, Any]:
    return {
        "kernel": member.kernel,
        "alpha": member.alpha,
        "seed": member.seed,
        "run": member.name,
        "validation_dice": result.validation_dice,
        "epoch": result.epoch,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "test_dice": result.test_dice,
        "error": result.error,
    }


def _image_rows(member: Member, result: MemberResult) -> list[dict[str, Any]]:
    own = {"kernel": member.kernel, "alpha": member.alpha, "seed": member.seed}
    return [
        {**own, "case": case, "label": label, DICE: None, score.metric: score.value}
        for case, labels in result.test.items()
        for label, score in labels.items()
    ]


def _write_examples(result: SweepResult, chosen: Chosen) -> None:
    """Write some test images with the masks of the best member, from its worst to its best."""
    member, run = result.best, result.run
    if member is None or run is None:
        return
    network = Network(member.config, 1)
    variables = load_variables(run)
    folder = RunFolder(result.folder).examples
    folder.mkdir(exist_ok=True)
    scores = result.results[member.name].test
    dice = {name: mean_dice({name: labels}) for name, labels in scores.items()}
    known = {name: value for name, value in dice.items() if value is not None}
    cases = {case.name: case for case in chosen.test}
    for name in _spread(sorted(known, key=known.__getitem__)):
        path = folder / f"{member.name}-{name}.npz"
        if not path.exists():
            _write_example(path, cases[name], network, variables)


def _write_example(
    path: Path, case: StoredCase, network: Network, variables: Mapping[str, Any]
) -> None:
    source = case.source
    if not all(file.exists() for image in source.images for file in files_in(image)):
        warnings.warn(f"{path}: not made, for its image is gone", stacklevel=2)
        return
    config = network.config
    loaded = read_case(config, case).loaded()
    mask = segment_case(
        loaded,
        lambda patches: network.predict(variables, patches),
        config,
        locality=network.locality,
    )
    image = read_image(source.images)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            image=image.channels_last.astype(np.float32),
            affine=image.affine,
            truth=np.where(foreground(loaded.raw_label.data), loaded.raw_label.data, 0),
            mask=mask,
        )


def _spread(names: Sequence[str]) -> list[str]:
    """Return a few of many, evenly, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(_EXAMPLES, len(names))).round().astype(int)
    return [names[place] for place in places]
