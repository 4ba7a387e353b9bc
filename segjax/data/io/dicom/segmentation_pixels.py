"""Take the stored values of the frames of a DICOM segmentation out of its file."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from segjax.data.io.dicom.header import quiet
from segjax.data.io.dicom.labels import needed, parsing
from segjax.errors import InputError
from segjax.files import reading

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_frames"]

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_MOST_PIXELS = 2**26  # of one frame
_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip


def read_frames(
    path: Path, header: "Dataset", wanted: Sequence[int]
) -> Iterator[tuple[int, Shaped[np.ndarray, "row column"]]]:
    """Yield number and stored values of the frames that are wanted, in their order.

    Raises:
        InputError: The pixels are cut, or coded in a way that is not read.
    """
    with parsing(path):
        rows, columns, bits = (
            int(needed(header, keyword)) for keyword in ("Rows", "Columns", "BitsAllocated")
        )
        frames = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
        syntax = str(header.file_meta.get("TransferSyntaxUID", _NATIVE[0]))
    if samples != 1 or not 0 < rows * columns <= _MOST_PIXELS:
        raise InputError(f"{path}: frames of {columns}×{rows}×{samples} values are not read")
    if not header.original_encoding[1]:
        raise InputError(f"{path}: is big-endian; convert it with dcmconv first")
    if not wanted:
        return
    pixels = _pixels(path)
    if syntax in _NATIVE:
        read = _native(path, bytes(pixels.PixelData), (frames, rows, columns), bits)
        yield from ((i, read(i)) for i in wanted)
    else:
        yield from zip(wanted, _decoded(path, pixels, wanted, syntax), strict=True)


def _pixels(path: Path) -> "Dataset":
    from pydicom import dcmread

    tags: list[Any] = [*_TAGS]
    with parsing(path), reading(path) as stream:
        pixels = dcmread(stream, force=True, specific_tags=tags)
        if not isinstance(pixels.get("PixelData"), bytes):
            raise InputError(f"{path}: is truncated: it holds no pixels; fetch or write it again")
    return pixels


def _native(
    path: Path, content: bytes, shape: tuple[int, int, int], bits: int
) -> Callable[[int], Shaped[np.ndarray, "row column"]]:
    """Return a function that reads one frame; frames of single bits follow without a gap."""
    frames, rows, columns = shape
    size = math.ceil(math.prod(shape) * bits / 8)
    if not size <= len(content) <= size + size % 2:
        raise InputError(
            f"{path}: is truncated, or its header lies: {frames} frames of {columns}×{rows} pixels "
            f"take {size:,} bytes, but it holds {len(content):,}; fetch or write it again"
        )
    if bits == 1:
        packed = np.frombuffer(content, np.uint8)
        return lambda index: _unpacked(packed, index, (rows, columns))
    stored = np.frombuffer(content, f"<u{bits // 8}", count=math.prod(shape)).reshape(shape)
    return lambda index: stored[index]


def _unpacked(
    packed: Shaped[np.ndarray, "byte"], index: int, shape: tuple[int, int]
) -> Shaped[np.ndarray, "row column"]:
    size = math.prod(shape)
    first, start = divmod(index * size, 8)
    last = math.ceil((index + 1) * size / 8)
    bits = np.unpackbits(packed[first:last], bitorder="little")
    return bits[start : start + size].reshape(shape)


def _decoded(
    path: Path, pixels: "Dataset", wanted: Sequence[int], syntax: str
) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Yield compressed frames, as pydicom and the decoders beside it read them."""
    from pydicom.pixels import iter_pixels
    from pydicom.uid import UID

    decoded = iter_pixels(pixels, indices=wanted, raw=True)
    for _ in wanted:
        yield _next(path, decoded, UID(syntax).name)


def _next(
    path: Path, decoded: Iterator[Shaped[np.ndarray, "row column"]], coding: str
) -> Shaped[np.ndarray, "row column"]:
    try:
        with quiet():
            return next(decoded)
    except Exception as error:  # pydicom and its decoders name no closed set of errors
        raise InputError(
            f"{path}: its pixels cannot be decoded: they are corrupt, or coded in a way that is "
            f"not read ({coding}); convert it with dcmdrle or gdcmconv --raw first"
        ) from error
