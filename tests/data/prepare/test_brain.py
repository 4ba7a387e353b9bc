"""Brain extraction: every way, up to the boundary of what is not installed here."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segjax.data.io.formats import read_volume
from segjax.data.io.nifti import read_nifti, write_nifti
from segjax.data.phantom.dataset import phantom
from segjax.data.phantom.head import Tissue, draw_head
from segjax.data.prepare import brain_surface as _brain_surface
from segjax.data.prepare import hd_bet as _hd_bet
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.grid import Grid, grid, reorient
from segjax.registry import register, registry
from segjax.volume import Volume

SHAPE = (80, 100, 96)


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def head():
    """Return a phantom of natural size, with skull and scalp, and where its brain is."""
    image, _ = phantom(1, shape=SHAPE, spacing=2.0)
    tissue = draw_head(np.random.default_rng(1), SHAPE).tissue
    cells = np.pad(np.isin(tissue, (Tissue.GREY, Tissue.WHITE)), 6)
    closed = ndimage.binary_closing(cells, iterations=3)
    return image, ndimage.binary_fill_holes(closed)[6:-6, 6:-6, 6:-6]


# -- classical ----------------------------------------------------------------------------------


def test_the_brain_of_a_head_is_found(head):
    image, truth = head
    mask = extract_brain(image)
    assert (mask.data.shape, mask.data.dtype) == (SHAPE, np.uint8)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert dice(mask.data > 0, truth) > 0.88
    assert (mask.data[truth] > 0).mean() > 0.93


def test_what_takes_a_while_is_said(monkeypatch):
    said = []

    def track(steps, description, *, unit):
        said.append(description)
        return steps

    monkeypatch.setattr("segjax.data.prepare.brain.track", track)
    extract_brain(phantom(0, shape=(40, 50, 48), spacing=4.0)[0])
    assert said == ["Extracting the brain"]


@pytest.mark.parametrize("code", ["LPI", "SAR"])
def test_orientation_does_not_matter(head, code):
    image, _ = head
    turned = extract_brain(reorient(image, code))
    straight = extract_brain(image)
    assert dice(reorient(turned, "RAS").data > 0, straight.data > 0) > 0.995


def test_oblique_thick_slices_come_back_on_their_grid(head):
    image, truth = head
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (12, -8, 10), degrees=True).as_matrix()
    affine[:3, :3] = turn * (1.5, 1.5, 6.0)
    affine[:3, 3] = -affine[:3, :3] @ (54, 66, 16)
    thick = Grid((109, 133, 33), affine)
    mask = extract_brain(resample(image, thick))
    wanted = resample(image.with_data(truth.astype(np.uint8)), thick, interpolation="nearest")
    assert mask.spatial_shape == thick.shape
    np.testing.assert_array_equal(mask.affine, affine)
    assert dice(mask.data > 0, wanted.data > 0) > 0.85


def test_a_strong_bias_field_is_survived(head):
    image, truth = head
    drift = np.exp(np.linspace(-0.4, 0.4, SHAPE[0]))[:, None, None]
    mask = extract_brain(image.with_data((image.data * drift).astype(np.float32)))
    assert dice(mask.data > 0, truth) > 0.85


def test_an_extracted_brain_is_left_as_it_is(head):
    image, truth = head
    extracted = image.with_data(image.data * truth)
    largest = extract_brain(extracted, "zero-background").data
    np.testing.assert_array_equal(extract_brain(extracted).data, largest)
    assert dice(largest > 0, truth) > 0.99


def test_a_head_on_a_background_of_zeros_is_still_a_head(head):
    image, truth = head
    skin = ndimage.binary_fill_holes(image.data > 0.1 * image.data.max())
    mask = extract_brain(image.with_data(image.data * skin))
    assert dice(mask.data > 0, truth) > 0.85


@pytest.mark.parametrize(("patient", "name"), [("patient07", "flair"), ("patient19", "t1")])
def test_real_extracted_brains_are_left_as_they_are(data_dir, patient, name):
    volume = read_volume(data_dir / "ms_lesions" / patient / f"{name}.nii.gz")
    truth = ndimage.binary_fill_holes(volume.data != 0)
    assert dice(extract_brain(volume).data > 0, truth) > 0.999


def test_the_balloon_finds_a_real_brain_without_the_zeros(data_dir):
    volume = read_volume(data_dir / "ms_lesions" / "patient07" / "flair.nii.gz")
    mask = _brain_surface.brain_inside(volume)
    truth = volume.with_data(ndimage.binary_fill_holes(volume.data != 0).astype(np.uint8))
    wanted = resample(truth, grid(mask), interpolation="nearest")
    assert dice(mask.data, wanted.data > 0) > 0.95


def test_a_real_head_with_thick_oblique_slices(data_dir):
    """The volume inside a tumour patient's skull is plausible, and dark air is no brain."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data_dir / "dicom/flair_oblique")))
    image = reader.Execute()[::2, ::2]
    affine = np.eye(4)
    flip = np.diag([-1.0, -1.0, 1.0])
    affine[:3, :3] = flip @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = flip @ image.GetOrigin()
    volume = Volume(sitk.GetArrayFromImage(image).T, affine)
    mask = extract_brain(volume).data > 0
    assert 1200 < mask.sum() * np.prod(volume.spacing) / 1000 < 2000
    assert (volume.data[mask] > 20).mean() > 0.95


