"""Bring volumes onto other grids: reorient, resample, crop and pad."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Real, Shaped

from segjax.errors import InputError
from segjax.volume import Volume, check_affine

__all__ = [
    "Grid",
    "Interpolation",
    "crop_or_pad",
    "crop_or_pad_grid",
    "crop_to_foreground",
    "crop_to_grid",
    "foreground_grid",
    "grid",
    "orientation",
    "reorient",
    "reorient_grid",
    "resample",
    "restore_orientation",
    "same_grid",
    "spacing_grid",
]

Interpolation = Literal["linear", "nearest"]

_ENDS = ("LR", "PA", "IS")  # negative and positive end of each axis of the patient
_SAME_PLACE = 1e-4  # voxels; grids whose corners differ by less are the same
_WHOLE = 1e-3  # voxels; a field of view that is this close to one more voxel holds it
_MOST_VOXELS = 2**31
_SIMPLE_ITK = {"b1": np.uint8, "f2": np.float32, "f16": np.float64}  # types it does not take


@dataclass(frozen=True, eq=False)
class Grid:
    """Hold the places of a volume's voxels, without their values.

    Attributes:
        shape: Number of voxels along each of the two or three spatial axes.
        affine: Matrix of shape ``(rank + 1, rank + 1)``, voxel index -> mm (RAS+).

    Raises:
        InputError: The affine is no finite, invertible matrix of that size, or an axis is empty.

    Example:
        >>> Grid((192, 192, 60), np.diag([1.0, 1.0, 3.0, 1.0])).spacing
        (1.0, 1.0, 3.0)
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64))
        check_affine(self.affine)
        if len(self.shape) != len(self.affine) - 1 or min(self.shape) < 1:
            raise InputError(f"a grid of shape {self.shape} does not fit {self.affine.tolist()}")

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each axis, in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:-1, :-1], axis=0))


def grid(volume: Volume) -> Grid:
    """Return where the voxels of a volume lie.

    Args:
        volume: Volume of rank 2 or 3.

    Returns:
        Its spatial shape and affine.

    Example:
        >>> grid(Volume(np.zeros((4, 5, 6)), np.eye(4))).shape
        (4, 5, 6)
    """
    return Grid(volume.spatial_shape, volume.affine)


def orientation(affine: Real[np.ndarray, "4 4"]) -> str:
    """Name the side of the patient that each voxel axis points to.

    Oblique axes count as the nearest axes of the patient, each used once, as in nibabel.

    Args:
        affine: Voxel index -> mm (RAS+).

    Returns:
        Three letters of L or R, P or A, I or S.

    Example:
        >>> orientation(np.diag([-1.0, 1.0, 1.0, 1.0]))
        'LAS'
    """
    return "".join(_ENDS[axis][sign > 0] for axis, sign in _nearest_axes(affine))


def reorient(volume: Volume, orientation: str = "RAS") -> Volume:
    """Permute and flip the voxel axes so that they point to the given sides of the patient.

    No value changes and no voxel moves: the affine follows. Volumes of rank 2, which have no
    place in the patient, come back as they are.

    Args:
        volume: Volume of rank 2 or 3.
        orientation: Three letters, one of L and R, one of P and A, one of I and S.

    Returns:
        The volume with a view of its data.

    Raises:
        InputError: The letters name no orientation.

    Example:
        >>> volume = Volume(np.arange(2.0).reshape(2, 1, 1), np.diag([-1.0, 1.0, 1.0, 1.0]))
        >>> reorient(volume).data.ravel()
        array([1., 0.])
    """
    if volume.spatial_dims == 2:
        return volume
    steps = _turns(volume.affine, orientation)
    return Volume(_turn(volume.data, steps), reorient_grid(grid(volume), orientation).affine)


def reorient_grid(before: Grid, orientation: str) -> Grid:
    """Return the grid of a reoriented volume.

    Args:
        before: Grid before.
        orientation: As for :func:`reorient`.

    Returns:
        The grid after :func:`reorient`; the same one for rank 2.

    Raises:
        InputError: The letters name no orientation.

    Example:
        >>> reorient_grid(Grid((4, 5, 6), np.eye(4)), "SAR").shape
        (6, 5, 4)
    """
    if len(before.shape) == 2:
        return before
    index = np.zeros((4, 4))  # new voxel index -> old voxel index
    index[3, 3] = 1
    turns = _turns(before.affine, orientation)
    for new, (old, sign) in enumerate(turns):
        index[old, new] = sign
        index[old, 3] = 0 if sign > 0 else before.shape[old] - 1
    return Grid(tuple(before.shape[old] for old, _ in turns), before.affine @ index)


