"""Overlap measures against hand counts, MONAI, surface-distance and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.evaluate import overlap
from segjax.evaluate.overlap import (
    absolute_volume_error,
    dice,
    jaccard,
    overlap_table,
    positive_predictive_value,
    sensitivity,
    specificity,
    volume_error,
    volume_ml,
)
from tests.peers import monai, surface_distance, torch

SHEARED = np.eye(4)
SHEARED[:3, 2] = (0, 1.5, 3)
MEASURES = (dice, jaccard, sensitivity, positive_predictive_value)
TRUTH = np.array([[1, 1, 1], [1, 0, 2], [0, 0, 2]], np.uint8)
PREDICTION = np.array([[1, 1, 0], [0, 1, 2], [0, 0, 1]], np.uint8)
MASKS = {"truth": TRUTH, "prediction": PREDICTION}
# label 1: TP 2, FN 2, FP 2; label 2: TP 1, FN 1, FP 0


def measured(measure, truth, prediction, label=1):
    return measure(truth=truth, prediction=prediction, label=label)


@pytest.mark.parametrize("measure", MEASURES)
def test_masks_are_given_by_name_so_that_none_is_taken_for_the_other(measure):
    with pytest.raises(TypeError):
        measure(TRUTH, PREDICTION)


@pytest.mark.parametrize(
    ("measure", "first", "second"),
    [
        (dice, 4 / 8, 2 / 3),
        (jaccard, 2 / 6, 1 / 2),
        (sensitivity, 2 / 4, 1 / 2),
        (positive_predictive_value, 2 / 4, 1.0),
    ],
)
def test_measures_equal_the_hand_count(measure, first, second):
    assert measured(measure, TRUTH, PREDICTION) == pytest.approx(first)
    assert measured(measure, TRUTH, PREDICTION, 2) == pytest.approx(second)


@pytest.mark.parametrize("measure", MEASURES)
def test_two_empty_masks_are_a_perfect_match(measure):
    nothing = np.zeros((3, 3), bool)
    assert measured(measure, nothing, nothing) == 1


@pytest.mark.parametrize("measure", MEASURES)
def test_one_empty_mask_is_no_match(measure):
    nothing, something = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert measured(measure, nothing, something) == 0
    assert measured(measure, something, nothing) == 0


masks = st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1)).map(
    lambda drawn: tuple(
        np.random.default_rng(drawn[0]).random((2, 4, 5, 3))
        < np.array(drawn[1:]).reshape(2, 1, 1, 1)
    )
)


@pytest.mark.peer("surface_distance")
@settings(max_examples=50, deadline=None)
@given(masks)
def test_dice_equals_surface_distance(pair):
    truth, prediction = pair
    if truth.any() or prediction.any():
        expected = surface_distance.compute_dice_coefficient(truth, prediction)
        assert dice(truth=truth, prediction=prediction) == pytest.approx(expected)


@pytest.mark.peer("monai")
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dice_of_each_label_equals_monai(seed):
    truth, prediction = np.random.default_rng(seed).integers(0, 4, (2, 6, 5, 4))
    tensors = [torch.tensor(np.eye(4)[array]).movedim(-1, 0)[None] for array in (prediction, truth)]
    expected = monai.metrics.DiceMetric(include_background=False)(*tensors)
    ours = [measured(dice, truth, prediction, label) for label in (1, 2, 3)]
    np.testing.assert_allclose(ours, expected[0], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(masks)
def test_measures_lie_between_zero_and_one_and_agree_with_each_other(pair):
    values = {measure: measured(measure, *pair) for measure in MEASURES}
    assert all(0 <= value <= 1 for value in values.values())
    assert values[dice] == pytest.approx(2 * values[jaccard] / (1 + values[jaccard]))
    exchanged = measured(positive_predictive_value, *reversed(pair))
    assert values[sensitivity] == exchanged
    assert (values[dice] == 1) == np.array_equal(*pair)


@pytest.mark.parametrize(
    ("measure", "first", "second"),
    [  # label 1: TN 3 of 5, 4 voxels against 4; label 2: TN 7 of 7, 1 voxel against 2
        (specificity, 3 / 5, 1.0),
        (volume_error, 0.0, -0.5),
        (absolute_volume_error, 0.0, 0.5),
    ],
)
def test_specificity_and_volume_errors_equal_the_hand_count(measure, first, second):
    assert measured(measure, TRUTH, PREDICTION) == pytest.approx(first)
    assert measured(measure, TRUTH, PREDICTION, 2) == pytest.approx(second)


def test_specificity_is_perfect_where_nothing_false_can_be_or_is_predicted():
    nothing, everything = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert measured(specificity, nothing, nothing) == 1
    assert measured(specificity, everything, nothing) == 1
    assert measured(specificity, everything, everything) == 1
    assert measured(specificity, nothing, everything) == 0


def test_the_volume_error_of_a_miss_is_all_of_it_and_of_an_invention_infinite():
    nothing, everything = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert measured(volume_error, everything, nothing) == -1
    assert measured(absolute_volume_error, everything, nothing) == 1
    assert measured(volume_error, nothing, nothing) == 0
    assert measured(volume_error, nothing, everything) == np.inf


@settings(max_examples=30, deadline=None)
@given(masks)
def test_specificity_is_the_sensitivity_of_the_background(pair):
    truth, prediction = pair
    assert measured(specificity, truth, prediction) == pytest.approx(
        measured(sensitivity, truth, prediction, 0) if not truth.all() else 1
    )
    if truth.any():
        absolute = measured(absolute_volume_error, truth, prediction)
        expected = abs(prediction.mean() / truth.mean() - 1)
        assert absolute == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", [*MEASURES, specificity, volume_error])
def test_masks_of_different_shapes_are_refused(measure):
    with pytest.raises((InputError, TypeError), match=r"\(2, 3\) and prediction \(3, 2\)|spatial"):
        measured(measure, np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_volume_is_counted_voxels_times_their_size():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, :3] = (1, 2, 1)
    assert volume_ml(mask, (2.0, 2.5, 10.0)) == pytest.approx(3 * 0.05)
    assert volume_ml(mask[0], (2.0, 2.5, 10.0)) == pytest.approx(3 * 0.05)


def test_the_volume_of_sheared_voxels_is_not_the_product_of_their_edges():
    mask = np.ones((10, 10, 10), bool)
    edges = tuple(np.linalg.norm(SHEARED[:3, :3], axis=0).tolist())
    assert volume_ml(mask, SHEARED) == pytest.approx(3.0)  # 1000 voxels, base 1 mm², height 3 mm
    assert volume_ml(mask, edges) == pytest.approx(3.354, abs=1e-3)
    assert volume_ml(mask[0], SHEARED) == pytest.approx(0.3)


def test_the_volume_of_a_voxel_is_the_triple_product_of_its_edges():
    rng = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = rng.normal(size=(3, 3))
    x, y, z = affine[:3, :3].T
    expected = abs(np.dot(np.cross(x, y), z)) / 1000  # the parallelepiped of three edges
    assert volume_ml(np.ones((1, 1, 1), bool), affine) == pytest.approx(expected)


@pytest.mark.parametrize(
    "spacing",
    [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, float("nan")), np.eye(3), (1.0, 1.0, 1.0, 1.0)],
)
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(InputError, match="three positive numbers"):
        volume_ml(np.ones((2, 2), bool), spacing)


def test_table_has_one_row_for_each_foreground_label():
    names = ("background", "core", "edge", "absent")
    rows = overlap_table(**MASKS, labels=names, spacing=(1.0, 1.0, 5.0))
    assert [row["label"] for row in rows] == ["core", "edge", "absent"]
    assert rows[0] == {
        "label": "core",
        "dice": pytest.approx(0.5),
        "sensitivity": pytest.approx(0.5),
        "positive_predictive_value": pytest.approx(0.5),
        "truth_ml": pytest.approx(0.02),
        "prediction_ml": pytest.approx(0.02),
    }
    assert rows[2]["dice"] == 1
    assert rows[2]["truth_ml"] == 0


def test_table_of_a_sheared_grid_has_its_millilitres():
    (row,) = overlap_table(**MASKS, labels=("background", "core"), spacing=SHEARED)
    assert (row["truth_ml"], row["prediction_ml"]) == pytest.approx((0.012, 0.012))  # 4 voxels


@pytest.mark.parametrize("spacing", [None, (0.5, 0.5), np.diag([0.5, 0.5, 1.0])])
def test_table_without_a_slice_thickness_counts_voxels(spacing):
    (row,) = overlap_table(**MASKS, labels=("background", "core"), spacing=spacing)
    assert (row["truth_voxels"], row["prediction_voxels"]) == (4, 4)
    assert "truth_ml" not in row


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(5), np.full((4, 4), np.nan)])
def test_impossible_affines_are_refused(affine):
    with pytest.raises(InputError, match="affine"):
        volume_ml(np.ones((2, 2, 2), bool), affine)


def test_public_names_exist():
    assert all(hasattr(overlap, name) for name in overlap.__all__)
