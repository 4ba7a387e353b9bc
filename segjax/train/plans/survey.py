"""What a dataset looks like, before anything is decided about a training on it."""

import dataclasses
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segjax.data.cases import Dataset
from segjax.data.io.formats import COLOURS
from segjax.data.loaded import Look
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Step
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
    looks: dict[str, Look] = {}
    for case in track(dataset.cases, "Looking at the labels"):
        look = looks.setdefault(case.name, case.look(pipeline))
        first = next(iter(looks.values()))
        if len(look.processed.shape) != len(first.processed.shape):
            raise InputError(
                f"case '{case.name}' has {len(look.processed.shape)} spatial axes, case "
                f"'{dataset.cases[0].name}' has {len(first.processed.shape)}: train on either alone"
            )
    warn_of_tilts({name: look.given.affine for name, look in looks.items()})
    labels = _label_names(dataset, looks.values())
    channels = _agreed(looks)
    if dataset.channels is not None and len(dataset.channels) != channels:
        warnings.warn(
            f"dataset.json names {plural(len(dataset.channels), 'channel')} "
            f"({', '.join(dataset.channels)}), but the images have {channels}",
            stacklevel=2,
        )
    return Survey(tuple(look.processed for look in looks.values()), channels, labels)


def _agreed(looks: Mapping[str, Look]) -> int:
    """Return the channels of all cases; grey pictures among colours have three."""
    channels: dict[int, str] = {}
    for name, look in looks.items():
        channels.setdefault(look.channels, name)
    flat = all(len(look.processed.shape) == 2 for look in looks.values())
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


def _label_names(dataset: Dataset, looks: Collection[Look]) -> tuple[str, ...]:
    """Take the names of ``dataset.json``, or make names for values that have no gap."""
    values = set[int]().union(*(look.values for look in looks))
    if dataset.labels is not None:
        if unnamed := sorted(values - set(dataset.labels)):
            raise InputError(
                f"{_place_of(looks, unnamed[-1])}: the labels hold the values "
                f"{_list(unnamed)}, which have no name: name every value in dataset.json or with "
                f"--labels: {unnamed[0]}=NAME, or {unnamed[0]}=background to leave it out"
            )
        return tuple(dataset.labels[value] for value in sorted(dataset.labels))
    highest = max(values)
    if missing := sorted(set(range(1, highest + 1)) - values):
        raise InputError(
            f"{_place_of(looks, highest)}: the labels hold the values "
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


def _place_of(looks: Iterable[Look], value: int) -> Path:
    """Return the first label map that holds a value."""
    return next(look.place for look in looks if value in look.values)


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
