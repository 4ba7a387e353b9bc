import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.models import UNet, UNetPlusPlus
from segjax.train.config import OptimizerConfig
from segjax.train.losses import Loss, Term
from segjax.train.optimizers import make_optimizer
from segjax.train.step import TrainState, init_state, make_predict, make_train_step

spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("train_tiny.py"))
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

KEY = jax.random.key(3)
CONSTANT = OptimizerConfig(0.01, weight_decay=0.1, schedule="constant", gradient_clip=None)


def batch(shape=(2, 8, 8, 8), seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, shape).astype(np.int32)
    images = (labels + rng.normal(0, 0.3, shape)).astype(np.float32)[..., None]
    return images, labels


@functools.cache
def compiled(model, patch):
    optimizer = make_optimizer(CONSTANT, 100)
    state = init_state(model, optimizer, jax.random.key(0), patch)
    return state, make_train_step(model, Loss(), optimizer)


def training(model, patch=(8, 8, 8)):
    """Return a first state, which may be donated, and the step."""
    state, train_step = compiled(model, patch)
    return jax.tree.map(jnp.copy, state), train_step


def copy(tree):
    return jax.tree.map(np.array, tree)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, copy(a), copy(b))


def test_first_state_is_the_one_of_the_model():
    model = tiny.Tiny()
    state, _ = training(model)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 8, 1)))
    assert_same(state.variables, variables)
    assert int(state.step) == 0


def test_loss_falls_and_running_statistics_move():
    state, train_step = training(tiny.Tiny())
    before = copy(state.batch_stats)
    images, labels = batch()
    losses = []
    for _ in range(60):
        state, metrics = train_step(state, images, labels, KEY)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 60
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, copy(state.batch_stats))
    assert all(jax.tree.leaves(moved))


def test_step_is_a_pure_function_of_state_batch_and_key():
    images, labels = batch()
    ends = []
    for _ in range(2):
        state, train_step = training(tiny.Tiny())
        for _ in range(3):
            state, _ = train_step(state, images, labels, KEY)
        ends.append(copy(state))
    assert_same(*ends)


def test_dropout_depends_on_the_step_and_the_key():
    images, labels = batch()
    state, train_step = training(tiny.Tiny())

    def loss(step, key):
        fresh = jax.tree.map(jnp.copy, state._replace(step=jnp.array(step, jnp.int32)))
        return float(train_step(fresh, images, labels, key)[1]["loss"])

    assert loss(0, KEY) == loss(0, KEY)
    assert loss(0, KEY) != loss(1, KEY)
    assert loss(0, KEY) != loss(0, jax.random.key(4))


