"""Read and write NIfTI volumes (``.nii`` and ``.nii.gz``)."""

import logging
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from segjax.errors import InputError
from segjax.files import atomic_path, reading
from segjax.grid import Grid
from segjax.volume import Volume, check_affine

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

__all__ = ["nifti_grid", "read_nifti", "write_nifti"]

_MOST_BYTES = 16 * 2**30  # stated bound on the voxels of one file, decompressed
_MOST_DEFLATED = 1032  # no byte of a gzip file stands for more than this many
_GZIP = 31  # zlib's window bits for a gzip header and its checksum
_GZIP_MARK = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_HEAD_BYTES = 2**18  # of a file, compressed or not, that hold its header
_VOXELS_BEGIN = 352  # in the files that are written
_LONGEST_AXIS = 2**15 - 1  # of NIfTI-1
_MILLIMETRES = {1: 1e3, 3: 1e-3}  # NIfTI's codes for metres and micrometres
_SPACE = 7  # bits of xyzt_units that are for space, not for time
_MM = 2
_SCANNER = 1  # code of coordinates of the scanner; the others go up to 5
_CODES = ("sform_code", "qform_code")
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
_OFFSET = ("qoffset_x", "qoffset_y", "qoffset_z")
_ROWS = ("srow_x", "srow_y", "srow_z")
_FORMS = ("pixdim", *_CODES, *_QUATERNION, *_OFFSET, *_ROWS)  # what places voxels, with the unit
_LONGEST_QUATERNION = 1.01  # of b, c, d; up to here they are a rotation that was rounded
_HALF_TURN = 1e-7  # square of a quaternion's first part that ITK takes for 0
_ITK_ORTHONORMAL = 0.9e-4  # ITK itself allows 1e-4 in float32
_SAME_AFFINE = 1e-3  # mm
_WRITTEN = {  # types that other programs read; NumPy's default integer and float are not among them
    "b1": np.uint8, "i8": np.int32, "u8": np.uint32, "f2": np.float32, "f8": np.float32,
    "f16": np.float32,
}  # fmt: skip


def read_nifti(path: str | os.PathLike[str]) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, compressed or not.

    Voxels are ``stored * scl_slope + scl_inter`` as float32 where the file scales them, else they
    keep their type. The affine is the sform, else the qform, else what nibabel derives from the
    voxel size; metres and micrometres become mm. A 2D file becomes one slice ``(x, y, 1)``. One
    axis of more than one voxel after the third holds channels: the fourth, or the fifth, where
    SimpleITK and TorchIO write vectors.

    Args:
        path: File to read.

    Returns:
        Volume of rank 3; data of shape ``(x, y, z)`` or ``(x, y, z, channel)``.

    Raises:
        InputError: The file is missing, truncated, corrupt, or no NIfTI; its header states a size
            that the file cannot hold, or over 16 GiB; it holds colours, complex numbers or two
            axes of more than one voxel after the third; its affine is not invertible.

    Warns:
        UserWarning: The header had to be mended, such as a voxel size of 0, or an sform that
            places nothing beside a qform that does.

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
    head = _head(raw, len(raw), path)
    content = _inflate(raw, head.size, path, verify=True) if _is_gzip(raw) else raw
    count = int(np.prod(head.shape, dtype=object))
    stored = np.frombuffer(content, head.dtype, count=count, offset=head.offset)
    return Volume(_scale(stored.reshape(head.shape, order="F"), head.scaling), head.affine)


def nifti_grid(path: str | os.PathLike[str]) -> tuple[Grid, int]:
    """Read where the voxels of a NIfTI file lie, and how many channels it has, but no voxel.

    Args:
        path: File to read.

    Returns:
        The grid and the number of channels of what :func:`read_nifti` returns.

    Raises:
        InputError: As :func:`read_nifti`, where the beginning of the file shows it.

    Warns:
        UserWarning: As :func:`read_nifti`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "flair.nii.gz"
        >>> write_nifti(Volume(np.ones((4, 5, 6, 2), np.int16), np.eye(4)), path)
        >>> place, channels = nifti_grid(path)
        >>> place.shape, channels
        ((4, 5, 6), 2)
    """
    path = Path(path)
    with reading(path) as stream:
        raw = stream.read(_HEAD_BYTES)
        head = _head(raw, path.stat().st_size, path)
    return head.grid, (*head.shape, 1)[3]


