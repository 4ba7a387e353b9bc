"""An exported network that needs no training: it marks where the image is over a value."""

from multiprocessing.synchronize import Event
from pathlib import Path

import onnx

from segjax.watch import Task, watch
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from segjax_onnx.predict.predictor import Predictor


def write_network(path: Path, *, over: float = 0.5) -> Path:
    """Write a network of one channel and one label, whose preprocessing is none."""
    numbers = {"scale": 1.0, "shift": -over}
    nodes = [
        onnx.helper.make_node("Add", ["image", "shift"], ["logits"]),
        onnx.helper.make_node("Mul", ["logits", "scale"], ["scaled"]),
        onnx.helper.make_node("Sigmoid", ["scaled"], ["probabilities"]),
    ]
    image, answer = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, *"xyz"])
        for name in ("image", "probabilities")
    )
    constants = [
        onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [value])
        for name, value in numbers.items()
    ]
    graph = onnx.helper.make_graph(nodes, "over", [image], [answer], constants)
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    labels = ("background", "lesion")
    metadata = ModelMetadata("over", labels, "sigmoid", 3, 1, (8, 8, 8), 0.0, 1, 1, [], "0.1.0")
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, path)
    return path


def watch_with(network: Path, inbox: Path, begun: Event) -> None:
    """Watch a folder for ever, in a process that is killed some time after it has begun."""
    task = Task(Predictor(network, threads=1))
    begun.set()
    for _ in watch(inbox, inbox.parent / "out", task, settle=0.02, poll=0.01):
        pass
