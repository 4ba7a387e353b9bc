"""Models that come with the library: exported networks, and a card that tells of each."""

from segjax.extras import lazy_face

__getattr__, __dir__, __all__ = lazy_face(__name__, __file__)
