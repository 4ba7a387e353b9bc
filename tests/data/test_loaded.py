"""Cases that are ready for training."""

import numpy as np
import pytest

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, Resample, ZScore
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.volume import Volume

TRUTH = np.array([[0, 2, 1], [IGNORED, 0, 2]], np.uint8)


def loaded(label, spacing=(1.0, 1.0), **options):
    volume = Volume(TRUTH, np.diag([*spacing, 1.0]))
    image = np.linspace(0, 1, label.size, dtype=np.float32).reshape(*label.shape, 1)
    return LoadedCase("a", image, label, volume, volume, **options)


def test_image_and_label_in_memory_must_have_one_shape():
    volume = Volume(np.zeros((4, 4)), np.eye(3))
    with pytest.raises(InputError, match="case 'a': image of shape"):
        LoadedCase("a", np.zeros((4, 4, 1)), np.zeros((4, 5), np.uint8), volume, volume)


def test_foreground_is_that_of_the_processed_label_and_values_those_of_the_file():
    case = loaded(np.array([[0, 1], [IGNORED, 0]], np.uint8))
    assert case.foreground.tolist() == [1]
    assert case.values == (0, 1, 2)


def test_spacing_is_that_of_the_last_grid_else_of_the_volume_of_the_same_shape():
    grids = (Grid((2, 3), np.eye(3)), Grid((2, 3), np.diag([0.5, 2.0, 1.0])))
    assert loaded(TRUTH, grids=grids).spacing == (0.5, 2.0)
    assert loaded(TRUTH, spacing=(3.0, 4.0)).spacing == (3.0, 4.0)
    assert loaded(TRUTH[:1], spacing=(3.0, 4.0)).spacing == (1.0, 1.0)


def test_a_network_sees_the_grids_that_the_pipeline_makes_where_none_were_kept():
    case = loaded(TRUTH, spacing=(2.0, 2.0))
    assert [grid.spacing for grid in case.sight(Pipeline())[:2]] == [(2.0, 2.0)] * 2
    finer = case.sight(Pipeline((Resample((1.0, 1.0)),)))
    assert (finer.given.spacing, finer.processed.spacing) == ((2.0, 2.0), (1.0, 1.0))


def test_a_grid_is_kept_where_no_step_moves_a_voxel_even_if_another_moves_it_back():
    case = loaded(TRUTH)
    assert case.keeps_grid(Pipeline((ZScore(),)))
    assert not case.keeps_grid(Pipeline((CropOrPad((1, 3)), CropOrPad((2, 3)))))
