"""Whether a follow-up can be trusted: lesions put into a patient's own scans, and found or not."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int32, Shaped

from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.spatial import resample
from segjax.data.synthesis import LesionShapes, PutLesion, ellipsoids, put_lesions
from segjax.errors import InputError
from segjax.evaluate.changes import LesionChange
from segjax.evaluate.followup import FollowUp, Visit, follow_up
from segjax.evaluate.registration import Registration, to_halfway
from segjax.evaluate.statistics import Interval, wilson_interval
from segjax.extras import needed_for
from segjax.grid import grid
from segjax.progress import track
from segjax.volume import Volume

__all__ = ["PutIn", "Segment", "SelfCheck", "SizeClass", "self_check"]

Segment = Callable[[Volume], tuple[Volume, Volume | None]]
"""Makes a mask, and probabilities where there are any, of an image."""

Where = Bool[np.ndarray, "x y z"]

_EDGES = (3.0, 5.0, 10.0)  # mm, of the classes of diameters
_LARGEST = 14.0
_OF_EACH = 2  # lesions of each class in a repeat
_CONTRAST = (0.9, 2.0)  # of lesions where no mask tells it
_AROUND = (0.5, 1.0)  # of the contrast of a mask's lesions: those that it misses are fainter
_FEWEST = 50  # voxels of a mask that tell it
_CORE = 0.5  # of the greatest share of a lesion
_NEAR = 2  # voxels around a lesion whose changes it explains
_DEGREES, _MM = 4.0, 4.0  # that copies are turned and shifted by at most
_GROWN, _SHRUNK = ("new", "enlarged"), ("shrunk", "gone")


@dataclass(frozen=True)
class PutIn:
    """A lesion that was put into the last scan.

    Attributes:
        repeat: In which repeat, from 0 on.
        diameter_mm: Of a ball of its volume.
        mm3: Its volume.
        centre_ras: Its centre in mm, in the scan that it was put into.
        contrast: How much brighter than the tissue around it, in interquartile ranges of the brain.
        found: Whether the follow-up told it as new, or a lesion that it touches as enlarged.
    """

    repeat: int
    diameter_mm: float
    mm3: float
    centre_ras: tuple[float, float, float]
    contrast: float
    found: bool


@dataclass(frozen=True)
class SizeClass:
    """How many of the lesions of a size were found.

    Attributes:
        from_mm: Least diameter.
        to_mm: Diameter that they are smaller than; None where there is no limit.
        put_in: Lesions of the size that were put in.
        found: Those of them that the follow-up found.
        sensitivity: Their share, with Wilson's interval; NaN where none was put in.
    """

    from_mm: float
    to_mm: float | None
    put_in: int
    found: int
    sensitivity: Interval


@dataclass(frozen=True)
class SelfCheck:
    """What a follow-up of these very scans finds of changes that are known.

    Attributes:
        sizes: Sensitivity for new lesions by their diameter, the smallest first.
        sensitivity: Of all sizes together.
        false_changes: Of each repeat, the changes that it told and that were neither put in nor
            told without what was put in.
        copies: Of each copy of a scan that was shifted, turned, resampled and followed up against
            the scan itself, the changes that were found, where there are none.
        put_in: Every lesion that was put in.
        shapes: Where the shapes came from, such as ``"drawn ellipsoids"``.
        seed: Decides all that is drawn.

    Example:
        >>> nothing = wilson_interval(0, 0)
        >>> check = SelfCheck((), nothing, (0, 1), (0, 2), (), "drawn ellipsoids", seed=0)
        >>> check.repeats, check.false_changes_per_comparison, check.copies_changed
        (2, 0.5, 1)
    """

    sizes: tuple[SizeClass, ...]
    sensitivity: Interval
    false_changes: tuple[int, ...]
    copies: tuple[int, ...]
    put_in: tuple[PutIn, ...]
    shapes: str
    seed: int

    @property
    def repeats(self) -> int:
        """How often lesions were put in."""
        return len(self.false_changes)

    @property
    def false_changes_per_comparison(self) -> float:
        """Mean number of false changes; NaN without a repeat."""
        return sum(self.false_changes) / self.repeats if self.repeats else float("nan")

    @property
    def copies_changed(self) -> int:
        """How many copies showed any change."""
        return sum(found > 0 for found in self.copies)


def self_check(
    visits: Sequence[Visit],
    *,
    segment: Segment | None = None,
    shapes: LesionShapes | None = None,
    repeats: int = 5,
    seed: int = 0,
    registration: str | Registration = "rigid",
    labels: Sequence[str] = (),
    intensities: bool = True,
) -> SelfCheck:
    """Find out what a follow-up of these very scans can see, and what it sees where nothing is.

    **Sensitivity**: in each repeat, six lesions (two of 3 to 5 mm, two of 5 to 10 mm, two of 10 to
    14 mm in diameter) are put into the last visit's image, where neither visit has a lesion and
    nothing has changed: :func:`segjax.data.synthesis.put_lesions`. Their contrast is 0.5 to 1 times
    that of the lesions of the last mask, since those that it misses are fainter; without a mask 0.9
    to 2 interquartile ranges of the brain. The image is segmented anew, and followed up against the
    visit before it. A lesion is found where a change touches it that is new or enlarged. Changes
    that touch none, and that were not told before, are false. The registration is that of the scans
    as they are: it is not repeated. Read the sensitivity as that for lesions of this contrast: what
    is fainter is found less often.

    **Copies**: each of the two images is turned by up to 4° about any axis, shifted by up to 4 mm
    along each axis, resampled (cubic splines), segmented anew, registered (rigidly, where the
    visits are not registered) and followed up against itself. Every change that is told is false.

    Args:
        visits: Of one patient, all with images, in the order of time; the last two are checked.
        segment: Makes mask and probabilities of an image. Without it the masks stay as they are (a
            copy's is resampled), and what is put in is seen by the images alone.
        shapes: Shapes of lesions; drawn ellipsoids by default.
        repeats: How often lesions are put in.
        seed: Decides all that is drawn.
        registration: As for :func:`segjax.evaluate.followup.follow_up`; how all these visits lie,
            where that is known.
        labels: Names of the classes, the background first.
        intensities: Whether images are compared, as well as masks.

    Returns:
        What was put in, and what of it was found.

    Raises:
        InputError: There are fewer than two visits, one has no image, or they cannot be followed
            up.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(48, 48, 48), spacing=3.5)
        >>> self_check([Visit("2024", head)])
        Traceback (most recent call last):
        segjax.errors.InputError: 1 visit: give two or more to check their follow-up
    """
    pair = tuple(map(_with_brain, visits[-2:]))
    if len(pair) < 2:
        raise InputError(f"{len(pair)} visit: give two or more to check their follow-up")
    if isinstance(registration, Registration):
        registration = replace(registration, matrices=registration.matrices[-2:], pairs=())
    library = shapes or ellipsoids()
    check = _Check(pair, segment, library, registration, tuple(labels), intensities, seed)
    return check.run(repeats)


@dataclass(frozen=True)
class _Check:
    """What is checked, and how."""

    visits: tuple[Visit, ...]
    segment: Segment | None
    shapes: LesionShapes
    registration: str | Registration
    labels: tuple[str, ...]
    intensities: bool
    seed: int

    def run(self, repeats: int) -> SelfCheck:
        """Put lesions in, follow copies up, and count."""
        put_in: list[PutIn] = []
        false, copies = [], []
        known = self._follow_up(self.visits, self.registration)
        taken = _taken(known, self.visits[-1])
        jobs = [*range(repeats), *(-1 - number for number in range(len(self.visits)))]
        for job in track(jobs, "Checking", unit="follow-up"):
            if job < 0:
                copies.append(self._copied(-1 - job))
            else:
                found, wrong = self._repeated(job, known, taken)
                put_in += found
                false.append(wrong)
        return SelfCheck(
            sizes=_by_size(put_in),
            sensitivity=_sensitivity(put_in),
            false_changes=tuple(false),
            copies=tuple(copies),
            put_in=tuple(put_in),
            shapes=self.shapes.source,
            seed=self.seed,
        )

    def _repeated(self, repeat: int, known: FollowUp, taken: Volume) -> tuple[list[PutIn], int]:
        """Put lesions into the last visit; return which of them are found, and false changes."""
        rng = np.random.default_rng((self.seed, repeat))
        last = self.visits[-1]
        image, shares, put = put_lesions(
            _image(last),
            self.shapes,
            rng,
            volumes=_draw_volumes(rng),
            brain=last.brain,
            lesions=taken,
            contrast=_contrast(last),
        )
        changed = self._segmented(replace(last, image=image))
        seen = self._follow_up((self.visits[0], changed), known.registration)
        cores = to_halfway(
            image.with_data(_cores(put, shares.spatial_shape)),
            known.registration,
            1,
            interpolation="nearest",
        ).data
        numbers = seen.comparisons[0].numbers.data
        grown = np.isin(numbers, _numbers(seen, _GROWN))
        found = set(np.unique(cores[grown]).tolist())
        reach = to_halfway(shares, known.registration, 1).data > 0
        told = [
            PutIn(
                repeat,
                _diameter(lesion.mm3),
                lesion.mm3,
                _three(lesion.centre_ras),
                lesion.contrast,
                number in found,
            )
            for number, lesion in enumerate(put, start=1)
        ]
        return told, _count_false(seen, known, _near(reach))

    def _copied(self, number: int) -> int:
        """Follow a visit up against its moved copy; return the changes that are told."""
        rng = np.random.default_rng((self.seed, number, 1))
        visit = self.visits[number]
        copy = self._segmented(_move(visit, rng))
        kind = self.registration
        kind = kind.kind if isinstance(kind, Registration) else kind
        seen = self._follow_up((visit, copy), "rigid" if kind == "none" else kind)
        return len(_numbers(seen, _GROWN + _SHRUNK))

    def _segmented(self, visit: Visit) -> Visit:
        """Return a visit whose image has changed, with the mask of that."""
        if self.segment is None:
            return visit
        mask, probabilities = self.segment(_image(visit))
        return replace(visit, mask=mask, probabilities=probabilities)

    def _follow_up(self, visits: tuple[Visit, ...], registration: str | Registration) -> FollowUp:
        with warnings.catch_warnings(action="ignore"):  # they are of lesions that were put in
            return follow_up(
                visits,
                labels=self.labels,
                registration=registration,
                intensities=self.intensities,
            )


def _with_brain(visit: Visit) -> Visit:
    image = _image(visit)
    return visit if visit.brain else replace(visit, brain=extract_brain(image))


def _image(visit: Visit) -> Volume:
    if visit.image is None:
        raise InputError(f"{visit.name}: has no image; lesions are put into images: give one")
    return visit.image


def _taken(known: FollowUp, last: Visit) -> Volume:
    """Return where the last visit's grid holds lesions of either visit, or changes."""
    comparison = known.comparisons[0]
    moved = np.isin(comparison.numbers.data, _numbers(known, _GROWN + _SHRUNK))
    for visit in known.visits:
        if visit.mask is not None:
            moved |= visit.mask.data != 0
    space = known.registration
    there = Volume(moved.astype(np.uint8), space.matrices[1] @ space.grid.affine)
    back = resample(there, grid(_image(last)), interpolation="nearest").data != 0
    if last.mask is not None:
        back |= last.mask.data != 0
    return _image(last).with_data(back.astype(np.uint8))


