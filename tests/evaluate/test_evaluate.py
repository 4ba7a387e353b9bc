"""The package: its names, and what importing it costs."""

import subprocess
import sys

import pytest

import segjax.evaluate


def test_every_public_name_can_be_used():
    for name in segjax.evaluate.__all__:
        assert callable(getattr(segjax.evaluate, name))
        assert name in dir(segjax.evaluate)


def test_modules_are_attributes():
    assert segjax.evaluate.overlap.dice is segjax.evaluate.dice


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="jacard"):
        segjax.evaluate.jacard  # noqa: B018


def test_importing_every_module_needs_no_heavy_package():
    heavy = ("matplotlib", "pandas", "jax", "flax", "nibabel", "SimpleITK")
    code = (
        "import sys, segjax.report.training, segjax.report.plots\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
