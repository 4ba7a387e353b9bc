"""What importing the package costs and offers."""

import subprocess
import sys

import pytest

import segjax


def test_importing_segjax_loads_no_heavy_package():
    code = (
        "import sys, segjax\n"
        "heavy = {'jax', 'flax', 'numpy', 'scipy', 'nibabel', 'SimpleITK', 'jaxtyping', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_reached():
    assert all(getattr(segjax, name) is not None for name in segjax.__all__)
    assert set(segjax.__all__) <= set(dir(segjax))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Net'"):
        segjax.Net  # noqa: B018
