"""Cut volumes into patches, and put predictions on patches together again."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped, UInt8
from numpy.typing import ArrayLike

from segjax.data.labels import foreground as foreground_of
from segjax.errors import InputError

__all__ = [
    "draw_corner",
    "extract_patch",
    "foreground_corner",
    "gaussian_window",
    "grid_corners",
    "sample_corner",
    "sliding_window",
    "sliding_windows",
    "to_mask",
    "trailing",
    "uniform_corner",
]

T = TypeVar("T")
Window = Literal["gaussian", "constant"] | Float32[np.ndarray, "*patch"]
Predict = Callable[[np.ndarray], ArrayLike]

_AHEAD = 2  # calls that follow one before its result is looked at
_FEW_LAYERS = 64  # patches over a voxel: three quarters of overlap along three axes


def grid_corners(
    shape: Sequence[int], patch_size: Sequence[int], overlap: float = 0.5
) -> list[tuple[int, ...]]:
    """List the first voxels of overlapping patches that together cover a volume.

    Along each axis patches start every ``max(1, int(patch * (1 - overlap)))`` voxels; the last
    one is moved back so that it ends with the volume. Where the volume is smaller than the patch
    there is one patch, centred on the volume, and its corner is negative.

    Args:
        shape: Size of the volume, in voxels.
        patch_size: Size of a patch, in voxels.
        overlap: Fraction of a patch shared with the next one, in [0, 1).

    Returns:
        The corners, the last axis varying fastest.

    Raises:
        InputError: Where ranks differ, a patch is empty or the overlap is out of range.

    Example:
        >>> grid_corners((10,), (4,), 0.5)
        [(0,), (2,), (4,), (6,)]
        >>> grid_corners((10, 3), (4, 5), 0.0)
        [(0, -1), (4, -1), (6, -1)]

    Source:
        The scan of ``monai.inferers.sliding_window_inference``.
    """
    _check_patch(shape, patch_size)
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap} is out of range: give a fraction in [0, 1)")
    axes = [_axis_corners(n, p, overlap) for n, p in zip(shape, patch_size, strict=True)]
    return list(itertools.product(*axes))


def gaussian_window(
    patch_size: Sequence[int], *, sigma: float = 0.125, floor: float = 0.001
) -> Float32[np.ndarray, "*patch"]:
    """Weigh the voxels of a patch by their closeness to its centre.

    The weight is exp(-Σ x_i² / 2σ_i²), where x_i is the distance from the centre in voxels and
    σ_i = sigma · patch_i; lower ones than the floor become it, so that no voxel is left without
    weight.

    Args:
        patch_size: Size of the patch, in voxels.
        sigma: Standard deviation, as a share of the patch.
        floor: The least weight.

    Returns:
        Weights in [floor, 1].

    Example:
        >>> gaussian_window((3,)).astype(float).round(3).tolist()
        [0.029, 1.0, 0.029]

    Source:
        ``monai.data.utils.compute_importance_map``; Isensee et al., nnU-Net, 2021.
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n * sigma)) ** 2) for n in patch_size]
    window = np.ones((), np.float64)
    for axis in axes:
        window = window[..., None] * axis
    return np.maximum(window, floor).astype(np.float32)


def extract_patch(
    array: Shaped[np.ndarray, "*shape"],
    corner: Sequence[int],
    patch_size: Sequence[int],
    *,
    fill: float = 0.0,
) -> Shaped[np.ndarray, "*patch"]:
    """Copy one patch out of a volume; what lies outside the volume gets the fill value.

    Args:
        array: ``(*spatial)`` or ``(*spatial, channel)``.
        corner: Index of the patch's first voxel; may be negative or lie past the end.
        patch_size: Size of the patch, one number per spatial axis.
        fill: Value outside the volume.

    Returns:
        A new array ``(*patch_size)`` or ``(*patch_size, channel)`` of the same type.

    Example:
        >>> extract_patch(np.arange(4), (-1,), (3,), fill=9.0).tolist()
        [9, 0, 1]
    """
    rank = len(patch_size)
    shape = (*patch_size, *array.shape[rank:])
    inside, outside = _overlap(array.shape[:rank], corner, patch_size)
    if array[outside].shape == shape:
        return np.array(array[outside])
    patch = np.full(shape, fill, array.dtype)
    patch[inside] = array[outside]
    return patch