def write_nifti(
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a volume of rank 3 as NIfTI-1, compressed when the name ends in ``.gz``.

    The affine goes into the sform. The qform is what it can say of it, voxel sizes and the
    nearest rotation, so placed that the centres of both agree: ITK, which takes no sform whose
    axes are not orthonormal to 1e-4, finds voxels there. Types that other programs rarely read
    are changed: bool to uint8, 64-bit integers to 32 bits, float64 and float16 to float32. The
    same volume gives the same bytes.

    Args:
        volume: Volume of rank 3, with or without channels.
        path: File to write, ``.nii`` or ``.nii.gz``.
        like: NIfTI file on the same grid whose header fields of place (qform, sform, their codes,
            voxel sizes and unit) are taken over as they stand, so that every program places both
            files alike, whichever form it follows. They are not where one of them is not finite,
            or ITK opens no file that has them.
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


@dataclass(frozen=True, eq=False)
class _Head:
    """What the beginning of a file says.

    Attributes:
        stored: The header as it stands there.
        shape: Three axes, and channels if any.
        dtype: Type of the stored numbers.
        offset: Byte where they begin.
        scaling: Slope and intercept, None where the stored numbers are the values.
        affine: Voxel index -> mm.
    """

    stored: "Nifti1Header"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None
    affine: Float64[np.ndarray, "4 4"]

    @property
    def size(self) -> int:
        """Bytes of the file, decompressed."""
        return self.offset + self.dtype.itemsize * int(np.prod(self.shape, dtype=object))

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape[:3], self.affine)


def _is_gzip(raw: bytes) -> bool:
    return raw[:2] == _GZIP_MARK


def _head(raw: bytes, length: int, path: Path) -> _Head:
    """Parse the first bytes of a file of ``length`` bytes; warn of what had to be mended."""
    head, notes = _parse(raw, path)
    for note in notes:
        if note.startswith(("pixdim", "qform", "sform")):  # the rest moves no voxel
            warnings.warn(f"{path}: {note}", stacklevel=4)
    _check_size(head.size, length, _is_gzip(raw), path)
    return head


def _parse(raw: bytes, path: Path) -> tuple[_Head, list[str]]:
    """Return the head of a file, and what was mended in it."""
    stored = _stored_header(_inflate(raw, _HEADER_BYTES, path) if _is_gzip(raw) else raw, path)
    header, notes = _mended(stored, path)
    shape, dtype, offset = _layout(header, path)
    scaling, affine = _scaling(header, path), _affine(header, notes, path)
    return _Head(stored, shape, dtype, offset, scaling, affine), notes


def _inflate(raw: bytes, size: int, path: Path, *, verify: bool = False) -> bytes:
    """Decompress at most the first ``size`` bytes of a gzip file of one or more members."""
    parts, missing, rest = [], size, raw
    while missing and rest:
        part, rest = _inflate_member(rest, missing, path, verify)
        parts.append(part)
        missing -= len(part)
    if verify and missing:
        raise InputError(f"{path}: is truncated: {missing:,} bytes of its {size:,} are missing")
    return b"".join(parts)


def _inflate_member(raw: bytes, size: int, path: Path, verify: bool) -> tuple[bytes, bytes]:
    """Decompress at most ``size`` bytes of one member; return them and what comes after it."""
    member = zlib.decompressobj(_GZIP)
    try:
        part = member.decompress(raw, size)
        if verify and len(part) == size:  # go on to the checksum
            member.decompress(member.unconsumed_tail, 2**20)
    except zlib.error as error:
        raise InputError(f"{path}: is corrupt: {error}; fetch or write it again") from error
    if verify and not member.eof and not member.unconsumed_tail:
        raise InputError(f"{path}: is truncated; fetch or write it again")
    return part, member.unused_data


def _stored_header(content: bytes, path: Path) -> "Nifti1Header":
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind: Any = Nifti2Header if Nifti2Header.may_contain_header(content) else Nifti1Header
    try:
        return kind(content[: kind.template_dtype.itemsize], check=False)
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: is no NIfTI file, or its header is corrupt: {error}") from error


def _mended(stored: "Nifti1Header", path: Path) -> tuple["Nifti1Header", list[str]]:
    """Return a mended copy of a header, and what was mended."""
    notes = _Notes(logging.WARNING)
    header = stored.copy()
    try:
        header.check_fix(logger=notes.logger, error_level=logging.ERROR)
        if header["magic"].item()[:2] != b"n+":
            raise ValueError("its voxels are not in the same file")
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: is no NIfTI file, or its header is corrupt: {error}") from error
    return header, notes.messages


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
    return _axes(shape, path), dtype, offset


