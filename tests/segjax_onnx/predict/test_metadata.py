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
from segjax_onnx.predict.metadata import (
    KEY,
    About,
    Code,
    HalfPrecision,
    ModelMetadata,
    Structure,
    Window,
    read_metadata,
    together,
    write_sidecar,
)
from segjax_onnx.predict.postprocess import LabelRule
from segjax_onnx.predict.stages import Stage

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


FULL = dataclasses.replace(
    METADATA,
    channels=("flair", "t1"),
    optional_channels=("t1",),
    window=Window("constant"),
    halo=(24, 24, 24),
    stages=(Stage({"image": 1}, {"probabilities": 1}, (4, 4, 4), 8, 64.0, 8.0),),
    bytes_per_voxel=400.0,
    postprocessing=(LabelRule(threshold=0.4, minimum_volume=3.0), LabelRule()),
    structures=(Structure((1, 2, 3), Code("SCT", "52988006", "Lesion")), Structure((4, 5, 6))),
    about=About(license="CC-BY-4.0", dice={"lesion": 0.74}),
    float16=HalfPrecision({"lesion": 0.999}),
    inside=("z-score",),
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
    labels = ("background", "lesion")
    sigmoid = dataclasses.replace(METADATA, activation="sigmoid", labels=labels, structures=())
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
        ("labels", ("background", " ", "lesion")),
        ("patch_size", (2**11, 2**11, 2**11)),
        ("channels", ("flair",)),
        ("channels", ("flair", "flair")),
        ("channels", ("flair", "")),
        ("optional_channels", ("t2",)),
        ("padding", 1.0),
        ("halo", (24, 24)),
        ("halo", (24, 24, -1)),
        ("postprocessing", (LabelRule(),)),
        ("structures", (Structure((0, 0, 0)),)),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(InputError, match=rf"^{field}\b"):
        dataclasses.replace(METADATA, **{field: value})


def test_sigmoid_of_three_labels_is_refused():
    with pytest.raises(InputError, match="labels"):
        dataclasses.replace(METADATA, activation="sigmoid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON text"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON text"),
        (METADATA.to_json().replace("0.25", "NaN"), "NaN is no number"),
        ('{"model": "unet3d"}', "field labels, activation, spatial_dims, .* missing"),
        (METADATA.to_json().replace('"model"', '"modell"'), "field model is missing"),
        (METADATA.to_json().replace("[32, 64, 16]", "7"), "patch_size must be a list, not 7"),
        (METADATA.to_json().replace("0.25", '"much"'), "overlap must be a number"),
        (METADATA.to_json().replace('"step"', '"stop"'), "pipeline must be a list of objects"),
        (METADATA.to_json().replace('"format_version": 1', '"format_version": 2'), "pip install"),
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


def test_every_field_comes_back_from_json():
    assert ModelMetadata.from_json(FULL.to_json()) == FULL


def test_unknown_fields_are_kept_and_written_again():
    text = FULL.to_json()
    later = {**json.loads(text), "later": {"a": [1]}}
    later["about"]["doi"] = "10.1/2"
    later["structures"][0]["code"]["region"] = {"side": "left"}
    read = ModelMetadata.from_json(json.dumps(later))
    assert json.loads(read.to_json()) == later
    assert dataclasses.replace(read, others={}).labels == FULL.labels


def test_a_field_that_changes_the_mask_is_refused_where_it_is_unknown():
    later = json.loads(FULL.to_json())
    later["postprocessing"][0]["smooth"] = True
    with pytest.raises(InputError, match=r"postprocessing\[0\]: unknown field 'smooth'"):
        ModelMetadata.from_json(json.dumps(later))


def test_files_without_a_version_have_defaults_and_are_written_in_the_newest():
    names = ("model", "labels", "activation", "spatial_dims", "in_channels", "patch_size")
    names += ("overlap", "batch_size", "size_multiple", "pipeline", "segjax_version")
    plain = json.loads(METADATA.to_json())
    read = ModelMetadata.from_json(json.dumps({name: plain[name] for name in names}))
    assert (read.format_version, read.channels) == (0, ("channel 0", "channel 1"))
    assert (read.halo, read.postprocessing, read.about) == (None, (), About())
    assert [structure.code for structure in read.structures] == [None, None]
    assert json.loads(read.to_json())["format_version"] == 1


def test_a_file_of_a_later_version_says_what_to_install():
    later = json.dumps({"format_version": 2})
    with pytest.raises(InputError, match=r"reads up to 1; .*pip install --upgrade segjax"):
        ModelMetadata.from_json(later)


def test_metadata_are_written_beside_a_file_for_readers_that_cannot_open_them(tmp_path):
    path = write_network(tmp_path / "model.onnx", **{KEY: FULL.to_json()})
    beside = write_sidecar(path)
    assert beside == tmp_path / "model.json"
    assert ModelMetadata.from_json(beside.read_text(encoding="utf-8")) == FULL
    with pytest.raises(InputError, match="exists"):
        write_sidecar(path)
    assert write_sidecar(path, overwrite=True) == beside


def test_weights_of_a_window_follow_its_numbers():
    weights = Window(sigma=0.5, floor=0.7).weights((4, 2))  # σ of 2 and 1 voxels
    inner = np.exp(-0.5 * (0.5 / 2) ** 2 - 0.5 * (0.5 / 1) ** 2)
    np.testing.assert_allclose(weights[:2], [[0.7, 0.7], [inner, inner]], rtol=1e-6)
    assert (Window("constant").weights((4, 2)) == 1).all()


def test_networks_together_depend_on_voxels_as_far_away_as_any_of_them():
    one, two = (dataclasses.replace(METADATA, halo=halo) for halo in ((3, 3, 9), (5, 2, 1)))
    assert together([one, two]).halo == (5, 3, 9)
    assert together([one, METADATA]).halo is None
    assert together([one, dataclasses.replace(METADATA, local=False)]).local is False


def test_networks_together_say_what_each_of_them_says():
    other = dataclasses.replace(FULL, about=About(license="MIT"), float16=None)
    assert together([FULL, FULL]) == FULL
    both = together([FULL, other])
    assert (both.about, both.float16) == (About(), HalfPrecision())
    assert both.structures == FULL.structures
