"""Compare transforms with TorchIO's, and their two array libraries with each other."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import kstest

from tests.peers import torch, torchio


def through_torchio(image, transform):
    """Return an image, channels last, 2D or 3D, as a transform of TorchIO leaves it."""
    volume = image if image.ndim == 4 else image[:, :, None]
    tensor = torch.tensor(np.ascontiguousarray(np.moveaxis(volume, -1, 0)))
    result = np.moveaxis(transform(torchio.ScalarImage(tensor=tensor)).numpy(), 0, -1)
    return result.reshape(image.shape)


def assert_close(result, expected):
    """Check that two images differ by no more than 1e-5 of the range of values, 0 among them."""
    assert result.dtype == np.float32
    assert np.abs(result - expected).max() <= 1e-5 * np.ptp(np.append(expected, 0))


def assert_same_law(ours, theirs):
    """Check columns of drawn numbers by Kolmogorov's and Smirnov's test."""
    assert len(ours) == len(theirs) == 3_000
    for one, other in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        assert kstest(one, other).pvalue > 0.005


@cache
def _compiled(transform):
    return jax.jit(lambda image, parameters: transform.apply(image, parameters, jnp))


def assert_libraries_agree(transform, shape, seed):
    """Check that NumPy and JAX, its program compiled for any parameters, make one image."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal(shape, dtype=np.float32)
    parameters = transform.draw(rng, shape)
    expected = transform.apply(image, parameters, np)
    assert expected.shape == shape
    assert_close(np.asarray(_compiled(transform)(image, parameters)), expected)
