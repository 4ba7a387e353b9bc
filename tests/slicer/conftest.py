"""The module's folder, as Slicer puts it on the path."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.slicer.stand_ins import modules

FOLDER = Path(__file__).parents[2] / "export" / "slicer" / "SegjaxSegmenter"


@pytest.fixture
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in [name for name in sys.modules if name.startswith("SegjaxSegmenter")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def logic(on_path):
    """Return the part that knows nothing of Slicer."""
    return importlib.import_module("SegjaxSegmenterLib.logic")


@pytest.fixture
def slicer(on_path, monkeypatch):
    """Return the stand-in of Slicer that the module finds."""
    found = modules()
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found["slicer"]


@pytest.fixture
def module(slicer):
    """Return the module, imported with stand-ins."""
    return importlib.import_module("SegjaxSegmenter")
