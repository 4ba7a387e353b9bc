"""A small network whose answer depends on where each voxel's neighbours lie."""

import numpy as np
import onnx

from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, Resample, ZScore
from segjax_onnx.predict.metadata import KEY, Code, ModelMetadata, Structure

STEPS = Pipeline((Reorient("RAS"), Resample((1.5, 1.5, 2.0)), ZScore())).to_json()


def write_network(path, channels=("flair",), optional=(), steps=STEPS, **changes):
    """Write a convolution and a softmax of three labels."""
    rank = changes.get("spatial_dims", 3)
    weights = np.random.default_rng(1).normal(size=(3, len(channels), *[3] * rank))
    tensor, helper = onnx.helper.make_tensor_value_info, onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["logits"], pads=[1] * 2 * rank),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "asymmetric",
        [tensor("image", onnx.TensorProto.FLOAT, ["n", len(channels), *"xyz"[:rank]])],
        [tensor("probabilities", onnx.TensorProto.FLOAT, ["n", 3, *"xyz"[:rank]])],
        [onnx.numpy_helper.from_array(weights.astype(np.float32), "kernel")],
    )
    opsets = [helper.make_opsetid("", 18)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    lesion = Structure((255, 0, 51), Code("SCT", "52988006", "Lesion"))
    fields = {
        "model": "asymmetric",
        "labels": ("background", "lesion", "vein"),
        "activation": "softmax",
        "spatial_dims": rank,
        "in_channels": len(channels),
        "patch_size": (16,) * rank,
        "overlap": 0.0,
        "batch_size": 1,
        "size_multiple": 1,
        "pipeline": list(steps),
        "segjax_version": "0.1.0",
        "channels": channels,
        "optional_channels": optional,
        "structures": (lesion, Structure((0, 102, 255))),
    }
    metadata = ModelMetadata(**{**fields, **changes})
    helper.set_model_props(proto, {KEY: metadata.to_json()})
    onnx.save(proto, path)
    return path
