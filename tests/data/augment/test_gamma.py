"""Contrast."""

import numpy as np
import pytest
from scipy.stats import kstest

from segjax.data.augment import Gamma
from segjax.errors import InputError
from tests.peers import torch, torchio


@pytest.mark.peer("torchio")
def test_power_is_that_of_torchio():
    image = np.random.default_rng(0).standard_normal((4, 5, 6, 2)).astype(np.float32)
    gammas = [0.8, 1.3]
    peer = torchio.Gamma(gamma=gammas)(
        torchio.ScalarImage(tensor=torch.from_numpy(np.moveaxis(image, -1, 0).copy()))
    )
    result = Gamma().apply(image, {"gamma": np.array(gammas, np.float32)}, np)
    np.testing.assert_allclose(np.moveaxis(result, -1, 0), peer.data.numpy(), rtol=1e-5)


def test_gamma_one_is_the_identity():
    image = np.random.default_rng(0).standard_normal((4, 4, 1)).astype(np.float32)
    result = Gamma().apply(image, {"gamma": np.ones(1, np.float32)}, np)
    np.testing.assert_allclose(result, image, rtol=1e-6)


@pytest.mark.peer("torchio")
def test_powers_follow_the_law_of_torchio():
    gamma, peer = Gamma(probability=1.0), torchio.RandomGamma()
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    drawn = [gamma.draw(rng, (1, 1))["gamma"][0] for _ in range(3_000)]
    expected = [peer.get_params(peer.log_gamma_range) for _ in range(3_000)]
    assert kstest(drawn, expected).pvalue > 0.01


def test_zero_stays_zero_and_order_is_kept():
    values = np.linspace(-2, 2, 41, dtype=np.float32)[:, None]
    result = Gamma().apply(values, {"gamma": np.array([0.7], np.float32)}, np)
    assert result[20] == 0
    assert (np.diff(result[:, 0]) > 0).all()


def test_impossible_range_is_refused():
    with pytest.raises(InputError, match=r"gamma: log_gamma .* is no range"):
        Gamma(log_gamma=(0.3, -0.3))
