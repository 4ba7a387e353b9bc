"""Say in words what exported networks and weights of others are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.describe.words import Facts, steps_in_words, times
from segjax.text import plural

if TYPE_CHECKING:
    from segjax_onnx.predict.metadata import ModelMetadata
    from segjax_onnx.predict.postprocess import LabelRule

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
        "channels": _channels(metadata),
        "preprocessing": steps_in_words(metadata.pipeline),
        "patch": f"{times(metadata.patch_size)}, overlap {metadata.overlap:g}, "
        f"{metadata.batch_size} at a time",
        **_mask(metadata),
        "size": f"{path.stat().st_size / 1e6:.3g} MB",
        "training": _training(metadata.training),
        **_about(metadata),
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


def _channels(metadata: "ModelMetadata") -> str:
    named = metadata.channels != tuple(f"channel {i}" for i in range(metadata.in_channels))
    optional = metadata.optional_channels
    missing = f"; {', '.join(optional)} may be missing" if optional else ""
    names = f" ({', '.join(metadata.channels)}{missing})" if named or optional else ""
    return f"{metadata.in_channels}{names}"


def _mask(metadata: "ModelMetadata") -> Facts:
    """Say how labels are chosen and coded, where a file does."""
    names, rules = metadata.labels[1:], metadata.postprocessing
    told = {name: _rule(rule) for name, rule in zip(names, rules, strict=False)}
    codes = {
        name: f"{structure.code.meaning} ({structure.code.scheme} {structure.code.value})"
        for name, structure in zip(names, metadata.structures, strict=True)
        if structure.code
    }
    facts = {"rules": told, "codes": codes}
    return {
        fact: "; ".join(f"{name}: {words}" for name, words in values.items() if words)
        for fact, values in facts.items()
        if any(values.values())
    }


def _rule(rule: "LabelRule") -> str:
    words = {
        f"probability from {rule.threshold} on": rule.threshold is not None,
        "holes filled": rule.fill_holes,
        "largest component": rule.largest_component,
        f"components from {rule.minimum_volume:g} mm³ on": rule.minimum_volume > 0,
    }
    return ", ".join(word for word, holds in words.items() if holds)


def _about(metadata: "ModelMetadata") -> Facts:
    about = metadata.about
    dice = ", ".join(f"{name} {value:.3g}" for name, value in (about.dice or {}).items())
    facts = {
        "for": about.intended_use,
        "trained on": about.training_data,
        "Dice": dice,
        "licence": about.license,
        "cite": about.citation,
        "more": about.url,
    }
    return {name: words for name, words in facts.items() if words}


def _training(values: Mapping[str, Any]) -> str:
    if "ensemble" in values:
        return f"ensemble of {plural(len(values['ensemble']), 'network')}"
    told = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name} {value}" for name, value in told.items())
