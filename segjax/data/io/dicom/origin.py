"""What objects made of a DICOM series take over from it: patient, study and references."""

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from segjax.data.io.dicom.header import Frame, quiet, read_dataset
from segjax.data.io.dicom.series import Series
from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import atomic_path

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

__all__ = [
    "MAKER",
    "Instance",
    "Origin",
    "is_own",
    "making",
    "read_origin",
    "uid_of",
    "write_object",
]

MAKER = "segjax"

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_MAY_BE_EMPTY = (  # but must be there
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_FILED_BY = {"PatientID", "PatientName", "AccessionNumber", "FrameOfReferenceUID"}
_TRIAL = "ClinicalTrial"  # may be empty, but must be there where others of a trial are
_SEXES = ("M", "F", "O")
_UTF_8 = "ISO_IR 192"


@dataclass(frozen=True)
class Instance:
    """A file of a series, as other objects refer to it.

    Attributes:
        study: UID of its study.
        series: UID of its series.
        kind: UID of its SOP class.
        uid: Its own.
        has_frames: Whether its frames have numbers.
    """

    study: str
    series: str
    kind: str
    uid: str
    has_frames: bool


@dataclass(frozen=True)
class Origin:
    """What a series says of itself.

    Attributes:
        header: Of its first file, without what is empty, private, or not as DICOM wants it, but
            for what archives file objects by; in UTF-8.
        instances: Its files.
    """

    header: "Dataset"
    instances: Mapping[Path, Instance]

    def instance(self, frame: Frame) -> Instance:
        """Return what holds a frame."""
        return self.instances[frame.file]


def read_origin(series: Series) -> Origin:
    """Read what objects made of a series take over from it.

    Raises:
        InputError: A file cannot be read, or lacks a UID; or the slices are in a mosaic.
    """
    if series.frames[0].is_mosaic:
        raise InputError(f"{series}: is a mosaic, whose slices no other DICOM object can refer to")
    many = {frame.file for frame in series.frames if frame.pixels.frames > 1}
    with quiet():
        instances = {
            file: _instance(file, read_dataset(file), has_frames=file in many)
            for file in series.files
        }
        return Origin(_sound(read_dataset(series.files[0])), instances)


def uid_of(*facts: str) -> str:
    """Return the UID that follows from facts: the same for the same facts, and for no others.

    Example:
        >>> uid_of("a", "b")
        '2.25.163802688279906068653804507196796378205'

    Source: RFC 9562, version 5; DICOM PS3.5, B.2
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(facts)).int}"


@contextmanager
def making(what: str, series: str) -> Iterator[None]:
    """Let highdicom be silent, and whatever fails be an error that repeats no value of a header.

    Args:
        what: What is made, such as ``"SEG"``.
        series: What it is made of.

    Raises:
        InputError: It cannot be made.
    """
    log = logging.getLogger("highdicom")
    level = log.level
    try:
        log.setLevel(logging.CRITICAL + 1)
        with quiet(), needed_for("writing DICOM"):
            yield
    except InputError:
        raise
    except Exception as error:  # highdicom and pydicom name no closed set of errors
        raise InputError(
            f"{series}: no {what} can be made of its header ({type(error).__name__}); mend it, or "
            "leave out --dicom"
        ) from error
    finally:
        log.setLevel(level)


def is_own(path: Path) -> bool:
    """Say whether a file is a DICOM object that segjax made."""
    with quiet(), suppress(InputError):
        return str(read_dataset(path).get("Manufacturer")) == MAKER
    return False


def write_object(dataset: "Dataset", path: Path, *, overwrite: bool = False) -> None:
    """Write a DICOM object.

    Raises:
        InputError: The file exists already, or cannot be written.
    """
    content = BytesIO()  # pydicom repeats values where it fails, and hides what the disk says
    with making(dataset.Modality, str(path)):
        dataset.save_as(content, enforce_file_format=True)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


def _instance(file: Path, header: "Dataset", *, has_frames: bool) -> Instance:
    uids = [str(header.get(keyword) or "") for keyword in _UIDS]
    for keyword, uid in zip(_UIDS, uids, strict=True):
        if not uid:
            raise InputError(
                f"{file}: states no {keyword}, by which other DICOM objects refer to it"
            )
    study, series, kind, uid = uids
    return Instance(study, series, kind, uid, has_frames)


def _sound(header: "Dataset") -> "Dataset":
    """Return a header as :class:`Origin` has it."""
    from pydicom import Dataset

    with suppress(Exception):  # an unknown character set: its texts stay as they are read
        header.decode()
    kept = Dataset()
    for tag in header.keys():  # noqa: SIM118  # its items are read one by one
        with suppress(Exception):
            if not tag.is_private and _is_sound(header[tag]):
                kept.add(header[tag])
    for keyword in _MAY_BE_EMPTY:
        if keyword not in kept:
            setattr(kept, keyword, "")
    if kept.PatientSex not in _SEXES:
        kept.PatientSex = ""
    kept.SpecificCharacterSet = _UTF_8
    return kept


def _is_sound(element: "DataElement") -> bool:
    """Say whether an element has a value that its representation allows, or one that must stay."""
    from pydicom.config import RAISE
    from pydicom.valuerep import STR_VR, validate_value

    if element.is_empty:
        return element.keyword.startswith(_TRIAL)
    if element.VR == "SQ" or element.keyword in _FILED_BY:
        return True
    for value in element.value if element.VM > 1 else [element.value]:
        validate_value(element.VR, str(value) if element.VR in STR_VR else value, RAISE)
    return True
