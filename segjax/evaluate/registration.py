"""Visits of a patient brought to one place half-way between them, so that none is the reference."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from segjax.data.io.formats import check_same_grid
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.spatial import Interpolation, resample
from segjax.errors import InputError
from segjax.evaluate.alignment import (
    Sampled,
    align,
    edge_agreement,
    edges,
    even,
    exponential,
    flatten,
    logarithm,
    mean_distance,
    places_in,
    search,
    smooth,
    through,
    values_at,
)
from segjax.extras import needed_for
from segjax.files import atomic_path
from segjax.grid import Grid, grid, orientation, reorient_grid, same_grid
from segjax.progress import track
from segjax.volume import Volume, check_affine

__all__ = [
    "PairFit",
    "Registration",
    "field_of_view",
    "read_transform",
    "register_visits",
    "to_halfway",
    "unregistered",
    "write_transform",
]

PathLike = str | os.PathLike[str]
Matrix = Float64[np.ndarray, "4 4"]
Places = Float64[np.ndarray, "place 4"]

_REACH = 2  # a visit is registered to that many after it
_COARSE, _EDGES, _FIELD = 3.0, 2.0, 4.0  # mm, of the grids of the search, edges and brightness
_FINE = 1.0  # mm, by which images are smoothed
_PLACES, _FEW = 60_000, 6_000
_BRAIN_ML = (300, 2300)  # an extracted brain beyond them is none
_LEAST_MM3 = 1000  # of a mask of a brain
_SMALLEST = 50.0  # mm along every axis; less holds no head
_GROWN = 3.0  # mm, by which brains are grown to hold their edge
_NEAR = 8.0  # mm, beyond a brain: no longer compared
_APART = 5.0  # mm, by which searches from both sides may differ
_SEEN = (0.5, 0.9)  # share of a brain that the other image shows: refused, warned of
_OVERLAP = (0.7, 0.85)  # Dice of both brains: refused, warned of
_ALIKE = (0.7, 0.75)  # agreement of edges: of two heads at most 0.68, of one 0.73 and more
_SURE = 0.2  # mm, between forward and backward: of one head 0.25 and less
_MORE = 0.05  # by which edges of one head agree better than with the mirror image, at least
_MIRRORED = 0.03  # by which edges of a mirrored head agree worse
_MOST_DEGREES = 170  # of two heads; at 180 half-way is either side
_MOST_VOXELS = 2**26  # of a half-way grid, where no visit itself has as many
_ROUNDING = 1e-6  # voxels
_ROUNDS, _SETTLED = 200, 1e-10  # of the least squares of all pairs, mm
_ENDS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_RIGID = 1e-6  # by which the product of a rotation with its transpose may differ from 1


@dataclass(frozen=True, eq=False)
class PairFit:
    """How two visits lie to each other, and what tells how well that is known.

    Attributes:
        first: Number of a visit, counted from 0.
        second: Number of a later one.
        matrix: Place in RAS mm of the first, with a 1 -> that of the second.
        overlap: Dice of the brains, of what both images show of them; None without brains.
        similarity: Mutual information of the values inside the brains, in nats.
        inconsistency_mm: Mean distance over the brain between the maps of the forward and of the
            backward registration, which were averaged.
        degrees: Angle of the rotation.
        millimetres: Distance that the middle of the brain is moved.
        agreement: How parallel the edges of both images run inside the brain, whatever their
            contrasts: 1/3 by chance, 1 in the same image.
        mirrored: The same with the first visit's mirror image, which is like another head.
    """

    first: int
    second: int
    matrix: Matrix
    overlap: float | None
    similarity: float
    inconsistency_mm: float
    degrees: float
    millimetres: float
    agreement: float = 1.0
    mirrored: float = 0.0


@dataclass(frozen=True, eq=False)
class Registration:
    """Where each visit lies on a grid half-way between all.

    Attributes:
        matrices: Of each visit: place in RAS mm of the half-way grid, with a 1 -> that of the
            visit, ``(4, 4)``.
        grid: The half-way grid.
        kind: "rigid", "affine" or "none", where the files' headers are trusted.
        pairs: What was registered, and how well.

    Example:
        >>> Registration((np.eye(4), np.eye(4)), Grid((4, 5, 6), np.eye(4)), "none").pairs
        ()
    """

    matrices: tuple[Matrix, ...]
    grid: Grid
    kind: str
    pairs: tuple[PairFit, ...] = ()


def unregistered(grids: Sequence[Grid]) -> Registration:
    """Return a common grid of visits whose headers place them right.

    Args:
        grids: Of the visits, of rank 3.

    Returns:
        Identity matrices and the grid: see :func:`register_visits`.

    Raises:
        InputError: There is no grid, or one of rank 2, or they have no place in common.

    Example:
        >>> one = Grid((4, 5, 6), np.eye(4))
        >>> unregistered([one, one]).grid.shape
        (4, 5, 6)
    """
    if not grids or any(len(one.shape) != 3 for one in grids):
        raise InputError(
            f"visits of shapes {', '.join(str(one.shape) for one in grids) or 'none'}: give one "
            "volume of rank 3 of each"
        )
    boxes = [np.stack([ends.min(axis=0), ends.max(axis=0)]) for ends in map(_corners, grids)]
    if (np.max(boxes, axis=0)[0] > np.min(boxes, axis=0)[1]).any():
        raise InputError(
            "the headers place the visits beside each other, where nothing overlaps: register "
            "their images, or mend the headers"
        )
    return _registration(grids, (np.eye(4),) * len(grids), "none")


def register_visits(
    images: Sequence[Volume],
    *,
    brains: Sequence[Volume | None] = (),
    kind: str = "rigid",
    names: Sequence[str] = (),
) -> Registration:
    """Bring the images of two or more visits half-way to each other.

    Of each pair, the map from the one to the other and that back are sought alone, as those with
    the most mutual information inside the brain (grown by 3 mm, and near the other's brain), and
    averaged: ``exp((log forward - log backward) / 2)``. So swapping visits inverts their map. The
    search begins where the headers place the heads and where their middles meet, in many turns; on
    grids of 3 mm, then on the images themselves, smoothed by 1 mm. What moves outside the brain,
    the jaw, the neck and the scalp, does not matter. Places are drawn with a fixed seed and one
    thread computes: a run repeats itself.

    Each visit is registered to the two after it. The maps ``X`` from the half-way space to each
    visit are those for which ``log(M(j to i) X(j) X(i)^-1)`` of all pairs has mean 0 at each
    visit, which is the least squares of log-Euclidean means; the half-way space is that where the
    mean of ``log X`` is 0.

    The half-way grid covers all images. Its axes are the mean of theirs in the half-way space,
    its spacing along each that of the finest: slices stay slices. Where all images have one grid
    and nothing moved, it is that grid. It has at most 2**26 voxels, or as many as an image.

    Two images are refused as two persons' where their edges agree by less than 0.7 and, besides,
    hardly more than with the mirror image, or forward and backward differ by over 0.2 mm; they are
    warned of where they agree by less than 0.75. Where that comes from: in 25 pairs of images of
    one head (four patients; FLAIR, T1 and T2; noise, drift, thick slices, parts cut off) edges
    agreed by 0.73 to 0.98, in 13 pairs of two heads by 0.56 to 0.68. Five of five mirrored heads
    agreed with their mirror image by 0.07 to 0.2 more.

    Args:
        images: Of rank 3, of two or more visits, of any contrasts; the first channel is taken.
        brains: Masks of their brains, over 0; None and none at all: :func:`extract_brain`'s
            classical one, or that of the other visit where it finds none between 0.3 and 2.3 l.
        kind: "rigid", or "affine": 12 numbers, for scanners whose gradients differ in scale.
        names: What messages call the visits; by default "visit 1" and so on.

    Returns:
        The maps, the grid, and how sure they are.

    Raises:
        InputError: There are fewer than two images, or one is a slice, is no head, is empty or
            holds NaN; or two of them do not belong to each other: another head, less than half of
            it, one mirrored left to right or turned round; or the kind is unknown.

    Warns:
        UserWarning: Brains cover each other badly, images have little in common, or one shows a
            part of the other's brain alone.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(40, 48, 40), spacing=4.0)
        >>> shift = np.eye(4)
        >>> shift[:3, 3] = 5, -3, 8
        >>> found = register_visits([head, Volume(head.data, shift @ head.affine)])
        >>> (found.matrices[1] @ np.linalg.inv(found.matrices[0])).round(1)[:3, 3].tolist()
        [5.0, -3.0, 8.0]

    Source: V. Arsigny et al., A log-Euclidean framework for statistics on diffusion tensors, Magn.
        Reson. Med. 56, 2006; M. Reuter et al., Highly accurate inverse consistent registration,
        NeuroImage 53, 2010 (half-way spaces). Measured by ``benchmarks/registration.py``.
    """
    if kind not in ("rigid", "affine"):
        raise InputError(f"registration {kind!r}: give 'rigid' or 'affine'")
    if len(images) < 2:
        raise InputError(
            f"visits are registered to each other: give two or more, not {len(images)}"
        )
    masks = tuple(brains) or (None,) * len(images)
    if len(masks) != len(images):
        raise InputError(f"{len(masks)} masks of brains for {len(images)} images: give as many")
    called = tuple(names) or tuple(f"visit {n}" for n in range(1, len(images) + 1))
    heads = [_head(*given) for given in zip(called, images, masks, strict=True)]
    numbers = range(len(heads))
    pairs = [(i, j) for i in numbers for j in numbers if i < j <= i + _REACH]
    fits = [
        _pair(heads, i, j, kind == "affine")
        for i, j in track(pairs, "Registering visits", unit="pair")
    ]
    return _registration([grid(one) for one in images], _halfway(fits, len(heads)), kind, fits)


def to_halfway(
    volume: Volume,
    registration: Registration,
    visit: int,
    *,
    interpolation: Interpolation = "linear",
) -> Volume:
    """Return a volume of a visit on the half-way grid: interpolated once.

    Args:
        volume: Image or mask of the visit, on any grid, with or without channels.
        registration: Where the visits lie.
        visit: Number of the visit, counted from 0.
        interpolation: "linear", which gives float32 and makes shares in [0, 1] of a mask of 0 and
            1, or "nearest": see :func:`segjax.data.prepare.spatial.resample`.

    Returns:
        The volume on ``registration.grid``, 0 where the visit has no voxels.

    Example:
        >>> mask = Volume(np.ones((4, 5, 6), np.uint8), np.eye(4))
        >>> further = Grid((4, 5, 6), np.diag([1, 1, 0.5, 1]))
        >>> common = unregistered([Grid((4, 5, 6), np.eye(4)), further])
        >>> to_halfway(mask, common, 0).data.shape
        (4, 5, 11)
    """
    placed = Volume(
        volume.data, through(np.linalg.inv(registration.matrices[visit]), volume.affine)
    )
    return resample(placed, registration.grid, interpolation=interpolation)


def field_of_view(grids: Sequence[Grid], registration: Registration) -> Volume:
    """Return where on the half-way grid every visit has voxels.

    Args:
        grids: The visits' own grids.
        registration: Where the visits lie.

    Returns:
        1 there, elsewhere 0; uint8.

    Example:
        >>> grids = [Grid((4, 5, 6), np.eye(4)), Grid((4, 5, 3), np.eye(4))]
        >>> field_of_view(grids, unregistered(grids)).data.mean()
        np.float64(0.5)
    """
    seen = np.ones(registration.grid.shape, np.uint8)
    for visit, own in enumerate(grids):
        whole = Volume(np.broadcast_to(np.uint8(1), own.shape), own.affine)
        seen &= to_halfway(whole, registration, visit, interpolation="nearest").data
    return Volume(seen, registration.grid.affine)


def _registration(
    grids: Sequence[Grid], matrices: Sequence[Matrix], kind: str, pairs: Sequence[PairFit] = ()
) -> Registration:
    placed = [
        Grid(one.shape, through(np.linalg.inv(matrix), one.affine))
        for one, matrix in zip(grids, matrices, strict=True)
    ]
    return Registration(tuple(matrices), _common_grid(placed), kind, tuple(pairs))


def _common_grid(grids: Sequence[Grid]) -> Grid:
    """Return a grid over all others, along their mean axes, as fine as the finest of each axis."""
    first = grids[0]
    if all(same_grid(first, other) for other in grids[1:]):
        return first
    codes = {orientation(one.affine) for one in grids}
    code = codes.pop() if len(codes) == 1 else "RAS"
    turned = [reorient_grid(one, code) for one in grids]
    axes = _rotation(np.sum([_rotation(one.affine[:3, :3]) for one in turned], axis=0))
    spacing = np.min([one.spacing for one in turned], axis=0)
    corners = np.concatenate([_corners(one) for one in turned]) @ axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    most = max(_MOST_VOXELS, *(int(np.prod(one.shape)) for one in grids))
    while np.prod((high - low) / spacing + 1) > most:
        spacing[spacing == spacing.min()] *= 1.1
    shape = np.ceil((high - low) / spacing - _ROUNDING).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    middle = (low + high) / 2 - (shape - 1) * spacing / 2
    affine[:3, 3] = axes @ middle
    return Grid(tuple(shape.tolist()), affine)


def _corners(one: Grid) -> Float64[np.ndarray, "8 3"]:
    """Return the places of a grid's corner voxels, in mm."""
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in one.shape]), axis=-1).reshape(-1, 3)
    return ends @ one.affine[:3, :3].T + one.affine[:3, 3]


