"""What DICOM segmentations and structure sets share: named segments drawn on an image's grid."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

from segjax.data.io.dicom.header import quiet
from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Canvas", "choose", "listed", "needed", "parsing", "to_voxels", "unique"]

_RAS = np.diag([-1.0, -1.0, 1.0])  # LPS+ -> RAS+
_LISTED = 8


class Canvas:
    """Draws segments on the grid of an image, and keeps account of what does not fit.

    Args:
        path: The file that is drawn, for messages.
        like: Grid of the image.
        segments: Value and name of each segment.

    Raises:
        InputError: The grid has no place in the patient.
    """

    def __init__(self, path: Path, like: Grid, segments: Mapping[int, str]) -> None:
        if len(like.shape) != 3:
            raise InputError(f"{path}: lies in the patient, but its image has no place there")
        kind = np.uint8 if max(segments, default=0) < IGNORED else np.uint16
        self._path, self._like, self._segments = path, like, segments
        self._labels = np.zeros(like.shape, kind, order="F")
        self._outside: Counter[int] = Counter()
        self._shared: Counter[tuple[int, int]] = Counter()

    def draw(
        self,
        value: int,
        mask: Bool[np.ndarray, "first second"],
        corner: tuple[int, ...],
        axes: tuple[int, int],
    ) -> None:
        """Draw one plane of a segment.

        Args:
            value: The segment.
            mask: Its voxels in the plane.
            corner: Voxel index, in the grid, of the mask's first element.
            axes: Axes of the grid along which the mask's two axes run, upwards.
        """
        through = 3 - sum(axes)
        mask, corner = _crop(mask, corner, axes)
        if not 0 <= corner[through] < self._like.shape[through]:
            self._outside[value] += int(mask.sum())
            return
        spans = [_span(corner[a], mask.shape[i], self._like.shape[a]) for i, a in enumerate(axes)]
        (rows, held_rows), (columns, held_columns) = spans
        inside = mask[rows, columns]
        self._outside[value] += int(mask.sum()) - int(inside.sum())
        plane = self._labels.transpose(*axes, through)[..., corner[through]]
        target = plane[held_rows, held_columns]
        clash = inside & (target != 0) & (target != value)
        others, voxels = np.unique(target[clash], return_counts=True)
        for other, count in zip(others.tolist(), voxels.tolist(), strict=True):
            self._shared[other, value] += count
        np.copyto(target, np.asarray(value, target.dtype), where=inside)

    def volume(self) -> Volume:
        """Return the label map.

        Raises:
            InputError: Voxels lie outside the grid, or in two segments.
        """
        if self._outside.total():
            parts = ", ".join(
                f"{count:,} of {self._segments[value]!r}"
                for value, count in self._outside.items()
                if count
            )
            raise InputError(
                f"{self._path}: has {plural(self._outside.total(), 'voxel')} outside the grid of "
                f"the image, {self._like.shape}: {parts}; give the whole image"
            )
        if self._shared:
            ((one, other), count), *_ = self._shared.most_common(1)
            raise InputError(
                f"{self._path}: {self._segments[one]!r} and {self._segments[other]!r} share "
                f"{plural(count, 'voxel')}, but a voxel has one label; name the segments wanted, "
                "or separate them"
            )
        return Volume(self._labels, self._like.affine)


def choose(path: Path, names: Sequence[str], wanted: Sequence[str] | None) -> dict[int, str]:
    """Return value, from 1, and name of the segments that are wanted.

    Args:
        path: The file, for messages.
        names: Names of all segments.
        wanted: Names of those to return, as they are or else without regard to case and to space
            around them; all when None.

    Raises:
        InputError: A wanted name is none of the file's.
    """
    segments = dict(enumerate(names, start=1))
    if wanted is None:
        return segments
    chosen: set[str] = set()
    for name in wanted:
        alike = [known for known in names if known.strip().casefold() == name.strip().casefold()]
        found = [name] if name in names else alike
        if not found:
            raise InputError(f"{path}: has no segment {name!r}, but {listed(names)}")
        chosen.update(found)
    return {value: name for value, name in segments.items() if name in chosen}


def unique(path: Path, segments: Sequence[tuple[int, str]]) -> dict[int, str]:
    """Return number and name of segments in the order of their numbers.

    Raises:
        InputError: Two have one number or one name.
    """
    for place, what in enumerate(("number", "name")):
        for found, count in Counter(segment[place] for segment in segments).most_common(1):
            if count > 1:
                raise InputError(f"{path}: {count} segments have one {what}, {found!r}; mend it")
    return dict(sorted(segments))


def listed(names: Sequence[str]) -> str:
    """Return names for a message, the first eight of them."""
    return ", ".join(map(repr, names[:_LISTED])) + (", …" if len(names) > _LISTED else "")


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn whatever fails while a header is taken apart into an error that names the file."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # pydicom names no closed set of errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: its DICOM header is corrupt: {reason!r}") from error


def needed(dataset: "Dataset", keyword: str) -> Any:
    """Return a value that a header must have.

    Raises:
        ValueError: It has none.
    """
    if dataset.get(keyword) is None:
        raise ValueError(f"{keyword} is missing")
    return dataset[keyword].value


def to_voxels(
    like: Grid, points: Float64[np.ndarray, "*points 3"], *, vectors: bool = False
) -> Float64[np.ndarray, "*points 3"]:
    """Return points of the patient (mm, LPS+) as voxel indices of a grid.

    Args:
        like: The grid.
        points: Points, or distances between points.
        vectors: Whether they are distances.
    """
    inverse = np.linalg.inv(like.affine)
    indices = points @ (inverse[:3, :3] @ _RAS).T
    return indices if vectors else indices + inverse[:3, 3]


def _span(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Return which part of a row from ``start`` lies in the grid: of the row, and of the grid."""
    first = max(start, 0)
    last = max(min(start + size, length), first)
    return slice(first - start, last - start), slice(first, last)


def _crop(
    mask: Bool[np.ndarray, "first second"], corner: tuple[int, ...], axes: tuple[int, int]
) -> tuple[Bool[np.ndarray, "cut short"], tuple[int, ...]]:
    """Cut a mask down to the box of what is set."""
    start, window = list(corner), []
    for axis in range(2):
        along = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = (int(along[0]), int(along[-1]) + 1) if along.size else (0, 0)
        window.append(slice(first, last))
        start[axes[axis]] += first
    return mask[window[0], window[1]], tuple(start)
