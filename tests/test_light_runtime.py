"""From NIfTI to masks and their measures with onnxruntime and the base alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, CropToForeground, Reorient, Resample, ZScore
from segjax.volume import Volume
from tests.geometry import noise, rigid
from tests.test_lean_machine import PROGRAM, ROOT, write_threshold

STEPS = (
    Reorient("RAS"),
    Resample((0.8, 0.9, 1.0)),
    CropToForeground(),
    CropOrPad((24, 24, 24)),
    ZScore(),
)


def run(*arguments):
    path = os.pathsep.join([str(ROOT), str(ROOT / "export")])
    return subprocess.run(
        [sys.executable, PROGRAM, "command", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold a network that resamples, and an image that is oblique to it, one that is not."""
    made = tmp_path_factory.mktemp("light")
    write_threshold(made / "model.onnx", Pipeline(STEPS).to_json())
    affine = rigid((0, 0, 0), (1.3, 1.0, 2.0), flips=(-1, 1, 1))
    write_volume(Volume(noise((17, 22, 12)).astype(np.float32), affine), made / "upright.nii.gz")
    tilted = rigid((10, -5, 20), (1.3, 1.0, 2.0))
    write_volume(Volume(noise((17, 22, 12)).astype(np.float32), tilted), made / "tilted.nii.gz")
    return made


@pytest.mark.parametrize(("name", "options"), [("upright", []), ("tilted", ["--resample"])])
def test_masks_are_those_of_a_full_installation(folder, tmp_path, name, options):
    inputs = [str(folder / "model.onnx"), str(folder / f"{name}.nii.gz"), *options]
    done = run("predict", *inputs, "-o", tmp_path / "light")
    assert done.returncode == 0, done.stderr
    assert main(["predict", *inputs, "-o", str(tmp_path / "full")]) == 0
    light, full = (read_volume(tmp_path / way / f"{name}.nii.gz") for way in ("light", "full"))
    np.testing.assert_array_equal(light.data, full.data)
    np.testing.assert_array_equal(light.affine, full.affine)
    assert 0.1 < light.data.mean() < 0.9


def test_lesions_are_counted(folder, tmp_path):
    mask = read_volume(folder / "upright.nii.gz")
    for way in ("truth", "prediction"):
        file = tmp_path / way / "a.nii.gz"
        file.parent.mkdir()
        write_volume(mask.with_data((mask.data > 60).astype(np.uint8)), file)
    done = run("evaluate", tmp_path / "prediction", tmp_path / "truth", "--lesions")
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout


def test_pictures_say_which_extra_reads_them(folder, tmp_path):
    picture = Volume(np.eye(8, dtype=np.uint8), np.eye(3))
    write_volume(picture, tmp_path / "a.png")
    done = run("predict", folder / "model.onnx", tmp_path / "a.png", "-o", tmp_path / "masks")
    assert done.returncode == 1
    assert "reading PNG needs PIL: pip install" in done.stderr
    assert '".[prepare]"' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "info"])
def test_dicom_says_which_extra_reads_it(command, folder, tmp_path):
    (tmp_path / "scan").mkdir()
    for name in ("a", "b"):
        head = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0"
        (tmp_path / "scan" / f"{name}.dcm").write_bytes(head)
    inputs = {"predict": [folder / "model.onnx", tmp_path / "scan", "-o", tmp_path / "masks"]}
    done = run(command, *inputs.get(command, [tmp_path / "scan"]))
    assert done.returncode == 1
    assert done.stderr.count("reading DICOM needs pydicom: pip install") == 1
    assert '".[dicom]"' in done.stderr


def test_training_says_which_extra_it_needs(folder, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name in "abc":
            volume = Volume(np.ones((8, 8, 8), np.uint8), np.eye(4))
            write_volume(volume, tmp_path / kind / f"{name}.nii.gz")
    done = run("train", "--data", tmp_path, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "segjax train needs jax: pip install" in done.stderr
    assert '".[train]"' in done.stderr
