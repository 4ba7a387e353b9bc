"""Read DICOM segmentations (SEG objects) as label maps on the grid of their image."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Integer

from segjax.data.io.dicom.header import is_dicom, quiet, read_dataset
from segjax.data.io.dicom.labels import Canvas, choose, needed, parsing, unique
from segjax.data.io.dicom.rtstruct import roi_names
from segjax.data.io.dicom.segmentation_pixels import read_frames
from segjax.data.io.dicom.segmentation_planes import Planes, functional_groups, macro, place
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["is_label_object", "read_dicom_segmentation", "segment_names"]

PathLike = str | os.PathLike[str]
Kind = Literal["SEG", "RTSTRUCT"]

_KINDS: dict[str, Kind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",  # of type LABELMAP
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SOP_CLASS = 0x00080016
_BITS = {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}


@dataclass(frozen=True)
class _Coding:
    """What the stored values stand for.

    Attributes:
        kind: ``"BINARY"``, ``"FRACTIONAL"`` or ``"LABELMAP"``.
        maximum: What stands for 1 in a fractional segmentation; else 1.
        background: Value of no segment in a label map; None where every value is a segment.
    """

    kind: str
    maximum: int
    background: int | None


def is_label_object(path: PathLike) -> Kind | None:
    """Say whether a file is a DICOM segmentation or a structure set; its pixels are not read.

    Args:
        path: Any file.

    Returns:
        ``"SEG"``, ``"RTSTRUCT"``, or None for any other file, also for one that is not there.

    Example:
        >>> import tempfile
        >>> is_label_object(Path(tempfile.mkdtemp()) / "missing.dcm") is None
        True
    """
    try:
        return _KINDS.get(_sop_class(Path(path))) if is_dicom(Path(path)) else None
    except Exception:  # whatever cannot be read is no label object
        return None


def segment_names(path: PathLike) -> tuple[str, ...]:
    """Return the names of the segments of a DICOM segmentation, or of the ROIs of a structure set.

    Args:
        path: SEG or RTSTRUCT object.

    Returns:
        The names as they are, in the order of their numbers; without the background of a label
        map.

    Raises:
        InputError: The file is neither, it cannot be read, or two segments have one name.

    Example:
        >>> segment_names("lesions.dcm")
        ('Lesion',)
    """
    if is_label_object(path) == "RTSTRUCT":
        return roi_names(path)
    return tuple(_segments(Path(path), _header(Path(path))).values())


def read_dicom_segmentation(
    path: PathLike, like: Grid, *, wanted: Sequence[str] | None = None
) -> tuple[Volume, dict[int, str]]:
    """Read a DICOM segmentation as a label map on the grid of its image.

    Every frame is put where it says that it lies in the patient, in whatever order the frames come
    and however the image's axes are flipped or permuted; slices without a frame are background.
    Of a fractional segmentation, a voxel is inside from half of the maximum on.

    Args:
        path: SEG object: binary, fractional or label map.
        like: Grid of the image that it belongs to.
        wanted: Names of the segments to read, as they are or else without regard to case and to
            space around them; all when None.

    Returns:
        The label map (uint8 or uint16), where a segment's value is its place, from 1, in
        :func:`segment_names`; and value and name of the segments that were read.

    Raises:
        InputError: The file is no segmentation or corrupt; its voxels are not the image's; voxels
            lie outside the image or in two segments; or a wanted name is none of the file's.

    Warns:
        UserWarning: Values between 0 and the maximum of a fractional segmentation were decided.

    Example:
        >>> from segjax.data import read_grid
        >>> grid, _ = read_grid("scan")
        >>> labels, names = read_dicom_segmentation("lesions.dcm", grid)
        >>> names
        {1: 'Lesion'}

    Source:
        DICOM PS3.3, A.51 and C.8.20.2.
    """
    path = Path(path)
    header = _header(path)
    segments = _segments(path, header)
    chosen = choose(path, tuple(segments.values()), wanted)
    values = {number: value for value, number in enumerate(segments, 1) if value in chosen}
    canvas = Canvas(path, like, chosen)
    coding = _coding(path, header)
    owners = _owners(path, header, coding, segments)
    planes = place(path, header, like)
    drawn = {i: owner for i, owner in enumerate(owners) if owner is None or owner in values}
    _check_repeats(path, planes, drawn)
    undecided = 0
    for frame, stored in read_frames(path, header, list(drawn)):
        _check_values(path, stored, coding, segments)
        undecided += _count_undecided(stored, coding)
        for number, mask in _masks(stored, coding, drawn[frame]):
            if number in values:
                canvas.draw(values[number], *_upright(mask, planes, frame))
    if undecided:
        warnings.warn(
            f"{path}: is fractional, with {plural(undecided, 'voxel')} between 0 and the maximum; "
            "those from half of it on are inside",
            stacklevel=2,
        )
    return canvas.volume(), chosen


def _sop_class(path: Path) -> str:
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info, read_partial
    from pydicom.tag import Tag

    with quiet():
        try:
            meta: Any = read_file_meta_info(path)
        except InvalidDicomError:  # no preamble
            meta = {}
        stated = str(meta.get("MediaStorageSOPClassUID", ""))
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            return stated
        with path.open("rb") as stream:
            tags: list[Any] = [Tag(_SOP_CLASS)]
            header = read_partial(stream, lambda tag, *_: tag > _SOP_CLASS, None, True, tags)
        return str(header.get("SOPClassUID") or stated)


def _header(path: Path) -> "Dataset":
    header = read_dataset(path)
    with parsing(path):
        uid = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
    if _KINDS.get(uid) != "SEG":
        raise InputError(f"{path}: is no DICOM segmentation (SEG object)")
    return header


def _segments(path: Path, header: "Dataset") -> dict[int, str]:
    """Return number and name of the segments, in the order of the numbers."""
    with parsing(path):
        items = needed(header, "SegmentSequence")
        found = [(int(item.SegmentNumber), str(item.get("SegmentLabel") or "")) for item in items]
        background = header.get("PixelPaddingValue") if _kind(header) == "LABELMAP" else None
    found = [(number, name) for number, name in found if number != background]
    return unique(path, found)


def _kind(header: "Dataset") -> str:
    return str(header.get("SegmentationType", "")).strip().upper()


def _coding(path: Path, header: "Dataset") -> _Coding:
    with parsing(path):
        kind, bits = _kind(header), int(needed(header, "BitsAllocated"))
        maximum = int(needed(header, "MaximumFractionalValue")) if kind == "FRACTIONAL" else 1
        described = {int(item.SegmentNumber) for item in header.SegmentSequence}
        padding = header.get("PixelPaddingValue")
        background = None if 0 in described and padding is None else int(padding or 0)
    if bits not in _BITS.get(kind, ()) or not 0 < maximum < 2**bits:
        raise InputError(
            f"{path}: a segmentation of type {kind!r} with {bits} bits per pixel, and {maximum} as "
            "the highest value, cannot be read; write it again"
        )
    return _Coding(kind, maximum, background)


def _owners(
    path: Path, header: "Dataset", coding: _Coding, segments: Mapping[int, str]
) -> list[int | None]:
    """Return the segment of each frame; None where the stored values are the segments."""
    frames, shared = functional_groups(path, header)
    if coding.kind == "LABELMAP":
        return [None] * len(frames)
    with parsing(path):
        stated = [
            macro([frame, *shared], "SegmentIdentificationSequence", "ReferencedSegmentNumber")
            for frame in frames
        ]
        owners = [None if number is None else int(number) for number in stated]
    for i, number in enumerate(owners):
        if number not in segments:
            raise InputError(
                f"{path}: frame {i + 1} is of segment {number}, which it does not describe; write "
                "it again"
            )
    return owners


def _check_repeats(path: Path, planes: Planes, owners: Mapping[int, int | None]) -> None:
    """Refuse two frames of one segment at one place."""
    seen: dict[tuple[int | None, tuple[int, int]], int] = {}
    for frame, owner in owners.items():
        first = seen.setdefault((owner, planes.slice(frame)), frame)
        if first != frame:
            raise InputError(
                f"{path}: frames {first + 1} and {frame + 1} show one segment at one place; "
                "remove one"
            )


def _check_values(
    path: Path,
    stored: Integer[np.ndarray, "row column"],
    coding: _Coding,
    segments: Mapping[int, str],
) -> None:
    """Refuse stored values that stand for nothing."""
    if coding.kind == "LABELMAP":
        known = [*segments, *([] if coding.background is None else [coding.background])]
        odd = stored[~np.isin(stored, known)]
    else:
        odd = stored[stored > coding.maximum]
    if odd.size:
        raise InputError(
            f"{path}: holds {plural(odd.size, 'pixel')} of values that stand for no segment, such "
            f"as {odd[0]}; write it again"
        )


def _count_undecided(stored: Integer[np.ndarray, "row column"], coding: _Coding) -> int:
    """Count values between 0 and the maximum of a fractional segmentation."""
    if coding.kind != "FRACTIONAL":
        return 0
    return int(np.count_nonzero((stored > 0) & (stored < coding.maximum)))


def _masks(
    stored: Integer[np.ndarray, "row column"], coding: _Coding, owner: int | None
) -> Iterator[tuple[int, Bool[np.ndarray, "row column"]]]:
    """Yield number and pixels of the segments in a frame."""
    if owner is not None:
        yield owner, stored >= coding.maximum / 2
        return
    for number in np.flatnonzero(np.bincount(stored.ravel())).tolist():
        if number != coding.background:
            yield number, stored == number


def _upright(
    mask: Bool[np.ndarray, "row column"], planes: Planes, frame: int
) -> tuple[Bool[np.ndarray, "row column"], tuple[int, ...], tuple[int, int]]:
    """Return a mask whose axes run upwards along the image's; its corner; and these axes."""
    corner = planes.corners[frame].copy()
    axes: list[int] = []
    for along, step in enumerate((planes.rows[frame], planes.columns[frame])):
        axis = int(abs(step).argmax())
        axes.append(axis)
        if step[axis] < 0:
            mask = np.flip(mask, along)
            corner[axis] -= mask.shape[along] - 1
    return mask, tuple(corner.tolist()), (axes[0], axes[1])
