"""The lesions of the phantom: masks, and what they do to the tissue around them."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.data.phantom.head import Head, Space, Tissue


def paint_ms(rng: np.random.Generator, head: Head) -> np.ndarray:
    """Paint 2 to 12 plaques (2 to 6 in a slice) into the brain, most of them at the ventricles.

    Args:
        rng: Source of randomness.
        head: Its tissue is changed in place.

    Returns:
        The mask of the plaques.
    """
    tissue, z = head.tissue, head.space.z
    white = (tissue == Tissue.WHITE) & (z > -0.1)
    near = white & (head.ventricle > 1.25) & (head.ventricle < 2.4)
    brain = (tissue == Tissue.WHITE) | (tissue == Tissue.GREY)
    flat = 1 in tissue.shape
    roughness = 0.13 * head.space.noise(rng, 0.1)
    plaques = np.zeros(tissue.shape, bool)
    for _ in range(int(rng.integers(2, 6 if flat else 12, endpoint=True))):
        finger = bool(rng.random() < 0.6)
        centre = _pick(rng, head.space, [(near if finger else white) & ~plaques, brain])
        axes = rng.uniform(*((0.05, 0.12) if flat else (0.085, 0.17))) * _proportions(rng, finger)
        turned = _turn(head.space, centre, rng.uniform(-0.5, 0.5))
        plaques |= (turned.ellipsoid((0.0, 0.0, 0.0), axes) + roughness < 1) & brain
    plaques = _without_specks(plaques, diameter=0.1 * head.space.unit)
    tissue[plaques] = Tissue.LESION
    return plaques


def paint_meningioma(rng: np.random.Generator, head: Head) -> np.ndarray:
    """Paint one mass on the dura, with its tail, a cleft of fluid and oedema around it.

    Args:
        rng: Source of randomness.
        head: Its tissue is changed in place.

    Returns:
        The mask of the mass, without the tail.
    """
    space, radius = head.space, head.radius
    cavity = (radius < 0.85) & (space.z > -0.15)
    surface = cavity & (radius > 0.70) & (radius < 0.78) & (space.z > -0.05)
    centre = _pick(rng, space, [surface, cavity])
    axes = rng.uniform(0.16, 0.32) * rng.uniform(0.85, 1.15, 3)
    mass = (space.ellipsoid(centre, axes) + 0.08 * space.noise(rng, 0.2) < 1) & cavity
    mass = _without_specks(mass, diameter=0.2 * space.unit)
    _paint_around_mass(rng, head, mass)
    head.tissue[mass] = Tissue.LESION
    return mass


def _paint_around_mass(rng: np.random.Generator, head: Head, mass: np.ndarray) -> None:
    """Paint oedema, the cleft, the dural tail and the enhancing sinus at the midline."""
    tissue, space, radius = head.tissue, head.space, head.radius
    distance = ndimage.distance_transform_edt(~mass) / space.unit
    oedema = rng.uniform(0, 0.18) * (1 + 0.5 * space.noise(rng, 0.15))
    tissue[(distance < oedema) & (tissue == Tissue.WHITE)] = Tissue.OEDEMA
    tissue[(distance < 0.035) & (radius < 0.83)] = Tissue.FLUID
    tissue[(distance < 0.18) & (radius > 0.825) & (radius < 0.86)] = Tissue.VESSEL
    sinus = np.hypot(space.x / 0.05, (radius - 0.82) / 0.035) < 1
    tissue[sinus & (space.z > -0.05) & ((space.z > 0.3) | (space.y < 0))] = Tissue.VESSEL


def _pick(
    rng: np.random.Generator, space: Space, masks: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Draw a place in the first mask that is not empty."""
    voxels = next(v for v in map(np.flatnonzero, masks) if v.size)
    voxel = int(rng.choice(voxels))
    return float(space.x.flat[voxel]), float(space.y.flat[voxel]), float(space.z.flat[voxel])


def _proportions(rng: np.random.Generator, finger: bool) -> np.ndarray:
    """Return the axes of a plaque: a finger pointing away from the ventricle, or a lump."""
    return np.array([1.3, 0.75, 0.8]) if finger else rng.uniform(0.7, 1.1, 3)


def _turn(space: Space, centre: Sequence[float], angle: float) -> Space:
    """Return the space around a place, turned about the vertical axis by an angle in radians."""
    x, y = space.x - centre[0], space.y - centre[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return Space(cos * x + sin * y, cos * y - sin * x, space.z - centre[2], space.unit)


def _without_specks(mask: np.ndarray, diameter: float) -> np.ndarray:
    """Remove pieces smaller than a ball (in a slice: a disc) of a diameter; keep the largest."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    least = np.pi / 4 * (diameter / 2) ** 2 if 1 in mask.shape else np.pi / 6 * diameter**3
    return (sizes >= min(least, sizes.max()))[pieces] & mask
