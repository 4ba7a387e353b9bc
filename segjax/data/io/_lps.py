"""Geometry of the formats of ITK: millimetres to the left, the back and the head (LPS)."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

__all__ = ["RAS_FROM_LPS", "affine_from_axes", "millimetres"]

RAS_FROM_LPS = (-1.0, -1.0, 1.0)
"""Factors that turn coordinates in LPS into those in RAS, and back."""

_MILLIMETRES = {
    "": 1.0, "?": 1.0, "???": 1.0, "none": 1.0, "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3,
    "nm": 1e-6, "cm": 10.0, "m": 1e3, "meter": 1e3, "metre": 1e3,
}  # fmt: skip


def millimetres(unit: str, path: Path) -> float:
    """Return how many mm a unit of length is.

    Args:
        unit: Name of the unit, empty or ``?`` where none is stated, which counts as mm.
        path: File, for the warning.

    Warns:
        UserWarning: The unit is unknown; it counts as mm.
    """
    name = unit.strip().lower()
    known = _MILLIMETRES.get(name, _MILLIMETRES.get(name.removesuffix("s")))
    if known is None:
        warnings.warn(f"{path}: its unit of length {unit!r} is unknown; mm is assumed",
                      stacklevel=4)  # fmt: skip
    return 1.0 if known is None else known


def affine_from_axes(
    axes: Sequence[Float64[np.ndarray, "3"]],
    origin: Float64[np.ndarray, "3"],
    to_ras: Sequence[float] = RAS_FROM_LPS,
) -> Float64[np.ndarray, "4 4"]:
    """Return the affine, in RAS, of voxels with given axes.

    Args:
        axes: Step from voxel to voxel along each of the three axes, in mm.
        origin: Centre of the first voxel, in mm.
        to_ras: Factors that turn coordinates into those in RAS.
    """
    affine = np.eye(4)
    affine[:3] = np.column_stack([*axes, origin]) * np.array(to_ras)[:, None] + 0.0
    return affine
