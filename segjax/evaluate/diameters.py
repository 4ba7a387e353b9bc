"""Diameters of a lesion: the longest in an axial slice, the longest across it, the longest of all.

The ends of a diameter lie on the lesion's outline, at the centres of faces between its voxels and
others: a single voxel of 1 mm has a diameter of 1 mm, a row of n voxels one of n mm. These are the
corners of a mesh of marching cubes or squares, and the longest diameter of all equals the maximum
3D diameter of pyradiomics. Each end lies within half a voxel of the outline that the mask stands
for. A diameter may leave a lesion that is bent and enter it again, as one drawn with a ruler may.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from segjax.components import box_of
from segjax.errors import InputError
from segjax.evaluate.voxels import Spacing, edges_of, voxel_of
from segjax.grid import orientation

__all__ = [
    "Diameter",
    "axial_axis",
    "axial_diameters",
    "feret_diameter",
    "outer_points",
    "slice_distance",
]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]

_EQUAL = 1e-9  # of a length: what differs by less is as long
_PAIRS = 1 << 22  # of points that are compared at once
_FEW = 64  # edges that are compared with all others
_EDGES_PER_STRIP = 8
_MOST_STRIPS = 256

_FACES = np.array([(-1.0, -0.5), (-0.5, -1.0), (-0.5, 0.0), (0.0, -0.5)])
"""Between the voxels a b, a c, b d and c d of a square a b / c d, from voxel d."""
_ONE_EDGE = _FACES[
    [
        *([0, 0], [0, 1], [0, 2], [1, 2], [1, 3], [0, 3], [0, 1], [2, 3]),
        *([2, 3], [0, 2], [0, 3], [1, 3], [1, 2], [0, 2], [0, 1], [0, 0]),
    ]
]
"""Faces that an edge of the outline joins, by the voxels of the lesion: a + 2 b + 4 c + 8 d."""
_OTHER_EDGE = {6: _FACES[[2, 3]], 9: _FACES[[1, 3]]}
"""A second one, where two voxels touch at a corner alone."""


@dataclass(frozen=True)
class Diameter:
    """A straight line across a lesion.

    Attributes:
        mm: Its length.
        ends: Voxel indices of its two ends, on the lesion's outline: half a voxel off the centres
            of voxels, or anywhere between two such points.
    """

    mm: float
    ends: tuple[tuple[float, ...], tuple[float, ...]]


def axial_axis(affine: Float[np.ndarray, "4 4"]) -> int:
    """Return the voxel axis along which axial slices lie one after another.

    It is the axis nearest to the line from foot to head, as :func:`segjax.grid.orientation` names
    it: in oblique images the slices of the acquisition or, where these are sagittal or coronal,
    those planes of voxels that are nearest to axial ones.

    Example:
        >>> axial_axis(np.diag([1.0, 1.0, 3.0, 1.0]))
        2
    """
    letters = orientation(affine)
    return next(axis for axis, letter in enumerate(letters) if letter in "IS")


def slice_distance(affine: Float[np.ndarray, "4 4"]) -> float:
    """Return the distance in mm from one axial slice to the next, at right angles to them.

    Example:
        >>> slice_distance(np.diag([1.0, 1.0, 3.0, 1.0]))
        3.0
    """
    return float(1 / np.linalg.norm(np.linalg.inv(affine[:3, :3])[axial_axis(affine)]))


def axial_diameters(mask: Mask, spacing: Spacing) -> tuple[Diameter, Diameter]:
    """Return the longest diameter in one axial slice, and the longest one across it.

    These are the two figures of a radiologist's report: of all slices that :func:`axial_axis` names
    (in rank 2, of the picture), the longest line between two points of the outline; then, in that
    slice, the longest line between two points of the outline at right angles to it, wherever the
    two cross or would. Angles and lengths are those in the patient, whatever the affine. Of several
    longest lines, that with the longest one across counts.

    Args:
        mask: What is not 0 is the lesion; one component, though nothing asks for that.
        spacing: Edges of a voxel in mm, which then is axial along its last axis, or the affine.

    Returns:
        The longest diameter, and the one across it; ends are indices of ``mask``.

    Raises:
        InputError: The mask is empty, or of another rank than the spacing.

    Example:
        >>> mask = np.zeros((12, 12, 3), bool)
        >>> mask[1:11, 4:8, 1] = True
        >>> longest, across = axial_diameters(mask, (1.0, 1.0, 3.0))
        >>> round(longest.mm, 2), round(across.mm, 2)  # of a box of 10 × 4
        (10.44, 4.18)

    Source: The two diameters of P. Y. Wen et al., J. Clin. Oncol. 28, 2010 (RANO).
    """
    where, affine, start = _cropped(mask, spacing)
    slices, plane, axis = _slices(where, affine)
    known: dict[tuple[bytes, tuple[float, float]], Diameter] = {}
    best: tuple[int, Diameter, Diameter] | None = None
    for number, longest in _longest_in_slices(slices, plane):
        along = _direction(longest, plane)
        key = (slices[number].tobytes(), along)
        if key not in known:
            known[key] = _perpendicular(slices[number], plane, along)
        if best is None or known[key].mm > best[2].mm * (1 + _EQUAL):
            best = number, longest, known[key]
    assert best is not None
    number, *lines = best
    longest, across = (_placed(line, axis, number, start) for line in lines)
    return longest, across


def feret_diameter(mask: Mask, spacing: Spacing) -> Diameter:
    """Return the longest line between two points of a lesion's outline, in any direction.

    Args:
        mask: What is not 0 is the lesion.
        spacing: Edges of a voxel in mm, or the affine.

    Raises:
        InputError: The mask is empty, or of another rank than the spacing.

    Example:
        >>> feret_diameter(np.ones((4, 5, 6), bool), (1.0, 1.0, 1.0)).mm  # √(3² + 4² + 6²)
        7.810249675906654

    Source: ``Maximum3DDiameter`` of J. J. M. van Griethuysen et al., Cancer Research 77, 2017.
    """
    where, affine, start = _cropped(mask, spacing)
    points = outer_points(where)
    length, pairs = _farthest(points @ affine[:-1, :-1].T)
    one, other = (tuple((points[n] + start).tolist()) for n in pairs[0])
    return Diameter(length, (one, other))


def outer_points(mask: Bool[np.ndarray, "*spatial"]) -> Float[np.ndarray, "point rank"]:
    """Return centres of a mask's faces among which are all corners of their convex hull.

    Args:
        mask: Of rank 2 or 3, and not empty.

    Returns:
        Their indices, half a voxel off those of voxels.

    Example:
        >>> outer_points(np.ones((1, 1), bool)).tolist()
        [[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]]
    """
    lines = mask.any(axis=-1)
    first = mask[lines].argmax(axis=1)
    last = mask.shape[-1] - 1 - mask[lines][:, ::-1].argmax(axis=1)
    places = np.argwhere(lines)
    ends = [np.column_stack([places, end]).astype(float) for end in (first, last)]
    steps = np.eye(mask.ndim) / 2
    ends_of_lines = [end + sign * step for step in steps[:-1] for end in ends for sign in (-1, 1)]
    ends_of_lines += [ends[0] - steps[-1], ends[1] + steps[-1]]
    return _unique(np.concatenate(ends_of_lines))


def _unique(points: Float[np.ndarray, "point rank"]) -> Float[np.ndarray, "left rank"]:
    """Drop what occurs twice and keep the order."""
    twice = np.rint(2 * points).astype(np.int64) + 1
    flat = np.ravel_multi_index(tuple(twice.T), tuple(twice.max(axis=0) + 1))
    return points[np.sort(np.unique(flat, return_index=True)[1])]


def _cropped(
    mask: Mask, spacing: Spacing
) -> tuple[Bool[np.ndarray, "*box"], Float[np.ndarray, "n n"], Int[np.ndarray, " rank"]]:
    """Return a mask in its box, the affine, and where the box begins."""
    rank = voxel_of(spacing).rank
    if mask.ndim != rank:
        raise InputError(f"a mask of rank {mask.ndim} has no diameters in mm with {rank} edges")
    where = mask != 0
    box = box_of(where)
    if not where[box].size:
        raise InputError("an empty mask has no diameter")
    isaffine = np.ndim(spacing) == 2
    affine = np.asarray(spacing, float) if isaffine else np.diag([*edges_of(spacing), 1.0])
    return where[box], affine, np.array([edge.start for edge in box])


def _slices(
    where: Bool[np.ndarray, "*box"], affine: Float[np.ndarray, "n n"]
) -> tuple[Bool[np.ndarray, "slice row column"], Float[np.ndarray, "2 2"], int | None]:
    """Return the axial slices, the lengths in one of them, and the axis that they lie along.

    Lengths are those of ``plane @ step``: the plane turned, so that two coordinates tell a place.
    """
    if where.ndim == 2:
        return where[None], affine[:2, :2], None
    axis = axial_axis(affine)
    edges = np.delete(affine[:3, :3], axis, axis=1)
    return np.moveaxis(where, axis, 0), np.linalg.qr(edges)[1], axis


def _longest_in_slices(
    slices: Bool[np.ndarray, "slice row column"], plane: Float[np.ndarray, "2 2"]
) -> Iterator[tuple[int, Diameter]]:
    """Yield the number of a slice and a diameter in it, of all that are the longest ones."""
    points = {n: outer_points(one) for n, one in enumerate(slices) if one.any()}
    reach = {n: _reach(own @ plane.T) for n, own in points.items()}
    best = 0.0
    found: list[tuple[int, Float[np.ndarray, "2 2"]]] = []
    for number in sorted(points, key=lambda n: -reach[n]):
        if 2 * reach[number] < best * (1 - _EQUAL):
            break
        length, pairs = _farthest(points[number] @ plane.T)
        if length < best * (1 - _EQUAL):
            continue
        if length > best * (1 + _EQUAL):
            best, found = length, []
        found += [(number, points[number][pair]) for pair in pairs]
    for number, (one, other) in found:
        yield number, Diameter(best, (tuple(one.tolist()), tuple(other.tolist())))


def _reach(places: Float[np.ndarray, "point rank"]) -> float:
    """Return the radius of a ball around the points, from the middle of their box."""
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    return float(np.linalg.norm(places - middle, axis=1).max())


def _farthest(
    places: Float[np.ndarray, "point rank"],
) -> tuple[float, Int[np.ndarray, "pair 2"]]:
    """Return the longest distance of two points, and all pairs that are as far apart.

    Two points at distance d lie at least d - r from the middle of a ball of radius r around all:
    what lies nearer than that of a distance already found is left out.
    """
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    radii = np.linalg.norm(places - middle, axis=1)
    at, least = int(radii.argmax()), 0.0
    while True:
        distances = np.linalg.norm(places - places[at], axis=1)
        at = int(distances.argmax())
        if distances[at] <= least:
            break
        least = float(distances[at])
    kept = np.flatnonzero(radii >= least - radii.max() - _EQUAL * least)
    at_once = max(1, _PAIRS // len(kept))
    best, found = 0.0, []
    for first in range(0, len(kept), at_once):
        some = kept[first : first + at_once]
        squares = sum((x[some, None] - x[kept]) ** 2 for x in places.T)
        best = max(best, float(np.max(squares)))
        one, other = np.nonzero(squares >= best * (1 - 2 * _EQUAL))
        pairs = np.column_stack([squares[one, other], some[one], kept[other]])
        found.append(pairs[some[one] < kept[other]])
    pairs = np.concatenate(found)
    return math.sqrt(best), pairs[pairs[:, 0] >= best * (1 - 2 * _EQUAL), 1:].astype(np.intp)


def _direction(line: Diameter, plane: Float[np.ndarray, "2 2"]) -> tuple[float, float]:
    """Return the unit vector along a line in a slice."""
    step = plane @ np.subtract(*line.ends)
    along = step / np.linalg.norm(step)
    along = along if tuple(along) > (0, 0) else -along
    return float(np.round(along[0], 9)), float(np.round(along[1], 9))


def _perpendicular(
    where: Bool[np.ndarray, "row column"],
    plane: Float[np.ndarray, "2 2"],
    along: tuple[float, float],
) -> Diameter:
    """Return the longest line at right angles to a direction between two points of the outline."""
    turned = np.array([along, (-along[1], along[0])]) @ plane
    edges = _outline(where)
    level, height = (edges[..., 0] * a + edges[..., 1] * b for a, b in turned)
    place, low, high = _longest_chord(level, height)
    one, other = (np.linalg.inv(turned) @ [[place, place], [low, high]]).T.tolist()
    return Diameter(high - low, (tuple(one), tuple(other)))


def _outline(where: Bool[np.ndarray, "row column"]) -> Float[np.ndarray, "edge 2 2"]:
    """Return the edges of a mask's outline, as marching squares draw it: between two faces each."""
    padded = np.pad(where, 1).view(np.uint8)
    corners = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    places = np.argwhere((corners > 0) & (corners < 15))
    kinds = corners[tuple(places.T)]
    edges = [places[:, None] + _ONE_EDGE[kinds]]
    edges += [places[kinds == kind, None] + other for kind, other in _OTHER_EDGE.items()]
    return np.concatenate(edges)


