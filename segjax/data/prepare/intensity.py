"""Normalise intensities, each channel by itself."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Real

from segjax.errors import InputError

__all__ = ["Voxels", "Where", "choose", "clip_percentiles", "min_max", "rescale", "z_score"]

Where = Literal["all", "above-mean", "nonzero"]
Voxels: TypeAlias = Where | Bool[np.ndarray, "..."] | Callable[[np.ndarray], np.ndarray]
"""Which voxels of a channel count: a word, a mask, or a function from a channel to its mask."""

_CHOICES: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {
    "all": lambda channel: None,
    "above-mean": lambda channel: channel > channel.mean(dtype=np.float64),
    "nonzero": lambda channel: channel != 0,
}
_CONSTANT = float(np.finfo(np.float32).eps)  # relative spread that float32 cannot tell from none


def choose(
    channel: Real[np.ndarray, "*spatial"], where: Voxels = "all"
) -> Real[np.ndarray, "chosen"]:
    """Return the values of some voxels of a channel.

    Args:
        channel: One channel of an image.
        where: "all" voxels, those "above-mean", the "nonzero" ones, those of a mask, or those of
            the mask that a function makes of the channel.

    Returns:
        Their values; none where no voxel is chosen.

    Raises:
        InputError: ``where`` is another word, or the mask has another shape than the channel.

    Example:
        >>> choose(np.array([0.0, 1.0, 5.0]), "above-mean")
        array([5.])
    """
    if isinstance(where, str):
        if where not in _CHOICES:
            raise InputError(f"where {where!r}: give one of {', '.join(_CHOICES)}, or a mask")
        mask = _CHOICES[where](channel)
        return channel.ravel() if mask is None else channel[mask]
    mask = np.asarray(where(channel) if callable(where) else where) != 0
    if mask.shape != channel.shape:
        raise InputError(
            f"a mask of shape {mask.shape} does not fit an image of shape {channel.shape}"
        )
    return channel[mask]


def z_score(
    data: Real[np.ndarray, "*spatial channel"], *, where: Voxels = "all"
) -> Float32[np.ndarray, "*spatial channel"]:
    """Shift and scale each channel to mean 0 and standard deviation 1 over some voxels.

    ``(x - mean) / std`` for every voxel, with mean and (population) standard deviation over the
    voxels that ``where`` names: a background stays darker than the tissue, as in TorchIO's
    ``ZNormalization``; MONAI's ``NormalizeIntensity(nonzero=True)`` gives the same within the
    tissue, but leaves the background at 0.

    Args:
        data: Image of any intensities.
        where: Voxels of each channel, as for :func:`choose`. Where none is chosen, all are.

    Returns:
        The normalised image; 0 everywhere in a constant channel. A channel that is constant over
        the chosen voxels alone is shifted, not scaled.

    Raises:
        InputError: ``where`` is another word, or a mask of another shape.

    Example:
        >>> z_score(np.array([[0.0], [1.0], [3.0]]), where="nonzero").ravel()
        array([-2., -1.,  1.], dtype=float32)
    """
    result = np.empty(data.shape, np.float32)
    for c in range(data.shape[-1]):
        channel = data[..., c]
        chosen = choose(channel, where)
        result[..., c] = _standardise(channel, chosen if chosen.size else channel)
    return result


def min_max(
    data: Real[np.ndarray, "*spatial channel"],
) -> Float32[np.ndarray, "*spatial channel"]:
    """Scale each channel linearly so that its smallest value is 0 and its largest 1.

    Args:
        data: Image of any intensities.

    Returns:
        ``(x - min) / (max - min)``; 0 everywhere in a constant channel.

    Example:
        >>> min_max(np.array([[2], [3], [4]])).ravel()
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return rescale(data, 0.0, 1.0)


def rescale(
    data: Real[np.ndarray, "*spatial channel"], low: int | float, high: int | float
) -> Float32[np.ndarray, "*spatial channel"]:
    """Scale each channel linearly so that its smallest value is ``low`` and its largest ``high``.

    Args:
        data: Image of any intensities.
        low: Value that the minimum gets.
        high: Value that the maximum gets, above ``low``.

    Returns:
        ``low + (high - low) * (x - min) / (max - min)``; 0 everywhere in a constant channel.

    Raises:
        InputError: ``low`` is not below ``high``.

    Example:
        >>> rescale(np.array([[2], [3], [4]]), -1, 1).ravel()
        array([-1.,  0.,  1.], dtype=float32)
    """
    if not -np.inf < low < high < np.inf:
        raise InputError(f"range {low} to {high}: give two finite numbers, the smaller one first")
    result = np.zeros(data.shape, np.float32)
    for c in range(data.shape[-1]):
        channel = data[..., c]
        smallest, largest = float(channel.min()), float(channel.max())
        if largest - smallest > _CONSTANT * max(abs(smallest), abs(largest)):
            factor = (high - low) / (largest - smallest)
            scaled = (channel.astype(np.float64) - smallest) * factor + low
            result[..., c] = np.clip(scaled, low, high)
    return result


def clip_percentiles(
    data: Real[np.ndarray, "*spatial channel"], low: int | float, high: int | float
) -> Float32[np.ndarray, "*spatial channel"]:
    """Clip each channel to its own percentiles.

    Args:
        data: Image of any intensities.
        low: Percentile that darker voxels are raised to, 0 to 100.
        high: Percentile that brighter voxels are lowered to, above ``low``.

    Returns:
        The clipped image. Percentiles between two voxels are interpolated linearly.

    Raises:
        InputError: Not 0 <= low < high <= 100.

    Example:
        >>> clip_percentiles(np.arange(5.0)[:, None], 25, 75).ravel()
        array([1., 1., 2., 3., 3.], dtype=float32)
    """
    if not 0 <= low < high <= 100:
        raise InputError(f"percentiles {low} and {high}: give 0 <= low < high <= 100")
    result = np.empty(data.shape, np.float32)
    for c in range(data.shape[-1]):
        channel = data[..., c]
        result[..., c] = np.clip(channel, *np.percentile(channel, (low, high)))
    return result


def _standardise(
    channel: Real[np.ndarray, "*spatial"], chosen: Real[np.ndarray, "..."]
) -> Float32[np.ndarray, "*spatial"]:
    mean, std = float(chosen.mean(dtype=np.float64)), float(chosen.std(dtype=np.float64))
    if std <= max(_CONSTANT * abs(mean), float(np.finfo(np.float32).tiny)):
        std = 1.0
    return (channel.astype(np.float32, copy=False) - np.float32(mean)) / np.float32(std)