def _rotation(linear: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    """Return the orthogonal matrix nearest to another one."""
    left, _, right = np.linalg.svd(linear / np.linalg.norm(linear, axis=0))
    return left @ right


@dataclass(frozen=True, eq=False)
class _Head:
    """An image, ready to be registered."""

    name: str
    has_brain: bool
    distance: Volume  # from the brain, or from the head where that is not known, in mm
    fine: Sampled
    coarse: Sampled
    edges: Volume

    def places(self, count: int = _FEW, *, reach: float = 0.0) -> Places:
        """Return places at most some mm from the brain."""
        near = self.distance.data <= reach
        return places_in(self.distance.with_data(near.astype(np.uint8)), count)

    def holds(self, places: Places, *, reach: float = 0.0) -> Bool[np.ndarray, " place"]:
        """Say which places are at most some mm from the brain."""
        return values_at(self.distance, places) <= reach + _COARSE / 2 * (reach == 0)


def _head(name: str, image: Volume, brain: Volume | None) -> _Head:
    if brain is not None:
        check_same_grid(image, brain, (f"the image of {name}", "the mask of its brain"))
        brain = brain.with_data((brain.channels_last[..., 0] > 0).astype(np.uint8))
        if np.count_nonzero(brain.data) * brain.voxel_size < _LEAST_MM3:
            raise InputError(f"{name}: the mask of its brain is empty, or holds less than 1 ml")
    image = _checked(name, image)
    brain = _found_brain(image) if brain is None else brain
    inside = image.with_data(image.data > image.data.mean()) if brain is None else brain
    rough, field = even(image, _COARSE), even(image, _FIELD)
    distance = _distance(inside, grid(rough))
    places = places_in(distance.with_data((distance.data == 0).astype(np.uint8)), _FEW)
    return _Head(
        name,
        brain is not None,
        distance,
        Sampled.of(flatten(smooth(image, _FINE), field), places),
        Sampled.of(flatten(smooth(rough, 2 * _FINE), field), places),
        edges(even(image, _EDGES)),
    )


def _checked(name: str, image: Volume) -> Volume:
    """Return the first channel of an image that may show a head."""
    extent = np.multiply(image.spatial_shape, image.spacing)
    if image.spatial_dims != 3 or 1 in image.spatial_shape:
        raise InputError(
            f"{name}: an image of shape {image.spatial_shape} is one slice, which cannot be "
            "registered: give volumes of all visits"
        )
    if extent.min() < _SMALLEST:
        raise InputError(
            f"{name}: an image over {' × '.join(f'{n:.0f}' for n in extent)} mm shows no head: it "
            f"has to cover {_SMALLEST:g} mm along every axis"
        )
    data = image.channels_last[..., 0].astype(np.float32)
    if not np.isfinite(data).all():
        raise InputError(f"{name}: the image holds NaN or infinite values; mend it first")
    if data.min() == data.max():
        raise InputError(f"{name}: the image is empty: all its values are {float(data.flat[0]):g}")
    return image.with_data(data - data.min())


def _found_brain(image: Volume) -> Volume | None:
    """Return the brain, or None where what is found is none."""
    try:
        brain = extract_brain(image)
    except InputError:
        return None
    low, high = _BRAIN_ML
    return brain if low < np.count_nonzero(brain.data) * brain.voxel_size / 1000 < high else None


def _distance(mask: Volume, like: Grid) -> Volume:
    """Return the distance from a mask in mm, at the voxels of an even grid."""
    with needed_for("registering visits"):
        from scipy.ndimage import distance_transform_edt

    there = resample(mask.with_data(mask.data.astype(np.uint8)), like, interpolation="nearest")
    outside = distance_transform_edt(there.data == 0, sampling=like.spacing)
    return there.with_data(outside.astype(np.float32))


def _pair(heads: Sequence[_Head], i: int, j: int, affine: bool) -> PairFit:
    first, second = heads[i], heads[j]
    rough, back = _searched(first, second)
    first, second = _with_brain(first, second, rough), _with_brain(second, first, back)
    forward, information = _fitted(first, second, rough, affine)
    backward, other = _fitted(second, first, back, affine)
    if max(_degrees(forward), _degrees(backward)) > _MOST_DEGREES:
        raise InputError(
            f"{first.name} and {second.name}: one head is turned round by {_degrees(forward):.0f} "
            "degrees against the other: there is no half-way; mend the header of one"
        )
    matrix = exponential((logarithm(forward) - logarithm(backward)) / 2)
    places = first.places()
    middle = np.append(places[:, :3].mean(axis=0), 1)
    agree, mirrored = _agreements(first, second, matrix)
    found = PairFit(
        i,
        j,
        matrix,
        overlap=_overlap(first, second, matrix),
        similarity=(information + other) / 2,
        inconsistency_mm=mean_distance(forward, np.linalg.inv(backward), places),
        degrees=_degrees(matrix),
        millimetres=float(np.linalg.norm(matrix @ middle - middle)),
        agreement=agree,
        mirrored=mirrored,
    )
    _check(first, second, found)
    return found


def _searched(first: _Head, second: _Head) -> tuple[Matrix, Matrix]:
    """Return rough maps there and back: each sought alone, unless they disagree."""
    ours, theirs = first.places(), second.places()
    forward = search(first.coarse, second.coarse, ours, theirs)
    backward = search(second.coarse, first.coarse, theirs, ours)
    inverse = np.linalg.inv(backward)
    if mean_distance(forward, inverse, ours) < _APART:
        return forward, backward
    if _agreement(first, second, forward) >= _agreement(first, second, inverse):
        return forward, np.linalg.inv(forward)
    return inverse, backward


def _with_brain(head: _Head, other: _Head, matrix: Matrix) -> _Head:
    """Return a head with the other one's brain where its own was not found."""
    if head.has_brain or not other.has_brain:
        return head
    moved = Volume(other.distance.data, through(np.linalg.inv(matrix), other.distance.affine))
    inside = resample(
        moved.with_data(moved.data == 0), grid(head.distance), interpolation="nearest"
    )
    if not inside.data.any():
        return head
    return replace(head, has_brain=True, distance=_distance(inside, grid(inside)))


def _fitted(fixed: _Head, moving: _Head, start: Matrix, affine: bool) -> tuple[Matrix, float]:
    places = fixed.places(_PLACES, reach=_GROWN)
    near = moving.holds(places @ start.T, reach=_NEAR)
    places = places[near] if near.any() else places
    found = align(fixed.fine, moving.fine, places, start)
    return align(fixed.fine, moving.fine, places, found[0], affine=True) if affine else found


def _agreements(first: _Head, second: _Head, matrix: Matrix) -> tuple[float, float]:
    """Return how well edges agree, as they are and with the first head mirrored."""
    mirror = np.diag([-1.0, 1, 1, 1])
    image = first.coarse.image
    mirrored = replace(first.coarse, image=Volume(image.data, mirror @ image.affine))
    other = search(mirrored, second.coarse, first.places() @ mirror, second.places())
    return _agreement(first, second, matrix), _agreement(first, second, other @ mirror)


def _agreement(first: _Head, second: _Head, matrix: Matrix) -> float:
    there = edge_agreement(first.edges, second.edges, matrix, first.places())
    back = edge_agreement(second.edges, first.edges, np.linalg.inv(matrix), second.places())
    return (there + back) / 2


def _covered(head: _Head, other: _Head, matrix: Matrix) -> tuple[float, float]:
    """Return how many of a brain's voxels the other image shows, and how many its brain holds."""
    places = head.places() @ matrix.T
    seen = np.isfinite(values_at(other.fine.image, places))
    size = np.count_nonzero(head.distance.data == 0)
    return size * float(seen.mean()), size * float((seen & other.holds(places)).mean())


def _overlap(first: _Head, second: _Head, matrix: Matrix) -> float | None:
    if not (first.has_brain and second.has_brain):
        return None
    seen, both = _covered(first, second, matrix)
    other_seen, other_both = _covered(second, first, np.linalg.inv(matrix))
    return float((both + other_both) / max(seen + other_seen, 1.0))


def _degrees(matrix: Matrix) -> float:
    trace = np.trace(_rotation(matrix[:3, :3]))
    return float(np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def _check(first: _Head, second: _Head, found: PairFit) -> None:
    """Refuse what are not two images of one head; warn where that is in doubt."""
    both = f"{first.name} and {second.name}"
    for head, other, matrix in (
        (first, second, found.matrix),
        (second, first, np.linalg.inv(found.matrix)),
    ):
        size = np.count_nonzero(head.distance.data == 0)
        share = _covered(head, other, matrix)[0] / size
        if share < _SEEN[0]:
            raise InputError(
                f"{both}: {other.name} shows {100 * share:.0f} % of the brain of {head.name}: too "
                "little overlap to compare them; give whole heads"
            )
        if share < _SEEN[1]:
            warnings.warn(
                f"{both}: {other.name} shows {100 * share:.0f} % of the brain of {head.name}: "
                "only that is compared",
                stacklevel=5,
            )
    if found.overlap is not None and found.overlap < _OVERLAP[0]:
        raise InputError(
            f"{both}: their brains cover each other to a Dice of {found.overlap:.2f} alone: one "
            "image shows half a head, or its brain was not found; look at the images, or give "
            "masks of the brains"
        )
    if found.mirrored > found.agreement + _MIRRORED:
        raise InputError(
            f"{both}: one fits the mirror image of the other better: left and right are exchanged "
            "in one of them; see how it was converted"
        )
    by_chance = found.agreement < found.mirrored + _MORE or found.inconsistency_mm > _SURE
    if found.agreement < _ALIKE[0] and by_chance:
        raise InputError(
            f"{both}: their brains are no more alike than two persons' are: see whether both are "
            "of one patient"
        )
    if found.agreement < _ALIKE[1]:
        warnings.warn(
            f"{both}: their images have little in common: see whether both are of one patient, "
            "and look at them on the half-way grid",
            stacklevel=4,
        )
    if found.overlap is not None and found.overlap < _OVERLAP[1]:
        warnings.warn(
            f"{both}: their brains cover each other to a Dice of {found.overlap:.2f}: look at the "
            "images on the half-way grid",
            stacklevel=4,
        )


def _halfway(fits: Sequence[PairFit], count: int) -> list[Matrix]:
    """Return the maps from the half-way space to each visit that fit all pairs best."""
    measured = {(fit.first, fit.second): fit.matrix for fit in fits}
    measured |= {(j, i): np.linalg.inv(matrix) for (i, j), matrix in measured.items()}
    found = [np.eye(4)]
    for n in range(1, count):
        found.append(measured[n - 1, n] @ found[-1])
    for _ in range(_ROUNDS):
        moves = [_pull(measured, found, n) for n in range(count)]
        found = [exponential(move) @ matrix for move, matrix in zip(moves, found, strict=True)]
        middle = exponential(-np.mean([logarithm(matrix) for matrix in found], axis=0))
        found = [through(matrix, middle) for matrix in found]
        if max(np.abs(move).max() for move in moves) < _SETTLED:
            break
    return found


def _pull(measured: dict[tuple[int, int], Matrix], found: list[Matrix], visit: int) -> Matrix:
    """Return the mean of the logarithms by which the other visits have one elsewhere."""
    logs = [
        logarithm(matrix @ found[first] @ np.linalg.inv(found[visit]))
        for (first, second), matrix in measured.items()
        if second == visit
    ]
    return np.sum(logs, axis=0) / (len(logs) + 1)


def write_transform(path: PathLike, matrix: Matrix, *, overwrite: bool = False) -> None:
    """Write a map as an ITK transform file, as SimpleITK, 3D Slicer and ANTs read it.

    The file has the map in LPS mm. A rigid one becomes an Euler3DTransform, any other an
    AffineTransform. Resampling an image with a map from the half-way grid to a visit brings the
    visit's image onto that grid.

    Args:
        path: File, with the suffix ``.tfm`` or ``.txt``.
        matrix: Place in RAS mm, with a 1 -> that in RAS mm of the other space.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The matrix is no invertible map, the suffix is another one, or the file cannot
            be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "followup.tfm"
        >>> write_transform(path, np.eye(4))
        >>> print(path.read_text().splitlines()[2])
        Transform: Euler3DTransform_double_3_3

    Source: ITK's text transform format, ``itk::TxtTransformIO``.
    """
    check_affine(matrix)
    if Path(path).suffix.lower() not in (".tfm", ".txt"):
        raise InputError(f"{path}: give the name of a transform the suffix .tfm or .txt")
    lps = _flip(matrix)
    angles = _angles(lps[:3, :3])
    kind, numbers, fixed = "Affine", lps[:3, :3].ravel(), 3
    if angles is not None:
        kind, numbers, fixed = "Euler3D", angles, 4
    values = " ".join(repr(float(number)) for number in (*numbers, *lps[:3, 3]))
    text = (
        "#Insight Transform File V1.0\n#Transform 0\n"
        f"Transform: {kind}Transform_double_3_3\n"
        f"Parameters: {values}\n"
        f"FixedParameters: {' '.join(['0'] * fixed)}\n"
    )
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="ascii")


def read_transform(path: PathLike) -> Matrix:
    """Return the map of an ITK transform file: rigid, affine, or several of them composed.

    Args:
        path: ``.tfm``, ``.txt``, ``.mat``, ``.xfm`` or ``.h5``, as ITK, ANTs and 3D Slicer write
            them, in LPS mm.

    Returns:
        Place in RAS mm, with a 1 -> that in RAS mm of the other space.

    Raises:
        InputError: There is no such file, it holds no transform of three axes, or one that bends
            straight lines; or SimpleITK is missing.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "followup.tfm"
        >>> write_transform(path, np.diag([1.1, 1, 1, 1]))
        >>> read_transform(path)[0].tolist()
        [1.1, 0.0, 0.0, 0.0]
    """
    with needed_for("reading a transform"):
        import SimpleITK as sitk  # noqa: N813

    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        transform = sitk.ReadTransform(os.fspath(path))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an ITK transform file") from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(f"{path}: holds no rigid or affine transform of three axes")
    origin, *ends = (np.array(transform.TransformPoint(point)) for point in _ENDS)
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    matrix[:3, :3] = np.stack(ends, axis=1) - origin[:, None]
    check_affine(matrix)
    return _flip(matrix)


def _flip(matrix: Matrix) -> Matrix:
    """Return a map of RAS places as one of LPS places, or the other way round."""
    signs = np.array([-1.0, -1.0, 1.0, 1.0])
    return matrix * np.outer(signs, signs) + 0.0  # no -0


def _angles(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3"] | None:
    """Return the angles about x, y and z of ITK's ``Rz @ Rx @ Ry``; None for what is no such."""
    rigid = np.abs(rotation @ rotation.T - np.eye(3)).max() < _RIGID
    if not rigid or np.linalg.det(rotation) < 0 or np.hypot(*rotation[2, [0, 2]]) < 1e-3:
        return None
    about_x = np.arcsin(np.clip(rotation[2, 1], -1, 1))
    about_y = np.arctan2(-rotation[2, 0], rotation[2, 2])
    about_z = np.arctan2(-rotation[0, 1], rotation[1, 1])
    return np.array([about_x, about_y, about_z])
