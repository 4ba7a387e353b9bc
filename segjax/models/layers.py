"""The layers that own parameters: each is one convolution with what follows it."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from segjax.models import ops
from segjax.models._forms import Features, Vector, Weights


def _he_normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draw from a normal distribution of variance 2 / fan-in (He et al. 2015).

    Drawn flat: XLA takes seconds to compile a random array of five axes.
    """
    deviation = math.sqrt(2 / math.prod(shape[:-1]))
    return deviation * jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def _kernel_and_bias(
    layer: nn.Module, xs: Sequence[Features], features: int, kernel_size: int
) -> tuple[Weights, Vector]:
    rank = xs[0].ndim - 2
    shape = (*(kernel_size,) * rank, sum(ops.channels(x) for x in xs), features)
    kernel = layer.param("kernel", _he_normal, shape)
    return kernel, layer.param("bias", nn.initializers.zeros, (features,))


class Conv(nn.Module):
    """A convolution with bias."""

    features: int
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, *xs: Features) -> Features:
        """Convolve the concatenated channels of `xs`."""
        kernel, bias = _kernel_and_bias(self, xs, self.features, self.kernel_size)
        return ops.conv(xs, kernel, bias, stride=self.stride)


class ConvTranspose(nn.Module):
    """A transposed convolution with bias."""

    features: int
    kernel_size: int = 3
    stride: int = 2

    @nn.compact
    def __call__(self, *xs: Features) -> Features:
        """Apply the transposed convolution to the concatenated channels of `xs`."""
        kernel, bias = _kernel_and_bias(self, xs, self.features, self.kernel_size)
        return ops.conv_transpose(xs, kernel, bias, stride=self.stride)


class ConvBatchNorm(nn.Module):
    """Convolution → BatchNorm → LeakyReLU.

    A bias that feeds a norm cancels in it: during training it only enters the running mean,
    and its gradient is exactly 0. In evaluation the norm is folded into the convolution.
    The running variance is unbiased and moves by 0.1, as PyTorch's.
    """

    features: int
    kernel_size: int = 3
    slope: float = 0.3
    momentum: float = 0.1

    @nn.compact
    def __call__(self, *xs: Features, train: bool) -> Features:
        """Apply the layer to the concatenated channels of `xs`."""
        size = (self.features,)
        kernel, bias = _kernel_and_bias(self, xs, self.features, self.kernel_size)
        scale = self.param("scale", nn.initializers.ones, size)
        shift = self.param("shift", nn.initializers.zeros, size)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size)
        variance = self.variable("batch_stats", "variance", jnp.ones, size)
        if not train:
            gain = scale * (variance.value + ops.EPSILON) ** -0.5
            y = ops.conv(xs, kernel * gain, shift + (bias - mean.value) * gain)
            return ops.leaky_relu(y, slope=self.slope)
        y = ops.conv(xs, kernel)
        activations, batch_mean, batch_variance = ops.batch_norm_leaky_relu(
            y, scale, shift, slope=self.slope
        )
        if not self.is_initializing():
            count = y.size // self.features
            unbiased = batch_variance * (count / max(count - 1, 1))
            for running, batch in ((mean, batch_mean + bias), (variance, unbiased)):
                moved = (1 - self.momentum) * running.value + self.momentum * batch
                running.value = jax.lax.stop_gradient(moved)
        return activations


class ConvInstanceNorm(nn.Module):
    """Convolution, or a transposed one → InstanceNorm → dropout → PReLU: MONAI's order "NDA".

    The norm has no parameters, the PReLU one slope. The bias cancels in the norm; it is kept
    as a parameter, so that weights come and go to MONAI unchanged.
    """

    features: int
    kernel_size: int
    stride: int
    dropout: float
    transposed: bool = False

    @nn.compact
    def __call__(self, *xs: Features, train: bool) -> Features:
        """Apply the layer to the concatenated channels of `xs`."""
        kernel, _ = _kernel_and_bias(self, xs, self.features, self.kernel_size)
        slope = self.param("slope", nn.initializers.constant(0.25), ())
        convolve = ops.conv_transpose if self.transposed else ops.conv
        y = convolve(xs, kernel, stride=self.stride)
        keep = None
        if train and self.dropout:
            keep = ops.dropout_mask(self.make_rng("dropout"), self.dropout, y)
        return ops.instance_norm_prelu(y, slope, keep)
