"""Agreement against published examples, SciPy, pingouin and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segjax.errors import InputError
from segjax.evaluate.agreement import (
    agreement_of,
    bland_altman,
    concordance,
    icc_agreement,
    icc_consistency,
    pearson,
    spearman,
)
from tests.peers import Peer

pingouin = Peer("pingouin")

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)
# Peak expiratory flow in l/min by two meters: Bland and Altman, Lancet 1986, first measurements
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)

loads = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).gamma(1, 10, (2, 9)) + np.array([[0], [1]])
)
few = settings(max_examples=20)


def test_intraclass_correlations_equal_shrout_and_fleiss():
    assert icc_agreement(SHROUT_FLEISS).value == pytest.approx(0.29, abs=5e-3)
    assert icc_consistency(SHROUT_FLEISS).value == pytest.approx(0.71, abs=5e-3)


def test_their_intervals_equal_those_published_by_revelle():
    # psych::ICC of the same data: 0.019 to 0.761 and 0.342 to 0.946
    assert icc_agreement(SHROUT_FLEISS)[1:] == pytest.approx((0.019, 0.761), abs=1e-3)
    assert icc_consistency(SHROUT_FLEISS)[1:] == pytest.approx((0.342, 0.946), abs=1e-3)


@pytest.mark.peer("pingouin")
def test_intraclass_correlations_equal_pingouin():
    import pandas as pd

    for seed in range(50):
        rng = np.random.default_rng(seed)
        ratings = rng.gamma(1, 10, (8, 1)) + rng.normal(0, 3, (8, 3)) + [[0, 1, 2]]
        table = pd.DataFrame(
            [(case, rater, ratings[case, rater]) for case in range(8) for rater in range(3)],
            columns=["case", "rater", "value"],
        )
        rows = pingouin.intraclass_corr(table, "case", "rater", "value").set_index("Type")
        for names, found in (
            (("ICC2", "ICC(A,1)"), icc_agreement(ratings)),
            (("ICC3", "ICC(C,1)"), icc_consistency(ratings)),
        ):
            row = rows.loc[next(name for name in names if name in rows.index)]
            assert found.value == pytest.approx(row["ICC"], abs=1e-9)
            interval = row["CI95%"] if "CI95%" in row else row["CI95"]
            assert found[1:] == pytest.approx(tuple(interval), abs=0.0051)


def test_limits_of_agreement_equal_bland_and_altman():
    found = bland_altman(truth=MINI, prediction=WRIGHT)
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.bias[1:] == pytest.approx((-22.0, 17.8), abs=0.1)
    # the paper takes 2 s and the variance 3 s² / n for the limits, from -79.7 to 75.5
    assert (found.lower.value, found.upper.value) == pytest.approx((-78.1, 73.9), abs=0.1)
    assert found.lower.high - found.lower.value == pytest.approx(34.6, abs=0.4)


def test_proportional_bias_equals_the_slope_of_scipy():
    first, second = np.array(MINI), np.array(WRIGHT)
    found = bland_altman(truth=MINI, prediction=WRIGHT).proportional
    line = stats.linregress((first + second) / 2, second - first)
    half = stats.t.ppf(0.975, 15) * line.stderr
    assert found == pytest.approx((line.slope, line.slope - half, line.slope + half))


def test_a_prediction_of_half_of_every_load_has_a_proportional_bias():
    found = agreement_of(truth=[1.0, 4.0, 9.0, 16.0], prediction=[0.5, 2.0, 4.5, 8.0])
    assert found.pearson.value == found.spearman.value == 1
    assert found.bland_altman.proportional == pytest.approx((-2 / 3, -2 / 3, -2 / 3))
    assert found.concordance.value < found.icc_consistency.value < 0.85


@few
@given(loads)
def test_correlations_equal_scipy(pair):
    truth, prediction = pair
    both = {"truth": truth, "prediction": prediction}
    expected = stats.pearsonr(truth, prediction)
    interval = expected.confidence_interval()
    assert pearson(**both) == pytest.approx((expected.statistic, interval.low, interval.high))
    assert spearman(**both).value == pytest.approx(stats.spearmanr(truth, prediction).statistic)


def test_the_same_order_of_few_cases_is_no_certainty():
    value, low, high = spearman(truth=[1, 2, 3, 4, 5], prediction=[1, 4, 9, 16, 25])
    assert value == 1
    assert np.isnan((low, high)).all()


def test_ties_share_their_rank():
    truth, prediction = [1, 2, 2, 4, 5], [2, 2, 1, 5, 5]
    expected = stats.spearmanr(truth, prediction).statistic
    assert spearman(truth=truth, prediction=prediction).value == pytest.approx(expected)


@few
@given(loads)
def test_agreement_does_not_depend_on_which_is_which_nor_on_the_unit(pair):
    truth, prediction = pair
    one = agreement_of(truth=truth, prediction=prediction)
    other = agreement_of(truth=prediction, prediction=truth)
    scaled = agreement_of(truth=truth * 1000, prediction=prediction * 1000)
    for name in ("pearson", "spearman", "icc_agreement", "icc_consistency", "concordance"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), nan_ok=True)
        assert getattr(scaled, name) == pytest.approx(getattr(one, name), nan_ok=True)
        value, low, high = getattr(one, name)
        assert low <= value <= high <= 1 + 1e-9
        assert value >= -1 or name == "icc_agreement"
    assert other.bland_altman.bias.value == pytest.approx(-one.bland_altman.bias.value)
    assert scaled.bland_altman.upper == pytest.approx(np.multiply(one.bland_altman.upper, 1000))


@few
@given(loads)
def test_an_offset_lowers_agreement_and_leaves_consistency(pair):
    truth, prediction = pair
    one = agreement_of(truth=truth, prediction=prediction)
    gap = abs(prediction.mean() - truth.mean())
    shift = math.copysign(50, one.bland_altman.bias.value)
    other = agreement_of(truth=truth, prediction=prediction + shift)
    assert other.icc_consistency.value == pytest.approx(one.icc_consistency.value)
    assert abs(other.icc_agreement.value) <= abs(one.icc_agreement.value) + 1e-9
    assert abs(other.concordance.value) <= abs(one.concordance.value) + 1e-9
    assert abs(other.bland_altman.bias.value) == pytest.approx(gap + 50)


def test_concordance_equals_lins_definition():
    x, y = np.array(WRIGHT, float), np.array(MINI, float)
    expected = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    found = concordance(truth=x, prediction=y)
    assert found.value == pytest.approx(expected)
    assert found.value == pytest.approx(0.943, abs=1e-3)
    assert found.low < found.value < found.high


def test_the_interval_of_concordance_holds_the_true_one_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    # cases of variance 4, errors of variance 1, an offset of 1: 2 * 4 / (5 + 5 + 1)
    held = []
    for _ in range(400):
        cases = rng.normal(0, 2, 30)
        first, second = cases + rng.normal(0, 1, (2, 30)) + [[0], [1]]
        found = concordance(truth=first, prediction=second)
        held.append(found.low <= 8 / 11 <= found.high)
    assert 0.91 <= np.mean(held) <= 0.98


def test_equal_values_agree_perfectly():
    found = agreement_of(truth=[1.1, 2.2, 3.3, 4.4], prediction=[1.1, 2.2, 3.3, 4.4])
    for one in (found.pearson, found.icc_agreement, found.icc_consistency, found.concordance):
        assert one == (1, 1, 1)
    assert found.bland_altman.bias == (0, 0, 0)


def test_what_nothing_can_be_told_of_is_not_a_number():
    found = agreement_of(truth=[0.1] * 5, prediction=[0.1] * 5)
    for one in (found.pearson, found.spearman, found.icc_agreement, found.icc_consistency):
        assert np.isnan(one).all()
    assert np.isnan(found.concordance).all()
    assert np.isnan(found.bland_altman.proportional).all()


def test_a_constant_prediction_agrees_with_nothing():
    found = agreement_of(truth=[1.0, 2.0, 3.0], prediction=[2.0, 2.0, 2.0])
    assert math.isnan(found.pearson.value)
    assert found.concordance.value == 0
    assert found.icc_consistency.value == pytest.approx(0)


def test_raters_who_differ_by_an_offset_alone_are_consistent_and_do_not_agree():
    ratings = np.array([[1.0, 3.0], [2.0, 4.0], [4.0, 6.0]])
    assert icc_consistency(ratings) == (1, 1, 1)
    assert icc_agreement(ratings).value == pytest.approx(7 / 3 * 2 / (7 / 3 * 2 + 2 * 6 / 3))


def test_cases_that_do_not_differ_have_no_agreement():
    value, low, high = icc_agreement(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]))
    assert value == 0
    assert np.isnan((low, high)).all()


def test_two_and_three_cases_have_values_but_not_every_interval():
    two = agreement_of(truth=[1.0, 2.0], prediction=[1.5, 2.5])
    assert two.bland_altman.bias.value == 0.5
    assert math.isnan(two.bland_altman.proportional.low)
    assert math.isnan(two.concordance.low)
    three = agreement_of(truth=[1.0, 2.0, 4.0], prediction=[1.0, 3.0, 4.0])
    assert math.isnan(three.pearson.low)
    assert not math.isnan(three.concordance.low)


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        ([1.0, 2.0], [1.0], "2 true and 1 predicted"),
        ([1.0], [1.0], "1 cases cannot be told"),
        ([1.0, math.nan], [1.0, 2.0], "no finite number"),
    ],
)
def test_values_that_are_no_pairs_are_refused(truth, prediction, words):
    with pytest.raises(InputError, match=words):
        agreement_of(truth=truth, prediction=prediction)


def test_a_table_without_two_raters_or_with_gaps_is_refused():
    with pytest.raises(InputError, match="two or more cases and raters"):
        icc_agreement(np.ones((3, 1)))
    with pytest.raises(InputError, match="rating is no finite number"):
        icc_consistency(np.array([[1.0, 2.0], [math.inf, 3.0]]))


def test_measures_are_plain_numbers():
    measures = agreement_of(truth=MINI, prediction=WRIGHT).measures
    assert {"icc_2_1_low", "bias", "upper_limit_high", "proportional_bias"} <= set(measures)
    assert all(type(value) in (int, float) for value in measures.values())
