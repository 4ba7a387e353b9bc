"""The models that come with segjax, from the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.pretrained import ModelCard, read_model_card
from segjax.volume import Volume
from tests.pretrained.toys import CARD, write_toys


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Let toy models be those that come with the library, beside two images."""
    monkeypatch.setattr("segjax.pretrained.card.FOLDER", write_toys(tmp_path / "toys"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cube = np.linspace(-1, 1, 8**3, dtype=np.float32).reshape(8, 8, 8)
    write_volume(Volume(cube, np.eye(4)), "cube.nii.gz")
    write_volume(Volume(np.stack([cube] * 4, axis=-1), np.eye(4)), "four.nii.gz")
    write_volume(Volume(np.eye(8, dtype=np.uint8), np.eye(3)), "slice.png")
    return tmp_path / "toys"


def test_models_are_listed_with_their_dice_and_what_on(toys, capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line for line in lines if line.startswith("old "))
    assert row.split("  ")[0] == "old"
    for words in (CARD["task"], "177 kB", CARD["license"], "0.741 on another patient (n = 1)"):
        assert words in row
    assert any("none is for diagnosis" in line for line in lines)


def test_the_list_may_be_empty(toys, capsys):
    for file in toys.iterdir():
        file.unlink()
    assert main(["models"]) == 0
    assert main(["models", "--json"]) == 0
    assert capsys.readouterr().out.endswith("\n[]\n")


def test_a_card_is_shown_whole(toys, capsys):
    assert main(["models", "over-zero"]) == 0
    text = capsys.readouterr().out
    plain = {name: value for name, value in CARD.items() if name not in ("dice", "sha256")}
    for value in plain.values():
        assert all(str(part) in text for part in (value if isinstance(value, list) else [value]))
    assert "0.741 on another patient (n = 1); both patients to train on" in text
    assert "lesion: 0.900 on the same (n = 2); none" in text
    assert str(toys / "over-zero.onnx") in text


def test_cards_are_told_as_json(toys, capsys):
    assert main(["models", "old", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one.pop("path") == str(toys / "old.onnx")
    assert ModelCard.from_json(one) == read_model_card(toys / "old.json")
    assert main(["models", "--json"]) == 0
    names = [each["name"] for each in json.loads(capsys.readouterr().out)]
    assert names == ["half", "old", "over-zero"]


def test_an_unknown_model_is_one_line(toys, capsys):
    assert main(["models", "olt"]) == 1
    expected = "unknown model 'olt': did you mean 'old'? Known are half, old, over-zero"
    assert capsys.readouterr().err == f"segjax: error: {expected}\n"


# -- commands that take a model -------------------------------------------------------------------


def test_prediction_says_once_what_the_model_is_not_for(toys, capsys):
    images = {"cube.nii.gz", "cube2.nii.gz"}
    Path("in").mkdir()
    for image in images:
        Path("in", image).write_bytes(Path("cube.nii.gz").read_bytes())
    assert main(["predict", "half", "in", "-o", "masks"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "half: CC-BY-4.0; not for diagnosis; its card: segjax models half"
    assert not [line for line in rest if "diagnosis" in line]
    assert {mask.name for mask in Path("masks").glob("*.nii.gz")} == images


def test_prediction_by_a_file_of_ones_own_says_nothing(toys, capsys):
    Path("own.onnx").write_bytes((toys / "half.onnx").read_bytes())
    assert main(["predict", "own.onnx", "cube.nii.gz", "-o", "masks"]) == 0
    assert "diagnosis" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["predict", "halv", "cube.nii.gz", "-o", "m"], "unknown model 'halv': did you mean 'half"),
        (["predict", "half", "four.nii.gz", "-o", "m"], "4 channels, but 1 are expected"),
        (["predict", "half", "slice.png", "-o", "m"], "a 2D image of shape (8, 8), but the net"),
        (["predict", "over-zero", "cube.nii.gz", "-o", "m"], "cube.nii.gz: an image of shape (8, "),
        (["watch", "in", "out", "--model", "halv"], "unknown model 'halv': did you mean 'half"),
        (["followup", "cube.nii.gz", "cube.nii.gz", "-m", "halv"], "did you mean 'half'"),
        (["report", "slice.png", "slice.png", "-m", "halv"], "did you mean 'half'"),
        (["export", "half", "-o", "copy.onnx"], "half.onnx: is exported already: copy it"),
        (["export", "half", "--bioimage", "--authors", "Jane"], "the network names no licence"),
        (["info", "halv"], "no such file or folder; unknown model 'halv': did you mean 'half'"),
    ],
)
def test_what_does_not_fit_is_one_line(toys, command, message, capsys):
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("segjax: error: ")
    assert message in error


@pytest.mark.parametrize("package", ["scipy.ndimage", "SimpleITK"])
def test_packages_that_a_pipeline_wants_are_named_with_their_extra(
    toys, package, monkeypatch, capsys
):
    from segjax.data.phantom.dataset import phantom

    head, _ = phantom(3, shape=(24, 28, 24), spacing=7.0)
    write_volume(head, "head.nii.gz")
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["predict", "over-zero", "head.nii.gz", "-o", "masks"]) == 1
    assert "pip install" in (error := capsys.readouterr().err)
    assert '".[prepare]"' in error
    assert f"needs {package.partition('.')[0]}: " in error


def test_a_package_asks_once_for_all_that_it_takes(toys, monkeypatch, capsys):
    for package in ("onnx", "scipy.ndimage", "PIL"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "half", "--bioimage", "--authors", "Jane"]) == 1
    error = capsys.readouterr().err
    assert "making a package needs onnx: pip install" in error
    assert '".[train]"' in error


@pytest.mark.slow
def test_visits_are_segmented_by_a_name(toys, capsys):
    rng = np.random.default_rng(0)
    for visit in ("a", "b"):
        noise = rng.normal(size=(8, 8, 8)).astype(np.float32)
        write_volume(Volume(noise, np.eye(4)), f"{visit}.nii.gz")
    command = ["followup", "a.nii.gz", "b.nii.gz", "-m", "half", "--registration", "none"]
    assert main([*command, "--brain", "zero-background"]) == 0
    assert capsys.readouterr().out.startswith("half: CC-BY-4.0; not for diagnosis; its card: ")
    networks = json.loads(Path("followup", "summary.json").read_text())["networks"]
    assert networks[0]["name"] == "half.onnx"
