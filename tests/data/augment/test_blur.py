"""Blurring."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import gaussian_filter

from segjax.data.augment import Blur
from segjax.errors import InputError
from tests.data.augment.peers import (
    assert_close,
    assert_libraries_agree,
    assert_same_law,
    through_torchio,
)
from tests.peers import torch, torchio


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("seed", range(3))
def test_equal_deviations_give_torchios_image(any_image, seed):
    parameters = Blur(probability=1.0).draw(np.random.default_rng(seed), any_image.shape)
    std = [*parameters["std"].tolist(), 0.0][:3]
    expected = through_torchio(any_image, torchio.Blur(std))
    assert_close(Blur().apply(any_image, parameters, np), expected)


@pytest.mark.peer("torchio")
def test_deviations_follow_the_law_of_torchio():
    rng, blur = np.random.default_rng(0), Blur(probability=1.0)
    torch.manual_seed(0)
    peer = torchio.RandomBlur()
    ours = [blur.draw(rng, (4, 4, 4, 1))["std"] for _ in range(3_000)]
    assert_same_law(ours, [peer.get_params(peer.std_ranges) for _ in range(3_000)])


@given(
    size=st.lists(st.integers(1, 70), min_size=2, max_size=2),
    std=st.lists(st.floats(0, 6, width=32), min_size=2, max_size=2),
    channels=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_filters_are_those_of_scipy_for_all_sizes(size, std, channels):
    image = np.random.default_rng(0).random((*size, channels), dtype=np.float32)  # mean far from 0
    result = Blur().apply(image, {"std": np.array(std, np.float32)}, np)
    for channel in range(channels):
        assert_close(result[..., channel], gaussian_filter(image[..., channel], std))


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(5, 40, 2), (7, 4, 3, 1), (1, 6, 5, 2)]))
@settings(max_examples=15, deadline=None)
def test_numpy_and_jax_agree(seed, shape):
    assert_libraries_agree(Blur(std=(0.0, 3.0), probability=1.0), shape, seed)


@given(seed=st.integers(0, 2**31), axis=st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_blurring_commutes_with_flips(seed, axis):
    rng = np.random.default_rng(seed)
    image = rng.random((6, 5, 20, 1)).astype(np.float32)
    parameters = Blur(probability=1.0).draw(rng, image.shape)
    result = Blur().apply(np.flip(image, axis), parameters, np)
    assert_close(np.flip(result, axis), Blur().apply(image, parameters, np))


def test_sums_are_kept():
    image = np.random.default_rng(0).random((9, 30, 1))
    result = Blur().apply(image, {"std": np.array([1.5, 2.0], np.float32)}, np)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result.sum(), image.sum(), rtol=1e-6)


def test_deviations_in_mm_become_those_in_voxels():
    blur = Blur(std=(1.0, 1.0, 3.0, 3.0), spacing=(0.5, 2.0), probability=1.0)
    assert blur.draw(np.random.default_rng(0), (4, 4, 1))["std"].tolist() == [2.0, 1.5]


@pytest.mark.parametrize("options", [{"std": (-1.0, 1.0)}, {"spacing": (0.0, 1.0)}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="blur: "):
        Blur(**options)
