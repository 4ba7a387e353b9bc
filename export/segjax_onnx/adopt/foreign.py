"""Networks that others trained, as files that segjax and every viewer of its files run."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segjax
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.models import from_torch
from segjax.models.torch_files import read_state_dict
from segjax.models.torch_weights import recognize
from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.write.card import Card
from segjax_onnx.write.convert import checked_bytes, checked_name

__all__ = ["Usage", "export_weights", "read_network"]

_PATCHES = {2: 512, 3: 64}  # of the two studies
_OVERLAP = 0.5


@dataclass(frozen=True)
class Usage:
    """What weights do not say of the network that they belong to.

    Attributes:
        names: What its outputs after the background mean, in order; by default "label 1",
            "label 2", …. A network of one output has one.
        pipeline: Preprocessing of the images that it was trained on, fitted; by default none.
        patch_size: Voxels that it sees at a time, multiples of the network's; by default 512 × 512,
            or 64³. U-Nets with instance norms want those of their training.
        card: Licence, citation, rules for the mask and the like.

    Example:
        >>> Usage(("meningioma",), patch_size=(512, 512)).pipeline.steps
        ()
    """

    names: tuple[str, ...] = ()
    pipeline: Pipeline = field(default_factory=Pipeline)
    patch_size: tuple[int, ...] | None = None
    card: Card = field(default_factory=Card)


def export_weights(
    weights: str | Path,
    path: str | Path,
    *,
    usage: Usage | None = None,
    overwrite: bool = False,
    opset: int = 18,
) -> Path:
    """Write a network as one ONNX file whose weights others trained with PyTorch.

    The network is recognised by the names and shapes of its weights: ``monai.networks.nets.UNet``
    with ``num_res_units=0`` and strides of 2, in 2D or 3D, and the MPU-Net++ of its authors. A
    network of one output answers by a sigmoid, others by a softmax. Before anything is written,
    onnxruntime and JAX compute probabilities of random images, which must agree.

    Args:
        weights: A state dict: ``.pt``, ``.pth``, ``.ckpt``, ``.bin`` or ``.safetensors``.
        path: The file to write, ``….onnx``.
        usage: What the weights do not say.
        overwrite: Whether to replace the file.
        opset: ONNX operator set, 17 to 21.

    Returns:
        The file.

    Raises:
        InputError: The file holds no weights or those of another network, the usage does not fit,
            or the file exists or cannot be written.

    Warns:
        UserWarning: No preprocessing is given.

    Example:
        >>> usage = Usage(("meningioma",), patch_size=(512, 512))
        >>> export_weights("monai.pt", "m.onnx", usage=usage)  # needs PyTorch  # doctest: +SKIP
        PosixPath('m.onnx')
    """
    weights, path, usage = Path(weights), checked_name(path), usage or Usage()
    with atomic_path(path, overwrite=overwrite) as temporary:
        name, network, variables = read_network(weights)
        metadata = _described(weights, name, network, usage)
        temporary.write_bytes(checked_bytes(network, variables, metadata=metadata, opset=opset))
    return path


def read_network(weights: str | Path) -> tuple[str, Any, Mapping[str, Any]]:
    """Read a network that others trained.

    Args:
        weights: As for :func:`export_weights`.

    Returns:
        Its name, the network and its variables.

    Raises:
        InputError: The file holds no weights, or those of another network.

    Example:
        >>> read_network("monai.pt")[0]  # needs PyTorch  # doctest: +SKIP
        'unet2d-k5'
    """
    state = read_state_dict(weights)
    try:
        name, network = recognize(state)
        return name, network, from_torch(network, state)
    except ValueError as error:
        raise InputError(f"{weights}: {error}") from error


def _described(weights: Path, name: str, network: Any, usage: Usage) -> ModelMetadata:
    if not usage.pipeline.steps:
        warnings.warn(
            f"{weights}: does not say how its images were preprocessed: they go into the network "
            "as they are; give the steps by --preset or --pipeline if there were any",
            stacklevel=3,
        )
    if not usage.pipeline.fitted:
        raise InputError(
            f"{weights}: the steps given for it have yet to learn from images: give them as a "
            "training or a cache keeps them, such as --pipeline run/config.json"
        )
    metadata = ModelMetadata(
        model=name,
        labels=_labels(weights, network, usage),
        activation="sigmoid" if network.out_channels == 1 else "softmax",
        spatial_dims=network.spatial_dims,
        in_channels=network.in_channels,
        patch_size=_patch_size(weights, network, usage),
        overlap=_OVERLAP,
        batch_size=1,
        size_multiple=network.size_multiple,
        pipeline=usage.pipeline.to_json(),
        segjax_version=segjax.__version__,
        training={"weights": weights.name, "sha256": _digest(weights)},
    )
    return usage.card.fill(metadata)


def _labels(weights: Path, network: Any, usage: Usage) -> tuple[str, ...]:
    count = max(1, network.out_channels - 1)
    names = usage.names or tuple(f"label {value}" for value in range(1, count + 1))
    if len(names) != count:
        raise InputError(
            f"{weights}: tells {count} labels from the background, but {len(names)} are named: "
            f"{', '.join(names)}"
        )
    return ("background", *names)


def _patch_size(weights: Path, network: Any, usage: Usage) -> tuple[int, ...]:
    rank, multiple = network.spatial_dims, network.size_multiple
    if usage.patch_size is None:
        return (-(-_PATCHES[rank] // multiple) * multiple,) * rank
    if len(usage.patch_size) != rank or any(n < 1 or n % multiple for n in usage.patch_size):
        raise InputError(
            f"{weights}: patch size {usage.patch_size}: the network takes {rank} multiples of "
            f"{multiple}"
        )
    return tuple(usage.patch_size)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
