"""Which files belong together, which are named as left out, and which voxels count."""

import json
import os
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.data.labels import LabelCoding, asked_coding
from segjax.errors import InputError
from segjax.evaluate.compare import compare_cases
from segjax.evaluate.pairs import Pair, coding_of, match_masks, read_pair
from segjax.volume import Volume

NFC, NFD = (unicodedata.normalize(form, "Jürgen") for form in ("NFC", "NFD"))


def write(path: Path, data: object, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(data, np.uint8)
    write_volume(Volume(array, np.eye(array.ndim + 1) if affine is None else affine), path)
    return path


def describe(folder: Path, labels: dict[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.fixture
def folders(tmp_path):
    """Predictions and labels of one case."""
    for name in ("masks", "labels"):
        write(tmp_path / name / "a.nii.gz", np.ones((2, 2, 2)))
    return tmp_path / "masks", tmp_path / "labels"


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC)])
def test_names_match_in_either_unicode_form(tmp_path, forms):
    for folder, name in zip(("masks", "labels"), forms, strict=True):
        write(tmp_path / folder / f"{name}.nii.gz", np.ones((2, 2, 2)))
    (pair,) = match_masks(tmp_path / "masks", tmp_path / "labels")
    assert pair.case == NFC
    assert [row["dice"] for row in compare_cases([pair]).check().rows] == [1]


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC)])
def test_folders_of_subjects_match_in_either_unicode_form(tmp_path, forms):
    write(tmp_path / "masks" / forms[0] / "flair.nii.gz", np.ones((2, 2, 2)))
    write(tmp_path / "patients" / forms[1] / "lesions.nii.gz", np.ones((2, 2, 2)))
    (pair,) = match_masks(tmp_path / "masks", tmp_path / "patients", label="lesions.nii.gz")
    assert pair.case == NFC


def test_suffixes_match_in_any_case(folders):
    masks, labels = folders
    (masks / "a.nii.gz").rename(masks / "a.NII.GZ")
    assert match_masks(*folders) == [("a", labels / "a.nii.gz", masks / "a.NII.GZ")]


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha"])
def test_masks_of_other_programs_are_compared(folders, suffix):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.ones((2, 2, 2), np.uint8))
    image.SetDirection(np.diag([-1.0, -1.0, 1.0]).ravel())  # LPS -> RAS: the same axes as np.eye
    sitk.WriteImage(image, str(folders[0] / f"a{suffix}"))
    (folders[0] / "a.nii.gz").unlink()
    assert [row["dice"] for row in compare_cases(match_masks(*folders)).check().rows] == [1]


@pytest.mark.parametrize("cropped", ["masks", "labels"])
def test_segments_that_were_cropped_lie_on_the_grid_of_the_other_mask(tmp_path, cropped):
    from segjax.data.io.nrrd import write_nrrd

    whole = np.zeros((6, 6, 6), np.uint8)
    whole[2:5, 2:4, 3] = 1  # 6 voxels
    whole[5, 5, 5] = 1 if cropped == "masks" else 0
    other = "labels" if cropped == "masks" else "masks"
    write(tmp_path / other / "a.nii.gz", whole)
    affine = np.eye(4)
    affine[:3, 3] = (2, 2, 3)
    (tmp_path / cropped).mkdir()
    segments = Volume(np.ones((3, 2, 1), np.uint8), affine)
    write_nrrd(segments, tmp_path / cropped / "a.seg.nrrd", segments={1: "lesion"})
    (row,) = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels")).check().rows
    assert row["dice"] == pytest.approx(12 / 13 if cropped == "masks" else 1)


