"""Make images unevenly bright, as the coils of a scanner do."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int, Num

from segjax.data.augment._arrays import matmul
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    uniform,
)
from segjax.errors import InputError


@dataclass(frozen=True)
class BiasField(IntensityTransform):
    """Multiply the image by a smooth field: the exponential of a random polynomial.

    The field is exp(Σ c_ijk·xⁱ·yʲ·zᵏ) over all i + j + k ≤ order; x, y and z run from -1 at the
    first voxel of their axis to 1 at the last. Along an axis of one voxel there are no powers. All
    channels share the field.

    Args:
        coefficients: Bounds of every c, drawn uniformly.
        order: Highest degree of the polynomial.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where the bounds, the order or the probability are out of range.

    Example:
        >>> bias = BiasField(order=1)
        >>> parameters = {"coefficients": np.array([0.0, 1.0], np.float32)}
        >>> bias.apply(np.ones((3, 1)), parameters, np).round(3).ravel().tolist()
        [0.368, 1.0, 2.718]

    Source:
        ``torchio.RandomBiasField``, whose 2D images are 3D ones of a single slice, so that the
        coefficients with k > 0 are drawn but do nothing. K. Van Leemput et al., "Automated
        model-based bias field correction of MR images of the brain", IEEE TMI 1999.
    """

    name: ClassVar[str] = "bias-field"
    coefficients: tuple[float, float] = (-0.5, 0.5)
    order: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "coefficients")
        if not 0 <= self.order < 100:
            raise InputError(f"bias-field: order {self.order} is out of range: give 0 to 99")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``coefficients``: every c, sorted by i, then j, then k."""
        terms = _exponents(self.order, shape[:-1])
        return {"coefficients": uniform(rng, self.coefficients, len(terms))}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return coefficients of 0."""
        return {"coefficients": np.zeros(len(_exponents(self.order, shape[:-1])), np.float32)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Multiply the image by the field."""
        polynomial = _polynomial(parameters["coefficients"], self.order, image.shape[:-1], xp)
        return image * xp.exp(polynomial)[..., None]


def _exponents(order: int, spatial: tuple[int, ...]) -> Int[np.ndarray, "term rank"]:
    return _exponents_up_to(order, tuple(order if size > 1 else 0 for size in spatial))


@cache
def _exponents_up_to(order: int, highest: tuple[int, ...]) -> Int[np.ndarray, "term rank"]:
    powers = [p for p in product(*(range(h + 1) for h in highest)) if sum(p) <= order]
    return np.array(powers).reshape(-1, len(highest))


def _polynomial(
    coefficients: Float[Any, " term"], order: int, spatial: tuple[int, ...], xp: ModuleType
) -> Float[Any, "*spatial"]:
    """Contract the tensor of coefficients with the powers of one coordinate after the other."""
    exponents = _exponents(order, spatial)
    places = np.full((order + 1,) * len(spatial), len(exponents))
    places[tuple(exponents.T)] = np.arange(len(exponents))
    values = xp.concatenate([coefficients, xp.zeros(1, dtype=np.float32)])[places]
    for size in reversed(spatial):  # the last axis becomes the first, with its voxels
        by_power = xp.moveaxis(values, -1, 0)
        rows = matmul(_powers(size, order), by_power.reshape(order + 1, -1), xp)
        values = rows.reshape(size, *by_power.shape[1:])
    return values


def _powers(size: int, order: int) -> Float32[np.ndarray, "size power"]:
    """Return the powers 0, 1, ... of the coordinate of every voxel along an axis."""
    place = np.linspace(-1, 1, size, dtype=np.float32) if size > 1 else np.zeros(1, np.float32)
    return np.vander(place, order + 1, increasing=True).astype(np.float32)
