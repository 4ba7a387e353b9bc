"""Look up the values of a DICOM header, wherever objects of many frames keep them."""

import math
from collections.abc import MutableSequence
from contextlib import suppress
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any

from segjax.extras import needed_for

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

__all__ = ["MACROS", "Facts", "printable", "tag_of", "values"]

_LARGEST = 2.0**31  # of any number that counts here; keeps sums finite
MACROS = {  # where the objects of many frames keep what others keep at the top
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "EchoTrainLength": "MRTimingAndRelatedParametersSequence",
    "InversionTimes": "MRModifierSequence",
    "PixelBandwidth": "MRImagingModifierSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}


class Facts:
    """What the header says about one frame."""

    def __init__(self, dataset: "Dataset", index: int = 0) -> None:
        shared = dataset.get("SharedFunctionalGroupsSequence") or []
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
        self.dataset = dataset
        self.groups = [*frames[index : index + 1], *shared[:1]]
        self.index = index
        self.tells_frames_apart = bool(frames) or dataset.get("NumberOfFrames") in (None, "", 1)

    def values(self, keyword: str) -> tuple[Any, ...]:
        """Return the values of the frame, else of all frames, else of the file."""
        found = None
        for group in self.groups if keyword in MACROS else ():
            macro = group.get(MACROS[keyword])
            found = macro[0].get(keyword) if macro and found is None else found
        if found is None and (element := self.dataset.get(tag_of(keyword))) is not None:
            found = element.value
        if found is None or found == "":
            return ()
        return (*found,) if isinstance(found, MutableSequence) else (found,)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return so many finite numbers, or None where there is no value."""
        numbers = tuple(float(number) for number in self.values(keyword))
        if numbers and (len(numbers) != count or not all(abs(x) < _LARGEST for x in numbers)):
            raise ValueError(f"{keyword} is {list(numbers)}")
        return numbers or None

    def number(self, keyword: str, default: float) -> float:
        """Return one number, or the default where there is no value."""
        return (self.numbers(keyword, 1) or (default,))[0]

    def finite(self, keyword: str) -> tuple[float, ...]:
        """Return the finite numbers among the values, to six digits; nothing where it is odd."""
        with suppress(TypeError, ValueError):
            numbers = [float(f"{float(number):.6g}") for number in self.values(keyword) if number]
            return tuple(number for number in numbers if math.isfinite(number))
        return ()

    def words(self, keyword: str) -> tuple[str, ...]:
        """Return the values as text, numbers rounded to six digits."""
        return tuple(_text(word) for word in self.values(keyword))


def values(dataset: "Dataset", keyword: str) -> tuple[Any, ...]:
    """Return the values of the first frame, else of all frames, else of the file."""
    return Facts(dataset).values(keyword)


@cache
def tag_of(keyword: str) -> "BaseTag":
    """Return the tag that DICOM's dictionary gives a keyword."""
    with needed_for("reading DICOM"):
        from pydicom.tag import Tag

    return Tag(keyword)


def _text(word: Any) -> str:
    return f"{float(word):.6g}" if isinstance(word, Real) else printable(str(word))


def printable(text: str) -> str:
    """Return a text in one line, without characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
