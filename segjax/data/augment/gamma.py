"""Bend the contrast of images."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Num

from segjax.data.augment._arrays import as_float
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    uniform,
)


@dataclass(frozen=True)
class Gamma(IntensityTransform):
    """Raise intensities to a power: sign(image)·|image|^γ, with log γ uniform.

    Args:
        log_gamma: Bounds of log γ, drawn uniformly for each channel.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where the bounds or the probability are out of range.

    Example:
        >>> gamma = Gamma(log_gamma=(0.6931472, 0.6931472), probability=1.0)
        >>> parameters = gamma.draw(np.random.default_rng(0), (3, 1))
        >>> gamma.apply(np.array([[-2.0], [0.0], [3.0]]), parameters, np).round(3).ravel().tolist()
        [-4.0, 0.0, 9.0]

    Source:
        ``torchio.RandomGamma``.
    """

    name: ClassVar[str] = "gamma"
    log_gamma: tuple[float, float] = (-0.3, 0.3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "log_gamma")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``gamma``, one number per channel."""
        return {"gamma": np.exp(uniform(rng, self.log_gamma, shape[-1]))}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return powers of 1."""
        return {"gamma": np.ones(shape[-1], np.float32)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Raise to the power, keeping signs."""
        image = as_float(image, xp)
        return xp.sign(image) * xp.abs(image) ** parameters["gamma"]
