"""Panoptic quality against hand counts, panoptica and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.formats import read_label
from segjax.errors import InputError
from segjax.evaluate.lesions import LesionRule, match_lesions
from segjax.evaluate.panoptic import panoptic_quality
from tests.peers import Peer

panoptica = Peer("panoptica")

TRUTH = np.array([[1, 1, 1, 1, 0, 0, 1, 1, 0, 1]])
PREDICTION = np.array([[0, 1, 1, 1, 0, 0, 1, 0, 0, 0]])
# lesions of 4, 2 and 1 pixels; overlaps 3/4 and 1/2

masks = st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 0.4), st.floats(0, 0.4)).map(
    lambda drawn: blobs(drawn[0], (8, 9, 7), drawn[1], drawn[2])
)
few = settings(max_examples=25)


def blobs(seed, shape, share=0.05, more=0.05):
    """Return two masks that have much in common."""
    rng = np.random.default_rng(seed)
    common = rng.random(shape) < share
    common |= np.roll(common, 1, 0) | np.roll(common, 1, 1)
    return tuple(common ^ (rng.random(shape) < more * part) for part in (0.3, 1))


def quality(truth, prediction, **options):
    return panoptic_quality(truth=truth, prediction=prediction, **options)


def test_quality_equals_the_hand_count():
    found = quality(TRUTH, PREDICTION)
    assert found.overlaps == (0.75,)
    assert (found.true_positives, found.false_negatives, found.false_positives) == (1, 2, 1)
    assert found.recognition_quality == 1 / 2.5
    assert found.quality == pytest.approx(0.75 / 2.5)


def test_a_pair_overlaps_by_more_than_the_threshold():
    assert quality(TRUTH, PREDICTION, threshold=0.5).true_positives == 1
    assert quality(TRUTH, PREDICTION, threshold=0.49).overlaps == (0.75, 0.5)
    assert quality(TRUTH, TRUTH, threshold=0.99).quality == 1


def test_below_one_half_the_pair_that_overlaps_most_is_taken():
    truth = np.array([[1, 1, 1, 1, 1, 1, 1]])
    prediction = np.array([[1, 1, 0, 1, 1, 1, 0]])
    found = quality(truth, prediction, threshold=0.1)
    assert found.overlaps == (3 / 7,)
    assert found.false_positives == 1


def test_two_empty_masks_are_perfect_and_one_is_worthless():
    nothing, something = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert set(list(quality(nothing, nothing).measures.values())[:3]) == {1.0}
    for pair in ((nothing, something), (something, nothing)):
        found = quality(*pair)
        assert found.quality == found.recognition_quality == found.segmentation_quality == 0


def test_neighbours_decide_what_a_lesion_is():
    diagonal = np.eye(3, dtype=bool)
    assert quality(diagonal, diagonal).true_positives == 1
    assert quality(diagonal, diagonal, axes_at_once=1).true_positives == 3


def test_another_label_is_compared_alone():
    assert quality(TRUTH * 3, PREDICTION * 3, label=3).overlaps == (0.75,)
    assert quality(TRUTH * 3, PREDICTION * 3).quality == 1  # label 1 is nowhere


@few
@given(masks)
def test_quality_is_a_product_in_range_and_symmetric(pair):
    found = quality(*pair)
    assert 0 <= found.quality <= min(found.recognition_quality, found.segmentation_quality)
    assert found.overlaps == () or min(found.overlaps) > 0.5
    back = quality(*reversed(pair))
    assert back.quality == pytest.approx(found.quality)
    assert back.false_negatives == found.false_positives


@few
@given(masks)
def test_quality_is_the_same_of_flipped_and_turned_images(pair):
    expected = quality(*pair)
    for turn in (lambda mask: mask[::-1, :, ::-1], lambda mask: mask.transpose(2, 0, 1)):
        assert quality(*map(turn, pair)).measures == pytest.approx(expected.measures)


@few
@given(masks)
def test_at_threshold_zero_no_more_lesions_are_paired_than_touch(pair):
    truth, prediction = pair
    spacing, rule = (1.0, 1.0, 1.0), LesionRule()
    match = match_lesions(truth=truth, prediction=prediction, spacing=spacing, rule=rule)
    found = quality(*pair, threshold=0)
    assert found.true_positives <= match.found
    assert found.true_positives + found.false_negatives == match.true_lesions


def test_masks_of_other_shapes_and_impossible_thresholds_are_refused():
    with pytest.raises(InputError, match="threshold is 1"):
        quality(TRUTH, PREDICTION, threshold=1)
    with pytest.raises((InputError, TypeError), match=r"differ in shape|spatial"):
        quality(TRUTH, PREDICTION.T)


def by_panoptica(truth, prediction):
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(strict_threshold=True),
    )
    result = evaluator.evaluate(prediction.astype(np.uint8), truth.astype(np.uint8), verbose=False)
    return result["ungrouped"]


def check_against_panoptica(truth, prediction):
    expected, found = by_panoptica(truth, prediction), quality(truth, prediction)
    counts = (found.true_positives, found.false_negatives, found.false_positives)
    assert counts == (expected.tp, expected.fn, expected.fp)
    assert found.quality == pytest.approx(expected.pq, abs=1e-6)
    assert found.recognition_quality == pytest.approx(expected.rq, abs=1e-6)
    if found.overlaps:
        assert found.segmentation_quality == pytest.approx(expected.sq, abs=1e-6)


@pytest.mark.peer("panoptica")
def test_quality_equals_panoptica_on_random_masks():
    for seed in range(200):
        truth, prediction = blobs(seed, (9, 10, 8), 0.02, 0.02)
        if truth.any() and prediction.any():
            check_against_panoptica(truth, prediction)


@pytest.mark.peer("panoptica")
def test_quality_equals_panoptica_on_real_masks(data_dir):
    files = sorted((data_dir / "ms_lesion_masks").glob("*.nii.gz"))
    for file in files:
        mask = read_label(file).data > 0
        truth = mask[tuple(slice(40, -40) for _ in mask.shape)]
        prediction = truth & np.roll(truth, 1, 0) | np.roll(truth, 2, 1) & truth
        check_against_panoptica(truth, prediction)
