"""The CPU forms against plain lax and PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.models import _cpu, ops
from tests.peers import torch


def _slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def _random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def _reference(operation, *, stride):
    """Return the operation on channels-last arrays by plain lax, free of the module's forms."""

    def conv(x, kernel, bias):
        size = kernel.shape[:-2]
        layout = ("NHWC", "HWIO", "NHWC") if len(size) == 2 else ("NDHWC", "DHWIO", "NDHWC")
        if operation == "conv":
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                (stride,) * len(size),
                [((k - 1) // 2, k // 2) for k in size],
                dimension_numbers=layout,
            )
        else:
            y = jax.lax.conv_transpose(
                x,
                jnp.swapaxes(kernel, -1, -2),
                (stride,) * len(size),
                [(k // 2, k // 2 + stride - 1) for k in size],
                dimension_numbers=layout,
                transpose_kernel=True,
            )
        return y + bias

    return conv


def _ours(operation, splits, *, stride):
    def conv(x, kernel, bias):
        rank, channels = kernel.ndim - 2, x.shape[-1]
        parts = jnp.split(x, [channels // 2], -1) if splits == 2 and channels > 1 else [x]
        features = [ops.from_images(p, spatial_dims=rank, in_channels=p.shape[-1]) for p in parts]
        return ops.to_images(getattr(ops, operation)(features, kernel, bias, stride=stride))

    return conv


def _close(actual, expected, tolerance):
    scale = max(float(jnp.abs(expected).max()), 1.0)
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale, rtol=0)


def _check_value_and_gradients(operation, x, kernel, bias, *, stride, splits=1):
    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, *arguments):
        value, vjp = jax.vjp(function, *arguments)
        return value, vjp(_random(3, *value.shape))

    functions = _ours(operation, splits, stride=stride), _reference(operation, stride=stride)
    actual, expected = (value_and_gradients(f, x, kernel, bias) for f in functions)
    assert actual[0].shape == expected[0].shape
    jax.tree.map(lambda ours, theirs: _close(ours, theirs, 1e-5), actual, expected)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 9)] * 3),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    kernel=st.sampled_from([1, 2, 3, 4, 5]),
    stride=st.sampled_from([1, 2]),
    splits=st.sampled_from([1, 2]),
)
def test_conv_equals_plain_lax_for_any_volume(sizes, batch, channels, kernel, stride, splits):
    c, o = channels
    x, k = _random(0, batch, *sizes, c), _random(1, kernel, kernel, kernel, c, o)
    _check_value_and_gradients("conv", x, k, _random(2, o), stride=stride, splits=splits)


@pytest.mark.parametrize("kernel", [1, 2, 3, *map(_slow, range(4, 10))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(9, 7), (6, 10, 5)], ids=["2D", "3D"])
def test_conv_equals_plain_lax_for_every_kernel_size(shape, stride, kernel):
    x = _random(0, 2, *shape, 3)
    k = _random(1, *(kernel,) * len(shape), 3, 4)
    _check_value_and_gradients("conv", x, k, _random(2, 4), stride=stride, splits=2)


@pytest.mark.parametrize("kernel", [1, 3, *map(_slow, (5, 7, 9))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("shape", [(9, 7), (4, 3, 5)], ids=["2D", "3D"])
def test_conv_transpose_equals_plain_lax_for_every_kernel_size(shape, classes, stride, kernel):
    x = _random(0, 2, *shape, 3)
    k = _random(1, *(kernel,) * len(shape), 3, classes)
    _check_value_and_gradients("conv_transpose", x, k, _random(2, classes), stride=stride)


@pytest.mark.parametrize("channels", [(1, 20), (5, 2)])
@pytest.mark.parametrize("kernel", [3, _slow(9)])
@pytest.mark.parametrize("shape", [(2, 4), (8, 10)], ids=["short", "even"])
@pytest.mark.parametrize("operation", ["conv", "conv_transpose"])
def test_strided_forms_of_images_equal_plain_lax(operation, shape, kernel, channels):
    x = _random(0, 2, *shape, channels[0])
    k = _random(1, kernel, kernel, *channels)
    _check_value_and_gradients(operation, x, k, _random(2, channels[1]), stride=2)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), _slow(3, 2), _slow(5, 2)])
@pytest.mark.parametrize("operation", ["conv", "conv_transpose"])
def test_convolutions_of_many_channels_on_few_voxels_equal_plain_lax(operation, stride, kernel):
    x = _random(0, 2, 5, 4, 3, 14)
    k = _random(1, kernel, kernel, kernel, 14, 13) / 10
    _check_value_and_gradients(operation, x, k, _random(2, 13), stride=stride, splits=2)


