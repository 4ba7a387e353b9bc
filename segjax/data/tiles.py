"""Cut a volume into tiles for a network that sees only so far: exact, with no overlap averaged.

Outputs of a local network depend on inputs within a halo. So a volume can go through it in one
piece, or in tiles that are given with this halo around them: the results are the same.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from segjax.errors import InputError

__all__ = ["Locality", "Tile", "pad_behind", "padded_shape", "plan_tiles"]

_MOST_CUTS = 24  # of one axis, as far as plans go
_MOST_WORK = 8  # times the voxels of a volume: plans that compute more are none


@dataclass(frozen=True)
class Tile:
    """A part of a volume.

    Attributes:
        read: What the network is given.
        write: What is kept of its answer.
    """

    read: tuple[slice, ...]
    write: tuple[slice, ...]

    @property
    def inside(self) -> tuple[slice, ...]:
        """What is kept, as slices of what is read."""
        pairs = zip(self.read, self.write, strict=True)
        return tuple(slice(w.start - r.start, w.stop - r.start) for r, w in pairs)

    @property
    def size(self) -> int:
        """Voxels that the network is given."""
        return math.prod(part.stop - part.start for part in self.read)


@dataclass(frozen=True)
class Locality:
    """That a network sees only so far.

    Attributes:
        halo: How many voxels away from an output the image matters at most, along each axis.
        multiple: Of which sizes are multiples.
    """

    halo: tuple[int, ...]
    multiple: int


def pad_behind(
    image: Float32[np.ndarray, "*spatial channel"], multiple: int, least: Sequence[int] = ()
) -> Float32[np.ndarray, "*padded channel"]:
    """Add zeros behind the last voxel of each axis.

    Args:
        image: A volume of any rank; returned as it is where nothing is added.
        multiple: What each size becomes a multiple of.
        least: What sizes become at least, a multiple for each of the first axes.

    Example:
        >>> pad_behind(np.ones((5, 8, 1), np.float32), 4, (12,)).shape
        (12, 8, 1)
    """
    sizes = padded_shape(image.shape[:-1], multiple, least)
    behind = [wanted - size for wanted, size in zip(sizes, image.shape, strict=False)]
    return np.pad(image, [*((0, n) for n in behind), (0, 0)]) if any(behind) else image


def padded_shape(shape: Sequence[int], multiple: int, least: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the sizes that :func:`pad_behind` gives a volume.

    Example:
        >>> padded_shape((5, 8), 4, (12, 4))
        (12, 8)
    """
    wanted = itertools.zip_longest(shape, least[: len(shape)], fillvalue=1)
    return tuple(max(size + -size % multiple, patch) for size, patch in wanted)


def plan_tiles(
    shape: Sequence[int], *, halo: Sequence[int], multiple: int = 1, most: float = math.inf
) -> list[Tile]:
    """Cut a volume so that the fewest voxels are computed twice.

    What is kept of tiles covers each voxel once. Tiles begin and end at multiples, and are given
    with the halo, rounded up to a multiple, as far as the volume goes.

    Args:
        shape: Size of the volume, in voxels: multiples.
        halo: How far outputs depend on inputs, along each axis, in voxels.
        multiple: Of which sizes are multiples.
        most: Voxels that one tile may have with its halo.

    Returns:
        One tile, the whole volume, where it has at most so many voxels; else the tiles of the
        plan with the fewest voxels in all, or the smallest where none is small enough. No plan
        computes more than eight times the voxels of the volume.

    Raises:
        InputError: A size is no multiple.

    Example:
        >>> [tile.read for tile in plan_tiles((16,), halo=(3,), multiple=2, most=12)]
        [(slice(0, 12, None),), (slice(4, 16, None),)]
    """
    if wrong := [size for size in shape if size % multiple or size < 1]:
        raise InputError(f"a size of {wrong[0]}: give multiples of {multiple}")
    axes = [_cuts(size, reach, multiple) for size, reach in zip(shape, halo, strict=True)]
    plans = [
        (_largest(plan), total, plan)
        for plan in itertools.product(*axes)
        if (total := _total(plan)) <= _MOST_WORK * math.prod(shape)
    ]
    fitting = [plan for plan in plans if plan[0] <= most]
    if fitting:
        best = min(fitting, key=lambda plan: (plan[1], math.prod(map(len, plan[2]))))
    else:
        best = min(plans, key=lambda plan: plan[:2])
    return [Tile(*_turned(parts)) for parts in itertools.product(*best[2])]


_Cut = tuple[tuple[slice, slice], ...]  # of one axis: what is read and kept of each part


def _cuts(size: int, halo: int, multiple: int) -> list[_Cut]:
    """Return the ways to cut an axis into parts of equal length, as far as they differ."""
    blocks, around = size // multiple, math.ceil(halo / multiple) * multiple
    lengths = {math.ceil(blocks / count) for count in range(1, min(blocks, _MOST_CUTS) + 1)}
    return [tuple(_parts(size, length * multiple, around)) for length in sorted(lengths)]


def _parts(size: int, length: int, around: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, size, length):
        stop = min(size, start + length)
        yield slice(max(0, start - around), min(size, stop + around)), slice(start, stop)


def _largest(plan: Sequence[_Cut]) -> int:
    return math.prod(max(read.stop - read.start for read, _ in cut) for cut in plan)


def _total(plan: Sequence[_Cut]) -> int:
    return math.prod(sum(read.stop - read.start for read, _ in cut) for cut in plan)


def _turned(
    parts: Sequence[tuple[slice, slice]],
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    return tuple(read for read, _ in parts), tuple(kept for _, kept in parts)
