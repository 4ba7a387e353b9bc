"""The operations of the networks as ONNX nodes.

`onnx_forms` is lent to `segjax.models.ops` for the time of an export. Each of its functions takes
and returns channels-first features, ``(batch, channel, *spatial)``, and binds one JAX primitive
that becomes ONNX nodes of the same layout: the exported graph holds no ``Transpose``. Weights
must be concrete arrays (they become initialisers); features are traced, and their batch and
spatial sizes may be symbolic.
"""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.typing import ArrayLike
from jaxtyping import Float32

# Given jax2onnx's builder, the ONNX inputs and the primitive's parameters, add the node and return
# its output.
Emitter = Callable[..., Any]

_EMITTERS: dict[Primitive, Emitter] = {}


def _define(name: str, shape: Callable[..., tuple], emit: Emitter) -> Primitive:
    """Create a primitive of one output of the first input's type."""

    def abstract(*inputs: ShapedArray, **parameters: Any) -> ShapedArray:
        return ShapedArray(shape(*(x.shape for x in inputs), **parameters), inputs[0].dtype)

    primitive = Primitive(f"segjax.{name}")
    primitive.def_abstract_eval(abstract)
    _EMITTERS[primitive] = emit
    return primitive


@functools.cache
def register() -> None:
    """Teach jax2onnx to write the primitives of this module as ONNX nodes.

    Example:
        >>> register()
    """
    for primitive, emit in _EMITTERS.items():
        _register_plugin(primitive, emit)


def _register_plugin(primitive: Primitive, emit: Emitter) -> None:
    import onnx_ir
    from jax2onnx.plugins import plugin_system
    from jax2onnx.plugins._ir_shapes import _stamp_type_and_shape

    class Plugin(plugin_system.PrimitiveLeafPlugin):
        def lower(self, ctx: Any, eqn: Any) -> None:
            inputs = [ctx.get_value_for_var(x, name_hint=ctx.fresh_name("x")) for x in eqn.invars]
            outputs = [ctx.fresh_name(primitive.name.removeprefix("segjax."))]
            value = emit(ctx.builder, inputs, _outputs=outputs, **eqn.params)
            value.type = onnx_ir.TensorType(inputs[0].dtype)
            _stamp_type_and_shape(value, eqn.outvars[0].aval.shape)
            ctx.bind_value_for_var(eqn.outvars[0], value)

    plugin_system.register_primitive(jaxpr_primitive=primitive.name)(Plugin)


def _same_padding(kernel_size: Sequence[int]) -> list[int]:
    """Return ONNX's pads: what precedes every axis, then what follows every axis."""
    return [(k - 1) // 2 for k in kernel_size] + [k // 2 for k in kernel_size]


def _window(kernel_size: Sequence[int], stride: int) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(kernel_size),
        "strides": [stride] * len(kernel_size),
        "pads": _same_padding(kernel_size),
    }


def _emit_conv(builder: Any, inputs: list, *, kernel_size: tuple, stride: int, **names: Any) -> Any:
    return builder.Conv(*inputs, **_window(kernel_size, stride), **names)


def _emit_conv_transpose(
    builder: Any, inputs: list, *, kernel_size: tuple, stride: int, **names: Any
) -> Any:
    attributes: dict[str, list[int]] = _window(kernel_size, stride)
    if stride > 1:
        attributes["output_padding"] = [stride - 1] * len(kernel_size)
    return builder.ConvTranspose(*inputs, **attributes, **names)


def _emit_upsample(
    builder: Any, inputs: list, *, spatial_dims: int, channels: int, **names: Any
) -> Any:
    """Resize images, as onnxruntime does fast; of volumes the last two axes, then the first.

    For that, x joins the channels, and what is doubled beside it parts from them again. In a
    Reshape, 0 keeps an axis and -1 takes what is left.
    """
    (x,), (name,) = inputs, names["_outputs"]
    if spatial_dims == 2:
        return _emit_resize(builder, x, name)
    lone, behind = builder.const_i64("lone_axis", [1]), builder.const_i64("axis_behind_x", [2])
    joined = builder.const_i64("x_among_channels", [0, 1, -1, 0, 0])
    parted = builder.const_i64(f"x_beside_{channels}_channels", [0, channels, -1, 0, 0])
    y = builder.Reshape(x, joined, _outputs=[f"{name}_joined"])
    y = builder.Squeeze(y, lone, _outputs=[f"{name}_images"])
    y = _emit_resize(builder, y, f"{name}_resized")
    y = builder.Unsqueeze(y, behind, _outputs=[f"{name}_unsqueezed"])
    y = builder.Concat(y, y, axis=2, _outputs=[f"{name}_twice"])
    return builder.Reshape(y, parted, _outputs=[name])


