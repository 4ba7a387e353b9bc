"""Look up the values of a DICOM header, wherever objects of many frames keep them."""

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MACROS", "Facts", "printable", "values"]

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
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}


class Facts:
    """What the header says about one frame."""

    def __init__(self, dataset: "Dataset", index: int = 0) -> None:
        shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
        self.dataset = dataset
        self.groups = [frames[index] if index < len(frames) else None, shared[0]]
        self.index = index
        self.tells_frames_apart = bool(frames) or dataset.get("NumberOfFrames") in (None, "", 1)

    def values(self, keyword: str) -> tuple[Any, ...]:
        """Return the values of the frame, else of all frames, else of the file."""
        found = None
        for group in self.groups:
            macro = group.get(MACROS[keyword]) if group and keyword in MACROS else None
            found = macro[0].get(keyword) if macro and found is None else found
        found = self.dataset.get(keyword) if found is None else found
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

    def words(self, keyword: str) -> tuple[str, ...]:
        """Return the values as text, numbers rounded to six digits."""
        return tuple(_text(word) for word in self.values(keyword))


def values(dataset: "Dataset", keyword: str) -> tuple[Any, ...]:
    """Return the values of the first frame, else of all frames, else of the file."""
    return Facts(dataset).values(keyword)


def _text(word: Any) -> str:
    return printable(word) if isinstance(word, str) else f"{float(word):.6g}"


def printable(text: str) -> str:
    """Return a text in one line, without characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
