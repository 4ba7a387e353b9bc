"""A folder of masks as a derivative data set of BIDS."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.data.layouts import find_data
from segjax.derivative import Derivative, derived
from segjax.errors import InputError
from segjax.segment import segment
from segjax.volume import Volume
from segjax_onnx.predict.metadata import Structure
from segjax_onnx.predict.outputs import output_files
from tests.segjax_onnx.predict.test_metadata import METADATA

ONE = replace(METADATA, labels=("background", "Lesion"), structures=(Structure((230, 159, 0)),))
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, of "abc"
SESSIONS = [f"sub-{subject}/ses-{session}" for subject in "12" for session in ("a", "b")]


class StandIn:
    """Writes empty masks and maps where a predictor would."""

    def __init__(self, folder: Path, metadata=ONE):
        (folder / "model.onnx").write_bytes(b"abc")
        self.files, self.metadata = [folder / "model.onnx"], metadata

    def predict_files(self, cases, out, *, desc, probabilities=False, **_):
        files = output_files(cases[0], out, desc=desc)
        files.mask.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4)), files.mask, overwrite=True)
        if probabilities:
            map_ = Volume(np.zeros((8, 8, 8, 2), np.float32), np.eye(4))
            write_volume(map_, files.probabilities, overwrite=True)
        return [files.mask]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a data set of two subjects and two sessions, and masks by hand in it."""
    raw, hand = tmp_path / "raw", tmp_path / "raw/derivatives/hand"
    for place in SESSIONS:
        for folder, kind in ((raw, "FLAIR"), (raw, "acq-3d_T1w"), (hand, "label-lesion_mask")):
            path = folder / place / "anat" / f"{place.replace('/', '_')}_{kind}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
            image.header.set_xyzt_units("mm", "sec")
            image.to_filename(path)
    for folder, kind in ((raw, "raw"), (hand, "derivative")):
        about = {"Name": "Made", "BIDSVersion": "1.10.0", "DatasetType": kind}
        by = {"GeneratedBy": [{"Name": "Hand"}]} if folder is hand else {}
        (folder / "dataset_description.json").write_text(json.dumps(about | by))
    (raw / "README.md").write_text("Made of nothing, to look at names and headers.\n")
    return raw


def derive(raw: Path, out: Path, images=("FLAIR",), **options) -> list:
    predictor = StandIn(raw.parent, options.pop("metadata", ONE))
    cases = list(find_data(raw, images=list(images)).cases)
    options |= derived(predictor, out, options)
    return list(segment(predictor, cases, out, **options))


