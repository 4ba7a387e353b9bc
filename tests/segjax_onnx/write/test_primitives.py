import collections
import inspect

import jax.numpy as jnp
import jax2onnx
import numpy as np
import onnx
import onnxruntime
import pytest

from segjax.models import ops
from segjax_onnx.write import primitives
from segjax_onnx.write.primitives import onnx_forms as forms
from tests.peers import Peer, torch

functional = Peer("torch.nn.functional", "torch")
SPACES = {2: ((8, 6), (7, 13)), 3: ((8, 6, 4), (5, 7, 9))}


def convert(function, channels, rank, opset=18):
    primitives.register()
    space = ("x", "y", "z")[:rank]
    proto = jax2onnx.to_onnx(function, [("batch", channels, *space)], opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    return output


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_same(function, expected, channels, rank, opset=18):
    """One exported function, run at two batch sizes and two spatial sizes, equals PyTorch."""
    proto = convert(function, channels, rank, opset)
    assert "Transpose" not in counts(proto)
    for batch, space in zip((1, 3), SPACES[rank], strict=True):
        images = draw(batch, channels, *space, seed=batch)
        wanted = expected(torch.from_numpy(images)).numpy()
        found = run(proto, images)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def of_rank(name, rank):
    return getattr(functional, f"{name}{rank}d")


def counts(proto):
    return collections.Counter(node.op_type for node in proto.graph.node)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_conv_is_that_of_pytorch_with_same_padding(rank, stride, size):
    kernel, bias = draw(*[size] * rank, 2, 5), draw(5)
    weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
    padding = ((size - 1) // 2, size // 2) * rank
    assert_same(
        lambda x: forms.conv((x,), kernel, bias, stride),
        lambda x: of_rank("conv", rank)(
            functional.pad(x, padding), weight, torch.from_numpy(bias), stride=stride
        ),
        channels=2,
        rank=rank,
    )


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv_transpose_is_that_of_pytorch(rank, stride, size):
    kernel, bias = draw(*[size] * rank, 2, 5), draw(5)
    weight = torch.from_numpy(np.moveaxis(kernel, (-2, -1), (0, 1)).copy())
    assert_same(
        lambda x: forms.conv_transpose((x,), kernel, bias, stride),
        lambda x: of_rank("conv_transpose", rank)(
            x, weight, torch.from_numpy(bias), stride, (size - 1) // 2, stride - 1
        ),
        channels=2,
        rank=rank,
    )


@pytest.mark.peer("torch")
def test_a_narrow_convolution_of_volumes_in_planes_is_that_of_pytorch():
    kernel, bias = draw(3, 3, 3, 12, 5) / 10, draw(5)
    weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
    bias_ = torch.from_numpy(bias)

    def expected(x):
        return of_rank("conv", 3)(x, weight, bias_, padding=1)

    def narrow(x):
        return forms.conv((x,), kernel, bias, 1)

    assert counts(convert(narrow, 12, 3)) == {"Conv": 2}
    assert_same(narrow, expected, channels=12, rank=3)


@pytest.mark.peer("torch")
def test_several_features_are_concatenated_on_their_channels_and_a_bias_may_be_missing():
    kernel = draw(3, 3, 4, 5)
    weight = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
    assert_same(
        lambda x: forms.conv((x, forms.leaky_relu(x, 0.5)), kernel, None, 1),
        lambda x: functional.conv2d(
            torch.cat([x, functional.leaky_relu(x, 0.5)], 1), weight, padding=1
        ),
        channels=2,
        rank=2,
    )


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
def test_instance_norm_prelu_is_that_of_pytorch(rank):
    slope = np.float32(0.3)
    assert_same(
        lambda x: forms.instance_norm_prelu(x, slope, None),
        lambda x: functional.prelu(functional.instance_norm(x, eps=1e-5), torch.tensor([0.3])),
        channels=3,
        rank=rank,
    )


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
def test_max_pool_is_that_of_pytorch(rank):
    assert_same(forms.max_pool, lambda x: of_rank("max_pool", rank)(x, 2), channels=3, rank=rank)


@pytest.mark.peer("torch")
@pytest.mark.parametrize("rank", [2, 3])
def test_upsample_is_nearest_interpolation(rank):
    assert_same(
        forms.upsample, lambda x: functional.interpolate(x, scale_factor=2), channels=3, rank=rank
    )


@pytest.mark.peer("torch")
@pytest.mark.parametrize("opset", [17, 18, 21])
@pytest.mark.parametrize("rank", [2, 3])
def test_softmax_is_that_of_pytorch_over_the_channels(rank, opset):
    assert_same(
        primitives.softmax, lambda x: functional.softmax(x, 1), channels=3, rank=rank, opset=opset
    )


@pytest.mark.peer("torch")
def test_sigmoid_is_that_of_pytorch():
    assert_same(primitives.sigmoid, torch.sigmoid, channels=1, rank=2)


def test_softmax_of_huge_logits_is_finite():
    logits = np.array([1e4, -1e4, 3e38], np.float32).reshape(1, 3, 1, 1)
    probabilities = run(convert(primitives.softmax, 3, 2), logits)
    np.testing.assert_array_equal(probabilities.ravel(), [0, 0, 1])


def test_every_operation_is_one_node_but_for_those_that_onnxruntime_is_slow_at():
    kernel = draw(3, 3, 3, 2, 2)

    def network(x):
        y = forms.leaky_relu(forms.conv((x,), kernel, None, 2), 0.1)
        y = forms.conv_transpose((y,), kernel, None, 2) + x
        return forms.instance_norm_prelu(forms.max_pool(y), 0.2, None)

    primitives.register()
    proto = jax2onnx.to_onnx(network, [("batch", 2, "2*x", "2*y", "2*z")])
    assert counts(proto) == {
        "Conv": 1, "LeakyRelu": 2, "ConvTranspose": 1, "Add": 1, "MaxPool": 1,
        "InstanceNormalization": 1,
    }  # fmt: skip
    assert counts(convert(forms.upsample, 1, 2)) == {"Resize": 1}
    assert counts(convert(forms.upsample, 1, 3)) == {
        "Reshape": 2, "Squeeze": 1, "Resize": 1, "Unsqueeze": 1, "Concat": 1,
    }  # fmt: skip


def test_the_forms_have_every_operation_of_the_networks():
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert set(vars(forms)) == functions - {"add", "lax_forms", "use"}


@pytest.mark.parametrize("name", ["batch_norm_leaky_relu", "dropout_mask", "channel_dropout"])
def test_operations_of_training_are_refused(name):
    with pytest.raises(NotImplementedError, match="evaluation mode"):
        getattr(forms, name)(jnp.zeros((1, 2, 4, 4)), 0.5, None)


def test_a_dropout_mask_is_refused():
    features = jnp.zeros((1, 2, 4, 4))
    with pytest.raises(NotImplementedError, match="evaluation mode"):
        forms.instance_norm_prelu(features, 0.5, (features, 2.0))


def test_images_pass_unchanged_and_channels_are_the_second_axis():
    images = jnp.zeros((2, 3, 8, 8))
    assert forms.channels(images) == 3
    assert forms.to_images(forms.from_images(images)) is images
