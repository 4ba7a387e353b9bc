"""Soft edges of lesions."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.synthesis.soften import soften


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 3.0)])
def test_blur_is_that_of_scipy(spacing):
    shares = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    result = soften(shares, 0.8, spacing)
    pads = [(a - b) // 2 for a, b in zip(result.shape, shares.shape, strict=True)]
    sigmas = [0.8 / size if pad else 0 for size, pad in zip(spacing, pads, strict=True)]
    expected = ndimage.gaussian_filter(
        np.pad(shares, [(n, n) for n in pads]), sigmas, mode="constant", radius=pads
    )
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_blur_keeps_the_sum():
    shares = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    assert soften(shares, 1.3, (1.0, 0.5)).sum() == pytest.approx(shares.sum(), rel=1e-5)


def test_no_width_is_no_blur():
    shares = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    np.testing.assert_array_equal(soften(shares, 0.0, (1.0, 1.0)), shares)
