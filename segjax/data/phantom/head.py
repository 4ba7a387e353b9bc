"""The head of the phantom: tissues as a function of place, drawn anew for every seed.

Lengths are in units of half the head's length, forehead to centre (about 95 mm); x points to the
patient's right, y to the front, z to the top of the head, as in RAS. Numbers without a name are
places and sizes of anatomy in these units, read off atlases and then tuned by eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

_SKIN = (0.78, 1.0, 0.95)  # half axes of the head
_FILL = 0.94  # part of the field of view that the head takes


class Tissue(IntEnum):
    """What a voxel holds."""

    AIR = 0
    FAT = 1
    BONE = 2
    MARROW = 3
    FLUID = 4
    GREY = 5
    WHITE = 6
    MUSCLE = 7
    DURA = 8
    VESSEL = 9
    OEDEMA = 10
    LESION = 11


@dataclass(frozen=True, eq=False)
class Space:
    """Where every voxel of a grid of three axes lies in the head.

    Attributes:
        x: To the patient's right.
        y: To the front.
        z: To the top.
        unit: Voxels per unit of length.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    unit: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the grid; a slice has one voxel along the third axis."""
        return self.x.shape

    def noise(self, rng: np.random.Generator, distance: float) -> np.ndarray:
        """Draw smooth noise of variance about 1 whose blobs lie ``distance`` apart."""
        return smooth_noise(rng, self.shape, distance * self.unit)

    def ellipsoid(self, centre: Sequence[float], axes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return 0 at the centre of an ellipsoid, 1 on its surface, growing outwards."""
        offsets = zip((self.x, self.y, self.z), centre, axes, strict=True)
        x, y, z = ((p - c) / a for p, c, a in offsets)
        return np.sqrt(x * x + y * y + z * z)

    def both_sides(self) -> "Space":
        """Return the space with left folded onto right, to place what comes in pairs."""
        return Space(np.abs(self.x), self.y, self.z, self.unit)


@dataclass(frozen=True, eq=False)
class Head:
    """A head on a grid.

    Attributes:
        space: Where every voxel lies.
        tissue: A :class:`Tissue` for every voxel.
        radius: 0 at the centre of the head, 1 on its skin, 0.83 on the brain's surface.
        ventricle: 1 on the walls of the ventricles, less inside, growing outwards.
    """

    space: Space
    tissue: np.ndarray
    radius: np.ndarray
    ventricle: np.ndarray


def draw_head(rng: np.random.Generator, shape: Sequence[int]) -> Head:
    """Draw a head.

    Args:
        rng: Source of randomness.
        shape: Three axes (right, front, top) for a whole head, or two (rows from front to back,
            columns from right to left) for an axial slice at the height of the ventricles.

    Returns:
        The head, on a grid of three axes in either case.
    """
    space = _draw_space(rng, shape)
    x, y, z = space.x, space.y, space.z
    width = _SKIN[0] * (1 - 0.12 * y)  # narrower in front
    radius = np.sqrt((x / width) ** 2 + (y / _SKIN[1]) ** 2 + (z / _SKIN[2]) ** 2)
    ventricle = _draw_ventricles(rng, space)
    tissue = np.full(space.shape, Tissue.AIR, np.uint8)
    _paint_soft_tissue(rng, tissue, space, radius)
    _paint_skull(rng, tissue, space, radius)
    _paint_cerebrum(rng, tissue, space, radius)
    _paint_deep_nuclei(tissue, space)
    tissue[ventricle < 1] = Tissue.FLUID
    _paint_posterior_fossa(rng, tissue, space)
    _paint_orbits(tissue, space)
    return Head(space, tissue, radius, ventricle)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], distance: float) -> np.ndarray:
    """Draw smooth noise of mean 0 and variance about 1: cubic B-splines with random weights.

    Args:
        rng: Source of randomness.
        shape: Three axes.
        distance: Between neighbouring splines, in voxels.

    Returns:
        A float32 array of that shape.
    """
    knots = [int(np.ceil(n / distance)) + 4 for n in shape]
    weights = rng.standard_normal(knots).astype(np.float32)
    first, second, third = (
        _splines(n, k, distance, rng.random()) for n, k in zip(shape, knots, strict=True)
    )
    weights = second @ weights @ third.T
    field = first @ weights.reshape(knots[0], -1)
    return field.reshape(shape) / np.float32(0.33)  # 0.33: standard deviation of such a sum


