"""Changes of lesions between two visits: new, enlarged, stable, shrunk or gone.

Both visits lie on one grid, as shares: how much of a voxel is lesion, from 0 to 1. Volumes are sums
of shares. Swapping the visits mirrors all that follows.

**Lesions** of a visit are connected components (26 neighbours) of shares of at least ½. Voxels of
smaller shares belong to the nearest of them that they hang together with; where there is none, they
are a lesion by themselves. Shares up to 0.001 are rounding.

**Rows.** Lesions of both visits are one row where they overlap or come within *reach* of each
other: the mean edge of both visits' voxels along each axis, and 0.5 mm for the registration. So
lesions that merge or split are one row, and a new lesion that touches an old one enlarges it.
Where a surface moved by more than the reach, the change is *local*, together with what lies around
it as far as the radius of a ball of the change's volume. Local changes that exceed their own
tolerance are rows by themselves, and what is left is another, where they make up less than a tenth
of a row and more than half of its change; or less than half of a row that is within its tolerance
as a whole, or that grows here and shrinks there. So a new nodule at the edge of a confluent field
is not lost in the field's tolerance.

**Tolerance.** A body of surface ``S``, counted in voxels of edges ``a, b, c`` that lie anyhow, has
a volume of the variance ::

    σ² = S / (8 π³) · Σ ((i/a)² + (j/b)² + (k/c)²)⁻²    over all whole i, j, k but 0, 0, 0

which is 0.067 S h⁴ in cubes of edge h. Added up, the variances of both visits give the σ of the
change of a volume. Outlines differ, too: by a tenth of a voxel, ``0.1 h S``, where h³ is a voxel of
the coarser grid. The tolerance is ``4.5 σ + 0.1 h S``. For lesions from 3 mm on (14.1 mm³ at either
visit) it is at most 30 % of the smaller volume or 3 voxels of the coarser grid, whichever is more,
so that larger changes are said. There two wishes collide, to say such changes and to hold lesions
that did not change for stable: where no images decide, the tolerance of a lesion that both visits
have is never under ``3 σ + 0.1 h S``. That is above 30 % for balls under 4.6 voxels across.

**Kinds.** What changes by no more than its tolerance is *stable*. Else what has nothing of the
other visit within reach is *new* or *gone*, and the rest *enlarged* or *shrunk*.

**Images**, where their intensities can be compared, have a say. Let ``C`` be the lesions' median
contrast to what lies around them; they are visible where it is at least 1 (the interquartile range
of normal tissue). Of a change by the masks, images show the volume ``Σ (followup - baseline) / C``,
summed over the voxels that changed and their neighbours. Where this is under ¼ of the change (under
⅔ where that is within 4.5 σ + 0.1 h S) and no voxel there is marked as changed, masks and images
disagree: the lesion is stable. Where it is at least ⅔, or voxels are marked, the evidence is
"both". Where half of a change lies outside what was compared, images have no say in it. What is
marked as changed in the images and touches no such change of the masks is a row of its own with the
evidence "images".

**Confidence** of a change is ``p = (1 - 2^-(d/t)²) · q``, of the change's volume d and of t, which
is ``4.5 σ + 0.1 h S`` or, where images decide, the tolerance: ½ where d is t, 0.94 where it is
twice that. So it is low where grids tell little. ``q`` is the mean of what else is known, and 1
where nothing is: by how much both visits' probabilities differ, over the voxels that changed along
with the volume, weighted by how much; and the part of the change that images show (at most 1), or
their own confidence, weighted in the same way, where that is more. A stable lesion has ``1 - p``,
and half of that where masks and images disagree.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32

from segjax.components import box_of, label_components
from segjax.errors import InputError
from segjax.evaluate.diameters import axial_diameters
from segjax.evaluate.difference import ImageDifference
from segjax.evaluate.sizes import LEAST_MM, sphere_mm3
from segjax.extras import needed_for
from segjax.volume import check_affine, voxel_size

__all__ = ["KINDS", "LesionChange", "drifting", "lesion_changes", "volume_variance"]

KINDS = ("new", "enlarged", "stable", "shrunk", "gone")
"""Classes of change."""

Shares = Float32[np.ndarray, "_ _ _"]
Map = Int32[np.ndarray, "x y z"]
Where = Bool[np.ndarray, "x y z"]
Edges = tuple[float, float, float]
Box = tuple[slice, slice, slice]
Volumes = tuple[float, float]

_SOLID, _FAINT = 0.5, 1e-3
_REGISTRATION_MM = 0.5
_SURE, _LEAST = 4.5, 3.0  # standard deviations
_OUTLINE = 0.1  # voxels
_RELATIVE, _VOXELS = 0.3, 3.0
_TERMS = 24
_ROUNDING = 1e-6
_MOVED = 0.25
_HALF, _SMALL = 0.5, 0.1
_SIGNS = {"new": 1, "enlarged": 1, "stable": 0, "shrunk": -1, "gone": -1}
_AROUND = 3  # voxels
_VISIBLE = 1.0  # interquartile ranges of normal tissue
_CONTRADICTED, _SHOWN = 1 / 4, 2 / 3
_YEAR = 365.25  # days


@dataclass(frozen=True)
class LesionChange:
    """What became of a lesion, or of a part of it; places are those of the half-way grid.

    Attributes:
        number: 1 has the largest absolute change.
        label: Name of the label.
        value: Its value in the masks.
        kind: Of :data:`KINDS`.
        baseline_mm3: Volume at the first visit, the sum of shares.
        followup_mm3: Volume at the second.
        change_mm3: The second less the first.
        change_percent: Of the first; None where that is 0.
        tolerance_mm3: What two scans of an unchanged lesion may differ by on these grids.
        baseline_parts: Number of lesions of the first visit: over 1 where they merged.
        followup_parts: Of the second: over 1 where the lesion split.
        baseline_longest_mm: Longest diameter in an axial slice of the largest part at the first
            visit, of shares of at least ½; None where there is none.
        baseline_perpendicular_mm: The longest at right angles to it in that slice.
        followup_longest_mm: The same at the second visit.
        followup_perpendicular_mm: The same at the second visit.
        centre_ras: Centre of mass of both visits' shares, in mm to the right, front and head.
        centre_lps: The same to the left, back and head, as DICOM counts.
        centre_index: The same as a voxel index.
        box: Voxels that hold it at either visit.
        confidence: How sure the kind is, in [0, 1].
        evidence: ``"masks"``, ``"images"`` or ``"both"``.
        percent_per_year: ``change_percent`` by 365.25 days; None without days, and where
            so much a year would leave less than nothing.
        doubling_days: ``days · ln 2 / ln(followup / baseline)`` of a lesion that is enlarged by the
            masks; else None.

    Example:
        >>> before, after = np.zeros((2, 20, 20, 20), np.float32)
        >>> after[4:8, 4:8, 4:8] = 1
        >>> (one,), _ = lesion_changes(before, after, np.eye(4), voxels_mm3=(1.0, 1.0))
        >>> one.kind, one.followup_mm3, one.centre_index, one.evidence
        ('new', 64.0, (5.5, 5.5, 5.5), 'masks')
    """

    number: int
    label: str
    value: int
    kind: str
    baseline_mm3: float
    followup_mm3: float
    change_mm3: float
    change_percent: float | None
    tolerance_mm3: float
    baseline_parts: int
    followup_parts: int
    baseline_longest_mm: float | None
    baseline_perpendicular_mm: float | None
    followup_longest_mm: float | None
    followup_perpendicular_mm: float | None
    centre_ras: tuple[float, float, float]
    centre_lps: tuple[float, float, float]
    centre_index: tuple[float, float, float]
    box: tuple[slice, slice, slice]
    confidence: float
    evidence: str
    percent_per_year: float | None
    doubling_days: float | None

    @property
    def contradicted(self) -> bool:
        """Whether masks show a change beyond the tolerance, and images do not: so it is stable."""
        return self.kind == "stable" and abs(self.change_mm3) > self.tolerance_mm3


def lesion_changes(  # noqa: PLR0913
    baseline: Shares,
    followup: Shares,
    affine: Float64[np.ndarray, "4 4"],
    *,
    label: str = "lesion",
    value: int = 1,
    voxels_mm3: tuple[float, float],
    edges_mm: tuple[Edges, Edges] | None = None,
    days: float | None = None,
    probabilities: tuple[Shares, Shares] | None = None,
    difference: ImageDifference | None = None,
) -> tuple[tuple[LesionChange, ...], Map]:
    """Say what became of each lesion between two visits, by the rules of this module.

    Args:
        baseline: Share of each voxel of the half-way grid that is lesion at the first visit, from
            0 to 1: the visit's mask, interpolated linearly.
        followup: The same at the second visit.
        affine: Of the half-way grid, voxel index -> mm (RAS+).
        label: Name of the label.
        value: Its value in the masks.
        voxels_mm3: Volumes of a voxel of the visits' own grids, in mm³.
        edges_mm: Edges of a voxel of the visits' own grids along x, y and z of the half-way grid.
            Without, they are those of the half-way grid, of which the longest makes up for another
            volume (all three do where they are equal).
        days: From the first visit to the second.
        probabilities: Of the label at both visits, on the half-way grid.
        difference: Of both images, on the half-way grid.

    Returns:
        The changes, the largest first, and the map of their numbers. The volumes of those whose
        evidence is not ``"images"`` add up to those of the shares.

    Raises:
        InputError: The arrays are not of one shape of rank 3, shares are not from 0 to 1, or
            volumes or days are not positive.

    Example:
        >>> before, after = np.zeros((2, 20, 20, 20), np.float32)
        >>> before[4:8, 4:8, 4:8] = 1
        >>> after[4:8, 4:8, 4:11] = 1  # 64 -> 112 mm³
        >>> after[14:17, 14:17, 14:17] = 1
        >>> changes, numbers = lesion_changes(
        ...     before, after, np.eye(4), voxels_mm3=(1.0, 1.0), days=365.25
        ... )
        >>> for one in changes:
        ...     print(one.number, one.kind, one.change_mm3, one.change_percent)
        1 enlarged 48.0 75.0
        2 new 27.0 None
        >>> round(changes[0].doubling_days), int(numbers[5, 5, 5]), int(numbers[15, 15, 15])
        (452, 1, 2)
    """
    _check(baseline, followup, affine, (*voxels_mm3, *(() if days is None else (days,))))
    _check_others(baseline, probabilities, difference)
    seen = difference if difference is not None and difference.reliable else None
    there = (baseline > _FAINT) | (followup > _FAINT)
    if seen is not None:
        there |= seen.changed.data != 0
    box = _widened(box_of(there), there.shape)
    pair = _Pair(
        visits=(_visit(baseline[box], affine), _visit(followup[box], affine)),
        affine=affine,
        start=tuple(edge.start for edge in box),
        rule=_Rule(edges_mm or _own_edges(affine, voxels_mm3), voxels_mm3),
        probabilities=None if probabilities is None else tuple(one[box] for one in probabilities),
    )
    if seen is not None:
        pair = replace(pair, seen=_seen(seen, pair.visits, box))
    rows = sorted(_rows(pair), key=lambda row: row.order)
    numbers = np.zeros(baseline.shape, np.int32)
    for number, row in sorted(
        enumerate(rows, start=1), key=lambda one: one[1].evidence == "images"
    ):
        numbers[_shifted(row.place, pair.start)][row.where] = number
    changes = (_change(row, pair, n, (label, value), days) for n, row in enumerate(rows, start=1))
    return tuple(changes), numbers


def drifting(changes: Sequence[LesionChange]) -> list[LesionChange]:
    """Return the lesions within their tolerance, where these changed together and not by chance.

    Chance changes some lesions to more and some to less: the sum stays under the root of the sum of
    squared tolerances. Where it does not, masks were made otherwise, or all lesions changed a bit.

    Args:
        changes: Of one label.

    Example:
        >>> before, after = np.zeros((2, 8, 8, 60), np.float32)
        >>> for start in range(2, 58, 8):
        ...     before[2:5, 2:5, start : start + 3] = after[2:5, 2:4, start : start + 3] = 1
        >>> changes, _ = lesion_changes(before, after, np.eye(4), voxels_mm3=(1.0, 1.0))
        >>> [change.kind for change in changes].count("stable"), len(drifting(changes))
        (7, 7)
    """
    small = [change for change in changes if change.kind == "stable" and not change.contradicted]
    total = abs(sum(change.change_mm3 for change in small))
    return small if total > math.hypot(*(change.tolerance_mm3 for change in small)) else []


def volume_variance(surface: float, edges: Edges) -> float:
    """Return the variance of the volume of a body that is counted in voxels, in mm⁶.

    It is ``S / (8 π³) · Σ ((i/a)² + (j/b)² + (k/c)²)⁻²``, over all whole i, j, k but 0, 0, 0: the
    mean over all shifts and turns of a body of smooth surface, once it is larger than a voxel.

    Args:
        surface: Of the body, ``S``, in mm².
        edges: Of a voxel, ``a, b, c``, in mm.

    Example:
        >>> ball = volume_variance(math.pi * 10**2, (1.0, 1.0, 1.0))  # 10 mm across: 524 mm³
        >>> round(ball**0.5, 1)
        4.5

    Source: J. Janáček and L. Kubínová, Variances of length and surface area estimates by spatial
        grids, Image Anal. Stereol. 29, 2010, which sums up the theory for volumes.
    """
    return surface / (8 * math.pi**3) * _zeta(edges)


@lru_cache
def _zeta(edges: Edges) -> float:
    """Return ``Σ |k / edges|⁻⁴`` over all whole k but 0."""
    steps = np.arange(-_TERMS, _TERMS + 1)
    x, y, z = np.ix_(*((steps / edge) ** 2 for edge in edges))
    squares = x + y + z
    squares[_TERMS, _TERMS, _TERMS] = np.inf
    return float((squares**-2.0).sum())


class _Rule(NamedTuple):
    """What tolerances follow from."""

    edges: tuple[Edges, Edges]
    voxels: tuple[float, float]

    @property
    def reach(self) -> Float64[np.ndarray, "3"]:
        return np.mean(self.edges, axis=0) + _REGISTRATION_MM

    def differs(self, surface: float, deviations: float = _SURE) -> float:
        """Return what an unchanged lesion may differ by, in mm³: by default it never does more."""
        outline = _OUTLINE * max(self.voxels) ** (1 / 3) * surface
        return deviations * self._deviation(surface) + outline

    def tolerance(self, volumes: Volumes, surface: float, *, images: bool = False) -> float:
        """Return the tolerance in mm³; lower where images decide what masks alone cannot."""
        if max(volumes) < sphere_mm3(LEAST_MM):
            return self.differs(surface)
        said = max(_RELATIVE * min(volumes), _VOXELS * max(self.voxels))
        tolerance = min(self.differs(surface), said)
        if images or not min(volumes):
            return tolerance
        return max(tolerance, self.differs(surface, _LEAST))

    def _deviation(self, surface: float) -> float:
        return math.sqrt(sum(volume_variance(surface, edges) for edges in self.edges))


class _Visit(NamedTuple):
    """Lesions of a visit: their numbers from 1 on, where they are solid, and their surface."""

    shares: Shares
    numbers: Map
    total: int
    solid: Where
    faces: Float[np.ndarray, "x y z"]  # mm²


class _Seen(NamedTuple):
    """What the images show in the box around all lesions."""

    step: Float[np.ndarray, "x y z"]  # in contrasts of a lesion; 0 where lesions are not visible
    is_visible: bool
    known: Where  # what was compared
    changed: Int[np.ndarray, "x y z"]  # 1 where lesion appeared, -1 where it vanished
    confidence: Float[np.ndarray, "x y z"]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both visits in the box around all lesions, which begins at ``start``."""

    visits: tuple[_Visit, _Visit]
    affine: Float64[np.ndarray, "4 4"]
    start: tuple[int, ...]
    rule: _Rule
    probabilities: tuple[Shares, ...] | None = None
    seen: _Seen | None = None

    @property
    def voxel(self) -> float:
        return voxel_size(self.affine)

    @property
    def scale(self) -> Float64[np.ndarray, "3"]:
        """Reaches from one voxel to the next."""
        return np.linalg.norm(self.affine[:3, :3], axis=0) / self.rule.reach


