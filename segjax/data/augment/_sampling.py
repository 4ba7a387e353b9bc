"""Read images between their voxels: the one interpolation of all spatial transforms."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer

from segjax.data.augment._arrays import voxel_indices
from segjax.data.augment._deformation import Deformation
from segjax.interpolation import between_corners

__all__ = ["Fill", "warp", "warp_label", "warp_pair"]

Fill = float | Literal["minimum"]

_SLAB = 2**15  # voxels that NumPy works on at a time: the temporaries stay in the cache


def warp(
    image: Float[Any, "*spatial channel"],
    deformation: Deformation,
    xp: ModuleType,
    *,
    fill: Fill = "minimum",
) -> Float[Any, "*spatial channel"]:
    """Deform an image, interpolating linearly.

    Args:
        image: The image.
        deformation: Where its voxels come from.
        xp: ``numpy`` or ``jax.numpy``.
        fill: Value of voxels that come from more than half a voxel outside of the image;
            "minimum" is that of each channel. Within half a voxel the border's value holds.

    Returns:
        The image, float32.

    Example:
        >>> ramp = np.array([[0.0], [1.0], [2.0]], np.float32)
        >>> shift = Deformation(np.array([[0.0, 0.5]], np.float32))
        >>> warp(ramp, shift, np, fill=-1.0).ravel().tolist()
        [0.5, 1.5, -1.0]

    Source: ``SimpleITK.Resample`` with ``sitkLinear`` does the same.
    """
    (result,) = _read(deformation, [_linear(image, fill, xp)], image.shape[:-1], xp)
    return result


def warp_label(
    label: Integer[Any, "*spatial"], deformation: Deformation, xp: ModuleType
) -> Integer[Any, "*spatial"]:
    """Deform a label map: each voxel gets the nearest label, or 0 outside of the map.

    Args:
        label: The label map.
        deformation: Where its voxels come from.
        xp: ``numpy`` or ``jax.numpy``.

    Example:
        >>> shift = Deformation(np.array([[0.0, 0.7]], np.float32))
        >>> warp_label(np.array([0, 1, 2]), shift, np).tolist()
        [1, 2, 0]
    """
    (result,) = _read(deformation, [_nearest(label, xp)], label.shape, xp)
    return result


def warp_pair(
    image: Float[Any, "*spatial channel"],
    label: Integer[Any, "*spatial"],
    deformation: Deformation,
    xp: ModuleType,
    *,
    fill: Fill = "minimum",
) -> tuple[Float[Any, "*spatial channel"], Integer[Any, "*spatial"]]:
    """Do :func:`warp` and :func:`warp_label` at once, which finds the places but once."""
    readers = [_linear(image, fill, xp), _nearest(label, xp)]
    warped, labels = _read(deformation, readers, label.shape, xp)
    return warped, labels


_Reader = Callable[[Any, list[Any], Any], Any]


def _read(
    deformation: Deformation,
    readers: Sequence[_Reader],
    spatial: tuple[int, ...],
    xp: ModuleType,
) -> list[Any]:
    field = deformation.field(spatial, xp)
    rows = max(1, _SLAB // int(np.prod(spatial[1:]))) if xp is np else spatial[0]
    slabs = [slice(row, min(row + rows, spatial[0])) for row in range(0, spatial[0], rows)]
    results = [_read_slab(deformation, field, readers, spatial, slab, xp) for slab in slabs]
    if len(slabs) == 1:
        return results[0]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _read_slab(
    deformation: Deformation,
    field: Any,
    readers: Sequence[_Reader],
    spatial: tuple[int, ...],
    slab: slice,
    xp: ModuleType,
) -> list[Any]:
    displacement = deformation.displacement(field, spatial, slab, xp)
    places = [voxel_indices(spatial, axis) for axis in range(len(spatial))]
    places[0] = places[0][slab]
    inside = None
    for axis, size in enumerate(spatial):
        moved, place = displacement[axis], places[axis]
        within = (moved >= -0.5 - place) & (moved < size - 0.5 - place)
        inside = within if inside is None else inside & within
    return [reader(displacement, places, inside) for reader in readers]


def _linear(image: Any, fill: Fill, xp: ModuleType) -> _Reader:
    spatial, channels = image.shape[:-1], image.shape[-1]
    axes = _long(spatial)
    image = image.astype(np.float32)
    outside = image.min(axis=tuple(range(len(spatial)))) if fill == "minimum" else np.float32(fill)
    padded = xp.pad(image, [(0, int(size > 1)) for size in spatial] + [(0, 0)], mode="edge")
    strides = _strides(padded.shape[:-1])
    flat = padded.reshape(-1, channels)

    def read(displacement: Any, places: list[Any], inside: Any) -> Any:
        start, weights = 0, []
        for axis in axes:
            moved = xp.clip(displacement[axis], -places[axis], spatial[axis] - 1 - places[axis])
            whole = xp.floor(moved)
            moved -= whole  # in place in NumPy, as below
            weights.append(moved[..., None])
            whole += places[axis]
            index = whole.astype(_index(xp))
            index *= strides[axis]
            index += start
            start = index
        steps = [strides[axis] for axis in axes]
        values = between_corners(flat, start, steps, weights, xp)
        return xp.where(inside[..., None], values, outside)

    return read


def _nearest(label: Any, xp: ModuleType) -> _Reader:
    spatial, strides, flat = label.shape, _strides(label.shape), label.reshape(-1)

    def read(displacement: Any, places: list[Any], inside: Any) -> Any:
        start = 0
        for axis in _long(spatial):
            last = spatial[axis] - 1
            place = xp.clip(xp.floor(displacement[axis] + 0.5) + places[axis], 0, last)
            start = start + place.astype(_index(xp)) * strides[axis]
        found = xp.take(flat, start, axis=0, mode="clip")
        return xp.where(inside, found, xp.zeros((), label.dtype))

    return read


def _long(spatial: tuple[int, ...]) -> list[int]:
    """Return the axes between whose voxels there is something to interpolate."""
    return [axis for axis, size in enumerate(spatial) if size > 1]


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]


def _index(xp: ModuleType) -> Any:
    return np.intp if xp is np else np.int32
