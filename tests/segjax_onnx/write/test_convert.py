import collections
import dataclasses
import functools
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import linen as nn

from segjax import models
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, ZScore
from segjax.errors import InputError
from segjax.train.checkpoints import Checkpoints
from segjax.train.config import TrainConfig, write_config
from segjax.train.network import handed
from segjax_onnx.predict.metadata import ModelMetadata, read_metadata
from segjax_onnx.write import convert, primitives
from segjax_onnx.write.convert import export_onnx, to_onnx
from segjax_onnx.write.weights import read_variables


class State(NamedTuple):
    """What a checkpoint of a training holds."""

    params: Any
    batch_stats: Any


NETWORKS = {
    "mpunet++": {"features": (2, 3)},
    "unet2d-k5": {"channels": (4, 6, 8), "strides": (2, 2)},
    "unet3d": {"channels": (4, 6), "strides": (2,)},
}


def network(name, in_channels=1, out_channels=2):
    """A small network and random variables."""
    return build(name, in_channels=in_channels, out_channels=out_channels, **NETWORKS[name])


@functools.cache
def build(name, **options):
    """A network and random variables, its running statistics not those of the beginning."""
    model = models.create(name, **options)
    images = np.zeros(
        (1, *[model.size_multiple] * model.spatial_dims, model.in_channels), np.float32
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, shape):
        if path[-1].key == "variance":
            return rng.uniform(0.5, 2, shape.shape).astype(np.float32)
        fan_in = np.prod(shape.shape[:-1])
        return (rng.standard_normal(shape.shape) / np.sqrt(fan_in)).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes)


def metadata_of(model, **changes):
    outputs = model.out_channels
    labels = tuple(f"label {i}" for i in range(max(2, outputs)))
    metadata = ModelMetadata(
        model="mpunet++",
        labels=labels,
        activation="sigmoid" if outputs == 1 else "softmax",
        spatial_dims=model.spatial_dims,
        in_channels=model.in_channels,
        patch_size=(64,) * model.spatial_dims,
        overlap=0.5,
        batch_size=2,
        size_multiple=model.size_multiple,
        pipeline=[{"step": "min-max"}],
        segjax_version="0.1.0",
    )
    return dataclasses.replace(metadata, **{"channels": (), "structures": (), **changes})


def run(proto, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return session.run(["probabilities"], {"image": images})[0]


def counts(proto):
    return collections.Counter(node.op_type for node in proto.graph.node)


def write_run(folder, name="unet3d", **changes):
    """Write what a training leaves behind."""
    model, variables = network(name)
    settings = {
        "patch_size": (64,) * model.spatial_dims,
        "labels": ("background", "lesion"),
        "pipeline": Pipeline((Reorient("RAS"), ZScore("nonzero"))),
        "overlap": 0.25,
        "batch_size": 3,
        "seed": 7,
        "name": "third try",
    }
    folder.mkdir(exist_ok=True)
    write_config(TrainConfig(name, **(settings | changes)), folder)
    state = State(variables["params"], variables.get("batch_stats", {}))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {}, best=True)
        later = jax.tree.map(lambda x: (1.1 * x).astype(x.dtype), state)
        checkpoints.save(2, later, {})
    return folder


@functools.cache
def of_jax(name, small=True):
    """Images of two batch sizes and two spatial sizes, and JAX's probabilities."""
    model, variables = network(name) if small else build(name)
    apply = jax.jit(model.apply)
    examples = []
    for batch, factors in ((1, (3, 2, 2)), (3, (2, 3, 3))):
        space = [f * model.size_multiple for f in factors[: model.spatial_dims]]
        images = np.random.default_rng(1).standard_normal((batch, *space, 1), np.float32)
        examples.append((images, jax.nn.softmax(apply(variables, images))))
    return examples


@pytest.fixture
def small_zoo(monkeypatch):
    """Let the names of the zoo stand for the small networks of these tests."""
    create = models.create
    monkeypatch.setattr(
        models, "create", lambda name, **options: create(name, **(NETWORKS[name] | options))
    )


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_compute_what_jax_does_for_any_batch_and_size(name, opset):
    model, variables = network(name)
    proto = to_onnx(model, variables, metadata=metadata_of(model), opset=opset)
    assert {o.domain: o.version for o in proto.opset_import} == {"": opset}
    for images, wanted in of_jax(name):
        found = run(proto, np.moveaxis(images, -1, 1))
        np.testing.assert_allclose(np.moveaxis(found, 1, -1), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_networks_of_the_zoo_compute_what_jax_does(name):
    model, variables = build(name)
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    for images, wanted in of_jax(name, small=False):
        found = run(proto, np.moveaxis(images, -1, 1))
        # A norm over the few voxels of the lowest level magnifies rounding.
        np.testing.assert_allclose(np.moveaxis(found, 1, -1), wanted, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 1), (2, 4)])
