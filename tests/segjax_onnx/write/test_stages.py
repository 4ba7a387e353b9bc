import numpy as np
import onnx
import onnxruntime
import pytest

from segjax.models import UNetPlusPlus
from segjax.models.reach import halo_of as halo_of_network
from segjax_onnx.predict.subgraph import subgraph
from segjax_onnx.write.convert import convert
from segjax_onnx.write.stages import halo_of, stages_of
from tests.segjax_onnx.write.test_convert import build, network


def graph(features, rank):
    model, variables = build("mpunet++", features=features, spatial_dims=rank)
    return convert(model, variables, "softmax", 18)


@pytest.mark.parametrize(("features", "rank"), [((2, 3), 2), ((2, 3), 3), ((2, 2, 2), 2)])
def test_halo_of_the_graph_is_that_of_the_network(features, rank):
    wanted = halo_of_network(UNetPlusPlus(features=features, spatial_dims=rank))
    assert halo_of(graph(features, rank)) == (wanted,) * rank


def test_a_graph_with_instance_norms_is_not_local():
    model, variables = network("unet3d")
    proto = convert(model, variables, "softmax", 18)
    assert halo_of(proto) is None
    assert stages_of(proto) == ()


@pytest.mark.parametrize(("features", "rank"), [((2, 3), 3), ((2, 3, 3), 2)])
def test_stages_one_after_another_are_the_graph(features, rank):
    proto = graph(features, rank)
    model, size = proto.SerializeToString(), 2 ** len(features)
    image = np.random.default_rng(0).standard_normal((1, 1, *(3 * size,) * rank)).astype("f4")
    (expected,) = onnxruntime.InferenceSession(model).run(None, {"image": image})
    arrays = {"image": image}
    for stage in stages_of(proto):
        session = onnxruntime.InferenceSession(subgraph(model, stage.inputs, stage.outputs))
        given = {name: arrays[name] for name in stage.inputs}
        found = session.run(list(stage.outputs), given)
        for (name, scale), array in zip(stage.outputs.items(), found, strict=True):
            assert array.shape[2] * scale == 3 * size
            arrays[name] = array
    np.testing.assert_array_equal(arrays["probabilities"], expected)


def test_fine_stages_see_a_few_voxels_and_the_coarse_one_the_rest():
    down, half_down, coarse, half_up, up = stages_of(graph((2, 3, 3, 4), 3))
    # two convolutions of 3 before each pool, of voxels twice as large before the second
    assert (down.halo, half_down.halo) == ((2, 2, 2), (4, 4, 4))
    assert max(up.halo) <= 8
    assert max(half_up.halo) <= 16
    assert max(coarse.halo) > max(half_up.halo)
    assert [one.multiple for one in (down, half_down, coarse, half_up, up)] == [2, 4, 8, 4, 2]


def test_a_network_of_two_levels_is_cut_once():
    assert [list(stage.inputs.values()) for stage in stages_of(graph((2, 3), 3))] == [
        [1], [2], [1, 2],
    ]  # fmt: skip


def test_bytes_are_those_of_the_arrays_that_live_at_once():
    ops = [
        onnx.helper.make_node("Conv", ["image", "w"], ["a"], kernel_shape=[1, 1]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Concat", ["a", "b"], ["probabilities"], axis=1),
    ]
    value = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.ones((3, 1, 1, 1), "f4"), "w")
    made = onnx.helper.make_graph(
        ops,
        "g",
        [value("image", 1, ["n", 1, "x", "y"])],
        [value("probabilities", 1, ["n", 6, "x", "y"])],
        [weight],
    )
    from segjax_onnx.write.stages import _bytes_per_voxel

    proto = onnx.helper.make_model(made)
    assert _bytes_per_voxel(proto, ["image"], ["probabilities"]) == 4 * (3 + 3 + 6)
