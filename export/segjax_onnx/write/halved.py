"""The softmax of two labels as the sigmoid of one difference: half the work of the last layer."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_SOFTMAX = ["ReduceMax", "Sub", "Exp", "ReduceSum", "Div"]  # as `primitives.softmax` spells it
_OUT = {"Conv": 0, "ConvTranspose": 1}  # the axis of a kernel's outputs


def halve_softmax(proto: "onnx.ModelProto") -> None:
    """Let a network of two labels compute the difference of its logits.

    softmax(a, b) = sigmoid(a - b, b - a), and logits that are convolutions, or sums of some,
    differ by one convolution with the difference of the weights. Networks of another end or
    number of labels stay as they are.

    Args:
        proto: What jax2onnx wrote, changed in place.
    """
    import onnx

    graph = proto.graph
    if [node.op_type for node in graph.node[-5:]] != _SOFTMAX:
        return
    logits = graph.node[-5].input[0]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    found = list(_summands(graph.node[:-5], logits))
    last = [node for node in found if node and _has_two_outputs(node, tensors)]
    if len(last) < len(found):
        return
    for node in last:
        for name, axis in zip(node.input[1:], (_OUT[node.op_type], 0), strict=False):
            first, second = np.split(onnx.numpy_helper.to_array(tensors[name]), 2, axis)
            tensors[name].CopyFrom(onnx.numpy_helper.from_array(second - first, name))
    output = graph.node[-1].output[0]
    del graph.node[-5:]
    make = onnx.helper.make_node
    graph.node.append(make("Neg", [logits], ["first_less_second"]))
    graph.node.append(make("Concat", ["first_less_second", logits], ["differences"], axis=1))
    graph.node.append(make("Sigmoid", ["differences"], [output]))
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _summands(nodes: "Sequence[onnx.NodeProto]", name: str) -> "Iterator[onnx.NodeProto | None]":
    """Yield the nodes whose sum a value is; None for one that others use, too."""
    node = next((node for node in nodes if name in node.output), None)
    if node is None or sum(list(other.input).count(name) for other in nodes) > 1:
        yield None
    elif node.op_type == "Add":
        for summand in node.input:
            yield from _summands(nodes, summand)
    else:
        yield node


def _has_two_outputs(node: "onnx.NodeProto", tensors: "dict[str, onnx.TensorProto]") -> bool:
    if node.op_type not in _OUT or not set(node.input[1:]) <= set(tensors):
        return False
    return tensors[node.input[1]].dims[_OUT[node.op_type]] == 2
