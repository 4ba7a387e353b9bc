"""The models that come with the library are what the script would make of its settings."""

import json
import sys
from pathlib import Path

import pytest

from segjax.codec import from_json
from segjax.pretrained import pretrained_models
from segjax.train.config import TrainConfig

FOLDER = Path(__file__).parents[2] / "benchmarks"
CARDS = {card.name: card for card in pretrained_models()}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "pretrained", raising=False)
    import pretrained

    return pretrained


def test_every_model_has_a_recipe_and_every_recipe_a_model(script):
    assert set(script.RECIPES) == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_recipes_are_settings_of_a_training_that_nothing_stops_early(script, name):
    config = from_json(TrainConfig, {"patch_size": [64, 64, 64], **script.RECIPES[name].settings})
    assert config.validate_every == config.epochs
    assert config.labels[1:] == CARDS[name].labels


@pytest.mark.parametrize("name", CARDS)
def test_a_model_of_other_bytes_is_told(script, name, tmp_path, monkeypatch):
    calls = []

    def run(command, *options):
        calls.append(command)
        if command == "export":
            options[options.index("-o") + 1].write_bytes(b"other")

    monkeypatch.setattr(script, "run_segjax", run)
    monkeypatch.setattr(script, "train", lambda *_: (tmp_path / name).mkdir(exist_ok=True))
    given = script.argparse.Namespace(data=tmp_path, out=tmp_path, check=True)
    monkeypatch.setattr(script, "with_links", lambda *_: tmp_path)
    assert not script.is_made(name, given)
    told = json.loads((tmp_path / name / "card.json").read_text())
    assert told["about"]["license"] == CARDS[name].license
    assert calls == ["export"]
