"""The U-Net's shapes, dropout and checks (parity with MONAI: test_torch_weights.py)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import UNet

SMALL = {"channels": (4, 6, 8), "strides": (2, 2)}


def _initialised(model, *spatial):
    images = jax.random.normal(jax.random.key(1), (2, *spatial, model.in_channels))
    return images, jax.jit(model.init)(jax.random.key(0), images)


@pytest.mark.parametrize("spatial", [(16, 24), pytest.param((8, 12, 16), marks=pytest.mark.slow)])
def test_logits_have_the_images_grid(spatial):
    model = UNet(**SMALL, in_channels=3, out_channels=5, spatial_dims=len(spatial))
    images, variables = _initialised(model, *spatial)
    assert jax.jit(model.apply)(variables, images).shape == (2, *spatial, 5)


@pytest.mark.slow
def test_a_level_of_stride_one_keeps_its_size():
    model = UNet(channels=(4, 6, 8), strides=(1, 2))
    images, variables = _initialised(model, 6, 10)
    assert model.size_multiple == 2
    assert jax.jit(model.apply)(variables, images).shape == (2, 6, 10, 2)


def test_dropout_acts_in_training_alone_and_repeats_by_key():
    model = UNet(**SMALL, dropout=0.5)
    images, variables = _initialised(model, 16, 16)

    @jax.jit
    def train(seed):
        return model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)})

    np.testing.assert_array_equal(train(0), train(0))
    assert not np.allclose(train(0), train(1))
    np.testing.assert_array_equal(model.apply(variables, images), model.apply(variables, images))


def test_without_dropout_training_needs_no_key_and_equals_evaluation():
    model = UNet(**SMALL)
    images, variables = _initialised(model, 16, 16)
    trained, evaluated = (
        jax.jit(functools.partial(model.apply, train=train))(variables, images)
        for train in (True, False)
    )
    np.testing.assert_array_equal(trained, evaluated)


def test_vmap_over_seeds_gives_each_seed_its_network():
    model = UNet(**SMALL)
    images = jnp.ones((1, 8, 8, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    predict = jax.jit(lambda key: model.apply(model.init(key, images), images))
    many, one = jax.jit(jax.vmap(predict))(keys), predict(keys[1])
    np.testing.assert_allclose(many[1], one, atol=1e-5)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4, got \(16, 18\)"):
        UNet(**SMALL).init(jax.random.key(0), jnp.zeros((1, 16, 18, 1)))


def test_one_stride_per_level_is_required():
    with pytest.raises(ValueError, match="got 3 strides for 3 levels"):
        UNet(channels=(4, 6, 8), strides=(2, 2, 2))


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
        UNet(**SMALL, kernel_size=4)