@dataclass(frozen=True, eq=False)
class _Row:
    """A change; ``where`` lies in ``place``, a box within that of the pair."""

    kind: str
    volumes: Volumes
    tolerance: float
    parts: tuple[int, int]
    masks: tuple[Where, Where]  # solid at each visit
    place: Box
    where: Where
    centre: tuple[float, ...]  # index in the box of the pair
    confidence: float
    evidence: str

    @property
    def change(self) -> float:
        return self.volumes[1] - self.volumes[0]

    @property
    def order(self) -> tuple[float, ...]:
        return -abs(self.change), -sum(self.volumes), *self.centre


def _check(
    baseline: Shares,
    followup: Shares,
    affine: Float64[np.ndarray, "4 4"],
    positive: Sequence[float],
) -> None:
    check_affine(affine)
    if baseline.shape != followup.shape:
        raise InputError(
            f"lesions of shapes {baseline.shape} and {followup.shape}: bring both visits onto one "
            "grid"
        )
    for shares, name in ((baseline, "baseline"), (followup, "follow-up")):
        if not (shares.min() >= -_FAINT and shares.max() <= 1 + _FAINT):
            raise InputError(f"the lesions of the {name} are no shares from 0 to 1")
    if odd := [number for number in positive if not 0 < number < math.inf]:
        raise InputError(f"{odd[0]:g} is no volume of a voxel and no number of days: give over 0")


