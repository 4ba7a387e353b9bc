"""Read MetaImage volumes (``.mha``, or ``.mhd`` with a file of voxels), as ITK writes them."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from segjax.data.io._lps import affine_from_axes, millimetres
from segjax.data.io._stored_voxels import Encoding, StoredVoxels, data_files, load_voxels
from segjax.errors import InputError
from segjax.files import reading
from segjax.grid import Grid
from segjax.volume import Volume

__all__ = ["metaimage_files", "metaimage_grid", "read_metaimage"]

_LONGEST_HEADER = 2**20  # bytes
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


def read_metaimage(path: str | os.PathLike[str]) -> Volume:
    """Read a MetaImage, compressed or not, with its voxels in the same file or in others.

    Voxels keep their type. A 2D file becomes one slice ``(x, y, 1)``; several values per voxel,
    or a fourth axis, are channels. The intensity function, which ITK leaves aside too, is not
    applied.

    Args:
        path: ``.mha`` or ``.mhd`` file.

    Returns:
        Volume of rank 3; data of shape ``(x, y, z)`` or ``(x, y, z, channel)``.

    Raises:
        InputError: The file or one that it names is missing, truncated or corrupt, or no
            MetaImage; it states over 16 GiB, more than four axes, or both channels and a fourth
            axis; its affine is not invertible.

    Warns:
        UserWarning: It states an intensity function or an unknown unit of length, or it holds more
            bytes than it states.

    Example:
        >>> import SimpleITK
        >>> SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), "flair.mha")
        >>> read_metaimage("flair.mha").spatial_shape
        (4, 5, 6)

    Source: https://itk.org/Wiki/MetaIO/Documentation
    """
    header = _read_header(Path(path))
    placed = header.grid()
    _warn_of_intensity_function(header)
    return Volume(_spatial(load_voxels(header.stored()), placed, header), placed.affine)


def metaimage_grid(path: str | os.PathLike[str]) -> tuple[Grid, int]:
    """Read where the voxels of a MetaImage lie, and not the voxels.

    Args:
        path: ``.mha`` or ``.mhd`` file.

    Returns:
        The grid of what :func:`read_metaimage` gives, and its number of channels.

    Raises:
        InputError: As :func:`read_metaimage`, as far as the header shows it.

    Example:
        >>> import SimpleITK
        >>> SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), "flair.mha")
        >>> metaimage_grid("flair.mha")[0].spacing
        (1.0, 1.0, 1.0)
    """
    header = _read_header(Path(path))
    header.stored()
    return header.grid(), header.channels


def metaimage_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that a MetaImage is read from: its header, and those of its voxels.

    Raises:
        InputError: As :func:`metaimage_grid`.

    Example:
        >>> import SimpleITK
        >>> SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), "flair.mhd")
        >>> metaimage_files("flair.mhd")
        (PosixPath('flair.mhd'), PosixPath('flair.raw'))
    """
    header = _read_header(Path(path))
    return tuple(dict.fromkeys((header.path, *header.stored().files)))


