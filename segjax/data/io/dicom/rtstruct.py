"""Read DICOM structure sets (RTSTRUCT objects) as label maps on the grid of their image."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

from segjax.data.io.dicom.header import read_dataset
from segjax.data.io.dicom.labels import Canvas, choose, needed, parsing, to_voxels, unique
from segjax.data.io.dicom.polygon import Polygon, fill
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_rtstruct", "roi_names"]

PathLike = str | os.PathLike[str]

_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_REGIONS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_LARGEST = 2.0**31  # of any coordinate; keeps sums finite
_OFF_SLICE = 0.15  # slices between a contour and the centre of its slice; rounding is far less
_SAME_POINT = 1e-6  # mm


@dataclass(frozen=True, eq=False)
class _Roi:
    """One region: its file, its name, the grid to draw it on, and its contours, unread."""

    path: Path
    name: str
    like: Grid
    contours: Sequence["Dataset"]


def roi_names(path: PathLike) -> tuple[str, ...]:
    """Return the names of the regions of a structure set.

    Args:
        path: RTSTRUCT object.

    Returns:
        The names as they are, in the order of their numbers.

    Raises:
        InputError: The file is no structure set, it cannot be read, or two regions have one name.

    Example:
        >>> roi_names("structures.dcm")
        ('GTV',)
    """
    return tuple(_rois(Path(path), _header(Path(path))).values())


def read_rtstruct(
    path: PathLike, like: Grid, *, wanted: Sequence[str] | None = None
) -> tuple[Volume, dict[int, str]]:
    """Read a structure set as a label map on the grid of its image.

    A voxel is in a region where its centre is, by the even-odd rule over all contours of the region
    in one slice, so that a contour in another one is a hole; centres on a contour (up to 0.001
    voxels) are in. Nothing is interpolated: slices without a contour are background.

    Args:
        path: RTSTRUCT object.
        like: Grid of the image that it was drawn on.
        wanted: Names of the regions to read, as they are or else without regard to case and to
            space around them; all when None.

    Returns:
        The label map (uint8 or uint16), where a region's value is its place, from 1, in
        :func:`roi_names`; and value and name of the regions that were read.

    Raises:
        InputError: The file is no structure set or corrupt; a contour is open, lies between slices
            or across them, or reaches outside the image; two regions share voxels; or a wanted name
            is none of the file's.

    Warns:
        UserWarning: Points were left out; contours hold no voxel's centre, are there twice, cross
            each other, or lie in every other slice only.

    Example:
        >>> from segjax.data import read_grid
        >>> grid, _ = read_grid("scan")
        >>> labels, names = read_rtstruct("structures.dcm", grid, wanted=["GTV"])
        >>> names
        {1: 'GTV'}

    Source:
        DICOM PS3.3, C.8.8.6.
    """
    path = Path(path)
    header = _header(path)
    rois = _rois(path, header)
    chosen = choose(path, tuple(rois.values()), wanted)
    contours = _contours(path, header, rois)
    canvas = Canvas(path, like, chosen)
    for value, number in enumerate(rois, 1):
        if value in chosen:
            roi = _Roi(path, chosen[value], like, contours.get(number, []))
            for note in _draw(canvas, value, roi):
                warnings.warn(f"{path}: {note}", stacklevel=2)
    return canvas.volume(), chosen


def _header(path: Path) -> "Dataset":
    header = read_dataset(path)
    with parsing(path):
        uid = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
    if uid != _STRUCTURE_SET:
        raise InputError(f"{path}: is no DICOM structure set (RTSTRUCT object)")
    return header


def _rois(path: Path, header: "Dataset") -> dict[int, str]:
    """Return number and name of the regions, in the order of the numbers."""
    with parsing(path):
        items = needed(header, "StructureSetROISequence")
        found = [(int(item.ROINumber), str(item.get("ROIName") or "")) for item in items]
    return unique(path, found)


def _contours(path: Path, header: "Dataset", rois: Mapping[int, str]) -> dict[int, list["Dataset"]]:
    """Return the contours of each region, unread."""
    contours: dict[int, list[Dataset]] = {}
    with parsing(path):
        for item in needed(header, "ROIContourSequence"):
            number = int(item.ReferencedROINumber)
            contours.setdefault(number, []).extend(item.get("ContourSequence") or [])
    if odd := [number for number in contours if number not in rois]:
        raise InputError(f"{path}: has contours of region {odd[0]}, which it does not name")
    return contours


def _draw(canvas: Canvas, value: int, roi: _Roi) -> list[str]:
    """Draw a region; return what its reader should know."""
    regions, notes = _closed(roi)
    if not regions:
        return notes
    axis, slices = _slices(roi, regions)
    _check_within(roi, axis, slices)
    empty = crossed = 0
    for place, polygons in slices.items():
        filled = [fill(polygon) for polygon in polygons]
        empty += sum(not (part.inside | part.edge).any() for part in filled)
        corner, mask, crossing = _combine(filled)
        crossed += crossing
        axes = [other for other in range(3) if other != axis]
        start = np.insert(corner, axis, place)
        canvas.draw(value, mask, tuple(start.tolist()), (axes[0], axes[1]))
    if empty:
        notes.append(f"{roi.name!r}: {plural(empty, 'contour')} with no voxel's centre inside")
    if crossed:
        notes.append(
            f"{roi.name!r}: contours cross each other in {plural(crossed, 'slice')}; what an even "
            "number of them encloses is outside"
        )
    return notes + _sparse(roi, list(slices))


def _closed(roi: _Roi) -> tuple[list[Float64[np.ndarray, "_ 3"]], list[str]]:
    """Return the points (mm, LPS+) of the contours that enclose something."""
    regions: dict[bytes, Float64[np.ndarray, "_ 3"]] = {}
    loose = repeated = 0
    for i, contour in enumerate(roi.contours):
        kind, points = _read(roi, contour, f"contour {i + 1} of {roi.name!r}")
        if kind == "POINT":
            loose += 1
            continue
        rounded = (points / _SAME_POINT).round() + 0.0  # no negative zeros
        key = rounded[np.lexsort(rounded.T)].tobytes()
        repeated += key in regions
        regions[key] = points
    notes = []
    if loose:
        notes.append(f"{roi.name!r}: {plural(loose, 'contour')} of type POINT, left out")
    if repeated:
        notes.append(f"{roi.name!r}: {plural(repeated, 'contour')} there twice, taken once")
    return list(regions.values()), notes


def _read(roi: _Roi, contour: "Dataset", name: str) -> tuple[str, Float64[np.ndarray, "point 3"]]:
    """Return the type and the points (mm, LPS+) of a contour."""
    with parsing(roi.path):
        kind = str(contour.get("ContourGeometricType", "")).strip().upper()
        stated = int(contour.get("NumberOfContourPoints") or 0)
        numbers = _numbers(contour)
        x, y, z = contour.get("ContourOffsetVector") or (0, 0, 0)
        offset = np.array([x, y, z], dtype=np.float64)
    if kind not in (*_REGIONS, "POINT"):
        raise InputError(
            f"{roi.path}: {name} is of type {kind!r}, which encloses nothing; close it, or name "
            "the regions wanted"
        )
    count = stated or len(numbers) // 3
    if not count or len(numbers) != 3 * count:
        raise InputError(
            f"{roi.path}: {name} states {plural(stated, 'point')}, but has "
            f"{plural(len(numbers), 'number')}, three for each; write it again"
        )
    points = numbers.reshape(-1, 3) + offset
    if not (abs(points) < _LARGEST).all():
        raise InputError(f"{roi.path}: {name} has points at no place; write it again")
    return kind, points


def _numbers(contour: "Dataset") -> Float64[np.ndarray, "number"]:
    """Return the contour's data; from the bytes of the file, which is fast, where it can be."""
    element: Any = contour.get_item("ContourData")
    value = None if element is None else element.value
    if isinstance(value, bytes):
        value = value.decode("ascii").strip(" \0").split("\\") if value.strip(b" \0") else []
    return np.array([] if value is None else value, dtype=np.float64).ravel()