def _contrast(visit: Visit) -> tuple[float, float]:
    """Return the contrast of a visit's lesions, in interquartile ranges of its brain."""
    if visit.mask is None or visit.brain is None or (visit.mask.data != 0).sum() < _FEWEST:
        return _CONTRAST
    image, inside = _image(visit).channels_last[..., 0], visit.brain.channels_last[..., 0] != 0
    low, middle, high = np.percentile(image[inside], [25, 50, 75])
    found = (np.median(image[visit.mask.data != 0]) - middle) / max(high - low, 1e-6)
    first, second = sorted(float(found) * bound for bound in _AROUND)
    return first, second


def _draw_volumes(rng: np.random.Generator) -> list[float]:
    ends = list(pairwise((*_EDGES, _LARGEST))) * _OF_EACH
    diameters = [math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in ends]
    return [math.pi / 6 * diameter**3 for diameter in diameters]


def _diameter(mm3: float) -> float:
    """Return the diameter of a ball."""
    return (6 * mm3 / math.pi) ** (1 / 3)


def _three(place: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = place
    return x, y, z


def _cores(put: Iterable[PutLesion], shape: tuple[int, ...]) -> Int32[np.ndarray, "x y z"]:
    """Return the number of the lesion whose core each voxel is; 0 elsewhere."""
    numbers = np.zeros(shape, np.int32)
    for number, lesion in enumerate(put, start=1):
        numbers[lesion.box][lesion.shares >= _CORE * lesion.shares.max()] = number
    return numbers


def _numbers(followup: FollowUp, kinds: Sequence[str]) -> list[int]:
    return [change.number for change in followup.comparisons[0].changes if change.kind in kinds]


def _count_false(seen: FollowUp, known: FollowUp, put_in: Where) -> int:
    """Count changes that touch nothing that was put in, and that were not told before."""
    numbers = seen.comparisons[0].numbers.data

    def is_false(change: LesionChange) -> bool:
        kinds = _GROWN if change.kind in _GROWN else _SHRUNK
        own = numbers[change.box] == change.number
        before = np.isin(known.comparisons[0].numbers.data[change.box], _numbers(known, kinds))
        return not (own & (before | put_in[change.box])).any()

    changes = seen.comparisons[0].changes
    return sum(is_false(change) for change in changes if change.kind in _GROWN + _SHRUNK)


def _near(where: Where) -> Where:
    with needed_for("checking a follow-up"):
        from scipy import ndimage
    return np.asarray(ndimage.binary_dilation(where, iterations=_NEAR))


def _move(visit: Visit, rng: np.random.Generator) -> Visit:
    """Return a visit with its head turned and shifted, on the same grid."""
    matrix = _draw_motion(rng, _image(visit))
    mask, brain = visit.mask, visit.brain
    return replace(
        visit,
        name=f"{visit.name}, moved",
        image=_moved(_image(visit), matrix, order=3),
        mask=mask and _rounded(mask, matrix),
        probabilities=visit.probabilities and _moved(visit.probabilities, matrix, order=1),
        brain=brain and _rounded(brain, matrix),
    )


def _draw_motion(rng: np.random.Generator, image: Volume) -> Float64[np.ndarray, "4 4"]:
    """Return where each voxel of a moved copy is read in the image: voxel index -> index."""
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = math.radians(rng.uniform(-_DEGREES, _DEGREES))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    middle = image.affine @ [*(np.array(image.spatial_shape) - 1) / 2, 1.0]
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle[:3] - turn @ middle[:3] + rng.uniform(-_MM, _MM, 3)
    return np.linalg.solve(image.affine, matrix @ image.affine)


def _moved(volume: Volume, matrix: Float64[np.ndarray, "4 4"], *, order: Literal[1, 3]) -> Volume:
    """Read a volume at other places, by splines of an order; 0 outside of it."""
    with needed_for("checking a follow-up"):
        from scipy import ndimage

    def move(channel: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, "x y z"]:
        data = channel.astype(np.float32)
        return np.asarray(ndimage.affine_transform(data, matrix, order=order, mode="constant"))

    if volume.data.ndim == volume.spatial_dims:
        return volume.with_data(move(volume.data))
    channels = [move(volume.data[..., number]) for number in range(volume.channels)]
    return volume.with_data(np.stack(channels, axis=-1))


def _rounded(mask: Volume, matrix: Float64[np.ndarray, "4 4"]) -> Volume:
    """Move each value of a mask: a voxel is of the value that takes half of it or more."""
    data = mask.channels_last[..., 0]
    result = np.zeros(data.shape, np.uint8)
    for value in np.unique(data[data != 0]):
        shares = _moved(mask.with_data(data == value), matrix, order=1).data
        result[shares >= 0.5] = value
    return mask.with_data(result)


def _by_size(put_in: Sequence[PutIn]) -> tuple[SizeClass, ...]:
    """Part lesions by diameter; those of a hair under 3 mm are of the smallest class."""
    classes = []
    for low, high in pairwise((*_EDGES, math.inf)):
        least = 0.0 if low == _EDGES[0] else low
        own = [lesion for lesion in put_in if least <= lesion.diameter_mm < high]
        found = sum(lesion.found for lesion in own)
        to_mm = None if math.isinf(high) else high
        classes.append(SizeClass(low, to_mm, len(own), found, _sensitivity(own)))
    return tuple(classes)


def _sensitivity(put_in: Sequence[PutIn]) -> Interval:
    return wilson_interval(sum(lesion.found for lesion in put_in), len(put_in))
