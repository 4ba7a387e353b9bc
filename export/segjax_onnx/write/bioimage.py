"""An exported network as a package of the BioImage.IO Model Zoo."""

import hashlib
import io
import itertools
import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from segjax.data.io.formats import Source, read_image
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.spatial import crop_or_pad
from segjax.data.prepare.steps import MinMax, Resample, Rescale, Resize, Step, ZScore
from segjax.errors import InputError
from segjax.files import atomic_path, check_new
from segjax.pretrained.card import ModelCard
from segjax.pretrained.shipped import card_of
from segjax.report.views import View, best_view
from segjax.volume import Volume
from segjax_onnx.predict.metadata import About, ModelMetadata, read_metadata
from segjax_onnx.predict.predictor import Predictor
from segjax_onnx.predict.runtime import CPU, open_session
from segjax_onnx.write.weights import load_proto

__all__ = ["check_package", "write_bioimage"]

_FORMAT = "0.5.12"
_TINY = 1e-6  # what BioImage.IO adds to a divisor
_SIDE = 256  # pixels of each half of the cover
_LEAST = 64  # voxels along an axis of a made image
_DATE = (1980, 1, 1, 0, 0, 0)  # of all files of a package: the same network gives the same bytes
_DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>]*[^\s\"<>.,;)]")
_OPACITY = 0.6
_TAGS = ("semantic-segmentation", "segjax")
_SPACE = {2: ("y", "x"), 3: ("x", "y", "z")}  # of the graph: row and column of a picture


