"""The forms of a GPU, and the reference of every other form: plain `lax`, channels last.

On a GPU, XLA hands a convolution to cuDNN as one of three kinds: forward, gradient of the input, or
gradient of the kernel. Each form here, and each of its gradients, is written so as to be one.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PRNGKeyArray

from segjax.models import _pooling
from segjax.models._forms import (
    Features,
    Images,
    Keep,
    Kernel,
    PerChannel,
    Slope,
    Vector,
    Weights,
)
from segjax.models._normalization import batch_norm_leaky_relu, instance_norm_prelu
from segjax.models._random import channel_dropout, dropout_mask


def same_padding(size: int) -> tuple[int, int]:
    """Return the zeros before and after an axis that keep its length at stride 1."""
    return (size - 1) // 2, size // 2


Convolution = Callable[[Features, Kernel], Features]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def transpose_conv(
    strided: Convolution, transposed: Convolution, x: Features, kernel: Kernel
) -> Features:
    """Apply the transpose of a strided convolution; both gradients come from that convolution.

    XLA derives the kernel gradient of a transposed convolution as a convolution of dilated images
    with a window as large as they are, which nothing computes fast; that of the strided one is a
    kernel gradient that every backend knows.

    Args:
        strided: The convolution, of features of the output and a kernel ``(*size, out, in)``.
        transposed: Its transpose.
        x: Features.
        kernel: ``(*size, in, out)``.
    """
    return transposed(x, kernel)


def _transpose_conv_backward(
    strided: Convolution, _: Convolution, saved: tuple[Features, Kernel], cotangent: Features
) -> tuple[Features, Kernel]:
    x, kernel = saved
    adjoint = kernel.swapaxes(-2, -1)
    dx, kernel_gradient = jax.vjp(lambda k: strided(cotangent, k), adjoint)
    return dx, kernel_gradient(x)[0].swapaxes(-2, -1)


transpose_conv.defvjp(
    lambda strided, transposed, x, kernel: (transposed(x, kernel), (x, kernel)),
    _transpose_conv_backward,
)


class LaxForms:
    """Features are (batch, *spatial, channel), as images are."""

    def __init__(self, rank: int):
        self.rank = rank
        self.channel_axis = rank + 1
        self.spatial_axes = tuple(range(1, rank + 1))

    @property
    def _dimensions(self) -> lax.ConvDimensionNumbers:
        """Where batch, channel and space lie in features and kernels."""
        last, space = self.rank + 1, self.spatial_axes
        features = (0, self.channel_axis, *space)
        kernel = (last, last - 1, *range(self.rank))
        return lax.ConvDimensionNumbers(features, kernel, features)

    def from_images(self, images: Images) -> Features:
        return images

    def to_images(self, features: Features) -> Features:
        return features

    def channels(self, features: Features) -> int:
        return features.shape[self.channel_axis]

    def per_channel(self, values: Vector) -> Features:
        """Shape one value per channel so that it broadcasts over features."""
        return jnp.asarray(values).reshape((-1,) + (1,) * (self.rank + 1 - self.channel_axis))

    def add_bias(self, features: Features, bias: Vector | None) -> Features:
        """Add one value per channel; the sum, and that of its gradient, in the bias's type."""
        if bias is None:
            return features
        return (features + self.per_channel(bias)).astype(features.dtype)

    def concatenate(self, xs: Sequence[Features]) -> Features:
        return xs[0] if len(xs) == 1 else jnp.concatenate(xs, self.channel_axis)

    def conv(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        y = self._strided(stride, self.concatenate(xs), jnp.asarray(kernel))
        return self.add_bias(y, bias)

    def conv_transpose(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        kernel, x = jnp.asarray(kernel), self.concatenate(xs)
        if stride == 1:
            return self.conv((x,), self._flip(kernel), bias, 1)
        strided = functools.partial(self._strided, stride)
        transposed = functools.partial(self._transposed, stride)
        return self.add_bias(transpose_conv(strided, transposed, x, kernel), bias)

    def _strided(self, stride: int, x: Features, kernel: Kernel) -> Features:
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride,) * self.rank,
            [same_padding(k) for k in kernel.shape[: self.rank]],
            dimension_numbers=self._dimensions,
        )

    def _transposed(self, stride: int, x: Features, kernel: Kernel) -> Features:
        return lax.conv_general_dilated(
            x,
            self._flip(kernel),
            (1,) * self.rank,
            [(k // 2, k // 2 + stride - 1) for k in kernel.shape[: self.rank]],
            lhs_dilation=(stride,) * self.rank,
            dimension_numbers=self._dimensions,
        )

    def _flip(self, kernel: Kernel) -> Kernel:
        return lax.rev(kernel, tuple(range(self.rank)))

    def batch_norm_leaky_relu(
        self, y: Features, scale: Vector, shift: Vector, slope: float
    ) -> tuple[Features, PerChannel, PerChannel]:
        return batch_norm_leaky_relu(
            y, jnp.asarray(scale), jnp.asarray(shift), slope, self.channel_axis
        )

    def leaky_relu(self, y: Features, slope: float) -> Features:
        return jnp.where(y >= 0, y, slope * y)

    def instance_norm_prelu(self, y: Features, slope: Slope, keep: Keep | None) -> Features:
        return instance_norm_prelu(y, jnp.asarray(slope), keep, self.channel_axis)

    def dropout_mask(self, key: PRNGKeyArray, rate: float, y: Features) -> Keep:
        return dropout_mask(key, rate, y.shape)

    def channel_dropout(self, x: Features, rate: float, key: PRNGKeyArray) -> Features:
        return channel_dropout(x, rate, key, self.channel_axis)

    def max_pool(self, x: Features) -> Features:
        return _pooling.max_pool(x, self.spatial_axes)

    def upsample(self, x: Features) -> Features:
        return _pooling.upsample(x, self.spatial_axes)