def test_state_is_donated():
    state, train_step = training(tiny.Tiny())
    train_step(state, *batch(), KEY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_step_is_compiled_once():
    state, train_step = training(tiny.Tiny())
    for seed in range(3):
        state, _ = train_step(state, *batch(seed=seed), KEY)
    assert train_step._cache_size() == 1


def test_networks_without_running_statistics_train():
    model = tiny.TinyNoNorm()
    state, train_step = training(model)
    assert state.variables.keys() == {"params"}
    images, labels = batch()
    state, first = train_step(state, images, labels, KEY)
    for _ in range(20):
        state, last = train_step(state, images, labels, KEY)
    assert float(last["loss"]) < float(first["loss"])


def test_slices_of_volumes_train_a_2d_network_as_images_do():
    model = tiny.Tiny(spatial_dims=2)
    images, labels = batch((2, 8, 8))
    state, train_step = training(model, patch=(8, 8, 1))
    flat, _ = train_step(jax.tree.map(jnp.copy, state), images, labels, KEY)
    slices, _ = train_step(state, images[:, :, :, None], labels[..., None], KEY)
    assert_same(flat, slices)
    predict = make_predict(model, "softmax")
    expected = predict(flat.variables, images)
    assert_same(predict(flat.variables, images[:, :, :, None]), expected[:, :, :, None])


def test_probabilities_are_the_softmax_or_sigmoid_of_the_logits():
    images, _ = batch()
    for activation, outputs in (("softmax", 3), ("sigmoid", 1)):
        model = tiny.Tiny(out_channels=outputs)
        state, _ = training(model)
        logits = np.asarray(model.apply(state.variables, images), np.float64)
        if activation == "softmax":
            expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        else:
            expected = 1 / (1 + np.exp(-logits))
        found = make_predict(model, activation)(state.variables, images)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_output_trains_as_a_sigmoid():
    state, train_step = training(tiny.Tiny(out_channels=1))
    images, labels = batch()
    for _ in range(60):
        state, metrics = train_step(state, images, labels, KEY)
    assert float(metrics["loss"]) < 0.5


def test_gradient_of_the_step_is_that_of_the_loss():
    model = tiny.TinyNoNorm()
    loss = Loss((Term("cross-entropy"),))
    sgd = optax.sgd(1.0)
    state = init_state(model, sgd, jax.random.key(0), (8, 8, 8))
    images, labels = batch()
    before = copy(state.params)
    after, _ = make_train_step(model, loss, sgd)(state, images, labels, KEY)
    kernel = before["Conv_0"]["kernel"]
    place, step = (1, 1, 1, 0, 1), 1e-2

    def value(change):
        moved = kernel.copy()
        moved[place] += change
        params = {**before, "Conv_0": {**before["Conv_0"], "kernel": moved}}
        return float(loss(model.apply({"params": params}, images), labels))

    slope = (value(step) - value(-step)) / (2 * step)
    moved = np.asarray(after.params["Conv_0"]["kernel"])[place] - kernel[place]
    assert moved == pytest.approx(-slope, rel=1e-3)


def test_averages_move_as_defined_and_take_the_running_statistics_along():
    model = tiny.Tiny()
    optimizer = make_optimizer(CONSTANT, 100)
    state = init_state(model, optimizer, jax.random.key(0), (8, 8, 8), ema=0.15)
    train_step = make_train_step(model, Loss(), optimizer, ema=0.15)
    expected = copy(state.training_variables)
    assert_same(state.variables, expected)
    for kept in (1 / 10, 0.15, 0.15):  # (1 + t) / (10 + t) is 1/10, 2/11, 3/12
        state, _ = train_step(state, *batch(), KEY)
        now = copy(state.training_variables)
        expected = jax.tree.map(lambda a, v, d=kept: d * a + (1 - d) * v, expected, now)
    assert state.variables.keys() == {"params", "batch_stats"}
    for found, wanted in zip(
        jax.tree.leaves(state.variables), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:compute_dtype")
@pytest.mark.parametrize(
    "model",
    [
        UNetPlusPlus(features=(2, 3), dropout=0.0, spatial_dims=2),
        UNet(channels=(4, 8), strides=(2,)),
    ],
    ids=["unet++", "unet"],
)
def test_half_precision_gives_nearly_the_gradients_of_float32(model):
    images, labels = batch((2, 32, 32))
    sgd = optax.sgd(1.0)
    ends = {}
    for dtype in ("float32", "bfloat16"):
        state = init_state(model, sgd, jax.random.key(0), (32, 32))
        before = copy(state.params)
        train_step = make_train_step(model, Loss(), sgd, compute_dtype=dtype)
        state, metrics = train_step(state, images, labels, KEY)
        assert {leaf.dtype for leaf in jax.tree.leaves(state[:3])} == {jnp.dtype("float32")}
        assert metrics["loss"].dtype == jnp.float32
        moved = jax.tree.map(lambda a, b: (a - b).ravel(), before, copy(state.params))
        ends[dtype] = float(metrics["loss"]), jax.tree.leaves(moved)
    (loss, gradients), (half_loss, half_gradients) = ends.values()
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert half_loss != loss
    small = 0.003 * max(map(np.linalg.norm, gradients))
    for exact, half in zip(gradients, half_gradients, strict=True):
        assert np.linalg.norm(half - exact) < 0.1 * np.linalg.norm(exact) + small


class TinyHeads(nn.Module):
    """A network whose output is the sum of three heads."""

    in_channels: int = 1
    out_channels: int = 2
    spatial_dims: int = 2
    size_multiple: int = 1
    heads: int = 3

    @nn.compact
    def __call__(self, images, *, train=False):
        parts = [nn.Dense(2, name=f"head{i}")(images) for i in range(self.heads)]
        for part in parts:
            self.sow("intermediates", "heads", part)
        return sum(parts)


def test_deep_supervision_weighs_the_losses_of_the_output_and_its_heads():
    model, sgd = TinyHeads(), optax.sgd(1.0)
    images, labels = batch((2, 8, 8))
    state = init_state(model, sgd, jax.random.key(0), (8, 8))
    heads = copy(state.params)
    train_step = make_train_step(model, Loss(), sgd, deep_supervision=True)
    after, metrics = train_step(state, images, labels, KEY)
    parts = [images @ head["kernel"] + head["bias"] for head in heads.values()]
    losses = [float(Loss()(logits, labels)) for logits in (sum(parts), *parts)]
    expected = sum(loss / 2**i for i, loss in enumerate(losses)) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert after.params.keys() == heads.keys()


def test_what_lies_under_ignored_voxels_moves_nothing_not_even_the_heads():
    images, labels = batch((2, 8, 8))
    labels[:, :3] = IGNORED
    other = images.copy()
    other[:, :3] = 100
    train_step = make_train_step(TinyHeads(), Loss(), optax.sgd(1.0), deep_supervision=True)
    (first, one), (second, two) = (
        train_step(init_state(TinyHeads(), optax.sgd(1.0), KEY, (8, 8)), seen, labels, KEY)
        for seen in (images, other)
    )
    assert_same(first.params, second.params)
    assert float(one["loss"]) == float(two["loss"]) > 0


@pytest.mark.parametrize("model", [UNet(), UNetPlusPlus(features=(2, 3))])
def test_deep_supervision_of_a_network_without_heads_is_refused(model):
    with pytest.raises(InputError, match=f"{type(model).__name__} has no heads to supervise; le"):
        make_train_step(model, Loss(), optax.sgd(1.0), deep_supervision=True)


def test_half_precision_is_said_to_be_slower_on_a_cpu():
    model = tiny.Tiny()
    with pytest.warns(UserWarning, match="compute_dtype bfloat16 is slower on a CPU"):
        make_train_step(model, Loss(), optax.sgd(1.0), compute_dtype="bfloat16")


def test_state_without_averages_holds_nothing_for_them():
    state, train_step = training(tiny.Tiny())
    assert TrainState._fields == ("params", "batch_stats", "opt_state", "step", "average")
    assert jax.tree.leaves(state.average) == []
    after, _ = train_step(state, *batch(), KEY)
    assert after.average is None
    assert_same(after.variables, after.training_variables)
