"""Whole volumes through a local network: in one piece, or in stages and tiles as memory allows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from segjax.data.tiles import Tile, padded_shape, plan_tiles
from segjax.errors import InputError
from segjax.machine import free_bytes, resident_bytes
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.stages import Stage

__all__ = ["Budget", "Plan", "plan", "run", "whole_of"]

_TILE = 2**20  # voxels of the largest tiles: beyond, memory grows and time hardly falls
_WORK = 2  # of what arrays take, as onnxruntime's arena holds more (benchmarks/volume.py)

Features = Float32[np.ndarray, "batch _ ..."]
Run = Callable[[Stage, Mapping[str, Features]], list[Features]]


@dataclass(frozen=True)
class Plan:
    """How a volume goes through a network.

    Attributes:
        steps: Stages in their order, each with the tiles that it is run in.
        memory: What it takes at most, in bytes, as far as it can be told before.
        tight: Whether tiles would be larger if memory allowed.
    """

    steps: tuple[tuple[Stage, tuple[Tile, ...]], ...]
    memory: float
    tight: bool = False

    @property
    def calls(self) -> int:
        """How often the network, or a part of it, is run."""
        return sum(len(tiles) for _, tiles in self.steps)


@dataclass(frozen=True)
class Budget:
    """The memory that may be taken.

    Attributes:
        gigabytes: Of 10⁹ bytes, that the process may have in all; ``None`` for half of what is
            free.
        taken: Bytes that the process had before it segmented anything; what an arena keeps from
            one image to the next serves both.

    Raises:
        InputError: They are not over 0.
    """

    gigabytes: float | None = None
    taken: int = field(default_factory=resident_bytes)

    def __post_init__(self) -> None:
        if self.gigabytes is not None and not self.gigabytes > 0:
            raise InputError(f"memory {self.gigabytes}: give gigabytes, a number over 0")

    def left(self, beside: float) -> float:
        """Return the bytes that are left, beside some that will be taken, too."""
        if self.gigabytes is not None:
            return self.gigabytes * 1e9 - self.taken - beside
        free = free_bytes()
        return math.inf if free is None else free / 2 - beside

    def check(self, needed: float, left: float) -> None:
        """Refuse to take more than is left of what was allowed.

        Raises:
            InputError: More is needed.
        """
        if self.gigabytes is not None and needed > left:
            least = self.gigabytes + (needed - left) / 1e9
            raise InputError(
                f"memory {self.gigabytes:g} GB: not enough for this image, which takes about "
                f"{math.ceil(10 * least) / 10:g} GB at least"
            )


def plan(metadata: ModelMetadata, shape: Sequence[int], *, memory: float = math.inf) -> Plan:
    """Choose how a volume goes through a local network.

    A small one goes in one piece. Larger ones go in stages, the tiles of which are as large as
    memory allows, up to a size: beyond it they would be a little faster, in several times as much.

    Args:
        metadata: Of a network with a halo.
        shape: Size of the volume in voxels, multiples of ``metadata.size_multiple``.
        memory: Bytes that may be taken.

    Returns:
        The plan; where not even the smallest tiles are small enough, that of these.

    Example:
        >>> from segjax_onnx import read_metadata
        >>> metadata = read_metadata("model.onnx")
        >>> plan(metadata, (48, 48, 48)).calls, plan(metadata, (192, 224, 192)).calls > 3
        (1, True)
    """
    voxels, whole = math.prod(shape), whole_of(metadata)
    one = Plan(((whole, tuple(plan_tiles(shape, halo=whole.halo))),), _need(whole, voxels, voxels))
    if one.memory <= memory and (voxels <= _TILE or not metadata.stages):
        return one
    return _plan(metadata.stages or (whole,), shape, memory)


def whole_of(metadata: ModelMetadata) -> Stage:
    """Return the whole of a network's graph as a stage."""
    return Stage(
        inputs={"image": 1},
        outputs={"probabilities": 1},
        halo=metadata.halo or (),
        multiple=metadata.size_multiple,
        bytes_per_voxel=metadata.bytes_per_voxel,
        bytes_kept=4 * metadata.out_channels,
    )


def _plan(stages: Sequence[Stage], shape: Sequence[int], memory: float) -> Plan:
    voxels, steps, most, tight = math.prod(shape), [], 0.0, False
    for number, stage in enumerate(stages):
        standing = _standing(stages, number) * voxels
        room = (memory - standing) / (_WORK * stage.bytes_per_voxel)
        tiles = plan_tiles(
            shape, halo=stage.halo, multiple=stage.multiple, most=min(room, _size(stage))
        )
        largest, tight = max(tile.size for tile in tiles), tight or room < min(_size(stage), voxels)
        most = max(most, standing + _WORK * stage.bytes_per_voxel * largest)
        steps.append((stage, tuple(tiles)))
    return Plan(tuple(steps), most, tight)


