"""Read how the pixels of a DICOM file are stored, and refuse what the file cannot hold."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from segjax.data.io.dicom.values import Facts, printable
from segjax.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MOST_BYTES", "Pixels", "UnfitImageError", "read_pixels"]

MOST_BYTES = 16 * 2**30  # stated bound on the voxels of one series
_MOST_PIXELS = 2**26  # of one frame
_MOST_FRAMES = 2**16  # of one file
_UNDEFINED = 0xFFFFFFFF
_LEAST_COMPRESSED = 16  # bytes of a compressed frame
_PIXEL_VRS = (b"OB", b"OW", b"UN")
_PLAIN = {  # transfer syntaxes by whether value representations are implicit, and little-endian
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}


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
        padding: Bytes after the last frame that are no pixels, where they would make a row or
            more.
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
    padding: int = 0


def read_pixels(path: Path, dataset: "Dataset", stream: BinaryIO, size: int) -> Pixels:
    """Read how the pixels are stored; the stream stands where their element begins.

    Args:
        path: The file.
        dataset: Its header.
        stream: The open file.
        size: Its bytes.

    Raises:
        InputError: The file is truncated, its header lies about its size, or its pixels are none
            that can be read; :class:`UnfitImageError` where only their kind is wrong.
    """
    facts = Facts(dataset)
    bits = _bits(path, dataset, facts)
    offset, length = _pixel_data(path, dataset, stream)
    implicit, little = (bool(coded) for coded in dataset.original_encoding)
    syntax = printable(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    pixels = Pixels(
        file=path,
        syntax=syntax or ("" if length is None else _PLAIN[implicit, little]),
        offset=offset,
        length=length,
        shape=(int(dataset["Rows"].value), int(dataset["Columns"].value)),
        frames=int(facts.number("NumberOfFrames", 1)),
        bits=bits,
        signed=bool(facts.number("PixelRepresentation", 0)),
        big_endian=not little,
    )
    pixels = replace(pixels, padding=_check_size(pixels, stream, size))
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != pixels.frames:
        raise InputError(f"{path}: describes {len(groups)} of its {pixels.frames} frames")
    return pixels


def _bits(path: Path, dataset: "Dataset", facts: Facts) -> tuple[int, int, int]:
    """Return the bits allocated and stored, and the highest; refuse what is no plain number."""
    allocated, stored, high = (
        int(dataset[keyword].value) for keyword in ("BitsAllocated", "BitsStored", "HighBit")
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
    return allocated, stored, high


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


def _check_size(pixels: Pixels, stream: BinaryIO, size: int) -> int:
    """Refuse, before memory is taken, a size that the file cannot hold; return the padding."""
    rows, columns = pixels.shape
    stated, there = _stated(pixels), size - pixels.offset
    few = 1 <= pixels.frames <= _MOST_FRAMES
    if not few or rows * columns > _MOST_PIXELS or stated > MOST_BYTES:
        raise InputError(
            f"{pixels.file}: states {pixels.frames} frames of {columns}×{rows} pixels; at most "
            f"{_MOST_FRAMES:,} frames of {_MOST_PIXELS:,} pixels and {MOST_BYTES:,} bytes are read"
        )
    if pixels.length is None:
        if pixels.frames * _LEAST_COMPRESSED > there:
            raise InputError(f"{pixels.file}: is truncated: {pixels.frames} frames do not fit")
        return 0
    excess = pixels.length - stated
    if pixels.length > there or excess < 0 or not _is_padding(pixels, stream, excess):
        raise InputError(
            f"{pixels.file}: is truncated, or its header lies: {pixels.frames} frames of "
            f"{columns}×{rows} pixels take {stated:,} bytes, but it states {pixels.length:,} and "
            f"holds {there:,}; fetch or write it again"
        )
    return excess if excess >= _row(pixels) else 0


def _stated(pixels: Pixels) -> int:
    return _row(pixels) * pixels.shape[0] * pixels.frames


def _row(pixels: Pixels) -> int:
    return pixels.shape[1] * pixels.bits[0] // 8


def _is_padding(pixels: Pixels, stream: BinaryIO, excess: int) -> bool:
    """Say whether bytes after the last frame are less than a row, or all the same."""
    if excess < max(_row(pixels), 2):
        return True
    stream.seek(pixels.offset + _stated(pixels))
    return len(set(stream.read(excess))) == 1
