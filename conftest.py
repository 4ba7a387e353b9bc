"""Fixtures for docstring examples, and XLA's flags.

Examples run in a folder that holds what they name of ``tests/docs/world.py``. Most of the time of
tests is XLA's to compile programs that run once: it optimizes less here, unless ``XLA_FLAGS`` is
set, be it to nothing.
"""

import os
import re
import shutil
from importlib.metadata import version

import pytest

from tests.docs.conftest import CONTENTS, world  # noqa: F401

_flags = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # later ones end at a flag that they do not know
    _flags += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _flags)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Count docstring examples as documentation."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.docs)


@pytest.fixture(autouse=True)
def _place_of_an_example(request):
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("_folder_of_an_example")
        request.getfixturevalue("_names_of_an_example")


@pytest.fixture
def _folder_of_an_example(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "".join(example.source for example in request.node.dtest.examples)
    for name in CONTENTS & set(re.findall(r'"([\w.]+)', code)):
        whole = request.getfixturevalue("world") / name
        copy = shutil.copytree if whole.is_dir() else shutil.copyfile
        copy(whole, tmp_path / name)


@pytest.fixture
def _names_of_an_example(monkeypatch):
    """Forget afterwards what an example registers."""
    from segjax.registry import _REGISTRIES

    for registry in _REGISTRIES.values():
        registry.names()
        monkeypatch.setattr(registry, "_things", dict(registry._things))