def _check_others(
    baseline: Shares,
    probabilities: tuple[Shares, Shares] | None,
    difference: ImageDifference | None,
) -> None:
    others = [("probabilities", one) for one in probabilities or ()]
    if difference is not None:
        others.append(("difference of the images", difference.difference.data))
    for name, other in others:
        if other.shape != baseline.shape:
            raise InputError(
                f"the {name} of shape {other.shape} and lesions of shape {baseline.shape} lie on "
                "different grids"
            )


def _own_edges(
    affine: Float64[np.ndarray, "4 4"], voxels_mm3: tuple[float, float]
) -> tuple[Edges, Edges]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    longest = spacing > spacing.max() * 0.99
    found = []
    for volume in voxels_mm3:
        excess = (volume / voxel_size(affine)) ** (1 / longest.sum())
        found.append(tuple(np.where(longest, spacing * excess, spacing).tolist()))
    return found[0], found[1]


def _widened(box: tuple[slice, ...], shape: tuple[int, ...]) -> Box:
    x, y, z = (
        slice(max(edge.start - _AROUND, 0), min(edge.stop + _AROUND, n))
        for edge, n in zip(box, shape, strict=True)
    )
    return x, y, z


def _shifted(box: tuple[slice, ...], start: Sequence[int]) -> Box:
    x, y, z = (slice(e.start + n, e.stop + n) for e, n in zip(box, start, strict=True))
    return x, y, z


