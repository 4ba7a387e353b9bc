"""Work on single axes of an image, shared by transforms whose axis is drawn or lies in k-space."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
from jaxtyping import Float, Shaped

from segjax.errors import InputError

__all__ = [
    "along",
    "check_axes",
    "check_whole",
    "filtered",
    "half_response",
    "multiply_lines",
    "present_axes",
    "visited_axes",
]

_SHORT = 128  # voxels along an axis up to which a matrix product is faster than Fourier transforms
_THIN = 8  # values behind an axis up to which one product for each of them is faster


def check_axes(name: str, axes: tuple[int, ...]) -> None:
    """Raise InputError where axes are none, negative or repeated."""
    if min(axes, default=-1) < 0 or len(set(axes)) < len(axes):
        raise InputError(f"{name}: axes {axes} must be different numbers, 0 or more")


def check_whole(transform: Any, field: str, *, least: int) -> None:
    """Raise InputError where a field is no pair of whole numbers ``least <= low <= high``."""
    bounds = getattr(transform, field)
    whole = all(isinstance(bound, int) for bound in bounds)
    if len(bounds) != 2 or not whole or not least <= bounds[0] <= bounds[1]:
        raise InputError(
            f"{transform.name}: {field} {bounds}: give the least and the greatest whole number, "
            f"not under {least}"
        )


def present_axes(name: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of some axes that an image has; an axis of one voxel is none.

    Args:
        name: Of the transform, for the message.
        axes: Spatial axes, counted from 0.
        shape: Shape of the image, ``(*spatial, channel)``.

    Raises:
        InputError: The image has none of them.

    Example:
        >>> present_axes("ghosting", (0, 1, 2), (512, 512, 1))
        (0, 1)
    """
    long = [axis for axis, size in enumerate(shape[:-1]) if size > 1]
    present = tuple(axis for axis in axes if axis in long)
    if not present:
        raise InputError(
            f"{name}: axes {axes} are none of the {len(long)} spatial axes over one "
            f"voxel of an image of shape {shape} (channels last)"
        )
    return present


def visited_axes(axis: Any, shape: tuple[int, ...], xp: ModuleType) -> tuple[int, ...]:
    """Return the axes that a transform of one drawn axis has to go through.

    Args:
        axis: The drawn axis; under ``jax.jit`` a traced value.
        shape: Spatial shape of the image.
        xp: ``numpy`` or ``jax.numpy``.

    Returns:
        That axis alone for NumPy; for JAX, whose program must serve any axis, all of more than one
        voxel.

    Example:
        >>> visited_axes(np.int32(2), (8, 8, 8), np)
        (2,)
    """
    return (int(axis),) if xp is np else tuple(i for i, size in enumerate(shape) if size > 1)


def along(values: Shaped[Any, " length"], axis: int, rank: int) -> Shaped[Any, "..."]:
    """Shape a line of values so that it broadcasts along one axis of an array of some rank.

    Example:
        >>> along(np.arange(4), 1, 3).shape
        (1, 4, 1)
    """
    return values.reshape((1,) * axis + (-1,) + (1,) * (rank - 1 - axis))


def half_response(response: Float[Any, " length"]) -> Float[Any, " half"]:
    """Turn a filter over centred frequencies into one over those of a real transform.

    What a real signal becomes under the filter H has, as its real part, what it becomes under
    (H(f) + H(-f)) / 2.

    Args:
        response: Real factor of each frequency, with frequency 0 at ``length // 2``.

    Returns:
        Factor of each of the ``length // 2 + 1`` frequencies of ``rfft``.

    Example:
        >>> half_response(np.array([0.0, 0.0, 1.0, 1.0])).tolist()
        [1.0, 0.5, 0.0]
    """
    length = response.shape[0]
    frequency = np.arange(length // 2 + 1)
    opposite = response[(length // 2 - frequency) % length]
    return (response[(length // 2 + frequency) % length] + opposite) / 2


def filtered(
    images: Sequence[Float[Any, "*shape"]],
    responses: Sequence[Float[Any, " half"]],
    axis: int,
    xp: ModuleType,
) -> Float[Any, "*shape"]:
    """Filter images along one axis, each with its own filter, and add them up.

    Args:
        images: Real arrays of one shape.
        responses: For each of them, the real factor of each frequency of ``rfft``.
        axis: The axis.
        xp: ``numpy`` or ``jax.numpy``.

    Example:
        >>> mean = np.array([1.0, 0.0])
        >>> filtered([np.array([1.0, 2.0, 3.0])], [mean], 0, np).round(6).tolist()
        [2.0, 2.0, 2.0]
    """
    size = images[0].shape[axis]
    if xp is np and len(images) == 1 and size <= _SHORT:
        return _convolved(images[0], responses[0], axis)
    fft = scipy.fft if xp is np else xp.fft  # NumPy's own works line by line, 5 times slower
    total: Any = None
    for image, response in zip(images, responses, strict=True):
        spectrum = fft.rfft(image, axis=axis)
        spectrum *= along(response.astype(image.dtype), axis, image.ndim)  # in place under NumPy
        total = spectrum if total is None else total + spectrum
    return fft.irfft(total, n=size, axis=axis)


def _convolved(
    image: Float[np.ndarray, "*shape"], response: Float[np.ndarray, " half"], axis: int
) -> Float[np.ndarray, "*shape"]:
    """Filter by a product with the circulant matrix of the filter."""
    size = image.shape[axis]
    kernel = scipy.fft.irfft(response, n=size).astype(image.dtype)
    matrix = kernel[(np.arange(size)[:, None] - np.arange(size)) % size]
    lines = image.reshape(int(np.prod(image.shape[:axis])), size, -1)
    result = np.empty_like(lines)
    multiply_lines(matrix, lines, result)
    return result.reshape(image.shape)


def multiply_lines(
    matrix: Float[np.ndarray, "row column"],
    lines: Float[np.ndarray, "before column after"],
    result: Float[np.ndarray, "before row after"],
) -> None:
    """Multiply the lines along the middle axis by a matrix, with BLAS."""
    if lines.shape[2] > _THIN:
        np.matmul(matrix, lines, out=result)
        return
    for i in range(lines.shape[2]):
        np.matmul(lines[..., i], matrix.T, out=result[..., i])
