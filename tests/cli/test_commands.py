"""The commands as a user runs them, on a data set of seconds."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import segjax.models
from segjax.cli import main
from segjax.cli.options import MODELS, PRESETS
from segjax.cli.train import OPTIMIZERS, RECIPES, SCHEDULES
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.phantom.dataset import write_dataset
from segjax.registry import registry
from segjax.studies import names, study
from segjax.train.config import TrainConfig
from segjax.train.plans import plan as plans
from segjax.volume import Volume

SMALL = ("--model", "small2d", "--validation", "0.4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_dataset(folder, count=3, shape=(40, 32))
    return folder


def train(data: Path, run: Path, *options: str) -> int:
    quick = [
        "--model",
        "unet2d-k3",
        "--epochs",
        "1",
        "--batch-size",
        "1",
        "--patch-size",
        "32",
        "32",
    ]
    return main(["train", "--data", str(data), "--out", str(run), *quick, *options])


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory, small_networks: None) -> Path:
    """A run of one epoch, made by the command itself."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, folder, *SMALL, "--learning-rate", "0.001") == 0
    return folder


def test_offered_models_are_those_of_the_library():
    assert sorted(MODELS) == sorted(segjax.models.names())


def test_offered_presets_and_recipes_are_those_of_the_library():
    assert f"{{{','.join(names())}}}" == PRESETS
    assert f"{{{','.join([*names(), 'none'])}}}" == RECIPES


def test_offered_optimizers_and_schedules_are_those_of_the_library():
    assert f"{{{','.join(registry('optimizer').names())}}}" == OPTIMIZERS
    assert f"{{{','.join(registry('schedule').names())}}}" == SCHEDULES


def test_training_leaves_a_complete_run(run):
    names = {"config.json", "split.json", "metrics.csv", "checkpoints", "model.onnx", "report.html"}
    assert names <= {path.name for path in run.iterdir()}
    config = json.loads((run / "config.json").read_text())
    assert (config["epochs"], config["batch_size"], config["patch_size"]) == (1, 1, [32, 32])
    assert config["optimizer"]["learning_rate"] == 0.001
    assert len(json.loads((run / "split.json").read_text())["validation"]) == 1


def test_finished_training_only_writes_model_and_report_again(data, run, capsys):
    (run / "report.html").unlink()
    metrics = (run / "metrics.csv").read_bytes()
    assert train(data, run, *SMALL, "--learning-rate", "0.001") == 0
    text, said = capsys.readouterr()
    assert f"{run}: writing model.onnx and report.html …" in said
    # 9·8+8 down, 9·8·16+16 at the bottom, 9·24·2+2 up, a slope for each of two PReLUs
    assert "small2d, 1,684 parameters" in text
    assert "3: 2 training, 1 validation (seed 0)" in text
    assert "best Dice" in text
    assert f"report     {run / 'report.html'}" in text
    assert (run / "report.html").is_file()
    assert (run / "metrics.csv").read_bytes() == metrics


def test_other_settings_do_not_touch_a_run(data, run, capsys):
    assert train(data, run, *SMALL, "--seed", "5") == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"segjax: error: {run}: ")
    assert "seed" in error


def test_loss_and_settings_file_reach_the_configuration(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("segjax.workflow.train", lambda plan, *_, **__: seen.append(plan) or stop())

    def stop() -> None:
        raise KeyboardInterrupt

    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"epochs": 9, "foreground": 0.25}))
    options = ["--config", str(settings), "--loss", "tversky+cross-entropy", "--alpha", "0.7"]
    options += ["--optimizer", "sgd", "--schedule", "polynomial", "--ema", "0.99"]
    options += ["--compute-dtype", "bfloat16", "--deep-supervision"]
    assert train(data, tmp_path / "run", *options) == 130
    (plan,) = seen
    terms = [(term.name, term.options.get("alpha")) for term in plan.config.loss.terms]
    assert terms == [("tversky", 0.7), ("cross-entropy", None)]
    assert (plan.config.ema, plan.config.compute_dtype) == (0.99, "bfloat16")
    assert plan.config.deep_supervision
    optimizer = plan.config.optimizer
    assert (optimizer.name, optimizer.schedule, optimizer.learning_rate) == (
        "sgd",
        "polynomial",
        5e-3,
    )
    assert plan.config.foreground == 0.25
    assert plan.config.epochs == 1  # the command line wins


