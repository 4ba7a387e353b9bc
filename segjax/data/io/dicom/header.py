"""Read the headers of DICOM files: whose and which each slice is, and where it lies."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from segjax.data.io.dicom.mark import is_dicom, transfer_syntax
from segjax.data.io.dicom.stored import Pixels, UnfitImageError, read_pixels
from segjax.data.io.dicom.values import MACROS, Facts, printable, tag_of
from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import reading

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "IDENTITY",
    "KIND",
    "TIMING",
    "FaultyFileError",
    "Frame",
    "Identity",
    "UnfitFileError",
    "quiet",
    "read_dataset",
    "read_frames",
    "read_study",
]

Identity = tuple[tuple[str, ...], ...]
_HEAD = 2048
_DEFLATED = "1.2.840.10008.1.2.1.99"
_FINEST = 1e-4  # mm
_STRAIGHT = 0.01  # rounded direction cosines are unit vectors at right angles up to this
_NO_SLICES = (  # storage classes of pixels that are no image of a volume
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # segmentation, one number per pixel
    "1.2.840.10008.5.1.4.1.1.4.2",  # spectroscopy
)
IDENTITY = (
    "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate",
    "StudyDate", "AccessionNumber", "SeriesNumber", "FrameOfReferenceUID", "Modality",
)  # fmt: skip
KIND = (
    "SeriesDescription", "ProtocolName", "ScanningSequence", "SequenceVariant",
    "TemporalPositionIndex", "TemporalPositionIdentifier", "DiffusionBValue", "StackID",
)  # fmt: skip
TIMING = (
    "EffectiveEchoTime", "EchoTime", "InversionTimes", "InversionTime", "RepetitionTime",
    "FlipAngle",
)  # fmt: skip
_HINTS = (
    "EchoNumbers", "SequenceName", "AcquisitionNumber", "FrameAcquisitionNumber", "TriggerTime",
    "NominalCardiacTriggerDelayTime", "DiffusionGradientOrientation", "ContrastBolusAgent",
    "ConvolutionKernel", "SeriesTime", "AcquisitionDate", "AcquisitionTime",
)  # fmt: skip
_STORAGE = (
    "SOPClassUID", "ImageType", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "ModalityLUTSequence",
)  # fmt: skip
_STUDY = ("SOPClassUID", "Modality", "StudyInstanceUID", "SamplesPerPixel", "Rows", "Columns")
_KEYWORDS = tuple(dict.fromkeys((*_STORAGE, *IDENTITY, *KIND, *TIMING, *_HINTS, *MACROS)))


class FaultyFileError(InputError):
    """Says that a file should hold an image but cannot be read.

    Attributes:
        identity: What its header says of whose and which image it is, as in :class:`Frame`.
    """

    def __init__(self, message: str, identity: Identity = ()) -> None:
        super().__init__(message)
        self.identity = identity


class UnfitFileError(UnfitImageError):
    """Says that a file holds a sound image of a kind that is no slice of a volume.

    Attributes:
        identity: What its header says of whose and which image it is, as in :class:`Frame`.
        shape: Its rows and columns.
    """

    def __init__(self, message: str, identity: Identity, shape: tuple[int, int]) -> None:
        super().__init__(message)
        self.identity = identity
        self.shape = shape


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
        orientation: Directions along a row and along a column (LPS+), as the header rounds them.
        spacing: Distance between rows and between columns, in mm.
        thickness: Distance to the next slice, or else the slice's thickness, in mm; or None.
        stated: Distance between slices and their thickness, in mm; 0 where not stated.
        rescale: Slope and intercept.
        identity: Series, study, patient, frame of reference, …: the same all over a volume; empty
            where the header says nothing. The series instance UID comes first.
        kind: What else tells sequences and volumes apart, in words: description, temporal
            position, …
        timing: The same in numbers: times of echo, inversion and repetition in ms; flip angle.
        hints: What tells volumes apart where all that does not: acquisition, type of image, …
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
    stated: tuple[float, float]
    rescale: tuple[float, float]
    identity: Identity = field(repr=False)
    kind: tuple[tuple[str, ...], ...] = field(repr=False)
    timing: tuple[tuple[float, ...], ...]
    hints: tuple[tuple[str, ...], ...]
    image_type: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The file that holds the frame."""
        return self.pixels.file

    @property
    def is_mosaic(self) -> bool:
        """Whether it shows many slices beside each other, as one manufacturer stores volumes."""
        return "MOSAIC" in self.image_type


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what pydicom says of odd values, in logs too; those that matter are checked."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def read_dataset(path: Path) -> "Dataset":
    """Read the whole header of a file, without its pixels.

    Raises:
        InputError: The file is no DICOM file, or its header is corrupt.
    """
    with reading(path) as stream:
        return _parse(path, stream, None)