def test_masks_lie_beside_side_cars_that_tell_sources_and_software(raw, tmp_path):
    out = tmp_path / "out"
    derive(raw, out, ["acq-3d_T1w", "FLAIR"], probabilities=True)
    anat = out / "sub-2/ses-a/anat"
    name = "sub-2_ses-a_acq-3d_desc-Lesion"
    assert sorted(file.name for file in anat.iterdir()) == [
        f"{name}_{kind}" for kind in ("dseg.json", "dseg.nii.gz", "probseg.json", "probseg.nii.gz")
    ]
    mask, map_ = (json.loads((anat / f"{name}_{k}.json").read_text()) for k in ("dseg", "probseg"))
    place = "bids:raw:sub-2/ses-a/anat/sub-2_ses-a"
    assert mask["Sources"] == [f"{place}_acq-3d_T1w.nii.gz", f"{place}_FLAIR.nii.gz"]
    assert mask["SpatialReference"] == f"{place}_acq-3d_T1w.nii.gz"
    assert (mask["Manual"], mask["GeneratedBy"][0]["Name"]) == (False, "segjax")
    assert map_["LabelMap"] == ["background", "Lesion"]
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["DatasetLinks"] == {"raw": "../raw"}
    assert ABC in about["GeneratedBy"][0]["Description"]
    with (out / "desc-Lesion_dseg.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[1] == {"index": "1", "name": "Lesion", "color": "#e69f00", "mapping": "7"}
    assert "volumes.csv" in (out / ".bidsignore").read_text().split()


def test_masks_of_a_derivative_are_labels_to_train_on(raw):
    derive(raw, raw / "derivatives/segjax")
    found = find_data(raw, images=["FLAIR"], label="desc-Lesion_dseg")
    assert found.labels == {0: "background", 1: "Lesion"}
    assert len(found.cases) == 4


def test_a_second_call_adds_what_is_missing_and_other_sources_and_networks(raw, tmp_path):
    out = tmp_path / "out"
    derive(raw, out)
    assert all(result.kept for result in derive(raw, out, skip_existing=True))
    first = next(out.rglob("*_dseg.json"))
    first.unlink()
    assert [r.kept for r in derive(raw, out, skip_existing=True)].count(False) == 1
    assert first.exists()
    other = raw.rename(tmp_path / "other")
    derive(other, out, overwrite=True, metadata=replace(ONE, model="mpunet++"))
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetLinks"] == {"raw": "../raw", "raw2": "../other"}
    assert len(about["GeneratedBy"]) == 2
    assert json.loads(first.read_text())["Sources"][0].startswith("bids:raw2:sub-")


def test_each_run_of_a_session_has_rows_of_its_own(raw, tmp_path):
    for run in (1, 2):
        place = raw / "sub-1/ses-a/anat/sub-1_ses-a_FLAIR.nii.gz"
        shutil.copy(place, place.with_name(f"sub-1_ses-a_run-{run}_FLAIR.nii.gz"))
    for kind in ("run-1_FLAIR", "run-2_FLAIR"):
        with pytest.warns(UserWarning, match="left out 3 cases"):
            derive(raw, tmp_path / "out", [kind])
    derive(raw, tmp_path / "out")
    with (tmp_path / "out/volumes.csv").open(newline="") as file:
        cases = [row["case"] for row in csv.DictReader(file)]
    first = ["sub-1_ses-a_run-1", "sub-1_ses-a_run-2", "sub-1_ses-a"]
    assert cases == [*first, "sub-1_ses-b", "sub-2_ses-a", "sub-2_ses-b"]


def test_folders_of_other_data_sets_and_of_other_labels_are_refused(raw, tmp_path):
    for out in (raw, raw / "derivatives/hand"):
        with pytest.raises(InputError, match="holds a BIDS data set that segjax did not make"):
            derive(raw, out)
    about = raw / "derivatives/hand/dataset_description.json"
    about.write_text('{"GeneratedBy": {"Name": "segjax"}}')  # no list: not as segjax writes it
    with pytest.raises(InputError, match="holds a BIDS data set that segjax did not make"):
        derive(raw, raw / "derivatives/hand")
    derive(raw, tmp_path / "out")
    (tmp_path / "out/dataset_description.json").unlink()  # as where a first case was interrupted
    derive(raw, tmp_path / "out", overwrite=True)
    two = replace(ONE, labels=("background", "lesion"))
    two = replace(two, structures=(Structure((1, 2, 3)),))
    table = tmp_path / "out/desc-Lesion_dseg.tsv"
    table.rename(table.with_name("desc-lesion_dseg.tsv"))
    with pytest.raises(InputError, match=r"desc-lesion_dseg\.tsv: has other labels"):
        derive(raw, tmp_path / "out", metadata=two)


def test_masks_on_another_grid_have_no_spatial_reference(raw, tmp_path):
    derive(raw, tmp_path / "out", resample=True)
    assert "SpatialReference" not in json.loads(next(tmp_path.rglob("*_dseg.json")).read_text())


def test_images_of_other_names_and_formats_have_no_place_in_bids(tmp_path):
    with pytest.raises(InputError, match=r"flair\.nii: is not called as in BIDS"):
        output_files(Case("a", (Path("flair.nii"),)), "out", desc="x")
    with pytest.raises(InputError, match=r"format \.nrrd: BIDS has NIfTI alone"):
        output_files(Case("a", (Path("sub-1_T1w.nii"),)), "out", ".nrrd", desc="x")


def test_several_labels_are_told_apart_by_the_program_alone(tmp_path):
    assert Derivative(tmp_path, METADATA, []).desc == "segjax"


@pytest.mark.peer("bids_validator_deno")
def test_the_validator_of_bids_finds_no_fault_in_a_data_set_and_its_derivative(raw):
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    validator = shutil.which("bids-validator-deno", path=places)
    out = raw / "derivatives/segjax"
    derive(raw, out, ["acq-3d_T1w", "FLAIR"], probabilities=True)
    (out / "sub-1_uncertainty.nii.gz").touch()
    for folder in (raw, out):
        command = [validator, "--ignoreWarnings", "--format", "json", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, json.loads(done.stdout)["issues"]["issues"]) == (0, [])
