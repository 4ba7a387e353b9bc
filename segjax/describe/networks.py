"""Say in words what exported networks and weights of others are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.describe.words import Facts, steps_in_words, times
from segjax.text import plural

__all__ = ["describe_model", "describe_weights"]


def describe_model(path: Path) -> Facts:
    """Describe an exported network by what its file says of itself."""
    from segjax_onnx.predict.metadata import read_metadata

    metadata = read_metadata(path)
    return {
        "kind": f"{metadata.spatial_dims}D network exported by segjax {metadata.segjax_version}",
        "model": metadata.model,
        "labels": ", ".join(metadata.labels),
        "output": f"{metadata.activation} probabilities",
        "channels": str(metadata.in_channels),
        "preprocessing": steps_in_words(metadata.pipeline),
        "patch": f"{times(metadata.patch_size)}, overlap {metadata.overlap:g}, "
        f"{metadata.batch_size} at a time",
        "size": f"{path.stat().st_size / 1e6:.3g} MB",
        "training": _training(metadata.training),
    }


def describe_weights(path: Path) -> Facts:
    """Describe weights that others trained, where the network is known that they belong to."""
    from segjax.models import count_parameters
    from segjax_onnx.adopt.foreign import read_network

    name, network, variables = read_network(path)
    levels = getattr(network, "channels", None) or network.features
    return {
        "kind": f"weights of a {network.spatial_dims}D network, as PyTorch has them",
        "model": f"{name}, {count_parameters(variables):,} parameters",
        "channels": str(network.in_channels),
        "outputs": str(network.out_channels),
        "levels": f"{', '.join(map(str, levels))} channels",
        "use": "segjax export makes an ONNX file of it",
    }


def _training(values: Mapping[str, Any]) -> str:
    if "ensemble" in values:
        return f"ensemble of {plural(len(values['ensemble']), 'network')}"
    told = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name} {value}" for name, value in told.items())
