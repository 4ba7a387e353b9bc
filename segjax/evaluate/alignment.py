"""How well two images of a head lie on each other, and the map that lays them best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from jaxtyping import Float, Float64

from segjax.data.prepare.spatial import resample
from segjax.extras import needed_for
from segjax.grid import Grid
from segjax.volume import Volume

__all__ = [
    "Sampled",
    "align",
    "edge_agreement",
    "edges",
    "even",
    "exponential",
    "flatten",
    "logarithm",
    "mean_distance",
    "mutual_information",
    "places_in",
    "search",
    "smooth",
    "through",
    "values_at",
]

Matrix = Float64[np.ndarray, "4 4"]
Places = Float64[np.ndarray, "place 4"]

_BINS = 32
_OUTLIERS = (0.5, 99.5)  # percentiles of the brain's values between which the bins lie
_RADIUS = 60.0  # mm, about that of a brain: turns count as what they move there
_SMALLEST_SHARE = 0.1  # of the places that both images must show
_SEED = 1
_FEW = 1500  # places by which starts are told apart
_AIR = 0.2  # of the brightest tissue; what is darker is none
_LEAST, _FLOOR, _TINY = 1e-3, 1e-2, 1e-12  # so that air is not divided by nothing
_STEP = 2.0  # mm, the first of a search; half of the longest
_TILT = np.deg2rad(25)


@dataclass(frozen=True, eq=False)
class Sampled:
    """An image that is read between its voxels.

    Attributes:
        image: Volume of rank 3, float32.
        low: Value of the first bin of its histogram.
        high: Value of the last one.
    """

    image: Volume
    low: float
    high: float

    @classmethod
    def of(cls, image: Volume, places: Places) -> "Sampled":
        """Return an image whose histogram lies between the outliers of its values at places."""
        values = values_at(image, places)
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, _OUTLIERS) if values.size else (0.0, 0.0)
        if high <= low:
            low, high = float(image.data.min()), float(image.data.max())
        return cls(image, float(low), float(high))

    def bins_at(self, places: Places) -> Float[np.ndarray, " place"]:
        """Return the bins of the values at places, between 0 and 31; NaN outside the image."""
        values = values_at(self.image, places)
        unit = (values - self.low) / max(self.high - self.low, 1e-12)
        return np.clip(unit, 0, 1) * (_BINS - 1)


def values_at(image: Volume, places: Places) -> Float[np.ndarray, " place"]:
    """Return an image's values at places in RAS mm, linear between voxels, NaN outside.

    Example:
        >>> image = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4))
        >>> values_at(image, np.array([[0.5, 0, 0, 1], [0, 0, 2, 1.0]]))
        array([ 2., nan], dtype=float32)
    """
    with needed_for("registering visits"):
        from scipy.ndimage import map_coordinates

    index = np.linalg.inv(image.affine)[:3] @ places.T
    return map_coordinates(image.data, index, np.float32, order=1, cval=np.nan, prefilter=False)


def mutual_information(
    first: Float[np.ndarray, " place"], second: Float[np.ndarray, " place"]
) -> tuple[float, float]:
    """Return the mutual information of two images' bins, in nats, and the share of places.

    A value between two bins counts in both, by its distance from each.

    Args:
        first: Bins of the one image, as :meth:`Sampled.bins_at` returns them.
        second: Those of the other.

    Returns:
        ``H(first) + H(second) - H(first, second)`` over the places that both show, 0 where these
        are under a tenth; and how many of all these are, in [0, 1].

    Example:
        >>> bins = np.repeat([0.0, 31.0], 50)
        >>> round(mutual_information(bins, 31 - bins)[0], 4)  # ln 2
        0.6931
    """
    seen = np.isfinite(first) & np.isfinite(second)
    share = float(seen.mean())
    if share < _SMALLEST_SHARE:
        return 0.0, share
    (row, down), (column, right) = (_split(bins[seen]) for bins in (first, second))
    at = row * _BINS + column
    counts = np.zeros(_BINS * _BINS + _BINS + 1)
    for step, weight in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (_BINS, down * (1 - right)),
        (_BINS + 1, down * right),
    ):
        counts += np.bincount(at + step, weight, len(counts))
    joint = counts[: _BINS * _BINS].reshape(_BINS, _BINS) / counts.sum()
    return _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint), share


def align(
    fixed: Sampled,
    moving: Sampled,
    places: Places,
    start: Matrix,
    *,
    affine: bool = False,
    step: float = 0.1,
    stop: float = 0.01,
    iterations: int = 15,
) -> tuple[Matrix, float]:
    """Return the map from an image's mm to another's with the most mutual information.

    Args:
        fixed: The one image.
        moving: The other one.
        places: Where the images are compared, in mm of ``fixed``; best between its voxels.
        start: A map ``(4, 4)`` that is nearly right.
        affine: Whether twelve numbers are sought, not the six of turns and shifts.
        step: Of the differences that tell the slope, in mm.
        stop: Length of the last step of the search, in mm.
        iterations: Steps at most.

    Returns:
        The map, and its mutual information times the share of places that both images show.

    Source: BFGS with central differences, J. Nocedal and S. Wright, Numerical optimization, 2006,
        chapter 6; what is maximised is the mutual information of W. Wells et al., Multi-modal
        volume registration by maximization of mutual information, Med. Image Anal. 1, 1996.
    """
    middle = places[:, :3].mean(axis=0)
    values = fixed.bins_at(places)

    def cost(parameters: Float64[np.ndarray, " parameter"]) -> float:
        there = places @ (start @ _motion(parameters, middle)).T
        return -mutual_information(values, moving.bins_at(there))[0]

    found = _descend(cost, 12 if affine else 6, step, stop, iterations)
    matrix = through(start, _motion(found, middle))
    information, share = mutual_information(values, moving.bins_at(places @ matrix.T))
    return matrix, information * share


def search(
    fixed: Sampled, moving: Sampled, places: Places, target: Places, *, tries: int = 3
) -> Matrix:
    """Return a rough rigid map from an image's mm to another's, wherever the head lies.

    Starts are: as the headers place the images; and middle on middle, as the headers turn them,
    turned by all quarters, tilted by 25 degrees about any axes, and moved along each axis. The
    best are followed, the first two always.

    Args:
        fixed: The one image, of some mm.
        moving: The other one.
        places: Inside the brain of ``fixed``, in its mm.
        target: Inside the brain of ``moving``.
        tries: Starts that are followed beside the first two.
    """
    few = places[:: max(1, len(places) // _FEW)]
    values = fixed.bins_at(few)
    starts = list(_starts(places[:, :3].mean(axis=0), target[:, :3].mean(axis=0)))
    scores = [
        np.prod(mutual_information(values, moving.bins_at(few @ start.T))) for start in starts
    ]
    best = [n for n in np.argsort(scores)[::-1] if n > 1][:tries]
    found = [
        align(fixed, moving, few, starts[n], step=1.0, stop=0.5, iterations=8)
        for n in (0, 1, *best)
    ]
    nearest = max(found, key=lambda one: one[1])[0]
    return align(fixed, moving, places, nearest, step=0.5, stop=0.1, iterations=20)[0]


def places_in(mask: Volume, count: int) -> Places:
    """Return places inside a mask, in mm with a 1, drawn anew each time from the same seed.

    Each is a place of its own in a voxel of its own, so that none lies on the grid.
    """
    rng = np.random.default_rng(_SEED)
    inside = np.flatnonzero(mask.data > 0)
    chosen = rng.choice(inside, min(count, len(inside)), replace=False)
    index = np.stack(np.unravel_index(chosen, mask.data.shape), axis=1).astype(np.float64)
    index += rng.uniform(-0.5, 0.5, index.shape)
    return np.c_[index, np.ones(len(index))] @ mask.affine.T


def even(volume: Volume, spacing: float) -> Volume:
    """Return a volume at equal distances along the patient's axes, smoothed by half of these."""
    image = smooth(volume, spacing / 2)
    ends = np.array(list(product(*[(0, n - 1) for n in volume.spatial_shape], [1])))
    corners = ends @ volume.affine[:3].T
    low, high = corners.min(axis=0), corners.max(axis=0)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low
    return resample(image, Grid(tuple(int(n) + 1 for n in (high - low) / spacing), affine))


