"""Lesions that preprocessing makes vanish."""

import numpy as np
import pytest

from segjax.data.labels import IGNORED
from segjax.data.prepare.lost import Lost, lost_lesions, warn_of_lost
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, Reorient, Resample, Resize, ZScore
from segjax.volume import Volume


def lose(label, *steps):
    pipeline = Pipeline(steps)
    return lost_lesions(label, pipeline, pipeline.grids(label))


def dots(shape=(20, 20, 20), every=4):
    data = np.zeros(shape, np.uint8)
    data[1::every, 1::every, 1::every] = 1
    return Volume(data, np.eye(4))


def test_lesions_between_the_voxels_of_a_coarser_grid_are_counted():
    label = dots((21, 21, 21))  # at 1, 5, …, 17; voxels of 4 mm have their centres at 2, 6, …, 18
    assert lose(label, Resample((4.0, 4.0, 4.0))) == Lost(125, 125, 0.001)


def test_lesions_at_the_voxels_of_a_coarser_grid_are_kept():
    data = dots((21, 21, 21)).data
    data[2, 2, 2] = 1  # touches the lesion at (1, 1, 1)
    assert lose(Volume(data, np.eye(4)), Resample((4.0, 4.0, 4.0))) == Lost(125, 124, 0.001)


def test_a_cropped_lesion_is_lost():
    data = np.zeros((10, 10, 10), np.uint8)
    data[0, 0, :2] = data[5, 5, 5:8] = 1
    assert lose(Volume(data, np.diag([1, 1, 2, 1])), CropOrPad((6, 6, 6))) == Lost(2, 1, 0.004)


def test_turning_loses_nothing_and_neither_do_large_lesions():
    assert lose(dots(), Reorient("PIL"), ZScore()) is None
    data = np.zeros((20, 20, 20), np.uint8)
    data[4:12, 4:12, 4:12] = 2
    assert lose(Volume(data, np.eye(4)), Resample((1.5, 1.5, 1.5))) is None


def test_empty_and_ignored_labels_hold_no_lesions():
    assert lose(Volume(np.zeros((9, 9, 9), np.uint8), np.eye(4)), Resample((4.0, 4, 4))) is None
    ignored = dots().data * np.uint8(IGNORED)
    assert lose(Volume(ignored, np.eye(4)), Resample((4.0, 4, 4))) is None


def test_the_warning_gives_the_numbers():
    found = {"a": Lost(20, 20, 0.002), "b": Lost(5, 1, 0.5)}
    words = r"21 lesions vanish, in 2 of 9 cases \(most in 'a': 20 of 20; .* has 0\.5 ml\)"
    with pytest.warns(UserWarning, match=words):
        warn_of_lost(found, 9)


def test_lesions_of_pictures_are_told_in_pixels():
    data = np.zeros((40, 40), np.uint8)
    data[4:7, 4:6] = 1
    found = lose(Volume(data, np.eye(3)), Resize(2))
    assert found == Lost(1, 1, 6.0, "pixels")
    with pytest.warns(UserWarning, match="makes 1 lesion vanish, .* has 6 pixels"):
        warn_of_lost({"a": found}, 3)


def test_lesions_of_another_label_that_touch_are_counted_apart():
    data = np.zeros((21, 21, 21), np.uint8)
    data[2:5, 2:5, 2:5] = 1
    data[5, 4, 4] = 2
    found = lose(Volume(data, np.eye(4)), Resample((4.0, 4.0, 4.0)))
    assert found == Lost(2, 1, 0.001)
