import math
from pathlib import Path

import numpy as np
import pytest

from segjax.data.io.formats import write_volume
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.evaluate.compare import Evaluation, Failure, compare_cases, score
from segjax.evaluate.lesions import LesionRule
from segjax.evaluate.pairs import match_masks
from segjax.evaluate.scores import score_of_row
from segjax.evaluate.tables import write_lesions, write_metrics
from segjax.registry import register, registry
from segjax.runs.metrics import read_metrics
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


def test_two_files_of_one_name_are_refused(folders):
    write_volume(mask([1, 1, 0, 1], spacing=10.0), folders[0] / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii and .*a\.nii\.gz both are the mask of a"):
        match_masks(*folders)


def test_a_file_and_a_folder_are_no_pair(folders):
    with pytest.raises(InputError, match=r"a\.nii: is a file; give two folders, or two files"):
        match_masks(folders[0] / "a.nii", folders[1])


def test_a_named_label_is_not_looked_for_beside_a_file(folders):
    with pytest.raises(InputError, match=r"b\.nii\.gz: is a file; a label named lesions"):
        match_masks(folders[0] / "a.nii", folders[1] / "b.nii.gz", label="lesions")


def test_labels_of_one_name_are_refused(folders):
    with pytest.raises(InputError, match="lesion occurs more than once"):
        compare_cases(match_masks(*folders), names=["lesion", "lesion"]).check()


def test_slices_among_volumes_are_refused(folders):
    for folder in folders:
        write_volume(Volume(np.eye(4, dtype=np.uint8), np.eye(3)), folder / "c.png")
    with pytest.raises(InputError, match=r"c\.png: is a slice, but .*b\.nii\.gz a volume"):
        compare_cases(match_masks(*folders)).check()


def test_a_table_of_no_lesions_has_all_columns(folders, tmp_path):
    pair = match_masks(*folders)[0]._replace(
        truth=tmp_path / "no.nii", prediction=tmp_path / "no.nii"
    )
    write_volume(mask([0, 0, 0, 0]), tmp_path / "no.nii")
    path = write_lesions(compare_cases([pair], rule=LesionRule()).cases, tmp_path / "lesions.csv")
    assert path.read_text().strip() == "case,label,mask,lesion,outcome,voxels,mm3,x,y,z"


def test_two_files_match_whatever_their_names(folders):
    predictions, labels = folders
    pairs = match_masks(predictions / "a.nii", labels / "b.nii.gz")
    assert pairs == [("a", labels / "b.nii.gz", predictions / "a.nii")]


def test_measures_equal_a_hand_count(folders):
    rows = compare_cases(match_masks(*folders), names=["lesion", "oedema"]).check().rows
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
    rows = compare_cases(match_masks(*folders)).check().rows
    assert [row["label"] for row in rows] == ["1", "2", "1", "2"]


def test_empty_masks_still_have_one_label(tmp_path):
    write_volume(mask([0, 0, 0, 0]), tmp_path / "a.nii.gz")
    (row,) = compare_cases(match_masks(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz")).check().rows
    assert (row["label"], row["dice"]) == ("1", 1.0)


def test_written_metrics_are_those_of_a_run(folders, tmp_path):
    rows = compare_cases(match_masks(*folders), names=["lesion", "oedema"]).check().rows
    write_metrics(rows, tmp_path / "metrics.csv", split="test")
    table = read_metrics(tmp_path / "metrics.csv")
    assert len(table) == 2 * 5 + 2 * 3  # two pairs hold no such label
    (dice,) = table[
        (table.case == "a") & (table.label == "lesion") & (table.metric == "dice")
    ].value
    assert dice == pytest.approx(2 / 3)
    assert set(table.split) == {"test"}


def test_existing_metrics_are_kept_unless_told_otherwise(folders, tmp_path):
    rows = compare_cases(match_masks(*folders)).check().rows
    path = tmp_path / "metrics.csv"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"metrics\.csv"):
        write_metrics(rows, path)
    assert path.read_text() == "mine"
    write_metrics(rows, path, overwrite=True)
    assert len(read_metrics(path)) == 16


def test_prediction_without_label_is_named(folders):
    predictions, labels = folders
    (labels / "b.nii.gz").unlink()
    found = compare_cases(match_masks(predictions, labels))
    assert [case.pair.case for case in found.cases] == ["a"]
    with pytest.raises(InputError, match=r"labels: no label named b for .*b\.nii\.gz \(1 of 2"):
        found.check()
    (labels / "a.nii.gz").rename(labels / "c.nii.gz")
    with pytest.raises(InputError, match=r"no label named a for .*, nor for 1 more"):
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
        compare_cases(match_masks(*folders), names=["lesion"]).check()


def test_masks_on_different_grids_are_refused(folders):
    predictions, labels = folders
    (predictions / "b.nii.gz").unlink()
    write_volume(mask([2, 0, 0, 0], spacing=2.0), predictions / "b.nii.gz")
    with pytest.raises(InputError, match=r"b\.nii\.gz"):
        compare_cases(match_masks(predictions, labels)).check()


def test_a_value_that_occurs_nowhere_is_no_perfect_label(tmp_path):
    for folder, value in (("predictions", 4), ("labels", 1)):
        (tmp_path / folder).mkdir()
        write_volume(mask([value, 0, 0, 0]), tmp_path / folder / "a.nii.gz")
    rows = compare_cases(match_masks(tmp_path / "predictions", tmp_path / "labels")).check().rows
    assert [(row["label"], row["dice"]) for row in rows] == [("1", 0.0), ("4", 0.0)]


def test_hidden_files_are_left_out(folders):
    predictions, labels = folders
    (predictions / "._b.nii.gz").write_bytes(b"AppleDouble")
    assert all(not pair.case.startswith(".") for pair in match_masks(predictions, labels))


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0] * (data.ndim + 1))
    write_volume(Volume(data.astype(np.uint8), affine), path)
    return path


