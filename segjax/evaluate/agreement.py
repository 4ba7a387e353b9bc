"""How far two measurements of the same cases agree, such as true and predicted lesion loads.

Correlation alone is no agreement: a prediction of half of every load correlates perfectly. The
intraclass correlation of absolute agreement, Lin's concordance and the limits of Bland and Altman
see such a bias. Quantiles of the F and t distributions come from SciPy.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Real

from segjax.errors import InputError
from segjax.evaluate.statistics import Interval, Values, named, normal_quantile, ranks
from segjax.extras import needed_for

__all__ = [
    "Agreement",
    "BlandAltman",
    "agreement_of",
    "bland_altman",
    "concordance",
    "icc_agreement",
    "icc_consistency",
    "pearson",
    "spearman",
]

_ALIKE = 1e-12  # share of a value under which differences are rounding
_ROUNDING = 1e-14  # of a perfect correlation


@dataclass(frozen=True)
class BlandAltman:
    """Limits of agreement of ``prediction - truth``, in the unit of the values.

    Attributes:
        bias: Mean difference: positive where too much is predicted.
        lower: Limit below which about 2.5 % of the differences lie.
        upper: Limit above which about 2.5 % lie.
        proportional: Slope of the difference over the mean of both; where its interval leaves out
            0 the error grows (or shrinks) with the size, and the limits hold for no case: compare
            logarithms, or relative errors.
    """

    bias: Interval
    lower: Interval
    upper: Interval
    proportional: Interval

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {
            **named("bias", self.bias),
            **named("lower_limit", self.lower),
            **named("upper_limit", self.upper),
            **named("proportional_bias", self.proportional),
        }


@dataclass(frozen=True)
class Agreement:
    """How far predicted values agree with true ones.

    Attributes:
        cases: Number of cases.
        pearson: See :func:`pearson`.
        spearman: See :func:`spearman`.
        icc_agreement: See :func:`icc_agreement`.
        icc_consistency: See :func:`icc_consistency`.
        concordance: See :func:`concordance`.
        bland_altman: See :func:`bland_altman`.
    """

    cases: int
    pearson: Interval
    spearman: Interval
    icc_agreement: Interval
    icc_consistency: Interval
    concordance: Interval
    bland_altman: BlandAltman

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {
            "cases": self.cases,
            **named("pearson", self.pearson),
            **named("spearman", self.spearman),
            **named("icc_2_1", self.icc_agreement),
            **named("icc_3_1", self.icc_consistency),
            **named("concordance", self.concordance),
            **self.bland_altman.measures,
        }


def agreement_of(*, truth: Values, prediction: Values, confidence: float = 0.95) -> Agreement:
    """Measure the agreement of predicted with true values, such as lesion loads in ml.

    Args:
        truth: True value of each case ``(case)``.
        prediction: Predicted value of each case, in the same unit.
        confidence: Of all intervals.

    Returns:
        Correlations, intraclass correlations, concordance and limits of agreement.

    Raises:
        InputError: There are fewer than two cases, not as many of both, or a value that is no
            finite number; or the confidence is not between 0 and 1.

    Example:
        >>> found = agreement_of(truth=[2.0, 5.0, 9.0, 14.0], prediction=[1.0, 4.0, 8.0, 13.0])
        >>> round(found.pearson.value, 3), round(found.icc_agreement.value, 3)
        (1.0, 0.982)
        >>> found.bland_altman.bias.value
        -1.0
    """
    both: dict[str, Values] = {"truth": truth, "prediction": prediction}
    ratings = np.stack(_paired(**both), axis=1)
    return Agreement(
        len(ratings),
        pearson(**both, confidence=confidence),
        spearman(**both, confidence=confidence),
        icc_agreement(ratings, confidence=confidence),
        icc_consistency(ratings, confidence=confidence),
        concordance(**both, confidence=confidence),
        bland_altman(**both, confidence=confidence),
    )


def pearson(*, truth: Values, prediction: Values, confidence: float = 0.95) -> Interval:
    """Return Pearson's correlation, with the interval of Fisher's transformation.

    Args:
        truth: True value of each case ``(case)``.
        prediction: Predicted value of each case.
        confidence: Of the interval.

    Returns:
        From -1 to 1; NaN where all true or all predicted values are the same. The ends are NaN
        with less than four cases.

    Raises:
        InputError: See :func:`agreement_of`.

    Example:
        >>> [round(one, 3) for one in pearson(truth=[1, 2, 3, 5], prediction=[2, 2, 4, 5])]
        [0.943, -0.19, 0.999]
    """
    first, second = _paired(truth, prediction)
    return _correlation(first, second, 1.0, confidence)


def spearman(*, truth: Values, prediction: Values, confidence: float = 0.95) -> Interval:
    """Return Spearman's rank correlation: Pearson's of the ranks, ties sharing theirs.

    Args:
        truth: True value of each case ``(case)``.
        prediction: Predicted value of each case.
        confidence: Of the interval: Fisher's transformation with the standard error
            ``sqrt((1 + r² / 2) / (n - 3))``.

    Returns:
        From -1 to 1; NaN where all true or all predicted values are the same. The ends are NaN
        with less than four cases, and at -1 and 1: few cases may well be of one order by chance,
        which an interval without width would hide.

    Raises:
        InputError: See :func:`agreement_of`.

    Example:
        >>> round(spearman(truth=[1, 2, 3, 50], prediction=[1, 3, 2, 4]).value, 3)
        0.8

    Source:
        D. G. Bonett and T. A. Wright, Psychometrika 65, 2000.
    """
    first, second = (ranks(values) for values in _paired(truth, prediction))
    value = _r(first, second)
    if abs(value) == 1:
        return Interval(value, math.nan, math.nan)
    return _correlation(first, second, math.sqrt(1 + value**2 / 2), confidence)


def icc_agreement(ratings: Real[np.ndarray, "case rater"], *, confidence: float = 0.95) -> Interval:
    """Return the intraclass correlation of absolute agreement, ICC(2,1) or ICC(A,1).

    Raters (two methods, or truth and prediction) are taken as drawn from many; a rater who always
    says more lowers it. With the mean squares of cases, raters and rest of ``n`` cases and ``k``
    raters it is ``(MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)``.

    Args:
        ratings: Value of each case by each rater.
        confidence: Of the interval.

    Returns:
        At most 1, which is perfect; below 0 where raters differ more than cases, without a bound.
        NaN where all ratings are the same, which tell nothing.

    Raises:
        InputError: There are fewer than two cases or raters, or a value is no finite number.

    Example:
        >>> ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8],
        ...                     [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
        >>> [round(number, 2) for number in icc_agreement(ratings)]
        [0.29, 0.02, 0.76]

    Source:
        P. E. Shrout and J. L. Fleiss, Psychological Bulletin 86, 1979 (the example is theirs); the
        interval: K. O. McGraw and S. P. Wong, Psychological Methods 1, 1996, table 7.
    """
    table = _ratings(ratings, confidence)
    (n, k), (cases, raters, rest) = table.shape, _mean_squares(table)
    whole = cases + (k - 1) * rest + k * (raters - rest) / n
    if whole <= 0:
        return Interval(math.nan, math.nan, math.nan)
    value = (cases - rest) / whole
    if value == 1:
        return Interval(1.0, 1.0, 1.0)
    if not rest and not cases:
        return Interval(value, math.nan, math.nan)
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    parts = ((a * raters) ** 2 / (k - 1), (b * rest) ** 2 / ((n - 1) * (k - 1)))
    freedom = (a * raters + b * rest) ** 2 / sum(parts) if any(parts) else 1.0
    above = _f_quantile(confidence, n - 1, freedom)
    below = _f_quantile(confidence, freedom, n - 1)
    others = k * raters + (k * n - k - n) * rest
    low = n * (cases - above * rest) / (above * others + n * cases)
    high = n * (below * cases - rest) / (others + n * below * cases)
    return Interval(value, low, high)


def icc_consistency(
    ratings: Real[np.ndarray, "case rater"], *, confidence: float = 0.95
) -> Interval:
    """Return the intraclass correlation of consistency, ICC(3,1) or ICC(C,1).

    It asks whether raters put cases in the same order at the same distances: a rater who always
    says one ml more does not lower it. With the mean squares of cases and rest of ``k`` raters it
    is ``(MSR - MSE) / (MSR + (k - 1) MSE)``.

    Args:
        ratings: Value of each case by each rater.
        confidence: Of the interval.

    Returns:
        At most 1; NaN where nothing but the raters' offsets differs.

    Raises:
        InputError: See :func:`icc_agreement`.

    Example:
        >>> ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8],
        ...                     [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
        >>> [round(number, 2) for number in icc_consistency(ratings)]
        [0.71, 0.34, 0.95]

    Source: See :func:`icc_agreement`.
    """
    table = _ratings(ratings, confidence)
    (n, k), (cases, _, rest) = table.shape, _mean_squares(table)
    if not cases and not rest:
        return Interval(math.nan, math.nan, math.nan)
    if not rest:
        return Interval(1.0, 1.0, 1.0)
    ratio, others = cases / rest, (n - 1) * (k - 1)
    low = ratio / _f_quantile(confidence, n - 1, others)
    high = ratio * _f_quantile(confidence, others, n - 1)
    value, least, most = ((f - 1) / (f + k - 1) for f in (ratio, low, high))
    return Interval(value, least, most)


def concordance(*, truth: Values, prediction: Values, confidence: float = 0.95) -> Interval:
    """Return Lin's concordance correlation, ``2 s₁₂ / (s₁² + s₂² + (m₁ - m₂)²)``.

    It is Pearson's correlation, lowered by every departure from the line of identity. Variances
    are those over ``n``, as Lin writes them.

    Args:
        truth: True value of each case ``(case)``.
        prediction: Predicted value of each case.
        confidence: Of the interval, from Fisher's transformation.

    Returns:
        From -1 to 1; NaN where all values of both are the same. The ends are NaN with less than
        three cases, and where the correlation is 0.

    Raises:
        InputError: See :func:`agreement_of`.

    Example:
        >>> round(concordance(truth=[1, 2, 3, 4], prediction=[2, 3, 4, 5]).value, 3)
        0.714

    Source:
        L. I. Lin, Biometrics 45, 1989, and the correction in Biometrics 56, 2000.
    """
    first, second = _paired(truth, prediction)
    z = normal_quantile(confidence)
    shift = float(first.mean() - second.mean())
    spread = float(first.std() * second.std())
    whole = float(first.var() + second.var()) + shift**2
    if whole == 0:
        return Interval(math.nan, math.nan, math.nan)
    r = _r(first, second) if spread else 0.0
    value = 2 * r * spread / whole
    if abs(value) > 1 - _ALIKE:
        return _around(math.copysign(1.0, value), 0.0)
    if len(first) < 3 or not value:
        return Interval(value, math.nan, math.nan)
    return _fisher(value, z * math.sqrt(_concordance_variance(value, r, shift**2 / spread, first)))


def bland_altman(*, truth: Values, prediction: Values, confidence: float = 0.95) -> BlandAltman:
    """Return bias and 95 % limits of agreement of ``prediction - truth``.

    The limits are ``bias ± 1.96 s`` with the standard deviation ``s`` of the differences.

    Args:
        truth: True value of each case ``(case)``.
        prediction: Predicted value of each case, in the same unit.
        confidence: Of the intervals of bias, limits and slope, from Student's t.

    Returns:
        All in the unit of the values. The slope is NaN where the means of both are the same in
        all cases, and its interval with two cases.

    Raises:
        InputError: See :func:`agreement_of`.

    Example:
        >>> found = bland_altman(truth=[2.0, 5.0, 9.0, 14.0], prediction=[2.5, 4.0, 9.5, 12.0])
        >>> [round(one.value, 2) for one in (found.bias, found.lower, found.upper)]
        [-0.5, -2.9, 1.9]

    Source:
        J. M. Bland and D. G. Altman, Lancet 327, 1986, and Statistical Methods in Medical Research
        8, 1999 (variance of the limits: ``s² (1 / n + 1.96² / 2 (n - 1))``).
    """
    first, second = _paired(truth, prediction)
    differences, n = second - first, len(first)
    quantile = _t_quantile(confidence, n - 1)
    bias, deviation = float(differences.mean()), float(differences.std(ddof=1))
    width = normal_quantile(0.95)
    error = quantile * deviation / math.sqrt(n)
    far = quantile * deviation * math.sqrt(1 / n + width**2 / (2 * (n - 1)))
    return BlandAltman(
        _around(bias, error),
        _around(bias - width * deviation, far),
        _around(bias + width * deviation, far),
        _slope((first + second) / 2, differences, confidence),
    )


def _around(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)


def _fisher(value: float, half: float) -> Interval:
    """Return the interval of a correlation, ``half`` wide to each side once transformed."""
    place = math.atanh(value)
    return Interval(value, math.tanh(place - half), math.tanh(place + half))


def _paired(
    truth: Values, prediction: Values
) -> tuple[Float64[np.ndarray, " case"], Float64[np.ndarray, " case"]]:
    first, second = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    if len(first) != len(second):
        raise InputError(f"{len(first)} true and {len(second)} predicted values: give pairs")
    if len(first) < 2:
        raise InputError(f"agreement of {len(first)} cases cannot be told: give two or more")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a value is no finite number: leave its case out of both")
    return first, second


def _ratings(
    ratings: Real[np.ndarray, "case rater"], confidence: float
) -> Float64[np.ndarray, "case rater"]:
    normal_quantile(confidence)
    if min(ratings.shape) < 2:
        raise InputError(f"ratings of shape {ratings.shape}: give two or more cases and raters")
    table = ratings.astype(np.float64)
    if not np.isfinite(table).all():
        raise InputError("a rating is no finite number: leave its case out")
    return table


def _mean_squares(table: Float64[np.ndarray, "case rater"]) -> tuple[float, float, float]:
    """Return those of cases, raters and rest; rounding of equal values is 0."""
    n, k = table.shape
    by_case, by_rater = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_case[:, None] - by_rater + table.mean()
    squares = (
        k * by_case.var(ddof=1),
        n * by_rater.var(ddof=1),
        (rest**2).sum() / ((n - 1) * (k - 1)),
    )
    least = (_ALIKE * float(abs(table).max())) ** 2
    first, second, third = (float(one) if one > least else 0.0 for one in squares)
    return first, second, third


def _r(first: Float64[np.ndarray, " case"], second: Float64[np.ndarray, " case"]) -> float:
    a, b = first - first.mean(), second - second.mean()
    least = [_ALIKE * float(abs(values).max()) for values in (first, second)]
    if abs(a).max() <= least[0] or abs(b).max() <= least[1]:
        return math.nan
    value = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return value if abs(value) < 1 - _ROUNDING else math.copysign(1.0, value)


def _correlation(
    first: Float64[np.ndarray, " case"],
    second: Float64[np.ndarray, " case"],
    inflation: float,
    confidence: float,
) -> Interval:
    z, value = normal_quantile(confidence), _r(first, second)
    if math.isnan(value) or len(first) < 4:
        return Interval(value, math.nan, math.nan)
    if abs(value) > 1 - _ALIKE:
        return Interval(value, value, value)
    return _fisher(value, z * inflation / math.sqrt(len(first) - 3))


def _concordance_variance(
    value: float, r: float, shift: float, cases: Float64[np.ndarray, " case"]
) -> float:
    """Return the variance of Fisher's transform; ``shift`` is (m₁ - m₂)² / s₁ s₂."""
    rest = 1 - value**2
    terms = (
        (1 - r**2) * value**2 / (rest * r**2),
        2 * value**3 * (1 - value) * shift / (r * rest**2),
        -(value**4) * shift**2 / (2 * r**2 * rest**2),
    )
    return max(0.0, sum(terms)) / (len(cases) - 2)


def _slope(
    x: Float64[np.ndarray, " case"], y: Float64[np.ndarray, " case"], confidence: float
) -> Interval:
    """Return the slope of a line through points, with its interval."""
    away = x - x.mean()
    square = float(away @ away)
    if abs(away).max() <= _ALIKE * float(abs(x).max()):
        return Interval(math.nan, math.nan, math.nan)
    slope = float(away @ y) / square
    freedom = len(x) - 2
    if not freedom:
        return Interval(slope, math.nan, math.nan)
    rest = y - y.mean() - slope * away
    error = math.sqrt(float(rest @ rest) / freedom / square)
    return _around(slope, _t_quantile(confidence, freedom) * error)


def _t_quantile(confidence: float, freedom: float) -> float:
    normal_quantile(confidence)
    with needed_for("intervals of agreement"):
        from scipy.special import stdtrit
    return float(stdtrit(freedom, (1 + confidence) / 2))


def _f_quantile(confidence: float, numerator: float, denominator: float) -> float:
    with needed_for("intervals of agreement"):
        from scipy.special import fdtri
    return float(fdtri(numerator, denominator, (1 + confidence) / 2))
