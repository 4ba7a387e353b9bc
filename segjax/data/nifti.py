"""Read and write NIfTI volumes (``.nii`` and ``.nii.gz``)."""

import logging
import os
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from segjax.errors import InputError
from segjax.files import atomic_path, reading
from segjax.volume import Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

__all__ = ["read_nifti", "write_nifti"]

_MOST_BYTES = 16 * 2**30  # stated bound on the voxels of one file, decompressed
_MOST_DEFLATED = 1032  # no byte of a gzip file stands for more than this many
_GZIP = 31  # zlib's window bits for a gzip header and its checksum
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_LONGEST_AXIS = 2**15 - 1  # of NIfTI-1
_MILLIMETRES = {1: 1e3, 3: 1e-3}  # NIfTI's codes for metres and micrometres
_WRITTEN = {  # types that other programs read; NumPy's default integer and float are not among them
    "b1": np.uint8, "i8": np.int32, "u8": np.uint32, "f2": np.float32, "f8": np.float32,
    "f16": np.float32,
}  # fmt: skip


def read_nifti(path: str | os.PathLike[str]) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, compressed or not.

    Voxels are ``stored * scl_slope + scl_inter`` as float32 where the file scales them, else they
    keep their type. The affine is the sform, else the qform, else what nibabel derives from the
    voxel size; metres and micrometres become mm. A 2D file becomes one slice ``(x, y, 1)``; a
    fourth axis of more than one voxel holds channels.

    Args:
        path: File to read.

    Returns:
        Volume of rank 3; data of shape ``(x, y, z)`` or ``(x, y, z, channel)``.

    Raises:
        InputError: The file is missing, truncated, corrupt, or no NIfTI; its header states a size
            that the file cannot hold, or over 16 GiB; it holds colours, complex numbers or more
            than four axes; its affine is not invertible.

    Warns:
        UserWarning: The header had to be mended, such as a voxel size of 0.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.nii.gz"
        >>> write_nifti(Volume(np.ones((4, 5, 6), np.int16), np.eye(4)), path)
        >>> read_nifti(path).data.shape
        (4, 5, 6)

    Source: https://nifti.nimh.nih.gov/nifti-1
    """
    path = Path(path)
    with reading(path) as stream:
        raw = stream.read()
    compressed = raw[:2] == b"\x1f\x8b"
    header = _header(_inflate(raw, _HEADER_BYTES, path) if compressed else raw, path)
    shape, dtype, offset = _layout(header, path)
    size = offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    _check_size(size, raw, compressed, path)
    content = _inflate(raw, size, path, verify=True) if compressed else raw
    stored = np.frombuffer(content, dtype, count=(size - offset) // dtype.itemsize, offset=offset)
    try:
        return Volume(_scale(stored.reshape(shape, order="F"), header, path), _affine(header))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_nifti(
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a volume of rank 3 as NIfTI-1, compressed when the name ends in ``.gz``.

    The affine goes into the sform, and into the qform too unless it shears, which a qform cannot
    say. Types that other programs rarely read are changed: bool to uint8, 64-bit integers to 32
    bits, float64 and float16 to float32. The same volume gives the same bytes.

    Args:
        volume: Volume of rank 3, with or without channels.
        path: File to write, ``.nii`` or ``.nii.gz``.
        like: NIfTI file on the same grid whose qform and sform are taken over with their codes:
            where they differ, ITK follows one and nibabel the other.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The volume has rank 2, complex values, integers beyond 32 bits or an axis of
            over 32,767 voxels; or the file cannot be written (see
            :func:`segjax.files.atomic_path`).

    Example:
        >>> import tempfile
        >>> lesions = Volume(np.zeros((4, 5, 6), bool), np.diag([1, 1, 3, 1]))
        >>> write_nifti(lesions, Path(tempfile.mkdtemp()) / "lesions.nii.gz")
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: a NIfTI file's name ends in .nii or .nii.gz")
    with atomic_path(path, overwrite=overwrite) as temporary:
        content = _encode(volume, path, like)
        temporary.write_bytes(_deflate(content) if name.endswith(".gz") else content)


def _inflate(raw: bytes, size: int, path: Path, *, verify: bool = False) -> bytes:
    """Decompress at most the first ``size`` bytes of a gzip file of one or more members."""
    parts, missing, rest = [], size, raw
    while missing and rest:
        member = zlib.decompressobj(_GZIP)
        try:
            parts.append(member.decompress(rest, missing))
            if verify and len(parts[-1]) == missing:  # go on to the checksum
                member.decompress(member.unconsumed_tail, 2**20)
        except zlib.error as error:
            raise InputError(f"{path}: is corrupt: {error}; fetch or write it again") from error
        missing -= len(parts[-1])
        if verify and not member.eof and not member.unconsumed_tail:
            raise InputError(f"{path}: is truncated; fetch or write it again")
        rest = member.unused_data
    if verify and missing:
        raise InputError(f"{path}: is truncated: {missing:,} bytes of its {size:,} are missing")
    return b"".join(parts)


def _header(content: bytes, path: Path) -> "Nifti1Header":
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind: Any = Nifti2Header if Nifti2Header.may_contain_header(content) else Nifti1Header
    notes = _Notes(logging.WARNING)
    try:
        header = kind(content[: kind.template_dtype.itemsize], check=False)
        header.check_fix(logger=notes.logger, error_level=logging.ERROR)
        if header["magic"].item()[:2] != b"n+":
            raise ValueError("its voxels are not in the same file")
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: is no NIfTI file, or its header is corrupt: {error}") from error
    for note in notes.messages:
        if note.startswith(("pixdim", "qform", "sform")):  # the rest moves no voxel
            warnings.warn(f"{path}: {note}", stacklevel=3)
    return header


class _Notes(logging.Handler):
    """Keep what nibabel says about a header, which it would print besides raising it."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []
        self.logger = logging.Logger(__name__)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _layout(header: "Nifti1Header", path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape (three axes, and channels if any), stored type, and where the voxels begin."""
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        offset = int(header.get_data_offset()) or int(header.single_vox_offset)
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: its header is corrupt: {error}") from error
    if dtype.kind not in "iuf":
        what = "colours" if dtype.names else f"values of type {dtype}"
        raise InputError(f"{path}: holds {what}; convert it to integers or floats")
    if len(shape) < 2 or min(shape) < 1 or offset < 0:
        raise InputError(f"{path}: its header states shape {shape} from byte {offset}")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise InputError(f"{path}: has shape {shape}; give at most three axes and one of channels")
    return shape + (1,) * (3 - len(shape)), dtype, offset


def _check_size(size: int, raw: bytes, compressed: bool, path: Path) -> None:
    """Refuse, before memory is taken, a size that the file cannot hold."""
    most = len(raw) * (_MOST_DEFLATED if compressed else 1)
    if size > most:
        raise InputError(
            f"{path}: is truncated, or its header lies: it states {size:,} bytes, but a file of "
            f"{len(raw):,} bytes holds at most {most:,}; fetch or write it again"
        )
    if size > _MOST_BYTES:
        raise InputError(f"{path}: states {size:,} bytes; at most {_MOST_BYTES:,} are read")


def _scale(
    stored: Shaped[np.ndarray, "..."], header: "Nifti1Header", path: Path
) -> Shaped[np.ndarray, "..."]:
    """Return the values that the stored numbers stand for, in native byte order."""
    try:
        slope, inter = header.get_slope_inter()
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"its header is corrupt: {error}") from error
    if slope is None or (slope, inter) == (1, 0):
        kind = np.dtype(np.float64) if stored.dtype.itemsize > 8 else stored.dtype
        return stored.astype(kind.newbyteorder("="), order="K")
    scaled = np.empty(stored.shape, np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(stored.shape[2]):
            scaled[:, :, k] = stored[:, :, k].astype(np.float64) * slope + inter
    return scaled


def _affine(header: "Nifti1Header") -> Shaped[np.ndarray, "4 4"]:
    try:
        with np.errstate(invalid="ignore"):
            affine = np.array(header.get_best_affine(), dtype=np.float64)
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"its affine is corrupt: {error}") from error
    affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine


def _encode(volume: Volume, path: Path, like: str | os.PathLike[str] | None) -> bytes:
    from nibabel.nifti1 import Nifti1Image

    data = _written_type(volume.data, path)
    if volume.spatial_dims != 3:
        raise InputError(f"{path}: a NIfTI file takes volumes of three axes, not two; write a PNG")
    if max(data.shape) > _LONGEST_AXIS:
        raise InputError(f"{path}: NIfTI-1 takes up to {_LONGEST_AXIS:,} voxels along an axis")
    image = Nifti1Image(data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="unknown" if _shears(volume) else "scanner")
    if like is not None:
        _copy_forms(image, like)
    return image.to_bytes()


def _copy_forms(image: Any, like: str | os.PathLike[str]) -> None:
    import nibabel

    source: Any = nibabel.load(like)
    if np.allclose(source.affine, image.affine, rtol=0, atol=1e-3):
        image.set_sform(*source.get_sform(coded=True))
        image.set_qform(*source.get_qform(coded=True))


def _shears(volume: Volume) -> bool:
    axes = volume.affine[:3, :3] / volume.spacing
    return not np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=1e-4)


def _written_type(data: Shaped[np.ndarray, "..."], path: Path) -> Shaped[np.ndarray, "..."]:
    if data.dtype.kind not in "biuf":
        raise InputError(f"{path}: values of type {data.dtype} cannot be written as NIfTI")
    kind = np.dtype(_WRITTEN.get(data.dtype.str[1:], data.dtype))
    if kind.kind in "iu" and data.dtype.itemsize > 4:
        limits = np.iinfo(kind)
        if data.min() < limits.min or data.max() > limits.max:
            raise InputError(f"{path}: its integers reach beyond {kind}; write floats instead")
    return data.astype(kind, copy=False)


def _deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(level=1, wbits=_GZIP)
    return deflater.compress(content) + deflater.flush()