def test_preset_gives_all_that_no_other_option_decides(data, tmp_path, monkeypatch):
    seen = []

    def plan(*settings, **options):
        seen.append((real_plan(*settings, **options), options))
        raise KeyboardInterrupt

    real_plan = plans.plan
    monkeypatch.setattr(plans, "plan", plan)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"patience": 9, "foreground": 0.25}))
    options = ["--preset", "meningioma-2d", "--alpha", "0.7", "--config", str(settings)]
    options += ["--learning-rate", "0.01", "--test", "0.4"]
    assert train(data, tmp_path / "run", *options) == 130
    ((made, fractions),) = seen
    config, published = made.config, TrainConfig.from_json(study("meningioma-2d").settings())
    assert (config.augment, config.dropout) == (published.augment, 0.3)
    assert config.pipeline.unfitted() == published.pipeline
    assert (config.patience, config.foreground) == (9, 0.25)  # the file wins over the preset
    assert (config.model, config.patch_size, config.epochs) == ("unet2d-k3", (32, 32), 1)
    assert config.optimizer == dataclasses.replace(published.optimizer, learning_rate=0.01)
    (term,) = config.loss.terms
    assert (term.name, term.options["alpha"]) == ("tversky", 0.7)
    assert fractions["validation"] == 120 / 602
    assert len(made.split.test) == 1


def test_recipe_of_augmentation_reaches_the_configuration(data, tmp_path, monkeypatch):
    seen = []

    def stop(plan, *_, **__):
        seen.append(plan.config.augment)
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.workflow.train", stop)
    assert train(data, tmp_path / "run", "--augment", "ms-7t") == 130
    assert train(data, tmp_path / "run", "--augment", "none") == 130
    assert seen == [study("ms-7t").augmentation(), ()]


