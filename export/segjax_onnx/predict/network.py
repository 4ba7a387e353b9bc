"""Exported networks, opened: one alone, or several that answer together."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.pretrained.shipped import model_path
from segjax.runs.folder import RunFolder
from segjax_onnx.predict.digest import checked
from segjax_onnx.predict.metadata import ModelMetadata, metadata_of, together
from segjax_onnx.predict.pieces import Features, Plan, run, whole_of
from segjax_onnx.predict.runtime import CPU, first_line, freeing, open_session, usable_threads
from segjax_onnx.predict.stages import Stage
from segjax_onnx.predict.subgraph import subgraph
from segjax_onnx.predict.unexported import what_to_do


@dataclass(frozen=True, eq=False)
class Network:
    """One exported network.

    Attributes:
        path: Its file, for messages.
        session: Of onnxruntime.
        metadata: What the file says of it.
        pipeline: Its preprocessing.
        mirrored: Axes of a batch along which it sees its patches mirrored.
        options: How its file was opened.
        at_once: Windows that are run beside one another, with so many threads each.
    """

    path: str | Path
    session: Any
    metadata: ModelMetadata
    pipeline: Pipeline
    mirrored: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    at_once: int = 1
    _parts: dict[tuple[str, ...], Any] = field(default_factory=dict)

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
        images = np.ascontiguousarray(np.moveaxis(np.flip(patches, self.mirrored), -1, 1))
        shape = patches.shape[1:-1]
        if self.metadata.inside and len(shape) > rank:
            raise InputError(f"{self.path}: preprocesses pictures itself, and takes no volumes")
        feed = {"image": images.reshape(images.shape[: 2 + rank])}
        if self.metadata.inside:
            behind = [-n % self.metadata.size_multiple for n in shape]
            feed["pads"] = np.array([0] * (4 + rank) + behind)
        (output,) = self._call(self.session, ["probabilities"], feed)
        unpadded: tuple[Any, ...] = (..., *map(slice, shape[:rank]))
        output = output[unpadded]
        output = output.reshape(*output.shape[:2], *shape)
        return np.flip(np.moveaxis(output, 1, -1), self.mirrored)

    def run_whole(
        self,
        image: Float32[np.ndarray, "*spatial channel"],
        plan: Plan,
        *,
        batch_size: int = 1,
        tick: Callable[[], object] = lambda: None,
    ) -> Float32[np.ndarray, "*spatial label"]:
        """Take a whole volume through the network, as :func:`segjax_onnx.predict.pieces.run` does.

        Args:
            image: A volume.
            plan: How.
            batch_size: Slices of a network of two axes in one call.
            tick: Called before each call.

        Raises:
            InputError: If the CPU fails.

        Warns:
            UserWarning: If a GPU fails.
        """

        def call(stage: Stage, arrays: Mapping[str, Features]) -> list[Features]:
            tick()
            return self._call(self._session(stage), list(stage.outputs), arrays, options)

        options = [freeing()] if plan.tight else []
        axes = tuple(axis - 1 for axis in self.mirrored)
        mirrored = np.flip(image, axes)
        found = run(mirrored, self.metadata, plan, call, batch_size=batch_size)
        return np.flip(found, axes)

    def _session(self, stage: Stage) -> Any:
        """Return the session of a part of the graph, which is opened once."""
        if stage == whole_of(self.metadata):
            return self.session
        key = tuple(stage.outputs)
        if key not in self._parts:
            model = checked(self.path, str(self.path))
            part = subgraph(model, stage.inputs, stage.outputs)
            self._parts[key] = open_session(part, **self.options)
        return self._parts[key]

    def _call(
        self,
        session: Any,
        outputs: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        options: Sequence[Any] = (),
    ) -> list[np.ndarray]:
        try:
            return session.run(outputs, dict(arrays), *options)
        except Exception as error:  # onnxruntime's errors share no class of their own
            device = session.get_providers()[0]
            shape = next(iter(arrays.values())).shape
            failure = (
                f"{self.path}: {device} failed on a batch of shape {shape}; smaller "
                f"patches or batches need less memory ({first_line(error)})"
            )
            if device == CPU:
                raise InputError(failure) from error
        share = "; beside JAX, XLA_CLIENT_MEM_FRACTION=.5 leaves it more"
        shared = share if "jax" in sys.modules else ""
        warnings.warn(f"{failure}{shared}: using {CPU}", stacklevel=3)
        session.set_providers([CPU])
        return self._call(session, outputs, arrays, options)


def open_network(
    path: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None
) -> Network:
    """Open a file.

    Raises:
        InputError: If it is no network of segjax, or its preprocessing cannot be understood.
    """
    options: dict[str, Any] = {"threads": threads, "providers": providers}
    session = open_session(path, **options)
    metadata = metadata_of(session, path)
    pipeline, at_once = _read_pipeline(path, metadata), 1
    on_cpu = session.get_providers()[0] == CPU
    if on_cpu and metadata.halo is None and not metadata.inside and usable_threads(threads) > 1:
        at_once = _AT_ONCE
        options["threads"] = usable_threads(threads) // at_once
        del session
        session = open_session(path, **options)
    return Network(path, session, metadata, pipeline, options=options, at_once=at_once)


def find_files(path: str | Path) -> tuple[str | Path, ...]:
    """Return the ONNX files that a path stands for.

    Args:
        path: An ONNX file; the folder of a run, which holds ``model.onnx``; that of a
            cross-validation, which holds ``fold0``, ``fold1``, … with one each; or the name of a
            model that comes with segjax.

    Raises:
        InputError: A folder holds none, the run of a fold has none yet, or a single word names
            nothing.
    """
    folder = model_path(path)
    if not folder.is_dir():
        return (folder,)
    files = [run.model for run in RunFolder(folder).folds or [RunFolder(folder)]]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file.parent}: holds no {file.name}; {what_to_do(file.parent)}")
    return tuple(files)


_AT_ONCE = 2  # windows: two with half of the threads are faster than one with all of them
_SAME = ("labels", "activation", "spatial_dims", "in_channels", "postprocessing", "inside")


def agreed(networks: Sequence[Network]) -> ModelMetadata:
    """Return what networks have in common that answer together.

    Raises:
        InputError: If they have other labels, outputs, inputs or ranks.
    """
    first, *others = networks
    for other in others:
        for name in _SAME:
            one, two = getattr(first.metadata, name), getattr(other.metadata, name)
            if one != two:
                raise InputError(
                    f"{other.path}: {name} is {_text(two)}, but {_text(one)} in {first.path}; "
                    "only networks of one task answer together"
                )
    return together([network.metadata for network in networks])


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
