"""What a transform is, and how a patch goes through several."""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Integer

from segjax.errors import InputError

Parameters = Mapping[str, Any]


@runtime_checkable
class Transform(Protocol):
    """A random change of an image and its label map, in two halves.

    :meth:`draw` takes all randomness from a NumPy generator; :meth:`apply` and
    :meth:`apply_label` are pure functions of arrays, written for any array namespace
    (``numpy``, ``jax.numpy``), and may run under ``jax.jit`` and ``jax.vmap``.
    """

    name: ClassVar[str]

    @property
    def probability(self) -> float:
        """Probability that the transform is applied at all, in [0, 1]."""
        ...

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw the parameters for an image of shape ``(*spatial, channel)``.

        Returns None, with probability ``1 - probability``, where nothing is to be applied.
        """
        ...

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Change the image, with the array functions of ``xp``."""
        ...

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Change the label map in the same way; no value appears that was not there."""
        ...


def augment_patch(
    rng: np.random.Generator,
    image: Float[np.ndarray, "*spatial channel"],
    label: Integer[np.ndarray, "*spatial"],
    transforms: Iterable[Transform],
) -> tuple[Float[np.ndarray, "*spatial channel"], Integer[np.ndarray, "*spatial"]]:
    """Draw and apply transforms, one after the other.

    Args:
        rng: Source of randomness.
        image: The image.
        label: Its label map.
        transforms: Applied in order, each with its own probability.

    Returns:
        Image and label map, changed alike.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> augment_patch(rng, np.ones((2, 1)), np.array([0, 1]), [])[1].tolist()
        [0, 1]
    """
    for transform in transforms:
        parameters = transform.draw(rng, image.shape)
        if parameters is not None:
            image = transform.apply(image, parameters, np)
            label = transform.apply_label(label, parameters, np)
    return image, label


def occurs(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability.

    Args:
        rng: Source of randomness; one number is taken in any case.
        probability: In [0, 1].

    Example:
        >>> occurs(np.random.default_rng(0), 1.0)
        True
    """
    return bool(rng.random() < probability)


def uniform(
    rng: np.random.Generator, bounds: tuple[float, float], count: int
) -> Float32[np.ndarray, " count"]:
    """Draw numbers uniformly between two bounds.

    Args:
        rng: Source of randomness.
        bounds: Least and greatest value.
        count: How many.

    Example:
        >>> uniform(np.random.default_rng(0), (2.0, 2.0), 3).tolist()
        [2.0, 2.0, 2.0]
    """
    return rng.uniform(*bounds, size=count).astype(np.float32)


def check_probability(transform: Transform) -> None:
    """Raise InputError where a transform's probability is not in [0, 1]."""
    if not 0 <= transform.probability <= 1:
        raise InputError(
            f"{transform.name}: probability {transform.probability} is out of range: "
            "give a number in [0, 1]"
        )


def check_bounds(transform: Transform, field: str, *, least: float = -np.inf) -> None:
    """Raise InputError where a transform's field is no pair ``least <= low <= high``."""
    bounds = getattr(transform, field)
    if len(bounds) != 2 or not least <= bounds[0] <= bounds[1] < np.inf:
        limit = "" if least == -np.inf else f", not under {least:g}"
        raise InputError(
            f"{transform.name}: {field} {bounds} is no range: give the least and the greatest "
            f"value{limit}"
        )
