"""The page of an evaluation: what it says, what lies beside it, and which images it draws."""

import csv
import re
from datetime import datetime
from html import unescape

import numpy as np
import pytest

import segjax
from segjax.data.io.formats import write_volume
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.evaluate.compare import compare_cases
from segjax.evaluate.lesions import LesionRule
from segjax.evaluate.pairs import Pair, match_masks
from segjax.report import evaluation as folder_report
from segjax.report.evaluation import check_free, find_images_of, write_evaluation
from segjax.runs.metrics import read_metrics
from segjax.volume import Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = (-10, -20, -30)


@pytest.fixture
def folders(tmp_path):
    """Case a: one of two lesions found, none invented; case b: nothing found."""
    data = np.zeros((6, 8, 8, 8), np.uint8)
    data[0, 1:3, 1, 1] = data[0, 5:7, 5, 5:7] = 1
    data[1, 5:7, 5, 5] = 1
    data[2, 4, 4, 4] = 1
    image = np.random.default_rng(0).uniform(1, 2, (8, 8, 8)).astype(np.float32)
    for folder in ("labels", "masks", "images"):
        (tmp_path / folder).mkdir()
    for name, truth, mask in (("a", data[0], data[1]), ("b", data[2], data[3])):
        write_volume(Volume(truth, AFFINE), tmp_path / "labels" / f"{name}.nii.gz")
        write_volume(Volume(mask, AFFINE), tmp_path / "masks" / f"{name}.nii.gz")
        write_volume(Volume(image, AFFINE), tmp_path / "images" / f"{name}_0000.nii.gz")
    return tmp_path


@pytest.fixture
def pairs(folders):
    return match_masks(folders / "masks", folders / "labels")


def test_page_tables_and_pictures_are_written(folders, pairs):
    cases = compare_cases(pairs, names=["lesion"], rule=LesionRule())
    images = find_images_of(pairs, folders / "images")
    page = write_evaluation(cases, folders / "out", images=images)
    text = page.read_text()
    assert {file.name for file in (folders / "out").rglob("*.*")} == {
        "report.html", "metrics.csv", "lesions.csv", "a.png", "b.png",
    }  # fmt: skip
    assert text.count("data:image/png;base64,") == 2
    assert not re.search(r"https?://|<script|@import", text)
    assert "Lesions: lesion" in text
    assert "26 neighbours" in text
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    start = cells.index("all lesions")
    # of three lesions one is found; one is predicted, rightly; 7 voxels of 8 mm³, 2 predicted
    assert cells[start + 1 : start + 11] == [
        "3", "1", "2", "1", "0", "0.333", "1.000", "0.500", "0.056", "0.016",
    ]  # fmt: skip
    assert "–" in cells  # precision of case b, which has no prediction


def test_every_lesion_is_listed_with_its_place_in_the_patient(folders, pairs):
    cases = compare_cases(pairs, rule=LesionRule())
    write_evaluation(cases, folders / "out")
    with (folders / "out/lesions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["case"], r["mask"], r["outcome"], r["voxels"], r["mm3"]) for r in rows] == [
        ("a", "truth", "found", "4", "32.0"),
        ("a", "truth", "missed", "2", "16.0"),
        ("a", "prediction", "true", "2", "16.0"),
        ("b", "truth", "missed", "1", "8.0"),
    ]
    # centre of voxels (5..6, 5, 5..6) by the affine: 2 · (5.5, 5, 5.5) + (-10, -20, -30)
    assert [float(rows[0][axis]) for axis in "xyz"] == [1.0, -10.0, -19.0]


def test_metrics_beside_the_page_are_tidy(folders, pairs):
    write_evaluation(compare_cases(pairs, rule=LesionRule()), folders / "out")
    table = read_metrics(folders / "out/metrics.csv").set_index(["case", "metric"]).value
    assert table["a", "lesion_sensitivity"] == 0.5
    assert table["b", "true_lesions"] == 1
    assert np.isnan(table["b", "lesion_precision"])
    assert table["b", "lesion_f1"] == 0


