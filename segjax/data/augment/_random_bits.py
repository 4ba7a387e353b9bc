"""Random arrays as a pure function of a seed, the same in NumPy and JAX."""

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt32

__all__ = ["draw_seed", "normal"]

_GOLDEN = 0x9E3779B9  # 2³² over the golden ratio, odd: distant seeds for distant streams


def draw_seed(rng: np.random.Generator) -> UInt32[np.ndarray, ""]:
    """Draw a seed for :func:`normal`.

    Example:
        >>> draw_seed(np.random.default_rng(0)).dtype
        dtype('uint32')
    """
    return np.asarray(rng.integers(2**32, dtype=np.uint32))


def normal(seed: UInt32[Any, ""], shape: tuple[int, ...], xp: ModuleType) -> Float[Any, "..."]:
    """Return standard normal numbers, float32, that depend on the seed alone.

    A counter per pair of numbers is hashed twice (Wellons' ``lowbias32``, whose bias is under
    0.2 bits in 1000), and both hashes make two normal numbers by Box and Muller's transform.

    Args:
        seed: Any 32 bits; may be traced.
        shape: Of the result.
        xp: ``numpy`` or ``jax.numpy``.

    Example:
        >>> round(float(normal(np.asarray(7, np.uint32), (100_000,), np).std()), 2)
        1.0

    Source:
        C. Wellons, "Prospecting for Hash Functions", 2018; Box and Muller, 1958.
    """
    size = int(np.prod(shape))
    counter = xp.arange((size + 1) // 2, dtype=np.uint32)
    key = _hash(xp.asarray(seed, dtype=np.uint32).reshape(1))
    first = _hash(counter ^ key)
    second = _hash(first + _hash(key + np.uint32(_GOLDEN)))
    distance = (first >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    radius = xp.sqrt(np.float32(-2) * xp.log(distance + np.float32(2**-25)))
    angle = (second >> np.uint32(8)).astype(np.float32) * np.float32(2 * np.pi * 2**-24)
    pairs = xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)])
    return pairs[:size].reshape(shape)


def _hash(bits: UInt32[Any, "..."]) -> UInt32[Any, "..."]:
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))
