"""Trainings of the studies: which rows are run, once, and the threshold that they must beat."""

import dataclasses
import json
from argparse import Namespace

import numpy as np
import pytest

from benchmarks import studies
from segjax.codec import from_json
from segjax.data.io.nifti import write_nifti
from segjax.train.config import TrainConfig
from segjax.volume import Volume


def chosen(study=None, rows=()):
    options = Namespace(study=study, rows=rows)
    return [name for name in studies.TRAININGS if studies.is_chosen(name, options)]


def test_rows_are_chosen_by_study_and_by_parts_of_their_names():
    assert chosen() == list(studies.TRAININGS)
    assert all(name.startswith("ms ") for name in chosen("ms"))
    assert len(chosen("ms", ["bare threshold, z-score"])) == 4
    assert chosen("hippocampus", ["bare threshold"]) == []
    assert len({studies.folder_of(name, studies.Path("out")) for name in chosen()}) == len(chosen())


@pytest.mark.parametrize("name", studies.RECIPES)
def test_recipes_are_settings_of_a_training(name):
    training = studies.ms_recipe("patient07", "patient19", 0, **studies.RECIPES[name])
    config = from_json(TrainConfig, {"model": "mpunet++", **training.settings})
    assert config.validate_every == config.epochs  # so that nothing chooses the epoch
    assert training.split["test"] == ["patient19"]


def test_a_row_is_measured_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(studies, "run", lambda *given: calls.append(given) or {"mean_dice": 0.5})
    training = studies.hippocampus("mpunet++", 1)
    for _ in range(2):
        assert studies.once(training, tmp_path, tmp_path / "row") == {"mean_dice": 0.5}
    assert len(calls) == 1
    other = dataclasses.replace(training, options=("--seed", "1"))
    with pytest.raises(SystemExit, match="another training of the same name"):
        studies.once(other, tmp_path, tmp_path / "row")


@pytest.fixture
def patients(tmp_path):
    """Lay out two brains of values 0 to 1, with lesions over 5 and over 3."""
    rng = np.random.default_rng(0)
    for name, least in (("one", 5.0), ("two", 3.0)):
        flair = np.zeros((30, 30, 30), np.float32)
        flair[2:28, 2:28, 2:28] = 1 + rng.random((26, 26, 26))
        lesion = np.zeros(flair.shape, np.uint8)
        lesion[12:18, 12:18, 12:18] = 1
        flair[lesion == 1] = 1.5 + (least + 0.02) * 0.5
        folder = tmp_path / "ms_lesions" / name
        folder.mkdir(parents=True)
        write_nifti(Volume(flair, np.eye(4)), folder / "flair.nii.gz")
        write_nifti(Volume(lesion, np.eye(4)), folder / "lesions.nii.gz")
    return tmp_path


def test_best_threshold_of_a_patient_finds_all_of_clear_lesions(patients, monkeypatch):
    monkeypatch.setattr(studies, "BLURS", (0.0,))
    step = {"step": "robust-z-score", "where": "nonzero"}
    row = studies.Threshold("one", "one", step)
    assert studies.once(row, patients, patients / "row")["mean_dice"] == 1
    stored = json.loads((patients / "row" / "row.json").read_text("utf-8"))
    assert stored["training"] == {"on": "one", "chosen_on": "one", "step": step}
    assert studies.over_threshold(studies.Threshold("two", "one", step), patients)["mean_dice"] == 1
