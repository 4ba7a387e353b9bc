"""Images to segment, whatever names them."""

import numpy as np
import pytest

from segjax.data.images import find_images
from segjax.data.io.formats import write_volume
from segjax.data.sources import files_in
from segjax.errors import InputError
from segjax.volume import Volume


def names_of(cases):
    return [
        (case.name, [file.name for image in case.images for file in files_in(image)])
        for case in cases
    ]


def test_files_and_folders_become_cases_in_the_order_given(make_folder):
    folder = make_folder("x/b.png", "x/a.png", "x/notes.txt", "z.nii.gz")
    cases = find_images([folder / "z.nii.gz", str(folder / "x")])
    assert names_of(cases) == [("z", ["z.nii.gz"]), ("a", ["a.png"]), ("b", ["b.png"])]
    assert all(case.label is None for case in cases)


def test_channel_files_are_grouped_where_all_have_suffixes(make_folder):
    folder = make_folder("a_0001.nii", "a_0000.nii", "b_0000.nii", "b_0001.nii")
    grouped = [
        ("a", ["a_0000.nii", "a_0001.nii"]),
        ("b", ["b_0000.nii", "b_0001.nii"]),
    ]
    assert names_of(find_images([folder])) == grouped
    assert names_of(find_images([folder], channels=2)) == grouped
    with pytest.raises(InputError, match="has files of 2 channels, but the network takes 1"):
        find_images([folder], channels=1)


@pytest.mark.parametrize(
    "files",
    [
        ["a_0000.nii", "b.nii"],
        ["a_0001.nii", "a_0002.nii"],
        ["a_0000.nii", "a_0001.nii", "b_0000.nii"],
    ],
)
def test_numbered_files_are_cases_of_their_own_where_sets_are_incomplete(make_folder, files):
    cases = find_images([make_folder(*files)])
    assert [[path.name for path in case.images] for case in cases] == [[name] for name in files]


def test_a_missing_channel_is_named(make_folder):
    folder = make_folder("a_0000.nii", "a_0001.nii", "b_0000.nii")
    with pytest.warns(UserWarning, match=r"b: channel _0001 is missing; the network takes 2"):
        find_images([folder], channels=2)


def test_numbered_slices_are_no_channels(make_folder):
    assert len(find_images([make_folder("s_0000.png", "s_0001.png")], channels=1)) == 2


def test_a_folder_of_one_dicom_series_is_a_case_of_its_name(scan):
    file = scan("patient.7/deep/IM0", 3)
    (case,) = find_images([file.parent.parent])
    assert names_of([case]) == [("patient.7", ["IM0"])]
    assert case.images[0].files == (file,)
    (case,) = find_images([file])
    assert names_of([case]) == [("IM0", ["IM0"])]


def test_each_dicom_series_of_a_folder_is_a_case(scan):
    files = [scan(f"exam/{name}", number) for name, number in (("a.dcm", 2), ("b", 11), ("c", 5))]
    cases = find_images([files[0].parent])
    assert names_of(cases) == [
        ("exam_series2", ["a.dcm"]),
        ("exam_series5", ["c"]),
        ("exam_series11", ["b"]),
    ]


def test_dicom_series_in_folders_of_their_own_have_the_names_of_the_folders(scan):
    scan("study/anna/flair/IM0", 4)
    scan("study/anna/t1/IM0", 5)
    scan("study/bob/IM0", 6)
    scan("study/carl/IM0", 7)
    folder = scan("study/carl/IM1", 8).parent.parent
    assert names_of(find_images([folder])) == [
        ("anna_flair", ["IM0"]),
        ("anna_t1", ["IM0"]),
        ("bob", ["IM0"]),
        ("carl_series7", ["IM0"]),
        ("carl_series8", ["IM1"]),
    ]


def test_dicom_series_over_several_folders_is_called_as_theirs_where_paths_are_relative(
    scan, monkeypatch
):
    study = scan("study/anna/IM0", 4).parent.parent
    for k in (1, 2):
        place = {"ImagePositionPatient": [0, 0, k], "SOPInstanceUID": f"1.2.3.{k}"}
        scan(f"study/bob/part{k}/IM", 6, **place)
    for folder, given in ((study.parent, "study"), (study, ".")):
        monkeypatch.chdir(folder)
        names = [case.name for case in find_images([given])]
        assert names == ["anna", "bob"]