def _visit(shares: Shares, affine: Float64[np.ndarray, "4 4"]) -> _Visit:
    with needed_for("comparing lesions"):
        from scipy.spatial import cKDTree

    shares = np.where(shares > _FAINT, shares, np.float32(0))
    numbers, count = label_components(shares >= _SOLID)
    hanging, many = label_components(shares > 0)
    has_core = np.zeros(many + 1, bool)
    has_core[hanging[numbers > 0]] = True
    faint = (hanging > 0) & ~has_core[hanging]
    solid = (numbers > 0) | faint
    further, more = label_components(faint)
    numbers[faint] = further[faint] + count
    rim = (hanging > 0) & ~solid
    if rim.any():
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        inside = np.argwhere(solid)
        _, nearest = cKDTree(inside * spacing).query(np.argwhere(rim) * spacing)
        numbers[rim] = numbers[tuple(inside[nearest].T)]
    return _Visit(shares, numbers, count + more, solid, _faces(shares, affine))


def _faces(shares: Shares, affine: Float64[np.ndarray, "4 4"]) -> Float[np.ndarray, "x y z"]:
    """Return the surface of shares in mm², at the voxels whose share is the larger one.

    Projections of a surface along three axes make up 3/2 of it, in the mean over its directions.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)
    faces = np.zeros(shares.shape, np.float32)
    for axis, height in enumerate(heights):
        margin = [(int(n == axis), int(n == axis)) for n in range(3)]
        steps = np.moveaxis(np.diff(np.pad(shares, margin), axis=axis), axis, 0)
        own = np.moveaxis(faces, axis, 0)
        area = np.float32(voxel_size(affine) / height * 2 / 3)
        own += area * (np.maximum(steps[:-1], 0) - np.minimum(steps[1:], 0))
    return faces


def _seen(difference: ImageDifference, visits: tuple[_Visit, _Visit], box: Box) -> _Seen:
    images = [one.data[box] for one in (difference.baseline, difference.followup)]
    known = (images[0] != 0) | (images[1] != 0)
    contrast = _contrast(visits, images, known)
    is_visible = abs(contrast) >= _VISIBLE
    return _Seen(
        step=(images[1] - images[0]) / np.float32(contrast if is_visible else math.inf),
        is_visible=is_visible,
        known=known,
        changed=difference.changed.data[box] * (-1 if is_visible and contrast < 0 else 1),
        confidence=difference.confidence.data[box],
    )


def _contrast(
    visits: tuple[_Visit, _Visit], images: Sequence[Float[np.ndarray, "x y z"]], known: Where
) -> float:
    """Return the median of lesions less that of what lies around them; 0 without lesions."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    either = (visits[0].shares > 0) | (visits[1].shares > 0)
    around = binary_dilation(either, generate_binary_structure(3, 1), iterations=_AROUND) & ~either
    around &= known
    inside = [image[known & (v.shares >= _SOLID)] for v, image in zip(visits, images, strict=True)]
    outside = [image[around] for image in images]
    if not sum(map(len, inside)) or not around.any():
        return 0.0
    return float(np.median(np.concatenate(inside)) - np.median(np.concatenate(outside)))


