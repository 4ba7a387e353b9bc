"""Read, process, sample and write MR volumes with NumPy alone: nothing here imports JAX.

Every public name can be taken from this package and loads its module on first use. Grids and what
turns and crops them are in :mod:`segjax.grid`, synthetic heads in :mod:`segjax.data.phantom`.

Example:
    >>> from segjax.data import Pipeline, Reorient, ZScore
    >>> len(Pipeline((Reorient("RAS"), ZScore("nonzero"))).steps)
    2
"""

from segjax.extras import lazy_face

__getattr__, __dir__, __all__ = lazy_face(__name__, __file__)
