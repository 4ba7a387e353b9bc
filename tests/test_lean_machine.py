"""Training and prediction on a machine that lacks most packages (``lean_machine.py``)."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from segjax.data.cache.cache import preprocess
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, ZScore
from segjax_onnx.predict.metadata import KEY, ModelMetadata

PROGRAM = Path(__file__).with_name("lean_machine.py")
ROOT = PROGRAM.parents[1]


def run(*args):
    path = os.pathsep.join([str(ROOT), str(ROOT / "export")])
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, args)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_but_the_command_line_is_imported():
    done = run("import_all")
    assert done.returncode == 0, done.stderr


def test_network_segments_an_array(tmp_path):
    image = np.linspace(-1, 1, 8**3, dtype=np.float32).reshape(8, 8, 8)
    np.save(tmp_path / "image.npy", image)
    write_threshold(tmp_path / "model.onnx")
    done = run("predict", *(tmp_path / name for name in ("model.onnx", "image.npy", "mask.npy")))
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), image > 0)


@pytest.mark.slow
def test_trainings_go_on_and_tell_how_far_they_are(tmp_path):
    pictures, heads = tmp_path / "pictures", tmp_path / "heads"
    write_dataset(pictures, count=9, shape=(16, 16), kind="meningioma")
    made = write_dataset(heads, count=4, shape=(18, 16, 16))
    pipeline = Pipeline((Reorient("RAS"), ZScore()))
    preprocess(made, pipeline, tmp_path / "cache", workers=1)
    shutil.rmtree(heads)  # NIfTI files, which stay where the cache was made
    done = run("train", pictures, tmp_path / "cache", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("epoch 1/1, loss ") for line in lines) == 2
    assert "goes on after epoch 1 of 2 (step 3 of 6)" in lines
    assert any(line.startswith("epoch 2/2, loss ") and line.endswith(" left") for line in lines)
    with (tmp_path / "sweep" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["error"]) for row in rows] == [("k3-a0.3-s0", ""), ("k3-a0.7-s0", "")]


def write_threshold(path, pipeline=()):
    """Write a network that marks what is over 0, after some preprocessing."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Mul", ["image", "slope"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, *"xyz"])]
        for name in ("image", "probabilities")
    )
    slope = onnx.numpy_helper.from_array(np.float32(1000), "slope")
    graph = helper.make_graph(nodes, "threshold", inputs, outputs, [slope])
    opsets = [helper.make_opsetid("", 18)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    labels = ("background", "lesion")
    metadata = ModelMetadata(
        "threshold", labels, "sigmoid", 3, 1, (8, 8, 8), 0.5, 1, 1, list(pipeline), "0.1.0"
    )
    helper.set_model_props(proto, {KEY: metadata.to_json()})
    onnx.save(proto, path)
