"""Cases that are ready for training: what all of them answer, and those in memory."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64, Integer

from segjax.data.labels import IGNORED, foreground
from segjax.data.prepare.lost import Lost
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.seen import Sight, intensity_spans
from segjax.errors import InputError
from segjax.grid import Grid, grid
from segjax.volume import Volume

__all__ = ["LoadedCase", "Look", "TrainingCase"]


class Look(NamedTuple):
    """What is known of a labelled case before its voxels are preprocessed.

    Attributes:
        given: Grid of the image as it is on disk.
        processed: Its grid after the pipeline.
        channels: Channels of the image.
        values: Classes in the label map.
        place: Where the label map lies, for messages.
    """

    given: Grid
    processed: Grid
    channels: int
    values: frozenset[int]
    place: Path


@runtime_checkable
class TrainingCase(Protocol):
    """A preprocessed case, in memory (:class:`LoadedCase`) or in a cache on disk.

    Patches of ``image`` and ``label`` are cut out of either by slices.

    Example:
        >>> from segjax.data import open_cache
        >>> case: TrainingCase = open_cache("cache").cases[0]
        >>> case.image[:8, :8, :8].shape
        (8, 8, 8, 1)
    """

    @property
    def name(self) -> str:
        """Unique in its dataset."""

    @property
    def image(self) -> Float[np.ndarray, "*spatial channel"]:
        """Processed image."""

    @property
    def label(self) -> Integer[np.ndarray, "*spatial"]:
        """Processed label map, on the grid of ``image``."""

    @property
    def foreground(self) -> Int64[np.ndarray, " voxels"]:
        """Flat (C-order) indices of the voxels of ``label`` that hold a class, rising."""

    @property
    def values(self) -> tuple[int, ...]:
        """Classes in the label map as it is on disk, rising."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between the voxels of ``image``, in mm."""

    @property
    def lost(self) -> Lost | None:
        """Lesions that preprocessing made vanish."""

    def keeps_grid(self, pipeline: Pipeline) -> bool:
        """Say whether no step of the pipeline moved a voxel of the image."""

    def sight(self, pipeline: Pipeline) -> Sight:
        """Return what a network sees of the image."""

    def loaded(self) -> "LoadedCase":
        """Return the case with the label map as it is on disk, which a validation needs."""


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """One case in memory, ready for training.

    Attributes:
        name: The case's name.
        image: Processed image, ``(*spatial, channel)`` float32.
        label: Processed label map, ``(*spatial)`` uint8, on the grid of ``image``.
        volume: Geometry of the image as it was on disk, for ``Pipeline.invert``; its data are
            zeros that take no memory.
        raw_label: The label map as it was on disk.
        grids: What ``Pipeline.trace`` said of the image; may be left out where no step of the
            pipeline depends on the image.
        lost: Lesions that preprocessing made vanish.

    Raises:
        InputError: Image and label differ in shape.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> image, label = phantom(0, shape=(32, 32))
        >>> LoadedCase("head", image.channels_last, label.data, image, label).image.shape
        (32, 32, 1)
    """

    name: str
    image: Float[np.ndarray, "*spatial channel"]
    label: Integer[np.ndarray, "..."]
    volume: Volume
    raw_label: Volume
    grids: tuple[Grid, ...] = ()
    lost: Lost | None = None

    def __post_init__(self) -> None:
        if self.image.shape[:-1] != self.label.shape:
            raise InputError(
                f"case '{self.name}': image of shape {self.image.shape} (channels last) and label "
                f"of shape {self.label.shape} differ"
            )

    @cached_property
    def foreground(self) -> Int64[np.ndarray, " voxels"]:
        """Flat (C-order) indices of the voxels of ``label`` that hold a class, rising."""
        return np.flatnonzero(foreground(self.label)).astype(np.int64, copy=False)

    @cached_property
    def values(self) -> tuple[int, ...]:
        """Classes in the label map as it was on disk, rising."""
        found = np.unique(self.raw_label.data)
        return tuple(found[found != IGNORED].tolist())

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between the voxels in mm.

        That of the last of ``grids``, or of ``volume`` where there are none and the image has
        its shape; else 1 mm.
        """
        if self.grids:
            return self.grids[-1].spacing
        if self.volume.spatial_shape == self.label.shape:
            return self.volume.spacing
        return (1.0,) * self.label.ndim

    def keeps_grid(self, pipeline: Pipeline) -> bool:
        """Say whether no step of the pipeline moved a voxel of the image.

        Args:
            pipeline: What it was preprocessed by.
        """
        return pipeline.keeps_grid(self.volume, self.grids or None)

    def sight(self, pipeline: Pipeline) -> Sight:
        """Return what a network sees of the image.

        Args:
            pipeline: What it was preprocessed by.
        """
        grids = self.grids or pipeline.grids(self.volume) or (grid(self.volume),)
        return Sight(grids[0], grids[-1], intensity_spans(self.image))

    def loaded(self) -> "LoadedCase":
        """Return the case itself."""
        return self
