"""What exported networks are to segjax: brain extractors, weights to start from, and an export."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.registry import register

if TYPE_CHECKING:
    import jax

    from segjax.data.prepare.brain import Extractor
    from segjax.models.network import Network
    from segjax.volume import Volume


@register("extractor", ".onnx")
def brain_network(path: str | Path) -> "Extractor":
    """Return a brain extractor: every label of a network but 0 is brain.

    The network is given the whole image where it takes as many channels, else the chosen one.

    Args:
        path: An ONNX file of segjax.
    """

    def extract(image: "Volume", *, channel: int) -> "Volume":
        from segjax_onnx.predict.predictor import Predictor

        predictor = Predictor(path)
        whole = predictor.metadata.in_channels == image.channels
        one = image.with_data(image.channels_last[..., channel])
        return predictor.predict(image if whole else one)

    return extract


@register("weights", ".onnx")
def exported_weights(path: Path, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the variables of an exported network, and the names of its labels.

    Raises:
        InputError: The file holds another network than ``model``.
    """
    from segjax.train.transfer import check_model
    from segjax_onnx.predict.metadata import read_metadata
    from segjax_onnx.write.weights import read_variables

    metadata = read_metadata(path)
    check_model(path, metadata.model, model)
    return read_variables(path), metadata.labels


@register("exporter", "ONNX")
def what_keeps_from_export(network: "Network", images: "jax.ShapeDtypeStruct") -> str:
    """Say why a network cannot be exported; nothing where it can."""
    from segjax_onnx.write.supported import obstacle

    return obstacle(network, images)
