"""The operations that networks are made of, on features whose layout no network knows.

Each operation has several forms with the same parameters and the same results (≤ 1e-5):
plain `lax` on a GPU, matrix products on a CPU, and whatever an export lends through `use`.
Images enter with `from_images` and leave with `to_images`; between the two, an array of
features has its batch on the first axis and the rest where its form wants it.

Features have the type of the images, and convolutions compute in it: bfloat16 images make a
network compute in bfloat16, with the same float32 parameters, of which kernels are rounded where
they are used. Norms and sums compute in float32 all the same, and what leaves is float32.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from segjax.models._cpu import CpuImageForms, CpuVolumeForms
from segjax.models._forms import (
    Features,
    Forms,
    Images,
    Keep,
    PerChannel,
    Slope,
    Vector,
    Weights,
)
from segjax.models._lax import LaxForms
from segjax.models._normalization import EPSILON

__all__ = [
    "EPSILON",
    "Forms",
    "add",
    "batch_norm_leaky_relu",
    "channel_dropout",
    "channels",
    "conv",
    "conv_transpose",
    "dropout_mask",
    "from_images",
    "instance_norm_prelu",
    "lax_forms",
    "leaky_relu",
    "max_pool",
    "to_images",
    "upsample",
    "use",
]

_LAX = {rank: LaxForms(rank) for rank in (1, 2, 3)}
_CPU: dict[int, Forms] = {1: LaxForms(1), 2: CpuImageForms(), 3: CpuVolumeForms()}
_lent: contextvars.ContextVar[Forms | None] = contextvars.ContextVar("lent_forms", default=None)


def lax_forms(rank: int) -> LaxForms:
    """Return the plain forms for images with `rank` spatial axes (those of a GPU)."""
    return _LAX[rank]


@contextlib.contextmanager
def use(forms: Forms) -> Iterator[None]:
    """Lend other forms for every network traced inside the `with` block.

    Functions that were jitted before keep the forms that they were traced with.

    Args:
        forms: An object with the operations of this module.
    """
    token = _lent.set(forms)
    try:
        yield
    finally:
        _lent.reset(token)


def _forms(features: Features) -> Forms:
    lent = _lent.get()
    if lent is not None:
        return lent
    rank = features.ndim - 2
    return _CPU[rank] if jax.default_backend() == "cpu" else _LAX[rank]


def _is_half(x: Features) -> bool:
    return x.dtype in (jnp.bfloat16, jnp.float16)


def _widened(x: Features) -> Features:
    return x.astype(jnp.float32) if _is_half(x) else x


def _rounded(x: Features, kernel: Weights) -> Weights:
    """Round a kernel to the type of half-precision features."""
    return jnp.asarray(kernel, x.dtype) if _is_half(x) else kernel


def from_images(
    images: Images, *, spatial_dims: int, in_channels: int, size_multiple: int = 1
) -> Features:
    """Turn images (batch, *spatial, channel) into features.

    Raises:
        ValueError: If rank, channels or spatial sizes are not the network's. Images for lent
            forms have a layout of their own and go unchecked.
    """
    if _lent.get() is None:
        _check(images, spatial_dims, in_channels, size_multiple)
    return _forms(images).from_images(images)


def _check(images: Images, spatial_dims: int, in_channels: int, size_multiple: int) -> None:
    axes = ", ".join(["batch", "height", "width", "depth"][: spatial_dims + 1])
    if images.ndim != spatial_dims + 2 or images.shape[-1] != in_channels:
        raise ValueError(
            f"the network takes images ({axes}, {in_channels} channels), got {images.shape}"
        )
    if any(size % size_multiple for size in images.shape[1:-1]):
        raise ValueError(
            f"spatial sizes must be multiples of {size_multiple}, got {images.shape[1:-1]}: "
            "pad the images or choose another patch size"
        )


def to_images(features: Features) -> Features:
    """Turn features into images (batch, *spatial, channel), of float32 at least."""
    return _widened(_forms(features).to_images(features))


def channels(features: Features) -> int:
    """Return the number of channels."""
    return _forms(features).channels(features)


def conv(
    xs: Sequence[Features], kernel: Weights, bias: Vector | None = None, *, stride: int = 1
) -> Features:
    """Convolve the concatenated channels of `xs`, zeros outside.

    y[i] = bias + Σ_t kernel[t]·x[stride·i + t - (k - 1)//2]; output length ⌈n / stride⌉.

    Args:
        xs: Features of one spatial shape.
        kernel: (*size, input channels of all xs, output channels).
        bias: (output channels,) or none.
        stride: 1 or 2, on every axis.
    """
    return _forms(xs[0]).conv(xs, _rounded(xs[0], kernel), bias, stride)


def conv_transpose(
    xs: Sequence[Features], kernel: Weights, bias: Vector | None = None, *, stride: int = 2
) -> Features:
    """Apply the transpose of a strided convolution to the concatenated channels of `xs`.

    y[stride·i + t - (k - 1)//2] += kernel[t]·x[i]; output length stride·n. It is PyTorch's
    ConvTranspose with padding (k - 1)//2 and output_padding stride - 1.

    Args:
        xs: Features of one spatial shape.
        kernel: (*size, input channels of all xs, output channels), odd sizes.
        bias: (output channels,) or none.
        stride: 1 or 2, on every axis.
    """
    return _forms(xs[0]).conv_transpose(xs, _rounded(xs[0], kernel), bias, stride)


def batch_norm_leaky_relu(
    y: Features, scale: Vector, shift: Vector, *, slope: float
) -> tuple[Features, PerChannel, PerChannel]:
    """Normalise by the batch's statistics, then LeakyReLU.

    Returns:
        Activations, and mean and biased variance of `y` per channel.
    """
    return _forms(y).batch_norm_leaky_relu(y, scale, shift, slope)


def leaky_relu(y: Features, *, slope: float) -> Features:
    """Return y where y ≥ 0, else slope·y."""
    return _forms(y).leaky_relu(y, slope)


def instance_norm_prelu(y: Features, slope: Slope, keep: Keep | None = None) -> Features:
    """Normalise each channel of each image, drop elements, apply a PReLU of one slope.

    Args:
        y: Features.
        slope: Scalar.
        keep: What `dropout_mask` drew, or none.
    """
    return _forms(y).instance_norm_prelu(y, slope, keep)


def dropout_mask(key: PRNGKeyArray, rate: float, y: Features) -> Keep:
    """Draw which elements of `y` dropout keeps, and the factor for those (rate in 1/256)."""
    return _forms(y).dropout_mask(key, rate, y)


def channel_dropout(x: Features, *, rate: float, key: PRNGKeyArray) -> Features:
    """Drop whole channels of each image with probability `rate` and scale the others."""
    return _forms(x).channel_dropout(x, rate, key)


def max_pool(x: Features) -> Features:
    """Take the maximum of windows of 2, at stride 2."""
    return _forms(x).max_pool(x)


def add(xs: Sequence[Features]) -> Features:
    """Add features, such as logits, in float32 at least."""
    return functools.reduce(jnp.add, [_widened(x) for x in xs])


def upsample(x: Features) -> Features:
    """Double every spatial axis by repetition (nearest neighbour)."""
    return _forms(x).upsample(x)
