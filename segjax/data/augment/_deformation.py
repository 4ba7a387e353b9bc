"""Where the voxels of a deformed image come from."""

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from segjax.data.augment._arrays import matmul, voxel_indices
from segjax.errors import InputError

__all__ = ["Deformation", "bspline_weights", "compose"]

_BEYOND = 0.625  # voxels by which ITK's domain of a B-spline reaches over the outermost centres


@dataclass(frozen=True)
class Deformation:
    """Say, for every voxel i of the result, that it is read at i + d(i) in the image.

    ``d(i) = A·(i - c) + t + (1 + A)·e(i)`` with the centre c of the image, all in voxels; e is a
    cubic B-spline of the control points.

    Attributes:
        matrix: ``(rank, rank + 1)``: A and, as last column, t. Zeros move nothing.
        control_points: ``(rank, *points)``: displacement along each axis at the control points;
            ``None`` where there is no elastic part.
    """

    matrix: Float[Any, "rank columns"]
    control_points: Float[Any, "rank *points"] | None = None

    def field(self, spatial: tuple[int, ...], xp: ModuleType) -> Float[Any, "rank k rest"]:
        """Contract everything but the first axis: :meth:`displacement` does that one.

        Returns:
            For each axis of displacement, what the columns of :func:`_first_axis` weigh, over the
            flattened other axes.
        """
        rest = int(np.prod(spatial[1:]))
        column = (-1,) + (1,) * len(spatial)
        plane = self.matrix[:, -1].reshape(column)
        for axis in range(1, len(spatial)):
            place = voxel_indices(spatial, axis) - np.float32((spatial[axis] - 1) / 2)
            plane = plane + self.matrix[:, axis].reshape(column) * place
        ones = xp.ones((len(spatial), 1, rest), dtype=np.float32)
        parts = [plane.reshape(len(spatial), 1, rest), self.matrix[:, 0].reshape(-1, 1, 1) * ones]
        if self.control_points is not None:
            parts.append(self._elastic(spatial, rest, xp))
        return xp.concatenate(parts, axis=1)

    def displacement(
        self,
        field: Float[Any, "rank k rest"],
        spatial: tuple[int, ...],
        rows: slice,
        xp: ModuleType,
    ) -> Float[Any, "rank *slab"]:
        """Return d for a slab of the first axis.

        Args:
            field: Of :meth:`field`.
            spatial: Shape of the image.
            rows: Indices of the first axis.
            xp: ``numpy`` or ``jax.numpy``.
        """
        weights = self._first_axis(spatial[0])[rows]
        slab = (len(spatial), len(weights), *spatial[1:])
        return matmul(weights, field, xp).reshape(slab)

    def _first_axis(self, size: int) -> Float32[np.ndarray, "size k"]:
        place = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        columns = [np.ones((size, 1), np.float32), place[:, None]]
        if self.control_points is not None:
            columns.append(bspline_weights(size, self.control_points.shape[1]))
        return np.concatenate(columns, axis=1)

    def _elastic(self, spatial: tuple[int, ...], rest: int, xp: ModuleType) -> Any:
        rank, first, *points = self.control_points.shape  # type: ignore[union-attr]
        linear = self.matrix[:, :-1] + np.eye(rank, dtype=np.float32)
        field = matmul(linear, self.control_points.reshape(rank, -1), xp)  # type: ignore[union-attr]
        field = field.reshape(rank * first, *points)
        for axis, count in enumerate(points):  # the axis in front is contracted, its voxels go last
            field = xp.moveaxis(field, 1, -1)
            weights = bspline_weights(spatial[axis + 1], count)
            field = matmul(field, weights.T, xp)
        return field.reshape(rank, first, rest)


def compose(first: Deformation, second: Deformation, xp: ModuleType) -> Deformation:
    """Return two deformations, one after the other, as one.

    Args:
        first: A deformation without control points.
        second: Done after it.
        xp: ``numpy`` or ``jax.numpy``.

    Raises:
        InputError: The first one is elastic.

    Example:
        >>> shift = Deformation(np.array([[0.0, 2.0]], np.float32))
        >>> compose(shift, shift, np).matrix.tolist()
        [[0.0, 4.0]]
    """
    if first.control_points is not None:
        raise InputError("an elastic deformation can only be the last of those done at once")
    linear = first.matrix[:, :-1]
    matrix = first.matrix + second.matrix + matmul(linear, second.matrix, xp)
    return Deformation(matrix, second.control_points)


@lru_cache(maxsize=64)
def bspline_weights(size: int, count: int) -> Float32[np.ndarray, "size count"]:
    """Return how much each of the control points along an axis weighs at each voxel.

    The points are those of a uniform cubic B-spline with ``count - 3`` spans over the axis, as
    ITK's ``BSplineTransformInitializer`` places them; each row sums to 1. A point that is alone
    holds for the whole axis.

    Args:
        size: Voxels along the axis.
        count: Control points along the axis: 4 or more, or 1.

    Example:
        >>> bspline_weights(1, 5).astype(float).round(3).tolist()
        [[0.0, 0.167, 0.667, 0.167, 0.0]]
    """
    if count == 1:
        return np.ones((size, 1), np.float32)
    spans = count - 3
    place = (np.arange(size) + _BEYOND) / (size - 1 + 2 * _BEYOND) * spans
    distance = np.abs(place[:, None] + 1 - np.arange(count))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far).astype(np.float32)
    weights.flags.writeable = False
    return weights
