"""Fill polygons on a grid: which voxel centres they enclose, exactly."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["Polygon", "fill"]

_ON_EDGE = 1e-3  # voxels; a centre that is closer to an edge lies on it


@dataclass(frozen=True, eq=False)
class Polygon:
    """What one polygon encloses, in a window of the grid.

    Attributes:
        corner: First row and column of the window.
        inside: Centres that a ray from the left reaches across an odd number of edges.
        edge: Centres on an edge, up to 0.001 voxels.
    """

    corner: tuple[int, int]
    inside: Bool[np.ndarray, "row column"]
    edge: Bool[np.ndarray, "row column"]


def fill(points: Float64[np.ndarray, "point 2"]) -> Polygon:
    """Find the voxel centres in a closed polygon, by the even-odd rule.

    Args:
        points: Row and column of the corners, in voxels; the last is joined to the first.

    Returns:
        The centres inside and on the edge, in the smallest window that holds them.
    """
    low = np.ceil(points.min(axis=0) - _ON_EDGE).astype(np.int64)
    high = np.floor(points.max(axis=0) + _ON_EDGE).astype(np.int64)
    rows, columns = np.maximum(high - low + 1, 0).tolist()
    shape = (rows, columns)
    here = points - low
    there = np.roll(here, -1, axis=0)
    inside = _inside(here, there, shape)
    steep = np.abs(there - here)[:, 0] >= np.abs(there - here)[:, 1]
    edge = _edge(here[steep], there[steep], shape)
    edge |= _edge(here[~steep, ::-1], there[~steep, ::-1], shape[::-1]).T
    return Polygon((int(low[0]), int(low[1])), inside, edge)


def _inside(
    here: Float64[np.ndarray, "edge 2"],
    there: Float64[np.ndarray, "edge 2"],
    shape: tuple[int, int],
) -> Bool[np.ndarray, "row column"]:
    """Count the crossings of each row with the edges; an edge's lower end is no part of it."""
    rows, columns = shape
    first = np.ceil(np.minimum(here[:, 0], there[:, 0])).astype(np.int64)
    last = np.ceil(np.maximum(here[:, 0], there[:, 0])).astype(np.int64) - 1
    edges, row = _steps(first, last)
    crossing = np.ceil(_at(here[edges], there[edges], row)).astype(np.int64).clip(0, columns)
    toggles = np.bincount(row * (columns + 1) + crossing, minlength=rows * (columns + 1))
    odd = (toggles & 1).astype(np.uint8).reshape(rows, columns + 1)
    return np.bitwise_xor.accumulate(odd[:, :columns], axis=1).view(bool)


def _edge(
    here: Float64[np.ndarray, "edge 2"],
    there: Float64[np.ndarray, "edge 2"],
    shape: tuple[int, int],
) -> Bool[np.ndarray, "row column"]:
    """Mark the centres on edges that run rather across the rows than along them."""
    marked = np.zeros(shape, bool)
    first = np.ceil(np.minimum(here[:, 0], there[:, 0]) - _ON_EDGE).astype(np.int64)
    last = np.floor(np.maximum(here[:, 0], there[:, 0]) + _ON_EDGE).astype(np.int64)
    edges, row = _steps(first, last)
    column = _at(here[edges], there[edges], row)
    nearest = np.rint(column).astype(np.int64)
    on = np.abs(column - nearest) <= _ON_EDGE
    marked[row[on], nearest[on]] = True
    return marked


def _steps(
    first: Int64[np.ndarray, "edge"], last: Int64[np.ndarray, "edge"]
) -> tuple[Int64[np.ndarray, "step"], Int64[np.ndarray, "step"]]:
    """Return the edge and the row of every step of edges that go from row to row."""
    counts = np.maximum(last - first + 1, 0)
    edges = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return edges, first[edges] + np.arange(len(edges)) - before[edges]


def _at(
    here: Float64[np.ndarray, "step 2"],
    there: Float64[np.ndarray, "step 2"],
    row: Int64[np.ndarray, "step"],
) -> Float64[np.ndarray, "step"]:
    """Return the column where an edge meets a row, or that of the edge's end beyond it."""
    rise, run = (there - here).T
    share = (row - here[:, 0]) / np.where(rise == 0, 1, rise)
    return here[:, 1] + share.clip(0, 1) * run
