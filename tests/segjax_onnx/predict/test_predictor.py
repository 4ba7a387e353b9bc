import dataclasses
import io
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import onnx
import onnxruntime
import pydicom
import pytest
from PIL import Image

from segjax.data.cases import Case
from segjax.data.images import find_images
from segjax.data.io.formats import read_volume, segment_names, write_volume
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Step
from segjax.data.prepare.tilt import tilt
from segjax.data.seen import Seen, Sight, seen_in
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.registry import register, registry
from segjax.segment import segment
from segjax.volume import Volume
from segjax_onnx import Predictor
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from segjax_onnx.predict.network import Network
from segjax_onnx.predict.postprocess import LabelRule

CLOCKWISE = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def rotation(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return about_x @ about_z


def affine_of(matrix, spacing=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = matrix @ np.diag(spacing)
    affine[:3, 3] = (-31.5, 12.25, 7)
    return affine


AFFINES = {
    "RAS": affine_of(np.eye(3)),
    "flipped": affine_of(np.diag([-1, -1, 1])),
    "permuted": affine_of(CLOCKWISE),
    "oblique": affine_of(rotation(17)),
    "flipped and oblique": affine_of(rotation(-28) @ np.diag([1, -1, -1])),
    "anisotropic": affine_of(rotation(9), (0.7, 0.9, 3.3)),
}


def write_model(path, *, rank=3, channels=1, classes=1, threshold=0.5, **changes):
    """Write a network whose labels are thresholds of the image's first channel.

    Label 1 is where the channel exceeds the threshold, the last one where it exceeds it by 1.
    """
    weights = np.zeros((classes, channels, *[1] * rank), np.float32)
    weights[:, 0] = 50 * np.arange(1, classes + 1).reshape(classes, *[1] * rank)
    steps = threshold + np.arange(classes)
    bias = -50 * np.cumsum(steps).astype(np.float32)
    if classes > 1:
        weights -= weights[:1]
        bias = np.float32([0, *np.cumsum(-50 * steps[:-1])])
    activation = "Softmax" if classes > 1 else "Sigmoid"
    options = {"axis": 1} if classes > 1 else {}
    nodes = [
        onnx.helper.make_node("Conv", ["image", "weights", "bias"], ["logits"]),
        onnx.helper.make_node(activation, ["logits"], ["probabilities"], **options),
    ]
    space = ["x", "y", "z"][:rank]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size, *space])]
        for name, size in (("image", channels), ("probabilities", classes))
    )
    initializers = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in (("weights", weights), ("bias", bias))
    ]
    graph = onnx.helper.make_graph(nodes, "threshold", inputs, outputs, initializers)
    opsets = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    metadata = ModelMetadata(
        model="threshold",
        labels=tuple(f"label {i}" for i in range(max(2, classes))),
        activation="softmax" if classes > 1 else "sigmoid",
        spatial_dims=rank,
        in_channels=channels,
        patch_size=(16,) * rank,
        overlap=0.5,
        batch_size=2,
        size_multiple=4,
        pipeline=[{"step": "reorient", "orientation": "RAS"}] if rank == 3 else [],
        segjax_version="0.1.0",
    )
    metadata = dataclasses.replace(metadata, **changes)
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json()})
    onnx.save(proto, path)
    return path


def lesion_of(shape, corner=(3, 5, 2), size=(6, 4, 3)):
    """A mask with a block that is no mirror image of itself."""
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = 1
    mask[tuple(corner)] = 0
    return mask


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.mark.parametrize("name", AFFINES)
def test_a_lesion_lands_where_it_was_put(model, tmp_path, name):
    mask = lesion_of((20, 33, 9))
    path = tmp_path / "image.nii.gz"
    nibabel.Nifti1Image(mask.astype(np.float32), AFFINES[name]).to_filename(path)
    found = Predictor(model).predict(path)
    assert found.data.dtype == np.uint8
    np.testing.assert_array_equal(found.data, mask)
    np.testing.assert_allclose(found.affine, AFFINES[name], atol=1e-5)


@pytest.mark.parametrize("name", ["oblique", "anisotropic", "flipped and oblique"])
def test_a_lesion_lands_where_it_was_put_through_resampling_and_cropping(tmp_path, name):
    pipeline = [
        {"step": "reorient", "orientation": "LPS"},
        {"step": "resample", "spacing": [0.5, 0.6, 0.7]},
        {"step": "crop-or-pad", "shape": [64, 64, 64]},
    ]
    model = write_model(tmp_path / "model.onnx", pipeline=pipeline)
    mask = lesion_of((20, 23, 9))
    volume = Volume(mask, AFFINES[name])
    found = Predictor(model, overlap=0.0).predict(volume)
    np.testing.assert_array_equal(found.data, mask)
    np.testing.assert_array_equal(found.affine, volume.affine)


