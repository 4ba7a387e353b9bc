"""Optimizers and learning-rate schedules by name, as optax makes them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from segjax.train.config import OptimizerConfig

__all__ = ["make_optimizer", "make_schedule"]

_FIRST_RATE = 1 / 25  # of the peak, where a schedule rises: that of the one-cycle policy


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Make an optimizer with its schedule and gradient clipping.

    Gradients are clipped first. Weights decay in kernels alone, that is in parameters of two or
    more axes; biases, norm parameters and PReLU slopes have fewer. The decay of ``"adamw"``,
    ``"lamb"`` and ``"lion"`` is decoupled: apart from the gradient, times the learning rate. That
    of ``"adam"``, ``"radam"`` and ``"sgd"`` is added to the gradient, as PyTorch does.

    Args:
        config: Kind and step sizes.
        steps: Length of the whole training, at least 1.

    Example:
        >>> optimizer = make_optimizer(OptimizerConfig(schedule="constant"), steps=10)
        >>> opt_state = optimizer.init({"kernel": jnp.ones((3, 3))})

    Source:
        I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019 (AdamW);
        L. Liu et al., ICLR 2020 (RAdam); Y. You et al., ICLR 2020 (LAMB); X. Chen et al.,
        NeurIPS 2023 (Lion); I. Sutskever et al., ICML 2013 (Nesterov's momentum).
    """
    optimizer = _OPTIMIZERS[config.name](config, make_schedule(config, steps))
    if config.gradient_clip is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), optimizer)


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Make the learning rate as a function of the step.

    With t from 0 to 1 over the training, and the peak as the unit: ``"constant"`` is 1;
    ``"cosine"`` is (1 + cos πt) / 2; ``"polynomial"`` is (1 - t)^power; ``"warmup-cosine"`` rises
    in a line from 1/25 and then falls as a cosine; ``"one-cycle"`` rises as a cosine from 1/25
    over the first 30 % and falls to 1/250,000.

    Args:
        config: Peak and kind of the schedule.
        steps: Length of the whole training, at least 1.

    Example:
        >>> schedule = make_schedule(OptimizerConfig(learning_rate=0.5, schedule="cosine"), 10)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10)]
        [0.5, 0.25, 0.0]

    Source:
        L. N. Smith, N. Topin, Super-convergence, 2018 (one cycle); F. Isensee et al., nnU-Net,
        Nat. Methods 18 (2021) 203-211 (polynomial, power 0.9).
    """
    return _SCHEDULES[config.schedule](config, steps)


def _adamw(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(rate, config.momentum, weight_decay=config.weight_decay, mask=_decays)


def _lamb(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.lamb(rate, config.momentum, weight_decay=config.weight_decay, mask=_decays)


def _lion(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.lion(rate, config.momentum, weight_decay=config.weight_decay, mask=_decays)


def _adam(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return _with_penalty(config, optax.adam(rate, config.momentum))


def _radam(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return _with_penalty(config, optax.radam(rate, config.momentum))


def _sgd(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return _with_penalty(config, optax.sgd(rate, config.momentum, nesterov=True))


def _with_penalty(
    config: OptimizerConfig, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Add the gradient of weight_decay / 2 · |kernels|² before an optimizer."""
    return optax.chain(optax.add_decayed_weights(config.weight_decay, _decays), optimizer)


_OPTIMIZERS: dict[
    str, Callable[[OptimizerConfig, optax.Schedule], optax.GradientTransformation]
] = {
    "adamw": _adamw,
    "adam": _adam,
    "radam": _radam,
    "lamb": _lamb,
    "lion": _lion,
    "sgd": _sgd,
}


def _one_cycle(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.cosine_onecycle_schedule(steps, config.learning_rate)


def _cosine(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, steps)


def _constant(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.constant_schedule(config.learning_rate)


def _polynomial(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.polynomial_schedule(config.learning_rate, 0.0, config.power, steps)


def _warmup_cosine(config: OptimizerConfig, steps: int) -> optax.Schedule:
    peak, rising = config.learning_rate, min(round(config.warmup * steps), steps - 1)
    if rising == 0:
        return _cosine(config, steps)
    return optax.warmup_cosine_decay_schedule(_FIRST_RATE * peak, peak, rising, steps)


_SCHEDULES: dict[str, Callable[[OptimizerConfig, int], optax.Schedule]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "constant": _constant,
    "polynomial": _polynomial,
    "warmup-cosine": _warmup_cosine,
}


def _decays(params: PyTree) -> PyTree:
    return jax.tree.map(lambda parameter: jnp.ndim(parameter) > 1, params)
