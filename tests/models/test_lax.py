"""The forms of a GPU, which a CPU computes too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import ops

LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def _random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def _transposed_by_jax(x, kernel, stride):
    layout = LAYOUTS[x.ndim - 2]
    return jax.lax.conv_transpose(
        x,
        jnp.swapaxes(kernel, -1, -2),
        (stride,) * (x.ndim - 2),
        [(k // 2, k // 2 + stride - 1) for k in kernel.shape[:-2]],
        dimension_numbers=(layout, layout[1:-1] + "IO", layout),
        transpose_kernel=True,
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "kernel"), [((7,), (3,)), ((5, 4), (3, 5)), ((2, 3), (1, 7)), ((3, 2, 4), (3, 3, 3))]
)
def test_transposed_convolution_and_its_gradients_are_those_that_jax_derives(shape, kernel, stride):
    x, k = _random(0, 2, *shape, 3), _random(1, *kernel, 3, 4)
    forms = ops.lax_forms(len(shape))
    ours, backward = jax.vjp(lambda x, k: forms.conv_transpose([x], k, None, stride), x, k)
    wanted, reference = jax.vjp(lambda x, k: _transposed_by_jax(x, k, stride), x, k)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    cotangent = _random(2, *wanted.shape)
    for found, exact in zip(backward(cotangent), reference(cotangent), strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-4)


def test_transposed_convolution_of_bfloat16_has_gradients_of_its_type():
    forms, half = ops.lax_forms(2), jnp.bfloat16
    x, k = _random(0, 1, 4, 4, 2).astype(half), _random(1, 3, 3, 2, 1).astype(half)
    y, backward = jax.vjp(lambda x, k: forms.conv_transpose([x], k, None, 2), x, k)
    assert [g.dtype for g in (y, *backward(y))] == [half] * 3
