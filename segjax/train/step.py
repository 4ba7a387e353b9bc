"""One training step: a pure function of state, batch and key."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Integer, Key, PyTree

from segjax.errors import InputError
from segjax.models.network import Network, name_of
from segjax.train.config import Activation, ComputeDtype
from segjax.train.losses import Loss

__all__ = ["TrainState", "init_state", "make_predict", "make_train_step"]

Images = Float[Any, "batch *spatial channel"]
Labels = Integer[Any, "batch *spatial"]
Metrics = dict[str, Float[Array, ""]]
Predict = Callable[[PyTree, Images], Float[Array, "batch *spatial class"]]
Function = TypeVar("Function", bound=Callable[..., Any])


class TrainState(NamedTuple):
    """All that changes while a network trains.

    Attributes:
        params: Parameters.
        batch_stats: Running statistics of the batch norms; empty where there are none.
        opt_state: State of the optimizer.
        step: Steps done so far.
        average: Moving averages of parameters and running statistics, in the form of
            :attr:`variables`; ``None`` where none are kept.

    Example:
        >>> state = TrainState({"w": jnp.ones(3)}, {}, (), jnp.array(7))
        >>> int(state.step), sorted(state.variables)
        (7, ['params'])
    """

    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    step: Int[Array, ""]
    average: dict[str, PyTree] | None = None

    @property
    def variables(self) -> dict[str, PyTree]:
        """What ``model.apply`` takes to evaluate: the averages, where they are kept."""
        return self.training_variables if self.average is None else self.average

    @property
    def training_variables(self) -> dict[str, PyTree]:
        """What ``model.apply`` takes to train: what the last step made, never the averages."""
        return _variables(self.params, self.batch_stats)


TrainStep = Callable[[TrainState, Images, Labels, Key[Array, ""]], tuple[TrainState, Metrics]]


def init_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    patch_size: tuple[int, ...],
    *,
    ema: float | None = None,
) -> TrainState:
    """Draw the first parameters.

    Args:
        model: Network.
        optimizer: What will move its parameters.
        key: Decides the parameters.
        patch_size: Voxels of a patch, or ``(x, y, 1)`` for a 2D network.
        ema: As for :func:`make_train_step`; ``None`` keeps no averages.

    Example:
        >>> from segjax.models import UNet
        >>> model, optimizer = UNet(channels=(4, 8), strides=(2,)), optax.adam(1e-3)
        >>> state = init_state(model, optimizer, jax.random.key(0), (16, 16))
        >>> int(state.step), sorted(state.variables)
        (0, ['params'])
    """
    sizes = patch_size[: model.spatial_dims]
    images = jax.ShapeDtypeStruct((1, *sizes, model.in_channels), jnp.float32)

    def first(key: Key[Array, ""]) -> TrainState:
        variables = model.lazy_init(key, images)  # leaves the forward pass uncompiled
        params = variables["params"]
        stats = variables.get("batch_stats", {})
        state = TrainState(params, stats, optimizer.init(params), jnp.zeros((), jnp.int32))
        return state if ema is None else state._replace(average=state.training_variables)

    return jax.jit(first)(key)


def make_train_step(
    model: Network,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    ema: float | None = None,
    compute_dtype: ComputeDtype = "float32",
    deep_supervision: bool = False,
) -> TrainStep:
    """Make the jitted step: forward, backward, new parameters and batch statistics.

    The state that goes in is donated: its memory is used again, and it must not be read
    afterwards. Dropout depends on the key and the number of the step alone, so that a resumed
    training draws what the undisturbed one would have drawn. A 2D network also takes slices of
    volumes, ``(batch, x, y, 1, channel)``.

    With ``ema``, averages a of all variables v, of parameters and running statistics alike, move
    with each step t = 0, 1, …: a ← d·a + (1 - d)·v, where d = min(ema, (1 + t) / (10 + t)) lets
    the first, random parameters fade fast also in short trainings. A network is evaluated with
    them (:attr:`TrainState.variables`); the training itself does not see them.

    Under deep supervision the loss is a weighted mean: 1 for the output of the network, and 1/2,
    1/4, … for its heads, from the deepest to the shallowest, all of them at full resolution.

    Args:
        model: Network; ``apply`` gives logits.
        loss: What is minimised, a function of logits and labels.
        optimizer: As from :func:`segjax.train.optimizers.make_optimizer`.
        ema: Part of the averages that a step keeps, in (0, 1); ``None`` keeps no averages.
        compute_dtype: Type of the features and of the products of convolutions; parameters,
            their gradients and averages, statistics of norms and losses are float32 always. In
            ``"tensorfloat32"`` features are float32, of whose mantissas a GPU multiplies 10 bits.
        deep_supervision: Whether the heads of the network are trained to segment alone, too.

    Returns:
        ``(state, images, labels, key) -> (state, {"loss": …})``.

    Raises:
        InputError: There are no heads to supervise.

    Warns:
        UserWarning: The type is slower than float32 on this machine, or no other.

    Example:
        >>> from segjax.models import UNet
        >>> model, optimizer = UNet(channels=(4, 8), strides=(2,)), optax.adam(1e-3)
        >>> state = init_state(model, optimizer, jax.random.key(0), (16, 16))
        >>> images, labels = jnp.ones((2, 16, 16, 1)), jnp.ones((2, 16, 16), jnp.uint8)
        >>> train_step = make_train_step(model, Loss(), optimizer)
        >>> state, metrics = train_step(state, images, labels, jax.random.key(0))
        >>> int(state.step), sorted(metrics)
        (1, ['loss'])
    """
    _check(model, compute_dtype, deep_supervision)
    dtype = jnp.bfloat16 if compute_dtype == "bfloat16" else jnp.float32

    def objective(
        params: PyTree, state: TrainState, images: Images, labels: Labels, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], PyTree]:
        logits, updates = model.apply(
            _variables(params, state.batch_stats),
            jnp.asarray(_drop_axis(model, images, -2), dtype),
            train=True,
            rngs={"dropout": jax.random.fold_in(key, state.step)},
            mutable=["batch_stats", *(["intermediates"] if deep_supervision else [])],
        )
        outputs = (logits, *updates.get("intermediates", {}).get("heads", ()))
        value = _weighted_mean(loss, outputs, _drop_axis(model, labels, -1))
        return value, updates.get("batch_stats", {})

    def train_step(
        state: TrainState, images: Images, labels: Labels, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        differentiate = jax.value_and_grad(objective, has_aux=True)
        (value, stats), gradients = differentiate(state.params, state, images, labels, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(params, stats, opt_state, state.step + 1)
        return new._replace(average=_averaged(state, new, ema)), {"loss": value}

    precision = "tensorfloat32" if compute_dtype == "tensorfloat32" else "float32"
    return jax.jit(_multiplying_in(precision, train_step), donate_argnums=0)


def make_predict(model: Network, activation: Activation) -> Predict:
    """Make the jitted prediction: variables and images to probabilities.

    Args:
        model: Network; ``apply`` gives logits.
        activation: ``"softmax"`` over the classes, or ``"sigmoid"`` of each output.

    Returns:
        ``(variables, images) -> probabilities``, ``(batch, *spatial, class)`` float32, multiplied
        in float32 whatever the network was trained in. A 2D network also takes slices of volumes,
        ``(batch, x, y, 1, channel)``.

    Example:
        >>> from segjax.models import UNet
        >>> model, optimizer = UNet(channels=(4, 8), strides=(2,)), optax.adam(1e-3)
        >>> state = init_state(model, optimizer, jax.random.key(0), (16, 16))
        >>> predict = make_predict(model, "softmax")
        >>> predict(state.variables, jnp.ones((2, 16, 16, 1))).shape
        (2, 16, 16, 2)
    """
    activate = {"softmax": nn.softmax, "sigmoid": nn.sigmoid}[activation]

    def predict(variables: PyTree, images: Images) -> Float[Array, "batch *spatial class"]:
        logits = jnp.asarray(model.apply(variables, _drop_axis(model, images, -2)), jnp.float32)
        return activate(logits).reshape(*images.shape[:-1], -1)

    return jax.jit(_multiplying_in("float32", predict))


def _multiplying_in(precision: str, function: Function) -> Function:
    """Let convolutions and matrix products round float32 to a precision, and no further.

    Left alone, XLA rounds their operands to 10 bits on a GPU that has tensor cores.
    """

    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return wrapped  # type: ignore[return-value]


_ON_A_CPU = {"bfloat16": "is slower", "tensorfloat32": "changes nothing"}


def _check(model: Network, compute_dtype: ComputeDtype, deep_supervision: bool) -> None:
    if deep_supervision and not model.heads:
        raise InputError(
            f"deep_supervision: {name_of(model)} has no heads to supervise; leave it out, or "
            "train mpunet++"
        )
    if jax.default_backend() == "cpu" and (effect := _ON_A_CPU.get(compute_dtype)):
        warnings.warn(f"compute_dtype {compute_dtype} {effect} on a CPU", stacklevel=3)


def _weighted_mean(
    loss: Loss, outputs: Sequence[Float[Array, "batch *spatial class"]], labels: Labels
) -> Float[Array, ""]:
    """Average the losses of outputs, each with half the weight of the one before."""
    weights = [0.5**i for i in range(len(outputs))]
    losses = [w * loss(logits, labels) for w, logits in zip(weights, outputs, strict=True)]
    return functools.reduce(jnp.add, losses) / sum(weights)


def _averaged(old: TrainState, new: TrainState, ema: float | None) -> dict[str, PyTree] | None:
    """Move the averages towards the variables that a step made."""
    if ema is None:
        return None
    kept = jnp.minimum(ema, (1 + old.step) / (10 + old.step))
    return optax.incremental_update(new.training_variables, old.average, 1 - kept)


def _variables(params: PyTree, batch_stats: PyTree) -> dict[str, PyTree]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def _drop_axis(model: Network, array: Any, axis: int) -> Any:
    """Take away the third axis of slices, for a 2D network."""
    slices = model.spatial_dims == 2 and array.ndim + axis == 3
    return jnp.squeeze(array, axis) if slices else array
