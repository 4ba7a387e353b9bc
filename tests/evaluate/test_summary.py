"""What measures come to over many cases."""

import math

import pytest

from segjax.errors import InputError
from segjax.evaluate.statistics import Interval
from segjax.evaluate.summary import compare_rows, interval_in_words, summarise


def row(case, dice, truth=1.0, **more):
    sizes = {"truth_ml": truth, "prediction_ml": 1.0}
    return {"case": case, "label": "lesion", "dice": dice, **sizes, **more}


def test_cases_without_the_label_count_in_no_mean():
    found = {one.measure: one for one in summarise([row("a", 0.5), row("b", 0.7), row("c", 0, 0)])}
    assert found["dice"].mean.value == pytest.approx(0.6)
    assert (found["dice"].lowest, found["dice"].highest, found["dice"].cases) == (0.5, 0.7, 2)


def test_a_value_that_cannot_be_told_counts_in_no_mean():
    rows = [row("a", 0.5, depth=3.0), row("b", 0.7, depth=math.nan)]
    (depth,) = [one for one in summarise(rows) if one.measure == "depth"]
    assert (depth.mean.value, depth.median, depth.cases) == (3.0, 3.0, 1)
    (none,) = [one for one in summarise(rows[1:]) if one.measure == "depth"]
    assert math.isnan(none.median)
    assert none.cases == 0


def test_patients_are_drawn_in_place_of_their_cases():
    rows = [
        row(f"{patient}{n}", dice)
        for patient, dice in zip("abcd", (0.1, 0.5, 0.6, 0.9), strict=True)
        for n in range(5)
    ]
    groups = {one["case"]: one["case"][0] for one in rows}
    alone, together = summarise(rows)[0].mean, summarise(rows, groups=groups)[0].mean
    assert alone.value == together.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    with pytest.raises(InputError, match="a1: no group"):
        summarise(rows, groups={"a0": "a"})


def test_an_interval_that_cannot_be_told_is_a_dash():
    assert interval_in_words(Interval(0.5, math.nan, math.nan)) == "–"
    assert interval_in_words(Interval(0.5, 0.25, 0.75), digits=2) == "0.25 to 0.75"


def test_two_models_are_compared_by_every_measure_that_both_have():
    one = [
        row(case, dice, depth=1.0, true_lesions=3)
        for case, dice in zip("abcde", (0.7, 0.6, 0.8, 0.6, 0.7), strict=True)
    ]
    other = [row(case, 0.5, true_lesions=3) for case in "abcd"] + [row("e", 0.8, true_lesions=3)]
    found = compare_rows([*one, row("f", 1, 0)], [*other, row("f", 0, 0)])
    assert set(found) == {("lesion", "dice"), ("lesion", "prediction_ml")}
    dice = found["lesion", "dice"]
    assert (dice.cases, dice.wins, dice.ties) == (5, 4, 0)
    assert dice.difference.value == pytest.approx((0.2 + 0.1 + 0.3 + 0.1 - 0.1) / 5)
    with pytest.raises(InputError, match="e: a case of one of the two models only"):
        compare_rows(one, other[:-1])
