"""Read and write NRRD volumes, and 3D Slicer's segmentations (``.seg.nrrd``)."""

import os
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from segjax.data.io._lps import RAS_FROM_LPS
from segjax.data.io._nrrd_geometry import channel_axis, header_grid, spatial_axes
from segjax.data.io._nrrd_header import NrrdHeader, read_header
from segjax.data.io._slicer_segments import label_map, segment_fields, segments_of
from segjax.data.io._stored_voxels import load_voxels
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.grid import Grid, crop_to_grid, orientation, reorient
from segjax.text import plural
from segjax.volume import Volume

__all__ = ["nrrd_files", "nrrd_grid", "read_nrrd", "read_segmentation_nrrd", "write_nrrd"]

_GZIP = 31  # zlib's window bits for a gzip header and its checksum
_SAME_PLACE = 0.1  # voxels; programs differ by so much in where the voxels of one image lie
_WRITTEN = {"b1": np.uint8, "f2": np.float32}  # types that NRRD has not
_LABELS: tuple[type[np.integer], ...] = (np.uint8, np.int16, np.uint16, np.int32)
_TYPES = {
    "i1": "signed char", "u1": "unsigned char", "i2": "short", "u2": "unsigned short", "i4": "int",
    "u4": "unsigned int", "i8": "long long int", "u8": "unsigned long long int", "f4": "float",
    "f8": "double",
}  # fmt: skip


def read_nrrd(path: str | os.PathLike[str]) -> Volume:
    """Read a NRRD file, raw, compressed or text, with its voxels in the same file or in others.

    Voxels keep their type. The affine is exact, sheared ones included; coordinates in no named
    space count as LPS, as in ITK, and units of length other than mm become mm. A 2D file becomes
    one slice ``(x, y, 1)``; one axis that does not lie in space holds channels, wherever it stands.

    Args:
        path: ``.nrrd`` or ``.nhdr`` file.

    Returns:
        Volume of rank 3; data of shape ``(x, y, z)`` or ``(x, y, z, channel)``.

    Raises:
        InputError: The file or one that it names is missing, truncated or corrupt, or no NRRD; it
            states over 16 GiB; it holds colours, complex numbers, blocks or more than one axis
            that is not in space; its affine is not invertible.

    Warns:
        UserWarning: It states an unknown unit of length, or holds more bytes than it states.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.nrrd"
        >>> write_nrrd(Volume(np.ones((4, 5, 6), np.int16), np.eye(4)), path)
        >>> read_nrrd(path).data.shape
        (4, 5, 6)

    Source: http://teem.sourceforge.net/nrrd/format.html
    """
    return _read(read_header(Path(path)))


def nrrd_grid(path: str | os.PathLike[str]) -> tuple[Grid, int]:
    """Read where the voxels of a NRRD file lie, and not the voxels.

    Args:
        path: ``.nrrd`` or ``.nhdr`` file.

    Returns:
        The grid of what :func:`read_nrrd` gives, and its number of channels.

    Raises:
        InputError: As :func:`read_nrrd`, as far as the header shows it.

    Example:
        >>> from segjax import read, write
        >>> write(read("flair.nii.gz"), "flair.nrrd")
        >>> nrrd_grid("flair.nrrd")[0].spacing
        (1.0, 1.0, 1.0)
    """
    header = read_header(Path(path))
    axis, _ = channel_axis(header), header.stored
    return header_grid(header), 1 if axis is None else header.sizes[axis]


