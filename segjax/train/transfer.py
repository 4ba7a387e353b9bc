"""Start a training from weights that are there already, and keep some of them as they are."""

import dataclasses
import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from segjax.errors import InputError
from segjax.train.checkpoints import load_variables
from segjax.train.config import InitConfig, TrainConfig, create_model, read_config
from segjax.train.step import TrainState

__all__ = ["Source", "freeze", "load_source", "recorded", "warm_start"]

_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network_weights")
_SHOWN = 4  # names in a message
Place = tuple[str, ...]  # collection, layers …, leaf
Arrays = dict[Place, Any]


@dataclass(frozen=True, eq=False)
class Source:
    """Weights to start from.

    Attributes:
        variables: ``{"params": …, "batch_stats": …}`` with NumPy arrays.
        digest: SHA-256 of the file, or of the variables of a run's best checkpoint.
        labels: What the outputs mean; ``None`` where nothing says it.
    """

    variables: dict[str, Any]
    digest: str
    labels: tuple[str, ...] | None = None


def load_source(path: str | Path, model: str) -> Source:
    """Read the weights of a network.

    Args:
        path: Folder of a run, whose best checkpoint is taken; a PyTorch state dict (``.pt``,
            ``.pth``, also of MONAI's ``UNet`` and the MPU-Net++ authors' release); or an ONNX
            file that ``segjax export`` wrote.
        model: Name of the network that the weights are to be used in.

    Raises:
        InputError: There are no such weights, or they are those of another network.

    Example:
        >>> load_source("run", "mpunet++").labels  # doctest: +SKIP
        ('background', 'lesion')
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder to start from")
    if path.is_dir():
        return _of_run(path, model)
    if path.suffix == ".onnx":
        return _of_onnx(path, model)
    if path.suffix in _TORCH_SUFFIXES:
        return _of_torch(path, model)
    raise InputError(
        f"{path}: give the folder of a run, a PyTorch state dict (.pt, .pth) or an .onnx file"
    )


def recorded(config: TrainConfig) -> TrainConfig:
    """Return a configuration that holds the digest of the weights it starts from.

    Raises:
        InputError: As :func:`load_source`; or they are others than the configuration says.
    """
    if config.init is None:
        return config
    source = _checked(config.init, config.model)
    return dataclasses.replace(config, init=dataclasses.replace(config.init, digest=source.digest))


def warm_start(state: TrainState, config: TrainConfig) -> TrainState:
    """Put weights that are there already in the place of the ones drawn at random.

    With ``config.init.new_head`` the layers stay as drawn whose size depends on the number of
    outputs, and the first layer where the number of input channels is another one.

    Args:
        state: The state before the first step.
        config: What is to be trained; without ``init`` the state is returned as it is.

    Raises:
        InputError: A layer is missing, unknown or of another shape; the message names it, both
            shapes and what to do.
    """
    if config.init is None:
        return state
    source = _checked(config.init, config.model)
    old = _flat(source.variables)
    new = _flat(jax.device_get(state.training_variables))
    layers = _layers(config)
    kept = layers.head if config.init.new_head else frozenset()
    if config.init.new_head and any(_differs(old, new, place) for place in layers.stem):
        kept |= layers.stem
    _check(config, old, new, kept)
    if not config.init.new_head:
        _warn_of_labels(config, source)
    arrays = {place: new[place] if place in kept else old[place] for place in new}
    first, average = (_as_jax(_nested(arrays)) for _ in range(2))  # donated memory is never shared
    state = state._replace(params=first["params"], batch_stats=first.get("batch_stats", {}))
    return state if state.average is None else state._replace(average=average)


def freeze(
    optimizer: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
    r"""Let an optimizer leave some parameters as they are.

    Only parameters are frozen: running statistics of batch norms go on following the images.
    Gradients are clipped by the norm of those that are left.

    Args:
        optimizer: Moves the others.
        patterns: Regular expressions on the paths of parameters, such as ``X00/first/kernel``;
            those are frozen in which one finds something. None at all freezes nothing.

    Returns:
        An optimizer; the very same one where there are no patterns.

    Raises:
        InputError: When it is first given parameters: a pattern is no expression or finds
            nothing, or nothing is left to train.

    Example:
        >>> params = {"down0": {"bias": jnp.ones(2)}, "up0": {"bias": jnp.ones(2)}}
        >>> frozen = freeze(optax.sgd(1.0), ["^down"])
        >>> updates, _ = frozen.update(params, frozen.init(params), params)
        >>> float(updates["down0"]["bias"][0]), float(updates["up0"]["bias"][0])
        (0.0, -1.0)
    """
    if not patterns:
        return optimizer

    def kinds(params: PyTree) -> PyTree:
        names = {place: "/".join(place) for place in _flat(params)}
        frozen = _matching(patterns, list(names.values()))
        return _nested({p: "frozen" if name in frozen else "free" for p, name in names.items()})

    return optax.multi_transform({"free": optimizer, "frozen": optax.set_to_zero()}, kinds)


def _matching(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise InputError(f"freeze '{pattern}': no regular expression ({error})") from error
        if not matched:
            raise InputError(
                f"freeze '{pattern}': finds none of the parameters {_listed(sorted(names))}"
            )
        found |= matched
    if len(found) == len(names):
        raise InputError(f"freeze {_listed(patterns)}: nothing would be left to train")
    return found


def _checked(init: InitConfig, model: str) -> Source:
    source = load_source(init.source, model)
    if init.digest not in (None, source.digest):
        raise InputError(
            f"{init.source}: its weights have changed since this training was planned (SHA-256 "
            f"{source.digest[:12]}…, not {str(init.digest)[:12]}…): train in a new folder"
        )
    return source


def _of_run(path: Path, model: str) -> Source:
    config = read_config(path)
    _check_model(path, config.model, model)
    variables = load_variables(path)
    digest = hashlib.sha256()
    for place, array in sorted(_flat(variables).items()):
        digest.update(f"{'/'.join(place)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return Source(variables, digest.hexdigest(), config.labels)


def _of_onnx(path: Path, model: str) -> Source:
    from segjax_onnx.metadata import read_metadata
    from segjax_onnx.weights import read_variables

    metadata = read_metadata(path)
    _check_model(path, metadata.model, model)
    return Source(read_variables(path), _digest(path), metadata.labels)


def _of_torch(path: Path, model: str) -> Source:
    from segjax.models import from_torch

    try:
        variables = from_torch(model, _read_torch(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Source(variables, _digest(path))


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{path}: reading it needs PyTorch: pip install torch") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and PyTorch each have errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"{path}: holds no plain state dict; save one by torch.save(network.state_dict(), "
            f"…) ({reason})"
        ) from error
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise InputError(f"{path}: holds no state dict, from names to tensors")
    return {name: tensor.detach().float().numpy() for name, tensor in content.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_model(path: Path, there: str, wanted: str) -> None:
    if there != wanted:
        raise InputError(f"{path}: holds a {there}, not a {wanted}: train that network from it")


class _Layers(NamedTuple):
    """Places of the variables of the layers that depend on the numbers of channels."""

    head: frozenset[Place]
    stem: frozenset[Place]


def _layers(config: TrainConfig) -> _Layers:
    here = _shapes(config, 0, 0)
    others = _shapes(config, 0, 1), _shapes(config, 1, 0)
    head, stem = (
        frozenset(place[1:-1] for place in here if here[place] != other[place]) for other in others
    )
    return _Layers(
        frozenset(place for place in here if place[1:-1] in head),
        frozenset(place for place in here if place[1:-1] in stem),
    )


def _shapes(config: TrainConfig, more_in: int, more_out: int) -> dict[Place, tuple[int, ...]]:
    """Return the shapes of all variables of a network of more channels."""
    channels = config.in_channels + more_in
    model = create_model(
        config.model, in_channels=channels, out_channels=config.out_channels + more_out
    )
    sizes = (2 * model.size_multiple,) * model.spatial_dims
    images = jax.ShapeDtypeStruct((1, *sizes, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {place: leaf.shape for place, leaf in _flat(variables).items()}


def _differs(old: Arrays, new: Arrays, place: Place) -> bool:
    return place in old and old[place].shape != new[place].shape


def _check(config: TrainConfig, old: Arrays, new: Arrays, kept: frozenset[Place]) -> None:
    """Refuse weights that do not fit in all places but those that are drawn anew."""
    assert config.init is not None
    path = config.init.source
    if unequal := sorted((set(old) ^ set(new)) - kept):
        where = "it lacks" if unequal[0] in new else f"{config.model} has no"
        raise InputError(
            f"{path}: holds another network than {config.model}: "
            f"{where} {_listed(['/'.join(place) for place in unequal])}"
        )
    for place in sorted(set(new) - kept):
        if _differs(old, new, place):
            advice = (
                "take the network it was made with"
                if config.init.new_head
                else "ask for a new head (--new-head) to draw the layers anew that depend on the "
                "numbers of labels and channels"
            )
            raise InputError(
                f"{path}: {'/'.join(place[1:])} has the shape {tuple(old[place].shape)}, but "
                f"{tuple(new[place].shape)} is needed with {config.in_channels} input and "
                f"{config.out_channels} output channels: {advice}"
            )


def _warn_of_labels(config: TrainConfig, source: Source) -> None:
    if source.labels is not None and source.labels != config.labels:
        warnings.warn(
            f"the outputs of the weights mean {', '.join(source.labels)}, those of this training "
            f"{', '.join(config.labels)}: they are kept; a new head would draw them anew",
            stacklevel=4,
        )


def _flat(tree: PyTree) -> Arrays:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}


def _nested(arrays: Mapping[Place, Any]) -> dict[str, Any]:
    """Put what lies in places into dictionaries."""
    tree: dict[str, Any] = {}
    for place, array in arrays.items():
        inner = tree
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = array
    return tree


def _as_jax(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.array, tree)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
