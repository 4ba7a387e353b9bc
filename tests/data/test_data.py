"""The package as one imports it."""

import subprocess
import sys

import pytest

import segjax.data


@pytest.mark.parametrize("name", segjax.data.__all__)
def test_every_public_name_loads(name):
    assert getattr(segjax.data, name) is not None
    assert name in dir(segjax.data)


def test_modules_load_on_first_use():
    assert segjax.data.phantom.dataset.phantom.__name__ == "phantom"


def test_unknown_names_are_missing():
    with pytest.raises(AttributeError, match=r"No segjax.data attribute read_mha"):
        segjax.data.read_mha  # noqa: B018


def test_nothing_imports_what_it_does_not_need():
    program = """
import sys, segjax.data
assert "segjax.data.prepare.pipeline" not in sys.modules
for name in segjax.data.__all__:
    getattr(segjax.data, name)
heavy = {"jax", "flax", "torch", "nibabel", "SimpleITK", "pydicom", "PIL", "rich", "grain"}
heavy |= {"matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
