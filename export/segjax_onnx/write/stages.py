"""How far the outputs of a graph depend on its input, and where it can be cut into stages.

Most of the memory of a U-shaped network goes into features of full resolution, and most of its
reach comes from coarse ones. So a volume goes through in stages: the features that are pooled,
tile by tile; the coarse part; and what brings its results back to full resolution, tile by tile
again, with a halo of a few voxels. The coarse part is cut in the same way once more, so that what
is left of it takes little memory.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segjax_onnx.predict.metadata import ModelMetadata
from segjax_onnx.predict.stages import Stage

if TYPE_CHECKING:
    import onnx

_BYTES = 4  # of a float32
_FINEST = 2  # voxels of the image in an element of the coarsest features that are cut
_POINTWISE = frozenset(  # reductions are over channels: no other is local
    """
    Add Cast Clip Concat Div Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu Log Max Min Mul
    Neg PRelu Pow ReduceMax ReduceMean ReduceSum Relu Reshape Selu Sigmoid Softmax Softplus Sqrt
    Squeeze Sub Tanh Unsqueeze
    """.split()  # noqa: SIM905
)
_WINDOWED = frozenset(("AveragePool", "Conv", "MaxPool"))
_RAISING = frozenset(("ConvTranspose", "Resize"))
_MOVES = frozenset(("Reshape", "Squeeze", "Unsqueeze"))  # by which an upsampling goes


def described(metadata: ModelMetadata, proto: "onnx.ModelProto") -> ModelMetadata:
    """Return the metadata of a local network with its halo and stages, and what memory it takes.

    Args:
        metadata: Of the network, ``local`` included; of another one they come back as they are.
        proto: Its graph, whose strides are alike along all spatial axes.

    Example:
        >>> import onnx
        >>> from segjax_onnx import read_metadata
        >>> described(read_metadata("model.onnx"), onnx.load("model.onnx")).halo
        (46, 46, 46)
    """
    halo = halo_of(proto) if metadata.local else None
    if halo is None:
        return dataclasses.replace(metadata, local=False)
    return dataclasses.replace(
        metadata,
        halo=halo,
        stages=stages_of(proto),
        bytes_per_voxel=_bytes_per_voxel(proto, ["image"], ["probabilities"]),
    )


def halo_of(proto: "onnx.ModelProto") -> tuple[int, ...] | None:
    """Return how many voxels away from an output the input matters at most, along each axis.

    Outputs are taken in blocks of the size of the coarsest element, as tiles have them.

    Returns:
        Voxels, or ``None`` where a node mixes voxels that lie far apart, as instance norms do.

    Example:
        >>> import onnx
        >>> halo_of(onnx.load("model.onnx"))
        (46, 46, 46)
    """
    nodes = _nodes(proto)
    scales = _scales(nodes, {"image": 1})
    if "probabilities" not in scales:
        return None
    return _halo(_between(nodes, ["image"], ["probabilities"]), scales, _rank(proto))


def stages_of(proto: "onnx.ModelProto") -> tuple[Stage, ...]:
    """Cut a graph where features leave a resolution, and where they come back to it.

    Returns:
        The stages in their order, or none: the graph is not local, has no coarser level, or pools
        features of full resolution that coarser ones went into.

    Example:
        >>> import onnx
        >>> [stage.outputs for stage in stages_of(onnx.load("model.onnx"))][-1]
        {'probabilities': 1}
    """
    scales = _scales(_nodes(proto), {"image": 1})
    if "probabilities" not in scales:
        return ()
    ends = _ends(_nodes(proto), scales, ["image"], ["probabilities"])
    return tuple(_stage(proto, scales, *each) for each in ends) if len(ends) > 1 else ()


_Ends = tuple[Sequence[str], Sequence[str]]


def _ends(
    nodes: list["_Node"],
    scales: Mapping[str, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    level: int = 1,
) -> list[_Ends]:
    """Return inputs and outputs of the stages of a part of a graph, of which it is all one."""
    part = _between(nodes, inputs, outputs)
    pooled = [node.output for node in part if _moves(node, scales, level) == (1, 2)]
    coarse = sorted({_source(nodes, n) for n in part if _moves(n, scales, level) == (2, 1)})
    below = _scales(nodes, {name: scales[name] for name in pooled})
    above = {name for node in _between(nodes, inputs, pooled) for name in node.inputs}
    whole = pooled and coarse and all(name in below for name in coarse)
    if not whole or above & {*coarse} or level > _FINEST:
        return [(inputs, outputs)]
    inner = _ends(nodes, scales, pooled, coarse, 2 * level)
    return [(inputs, pooled), *inner, ([*inputs, *coarse], outputs)]


@dataclass(frozen=True)
class _Node:
    """A node without its constants."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Sequence[int]]


def _nodes(proto: "onnx.ModelProto") -> list[_Node]:
    constants = {"", *(tensor.name for tensor in proto.graph.initializer)}
    return [
        _Node(
            node.op_type,
            tuple(name for name in node.input if name not in constants),
            node.output[0],
            {attribute.name: list(attribute.ints) for attribute in node.attribute},
        )
        for node in proto.graph.node
    ]