class _Pieces(NamedTuple):
    """The row of each voxel's shares, from 1 on, and whether both visits have it (and the 0th)."""

    maps: tuple[Map, Map]
    shared: Bool[np.ndarray, " piece"]


def _rows(pair: _Pair) -> Iterator[_Row]:
    """Yield the changes of a pair: those of the masks, then those of the images alone."""
    pieces = _pieces(pair)
    claimed = np.zeros(pair.visits[0].shares.shape, np.int8)
    for piece, place in _places(pieces):
        row = _mask_row(pair, pieces, piece, place)
        claimed[place][row.where] = _SIGNS[row.kind]
        yield row
    if pair.seen is not None:
        yield from _image_rows(pair, pair.seen, claimed)


def _places(pieces: _Pieces) -> Iterator[tuple[int, Box]]:
    """Yield the number of each row that holds any voxel, and the box around both visits'."""
    from scipy.ndimage import find_objects

    boxes = zip(*(find_objects(one, len(pieces.shared)) for one in pieces.maps), strict=True)
    for number, (one, other) in enumerate(boxes, start=1):
        if both := [box for box in (one, other) if box is not None]:
            x, y, z = (
                slice(min(e.start for e in edges), max(e.stop for e in edges))
                for edges in zip(*both, strict=True)
            )
            yield number, (x, y, z)


def _pieces(pair: _Pair) -> _Pieces:
    """Part the shares of both visits into rows."""
    one, other = pair.visits
    groups, away = _groups(pair)
    before, after = (
        np.concatenate([[0], own]).astype(np.int32)[visit.numbers]
        for visit, own in zip(pair.visits, groups, strict=True)
    )
    maps = before, after
    shared = np.zeros(one.total + other.total + 1, bool)
    shared[np.intersect1d(*groups)] = True
    pieces = _Pieces(maps, shared)
    moved = {int(n) for own, far in zip(maps, away, strict=True) for n in np.unique(own[far])}
    for number, place in list(_places(pieces)):
        if number in moved and shared[number]:
            pieces = _parted(pair, pieces, number, place, away)
    return pieces


def _groups(
    pair: _Pair,
) -> tuple[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]], tuple[Where, Where]]:
    """Group the lesions of both visits, and tell which solid voxels lie out of the other's reach.

    Returns:
        The group of each lesion, from 1 on, and the voxels out of reach; each of both visits.
    """
    with needed_for("comparing lesions"):
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree

    one, other = pair.visits
    away = (one.solid.copy(), other.solid.copy())
    total = one.total + other.total
    first, second = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    if one.total and other.total:
        places = [np.argwhere(visit.solid) for visit in pair.visits]
        lesions = [v.numbers[tuple(p.T)] - 1 for v, p in zip(pair.visits, places, strict=True)]
        lesions[1] += one.total
        trees = [cKDTree(own * pair.scale) for own in places]
        for own in (0, 1):
            distances, nearest = trees[1 - own].query(
                places[own] * pair.scale, distance_upper_bound=1 + _ROUNDING
            )
            near = np.isfinite(distances)
            away[own][tuple(places[own][near].T)] = False
            first.append(lesions[own][near])
            second.append(lesions[1 - own][np.asarray(nearest)[near]])
    links = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(links[0]), bool), links), (total, total))
    groups = np.asarray(connected_components(graph, directed=False)[1]) + 1
    return (groups[: one.total], groups[one.total :]), away


