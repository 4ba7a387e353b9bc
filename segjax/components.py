"""Connected components of masks, and where masks lie."""

from itertools import product

import numpy as np
from jaxtyping import Bool, Int, Int32

__all__ = ["box_of", "label_components"]


def label_components(
    mask: Bool[np.ndarray, "*spatial"], *, axes_at_once: int | None = None
) -> tuple[Int32[np.ndarray, "*spatial"], int]:
    """Number the connected components of a mask.

    Args:
        mask: The mask, of any rank from 1.
        axes_at_once: Along how many axes neighbours may differ at once: in a volume 1, 2 and 3
            give 6, 18 and 26 neighbours, in a picture 1 and 2 give 4 and 8. All by default.

    Returns:
        The number of each voxel's component, from 1 on in the order of their first voxels; 0 in
        the background. And how many there are.

    Example:
        >>> mask = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], bool)
        >>> label_components(mask)[0].tolist()
        [[1, 0, 1], [0, 1, 0], [0, 0, 0], [2, 2, 0]]
        >>> label_components(mask, axes_at_once=1)[1]
        4

    Source: Equals ``scipy.ndimage.label``. Runs of voxels along the last axis are merged with
        those of the lines beside them by pointer jumping (Y. Shiloach and U. Vishkin, An O(log n)
        parallel connectivity algorithm, J. Algorithms 3, 1982).
    """
    most = mask.ndim if axes_at_once is None else axes_at_once
    spaced = np.pad(mask, [(0, 1)] * mask.ndim)  # so that no line touches what follows it
    edges = np.flatnonzero(np.diff(spaced.ravel(), prepend=False))
    starts, stops = edges[::2], edges[1::2]
    strides = np.cumprod((1, *spaced.shape[:0:-1]))[::-1]
    pairs = [
        _touching(starts, stops, int(np.dot(step, strides[:-1])), reach=sum(map(abs, step)) < most)
        for step in product((-1, 0, 1), repeat=mask.ndim - 1)
        if (0,) * len(step) < step and sum(map(abs, step)) <= most
    ]
    first, second = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.intp)
    numbers, count = _numbers(len(starts), first, second)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers, stops - starts)
    return labels, count


def box_of(mask: Bool[np.ndarray, "*spatial"]) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask; an empty one of an empty mask.

    Example:
        >>> box_of(np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool))
        (slice(1, 2, None), slice(1, 4, None))
    """
    if not mask.any():
        return (slice(0, 0),) * mask.ndim
    ends = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        places = np.flatnonzero(mask.any(axis=others))
        ends.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(ends)


def _touching(
    starts: Int[np.ndarray, " run"], stops: Int[np.ndarray, " run"], shift: int, *, reach: bool
) -> Int[np.ndarray, "2 pair"]:
    """Pair runs with those that they touch on the line ``shift`` voxels on."""
    first = np.searchsorted(stops, starts + (shift - reach), side="right")
    counts = np.searchsorted(starts, stops + (shift + reach), side="left") - first
    runs = np.repeat(np.arange(len(starts)), counts)
    before = np.cumsum(counts) - counts
    return np.stack([runs, np.arange(len(runs)) + np.repeat(first - before, counts)])


def _numbers(
    runs: int, first: Int[np.ndarray, " pair"], second: Int[np.ndarray, " pair"]
) -> tuple[Int32[np.ndarray, " run"], int]:
    """Merge the runs of each pair, and number what remains by its first run."""
    root = np.arange(runs)
    while len(first):
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while (root != (further := root[root])).any():
            root = further
        first, second = root[first], root[second]
        apart = first != second
        first, second = first[apart], second[apart]
    is_first = root == np.arange(runs)
    return np.cumsum(is_first, dtype=np.int32)[root], int(is_first.sum())
