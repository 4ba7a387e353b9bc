"""Files that segjax 0.1.0 made (see ``made_by_0_1/README.md``) open, go on and predict the same."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.cli import main
from segjax.data import find_cases, open_cache, preprocess, read_image
from segjax.train import (
    OptimizerConfig,
    TrainConfig,
    load_variables,
    make_optimizer,
    read_config,
)
from segjax.train.transfer import freeze
from segjax_onnx import Predictor

OLD = Path(__file__).parent / "made_by_0_1"
CONFIGS = sorted((OLD / "configs").glob("*.json"))
STATES = json.loads((OLD / "states.json").read_text(encoding="utf-8"))


@pytest.fixture
def unpacked(tmp_path):
    """Return a function that unpacks an archive of old files into a folder of its own."""

    def unpack(name):
        folder = tmp_path / name
        shutil.unpack_archive(OLD / f"{name}.zip", tmp_path if name == "heads" else folder)
        return folder

    return unpack


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["metric"] != "seconds"]


def leaf_name(path):
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_old_configuration_is_written_as_it_was(path):
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["segjax"]
    assert json.dumps(read_config(path).to_json()) == json.dumps(values)
    assert TrainConfig.from_json(values) == read_config(path)


def test_optimizers_lay_out_their_state_as_in_old_checkpoints():
    layer = {"kernel": np.ones((3, 3), np.float32), "bias": np.ones(3, np.float32)}
    for key, expected in STATES.items():
        name, *rest = key.split(", ")
        clip, schedule = rest if len(rest) == 2 else ("gradient_clip 1.0", "one-cycle")
        config = OptimizerConfig(
            name=name, gradient_clip=None if "None" in clip else 1.0, schedule=schedule
        )
        optimizer = make_optimizer(config, 10)
        if rest == ["freeze"]:
            optimizer = freeze(optimizer, ("^X00/",))
        state = jax.eval_shape(optimizer.init, {"X00": layer, "X01": layer})
        leaves = jax.tree_util.tree_leaves_with_path(state)
        found = [f"{leaf_name(path)} {leaf.dtype} {list(leaf.shape)}" for path, leaf in leaves]
        assert found == expected, key


@pytest.mark.parametrize("network", ["model", "ensemble"])
def test_old_network_gives_the_old_mask(network, unpacked):
    image = unpacked("heads") / "images" / "head_4.nii.gz"
    mask = Predictor(OLD / f"{network}.onnx").predict(image)
    with np.load(OLD / "masks.npz") as expected:
        np.testing.assert_array_equal(mask.data, expected[network])


def test_old_run_is_described(unpacked, capsys):
    assert main(["info", str(unpacked("stopped_after_1_epoch"))]) == 0
    told = capsys.readouterr().out
    assert "mpunet++" in told
    assert "1 of 3" in told


def test_old_sweep_is_described(unpacked, capsys):
    assert main(["info", str(unpacked("sweep"))]) == 0
    assert "k3-a0.3-s1" in capsys.readouterr().out


@pytest.mark.slow
def test_old_sweep_is_reported(unpacked):
    folder = unpacked("sweep")
    assert main(["sweep", "--figures-only", str(folder)]) == 0
    assert "k3-a0.3-s1" in (folder / "report.html").read_text(encoding="utf-8")


def test_old_cache_holds_what_its_steps_make(unpacked):
    cache, heads = open_cache(unpacked("cache")), unpacked("heads")
    for case in cache.cases:
        image = cache.pipeline.apply(read_image([heads / "images" / f"{case.name}.nii.gz"]))
        np.testing.assert_allclose(case.image, image.channels_last, atol=1e-5)


def test_old_cache_is_not_made_anew_where_the_images_have_moved(unpacked):
    folder, heads = unpacked("cache"), find_cases(unpacked("heads"))
    outcomes = preprocess(heads, open_cache(folder).requested, folder, workers=1)
    assert [outcome.state for outcome in outcomes] == ["unchanged"] * 5


GO_ON = """
import sys
from pathlib import Path
from segjax.data import find_cases, read_split
from segjax.train import fit, read_config
run, heads = map(Path, sys.argv[1:])
assert fit(read_config(run), find_cases(heads), read_split(run / "split.json"), run).epochs == 3
"""


@pytest.mark.slow
def test_old_training_goes_on_as_it_would_have_then(unpacked):
    run, heads = unpacked("stopped_after_1_epoch"), unpacked("heads")
    environment = {**os.environ, "XLA_FLAGS": ""}  # programs as users have them
    subprocess.run([sys.executable, "-c", GO_ON, run, heads], check=True, env=environment)
    found, expected = rows(run / "metrics.csv"), rows(OLD / "metrics_after_3_epochs.csv")
    values = [[float(row.pop("value")) for row in table] for table in (found, expected)]
    assert found == expected
    # of later epochs Dice is of whole cases now, not of windows
    alike = [row["metric"] == "loss" or row["epoch"] == "1" for row in found]
    # 48 steps let the rounding of one kind of processor grow to 2e-4 on another
    np.testing.assert_allclose(*np.array(values)[:, alike], rtol=1e-3)
    leaves = jax.tree_util.tree_leaves_with_path(load_variables(run, "last"))
    variables = {leaf_name(path): leaf for path, leaf in leaves}
    with np.load(OLD / "variables_after_3_epochs.npz") as old:
        for name in old:
            difference = np.linalg.norm(variables[name] - old[name])
            assert difference <= 0.01 * np.linalg.norm(old[name]), name


@pytest.mark.slow
def test_old_cache_trains(unpacked, tmp_path, small_networks):
    folder, run = unpacked("cache"), tmp_path / "run"
    preprocess(find_cases(unpacked("heads")), open_cache(folder).requested, folder, workers=1)
    options = ("--model", "small3d", "--epochs", "1", "--patch-size", "16", "16", "16")
    assert main(["train", "--data", str(folder), "--out", str(run), *options]) == 0
    assert load_variables(run).keys() == {"params", "batch_stats"}