def _emit_resize(builder: Any, x: Any, name: str) -> Any:
    scales = builder.add_initializer_from_array("twice", np.array([1, 1, 2, 2], np.float32))
    how = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return builder.Resize(x, None, scales, **how, _outputs=[name])


def _emit_softmax(builder: Any, inputs: list, **names: Any) -> Any:
    """Spell the softmax out: onnxruntime's own is slow on an axis that is not the last."""
    (x,), (name,) = inputs, names["_outputs"]
    axes = builder.const_i64("channel_axis", [1])
    if builder.opset < 18:
        largest = builder.ReduceMax(x, axes=[1], _outputs=[f"{name}_max"])
    else:
        largest = builder.ReduceMax(x, axes, _outputs=[f"{name}_max"])
    shifted = builder.Sub(x, largest, _outputs=[f"{name}_shifted"])
    weights = builder.Exp(shifted, _outputs=[f"{name}_exp"])
    total = builder.ReduceSum(weights, axes, _outputs=[f"{name}_sum"])
    return builder.Div(weights, total, **names)


def _emit_max_pool(builder: Any, inputs: list, *, spatial_dims: int, **names: Any) -> Any:
    two = [2] * spatial_dims
    return builder.MaxPool(*inputs, kernel_shape=two, strides=two, **names)


def _concatenated_shape(*shapes: tuple) -> tuple:
    return (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])