def test_lesions_are_counted_where_a_rule_is_given(tmp_path):
    truth, prediction = np.zeros((2, 2, 2, 9), np.uint8)
    truth[0, 0, [0, 3, 6]] = 1
    truth[1, 1, 8] = 2
    prediction[0, 0, [0, 4]] = 1
    files = write(tmp_path / "a.nii.gz", prediction), write(tmp_path / "t.nii.gz", truth)
    pairs = match_masks(*files)
    (case,) = compare_cases(pairs, names=["ms", "tumour"], rule=LesionRule()).cases
    ms, tumour = case.rows
    names = ("true_lesions", "found_lesions", "predicted_lesions", "false_lesions")
    assert [ms[name] for name in names] == [3, 1, 2, 1]
    assert (ms["lesion_sensitivity"], ms["lesion_precision"]) == (pytest.approx(1 / 3), 0.5)
    assert [tumour[name] for name in names] == [1, 0, 0, 0]
    assert np.isnan(tumour["lesion_precision"])
    assert case.lesions["ms"].found == 1


def test_overlaps_are_the_same_with_and_without_lesions(folders):
    pairs = match_masks(*folders)
    counted = compare_cases(pairs, rule=LesionRule()).check().rows
    plain = [{k: v for k, v in row.items() if "lesion" not in k} for row in counted]
    assert plain == compare_cases(pairs).check().rows


@pytest.mark.parametrize("nested", [True, False])
def test_labels_in_folders_of_subjects_are_matched_by_folder(tmp_path, nested):
    one = np.ones((2, 2, 2))
    for name in ("patient07", "patient19"):
        write(tmp_path / "patients" / name / "lesions.nii.gz", one)
        write(tmp_path / "patients" / name / "flair.nii.gz", one)
        mask = f"{name}/flair.nii.gz" if nested else f"{name}.nii.gz"
        write(tmp_path / "masks" / mask, one)
    pairs = match_masks(tmp_path / "masks", tmp_path / "patients", label="lesions.nii.gz")
    assert [pair.case for pair in pairs] == ["patient07", "patient19"]
    assert pairs[0].truth == tmp_path / "patients/patient07/lesions.nii.gz"
    assert [row["dice"] for row in compare_cases(pairs).check().rows] == [1, 1]


