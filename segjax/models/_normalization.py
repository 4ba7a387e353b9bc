"""Normalisation fused with the activation that follows it: few passes, little saved memory.

Both save only their input and its statistics, and recompute the rest in the backward pass.
Both compute in float32, and return the type of their input.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.models._forms import Features, Keep, PerChannel, Slope

EPSILON = 1e-5  # PyTorch's and MONAI's

Statistic = Float[Array, "..."]  # of the rank of the features, with axes of length 1


def _statistics(y: Features, axes: tuple[int, ...]) -> tuple[Statistic, Statistic]:
    """Return mean and variance over `axes`, both kept as axes of length 1.

    Two passes: E[y²] - E[y]² would lose the variance where the mean is much larger.
    """
    mean = y.mean(axes, keepdims=True)
    return mean, jnp.square(y - mean).mean(axes, keepdims=True)


def _other_axes(y: Features, *kept: int) -> tuple[int, ...]:
    return tuple(a for a in range(y.ndim) if a not in kept)


def _per_channel(values: PerChannel, y: Features, channel_axis: int) -> Statistic:
    return values.reshape((-1,) + (1,) * (y.ndim - 1 - channel_axis))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm_leaky_relu(
    y: Features, scale: PerChannel, shift: PerChannel, slope: float, channel_axis: int
) -> tuple[Features, PerChannel, PerChannel]:
    """Normalise over batch and space, scale, shift, and apply LeakyReLU.

    z = scale·(y - mean)/√(variance + ε) + shift; returns z where z ≥ 0, else slope·z, with
    the mean and the (biased) variance per channel. No gradient flows through these two.
    """
    return _batch_norm_forward(y, scale, shift, slope, channel_axis)[0]


def _batch_norm_forward(
    y: Features, scale: PerChannel, shift: PerChannel, slope: float, channel_axis: int
) -> tuple[tuple[Features, PerChannel, PerChannel], Any]:
    wide = _widened(y)
    mean, variance = _statistics(wide, _other_axes(y, channel_axis))
    inverse = lax.rsqrt(variance + EPSILON)
    z = _affine(wide, mean, inverse, scale, shift, channel_axis)
    activations = jnp.where(z >= 0, z, slope * z)
    outputs = activations.astype(y.dtype), mean.reshape(-1), variance.reshape(-1)
    return outputs, (y, mean, inverse, scale, shift)


def _affine(
    y: Features,
    mean: Statistic,
    inverse: Statistic,
    scale: PerChannel,
    shift: PerChannel,
    channel_axis: int,
) -> Features:
    gain = inverse * _per_channel(scale, y, channel_axis)
    return y * gain + (_per_channel(shift, y, channel_axis) - mean * gain)


def _batch_norm_backward(
    slope: float, channel_axis: int, saved: Any, cotangents: Any
) -> tuple[Features, PerChannel, PerChannel]:
    given, mean, inverse, scale, shift = saved
    y, cotangent = _widened(given), _widened(cotangents[0])
    axes = _other_axes(y, channel_axis)
    z = _affine(y, mean, inverse, scale, shift, channel_axis)
    dz = jnp.where(z >= 0, cotangent, slope * cotangent)
    d_shift = dz.sum(axes, keepdims=True)
    d_scale = ((dz * (y - mean)).sum(axes, keepdims=True)) * inverse
    gain = inverse * _per_channel(scale, y, channel_axis)
    count = y.size / y.shape[channel_axis]
    dy = gain * (dz - (d_shift + (y - mean) * inverse * d_scale) / count)
    return dy.astype(given.dtype), d_scale.reshape(-1), d_shift.reshape(-1)


batch_norm_leaky_relu.defvjp(_batch_norm_forward, _batch_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def instance_norm_prelu(
    y: Features, slope: Slope, keep: Keep | None, channel_axis: int
) -> Features:
    """Normalise each channel of each image, drop elements, apply a PReLU of one slope.

    z = keep·factor·(y - mean)/√(variance + ε) over space; z where z ≥ 0, else slope·z.
    """
    return _instance_norm_forward(y, slope, keep, channel_axis)[0]


def _widened(x: Features) -> Features:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _dropped(values: Features, keep: Keep | None) -> Features:
    return values if keep is None else jnp.where(keep[0], values * keep[1], 0)


def _instance_norm_forward(
    y: Features, slope: Slope, keep: Keep | None, channel_axis: int
) -> tuple[Features, Any]:
    wide = _widened(y)
    mean, variance = _statistics(wide, _other_axes(y, 0, channel_axis))
    inverse = lax.rsqrt(variance + EPSILON)
    z = _dropped((wide - mean) * inverse, keep)
    activations = jnp.where(z >= 0, z, slope * z).astype(y.dtype)
    return activations, (y, mean, inverse, slope, keep)


def _instance_norm_backward(
    channel_axis: int, saved: Any, cotangent: Features
) -> tuple[Features, Slope, None]:
    y, mean, inverse, slope, keep = saved
    axes = _other_axes(y, 0, channel_axis)
    normal = (_widened(y) - mean) * inverse
    kept = _dropped(_widened(cotangent), keep)
    d_slope = jnp.where(normal < 0, kept * normal, 0).sum(axes).sum()
    dz = jnp.where(normal >= 0, kept, slope * kept)
    dy = inverse * (
        dz - dz.mean(axes, keepdims=True) - normal * (dz * normal).mean(axes, keepdims=True)
    )
    return dy.astype(y.dtype), d_slope.reshape(jnp.shape(slope)), None


instance_norm_prelu.defvjp(_instance_norm_forward, _instance_norm_backward)
