"""Masks of a folder: their files, their tables, and those that cannot be measured."""

import json

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.data.labels import asked_coding
from segjax.errors import InputError
from segjax.evaluate import atlas
from segjax.evaluate.measured import (
    lesion_table,
    measure_files,
    ms_criteria,
    size_classes,
    total_table,
    write_measures,
)
from segjax.evaluate.zones import Zones
from segjax.files import read_csv
from segjax.volume import Volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def save(path, data, affine=AFFINE):
    path.parent.mkdir(exist_ok=True, parents=True)
    write_volume(Volume(np.asarray(data), affine), path)
    return path


@pytest.fixture
def masks(tmp_path):
    """Two masks: a large and a small lesion of label 1, and none; and their images."""
    data = np.zeros((20, 20, 6), np.uint8)
    data[2:14, 3:15, 1:4], data[17, 17, 4] = 1, 1
    image = np.full(data.shape, 10, np.float32) + 5 * data
    for case, mask in (("a", data), ("b", np.zeros_like(data))):
        save(tmp_path / "masks" / f"{case}.nii.gz", mask)
        save(tmp_path / "images" / f"{case}_0000.nii.gz", image)
    return tmp_path / "masks"


def test_a_folder_is_measured_case_by_case(masks):
    measured = measure_files(masks, images=masks.parent / "images").check()
    assert [case.case for case in measured.cases] == ["a", "b"]
    rows = lesion_table(measured)
    told = ("case", "label", "lesion", "voxels", "volume", "unit", "third_mm", "contrast", "zone")
    assert [[row[name] for name in told] for row in rows] == [
        ["a", "1", 1, 432, 864.0, "mm3", 6.0, 5.0, None],
        ["a", "1", 2, 1, 2.0, "mm3", 2.0, 5.0, None],
    ]
    first, second = total_table(measured, criteria=["rano"])
    assert (first["volume"], first["lesions"], first["largest"]) == (0.866, 2, 0.864)
    assert (first["lesions_0_to_10"], first["lesions_from_100"]) == (1, 1)
    assert (first["ml_0_to_10"], first["ml_from_100"]) == (0.002, 0.864)
    assert first["rano_targets"] == 1
    assert first["rano_mm2"] == pytest.approx(first["longest_mm"] * first["perpendicular_mm"], 0.01)
    assert (second["lesions"], second["longest_mm"], second["rano_mm2"]) == (0, None, 0)


def test_cases_that_cannot_be_measured_stop_no_other(masks):
    (masks / "broken.nii.gz").write_bytes(b"no image")
    save(masks / "lonely.nii.gz", np.ones((3, 3, 3), np.uint8))
    save(masks / "moved.nii.gz", np.ones((3, 3, 3), np.uint8))
    save(masks.parent / "images" / "moved.nii.gz", np.ones((3, 3, 4), np.float32))
    measured = measure_files(masks, images=masks.parent / "images")
    assert [case.case for case in measured.cases] == ["a", "b"]
    reasons = dict(measured.failed)
    assert "images: holds no file for" in reasons["lonely"]
    assert "moved.nii.gz: the image: has shape (3, 3, 4)" in reasons["moved"]
    with pytest.raises(InputError, match=r"3 of 5 cases failed: broken, lonely, moved"):
        measured.check()
    rows = total_table(measured)
    assert [row["case"] for row in rows if row["error"]] == ["broken", "lonely", "moved"]


def test_files_beside_masks_are_found_by_their_name(tmp_path, monkeypatch):
    mask = save(tmp_path / "p1" / "lesions.nii.gz", np.ones((3, 3, 3), np.uint8))
    save(tmp_path / "p1" / "flair.nii.gz", np.full((3, 3, 3), 7.0))
    for images in ("flair.nii.gz", tmp_path / "p1" / "flair.nii.gz"):
        (case,) = measure_files(mask, images=images).cases
        assert case.labels[0].lesions[0].mean == 7
    save(tmp_path / "p2" / "lesions.nii.gz", np.ones((3, 3, 3), np.uint8))
    save(tmp_path / "p2" / "flair.nii.gz", np.full((3, 3, 3), 8.0))
    monkeypatch.chdir(tmp_path / "p1")  # where a file of that name lies
    cases = measure_files(tmp_path, label="lesions.nii.gz", images="flair.nii.gz").check().cases
    assert [(one.case, one.labels[0].lesions[0].mean) for one in cases] == [("p1", 7), ("p2", 8)]
    (failure,) = measure_files(mask, brains="brain.nii.gz").failed
    assert failure.reason == f"no brain.nii.gz beside {mask}"


def test_one_image_for_several_masks_and_two_for_one_are_refused(masks):
    image = masks.parent / "images" / "a_0000.nii.gz"
    with pytest.raises(InputError, match="is one file for 2 masks"):
        measure_files(masks, images=image)
    save(masks.parent / "images" / "a.nii.gz", np.ones((20, 20, 6)))
    measured = measure_files(masks, images=masks.parent / "images")
    assert "both a.nii.gz and a_0000.nii.gz for" in measured.failed[0].reason


