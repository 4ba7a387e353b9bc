"""Contrast between tissues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.codec import from_json
from segjax.data.augment import Contrast, Transform, apply_all
from segjax.errors import InputError

seeds = st.integers(0, 10**6)


def column(*values):
    return np.array(values, np.float32)[:, None]


def bent(contrast, values, slopes):
    return contrast.apply(column(*values), {"slope": column(*slopes)}, np).ravel()


def test_slopes_by_hand():
    contrast = Contrast(span=(-1.0, 2.0), pieces=3)  # knots at 0 and 1
    result = bent(contrast, (-3, -1, 0, 0.5, 1, 2, 4), (0.5, 2.0, 3.0))
    np.testing.assert_allclose(result, (-1.5, -0.5, 0, 1, 2, 5, 11), rtol=1e-6)


def test_zero_stays_where_the_span_lies_beside_it():
    above = bent(Contrast(span=(1.0, 3.0), pieces=2), (0, 1, 2, 3), (0.5, 2.0))
    np.testing.assert_allclose(above, (0, 0.5, 1, 3), rtol=1e-6)
    below = bent(Contrast(span=(-3.0, -1.0), pieces=2), (-3, -2, -1, 0), (0.5, 2.0))
    np.testing.assert_allclose(below, (-4.5, -4, -2, 0), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_it_is_the_integral_of_its_slopes(seed):
    contrast = Contrast(span=(-2.0, 3.0), pieces=5, probability=1.0)
    drawn = contrast.draw(np.random.default_rng(seed), (1, 1))["slope"]
    fine = np.linspace(-4, 5, 9001)
    slope = drawn[np.clip(np.floor(fine + 2).astype(int), 0, 4), 0].astype(float)
    area = np.concatenate([[0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(fine))])
    expected = area - np.interp(0, fine, area)
    result = contrast.apply(fine.astype(np.float32)[:, None], {"slope": drawn}, np).ravel()
    np.testing.assert_allclose(result, expected, atol=5e-3)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_order_and_zero_are_kept_and_channels_have_their_own(seed):
    contrast = Contrast(log_slope=(-1.5, 1.5), probability=1.0)
    parameters = contrast.draw(np.random.default_rng(seed), (41, 2))
    values = np.linspace(-10, 10, 41, dtype=np.float32)
    result = contrast.apply(np.stack([values, values], axis=-1), parameters, np)
    assert (np.diff(result, axis=0) > 0).all()
    np.testing.assert_allclose(result[20], 0, atol=1e-5)
    assert not np.allclose(result[:, 0], result[:, 1])


def test_slopes_follow_their_law():
    contrast = Contrast(log_slope=(-0.5, 0.2), pieces=4, probability=1.0)
    rng = np.random.default_rng(0)
    drawn = np.log([contrast.draw(rng, (1, 3))["slope"] for _ in range(500)])
    assert drawn.shape == (500, 4, 3)
    assert drawn.min() >= -0.5
    assert drawn.max() <= 0.2
    assert drawn.mean() == pytest.approx(-0.15, abs=0.02)


def test_slopes_of_one_change_nothing():
    image = np.random.default_rng(0).standard_normal((4, 5, 6, 2)).astype(np.float32)
    contrast = Contrast()
    np.testing.assert_array_equal(contrast.apply(image, contrast.identity(image.shape), np), image)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_jax_gives_the_numbers_of_numpy_and_labels_stay(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 3, (4, 5, 6, 2)).astype(np.float32)
    label = rng.integers(0, 3, image.shape[:-1]).astype(np.uint8)
    contrast = Contrast(probability=1.0)
    parameters = [contrast.draw(rng, image.shape)]
    expected, same = apply_all([contrast], parameters, image, label, np)
    result, _ = jax.jit(lambda i, p: apply_all([contrast], p, i, label, jnp))(image, parameters)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(same, label)


def test_trainings_store_it():
    contrast = Contrast(log_slope=(-1.0, 1.0), probability=0.8)
    assert contrast.to_json()["transform"] == "contrast"
    assert from_json(Transform, contrast.to_json()) == contrast


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"log_slope": (0.3, -0.3)}, r"contrast: log_slope .* is no range"),
        ({"span": (2.0, 1.0)}, r"contrast: span .* is no range"),
        ({"span": (1.0, 1.0)}, r"contrast: span .* is empty"),
        ({"pieces": 0}, "contrast: pieces 0: give 1 or more"),
        ({"probability": 1.5}, "contrast: probability 1.5 is out of range"),
    ],
)
def test_impossible_values_are_refused(fields, said):
    with pytest.raises(InputError, match=said):
        Contrast(**fields)
