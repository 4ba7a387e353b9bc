"""A network by its configuration, with the functions that train it and predict with it."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from segjax import models
from segjax.data.tiles import Locality
from segjax.errors import InputError
from segjax.models.network import Network as Model
from segjax.models.reach import halo_of
from segjax.registry import HANDED, registry
from segjax.text import brief, unknown
from segjax.train.config import OptimizerConfig, TrainConfig
from segjax.train.losses import Loss, Term
from segjax.train.optimizers import make_optimizer
from segjax.train.step import TrainState, init_state, make_predict, make_train_step
from segjax.train.transfer import freeze, freeze_norms, warm_start

__all__ = ["Network", "Objects", "check_network", "check_patch_size", "handed"]


class Network:
    """A network and the functions that train it.

    Args:
        config: Network, loss and optimizer.
        steps_per_epoch: Steps of each epoch, which the learning rate follows.

    Attributes:
        model: The network alone.

    Raises:
        InputError: There is no such network, or the patches do not fit it.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int):
        dropout: dict[str, Any] = {} if config.dropout is None else {"dropout": config.dropout}
        model = models.create(config.model, **config.interface, **dropout)
        check_patch_size(config, model)
        self.config, self.steps_per_epoch, self.model = config, steps_per_epoch, model
        optimizer = make_optimizer(config.optimizer, config.epochs * steps_per_epoch)
        self._optimizer = freeze(optimizer, config.freeze)
        self.first_key, self.dropout_key = jax.random.split(jax.random.key(config.seed))
        train_step = make_train_step(
            model,
            config.loss,
            self._optimizer,
            ema=config.ema,
            compute_dtype=config.compute_dtype,
            deep_supervision=config.deep_supervision,
        )
        self.train_step = freeze_norms(train_step, config.freeze)
        self.predict = make_predict(model, config.activation)

    @functools.cached_property
    def locality(self) -> Locality | None:
        """How far the network sees; ``None`` where it sees all of its images."""
        halo, rank = halo_of(self.model), self.model.spatial_dims
        return None if halo is None else Locality((halo,) * rank, self.model.size_multiple)

    def init(self) -> TrainState:
        """Draw the first parameters of the configured seed."""
        return self.first_state(self.first_key)

    def first_state(self, key: Key[Array, ""]) -> TrainState:
        """Draw the first parameters by another key."""
        return init_state(
            self.model,
            self._optimizer,
            key,
            self.config.patch_size,
            ema=self.config.ema,
        )

    def first(self, run: Path) -> TrainState:
        """Draw the first parameters, or take those that the training starts from.

        Args:
            run: Folder of the training, which may hold a copy of those.

        Raises:
            InputError: As :func:`segjax.train.transfer.warm_start`.
        """
        return warm_start(self.init(), self.config, run)


class Objects(TypedDict, total=False):
    """What a training can take that has no name.

    Attributes:
        network: A module of Flax Linen; takes the place of ``config.model``.
        loss: A function as :class:`segjax.train.losses.Term` takes it; that of ``config.loss``.
        optimizer: Of optax; that of ``config.optimizer``, its schedule and clipping included.
    """

    network: nn.Module | None
    loss: Callable[..., Any] | None
    optimizer: optax.GradientTransformation | None


@contextmanager
def handed(config: TrainConfig, **objects: Unpack[Objects]) -> Iterator[TrainConfig]:
    """Let a training use objects that have no name, within a block.

    Args:
        config: What is trained.
        objects: See :class:`Objects`.

    Yields:
        The configuration, in which each object is ``"object:"`` and its class or function.

    Raises:
        InputError: An object is of another kind than is needed, or the network of other channels,
            or of another class than the one that was trained.
        TypeError: Training takes no object of that name.

    Example:
        >>> with handed(TrainConfig("own", (8, 8)), network=nn.Dense(2)) as config:
        ...     config.model
        'object:flax.linen.linear.Dense'
    """
    _check_objects(objects)
    with ExitStack() as stack:
        if (network := objects.get("network")) is not None:
            _check_channels(config, network)
            name = stack.enter_context(registry("network").lend(network))
            if config.model.startswith(HANDED) and config.model != name:
                raise InputError(f"network: is {name}, but {config.model} was trained")
            config = replace(config, model=name)
        if (loss := objects.get("loss")) is not None:
            name = stack.enter_context(registry("loss").lend(loss))
            config = replace(config, loss=Loss((Term(name),)))
        if (optimizer := objects.get("optimizer")) is not None:
            name = stack.enter_context(registry("optimizer").lend(optimizer))
            own = OptimizerConfig(name=name, schedule=name, weight_decay=0.0, gradient_clip=None)
            config = replace(config, optimizer=own)
        yield config


