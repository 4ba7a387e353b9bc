"""Read and write PNG images: slices of rank 2, without a place in the patient."""

import os
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import atomic_path, reading
from segjax.grid import Grid, grid
from segjax.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["png_grid", "read_png", "write_png"]

_MOST_DEFLATED = 1032  # no byte of a PNG stands for more than this many
_HEADER_BYTES = 33
_GREY = 0  # of the colour types
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY_16 = ("I;16", "I;16B", "I")


def read_png(path: str | os.PathLike[str], *, stored: bool = False) -> Volume:
    """Read a PNG: grey of up to 16 bits, or colours of 8 bits as three channels.

    As a picture, grey of 1, 2 or 4 bits counts as its twin of 8 bits, from 0 to 255, and a palette
    as the colours it stands for. As labels, the values are those that are stored: 0 and 1 of 1
    bit, 0 to 3 of 2, 0 to 15 of 4, and the indices of a palette. Colours that are all grey count
    as grey. The affine is the identity: pixels of 1 mm.

    Args:
        path: File to read.
        stored: Return the stored values, as of labels, rather than the picture.

    Returns:
        Volume of rank 2; uint8 or uint16 of shape ``(row, column)`` or ``(row, column, 3)``.

    Raises:
        InputError: The file is missing, truncated, corrupt or no PNG; it is partly transparent,
            or has colours of 16 bits.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "slice.png"
        >>> write_png(Volume(np.zeros((512, 400), np.uint8), np.eye(3)), path)
        >>> read_png(path).spatial_shape
        (512, 400)

    Source: https://www.w3.org/TR/png-3
    """
    path = Path(path)
    with reading(path) as stream:
        raw = stream.read()
    _check_header(raw[:_HEADER_BYTES], len(raw), path)
    try:
        data = _decode(raw, path, stored)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: is a truncated or corrupt PNG: {error}") from error
    return Volume(data, np.eye(3))


def png_grid(path: str | os.PathLike[str]) -> tuple[Grid, int]:
    """Read the size of a PNG and its channels; of colours, which may all be grey, the pixels too.

    Args:
        path: File to read.

    Returns:
        The grid and the number of channels of what :func:`read_png` returns.

    Raises:
        InputError: As :func:`read_png`, of grey as far as the header shows it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "slice.png"
        >>> write_png(Volume(np.zeros((512, 400), np.uint8), np.eye(3)), path)
        >>> place, channels = png_grid(path)
        >>> place.shape, channels
        ((512, 400), 1)
    """
    path = Path(path)
    with reading(path) as stream:
        head = stream.read(_HEADER_BYTES)
    _check_header(head, path.stat().st_size, path)
    columns, rows, _, colour = struct.unpack(">IIBB", head[16:26])
    if colour == _GREY:
        return Grid((rows, columns), np.eye(3)), 1
    picture = read_png(path)
    return grid(picture), picture.channels


def write_png(volume: Volume, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write integers of rank 2 as a PNG of 8 bits, or 16 where they need them.

    The affine is not stored.

    Args:
        volume: Volume of rank 2; integers in 0 … 65535, or 0 … 255 with three channels.
        path: File to write.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The volume has rank 3, values that are no such integers, or other than one or
            three channels; or the file cannot be written (see
            :func:`segjax.files.atomic_path`).

    Example:
        >>> import tempfile
        >>> mask = Volume(np.eye(64, dtype=bool), np.eye(3))
        >>> write_png(mask, Path(tempfile.mkdtemp()) / "mask.png")
    """
    with needed_for("writing PNG"):
        from PIL import Image

    path = Path(path)
    image = Image.fromarray(_pixels(volume, path))
    with atomic_path(path, overwrite=overwrite) as temporary:
        image.save(temporary, format="PNG")


def _check_header(header: bytes, size: int, path: Path) -> None:
    """Refuse what is no PNG, or states more pixels than a file of ``size`` bytes can hold."""
    if len(header) < 33 or header[:8] != _SIGNATURE or header[12:16] != b"IHDR":
        raise InputError(f"{path}: is no PNG file")
    columns, rows, depth, colour = struct.unpack(">IIBB", header[16:26])
    if columns * rows * depth > 8 * size * _MOST_DEFLATED:
        raise InputError(f"{path}: its header states {columns}×{rows} pixels: more than it holds")
    if depth == 16 and colour != 0:
        raise InputError(f"{path}: has colours or transparency of 16 bits; save it as grey")


def _decode(raw: bytes, path: Path, stored: bool) -> Shaped[np.ndarray, "..."]:
    with needed_for("reading PNG"):
        from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(raw), formats=["PNG"]) as image:
                if stored and image.mode == "P":
                    return np.array(image)
                samples = _samples(image, path)
        except Image.DecompressionBombError as error:
            raise InputError(f"{path}: is too large: {error}") from error
    depth, colour = raw[24], raw[25]
    return samples // (255 // (2**depth - 1)) if stored and (depth < 8 and not colour) else samples


def _samples(image: "Image", path: Path) -> Shaped[np.ndarray, "..."]:
    if image.mode in _GREY_16:
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.array(image.convert("L"))
    colours = np.asarray(image.convert("RGBA"))
    if (colours[..., 3] != 255).any():
        raise InputError(f"{path}: is partly transparent; save it without an alpha channel")
    grey = (colours[..., :1] == colours[..., 1:3]).all()
    return colours[..., 0].copy() if grey else colours[..., :3].copy()


def _pixels(volume: Volume, path: Path) -> Shaped[np.ndarray, "row column *channel"]:
    data = volume.data[..., 0] if volume.data.shape[2:] == (1,) else volume.data
    if volume.spatial_dims != 2 or data.shape[2:] not in ((), (3,)):
        raise InputError(f"{path}: a PNG takes (row, column) or 3 colours, not {data.shape}")
    if data.dtype.kind not in "biu":
        raise InputError(f"{path}: a PNG takes integers, not {data.dtype}; scale and round first")
    low, high = int(data.min()), int(data.max())
    if not 0 <= low <= high <= (255 if data.ndim == 3 else 65535):
        raise InputError(f"{path}: values {low} to {high} do not fit a PNG")
    wide = high > 255 or data.dtype == np.uint16
    return np.ascontiguousarray(data, np.uint16 if wide and data.ndim == 2 else np.uint8)
