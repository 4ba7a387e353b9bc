"""Libraries that segjax is compared with: where they are missing, all other tests run."""

import ast
from pathlib import Path

import pytest

from tests import peers

PEERS = {
    "intensity_normalization",
    "monai",
    "psutil",
    "pydactim",
    "surface_distance",
    "tensorboard",
    "torch",
    "torchio",
}
IMPORTERS = {"import_module", "importorskip", "__import__"}


def imports_of(tree):
    """Name the modules that code imports anywhere, by statements and by functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in IMPORTERS:
                yield str(node.args[0].value)


def peers_in(text):
    modules = imports_of(ast.parse(text))
    return [m for m in modules if m.split(".")[0] in PEERS or m.startswith("benchmarks.peers")]


def test_no_test_imports_a_peer_but_by_name_and_mark():
    files = Path(__file__).parent.rglob("*.py")
    found = {str(file): peers_in(file.read_text("utf-8")) for file in files}
    assert {file: modules for file, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import torch.nn",
        "from monai import losses",
        'def f():\n    pytest.importorskip("torchio")',
        "from benchmarks.peers import TorchUNet",
    ],
)
def test_an_import_of_a_peer_is_seen(line):
    assert len(peers_in(line)) == 1


def test_a_test_without_the_mark_cannot_use_a_peer():
    with pytest.raises(RuntimeError, match=r'mark this test: @pytest\.mark\.peer\("torchio"\)'):
        peers.torchio.Blur  # noqa: B018


@pytest.mark.peer("surface_distance")
def test_a_test_with_the_mark_can_use_its_peer_alone():
    assert peers.surface_distance.compute_dice_coefficient
    with pytest.raises(RuntimeError, match="mark this test"):
        peers.torch.zeros  # noqa: B018


def test_a_missing_peer_skips_and_says_how_to_install_it():
    with pytest.raises(pytest.skip.Exception, match=r'needs nowhere: pip install -e "\.\[bench\]"'):
        peers.allow("nowhere")
