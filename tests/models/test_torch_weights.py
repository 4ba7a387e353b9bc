"""Parity with MONAI's U-Net and the released MPU-Net++: outputs to 1e-5, gradients to 1e-4."""

import importlib.util
from importlib.metadata import files

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import UNet, create, from_torch
from segjax.models.torch_weights import _places, recognize
from segjax.train.losses import dice_loss
from tests.peers import monai, networks, torch

UNET_2D = {"channels": (16, 32, 64, 128, 256, 512), "strides": (2, 2, 2, 2, 2)}
UNET_3D = {"channels": (4, 8, 12, 16), "strides": (2, 2, 2), "spatial_dims": 3}


def _batch(spatial, channels=1):
    random = np.random.default_rng(0)
    images = random.standard_normal((2, channels, *spatial)).astype(np.float32)
    return images, random.integers(0, 2, (2, *spatial))


@pytest.fixture(autouse=True)
def _same_weights_in_any_order_of_tests(request):
    if request.node.get_closest_marker("peer"):
        torch.manual_seed(0)


def _perturb(network):
    """Give every weight and running statistic of a fresh network a random value."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator) * 0.05
            value.copy_((value + noise).abs() + 0.1 if "running_var" in name else value + noise)
    return network.eval()


def _ours(model, variables, images):
    return np.moveaxis(np.asarray(_apply(model, variables, images)), -1, 1)


def _apply(model, variables, images):
    return jax.jit(model.apply)(variables, jnp.asarray(np.moveaxis(images, 1, -1)))


def _check_gradients(reference, model, images, labels, *, state=None, parameters=None):
    """Compare the gradients of the soft Dice loss of both networks, name by name."""
    state = reference.state_dict() if state is None else state
    theirs = dict(reference.named_parameters()) if parameters is None else parameters
    reference.zero_grad()
    peer = monai.losses.DiceLoss(
        to_onehot_y=True, softmax=True, include_background=False, batch=True
    )
    peer(reference(torch.from_numpy(images)), torch.from_numpy(labels)[:, None]).backward()
    variables = from_torch(model, state)

    @jax.jit
    def gradient(params):
        def loss(params):
            logits = model.apply(
                variables | {"params": params}, jnp.asarray(np.moveaxis(images, 1, -1))
            )
            return dice_loss(
                logits, jnp.asarray(labels), logits=True, background=False, per="batch", smooth=1e-5
            )

        return jax.grad(loss)(params)

    flat, _ = jax.tree_util.tree_flatten_with_path(gradient(variables["params"]))
    ours = {tuple(key.key for key in path): np.asarray(leaf) for path, leaf in flat}
    for name, (place, transposed) in _places(model):
        if place[0] == "params":
            expected = theirs[name].grad.numpy()
            if place[-1] == "kernel":
                axes = (-2, -1) if transposed else (-1, -2)
                expected = np.moveaxis(expected, (0, 1), axes)
            np.testing.assert_allclose(
                ours[place[1:]].reshape(expected.shape), expected, atol=1e-4, err_msg=name
            )


@pytest.mark.peer("monai")
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("channels", [(4, 8), (4, 6, 8, 10)])
def test_the_plain_unet_in_pytorch_is_that_of_monai(rank, channels):
    plain = _perturb(networks.TorchUNet(rank, channels, 0.3, kernel_size=5, up_kernel_size=3))
    peer = monai.networks.nets.UNet(
        spatial_dims=rank,
        in_channels=1,
        out_channels=2,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        kernel_size=5,
        up_kernel_size=3,
        num_res_units=0,
        dropout=0.3,
    )
    peer.load_state_dict(plain.state_dict())
    images = torch.randn(2, 1, *(16,) * rank)
    for training in (True, False):
        torch.manual_seed(1)  # the same elements are dropped
        found = plain.train(training)(images)
        torch.manual_seed(1)
        assert torch.equal(found, peer.train(training)(images))


@pytest.mark.peer("torch")
@pytest.mark.parametrize(
    "kernel", [3, *(pytest.param(k, marks=pytest.mark.slow) for k in (5, 7, 9))]
)
def test_unet_2d_equals_monai(kernel):
    reference = networks.TorchUNet(
        2, UNET_2D["channels"], 0.3, kernel_size=kernel, up_kernel_size=kernel
    )
    _perturb(reference)
    images, _ = _batch((64, 96))
    with torch.no_grad():
        expected = reference(torch.from_numpy(images)).numpy()
    name = f"unet2d-k{kernel}"
    variables = from_torch(name, reference.state_dict())
    np.testing.assert_allclose(_ours(create(name), variables, images), expected, atol=1e-5)


@pytest.mark.peer("torch")
def test_unet_3d_equals_monai():
    reference = _perturb(
        networks.TorchUNet(3, UNET_3D["channels"], 0.3, in_channels=2, out_channels=3)
    )
    images, _ = _batch((16, 32, 24), channels=2)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images)).numpy()
    model = UNet(in_channels=2, out_channels=3, **UNET_3D)
    variables = from_torch(model, reference.state_dict())
    np.testing.assert_allclose(_ours(model, variables, images), expected, atol=1e-5)


@pytest.mark.peer("monai")
@pytest.mark.slow
def test_unet_3d_gradients_equal_monai():
    reference = _perturb(networks.TorchUNet(3, UNET_3D["channels"], 0.3))
    _check_gradients(reference, UNet(**UNET_3D), *_batch((16, 24, 16)))


@pytest.mark.peer("monai")
def test_unet_2d_gradients_equal_monai():
    channels, strides = (8, 16, 32), (2, 2)
    reference = _perturb(networks.TorchUNet(2, channels, 0.3))
    _check_gradients(reference, UNet(channels=channels, strides=strides), *_batch((32, 40)))


@pytest.mark.peer("torch")
@pytest.mark.parametrize(
    ("channels", "classes"),
    [(1, 2), *(pytest.param(*some, marks=pytest.mark.slow) for some in [(1, 1), (3, 4)])],
)
def test_mpunet_plus_plus_equals_the_table_in_pytorch(channels, classes):
    reference = _perturb(networks.TorchMPUNetPlusPlus(channels, classes))
    images, _ = _batch((16, 24, 32), channels)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images)).numpy()
    model = create("mpunet++", in_channels=channels, out_channels=classes)
    variables = from_torch("mpunet++", reference.released_state_dict())
    np.testing.assert_allclose(_ours(model, variables, images), expected, atol=1e-5)


@pytest.mark.peer("monai")
@pytest.mark.slow
def test_mpunet_plus_plus_gradients_equal_the_table_in_pytorch():
    reference = _perturb(networks.TorchMPUNetPlusPlus())
    _check_gradients(
        reference,
        create("mpunet++"),
        *_batch((16, 16, 24)),
        state=reference.released_state_dict(),
        parameters=dict(_released_parameters(reference)),
    )


def _released_parameters(reference):
    for name, node in reference.nodes.items():
        for layer, prefix in (("conv", "conv"), ("norm", "bn")):
            for second in range(2):
                number = f"{prefix}{name[1]}{2 * int(name[2]) + second:02d}"
                module = getattr(node, f"{layer}{second}")
                for leaf, value in module.named_parameters() if module else ():
                    yield f"{number}.{leaf}", value
    for index, head in enumerate(reference.heads):
        for leaf, value in head.named_parameters():
            yield f"conv_seg{index}.{leaf}", value


@pytest.mark.peer("torch")
@pytest.mark.slow
def test_batch_statistics_move_as_pytorch_s():
    reference = networks.TorchMPUNetPlusPlus(dropout=0.0)
    model = create("mpunet++", dropout=0.0)
    variables = from_torch(model, reference.released_state_dict())
    images, _ = _batch((16, 16, 16))
    reference.train()(torch.from_numpy(images))
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    images = jnp.asarray(np.moveaxis(images, 1, -1))
    _, updates = apply(variables, images, train=True, mutable="batch_stats")
    expected = from_torch(model, reference.released_state_dict())["batch_stats"]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5),
        dict(updates["batch_stats"]),
        expected,
    )


@pytest.fixture(scope="module")
def released_network():
    path = next(f for f in files("pydactim") or [] if f.name == "mpunet.py").locate()
    spec = importlib.util.spec_from_file_location("released_mpunet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MPUnetPP2CBND


@pytest.mark.peer("torch", "pydactim")
@pytest.mark.slow
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (2, 2)])
def test_mpunet_plus_plus_equals_the_authors_release(released_network, channels, classes):
    reference = _perturb(released_network(channels, classes))
    images, _ = _batch((16, 24, 32), channels)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images)).numpy()
    model = create("mpunet++", in_channels=channels, out_channels=classes)
    variables = from_torch(model, reference.state_dict())
    logits = _apply(model, variables, images)
    actual = np.moveaxis(np.asarray(jax.nn.sigmoid(logits)), -1, 1)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.peer("torch")
def test_a_data_parallel_prefix_is_dropped():
    state = networks.TorchMPUNetPlusPlus().released_state_dict()
    prefixed = {f"module.{name}": value for name, value in state.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch("mpunet++", prefixed),
        from_torch("mpunet++", state),
    )


@pytest.mark.peer("torch")
def test_a_prefix_is_dropped_with_all_that_lies_outside_of_it():
    state = networks.TorchUNet(2, (4, 8), 0.0).state_dict()
    wrapped = {f"net.model.{name}": value for name, value in state.items()}
    wrapped["loss.weight"] = torch.ones(2)
    model = UNet(channels=(4, 8), strides=(2,))
    jax.tree.map(
        np.testing.assert_array_equal, from_torch(model, wrapped), from_torch(model, state)
    )


@pytest.mark.peer("torch")
@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_the_networks_of_the_study_are_recognised(kernel):
    reference = networks.TorchUNet(
        2, UNET_2D["channels"], 0.3, kernel_size=kernel, up_kernel_size=kernel
    )
    name, model = recognize(reference.state_dict())
    assert name == f"unet2d-k{kernel}"
    assert (model.in_channels, model.out_channels, model.size_multiple) == (1, 2, 32)


@pytest.mark.peer("torch")
def test_u_nets_of_other_levels_are_recognised_as_such():
    reference = networks.TorchUNet(3, (4, 8, 12), 0.3, in_channels=2, out_channels=3)
    name, model = recognize(reference.state_dict())
    assert name == "monai-unet"
    expected = UNet(2, 3, (4, 8, 12), (2, 2), spatial_dims=3)
    assert model == expected


@pytest.mark.peer("torch")
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 4)])
def test_the_release_of_mpunet_plus_plus_is_recognised(channels, classes):
    name, model = recognize(networks.TorchMPUNetPlusPlus(channels, classes).released_state_dict())
    assert name == "mpunet++"
    assert (model.in_channels, model.out_channels) == (channels, classes)


@pytest.mark.peer("torch")
def test_other_networks_are_told_by_their_first_names():
    unet = networks.TorchUNet(2, (4, 8), 0.0).state_dict()
    normed = unet | {"model.0.adn.N.weight": torch.ones(4)}
    headless = {name: value for name, value in unet.items() if "submodule" not in name}
    for state, message in (
        ({"encoder.stages.0.weight": 1.0}, r"another network \(encoder\.stages\.0\.weight\)"),
        (normed, r"not in the network model\.0\.adn\.N\.weight"),
        (headless, r"without its bottom: model\.1\.submodule\.conv\.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            recognize(state)


@pytest.mark.peer("torch")
def test_missing_and_unknown_names_are_listed():
    state = networks.TorchMPUNetPlusPlus().released_state_dict()
    state["decoder.weight"] = state.pop("conv101.bias")
    with pytest.raises(ValueError, match=r"missing conv101\.bias; not in .* decoder\.weight"):
        from_torch("mpunet++", state)


def test_a_long_list_of_missing_names_is_cut():
    with pytest.raises(ValueError, match=r"and \d+ more; not in the network nothing"):
        from_torch(create("mpunet++"), {})


@pytest.mark.peer("torch")
def test_a_wrong_shape_is_named():
    state = networks.TorchMPUNetPlusPlus(in_channels=2).released_state_dict()
    with pytest.raises(ValueError, match=r"conv000\.weight has shape \(3, 3, 3, 2, 6\)"):
        from_torch(create("mpunet++"), state)


@pytest.mark.peer("torch")
def test_weights_of_another_network_are_refused_by_name():
    with pytest.raises(ValueError, match=r"no weights of unet2d-k3: model\.0\.conv\.weight"):
        from_torch("unet2d-k3", networks.TorchMPUNetPlusPlus().released_state_dict())
