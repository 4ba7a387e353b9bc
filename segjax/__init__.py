"""Segment lesions in MR images with small Flax networks.

Submodules load on first use, so that ``import segjax`` is fast and needs no JAX.

Example:
    >>> import segjax
    >>> segjax.__version__
    '0.1.0'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax import data, evaluate, models, train
    from segjax.errors import InputError
    from segjax.volume import Volume

__version__ = "0.1.0"
__all__ = ["InputError", "Volume", "data", "evaluate", "models", "train"]

_SUBMODULES = ("data", "evaluate", "models", "train")
_ATTRIBUTES = {"InputError": "segjax.errors", "Volume": "segjax.volume"}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"segjax.{name}")
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    raise AttributeError(f"module 'segjax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
