"""Interpolate between the voxels at the corners of a cell."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from jaxtyping import Float, Integer, Shaped

__all__ = ["between_corners"]


def between_corners(
    flat: Shaped[Any, "voxel *channel"],
    start: Integer[Any, "*places"] | int,
    strides: Sequence[int],
    weights: Sequence[Float[Any, "..."]],
    xp: ModuleType,
) -> Shaped[Any, "..."]:
    """Interpolate linearly between the values at places and one stride further along each axis.

    Args:
        flat: The voxels in one line, with or without channels behind them.
        start: Index in the line of the first corner of each cell, or of all of them.
        strides: For each axis to interpolate along, the distance in the line to the next voxel.
        weights: For each of these axes, how far into the cell, from 0 to 1; broadcasts with the
            values.
        xp: ``numpy`` or ``jax.numpy``.

    Returns:
        The values, of the shape of ``start`` and then the channels.

    Example:
        >>> import numpy as np
        >>> picture = np.array([[0.0, 2.0], [4.0, 6.0]])
        >>> half, quarter = np.array([0.5]), np.array([0.25])
        >>> between_corners(picture.ravel(), np.array([0]), (2, 1), (half, quarter), np)
        array([2.5])
    """
    if not strides:
        return xp.take(flat, start, axis=0, mode="clip")
    lower = between_corners(flat, start, strides[1:], weights[1:], xp)
    upper = between_corners(flat[strides[0] :], start, strides[1:], weights[1:], xp)
    upper -= lower  # in place in NumPy
    upper *= weights[0]
    upper += lower
    return upper
