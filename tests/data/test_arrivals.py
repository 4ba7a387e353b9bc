"""What counts as a study in a folder into which files arrive."""

import os

import pytest

from segjax.data.arrivals import Inbox
from segjax.errors import InputError
from tests.data.io.dicom.made import write_made


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(inbox):
    return [study.name for study in inbox.look()]


def files_of(study):
    return sorted(study.files)


def test_each_folder_and_each_loose_image_is_a_study(tmp_path):
    for name in ("p1/visit/flair.nii.gz", "p2/a.nrrd", "anna.nii.gz", "bert.png"):
        put(tmp_path / name)
    assert names(Inbox(tmp_path)) == ["p1", "p2", "anna", "bert"]


@pytest.mark.parametrize(
    "name",
    [
        "flair.nii.gz.part", "flair.nii.gz.TMP", ".flair.nii.gz.Xa3f9Q", "flair.nii.gz~",
        "notes.txt", "flair.json", ".hidden/flair.nii.gz", "p1.partial/flair.nii.gz",
        "p1/.flair.nii.gz.Xa3f9Q", "p1/notes.txt", "lonely.raw",
    ],
)  # fmt: skip
def test_hidden_and_passing_names_and_notes_make_no_study(name, tmp_path):
    put(tmp_path / name)
    assert names(Inbox(tmp_path)) == []


def test_a_file_that_still_arrives_changes_the_state_but_is_not_read(tmp_path):
    put(tmp_path / "p1" / "flair.nii.gz")
    inbox = Inbox(tmp_path)
    (before,) = inbox.look()
    put(tmp_path / "p1" / "t1.nii.gz.part")
    (after,) = inbox.look()
    assert before.state != after.state
    assert inbox.again(after) == after
    home = after.link(tmp_path.parent / "links")
    assert [file.name for file in home.iterdir()] == ["flair.nii.gz"]


@pytest.mark.parametrize("change", ["size", "time", "name", "more", "less"])
def test_state_tells_any_change(change, tmp_path):
    first, second = (put(tmp_path / "p1" / name) for name in ("a.nii", "b.nii"))
    inbox = Inbox(tmp_path)
    (before,) = inbox.look()
    {
        "size": lambda: first.write_bytes(b"xx"),
        "time": lambda: os.utime(first, ns=(1, 1)),
        "name": lambda: first.rename(first.with_name("c.nii")),
        "more": lambda: put(first.with_name("c.nii")),
        "less": second.unlink,
    }[change]()
    (after,) = inbox.look()
    assert after.key == before.key
    assert after.state != before.state


def test_channels_of_a_case_are_one_study_where_the_network_takes_several(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"):
        put(tmp_path / name)
    assert names(Inbox(tmp_path, channels=2)) == ["a", "b"]
    assert names(Inbox(tmp_path)) == ["a_0000", "a_0001", "b_0000"]


def test_voxels_beside_a_header_belong_to_it(tmp_path):
    for name in ("a.mhd", "a.raw", "b.mha"):
        put(tmp_path / name)
    assert [files_of(study) for study in Inbox(tmp_path).look()] == [["a.mhd", "a.raw"], ["b.mha"]]


def test_loose_dicom_makes_a_study_of_each_uid(tmp_path):
    for number in "12":
        scan = write_made(tmp_path / "scan", "axial", slices=2, StudyInstanceUID=f"1.2.{number}")
        for file in scan.iterdir():
            file.rename(tmp_path / f"{number}{file.name}")
    scan.rmdir()
    first, second = Inbox(tmp_path).look()
    assert (first.key, first.name, second.name) == ("1.2.1", "1.2.1", "1.2.2")
    assert files_of(second) == ["200.dcm", "201.dcm"]


def test_a_folder_of_two_studies_holds_two_and_late_ones_leave_the_others_alone(tmp_path):
    write_made(tmp_path / "p1" / "a", "axial", slices=2, StudyInstanceUID="1.2.1")
    inbox = Inbox(tmp_path)
    (before,) = inbox.look()
    write_made(tmp_path / "p1" / "b", "oblique", slices=2, StudyInstanceUID="1.2.2")
    first, second = inbox.look()
    assert (before.name, first.name, second.name) == ("p1", "p1_1.2.1", "p1_1.2.2")
    assert (first.key, first.state) == (before.key, before.state)


def test_objects_that_are_no_images_leave_a_study_as_it_was(tmp_path):
    write_made(tmp_path / "p1", "axial", slices=2)
    inbox = Inbox(tmp_path)
    (before,) = inbox.look()
    segmentation = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}
    write_made(tmp_path / "p1" / "seg", "axial", slices=1, **segmentation)
    assert inbox.look() == [before]


def test_a_broken_slice_stays_in_the_study_that_it_may_be_of(tmp_path):
    write_made(tmp_path / "p1", "axial", slices=4)
    put(tmp_path / "p1" / "02.dcm", b"")
    (study,) = Inbox(tmp_path).look()
    assert files_of(study) == ["00.dcm", "01.dcm", "02.dcm", "03.dcm"]


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_uid_names_no_path(tmp_path):
    write_made(tmp_path, "axial", slices=1, StudyInstanceUID="../../etc")
    (study,) = Inbox(tmp_path).look()
    assert study.name.startswith("unknown-")


def test_headers_are_read_once(tmp_path, monkeypatch):
    write_made(tmp_path / "p1", "axial", slices=2)
    inbox = Inbox(tmp_path)
    first = inbox.look()
    monkeypatch.setattr("segjax.data.arrivals._study_of", lambda file: pytest.fail(str(file)))
    assert inbox.look() == inbox.look() == first


def test_links_are_followed(tmp_path):
    put(tmp_path / "archive" / "p1" / "flair.nii.gz")
    inbox = tmp_path / "in"
    inbox.mkdir()
    (inbox / "p1").symlink_to(tmp_path / "archive" / "p1")
    (inbox / "a.nii.gz").symlink_to(tmp_path / "archive" / "p1" / "flair.nii.gz")
    (inbox / "lost.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    assert names(Inbox(inbox)) == ["p1", "a", "lost"]


def test_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(InputError, match="gone: cannot be listed"):
        Inbox(tmp_path / "gone").look()