def test_without_lesions_the_page_shows_overlaps(folders, pairs):
    images = find_images_of(pairs, folders / "images")
    text = write_evaluation(compare_cases(pairs), folders / "out", images=images).read_text()
    assert "esions:" not in text
    assert not (folders / "out/lesions.csv").exists()
    assert text.count("data:image/png;base64,") == 2


def test_the_worst_case_is_drawn_first(folders, pairs, monkeypatch):
    monkeypatch.setattr(folder_report, "_MOST", 1)
    images = find_images_of(pairs, folders / "images")
    cases = compare_cases(pairs, rule=LesionRule())
    text = write_evaluation(cases, folders / "out", images=images).read_text()
    assert [file.name for file in (folders / "out/figures").iterdir()] == ["b.png"]
    assert "from the worst on; 1 better case left out." in text


def test_each_label_has_its_picture(folders, pairs):
    truth = Volume(np.zeros((8, 8, 8), np.uint8), AFFINE)
    truth.data[1, 1, 1], truth.data[5, 5, 5] = 1, 2
    write_volume(truth, folders / "labels/a.nii.gz", overwrite=True)
    cases = compare_cases(pairs[:1], rule=LesionRule())
    images = find_images_of(pairs[:1], folders / "images")
    write_evaluation(cases, folders / "out", images=images)
    assert sorted(f.name for f in (folders / "out/figures").iterdir()) == ["a_1.png", "a_2.png"]


def test_cases_that_failed_are_named_and_count_in_no_mean(folders, pairs):
    (folders / "masks/b.nii.gz").write_bytes(b"no <image>")
    images = find_images_of(pairs, folders / "images")
    evaluation = compare_cases(pairs, rule=LesionRule())
    text = write_evaluation(evaluation, folders / "out", images=images).read_text()
    assert "<b>1</b><span>failed, in no mean</span>" in text
    assert "<b>0.500</b><span>mean Dice</span>" in text  # of case a: TP 2, FN 4
    (table,) = re.findall(r"Cases that failed</h2>.*?</table>", text, re.DOTALL)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", table)[0] == "b"
    assert "masks/b.nii.gz" in table
    assert set(read_metrics(folders / "out/metrics.csv").case) == {"a"}
    assert [file.name for file in (folders / "out/figures").iterdir()] == ["a.png"]


@pytest.mark.parametrize("rule", [None, LesionRule()])
def test_pictures_show_no_voxels_that_are_to_be_ignored(folders, pairs, monkeypatch, rule):
    shown = []

    def keep(image, truth, prediction, *, path, **_):
        shown.append((truth.data.sum(), prediction.data.sum()))
        path.write_bytes(b"\0" * 24)

    monkeypatch.setattr(folder_report, "overlay", keep)
    monkeypatch.setattr(folder_report, "lesion_overlay", keep)
    labels = Volume(np.zeros((8, 8, 8), np.uint8), AFFINE)
    labels.data[5:7, 5, 5], labels.data[5, 5, 5] = 1, 255
    write_volume(labels, folders / "labels/a.nii.gz", overwrite=True)
    coding, images = LabelCoding(ignored=255), find_images_of(pairs, folders / "images")
    evaluation = compare_cases(pairs[:1], rule=rule, coding=coding)
    write_evaluation(evaluation, folders / "out", images=images)
    assert shown == [(1, 1)]  # of the two predicted voxels one counts for nothing


def test_the_page_says_how_it_came_about(folders, pairs):
    text = write_evaluation(compare_cases(pairs), folders / "out", seconds=90.0).read_text()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text.partition("How it came about")[2])
    facts = dict(zip(cells[::2], map(unescape, cells[1::2]), strict=True))
    assert list(facts) == ["date", "command", "data", "time", "machine", "versions"]
    assert facts["data"] == f"masks {folders / 'masks'}, labels {folders / 'labels'}"
    assert facts["time"] == "1 min 30 s"
    assert datetime.fromisoformat(facts["date"]).utcoffset() is not None
    assert f"segjax {segjax.__version__}" in facts["versions"]
    assert "Whether the network was trained on some of these cases is not known" in text