@pytest.mark.parametrize(
    ("shape", "spacing"), [((64, 64), 2.0), ((64, 64, 1), 2.0), ((30, 30, 30), 1.0)]
)
def test_what_is_no_head_is_refused(shape, spacing):
    image = Volume(np.ones(shape), np.diag([*[spacing] * len(shape), 1.0]))
    for method in ("classical", "hd-bet"):
        with pytest.raises(InputError, match=r"is no whole head: .* at least 50 mm"):
            extract_brain(image, method)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_image_of_one_value_has_no_brain(value):
    with pytest.raises(InputError, match="no brain was found"):
        extract_brain(Volume(np.full((40, 40, 40), value), np.diag([2.0, 2, 2, 1])))


def test_a_bright_speck_is_no_brain():
    data = np.random.default_rng(0).uniform(0, 1e-3, (40, 40, 40))
    data[20, 20, 20] = 5
    with pytest.raises(InputError, match="no brain was found"):
        extract_brain(Volume(np.where(data > 1, data, 0), np.diag([2.0, 2, 2, 1])))


# -- the other ways -----------------------------------------------------------------------------


def test_zero_background_is_the_largest_piece_with_its_holes():
    data = np.zeros((9, 9, 2), np.int16)
    data[1:6, 1:6] = -3  # negative values are no background
    data[3, 3] = 0
    data[8, 8] = 9
    expected = np.zeros((9, 9), np.uint8)
    expected[1:6, 1:6] = 1
    image = Volume(data[..., 0], np.eye(3))
    np.testing.assert_array_equal(extract_brain(image, "zero-background").data, expected)


def test_the_chosen_channel_counts():
    data = np.zeros((6, 6, 2))
    data[:2, :, 0], data[3:, :, 1] = 1, 1
    image = Volume(data, np.eye(3))
    first = extract_brain(image, "zero-background").data
    second = extract_brain(image, "zero-background", channel=1).data
    np.testing.assert_array_equal(first, data[..., 0])
    np.testing.assert_array_equal(second, data[..., 1])
    with pytest.raises(InputError, match="channel 2: the image has 2"):
        extract_brain(image, channel=2)


def test_masks_and_functions_are_taken():
    image = Volume(np.arange(12.0).reshape(3, 4), np.eye(3))
    given = image.with_data(np.where(image.data > 5, 2, 0))
    by_function = extract_brain(image, lambda volume, channel: volume.with_data(volume.data > 5))
    np.testing.assert_array_equal(extract_brain(image, given).data, image.data > 5)
    np.testing.assert_array_equal(by_function.data, image.data > 5)
    with pytest.raises(InputError, match=r"mask has shape \(4, 3\), the image \(3, 4\)"):
        extract_brain(image, Volume(np.ones((4, 3)), np.eye(3)))
    with pytest.raises(InputError, match="no brain was found"):
        extract_brain(image, image.with_data(np.zeros((3, 4))))


