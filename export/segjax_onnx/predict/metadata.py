"""What travels inside an ONNX file: all that turns a volume into a mask with it."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from jaxtyping import Float32

from segjax.codec import Check, Record, check_fields, from_json, to_json
from segjax.data.patches import gaussian_window
from segjax.data.seen import Seen
from segjax.errors import InputError
from segjax.files import write_json
from segjax.pretrained.shipped import model_path
from segjax.text import brief
from segjax_onnx.predict.postprocess import LabelRule
from segjax_onnx.predict.runtime import CPU, open_session
from segjax_onnx.predict.stages import Stage

__all__ = [
    "FORMAT_VERSION",
    "KEY",
    "About",
    "Code",
    "HalfPrecision",
    "ModelMetadata",
    "Structure",
    "Window",
    "metadata_of",
    "read_metadata",
    "together",
    "write_sidecar",
]

KEY = "segjax"
"""The name under which the file's metadata holds the JSON text."""

FORMAT_VERSION = 1
"""Of the metadata that are written; files of segjax 0.1 have none, which counts as 0."""

_COLOURS = (
    (86, 180, 233), (0, 158, 115), (0, 114, 178), (230, 159, 0),
    (213, 94, 0), (240, 228, 66), (204, 121, 167),
)  # fmt: skip
_MOST_VOXELS = 2**31  # of a patch: no machine runs larger ones

_Count = Annotated[int, Check(lambda n: 1 <= n < 2**31, "a whole number from 1 up")]
_Counts = tuple[_Count, ...]
_Positive = Annotated[float, Check(lambda x: x > 0, "a number over 0")]
_Byte = Annotated[int, Check(lambda n: 0 <= n <= 255, "a whole number from 0 to 255")]
_Share = Annotated[float, Check(lambda x: 0 <= x < 1, "a number from 0 to below 1")]
_Dice = Annotated[float, Check(lambda x: 0 <= x <= 1, "a number from 0 to 1")]
_Name = Annotated[str, Check(lambda text: bool(text.strip()), "text that is not empty")]
_Steps: Any = Annotated[
    list,
    Check(
        lambda steps: all(isinstance(s, dict) and isinstance(s.get("step"), str) for s in steps),
        "a list of objects with 'step'",
    ),
]
_Free: Any = Annotated[dict, Check(lambda _: True, "an object")]
_UNSEEN = {"pipeline": _Steps, "training": _Free, "others": _Free}


@dataclass(frozen=True)
class _Open(Record):
    """A record that keeps the fields that it does not know."""

    others: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> dict[str, Any]:
        plain = super().to_json()
        return {**plain.pop("others"), **plain}

    @classmethod
    def from_json(cls, plain: Any) -> Any:
        if not isinstance(plain, Mapping):
            raise InputError(f"must be an object, not {brief(plain)}")
        return super().from_json(_gathered(cls, plain))


