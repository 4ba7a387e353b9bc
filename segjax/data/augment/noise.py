"""Add noise."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from segjax.data.augment._random_bits import draw_seed, normal
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    uniform,
)


@dataclass(frozen=True)
class Noise(IntensityTransform):
    """Add Gaussian noise: image + μ + σ·n, with n ~ N(0, 1) in every voxel and channel.

    Args:
        std: Bounds of σ, which is drawn uniformly once per image, in units of the image.
        mean: Bounds of μ, drawn in the same way.
        probability: Of noise being added, in [0, 1].

    Raises:
        InputError: Where the bounds or the probability are out of range.

    Example:
        >>> noise = Noise(std=(0.1, 0.1), probability=1.0)
        >>> parameters = noise.draw(np.random.default_rng(0), (1000, 1))
        >>> image = np.zeros((1000, 1), np.float32)
        >>> round(float(noise.apply(image, parameters, np).std()), 1)
        0.1

    Source:
        ``torchio.RandomNoise``.
    """

    name: ClassVar[str] = "noise"
    std: tuple[float, float] = (0.0, 0.1)
    mean: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "std", least=0.0)
        check_bounds(self, "mean")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``mean`` and ``std``, and the ``seed`` that n is made from."""
        (std,), (mean,) = uniform(rng, self.std, 1), uniform(rng, self.mean, 1)
        return {"mean": mean, "std": std, "seed": draw_seed(rng)}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return a mean and a standard deviation of 0."""
        return {"mean": np.float32(0), "std": np.float32(0), "seed": np.asarray(0, np.uint32)}

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Add the noise."""
        noise = normal(parameters["seed"], image.shape, xp)
        return xp.add(image, noise * parameters["std"] + parameters["mean"])