def test_a_registered_extractor_is_a_method_of_the_pipeline(monkeypatch):
    monkeypatch.setattr(registry("extractor"), "_things", {**registry("extractor")._things})

    @register("extractor", "bright")
    def bright(image, *, channel, over=5):
        return image.with_data(image.channels_last[..., channel] > over)

    image = Volume(np.arange(12.0).reshape(3, 4), np.eye(3))
    pipeline = Pipeline.from_json([{"step": "brain-extraction", "method": "bright"}])
    expected = image.data * (image.data > 5)
    np.testing.assert_array_equal(pipeline.apply(image).data[..., 0], expected)
    np.testing.assert_array_equal(extract_brain(image, "bright", over=7).data, image.data > 7)
    with pytest.raises(InputError, match=r"the brain extractor returns .* not ndarray"):
        extract_brain(image, lambda image, *, channel: image.data > 5)


def test_a_network_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"nowhere\.onnx"):
        extract_brain(Volume(np.ones((3, 4)), np.eye(3)), "nowhere.onnx")


def test_unknown_methods_and_values_are_refused():
    with pytest.raises(InputError, match="method 'bet': give one of classical, hd-bet, zero-back"):
        extract_brain(Volume(np.ones((3, 4)), np.eye(3)), "bet")
    with pytest.raises(InputError, match="NaN or infinite"):
        extract_brain(Volume(np.full((3, 4), np.nan), np.eye(3)))


# -- HD-BET -------------------------------------------------------------------------------------

HELP = {
    2: "usage: hd-bet -i INPUT [-o OUTPUT] [-device DEVICE] [--disable_tta] [--save_bet_mask] "
    "[--no_bet_image] [--verbose]",
    1: "usage: hd-bet -i INPUT [-o OUTPUT] [-mode MODE] [-device DEVICE] [-tta TTA] [-pp PP] "
    "[-s SAVE_MASK]",
}
STAND_IN = """#!{python}
import json, sys
from pathlib import Path
if "--help" in sys.argv:
    print({help!r})
    sys.exit()
Path({log!r}).write_text(json.dumps(sys.argv[1:]))
if {fail!r}:
    sys.exit({fail!r})
import nibabel, numpy
source = sys.argv[sys.argv.index("-i") + 1]
target = sys.argv[sys.argv.index("-o") + 1]
image = nibabel.load(source)
mask = (numpy.asarray(image.dataobj) > 500).astype("uint8")
if {leave!r}:
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), target[:-7] + {end!r} + ".nii.gz")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a stand-in for ``hd-bet`` on the search path; return what it was called with."""

    def install(version, fail="", leave=True, end=None, gpu=False):
        log, command = tmp_path / "log.json", tmp_path / "bin" / "hd-bet"
        command.parent.mkdir(exist_ok=True)
        end = end or {1: "_mask", 2: "_bet"}[version]
        parts = {"python": sys.executable, "help": HELP[version], "log": str(log)}
        command.write_text(STAND_IN.format(**parts, fail=fail, leave=leave, end=end))
        command.chmod(command.stat().st_mode | stat.S_IEXEC)
        if gpu:
            (tmp_path / "bin" / "nvidia-smi").touch()
            (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        _hd_bet._help.cache_clear()
        return lambda: json.loads(log.read_text())

    if os.name == "nt":
        pytest.skip("the stand-in is a script of Unix")
    return install


def flair():
    data = np.random.default_rng(0).uniform(0, 1000, (30, 32, 34)).astype(np.float32)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (31.25, -12, 7)
    return Volume(data, affine)


@pytest.mark.parametrize(
    ("version", "device", "expected"),
    [
        (2, "cpu", ["-device", "cpu", "--save_bet_mask", "--no_bet_image", "--disable_tta"]),
        (2, "cuda", ["-device", "cuda", "--save_bet_mask", "--no_bet_image"]),
        (1, "cpu", ["-device", "cpu", "-mode", "fast", "-tta", "0", "-s", "1"]),
        (1, "cuda", ["-device", "0", "-mode", "accurate", "-tta", "1", "-s", "1"]),
    ],
)
def test_the_command_is_called_as_its_version_wants(installed, version, device, expected):
    called = installed(version)
    image = flair()
    mask = extract_brain(image, "hd-bet", device=device)
    np.testing.assert_array_equal(mask.data, image.data > 500)
    np.testing.assert_array_equal(mask.affine, image.affine)
    options = called()
    assert options[0] == "-i"
    assert options[2] == "-o"
    assert options[1].endswith(".nii.gz")
    assert options[3].endswith(".nii.gz")
    assert options[4:] == expected


@pytest.mark.parametrize(("gpu", "device"), [(False, "cpu"), (True, "cuda")])
def test_a_gpu_is_used_where_there_is_one(installed, gpu, device):
    called = installed(2, gpu=gpu)
    extract_brain(flair(), "hd-bet")
    assert called()[5] == device


def test_only_the_chosen_channel_goes_to_the_command(installed):
    installed(2)
    image = flair()
    both = image.with_data(np.stack([image.data * 0, image.data], -1))
    mask = extract_brain(both, "hd-bet", channel=1)
    np.testing.assert_array_equal(mask.data, image.data > 500)


def test_a_failing_command_is_quoted(installed):
    installed(2, fail="CUDA out of memory")
    with pytest.raises(InputError, match="hd-bet failed with exit status 1: CUDA out of memory"):
        extract_brain(flair(), "hd-bet")


def test_a_command_that_writes_nothing_is_reported(installed):
    installed(2, leave=False)
    with pytest.raises(InputError, match="HD-BET wrote no mask"):
        extract_brain(flair(), "hd-bet")


def test_how_to_get_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"pip install hd-bet.* weights are downloaded on first"):
        extract_brain(flair(), "hd-bet")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a stand-in for the package ``HD_BET`` on Python's path; return its folder."""
    folder = tmp_path / "packages" / "HD_BET"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(str(folder.parent))
    _hd_bet._predictor.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "HD_BET"]:
        del sys.modules[name]
    _hd_bet._predictor.cache_clear()


