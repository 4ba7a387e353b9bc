"""The named networks have exactly the parameters that the studies report."""

import jax
import jax.numpy as jnp
import pytest

from segjax.errors import InputError
from segjax.models import count_parameters, create, names


def _count(name, out_channels):
    model = create(name, out_channels=out_channels)
    size = (2 * model.size_multiple,) * model.spatial_dims
    images = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    return count_parameters(jax.eval_shape(model.init, jax.random.key(0), images))


@pytest.mark.parametrize(
    ("name", "out_channels", "parameters"),
    [
        ("mpunet++", 2, 37_935),
        ("mpunet++", 1, 37_758),
        ("unet2d-k3", 2, 2_651_580),
        ("unet2d-k5", 2, 7_363_260),
        ("unet2d-k7", 2, 14_430_780),
        ("unet2d-k9", 2, 23_854_140),
        ("unet2d-small", 2, 209_628),
        ("unet3d", 2, 1_689_250),
    ],
)
def test_parameter_counts_are_exact(name, out_channels, parameters):
    assert _count(name, out_channels) == parameters


def test_every_name_creates_a_network_and_unet3d_has_about_1_7_million_parameters():
    of_2d = ("unet2d-k3", "unet2d-k5", "unet2d-k7", "unet2d-k9", "unet2d-small")
    assert names() == ("mpunet++", *of_2d, "unet3d")
    assert 1_650_000 <= _count("unet3d", 2) <= 1_750_000


def test_overrides_reach_the_network():
    assert create("unet3d", dropout=0.1, in_channels=4).dropout == 0.1


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown network 'vnet': .* Known are mpunet"):
        create("vnet")


def test_an_unknown_override_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"mpunet\+\+ takes .*features, dropout"):
        create("mpunet++", depth=4)
