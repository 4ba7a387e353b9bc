"""Count lesions: which of the true ones were found, and which of the predicted ones are true.

A lesion is a connected component of a mask. Dice hides small lesions behind large ones; here every
lesion counts once, whatever its size.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from segjax.components import box_of, label_components
from segjax.errors import InputError
from segjax.evaluate.voxels import Spacing, Voxel, voxel_of
from segjax.registry import register

__all__ = [
    "ANY",
    "COUNTS",
    "RATES",
    "Lesion",
    "LesionMatch",
    "LesionRule",
    "match_lesions",
    "outcome_maps",
    "rates",
]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]

_STEPS = {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}  # neighbours -> axes that may change at once
_ROUNDING = 1e-6
COUNTS = ("true_lesions", "found_lesions", "predicted_lesions", "false_lesions")
RATES = ("lesion_sensitivity", "lesion_precision", "lesion_f1")
"""Names of the measures of lesions in tables."""


@dataclass(frozen=True)
class LesionRule:
    """What counts as a lesion, and when the other mask has found it.

    A lesion is matched when more than ``overlap`` of its voxels lie in lesions of the other mask,
    and when those do not lie too far outside: of the lesions that cover it, the ones with the
    largest share are looked at until they make up more than ``enough`` of what is covered, and
    none of them may have more than ``outside`` of its own voxels in the other mask's background.
    The rule is applied to true lesions (matched: found; else missed) and to predicted ones
    (matched: true; else false positive) alike.

    The default is the plainest: one voxel in common is enough.

    Attributes:
        connectivity: Neighbours of a voxel that belong to the same lesion: 26, 18 or 6 in a
            volume, 8 or 4 in a 2D image; all that touch it (26 or 8) when None.
        min_volume: Lesions smaller than this, in mm³ (mm² in a 2D image), are taken out of both
            masks before anything is matched. Guidelines call nothing under 3 mm an MS lesion: a
            sphere of that diameter has 14.1 mm³.
        overlap: Share of a lesion, from 0 to 1, of which more must be covered; 0: a single voxel.
        outside: Share of a covering lesion that may lie in the background; 1: any.
        enough: Share of what is covered after which no further lesion is looked at.

    Raises:
        InputError: A share is not from 0 to 1, ``overlap`` is 1, or the minimum is negative.

    Example:
        >>> LesionRule(min_volume=14.1, overlap=0.1)
        LesionRule(connectivity=None, min_volume=14.1, overlap=0.1, outside=1.0, enough=1.0)
    """

    connectivity: int | None = None
    min_volume: float = 0.0
    overlap: float = 0.0
    outside: float = 1.0
    enough: float = 1.0

    def __post_init__(self) -> None:
        for name in ("overlap", "outside", "enough"):
            if not 0 <= getattr(self, name) <= 1 or self.overlap == 1:
                raise InputError(f"{name} is {getattr(self, name)}: a share is from 0 to under 1")
        if not 0 <= self.min_volume < math.inf:
            raise InputError(f"min_volume is {self.min_volume}: give mm³, 0 for no minimum")


ANY = register("lesion-rule", "any", LesionRule())
"""The plainest rule.

By name there are those of published challenges, and what others register as "lesion-rule".

