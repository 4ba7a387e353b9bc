"""The forms of a CPU: convolutions as the products that XLA's CPU backend is fast at.

XLA computes plain 3D convolutions, and the kernel gradients of transposed ones, 6 to 40 times
slower than PyTorch on a CPU; it computes batched matrix products well, and 2D convolutions at
stride 1 by kernels no longer than the image.
`benchmarks/train_step.py` measures what these forms gain.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segjax.models import _cpu_wide
from segjax.models._cpu_wide import Operands
from segjax.models._forms import (
    Features,
    Images,
    Kernel,
    Matrix,
    Vector,
    Weights,
)
from segjax.models._lax import LaxForms, transpose_conv

Parities = Float[Array, "2 2 2 batch channel depth height width"]

# Without it XLA fuses the shifted copies into the product and falls back to a slow loop.
_materialise = lax.optimization_barrier


class CpuImageForms(LaxForms):
    """2D: channels last; forms for strides, their transposes and kernels longer than images."""

    def __init__(self) -> None:
        super().__init__(rank=2)

    def conv(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        kernel, x = jnp.asarray(kernel), self.concatenate(xs)
        if _outgrows(kernel, x):
            y = _cpu_wide.conv(x, kernel, stride)
        elif stride == 2 and not any(n % 2 for n in x.shape[1:3]) and _is_odd(kernel):
            y = _conv_strided_2d(x, kernel)
        else:
            return super().conv((x,), kernel, bias, stride)
        return self.add_bias(y, bias)

    def conv_transpose(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        kernel, x = jnp.asarray(kernel), self.concatenate(xs)
        if stride != 2 or not _is_odd(kernel):
            return super().conv_transpose((x,), kernel, bias, stride)
        if _outgrows(kernel, x):
            y = _cpu_wide.conv_transpose(x, kernel, 2)
        else:
            y = transpose_conv(_strided_2d, _transposed_2d, x, kernel)
        return self.add_bias(y, bias)


def _is_odd(kernel: Kernel) -> bool:
    return all(k % 2 for k in kernel.shape[:-2])


def _outgrows(kernel: Kernel, x: Features) -> bool:
    """Say whether a kernel is longer than the images: XLA then leaves its fast convolutions.

    Long, narrow images stay with XLA, for want of memory for a copy of them per tap.
    """
    sides = x.shape[1:-1]
    longer = any(k > n for k, n in zip(kernel.shape[:-2], sides, strict=True))
    few = 0 < math.prod(sides) <= max(kernel.shape[:2]) ** 2 and len(x) > 0
    return _is_odd(kernel) and longer and few


def _transposed_2d(x: Features, kernel: Kernel) -> Features:
    """Transpose a stride-2 convolution; XLA's own form is slow where few channels leave it."""
    if _outgrows(kernel, x):
        return _cpu_wide.conv_transpose(x, kernel, 2)
    if kernel.shape[3] < 6 * max(kernel.shape[:2]):
        return _conv_transpose_by_phases(x, kernel)
    return LaxForms(2).conv_transpose((x,), kernel, None, 2)


def _strided_2d(x: Features, kernel: Kernel) -> Features:
    """Convolve at stride 2 images of even sides; XLA's own form is slow for few channels."""
    if kernel.shape[2] <= 4:
        return _conv_by_parities(x, kernel)
    return LaxForms(2).conv((x,), kernel, None, 2)


@jax.custom_vjp
def _conv_strided_2d(x: Features, kernel: Kernel) -> Features:
    return _strided_2d(x, kernel)


