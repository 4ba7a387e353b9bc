"""Read the headers of DICOM files: where each slice lies, and how its pixels are stored."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from segjax.data._dicom_values import MACROS, Facts, printable
from segjax.errors import InputError
from segjax.files import reading

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "MOST_BYTES",
    "Frame",
    "Pixels",
    "UnfitImageError",
    "is_dicom",
    "quiet",
    "read_dataset",
    "read_frames",
]

_PREAMBLE = 128
MOST_BYTES = 16 * 2**30  # stated bound on the voxels of one series
_MOST_PIXELS = 2**26  # of one frame
_MOST_FRAMES = 2**16  # of one file
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = "1.2.840.10008.1.2.1.99"
_FINEST = 1e-4  # mm
_LEAST_COMPRESSED = 16  # bytes of a compressed frame
_PIXEL_VRS = (b"OB", b"OW", b"UN")
_STRAIGHT = 0.01  # rounded direction cosines are unit vectors at right angles up to this
_TOP = (
    "SOPClassUID", "ImageType", "Modality", "SeriesDescription", "SeriesInstanceUID",
    "SeriesNumber", "EchoTime", "EchoNumbers", "InversionTime", "TriggerTime",
    "TemporalPositionIdentifier", "SequenceName", "AcquisitionNumber",
    "DiffusionGradientOrientation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence",
)  # fmt: skip
_TAGS = [*_TOP, *MACROS]
_KIND = (
    "EffectiveEchoTime", "EchoTime", "InversionTimes", "InversionTime", "TemporalPositionIndex",
    "TemporalPositionIdentifier", "DiffusionBValue",
)  # fmt: skip
_HINTS = (
    "EchoNumbers", "SequenceName", "AcquisitionNumber", "FrameAcquisitionNumber", "TriggerTime",
    "NominalCardiacTriggerDelayTime", "DiffusionGradientOrientation",
)  # fmt: skip


class UnfitImageError(InputError):
    """Says that an image is sound, but of a kind that is no slice of a volume."""


@dataclass(frozen=True)
class Pixels:
    """How the pixels of one file are stored.

    Attributes:
        file: The file.
        syntax: UID of the transfer syntax.
        offset: Byte where the value of the pixel data begins.
        length: Bytes of the value, or None where it is a sequence of compressed fragments.
        shape: Rows and columns.
        frames: Number of frames.
        bits: Bits allocated, bits stored, and the highest bit of a pixel.
        signed: Whether pixels are in two's complement.
        big_endian: Whether the most significant byte comes first.
    """

    file: Path
    syntax: str
    offset: int
    length: int | None
    shape: tuple[int, int]
    frames: int
    bits: tuple[int, int, int]
    signed: bool
    big_endian: bool


@dataclass(frozen=True)
class Frame:
    """One slice: a file, or one frame of a file that holds many.

    Attributes:
        pixels: How the file stores it.
        index: Its number within the file, from 0.
        series: Series instance UID, number and description.
        modality: Modality, such as ``"MR"``.
        position: Centre of the first pixel, in mm (LPS+); None where the file does not say it, or
            nothing of the orientation or the pixel spacing.
        orientation: Unit vectors along a row and along a column (LPS+).
        spacing: Distance between rows and between columns, in mm.
        thickness: Distance to the next slice, or else the slice's thickness, in mm; or None.
        rescale: Slope and intercept.
        kind: What tells volumes of one series apart: echo, temporal position, …
        hints: What tells them apart where kinds do not: acquisition, type of image, …
        image_type: The values of the image type.
    """

    pixels: Pixels
    index: int
    series: tuple[str, int, str]
    modality: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    rescale: tuple[float, float]
    kind: tuple[tuple[str, ...], ...]
    hints: tuple[tuple[str, ...], ...]
    image_type: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The file that holds the frame."""
        return self.pixels.file


