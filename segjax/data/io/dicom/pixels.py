"""Take the stored values of DICOM slices out of their files."""

import math
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32, Shaped

from segjax.data.io.dicom.header import Frame
from segjax.data.io.dicom.stored import MOST_BYTES, Pixels
from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import reading

__all__ = ["read_slices"]

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57",
         "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")  # fmt: skip
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_RLE = "1.2.840.10008.1.2.5"
_END_OF_FRAGMENTS = b"\xfe\xff\xdd\xe0\0\0\0\0"
_END_OF_IMAGE = b"\xff\xd9"
_JPEG_FRAMES = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}
_RLE_HEADER = 64
_RLE_MOST = 64  # no byte stands for more than this many pixels' bytes
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def read_slices(frames: Sequence[Frame]) -> Shaped[np.ndarray, "slice row column"]:
    """Read the values of slices of one size: stored numbers, or float32 where they are scaled.

    Values are ``stored * slope + intercept`` where a slice has a slope or an intercept.
    Uncompressed pixels are taken as they lie in the file; SimpleITK decodes compressed ones from
    a temporary file, which holds nothing but the pixels: headers never reach it.

    Raises:
        InputError: A file is truncated, corrupt, or compressed in a way that SimpleITK does not
            decode; or all take over 16 GiB.

    Warns:
        UserWarning: There are bytes after the pixels that are taken for padding.
    """
    _warn_of_padding(frames)
    kinds = {_stored_type(frame.pixels) for frame in frames}
    scaled = any(frame.rescale != (1, 0) for frame in frames)
    kind = np.dtype(np.float32) if scaled else np.result_type(*kinds)
    shape = (len(frames), *frames[0].pixels.shape)
    if (size := math.prod(shape) * kind.itemsize) > MOST_BYTES:
        folder = frames[0].file.parent
        raise InputError(f"{folder}: states {size:,} bytes; at most {MOST_BYTES:,} are read")
    data = np.empty(shape, kind)
    by_file: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        by_file.setdefault(frame.file, []).append(place)
    for places in by_file.values():
        with _opened(frames[places[0]].pixels) as read:
            for place in places:
                stored = read(frames[place].index)
                data[place] = _rescale(stored, frames[place].rescale) if scaled else stored
    return data


def _warn_of_padding(frames: Sequence[Frame]) -> None:
    padded = dict.fromkeys(frame.pixels for frame in frames if frame.pixels.padding)
    if padded:
        first = next(iter(padded))
        others = f" (and those of {len(padded) - 1} more files)" if len(padded) > 1 else ""
        warnings.warn(
            f"{first.file}: left out {first.padding} bytes of padding after its pixels{others}",
            stacklevel=4,
        )


def _stored_type(pixels: Pixels) -> np.dtype[Any]:
    return np.dtype(f"{'i' if pixels.signed else 'u'}{pixels.bits[0] // 8}")


def _rescale(
    stored: Shaped[np.ndarray, "row column"], rescale: tuple[float, float]
) -> Float32[np.ndarray, "row column"]:
    slope, intercept = rescale
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


@contextmanager
def _opened(pixels: Pixels) -> Iterator[Callable[[int], Shaped[np.ndarray, "row column"]]]:
    """Yield a function that returns the stored numbers of a frame of the file."""
    compressed = pixels.length is None
    known = (*_JPEG, *_JPEG_2000, _RLE) if compressed else _NATIVE
    if pixels.syntax not in known:
        raise InputError(
            f"{pixels.file}: its pixels are coded in {_syntax_name(pixels.syntax)}, which is not "
            "read; convert the file with dcmconv or gdcmconv first"
        )
    with reading(pixels.file) as stream:
        stream.seek(pixels.offset)
        if not compressed:
            yield lambda index: _native(stream, pixels, index)
            return
        streams = _codestreams(stream.read(), pixels)
        with tempfile.TemporaryDirectory(prefix="segjax-") as folder:
            yield lambda index: _decode(streams[index], pixels, Path(folder) / "frame.dcm")


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name or "an unnamed transfer syntax"


def _native(stream: BinaryIO, pixels: Pixels, index: int) -> Shaped[np.ndarray, "row column"]:
    kind = _stored_type(pixels)
    unsigned = np.dtype(f"{'>' if pixels.big_endian else '<'}u{kind.itemsize}")
    size = kind.itemsize * math.prod(pixels.shape)
    stream.seek(pixels.offset + index * size)
    content = stream.read(size)
    if len(content) < size:
        raise InputError(f"{pixels.file}: is truncated; fetch or write it again")
    raw = np.frombuffer(content, unsigned).reshape(pixels.shape).astype(unsigned.newbyteorder("="))
    return _significant(raw, kind, pixels.bits)


