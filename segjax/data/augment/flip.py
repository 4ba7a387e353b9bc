"""Mirror images along their axes."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Integer

from segjax.data.augment.transform import Parameters, Transform
from segjax.errors import InputError


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror the image along each of some axes, each with the same probability.

    In RAS orientation axis 0 swaps left and right.

    Args:
        axes: Spatial axes, counted from 0.
        probability: Of each axis apart, in [0, 1].

    Raises:
        InputError: Where an axis is negative or repeated, or the probability is out of range;
            when drawing, where an image has no such axis.

    Example:
        >>> flip = Flip(axes=(0,), probability=1.0)
        >>> parameters = flip.draw(np.random.default_rng(0), (3, 1))
        >>> flip.apply_label(np.array([0, 1, 2]), parameters, np).tolist()
        [2, 1, 0]

    Source:
        ``torchio.RandomFlip``.
    """

    name: ClassVar[str] = "flip"
    axes: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.axes, default=-1) < 0 or len(set(self.axes)) < len(self.axes):
            raise InputError(f"flip: axes {self.axes} must be different numbers, 0 or more")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw ``flipped``: for each axis, whether it is mirrored."""
        if max(self.axes) >= len(shape) - 1:
            raise InputError(
                f"flip: axis {max(self.axes)} is none of the {len(shape) - 1} spatial axes of an "
                f"image of shape {shape} (channels last)"
            )
        flipped = rng.random(len(self.axes)) < self.probability
        return {"flipped": flipped} if flipped.any() else None

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return that no axis is mirrored."""
        return {"flipped": np.zeros(len(self.axes), bool)}

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Mirror the image."""
        return self._flip(image, parameters, xp)

    def apply_label(
        self, label: Integer[Any, "*spatial"], parameters: Parameters, xp: ModuleType
    ) -> Integer[Any, "*spatial"]:
        """Mirror the label map."""
        return self._flip(label, parameters, xp)

    def _flip(self, array: Any, parameters: Parameters, xp: ModuleType) -> Any:
        flipped = parameters["flipped"]
        if xp is np:
            return np.flip(array, tuple(axis for i, axis in enumerate(self.axes) if flipped[i]))
        for i, axis in enumerate(self.axes):
            array = xp.where(flipped[i], xp.flip(array, axis), array)
        return array
