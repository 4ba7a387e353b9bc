"""What measures come to over many cases: means with their intervals, medians, extremes."""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import groupby
from statistics import median
from typing import Any, NamedTuple

from segjax.errors import InputError
from segjax.evaluate.scores import DICE, measures_of, score_of_row
from segjax.evaluate.statistics import (
    Interval,
    ModelComparison,
    compare_models,
    mean_interval,
)

__all__ = ["Summary", "compare_rows", "held_labels", "interval_in_words", "summarise"]


_OF_TRUTH = ("truth_ml", "truth_voxels", "true_lesions")


class Summary(NamedTuple):
    """What a measure of a label comes to.

    Attributes:
        label: Name of the label.
        measure: Name of the measure.
        mean: Over the cases, with its 95 % bootstrap interval.
        median: Over the cases.
        lowest: Of all cases.
        highest: Of all cases.
        cases: How many cases count: those that hold the label and have the measure.
    """

    label: str
    measure: str
    mean: Interval
    median: float
    lowest: float
    highest: float
    cases: int


def summarise(
    rows: Iterable[Mapping[str, Any]], *, groups: Mapping[str, Hashable] | None = None
) -> list[Summary]:
    """Summarise every measure of every label over the cases whose truth holds the label.

    Args:
        rows: What :func:`segjax.evaluate.compare.score` returned.
        groups: Patient of each case: patients are drawn in place of cases, see
            :func:`segjax.evaluate.statistics.mean_interval`.

    Returns:
        One for each label and measure, in the order of the rows. A value that is NaN counts in
        none; where none counts, all numbers are NaN.

    Raises:
        InputError: A case has no group, or a value is infinite.

    Example:
        >>> row = {"case": "a", "label": "lesion", "dice": 0.5, "truth_ml": 1.0,
        ...        "prediction_ml": 1.2}
        >>> summarise([row, {**row, "case": "b", "dice": 0.7}])[0]._asdict()["median"]
        0.6
    """
    return [_summary(*key, own, groups) for key, own in _values(rows).items()]


def held_labels(summaries: Iterable[Summary]) -> Iterator[tuple[str, list[Summary]]]:
    """Yield the labels that a case holds, each with its summaries.

    Args:
        summaries: What :func:`summarise` returned.

    Example:
        >>> row = {"case": "a", "label": "cyst", "dice": 0.0, "truth_ml": 0.0,
        ...        "prediction_ml": 1.2}
        >>> list(held_labels(summarise([row])))
        []
    """
    for label, each in groupby(summaries, key=lambda one: one.label):
        own = list(each)
        if any(one.cases for one in own):
            yield label, own


def compare_rows(
    one: Iterable[Mapping[str, Any]],
    other: Iterable[Mapping[str, Any]],
    *,
    groups: Mapping[str, Hashable] | None = None,
) -> dict[tuple[str, str], ModelComparison]:
    """Compare every measure of two models over the cases whose truth holds the label.

    Args:
        one: What :func:`segjax.evaluate.compare.score` returned for the first model.
        other: The same for the second one, of the same cases.
        groups: Patient of each case.

    Returns:
        By label and measure: :func:`segjax.evaluate.statistics.compare_models` of it. Left out
        are measures that are of the truth alone, and those that one of the models lacks or has in
        no case; of a measure that cannot be told of a case in one of them that case.

    Raises:
        InputError: The cases of the models differ, or a case has no group.

    Example:
        >>> row = {"case": "a", "label": "lesion", "dice": 0.5, "truth_ml": 1.0,
        ...        "prediction_ml": 1.2}
        >>> found = compare_rows([row], [{**row, "dice": 0.25}])
        >>> found["lesion", "dice"].difference.value
        0.25
    """
    first, second = _values(one), _values(other)
    for key in first.keys() & second.keys():
        if key[1] == DICE and (lone := sorted(first[key].keys() ^ second[key].keys())):
            raise InputError(
                f"{lone[0]}: a case of one of the two models only; compare them on the same"
            )
    found = {}
    for key in (key for key in first if key in second and key[1] not in _OF_TRUTH):
        cases = [case for case in first[key] if case in second[key]]
        if cases:
            found[key] = compare_models(
                *({case: own[key][case] for case in cases} for own in (first, second)),
                groups=groups,
            )
    return found


def _values(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """Return the values of the cases that hold a label, by label and measure."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        held = score_of_row(row).metric == DICE
        for name, value in measures_of(row).items():
            own = values.setdefault((row["label"], name), {})
            if held and not math.isnan(value):
                own[row["case"]] = float(value)
    return values


def interval_in_words(interval: Interval, digits: int = 3) -> str:
    """Return the ends of an interval; a dash where it has none.

    Example:
        >>> interval_in_words(Interval(0.7, 0.61, 0.8))
        '0.610 to 0.800'
    """
    if math.isnan(interval.low):
        return "–"
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _summary(
    label: str, measure: str, values: Mapping[str, float], groups: Mapping[str, Hashable] | None
) -> Summary:
    numbers = list(values.values())
    try:
        own = None if groups is None else [groups[case] for case in values]
    except KeyError as error:
        raise InputError(f"{error.args[0]}: no group; name the patient of every case") from error
    spread = (median(numbers), min(numbers), max(numbers)) if numbers else (math.nan,) * 3
    return Summary(label, measure, mean_interval(numbers, groups=own), *spread, len(numbers))
