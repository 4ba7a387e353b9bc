"""``segjax evaluate`` with lesions and reports; its plain form is in test_commands.py."""

import csv
import json

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.evaluate.lesions import LesionRule
from segjax.registry import registry
from segjax.volume import Volume


@pytest.fixture
def folders(tmp_path):
    """A case with three true lesions, of which one is found, and one false positive."""
    truth, mask = np.zeros((2, 6, 6, 9), np.uint8)
    truth[1:3, 1, 0] = truth[1, 1, 4] = truth[1, 1, 8] = 1
    mask[1, 1, 0] = mask[4:6, 4, 4] = 1
    image = np.random.default_rng(0).uniform(1, 2, truth.shape).astype(np.float32)
    for folder, data in (("labels", truth), ("masks", mask), ("images", image)):
        (tmp_path / folder).mkdir()
        write_volume(Volume(data, np.eye(4)), tmp_path / folder / "a.nii.gz")
    return tmp_path


@pytest.fixture
def evaluate(folders, capsys):
    """Run the command on the folders and return its exit code and its text."""

    def run(*options):
        code = main(["evaluate", str(folders / "masks"), str(folders / "labels"), *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def line(text, start):
    return next(row.split() for row in text.splitlines() if row.startswith(start))


def test_lesions_are_not_counted_unless_asked_for(evaluate):
    code, text = evaluate()
    assert code == 0
    assert "esion" not in text


def test_lesions_are_counted_and_the_rule_is_said(evaluate, folders):
    code, text = evaluate("--lesions", "-o", str(folders / "metrics.csv"))
    assert code == 0
    table = text[text.index("Lesions of label 1") :]
    assert line(table, "a ")[1:9] == ["3", "1", "2", "2", "1", "0.333", "0.500", "0.400"]
    assert "26 neighbours" in table
    with (folders / "metrics.csv").open(newline="") as file:
        values = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert (values["true_lesions"], values["false_lesions"]) == (3, 1)
    assert values["lesion_f1"] == pytest.approx(0.4)


def test_a_table_that_exists_is_refused_before_the_work(evaluate, folders):
    (folders / "metrics.csv").touch()
    code, text = evaluate("-o", str(folders / "metrics.csv"))
    assert code == 1
    assert "metrics.csv: exists already" in text
    assert "Dice" not in text


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (("--lesion-min", "2"), ["1", "0", "1", "1", "1"]),
        (("--lesion-overlap", "0.5"), ["3", "0", "3", "2", "1"]),
        (("--lesion-rule", "any"), ["3", "1", "2", "2", "1"]),
        (("--lesion-rule", "msseg-2016"), ["3", "1", "2", "2", "1"]),
        (("--connectivity", "6"), ["3", "1", "2", "2", "1"]),
    ],
)
def test_each_option_of_the_rule_counts_lesions(evaluate, options, counts):
    code, text = evaluate(*options)
    assert code == 0
    assert line(text[text.index("Lesions of") :], "a ")[1:6] == counts


def test_rules_are_those_that_are_registered(evaluate, monkeypatch):
    rules = registry("lesion-rule")
    assert "any, isbi-2015, msseg-2016" in evaluate("--lesion-rule", "mine")[1]
    monkeypatch.setattr(rules, "_things", rules._things | {"mine": LesionRule(min_volume=2)})
    _, text = evaluate("--lesion-rule", "mine")
    assert line(text[text.index("Lesions of") :], "a ")[1:6] == ["1", "0", "1", "1", "1"]


def test_sizes_of_pictures_are_in_pixels(tmp_path, capsys):
    write_volume(Volume(np.eye(4, dtype=np.uint8), np.eye(3)), tmp_path / "a.png")
    files = [str(tmp_path / "a.png")] * 2
    assert main(["evaluate", *files, "--lesions", "--report", str(tmp_path / "out")]) == 0
    for text in (capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text()):
        assert "pixels" in text
        assert "voxels" not in text


def test_ratios_of_nothing_are_dashes(evaluate, folders):
    empty = Volume(np.zeros((6, 6, 9), np.uint8), np.eye(4))
    write_volume(empty, folders / "masks/a.nii.gz", overwrite=True)
    _, text = evaluate("--lesions")
    assert line(text[text.index("Lesions of") :], "a ")[6:9] == ["0.000", "–", "0.000"]


def test_the_report_holds_tables_and_pictures(evaluate, folders):
    out = folders / "out"
    options = ("--lesions", "--images", str(folders / "images"), "--report", str(out))
    code, text = evaluate(*options)
    assert code == 0
    assert str(out / "report.html") in text.replace("\n", "")
    assert {f.name for f in out.rglob("*.*")} == {
        "report.html", "metrics.csv", "lesions.csv", "a.png",
    }  # fmt: skip
    code, text = evaluate(*options)
    assert code == 1
    assert "report.html: exists already" in text
    assert evaluate(*options, "--overwrite")[0] == 0


