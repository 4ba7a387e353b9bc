"""The forms of a CPU: convolutions as the products that XLA's CPU backend is fast at.

XLA computes plain 3D convolutions, and the kernel gradients of transposed ones, 6 to 40 times
slower than PyTorch on a CPU; batched matrix products and 2D convolutions it computes well.
`benchmarks/train_step.py` measures what these forms gain.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from segjax.models import _cpu_wide
from segjax.models._lax import LaxForms, Weights

Arrays = tuple[Array, ...]

# Without it XLA fuses the shifted copies into the product and falls back to a slow loop.
_materialise = lax.optimization_barrier


class CpuImageForms(LaxForms):
    """2D: channels last, plain convolutions, transposed ones with cheap kernel gradients."""

    def __init__(self) -> None:
        super().__init__(rank=2)

    def conv_transpose(
        self, xs: Sequence[Array], kernel: Weights, bias: Weights | None, stride: int
    ) -> Array:
        if stride != 2 or 0 in (kernel.shape[0] % 2, kernel.shape[1] % 2):
            return super().conv_transpose(xs, kernel, bias, stride)
        few_outputs = kernel.shape[-1] <= 4
        form = _conv_transpose_by_phases if few_outputs else _conv_transpose_2d
        return self.add_bias(form(self.concatenate(xs), jnp.asarray(kernel)), bias)


def _conv_2d(x: Array, kernel: Array, stride: int) -> Array:
    return LaxForms(2).conv((x,), kernel, None, stride)


@jax.custom_vjp
def _conv_transpose_2d(x: Array, kernel: Array) -> Array:
    """Transpose a stride-2 convolution; both gradients come from that strided convolution."""
    return LaxForms(2).conv_transpose((x,), kernel, None, 2)


def _conv_transpose_2d_backward(saved: Arrays, cotangent: Array) -> Arrays:
    x, kernel = saved
    adjoint = kernel.swapaxes(2, 3)
    dx, kernel_gradient = jax.vjp(lambda k: _conv_2d(cotangent, k, 2), adjoint)
    return dx, kernel_gradient(x)[0].swapaxes(2, 3)


_conv_transpose_2d.defvjp(
    lambda x, kernel: (_conv_transpose_2d(x, kernel), (x, kernel)), _conv_transpose_2d_backward
)


def _conv_transpose_by_phases(x: Array, kernel: Array) -> Array:
    """Compute the four (row, column) parities of the output as channels, then interleave them."""
    (rows, columns, c, o), (n, h, w, _) = kernel.shape, x.shape
    halves = [k // 2 for k in (rows, columns)]
    padded = jnp.pad(kernel, [(p % 2, 1 - p % 2) for p in halves] + [(0, 0)] * 2)
    split = padded.reshape(halves[0] + 1, 2, halves[1] + 1, 2, c, o)
    phases = split[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    y = lax.conv_general_dilated(
        x,
        phases.reshape(halves[0] + 1, halves[1] + 1, c, 4 * o),
        (1, 1),
        [(p // 2, (p + 1) // 2) for p in halves],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    parts = y.reshape(n, h, w, 2, 2, o).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, 2 * h, 2 * w, o)


class CpuVolumeForms(LaxForms):
    """3D: features are (batch, depth, channel, height, width), convolutions matrix products."""

    def __init__(self) -> None:
        super().__init__(rank=3)
        self.channel_axis = 2
        self.spatial_axes = (1, 3, 4)

    def from_images(self, images: Array) -> Array:
        return jnp.moveaxis(images, -1, 2)

    def to_images(self, features: Array) -> Array:
        return jnp.moveaxis(features, 2, -1)

    def conv(
        self, xs: Sequence[Array], kernel: Weights, bias: Weights | None, stride: int
    ) -> Array:
        kernel, size = jnp.asarray(kernel), kernel.shape[:3]
        if size == (1, 1, 1) and stride == 1:
            y = _conv_pointwise(self.concatenate(xs), kernel[0, 0, 0])
        elif _is_wide(kernel, xs[0], stride):
            y = _cpu_wide.conv(self.concatenate(xs), kernel, stride)
        elif size == (3, 3, 3) and stride == 1:
            y = _conv_3x3x3(tuple(xs), kernel)
        elif stride == 2 and _has_few_taps(size):
            y = _conv_strided(self.concatenate(xs), kernel)
        else:
            return super().conv(xs, kernel, bias, stride)
        return self.add_bias(y, bias)

    def conv_transpose(
        self, xs: Sequence[Array], kernel: Weights, bias: Weights | None, stride: int
    ) -> Array:
        kernel = jnp.asarray(kernel)
        if stride != 2 or not _has_few_taps(kernel.shape[:3]):
            return super().conv_transpose(xs, kernel, bias, stride)
        x = self.concatenate(xs)
        if _is_wide(kernel, x, 1):
            y = _cpu_wide.conv_transpose(x, kernel, stride)
        else:
            y = _conv_transposed(x, kernel)
        return self.add_bias(y, bias)


def _has_few_taps(size: Sequence[int]) -> bool:
    """Say whether a kernel is odd and small: a copy per tap compiles slowly beyond 5x5x5."""
    return all(k % 2 and k <= 5 for k in size)


def _is_wide(kernel: Array, x: Array, stride: int) -> bool:
    """Say whether a product over all voxels at once is faster than one per depth slice.

    A product per slice reads the whole kernel for each of them: a loss where a slice of the
    coarser side, x strided, has no more voxels than the convolution has channels.
    """
    voxels = -(-x.shape[3] // stride) * -(-x.shape[4] // stride)
    return _has_few_taps(kernel.shape[:3]) and max(kernel.shape[3:]) >= voxels


def _rows_times(rows: Array, x: Array) -> Array:
    """Multiply (row, k) with every slice of (slice, k, voxel).

    The rows are broadcast to the slices by hand: only then does XLA hand the product to its
    fast library.
    """
    spread = jnp.broadcast_to(rows, (x.shape[0], *rows.shape))
    return lax.dot_general(spread, x, (((2,), (1,)), ((0,), (0,))))


def _sum_of_outer(larger: Array, smaller: Array) -> Array:
    """Sum over slices and voxels: (slice, i, voxel), (slice, j, voxel) -> (i, j)."""
    return lax.dot_general(larger, smaller, (((2,), (2,)), ((0,), (0,)))).sum(0)


def _slices(x: Array) -> Array:
    """View (batch, depth, channel, height, width) as (slice, channel, voxel)."""
    n, d, c, h, w = x.shape
    return x.reshape(n * d, c, h * w)


def _pad(x: Array, depth: tuple[int, int], plane: tuple[int, int]) -> Array:
    return _materialise(jnp.pad(x, ((0, 0), depth, (0, 0), plane, plane)))


# ---------------------------------------------------------------- 1x1x1


@jax.custom_vjp
def _conv_pointwise(x: Array, kernel: Array) -> Array:
    n, d, _, h, w = x.shape
    return _rows_times(kernel.T, _slices(x)).reshape(n, d, -1, h, w)


def _conv_pointwise_backward(saved: Arrays, cotangent: Array) -> Arrays:
    x, kernel = saved
    dx = _rows_times(kernel, _slices(cotangent)).reshape(x.shape)
    return dx, _sum_of_outer(_slices(x), _slices(cotangent))


_conv_pointwise.defvjp(
    lambda x, kernel: (_conv_pointwise(x, kernel), (x, kernel)), _conv_pointwise_backward
)


# ---------------------------------------------------------------- 3x3x3, stride 1


@jax.custom_vjp
def _conv_3x3x3(xs: Arrays, kernel: Array) -> Array:
    """Convolve the channels of all `xs`, which are never concatenated at full length."""
    few_inputs = kernel.shape[3] <= 2
    return _conv_by_input_shifts(xs, kernel) if few_inputs else _conv_by_row_sums(xs, kernel)


def _plane_shifts(padded: Sequence[Array], h: int, w: int) -> Array:
    """Stack the nine shifts over height and width on the channel axis."""
    return _materialise(
        jnp.concatenate(
            [x[..., b : b + h, e : e + w] for b in range(3) for e in range(3) for x in padded], 2
        )
    )


def _conv_by_input_shifts(xs: Arrays, kernel: Array) -> Array:
    """Multiply nine plane shifts with the three depth taps, then add the depth shifts."""
    n, d, _, h, w = xs[0].shape
    c, o = kernel.shape[3:]
    shifts = _plane_shifts([_pad(x, (1, 1), (1, 1)) for x in xs], h, w)
    rows = kernel.transpose(0, 4, 1, 2, 3).reshape(3 * o, 9 * c)
    y = _materialise(_rows_times(rows, _slices(shifts))).reshape(n, d + 2, 3, o, h, w)
    return sum(y[:, a : a + d, a] for a in range(3))


def _conv_by_row_sums(xs: Arrays, kernel: Array) -> Array:
    """Multiply three width shifts with nine (depth, height) taps, then add those shifts."""
    n, d, _, h, w = xs[0].shape
    c, o = kernel.shape[3:]
    padded = [_pad(x, (1, 1), (1, 1)) for x in xs]
    shifts = _materialise(jnp.concatenate([x[..., e : e + w] for e in range(3) for x in padded], 2))
    rows = kernel.transpose(0, 1, 4, 2, 3).reshape(9 * o, 3 * c)
    y = _materialise(_rows_times(rows, _slices(shifts))).reshape(n, d + 2, 3, 3, o, h + 2, w)
    return sum(y[:, a : a + d, a, b, :, b : b + h] for a, b in product(range(3), repeat=2))


def _conv_3x3x3_backward(saved: tuple[Arrays, Array], cotangent: Array) -> tuple[Arrays, Array]:
    """Build nine shifts of the cotangent once; they serve both gradients."""
    xs, kernel = saved
    n, d, o, h, w = cotangent.shape
    c = kernel.shape[3]
    shifts = _slices(_plane_shifts([_pad(cotangent, (1, 1), (1, 1))], h, w))
    deep = [_pad(x, (2, 2), (0, 0)) for x in xs]
    depths = _materialise(
        jnp.concatenate([x[:, 2 - a : d + 4 - a] for a in range(3) for x in deep], 2)
    )
    outer = _sum_of_outer(shifts, _slices(depths)).reshape(3, 3, o, 3, c)
    d_kernel = outer.transpose(3, 0, 1, 4, 2)[::-1, ::-1, ::-1]
    shifts, d_kernel = _materialise((shifts, d_kernel))
    rows = kernel[::-1, ::-1, ::-1].transpose(0, 3, 1, 2, 4).reshape(3 * c, 9 * o)
    y = _materialise(_rows_times(rows, shifts)).reshape(n, d + 2, 3, c, h, w)
    dx = sum(y[:, a : a + d, a] for a in range(3))
    ends = np.cumsum([x.shape[2] for x in xs])
    return tuple(jnp.split(dx, ends[:-1], 2)), d_kernel


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


def _to_parities(x: Array) -> Array:
    """(n, D, c, H, W) -> (2, 2, 2, n, ⌈D/2⌉, c, ⌈H/2⌉, ⌈W/2⌉); odd axes gain a zero."""
    n, d, c, h, w = x.shape
    x = jnp.pad(x, ((0, 0), (0, d % 2), (0, 0), (0, h % 2), (0, w % 2)))
    halves = -(-d // 2), -(-h // 2), -(-w // 2)
    parts = x.reshape(n, halves[0], 2, c, halves[1], 2, halves[2], 2)
    return _materialise(parts.transpose(2, 5, 7, 0, 1, 3, 4, 6))


def _from_parities(parts: Array) -> Array:
    """Undo `_to_parities` (even axes)."""
    n, d, c, h, w = parts.shape[3:]
    return parts.transpose(3, 4, 0, 5, 6, 1, 7, 2).reshape(n, 2 * d, c, 2 * h, 2 * w)


def _margins(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return how far the shifts q reach before and after each axis."""
    return [((k // 2 + 1) // 2, k // 2 // 2) for k in sizes]


def _strided_patches(x: Array, sizes: Sequence[int]) -> Array:
    """Stack what each tap reads on the channel axis: (slice, tap·channel, voxel)."""
    parts = _to_parities(x)
    (d, h, w), margins = np.array(parts.shape)[[4, 6, 7]], _margins(sizes)
    zeros = (0, 0)
    padded = _materialise(
        jnp.pad(parts, (zeros,) * 4 + (margins[0], zeros, margins[1], margins[2]))
    )
    pieces = []
    for shift, parity in _taps(sizes):
        a, b, e = (q + m[0] for q, m in zip(shift, margins, strict=True))
        pieces.append(padded[parity][:, a : a + d, :, b : b + h, e : e + w])
    return _slices(_materialise(jnp.concatenate(pieces, 2)))


def _transposed_product(x: Array, kernel: Array) -> Array:
    """Spread (n, d, c, h, w) over the taps of kernel (*k, c, o): (n, 2d, o, 2h, 2w)."""
    n, d, _, h, w = x.shape
    sizes, o = kernel.shape[:3], kernel.shape[4]
    rows = kernel.transpose(0, 1, 2, 4, 3).reshape(-1, kernel.shape[3])
    y = _materialise(_rows_times(rows, _slices(x))).reshape(n, d, -1, o, h, w)
    low, high = zip(*((m[1], m[0]) for m in _margins(sizes)), strict=True)
    widths = ((0, 0), (low[0], high[0]), (0, 0), (0, 0), (low[1], high[1]), (low[2], high[2]))
    y = _materialise(jnp.pad(y, widths))
    parts: dict[tuple[int, ...], Any] = {}
    for tap, (shift, parity) in enumerate(_taps(sizes)):
        a, b, e = (m - q for q, m in zip(shift, low, strict=True))
        piece = y[:, a : a + d, tap, :, b : b + h, e : e + w]
        parts[parity] = parts.get(parity, 0) + piece
    zero = jnp.zeros((n, d, o, h, w), x.dtype)
    whole = [parts.get(parity, zero) for parity in product(range(2), repeat=3)]
    return _from_parities(jnp.stack(whole).reshape(2, 2, 2, n, d, o, h, w))


def _kernel_gradient(low: Array, high: Array, sizes: Sequence[int]) -> Array:
    """Correlate a half-resolution map with a full-resolution one: (*k, high, low)."""
    outer = _sum_of_outer(_strided_patches(high, sizes), _slices(low))
    return outer.reshape(*sizes, high.shape[2], low.shape[2])


@jax.custom_vjp
def _conv_strided(x: Array, kernel: Array) -> Array:
    """Convolve at stride 2: y[i] = Σ_t k[t]·x[2i + t - p]; output length ⌈n/2⌉."""
    n, d, _, h, w = x.shape
    rows = kernel.reshape(-1, kernel.shape[4]).T
    y = _rows_times(rows, _strided_patches(x, kernel.shape[:3]))
    return y.reshape(n, -(-d // 2), -1, -(-h // 2), -(-w // 2))


def _conv_strided_backward(saved: Arrays, cotangent: Array) -> Arrays:
    x, kernel = saved
    dx = _transposed_product(cotangent, kernel.swapaxes(3, 4))
    whole = dx[:, : x.shape[1], :, : x.shape[3], : x.shape[4]]
    return whole, _kernel_gradient(cotangent, x, kernel.shape[:3])


_conv_strided.defvjp(
    lambda x, kernel: (_conv_strided(x, kernel), (x, kernel)), _conv_strided_backward
)


@jax.custom_vjp
def _conv_transposed(x: Array, kernel: Array) -> Array:
    """Transpose a stride-2 convolution: y[2i + t - p] += k[t]·x[i]; output length 2n."""
    return _transposed_product(x, kernel)


def _conv_transposed_backward(saved: Arrays, cotangent: Array) -> Arrays:
    x, kernel = saved
    d_kernel = _kernel_gradient(x, cotangent, kernel.shape[:3])
    return _conv_strided(cotangent, kernel.swapaxes(3, 4)), d_kernel.swapaxes(3, 4)


_conv_transposed.defvjp(
    lambda x, kernel: (_conv_transposed(x, kernel), (x, kernel)), _conv_transposed_backward
)
