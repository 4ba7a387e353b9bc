"""U-Net++'s shapes, dropout and statistics (parity with PyTorch: test_torch_weights.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import UNetPlusPlus


def _initialised(model, *spatial):
    images = jax.random.normal(jax.random.key(1), (2, *spatial, model.in_channels))
    return images, jax.jit(model.init)(jax.random.key(0), images)


@pytest.mark.parametrize("spatial", [pytest.param((8, 12), marks=pytest.mark.slow), (8, 12, 4)])
def test_logits_have_the_images_grid(spatial):
    model = UNetPlusPlus(2, 3, features=(4, 5, 6), spatial_dims=len(spatial))
    images, variables = _initialised(model, *spatial)
    assert model.size_multiple == 4
    assert jax.jit(model.apply)(variables, images).shape == (2, *spatial, 3)


def test_training_updates_the_running_statistics_and_evaluation_does_not():
    model = UNetPlusPlus(features=(4, 5), dropout=0.0)
    images, variables = _initialised(model, 8, 8, 8)
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    _, updates = apply(variables, images, train=True, mutable="batch_stats")
    before = variables["batch_stats"]["X00"]["first"]["mean"]
    assert np.all(before == 0)
    assert np.any(updates["batch_stats"]["X00"]["first"]["mean"] != 0)
    _, untouched = apply(variables, images, mutable="batch_stats")
    jax.tree.map(np.testing.assert_array_equal, untouched["batch_stats"], variables["batch_stats"])


@pytest.mark.slow
def test_evaluation_with_the_batch_s_own_statistics_equals_training():
    model = UNetPlusPlus(features=(4, 5), dropout=0.0)
    images, variables = _initialised(model, 16, 16, 16)
    train = jax.jit(
        lambda variables: model.apply(variables, images, train=True, mutable=["batch_stats"])
    )
    for _ in range(300):
        trained, updates = train(variables)
        variables = {**variables, **updates}
    np.testing.assert_allclose(jax.jit(model.apply)(variables, images), trained, atol=0.02)


def test_channel_dropout_acts_in_training_alone_and_repeats_by_key():
    model = UNetPlusPlus(features=(4, 5), dropout=0.5)
    images, variables = _initialised(model, 8, 8, 8)

    @jax.jit
    def train(seed):
        key = jax.random.key(seed)
        return model.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )[0]

    np.testing.assert_array_equal(train(0), train(0))
    assert not np.allclose(train(0), train(1))


def test_a_bias_that_feeds_a_norm_has_no_gradient_in_training():
    model = UNetPlusPlus(features=(4, 5), dropout=0.0)
    images, variables = _initialised(model, 8, 8, 8)

    def loss(params):
        logits, _ = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    assert np.all(gradient["X00"]["first"]["bias"] == 0)
    assert np.any(gradient["X01"]["second"]["bias"] != 0)


def test_heads_are_the_terms_of_the_output_and_sown_only_when_asked_for():
    model = UNetPlusPlus(features=(2, 3, 4), spatial_dims=2)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 8, 8, 1)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    assert variables.keys() == {"params", "batch_stats"}
    apply = jax.jit(lambda variables: model.apply(variables, images, mutable=["intermediates"]))
    whole, sown = apply(variables)
    last, head = sown["intermediates"]["heads"]
    assert model.heads == 2
    np.testing.assert_allclose(last + head, whole, atol=1e-6)
    variables["params"]["head1"] = jax.tree.map(jnp.zeros_like, variables["params"]["head1"])
    np.testing.assert_allclose(last, apply(variables)[0], atol=1e-6)
    assert UNetPlusPlus(features=(2, 3)).heads == 0
