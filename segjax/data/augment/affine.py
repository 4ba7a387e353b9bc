"""Rotate, scale and shift images."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64

from segjax.data.augment._deformation import Deformation
from segjax.data.augment._sampling import Fill
from segjax.data.augment.transform import (
    Parameters,
    SpatialTransform,
    check_fill,
    check_pairs,
    check_spacing,
    long_axes,
    spacing_of,
    turning_axes,
    uniform_by_axis,
)

_SMALLEST = 1e-3  # scale; less would shrink the image to a voxel


@dataclass(frozen=True)
class Affine(SpatialTransform):
    """Rotate and scale about the centre, then shift; read the result by one interpolation.

    The voxel at y (mm from the centre) shows what was at ``R⁻¹(S⁻¹ y - t)``, with R = Rz·Rx·Ry in
    3D. Bounds are either ``(low, high)`` for every axis or ``(low, high, low, high, …)``, a pair
    per axis. Axes count as those of the patient: left to right, back to front, bottom to top (RAS).
    A slice of a volume, one of whose axes has one voxel, stays in its plane.

    Args:
        scales: Bounds of the factor by which things grow, along each axis.
        degrees: Bounds of the angle about each axis; in 2D there is one angle.
        translation: Bounds of the shift along each axis, in mm.
        isotropic: Whether one factor serves all axes; the first pair of ``scales`` bounds it.
        spacing: Distance between voxels along each axis in mm, in which angles are kept; when
            empty, that of the image where a loader knows it, else 1 mm.
        fill: Value of voxels that come from outside of the image; "minimum" is that of the channel.
        probability: Of the image being moved, in [0, 1].

    Raises:
        InputError: Where bounds, spacing, fill or probability are out of range.

    Example:
        >>> turn = Affine(scales=(1.0, 1.0), degrees=(90.0, 90.0))
        >>> parameters = turn.draw(np.random.default_rng(0), (3, 3, 1))
        >>> turn.apply_label(np.array([[1, 2, 3], [0, 0, 0], [0, 0, 0]]), parameters, np).tolist()
        [[3, 0, 0], [2, 0, 0], [1, 0, 0]]

    Source:
        ``torchio.RandomAffine`` (1.x), its laws and its order of movements.
    """

    name: ClassVar[str] = "affine"
    scales: tuple[float, ...] = (0.9, 1.1)
    degrees: tuple[float, ...] = (-10.0, 10.0)
    translation: tuple[float, ...] = (0.0, 0.0)
    isotropic: bool = False
    spacing: tuple[float, ...] = ()
    fill: Fill = "minimum"
    probability: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fill(self)
        check_pairs(self, "scales", least=_SMALLEST)
        check_pairs(self, "degrees")
        check_pairs(self, "translation")
        check_spacing(self)

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> tuple[
        Float32[np.ndarray, " rank"], Float32[np.ndarray, " angles"], Float32[np.ndarray, " rank"]
    ]:
        """Draw scales, degrees and translation, as :func:`affine_matrix` takes them."""
        axes = long_axes(shape)
        scales = uniform_by_axis(rng, self, "scales", axes, otherwise=1.0)
        if self.isotropic:
            scales[axes] = scales[axes][:1]
        degrees = uniform_by_axis(rng, self, "degrees", turning_axes(shape))
        return scales, degrees, uniform_by_axis(rng, self, "translation", axes)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``matrix``, ``(rank, rank + 1)``: see :func:`affine_matrix`."""
        spacing = spacing_of(self, len(shape) - 1)
        return {"matrix": affine_matrix(*self.sample(rng, shape), spacing=spacing)}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return a matrix that moves nothing."""
        rank = len(shape) - 1
        return {"matrix": np.zeros((rank, rank + 1), np.float32)}

    def deformation(self, parameters: Parameters) -> Deformation:
        """Return the matrix as a deformation."""
        return Deformation(parameters["matrix"])


def affine_matrix(
    scales: Float32[np.ndarray, " rank"],
    degrees: Float32[np.ndarray, " angles"],
    translation: Float32[np.ndarray, " rank"],
    *,
    spacing: tuple[float, ...],
) -> Float32[np.ndarray, "rank columns"]:
    """Return A and t of the displacement ``A·(i - c) + t``, in voxels, that a movement asks for.

    Args:
        scales: Factor by which things grow along each axis.
        degrees: Angle about each axis; one angle in 2D.
        translation: Shift along each axis, in mm.
        spacing: Distance between voxels along each axis, in mm.

    Returns:
        ``A = D⁻¹R⁻¹S⁻¹D - 1`` and, as last column, ``t = -D⁻¹R⁻¹·translation``, D holding the
        spacing.

    Example:
        >>> one, none = np.ones(2, np.float32), np.zeros(1, np.float32)
        >>> affine_matrix(one, none, np.array([0, 3], np.float32), spacing=(1.0, 1.5)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, -2.0]]
    """
    to_voxels = np.diag(1 / np.array(spacing, np.float64)) @ rotation_matrix(degrees).T
    linear = to_voxels @ np.diag(np.array(spacing) / scales.astype(np.float64))
    shift = -to_voxels @ translation.astype(np.float64) + 0.0
    matrix = np.column_stack([linear - np.eye(len(scales)), shift])
    return matrix.astype(np.float32)


def rotation_matrix(degrees: Float32[np.ndarray, " angles"]) -> Float64[np.ndarray, "rank rank"]:
    """Return the rotation by one angle in 2D, or Rz·Rx·Ry of three angles.

    Args:
        degrees: One angle, or those about the three axes.

    Example:
        >>> rotation_matrix(np.array([90.0], np.float32)).round().tolist()
        [[0.0, -1.0], [1.0, 0.0]]
    """
    turns = [_turn(float(angle)) for angle in np.radians(degrees.astype(np.float64))]
    if len(turns) == 1:
        return turns[0]
    about_x, about_y, about_z = np.eye(3), np.eye(3), np.eye(3)
    about_x[1:, 1:] = turns[0]
    about_y[::2, ::2] = turns[1].T  # the axes in the order z, x
    about_z[:2, :2] = turns[2]
    return about_z @ about_x @ about_y


def _turn(radians: float) -> Float64[np.ndarray, "2 2"]:
    cosine, sine = np.cos(radians), np.sin(radians)
    return np.array([[cosine, -sine], [sine, cosine]])
