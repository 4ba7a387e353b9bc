"""Fixtures for every test, and the run-time check of all signatures.

Most of the time of the tests is XLA's to compile programs that run once: it optimizes less here,
unless ``XLA_FLAGS`` is set, be it to nothing.
"""

import os
import sys
import types
from pathlib import Path

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

# jaxtyping takes its type checker by name; int is accepted where float is asked for (PEP 484)
_checker = types.ModuleType("signature_checker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker
install_import_hook(["segjax", "segjax_onnx"], "signature_checker.check")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with the public MR data, or skip the test."""
    folder = os.environ.get("SEGJAX_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the public MR data: set SEGJAX_DATA to its folder")
    return Path(folder)