@pytest.mark.parametrize("name", ["oblique", "anisotropic", "flipped and oblique"])
def test_a_lesion_lands_where_it_was_after_a_crop_to_the_brain(tmp_path, name):
    landmarks = [float(n) for n in range(13)]
    pipeline = [
        {"step": "reorient", "orientation": "LPS"},
        {"step": "brain-extraction", "method": "zero-background"},
        {"step": "crop-to-brain", "margin": 2.0},
        {"step": "min-max"},
        {"step": "histogram-standardization", "landmarks": [landmarks], "cutoff": [0, 1]},
    ]
    model = write_model(tmp_path / "model.onnx", threshold=11.5, pipeline=pipeline)
    image = np.zeros((20, 23, 9), np.float32)
    image[4:15, 6:18, 2:7] = np.random.default_rng(0).uniform(1, 2, (11, 12, 5))
    image[6:9, 10:13, 4:6] = 4
    found = Predictor(model, overlap=0.0).predict(Volume(image, AFFINES[name]))
    np.testing.assert_array_equal(found.data, image == 4)
    np.testing.assert_array_equal(found.affine, AFFINES[name])


def test_a_network_serves_as_brain_extractor(tmp_path):
    """Its labels 1 and 2 are brain; it sees the chosen channel, or all that it was trained on."""
    one = write_model(tmp_path / "one.onnx", classes=3)
    two = write_model(tmp_path / "two.onnx", channels=2)
    rng = np.random.default_rng(0)
    image = Volume(rng.integers(0, 3, (20, 18, 9, 2)).astype(np.float32), AFFINES["oblique"])
    for channel in range(2):
        mask = extract_brain(image, one, channel=channel)
        np.testing.assert_array_equal(mask.data, image.data[..., channel] > 0.5)
    mask = extract_brain(image, str(two), channel=1)
    np.testing.assert_array_equal(mask.data, image.data[..., 0] > 0.5)
    step = Pipeline.from_json([{"step": "brain-extraction", "method": str(two)}])
    extracted = step.apply(image).data
    np.testing.assert_array_equal(extracted, image.data * mask.data[..., None])


def test_a_pipeline_that_was_never_fitted_is_refused(tmp_path):
    steps = [{"step": "histogram-standardization"}]
    model = write_model(tmp_path / "model.onnx", pipeline=steps)
    with pytest.raises(InputError, match=r"model\.onnx: its preprocessing was never fitted"):
        Predictor(model)


def test_scaled_integers_are_read_as_what_they_mean(tmp_path):
    model = write_model(tmp_path / "model.onnx", threshold=1000.5)
    mask = lesion_of((20, 18, 9))
    image = nibabel.Nifti1Image(np.where(mask, 4, 3).astype(np.int16), AFFINES["oblique"])
    image.header.set_slope_inter(2.0, 994.0)  # 3 -> 1000, 4 -> 1002
    image.to_filename(tmp_path / "image.nii")
    with (tmp_path / "image.nii").open("rb") as file:
        assert nibabel.Nifti1Header.from_fileobj(file)["datatype"] == 4
    np.testing.assert_array_equal(Predictor(model).predict(tmp_path / "image.nii").data, mask)


def test_volumes_of_one_slice_work_in_3d_and_2d(model, tmp_path):
    mask = lesion_of((20, 33, 1), (3, 5, 0), (6, 4, 1))
    flat = write_model(tmp_path / "flat.onnx", rank=2)
    for path in (model, flat):
        found = Predictor(path).predict(Volume(mask.astype(np.float32), AFFINES["oblique"]))
        np.testing.assert_array_equal(found.data, mask)


def test_a_2d_network_segments_a_volume_slice_by_slice(tmp_path):
    model = write_model(tmp_path / "model.onnx", rank=2, patch_size=(16, 8))
    mask = lesion_of((20, 33, 9))
    for batch_size in (1, 4):
        found = Predictor(model, batch_size=batch_size).predict(Volume(mask, AFFINES["oblique"]))
        np.testing.assert_array_equal(found.data, mask)


def test_png_and_npy_images_give_masks_of_their_shape(tmp_path):
    model = write_model(tmp_path / "model.onnx", rank=2, threshold=100)
    mask = lesion_of((40, 21, 1), (3, 5, 0), (6, 4, 1))[..., 0]
    Image.fromarray(200 * mask).save(tmp_path / "image.png")
    np.save(tmp_path / "image.npy", 200.0 * mask)
    for name in ("image.png", "image.npy"):
        np.testing.assert_array_equal(Predictor(model).predict(tmp_path / name).data, mask)


def test_channels_come_from_one_file_each_or_from_one_volume(tmp_path):
    model = write_model(tmp_path / "model.onnx", channels=2)
    mask = lesion_of((20, 33, 9)).astype(np.float32)
    other = 1 - mask
    paths = [tmp_path / f"case_000{i}.nii.gz" for i in range(2)]
    for path, data in zip(paths, (mask, other), strict=True):
        nibabel.Nifti1Image(data, AFFINES["permuted"]).to_filename(path)
    both = Volume(np.stack([mask, other], -1), AFFINES["permuted"])
    predictor = Predictor(model)
    np.testing.assert_array_equal(predictor.predict(paths).data, mask)
    np.testing.assert_array_equal(predictor.predict(both).data, mask)
    np.testing.assert_array_equal(predictor.predict(list(reversed(paths))).data, other)


def test_several_labels_are_told_apart(tmp_path):
    model = write_model(tmp_path / "model.onnx", classes=3)
    labels = lesion_of((20, 33, 9))
    labels[10:14, 20:30, 4:8] = 2
    volume = Volume(labels.astype(np.float32), AFFINES["flipped and oblique"])
    np.testing.assert_array_equal(Predictor(model).predict(volume).data, labels)


