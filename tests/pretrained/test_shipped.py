import json
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

import segjax
import segjax.pretrained
from segjax.describe import describe
from segjax.errors import InputError
from segjax.pretrained import card_of, model_path, pretrained_model, pretrained_models
from segjax_onnx.predict.metadata import read_metadata
from tests.pretrained.toys import write_toys


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Let toy models be those that come with the library, and work in an empty folder."""
    monkeypatch.setattr("segjax.pretrained.card.FOLDER", write_toys(tmp_path / "toys"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "toys"


def test_models_are_listed_by_name(toys):
    assert [card.name for card in segjax.pretrained_models()] == ["half", "old", "over-zero"]


def test_the_card_of_one_tells_where_its_file_is(toys):
    card = pretrained_model("half")
    assert (card.name, card.path) == ("half", toys / "half.onnx")
    with pytest.raises(InputError, match="unknown model 'halve': did you mean 'half'"):
        pretrained_model("halve")


def test_a_damaged_card_is_named(toys):
    (toys / "half.json").write_text("{}")
    with pytest.raises(InputError, match=r"half\.json: "):
        pretrained_models()


def test_a_name_stands_for_the_file(toys):
    assert model_path("half") == model_path(Path("half")) == toys / "half.onnx"


def test_what_lies_in_the_working_directory_comes_first(toys):
    Path("half").mkdir()
    Path("old").touch()
    assert [model_path(name) for name in ("half", "old")] == [Path("half"), Path("old")]


@pytest.mark.parametrize("path", ["run/half", "/absent/half", "model.onnx", "weights.pt"])
def test_paths_are_left_as_they_are(toys, path):
    assert model_path(path) == Path(path)


@pytest.mark.parametrize("name", ["halv", "half.onnx"])
def test_a_word_that_names_nothing_is_answered_with_the_nearest_model(toys, name):
    with pytest.raises(InputError, match=f"^{name}: no such file or folder; unknown .* 'half'"):
        model_path(name)


def test_a_file_that_is_not_that_of_the_card_is_refused(toys):
    content = (toys / "half.onnx").read_bytes()
    (toys / "half.onnx").write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"half\.onnx: is not what its card tells of: install"):
        model_path("half")
    (toys / "half.onnx").unlink()
    with pytest.raises(InputError, match=r"half\.onnx: there is no such file"):
        model_path("half")


def test_a_file_is_known_by_its_place_alone(toys):
    Path("half.onnx").write_bytes((toys / "half.onnx").read_bytes())
    assert card_of(toys / "half.onnx") == pretrained_model("half")
    assert [card_of(path) for path in ("half.onnx", toys / "other.onnx", toys)] == [None] * 3


def test_importing_needs_the_base_alone():
    code = (
        "import sys, segjax\n"
        "segjax.pretrained_models()\n"
        "heavy = {'jax', 'onnx', 'onnxruntime', 'scipy', 'SimpleITK', 'nibabel', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_can_be_reached_and_are_those_of_no_module():
    names = segjax.pretrained.__all__
    assert all(getattr(segjax.pretrained, name).__doc__.count(">>>") for name in names)
    folder = Path(segjax.pretrained.__file__).parent
    assert not {path.stem for path in folder.iterdir()} & set(names)


# -- where a model is taken ---------------------------------------------------------------------


def test_a_predictor_takes_a_name(toys):
    image = np.linspace(-1, 1, 8**3, dtype=np.float32).reshape(8, 8, 8)
    predictor = segjax.Predictor("half")
    assert predictor.files == (toys / "half.onnx",)
    np.testing.assert_array_equal(predictor.predict(image).data, image > 0)
    with pytest.raises(InputError, match=r"^halv: no such file .* did you mean 'half'\?"):
        segjax.Predictor("halv")


def test_several_networks_may_be_a_name_and_a_file(toys):
    Path("other.onnx").write_bytes((toys / "half.onnx").read_bytes())
    files = segjax.Predictor(["half", "other.onnx"]).files
    assert files == (toys / "half.onnx", Path("other.onnx"))


def test_metadata_and_description_are_of_the_file(toys):
    assert read_metadata("half").labels == ("background", "lesion")
    assert describe("half")["labels"] == "background, lesion"
    with pytest.raises(InputError, match="unknown model 'halv': did you mean 'half'"):
        describe("halv")


def test_the_page_is_served_a_model_by_its_name(toys):
    Path("page").mkdir()
    Path("page", "index.html").write_text("the page")
    image = np.zeros((4, 4, 4), np.float32)
    with segjax.view(image, model="half", page="page", browser=False) as viewer:
        told = urlopen(viewer.url.replace("?session=", ""), timeout=10).read()
    assert [model["name"] for model in json.loads(told)["models"]] == ["half.onnx"]


# -- weights to start from ----------------------------------------------------------------------


def test_a_training_starts_from_a_name_and_outlives_the_package(toys, tmp_path, monkeypatch):
    from segjax.train.config import InitConfig, TrainConfig
    from segjax.train.transfer import hold, load_source, recorded

    config = TrainConfig("mpunet++", (16, 16, 16), epochs=1, init=InitConfig("old"))
    planned = recorded(config)
    assert planned.init.source == "old"
    assert (
        planned.init.digest
        == pretrained_model("old").sha256
        == load_source("old", "mpunet++").digest
    )
    run = tmp_path / "run"
    run.mkdir()
    hold(planned, run, begun=False)
    toys.rename(tmp_path / "elsewhere")
    monkeypatch.setattr("segjax.pretrained.card.FOLDER", tmp_path / "elsewhere")
    assert recorded(planned) == recorded(config) == planned
    monkeypatch.setattr("segjax.pretrained.card.FOLDER", tmp_path / "nowhere")
    assert recorded(planned, run) == recorded(config, run) == planned


def test_weights_that_are_no_model_are_answered_with_the_nearest(toys, tmp_path):
    from segjax.train.config import InitConfig, TrainConfig
    from segjax.train.transfer import load_source, recorded

    config = TrainConfig("mpunet++", (16, 16, 16), epochs=1, init=InitConfig("olt"))
    with pytest.raises(InputError, match="unknown model 'olt': did you mean 'old'"):
        recorded(config, tmp_path)
    with pytest.raises(InputError, match="unknown model 'olt': did you mean 'old'"):
        load_source("olt", "mpunet++")


def test_a_folder_that_hides_a_model_is_told_wherever_it_is_no_use(toys, tmp_path, monkeypatch):
    from segjax.describe import describe
    from segjax.train.transfer import load_source

    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path)
    for ask in (describe, lambda folder: load_source(folder, "mpunet++")):
        with pytest.raises(InputError, match=r"it hides the model of that name .*call the folder"):
            ask("old")
        with pytest.raises(InputError, match=r"^(?!.*it hides)"):
            ask(tmp_path / "old")