SAVE = """
from segjax.data.io.nifti import read_nifti, write_nifti
calls = []
def save(source, target, end):
    image = read_nifti(source)
    write_nifti(image.with_data((image.data > 500).astype("uint8")), target[:-7] + end)
"""


@pytest.mark.peer("torch")
def test_the_package_of_version_2_is_called(package):
    (package / "checkpoint_download.py").write_text(
        "calls = []\ndef maybe_download_parameters():\n    calls.append('weights')\n"
    )
    (package / "hd_bet_prediction.py").write_text(
        SAVE
        + """
def get_hdbet_predictor(use_tta=False, device=None, verbose=False):
    calls.append((use_tta, str(device)))
    return "predictor"
def hdbet_predict(source, target, predictor, keep_brain_mask=False,
                  compute_brain_extracted_image=True):
    calls.append((predictor, keep_brain_mask, compute_brain_extracted_image))
    save(source, target, "_bet.nii.gz")
"""
    )
    for _ in range(2):  # the network is loaded once
        mask = extract_brain(flair(), "hd-bet", device="cpu")
    np.testing.assert_array_equal(mask.data, flair().data > 500)
    prediction = sys.modules["HD_BET.hd_bet_prediction"]
    once = ("predictor", True, False)
    assert prediction.calls == [(False, "cpu"), once, once]
    assert sys.modules["HD_BET.checkpoint_download"].calls == ["weights"]


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ("fast", "cpu", False)), ("cuda", ("accurate", 0, True))]
)
def test_the_package_of_version_1_is_called(package, device, expected):
    (package / "run.py").write_text(
        SAVE
        + """
def run_hd_bet(source, target, mode="accurate", config_file="", device=0, postprocess=False,
               do_tta=True, keep_mask=True, overwrite=True):
    calls.append((mode, device, do_tta))
    save(source, target, "_mask.nii.gz")
"""
    )
    mask = extract_brain(flair(), "hd-bet", device=device)
    np.testing.assert_array_equal(mask.data, flair().data > 500)
    assert sys.modules["HD_BET.run"].calls == [expected]


def test_errors_of_the_package_are_quoted(package):
    (package / "run.py").write_text(
        "def run_hd_bet(*args, **options):\n    raise RuntimeError('no weights\\nmore')\n"
    )
    with pytest.raises(InputError, match=r"HD-BET failed: no weights$"):
        extract_brain(flair(), "hd-bet", device="cpu")


def test_the_stand_in_reads_what_is_written(tmp_path):
    """The file that HD-BET gets is a NIfTI of the image, at its place."""
    image = flair()
    write_nifti(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii.gz").affine, image.affine)


def test_importing_the_module_imports_no_network():
    program = (
        "import sys, segjax.data.prepare.brain; print('torch' in sys.modules, 'jax' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert out == "False False\n"