@dataclass(frozen=True)
class _Header:
    """Hold what the header of a MetaImage says."""

    path: Path
    fields: dict[str, str]
    listed: tuple[str, ...]
    length: int

    def text(self, *names: str, default: str = "") -> str:
        """Return the first of some fields that is there."""
        return next((self.fields[name] for name in names if name in self.fields), default)

    def numbers(self, *names: str, default: str = "") -> Float64[np.ndarray, "_"]:
        text = self.text(*names, default=default)
        try:
            return np.array(text.split(), dtype=np.float64)
        except ValueError as error:
            raise self.corrupt(f"{names[0]} = {text}") from error

    def corrupt(self, what: str) -> InputError:
        return InputError(f"{self.path}: its header is corrupt: {what}")

    def whole(self, name: str, default: str = "") -> tuple[int, ...]:
        found = self.numbers(name, default=default)
        if not (np.isfinite(found).all() and (found == np.rint(found)).all()):
            raise self.corrupt(f"{name} = {self.text(name)}")
        return tuple(int(number) for number in found)

    def one(self, name: str, default: str) -> int:
        found = self.whole(name, default)
        if len(found) != 1:
            raise self.corrupt(f"{name} = {self.text(name)}")
        return found[0]

    def says(self, *names: str) -> bool:
        return self.text(*names)[:1].lower() in ("t", "1", "y")

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis, those of one voxel at the end dropped."""
        shape = self.whole("DimSize")
        if len(shape) != self.one("NDims", "0") or len(shape) < 2 or min(shape) < 1:
            raise self.corrupt(f"DimSize = {self.text('DimSize')}")
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) > 4 or (len(shape) == 4 and self.values > 1):
            raise InputError(
                f"{self.path}: has shape {shape} and {self.values} values per voxel; give at most "
                "three axes and one of channels"
            )
        return shape

    @property
    def values(self) -> int:
        """Number of values per voxel."""
        count = self.one("ElementNumberOfChannels", "1")
        if count < 1:
            raise self.corrupt(f"ElementNumberOfChannels = {count}")
        return count

    @property
    def channels(self) -> int:
        return self.shape[3] if len(self.shape) == 4 else self.values

    def stored(self) -> StoredVoxels:
        name = self.text("ElementDataFile")
        local = name.upper() == "LOCAL"
        skip = self.one("HeaderSize", "0")
        return StoredVoxels(
            path=self.path,
            files=(self.path,) if local else data_files(name, self.listed, self.path),
            shape=(self.values, *self.shape),
            dtype=self._dtype(),
            encoding=self._encoding(),
            start=skip if skip > 0 else self.length * local,
            skip=min(skip, 0),
        )

    def _dtype(self) -> np.dtype:
        name = self.text("ElementType").removesuffix("_ARRAY")
        if name not in _TYPES:
            raise InputError(f"{self.path}: holds values of type {name}; convert it to numbers")
        last_first = self.says("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        return np.dtype(_TYPES[name]).newbyteorder(">" if last_first else "<")

    def _encoding(self) -> Encoding:
        if self.says("CompressedData"):
            return "deflate"
        return "raw" if self.says("BinaryData") else "text"

    def grid(self) -> Grid:
        """Return where the voxels lie, in mm, RAS+."""
        rank = self.one("NDims", "0")
        shape = self.shape[:3]
        spacing = self._vector(rank, "ElementSpacing", "ElementSize", each="1")
        origin = self._vector(rank, "Offset", "Position", "Origin", each="0")
        names = ("TransformMatrix", "Rotation", "Orientation")
        turn = self.numbers(*names, default=" ".join(map(str, np.eye(rank).ravel())))
        if turn.size != rank**2:
            raise self.corrupt(f"TransformMatrix = {self.text(*names)}")
        steps = turn.reshape(rank, rank) * spacing[:, None]  # a row per axis
        if steps[:3, 3:].any() or steps[3:, :3].any():
            raise InputError(f"{self.path}: its fourth axis is no channel: it moves the voxels")
        unit = millimetres(self.text("DistanceUnits"), self.path)
        axes, place = np.eye(3), np.zeros(3)
        kept = min(rank, 3)
        axes[:kept, :kept], place[:kept] = steps[:3, :3] * unit, origin[:3] * unit
        try:
            return Grid(shape + (1,) * (3 - len(shape)), affine_from_axes(list(axes), place))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def _vector(self, rank: int, *names: str, each: str) -> Float64[np.ndarray, "_"]:
        found = self.numbers(*names, default=" ".join([each] * rank))
        if found.size != rank:
            raise self.corrupt(f"{names[0]} = {self.text(*names)}")
        return found


def _read_header(path: Path) -> _Header:
    fields: dict[str, str] = {}
    with reading(path) as stream:
        while "ElementDataFile" not in fields:
            line = stream.readline(_LONGEST_HEADER)
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals or stream.tell() > _LONGEST_HEADER:
                raise InputError(f"{path}: is no MetaImage file, or its header is truncated")
            fields[name.strip()] = value.strip()
        listed: list[str] = []
        if fields["ElementDataFile"].split()[:1] == ["LIST"]:
            listed = stream.read(_LONGEST_HEADER).decode("utf-8", "replace").splitlines()
        header = _Header(path, fields, tuple(listed), stream.tell())
    if header.text("ObjectType", default="Image").lower() != "image":
        raise InputError(f"{path}: holds a {fields['ObjectType']}, no image")
    return header


def _spatial(
    stored: Shaped[np.ndarray, "..."], grid: Grid, header: _Header
) -> Shaped[np.ndarray, "x y z *channel"]:
    """Bring the values of a voxel, which come first in the file, to the end."""
    if header.values > 1:
        return np.moveaxis(stored, 0, -1).reshape(*grid.shape, header.values)
    return stored[0].reshape(*grid.shape, *header.shape[3:])


def _warn_of_intensity_function(header: _Header) -> None:
    slope = header.numbers("ElementToIntensityFunctionSlope", default="1")
    offset = header.numbers("ElementToIntensityFunctionOffset", default="0")
    if (slope != 1).any() or (offset != 0).any():
        warnings.warn(
            f"{header.path}: states the intensities to be {slope.tolist()} * value + "
            f"{offset.tolist()}; this is not applied, as in ITK",
            stacklevel=4,
        )
