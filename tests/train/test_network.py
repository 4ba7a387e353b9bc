import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from segjax import models
from segjax.data.cases import find_cases
from segjax.data.phantom.dataset import write_dataset
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.registry import registry
from segjax.train._fit import RunFinishedError, fit
from segjax.train.config import InitConfig, OptimizerConfig, TrainConfig, read_config
from segjax.train.losses import Loss, Term
from segjax.train.network import Network, check_network, check_patch_size, handed


@pytest.mark.parametrize(
    ("model", "patch", "said"),
    [
        ("mpunet++", (50, 60, 36), "multiples of 8; 48 56 32 or 56 64 40 would do"),
        ("mpunet++", (4, 8, 8), r"multiples of 8; 8 8 8 would do"),
        ("mpunet++", (64, 64), "does not fit mpunet\\+\\+: give 3 numbers$"),
        ("unet2d-k3", (60, 64, 1), "multiples of 32; 32 64 1 or 64 64 1 would do"),
        ("unet2d-k3", (64, 64, 8), "give 2 numbers, or x y 1 for the slices of volumes"),
    ],
)
def test_patch_that_does_not_fit_says_which_would(model, patch, said):
    network = models.create(model)
    with pytest.raises(InputError, match=said):
        check_patch_size(TrainConfig(model, patch), network)


def test_patches_that_fit_are_taken():
    check_patch_size(TrainConfig("mpunet++", (64, 40, 8)), models.create("mpunet++"))
    check_patch_size(TrainConfig("unet2d-k3", (64, 32, 1)), models.create("unet2d-k3"))
    check_patch_size(TrainConfig("unet2d-k3", (64, 32)), models.create("unet2d-k3"))


class Voxelwise(nn.Module):
    """A network that knows of no neighbours, nor of segjax."""

    outputs: int = 2

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.outputs)(nn.tanh(nn.Dense(3)(images)))


@pytest.mark.parametrize(
    "changes", [{"ema": 0.9}, {"freeze": ("Dense_0",), "init": InitConfig("x")}]
)
def test_a_step_takes_the_memory_of_the_whole_state_for_the_next_one(changes):
    with registry("network").lend(Voxelwise, "flat"):
        network = Network(TrainConfig("flat", (8, 8), **changes), 10)
    shape = (2, 8, 8)
    state = jax.eval_shape(network.init)
    batch = jax.ShapeDtypeStruct((*shape, 1), jnp.float32), jax.ShapeDtypeStruct(shape, jnp.uint8)
    traced = network.train_step.trace(state, *batch, network.dropout_key)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("tf.aliasing_output") == len(jax.tree.leaves(state))


class Pixelwise(Voxelwise):
    pass


class Strange(nn.Module):
    out_channels: int = 2

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.out_channels)(images)


class Two(Voxelwise):
    @nn.compact
    def __call__(self, images):
        logits = nn.Dense(self.outputs)(images)
        return logits, logits


class Channelled(Voxelwise):
    in_channels: int = 4


def squared(probabilities, targets):
    return ((probabilities - targets) ** 2).sum() / targets.sum()


CONFIG = TrainConfig("unused", (8, 8), epochs=2)


@pytest.fixture(autouse=True)
def exports():
    """Let every network be exported, in no time."""
    with registry("exporter").lend(lambda network, images: "", "ONNX"):
        yield


def checked(**objects):
    with handed(CONFIG, **objects) as config:
        check_network(Network(config, 10))


def test_objects_are_marked_by_their_class_and_found_within_the_block():
    with handed(CONFIG, network=Voxelwise(), loss=squared, optimizer=optax.sgd(0.1)) as config:
        assert config.model.endswith(".Voxelwise")
        assert config.loss.to_json() == [{"name": config.loss.terms[0].name, "weight": 1.0}]
        assert TrainConfig.from_json(config.to_json()) == config
        state = Network(config, 10).init()
        assert state.params["Dense_0"]["kernel"].shape == (3, 2)
    with pytest.raises(InputError, match=r"network .*Voxelwise was .* again \(network=…\)"):
        Network(config, 10)


def test_misspelt_objects_are_not_left_out_silently():
    with pytest.raises(TypeError, match="unknown argument 'optimiser': did you mean 'optimizer'"):
        checked(optimiser=optax.sgd(0.1))