def test_dicom_beside_other_images_is_not_passed_over(scan):
    file = scan("exam/IM0", 2)
    (file.parent / "t1.nii").touch()
    assert names_of(find_images([file.parent])) == [("exam", ["IM0"]), ("t1", ["t1.nii"])]
    scan("other/deep/IM0", 2)
    (file.parent.parent / "other" / "t1.nii").touch()
    found = names_of(find_images([file.parent.parent / "other"]))
    assert found == [("other", ["IM0"]), ("t1", ["t1.nii"])]


def test_folders_of_dicom_are_channels_by_their_names(scan):
    folders = [scan(f"p_000{k}/IM0", k).parent for k in (1, 0)]
    (case,) = find_images(folders, channels=2)
    assert case.name == "p"
    assert [series.folder for series in case.images] == [folders[1], folders[0]]


def test_series_are_chosen_by_name_and_number(scan):
    files = [scan(f"exam/{name}", number) for name, number in (("a", 2), ("b", 11), ("c", 5))]
    folder = files[0].parent
    assert names_of(find_images([folder], series=["5", "1.2.11"])) == [
        ("exam_series5", ["c"]),
        ("exam_series11", ["b"]),
    ]
    with pytest.raises(InputError, match=r"exam: holds no series 7; there are: 2, 5, 11"):
        find_images([folder], series=["7"])
    assert names_of(find_images([files[1]], series=["11"])) == [("b", ["b"])]


def test_series_are_chosen_by_description(scan):
    for name, number, described in (("a", 2, "ax FLAIR fs"), ("b", 3, "T1"), ("c", 5, "Flair 3D")):
        folder = scan(f"exam/{name}", number, SeriesDescription=described).parent
    found = find_images([folder], series=["*flair*"])
    assert names_of(found) == [("exam_series2", ["a"]), ("exam_series5", ["c"])]
    with pytest.raises(InputError, match=r"holds no series \*T2\*; there are: 2, 3, 5"):
        find_images([folder], series=["*T2*"])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no image given"),
        (["missing.nii"], r"missing\.nii: no such file"),
        (["notes.txt"], r"notes\.txt: not an image"),
        (["x"], "have one name"),
        (["empty"], "empty: holds no images"),
    ],
)
def test_paths_that_are_no_images_are_named(make_folder, paths, message):
    folder = make_folder("notes.txt", "x/a.png", "x/a.npy", "empty/notes.txt")
    with pytest.raises(InputError, match=message):
        find_images([folder / path for path in paths])


@pytest.fixture
def channel_files(tmp_path):
    """Return a function that writes images of so many channels and returns their files."""

    def written(*names, channels=1):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            np.save(tmp_path / name, np.zeros((4, 4, 4, channels), np.float32))
        return [tmp_path / name for name in names]

    return written


def test_files_in_the_order_of_the_channels_are_one_case(channel_files):
    files = channel_files("p/t1.npy", "p/flair.npy")
    (case,) = find_images(files[::-1], channels=2)
    assert (case.name, case.images) == ("flair", (files[1], files[0]))
    assert len(find_images(files, channels=1)) == len(find_images(files)) == 2


def test_files_that_hold_all_channels_are_cases(channel_files):
    files = channel_files("a.npy", "b.npy", channels=2)
    assert [case.name for case in find_images(files, channels=2)] == ["a", "b"]


def test_channels_of_several_patients_must_be_told_apart(channel_files):
    files = channel_files("p1/f.npy", "p1/t.npy", "p2/f.npy", "p2/t.npy")
    with pytest.raises(InputError, match=r"f\.npy: is one channel.* takes 2 .* by --images"):
        find_images(files, channels=2)
    with pytest.raises(InputError, match="takes 3 of every patient"):
        find_images(files[:2], channels=3)


def test_images_of_a_folder_are_not_taken_for_channels(channel_files):
    folder = channel_files("p/t1.npy", "p/flair.npy")[0].parent
    assert [case.name for case in find_images([folder], channels=2)] == ["flair", "t1"]
    folders = [file.parent for file in channel_files("p1/f.npy", "p2/f.npy")]
    assert [case.name for case in find_images(folders, channels=2)] == ["p1", "p2"]


def test_dicom_folders_in_the_order_of_the_channels_are_one_case(scan):
    folders = [scan(f"p/{name}/IM0", number).parent for name, number in (("t1", 1), ("flair", 2))]
    (case,) = find_images(folders, channels=2)
    assert (case.name, [series.folder for series in case.images]) == ("t1", folders)


def test_grey_pictures_are_no_channels_of_one_in_colour(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        write_volume(Volume(np.zeros((4, 4), np.uint8), np.eye(3)), file)
    assert len(find_images(files, channels=3)) == 3