def restore_orientation(volume: Volume, before: Grid, orientation: str) -> Volume:
    """Undo :func:`reorient`, exactly.

    Args:
        volume: Volume on the reoriented grid.
        before: Grid of the volume that was reoriented.
        orientation: The orientation it was given.

    Returns:
        The volume on the grid ``before``, with a view of its data.

    Raises:
        InputError: The volume's shape is not the one that reorienting gives.

    Example:
        >>> before = Volume(np.arange(24).reshape(2, 3, 4), np.eye(4))
        >>> after = restore_orientation(reorient(before, "PIL"), grid(before), "PIL")
        >>> (after.data == before.data).all()
        np.True_
    """
    if volume.spatial_dims == 2:
        return volume
    turns = _turns(before.affine, orientation)
    back = [(0, 1)] * 3
    for new, (old, sign) in enumerate(turns):
        back[old] = (new, sign)
    data = _turn(volume.data, back)
    if data.shape[:3] != before.shape:
        raise InputError(f"a volume of shape {volume.spatial_shape} does not fit {before.shape}")
    return Volume(data, before.affine)


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
        of the same geometry, but works on voxel indices, so that shear is no obstacle.
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
        sampled[..., c] = _sample(channels[..., c], index, grid.shape, interpolation)
    one = volume.data.ndim == volume.spatial_dims
    return Volume(sampled[..., 0] if one else sampled, grid.affine)


def same_grid(first: Grid, second: Grid) -> bool:
    """Say whether two grids have the same voxels: no corner is over 0.0001 voxels elsewhere.

    Example:
        >>> same_grid(Grid((4, 4), np.eye(3)), Grid((4, 4), np.diag([1.0, 1.1, 1.0])))
        False
    """
    if first.shape != second.shape:
        return False
    return _stays(np.linalg.solve(first.affine, second.affine), second.shape)


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
            f"{np.prod(after):.3g}: check the spacing in the image's header"
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
    after = crop_or_pad_grid(grid(volume), shape)
    pairs = zip(volume.spatial_shape, after.shape, strict=True)
    return _cut(volume, [_start(old, new) for old, new in pairs], after, fill)


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


def crop_to_grid(volume: Volume, grid: Grid, *, fill: int | float = 0) -> Volume:
    """Crop and pad to a grid whose voxels lie on the volume's own, whole voxels further on.

    The way back of a crop is this function with the grid before it: every voxel that was kept
    returns to its place, exactly.

    Args:
        volume: Volume of rank 2 or 3, with or without channels.
        grid: Grid of the same rank and axes.
        fill: Value of voxels outside the volume.

    Returns:
        The volume on ``grid``; a view of its data where nothing is padded.

    Raises:
        InputError: The grid's voxels lie between those of the volume.

    Example:
        >>> volume = Volume(np.array([[1, 2, 3]]), np.eye(3))
        >>> further = Grid((1, 3), np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]]))
        >>> crop_to_grid(volume, further).data
        array([[2, 3, 0]])
    """
    if len(grid.shape) != volume.spatial_dims:
        raise InputError(f"a volume of rank {volume.spatial_dims} has no place on {grid.shape}")
    index = np.linalg.solve(volume.affine, grid.affine)  # index in grid -> index in volume
    start = np.rint(index[:-1, -1])
    index[:-1, -1] -= start
    if not _stays(index, grid.shape):
        raise InputError(
            f"voxels of the grid of shape {grid.shape} lie between those of the volume of shape "
            f"{volume.spatial_shape}: resample instead of cropping"
        )
    return _cut(volume, [int(n) for n in start], grid, fill)


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
    for axis, (size, spacing) in enumerate(zip(foreground.shape, volume.spacing, strict=True)):
        others = tuple(a for a in range(foreground.ndim) if a != axis)
        inside = np.flatnonzero(foreground.any(axis=others))
        more = int(np.ceil(margin / spacing - _WHOLE))
        start.append(max(int(inside[0]) - more, 0))
        shape.append(min(int(inside[-1]) + more + 1, size) - start[-1])
    return _moved(grid(volume), start, tuple(shape))


