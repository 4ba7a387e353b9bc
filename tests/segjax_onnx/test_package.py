import subprocess
import sys

import pytest

import segjax_onnx

WITHOUT_JAX = """
import sys
for name in ("jax", "flax", "onnx", "jax2onnx"):
    sys.modules[name] = None
import segjax_onnx
from segjax_onnx import ModelMetadata, Predictor, read_metadata
assert "onnxruntime" not in sys.modules
"""


def test_importing_the_package_and_the_predictor_needs_no_jax():
    subprocess.run([sys.executable, "-c", WITHOUT_JAX], check=True)


def test_every_public_name_is_there():
    for name in segjax_onnx.__all__:
        assert getattr(segjax_onnx, name).__name__ == name
    assert set(segjax_onnx.__all__) <= set(dir(segjax_onnx))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attribute nothing"):
        segjax_onnx.nothing  # noqa: B018