def test_probabilities_lie_on_the_grid_of_the_image_and_sum_to_one(tmp_path):
    pipeline = [{"step": "crop-or-pad", "shape": [8, 48, 12]}]
    model = write_model(tmp_path / "model.onnx", classes=3, pipeline=pipeline)
    volume = Volume(np.full((20, 33, 9), 1.0), AFFINES["oblique"])
    found = Predictor(model).probabilities(volume)
    assert found.data.dtype == np.float32
    assert found.data.shape == (20, 33, 9, 3)
    np.testing.assert_array_equal(found.affine, volume.affine)
    np.testing.assert_allclose(found.data.sum(-1), 1, atol=1e-6)
    # The middle 8 of 20 rows are seen; the other voxels are background for certain.
    np.testing.assert_array_equal(found.data[:6, ..., 0], 1)
    np.testing.assert_array_equal(found.data[14:, ..., 0], 1)
    assert found.data[6:14, ..., 1].min() > 0.99


def test_a_sigmoid_network_has_one_probability(model):
    volume = Volume(lesion_of((20, 33, 9)), AFFINES["flipped"])
    found = Predictor(model).probabilities(volume).data
    assert found.shape == (20, 33, 9, 1)
    np.testing.assert_allclose(found[..., 0], volume.data, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": (8, 12, 4)},
        {"patch_size": [64, 64, 64]},
        {"overlap": 0.0},
        {"overlap": 0.75},
        {"batch_size": 5},
        {"threads": 2},
        {"providers": ["CPUExecutionProvider"]},
    ],
)
def test_options_change_how_a_mask_is_made_and_not_the_mask(model, options):
    volume = Volume(lesion_of((20, 33, 9)), AFFINES["oblique"])
    np.testing.assert_array_equal(Predictor(model, **options).predict(volume).data, volume.data)


def test_the_network_sees_the_patches_that_were_asked_for(model):
    predictor = Predictor(model, patch_size=(8, 12, 4), batch_size=3)
    shapes = []
    (network,) = predictor._networks
    session = network.session

    class Recorder:
        def run(self, names, feed):
            shapes.append(feed["image"].shape)
            return session.run(names, feed)

    predictor._networks = (dataclasses.replace(network, session=Recorder()),)
    predictor.predict(Volume(np.zeros((16, 12, 4)), np.eye(4)))
    assert shapes == [(3, 1, 8, 12, 4)]  # corners 0, 4 and 8 along the first axis


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": (16, 16)}, r"patch size \(16, 16\): threshold takes 3 multiples of 4"),
        ({"patch_size": (16, 16, 18)}, "multiples of 4"),
        ({"patch_size": (16, 16, 0)}, "multiples of 4"),
        ({"overlap": 1.0}, "overlap 1.0"),
        ({"overlap": -0.1}, "overlap -0.1"),
        ({"batch_size": 0}, "batch size 0"),
        ({"threads": 0}, "threads = 0"),
        ({"providers": ["TPU"]}, r"providers = \['TPU'\]: this onnxruntime has "),
        ({"providers": []}, r"providers = \[\]"),
    ],
)
def test_options_that_cannot_be_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        Predictor(model, **options)


def test_a_step_that_nobody_registered_is_named_with_what_to_do(tmp_path):
    model = write_model(tmp_path / "model.onnx", pipeline=[{"step": "histogram"}])
    message = r"model\.onnx: unknown step 'histogram': .*; import or install the package"
    with pytest.raises(InputError, match=message):
        Predictor(model)


@dataclasses.dataclass(frozen=True)
class Raise(Step):
    name: ClassVar[str] = "raise"
    by: float = 1.0

    def apply(self, image):
        return image.with_data(image.data + np.float32(self.by))


def test_a_step_of_another_package_is_applied_before_the_network(tmp_path):
    model = write_model(tmp_path / "model.onnx", pipeline=[Raise(3.0).to_json()])
    dark = Volume(np.full((4, 4, 4), -2, np.float32), np.eye(4))
    assert Predictor(model).predict(dark).data.all()


def test_an_image_of_another_package_s_format_is_found_and_segmented(model, tmp_path, monkeypatch):
    monkeypatch.setattr(registry("reader"), "_things", {**registry("reader")._things})
    register("reader", ".xyz", lambda path: Volume(np.load(path.open("rb")), np.eye(4)))
    np.save((tmp_path / "a.xyz").open("wb"), lesion_of((16, 16, 8)))
    (mask,) = Predictor(model).predict_files(find_images([tmp_path]), tmp_path / "out")
    assert mask.name == "a.nii.gz"
    np.testing.assert_array_equal(read_volume(mask).data, lesion_of((16, 16, 8)))


