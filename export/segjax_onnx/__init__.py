"""Export segjax networks to ONNX and run them without JAX.

Names load on first use: `Predictor` and `read_metadata` need no JAX, those that export do.

Example:
    >>> import segjax_onnx
    >>> mask = segjax_onnx.Predictor("model.onnx").predict("flair.nii.gz")  # doctest: +SKIP
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