def _parted(
    pair: _Pair, pieces: _Pieces, number: int, place: Box, away: tuple[Where, Where]
) -> _Pieces:
    """Make the local changes of a row rows of their own."""
    own = (pieces.maps[0][place] == number, pieces.maps[1][place] == number)
    shares = _within(pair, place, own)
    seeds = [far[place] & where for far, where in zip(away, own, strict=True)]
    changes = _local_changes(pair, place, own, _territories(shares, seeds, pair))
    if not changes or not _is_local(pair, place, own, changes):
        return pieces
    for further, (there, _) in enumerate(changes, start=len(pieces.shared)):
        for one, where in zip(pieces.maps, own, strict=True):
            one[place][where & there] = further
    return pieces._replace(shared=np.append(pieces.shared, [True] * len(changes)))


def _local_changes(
    pair: _Pair, place: Box, own: tuple[Where, Where], territories: Map
) -> list[tuple[Where, float]]:
    """Return where a row changed by more than the tolerance there, and by how much, in mm³."""
    found = []
    for territory in range(1, int(territories.max()) + 1):
        there = territories == territory
        volumes, surface = _volumes(pair, place, (own[0] & there, own[1] & there))
        change = volumes[1] - volumes[0]
        if abs(change) > pair.rule.tolerance(volumes, surface):
            found.append((there, change))
    return found


def _is_local(
    pair: _Pair, place: Box, own: tuple[Where, Where], changes: list[tuple[Where, float]]
) -> bool:
    """Say whether local changes are to be told apart from what else there is of a row."""
    volumes, surface = _volumes(pair, place, own)
    change = volumes[1] - volumes[0]
    there = np.logical_or.reduce([where for where, _ in changes])
    local, _ = _volumes(pair, place, (own[0] & there, own[1] & there))
    part = sum(local) / sum(volumes)
    amounts = [amount for _, amount in changes]
    is_lost = abs(change) <= pair.rule.tolerance(volumes, surface)
    if is_lost or min(amounts) < 0 < max(amounts):
        return part < _HALF
    return part < _SMALL and abs(sum(amounts)) > abs(change) / 2


def _territories(shares: Sequence[Shares], seeds: Sequence[Where], pair: _Pair) -> Map:
    """Number the surroundings of surfaces that moved out of reach, those of each direction apart.

    Args:
        shares: Of a row at both visits.
        seeds: Voxels of each visit that lie out of the other's reach: what shrank, what grew.
        pair: Both visits.
    """
    with needed_for("comparing lesions"):
        from scipy.spatial import cKDTree

    there = (shares[0] > 0) | (shares[1] > 0)
    places = np.argwhere(there)
    depth = []  # how far within the surroundings; below 0 outside
    for own, other, seed in ((shares[0], shares[1], seeds[0]), (shares[1], shares[0], seeds[1])):
        regions, count = label_components(seed)
        if not count:
            depth.append(np.full(len(places), -np.inf))
            continue
        inside = np.argwhere(seed)
        distances, nearest = cKDTree(inside * pair.scale).query(places * pair.scale)
        region = regions[tuple(inside[nearest].T)]
        more = np.where(distances <= 1, np.maximum(own - other, 0)[there], 0)
        volumes = np.bincount(region, weights=more, minlength=count + 1) * pair.scale.prod()
        radii = np.maximum(np.cbrt(3 * volumes / (4 * math.pi)), 1)
        depth.append(np.where(distances <= radii[region], -distances, -np.inf))
    territories = np.zeros(there.shape, np.int32)
    for own, other in (depth, depth[::-1]):
        where = np.zeros(there.shape, bool)
        where[there] = own > other
        numbers, _ = label_components(where)
        territories[where] = numbers[where] + territories.max()
    return territories


def _volumes(pair: _Pair, place: Box, masks: tuple[Where, ...]) -> tuple[Volumes, float]:
    """Return the volumes of a row in mm³ and its surface in mm², the mean of the visits' own."""
    volumes, surfaces = [], []
    for visit, where in zip(pair.visits, masks, strict=True):
        volume = float(visit.shares[place][where].sum(dtype=np.float64)) * pair.voxel
        faces = float(visit.faces[place][where].sum(dtype=np.float64))
        volumes.append(volume)
        surfaces.append(max(faces, (36 * math.pi * volume**2) ** (1 / 3)))  # that of a ball
    present = [surface for surface in surfaces if surface]
    return (volumes[0], volumes[1]), sum(present) / len(present)


class _Verdict(NamedTuple):
    tolerance: float
    is_change: bool
    evidence: str
    confidence: float


