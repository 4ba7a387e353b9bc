"""Named networks, with their exact parameter counts."""

import functools
from collections.abc import Mapping
from inspect import signature
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PyTree

from segjax.errors import InputError
from segjax.models.network import Network, complete
from segjax.models.unet import UNet
from segjax.models.unet_plus_plus import UNetPlusPlus
from segjax.registry import accepted, register, registry

# Giraud et al.'s MPU-Net joined with U-Net++: 37,935 parameters with 1 → 2 channels
register("network", "mpunet++", UNetPlusPlus)
# The meningioma study: 2,651,580 / 7,363,260 / 14,430,780 / 23,854,140 parameters
for _size in (3, 5, 7, 9):
    _unet2d = functools.partial(UNet, kernel_size=_size, dropout=0.3)
    register("network", f"unet2d-k{_size}", _unet2d)
# Ours, under 1 MB as an ONNX file: 209,628 parameters
_small = functools.partial(UNet, channels=(16, 24, 32, 48, 64, 80))
register("network", "unet2d-small", _small)
# "About 1.7 M parameters" is all that the MS study says of its 3D U-Net. Assumed here:
# MONAI's layout, kernel 3, four halvings, channels 16 to 128 and a bottom of 200.
_unet3d = functools.partial(
    UNet, channels=(16, 32, 64, 128, 200), strides=(2, 2, 2, 2), spatial_dims=3
)
register("network", "unet3d", _unet3d)
_OF_FLAX = ("parent", "name")


def names() -> tuple[str, ...]:
    """Return the names that `create` knows.

    Example:
        >>> import segjax
        >>> segjax.models.names()
        ('mpunet++', 'unet2d-k3', 'unet2d-k5', 'unet2d-k7', 'unet2d-k9', 'unet2d-small', 'unet3d')
    """
    return registry("network").names()


def create(
    name: str, *, in_channels: int = 1, out_channels: int = 2, rank: int = 3, **overrides: Any
) -> Network:
    """Create a network by name.

    Others are registered as a Flax Linen module, or a function that makes one, and take by name
    what they use of ``in_channels`` and ``out_channels``.

    | name | what | parameters (1 → 2 channels) |
    |---|---|---|
    | mpunet++ | 3D U-Net++ of the MS study | 37,935 (1 → 1: 37,758) |
    | unet2d-k3 | MONAI's 2D U-Net, kernel 3, dropout 0.3 | 2,651,580 |
    | unet2d-k5 | the same, kernel 5 | 7,363,260 |
    | unet2d-k7 | the same, kernel 7 | 14,430,780 |
    | unet2d-k9 | the same, kernel 9 | 23,854,140 |
    | unet2d-small | the same, kernel 3, channels 16 to 80, no dropout | 209,628 |
    | unet3d | MONAI's 3D U-Net, channels 16, 32, 64, 128, 200 | 1,689,250 |

    Args:
        name: One of `names()`.
        in_channels: Channels of the images.
        out_channels: Classes with the background (softmax), or 1 (sigmoid).
        rank: Spatial axes of the images, which matter to a network that does not say its own.
        **overrides: Other attributes of the network, such as `dropout`.

    Returns:
        A Flax Linen module or what stands for one: `variables = model.init(key, images)`,
        `logits = model.apply(variables, images)`.

    Raises:
        InputError: If the name or an override is unknown, or it names no Flax Linen module.

    Example:
        >>> import segjax
        >>> segjax.models.create("mpunet++", out_channels=3).features
        (6, 7, 8, 9)
    """
    made = registry("network").get(name)
    is_module = isinstance(made, nn.Module)
    kind, make = (type(made), made.clone) if is_module else (made, made)
    channels = {"in_channels": in_channels, "out_channels": out_channels}
    try:
        module = make(**accepted(kind, **channels), **overrides)
    except TypeError as error:
        known = [option for option in signature(kind).parameters if option not in _OF_FLAX]
        raise InputError(f"{name} takes {', '.join(known)}: {error}") from error
    return complete(module, rank=rank, **channels)


def count_parameters(variables: Mapping[str, PyTree]) -> int:
    """Count the trained numbers of a network: those under "params", not running statistics.

    Example:
        >>> import jax, jax.numpy as jnp, segjax
        >>> model = segjax.models.create("mpunet++")
        >>> images = jnp.zeros((1, 8, 8, 8, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> segjax.models.count_parameters(variables)
        37935
    """
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
