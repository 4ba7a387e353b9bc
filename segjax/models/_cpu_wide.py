"""3D convolutions of many channels on few voxels, on a CPU: one matrix product over all voxels.

Where a plane holds no more voxels than there are channels, the kernel outweighs the features.
Here it enters the products as it lies in memory, once, and the features are transposed instead:
inside this module they are (batch, depth, height, width, channel).
"""

import functools
from collections.abc import Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_materialise = lax.optimization_barrier


def _channels_last(x: Array) -> Array:
    return _materialise(jnp.moveaxis(x, 1, -1))


def _to_features(x: Array) -> Array:
    return jnp.moveaxis(x, -1, 1)


def _by_voxel(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _product(a: Array, b: Array, contracted: tuple[int, int]) -> Array:
    """Multiply two matrices over the given axis of each."""
    return lax.dot_general(a, b, (((contracted[0],), (contracted[1],)), ((), ())))


def _gather(x: Array, sizes: Sequence[int], stride: int) -> Array:
    """Stack what each tap reads, x[stride·i + t - k//2]: (voxel, tap·channel)."""
    padded = _materialise(jnp.pad(x, ((0, 0), *((k // 2, k // 2) for k in sizes), (0, 0))))
    lengths = [stride * (-(-n // stride) - 1) + 1 for n in x.shape[1:4]]
    pieces = [
        padded[(slice(None), *(slice(t, t + n, stride) for t, n in zip(tap, lengths, strict=True)))]
        for tap in product(*map(range, sizes))
    ]
    return _by_voxel(_materialise(jnp.concatenate(pieces, -1)))


def _scatter(y: Array, sizes: Sequence[int], stride: int) -> Array:
    """Add what each tap writes, out[stride·i + t - k//2] += y[i, t]: the transpose of `_gather`.

    With t - k//2 = stride·q + r, voxel i + q of the phase r gets y[i, t].

    Args:
        y: (batch, depth, height, width, tap, channel).
        sizes: Taps of each axis, odd.
        stride: The output has stride times as many voxels along each axis.
    """
    n, d, h, w, _, c = y.shape
    reach = [k // 2 for k in sizes]
    y = _materialise(jnp.pad(y, ((0, 0), *((p, p) for p in reach), (0, 0), (0, 0))))
    phases: dict[tuple[int, ...], Any] = {}
    for index, tap in enumerate(product(*map(range, sizes))):
        shifts = [divmod(t - p, stride) for t, p in zip(tap, reach, strict=True)]
        starts = [p - q for p, (q, _) in zip(reach, shifts, strict=True)]
        window = (slice(a, a + m) for a, m in zip(starts, (d, h, w), strict=True))
        phase = tuple(r for _, r in shifts)
        phases[phase] = phases.get(phase, 0) + y[(slice(None), *window, index)]
    zero = jnp.zeros((n, d, h, w, c), y.dtype)
    parts = jnp.stack([phases.get(r, zero) for r in product(range(stride), repeat=3)])
    parts = parts.reshape(stride, stride, stride, n, d, h, w, c).transpose(3, 4, 0, 5, 1, 6, 2, 7)
    return parts.reshape(n, stride * d, stride * h, stride * w, c)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: Array, kernel: Array, stride: int) -> Array:
    """Convolve features (batch, channel, depth, height, width), zeros outside.

    y[i] = Σ_t kernel[t]·x[stride·i + t - k//2]; output length ⌈n / stride⌉.
    """
    patches = _gather(_channels_last(x), kernel.shape[:3], stride)
    n, _, d, h, w = x.shape
    shape = (n, *(-(-m // stride) for m in (d, h, w)), kernel.shape[4])
    return _to_features((patches @ _by_voxel(kernel)).reshape(shape))


def _conv_backward(stride: int, saved: tuple[Array, Array], cotangent: Array) -> Any:
    x, kernel = saved
    sizes, (_, c, d, h, w) = kernel.shape[:3], x.shape
    given = _channels_last(cotangent)
    patches = _gather(_channels_last(x), sizes, stride)
    d_kernel = _product(patches, _by_voxel(given), (0, 0)).reshape(kernel.shape)
    spread = _product(_by_voxel(given), _by_voxel(kernel), (1, 1))
    dx = _scatter(spread.reshape(*given.shape[:4], -1, c), sizes, stride)
    return _to_features(dx[:, :d, :h, :w]), d_kernel


conv.defvjp(lambda x, kernel, stride: (conv(x, kernel, stride), (x, kernel)), _conv_backward)


def _from_each_input(kernel: Array) -> Array:
    """(*k, c, o) -> (c, tap·o)."""
    c, o = kernel.shape[3:]
    return kernel.reshape(-1, c, o).swapaxes(0, 1).reshape(c, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(x: Array, kernel: Array, stride: int) -> Array:
    """Transpose a strided convolution: y[stride·i + t - k//2] += kernel[t]·x[i]."""
    x = _channels_last(x)
    y = _by_voxel(x) @ _from_each_input(kernel)
    y = y.reshape(*x.shape[:4], -1, kernel.shape[4])
    return _to_features(_scatter(y, kernel.shape[:3], stride))


def _conv_transpose_backward(stride: int, saved: tuple[Array, Array], cotangent: Array) -> Any:
    x, kernel = saved
    c, o = kernel.shape[3:]
    x = _channels_last(x)
    patches = _gather(_channels_last(cotangent), kernel.shape[:3], stride)
    dx = _product(patches, _from_each_input(kernel), (1, 1)).reshape(x.shape)
    d_kernel = _product(_by_voxel(x), patches, (0, 0)).reshape(c, -1, o).swapaxes(0, 1)
    return _to_features(dx), d_kernel.reshape(kernel.shape)


conv_transpose.defvjp(
    lambda x, kernel, stride: (conv_transpose(x, kernel, stride), (x, kernel)),
    _conv_transpose_backward,
)
