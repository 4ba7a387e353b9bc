"""Noise."""

import numpy as np
import pytest
from scipy.stats import kstest

from segjax.data.augment import Noise
from segjax.errors import InputError
from tests.peers import torch, torchio


def test_noise_is_gaussian_with_the_drawn_deviation():
    noise = Noise(std=(0.5, 0.5), probability=1.0)
    parameters = noise.draw(np.random.default_rng(0), (40, 40, 40, 1))
    added = noise.apply(np.ones((40, 40, 40, 1), np.float32), parameters, np) - 1
    assert abs(added.mean()) < 0.01
    assert abs(added.std() - 0.5) < 0.01
    assert abs(np.mean(np.abs(added) < 0.5) - 0.6827) < 0.01


def test_deviation_is_uniform_between_its_bounds():
    rng = np.random.default_rng(0)
    noise = Noise(std=(0.1, 0.3), probability=1.0)
    drawn = [noise.draw(rng, (1, 1))["std"] for _ in range(1000)]
    assert 0.1 <= min(drawn) < 0.11
    assert 0.29 < max(drawn) <= 0.3
    assert abs(np.mean(drawn) - 0.2) < 0.01


@pytest.mark.peer("torchio")
def test_noise_follows_the_law_of_torchio():
    noise, peer = (
        Noise(std=(0.0, 0.25), mean=(-0.1, 0.2)),
        torchio.RandomNoise((-0.1, 0.2), (0, 0.25)),
    )
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    drawn = [p for p in (noise.draw(rng, (1, 1)) for _ in range(3_000)) if p is not None]
    expected = np.array(
        [peer.get_params(peer.mean_range, peer.std_range)[:2] for _ in range(3_000)]
    )
    assert kstest([p["mean"] for p in drawn], expected[:, 0]).pvalue > 0.01
    assert kstest([p["std"] for p in drawn], expected[:, 1]).pvalue > 0.01


@pytest.mark.parametrize("std", [(-0.1, 0.1), (0.2, 0.1), (0.0, float("inf"))])
def test_impossible_deviations_are_refused(std):
    with pytest.raises(InputError, match=r"noise: std .* is no range"):
        Noise(std=std)
