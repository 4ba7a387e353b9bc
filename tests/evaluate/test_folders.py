from pathlib import Path

import numpy as np
import pytest

from segjax.data.formats import write_volume
from segjax.errors import InputError
from segjax.evaluate.folders import compare_masks, match_masks, write_metrics
from segjax.evaluate.metrics import read_metrics
from segjax.volume import Volume


def mask(voxels: list[int], spacing: float = 1.0) -> Volume:
    data = np.array(voxels, np.uint8).reshape(2, 2, -1)
    return Volume(data, np.diag([spacing, spacing, spacing, 1.0]))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases: one with TP 2, FN 1, FP 1 of label 1, one with label 2 right."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    predictions.mkdir()
    labels.mkdir()
    write_volume(mask([1, 1, 1, 0], spacing=10.0), labels / "a.nii.gz")
    write_volume(mask([1, 1, 0, 1], spacing=10.0), predictions / "a.nii")
    write_volume(mask([2, 0, 0, 0]), labels / "b.nii.gz")
    write_volume(mask([2, 0, 0, 0]), predictions / "b.nii.gz")
    write_volume(mask([2, 0, 0, 0]), labels / "not_predicted.nii.gz")
    return predictions, labels


def test_masks_are_matched_by_name_whatever_their_suffix(folders):
    predictions, labels = folders
    assert match_masks(predictions, labels) == [
        ("a", labels / "a.nii.gz", predictions / "a.nii"),
        ("b", labels / "b.nii.gz", predictions / "b.nii.gz"),
    ]


def test_labels_without_a_prediction_are_named(folders):
    with pytest.warns(UserWarning, match="no prediction for not_predicted; left out"):
        match_masks(*folders)


def test_only_the_first_labels_without_a_prediction_are_named(folders):
    for name in "cdefg":
        write_volume(mask([2, 0, 0, 0]), folders[1] / f"{name}.nii.gz")
    with pytest.warns(UserWarning, match="no prediction for c, d, e and 3 more; left out"):
        match_masks(*folders)


def test_two_files_match_whatever_their_names(folders):
    predictions, labels = folders
    pairs = match_masks(predictions / "a.nii", labels / "b.nii.gz")
    assert pairs == [("a", labels / "b.nii.gz", predictions / "a.nii")]


def test_measures_equal_a_hand_count(folders):
    rows = compare_masks(match_masks(*folders), names=["lesion", "oedema"])
    assert rows[0] == {
        "case": "a",
        "label": "lesion",
        "dice": pytest.approx(2 / 3),
        "sensitivity": pytest.approx(2 / 3),
        "positive_predictive_value": pytest.approx(2 / 3),
        "truth_ml": pytest.approx(3.0),
        "prediction_ml": pytest.approx(3.0),
    }
    assert [(row["case"], row["label"], row["dice"]) for row in rows[1:]] == [
        ("a", "oedema", 1.0),
        ("b", "lesion", 1.0),
        ("b", "oedema", 1.0),
    ]


def test_labels_without_names_are_numbered_up_to_the_largest(folders):
    rows = compare_masks(match_masks(*folders))
    assert [row["label"] for row in rows] == ["1", "2", "1", "2"]


def test_empty_masks_still_have_one_label(tmp_path):
    write_volume(mask([0, 0, 0, 0]), tmp_path / "a.nii.gz")
    (row,) = compare_masks(match_masks(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz"))
    assert (row["label"], row["dice"]) == ("1", 1.0)


def test_written_metrics_are_those_of_a_run(folders, tmp_path):
    rows = compare_masks(match_masks(*folders), names=["lesion", "oedema"])
    write_metrics(rows, tmp_path / "metrics.csv", split="test")
    table = read_metrics(tmp_path / "metrics.csv")
    assert len(table) == 2 * 2 * 5
    (dice,) = table[
        (table.case == "a") & (table.label == "lesion") & (table.metric == "dice")
    ].value
    assert dice == pytest.approx(2 / 3)
    assert set(table.split) == {"test"}


def test_existing_metrics_are_kept_unless_told_otherwise(folders, tmp_path):
    rows = compare_masks(match_masks(*folders))
    path = tmp_path / "metrics.csv"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"metrics\.csv"):
        write_metrics(rows, path)
    assert path.read_text() == "mine"
    write_metrics(rows, path, overwrite=True)
    assert len(read_metrics(path)) == 20


def test_prediction_without_label_is_named(folders):
    predictions, labels = folders
    (labels / "b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labels: no label named b for .*b\.nii\.gz"):
        match_masks(predictions, labels)


def test_missing_and_empty_folders_are_named(folders, tmp_path):
    _, labels = folders
    with pytest.raises(InputError, match="nowhere: no such folder"):
        match_masks(tmp_path / "nowhere", labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no mask"):
        match_masks(tmp_path / "empty", labels)


def test_more_labels_than_names_are_refused(folders):
    with pytest.raises(InputError, match=r"b\.nii\.gz"):
        compare_masks(match_masks(*folders), names=["lesion"])


def test_masks_on_different_grids_are_refused(folders):
    predictions, labels = folders
    (predictions / "b.nii.gz").unlink()
    write_volume(mask([2, 0, 0, 0], spacing=2.0), predictions / "b.nii.gz")
    with pytest.raises(InputError, match=r"b\.nii\.gz"):
        compare_masks(match_masks(predictions, labels))


def test_a_value_that_occurs_nowhere_is_no_perfect_label(tmp_path):
    for folder, value in (("predictions", 4), ("labels", 1)):
        (tmp_path / folder).mkdir()
        write_volume(mask([value, 0, 0, 0]), tmp_path / folder / "a.nii.gz")
    rows = compare_masks(match_masks(tmp_path / "predictions", tmp_path / "labels"))
    assert [(row["label"], row["dice"]) for row in rows] == [("1", 0.0), ("4", 0.0)]


def test_hidden_files_are_left_out(folders):
    predictions, labels = folders
    (predictions / "._b.nii.gz").write_bytes(b"AppleDouble")
    assert all(not pair.case.startswith(".") for pair in match_masks(predictions, labels))
