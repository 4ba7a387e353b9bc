"""Read and write NumPy's own files: arrays without a place in the patient."""

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segjax.errors import InputError
from segjax.files import atomic_path, reading
from segjax.grid import Grid
from segjax.volume import Volume

__all__ = ["npy_grid", "read_npy", "write_npy"]


def read_npy(path: str | os.PathLike[str]) -> Volume:
    """Read an array of numbers; nothing in the file is run.

    Two axes are an image of rank 2, three a volume of rank 3, four a volume with channels last.
    The affine is the identity: voxels of 1 mm.

    Args:
        path: File to read.

    Returns:
        Volume of the array, in native byte order; bool becomes uint8.

    Raises:
        InputError: The file is missing, truncated, corrupt or no NPY file, states a size that it
            does not hold, or holds other things than integers or floats on two to four axes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.npy"
        >>> np.save(path, np.zeros((4, 5, 6)))
        >>> read_npy(path).spatial_dims
        3

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    path = Path(path)
    with reading(path) as stream:
        _check_header(stream, path)
        stream.seek(0)
        data = np.load(stream, allow_pickle=False)
    kind = np.dtype(np.uint8) if data.dtype.kind == "b" else data.dtype.newbyteorder("=")
    return Volume(data.astype(kind, copy=False), np.eye(3 if data.ndim == 2 else 4))


def npy_grid(path: str | os.PathLike[str]) -> tuple[Grid, int]:
    """Read the shape of an array and how many channels it has, but no voxel.

    Args:
        path: File to read.

    Returns:
        The grid and the number of channels of what :func:`read_npy` returns.

    Raises:
        InputError: As :func:`read_npy`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.npy"
        >>> np.save(path, np.zeros((4, 5, 6, 2)))
        >>> place, channels = npy_grid(path)
        >>> place.shape, channels
        ((4, 5, 6), 2)
    """
    path = Path(path)
    with reading(path) as stream:
        shape = _check_header(stream, path)
    rank = min(len(shape), 3)
    return Grid(shape[:rank], np.eye(rank + 1)), (*shape, 1)[rank]


def write_npy(volume: Volume, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the array of a volume; the affine is not stored.

    Args:
        volume: Volume of rank 3, or of rank 2 without channels.
        path: File to write.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The volume has rank 2 and a channel axis, which would read back as a volume of
            rank 3; or the file cannot be written (see :func:`segjax.files.atomic_path`).

    Example:
        >>> import tempfile
        >>> write_npy(Volume(np.zeros((4, 5, 6)), np.eye(4)), Path(tempfile.mkdtemp()) / "a.npy")
    """
    path = Path(path)
    if volume.spatial_dims == 2 and volume.data.ndim == 3:
        raise InputError(f"{path}: an NPY file of rank 2 takes no channels; drop that axis")
    content = BytesIO()  # to a file, NumPy would not say that the disk is full
    np.save(content, volume.data, allow_pickle=False)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


def _check_header(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    """Return the shape; refuse, before memory is taken, what is not held, or is no volume."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # NumPy parses the header as Python: any error means corruption
        raise InputError(f"{path}: is a truncated or corrupt NPY file: {error}") from error
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: holds values of type {dtype}; save integers or floats")
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise InputError(f"{path}: has shape {shape}; give two to four axes, none of them empty")
    held = path.stat().st_size - stream.tell()
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > held:
        raise InputError(f"{path}: is truncated: shape {shape} of {dtype} needs more than it holds")
    return shape
