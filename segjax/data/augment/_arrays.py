"""Array functions that NumPy and JAX spell differently."""

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Num

__all__ = ["matmul", "voxel_indices"]


def matmul(
    left: Float[Any, "... m k"], right: Float[Any, "... k n"], xp: ModuleType
) -> Float[Any, "... m n"]:
    """Multiply matrices in full float32, which GPUs round to fewer bits unless told not to."""
    return np.matmul(left, right) if xp is np else xp.matmul(left, right, precision="highest")


def voxel_indices(spatial: tuple[int, ...], axis: int) -> Num[np.ndarray, "..."]:
    """Return the index along an axis of every voxel, as float32 that broadcasts over ``spatial``.

    Example:
        >>> voxel_indices((2, 3), 1)
        array([[0., 1., 2.]], dtype=float32)
    """
    shape = [size if i == axis else 1 for i, size in enumerate(spatial)]
    return np.arange(spatial[axis], dtype=np.float32).reshape(shape)
