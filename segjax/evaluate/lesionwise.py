"""Dice and HD95 of each lesion, as the BraTS challenges of 2023 rank by.

True lesions that grow together when dilated count as one. Each is compared with all predicted
components that touch its dilation; a missed one costs Dice 0 and the worst distance, and so does
every predicted component that touches none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int, Integer

from segjax.components import box_of, label_components
from segjax.errors import InputError
from segjax.evaluate.surface import surface_distances
from segjax.evaluate.voxels import Spacing, voxel_of
from segjax.extras import needed_for
from segjax.text import unknown

__all__ = [
    "BRATS_2023",
    "LesionScore",
    "LesionwiseRule",
    "LesionwiseScores",
    "lesionwise_scores",
]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]


@dataclass(frozen=True)
class LesionwiseRule:
    """What counts as one lesion, and what a missed or invented one costs.

    Attributes:
        dilation: By how many voxels true lesions are dilated, over faces and edges (18 neighbours;
            2D: 8): those that meet are one, and what a dilated one touches belongs to it.
        min_volume: True lesions of **at most** this many mm³ (2D: mm²) are left out, and with
            them the predicted components that touch no other. Predicted ones have no minimum.
        worst_mm: Distance that a missed or invented lesion costs.

    Raises:
        InputError: A number is negative.

    Example:
        >>> LesionwiseRule(dilation=1)
        LesionwiseRule(dilation=1, min_volume=50.0, worst_mm=374.0)
    """

    dilation: int = 3
    min_volume: float = 50.0
    worst_mm: float = 374.0

    def __post_init__(self) -> None:
        for name in ("dilation", "min_volume", "worst_mm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: give a number from 0 on")


BRATS_2023: Mapping[str, LesionwiseRule] = MappingProxyType(
    {
        "glioma": LesionwiseRule(dilation=3, min_volume=50.0),
        "sub-saharan-africa": LesionwiseRule(dilation=3, min_volume=50.0),
        "pediatrics": LesionwiseRule(dilation=3, min_volume=50.0),
        "meningioma": LesionwiseRule(dilation=1, min_volume=50.0),
        "metastases": LesionwiseRule(dilation=1, min_volume=2.0),
    }
)
"""Rules of the challenge's tasks. Its images of 240×240×155 mm have a diagonal of 374 mm."""


@dataclass(frozen=True)
class LesionScore:
    """One true lesion.

    Attributes:
        size: In mm³; in a 2D image in mm².
        counts: Whether it is larger than the rule's minimum.
        components: Number of predicted components that touch its dilation; 0 where it was missed.
        dice: Dice coefficient of the lesion and these components.
        hd95_mm: Larger one of the 95th percentiles of the distances between their surfaces.
    """

    size: float
    counts: bool
    components: int
    dice: float
    hd95_mm: float


@dataclass(frozen=True)
class LesionwiseScores:
    """Lesion-wise scores of one case.

    Attributes:
        dice: Sum of Dice of the lesions that count, over them and the false positives, from 0 to
            1; 1 where there are neither.
        hd95_mm: The same mean of HD95; 0 where there are neither.
        true_positives: True lesions that count and were found.
        false_negatives: True lesions that count and were missed.
        false_positives: Predicted components that touch no true lesion, be it small or not.
        lesions: All true lesions, those too small to count included.
    """

    dice: float
    hd95_mm: float
    true_positives: int
    false_negatives: int
    false_positives: int
    lesions: tuple[LesionScore, ...]

    @property
    def measures(self) -> dict[str, float]:
        """Scores and counts by name, for a tidy table."""
        return {
            "lesionwise_dice": self.dice,
            "lesionwise_hd95_mm": self.hd95_mm,
            "lesionwise_true_positives": self.true_positives,
            "lesionwise_false_negatives": self.false_negatives,
            "lesionwise_false_positives": self.false_positives,
        }


