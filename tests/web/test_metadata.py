import hashlib
import json

import numpy as np
import onnx
import pytest

from segjax_onnx.predict.digest import sealed
from segjax_onnx.predict.metadata import KEY, ModelMetadata, read_metadata
from tests.tiny_network import write_network
from tests.web.node import PageProblem

TOLD = {
    "model": "over",
    "labels": ["background", "<img src=x onerror=alert(1)>"],
    "activation": "sigmoid",
    "spatial_dims": 3,
    "in_channels": 2,
    "patch_size": [8, 8, 16],
    "overlap": 0.25,
    "batch_size": 1,
    "size_multiple": 8,
    "pipeline": [{"step": "resample", "spacing": [1, 1, 3]}, {"step": "z-score"}],
    "segjax_version": "0.1.0",
    "format_version": 1,
    "local": True,
    "channels": ["flair", "t1"],
    "optional_channels": ["t1"],
    "halo": [4, 4, 2],
    "stages": [
        {
            "inputs": {"image": 1}, "outputs": {"probabilities": 1}, "halo": [4, 4, 2],
            "multiple": 8, "bytes_per_voxel": 12.5, "bytes_kept": 4,
        }
    ],
    "bytes_per_voxel": 12.5,
    "postprocessing": [{"threshold": 0.4, "minimum_volume": 14.1}],
    "structures": [
        {"color": [213, 94, 0], "code": {"scheme": "SCT", "value": "52988006", "meaning": "Lesion"}}
    ],
    "about": {"license": "CC-BY-4.0", "dice": {"lesion": 0.74}},
    "float16": {"dice": {"lesion": 0.99}},
    "window": {"function": "constant"},
    "seen": {
        "spacing": [1, 1, 3], "finest": [1, 1, 3], "coarsest": [1, 1, 3], "orientation": "RAS",
        "spans": [[-1, 3], [0, 2]], "widths": [4, 2],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("networks") / "over.onnx").read_bytes()


def with_text(model, text, *, seal=True):
    """Put another text where the metadata stand."""
    proto = onnx.load_from_string(model)
    onnx.helper.set_model_props(proto, {} if text is None else {KEY: text})
    return sealed(proto.SerializeToString()) if seal else proto.SerializeToString()


def with_fields(network, /, **changes):
    return with_text(network, json.dumps(TOLD | changes))


def refusal(page_modules, model):
    with pytest.raises(PageProblem) as caught:
        page_modules.call("model/metadata.readModel", "net.onnx", model)
    assert caught.value.values["name"] == "net.onnx"
    return caught.value


def test_metadata_are_those_that_python_reads(page_modules, network, tmp_path):
    (tmp_path / "net.onnx").write_bytes(with_fields(network))
    python = json.loads(read_metadata(tmp_path / "net.onnx").to_json())
    found = page_modules.call("model/metadata.readModel", "net.onnx", with_fields(network))
    assert {name: python[name] for name in found} == found
    assert python.keys() - found.keys() == {"training", "batch_size", "padding", "averaging"}


def test_what_an_old_file_lacks_has_the_defaults_of_python(page_modules, network):
    needed = ["model", "labels", "activation", "spatial_dims", "in_channels", "patch_size"]
    needed += ["overlap", "batch_size", "size_multiple", "pipeline", "segjax_version"]
    text = json.dumps({name: TOLD[name] for name in needed})
    found = page_modules.call("model/metadata.readModel", "o", with_text(network, text, seal=False))
    python = json.loads(ModelMetadata.from_json(text).to_json()) | {"format_version": 0}
    assert {name: python[name] for name in found} == found


def test_html_in_a_label_is_text(page_modules, network):
    found = page_modules.call("model/metadata.readModel", "net.onnx", with_fields(network))
    assert found["labels"][1] == "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", ["background"]),
        ("labels", ["background", " "]),
        ("labels", ["background", "x" * 5000]),
        ("labels", ["background", "a", "b"]),
        ("activation", "tanh"),
        ("spatial_dims", 4),
        ("spatial_dims", True),
        ("in_channels", 2**31 - 1),
        ("in_channels", 3),
        ("channels", ["flair", "flair"]),
        ("optional_channels", ["pet"]),
        ("patch_size", [8, 8]),
        ("patch_size", [8, 8, 2.5]),
        ("patch_size", [2**20, 2**20, 2**20]),
        ("overlap", 1),
        ("overlap", None),
        ("size_multiple", 0),
        ("pipeline", {"step": "z-score"}),
        ("pipeline", [{"step": "z-score", "where": {"a": 1}}]),
        ("window", {"function": "gaussian", "shape": 2}),
        ("window", {"sigma": 0}),
        ("halo", [1, 2]),
        ("local", False),
        ("stages", [{"inputs": {}}]),
        ("bytes_per_voxel", -1),
        ("postprocessing", [{"threshold": 2}]),
        ("postprocessing", [{}, {}]),
        ("structures", [{"color": [256, 0, 0]}]),
        ("about", {"license": 5}),
        ("inside", ["argmin"]),
        ("seen", {"spacing": "1"}),
        ("model", None),
    ],
)
def test_a_wrong_field_is_named(page_modules, network, field, value):
    found = refusal(page_modules, with_fields(network, **{field: value}))
    assert found.key == "modelField"
    named = found.values["field"].split(".")[0].split("[")[0]
    assert named in {field, {"local": "halo", "in_channels": "channels"}.get(field)}