def test_files_that_are_no_network_are_refused_in_one_line(model, tmp_path):
    whole = model.read_bytes()
    for name, content in {
        "text.onnx": b"This is no network.",
        "truncated.onnx": whole[: len(whole) // 3],
        "garbled.onnx": whole[:40] + bytes(100) + whole[140:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            Predictor(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)


def test_a_wrong_number_of_channels_is_refused(model, tmp_path):
    volume = Volume(np.zeros((8, 8, 8, 2)), np.eye(4))
    with pytest.raises(InputError, match="2 channels; the network takes 1"):
        Predictor(model).predict(volume)
    path = tmp_path / "image.nii.gz"
    nibabel.Nifti1Image(np.zeros((8, 8, 8, 2), np.float32), np.eye(4)).to_filename(path)
    with pytest.raises(InputError, match=r"image\.nii\.gz: 2 channels"):
        Predictor(model).predict(path)


def test_values_that_are_not_finite_are_refused_and_counted(model, tmp_path):
    data = np.zeros((8, 8, 8), np.float32)
    data[0, 0, :2] = np.nan
    data[1, 1, 1] = np.inf
    with pytest.raises(InputError, match="holds 3 NaN or infinite values"):
        Predictor(model).predict(Volume(data, np.eye(4)))
    nibabel.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "image.nii.gz")
    with pytest.raises(InputError, match=r"image\.nii\.gz"):
        Predictor(model).predict(tmp_path / "image.nii.gz")


def test_an_array_is_segmented_where_its_affine_puts_it(model):
    mask, affine = lesion_of((20, 33, 9)), AFFINES["flipped and oblique"]
    predictor = Predictor(model)
    expected = predictor.predict(Volume(mask.astype(np.float32), affine))
    for array in (mask, mask.astype(np.float64), mask[..., None] > 0):
        found = predictor.predict(array, affine=affine)
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.affine, affine)
    probabilities = predictor.probabilities(mask, affine=affine)
    np.testing.assert_allclose(probabilities.data[..., 0], mask, atol=1e-6)


def test_an_array_without_affine_has_voxels_of_a_millimetre(model, tmp_path):
    mask = lesion_of((20, 33, 9))
    found = Predictor(model).predict(mask)
    np.testing.assert_array_equal(found.data, mask)
    np.testing.assert_array_equal(found.affine, np.eye(4))
    colour = np.repeat(mask[..., :1], 3, axis=-1)
    flat = write_model(tmp_path / "flat.onnx", rank=2, channels=3)
    assert Predictor(flat).predict(colour).spatial_shape == (20, 33)
    grey = write_model(tmp_path / "grey.onnx", rank=2)
    for array, shape in ((mask[..., 0], (20, 33)), (mask[..., :1], (20, 33)), (mask, mask.shape)):
        assert Predictor(grey).predict(array).spatial_shape == shape


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((20, 33), {}, r"shape \(20, 33\): threshold takes 3 spatial axes and then 1 channel or"),
        ((1, 20, 33, 9), {}, r"shape \(1, 20, 33, 9\): threshold takes 3 spatial axes"),
        ((20, 33, 9, 2), {"affine": np.eye(4)}, "2 channels; the network takes 1"),
        ((20, 33, 9), {"affine": np.eye(3)[:2]}, r"shape \(3, 3\) or \(4, 4\), not \(2, 3\)"),
        ((20, 33), {"affine": np.eye(3)}, "the volume: a 2D image"),
        ((20, 33), {"affine": np.eye(4)}, "does not fit an affine"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model, shape, options, message):
    with pytest.raises(InputError, match=message):
        Predictor(model).predict(np.zeros(shape), **options)


def test_what_has_an_affine_takes_no_other_and_numbers_are_real(model, tmp_path):
    predictor, volume = Predictor(model), Volume(np.zeros((8, 8, 8)), np.eye(4))
    for image in (volume, tmp_path / "a.nii.gz"):
        with pytest.raises(InputError, match="has an affine of its own"):
            predictor.predict(image, affine=np.eye(4))
    with pytest.raises(InputError, match="complex128"):
        predictor.predict(np.zeros((8, 8, 8), complex))


@pytest.mark.parametrize(("names", "shown"), [(("a",), False), (("a", "b"), True)])
def test_the_patches_of_a_volume_have_a_bar(model, tmp_path, monkeypatch, names, shown):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("segjax.progress._PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    run = Network.run
    monkeypatch.setattr(Network, "run", lambda *some: (time.sleep(0.1), run(*some))[1])
    some = write_images(tmp_path / "images", names)
    assert not any(one.error for one in segment(Predictor(model), some, tmp_path / "masks"))
    assert "Predicting" in terminal.getvalue()
    assert "patches · " in terminal.getvalue()
    assert "left" in terminal.getvalue()
    assert ("Segmenting" in terminal.getvalue()) == shown


def test_a_3d_network_refuses_an_image(model):
    with pytest.raises(InputError, match=r"shape \(8, 8\), but the network takes volumes"):
        Predictor(model).predict(Volume(np.zeros((8, 8)), np.eye(3)))


def test_a_failure_of_onnxruntime_is_said_in_one_line(model):
    predictor = Predictor(model)

    class Failing:
        def run(self, names, feed):
            raise RuntimeError("Failed to allocate memory\nat line 7")

        def get_providers(self):
            return ["CPUExecutionProvider"]

    (network,) = predictor._networks
    predictor._networks = (dataclasses.replace(network, session=Failing()),)
    with pytest.raises(InputError, match="smaller patches or batches") as error:
        predictor.predict(Volume(np.zeros((8, 8, 8)), np.eye(4)))
    assert "Failed to allocate memory" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_onnxruntime_is_said_with_what_to_do(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[runtime\]"'):
        Predictor(model)


class FakeRuntime:
    """Stands for the onnxruntime of a machine with a GPU."""

    SessionOptions = onnxruntime.SessionOptions
    opened = None
    broken = ()

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self):
        print("noise")

    def InferenceSession(self, path, options, providers):
        self.opened = (providers, options.intra_op_num_threads)
        print("more noise")
        names = [name for name, _ in providers if name not in self.broken]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: names
        return session


def test_cuda_is_chosen_where_it_is_offered_and_sees_batches(model, monkeypatch, capsys):
    runtime = FakeRuntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    predictor = Predictor(model, threads=3)
    cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    providers = [("CUDAExecutionProvider", cuda), ("CPUExecutionProvider", {})]
    assert runtime.opened == (providers, 3)
    assert predictor.providers[0] == "CUDAExecutionProvider"
    assert predictor._batch_size == 2  # of the metadata
    assert capsys.readouterr().out == ""


def test_a_gpu_that_cannot_start_is_warned_of(model, monkeypatch):
    runtime = FakeRuntime()
    runtime.broken = ("CUDAExecutionProvider",)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider could not start: using CPU"):
        predictor = Predictor(model)
    assert predictor._batch_size == 1


class FullGPU(FakeRuntime):
    """Stands for the onnxruntime of a machine whose GPU has no memory left."""

    def InferenceSession(self, path, options, providers):
        def run(names, feed):
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1024\nat x")

        def set_providers(names):
            del session.run, session.get_providers
            assert names == ["CPUExecutionProvider"]

        session = super().InferenceSession(path, options, providers)
        session.run, session.set_providers = run, set_providers
        return session


@pytest.mark.parametrize("beside_jax", [True, False])
def test_a_gpu_without_memory_leaves_the_rest_to_the_cpu(model, monkeypatch, beside_jax):
    volume = Volume(np.random.default_rng(0).random((24, 8, 8), np.float32), np.eye(4))
    expected = Predictor(model, batch_size=2).probabilities(volume)
    monkeypatch.setitem(sys.modules, "onnxruntime", FullGPU())
    if beside_jax:
        monkeypatch.setitem(sys.modules, "jax", object())
    else:
        monkeypatch.delitem(sys.modules, "jax", raising=False)
    predictor = Predictor(model, batch_size=2)
    with pytest.warns(UserWarning, match="smaller patches or batches need less memory") as warned:
        found = predictor.probabilities(volume)
    np.testing.assert_array_equal(found.data, expected.data)
    (message,) = [text for one in warned if "batches" in (text := str(one.message))]
    assert "CUDAExecutionProvider failed on a batch of shape (2, 1, 16, 16, 16)" in message
    assert ("XLA_CLIENT_MEM_FRACTION=.5" in message) == beside_jax
    assert message.endswith(": using CPUExecutionProvider")
    assert predictor.providers == ("CPUExecutionProvider",)
    predictor.predict(volume)  # warns no more


def test_the_cpu_is_used_with_batches_of_one_where_there_is_no_gpu(model):
    predictor = Predictor(model, providers=["CPUExecutionProvider"])
    assert predictor.providers == ("CPUExecutionProvider",)
    assert predictor._batch_size == 1


def test_threads_are_the_cores_that_the_process_may_use(model, monkeypatch):
    runtime = FakeRuntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6}, raising=False)
    Predictor(model)
    assert runtime.opened[1] == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    Predictor(model)
    assert runtime.opened[1] == 0  # onnxruntime's own choice
    monkeypatch.delattr(os, "sched_getaffinity")
    Predictor(model)
    assert runtime.opened[1] == 0


