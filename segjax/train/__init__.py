"""Train networks: losses, configurations, the step and the loop around it.

Every public name of the modules below can be taken from this package, and loads its module, and
with it JAX, on first use. :func:`fit` trains one network, :func:`sweep` many, :func:`plan` decides
on settings.

Example:
    >>> import segjax
    >>> segjax.train.OptimizerConfig().schedule
    'one-cycle'
"""

from segjax.extras import lazy_face

__getattr__, __dir__, __all__ = lazy_face(__name__, __file__)