def _splines(count: int, knots: int, distance: float, offset: float) -> np.ndarray:
    """Evaluate every cubic B-spline (column) at every voxel (row) of an axis."""
    place = np.arange(count)[:, None] / distance + offset + 1
    t = np.abs(place - np.arange(knots))
    spline = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)
    return spline.astype(np.float32)


def _draw_space(rng: np.random.Generator, shape: Sequence[int]) -> Space:
    """Draw a head that is turned, shifted, scaled and bent a little."""
    extent = _SKIN if len(shape) == 3 else (_SKIN[1], _SKIN[0])
    unit = _FILL * min(n / 2 / e for n, e in zip(shape, extent, strict=True))
    axes = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape]
    if len(shape) == 3:
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        height = -0.03
    else:
        row, column = np.meshgrid(*axes, indexing="ij")
        grid = np.stack([-column, -row, np.zeros_like(row)], -1)[:, :, None]
        height = rng.uniform(0.02, 0.28)
    matrix = _rotation(rng.uniform(-0.12, 0.12, 3)).T * rng.uniform(0.97, 1.08, 3) / unit
    shift = rng.uniform(-0.02, 0.02, 3)
    shift[2] += height
    points = grid @ matrix.astype(np.float32) + shift.astype(np.float32)
    bend = [0.02 * smooth_noise(rng, grid.shape[:3], 0.45 * unit) for _ in range(3)]
    x, y, z = (points[..., i] + bend[i] for i in range(3))
    return Space(x, y, z, unit)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotation by angles (radians) about the three axes, one after the other."""
    matrix = np.eye(3)
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        plane = np.eye(3)
        plane[[i, j], [i, j]] = np.cos(angle)
        plane[i, j], plane[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    return matrix


def _draw_ventricles(rng: np.random.Generator, space: Space) -> np.ndarray:
    """Return 1 on the walls of the lateral ventricles, bent like horns, and of the third."""
    y, z = space.y, space.z
    size = rng.uniform(0.8, 1.4)
    spread = 0.8 * np.maximum(y - 0.06, 0) ** 1.5 + 1.5 * np.maximum(-0.1 - y, 0) ** 1.5
    course = 0.035 + 0.03 * size + spread
    height = z - 0.13 + 0.9 * np.maximum(-0.15 - y, 0)
    lateral = np.sqrt(
        ((np.abs(space.x) - course) / (0.045 * size)) ** 2
        + ((y + 0.02) / 0.40) ** 2
        + (height / (0.10 * size)) ** 2
    )
    return np.minimum(lateral, space.ellipsoid((0.0, -0.02, -0.04), (0.018 * size, 0.14, 0.10)))


def _paint_soft_tissue(
    rng: np.random.Generator, tissue: np.ndarray, space: Space, radius: np.ndarray
) -> None:
    """Paint scalp, face and neck; muscles, fat and air cells lie below the skull."""
    neck = np.hypot(space.x / 0.52, (space.y + 0.08) / 0.62) + 8 * np.maximum(space.z + 0.35, 0)
    face = space.ellipsoid((0.0, 0.42, -0.62), (0.52, 0.55, 0.62))
    skin = np.minimum(np.minimum(radius, neck), face)
    lumps = space.noise(rng, 0.12)
    tissue[skin < 1] = Tissue.FAT
    tissue[skin < 0.93 + 0.01 * lumps] = Tissue.MUSCLE
    tissue[(skin < 0.88) & (lumps > 0.9)] = Tissue.MARROW
    tissue[(skin < 0.85) & (lumps < -0.9)] = Tissue.BONE


def _paint_skull(
    rng: np.random.Generator, tissue: np.ndarray, space: Space, radius: np.ndarray
) -> None:
    """Paint two tables of bone with marrow between them, and the dura."""
    depth = radius + 0.6 * np.maximum(-0.3 - space.z, 0) + 0.012 * space.noise(rng, 0.4)
    tissue[depth < 0.925] = Tissue.BONE
    tissue[(depth < 0.905) & (depth > 0.875)] = Tissue.MARROW
    tissue[depth < 0.855] = Tissue.DURA


def _paint_cerebrum(
    rng: np.random.Generator, tissue: np.ndarray, space: Space, radius: np.ndarray
) -> None:
    """Paint the folded cortex and the white matter below it.

    Sulci are the places where a noise crosses zero, and go deeper the nearer the surface is; the
    cortex follows them, as it follows the surface and the fissures.
    """
    base = np.interp(space.y, [-0.5, -0.2, 0.05, 0.25, 0.5], [-0.16, -0.2, -0.46, -0.46, -0.28])
    floor = np.maximum(base, -0.2 - 0.9 * np.abs(space.x))
    depth = np.minimum(0.83 - radius, 0.9 * (space.z - floor))
    sulci = 2.2 * depth + 1.5 * np.abs(space.noise(rng, 0.115))
    below = np.minimum(0.33 + 5.5 * depth, sulci)
    below = np.minimum(below, _midline_fissure(rng, space))
    below = np.minimum(below, _lateral_fissure(rng, space))
    tissue[(depth > -0.07) & (radius < 0.855)] = Tissue.FLUID
    tissue[(depth > 0) & (below > 0.33)] = Tissue.GREY
    tissue[(depth > 0) & (below > 0.70)] = Tissue.WHITE


def _midline_fissure(rng: np.random.Generator, space: Space) -> np.ndarray:
    """Return how far voxels lie from the cleft between the hemispheres, above the callosum."""
    wall = np.abs(space.x + 0.012 * space.noise(rng, 0.3))
    callosum = np.hypot(space.y + 0.02, 1.1 * (space.z - 0.05))
    return 0.22 + 6 * wall + 4 * np.maximum(0.42 - callosum, 0)


def _lateral_fissure(rng: np.random.Generator, space: Space) -> np.ndarray:
    """Return how far voxels lie from the Sylvian fissures."""
    side = np.abs(space.x)
    course = space.y - 0.10 - 0.3 * (side - 0.45) + 0.06 * space.noise(rng, 0.3)
    inwards = np.maximum(0.42 - side, 0)
    upwards = np.maximum(np.abs(space.z - 0.02) - 0.12, 0)
    return 0.1 + 7 * np.abs(course) + 6 * inwards + 5 * upwards


def _paint_deep_nuclei(tissue: np.ndarray, space: Space) -> None:
    """Paint thalamus, putamen and caudate head on both sides."""
    half = space.both_sides()
    tissue[half.ellipsoid((0.13, -0.10, 0.00), (0.09, 0.15, 0.11)) < 1] = Tissue.GREY
    tissue[half.ellipsoid((0.30, 0.10, 0.00), (0.055, 0.19, 0.13)) < 1] = Tissue.GREY
    tissue[half.ellipsoid((0.16, 0.24, 0.06), (0.05, 0.10, 0.12)) < 1] = Tissue.GREY


def _paint_posterior_fossa(rng: np.random.Generator, tissue: np.ndarray, space: Space) -> None:
    """Paint cerebellum with its leaves, brainstem and fourth ventricle."""
    cerebellum = space.ellipsoid((0.0, -0.40, -0.41), (0.50, 0.36, 0.25))
    leaves = np.abs(np.sin(28 * (space.z + 0.35 * space.y) + 1.5 * space.noise(rng, 0.25)))
    tissue[cerebellum < 1.08] = Tissue.FLUID
    tissue[cerebellum < 1] = Tissue.GREY
    tissue[(cerebellum < 0.85) & (leaves > 0.5)] = Tissue.WHITE
    tissue[cerebellum < 0.45] = Tissue.WHITE
    stem = space.ellipsoid((0.0, -0.06, -0.5), (0.12, 0.13, 0.45))
    tissue[(stem < 1.3) & (space.z < -0.2)] = Tissue.FLUID
    tissue[(stem < 1) & (space.z < -0.1)] = Tissue.WHITE
    tissue[space.ellipsoid((0.0, -0.21, -0.42), (0.06, 0.05, 0.09)) < 1] = Tissue.FLUID


def _paint_orbits(tissue: np.ndarray, space: Space) -> None:
    """Paint orbital fat, eyes and the nasal cavity."""
    half = space.both_sides()
    tissue[half.ellipsoid((0.27, 0.70, -0.45), (0.16, 0.24, 0.14)) < 1] = Tissue.FAT
    tissue[half.ellipsoid((0.27, 0.80, -0.45), (0.11, 0.11, 0.11)) < 1] = Tissue.FLUID
    tissue[space.ellipsoid((0.0, 0.62, -0.60), (0.12, 0.28, 0.17)) < 1] = Tissue.AIR
