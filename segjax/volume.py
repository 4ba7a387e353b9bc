"""Voxels and where they lie in the patient: the value that every stage hands on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from segjax.errors import InputError

__all__ = ["Volume", "check_affine", "check_volume", "voxel_size"]

_FLATTEST = 1e-6  # volume of a voxel over that of a box with the same edges: 1 without shear


@dataclass(frozen=True, eq=False)
class Volume:
    """Hold an image or a mask, and the affine that places its voxels in the patient.

    The affine maps voxel indices (of voxel centres) to millimetres in RAS+ coordinates: x to the
    patient's right, y to the front, z to the head.

    Attributes:
        data: Array of shape ``(*spatial,)`` or ``(*spatial, channel)``, of any number type.
        affine: Matrix of shape ``(rank + 1, rank + 1)``, voxel index -> mm, where rank is 2 (an
            image of rows and columns) or 3. Kept as a read-only float64 copy.

    Raises:
        InputError: The affine is no finite, invertible 3x3 or 4x4 matrix with the last row
            0 … 0 1, or the data has not rank or rank + 1 axes, or holds no voxels.

    Example:
        >>> import numpy as np
        >>> from segjax import Volume
        >>> flair = Volume(np.zeros((192, 192, 60)), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> flair.spacing, flair.channels
        ((1.0, 1.0, 3.0), 1)
        >>> flair
        Volume(192 × 192 × 60 float64, voxels of 1 × 1 × 3 mm)
    """

    data: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "data", np.asanyarray(self.data))
        check_affine(affine)
        rank = affine.shape[0] - 1
        if self.data.ndim not in (rank, rank + 1) or self.data.size == 0:
            raise InputError(
                f"data of shape {self.data.shape} does not fit an affine of shape {affine.shape}: "
                f"give {rank} non-empty spatial axes, and at most one channel axis after them"
            )

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.data.shape))
        spacing = " × ".join(f"{size:.4g}" for size in self.spacing)
        return f"Volume({shape} {self.data.dtype}, voxels of {spacing} mm)"

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return self.affine.shape[0] - 1

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of voxels along each spatial axis."""
        return self.data.shape[: self.spatial_dims]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each spatial axis, in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_size(self) -> float:
        """What a voxel takes up, ``|det affine|``: mm³, or mm² in rank 2; shear counts."""
        return voxel_size(self.affine)

    @property
    def channels(self) -> int:
        """Number of channels; 1 when the data has no channel axis."""
        return 1 if self.data.ndim == self.spatial_dims else self.data.shape[-1]

    @property
    def channels_last(self) -> Shaped[np.ndarray, "*spatial channel"]:
        """View of the data with a channel axis, added when there is none."""
        return self.data[..., None] if self.data.ndim == self.spatial_dims else self.data

    def with_data(self, data: np.ndarray) -> "Volume":
        """Return other data at the same place.

        Args:
            data: Array of shape ``(*spatial,)`` or ``(*spatial, channel)``.

        Returns:
            A volume with this volume's affine.

        Raises:
            InputError: The data has not this volume's spatial shape.
        """
        if data.shape[: self.spatial_dims] != self.spatial_shape:
            raise InputError(
                f"data of shape {data.shape} does not lie on a grid of {self.spatial_shape} voxels"
            )
        return Volume(data, self.affine)


def voxel_size(affine: Shaped[np.ndarray, "_ _"]) -> float:
    """Return what a voxel takes up, ``|det affine|``: mm³, or mm² in rank 2; shear counts.

    Args:
        affine: Voxel index -> mm, of shape ``(rank + 1, rank + 1)``.

    Example:
        >>> voxel_size(np.diag([1.0, 1.0, 3.0, 1.0]))
        3.0
    """
    axes = np.asarray(affine, np.float64)[:-1, :-1].T
    if len(axes) == 3:
        return float(abs(np.cross(axes[0], axes[1]) @ axes[2]))
    return float(abs(axes[0][0] * axes[1][1] - axes[0][1] * axes[1][0]))


def check_volume(thing: Any, what: str) -> Volume:
    """Return a thing that others made, if it is a volume.

    Raises:
        InputError: It is none.

    Example:
        >>> check_volume(np.zeros(3), "what step 'sharpen' returns")
        Traceback (most recent call last):
        segjax.errors.InputError: what step 'sharpen' returns must be a segjax.Volume, not ndarray
    """
    if not isinstance(thing, Volume):
        raise InputError(f"{what} must be a segjax.Volume, not {type(thing).__name__}")
    return thing


def check_affine(affine: Float64[np.ndarray, "..."]) -> None:
    """Refuse a matrix that does not place every voxel at a point of its own.

    Args:
        affine: What should be a matrix of shape ``(3, 3)`` or ``(4, 4)``, voxel index -> mm.

    Raises:
        InputError: It is not square, finite and invertible with the last row 0 … 0 1.
    """
    if affine.shape not in ((3, 3), (4, 4)):
        raise InputError(f"an affine has shape (3, 3) or (4, 4), not {affine.shape}")
    if not np.isfinite(affine).all():
        raise InputError(f"the affine holds values that are not finite: {affine.tolist()}")
    if (affine[-1] != np.eye(len(affine))[-1]).any():
        raise InputError(f"the last row of an affine is 0 … 0 1, not {affine[-1].tolist()}")
    edges = np.linalg.norm(affine[:-1, :-1], axis=0)
    if (edges == 0).any() or abs(np.linalg.det(affine[:-1, :-1] / edges)) < _FLATTEST:
        raise InputError(f"the affine is not invertible: {affine.tolist()}; its voxels are flat")
