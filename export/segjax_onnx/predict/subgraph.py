"""A part of an ONNX graph as a model of its own, without the package onnx."""

from collections.abc import Collection, Iterable

from segjax_onnx.predict.wire import fields, message, number

_MODEL_GRAPH, _MODEL_KEPT = 7, (1, 8)  # IR version, operator sets
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _TENSOR_NAME = 1, 2, 8
_FLOAT_TENSOR = message(1, number(1, 1))  # of a TypeProto


def subgraph(model: bytes, inputs: Collection[str], outputs: Collection[str]) -> bytes:
    """Return the part of a model that makes some arrays of others.

    Args:
        model: A serialised ModelProto whose nodes have one output.
        inputs: Names of float32 arrays of its graph, which the part takes.
        outputs: Names of float32 arrays, which it gives.

    Returns:
        A serialised ModelProto, without metadata.

    Raises:
        ValueError: It cannot be read.

    Example:
        >>> from pathlib import Path
        >>> model = Path("model.onnx").read_bytes()
        >>> len(subgraph(model, ["image"], ["max_pool_0"])) < len(model)
        True
    """
    parts = list(fields(memoryview(model)))
    graph = [(number, value) for number, value in _messages(parts, _MODEL_GRAPH)]
    nodes = [value for field, value in graph if field == _GRAPH_NODE]
    needed, used = set(outputs) - set(inputs), []
    for node in reversed(nodes):
        if needed & set(_names(node, _NODE_OUTPUT)):
            used.append(node)
            needed |= set(_names(node, _NODE_INPUT)) - set(inputs)
    tensors = [v for f, v in graph if f == _GRAPH_TENSOR and needed & set(_names(v, _TENSOR_NAME))]
    made = b"".join(
        [
            *(message(_GRAPH_NODE, bytes(node)) for node in reversed(used)),
            message(2, b"segjax"),
            *(message(_GRAPH_TENSOR, bytes(tensor)) for tensor in tensors),
            *(message(_GRAPH_INPUT, _float_tensor(name)) for name in inputs),
            *(message(_GRAPH_OUTPUT, _float_tensor(name)) for name in outputs),
        ]
    )
    kept = [
        number(field, value) if isinstance(value, int) else message(field, bytes(value))
        for field, value in parts
        if field in _MODEL_KEPT
    ]
    return b"".join([*kept, message(_MODEL_GRAPH, made)])


def _messages(
    parts: Iterable[tuple[int, int | memoryview]], wanted: int
) -> Iterable[tuple[int, memoryview]]:
    """Yield the fields, strings and messages alone, of the messages of one number."""
    for field, value in parts:
        if field == wanted and not isinstance(value, int):
            yield from ((f, v) for f, v in fields(value) if not isinstance(v, int))


def _names(part: memoryview, wanted: int) -> list[str]:
    return [
        bytes(value).decode()
        for field, value in fields(part)
        if field == wanted and not isinstance(value, int)
    ]


def _float_tensor(name: str) -> bytes:
    return message(1, name.encode()) + message(2, _FLOAT_TENSOR)
