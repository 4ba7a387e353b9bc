"""Panoptic quality: how many lesions were recognised, times how well these were segmented."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Integer

from segjax.components import box_of, label_components
from segjax.errors import InputError

__all__ = ["PanopticQuality", "panoptic_quality"]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]


@dataclass(frozen=True)
class PanopticQuality:
    """Pairs of true and predicted lesions, and what they are worth.

    Where both masks are empty all three qualities are 1; where lesions are left without any
    partner they are 0.

    Attributes:
        overlaps: Intersection over union of each pair, the largest first.
        false_negatives: True lesions without a partner.
        false_positives: Predicted lesions without a partner.
    """

    overlaps: tuple[float, ...]
    false_negatives: int
    false_positives: int

    @property
    def true_positives(self) -> int:
        """Number of pairs."""
        return len(self.overlaps)

    @property
    def recognition_quality(self) -> float:
        """F1 of the lesions, ``TP / (TP + FP / 2 + FN / 2)``."""
        alone = self.false_negatives + self.false_positives
        whole = self.true_positives + alone / 2
        return self.true_positives / whole if whole else 1.0

    @property
    def segmentation_quality(self) -> float:
        """Mean intersection over union of the pairs."""
        if self.overlaps:
            return sum(self.overlaps) / len(self.overlaps)
        return float(not self.false_negatives and not self.false_positives)

    @property
    def quality(self) -> float:
        """Panoptic quality: recognition times segmentation quality."""
        return self.recognition_quality * self.segmentation_quality

    @property
    def measures(self) -> dict[str, float]:
        """Qualities and counts by name, for a tidy table."""
        return {
            "panoptic_quality": self.quality,
            "recognition_quality": self.recognition_quality,
            "segmentation_quality": self.segmentation_quality,
            "panoptic_true_positives": self.true_positives,
            "panoptic_false_negatives": self.false_negatives,
            "panoptic_false_positives": self.false_positives,
        }


def panoptic_quality(
    *,
    truth: Mask,
    prediction: Mask,
    label: int = 1,
    threshold: float = 0.5,
    axes_at_once: int | None = None,
) -> PanopticQuality:
    """Pair the lesions of two masks one to one, and tell the panoptic quality.

    ``PQ = sum(IoU of the pairs) / (TP + FP / 2 + FN / 2)``. Lesions, the connected components of
    the masks, are a pair when their intersection over union is **above** the threshold. From 0.5
    on each has one partner at most; below, the pairs that overlap most are taken first.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.
        threshold: From 0 (one voxel in common) to under 1.
        axes_at_once: Along how many axes neighbours in a lesion may differ: in a volume 1, 2 and 3
            give 6, 18 and 26 of them; all by default.

    Returns:
        The pairs, and the counts of those without one.

    Raises:
        InputError: The shapes differ, or the threshold is not from 0 to under 1.

    Example:
        >>> truth = np.array([[1, 1, 1, 1, 0, 0, 0, 1]])
        >>> prediction = np.array([[0, 1, 1, 1, 0, 1, 0, 0]])
        >>> found = panoptic_quality(truth=truth, prediction=prediction)
        >>> found.recognition_quality, found.segmentation_quality, found.quality
        (0.5, 0.75, 0.375)

    Source:
        A. Kirillov et al., Panoptic segmentation, CVPR 2019. ``panoptica`` by default pairs at
        exactly the threshold too (``strict_threshold=False``); with small lesions an overlap of
        just 0.5 is common.
    """
    if truth.shape != prediction.shape:
        raise InputError(
            f"truth {truth.shape} and prediction {prediction.shape} differ in shape: "
            "compare masks of one grid"
        )
    if not 0 <= threshold < 1:
        raise InputError(f"threshold is {threshold}: give a number from 0 to under 1")
    there, found = truth == label, prediction == label
    box = box_of(there | found)
    true, predicted = (label_components(m[box], axes_at_once=axes_at_once) for m in (there, found))
    first, second, overlap = _overlaps(true[0], predicted[0])
    pairs = _pair(first, second, overlap, threshold)
    return PanopticQuality(
        overlaps=tuple(pairs),
        false_negatives=true[1] - len(pairs),
        false_positives=predicted[1] - len(pairs),
    )


def _overlaps(
    truth: Int[np.ndarray, "*box"], prediction: Int[np.ndarray, "*box"]
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """Return the lesions of each pair that has a voxel in common, and their overlap."""
    both = (truth > 0) & (prediction > 0)
    width = int(prediction.max(initial=0)) + 1
    codes, common = np.unique(
        truth[both].astype(np.int64) * width + prediction[both], return_counts=True
    )
    first, second = codes // width, codes % width
    sizes = np.bincount(truth.ravel())[first] + np.bincount(prediction.ravel())[second]
    return first, second, common / (sizes - common)


def _pair(
    first: Int[np.ndarray, " pair"],
    second: Int[np.ndarray, " pair"],
    overlap: Float64[np.ndarray, " pair"],
    threshold: float,
) -> list[float]:
    """Return the overlaps of lesions that are paired, the largest first."""
    taken: tuple[set[int], set[int]] = set(), set()
    pairs = []
    for place in np.argsort(-overlap, kind="stable").tolist():
        one, other = int(first[place]), int(second[place])
        if overlap[place] > threshold and one not in taken[0] and other not in taken[1]:
            taken[0].add(one)
            taken[1].add(other)
            pairs.append(float(overlap[place]))
    return pairs