``any``: components of touching voxels, one voxel in common; as in the WMH segmentation challenge
(H. J. Kuijf et al., IEEE Trans. Med. Imaging 38, 2019). ``isbi-2015``: 18 neighbours, one voxel in
common; sensitivity is then the longitudinal MS challenge's LTPR, and precision 1 − LFPR (A. Carass
et al., NeuroImage 148, 2017). ``msseg-2016``: 18 neighbours, α = 0.1, β = 0.7, γ = 0.65, as
SensL, PPVL and F1 of the MICCAI MS challenge (O. Commowick et al., Scientific Reports 8:13650,
2018); its program animaSegPerfAnalyzer by default counts 6 neighbours and leaves out lesions of up
to 3 mm³.
"""
register("lesion-rule", "isbi-2015", LesionRule(connectivity=18))
register(
    "lesion-rule",
    "msseg-2016",
    LesionRule(connectivity=18, overlap=0.1, outside=0.7, enough=0.65),
)


@dataclass(frozen=True)
class Lesion:
    """One connected component of a mask.

    Attributes:
        voxels: Number of its voxels.
        size: Its volume in mm³; in a 2D image with two spacings, its area in mm².
        centre: Mean voxel index, along every axis.
        matched: Whether the other mask has it too.
    """

    voxels: int
    size: float
    centre: tuple[float, ...]
    matched: bool


@dataclass(frozen=True)
class LesionMatch:
    """The lesions of a true and a predicted mask, and what of them agrees.

    Where a ratio has nothing under its line it is NaN, which means "cannot be told": sensitivity
    without true lesions, precision without predicted ones, F1 without either. Where only one mask
    is empty F1 is 0, so that a miss never looks better than a find.

    Attributes:
        truth: True lesions that are large enough to count, the largest first.
        prediction: Predicted lesions that are large enough to count, the largest first.
        truth_size: Volume of the whole true mask, small lesions included, in the unit of
            ``Lesion.size``.
        prediction_size: The same of the predicted mask.
        rank: 3 where sizes are volumes in mm³, 2 where they are areas in mm².
    """

    truth: tuple[Lesion, ...]
    prediction: tuple[Lesion, ...]
    truth_size: float = field(repr=False)
    prediction_size: float = field(repr=False)
    rank: int = field(default=3, repr=False)

    @property
    def true_lesions(self) -> int:
        """Number of true lesions."""
        return len(self.truth)

    @property
    def predicted_lesions(self) -> int:
        """Number of predicted lesions."""
        return len(self.prediction)

    @cached_property
    def found(self) -> int:
        """Number of true lesions that were found."""
        return sum(lesion.matched for lesion in self.truth)

    @property
    def missed(self) -> int:
        """Number of true lesions that were not found."""
        return self.true_lesions - self.found

    @cached_property
    def false_positives(self) -> int:
        """Number of predicted lesions that are none."""
        return sum(not lesion.matched for lesion in self.prediction)

    @property
    def sensitivity(self) -> float:
        """Found over true lesions; NaN where there are no true ones."""
        return self._rates.sensitivity

    @property
    def precision(self) -> float:
        """Predicted lesions that are true over all predicted ones; NaN where there are none."""
        return self._rates.precision

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; see :func:`rates`."""
        return self._rates.f1

    @property
    def truth_ml(self) -> float:
        """True lesion load in ml, small lesions included; NaN for areas."""
        return self.truth_size / 1000 if self.rank == 3 else math.nan

    @property
    def prediction_ml(self) -> float:
        """Predicted lesion load in ml, small lesions included; NaN for areas."""
        return self.prediction_size / 1000 if self.rank == 3 else math.nan

    @property
    def measures(self) -> dict[str, float]:
        """:data:`COUNTS` and :data:`RATES`, by name."""
        return dict(zip((*COUNTS, *RATES), (*self._counts, *self._rates), strict=True))

    @property
    def _counts(self) -> tuple[int, int, int, int]:
        return self.true_lesions, self.found, self.predicted_lesions, self.false_positives

    @property
    def _rates(self) -> "Rates":
        return rates(*self._counts)


class Rates(NamedTuple):
    """Lesion-wise sensitivity, precision and F1; see :func:`rates`."""

    sensitivity: float
    precision: float
    f1: float


def rates(true: int, found: int, predicted: int, false: int) -> Rates:
    """Return lesion-wise sensitivity, precision and F1 of counts, of one case or summed over many.

    Sensitivity ``s = found / true``, precision ``p = (predicted - false) / predicted`` and
    ``F1 = 2 s p / (s + p)``.

    Args:
        true: True lesions.
        found: Those that were found.
        predicted: Predicted lesions.
        false: Those that are false positives.

    Returns:
        Three numbers from 0 to 1. NaN are: sensitivity without true lesions, precision without
        predicted ones, F1 without either; F1 is 0 where only one of them is without.

    Example:
        >>> rates(4, 3, 2, 1)
        Rates(sensitivity=0.75, precision=0.5, f1=0.6)
        >>> rates(4, 0, 0, 0)
        Rates(sensitivity=0.0, precision=nan, f1=0.0)
    """
    s = found / true if true else math.nan
    p = (predicted - false) / predicted if predicted else math.nan
    if not true and not predicted:
        return Rates(s, p, math.nan)
    return Rates(s, p, 2 * s * p / (s + p) if s > 0 and p > 0 else 0.0)


