"""From a trained network to one ONNX file."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Float32

import segjax
from segjax import models
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.models import ops
from segjax.models.network import Network, built_on_ops, name_of
from segjax.train.checkpoints import load_variables
from segjax.train.config import TrainConfig, read_config
from segjax.train.inputs import read_seen
from segjax.train.network import handed
from segjax_onnx.predict.digest import sealed
from segjax_onnx.predict.metadata import KEY, ModelMetadata
from segjax_onnx.predict.runtime import CPU, first_line, open_session
from segjax_onnx.write import primitives
from segjax_onnx.write.card import Card
from segjax_onnx.write.halved import halve_softmax
from segjax_onnx.write.phases import part_transposed
from segjax_onnx.write.stages import described, halo_of
from segjax_onnx.write.weights import WEIGHTS_KEY, describe_weights

if TYPE_CHECKING:
    import onnx

Variables = Mapping[str, Any]

TOLERANCE = 1e-4
"""The largest difference from JAX, of a probability, that an exported network may have."""

_OPSETS = range(17, 22)
_AXES = {2: ("height", "width"), 3: ("x", "y", "z")}
_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "softmax": primitives.softmax,
    "sigmoid": primitives.sigmoid,
}


def to_onnx(
    model: Network, variables: Variables, *, metadata: ModelMetadata, opset: int = 18
) -> "onnx.ModelProto":
    """Convert a network to ONNX.

    The graph maps ``image`` ``(batch, channel, *spatial)`` to ``probabilities``
    ``(batch, label, *spatial)``, float32. Batch and spatial sizes are free, these as multiples of
    ``metadata.size_multiple``. Norms of running statistics are folded into the convolutions; what
    that takes away travels as text, for :func:`segjax_onnx.read_variables`, beside the
    metadata. The same network gives the same bytes.

    Args:
        model: A network of `segjax.models`.
        variables: Its variables, concrete arrays.
        metadata: What the file says of the network.
        opset: ONNX operator set, 17 to 21.

    Returns:
        The model, whole: no data lie outside of it.

    Raises:
        InputError: If the metadata contradict the network, or the opset is none of these.

    Example:
        >>> from segjax_onnx import read_metadata, read_variables
        >>> model, variables = models.create("mpunet++"), read_variables("model.onnx")
        >>> proto = to_onnx(model, variables, metadata=read_metadata("model.onnx"))
        >>> proto.graph.input[0].name
        'image'
    """
    _check(model, metadata, opset)
    return _attach(convert(model, variables, metadata.activation, opset), metadata, variables)


def export_onnx(
    run: str | Path,
    path: str | Path,
    *,
    which: Literal["best", "last"] = "best",
    overwrite: bool = False,
    opset: int = 18,
    network: nn.Module | None = None,
    card: Card | None = None,
) -> Path:
    """Write the network of a run as one ONNX file.

    Before anything is written, onnxruntime and JAX compute probabilities of random images of two
    shapes, which must agree to `TOLERANCE`.

    Args:
        run: The folder of a training.
        path: The file to write, ``….onnx``.
        which: The checkpoint, ``"best"`` by validation Dice or ``"last"``.
        overwrite: Whether to replace the file.
        opset: ONNX operator set, 17 to 21.
        network: Of a run that was trained with one that has no name: the same again.
        card: What people decide about it.

    Returns:
        The file.

    Raises:
        InputError: If the run cannot be read, the file exists or cannot be written, or the
            exported network does not compute what JAX does.

    Example:
        >>> export_onnx("run", "best.onnx")
        PosixPath('best.onnx')
    """
    run, path = Path(run), checked_name(path)
    with atomic_path(path, overwrite=overwrite) as temporary:
        with handed(read_config(run), network=network) as config:
            model = models.create(config.model, **config.interface)
        variables = load_variables(run, which)
        metadata = dataclasses.replace(_describe(config, model, which), seen=read_seen(run))
        metadata = (card or Card()).fill(metadata)
        temporary.write_bytes(checked_bytes(model, variables, metadata=metadata, opset=opset))
    return path


def checked_name(path: str | Path) -> Path:
    """Return the path of an ONNX file.

    Raises:
        InputError: It does not end in ``.onnx``.
    """
    if Path(path).suffix != ".onnx":
        raise InputError(f"{path}: give the file a name that ends in .onnx")
    return Path(path)


def checked_bytes(
    model: Network, variables: Variables, *, metadata: ModelMetadata, opset: int
) -> bytes:
    """Convert a network as :func:`to_onnx` does, and compare its answers with those of JAX.

    Raises:
        InputError: As :func:`to_onnx`; or the answers differ by more than `TOLERANCE`.
    """
    proto = to_onnx(model, variables, metadata=metadata, opset=opset)
    metadata = dataclasses.replace(metadata, local=built_on_ops(model))
    proto = _attach(proto, described(metadata, proto), variables)
    _check_parity(proto, model, variables, metadata.activation)
    return sealed(proto.SerializeToString(deterministic=True))


def _describe(config: TrainConfig, model: Network, which: str) -> ModelMetadata:
    """Return what a run's configuration says of its network."""
    settings = config.to_json()
    training = {name: settings[name] for name in ("epochs", "seed", "loss", "optimizer")}
    return ModelMetadata(
        model=config.model,
        labels=config.labels,
        activation=config.activation,
        spatial_dims=model.spatial_dims,
        in_channels=config.in_channels,
        patch_size=config.patch_size[: model.spatial_dims],
        overlap=config.overlap,
        batch_size=config.batch_size,
        size_multiple=model.size_multiple,
        pipeline=config.pipeline.to_json(),
        segjax_version=segjax.__version__,
        training={"run": config.name, "checkpoint": which, **training},
    )