def _mask_row(pair: _Pair, pieces: _Pieces, piece: int, place: Box) -> _Row:
    """Measure and class a row of the masks."""
    own = (pieces.maps[0][place] == piece, pieces.maps[1][place] == piece)
    volumes, surface = _volumes(pair, place, own)
    shares = _within(pair, place, own)
    before, after = (w & v.solid[place] for w, v in zip(own, pair.visits, strict=True))
    verdict = _verdict(pair, place, shares, volumes, surface)
    kind = _kind(volumes[1] - volumes[0], is_shared=bool(pieces.shared[piece]))
    where = before | after
    return _Row(
        kind=kind if verdict.is_change else "stable",
        volumes=volumes,
        tolerance=verdict.tolerance,
        parts=_parts(pair, place, (before, after)),
        masks=(before, after),
        place=place,
        where=where if where.any() else own[0] | own[1],
        centre=_centre(shares[0] + shares[1], place),
        confidence=verdict.confidence,
        evidence=verdict.evidence,
    )


def _verdict(
    pair: _Pair, place: Box, shares: tuple[Shares, Shares], volumes: Volumes, surface: float
) -> _Verdict:
    """Say whether masks, and images where they have a say, show a change."""
    change = volumes[1] - volumes[0]
    part, is_marked = _shown(pair, place, shares, change)
    tolerance = pair.rule.tolerance(volumes, surface, images=part is not None)
    most = pair.rule.differs(surface)
    is_beyond = abs(change) > tolerance
    needed = _SHOWN if abs(change) <= most else _CONTRADICTED
    is_doubted = is_beyond and not is_marked and part is not None and part < needed
    is_change = (is_beyond and not is_doubted) or (is_marked and not all(volumes))
    if is_change:
        agree = is_marked or (part is not None and part >= _SHOWN)
    else:
        agree = part is not None and not (is_doubted or is_marked)
    support = _support(pair, place, shares, change, part)
    belief = _odds(change, most if part is None else tolerance) * support
    doubt = (1 - belief) / (2 if is_doubted else 1)
    return _Verdict(
        tolerance, is_change, "both" if agree else "masks", belief if is_change else doubt
    )


def _image_rows(pair: _Pair, seen: _Seen, claimed: Int[np.ndarray, "x y z"]) -> Iterator[_Row]:
    """Yield the changes that images show away from those of the masks."""
    from scipy.ndimage import binary_dilation, find_objects

    for sign in (1, -1):
        regions, _ = label_components(seen.changed == sign)
        for number, found in enumerate(find_objects(regions), start=1):
            place = _widened(found, regions.shape)
            where = regions[place] == number
            near = binary_dilation(where, np.ones((3, 3, 3), bool))
            if not (near & (claimed[place] == sign)).any():
                row = _image_row(pair, seen, place, where, near, sign)
                if abs(row.change) > row.tolerance:
                    yield row


def _image_row(pair: _Pair, seen: _Seen, place: Box, where: Where, near: Where, sign: int) -> _Row:
    """Measure and class a row of the images: all of it is lesion at the visit that has it."""
    whole = where.astype(np.float32)
    known = _within(pair, place, (where, where))
    shares = (known[0], whole) if sign > 0 else (whole, known[1])
    amounts = [float(one.sum(dtype=np.float64)) * pair.voxel for one in shares]
    volumes = amounts[0], amounts[1]
    surface = float(_faces(whole, pair.affine).sum(dtype=np.float64))
    tolerance = pair.rule.tolerance(volumes, surface)
    change = volumes[1] - volumes[0]
    other = 0 if sign > 0 else 1
    is_shared = bool((near & pair.visits[other].solid[place]).any())
    solid = tuple(one >= _SOLID for one in shares)
    parts = list(_parts(pair, place, (near, near)))
    parts[1 - other] = max(parts[1 - other], 1)
    support = [float(seen.confidence[place][where].mean())]
    if pair.probabilities is not None:
        step = pair.probabilities[1][place] - pair.probabilities[0][place]
        support.append(float(np.clip(sign * step[where], 0, 1).mean()))
    return _Row(
        kind=_kind(change, is_shared=is_shared),
        volumes=volumes,
        tolerance=tolerance,
        parts=(parts[0], parts[1]),
        masks=(solid[0], solid[1]),
        place=place,
        where=where,
        centre=_centre(whole, place),
        confidence=_odds(change, tolerance) * sum(support) / len(support),
        evidence="images",
    )


def _kind(change: float, *, is_shared: bool) -> str:
    if is_shared:
        return "enlarged" if change > 0 else "shrunk"
    return "new" if change > 0 else "gone"


def _within(pair: _Pair, place: Box, masks: Sequence[Where]) -> tuple[Shares, Shares]:
    """Return both visits' shares within masks, 0 elsewhere."""
    before, after = (
        np.where(where, visit.shares[place], np.float32(0))
        for where, visit in zip(masks, pair.visits, strict=True)
    )
    return before, after


def _parts(pair: _Pair, place: Box, masks: Sequence[Where]) -> tuple[int, int]:
    """Return how many lesions of each visit have solid voxels within masks."""
    before, after = (
        len(np.unique(visit.numbers[place][where & visit.solid[place]]))
        for where, visit in zip(masks, pair.visits, strict=True)
    )
    return before, after


