"""Add noise."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Integer

from segjax.data.augment.transform import (
    Parameters,
    check_bounds,
    check_probability,
    occurs,
    uniform,
)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise: image + σ·n, with n ~ N(0, 1) in every voxel and channel.

    Args:
        std: Bounds of σ, which is drawn uniformly once per image, in units of the image.
        probability: Of noise being added, in [0, 1].

    Raises:
        InputError: Where the bounds or the probability are out of range.

    Example:
        >>> noise = Noise(std=(0.1, 0.1), probability=1.0)
        >>> parameters = noise.draw(np.random.default_rng(0), (1000, 1))
        >>> round(float(noise.apply(np.zeros((1000, 1)), parameters, np).std()), 1)
        0.1

    Source:
        ``torchio.RandomNoise``.
    """

    name: ClassVar[str] = "noise"
    std: tuple[float, float] = (0.0, 0.1)
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self)
        check_bounds(self, "std", least=0.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw ``std``, a number, and ``normal``, a standard normal array of the image's shape."""
        if not occurs(rng, self.probability):
            return None
        std = uniform(rng, self.std, 1)[0]
        return {"std": std, "normal": rng.standard_normal(shape, dtype=np.float32)}

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Add the noise."""
        return xp.add(image, parameters["std"] * parameters["normal"])

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Return the label map as it is."""
        return label
