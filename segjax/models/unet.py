"""The U-Net of MONAI (`monai.networks.nets.UNet` with `num_res_units=0`), 2D and 3D."""

import math

from flax import linen as nn
from jaxtyping import Array, Float

from segjax.models import ops
from segjax.models.layers import ConvInstanceNorm, ConvTranspose


class UNet(nn.Module):
    """Strided convolutions down, transposed ones up, each → InstanceNorm → dropout → PReLU.

    The last level is a convolution of stride 1; the last transposed convolution, to the
    classes, stands alone. Each way up takes the features of its level and those from below.

    Attributes:
        in_channels: Channels of the images.
        out_channels: Classes, or 1 for a sigmoid.
        channels: Channels of each level, the bottom last.
        strides: Of each level but the bottom: 1 or 2.
        kernel_size: Odd, of the convolutions and the transposed ones.
        dropout: Probability that an element is dropped, in training.
        spatial_dims: 2 or 3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from segjax.models.unet import UNet
        >>> model = UNet(channels=(4, 8, 16), strides=(2, 2))
        >>> images = jnp.zeros((1, 16, 16, 1))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> jax.jit(model.apply)(variables, images).shape
        (1, 16, 16, 2)
    """

    in_channels: int = 1
    out_channels: int = 2
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 2, 2, 2)
    kernel_size: int = 3
    dropout: float = 0.0
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: If there is not one stride per level but the bottom, or a kernel is even.
        """
        super().__post_init__()
        if len(self.strides) != len(self.channels) - 1 or len(self.channels) < 2:
            raise ValueError(
                f"one stride for each level but the bottom, got {len(self.strides)} strides "
                f"for {len(self.channels)} levels"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")

    @property
    def size_multiple(self) -> int:
        """What every spatial size must be a multiple of."""
        return math.prod(self.strides)

    @property
    def heads(self) -> int:
        """None, so that there is no deep supervision."""
        return 0

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch *spatial channel"], *, train: bool = False
    ) -> Float[Array, "batch *_ class"]:
        """Return logits (batch, *spatial, class).

        Raises:
            ValueError: If rank, channels or spatial sizes do not fit.
        """
        x = ops.from_images(
            images,
            spatial_dims=self.spatial_dims,
            in_channels=self.in_channels,
            size_multiple=self.size_multiple,
        )
        levels = range(len(self.strides))
        skips = []
        for level in levels:
            x = self._layer(f"down{level}", self.channels[level], self.strides[level])(
                x, train=train
            )
            skips.append(x)
        x = self._layer("bottom", self.channels[-1], 1)(x, train=train)
        for level in reversed(levels[1:]):
            up = self._layer(
                f"up{level}", self.channels[level - 1], self.strides[level], transposed=True
            )
            x = up(skips[level], x, train=train)
        last = ConvTranspose(self.out_channels, self.kernel_size, self.strides[0], name="up0")
        return ops.to_images(last(skips[0], x))

    def _layer(
        self, name: str, features: int, stride: int, *, transposed: bool = False
    ) -> ConvInstanceNorm:
        return ConvInstanceNorm(
            features, self.kernel_size, stride, self.dropout, transposed, name=name
        )
