"""Files, volumes and arrays, as they are given to be segmented."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import Source, read_image
from segjax.errors import InputError
from segjax.text import plural, unknown
from segjax.volume import Volume
from segjax_onnx.predict.metadata import ModelMetadata

__all__ = ["Affine", "Image", "check_missing", "name_of", "placed", "read"]

Image = Source | Sequence[Source] | Volume | Shaped[np.ndarray, "..."]
Affine = Float[np.ndarray, "_ _"]


def placed(
    array: Shaped[np.ndarray, "*shape"],
    affine: Affine | None,
    metadata: ModelMetadata,
    missing: Sequence[str] = (),
) -> Volume:
    """Give an array its place; the last axis holds channels where there are as many."""
    rank, channels = metadata.spatial_dims, metadata.in_channels - len(missing)
    if array.dtype.kind not in "biuf":
        raise InputError(f"the array holds {array.dtype}, but an image has real numbers")
    if affine is not None:
        return Volume(array, affine)
    with_channels = array.ndim > rank and array.shape[-1] == channels
    axes = array.ndim - with_channels
    if axes not in (rank, 3):
        one = " or without that axis" if channels == 1 else ""
        raise InputError(
            f"an array of shape {array.shape}: {metadata.model} takes {rank} spatial axes "
            f"and then {plural(channels, 'channel')}{one}"
        )
    return Volume(array, np.eye(axes + 1))


def read(
    image: Source | Sequence[Source] | Volume,
    metadata: ModelMetadata,
    missing: Sequence[str] = (),
) -> Volume:
    """Return an image as a network takes it, with zeros for the channels that are missing.

    Raises:
        InputError: It cannot be read, has other channels or fewer axes, or holds NaN.
    """
    rank, channels = metadata.spatial_dims, metadata.in_channels - len(missing)
    volume = _finite(image) if isinstance(image, Volume) else read_image(image, channels=channels)
    if volume.channels != channels:
        raise InputError(
            f"{name_of(image)}: {plural(volume.channels, 'channel')}; the network takes {channels}"
        )
    if volume.spatial_dims < rank:
        raise InputError(
            f"{name_of(image)}: a 2D image of shape {volume.spatial_shape}, but the network takes "
            "volumes: give it NIfTI files"
        )
    if not missing:
        return volume
    data = np.zeros((*volume.spatial_shape, metadata.in_channels), volume.data.dtype)
    data[..., [name not in missing for name in metadata.channels]] = volume.channels_last
    return volume.with_data(data)


def check_missing(missing: Sequence[str], metadata: ModelMetadata) -> None:
    """Refuse channels that may not be missing, and images without any.

    Raises:
        InputError: The file does not say that they may; or all are missing.
    """
    for name in missing:
        if name not in metadata.optional_channels:
            raise InputError(unknown("optional channel", name, metadata.optional_channels))
    if len(set(missing)) == metadata.in_channels:
        raise InputError(f"channels {', '.join(missing)}: all are missing; one must be there")


def name_of(image: Source | Sequence[Source] | Volume) -> str:
    """Call an image by its files, for messages."""
    if isinstance(image, Volume):
        return "the volume"
    if isinstance(image, str | Path | Series):
        return str(image)
    return ", ".join(map(str, image)) if isinstance(image, Sequence) else str(image)


def _finite(volume: Volume) -> Volume:
    wrong = volume.data.size - np.count_nonzero(np.isfinite(volume.data))
    if wrong:
        raise InputError(f"the volume holds {wrong} NaN or infinite values; replace them")
    return volume
