"""U-Net++ (Zhou et al. 2018, arXiv:1807.10165) as MPU-Net++ uses it."""

from flax import linen as nn
from jaxtyping import Array, Float

from segjax.models import ops
from segjax.models._forms import Features
from segjax.models.layers import Conv, ConvBatchNorm


class Node(nn.Module):
    """Conv → BatchNorm → LeakyReLU → channel dropout → conv → BatchNorm → LeakyReLU.

    With `out_channels` the second convolution maps to the classes and stands alone.
    """

    features: int
    dropout: float
    out_channels: int | None = None

    @nn.compact
    def __call__(self, *xs: Features, train: bool) -> Features:
        """Apply the node to the concatenated channels of `xs`."""
        x = ConvBatchNorm(self.features, name="first")(*xs, train=train)
        if train and self.dropout:
            x = ops.channel_dropout(x, rate=self.dropout, key=self.make_rng("dropout"))
        if self.out_channels is not None:
            return Conv(self.out_channels, name="second")(x)
        return ConvBatchNorm(self.features, name="second")(x, train=train)


class UNetPlusPlus(nn.Module):
    """A triangle of nodes X_ij: level i of resolution, column j.

    X_i0 takes the pooled X_(i-1)0; X_ij takes X_i0 … X_i(j-1) and the upsampled X_(i+1)(j-1).
    The output adds 1×1×1 heads of X_01 … X_0(L-2) to the last node, whose second convolution
    maps to the classes. These terms of the sum are sown as ``heads`` among the intermediates, as
    images of logits, that of the last node first and that of X_01 last: deep supervision trains
    each of them to segment alone.

    Attributes:
        in_channels: Channels of the images.
        out_channels: Classes, or 1 for a sigmoid.
        features: Channels of each level.
        dropout: Probability that a channel is dropped, in training.
        spatial_dims: 2 or 3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from segjax.models.unet_plus_plus import UNetPlusPlus
        >>> model = UNetPlusPlus(features=(4, 6))
        >>> images = jnp.zeros((1, 8, 8, 8, 1))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> jax.jit(model.apply)(variables, images).shape
        (1, 8, 8, 8, 2)
    """

    in_channels: int = 1
    out_channels: int = 2
    features: tuple[int, ...] = (6, 7, 8, 9)
    dropout: float = 0.3
    spatial_dims: int = 3

    @property
    def size_multiple(self) -> int:
        """What every spatial size must be a multiple of."""
        return 2 ** (len(self.features) - 1)

    @property
    def heads(self) -> int:
        """Number of logits whose sum is the output; 0 where there is only one."""
        return len(self.features) - 1 if len(self.features) > 2 else 0

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
        levels = len(self.features)
        nodes: dict[tuple[int, int], Features] = {}
        for level in range(levels):
            x = nodes[level, 0] = self._node(level, 0)(x, train=train)
            if level < levels - 1:
                x = ops.max_pool(x)
        for column in range(1, levels):
            for level in range(levels - column):
                same_level = [nodes[level, j] for j in range(column)]
                below = ops.upsample(nodes[level + 1, column - 1])
                nodes[level, column] = self._node(level, column)(*same_level, below, train=train)
        logits = [nodes[0, levels - 1]]
        for column in range(1, levels - 1):
            head = Conv(self.out_channels, kernel_size=1, name=f"head{column}")
            logits.append(head(nodes[0, column]))
        self._sow(logits)
        return ops.to_images(ops.add(logits))

    def _sow(self, logits: list[Features]) -> None:
        if self.is_mutable_collection("intermediates"):
            for part in (logits[0], *reversed(logits[1:])):
                self.sow("intermediates", "heads", ops.to_images(part))

    def _node(self, level: int, column: int) -> Node:
        last = (level, column) == (0, len(self.features) - 1)
        classes = self.out_channels if last else None
        return Node(self.features[level], self.dropout, classes, name=f"X{level}{column}")
