"""Flax Linen networks: pure functions of (variables, images)."""

from segjax.models.network import Network
from segjax.models.torch_weights import from_torch
from segjax.models.unet import UNet
from segjax.models.unet_plus_plus import UNetPlusPlus
from segjax.models.zoo import count_parameters, create, names

__all__ = [
    "Network",
    "UNet",
    "UNetPlusPlus",
    "count_parameters",
    "create",
    "from_torch",
    "names",
]
