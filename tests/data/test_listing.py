"""Images of folders under the names of their cases, and what is left out."""

import io
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from segjax.data.cases import find_cases
from segjax.data.images import find_images
from segjax.data.io.formats import read_image, write_volume
from segjax.data.listing import list_images, list_labels, name_apart
from segjax.data.subjects import find_subjects
from segjax.errors import InputError
from segjax.volume import Volume


def touch(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def names(cases):
    return [case.name for case in cases]


def test_files_of_one_name_are_called_as_their_folders(tmp_path):
    files = [tmp_path / name / "flair.nii.gz" for name in ("p1", "p2", "p3")]
    touch(*files)
    assert names(find_images(files)) == ["p1", "p2", "p3"]
    assert names(find_images([*files, *files])) == ["p1", "p2", "p3"]


def test_more_of_the_path_is_taken_where_folders_are_called_alike():
    files = [Path(f"/d/{p}/{s}/flair.nii") for p in ("p1", "p2") for s in ("anat", "other")]
    named = [name for name, _ in name_apart(("flair", file) for file in files)]
    assert named == ["p1_anat_flair", "other", "p2_anat_flair", "other"] or len(set(named)) == 4


def test_files_of_two_names_in_each_folder_keep_both(tmp_path):
    files = [tmp_path / p / f"{n}.nii" for p in ("p1", "p2") for n in ("flair", "t1")]
    touch(*files)
    assert names(find_images(files)) == ["p1_flair", "p1_t1", "p2_flair", "p2_t1"]


def test_one_name_in_one_folder_is_refused(tmp_path):
    touch(tmp_path / "a.nii", tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="have one name"):
        find_images([tmp_path])


def test_files_that_are_left_out_are_named(tmp_path):
    touch(tmp_path / "a.nii", tmp_path / "b.img", tmp_path / "b.hdr", tmp_path / "c.tif")
    touch(tmp_path / "sub" / "d.nii.gz", tmp_path / "notes.txt", tmp_path / ".hidden")
    words = r"left out 4 files \(b\.hdr, b\.img, c\.tif, …\)"
    with pytest.warns(UserWarning, match=words):
        found = list_images(tmp_path)
    assert [name for name, _ in found] == ["a"]


def test_notes_beside_images_are_no_loss(tmp_path):
    touch(tmp_path / "a.nii", tmp_path / "a.json", tmp_path / "README", tmp_path / "LICENSE.md")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list_images(tmp_path)) == 1


def test_a_folder_of_folders_says_where_the_images_are(tmp_path):
    touch(tmp_path / "p1" / "flair.nii.gz")
    said = r"holds no images itself.*such as p1/flair\.nii\.gz.*such as --images flair\.nii\.gz"
    with pytest.raises(InputError, match=said):
        find_images([tmp_path])


def test_links_that_lead_nowhere_are_images_that_cannot_be_read(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "annex" / "a.nii.gz")
    (case,) = find_images([tmp_path])
    assert case.name == "a"
    (labels,) = list_labels(tmp_path)
    assert labels == "a"


def test_links_to_folders_of_subjects_are_followed(tmp_path):
    touch(tmp_path / "store" / "x1" / "flair.nii.gz", tmp_path / "set" / "p2" / "flair.nii.gz")
    (tmp_path / "set" / "p1").symlink_to(tmp_path / "store" / "x1")
    found = find_subjects(tmp_path / "set", images=["flair.nii.gz"])
    assert names(found.cases) == ["p1", "p2"]


def test_links_that_lead_around_do_not_hang_and_rename_no_subject(tmp_path):
    touch(tmp_path / "p1" / "flair.nii.gz", tmp_path / "p2" / "flair.nii.gz")
    (tmp_path / "latest").symlink_to(tmp_path / "p2")
    (tmp_path / "p1" / "beside").symlink_to(tmp_path / "p2")
    (tmp_path / "p1" / "up").symlink_to(tmp_path)
    found = find_subjects(tmp_path, images=["flair.nii.gz"])
    assert names(found.cases) == ["p1", "p2"]


def test_links_to_whole_parts_of_a_dataset_are_followed(tmp_path):
    touch(*(tmp_path / "store" / part / "a.nii" for part in ("images", "labels")))
    (tmp_path / "set").mkdir()
    for part in ("images", "labels"):
        (tmp_path / "set" / part).symlink_to(tmp_path / "store" / part)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert names(find_cases(tmp_path / "link").cases) == ["a"]
    assert names(find_images([tmp_path / "link" / "images"])) == ["a"]


def test_linked_folders_of_dicom_are_cases_of_the_names_of_the_links(tmp_path):
    one = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm"))
    (tmp_path / "set").mkdir()
    for n in (1, 2):
        (tmp_path / "store" / f"x{n}").mkdir(parents=True)
        one.SeriesInstanceUID = f"1.2.{n}"
        one.save_as(tmp_path / "store" / f"x{n}" / "i")
        (tmp_path / "set" / f"p{n}").symlink_to(tmp_path / "store" / f"x{n}")
    assert names(find_images([tmp_path / "set"])) == ["p1", "p2"]