def test_segments_are_compared_by_their_names(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    data = np.array([[[0, 1], [2, 2]]], np.uint8)
    for folder, names in (
        ("masks", {1: "core", 2: "oedema"}),
        ("labels", {2: "core", 1: "oedema"}),
    ):
        (tmp_path / folder).mkdir()
        stored = data if folder == "masks" else np.where(data > 0, 3 - data, 0).astype(np.uint8)
        write_nrrd(Volume(stored, np.eye(4)), tmp_path / folder / "a.seg.nrrd", segments=names)
    rows = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels")).check().rows
    assert {row["label"]: (row["dice"], row["truth_ml"]) for row in rows} == {
        "core": (1, 0.001),
        "oedema": (1, 0.002),
    }


def test_a_segment_called_ignore_counts_for_nothing(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    (tmp_path / "labels").mkdir()
    truth = Volume(np.array([[[1, 1, 2, 0]]], np.uint8), np.eye(4))
    names = {1: "lesion", 2: "Ignore"}
    write_nrrd(truth, tmp_path / "labels/a.seg.nrrd", segments=names)
    write(tmp_path / "masks/a.nii.gz", [[[1, 0, 1, 0]]])
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    (row,) = compare_cases(pairs).check().rows
    assert (row["label"], row["dice"]) == ("lesion", pytest.approx(2 / 3))  # TP 1, FN 1
    write_nrrd(truth, pairs[0].truth, segments={1: "lesion", 2: "cyst"}, overwrite=True)
    with pytest.raises(InputError, match="call the one 'ignore' that is to be ignored"):
        compare_cases(pairs, coding=LabelCoding(ignored=2)).check()


def test_segments_that_cannot_be_read_fail_alone(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    lesion = Volume(np.array([[[1, 0]]], np.uint8), np.eye(4))
    for name, called in (("a", "lesion"), ("b", " Lesion"), ("c", "lesion")):
        write(tmp_path / f"masks/{name}.nii.gz", [[[1, 0]]])
        (tmp_path / "labels").mkdir(exist_ok=True)
        write_nrrd(lesion, tmp_path / f"labels/{name}.seg.nrrd", segments={1: called})
    (tmp_path / "labels/c.seg.nrrd").write_bytes(b"no image")
    evaluation = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels"))
    assert [(row["case"], row["label"], row["dice"]) for row in evaluation.rows] == [
        ("a", "lesion", 1),
        ("b", "lesion", 1),
    ]
    assert [failure.case for failure in evaluation.failed] == ["c"]


def test_labels_that_are_segments_only_in_part_need_a_dataset_json(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    for name in "ab":
        write(tmp_path / f"masks/{name}.nii.gz", [[[1, 0]]])
    write(tmp_path / "labels/a.nii.gz", [[[1, 0]]])
    lesion = Volume(np.array([[[1, 0]]], np.uint8), np.eye(4))
    write_nrrd(lesion, tmp_path / "labels/b.seg.nrrd", segments={1: "lesion"})
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    with pytest.raises(InputError, match=r"a\.nii\.gz: holds no segments .* in dataset\.json"):
        compare_cases(pairs).check()
    describe(tmp_path, {"background": 0, "lesion": 1})
    rows = compare_cases(pairs, coding=coding_of(tmp_path / "labels")).check().rows
    assert [row["dice"] for row in rows] == [1, 1]


def test_links_are_followed(folders, tmp_path):
    masks, labels = folders
    os.symlink(masks / "a.nii.gz", labels / "b.nii.gz")
    os.symlink(masks / "a.nii.gz", masks / "b.nii.gz")
    assert [row["dice"] for row in compare_cases(match_masks(masks, labels)).check().rows] == [1, 1]


@pytest.mark.parametrize("kind", [0, 1])
def test_links_that_lead_nowhere_are_errors_with_their_name(folders, kind):
    (folders[kind] / "a.nii.gz").unlink()
    os.symlink("nowhere.nii.gz", folders[kind] / "a.nii.gz")
    with pytest.raises(InputError, match=rf"{folders[kind].name}/a\.nii\.gz: "):
        compare_cases(match_masks(*folders)).check()


def test_a_folder_that_is_a_link_to_nowhere_is_named(folders, tmp_path):
    os.symlink("nowhere", tmp_path / "link")
    with pytest.raises(InputError, match="link: is a link that leads nowhere; give two folders"):
        match_masks(tmp_path / "link", folders[1])


@pytest.mark.parametrize("kind", [0, 1])
def test_what_is_no_mask_of_the_folder_is_named_in_one_warning(folders, kind):
    folder = folders[kind]
    for name in ("b.hdr", "b.img", "c.mnc"):
        (folder / name).write_bytes(b"\0" * 400)
    write(folder / "more/d.nii.gz", np.ones((2, 2, 2)))
    with pytest.warns(UserWarning, match="left out") as told:
        match_masks(*folders)
    (text,) = [str(warning.message) for warning in told]
    assert text.startswith(f"{folder}: left out 4 files: b.hdr, b.img, c.mnc and 1 more;")


def test_notes_beside_masks_are_not_named(folders):
    names = ("dataset.json", "README.md", "a.TXT", "a.bval", "a.bvec", "report.html", "a.csv")
    for folder in folders:
        for name in (*names, ".DS_Store", ".hidden/a.nii.gz"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(match_masks(*folders)) == 1


def test_a_folder_without_masks_says_what_it_holds(folders):
    (folders[0] / "a.nii.gz").rename(folders[0] / "a.hdr")
    with pytest.raises(InputError, match=r"masks: holds no mask \(\.nii, .*; it holds a\.hdr$"):
        match_masks(*folders)


def test_probabilities_are_no_masks_where_their_mask_is_beside_them(folders):
    masks, labels = folders
    write(masks / "a_probabilities.nii.gz", np.ones((2, 2, 2)))
    assert [pair.case for pair in match_masks(masks, labels)] == ["a"]
    (masks / "a.nii.gz").unlink()
    (masks / "a.json").write_text("{}")
    with pytest.raises(InputError, match="no label named a_probabilities"):
        match_masks(masks, labels)


def test_files_beside_the_folders_of_subjects_are_matched_too(tmp_path):
    for name in ("p1", "p2"):
        write(tmp_path / "patients" / name / "lesions.nii.gz", np.ones((2, 2, 2)))
    write(tmp_path / "masks/p1/flair.nii.gz", np.ones((2, 2, 2)))
    write(tmp_path / "masks/p1/flair_probabilities.nii.gz", np.ones((2, 2, 2)))
    write(tmp_path / "masks/p2.nii.gz", np.ones((2, 2, 2)))
    write(tmp_path / "masks/else/flair.nii.gz", np.ones((2, 2, 2)))
    with pytest.warns(UserWarning, match=r"left out 1 file: else/flair\.nii\.gz;"):
        pairs = match_masks(tmp_path / "masks", tmp_path / "patients", label="lesions.nii.gz")
    assert [pair.case for pair in pairs] == ["p1", "p2"]


@pytest.mark.parametrize("beside", [True, False])
def test_values_of_the_truth_are_those_of_dataset_json(tmp_path, beside):
    write(tmp_path / "labels/a.nii.gz", [[[0, 100, 100, 255]]])
    write(tmp_path / "masks/a.nii.gz", [[[0, 1, 0, 2]]])
    describe(
        tmp_path if beside else tmp_path / "labels", {"background": 0, "oedema": 100, "core": 255}
    )
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    rows = compare_cases(pairs, coding=coding_of(tmp_path / "labels")).check().rows
    # oedema: TP 1, FN 1; core: TP 1
    assert [(row["label"], row["dice"]) for row in rows] == [
        ("oedema", pytest.approx(2 / 3)),
        ("core", 1),
    ]
    assert coding_of(tmp_path / "labels/a.nii.gz") == coding_of(tmp_path / "labels")


def test_predictions_that_hold_stored_values_are_read_as_the_truth_is(tmp_path):
    truth, mask = [[[0, 128, 128, 255, 7, 7]]], [[[0, 128, 0, 255, 7, 255]]]
    write(tmp_path / "labels/a.nii.gz", truth)
    write(tmp_path / "masks/a.nii.gz", mask)
    describe(tmp_path, {"background": 0, "oedema": 128, "core": 255, "ignore": 7})
    (pair,) = match_masks(tmp_path / "masks", tmp_path / "labels")
    rows = compare_cases([pair], coding=coding_of(tmp_path / "labels")).check().rows
    assert [row["dice"] for row in rows] == [pytest.approx(2 / 3), 1]


@pytest.mark.parametrize(("mask", "doubtful"), [([2], True), ([2, 1], False), ([5], False)])
def test_predictions_that_could_be_read_either_way_are_named(tmp_path, mask, doubtful):
    write(tmp_path / "labels/a.nii.gz", [[[0, 2, 5]]])
    write(tmp_path / "masks/a.nii.gz", [[[0, *mask, 0, 0][:3]]])
    describe(tmp_path, {"background": 0, "a": 2, "b": 5})
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compare_cases(pairs, coding=coding_of(tmp_path / "labels")).check()
    expected = r"masks/a.nii.gz: its value 2 is taken as class 2, 'b', .* 2 is stored for 'a' in"
    assert [bool(re.search(expected, str(one.message))) for one in said] == [True] * doubtful


@pytest.mark.parametrize(
    ("mask", "core"),
    [([1, 1, 1, 2, 0], 1), ([1, 4, 0, 2, 0], 0.8), ([1, 1, 0, 2, 1], 2 / 3)],  # TP 3, 2, 2
)
def test_values_that_are_one_class_are_measured_as_one(tmp_path, mask, core):
    write(tmp_path / "labels/a.nii.gz", [[[1, 4, 4, 2, 0]]])
    write(tmp_path / "masks/a.nii.gz", [[mask]])
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    rows = compare_cases(pairs, coding=asked_coding(["1,4=core", "2=edema"])).check().rows
    assert [(row["label"], row["dice"]) for row in rows] == [
        ("core", pytest.approx(core)),
        ("edema", 1),
    ]


def test_subjects_are_matched_whatever_dataset_json_says_of_their_labels(tmp_path):
    write(tmp_path / "patients/p1/lesions.nii.gz", [[[0, 2, 3]]])
    write(tmp_path / "masks/p1.nii.gz", [[[0, 1, 1]]])
    describe(tmp_path / "patients", {"background": 0, "whole": [2, 3], "core": 3})
    pairs = match_masks(tmp_path / "masks", tmp_path / "patients", label="lesions.nii.gz")
    with pytest.raises(InputError, match="the value 3 is of 'whole' and of 'core'"):
        coding_of(tmp_path / "patients")
    (row,) = compare_cases(pairs, coding=asked_coding(["2,3=tumour"])).check().rows
    assert row["dice"] == 1


def test_a_value_that_is_left_out_is_background(tmp_path):
    write(tmp_path / "labels/a.nii.gz", [[[1, 2, 2, 0]]])
    write(tmp_path / "masks/a.nii.gz", [[[1, 1, 0, 0]]])
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    (row,) = compare_cases(pairs, coding=asked_coding(["1=lesion", "2=background"])).check().rows
    assert row["dice"] == pytest.approx(2 / 3)  # TP 1, FP 1


def test_several_values_can_be_ignored(tmp_path):
    write(tmp_path / "labels/a.nii.gz", [[[1, 1, 7, 8, 0]]])
    write(tmp_path / "masks/a.nii.gz", [[[1, 0, 1, 1, 0]]])
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    for coding in (asked_coding(["1=lesion", "7,8=ignore"]), LabelCoding(ignored=(7, 8))):
        (row,) = compare_cases(pairs, coding=coding).check().rows
        assert row["dice"] == pytest.approx(2 / 3)  # TP 1, FN 1


def test_segments_with_names_are_read_one_way_only(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    write(tmp_path / "labels/a.nii.gz", [[[0, 2, 5]]])
    (tmp_path / "masks").mkdir()
    mask = Volume(np.array([[[0, 0, 1]]], np.uint8), np.eye(4))
    write_nrrd(mask, tmp_path / "masks/a.seg.nrrd", segments={1: "b"})
    describe(tmp_path, {"background": 0, "a": 2, "b": 5})
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = compare_cases(pairs, coding=coding_of(tmp_path / "labels")).check().rows
    assert [row["dice"] for row in rows] == [0, 1]


@pytest.mark.parametrize("value", [0, -3])
def test_only_values_of_labels_can_be_ignored(tmp_path, value):
    with pytest.raises(InputError, match=rf"{value} cannot be ignored, .*; give one over 0"):
        coding_of(tmp_path, ignored=value)


def test_a_cropped_seg_nrrd_without_names_lies_on_the_grid_of_the_other_mask(tmp_path):
    write(tmp_path / "labels/a.nii.gz", np.pad(np.ones((2, 2, 2)), 1))
    affine = np.eye(4)
    affine[:3, 3] = 1
    path = write(tmp_path / "masks/a.nrrd", np.ones((2, 2, 2)), affine)
    path.rename(path.with_name("a.seg.nrrd"))
    (row,) = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels")).check().rows
    assert row["dice"] == 1


def test_a_predicted_value_that_counts_for_nothing_is_refused_where_the_truth_has_labels(tmp_path):
    write(tmp_path / "labels/a.nii.gz", [[[0, 128, 7]]])
    write(tmp_path / "masks/a.nii.gz", [[[0, 7, 7]]])
    describe(tmp_path, {"background": 0, "oedema": 128, "ignore": 7})
    (pair,) = match_masks(tmp_path / "masks", tmp_path / "labels")
    coding = coding_of(tmp_path / "labels")
    with pytest.raises(InputError, match=r"masks/a\.nii\.gz: has the value 7, which counts for no"):
        read_pair(pair, coding=coding, predicted=coding)
    with pytest.raises(InputError, match=r"masks/a\.nii\.gz: has labels 7"):
        compare_cases([pair], coding=coding).check()


@pytest.mark.parametrize("named", [True, False])
def test_ignored_voxels_count_in_no_measure(tmp_path, named):
    # of the voxels that count: TP 1, FN 1, FP 1
    write(tmp_path / "labels/a.nii.gz", [[[1, 1, 0, 0, 255, 255]]])
    write(tmp_path / "masks/a.nii.gz", [[[1, 0, 1, 0, 1, 0]]])
    if named:
        describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 255})
    coding = coding_of(tmp_path / "labels", ignored=None if named else 255)
    (row,) = (
        compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels"), coding=coding)
        .check()
        .rows
    )
    assert row == {
        "case": "a",
        "label": "lesion" if named else "1",
        "dice": 0.5,
        "sensitivity": 0.5,
        "positive_predictive_value": 0.5,
        "truth_ml": 0.002,
        "prediction_ml": 0.002,
    }


def test_255_is_a_label_like_others_beside_another_value_that_is_ignored(tmp_path):
    write(tmp_path / "labels/a.nii.gz", [[[0, 255, 255, 3]]])
    write(tmp_path / "masks/a.nii.gz", [[[0, 255, 0, 255]]])
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    (row,) = compare_cases(pairs, coding=coding_of(tmp_path / "labels", ignored=3)).check().rows
    assert (row["label"], row["dice"]) == ("255", pytest.approx(2 / 3))  # TP 1, FN 1


def test_a_named_class_can_be_ignored_where_values_are_classes(tmp_path):
    describe(tmp_path / "labels", {"background": 0, "doubtful": 1, "lesion": 2})
    write(tmp_path / "labels/a.nii.gz", [[[0, 1, 2, 2]]])
    write(tmp_path / "masks/a.nii.gz", [[[0, 2, 2, 0]]])
    coding = coding_of(tmp_path / "labels", ignored=1)
    (row,) = (
        compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels"), coding=coding)
        .check()
        .rows
    )
    assert (row["label"], row["dice"]) == ("lesion", pytest.approx(2 / 3))  # TP 1, FN 1


def test_what_is_ignored_must_not_contradict_dataset_json(tmp_path):
    describe(tmp_path, {"background": 0, "lesion": 255, "cyst": 128})
    with pytest.raises(InputError, match="names the value 128, which is to be ignored; call it"):
        coding_of(tmp_path, ignored=128)
    assert coding_of(tmp_path, ignored=7).ignored == 7
    describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 255})
    assert coding_of(tmp_path, ignored=255) == coding_of(tmp_path)
    with pytest.raises(InputError, match="says that 255 is to be ignored, not 7"):
        coding_of(tmp_path, ignored=7)


def test_a_value_without_a_name_is_refused(tmp_path):
    describe(tmp_path, {"background": 0, "lesion": 255})
    files = write(tmp_path / "t.nii.gz", [[[0, 200]]]), write(tmp_path / "m.nii.gz", [[[0, 1]]])
    with pytest.raises(InputError, match=r"t\.nii\.gz: has labels 200"):
        read_pair(Pair("m", *files), coding=coding_of(tmp_path))


def slice_of_series(number: int, uids: list[str]) -> object:
    """Return a slice of 4 rows and 5 columns that lies ``number`` mm above the first."""
    import pydicom

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = uids
    dataset.PatientID = dataset.PatientName = dataset.StudyID = dataset.AccessionNumber = "1"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.Modality, dataset.InstanceNumber, dataset.SeriesNumber = "MR", number + 1, 1
    dataset.Rows, dataset.Columns = 4, 5
    dataset.ImagePositionPatient = [0.0, 0.0, float(number)]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.PixelSpacing, dataset.SliceThickness = [1.0, 1.0], 1.0
    return dataset


def write_segmentation(path: Path, mask: np.ndarray) -> None:
    """Write a DICOM SEG object of one segment; the mask is of slices, rows and columns."""
    highdicom, pydicom = pytest.importorskip("highdicom"), pytest.importorskip("pydicom")
    tumour = highdicom.sr.CodedConcept("108369006", "SCT", "Neoplasm")
    abnormal = highdicom.sr.CodedConcept("49755003", "SCT", "Abnormal structure")
    algorithm = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    uids = [pydicom.uid.generate_uid() for _ in range(3)]
    segment = highdicom.seg.SegmentDescription(1, "lesion", abnormal, tumour, algorithm)
    path.parent.mkdir(parents=True)
    highdicom.seg.Segmentation(
        [slice_of_series(number, uids) for number in range(len(mask))],
        mask,
        "BINARY",
        [segment],
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=2,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


@pytest.mark.parametrize("name", ["labels/p1.dcm", "labels/p1/1.dcm"])
def test_a_dicom_segmentation_is_the_truth_on_the_grid_of_the_prediction(tmp_path, name):
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 2, 3:5] = 1
    write_segmentation(tmp_path / name, mask)
    prediction = mask.T.copy()
    prediction[0, 0, 0] = 1
    write(tmp_path / "masks/p1.nii.gz", prediction, np.diag([-1.0, -1.0, 1.0, 1.0]))  # LPS -> RAS
    (row,) = compare_cases(match_masks(tmp_path / "masks", tmp_path / "labels")).check().rows
    assert (row["label"], row["dice"]) == ("lesion", pytest.approx(4 / 5))  # TP 2, FP 1
    turned = match_masks(tmp_path / "labels", tmp_path / "masks")
    assert compare_cases(turned).check().rows[0]["positive_predictive_value"] == 1


def test_masks_of_a_bids_derivative_belong_to_the_sessions_of_the_data_set(tmp_path):
    for name in ("sub-1_ses-a", "sub-1_ses-b"):
        place = Path(*name.split("_"), "anat")
        for kind in ("dseg", "probseg", "uncertainty"):
            write(tmp_path / "out" / place / f"{name}_desc-x_{kind}.nii.gz", np.ones((2, 2, 2)))
        hand = tmp_path / "raw/derivatives/hand" / place
        write(hand / f"{name}_label-lesion_mask.nii.gz", np.ones((2, 2, 2)))
        write(tmp_path / "raw" / place / f"{name}_FLAIR.nii.gz", np.ones((2, 2, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = match_masks(tmp_path / "out", tmp_path / "raw", label="label-lesion_mask")
    assert [pair.case for pair in pairs] == ["sub-1_ses-a", "sub-1_ses-b"]
    assert pairs[0].prediction.name == "sub-1_ses-a_desc-x_dseg.nii.gz"
