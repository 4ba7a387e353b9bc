"""What exported networks are to the rest of segjax, which never imports this package."""

import subprocess
import sys

import pytest

from segjax.data.prepare.brain import check_method
from segjax.registry import registry
from segjax_onnx import plugin


def test_files_of_networks_are_brain_extractors_and_weights():
    assert check_method("models/Brain.ONNX") == ".onnx"
    assert registry("extractor").get(".onnx") is plugin.brain_network
    assert registry("weights").get(".onnx") is plugin.exported_weights


@pytest.mark.parametrize("kind", ["extractor", "reader"])
def test_looking_a_name_up_loads_neither_onnxruntime_nor_jax(kind):
    code = (
        "import sys; from segjax.registry import registry\n"
        f"assert registry({kind!r}).names()\n"
        "assert 'segjax_onnx.plugin' in sys.modules\n"
        "print(sorted({'jax', 'onnx', 'onnxruntime', 'segjax.train'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