def _slices(
    roi: _Roi, regions: Sequence[Float64[np.ndarray, "_ 3"]]
) -> tuple[int, dict[int, list[Float64[np.ndarray, "_ 2"]]]]:
    """Return the axis that the contours lie across, and the contours (voxels) in each slice."""
    voxels = [to_voxels(roi.like, points) for points in regions]
    axis = _across(roi, voxels)
    slices: dict[int, list[Float64[np.ndarray, "_ 2"]]] = {}
    for points in voxels:
        along = points[:, axis]
        place = round(float(along.mean()))
        if (off := float(abs(along - place).max())) > _OFF_SLICE:
            raise InputError(
                f"{roi.path}: contours of {roi.name!r} lie between the image's slices, up to "
                f"{off:.2f} of their distance from the nearest, as if drawn on slices of another "
                "spacing; draw or resample them on this image"
            )
        slices.setdefault(place, []).append(np.delete(points, axis, axis=1))
    return axis, slices


def _across(roi: _Roi, voxels: Sequence[Float64[np.ndarray, "_ 3"]]) -> int:
    """Return the axis of the image that contours lie across."""
    spread = np.max([np.ptp(points, axis=0) for points in voxels], axis=0)
    if spread.min() > 2 * _OFF_SLICE:
        raise InputError(
            f"{roi.path}: contours of {roi.name!r} lie in no plane of the image, but across "
            f"{spread.min():.2f} of its slices; draw them on this image"
        )
    off = np.max([abs(points - np.rint(points)).max(axis=0) for points in voxels], axis=0)
    return int(np.where(spread > 2 * _OFF_SLICE, np.inf, off).argmin())