def _size(stage: Stage) -> float:
    """Return the voxels of the largest tile; coarse stages are small as they are."""
    scales = [*stage.inputs.values(), *stage.outputs.values()]
    return _TILE if 1 in scales else math.inf


def _standing(stages: Sequence[Stage], number: int) -> float:
    """Return the bytes by voxel of results: of a stage, and of earlier ones still needed."""
    stage, later = stages[number], stages[number:]
    kept = [
        one.bytes_kept
        for one in stages[:number]
        if any(name in other.inputs for other in later for name in one.outputs)
    ]
    return sum(kept) + stage.bytes_kept


def _need(stage: Stage, voxels: int, largest: int) -> float:
    return stage.bytes_kept * voxels + _WORK * stage.bytes_per_voxel * largest


def run(
    image: Float32[np.ndarray, "*spatial channel"],
    metadata: ModelMetadata,
    chosen: Plan,
    call: Run,
    *,
    batch_size: int = 1,
) -> Float32[np.ndarray, "*spatial label"]:
    """Return the probabilities of a volume.

    Args:
        image: A volume; a network of two axes takes the slices along its third.
        metadata: Of the network.
        chosen: The plan for its size, that of a slice for a network of two axes.
        call: Runs a stage on its inputs, and returns its outputs in their order.
        batch_size: Slices at a time.

    Example:
        >>> from segjax_onnx import read_metadata
        >>> metadata = read_metadata("model.onnx")
        >>> half = lambda stage, arrays: [arrays["image"][:, [0, 0]] / 2]
        >>> image = np.ones((9, 8, 8, 1), np.float32)
        >>> run(image, metadata, plan(metadata, (16, 8, 8)), half).shape
        (9, 8, 8, 2)
    """
    rank, plane = metadata.spatial_dims, image.shape[: metadata.spatial_dims]
    shape = padded_shape(plane, metadata.size_multiple, metadata.patch_size)
    slices = image.reshape(*plane, -1, image.shape[-1])
    inside: Any = (..., *(slice(0, size) for size in plane))
    answers = []
    for start in range(0, slices.shape[rank], batch_size):
        some = slices[..., start : start + batch_size, :]
        answers.append(_run(np.moveaxis(some, (-2, -1), (0, 1)), shape, chosen, call)[inside])
    found = answers[0] if len(answers) == 1 else np.concatenate(answers)
    of_slices = np.moveaxis(found, (0, 1), (-2, -1))
    return of_slices if image.ndim - 1 > rank else of_slices[..., 0, :]


def _run(image: Features, shape: Sequence[int], plan: Plan, call: Run) -> Features:
    arrays = {"image": image}
    for number, (stage, tiles) in enumerate(plan.steps):
        arrays |= _run_stage(stage, tiles, arrays, shape, call)
        needed = {name for later, _ in plan.steps[number + 1 :] for name in later.inputs}
        arrays = {n: a for n, a in arrays.items() if n in needed or n == "probabilities"}
    return arrays["probabilities"]


def _run_stage(
    stage: Stage,
    tiles: Sequence[Tile],
    arrays: Mapping[str, Features],
    shape: Sequence[int],
    call: Run,
) -> dict[str, Features]:
    made: dict[str, Features] = {}
    for tile in tiles:
        given = {name: _cut(arrays[name], tile.read, scale) for name, scale in stage.inputs.items()}
        outputs = zip(stage.outputs.items(), call(stage, given), strict=True)
        for (name, scale), output in outputs:
            if len(tiles) == 1:
                made[name] = output
                continue
            if name not in made:
                sizes = [size // scale for size in shape]
                made[name] = np.empty((*output.shape[:2], *sizes), np.float32)
            made[name][_scaled(tile.write, scale)] = output[_scaled(tile.inside, scale)]
    return made


def _cut(array: Features, part: Sequence[slice], scale: int) -> Features:
    """Copy a part of features, with zeros behind the image where it ends before."""
    where = _scaled(part, scale)
    found = array[where]
    sizes = [one.stop - one.start for one in where[1:]]
    if list(found.shape[2:]) == sizes:
        return np.ascontiguousarray(found)
    behind = [size - n for size, n in zip(sizes, found.shape[2:], strict=True)]
    return np.pad(found, [(0, 0), (0, 0), *((0, n) for n in behind)])


def _scaled(part: Sequence[slice], scale: int) -> tuple[Any, ...]:
    return (..., *(slice(one.start // scale, one.stop // scale) for one in part))
