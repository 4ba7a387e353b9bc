"""What a transform is, and how a patch goes through several."""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

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
