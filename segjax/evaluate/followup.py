"""Follow up: the visits of one patient on one grid, and what changed from each to the next."""

import datetime
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from segjax.data.io.formats import check_same_grid
from segjax.data.prepare.brain import extract_brain
from segjax.errors import InputError
from segjax.evaluate.activity import Activity, activity_of
from segjax.evaluate.changes import LesionChange, drifting, lesion_changes
from segjax.evaluate.difference import ImageDifference, compare_images
from segjax.evaluate.measure import LabelMeasures, measure_mask
from segjax.evaluate.registration import (
    Registration,
    field_of_view,
    register_visits,
    to_halfway,
    unregistered,
)
from segjax.grid import Grid, grid, orientation, reorient_grid
from segjax.text import plural
from segjax.volume import Volume, voxel_size

if TYPE_CHECKING:
    from segjax.evaluate.selfcheck import SelfCheck

__all__ = ["Comparison", "FollowUp", "Placed", "Visit", "follow_up"]

_HALF = 0.5  # share of a voxel from which on it belongs to a mask
_MOST = 255  # value of a mask
_BRAIN_ML = (300, 2300)  # beyond, what was extracted is no brain
_LOST = 1.0  # voxels that the other visit may lack unsaid

Where = Bool[np.ndarray, "x y z"]
Shares = Float32[np.ndarray, "x y z"]
_Changes = tuple[tuple[LesionChange, ...], Int32[np.ndarray, "x y z"]]