def _check_within(
    roi: _Roi, axis: int, slices: Mapping[int, Sequence[Float64[np.ndarray, "_ 2"]]]
) -> None:
    """Refuse contours that may enclose centres beyond the image's."""
    through, shape = roi.like.shape[axis], np.delete(roi.like.shape, axis)
    outside = sum(
        not 0 <= place < through or bool(((points <= -1) | (points >= shape)).any())
        for place, polygons in slices.items()
        for points in polygons
    )
    if outside:
        raise InputError(
            f"{roi.path}: has {plural(outside, 'contour')} of {roi.name!r} outside the grid of the "
            f"image, {roi.like.shape}; give the whole image, or name the regions wanted"
        )


def _combine(
    polygons: Sequence[Polygon],
) -> tuple[tuple[int, int], Bool[np.ndarray, "row column"], bool]:
    """Return corner and mask of what an odd number of polygons encloses; and whether any cross.

    In nested polygons from large to small, each lies in the same number of others all over.
    """
    low = np.min([part.corner for part in polygons], axis=0)
    high = np.max([np.add(part.corner, part.inside.shape) for part in polygons], axis=0)
    depth, edge = np.zeros(high - low, np.uint16), np.zeros(high - low, bool)
    crossing = False
    for part in sorted(polygons, key=lambda part: -int(part.inside.sum())):
        row, column = np.subtract(part.corner, low).tolist()
        rows, columns = part.inside.shape
        window = slice(row, row + rows), slice(column, column + columns)
        levels = depth[window][part.inside & ~part.edge]
        crossing |= bool(levels.size and levels.min() != levels.max())
        depth[window] += part.inside
        edge[window] |= part.edge
    return (int(low[0]), int(low[1])), (depth % 2 == 1) | edge, crossing


def _sparse(roi: _Roi, places: Sequence[int]) -> list[str]:
    """Say so where contours lie in every second, third, … slice only."""
    steps = np.unique(np.diff(np.sort(places)))
    if len(places) < 3 or len(steps) > 1 or steps[0] == 1:
        return []
    return [
        f"{roi.name!r}: contours lie {steps[0]} slices apart all over; the slices between stay "
        "empty: interpolate the contours first if they should not"
    ]
