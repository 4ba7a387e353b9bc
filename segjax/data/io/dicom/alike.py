"""Compare what two DICOM headers say."""

import re

from segjax.data.io.dicom.header import IDENTITY, Frame, Identity

__all__ = ["agree", "essence", "is_parallel", "is_roughly_parallel", "same_series", "same_time"]

_OF_STUDY = ("StudyDate", "AccessionNumber")  # a study may go on past midnight
_SAME_COSINES = 2e-3  # 0.1°
_SAME_SPACING = 1e-3  # of the distance between pixels
_ROUGHLY = 0.05
_SAME_TIME = 0.01  # of the larger; what scanners write for one time varies by less


def agree(one: Identity, other: Identity) -> bool:
    """Say whether two headers can speak of one series; what one does not say, agrees.

    How a name is written does not count where both state the patient's number; nor does the day
    of a study or its accession number where both state its UID.
    """
    both = {name: (a, b) for name, a, b in zip(IDENTITY, one, other, strict=False) if a and b}
    if "PatientName" in both and "PatientID" in both:
        both["PatientName"] = _plain(both["PatientName"][0]), _plain(both["PatientName"][1])
    known = _OF_STUDY if "StudyInstanceUID" in both else ()
    return all(a == b for name, (a, b) in both.items() if name not in known)


def same_series(one: Identity, other: Identity) -> bool:
    """Say whether two headers state one series instance UID."""
    return any(one[:1]) and one[:1] == other[:1]


def essence(identity: Identity) -> Identity:
    """Return an identity without what :func:`agree` passes over; equal ones are one series."""
    said = dict(zip(IDENTITY, identity, strict=True))
    if said["PatientID"]:
        said["PatientName"] = _plain(said["PatientName"])
    if said["StudyInstanceUID"]:
        said |= dict.fromkeys(_OF_STUDY, ())
    return tuple(said.values())


def _plain(name: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name in one case, without blanks around its parts and empty parts at its end."""
    tight = (re.sub(r"\s*([\^=])\s*", r"\1", word.casefold()) for word in name)
    return tuple(re.sub(r"\^+(?==|$)", "", word).strip(" =") for word in tight)


def is_parallel(one: Frame, other: Frame) -> bool:
    """Say whether two slices have one size, orientation and pixel spacing."""
    turned = zip(one.orientation, other.orientation, strict=True)
    spaced = zip(one.spacing, other.spacing, strict=True)
    return (
        one.pixels.shape == other.pixels.shape
        and all(abs(a - b) <= _SAME_COSINES for a, b in turned)
        and all(abs(a - b) <= _SAME_SPACING * b for a, b in spaced)
    )


def is_roughly_parallel(one: Frame, other: Frame) -> bool:
    """Say whether two slices have one size, and all but one orientation and pixel spacing."""
    turned = zip(one.orientation, other.orientation, strict=True)
    spaced = zip(one.spacing, other.spacing, strict=True)
    return (
        one.pixels.shape == other.pixels.shape
        and all(abs(a - b) <= _ROUGHLY for a, b in turned)
        and all(abs(a - b) <= _ROUGHLY * b for a, b in spaced)
    )


def same_time(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Say whether two times, or rows of them, differ by less than 1 %."""
    return len(one) == len(other) and all(
        abs(a - b) < _SAME_TIME * max(abs(a), abs(b)) or a == b
        for a, b in zip(one, other, strict=True)
    )
