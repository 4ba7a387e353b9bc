"""Bring volumes onto other grids: resample, crop and pad."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64

from segjax.components import box_of
from segjax.data.prepare.sampling import sample
from segjax.errors import InputError
from segjax.grid import Grid, crop_to_grid, grid, same_grid
from segjax.volume import Volume

__all__ = [
    "Interpolation",
    "crop_or_pad",
    "crop_or_pad_grid",
    "crop_to_foreground",
    "foreground_grid",
    "resample",
    "spacing_grid",
]

Interpolation = Literal["linear", "nearest"]

_WHOLE = 1e-3  # voxels; a field of view that is this close to one more voxel holds it
_MOST_VOXELS = 2**31


def resample(volume: Volume, grid: Grid, *, interpolation: Interpolation = "linear") -> Volume:
    """Sample a volume at the voxels of another grid.

    The grid may have any affine: oblique, flipped, sheared. A voxel whose centre lies outside the
    volume's outermost voxels becomes 0; up to half a voxel beyond the outermost centres the
    border value holds. Nothing is smoothed before: to coarser spacing this aliases, as
    SimpleITK's and TorchIO's resampling do. Where the grid is the volume's own (to 0.0001
    voxels), the data come back untouched.

    Args:
        volume: Volume of rank 2 or 3, with or without channels.
        grid: Grid of the same rank.
        interpolation: "linear", which gives float32, or "nearest", which keeps type and values
            and is the one for labels.

    Returns:
        The volume on ``grid``.

    Raises:
        InputError: The ranks differ, or the interpolation is unknown.

    Example:
        >>> volume = Volume(np.array([[0.0, 2.0, 4.0]]), np.eye(3))
        >>> half = Grid((1, 2), np.array([[1, 0, 0], [0, 1, 0.5], [0, 0, 1]]))
        >>> resample(volume, half).data
        array([[1., 3.]], dtype=float32)

    Source: Equals ``SimpleITK.Resample`` with ``sitkLinear`` or ``sitkNearestNeighbor`` on images
        of the same geometry, but works on voxel indices, so that shear is no obstacle. Halfway
        between two voxels, where rounding decides in SimpleITK, the nearest is the later one.
    """
    if interpolation not in ("linear", "nearest"):
        raise InputError(f"interpolation {interpolation!r}: give 'linear' or 'nearest'")
    if len(grid.shape) != volume.spatial_dims:
        raise InputError(f"a volume of rank {volume.spatial_dims} has no place on {grid.shape}")
    data = volume.data.astype(np.float32, copy=False) if interpolation == "linear" else volume.data
    if same_grid(Grid(volume.spatial_shape, volume.affine), grid):
        return Volume(data, grid.affine)
    index = np.linalg.solve(volume.affine, grid.affine)  # index in grid -> index in volume
    channels = volume.with_data(data).channels_last
    sampled = np.empty((*grid.shape, channels.shape[-1]), data.dtype)
    for c in range(channels.shape[-1]):
        sample(channels[..., c], index, sampled[..., c], linear=interpolation == "linear")
    one = volume.data.ndim == volume.spatial_dims
    return Volume(sampled[..., 0] if one else sampled, grid.affine)


def spacing_grid(volume: Volume | Grid, spacing: tuple[int | float, ...]) -> Grid:
    """Return the grid of another spacing over a volume's field of view.

    The axes and the centre stay. Along each axis ``floor(size * old / new)`` voxels fit: the new
    field of view never reaches beyond the old one. An axis of one voxel keeps one. This is
    TorchIO's ``Resample(spacing)``, and what one writes with SimpleITK to resample about the
    centre; but a voxel that lacks up to 0.001 of its width, by rounding, fits too.

    Args:
        volume: Volume or grid of rank 2 or 3.
        spacing: New distance between voxels along each axis, in mm, positive.

    Returns:
        The grid, to resample onto.

    Raises:
        InputError: The spacing is not positive, has another rank, or needs over 2**31 voxels.

    Example:
        >>> thick = Grid((192, 192, 60), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> spacing_grid(thick, (1.0, 1.0, 1.0)).shape
        (192, 192, 180)
    """
    before = volume if isinstance(volume, Grid) else grid(volume)
    size, old, new = np.array(before.shape), np.array(before.spacing), np.array(spacing, float)
    if new.shape != old.shape or not (np.isfinite(new) & (new > 0)).all():
        raise InputError(f"spacing {spacing}: give {len(old)} positive numbers of millimetres")
    after = np.where(size == 1, 1, np.maximum(1, np.floor(size * old / new + _WHOLE)))
    if np.prod(after) > _MOST_VOXELS:
        raise InputError(
            f"voxels of {_text(new)} mm over {size.tolist()} voxels of {_text(old)} mm would be "
            f"{np.prod(after):.3g}: check the spacing in the image's header, and what the pipeline "
            "asks for"
        )
    linear = before.affine[:-1, :-1] * (new / old)
    affine = before.affine.copy()
    affine[:-1, :-1] = linear
    affine[:-1, -1] += before.affine[:-1, :-1] @ ((size - 1) / 2) - linear @ ((after - 1) / 2)
    return Grid(tuple(int(n) for n in after), affine)


def crop_or_pad(volume: Volume, shape: tuple[int, ...], *, fill: int | float = 0) -> Volume:
    """Crop or pad each axis about the centre to the given size.

    Where an odd number of voxels comes or goes, the larger half is at the start, as in TorchIO's
    ``CropOrPad``; so the way back to the old shape restores every voxel that was not cropped. The
    affine follows: no voxel moves.

    Args:
        volume: Volume of rank 2 or 3, with or without channels.
        shape: New number of voxels along each axis.
        fill: Value of the new voxels.

    Returns:
        The volume of that shape.

    Raises:
        InputError: The shape has another rank or is not positive.

    Example:
        >>> volume = Volume(np.array([[1, 2, 3]]), np.eye(3))
        >>> crop_or_pad(volume, (2, 2)).data
        array([[0, 0],
               [2, 3]])
    """
    return crop_to_grid(volume, crop_or_pad_grid(grid(volume), shape), fill=fill)


def crop_or_pad_grid(before: Grid, shape: tuple[int, ...]) -> Grid:
    """Return the grid of a cropped or padded volume.

    Args:
        before: Grid before.
        shape: New number of voxels along each axis.

    Returns:
        The grid after :func:`crop_or_pad`.

    Raises:
        InputError: The shape has another rank or is not positive.

    Example:
        >>> crop_or_pad_grid(Grid((4, 4, 4), np.eye(4)), (6, 2, 4)).affine[:3, 3]
        array([-1.,  1.,  0.])
    """
    if len(shape) != len(before.shape) or min(shape) < 1:
        raise InputError(f"shape {shape}: give {len(before.shape)} positive numbers of voxels")
    start = [_start(old, new) for old, new in zip(before.shape, shape, strict=True)]
    return _moved(before, start, shape)


def crop_to_foreground(volume: Volume, *, margin: int | float = 0) -> Volume:
    """Crop to the smallest box that holds every voxel that is not 0, and a margin.

    Args:
        volume: Volume of rank 2 or 3, with or without channels, of which any counts.
        margin: Distance to keep around the box, in mm: as many voxels as cover it, where the
            volume has them.

    Returns:
        The cropped volume, a view of its data.

    Raises:
        InputError: Every voxel is 0, or the margin is negative.

    Example:
        >>> volume = Volume(np.array([[0, 0, 5, 0, 0, 0]]), np.eye(3))
        >>> crop_to_foreground(volume, margin=1).data
        array([[0, 5, 0]])
    """
    return crop_to_grid(volume, foreground_grid(volume, margin=margin))


def foreground_grid(volume: Volume, *, margin: int | float = 0) -> Grid:
    """Return the grid of the smallest box that holds every voxel that is not 0.

    Args:
        volume: Volume of rank 2 or 3, with or without channels, of which any counts.
        margin: Distance to keep around the box, in mm, at least 0.

    Returns:
        The grid after :func:`crop_to_foreground`.

    Raises:
        InputError: Every voxel is 0, or the margin is negative.

    Example:
        >>> foreground_grid(Volume(np.array([[0, 0, 5, 0, 0, 0]]), np.eye(3))).shape
        (1, 1)
    """
    if not 0 <= margin < np.inf:
        raise InputError(f"margin {margin}: give millimetres, at least 0")
    foreground: np.ndarray = (volume.channels_last != 0).any(axis=-1)
    if not foreground.any():
        raise InputError("every voxel of the image is 0: there is no foreground to crop to")
    start, shape = [], []
    box = box_of(foreground)
    for inside, size, spacing in zip(box, foreground.shape, volume.spacing, strict=True):
        more = int(np.ceil(margin / spacing - _WHOLE))
        start.append(max(inside.start - more, 0))
        shape.append(min(inside.stop + more, size) - start[-1])
    return _moved(grid(volume), start, tuple(shape))


def _start(old: int, new: int) -> int:
    """Return the old index of the first voxel of the new axis, negative when it is padded."""
    half = (abs(new - old) + 1) // 2
    return half if old > new else -half


def _moved(before: Grid, start: Sequence[int], shape: tuple[int, ...]) -> Grid:
    """Return the grid of a box that begins at an index of another grid."""
    affine = before.affine.copy()
    affine[:-1, -1] += affine[:-1, :-1] @ np.array(start, dtype=np.float64)
    return Grid(shape, affine)


def _text(spacing: Float64[np.ndarray, "_"]) -> str:
    return "×".join(f"{s:.4g}" for s in spacing)
