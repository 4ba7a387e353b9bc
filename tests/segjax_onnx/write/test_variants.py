import functools
import json

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from segjax.data.io.nifti import write_nifti
from segjax.errors import InputError
from segjax.volume import Volume
from segjax_onnx import Predictor, export_ensemble, read_metadata
from segjax_onnx.predict.digest import sealed
from segjax_onnx.write import variants
from segjax_onnx.write.convert import to_onnx
from segjax_onnx.write.variants import export_variant, halve_precision, put_inside
from segjax_onnx.write.weights import read_variables
from tests.segjax_onnx.write.test_convert import build, metadata_of

STEPS = [{"step": "reorient", "orientation": "RAS"}, {"step": "z-score", "where": "all"}]
pytestmark = pytest.mark.filterwarnings("ignore:.*holds no spacing")


@functools.cache
def exported(outputs, opset=18):
    """The bytes of a small local network."""
    model, variables = build("mpunet++", features=(2, 3), out_channels=outputs)
    metadata = metadata_of(
        model,
        labels=("background", "lesion"),
        patch_size=(16, 16, 16),
        batch_size=1,
        pipeline=STEPS,
        local=True,
    )
    proto = to_onnx(model, variables, metadata=metadata, opset=opset)
    return sealed(proto.SerializeToString(deterministic=True))


def head(shape=(11, 9, 7), seed=0):
    data = np.random.default_rng(seed).normal(3000, 400, shape).astype(np.float32)
    return Volume(data, np.eye(4))


def written(path, content, *changes):
    proto = onnx.load_from_string(content)
    for change in changes:
        change(proto)
    path.write_bytes(sealed(proto.SerializeToString(deterministic=True)))
    return path


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "changes", [(halve_precision,), (put_inside,), (halve_precision, put_inside)]
)
def test_other_forms_give_the_same_probabilities(tmp_path, outputs, changes):
    plain = written(tmp_path / "plain.onnx", exported(outputs))
    other = written(tmp_path / "other.onnx", exported(outputs), *changes)
    expected, found = (
        Predictor(path).probabilities(head((16, 16, 16))).data for path in (plain, other)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3 if halve_precision in changes else 1e-5)


def test_half_of_the_bytes_hold_the_weights_and_inputs_stay_what_they_are(tmp_path):
    path = written(tmp_path / "half.onnx", exported(2), halve_precision)
    proto = onnx.load(path)
    kinds = {t.data_type for t in proto.graph.initializer if t.dims and t.name != "twice"}
    assert kinds <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    values = [*proto.graph.input, *proto.graph.output]
    assert {v.type.tensor_type.elem_type for v in values} == {onnx.TensorProto.FLOAT}
    plain = read_variables(written(tmp_path / "plain.onnx", exported(2)))
    for one, two in zip(jax.tree.leaves(read_variables(path)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, two, rtol=2**-10)


def test_weights_that_16_bits_cannot_hold_are_refused():
    proto = onnx.load_from_string(exported(2))
    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 5)
    array = onnx.numpy_helper.to_array(tensor) + np.float32(1e5)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(InputError, match="a weight is over 65504"):
        halve_precision(proto)


@pytest.mark.parametrize(("outputs", "opset"), [(1, 18), (2, 18), (2, 17)])
def test_the_graph_takes_intensities_of_any_size_of_volume_and_gives_the_mask(
    tmp_path, outputs, opset
):
    plain = onnxruntime.InferenceSession(exported(outputs, opset))
    path = written(tmp_path / "whole.onnx", exported(outputs, opset), put_inside)
    session = onnxruntime.InferenceSession(path)
    for shape in ((11, 9, 7), (8, 4, 6)):
        image = head(shape).data
        behind = [-n % 2 for n in shape]
        feed = {"image": image[np.newaxis, np.newaxis], "pads": np.array([0] * 7 + behind)}
        probabilities, mask = session.run(["probabilities", "mask"], feed)
        standard = np.pad((image - image.mean()) / image.std(), [(0, n) for n in behind])
        (expected,) = plain.run(None, {"image": standard[np.newaxis, np.newaxis]})
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert mask.dtype == np.uint8
        most = expected.argmax(1) if outputs == 2 else expected[:, 0] > 0.5
        np.testing.assert_array_equal(mask, most)
    predicted = Predictor(path).predict(head(shape)).data
    np.testing.assert_array_equal(predicted, mask[0])


