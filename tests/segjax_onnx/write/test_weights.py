import functools
import hashlib

import jax
import numpy as np
import onnx
import pytest

from segjax import models
from segjax.errors import InputError
from segjax.train.transfer import load_source
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.write.convert import to_onnx
from segjax_onnx.write.weights import WEIGHTS_KEY, read_variables

NETWORKS = {
    "mpunet++": {"features": (2, 3)},
    "unet2d-k5": {"channels": (4, 6, 8), "strides": (2, 2)},
    "unet3d": {"channels": (4, 6), "strides": (2,)},
}


@functools.cache
def exported(name):
    """A small network's random variables and its ONNX model."""
    model = models.create(name, in_channels=2, out_channels=3, **NETWORKS[name])
    images = np.zeros((1, *[model.size_multiple] * model.spatial_dims, 2), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.uniform(0.2, 2, s.shape).astype(np.float32), shapes)
    metadata = ModelMetadata(
        model=name,
        labels=("background", "a", "b"),
        activation="softmax",
        spatial_dims=model.spatial_dims,
        in_channels=2,
        patch_size=(64,) * model.spatial_dims,
        overlap=0.5,
        batch_size=2,
        size_multiple=model.size_multiple,
        pipeline=[],
        segjax_version="0.1.0",
    )
    return variables, to_onnx(model, variables, metadata=metadata)


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_weights_come_back(name, tmp_path):
    variables, proto = exported(name)
    onnx.save(proto, tmp_path / "model.onnx")
    found = read_variables(tmp_path / "model.onnx")
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)


def test_training_starts_from_an_exported_file(tmp_path):
    variables, proto = exported("unet2d-k5")
    onnx.save(proto, tmp_path / "model.onnx")
    source = load_source(tmp_path / "model.onnx", "unet2d-k5")
    assert source.labels == ("background", "a", "b")
    assert source.digest == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    np.testing.assert_allclose(
        source.variables["params"]["up0"]["kernel"], variables["params"]["up0"]["kernel"], rtol=2e-6
    )
    with pytest.raises(InputError, match=r"model\.onnx: holds a unet2d-k5, not a unet3d"):
        load_source(tmp_path / "model.onnx", "unet3d")


def test_what_travels_beside_the_graph_is_small():
    _, proto = exported("unet2d-k5")
    (text,) = [entry.value for entry in proto.metadata_props if entry.key == WEIGHTS_KEY]
    assert len(text) < 4000


def test_channel_that_a_norm_silenced_comes_back_too(tmp_path):
    variables, _ = exported("mpunet++")
    variables = jax.tree.map(np.copy, variables)
    variables["params"]["X00"]["first"]["scale"][1] = 0
    model = models.create("mpunet++", in_channels=2, out_channels=3, features=(2, 3))
    proto = exported("mpunet++")[1]
    metadata = ModelMetadata.from_json(
        next(entry.value for entry in proto.metadata_props if entry.key == "segjax")
    )
    onnx.save(to_onnx(model, variables, metadata=metadata), tmp_path / "model.onnx")
    found = read_variables(tmp_path / "model.onnx")
    kernel = found["params"]["X00"]["first"]["kernel"]
    np.testing.assert_array_equal(kernel, variables["params"]["X00"]["first"]["kernel"])


def test_file_without_trainable_weights_says_what_to_give_instead(tmp_path):
    proto = onnx.ModelProto()
    proto.CopyFrom(exported("unet3d")[1])
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "old.onnx")
    with pytest.raises(InputError, match=r"old\.onnx: holds no trainable .* folder of the trainin"):
        read_variables(tmp_path / "old.onnx")
    (tmp_path / "no.onnx").write_bytes(b"no network")
    for name, message in (("no.onnx", "no ONNX network"), ("missing.onnx", "no such file")):
        with pytest.raises(InputError, match=rf"{name}: {message}"):
            read_variables(tmp_path / name)
