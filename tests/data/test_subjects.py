"""Folders of subjects."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.cases import Case
from segjax.data.io.formats import write_volume
from segjax.data.labels import asked_coding
from segjax.data.sources import files_in
from segjax.data.subjects import find_subjects
from segjax.errors import InputError
from segjax.volume import Volume


def names_of(cases):
    return [
        (case.name, [file.name for image in case.images for file in files_in(image)])
        for case in cases
    ]


def subjects(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_subjects_of_a_bids_tree_are_found_by_stars(tmp_path):
    files = [f"sub-{n}/anat/sub-{n}_{kind}.nii.gz" for n in "12" for kind in ("FLAIR", "T1w")]
    folder = subjects(tmp_path, *files, "sub-1/anat/.sub-1_FLAIR.nii.gz")
    dataset = find_subjects(folder, images=["*_FLAIR.nii.gz"])
    assert [case.name for case in dataset.cases] == ["sub-1_anat", "sub-2_anat"]
    assert dataset.cases[1].images == (folder / files[2],)
    assert (dataset.cases[0].label, dataset.channels) == (None, ("FLAIR",))


def test_folder_may_be_a_subject_itself(tmp_path):
    folder = subjects(tmp_path / "patient07", "flair.nii.gz")
    assert [c.name for c in find_subjects(folder, images=["flair.nii.gz"]).cases] == ["patient07"]


@pytest.mark.parametrize(
    ("files", "images", "message"),
    [
        (["a/t1.nii.gz"], ["flair.nii.gz"], r"neither it nor a folder in it holds flair\.nii\.gz"),
        (["a/f.nii", "b/f.nii", "a/t.nii"], ["f.nii", "t.nii"], r"b: holds no t\.nii"),
        (["a/1_f.nii", "a/2_f.nii"], ["*_f.nii"], r"a: both 1_f\.nii and 2_f\.nii are \*_f\.nii"),
        (["a/b/f.nii", "a_b/f.nii"], ["f.nii"], "case 'a_b' occurs more than once"),
        (["a/f.nii"], [], "give names of files"),
        (["a/f.nii"], ["/a/f.nii"], "give names of files"),
        (["a/f.nii"], [""], "give names of files"),
    ],
)
def test_subjects_that_do_not_fit_are_named(files, images, message, tmp_path):
    with pytest.raises(InputError, match=message):
        find_subjects(subjects(tmp_path, *files), images=images)


def test_absent_folder_of_subjects_is_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder"):
        find_subjects(tmp_path / "absent", images=["flair.nii.gz"])


def test_labels_of_subjects_are_what_the_coding_says(tmp_path):
    for name, data in (("flair.nii", [[[0.0, 0, 0]]]), ("tumour.nii", [[[0, 1, 4]]])):
        (tmp_path / "p1").mkdir(exist_ok=True)
        write_volume(Volume(np.array(data, np.float32), np.eye(4)), tmp_path / "p1" / name)
    coding = asked_coding(["1,4=tumour"])
    found = find_subjects(tmp_path, images=["flair.nii"], label="tumour.nii", coding=coding)
    assert (found.labels, found.coding) == ({0: "background", 1: "tumour"}, coding)
    assert found.cases[0].read_label().data.tolist() == [[[0, 1, 1]]]


def test_a_folder_of_one_series_is_an_image_of_its_subject(scan, tmp_path):
    scan("set/p1/flair/IM0", 3)
    scan("set/p2/flair/IM0", 4)
    dataset = find_subjects(tmp_path / "set", images=["flair"])
    assert names_of(dataset.cases) == [("p1", ["IM0"]), ("p2", ["IM0"])]
    assert dataset.channels == ("flair",)


def test_every_folder_with_the_named_files_is_a_case(tmp_path):
    names = ("flair.nii.gz", "t1.nii.gz", "lesions.nii.gz", "brain.nii.gz")
    folder = subjects(tmp_path, *(f"patient{n}/{name}" for n in ("07", "19") for name in names))
    images = ("flair.nii.gz", "t1.nii.gz")
    dataset = find_subjects(folder, images=images, label="lesions.nii.gz")
    assert dataset.channels == ("flair", "t1")
    assert dataset.cases == tuple(
        Case(name, tuple(folder / name / i for i in images), folder / name / "lesions.nii.gz")
        for name in ("patient07", "patient19")
    )


def test_channels_called_alike_have_no_names(tmp_path):
    folder = subjects(tmp_path, "a/x_f.nii", "a/f.nii")
    assert find_subjects(folder, images=["x_*.nii", "x_*.nii"]).channels is None