def test_min_max_and_constant_channels_are_as_in_the_pipeline(tmp_path):
    def with_min_max(proto):
        (entry,) = [p for p in proto.metadata_props if p.key == "segjax"]
        entry.value = json.dumps(json.loads(entry.value) | {"pipeline": [{"step": "min-max"}]})

    plain = Predictor(written(tmp_path / "plain.onnx", exported(1), with_min_max))
    whole = written(tmp_path / "whole.onnx", exported(1), with_min_max, put_inside)
    assert read_metadata(whole).inside == ("min-max", "argmax")
    session = onnxruntime.InferenceSession(whole)
    for image in (head((16,) * 3), Volume(np.full((16,) * 3, 3e4, np.float32), np.eye(4))):
        feed = {"image": image.data[np.newaxis, np.newaxis], "pads": np.zeros(10, np.int64)}
        (found,) = session.run(["probabilities"], feed)
        expected = plain.probabilities(image).data
        np.testing.assert_allclose(np.moveaxis(found[0], 0, -1), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local": False}, "norms what it sees as a whole"),
        (
            {"pipeline": [{"step": "z-score", "where": "nonzero"}]},
            "nonzero.* cannot be in the graph",
        ),
        ({"pipeline": [{"step": "clip-percentiles"}, {"step": "min-max"}]}, "clip-percentiles"),
        ({"pipeline": [{"step": "min-max"}, {"step": "reorient"}]}, "min-max.* cannot be in the"),
        ({"pipeline": []}, "without such a last step cannot be in the graph"),
    ],
)
def test_what_cannot_be_in_a_graph_is_refused(changes, message):
    proto = onnx.load_from_string(exported(2))
    (entry,) = [p for p in proto.metadata_props if p.key == "segjax"]
    entry.value = json.dumps(json.loads(entry.value) | changes)
    with pytest.raises(InputError, match=message):
        put_inside(proto)


def test_a_network_of_pictures_that_preprocesses_them_takes_no_volumes(tmp_path):
    def flat(proto):
        (entry,) = [p for p in proto.metadata_props if p.key == "segjax"]
        changes = {"spatial_dims": 2, "patch_size": [16, 16]}
        entry.value = json.dumps(json.loads(entry.value) | changes)

    path = written(tmp_path / "flat.onnx", exported(1), put_inside, flat)
    with pytest.raises(InputError, match=r"flat\.onnx: preprocesses pictures itself"):
        Predictor(path).predict(head((16, 16, 3)))


def test_networks_that_preprocess_are_not_merged(tmp_path):
    path = written(tmp_path / "whole.onnx", exported(1), put_inside)
    with pytest.raises(InputError, match=r"whole\.onnx: preprocesses in its graph"):
        export_ensemble([path, path], tmp_path / "both.onnx")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of which validation case b is still there, and the network that is exported of it."""
    folder = tmp_path / "run"
    folder.mkdir()
    cases = {}
    for seed, name in enumerate("abc"):
        image = tmp_path / f"{name}.nii.gz"
        write_nifti(head(seed=seed), image)
        cases[name] = {"sources": [{"path": str(image)}, {"path": str(tmp_path / "label.nii")}]}
    (tmp_path / "c.nii.gz").unlink()
    (folder / "inputs.json").write_text(json.dumps({"cases": cases}))
    split = {"train": ["a"], "validation": ["b", "c"], "test": []}
    (folder / "split.json").write_text(json.dumps(split))

    def export(_run, path, **_):
        path.write_bytes(exported(1))
        return path

    monkeypatch.setattr(variants, "export_onnx", export)
    return folder


def test_what_16_bits_cost_is_measured_on_the_validation_cases_that_are_there(run, tmp_path):
    assert [case.name for case in variants.validation_cases(run)] == ["b"]
    path = export_variant(run, tmp_path / "half.onnx", float16=True, preprocessing=True)
    metadata = read_metadata(path)
    assert 0.9 < metadata.float16.dice["lesion"] <= 1
    assert metadata.inside == ("z-score", "argmax")
    again = export_variant(run, tmp_path / "again.onnx", float16=True, preprocessing=True)
    assert again.read_bytes() == path.read_bytes()


def test_where_no_case_is_there_nothing_is_measured_and_that_is_told(run, tmp_path):
    (tmp_path / "b.nii.gz").unlink()
    with pytest.warns(UserWarning, match="not measured what 16 bits cost"):
        path = export_variant(run, tmp_path / "half.onnx", float16=True)
    assert read_metadata(path).float16.dice == {}