def test_any_number_of_channels_and_classes(inputs, outputs):
    model, variables = network("unet2d-k5", inputs, outputs)
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    images = np.random.default_rng(1).standard_normal((2, 8, 12, inputs), np.float32)
    found = run(proto, np.moveaxis(images, -1, 1))
    logits = jax.jit(model.apply)(variables, images)
    wanted = jax.nn.sigmoid(logits) if outputs == 1 else jax.nn.softmax(logits)
    assert found.shape == (2, outputs, 8, 12)
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), wanted, atol=1e-5)


def test_mpunet_is_22_convolutions_with_nothing_between_them_that_is_not_its_own():
    model, variables = build("mpunet++")
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    upsample = {"Squeeze": 6, "Unsqueeze": 6, "Resize": 6, "Reshape": 12}
    softmax = {"Neg": 1, "Sigmoid": 1}
    # Ten nodes of two convolutions and two heads, six of them in planes; nine nodes have two norms,
    # the last has one. The nodes, the upsampled and the two probabilities are concatenated.
    own = {"Conv": 22 + 6, "LeakyRelu": 19, "MaxPool": 3, "Concat": 6 + 6 + 1, "Add": 2}
    assert counts(proto) == own | upsample | softmax


# Operators that both providers have a kernel for, of those that networks are made of:
# github.com/microsoft/onnxruntime, docs/OperatorKernels.md (CUDA), js/web/docs/webgpu-operators.md.
# WebGPU runs convolutions of volumes, but transposed ones of volumes since onnxruntime#32688 only.
ON_EVERY_DEVICE = set(
    """
    Add ArgMax Cast Concat Conv ConvTranspose Div Exp InstanceNormalization LeakyRelu MaxPool Mul
    Neg ReduceMax ReduceMean ReduceMin ReduceSum Reshape Resize Sigmoid Sqrt Squeeze Sub Unsqueeze
    """.split()  # noqa: SIM905
)


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_node_runs_on_every_device_and_no_tensor_has_over_five_axes(name, outputs):
    model, variables = network(name, 2, outputs)
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    assert set(counts(proto)) <= ON_EVERY_DEVICE
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    values = inferred.graph.value_info
    assert {output for node in proto.graph.node for output in node.output} <= {
        value.name for value in [*values, *inferred.graph.output]
    }
    assert max(len(value.type.tensor_type.shape.dim) for value in values) <= 5


def test_unet_has_the_nodes_of_its_layers():
    model, variables = network("unet2d-k5", 1, 1)
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    assert counts(proto) == {
        "Conv": 3, "ConvTranspose": 2, "InstanceNormalization": 4, "LeakyRelu": 4, "Concat": 2,
        "Sigmoid": 1,
    }  # fmt: skip


def test_batch_and_space_are_free_in_the_file_and_its_data_lie_inside():
    model, variables = build("mpunet++")
    proto = to_onnx(model, variables, metadata=metadata_of(model))
    (image,), (output,) = proto.graph.input, proto.graph.output
    sizes = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert (image.name, sizes) == ("image", ["batch", 1, "8*x", "8*y", "8*z"])
    assert output.name == "probabilities"
    assert all(
        tensor.data_location == onnx.TensorProto.DEFAULT for tensor in proto.graph.initializer
    )
    # Weights and the biases they were folded with: those of the 40 statistics vectors are gone, and
    # half of the last layers; sums of planes and the scales of Resize are added.
    numbers = sum(
        np.prod(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    )
    folded = 37_935 - 2 * sum(2 * f for f in (6, 7, 8, 9, 6, 7, 6, 8, 7)) - 2 * 6
    totals = 9 * sum(f**2 for f in (6, 7, 6, 8, 7, 6))
    assert numbers == folded - (27 * 6 + 1) - 2 * (6 + 1) + totals + 4


def test_the_same_network_gives_the_same_bytes():
    model, variables = network("unet2d-k5")
    first, second = (to_onnx(model, variables, metadata=metadata_of(model)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 2}, "in_channels is 2, but that of the network is 1"),
        ({"labels": ("a", "b", "c")}, "out_channels is 3, but that of the network is 2"),
        ({"size_multiple": 8}, "size_multiple is 8, but that of the network is 4"),
        ({"spatial_dims": 3, "patch_size": (4, 4, 4)}, "spatial_dims is 3"),
    ],
)
def test_metadata_that_contradict_the_network_are_refused(changes, message):
    model, variables = network("unet2d-k5")
    with pytest.raises(InputError, match=message):
        to_onnx(model, variables, metadata=metadata_of(model, **changes))


def test_other_opsets_are_refused():
    model, variables = network("unet2d-k5")
    with pytest.raises(InputError, match="opset 12: give one from 17 to 21"):
        to_onnx(model, variables, metadata=metadata_of(model), opset=12)


def test_a_run_becomes_one_file_with_its_metadata(tmp_path, small_zoo):
    run_folder = write_run(tmp_path / "run")
    path = export_onnx(run_folder, tmp_path / "out.onnx")
    assert path == tmp_path / "out.onnx"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.onnx", "run"]
    metadata = read_metadata(path)
    training = metadata.training
    assert dataclasses.replace(metadata, training={}) == ModelMetadata(
        model="unet3d",
        labels=("background", "lesion"),
        activation="softmax",
        spatial_dims=3,
        in_channels=1,
        patch_size=(64, 64, 64),
        overlap=0.25,
        batch_size=3,
        size_multiple=2,
        pipeline=[
            {"step": "reorient", "orientation": "RAS"},
            {"step": "z-score", "where": "nonzero"},
        ],
        segjax_version="0.1.0",
        local=False,
    )
    assert (training["run"], training["checkpoint"], training["seed"]) == ("third try", "best", 7)


