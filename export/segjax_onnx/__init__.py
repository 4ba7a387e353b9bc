"""Export segjax networks to ONNX and run them without JAX.

Names load on first use: `Predictor` and `read_metadata` need no JAX, those that export do.

Example:
    >>> import segjax_onnx
    >>> segjax_onnx.Predictor("model.onnx").predict("flair.nii.gz").spatial_shape
    (24, 28, 24)
"""

from segjax.extras import lazy_face

__getattr__, __dir__, __all__ = lazy_face(__name__, __file__)
