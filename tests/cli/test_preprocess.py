"""``segjax preprocess`` as a user runs it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segjax.cli import main
from segjax.cli.options import PRESETS
from segjax.data.cache.cache import open_cache
from segjax.data.io.formats import read_volume
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import HistogramStandardization, MinMax, Resample
from segjax.studies import names, study

STEPS = [{"step": "reorient", "orientation": "LPS"}, {"step": "min-max"}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_dataset(folder, count=4, shape=(40, 32))
    return folder


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(STEPS))
    return path


def preprocess(*words: object) -> int:
    return main(["preprocess", *map(str, words), "--workers", "1"])


def test_offered_presets_are_those_of_the_library():
    assert f"{{{','.join(names())}}}" == PRESETS


def test_preset_is_applied_told_and_not_done_twice(data, tmp_path, capsys):
    out = tmp_path / "cache"
    assert preprocess(data, out, "--preset", "meningioma-2d") == 0
    text = capsys.readouterr().out
    assert "4 made" in text
    assert "of 4 cases" in text
    assert "per worker" in text
    assert str(out / "figures" / "histograms.png") in text
    for name in ("ms_000", "ms_003"):
        assert f"{name}   made" in text
    cache = open_cache(out)
    assert cache.requested == study("meningioma-2d").pipeline()
    assert (cache.cases[0].image.min(), cache.cases[0].image.max()) == (-1, 1)
    assert preprocess(data, out, "--preset", "meningioma-2d") == 0
    text = capsys.readouterr().out
    assert "4 unchanged" in text
    assert "ms_000" not in text
    assert main(["info", str(out)]) == 0
    text = capsys.readouterr().out
    for words in ("cache made by segjax preprocess", "FLAIR", "40 × 32", "background, lesion"):
        assert words in text
    assert "(learned from 4 cases)" in text


def test_failed_case_is_told_with_its_reason_and_the_others_are_made(data, steps, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "images" / "ms_001.png").write_bytes(b"no picture")
    assert preprocess(tmp_path / "data", tmp_path / "cache", "--config", steps) == 1
    captured = capsys.readouterr()
    assert "ms_001   failed" in captured.out
    assert "3 made, 1 failed" in captured.out
    assert captured.err.count("\n") == 1
    assert "ms_001.png" in captured.err
    assert "(1 of 4 cases failed; the others are in" in captured.err
    assert len(open_cache(tmp_path / "cache").cases) == 3


def test_subjects_and_nifti_files(steps, tmp_path, capsys):
    heads = write_dataset(tmp_path / "heads", count=2, shape=(16, 16, 16))
    for case in heads.cases:
        (tmp_path / "in" / case.name).mkdir(parents=True)
        shutil.copy(case.images[0], tmp_path / "in" / case.name / "flair.nii.gz")
        shutil.copy(case.label, tmp_path / "in" / case.name / "lesions.nii.gz")
    files = ["--images", "flair.nii.gz", "--label", "lesions.nii.gz", "--nifti"]
    out = tmp_path / "cache"
    assert preprocess(tmp_path / "in", out, "--config", steps, *files) == 0
    cache = open_cache(out)
    assert cache.channels == ("flair",)
    for case, original in zip(cache.cases, heads.cases, strict=True):
        image = read_volume(case.folder / "image.nii.gz")
        expected = Pipeline.from_json(STEPS).apply(read_volume(original.images[0]))
        np.testing.assert_array_equal(image.data, expected.data[..., 0])
        np.testing.assert_allclose(image.affine, expected.affine)


def test_images_without_labels_are_told_from_labelled_ones(data, steps, tmp_path, capsys):
    assert preprocess(data / "images", tmp_path / "cache", "--config", steps) == 0
    assert "none, so not to train on" in capsys.readouterr().out


def test_long_list_of_cases_is_cut(data, steps, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("segjax.cli.preprocess._MOST_ROWS", 3)
    assert preprocess(data, tmp_path / "cache", "--config", steps) == 0
    text = capsys.readouterr().out
    assert "… and 1 more: see report.csv" in text
    assert "ms_003" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either --preset or --config"),
        (("--preset", "ms-7t", "--config", "STEPS"), "give either --preset or --config"),
        (("--config", "STEPS", "--brain", "hd-bet"), "--brain belongs to --preset"),
        (("--preset", "ms-3t"), "no study is named 'ms-3t': choose ms-7t"),
        (("--preset", "meningioma-2d", "--brain", "hd-bet"), "extracts no brain"),
        (("--config", "absent.json"), "absent.json: there is no such file"),
        (("--config", "STEPS", "--label", "lesions.nii.gz"), "name the images"),
        (("--config", "STEPS", "--split", "absent.json"), "absent.json: there is no such file"),
    ],
)
def test_wrong_options_are_named(words, message, data, steps, tmp_path, capsys):
    given = [str(steps) if word == "STEPS" else word for word in words]
    assert preprocess(data, tmp_path / "cache", *given) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_split_keeps_cases_out_of_what_is_learned_here_and_in_training(data, tmp_path, monkeypatch):
    split = tmp_path / "split.json"
    parts = {"train": ["ms_000", "ms_002"], "validation": ["ms_001"], "test": ["ms_003"]}
    split.write_text(json.dumps(parts))
    options = ["--preset", "meningioma-2d", "--split", str(split)]
    assert preprocess(data, tmp_path / "cache", *options) == 0
    cache = open_cache(tmp_path / "cache")
    assert cache.learned_from == ("ms_000", "ms_002")
    plans = []

    def stop(plan: object, *_: object, **__: object) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr("segjax.workflow.train", stop)
    for source in (tmp_path / "cache", data):
        words = ["--data", source, "--out", tmp_path / "run", "--model", "unet2d-k3", *options]
        assert main(["train", *map(str, words)]) == 130
    first, second = plans
    assert first.config.pipeline == second.config.pipeline == cache.pipeline
    assert first.split == second.split
    assert set(first.split.train) == {"ms_000", "ms_002"}


@pytest.mark.slow
def test_training_on_a_cache_exports_a_network_that_replays_its_preprocessing(
    data, tmp_path, small_networks
):
    steps = tmp_path / "steps.json"
    pipeline = Pipeline((Resample((1.5, 1.5)), HistogramStandardization(), MinMax()))
    steps.write_text(json.dumps(pipeline.to_json()))
    assert preprocess(data, tmp_path / "cache", "--config", steps) == 0
    quick = ["--model", "small2d", "--epochs", "1", "--patch-size", "32", "32"]
    run = tmp_path / "run"
    assert main(["train", "--data", str(tmp_path / "cache"), "--out", str(run), *quick]) == 0
    from segjax_onnx.predict.metadata import read_metadata

    stored = Pipeline.from_json(read_metadata(run / "model.onnx").pipeline)
    assert stored == open_cache(tmp_path / "cache").pipeline
    assert stored.fitted
    image = next((data / "images").iterdir())
    assert main(["predict", str(run / "model.onnx"), str(image), "-o", str(tmp_path / "m")]) == 0
    assert read_volume(tmp_path / "m" / image.name).spatial_shape == (40, 32)
