"""Add ghosts, as pulsating vessels and breathing do."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Num

from segjax.data.augment._arrays import as_float
from segjax.data.augment._axes import (
    check_axes,
    check_whole,
    filtered,
    half_response,
    present_axes,
    visited_axes,
)
from segjax.data.augment.transform import (
    IntensityTransform,
    Parameters,
    check_bounds,
    uniform,
)
from segjax.errors import InputError


@dataclass(frozen=True)
class Ghosting(IntensityTransform):
    """Weaken every n-th plane of k-space along one axis, which repeats the image n times.

    The planes are multiplied by 1 - intensity, except for those at the centre. As the other axes
    of k-space are left alone, their Fourier transforms cancel: the image is filtered along one
    axis, which is the same and takes less time.

    Args:
        num_ghosts: Bounds of n, a whole number, both included; 0 changes nothing.
        axes: Spatial axes of which one is drawn; those that an image lacks, or that have one voxel,
            are left out.
        intensity: Bounds of the intensity, drawn uniformly.
        restore: Bounds of the share of the planes, around the centre, that keep their strength,
            drawn uniformly, in [0, 1]; None keeps the central plane only.
        probability: Of the image being changed, in [0, 1].

    Raises:
        InputError: Where bounds, axes or probability are out of range; when drawing, where an
            image has none of the axes.

    Example:
        >>> point = np.eye(1, 8, dtype=np.float32).T
        >>> parameters = {"axis": 0, "num_ghosts": 2, "intensity": 1.0}
        >>> Ghosting().apply(point, parameters, np).round(3).ravel().tolist()
        [0.625, 0.125, 0.125, 0.125, -0.375, 0.125, 0.125, 0.125]

    Source:
        ``torchio.RandomGhosting``.
    """

    name: ClassVar[str] = "ghosting"
    num_ghosts: tuple[int, int] = (4, 10)
    axes: tuple[int, ...] = (0, 1, 2)
    intensity: tuple[float, float] = (0.5, 1.0)
    restore: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self, "num_ghosts", least=0)
        check_axes(self.name, self.axes)
        check_bounds(self, "intensity", least=0.0)
        if self.restore is not None:
            check_bounds(self, "restore", least=0.0)
            if self.restore[1] > 1:
                raise InputError(f"ghosting: restore {self.restore} must not be over 1")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters | None:
        """Draw whether the transform is applied; refuse an image that has none of the axes."""
        present_axes(self.name, self.axes, shape)
        return super().draw(rng, shape)

    def parameters(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Parameters:
        """Draw ``num_ghosts``, ``axis`` and ``intensity``, and ``restore`` where it has bounds."""
        axes = present_axes(self.name, self.axes, shape)
        low, high = self.num_ghosts
        drawn = {
            "num_ghosts": np.int32(rng.integers(low, high + 1)),
            "axis": np.int32(rng.choice(axes)),
            "intensity": uniform(rng, self.intensity, 1)[0],
        }
        if self.restore is not None:
            drawn["restore"] = uniform(rng, self.restore, 1)[0]
        return drawn

    def identity(self, shape: tuple[int, ...]) -> Parameters:
        """Return an intensity of 0."""
        axis = present_axes(self.name, self.axes, shape)[0]
        none = {"num_ghosts": np.int32(1), "axis": np.int32(axis), "intensity": np.float32(0)}
        return none if self.restore is None else none | {"restore": np.float32(1)}

    def apply(
        self, image: Num[Any, "*spatial channel"], parameters: Parameters, xp: ModuleType
    ) -> Float[Any, "*spatial channel"]:
        """Weaken the planes."""
        image = as_float(image, xp)
        for axis in visited_axes(parameters["axis"], image.shape[:-1], xp):
            weakened = _planes(parameters, image.shape[axis], xp) & (parameters["axis"] == axis)
            response = half_response(1 - weakened * xp.asarray(parameters["intensity"], np.float32))
            image = filtered([image], [response], axis, xp)
        return image


def _planes(parameters: Parameters, size: int, xp: ModuleType) -> Bool[Any, " size"]:
    """Return which planes are weakened, frequency 0 at ``size // 2``."""
    plane, ghosts = xp.arange(size), parameters["num_ghosts"]
    weakened = (plane % xp.maximum(ghosts, 1) == 0) & (ghosts > 0)
    if "restore" not in parameters:
        return weakened & (plane != size // 2)
    half = xp.round(parameters["restore"] * np.float32(size)) // 2
    return weakened & ((plane < size // 2 - half) | (plane >= size // 2 + half))
