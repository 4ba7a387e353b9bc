import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from segjax.extras import how_to_install


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
    def common(extra: str) -> set[str]:
        listed = extras_of_project()[extra]
        return {one for one in listed if not re.match(r"jax(\[|>)|onnxruntime", one)}

    assert common("cuda") == common("train")
    assert any(one.startswith("jax[cuda13]") for one in extras_of_project()["cuda"])


def extras_of_project() -> dict[str, list[str]]:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]["optional-dependencies"]
