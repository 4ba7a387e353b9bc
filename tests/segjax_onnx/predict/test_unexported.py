"""What is said of folders without an exported network, beside checkpoints as a training writes."""

import json

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train.checkpoints import Checkpoints
from segjax_onnx.predict.network import find_files


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"epochs": 10, "patience": 3}))
    return tmp_path


def checkpoint(run, epoch, stale=0):
    with Checkpoints(run / "checkpoints") as checkpoints:
        for step, done in ((4, 1), (5 * epoch, epoch)):
            checkpoints.save(step, {"w": np.zeros(3)}, {"epoch": done, "stale": stale})


@pytest.mark.parametrize(("epoch", "stale"), [(10, 0), (7, 3)])
def test_finished_training_is_called_finished_and_export_is_named(run, epoch, stale):
    checkpoint(run, epoch, stale)
    message = rf"no model\.onnx; its training is finished: 'segjax export {run}' makes the file"
    with pytest.raises(InputError, match=message):
        find_files(run)


def test_training_that_goes_on_is_told_with_its_epoch(run):
    checkpoint(run, 7, 2)
    with pytest.raises(InputError, match=r"its training is at epoch 7: go on .*'segjax export"):
        find_files(run)


def test_finished_member_of_a_sweep_is_called_finished(run):
    checkpoint(run, 7)
    (run / "result.json").write_text('{"error": "the loss became nan"}')
    with pytest.raises(InputError, match="its training is finished: 'segjax export"):
        find_files(run)


def test_training_without_checkpoint_has_learned_nothing(run):
    with pytest.raises(InputError, match="has learned nothing yet: run the same segjax train"):
        find_files(run)
    (run / "result.json").write_text('{"error": "the loss became nan"}')
    with pytest.raises(InputError, match="failed before it had learned anything"):
        find_files(run)


@pytest.mark.parametrize("text", ["{", '{"meta": 5}', '{"meta": {"epoch": 9, "stale": null}}'])
def test_damaged_checkpoint_is_passed_over(run, text):
    checkpoint(run, 7)
    (run / "checkpoints" / "35" / "content" / "metadata").write_text(text)
    with pytest.raises(InputError, match="its training is at epoch 1:"):
        find_files(run)


def test_damaged_configuration_is_named(run):
    checkpoint(run, 7)
    (run / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: holds no JSON object"):
        find_files(run)


def test_sweep_without_network_is_told_how_to_get_one(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match="run the same segjax sweep again"):
        find_files(tmp_path)


def test_a_folder_that_hides_a_model_of_its_name_is_told(tmp_path, monkeypatch):
    (tmp_path / "ms-flair").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"it hides the model of that name .*call the folder"):
        find_files("ms-flair")
    with pytest.raises(InputError, match="name the folder of a run that has one"):
        find_files(tmp_path / "ms-flair")


def test_any_other_folder_is_no_run(tmp_path):
    with pytest.raises(InputError, match="name the folder of a run that has one"):
        find_files(tmp_path)
