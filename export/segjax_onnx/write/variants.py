"""Exported networks in other forms: of 16 bits, or with preprocessing and mask in the graph."""

import dataclasses
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segjax.data.cases import Case
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import MinMax, Step, ZScore
from segjax.data.splits import read_split
from segjax.errors import InputError
from segjax.evaluate.overlap import dice
from segjax.files import atomic_path, read_json_object
from segjax.progress import track
from segjax.runs.folder import RunFolder
from segjax_onnx.predict.digest import KEY as DIGEST
from segjax_onnx.predict.digest import sealed
from segjax_onnx.predict.metadata import KEY, HalfPrecision, ModelMetadata
from segjax_onnx.predict.predictor import Predictor
from segjax_onnx.write.convert import export_onnx
from segjax_onnx.write.weights import load_proto

if TYPE_CHECKING:
    import onnx

__all__ = ["export_variant", "halve_precision", "put_inside", "validation_cases"]

_CONSTANT = float(np.finfo(np.float32).eps)  # of the largest value: a spread below it is rounding
_LARGEST = float(np.finfo(np.float16).max)


def export_variant(
    run: str | Path,
    path: str | Path,
    *,
    float16: bool = False,
    preprocessing: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write the network of a run as one ONNX file, as ``export_onnx`` does, in another form.

    Args:
        run: The folder of a training.
        path: The file to write, ``….onnx``.
        float16: Weights and computing of 16 bits; inputs and outputs stay float32. What it costs
            is measured: the Dice of the masks of validation cases against those of 32 bits.
        preprocessing: Whether the graph does the last steps of the pipeline and makes the mask, as
            :func:`put_inside` says.
        overwrite: Whether to replace the file.
        options: Others of ``export_onnx``.

    Returns:
        The file.

    Raises:
        InputError: As ``export_onnx``; or the network cannot have that form.

    Warns:
        UserWarning: No image of a validation case is there to measure the cost with.

    Example:
        >>> from segjax_onnx import read_metadata
        >>> made = export_variant("run", "whole.onnx", preprocessing=True)
        >>> read_metadata(made).inside
        ('z-score', 'argmax')
    """
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        tempfile.TemporaryDirectory() as folder,
    ):
        whole, half = (Path(folder, name) for name in ("whole.onnx", "half.onnx"))
        proto = load_proto(export_onnx(run, whole, **options))
        if float16:
            halve_precision(proto)
            half.write_bytes(_bytes(proto))
            _change(proto, float16=HalfPrecision(_cost(whole, half, validation_cases(run))))
        if preprocessing:  # which stays in 32 bits: squares of intensities are too large for 16
            put_inside(proto)
        temporary.write_bytes(_bytes(proto))
    return Path(path)


def _bytes(proto: "onnx.ModelProto") -> bytes:
    return sealed(proto.SerializeToString(deterministic=True))


def _metadata(proto: "onnx.ModelProto") -> ModelMetadata:
    return ModelMetadata.from_json(next(p.value for p in proto.metadata_props if p.key == KEY))


def _change(proto: "onnx.ModelProto", **changes: Any) -> None:
    """Change metadata, and take the digest off, which is that of other bytes."""
    import onnx

    text = dataclasses.replace(_metadata(proto), **changes).to_json()
    kept = {p.key: p.value for p in proto.metadata_props if p.key != DIGEST}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {**kept, KEY: text})


# -- half precision -----------------------------------------------------------------------------


def halve_precision(proto: "onnx.ModelProto") -> None:
    """Round the weights of a network to 16 bits, and let it compute in them.

    Args:
        proto: An exported network, changed in place. Its input and outputs stay what they are.

    Raises:
        InputError: A weight is too large.

    Example:
        >>> import onnx
        >>> model = onnx.load("model.onnx")
        >>> halve_precision(model)
        >>> model.graph.node[0].op_type, model.graph.node[-1].op_type
        ('Cast', 'Cast')
    """
    import onnx

    graph = proto.graph
    scales = {node.input[2] for node in graph.node if node.op_type == "Resize"}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in scales:
            array = onnx.numpy_helper.to_array(tensor)
            if not np.abs(array).max(initial=0) <= _LARGEST:
                raise InputError(f"a weight is over {_LARGEST:g}, the largest number of 16 bits")
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name))
    floats = {v.name for v in [*graph.input, *graph.output] if _is_float(v)}
    inner = {name: f"{name}_half" for name in floats}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]
    make = onnx.helper.make_node
    for value in graph.input:
        if value.name in floats:
            to = onnx.TensorProto.FLOAT16
            graph.node.insert(0, make("Cast", [value.name], [inner[value.name]], to=to))
    for value in graph.output:
        if value.name in floats:
            to = onnx.TensorProto.FLOAT
            graph.node.append(make("Cast", [inner[value.name]], [value.name], to=to))
    _change(proto, stages=(), float16=HalfPrecision())
    onnx.checker.check_model(proto, full_check=True)


def _is_float(value: "onnx.ValueInfoProto") -> bool:
    return value.type.tensor_type.elem_type == 1  # TensorProto.FLOAT


def validation_cases(run: str | Path) -> list[Case]:
    """Return the validation cases of a run whose images are where they were, without labels.

    Example:
        >>> validation_cases("elsewhere")
        []
    """
    folder = RunFolder(Path(run))
    if not (folder.split.exists() and folder.inputs.exists()):
        return []
    told, cases = read_json_object(folder.inputs).get("cases", {}), []
    for name in read_split(folder.split).validation:
        images = [Path(source["path"]) for source in told.get(name, {}).get("sources", ())[:-1]]
        if images and all(image.exists() for image in images):
            cases.append(Case(name, tuple(images)))
    return cases


def _cost(whole: Path, half: Path, cases: Sequence[Case]) -> dict[str, float]:
    """Return the mean Dice, by label, of the masks of one file against those of another."""
    if not cases:
        warnings.warn(
            "no image of a validation case is where it was, so that it was not measured what "
            "16 bits cost",
            stacklevel=3,
        )
        return {}
    one, two = Predictor(whole), Predictor(half)
    names = one.metadata.labels[1:]
    found: list[list[float]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in track(cases, "Comparing"):
            truth, mask = (p.predict(case.images).data for p in (one, two))
            labels = range(1, len(names) + 1)
            found.append([dice(truth=truth, prediction=mask, label=n) for n in labels])
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


# -- preprocessing ------------------------------------------------------------------------------


def put_inside(proto: "onnx.ModelProto") -> None:
    """Let a graph do the last steps of its pipeline, pad, and make the mask.

    The last z-scores and min-maxes over all voxels go into the graph. Its ``image`` is then the
    volume after the steps before, whole, ``(batch, channel, *spatial)`` of any size; ``pads``,
    int64 ``(2 * (2 + rank),)``, says how many zeros are put before and behind each axis after
    these steps, so that sizes become multiples of ``size_multiple``. ``mask``, uint8
    ``(batch, *spatial)``, is the most probable label, or of a sigmoid where it is over 0.5.

    Args:
        proto: An exported network, changed in place.

    Raises:
        InputError: The network is not local, so that a whole volume is not what it was trained on;
            or a step of the pipeline that changes intensities cannot be in a graph.

    Example:
        >>> import onnx
        >>> model = onnx.load("model.onnx")  # whose pipeline ends in a z-score of all voxels
        >>> put_inside(model)
        >>> [output.name for output in model.graph.output]
        ['probabilities', 'mask']
    """
    import onnx

    metadata, graph = _metadata(proto), proto.graph
    steps = Pipeline.from_json(metadata.pipeline).steps
    inside = _last(steps)
    _check_inside(metadata, steps[: len(steps) - len(inside)], inside)
    writer = _Writer(proto.opset_import[0].version, metadata.spatial_dims)
    padded = "image_padded"
    for node in graph.node:
        node.input[:] = [padded if name == "image" else name for name in node.input]
    writer.steps(inside, padded)
    nodes = [*writer.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    writer.nodes.clear()
    writer.mask(metadata.activation)
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.constants)
    _free_sizes(graph, metadata.spatial_dims)
    names = (*dict.fromkeys(step.name for step in inside), "argmax")
    _change(proto, inside=names, stages=(), halo=None, local=False)
    onnx.checker.check_model(proto, full_check=True)


def _last(steps: Sequence[Step]) -> list[Step]:
    """Return the last steps, as far as a graph can do them."""
    found: list[Step] = []
    for step in reversed(steps):
        if not (isinstance(step, MinMax) or (isinstance(step, ZScore) and step.where == "all")):
            break
        found.insert(0, step)
    return found


def _check_inside(metadata: ModelMetadata, before: Sequence[Step], inside: Sequence[Step]) -> None:
    if not metadata.local:
        raise InputError(
            f"{metadata.model} norms what it sees as a whole: it answers to patches of its "
            "training's size, and no whole volume can go through; export it without preprocessing"
        )
    others = [step for step in before if type(step).apply_label is Step.apply_label]
    if others or not inside:
        what = f"step {others[-1].to_json()}" if others else "a pipeline without such a last step"
        raise InputError(
            f"{what} cannot be in the graph, which does z-score over all voxels and min-max, as "
            "the last steps and the only ones on intensities; export it without preprocessing"
        )


class _Writer:
    """Nodes and constants of a graph, under names of their own."""

    def __init__(self, opset: int, rank: int) -> None:
        self.opset, self.rank = opset, rank
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        import onnx

        output = output or f"inside_{len(self.nodes)}_{kind}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any, kind: type, name: str) -> str:
        import onnx

        if name not in [tensor.name for tensor in self.constants]:
            self.constants.append(onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name

    def over_space(self, kind: str, x: str) -> str:
        """Reduce every channel of every image to one number."""
        axes = list(range(2, 2 + self.rank))
        if self.opset < 18:
            return self.add(kind, x, axes=axes)
        return self.add(kind, x, self.constant(axes, np.int64, "spatial_axes"))

    def steps(self, steps: Sequence[Step], output: str) -> None:
        x = "image"
        for step in steps:
            x = self.min_max(x) if isinstance(step, MinMax) else self.z_score(x)
        zero = self.constant(0, np.float32, "padding")
        self.add("Pad", x, "pads", zero, output=output)

    def min_max(self, x: str) -> str:
        """(x - min) / (max - min)."""
        low, high = self.over_space("ReduceMin", x), self.over_space("ReduceMax", x)
        return self.scaled(x, low, self.add("Sub", high, low))

    def z_score(self, x: str) -> str:
        """(x - mean) / std, of values less the smallest, which keeps their digits."""
        x = self.add("Sub", x, self.over_space("ReduceMin", x))
        mean = self.over_space("ReduceMean", x)
        off = self.add("Sub", x, mean)
        variance = self.over_space("ReduceMean", self.add("Mul", off, off))
        return self.scaled(x, mean, self.add("Sqrt", variance))

    def scaled(self, x: str, middle: str, spread: str) -> str:
        """Shift and scale; 0 in a channel that is constant, to rounding."""
        largest = self.over_space("ReduceMax", self.add("Abs", x))
        share = self.constant(_CONSTANT, np.float32, "constant_share")
        varies = self.add("Greater", spread, self.add("Mul", largest, share))
        result = self.add("Div", self.add("Sub", x, middle), spread)
        return self.add("Where", varies, result, self.constant(0, np.float32, "padding"))

    def mask(self, activation: str) -> None:
        if activation == "softmax":
            found = self.add("ArgMax", "probabilities", axis=1, keepdims=0)
        else:
            half = self.constant(0.5, np.float32, "half")
            over = self.add("Greater", "probabilities", half)
            found = self.add("Squeeze", over, self.constant([1], np.int64, "label_axis"))
        self.add("Cast", found, output="mask", to=2)  # TensorProto.UINT8


def _free_sizes(graph: "onnx.GraphProto", rank: int) -> None:
    """Name the sizes of the inputs and outputs, which are no multiples of anything any more."""
    import onnx

    for number, dim in enumerate(graph.input[0].type.tensor_type.shape.dim[2:]):
        dim.dim_param = f"size{number}"
    sizes = [f"padded{number}" for number in range(rank)]
    for dim, size in zip(graph.output[0].type.tensor_type.shape.dim[2:], sizes, strict=True):
        dim.dim_param = size
    make = onnx.helper.make_tensor_value_info
    graph.input.append(make("pads", onnx.TensorProto.INT64, [2 * (2 + rank)]))
    graph.output.append(make("mask", onnx.TensorProto.UINT8, ["batch", *sizes]))
