"""What an export knows, told without one."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from segjax.models import create
from segjax.models.network import complete
from segjax_onnx.write.supported import obstacle, unsupported


class Odd(nn.Module):
    """Operations without a form in ONNX, one of them within a loop."""

    @nn.compact
    def __call__(self, images):
        x = jax.lax.lgamma(1 + images**2)
        x, _ = jax.lax.scan(lambda x, _: (jax.scipy.special.i0e(x), None), x, None, length=2)
        return nn.Dense(2)(x)


class Plain(nn.Module):
    """Layers of Flax, as anyone writes them."""

    @nn.compact
    def __call__(self, images):
        return nn.Conv(2, (3, 3))(nn.relu(nn.Conv(4, (3, 3))(images)))


class Positional(nn.Module):
    """A call that jax2onnx does not expect."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(nn.max_pool(images, (1, 1), (1, 1)))


def batch(rank):
    return jax.ShapeDtypeStruct((1, *(32,) * rank, 1), jnp.float32)


@pytest.mark.parametrize("name", ["mpunet++", "unet2d-k3"])
def test_networks_of_the_zoo_have_nothing_that_onnx_lacks(name):
    network = create(name)
    assert unsupported(network, batch(network.spatial_dims)) == ()


def test_operations_that_onnx_lacks_are_named_wherever_they_are():
    network = complete(Odd(), in_channels=1, out_channels=2, rank=2)
    assert unsupported(network, batch(2)) == ("bessel_i0e", "lgamma")


@pytest.mark.slow
def test_a_plain_flax_network_is_tried(tmp_path):
    small = {"in_channels": 1, "out_channels": 2, "rank": 2}
    assert obstacle(complete(Plain(), **small), batch(2)) == ""
    assert "lgamma" in obstacle(complete(Odd(), **small), batch(2))
    tall = obstacle(complete(Positional(), **small), batch(2))
    assert re.search("jax2onnx cannot convert Positional .TypeError: ", tall)


@pytest.mark.slow
def test_every_operation_that_is_said_to_be_known_is_one_of_jax2onnx():
    from jax2onnx.plugins import plugin_system

    from segjax_onnx.write.supported import _CONVERTED

    plugin_system.import_all_plugins()
    assert set(plugin_system.PLUGIN_REGISTRY) >= _CONVERTED
