"""Mirroring."""

import numpy as np
import pytest

from segjax.data.augment import Flip
from segjax.errors import InputError
from tests.peers import torch, torchio


def test_only_the_axes_that_were_drawn_are_mirrored():
    flip = Flip(axes=(0, 2))
    image = np.random.default_rng(0).random((3, 4, 5, 1))
    result = flip.apply(image, {"flipped": np.array([False, True])}, np)
    np.testing.assert_array_equal(result, image[:, :, ::-1])


@pytest.mark.peer("torchio")
def test_mirrored_image_is_that_of_torchio():
    image = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    peer = torchio.Flip(axes=(0, 2))(torch.from_numpy(np.moveaxis(image, -1, 0).copy()))
    result = Flip(axes=(0, 1, 2)).apply(image, {"flipped": np.array([True, False, True])}, np)
    np.testing.assert_array_equal(np.moveaxis(result, -1, 0), peer.numpy())


def test_mirroring_twice_is_the_identity():
    flip = Flip(axes=(0, 1))
    image = np.random.default_rng(0).random((3, 4, 2))
    both = {"flipped": np.array([True, True])}
    np.testing.assert_array_equal(flip.apply(flip.apply(image, both, np), both, np), image)


def test_no_axis_drawn_is_the_identity():
    flip = Flip(axes=(0, 1))
    image = np.random.default_rng(0).random((3, 4, 2))
    none = {"flipped": np.array([False, False])}
    np.testing.assert_array_equal(flip.apply(image, none, np), image)


def test_each_axis_is_drawn_with_its_own_chance():
    rng = np.random.default_rng(0)
    drawn = [Flip(axes=(0, 1), probability=0.3).draw(rng, (4, 4, 1)) for _ in range(3000)]
    chances = np.mean([[False, False] if d is None else d["flipped"] for d in drawn], axis=0)
    np.testing.assert_allclose(chances, 0.3, atol=0.03)


@pytest.mark.parametrize("axes", [(), (-1,), (0, 0)])
def test_impossible_axes_are_refused(axes):
    with pytest.raises(InputError, match="axes"):
        Flip(axes=axes)


def test_channels_are_never_mirrored():
    with pytest.raises(InputError, match="axis 2 is none of the 2 spatial axes"):
        Flip(axes=(2,)).draw(np.random.default_rng(0), (4, 4, 3))
