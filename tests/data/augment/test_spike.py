"""Spikes in k-space."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare

from segjax.data.augment import Spike
from segjax.errors import InputError
from tests.data.augment.peers import (
    assert_close,
    assert_libraries_agree,
    assert_same_law,
    through_torchio,
)
from tests.peers import torch, torchio


def peer_spike(parameters):
    positions = parameters["positions"][: int(parameters["count"])]
    return torchio.Spike(
        np.pad(positions, ((0, 0), (0, 3 - positions.shape[1]))), float(parameters["intensity"])
    )


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("num_spikes", [(1, 1), (0, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_equal_spikes_give_torchios_image(any_image, num_spikes, seed):
    spike = Spike(num_spikes=num_spikes, probability=1.0)
    parameters = spike.draw(np.random.default_rng(seed), any_image.shape)
    expected = through_torchio(any_image, peer_spike(parameters))
    assert_close(spike.apply(any_image, parameters, np), expected)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("offset", [-5.0, -1.0, -0.6, -0.5, -0.4, 0.0, 1.0])
def test_the_greatest_magnitude_is_found_in_images_of_any_sign(offset):
    image = (np.random.default_rng(0).random((9, 8, 6, 1)) + offset).astype(np.float32)
    parameters = Spike(probability=1.0).draw(np.random.default_rng(0), image.shape)
    expected = through_torchio(image, peer_spike(parameters))
    assert_close(Spike().apply(image, parameters, np), expected)


@pytest.mark.peer("torchio")
def test_spikes_follow_the_law_of_torchio():
    rng, spike = np.random.default_rng(0), Spike(num_spikes=(3, 3), probability=1.0)
    torch.manual_seed(0)
    peer = torchio.RandomSpike(num_spikes=(3, 3))
    drawn = [spike.draw(rng, (4, 4, 4, 1)) for _ in range(3_000)]
    ours = [[d["intensity"], *d["positions"].ravel()] for d in drawn]
    asked = [peer.get_params((3, 3), peer.intensity_range) for _ in range(3_000)]
    assert_same_law(ours, [[intensity, *places.ravel()] for places, intensity in asked])


def test_all_numbers_of_spikes_are_equally_likely():
    rng, spike = np.random.default_rng(0), Spike(num_spikes=(1, 4), probability=1.0)
    counts = [int(spike.draw(rng, (4, 4, 1))["count"]) for _ in range(3_000)]
    assert chisquare(np.bincount(counts)[1:]).pvalue > 0.005
    assert set(counts) == {1, 2, 3, 4}


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(5, 9, 2), (7, 4, 3, 1), (1, 6, 5, 2)]),
    most=st.sampled_from([1, 3]),
)
@settings(max_examples=15, deadline=None)
def test_numpy_and_jax_agree(seed, shape, most):
    assert_libraries_agree(Spike(num_spikes=(0, most), probability=1.0), shape, seed)


def test_a_spike_adds_a_cosine_of_the_mean_times_the_intensity():
    image = np.random.default_rng(0).random((8, 6, 1)).astype(np.float32)
    # of 8 planes the fourth is frequency 0, so that 5/8 is frequency 1; of 6, 5/6 is frequency 2
    parameters = {
        "count": 1,
        "intensity": 0.5,
        "positions": np.array([[0.65, 0.85]], np.float32),
    }
    row, column = np.mgrid[:8, :6]
    wave = 0.5 * image.mean() * np.cos(2 * np.pi * (row / 8 + 2 * column / 6))
    assert_close(Spike().apply(image, parameters, np), image + wave[..., None])


def test_no_spikes_change_nothing():
    image = np.random.default_rng(0).random((4, 4, 1)).astype(np.float32)
    none = Spike(num_spikes=(0, 0), probability=1.0)
    result = none.apply(image, none.draw(np.random.default_rng(0), image.shape), np)
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("options", [{"num_spikes": (2, 1)}, {"intensity": (2.0, 1.0)}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="spike: "):
        Spike(**options)
