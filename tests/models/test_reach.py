import jax
import numpy as np
import pytest
from flax import linen as nn

from segjax import models
from segjax.models import UNetPlusPlus
from segjax.models.network import complete
from segjax.models.reach import halo_of


def changed(network, halo, multiple):
    """Return how far from a border an output moves when all that lies beyond changes."""
    rng = np.random.default_rng(0)
    size = 2 * multiple * (-(-halo // multiple) + 1)
    shape = (1, size, *(multiple,) * (network.spatial_dims - 1), 1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros(shape, np.float32))
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape).astype(np.float32), shapes)
    one = rng.random(shape).astype(np.float32)
    before = np.arange(size).reshape(1, -1, *(1,) * network.spatial_dims) < size // 2
    apply = jax.jit(network.apply)
    moved = [
        np.asarray(apply(variables, one) != apply(variables, one + side)).reshape(size, -1).any(-1)
        for side in (before.astype(np.float32), (~before).astype(np.float32))
    ]
    return max(int(moved[0][size // 2 :].sum()), int(moved[1][: size // 2].sum()))


@pytest.mark.parametrize(("features", "rank"), [((2, 3), 2), ((2, 3), 3), ((2, 2, 2), 2)])
def test_halo_is_how_far_a_change_is_felt(features, rank):
    network = UNetPlusPlus(features=features, spatial_dims=rank)
    halo = halo_of(network)
    assert halo == changed(network, halo, network.size_multiple)


def test_halo_of_mpunet_plus_plus_is_46_voxels():
    # by hand: two convolutions of 3 at X00, X10, X20, X30, X21, X12 and X03 are
    # 2·(1 + 2 + 4 + 8 + 4 + 2 + 1) = 44 voxels; 2 more, as coarse cells reach over the border
    assert halo_of(models.create("mpunet++")) == 46


def test_networks_that_see_all_of_an_image_have_no_halo():
    assert halo_of(models.create("unet2d-k3", channels=(4, 6), strides=(2,))) is None


def test_nothing_is_known_of_networks_of_other_operations():
    network = complete(nn.Conv(2, (3, 3)), in_channels=1, out_channels=2, rank=2)
    assert halo_of(network) is None


class Transposed(nn.Module):
    spatial_dims: int = 2
    in_channels: int = 1
    out_channels: int = 2
    size_multiple: int = 2
    heads: int = 0

    @nn.compact
    def __call__(self, images, *, train=False):
        from segjax.models import ops
        from segjax.models.layers import Conv, ConvTranspose

        x = ops.from_images(images, spatial_dims=2, in_channels=1, size_multiple=2)
        x = Conv(3, kernel_size=5, stride=2)(x)
        return ops.to_images(ConvTranspose(2, kernel_size=3, stride=2)(x))


def test_halo_goes_through_strided_and_transposed_convolutions():
    network = Transposed()
    assert halo_of(network) == changed(network, halo_of(network), 2)
