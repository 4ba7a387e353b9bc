"""Many trainings of one network as one program, where alpha, seed and data differ."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from segjax.errors import InputError
from segjax.train.config import TrainConfig
from segjax.train.losses import Loss, Term, Weight
from segjax.train.network import Network
from segjax.train.step import TrainState

__all__ = [
    "Programs",
    "Seat",
    "Together",
    "check_together",
    "deal",
    "powers_of_two",
    "with_alpha",
]

T = TypeVar("T")
Together = Literal["vmap", "unrolled", "apart"]


class Seat(NamedTuple):
    """What decides a member's next step, its state apart.

    Attributes:
        batch: Images ``(batch, *patch, channel)`` and labels ``(batch, *patch)``.
        key: Decides its dropout.
        alpha: Weight of false negatives in its Tversky loss.
    """

    batch: tuple[Any, Any]
    key: Key[Array, ""]
    alpha: Float[Any, ""]


MemberStep = Callable[[TrainState, Seat], tuple[TrainState, Float[Array, ""]]]


class Programs:
    """Train steps of several members of one network at once, compiled once for each number.

    ``"apart"`` has programs of one member, and needs the least memory. ``"unrolled"`` writes the
    steps of all members one after the other into one program, which takes as much processor time on
    a CPU (82 and 90 ms a member and step, kernel 3, 4 images of 128²; 73 and 71 ms where freed
    memory is kept). ``"vmap"`` stacks them along a new axis of every array. Every convolution then
    has a group for each member: slow on a CPU, and worse on a GPU, where XLA knows no gradients of
    such ones but convolutions with windows as large as the images, and six times the memory of one
    member (compiled for an H200: 4 members, 8 images of 512²).

    Alpha is an input of the program, so that members and whole sweeps share what is compiled.
    Every member computes what it would compute alone, but for rounding.

    Args:
        config: Of any member: they differ in seed, alpha and name.
        steps_per_epoch: Steps of each epoch.
        together: How members share a program.

    Example:
        >>> state = TrainState({"w": jnp.ones(3)}, {}, (), jnp.array(7))
        >>> programs = Programs(TrainConfig("unet2d-k3", (16, 16)), 10, "vmap")
        >>> packed = programs.pack([state, state])
        >>> packed.params["w"].shape, programs.unpack(packed, 1).params["w"].shape
        ((2, 3), (3,))
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int, together: Together):
        self.together = together
        step = _member_step(config, steps_per_epoch)
        group = _stacked if together == "vmap" else _unrolled
        self._step = jax.jit(lambda packed, seats: group(step, packed, seats), donate_argnums=0)

    def step(self, packed: PyTree, seats: Sequence[Seat]) -> tuple[PyTree, Float[Array, " member"]]:
        """Make one step of every member; the packed states that go in are used up.

        Args:
            packed: Of :meth:`pack`, or of the step before.
            seats: Of every member, in the order of the states.

        Returns:
            The new states, packed, and the loss of each member.
        """
        return self._step(packed, tuple(seats))

    def pack(self, states: Sequence[TrainState]) -> PyTree:
        """Bring the states of some members into the form that :meth:`step` takes."""
        if self.together == "vmap":
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return tuple(states)

    def unpack(self, packed: PyTree, member: int) -> TrainState:
        """Return the state of one member, which does not outlive the next step."""
        if self.together == "vmap":
            return jax.tree.map(lambda leaf: leaf[member], packed)
        return packed[member]


def with_alpha(loss: Loss, alpha: Weight) -> Loss:
    """Return a loss with another weight of false negatives in its Tversky terms.

    Args:
        loss: A sum of losses.
        alpha: The weight; may be a traced value.

    Raises:
        InputError: The loss has no Tversky term.

    Example:
        >>> loss = with_alpha(Loss((Term("tversky"), Term("cross-entropy"))), 0.7)
        >>> loss.terms[0].options["alpha"]
        0.7
    """
    if not any(term.name == "tversky" for term in loss.terms):
        raise InputError("the loss has no Tversky term whose alpha could vary: add one")
    return Loss(
        tuple(
            Term(term.name, term.weight, **{**term.options, "alpha": alpha})
            if term.name == "tversky"
            else term
            for term in loss.terms
        )
    )


def check_together(together: str) -> None:
    """Refuse an unknown way of sharing a program.

    Raises:
        InputError: It is none of "vmap", "unrolled" and "apart".
    """
    if together not in get_args(Together):
        raise InputError(f"members together '{together}': choose {', '.join(get_args(Together))}")


def powers_of_two(count: int, largest: int) -> list[int]:
    """Split a number of members into programs, of which few sizes are ever compiled.

    Args:
        count: Members, from 0 up.
        largest: Most members of a program; itself a size, and else powers of two.

    Returns:
        Sizes, the largest first, that add up to ``count``.

    Example:
        >>> powers_of_two(7, 8), powers_of_two(13, 6)
        ([4, 2, 1], [6, 6, 1])
    """
    sizes = [largest] * (count // largest)
    rest = count % largest
    return sizes + [1 << bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]


def deal(before: Sequence[T | None], devices: Sequence[T]) -> list[T]:
    """Share members among devices evenly, so that as few as possible move.

    Args:
        before: The device of each member; ``None`` where it has none yet.
        devices: All devices.

    Returns:
        The device of each member from now on.

    Example:
        >>> deal([0, 0, 0, None, None], range(2))
        [0, 0, 0, 1, 1]
        >>> deal([0, 0, 0, 0, 1], range(2))
        [0, 0, 0, 1, 1]
    """
    fullest = sorted(devices, key=before.count, reverse=True)
    share, more = divmod(len(before), len(devices))
    room = {device: share + (place < more) for place, device in enumerate(fullest)}
    stays = []
    for device in before:
        stays.append(device is not None and room[device] > 0)
        if device is not None and stays[-1]:
            room[device] -= 1
    free = iter([device for device in fullest for _ in range(room[device])])
    return [
        device if device is not None and stay else next(free)
        for device, stay in zip(before, stays, strict=True)
    ]


def _member_step(config: TrainConfig, steps_per_epoch: int) -> MemberStep:
    def step(state: TrainState, seat: Seat) -> tuple[TrainState, Float[Array, ""]]:
        loss = with_alpha(config.loss, seat.alpha)
        network = Network(dataclasses.replace(config, loss=loss), steps_per_epoch)
        state, metrics = network.train_step(state, *seat.batch, seat.key)
        return state, metrics["loss"]

    return step


def _unrolled(
    step: MemberStep, states: tuple[TrainState, ...], seats: tuple[Seat, ...]
) -> tuple[PyTree, Array]:
    done = [step(state, seat) for state, seat in zip(states, seats, strict=True)]
    return tuple(state for state, _ in done), jnp.stack([loss for _, loss in done])


def _stacked(step: MemberStep, states: TrainState, seats: tuple[Seat, ...]) -> tuple[PyTree, Array]:
    return jax.vmap(step)(states, jax.tree.map(lambda *leaves: jnp.stack(leaves), *seats))
