"""Max-pooling and nearest upsampling by two, for any layout, with cheap gradients."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from segjax.models._forms import Features

Axes = tuple[int, ...]


def _pair(x: Features, axis: int) -> tuple[Features, Features]:
    """Split an axis into its even and its odd elements (a last single one is left out)."""
    whole = x.shape[axis] // 2 * 2
    even = lax.slice_in_dim(x, 0, whole, stride=2, axis=axis)
    return even, lax.slice_in_dim(x, 1, whole, stride=2, axis=axis)


def _interleave(even: Features, odd: Features, axis: int) -> Features:
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack((even, odd), axis + 1).reshape(shape)


def _larger(x: Features, axis: int) -> Features:
    return jnp.maximum(*_pair(x, axis))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: Features, axes: Axes) -> Features:
    """Take the maximum over windows of two along each axis.

    The gradient goes to the first of equal maxima, as in PyTorch.
    """
    return functools.reduce(_larger, reversed(axes), x)


def _max_pool_forward(x: Features, axes: Axes) -> tuple[Features, Features]:
    return max_pool(x, axes), x


def _max_pool_backward(axes: Axes, x: Features, cotangent: Features) -> tuple[Features]:
    stages = [x]
    for axis in reversed(axes[1:]):
        stages.append(_larger(stages[-1], axis))
    for axis, stage in zip(axes, reversed(stages), strict=True):
        even, odd = _pair(stage, axis)
        first = even >= odd
        zero = jnp.zeros((), cotangent.dtype)
        cotangent = _interleave(
            jnp.where(first, cotangent, zero), jnp.where(first, zero, cotangent), axis
        )
        single = stage.shape[axis] - cotangent.shape[axis]
        if single:
            widths = [(0, single if a == axis else 0) for a in range(cotangent.ndim)]
            cotangent = jnp.pad(cotangent, widths)
    return (cotangent,)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def upsample(x: Features, axes: Axes) -> Features:
    """Repeat every element twice along each axis (nearest neighbour)."""
    wide = list(x.shape)
    target = list(x.shape)
    final = list(x.shape)
    for axis in reversed(axes):
        wide.insert(axis + 1, 1)
        target.insert(axis + 1, 2)
        final[axis] *= 2
    return jnp.broadcast_to(x.reshape(wide), target).reshape(final)


def _upsample_backward(axes: Axes, _: None, cotangent: Features) -> tuple[Features]:
    total = cotangent.astype(jnp.promote_types(cotangent.dtype, jnp.float32))
    for axis in axes:
        total = jnp.add(*_pair(total, axis))
    return (total.astype(cotangent.dtype),)


upsample.defvjp(lambda x, axes: (upsample(x, axes), None), _upsample_backward)
