"""Export segjax networks to ONNX and run them without JAX.

Names load on first use: `Predictor` and `read_metadata` need no JAX, those that export do.

Example:
    >>> import segjax_onnx
    >>> mask = segjax_onnx.Predictor("model.onnx").predict("flair.nii.gz")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax_onnx.convert import export_onnx, to_onnx
    from segjax_onnx.ensemble import export_ensemble
    from segjax_onnx.foreign import Usage, export_weights
    from segjax_onnx.metadata import ModelMetadata, read_metadata
    from segjax_onnx.predictor import Predictor
    from segjax_onnx.weights import read_variables

__all__ = [
    "ModelMetadata",
    "Predictor",
    "Usage",
    "export_ensemble",
    "export_onnx",
    "export_weights",
    "read_metadata",
    "read_variables",
    "to_onnx",
]

_MODULES = {
    "ModelMetadata": "metadata",
    "Predictor": "predictor",
    "Usage": "foreign",
    "export_ensemble": "ensemble",
    "export_onnx": "convert",
    "export_weights": "foreign",
    "read_metadata": "metadata",
    "read_variables": "weights",
    "to_onnx": "convert",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"segjax_onnx.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'segjax_onnx' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