def read_study(path: Path) -> str | None:
    """Return the StudyInstanceUID that an image of a volume states; None of what is no such image.

    Several times faster than :func:`read_frames`, which looks at the pixels too.

    Raises:
        InputError: The file is no DICOM file, or its header is corrupt or cut.
    """
    with reading(path) as stream, quiet():
        dataset = _parse(path, stream, list(map(tag_of, _STUDY)))
        grey = dataset.get("SamplesPerPixel") in (None, 1)
        return (
            str(dataset.get("StudyInstanceUID", ""))
            if _holds_slices(path, dataset) and grey
            else None
        )


def read_frames(path: Path) -> tuple[Frame, ...]:
    """Read where the frames of a file lie; nothing where it holds no image of a volume.

    Raises:
        InputError: The file cannot be opened; :class:`FaultyFileError` where it is no DICOM file,
            its header is corrupt or lies about the size, or its pixels are none that can be read;
            :class:`UnfitFileError` where only their kind is wrong.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _read_frames(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**14)
def _read_frames(path: Path, size: int, _changed: int) -> tuple[Frame, ...]:
    with reading(path) as stream, quiet():
        dataset = _parse(path, stream, list(map(tag_of, _KEYWORDS)))
        try:
            if not _holds_slices(path, dataset):
                return ()
            pixels = read_pixels(path, dataset, stream, size)
            return tuple(_frame(Facts(dataset, i), pixels) for i in range(pixels.frames))
        except UnfitImageError as error:
            shape = int(dataset["Rows"].value), int(dataset["Columns"].value)
            raise UnfitFileError(str(error), _identity(dataset), shape) from error
        except InputError as error:
            raise FaultyFileError(str(error), _identity(dataset)) from error
        except Exception as error:  # pydicom names no closed set of errors
            raise FaultyFileError(_corrupt(path, error), _identity(dataset)) from error


def _parse(path: Path, stream: BinaryIO, tags: Any) -> "Dataset":
    with needed_for("reading DICOM"):
        from pydicom import dcmread
        from pydicom.config import disable_value_validation

    if not is_dicom(path):
        raise FaultyFileError(f"{path}: is no DICOM file")
    syntax = transfer_syntax(stream.read(_HEAD))
    if syntax == _DEFLATED:
        raise FaultyFileError(f"{path}: is deflated as a whole; convert it with dcmconv first")
    stream.seek(0)
    try:
        with quiet(), disable_value_validation():
            return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=tags)
    except Exception as error:  # pydicom names no closed set of errors
        raise FaultyFileError(_corrupt(path, error)) from error


def _corrupt(path: Path, error: Exception) -> str:
    reason = printable(str(error)) or type(error).__name__
    return f"{path}: its DICOM header is corrupt: {reason[:200]}"


def _holds_slices(path: Path, dataset: "Dataset") -> bool:
    """Say whether a file holds an image; refuse what should, but does not say its size.

    A cut header has no rows and columns, and neither has a report: their kinds differ.
    """
    from pydicom.uid import UID

    kind = UID(str(dataset.get("SOPClassUID") or _meta(dataset, "MediaStorageSOPClassUID")))
    if kind in _NO_SLICES or str(dataset.get("Modality")) == "SEG":
        return False
    if dataset.get("Rows") and dataset.get("Columns"):
        return True
    if not kind or ("Image" in kind.name and "Non-Image" not in kind.name):
        raise InputError(f"{path}: is truncated, or an image without rows and columns")
    return False


def _meta(dataset: "Dataset", keyword: str) -> str:
    return str(dataset.file_meta.get(keyword) or "")


def _identity(dataset: "Dataset") -> Identity:
    """Return what a header says of whose and which image it is; nothing where it is corrupt."""
    with suppress(Exception):  # pydicom names no closed set of errors
        facts = Facts(dataset)
        return tuple(facts.words(keyword) for keyword in IDENTITY)
    return ()


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
        stated=(_first(facts, "SpacingBetweenSlices"), _first(facts, "SliceThickness")),
        rescale=(slope, facts.number("RescaleIntercept", 0)),
        identity=tuple(facts.words(keyword) for keyword in IDENTITY),
        kind=tuple(facts.words(keyword) for keyword in KIND),
        timing=tuple(facts.finite(keyword) for keyword in TIMING),
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
    slant = sum(a * b for a, b in zip(row, column, strict=True))
    errors = (math.hypot(*row) - 1, math.hypot(*column) - 1, slant)
    if max(map(abs, errors)) > _STRAIGHT:
        raise ValueError(f"ImageOrientationPatient {list(cosines)} is no pair of unit vectors")
    return cosines


def _spacing(facts: Facts) -> tuple[float, ...]:
    spacing = facts.numbers("PixelSpacing", 2) or (1.0, 1.0)
    if min(spacing) < _FINEST:
        raise ValueError(f"PixelSpacing is {list(spacing)} mm")
    return spacing


def _thickness(facts: Facts) -> float | None:
    numbers = (facts.number(keyword, 0) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    return next((number for number in numbers if number >= _FINEST), None)


def _first(facts: Facts, keyword: str) -> float:
    """Return the first finite number, or 0 where there is none."""
    return next(iter(facts.finite(keyword)), 0.0)