def nrrd_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that a NRRD is read from: its header, and those of its voxels.

    Raises:
        InputError: As :func:`nrrd_grid`.

    Example:
        >>> import SimpleITK
        >>> SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), "flair.nhdr")
        >>> nrrd_files("flair.nhdr")
        (PosixPath('flair.nhdr'), PosixPath('flair.raw'))
    """
    header = read_header(Path(path))
    return tuple(dict.fromkeys((header.path, *header.stored.files)))


def read_segmentation_nrrd(
    path: str | os.PathLike[str], like: Grid | None = None
) -> tuple[Volume, dict[int, str]]:
    """Read a segmentation of 3D Slicer as one label map.

    3D Slicer saves the part of the image that its segments take up: give the image's grid to have
    the label map there, 0 elsewhere. A label map of one layer keeps its values, and so do several
    layers where no two segments share one; else the segments are numbered from 1.

    Args:
        path: ``.seg.nrrd`` file, or any NRRD file of whole numbers, whose values have no names
            then.
        like: Grid of the image. Axes may be flipped or in another order, and the voxels up to 0.1
            voxels away.

    Returns:
        The label map, of integers, and the name of each value as the file has it.

    Raises:
        InputError: As :func:`read_nrrd`; or segments overlap, the values are no whole numbers, the
            voxels lie between those of ``like``, or no segment lies within it.

    Warns:
        UserWarning: Voxels of segments lie outside ``like``: they are lost.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lesions.seg.nrrd"
        >>> lesions = Volume(np.ones((4, 5, 6), np.uint8), np.eye(4))
        >>> write_nrrd(lesions, path, segments={1: "lesion"})
        >>> read_segmentation_nrrd(path)[1]
        {1: 'lesion'}

    Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
    """
    path = Path(path)
    header = read_header(path)
    volume = _read(header)
    segments = segments_of(header.keys, volume.channels, path)
    data, names = label_map(_whole(volume.data, path), segments, path)
    labels = volume.with_data(data)
    return labels if like is None else _onto(labels, like, path), names


def write_nrrd(
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    segments: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a volume of rank 3 as NRRD, compressed with gzip.

    The affine is kept exactly, sheared ones included, and so is the type, but for bool, which
    becomes uint8, and float16, which becomes float32. The same volume gives the same bytes.

    Args:
        volume: Volume of rank 3, with or without channels.
        path: File to write, ``.nrrd``; ``.seg.nrrd`` for a segmentation of 3D Slicer, which takes
            a label map.
        segments: Names of the values of a label map but 0; a name without voxels is kept too, and
            a value without a name is ``Segment_1`` or the like, as in 3D Slicer. The type becomes
            the smallest that holds the values.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The volume has rank 2, or values of a type that NRRD has not; segments are
            given but the volume has channels or is no label map, or 0 has a name; or the file
            cannot be written (see :func:`segjax.files.atomic_path`).

    Example:
        >>> import tempfile
        >>> lesions = Volume(np.zeros((4, 5, 6), bool), np.diag([1, 1, 3, 1]))
        >>> write_nrrd(lesions, Path(tempfile.mkdtemp()) / "a.seg.nrrd", segments={1: "lesion"})
    """
    path = Path(path)
    if not path.name.lower().endswith(".nrrd"):
        raise InputError(f"{path}: a NRRD file's name ends in .nrrd")
    if volume.spatial_dims != 3:
        raise InputError(f"{path}: a NRRD file takes volumes of three axes, not two; write a PNG")
    keys: dict[str, str] = {}
    if segments is not None or path.name.lower().endswith(".seg.nrrd"):
        names = _named(volume.data, segments or {}, path)
        volume = volume.with_data(_labels(volume.data, names, path))
        keys = segment_fields(volume.data, names)
    data = _written_type(volume.data, path)
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        stream.write(_header_text(volume.with_data(data), keys).encode())
        deflater = zlib.compressobj(level=1, wbits=_GZIP)
        fastest = np.moveaxis(data, 3, 0) if data.ndim == 4 else data
        for part in np.moveaxis(fastest, -1, 0):
            stream.write(deflater.compress(part.tobytes(order="F")))
        stream.write(deflater.flush())


def _read(header: NrrdHeader) -> Volume:
    placed = header_grid(header)
    channel_axis(header)  # refuses before the voxels are read
    return Volume(_spatial(load_voxels(header.stored), header, placed), placed.affine)


def _spatial(
    stored: Shaped[np.ndarray, "..."], header: NrrdHeader, grid: Grid
) -> Shaped[np.ndarray, "x y z *channel"]:
    """Bring the axes of a file into order: those in space, and the one of channels, if any."""
    kept, channels = list(spatial_axes(header)), channel_axis(header)
    shape = grid.shape
    if channels is not None:
        kept.append(channels)
        shape = (*shape, header.sizes[channels])
    empty = [axis for axis in range(stored.ndim) if axis not in kept]
    return stored.transpose(kept + empty).reshape(shape)


