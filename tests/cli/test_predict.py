"""Segmenting images of two channels from the command line."""

from pathlib import Path

import nibabel
import numpy as np
import onnx
import pydicom
import pytest

from segjax.cli import main
from segjax.cli.parsing import parse
from segjax.cli.predict import Predict
from segjax.errors import InputError
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from tests.data.io.dicom.made import MARK, write_made

SHAPE = (8, 8, 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network that marks where its first channel exceeds its second one."""
    weights = np.array([50, -50], np.float32).reshape(1, 2, 1, 1, 1)
    nodes = [
        onnx.helper.make_node("Conv", ["image", "weights"], ["logits"]),
        onnx.helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size, *"xyz"])]
        for name, size in (("image", 2), ("probabilities", 1))
    )
    weight = onnx.numpy_helper.from_array(weights, "weights")
    graph = onnx.helper.make_graph(nodes, "order", inputs, outputs, [weight])
    opsets = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    metadata = ModelMetadata(
        "order", ("background", "lesion"), "sigmoid", 3, 2, SHAPE, 0.5, 1, 1, [], "0.1.0"
    )
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json()})
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Return folders of patients; in p1 FLAIR is brighter than T1 in one half, in p2 nowhere."""
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
        for name, value in (("flair", 1.0), ("t1", 2.0)):
            data = np.full(SHAPE, value, np.float32)
            data[:4] += 2 * (patient == "p1" and name == "flair")
            nibabel.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / patient / f"{name}.nii.gz")
    return tmp_path


def volume_of(mask: Path) -> int:
    return int(np.asarray(nibabel.load(mask).dataobj).sum())


def test_two_files_are_the_channels_in_the_order_given(model, patients, tmp_path, capsys):
    flair, t1 = (str(patients / "p1" / f"{name}.nii.gz") for name in ("flair", "t1"))
    assert main(["predict", str(model), flair, t1, "-o", str(tmp_path / "a")]) == 0
    assert f"channelsofflair0:{flair},1:{t1}" in "".join(capsys.readouterr().out.split())
    assert volume_of(tmp_path / "a" / "flair.nii.gz") == 4 * 8 * 8
    assert main(["predict", str(model), t1, flair, "-o", str(tmp_path / "b")]) == 0
    assert volume_of(tmp_path / "b" / "t1.nii.gz") == 4 * 8 * 8
    assert f"0:{t1},1:{flair}" in "".join(capsys.readouterr().out.split())


def test_files_of_several_patients_are_found_by_name(model, patients, tmp_path, capsys):
    names = ["--images", "flair.nii.gz", "t1.nii.gz"]
    command = ["predict", str(model), str(patients), *names, "-o", str(tmp_path / "masks")]
    assert main(command) == 0
    masks = {mask.name: volume_of(mask) for mask in (tmp_path / "masks").glob("*.nii.gz")}
    assert masks == {"p1.nii.gz": 4 * 8 * 8, "p2.nii.gz": 0}
    assert "channels of p1" in capsys.readouterr().out


def test_files_of_several_patients_in_a_row_are_refused(model, patients, tmp_path, capsys):
    files = [str(file) for file in sorted(patients.rglob("*.nii.gz"))]
    assert main(["predict", str(model), *files, "-o", str(tmp_path / "masks")]) == 1
    assert "flair.nii.gz: is one channel, but the network takes 2" in capsys.readouterr().err


def test_folders_that_names_swallowed_are_asked_for(model, patients, tmp_path, capsys):
    names = ["--images", "flair.nii.gz", "t1.nii.gz", str(patients)]
    assert main(["predict", str(model), *names, "-o", str(tmp_path / "masks")]) == 1
    assert "name folders of subjects too, before --images" in capsys.readouterr().err


def asked(*options: str) -> Predict:
    """Return what a command line asks for."""
    command = parse(["predict", "model.onnx", "flair.nii.gz", "-o", "masks", *options])
    assert isinstance(command, Predict)
    return command


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ((), {}),
        (("--threshold", "0.4"), {None: {"threshold": 0.4}}),
        (
            ("--threshold", "0.4", "a=b=0.3", "--minimum-volume", "lesion=14.1"),
            {
                None: {"threshold": 0.4},
                "a=b": {"threshold": 0.3},
                "lesion": {"minimum_volume": 14.1},
            },
        ),
        (
            ("--largest-component", "--fill-holes", "lesion"),
            {None: {"largest_component": True}, "lesion": {"fill_holes": True}},
        ),
    ],
)
def test_rules_are_given_for_all_labels_or_by_name(options, changes):
    assert asked(*options).changes() == changes


def test_a_rule_without_a_number_says_what_is_wanted():
    with pytest.raises(InputError, match="--minimum-volume lesion=much: give a number, or LABEL="):
        asked("--minimum-volume", "lesion=much").changes()