def test_two_predictions_of_a_subject_are_refused(tmp_path):
    write(tmp_path / "patients/p/lesions.nii.gz", np.ones((2, 2, 2)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write(tmp_path / "masks/p" / name, np.ones((2, 2, 2)))
    with pytest.raises(InputError, match=r"p/a\.nii\.gz and .*p/b\.nii\.gz both are the mask of p"):
        match_masks(tmp_path / "masks", tmp_path / "patients", label="lesions.nii.gz")


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ((255, 1), "save it with its label's number"),
        ((1, 255), '--labels.* 255=lesion, .*"lesion": 255}}$'),
    ],
)
def test_black_and_white_masks_get_a_hint(tmp_path, values, remedy):
    mask = np.eye(4)
    files = [
        write(tmp_path / f"{name}.png", mask * value)
        for name, value in zip(("mask", "truth"), values, strict=True)
    ]
    white = files[values.index(255)].name
    with pytest.raises(InputError, match=rf"{white}: is black and white.* are 1: .*{remedy}"):
        compare_cases(match_masks(*files)).check()


def test_black_and_white_masks_are_compared_with_each_other_but_not_named_1(tmp_path):
    files = [write(tmp_path / name, np.eye(4) * 255) for name in ("mask.png", "truth.png")]
    (row,) = compare_cases(match_masks(*files)).check().rows
    assert (row["label"], row["dice"]) == ("255", 1)
    with pytest.raises(InputError, match=r"truth\.png: is black and white.* the labels are 1"):
        compare_cases(match_masks(*files), names=["lesion"]).check()


def test_the_value_255_among_others_is_a_label(tmp_path):
    data = np.array([[0, 1], [255, 1]])
    files = [write(tmp_path / name, data) for name in ("mask.png", "truth.png")]
    assert [row["label"] for row in compare_cases(match_masks(*files)).check().rows] == ["1", "255"]


SHEARED = np.eye(4)  # edges 1, 1 and 3.354 mm, but a voxel takes up 3 mm³: 12 % less
SHEARED[:3, 2] = (0, 1.5, 3)


def test_volumes_and_lesions_of_sheared_grids_are_not_the_product_of_edges(tmp_path):
    truth = np.zeros((4, 4, 6), np.uint8)
    truth[0, 0, :5] = truth[3, 3, :2] = 1
    for name in ("labels", "masks"):
        (tmp_path / name).mkdir()
        write_volume(Volume(truth, SHEARED), tmp_path / name / "a.nii.gz")
    pairs = match_masks(tmp_path / "masks", tmp_path / "labels")
    rule = LesionRule(min_volume=15.5)  # of 5 voxels: 15 mm³; by their edges 16.8
    (row,) = compare_cases(pairs, rule=rule).check().rows
    assert row["truth_ml"] == row["prediction_ml"] == pytest.approx(0.021)
    assert row["true_lesions"] == 0
    evaluation = compare_cases(pairs, rule=LesionRule(min_volume=14.9))
    path = write_lesions(evaluation.cases, tmp_path / "lesions.csv")
    (header, *lesions) = [line.split(",") for line in path.read_text().splitlines()]
    assert [float(line[header.index("mm3")]) for line in lesions] == [15, 15]


def test_lesions_are_measured_without_their_ignored_voxels(tmp_path):
    truth, prediction = np.zeros((2, 1, 3, 12), np.uint8)
    truth[0, 1, [0, 1, 2, 3, 4]] = (1, 1, 255, 1, 1)  # parted in two
    truth[0, 1, 6:8] = 255
    prediction[0, 1, 0] = 1
    prediction[0, 1, 6:8] = 1  # altogether in voxels that count for nothing
    prediction[0, 1, 11] = 1
    files = write(tmp_path / "a.nii.gz", prediction), write(tmp_path / "t.nii.gz", truth)
    rule, coding = LesionRule(), LabelCoding(ignored=255)
    (case,) = compare_cases(match_masks(*files), rule=rule, coding=coding).cases
    match = case.lesions["1"]
    assert [(lesion.voxels, lesion.matched) for lesion in match.truth] == [(2, True), (2, False)]
    assert (match.predicted_lesions, match.false_positives) == (2, 1)


