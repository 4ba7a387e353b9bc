"""Intervals and comparisons against SciPy, published examples and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segjax.errors import InputError
from segjax.evaluate.statistics import (
    Interval,
    compare_models,
    holm,
    mean_interval,
    ranks,
    wilson_interval,
)

DICE = (0.71, 0.42, 0.80, 0.13, 0.66, 0.75, 0.58, 0.69, 0.77, 0.31, 0.62, 0.73)
FEW = {"draws": 500}
NAMES = [f"patient{n:02}" for n in range(12)]


def model(values):
    return dict(zip(NAMES, values, strict=False))


def test_the_interval_of_a_mean_equals_the_one_of_scipy():
    found = mean_interval(DICE, draws=40_000)
    expected = stats.bootstrap(
        (np.array(DICE),), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(np.mean(DICE))
    assert found[1:] == pytest.approx(tuple(expected), abs=3e-3)


def test_the_interval_of_a_skewed_measure_is_not_symmetric():
    value, low, high = mean_interval([0.9, 0.9, 0.88, 0.91, 0.87, 0.9, 0.1], draws=4000)
    assert value - low > 2 * (high - value)


def test_equal_seeds_give_equal_intervals():
    assert mean_interval(DICE, seed=3, **FEW) == mean_interval(DICE, seed=3, **FEW)
    assert mean_interval(DICE, seed=3, **FEW) != mean_interval(DICE, seed=4, **FEW)


def test_draws_in_portions_are_as_wide_as_those_at_once(monkeypatch):
    monkeypatch.setattr("segjax.evaluate.statistics._AT_ONCE", 50)
    portions = mean_interval(DICE, draws=3000)
    monkeypatch.undo()
    assert portions == pytest.approx(mean_interval(DICE, draws=3000), abs=0.02)


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (mean_interval(DICE, confidence=share, **FEW) for share in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = [
        found.low <= 0.5 <= found.high
        for found in (mean_interval(rng.random(20), draws=300, seed=n) for n in range(300))
    ]
    assert 0.88 <= np.mean(held) <= 0.98


def test_slices_of_one_patient_are_no_independent_evidence():
    values, patients = np.repeat(DICE, 10), np.repeat(NAMES, 10).tolist()
    grouped = mean_interval(values, groups=patients, draws=4000)
    assert grouped == pytest.approx(mean_interval(DICE, draws=4000), abs=0.02)
    alone = mean_interval(values, draws=4000)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_the_mean_of_groups_is_that_of_their_cases():
    assert mean_interval([1.0, 1.0, 1.0, 0.0], groups="aaab", **FEW).value == 0.75


def test_what_cannot_be_told_is_left_out_of_the_mean():
    assert mean_interval([*DICE, math.nan], **FEW) == mean_interval(DICE, **FEW)
    some = mean_interval([0.5, math.nan, 0.7], groups=["a", "b", "c"], **FEW)
    assert some == mean_interval([0.5, 0.7], groups=["a", "c"], **FEW)


def test_one_case_has_a_mean_without_an_interval_and_none_has_no_mean():
    assert mean_interval([0.5])[0] == 0.5
    assert np.isnan(mean_interval([0.5])[1:]).all()
    assert np.isnan(mean_interval([0.5, 0.7], groups=["a", "a"])[1:]).all()
    assert np.isnan(mean_interval([])).all()


def test_an_infinite_value_makes_the_mean_infinite():
    value, low, high = mean_interval([0.1, math.inf, 0.2])
    assert value == math.inf
    assert np.isnan((low, high)).all()


@settings(max_examples=15)
@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=8),
    st.floats(-5, 5),
    st.floats(0.01, 10),
)
def test_intervals_hold_the_mean_and_follow_its_unit(values, shift, scale):
    found = mean_interval(values, draws=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    other = mean_interval(np.array(values) * scale + shift, draws=200)
    if np.ptp(values) > 1e-3:
        expected = [number * scale + shift for number in found]
        assert other == pytest.approx(expected, rel=1e-6, abs=1e-2 * scale * np.ptp(values))


def test_equal_values_have_an_interval_without_width():
    assert mean_interval([0.1] * 7, **FEW) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ["a"]}, "2 values but 1 groups"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"confidence": 0.0}, "between 0 and 1"),
        ({"draws": 0}, "draws is 0"),
    ],
)
def test_impossible_options_of_an_interval_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        mean_interval([0.1, 0.2], **options)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_equals_the_published_one(successes, trials, low, high):
    found = wilson_interval(successes, trials)
    assert found.value == successes / trials
    assert found[1:] == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_share_equals_scipy_and_mirrors(successes, more):
    trials = successes + more
    found = wilson_interval(successes, trials)
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert found[1:] == pytest.approx((expected.low, expected.high), abs=1e-9)
    mirrored = wilson_interval(more, trials)
    assert mirrored[1:] == pytest.approx((1 - found.high, 1 - found.low))


def test_a_share_of_nothing_cannot_be_told_and_one_of_too_many_is_refused():
    assert np.isnan(wilson_interval(0, 0)).all()
    with pytest.raises(InputError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_two_models_are_compared_case_by_case():
    rng = np.random.default_rng(2)
    first = np.array(DICE)
    second = first - 0.05 + rng.normal(0, 0.05, 12)
    found = compare_models(model(first), model(second), draws=20_000)
    differences = first - second
    assert (found.cases, found.groups) == (12, 12)
    assert found.wins == (differences > 0).sum()
    assert found.p_value == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert found.cohens_dz == pytest.approx(differences.mean() / differences.std(ddof=1))
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.difference[1:] == pytest.approx(tuple(expected), abs=2e-3)
    assert found.one.value == pytest.approx(first.mean())
    assert found.other.value == pytest.approx(second.mean())


def test_the_rank_biserial_correlation_equals_the_hand_count():
    one = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 1.0, "e": 2.0}
    other = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0, "e": 2.0}
    # differences 4, 3, 2, -1 and 0, which is left out; ranks 4, 3, 2, 1: (9 - 1) / 10
    found = compare_models(one, other, **FEW)
    assert found.rank_biserial == pytest.approx(0.8)
    assert (found.wins, found.ties, found.measures["losses"]) == (3, 1, 1)


def test_differences_that_are_equal_but_for_rounding_tie():
    one = {"a": 0.3, "b": 0.2, "c": 0.1}
    other = {"a": 0.2, "b": 0.1, "c": 0.2}  # 0.3 - 0.2 < 0.2 - 0.1 as binary fractions
    assert compare_models(one, other, **FEW).rank_biserial == pytest.approx(1 / 3)


def test_models_exchanged_change_the_sign_alone():
    one, other = model(DICE), model(np.array(DICE)[::-1] * 0.9)
    there, back = compare_models(one, other, **FEW), compare_models(other, one, **FEW)
    assert back.difference.value == pytest.approx(-there.difference.value)
    assert back.rank_biserial == pytest.approx(-there.rank_biserial)
    assert back.cohens_dz == pytest.approx(-there.cohens_dz)
    assert back.p_value == pytest.approx(there.p_value)
    assert back.wins == there.cases - there.wins - there.ties


def test_the_order_of_cases_in_the_second_model_does_not_count():
    shuffled = dict(sorted(model(DICE).items(), reverse=True))
    found = compare_models(model(DICE), shuffled, **FEW)
    assert found.ties == 12
    assert (found.p_value, found.rank_biserial, found.cohens_dz) == (1, 0, 0)


def test_the_same_advantage_everywhere_is_an_infinite_effect():
    found = compare_models({"a": 3.0, "b": 2.0}, {"a": 2.0, "b": 1.0}, **FEW)
    assert found.cohens_dz == math.inf
    assert found.difference == Interval(1.0, 1.0, 1.0)


def test_slices_of_one_patient_are_averaged_before_the_test():
    gains = (0.01, 0.05, -0.02, 0.04, 0.03, 0.06, 0.07)
    one = {f"{name}-{n}": 0.5 + gain for name, gain in model(gains).items() for n in range(3)}
    other = {case: 0.4 + 0.1 * (case.endswith("1")) for case in one}
    patients = {case: case.split("-")[0] for case in one}
    found = compare_models(one, other, groups=patients, **FEW)
    means = np.array(gains) + 0.2 / 3
    assert (found.cases, found.groups, found.wins) == (21, 7, 20)
    assert found.p_value == pytest.approx(stats.wilcoxon(means).pvalue)
    assert found.rank_biserial == 1
    assert found.cohens_dz == pytest.approx(means.mean() / means.std(ddof=1))


def test_one_case_has_no_test():
    found = compare_models({"a": 0.5}, {"a": 0.4})
    assert math.isnan(found.p_value)
    assert math.isnan(found.cohens_dz)


@pytest.mark.parametrize(
    ("one", "other", "groups", "words"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, None, "other cases: b of one"),
        ({}, {}, None, "no case"),
        ({"a": math.nan}, {"a": 1.0}, None, "a: no finite value"),
        ({"a": 1.0}, {"a": 1.0}, {}, "a: no group"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(one, other, groups, words):
    with pytest.raises(InputError, match=words):
        compare_models(one, other, groups=groups)


def test_measures_are_plain_numbers():
    measures = compare_models(model(DICE), model(DICE), **FEW).measures
    assert {"mean_difference", "mean_difference_low", "wilcoxon_p_value"} <= set(measures)
    assert all(type(value) in (int, float) for value in measures.values())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_adjusted_p_values_equal_holms_definition(values):
    found = holm({str(n): value for n, value in enumerate(values)})
    order = sorted(range(len(values)), key=values.__getitem__)
    expected = {
        n: min(1, max((len(values) - j) * values[order[j]] for j in range(place + 1)))
        for place, n in enumerate(order)
    }
    assert [found[str(n)] for n in range(len(values))] == pytest.approx(
        [expected[n] for n in range(len(values))]
    )


def test_a_p_value_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"p-value of b is 1\.5"):
        holm({"a": 0.1, "b": 1.5})


@given(st.lists(st.integers(-3, 3), max_size=12))
def test_ranks_equal_scipy(values):
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))
