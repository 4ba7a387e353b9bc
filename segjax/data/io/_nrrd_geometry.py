"""Which axes of a NRRD file lie in space, and where."""

import numpy as np
from jaxtyping import Float64

from segjax.data.io._lps import RAS_FROM_LPS, affine_from_axes, millimetres
from segjax.data.io._nrrd_header import NrrdHeader
from segjax.errors import InputError
from segjax.grid import Grid

__all__ = ["channel_axis", "header_grid", "spatial_axes"]

_Vectors = list[np.ndarray]

_SPACES = {  # factors that turn coordinates into RAS; ITK too takes unnamed spaces for LPS
    "right-anterior-superior": (1.0, 1.0, 1.0), "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0), "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": RAS_FROM_LPS, "lps": RAS_FROM_LPS,
    "scanner-xyz": RAS_FROM_LPS, "3d-right-handed": RAS_FROM_LPS, "3d-left-handed": RAS_FROM_LPS,
    "": RAS_FROM_LPS,
}  # fmt: skip
_IN_SPACE = ("domain", "space", "", "???", "none")  # kinds of axes
_COLOURS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color")


def spatial_axes(header: NrrdHeader) -> tuple[int, ...]:
    """Return the two or three axes of a file along which voxels lie.

    Raises:
        InputError: There are more or fewer.
    """
    every = range(len(header.sizes))
    if "spacedirections" in header.fields:
        directions = header.vectors("spacedirections")
        if len(directions) != len(every):
            raise header.corrupt("spacedirections")
        axes = tuple(axis for axis in every if directions[axis] is not None)
    else:
        axes = tuple(axis for axis in every if _may_lie_in_space(header, axis))[:3]
    if len(axes) not in (2, 3):
        raise InputError(f"{header.path}: has {len(axes)} axes in space; give two or three")
    return axes


def channel_axis(header: NrrdHeader) -> int | None:
    """Return the axis of a file that holds channels, None if there is one channel.

    Raises:
        InputError: There are several, or it holds colours or complex numbers.
    """
    axes = spatial_axes(header)
    others = [a for a, size in enumerate(header.sizes) if a not in axes and size > 1]
    if len(others) > 1:
        raise InputError(
            f"{header.path}: has sizes {header.sizes}; give at most three axes and one of channels"
        )
    kind = _kind(header, others[0]) if others else ""
    if kind in _COLOURS or kind == "complex":
        what = "colours" if kind in _COLOURS else "complex numbers"
        raise InputError(f"{header.path}: holds {what}; convert it to integers or floats")
    return others[0] if others else None


def header_grid(header: NrrdHeader) -> Grid:
    """Return where the voxels lie, in mm, RAS+.

    Raises:
        InputError: The header places them nowhere, or in no known space.
    """
    axes = spatial_axes(header)
    space = header.fields.get("space", "").lower()
    if space not in _SPACES:
        raise header.corrupt("space")
    placed = _directed if "spacedirections" in header.fields else _spaced
    steps, origin = placed(header, axes)
    shape = tuple(header.sizes[axis] for axis in axes)
    try:
        affine = affine_from_axes(steps, origin, _SPACES[space])
        return Grid(shape + (1,) * (3 - len(shape)), affine)
    except InputError as error:
        raise InputError(f"{header.path}: {error}") from error


def _kind(header: NrrdHeader, axis: int) -> str:
    kinds = header.words("kinds")
    return kinds[axis].lower() if axis < len(kinds) else ""


def _may_lie_in_space(header: NrrdHeader, axis: int) -> bool:
    spacings = header.per_axis("spacings")
    without = len(header.sizes) > 3 and spacings is not None and bool(np.isnan(spacings[axis]))
    return _kind(header, axis) in _IN_SPACE and not without


def _directed(
    header: NrrdHeader, axes: tuple[int, ...]
) -> tuple[_Vectors, Float64[np.ndarray, "3"]]:
    """Return the step along each axis, and the first voxel, as directions and an origin say."""
    steps = [vector for vector in header.vectors("spacedirections") if vector is not None]
    origin = _origin(header, len(steps[0]))
    units = [millimetres(word, header.path) for word in header.words("spaceunits")]
    scale = np.array((units or [1.0] * 3)[: len(origin)])
    if len(scale) != len(origin):
        raise header.corrupt("spaceunits")
    steps = [_three(step * scale) for step in steps]
    if len(axes) == 2:
        normal = np.cross(steps[0], steps[1])
        flat = len(origin) == 2 or not normal.any()
        steps.append(np.array([0.0, 0.0, 1.0]) if flat else normal / np.linalg.norm(normal))
    return steps, _three(origin * scale)


def _spaced(header: NrrdHeader, axes: tuple[int, ...]) -> tuple[_Vectors, Float64[np.ndarray, "3"]]:
    """Return the step along each axis, and the first voxel, as spacings or bounds say."""
    units = dict(enumerate(header.words("units")))
    steps, place = list(np.eye(3)), np.zeros(3)
    for i, axis in enumerate(axes):
        spacing, first = _axis(header, axis)
        unit = millimetres(units.get(axis, ""), header.path)
        steps[i] = steps[i] * spacing * unit
        place[i] = first * unit
    return steps, _three(_origin(header, 3)) if "spaceorigin" in header.fields else place


def _axis(header: NrrdHeader, axis: int) -> tuple[float, float]:
    """Return the distance between the voxels along an axis, and the place of the first."""
    spacings, low, high = (header.per_axis(f) for f in ("spacings", "axismins", "axismaxs"))
    node = header.words("centers")[axis : axis + 1] == ["node"]
    spacing = 1.0
    if spacings is not None:
        spacing = float(spacings[axis])
    elif low is not None and high is not None:
        spacing = float(high[axis] - low[axis]) / max(header.sizes[axis] - node, 1)
    if low is None or np.isnan(low[axis]):
        return spacing, 0.0
    return spacing, float(low[axis]) + (0.0 if node else spacing / 2)


def _origin(header: NrrdHeader, length: int) -> Float64[np.ndarray, "_"]:
    if "spaceorigin" not in header.fields:
        return np.zeros(length)
    found = header.vectors("spaceorigin")
    if len(found) != 1 or found[0] is None or len(found[0]) != length:
        raise header.corrupt("spaceorigin")
    return found[0]


def _three(vector: Float64[np.ndarray, "_"]) -> Float64[np.ndarray, "3"]:
    return np.append(vector, np.zeros(3 - len(vector)))
