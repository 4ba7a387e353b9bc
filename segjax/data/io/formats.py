"""Read and write volumes by the suffix of their names; check images and labels."""

import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from segjax.data.io.dicom.rtstruct import read_rtstruct
from segjax.data.io.dicom.segmentation import is_label_object, read_dicom_segmentation
from segjax.data.io.dicom.segmentation import segment_names as dicom_segment_names
from segjax.data.io.dicom.series import Series, is_dicom, read_dicom
from segjax.data.io.metaimage import metaimage_grid, read_metaimage
from segjax.data.io.nifti import nifti_grid, read_nifti, write_nifti
from segjax.data.io.npy import npy_grid, read_npy, write_npy
from segjax.data.io.nrrd import nrrd_grid, read_nrrd, read_segmentation_nrrd, write_nrrd
from segjax.data.io.png import png_grid, read_png, write_png
from segjax.data.labels import IGNORED, PLAIN, LabelCoding
from segjax.errors import InputError
from segjax.files import reading
from segjax.grid import Grid, grid
from segjax.registry import register, registry
from segjax.text import plural
from segjax.volume import Volume, check_volume

__all__ = [
    "COLOURS",
    "check_same_grid",
    "image_suffixes",
    "mask_suffixes",
    "may_name_segments",
    "normal_name",
    "read_grid",
    "read_image",
    "read_label",
    "read_volume",
    "segment_names",
    "stem",
    "suffix",
    "write_volume",
]

PathLike = str | os.PathLike[str]
Source = PathLike | Series

_SEGMENTS = ".seg.nrrd"
_OBJECTS = (".seg.dcm", ".sr.dcm")  # DICOM's that are written beside a mask
_GRIDS: dict[Callable[..., Volume], Callable[[PathLike], tuple[Grid, int]]] = {
    read_nifti: nifti_grid,
    read_png: png_grid,
    read_npy: npy_grid,
    read_nrrd: nrrd_grid,
    read_metaimage: metaimage_grid,
}
COLOURS = 3
"""Channels of a picture in colour."""

_SAME_AFFINE = 1e-3  # mm
_INTEGRAL = 1e-4  # scaled labels are integers up to the rounding of the scaling
_LARGEST = 2**31 - 1
_LISTED = 8


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that can be read; DICOM is read by its mark, not by name.

    ``segjax.register("reader", ".xyz", read)`` adds one: ``read(path)`` returns a volume.

    Example:
        >>> image_suffixes()[:3]
        ('.nii', '.nii.gz', '.png')
    """
    return registry("reader").names()


def mask_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that can be written.

    ``segjax.register("writer", ".xyz", write)`` adds one: ``write(volume, path, *, overwrite)``.

    Example:
        >>> mask_suffixes()[:3]
        ('.nii', '.nii.gz', '.png')
    """
    return registry("writer").names()