def test_the_page_says_what_the_cases_were_for(folders, pairs):
    images = find_images_of(pairs, folders / "images")
    roles = {"a": "training", "other": "test"}
    options = {"images": images, "roles": roles}
    text = write_evaluation(compare_cases(pairs), folders / "out", **options).read_text()
    assert "By the network's split: 1 training case, 1 case not known." in text
    assert "Of a training case Dice says how well it was learned" in text
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text.partition("Every case")[2])
    assert cells[:2] == ["b", "not known"]
    assert cells[cells.index("a") + 1] == "training"
    assert 'alt="a (training case)"' in text
    tested = {"a": "test", "b": "test"}
    options = {"roles": tested, "overwrite": True}
    text = write_evaluation(compare_cases(pairs), folders / "out", **options).read_text()
    assert "By the network's split: 2 test cases." in text
    assert "Of a training case" not in text


def test_an_earlier_page_is_kept_unless_told_otherwise(folders, pairs):
    cases = compare_cases(pairs)
    write_evaluation(cases, folders / "out")
    with pytest.raises(InputError, match=r"report\.html"):
        write_evaluation(cases, folders / "out")
    write_evaluation(cases, folders / "out", overwrite=True)


def test_the_folder_of_a_run_is_never_written_into(folders, pairs):
    (folders / "run").mkdir()
    (folders / "run/config.json").write_text("{}")
    with pytest.raises(InputError, match="run: is the folder of a run"):
        write_evaluation(compare_cases(pairs), folders / "run", overwrite=True)


def test_images_on_another_grid_are_refused_and_nothing_is_written(folders, pairs):
    other = Volume(np.ones((8, 8, 8), np.float32), np.eye(4))
    write_volume(other, folders / "images/b_0000.nii.gz", overwrite=True)
    with pytest.raises(InputError, match=r"b_0000\.nii\.gz"):
        write_evaluation(
            compare_cases(pairs), folders / "out", images=find_images_of(pairs, folders / "images")
        )
    assert list((folders / "out").iterdir()) == []


def test_images_are_found_by_name_beside_the_label_or_as_a_file(folders, pairs):
    images = folders / "images"
    assert find_images_of(pairs, images)["a"] == images / "a_0000.nii.gz"
    (images / "a_0000.nii.gz").rename(images / "a.nii.gz")
    assert find_images_of(pairs, images)["a"] == images / "a.nii.gz"
    assert find_images_of(pairs[:1], images / "a.nii.gz") == {"a": images / "a.nii.gz"}
    (folders / "labels/flair.nii.gz").touch()
    beside = find_images_of(pairs, "flair.nii.gz")
    assert beside == dict.fromkeys("ab", folders / "labels/flair.nii.gz")


def test_images_are_found_by_suffixes_of_any_case_and_unicode_form(tmp_path):
    (tmp_path / "Ju\u0308rgen.NII.GZ").touch()
    pair = Pair("J\u00fcrgen", tmp_path / "labels/a.nii", tmp_path / "masks/a.nii")
    assert find_images_of([pair], tmp_path) == {pair.case: tmp_path / "Ju\u0308rgen.NII.GZ"}


def test_two_images_of_a_case_are_refused(folders, pairs):
    (folders / "images/b_0000.nii").touch()
    with pytest.raises(InputError, match=r"b_0000\.nii and b_0000\.nii\.gz have one name; leave"):
        find_images_of(pairs, folders / "images")


