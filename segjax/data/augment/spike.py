"""Add stripes, as spikes of noise in k-space do."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import scipy.fft
from jaxtyping import Float, Int, Num

from segjax.data.augment._arrays import as_float, matmul
from segjax.data.augment._axes import along, check_whole
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    long_axes,
    uniform,
)


@dataclass(frozen=True)
class Spike(IntensityTransform):
    """Add to single points of k-space a multiple of the greatest magnitude found there.

    The real part of a point's inverse Fourier transform is a plane wave: it is added to the
    image, which never goes to k-space and back. The greatest magnitude is the sum of the image
    where that can be told from its least and greatest value; else it takes one real transform.

    Args:
        num_spikes: Bounds of the number of spikes, both included. The magnitude is found anew
            after each of them.
        intensity: Bounds of the factor of the greatest magnitude, drawn uniformly once per image.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where bounds or probability are out of range.

    Example:
        >>> image = np.ones((4, 1), np.float32)
        >>> parameters = {"count": 1, "intensity": 0.5, "positions": np.array([[0.75]], "f")}
        >>> Spike().apply(image, parameters, np).round(3).ravel().tolist()
        [1.5, 1.0, 0.5, 1.0]

    Source:
        ``torchio.RandomSpike``.
    """

    name: ClassVar[str] = "spike"
    num_spikes: tuple[int, int] = (1, 1)
    intensity: tuple[float, float] = (1.0, 3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, "num_spikes", least=0)
        check_bounds(self, "intensity")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``count``, ``intensity`` and ``positions``.

        Positions, ``(spike, axis)``, are shares of the size of k-space, whose centre is
        frequency 0; there are as many as the greatest count asks for.
        """
        (low, high), axes = self.num_spikes, long_axes(shape)
        drawn = {
            "count": np.int32(rng.integers(low, high + 1)),
            "intensity": uniform(rng, self.intensity, 1)[0],
            "positions": np.zeros((high, len(axes)), np.float32),
        }
        drawn["positions"][:, axes] = rng.random((high, axes.sum()), dtype=np.float32)
        return drawn

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return an intensity of 0."""
        positions = np.zeros((self.num_spikes[1], len(shape) - 1), np.float32)
        return {"count": np.int32(0), "intensity": np.float32(0), "positions": positions}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Add the waves."""
        image = as_float(image, xp)
        *spatial, channels = image.shape
        if not self.num_spikes[1]:
            return image
        places = _places(parameters["positions"], spatial, xp)
        heights = [_heights(image[..., c], places, parameters, xp) for c in range(channels)]
        return image + _waves(places, xp.stack(heights, axis=-1), spatial, xp).astype(image.dtype)


def _places(
    positions: Float[Any, "spike rank"], spatial: list[int], xp: ModuleType
) -> Int[Any, "spike rank"]:
    """Return the spikes' indices in a spectrum as the Fourier transform makes it."""
    size = np.array(spatial, np.int32)
    centred = xp.minimum(xp.floor(positions * size.astype(np.float32)).astype(np.int32), size - 1)
    return (centred - size // 2) % size


def _heights(
    channel: Float[Any, "*spatial"],
    places: Int[Any, "spike rank"],
    parameters: Parameters,
    xp: ModuleType,
) -> Float[Any, " spike"]:
    """Return how much is added at each spike."""
    if len(places) == 1:
        peaks = _peak(channel, xp).reshape(1)
    else:
        peaks = _peaks(channel, places, parameters["intensity"], xp)
    active = np.arange(len(places)) < parameters["count"]
    return xp.where(active, parameters["intensity"] * peaks, 0).astype(np.float32)


def _peak(channel: Float[Any, "*spatial"], xp: ModuleType) -> Float[Any, ""]:
    """Return the greatest magnitude of a spectrum.

    That of frequency 0 is the sum of the image. No other one exceeds the sum of |image - c|, for
    any number c: the least or the greatest value is tried.
    """
    if xp is np:
        total, size = channel.sum(), channel.size
        if abs(total) >= min(total - size * channel.min(), size * channel.max() - total):
            return np.abs(total)
        return np.abs(scipy.fft.rfftn(channel)).max()
    return xp.abs(xp.fft.rfftn(channel)).max()


def _peaks(
    channel: Float[Any, "*spatial"],
    places: Int[Any, "spike rank"],
    intensity: Float[Any, ""],
    xp: ModuleType,
) -> Float[Any, " spike"]:
    """Return the greatest magnitude before each spike, those before it added."""
    spectrum = scipy.fft.fftn(channel) if xp is np else xp.fft.fftn(channel)
    peaks = []
    for place in places:
        peaks.append(xp.abs(spectrum).max())
        spectrum = spectrum + peaks[-1] * intensity * _indicator(place, channel.shape)
    return xp.stack(peaks)


def _indicator(place: Int[Any, " rank"], spatial: tuple[int, ...]) -> Any:
    """Return an array that is True at one place."""
    found = True
    for axis, size in enumerate(spatial):
        found = found & along(np.arange(size) == place[axis], axis, len(spatial))
    return found


def _waves(
    places: Int[Any, "spike rank"],
    heights: Float[Any, "spike channel"],
    spatial: list[int],
    xp: ModuleType,
) -> Float[Any, "*spatial channel"]:
    """Sum the plane waves as a matrix product over the first axis: cos(a + b) = cos·cos - sin·sin.

    Args:
        places: Frequencies.
        heights: Of the spikes in k-space.
        spatial: Shape of the image.
        xp: ``numpy`` or ``jax.numpy``.
    """
    first, *others = (_phase(places[:, axis], size, xp) for axis, size in enumerate(spatial))
    rest = xp.zeros((len(places), 1), dtype=np.float32)
    for phase in others:
        rest = (rest[:, :, None] + phase[:, None, :]).reshape(len(places), -1)
    heights = heights[:, None, :] / np.float32(np.prod(spatial))
    waves = [xp.cos(rest)[..., None] * heights, xp.sin(rest)[..., None] * -heights]
    right = xp.concatenate(waves).reshape(2 * len(places), -1)
    left = xp.concatenate([xp.cos(first), xp.sin(first)])
    return matmul(left.T, right, xp).reshape(*spatial, heights.shape[-1])


def _phase(place: Int[Any, " spike"], size: int, xp: ModuleType) -> Float[Any, "spike size"]:
    """Return the phase of waves along one axis, from 0 to 2π, exact before it is scaled."""
    turns = (place[:, None] * np.arange(size, dtype=np.int32)) % size
    return turns.astype(np.float32) * np.float32(2 * np.pi / size)
