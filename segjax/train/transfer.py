"""Start a training from weights that are there already, and keep some of them as they are."""

import dataclasses
import hashlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, Key, PyTree

from segjax import models
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.models import torch_files
from segjax.pretrained.shipped import hidden_model, model_path
from segjax.registry import register, registry
from segjax.runs.folder import RunFolder
from segjax.text import listed
from segjax.train.checkpoints import load_variables
from segjax.train.config import InitConfig, TrainConfig, read_config
from segjax.train.step import Metrics, TrainState, TrainStep

__all__ = [
    "Source",
    "check_model",
    "freeze",
    "freeze_norms",
    "hold",
    "load_source",
    "recorded",
    "source_exists",
    "warm_start",
]

_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
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


def source_exists(source: str | Path) -> bool:
    """Say whether weights are where a training takes them from.

    Args:
        source: File or folder, or the name of a model that comes with segjax.

    Example:
        >>> source_exists("run"), source_exists("no-run")
        (True, False)
    """
    with suppress(InputError):
        return model_path(source).exists()
    return False


def load_source(path: str | Path, model: str) -> Source:
    """Read the weights of a network.

    Args:
        path: Folder of a run, whose best checkpoint is taken; a state dict of MONAI's ``UNet``
            or of the MPU-Net++ authors' release (``.pt``, ``.pth``, ``.ckpt``, ``.bin``,
            ``.safetensors``); an ONNX file that ``segjax export`` wrote; the name of a model that
            comes with segjax; or a file of another suffix, given to
            ``segjax.register("weights", suffix, read)``: ``read(path, model)`` returns the
            variables, and the names of the labels or None.
        model: Name of the network that the weights are to be used in.

    Raises:
        InputError: There are no such weights, or they are those of another network.

    Example:
        >>> load_source("run", "mpunet++").labels
        ('background', 'lesion')
    """
    path = model_path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder to start from")
    if path.is_dir():
        try:
            return _of_run(path, model)
        except InputError as error:
            raise InputError(f"{error}{hidden_model(path)}") from error
    known = registry("weights")
    if (kind := path.suffix.lower()) not in known:
        raise InputError(f"{path}: give the folder of a run or a file ({', '.join(known.names())})")
    variables, labels = known.get(kind)(path, model)
    return Source(variables, _digest(path), labels)


def recorded(config: TrainConfig, run: str | Path | None = None) -> TrainConfig:
    """Return a configuration that holds the digest of the weights it starts from.

    Args:
        config: What is to be trained.
        run: Folder of the training, or of all its folds, which knows the digest of weights that
            have moved since. Without one the digest of such weights stays open.

    Raises:
        InputError: As :func:`load_source`; or they are others than the configuration says.
    """
    init = config.init
    if init is None:
        return config
    if source_exists(init.source):
        digest: str | None = _checked(init, config.model).digest
    elif run is None:
        return config
    else:
        digest = _digest_of_moved(init, Path(run))
    return dataclasses.replace(config, init=dataclasses.replace(init, digest=digest))


def hold(config: TrainConfig, run: Path, *, begun: bool) -> None:
    """Keep the weights that a training starts from in its run, for when their source has moved.

    Args:
        config: What is trained; without ``init`` nothing is written.
        run: Folder of the training, which gets ``init.npz``.
        begun: Whether anything was learned from them yet; the file is left alone then.

    Raises:
        InputError: The weights cannot be read, or the file cannot be written.
    """
    init = config.init
    if init is None or (begun and RunFolder(run).init.exists()):
        return
    if source_exists(init.source):
        _write_held(RunFolder(run).init, _checked(init, config.model), init.source)
    elif (held := _held(init, run)) is not None:
        _write_held(RunFolder(run).init, held, init.source)


def warm_start(state: TrainState, config: TrainConfig, run: Path | None = None) -> TrainState:
    """Put weights that are there already in the place of the ones drawn at random.

    With ``config.init.new_head`` the layers stay as drawn whose size depends on the number of
    outputs, and the first layer where the number of input channels is another one.

    Args:
        state: The state before the first step.
        config: What is to be trained; without ``init`` the state is returned as it is.
        run: Folder of the training, whose copy is taken where the source has moved.

    Raises:
        InputError: A layer is missing, unknown or of another shape; the message names it, both
            shapes and what to do.
    """
    if config.init is None:
        return state
    source = _source(config.init, config.model, run)
    old = _flat(source.variables)
    new = _flat(jax.device_get(state.training_variables))
    kept = _drawn_anew(config, old, new) if config.init.new_head else frozenset()
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

    Gradients are clipped by the norm of those that are left. For the running statistics of batch
    norms see :func:`freeze_norms`.

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