def test_a_case_without_an_image_is_named(folders, pairs):
    (folders / "images/b_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="images: no image named b or b_0000"):
        find_images_of(pairs, folders / "images")


def test_images_that_are_neither_folder_nor_beside_the_labels_are_named(folders, pairs):
    with pytest.raises(InputError, match=r"t2\.nii\.gz: no folder of images, and no file .*t2"):
        find_images_of(pairs, "t2.nii.gz")


def test_lesions_of_an_earlier_page_go_where_none_are_counted(folders, pairs):
    write_evaluation(compare_cases(pairs, rule=LesionRule()), folders / "out")
    write_evaluation(compare_cases(pairs), folders / "out", overwrite=True)
    assert not (folders / "out/lesions.csv").exists()


def test_a_full_disk_leaves_what_was_there_before(folders, pairs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    images = find_images_of(pairs, folders / "images")
    monkeypatch.setattr(folder_report, "write_lesions", full)
    with pytest.raises(InputError, match="No space left"):
        write_evaluation(compare_cases(pairs, rule=LesionRule()), folders / "out", images=images)
    assert list((folders / "out").iterdir()) == []


def test_a_report_goes_into_a_folder_that_has_a_parent(folders):
    with pytest.raises(InputError, match=r"labels/a\.nii\.gz: is a file; name a folder"):
        check_free(folders / "labels/a.nii.gz", overwrite=True)
    with pytest.raises(InputError, match="there is no folder"):
        check_free(folders / "nowhere/out")


def test_means_are_over_the_cases_that_hold_the_label(folders):
    empty = np.zeros((8, 8, 8), np.uint8)
    spot = empty.copy()
    spot[:5, :5, :5] = 1  # 125 voxels of 8 mm³
    for folder, mask in (("labels", empty), ("masks", spot)):
        write_volume(Volume(mask, AFFINE), folders / folder / "c.nii.gz")
    cases = compare_cases(match_masks(folders / "masks", folders / "labels"), names=["lesion"])
    text = write_evaluation(cases, folders / "out").read_text()
    dice = 2 * 2 / (2 + 6)  # of case a; that of case b is 0
    assert f"<b>{dice / 2:.3f}</b><span>mean Dice</span>" in text
    assert "Without lesion: 1 of 3 cases, false positives in 1 (1.000 ml on average)." in text
    metrics = read_metrics(folders / "out" / "metrics.csv")
    assert metrics[metrics.metric == "dice"].value.mean() == pytest.approx(dice / 2)
    assert metrics[metrics.case == "c"].metric.tolist() == [
        "false_positive_ml", "truth_ml", "prediction_ml",
    ]  # fmt: skip
    assert metrics[metrics.case == "c"].value.tolist() == [1, 0, 1]


def test_lesions_of_many_cases_are_folded_under_their_sums(folders):
    pair = match_masks(folders / "masks", folders / "labels")[0]
    many = [pair._replace(case=f"case {n}") for n in range(31)]
    for pairs, shown in ((many[:30], True), (many, False)):
        found = compare_cases(pairs, names=["lesion"], rule=LesionRule())
        text = write_evaluation(found, folders / f"out{len(pairs)}").read_text()
        open_part = text[text.index("<h2>Lesions") :].partition("<details")[0]
        assert ("<td>case 7</td>" in open_part) == shown
        assert "<td>all lesions</td>" in open_part
        assert ("Lesions of 31 cases" in text) != shown
        assert "<td>case 7</td>" in text


def test_units_of_agreement_stand_with_what_has_one(folders):
    pair = match_masks(folders / "masks", folders / "labels")[0]
    found = compare_cases([pair._replace(case=case) for case in "abc"], names=["lesion"])
    text = write_evaluation(found, folders / "out").read_text()
    assert "<td>bias (prediction − truth, ml)</td>" in text
    assert "<th>ml</th>" not in text


def test_an_evaluation_of_healthy_cases_alone_has_no_mean(folders):
    empty = Volume(np.zeros((8, 8, 8), np.uint8), AFFINE)
    write_volume(empty, folders / "labels" / "b.nii.gz", overwrite=True)
    _, pair = match_masks(folders / "masks", folders / "labels")
    text = write_evaluation(compare_cases([pair]), folders / "out").read_text()
    assert "<b>–</b><span>mean Dice</span>" in text
    assert "1 of 1 case, no false positives" in text
    assert "<h2>Measures" not in text  # of dashes alone
