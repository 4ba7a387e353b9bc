import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.train.config import OptimizerConfig
from segjax.train.optimizers import make_optimizer, make_schedule
from tests.peers import torch

CONSTANT = OptimizerConfig(0.01, weight_decay=0.1, schedule="constant", gradient_clip=None)
SHAPES = {"kernel": (3, 4), "bias": (4,), "slope": ()}


def drawn(rng):
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def moved(config, params, gradients):
    """Return the parameters after a step with each of the gradients."""
    optimizer = make_optimizer(config, 10)
    opt_state = optimizer.init(params)
    for gradient in gradients:
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params


def moved_by_torch(kind, params, gradients, **options):
    groups = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    peer = getattr(torch.optim, kind)(
        [
            {"params": [groups["kernel"]], "weight_decay": 0.1},
            {"params": [groups["bias"], groups["slope"]], "weight_decay": 0.0},
        ],
        lr=0.01,
        **options,
    )
    for gradient in gradients:
        for name, value in gradient.items():
            groups[name].grad = torch.tensor(value)
        peer.step()
    return {name: value.detach().numpy() for name, value in groups.items()}


@pytest.mark.peer("torch")
@pytest.mark.parametrize(
    ("name", "momentum", "kind", "options"),
    [
        ("adamw", 0.9, "AdamW", {}),
        ("adam", 0.8, "Adam", {"betas": (0.8, 0.999)}),
        ("radam", 0.9, "RAdam", {}),
        ("sgd", 0.9, "SGD", {"momentum": 0.9, "nesterov": True}),
        ("sgd", 0.99, "SGD", {"momentum": 0.99, "nesterov": True}),
    ],
)
def test_updates_are_those_of_torch_with_decay_of_kernels_alone(name, momentum, kind, options):
    rng = np.random.default_rng(0)
    params, gradients = drawn(rng), [drawn(rng) for _ in range(8)]
    config = OptimizerConfig(0.01, 0.1, "constant", None, name=name, momentum=momentum)
    found = moved(config, params, gradients)
    for leaf, expected in moved_by_torch(kind, params, gradients, **options).items():
        np.testing.assert_allclose(found[leaf], expected, atol=5e-6)


def test_lion_steps_by_the_sign_of_the_mean_gradient():
    params = {"kernel": jnp.full((1, 2), 2.0), "bias": jnp.full(2, 2.0)}
    gradients = [{"kernel": jnp.array([[3.0, -1.0]]), "bias": jnp.array([3.0, -1.0])}]
    gradients.append({"kernel": jnp.array([[-0.1, 0.1]]), "bias": jnp.array([-1.0, 0.1])})
    config = OptimizerConfig(0.1, 0.5, "constant", None, name="lion")
    found = moved(config, params, gradients)
    # means: 0.01 g1 = (0.03, -0.01); 0.9 m + 0.1 g2 = (0.017, 0.001) and (-0.073, 0.001)
    first = np.array([2 - 0.1 * (1 + 0.5 * 2), 2 - 0.1 * (-1 + 0.5 * 2)])
    np.testing.assert_allclose(found["kernel"][0], first - 0.1 * (1 + 0.5 * first), rtol=1e-6)
    np.testing.assert_allclose(found["bias"], [2 - 0.1 + 0.1, 2 + 0.1 - 0.1], rtol=1e-6)


def test_lamb_scales_the_step_of_adam_to_the_norm_of_the_kernel():
    params = {"kernel": jnp.array([[3.0, 4.0]])}
    config = OptimizerConfig(0.1, 0.5, "constant", None, name="lamb")
    found = moved(config, params, [{"kernel": jnp.array([[1.0, -1.0]])}])
    step = np.array([1 + 0.5 * 3, -1 + 0.5 * 4])  # Adam's first step is the sign
    expected = [3.0, 4.0] - 0.1 * step * 5 / np.linalg.norm(step)
    np.testing.assert_allclose(found["kernel"][0], expected, rtol=1e-4)


def test_gradients_are_clipped_to_the_global_norm():
    # Adam divides by the gradient's own size: only epsilon shows how large a gradient was.
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradients = {"a": jnp.array([3e-7]), "b": jnp.array([4e-7])}  # norm 5e-7, clipped to 1e-8
    config = OptimizerConfig(1.0, weight_decay=0.0, schedule="constant", gradient_clip=1e-8)
    optimizer = make_optimizer(config, 10)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    for name, size in (("a", 0.6e-8), ("b", 0.8e-8)):
        assert float(updates[name][0]) == pytest.approx(-size / (size + 1e-8), rel=1e-4)


def test_one_cycle_rises_for_three_tenths_and_falls_to_almost_nothing():
    schedule = make_schedule(OptimizerConfig(0.1), 100)
    assert float(schedule(0)) == pytest.approx(0.1 / 25)
    assert float(schedule(30)) == pytest.approx(0.1)
    assert float(schedule(65)) == pytest.approx(0.05, rel=1e-3)
    assert float(schedule(100)) < 1e-6


@pytest.mark.peer("torch")
def test_one_cycle_is_that_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    peer = torch.optim.SGD([parameter], lr=1.0)
    # torch reaches peak and end one step earlier: its last step is steps - 1
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        peer, max_lr=0.1, total_steps=101, pct_start=31 / 101
    )
    schedule = make_schedule(OptimizerConfig(0.1), 100)
    for step in range(100):
        assert float(schedule(step)) == pytest.approx(cycle.get_last_lr()[0], abs=1e-4)
        peer.step()
        cycle.step()


@pytest.mark.parametrize("kind", ["one-cycle", "cosine", "constant", "polynomial", "warmup-cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedules_of_very_short_trainings_are_finite(kind, steps):
    schedule = make_schedule(OptimizerConfig(0.1, schedule=kind), steps)
    rates = [float(schedule(step)) for step in range(steps + 1)]
    assert all(0 <= rate <= 0.1 + 1e-6 and math.isfinite(rate) for rate in rates)
    assert max(rates) == pytest.approx(0.1)


def test_cosine_halves_at_half_time_and_constant_stays():
    cosine = make_schedule(OptimizerConfig(0.1, schedule="cosine"), 10)
    np.testing.assert_allclose([cosine(0), cosine(5), cosine(10)], [0.1, 0.05, 0.0], atol=1e-7)
    constant = make_schedule(OptimizerConfig(0.1, schedule="constant"), 10)
    np.testing.assert_allclose([constant(0), constant(10)], 0.1, rtol=1e-6)


def test_polynomial_is_that_of_nnunet():
    schedule = make_schedule(OptimizerConfig(0.01, schedule="polynomial"), 1000)
    for step in (0, 1, 250, 999, 1000):  # nnU-Net's PolyLRScheduler
        assert float(schedule(step)) == pytest.approx(0.01 * (1 - step / 1000) ** 0.9, abs=1e-8)


def test_warmup_rises_in_a_line_before_the_cosine_falls():
    config = OptimizerConfig(0.5, schedule="warmup-cosine", warmup=0.2)
    schedule = make_schedule(config, 100)
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0.02, 0.26, 0.5, 0.25, 0.0], atol=1e-6)