def test_memory_is_that_of_the_volume_and_one_batch(model):
    volume = Volume(np.zeros((64, 64, 48), np.float32), np.eye(4))
    predictor = Predictor(model, patch_size=(16, 16, 16), overlap=0.75, batch_size=8)
    tracemalloc.start()
    predictor.predict(volume)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The 13 · 13 · 9 patches together would take 32 times the volume.
    assert peak < 10 * volume.data.nbytes


def write_images(folder, names=("a", "b"), suffix=".nii.gz"):
    folder.mkdir()
    mask = lesion_of((20, 33, 9))
    for name in names:
        image = nibabel.Nifti1Image(mask.astype(np.float32), AFFINES["oblique"])
        image.to_filename(folder / f"{name}{suffix}")
    return find_images([folder])


def test_masks_are_written_under_the_names_of_the_images(model, tmp_path):
    cases = write_images(tmp_path / "images")
    written = Predictor(model).predict_files(cases, tmp_path / "deep" / "masks")
    assert [path.name for path in written] == ["a.nii.gz", "b.nii.gz"]
    assert sorted((tmp_path / "deep" / "masks").iterdir()) == written
    image = nibabel.load(written[0])
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), lesion_of((20, 33, 9)))
    np.testing.assert_allclose(image.affine, AFFINES["oblique"], atol=1e-5)


def test_masks_of_dicom_series_are_nifti_on_their_grid(tmp_path):
    model = write_model(tmp_path / "model.onnx", threshold=700)
    one = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")
    (tmp_path / "scan").mkdir()
    for k in range(3):
        one.ImagePositionPatient[2] += 4
        one.save_as(tmp_path / "scan" / f"IM{7 * k % 5}")
    cases = find_images([tmp_path / "scan"])
    predictor = Predictor(model)
    (path,) = predictor.predict_files(cases, tmp_path / "masks", probabilities=True)
    assert path.name == "scan.nii.gz"
    assert (tmp_path / "masks" / "scan_probabilities.nii.gz").is_file()
    mask, scan = read_volume(path), read_volume(tmp_path / "scan")
    np.testing.assert_array_equal(mask.data, scan.data > 700)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_probabilities_are_written_beside_the_masks(model, tmp_path, suffix):
    cases = write_images(tmp_path / "images", ("a",), suffix)
    Predictor(model).predict_files(cases, tmp_path / "masks", probabilities=True)
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == [f"a{suffix}", f"a_probabilities{suffix}"]
    data = np.squeeze(nibabel.load(tmp_path / "masks" / names[1]).get_fdata())
    np.testing.assert_allclose(data, lesion_of((20, 33, 9)), atol=1e-6)