def test_zones_come_from_label_maps_of_freesurfer(tmp_path):
    mask = save(tmp_path / "a.nii.gz", np.eye(10, dtype=np.uint8)[[0, 0, 8]][None])
    save(tmp_path / "aseg.nii.gz", np.array([[[4, 2, 2, 2, 2, 2, 2, 2, 3, 16]] * 3], np.int16))
    measured = measure_files(mask, zones="aseg.nii.gz").check()
    assert [row["zone"] for row in lesion_table(measured)] == ["periventricular", "juxtacortical"]
    (row,) = total_table(measured)
    assert (row["lesions periventricular"], row["lesions infratentorial"]) == (1, 0)


def test_an_atlas_is_registered_to_the_image_of_each_mask(masks, monkeypatch):
    with pytest.raises(InputError, match="zones by an atlas need the image"):
        measure_files(masks, zones="atlas").check()
    asked = []

    def zones_of_image(image, *, brain):
        asked.append((image.data.shape, brain is None))
        return Zones(image.with_data(np.full(image.data.shape, 3, np.uint8)))

    monkeypatch.setattr(atlas, "atlas_zones", zones_of_image)
    measured = measure_files(masks, images=masks.parent / "images", zones="atlas").check()
    assert asked == [((20, 20, 6), True)] * 2
    assert {row["zone"] for row in lesion_table(measured)} == {"infratentorial"}
    row, _ = total_table(measured)
    assert row["lesions infratentorial"] == 2
    # of the two lesions one is under 3 mm; one area is no dissemination
    assert (row["mcdonald_2017_areas"], row["dissemination_in_space"]) == (1, 0)
    assert row["isolated_2009_criteria"] == 1
    _, isolated = ms_criteria(measured.cases[0].labels[0])
    assert not isolated.fulfilled_2009


def test_stored_values_are_read_as_the_dataset_says(tmp_path):
    save(tmp_path / "labels" / "a.nii.gz", np.array([[[0, 255, 255, 128, 0, 7]]], np.uint8))
    (tmp_path / "labels" / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "lesion": 255, "core": 7, "ignore": 128}})
    )
    (case,) = measure_files(tmp_path / "labels").check().cases
    found = [(label.label, len(label.lesions)) for label in case.labels]
    assert found == [("core", 1), ("lesion", 1)]
    (failure,) = measure_files(tmp_path / "labels", coding=asked_coding(["7=core"])).failed
    assert "has labels 128, 255" in failure.reason


def test_pictures_are_measured_in_pixels_and_have_no_response(tmp_path):
    data = np.zeros((12, 12), np.uint8)
    data[2:8, 3:6] = 1
    mask = save(tmp_path / "slice.png", data, np.eye(3))
    measured = measure_files(mask).check()
    (row,) = total_table(measured, criteria=["rano"])
    assert (row["volume"], row["unit"], row["mm2_10_to_100"]) == (18, "pixels", 18)
    assert "rano_mm2" not in row
    (lesion,) = lesion_table(measured)
    assert (lesion["unit"], lesion["third_mm"], lesion["box_x_mm"]) == ("mm2", None, 6)
    assert "z" not in lesion


def test_classes_of_size_have_edges_in_order(masks):
    label = measure_files(masks).cases[0].labels[0]
    assert [one.lesions for one in size_classes(label, (2.0, 864.0))] == [0, 1, 1]
    assert sum(one.load for one in size_classes(label)) == pytest.approx(label.size)
    with pytest.raises(InputError, match="give edges over 0, from small to large"):
        size_classes(label, (100, 10))


def test_tables_have_all_columns_and_the_error_last(masks, tmp_path):
    (masks / "broken.nii.gz").write_bytes(b"no image")
    measured = measure_files(masks)
    lesions, totals = write_measures(measured, tmp_path / "m.csv", criteria=["recist-1.1"])
    assert totals.name == "m_totals.csv"
    assert [row["lesion"] for row in read_csv(lesions)] == ["1", "2"]
    rows = read_csv(totals)
    assert list(rows[0])[-1] == "error"
    assert rows[0]["recist_1_1_mm"] == rows[0]["longest_mm"]
    assert (rows[2]["case"], rows[2]["volume"]) == ("broken", "")
    assert "broken.nii.gz" in rows[2]["error"]


def test_json_holds_all_of_it(masks, tmp_path):
    measured = measure_files(masks, images=masks.parent / "images")
    (file,) = write_measures(measured, tmp_path / "m.json", criteria=["rano"])
    first, second = json.loads(file.read_text())["cases"]
    (label,) = first["labels"]
    assert (first["slice_mm"], label["size"], label["largest"]) == (2.0, 0.866, 0.864)
    assert label["response"]["rano"]["targets"] == [1]
    assert label["size_classes"][-1] == {"low": 100, "high": None, "lesions": 1, "load": 0.864}
    lesion = label["lesions"][0]
    assert len(lesion["longest"]["ends"]) == 2
    assert lesion["centre_lps"][0] == -lesion["centre_ras"][0]
    assert second["labels"][0]["lesions"] == []


def test_what_is_there_stays_unless_asked(masks, tmp_path):
    measured = measure_files(masks)
    (tmp_path / "m_totals.csv").write_text("mine")
    with pytest.raises(InputError, match=r"m_totals\.csv"):
        write_measures(measured, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
    write_measures(measured, tmp_path / "m.csv", overwrite=True)
    with pytest.raises(InputError, match=r"are written as \.csv or \.json"):
        write_measures(measured, tmp_path / "m.txt")


def test_empty_and_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="holds no mask"):
        measure_files(tmp_path)
    (failure,) = measure_files(tmp_path / "none.nii.gz").failed
    assert "there is no such file" in failure.reason