def match_lesions(
    *,
    truth: Mask,
    prediction: Mask,
    spacing: Spacing,
    label: int = 1,
    rule: LesionRule = ANY,
) -> LesionMatch:
    """Match the lesions of two masks.

    Args:
        truth: True mask ``(*spatial)`` of rank 2 or 3.
        prediction: Predicted mask of the same shape.
        spacing: Edges of a voxel in mm: three, or two for a 2D mask without slice thickness,
            whose sizes are then areas in mm². Or the affine of the masks, ``(4, 4)`` or in 2D
            also ``(3, 3)``, which knows the shear of a tilted series.
        label: Value to compare.
        rule: What counts as a lesion and as found.

    Returns:
        The lesions of both masks and what of them agrees.

    Raises:
        InputError: The shapes differ, the rank is not 2 or 3, the spacing does not fit or is not
            positive, or the rule's connectivity is not one of this rank.

    Example:
        >>> truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
        >>> prediction = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
        >>> spacing = (1.0, 1.0, 5.0)
        >>> match = match_lesions(truth=truth, prediction=prediction, spacing=spacing)
        >>> match.true_lesions, match.found, match.false_positives, match.truth_ml
        (3, 1, 1, 0.02)

    Source: see :data:`ANY`.
    """
    voxel = _voxel(truth, prediction, spacing)
    pair = _match(truth, prediction, voxel, label, rule)
    return LesionMatch(
        truth=_lesions(pair.truth, pair.found, voxel.size),
        prediction=_lesions(pair.prediction, pair.true, voxel.size),
        truth_size=pair.truth.voxels * voxel.size,
        prediction_size=pair.prediction.voxels * voxel.size,
        rank=voxel.rank,
    )


def outcome_maps(
    *,
    truth: Mask,
    prediction: Mask,
    spacing: Spacing,
    label: int = 1,
    rule: LesionRule = ANY,
) -> tuple[UInt8[np.ndarray, "*spatial"], UInt8[np.ndarray, "*spatial"]]:
    """Mark every voxel of both masks by what became of its lesion.

    Args:
        truth: See :func:`match_lesions`.
        prediction: See :func:`match_lesions`.
        spacing: See :func:`match_lesions`.
        label: See :func:`match_lesions`.
        rule: See :func:`match_lesions`.

    Returns:
        Two maps, of the truth and of the prediction: 0 background, 1 lesions that the other mask
        has too, 2 those that it has not (missed; false positives), 3 those too small to count.

    Raises:
        InputError: See :func:`match_lesions`.

    Example:
        >>> truth, prediction = np.array([[1, 0, 1, 0, 0]]), np.array([[1, 0, 0, 0, 1]])
        >>> outcome_maps(truth=truth, prediction=prediction, spacing=(1.0, 1.0))
        (array([[1, 0, 2, 0, 0]], dtype=uint8), array([[1, 0, 0, 0, 2]], dtype=uint8))
    """
    pair = _match(truth, prediction, _voxel(truth, prediction, spacing), label, rule)
    maps = []
    for mask, side, matched in (
        (truth, pair.truth, pair.found),
        (prediction, pair.prediction, pair.true),
    ):
        outcome = np.where(mask == label, np.uint8(3), np.uint8(0))
        inside = outcome[side.box]
        codes = np.concatenate([[0], np.where(matched, 1, 2)]).astype(np.uint8)
        inside[side.labels > 0] = codes[side.labels[side.labels > 0]]
        maps.append(outcome)
    return maps[0], maps[1]


class _Side(NamedTuple):
    """The lesions of one mask: ``labels`` within ``box`` counts them from 1, the largest first."""

    labels: np.ndarray
    sizes: np.ndarray  # in voxels, of each lesion that counts
    voxels: int  # of the whole mask, small lesions included
    box: tuple[slice, ...]


class _Pair(NamedTuple):
    truth: _Side
    prediction: _Side
    found: np.ndarray  # of each true lesion
    true: np.ndarray  # of each predicted lesion


class _Shared(NamedTuple):
    """Voxels that pairs of lesions have in common; one element for each pair that has any."""

    own: np.ndarray  # lesion of one mask, from 0
    other: np.ndarray  # lesion of the other mask, from 0
    voxels: np.ndarray


