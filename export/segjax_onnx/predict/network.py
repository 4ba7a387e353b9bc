"""Exported networks, opened: one alone, or several that answer together."""

import dataclasses
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.runs.folder import RunFolder
from segjax_onnx.predict.metadata import ModelMetadata, metadata_of
from segjax_onnx.predict.runtime import CPU, first_line, open_session
from segjax_onnx.predict.unexported import what_to_do


@dataclass(frozen=True, eq=False)
class Network:
    """One exported network.

    Attributes:
        path: Its file, for messages.
        session: Of onnxruntime.
        metadata: What the file says of it.
        pipeline: Its preprocessing.
    """

    path: str | Path
    session: Any
    metadata: ModelMetadata
    pipeline: Pipeline

    def run(
        self, patches: Float32[np.ndarray, "batch *patch channel"]
    ) -> Float32[np.ndarray, "batch *patch label"]:
        """Call the network, which takes channels first and may have one axis less.

        Where a GPU fails, for want of memory above all, the CPU does this call and those after.

        Raises:
            InputError: If the CPU fails.

        Warns:
            UserWarning: If a GPU fails.
        """
        rank = self.metadata.spatial_dims
        images = np.ascontiguousarray(np.moveaxis(patches, -1, 1))
        output = self._call(images.reshape(images.shape[: 2 + rank]))
        return np.moveaxis(output.reshape(*output.shape[:2], *patches.shape[1:-1]), 1, -1)

    def _call(
        self, images: Float32[np.ndarray, "batch channel *patch"]
    ) -> Float32[np.ndarray, "batch label *patch"]:
        try:
            return self.session.run(["probabilities"], {"image": images})[0]
        except Exception as error:  # onnxruntime's errors share no class of their own
            device = self.session.get_providers()[0]
            failure = (
                f"{self.path}: {device} failed on a batch of shape {images.shape}; smaller "
                f"patches or batches need less memory ({first_line(error)})"
            )
            if device == CPU:
                raise InputError(failure) from error
        share = "; beside JAX, XLA_CLIENT_MEM_FRACTION=.5 leaves it more"
        shared = share if "jax" in sys.modules else ""
        warnings.warn(f"{failure}{shared}: using {CPU}", stacklevel=3)
        self.session.set_providers([CPU])
        return self._call(images)


def open_network(
    path: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None
) -> Network:
    """Open a file.

    Raises:
        InputError: If it is no network of segjax, or its preprocessing cannot be understood.
    """
    session = open_session(path, threads=threads, providers=providers)
    metadata = metadata_of(session, path)
    return Network(path, session, metadata, _read_pipeline(path, metadata))


def find_files(path: str | Path) -> tuple[str | Path, ...]:
    """Return the ONNX files that a path stands for.

    Args:
        path: An ONNX file; the folder of a run, which holds ``model.onnx``; or that of a
            cross-validation, which holds ``fold0``, ``fold1``, … with one each.

    Raises:
        InputError: A folder holds none, or the run of a fold has none yet.
    """
    folder = Path(path)
    if not folder.is_dir():
        return (path,)
    files = [run.model for run in RunFolder(folder).folds or [RunFolder(folder)]]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file.parent}: holds no {file.name}; {what_to_do(file.parent)}")
    return tuple(files)


def agreed(networks: Sequence[Network]) -> ModelMetadata:
    """Return what networks have in common that answer together.

    Raises:
        InputError: If they have other labels, outputs, inputs or ranks.
    """
    first, *others = networks
    for other in others:
        for name in ("labels", "activation", "spatial_dims", "in_channels"):
            one, two = getattr(first.metadata, name), getattr(other.metadata, name)
            if one != two:
                raise InputError(
                    f"{other.path}: {name} is {_text(two)}, but {_text(one)} in {first.path}; "
                    "only networks of one task answer together"
                )
    metadata = [network.metadata for network in networks]
    return dataclasses.replace(
        first.metadata,
        size_multiple=math.lcm(*(one.size_multiple for one in metadata)),
        local=all(one.local for one in metadata),
    )


def check_patches(networks: Sequence[Network]) -> None:
    """Refuse networks that see a patch as a whole, and were trained on patches of other sizes.

    Raises:
        InputError: If they are such.
    """
    sizes = {network.metadata.patch_size: network.path for network in networks}
    if len(sizes) > 1 and not all(network.metadata.local for network in networks):
        said = " and ".join(f"{_text(size)} ({path})" for size, path in sizes.items())
        raise InputError(f"the networks were trained on patches of {said}: choose a patch size")


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_pipeline(path: str | Path, metadata: ModelMetadata) -> Pipeline:
    try:
        pipeline = Pipeline.from_json(metadata.pipeline)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not pipeline.fitted:
        raise InputError(f"{path}: its preprocessing was never fitted to images; export it again")
    return pipeline
