"""Voxels as the bytes of one or more files: raw, compressed, or as text."""

import bz2
import math
import os
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Shaped

from segjax.errors import InputError
from segjax.files import reading
from segjax.text import plural

__all__ = ["Encoding", "StoredVoxels", "data_files", "load_voxels"]

Encoding = Literal["raw", "deflate", "bzip2", "text", "hex"]

_MOST_BYTES = 16 * 2**30  # stated bound on the voxels of one image, decompressed
_CHUNK = 2**18  # bytes; of a compressed file they stand for up to 1032 times as many
_ZLIB_OR_GZIP = 47  # zlib's window bits for either header, and its checksum
_NUMBERED = re.compile(r"(.*%\d{0,3}d.*?)\s+(-?\d{1,9})\s+(-?\d{1,9})\s+(-?\d{1,9})(?:\s+\d+)?")


@dataclass(frozen=True)
class StoredVoxels:
    """Say where the voxels of an image are, and how they are written.

    Attributes:
        path: File that says so, for messages.
        files: Files that hold equal parts of the voxels, in order.
        shape: Number of voxels along each axis, the fastest first.
        dtype: Type of the values, with its byte order.
        encoding: How the bytes are written; "deflate" is zlib's or gzip's.
        start: Byte of each file to begin at.
        lines: Lines to skip from there.
        skip: Bytes to skip after them, of the decompressed ones if compressed; -1 where the
            voxels are the last bytes of the file.

    Raises:
        InputError: The voxels take over 16 GiB, or the files cannot hold equal parts of them.
    """

    path: Path
    files: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: Encoding = "raw"
    start: int = 0
    lines: int = 0
    skip: int = 0

    def __post_init__(self) -> None:
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > _MOST_BYTES:
            raise InputError(
                f"{self.path}: states {size:,} bytes; at most {_MOST_BYTES:,} are read"
            )
        if self.start > _MOST_BYTES:
            raise InputError(f"{self.path}: its header states {self.start} bytes to skip")
        if not self.files or math.prod(self.shape) % len(self.files):
            raise InputError(
                f"{self.path}: names {plural(len(self.files), 'file')}, which cannot hold equal "
                f"parts of {self.shape} voxels"
            )
        if not -1 <= self.skip <= _MOST_BYTES or (self.skip == -1 and self.encoding != "raw"):
            raise InputError(f"{self.path}: its header states {self.skip} bytes to skip")


def data_files(text: str, listed: Sequence[str], path: Path) -> tuple[Path, ...]:
    """Return the files that the header of an image names.

    Args:
        text: A name, ``LIST``, or a pattern and its first number, last number and step, such as
            ``slice%03d.raw 1 24 1``.
        listed: Names that follow ``LIST``.
        path: File of the header: names are relative to its folder.

    Raises:
        InputError: The pattern's step is 0, or it names over a million files.
    """
    if text.split()[:1] == ["LIST"]:
        return tuple(path.parent / name.strip() for name in listed if name.strip())
    numbered = _NUMBERED.fullmatch(text)
    if not numbered:
        return (path.parent / text,)
    first, last, step = (int(number) for number in numbered.groups()[1:])
    if step == 0 or abs(last - first) > abs(step) * 10**6:
        raise InputError(f"{path}: its header is corrupt: it names the files {text!r}")
    numbers = range(first, last + (1 if step > 0 else -1), step)
    pattern = re.sub(r"%(\d*)d", r"{:\1d}", numbered[1].replace("{", "{{").replace("}", "}}"))
    return tuple(path.parent / pattern.format(number) for number in numbers)


def load_voxels(stored: StoredVoxels) -> Shaped[np.ndarray, "..."]:
    """Read voxels, in native byte order, into an array that can be written to.

    Raises:
        InputError: A file is missing, truncated or corrupt (said before more memory is taken than
            it holds).

    Warns:
        UserWarning: A file holds more bytes than the header states.
    """
    size = math.prod(stored.shape) * stored.dtype.itemsize // len(stored.files)
    parts = [_content(file, size, stored) for file in stored.files]
    content = parts[0] if len(parts) == 1 else bytearray().join(parts)
    data = np.frombuffer(content, stored.dtype).reshape(stored.shape, order="F")
    return data.astype(stored.dtype.newbyteorder("="), copy=False)


def _content(file: Path, size: int, stored: StoredVoxels) -> bytearray:
    with reading(file) as stream:
        try:
            _seek(stream, size, stored)
            content, more = _decode(stream, size, stored)
        except (zlib.error, ValueError, OverflowError) as error:
            raise InputError(f"{file}: is corrupt: {error}; fetch or write it again") from error
        except EOFError as error:
            raise InputError(f"{file}: is truncated; fetch or write it again") from error
    if len(content) < size:
        missing = size - len(content)
        raise InputError(f"{file}: is truncated: {missing:,} bytes of its {size:,} are missing")
    if more:
        warnings.warn(f"{file}: holds more than the {size:,} bytes that its header states",
                      stacklevel=4)  # fmt: skip
    return content


def _seek(stream: BinaryIO, size: int, stored: StoredVoxels) -> None:
    stream.seek(stored.start)
    for _ in range(stored.lines):
        if not stream.readline():
            break
    if stored.skip < 0:
        stream.seek(max(os.fstat(stream.fileno()).st_size - size, stored.start))
    elif stored.encoding not in ("deflate", "bzip2"):
        stream.seek(stored.skip, os.SEEK_CUR)


def _decode(stream: BinaryIO, size: int, stored: StoredVoxels) -> tuple[bytearray, bool]:
    """Return the first ``size`` bytes that are left, and whether more follow."""
    if stored.encoding == "raw":
        return _take(stream, size)
    if stored.encoding in ("text", "hex"):
        text = stream.read().decode("ascii")
        content = bytearray.fromhex(text) if stored.encoding == "hex" else _parse(text, stored)
        return content[:size], len(content) > size
    whole = size + stored.skip
    if stored.encoding == "bzip2":
        content, more = _take(bz2.BZ2File(stream), whole)
    else:
        content, more = _inflate(stream, whole)
    return content[stored.skip :] if stored.skip else content, more


def _take(stream: BinaryIO | bz2.BZ2File, size: int) -> tuple[bytearray, bool]:
    content = bytearray()
    while len(content) < size and (part := stream.read(min(_CHUNK, size - len(content)))):
        content += part
    return content, bool(stream.read(1))


def _inflate(stream: BinaryIO, size: int) -> tuple[bytearray, bool]:
    content, rest = bytearray(), b""
    member = zlib.decompressobj(_ZLIB_OR_GZIP)
    while len(content) <= size and (rest := rest or stream.read(_CHUNK)):
        if member.eof:
            if len(content) == size:
                return content, True
            member = zlib.decompressobj(_ZLIB_OR_GZIP)
        content += member.decompress(rest, size + 1 - len(content))
        rest = member.unused_data
    if len(content) <= size and not member.eof:
        raise EOFError
    more = len(content) > size
    del content[size:]
    return content, more


def _parse(text: str, stored: StoredVoxels) -> bytearray:
    numbers = np.array(text.replace(",", " ").split(), dtype=stored.dtype)
    return bytearray(numbers.tobytes())
