"""Calibration against plain loops, scikit-learn and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.evaluate.calibration import Calibration, calibration_of
from tests.peers import Peer

sklearn_calibration = Peer("sklearn.calibration", "sklearn")
sklearn_metrics = Peer("sklearn.metrics", "sklearn")

few = settings(max_examples=25)
maps = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).random((4, 5, 3)),
        np.random.default_rng(seed + 1).integers(0, 2, (4, 5, 3)),
    )
)


def measured(probability, truth, **options):
    return calibration_of(truth=truth, probability=probability, **options)


def plain(probability, truth, bins):
    """Return the errors voxel by voxel and bin by bin."""
    held = [[] for _ in range(bins)]
    for p, t in zip(probability.ravel().tolist(), truth.ravel().tolist(), strict=True):
        own = [n for n in range(bins) if n / bins <= p < (n + 1) / bins]
        held[own[0] if own else bins - 1].append((p, t))
    gaps = [abs(np.mean([t - p for p, t in one])) if one else 0 for one in held]
    weights = [len(one) for one in held]
    return np.dot(gaps, weights) / sum(weights), max(gaps)


@few
@given(maps, st.integers(1, 20))
def test_errors_equal_a_plain_loop(pair, bins):
    probability, truth = pair
    found = measured(probability, truth, bins=bins)
    assert (found.expected_error, found.maximum_error) == pytest.approx(
        plain(probability, truth, bins)
    )
    assert found.brier_score == pytest.approx(np.mean((probability - truth) ** 2))


@few
@given(maps)
def test_errors_lie_in_range_and_do_not_depend_on_the_place(pair):
    found = measured(*pair)
    assert 0 <= found.expected_error <= found.maximum_error <= 1
    assert 0 <= found.brier_score <= 1
    flipped = measured(pair[0][::-1], pair[1][::-1])
    assert flipped.measures == pytest.approx(found.measures)


@few
@given(maps)
def test_cases_add_up_to_what_they_are_together(pair):
    probability, truth = pair
    parts = [measured(p[None], t[None]) for p, t in zip(probability, truth, strict=True)]
    whole = sum(parts, Calibration.empty())
    assert whole.measures == pytest.approx(measured(probability, truth).measures)


def test_the_mirrored_problem_is_calibrated_alike():
    rng = np.random.default_rng(0)
    probability, truth = rng.random(500) * 0.999 + 0.0005, rng.integers(0, 2, 500)
    found, mirrored = measured(probability, truth), measured(1 - probability, 1 - truth)
    assert mirrored.measures == pytest.approx(found.measures)


def test_the_curve_equals_the_hand_count():
    probability = np.array([0.0, 0.1, 0.25, 0.5, 1.0])
    found = measured(probability, np.array([0, 1, 1, 0, 1]), bins=4)
    first, second, third, last = found.curve
    assert (first.low, first.high, first.voxels, first.share) == (0, 0.25, 2, 0.5)
    assert first.probability == pytest.approx(0.05)
    assert (second.voxels, second.probability, second.share) == (1, 0.25, 1)
    assert (third.voxels, third.share) == (1, 0)
    assert (last.voxels, last.probability, last.share) == (1, 1, 1)
    assert found.maximum_error == 0.75
    assert found.expected_error == pytest.approx((2 * 0.45 + 0.75 + 0.5 + 0) / 5)


@pytest.mark.parametrize("bins", [10, 15, 100])
def test_every_bin_holds_its_lower_edge(bins):
    edges = np.arange(bins) / bins
    assert (measured(edges, np.zeros(bins, int), bins=bins).voxels == 1).all()


def test_empty_bins_have_no_point_and_no_error():
    found = measured(np.array([0.9, 0.9]), np.array([1, 1]), bins=2)
    assert math.isnan(found.curve[0].share)
    assert math.isnan(found.curve[0].probability)
    assert found.expected_error == pytest.approx(0.1)


def test_probabilities_that_mean_what_they_say_have_no_error():
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    truth = (rng.random(200_000) < probability).astype(int)
    found = measured(probability, truth)
    assert found.expected_error < 0.01
    assert found.brier_score == pytest.approx(1 / 6, abs=0.01)  # mean of p (1 - p)
    assert measured(probability**3, truth).expected_error > 0.2


def test_a_region_leaves_out_the_background_that_is_always_right():
    probability, truth = np.zeros((10, 10)), np.zeros((10, 10), int)
    probability[:2, :2] = 0.8
    head = np.zeros((10, 10), bool)
    head[:2, :2] = True
    assert measured(probability, truth, region=head).expected_error == pytest.approx(0.8)
    assert measured(probability, truth).expected_error == pytest.approx(0.032)


def test_another_label_is_looked_at():
    probability, truth = np.array([0.2, 0.9]), np.array([1, 2])
    assert measured(probability, truth, label=2).brier_score == pytest.approx(0.025)


def test_single_precision_beyond_one_is_rounding():
    assert measured(np.array([1.0000001], np.float32), np.array([1])).brier_score == 0


def test_no_voxel_tells_nothing():
    nothing = np.zeros(2, bool)
    found = measured(np.array([0.1, 0.2]), np.array([0, 1]), region=nothing)
    assert found.total == 0
    values = (found.expected_error, found.maximum_error, found.brier_score)
    assert np.isnan(values).all()


@pytest.mark.parametrize("odd", [1.5, -0.1, math.nan])
def test_what_is_no_probability_is_refused(odd):
    with pytest.raises(InputError, match="from 0 to 1"):
        measured(np.array([odd]), np.array([1]))


def test_other_grids_and_numbers_of_bins_are_refused():
    with pytest.raises((InputError, TypeError), match=r"differ in shape|spatial"):
        measured(np.zeros((2, 3)), np.zeros((3, 2), int))
    with pytest.raises(InputError, match="5 and 15 bins"):
        Calibration.empty(5) + Calibration.empty()
    with pytest.raises(InputError, match="bins is 0"):
        Calibration.empty(0)


@pytest.mark.peer("sklearn")
def test_curve_and_brier_score_equal_scikit_learn():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        probability, truth = rng.random(300), rng.integers(0, 2, 300)
        found = measured(probability, truth, bins=10)
        shares, means = sklearn_calibration.calibration_curve(truth, probability, n_bins=10)
        points = [one for one in found.curve if one.voxels]
        assert [one.share for one in points] == pytest.approx(shares.tolist())
        assert [one.probability for one in points] == pytest.approx(means.tolist())
        expected = sklearn_metrics.brier_score_loss(truth, probability)
        assert found.brier_score == pytest.approx(expected)


def test_measures_are_plain_numbers():
    measures = measured(np.array([0.2, 0.9]), np.array([0, 1])).measures
    assert all(type(value) in (int, float) for value in measures.values())
