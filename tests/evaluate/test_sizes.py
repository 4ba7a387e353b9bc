"""Detection by size and Dice by load against hand counts, SciPy and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segjax.errors import InputError
from segjax.evaluate.lesions import Lesion, LesionMatch, LesionRule, match_lesions
from segjax.evaluate.sizes import detection_by_size, dice_by_load, sphere_mm3
from segjax.evaluate.statistics import wilson_interval


def lesions(*pairs):
    return tuple(Lesion(1, float(size), (0.0, 0.0, 0.0), matched=found) for size, found in pairs)


def case(truth, prediction, rank=3):
    return LesionMatch(lesions(*truth), lesions(*prediction), 0.0, 0.0, rank)


def row(name, load, dice, unit="ml", label="lesion"):
    sizes = {f"truth_{unit}": load, f"prediction_{unit}": 1.0}
    return {"case": name, "label": label, "dice": dice, **sizes}


ROWS = [
    row("a", 20.0, 0.8),
    row("b", 1.0, 0.3),
    row("c", 5.0, 0.6),
    row("d", 0.0, 0.0),
    row("e", 9.0, 0.7),
    row("f", 2.0, 0.5),
]
CASES = [
    case([(120, True), (9.9, False), (3, True)], [(100, True), (2, False)]),
    case([(10, False), (99, True)], [(50, True), (11, False), (5, True)]),
]


def test_lesions_are_counted_by_the_class_of_their_own_size():
    small, middle, large = detection_by_size(CASES)
    assert (small.low, small.high, large.high) == (0, 10, math.inf)
    assert [(one.true_lesions, one.found_lesions) for one in (small, middle, large)] == [
        (2, 1),
        (2, 1),  # of 10 and 99 mm³
        (1, 1),
    ]
    assert [(one.predicted_lesions, one.false_lesions) for one in (small, middle, large)] == [
        (2, 1),
        (2, 1),
        (1, 0),
    ]
    assert small.sensitivity == wilson_interval(1, 2)
    assert large.precision == wilson_interval(1, 1)


def test_a_class_without_lesions_cannot_be_told():
    (only, empty) = detection_by_size(CASES, edges=(1000.0,))
    assert only.true_lesions == 5
    assert np.isnan(empty.sensitivity).all()
    assert np.isnan(empty.precision).all()


def test_the_least_diameter_of_guidelines_is_a_volume():
    assert sphere_mm3(3) == pytest.approx(14.1, abs=0.05)
    ball = sum(
        (x * x + y * y + z * z) <= 30**2
        for x in range(-30, 31)
        for y in range(-30, 31)
        for z in range(-30, 31)
    )
    assert sphere_mm3(60) == pytest.approx(ball, rel=0.01)


@pytest.mark.parametrize("edges", [(10, 10), (100, 10), (0, 10), (-1,)])
def test_edges_that_do_not_grow_are_refused(edges):
    with pytest.raises(InputError, match="each above the last"):
        detection_by_size(CASES, edges=edges)


def test_slices_among_volumes_are_refused():
    with pytest.raises(InputError, match="no common size"):
        detection_by_size([*CASES, case([], [], rank=2)])


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.5, 50), max_size=3, unique=True))
def test_classes_hold_every_lesion_once(seed, edges):
    masks = np.random.default_rng(seed).random((2, 6, 6, 5)) < 0.15
    match = match_lesions(
        truth=masks[0], prediction=masks[1], spacing=(1, 1, 2.5), rule=LesionRule(6)
    )
    classes = detection_by_size([match, match], edges=sorted(edges))
    assert sum(one.true_lesions for one in classes) == 2 * match.true_lesions
    assert sum(one.found_lesions for one in classes) == 2 * match.found
    assert sum(one.predicted_lesions for one in classes) == 2 * match.predicted_lesions
    assert sum(one.false_lesions for one in classes) == 2 * match.false_positives


def test_dice_is_related_to_the_load_of_cases_that_have_one():
    trend = dice_by_load(ROWS, bins=2)
    assert trend.cases == ("b", "f", "c", "e", "a")
    assert trend.loads == (1, 2, 5, 9, 20)
    assert trend.dice == (0.3, 0.5, 0.6, 0.7, 0.8)
    assert (trend.unit, trend.spearman.value) == ("ml", 1)
    first, second = trend.bins
    assert (first.low, first.high, first.cases, first.dice.value) == (
        1,
        5,
        3,
        pytest.approx(1.4 / 3),
    )
    assert (second.low, second.high, second.cases, second.dice.value) == (9, 20, 2, 0.75)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 5))
def test_bins_part_the_cases_evenly_and_the_correlation_equals_scipy(seed, count, bins):
    rng = np.random.default_rng(seed)
    loads, dice = rng.random(count) + 0.1, rng.random(count)
    trend = dice_by_load(
        [row(str(n), *pair) for n, pair in enumerate(zip(loads, dice, strict=True))], bins=bins
    )
    assert len(trend.bins) == min(bins, count)
    assert sum(one.cases for one in trend.bins) == count
    assert np.ptp([one.cases for one in trend.bins]) <= 1
    assert trend.spearman.value == pytest.approx(stats.spearmanr(loads, dice).statistic)


def test_tumours_of_slices_are_sized_in_pixels():
    trend = dice_by_load([row("a", 30, 0.8, "voxels"), row("b", 10, 0.4, "voxels")])
    assert (trend.unit, trend.loads) == ("voxels", (10, 30))


def test_healthy_cases_alone_have_no_trend():
    trend = dice_by_load([row("d", 0.0, 0.0)])
    assert (trend.cases, trend.bins) == ((), ())
    assert math.isnan(trend.spearman.value)
    assert dice_by_load([]).cases == ()


@pytest.mark.parametrize(
    ("rows", "bins", "words"),
    [
        ([*ROWS, row("a", 1.0, 0.5, label="edema")], 3, "labels edema, lesion"),
        ([*ROWS, row("a", 1, 0.5, "voxels")], 3, "no common load"),
        (ROWS, 0, "bins is 0"),
    ],
)
def test_rows_that_cannot_be_related_are_refused(rows, bins, words):
    with pytest.raises(InputError, match=words):
        dice_by_load(rows, bins=bins)


def test_measures_are_plain_numbers():
    trend = dice_by_load(ROWS)
    for one in (trend, trend.bins[0], detection_by_size(CASES)[0]):
        assert all(type(value) in (int, float) for value in one.measures.values())
