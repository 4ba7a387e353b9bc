"""Place the frames of a DICOM segmentation in the grid of the image that it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

from segjax.data.io.dicom.labels import needed, parsing, to_voxels
from segjax.errors import InputError
from segjax.grid import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Planes", "functional_groups", "macro", "place"]

_LARGEST = 2.0**31  # of any coordinate; keeps sums finite
_FINEST = 1e-4  # mm
_STRAIGHT = 0.01  # rounded direction cosines are unit vectors at right angles up to this
_OFF_CENTRE = 0.05  # voxels between a pixel's centre and the centre of the image's voxel
_OFF_SLICE = 0.1  # the same across slices: as uneven as the slices of a series may lie
_COARSER = 1.5  # slices that are so much farther apart than the image's stand for several
_FINER = 0.67
_WHERE = (
    ("PlanePositionSequence", "ImagePositionPatient", 3),
    ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    ("PixelMeasuresSequence", "PixelSpacing", 2),
)


@dataclass(frozen=True, eq=False)
class Planes:
    """Where the frames lie in the image, in voxels.

    Attributes:
        corners: Voxel of the first pixel of each frame.
        columns: Step from a pixel to the next one in its row, for each frame.
        rows: Step from a pixel to the next one in its column, for each frame.
    """

    corners: Int64[np.ndarray, "frame 3"]
    columns: Int64[np.ndarray, "frame 3"]
    rows: Int64[np.ndarray, "frame 3"]

    def slice(self, frame: int) -> tuple[int, int]:
        """Return the axis that a frame lies across, and its place along it."""
        axis = int((abs(self.columns[frame]) + abs(self.rows[frame])).argmin())
        return axis, int(self.corners[frame, axis])

    def gaps(self) -> tuple[int, Int64[np.ndarray, "gap"]]:
        """Return the axis that the first frame lies across, and the gaps between all along it."""
        slices = [self.slice(frame) for frame in range(len(self.corners))]
        axis = slices[0][0]
        return axis, np.diff(np.unique([place for across, place in slices if across == axis]))


def place(path: Path, header: "Dataset", like: Grid) -> Planes:
    """Return where the frames lie in the image.

    Raises:
        InputError: A frame does not say where it lies, or its pixels are not the image's voxels.
    """
    frames, shared = functional_groups(path, header)
    names = [f"frame {i + 1}" for i in range(len(frames))]
    numbers = [
        _where(path, [frame, *shared], name) for frame, name in zip(frames, names, strict=True)
    ]
    positions, along_row, along_column, spacing = np.split(np.array(numbers), [3, 6, 9], axis=1)
    _check_straight(path, along_row, along_column)
    corners = to_voxels(like, positions)
    columns = to_voxels(like, _unit(along_row) * spacing[:, 1:], vectors=True)
    rows = to_voxels(like, _unit(along_column) * spacing[:, :1], vectors=True)
    steps = np.stack([columns, rows], axis=1)
    _check_steps(path, steps)
    with parsing(path):
        last = np.array([int(needed(header, keyword)) for keyword in ("Columns", "Rows")]) - 1
    _check_centres(path, corners, steps, last)
    planes = Planes(*(np.rint(part).astype(np.int64) for part in (corners, columns, rows)))
    _check_pitch(path, planes, like, [frames[0], *shared])
    return planes


def functional_groups(
    path: Path, header: "Dataset"
) -> tuple[Sequence["Dataset"], Sequence["Dataset"]]:
    """Return what each frame says of itself, and what all frames share.

    Raises:
        InputError: The frames are tiles, or other than stated.
    """
    with parsing(path):
        frames = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = header.get("SharedFunctionalGroupsSequence") or []
        stated = int(header.get("NumberOfFrames") or 1)
        organised = str(header.get("DimensionOrganizationType") or "")
    if "TotalPixelMatrixRows" in header or organised.startswith("TILED"):
        raise InputError(f"{path}: is tiled, as of a slide; only slices of a volume are read")
    if len(frames) != stated:
        raise InputError(f"{path}: describes {len(frames)} of its {stated} frames; write it again")
    return frames, shared[:1]


def macro(groups: Sequence["Dataset"], sequence: str, keyword: str) -> Any:
    """Return a value of the first functional group that has it, or None."""
    for group in groups:
        items = group.get(sequence)
        value = items[0].get(keyword) if items else None
        if value is not None:
            return value
    return None


def _where(path: Path, groups: Sequence["Dataset"], name: str) -> list[float]:
    """Return position, orientation and pixel spacing of a frame."""
    numbers: list[float] = []
    for sequence, keyword, count in _WHERE:
        with parsing(path):
            found = [float(number) for number in macro(groups, sequence, keyword) or ()]
        if len(found) != count or not all(abs(number) < _LARGEST for number in found):
            raise InputError(
                f"{path}: {name} does not say where it lies in the patient: its {keyword} is "
                f"{found}; write it again"
            )
        numbers += found
    if min(numbers[-2:]) < _FINEST:
        raise InputError(f"{path}: {name} has pixels of {numbers[-2:]} mm; write it again")
    return numbers


def _check_straight(
    path: Path,
    along_row: Float64[np.ndarray, "frame 3"],
    along_column: Float64[np.ndarray, "frame 3"],
) -> None:
    pairs = ((along_row, along_row), (along_column, along_column), (along_row, along_column))
    for (one, other), right in zip(pairs, (1, 1, 0), strict=True):
        if abs((one * other).sum(axis=1) - right).max() > 2 * _STRAIGHT:
            raise InputError(
                f"{path}: its ImageOrientationPatient is no pair of unit vectors at right angles; "
                "write it again"
            )


def _unit(vectors: Float64[np.ndarray, "frame 3"]) -> Float64[np.ndarray, "frame 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _check_steps(path: Path, steps: Float64[np.ndarray, "frame 2 3"]) -> None:
    """Refuse pixels that are not as large as the image's voxels, or run askew to them."""
    whole = abs(np.rint(steps))
    single = (whole.sum(axis=2) == 1).all(axis=1) & ((whole[:, 0] * whole[:, 1]).sum(axis=1) == 0)
    off = abs(abs(steps) - whole).max(axis=(1, 2)) + ~single
    if off.max() > _OFF_CENTRE:
        along_row, along_column = (steps[int(off.argmax())].round(3) + 0.0).tolist()
        raise InputError(
            f"{path}: lies on another grid than its image: from pixel to pixel it goes {along_row} "
            f"and {along_column} of the image's voxels; resample it onto the image's grid"
        )