def smooth(volume: Volume, sigma: float) -> Volume:
    """Return a volume smoothed by a Gaussian of some mm, but not along voxels as long as that."""
    with needed_for("registering visits"):
        from scipy.ndimage import gaussian_filter

    widths = [sigma / step if step < 2 * sigma else 0 for step in volume.spacing]
    return volume.with_data(gaussian_filter(volume.data.astype(np.float32), widths))


def flatten(image: Volume, rough: Volume, sigma: float = 20.0) -> Volume:
    """Return an image over its brightness round about, which differs by coil and scanner.

    Args:
        image: Volume of rank 3.
        rough: The same, :func:`even`.
        sigma: Of the Gaussian by which brightness is averaged over what is no air, in mm.

    Returns:
        About 1 in all tissue that lies amid tissue as bright.
    """
    with needed_for("registering visits"):
        from scipy.ndimage import gaussian_filter

    width = sigma / rough.spacing[0]
    bright = float(np.percentile(rough.data, 99))
    tissue = (rough.data > _AIR * bright).astype(np.float32)
    mean = gaussian_filter(rough.data * tissue, width) + _LEAST * abs(bright)
    mean /= gaussian_filter(tissue, width) + _LEAST
    around = resample(rough.with_data(mean), Grid(image.spatial_shape, image.affine)).data
    return image.with_data(image.data / np.maximum(around, _FLOOR * mean.max() + _TINY))


