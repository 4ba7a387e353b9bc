"""What label values stand for, said on the command line, on data sets of seconds."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax import workflow
from segjax.cli import main
from segjax.data.cache.cache import open_cache
from segjax.data.io.formats import read_volume, write_volume
from segjax.train.plans import plan as planning
from segjax.volume import Volume

SHAPE = (32, 32)
BRATS = ["--labels", "1,4=core", "2=edema"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures; the values of their labels are those of BraTS."""
    folder = tmp_path / "brats"
    write_cases(folder, values=(1, 2, 4))
    return folder


def write_cases(folder, values, count=6, suffix=".npy"):
    """Draw a square for each value, brighter than the noise around it."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        label = np.zeros(SHAPE, np.uint8)
        for place, value in enumerate(values):
            label[10 * place : 10 * place + 8, number : number + 10] = value
        image = rng.normal(0, 0.1, SHAPE) + 2 * (label > 0)
        image = (50 * (image + 1)).astype(np.uint8)
        for part, array in (("labels", label), ("images", image)):
            write_volume(Volume(array, np.eye(3)), folder / part / f"{number}{suffix}")


@pytest.fixture
def planned(monkeypatch):
    """Stand in for training; return the plans."""
    plans = []

    def train(plan, *_, **__):
        plans.append(plan)
        return SimpleNamespace(best_dice=0.5, best_epoch=1)

    monkeypatch.setattr(workflow, "train", train)
    monkeypatch.setattr(workflow, "finish", lambda *_: {})
    return plans


def train(data, out, *options):
    return main(["train", "--data", str(data), "--out", str(out), "--model", "unet2d-k3", *options])


def test_merged_classes_reach_the_configuration_and_the_cases(data, tmp_path, planned, capsys):
    assert train(data, tmp_path / "run", *BRATS) == 0
    (plan,) = planned
    assert plan.config.labels == ("background", "core", "edema")
    assert plan.config.to_json()["label_values"] == {"background": 0, "core": [1, 4], "edema": 2}
    assert {case.coding for case in plan.dataset.cases} == {plan.config.label_values}
    assert "background (0), core (1, 4), edema (2)" in capsys.readouterr().out


def test_masks_of_0_and_255_are_lesions(tmp_path, planned):
    write_cases(tmp_path / "data", values=(255,), suffix=".png")
    assert train(tmp_path / "data", tmp_path / "run", "--labels", "255=lesion") == 0
    (plan,) = planned
    assert plan.config.labels == ("background", "lesion")
    assert np.unique(plan.dataset.cases[0].read_label().data).tolist() == [0, 1]


def test_folds_get_the_values_too(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(planning, "plan_folds", lambda _, *layers, **__: asked.extend(layers) or ())
    train(data, tmp_path / "cv", "--folds", "2", *BRATS)
    assert asked[-1]["label_values"] == {"background": 0, "core": [1, 4], "edema": 2}


def test_the_command_line_wins_over_dataset_json(data, tmp_path, planned):
    names = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4}
    (data / "dataset.json").write_text(json.dumps({"labels": names}))
    assert train(data, tmp_path / "run") == 0
    assert train(data, tmp_path / "run", "--labels", "1,2,4=tumour") == 0
    labels = [plan.config.labels[1:] for plan in planned]
    assert labels == [("necrosis", "edema", "enhancing"), ("tumour",)]


def test_names_are_those_of_the_values_in_order(tmp_path, planned):
    write_cases(tmp_path / "data", values=(1, 2))
    assert train(tmp_path / "data", tmp_path / "run", "--names", "core", "edema") == 0
    assert planned[0].config.labels == ("background", "core", "edema")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--labels", "1=core", "4=edema"], "0.npy: has labels 2, but the labels are 0, 1, 4; na"),
        (["--names", "core", "edema"], "the labels hold the values 4, which have no name"),
        (["--labels", "1=a", "--names", "a"], "leave out --names"),
        (["--labels", "a=1"], "--labels a=1: write VALUE=NAME"),
        ([], "--labels, such as 1=NAME 2=NAME 4=NAME"),
    ],
)
def test_values_that_stand_for_nothing_are_told_with_their_file(
    data, tmp_path, planned, options, said, capsys
):
    assert train(data, tmp_path / "run", *options) == 1
    assert said in capsys.readouterr().err
    assert not planned


def test_a_plan_holds_the_values_and_a_training_applies_them(data, tmp_path, planned):
    plan = tmp_path / "plan.json"
    options = ["--labels", "1,4=core", "2=ignore", "--out", str(plan)]
    assert main(["plan", str(data), *options]) == 0
    assert json.loads(plan.read_text())["label_values"] == {
        "background": 0,
        "core": [1, 4],
        "ignore": 2,
    }
    assert train(data, tmp_path / "run", "--config", str(plan)) == 0
    assert train(data, tmp_path / "run", "--config", str(plan), *BRATS) == 0
    assert [plan.config.labels[1:] for plan in planned] == [("core",), ("core", "edema")]
    assert planned[0].dataset.coding.ignored == 2


def test_a_plan_that_is_there_is_refused_before_the_data_are_read(tmp_path, capsys):
    plan = tmp_path / "plan.json"
    plan.write_text("mine")
    assert main(["plan", str(tmp_path / "nowhere"), "--out", str(plan)]) == 1
    assert f"{plan}: exists already" in capsys.readouterr().err
    assert plan.read_text() == "mine"


def test_a_cache_is_made_with_the_values_and_a_training_takes_them_over(
    data, tmp_path, planned, capsys, monkeypatch
):
    monkeypatch.setattr(workflow, "_draw", lambda *_: {})  # figures take seconds
    steps = tmp_path / "steps.json"
    steps.write_text('[{"step": "z-score"}]')
    settings = tmp_path / "plan.json"
    values = {"tumour": [1, 2, 4]}
    settings.write_text(json.dumps({"pipeline": [{"step": "z-score"}], "label_values": values}))
    cache = tmp_path / "cache"
    command = ["preprocess", str(data), str(cache), "--config", str(steps), "-j", "1"]
    assert main([*command, *BRATS]) == 0
    assert np.unique(open_cache(cache).cases[0].label).tolist() == [0, 1, 2]
    for options in ([], BRATS):
        assert train(cache, tmp_path / "run", *options) == 0
    assert [plan.config.labels[1:] for plan in planned] == [("core", "edema")] * 2
    assert train(cache, tmp_path / "run", "--labels", "1,2,4=tumour") == 1
    assert "its label values stand for background (0), core (1, 4), edema (2), not for backg" in (
        capsys.readouterr().err
    )
    assert main(["preprocess", str(data), str(cache), "--config", str(settings), "-j", "1"]) == 0
    assert np.unique(open_cache(cache).cases[0].label).tolist() == [0, 1]


def test_evaluation_reads_the_labels_as_the_training_did(data, tmp_path, capsys):
    masks, table = tmp_path / "masks", tmp_path / "metrics.csv"
    masks.mkdir()
    truth = read_volume(data / "labels/0.npy").data
    classes = np.array([0, 1, 2, 0, 1], np.uint8)[truth]
    classes[truth == 4] = 0  # core: TP 80 of 160, nothing else
    write_volume(Volume(classes, np.eye(3)), masks / "0.npy")
    command = ["evaluate", str(masks), str(data / "labels")]
    assert main([*command, *BRATS, "-o", str(table)]) == 0
    rows = [row for row in rows_of(table) if row["metric"] == "dice"]
    assert {row["label"]: float(row["value"]) for row in rows} == {
        "core": pytest.approx(2 * 80 / (80 + 160)),
        "edema": 1,
    }
    capsys.readouterr()
    assert main([*command, "--labels", "1=core", "2=edema", "4=ignore"]) == 0
    assert "1.0000" in capsys.readouterr().out
    assert main([*command, "--labels", "1=core", "2=edema"]) == 1
    assert "0.npy: has labels 4" in capsys.readouterr().err
    for options, said in (["--ignore", "2"], "write 2=ignore"), (["--names", "a"], "leave out"):
        assert main([*command, *BRATS, *options]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_trains_and_measures_with_the_values_it_was_given_and_no_others(
    tmp_path, capsys, small_networks
):
    data, run = tmp_path / "data", tmp_path / "run"
    write_cases(data, values=(1, 2, 4))
    options = ["--model", "small2d", "--epochs", "8", "--batch-size", "2", "--dropout", "0"]
    options += ["--patch-size", "32", "32", "--validation", "0.3", "--learning-rate", "0.003"]
    values = ["--labels", "1,4=tumour", "2=ignore"]
    assert train(data, run, *options, *values) == 0
    assert train(data, run, *options, "--labels", "1,4=tumour", "2=background") == 1
    assert 'label_values ({"background": 0, "tumour": [1, 4], "ignore": 2} there,' in (
        capsys.readouterr().err
    )
    split = json.loads((run / "split.json").read_text())
    images = [str(data / "images" / f"{name}.npy") for name in split["validation"]]
    masks = tmp_path / "masks"
    assert main(["predict", str(run / "model.onnx"), *images, "-o", str(masks)]) == 0
    assert "tumour" in capsys.readouterr().out
    table = tmp_path / "metrics.csv"
    command = ["evaluate", str(masks), str(data / "labels"), *values, "-o", str(table)]
    assert main(command) == 0
    measured = {row["case"]: row for row in rows_of(table) if row["metric"] == "dice"}
    for name in split["validation"]:
        truth = read_volume(data / "labels" / f"{name}.npy").data
        mask = read_volume(masks / f"{name}.npy").data
        assert (mask[truth == 2] == 1).any()  # it is as bright as the tumour
        counts = truth != 2
        tumour, found = np.isin(truth, [1, 4]), mask[counts] == 1
        dice = 2 * (tumour[counts] & found).sum() / (tumour.sum() + found.sum())
        assert measured[name]["label"] == "tumour"
        assert float(measured[name]["value"]) == pytest.approx(dice)
        best = max(
            (row for row in rows_of(run / "metrics.csv") if row["case"] == name),
            key=lambda row: (row["metric"] == "dice", abs(float(row["value"]) - dice) < 1e-6),
        )
        assert (best["label"], float(best["value"])) == ("tumour", pytest.approx(dice))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
