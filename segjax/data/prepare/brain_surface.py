"""The brain of a T1 or FLAIR by a balloon that grows from its middle to the dark skull.

After S. M. Smith, "Fast robust automated brain extraction", Human Brain Mapping 17 (2002) 143-155,
with three changes: the surface is a distance from the centre in every direction, which cannot fold;
a dark place counts only where its neighbours are dark too (a sulcus is narrow, the skull is not);
and above the skull base only what has less than 18 mm of bright tissue further out (scalp) can be
skull. Lengths are in mm.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy import ndimage

from segjax.data.prepare.spatial import crop_or_pad_grid, resample, spacing_grid
from segjax.grid import Grid, grid, reorient_grid
from segjax.volume import Volume

_SPACING = 2.0  # of the grid that the surface is filled on
_FEWEST = 1000  # voxels of that grid that a head has
_MARGIN = 6  # voxels of that grid
_HEIGHT = 170.0  # of the head above the neck
_REACH = 140  # longest way from the centre
_DEPTH = 20  # how far inwards the darkest value is looked for; the brightest: half of it
_THRESHOLD = 0.75  # between background and bright tissue: darker is outside the brain
_AROUND, _ROUNDS = 0.65, 3  # quantile of a place and its six neighbours that counts, and how often
_SCALP = 18  # bright tissue further out than this is no scalp
_BASE = -0.3  # directions that point lower may pass face and neck
_SMOOTHING, _SPEED, _STEPS = 0.25, 0.5, 400


@dataclass(frozen=True)
class _Levels:
    """Intensities that the surface goes by."""

    low: float
    tissue: float  # 10 % of the way from low to high
    median: float  # of the middle of the head


@dataclass(frozen=True, eq=False)
class _Mesh:
    """A sphere of triangles: a subdivided icosahedron.

    Attributes:
        points: Vertices on the unit sphere.
        faces: Three vertices of every triangle.
        neighbours: Of every vertex; the five-fold ones name one of them twice.
    """

    points: Float[np.ndarray, "vertex 3"]
    faces: Int64[np.ndarray, "face 3"]
    neighbours: Int64[np.ndarray, "vertex 6"]


def working_grid(before: Grid) -> Grid:
    """Return the grid of 2 mm, in RAS order, that a head is looked at on, with a margin."""
    after = spacing_grid(reorient_grid(before, "RAS"), (_SPACING,) * 3)
    return crop_or_pad_grid(after, tuple(n + 2 * _MARGIN for n in after.shape))


def brain_inside(image: Volume) -> Volume:
    """Return which voxels of the working grid lie inside the brain's surface.

    Args:
        image: A head without channel axis, float32.

    Returns:
        Boolean mask on :func:`working_grid`; all false where the image holds no head.
    """
    coarse = resample(image, working_grid(grid(image)))
    found = _start(coarse.data)
    if found is None:
        return coarse.with_data(np.zeros(coarse.data.shape, bool))
    centre, radius, levels = found
    rays = _rays(image, coarse, centre)
    distances = _grow(_darkest_to_local(rays, radius, levels), radius)
    mesh = _sphere(4)
    surface = (centre + mesh.points * distances[:, None]) / _SPACING
    return coarse.with_data(_fill(surface, mesh, coarse.spatial_shape))


def _start(
    image: Float32[np.ndarray, "x y z"],
) -> tuple[Float64[np.ndarray, "3"], float, _Levels] | None:
    """Return the head's centre of gravity, the radius of a ball of its size, and the levels."""
    if np.count_nonzero(image) < _FEWEST:
        return None
    low, high = (float(p) for p in np.percentile(image[image != 0], (2, 98)))
    tissue = low + 0.1 * (high - low)
    weight = np.where(image > tissue, np.clip(image, low, high) - low, 0)
    if np.count_nonzero(weight) < _FEWEST:
        return None
    top = int(np.flatnonzero(np.count_nonzero(weight, axis=(0, 1)) > 100 / _SPACING**2)[-1:].sum())
    weight[:, :, : max(0, top - int(_HEIGHT / _SPACING))] = 0
    centre = np.array(ndimage.center_of_mass(weight)) * _SPACING
    radius = float((3 / (4 * np.pi) * np.count_nonzero(weight) * _SPACING**3) ** (1 / 3))
    axes = np.ogrid[tuple(slice(n) for n in image.shape)]
    distance = sum((a * _SPACING - c) ** 2 for a, c in zip(axes, centre, strict=True))
    middle = image[(distance < radius**2) & (image > low) & (image < high)]
    return centre, radius, _Levels(low, tissue, float(np.median(middle)) if middle.size else high)


def _rays(
    image: Volume, coarse: Volume, centre: Float64[np.ndarray, "3"]
) -> Float32[np.ndarray, "direction distance"]:
    """Sample the image from the centre outwards in every direction, at steps of 1 mm."""
    smooth = [0.5 / s if s < _SPACING else 0.0 for s in image.spacing]
    data = ndimage.gaussian_filter(image.data, smooth)
    index = np.linalg.solve(image.affine, coarse.affine)  # coarse voxel -> the image's own
    matrix = index[:3, :3] / _SPACING
    outwards = (_sphere(4).points @ matrix.T).astype(np.float32)
    start = matrix @ centre + index[:3, 3]
    places = start[:, None, None] + outwards.T[:, :, None] * np.arange(_REACH, dtype=np.float32)
    return ndimage.map_coordinates(data, places, order=1, output=np.float32)


