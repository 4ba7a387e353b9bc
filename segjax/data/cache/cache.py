"""Preprocessed cases on disk, as arrays that are mapped into memory and not read.

A cache is a folder::

    manifest.json               pipeline, labels, channels, names of the cases
    cases/<name>/image.npy      float32 (*spatial, channel), C order
    cases/<name>/label.npy      uint8 (*spatial); absent without labels
    cases/<name>/foreground.npy int64, flat (C-order) indices of the foreground
    cases/<name>/raw_label.npz  data and affine of the label map as it was on disk
    cases/<name>/case.json      sources, grids, label values, histograms, key
    early/<name>/               images after the last expensive step; may be deleted
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from segjax.data.cache import layout
from segjax.data.cache.layout import (
    CASES,
    FOREGROUND,
    IMAGE,
    LABEL,
    RAW_LABEL,
    RECORD,
    is_cache,
    read_manifest,
)
from segjax.data.cache.make import Outcome, read_grids
from segjax.data.cache.pool import default_workers
from segjax.data.cache.run import Run, prepare_folder
from segjax.data.cases import Case, Dataset
from segjax.data.io.formats import read_label
from segjax.data.labels import PLAIN, LabelCoding
from segjax.data.loaded import LoadedCase, Look
from segjax.data.prepare.lost import Lost
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.seen import Sight, Span
from segjax.data.sources import image_of
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.files import locked, read_json_object
from segjax.grid import Grid
from segjax.text import plural
from segjax.volume import Volume

__all__ = ["Cache", "CachedCase", "Histogram", "Outcome", "is_cache", "open_cache", "preprocess"]


class Histogram(NamedTuple):
    """Voxels of one channel by intensity, those with the value of the first voxel left out.

    Attributes:
        low: Lower end of the first bin.
        high: Upper end of the last bin: the 99.9th percentile.
        counts: Voxels in each of 100 equal bins; of large volumes a sample.
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class CachedCase:
    """One preprocessed case; cheap to hold and to send to another process.

    Every access to an array maps its file anew, read-only, so that the memory of a process does
    not grow with the cases that it has seen.

    Attributes:
        folder: Where the case's files lie.

    Example:
        >>> open_cache("cache").cases[0].image.shape
        (24, 28, 24, 1)
    """

    folder: Path

    @property
    def name(self) -> str:
        """The case's name."""
        return self.folder.name

    @property
    def image(self) -> Float32[np.ndarray, "*spatial channel"]:
        """Processed image."""
        return self._map(IMAGE)

    @property
    def label(self) -> UInt8[np.ndarray, "*spatial"]:
        """Processed label map, on the grid of ``image``."""
        return self._map(LABEL)

    @property
    def foreground(self) -> Int64[np.ndarray, " voxels"]:
        """Flat (C-order) indices of the voxels with a label over 0, in rising order."""
        return self._map(FOREGROUND)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Grid of the image as it was on disk, and after each step of the pipeline."""
        return read_grids(self._record)

    @property
    def values(self) -> tuple[int, ...]:
        """Values of the label map as it was on disk, in rising order."""
        return tuple(self._record["values"])

    @property
    def histograms(self) -> tuple[tuple[Histogram, ...], tuple[Histogram, ...]]:
        """Histogram of every channel before the first step, and after the last one."""
        record = self._record
        before, after = (
            tuple(Histogram(c["low"], c["high"], tuple(c["counts"])) for c in record[when])
            for when in ("before", "after")
        )
        return before, after

    @property
    def spans(self) -> tuple[Span, ...]:
        """The :data:`segjax.data.seen.Span` of every channel of ``image``."""
        if spans := self._record.get("spans"):
            return tuple((low, high) for low, high in spans)
        return tuple((channel.low, channel.high) for channel in self.histograms[1])

    @property
    def lost(self) -> Lost | None:
        """Lesions that preprocessing made vanish."""
        lost = self._record.get("lost")
        return Lost(*lost) if lost else None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between the voxels of ``image``, in mm."""
        return self.grids[-1].spacing

    @property
    def places(self) -> tuple[Path, ...]:
        """The folder of all cases."""
        return (self.folder.parent,)

    @property
    def source(self) -> Case:
        """The files that the case was made of; they may be gone."""
        record, label = self._record, self._record["label"]
        images = [image_of(one) for one in record["sources"] if one["path"] != label]
        return Case(self.name, tuple(images), Path(label) if label else None, self.coding)

    @property
    def coding(self) -> LabelCoding:
        """What the values of the label map on disk stand for."""
        stored = self._record.get("coding")
        return PLAIN if stored is None else LabelCoding.from_json(stored)

    def identity(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return what stays the same as long as files and steps do; nothing is read anew."""
        return {"cached": str(self._record["key"])}

    def look(self, pipeline: Pipeline) -> Look:
        """Look at the small files; the pipeline was applied already."""
        grids = self.grids
        processed = Grid(self.label.shape, grids[-1].affine)
        values = frozenset(self.values)
        return Look(grids[0], processed, self.image.shape[-1], values, self.folder)

    def load(
        self, pipeline: Pipeline, *, classes: int | None = None, channels: int | None = None
    ) -> "CachedCase":
        """Return the case, once its small files say that it can be trained on.

        Args:
            pipeline: What it must have been preprocessed by.
            classes: Number of label values, background included; larger values are refused.
            channels: Number of channels that the image must have.

        Raises:
            InputError: It is another one than that.
        """
        home = self.folder.parent.parent
        if _applied(home, layout.changed(home)) != pipeline:
            raise InputError(
                f"{home}: was preprocessed by other steps than those of the configuration; "
                "take its pipeline, or preprocess again with these"
            )
        *shape, found = self.image.shape
        if tuple(shape) != self.label.shape or channels not in (None, found):
            raise InputError(
                f"case '{self.name}' has {plural(found, 'channel')} of shape {tuple(shape)} and a "
                f"label of shape {self.label.shape}; {channels or found} of one shape are expected"
            )
        if classes and (wrong := [value for value in self.values if value >= classes]):
            raise InputError(
                f"case '{self.name}' has labels {', '.join(map(str, wrong))}, but with "
                f"{classes} classes values go from 0 to {classes - 1}"
            )
        return self

    def keeps_grid(self, pipeline: Pipeline) -> bool:
        """Say whether no step of the pipeline moved a voxel of the image."""
        return pipeline.keeps_grid(self.volume(), self.grids)

    def sight(self, pipeline: Pipeline) -> Sight:
        """Return what a network sees of the image; the pipeline was applied already."""
        grids = self.grids
        return Sight(grids[0], grids[-1], self.spans)

    def loaded(self) -> LoadedCase:
        """Return the case with its label map as on disk; its arrays stay where they are.

        Raises:
            InputError: As :meth:`raw_label`.
        """
        volume, truth = self.volume(), self.raw_label()
        return LoadedCase(self.name, self.image, self.label, volume, truth, self.grids)

    def volume(self) -> Volume:
        """Return the geometry of the image as it was on disk; its zeros take no memory."""
        before = self.grids[0]
        return Volume(np.broadcast_to(np.uint8(0), before.shape), before.affine)

    def raw_label(self) -> Volume:
        """Return the label map as it was on disk.

        A cache of before has no copy of it: the file that it came from is read.

        Raises:
            InputError: The case has no label, or what is read is gone, cannot be read or has
                another shape by now.
        """
        if self._record["label"] is None:
            raise self._no_label()
        if (self.folder / RAW_LABEL).exists():
            kept = self._map(RAW_LABEL)
            return Volume(kept["data"], kept["affine"])
        label = Path(self._record["label"])
        if not label.exists():
            raise InputError(
                f"{label}: the label of case '{self.name}' is gone; put it back, or run segjax "
                "preprocess again where the data are now"
            )
        volume = read_label(label, coding=self.coding, like=self.grids[0])
        if volume.spatial_shape != self.grids[0].shape:
            raise InputError(f"{label}: has changed; run segjax preprocess again")
        return volume

    @property
    def _record(self) -> dict[str, Any]:
        return read_json_object(self.folder / RECORD)

    def _map(self, file: str) -> Any:
        try:
            return np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            if file != IMAGE and (self.folder / IMAGE).exists():
                raise self._no_label() from error
            raise self._broken(error) from error
        except (OSError, ValueError, BadZipFile) as error:
            raise self._broken(error) from error

    def _no_label(self) -> InputError:
        return InputError(f"case '{self.name}' has no label: training needs one")

    def _broken(self, error: Exception) -> InputError:
        return InputError(
            f"{self.folder}: the cached case cannot be read ({error}); delete the folder and run "
            "segjax preprocess again"
        )


@lru_cache(maxsize=8)
def _applied(home: Path, changed: int) -> Pipeline:
    """Return the pipeline that a cache was made by, as long as its manifest stays the same."""
    return Pipeline.from_json(read_manifest(home)["pipeline"])


@dataclass(frozen=True)
class Cache:
    """A folder of preprocessed cases.

    Attributes:
        folder: Where it lies.
        pipeline: The preprocessing that was applied, with all that it learned from the data.
        cases: Sorted by name.
        labels: Label value -> name, or None where the dataset did not say it.
        channels: Name of every channel, or None where the dataset did not say it.
        requested: The preprocessing as it was asked for, before it learned anything.
        learned_from: Names of the cases that the pipeline learned from.

    Example:
        >>> [case.name for case in open_cache("cache").cases[:2]]
        ['ms_000', 'ms_001']
    """

    folder: Path
    pipeline: Pipeline
    cases: tuple[CachedCase, ...]
    labels: dict[int, str] | None = None
    channels: tuple[str, ...] | None = None
    requested: Pipeline = field(default_factory=Pipeline)
    learned_from: tuple[str, ...] = ()

    @property
    def coding(self) -> LabelCoding:
        """What the values of the label maps on disk stand for."""
        return self.cases[0].coding if self.cases else PLAIN


def open_cache(folder: str | Path) -> Cache:
    """Open a folder of preprocessed cases; no array is read.

    Args:
        folder: What ``segjax preprocess`` made.

    Returns:
        The cache, with the cases that could be made.

    Raises:
        InputError: The folder is no cache, was made by another version, is not finished, or has
            lost a case.

    Example:
        >>> open_cache("cache").pipeline.steps
        (Reorient(orientation='RAS'), ZScore(where='all'))
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if not manifest["complete"]:
        raise InputError(f"{folder}: is not finished; run segjax preprocess again to go on")
    cases = tuple(CachedCase(folder / CASES / name) for name in manifest["cases"])
    for case in cases:
        if not (case.folder / RECORD).is_file():
            raise InputError(f"{case.folder}: is gone; run segjax preprocess again to make it")
    labels, channels = manifest["labels"], manifest["channels"]
    return Cache(
        folder,
        Pipeline.from_json(manifest["pipeline"]),
        cases,
        labels=None if labels is None else {int(value): name for value, name in labels.items()},
        channels=None if channels is None else tuple(channels),
        requested=Pipeline.from_json(manifest["requested"]),
        learned_from=tuple(manifest["learned_from"]),
    )


def preprocess(
    dataset: Dataset[Case],
    pipeline: Pipeline,
    out: str | Path,
    *,
    workers: int | None = None,
    split: Split | None = None,
    refit: bool = False,
) -> list[Outcome]:
    """Process the cases of a dataset and keep the results, to be mapped into memory later.

    What is there and right is not done again: a case is made when the content of its files or
    the steps of the pipeline are others than last time. The images after the last expensive step
    (N4, brain extraction) are kept apart in ``early/`` (as float32, about as large as the images
    themselves), and made again only when these steps or the image change. Every case is written
    whole or not at all, so that all may be stopped at any moment. A case that fails does not stop
    the others.

    Args:
        dataset: Cases, with labels or without.
        pipeline: Preprocessing. Steps that learn from a set of images do so first; what they
            learned is kept as long as the steps asked for stay the same.
        out: Folder of the cache: a new one, an empty one, or a cache to go on with.
        workers: Processes, each with one case in memory at a time. By default as many as there
            are cores, at most 8.
        split: Where given, steps learn from its training cases only.
        refit: Learn anew.

    Returns:
        What became of every case, in the order of the dataset.

    Raises:
        InputError: The folder cannot be used, another process works in it, steps cannot learn
            from the images, a worker was killed, or the disk is full.

    Example:
        >>> from segjax.data import MinMax, write_dataset
        >>> heads = write_dataset("heads", count=2, shape=(32, 32))
        >>> for _ in range(2):
        ...     outcomes = preprocess(heads, Pipeline((MinMax(),)), "processed", workers=1)
        ...     print([outcome.state for outcome in outcomes])
        ['made', 'made']
        ['unchanged', 'unchanged']
        >>> open_cache("processed").cases[0].image.shape
        (32, 32, 1)
    """
    out = Path(out)
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers: give at least 1")
    prepare_folder(out)
    with locked(out) as free:
        if not free:
            raise InputError(f"{out}: another process is working in this folder; wait for it")
        run = Run(dataset, pipeline, out, workers or default_workers())
        return run.make(split, refit)