def _axes(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Return the sizes of three axes of space, and of the channels if any."""
    channels = tuple(n for n in shape[3:] if n > 1)
    if len(channels) > 1:
        raise InputError(
            f"{path}: has shape {shape}; give three axes of space and at most one more of several "
            "voxels, that of the channels"
        )
    return (*shape, 1)[:3] + channels


def _check_size(size: int, length: int, compressed: bool, path: Path) -> None:
    """Refuse, before memory is taken, a size that a file of ``length`` bytes cannot hold."""
    most = length * (_MOST_DEFLATED if compressed else 1)
    if size > most:
        raise InputError(
            f"{path}: is truncated, or its header lies: it states {size:,} bytes, but a file of "
            f"{length:,} bytes holds at most {most:,}; fetch or write it again"
        )
    if size > _MOST_BYTES:
        raise InputError(f"{path}: states {size:,} bytes; at most {_MOST_BYTES:,} are read")


def _scaling(header: "Nifti1Header", path: Path) -> tuple[float, float] | None:
    try:
        slope, inter = header.get_slope_inter()
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: its header is corrupt: {error}") from error
    return None if slope is None or (slope, inter) == (1, 0) else (slope, inter)


def _scale(
    stored: Shaped[np.ndarray, "..."], scaling: tuple[float, float] | None
) -> Shaped[np.ndarray, "..."]:
    """Return the values that the stored numbers stand for, in native byte order."""
    if scaling is None:
        kind = np.dtype(np.float64) if stored.dtype.itemsize > 8 else stored.dtype
        return stored.astype(kind.newbyteorder("="), order="K")
    slope, inter = scaling
    scaled = np.empty(stored.shape, np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(stored.shape[2]):
            scaled[:, :, k] = stored[:, :, k].astype(np.float64) * slope + inter
    return scaled


def _affine(header: "Nifti1Header", notes: list[str], path: Path) -> Float64[np.ndarray, "4 4"]:
    """Return voxel index -> mm; note where the qform stands in for the sform."""
    if header["sform_code"] and header["qform_code"] and not _places(header.get_sform()):
        notes.append("sform places no voxels; the qform is taken instead")
        header["sform_code"] = 0
    _unit_quaternion(header)
    try:
        with np.errstate(invalid="ignore"):
            affine = np.array(header.get_best_affine(), dtype=np.float64)
    except Exception as error:  # nibabel names no closed set of errors
        raise InputError(f"{path}: its affine is corrupt: {error}") from error
    affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & _SPACE, 1.0)
    try:
        check_affine(affine)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return affine


def _places(affine: Float64[np.ndarray, "4 4"]) -> bool:
    try:
        check_affine(affine)
    except InputError:
        return False
    return True


def _unit_quaternion(header: "Nifti1Header") -> None:
    """Shorten a quaternion that rounding made longer than 1, as NIfTI's own library does."""
    parts = np.array([header[name] for name in _QUATERNION], np.float64)
    length = float(np.linalg.norm(parts))
    if 1 < length <= _LONGEST_QUATERNION:
        for name, part in zip(_QUATERNION, parts / length, strict=True):
            header[name] = part


def _encode(volume: Volume, path: Path, like: str | os.PathLike[str] | None) -> bytes:
    from nibabel.nifti1 import Nifti1Header

    data = _written_type(volume.data, path)
    if volume.spatial_dims != 3:
        raise InputError(f"{path}: a NIfTI file takes volumes of three axes, not two; write a PNG")
    if max(data.shape) > _LONGEST_AXIS:
        raise InputError(f"{path}: NIfTI-1 takes up to {_LONGEST_AXIS:,} voxels along an axis")
    header = Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_slope_inter(1, 0)
    header.set_data_offset(_VOXELS_BEGIN)
    for field, value in _forms(volume, like).items():
        header[field] = value
    gap = bytes(_VOXELS_BEGIN - len(header.binaryblock))
    return b"".join([header.binaryblock, gap, data.tobytes(order="F")])


def _forms(volume: Volume, like: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the header fields that place a volume: those of ``like``, or its own."""
    head = None if like is None else _like(like, volume)
    if head is None:
        return _own_forms(volume, _SCANNER)
    copied = _narrowed(head.stored)
    if copied is not None and _opens_in_itk(copied):
        return copied
    codes = [int(head.stored[name]) for name in _CODES]
    return _own_forms(volume, next((code for code in codes if 0 < code <= 5), _SCANNER))


def _like(like: str | os.PathLike[str], volume: Volume) -> _Head | None:
    """Return the head of a NIfTI file on the volume's grid, None where it is none."""
    try:
        with reading(like) as stream:
            head, _ = _parse(stream.read(_HEAD_BYTES), Path(like))
    except InputError:
        return None
    same_shape = head.shape[:3] == volume.spatial_shape
    near = np.allclose(head.affine, volume.affine, rtol=0, atol=_SAME_AFFINE)
    return head if same_shape and near else None


def _narrowed(stored: "Nifti1Header") -> dict[str, Any] | None:
    """Return the fields of place as NIfTI-1 holds them, None where it cannot or they are NaN."""
    from nibabel.nifti1 import header_dtype

    fields: dict[str, Any] = {"xyzt_units": int(stored["xyzt_units"]) & _SPACE}
    for name in _FORMS:
        with np.errstate(over="ignore", invalid="ignore"):
            fields[name] = stored[name].astype(header_dtype[name].base)
    fields["pixdim"][4:] = 1
    if any(int(fields[name]) != int(stored[name]) for name in _CODES):
        return None
    return fields if all(np.isfinite(value).all() for value in fields.values()) else None


def _opens_in_itk(fields: dict[str, Any]) -> bool:
    """Say whether ITK finds a form: the qform, a sform of orthonormal axes, or neither named."""
    if fields["qform_code"] > 0 or fields["sform_code"] <= 0:
        return True
    matrix = np.array([fields[name][:3] for name in _ROWS], np.float64)
    axes = matrix / np.linalg.norm(matrix, axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() <= _ITK_ORTHONORMAL)


def _own_forms(volume: Volume, code: int) -> dict[str, Any]:
    """Return fields that place a volume by its affine, the qform as near to it as it can be."""
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / volume.spacing)
    rotation = left @ right
    hand = np.array([1.0, 1.0, np.sign(np.linalg.det(rotation))])  # NIfTI mirrors the third axis
    quaternion = _quaternion(rotation * hand)
    centre = (np.array(volume.spatial_shape) - 1) / 2
    turned = (_rotation(quaternion) * hand * volume.spacing) @ centre
    offset = volume.affine[:3, :3] @ centre + volume.affine[:3, 3] - turned
    fields: dict[str, Any] = {"xyzt_units": _MM} | dict.fromkeys(_CODES, code)
    fields["pixdim"] = [hand[2], *volume.spacing, 1, 1, 1, 1]
    for names, values in (
        (_QUATERNION, quaternion), (_OFFSET, offset), (_ROWS, volume.affine[:3]),
    ):  # fmt: skip
        fields |= dict(zip(names, values, strict=True))
    return fields


def _quaternion(rotation: Float64[np.ndarray, "3 3"]) -> Float32[np.ndarray, "3"]:
    """Return b, c and d of a rotation; near a half turn, where bits lack, the better rounding."""
    from nibabel.quaternions import mat2quat

    rounded = mat2quat(rotation)[1:].astype(np.float32)
    other, largest = rounded.copy(), np.abs(rounded).argmax()
    other[largest] = np.nextafter(other[largest], np.float32(0))
    return min((rounded, other), key=lambda parts: np.abs(_rotation(parts) - rotation).max())


def _rotation(parts: Float32[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation that ITK takes b, c and d for."""
    from nibabel.quaternions import quat2mat

    exact = parts.astype(np.float64)
    first = 1 - exact @ exact
    return quat2mat([0 if first < _HALF_TURN else np.sqrt(first), *exact])


def _written_type(data: Shaped[np.ndarray, "..."], path: Path) -> Shaped[np.ndarray, "..."]:
    if data.dtype.kind not in "biuf":
        raise InputError(f"{path}: values of type {data.dtype} cannot be written as NIfTI")
    kind = np.dtype(_WRITTEN.get(data.dtype.str[1:], data.dtype)).newbyteorder("=")
    if kind.kind in "iu" and data.dtype.itemsize > 4:
        limits = np.iinfo(kind)
        if data.min() < limits.min or data.max() > limits.max:
            raise InputError(f"{path}: its integers reach beyond {kind}; write floats instead")
    return data.astype(kind, copy=False)


def _deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(level=1, wbits=_GZIP)
    return deflater.compress(content) + deflater.flush()