def edges(volume: Volume, sigma: float = 2.0) -> Volume:
    """Return the gradient of an :func:`even` volume that is smoothed by some mm, channels last."""
    with needed_for("registering visits"):
        from scipy.ndimage import gaussian_filter

    smoothed = gaussian_filter(volume.data, sigma / volume.spacing[0])
    slopes = [np.gradient(smoothed, step, axis=n) for n, step in enumerate(volume.spacing)]
    return volume.with_data(np.stack(slopes, axis=-1).astype(np.float32))


def edge_agreement(first: Volume, second: Volume, matrix: Matrix, places: Places) -> float:
    """Return how parallel the edges of two images are, whatever their contrasts, in [0, 1].

    The mean of cos² of the angle between both gradients, weighted by both lengths (each up to
    twice its median): 1 where all run alike, 1/3 where they have nothing to do with each other.

    Args:
        first: Gradients of an image, of :func:`edges`.
        second: Those of another one.
        matrix: Rigid map from places of the first to those of the second.
        places: Where to look, in mm of the first.

    Returns:
        The agreement; 0 where both images show nothing in common.

    Source: E. Haber and J. Modersitzki, Intensity gradient based registration and fusion of
        multi-modal images, MICCAI 2006.
    """
    one = np.stack([values_at(_channel(first, n), places) for n in range(3)], axis=1)
    other = np.stack([values_at(_channel(second, n), places @ matrix.T) for n in range(3)], axis=1)
    other = other @ matrix[:3, :3]
    seen = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    lengths = [np.linalg.norm(slopes[seen], axis=1) for slopes in (one, other)]
    if not seen.any() or any(np.median(length) <= 0 for length in lengths):
        return 0.0
    weights = np.prod([np.minimum(length / np.median(length), 2) for length in lengths], axis=0)
    cosines = (one[seen] * other[seen]).sum(axis=1) / np.maximum(np.prod(lengths, axis=0), 1e-12)
    return float((weights * cosines**2).sum() / weights.sum())


def mean_distance(first: Matrix, second: Matrix, places: Places) -> float:
    """Return how far apart two maps bring places, in the mean, in mm.

    Example:
        >>> shift = np.eye(4)
        >>> shift[:3, 3] = 0, 3, 4
        >>> mean_distance(np.eye(4), shift, np.ones((2, 4)))
        5.0
    """
    return float(np.linalg.norm((places @ (first - second).T)[:, :3], axis=1).mean())


def logarithm(matrix: Matrix) -> Matrix:
    """Return the matrix whose exponential a map is."""
    with needed_for("registering visits"):
        from scipy.linalg import logm

    return np.real(logm(matrix)).astype(np.float64)


def exponential(matrix: Matrix) -> Matrix:
    """Return the map whose logarithm a matrix is."""
    with needed_for("registering visits"):
        from scipy.linalg import expm

    return through(expm(matrix), np.eye(4))