def test_gradients_taken_image_by_image_are_those_of_plain_lax(monkeypatch):
    monkeypatch.setattr(_cpu, "_LARGE", 0)
    x, k = _random(0, 3, 6, 5, 7, 5), _random(1, 3, 3, 3, 5, 4)
    _check_value_and_gradients("conv", x, k, _random(2, 4), stride=1, splits=2)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_conv_transpose_is_pytorch_s(rank, kernel):
    x, k = _random(0, 2, *(4, 5, 6)[:rank], 3), _random(1, *(kernel,) * rank, 3, 2)
    function = (
        torch.nn.functional.conv_transpose2d
        if rank == 2
        else (torch.nn.functional.conv_transpose3d)
    )
    expected = function(
        torch.from_numpy(np.moveaxis(np.array(x), -1, 1)),
        torch.from_numpy(np.moveaxis(np.array(k), (-2, -1), (0, 1))),
        stride=2,
        padding=kernel // 2,
        output_padding=1,
    ).numpy()
    actual = _ours("conv_transpose", 1, stride=2)(x, k, jnp.zeros(2))
    np.testing.assert_allclose(actual, np.moveaxis(expected, 1, -1), atol=1e-5)


def _torch_images(x):
    return torch.from_numpy(np.moveaxis(np.array(x), -1, 1)).requires_grad_()


def _features(x):
    return ops.from_images(x, spatial_dims=x.ndim - 2, in_channels=x.shape[-1])


def _value_and_gradient(function, x, cotangent):
    value, vjp = jax.vjp(jax.jit(lambda x: ops.to_images(function(_features(x)))), x)
    return value, vjp(cotangent)[0]


@pytest.mark.peer("torch")
@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (2, 8, 6, 4, 3), (1, 7, 5, 9, 2)])
def test_max_pool_and_its_gradient_are_pytorch_s_with_ties_too(shape):
    x = jnp.round(_random(0, *shape))  # rounded: many ties
    images = _torch_images(x)
    pool = torch.nn.functional.max_pool2d if x.ndim == 4 else torch.nn.functional.max_pool3d
    expected = pool(images, 2)
    cotangent = _random(1, *np.moveaxis(expected.detach().numpy(), 1, -1).shape)
    expected.backward(_torch_images(cotangent))
    value, gradient = _value_and_gradient(ops.max_pool, x, cotangent)
    np.testing.assert_array_equal(value, np.moveaxis(expected.detach().numpy(), 1, -1))
    np.testing.assert_array_equal(gradient, np.moveaxis(images.grad.numpy(), 1, -1))


@pytest.mark.peer("torch")
@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (2, 3, 4, 2, 3)])
def test_upsample_and_its_gradient_are_pytorch_s(shape):
    x = _random(0, *shape)
    images = _torch_images(x)
    expected = torch.nn.functional.interpolate(images, scale_factor=2, mode="nearest")
    cotangent = _random(1, *np.moveaxis(expected.detach().numpy(), 1, -1).shape)
    expected.backward(_torch_images(cotangent))
    value, gradient = _value_and_gradient(ops.upsample, x, cotangent)
    np.testing.assert_array_equal(value, np.moveaxis(expected.detach().numpy(), 1, -1))
    np.testing.assert_allclose(gradient, np.moveaxis(images.grad.numpy(), 1, -1), atol=1e-6)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far from zero"])
@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (2, 8, 6, 4, 3)])
def test_batch_norm_leaky_relu_is_pytorch_s(shape, offset):
    x = _random(0, *shape) + offset
    scale, shift = _random(1, 3), _random(2, 3)
    images = _torch_images(x)
    weights = [torch.from_numpy(np.array(w)).requires_grad_() for w in (scale, shift)]
    normal = torch.nn.functional.batch_norm(images, None, None, *weights, training=True)
    expected = torch.nn.functional.leaky_relu(normal, 0.3)
    cotangent = _random(3, *shape)
    expected.backward(_torch_images(cotangent))

    def ours(x, scale, shift):
        y, mean, variance = ops.batch_norm_leaky_relu(_features(x), scale, shift, slope=0.3)
        return ops.to_images(y), mean, variance

    (value, mean, variance), vjp = jax.vjp(jax.jit(ours), x, scale, shift)
    gradients = vjp((cotangent, jnp.zeros(3), jnp.zeros(3)))
    tolerance = 1e-5 if offset == 0 else 1e-3
    _close(value, np.moveaxis(expected.detach().numpy(), 1, -1), tolerance)
    axes = tuple(range(x.ndim - 1))
    _close(mean, np.array(x, np.float64).mean(axes), 1e-6)
    _close(variance, np.array(x, np.float64).var(axes), tolerance)
    _close(gradients[0], np.moveaxis(images.grad.numpy(), 1, -1), tolerance)
    for ours_, theirs in zip(gradients[1:], weights, strict=True):
        _close(ours_, theirs.grad.numpy(), tolerance)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (2, 8, 6, 4, 3)])