def test_the_report_says_what_cases_were_for_where_the_run_is_named(evaluate, folders):
    run = folders / "run"
    run.mkdir()
    options = ("--report", str(folders / "out"), "--run", str(run))
    assert "run: holds no split.json; name the folder of a run" in evaluate(*options)[1]
    (run / "split.json").write_text('{"train": ["b"], "validation": ["a"], "test": []}')
    assert evaluate(*options)[0] == 0
    assert "1 validation case." in (folders / "out" / "report.html").read_text()
    assert "--run is told of in a --report" in evaluate("--run", str(run))[1]


def test_images_without_a_report_are_refused(evaluate, folders):
    code, text = evaluate("--images", str(folders / "images"))
    assert code == 1
    assert "--images are drawn in a --report" in text


def test_a_case_that_fails_stops_no_other_and_the_exit_code_is_1(evaluate, folders):
    (folders / "masks/b.nii.gz").write_bytes(b"no image")
    write_volume(Volume(np.ones((6, 6, 9), np.uint8), np.eye(4)), folders / "labels/b.nii.gz")
    code, text = evaluate("-o", str(folders / "metrics.csv"), "--report", str(folders / "out"))
    assert code == 1
    assert "mean Dice  0.2857 of 1 case" in text  # TP 1, FN 3, FP 2
    assert line(text, "failed, in no mean")
    assert line(text, "b ")[1].endswith("masks/b.nii.gz:")
    assert "(1 of 2 cases failed: b)" in text
    for path in (folders / "metrics.csv", folders / "out/metrics.csv"):
        with path.open(newline="") as file:
            assert {row["case"] for row in csv.DictReader(file)} == {"a"}


def test_dataset_json_says_what_values_stand_for(evaluate, folders):
    truth = np.zeros((6, 6, 9), np.uint8)
    truth[1, 1, 0], truth[4:6, 4, 4] = 255, 9
    write_volume(Volume(truth, np.eye(4)), folders / "labels/a.nii.gz", overwrite=True)
    labels = {"background": 0, "lesion": 255, "ignore": 9}
    (folders / "dataset.json").write_text(json.dumps({"labels": labels}))
    code, text = evaluate()
    assert code == 0
    assert "Dice lesion" in text
    assert line(text, "a ")[1] == "1.0000"
    assert "Dice tumour" in evaluate("--names", "tumour")[1]


def test_a_value_can_be_ignored(evaluate, folders):
    truth = np.zeros((6, 6, 9), np.uint8)
    truth[1, 1, 0], truth[4:6, 4, 4] = 1, 255
    write_volume(Volume(truth, np.eye(4)), folders / "labels/a.nii.gz", overwrite=True)
    assert line(evaluate("--ignore", "255")[1], "a ")[1:] == ["1.0000"]
    assert line(evaluate()[1], "a ")[1:] == ["0.5000", "0.0000"]


def test_a_lesion_of_a_sheared_grid_is_left_out_by_its_volume(evaluate, folders):
    sheared = np.eye(4)
    sheared[:3, 2] = (0, 1.5, 3)  # 2 voxels have 6 mm³, by their edges 6.7
    mask = np.zeros((6, 6, 9), np.uint8)
    mask[1:3, 1, 0] = 1
    for folder in ("labels", "masks"):
        write_volume(Volume(mask, sheared), folders / folder / "a.nii.gz", overwrite=True)
    for least, count in (("5.9", "1"), ("6.1", "0")):
        text = evaluate("--lesion-min", least)[1]
        assert line(text[text.index("Lesions of") :], "a ")[1] == count


@pytest.mark.parametrize("value", ["0", "-1"])
def test_the_background_cannot_be_ignored(evaluate, value):
    code, text = evaluate("--ignore", value)
    assert code == 1
    assert f"{value} cannot be ignored" in text


@pytest.fixture
def five(folders):
    """Five cases; a second folder of masks that are the truth."""
    rng = np.random.default_rng(0)
    (folders / "other").mkdir()
    for number, case in enumerate("abcde"):
        truth = np.zeros((6, 6, 9), np.uint8)
        truth[: 2 + number % 3, :3, :3] = 1
        mask = truth & (rng.random(truth.shape) > 0.2)
        likely = np.stack([1 - 0.75 * mask, 0.75 * mask], axis=-1).astype(np.float32)
        for folder, data in (("labels", truth), ("masks", mask), ("other", truth)):
            volume = Volume(data.astype(np.uint8), np.eye(4))
            write_volume(volume, folders / folder / f"{case}.nii.gz", overwrite=True)
        write_volume(Volume(likely, np.eye(4)), folders / "masks" / f"{case}_probabilities.nii.gz")
    return folders


def test_means_have_intervals_over_patients_where_these_are_named(evaluate, five):
    alone = line(evaluate()[1], "Dice ")
    assert len(alone) == 9
    assert float(alone[2]) < float(alone[1]) < float(alone[4])
    assert alone[-1] == "5"
    (five / "patients.csv").write_text("case,patient\na,1\nb,1\nc,1\nd,2\ne,2\n")
    together = line(evaluate("--groups", str(five / "patients.csv"))[1], "Dice ")
    assert together[1] == alone[1]
    assert together[2:5] != alone[2:5]
    (five / "patients.csv").write_text("case,patient\na,1\n")
    code, text = evaluate("--groups", str(five / "patients.csv"))
    assert code == 1
    assert "patients.csv" in text