def read_volume(source: Source) -> Volume:
    """Read a volume in the format that its suffix names, or a DICOM series.

    Args:
        source: A file with one of :func:`image_suffixes`; a DICOM file of any other name, which
            stands for its series; a folder that holds one DICOM series; or a series itself.

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
    if isinstance(source, Series) or _is_series(Path(source)):
        return read_dicom(source)
    if Path(source).is_symlink():  # what leads nowhere has no wrong format
        with reading(source):
            pass
    return check_volume(_reader(source)(Path(source)), f"{source}: what its reader returns")


def read_grid(source: Source) -> tuple[Grid, int]:
    """Read where the voxels of an image lie, and how many channels it has; no voxel if possible.

    Args:
        source: As for :func:`read_volume`.

    Returns:
        The grid, and the number of channels.

    Raises:
        InputError: As :func:`read_volume`, where the header shows it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.npy"
        >>> np.save(path, np.zeros((4, 5, 6)))
        >>> place, channels = read_grid(path)
        >>> place.shape, channels
        ((4, 5, 6), 1)
    """
    if isinstance(source, Series):
        mosaic = "MOSAIC" in source.frames[0].image_type
        return _whole_grid(source) if mosaic else (source.grid, 1)
    if _is_series(Path(source)):
        return _whole_grid(source)
    header = _GRIDS.get(_reader(source))
    return header(source) if header else _whole_grid(source)


def _reader(source: PathLike) -> Callable[..., Volume]:
    return registry("reader").get(_suffix(source, image_suffixes()))


def _whole_grid(source: Source) -> tuple[Grid, int]:
    volume = read_volume(source)
    return grid(volume), volume.channels


def _is_series(path: Path) -> bool:
    name = path.name.lower()
    mark = not name.endswith(image_suffixes()) and (name.endswith(".dcm") or is_dicom(path))
    return mark or path.is_dir()


def write_volume(
    volume: Volume,
    path: PathLike,
    *,
    like: Source | None = None,
    segments: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a volume in the format that the suffix names.

    Args:
        volume: Volume to write. PNG and NPY files do not keep its affine.
        path: File with one of :func:`mask_suffixes`.
        like: File on the same grid; of NIfTI, the header's fields of its place are taken over.
        segments: Name of each label value, which ``.seg.nrrd`` keeps; other formats keep none.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The suffix is another one, or the format cannot hold the volume, or the file
            cannot be written.

    Example:
        >>> import tempfile
        >>> mask = Volume(np.zeros((4, 5, 6), np.uint8), np.eye(4))
        >>> write_volume(mask, Path(tempfile.mkdtemp()) / "mask.nii.gz")
    """
    kind = _suffix(path, mask_suffixes())
    write = registry("writer").get(kind)
    options: dict[str, object] = {}
    if write is write_nifti and not isinstance(like, Series | None):
        options = {"like": like} if str(like).lower().endswith((".nii", ".nii.gz")) else {}
    if write is write_nrrd and kind == _SEGMENTS:
        options = {"segments": segments or {}}
    write(check_volume(volume, "what is written"), path, **options, overwrite=overwrite)


