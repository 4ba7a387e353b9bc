"""Brightness."""

import numpy as np
import pytest

from segjax.data.augment import ScaleIntensity
from segjax.errors import InputError
from tests.peers import monai


def test_every_channel_has_its_own_factor_and_shift():
    image = np.ones((2, 2, 2), np.float32)
    parameters = {"factor": np.array([2.0, 3.0]), "shift": np.array([0.0, -1.0])}
    result = ScaleIntensity().apply(image, parameters, np)
    assert result[..., 0].ravel().tolist() == [2.0] * 4
    assert result[..., 1].ravel().tolist() == [2.0] * 4


def test_factor_one_and_shift_zero_are_the_identity():
    image = np.random.default_rng(0).random((4, 4, 1))
    parameters = {"factor": np.ones(1), "shift": np.zeros(1)}
    np.testing.assert_array_equal(ScaleIntensity().apply(image, parameters, np), image)


def test_factors_are_uniform_between_their_bounds():
    rng = np.random.default_rng(0)
    scale = ScaleIntensity(probability=1.0)
    drawn = np.array([scale.draw(rng, (1, 3))["factor"] for _ in range(500)])
    assert drawn.shape == (500, 3)
    assert 0.7 <= drawn.min() < 0.71
    assert 1.29 < drawn.max() <= 1.3
    assert abs(drawn.mean() - 1) < 0.02


@pytest.mark.peer("monai")
def test_default_range_is_that_of_monai():

    image = np.random.default_rng(0).random((1, 4, 4)).astype(np.float32)
    peer = monai.transforms.RandScaleIntensity(factors=0.3, prob=1.0).set_random_state(0)
    expected = np.asarray(peer(image))
    factor = np.array([1 + peer.factor], np.float32)
    assert 0.7 <= factor[0] <= 1.3
    parameters = {"factor": factor, "shift": np.zeros(1, np.float32)}
    result = ScaleIntensity().apply(np.moveaxis(image, 0, -1), parameters, np)
    np.testing.assert_allclose(np.moveaxis(result, -1, 0), expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{"factor": (-1.0, 1.0)}, {"shift": (1.0, 0.0)}])
def test_impossible_ranges_are_refused(options):
    with pytest.raises(InputError, match="is no range"):
        ScaleIntensity(**options)
