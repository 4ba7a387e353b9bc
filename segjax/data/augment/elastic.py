"""Bend images smoothly."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from segjax.data.augment._deformation import Deformation
from segjax.data.augment._sampling import Fill
from segjax.data.augment.transform import (
    Parameters,
    SpatialTransform,
    check_fill,
    check_spacing,
    long_axes,
    spacing_of,
)
from segjax.errors import InputError

_FEWEST = 4  # control points that a cubic spline needs


@dataclass(frozen=True)
class Elastic(SpatialTransform):
    """Move control points of a cubic B-spline at random, and the image with them.

    Each component of the displacement of each control point is uniform in [-D, D]; the points of
    the outer layers stay. Listed right after :class:`Affine`, both are one interpolation. A slice
    of a volume, one of whose axes has one voxel, is bent in its plane, by points that lie there.

    Args:
        control_points: Number along every axis, 4 or more, those on the borders included.
        max_displacement: D along each axis in mm, or one number for all axes.
        locked_borders: Layers of control points that stay where they are: 0, 1 or 2. The outermost
            layer lies outside of the image, the second one at its border.
        spacing: Distance between voxels along each axis in mm; when empty, that of the image where
            a loader knows it, else 1 mm.
        fill: Value of voxels that come from outside of the image; "minimum" is that of the channel.
        probability: Of the image being bent, in [0, 1].

    Raises:
        InputError: Where a field is out of range, or no control point is free.

    Example:
        >>> elastic = Elastic(max_displacement=(3.0,))
        >>> parameters = elastic.draw(np.random.default_rng(0), (64, 64, 1))
        >>> parameters["control_points"].shape
        (2, 7, 7)
        >>> elastic.apply(np.ones((64, 64, 1), np.float32), parameters, np).min()
        np.float32(1.0)

    Source:
        ``torchio.RandomElasticDeformation`` (1.x) as documented. Its code leaves the borders of the
        third axis free; and a 2D image there lies in a 3D mesh of control points, whose layers it
        averages, so that displacements have 0.71 times the spread for the same D.
    """

    name: ClassVar[str] = "elastic"
    ends_row: ClassVar[bool] = True
    control_points: int = 7
    max_displacement: tuple[float, ...] = (7.5,)
    locked_borders: int = 2
    spacing: tuple[float, ...] = ()
    fill: Fill = "minimum"
    probability: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fill(self)
        check_spacing(self)
        if self.locked_borders not in (0, 1, 2):
            raise InputError(f"elastic: locked_borders {self.locked_borders}: give 0, 1 or 2")
        fewest = max(_FEWEST, 2 * self.locked_borders + 1)
        if self.control_points < fewest:
            raise InputError(
                f"elastic: control_points {self.control_points}: give {fewest} or more, so that "
                f"some are free with {self.locked_borders} locked borders"
            )
        if not self.max_displacement or not all(0 <= d < np.inf for d in self.max_displacement):
            raise InputError(
                f"elastic: max_displacement {self.max_displacement}: give numbers of mm, 0 or more"
            )

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> Float32[np.ndarray, "rank *control_points"]:
        """Draw the displacement of the control points along each axis, in mm."""
        moved = self._still(shape)
        rank, axes = moved.ndim - 1, np.flatnonzero(long_axes(shape))
        largest = _for_axes(self.max_displacement, rank)[axes]
        points = rng.uniform(-1, 1, (len(axes), *moved.shape[1:])).astype(np.float32)
        points *= largest.reshape((-1,) + (1,) * rank)
        inner = slice(self.locked_borders, -self.locked_borders or None)
        free = tuple(inner if size > 1 else slice(None) for size in shape[:-1])
        for axis, component in zip(axes, points, strict=True):
            moved[axis][free] = component[free]
        return moved

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``control_points``, ``(rank, *control_points)``: displacements in voxels.

        Along an axis of one voxel there is one control point.
        """
        rank = len(shape) - 1
        spacing = np.array(spacing_of(self, rank), np.float32).reshape((rank,) + (1,) * rank)
        return {"control_points": self.sample(rng, shape) / spacing}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return control points that stay where they are."""
        return {"control_points": self._still(shape)}

    def deformation(self, parameters: Parameters) -> Deformation:
        """Return the control points as a deformation."""
        points = parameters["control_points"]
        rank = points.shape[0]
        return Deformation(np.zeros((rank, rank + 1), np.float32), points)

    def _still(self, shape: tuple[int, ...]) -> Float32[np.ndarray, "rank *control_points"]:
        counts = [self.control_points if size > 1 else 1 for size in shape[:-1]]
        return np.zeros((len(counts), *counts), np.float32)


def _for_axes(values: tuple[float, ...], rank: int) -> Float32[np.ndarray, " rank"]:
    if len(values) not in (1, rank):
        raise InputError(
            f"elastic: max_displacement {values}: give one number, or one for each of the {rank} "
            "axes of the image"
        )
    return np.broadcast_to(np.array(values, np.float32), (rank,)).copy()
