"""Dice after some minutes: trainings fill their time, are done once, and all segment one fold."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from segjax.data.splits import fold_splits

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import time_to_dice

    yield time_to_dice
    for name in ("time_to_dice", "studies"):
        sys.modules.pop(name, None)


@pytest.fixture
def setting(script, tmp_path, monkeypatch):
    """Lay out ten cases without content."""
    monkeypatch.setattr(script.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for kind in ("images", "labels"):
        (tmp_path / "data/hippocampus" / kind).mkdir(parents=True)
        for name in range(10):
            (tmp_path / "data/hippocampus" / kind / f"case{name}.nii.gz").touch()
    options = {"data": tmp_path / "data", "out": tmp_path / "out", "nnunet": None}
    return script.prepared(Namespace(**options, minutes=[30, 10], threads=2, quick=False))


def test_all_segment_the_first_of_five_folds(setting):
    split = fold_splits([f"case{name}" for name in range(10)], 5, seed=0)[0]
    assert json.loads((setting.out / "split.json").read_text())["train"] == list(split.train)
    names = {path.name.removesuffix(".nii.gz") for path in (setting.out / "labels").iterdir()}
    assert names == set(split.validation)
    assert setting.minutes == (10, 30)


def test_epochs_fill_the_time_that_is_planned(script):
    assert script.fitting({1: 30.0, 4: 60.0}, 600) == 55  # 20 s, and 10 s for each: 576 s are used
    assert script.fitting({1: 700.0, 4: 2000.0}, 600) == 1
    assert script.fitting({1: 30.0, 55: 601.0, 100: 1020.0}, 600) == 54  # 55 were too many


@pytest.mark.parametrize("each", [10.0, 15.0, 7.0])  # seconds of the later epochs
def test_training_that_misses_its_time_is_done_again(script, setting, tmp_path, each):
    trained = []

    def train(folder, epochs):
        trained.append(epochs)
        return 20 + 10 * min(epochs, 4) + each * max(0, epochs - 4)

    folder, taken = script.in_time(train, tmp_path / "library", setting, 10)
    assert 9 <= taken["minutes"] <= 10
    assert folder == tmp_path / "library" / f"{taken['epochs']}-epochs"
    assert len(trained) == (3 if each == 10 else 4)
    assert script.in_time(train, tmp_path / "library", setting, 10) == (folder, taken)
    assert len(trained) == (3 if each == 10 else 4)


def test_time_too_short_for_an_epoch_is_said(script, setting, tmp_path):
    with pytest.raises(SystemExit, match="one epoch takes longer than 1 minutes"):
        script.in_time(lambda _, epochs: 100.0 * epochs, tmp_path / "library", setting, 1)


def test_a_row_is_measured_once(script, setting, monkeypatch):
    calls = []

    def library(setting, minutes, masks):
        calls.append(minutes)
        masks.mkdir(parents=True)
        return {"minutes": 9.9}

    def evaluate(command, masks, labels, _, table):
        assert command == "evaluate"
        assert labels == setting.out / "labels"
        table.write_text("case,label,metric,value\na,1,dice,0.8\na,2,dice,0.6\n")

    monkeypatch.setattr(script, "segjax", evaluate)
    monkeypatch.setitem(script.LIBRARIES, "own", library)
    rows = [script.once("own, 10 min", "own", 10, setting) for _ in range(2)]
    assert calls == [10]
    assert rows[0] == rows[1]
    assert rows[0]["mean_dice"] == pytest.approx(0.7)