def _significant(
    raw: Shaped[np.ndarray, "row column"], kind: np.dtype[Any], bits: tuple[int, int, int]
) -> Shaped[np.ndarray, "row column"]:
    """Drop the bits that are no part of a pixel's number, and extend its sign."""
    allocated, stored, high = bits
    return (raw << (allocated - 1 - high)).view(kind) >> (allocated - stored)


def _codestreams(content: bytes, pixels: Pixels) -> list[bytes]:
    """Return the compressed stream of every frame."""
    from pydicom.encaps import generate_frames

    if _END_OF_FRAGMENTS not in content:
        raise InputError(f"{pixels.file}: is truncated; fetch or write it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            streams = list(generate_frames(content, number_of_frames=pixels.frames))
    except Exception as error:  # pydicom names no closed set of errors
        raise InputError(f"{pixels.file}: its compressed pixels are corrupt: {error}") from error
    if len(streams) != pixels.frames:
        raise InputError(f"{pixels.file}: holds {len(streams)} of {pixels.frames} frames")
    return streams


def _decode(stream: bytes, pixels: Pixels, file: Path) -> Shaped[np.ndarray, "row column"]:
    """Decode one frame with SimpleITK."""
    with needed_for("reading compressed DICOM"):
        import SimpleITK as sitk  # noqa: N813

    _check_codestream(stream, pixels)
    _write_frame(stream, pixels, file)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        data = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(
            f"{pixels.file}: its compressed pixels are corrupt ({_syntax_name(pixels.syntax)}); "
            "fetch or write it again"
        ) from error
    if data.size != math.prod(pixels.shape):
        raise InputError(f"{pixels.file}: its compressed pixels have another size than stated")
    return data.reshape(pixels.shape).astype(_stored_type(pixels), copy=False)


def _write_frame(stream: bytes, pixels: Pixels, file: Path) -> None:
    """Write a file of one compressed frame, with nothing in its header but what decoding needs."""
    from pydicom import Dataset, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(pixels.syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(_SECONDARY_CAPTURE)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.bits
    dataset.PixelRepresentation = int(pixels.signed)
    dataset.PixelData = encapsulate([stream])
    dcmwrite(file, dataset, enforce_file_format=True)


def _check_codestream(stream: bytes, pixels: Pixels) -> None:
    """Refuse a stream that is cut, or whose own header states another size."""
    try:
        size = _rle_size(stream, pixels) if pixels.syntax == _RLE else _stated_size(stream, pixels)
    except (IndexError, struct.error, ValueError) as error:
        raise InputError(f"{pixels.file}: its compressed pixels are cut or corrupt") from error
    if size[:3] != (*pixels.shape, 1) or not 1 < size[3] <= pixels.bits[0]:
        raise InputError(
            f"{pixels.file}: its compressed pixels state {size[1]}×{size[0]}×{size[2]} values of "
            f"{size[3]} bits, but its header {pixels.shape[1]}×{pixels.shape[0]}×1 of "
            f"{pixels.bits[0]}"
        )


def _rle_size(stream: bytes, pixels: Pixels) -> tuple[int, ...]:
    """Return the size if a stream can hold it: run-length coding states none of its own."""
    segments = struct.unpack_from("<I", stream)[0]
    most = _RLE_MOST * (len(stream) - _RLE_HEADER)
    needed = math.prod(pixels.shape) * pixels.bits[0] // 8
    if segments != pixels.bits[0] // 8 or needed > most:
        raise ValueError
    return (*pixels.shape, 1, pixels.bits[0])


def _stated_size(stream: bytes, pixels: Pixels) -> tuple[int, ...]:
    if not stream.rstrip(b"\0").endswith(_END_OF_IMAGE):
        raise ValueError
    return _jpeg_2000_size(stream) if pixels.syntax in _JPEG_2000 else _jpeg_size(stream)


def _jpeg_size(stream: bytes) -> tuple[int, ...]:
    """Return rows, columns, components and bits of a JPEG or JPEG-LS stream.

    Source: ITU-T T.81, B.2.2; ITU-T T.87, C.2.2
    """
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker < 0xFF01 or length < 2:
            raise ValueError
        if marker in _JPEG_FRAMES:
            bits, *size = struct.unpack_from(">BHHB", stream, at + 4)
            return (*size, bits)
        at += 2 + length


def _jpeg_2000_size(stream: bytes) -> tuple[int, ...]:
    """Return rows, columns, components and bits of a JPEG 2000 stream.

    Source: ITU-T T.800, A.5.1
    """
    start = stream.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    components, depth = struct.unpack_from(">HB", stream, start + 40)
    return bottom - top, right - left, components, (depth & 0x7F) + 1
