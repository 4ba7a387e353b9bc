"""Read a volume between its voxels."""

from itertools import permutations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Shaped

from segjax.interpolation import between_corners

__all__ = ["sample"]

_SLAB = 2**15  # voxels at a time: what is worked on stays in the processor's cache
_ROUNDING = 9  # decimals of a voxel: what is halfway between two of them is known as such
_STRAIGHT = 1e-6  # voxels by which a line along an axis may stray from it


def sample(
    data: Shaped[np.ndarray, "*spatial"],
    index: Float64[np.ndarray, "_ _"],
    out: Shaped[np.ndarray, "*sampled"],
    *,
    linear: bool,
) -> None:
    """Read a volume at ``index @ (i, j, k, 1)`` for every index (i, j, k) of an array.

    Up to half a voxel beyond the outermost voxels the border's value holds, further out 0. Where
    the axes of both grids are the same but for order and direction, each is gone through on its
    own; else the corners around each place are gathered. Both work on slabs: beside ``out`` they
    need the memory of one copy of ``data`` at most.

    Args:
        data: Voxels; float32 where ``linear``.
        index: Index in ``out`` -> index in ``data``, homogeneous.
        out: Where the values go; of the type of ``data``.
        linear: Whether to interpolate linearly. Else the nearest voxel is taken, of two equally
            near ones the later.

    Example:
        >>> data, out = np.array([0.0, 2.0, 4.0], np.float32), np.empty(3, np.float32)
        >>> sample(data, np.array([[0.5, 0.25], [0, 1]]), out, linear=True)
        >>> out
        array([0.5, 1.5, 2.5], dtype=float32)
    """
    out[...] = 0
    order = _order(index, out.shape)
    if order is None:
        _gather(np.ascontiguousarray(data), index, out, linear=linear)
        return
    lines = [
        _line(index[axis, new], index[axis, -1], old=data.shape[axis], new=size, linear=linear)
        for new, (axis, size) in enumerate(zip(order, out.shape, strict=True))
    ]
    inside = out[tuple(line.inside for line in lines)]
    _go_along(np.ascontiguousarray(data.transpose(order)), lines, inside)


def _order(index: Float64[np.ndarray, "_ _"], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axis of the volume that each new axis runs along; None where one is oblique."""
    reach = np.abs(index[:-1, :-1]) * (np.array(shape) - 1)
    for order in permutations(range(len(shape))):
        stray = reach.copy()
        stray[order, range(len(shape))] = 0
        if stray.max() <= _STRAIGHT:
            return order
    return None


class _Line(NamedTuple):
    """Where the voxels of a new axis lie on an axis of the volume."""

    inside: slice  # those that lie within the volume; the others are 0
    lower: Int[np.ndarray, " inside"]
    weight: Float32[np.ndarray, " inside"]  # of the voxel after the lower one


def _line(scale: float, offset: float, *, old: int, new: int, linear: bool) -> _Line:
    places = np.round(offset + scale * np.arange(new), _ROUNDING)
    within = np.flatnonzero((places >= -0.5) & (places < old - 0.5))
    inside = slice(within[0], within[-1] + 1) if within.size else slice(0, 0)
    places = places[inside].clip(0, old - 1)
    lower = np.floor(places if linear else places + 0.5)
    weight = places - lower if linear else np.zeros_like(places)
    return _Line(inside, lower.astype(np.intp), weight.astype(np.float32))


def _go_along(
    data: Shaped[np.ndarray, "*spatial"],
    lines: list[_Line],
    out: Shaped[np.ndarray, "*inside"],
) -> None:
    """Interpolate along one axis after the other."""
    first, *others = lines
    rows = _rows(out.shape)
    for row in range(0, len(out), rows):
        slab = slice(row, row + rows)
        block = _along(data, first._replace(lower=first.lower[slab], weight=first.weight[slab]), 0)
        for axis, line in enumerate(others, start=1):
            block = _along(block, line, axis)
        out[slab] = block


def _along(block: Shaped[np.ndarray, "*old"], line: _Line, axis: int) -> Shaped[np.ndarray, "*new"]:
    lower = block.take(line.lower, axis, mode="clip")
    if not line.weight.any():
        return lower
    upper = block.take(line.lower + 1, axis, mode="clip")
    upper -= lower
    upper *= line.weight.reshape((-1,) + (1,) * (block.ndim - 1 - axis))
    upper += lower
    return upper


def _gather(
    data: Shaped[np.ndarray, "*spatial"],
    index: Float64[np.ndarray, "_ _"],
    out: Shaped[np.ndarray, "*sampled"],
    *,
    linear: bool,
) -> None:
    """Read the corners around each place, or the nearest of them."""
    flat = data.reshape(-1)
    rows = _rows(out.shape)
    for row in range(0, len(out), rows):
        slab = slice(row, row + rows)
        start, inside = np.zeros(out[slab].shape), np.ones(out[slab].shape, bool)
        strides, weights = [], []
        for axis, size in enumerate(data.shape):
            places = _places(index[axis], out.shape, slab)
            inside &= (places >= -0.5) & (places < size - 0.5)
            if size == 1:
                continue
            strides.append(data.strides[axis] // data.itemsize)
            places += 0 if linear else 0.5
            np.clip(places, 0, np.nextafter(size - 1 if linear else size, 0), out=places)
            whole = np.floor(places)
            weights.append((places - whole).astype(np.float32))
            whole *= strides[-1]
            start += whole
        steps = strides if linear else []
        values = between_corners(flat, start.astype(np.intp), steps, weights, np)
        np.copyto(out[slab], values, where=inside)


def _places(
    index: Float64[np.ndarray, " axis_1"], shape: tuple[int, ...], slab: slice
) -> Float[np.ndarray, "*slab"]:
    """Return where the voxels of a slab lie on one axis of the volume."""
    places = np.full((1,) * len(shape), index[-1] + 10.0**-_ROUNDING)
    for axis, (step, size) in enumerate(zip(index, shape, strict=False)):
        along = step * np.arange(size)
        along = along[slab] if axis == 0 else along
        places = places + along.reshape((-1,) + (1,) * (len(shape) - 1 - axis))
    return places


def _rows(shape: tuple[int, ...]) -> int:
    return max(1, _SLAB // max(1, int(np.prod(shape[1:]))))
