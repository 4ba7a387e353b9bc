import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from segjax_onnx.write.phases import part_transposed, phases_of, whole_of


def network(size, outputs=8, *, strides=(2, 2), bias=True):
    """Return a transposed convolution of 3 channels, and its kernel."""
    rng = np.random.default_rng(size[0])
    kernel = rng.standard_normal((3, outputs, *size), np.float32)
    tensors = [numpy_helper.from_array(kernel, "kernel")]
    if bias:
        shift = rng.standard_normal(outputs, np.float32)
        tensors.append(numpy_helper.from_array(shift, "bias"))
    pads = [(k - 1) // 2 for k in size] + [k // 2 for k in size]
    node = helper.make_node(
        "ConvTranspose", ["image", *(tensor.name for tensor in tensors)], ["features"],
        kernel_shape=size, strides=strides, pads=pads, output_padding=[s - 1 for s in strides],
    )  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, None, None])
        for name in ("image", "features")
    ]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), kernel


def run(proto, image):
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 3), (5, 5), (2, 6), (7, 9)])
def test_four_convolutions_give_what_the_transposed_one_does(size, bias):
    whole, kernel = network(size, bias=bias)
    parts = copy.deepcopy(whole)
    part_transposed(parts)
    onnx.checker.check_model(parts, full_check=True)
    kinds = [node.op_type for node in parts.graph.node]
    assert kinds.count("Conv") == 4
    assert "ConvTranspose" not in kinds
    image = np.random.default_rng(1).standard_normal((2, 3, 7, 10), np.float32)
    np.testing.assert_allclose(run(parts, image), run(whole, image), atol=2e-5)
    assert np.array_equal(whole_of(phases_of(kernel)), kernel)


@pytest.mark.parametrize(
    "proto",
    [network((5, 5), 7)[0], network((3, 3), strides=(1, 1))[0], network((1, 1))[0]],
    ids=["few outputs", "no stride", "no neighbours"],
)
def test_others_stay_as_they_are(proto):
    before = proto.SerializeToString(deterministic=True)
    part_transposed(proto)
    assert proto.SerializeToString(deterministic=True) == before
