"""Shapes of lesions: cut out of masks or drawn, then turned, bent and sampled on a grid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from segjax.components import box_of, label_components
from segjax.data.io.formats import read_label
from segjax.data.labels import IGNORED
from segjax.data.listing import list_labels
from segjax.errors import InputError
from segjax.interpolation import between_corners
from segjax.progress import track
from segjax.volume import Volume

__all__ = [
    "BENT",
    "LesionShapes",
    "draw_part",
    "draw_shape",
    "ellipsoids",
    "read_shapes",
    "shapes_of",
]

BENT = 0.15
"""How far a surface is bent at most, as a share of the shape's radius."""

_WAVES = 4
_LENGTHS = (2.0, 4.0)  # of the waves, in radii
_STRETCH = 1.15  # that a bent shape needs at most to have its volume
_FEWEST = 3  # voxels: what is smaller has no shape
_FINEST = 8  # parts of a voxel along an axis at most
_ALIKE = 3.0  # shapes of up to so many times a volume, or its part, are scaled to it
_SMALLEST = 3.0  # mm, diameter of a drawn ellipsoid
_ACROSS = 10  # voxels across a drawn ellipsoid


@dataclass(frozen=True, eq=False)
class LesionShapes:
    """Shapes of lesions, all of one rank.

    Attributes:
        masks: The voxels of each, in the smallest box that holds them.
        spacings: Distance between the voxels of each along every axis, in mm.
        source: Where they come from, in words.

    Example:
        >>> ball = np.ones((3, 3, 3), bool)
        >>> LesionShapes((ball,), ((1.0, 1.0, 2.0),), "a box").volumes
        array([54.])
    """

    masks: tuple[Bool[np.ndarray, "..."], ...]
    spacings: tuple[tuple[float, ...], ...]
    source: str

    def __len__(self) -> int:
        return len(self.masks)

    @cached_property
    def volumes(self) -> Float64[np.ndarray, " shape"]:
        """Volume of each in mm³; the area in mm² in rank 2."""
        pairs = zip(self.masks, self.spacings, strict=True)
        return np.array([mask.sum() * np.prod(spacing) for mask, spacing in pairs])

    @cached_property
    def radii(self) -> Float64[np.ndarray, " shape"]:
        """Distance of each one's farthest voxel from its centre of mass, in mm."""
        pairs = zip(self.masks, self.spacings, strict=True)
        return np.array([_radius(mask, spacing) for mask, spacing in pairs])

    @cached_property
    def flat(self) -> "LesionShapes":
        """Their largest slices along the last axis, for images of rank 2."""
        if self.masks[0].ndim == 2:
            return self
        slices = [mask[..., mask.sum(axis=(0, 1)).argmax()] for mask in self.masks]
        masks = tuple(each[box_of(each)] for each in slices)
        return replace(self, masks=masks, spacings=tuple(s[:2] for s in self.spacings))


def shapes_of(masks: Iterable[Volume], source: str) -> LesionShapes:
    """Cut the lesions out of masks: connected components of 3 voxels or more.

    Args:
        masks: Label maps; what is neither 0 nor 255 is lesion.
        source: Where they come from, in words.

    Raises:
        InputError: There is no lesion in any of them.

    Example:
        >>> mask = np.zeros((6, 6, 6), np.uint8)
        >>> mask[1:3, 1:4, 1:3] = mask[5, 5, 5] = 1
        >>> shapes_of([Volume(mask, np.eye(4))], "a mask").volumes.tolist()
        [12.0]
    """
    found, spacings = [], []
    for volume in masks:
        mask = (volume.data > 0) & (volume.data != IGNORED)
        own = _components(mask)
        found += own
        spacings += [volume.spacing] * len(own)
    if not found:
        raise InputError(f"{source}: there is no lesion of {_FEWEST} voxels or more")
    return LesionShapes(tuple(found), tuple(spacings), source)


