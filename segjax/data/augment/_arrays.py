"""Array functions that NumPy and JAX spell differently."""

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Num

__all__ = ["as_float", "matmul", "voxel_indices"]


def as_float(image: Num[Any, "*shape"], xp: ModuleType) -> Float[Any, "*shape"]:
    """Return an image as float32, in which whole numbers do not round to nothing; float64 stays.

    Example:
        >>> as_float(np.array([1, 2], np.uint8), np)
        array([1., 2.], dtype=float32)
    """
    wide = image.dtype in (np.float32, np.float64)
    return image if wide else xp.asarray(image, dtype=np.float32)


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
