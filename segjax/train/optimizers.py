"""Optimizers and learning-rate schedules by name, as optax makes them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from segjax.registry import accepted, register, registry
from segjax.train.config import OptimizerConfig

__all__ = ["make_optimizer", "make_schedule"]

_FIRST_RATE = 1 / 25  # of the peak, where a schedule rises: that of the one-cycle policy


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Make an optimizer with its schedule and gradient clipping.

    Gradients are clipped first. Weights decay in kernels alone, that is in parameters of two or
    more axes; biases, norm parameters and PReLU slopes have fewer. The decay of ``"adamw"``,
    ``"lamb"`` and ``"lion"`` is decoupled: apart from the gradient, times the learning rate. That
    of ``"adam"``, ``"radam"`` and ``"sgd"`` is added to the gradient, as PyTorch does.

    Another one is registered as a function of the schedule, which takes by name what it uses of
    ``momentum`` and ``weight_decay``.

    Args:
        config: Kind and step sizes.
        steps: Length of the whole training, at least 1.

    Raises:
        InputError: The optimizer or the schedule is unknown.

    Example:
        >>> @register("optimizer", "nadam-example")
        ... def nadam(learning_rate, *, momentum):
        ...     return optax.nadam(learning_rate, momentum)
        >>> config = OptimizerConfig(name="nadam-example", schedule="constant")
        >>> opt_state = make_optimizer(config, steps=10).init({"kernel": jnp.ones((3, 3))})

    Source:
        I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019 (AdamW);
        L. Liu et al., ICLR 2020 (RAdam); Y. You et al., ICLR 2020 (LAMB); X. Chen et al.,
        NeurIPS 2023 (Lion); I. Sutskever et al., ICML 2013 (Nesterov's momentum).
    """
    make = registry("optimizer").get(config.name)
    if config.is_handed:
        return make
    options = {"momentum": config.momentum, "weight_decay": config.weight_decay}
    optimizer = make(make_schedule(config, steps), **accepted(make, **options))
    if config.gradient_clip is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), optimizer)


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Make the learning rate as a function of the step.

    With t from 0 to 1 over the training, and the peak as the unit: ``"constant"`` is 1;
    ``"cosine"`` is (1 + cos πt) / 2; ``"polynomial"`` is (1 - t)^power; ``"warmup-cosine"`` rises
    in a line from 1/25 and then falls as a cosine; ``"one-cycle"`` rises as a cosine from 1/25
    over the first 30 % and falls to 1/250,000.

    Another one is registered as a function of the peak and the number of steps, which takes by
    name what it uses of ``warmup`` and ``power``.

    Args:
        config: Peak and kind of the schedule.
        steps: Length of the whole training, at least 1.

    Raises:
        InputError: The schedule is unknown.

    Example:
        >>> schedule = make_schedule(OptimizerConfig(learning_rate=0.5, schedule="cosine"), 10)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10)]
        [0.5, 0.25, 0.0]

    Source:
        L. N. Smith, N. Topin, Super-convergence, 2018 (one cycle); F. Isensee et al., nnU-Net,
        Nat. Methods 18 (2021) 203-211 (polynomial, power 0.9).
    """
    make = registry("schedule").get(config.schedule)
    options = {"warmup": config.warmup, "power": config.power}
    return make(config.learning_rate, steps, **accepted(make, **options))


_Optimizer = Callable[..., optax.GradientTransformation]


def _decoupled(
    make: _Optimizer, rate: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    return make(rate, momentum, weight_decay=weight_decay, mask=_decays)


def _penalised(
    make: _Optimizer, rate: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Add the gradient of weight_decay / 2 · |kernels|² before an optimizer."""
    return optax.chain(optax.add_decayed_weights(weight_decay, _decays), make(rate, momentum))


_SGD = functools.partial(optax.sgd, nesterov=True)
register("optimizer", "adamw", functools.partial(_decoupled, optax.adamw))
register("optimizer", "adam", functools.partial(_penalised, optax.adam))
register("optimizer", "radam", functools.partial(_penalised, optax.radam))
register("optimizer", "lamb", functools.partial(_decoupled, optax.lamb))
register("optimizer", "lion", functools.partial(_decoupled, optax.lion))
register("optimizer", "sgd", functools.partial(_penalised, _SGD))


@register("schedule", "one-cycle")
def _one_cycle(peak: float, steps: int) -> optax.Schedule:
    return optax.cosine_onecycle_schedule(steps, peak)


@register("schedule", "constant")
def _constant(peak: float, steps: int) -> optax.Schedule:
    return optax.constant_schedule(peak)


@register("schedule", "cosine")
def _cosine(peak: float, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(peak, steps)


@register("schedule", "polynomial")
def _polynomial(peak: float, steps: int, *, power: float) -> optax.Schedule:
    return optax.polynomial_schedule(peak, 0.0, power, steps)


@register("schedule", "warmup-cosine")
def _warmup_cosine(peak: float, steps: int, *, warmup: float) -> optax.Schedule:
    rising = min(round(warmup * steps), steps - 1)
    if rising == 0:
        return _cosine(peak, steps)
    return optax.warmup_cosine_decay_schedule(_FIRST_RATE * peak, peak, rising, steps)


def _decays(params: PyTree) -> PyTree:
    return jax.tree.map(lambda parameter: jnp.ndim(parameter) > 1, params)
