"""Fixtures for every test."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with the public MR data, or skip the test."""
    folder = os.environ.get("SEGJAX_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the public MR data: set SEGJAX_DATA to its folder")
    return Path(folder)
