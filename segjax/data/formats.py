"""Read and write volumes by the suffix of their names; check images and labels."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from segjax.data.dicom import is_dicom, read_dicom
from segjax.data.nifti import read_nifti, write_nifti
from segjax.data.npy import read_npy, write_npy
from segjax.data.png import read_png, write_png
from segjax.errors import InputError
from segjax.volume import Volume
from segjax.words import plural

__all__ = [
    "IMAGE_SUFFIXES",
    "check_same_grid",
    "read_image",
    "read_label",
    "read_volume",
    "stem",
    "write_volume",
]

PathLike = str | os.PathLike[str]

_READERS: dict[str, Callable[[PathLike], Volume]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".png": read_png,
    ".npy": read_npy,
}
_WRITERS: dict[str, Callable[..., None]] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".png": write_png,
    ".npy": write_npy,
}
IMAGE_SUFFIXES: tuple[str, ...] = tuple(_READERS)
"""Suffixes of the files that can be read and written; DICOM is read by its mark, not by name."""

_SAME_AFFINE = 1e-3  # mm
_INTEGRAL = 1e-4  # scaled labels are integers up to the rounding of the scaling
_LARGEST = 2**31 - 1
_LISTED = 8


def read_volume(path: PathLike) -> Volume:
    """Read a volume in the format that its suffix names, or a DICOM series.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.png`` or ``.npy`` file; a DICOM file of any other name,
            which stands for its series in its folder; or a folder that holds one DICOM series.

    Returns:
        The volume, as its format's reader gives it.

    Raises:
        InputError: The format is another one, or the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.npy"
        >>> np.save(path, np.zeros((4, 5, 6)))
        >>> read_volume(path).spatial_shape
        (4, 5, 6)
    """
    name = Path(path).name.lower()
    mark = not name.endswith(IMAGE_SUFFIXES) and (name.endswith(".dcm") or is_dicom(Path(path)))
    if mark or Path(path).is_dir():
        return read_dicom(path)
    return _READERS[_suffix(path)](path)


def write_volume(
    volume: Volume, path: PathLike, *, like: PathLike | None = None, overwrite: bool = False
) -> None:
    """Write a volume in the format that the suffix names.

    Args:
        volume: Volume to write. PNG and NPY files do not keep its affine.
        path: ``.nii``, ``.nii.gz``, ``.png`` or ``.npy`` file.
        like: File on the same grid; of NIfTI, qform and sform are taken over as they are.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The suffix is another one, or the format cannot hold the volume, or the file
            cannot be written.

    Example:
        >>> import tempfile
        >>> mask = Volume(np.zeros((4, 5, 6), np.uint8), np.eye(4))
        >>> write_volume(mask, Path(tempfile.mkdtemp()) / "mask.nii.gz")
    """
    suffix = _suffix(path)
    nifti = (".nii", ".nii.gz")
    both_nifti = like is not None and suffix in nifti and str(like).lower().endswith(nifti)
    forms = {"like": like} if both_nifti else {}
    _WRITERS[suffix](volume, path, **forms, overwrite=overwrite)


def read_image(paths: PathLike | Sequence[PathLike], *, channels: int | None = None) -> Volume:
    """Read an image of one or more channels, from one file or from one file per channel.

    Args:
        paths: What :func:`read_volume` takes, or several in the order of the channels.
        channels: Number of channels that are expected; any number when None.

    Returns:
        Volume with data float32 of shape ``(*spatial, channel)``.

    Raises:
        InputError: A file cannot be read, the files lie on different grids, the number of
            channels is another one, or values are NaN or infinite (said with their number).

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("flair.npy", "t1.npy"):
        ...     np.save(folder / name, np.zeros((4, 5, 6)))
        >>> read_image([folder / "flair.npy", folder / "t1.npy"]).channels
        2
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise InputError("no image file given; give one, or one per channel")
    volumes = [_finite(read_volume(path), path) for path in files]
    for path, volume in zip(files[1:], volumes[1:], strict=True):
        check_same_grid(volumes[0], volume, (str(files[0]), str(path)))
    data = np.concatenate([volume.channels_last for volume in volumes], axis=-1)
    if channels is not None and data.shape[-1] != channels:
        names = ", ".join(str(path) for path in files)
        found = plural(data.shape[-1], "channel")
        raise InputError(f"{names}: {found}, but {channels} are expected")
    return volumes[0].with_data(data)


