"""Convolutions on few voxels, on a CPU: one matrix product over all of them.

They are for 3D planes of no more voxels than there are channels, where the kernel outweighs the
features, and for 2D kernels longer than the image. The kernel enters the products as it lies in
memory, once; the features, (batch, *spatial, channel), are copied instead, once for each tap.
"""

import functools
from collections.abc import Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.models._forms import Features, Kernel, Matrix

Operands = tuple[Features, Kernel]  # of a convolution

_materialise = lax.optimization_barrier


def _by_voxel(x: Float[Array, "... channel"]) -> Matrix:
    return x.reshape(-1, x.shape[-1])


def _product(
    a: Float[Array, "_ _"],
    b: Float[Array, "_ _"],
    contracted: tuple[int, int],
    dtype: Any = None,
) -> Float[Array, "_ _"]:
    """Multiply two matrices over the given axis of each."""
    axes = ((contracted[0],), (contracted[1],))
    return lax.dot_general(a, b, (axes, ((), ())), preferred_element_type=dtype)


def sums(*arrays: Float[Array, "..."]) -> Any:
    """Return the type in which what taps write is added: float32 for bfloat16."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def _gather(x: Features, sizes: Sequence[int], stride: int) -> Matrix:
    """Stack what each tap reads, x[stride·i + t - k//2]: (voxel, tap·channel)."""
    padded = _materialise(jnp.pad(x, ((0, 0), *((k // 2, k // 2) for k in sizes), (0, 0))))
    lengths = [stride * (-(-n // stride) - 1) + 1 for n in x.shape[1:-1]]
    pieces = [
        padded[(slice(None), *(slice(t, t + n, stride) for t, n in zip(tap, lengths, strict=True)))]
        for tap in product(*map(range, sizes))
    ]
    return _by_voxel(_materialise(jnp.concatenate(pieces, -1)))


def _scatter(y: Features, sizes: Sequence[int], stride: int) -> Features:
    """Add what each tap writes, out[stride·i + t - k//2] += y[i, t]: the transpose of `_gather`.

    With t - k//2 = stride·q + r, voxel i + q of the phase r gets y[i, t].

    Args:
        y: (batch, *spatial, tap, channel).
        sizes: Taps of each axis, odd.
        stride: The output has stride times as many voxels along each axis.
    """
    n, *space, _, c = y.shape
    reach = [k // 2 for k in sizes]
    y = _materialise(jnp.pad(y, ((0, 0), *((p, p) for p in reach), (0, 0), (0, 0))))
    phases: dict[tuple[int, ...], Any] = {}
    for index, tap in enumerate(product(*map(range, sizes))):
        shifts = [divmod(t - p, stride) for t, p in zip(tap, reach, strict=True)]
        starts = [p - q for p, (q, _) in zip(reach, shifts, strict=True)]
        window = (slice(a, a + m) for a, m in zip(starts, space, strict=True))
        phase = tuple(r for _, r in shifts)
        phases[phase] = phases.get(phase, 0) + y[(slice(None), *window, index)]
    zero = jnp.zeros((n, *space, c), y.dtype)
    every = product(range(stride), repeat=len(space))
    return _interleave(jnp.stack([phases.get(r, zero) for r in every]), stride)


def _interleave(phases: Float[Array, "phase batch *spatial channel"], stride: int) -> Features:
    """Put voxel i of the phase r at stride·i + r."""
    _, n, *space, c = phases.shape
    rank = len(space)
    apart = phases.reshape(*[stride] * rank, n, *space, c)
    axes = [axis for i in range(rank) for axis in (rank + 1 + i, i)]
    return apart.transpose(rank, *axes, 2 * rank + 1).reshape(n, *(stride * m for m in space), c)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: Features, kernel: Kernel, stride: int) -> Features:
    """Convolve features (batch, *spatial, channel), zeros outside.

    y[i] = Σ_t kernel[t]·x[stride·i + t - k//2]; output length ⌈n / stride⌉.
    """
    patches = _gather(x, kernel.shape[:-2], stride)
    shape = (len(x), *(-(-m // stride) for m in x.shape[1:-1]), kernel.shape[-1])
    return (patches @ _by_voxel(kernel)).reshape(shape)


def _conv_backward(stride: int, saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    sizes, cotangent = kernel.shape[:-2], _materialise(cotangent)
    patches = _gather(x, sizes, stride)
    d_kernel = _product(patches, _by_voxel(cotangent), (0, 0)).reshape(kernel.shape)
    spread = _product(_by_voxel(cotangent), _by_voxel(kernel), (1, 1), sums(cotangent, kernel))
    dx = _scatter(spread.reshape(*cotangent.shape[:-1], -1, x.shape[-1]), sizes, stride)
    return dx[tuple(map(slice, x.shape))].astype(x.dtype), d_kernel


conv.defvjp(lambda x, kernel, stride: (conv(x, kernel, stride), (x, kernel)), _conv_backward)


def _from_each_input(kernel: Kernel) -> Matrix:
    """(*k, c, o) -> (c, tap·o)."""
    c, o = kernel.shape[-2:]
    return kernel.reshape(-1, c, o).swapaxes(0, 1).reshape(c, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(x: Features, kernel: Kernel, stride: int) -> Features:
    """Transpose a strided convolution: y[stride·i + t - k//2] += kernel[t]·x[i]."""
    y = _product(_by_voxel(x), _from_each_input(kernel), (1, 0), sums(x, kernel))
    y = y.reshape(*x.shape[:-1], -1, kernel.shape[-1])
    return _scatter(y, kernel.shape[:-2], stride).astype(x.dtype)


def _conv_transpose_backward(stride: int, saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    c, o = kernel.shape[-2:]
    patches = _gather(cotangent, kernel.shape[:-2], stride)
    dx = _product(patches, _from_each_input(kernel), (1, 1)).reshape(x.shape)
    d_kernel = _product(_by_voxel(x), patches, (0, 0)).reshape(c, -1, o).swapaxes(0, 1)
    return dx, d_kernel.reshape(kernel.shape)


conv_transpose.defvjp(
    lambda x, kernel, stride: (conv_transpose(x, kernel, stride), (x, kernel)),
    _conv_transpose_backward,
)