def _gathered(cls: Any, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Put the fields that a class does not know under ``others``."""
    names = {one.name for one in dataclasses.fields(cls)} - {"others"}
    known = {name: value for name, value in plain.items() if name in names}
    return {**known, "others": {n: value for n, value in plain.items() if n not in names}}


@dataclass(frozen=True)
class Window(Record):
    """How a patch's voxels are weighed where patches overlap.

    Attributes:
        function: ``"gaussian"``: max(floor, exp(−½ Σᵢ (xᵢ / (sigma · patchᵢ))²)) with xᵢ the
            distance from the centre in voxels; or ``"constant"``: 1.
        sigma: Of a Gaussian, as a share of the patch.
        floor: Of a Gaussian, the least weight.

    Example:
        >>> Window().to_json()
        {'function': 'gaussian', 'sigma': 0.125, 'floor': 0.001}
    """

    function: Literal["gaussian", "constant"] = "gaussian"
    sigma: _Positive = 0.125
    floor: _Positive = 0.001

    def __post_init__(self) -> None:
        check_fields(self)

    def weights(self, patch_size: Sequence[int]) -> Float32[np.ndarray, "*patch"]:
        """Return the weights of a patch's voxels.

        Example:
            >>> Window("constant").weights((2,)).tolist()
            [1.0, 1.0]
        """
        if self.function == "constant":
            return np.ones(patch_size, np.float32)
        return gaussian_window(patch_size, sigma=self.sigma, floor=self.floor)


@dataclass(frozen=True)
class Code(_Open):
    """What a label means in a coding scheme.

    Attributes:
        scheme: As DICOM designates it, such as ``"SCT"`` for SNOMED CT.
        value: The code.
        meaning: The scheme's words for it.

    Example:
        >>> Code("SCT", "52988006", "Lesion").to_json()
        {'scheme': 'SCT', 'value': '52988006', 'meaning': 'Lesion'}
    """

    scheme: _Name
    value: _Name
    meaning: _Name


@dataclass(frozen=True)
class Structure(_Open):
    """How viewers show a label, and what it means.

    Attributes:
        color: Red, green and blue, 0 to 255.
        code: None where nobody gave one.

    Example:
        >>> Structure((230, 159, 0)).code is None
        True
    """

    color: tuple[_Byte, _Byte, _Byte]
    code: Code | None = None


@dataclass(frozen=True)
class About(_Open):
    """What people need to know of a network before they use it; None is not told.

    Attributes:
        license: Name of the licence, by preference as SPDX has it.
        citation: What to cite.
        intended_use: What it is for, and what not.
        training_data: What it was trained on.
        dice: By label, how well it did on images that it was not trained on.
        url: Where more stands.

    Example:
        >>> About(license="CC-BY-4.0", dice={"lesion": 0.74}).citation is None
        True
    """

    license: str | None = None
    citation: str | None = None
    intended_use: str | None = None
    training_data: str | None = None
    dice: Mapping[str, _Dice] | None = None
    url: str | None = None


@dataclass(frozen=True)
class HalfPrecision(_Open):
    """What weights of 16 bits cost.

    Attributes:
        dice: By label, of the mask against that of 32 bits.

    Example:
        >>> HalfPrecision({"lesion": 0.9999}).to_json()
        {'dice': {'lesion': 0.9999}}
    """

    dice: Mapping[str, _Dice] = field(default_factory=dict)


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
        channels: Names of the channels of the input; by default "channel 0", "channel 1", ….
        optional_channels: Those of them that may be missing: they are then 0 after preprocessing.
        padding: Value beyond the volume, after preprocessing: 0.
        window: Weights where patches overlap.
        averaging: What is averaged there.
        halo: Of a local network: how many voxels beyond an output, along each axis, it depends on.
        stages: Of a local network: parts of its graph that run one after another, in less memory
            than the whole.
        bytes_per_voxel: Of a local network: memory that it takes while it runs in one piece; 0
            is not told.
        postprocessing: A rule for each label after the background; none where the mask is the
            most probable label.
        structures: Colour and code of each label after the background; by default colours alone.
        about: Licence, citation, intended use and the like.
        float16: Of weights of 16 bits, what they cost.
        inside: What the graph does itself, beyond the network.
        format_version: Of the file that was read.
        others: Fields that this version of segjax does not know; they are written again.

    Raises:
        InputError: If a value is not of its type or range, or values contradict one another.

    Example:
        >>> metadata = ModelMetadata(
        ...     model="unet3d", labels=("background", "lesion"), activation="softmax",
        ...     spatial_dims=3, in_channels=1, patch_size=(64, 64, 64), overlap=0.5, batch_size=1,
        ...     size_multiple=16, pipeline=[], segjax_version="0.1.0", local=False, training={})
        >>> ModelMetadata.from_json(metadata.to_json()) == metadata
        True
    """

    model: str
    labels: Annotated[tuple[_Name, ...], Check(lambda n: 2 <= len(n) <= 256, "2 to 256 names")]
    activation: Annotated[str, Check(lambda a: a in ("softmax", "sigmoid"), "softmax or sigmoid")]
    spatial_dims: Annotated[int, Check(lambda n: n in (2, 3), "2 or 3")]
    in_channels: _Count
    patch_size: _Counts
    overlap: _Share
    batch_size: _Count
    size_multiple: _Count
    pipeline: list[dict[str, Any]]
    segjax_version: str
    local: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    seen: Seen | None = None
    channels: tuple[_Name, ...] = ()
    optional_channels: tuple[str, ...] = ()
    padding: Annotated[float, Check(lambda x: x == 0, "0")] = 0
    window: Window = Window()
    averaging: Literal["probabilities"] = "probabilities"
    halo: tuple[Annotated[int, Check(lambda n: n >= 0, "0 or more")], ...] | None = None
    stages: tuple[Stage, ...] = ()
    bytes_per_voxel: Annotated[float, Check(lambda x: x >= 0, "0 or more")] = 0.0
    postprocessing: tuple[LabelRule, ...] = ()
    structures: tuple[Structure, ...] = ()
    about: About = About()
    float16: HalfPrecision | None = None
    inside: tuple[Literal["z-score", "min-max", "argmax"], ...] = ()
    format_version: int = FORMAT_VERSION
    others: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            self._set(name, from_json(kind, getattr(self, name), where=name))
        if not self.channels:
            self._set("channels", tuple(f"channel {i}" for i in range(self.in_channels)))
        if not self.structures:
            colours = (_COLOURS[i % len(_COLOURS)] for i in range(len(self.labels) - 1))
            self._set("structures", tuple(map(Structure, colours)))
        for name, holds, words in self._agreements():
            if not holds:
                raise InputError(f"{name} must {words}, not {brief(getattr(self, name))}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _agreements(self) -> list[tuple[str, bool, str]]:
        """Return which field has to agree with others, whether it does, and how."""
        rank, labels = self.spatial_dims, len(self.labels) - 1
        halo, rules = self.halo, len(self.postprocessing)
        two = labels == 1 or self.activation == "softmax"
        return [
            ("patch_size", len(self.patch_size) == rank, f"have {rank} numbers"),
            ("patch_size", math.prod(self.patch_size) < _MOST_VOXELS, "be less than 2³¹ voxels"),
            ("labels", two, "be the background and one label, as activation is sigmoid"),
            ("channels", len(self.channels) == self.in_channels, "have in_channels names"),
            ("channels", len(set(self.channels)) == self.in_channels, "differ from one another"),
            ("optional_channels", {*self.channels} >= {*self.optional_channels}, "be of channels"),
            ("halo", halo is None or len(halo) == rank, f"have {rank} numbers, or be null"),
            ("halo", halo is None or self.local, "be null, as the network is not local"),
            ("postprocessing", rules in (0, labels), "have a rule for each label after the first"),
            ("structures", len(self.structures) == labels, "have one for each label but the first"),
        ]

    @property
    def out_channels(self) -> int:
        """The number of probabilities per voxel."""
        return 1 if self.activation == "sigmoid" else len(self.labels)

    def to_json(self) -> str:
        """Return the JSON text of one line, its keys sorted, in the newest version."""
        plain: dict[str, Any] = {n: to_json(getattr(self, n), where=n) for n in _kinds()}
        plain = {**plain.pop("others"), **plain, "format_version": FORMAT_VERSION}
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read what `to_json` wrote, or an earlier version; unknown fields are kept.

        Raises:
            InputError: If it is no such text: not JSON, of a later version, or with missing or
                wrong fields.
        """
        plain = _read_object(text)
        try:
            return cls._of(plain)
        except InputError as error:
            raise InputError(f"the segjax metadata cannot be used: {error}") from error

    @classmethod
    def _of(cls, plain: Mapping[str, Any]) -> "ModelMetadata":
        version = from_json(int, plain.get("format_version", 0), where="format_version")
        if not 0 <= version <= FORMAT_VERSION:
            raise InputError(
                f"format_version is {version}, and this segjax reads up to {FORMAT_VERSION}; "
                "install a newer one: pip install --upgrade segjax"
            )
        fields = {**_gathered(cls, plain), "format_version": version}
        needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory]
        if missing := [name for name in needed if name not in fields]:
            raise InputError(f"field {', '.join(missing)} is missing")
        kinds = _kinds()
        return cls(**{name: from_json(kinds[name], v, where=name) for name, v in fields.items()})


_UNLESS_ALIKE: dict[str, Any] = {
    "structures": (),
    "about": About(),
    "stages": (),
    "float16": HalfPrecision(),
    "others": {},
}


@functools.cache
def _kinds() -> dict[str, Any]:
    """Return the types of the fields as the codec reads them."""
    return {**get_type_hints(ModelMetadata, include_extras=True), **_UNSEEN}


def _read_object(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        values = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the segjax metadata are no JSON text ({error})") from error
    if not isinstance(values, dict):
        raise InputError("the segjax metadata are no JSON object")
    return values


def together(networks: Sequence[ModelMetadata]) -> ModelMetadata:
    """Return what networks have in common that answer together, which agree in the rest.

    What people say about them stays where all say the same.

    Args:
        networks: At least one.
    """
    first, halos = networks[0], [one.halo for one in networks if one.halo is not None]
    differing = {
        name: default
        for name, default in _UNLESS_ALIKE.items()
        if any(getattr(one, name) != getattr(first, name) for one in networks)
    }
    return dataclasses.replace(
        first,
        **differing,
        size_multiple=math.lcm(*(one.size_multiple for one in networks)),
        local=all(one.local for one in networks),
        halo=tuple(map(max, zip(*halos, strict=True))) if len(halos) == len(networks) else None,
        bytes_per_voxel=max(one.bytes_per_voxel for one in networks),
    )


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read the metadata of an exported network, with onnxruntime alone.

    Args:
        path: The ONNX file, or the name of a model that comes with segjax.

    Raises:
        InputError: If the file is missing, is no ONNX, or was not exported by segjax.

    Example:
        >>> read_metadata("missing.onnx")
        Traceback (most recent call last):
            ...
        segjax.errors.InputError: missing.onnx: no such file
    """
    path = model_path(path)
    return metadata_of(open_session(path, providers=[CPU], optimize=False), path)


def metadata_of(session: Any, path: str | Path) -> ModelMetadata:
    """Read the metadata of an opened network; `path` is for the message of an error."""
    try:
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: its metadata are no text; the file is damaged") from error
    if text is None:
        raise InputError(
            f"{path}: an ONNX file without segjax metadata; use one that `segjax export` wrote"
        )
    try:
        return ModelMetadata.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_sidecar(path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the metadata of an exported network beside it, for readers that cannot open them.

    Args:
        path: The ONNX file.
        overwrite: Whether to replace the file.

    Returns:
        The JSON file, of the same name.

    Raises:
        InputError: As :func:`read_metadata`; or the file exists or cannot be written.

    Example:
        >>> write_sidecar("model.onnx")
        PosixPath('model.json')
    """
    beside = Path(path).with_suffix(".json")
    write_json(json.loads(read_metadata(path).to_json()), beside, overwrite=overwrite)
    return beside