@dataclass(frozen=True, eq=False)
class Visit:
    """Hold what is known of one visit, on its own grid.

    Attributes:
        name: What it is called in the report.
        image: Its scan ``(*spatial,)`` or ``(*spatial, channel)``; the first channel is compared.
        mask: Its lesions ``(*spatial,)``: 0 and the values 1, 2, ... of the labels.
        probabilities: Of each class ``(*spatial, class)``, the background first.
        brain: What is not 0 is brain.
        date: When it was scanned.

    Example:
        >>> mask = Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4))
        >>> Visit("2024", mask=mask, date=datetime.date(2024, 1, 31)).date.year
        2024
    """

    name: str
    image: Volume | None = None
    mask: Volume | None = None
    probabilities: Volume | None = None
    brain: Volume | None = None
    date: datetime.date | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """Hold a visit on the half-way grid.

    Attributes:
        name: What it is called in the report.
        date: When it was scanned; None where that is unknown, or not to be shown: the days between
            visits are in :class:`Comparison`.
        image: Its scan ``x y z``, float32, interpolated once; 0 outside of it.
        mask: Its lesions ``x y z``, uint8.
        probabilities: Of each class ``x y z class``, float32.
        loads: What its mask holds of each label, measured on the visit's own grid.
    """

    name: str
    date: datetime.date | None
    image: Volume | None
    mask: Volume | None
    probabilities: Volume | None
    loads: tuple[LabelMeasures, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Hold what changed between two visits that follow each other.

    Attributes:
        first: Place of the earlier one among the visits.
        second: Place of the later one.
        days: Between both; None where a date is missing.
        difference: Of the images; None where one is missing or they are not compared.
        changes: Of the lesions, the largest change first.
        numbers: Map of the changes' numbers on the half-way grid, int32; 0 elsewhere.
        activity: What the changes come to.
    """

    first: int
    second: int
    days: int | None
    difference: ImageDifference | None
    changes: tuple[LesionChange, ...]
    numbers: Volume
    activity: Activity


@dataclass(frozen=True, eq=False)
class FollowUp:
    """Hold the visits of one patient, and what changed from each to the next.

    Attributes:
        subject: The patient's name in the report; may be empty.
        labels: Names of the classes, the background first.
        visits: All on the half-way grid, in the order of time.
        comparisons: Of each visit with the next.
        registration: How the visits were brought onto one grid.
        brain: On the half-way grid, uint8: inside the brain of all visits; None without images.
        check: What these scans allow to find, where that was asked for.

    Example:
        >>> mask = Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4))
        >>> found = follow_up([Visit(name, mask=mask) for name in ("2022", "2023", "2024")])
        >>> len(found.visits), len(found.comparisons), found.registration.kind
        (3, 2, 'none')
    """

    subject: str
    labels: tuple[str, ...]
    visits: tuple[Placed, ...]
    comparisons: tuple[Comparison, ...]
    registration: Registration
    brain: Volume | None
    check: "SelfCheck | None" = None


def follow_up(
    visits: Sequence[Visit],
    *,
    subject: str = "",
    labels: Sequence[str] = (),
    registration: str | Registration = "rigid",
    intensities: bool = True,
) -> FollowUp:
    """Bring the visits of a patient onto one grid, and say what changed from each to the next.

    1. The images are registered to a grid half-way between all visits:
       :func:`segjax.evaluate.registration.register_visits`. Masks alone lie where their headers
       say.
    2. Each image and mask is interpolated once, linearly, to that grid. A mask becomes shares of
       voxels; where labels make up half of a voxel or more, it is of that with the largest share.
    3. What each mask holds is measured on its own grid:
       :func:`segjax.evaluate.measure.measure_mask`.
    4. The first channels of the images of two visits that follow each other are compared inside
       the brain of both: :func:`segjax.evaluate.difference.compare_images`.
    5. The lesions of each label are compared in the field of view of both:
       :func:`segjax.evaluate.changes.lesion_changes`.

    Args:
        visits: Two or more of rank 3, in the order of time: all with images, all with masks, or
            all with both. One with an image and without a brain gets that of
            :func:`segjax.data.prepare.brain.extract_brain`.
        subject: The patient's name in the report.
        labels: Names of the classes, the background first; by default the values of the masks,
            or ``lesion`` where that is 1 alone.
        registration: "rigid", "affine", or "none" to trust the headers; or how these visits lie,
            as it was found before.
        intensities: Whether images are compared.

    Returns:
        The visits on the half-way grid, and what changed.

    Raises:
        InputError: There are fewer than two visits, they do not belong together or cannot be
            registered, or one holds what it should not; the message names it.

    Warns:
        UserWarning: No brain is found in an image; lesions lie out of the other visit's sight;
            masks changed in lesions that are told as stable, as images contradict them, or
            each by little, but all together.

    Example:
        >>> lesion = np.zeros((24, 24, 24), np.uint8)
        >>> lesion[4:10, 4:10, 4:10] = 1
        >>> before, after = Volume(0 * lesion, np.eye(4)), Volume(lesion, np.eye(4))
        >>> found = follow_up([Visit("2023", mask=before), Visit("2024", mask=after)])
        >>> [(change.kind, round(change.followup_mm3)) for change in found.comparisons[0].changes]
        [('new', 216)]
    """
    given = tuple(map(_checked, visits))
    _check_together(given)
    given = tuple(map(_with_brain, given))
    names = tuple(labels) or _names(given)
    space = _Space(given, _registered(given, registration), names)
    placed = tuple(map(space.placed, range(len(given))))
    pairs = [_Pair(space, placed, number, number + 1) for number in range(len(given) - 1)]
    comparisons = tuple(pair.compared(intensities=intensities) for pair in pairs)
    brain = space.brain(range(len(given)))
    return FollowUp(subject, names, placed, comparisons, space.registration, brain)


def _checked(visit: Visit) -> Visit:
    """Return a visit whose mask is uint8; refuse one that cannot be compared with any."""
    if visit.image is None and visit.mask is None:
        raise InputError(f"{visit.name}: has neither image nor mask; give one")
    parts = _parts(visit)
    for what, volume in parts.items():
        if volume.spatial_dims != 3 or 1 in volume.spatial_shape:
            raise InputError(
                f"{visit.name}: the {what} is a picture or one slice, of shape "
                f"{volume.data.shape}; visits are compared as volumes"
            )
        if not np.isfinite(volume.data).all():
            raise InputError(f"{visit.name}: the {what} holds NaN or infinite values; mend it")
    (what, first), *others = parts.items()
    for other, volume in others:
        check_same_grid(first, volume, (f"its {what}", f"{visit.name}: the {other}"))
    return visit if visit.mask is None else replace(visit, mask=_classes(visit.mask, visit.name))


def _parts(visit: Visit) -> dict[str, Volume]:
    parts = {
        "image": visit.image,
        "mask": visit.mask,
        "map of probabilities": visit.probabilities,
        "brain": visit.brain,
    }
    return {what: volume for what, volume in parts.items() if volume is not None}


def _grid(visit: Visit) -> Grid:
    return grid(next(iter(_parts(visit).values())))


def _classes(mask: Volume, name: str) -> Volume:
    data = mask.data
    if data.ndim != 3:
        raise InputError(f"{name}: the mask has {mask.channels} channels; give one value a voxel")
    if data.min() < 0 or data.max() > _MOST or (data != np.round(data)).any():
        raise InputError(f"{name}: the mask holds other values than whole numbers up to {_MOST}")
    return mask.with_data(data.astype(np.uint8, copy=False))


def _check_together(visits: Sequence[Visit]) -> None:
    """Refuse visits that do not belong together."""
    if len(visits) < 2:
        raise InputError(f"{len(visits)} visit: give two or more, in the order of time")
    for what in ("image", "mask", "probabilities"):
        lacking = [visit.name for visit in visits if getattr(visit, what) is None]
        if 0 < len(lacking) < len(visits):
            raise InputError(f"{lacking[0]}: has no {what}, but other visits have; give it to all")
    channels = {visit.image.channels: visit.name for visit in visits if visit.image}
    if len(channels) > 1:
        told = " and ".join(f"{name} has {count}" for count, name in channels.items())
        raise InputError(f"visits of different channels: {told}; give the same of each")
    for one, other in pairwise([visit for visit in visits if visit.date]):
        if one.date and other.date and other.date < one.date:
            raise InputError(
                f"{other.name}: is older than {one.name}, which is given before it; give the "
                "visits in the order of time"
            )


def _with_brain(visit: Visit) -> Visit:
    """Return a visit with its brain, where one is found."""
    if visit.image is None or visit.brain is not None:
        return visit
    try:
        brain = extract_brain(visit.image)
        low, high = _BRAIN_ML
        if not low < (size := np.count_nonzero(brain.data) * brain.voxel_size / 1e3) < high:
            raise InputError(f"what was found takes {size:.0f} ml; give a mask of it")
    except InputError as error:
        warnings.warn(f"{visit.name}: goes without a brain: {error}", stacklevel=3)
        return visit
    return replace(visit, brain=brain)


def _names(visits: Sequence[Visit]) -> tuple[str, ...]:
    """Return names of the labels of masks that nobody has named."""
    most = max((int(visit.mask.data.max()) for visit in visits if visit.mask), default=1)
    return ("background", *map(str, range(1, most + 1))) if most > 1 else ("background", "lesion")


def _registered(visits: Sequence[Visit], registration: str | Registration) -> Registration:
    if isinstance(registration, Registration):
        if (count := len(registration.matrices)) != len(visits):
            raise InputError(f"the registration is of {count} visits, but {len(visits)} are given")
        return registration
    images = [_first_channel(visit.image) for visit in visits if visit.image]
    if registration == "none" or not images:
        return unregistered([_grid(visit) for visit in visits])
    return register_visits(
        images,
        brains=[visit.brain for visit in visits],
        kind=registration,
        names=[visit.name for visit in visits],
    )


def _first_channel(image: Volume) -> Volume:
    return image.with_data(image.channels_last[..., 0].astype(np.float32, copy=False))


@dataclass(frozen=True)
class _Space:
    """The half-way grid, and what is brought to it."""

    visits: tuple[Visit, ...]
    registration: Registration
    labels: tuple[str, ...]

    def placed(self, number: int) -> Placed:
        """Return a visit on the half-way grid."""
        visit = self.visits[number]
        image = None if visit.image is None else self._there(_first_channel(visit.image), number)
        maps = None if visit.probabilities is None else self._there(visit.probabilities, number)
        if maps is not None and maps.channels != len(self.labels):
            raise InputError(
                f"{visit.name}: {maps.channels} probabilities a voxel, but the labels are "
                f"{', '.join(self.labels)}"
            )
        if visit.mask is None:
            return Placed(visit.name, visit.date, image, None, maps, ())
        try:
            loads = measure_mask(visit.mask, labels=self.labels)
        except InputError as error:
            raise InputError(f"{visit.name}: {error}") from None
        return Placed(visit.name, visit.date, image, self._mask(number), maps, loads)

    def brain(self, numbers: Iterable[int]) -> Volume | None:
        """Return what is brain at all of some visits; None where one of them has none."""
        inside = np.ones(self.registration.grid.shape, bool)
        for number in numbers:
            brain = self.visits[number].brain
            if brain is None:
                return None
            inside &= self._share(brain, brain.channels_last[..., 0] != 0, number) >= _HALF
        return self.volume(inside.astype(np.uint8))

    def shares(self, number: int, value: int) -> Shares:
        """Return how much of each voxel is of a label; nothing where the visit has no mask."""
        mask = self.visits[number].mask
        if mask is None:
            return np.zeros(self.registration.grid.shape, np.float32)
        return self._share(mask, mask.data == value, number)

    def seen(self, numbers: Sequence[int]) -> Where:
        """Say where all of some visits have voxels."""
        registration = self.registration
        matrices = tuple(registration.matrices[number] for number in numbers)
        some = replace(registration, matrices=matrices)
        grids = [_grid(self.visits[number]) for number in numbers]
        return field_of_view(grids, some).data > 0

    def volume(self, data: Shaped[np.ndarray, "x y z"]) -> Volume:
        """Return data on the half-way grid."""
        return Volume(data, self.registration.grid.affine)

    def edges(self, number: int) -> tuple[float, float, float]:
        """Return the edges of a visit's voxels along the axes of the half-way grid, in mm."""
        code = orientation(self.registration.grid.affine)
        x, y, z = reorient_grid(_grid(self.visits[number]), code).spacing
        return x, y, z

    def _mask(self, number: int) -> Volume:
        """Return the label of the largest share where labels make up half of a voxel."""
        total, most, labels = (np.zeros(self.registration.grid.shape, kind) for kind in "ffB")
        for value in range(1, len(self.labels)):
            shares = self.shares(number, value)
            labels[shares > most] = value
            np.maximum(most, shares, out=most)
            total += shares
        return self.volume(np.where(total >= _HALF, labels, np.uint8(0)))

    def _share(self, like: Volume, where: Bool[np.ndarray, "i j k"], number: int) -> Shares:
        shares = self._there(like.with_data(where.astype(np.float32)), number).data
        return np.clip(shares, 0, 1)

    def _there(self, volume: Volume, number: int) -> Volume:
        return to_halfway(volume, self.registration, number)


