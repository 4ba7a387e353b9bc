import csv
import functools
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import segjax.data.phantom.dataset
from segjax.cli import main
from segjax.data.cases import Case
from segjax.data.io.formats import read_label, write_volume
from segjax.demo import run_demo
from segjax.errors import InputError


def test_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TruthfulPredictor:
    """Stands in for a trained network: answers with the labels, one voxel short in each."""

    def __init__(self, model: Path):
        assert model.name == "model.onnx"

    def predict_files(self, cases: Sequence[Case], out: Path) -> list[Path]:
        out.mkdir()
        return [self._predict(case, out / case.images[0].name) for case in cases]

    def _predict(self, case: Case, path: Path) -> Path:
        assert case.label is not None
        label = read_label(case.label)
        data = label.data.copy()
        data.flat[np.flatnonzero(data)[0]] = 0
        write_volume(label.with_data(data), path)
        return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the training out, and draw small heads."""
    draw = functools.partial(segjax.data.phantom.dataset.write_dataset, shape=(24, 24, 24))
    monkeypatch.setattr("segjax.data.phantom.dataset.write_dataset", draw)
    monkeypatch.setattr("segjax.workflow.train", lambda plan, run: None)
    monkeypatch.setattr("segjax.workflow.finish", lambda run, cases: {"model": run / "model.onnx"})
    monkeypatch.setattr("segjax_onnx.predict.predictor.Predictor", TruthfulPredictor)


def test_demo_measures_the_masks_of_its_test_heads(quick, tmp_path):
    said: list[str] = []
    result = run_demo(tmp_path / "demo", say=said.append)
    assert [line.split()[0] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    assert len(result.rows) == 6
    for row in result.rows:
        voxels = 1000 * float(row["truth_ml"])
        assert row["dice"] == pytest.approx(2 * (voxels - 1) / (2 * voxels - 1))
    assert result.paths["picture"].read_bytes().startswith(b"\x89PNG")
    assert result.paths["masks"].is_dir()
    assert result.seconds > 0


def test_demo_warns_of_nothing_that_it_does_on_purpose(quick, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_demo(tmp_path / "demo")


def test_demo_command_prints_dice_and_paths(quick, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "mean Dice" in text
    assert str(out / "overview.png") in text
    assert main(["demo", "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith(f"segjax: error: {out}: is there already")


@pytest.mark.slow
def test_demo_learns_to_find_lesions_in_heads_it_never_saw(tmp_path):
    command = [sys.executable, "-m", "segjax", "demo", "--out", str(tmp_path / "demo")]
    environment = {**os.environ, "XLA_FLAGS": ""}  # compiled as users have it
    subprocess.run(command, check=True, env=environment)
    with (tmp_path / "demo" / "test_metrics.csv").open(newline="") as file:
        dice = [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "dice"]
    assert np.mean(dice) > 0.8
    pictures = list((tmp_path / "demo").rglob("*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    _check_that_test_heads_were_unseen(tmp_path / "demo")


def _check_that_test_heads_were_unseen(demo: Path) -> None:
    with (demo / "test_metrics.csv").open(newline="") as file:
        tested = {row["case"] for row in csv.DictReader(file)}
    with (demo / "run" / "metrics.csv").open(newline="") as file:
        validated = {row["case"] for row in csv.DictReader(file)} - {""}
    assert len(tested) == 6
    assert len(validated) == 4
    assert not tested & validated