@pytest.fixture
def one_of_three_fails(folders):
    """Cases a and b as before; c lies on another grid."""
    for folder, spacing in zip(folders, (1.0, 2.0), strict=True):
        write_volume(mask([1, 0, 0, 0], spacing=spacing), folder / "c.nii.gz")
    return match_masks(*folders)


def test_a_case_that_fails_stops_no_other_and_counts_in_nothing(one_of_three_fails):
    evaluation = compare_cases(one_of_three_fails)
    assert [case.pair.case for case in evaluation.cases] == ["a", "b"]
    assert {row["case"] for row in evaluation.rows} == {"a", "b"}
    ((case, reason),) = evaluation.failed
    assert case == "c"
    assert "c.nii.gz: lies elsewhere than" in reason
    with pytest.raises(InputError, match=r"lies elsewhere .* \(1 of 3 cases failed: c\)$"):
        evaluation.check()
    with pytest.raises(InputError, match="lies elsewhere"):
        compare_cases(one_of_three_fails).check()


def test_each_reason_to_fail_concerns_its_case_alone(folders):
    predictions, labels = folders
    names = ("broken", "white", "many")
    for name in names:
        write_volume(mask([1, 0, 0, 0]), labels / f"{name}.nii.gz")
    (predictions / "broken.nii.gz").write_bytes(b"no image")
    write_volume(mask([255, 0, 0, 0]), predictions / "white.nii.gz")
    write_volume(mask([3, 0, 0, 0]), predictions / "many.nii.gz")
    evaluation = compare_cases(match_masks(*folders), names=["lesion", "oedema"])
    assert [case.pair.case for case in evaluation.cases] == ["a", "b"]
    reasons = dict(evaluation.failed)
    assert list(reasons) == sorted(names)
    assert "white.nii.gz: is black and white" in reasons["white"]
    assert "many.nii.gz: has labels 3, but those with names are 1, 2" in reasons["many"]
    assert "broken.nii.gz" in reasons["broken"]


def test_where_all_cases_fail_the_first_reason_is_said(folders):
    predictions, _ = folders
    for file in ("a.nii", "b.nii.gz"):
        (predictions / file).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.nii: .*\(2 of 2 cases failed: a, b\)$"):
        compare_cases(match_masks(*folders))


def test_a_rule_that_fits_no_case_is_an_error(folders):
    with pytest.raises(InputError, match="in 3D a voxel has 6, 18, 26 neighbours"):
        compare_cases(match_masks(*folders), rule=LesionRule(connectivity=8))


def test_only_the_first_failed_cases_are_named():
    failed = tuple(Failure(name, f"{name}.nii: broken") for name in "abcdefg")
    with pytest.raises(InputError, match=r"7 of 7 cases failed: a, b, c, d, e and 2 more"):
        Evaluation((), failed).check()
    Evaluation(()).check()


def test_labels_of_large_values_take_no_longer_than_others(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[0, 2**30]]))
    (row,) = compare_cases(match_masks(path, path)).check().rows
    assert (row["label"], row["dice"]) == (str(2**30), 1)


def test_two_masks_two_files_and_two_folders_have_the_same_score(folders, tmp_path):
    predictions, labels = folders
    names = ["lesion", "oedema"]
    both = score(truth=labels, prediction=predictions, names=names)
    assert both == compare_cases(match_masks(*folders), names=names).check().rows
    (of_files,) = score(truth=labels / "a.nii.gz", prediction=predictions / "a.nii")
    (of_masks,) = score(
        truth=mask([1, 1, 1, 0], spacing=10.0), prediction=mask([1, 1, 0, 1], spacing=10.0)
    )
    assert of_files == {**both[0], "label": "1"}
    assert of_masks == {**of_files, "case": ""}
    truth = mask([1, 1, 1, 0])
    assert score(truth=truth.with_data(truth.data > 0), prediction=truth)[0]["label"] == "1"