@pytest.mark.parametrize("field", ["model", "labels", "patch_size", "pipeline", "segjax_version"])
def test_a_missing_field_is_named(page_modules, network, field):
    text = json.dumps({name: value for name, value in TOLD.items() if name != field})
    found = refusal(page_modules, with_text(network, text))
    assert (found.key, found.values["field"]) == ("modelField", field)


def test_a_later_version_is_refused_before_its_fields_are_read(page_modules, network):
    found = refusal(page_modules, with_text(network, '{"format_version": 2}'))
    assert (found.key, found.values["version"], found.values["known"]) == ("modelNewer", 2, 1)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": NaN}', "[" * 100_000, "null"])
def test_metadata_that_are_no_json_object_are_damaged(page_modules, network, text):
    assert refusal(page_modules, with_text(network, text)).key == "modelDamaged"


def test_a_field_nested_without_end_is_refused(page_modules, network):
    deep = "[" * 5000 + "]" * 5000
    text = json.dumps(TOLD).replace('"z-score"', f'"z-score", "where": {deep}')
    assert refusal(page_modules, with_text(network, text)).key == "modelField"


def test_a_file_of_another_producer_is_named(page_modules, network):
    proto = onnx.load_from_string(with_text(network, None, seal=False))
    proto.producer_name = "pytorch"
    found = refusal(page_modules, proto.SerializeToString())
    assert (found.key, found.values["producer"]) == ("modelOfOthers", "pytorch")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\x1f\x8b\x08" + bytes(50), b"hello", bytes(348)],
)
def test_what_is_no_onnx_file_is_said(page_modules, content):
    assert refusal(page_modules, content).key == "modelForeign"


def test_a_file_that_was_cut_never_passes(page_modules, network):
    whole = with_fields(network)
    for size in range(2, len(whole), 97):
        found = refusal(page_modules, whole[:size])
        assert found.key in ("modelCut", "modelForeign", "modelChanged", "modelDamaged")
    assert refusal(page_modules, whole[: len(whole) // 2]).key == "modelCut"
    assert refusal(page_modules, whole[:-1]).key == "modelCut"


def test_a_changed_byte_of_a_sealed_file_is_seen(page_modules, network):
    whole = with_fields(network)
    rng = np.random.default_rng(0)
    for at in rng.choice(len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.integers(8)
        refusal(page_modules, bytes(changed))


def test_weights_in_other_files_are_refused(page_modules, network):
    proto = onnx.load_from_string(with_fields(network))
    del proto.metadata_props[-1]  # the seal
    weight = proto.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    assert refusal(page_modules, proto.SerializeToString()).key == "modelOutside"


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 100_000])
def test_hashes_are_sha256_with_and_without_the_browser(page_modules, size):
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    expected = hashlib.sha256(content.tobytes()).hexdigest()
    assert page_modules.call("model/digest.sha256", content) == expected
    assert page_modules.call("model/digest.slowSha256", content) == expected
