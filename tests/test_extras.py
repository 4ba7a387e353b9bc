import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from segjax.errors import InputError
from segjax.extras import extra_of, how_to_install, needed_for


@pytest.fixture
def installed(monkeypatch):
    """Let segjax have been installed as one of pip's ``direct_url.json`` says."""

    def install(origin: dict | None) -> None:
        class Distribution:
            def read_text(self, name: str) -> str | None:
                assert name == "direct_url.json"
                return None if origin is None else json.dumps(origin)

        monkeypatch.setattr(metadata, "distribution", lambda name: Distribution())

    return install


def source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    return folder


def test_editable_source_is_named_and_stays_editable(installed, tmp_path):
    folder = source(tmp_path / "my segjax")
    installed({"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert how_to_install("train") == f'pip install -e ".[train]" in {folder}'


def test_source_that_was_copied_is_named(installed, tmp_path):
    folder = source(tmp_path / "segjax")
    installed({"url": folder.as_uri(), "dir_info": {}})
    assert how_to_install("dicom") == f'pip install ".[dicom]" in {folder}'


@pytest.mark.parametrize(
    "origin",
    [
        None,
        {"url": "file:///gone", "dir_info": {}},
        {"url": "https://example.org/segjax.git", "vcs_info": {"vcs": "git"}},
    ],
)
def test_any_copy_of_the_source_does_where_none_is_known(installed, origin):
    installed(origin)
    assert how_to_install("train") == 'pip install ".[train]" in the folder of segjax\'s source'


def test_no_message_names_an_index_that_segjax_is_not_on():
    packages = [Path(__file__).parents[1] / name for name in ("segjax", "export/segjax_onnx")]
    texts = {path: path.read_text("utf-8") for p in packages for path in p.rglob("*.py")}
    assert [path for path, text in texts.items() if "segjax[" in text] == []


def test_both_extras_for_a_gpu_bring_the_libraries_that_onnxruntime_links_to():
    """JAX brings no cuRAND; before 1.28 the wheels were of CUDA 12, or linked to all on import."""
    wanted = "onnxruntime-gpu[cuda,cudnn]>=1.28"
    extras = extras_of_project()
    assert extras["runtime-gpu"] == [wanted]
    assert wanted in [one.partition(";")[0] for one in extras["cuda"]]


def test_extra_for_a_gpu_is_that_for_training_with_jax_and_onnxruntime_for_cuda():
    training, jax, onnxruntime = extras_of_project()["cuda"]
    assert training == "segjax[train]"
    assert jax.startswith("jax[cuda13]")
    assert onnxruntime.startswith("onnxruntime-gpu")


# -- what is missing ----------------------------------------------------------------------------


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=; ]", one)[0] for one in requirements}


def test_every_package_is_named_with_an_extra_that_brings_it():
    modules = {"pillow": "PIL", "orbax-checkpoint": "orbax"}
    known = {"runtime", "prepare", "dicom", "report", "train", "tensorboard", "atlas"}
    for extra, requirements in extras_of_project().items():
        for name in names_of(requirements) - {"segjax"} if extra in known else ():
            module = modules.get(name, name)
            found = extra_of(ModuleNotFoundError(name=f"{module}.inner"))
            assert name in names_of(extras_of_project()[found])


def test_the_base_and_the_runtime_are_light():
    heavy = {"SimpleITK", "scipy", "pillow", "pydicom", "jax", "pandas", "matplotlib"}
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    base = names_of(tomllib.loads(text)["project"]["dependencies"])
    assert not heavy & (base | names_of(extras_of_project()["runtime"]))


def test_what_is_missing_is_said_with_its_purpose_and_its_extra():
    expected = r'drawing needs matplotlib: pip install .*"\.\[report\]" in '
    with pytest.raises(InputError, match=expected), needed_for("drawing"):
        raise ModuleNotFoundError("No module", name="matplotlib.figure")


def test_what_no_extra_brings_stays_what_it_is():
    with pytest.raises(ModuleNotFoundError, match="zzz"), needed_for("drawing"):
        raise ModuleNotFoundError("No module named 'zzz'", name="zzz")


@pytest.mark.parametrize(
    ("hidden", "code", "message"),
    [
        ("jax", "import segjax; segjax.fit", "segjax.fit needs jax: "),
        ("jax", "from segjax.train import fit", "segjax.train.fit needs jax: "),
        ("scipy", "from segjax.data import augment", "segjax.data.augment needs scipy: "),
    ],
)
def test_names_of_a_package_say_which_extra_they_need(hidden, code, message):
    program = (
        f"import sys; sys.modules[{hidden!r}] = None\n"
        "from segjax.errors import InputError\n"
        f"try:\n    {code}\nexcept InputError as error:\n    print(error)"
    )
    assert message in subprocess.check_output([sys.executable, "-c", program], text=True)


def extras_of_project() -> dict[str, list[str]]:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]["optional-dependencies"]
