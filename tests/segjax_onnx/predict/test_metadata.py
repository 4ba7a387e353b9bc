import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest

import segjax_onnx
from segjax.data.seen import Sight, seen_in
from segjax.errors import InputError
from segjax.grid import Grid
from segjax_onnx.predict.metadata import KEY, ModelMetadata, read_metadata

METADATA = ModelMetadata(
    model="unet3d",
    labels=("background", "lesion", "kreis-förmig"),
    activation="softmax",
    spatial_dims=3,
    in_channels=2,
    patch_size=(32, 64, 16),
    overlap=0.25,
    batch_size=4,
    size_multiple=16,
    pipeline=[{"step": "z-score", "where": "nonzero"}],
    segjax_version="0.1.0",
    local=True,
    training={"seed": 3, "optimizer": {"learning_rate": 0.001}},
)


def write_network(path, **properties):
    """An ONNX file that returns its input."""
    shape = ["batch", 1, "x", "y"]
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "ab"
    ]
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    graph = onnx.helper.make_graph([node], "graph", value[:1], value[1:])
    opsets = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.helper.set_model_props(proto, properties)
    onnx.save(proto, path)
    return path


def test_metadata_come_back_from_json_and_from_a_file(tmp_path):
    path = write_network(tmp_path / "model.onnx", **{KEY: METADATA.to_json()})
    assert ModelMetadata.from_json(METADATA.to_json()) == METADATA
    assert read_metadata(path) == METADATA
    assert segjax_onnx.read_metadata(str(path)) == METADATA


def test_reading_metadata_starts_no_gpu(tmp_path, monkeypatch):
    path = write_network(tmp_path / "model.onnx", **{KEY: METADATA.to_json()})
    asked = []
    session = onnxruntime.InferenceSession

    def open_session(*some, providers):
        asked.extend(name for name, _ in providers)
        return session(*some, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    assert read_metadata(path) == METADATA
    assert asked == ["CPUExecutionProvider"]


def test_json_is_one_line_of_plain_values_in_a_fixed_order():
    text = METADATA.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["patch_size"] == [32, 64, 16]


def test_sigmoid_has_one_output_and_softmax_one_per_label():
    sigmoid = dataclasses.replace(METADATA, activation="sigmoid", labels=("background", "lesion"))
    assert sigmoid.out_channels == 1
    assert METADATA.out_channels == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", "relu"),
        ("spatial_dims", 4),
        ("in_channels", 0),
        ("batch_size", 0),
        ("patch_size", (32, 32)),
        ("patch_size", (32, 32, 0)),
        ("overlap", 1.0),
        ("labels", ("background",)),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(InputError):
        dataclasses.replace(METADATA, **{field: value})


def test_sigmoid_of_three_labels_is_refused():
    with pytest.raises(InputError, match="labels"):
        dataclasses.replace(METADATA, activation="sigmoid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON text"),
        ("[]", "no JSON object"),
        ('{"model": "unet3d"}', r"missing or unknown fields \(activation"),
        (METADATA.to_json().replace('"model"', '"modell"'), "model, modell"),
        (METADATA.to_json().replace("[32, 64, 16]", "7"), "wrong type"),
        (METADATA.to_json().replace("0.25", '"much"'), "wrong type"),
    ],
)
def test_what_is_no_metadata_is_refused_and_the_file_named(tmp_path, text, message):
    path = write_network(tmp_path / "model.onnx", **{KEY: text})
    with pytest.raises(InputError, match=message) as error:
        read_metadata(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_a_folder_and_files_of_other_kinds_are_refused(tmp_path):
    text = tmp_path / "model.onnx"
    text.write_text("This is no network.")
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for path in (tmp_path / "missing.onnx", tmp_path, text, empty):
        with pytest.raises(InputError) as error:
            read_metadata(path)
        assert str(error.value).startswith(f"{path}: no ")
        assert "\n" not in str(error.value)


def test_an_onnx_file_of_another_maker_is_refused(tmp_path):
    with pytest.raises(InputError, match="without segjax metadata"):
        read_metadata(write_network(tmp_path / "model.onnx", author="somebody"))


def test_a_truncated_file_is_refused(tmp_path):
    whole = write_network(tmp_path / "model.onnx", **{KEY: METADATA.to_json()}).read_bytes()
    for length in range(1, len(whole), 37):
        path = tmp_path / "truncated.onnx"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_metadata(path)


def test_what_the_training_saw_travels_along_and_may_be_missing():
    head = Grid((20, 20, 20), np.eye(4))
    seen = seen_in([Sight(head, head, ((0.0, 1.0), (0.0, 2.0)))])
    metadata = dataclasses.replace(METADATA, seen=seen)
    assert ModelMetadata.from_json(metadata.to_json()) == metadata
    older = json.loads(METADATA.to_json())
    del older["seen"]
    assert ModelMetadata.from_json(json.dumps(older)) == METADATA
    with pytest.raises(InputError, match=r"seen: field finest, coarsest, .* missing"):
        ModelMetadata.from_json(json.dumps({**older, "seen": {"spacing": 3}}))
