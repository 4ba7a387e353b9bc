"""Dice, Tversky and cross-entropy losses, and weighted sums of them.

Every loss takes predictions ``(batch, *spatial, class)`` and integer labels
``(batch, *spatial)``, where the label is the index of the class. ``logits`` says what the
predictions are: logits or probabilities. A single channel is the sigmoid of a binary
problem and means class 1; class 0 is then one minus it. Several channels are a softmax.
Labels of a training are uint8, which wrap in sums and differences: here they are only compared.
Voxels whose label is ``segjax.data.labels.IGNORED`` (255) count for nothing: they are left out of
every sum, and the gradient is exactly 0 there.

Half-precision predictions are widened to float32 before anything is summed. Values and
gradients are finite for empty masks, for batches of one class and for logits up to 1e30.

Classes are treated one after another, each as a contiguous array of voxels: on a CPU a
one-hot array with 3 classes on its last axis took six to nine times as long.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, reduce
from inspect import Parameter, signature
from typing import Any, Literal, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from segjax.codec import from_json, to_json
from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.registry import HANDED, register, registry

Predictions = Float[Array | np.ndarray, "batch *spatial class"]
Labels = Integer[Array | np.ndarray, "batch *spatial"]
Scalar = Float[Array, ""]
Weight = float | int | Scalar
Per = Literal["batch", "image"]

_SMALLEST_SMOOTH = 1e-8  # its square, which the gradient divides by, is still a float32
_SMALLEST_PROBABILITY = 1e-7


@register("loss", "dice")
def dice_loss(
    predictions: Predictions,
    labels: Labels,
    *,
    logits: bool,
    background: bool = False,
    per: Per = "batch",
    smooth: float = 1e-5,
) -> Scalar:
    """Return one minus the soft Dice coefficient, averaged over the classes.

    ``1 - (2 TP + 2 s) / (2 TP + FN + FP + 2 s)`` with ``s = smooth``: exactly the Tversky
    loss with alpha = beta = 0.5, and MONAI's ``DiceLoss(smooth_nr=2 * s, smooth_dr=2 * s)``.

    Args:
        predictions: Logits or probabilities ``(batch, *spatial, class)``; one channel is the
            foreground of a binary problem.
        labels: Class indices ``(batch, *spatial)``; 255 where a voxel counts for nothing.
        logits: Whether the predictions are logits (True) or probabilities (False).
        background: Whether class 0 counts as a class.
        per: Sum voxels over the whole "batch", or over each "image" and average the images,
            but those of which no voxel counts.
        smooth: Added to numerator and denominator, in voxels; at least 1e-8. It decides the
            value of a class that is absent: 0 when nothing is predicted, else near 1.

    Returns:
        The loss, a float32 scalar from 0 (perfect) to 1.

    Raises:
        InputError: For shapes that do not match, or an option out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> probabilities = jnp.array([[[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]])
        >>> loss = dice_loss(probabilities, jnp.array([[1, 1, 0]]), logits=False)
        >>> round(float(loss), 4)  # TP 1.25, FN 0.75, FP 0: 1 - 2.5 / 3.25
        0.2308

    Source:
        F. Milletari et al., V-Net, 3DV 2016 (here without squares in the denominator).
    """
    return tversky_loss(
        predictions,
        labels,
        alpha=0.5,
        logits=logits,
        per=per,
        background=background,
        smooth=smooth,
    )


@register("loss", "tversky")
def tversky_loss(
    predictions: Predictions,
    labels: Labels,
    alpha: Weight = 0.5,
    beta: Weight | None = None,
    *,
    logits: bool,
    background: bool = False,
    per: Per = "batch",
    smooth: float = 1e-5,
) -> Scalar:
    """Return one minus the soft Tversky index, averaged over the classes.

    ``1 - (TP + s) / (TP + alpha FN + beta FP + s)`` with ``s = smooth``. Here **alpha weighs
    the false negatives** and beta the false positives: a larger alpha finds more and invents
    more. MONAI's ``TverskyLoss`` has them **the other way round**: its ``alpha`` is our
    ``beta``, its ``beta`` our ``alpha``.

    Args:
        predictions: Logits or probabilities ``(batch, *spatial, class)``; one channel is the
            foreground of a binary problem.
        labels: Class indices ``(batch, *spatial)``; 255 where a voxel counts for nothing.
        alpha: Weight of the false negatives, not negative; may be a traced value.
        beta: Weight of the false positives, not negative; ``1 - alpha`` when None.
        logits: Whether the predictions are logits (True) or probabilities (False).
        background: Whether class 0 counts as a class.
        per: Sum voxels over the whole "batch", or over each "image" and average the images,
            but those of which no voxel counts.
        smooth: Added to numerator and denominator, in voxels; at least 1e-8. It decides the
            value of a class that is absent: 0 when nothing is predicted, else near 1.

    Returns:
        The loss, a float32 scalar from 0 (perfect) to 1.

    Raises:
        InputError: For shapes that do not match, or an option out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> probabilities = jnp.array([[[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]])
        >>> loss = tversky_loss(probabilities, jnp.array([[1, 1, 0]]), 0.8, logits=False)
        >>> round(float(loss), 4)  # TP 1.25, FN 0.75, FP 0: 1 - 1.25 / (1.25 + 0.8 * 0.75)
        0.3243

    Source:
        S. S. M. Salehi et al., Tversky loss function for image segmentation using 3D fully
        convolutional deep networks, MLMI 2017, equation 4 (its alpha weighs false positives).
    """
    labels = _matching(labels, predictions)
    _check_options(alpha, beta, per, smooth)
    beta = 1 - alpha if beta is None else beta
    axes = tuple(range(0 if per == "batch" else 1, labels.ndim))
    counts = labels != IGNORED

    def index(probability: Array, present: Array) -> Array:
        hit = jnp.where(present, probability, 0).sum(axes)
        invented = jnp.where(counts, beta * probability, 0)
        wrong = jnp.where(present, alpha * (1 - probability), invented).sum(axes)
        return (hit + smooth) / (hit + wrong + smooth)

    probabilities = _softmax(predictions) if logits else _channels(predictions, _complement)
    first = 0 if background else 1
    classes = range(first, max(first + 1, len(probabilities)))
    indices = jnp.stack([index(probabilities[c], labels == c) for c in classes])
    return _mean(1 - indices.mean(0), counts.any(axes))


@register("loss", "cross-entropy")
def cross_entropy(predictions: Predictions, labels: Labels, *, logits: bool) -> Scalar:
    """Return the mean, over all voxels that count, of minus the log-probability of their class.

    Args:
        predictions: Logits or probabilities ``(batch, *spatial, class)``; one channel is the
            foreground of a binary problem (binary cross-entropy).
        labels: Class indices ``(batch, *spatial)``; 255 where a voxel counts for nothing.
        logits: Whether the predictions are logits (True) or probabilities (False);
            probabilities are taken as at least 1e-7.

    Returns:
        The loss in nats, a float32 scalar, not negative; 0 where no voxel counts.

    Raises:
        InputError: For shapes that do not match.

    Example:
        >>> import jax.numpy as jnp
        >>> probabilities = jnp.array([[[0.25, 0.75], [0.5, 0.5]]])
        >>> loss = cross_entropy(probabilities, jnp.array([[1, 0]]), logits=False)
        >>> round(float(loss), 4)  # (-log 0.75 - log 0.5) / 2
        0.4904
    """
    labels = _matching(labels, predictions)
    if logits:
        surprise = _minus_log_softmax(predictions)
    else:
        given = _channels(predictions, _complement)
        surprise = [-jnp.log(jnp.maximum(p, _SMALLEST_PROBABILITY)) for p in given]
    own = jnp.zeros((), surprise[0].dtype)
    for c, of_class in enumerate(surprise):
        own = jnp.where(labels == c, of_class, own)
    return own.sum() / jnp.maximum((labels != IGNORED).sum(), 1)


@dataclass(frozen=True, init=False)
class Term:
    """One loss and its weight in a sum.

    Besides "dice", "tversky" and "cross-entropy" every registered loss has a name: a function of
    probabilities and targets, both ``(batch, *spatial, class)`` and 0 where a voxel counts for
    nothing, which returns one number. Its other parameters are its options, with types as
    :class:`segjax.codec.Record` takes them. One that takes ``logits`` gets what
    :func:`cross_entropy` gets: from a training, labels of uint8.

    Args:
        name: Of the loss.
        weight: What the loss is multiplied by.
        options: Those of the loss that shall have other values than their defaults.

    Attributes:
        options: All options of the loss.

    Raises:
        InputError: For an unknown name, or an option that is unknown, missing or out of range.

    Example:
        >>> Term("tversky", alpha=0.7).to_json()["alpha"]
        0.7
        >>> @register("loss", "focal-example")
        ... def focal(probabilities, targets, *, gamma: float = 2.0):
        ...     log = jnp.log(jnp.clip(probabilities, 1e-7, 1))
        ...     return -(targets * (1 - probabilities) ** gamma * log).sum() / targets.sum()
        >>> Term("focal-example", weight=0.5).to_json()
        {'name': 'focal-example', 'weight': 0.5, 'gamma': 2.0}
    """

    name: str
    weight: Weight
    options: Mapping[str, Any]

    def __init__(self, name: str = "dice", weight: Weight = 1.0, **options: Any) -> None:
        weight = from_json(Weight, weight, where="weight")
        _check_weight("weight", weight)
        for field_name, value in (
            ("name", name),
            ("weight", weight),
            ("options", _checked_options(name, options)),
        ):
            object.__setattr__(self, field_name, value)

    def __hash__(self) -> int:
        return hash((self.name, self.weight, tuple(self.options.items())))

    def __call__(self, predictions: Predictions, labels: Labels, *, logits: bool = True) -> Scalar:
        """Return the weighted loss of ``(batch, *spatial, class)`` predictions."""
        function = registry("loss").get(self.name)
        if "logits" in signature(function).parameters:
            value = function(predictions, labels, logits=logits, **self.options)
        else:
            split = _softmax(predictions) if logits else _channels(predictions, _complement)
            counts = _matching(labels, predictions) != IGNORED
            probabilities = jnp.stack([jnp.where(counts, part, 0) for part in split], -1)
            targets = jax.nn.one_hot(labels, len(split), dtype=probabilities.dtype)
            value = function(probabilities, targets, **self.options)
        if jnp.shape(value):
            raise InputError(f"the loss '{self.name}' is {value.shape} numbers: it must be one")
        return self.weight * value

    def to_json(self) -> dict[str, Any]:
        """Return name, weight and all options as plain data."""
        return to_json({"name": self.name, "weight": self.weight, **self.options})

    @classmethod
    def from_json(cls, plain: Any) -> "Term":
        """Return the term that :meth:`to_json` wrote; options left out have their defaults."""
        if not isinstance(plain, Mapping):
            raise InputError(f"give an object such as {{'name': 'dice'}}, not {plain!r}")
        return cls(**plain)


@dataclass(frozen=True)
class Loss:
    """A weighted sum of losses: what training minimises.

    Attributes:
        terms: The losses and their weights, at least one; Dice plus cross-entropy by default.

    Raises:
        InputError: When there is no term.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = Loss((Term("dice"), Term("cross-entropy", weight=0.5)))
        >>> labels = jnp.array([[0, 1]])
        >>> logits = jnp.array([[[0.0, -40.0], [0.0, 40.0]]])
        >>> round(float(loss(logits, labels)), 6)
        0.0
        >>> Loss.from_json(loss.to_json()) == loss
        True
    """

    terms: tuple[Term, ...] = field(default_factory=lambda: (Term("dice"), Term("cross-entropy")))

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        if not self.terms:
            raise InputError("a loss needs at least one term, for example Term('dice')")

    def __call__(self, predictions: Predictions, labels: Labels, *, logits: bool = True) -> Scalar:
        """Return the sum of the weighted terms for ``(batch, *spatial, class)`` predictions."""
        wide = _widen(jnp.asarray(predictions))
        values = [term(wide, labels, logits=logits) for term in self.terms]
        return reduce(jnp.add, values)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the terms as plain data, each with all options of its loss."""
        return [term.to_json() for term in self.terms]

    @classmethod
    def from_json(cls, terms: Any) -> "Loss":
        """Return the loss that :meth:`to_json` described.

        Raises:
            InputError: For an unknown loss, or an option that is unknown or out of range.
        """
        if callable(terms):
            raise InputError(f"{terms!r} has no name: give it to fit as loss=, or register it")
        return cls(from_json(tuple[Term, ...], terms))


def _checked_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a loss in the order of its parameters, those left out by default."""
    if isinstance(name, str) and name.startswith(HANDED) and not options:
        return {}
    function = registry("loss").get(name)
    known = _options_of(function)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            meant = f"did you mean '{near[0]}'?" if near else "leave it out"
            raise InputError(f"the loss '{name}' has no '{option}': {meant}")
    values = {}
    for option, (kind, default) in known.items():
        value = options.get(option, default)
        if value is Parameter.empty:
            raise InputError(f"the loss '{name}' needs '{option}'")
        values[option] = from_json(kind, value, where=option)
    if function in (dice_loss, tversky_loss):
        _check_options(**{"alpha": 0.5, "beta": None, **values})
    return values


@cache
def _options_of(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return type and default of each parameter after the first two, ``logits`` apart."""
    try:
        hints = get_type_hints(getattr(function, "func", function), include_extras=True)
    except NameError:  # of a type that is imported for type checkers alone
        hints = {}
    parameters = list(signature(function).parameters.values())[2:]
    own = [p for p in parameters if p.name != "logits" and p.kind is not p.VAR_KEYWORD]
    return {p.name: (hints.get(p.name, Any), p.default) for p in own}


def _channels(predictions: Array | np.ndarray, other: Callable[[Array], Array]) -> list[Array]:
    """Split the classes into arrays of at least float32; ``other`` makes class 0 of one channel."""
    wide = _widen(jnp.asarray(predictions))
    channels = [wide[..., c] for c in range(wide.shape[-1])]
    return channels if len(channels) > 1 else [other(channels[0]), channels[0]]


def _complement(probability: Array) -> Array:
    return 1 - probability


def _shifted(predictions: Array | np.ndarray) -> list[Array]:
    """Return the logits of each class less the largest one, which changes no probability."""
    channels = _channels(predictions, jnp.zeros_like)
    largest = jax.lax.stop_gradient(reduce(jnp.maximum, channels))
    return [channel - largest for channel in channels]


def _softmax(predictions: Array | np.ndarray) -> list[Array]:
    powers = [jnp.exp(channel) for channel in _shifted(predictions)]
    total = reduce(jnp.add, powers)
    return [power / total for power in powers]


def _minus_log_softmax(predictions: Array | np.ndarray) -> list[Array]:
    shifted = _shifted(predictions)
    log_total = jnp.log(reduce(jnp.add, map(jnp.exp, shifted)))
    return [log_total - channel for channel in shifted]


def _widen(x: Array) -> Array:
    """Convert to float32 at least; the gradient comes back clipped to what x's type can hold."""
    return x if jnp.finfo(x.dtype).bits >= 32 else _widen_half(x)


@jax.custom_vjp
def _widen_half(x: Array) -> Array:
    return x.astype(jnp.float32)


def _widen_half_forward(x: Array) -> tuple[Array, Array]:
    return _widen_half(x), jnp.zeros((), x.dtype)


def _widen_half_backward(like: Array, gradient: Array) -> tuple[Array]:
    limit = float(jnp.finfo(like.dtype).max)
    return (jnp.clip(gradient, -limit, limit).astype(like.dtype),)


_widen_half.defvjp(_widen_half_forward, _widen_half_backward)


def _mean(values: Array, counts: Array) -> Array:
    """Average the values that count; 0 where none does."""
    return jnp.where(counts, values, 0).sum() / jnp.maximum(counts.sum(), 1)


def _matching(labels: Array | np.ndarray, predictions: Array | np.ndarray) -> Array:
    if predictions.ndim < 2 or predictions.shape[:-1] != labels.shape or not predictions.size:
        raise InputError(
            f"predictions {predictions.shape} and labels {labels.shape} do not match: "
            "give (batch, *spatial, class) and (batch, *spatial), not empty"
        )
    return jnp.asarray(labels)


def _check_options(
    alpha: Weight, beta: Weight | None, per: str, smooth: float, background: bool = False
) -> None:
    _check_weight("alpha", alpha)
    if beta is not None:
        _check_weight("beta", beta)
    elif isinstance(alpha, float | int) and alpha > 1:
        raise InputError(f"alpha is {alpha}: give 0 to 1, or beta too, which else is 1 - alpha")
    if per not in ("batch", "image"):
        raise InputError(f"per is '{per}': choose 'batch' or 'image'")
    if not _SMALLEST_SMOOTH <= smooth < float("inf"):
        raise InputError(f"smooth is {smooth}: choose {_SMALLEST_SMOOTH} or more")


def _check_weight(name: str, value: Weight) -> None:
    if isinstance(value, float | int) and not 0 <= value < float("inf"):
        raise InputError(f"{name} is {value}: weights must be finite and not negative")
