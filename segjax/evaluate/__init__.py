"""Measure how good masks are: overlap, lesions, tables. Needs NumPy alone to import."""

from segjax.extras import lazy_face

__getattr__, __dir__, __all__ = lazy_face(__name__, __file__)