def test_masks_of_2d_images_keep_their_format_and_probabilities_are_npy(tmp_path):
    model = write_model(tmp_path / "model.onnx", rank=2, threshold=100, classes=2)
    mask = lesion_of((40, 21, 1), (3, 5, 0), (6, 4, 1))[..., 0]
    Image.fromarray(200 * mask).save(tmp_path / "image.png")
    cases = find_images([tmp_path / "image.png"])
    (path,) = Predictor(model).predict_files(cases, tmp_path / "out", probabilities=True)
    assert path.name == "image.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), mask)
    probabilities = np.load(tmp_path / "out" / "image_probabilities.npy")
    np.testing.assert_allclose(probabilities[..., 1], mask, atol=1e-6)


def test_existing_masks_stay_unless_asked_and_no_work_is_done(model, tmp_path):
    cases = write_images(tmp_path / "images")
    out = tmp_path / "masks"
    out.mkdir()
    (out / "b.nii.gz").write_text("mine")
    predictor = Predictor(model)
    with pytest.raises(InputError, match=r"b\.nii\.gz: exists already.*--overwrite"):
        predictor.predict_files(cases, out)
    assert [path.name for path in out.iterdir()] == ["b.nii.gz"]
    assert (out / "b.nii.gz").read_text() == "mine"
    predictor.predict_files(cases, out, overwrite=True)
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(out / "b.nii.gz").dataobj), lesion_of((20, 33, 9))
    )


def test_images_are_never_overwritten_by_their_masks(model, tmp_path):
    cases = write_images(tmp_path / "images")
    before = (tmp_path / "images" / "a.nii.gz").read_bytes()
    with pytest.raises(InputError, match=r"a\.nii\.gz: is an image to segment"):
        Predictor(model).predict_files(cases, tmp_path / "images", overwrite=True)
    assert (tmp_path / "images" / "a.nii.gz").read_bytes() == before


def test_two_cases_of_one_name_and_a_file_for_a_folder_are_refused(model, tmp_path):
    (case, _) = write_images(tmp_path / "images")
    other = Case(case.name, (tmp_path / "images" / "b.nii.gz",), None)
    with pytest.raises(InputError, match=r"a\.nii\.gz: would be written for 'a' and 'a'"):
        Predictor(model).predict_files([case, other], tmp_path / "masks")
    with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be made a folder"):
        Predictor(model).predict_files([case], case.images[0])


def test_an_unreadable_image_is_named_and_leaves_no_mask(model, tmp_path):
    (case, _) = write_images(tmp_path / "images")
    case.images[0].write_bytes(case.images[0].read_bytes()[:-40])
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        Predictor(model).predict_files([case], tmp_path / "masks")
    assert list((tmp_path / "masks").iterdir()) == []


WITHOUT_JAX = """
import sys
for name in ("jax", "flax", "onnx", "jax2onnx"):
    sys.modules[name] = None
from segjax_onnx import Predictor
print(Predictor(sys.argv[1]).predict(sys.argv[2]).data.sum())
"""


def seen_heads(spacing=(1.0, 1.0, 1.0)):
    grid = Grid((20, 20, 20), np.diag([*spacing, 1.0]))
    return seen_in([Sight(grid, grid, ((0.0, 1.0),))])


def write_image(path, affine, shape=(20, 33, 9), factor=1.0):
    data = np.linspace(0, 0.4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    data = np.where(lesion_of(shape), np.float32(1), data) * np.float32(factor)
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


def test_images_like_those_of_the_training_go_through_without_a_word(tmp_path, recwarn):
    model = write_model(tmp_path / "model.onnx", seen=seen_heads())
    path = write_image(tmp_path / "a.nii.gz", AFFINES["oblique"])
    Predictor(model, strict=True).predict(path)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("affine", "factor", "words"),
    [
        (affine_of(np.eye(3), (0.43, 0.43, 6.5)), 1, r"voxels of 0\.43 × 0\.43 × 6\.5 mm are far"),
        (affine_of(np.eye(3)), 9, r"intensities after preprocessing, 0.* are far from 0 to 1"),
    ],
)
def test_images_far_from_the_training_are_said_and_refused_if_strict(
    tmp_path, affine, factor, words
):
    model = write_model(tmp_path / "model.onnx", seen=seen_heads())
    path = write_image(tmp_path / "a.nii.gz", affine, factor=factor)
    with pytest.warns(UserWarning, match=rf"a\.nii\.gz: its {words}.*the mask may be wrong"):
        Predictor(model).predict(path)
    with pytest.raises(InputError, match=rf"a\.nii\.gz: its {words}.*as --strict asks"):
        Predictor(model, strict=True).predict(path)