def _whole(data: Shaped[np.ndarray, "..."], path: Path) -> Integer[np.ndarray, "..."]:
    if data.dtype.kind in "iu":
        return data
    whole = np.rint(data)
    if not (np.isfinite(data).all() and (data == whole).all() and np.abs(whole).max() < 2**31):
        raise InputError(f"{path}: is no segmentation: its values are no whole numbers")
    return whole.astype(np.int32)


def _onto(labels: Volume, like: Grid, path: Path) -> Volume:
    """Bring a label map onto the image that it is a part of, voxel by voxel."""
    if len(like.shape) != 3:
        raise InputError(f"{path}: lies in space, but the image of shape {like.shape} does not")
    if labels.data.size == 1 and not labels.data.any():  # how 3D Slicer saves that there is none
        return Volume(np.zeros(like.shape, labels.data.dtype), like.affine)
    turned = reorient(labels, orientation(like.affine))
    for candidate in (labels, turned):
        index = np.linalg.solve(candidate.affine, like.affine)  # in like -> in the label map
        start = np.rint(index[:3, 3])
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in like.shape])).reshape(3, 8)
        moved = index[:3, :3] @ corners + index[:3, 3:] - corners - start[:, None]
        if np.abs(moved).max() <= _SAME_PLACE:
            return _crop(candidate, start, like, path)
    raise InputError(
        f"{path}: lies between the voxels of the image of shape {like.shape}, resample it onto them"
    )


def _crop(labels: Volume, start: Shaped[np.ndarray, "3"], like: Grid, path: Path) -> Volume:
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    cropped = crop_to_grid(labels, Grid(like.shape, affine))
    before, after = (int(np.count_nonzero(map_.data)) for map_ in (labels, cropped))
    if before and not after:
        raise InputError(f"{path}: none of its segments lies within the image; give its own image")
    if after < before:
        warnings.warn(
            f"{path}: {before - after:,} of {plural(before, 'voxel')} of its segments lie outside "
            "the image and are left out",
            stacklevel=5,
        )
    return Volume(cropped.data, like.affine)


def _named(data: Shaped[np.ndarray, "..."], names: Mapping[int, str], path: Path) -> dict[int, str]:
    """Return the name of each value of a label map but 0."""
    if data.ndim != 3 or data.dtype.kind not in "biu":
        raise InputError(f"{path}: segments need a label map, not {data.dtype} of {data.shape}")
    if 0 in names:
        raise InputError(f"{path}: 0 is the background's value, and names no segment")
    found = (int(value) for value in np.unique(data))
    return {**names, **{v: f"Segment_{v}" for v in found if v and v not in names}}


def _labels(
    data: Shaped[np.ndarray, "x y z"], names: Mapping[int, str], path: Path
) -> Integer[np.ndarray, "x y z"]:
    """Return a label map in the smallest type that holds its values."""
    low, high = min([0, *names]), max([0, *names])
    for kind in _LABELS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return data.astype(kind)
    raise InputError(f"{path}: labels {low} to {high} reach beyond 32 bits")


def _written_type(data: Shaped[np.ndarray, "..."], path: Path) -> Shaped[np.ndarray, "..."]:
    kind = np.dtype(_WRITTEN.get(data.dtype.str[1:], data.dtype))
    if kind.str[1:] not in _TYPES:
        raise InputError(f"{path}: values of type {data.dtype} cannot be written as NRRD")
    return data.astype(kind.newbyteorder("<"), copy=False)


def _header_text(volume: Volume, keys: Mapping[str, str]) -> str:
    to_lps = np.array(RAS_FROM_LPS)
    vectors = [_vector(column) for column in (volume.affine[:3] * to_lps[:, None]).T]
    channels = volume.data.ndim == 4
    sizes = [volume.channels, *volume.spatial_shape] if channels else volume.spatial_shape
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_TYPES[volume.data.dtype.str[1:]]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' * channels}{' '.join(vectors[:3])}",
        f"kinds: {'list ' * channels}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
        *(f"{key}:={_escape(text)}" for key, text in keys.items()),
    ]
    return "\n".join(lines) + "\n\n"


def _vector(column: Shaped[np.ndarray, "3"]) -> str:
    return f"({','.join(repr(float(number) + 0.0) for number in column)})"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