def check_network(network: Network) -> None:
    """Try a network and a loss that are not segjax's own, without computing anything.

    Raises:
        InputError: The network cannot take a patch, or gives other logits than are needed; or the
            loss is not one number.

    Warns:
        UserWarning: The network cannot be exported.
    """
    config, model = network.config, network.model
    if type(getattr(model, "module", model)).__module__.startswith("segjax.models."):
        logits: Any = jax.ShapeDtypeStruct(_batch(config, config.out_channels), jnp.float32)
    else:
        logits = _logits(config, model)
        _warn_of_export(config, model)
    jax.eval_shape(config.loss, logits, jax.ShapeDtypeStruct(logits.shape[:-1], jnp.uint8))


def check_patch_size(config: TrainConfig, model: Model) -> None:
    """Refuse a patch that does not fit the network, and say which would.

    Raises:
        InputError: The patch has another rank, or sizes that the network cannot halve.
    """
    sizes, multiple, rank = config.patch_size, model.size_multiple, model.spatial_dims
    slices = rank == 2 and len(sizes) == 3 and sizes[2] == 1
    if len(sizes) != rank and not slices:
        slices_too = ", or x y 1 for the slices of volumes" if rank == 2 else ""
        raise InputError(
            f"patch_size {_text(sizes)} does not fit {config.model}: give {rank} numbers"
            + slices_too
        )
    if any(size % multiple for size in sizes[:rank]):
        lower = [max(multiple, size // multiple * multiple) for size in sizes[:rank]]
        upper = [-(-size // multiple) * multiple for size in sizes[:rank]]
        either = dict.fromkeys([_text([*lower, *sizes[rank:]]), _text([*upper, *sizes[rank:]])])
        raise InputError(
            f"patch_size {_text(sizes)}: {config.model} needs multiples of {multiple}; "
            f"{' or '.join(either)} would do"
        )


def _text(sizes: Sequence[int]) -> str:
    return " ".join(map(str, sizes))


def _batch(config: TrainConfig, channels: int) -> tuple[int, ...]:
    return (2, *config.patch_size[: config.rank], channels)


def _logits(config: TrainConfig, model: Model) -> jax.ShapeDtypeStruct:
    """Return the shape of a network's output for a batch of patches."""
    images = jax.ShapeDtypeStruct(_batch(config, config.in_channels), jnp.float32)

    def run(images: Array) -> Any:
        return model.apply(model.init(jax.random.key(0), images), images)

    try:
        found = jax.eval_shape(run, images)
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise InputError(f"{config.model}: takes no images of {images.shape}: {error}") from error
    wanted = _batch(config, config.out_channels)
    made = jax.tree.map(lambda array: array.shape, found)
    if made != wanted:
        raise InputError(
            f"{config.model}: makes {made} of images of {images.shape}, but logits of "
            f"{wanted} are needed (layers of segjax take features, which ops.from_images makes of "
            "images, and ops.to_images makes logits of)"
        )
    return found


def _warn_of_export(config: TrainConfig, model: Model) -> None:
    images = jax.ShapeDtypeStruct(_batch(config, config.in_channels), jnp.float32)
    exporters = registry("exporter")
    for name in exporters.names():
        if obstacle := exporters.get(name)(model, images):
            warnings.warn(
                f"{config.model}: can be trained, but not be exported: {obstacle}", stacklevel=5
            )


_TAKEN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (callable, "a module of Flax Linen"),
    "loss": (callable, "a function of probabilities and targets"),
    "optimizer": (
        lambda thing: isinstance(thing, optax.GradientTransformation),
        "one of optax, such as optax.adam(1e-3)",
    ),
}


def _check_objects(objects: Mapping[str, Any]) -> None:
    for name, thing in objects.items():
        if name not in _TAKEN:
            raise TypeError(unknown("argument", name, tuple(_TAKEN)))
        fits, words = _TAKEN[name]
        if thing is not None and not fits(thing):
            hint = "; a name goes into the configuration" if isinstance(thing, str) else ""
            raise InputError(f"{name} must be {words}, not {brief(thing)}{hint}")


def _check_channels(config: TrainConfig, network: Any) -> None:
    for name in ("in_channels", "out_channels"):
        found, wanted = getattr(network, name, None), getattr(config, name)
        if found not in (None, wanted):
            raise InputError(f"network: its {name} is {found}, but {wanted} is needed")