def test_a_handed_optimizer_moves_as_it_is():
    with handed(CONFIG, network=Voxelwise(), optimizer=optax.sgd(0.5)) as config:
        network = Network(config, 10)
        state = network.init()
        before = jax.tree.map(np.array, state.params)
        images, labels = jnp.ones((2, 8, 8, 1)), jnp.ones((2, 8, 8), jnp.int32)

        def loss(params):
            return Loss()(Voxelwise().apply({"params": params}, images), labels)

        gradient = jax.grad(loss)(before)
        after, _ = network.train_step(state, images, labels, network.dropout_key)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, before, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({"network": Voxelwise(3)}, r"Voxelwise: makes \(2, 8, 8, 3\) of .* \(2, 8, 8, 2\) are"),
        ({"network": nn.Conv(2, "ab")}, "Conv: takes no images of"),
        ({"network": Two()}, r"Two: makes \(\(2, 8, 8, 2\), \(2, 8, 8, 2\)\) of .* are needed"),
        ({"network": "unet3d"}, "must be a module .* not 'unet3d'; a name goes into the config"),
        ({"loss": "dice"}, "loss must be a function .* not 'dice'; a name"),
        ({"optimizer": optax.adam}, r"must be one of optax, such as optax.adam\(1e-3\), not <func"),
        ({"network": Channelled()}, "network: its in_channels is 4, but 1 is needed"),
        (
            {"network": Voxelwise(), "loss": lambda p, t: p - t},
            r"loss .* is \(2, 8, 8, 2\) numbers: it must be one",
        ),
    ],
)
def test_objects_that_do_not_fit_are_refused_before_training(objects, said):
    with pytest.raises(InputError, match=said):
        checked(**objects)


def test_what_keeps_a_network_from_export_is_told_before_training():
    def obstacle(network, images):
        return "too odd" if network.module == Strange() and images.shape == (2, 8, 8, 1) else ""

    with registry("exporter").lend(obstacle, "paper"):
        with pytest.warns(UserWarning, match=r"Strange: .* but not be exported: too odd"):
            checked(network=Strange())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checked(network=Voxelwise())


def test_dropout_of_a_network_that_has_none_is_refused():
    config = TrainConfig("flat", (8, 8), dropout=0.1)
    with (
        registry("network").lend(Voxelwise, "flat"),
        pytest.raises(InputError, match=r"flat takes outputs: .*dropout"),
    ):
        Network(config, 10)


def test_a_run_of_objects_goes_on_with_the_same_alone(tmp_path):
    write_dataset(tmp_path / "slices", count=3, shape=(16, 16), kind="meningioma")
    dataset = find_cases(tmp_path / "slices")
    split = Split(tuple(case.name for case in dataset.cases[:2]), (dataset.cases[2].name,))
    place = dataset, split, tmp_path / "run"
    objects = {"network": Voxelwise(), "loss": squared, "optimizer": optax.sgd(0.1)}
    result = fit(CONFIG, *place, **objects)
    config = read_config(result.run)
    for kind in objects:
        others = {name: thing for name, thing in objects.items() if name != kind}
        with pytest.raises(InputError, match=f"{kind} .* hand it over again"):
            fit(config, *place, **others)
    with pytest.raises(InputError, match=r"Pixelwise, but .*Voxelwise was trained"):
        fit(config, *place, **objects | {"network": Pixelwise()})
    with pytest.raises(RunFinishedError):
        fit(CONFIG, *place, **objects)


def test_registered_optimizer_schedule_and_loss_train_like_our_own():
    def plain(learning_rate, *, momentum):
        return optax.sgd(learning_rate, momentum, nesterov=True)

    def still(peak, steps):
        return optax.constant_schedule(peak)

    def dice(predictions, labels, *, logits):
        return Term("dice")(predictions, labels, logits=logits)

    ends = []
    with (
        registry("network").lend(Voxelwise, "flat"),
        registry("optimizer").lend(plain, "plain"),
        registry("schedule").lend(still, "still"),
        registry("loss").lend(dice, "my-dice"),
    ):
        for name, schedule, loss in (("sgd", "constant", "dice"), ("plain", "still", "my-dice")):
            decay = {"weight_decay": 0.0} if name == "sgd" else {}
            optimizer = OptimizerConfig(0.1, schedule=schedule, name=name, **decay)
            config = TrainConfig("flat", (8, 8), optimizer=optimizer, loss=Loss((Term(loss),)))
            network = Network(config, 10)
            images, labels = jnp.ones((2, 8, 8, 1)), jnp.ones((2, 8, 8), jnp.int32)
            state, _ = network.train_step(network.init(), images, labels, network.dropout_key)
            ends.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), *ends)
