"""The header of NRRD files: lines of text that say what the voxels are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float64

from segjax.data.io._stored_voxels import Encoding, StoredVoxels, data_files
from segjax.errors import InputError
from segjax.files import reading

__all__ = ["NrrdHeader", "read_header"]

_LONGEST_HEADER = 2**24  # bytes; one of 3D Slicer with a thousand segments takes about 1 MiB
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
_VECTORS = re.compile(r"none|\([^)]*\)", re.IGNORECASE)
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gzip": "deflate", "gz": "deflate", "bzip2": "bzip2", "bz2": "bzip2",
    "ascii": "text", "text": "text", "txt": "text", "hex": "hex",
}  # fmt: skip


@dataclass(frozen=True)
class NrrdHeader:
    """Hold what the header of a NRRD file says.

    Attributes:
        path: The file.
        fields: Description of each field, by its name in lower case without spaces.
        keys: Value of each key that is no field.
        listed: Names of data files, if the header lists any.
        length: Bytes that it takes.
    """

    path: Path
    fields: dict[str, str]
    keys: dict[str, str]
    listed: tuple[str, ...]
    length: int

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values along each axis of the file, the fastest first."""
        try:
            sizes = tuple(int(size) for size in self.fields.get("sizes", "").split())
        except ValueError as error:
            raise self.corrupt("sizes") from error
        if len(sizes) != self.whole("dimension") or min(sizes, default=0) < 1:
            raise self.corrupt("sizes")
        return sizes

    @property
    def stored(self) -> StoredVoxels:
        """Where the voxels are, and how they are written."""
        name = self.fields.get("datafile")
        return StoredVoxels(
            path=self.path,
            files=(self.path,) if name is None else data_files(name, self.listed, self.path),
            shape=self.sizes,
            dtype=self._dtype(),
            encoding=self._encoding(),
            start=self.length if name is None else 0,
            lines=self.whole("lineskip", "0"),
            skip=self.whole("byteskip", "0"),
        )

    def corrupt(self, field: str) -> InputError:
        """Return the error that a field is missing or no sense can be made of it."""
        what = repr(self.fields[field]) if field in self.fields else "missing"
        return InputError(f"{self.path}: its header is corrupt: {field} is {what}")

    def whole(self, field: str, default: str = "") -> int:
        """Return a field that is one whole number."""
        try:
            return int(self.fields.get(field, default))
        except ValueError as error:
            raise self.corrupt(field) from error

    def words(self, field: str) -> list[str]:
        """Return the words of a field, quoted or not; none where it is missing."""
        return [quoted or bare for quoted, bare in _WORDS.findall(self.fields.get(field, ""))]

    def per_axis(self, field: str) -> Float64[np.ndarray, "axis"] | None:
        """Return a field that is one number per axis, None where it is missing."""
        if field not in self.fields:
            return None
        try:
            numbers = np.array(self.fields[field].split(), dtype=np.float64)
        except ValueError as error:
            raise self.corrupt(field) from error
        if numbers.size != len(self.sizes):
            raise self.corrupt(field)
        return numbers

    def vectors(self, field: str) -> list[Float64[np.ndarray, "_"] | None]:
        """Return a field that is one or more vectors of two or three finite numbers, or none."""
        text = self.fields[field]
        found = [_vector(word) for word in _VECTORS.findall(text)]
        lengths = {len(vector) for vector in found if vector is not None}
        finite = all(vector is None or np.isfinite(vector).all() for vector in found)
        if _VECTORS.sub("", text).strip() or lengths not in ({2}, {3}) or not finite:
            raise self.corrupt(field)
        return found

    def _dtype(self) -> np.dtype[Any]:
        name = self.fields.get("type", "")
        code = _DTYPES.get(" ".join(name.lower().split()))
        if code is None:
            raise InputError(f"{self.path}: holds values of type {name!r}; convert it to numbers")
        endian = self.fields.get("endian", "").lower()
        if endian not in ("little", "big") and code[1] != "1" and self._encoding() != "text":
            raise self.corrupt("endian")
        return np.dtype(code).newbyteorder(">" if endian == "big" else "<")

    def _encoding(self) -> Encoding:
        name = self.fields.get("encoding", "").lower()
        if name not in _ENCODINGS:
            raise InputError(f"{self.path}: is encoded as {name!r}; write it as raw or gzip")
        return _ENCODINGS[name]


def read_header(path: Path) -> NrrdHeader:
    """Read the header of a NRRD file, attached or detached.

    Raises:
        InputError: The file is missing, or no NRRD.
    """
    with reading(path) as stream:
        lines = [_decode(line) for line in _lines(stream, path)]
        length = stream.tell()
    fields, keys = {}, {}
    for i, line in enumerate(lines[1:], start=1):
        name, _, text = line.partition(":")
        if text.startswith("="):
            keys[name] = re.sub(r"\\([\\n])", lambda m: "\n" if m[1] == "n" else "\\", text[1:])
        elif not name.startswith("#"):
            fields[_field(name)] = text.strip()
        if fields.get("datafile", "").split()[:1] == ["LIST"]:
            return NrrdHeader(path, fields, keys, tuple(lines[i + 1 :]), length)
    return NrrdHeader(path, fields, keys, (), length)


def _lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines up to the first empty one."""
    if stream.read(7) != b"NRRD000":
        raise InputError(f"{path}: is no NRRD file")
    while line := stream.readline(_LONGEST_HEADER).rstrip(b"\r\n"):
        yield line
        if stream.tell() > _LONGEST_HEADER:
            raise InputError(f"{path}: is no NRRD file: its header does not end")


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _field(name: str) -> str:
    """Return the one name of a field that goes by several, such as ``data file``."""
    name = "".join(name.lower().split())
    return "centers" if name == "centerings" else name


def _vector(word: str) -> Float64[np.ndarray, "_"] | None:
    if word.lower() == "none":
        return None
    try:
        return np.array(word.strip("()").split(","), dtype=np.float64)
    except ValueError:
        return np.array([np.nan] * 3)
