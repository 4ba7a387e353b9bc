"""Networks that answer together: several files, one file of several, and mirrored copies."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest

from segjax.errors import InputError
from segjax.volume import Volume
from segjax_onnx import Predictor, export_ensemble, read_metadata
from segjax_onnx.predict.metadata import KEY, About, ModelMetadata
from segjax_onnx.predict.postprocess import LabelRule
from segjax_onnx.write.card import Card

METADATA = ModelMetadata(
    model="random",
    labels=("background", "a", "b"),
    activation="softmax",
    spatial_dims=3,
    in_channels=2,
    patch_size=(8, 8, 8),
    overlap=0.5,
    batch_size=2,
    size_multiple=4,
    pipeline=[{"step": "reorient", "orientation": "RAS"}],
    segjax_version="0.1.0",
    local=True,
    training={"seed": 1},
)


def write_network(path, seed, *, opset=18, **changes):
    """Write a random convolution of 3 voxels along each axis, which no mirror leaves as it is."""
    metadata = dataclasses.replace(METADATA, **{"channels": (), "structures": (), **changes})
    rng = np.random.default_rng(seed)
    size = (3,) * metadata.spatial_dims
    outputs, inputs = metadata.out_channels, metadata.in_channels
    arrays = {
        "weights": rng.standard_normal((outputs, inputs, *size)).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    activation = "Softmax" if metadata.activation == "softmax" else "Sigmoid"
    options = {"axis": 1} if activation == "Softmax" else {}
    pads = [1] * 2 * metadata.spatial_dims
    nodes = [
        onnx.helper.make_node("Conv", ["image", "weights", "bias"], ["logits"], pads=pads),
        onnx.helper.make_node(activation, ["logits"], ["probabilities"], **options),
    ]
    space = [f"4*{axis}" for axis in "xyz"[: metadata.spatial_dims]]
    ends = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", n, *space])]
        for name, n in (("image", inputs), ("probabilities", outputs))
    )
    initializers = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "random", *ends, initializers)
    opsets = [onnx.helper.make_opsetid("", opset)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json()})
    path.parent.mkdir(exist_ok=True)
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """A cross-validation of three folds, of which the tenth sorts last."""
    folder = tmp_path_factory.mktemp("cv")
    for fold in (0, 2, 10):
        write_network(folder / f"fold{fold}" / "model.onnx", fold, training={"seed": fold})
    return folder


def members(folds):
    return [folds / f"fold{fold}" / "model.onnx" for fold in (0, 2, 10)]


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(5)
    affine = np.array([[0, -1.1, 0, 4], [-0.9, 0, 0, 7], [0, 0, 2, 1], [0, 0, 0, 1.0]])
    return Volume(rng.standard_normal((13, 9, 11, 2)).astype(np.float32), affine)


def mean_of(folds, volume, **options):
    """Average what each network says alone."""
    data = [Predictor(file, **options).probabilities(volume).data for file in members(folds)]
    return np.mean(data, axis=0, dtype=np.float64)


def test_networks_answer_with_the_mean_of_their_probabilities(folds, volume):
    for given in (folds, members(folds), [str(file) for file in members(folds)]):
        found = Predictor(given).probabilities(volume)
        np.testing.assert_allclose(found.data, mean_of(folds, volume), atol=1e-6)
        np.testing.assert_array_equal(found.affine, volume.affine)
    assert Predictor(folds).predict(volume).data.dtype == np.uint8


def test_folder_of_a_run_stands_for_its_network(folds, volume):
    alone, file = (Predictor(path) for path in (folds / "fold2", members(folds)[1]))
    np.testing.assert_array_equal(alone.probabilities(volume).data, file.probabilities(volume).data)


def test_networks_of_other_preprocessing_each_get_their_own(folds, volume, tmp_path):
    flipped = write_network(
        tmp_path / "flipped.onnx", 4, pipeline=[{"step": "reorient", "orientation": "LPI"}]
    )
    files = [*members(folds)[:2], flipped]
    expected = np.mean([Predictor(file).probabilities(volume).data for file in files], axis=0)
    np.testing.assert_allclose(Predictor(files).probabilities(volume).data, expected, atol=1e-6)


def test_sizes_must_suit_every_network(folds, tmp_path):
    coarse = write_network(tmp_path / "coarse.onnx", 1, size_multiple=6, patch_size=(12, 12, 12))
    fits = Predictor([members(folds)[0], coarse], patch_size=(24, 12, 12))
    assert fits.metadata.size_multiple == 12
    with pytest.raises(InputError, match="multiples of 12"):
        Predictor([members(folds)[0], coarse])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("background", "a", "c")}, "labels is background, a, c, but background, a, b"),
        ({"labels": ("x", "y"), "activation": "sigmoid"}, "labels is x, y"),
        ({"in_channels": 1}, "in_channels is 1, but 2 in"),
        ({"spatial_dims": 2, "patch_size": (8, 8), "pipeline": []}, "spatial_dims is 2, but 3"),
        ({"local": False, "patch_size": (16, 8, 8)}, "patches of 8, 8, 8 .* and 16, 8, 8"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused(folds, tmp_path, changes, message):
    other = write_network(tmp_path / "other.onnx", 1, **changes)
    with pytest.raises(InputError, match=message):
        Predictor([members(folds)[0], other])


def test_folder_without_networks_is_refused(tmp_path):
    (tmp_path / "fold0").mkdir()
    with pytest.raises(InputError, match=r"fold0: holds no model\.onnx; name the folder of a run"):
        Predictor(tmp_path)
    with pytest.raises(InputError, match="no network given"):
        Predictor([])


# One file


def test_one_file_gives_the_mean_of_its_members(folds, tmp_path):
    path = export_ensemble(folds, tmp_path / "all.onnx")
    images = np.random.default_rng(0).standard_normal((3, 2, 8, 4, 12)).astype(np.float32)

    def run(file):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"image": images})[0]

    expected = np.mean([run(file) for file in members(folds)], axis=0, dtype=np.float64)
    np.testing.assert_allclose(run(path), expected, atol=1e-6)


def test_one_file_is_used_like_any_other(folds, tmp_path, volume):
    path = export_ensemble(members(folds), tmp_path / "all.onnx")
    found = Predictor(path).probabilities(volume)
    np.testing.assert_allclose(found.data, mean_of(folds, volume), atol=1e-6)
    training = {"ensemble": [{"seed": 0}, {"seed": 2}, {"seed": 10}]}
    assert read_metadata(path) == dataclasses.replace(METADATA, training=training)
    again = export_ensemble(folds, tmp_path / "again.onnx")
    assert again.read_bytes() == path.read_bytes()


def test_one_file_runs_on_operators_that_browsers_know(folds, tmp_path):
    proto = onnx.load(export_ensemble(folds, tmp_path / "all.onnx"))
    assert {node.op_type for node in proto.graph.node} == {"Conv", "Softmax", "Add", "Mul"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline": []}, r"another pipeline than .*; `segjax predict` takes both files"),
        ({"patch_size": (16, 8, 8)}, "another patch size than"),
        ({"labels": ("background", "x", "y")}, "another labels than"),
        ({"size_multiple": 2}, "another size multiple than"),
        ({"opset": 17}, "another operator set than .* with one --opset"),
    ],
)
def test_what_one_file_cannot_hold_is_refused(folds, tmp_path, changes, message):
    other = write_network(tmp_path / "other.onnx", 1, **changes)
    with pytest.raises(InputError, match=message):
        export_ensemble([members(folds)[0], other], tmp_path / "all.onnx")
    assert not (tmp_path / "all.onnx").exists()


def test_what_is_no_ensemble_is_refused(folds, tmp_path):
    file = members(folds)[0]
    (tmp_path / "text.onnx").write_text("no network")
    onnx.save(onnx.ModelProto(ir_version=8), tmp_path / "bare.onnx")
    proto = onnx.load(file)
    onnx.helper.set_model_props(proto, {KEY: "{"})
    onnx.save(proto, tmp_path / "broken.onnx")
    for others, message in (
        ([], "an ensemble of 1: give at least two"),
        ([tmp_path / "missing.onnx"], "no such file"),
        ([tmp_path / "text.onnx"], r"text\.onnx: no ONNX network"),
        ([tmp_path / "bare.onnx"], r"bare\.onnx: an ONNX file without segjax metadata"),
        ([tmp_path / "broken.onnx"], r"broken\.onnx: the segjax metadata are no JSON"),
    ):
        with pytest.raises(InputError, match=message):
            export_ensemble([file, *others], tmp_path / "all.onnx")
    with pytest.raises(InputError, match=r"ends in \.onnx"):
        export_ensemble(folds, tmp_path / "all.pb")
    with pytest.raises(InputError, match="exists"):
        export_ensemble(folds, tmp_path / "bare.onnx")


# Mirrors


def mirrored(predict, data, axes):
    """Average over all mirrored copies of whole images."""
    copies = [()]
    for axis in axes:
        copies += [(*copy, axis) for copy in copies]
    return np.mean([np.flip(predict(np.flip(data, c)), c) for c in copies], axis=0)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirrors_average_over_all_mirrored_images(folds, axes):
    rng = np.random.default_rng(3)
    data = rng.standard_normal((8, 8, 8, 2)).astype(np.float32)  # one patch: the whole image
    predictor = Predictor(folds)

    def predict(data):
        return predictor.probabilities(Volume(data, np.eye(4))).data

    found = Predictor(folds, mirror_axes=axes).probabilities(Volume(data, np.eye(4))).data
    np.testing.assert_allclose(found, mirrored(predict, data, axes), atol=1e-6)
    assert np.abs(found - predict(data)).max() > 0.01


def test_mirrored_image_gives_the_mirrored_answer(folds, volume):
    predictor = Predictor(folds, mirror_axes=[0])
    data = volume.data[:12]  # patches of 8 lie from 0 and from 4: the same from either side
    plain, flipped = Volume(data, np.eye(4)), Volume(np.flip(data, 0).copy(), np.eye(4))
    answers = predictor.probabilities(plain).data, predictor.probabilities(flipped).data
    np.testing.assert_allclose(answers[0], np.flip(answers[1], 0), atol=2e-6)


def test_slices_of_volumes_are_mirrored_in_their_plane(tmp_path):
    path = write_network(
        tmp_path / "flat.onnx", 1, spatial_dims=2, patch_size=(8, 8), pipeline=[], in_channels=1
    )
    rng = np.random.default_rng(3)
    data = rng.standard_normal((8, 8, 3)).astype(np.float32)
    plain = Predictor(path)

    def predict(data):
        return plain.probabilities(Volume(data, np.eye(4))).data

    found = Predictor(path, mirror_axes=(0, 1)).probabilities(Volume(data, np.eye(4))).data
    np.testing.assert_allclose(found, mirrored(predict, data, (0, 1)), atol=1e-6)
    for axis in (2, -1):
        with pytest.raises(InputError, match=f"mirror axis {axis}: random has axes 0 to 1"):
            Predictor(path, mirror_axes=[axis])


def test_members_that_differ_in_what_people_say_of_them_say_nothing_together(tmp_path):
    halves = [About(license="MIT"), About(license="BSD")]
    files = [write_network(tmp_path / f"{i}.onnx", i, about=halves[i]) for i in (0, 1)]
    assert read_metadata(export_ensemble(files, tmp_path / "both.onnx")).about == About()
    card = Card(about=halves[0], postprocessing={"b": LabelRule(threshold=0.3)})
    told = read_metadata(export_ensemble(files, tmp_path / "told.onnx", card=card))
    assert told.about == halves[0]
    assert told.postprocessing == (LabelRule(), LabelRule(threshold=0.3))