def through(matrix: Matrix, affine: Matrix) -> Matrix:
    """Return one map after another, with the last row 0 0 0 1."""
    found = matrix @ affine
    found[3] = 0, 0, 0, 1
    return found


def _channel(volume: Volume, channel: int) -> Volume:
    return volume.with_data(np.ascontiguousarray(volume.data[..., channel]))


def _split(bins: Float[np.ndarray, " place"]) -> tuple[np.ndarray, Float[np.ndarray, " place"]]:
    lower = np.minimum(bins.astype(np.intp), _BINS - 2)
    return lower, bins - lower


def _entropy(shares: Float64[np.ndarray, "..."]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _motion(parameters: Float64[np.ndarray, " parameter"], middle: np.ndarray) -> Matrix:
    """Return a map about a middle: shifts, turns and, of twelve numbers, strains; all in mm."""
    log = np.zeros((4, 4))
    log[:3, 3] = parameters[:3]
    x, y, z = parameters[3:6] / _RADIUS
    log[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    if len(parameters) == 12:
        a, b, c, d, e, f = parameters[6:] / _RADIUS
        log[:3, :3] += [[a, d, e], [d, b, f], [e, f, c]]
    centre = np.eye(4)
    centre[:3, 3] = middle
    back = np.eye(4)
    back[:3, 3] = -middle
    return centre @ exponential(log) @ back


def _descend(
    cost: Callable[[np.ndarray], float], size: int, step: float, stop: float, iterations: int
) -> Float64[np.ndarray, " parameter"]:
    """Return where a cost is least near 0, by BFGS with central differences."""

    def slope(at: np.ndarray) -> Float64[np.ndarray, " parameter"]:
        return np.array([cost(at + d) - cost(at - d) for d in step * np.eye(size)]) / (2 * step)

    place, inverse = np.zeros(size), None
    value, gradient = cost(place), slope(place)
    for _ in range(iterations):
        length = np.linalg.norm(gradient)
        if length == 0:
            break
        move = -gradient / length * _STEP if inverse is None else -inverse @ gradient
        move *= min(1.0, 2 * _STEP / max(float(np.linalg.norm(move)), 1e-12))
        for _ in range(6):
            if cost(place + move) < value:
                break
            move /= 2
        else:
            break
        place = place + move
        value, before, gradient = cost(place), gradient, slope(place)
        inverse = _curvature(inverse, move, gradient - before)
        if np.linalg.norm(move) < stop:
            break
    return place


def _curvature(
    inverse: np.ndarray | None, move: np.ndarray, change: np.ndarray
) -> np.ndarray | None:
    """Return the inverse of the second derivatives, as a step and its change of slope have it."""
    along = move @ change
    if along <= 1e-12:
        return inverse
    if inverse is None:
        inverse = np.eye(len(move)) * along / (change @ change)
    turn = np.eye(len(move)) - np.outer(move, change) / along
    return turn @ inverse @ turn.T + np.outer(move, move) / along


def _starts(middle: np.ndarray, target: np.ndarray) -> Iterator[Matrix]:
    yield np.eye(4)
    shifts = [np.zeros(3), *(length * axis for length in (-30, 30) for axis in np.eye(3))]
    for shift in shifts:
        yield _placed(np.eye(3), middle, target + shift)
    for turn in (*_quarters(), *_tilts()):
        yield _placed(turn, middle, target)


def _placed(turn: np.ndarray, middle: np.ndarray, target: np.ndarray) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = target - turn @ middle
    return matrix


def _quarters() -> Iterator[np.ndarray]:
    """Yield the 23 turns that bring the axes onto each other."""
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.eye(3)[list(order)] * np.array(signs)
            if np.linalg.det(turn) > 0 and not (turn == np.eye(3)).all():
                yield turn


def _tilts() -> Iterator[np.ndarray]:
    for axis in product((-1.0, 0.0, 1.0), repeat=3):
        if any(axis):
            turn = np.zeros(12)[:6]
            turn[3:6] = np.array(axis) / np.linalg.norm(axis) * _TILT * _RADIUS
            yield _motion(turn, np.zeros(3))[:3, :3]