@dataclass(frozen=True)
class _Pair:
    """Two visits that follow each other."""

    space: _Space
    placed: tuple[Placed, ...]
    first: int
    second: int

    def compared(self, *, intensities: bool) -> Comparison:
        """Say what changed."""
        difference = self._difference() if intensities else None
        seen = self.space.seen(self._both)
        labels = range(1, len(self.space.labels))
        found = [self._changes(value, seen, difference) for value in labels]
        changes, numbers = _numbered(found)
        return Comparison(
            self.first,
            self.second,
            self._days,
            difference,
            changes,
            self.space.volume(numbers),
            activity_of(changes),
        )

    @property
    def _both(self) -> tuple[int, int]:
        return self.first, self.second

    @property
    def _days(self) -> int | None:
        before, after = (self.placed[number].date for number in self._both)
        return (after - before).days if before and after else None

    def _difference(self) -> ImageDifference | None:
        before, after = (self.placed[number].image for number in self._both)
        brain = self.space.brain(self._both)
        if before is None or after is None or brain is None:
            return None
        return compare_images(before, after, brain)

    def _changes(self, value: int, seen: Where, difference: ImageDifference | None) -> _Changes:
        """Return the changes of a label, and the map of their numbers."""
        space, label = self.space, self.space.labels[value]
        before, after = (self._shares(number, value, seen) for number in self._both)
        voxels = [_grid(space.visits[number]).affine for number in self._both]
        found = lesion_changes(
            before,
            after,
            space.registration.grid.affine,
            label=label,
            value=value,
            voxels_mm3=(voxel_size(voxels[0]), voxel_size(voxels[1])),
            edges_mm=(space.edges(self.first), space.edges(self.second)),
            days=self._days or None,  # scans of one day have no rate
            probabilities=self._probabilities(value),
            difference=difference and self._of_label(difference, value),
        )
        self._warn_of_stable(label, found[0])
        return found

    def _warn_of_stable(self, label: str, changes: Sequence[LesionChange]) -> None:
        """Say which changes of masks do not count: images contradict them, or they are small."""
        for found, why in (
            (
                [change for change in changes if change.contradicted],
                "which images do not show: trust masks that are better by --no-intensities (in "
                "Python: intensities=False)",
            ),
            (drifting(changes), "each within its tolerance: were these masks made in one way?"),
        ):
            if found:
                before, after = (self.placed[number].name for number in self._both)
                amount = sum(change.change_mm3 for change in found) / 1e3
                warnings.warn(
                    f"{before} → {after}: masks of {label} changed by {amount:+.3f} ml in "
                    f"{plural(len(found), 'lesion')} told as stable, {why}",
                    stacklevel=2,
                )

    def _of_label(self, difference: ImageDifference, value: int) -> ImageDifference:
        """Leave out what changed in other labels, so that no change counts twice.

        What changed in no label is of the first one.
        """
        masks = [self.placed[number].mask for number in self._both]
        own, others = (np.zeros(difference.changed.data.shape, bool) for _ in range(2))
        for mask in masks:
            if mask is not None:
                own |= mask.data == value
                others |= (mask.data != 0) & (mask.data != value)
        left = own | (~others if value == 1 else False)
        changed = np.where(left, difference.changed.data, np.int8(0))
        return replace(difference, changed=difference.changed.with_data(changed))

    def _shares(self, number: int, value: int, seen: Where) -> Shares:
        """Return the shares of a label in the field of view of both visits."""
        shares = self.space.shares(number, value)
        left = np.where(seen, shares, np.float32(0))
        lost = float(shares.sum() - left.sum()) * voxel_size(self.space.registration.grid.affine)
        if lost >= _LOST * voxel_size(_grid(self.space.visits[number]).affine):
            warnings.warn(
                f"{self.placed[number].name}: {lost / 1e3:.2f} ml of {self.space.labels[value]} "
                "lie out of the other visit's sight, and are not compared",
                stacklevel=2,
            )
        return left

    def _probabilities(self, value: int) -> tuple[Shares, Shares] | None:
        before, after = (self.placed[number].probabilities for number in self._both)
        if before is None or after is None:
            return None
        return before.channels_last[..., value], after.channels_last[..., value]


def _numbered(found: Sequence[_Changes]) -> _Changes:
    """Join the changes of all labels, and number them anew: 1 is the largest of all."""
    each = [(change, numbers) for changes, numbers in found for change in changes]
    order = sorted(each, key=lambda one: -abs(one[0].change_mm3))
    joined = np.zeros_like(found[0][1])
    changes = []
    for number, (change, numbers) in enumerate(order, start=1):
        own = numbers[change.box] == change.number
        joined[change.box][own] = number
        changes.append(replace(change, number=number))
    return tuple(changes), joined
