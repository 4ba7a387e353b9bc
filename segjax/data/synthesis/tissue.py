"""Where lesions may be put: white matter as far as an image tells, in NumPy and JAX alike.

All is decided by comparing intensities with each other and by counting voxels, which both
libraries do exactly, so that they decide alike.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from segjax.errors import InputError

__all__ = ["Room", "Tissue", "background", "find_tissue"]

_SAME = 1e-5  # of the range: libraries round differently
_MOST = 2**15  # voxels whose intensities are sorted, about: more change the quartiles little


class Room(NamedTuple):
    """How far lesions keep from what they may not touch, in voxels along each axis.

    Attributes:
        edge: From the edge of the brain.
        lesions: From true lesions.
        tissue: From the centre of a lesion to the ends of the box that has to be white matter.
    """

    edge: tuple[int, ...]
    lesions: tuple[int, ...]
    tissue: tuple[int, ...]


class Tissue(NamedTuple):
    """Where lesions may be put into an image.

    Attributes:
        centres: Where their centres may lie.
        room: What they may cover.
        spread: Interquartile range of each channel within the brain.
    """

    centres: Bool[Any, "*spatial"]
    room: Bool[Any, "*spatial"]
    spread: Float[Any, " channel"]


def background(image: Float[Any, "*spatial"], xp: ModuleType) -> Bool[Any, "*spatial"]:
    """Find where an image is constant or lowest, as around an extracted brain, and a voxel more.

    A voxel that equals its neighbours along every axis, to 1e-5 of the range of values, is
    background, whatever its value, and so is one of the lowest value, and so are the neighbours of
    both. Noise in the background hides it.

    Args:
        image: One channel.
        xp: ``numpy`` or ``jax.numpy``.

    Example:
        >>> image = np.array([0, 0, 0, 0, 3, 5, 4, 6, 0, 0, 0], np.float32)
        >>> background(image, np).astype(int).tolist()
        [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    """
    lowest = image.min()
    close = np.float32(_SAME) * (image.max() - lowest)
    constant = xp.ones(image.shape, dtype=bool)
    for axis, size in enumerate(image.shape):
        if size > 1:
            same = xp.abs(_cut(image, axis, 1, size) - _cut(image, axis, 0, size - 1)) <= close
            same = _pad(same, axis, 1, 0, True, xp) & _pad(same, axis, 0, 1, True, xp)
            constant = constant & same
    return _near(constant | (image - lowest <= close), (1,) * image.ndim, xp)


def find_tissue(
    image: Float[Any, "*spatial channel"],
    brain: Bool[Any, "*spatial"],
    lesions: Bool[Any, "*spatial"],
    window: tuple[float, float],
    room: Room,
    xp: ModuleType,
) -> Tissue:
    """Find where lesions may be put.

    White matter is what lies within a window of the first channel: so many interquartile ranges of
    the brain below and above its median. The centre of a lesion is a voxel of it, with at least
    three fifths of its neighbours; a lesion covers voxels of whose 3 × 3 × 3 neighbours at least
    half are white matter, that are in the brain, off its edge, and off true lesions.

    Args:
        image: The image.
        brain: Where the brain is.
        lesions: True lesions.
        window: Lowest and highest intensity.
        room: How far lesions keep from the edge and from true lesions.
        xp: ``numpy`` or ``jax.numpy``.

    Raises:
        InputError: The window is no range.
    """
    if not window[0] < window[1]:
        raise InputError(f"window {window} is no range: give the lowest and the highest intensity")
    first, middle, third = _quartiles(image, brain, xp)
    spread = third - first
    away = image[..., 0] - middle[0]
    white = (away >= np.float32(window[0]) * spread[0]) & (
        away <= np.float32(window[1]) * spread[0]
    )
    white = white & brain
    inner = brain & ~_near(~brain, room.edge, xp) & ~_near(lesions, room.lesions, xp)
    closest = tuple(int(size > 1) for size in white.shape)
    whole = 5 * _count(white, room.tissue, xp) >= 3 * _all_of(white.shape, room.tissue)
    most = 2 * _count(white, closest, xp) >= _all_of(white.shape, closest)
    covered = inner & most
    return Tissue(covered & white & whole, covered, spread)


def _quartiles(
    image: Float[Any, "*spatial channel"], brain: Bool[Any, "*spatial"], xp: ModuleType
) -> list[Float[Any, " channel"]]:
    """Return order statistics of every channel; of large images those of each n-th voxel."""
    spatial = image.shape[:-1]
    axes = sum(size > 1 for size in spatial)
    step = max(1, round((np.prod(spatial) / _MOST) ** (1 / max(axes, 1))))
    coarse = tuple(slice(None, None, step if size > 1 else 1) for size in spatial)
    inside = brain[coarse].reshape(-1, 1)
    values = image[coarse].reshape(-1, image.shape[-1])
    ordered = xp.sort(xp.where(inside, values, np.asarray(np.inf, values.dtype)), axis=0)
    last = xp.maximum(inside.sum() - 1, 0)
    return [xp.where(inside.any(), ordered[last * quarter // 4], 0) for quarter in (1, 2, 3)]


def _near(
    mask: Bool[Any, "*spatial"], reach: Sequence[int], xp: ModuleType
) -> Bool[Any, "*spatial"]:
    """Dilate a mask by a box."""
    return _summed(mask, reach, xp, xp.logical_or)


def _count(
    mask: Bool[Any, "*spatial"], reach: Sequence[int], xp: ModuleType
) -> Int[Any, "*spatial"]:
    """Count the voxels of a mask in the box around each voxel."""
    return _summed(mask.astype(np.int32), reach, xp, xp.add)


def _summed(values: Any, reach: Sequence[int], xp: ModuleType, join: Any) -> Any:
    for axis, far in enumerate(reach):
        size, total = values.shape[axis], values
        for step in range(1, min(far, size - 1) + 1):
            ahead, behind = _cut(values, axis, step, size), _cut(values, axis, 0, size - step)
            total = join(total, _pad(ahead, axis, 0, step, 0, xp))
            total = join(total, _pad(behind, axis, step, 0, 0, xp))
        values = total
    return values


def _all_of(spatial: tuple[int, ...], reach: Sequence[int]) -> Int[np.ndarray, "..."]:
    """Return how many voxels of the image the box around each voxel holds."""
    total = np.ones((1,) * len(spatial), np.int32)
    for axis, (size, far) in enumerate(zip(spatial, reach, strict=True)):
        place = np.arange(size)
        line = np.minimum(place + far, size - 1) - np.maximum(place - far, 0) + 1
        total = total * np.expand_dims(line, [a for a in range(len(spatial)) if a != axis])
    return total


def _cut(values: Any, axis: int, start: int, stop: int) -> Any:
    return values[(slice(None),) * axis + (slice(start, stop),)]


def _pad(values: Any, axis: int, before: int, after: int, fill: int, xp: ModuleType) -> Any:
    widths = [(before, after) if a == axis else (0, 0) for a in range(values.ndim)]
    return xp.pad(values, widths, constant_values=fill)