def sample_corner(
    rng: np.random.Generator,
    label: Integer[np.ndarray, "*spatial"],
    patch_size: Sequence[int],
    foreground: float,
) -> tuple[int, ...]:
    """Draw the corner of a training patch, with lesions more often than chance would.

    With probability ``foreground`` the patch is drawn around a random foreground voxel
    (:func:`foreground_corner`), otherwise, or where the label is empty, anywhere in the volume
    (:func:`uniform_corner`).

    Args:
        rng: Source of randomness.
        label: Label map; foreground is every value but 0 and 255, which counts for nothing.
        patch_size: Size of the patch, in voxels.
        foreground: Probability in [0, 1].

    Returns:
        The index of the patch's first voxel, for :func:`extract_patch`.

    Example:
        >>> label = np.zeros((64, 64), np.uint8)
        >>> label[60, 2] = 1
        >>> corner = sample_corner(np.random.default_rng(0), label, (8, 8), 1.0)
        >>> int(extract_patch(label, corner, (8, 8)).max())
        1
    """
    voxels = np.flatnonzero(foreground_of(label))
    return draw_corner(rng, label.shape, voxels, patch_size=patch_size, foreground=foreground)


def draw_corner(
    rng: np.random.Generator,
    shape: Sequence[int],
    voxels: Integer[np.ndarray, " voxels"],
    *,
    patch_size: Sequence[int],
    foreground: float,
) -> tuple[int, ...]:
    """Draw as :func:`sample_corner` does, from foreground voxels that were listed before.

    Args:
        rng: Source of randomness.
        shape: Size of the volume, in voxels.
        voxels: Flat (C-order) indices of the foreground voxels; may be empty. One is read, so
            that they may be a memory map.
        patch_size: Size of the patch, in voxels.
        foreground: Probability in [0, 1].

    Returns:
        The index of the patch's first voxel.

    Example:
        >>> draw_corner(
        ...     np.random.default_rng(0), (9,), np.array([8]), patch_size=(3,), foreground=1.0
        ... )
        (6,)
    """
    if rng.random() < foreground and voxels.size:
        voxel = np.unravel_index(int(voxels[rng.integers(voxels.size)]), tuple(shape))
        return foreground_corner(rng, [int(v) for v in voxel], shape, patch_size)
    return uniform_corner(rng, shape, patch_size)