def is_dicom(path: Path) -> bool:
    """Say whether an ordinary file has DICOM's mark, whatever its name."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what pydicom says of odd values; those that matter are checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_dataset(path: Path) -> "Dataset":
    """Read the whole header of a file, without its pixels.

    Raises:
        InputError: The file is no DICOM file, or its header is corrupt.
    """
    with reading(path) as stream:
        return _parse(path, stream, None)


def read_frames(path: Path) -> tuple[Frame, ...]:
    """Read where the frames of a file lie; nothing where it holds no image.

    Raises:
        InputError: The file is no DICOM file, its header is corrupt or lies about the size, or
            the image is none that can be read; :class:`UnfitImageError` where only its kind is
            wrong.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _read_frames(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**14)
def _read_frames(path: Path, size: int, _changed: int) -> tuple[Frame, ...]:
    with reading(path) as stream, quiet():
        dataset = _parse(path, stream, _TAGS)
        try:
            if not (dataset.get("Rows") and dataset.get("Columns")):
                _check_no_image(path, dataset)
                return ()
            pixels = _pixels(path, dataset, stream, size)
            return tuple(_frame(Facts(dataset, i), pixels) for i in range(pixels.frames))
        except InputError:
            raise
        except Exception as error:  # pydicom names no closed set of errors
            raise _corrupt(path, error) from error


def _parse(path: Path, stream: BinaryIO, tags: Any) -> "Dataset":
    from pydicom import dcmread
    from pydicom.config import disable_value_validation
    from pydicom.filereader import read_file_meta_info

    if not is_dicom(path):
        raise InputError(f"{path}: is no DICOM file")
    try:
        with quiet(), disable_value_validation():
            if str(read_file_meta_info(path).get("TransferSyntaxUID")) == _DEFLATED:
                raise InputError(f"{path}: is deflated as a whole; convert it with dcmconv first")
            return dcmread(stream, stop_before_pixels=True, specific_tags=tags)
    except InputError:
        raise
    except Exception as error:  # pydicom names no closed set of errors
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> InputError:
    reason = printable(str(error)) or type(error).__name__
    return InputError(f"{path}: its DICOM header is corrupt: {reason[:200]}")


def _check_no_image(path: Path, dataset: "Dataset") -> None:
    """Refuse what should be an image: a cut header, not a report, has no rows."""
    from pydicom.uid import UID

    meta = dataset.file_meta
    kind = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    if not kind or "Image" in kind.name:
        raise InputError(f"{path}: is truncated, or an image without rows and columns")


def _pixels(path: Path, dataset: "Dataset", stream: BinaryIO, size: int) -> Pixels:
    """Read how the pixels are stored; refuse sizes that the file cannot hold."""
    facts = Facts(dataset)
    rows, columns, allocated, stored, high = (
        int(dataset[keyword].value)
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit")
    )
    palette = facts.words("PhotometricInterpretation") == ("PALETTE COLOR",)
    if int(facts.number("SamplesPerPixel", 1)) != 1 or palette or allocated == 1:
        raise UnfitImageError(f"{path}: holds colours, or a bit per pixel; give it one number each")
    if "ModalityLUTSequence" in dataset:
        raise InputError(f"{path}: its values go through a look-up table, which is not read")
    _, little = dataset.original_encoding
    allowed = (8, 16, 32) if little else (16, 32)  # bytes in words of the other order
    if allocated not in allowed or not 0 < stored <= high + 1 <= allocated:
        raise InputError(
            f"{path}: pixels of {stored} bits up to bit {high} in {allocated} cannot be read"
        )
    offset, length = _pixel_data(path, dataset, stream)
    pixels = Pixels(
        file=path,
        syntax=printable(str(dataset.file_meta.get("TransferSyntaxUID", ""))),
        offset=offset,
        length=length,
        shape=(rows, columns),
        frames=int(facts.number("NumberOfFrames", 1)),
        bits=(allocated, stored, high),
        signed=bool(facts.number("PixelRepresentation", 0)),
        big_endian=not little,
    )
    _check_size(pixels, size)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != pixels.frames:
        raise InputError(f"{path}: describes {len(groups)} of its {pixels.frames} frames")
    return pixels


