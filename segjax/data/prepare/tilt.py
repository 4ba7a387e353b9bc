"""Volumes whose axes are not at right angles: said, measured, and brought upright."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Real

from segjax.data.prepare.spatial import resample
from segjax.grid import Grid, grid
from segjax.text import plural
from segjax.volume import Volume

__all__ = ["STRAIGHT", "tilt", "upright", "upright_grid", "warn_of_tilts"]

STRAIGHT = 0.5
"""Degrees of a tilt that nobody need hear of."""

_ROUNDING = 1e-6  # voxels


def tilt(affine: Real[np.ndarray, "rank rank"]) -> float:
    """Return by how much axes of a grid depart from right angles, in degrees.

    Args:
        affine: Voxel index -> mm.

    Returns:
        The largest departure of two axes; 0 where all are at right angles.

    Example:
        >>> sheared = np.eye(4)
        >>> sheared[1, 2] = 1
        >>> round(tilt(sheared), 1)
        45.0
    """
    return float(np.degrees(np.arcsin(_cosines(affine).max())))


def _cosines(affine: Real[np.ndarray, "rank rank"]) -> Float64[np.ndarray, "axis axis"]:
    """Return the cosines between the axes, 0 of each with itself."""
    axes = affine[:-1, :-1] / np.linalg.norm(affine[:-1, :-1], axis=0)
    return np.clip(np.abs(axes.T @ axes), 0, 1) * (1 - np.eye(len(axes)))


def upright_grid(tilted: Grid) -> Grid:
    """Return a grid at right angles over the whole field of view of a tilted one.

    The axis that leans most, the one across the slices of a tilted gantry, is set upright on the
    others; voxels keep their volume.

    Args:
        tilted: Grid of rank 3.

    Example:
        >>> sheared = np.eye(4)
        >>> sheared[1, 2] = 1
        >>> upright = upright_grid(Grid((2, 3, 4), sheared))
        >>> upright.shape, tilt(upright.affine)
        ((2, 6, 4), 0.0)
    """
    order = np.argsort(_cosines(tilted.affine).sum(axis=0), kind="stable")
    linear = np.zeros((3, 3))
    for count, axis in enumerate(order):
        done = linear[:, order[:count]]
        basis = done / np.linalg.norm(done, axis=0) if count else done
        column = tilted.affine[:3, axis]
        linear[:, axis] = column - basis @ (basis.T @ column)
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(tilted.shape)[:, None] - 1)
    index = np.linalg.solve(linear, tilted.affine[:3, :3] @ corners)
    start = np.floor(index.min(axis=1) + _ROUNDING)
    size = np.ceil(index.max(axis=1) - _ROUNDING) - start + 1
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = tilted.affine[:3, 3] + linear @ start
    return Grid(tuple(int(n) for n in size), affine)


def upright(image: Volume) -> Volume:
    """Resample a tilted volume to right angles; others come back as they are.

    Args:
        image: Volume of rank 2 or 3, linearly interpolated; 0 where it was not seen.

    Example:
        >>> upright(Volume(np.ones((2, 3, 4)), np.eye(4))).data.shape
        (2, 3, 4)
    """
    if image.spatial_dims == 2 or tilt(image.affine) < STRAIGHT:
        return image
    return resample(image, upright_grid(grid(image)))


def warn_of_tilts(affines: Mapping[str, Real[np.ndarray, "_ _"]], remedy: str = "") -> None:
    """Warn of volumes whose axes are not at right angles.

    Args:
        affines: By what the volume is called.
        remedy: What can be done.

    Warns:
        UserWarning: There is one.

    Example:
        >>> warn_of_tilts({"flair.nii.gz": np.eye(4)})
    """
    angles = {name: tilt(affine) for name, affine in affines.items()}
    tilted: Sequence[str] = [name for name, angle in angles.items() if angle >= STRAIGHT]
    if tilted:
        worst = max(tilted, key=lambda name: angles[name])
        more = f" (and {plural(len(tilted) - 1, 'other')})" if len(tilted) > 1 else ""
        warnings.warn(
            f"{worst}{more}: slices are tilted, {angles[worst]:.1f}° from right angles, so that "
            f"shapes are sheared to the network{remedy}",
            stacklevel=3,
        )
