"""Whether a network can be exported, so that a training can say before it starts."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from segjax.errors import InputError
from segjax.models import ops
from segjax.models.network import Network, built_on_ops
from segjax_onnx.write.convert import convert

_CONVERTED = frozenset(  # those of jax2onnx that a network in evaluation may have
    """
    abs acos acosh add and argmax argmin asin asinh atan atan2 atanh broadcast_in_dim cbrt ceil
    clamp concatenate conv_general_dilated convert_element_type copy cos cosh cumlogsumexp cummax
    cummin cumprod cumsum custom_jvp_call custom_vjp_call div dot_general dynamic_slice
    dynamic_update_slice eq erf erf_inv erfc exp exp2 expm1 floor gather ge gt integer_pow iota
    is_finite jit le log log1p logistic lt max min mul name ne neg not or pad pjit pow reduce_max
    reduce_min reduce_prod reduce_sum reduce_window reduce_window_max reduce_window_sum rem remat2
    reshape rev round rsqrt scan select_n sign sin sinh slice sort split sqrt square squeeze stack
    stop_gradient sub tan tanh tile top_k transpose unstack while xor
    """.split()  # noqa: SIM905
)


def obstacle(network: Network, images: jax.ShapeDtypeStruct) -> str:
    """Say why a network that is not trained yet cannot be exported; nothing where it can.

    One that is not built on :mod:`segjax.models.ops` is exported, with weights of 0.

    Args:
        network: Any.
        images: Shape of a batch.

    Example:
        >>> from segjax import models
        >>> obstacle(models.create("unet2d-k3"), jax.ShapeDtypeStruct((1, 32, 32, 1), "float32"))
        ''
    """
    if missing := unsupported(network, images):
        return f"ONNX has no form of {', '.join(missing)}"
    if not built_on_ops(network) and find_spec("jax2onnx") is not None:
        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        try:
            convert(network, zeros, "softmax", 18)
        except InputError as error:
            return str(error)
    return ""


def unsupported(network: Network, images: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """Return the primitives of a network in evaluation that have no form in ONNX.

    Nothing is computed. An export may fail all the same, at an unusual form of a known one.

    Args:
        network: Built on :mod:`segjax.models.ops`, or any other.
        images: Shape of a batch.

    Example:
        >>> from segjax import models
        >>> unsupported(models.create("unet2d-k3"), jax.ShapeDtypeStruct((1, 32, 32, 1), "float32"))
        ()
    """
    with ops.use(ops.lax_forms(network.spatial_dims)):
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        traced = jax.make_jaxpr(network.apply)(variables, images)
    return tuple(sorted(set(_primitives(traced.jaxpr)) - _CONVERTED))


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        inner = [part for value in equation.params.values() for part in _jaxprs(value)]
        yield equation.primitive.name
        for part in inner:
            yield from _primitives(part)


def _jaxprs(value: Any) -> Iterator[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _jaxprs(part)
