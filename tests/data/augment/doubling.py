"""A transform that draws no parameters."""

from dataclasses import dataclass
from typing import ClassVar

from segjax.data.augment.transform import IntensityTransform


@dataclass(frozen=True)
class Doubling(IntensityTransform):
    """Draw no parameters, and double the image."""

    name: ClassVar[str] = "doubling"

    def identity(self, shape):
        return {}

    def apply(self, image, parameters, xp):
        return 2 * image
