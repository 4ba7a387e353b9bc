"""Put lesions of known sizes into a whole scan."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from segjax.data.synthesis.shapes import LesionShapes, draw_shape
from segjax.data.synthesis.soften import soften
from segjax.data.synthesis.tissue import Room, Tissue, background, find_tissue
from segjax.errors import InputError
from segjax.grid import grid, same_grid
from segjax.volume import Volume

__all__ = ["PutLesion", "put_lesions"]

_EDGE_MM, _APART_MM, _TISSUE_MM = 2.0, 3.0, 2.0  # see Room
_BETWEEN_MM = 6.0  # lesions that are put in, at least
_WINDOW = (-1.0, 0.5)
_WHOLE = 0.95  # of a lesion that has to find room
_TRIES = 200  # places that are tried for each


@dataclass(frozen=True, eq=False)
class PutLesion:
    """A lesion that was put into a scan.

    Attributes:
        mm3: Its volume there, in mm³; its area in mm² in rank 2.
        centre_ras: Its centre of mass in mm.
        contrast: In interquartile ranges of the brain.
        box: Voxels that hold it.
        shares: Of these voxels that it takes.
    """

    mm3: float
    centre_ras: tuple[float, ...]
    contrast: float
    box: tuple[slice, ...]
    shares: Float32[np.ndarray, "*box"]


def put_lesions(
    volume: Volume,
    shapes: LesionShapes,
    rng: np.random.Generator,
    *,
    volumes: Sequence[float],
    brain: Volume | None = None,
    lesions: Volume | None = None,
    contrast: tuple[float, float] = (0.9, 2.0),
    softness: tuple[float, float] = (0.4, 0.9),
) -> tuple[Volume, Volume, tuple[PutLesion, ...]]:
    """Put lesions of given volumes into the white matter of a scan.

    What :class:`~segjax.data.synthesis.PutLesions` does to a patch, on a scan of any intensities:
    every channel gains ``share · contrast · interquartile range`` where a lesion lies. Each lies in
    the brain, 2 mm off its edge, 3 mm off true lesions and 6 mm off the others that are put in.

    Args:
        volume: The scan; the first channel tells what is white matter.
        shapes: Shapes of lesions.
        rng: Source of randomness.
        volumes: Of the lesions, in mm³ (mm² in rank 2). What finds no place for 95 % of it or more
            is left out.
        brain: What is not 0 is brain, on the same grid; by default what is not constant.
        lesions: What is not 0 is a true lesion, on the same grid.
        contrast: Bounds, drawn uniformly for each lesion.
        softness: Bounds of the standard deviation of the blur of its edge, in mm.

    Returns:
        The scan, float32; the share of each voxel that lesions take, float32; and what was put
        where, the largest first.

    Raises:
        InputError: Brain or lesions lie on another grid, or shapes do not fit the scan's rank.

    Example:
        >>> from segjax.data.synthesis import ellipsoids
        >>> rng = np.random.default_rng(0)
        >>> scan = Volume(rng.normal(100, 5, (32, 32, 32)), np.eye(4))
        >>> changed, shares, put = put_lesions(scan, ellipsoids(), rng, volumes=[60.0, 200.0])
        >>> [round(lesion.mm3 / 10) * 10 for lesion in put], round(float(shares.data.sum()), -1)
        ([190, 60], 250.0)
    """
    image = volume.channels_last.astype(np.float32)
    inside = _mask(brain, volume, "brain") if brain else ~background(image[..., 0], np)
    own = _mask(lesions, volume, "lesions") if lesions else np.zeros(inside.shape, bool)
    tissue = find_tissue(image, inside, own, _WINDOW, _room(volume), np)
    taken, added = np.zeros(inside.shape, np.float32), np.zeros(inside.shape, np.float32)
    put = []
    for wanted in sorted(volumes, reverse=True):
        shares = draw_shape(rng, shapes, volume.spacing, volume=wanted)
        weights = soften(shares, rng.uniform(*softness), volume.spacing)
        strength = float(rng.uniform(*contrast))
        centre = _find_place(rng, shares, tissue, taken, _voxels(_BETWEEN_MM, volume))
        if centre is not None:
            box, kept = _add(taken, shares, centre, tissue.room)
            _add(added, strength * weights, centre, tissue.room)
            put.append(_describe(box, kept, strength, volume))
    changed = added != 0
    image[changed] += added[changed][:, None] * tissue.spread
    return (
        volume.with_data(image.reshape(volume.data.shape)),
        volume.with_data(np.minimum(taken, 1)),
        tuple(put),
    )


def _find_place(
    rng: np.random.Generator,
    shares: Float32[np.ndarray, "*box"],
    tissue: Tissue,
    taken: Float32[np.ndarray, "*spatial"],
    gap: tuple[int, ...],
) -> tuple[int, ...] | None:
    """Draw a place where the lesion finds room; None where several in a row have none."""
    places = np.flatnonzero(tissue.centres)
    spatial = taken.shape
    for place in rng.choice(places, min(_TRIES, len(places)), replace=False):
        centre = tuple(int(n) for n in np.unravel_index(place, spatial))
        there, here = _overlap(shares.shape, centre, spatial)
        wide = tuple(
            slice(max(cut.start - n, 0), cut.stop + n) for cut, n in zip(there, gap, strict=True)
        )
        kept = float((shares[here] * tissue.room[there]).sum())
        if kept >= _WHOLE * float(shares.sum()) and not taken[wide].any():
            return centre
    return None


def _add(
    into: Float32[np.ndarray, "*spatial"],
    values: Float32[np.ndarray, "*box"],
    centre: tuple[int, ...],
    room: Bool[np.ndarray, "*spatial"],
) -> tuple[tuple[slice, ...], Float32[np.ndarray, "*cut"]]:
    """Add a box around a place, where there is room; return where, and what was added."""
    there, here = _overlap(values.shape, centre, into.shape)
    cut = values[here] * room[there]
    into[there] += cut
    return there, cut


def _overlap(
    box: tuple[int, ...], centre: tuple[int, ...], spatial: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return which part of an image a box around a place covers, and which part of the box."""
    there, here = [], []
    for size, middle, whole in zip(box, centre, spatial, strict=True):
        first = middle - size // 2
        start, stop = max(first, 0), min(first + size, whole)
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first))
    return tuple(there), tuple(here)


def _describe(
    box: tuple[slice, ...],
    shares: Float32[np.ndarray, "*box"],
    contrast: float,
    volume: Volume,
) -> PutLesion:
    total = float(shares.sum())
    places = np.indices(shares.shape).reshape(shares.ndim, -1)
    middle = places @ shares.ravel() / total + [cut.start for cut in box]
    ras = volume.affine[:-1, :-1] @ middle + volume.affine[:-1, -1]
    centre = tuple(float(mm) for mm in ras)
    return PutLesion(total * volume.voxel_size, centre, contrast, box, shares)


def _room(volume: Volume) -> Room:
    return Room(*(_voxels(mm, volume) for mm in (_EDGE_MM, _APART_MM, _TISSUE_MM)))


def _voxels(mm: float, volume: Volume) -> tuple[int, ...]:
    """Return a distance in voxels along each axis, at least 1."""
    return tuple(max(1, round(mm / size)) for size in volume.spacing)


def _mask(mask: Volume, volume: Volume, what: str) -> Bool[np.ndarray, "*spatial"]:
    if not same_grid(grid(mask), grid(volume)):
        raise InputError(f"the {what} lie on another grid than the scan: {mask} and {volume}")
    return np.asarray(mask.channels_last.any(axis=-1))
