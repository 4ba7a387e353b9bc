"""Lesion-wise scores against a plain account of the BraTS rules, hand counts and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segjax.data.io.formats import read_label
from segjax.errors import InputError
from segjax.evaluate.lesionwise import BRATS_2023, LesionwiseRule, lesionwise_scores
from tests.peers import surface_distance

CUBE = (1.0, 1.0, 1.0)
EVERY = np.ones((3, 3, 3))
ANY_SIZE = LesionwiseRule(dilation=1, min_volume=0)


def blobs(seed, shape=(14, 13, 12), count=5):
    """Return a mask of boxes, and one that lost, moved and gained some."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *shape), bool)
    for _ in range(count):
        start, edges = rng.integers(0, np.array(shape) - 3), rng.integers(1, 4, 3)
        for mask, kept in zip(masks, rng.random(2) < 0.8, strict=True):
            if kept:
                moved = start + rng.integers(0, 2, 3)
                mask[tuple(slice(a, a + n) for a, n in zip(moved, edges, strict=True))] = True
    return masks


def plain(truth, prediction, rule, spacing, hd95):
    """Score as the challenge's paper tells: over whole images, one lesion after another."""
    reach = ndimage.generate_binary_structure(3, 2)

    def grown(mask):
        return ndimage.binary_dilation(mask, reach, rule.dilation) if rule.dilation else mask

    zones, count = ndimage.label(grown(truth), EVERY)
    components, found = ndimage.label(prediction, EVERY)
    dices, distances, outcomes, hit = [], [], [], set()
    for zone in range(1, count + 1):
        lesion = truth & (zones == zone)
        touching = set(np.unique(components[grown(lesion)])) - {0}
        hit |= touching
        if lesion.sum() * np.prod(spacing) <= rule.min_volume:
            continue
        guess = np.isin(components, list(touching))
        dices.append(2 * (lesion & guess).sum() / (lesion.sum() + guess.sum()))
        distances.append(hd95(lesion, guess) if touching else rule.worst_mm)
        outcomes.append(bool(touching))
    false = found - len(hit)
    total = len(dices) + false
    return {
        "lesionwise_dice": sum(dices) / total if total else 1,
        "lesionwise_hd95_mm": (sum(distances) + false * rule.worst_mm) / total if total else 0,
        "lesionwise_true_positives": sum(outcomes),
        "lesionwise_false_negatives": len(outcomes) - sum(outcomes),
        "lesionwise_false_positives": false,
    }


def scores(truth, prediction, rule=ANY_SIZE, spacing=CUBE, **options):
    return lesionwise_scores(
        truth=truth, prediction=prediction, spacing=spacing, rule=rule, **options
    )


def surface_hd95(spacing):
    def hd95(one, other):
        distances = surface_distance.compute_surface_distances(one, other, spacing)
        return surface_distance.compute_robust_hausdorff(distances, 95)

    return hd95


rules = st.builds(LesionwiseRule, st.integers(0, 3), st.sampled_from([0.0, 4.0, 20.0]))
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=25)
@given(seeds, rules)
def test_dice_and_counts_equal_the_plain_account(seed, rule):
    truth, prediction = blobs(seed)
    expected = plain(truth, prediction, rule, CUBE, lambda one, other: 0)
    found = scores(truth, prediction, rule).measures
    del expected["lesionwise_hd95_mm"], found["lesionwise_hd95_mm"]
    assert found == pytest.approx(expected)


def test_a_missed_and_an_invented_lesion_cost_the_worst():
    truth, prediction = np.zeros((2, 30, 30, 30), bool)
    truth[2:6, 2:6, 2:6] = truth[20:24, 20:24, 20:24] = True
    prediction[2:6, 2:6, 2:6] = prediction[2:4, 24, 2] = True
    found = scores(truth, prediction, "glioma")
    assert (found.true_positives, found.false_negatives, found.false_positives) == (1, 1, 1)
    assert (found.dice, found.hd95_mm) == (pytest.approx(1 / 3), pytest.approx(2 * 374 / 3))
    assert [lesion.components for lesion in found.lesions] == [1, 0]


def test_distances_are_in_mm():
    truth, prediction = np.zeros((2, 12, 12, 12), bool)
    truth[2:6, 2:6, 2:6] = prediction[2:6, 2:6, 4:8] = True
    near = scores(truth, prediction).hd95_mm
    far = scores(truth, prediction, spacing=(3.0, 3.0, 3.0)).hd95_mm
    assert near == pytest.approx(2, abs=0.1)
    assert far == pytest.approx(3 * near, rel=1e-6)


def test_lesions_that_grow_together_are_one():
    truth = np.zeros((12, 12, 12), bool)
    truth[2:4, 2:4, 2:4] = truth[2:4, 2:4, 6:8] = True  # two voxels apart
    assert len(scores(truth, truth, LesionwiseRule(1, 0)).lesions) == 1
    assert len(scores(truth, truth, LesionwiseRule(0, 0)).lesions) == 2
    assert scores(truth, truth).dice == 1