def _darkest_to_local(
    rays: Float32[np.ndarray, "direction distance"], radius: float, levels: _Levels
) -> Float[np.ndarray, "direction distance"]:
    """Return how hard the surface is pushed at every place, from -1 (inwards) to 1 (outwards).

    With the darkest value within 20 mm inwards and the brightest within 10 mm, the push is
    ``2 (darkest - t) / (brightest - low)`` where ``t = low + 0.75 (brightest - low)``.
    """
    mesh, median = _sphere(4), np.float32(levels.median)
    rays = rays.copy()
    rays[:, : int(radius / 2)] = np.maximum(rays[:, : int(radius / 2)], median)  # ventricles
    bright = rays > (levels.low + levels.median) / 2
    beyond = np.cumsum(bright[:, ::-1], axis=1)[:, ::-1]
    inside = (beyond >= _SCALP) & (mesh.points[:, 2] > _BASE)[:, None]
    rays = np.where(inside, np.maximum(rays, median), rays)
    darkest = ndimage.minimum_filter1d(rays, _DEPTH + 1, axis=1, origin=_DEPTH // 2)
    brightest = ndimage.maximum_filter1d(rays, _DEPTH // 2 + 1, axis=1, origin=_DEPTH // 4)
    darkest = np.clip(darkest, levels.low, levels.median)
    for _ in range(_ROUNDS):
        around = np.concatenate([darkest[:, None], darkest[mesh.neighbours]], axis=1)
        darkest = np.quantile(around, _AROUND, axis=1)
    span = np.maximum(np.clip(brightest, levels.tissue, levels.median) - levels.low, 1e-6)
    return np.clip(2 * ((darkest - levels.low) / span - _THRESHOLD), -1, 1)


def _grow(
    push: Float[np.ndarray, "direction distance"], radius: float
) -> Float64[np.ndarray, "direction"]:
    """Let the surface grow from half the head's radius; return its distance from the centre."""
    neighbours = _sphere(4).neighbours
    every = np.arange(len(push))
    distances = np.full(len(push), radius / 2)
    least = min(radius / 2, _REACH - 1)
    for _ in range(_STEPS):
        here = np.clip(np.rint(distances).astype(np.intp), 0, _REACH - 1)
        smoother = distances[neighbours].mean(axis=1) - distances
        distances = distances + _SPEED * push[every, here] + _SMOOTHING * smoother
        distances = np.clip(distances, least, _REACH - 1)
    return distances


@cache
def _sphere(subdivisions: int) -> _Mesh:
    """Return an icosahedron whose triangles are cut into four, so many times."""
    golden = (1 + 5**0.5) / 2
    points = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)], np.float64)
    points = np.concatenate([np.roll(points, turn, axis=1) for turn in range(3)])
    near = np.isclose(np.linalg.norm(points[:, None] - points, axis=-1), 2)
    k, j, i = np.array([*combinations(range(len(points)), 3)]).T
    faces = np.stack([i, j, k], axis=1)[near[i, j] & near[j, k] & near[i, k]]
    points /= np.linalg.norm(points[0])
    for _ in range(subdivisions):
        points, faces = _subdivide(points, faces)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return _Mesh(points, faces, _neighbours(faces, len(points)))


def _subdivide(
    points: Float64[np.ndarray, "vertex 3"], faces: Int64[np.ndarray, "face 3"]
) -> tuple[Float64[np.ndarray, "finer 3"], Int64[np.ndarray, "smaller 3"]]:
    """Cut every triangle into four at the middles of its edges."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, which = np.unique(edges, axis=0, return_inverse=True)
    a, b, c = np.asarray(which).reshape(3, -1) + len(points)
    i, j, k = faces.T
    corners = ((i, a, c), (j, b, a), (k, c, b), (a, b, c))
    smaller = np.concatenate([np.stack(three, axis=1) for three in corners])
    return np.concatenate([points, points[unique].mean(axis=1)]), smaller


def _neighbours(faces: Int64[np.ndarray, "face 3"], count: int) -> Int64[np.ndarray, "vertex 6"]:
    pairs = np.concatenate([faces[:, [i, j]] for i in range(3) for j in range(3) if i != j])
    pairs = np.unique(pairs, axis=0)
    first = np.searchsorted(pairs[:, 0], np.arange(count))
    number = np.diff(np.append(first, len(pairs)))
    return pairs[first[:, None] + np.arange(6) % number[:, None], 1]


def _fill(
    points: Float64[np.ndarray, "vertex 3"], mesh: _Mesh, shape: tuple[int, ...]
) -> Bool[np.ndarray, "x y z"]:
    """Return the voxels on and inside a surface, whose points are in voxels."""
    corners = points[mesh.faces]
    longest = float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max())
    steps = int(np.ceil(longest / 0.5)) + 1
    first, second = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps))
    inside = first + second <= 1 + 1e-9
    weights = np.stack([first[inside], second[inside], 1 - first[inside] - second[inside]], axis=1)
    shell = np.zeros(shape, bool)
    for weight in weights:
        index = np.rint(np.einsum("c,fcd->fd", weight, corners)).astype(np.intp)
        shell[tuple(np.clip(index, 0, np.array(shape) - 1).T)] = True
    return ndimage.binary_fill_holes(shell)
