"""The command that sweeps, on networks and images of milliseconds."""

import csv
import functools
import json
from pathlib import Path

import pytest
from flax import linen as nn

from segjax import models
from segjax.cli import main
from segjax.data.grouping import Grouping
from segjax.data.labels import asked_coding
from segjax.data.phantom.dataset import write_dataset
from segjax.evaluate.scores import Score
from segjax.registry import registry
from segjax.train.sweeps.sweep import MemberResult, SweepResult
from segjax_onnx.predict.predictor import Predictor

GRID = ["--kernel", "3", "--alpha", "0.3", "0.7", "--seed", "0"]
FRACTIONS = ["--validation", "0.25", "--test", "0.25"]


class Plain(nn.Module):
    """One convolution, which any backend and the export know."""

    kernel: int
    in_channels: int = 1
    out_channels: int = 2
    spatial_dims: int = 2
    size_multiple: int = 4
    heads: int = 0

    @nn.compact
    def __call__(self, images, *, train=False):
        x = models.ops.from_images(images, spatial_dims=2, in_channels=self.in_channels)
        shape = (self.kernel, self.kernel, self.in_channels, self.out_channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        return models.ops.to_images(models.ops.conv([x], kernel, bias))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "slices"
    write_dataset(folder, count=8, shape=(16, 16), kind="meningioma")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "tiny.json"
    values = {"model": "plain-k3", "patch_size": [16, 16], "epochs": 2, "augment": []}
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(autouse=True)
def _tiny_networks():
    with registry("network").lend(functools.partial(Plain, 3), "plain-k3"):
        yield


def command(data, out, settings, *options):
    grid = ["--data", str(data), "--out", str(out), "--config", str(settings), *GRID, *FRACTIONS]
    return main(["sweep", *grid, *options])


@pytest.mark.slow
def test_command_trains_measures_and_exports(data, settings, tmp_path, capsys):
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
    made = [tmp_path / "sweep" / "figures" / "boxes.png", tmp_path / "sweep" / "report.html"]
    for path in made:
        path.unlink()
    assert main(["sweep", "--figures-only", str(tmp_path / "sweep")]) == 0
    assert all(path.is_file() for path in made)
    config = json.loads((tmp_path / "sweep" / "runs" / "k3-a0.7-s0" / "config.json").read_text())
    assert config["loss"][0]["alpha"] == 0.7
    assert config["patience"] == 5
    assert_best_is_exported(tmp_path / "sweep", rows, data, capsys)
    assert_best_is_replaced(
        tmp_path / "sweep", rows, lambda: command(data, tmp_path / "sweep", settings)
    )


def assert_best_is_exported(sweep, rows, data, capsys):
    """The network of the best validation Dice segments, called by the name of the sweep."""
    best = max(rows, key=lambda row: float(row["validation_dice"]))
    assert Predictor(sweep).metadata.training["run"] == best["run"]
    report = (sweep / "report.html").read_text("utf-8")
    assert f"Test Dice of {best['run']}, the best by validation" in report
    image = str(next((data / "images").iterdir()))
    assert main(["predict", str(sweep), image, "-o", str(sweep / "masks")]) == 0
    assert len(list((sweep / "masks").glob("*.png"))) == 1
    member = str(sweep / "runs" / rows[0]["run"])
    assert main(["predict", member, image, "-o", str(sweep / "masks")]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"its training is finished: 'segjax export {member}' makes the file" in told


def assert_best_is_replaced(sweep, rows, command):
    """A better member takes the place of the best one in the file, too."""
    best = max(rows, key=lambda row: float(row["validation_dice"]))["run"]
    path = sweep / "runs" / best / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"validation_dice": -1.0}))
    assert command() == 0
    (other,) = {row["run"] for row in rows} - {best}
    assert Predictor(sweep).metadata.training["run"] == other


def test_end_tells_means_best_and_what_failed(data, settings, tmp_path, monkeypatch, capsys):
    def sweep(grid, dataset, split, out, *, execution):
        scores = {"case": {"lesion": Score("dice", 0.25)}}
        found = [
            MemberResult(0.5, 1, 2, 2, 1.0, scores),
            MemberResult(None, None, 0, 1, 1.0, {}, "the loss became nan at step 1"),
        ]
        names = [member.name for member in grid.members]
        return SweepResult(out, grid.members, dict(zip(names, found, strict=True)))

    monkeypatch.setattr("segjax.train.sweeps.sweep.sweep", sweep)
    monkeypatch.setattr("segjax.workflow.finish_sweep", lambda result: {"model": "model.onnx"})
    assert command(data, tmp_path / "sweep", settings) == 0
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "kernel 3 0.2500 –" in told
    assert "best by validation k3-a0.3-s0: 0.5000, on test 0.2500" in told
    assert "k3-a0.7-s0 failed: the loss became nan at step 1" in told
    assert "model model.onnx" in told


def test_options_and_preset_reach_the_sweep(data, tmp_path, monkeypatch):
    seen = []

    def stop(*arguments, **options):
        seen.append((arguments, options))
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.train.sweeps.sweep.sweep", stop)
    options = ["--preset", "meningioma-2d", "--patch-size", "32", "32", "--learning-rate", "0.01"]
    more = [
        "--together",
        "vmap",
        "--at-once",
        "3",
        "--data-on-device",
        "--patience",
        "2",
        "--tensorboard",
    ]
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


def test_groups_and_label_names_reach_the_plan(monkeypatch, tmp_path):
    seen = []

    def stop(*arguments, **options):
        seen.append((arguments, options))
        raise KeyboardInterrupt

    def find(*arguments, **options):
        found.append((arguments, options))
        return "the subjects"

    found: list[tuple] = []
    monkeypatch.setattr("segjax.train.plans.plan.plan", stop)
    monkeypatch.setattr("segjax.data.layouts.find_data", find)
    base = ["sweep", "--data", "d", "--out", "o", "--images", "t1.png", "--label", "mask.png"]
    assert main([*base, "--group-by", "^p[0-9]+", "--labels", "255=tumour"]) == 130
    (data, *settings), options = seen[0]
    assert data == "the subjects"
    coding = asked_coding(["255=tumour"])
    files = {"images": ("t1.png",), "label": "mask.png", "coding": coding}
    assert found == [((Path("d"),), files)]
    assert options["grouping"] == Grouping("^p[0-9]+")
    assert settings[-1]["label_values"] == coding.as_labels()
    assert main([*base, "--neighbours", "3", "--keep-fitted"]) == 130
    assert seen[1][1]["grouping"] == Grouping(neighbours=3)
    assert [options["keep_fitted"] for _, options in seen] == [False, True]


def test_subjects_without_a_label_map_are_refused(capsys):
    assert main(["sweep", "--data", "d", "--out", "o", "--images", "t1.png"]) == 1
    assert "d: name the label map of a subject too, as the images" in capsys.readouterr().err


def test_several_at_once_apart_are_refused_before_any_data_are_read(capsys):
    assert main(["sweep", "--data", "absent", "--out", "o", "--at-once", "3"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "3 members at once (--at-once): members train one after the other apart" in told


def test_interrupted_sweep_says_how_to_go_on(monkeypatch, capsys):
    def plan(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.train.plans.plan.plan", plan)
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
