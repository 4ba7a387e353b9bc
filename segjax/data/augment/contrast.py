"""Draw the contrast between tissues anew."""

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
from segjax.errors import InputError


@dataclass(frozen=True)
class Contrast(IntensityTransform):
    """Stretch some ranges of intensities and squeeze others: a random increasing, bent line.

    ``f(0) = 0``, and ``f`` has a slope of its own in each of the ``pieces`` equal parts of
    ``span``; its first and last slope go on beyond. So the order of intensities stays, and how far
    one tissue lies from the next is drawn anew. Made for z-scores, of which 0 is the usual tissue.

    Args:
        log_slope: Bounds of the logarithms of the slopes, drawn uniformly for each piece and
            channel.
        span: Least and greatest intensity between which the slope changes, in units of the image.
        pieces: Number of slopes, 1 or more.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where the bounds, the span, the pieces or the probability are out of range.

    Example:
        >>> contrast = Contrast(span=(-1.0, 1.0), pieces=2, probability=1.0)
        >>> slopes = {"slope": np.array([[0.5], [2.0]], np.float32)}
        >>> image = np.array([[-2.0], [0.0], [0.5], [3.0]])
        >>> contrast.apply(image, slopes, np).ravel().tolist()
        [-1.0, 0.0, 1.0, 6.0]

    Source:
        Billot et al., Med. Image Anal. 86 (2023) 102789 (SynthSeg: contrasts beyond those of real
        scans make networks independent of them). ``monai.transforms.RandHistogramShift`` bends
        intensities between the least and the greatest one of an image instead.
    """

    name: ClassVar[str] = "contrast"
    log_slope: tuple[float, float] = (-0.7, 0.7)
    span: tuple[float, float] = (-2.0, 4.0)
    pieces: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self, "log_slope")
        check_bounds(self, "span")
        if not self.span[0] < self.span[1]:
            raise InputError(f"contrast: span {self.span} is empty: give two different numbers")
        if self.pieces < 1:
            raise InputError(f"contrast: pieces {self.pieces}: give 1 or more")

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``slope``, one number for each piece and channel."""
        log_slope = uniform(rng, self.log_slope, self.pieces * shape[-1])
        return {"slope": np.exp(log_slope).reshape(self.pieces, shape[-1])}

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return slopes of 1."""
        return {"slope": np.ones((self.pieces, shape[-1]), np.float32)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Bend the line: the first slope everywhere, and from each knot on what it changes by."""
        image, slope = as_float(image, xp), parameters["slope"]
        bent = image * slope[0]
        zero = slope[0] * 0
        for knot, change in zip(self._knots(), slope[1:] - slope[:-1], strict=True):
            bent = bent + change * xp.maximum(image - knot, 0)
            zero = zero + change * max(-float(knot), 0.0)
        return bent - zero

    def _knots(self) -> list[np.float32]:
        """Return the intensities at which the slope changes."""
        return list(np.linspace(*self.span, self.pieces + 1, dtype=np.float32)[1:-1])