def _check_centres(
    path: Path,
    corners: Float64[np.ndarray, "frame 3"],
    steps: Float64[np.ndarray, "frame 2 3"],
    last: Int64[np.ndarray, "2"],
) -> None:
    """Refuse pixels whose centres are not the centres of the image's voxels."""
    drift = (steps - np.rint(steps)) * last[:, None]
    ends = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    off = abs((corners - np.rint(corners))[:, None] + np.einsum("es,fsa->fea", ends, drift))
    across = (np.rint(steps) == 0).all(axis=1)
    worst = off.max(axis=1) / np.where(across, _OFF_SLICE, _OFF_CENTRE)
    frame, axis = np.unravel_index(int(worst.argmax()), worst.shape)
    if worst[frame, axis] > 1:
        raise InputError(
            f"{path}: lies on another grid than its image: frame {frame + 1} is off the centres of "
            f"the image's voxels by up to {off[frame, :, axis].max():.2f} of their size; resample "
            "it onto the image's grid"
        )


def _check_pitch(path: Path, planes: Planes, like: Grid, groups: Sequence["Dataset"]) -> None:
    """Refuse slices that stand for more or less than one of the image's.

    Neighbouring slices prove that they do not; else the distance between slices tells, or their
    thickness, which may be less than the distance.
    """
    axis, gaps = planes.gaps()
    if like.shape[axis] == 1 or (gaps.size and gaps.min() == 1):
        return
    keywords = ("SpacingBetweenSlices", "SliceThickness")
    between, thickness = (_millimetres(path, groups, keyword) for keyword in keywords)
    stated = between or thickness
    apart = 1 / float(np.linalg.norm(np.linalg.inv(like.affine)[axis, :3]))
    coarser = not stated <= _COARSER * apart  # NaN too
    if coarser or 0 < between < _FINER * apart:
        raise InputError(
            f"{path}: lies on another grid than its image: its slices are {stated:.4g} mm apart, "
            f"the image's {apart:.4g} mm; resample it onto the image's grid"
        )


def _millimetres(path: Path, groups: Sequence["Dataset"], keyword: str) -> float:
    """Return a length of the pixels; 0 where it is not stated."""
    with parsing(path):
        return abs(float(macro(groups, "PixelMeasuresSequence", keyword) or 0))