def test_a_second_model_is_compared_on_the_same_cases(evaluate, five):
    out = five / "out"
    code, text = evaluate("--against", str(five / "other"), "--report", str(out))
    assert code == 0
    row = line(text[text.index("against") :], "1 ")
    assert row[1:3] == ["Dice", "5"]
    assert row[4] == "1.000"  # of the second model
    assert row[9:14] == ["0", "/", "0", "/", "5"]
    assert "Against a second model" in (out / "report.html").read_text()
    (five / "other" / "c.nii.gz").unlink()
    code, text = evaluate("--against", str(five / "other"))
    assert code == 1
    assert "c: a case of one of the two models only" in text
    assert "Dice" not in text  # before the work


def test_a_case_that_fails_in_the_second_model_is_left_out_of_the_comparison_alone(evaluate, five):
    write_volume(Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4)), five / "other" / "c.nii.gz",
                 overwrite=True)  # fmt: skip
    out = five / "out"
    code, text = evaluate("--against", str(five / "other"), "--report", str(out))
    assert code == 1
    assert line(text[text.index("against") :], "1 ")[1:3] == ["Dice", "4"]
    assert "failed of the second model" in text
    assert "1 of 5 cases failed: c" in text
    assert (out / "report.html").exists()


def test_a_single_mask_is_compared_with_that_of_a_second_model(five, capsys):
    masks = [str(five / name) for name in ("masks/a.nii.gz", "labels/a.nii.gz", "other/b.nii.gz")]
    assert main(["evaluate", *masks[:2], "--against", masks[2]]) == 0
    assert line(capsys.readouterr().out.partition("(second)")[2], "1 ")[1:3] == ["Dice", "1"]


def test_probabilities_are_held_against_the_labels(evaluate, five):
    out = five / "out"
    code, text = evaluate("--calibration", "--report", str(out))
    assert code == 0
    assert line(text[text.index("calibration") :], "1 ")[1] != "0.0000"
    assert {file.name for file in (out / "figures").iterdir()} == {
        "loads.png", "loads.svg", "loads_dice.png", "loads_dice.svg",
        "reliability.png", "reliability.svg",
    }  # fmt: skip
    assert "Reliability curve" in (out / "report.html").read_text()


def test_a_mask_is_never_replaced_by_a_table(evaluate, folders):
    mask = folders / "masks" / "a.nii.gz"
    before = mask.read_bytes()
    code, text = evaluate("-o", str(mask), "--overwrite")
    assert code == 1
    assert "the table is written as .csv" in text
    assert mask.read_bytes() == before


def test_a_report_is_not_written_among_masks(evaluate, folders):
    table = folders / "masks" / "lesions.csv"
    table.write_text("of segjax predict")
    code, text = evaluate("--report", str(folders / "masks"), "--overwrite")
    assert code == 1
    assert "holds masks; name another folder" in text
    assert table.read_text() == "of segjax predict"


def test_probabilities_that_are_missing_are_named_and_the_rest_is_written(evaluate, five):
    (five / "masks" / "c_probabilities.nii.gz").unlink()
    table = five / "metrics.csv"
    code, text = evaluate("--calibration", "-o", str(table))
    assert code == 1
    assert "not calibrated" in text
    assert "no c_probabilities beside it" in text
    assert "1 of 5 cases failed: c" in text
    assert line(text, "calibration ")
    assert table.exists()
    for file in (five / "masks").glob("*_probabilities.nii.gz"):
        file.unlink()
    code, text = evaluate("--calibration", "--report", str(five / "out"))
    assert code == 1
    assert "Reliability curve" not in (five / "out" / "report.html").read_text()


def test_further_measures_are_rows_of_the_table(evaluate, five):
    table = five / "metrics.csv"
    code, text = evaluate("--also", "overlap", "panoptic", "-o", str(table))
    assert code == 0
    assert line(text, "jaccard ")
    with table.open(newline="") as file:
        measures = {row["metric"] for row in csv.DictReader(file)}
    assert measures >= {"jaccard", "specificity", "panoptic_quality"}
    code, text = evaluate("--also", "surface")
    assert code == 1
    assert "surfaces" in text


def test_healthy_cases_are_counted_as_false_alarms_in_the_report(evaluate, five):
    empty = Volume(np.zeros((6, 6, 9), np.uint8), np.eye(4))
    write_volume(empty, five / "labels" / "a.nii.gz", overwrite=True)
    assert evaluate("--report", str(five / "out"))[0] == 0
    text = (five / "out" / "report.html").read_text()
    assert "False alarms" in text
    assert "1.000 (0.207 to 1.000)" in text  # Wilson, 1 of 1