def write_bioimage(
    model: str | Path,
    path: str | Path,
    *,
    authors: Sequence[str],
    example: Source | Sequence[Source] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network as a package that programs of BioImage.IO check and run.

    It holds the network, its metadata as JSON, a test image and the probabilities that onnxruntime
    gives of it, a cover, a documentation, and ``bioimageio.yaml``, whose text is JSON, which is
    YAML too. The last step of the preprocessing is told in it where the format knows it, which is
    z-score of all voxels, min-max and rescaling; those before, as turning and resampling, are told
    in words, and the test image has been through them. The same network gives the same bytes.

    Args:
        model: The ONNX file, which names licence and citation.
        path: The package, ``….zip``.
        authors: Who made the network.
        example: An image to test with and to show on the cover, whole and for all to see: a file,
            or one for each channel; by default a head that is made.
        overwrite: Whether to replace the file.

    Returns:
        The package.

    Raises:
        InputError: The file says no licence or citation, or is in a form that does not fit; or the
            package exists, or cannot be written.

    Example:
        >>> write_bioimage("model.onnx", "model.zip", authors=["Jane Doe"])
        Traceback (most recent call last):
        segjax.errors.InputError: the network names no licence ('license' of 'about'); say it ...

    Source: https://github.com/bioimage-io/spec-bioimage-io, format 0.5.12
    """
    check_package(path, overwrite=overwrite)
    metadata = read_metadata(model)
    _check(metadata, authors)
    channels = metadata.in_channels
    image = _made(metadata) if example is None else read_image(example, channels=channels)
    package = _Package()
    described = _describe(package, metadata, model, image)
    described |= {"name": _name(Path(path).stem), "authors": [{"name": name} for name in authors]}
    package.add("bioimageio.yaml", _json(described))
    with atomic_path(path, overwrite=overwrite) as temporary:
        package.write(temporary)
    return Path(path)


def check_package(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a name that is that of no package, or of a file that exists.

    Raises:
        InputError: It is.

    Example:
        >>> check_package("flair.onnx")
        Traceback (most recent call last):
        segjax.errors.InputError: flair.onnx: give the package a name that ends in .zip
    """
    if Path(path).suffix != ".zip":
        raise InputError(f"{path}: give the package a name that ends in .zip")
    if not overwrite:
        check_new(Path(path))


@dataclass
class _Package:
    """Files of a package by name."""

    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> dict[str, str]:
        """Add a file, and return how others refer to it."""
        self.files[name] = content
        return {"source": name, "sha256": hashlib.sha256(content).hexdigest()}

    def add_array(self, name: str, array: np.ndarray) -> dict[str, str]:
        stream = io.BytesIO()
        np.save(stream, array)
        return self.add(name, stream.getvalue())

    def write(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, _DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def _check(metadata: ModelMetadata, authors: Sequence[str]) -> None:
    about, how = metadata.about, "say it in a card when you export it: --card card.json"
    if not about.license:
        raise InputError(f"the network names no licence ('license' of 'about'); {how}")
    if not about.citation:
        raise InputError(f"the network says not what to cite ('citation' of 'about'); {how}")
    if not (_DOI.search(about.citation) or about.url):
        raise InputError(f"the citation of the network has no DOI, and 'about' no 'url'; {how}")
    if metadata.inside:
        raise InputError(
            f"the graph does {', '.join(metadata.inside)} too, and BioImage.IO wants the network "
            "alone: export it without --with-preprocessing"
        )
    if not any(name.strip() for name in authors):
        raise InputError("name who made the network: --authors")


def _name(stem: str) -> str:
    """Return a name that BioImage.IO accepts: of 5 to 64 plain letters."""
    return re.sub(r"[^\w\-() ]", "-", stem, flags=re.ASCII)[:54] + " of segjax"


# -- the description ----------------------------------------------------------------------------


def _describe(
    package: _Package, metadata: ModelMetadata, model: str | Path, image: Volume
) -> dict[str, Any]:
    """Add the files of the package but the last, which is what this returns."""
    before, after = _split(Pipeline.from_json(metadata.pipeline))
    given = _block(before.apply(image), metadata)
    answer = _run(model, after.apply(given))
    opset = next(o.version for o in load_proto(model).opset_import if not o.domain)
    card = card_of(model)
    text = _documentation(metadata, before, card)
    citations = [metadata.about.citation] if card is None else card.citations
    weights = package.add("model.onnx", Path(model).read_bytes())
    return {
        "format_version": _FORMAT,
        "type": "model",
        "license": metadata.about.license,
        "cite": [_cited(text, metadata.about.url) for text in citations],
        "description": f"Segments {_listed(metadata.labels[1:])} by {metadata.model} of segjax.",
        "documentation": package.add("README.md", text.encode()),
        "covers": [package.add("cover.png", _cover(model, image, metadata))],
        "attachments": [package.add("model.json", _json(json.loads(metadata.to_json())))],
        "tags": [*_TAGS, f"{metadata.spatial_dims}d", *metadata.labels[1:]],
        "inputs": [
            {
                "id": "image",
                "description": f"{_listed(metadata.channels)}, after what the documentation tells",
                "axes": _input_axes(metadata),
                "data": {"type": "float32"},
                "preprocessing": [entry for s in after.steps for entry in _told(s, metadata)],
                "test_tensor": package.add_array("test_input.npy", _first(given.channels_last)),
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "description": "the probability of each label",
                "axes": _output_axes(metadata),
                "data": {"type": "float32"},
                "test_tensor": package.add_array("test_output.npy", answer),
            }
        ],
        "weights": {"onnx": {**weights, "opset_version": opset}},
    }


def _cited(text: str | None, url: str | None) -> dict[str, Any]:
    doi = _DOI.search(text or "")
    return {"text": text, **({"doi": doi.group()} if doi else {"url": url})}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _input_axes(metadata: ModelMetadata) -> list[dict[str, Any]]:
    sizes: list[Any] = list(metadata.patch_size)
    if metadata.local:
        step = metadata.size_multiple
        sizes = [{"min": size, "step": step} for size in _sizes(metadata)]
    space = zip(_space(metadata), sizes, strict=True)
    return [*_first_axes(metadata.channels), *({**axis, "size": size} for axis, size in space)]


def _output_axes(metadata: ModelMetadata) -> list[dict[str, Any]]:
    labels = metadata.labels if metadata.out_channels > 1 else metadata.labels[1:]
    space: list[dict[str, Any]] = []
    for axis, halo in zip(_space(metadata), _halo(metadata), strict=True):
        size = {"tensor_id": "image", "axis_id": axis["id"]}
        space.append({**axis, "size": size} | ({"halo": halo} if halo else {}))
    return [*_first_axes(labels), *space]


def _first_axes(channels: Sequence[str]) -> list[dict[str, Any]]:
    return [{"type": "batch"}, {"type": "channel", "channel_names": [*channels]}]


def _space(metadata: ModelMetadata) -> list[dict[str, Any]]:
    names = _SPACE[metadata.spatial_dims]
    spacing = _spacing(metadata)
    if not spacing:
        return [{"type": "space", "id": name} for name in names]
    unit = {"type": "space", "unit": "millimeter"}
    return [{**unit, "id": n, "scale": scale} for n, scale in zip(names, spacing, strict=False)]


def _spacing(metadata: ModelMetadata) -> tuple[float, ...]:
    """Return the spacing that the network sees, mm; nothing where none is told."""
    steps = Pipeline.from_json(metadata.pipeline).steps
    resized = any(isinstance(step, Resize) for step in steps)
    asked = [step.spacing for step in steps if isinstance(step, Resample) and not resized]
    seen = metadata.seen.spacing if metadata.seen else ()
    spacing = tuple(asked[-1]) if asked else seen
    return spacing if len(spacing) >= metadata.spatial_dims else ()


def _halo(metadata: ModelMetadata) -> tuple[int, ...]:
    """Return what to cut off at each side of a block: what it sees too little of."""
    if metadata.local:
        return metadata.halo or (0,) * metadata.spatial_dims
    return tuple(int(size * metadata.overlap / 2) for size in metadata.patch_size)


def _sizes(metadata: ModelMetadata) -> tuple[int, ...]:
    """Return the size of a block: that of training, and so large that something is left of it."""
    if not metadata.local:
        return metadata.patch_size
    step = metadata.size_multiple
    pairs = zip(metadata.patch_size, _halo(metadata), strict=True)
    return tuple(math.ceil(max(size, 2 * halo + 1) / step) * step for size, halo in pairs)


# -- preprocessing ------------------------------------------------------------------------------


def _split(pipeline: Pipeline) -> tuple[Pipeline, Pipeline]:
    """Return the steps without the last, and that one if BioImage.IO knows it; or all, and none.

    Its programs take the statistics of all steps from the image as it was given, so that only one
    step can be told that needs any.
    """
    steps = pipeline.steps
    known = bool(steps) and type(steps[-1]) in _TOLD and getattr(steps[-1], "where", "all") == "all"
    count = len(steps) - known
    return Pipeline(steps[:count]), Pipeline(steps[count:])


def _z_score(step: Any, axes: list[str]) -> list[dict[str, Any]]:
    return [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": _TINY}}]


def _min_max(step: Any, axes: list[str]) -> list[dict[str, Any]]:
    ends = {"min_percentile": 0.0, "max_percentile": 100.0}
    return [{"id": "scale_range", "kwargs": {"axes": axes, **ends, "eps": _TINY}}]


def _rescale(step: Any, axes: list[str]) -> list[dict[str, Any]]:
    scale = {"gain": float(step.high - step.low), "offset": float(step.low)}
    return [*_min_max(step, axes), {"id": "scale_linear", "kwargs": scale}]


_TOLD: Mapping[type, Callable[[Any, list[str]], list[dict[str, Any]]]] = {
    ZScore: _z_score,
    MinMax: _min_max,
    Rescale: _rescale,
}


def _told(step: Step, metadata: ModelMetadata) -> list[dict[str, Any]]:
    return _TOLD[type(step)](step, list(_SPACE[metadata.spatial_dims]))


# -- tensors ------------------------------------------------------------------------------------


def _made(metadata: ModelMetadata) -> Volume:
    """Draw a head of every channel: as it is, and with grey values turned round, by turns."""
    if metadata.spatial_dims == 3:
        head, _ = phantom(0, shape=(_LEAST,) * 3)
    else:
        shape = tuple(max(_LEAST, size) for size in _sizes(metadata))
        head, _ = phantom(0, shape=shape, kind="meningioma")
    turned = np.where(head.data > 0, head.data.max() - head.data, 0).astype(np.float32)
    kinds = itertools.islice(itertools.cycle((head.data, turned)), metadata.in_channels)
    return head.with_data(np.stack(list(kinds), axis=-1))


def _block(image: Volume, metadata: ModelMetadata) -> Volume:
    """Cut a block of the size that the package names; of a volume for a 2D network, a slice."""
    if image.spatial_dims > metadata.spatial_dims:
        middle = image.channels_last[:, :, image.spatial_shape[2] // 2]
        image = Volume(middle, np.eye(3))
    image = image.with_data(image.channels_last.astype(np.float32))
    return crop_or_pad(image, _sizes(metadata))


def _first(
    channels_last: Float32[np.ndarray, "*spatial channel"],
) -> Float32[np.ndarray, "1 channel *spatial"]:
    """Return a batch of one, as the graph takes it."""
    return np.ascontiguousarray(np.moveaxis(channels_last, -1, 0)[None], np.float32)


def _run(model: str | Path, ready: Volume) -> Float32[np.ndarray, "1 label *spatial"]:
    session = open_session(model, providers=[CPU])
    (answer,) = session.run(None, {"image": _first(ready.channels_last)})
    return np.asarray(answer)


# -- what people see ----------------------------------------------------------------------------


def _cover(model: str | Path, image: Volume, metadata: ModelMetadata) -> bytes:
    """Draw a slice, and beside it the same with the labels on it."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a made image is unlike those of the training
        mask = Predictor(model).predict(image)
    view = best_view(image, prediction=mask)
    grey, shown = _pictures(view, [structure.color for structure in metadata.structures])
    canvas = Image.new("RGB", (2 * _SIDE, _SIDE))
    for number, picture in enumerate((grey, shown)):
        height, width = picture.shape[0] * view.aspect, picture.shape[1]
        scale = _SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        drawn = Image.fromarray(picture).resize(size)
        canvas.paste(drawn, (number * _SIDE + (_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _pictures(
    view: View, colors: Sequence[tuple[int, int, int]]
) -> tuple[UInt8[np.ndarray, "row column 3"], UInt8[np.ndarray, "row column 3"]]:
    black, white = view.window
    grey = np.clip((view.image - black) / (white - black), 0, 1)[..., None] * np.full(3, 255.0)
    palette = np.array([(0, 0, 0), *colors], np.float64)
    labels = np.asarray(view.prediction)
    mixed = (1 - _OPACITY) * grey + _OPACITY * palette[labels]
    shown = np.where(labels[..., None] > 0, mixed, grey)
    return grey.astype(np.uint8), shown.astype(np.uint8)


def _documentation(metadata: ModelMetadata, before: Pipeline, card: ModelCard | None) -> str:
    about = metadata.about
    steps = [f"- `{json.dumps(step)}`" for step in before.to_json()] or ["- none"]
    spacing = " × ".join(f"{size:g}" for size in _spacing(metadata))
    voxels = f" Voxels of {spacing} mm." if spacing else ""
    sections = {
        "Input": [
            f"Channels: {', '.join(metadata.channels)}.{voxels}",
            "",
            "Before what `bioimageio.yaml` tells of preprocessing, an image goes through these "
            "steps of segjax, in this order:",
            "",
            *steps,
        ],
        "Output": [
            f"Probabilities of {', '.join(metadata.labels)}; the mask is "
            + ("the most probable label." if metadata.out_channels > 1 else "where it is over 0.5.")
        ],
        "Intended use": [about.intended_use or "Not told."],
        "Training data": [about.training_data or "Not told."],
        "Validation": _validation(about) if card is None else _measured(card),
        **({} if card is None else {"Limits": [f"- {limit}" for limit in card.limits]}),
        "Citation": [about.citation or "", *([about.url] if about.url else [])],
        "Licence": [about.license or "", *([] if card is None else ["", card.attribution])],
        "The whole of it": [
            "`model.onnx` holds all of its preprocessing, rules and labels in its metadata, entry "
            "`segjax`; `model.json` is the same text. `segjax predict model.onnx IMAGE` follows it."
        ],
    }
    text = [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items()]
    return "\n\n".join([f"# {metadata.model} of segjax", *text]) + "\n"


def _validation(about: About) -> list[str]:
    if not about.dice:
        return ["Not told."]
    rows = [f"| {label} | {value:.4g} |" for label, value in about.dice.items()]
    return ["On images that it was not trained on:", "", "| label | Dice |", "|---|---|", *rows]


def _measured(card: ModelCard) -> list[str]:
    rows = [
        f"| {row.label or 'all'} | {row.on} | {row.split} | {row.value:.3f} | {row.cases} |"
        for row in card.dice
    ]
    return ["| label | on | split | Dice | n |", "|---|---|---|---|---|", *rows]
