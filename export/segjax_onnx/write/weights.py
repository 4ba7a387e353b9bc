"""The trainable weights behind an exported network, so that training can go on from its file.

An exported graph holds the kernels of all convolutions, folded with the batch norms after them,
and channels first. What folding takes away travels beside it, as a few kilobytes of text.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax_onnx.predict.digest import checked
from segjax_onnx.predict.runtime import first_line
from segjax_onnx.write.phases import is_phase, whole_of

if TYPE_CHECKING:
    import onnx

WEIGHTS_KEY = "segjax-weights"
"""The name under which the file's metadata hold what the graph does not."""

_ROUNDING = 1e-5  # of the largest weight: what folding and unfolding may change
Place = tuple[str, ...]
Kernel = Float32[np.ndarray, "..."]


def describe_weights(proto: "onnx.ModelProto", variables: Mapping[str, Any]) -> str:
    """Say how the weights of a network can be read from its exported graph.

    Args:
        proto: The graph, made of these variables.
        variables: Those of the network, as arrays.

    Returns:
        JSON text. ``kernels`` has an entry for each convolution of the graph, in its order: the
        place of the kernel among the variables and the factor of each output that a norm after it
        was folded into. ``arrays`` holds all else, and kernels that the graph does not give back.
    """
    left = {place: np.asarray(array, np.float32) for place, array in _flat(variables)}
    kernels: list[dict[str, Any] | None] = []
    for weight, transposed in _convolutions(proto):
        entry = None
        for place in [place for place in left if place[-1] == "kernel"]:
            factor = _factor(_channels_last(weight, transposed), left[place])
            if factor is not None:
                entry = {"place": list(place), "factor": _encode(factor)}
                del left[place]
                break
        kernels.append(entry)
    arrays = [{"place": list(place), **_encode(array)} for place, array in left.items()]
    return json.dumps({"kernels": kernels, "arrays": arrays}, sort_keys=True)


def read_variables(path: str | Path) -> dict[str, Any]:
    """Read the variables of a network from the ONNX file that was exported of it.

    Of an ensemble, those of its first network. Kernels that were folded with a norm differ from
    those of the training by rounding.

    Args:
        path: The ONNX file.

    Returns:
        ``{"params": …, "batch_stats": …}`` with NumPy arrays, as a training has them.

    Raises:
        InputError: The file is missing or no network, or does not say what its weights were.

    Example:
        >>> sorted(read_variables("model.onnx"))
        ['batch_stats', 'params']
    """
    proto = load_proto(path)
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    if WEIGHTS_KEY not in texts:
        raise InputError(
            f"{path}: holds no trainable weights (an older export, or not of segjax): "
            "give the folder of the training, or export that again"
        )
    found = json.loads(texts[WEIGHTS_KEY])
    variables: dict[str, Any] = {}
    for entry in found["arrays"]:
        _put(variables, entry["place"], _decode(entry))
    convolutions = islice(_convolutions(proto), len(found["kernels"]))
    for entry, (weight, transposed) in zip(found["kernels"], convolutions, strict=True):
        if entry is not None:
            kernel = _channels_last(weight, transposed) / _decode(entry["factor"])
            _put(variables, entry["place"], np.ascontiguousarray(kernel))
    return variables


def load_proto(path: str | Path) -> "onnx.ModelProto":
    """Read an ONNX file as it is.

    Raises:
        InputError: The file is missing, damaged or no network, or the package onnx is missing.
    """
    with needed_for("reading and merging ONNX files"):
        import onnx
    model = checked(path, str(path))
    try:
        return onnx.load_from_string(model)
    except Exception as error:  # protobuf's errors share no class of their own
        raise InputError(f"{path}: no ONNX network ({first_line(error)})") from error


def _convolutions(proto: "onnx.ModelProto") -> Iterator[tuple[Kernel, bool]]:
    """Yield the weight of every convolution, and whether it is a transposed one.

    One that :func:`segjax_onnx.write.primitives.in_planes` made two is one again, and so is one
    that :func:`segjax_onnx.write.phases.part_transposed` made four.
    """
    import onnx

    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    planes: dict[str, Kernel] = {}
    phases: list[Kernel] = []
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        weight = onnx.numpy_helper.to_array(tensors[node.input[1]]).astype(np.float32)
        if weight.shape[2:] == (1, 3, 3):
            planes[node.output[0]] = weight
        elif is_phase(node.output[0]):
            phases.append(weight)
            if len(phases) == 4:
                yield whole_of(phases), True
                phases = []
        elif node.input[0] in planes:
            yield np.concatenate(np.split(planes.pop(node.input[0]), 3), axis=2), False
        else:
            yield weight, node.op_type == "ConvTranspose"


def _channels_last(weight: Kernel, transposed: bool) -> Kernel:
    """Move (out, in, *size), or (in, out, *size) if transposed, to (*size, in, out)."""
    return np.moveaxis(weight, (0, 1), (-2, -1) if transposed else (-1, -2))


def _factor(folded: Kernel, kernel: Kernel) -> Float32[np.ndarray, " out"] | None:
    """Return what each output of a kernel was multiplied by; nothing if it was another kernel."""
    if folded.shape != kernel.shape:
        return None
    before, after = (array.reshape(-1, array.shape[-1]) for array in (kernel, folded))
    largest = np.abs(before).argmax(0), np.arange(before.shape[1])
    if not (before[largest].all() and after[largest].all()):
        return None
    factor = after[largest] / before[largest]
    same = np.abs(after / factor - before).max() <= _ROUNDING * np.abs(before).max()
    return factor if same else None


def _flat(variables: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for name in sorted(variables):
        value = variables[name]
        if isinstance(value, Mapping):
            yield from _flat(value, (*place, name))
        else:
            yield (*place, name), value


def _put(variables: dict[str, Any], place: list[str], array: Float32[np.ndarray, "..."]) -> None:
    for name in place[:-1]:
        variables = variables.setdefault(name, {})
    variables[place[-1]] = array


def _encode(array: Float[Any, "..."]) -> dict[str, Any]:
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": list(array.shape), "float32": base64.b64encode(data).decode()}


def _decode(entry: Mapping[str, Any]) -> Float32[np.ndarray, "..."]:
    data = np.frombuffer(base64.b64decode(entry["float32"]), "<f4")
    return data.astype(np.float32).reshape(entry["shape"])