_concatenate = _define(
    "concatenate",
    _concatenated_shape,
    lambda builder, inputs, **names: builder.Concat(*inputs, axis=1, **names),
)
_conv = _define(
    "conv",
    # -(-size // stride) rounds up, and keeps a symbolic size simple.
    lambda x, kernel, *bias, kernel_size, stride: (
        x[0],
        kernel[0],
        *(-(-size // stride) for size in x[2:]),
    ),
    _emit_conv,
)
_conv_transpose = _define(
    "conv_transpose",
    lambda x, kernel, *bias, kernel_size, stride: (
        x[0],
        kernel[1],
        *(stride * size for size in x[2:]),
    ),
    _emit_conv_transpose,
)
_leaky_relu = _define(
    "leaky_relu",
    lambda x, slope: x,
    lambda builder, inputs, slope, **names: builder.LeakyRelu(*inputs, alpha=slope, **names),
)
_instance_norm = _define(
    "instance_norm",
    lambda x, scale, bias, epsilon: x,
    lambda builder, inputs, epsilon, **names: builder.InstanceNormalization(
        *inputs, epsilon=epsilon, **names
    ),
)
_max_pool = _define(
    "max_pool", lambda x, spatial_dims: (*x[:2], *(size // 2 for size in x[2:])), _emit_max_pool
)
_upsample = _define(
    "upsample", lambda x, **_: (*x[:2], *(2 * size for size in x[2:])), _emit_upsample
)
_softmax = _define("softmax", lambda x: x, _emit_softmax)
_sigmoid = _define(
    "sigmoid", lambda x: x, lambda builder, inputs, **names: builder.Sigmoid(*inputs, **names)
)


def channels(x: jax.Array) -> int:
    """Return the number of channels of features ``(batch, channel, *spatial)``."""
    return x.shape[1]


def concatenate(xs: Sequence[jax.Array]) -> jax.Array:
    """Join features on their channels; one alone stays as it is (``Concat``)."""
    return xs[0] if len(xs) == 1 else _concatenate.bind(*xs)


def conv(
    xs: Sequence[jax.Array], kernel: ArrayLike, bias: ArrayLike | None, stride: int
) -> jax.Array:
    """Correlate the concatenated features with a kernel (``Conv``).

    Args:
        xs: Features ``(batch, channel, *spatial)`` of one size, concatenated on their channels.
        kernel: Weights ``(*kernel, in, out)``.
        bias: ``(out,)``, or nothing.
        stride: The step between outputs, the same along every axis.

    Returns:
        Features of ``ceil(size / stride)``: ``(k - 1) // 2`` zeros precede an axis, ``k // 2``
        follow it.
    """
    weights = np.moveaxis(np.asarray(kernel, np.float32), (-1, -2), (0, 1))
    if weights.shape[2:] == (3, 3, 3) and stride == 1 and in_planes_is_faster(weights):
        planes, total = in_planes(weights)
        return _convolve(_conv, [_convolve(_conv, xs, planes, None, 1)], total, bias, 1)
    return _convolve(_conv, xs, weights, bias, stride)


def in_planes_is_faster(weights: Float32[np.ndarray, "out in 3 3 3"]) -> bool:
    """Say whether a convolution is so narrow that copying its windows takes most of its time."""
    outputs, inputs = weights.shape[:2]
    return outputs <= 16 and inputs >= max(12, 2 * outputs)


def in_planes(
    weights: Float32[np.ndarray, "out in 3 3 3"],
) -> tuple[Float32[np.ndarray, "out3 in 1 3 3"], Float32[np.ndarray, "out out3 3 1 1"]]:
    """Write a convolution as one of the planes across x, and one that adds three of them up.

    y[x] = Σ_t plane_t[x + t - 1]: onnxruntime copies 9 voxels of every channel, instead of 27.
    Both equal the one convolution, to rounding.
    """
    outputs = len(weights)
    planes = np.concatenate(np.split(weights, 3, axis=2))
    total = np.zeros((outputs, 3, outputs, 3, 1, 1), np.float32)
    for t in range(3):
        total[range(outputs), t, range(outputs), t] = 1
    return planes, total.reshape(outputs, 3 * outputs, 3, 1, 1)


def conv_transpose(
    xs: Sequence[jax.Array], kernel: ArrayLike, bias: ArrayLike | None, stride: int
) -> jax.Array:
    """Apply the adjoint of `conv` (``ConvTranspose``).

    Args:
        xs: Features ``(batch, channel, *spatial)`` of one size, concatenated on their channels.
        kernel: Weights ``(*kernel, in, out)``, where PyTorch holds ``(in, out, *kernel)``.
        bias: ``(out,)``, or nothing.
        stride: How many times larger the result is.

    Returns:
        Features of ``stride * size``.
    """
    weights = np.asarray(kernel, np.float32)
    return _convolve(_conv_transpose, xs, np.moveaxis(weights, (-2, -1), (0, 1)), bias, stride)


def _convolve(
    primitive: Primitive,
    xs: Sequence[jax.Array],
    weights: Float32[np.ndarray, "out in *size"],
    bias: ArrayLike | None,
    stride: int,
) -> jax.Array:
    biases = () if bias is None else (np.asarray(bias, np.float32),)
    return primitive.bind(
        concatenate(xs),
        np.ascontiguousarray(weights),
        *biases,
        kernel_size=weights.shape[2:],
        stride=stride,
    )


def leaky_relu(y: jax.Array, slope: ArrayLike) -> jax.Array:
    """Multiply what is negative by the slope, a number (``LeakyRelu``)."""
    return _leaky_relu.bind(y, slope=float(np.asarray(slope).item()))


def instance_norm_prelu(y: jax.Array, slope: ArrayLike, keep: object) -> jax.Array:
    """Normalise every channel of every image, then `leaky_relu`.

    Args:
        y: Features ``(batch, channel, *spatial)``.
        slope: The one slope of the PReLU.
        keep: The dropout's mask; an export has none.

    Raises:
        NotImplementedError: If a dropout mask is given.
    """
    if keep is not None:
        _refuse_training()
    one, zero = np.ones(channels(y), np.float32), np.zeros(channels(y), np.float32)
    return leaky_relu(_instance_norm.bind(y, one, zero, epsilon=1e-5), slope)


def max_pool(x: jax.Array) -> jax.Array:
    """Keep the largest of every two voxels along every axis (``MaxPool``)."""
    return _max_pool.bind(x, spatial_dims=x.ndim - 2)


def upsample(x: jax.Array) -> jax.Array:
    """Repeat every voxel twice along every axis (nearest neighbour)."""
    return _upsample.bind(x, spatial_dims=x.ndim - 2, channels=channels(x))


def softmax(x: jax.Array) -> jax.Array:
    """Turn logits into probabilities that sum to one over the channels."""
    return _softmax.bind(x)


def sigmoid(x: jax.Array) -> jax.Array:
    """Turn each logit into a probability (``Sigmoid``)."""
    return _sigmoid.bind(x)


def _identity(x: jax.Array) -> jax.Array:
    return x


def _refuse_training(*_: object) -> NoReturn:
    raise NotImplementedError("An exported network only predicts: trace it in evaluation mode.")


onnx_forms = SimpleNamespace(
    from_images=_identity,
    to_images=_identity,
    channels=channels,
    conv=conv,
    conv_transpose=conv_transpose,
    leaky_relu=leaky_relu,
    instance_norm_prelu=instance_norm_prelu,
    max_pool=max_pool,
    upsample=upsample,
    batch_norm_leaky_relu=_refuse_training,
    dropout_mask=_refuse_training,
    channel_dropout=_refuse_training,
)
