"""What a voxel takes up."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from segjax.errors import InputError
from segjax.volume import check_affine, voxel_size

__all__ = ["Spacing", "Voxel", "edges_of", "voxel_of"]

Spacing = Sequence[float] | Real[np.ndarray, "n n"]
"""Edges of a voxel in mm, or the affine of the masks, voxel index -> mm."""


class Voxel(NamedTuple):
    """Size of a voxel.

    Attributes:
        size: In mm³ in rank 3, in mm² in rank 2.
        rank: Number of its edges.
    """

    size: float
    rank: int


def voxel_of(spacing: Spacing) -> Voxel:
    """Return the size of a voxel: the product of its edges, or ``|det affine|``.

    Args:
        spacing: Two or three edges in mm of a voxel whose edges meet at right angles, or an
            affine of shape ``(rank + 1, rank + 1)``, which knows its shear too.

    Returns:
        The voxel.

    Raises:
        InputError: The edges are not positive numbers, or the affine is none.

    Example:
        >>> voxel_of((0.5, 0.5, 3.0))
        Voxel(size=0.75, rank=3)
        >>> affine = np.array([[2.0, 0, 0, 0], [0, 2, 2, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
        >>> round(voxel_of(affine).size, 6)  # where the third edge has a length of 2.83
        8.0
    """
    if np.ndim(spacing) == 2:
        affine = np.asarray(spacing, np.float64)
        check_affine(affine)
        return Voxel(voxel_size(affine), len(affine) - 1)
    edges = tuple(float(edge) for edge in spacing)
    if len(edges) not in (2, 3) or not all(0 < edge < math.inf for edge in edges):
        raise InputError(
            f"spacing is {edges}: give two or three positive numbers in mm, or an affine"
        )
    return Voxel(math.prod(edges), len(edges))


def edges_of(spacing: Spacing) -> tuple[float, ...]:
    """Return the edges of a voxel in mm.

    Example:
        >>> edges_of(np.diag([0.5, 0.5, 3.0, 1.0]))
        (0.5, 0.5, 3.0)
    """
    if np.ndim(spacing) == 2:
        spacing = np.linalg.norm(np.asarray(spacing, np.float64)[:-1, :-1], axis=0).tolist()
    return tuple(float(edge) for edge in spacing)