def _longest_chord(
    level: Float[np.ndarray, "edge 2"], height: Float[np.ndarray, "edge 2"]
) -> tuple[float, float, float]:
    """Return the level at which edges are farthest apart, their least and their greatest height.

    The distance is the greatest at an end of an edge. Strips of levels are looked at in the order
    of the distance that they can hold, until none can hold more than was found.
    """
    order = np.argsort(level, axis=1, kind="stable")
    level, height = (np.take_along_axis(x, order, axis=1) for x in (level, height))
    sloped = level[:, 1] - level[:, 0] > _EQUAL  # the ends of others are ends of these as well
    level, height = level[sloped], height[sloped]
    if len(level) <= _FEW:
        return _chord_in(level, height)
    strips = min(max(len(level) // _EDGES_PER_STRIP, 1), _MOST_STRIPS)
    start, stop = level.min(), level.max()
    first, last = np.clip((level - start) / (stop - start) * strips, 0, strips - 1).astype(int).T
    counts = last - first + 1
    own = np.repeat(np.arange(len(level)), counts)
    strip = first[own] + np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
    top, bottom = np.full(strips, -np.inf), np.full(strips, np.inf)
    np.maximum.at(top, strip, height.max(axis=1)[own])
    np.minimum.at(bottom, strip, height.min(axis=1)[own])
    best = (0.0, 0.0, 0.0)
    for number in np.argsort(bottom - top):
        if top[number] - bottom[number] <= best[2] - best[1]:
            break
        here = own[strip == number]
        best = max(best, _chord_in(level[here], height[here]), key=lambda one: one[2] - one[1])
    return best


def _chord_in(
    level: Float[np.ndarray, "edge 2"], height: Float[np.ndarray, "edge 2"]
) -> tuple[float, float, float]:
    """Return the longest chord at an end of an edge."""
    levels = level.ravel()
    slope = (height[:, 1] - height[:, 0]) / (level[:, 1] - level[:, 0])
    share = levels[:, None] - level[:, 0]
    inside = (share >= -_EQUAL) & (levels[:, None] <= level[:, 1] + _EQUAL)
    heights = height[:, 0] + share * slope
    low = np.where(inside, heights, np.inf).min(axis=1)
    high = np.where(inside, heights, -np.inf).max(axis=1)
    at = int((high - low).argmax())
    return float(levels[at]), float(low[at]), float(high[at])


def _placed(
    line: Diameter, axis: int | None, number: int, start: Int[np.ndarray, " rank"]
) -> Diameter:
    """Bring the ends of a diameter from a slice to the indices of the mask."""
    ends = []
    for end in line.ends:
        place = list(end) if axis is None else [*end[:axis], float(number), *end[axis:]]
        ends.append(tuple((np.round(place, 9) + start).tolist()))
    return Diameter(line.mm, (ends[0], ends[1]))
