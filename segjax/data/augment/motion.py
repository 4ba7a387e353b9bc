"""Smear and repeat images, as patients who move do."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Num

from segjax.data.augment._arrays import as_float
from segjax.data.augment._axes import filtered, half_response
from segjax.data.augment._deformation import Deformation
from segjax.data.augment._sampling import warp
from segjax.data.augment.affine import rotation_matrix
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    check_spacing,
    long_axes,
    spacing_of,
    turning_axes,
)
from segjax.errors import InputError

_JITTER = 0.3  # greatest shift of a movement's time, over the time between movements


@dataclass(frozen=True)
class Motion(IntensityTransform):
    """Compose the k-space of a patient who moves while it is read.

    K-space is read plane by plane along the last spatial axis, and meanwhile the patient moves
    ``num_transforms`` times. The stretch of planes around the centre comes from the image as it
    is, and the stretch that is read first from the movement whose turn it then was. Each movement
    turns the image about its centre and shifts it, interpolating linearly; from outside comes the
    least value of the channel. The other axes of k-space are read in full, so that their Fourier
    transforms cancel: one along the last axis gives the same. Axes of one voxel do not count: in a
    slice of a volume the patient moves in its plane.

    Args:
        degrees: Bounds of the angle about each axis, drawn uniformly; in 2D there is one angle.
        translation: Bounds of the shift along each axis in mm, drawn uniformly. Axes count as
            ITK's: to the left, to the back and to the top of the patient.
        num_transforms: How often the patient moves. Between the times 0 and 1 the movements are
            evenly spread, but each is shifted by up to 0.3 times the time between them.
        spacing: Distance between voxels along each axis in mm, in which angles are kept; when
            empty, that of the image where a loader knows it, else 1 mm.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where bounds, number, spacing or probability are out of range.

    Example:
        >>> image = np.zeros((1, 4, 1), np.float32)
        >>> image[0, 1] = 1
        >>> matrices = motion_matrices(np.zeros((1, 1)), np.array([[0.0, -1.0]]), spacing=(1, 1))
        >>> parameters = {"matrices": matrices, "times": np.array([0.4], np.float32)}
        >>> Motion(num_transforms=1).apply(image, parameters, np).round(2).ravel().tolist()
        [0.5, 0.5, 0.5, -0.5]

    Source:
        ``torchio.RandomMotion``, which turns about the origin of world space and reads k-space
        along the third axis: of its 2D images, which have a single plane there, remains the last
        movement alone. R. Shaw et al., "MRI k-Space Motion Artefact Augmentation", MIDL 2019.
    """

    name: ClassVar[str] = "motion"
    degrees: tuple[float, float] = (-10.0, 10.0)
    translation: tuple[float, float] = (-10.0, 10.0)
    num_transforms: int = 2
    spacing: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "degrees")
        check_bounds(self, "translation")
        check_spacing(self)
        if self.num_transforms < 1:
            raise InputError(f"motion: num_transforms {self.num_transforms}: give 1 or more")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> tuple[
        Float32[np.ndarray, "movement angles"],
        Float32[np.ndarray, "movement rank"],
        Float32[np.ndarray, " movement"],
    ]:
        """Draw degrees, translation and times, as :func:`motion_matrices` takes them."""
        count = self.num_transforms
        degrees = _movements(rng, self.degrees, count, turning_axes(shape))
        translation = _movements(rng, self.translation, count, long_axes(shape))
        times = _even_times(count) + rng.uniform(-_JITTER, _JITTER, count) / (count + 1)
        return degrees, translation, times.astype(np.float32)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw the ``matrices`` of the movements and their ``times``."""
        degrees, translation, times = self.sample(rng, shape)
        spacing = spacing_of(self, len(shape) - 1)
        return {"matrices": motion_matrices(degrees, translation, spacing=spacing), "times": times}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return movements that leave everything in its place."""
        rank, count = len(shape) - 1, self.num_transforms
        matrices = np.zeros((count, rank, rank + 1), np.float32)
        return {"matrices": matrices, "times": _even_times(count).astype(np.float32)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Move the image, once per movement, and compose its k-space."""
        image = as_float(image, xp)
        moved = [warp(image, Deformation(matrix), xp) for matrix in parameters["matrices"]]
        axis = int(max(np.flatnonzero(long_axes(image.shape)), default=0))
        shares = _sources(parameters["times"], image.shape[axis], xp)
        responses = [half_response(share.astype(np.float32)) for share in shares]
        return filtered([image, *moved], responses, axis, xp)


def motion_matrices(
    degrees: Float[np.ndarray, "movement angles"],
    translation: Float[np.ndarray, "movement rank"],
    *,
    spacing: tuple[float, ...],
) -> Float32[np.ndarray, "movement rank columns"]:
    """Return A and t of the displacement ``A·(i - c) + t``, in voxels, of each movement.

    The moved image shows at y (mm from the centre) what was at ``R·y + translation``, with
    R = Rz·Rx·Ry in 3D, along ITK's axes.

    Args:
        degrees: Angle about each axis; one angle in 2D.
        translation: Shift along each axis, in mm.
        spacing: Distance between voxels along each axis, in mm.

    Returns:
        ``A = D⁻¹·R·D - 1`` and, as last column, ``t = D⁻¹·translation`` along the axes of the
        array, of which the first two run against ITK's; D holds the spacing.

    Example:
        >>> motion_matrices(np.zeros((1, 1)), np.array([[0.0, 3.0]]), spacing=(1.0, 1.5)).tolist()
        [[[0.0, 0.0, 0.0], [0.0, 0.0, -2.0]]]
    """
    rank = len(spacing)
    sizes = np.array(spacing, np.float64)
    signs = np.array([-1.0, -1.0, 1.0])[:rank]
    matrices = np.empty((len(degrees), rank, rank + 1), np.float32)
    for matrix, angles, shift in zip(matrices, degrees, translation, strict=True):
        turn = signs[:, None] * rotation_matrix(angles.astype(np.float32)) * signs
        matrix[:, :-1] = turn * sizes / sizes[:, None] - np.eye(rank)
        matrix[:, -1] = signs * shift / sizes
    return matrices + np.float32(0)


def _movements(
    rng: np.random.Generator, bounds: tuple[float, float], count: int, axes: Bool[np.ndarray, " n"]
) -> Float32[np.ndarray, "count n"]:
    """Draw a number for each movement and each of some axes; 0 for the other axes."""
    numbers = np.zeros((count, len(axes)), np.float32)
    numbers[:, axes] = rng.uniform(*bounds, (count, axes.sum()))
    return numbers


def _even_times(count: int) -> Float[np.ndarray, " count"]:
    return np.arange(1, count + 1) / (count + 1)


def _sources(times: Float[Any, " movement"], size: int, xp: ModuleType) -> Bool[Any, "image size"]:
    """Return which planes of k-space, frequency 0 at ``size // 2``, come from which image.

    Args:
        times: Of the movements, in ascending order.
        size: Number of planes.
        xp: ``numpy`` or ``jax.numpy``.

    Returns:
        One row for the image as it is, then one for each movement.
    """
    count = len(times)
    first_plane = xp.floor(times * np.float32(size))
    stretch = (np.arange(size)[:, None] >= first_plane).sum(axis=1)
    central = xp.where((times > 0.5).any(), (times > 0.5).argmax(), count)
    image = xp.where(stretch == central, 0, xp.where(stretch == 0, central, stretch))
    return np.arange(count + 1)[:, None] == image
