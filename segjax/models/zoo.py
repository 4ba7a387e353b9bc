"""Named networks, with their exact parameter counts."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from segjax.models.unet import UNet
from segjax.models.unet_plus_plus import UNetPlusPlus

_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    # Giraud et al.'s MPU-Net joined with U-Net++: 37,935 parameters with 1 → 2 channels
    "mpunet++": UNetPlusPlus,
    # The meningioma study: 2,651,580 / 7,363,260 / 14,430,780 / 23,854,140 parameters
    **{f"unet2d-k{k}": functools.partial(UNet, kernel_size=k, dropout=0.3) for k in (3, 5, 7, 9)},
    # "About 1.7 M parameters" is all that the MS study says of its 3D U-Net. Assumed here:
    # MONAI's layout, kernel 3, four halvings, channels 16 to 128 and a bottom of 200.
    "unet3d": functools.partial(
        UNet, channels=(16, 32, 64, 128, 200), strides=(2, 2, 2, 2), spatial_dims=3
    ),
}


def names() -> tuple[str, ...]:
    """Return the names that `create` knows.

    Example:
        >>> import segjax
        >>> segjax.models.names()
        ('mpunet++', 'unet2d-k3', 'unet2d-k5', 'unet2d-k7', 'unet2d-k9', 'unet3d')
    """
    return tuple(_NETWORKS)


def create(name: str, *, in_channels: int = 1, out_channels: int = 2, **overrides: Any) -> Any:
    """Create a network by name.

    | name | what | parameters (1 → 2 channels) |
    |---|---|---|
    | mpunet++ | 3D U-Net++ of the MS study | 37,935 (1 → 1: 37,758) |
    | unet2d-k3 | MONAI's 2D U-Net, kernel 3, dropout 0.3 | 2,651,580 |
    | unet2d-k5 | the same, kernel 5 | 7,363,260 |
    | unet2d-k7 | the same, kernel 7 | 14,430,780 |
    | unet2d-k9 | the same, kernel 9 | 23,854,140 |
    | unet3d | MONAI's 3D U-Net, channels 16, 32, 64, 128, 200 | 1,689,250 |

    Args:
        name: One of `names()`.
        in_channels: Channels of the images.
        out_channels: Classes with the background (softmax), or 1 (sigmoid).
        **overrides: Other attributes of the network, such as `dropout`.

    Returns:
        A Flax Linen module: `variables = model.init(key, images)`,
        `logits = model.apply(variables, images)`.

    Raises:
        ValueError: If the name or an override is unknown.

    Example:
        >>> import segjax
        >>> segjax.models.create("mpunet++", out_channels=3).features
        (6, 7, 8, 9)
    """
    if name not in _NETWORKS:
        raise ValueError(f"no network is named '{name}': choose one of {', '.join(_NETWORKS)}")
    try:
        return _NETWORKS[name](in_channels=in_channels, out_channels=out_channels, **overrides)
    except TypeError as error:
        model = _NETWORKS[name]()
        known = [f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name")]
        raise ValueError(f"{name} takes {', '.join(known)}: {error}") from error


def count_parameters(variables: Mapping[str, Any]) -> int:
    """Count the trained numbers of a network: those under "params", not running statistics.

    Example:
        >>> import jax, jax.numpy as jnp, segjax
        >>> model = segjax.models.create("mpunet++")
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 8, 1)))
        >>> segjax.models.count_parameters(variables)
        37935
    """
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
