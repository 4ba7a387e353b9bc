"""Blur images."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int, Num

from segjax.data.augment._arrays import as_float
from segjax.data.augment._axes import multiply_lines
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_pairs,
    check_spacing,
    long_axes,
    spacing_of,
    uniform_by_axis,
)

_TRUNCATE = 4.0  # standard deviations after which the kernel ends, as in SciPy
_BLOCK = 16  # rows of a filter's matrix that NumPy multiplies at a time


@dataclass(frozen=True)
class Blur(IntensityTransform):
    """Convolve the image with a Gaussian.

    The kernel of each axis ends at 4 standard deviations; behind its borders the image goes on
    mirrored, the outermost voxels repeated.

    Args:
        std: Bounds ``(low, high)`` of the standard deviation along every axis in mm, drawn
            uniformly for each; or ``(low, high, low, high, ...)``, a pair per axis.
        spacing: Distance between voxels along each axis in mm; when empty, that of the image where
            a loader knows it, else 1 mm.
        probability: Of the image being blurred, in [0, 1].

    Raises:
        InputError: Where bounds, spacing or probability are out of range.

    Example:
        >>> point = np.array([[0], [0], [0], [1], [0], [0], [0]], np.float32)
        >>> blurred = Blur().apply(point, {"std": np.ones(1, np.float32)}, np)
        >>> (100 * blurred).round().ravel().tolist()
        [0.0, 5.0, 24.0, 40.0, 24.0, 5.0, 0.0]

    Source:
        ``torchio.RandomBlur``, which is ``scipy.ndimage.gaussian_filter``.
    """

    name: ClassVar[str] = "blur"
    std: tuple[float, ...] = (0.0, 2.0)
    spacing: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pairs(self, "std", least=0.0)
        check_spacing(self)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``std``: the standard deviation along each axis, in voxels."""
        std = uniform_by_axis(rng, self, "std", long_axes(shape))
        return {"std": std / np.array(spacing_of(self, len(std)), np.float32)}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return standard deviations of 0."""
        return {"std": np.zeros(len(shape) - 1, np.float32)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Blur the image; JAX cuts kernels at 4 times the greatest std that can be drawn."""
        image = as_float(image, xp)
        largest = self._largest(image.ndim - 1)
        for axis in np.flatnonzero(long_axes(image.shape)).tolist():
            std = parameters["std"][axis]
            radius = _radius(std if xp is np else largest[axis])
            kernel = _kernel(std, int(radius), xp).astype(image.dtype)
            lines = image.reshape(int(np.prod(image.shape[:axis])), image.shape[axis], -1)
            blurred = _multiplied(lines, kernel) if xp is np else _shifted(lines, kernel, xp)
            image = blurred.reshape(image.shape)
        return image

    def _largest(self, rank: int) -> Float32[np.ndarray, " rank"]:
        """Return the greatest standard deviation along each axis, in voxels."""
        bounds = np.resize(self.std[1::2], rank)
        return (bounds / spacing_of(self, rank)).astype(np.float32)


def _radius(std: Float[Any, ""]) -> Float[Any, ""]:
    return np.float32(_TRUNCATE) * std + np.float32(0.5)


def _kernel(std: Float[Any, ""], radius: int, xp: ModuleType) -> Float[Any, " taps"]:
    """Return a Gaussian of ``2·radius + 1`` taps that sums to 1; a single 1 where std is 0."""
    distance = np.abs(np.arange(-radius, radius + 1, dtype=np.float32))
    scaled = distance / xp.maximum(std, np.float32(1e-3))
    weights = xp.where(distance <= xp.floor(_radius(std)), xp.exp(-scaled * scaled / 2), 0)
    return weights / weights.sum()


def _mirrored(first: int, last: int, size: int) -> Int[np.ndarray, " place"]:
    """Return where the values at ``first:last`` are, outside of an axis those of its mirror."""
    place = np.arange(first, last) % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)


def _shifted(
    lines: Float[Any, "before size after"], kernel: Float[Any, " taps"], xp: ModuleType
) -> Float[Any, "before size after"]:
    """Add up shifted images, which XLA makes one pass over memory of."""
    size, radius = lines.shape[1], len(kernel) // 2
    longer = lines[:, _mirrored(-radius, size + radius, size)]
    return sum(kernel[i] * longer[:, i : i + size] for i in range(len(kernel)))


def _multiplied(
    lines: Float[np.ndarray, "before size after"], kernel: Float[np.ndarray, " taps"]
) -> Float[np.ndarray, "before size after"]:
    """Multiply by the matrix of the filter, block by block along its diagonal, with BLAS."""
    size, radius = lines.shape[1], len(kernel) // 2
    band = _band(kernel)
    result = np.empty_like(lines)
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        near = slice(max(first - radius, 0), min(last + radius, size))
        block = band[: last - first, : last - first + 2 * radius]
        if first < radius or last + radius > size:
            near, block = _folded(block, first - radius, size)
        multiply_lines(block, lines[:, near], result[:, first:last])
    return result


def _band(kernel: Float[np.ndarray, " taps"]) -> Float[np.ndarray, "row column"]:
    """Return the rows of a block: the kernel, one place further in each."""
    band = np.zeros((_BLOCK, _BLOCK + len(kernel)), kernel.dtype)
    band[:, : len(kernel)] = kernel
    return band.reshape(-1)[: _BLOCK * (_BLOCK + len(kernel) - 1)].reshape(_BLOCK, -1)


def _folded(
    block: Float[np.ndarray, "row column"], first: int, size: int
) -> tuple[slice, Float[np.ndarray, "row near"]]:
    """Add the columns that lie outside of the axis to those they mirror; say where these are."""
    place = _mirrored(first, first + block.shape[1], size)
    low, high = place.min(), place.max() + 1
    return slice(low, high), block @ np.eye(high - low, dtype=block.dtype)[place - low]