def read_image(sources: Source | Sequence[Source], *, channels: int | None = None) -> Volume:
    """Read an image of one or more channels, from one file or from one file per channel.

    Args:
        sources: What :func:`read_volume` takes, or several in the order of the channels.
        channels: Number of channels that are expected; any number when None. A grey picture
            (PNG) stands for three equal channels where three are expected of one.

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
    files = [sources] if isinstance(sources, str | os.PathLike | Series) else list(sources)
    if not files:
        raise InputError("no image file given; give one, or one per channel")
    volumes = [_finite(read_volume(source), source) for source in files]
    for source, volume in zip(files[1:], volumes[1:], strict=True):
        check_same_grid(volumes[0], volume, (str(files[0]), str(source)))
    data = np.concatenate([volume.channels_last for volume in volumes], axis=-1)
    if channels == COLOURS and data.shape[-1] == 1 and str(files[0]).lower().endswith(".png"):
        data = np.repeat(data, COLOURS, axis=-1)
    _check_channels(files, data.shape[-1], channels)
    return volumes[0].with_data(data)


def _check_channels(files: Sequence[Source], found: int, wanted: int | None) -> None:
    if wanted is not None and found != wanted:
        names = ", ".join(map(str, files))
        raise InputError(f"{names}: {plural(found, 'channel')}, but {wanted} are expected")


def read_label(
    path: PathLike,
    *,
    classes: int | None = None,
    coding: LabelCoding = PLAIN,
    like: Grid | None = None,
) -> Volume:
    """Read a label map: one class per voxel.

    Pictures give the values that they store, whatever grey or colour these stand for. Segments of
    ``.seg.nrrd`` files, DICOM SEG and RTSTRUCT objects are found by the coding's names, and by
    their numbers where it has none.

    Args:
        path: File to read; floats that are integers will do.
        classes: Number of classes, background included; any number when None.
        coding: What stored values stand for.
        like: Grid of the image that the labels belong to; only objects that hold a part of it
            (DICOM SEG, RTSTRUCT, cropped ``.seg.nrrd``) need it.

    Returns:
        Volume with data of shape ``(*spatial,)``: uint8 when the values fit, else uint16 or int32.
        Voxels that count for nothing are :data:`segjax.data.labels.IGNORED`.

    Raises:
        InputError: The file cannot be read, has channels, or holds values that are no integers,
            negative, or not below ``classes`` (said with the values), or no class of the coding.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lesions.npy"
        >>> np.save(path, np.array([[0.0, 1.0], [2.0, 0.0]]))
        >>> read_label(path, classes=3).data.dtype
        dtype('uint8')
    """
    volume, names = _stored_label(path, coding, like)
    if volume.data.ndim > volume.spatial_dims:
        raise InputError(f"{path}: has {volume.channels} channels; labels have one value per voxel")
    stored = _integers(volume.data, path)
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > _LARGEST:
        odd = stored[(stored < 0) | (stored > _LARGEST)]
        raise InputError(f"{path}: has labels that are no classes: {_values(odd)}")
    if names is None:
        data = coding.decode(stored, str(path))
    else:
        data = _by_name(stored, names, coding, path)
    _check_classes(data, classes, coding, path)
    return volume.with_data(data.astype(_smallest(int(data.max())), copy=False))


def _stored_label(
    path: PathLike, coding: LabelCoding, like: Grid | None
) -> tuple[Volume, dict[int, str] | None]:
    """Read a label map as it is stored, and the names of its values where it holds them."""
    name = str(path).lower()
    if name.endswith(_SEGMENTS):
        volume, named = read_segmentation_nrrd(path, like=like)
        return volume, named or None
    if name.endswith(".png"):
        return read_png(path, stored=True), None
    kind = None if name.endswith(image_suffixes()) else is_label_object(path)
    return _label_object(path, kind, coding, like) if kind else (read_volume(path), None)


def _label_object(
    path: PathLike, kind: str, coding: LabelCoding, like: Grid | None
) -> tuple[Volume, dict[int, str]]:
    """Read a DICOM SEG or RTSTRUCT object, and the names of its values."""
    if like is None:
        raise InputError(f"{path}: lies on the grid of its image; give the image too")
    held = dicom_segment_names(path)
    wanted = [name for name in held if _class_of(name, coding) is not None]
    read = read_dicom_segmentation if kind == "SEG" else read_rtstruct
    volume, _ = read(path, like, wanted=wanted if coding.names else None)
    return volume, dict(enumerate(held, 1))


def may_name_segments(path: PathLike) -> bool:
    """Say whether a label file is of a format whose segments have names.

    Example:
        >>> may_name_segments("a.seg.nrrd"), may_name_segments("a.nii.gz")
        (True, False)
    """
    name = str(path).lower()
    return name.endswith(_SEGMENTS) or (
        not name.endswith(image_suffixes()) and is_label_object(path) is not None
    )


def segment_names(path: PathLike) -> tuple[str, ...] | None:
    """Return the names of the segments that a label file holds; None where it names none.

    A ``.seg.nrrd`` file in which nothing is segmented holds no segments: it is no file whose
    values lack their names.

    Args:
        path: A label map, ``.seg.nrrd`` file, DICOM SEG or RTSTRUCT object.

    Raises:
        InputError: The file cannot be read.

    Example:
        >>> segment_names("lesions.nii.gz") is None
        True
    """
    name = str(path).lower()
    if name.endswith(_SEGMENTS):
        volume, names = read_segmentation_nrrd(path)
        return tuple(names.values()) if names or not volume.data.any() else None
    if name.endswith(image_suffixes()) or is_label_object(path) is None:
        return None
    return dicom_segment_names(path)


def _class_of(name: str, coding: LabelCoding) -> int | None:
    """Return the class that a segment is by its name."""
    wanted = name.strip().casefold()
    if wanted == "ignore" and coding.ignored is not None:
        return IGNORED
    known = [known.strip().casefold() for known in coding.names]
    return known.index(wanted) if wanted in known else None


def _by_name(
    stored: Integer[np.ndarray, "*spatial"],
    names: Mapping[int, str],
    coding: LabelCoding,
    path: PathLike,
) -> Integer[np.ndarray, "*spatial"]:
    """Give each segment the class of its name; without names to go by, its number is its class."""
    if not coding.names:
        return stored
    if odd := sorted(set(np.unique(stored).tolist()) - {0, *names}):
        raise InputError(
            f"{path}: has values that no segment has: {_values(np.array(odd))}; name them in the "
            "file, or clear them"
        )
    data = np.zeros(stored.shape, np.uint8)
    for value, number in _named_classes(names, coding, path).items():
        data[stored == value] = number
    return data


def _named_classes(names: Mapping[int, str], coding: LabelCoding, path: PathLike) -> dict[int, int]:
    """Return the classes of segments by their names; warn of segments that are of none."""
    table = {value: _class_of(name, coding) for value, name in names.items()}
    known = {value: number for value, number in table.items() if number is not None}
    unknown = _quoted(name for value, name in names.items() if value not in known)
    if unknown and not known:
        wanted = _quoted(coding.names[1:])
        raise InputError(f"{path}: has segments {unknown}, but none of {wanted}; rename them")
    if unknown:
        warnings.warn(f"{path}: left out segment {unknown}, no label here", stacklevel=5)
    return known


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _check_classes(
    data: Integer[np.ndarray, "*spatial"], classes: int | None, coding: LabelCoding, path: PathLike
) -> None:
    if classes is None:
        return
    wrong = data >= classes
    if coding.ignored is not None:
        wrong &= data != IGNORED
    if wrong.any():
        raise InputError(
            f"{path}: has labels {_values(data[wrong])}, but with {classes} classes they go from 0 "
            f"to {classes - 1}; say what the values are with --labels, such as 255=lesion or "
            "2=background to leave it out, or in dataset.json: "
            '{"labels": {"background": 0, "lesion": 255}}'
        )


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
    """Return the name of a file without its folder and suffix, in Unicode's composed form.

    The composed form (NFC) lets names match that look alike, whichever system wrote them.

    Args:
        path: Name of an image file, or of any other.

    Returns:
        The case's name.

    Example:
        >>> stem("images/sub-01_flair.nii.gz")
        'sub-01_flair'
    """
    name = Path(path).name
    found = suffix(path)
    return normal_name(name[: len(name) - len(found)])


def suffix(path: PathLike) -> str:
    """Return the suffix of a file as it is written, that of an image format in one piece.

    Args:
        path: Name of an image file, or of any other.

    Example:
        >>> suffix("sub-01_flair.NII.gz"), suffix("notes.v2.txt"), suffix("lesions.seg.nrrd")
        ('.NII.gz', '.txt', '.seg.nrrd')
    """
    name = Path(path).name
    known = sorted({*image_suffixes(), *mask_suffixes(), *_OBJECTS}, key=len, reverse=True)
    length = next((len(end) for end in known if name.lower().endswith(end)), None)
    return Path(name).suffix if length is None else name[-length:]


def normal_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC).

    Example:
        >>> normal_name("caf\u0065\u0301") == "caf\u00e9"
        True
    """
    return unicodedata.normalize("NFC", name)