def test_lesions_do_not_grow_together_outside_of_the_image():
    truth = np.zeros((1, 12, 12), bool)
    truth[0, 2, 2] = truth[0, 2, 8] = True
    assert len(scores(truth, truth, LesionwiseRule(2, 0)).lesions) == 2


def test_a_prediction_beside_a_lesion_is_its_own_without_any_overlap():
    truth, prediction = np.zeros((2, 9, 9, 9), bool)
    truth[2:4, 2:4, 2:4] = prediction[4:6, 2:4, 2:4] = True
    found = scores(truth, prediction)
    assert (found.true_positives, found.false_positives, found.dice) == (1, 0, 0)
    assert found.hd95_mm < 374


def test_small_lesions_count_in_nothing_and_neither_do_predictions_that_touch_them():
    truth = np.zeros((12, 12, 12), bool)
    truth[2:4, 2:4, 2:4] = True  # 8 mm³
    found = scores(truth, truth, LesionwiseRule(1, 8))
    assert (found.dice, found.hd95_mm) == (1, 0)
    assert found.true_positives == found.false_positives == 0
    assert [lesion.counts for lesion in found.lesions] == [False]
    assert scores(truth, truth, LesionwiseRule(1, 7.9)).true_positives == 1


def test_a_small_false_positive_costs_as_much_as_a_large_one():
    truth, prediction = np.zeros((2, 12, 12, 12), bool)
    prediction[5, 5, 5] = True
    found = scores(truth, prediction, "metastases")
    assert (found.dice, found.hd95_mm, found.false_positives) == (0, 374, 1)


def test_two_empty_masks_are_perfect():
    nothing = np.zeros((5, 5, 5), bool)
    found = scores(nothing, nothing, "glioma")
    assert (found.dice, found.hd95_mm, found.lesions) == (1, 0, ())


def test_rules_of_the_tasks_are_those_published():
    assert {name: (one.dilation, one.min_volume) for name, one in BRATS_2023.items()} == {
        "glioma": (3, 50),
        "sub-saharan-africa": (3, 50),
        "pediatrics": (3, 50),
        "meningioma": (1, 50),
        "metastases": (1, 2),
    }


@settings(max_examples=8)
@given(seeds)
def test_scores_lie_in_range_and_are_the_same_of_flipped_images(seed):
    pair = blobs(seed)
    found = scores(*pair)
    assert 0 <= found.dice <= 1
    assert 0 <= found.hd95_mm <= 374
    assert scores(*pair[:, ::-1, :, ::-1]).measures == pytest.approx(found.measures)
    turned = scores(*pair.transpose(0, 3, 1, 2))
    assert turned.measures == pytest.approx(found.measures)
    assert scores(pair[0], pair[0]).dice == 1


def test_affines_and_slices_are_scored_too():
    truth, prediction = blobs(3)
    affine = np.diag([1.0, -1.0, 2.0, 1.0])
    other = scores(truth, prediction, spacing=affine)
    assert other.measures == pytest.approx(scores(truth, prediction, spacing=(1, 1, 2)).measures)
    flat = scores(truth[5], truth[5], spacing=(1.0, 1.0))
    assert flat.dice == 1


def test_another_label_is_scored_alone():
    truth, prediction = blobs(4)
    expected = scores(truth, prediction).measures
    assert scores(truth * 3, prediction * 3, label=3).measures == expected
    assert scores(truth * 3, prediction * 3).measures["lesionwise_dice"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "gliom"}, "did you mean 'glioma'"),
        ({"spacing": (1.0, 1.0)}, "3 edges"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        scores(*blobs(0), **options)


def test_other_shapes_and_impossible_rules_are_refused():
    with pytest.raises((InputError, TypeError), match=r"differ in shape|spatial"):
        scores(np.zeros((3, 4, 5), bool), np.zeros((3, 5, 4), bool))
    with pytest.raises(InputError, match="dilation is -1"):
        LesionwiseRule(dilation=-1)


@pytest.mark.peer("surface_distance")
@pytest.mark.parametrize("spacing", [CUBE, (0.5, 1.0, 3.0)])
def test_scores_equal_the_plain_account_with_surface_distance(spacing):
    for seed in range(100):
        truth, prediction = blobs(seed)
        rule = LesionwiseRule(1 + seed % 3, (0, 5, 20)[seed % 3])
        expected = plain(truth, prediction, rule, spacing, surface_hd95(spacing))
        found = scores(truth, prediction, rule, spacing).measures
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.peer("surface_distance")
def test_scores_of_real_masks_equal_the_plain_account(data_dir):
    for file in sorted((data_dir / "ms_lesion_masks").glob("*.nii.gz"))[::3]:
        truth = read_label(file).data[70:130, 80:150, 60:100] > 0
        prediction = np.roll(truth, 1, 0) & ~np.roll(truth, 4, 1)
        for name in ("meningioma", "metastases"):
            expected = plain(truth, prediction, BRATS_2023[name], CUBE, surface_hd95(CUBE))
            found = scores(truth, prediction, name).measures
            assert found == pytest.approx(expected, abs=1e-4)