def _check(model: Network, metadata: ModelMetadata, opset: int) -> None:
    if opset not in _OPSETS:
        raise InputError(f"opset {opset}: give one from {_OPSETS[0]} to {_OPSETS[-1]}")
    for name in ("spatial_dims", "in_channels", "out_channels", "size_multiple"):
        told, actual = getattr(metadata, name), getattr(model, name)
        if told != actual:
            raise InputError(f"metadata: {name} is {told}, but that of the network is {actual}")


def convert(model: Network, variables: Variables, activation: str, opset: int) -> "onnx.ModelProto":
    """Trace a network with the ONNX forms, and let jax2onnx write the graph, without metadata.

    Raises:
        InputError: The network is not built on :mod:`segjax.models.ops`, and jax2onnx cannot.
    """
    import jax2onnx

    arrays = jax.tree.map(np.asarray, variables)
    activate, on_ops = _ACTIVATIONS[activation], built_on_ops(model)

    def probabilities(images: jax.Array) -> jax.Array:
        if not on_ops:
            logits = model.apply(arrays, jnp.moveaxis(images, 1, -1))
            return activate(jnp.moveaxis(logits, -1, 1))
        with ops.use(primitives.onnx_forms):
            return activate(model.apply(arrays, images))

    primitives.register()
    space = [f"{model.size_multiple}*{axis}" for axis in _AXES[model.spatial_dims]]
    try:
        proto = jax2onnx.to_onnx(
            probabilities,
            [("batch", model.in_channels, *space)],
            model_name="segjax",
            opset=opset,
            input_names=["image"],
            output_names=["probabilities"],
        )
    except Exception as error:
        if on_ops:
            raise
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"jax2onnx cannot convert {name_of(model)} ({why})") from error
    halve_softmax(proto)
    if model.spatial_dims == 2 and halo_of(proto) is None:  # else tiles are planned by its nodes
        part_transposed(proto)
    del proto.graph.value_info[:]  # every runtime infers shapes for itself
    return proto


def _attach(
    proto: "onnx.ModelProto", metadata: ModelMetadata, variables: Variables
) -> "onnx.ModelProto":
    import onnx

    proto.producer_name = "segjax"
    proto.producer_version = metadata.segjax_version
    weights = describe_weights(proto, variables)
    onnx.helper.set_model_props(proto, {KEY: metadata.to_json(), WEIGHTS_KEY: weights})
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _check_parity(
    proto: "onnx.ModelProto", model: Network, variables: Variables, activation: str
) -> None:
    """Refuse a network that computes something else than JAX, at two shapes."""
    session = open_session(proto.SerializeToString(), providers=[CPU])
    rng = np.random.default_rng(0)
    # A norm over the few voxels that small images leave at the lowest level magnifies rounding.
    for batch, factors in ((1, (4, 4, 4)), (2, (5, 4, 3))):
        space = [factor * model.size_multiple for factor in factors[: model.spatial_dims]]
        images = rng.standard_normal((batch, *space, model.in_channels), np.float32)
        (found,) = session.run(None, {"image": np.moveaxis(images, -1, 1)})
        expected = _reference(model, variables, activation, images)
        difference = float(np.abs(np.moveaxis(found, 1, -1) - expected).max())
        if not difference <= TOLERANCE:
            raise InputError(
                f"the exported {name_of(model)} differs from JAX by {difference:.2g} "
                f"(at most {TOLERANCE:g} is allowed) on images of shape {images.shape}: nothing "
                "was written"
            )


def _reference(
    model: Network,
    variables: Variables,
    activation: str,
    images: Float32[np.ndarray, "batch *spatial channel"],
) -> Float[np.ndarray, "batch *spatial label"]:
    """Compute probabilities in JAX, at full precision."""
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(model.apply)(variables, images)
    function = jax.nn.softmax if activation == "softmax" else jax.nn.sigmoid
    return np.asarray(function(logits))
