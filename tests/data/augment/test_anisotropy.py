"""Thick slices."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from segjax.data.augment import Anisotropy
from segjax.data.augment.anisotropy import coarse_grid
from segjax.errors import InputError
from tests.data.augment.peers import (
    assert_close,
    assert_libraries_agree,
    assert_same_law,
    through_torchio,
)
from tests.data.augment.torchio_pair import from_subject, to_subject
from tests.peers import torch, torchio


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("seed", range(3))
def test_equal_parameters_give_torchios_image(any_image, seed):
    axis, factor = Anisotropy().sample(np.random.default_rng(seed), any_image.shape)
    if any_image.shape[axis] < factor:  # TorchIO refuses to make an image without voxels
        axis = 2
    expected = through_torchio(
        any_image, torchio.RandomAnisotropy(axes=(axis,), downsampling=(factor, factor))
    )
    parameters = coarse_grid(any_image.shape, axis=axis, downsampling=factor)
    assert_close(Anisotropy().apply(any_image, parameters, np), expected)


@pytest.mark.peer("torchio")
@pytest.mark.parametrize("axis", range(3))
def test_labels_are_those_of_torchio_where_that_has_any(axis):
    rng = np.random.default_rng(axis)
    image = np.ones((21, 16, 30, 1), np.float32)
    label = rng.integers(1, 5, image.shape[:-1]).astype(np.uint8)
    peer = torchio.RandomAnisotropy(axes=(axis,), downsampling=(2.7, 2.7), scalars_only=False)
    _, expected = from_subject(peer(to_subject(image, label, (1.0, 1.0, 1.0))), 3)
    parameters = coarse_grid(image.shape, axis=axis, downsampling=2.7)
    result = Anisotropy(scalars_only=False).apply_label(label, parameters, np)
    inside = expected > 0
    assert inside.mean() > 0.85
    np.testing.assert_array_equal(result[inside], expected[inside])


@pytest.mark.peer("torchio")
def test_parameters_follow_the_law_of_torchio():
    rng, anisotropy = np.random.default_rng(0), Anisotropy()
    torch.manual_seed(0)
    peer = torchio.RandomAnisotropy()
    ours = [anisotropy.sample(rng, (4, 4, 4, 1)) for _ in range(3_000)]
    theirs = [peer.get_params(peer.axes, peer.downsampling_range) for _ in range(3_000)]
    assert_same_law(ours, theirs)


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(5, 9, 2), (7, 4, 30, 1), (1, 6, 5, 2)]))
@settings(max_examples=15, deadline=None)
def test_numpy_and_jax_agree(seed, shape):
    assert_libraries_agree(Anisotropy(probability=1.0), shape, seed)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_label_maps_gain_no_value(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(3, 6, (5, 13)).astype(np.int32)
    anisotropy = Anisotropy(scalars_only=False, probability=1.0)
    parameters = anisotropy.draw(rng, (5, 13, 1))
    result = anisotropy.apply_label(label, parameters, np)
    assert set(result.ravel()) <= set(label.ravel())
    in_jax = jax.jit(lambda x, p: anisotropy.apply_label(x, p, jnp))(label, parameters)
    np.testing.assert_array_equal(in_jax, result)


@given(seed=st.integers(0, 2**31), axis=st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_thick_slices_commute_with_flips(seed, axis):
    rng = np.random.default_rng(seed)
    image = rng.random((11, 9, 17, 1)).astype(np.float32)  # the middle of even axes is rounded up
    parameters = coarse_grid(image.shape, axis=axis, downsampling=rng.uniform(1.5, 4))
    result = Anisotropy().apply(np.flip(image, axis), parameters, np)
    assert_close(np.flip(result, axis), Anisotropy().apply(image, parameters, np))


def test_straight_ramps_stay_straight_between_the_kept_voxels():
    ramp = np.arange(31, dtype=np.float32)[:, None]
    parameters = coarse_grid(ramp.shape, axis=0, downsampling=3.0)  # keeps 1, 4, ... (10 voxels)
    result = Anisotropy().apply(ramp, parameters, np)
    np.testing.assert_allclose(result[2:28], ramp[2:28], atol=0.5)


def test_label_maps_are_left_alone_unless_asked():
    label = np.arange(12).reshape(3, 4)
    parameters = coarse_grid((3, 4, 1), axis=1, downsampling=2.0)
    assert Anisotropy().apply_label(label, parameters, np) is label


def test_an_axis_shorter_than_the_distance_keeps_its_middle():
    image = np.array([1.0, 5.0, 9.0], np.float32)[:, None]
    parameters = coarse_grid(image.shape, axis=0, downsampling=4.0)
    assert Anisotropy().apply(image, parameters, np).ravel().tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("options", [{"axes": (-1,)}, {"downsampling": (0.5, 2.0)}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="anisotropy: "):
        Anisotropy(**options)
