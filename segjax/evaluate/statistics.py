"""Intervals of means, and two models compared on the same cases.

Cases are few and their measures skewed, so that intervals come from the bootstrap: cases are drawn
anew, with replacement, and the mean of each draw is taken. Where several cases are of one patient,
such as slices or visits, they are no independent evidence: name the patient of each, and patients
are drawn in place of cases.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Real

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.text import listed

__all__ = [
    "Interval",
    "ModelComparison",
    "Values",
    "compare_models",
    "holm",
    "mean_interval",
    "named",
    "normal_quantile",
    "ranks",
    "wilson_interval",
]

Values = Sequence[float] | Real[np.ndarray, " case"]
"""One number for each case."""

_AT_ONCE = 4_000_000  # cases that are drawn at once, of all draws together
_NAMED = 5  # cases that a message names
_DECIMALS = 12  # of differences: 0.3 - 0.2 and 0.2 - 0.1 are one, and tie


class Interval(NamedTuple):
    """An estimate and how far it can be trusted.

    Attributes:
        value: The estimate.
        low: Lower end of its confidence interval; NaN where it cannot be told.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def mean_interval(
    values: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> Interval:
    """Return the mean of a measure over cases, with its bootstrap interval.

    The interval is the bias-corrected and accelerated one (BCa). Of few cases (or groups) every
    bootstrap interval is too narrow: of 15 values of a skewed (log-normal) measure, 95 % intervals
    held the mean in 87 of 100 trials. Read it as a lower bound of the uncertainty.

    Args:
        values: Measure of each case ``(case)``. NaN, which stands for "cannot be told", is left
            out, as it is of every mean.
        groups: Patient of each case: patients are drawn in place of cases. The mean is still that
            of the cases.
        confidence: Share of such intervals that hold the true mean.
        draws: How often cases are drawn anew.
        seed: Seed of the draws: equal seeds give equal intervals.

    Returns:
        The mean and its interval. The ends are NaN with less than two cases (or groups), and where
        a value, and so the mean, is infinite; all three without a case.

    Raises:
        InputError: Groups are not as many as values, the confidence is not between 0 and 1, or
            there are no draws.

    Example:
        >>> interval = mean_interval([0.61, 0.72, 0.55, 0.80, 0.68, 0.74])
        >>> [round(number, 3) for number in interval]
        [0.683, 0.612, 0.743]

    Source:
        B. Efron, Better bootstrap confidence intervals, J. Am. Stat. Assoc. 82, 1987. Groups: A. C.
        Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    _check_bootstrap(confidence, draws)
    sums, counts = _by_group(np.asarray(values, np.float64), groups)
    if not len(sums):
        return Interval(math.nan, math.nan, math.nan)
    mean = sum(sums.tolist()) / sum(counts.tolist())
    if len(sums) == 1 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    low, high = _bca(mean, _drawn_means(sums, counts, draws, seed), left_out, confidence)
    return Interval(mean, low, high)


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return a share of counts with Wilson's score interval.

    With ``p = successes / trials`` and the normal quantile ``z`` it is
    ``(p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)``: within 0 and 1, and of
    some width even where all or none succeed.

    Args:
        successes: Such as the lesions that were found.
        trials: Such as all true lesions.
        confidence: Share of such intervals that hold the true share.

    Returns:
        The share and its interval, from 0 to 1; all NaN without a trial.

    Raises:
        InputError: There are more successes than trials or fewer than none, or the confidence is
            not between 0 and 1.

    Example:
        >>> [round(number, 4) for number in wilson_interval(81, 263)]
        [0.308, 0.2553, 0.3662]

    Source:
        E. B. Wilson, J. Am. Stat. Assoc. 22, 1927; the example: R. G. Newcombe, Statistics in
        Medicine 17, 1998, table I.
    """
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes of {trials} trials: give from 0 to all of them")
    z = normal_quantile(confidence)
    if not trials:
        return Interval(math.nan, math.nan, math.nan)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    whole = 1 + z**2 / trials
    low = (centre - half) / whole if successes else 0.0
    high = (centre + half) / whole if successes < trials else 1.0
    return Interval(share, low, high)


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the same cases.

    Attributes:
        cases: Number of cases.
        groups: Number of patients that they are of; equal to ``cases`` where none were named.
        one: Mean of the first model.
        other: Mean of the second one.
        difference: Mean of ``one - other`` over the cases, from the paired bootstrap.
        wins: Cases in which the first model has the larger value.
        ties: Cases in which both have the same.
        p_value: Of the two-sided Wilcoxon signed-rank test; NaN with less than two groups.
        rank_biserial: Matched-pairs rank-biserial correlation, from -1 (the second model is larger
            everywhere) over 0 to 1 (the first one is).
        cohens_dz: Mean of the differences over their standard deviation; NaN with less than two
            groups.
    """

    cases: int
    groups: int
    one: Interval
    other: Interval
    difference: Interval
    wins: int
    ties: int
    p_value: float
    rank_biserial: float
    cohens_dz: float

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {
            "cases": self.cases,
            "groups": self.groups,
            **named("one_mean", self.one),
            **named("other_mean", self.other),
            **named("mean_difference", self.difference),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.cases - self.wins - self.ties,
            "wilcoxon_p_value": self.p_value,
            "rank_biserial": self.rank_biserial,
            "cohens_dz": self.cohens_dz,
        }


def compare_models(
    one: Mapping[str, float],
    other: Mapping[str, float],
    *,
    groups: Mapping[str, Hashable] | None = None,
    confidence: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> ModelComparison:
    """Compare a measure of two models, case by case.

    Where patients are named, the differences of a patient's cases are averaged before the test
    and for the effect sizes, and patients are drawn in the bootstrap; all cases count in the means.

    Args:
        one: Measure of the first model by case, such as Dice.
        other: Measure of the second model, of the same cases.
        groups: Patient of each case.
        confidence: Of the intervals; see :func:`mean_interval`.
        draws: See :func:`mean_interval`.
        seed: See :func:`mean_interval`.

    Returns:
        Means, their difference with its interval, the test and the sizes of the effect.

    Raises:
        InputError: The cases differ, there is none, a value is no finite number, or a case has no
            group.

    Example:
        >>> one = {"a": 0.71, "b": 0.64, "c": 0.80, "d": 0.55, "e": 0.69}
        >>> other = {"a": 0.66, "b": 0.60, "c": 0.77, "d": 0.56, "e": 0.62}
        >>> compared = compare_models(one, other)
        >>> round(compared.difference.value, 3), compared.wins, round(compared.p_value, 3)
        (0.036, 4, 0.125)
        >>> round(compared.rank_biserial, 3), round(compared.cohens_dz, 2)
        (0.867, 1.21)

    Source:
        F. Wilcoxon, Biometrics Bulletin 1, 1945 (differences of zero are left out); D. S. Kerby,
        The simple difference formula, Comprehensive Psychology 3, 2014; J. Cohen, Statistical
        Power Analysis for the Behavioral Sciences, 1988.
    """
    cases = _common(one, other)
    firsts, seconds = (_numbers(model, cases) for model in (one, other))
    patients = None if groups is None else _groups_of(cases, groups)
    differences = np.round(firsts - seconds, _DECIMALS)
    sums, counts = _by_group(differences, patients)
    means = sums / counts
    mean = partial(mean_interval, groups=patients, confidence=confidence, draws=draws, seed=seed)
    return ModelComparison(
        cases=len(cases),
        groups=len(means),
        one=mean(firsts),
        other=mean(seconds),
        difference=mean(differences),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        p_value=_wilcoxon(means),
        rank_biserial=_rank_biserial(means),
        cohens_dz=_cohens_dz(means),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of several comparisons so that one error among them stays as rare.

    Args:
        p_values: Of each comparison, by its name.

    Returns:
        The adjusted p-values under the same names, at most 1.

    Raises:
        InputError: One is not from 0 to 1.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}

    Source:
        S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise InputError(f"the p-value of {name} is {value}: it must be from 0 to 1")
    adjusted: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def ranks(values: Values) -> Float64[np.ndarray, " case"]:
    """Return the rank of each value from 1 on, and of equal ones the mean of theirs.

    Example:
        >>> ranks([10, 30, 20, 20]).tolist()
        [1.0, 4.0, 2.5, 2.5]
    """
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places.ravel()]


def named(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval as columns of a table: ``name``, ``name_low`` and ``name_high``.

    Example:
        >>> named("dice", Interval(0.7, 0.6, 0.8))
        {'dice': 0.7, 'dice_low': 0.6, 'dice_high': 0.8}
    """
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def normal_quantile(confidence: float) -> float:
    """Return how many standard deviations to each side hold a share of a normal distribution.

    Raises:
        InputError: The confidence is not between 0 and 1.

    Example:
        >>> round(normal_quantile(0.95), 4)
        1.96
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}: it must be between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _check_bootstrap(confidence: float, draws: int) -> None:
    normal_quantile(confidence)
    if draws < 1:
        raise InputError(f"draws is {draws}: give a number from 1 on, such as 9999")


def _by_group(
    values: Float64[np.ndarray, " case"], groups: Sequence[Hashable] | None
) -> tuple[Float64[np.ndarray, " group"], Float64[np.ndarray, " group"]]:
    """Return sum and number of the values of each group, NaN left out."""
    if groups is not None and len(groups) != len(values):
        raise InputError(f"{len(values)} values but {len(groups)} groups: give one for each value")
    told = ~np.isnan(values)
    if groups is None:
        return values[told], np.ones(int(told.sum()))
    numbers: dict[Hashable, int] = {}
    places = [
        numbers.setdefault(groups[case], len(numbers)) for case in np.flatnonzero(told).tolist()
    ]
    index = np.array(places, np.intp)
    return np.bincount(index, values[told]), np.bincount(index).astype(np.float64)


def _drawn_means(
    sums: Float64[np.ndarray, " group"],
    counts: Float64[np.ndarray, " group"],
    draws: int,
    seed: int,
) -> Float64[np.ndarray, " draw"]:
    rng, groups = np.random.default_rng(seed), len(sums)
    at_once = max(1, _AT_ONCE // groups)
    means = []
    for first in range(0, draws, at_once):
        drawn = rng.integers(groups, size=(min(at_once, draws - first), groups))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _bca(
    mean: float,
    drawn: Float64[np.ndarray, " draw"],
    left_out: Float64[np.ndarray, " group"],
    confidence: float,
) -> tuple[float, float]:
    """Return the ends of the BCa interval.

    ``left_out`` holds the means without one group each, whose skewness is the acceleration.
    """
    tolerance = 1e-12 * max(1.0, abs(mean))  # sums in another order are not other means
    if np.ptp(drawn) <= tolerance:
        return mean, mean
    normal = NormalDist()
    below = (drawn < mean - tolerance).mean() + (abs(drawn - mean) <= tolerance).mean() / 2
    bias = normal.inv_cdf(min(max(float(below), 0.5 / len(drawn)), 1 - 0.5 / len(drawn)))
    away = left_out.mean() - left_out
    spread = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * spread) if spread else 0.0
    shares = []
    for z in (-normal_quantile(confidence), normal_quantile(confidence)):
        shifted = bias + z
        shares.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(drawn, shares).tolist()
    return low, high


def _common(one: Mapping[str, float], other: Mapping[str, float]) -> list[str]:
    """Return the cases of both models, which must be the same."""
    if lone := sorted(set(one) ^ set(other)):
        raise InputError(
            f"the two models have other cases: {listed(lone, _NAMED)} of one of them only; "
            "compare them on the same"
        )
    if not one:
        raise InputError("there is no case to compare the two models on")
    return list(one)


def _numbers(model: Mapping[str, float], cases: Sequence[str]) -> Float64[np.ndarray, " case"]:
    values = np.array([model[case] for case in cases], np.float64)
    if not np.isfinite(values).all():
        odd = [case for case, value in zip(cases, values, strict=True) if not np.isfinite(value)]
        raise InputError(
            f"{listed(odd, _NAMED)}: no finite value; leave these cases out of both models"
        )
    return values


def _groups_of(cases: Sequence[str], groups: Mapping[str, Hashable]) -> list[Hashable]:
    if lone := [case for case in cases if case not in groups]:
        raise InputError(f"{listed(lone, _NAMED)}: no group; name the patient of every case")
    return [groups[case] for case in cases]


def _wilcoxon(differences: Float64[np.ndarray, " group"]) -> float:
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    with needed_for("the Wilcoxon signed-rank test"):
        from scipy.stats import wilcoxon
    return float(wilcoxon(differences).pvalue)


def _rank_biserial(differences: Float64[np.ndarray, " group"]) -> float:
    some = differences[differences != 0]
    if not len(some):
        return 0.0
    weights = ranks(abs(some))
    return float((weights * np.sign(some)).sum() / weights.sum())


def _cohens_dz(differences: Float64[np.ndarray, " group"]) -> float:
    if len(differences) < 2:
        return math.nan
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread > 1e-12 * abs(mean):
        return mean / spread
    return math.copysign(math.inf, mean) if mean else 0.0