def test_way_of_loading_reaches_the_training(data, tmp_path, monkeypatch):
    seen = []

    def fit(*arguments, loading, **others):
        seen.append(loading)
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.train._fit.fit", fit)
    assert train(data, tmp_path / "run", "--workers", "3") == 130
    assert train(data, tmp_path / "run", "--data-on-device") == 130
    assert train(data, tmp_path / "run", "--no-data-on-device") == 130
    assert train(data, tmp_path / "run") == 130
    ways = [(3, None), (None, True), (None, False), (None, None)]
    assert [(way.workers, way.on_device) for way in seen] == ways


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2", "--data-on-device"], "choose one of both"),
        (["--data-on-device", "--no-data-on-device"], "give one of both"),
        (["--alpha", "0.7"], "--alpha belongs to the Tversky loss: add --loss tversky"),
        (["--loss", "dice", "--alpha", "0.7"], "--alpha belongs to the Tversky loss"),
        (["--preset", "ms-7t"], "preset 'ms-7t' is for mpunet++, unet3d: model unet2d-k3 has"),
        (["--brain", "hd-bet"], "--brain belongs to --preset"),
        (["--augment", "spin"], "no study is named 'spin': choose ms-7t, "),
        (["--ema", "1"], "ema must be a number between 0 and 1"),
        (["--deep-supervision"], "UNet has no heads to supervise"),
        (["--loss", "hinge"], "hinge"),
        (["--model", "vgg"], "vgg"),
        (["--patch-size", "31", "32"], "multiples of 32"),
        (["--model", "mpunet++"], "needs volumes"),
        (["--epochs", "0"], "epochs must be a whole number from 1 up"),
    ],
)
def test_wrong_training_options_are_named(options, message, data, tmp_path, capsys):
    assert train(data, tmp_path / "run", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--ensemble",)])
def test_export_names_a_run_that_is_not_there(options, tmp_path, capsys):
    assert main(["export", str(tmp_path / "absent"), *options]) == 1
    assert f"error: {tmp_path / 'absent'}: no such file or folder" in capsys.readouterr().err


def test_export_writes_the_file_and_refuses_to_replace_it(run, tmp_path, capsys):
    path = tmp_path / "net.onnx"
    assert main(["export", str(run), "-o", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert main(["export", str(run), "-o", str(path)]) == 1
    assert "net.onnx" in capsys.readouterr().err


def test_export_of_16_bits_tells_what_they_cost(run, tmp_path, capsys, monkeypatch):
    from segjax_onnx.predict import metadata
    from segjax_onnx.write import variants

    asked = {}

    def export_variant(folder, path, **options):
        asked.update(options)
        return shutil.copy(folder / "model.onnx", path)

    def read_metadata(_path):
        return SimpleNamespace(float16=metadata.HalfPrecision({"lesion": 0.99954}))

    monkeypatch.setattr(variants, "export_variant", export_variant)
    monkeypatch.setattr(metadata, "read_metadata", read_metadata)
    out = str(tmp_path / "half.onnx")
    assert main(["export", str(run), "-o", out, "--float16", "--opset", "19"]) == 0
    assert (asked["float16"], asked["preprocessing"], asked["opset"]) == (True, False, 19)
    assert re.search(r"Dice of lesion against 32 bits\s+0\.9995", capsys.readouterr().out)
    assert main(["export", str(tmp_path), "--ensemble", "--with-preprocessing"]) == 1
    assert "--with-preprocessing: belongs to the" in capsys.readouterr().err


def test_predict_writes_masks_on_the_grid_of_the_images(data, run, tmp_path, capsys):
    images = sorted((data / "images").iterdir())
    command = ["predict", str(run / "model.onnx"), str(data / "images"), "-o", str(tmp_path)]
    assert main([*command, "--probabilities"]) == 0
    text = capsys.readouterr().out
    for image in images:
        mask, original = read_volume(tmp_path / image.name), read_volume(image)
        assert mask.spatial_shape == original.spatial_shape
        np.testing.assert_array_equal(mask.affine, original.affine)
        assert image.name.partition(".")[0] in text
    assert "lesion" in text
    assert "pixels" in text
    assert len(list(tmp_path.glob("*_probabilities.npy"))) == len(images)


def test_predict_goes_on_with_half_a_folder_and_takes_several_networks(data, run, tmp_path, capsys):
    images = [str(image) for image in sorted((data / "images").iterdir())]
    command = ["predict", str(run), *images[:2], "-o", str(tmp_path)]
    assert main(command[:3] + command[4:]) == 0
    more = ["--skip-existing", "--mirror", "0", "--with", str(run / "model.onnx")]
    capsys.readouterr()
    assert main([*command, *more]) == 0
    text = capsys.readouterr().out
    assert text.count("kept") == 1
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_export_merges_the_networks_of_folds(run, tmp_path, capsys):
    for fold in range(2):
        (tmp_path / f"fold{fold}").mkdir()
        shutil.copy(run / "model.onnx", tmp_path / f"fold{fold}")
    assert main(["export", str(tmp_path), "--ensemble"]) == 0
    assert str(tmp_path / "model.onnx") in capsys.readouterr().out
    assert main(["info", str(tmp_path / "model.onnx")]) == 0
    assert "ensemble of 2 networks" in capsys.readouterr().out
    assert main(["export", str(tmp_path), "--ensemble", "--opset", "19"]) == 1
    assert "--opset: belongs to the export of each fold" in capsys.readouterr().err


def test_export_takes_what_people_decided_and_writes_metadata_beside(run, tmp_path, capsys):
    for fold in range(2):
        (tmp_path / f"fold{fold}").mkdir()
        shutil.copy(run / "model.onnx", tmp_path / f"fold{fold}")
    card = {"postprocessing": {"lesion": {"minimum_volume": 3}}, "about": {"license": "MIT"}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    command = ["export", str(tmp_path), "--ensemble", "--card", str(tmp_path / "card.json")]
    assert main([*command, "--json"]) == 0
    beside = json.loads((tmp_path / "model.json").read_text())
    assert beside["postprocessing"][0]["minimum_volume"] == 3
    assert beside["about"]["license"] == "MIT"
    assert main(["info", str(tmp_path / "model.onnx")]) == 0
    assert "components from 3 mm³ on" in capsys.readouterr().out
    (tmp_path / "new.json").touch()
    assert main([*command, "-o", str(tmp_path / "new.onnx"), "--json"]) == 1
    assert "new.json" in capsys.readouterr().err
    assert not (tmp_path / "new.onnx").exists()


def test_predict_tells_which_image_failed_and_makes_the_others(data, run, tmp_path, capsys):
    good = next((data / "images").iterdir())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = [str(tmp_path / "broken.png"), str(good)]
    assert main(["predict", str(run / "model.onnx"), *images, "-o", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    assert "1 of 2 images failed" in captured.err
    assert captured.err.count("\n") == 1
    assert "failed" in captured.out
    assert (tmp_path / "out" / good.name).is_file()


def test_predict_of_one_bad_image_says_only_why(run, tmp_path, capsys):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no picture")
    assert main(["predict", str(run / "model.onnx"), str(path), "-o", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"segjax: error: {path}: ")


def test_predict_without_images_says_so(run, tmp_path, capsys):
    assert main(["predict", str(run / "model.onnx"), "-o", str(tmp_path)]) == 1
    assert "no image" in capsys.readouterr().err


def test_evaluate_prints_a_hand_computed_dice_and_writes_it(tmp_path, capsys):
    for folder, voxels in (("masks", [1, 1, 0, 1]), ("labels", [1, 1, 1, 0])):
        (tmp_path / folder).mkdir()
        data = np.array(voxels, np.uint8).reshape(2, 2, 1)
        write_volume(Volume(data, np.eye(4)), tmp_path / folder / "a.nii.gz")
    out = tmp_path / "metrics.csv"
    folders = [str(tmp_path / "masks"), str(tmp_path / "labels")]
    assert main(["evaluate", *folders, "-o", str(out), "--names", "lesion"]) == 0
    text = capsys.readouterr().out
    assert "Dice lesion" in text
    assert "mean Dice  0.6667 of 1 case" in text  # 2 · 2 / (2 · 2 + 1 + 1)
    with out.open(newline="") as file:
        values = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert values["dice"] == pytest.approx(2 / 3)


def test_evaluate_means_leave_out_cases_without_the_label_and_tell_of_them(tmp_path, capsys):
    empty = [0, 0, 0, 0]
    for folder, cases in (
        ("masks", {"a": [1, 1, 0, 1], "b": empty, "c": [0, 1, 0, 0]}),
        ("labels", {"a": [1, 1, 1, 0], "b": empty, "c": empty}),
    ):
        (tmp_path / folder).mkdir()
        for name, voxels in cases.items():
            data = np.array(voxels, np.uint8).reshape(2, 2, 1)
            volume = Volume(data, np.diag([10.0, 10, 10, 1]))
            write_volume(volume, tmp_path / folder / f"{name}.nii.gz")
    folders = [str(tmp_path / "masks"), str(tmp_path / "labels")]
    assert main(["evaluate", *folders, "--names", "lesion"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["b", "–"] in lines
    assert ["c", "–"] in lines
    assert ["Dice", "0.6667", "–", "0.6667", "0.6667", "0.6667", "1"] in lines
    assert ["truth", "ml", "3.000", "–", "3.000", "3.000", "3.000", "1"] in lines
    assert ["mean", "Dice", "0.6667", "of", "1", "case"] in lines
    told = "without lesion 2 of 3 cases, false positives in 1 (0.500 ml on average)"
    assert told.split() in lines


def test_info_tells_of_every_kind_of_thing(data, run, capsys):
    for path, words in {
        data: ("labelled data set", "label 1"),
        run: ("small2d", "1 of 1 epoch", "best Dice"),
        run / "model.onnx": ("background, lesion", "32 × 32"),
        next((data / "images").iterdir()): ("40 × 32 pixels", "2D image"),
    }.items():
        assert main(["info", str(path)]) == 0
        text = capsys.readouterr().out
        assert str(path) in text
        for word in words:
            assert word in text


def test_preview_puts_segments_where_they_lie_in_the_image(tmp_path):
    image, label, out = (str(tmp_path / name) for name in ("a.nrrd", "a.seg.nrrd", "a.png"))
    write_volume(Volume(np.random.default_rng(0).random((9, 8, 7)), np.eye(4)), image)
    part = np.eye(4)
    part[:3, 3] = 2
    write_volume(Volume(np.ones((3, 3, 3), np.uint8), part), label)
    options = ["--recipe", "ms-7t", "--draws", "1"]
    assert main(["preview", image, label, "-o", out, *options]) == 0


def test_preview_draws_a_case_and_its_label(data, tmp_path, capsys):
    image, label = (str(next((data / kind).iterdir())) for kind in ("images", "labels"))
    out = tmp_path / "preview.png"
    options = ["-o", str(out), "--recipe", "meningioma-2d", "--range", "-1", "1", "--draws", "1"]
    assert main(["preview", image, label, *options]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"preview +{re.escape(str(out))}", said)
    for told in (r"image +\S", r"labels +\S", r"grey values +black", r"label 1 +[\d,]+ pixels"):
        assert re.search(told, said)
    assert re.search(r"affine +1 +matrix ", said)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(["preview", image, *options]) == 1
    assert f"{out}: " in capsys.readouterr().err
    assert main(["preview", image, "-o", str(tmp_path / "b.png"), "--recipe", "none"]) == 1
    assert "no study is named 'none': choose " in capsys.readouterr().err
    np.save(tmp_path / "small.npy", np.zeros((3, 3), np.uint8))
    assert main(["preview", image, str(tmp_path / "small.npy"), "-o", str(tmp_path / "c.png")]) == 1
    assert f"small.npy: has shape (3, 3), but {image} has" in capsys.readouterr().err