def test_files_that_hold_no_spacing_are_named(tmp_path, recwarn):
    older = write_model(tmp_path / "older.onnx")
    path = write_image(tmp_path / "a.nii.gz", AFFINES["RAS"])
    predictor = Predictor(older)
    with pytest.warns(UserWarning, match=r"older\.onnx: holds no spacing"):
        predictor.predict(path)
    recwarn.clear()
    predictor.predict(path)
    assert not recwarn.list
    with pytest.raises(InputError, match=r"older\.onnx: holds no .*refused"):
        Predictor(older, strict=True).predict(path)
    recwarn.clear()
    resampling = [{"step": "resample", "spacing": [1, 1, 1]}]
    resampled = Predictor(write_model(tmp_path / "r.onnx", pipeline=resampling), strict=True)
    resampled.predict(path)
    thick = write_image(tmp_path / "thick.nii.gz", affine_of(np.eye(3), (1, 1, 6.5)))
    with pytest.raises(InputError, match=r"voxels of 1 × 1 × 6\.5 mm are far from 1 × 1 × 1 mm"):
        resampled.predict(thick)
    Image.fromarray(lesion_of((20, 33, 5))[..., 2]).save(tmp_path / "a.png")
    Predictor(write_model(tmp_path / "2d.onnx", rank=2), strict=True).predict(tmp_path / "a.png")
    assert not recwarn.list


def sheared():
    affine = affine_of(np.eye(3), (1, 1, 3))
    affine[1, 2] = 1.5
    return affine


def test_a_tilt_is_said_and_resampling_gives_an_upright_mask(tmp_path):
    model = write_model(tmp_path / "model.onnx", seen=seen_heads((1, 1, 3)))
    case = Case("a", (write_image(tmp_path / "a.nii.gz", sheared()),))
    with pytest.warns(UserWarning, match=r"a\.nii\.gz: slices are tilted, 26\.6°.*--resample"):
        (mask,) = Predictor(model).predict_files([case], tmp_path / "masks")
    found = read_volume(mask)
    assert np.allclose(found.affine, sheared(), atol=1e-5)
    (mask,) = Predictor(model).predict_files([case], tmp_path / "upright", resample=True)
    upright = read_volume(mask)
    assert tilt(upright.affine) < 1e-3
    assert upright.voxel_size == pytest.approx(3)
    centres = [
        volume.affine[:3] @ [*np.argwhere(volume.data).mean(axis=0), 1]
        for volume in (found, upright)
    ]
    assert centres[0] == pytest.approx(centres[1], abs=0.6)


def test_a_map_has_the_forms_of_the_header_that_its_mask_has(model, tmp_path):
    image = nibabel.Nifti1Image(np.zeros((8, 9, 10), np.float32), AFFINES["RAS"])
    moved = AFFINES["RAS"].copy()
    moved[:3, 3] += (-10, 5, 3)
    image.set_qform(moved, 1)
    image.set_sform(AFFINES["RAS"], 2)
    image.to_filename(tmp_path / "a.nii.gz")
    case = Case("a", (tmp_path / "a.nii.gz",))
    Predictor(model).predict_files([case], tmp_path / "out", probabilities=True)
    for name in ("a.nii.gz", "a_probabilities.nii.gz"):
        header = nibabel.load(tmp_path / "out" / name).header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 2)
        assert np.allclose(header.get_qform(), moved, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a.nrrd", "a.seg.nrrd"), ("a.mha", "a.nrrd"), ("a.nii", "a.nii"), ("a.NII.gz", "a.NII.gz")],
)
def test_masks_have_a_format_that_is_written_whatever_the_image_has(model, tmp_path, image, mask):
    from segjax_onnx.predict.outputs import output_files

    assert output_files(Case("a", (tmp_path / image,)), "out")[0].name == mask
    assert output_files(Case("a", (tmp_path / image,)), "out", ".nrrd")[0].name == "a.nrrd"
    with pytest.raises(InputError, match=r"format \.mha: masks are written as \.nii"):
        output_files(Case("a", (tmp_path / image,)), "out", ".mha")


def test_masks_of_nrrd_images_are_segments_with_names(tmp_path):
    model = write_model(tmp_path / "model.onnx", labels=("background", "MS lesion"))
    volume = read_volume(write_image(tmp_path / "a.nii.gz", AFFINES["oblique"]))
    write_volume(volume, tmp_path / "a.nrrd")
    case = Case("a", (tmp_path / "a.nrrd",))
    (mask,) = Predictor(model).predict_files([case], tmp_path / "out", probabilities=True)
    assert mask.name == "a.seg.nrrd"
    assert segment_names(mask) == ("MS lesion",)
    assert np.array_equal(read_volume(mask).data, lesion_of((20, 33, 9)))
    assert np.allclose(read_volume(mask).affine, AFFINES["oblique"], atol=1e-4)
    assert read_volume(tmp_path / "out" / "a_probabilities.nrrd").spatial_shape == (20, 33, 9)


def test_prediction_needs_no_jax(model, tmp_path):
    (case, _) = write_images(tmp_path / "images")
    command = [sys.executable, "-c", WITHOUT_JAX, str(model), str(case.images[0])]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(printed) == 6 * 4 * 3 - 1


# -- rules and uncertainty -----------------------------------------------------------------------


