"""BIDS data sets: which files are the images and labels of which case."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.bids import derived_path, find_bids, list_bids, parse_name
from segjax.data.grouping import Grouping
from segjax.data.io.formats import write_volume
from segjax.data.labels import coding_of_labels
from segjax.data.layouts import find_data, find_inputs
from segjax.describe import describe
from segjax.errors import InputError
from segjax.volume import Volume

SESSIONS = ["sub-01/ses-01", "sub-01/ses-02", "sub-02/ses-01"]
MANUAL = "derivatives/manual/{place}/anat/{name}_label-lesion_mask.nii.gz"


def touch(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return two subjects, one with two sessions, each of FLAIR, T1w and a mask by hand."""
    for place in SESSIONS:
        name = place.replace("/", "_")
        files = [f"{place}/anat/{name}_{kind}.nii.gz" for kind in ("FLAIR", "T1w")]
        apart = [f"sourcedata/{files[0]}", f"code/{files[0]}", f".git/{files[0]}"]
        touch(tmp_path, *files, MANUAL.format(place=place, name=name), *apart)
    (tmp_path / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.10.0"}')
    return tmp_path


def test_a_session_is_a_case_and_suffixes_name_its_channels(data):
    found = find_data(data, images=["T1w", "FLAIR"], label="label-lesion_mask")
    assert [case.name for case in found.cases] == [
        "sub-01_ses-01",
        "sub-01_ses-02",
        "sub-02_ses-01",
    ]
    anat = data / "sub-01/ses-02/anat"
    case = found.cases[1]
    assert case.images == (
        anat / "sub-01_ses-02_T1w.nii.gz",
        anat / "sub-01_ses-02_FLAIR.nii.gz",
    )
    assert case.label == data / MANUAL.format(place="sub-01/ses-02", name="sub-01_ses-02")
    assert found.channels == ("T1w", "FLAIR")


@pytest.mark.parametrize(
    "label", ["mask", "manual/mask", "derivatives/manual/mask", "*_T1w.nii.gz"]
)
def test_labels_are_named_by_suffix_by_folder_or_by_a_pattern_beside_the_image(data, label):
    found = find_data(data, images=["FLAIR"], label=label)
    ends = {case.label.name.rpartition("_")[2] for case in found.cases}
    assert ends == {"T1w.nii.gz" if "*" in label else "mask.nii.gz"}


def test_subjects_without_sessions_and_other_data_types_are_found(tmp_path):
    touch(tmp_path, "sub-a+b/dwi/sub-a+b_dwi.nii", "derivatives/sub-a+b/sub-a+b_msk.nii")
    (case,) = find_data(tmp_path, images=["dwi"], label="msk").cases
    assert (case.name, case.label.name) == ("sub-a+b", "sub-a+b_msk.nii")
    (case,) = find_inputs([tmp_path / "sub-a+b"], images=["dwi"])
    assert case.name == "sub-a+b"


def test_of_several_files_entities_choose_and_the_plain_one_wins(tmp_path):
    kinds = ("FLAIR", "acq-2d_FLAIR", "acq-3d_run-1_FLAIR", "acq-3d_run-2_FLAIR")
    touch(tmp_path, *(f"sub-1/anat/sub-1_{kind}.nii.gz" for kind in kinds))
    for asked, expected in (("FLAIR", 0), ("acq-2d_FLAIR", 1), ("run-2_FLAIR", 3)):
        (case,) = find_bids(tmp_path, images=[asked]).cases
        assert case.images[0].name == f"sub-1_{kinds[expected]}.nii.gz"
    with pytest.raises(
        InputError, match=r"run-1_FLAIR\.nii\.gz and .* such as --images acq-3d_run"
    ):
        find_bids(tmp_path, images=["acq-3d_FLAIR"])


def test_labels_of_two_pipelines_are_told_apart_by_their_folders(data):
    touch(data, *(f"derivatives/b/{p}/{p.replace('/', '_')}_mask.nii.gz" for p in SESSIONS))
    find = {"images": ["FLAIR"]}
    assert "/b/" in str(find_bids(data, **find, label="b/mask").cases[0].label)
    touch(data, *(f"derivatives/c/{p}/{p.replace('/', '_')}_mask.nii.gz" for p in SESSIONS))
    with pytest.raises(InputError, match=r"--label b/mask or --label c/mask"):
        find_bids(data, **find, label="mask")


def test_images_of_derivatives_want_the_name_of_a_folder(data):
    name = "sub-01_ses-02_desc-brain_T1w.nii.gz"
    touch(data, f"derivatives/prep/sub-01/ses-02/anat/{name}")
    (case,) = find_data(data, images=["prep/T1w"]).cases
    assert case.images[0].name == name
    with pytest.raises(InputError, match="holds no desc-brain_T1w"):
        find_data(data, images=["desc-brain_T1w"])


@pytest.mark.parametrize(
    ("images", "label", "message"),
    [
        (["flair"], None, r"holds no flair; there are: FLAIR \(3\), T1w \(3\)"),
        (["FLAIR"], "dseg", r"holds no dseg; there are: .*label-lesion_mask \(3\)"),
        (["FLAIR"], "*_dseg.nii.gz", r"sub-01_ses-01 has no \*_dseg\.nii\.gz, nor do 2 more"),
        ([], None, r"is a BIDS data set; say which images to take, such as --images FLAIR"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(data, images, label, message):
    with pytest.raises(InputError, match=message):
        find_data(data, images=images, label=label)


def test_predicting_a_data_set_asks_for_the_images_too(data):
    with pytest.raises(InputError, match=r"--images FLAIR; there are: FLAIR \(3\)"):
        find_inputs([data])


def test_a_session_without_a_channel_is_refused_and_one_without_the_first_warned_of(data):
    (data / "sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match="sub-02_ses-01 has no T1w; every case needs one"):
        find_data(data, images=["FLAIR", "T1w"])
    with pytest.warns(UserWarning, match="left out 1 case without T1w, such as sub-02_ses-01"):
        assert len(find_data(data, images=["T1w"]).cases) == 2


def test_a_name_that_stands_for_files_of_other_kinds_is_warned_of(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii", "sub-2/anat/sub-2_acq-3d_FLAIR.nii")
    with pytest.warns(UserWarning, match=r"FLAIR stands for FLAIR \(1\), acq-3d_FLAIR \(1\)"):
        find_bids(tmp_path, images=["FLAIR"])


def test_images_of_subjects_that_are_not_called_as_in_bids_are_warned_of(data):
    touch(data, "SUB-03/anat/SUB-03_FLAIR.nii.gz", "stimuli/face.png")
    touch(data, *(f"{place}/anat/lesion.nii.gz" for place in SESSIONS))
    with pytest.warns(UserWarning, match=r"left out 1 image of .*, such as SUB-03/anat/SUB-03_"):
        assert len(find_data(data, images=["FLAIR"], label="lesion*").cases) == 3


def test_patterns_and_names_of_dicom_folders_are_what_they_were(data, tmp_path):
    found = find_data(data, images=["*_FLAIR.nii.gz"])
    assert "sub-01_ses-01_anat" in [case.name for case in found.cases]
    touch(tmp_path / "other", "sub-1/mprage/readme.txt")
    with pytest.raises(InputError, match="neither it nor a folder in it holds mprage"):
        find_data(tmp_path / "other", images=["mprage"])


def test_labels_are_called_as_the_table_of_the_derivative_says(tmp_path):
    for name, data in (("FLAIR", [[[0.0, 0, 0]]]), ("dseg", [[[0, 100, 4]]])):
        place = tmp_path / ("derivatives/hand" if name == "dseg" else "") / "sub-1" / "anat"
        place.mkdir(parents=True)
        volume = Volume(np.array(data, np.float32), np.eye(4))
        write_volume(volume, place / f"sub-1_desc-x_{name}.nii.gz")
    table = tmp_path / "derivatives/hand/desc-x_dseg.tsv"
    table.write_text("index\tname\n100\tcore\n4\tedema\n")
    found = find_bids(tmp_path, images=["FLAIR"], label="dseg")
    assert found.labels == {0: "background", 1: "core", 2: "edema"}
    assert found.cases[0].read_label().data.ravel().tolist() == [0, 1, 2]
    own = coding_of_labels({"all": [4, 100]})
    assert find_bids(tmp_path, images=["FLAIR"], label="dseg", coding=own).labels[1] == "all"
    table.write_text("number\tname\n1\tcore\n")
    with pytest.raises(InputError, match=r"desc-x_dseg\.tsv: is no table of index and name"):
        find_bids(tmp_path, images=["FLAIR"], label="dseg")


def test_subjects_sessions_and_kinds_are_described(data):
    facts = describe(data)
    assert (facts["subjects"], facts["sessions"]) == ("2", "3")
    assert facts["images"] == "FLAIR (3), T1w (3)"
    assert facts["in derivatives"] == "label-lesion_mask (3)"


def test_sessions_of_a_subject_are_never_parted_unless_asked(data):
    names = [case.name for case in find_data(data, images=["FLAIR"]).cases]
    assert Grouping().groups(names) == dict(zip(names, ["sub-01", "sub-01", "sub-02"], strict=True))
    assert Grouping(pattern=".*").groups(names) == {name: name for name in names}


@pytest.mark.parametrize(
    "text", ["flair.nii", "*_FLAIR", "", "sub-01_", "sub-01", "a b", "sub_01-FLAIR", "é"]
)
def test_other_names_are_none_of_bids(text):
    assert parse_name(text) is None


def test_what_is_made_of_an_image_keeps_its_entities_but_the_description():
    image = Path("d/sub-1/perf/sub-1_acq-x_desc-brain_run-2_asl.nii.gz")
    assert derived_path(image, "lesion").as_posix() == "sub-1/anat/sub-1_acq-x_run-2_desc-lesion"
    with pytest.raises(InputError, match=r"flair\.nii: is not called as in BIDS"):
        derived_path(Path("flair.nii"), "lesion")


def test_files_of_a_derivative_are_images_where_it_is_the_data_set_itself(data):
    files = list_bids(data / "derivatives" / "manual")
    assert [file.derived for file in files] == [False] * 3