def read_label(path: PathLike, *, classes: int | None = None) -> Volume:
    """Read a label map: one non-negative integer per voxel.

    Args:
        path: File to read; floats that are integers will do.
        classes: Number of classes, background included; any number when None.

    Returns:
        Volume with data of shape ``(*spatial,)``: uint8 when the values fit, else uint16 or int32.

    Raises:
        InputError: The file cannot be read, has channels, or holds values that are no integers,
            negative, or not below ``classes`` (said with the values).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lesions.npy"
        >>> np.save(path, np.array([[0.0, 1.0], [2.0, 0.0]]))
        >>> read_label(path, classes=3).data.dtype
        dtype('uint8')
    """
    volume = read_volume(path)
    if volume.data.ndim > volume.spatial_dims:
        raise InputError(f"{path}: has {volume.channels} channels; labels have one value per voxel")
    data = _integers(volume.data, path)
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > _LARGEST:
        odd = data[(data < 0) | (data > _LARGEST)]
        raise InputError(f"{path}: has labels that are no classes: {_values(odd)}")
    if classes is not None and high >= classes:
        raise InputError(
            f"{path}: has labels {_values(data[data >= classes])}, but with {classes} classes they "
            f"go from 0 to {classes - 1}"
        )
    return volume.with_data(data.astype(_smallest(high), copy=False))


def check_same_grid(image: Volume, label: Volume, names: tuple[str, str]) -> None:
    """Refuse two volumes whose voxels are not at the same places.

    Args:
        image: One volume.
        label: The other.
        names: Their names, for the message.

    Raises:
        InputError: Their spatial shapes differ, or their affines by more than 0.001.

    Example:
        >>> a = Volume(np.zeros((4, 5, 6)), np.eye(4))
        >>> check_same_grid(a, a, ("flair.nii", "lesions.nii"))
    """
    if image.spatial_shape != label.spatial_shape:
        raise InputError(
            f"{names[1]}: has shape {label.spatial_shape}, but {names[0]} has "
            f"{image.spatial_shape}; resample one onto the other's grid"
        )
    apart = float(np.abs(image.affine - label.affine).max())
    if apart > _SAME_AFFINE:
        raise InputError(
            f"{names[1]}: lies elsewhere than {names[0]}: their affines differ by up to "
            f"{apart:.4g}; resample one onto the other's grid"
        )


def stem(path: PathLike) -> str:
    """Return the name of a file without its folder and suffix.

    Args:
        path: Name of an image file, or of any other.

    Returns:
        The case's name.

    Example:
        >>> stem("images/sub-01_flair.nii.gz")
        'sub-01_flair'
    """
    name = Path(path).name
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def _suffix(path: PathLike) -> str:
    name = Path(path).name.lower()
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise InputError(f"{path}: is of no known format; give one of {', '.join(IMAGE_SUFFIXES)}")


def _finite(volume: Volume, path: PathLike) -> Volume:
    with np.errstate(over="ignore"):
        data = volume.data.astype(np.float32, copy=False)
    wrong = data.size - int(np.count_nonzero(np.isfinite(data)))
    if wrong:
        raise InputError(
            f"{path}: {wrong:,} of {data.size:,} voxels are NaN or infinite in float32; mend it"
        )
    return volume.with_data(data)


def _integers(data: Shaped[np.ndarray, "..."], path: PathLike) -> Shaped[np.ndarray, "..."]:
    if data.dtype.kind != "f":
        return data
    if not np.isfinite(data).all():
        raise InputError(f"{path}: has labels that are NaN or infinite")
    whole = np.rint(data)
    odd = (np.abs(data - whole) > _INTEGRAL) | (np.abs(whole) > _LARGEST)
    if odd.any():
        raise InputError(f"{path}: has labels that are no integers: {_values(data[odd])}")
    return whole.astype(np.int64)


def _smallest(high: int) -> type[np.integer]:
    kinds: tuple[type[np.integer], ...] = (np.uint8, np.uint16)
    return next((kind for kind in kinds if high <= np.iinfo(kind).max), np.int32)


def _values(data: Shaped[np.ndarray, "..."]) -> str:
    values = np.unique(data)
    more = ", …" if len(values) > _LISTED else ""
    return ", ".join(f"{value:.6g}" for value in values[:_LISTED].tolist()) + more