def _pixel_data(path: Path, dataset: "Dataset", stream: BinaryIO) -> tuple[int, int | None]:
    """Return where the value of the pixel data begins, and its length unless undefined."""
    implicit, little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    head = stream.read(8 if implicit else 12)
    tag = int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)
    if len(head) < 8 or tag != (0x7FE0, 0x0010) or (not implicit and head[4:6] not in _PIXEL_VRS):
        raise InputError(f"{path}: is truncated, or holds no pixels that can be read")
    length = int.from_bytes(head[-4:], order)
    return stream.tell(), None if length == _UNDEFINED else length


def _check_size(pixels: Pixels, size: int) -> None:
    """Refuse, before memory is taken, a size that the file cannot hold."""
    rows, columns = pixels.shape
    row = columns * pixels.bits[0] // 8
    stated, there = row * rows * pixels.frames, size - pixels.offset
    few = 1 <= pixels.frames <= _MOST_FRAMES
    if not few or rows * columns > _MOST_PIXELS or stated > MOST_BYTES:
        raise InputError(
            f"{pixels.file}: states {pixels.frames} frames of {columns}×{rows} pixels; at most "
            f"{_MOST_FRAMES:,} frames of {_MOST_PIXELS:,} pixels and {MOST_BYTES:,} bytes are read"
        )
    if pixels.length is None:
        if pixels.frames * _LEAST_COMPRESSED > there:
            raise InputError(f"{pixels.file}: is truncated: {pixels.frames} frames do not fit")
    elif pixels.length > there or not stated <= pixels.length < stated + max(row, 2):
        raise InputError(
            f"{pixels.file}: is truncated, or its header lies: {pixels.frames} frames of "
            f"{columns}×{rows} pixels take {stated:,} bytes, but it states {pixels.length:,} and "
            f"holds {there:,}; fetch or write it again"
        )


def _frame(facts: Facts, pixels: Pixels) -> Frame:
    """Read where a frame lies and what its pixels stand for."""
    image_type = facts.words("FrameType") or facts.words("ImageType")
    slope = facts.number("RescaleSlope", 1)
    if slope == 0:
        raise ValueError("RescaleSlope is 0")
    return Frame(
        pixels=pixels,
        index=facts.index,
        series=_series(facts),
        modality="".join(facts.words("Modality")),
        position=facts.numbers("ImagePositionPatient", 3) if _is_placed(facts) else None,
        orientation=_orientation(facts),
        spacing=_spacing(facts),
        thickness=_thickness(facts),
        rescale=(slope, facts.number("RescaleIntercept", 0)),
        kind=tuple(facts.words(keyword) for keyword in _KIND),
        hints=(image_type, *(facts.words(keyword) for keyword in _HINTS)),
        image_type=image_type,
    )


def _is_placed(facts: Facts) -> bool:
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return facts.tells_frames_apart and all(facts.values(keyword) for keyword in needed)


def _series(facts: Facts) -> tuple[str, int, str]:
    uid, description = (
        "".join(facts.words(keyword)) for keyword in ("SeriesInstanceUID", "SeriesDescription")
    )
    return uid, int(facts.number("SeriesNumber", 0)), description


def _orientation(facts: Facts) -> tuple[float, ...]:
    cosines = facts.numbers("ImageOrientationPatient", 6) or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    slant = sum(a * b for a, b in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(slant)) > _STRAIGHT:
        raise ValueError(f"ImageOrientationPatient {list(cosines)} is no pair of unit vectors")
    return tuple(x / lengths[0] for x in row) + tuple(x / lengths[1] for x in column)


def _spacing(facts: Facts) -> tuple[float, ...]:
    spacing = facts.numbers("PixelSpacing", 2) or (1.0, 1.0)
    if min(spacing) < _FINEST:
        raise ValueError(f"PixelSpacing is {list(spacing)} mm")
    return spacing


def _thickness(facts: Facts) -> float | None:
    numbers = (facts.number(keyword, 0) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    return next((number for number in numbers if number >= _FINEST), None)
