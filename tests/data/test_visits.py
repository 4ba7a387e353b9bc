"""Which files are which visits of which patient, and when these were."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segjax.data.io.dicom.series import find_series
from segjax.data.visits import date_of, find_subject, find_visits, read_date
from segjax.errors import InputError


def names(subject):
    return [visit.name for visit in subject.visits]


def images(subject):
    return [[image.name for image in visit.images] for visit in subject.visits]


# -- one patient --------------------------------------------------------------------------------


def test_files_are_visits_in_the_order_given(make_folder):
    folder = make_folder("b.nii.gz", "a.nrrd")
    found = find_subject([folder / "b.nii.gz", folder / "a.nrrd"])
    assert names(found) == ["b", "a"]
    assert images(found) == [["b.nii.gz"], ["a.nrrd"]]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("v1/flair.nii", "v2/flair.nii"), ["v1", "v2"]),
        (("x/v/flair.nii", "y/v/flair.nii"), ["flair-1", "flair-2"]),
    ],
)
def test_files_of_one_name_are_called_as_their_folders_or_get_numbers(make_folder, files, expected):
    folder = make_folder(*files)
    assert names(find_subject([folder / file for file in files])) == expected


def test_folders_hold_the_named_channels_masks_and_brains(make_folder):
    own = ("flair.nii.gz", "t1.nii.gz", "lesions.nii.gz", "brain.nii.gz")
    folder = make_folder(*(f"{visit}/{file}" for visit in "ab" for file in own))
    found = find_subject(
        [folder / "a", folder / "b"],
        images=own[:2],
        masks=["les*.nii.gz"],
        brains=["brain.nii.gz"],
    )
    assert names(found) == ["a", "b"]
    assert images(found) == [["flair.nii.gz", "t1.nii.gz"]] * 2
    assert found.visits[1].mask == folder / "b" / "lesions.nii.gz"
    assert found.visits[1].brain == folder / "b" / "brain.nii.gz"
    assert len(found.visits[1].parts) == 4


def test_a_folder_of_one_image_is_that_image_and_of_two_an_error(make_folder):
    folder = make_folder("a/flair.nii.gz", "b/x.nii", "b/y.nii", "c/notes.txt")
    with pytest.raises(InputError, match=r"both x\.nii and y\.nii are images; name the one"):
        find_subject([folder / "a", folder / "b"])
    with pytest.raises(InputError, match=r"c: holds no image$"):
        find_subject([folder / "a", folder / "c"])
    with pytest.raises(InputError, match=r"a: holds no t1\.nii"):
        find_subject([folder / "a", folder / "b"], images=["t1.nii"])


def test_masks_alone_are_visits(make_folder):
    folder = make_folder("a.nii.gz", "b.nii.gz")
    found = find_subject([], masks=[folder / "a.nii.gz", folder / "b.nii.gz"])
    assert names(found) == ["a", "b"]
    assert [visit.images for visit in found.visits] == [(), ()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"masks": ["a.nii"]}, "--masks: 1 for 2 visits; give one for each"),
        ({"masks": ["a.nii", "c.nii"]}, r"c\.nii: there is no such file"),
        ({"images": ["f.nii"]}, r"a\.nii: is a file; f\.nii are looked for in folders"),
        ({"dates": ["2024-01-31"]}, "--dates: 1 for 2 visits"),
        ({"dates": ["2024-01-31", "2023-01-31"]}, "go backwards"),
        ({"dates": ["2024-02-31", "2024-03-31"]}, r"'2024-02-31': is no date; give year"),
    ],
)
def test_what_does_not_fit_to_the_visits_is_said(make_folder, monkeypatch, options, said):
    monkeypatch.chdir(make_folder("a.nii", "b.nii"))
    with pytest.raises(InputError, match=said):
        find_subject(["a.nii", "b.nii"], **options)


@pytest.mark.parametrize(
    ("visits", "said"),
    [
        (["a.nii"], "^1 visit: give two or more"),
        (["a.nii", "no.nii"], "no.nii: there is no such file or folder"),
        (["a.nii", "notes.txt"], "notes.txt: is no image: accepted are .nii"),
    ],
)
def test_visits_that_are_none_are_said(make_folder, monkeypatch, visits, said):
    monkeypatch.chdir(make_folder("a.nii", "notes.txt"))
    with pytest.raises(InputError, match=said):
        find_subject(visits)


def test_dates_are_given_in_order(make_folder):
    folder = make_folder("a.nii", "b.nii")
    found = find_subject([folder / "a.nii", folder / "b.nii"], dates=["2024-01-31", "20240731"])
    days = found.visits[1].date - found.visits[0].date
    assert days.days == 182


# -- DICOM --------------------------------------------------------------------------------------


def test_a_folder_of_dicom_is_a_visit_with_its_date(tmp_path, scan):
    scan("a/1.dcm", 1, AcquisitionDate="20240131", StudyDate="20240101")
    scan("b/1.dcm", 2, AcquisitionDate="", AcquisitionDateTime="20240807101500.5")
    found = find_subject([tmp_path / "a", tmp_path / "b" / "1.dcm"])
    assert names(found) == ["a", "1"]
    dates = [visit.date for visit in found.visits]
    assert dates == [datetime.date(2024, 1, 31), datetime.date(2024, 8, 7)]


def test_a_series_without_any_date_has_none(tmp_path, scan):
    empty = dict.fromkeys(("AcquisitionDate", "SeriesDate", "StudyDate"), "")
    scan("a/1.dcm", 1, **empty)
    (series,) = find_series(tmp_path / "a")
    assert date_of(series) is None


def test_one_of_several_series_is_chosen(tmp_path, scan):
    for visit in "ab":
        scan(f"{visit}/1.dcm", 1, SeriesDescription="T1")
        scan(f"{visit}/2.dcm", 2, SeriesDescription="ax FLAIR")
    with pytest.raises(InputError, match="holds 2 series"):
        find_subject([tmp_path / "a", tmp_path / "b"])
    found = find_subject([tmp_path / "a", tmp_path / "b"], series="*flair*")
    assert {visit.images[0].name for visit in found.visits} == {"2"}


# -- many patients ------------------------------------------------------------------------------


def test_visits_are_folders_in_those_of_patients_by_their_numbers(make_folder):
    places = [f"p1/visit{n}" for n in (1, 2, 10)] + ["p2/visit1", "p2/visit2", ".git/v1"]
    folder = make_folder(*(f"{place}/{f}.nii.gz" for place in places for f in ("flair", "mask")))
    first, second = find_visits(folder, images=["flair.nii.gz"], mask="mask.nii.gz")
    assert (first.name, names(first)) == ("p1", ["visit1", "visit2", "visit10"])
    assert second.visits[1].mask == folder / "p2/visit2/mask.nii.gz"
    assert not first.fault


def test_visits_are_files_whose_star_is_the_name_of_the_visit(make_folder):
    kinds = ("FLAIR.nii.gz", "T1W.nii.gz", "mask.nii.gz", "brain.nii.gz")
    folder = make_folder(*(f"p1/study{n}_{kind}" for n in (1, 2) for kind in kinds))
    (found,) = find_visits(
        folder,
        images=["*_FLAIR.nii.gz", "*_T1W.nii.gz"],
        mask="*_mask.nii.gz",
        brain="*_brain.nii.gz",
    )
    assert names(found) == ["study1", "study2"]
    assert images(found)[1] == ["study2_FLAIR.nii.gz", "study2_T1W.nii.gz"]
    assert found.visits[1].mask.name == "study2_mask.nii.gz"
    assert found.visits[1].brain.name == "study2_brain.nii.gz"


def test_files_without_names_are_visits_but_for_masks(make_folder):
    folder = make_folder("p/2023.nii.gz", "p/2024.nii.gz", "p/2023_m.nii.gz", "p/2024_m.nii.gz")
    (found,) = find_visits(folder, mask="*_m.nii.gz")
    assert names(found) == ["2023", "2024"]
    (found,) = find_visits(folder)
    assert len(found.visits) == 4


def test_a_patient_without_two_whole_visits_has_a_fault_and_the_others_none(make_folder):
    files = ["a/1/f.nii", "a/2/f.nii", "b/1/f.nii", "c/1/f.nii", "c/2/f.nii", "c/1/m.nii"]
    folder = make_folder(*files, "a/1/m.nii", "a/2/m.nii", "b/1/m.nii", "d/readme.txt")
    a, b, c, d = find_visits(folder, images=["f.nii"], mask="m.nii")
    assert not a.fault
    assert b.fault.endswith("b: holds 1 visit, 1: two are compared")
    assert c.fault.endswith("2: holds no m.nii")
    assert d.fault.endswith("d: holds no visit: two are compared")


def test_folders_with_other_images_alone_are_told_of(make_folder):
    folder = make_folder("a/1/f.nii", "a/2/f.nii", "a/3/t1.nii", "a/notes/x.txt")
    with pytest.warns(UserWarning, match=r"left out 3 without f\.nii"):
        (found,) = find_visits(folder, images=["f.nii"])
    assert names(found) == ["1", "2"]


def test_a_mask_for_files_needs_a_star(make_folder):
    folder = make_folder("a/1.nii", "a/2.nii", "a/m.nii")
    (found,) = find_visits(folder, mask="m.nii")
    assert found.fault.startswith("m.nii: visits are files of one folder; put a star")


def test_series_of_patients_are_in_the_order_of_their_dates(tmp_path, scan):
    scan("p/a/s/1.dcm", 1, AcquisitionDate="20240131")
    scan("p/b/s/1.dcm", 2, AcquisitionDate="20230131")
    (found,) = find_visits(tmp_path)
    assert names(found) == ["b", "a"]
    (found,) = find_visits(tmp_path, images=["s"])
    assert names(found) == ["b", "a"]


def test_a_folder_without_patients_is_said(make_folder):
    folder = make_folder("a.nii", "b.nii")
    with pytest.raises(InputError, match="the visits of one patient are given one by one"):
        find_visits(folder)
    with pytest.raises(InputError, match="there is no such folder"):
        find_visits(folder / "no")


# -- BIDS ---------------------------------------------------------------------------------------


@pytest.fixture
def bids(make_folder):
    """Two subjects of two sessions, one without a mask in the second; and one without images."""
    found = []
    for place in ("sub-1/ses-b", "sub-1/ses-a", "sub-2/ses-a", "sub-2/ses-b"):
        name = place.replace("/", "_")
        found += [f"{place}/anat/{name}_{kind}.nii.gz" for kind in ("FLAIR", "T1w")]
        if name != "sub-2_ses-b":
            found.append(f"derivatives/x/{place}/anat/{name}_label-lesion_mask.nii.gz")
    folder = make_folder(*found, "sub-3/ses-a/anat/sub-3_ses-a_T1w.nii.gz")
    (folder / "sub-1/sub-1_sessions.tsv").write_text(
        "session_id\tacq_time\nses-a\t2024-08-21\nses-b\t2024-01-31T10:15:00\n"
    )
    return folder


@pytest.mark.filterwarnings("ignore:.*left out")
def test_sessions_are_visits_in_the_order_of_their_table(bids):
    first, second, third = find_visits(bids, images=["FLAIR", "T1w"])
    assert names(first) == ["ses-b", "ses-a"]
    assert (first.visits[1].date - first.visits[0].date).days == 203
    assert images(first)[0] == ["sub-1_ses-b_FLAIR.nii.gz", "sub-1_ses-b_T1w.nii.gz"]
    assert names(second) == ["ses-a", "ses-b"]
    assert [visit.date for visit in second.visits] == [None, None]
    assert "sub-3: holds no visit" in third.fault


@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_session_without_a_mask_is_a_fault_of_its_subject_alone(bids):
    first, second, _ = find_visits(bids, images=["FLAIR"], mask="label-lesion_mask")
    assert first.visits[0].mask.name == "sub-1_ses-b_label-lesion_mask.nii.gz"
    assert not first.fault
    assert second.fault.endswith("sub-2_ses-b has no label-lesion_mask")


@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_channel_that_lacks_and_a_mask_beside_the_image_are_found(bids):
    (bids / "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz").unlink()
    (bids / "sub-2/ses-a/anat/lesions.nii.gz").touch()
    (bids / "sub-2/ses-b/anat/lesions.nii.gz").touch()
    first, second, _ = find_visits(bids, images=["FLAIR", "T1w"], mask="lesions.nii.gz")
    assert first.fault == "sub-1_ses-a: has no T1w"
    assert second.visits[0].mask.name == "lesions.nii.gz"


@pytest.mark.filterwarnings("ignore:.*left out")
def test_scans_tell_the_time_of_a_session(bids):
    for session, date in (("a", "2024-03-01"), ("b", "n/a")):
        (bids / f"sub-2/ses-{session}/sub-2_ses-{session}_scans.tsv").write_text(
            f"filename\tacq_time\nanat/sub-2_ses-{session}_FLAIR.nii.gz\t{date}\n"
        )
    second = find_visits(bids, images=["FLAIR"])[1]
    assert [visit.date for visit in second.visits] == [datetime.date(2024, 3, 1), None]


def test_a_bids_data_set_wants_the_names_of_its_images(bids):
    with pytest.raises(InputError, match="is a BIDS data set; say which images"):
        find_visits(bids)


# -- dates --------------------------------------------------------------------------------------


@given(st.dates(), st.sampled_from(["", "T10:15:00", " 10:15"]))
def test_dates_are_read_as_they_are_written(date, time):
    assert read_date(date.isoformat() + time) == date
    assert read_date(date.strftime("%4Y%m%d") + ("101500.25" if time else "")) == date


@pytest.mark.parametrize("text", ["", "2024", "31.1.2024", "2024-13-01", "202401311", "n/a"])
def test_what_is_no_date_is_said(text):
    with pytest.raises(InputError, match="is no date"):
        read_date(text)
