"""What a dataset looks like, before anything is decided about a training on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segjax.data.cache import CachedCase
from segjax.data.datasets import Case, Dataset
from segjax.data.formats import read_image, read_label
from segjax.data.pipeline import Pipeline
from segjax.data.spatial import Grid
from segjax.errors import InputError
from segjax.progress import track

SAME_SPACING = 0.05
"""Fraction by which spacings may differ and still be taken for the same."""


@dataclass(frozen=True)
class Survey:
    """Sizes, channels and labels of a dataset.

    Attributes:
        shapes: Voxels of every case after preprocessing.
        channels: Channels of an image.
        labels: Name of each label value.
        spacings: Distance of the voxels of every case after preprocessing, in mm.
    """

    shapes: tuple[tuple[int, ...], ...]
    channels: int
    labels: tuple[str, ...]
    spacings: tuple[tuple[float, ...], ...] = ()

    @property
    def spatial_dims(self) -> int:
        """2 for images of rows and columns, 3 for volumes."""
        return len(self.shapes[0])


def survey(dataset: Dataset, pipeline: Pipeline) -> Survey:
    """Read the label maps of a dataset, and its first image.

    Where shapes depend on the images, as with a crop to the brain, all images are processed.
    Steps that are not fitted yet are left out then: they change no shape but through a threshold.

    Args:
        dataset: Labelled cases, as files or from a cache.
        pipeline: Preprocessing, of which the spatial steps decide the shapes.

    Raises:
        InputError: There is no case, a case has no label, a file cannot be read, some cases are
            images and others volumes, or label values are left out that nothing names.
    """
    if not dataset.cases:
        raise InputError("the dataset has no cases: nothing to train on")
    shapes, spacings, values = [], [], set()
    for case in track(dataset.cases, "Looking at the labels"):
        grid, found = _look(case, pipeline)
        shape = grid.shape
        shapes.append(shape)
        spacings.append(tuple(grid.spacing))
        values |= found
        if len(shape) != len(shapes[0]):
            raise InputError(
                f"case '{case.name}' has {len(shape)} spatial axes, case "
                f"'{dataset.cases[0].name}' has {len(shapes[0])}: train on either alone"
            )
    channels = _channels(dataset.cases[0])
    labels = _label_names(dataset, values)
    return Survey(tuple(shapes), channels, labels, tuple(spacings))


def spacing_spread(spacings: Sequence[Sequence[float]]) -> float:
    """Return by how much spacings differ, as a fraction, along the axis where they do most.

    Example:
        >>> round(spacing_spread([(1.0, 1.0), (1.0, 1.2)]), 3)
        0.2
    """
    rows = np.array(spacings)
    return float((rows.max(axis=0) / rows.min(axis=0) - 1).max())


def _channels(case: Case | CachedCase) -> int:
    if isinstance(case, CachedCase):
        return case.image.shape[-1]
    return read_image(case.images).channels


def _look(case: Case | CachedCase, pipeline: Pipeline) -> tuple[Grid, set[int]]:
    if isinstance(case, CachedCase):
        return Grid(case.label.shape, case.grids[-1].affine), set(case.values)
    if case.label is None:
        raise InputError(f"case '{case.name}' has no label: training needs one")
    label = read_label(case.label)
    values = {int(value) for value in np.unique(label.data)}
    grids = pipeline.grids(label)
    if grids is None:
        fitted = Pipeline(tuple(step for step in pipeline.steps if step.fitted))
        _, grids = fitted.trace(read_image(case.images))
    return grids[-1], values


def _label_names(dataset: Dataset, values: set[int]) -> tuple[str, ...]:
    """Take the names of ``dataset.json``, or make names for values that have no gap."""
    if dataset.labels is not None:
        return tuple(dataset.labels[value] for value in sorted(dataset.labels))
    highest = max(values)
    if missing := sorted(set(range(1, highest + 1)) - values):
        raise InputError(
            f"the labels hold the values {_list(sorted(values))}, but never {_list(missing)}: "
            "number them 0, 1, 2, … without a gap, or name every value in dataset.json"
        )
    if highest <= 1:
        return ("background", "lesion")
    return ("background", *(f"label {value}" for value in range(1, highest + 1)))


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
