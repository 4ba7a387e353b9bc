"""Fixtures for every test, and the run-time check of all signatures."""

import importlib.util
import os
import sys
import types
from functools import partial
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests import peers

if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("no deadline", deadline=None)  # machines are busy at times
    settings.load_profile("no deadline")

if importlib.util.find_spec("beartype"):  # a machine with a GPU may lack it
    from beartype import BeartypeConf, beartype

    # jaxtyping takes its type checker by name; int is accepted where float is asked for (PEP 484)
    _checker = types.ModuleType("signature_checker")
    _checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
    sys.modules[_checker.__name__] = _checker
    install_import_hook(["segjax", "segjax_onnx"], "signature_checker.check")


_LONG = (  # whose lines the trainings of tests/cli cover, too
    "data/test_workers.py",
    "segjax_onnx/write/test_primitives.py",
    "train/sweeps/test_sweep.py",
    "train/test_fit.py",
    "train/test_step.py",
    "train/test_transfer.py",
)


def pytest_collection_modifyitems(items):
    """Leave long trainings out of the coverage, which makes JAX's tracing twice as slow."""
    for item in items:
        if item.path.as_posix().endswith(_LONG):
            item.add_marker("no_cover")


def pytest_runtest_setup(item):
    """Let a test use the libraries that it is marked with, or skip it."""
    peers.allow(*(name for mark in item.iter_markers("peer") for name in mark.args))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with the public MR data, or skip the test."""
    folder = os.environ.get("SEGJAX_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the public MR data: set SEGJAX_DATA to its folder")
    return Path(folder)


@pytest.fixture(scope="module")
def small_networks():
    """Let networks of a moment be trained by the names ``small2d`` and ``small3d``."""
    from segjax.models import UNet, UNetPlusPlus
    from segjax.registry import registry

    flat = partial(UNet, channels=(8, 16), strides=(2,))
    with (
        registry("network").lend(flat, "small2d"),
        registry("network").lend(partial(UNetPlusPlus, features=(4, 6)), "small3d"),
    ):
        yield