def _suffix(path: PathLike, known: Sequence[str]) -> str:
    name = Path(path).name.lower()
    for end in sorted(known, key=len, reverse=True):
        if name.endswith(end):
            return end
    raise InputError(f"{path}: is of no known format; give one of {', '.join(known)}")


def _finite(volume: Volume, path: Source) -> Volume:
    with np.errstate(over="ignore"):
        data = volume.data.astype(np.float32, copy=False)
    if data.min() == data.max() and volume.data.min() != volume.data.max():
        raise InputError(
            f"{path}: its values, {volume.data.min():.17g} to {volume.data.max():.17g}, are one in "
            "float32; subtract their minimum first"
        )
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


def _read_segments(path: PathLike) -> Volume:
    return read_segmentation_nrrd(path)[0]


_GRIDS[_read_segments] = nrrd_grid
for _kinds, _read in (
    (".nii .nii.gz", read_nifti),
    (".png", read_png),
    (".npy", read_npy),
    (".nrrd .nhdr", read_nrrd),
    (".mha .mhd", read_metaimage),
    (_SEGMENTS, _read_segments),
):
    for _kind in _kinds.split():
        register("reader", _kind, _read)
for _kinds, _write in (
    (".nii .nii.gz", write_nifti),
    (".png", write_png),
    (".npy", write_npy),
    (f".nrrd {_SEGMENTS}", write_nrrd),
):
    for _kind in _kinds.split():
        register("writer", _kind, _write)
