"""Give images of one kind the same histogram: standardisation by landmarks, after Nyúl."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Real

from segjax.data.prepare.intensity import Voxels, choose
from segjax.errors import InputError
from segjax.files import atomic_path, reading
from segjax.volume import Volume

__all__ = [
    "check_landmarks",
    "landmark_percentiles",
    "read_landmarks",
    "standardize",
    "train_landmarks",
    "write_landmarks",
]

Cutoff = tuple[int | float, int | float]

_CUTOFF: Cutoff = (0.01, 0.99)
_SCALE = 100.0  # standard scale: 0 to 100
_LANDMARKS = 13
_USED = [
    0,
    1,
    2,
    4,
    5,
    6,
    7,
    8,
    10,
    11,
    12,
]  # of the landmarks; the quartiles but the median are not
_FLAT = 1e-5  # two percentiles that differ by less count as one
_BLOCK = 2**18  # voxels that are mapped at once


def train_landmarks(
    images: Iterable[Volume], *, where: Voxels = "all", cutoff: Cutoff = _CUTOFF
) -> Float64[np.ndarray, "channel 13"]:
    """Train the landmarks of a standard histogram, for each channel apart.

    Each image's percentiles ``p_1 … p_13`` (:func:`landmark_percentiles`) are mapped linearly to
    the standard scale, so that ``p_1`` becomes 0 and ``p_13`` becomes 100; landmark j is the mean
    of the mapped ``p_j`` over all images. One image is held at a time.

    Args:
        images: Images of equally many channels, in any order and of any shapes.
        where: Voxels of each channel that count, as for :func:`intensity.choose`.
        cutoff: Quantiles that become 0 and 100: the first one 0 to 0.09, the second 0.91 to 1.

    Returns:
        Landmarks, from 0 to 100 in each channel.

    Raises:
        InputError: There is no image, numbers of channels differ, no voxel of an image is chosen,
            its values are not finite or do not differ, or the cutoff is out of range.

    Example:
        >>> ramp = Volume(np.arange(101.0).reshape(1, 101), np.eye(3))
        >>> train_landmarks([ramp])[0, :4].round(2).tolist()
        [0.0, 9.18, 19.39, 24.49]

    Source: L. G. Nyúl, J. K. Udupa and X. Zhang, "New variants of a method of MRI scale
        standardization", IEEE Trans Med Imaging 19 (2000) 143-150; the method is of L. G. Nyúl
        and J. K. Udupa, "On standardizing the MR image intensity scale", Magn Reson Med 42 (1999)
        1072-1081. Equals TorchIO 1.x's ``HistogramStandardization.train``.
    """
    percentiles = landmark_percentiles(cutoff)
    total, count = np.zeros((0, _LANDMARKS)), 0
    for count, image in enumerate(images, start=1):
        data = image.channels_last
        if count == 1:
            total = np.zeros((data.shape[-1], _LANDMARKS))
        if data.shape[-1] != len(total):
            raise InputError(f"image {count} has {data.shape[-1]} channels, the first {len(total)}")
        for c in range(len(total)):
            where_it_is = f"image {count}, channel {c}"
            total[c] += _mapped(_percentiles(data[..., c], where, percentiles, where_it_is))
    if not count:
        raise InputError("no image to train landmarks on: give at least one")
    return total / count


def standardize(
    data: Real[np.ndarray, "*spatial channel"],
    landmarks: Real[np.ndarray, "_ 13"],
    *,
    where: Voxels = "all",
    cutoff: Cutoff = _CUTOFF,
) -> Float32[np.ndarray, "*spatial channel"]:
    """Map the histogram of each channel to the standard one.

    Piecewise linear from the image's percentiles to the landmarks; the 25th and 75th are trained,
    but not used. Values beyond the outermost percentiles go on along the outermost pieces. Where
    two percentiles are equal, values between them become the lower landmark.

    Args:
        data: Image of any intensities.
        landmarks: What :func:`train_landmarks` returned.
        where: Voxels of each channel that its percentiles are taken from; all are mapped.
        cutoff: As in the training.

    Returns:
        The image on the standard scale: about 0 to 100, and beyond at the ends.

    Raises:
        InputError: The landmarks fit neither image nor method, no voxel is chosen, or the chosen
            values are not finite or do not differ.

    Example:
        >>> ramp = np.arange(101.0)[:, None]
        >>> landmarks = train_landmarks([Volume(ramp[None], np.eye(3))])
        >>> standardize(ramp, landmarks)[[1, 50, 99], 0].round(2).tolist()
        [0.0, 50.0, 100.0]

    Source: As :func:`train_landmarks`; equals TorchIO 1.x's ``HistogramStandardization``. (There,
        percentiles that differ by less than 1e-5 count as equal; here, where the outermost ones
        differ by less than 1, by less than 1e-5 of that difference.)
    """
    landmarks = check_landmarks(landmarks)
    if len(landmarks) != data.shape[-1]:
        raise InputError(
            f"landmarks of {len(landmarks)} channels do not fit an image of shape {data.shape}, "
            "whose last axis is that of the channels"
        )
    percentiles = landmark_percentiles(cutoff)
    result = np.empty(data.shape, np.float32)
    for c, marks in enumerate(landmarks):
        found = _percentiles(data[..., c], where, percentiles, f"the image, channel {c}")
        result[..., c] = _map(data[..., c], found[_USED], marks[_USED])
    return result


def landmark_percentiles(cutoff: Cutoff = _CUTOFF) -> Float64[np.ndarray, "13"]:
    """Return the percentiles at which landmarks lie: the cutoff, the deciles and the quartiles.

    Args:
        cutoff: First and last as quantiles: the first one 0 to 0.09, the second 0.91 to 1.

    Returns:
        Percentiles, 0 to 100, ascending.

    Raises:
        InputError: The cutoff is out of range.

    Example:
        >>> landmark_percentiles().tolist()
        [1.0, 10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 90.0, 99.0]
    """
    low, high = cutoff
    if not 0 <= low <= 0.09 or not 0.91 <= high <= 1:
        raise InputError(f"cutoff {low} and {high}: give quantiles 0 to 0.09, and 0.91 to 1")
    return np.sort(np.array([100 * low, 100 * high, 25, 75, *range(10, 100, 10)], np.float64))


def check_landmarks(landmarks: Any) -> Float64[np.ndarray, "channel 13"]:
    """Return landmarks as an array, or refuse them.

    Args:
        landmarks: Numbers, 13 per channel; one channel may come without its axis.

    Returns:
        Landmarks, one row per channel.

    Raises:
        InputError: They are not 13 finite numbers per channel that do not decrease, or all equal.

    Example:
        >>> check_landmarks(range(13)).shape
        (1, 13)
    """
    try:
        marks = np.array(landmarks, np.float64)
    except (TypeError, ValueError):
        marks = np.empty(0)
    marks = marks[None] if marks.ndim == 1 else marks
    if marks.ndim != 2 or marks.shape[1] != _LANDMARKS or not len(marks):
        raise InputError(f"landmarks of shape {marks.shape}: give {_LANDMARKS} for every channel")
    for row in marks:
        if not np.isfinite(row).all() or (np.diff(row) < 0).any() or row[0] == row[-1]:
            raise InputError(f"landmarks {row.tolist()} do not ascend: train them on other images")
    return marks


def write_landmarks(
    landmarks: Real[np.ndarray, "channel 13"], path: str | Path, *, overwrite: bool = False
) -> None:
    """Write landmarks as NumPy or JSON file.

    Args:
        landmarks: What :func:`train_landmarks` returned.
        path: File to write, ``.npy`` or ``.json``.
        overwrite: Replace a file that exists.

    Raises:
        InputError: The suffix is another one, the landmarks are none, or the file exists or
            cannot be written.

    Example:
        >>> write_landmarks(np.arange(13.0)[None], "landmarks.json")
        >>> read_landmarks("landmarks.json").shape
        (1, 13)
    """
    marks, path = check_landmarks(landmarks), Path(path)
    if path.suffix not in (".npy", ".json"):
        raise InputError(f"{path}: landmarks are written as .npy or .json")
    with atomic_path(path, overwrite=overwrite) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, marks)
        else:
            temporary.write_text(json.dumps(marks.tolist()) + "\n", encoding="utf-8")


def read_landmarks(path: str | Path) -> Float64[np.ndarray, "channel 13"]:
    """Read landmarks that :func:`write_landmarks` or TorchIO (as ``.npy``) wrote.

    Args:
        path: File to read, ``.npy`` or ``.json``.

    Returns:
        Landmarks, one row per channel.

    Raises:
        InputError: The file is missing, or holds no landmarks.

    Example:
        >>> np.save("landmarks.npy", np.arange(13.0)[None])
        >>> read_landmarks("landmarks.npy").shape
        (1, 13)
    """
    with reading(path) as stream:
        try:
            if Path(path).suffix == ".json":
                return check_landmarks(json.load(stream))
            return check_landmarks(np.load(stream, allow_pickle=False))
        except (InputError, EOFError) as error:
            raise InputError(f"{path}: holds no landmarks: {error}") from error
        except ValueError as error:
            raise InputError(f"{path}: is no file of landmarks: {error}") from error


def _percentiles(
    channel: Real[np.ndarray, "*spatial"],
    where: Voxels,
    percentiles: Float64[np.ndarray, "13"],
    name: str,
) -> Float64[np.ndarray, "13"]:
    chosen = choose(channel.astype(np.float32, copy=False), where)
    if not chosen.size:
        raise InputError(f"{name}: no voxel is chosen to take percentiles from: change the mask")
    found = np.percentile(chosen, percentiles).astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError(f"{name}: holds values that are NaN or infinite; mend them first")
    if not found[0] < found[-1]:
        raise InputError(
            f"{name}: the chosen voxels have the same value, {found[0]:g}, from percentile "
            f"{percentiles[0]:g} to {percentiles[-1]:g}: there is no histogram to standardise"
        )
    return found


def _mapped(found: Float64[np.ndarray, "13"]) -> Float64[np.ndarray, "13"]:
    """Map percentiles linearly to 0 … 100."""
    return (found - found[0]) * (_SCALE / (found[-1] - found[0]))


def _map(
    channel: Real[np.ndarray, "*spatial"],
    found: Float64[np.ndarray, "used"],
    marks: Float64[np.ndarray, "used"],
) -> Float32[np.ndarray, "*spatial"]:
    """Map each value along the piece it lies on, block by block."""
    widths = np.diff(found)
    widths[widths < _FLAT * min(1.0, found[-1] - found[0])] = np.inf
    slopes = np.diff(marks) / widths
    intercepts = marks[:-1] - slopes * found[:-1]
    values = channel.reshape(-1)
    result = np.empty(values.shape, np.float32)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float32, copy=False)
        piece = np.digitize(block, found[1:-1])
        result[start : start + _BLOCK] = slopes[piece] * block + intercepts[piece]
    return result.reshape(channel.shape)
