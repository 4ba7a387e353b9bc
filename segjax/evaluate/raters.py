"""Several raters of one image: their consensus, and how far they agree.

All raters' masks of one voxel make a pattern, and there are few of them: everything here is
computed from how often each pattern occurs, so that EM steps cost nothing however large the image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Integer

from segjax.errors import InputError
from segjax.evaluate.statistics import Interval

__all__ = [
    "RaterAgreement",
    "RaterQuality",
    "Staple",
    "majority_vote",
    "rater_agreement",
    "staple",
]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]

_MOST = 62  # raters whose votes fit into one number
_CONVERGED = 1e-7  # change of a rater's sensitivity or specificity; ITK's
_ITERATIONS = 10_000


class RaterQuality(NamedTuple):
    """How good a rater is.

    Attributes:
        sensitivity: Probability that the rater marks a voxel that is one.
        specificity: Probability that the rater leaves out a voxel that is none.
    """

    sensitivity: float
    specificity: float


@dataclass(frozen=True, eq=False)
class Staple:
    """The consensus of several raters, and the quality of each by it.

    Attributes:
        probability: Of every voxel to be one ``(*spatial)``; 0 outside the region.
        raters: Quality of each rater, by name.
        prior: Share of voxels that is taken to be marked before anything is known of the raters.
        iterations: Number of EM steps.
    """

    probability: Float32[np.ndarray, "*spatial"]
    raters: Mapping[str, RaterQuality]
    prior: float
    iterations: int

    @property
    def mask(self) -> Bool[np.ndarray, "*spatial"]:
        """Voxels whose probability is at least one half."""
        return self.probability >= 0.5


def staple(
    masks: Mapping[str, Mask],
    *,
    label: int = 1,
    region: Bool[np.ndarray, "*spatial"] | None = None,
) -> Staple:
    """Estimate the true mask and the quality of every rater at once (STAPLE).

    Expectation: with the rater's sensitivity ``p``, specificity ``q`` and the prior ``f``, a voxel
    is one with probability ``W = f a / (f a + (1 - f) b)``, where ``a`` is the product of ``p`` of
    the raters who marked it and ``1 - p`` of the others, and ``b`` that of ``1 - q`` and ``q``.
    Maximisation: ``p = sum(W D) / sum(W)`` and ``q = sum((1 - W)(1 - D)) / sum(1 - W)`` with the
    decisions ``D``. It starts from the mean of all masks, and the prior is the mean of that.

    The prior, and with it the consensus, depends on how much background there is: give the brain
    as region, or voxels around the masks, and say which.

    Args:
        masks: Mask ``(*spatial)`` of each rater, by name; two at least.
        label: Value to look at.
        region: Voxels that count, such as the brain; all by default.

    Returns:
        Probabilities and qualities. Where nobody marked anything all probabilities are 0, where
        all marked everything 1; the quality that no voxel tells is then 1.

    Raises:
        InputError: There are fewer than two raters or more than 62, shapes differ, or the region
            is empty.

    Example:
        >>> masks = {"a": np.array([1, 1, 1, 0, 0, 0, 0, 0]),
        ...          "b": np.array([1, 1, 1, 0, 0, 0, 0, 0]),
        ...          "c": np.array([1, 0, 0, 1, 0, 0, 0, 0])}
        >>> consensus = staple(masks)
        >>> consensus.mask.astype(int).tolist()
        [1, 1, 1, 0, 0, 0, 0, 0]
        >>> round(consensus.raters["c"].sensitivity, 2)
        0.33

    Source:
        S. K. Warfield, K. H. Zou and W. M. Wells, IEEE Trans. Med. Imaging 23, 2004. Equals
        SimpleITK's ``STAPLEImageFilter`` at its defaults, of the masks cropped to the region.
    """
    votes = _votes(masks, label, region)
    decisions, counts = votes.decisions, votes.counts
    weights = decisions.mean(axis=0)
    prior = float(weights @ counts / counts.sum())
    quality, change, steps = np.ones((2, len(decisions))), np.inf, 0
    while change >= _CONVERGED and steps < _ITERATIONS:
        before, quality = quality, _qualities(decisions, counts, weights)
        weights = _expected(decisions, quality, prior)
        change, steps = float(np.abs(quality - before).max()), steps + 1
    found = {
        name: RaterQuality(float(p), float(q)) for name, p, q in zip(masks, *quality, strict=True)
    }
    return Staple(votes.spread(weights).astype(np.float32), found, prior, steps)


def majority_vote(
    masks: Mapping[str, Mask],
    *,
    label: int = 1,
) -> Bool[np.ndarray, "*spatial"]:
    """Return the voxels that more than half of the raters marked.

    Args:
        masks: Mask ``(*spatial)`` of each rater, by name; two at least. With an even number a tie
            is background.
        label: Value to look at.

    Returns:
        The consensus.

    Raises:
        InputError: There are fewer than two raters, or shapes differ.

    Example:
        >>> masks = {"a": np.array([1, 1, 0]), "b": np.array([1, 0, 0]), "c": np.array([1, 1, 0])}
        >>> majority_vote(masks).tolist()
        [True, True, False]
    """
    _check(masks, None)
    return sum((mask == label).astype(np.int64) for mask in masks.values()) * 2 > len(masks)


@dataclass(frozen=True)
class RaterAgreement:
    """How far several raters of one image agree.

    Attributes:
        dice: Of every pair of raters, by their names in the order given.
        cohens_kappa: Of every pair: agreement beyond chance, from -1 to 1.
        against_others: Dice of each rater with the majority vote of all others; of two raters
            that with the other one.
        fleiss_kappa: Agreement beyond chance of all raters together.
        volumes: Voxels that each rater marked.
    """

    dice: Mapping[tuple[str, str], float]
    cohens_kappa: Mapping[tuple[str, str], float]
    against_others: Mapping[str, float]
    fleiss_kappa: float
    volumes: Mapping[str, int]

    @property
    def pairwise_dice(self) -> Interval:
        """Mean Dice of all pairs, and the least and the largest of them."""
        values = list(self.dice.values())
        return Interval(sum(values) / len(values), min(values), max(values))

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        mean, least, most = self.pairwise_dice
        return {
            "pairwise_dice": mean,
            "pairwise_dice_least": least,
            "pairwise_dice_most": most,
            "fleiss_kappa": self.fleiss_kappa,
            **{f"dice {one} / {other}": value for (one, other), value in self.dice.items()},
            **{
                f"cohens_kappa {one} / {other}": value
                for (one, other), value in self.cohens_kappa.items()
            },
            **{f"dice {name} / others": value for name, value in self.against_others.items()},
        }


def rater_agreement(
    masks: Mapping[str, Mask],
    *,
    label: int = 1,
    region: Bool[np.ndarray, "*spatial"] | None = None,
) -> RaterAgreement:
    """Compare every rater with every other one, and with the consensus of the others.

    Kappa is ``(o - e) / (1 - e)`` of the observed share ``o`` of agreement and that which chance
    would give: it grows with the background, so that it can be compared within one region alone.

    Args:
        masks: Mask ``(*spatial)`` of each rater, by name; two at least.
        label: Value to look at.
        region: Voxels that count, such as the brain; all by default.

    Returns:
        The table. Where two raters marked nothing their Dice is 1, as everywhere; kappa is 1 where
        all raters say the same of all voxels.

    Raises:
        InputError: See :func:`staple`.

    Example:
        >>> masks = {"a": np.array([1, 1, 0, 0]), "b": np.array([1, 0, 0, 0]),
        ...          "c": np.array([1, 1, 0, 0])}
        >>> found = rater_agreement(masks)
        >>> found.dice["a", "c"], round(found.against_others["b"], 3), found.cohens_kappa["a", "b"]
        (1.0, 0.667, 0.5)

    Source:
        J. Cohen, Educational and Psychological Measurement 20, 1960; J. L. Fleiss, Psychological
        Bulletin 76, 1971.
    """
    votes = _votes(masks, label, region)
    decisions, counts = votes.decisions, votes.counts
    names, sums = list(masks), decisions.sum(axis=0)
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    others = [2 * (sums - own) > len(names) - 1 for own in decisions]
    return RaterAgreement(
        dice={(names[a], names[b]): _dice(decisions[a], decisions[b], counts) for a, b in pairs},
        cohens_kappa={
            (names[a], names[b]): _cohens_kappa(decisions[a], decisions[b], counts)
            for a, b in pairs
        },
        against_others={
            name: _dice(own, rest, counts)
            for name, own, rest in zip(names, decisions, others, strict=True)
        },
        fleiss_kappa=_fleiss_kappa(sums, len(names), counts),
        volumes={name: int(counts[own].sum()) for name, own in zip(names, decisions, strict=True)},
    )


class _Votes(NamedTuple):
    """What the raters said of the voxels of a region, by pattern."""

    decisions: Bool[np.ndarray, "rater pattern"]
    counts: Int[np.ndarray, " pattern"]
    patterns: Int[np.ndarray, " voxel"]
    region: Bool[np.ndarray, "*spatial"]

    def spread(self, values: Float64[np.ndarray, " pattern"]) -> Float64[np.ndarray, "*spatial"]:
        """Put the value of each pattern to its voxels."""
        image = np.zeros(self.region.shape)
        image[self.region] = values[self.patterns]
        return image


def _check(masks: Mapping[str, np.ndarray], region: np.ndarray | None) -> tuple[int, ...]:
    if not 2 <= len(masks) <= _MOST:
        raise InputError(f"{len(masks)} raters: give the masks of 2 to {_MOST}")
    shapes = {name: mask.shape for name, mask in masks.items()}
    if region is not None:
        shapes["region"] = region.shape
        if not region.any():
            raise InputError("region: holds no voxel; give the voxels that count")
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"masks differ in shape: {told}; give masks of one grid")
    return next(iter(shapes.values()))


def _votes(masks: Mapping[str, np.ndarray], label: int, region: np.ndarray | None) -> _Votes:
    shape = _check(masks, region)
    inside = np.ones(shape, bool) if region is None else region
    codes = np.zeros(int(inside.sum()), np.int64)
    for place, mask in enumerate(masks.values()):
        codes |= (mask[inside] == label).astype(np.int64) << place
    marked = codes > 0  # most voxels are nobody's: these need no sorting
    values, places, counts = np.unique(codes[marked], return_inverse=True, return_counts=True)
    patterns = np.zeros(len(codes), np.int64)
    patterns[marked] = places.ravel() + 1
    values = np.concatenate([[0], values])
    counts = np.concatenate([[len(codes) - counts.sum()], counts])
    decisions = (values >> np.arange(len(masks))[:, None] & 1).astype(bool)
    return _Votes(decisions, counts, patterns, inside)


def _qualities(
    decisions: Bool[np.ndarray, "rater pattern"],
    counts: Int[np.ndarray, " pattern"],
    weights: Float64[np.ndarray, " pattern"],
) -> Float64[np.ndarray, "2 rater"]:
    """Return sensitivity and specificity of each rater; 1 where no voxel tells."""
    marked, unmarked = weights * counts, (1 - weights) * counts
    ones = np.ones(len(decisions))
    sensitivity = decisions @ marked / marked.sum() if marked.sum() else ones
    specificity = ~decisions @ unmarked / unmarked.sum() if unmarked.sum() else ones
    return np.stack([sensitivity, specificity]).clip(0, 1)  # sums may round to more


def _expected(
    decisions: Bool[np.ndarray, "rater pattern"],
    quality: Float64[np.ndarray, "2 rater"],
    prior: float,
) -> Float64[np.ndarray, " pattern"]:
    sensitivity, specificity = quality[:, :, None]
    there = prior * np.where(decisions, sensitivity, 1 - sensitivity).prod(axis=0)
    absent = (1 - prior) * np.where(decisions, 1 - specificity, specificity).prod(axis=0)
    whole = there + absent
    return np.divide(there, whole, out=np.zeros_like(whole), where=whole > 0)


def _dice(
    one: Bool[np.ndarray, " pattern"],
    other: Bool[np.ndarray, " pattern"],
    counts: Int[np.ndarray, " pattern"],
) -> float:
    whole = int(counts[one].sum() + counts[other].sum())
    return 2 * int(counts[one & other].sum()) / whole if whole else 1.0


def _cohens_kappa(
    one: Bool[np.ndarray, " pattern"],
    other: Bool[np.ndarray, " pattern"],
    counts: Int[np.ndarray, " pattern"],
) -> float:
    total = int(counts.sum())
    first, second = (int(counts[votes].sum()) / total for votes in (one, other))
    observed = int(counts[one == other].sum()) / total
    return _kappa(observed, first * second + (1 - first) * (1 - second))


def _fleiss_kappa(
    sums: Int[np.ndarray, " pattern"], raters: int, counts: Int[np.ndarray, " pattern"]
) -> float:
    share = float(sums @ counts) / (raters * float(counts.sum()))
    agreeing = (sums * (sums - 1) + (raters - sums) * (raters - sums - 1)) @ counts
    observed = float(agreeing) / (raters * (raters - 1) * float(counts.sum()))
    return _kappa(observed, share**2 + (1 - share) ** 2)


def _kappa(observed: float, expected: float) -> float:
    return 1.0 if math.isclose(expected, 1) else (observed - expected) / (1 - expected)