def _match(
    truth: np.ndarray,
    prediction: np.ndarray,
    voxel: Voxel,
    label: int,
    rule: LesionRule,
) -> _Pair:
    there, predicted = truth == label, prediction == label
    box = box_of(there | predicted)
    axes_at_once = _axes_at_once(truth.ndim, rule.connectivity)
    least = rule.min_volume / voxel.size
    true, guessed = (_find(mask[box], axes_at_once, least, box) for mask in (there, predicted))
    shared = _shared(true.labels, guessed.labels)
    turned = _Shared(shared.other, shared.own, shared.voxels)
    return _Pair(
        true,
        guessed,
        found=_matched(shared, true.sizes, guessed.sizes, rule),
        true=_matched(turned, guessed.sizes, true.sizes, rule),
    )


def _voxel(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing) -> Voxel:
    """Return the voxel of two masks that can be matched."""
    if truth.shape != prediction.shape:
        raise InputError(
            f"truth {truth.shape} and prediction {prediction.shape} differ in shape: "
            "compare masks of one grid"
        )
    if truth.ndim not in _STEPS:
        raise InputError(f"masks of shape {truth.shape}: lesions are counted in rank 2 and 3")
    voxel = voxel_of(spacing)
    if voxel.rank < truth.ndim:
        raise InputError(
            f"spacing is {np.asarray(spacing).tolist()}: masks of shape {truth.shape} need three "
            "positive numbers in mm, or an affine of shape (4, 4)"
        )
    return voxel


def _axes_at_once(rank: int, connectivity: int | None) -> int:
    if connectivity is None:
        return rank
    if connectivity not in _STEPS[rank]:
        known = ", ".join(map(str, _STEPS[rank]))
        raise InputError(
            f"connectivity {connectivity}: in {rank}D a voxel has {known} neighbours; give one of "
            "these in place of the rule's"
        )
    return _STEPS[rank][connectivity]


def _find(mask: np.ndarray, axes_at_once: int, least: float, box: tuple[slice, ...]) -> _Side:
    """Number the lesions of at least ``least`` voxels by their size."""
    labels, count = label_components(mask, axes_at_once=axes_at_once)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] >= least * (1 - _ROUNDING)]
    numbers = np.zeros(count + 1, np.int32)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    return _Side(numbers[labels], sizes[kept], int(sizes.sum()), box)


def _shared(truth: Int[np.ndarray, "*box"], prediction: Int[np.ndarray, "*box"]) -> _Shared:
    both = (truth > 0) & (prediction > 0)
    width = int(prediction.max(initial=0)) + 1
    pairs, voxels = np.unique(
        truth[both].astype(np.int64) * width + prediction[both], return_counts=True
    )
    return _Shared(pairs // width - 1, pairs % width - 1, voxels)


def _matched(
    shared: _Shared, sizes: np.ndarray, other_sizes: np.ndarray, rule: LesionRule
) -> Bool[np.ndarray, " lesion"]:
    """Say of each lesion whether the other mask has it."""
    covered = np.bincount(shared.own, shared.voxels, minlength=len(sizes))
    inside = np.bincount(shared.other, shared.voxels, minlength=len(other_sizes))
    outside = (1 - inside / other_sizes)[shared.other]
    order = np.lexsort((outside, -shared.voxels, shared.own))
    own, outside = shared.own[order], outside[order]
    looked_at = _before(own, shared.voxels[order]) <= rule.enough * covered[own]
    spread = np.zeros(len(sizes), bool)
    spread[own[looked_at & (outside > rule.outside)]] = True
    return (covered > rule.overlap * sizes) & ~spread


def _before(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum the values that come before each one in its group; groups are sorted."""
    before = np.cumsum(values) - values
    first = np.searchsorted(groups, groups)
    return before - before[first]


def _lesions(side: _Side, matched: np.ndarray, voxel: float) -> tuple[Lesion, ...]:
    places = np.nonzero(side.labels)
    numbers = side.labels[places] - 1
    centres = [
        np.bincount(numbers, place, minlength=len(side.sizes)) / side.sizes + edge.start
        for place, edge in zip(places, side.box, strict=True)
    ]
    return tuple(
        Lesion(int(size), float(size * voxel), tuple(map(float, centre)), bool(found))
        for size, found, *centre in zip(side.sizes, matched, *centres, strict=True)
    )
