"""Several exported networks in one ONNX file, whose answer is the mean of theirs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segjax.data.seen import together as seen_together
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax_onnx.predict.digest import sealed
from segjax_onnx.predict.metadata import KEY, ModelMetadata, together
from segjax_onnx.predict.network import find_files
from segjax_onnx.write.card import Card
from segjax_onnx.write.stages import described
from segjax_onnx.write.weights import WEIGHTS_KEY, load_proto

if TYPE_CHECKING:
    import onnx

_OUTPUT = "probabilities"
_SAME = (
    "labels",
    "activation",
    "spatial_dims",
    "in_channels",
    "size_multiple",
    "pipeline",
    "patch_size",
    "channels",
    "optional_channels",
    "window",
    "postprocessing",
    "inside",
)


def export_ensemble(
    members: str | Path | Sequence[str | Path],
    path: str | Path,
    *,
    overwrite: bool = False,
    card: Card | None = None,
) -> Path:
    """Write one ONNX file that gives the mean of the probabilities of several networks.

    It is used as any other exported network is; needs no JAX. A training that starts from it
    (``--init``) takes the weights of the first.

    Args:
        members: Exported networks, or the folder of a cross-validation.
        path: The file to write, ``….onnx``.
        overwrite: Whether to replace the file.
        card: What people decide about it; by default what the members say alike.

    Returns:
        The file.

    Raises:
        InputError: If there are fewer than two networks; one cannot be read; or they have other
            labels, channels, patches, preprocessing or rules for the mask.

    Example:
        >>> export_ensemble(["run", "model.onnx"], "both.onnx")
        PosixPath('both.onnx')
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: give the file a name that ends in .onnx")
    listed = [members] if isinstance(members, str | Path) else members
    files = [file for member in listed for file in find_files(member)]
    with atomic_path(path, overwrite=overwrite) as temporary:
        protos, names = [load_proto(file) for file in files], [str(file) for file in files]
        merged = merge(protos, names=names, card=card)
        temporary.write_bytes(sealed(merged.SerializeToString(deterministic=True)))
    return path


def merge(
    protos: "Sequence[onnx.ModelProto]", *, names: Sequence[str], card: Card | None = None
) -> "onnx.ModelProto":
    """Merge networks into one that gives the mean of their probabilities.

    Args:
        protos: Networks that segjax exported.
        names: Their names, for messages.
        card: As for :func:`export_ensemble`.

    Raises:
        InputError: If there are fewer than two, or they do not agree.
    """
    import onnx

    if len(protos) < 2:
        raise InputError(f"an ensemble of {len(protos)}: give at least two networks")
    metadata = (card or Card()).fill(_agreed(protos, names))
    graph = onnx.GraphProto(name="segjax")
    graph.input.append(protos[0].graph.input[0])
    outputs = []
    for number, proto in enumerate(protos):
        prefix = f"member{number}/"
        member = onnx.compose.add_prefix(proto, prefix, rename_inputs=False).graph
        graph.node.extend(member.node)
        graph.initializer.extend(member.initializer)
        outputs.append(member.output[0].name)
    _add_mean(graph, outputs)
    graph.output.append(protos[0].graph.output[0])
    merged = onnx.helper.make_model(
        graph, opset_imports=protos[0].opset_import, ir_version=max(p.ir_version for p in protos)
    )
    merged.producer_name, merged.producer_version = "segjax", metadata.segjax_version
    if metadata.halo is not None:
        metadata = described(metadata, merged)
    first = {e.key: e.value for e in protos[0].metadata_props if e.key == WEIGHTS_KEY}
    onnx.helper.set_model_props(merged, {KEY: metadata.to_json(), **first})
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _add_mean(graph: "onnx.GraphProto", names: Sequence[str]) -> None:
    """Add up and scale: browsers run Add and Mul on a GPU, and Mean nowhere."""
    import numpy as np
    import onnx

    total = names[0]
    for number, name in enumerate(names[1:], start=1):
        graph.node.append(onnx.helper.make_node("Add", [total, name], [f"sum{number}"]))
        total = f"sum{number}"
    share = onnx.numpy_helper.from_array(np.array(1 / len(names), np.float32), "share")
    graph.initializer.append(share)
    graph.node.append(onnx.helper.make_node("Mul", [total, "share"], [_OUTPUT]))


def _agreed(protos: "Sequence[onnx.ModelProto]", names: Sequence[str]) -> ModelMetadata:
    """Return the metadata of them all."""
    found = [_metadata(proto, name) for proto, name in zip(protos, names, strict=True)]
    first = found[0]
    if first.inside:
        raise InputError(f"{names[0]}: preprocesses in its graph; merge networks that do not")
    for name, other, proto in zip(names, found, protos, strict=True):
        differing = [field for field in _SAME if getattr(first, field) != getattr(other, field)]
        if proto.opset_import[0].version != protos[0].opset_import[0].version:
            differing.append("operator set")
        if differing:
            raise InputError(
                f"{name}: has another {differing[0].replace('_', ' ')} than {names[0]}, so that "
                f"one file cannot hold both{_ADVICE.get(differing[0], '')}"
            )
    training = {"ensemble": [one.training for one in found]}
    return dataclasses.replace(
        together(found),
        seen=seen_together(one.seen for one in found),
        training=training,
        stages=(),  # whose names are those of one member
    )


_ADVICE = {
    "pipeline": "; `segjax predict` takes both files, and preprocesses for each",
    "operator set": "; export both with one --opset",
}


def _metadata(proto: "onnx.ModelProto", name: str) -> ModelMetadata:
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    if KEY not in texts:
        raise InputError(f"{name}: an ONNX file without segjax metadata")
    try:
        return ModelMetadata.from_json(texts[KEY])
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