def freeze_norms(train_step: TrainStep, patterns: Sequence[str]) -> TrainStep:
    """Let the batch norms whose parameters are all frozen compute as they do in evaluation.

    They normalise by their running statistics, not by those of the batch, and leave them as they
    are; dropout goes on as before.

    Args:
        train_step: As from :func:`segjax.train.step.make_train_step`, not called yet.
        patterns: As for :func:`freeze`.

    Returns:
        A jitted step; the very same one where there are no patterns.

    Example:
        >>> from segjax.train import Loss, make_train_step
        >>> train_step = make_train_step(models.create("mpunet++"), Loss(), optax.adam(1e-3))
        >>> frozen = freeze_norms(train_step, ["^X00/"])
    """
    if not patterns:
        return train_step

    def frozen(
        state: TrainState,
        images: Float[Any, "batch *spatial channel"],
        labels: Integer[Any, "batch *spatial"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, Metrics]:
        norms = _frozen_norms(state, patterns)

        def evaluate(call: Any, args: Any, options: Any, context: Any) -> Any:
            still = context.method_name == "__call__" and context.module.path in norms
            return call(*args, **(options | {"train": False} if still else options))

        with nn.intercept_methods(evaluate):
            return train_step(state, images, labels, key)

    return jax.jit(frozen, donate_argnums=0)


def _frozen_norms(state: TrainState, patterns: Sequence[str]) -> set[Place]:
    """Return the layers with running statistics whose norm has no parameter left to train."""
    places = list(_flat(state.params))
    frozen = _matching(patterns, ["/".join(place) for place in places])
    layers = {place[:-1] for place in _flat(state.batch_stats)}
    free = {place[:-1] for place in places if "/".join(place) not in frozen and _of_norm(place)}
    return layers - free


def _of_norm(place: Place) -> bool:
    """Tell a norm's parameters from those of the convolution before it."""
    return place[-1] not in ("kernel", "bias")


def _matching(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise InputError(f"freeze '{pattern}': no regular expression ({error})") from error
        if not matched:
            raise InputError(
                f"freeze '{pattern}': finds none of the parameters {listed(sorted(names), _SHOWN)}"
            )
        found |= matched
    if len(found) == len(names):
        raise InputError(f"freeze {listed(patterns, _SHOWN)}: nothing would be left to train")
    return found


def _source(init: InitConfig, model: str, run: Path | None) -> Source:
    held = None if run is None or source_exists(init.source) else _held(init, run)
    return _checked(init, model) if held is None else held


def _digest_of_moved(init: InitConfig, run: Path) -> str | None:
    """Return the digest of weights that are no longer where a training took them from."""
    if (held := _held(init, run)) is not None:
        return held.digest
    before = read_config(run).init if RunFolder(run).config.exists() else None
    if before is not None and _is_it(init, before.source, before.digest):
        return before.digest
    raise InputError(f"{model_path(init.source)}: no such file or folder to start from")


def _held(init: InitConfig, run: Path) -> Source | None:
    """Read the weights of a source that moved, from a run or from folds that began with them."""
    own = RunFolder(run)
    for folder in (own, *own.folds, *own.other_folds):
        if folder.init.exists():
            name, source = _read_held(folder.init)
            if _is_it(init, name, source.digest):
                return source
    return None


def _is_it(init: InitConfig, source: str, digest: str | None) -> bool:
    return source == init.source and init.digest in (None, digest)


def _write_held(path: Path, source: Source, name: str) -> None:
    said = {"source": name, "digest": source.digest, "labels": source.labels or ()}
    content: dict[str, Any] = {key: np.array(value, str) for key, value in said.items()}
    content |= {"/".join(place): array for place, array in _flat(source.variables).items()}
    with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **content)


def _read_held(path: Path) -> tuple[str, Source]:
    """Return the source's name, and the weights that were there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        labels = tuple(content["labels"].tolist()) or None
        arrays = {tuple(n.split("/")): array for n, array in content.items() if "/" in n}
        source = Source(_nested(arrays), str(content["digest"]), labels)
        return str(content["source"]), source
    except _DAMAGE as error:
        raise InputError(
            f"{path}: damaged ({error}); put the weights back where they were, and remove it"
        ) from error


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
    check_model(path, config.model, model)
    variables = load_variables(path)
    digest = hashlib.sha256()
    for place, array in sorted(_flat(variables).items()):
        digest.update(f"{'/'.join(place)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return Source(variables, digest.hexdigest(), config.labels)


def _of_torch(path: Path, model: str) -> tuple[dict[str, Any], None]:
    from segjax.models import from_torch

    try:
        variables = from_torch(model, torch_files.read_state_dict(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return variables, None


for _suffix in torch_files.SUFFIXES:
    register("weights", _suffix, _of_torch)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_model(path: Path, there: str, wanted: str) -> None:
    """Raise InputError where a file holds another network than the one that is to be trained."""
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


def _drawn_anew(config: TrainConfig, old: Arrays, new: Arrays) -> frozenset[Place]:
    """Return what a new head replaces: the head, and the stem where the channels are others."""
    layers = _layers(config)
    differs = any(_differs(old, new, place) for place in layers.stem)
    return layers.head | (layers.stem if differs else frozenset())


def _shapes(config: TrainConfig, more_in: int, more_out: int) -> dict[Place, tuple[int, ...]]:
    """Return the shapes of all variables of a network of more channels."""
    channels = config.in_channels + more_in
    ends = {"in_channels": channels, "out_channels": config.out_channels + more_out}
    model = models.create(config.model, **config.interface | ends)
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
        names = listed(["/".join(place) for place in unequal], _SHOWN)
        raise InputError(f"{path}: holds another network than {config.model}: {where} {names}")
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
