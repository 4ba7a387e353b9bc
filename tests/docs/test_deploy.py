"""The programs of ``examples/deploy``, which do without segjax, give the masks of segjax."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import pytest

from segjax.data.phantom.dataset import write_dataset
from segjax_onnx import Predictor
from segjax_onnx.predict.metadata import KEY, ModelMetadata, Window, write_sidecar
from segjax_onnx.predict.postprocess import LabelRule
from tests.docs.conftest import HERE

DEPLOY = HERE.parents[1] / "examples" / "deploy"
PROGRAMS = sorted(path for path in DEPLOY.glob("*/*") if path.suffix in (".py", ".mjs"))
COUNT = 3

WINDOWS = ModelMetadata(
    model="random",
    labels=("background", "one", "two"),
    activation="softmax",
    spatial_dims=3,
    in_channels=1,
    patch_size=(24, 32, 16),
    overlap=0.4,
    batch_size=1,
    size_multiple=8,
    pipeline=[
        {"step": "reorient", "orientation": "PIL"},
        {"step": "clip-percentiles", "low": 1.0, "high": 99.0},
        {"step": "resample", "spacing": [1.2, 0.9, 1.0], "tolerance": 0.0},
        {"step": "z-score", "where": "above-mean"},
    ],
    segjax_version="0.1.0",
    window=Window(),
    postprocessing=(
        LabelRule(minimum_volume=30.0, fill_holes=True),
        LabelRule(threshold=0.4, largest_component=True, fill_holes=True),
    ),
)
SLICES = dataclasses.replace(
    WINDOWS,
    labels=("background", "lesion"),
    activation="sigmoid",
    spatial_dims=2,
    patch_size=(32, 24),
    pipeline=[{"step": "reorient", "orientation": "RAS"}, {"step": "min-max"}],
    postprocessing=(),
    structures=(),
)
WHOLE = dataclasses.replace(
    WINDOWS,
    local=True,
    halo=(2, 2, 2),
    pipeline=[
        {"step": "reorient", "orientation": "RAS"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0], "tolerance": 0.05},
        {"step": "z-score", "where": "all"},
    ],
    postprocessing=(),
)
NETWORKS = {"windows": WINDOWS, "slices": SLICES, "whole": WHOLE}


def write_network(path, metadata):
    """Write two random convolutions, with a norm over the window between unless it is local."""
    rng, rank = np.random.default_rng(3), metadata.spatial_dims
    arrays = {
        "first": rng.standard_normal((4, 1, *[3] * rank)),
        "last": rng.standard_normal((metadata.out_channels, 4, *[3] * rank)),
        "bias": np.arange(metadata.out_channels)[::-1] / 2,
        "ones": np.ones(4),
        "zeros": np.zeros(4),
    }
    make, pads = onnx.helper.make_node, [1] * 2 * rank
    norm = "Identity" if metadata.local else "InstanceNormalization"
    softmax = metadata.activation == "softmax"
    activation, options = ("Softmax", {"axis": 1}) if softmax else ("Sigmoid", {})
    nodes = [
        make("Conv", ["image", "first"], ["a"], pads=pads),
        make(norm, ["a", "ones", "zeros"][: 1 if metadata.local else 3], ["b"]),
        make("LeakyRelu", ["b"], ["c"], alpha=0.3),
        make("Conv", ["c", "last", "bias"], ["d"], pads=pads),
        make(activation, ["d"], ["probabilities"], **options),
    ]
    ends = [
        [onnx.helper.make_tensor_value_info(name, 1, ["batch", n, *"xyz"[:rank]])]
        for name, n in (("image", 1), ("probabilities", metadata.out_channels))
    ]
    weights = [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "random", *ends, weights)
    opsets = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json()})
    onnx.save(proto, path)
    write_sidecar(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Crops around the hippocampus, or where there are none heads that are made."""
    if "SEGJAX_DATA" in os.environ:
        found = sorted((Path(os.environ["SEGJAX_DATA"]) / "hippocampus" / "images").iterdir())
        return found[:: len(found) // COUNT][:COUNT]
    folder = tmp_path_factory.mktemp("heads")
    write_dataset(folder, count=COUNT, shape=(36, 40, 32))
    return sorted((folder / "images").iterdir())


@pytest.fixture(params=["python", "node"])
def program(request, tmp_path):
    """Return the command that segments; where segjax cannot be imported."""
    if request.param == "python":
        return [sys.executable, "-S", "-c", _WITHOUT_SEGJAX, DEPLOY / "python" / "segment.py"]
    modules = DEPLOY / "node" / "node_modules"
    if not (shutil.which("node") and (modules / "onnxruntime-node").is_dir()):
        pytest.skip(f"needs Node.js, and in {DEPLOY / 'node'}: npm install --ignore-scripts")
    return ["node", DEPLOY / "node" / "segment.mjs"]


_WITHOUT_SEGJAX = """
import runpy, site, sys
site.main()
sys.modules["segjax"] = sys.modules["segjax_onnx"] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_program_is_short_and_says_what_it_does(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith('"""' if path.suffix == ".py" else "// ")
    assert len(lines) <= (45 if path.suffix == ".py" else 80)


@pytest.mark.docs
def test_strangers_name_a_step_that_they_lack(program, images, tmp_path):
    steps = dataclasses.replace(WINDOWS, pipeline=[{"step": "tissue-peak"}])
    model = write_network(tmp_path / "model.onnx", steps)
    told = subprocess.run(
        [*program, model, tmp_path / "mask.nii.gz", images[0]],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr == "step 'tissue-peak' is not here: docs/onnx-format.md says what it does\n"
    assert not (tmp_path / "mask.nii.gz").exists()


@pytest.mark.docs
@pytest.mark.parametrize("name", NETWORKS)
def test_strangers_give_the_mask_of_segjax_voxel_by_voxel(name, program, images, tmp_path):
    model = write_network(tmp_path / "model.onnx", NETWORKS[name])
    predictor, shares = Predictor(model), []
    for image in images:
        ours = predictor.predict(image).data
        theirs = tmp_path / image.name
        subprocess.run([*program, model, theirs, image], check=True, timeout=300)
        found = nib.load(theirs)
        np.testing.assert_array_equal(found.dataobj, ours)
        np.testing.assert_allclose(found.affine, nib.load(image).affine, atol=1e-6)
        shares.append((ours > 0).mean())
    assert 0.02 < np.mean(shares) < 0.98
