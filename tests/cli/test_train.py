"""Cross-validation as a user runs it, on a data set of seconds."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from segjax import workflow
from segjax.cli import main
from segjax.data.phantom import write_dataset
from segjax.train import devices

METRICS = "run,epoch,split,case,label,metric,value\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "heads"
    write_dataset(folder, count=6, shape=(40, 32))
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Stand in for training and export; return what would have been trained."""
    runs = {}

    def train(plan, run, **_):
        runs[run.name] = plan
        run.mkdir(parents=True, exist_ok=True)
        rows = [f"run,1,validation,{c},lesion,dice,0.{len(runs)}" for c in plan.split.validation]
        (run / "metrics.csv").write_text(METRICS + "\n".join(rows) + "\n")
        return SimpleNamespace(best_dice=0.5, best_epoch=1)

    monkeypatch.setattr(workflow, "train", train)
    monkeypatch.setattr(workflow, "finish", lambda *_: {})
    return runs


def cross_validate(data, out, *options):
    command = ["train", "--data", str(data), "--out", str(out), "--model", "unet2d-k3"]
    return main([*command, *options])


def test_all_folds_are_trained_and_summed_up(data, tmp_path, trained, capsys):
    assert cross_validate(data, tmp_path, "--folds", "3", "--neighbours", "2") == 0
    assert list(trained) == ["fold0", "fold1", "fold2"]
    validated = [name for plan in trained.values() for name in plan.split.validation]
    assert sorted(validated) == [f"ms_{n:03d}" for n in range(6)]
    text = capsys.readouterr().out
    assert "0.2000 ± 0.1000" in text
    with (tmp_path / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["0", "0", "1", "1", "2", "2"]


def test_single_folds_add_up_to_the_same(data, tmp_path, trained, capsys):
    for fold in ("2", "0"):
        assert cross_validate(data, tmp_path, "--folds", "3", "--fold", fold) == 0
    assert list(trained) == ["fold2", "fold0"]
    assert "fold 0" in capsys.readouterr().out.rpartition("Dice")[2]
    assert len((tmp_path / "folds.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "1"], "need the number of --folds"),
        (["--group-by", "a"], "need the number of --folds"),
        (["--folds", "2", "--fold", "2"], "fold 2: give one from 0 to 1, or all"),
        (["--folds", "9"], "9 folds of 6 cases"),
        (["--folds", "2", "--group-by", "x"], "'x' finds nothing"),
        (["--folds", "2", "--split", "split.json"], "leave out --split"),
        (["--folds", "2", "--test", "0.2"], "leave out --split, --validation and --test"),
        (["--folds", "2", "--validation", "0.3"], "--validation and --test"),
    ],
)
def test_folds_that_cannot_be_are_refused(data, tmp_path, trained, options, message, capsys):
    assert cross_validate(data, tmp_path, *options) == 1
    assert message in capsys.readouterr().err
    assert not trained


def test_wrong_setting_names_its_file(data, tmp_path, trained, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"batch_size": 0}))
    assert cross_validate(data, tmp_path / "run", "--config", str(path)) == 1
    assert f"{path}: batch_size must be a whole number from 1 up" in capsys.readouterr().err


def test_source_of_the_weights_reaches_the_configuration(data, tmp_path, trained, monkeypatch):
    monkeypatch.setattr("segjax.train.transfer.recorded", lambda config: config)
    options = ["--init", "old", "--new-head", "--freeze", "^down0/", "bias"]
    assert cross_validate(data, tmp_path / "run", *options) == 0
    config = trained["run"].config
    assert (config.init.source, config.init.new_head) == ("old", True)
    assert config.freeze == ("^down0/", "bias")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--new-head"], "add --init"),
        (["--freeze", "a"], "give init too"),
        (["--init", "nowhere"], "nowhere: no such file or folder to start from"),
    ],
)
def test_weights_that_cannot_be_taken_are_refused(data, tmp_path, options, message, capsys):
    assert cross_validate(data, tmp_path / "run", *options) == 1
    assert message in capsys.readouterr().err


def test_missing_writer_of_tensorboard_logs_is_named(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("segjax.train.tensorboard.find_spec", lambda name: None)
    assert cross_validate(data, tmp_path / "run", "--tensorboard") == 1
    assert "pip install 'segjax[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host-index", "1"], "need the number of --hosts"),
        (["--hosts", "2", "--host-index", "1"], "give address, number of hosts and index"),
    ],
)
def test_half_of_what_hosts_need_is_refused(options, message, data, tmp_path, capsys):
    assert cross_validate(data, tmp_path / "run", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--hosts", "auto"], ((), {})),
        (
            ["--hosts", "2", "--host-index", "1", "--host-address", "node7:8476"],
            (("node7:8476",), {"hosts": 2, "index": 1}),
        ),
    ],
)
def test_other_hosts_than_the_first_train_and_say_nothing(
    options, expected, data, tmp_path, trained, monkeypatch, capsys
):
    met = []
    monkeypatch.setattr(devices, "connect_hosts", lambda *a, **k: met.append((a, k)))
    monkeypatch.setattr(devices, "is_first_host", lambda: False)
    assert cross_validate(data, tmp_path, "--folds", "3", *options) == 0
    assert met == [expected]
    assert len(trained) == 3
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "folds.csv").exists()
