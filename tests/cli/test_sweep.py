"""The command that sweeps, on networks and images of milliseconds."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from segjax import models
from segjax.cli import main
from segjax.data.phantom import write_dataset

SCRIPT = Path(__file__).parents[1] / "train" / "sweep_tiny.py"
spec = importlib.util.spec_from_file_location("sweep_tiny", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

GRID = ["--kernel", "3", "--alpha", "0.3", "0.7", "--seed", "0"]
FRACTIONS = ["--validation", "0.25", "--test", "0.25"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "slices"
    write_dataset(folder, count=8, shape=(16, 16), kind="meningioma")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "tiny.json"
    values = tiny.config(epochs=2).to_json()
    path.write_text(json.dumps({name: values[name] for name in ("model", "patch_size", "epochs")}))
    return path


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch):
    monkeypatch.setattr(models, "create", tiny.create)
    monkeypatch.setattr(models, "names", tiny.names)


def command(data, out, settings, *options):
    grid = ["--data", str(data), "--out", str(out), "--config", str(settings), *GRID, *FRACTIONS]
    return main(["sweep", *grid, *options])


def test_command_trains_measures_and_draws(data, settings, tmp_path, capsys):
    assert command(data, tmp_path / "sweep", settings, "--together", "apart") == 0
    text = capsys.readouterr().out
    assert "2, 1 at a time (apart)" in text
    assert "best by validation" in text
    with (tmp_path / "sweep" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["kernel"], row["alpha"], row["epochs"]) for row in rows] == [
        ("3", "0.3", "2"),
        ("3", "0.7", "2"),
    ]
    figures = {path.name for path in (tmp_path / "sweep" / "figures").iterdir()}
    assert {"boxes.png", "heat-maps.png", "images.png", "learning-curves-k3.png"} < figures
    assert any(name.startswith("overlay-") for name in figures)
    (tmp_path / "sweep" / "figures" / "boxes.png").unlink()
    assert main(["sweep", "--figures-only", str(tmp_path / "sweep")]) == 0
    assert (tmp_path / "sweep" / "figures" / "boxes.png").is_file()
    config = json.loads((tmp_path / "sweep" / "runs" / "k3-a0.7-s0" / "config.json").read_text())
    assert config["loss"][0]["alpha"] == 0.7
    assert config["patience"] == 5


def test_options_and_preset_reach_the_sweep(data, tmp_path, monkeypatch):
    seen = []

    def stop(*arguments, **options):
        seen.append((arguments, options))
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.train.sweep.sweep", stop)
    options = ["--preset", "meningioma-2d", "--patch-size", "32", "32", "--learning-rate", "0.01"]
    more = ["--at-once", "3", "--data-on-device", "True", "--patience", "2", "--tensorboard"]
    base = ["--data", str(data), "--out", str(tmp_path / "sweep"), *FRACTIONS]
    assert main(["sweep", *base, *options, *more]) == 130
    (grid, dataset, split, out), how = seen[0]
    assert len(grid.members) == 108  # of the study
    assert (grid.base.model, grid.base.patch_size, grid.base.patience) == (
        "unet2d-k3",
        (32, 32),
        2,
    )
    assert grid.base.optimizer.learning_rate == 0.01
    assert grid.base.dropout == 0.3
    assert (len(split.train), len(split.validation), len(split.test)) == (4, 2, 2)
    assert how["execution"].at_once == 3
    assert how["execution"].on_device is True
    assert how["execution"].tensorboard is True
    assert out == tmp_path / "sweep"
    assert len(dataset.cases) == 8


def test_interrupted_sweep_says_how_to_go_on(monkeypatch, capsys):
    def plan(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.workflow.plan", plan)
    assert main(["sweep", "--data", "d", "--out", "o"]) == 130
    assert "the same command again goes on where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a sweep needs --data and --out, or --figures-only"),
        (["--figures-only", "absent"], "absent: is no folder of a sweep"),
    ],
)
def test_what_is_missing_is_named(options, message, capsys):
    assert main(["sweep", *options]) == 1
    assert message in capsys.readouterr().err
