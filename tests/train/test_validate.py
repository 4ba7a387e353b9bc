import numpy as np
import pytest

from segjax.data.datasets import LoadedCase
from segjax.data.labels import IGNORED
from segjax.data.pipeline import CropOrPad, CropToForeground, Pipeline, Reorient, Resample
from segjax.train.config import TrainConfig
from segjax.train.validate import mean_dice, to_mask, validate_case, validate_cases, window_batch
from segjax.volume import Volume

OBLIQUE = np.array([[0, 0, -2.0, 5], [-1, 0.1, 0, 3], [0.1, 1, 0, 0], [0, 0, 0, 1]])


NO_STEPS = Pipeline()


def loaded(truth, pipeline=NO_STEPS, affine=OBLIQUE, image=None):
    """Make a case whose image is its label map, so that the perfect network is the identity."""
    raw = Volume(
        truth, affine[: truth.ndim + 1, : truth.ndim + 1] if truth.ndim == 3 else np.eye(3)
    )
    processed, grids = pipeline.trace(raw if image is None else raw.with_data(image))
    label = pipeline.apply_label(raw, grids).data
    return LoadedCase("a", processed.data, label, raw, raw, grids)


def one_hot(classes):
    def predict(patches):
        return (patches.round() == np.arange(classes)).astype(np.float32)

    return predict


def config(labels=3, **changes):
    names = ("background", "anterior", "posterior", "middle")[:labels]
    return TrainConfig("m", labels=names, **{"patch_size": (8, 8, 8), **changes})


def boxes():
    truth = np.zeros((20, 13, 9), np.uint8)
    truth[2:9, 3:10, 1:6] = 1
    truth[9:15, 3:10, 2:7] = 2
    return truth


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(),
        Pipeline((Reorient("RAS"),)),
        Pipeline((Reorient("LIP"), CropOrPad((24, 24, 24)))),
        Pipeline((Reorient("PIR"), CropToForeground(2.0))),
    ],
)
def test_perfect_network_has_dice_one_whatever_the_exact_steps(pipeline):
    scores = validate_case(loaded(boxes(), pipeline), one_hot(3), config(pipeline=pipeline))
    assert scores == {"anterior": 1.0, "posterior": 1.0}


def test_dice_is_measured_on_the_grid_on_disk():
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[:, :, :2] = 1
    # half of the slices are cropped away: what the network never sees is missed
    pipeline = Pipeline((CropOrPad((8, 8, 6)),))  # slice 0 and 7 go
    found = validate_case(
        loaded(truth, pipeline, np.eye(4)), one_hot(2), config(2, pipeline=pipeline)
    )
    assert found == {"anterior": pytest.approx(2 * 1 / (2 + 1))}


def test_resampled_masks_are_compared_where_the_user_would():
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    pipeline = Pipeline((Resample((0.5, 0.5, 0.5)),))
    case = loaded(truth, pipeline, np.eye(4))
    assert case.label.shape == (16, 16, 16)
    found = validate_case(case, one_hot(2), config(2, pipeline=pipeline))
    assert found["anterior"] > 0.9


def test_dice_follows_its_definition():
    truth, image = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.float32)
    truth[:4] = 1
    image[2:5] = 1  # 2 slices found, 2 missed, 1 invented
    scores = validate_case(loaded(truth, image=image), one_hot(3), config())
    assert scores == {"anterior": pytest.approx(2 * 2 / (2 * 2 + 2 + 1)), "posterior": 1.0}


def test_ignored_voxels_are_neither_found_nor_missed_nor_invented():
    truth, image = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.float32)
    truth[:4] = 1
    image[2:5] = 1  # 2 slices found, 2 missed, 1 invented
    truth[3:6] = IGNORED  # takes 1 that was found, and the one that was invented
    scores = validate_case(loaded(truth, image=image), one_hot(3), config())
    assert scores == {"anterior": pytest.approx(2 * 1 / (2 * 1 + 2 + 0)), "posterior": 1.0}


def test_a_case_of_which_no_voxel_counts_is_perfect():
    truth = np.full((8, 8, 8), IGNORED, np.uint8)
    scores = validate_case(loaded(truth, image=boxes()[:8, :8, :8]), one_hot(3), config())
    assert scores == {"anterior": 1.0, "posterior": 1.0}


def test_many_cases_are_validated_like_each_alone():
    cases = [loaded(np.roll(boxes(), shift, 0), image=boxes()) for shift in range(4)]
    found = list(validate_cases(cases, one_hot(3), config()))
    assert found == [validate_case(case, one_hot(3), config()) for case in cases]
    assert len({scores["anterior"] for scores in found}) > 1
    assert list(validate_cases([], one_hot(3), config())) == []


def test_images_and_slices_of_volumes_are_validated():
    truth = boxes()
    scores = validate_case(loaded(truth), one_hot(3), config(patch_size=(8, 8, 1)))
    assert scores == {"anterior": 1.0, "posterior": 1.0}
    flat = validate_case(loaded(truth[:, :, 3]), one_hot(3), config(patch_size=(8, 8)))
    assert flat == {"anterior": 1.0, "posterior": 1.0}


def test_single_output_is_foreground_over_one_half():
    truth = (boxes() > 0).astype(np.uint8)

    def predict(patches):
        return np.where(patches > 0, 0.51, 0.5).astype(np.float32)

    assert validate_case(loaded(truth), predict, config(2)) == {"anterior": 1.0}


def test_most_probable_label_wins_and_the_lowest_of_equals():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], np.float32)
    mask = to_mask(probabilities)
    assert mask.tolist() == [1, 0]
    assert mask.dtype == np.uint8


def test_mean_is_over_cases_and_labels():
    scores = {"a": {"x": 1.0, "y": 0.0}, "b": {"x": 0.5, "y": 0.5}}
    assert mean_dice(scores) == 0.5


@pytest.mark.parametrize(("shapes", "expected"), [([(8, 8, 8)], 1), ([(8, 8, 12)], 2), ([], 1)])
def test_batch_is_no_larger_than_the_smallest_case_fills(shapes, expected):
    cases = [loaded(np.zeros(shape, np.uint8)) for shape in shapes]
    assert window_batch(cases, config(batch_size=4)) == expected


def test_batch_of_large_cases_is_that_of_training():
    cases = [loaded(np.zeros((40, 40, 8), np.uint8))]
    assert window_batch(cases, config(batch_size=4)) == 4
