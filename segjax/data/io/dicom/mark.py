"""Recognise DICOM files by how they begin: with DICOM's mark, or with a data set."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["NAMED_DICOM", "has_mark", "is_dicom", "is_named_otherwise", "transfer_syntax"]

_PREAMBLE = 128
_HEAD = 2048  # bytes that are looked at
_UNDEFINED = 0xFFFFFFFF
_ENOUGH = 3  # elements in a row that no other format begins with
_MOST = 12  # elements that are looked at
_META, _FIRST, _LAST = 0x0002, 0x0008, 0x7FE0  # groups
_ITEM = b"\xfe\xff\x00\xe0"
_SYNTAX = (0x0002, 0x0010)
_TEXTS = range(0x0005, 0x0100)  # elements of the first group that hold text or items
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT",
             b"UV")  # fmt: skip
_SHORT_VRS = (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT",
              b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US")  # fmt: skip
_ENCODINGS: tuple[tuple[Literal["little", "big"], bool], ...] = (  # byte order, implicit
    ("little", False), ("little", True), ("big", False),
)  # fmt: skip
NAMED_DICOM = (".dcm", ".dicom", ".ima")
_NAMED_OTHERWISE = (
    ".nii", ".gz", ".bz2", ".xz", ".zip", ".tar", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy",
    ".npz", ".json", ".onnx", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh",
)  # fmt: skip
_NAMED_TEXT = (  # may hold DICOM all the same, if the mark says so
    ".txt", ".csv", ".tsv", ".md", ".rst", ".log", ".xml", ".yaml", ".yml", ".toml", ".html",
    ".pdf", ".py", ".bval", ".bvec",
)  # fmt: skip


@dataclass(frozen=True)
class _Element:
    group: int
    number: int
    start: int  # byte of its value
    length: int

    @property
    def tag(self) -> tuple[int, int]:
        return self.group, self.number


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Say whether an ordinary file holds DICOM, with or without the preamble and the mark.

    Files whose names say that they are other images or archives (``.nii.gz``, ``.png``, ``.zip``,
    …) are not opened; those named as texts (``.txt``, ``.log``, …) need the mark.

    Args:
        path: The file.

    Returns:
        Whether it does; false where it cannot be opened.

    Example:
        >>> is_dicom("flair.nii.gz")
        False
    """
    try:
        return has_mark(Path(path))
    except OSError:
        return False


def has_mark(path: Path) -> bool:
    """Say what :func:`is_dicom` says.

    Raises:
        OSError: The file cannot be opened.
    """
    status = path.stat()
    if (
        path.name.lower().endswith(_NAMED_OTHERWISE)
        or not stat.S_ISREG(status.st_mode)
        or not status.st_size
    ):
        return False
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return _has_preamble(head) or (
        not is_named_otherwise(path)
        and any(
            _begins_dataset(head, status.st_size, order, implicit) for order, implicit in _ENCODINGS
        )
    )


def is_named_otherwise(path: Path) -> bool:
    """Say whether a name ends in that of a format that is not DICOM."""
    return path.name.lower().endswith((*_NAMED_OTHERWISE, *_NAMED_TEXT))


def transfer_syntax(head: bytes) -> str:
    """Return the UID of the transfer syntax that the begin of a file states; else nothing."""
    begin = _PREAMBLE + 4 if _has_preamble(head) else 0
    for element in _elements(head, begin, "little", False):
        if element is None or element.group != _META:
            break
        if element.tag == _SYNTAX:
            value = head[element.start : element.start + element.length]
            return value.decode("ascii", "replace").strip("\0 ")
    return ""


def _has_preamble(head: bytes) -> bool:
    return head[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def _begins_dataset(
    head: bytes, size: int, order: Literal["little", "big"], implicit: bool
) -> bool:
    """Say whether a file begins with a row of elements that only a DICOM data set begins with."""
    count, last = 0, (0, 0)
    for element in _elements(head, 0, order, implicit):
        if last[0] == _META and (element is None or element.group > _META):
            return count >= _ENOUGH  # the data set may be coded in another way
        if element is None or not _may_follow(last, element, head, size):
            return False
        count, last = count + 1, element.tag
        if element.length == _UNDEFINED or count == _MOST:
            break
    return count >= _ENOUGH


def _elements(
    head: bytes, at: int, order: Literal["little", "big"], implicit: bool
) -> Iterator[_Element | None]:
    """Yield the elements of a data set one after the other; None in place of what is none."""
    while at + 12 <= len(head):
        group, number = (int.from_bytes(head[i : i + 2], order) for i in (at, at + 2))
        vr = b"" if implicit else head[at + 4 : at + 6]
        if not implicit and vr not in (*_SHORT_VRS, *_LONG_VRS):
            yield None
            return
        first, start = at + (4 if implicit else 6), at + 8  # bytes of the length
        if vr in _LONG_VRS:
            first, start = at + 8, at + 12
        length = int.from_bytes(head[first:start], order)
        yield _Element(group, number, start, length)
        at = start + length


def _may_follow(last: tuple[int, int], element: _Element, head: bytes, size: int) -> bool:
    """Say whether an element may come after a tag, (0, 0) for none, at the begin of a file."""
    begins = last != (0, 0) or element.group in (_META, _FIRST)
    return begins and element.tag > last and _is_plausible(element, head, size)


def _is_plausible(element: _Element, head: bytes, size: int) -> bool:
    """Say whether an element may stand at the begin of a DICOM file."""
    if element.length == _UNDEFINED:
        return element.group > _META
    even = element.group % 2 == 0 or element.group > _FIRST
    fits = element.length % 2 == 0 and element.start + element.length <= size
    return even and fits and element.group <= _LAST and _holds_text(element, head)


def _holds_text(element: _Element, head: bytes) -> bool:
    """Say whether an element that should hold text does; true of others."""
    if element.group != _FIRST or element.number not in _TEXTS:
        return True
    value = head[element.start : element.start + element.length]
    return value.startswith(_ITEM) or all(byte >= 0x20 or byte in (0, 0x1B) for byte in value)
