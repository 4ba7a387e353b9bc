"""Bias fields."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segjax.data.augment import BiasField
from segjax.errors import InputError
from tests.data.augment.peers import (
    assert_close,
    assert_libraries_agree,
    assert_same_law,
    through_torchio,
)
from tests.peers import torch, torchio

TERMS = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]


def draw(image, seed=0):
    return BiasField(probability=1.0).draw(np.random.default_rng(seed), image.shape)


@pytest.mark.peer("torchio")
def test_equal_coefficients_give_torchios_image(any_image):
    parameters = draw(any_image)
    coefficients = iter(parameters["coefficients"].tolist())
    # along an axis of one voxel the coordinate is 0, so that coefficients of its powers do nothing
    flat = [size == 1 for size in (*any_image.shape[:-1], 1)[:3]]
    theirs = [9.0 if any(np.array(t)[flat]) else next(coefficients) for t in TERMS]
    expected = through_torchio(any_image, torchio.BiasField(theirs, 3))
    assert_close(BiasField().apply(any_image, parameters, np), expected)


@pytest.mark.peer("torchio")
def test_coefficients_follow_the_law_of_torchio():
    rng, bias = np.random.default_rng(0), BiasField(probability=1.0)
    torch.manual_seed(0)
    peer = torchio.RandomBiasField()
    ours = [bias.draw(rng, (4, 4, 4, 1))["coefficients"] for _ in range(3_000)]
    theirs = [peer.get_params(3, peer.coefficients_range) for _ in range(3_000)]
    assert_same_law(ours, theirs)


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(5, 9, 2), (7, 4, 3, 1), (1, 6, 5, 2)]))
@settings(max_examples=15, deadline=None)
def test_numpy_and_jax_agree(seed, shape):
    assert_libraries_agree(BiasField(order=seed % 2 + 2, probability=1.0), shape, seed)


@given(seed=st.integers(0, 2**31), axis=st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_mirrored_fields_have_coefficients_of_other_sign(seed, axis):
    image = np.random.default_rng(seed).random((6, 5, 8, 1)).astype(np.float32)
    parameters = draw(image, seed)
    signs = np.array([(-1) ** term[axis] for term in TERMS], np.float32)
    mirrored = {"coefficients": parameters["coefficients"] * signs}
    result = BiasField().apply(np.flip(image, axis), mirrored, np)
    assert_close(np.flip(result, axis), BiasField().apply(image, parameters, np))


def test_channels_share_the_field():
    image = np.ones((6, 5, 2), np.float32)
    result = BiasField().apply(image, draw(image), np)
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    assert (result > 0).all()


def test_order_zero_scales_the_image():
    image = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    parameters = {"coefficients": np.array([np.log(2)], np.float32)}
    result = BiasField(order=0).apply(image, parameters, np)
    np.testing.assert_allclose(result, 2 * image, rtol=1e-6)


@pytest.mark.parametrize("options", [{"coefficients": (0.5, -0.5)}, {"order": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="bias-field: "):
        BiasField(**options)
