"""Facts of a DICOM header that may leave the house: how the image was made, not of whom."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from segjax.data.io.dicom.values import values

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["acquisition_facts", "identifying_facts"]

_MILLISECONDS = 1e-3
_CODE = re.compile(r"[A-Za-z0-9 _.\-/+*:;,()]{1,64}")
_NUMBERS: tuple[tuple[str, tuple[str, ...], float], ...] = (  # BIDS name, DICOM names, unit
    ("MagneticFieldStrength", ("MagneticFieldStrength",), 1),
    ("ImagingFrequency", ("ImagingFrequency", "TransmitterFrequency"), 1),
    ("EchoTime", ("EchoTime", "EffectiveEchoTime"), _MILLISECONDS),
    ("EchoNumber", ("EchoNumbers",), 1),
    ("RepetitionTime", ("RepetitionTime",), _MILLISECONDS),
    ("InversionTime", ("InversionTime", "InversionTimes"), _MILLISECONDS),
    ("FlipAngle", ("FlipAngle",), 1),
    ("EchoTrainLength", ("EchoTrainLength",), 1),
    ("NumberOfAverages", ("NumberOfAverages",), 1),
    ("PixelBandwidth", ("PixelBandwidth",), 1),
    ("PercentSampling", ("PercentSampling",), 1),
    ("PercentPhaseFOV", ("PercentPhaseFieldOfView",), 1),
    ("SliceThickness", ("SliceThickness",), 1),
    ("SpacingBetweenSlices", ("SpacingBetweenSlices",), 1),
    ("DiffusionBValue", ("DiffusionBValue",), 1),
    ("SAR", ("SAR",), 1),
    ("SeriesNumber", ("SeriesNumber",), 1),
)
_WORDS: tuple[tuple[str, str], ...] = (  # BIDS name, DICOM name; none of them free text
    ("Modality", "Modality"),
    ("Manufacturer", "Manufacturer"),
    ("ManufacturersModelName", "ManufacturerModelName"),
    ("SoftwareVersions", "SoftwareVersions"),
    ("BodyPart", "BodyPartExamined"),
    ("PatientPosition", "PatientPosition"),
    ("MRAcquisitionType", "MRAcquisitionType"),
    ("ScanningSequence", "ScanningSequence"),
    ("SequenceVariant", "SequenceVariant"),
    ("ScanOptions", "ScanOptions"),
    ("SequenceName", "SequenceName"),
    ("PulseSequenceName", "PulseSequenceName"),
    ("ReceiveCoilName", "ReceiveCoilName"),
    ("InPlanePhaseEncodingDirectionDICOM", "InPlanePhaseEncodingDirection"),
    ("ImageType", "ImageType"),
)
_IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "SeriesDate",
    "SeriesTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "StudyDescription",
    "SeriesDescription", "ProtocolName", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "InstitutionName", "InstitutionalDepartmentName", "StationName",
    "DeviceSerialNumber", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "ContrastBolusAgent", "ImageComments",
)  # fmt: skip


def acquisition_facts(dataset: "Dataset") -> dict[str, Any]:
    """Return how an image was made, under the names of BIDS, in seconds, millimetres and degrees.

    Names are on a list; everything else stays behind. None of those on it is free text, which
    may hold names: series description and protocol count as identifying.
    """
    facts: dict[str, Any] = {}
    for name, keyword in _WORDS:
        words = [str(word).strip() for word in values(dataset, keyword)]
        if words and all(map(_CODE.fullmatch, words)):
            facts[name] = words if len(words) > 1 or name == "ImageType" else words[0]
    for name, keywords, unit in _NUMBERS:
        if (number := _number(dataset, keywords)) is not None:
            facts[name] = number if unit == 1 else float(f"{number * unit:.9g}")
    return facts


def identifying_facts(dataset: "Dataset") -> dict[str, str]:
    """Return who was imaged, when, where and by whom, under DICOM's names."""
    facts = {}
    for keyword in _IDENTIFYING:
        if words := [str(word) for word in values(dataset, keyword) if str(word)]:
            facts[keyword] = "\\".join(words)
    return facts


def _number(dataset: "Dataset", keywords: Iterable[str]) -> int | float | None:
    """Return the first finite number under some names; None where there is none."""
    for keyword in keywords:
        with suppress(IndexError, TypeError, ValueError):
            number = float(values(dataset, keyword)[0])
            if math.isfinite(number):
                return int(number) if number.is_integer() else number
    return None
