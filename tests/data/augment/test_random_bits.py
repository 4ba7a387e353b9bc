"""Random arrays that NumPy and JAX make alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from segjax.data.augment._random_bits import draw_seed, normal


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_numbers_are_standard_normal_and_independent(seed):
    numbers = normal(np.asarray(seed, np.uint32), (200_001,), np)
    assert stats.kstest(numbers, "norm").pvalue > 0.01
    for lag in (1, 7, 1000, 100_000):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 0.012
    assert np.isfinite(numbers).all()


def test_neighbouring_seeds_give_unrelated_numbers():
    first, second = (normal(np.asarray(s, np.uint32), (100_000,), np) for s in (4, 5))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015


def test_numpy_and_jax_give_the_same_numbers_with_a_traced_seed():
    seed = draw_seed(np.random.default_rng(0))
    result = jax.jit(lambda seed: normal(seed, (9, 7, 3), jnp))(seed)
    expected = normal(seed, (9, 7, 3), np)
    assert result.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
