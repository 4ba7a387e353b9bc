import sys
import warnings
from importlib import metadata

import onnx
import onnxruntime
import pytest

from segjax.errors import InputError
from segjax_onnx.predict import runtime
from segjax_onnx.predict.runtime import open_session

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
REPAIR = "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1"


@pytest.fixture(autouse=True)
def forgetful():
    """Let each test be the first of its process."""
    runtime._warn_of_lost_gpu.cache_clear()
    yield
    runtime._warn_of_lost_gpu.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Let these versions be the installed ones, by the name of the package."""

    def install(**versions):
        def version(name):
            if (found := versions.get(name.replace("-", "_"))) is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return install


@pytest.fixture(scope="module")
def network():
    """An ONNX file that returns its input, as bytes."""
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n"]) for n in "ab"]
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    graph = onnx.helper.make_graph([node], "graph", value[:1], value[1:])
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def let_providers_be(monkeypatch, *names):
    """Let onnxruntime offer these, and open all on the CPU."""

    def open_on_cpu(model, options, providers):
        session = session_class(model, options, providers=[CPU])
        session.get_providers = lambda: [name for name, _ in providers]
        return session

    session_class = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names))
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_cpu)


def warnings_of(source, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_session(source, **options)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("versions", "providers", "lost"),
    [
        ({"onnxruntime": "1.32.0"}, [CPU], False),
        ({"onnxruntime": "1.32.0", "onnxruntime_gpu": "1.31.1"}, [CPU], True),
        ({"onnxruntime": "1.32.0", "onnxruntime_gpu": "1.31.1"}, [CUDA, CPU], False),
        ({"onnxruntime_gpu": "1.31.1"}, [CUDA, CPU], False),
    ],
    ids=["CPU alone", "CPU over GPU", "GPU over CPU", "GPU alone"],
)
def test_onnxruntime_installed_over_its_gpu_package_is_told_with_the_command_that_repairs_it(
    network, installed, monkeypatch, versions, providers, lost
):
    installed(**versions)
    let_providers_be(monkeypatch, *providers)
    told = warnings_of(network)
    assert [REPAIR in message for message in told] == [True] * lost
    assert warnings_of(network) == []  # once is enough


def test_who_asks_for_the_cpu_is_not_told_of_a_lost_gpu(network, installed, monkeypatch):
    installed(onnxruntime="1.32.0", onnxruntime_gpu="1.31.1")
    let_providers_be(monkeypatch, CPU)
    assert warnings_of(network, providers=[CPU]) == []


@pytest.mark.parametrize("left", ["onnxruntime-gpu", "onnxruntime"])
def test_files_that_went_with_the_other_package_are_told_of(network, installed, monkeypatch, left):
    installed(**{left.replace("-", "_"): "1.31.1"})
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    with pytest.raises(InputError, match="has lost files") as error:
        open_session(network)
    assert str(error.value).endswith(f"--force-reinstall --no-deps {left}==1.31.1")


def test_a_missing_onnxruntime_is_told_with_the_extra_that_brings_it(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime: .*\[runtime\]"):
        open_session(network)


def test_this_environment_has_cuda_where_its_package_is_installed_or_is_told(network):
    installed = {distribution.name for distribution in metadata.distributions()}
    lost = "onnxruntime-gpu" in installed and CUDA not in onnxruntime.get_available_providers()
    told = warnings_of(network)
    assert any("--force-reinstall" in message for message in told) == lost


def test_onnxruntime_goes_over_to_no_other_provider_by_itself(network):
    assert open_session(network)._enable_fallback is False


def test_devices_are_called_by_their_short_names(network, monkeypatch):
    let_providers_be(monkeypatch, CUDA, CPU)
    assert open_session(network, providers=["cuda", "cpu"]).get_providers() == [CUDA, CPU]
    assert open_session(network, providers=["cpu"]).get_providers() == [CPU]
    let_providers_be(monkeypatch, CPU)
    with pytest.raises(InputError, match="this onnxruntime has CPUExecutionProvider"):
        open_session(network, providers=["cuda"])
