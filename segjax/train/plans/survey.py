"""What a dataset looks like, before anything is decided about a training on it."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.cache.cache import CachedCase
from segjax.data.cases import Case, Dataset, read_case_label
from segjax.data.io.formats import COLOURS, read_grid, read_image
from segjax.data.labels import classes_of
from segjax.data.prepare.pipeline import Pipeline, Step
from segjax.data.prepare.tilt import warn_of_tilts
from segjax.errors import InputError
from segjax.grid import Grid
from segjax.progress import track
from segjax.text import plural

SAME_SPACING = 0.05
"""Fraction by which spacings may differ and still be taken for the same."""
_SHOWN = 4  # values in an example


@dataclass(frozen=True)
class Survey:
    """Grids, channels and labels of a dataset.

    Attributes:
        grids: Where the voxels of every case lie after preprocessing.
        channels: Channels of an image.
        labels: Name of each label value.
    """

    grids: tuple[Grid, ...]
    channels: int
    labels: tuple[str, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Voxels of every case after preprocessing."""
        return tuple(grid.shape for grid in self.grids)

    @property
    def spacings(self) -> tuple[tuple[float, ...], ...]:
        """Distance between the voxels of every case after preprocessing, in mm."""
        return tuple(grid.spacing for grid in self.grids)

    @property
    def spatial_dims(self) -> int:
        """2 for images of rows and columns, 3 for volumes."""
        return len(self.grids[0].shape)

    def after(self, step: Step) -> "Survey":
        """Return the survey after one more step, whose grid depends on no image."""
        grids = tuple(step.grid(grid) or grid for grid in self.grids)
        return dataclasses.replace(self, grids=grids)


def survey(dataset: Dataset, pipeline: Pipeline) -> Survey:
    """Read the label maps of a dataset, and the headers of its images.

    Where shapes depend on the images, as with a crop to the brain, all images are processed.
    Steps that are not fitted yet are left out then: they change no shape but through a threshold.

    Args:
        dataset: Labelled cases, as files or from a cache.
        pipeline: Preprocessing, of which the spatial steps decide the shapes.

    Raises:
        InputError: There is no case, a case has no label, a file cannot be read, a label lies on
            another grid than its image, some cases are images and others volumes or have other
            channels, or label values are left out that nothing names.
    """
    if not dataset.cases:
        raise InputError("the dataset has no cases: nothing to train on")
    looks: dict[str, _Look] = {}
    for case in track(dataset.cases, "Looking at the labels"):
        look = looks.setdefault(case.name, _look(case, pipeline))
        first = next(iter(looks.values()))
        if len(look.grid.shape) != len(first.grid.shape):
            raise InputError(
                f"case '{case.name}' has {len(look.grid.shape)} spatial axes, case "
                f"'{dataset.cases[0].name}' has {len(first.grid.shape)}: train on either alone"
            )
    warn_of_tilts({name: look.given.affine for name, look in looks.items()})
    labels = _label_names(dataset, {name: look.values for name, look in looks.items()})
    channels = _agreed(looks)
    if dataset.channels is not None and len(dataset.channels) != channels:
        warnings.warn(
            f"dataset.json names {plural(len(dataset.channels), 'channel')} "
            f"({', '.join(dataset.channels)}), but the images have {channels}",
            stacklevel=2,
        )
    return Survey(tuple(look.grid for look in looks.values()), channels, labels)


class _Look(NamedTuple):
    """Grid of a case as it is given and after preprocessing, its channels, and its labels."""

    given: Grid
    grid: Grid
    channels: int
    values: set[int]


def _agreed(looks: Mapping[str, _Look]) -> int:
    """Return the channels of all cases; grey pictures among colours have three."""
    channels: dict[int, str] = {}
    for name, look in looks.items():
        channels.setdefault(look.channels, name)
    flat = all(len(look.grid.shape) == 2 for look in looks.values())
    if len(channels) == 1 or (flat and set(channels) == {1, COLOURS}):
        return max(channels)
    found = ", ".join(f"'{name}' has {count}" for count, name in sorted(channels.items()))
    raise InputError(f"cases have different numbers of channels ({found}); no network takes both")


def spacing_spread(spacings: Sequence[Sequence[float]]) -> float:
    """Return by how much spacings differ, as a fraction, along the axis where they do most.

    Example:
        >>> round(spacing_spread([(1.0, 1.0), (1.0, 1.2)]), 3)
        0.2
    """
    rows = np.array(spacings)
    return float((rows.max(axis=0) / rows.min(axis=0) - 1).max())


def _look(case: Case | CachedCase, pipeline: Pipeline) -> _Look:
    if isinstance(case, CachedCase):
        grid = Grid(case.label.shape, case.grids[-1].affine)
        return _Look(case.grids[0], grid, case.image.shape[-1], set(case.values))
    if case.label is None:
        raise InputError(f"case '{case.name}' has no label: training needs one")
    heads = [read_grid(image) for image in case.images]
    label = read_case_label(case, like=heads[0][0])
    values = set(classes_of(label.data, case.coding))
    grids = pipeline.grids(label)
    if grids is None:
        fitted = Pipeline(tuple(step for step in pipeline.steps if step.fitted))
        _, grids = fitted.trace(read_image(case.images))
    return _Look(heads[0][0], grids[-1], sum(count for _, count in heads), values)


def _label_names(dataset: Dataset, found: Mapping[str, set[int]]) -> tuple[str, ...]:
    """Take the names of ``dataset.json``, or make names for values that have no gap."""
    values = set().union(*found.values())
    if dataset.labels is not None:
        if unnamed := sorted(values - set(dataset.labels)):
            raise InputError(
                f"{_file_with(dataset, found, unnamed[-1])}: the labels hold the values "
                f"{_list(unnamed)}, which have no name: name every value in dataset.json or with "
                f"--labels: {unnamed[0]}=NAME, or {unnamed[0]}=background to leave it out"
            )
        return tuple(dataset.labels[value] for value in sorted(dataset.labels))
    highest = max(values)
    if missing := sorted(set(range(1, highest + 1)) - values):
        raise InputError(
            f"{_file_with(dataset, found, highest)}: the labels hold the values "
            f"{_list(sorted(values))}, but never {_list(missing)}: number them 0, 1, 2, … without "
            "a gap, or name every value in dataset.json or with --labels, such as "
            f"{_example(sorted(values - {0}))}"
        )
    if highest <= 1:
        return ("background", "lesion")
    return ("background", *(f"label {value}" for value in range(1, highest + 1)))


def _example(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]}=lesion"
    more = " …" if len(values) > _SHOWN else ""
    return " ".join(f"{value}=NAME" for value in values[:_SHOWN]) + more


def _file_with(dataset: Dataset, found: Mapping[str, set[int]], value: int) -> Path:
    """Return the first label map that holds a value."""
    name = next(name for name, some in found.items() if value in some)
    case = next(case for case in dataset.cases if case.name == name)
    return case.folder if isinstance(case, CachedCase) else case.label


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