def _centre(weights: Shares, place: Box) -> tuple[float, ...]:
    places = np.argwhere(weights > 0)
    mean = np.average(places, axis=0, weights=weights[weights > 0].astype(np.float64))
    return tuple((mean + [edge.start for edge in place]).tolist())


def _shown(
    pair: _Pair, place: Box, shares: tuple[Shares, Shares], change: float
) -> tuple[float | None, bool]:
    """Return which part of a change of volume images show, and whether a voxel is marked.

    The part is None where images have no say: where lesions are not visible in them, or half of
    the change lies outside what was compared.
    """
    from scipy.ndimage import binary_dilation

    seen = pair.seen
    if seen is None:
        return None, False
    if not change:
        return 0.0 if seen.is_visible else None, False
    around = _widened(place, seen.step.shape)
    margins = [
        (inner.start - outer.start, outer.stop - inner.stop)
        for inner, outer in zip(place, around, strict=True)
    ]
    by_masks = np.pad(shares[1] - shares[0], margins)
    near = binary_dilation(np.abs(by_masks) >= _MOVED, np.ones((3, 3, 3), bool))
    is_marked = bool((seen.changed[around][near] == np.sign(change)).any())
    near &= seen.known[around]
    there, shown = (
        float(one[near].sum(dtype=np.float64)) * pair.voxel for one in (by_masks, seen.step[around])
    )
    if not seen.is_visible or there / change < _HALF:
        return None, is_marked
    return shown / there, is_marked


def _odds(change: float, tolerance: float) -> float:
    """Return ``1 - 2^-(d/t)²``."""
    return float(1 - 2 ** -((change / tolerance) ** 2))


def _support(
    pair: _Pair,
    place: Box,
    shares: tuple[Shares, Shares],
    change: float,
    part: float | None,
) -> float:
    """Return how far probabilities and images bear a change out, from 0 to 1; 1 without them.

    Args:
        pair: Both visits.
        place: Box of a row.
        shares: Of the row.
        change: Of its volume.
        part: Of the change that images show; None where they have no say.
    """
    sign = np.sign(change)
    weights = np.maximum(sign * (shares[1] - shares[0]), 0)
    if not weights.any():
        return 0.0
    known = []
    if pair.probabilities is not None:
        before, after = (one[place] for one in pair.probabilities)
        known.append(np.average(np.clip(sign * (after - before), 0, 1), weights=weights))
    if pair.seen is not None and part is not None:
        same = sign * pair.seen.step[place] > 0
        sure = np.average(pair.seen.confidence[place] * same, weights=weights)
        known.append(max(sure, min(part, 1.0)))
    return float(np.mean(known)) if known else 1.0


def _change(
    row: _Row, pair: _Pair, number: int, named: tuple[str, int], days: float | None
) -> LesionChange:
    before, after = row.volumes
    percent = 100 * row.change / before if before else None
    index = np.add(row.centre, pair.start)
    x, y, z = (pair.affine[:3, :3] @ index + pair.affine[:3, 3]).tolist()
    i, j, k = index.tolist()
    box = _shifted(row.place, pair.start)
    first, second = (_diameters(mask, pair.affine) for mask in row.masks)
    return LesionChange(
        number=number,
        label=named[0],
        value=named[1],
        kind=row.kind,
        baseline_mm3=before,
        followup_mm3=after,
        change_mm3=row.change,
        change_percent=percent,
        tolerance_mm3=row.tolerance,
        baseline_parts=row.parts[0],
        followup_parts=row.parts[1],
        baseline_longest_mm=first[0],
        baseline_perpendicular_mm=first[1],
        followup_longest_mm=second[0],
        followup_perpendicular_mm=second[1],
        centre_ras=(x, y, z),
        centre_lps=(0.0 - x, 0.0 - y, z),
        centre_index=(i, j, k),
        box=_shifted(box_of(row.where), [edge.start for edge in box]),
        confidence=min(max(row.confidence, 0.0), 1.0),
        evidence=row.evidence,
        percent_per_year=_percent_per_year(percent, days),
        doubling_days=_doubling_days(row, days),
    )


def _percent_per_year(percent: float | None, days: float | None) -> float | None:
    """Return the rate; None where it would leave less than nothing."""
    rate = None if percent is None or days is None else percent * _YEAR / days
    return None if rate is None or rate <= -100 else rate


def _doubling_days(row: _Row, days: float | None) -> float | None:
    is_whole = row.kind == "enlarged" and row.evidence != "images" and row.volumes[0] > 0
    if days is None or not is_whole:
        return None
    return days * math.log(2) / math.log(row.volumes[1] / row.volumes[0])


def _diameters(
    mask: Where, affine: Float64[np.ndarray, "4 4"]
) -> tuple[float, float] | tuple[None, None]:
    """Return the longest axial diameter of a mask's largest part, and that across it."""
    numbers, count = label_components(mask)
    if not count:
        return None, None
    sizes = np.bincount(numbers.ravel())[1:]
    longest, across = axial_diameters(numbers == 1 + int(sizes.argmax()), affine)
    return longest.mm, across.mm