def test_rules_change_the_mask_and_the_table(model, patients, tmp_path, capsys):
    files = [str(patients / "p1" / f"{name}.nii.gz") for name in ("flair", "t1")]
    command = ["predict", str(model), *files, "-o", str(tmp_path / "a")]
    assert main([*command, "--minimum-volume", "lesion=300"]) == 0  # of 256 mm³
    assert volume_of(tmp_path / "a" / "flair.nii.gz") == 0
    assert ",lesion,0.0,ml,0,0.0," in (tmp_path / "a" / "volumes.csv").read_text()
    assert "volumes.csv" in capsys.readouterr().out
    assert main([*command, "--threshold", "lesions=0.5"]) == 1
    assert "unknown label 'lesions': did you mean 'lesion'?" in capsys.readouterr().err


def test_uncertainty_of_mirrored_copies_is_written_and_of_one_answer_refused(
    model, patients, tmp_path, capsys
):
    files = [str(patients / "p1" / f"{name}.nii.gz") for name in ("flair", "t1")]
    command = ["predict", str(model), *files, "-o", str(tmp_path / "a"), "--uncertainty"]
    assert main(command) == 1
    assert "one network gives one" in capsys.readouterr().err
    assert main([*command, "--mirror", "0"]) == 0
    assert nibabel.load(tmp_path / "a" / "flair_uncertainty.nii.gz").get_fdata().max() < 1e-6


def test_devices_and_providers_are_passed_on_and_unknown_ones_refused(
    model, patients, tmp_path, capsys
):
    files = [str(patients / "p1" / f"{name}.nii.gz") for name in ("flair", "t1")]
    command = ["predict", str(model), *files, "-o", str(tmp_path / "a")]
    assert main([*command, "--device", "cpu"]) == 0
    assert main([*command, "--overwrite", "--provider", "CPUExecutionProvider"]) == 0
    assert main([*command, "--overwrite", "--provider", "NoneProvider"]) == 1
    assert "this onnxruntime has" in capsys.readouterr().err
    assert main([*command, "--device", "cpu", "--provider", "CPUExecutionProvider"]) == 1
    assert "give one of both" in capsys.readouterr().err


def test_dicom_comes_back_as_objects_that_alone_name_the_patient(model, tmp_path, capsys, caplog):
    study = {"StudyInstanceUID": "1.2.3", "PatientName": MARK}  # no ^, which highdicom tells of
    scans = [write_made(tmp_path / name, "tilted", **study) for name in ("flair", "t1")]
    assert (
        main(["predict", str(model), *map(str, scans), "-o", str(tmp_path / "out"), "--dicom"]) == 0
    )
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {
        "flair.nii.gz", "flair.seg.dcm", "flair.sr.dcm", "volumes.csv", "lesions.csv",
    }  # fmt: skip
    made = pydicom.dcmread(tmp_path / "out" / "flair.seg.dcm")
    assert (str(made.PatientName), made.SegmentSequence[0].SegmentLabel) == (MARK, "lesion")
    tables = "".join(file.read_text() for file in (tmp_path / "out").glob("*.csv"))
    said = capsys.readouterr()
    assert not [text for text in (tables, said.out, said.err, caplog.text) if MARK in text]
    assert "19520311" not in tables + said.out + said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dicom", "--resample"], "--dicom and --resample: an upright mask lies on no slice"),
        (["--keep-empty-slices"], "--keep-empty-slices is of --dicom"),
        (["--dicom"], "flair.nii.gz: is no DICOM series: leave out --dicom"),
    ],
)
def test_dicom_that_cannot_be_written_is_refused(model, patients, tmp_path, capsys, options, said):
    names = ["--images", "flair.nii.gz", "t1.nii.gz"]
    command = ["predict", str(model), str(patients), *names, "-o", str(tmp_path / "out"), *options]
    assert main(command) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bids_data_set_becomes_a_derivative(model, patients, tmp_path, capsys):
    anat = tmp_path / "raw" / "sub-1" / "ses-a" / "anat"
    anat.mkdir(parents=True)
    for name, kind in (("flair", "FLAIR"), ("t1", "T1w")):
        (patients / "p1" / f"{name}.nii.gz").rename(anat / f"sub-1_ses-a_{kind}.nii.gz")
    command = ["predict", str(model), str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--bids"]
    assert main(command) == 1
    assert "is a BIDS data set; say which images" in capsys.readouterr().err
    command += ["--images", "FLAIR", "T1w", "--probabilities"]
    assert main(command) == 0
    anat = tmp_path / "out" / "sub-1" / "ses-a" / "anat"
    assert volume_of(anat / "sub-1_ses-a_desc-lesion_dseg.nii.gz") == 4 * 8 * 8
    assert "1 of 1" not in capsys.readouterr().err
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--format", ".png"]) == 1
    assert "BIDS has NIfTI alone" in capsys.readouterr().err
