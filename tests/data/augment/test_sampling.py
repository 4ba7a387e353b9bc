"""Reading between voxels, compared with SciPy."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import map_coordinates

from segjax.data.augment import _sampling
from segjax.data.augment._deformation import Deformation
from segjax.data.augment._sampling import warp, warp_label, warp_pair

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def random_case(shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((*shape, 2)).astype(np.float32)
    label = rng.integers(0, 5, shape).astype(np.uint8)
    matrix = rng.uniform(-0.4, 0.4, (len(shape), len(shape) + 1)).astype(np.float32)
    points = rng.uniform(-1, 1, (len(shape), *(5,) * len(shape))).astype(np.float32)
    return image, label, Deformation(matrix, points)


def coordinates(deformation, shape):
    field = deformation.field(shape, np)
    moved = deformation.displacement(field, shape, slice(0, shape[0]), np)
    return np.indices(shape) + moved.astype(np.float64)


@given(shape=shapes, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_linear_reading_is_scipys_and_the_border_holds_for_half_a_voxel(shape, seed):
    image, _, deformation = random_case(shape, seed)
    places = coordinates(deformation, shape)
    ends = np.array(shape).reshape((-1,) + (1,) * len(shape))
    inside = ((places >= -0.5) & (places < ends - 0.5)).all(axis=0)
    result = warp(image, deformation, np)
    for channel in range(2):
        expected = map_coordinates(image[..., channel], places, order=1, mode="nearest")
        expected = np.where(inside, expected, image[..., channel].min())
        np.testing.assert_allclose(result[..., channel], expected, atol=2e-5)


@given(shape=shapes, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_labels_are_the_nearest_and_0_outside(shape, seed):
    _, label, deformation = random_case(shape, seed)
    places = np.floor(coordinates(deformation, shape) + 0.5).astype(int)
    ends = np.array(shape).reshape((-1,) + (1,) * len(shape))
    inside = ((places >= 0) & (places < ends)).all(axis=0)
    expected = np.where(inside, label[tuple(np.clip(places, 0, ends - 1))], 0)
    np.testing.assert_array_equal(warp_label(label, deformation, np), expected)


@pytest.mark.parametrize("shape", [(12, 9), (7, 5, 6)])
def test_numpy_and_jax_read_alike_under_jit(shape):
    image, label, deformation = random_case(shape, 1)

    @jax.jit
    def jitted(image, label, matrix, points):
        return warp_pair(image, label, Deformation(matrix, points), jnp)

    result = jitted(image, label, deformation.matrix, deformation.control_points)
    expected = warp_pair(image, label, deformation, np)
    np.testing.assert_allclose(result[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(result[1], expected[1])


def test_slabs_change_nothing(monkeypatch):
    image, label, deformation = random_case((8, 6, 5), 2)
    whole = warp_pair(image, label, deformation, np)
    monkeypatch.setattr(_sampling, "_SLAB", 70)
    slabs = warp_pair(image, label, deformation, np)
    np.testing.assert_allclose(slabs[0], whole[0], atol=1e-5)
    np.testing.assert_array_equal(slabs[1], whole[1])
