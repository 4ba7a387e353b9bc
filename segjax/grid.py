"""Where voxels lie: a shape and an affine, turned, cropped and compared without interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Real, Shaped

from segjax.errors import InputError
from segjax.volume import Volume, check_affine

__all__ = [
    "Grid",
    "crop_to_grid",
    "grid",
    "orientation",
    "reorient",
    "reorient_grid",
    "restore_orientation",
    "same_grid",
]

_ENDS = ("LR", "PA", "IS")  # negative and positive end of each axis of the patient
_SAME_PLACE = 1e-4  # voxels; grids whose corners differ by less are the same


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


def same_grid(first: Grid, second: Grid) -> bool:
    """Say whether two grids have the same voxels: no corner is over 0.0001 voxels elsewhere.

    Example:
        >>> same_grid(Grid((4, 4), np.eye(3)), Grid((4, 4), np.diag([1.0, 1.1, 1.0])))
        False
    """
    if first.shape != second.shape:
        return False
    return _stays(np.linalg.solve(first.affine, second.affine), second.shape)


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