def _nearest_axes(affine: Float64[np.ndarray, "4 4"]) -> list[tuple[int, int]]:
    """Return, for each voxel axis, the patient's axis that is nearest to it, and the sign."""
    linear = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(linear)
    rotation = left @ right  # the polar decomposition takes the shear away
    nearest = [(0, 1)] * 3
    for voxel in np.argsort(-np.abs(rotation).max(axis=0), kind="stable"):
        axis = int(np.argmax(np.abs(rotation[:, voxel])))
        nearest[voxel] = (axis, 1 if rotation[axis, voxel] > 0 else -1)
        rotation[axis] = 0
    return nearest


def _turns(affine: Float64[np.ndarray, "4 4"], orientation: str) -> list[tuple[int, int]]:
    """Return, for each axis of the wanted orientation, the old voxel axis and its sign."""
    sides = {letter: axis for axis, letters in enumerate(_ENDS) for letter in letters}
    if len(orientation) != 3 or {sides.get(letter) for letter in orientation} != {0, 1, 2}:
        raise InputError(
            f"orientation {orientation!r}: give three letters, one of L and R, one of P and A, one "
            "of I and S, such as 'RAS'"
        )
    nearest = _nearest_axes(affine)
    turns = []
    for letter in orientation:
        old = next(v for v, (axis, _) in enumerate(nearest) if axis == sides[letter])
        wanted = 1 if letter in "RAS" else -1
        turns.append((old, wanted * nearest[old][1]))
    return turns


def _turn(data: Shaped[np.ndarray, "..."], turns: list[tuple[int, int]]) -> Any:
    """Make axis i the old axis ``turns[i][0]``, reversed where ``turns[i][1]`` is negative."""
    axes = [old for old, _ in turns]
    turned = data.transpose(*axes, *range(len(axes), data.ndim))
    return turned[tuple(slice(None, None, sign) for _, sign in turns)]


def _start(old: int, new: int) -> int:
    """Return the old index of the first voxel of the new axis, negative when it is padded."""
    half = (abs(new - old) + 1) // 2
    return half if old > new else -half


def _moved(before: Grid, start: Sequence[int], shape: tuple[int, ...]) -> Grid:
    """Return the grid of a box that begins at an index of another grid."""
    affine = before.affine.copy()
    affine[:-1, -1] += affine[:-1, :-1] @ np.array(start, dtype=np.float64)
    return Grid(shape, affine)


def _cut(volume: Volume, start: Sequence[int], after: Grid, fill: int | float) -> Volume:
    """Take the box that begins at an index of a volume, which may lie outside it in part."""
    cuts, pads = [], []
    for first, old, new in zip(start, volume.spatial_shape, after.shape, strict=True):
        low, high = min(max(first, 0), old), min(max(first + new, 0), old)
        cuts.append(slice(low, max(low, high)))
        before = min(max(-first, 0), new)
        pads.append((before, new - before - max(high - low, 0)))
    kept = volume.data[tuple(cuts)]
    if any(pad != (0, 0) for pad in pads):
        pads += [(0, 0)] * (kept.ndim - len(pads))
        kept = np.pad(kept, pads, constant_values=np.asarray(fill, kept.dtype))
    return Volume(kept, after.affine)


def _stays(index: Float64[np.ndarray, "_ _"], shape: tuple[int, ...]) -> bool:
    """Say whether a map of indices moves no corner of a grid."""
    moved = index - np.eye(len(index))
    reach = np.abs(moved[:-1, :-1]) @ (np.array(shape) - 1.0) + np.abs(moved[:-1, -1])
    return bool(reach.max() < _SAME_PLACE)


def _sample(
    data: Shaped[np.ndarray, "*spatial"],
    index: Float64[np.ndarray, "_ _"],
    shape: tuple[int, ...],
    interpolation: Interpolation,
) -> Shaped[np.ndarray, "*sampled"]:
    """Sample one channel at ``index @ (i, j, k, 1)`` for every index of a grid of that shape."""
    import SimpleITK as sitk  # noqa: N813

    rank = len(shape)
    kind = _SIMPLE_ITK.get(data.dtype.str[1:], data.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(data.astype(kind, copy=False).T)  # it names the axes backwards
    place = sitk.AffineTransform(rank)
    place.SetMatrix(index[:rank, :rank].ravel().tolist())
    place.SetTranslation(index[:rank, rank].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(shape)
    resampler.SetTransform(place)
    resampler.SetInterpolator(
        sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor
    )
    return sitk.GetArrayFromImage(resampler.Execute(image)).T.astype(data.dtype, copy=False)


def _text(spacing: Float64[np.ndarray, "_"]) -> str:
    return "×".join(f"{s:.4g}" for s in spacing)
