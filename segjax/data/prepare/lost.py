"""Lesions that preprocessing makes vanish, which nobody would miss otherwise."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segjax.components import label_components
from segjax.data.labels import foreground
from segjax.data.prepare.pipeline import Pipeline
from segjax.grid import Grid
from segjax.volume import Volume

__all__ = ["Lost", "lost_lesions", "warn_of_lost"]


class Lost(NamedTuple):
    """What became of the lesions of one case.

    Attributes:
        lesions: Number of lesions of the label map as it is on disk: pieces of touching voxels of
            one label.
        lost: Number of those of which the processed label map holds no voxel.
        largest: Size of the largest of these.
        unit: Of that size: ml, or pixels of pictures.
    """

    lesions: int
    lost: int
    largest: float
    unit: str = "ml"


def lost_lesions(label: Volume, pipeline: Pipeline, grids: Sequence[Grid]) -> Lost | None:
    """Count the lesions that resampling or cropping takes away.

    Args:
        label: Label map as it is on disk.
        pipeline: Preprocessing.
        grids: What :meth:`Pipeline.trace` returned for the image.

    Returns:
        The count; None where all lesions are there.

    Example:
        >>> from segjax.data.prepare.steps import (CropOrPad)
        >>> label = Volume(np.eye(5, dtype=np.uint8)[:, :4] * [[1], [0], [1], [0], [0]], np.eye(3))
        >>> pipeline = Pipeline((CropOrPad((3, 4)),))
        >>> lost_lesions(label, pipeline, pipeline.grids(label))
        Lost(lesions=2, lost=1, largest=1.0, unit='pixels')
    """
    mask = foreground(label.data)
    if not mask.any() or _keeps_voxels(grids):
        return None
    pieces, count = np.zeros(mask.shape, np.int32), 0
    for value in np.unique(label.data[mask]).tolist():
        own, found = label_components(label.data == value)
        pieces[own > 0] = own[own > 0] + count
        count += found
    processed = pipeline.apply_label(label.with_data(pieces), grids).data
    lost = np.setdiff1d(np.arange(1, count + 1), processed)
    if not lost.size:
        return None
    size, unit = (label.voxel_size / 1000, "ml") if label.spatial_dims == 3 else (1.0, "pixels")
    largest = float(np.bincount(pieces.ravel())[lost].max() * size)
    return Lost(int(count), int(lost.size), largest, unit)


def _keeps_voxels(grids: Sequence[Grid]) -> bool:
    """Say whether steps only turn the voxels: neither resample nor crop."""
    first = grids[0]
    return all(
        sorted(grid.shape) == sorted(first.shape)
        and np.allclose(sorted(grid.spacing), sorted(first.spacing), rtol=1e-6)
        for grid in grids
    )


def warn_of_lost(found: Mapping[str, Lost], cases: int) -> None:
    """Warn, with numbers, of lesions that vanish in preprocessing.

    Args:
        found: By case, where any is lost.
        cases: Number of all cases.

    Warns:
        UserWarning: There is any.

    Example:
        >>> warn_of_lost({}, 12)
    """
    if not found:
        return
    lost = sum(one.lost for one in found.values())
    worst, most = max(found.items(), key=lambda item: item[1].lost)
    largest = max(found.values(), key=lambda one: one.largest)
    size = f"{largest.largest:.3g}" if largest.unit == "ml" else f"{largest.largest:,.0f}"
    warnings.warn(
        f"preprocessing makes {lost} lesion{'s' if lost > 1 else ''} vanish, in {len(found)} of "
        f"{cases} cases (most in '{worst}': {most.lost} of {most.lesions}; the largest has "
        f"{size} {largest.unit}): the network never sees them; take a finer "
        "spacing, more pixels, or crop less",
        stacklevel=3,
    )