def test_instance_norm_prelu_is_pytorch_s(shape):
    x, slope = _random(0, *shape), jnp.float32(0.2)
    images, weight = _torch_images(x), torch.tensor([0.2], requires_grad=True)
    expected = torch.nn.functional.prelu(torch.nn.functional.instance_norm(images), weight)
    cotangent = _random(3, *shape)
    expected.backward(_torch_images(cotangent))

    def ours(x, slope):
        return ops.to_images(ops.instance_norm_prelu(_features(x), slope))

    value, vjp = jax.vjp(jax.jit(ours), x, slope)
    gradient, slope_gradient = vjp(cotangent)
    _close(value, np.moveaxis(expected.detach().numpy(), 1, -1), 1e-5)
    _close(gradient, np.moveaxis(images.grad.numpy(), 1, -1), 1e-5)
    np.testing.assert_allclose(slope_gradient, weight.grad.item(), rtol=1e-4)


def test_instance_norm_prelu_with_dropout_equals_its_plain_form():
    x, slope = _random(0, 2, 6, 8, 3), jnp.float32(0.2)
    keep = ops.dropout_mask(jax.random.key(0), 0.3, x)
    cotangent = _random(1, *x.shape)

    def plain(x, slope):
        normal = (x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(
            x.var((1, 2), keepdims=True) + ops.EPSILON
        )
        dropped = jnp.where(keep[0], normal * keep[1], 0)
        return jnp.where(dropped >= 0, dropped, slope * dropped)

    (expected, expected_vjp), (actual, actual_vjp) = (
        jax.vjp(jax.jit(f), x, slope)
        for f in (plain, lambda x, s: ops.instance_norm_prelu(x, s, keep))
    )
    _close(actual, expected, 1e-5)
    for ours, theirs in zip(actual_vjp(cotangent), expected_vjp(cotangent), strict=True):
        _close(ours, theirs, 1e-5)


def test_dropout_mask_keeps_the_rate_and_the_mean():
    mask, factor = ops.dropout_mask(jax.random.key(1), 0.3, jnp.zeros((4, 50, 50, 7)))
    kept = float(mask.mean())
    assert abs(kept - (1 - 77 / 256)) < 0.01
    assert abs(kept * factor - 1) < 0.015


@pytest.mark.parametrize("rate", [0.997, 0.99805, 0.9999])
def test_dropout_of_nearly_everything_stays_finite(rate):
    mask, factor = ops.dropout_mask(jax.random.key(1), rate, jnp.zeros((4, 64, 64, 8)))
    assert factor == 256
    assert float(mask.mean()) == pytest.approx(1 / 256, rel=0.1)


def test_channel_dropout_drops_whole_channels_and_keeps_the_mean():
    x = ops.from_images(jnp.ones((64, 2, 2, 2, 50)), spatial_dims=3, in_channels=50)
    values = np.asarray(
        ops.to_images(ops.channel_dropout(x, rate=0.3, key=jax.random.key(0)))
    ).reshape(64, 8, 50)
    assert np.all(values == values[:, :1])
    assert set(np.unique(values.round(5))) == {0.0, np.float32(1 / 0.7).round(5)}
    assert abs(values.mean() - 1) < 0.05


@pytest.mark.parametrize("operation", ["conv", "conv_transpose"])
@pytest.mark.parametrize("shape", [(2, 9, 8, 3), (2, 2, 4, 3), (1, 5, 4, 6, 3)])
def test_half_precision_features_are_convolved_in_it_by_float32_weights(operation, shape):
    x, kernel = _random(0, *shape), _random(1, *(3,) * (len(shape) - 2), 3, 4)
    bias, half = _random(2, 4), jnp.bfloat16

    def ours(kernel, bias):
        features = ops.from_images(x.astype(half), spatial_dims=len(shape) - 2, in_channels=3)
        return getattr(ops, operation)([features], kernel, bias, stride=2)

    features, vjp = jax.vjp(jax.jit(ours), kernel, bias)
    assert features.dtype == half
    assert {gradient.dtype for gradient in vjp(features)} == {jnp.dtype("float32")}
    expected = _reference(operation, stride=2)(x, kernel, bias)
    found = ops.to_images(features)
    assert found.dtype == jnp.float32
    _close(found, expected, 2**-7)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("operation", ["conv", "conv_transpose"])
@pytest.mark.parametrize("shape", [(4, 64, 64), (1, 16, 32, 32)], ids=["2D", "3D"])
def test_gradient_of_a_bias_is_summed_in_float32(shape, operation, size):
    # 16384 times 2^-12 is 4; a sum of bfloat16 stops growing at 256 times 2^-12, 1/16
    rank = len(shape) - 1
    x, kernel = jnp.zeros((*shape, 1), jnp.bfloat16), jnp.zeros((size,) * rank + (1, 2))

    def total(bias):
        features = ops.from_images(x, spatial_dims=rank, in_channels=1)
        return ops.to_images(getattr(ops, operation)([features], kernel, bias, stride=1)).sum()

    gradient = jax.jit(jax.grad(lambda bias: total(bias) / 2**12))(jnp.zeros(2))
    np.testing.assert_allclose(gradient, [4, 4], rtol=1e-6)


def test_sum_of_half_precision_features_is_float32():
    xs = [jnp.full((1, 2, 2, 1), value, jnp.bfloat16) for value in (256, 1, 1)]
    total = ops.add(xs)
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(total, 258)  # bfloat16 has no 257


def test_upsampling_sums_the_gradient_in_float32():
    x = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    cotangent = jnp.asarray([256, 1, 1, 0], jnp.bfloat16).reshape(1, 2, 2, 1)
    gradient = jax.vjp(ops.upsample, x)[1](cotangent)[0]
    np.testing.assert_array_equal(gradient.astype(jnp.float32), 258)


@pytest.mark.parametrize("shape", [(4, 16, 16, 3), (2, 8, 8, 8, 3)])
def test_norms_of_half_precision_features_compute_in_float32(shape):
    # around 8 neighbours differ by 1/16: statistics of bfloat16 would be off by much more
    images = (8 + _random(0, *shape) / 4).astype(jnp.bfloat16)
    x = ops.from_images(images, spatial_dims=len(shape) - 2, in_channels=3)
    exact = np.asarray(images, np.float64)
    axes = tuple(range(len(shape) - 1))
    ones, zeros = jnp.ones(3), jnp.zeros(3)
    z, mean, variance = ops.batch_norm_leaky_relu(x, ones, zeros, slope=1.0)
    assert (z.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axes), rtol=1e-5)
    normal = (exact - exact.mean(axes)) / np.sqrt(exact.var(axes) + ops.EPSILON)
    _close(ops.to_images(z), normal, 2**-8)
    space = axes[1:]
    of_image = exact - exact.mean(space, keepdims=True)
    normal = of_image / np.sqrt(exact.var(space, keepdims=True) + ops.EPSILON)
    z, vjp = jax.vjp(lambda x: ops.instance_norm_prelu(x, jnp.ones(())), x)
    assert z.dtype == vjp(z)[0].dtype == jnp.bfloat16
    _close(ops.to_images(z), normal, 2**-8)


def test_lent_forms_replace_the_operations_only_inside_the_block():
    x = _features(_random(0, 1, 4, 4, 4, 2))
    assert ops.channels(x) == 2
    assert x.shape == (1, 2, 4, 4, 4)
    with ops.use(ops.lax_forms(3)):
        assert _features(_random(0, 1, 4, 4, 4, 2)).shape == (1, 4, 4, 4, 2)
    assert _features(_random(0, 1, 4, 4, 4, 2)).shape == (1, 2, 4, 4, 4)


def test_wrong_rank_channels_or_sizes_are_named():
    check = {"spatial_dims": 2, "in_channels": 1, "size_multiple": 8}
    with pytest.raises(ValueError, match=r"height, width, 1 channels\), got \(1, 8, 8, 8, 1\)"):
        ops.from_images(jnp.zeros((1, 8, 8, 8, 1)), **check)
    with pytest.raises(ValueError, match="1 channels"):
        ops.from_images(jnp.zeros((1, 8, 8, 3)), **check)
    with pytest.raises(ValueError, match="multiples of 8"):
        ops.from_images(jnp.zeros((1, 8, 12, 1)), **check)
