"""What dataset.json says, and where nnU-Net keeps the files of a dataset."""

import json
import warnings

import pytest

from segjax.data.cases import find_cases, find_test_cases, is_dataset
from segjax.data.description import Description, dataset_folder, listed_files, read_description
from segjax.errors import InputError

LABELS = {"labels": {"background": 0, "lesion": 1}}


@pytest.fixture
def make(tmp_path):
    """Return a function that makes empty files, and ``dataset.json`` in a folder."""

    def made(*files, **description):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        if description:
            (tmp_path / "dataset.json").write_text(json.dumps(LABELS | description))
        return tmp_path

    return made


def found(cases):
    return {case.name: ([image.name for image in case.images], case.label.name) for case in cases}


@pytest.mark.parametrize("name", ["Dataset004_Hippocampus", "Task04_Hippocampus", "Task501_X"])
def test_the_only_dataset_of_a_raw_folder_is_taken(make, name):
    raw = make(f"{name}/imagesTr/a_0000.nii.gz", f"{name}/labelsTr/a.nii.gz", "other/notes.txt")
    assert is_dataset(raw)
    assert found(find_cases(raw).cases) == {"a": (["a_0000.nii.gz"], "a.nii.gz")}
    assert dataset_folder(raw / name) == raw / name


def test_several_datasets_of_a_raw_folder_are_listed(make):
    raw = make("Dataset001_B/labelsTr/a.nii", "Dataset002_A/labelsTr/a.nii")
    with pytest.raises(
        InputError, match="several datasets; give one of Dataset001_B, Dataset002_A"
    ):
        find_cases(raw)


@pytest.mark.parametrize("others", [("Task01_a/x",), ("Task01_a/x", "Task02_b/x")])
def test_a_dataset_beside_folders_of_that_name_is_itself(make, others):
    folder = make("images/a.nii", "labels/a.nii", *others)
    assert found(find_cases(folder).cases) == {"a": (["a.nii"], "a.nii")}


def test_files_are_taken_from_where_dataset_json_lists_them(make, monkeypatch):
    files = [f"far/{name}" for name in ("x_flair.nii", "x_t1.nii", "x_lesions.nii")]
    monkeypatch.setenv("SEGJAX_TEST_FAR", "far")
    entry = {"images": ["far/x_flair.nii", "$SEGJAX_TEST_FAR/x_t1.nii"], "label": files[2]}
    folder = make(*files, dataset={"x": entry}, channel_names={"0": "FLAIR", "1": "T1"})
    dataset = find_cases(folder)
    assert found(dataset.cases) == {"x": (["x_flair.nii", "x_t1.nii"], "x_lesions.nii")}
    assert (dataset.channels, dataset.labels) == (("FLAIR", "T1"), {0: "background", 1: "lesion"})
    assert is_dataset(folder)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "'dataset' is no object of cases"),
        ({"x": {"images": "a.nii", "label": "b.nii"}}, "case 'x' of 'dataset' needs its 'images'"),
        ({"x": {"images": ["a.nii"]}}, "case 'x' of 'dataset' needs"),
        ({"x": ["a.nii", "b.nii"]}, "case 'x' of 'dataset' needs"),
        ({"x": {"images": ["a.nii"], "label": "b.nii"}}, r"b\.nii: no such file, .* for case 'x'"),
    ],
)
def test_lists_that_cannot_be_followed_are_refused(make, listed, message):
    with pytest.raises(InputError, match=message):
        listed_files(make("a.nii", dataset=listed) / "dataset.json")


def test_a_name_of_the_dataset_is_no_list(make):
    folder = make("images/a.nii", "labels/a.nii", dataset="Hippocampus")
    assert found(find_cases(folder).cases) == {"a": (["a.nii"], "a.nii")}


def test_files_of_another_ending_are_left_out_with_a_word(make):
    files = [f"{part}/{name}" for part in ("imagesTr", "labelsTr") for name in ("a.nii", "b.png")]
    folder = make(*files, file_ending=".nii")
    with pytest.warns(UserWarning, match=r"left out 1 file that do not end in \.nii.*b\.png"):
        assert found(find_cases(folder).cases) == {"a": (["a.nii"], "a.nii")}


@pytest.mark.parametrize(
    ("ending", "message"),
    [(".tif", r"file_ending \.tif: accepted are \.nii"), (".nii.gz", r"a\.nii: does not end in")],
)
def test_endings_that_leave_no_image_are_refused(make, ending, message):
    folder = make("imagesTr/a.nii", "labelsTr/a.nii", file_ending=ending)
    with pytest.raises(InputError, match=message):
        find_cases(folder)


def test_labelled_test_images_are_test_cases(make):
    files = ["imagesTr/a_0000.nii", "labelsTr/a.nii", "labelsTs/t1.nii"]
    folder = make(*files, "imagesTs/t1_0000.nii", "imagesTs/t2_0000.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(find_test_cases(folder).cases) == {"t1": (["t1_0000.nii"], "t1.nii")}
        assert found(find_cases(folder).cases) == {"a": (["a_0000.nii"], "a.nii")}


def test_test_images_without_labels_are_none(make):
    folder = make("imagesTs/t1_0000.nii", "labelsTs/notes.txt")
    assert find_test_cases(folder).cases == ()


def describe(folder, labels, encoding="utf-8"):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding=encoding)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([], "holds no JSON object"),
        ({"labels": {"background": 0, "a": 1.5}}, "'a' has the value 1.5"),
        ({"labels": {"background": 0, "ignore": 1}}, "nothing is labelled but"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "the value 1 is of 'a' and of 'b'"),
        ({"labels": ["background", "lesion"]}, "labels: must be an object of names"),
        ({"labels": {}}, "nothing is labelled but"),
        ({"channel_names": {"FLAIR": "0"}}, "channels .* cannot be used"),
        ({"channel_names": 3}, "channels .* cannot be used"),
        ({"channel_names": ["FLAIR", "T1"]}, "channel 1 is missing"),
        ({"channel_names": ["FLAIR"]}, None),
    ],
)
def test_descriptions_are_checked(make_folder, description, message):
    folder = make_folder("images/a_0000.nii", "labels/a.nii", dataset=description)
    if message is None:
        assert find_cases(folder).channels == ("FLAIR",)
    else:
        with pytest.raises(InputError, match=message):
            find_cases(folder)


def test_more_channels_than_described_are_named(make_folder):
    files = ["images/a_0000.nii", "images/a_0001.nii", "labels/a.nii"]
    folder = make_folder(*files, dataset={"channel_names": {"0": "FLAIR"}})
    with pytest.raises(InputError, match=r"channel 1 is there, but dataset\.json names 1"):
        find_cases(folder)


def test_description_that_is_no_json_is_named(make_folder):
    folder = make_folder("images/a.nii", "labels/a.nii")
    (folder / "dataset.json").write_text("{labels")
    with pytest.raises(InputError, match=r"dataset\.json: .*is no JSON"):
        find_cases(folder)


def test_nothing_is_said_of_labels_without_dataset_json(tmp_path):
    assert read_description(tmp_path / "labels") == Description()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "lesion": 1, "ignore": -1}, "the label 'ignore' has the value -1"),
        ({"0": "background", "1": "a", "2": "a"}, "two labels are called 'a'"),
        ({"background": 0, "": 1}, "a label has no name"),
    ],
)
def test_names_that_tell_no_labels_apart_are_refused(tmp_path, labels, said):
    describe(tmp_path, labels)
    with pytest.raises(InputError, match=rf"dataset\.json: labels: {said}"):
        read_description(tmp_path)
