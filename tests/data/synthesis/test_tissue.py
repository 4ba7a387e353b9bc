"""Where lesions may be put."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.synthesis.tissue import Room, background, find_tissue
from segjax.errors import InputError

ROOM = Room((2,) * 3, (3,) * 3, (2,) * 3)


def head(shape=(24, 26, 28), seed=0):
    """Return noise in a ball, 0 around it, and the ball."""
    places = np.indices(shape) - np.array(shape).reshape(-1, 1, 1, 1) / 2
    brain = (places**2).sum(axis=0) < 100
    noise = np.random.default_rng(seed).normal(100, 5, shape).astype(np.float32)
    return np.where(brain, noise, 0).astype(np.float32), brain


def test_background_is_what_is_constant_and_a_voxel_more():
    image, brain = head()
    found = background(np.where(brain, image, 100).astype(np.float32), np)
    cross = ndimage.generate_binary_structure(3, 1)
    flat = ~ndimage.binary_dilation(brain, cross)
    flat[np.unravel_index(np.where(brain, image, 999).argmin(), brain.shape)] = True
    assert (found == ndimage.binary_dilation(flat, np.ones((3, 3, 3)))).all()


def test_what_is_lowest_is_background_however_thin_it_is():
    image, brain = head()
    cut = (slice(2, None), slice(None), slice(None))
    found = background(image[cut], np)
    assert found[~brain[cut]].all()
    assert not found[ndimage.binary_erosion(brain[cut], np.ones((3, 3, 3)), iterations=2)].any()


def test_an_image_without_a_constant_part_has_its_lowest_voxel_as_background():
    image = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)
    lowest = image == image.min()
    assert (background(image, np) == ndimage.binary_dilation(lowest, np.ones((3, 3)))).all()


def test_room_is_off_the_edge_and_off_lesions():
    image, brain = head()
    lesions = np.zeros(brain.shape, bool)
    lesions[12, 13, 14] = True
    tissue = find_tissue(image[..., None], brain, lesions, (-3.0, 3.0), ROOM, np)
    inner = ~ndimage.binary_dilation(~brain, np.ones((5, 5, 5)))
    away = ~ndimage.binary_dilation(lesions, np.ones((7, 7, 7)))
    assert (tissue.room == inner & away).all()
    assert tissue.centres.any()
    assert not (tissue.centres & ~tissue.room).any()


def test_fluid_and_what_is_bright_is_left_out():
    image, brain = head()
    image[brain & (np.indices(brain.shape)[0] < 9)] -= 60  # fluid in a part
    tissue = find_tissue(image[..., None], brain, ~brain & False, (-1.0, 1.0), ROOM, np)
    assert not tissue.room[:8].any()
    assert tissue.room[11:].any()


def test_spread_is_the_interquartile_range_of_numpy():
    image, brain = head()
    both = np.stack([image, 3 * image], axis=-1)
    tissue = find_tissue(both, brain, ~brain & False, (-1.0, 1.0), ROOM, np)
    low, high = np.percentile(image[brain], [25, 75])
    np.testing.assert_allclose(tissue.spread, [high - low, 3 * (high - low)], rtol=0.01)


def test_without_a_brain_there_is_no_place():
    image, brain = head()
    tissue = find_tissue(image[..., None], brain & False, brain & False, (-1.0, 1.0), ROOM, np)
    assert not tissue.room.any()


def test_a_window_that_is_no_range_is_refused():
    image, brain = head()
    with pytest.raises(InputError, match="window"):
        find_tissue(image[..., None], brain, brain & False, (1.0, -1.0), ROOM, np)
