"""Volume: array and affine."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.volume import Volume


def test_spacing_is_the_length_of_oblique_columns():
    affine = np.eye(4)
    affine[:3, :3] = [[3, 0, 0], [4, 0, -2], [0, 0.5, 0]]
    assert Volume(np.zeros((2, 3, 4)), affine).spacing == (5.0, 0.5, 2.0)


def test_rank_and_shapes_without_channels():
    volume = Volume(np.zeros((2, 3, 4), np.int16), np.eye(4))
    assert (volume.spatial_dims, volume.spatial_shape, volume.channels) == (3, (2, 3, 4), 1)
    assert volume.channels_last.shape == (2, 3, 4, 1)


def test_rank_and_shapes_with_channels():
    volume = Volume(np.zeros((2, 3, 5)), np.eye(3))
    assert (volume.spatial_dims, volume.spatial_shape, volume.channels) == (2, (2, 3), 5)
    assert volume.channels_last.shape == (2, 3, 5)


def test_data_are_not_copied():
    data = np.zeros((2, 3, 4))
    volume = Volume(data, np.eye(4))
    assert np.shares_memory(volume.channels_last, data)


def test_affine_is_a_read_only_float64_copy():
    affine = np.eye(4, dtype=np.float32)
    volume = Volume(np.zeros((2, 3, 4)), affine)
    affine[0, 0] = 7
    assert volume.affine.dtype == np.float64
    assert volume.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2


def test_with_data_keeps_the_affine():
    volume = Volume(np.zeros((2, 3, 4)), np.diag([1.0, 2.0, 3.0, 1.0]))
    other = volume.with_data(np.ones((2, 3, 4, 7)))
    assert other.channels == 7
    assert (other.affine == volume.affine).all()


def test_with_data_refuses_another_grid():
    with pytest.raises(InputError, match=r"\(2, 3, 5\).*\(2, 3, 4\)"):
        Volume(np.zeros((2, 3, 4)), np.eye(4)).with_data(np.zeros((2, 3, 5)))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5, 6), (2, 0, 4), ()])
def test_data_that_do_not_fit_the_affine_are_refused(shape):
    with pytest.raises(InputError, match="does not fit an affine"):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(5), "has shape"),
        (np.ones((3, 4)), "has shape"),
        (np.diag([1, np.nan, 1, 1]), "not finite"),
        (np.diag([1, np.inf, 1, 1]), "not finite"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), "not invertible"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "not invertible"),
    ],
)
def test_affines_that_place_no_voxel_are_refused(affine, message):
    with pytest.raises(InputError, match=message):
        Volume(np.zeros((2, 3, 4)), affine)


def test_tiny_and_huge_voxels_are_invertible():
    for scale in (1e-6, 1e6):
        assert Volume(np.zeros((2, 3, 4)), np.diag([scale, 1, 1, 1])).spacing[0] == scale