def test_the_best_and_the_last_checkpoint_are_two_networks(tmp_path, small_zoo):
    run_folder = write_run(tmp_path / "run")
    model, variables = network("unet3d")
    images = np.random.default_rng(1).standard_normal((1, 4, 4, 4, 1), np.float32)
    for which, factor in (("best", 1), ("last", 1.1)):
        path = export_onnx(run_folder, tmp_path / f"{which}.onnx", which=which)
        scaled = jax.tree.map(lambda x, f=factor: x * f, variables)
        logits = jax.jit(model.apply)(scaled, images)
        found = run(onnx.load(path), np.moveaxis(images, -1, 1))
        np.testing.assert_allclose(np.moveaxis(found, 1, -1), jax.nn.softmax(logits), atol=1e-5)
        assert read_metadata(path).training["checkpoint"] == which


def test_networks_without_instance_norm_are_local(tmp_path, small_zoo):
    path = export_onnx(write_run(tmp_path / "run", "mpunet++"), tmp_path / "model.onnx")
    assert read_metadata(path).local


def test_a_2d_network_trained_on_slices_keeps_the_patch_of_a_slice(tmp_path, small_zoo):
    run_folder = write_run(tmp_path / "run", "unet2d-k5", patch_size=(64, 32, 1))
    path = export_onnx(run_folder, tmp_path / "model.onnx")
    assert read_metadata(path).patch_size == (64, 32)


def test_an_existing_file_stays_unless_asked(tmp_path, small_zoo):
    run_folder = write_run(tmp_path / "run")
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"model\.onnx: exists already"):
        export_onnx(run_folder, path)
    assert path.read_text() == "mine"
    export_onnx(run_folder, path, overwrite=True)
    assert read_metadata(path).model == "unet3d"


def test_a_network_that_differs_from_jax_is_not_written(tmp_path, small_zoo, monkeypatch):
    run_folder = write_run(tmp_path / "run")
    right = primitives.onnx_forms.conv_transpose
    monkeypatch.setattr(
        primitives.onnx_forms,
        "conv_transpose",
        lambda xs, kernel, bias, stride: right(xs, 1.01 * kernel, bias, stride),
    )
    with pytest.raises(InputError, match=r"exported UNet differs from JAX by .*nothing was writ"):
        export_onnx(run_folder, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_weights_that_are_not_finite_are_not_written(tmp_path, small_zoo, monkeypatch):
    run_folder = write_run(tmp_path / "run")
    load = convert.to_onnx

    def with_nan(model, variables, **options):
        variables["params"]["up0"]["kernel"][...] = np.nan
        return load(model, variables, **options)

    monkeypatch.setattr(convert, "to_onnx", with_nan)
    with pytest.raises(InputError, match="differs from JAX by nan"):
        export_onnx(run_folder, tmp_path / "model.onnx")


def test_a_folder_that_is_no_run_and_another_suffix_are_refused(tmp_path):
    with pytest.raises(InputError, match="no run of segjax"):
        export_onnx(tmp_path, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"model: give the file a name that ends in \.onnx"):
        export_onnx(tmp_path, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_an_unknown_network_is_refused(tmp_path):
    run_folder = write_run(tmp_path / "run")
    config = run_folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model": "vnet"}))
    with pytest.raises(InputError, match="unknown network 'vnet'"):
        export_onnx(run_folder, tmp_path / "model.onnx")


class Plain(nn.Module):
    """Layers of Flax, which know nothing of segjax."""

    @nn.compact
    def __call__(self, images):
        return nn.Conv(2, (1, 1))(nn.relu(nn.Conv(4, (3, 3))(images)))


def test_a_network_without_a_name_is_exported_where_it_is_given_again(tmp_path):
    folder, images = tmp_path / "run", np.random.default_rng(0).normal(size=(2, 6, 8, 1))
    images = images.astype(np.float32)
    variables = jax.device_get(Plain().init(jax.random.key(0), images))
    folder.mkdir()
    with handed(TrainConfig("unnamed", (8, 8)), network=Plain()) as config:
        write_config(config, folder)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, State(variables["params"], {}), {}, best=True)
    with pytest.raises(InputError, match=r"network .*Plain was .* hand it over again"):
        export_onnx(folder, tmp_path / "model.onnx")
    path = export_onnx(folder, tmp_path / "model.onnx", network=Plain())
    found = run(onnx.load(path), np.moveaxis(images, -1, 1))
    expected = jax.nn.softmax(Plain().apply(variables, images))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=1e-5)
    assert not read_metadata(path).local
    jax.tree.map(np.testing.assert_array_equal, read_variables(path), variables)
