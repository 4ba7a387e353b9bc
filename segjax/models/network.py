"""What the library asks of a network, and what it takes for granted of one that says less."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol, runtime_checkable

import jax
from flax import linen as nn
from jaxtyping import Key, PyTree

from segjax.errors import InputError
from segjax.models import ops
from segjax.models._forms import Features, Images
from segjax.models._lax import LaxForms
from segjax.registry import accepted

__all__ = ["Network", "built_on_ops", "complete", "name_of"]

Variables = Mapping[str, PyTree]


@runtime_checkable
class Network(Protocol):
    """A network: what a Flax Linen module has, and a few facts.

    Its call takes images and ``train``, and returns logits of the same spatial shape; dropout
    takes the key ``"dropout"``, running statistics are the collection ``"batch_stats"``.
    :func:`complete` makes one of any module.

    Example:
        >>> from segjax.models import UNet
        >>> network: Network = UNet(channels=(4, 8), strides=(2,))
        >>> network.size_multiple
        2
    """

    @property
    def spatial_dims(self) -> int:
        """Spatial axes of the images: 2 or 3."""
        ...

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        ...

    @property
    def out_channels(self) -> int:
        """Classes, or 1 for a sigmoid."""
        ...

    @property
    def size_multiple(self) -> int:
        """What every spatial size must be a multiple of."""
        ...

    @property
    def heads(self) -> int:
        """How many logits it sows as ``heads`` among the intermediates, the deepest first."""
        ...

    def init(self, rngs: Key[Any, ""], images: Images) -> Variables:
        """Return the first variables."""
        ...

    def lazy_init(self, rngs: Key[Any, ""], images: Any) -> Variables:
        """Return the first variables for images of which only shape and type are known."""
        ...

    def apply(self, variables: Variables, images: Images, **options: Any) -> Any:
        """Return logits; with ``mutable`` collections, logits and what became of these."""
        ...


@dataclass(frozen=True)
class _Completed:
    """A module, with the facts that it does not state."""

    module: nn.Module
    spatial_dims: int
    in_channels: int
    out_channels: int
    size_multiple: int
    heads: int

    def init(self, rngs: Key[Any, ""], images: Images) -> Variables:
        return self.module.init(rngs, images, **self._told(train=False))

    def lazy_init(self, rngs: Key[Any, ""], images: Any) -> Variables:
        return self.module.lazy_init(rngs, images, **self._told(train=False))

    def apply(
        self, variables: Variables, images: Images, *, train: bool = False, **options: Any
    ) -> Any:
        return self.module.apply(variables, images, **self._told(train=train), **options)

    def _told(self, *, train: bool) -> dict[str, Any]:
        call = type(self.module).__call__
        return accepted(call, train=train, deterministic=not train)


def complete(module: Any, *, in_channels: int, out_channels: int, rank: int) -> Network:
    """Return a network with all facts; the very same where the module states them.

    Args:
        module: A Flax Linen module. Without ``size_multiple`` it takes images of all sizes, without
            ``heads`` it has none. Its call may take ``deterministic``, which is ``not train``, in
            the place of ``train``; with neither it is the same in training.
        in_channels: Channels of the images, where it does not say.
        out_channels: Its outputs, where it does not say.
        rank: Spatial axes of the images, where it does not say.

    Raises:
        InputError: It is no Flax Linen module.

    Example:
        >>> network = complete(nn.Dense(2), in_channels=1, out_channels=2, rank=3)
        >>> network.spatial_dims, network.size_multiple
        (3, 1)
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"{module!r} is no network: give a module of Flax Linen")
    train = signature(type(module).__call__).parameters.get("train")
    if isinstance(module, Network) and train is not None and train.default is False:
        return module
    facts = {
        "spatial_dims": rank,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "size_multiple": 1,
        "heads": 0,
    }
    return _Completed(module, **{name: getattr(module, name, fact) for name, fact in facts.items()})


def built_on_ops(network: Network) -> bool:
    """Say whether a network takes its images by ``ops.from_images``, in whatever layout.

    Example:
        >>> built_on_ops(complete(nn.Dense(2), in_channels=1, out_channels=2, rank=3))
        False
    """
    rank = network.spatial_dims
    shape = (1, *(2 * network.size_multiple,) * rank, network.in_channels)
    try:
        with ops.use(_Watch(rank)):
            jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, "float32"))
    except _ReachedError:
        return True
    return False


class _ReachedError(Exception):
    pass


class _Watch(LaxForms):
    def from_images(self, images: Features) -> Features:
        raise _ReachedError


def name_of(network: Network) -> str:
    """Return the name of the class that a network is of."""
    return type(getattr(network, "module", network)).__name__
