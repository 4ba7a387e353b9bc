"""What a network has to say of itself, and what is assumed of one that says less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax.errors import InputError
from segjax.models import Network, UNet, create, names
from segjax.models.network import built_on_ops, complete, name_of
from segjax.registry import registry


class Bare(nn.Module):
    """A module that says nothing of itself, and makes no difference in training."""

    outputs: int = 2

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.outputs)(images)


class Noisy(nn.Module):
    """A module whose call must be told whether it trains."""

    out_channels: int
    size_multiple: int = 4

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dropout(0.5, deterministic=not train)(images)
        return nn.Dense(self.out_channels)(x)


class Deterministic(Noisy):
    """The same, told by Flax's own word."""

    @nn.compact
    def __call__(self, images, deterministic):
        x = nn.Dropout(0.5, deterministic=deterministic)(images)
        return nn.Dense(self.out_channels)(x)


def test_networks_of_the_zoo_state_all_facts_and_stay_as_they_are():
    for name in names():
        network = create(name)
        assert isinstance(network, Network)
        assert complete(network, in_channels=5, out_channels=5, rank=3) is network
        assert built_on_ops(network)


def test_module_that_says_nothing_takes_any_size_and_has_no_heads():
    network = complete(Bare(), in_channels=3, out_channels=2, rank=2)
    assert isinstance(network, Network)
    assert (network.spatial_dims, network.in_channels, network.out_channels) == (2, 3, 2)
    assert (network.size_multiple, network.heads) == (1, 0)
    assert name_of(network) == "Bare"
    assert not built_on_ops(network)


def test_module_without_train_computes_the_same_in_training():
    network = complete(Bare(), in_channels=1, out_channels=2, rank=2)
    images = jnp.ones((1, 4, 4, 1))
    variables = network.init(jax.random.key(0), images)
    logits, updates = network.apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(logits, Bare().apply(variables, images))
    assert updates == {}


@pytest.mark.parametrize("kind", [Noisy, Deterministic])
def test_module_that_must_be_told_is_told_whether_it_trains(kind):
    network = complete(kind(2), in_channels=1, out_channels=7, rank=3)
    assert (network.out_channels, network.size_multiple) == (2, 4)
    images = jnp.ones((1, 4, 4, 4, 1))
    variables = network.init(jax.random.key(0), images)
    same = network.apply(variables, images)
    dropped = network.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    assert len(np.unique(np.asarray(same)[..., 0])) == 1
    assert len(np.unique(np.asarray(dropped)[..., 0])) == 2


def test_registered_networks_are_made_of_what_they_take():
    networks = registry("network")
    with networks.lend(Noisy, "noisy"), networks.lend(functools.partial(Bare, 4), "bare"):
        assert create("noisy", out_channels=3, in_channels=2).out_channels == 3
        bare = create("bare", out_channels=4, in_channels=2, rank=2)
        assert (bare.in_channels, bare.out_channels, bare.spatial_dims) == (2, 4, 2)
        with pytest.raises(InputError, match=r"noisy takes out_channels, size_multiple: .*depth"):
            create("noisy", depth=3)
    with networks.lend(UNet(channels=(2, 4), strides=(2,)), "small"):
        assert create("small", out_channels=5, dropout=0.1).out_channels == 5


def test_what_is_no_flax_module_is_no_network():
    with (
        registry("network").lend(lambda: "network", "text"),
        pytest.raises(InputError, match="'network' is no network: give a module of Flax Linen"),
    ):
        create("text")
