import numpy as np
import onnxruntime
import pytest

from segjax_onnx.predict.subgraph import subgraph
from segjax_onnx.write.stages import stages_of
from tests.segjax_onnx.write.test_stages import graph


@pytest.fixture(scope="module")
def network():
    proto = graph((2, 3, 3), 2)
    return proto.SerializeToString(), stages_of(proto)


def cut(page_modules, model, stage):
    given = np.frombuffer(model, np.uint8)
    names = list(stage.inputs), list(stage.outputs)
    return page_modules.call("model/subgraph.subgraph", given, *names).tobytes()


def test_parts_are_those_that_python_cuts(page_modules, network):
    model, stages = network
    assert len(stages) > 2
    for stage in stages:
        assert cut(page_modules, model, stage) == subgraph(model, stage.inputs, stage.outputs)


def test_parts_one_after_another_are_the_graph(page_modules, network):
    model, stages = network
    image = np.random.default_rng(0).standard_normal((1, 1, 24, 16), np.float32)
    (expected,) = onnxruntime.InferenceSession(model).run(None, {"image": image})
    arrays = {"image": image}
    for stage in stages:
        session = onnxruntime.InferenceSession(cut(page_modules, model, stage))
        given = {name: arrays[name] for name in stage.inputs}
        arrays |= dict(zip(stage.outputs, session.run(list(stage.outputs), given), strict=True))
    np.testing.assert_array_equal(arrays["probabilities"], expected)


def test_a_damaged_graph_is_an_error(page_modules, network):
    model, stages = network
    with pytest.raises(RuntimeError, match="ends too early"):
        cut(page_modules, model[:-5], stages[0])