@lru_cache(maxsize=4)
def read_shapes(folder: str | Path) -> LesionShapes:
    """Read the shapes of all lesions in a folder of masks.

    Args:
        folder: Folder of label maps, of any format that segjax reads; once read, it is kept.

    Raises:
        InputError: There is no such folder, no label map, or no lesion in it; or a file cannot be
            read.

    Example:
        >>> shapes = read_shapes("brains/labels")
        >>> len(shapes) > 0
        True
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{place}: there is no such folder of lesion masks: give one as shapes")
    files = list_labels(place).values()
    masks = (read_label(file) for file in track(files, "Reading shapes", total=len(files)))
    return shapes_of(masks, str(place))


@lru_cache(maxsize=4)
def ellipsoids(
    count: int = 64, *, rank: int = 3, seed: int = 0, largest: float = 12.0
) -> LesionShapes:
    """Draw ellipsoids (in rank 2 ellipses) to use where there are no masks.

    Diameters are log-uniform from 3 mm on, half axes differ by up to a factor of 1 / 0.6.
    :func:`draw_shape` gives them their uneven surface.

    Args:
        count: How many.
        rank: 2 or 3.
        seed: Of the draws.
        largest: Largest diameter, in mm.

    Example:
        >>> len(ellipsoids()), ellipsoids().masks[0].ndim
        (64, 3)
    """
    rng = np.random.default_rng(seed)
    masks, spacings = [], []
    for _ in range(count):
        axes = rng.uniform(0.6, 1.0, rank)
        places = np.indices((_ACROSS,) * rank) - (_ACROSS - 1) / 2
        column = (rank,) + (1,) * rank
        mask = ((places / (axes * _ACROSS / 2).reshape(column)) ** 2).sum(axis=0) <= 1
        diameter = np.exp(rng.uniform(*np.log((_SMALLEST, largest))))
        spacing = float((_ball(diameter, rank) / mask.sum()) ** (1 / rank))
        masks.append(mask[box_of(mask)])
        spacings.append((spacing,) * rank)
    return LesionShapes(tuple(masks), tuple(spacings), "drawn ellipsoids")


def draw_shape(
    rng: np.random.Generator,
    shapes: LesionShapes,
    spacing: Sequence[float],
    *,
    volume: float | None = None,
    reach: float = np.inf,
) -> Float32[np.ndarray, "*box"]:
    """Draw a lesion: one of the shapes, turned, mirrored, scaled, bent and moved.

    The turn is any, the scale U(0.8, 1.25) along each axis alike, the surface bent by up to 15 %
    of the radius by a sum of plane waves, and the centre moved by up to half a voxel. The shape is
    interpolated linearly at points within each voxel no farther apart than its own voxels.

    Args:
        rng: Source of randomness.
        shapes: Shapes; for two axes their largest slices.
        spacing: Distance between the voxels of the result along each axis, in mm.
        volume: To be had, in mm³ (mm²): the shape is one of up to 3 times that or its third, where
            there is one, and scaled to it. By default the shape's own, scaled.
        reach: Longest distance from the centre, in mm, that the lesion may have.

    Returns:
        Share of each voxel that the lesion takes, in [0, 1], in a box of odd sizes around its
        centre; their sum is within 5 % of the volume that was drawn.

    Raises:
        InputError: All shapes are larger than that, or they are flat and the result is not.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shares = draw_shape(rng, ellipsoids(), (1.0, 1.0, 1.0), volume=500.0)
        >>> bool(abs(shares.sum() / 500 - 1) < 0.05)
        True
    """
    rank = len(spacing)
    shapes = _of_rank(shapes, rank)
    scale = rng.uniform(0.8, 1.25) if volume is None else None
    index = _choose(rng, shapes, scale, volume, reach)
    target = shapes.volumes[index] * scale**rank if scale is not None else float(volume or 0)
    moves = _draw_moves(rng, rank)
    scale = (target / shapes.volumes[index]) ** (1 / rank)
    got = float(_sample(shapes, index, spacing, moves, scale).sum() * np.prod(spacing))
    scale *= np.clip(target / max(got, 1e-9), 0.5, _STRETCH**rank) ** (1 / rank)
    return _sample(shapes, index, spacing, moves, float(scale))


def draw_part(
    rng: np.random.Generator, shapes: LesionShapes, spacing: Sequence[float], *, reach: float
) -> Float32[np.ndarray, "*box"]:
    """Draw a lesion or a part of one: what lies around a random voxel of all shapes.

    So a shape is drawn in proportion to its volume, where :func:`draw_shape` draws all alike and
    hence mostly small ones. It is turned, mirrored, scaled and bent likewise; what is farther from
    the voxel along an axis is cut off.

    Args:
        rng: Source of randomness.
        shapes: Shapes; for two axes their largest slices.
        spacing: Distance between the voxels of the result along each axis, in mm.
        reach: Longest distance from the voxel along each axis, in mm.

    Returns:
        Share of each voxel that the lesion takes, in [0, 1], in a box of odd sizes around that
        voxel.

    Raises:
        InputError: The shapes are flat and the result is not.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> draw_part(rng, ellipsoids(), (1.0, 1.0, 1.0), reach=2.0).shape
        (5, 5, 5)
    """
    shapes = _of_rank(shapes, len(spacing))
    index = int(rng.choice(len(shapes), p=shapes.volumes / shapes.volumes.sum()))
    moves, scale = _draw_moves(rng, len(spacing)), float(rng.uniform(0.8, 1.25))
    return _sample(shapes, index, spacing, moves, scale, (_any_voxel(rng, shapes, index), reach))


class _Moves(NamedTuple):
    """How a shape is turned and bent."""

    turn: Float64[np.ndarray, "rank rank"]  # mirrors half the time
    offset: Float64[np.ndarray, " rank"]  # of the centre, in voxels
    waves: Float64[np.ndarray, "rank wave"]  # 2π over the length along each axis, in radii
    phases: Float64[np.ndarray, " wave"]
    strengths: Float64[np.ndarray, "wave rank"]  # in radii


def _draw_moves(rng: np.random.Generator, rank: int) -> _Moves:
    turn, _ = np.linalg.qr(rng.standard_normal((rank, rank)))
    directions = rng.standard_normal((rank, _WAVES))
    directions /= np.linalg.norm(directions, axis=0)
    strengths = rng.standard_normal((_WAVES, rank))
    return _Moves(
        turn,
        rng.uniform(-0.5, 0.5, rank),
        directions * (2 * np.pi / rng.uniform(*_LENGTHS, _WAVES)),
        rng.uniform(0, 2 * np.pi, _WAVES),
        strengths * (BENT / np.linalg.norm(strengths, axis=1).sum()),
    )


def _of_rank(shapes: LesionShapes, rank: int) -> LesionShapes:
    shapes = shapes.flat if rank == 2 else shapes
    if shapes.masks[0].ndim != rank:
        raise InputError(f"{shapes.source}: shapes of rank 2 do not fit an image of rank {rank}")
    return shapes


def _choose(
    rng: np.random.Generator,
    shapes: LesionShapes,
    scale: float | None,
    volume: float | None,
    reach: float,
) -> int:
    """Draw one of the shapes that can have the volume and do not reach too far."""
    rank = shapes.masks[0].ndim
    scales = (
        np.full(len(shapes), scale) if volume is None else (volume / shapes.volumes) ** (1 / rank)
    )
    fits = np.flatnonzero(shapes.radii * scales * (1 + BENT) * _STRETCH <= reach)
    if not len(fits):
        raise InputError(
            f"{shapes.source}: all lesions reach farther than {reach:.3g} mm from their centres: "
            "give a larger box, or smaller shapes"
        )
    if volume is not None:
        away = np.abs(np.log(shapes.volumes[fits] / volume))
        fits = fits[away <= max(np.log(_ALIKE), away.min())]
    return int(rng.choice(fits))


def _sample(
    shapes: LesionShapes,
    index: int,
    spacing: Sequence[float],
    moves: _Moves,
    scale: float,
    around: tuple[Float64[np.ndarray, " rank"], float] | None = None,
) -> Float32[np.ndarray, "*box"]:
    """Interpolate a shape at points of every voxel, and average these.

    Around its centre of mass as a whole; or around another place, as far as is said.
    """
    mask, own, rank = shapes.masks[index], np.array(shapes.spacings[index]), len(spacing)
    size, radius = np.array(spacing), shapes.radii[index] * scale
    half = np.ceil(radius * (1 + BENT) / size).astype(int) + 1
    parts = np.ceil(size / (own.min() * scale) - 1e-6)
    centre = _centre(mask)
    if around is not None:
        centre, reach = around
        half = np.maximum(reach // size, 1).astype(int)
        parts = np.round(size / (own.min() * scale))
    parts = np.clip(parts, 1, _FINEST).astype(int)
    axes = [
        (np.arange((2 * h + 1) * n) + 0.5) / n - h - 0.5 - offset
        for h, n, offset in zip(half, parts, moves.offset, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, rank) * size
    bent = np.sin(points @ moves.waves / radius + moves.phases) @ moves.strengths
    places = (points + radius * bent) @ moves.turn / scale / own + centre
    values = _between(mask, places)
    split = [n for h, part in zip(half, parts, strict=True) for n in (2 * h + 1, part)]
    return values.reshape(split).mean(axis=tuple(range(1, 2 * rank, 2))).astype(np.float32)


def _between(
    mask: Bool[np.ndarray, "*box"], places: Float64[np.ndarray, "point rank"]
) -> Float32[np.ndarray, " point"]:
    """Interpolate a mask linearly; 0 outside of it."""
    padded = np.pad(mask, 1).astype(np.float32)
    shifted = np.clip(places + 1, 0, np.array(padded.shape) - 1.001).T
    cells = shifted.astype(np.intp)
    strides = [int(np.prod(padded.shape[axis + 1 :])) for axis in range(mask.ndim)]
    start = sum(cell * stride for cell, stride in zip(cells, strides, strict=True))
    weights = list((shifted - cells).astype(np.float32))
    return between_corners(padded.ravel(), start, strides, weights, np)


def _components(mask: Bool[np.ndarray, "*spatial"]) -> list[Bool[np.ndarray, "*box"]]:
    """Return the connected components that are large enough, each in its box."""
    cut = mask[box_of(mask)]
    if not cut.size:
        return []
    numbers, count = label_components(cut)
    found = []
    for number, box in enumerate(_boxes(numbers, count), start=1):
        own = numbers[box] == number
        if own.sum() >= _FEWEST:
            found.append(own)
    return found


def _boxes(numbers: Int32[np.ndarray, "*box"], count: int) -> list[tuple[slice, ...]]:
    """Return the box of every number, all in one pass."""
    places = np.argwhere(numbers)
    own = numbers[tuple(places.T)]
    low = np.full((count + 1, numbers.ndim), np.iinfo(np.intp).max)
    high = np.zeros((count + 1, numbers.ndim), np.intp)
    np.minimum.at(low, own, places)
    np.maximum.at(high, own, places + 1)
    return [tuple(map(slice, *ends)) for ends in zip(low[1:], high[1:], strict=True)]


def _centre(mask: Bool[np.ndarray, "*box"]) -> Float64[np.ndarray, " rank"]:
    return np.argwhere(mask).mean(axis=0)


def _any_voxel(
    rng: np.random.Generator, shapes: LesionShapes, index: int
) -> Float64[np.ndarray, " rank"]:
    voxels = np.argwhere(shapes.masks[index])
    return voxels[rng.integers(len(voxels))].astype(float)


def _radius(mask: Bool[np.ndarray, "*box"], spacing: Sequence[float]) -> float:
    """Return how far the corners of the farthest voxel lie from the centre of mass."""
    away = np.abs(np.argwhere(mask) - _centre(mask)) + 0.5
    return float(np.linalg.norm(away * spacing, axis=1).max())


def _ball(diameter: float, rank: int) -> float:
    """Return the volume of a ball; the area of a disc."""
    return float(np.pi * diameter**2 / 4 if rank == 2 else np.pi * diameter**3 / 6)