def lesionwise_scores(
    *,
    truth: Mask,
    prediction: Mask,
    spacing: Spacing,
    label: int = 1,
    rule: LesionwiseRule | str = "glioma",
) -> LesionwiseScores:
    """Score every true lesion of a mask, and what was invented.

    With the lesions ``i`` that count and ``FP`` false positives, Dice is ``sum(Dice_i) / (N +
    FP)`` and HD95 is ``(sum(HD95_i) + 374 FP) / (N + FP)``. A predicted component that touches
    several dilated lesions is compared, whole, with each.

    Args:
        truth: True mask ``(*spatial)`` of rank 2 or 3.
        prediction: Predicted mask of the same shape.
        spacing: Edges of a voxel in mm, as many as axes, or the affine of the masks.
        label: Value to compare. The challenge compares whole tumour, core and enhancing tumour:
            give masks of these.
        rule: The rule, or the name of one in :data:`BRATS_2023`.

    Returns:
        The scores of the case and of each lesion.

    Raises:
        InputError: The shapes differ, the spacing does not fit, or there is no such rule; or SciPy
            is missing.

    Example:
        >>> truth, prediction = np.zeros((2, 20, 20, 20), bool)
        >>> truth[2:6, 2:6, 2:6] = truth[14:18, 14:18, 14:18] = True
        >>> prediction[2:6, 2:6, 2:6] = prediction[2:4, 15:18, 2:4] = True
        >>> scores = lesionwise_scores(truth=truth, prediction=prediction, spacing=(1.0, 1.0, 1.0))
        >>> round(scores.dice, 3), scores.hd95_mm  # one found, one missed, one invented
        (0.333, 249.33333333333334)

    Source:
        R. Saluja, BraTS 2023 Metrics, https://github.com/rachitsaluja/BraTS-2023-Metrics; A. W.
        Moawad et al., The Brain Tumor Segmentation (BraTS-METS) Challenge 2023, arXiv:2306.00838.
    """
    rule = _rule(rule)
    size = _voxel_size(truth, prediction, spacing)
    there, found = truth == label, prediction == label
    box = _grown(box_of(there | found), rule.dilation, truth.shape)
    there, found = there[box], found[box]
    zones, lesions = label_components(_dilated(there, rule.dilation))
    components, count = label_components(found)
    touched = np.zeros((lesions + 1, count + 1), bool)
    touched[zones, components] = True
    boxes = _boxes(zones), _boxes(components)
    scores = []
    for zone in range(1, lesions + 1):
        numbers = np.flatnonzero(touched[zone, 1:]) + 1
        near = _around(boxes[0][zone - 1], *(boxes[1][number - 1] for number in numbers))
        lesion = there[near] & (zones[near] == zone)
        guess = np.isin(components[near], numbers)
        scores.append(_score(lesion, guess, len(numbers), (spacing, size), rule))
    return _scores(tuple(scores), int((~touched[1:, 1:].any(axis=0)).sum()), rule)


def _rule(rule: LesionwiseRule | str) -> LesionwiseRule:
    if isinstance(rule, LesionwiseRule):
        return rule
    if rule not in BRATS_2023:
        raise InputError(unknown("rule", rule, list(BRATS_2023)))
    return BRATS_2023[rule]


def _voxel_size(truth: np.ndarray, prediction: np.ndarray, spacing: Spacing) -> float:
    if truth.shape != prediction.shape:
        raise InputError(
            f"truth {truth.shape} and prediction {prediction.shape} differ in shape: "
            "compare masks of one grid"
        )
    voxel = voxel_of(spacing)
    if truth.ndim != voxel.rank:
        raise InputError(
            f"masks of shape {truth.shape}: need a spacing of {truth.ndim} edges in mm, or an "
            "affine of their rank, and lesions are compared in rank 2 and 3"
        )
    return voxel.size


def _grown(box: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a box that holds what is dilated, within the image: nothing meets outside of it."""
    return tuple(
        slice(max(0, edge.start - by), min(length, edge.stop + by))
        for edge, length in zip(box, shape, strict=True)
    )


def _dilated(mask: Bool[np.ndarray, "*spatial"], by: int) -> Bool[np.ndarray, "*spatial"]:
    if not by:
        return mask
    with needed_for("lesion-wise scores"):
        from scipy.ndimage import binary_dilation, generate_binary_structure
    grown: np.ndarray = binary_dilation(mask, generate_binary_structure(mask.ndim, 2), by)
    return grown


def _boxes(labels: Int[np.ndarray, "*spatial"]) -> list[tuple[slice, ...]]:
    """Return the box of every component."""
    with needed_for("lesion-wise scores"):
        from scipy.ndimage import find_objects
    return [box for box in find_objects(labels) if box is not None]


def _around(*boxes: tuple[slice, ...]) -> tuple[slice, ...]:
    """Return the smallest box that holds all others."""
    return tuple(
        slice(min(edge.start for edge in edges), max(edge.stop for edge in edges))
        for edges in zip(*boxes, strict=True)
    )


def _score(
    lesion: Bool[np.ndarray, "*spatial"],
    guess: Bool[np.ndarray, "*spatial"],
    components: int,
    voxel: tuple[Spacing, float],
    rule: LesionwiseRule,
) -> LesionScore:
    spacing, size = voxel
    common, true, found = (int(mask.sum()) for mask in (lesion & guess, lesion, guess))
    volume = true * size
    counts = volume > rule.min_volume
    if not components:
        return LesionScore(volume, counts, 0, 0.0, rule.worst_mm)
    distances = surface_distances(
        truth=lesion, prediction=guess, spacing=spacing, surface="surfels"
    )
    return LesionScore(
        volume, counts, components, 2 * common / (true + found), distances.percentile(95)
    )


def _scores(
    lesions: tuple[LesionScore, ...], false_positives: int, rule: LesionwiseRule
) -> LesionwiseScores:
    counted = [lesion for lesion in lesions if lesion.counts]
    found = sum(lesion.components > 0 for lesion in counted)
    total = len(counted) + false_positives
    distance = sum(lesion.hd95_mm for lesion in counted) + false_positives * rule.worst_mm
    return LesionwiseScores(
        dice=sum(lesion.dice for lesion in counted) / total if total else 1.0,
        hd95_mm=distance / total if total else 0.0,
        true_positives=found,
        false_negatives=len(counted) - found,
        false_positives=false_positives,
        lesions=lesions,
    )