def test_score_reads_what_values_stand_for_beside_the_labels(tmp_path):
    for folder, value in (("predictions", 1), ("labels", 7)):
        (tmp_path / folder).mkdir()
        write_volume(mask([value, 0, 0, 0]), tmp_path / folder / "a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "plaque": 7}}')
    (row,) = score(truth=tmp_path / "labels", prediction=tmp_path / "predictions")
    assert (row["label"], row["dice"]) == ("plaque", 1)


def test_score_counts_lesions_by_the_name_of_a_rule():
    truth = mask([1, 0, 1, 0])
    (row,) = score(truth=truth, prediction=mask([1, 0, 0, 0]), names=["lesion"], rule="isbi-2015")
    assert (row["label"], row["true_lesions"], row["found_lesions"]) == ("lesion", 1, 1)
    with pytest.raises(InputError, match=r"unknown lesion-rule 'isbi': did you mean 'isbi-2015'"):
        score(truth=truth, prediction=truth, rule="isbi")


def test_score_refuses_what_makes_no_pair(folders):
    truth = mask([1, 0, 2, 0])
    with pytest.raises(InputError, match="give two masks, two files or two folders"):
        score(truth=truth, prediction=folders[0])
    with pytest.raises(InputError, match="label 2 has no name"):
        score(truth=truth, prediction=truth, names=["lesion"])
    with pytest.raises(InputError, match="give label maps, of whole numbers from 0 up"):
        score(truth=truth, prediction=truth.with_data(truth.data * 0.4))
    with pytest.raises(InputError, match="prediction: lies elsewhere than"):
        score(truth=truth, prediction=mask([1, 0, 2, 0], spacing=2.0))


@pytest.fixture
def metrics(monkeypatch):
    """The registered metrics, which are those of before when the test ends."""
    found = registry("metric")
    assert found.names()[:3] == ("dice", "sensitivity", "positive_predictive_value")
    monkeypatch.setattr(found, "_things", dict(found._things))
    return found


def test_metrics_of_others_stand_beside_those_of_segjax(metrics, folders, tmp_path):
    @register("metric", "excess_mm3")
    def excess(truth, prediction, *, spacing):
        return (int(prediction.sum()) - int(truth.sum())) * math.prod(spacing)

    rows = score(truth=folders[1], prediction=folders[0], names=["lesion", "oedema"])
    assert [row["excess_mm3"] for row in rows] == [0, 0, 0, 0]
    (row,) = score(truth=mask([1, 0, 0, 0], 2.0), prediction=mask([1, 1, 0, 0], 2.0))
    assert row["excess_mm3"] == 8
    assert list(row)[2:6] == ["dice", "sensitivity", "positive_predictive_value", "excess_mm3"]
    table = read_metrics(write_metrics(rows, tmp_path / "metrics.csv"))
    assert len(table[table.metric == "excess_mm3"]) == 2  # of the pairs that hold the label


@pytest.mark.parametrize("rank", [2, 3])
def test_a_metric_is_not_called_as_another_column_is(rank):
    nothing = Volume(np.zeros((2,) * rank, np.uint8), np.eye(rank + 1))
    (row,) = score(truth=nothing, prediction=nothing, rule="any")
    for column in row.keys() - set(registry("metric").names()) | {score_of_row(row).metric}:
        with pytest.raises(InputError, match=f"'{column}': a column of tables has that name"):
            register("metric", column, len)


def test_a_metric_that_fails_is_named_and_fails_its_case(metrics, folders):
    register("metric", "broken", lambda truth, prediction, *, spacing: 1 / 0)
    with pytest.raises(InputError, match="metric 'broken' failed: ZeroDivisionError: division"):
        compare_cases(match_masks(*folders))
