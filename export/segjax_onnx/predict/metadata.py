"""What travels inside an ONNX file: all that turns a volume into a mask with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from segjax.codec import from_json
from segjax.data.seen import Seen
from segjax.errors import InputError
from segjax_onnx.predict.runtime import CPU, first_line, open_session

KEY = "segjax"
"""The name under which the file's metadata holds the JSON text."""


@dataclass(frozen=True)
class ModelMetadata:
    """How a network was built, what it takes and what its outputs mean.

    Attributes:
        model: Name of the network in `segjax.models`.
        labels: Names of the label values 0, 1, …; the first is the background.
        activation: ``"softmax"`` (one probability per label) or ``"sigmoid"`` (one in all, that
            of label 1).
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: Channels of the input.
        patch_size: Size of the patches the network was trained on, in voxels.
        overlap: Fraction of a patch shared with the next one, in [0, 1).
        batch_size: Patches per batch that training used.
        size_multiple: Every spatial size of an input must be a multiple of it.
        pipeline: The preprocessing, as `segjax.data.prepare.pipeline.Pipeline.to_json` gives it.
        segjax_version: What wrote the file.
        local: Whether outputs depend only on voxels nearby. Such a network gives the same result
            on patches of any size; others (with instance statistics) want those of the training.
        training: How the network was trained, as JSON values.
        seen: Spacing, orientation and intensities of the images it was trained on; None in files
            that do not tell.

    Raises:
        InputError: If values contradict one another.

    Example:
        >>> metadata = ModelMetadata(
        ...     model="unet3d", labels=("background", "lesion"), activation="softmax",
        ...     spatial_dims=3, in_channels=1, patch_size=(64, 64, 64), overlap=0.5, batch_size=1,
        ...     size_multiple=16, pipeline=[], segjax_version="0.1.0", local=False, training={})
        >>> ModelMetadata.from_json(metadata.to_json()) == metadata
        True
    """

    model: str
    labels: tuple[str, ...]
    activation: str
    spatial_dims: int
    in_channels: int
    patch_size: tuple[int, ...]
    overlap: float
    batch_size: int
    size_multiple: int
    pipeline: list[dict[str, Any]]
    segjax_version: str
    local: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    seen: Seen | None = None

    def __post_init__(self) -> None:
        numbers = (self.in_channels, self.batch_size, self.size_multiple, *self.patch_size)
        _check(self.activation in ("softmax", "sigmoid"), "activation", self.activation)
        _check(self.spatial_dims in (2, 3), "spatial_dims", self.spatial_dims)
        _check(all(number >= 1 for number in numbers), "sizes", numbers)
        _check(len(self.patch_size) == self.spatial_dims, "patch_size", self.patch_size)
        _check(0 <= self.overlap < 1, "overlap", self.overlap)
        most = 2 if self.activation == "sigmoid" else 256
        _check(2 <= len(self.labels) <= most, "labels", self.labels)

    @property
    def out_channels(self) -> int:
        """The number of probabilities per voxel."""
        return 1 if self.activation == "sigmoid" else len(self.labels)

    def to_json(self) -> str:
        """Return the JSON text of one line, its keys sorted."""
        seen = None if self.seen is None else self.seen.to_json()
        return json.dumps({**asdict(self), "seen": seen}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read what `to_json` wrote.

        Raises:
            InputError: If it is no such text: not JSON, or with missing, unknown or wrong fields.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"the segjax metadata are no JSON text ({error})") from error
        if not isinstance(values, dict):
            raise InputError("the segjax metadata are no JSON object")
        _check_names(cls, values)
        try:
            decoded: dict[str, Any] = {n: tuple(values[n]) for n in ("labels", "patch_size")}
            decoded["seen"] = from_json(Seen | None, values.get("seen") or None, where="seen")
            return cls(**{**values, **decoded})
        except TypeError as error:
            raise InputError(
                f"the segjax metadata hold a wrong type ({first_line(error)})"
            ) from error


def _check(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise InputError(f"the segjax metadata hold {name} = {value!r}, which cannot be")


_LATER = {"seen"}  # fields that files of earlier versions lack


def _check_names(cls: type, values: Mapping[str, Any]) -> None:
    names = {f.name for f in fields(cls)}
    different = sorted((names ^ set(values)) - _LATER)
    if different:
        raise InputError(
            f"the segjax metadata have missing or unknown fields ({', '.join(different)}): "
            "the file needs another version of segjax"
        )


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read the metadata of an exported network, with onnxruntime alone.

    Args:
        path: The ONNX file.

    Raises:
        InputError: If the file is missing, is no ONNX, or was not exported by segjax.

    Example:
        >>> read_metadata("missing.onnx")
        Traceback (most recent call last):
            ...
        segjax.errors.InputError: missing.onnx: no such file
    """
    return metadata_of(open_session(path, providers=[CPU], optimize=False), path)


def metadata_of(session: Any, path: str | Path) -> ModelMetadata:
    """Read the metadata of an opened network; `path` is for the message of an error."""
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise InputError(
            f"{path}: an ONNX file without segjax metadata; use one that `segjax export` wrote"
        )
    try:
        return ModelMetadata.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