def test_subjects_without_an_image_are_named(tmp_path):
    touch(tmp_path / "p1" / "flair.nii.gz", tmp_path / "p1" / "lesions.nii.gz")
    touch(tmp_path / "p2" / "lesions.nii.gz", tmp_path / "p3" / "FLAIR.nii.gz")
    with pytest.warns(UserWarning, match=r"left out 2 folders without flair\.nii\.gz, such as p2"):
        found = find_subjects(tmp_path, images=["flair.nii.gz"], label="lesions.nii.gz")
    assert names(found.cases) == ["p1"]


def test_names_match_in_either_form_of_unicode(tmp_path):
    for part, form in (("images", "NFC"), ("labels", "NFD")):
        name = unicodedata.normalize(form, "Zoë.nii.gz")
        (tmp_path / part).mkdir()
        write_volume(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / part / name)
    (case,) = find_cases(tmp_path).cases
    assert case.name == unicodedata.normalize("NFC", "Zoë")
    pattern = unicodedata.normalize("NFC", "Zoë*")
    subjects = find_subjects(tmp_path / "labels", images=[pattern])
    assert len(subjects.cases) == 1


def test_a_folder_that_holds_one_file_that_cannot_be_read_is_a_case_that_fails(tmp_path):
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
    whole = Path(pydicom.data.get_testdata_file("MR_small.dcm")).read_bytes()
    (tmp_path / "p1" / "a.dcm").write_bytes(whole)
    (tmp_path / "p2" / "a.dcm").symlink_to(tmp_path / "annex")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good, bad = find_images([tmp_path])
    assert (good.name, bad.name) == (tmp_path.name, "p2")
    assert read_image(good.images).spatial_shape == (64, 64, 1)
    with pytest.raises(InputError, match=r"p2/a\.dcm"):
        read_image(bad.images)


def test_a_case_that_cannot_be_read_does_not_take_the_name_of_a_series(tmp_path):
    whole = Path(pydicom.data.get_testdata_file("MR_small.dcm")).read_bytes()
    for patient in ("p1", "p2"):
        touch(tmp_path / patient / "s" / "a.dcm")
        one = pydicom.dcmread(io.BytesIO(whole))
        one.PatientID, one.SeriesInstanceUID = patient, f"1.2.{patient[1]}"
        one.save_as(tmp_path / patient / "s" / "a.dcm")
    (tmp_path / "p1" / "old").symlink_to(tmp_path / "nowhere")
    found = names(find_images([tmp_path / "p1", tmp_path / "p2"]))
    assert {"p1", "p2"} <= set(found)
    assert len(set(found)) == len(found)


def test_segments_among_images_are_left_out_with_a_word(tmp_path):
    touch(tmp_path / "a.nrrd", tmp_path / "a.seg.nrrd")
    with pytest.warns(UserWarning, match=r"left out 1 file \(a\.seg\.nrrd\)"):
        assert names(find_images([tmp_path])) == ["a"]


def test_one_path_written_in_two_ways_is_one_image(tmp_path):
    touch(tmp_path / "p1" / "flair.nii")
    given = [tmp_path / "p1" / "flair.nii", tmp_path / "p1" / ".." / "p1" / "flair.nii"]
    assert names(find_images(given)) == ["flair"]


def test_links_to_subjects_that_are_gone_and_sessions_without_the_image_are_named(tmp_path):
    touch(tmp_path / "p1" / "ses1" / "flair.nii", tmp_path / "p1" / "ses2" / "t1.nii")
    (tmp_path / "p2").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        found = find_subjects(tmp_path, images=["flair.nii"])
    assert names(found.cases) == ["p1_ses1"]
    said = " ".join(str(one.message) for one in caught)
    assert "left out 1 folder without flair.nii, such as p1/ses2" in said
    assert "left out 1 folder that are links to nowhere, such as p2" in said


def test_a_second_layout_is_left_out_with_a_word(tmp_path):
    for part in ("images", "labels", "imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        write_volume(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / part / "a.nii")
    with pytest.warns(UserWarning, match="left out imagesTr and labelsTr"):
        assert names(find_cases(tmp_path).cases) == ["a"]


def test_whole_cases_are_taken_beside_files_without_a_channel(tmp_path):
    touch(*(tmp_path / name for name in ("a_0000.nii", "a_0001.nii", "b_0000.nii", "odd.nii")))
    with pytest.warns(UserWarning, match=r"b: channel _0001 is missing"):
        found = find_images([tmp_path], channels=2)
    assert [(case.name, len(case.images)) for case in found] == [("a", 2), ("b", 1), ("odd", 1)]


def test_parts_of_one_series_that_are_named_one_by_one_are_one_case(tmp_path):
    one = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm"))
    for k in range(6):
        folder = tmp_path / "exam" / f"part{k // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        one.ImagePositionPatient = [0, 0, 3.0 * k]
        one.SOPInstanceUID = f"1.2.3.{k}"
        one.save_as(folder / f"i{k}.dcm")
    parts = sorted((tmp_path / "exam").iterdir())
    (case,) = find_images(parts)
    assert case.name == "exam"
    assert read_image(case.images).spatial_shape == (64, 64, 6)
    (case,) = find_images([next(part.iterdir()) for part in parts])
    assert read_image(case.images).spatial_shape == (64, 64, 6)
    with pytest.warns(UserWarning, match=r"left out 4 slices of it that lie beside.* give .*exam"):
        find_images(parts[:1])
