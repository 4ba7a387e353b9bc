"""Transposed convolutions of pictures as four convolutions, one for each parity of row and column.

onnxruntime multiplies matrices for a transposed convolution and scatters 25 products a voxel; for
a convolution of 8 channels or more it has blocked kernels, whose results need only be interleaved.
"""

import re
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

if TYPE_CHECKING:
    import onnx

_FEWEST = 8  # outputs; onnxruntime's blocks hold 8 or 16
_PHASE = re.compile(r"_phase[01]{2}$")
Taps = Float32[np.ndarray, "out in _ _"]


def part_transposed(proto: "onnx.ModelProto") -> None:
    """Write the transposed convolutions of stride 2 that are faster so as convolutions.

    Args:
        proto: A network of pictures, changed in place.
    """
    import onnx

    graph, nodes = proto.graph, []
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if not _is_faster_so(node, tensors):
            nodes.append(node)
            continue
        kernel = onnx.numpy_helper.to_array(tensors.pop(node.input[1]))
        writer = _Writer(node.output[0])
        nodes += writer.convolutions(node, kernel)
        for array in writer.constants:
            tensors[array.name] = array
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors.values())


def _is_faster_so(node: "onnx.NodeProto", tensors: "dict[str, onnx.TensorProto]") -> bool:
    if node.op_type != "ConvTranspose" or node.input[1] not in tensors:
        return False
    attributes = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    _, outputs, *size = tensors[node.input[1]].dims
    return (
        outputs >= _FEWEST
        and len(size) == 2
        and min(size) > 1
        and attributes == _attributes(tuple(size))
    )


def _attributes(size: tuple[int, ...]) -> dict[str, list[int]]:
    """Return those of a transposed convolution, as `primitives` writes them."""
    pads = [(k - 1) // 2 for k in size] + [k // 2 for k in size]
    return {"kernel_shape": [*size], "strides": [2, 2], "pads": pads, "output_padding": [1, 1]}


def _taps(size: int, parity: int) -> tuple[list[int], int]:
    """Return the taps that reach outputs of a parity, and how many elements before they begin.

    Output 2i + parity is the sum of w[t]·x[i + (parity + before - t) / 2] over the taps t for
    which that is whole, where before = (size - 1) // 2; their order is that of x.
    """
    before = (size - 1) // 2
    taps = [t for t in range(size) if (parity + before - t) % 2 == 0][::-1]
    return taps, (taps[0] - parity - before) // 2


def phases_of(kernel: Float32[np.ndarray, "in out rows columns"]) -> list[Taps]:
    """Return the kernels of the four convolutions: even rows and columns first, columns within.

    Example:
        >>> kernel = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
        >>> [phase.ravel().tolist() for phase in phases_of(kernel)]
        [[4.0], [5.0, 3.0], [7.0, 1.0], [8.0, 6.0, 2.0, 0.0]]
    """
    turned, (rows, columns) = np.swapaxes(kernel, 0, 1), kernel.shape[2:]
    return [
        np.ascontiguousarray(turned[:, :, _taps(rows, p)[0]][:, :, :, _taps(columns, q)[0]])
        for p, q in product((0, 1), repeat=2)
    ]


def is_phase(output: str) -> bool:
    """Say whether a node of this output is one of the four convolutions.

    Example:
        >>> is_phase("conv_transpose_0_phase01"), is_phase("conv_0")
        (True, False)
    """
    return _PHASE.search(output) is not None


def whole_of(phases: list[Taps]) -> Float32[np.ndarray, "in out rows columns"]:
    """Return the kernel that :func:`phases_of` took apart.

    Example:
        >>> kernel = np.random.default_rng(0).random((3, 8, 5, 4), np.float32)
        >>> bool((whole_of(phases_of(kernel)) == kernel).all())
        True
    """
    rows, columns = (phases[0].shape[i] + phases[-1].shape[i] for i in (2, 3))
    kernel = np.zeros((*phases[0].shape[:2], rows, columns), np.float32)
    for phase, (p, q) in zip(phases, product((0, 1), repeat=2), strict=True):
        across = np.ix_(_taps(rows, p)[0], _taps(columns, q)[0])
        kernel[:, :, across[0], across[1]] = phase
    return np.ascontiguousarray(np.swapaxes(kernel, 0, 1))


class _Writer:
    """Nodes that stand for one, with constants under names of their own."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def convolutions(
        self, node: "onnx.NodeProto", kernel: Float32[np.ndarray, "in out rows columns"]
    ) -> list[Any]:
        features, _, *bias = node.input
        size, found = kernel.shape[2:], []
        for taps, parities in zip(phases_of(kernel), product((0, 1), repeat=2), strict=True):
            before = [_taps(*pair)[1] for pair in zip(size, parities, strict=True)]
            behind = [n - 1 - m for n, m in zip(taps.shape[2:], before, strict=True)]
            name = f"{self.output}_phase{parities[0]}{parities[1]}"
            weights = self.constant(f"{name}_weights", taps)
            window = {"kernel_shape": list(taps.shape[2:]), "pads": before + behind}
            found.append(self.add("Conv", [features, weights, *bias], name, **window))
        self.interleave(found)
        return self.nodes

    def interleave(self, phases: list[str]) -> None:
        """Put columns beside one another, then rows; 0 keeps an axis, and -1 takes what is left."""
        last, row = self.axis("behind_columns", 4), self.axis("behind_rows", 3)
        wide = self.constant("columns_beside_one_another", np.array([0, 0, 0, -1]))
        tall = self.constant("rows_beside_one_another", np.array([0, 0, -1, 1, 0]))
        rows = []
        for p in (0, 1):
            name = f"{self.output}_rows{p}"
            pair = [
                self.add("Unsqueeze", [x, last], f"{x}_apart") for x in phases[2 * p : 2 * p + 2]
            ]
            joined = self.add("Concat", pair, f"{name}_pairs", axis=4)
            joined = self.add("Reshape", [joined, wide], f"{name}_joined")
            rows.append(self.add("Unsqueeze", [joined, row], name))
        pairs = self.add("Concat", rows, f"{self.output}_pairs", axis=3)
        joined = self.add("Reshape", [pairs, tall], f"{self.output}_joined")
        self.add("Squeeze", [joined, row], self.output)

    def axis(self, name: str, axis: int) -> str:
        return self.constant(name, np.array([axis]))

    def constant(self, name: str, value: np.ndarray) -> str:
        import onnx

        self.constants.append(onnx.numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output
