"""Make images brighter or darker."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    uniform,
)


@dataclass(frozen=True)
class ScaleIntensity(IntensityTransform):
    """Multiply every channel by a factor and add a shift: a·image + b.

    Args:
        factor: Bounds of a, drawn uniformly for each channel.
        shift: Bounds of b, drawn uniformly for each channel, in units of the image.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where the bounds or the probability are out of range.

    Example:
        >>> scale = ScaleIntensity(factor=(2.0, 2.0), probability=1.0)
        >>> parameters = scale.draw(np.random.default_rng(0), (3, 1))
        >>> scale.apply(np.array([[1.0], [2.0], [3.0]]), parameters, np).ravel().tolist()
        [2.0, 4.0, 6.0]

    Source:
        ``monai.transforms.RandScaleIntensity`` with ``factors=0.3`` is ``factor=(0.7, 1.3)``.
    """

    name: ClassVar[str] = "scale-intensity"
    factor: tuple[float, float] = (0.7, 1.3)
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "factor", least=0.0)
        check_bounds(self, "shift")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``factor`` and ``shift``, one number per channel each."""
        factor = uniform(rng, self.factor, shape[-1])
        return {"factor": factor, "shift": uniform(rng, self.shift, shape[-1])}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return factors of 1 and shifts of 0."""
        return {"factor": np.ones(shape[-1], np.float32), "shift": np.zeros(shape[-1], np.float32)}

    def apply(
        self, image: Float[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Multiply and shift."""
        return xp.add(image * parameters["factor"], parameters["shift"])