def _scales(nodes: Sequence[_Node], sources: Mapping[str, int]) -> dict[str, int]:
    """Return how many voxels of the image one element of every local array is, along each axis.

    An array is local where it depends on the sources alone, and on elements nearby.
    """
    found = dict(sources)
    for node in nodes:
        below = {found.get(name) for name in node.inputs}
        scale = below.pop() if len(below) == 1 else None
        if node.output in found or scale is None:
            continue
        if node.kind in _WINDOWED:
            found[node.output] = scale * _window(node, 0)[1]
        elif node.kind in _RAISING:
            found[node.output] = scale // _window(node, 0)[1]
        elif node.kind in _POINTWISE:
            found[node.output] = scale
    return found


def _window(node: _Node, axis: int) -> tuple[int, int, int]:
    """Return size, stride and the zeros before the first element along an axis."""
    if node.kind == "Resize":  # nearest neighbour, twice as fine
        return 2, 2, 0
    size, spread, stride, before = (
        (node.attributes.get(name) or [default] * (axis + 1))[axis]
        for name, default in (("kernel_shape", 1), ("dilations", 1), ("strides", 1), ("pads", 0))
    )
    return (size - 1) * spread + 1, stride, before


def _rank(proto: "onnx.ModelProto") -> int:
    return len(proto.graph.input[0].type.tensor_type.shape.dim) - 2


def _moves(node: _Node, scales: Mapping[str, int], level: int) -> tuple[int, int] | None:
    """Return from where to where a node leads: 1 is a level or a finer one, 2 a coarser one."""
    if node.output not in scales or not all(name in scales for name in node.inputs):
        return None
    start, end = (1 + (scales[name] > level) for name in (node.inputs[0], node.output))
    return start, end


def _source(nodes: Sequence[_Node], node: _Node) -> str:
    """Return the features that a node brings up, as they were before their axes were moved."""
    makers = {other.output: other for other in nodes}
    name = node.inputs[0]
    while (maker := makers.get(name)) is not None and maker.kind in _MOVES:
        name = maker.inputs[0]
    return name


def _between(nodes: list[_Node], inputs: Sequence[str], outputs: Sequence[str]) -> list[_Node]:
    """Return the nodes that make some arrays of others, in their order."""
    needed, used = set(outputs) - set(inputs), []
    for node in reversed(nodes):
        if node.output in needed:
            used.append(node)
            needed |= set(node.inputs) - set(inputs)
    return used[::-1]


def _halo(nodes: Sequence[_Node], scales: Mapping[str, int], rank: int) -> tuple[int, ...]:
    """Return how far beyond a block of voxels the results of some nodes depend on others."""
    block, made = _coarsest(nodes, scales), {node.output for node in nodes}
    halo = []
    for axis in range(rank):
        needed: dict[str, tuple[int, int]] = {}
        for node in reversed(nodes):
            own = needed.get(node.output, (0, block // scales[node.output] - 1))
            span = _needs(node, axis, *own)
            for name in node.inputs:
                low, high = needed.get(name, span)
                needed[name] = (min(low, span[0]), max(high, span[1]))
        ends = [(*needed[name], scales[name]) for name in set(needed) - made]
        halo.append(max(max(-low * scale, (high + 1) * scale - block) for low, high, scale in ends))
    return tuple(halo)


def _coarsest(nodes: Sequence[_Node], scales: Mapping[str, int]) -> int:
    return max(scales[name] for node in nodes for name in (node.output, *node.inputs))


def _needs(node: _Node, axis: int, low: int, high: int) -> tuple[int, int]:
    """Return the first and the last element of its inputs that some outputs of a node need."""
    if node.kind in _WINDOWED:
        size, stride, before = _window(node, axis)
        return low * stride - before, high * stride - before + size - 1
    if node.kind in _RAISING:
        size, stride, before = _window(node, axis)
        return -((size - 1 - before - low) // stride), (high + before) // stride
    return low, high


def _stage(
    proto: "onnx.ModelProto",
    scales: Mapping[str, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Stage:
    nodes = _between(_nodes(proto), inputs, outputs)
    sizes = _sizes(proto, scales)
    return Stage(
        inputs={name: scales[name] for name in inputs},
        outputs={name: scales[name] for name in outputs},
        halo=_halo(nodes, scales, _rank(proto)),
        multiple=_coarsest(nodes, scales),
        bytes_per_voxel=_bytes_per_voxel(proto, inputs, outputs),
        bytes_kept=sum(sizes[name] for name in outputs),
    )


def _bytes_per_voxel(
    proto: "onnx.ModelProto", inputs: Sequence[str], outputs: Sequence[str]
) -> float:
    """Estimate the memory of one voxel of the image while the nodes between some arrays run.

    Nodes run in their order, arrays go when the last node has read them, and an output needs
    memory beside all inputs of its node.
    """
    all_nodes = _nodes(proto)
    sizes = _sizes(proto, _scales(all_nodes, {"image": 1}))
    nodes = _between(all_nodes, inputs, outputs)
    last = {name: number for number, node in enumerate(nodes) for name in node.inputs}
    last.update(dict.fromkeys(outputs, len(nodes)))
    live, most = {name: sizes[name] for name in inputs}, 0.0
    for number, node in enumerate(nodes):
        live[node.output] = sizes.get(node.output, 0.0)
        most = max(most, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > number}
    return most


def _sizes(proto: "onnx.ModelProto", scales: Mapping[str, int]) -> dict[str, float]:
    """Return the bytes of every local array, by voxels of the image."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    rank = _rank(proto)
    shapes = {
        value.name: value.type.tensor_type.shape.dim
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
    return {
        name: _BYTES * max(1, dims[1].dim_value) / scales[name] ** rank
        for name, dims in shapes.items()
        if name in scales and len(dims) > 1
    }