def foreground_corner(
    rng: np.random.Generator, voxel: Sequence[int], shape: Sequence[int], patch_size: Sequence[int]
) -> tuple[int, ...]:
    """Draw the corner of a patch that holds a voxel, most often near its middle.

    The patch's centre lies uniformly within a quarter of the patch of the voxel; then the patch
    is moved into the volume. Where the volume is smaller than the patch, the patch is moved so
    that it holds the whole volume.

    Args:
        rng: Source of randomness.
        voxel: Index of the voxel.
        shape: Size of the volume, in voxels.
        patch_size: Size of the patch, in voxels.

    Returns:
        The index of the patch's first voxel.

    Example:
        >>> foreground_corner(np.random.default_rng(0), (8,), (9,), (3,))
        (6,)
    """
    corner = []
    for v, n, p in zip(voxel, shape, patch_size, strict=True):
        jitter = int(rng.integers(-(p // 4), p // 4, endpoint=True))
        corner.append(min(max(v - p // 2 + jitter, min(0, n - p)), max(0, n - p)))
    return tuple(corner)


def uniform_corner(
    rng: np.random.Generator, shape: Sequence[int], patch_size: Sequence[int]
) -> tuple[int, ...]:
    """Draw the corner of a patch uniformly among all that lie in the volume.

    Where the volume is smaller than the patch, uniformly among all patches that hold the whole
    volume; such corners are negative or 0.

    Args:
        rng: Source of randomness.
        shape: Size of the volume, in voxels.
        patch_size: Size of the patch, in voxels.

    Returns:
        The index of the patch's first voxel.

    Example:
        >>> uniform_corner(np.random.default_rng(0), (9, 4), (9, 4))
        (0, 0)
    """
    _check_patch(shape, patch_size)
    return tuple(
        int(rng.integers(min(0, n - p), max(0, n - p), endpoint=True))
        for n, p in zip(shape, patch_size, strict=True)
    )


def sliding_window(
    image: Float[np.ndarray, "*spatial channel"],
    predict: Predict,
    *,
    patch_size: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 1,
    window: Window = "gaussian",
) -> Float32[np.ndarray, "*spatial class"]:
    """Predict a volume patch by patch, and average where patches overlap.

    The result at a voxel is Σ w·p / Σ w over the patches that hold it, where p is the prediction
    and w the window; sums are float32, or float64 where over 64 patches hold a voxel. Every call
    of ``predict`` gets a full batch (the last one repeats its last patch), so that compiled
    functions see a single shape. Volumes smaller than the patch are padded with zeros on both
    sides. Memory is that of the result, a few batches, and the sums over a slab of the volume that
    is as thick as a patch.

    Args:
        image: Volume of any rank.
        predict: Maps ``(batch, *patch, channel)`` float32 to ``(batch, *patch, class)``.
        patch_size: Size of a patch, in voxels, one number per spatial axis.
        overlap: Fraction of a patch shared with the next one, in [0, 1).
        batch_size: Patches per call.
        window: Weights of a patch's voxels: ``"gaussian"`` (:func:`gaussian_window`),
            ``"constant"`` or an array.

    Returns:
        The weighted average.

    Raises:
        InputError: Where patch size, overlap, batch size or window cannot be used.
        ValueError: Where ``predict`` returns another shape than promised.

    Example:
        >>> image = np.random.default_rng(0).random((20, 30, 1), np.float32)
        >>> result = sliding_window(image, lambda patches: 2 * patches, patch_size=(8, 8))
        >>> bool(np.allclose(result, 2 * image))
        True

    Source:
        ``monai.inferers.sliding_window_inference``, which gives the same numbers.
    """
    return next(
        sliding_windows(
            [image],
            predict,
            patch_size=patch_size,
            overlap=overlap,
            batch_size=batch_size,
            window=window,
        )
    )


def sliding_windows(
    images: Iterable[Float[np.ndarray, "..."]],
    predict: Predict,
    *,
    patch_size: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 1,
    window: Window = "gaussian",
) -> Iterator[Float32[np.ndarray, "..."]]:
    """Predict volumes one after another, as :func:`sliding_window` does.

    Patches of one volume and the next share batches, so that but the last of all is full, however
    few patches a volume has. What ``predict`` returns is looked at after the next two calls, so
    that where it is the promise of an array, as of JAX, patches are cut and averaged while the
    device computes; volumes are taken from ``images`` as far ahead.

    Args:
        images: Volumes ``(*spatial, channel)``, of any shapes.
        predict: As of :func:`sliding_window`, like the other options.
        patch_size: Size of a patch, in voxels, one number per spatial axis.
        overlap: Fraction of a patch shared with the next one, in [0, 1).
        batch_size: Patches per call.
        window: Weights of a patch's voxels.

    Yields:
        The weighted average of each volume.

    Example:
        >>> images = [np.ones((size, 8, 1), np.float32) for size in (5, 9)]
        >>> found = sliding_windows(images, lambda patches: 2 * patches, patch_size=(4, 4))
        >>> [(one.shape, float(one.mean())) for one in found]
        [((5, 8, 1), 2.0), ((9, 8, 1), 2.0)]
    """
    weights, cut = _window(window, patch_size), deque[tuple[Any, Any]]()

    def patches() -> Iterator[np.ndarray]:
        for image in images:
            corners = grid_corners(image.shape[:-1], patch_size, overlap)
            cut.append((image.shape[:-1], corners))
            yield from (extract_patch(image, corner, patch_size) for corner in corners)

    predictions = _predict_patches(patches(), predict, batch_size)
    for first in predictions:
        shape, corners = cut.popleft()
        own = itertools.chain([first], itertools.islice(predictions, len(corners) - 1))
        yield _average(shape, corners, own, weights)


def trailing(items: Iterable[T], ahead: int = _AHEAD) -> Iterator[T]:
    """Yield each item once the next ones have been made, as far as there are any.

    So a result is waited for while others are under way.

    Args:
        items: Made when they are asked for.
        ahead: How many are made before the first of them is yielded.

    Example:
        >>> made = []
        >>> for item in trailing((made.append(i) or i for i in range(4)), ahead=1):
        ...     print(item, made)
        0 [0, 1]
        1 [0, 1, 2]
        2 [0, 1, 2, 3]
        3 [0, 1, 2, 3]
    """
    underway = deque[T]()
    for item in items:
        underway.append(item)
        if len(underway) > ahead:
            yield underway.popleft()
    yield from underway


def to_mask(probabilities: Float[Any, "*spatial class"]) -> UInt8[Any, "*spatial"]:
    """Choose the label of each voxel.

    Args:
        probabilities: One per label, or a single one for the foreground; of NumPy or JAX.

    Returns:
        The most probable label (the lowest of equals); with a single class, 1 where it is over
        one half.

    Example:
        >>> to_mask(np.array([[0.4], [0.6]])).tolist()
        [0, 1]
        >>> to_mask(np.array([[0.4, 0.5, 0.1]])).tolist()
        [1]
    """
    if (classes := probabilities.shape[-1]) <= 2:  # several times faster than argmax
        least = 0.5 if classes == 1 else probabilities[..., 0]
        return (probabilities[..., -1] > least).astype(np.uint8)
    return probabilities.argmax(axis=-1).astype(np.uint8)


class _Slab:
    """Weighted sums over the part of a volume that patches still reach.

    They have channels first, in which order networks answer, and the weights' own last: added up
    in the same order, so that the average of equal values is that value.
    """

    def __init__(
        self,
        shape: Sequence[int],
        corners: Sequence[tuple[int, ...]],
        weights: np.ndarray,
        classes: int,
    ):
        self._shape, self._first, self._weights = shape, 0, weights
        reach = (min(shape[0], len(weights)), *shape[1:])
        self._sums = np.zeros((classes + 1, *reach), _kind_of_sums(corners, weights))
        self._weighted = np.empty(weights.shape, np.float32)

    def add(self, corner: Sequence[int], prediction: np.ndarray) -> None:
        """Add a patch."""
        inside, (rows, *columns) = _overlap(self._shape, corner, self._weights.shape)
        outside = (slice(rows.start - self._first, rows.stop - self._first), *columns)
        weights, weighted = self._weights[inside], self._weighted[inside]
        for sums, values in zip(self._sums, np.moveaxis(prediction, -1, 0), strict=False):
            np.multiply(values[inside], weights, out=weighted, casting="same_kind")
            sums[outside] += weighted  # one channel a time: NumPy is slow on more than three axes
        self._sums[-1][outside] += weights

    def pop(self, stop: int, out: np.ndarray) -> None:
        """Write the average of all rows before one, and move on to it."""
        done = stop - self._first
        for channel, sums in enumerate(self._sums[:-1]):
            rows = out[self._first : stop, ..., channel]
            np.divide(sums[:done], self._sums[-1, :done], out=rows, casting="same_kind")
        for sums in self._sums:
            left = len(sums) - done
            sums[:left] = sums[done:].copy()
            sums[left:] = 0
        self._first = stop


def _kind_of_sums(corners: Sequence[tuple[int, ...]], weights: np.ndarray) -> type[np.floating]:
    """Return the type that sums are kept in: rounding grows with the patches over a voxel."""
    layers = 1.0
    for starts, size in zip(zip(*corners, strict=True), weights.shape, strict=True):
        steps = np.diff(sorted({*starts}))
        layers *= size / steps[0] if len(steps) else 1
    return np.float32 if layers <= _FEW_LAYERS else np.float64


def _average(
    shape: Sequence[int],
    corners: Sequence[tuple[int, ...]],
    predictions: Iterator[np.ndarray],
    weights: np.ndarray,
) -> np.ndarray:
    """Average overlapping patches, whose corners rise along the first axis."""
    first = next(predictions)
    if len(corners) == 1:
        inside, _ = _overlap(shape, corners[0], weights.shape[:-1])
        return first[inside].astype(np.float32)
    average = np.empty((*shape, first.shape[-1]), np.float32)
    slab = _Slab(shape, corners, weights[..., 0], first.shape[-1])
    placed = zip(corners, itertools.chain([first], predictions), strict=True)
    stops = [*sorted({corner[0] for corner in corners})[1:], shape[0]]
    for stop, (_, patches) in zip(stops, itertools.groupby(placed, lambda p: p[0][0]), strict=True):
        for corner, prediction in patches:
            slab.add(corner, prediction)
        slab.pop(stop, average)
    return average


def _predict_patches(
    patches: Iterator[np.ndarray], predict: Predict, batch_size: int
) -> Iterator[np.ndarray]:
    """Predict patch after patch, a full batch at a time."""
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is no positive number")
    batches = iter(lambda: list(itertools.islice(patches, batch_size)), [])
    for count, shape, result in trailing(_call(predict, batch, batch_size) for batch in batches):
        predictions = np.asarray(result)
        if predictions.ndim != len(shape) or predictions.shape[:-1] != shape[:-1]:
            raise ValueError(
                f"predict returned shape {predictions.shape} for patches of shape {shape}: all "
                "axes but the last must agree"
            )
        yield from predictions[:count]


def _call(
    predict: Predict, batch: Sequence[np.ndarray], batch_size: int
) -> tuple[int, tuple[int, ...], ArrayLike]:
    """Begin to predict some patches, and return their number and shape with the promise."""
    full = np.stack([*batch, *[batch[-1]] * (batch_size - len(batch))])
    return len(batch), full.shape, predict(full.astype(np.float32, copy=False))


def _window(window: str | np.ndarray, patch_size: Sequence[int]) -> np.ndarray:
    if isinstance(window, np.ndarray):
        return window[..., None]
    if window == "gaussian":
        return gaussian_window(patch_size)[..., None]
    if window == "constant":
        return np.ones((*patch_size, 1), np.float32)
    raise InputError(f"unknown window '{window}': use 'gaussian' or 'constant'")


def _axis_corners(size: int, patch: int, overlap: float) -> list[int]:
    if size <= patch:
        return [-((patch - size) // 2)]
    step = max(1, int(patch * (1 - overlap)))
    count = math.ceil((size - patch) / step) + 1
    return [min(i * step, size - patch) for i in range(count)]


def _overlap(
    shape: Sequence[int], corner: Sequence[int], patch_size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return what a patch and a volume share, as slices of the patch and of the volume."""
    axes = list(zip(shape, corner, patch_size, strict=True))
    bounds = [(max(c, 0), max(min(c + p, n), c, 0)) for n, c, p in axes]
    outside = tuple(slice(start, stop) for start, stop in bounds)
    inside = tuple(
        slice(start - c, stop - c) for (start, stop), c in zip(bounds, corner, strict=True)
    )
    return inside, outside


def _check_patch(shape: Sequence[int], patch_size: Sequence[int]) -> None:
    if len(shape) != len(patch_size) or min(patch_size, default=1) < 1:
        raise InputError(
            f"patch size {tuple(patch_size)} does not fit a volume of shape {tuple(shape)}: "
            "give one positive number per axis"
        )
