"""Lesions against hand counts, a flood fill, SimpleITK and properties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.evaluate.lesions import Lesion, LesionRule, match_lesions, outcome_maps, rates
from segjax.registry import registry

CUBE = (1.0, 1.0, 1.0)
TRUTH = np.array(
    [
        [1, 1, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 2],
        [1, 0, 0, 1, 0, 2],
    ]
)
PREDICTION = np.array(
    [
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 1],
    ]
)
# value 1: true lesions of 3, 1, 2 (diagonal) and 1 pixels; predicted ones of 3, 1, 1 and 1


def flood_fill(mask, connectivity):
    """Return the components as sets of voxels: slow, plain, and by another way than SciPy."""
    most = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=mask.ndim)
        if 0 < np.count_nonzero(step) <= most
    ]
    left, components = {tuple(place) for place in np.argwhere(mask).tolist()}, []
    while left:
        grown, edge = set(), [left.pop()]
        while edge:
            place = edge.pop()
            grown.add(place)
            for step in steps:
                other = tuple(a + b for a, b in zip(place, step, strict=True))
                if other in left:
                    left.remove(other)
                    edge.append(other)
        components.append(grown)
    return components


def anima(own, others, alpha, beta, gamma):
    """Count detected lesions as the MSSEG paper words it, lesion by lesion."""
    everything = set().union(*own)
    detected = 0
    for lesion in own:
        shares = sorted(
            ((len(lesion & other), -len(other - everything) / len(other)) for other in others),
            reverse=True,
        )
        covered = sum(common for common, _ in shares)
        if covered / len(lesion) <= alpha:
            continue
        seen = 0
        for common, outside in shares:
            if -outside > beta:
                break
            seen += common / covered
            if seen > gamma:
                detected += 1
                break
    return detected


pairs = st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 0.4), st.floats(0, 0.4)).map(
    lambda drawn: tuple(
        np.random.default_rng(drawn[0]).random((2, 5, 6, 4))
        < np.array(drawn[1:]).reshape(2, 1, 1, 1)
    )
)
RULES = {name: registry("lesion-rule").get(name) for name in registry("lesion-rule").names()}
rules = st.sampled_from([*RULES.values(), LesionRule(6, 2.5), LesionRule(26, 0, 0.5, 0.3, 0.5)])
fast = settings(max_examples=40, deadline=None)


def matched(truth, prediction, spacing, **options):
    return match_lesions(truth=truth, prediction=prediction, spacing=spacing, **options)


def maps(truth, prediction, spacing, **options):
    return outcome_maps(truth=truth, prediction=prediction, spacing=spacing, **options)


def test_masks_are_given_by_name_so_that_none_is_taken_for_the_other():
    for measure in (match_lesions, outcome_maps):
        with pytest.raises(TypeError):
            measure(TRUTH, PREDICTION, CUBE)


def same(first, second):
    return first == second or (math.isnan(first) and math.isnan(second))


def test_counts_equal_the_hand_count():
    match = matched(TRUTH, PREDICTION, (2.0, 0.5, 5.0))
    assert (match.true_lesions, match.found, match.missed) == (4, 2, 2)
    assert (match.predicted_lesions, match.false_positives) == (4, 2)
    assert (match.sensitivity, match.precision, match.f1) == (0.5, 0.5, 0.5)
    assert [lesion.size for lesion in match.truth] == [15.0, 10.0, 5.0, 5.0]  # mm³
    assert (match.truth_ml, match.prediction_ml) == (0.035, 0.03)


def test_lesions_are_described_and_the_largest_comes_first():
    match = matched(TRUTH, PREDICTION, (1.0, 1.0))
    assert match.truth[0] == Lesion(3, 3.0, (1 / 3, 1 / 3), matched=True)
    assert match.truth[1] == Lesion(2, 2.0, (3.5, 2.5), matched=True)
    assert sorted(lesion.centre for lesion in match.truth[2:]) == [(0.0, 5.0), (4.0, 0.0)]
    assert [lesion.matched for lesion in match.truth[2:]] == [False, False]
    assert match.prediction[0] == Lesion(3, 3.0, (0.0, 2.0), matched=True)


def test_areas_have_no_volume():
    match = matched(TRUTH, PREDICTION, (2.0, 0.5))
    assert (match.rank, match.truth_size, match.prediction_size) == (2, 7.0, 6.0)
    assert math.isnan(match.truth_ml)
    assert math.isnan(match.prediction_ml)


def test_sizes_on_a_sheared_grid_are_not_the_product_of_edges():
    sheared = np.eye(4)
    sheared[:3, 2] = (0, 1.5, 3)  # a voxel of 3 mm³ with edges of 1, 1 and 3.354 mm
    mask = np.zeros((4, 4, 6), np.uint8)
    mask[0, 0, :5] = 1
    match = matched(mask, mask, sheared)
    assert match.truth[0].size == match.truth_size == pytest.approx(15)
    assert match.truth_ml == pytest.approx(0.015)
    large = LesionRule(min_volume=15.5)
    assert matched(mask, mask, sheared, rule=large).true_lesions == 0
    assert maps(mask, mask, sheared, rule=large)[0].max() == 3
    assert maps(mask, mask, sheared, rule=LesionRule(min_volume=15))[0].max() == 1


@pytest.mark.parametrize(
    ("affine", "rank", "size"),
    [(np.diag([2.0, 0.5, 1.0]), 2, 1.0), (np.diag([2.0, 0.5, 5.0, 1.0]), 3, 5.0)],
)
def test_slices_have_areas_or_volumes_by_their_affine(affine, rank, size):
    match = matched(np.eye(1, dtype=bool), np.eye(1, dtype=bool), affine)
    assert (match.rank, match.truth_size) == (rank, pytest.approx(size))


def test_connectivity_decides_whether_diagonal_pixels_are_one_lesion():
    assert matched(TRUTH, PREDICTION, CUBE, rule=LesionRule(8)).true_lesions == 4
    assert matched(TRUTH, PREDICTION, CUBE, rule=LesionRule(4)).true_lesions == 5


def test_other_labels_are_left_alone():
    match = matched(TRUTH, PREDICTION, CUBE, label=2)
    assert (match.true_lesions, match.missed, match.predicted_lesions) == (1, 1, 0)


def test_small_lesions_are_taken_out_of_both_masks_but_not_out_of_the_load():
    match = matched(TRUTH, PREDICTION, CUBE, rule=LesionRule(min_volume=2.0))
    assert [lesion.voxels for lesion in match.truth] == [3, 2]
    assert [lesion.voxels for lesion in match.prediction] == [3]
    assert [lesion.matched for lesion in match.truth] == [True, False]  # by a speck, which is none
    assert (match.truth_size, match.prediction_size) == (7, 6)


def test_a_lesion_of_exactly_the_minimum_counts():
    spacing = (0.1, 0.3, 0.7)  # whose product is no binary fraction
    mask = np.ones((1, 1, 7), bool)
    least = 7 * 0.021
    assert matched(mask, mask, spacing, rule=LesionRule(min_volume=least)).found == 1
    more = LesionRule(min_volume=least * 1.001)
    assert matched(mask, mask, spacing, rule=more).true_lesions == 0


def test_a_share_of_a_lesion_must_be_covered():
    truth, prediction = np.zeros((2, 1, 12), bool)
    truth[0, :10] = True
    prediction[0, :2] = True
    for overlap, found in ((0.0, 1), (0.19, 1), (0.2, 0), (0.5, 0)):
        match = matched(truth, prediction, CUBE, rule=LesionRule(overlap=overlap))
        assert (match.found, match.false_positives) == (found, 0)


def test_a_prediction_that_floods_everything_finds_nothing_by_the_rule_of_msseg():
    truth, prediction = np.zeros((2, 12, 12, 12), bool)
    truth[2:4, 2:4, 2:4] = truth[8:10, 8:10, 8:10] = True
    prediction[...] = True  # 16 voxels right, 99 % outside
    flooded = matched(truth, prediction, CUBE, rule=RULES["msseg-2016"])
    assert (flooded.found, flooded.false_positives, flooded.f1) == (0, 1, 0)
    assert matched(truth, prediction, CUBE).found == 2


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_empty_masks_have_ratios_only_where_there_is_something_to_count(shape, rule):
    nothing, something = np.zeros(shape, bool), np.zeros(shape, bool)
    something[1:3, 1:3] = True
    rule = LesionRule() if len(shape) == 2 else rule
    missed = matched(something, nothing, CUBE, rule=rule)
    assert (missed.sensitivity, missed.f1, missed.missed) == (0, 0, 1)
    assert math.isnan(missed.precision)
    invented = matched(nothing, something, CUBE, rule=rule)
    assert (invented.precision, invented.f1, invented.false_positives) == (0, 0, 1)
    assert math.isnan(invented.sensitivity)
    neither = matched(nothing, nothing, CUBE, rule=rule)
    assert all(math.isnan(v) for v in (neither.sensitivity, neither.precision, neither.f1))
    assert (neither.truth, neither.prediction, neither.truth_ml) == ((), (), 0)


def test_ratios_of_counts():
    assert rates(4, 3, 2, 1) == pytest.approx((0.75, 0.5, 0.6))
    assert rates(3, 0, 2, 2) == (0, 0, 0)


@fast
@given(pairs, st.sampled_from([6, 18, 26]))
def test_counts_equal_a_flood_fill(pair, connectivity):
    truth, prediction = (flood_fill(mask, connectivity) for mask in pair)
    match = matched(*pair, (1.0, 2.0, 3.0), rule=LesionRule(connectivity))
    guessed = set().union(*prediction)
    real = set().union(*truth)
    assert [x.voxels for x in match.truth] == sorted(map(len, truth), reverse=True)
    assert [x.size for x in match.prediction] == [
        6.0 * n for n in sorted(map(len, prediction), reverse=True)
    ]
    assert match.found == sum(bool(lesion & guessed) for lesion in truth)
    assert match.false_positives == sum(not lesion & real for lesion in prediction)


@fast
@given(pairs)
def test_the_rule_of_msseg_equals_its_wording(pair):
    truth, prediction = (flood_fill(mask, 18) for mask in pair)
    match = matched(*pair, CUBE, rule=RULES["msseg-2016"])
    assert match.found == anima(truth, prediction, 0.1, 0.7, 0.65)
    true = match.predicted_lesions - match.false_positives
    assert true == anima(prediction, truth, 0.1, 0.7, 0.65)


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_recall_and_f1_equal_those_of_simpleitk_as_in_the_wmh_challenge(pair):
    sitk = pytest.importorskip("SimpleITK")
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair]
    connected = [sitk.ConnectedComponent(image, True) for image in images]
    totals = [int(sitk.GetArrayViewFromImage(image).max()) for image in connected]
    touched = [
        len(set(sitk.GetArrayFromImage(sitk.Mask(labels, other)).ravel()) - {0})
        for labels, other in zip(connected, images[::-1], strict=True)
    ]
    match = matched(*pair, CUBE)
    assert [match.true_lesions, match.predicted_lesions] == totals
    assert [match.found, match.predicted_lesions - match.false_positives] == touched


@fast
@given(pairs, rules)
def test_a_perfect_prediction_misses_and_invents_nothing(pair, rule):
    match = matched(pair[0], pair[0], CUBE, rule=rule)
    assert match.missed == match.false_positives == 0
    wanted = 1.0 if match.true_lesions else math.nan
    assert all(same(v, wanted) for v in (match.sensitivity, match.precision, match.f1))


@fast
@given(pairs, rules)
def test_swapping_the_masks_swaps_the_roles(pair, rule):
    one = matched(*pair, CUBE, rule=rule)
    other = matched(*reversed(pair), CUBE, rule=rule)
    assert (one.truth, one.prediction) == (other.prediction, other.truth)
    assert same(one.sensitivity, other.precision)
    assert same(one.f1, other.f1)


@fast
@given(pairs, rules, st.sampled_from([(0,), (1, 2), (0, 1, 2)]), st.permutations(range(3)))
def test_flips_and_turns_change_nothing(pair, rule, axes, order):
    turned = [np.flip(mask, axes).transpose(order) for mask in pair]
    one, other = matched(*pair, CUBE, rule=rule), matched(*turned, CUBE, rule=rule)
    for first, second in ((one.truth, other.truth), (one.prediction, other.prediction)):
        facts = [sorted((x.voxels, x.matched) for x in side) for side in (first, second)]
        assert facts[0] == facts[1]


@fast
@given(pairs, rules)
def test_ratios_lie_between_zero_and_one_and_f1_between_the_other_two(pair, rule):
    match = matched(*pair, CUBE, rule=rule)
    known = [v for v in (match.sensitivity, match.precision) if not math.isnan(v)]
    assert all(0 <= v <= 1 for v in known)
    if len(known) == 2:
        assert min(known) - 1e-12 <= match.f1 <= max(known) + 1e-12
    elif known:
        assert match.f1 == known[0] == 0


@fast
@given(pairs, rules)
def test_outcome_maps_mark_the_voxels_of_every_lesion(pair, rule):
    match = matched(*pair, CUBE, rule=rule)
    for mask, outcome, side in zip(
        pair, maps(*pair, CUBE, rule=rule), (match.truth, match.prediction), strict=True
    ):
        np.testing.assert_array_equal(outcome > 0, mask)
        counts = np.bincount(outcome.ravel(), minlength=4)
        assert counts[1] == sum(x.voxels for x in side if x.matched)
        assert counts[2] == sum(x.voxels for x in side if not x.matched)
        assert counts[3] == mask.sum() - sum(x.voxels for x in side)


def test_a_real_head_is_its_own_perfect_prediction(data_dir):
    from segjax.data.io.formats import read_label

    label = read_label(data_dir / "ms_lesions/patient07/lesions.nii.gz")
    moved = np.roll(label.data, 1, axis=0)
    match = matched(label.data, label.data, label.spacing)
    assert match.truth_ml == pytest.approx(1.3)
    assert (match.missed, match.false_positives, match.f1) == (0, 0, 1)
    assert 0 < matched(label.data, moved, label.spacing).f1 < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4), (4, 5), CUBE, 8), r"differ in shape|spatial"),
        (((4,), (4,), CUBE, None), "rank 2 and 3"),
        (((4, 4, 4), (4, 4, 4), (1.0, 1.0), None), "need three positive"),
        (((4, 4, 4), (4, 4, 4), np.eye(3), None), r"an affine of shape \(4, 4\)"),
        (((4, 4), (4, 4), (1.0, 0.0), None), "two or three positive"),
        (((4, 4), (4, 4), CUBE, 26), "in 2D a voxel has 4, 8 neighbours"),
        (((4, 4, 4), (4, 4, 4), CUBE, 8), "in 3D a voxel has 6, 18, 26 neighbours"),
    ],
)
def test_what_cannot_be_matched_is_refused(arguments, message):
    truth, prediction, spacing, connectivity = arguments
    with pytest.raises((InputError, TypeError), match=message):
        matched(
            np.ones(truth, bool), np.ones(prediction, bool), spacing, rule=LesionRule(connectivity)
        )


@pytest.mark.parametrize(
    "wrong", [{"overlap": 1}, {"outside": -0.1}, {"enough": 1.5}, {"min_volume": -1.0}]
)
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        LesionRule(**wrong)
