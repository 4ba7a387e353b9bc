"""Does a network find the small ones? Detection by size of the lesion, and Dice by lesion load."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

from segjax.errors import InputError
from segjax.evaluate.agreement import spearman
from segjax.evaluate.lesions import LesionMatch
from segjax.evaluate.statistics import Interval, mean_interval, named, wilson_interval

__all__ = [
    "EDGES_MM3",
    "LEAST_MM",
    "LoadBin",
    "LoadTrend",
    "SizeClass",
    "detection_by_size",
    "dice_by_load",
    "sphere_mm3",
]

LEAST_MM = 3.0
"""Least diameter in mm of what guidelines call a lesion of MS."""
EDGES_MM3 = (10.0, 100.0)
"""Edges of the classes of size in mm³, as MS studies divide them."""


def sphere_mm3(diameter_mm: float) -> float:
    """Return the volume in mm³ of a sphere, ``π d³ / 6``.

    Guidelines give the least size of a lesion as a diameter.

    Example:
        >>> round(sphere_mm3(3.0), 1)
        14.1
    """
    return math.pi * diameter_mm**3 / 6


@dataclass(frozen=True)
class SizeClass:
    """Lesions of one size, of all cases together.

    Attributes:
        low: Least size in mm³ (2D: mm²); lesions of just this size belong here.
        high: Size from which on lesions belong to the next class; infinite in the last one.
        true_lesions: True lesions of this size.
        found_lesions: Those that were found.
        predicted_lesions: Predicted lesions of this size.
        false_lesions: Those that are none.
        sensitivity: Found over true lesions with Wilson's interval; NaN without true ones.
        precision: Predicted ones that are true over all predicted ones, with Wilson's interval;
            NaN without predicted ones.
    """

    low: float
    high: float
    true_lesions: int
    found_lesions: int
    predicted_lesions: int
    false_lesions: int
    sensitivity: Interval
    precision: Interval

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {
            "low": self.low,
            "high": self.high,
            "true_lesions": self.true_lesions,
            "found_lesions": self.found_lesions,
            "predicted_lesions": self.predicted_lesions,
            "false_lesions": self.false_lesions,
            **named("lesion_sensitivity", self.sensitivity),
            **named("lesion_precision", self.precision),
        }


def detection_by_size(
    matches: Iterable[LesionMatch],
    *,
    edges: Sequence[float] = EDGES_MM3,
    confidence: float = 0.95,
) -> tuple[SizeClass, ...]:
    """Count lesions of many cases by their size.

    A true lesion belongs to the class of its own size, a predicted one to that of its own: the
    two counts of a class are not of the same lesions. Wilson's intervals take lesions as
    independent; those of one patient are not quite, so that the intervals are somewhat narrow.

    Args:
        matches: Lesions of each case, from :func:`segjax.evaluate.lesions.match_lesions`.
        edges: Sizes that part the classes, in mm³ (2D: mm²), growing: ``edges + 1`` classes.
        confidence: Of the intervals.

    Returns:
        The classes, that of the smallest lesions first.

    Raises:
        InputError: The edges are not positive and growing, or some sizes are areas and others
            volumes.

    Example:
        >>> import numpy as np
        >>> from segjax.evaluate.lesions import match_lesions
        >>> truth, prediction = np.zeros((2, 9, 9, 9), bool)
        >>> truth[0, 0, 0] = truth[3:6, 3:6, 3:6] = prediction[3:6, 3:6, 4:7] = True
        >>> match = match_lesions(truth=truth, prediction=prediction, spacing=(1.0, 1.0, 1.0))
        >>> [(one.true_lesions, one.found_lesions) for one in detection_by_size([match])]
        [(1, 0), (1, 1), (0, 0)]
    """
    matches = list(matches)
    if len({match.rank for match in matches}) > 1:
        raise InputError("lesions of slices and of volumes have no common size: count them apart")
    if any(low >= high for low, high in pairwise((0.0, *edges))):
        raise InputError(f"edges are {list(edges)}: give positive sizes, each above the last")
    bounds = (0.0, *(float(edge) for edge in edges), math.inf)
    return tuple(_size_class(matches, low, high, confidence) for low, high in pairwise(bounds))


def _size_class(
    matches: Sequence[LesionMatch], low: float, high: float, confidence: float
) -> SizeClass:
    true = [one.matched for case in matches for one in case.truth if low <= one.size < high]
    guessed = [one.matched for case in matches for one in case.prediction if low <= one.size < high]
    return SizeClass(
        low,
        high,
        true_lesions=len(true),
        found_lesions=sum(true),
        predicted_lesions=len(guessed),
        false_lesions=len(guessed) - sum(guessed),
        sensitivity=wilson_interval(sum(true), len(true), confidence=confidence),
        precision=wilson_interval(sum(guessed), len(guessed), confidence=confidence),
    )


@dataclass(frozen=True)
class LoadBin:
    """Cases of similar load.

    Attributes:
        low: Least load among them.
        high: Largest load among them.
        cases: Their number.
        dice: Mean Dice with its bootstrap interval.
    """

    low: float
    high: float
    cases: int
    dice: Interval

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {"low": self.low, "high": self.high, "cases": self.cases, **named("dice", self.dice)}


@dataclass(frozen=True)
class LoadTrend:
    """Dice of each case against its true load.

    Attributes:
        cases: Names of the cases, that of the smallest load first.
        loads: Their true loads, in ``unit``.
        dice: Their Dice.
        unit: ``"ml"``; of slices ``"voxels"``.
        bins: As many cases in each as can be.
        spearman: Rank correlation of load and Dice: above 0 where small loads are punished.
    """

    cases: tuple[str, ...]
    loads: tuple[float, ...]
    dice: tuple[float, ...]
    unit: str
    bins: tuple[LoadBin, ...]
    spearman: Interval

    @property
    def measures(self) -> dict[str, float]:
        """Correlation and number of cases by name, for a tidy table."""
        return {"cases": len(self.cases), **named("dice_load_spearman", self.spearman)}


def dice_by_load(
    rows: Iterable[Mapping[str, Any]], *, bins: int = 3, confidence: float = 0.95, seed: int = 0
) -> LoadTrend:
    """Relate Dice of each case to its true lesion load, or to the size of its tumour.

    Cases without the label count in nothing here: they have no load, and no Dice.

    Args:
        rows: Of one label, from :func:`segjax.evaluate.compare.score`.
        bins: In how many the cases are parted, by their load; fewer where there are fewer cases.
        confidence: Of the intervals.
        seed: Seed of the bootstrap.

    Returns:
        The pairs to plot, means of bins of equal numbers of cases, and the rank correlation, NaN
        with less than two cases.

    Raises:
        InputError: There are rows of several labels, or of slices and volumes, or no bins.

    Example:
        >>> rows = [{"case": name, "label": "lesion", "dice": dice, "truth_ml": load}
        ...         for name, dice, load in (("a", 0.8, 20.0), ("b", 0.4, 1.0), ("c", 0.6, 5.0))]
        >>> trend = dice_by_load(rows, bins=2)
        >>> trend.cases, trend.spearman.value, [one.cases for one in trend.bins]
        (('b', 'c', 'a'), 1.0, [2, 1])
    """
    rows = list(rows)
    if len(labels := sorted({str(row["label"]) for row in rows})) > 1:
        raise InputError(f"rows are of the labels {', '.join(labels)}: relate one at a time")
    units = {"ml" if "truth_ml" in row else "voxels" for row in rows}
    if len(units) > 1:
        raise InputError("slices and volumes have no common load: relate them apart")
    if bins < 1:
        raise InputError(f"bins is {bins}: give a number from 1 on")
    unit = units.pop() if units else "ml"
    load = f"truth_{unit}"
    present = sorted((row for row in rows if row[load]), key=itemgetter(load))
    loads = [float(row[load]) for row in present]
    dice = [float(row["dice"]) for row in present]
    return LoadTrend(
        cases=tuple(str(row["case"]) for row in present),
        loads=tuple(loads),
        dice=tuple(dice),
        unit=unit,
        bins=_bins(loads, dice, bins, confidence, seed),
        spearman=_rank_correlation(loads, dice, confidence),
    )


def _rank_correlation(loads: Sequence[float], dice: Sequence[float], confidence: float) -> Interval:
    if len(loads) < 2:
        return Interval(math.nan, math.nan, math.nan)
    return spearman(truth=loads, prediction=dice, confidence=confidence)


def _bins(
    loads: Sequence[float], dice: Sequence[float], bins: int, confidence: float, seed: int
) -> tuple[LoadBin, ...]:
    """Part sorted cases into bins whose numbers differ by one at most, the first ones larger."""
    count = min(bins, len(loads))
    if not count:
        return ()
    least, larger = divmod(len(loads), count)
    ends = [n * least + min(n, larger) for n in range(count + 1)]
    return tuple(
        LoadBin(
            loads[first],
            loads[last - 1],
            last - first,
            mean_interval(dice[first:last], confidence=confidence, seed=seed),
        )
        for first, last in pairwise(ends)
    )