def graded(shape=(9, 8, 7)):
    """An image whose voxels have all probabilities, as `write_model` makes them."""
    return Volume(np.linspace(0.4, 0.6, int(np.prod(shape))).reshape(shape), np.eye(4))


def write_shifted(path, threshold, **changes):
    return write_model(path, classes=2, threshold=threshold, seen=None, **changes)


def test_masks_follow_the_rules_of_the_file_and_then_those_that_are_set(tmp_path):
    rules = (LabelRule(threshold=0.9),)
    predictor = Predictor(write_shifted(tmp_path / "a.onnx", 0.5, postprocessing=rules))
    foreground = predictor.probabilities(graded()).data[..., 1]
    np.testing.assert_array_equal(predictor.predict(graded()).data, foreground >= 0.9)
    predictor.postprocessing = [LabelRule(threshold=0.2)]
    np.testing.assert_array_equal(predictor.predict(graded()).data, foreground >= 0.2)
    predictor.postprocessing = ()
    np.testing.assert_array_equal(predictor.predict(graded()).data, foreground > 0.5)
    with pytest.raises(InputError, match="2 rules for 1 label"):
        predictor.postprocessing = [LabelRule()] * 2


@pytest.mark.parametrize("moved", [False, True])
def test_uncertainty_is_the_deviation_of_the_answers_apart(tmp_path, moved):
    steps = [{"step": "resample", "spacing": [0.8, 1.0, 1.1]}] if moved else []
    paths = [
        write_shifted(tmp_path / f"{n}.onnx", threshold, pipeline=steps[: n != 1])
        for n, threshold in enumerate((0.45, 0.5, 0.51))
    ]
    alone = np.stack([Predictor(path).probabilities(graded()).data for path in paths])
    mean, spread = Predictor(paths).uncertainty(graded())
    assert spread.data.dtype == np.float32
    np.testing.assert_allclose(mean.data, alone.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(spread.data, alone[..., 1].std(axis=0), atol=1e-6)
    assert spread.data.max() > 0.2


def test_mirrored_copies_are_answers_too_and_agree_where_the_network_is_symmetric(tmp_path):
    path = write_shifted(tmp_path / "a.onnx", 0.5)
    _, spread = Predictor(path, mirror_axes=(0, 2)).uncertainty(graded())
    assert spread.data.max() < 1e-6


def test_one_answer_has_no_uncertainty(model, tmp_path):
    with pytest.raises(InputError, match="uncertainty is how far several answers differ"):
        Predictor(model).uncertainty(graded())
    with pytest.raises(InputError, match="one network gives one"):
        Predictor(model).predict_files([], tmp_path, uncertainty=True)


def test_the_map_of_uncertainty_lies_beside_the_mask(tmp_path):
    write_volume(graded(), tmp_path / "scan.nii.gz")
    paths = [write_shifted(tmp_path / f"{t}.onnx", t) for t in (0.45, 0.55)]
    images = find_images([tmp_path / "scan.nii.gz"])
    Predictor(paths).predict_files(images, tmp_path / "out", uncertainty=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "scan.nii.gz",
        "scan_uncertainty.nii.gz",
    }
    _, spread = Predictor(paths).uncertainty(tmp_path / "scan.nii.gz")
    written = read_volume(tmp_path / "out" / "scan_uncertainty.nii.gz")
    np.testing.assert_array_equal(written.data, spread.data)


# -- channels that may be missing ----------------------------------------------------------------


@pytest.fixture(scope="module")
def optional(tmp_path_factory):
    """A network that marks where channel 0 is over -0.5, of images rescaled to [-2, 2]."""
    return write_model(
        tmp_path_factory.mktemp("optional") / "model.onnx",
        channels=2,
        threshold=-0.5,
        pipeline=[{"step": "rescale", "low": -2, "high": 2}],
        seen=Seen((1.0,) * 3, (1.0,) * 3, (1.0,) * 3, "RAS", ((-2.0, 2.0),) * 2, (4.0, 4.0)),
        optional_channels=("channel 0", "channel 1"),
    )


def test_a_missing_channel_is_zero_after_the_preprocessing(optional, recwarn):
    predictor = Predictor(optional)
    image = graded((8, 8, 8))
    both = image.with_data(np.stack([image.data, image.data], axis=-1))
    assert 0.3 < predictor.predict(both).data.mean() < 0.7
    predictor.missing = ["channel 0"]
    assert predictor.predict(image).data.all()
    assert predictor.predict(image.data).data.all()
    assert not recwarn.list
    with pytest.raises(InputError, match="2 channels; the network takes 1"):
        predictor.predict(both)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["t2"], "unknown optional channel 't2': known are channel 0, channel 1"),
        (["channel 0", "channel 1"], "all are missing"),
    ],
)
def test_channels_that_may_not_be_missing_are_told(optional, names, message):
    with pytest.raises(InputError, match=message):
        Predictor(optional).missing = names


def test_windows_beside_one_another_give_what_they_give_one_by_one(tmp_path):
    path = write_model(tmp_path / "two.onnx")
    image = np.random.default_rng(0).standard_normal((24, 20, 16), np.float32)
    one, two = (Predictor(path, threads=count) for count in (1, 2))
    assert [p._networks[0].at_once for p in (one, two)] == [1, 2]
    assert two._networks[0].session.get_session_options().intra_op_num_threads == 1
    np.testing.assert_array_equal(two.probabilities(image).data, one.probabilities(image).data)
