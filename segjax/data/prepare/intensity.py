"""Normalise intensities, each channel by itself."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Real

from segjax.errors import InputError

__all__ = [
    "Peak",
    "Side",
    "Voxels",
    "Where",
    "choose",
    "clip_percentiles",
    "min_max",
    "rescale",
    "robust_z_score",
    "tissue_peak",
    "z_score",
]

Where = Literal["all", "above-mean", "nonzero"]
Peak = Literal["largest", "first", "last"]
Side = Literal["both", "lower", "upper"]
Voxels: TypeAlias = Where | Bool[np.ndarray, "..."] | Callable[[np.ndarray], np.ndarray]
"""Which voxels of a channel count: a word, a mask, or a function from a channel to its mask."""

_CHOICES: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {
    "all": lambda channel: None,
    "above-mean": lambda channel: channel > channel.mean(dtype=np.float64),
    "nonzero": lambda channel: channel != 0,
}
_CONSTANT = float(np.finfo(np.float32).eps)  # relative spread that float32 cannot tell from none
_NORMAL_IQR = 1.3489795003921634  # interquartile range of a normal distribution of deviation 1
_NORMAL_WIDTH = 2.3548200450309493  # its full width at half its height
_SMOOTHING = 0.15  # deviation of the kernel that smooths a histogram, in robust deviations
_BINS = 64  # of a histogram, in a robust deviation
_REACH = 10  # of a histogram to both sides of the median, in robust deviations
_SAME = 1e-9  # heights of a histogram that differ by less, of the larger, are the same
_LEAST_PEAK = 0.1  # height of a peak that counts, of that of the largest
_CUT = {"first": 99, "last": 96}  # percentile beyond which no peak counts


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
    return _channelwise(data, where, _mean_and_deviation)


def robust_z_score(
    data: Real[np.ndarray, "*spatial channel"], *, where: Voxels = "nonzero"
) -> Float32[np.ndarray, "*spatial channel"]:
    """Shift and scale each channel by its median and interquartile range over some voxels.

    ``(x - median) / (IQR / 1.349)`` for every voxel: of normally distributed values the same as
    :func:`z_score`, since their interquartile range is 1.349 standard deviations. Half of the
    voxels on each side hardly move it, so that large lesions shift the scale of a patient less.

    Args:
        data: Image of any intensities.
        where: Voxels of each channel, as for :func:`choose`. Where none is chosen, all are.

    Returns:
        The normalised image; 0 everywhere in a constant channel. A channel whose quartiles over
        the chosen voxels are equal is shifted, not scaled.

    Raises:
        InputError: ``where`` is another word, or a mask of another shape.

    Example:
        >>> robust_z_score(np.array([[0.0], [5.0], [6.0], [7.0], [8.0], [90.0]])).round(2).ravel()
        array([-4.72, -1.35, -0.67,  0.  ,  0.67, 55.98], dtype=float32)

    Source:
        ``sklearn.preprocessing.RobustScaler(unit_variance=True)``.
    """
    return _channelwise(data, where, _median_and_spread)


def tissue_peak(
    data: Real[np.ndarray, "*spatial channel"],
    *,
    peak: Peak = "largest",
    side: Side = "both",
    where: Voxels = "nonzero",
) -> Float32[np.ndarray, "*spatial channel"]:
    """Shift and scale each channel by the place and width of a peak of its histogram.

    ``(x - mode) / (width / 2.355)`` for every voxel, where ``mode`` is where the smoothed histogram
    of some voxels has the peak, and ``width`` how wide that is at half its height: 2.355 standard
    deviations of a normal distribution. Values that lie elsewhere, as those of lesions, fluid or
    fat, move neither. The histogram has 64 bins in a robust standard deviation (IQR / 1.349), is
    smoothed by a Gaussian of 0.15 of one, or of the gap between neighbouring values where these
    are few, and ends 10 of them from the median. The Gaussian's own width is taken off the peak's,
    of which at least as much is left.

    Args:
        data: Image of any intensities.
        peak: The ``"largest"`` one; or the ``"first"`` or ``"last"``, of at least a tenth of its
            height and not beyond the 99th or the 96th percentile. White matter's is the last one of
            T1; the largest one of a brain is that of grey and white matter together in FLAIR and
            T2.
        side: Of the peak, that its width is taken from: ``"both"``, or twice that of the
            ``"lower"`` or the ``"upper"`` half. In FLAIR fluid and what borders on it widen the
            lower half, the more of it a patient has.
        where: Voxels of each channel, as for :func:`choose`. Where none is chosen, all are.

    Returns:
        The normalised image; 0 everywhere in a constant channel. A channel whose quartiles over
        the chosen voxels are equal is shifted by their median, not scaled.

    Raises:
        InputError: ``peak``, ``side`` or ``where`` is another word, or a mask has another shape.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> tissue, lesions = rng.normal(100, 15, (90_000, 1)), rng.normal(200, 20, (10_000, 1))
        >>> scaled = tissue_peak(np.concatenate([tissue, lesions]))
        >>> bool(abs(scaled[:90_000].mean()) < 0.1 and 0.95 < scaled[:90_000].std() < 1.05)
        True

    Source:
        Peaks by modality, and the percentiles, as in ``intensity-normalization`` (Reinhold et al.,
        Proc. SPIE 10949 (2019) 109493H), which divides by the mode alone.
    """
    if peak not in ("largest", *_CUT):
        raise InputError(f"peak {peak!r}: give 'largest', 'first' or 'last'")
    if side not in ("both", "lower", "upper"):
        raise InputError(f"side {side!r}: give 'both', 'lower' or 'upper'")
    return _channelwise(data, where, lambda values: _mode_and_width(values, peak, side))


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


def _channelwise(
    data: Real[np.ndarray, "*spatial channel"],
    where: Voxels,
    measure: Callable[[np.ndarray], tuple[float, float]],
) -> Float32[np.ndarray, "*spatial channel"]:
    """Shift and scale each channel by what is measured of its chosen voxels."""
    result = np.empty(data.shape, np.float32)
    for c in range(data.shape[-1]):
        channel = data[..., c]
        chosen = choose(channel, where)
        centre, spread = measure(chosen if chosen.size else channel.ravel())
        if spread <= max(_CONSTANT * abs(centre), float(np.finfo(np.float32).tiny)):
            spread = 1.0
        moved = channel.astype(np.float32, copy=False) - np.float32(centre)
        result[..., c] = moved / np.float32(spread)
    return result


def _mean_and_deviation(values: Real[np.ndarray, " chosen"]) -> tuple[float, float]:
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _median_and_spread(values: Real[np.ndarray, " chosen"]) -> tuple[float, float]:
    low, median, high = np.percentile(values.astype(np.float64), (25, 50, 75))
    return float(median), float(high - low) / _NORMAL_IQR


def _mode_and_width(
    values: Real[np.ndarray, " chosen"], peak: Peak, side: Side
) -> tuple[float, float]:
    """Return where a peak lies, and the deviation of a normal distribution as wide as it."""
    median, spread = _median_and_spread(values)
    if not spread > _CONSTANT * abs(median):  # nor where it is not a number
        return median, spread
    scaled = (values.astype(np.float64) - median) / spread
    kernel = _kernel_deviation(scaled)
    places, density = _smoothed_histogram(scaled, kernel)
    top = _find_peak(places, density, scaled, peak)
    beside = density - density[top] / 2
    first = top - int(np.argmax(beside[top::-1] < 0))
    last = top + int(np.argmax(beside[top:] < 0))
    mode = float(places[top])
    halves = {
        "lower": mode - np.interp(0, beside[[first, first + 1]], places[[first, first + 1]]),
        "upper": np.interp(0, beside[[last, last - 1]], places[[last, last - 1]]) - mode,
    }
    width = sum(halves.values()) if side == "both" else 2 * halves[side]
    variance = float(width / _NORMAL_WIDTH) ** 2 - kernel**2
    return median + spread * mode, spread * max(variance, kernel**2) ** 0.5


def _kernel_deviation(scaled: Float64[np.ndarray, " chosen"]) -> float:
    """Return how far to smooth: so far that of few distinct values none is a peak of its own."""
    near = np.unique(scaled[np.abs(scaled) < _REACH])
    return max(_SMOOTHING, float(np.ptp(near)) / max(near.size - 1, 1))


def _smoothed_histogram(
    scaled: Float64[np.ndarray, " chosen"], deviation: float
) -> tuple[Float64[np.ndarray, " bins"], Float64[np.ndarray, " bins"]]:
    """Return the middles of bins, and how many values lie there, smoothed; 0 at both ends."""
    radius = math.ceil(6 * deviation * _BINS)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (deviation * _BINS)) ** 2)
    counts, _ = np.histogram(scaled, 2 * _REACH * _BINS, (-_REACH, _REACH))
    density = np.convolve(counts, kernel)
    places = (np.arange(density.size) - radius + 0.5) / _BINS - _REACH
    return places, density


def _find_peak(
    places: Float64[np.ndarray, " bins"],
    density: Float64[np.ndarray, " bins"],
    scaled: Float64[np.ndarray, " chosen"],
    peak: Peak,
) -> int:
    """Return the bin of a peak: the first of equals, in whichever order a program has summed."""
    largest = int(np.argmax(density >= (1 - _SAME) * density.max()))
    if peak == "largest":
        return largest
    middle = density[1:-1]
    highest = (middle > density[:-2]) & (middle >= density[2:])
    counts = highest & (middle >= _LEAST_PEAK * density[largest])
    tops = 1 + np.flatnonzero(counts & (places[1:-1] <= np.percentile(scaled, _CUT[peak])))
    return int(tops[0 if peak == "first" else -1]) if tops.size else largest