def _conv_strided_2d_backward(saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    _, kernel_gradient = jax.vjp(lambda k: _strided_2d(x, k), kernel)
    return _transposed_2d(cotangent, kernel.swapaxes(2, 3)), kernel_gradient(cotangent)[0]


_conv_strided_2d.defvjp(
    lambda x, kernel: (_strided_2d(x, kernel), (x, kernel)), _conv_strided_2d_backward
)


def _split_taps(kernel: Kernel) -> Float[Array, "rows 2 columns 2 in out"]:
    """Split each axis of an odd kernel into (shift, parity): (⌈k/2⌉, 2, ⌈k/2⌉, 2, c, o).

    Tap t reads voxel 2i + t - k//2 = 2(i + q) + r; q rises with the shift, r is the parity.
    """
    rows, columns, c, o = kernel.shape
    halves = [k // 2 for k in (rows, columns)]
    padded = jnp.pad(kernel, [(p % 2, 1 - p % 2) for p in halves] + [(0, 0)] * 2)
    return padded.reshape(halves[0] + 1, 2, halves[1] + 1, 2, c, o)


def _conv_half(x: Features, kernel: Kernel, padding: list[tuple[int, int]]) -> Features:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv_by_parities(x: Features, kernel: Kernel) -> Features:
    """Convolve the four (row, column) parities of the input as channels, at half the resolution."""
    (rows, columns, c, o), (n, h, w, _) = kernel.shape, x.shape
    parities = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    taps = _split_taps(kernel).transpose(0, 2, 1, 3, 4, 5)
    return _conv_half(
        parities.reshape(n, h // 2, w // 2, 4 * c),
        taps.reshape(*taps.shape[:2], 4 * c, o),
        [((k // 2 + 1) // 2, k // 4) for k in (rows, columns)],
    )


def _conv_transpose_by_phases(x: Features, kernel: Kernel) -> Features:
    """Compute the four (row, column) parities of the output as channels, then interleave them."""
    (rows, columns, c, o), (n, h, w, _) = kernel.shape, x.shape
    taps = _split_taps(kernel)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    y = _conv_half(
        x,
        taps.reshape(*taps.shape[:2], c, 4 * o),
        [(k // 4, (k // 2 + 1) // 2) for k in (rows, columns)],
    )
    parts = y.reshape(n, h, w, 2, 2, o).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, 2 * h, 2 * w, o)


class CpuVolumeForms(LaxForms):
    """3D: features are (batch, channel, depth, height, width), convolutions matrix products."""

    def __init__(self) -> None:
        super().__init__(rank=3)
        self.channel_axis = 1
        self.spatial_axes = (2, 3, 4)

    def from_images(self, images: Images) -> Features:
        return jnp.moveaxis(images, -1, 1)

    def to_images(self, features: Features) -> Features:
        return jnp.moveaxis(features, 1, -1)

    def conv(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        kernel, size = jnp.asarray(kernel), kernel.shape[:3]
        if size == (1, 1, 1) and stride == 1:
            y = _conv_pointwise(self.concatenate(xs), kernel[0, 0, 0])
        elif _is_wide(kernel, xs[0], stride):
            x = _channels_last(self.concatenate(xs))
            y = jnp.moveaxis(_cpu_wide.conv(x, kernel, stride), -1, 1)
        elif size == (3, 3, 3) and stride == 1:
            y = _conv_3x3x3(tuple(xs), kernel)
        elif stride == 2 and _has_few_taps(size):
            y = _conv_strided(self.concatenate(xs), kernel)
        else:
            return super().conv(xs, kernel, bias, stride)
        return self.add_bias(y, bias)

    def conv_transpose(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        kernel = jnp.asarray(kernel)
        if stride != 2 or not _has_few_taps(kernel.shape[:3]):
            return super().conv_transpose(xs, kernel, bias, stride)
        x = self.concatenate(xs)
        if _is_wide(kernel, x, 1):
            y = _cpu_wide.conv_transpose(_channels_last(x), kernel, stride)
            y = jnp.moveaxis(y, -1, 1)
        else:
            y = _conv_transposed(x, kernel)
        return self.add_bias(y, bias)


def _has_few_taps(size: Sequence[int]) -> bool:
    """Say whether a kernel is odd and small: a copy per tap compiles slowly beyond 5x5x5."""
    return all(k % 2 and k <= 5 for k in size)


def _is_wide(kernel: Kernel, x: Features, stride: int) -> bool:
    """Say whether the channels of a convolution outnumber the voxels of a plane.

    The plane is that of the coarser side, x strided. The kernel then outweighs the features.
    """
    voxels = -(-x.shape[3] // stride) * -(-x.shape[4] // stride)
    return _has_few_taps(kernel.shape[:3]) and max(kernel.shape[3:]) >= voxels


def _channels_last(x: Features) -> Features:
    return _materialise(jnp.moveaxis(x, 1, -1))


def _rows_times(rows: Matrix, x: Features) -> Features:
    """Multiply (row, k) with every voxel of (batch, k, *space): (batch, row, *space).

    The rows are broadcast to the batch by hand: only then does XLA hand the product to its
    fast library. What is returned is to be added, and thus of float32 at least; so are the
    factors, for XLA adds the products of some in bfloat16 (seen with JAX 0.12).
    """
    n, k, *space = x.shape
    rows, x = (a.astype(_cpu_wide.sums(a)) for a in (rows, x))
    spread = jnp.broadcast_to(rows, (n, *rows.shape))
    y = lax.dot_general(spread, x.reshape(n, k, -1), (((2,), (1,)), ((0,), (0,))))
    return _materialise(y).reshape(n, -1, *space)


def _sum_of_outer(larger: Features, smaller: Features) -> Matrix:
    """Sum over batch and voxels: (batch, i, *space), (batch, j, *space) -> (i, j), float32."""
    a, b = (x.reshape(*x.shape[:2], -1).astype(_cpu_wide.sums(x)) for x in (larger, smaller))
    return lax.dot_general(a, b, (((2,), (2,)), ((0,), (0,)))).sum(0)


def _shifted(x: Features, *shifts: int) -> Features:
    """Read x[i + shift] along the last axes, one shift for each, zeros outside."""
    for axis, shift in enumerate(shifts, x.ndim - len(shifts)):
        cut = lax.slice_in_dim(x, max(shift, 0), x.shape[axis] + min(shift, 0), axis=axis)
        widths = [(0, 0)] * x.ndim
        widths[axis] = max(-shift, 0), max(shift, 0)
        x = jnp.pad(cut, widths)
    return x


def _stacked(pieces: Sequence[Features]) -> Features:
    """Stack features on the channel axis, in memory."""
    return _materialise(jnp.concatenate(pieces, 1))


# ---------------------------------------------------------------- 1x1x1


@jax.custom_vjp
def _conv_pointwise(x: Features, kernel: Kernel) -> Features:
    return _rows_times(kernel.T, x).astype(x.dtype)


def _conv_pointwise_backward(saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    dx, d_kernel = _rows_times(kernel, cotangent), _sum_of_outer(x, cotangent)
    return dx.astype(x.dtype), d_kernel.astype(kernel.dtype)


_conv_pointwise.defvjp(
    lambda x, kernel: (_conv_pointwise(x, kernel), (x, kernel)), _conv_pointwise_backward
)


# ---------------------------------------------------------------- 3x3x3, stride 1

_SHIFTS = (-1, 0, 1)  # of the three taps
_LARGE = 16_000_000  # numbers in the copies of one image, 64 MB; a loop costs some speed


@jax.custom_vjp
def _conv_3x3x3(xs: tuple[Features, ...], kernel: Kernel) -> Features:
    """Convolve the channels of all `xs`, which are never concatenated on their own."""
    form = _conv_by_input_shifts if kernel.shape[3] <= 2 else _conv_by_row_sums
    return form(xs, kernel).astype(kernel.dtype)


def _plane_shifts(xs: Sequence[Features]) -> Features:
    """Stack the nine shifts over height and width on the channel axis."""
    return _stacked([_shifted(x, b, e) for b, e in product(_SHIFTS, repeat=2) for x in xs])


def _sum_of_depths(y: Features) -> Features:
    """Add what each depth tap reads: (batch, 3·channel, *space) -> (batch, channel, *space)."""
    parts = zip(_SHIFTS, jnp.split(y, 3, 1), strict=True)
    return functools.reduce(jnp.add, [_shifted(part, a, 0, 0) for a, part in parts])


def _conv_by_input_shifts(xs: tuple[Features, ...], kernel: Kernel) -> Features:
    """Multiply nine plane shifts with the three depth taps, then add the depth shifts."""
    c, o = kernel.shape[3:]
    rows = kernel.transpose(0, 4, 1, 2, 3).reshape(3 * o, 9 * c)
    return _sum_of_depths(_rows_times(rows, _plane_shifts(xs)))


def _conv_by_row_sums(xs: tuple[Features, ...], kernel: Kernel) -> Features:
    """Multiply three width shifts with nine (depth, height) taps, then add those shifts."""
    c, o = kernel.shape[3:]
    rows = kernel.transpose(0, 1, 4, 2, 3).reshape(9 * o, 3 * c)
    y = _rows_times(rows, _stacked([_shifted(x, e) for e in _SHIFTS for x in xs]))
    taps = zip(product(_SHIFTS, repeat=2), jnp.split(y, 9, 1), strict=True)
    return functools.reduce(jnp.add, [_shifted(part, a, b, 0) for (a, b), part in taps])


def _conv_3x3x3_backward(
    saved: tuple[tuple[Features, ...], Kernel], cotangent: Features
) -> tuple[tuple[Features, ...], Kernel]:
    """Take images one by one where their copies are large: a loop keeps those of one alive.

    Not where devices share a batch: each of them would loop over all of it.
    """
    xs, kernel = saved
    (c, o), voxels = kernel.shape[3:], math.prod(cotangent.shape[2:])
    small = (9 * o + 6 * c) * voxels < _LARGE
    if small or len(cotangent) == 1 or jax.device_count() > 1:
        dx, d_kernel = _gradients_3x3x3(xs, kernel, cotangent)
        return dx, d_kernel.astype(kernel.dtype)

    def next_image(total: Kernel, image: Any) -> tuple[Kernel, Any]:
        x, given = jax.tree.map(lambda values: values[None], image)
        dx, d_kernel = _gradients_3x3x3(x, kernel, given)
        return total + d_kernel, tuple(values[0] for values in dx)

    zeros = jnp.zeros(kernel.shape, _cpu_wide.sums(kernel))
    d_kernel, dx = lax.scan(next_image, zeros, (xs, cotangent))
    return dx, d_kernel.astype(kernel.dtype)


def _gradients_3x3x3(
    xs: tuple[Features, ...], kernel: Kernel, cotangent: Features
) -> tuple[tuple[Features, ...], Kernel]:
    """Build nine shifts of the cotangent once; they serve both gradients."""
    c, o = kernel.shape[3:]
    shifts = _plane_shifts([cotangent])
    depths = _stacked([_shifted(x, a, 0, 0) for a in _SHIFTS for x in xs])
    outer = _sum_of_outer(shifts, depths).reshape(3, 3, o, 3, c)
    d_kernel = outer.transpose(3, 0, 1, 4, 2)[:, ::-1, ::-1]
    shifts, d_kernel = _materialise((shifts, d_kernel))
    rows = kernel[::-1, ::-1, ::-1].transpose(0, 3, 1, 2, 4).reshape(3 * c, 9 * o)
    dx = _sum_of_depths(_rows_times(rows, shifts)).astype(kernel.dtype)
    ends = np.cumsum([x.shape[1] for x in xs])
    return tuple(jnp.split(dx, ends[:-1], 1)), d_kernel


_conv_3x3x3.defvjp(lambda xs, kernel: (_conv_3x3x3(xs, kernel), (xs, kernel)), _conv_3x3x3_backward)


# ---------------------------------------------------------------- stride 2 and its transpose
#
# Tap t of an axis reads voxel 2i + t - p of the input, p = k // 2. With t - p = 2q + r this is
# voxel i + q of the parity r, so a strided convolution is a sum over shifts q of the eight
# parities (depth, height, width), each at half the resolution.


def _taps(sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield shift q and parity r of each tap, axis by axis, in the order of the kernel."""
    for tap in product(*(range(k) for k in sizes)):
        offsets = [t - k // 2 for t, k in zip(tap, sizes, strict=True)]
        yield tuple(j // 2 for j in offsets), tuple(j % 2 for j in offsets)


def _to_parities(x: Features) -> Parities:
    """(n, c, D, H, W) -> (2, 2, 2, n, c, ⌈D/2⌉, ⌈H/2⌉, ⌈W/2⌉); odd axes gain a zero."""
    n, c, *space = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), *((0, length % 2) for length in space)))
    d, h, w = (-(-length // 2) for length in space)
    return _materialise(x.reshape(n, c, d, 2, h, 2, w, 2).transpose(3, 5, 7, 0, 1, 2, 4, 6))


def _from_parities(parts: Parities) -> Features:
    """Undo `_to_parities` (even axes)."""
    n, c, d, h, w = parts.shape[3:]
    return parts.transpose(3, 4, 5, 0, 6, 1, 7, 2).reshape(n, c, 2 * d, 2 * h, 2 * w)


def _strided_patches(x: Features, sizes: Sequence[int]) -> Features:
    """Stack what each tap reads on the channel axis: (batch, tap·channel, *half)."""
    parts = _to_parities(x)
    return _stacked([_shifted(parts[parity], *shift) for shift, parity in _taps(sizes)])


def _transposed_product(x: Features, kernel: Kernel) -> Features:
    """Spread (n, c, d, h, w) over the taps of kernel (*k, c, o): (n, o, 2d, 2h, 2w)."""
    n, c, *space = x.shape
    sizes, o = kernel.shape[:3], kernel.shape[4]
    y = _rows_times(kernel.swapaxes(3, 4).reshape(-1, c), x).reshape(n, -1, o, *space)
    parts: dict[tuple[int, ...], Any] = {}
    for tap, (shift, parity) in enumerate(_taps(sizes)):
        parts[parity] = parts.get(parity, 0) + _shifted(y[:, tap], *(-q for q in shift))
    zero = jnp.zeros((n, o, *space), y.dtype)
    whole = jnp.stack([parts.get(parity, zero) for parity in product(range(2), repeat=3)])
    return _from_parities(whole.reshape(2, 2, 2, n, o, *space).astype(x.dtype))


def _kernel_gradient(low: Features, high: Features, sizes: Sequence[int]) -> Kernel:
    """Correlate a half-resolution map with a full-resolution one: (*k, high, low)."""
    outer = _sum_of_outer(_strided_patches(high, sizes), low).astype(low.dtype)
    return outer.reshape(*sizes, high.shape[1], low.shape[1])


@jax.custom_vjp
def _conv_strided(x: Features, kernel: Kernel) -> Features:
    """Convolve at stride 2: y[i] = Σ_t k[t]·x[2i + t - p]; output length ⌈n/2⌉."""
    rows = kernel.reshape(-1, kernel.shape[4]).T
    return _rows_times(rows, _strided_patches(x, kernel.shape[:3])).astype(x.dtype)


def _conv_strided_backward(saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    dx = _transposed_product(cotangent, kernel.swapaxes(3, 4))
    d, h, w = x.shape[2:]
    return dx[:, :, :d, :h, :w], _kernel_gradient(cotangent, x, kernel.shape[:3])


_conv_strided.defvjp(
    lambda x, kernel: (_conv_strided(x, kernel), (x, kernel)), _conv_strided_backward
)


@jax.custom_vjp
def _conv_transposed(x: Features, kernel: Kernel) -> Features:
    """Transpose a stride-2 convolution: y[2i + t - p] += k[t]·x[i]; output length 2n."""
    return _transposed_product(x, kernel)


def _conv_transposed_backward(saved: Operands, cotangent: Features) -> Operands:
    x, kernel = saved
    d_kernel = _kernel_gradient(x, cotangent, kernel.shape[:3])
    return _conv_strided(cotangent, kernel.swapaxes(3, 4)), d_kernel.swapaxes(3, 4)


_conv_transposed.defvjp(
    lambda x, kernel: (_conv_transposed(x, kernel), (x, kernel)), _conv_transposed_backward
)
