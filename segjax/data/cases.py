"""What a case and a dataset are, and the cases of a folder of images and labels."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from segjax.data import sources
from segjax.data.description import (
    Description,
    dataset_folder,
    describe_dataset,
    listed_files,
    of_ending,
)
from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import (
    check_same_grid,
    normal_name,
    read_grid,
    read_image,
    read_label,
    segment_names,
    stem,
)
from segjax.data.labels import PLAIN, LabelCoding, classes_of, coding_of_segments
from segjax.data.listing import Named, channel_of, is_image, list_images, list_labels
from segjax.data.loaded import LoadedCase, Look, TrainingCase
from segjax.data.prepare.lost import lost_lesions
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.grid import Grid, grid
from segjax.volume import Volume

__all__ = [
    "LAYOUTS",
    "Case",
    "Dataset",
    "StoredCase",
    "dataset_of",
    "find_cases",
    "find_test_cases",
    "in_order",
    "is_dataset",
]

LAYOUTS = (
    "images/ and labels/ with equal names, or imagesTr/ and labelsTr/ (Medical Segmentation "
    "Decathlon, nnU-Net); channels in files of their own end in _0000, _0001, …; or folders of "
    "subjects, whose files --images and --label name"
)
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_TEST_FOLDERS = ("imagesTs", "labelsTs")


@runtime_checkable
class StoredCase(Protocol):
    """A case of a dataset, on disk: files (:class:`Case`), or arrays of a cache.

    Example:
        >>> case: StoredCase = find_cases("brains").cases[0]
        >>> case.name
        'ms_000'
    """

    @property
    def name(self) -> str:
        """Unique in its dataset."""

    @property
    def coding(self) -> LabelCoding:
        """What the values of the label map on disk stand for."""

    @property
    def source(self) -> "Case":
        """The files that it was made of; they may be gone."""

    @property
    def places(self) -> tuple[Path, ...]:
        """Paths of which the innermost common folder is that of the dataset."""

    def identity(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return digests of the content; ``before`` are those of earlier, which save reading."""

    def look(self, pipeline: Pipeline) -> Look:
        """Look at the label map, and at the header of the image."""

    def load(
        self, pipeline: Pipeline, *, classes: int | None = None, channels: int | None = None
    ) -> TrainingCase:
        """Return the preprocessed case."""


@dataclass(frozen=True)
class Case:
    """One subject's files.

    Attributes:
        name: Unique in its dataset; the file name without suffixes.
        images: One file or DICOM series per channel, or a single one.
        label: The label map, or None where there is none.
        coding: What the label map's values stand for.

    Example:
        >>> case = Case("07", (Path("brains/07/flair.nii.gz"),), Path("brains/07/lesions.nii.gz"))
        >>> [file.name for file in case.places]
        ['flair.nii.gz', 'lesions.nii.gz']
    """

    name: str
    images: tuple[Path | Series, ...]
    label: Path | None = None
    coding: LabelCoding = PLAIN

    @property
    def source(self) -> "Case":
        """The case itself."""
        return self

    @property
    def parts(self) -> tuple[Path | Series, ...]:
        """What the case is read from, the label last."""
        return self.images if self.label is None else (*self.images, self.label)

    @property
    def places(self) -> tuple[Path, ...]:
        """All files, the label last."""
        return tuple(file for part in self.parts for file in sources.files_in(part))

    def identity(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return path, size, time and digest of every file.

        Args:
            before: What was returned earlier; a file of the same size and time is not read again.

        Raises:
            InputError: A file is missing or cannot be read.
        """
        return {"sources": sources.identify(self.parts, before)}

    def look(self, pipeline: Pipeline) -> Look:
        """Read the label map, and the headers of the images.

        Where the shape depends on the image, as with a crop to the brain, it is processed, by
        the steps that have nothing left to learn.

        Raises:
            InputError: The case has no label, or a file cannot be read.
        """
        label_file = self._label_file()
        heads = [read_grid(image) for image in self.images]
        label = self.read_label(like=heads[0][0])
        grids = pipeline.grids(label)
        if grids is None:
            fitted = Pipeline(tuple(step for step in pipeline.steps if step.fitted))
            _, grids = fitted.trace(read_image(self.images))
        values = frozenset(classes_of(label.data, self.coding))
        return Look(heads[0][0], grids[-1], sum(n for _, n in heads), values, label_file)

    def load(
        self, pipeline: Pipeline, *, classes: int | None = None, channels: int | None = None
    ) -> LoadedCase:
        """Read the case and run the preprocessing pipeline over image and label.

        Args:
            pipeline: Preprocessing steps.
            classes: Number of label values, background included; larger values are refused.
            channels: Number of channels that the image must have.

        Raises:
            InputError: A file cannot be read, image and label lie on different grids, the case
                has no label, or values or channels are not those expected.
        """
        self._label_file()
        image = read_image(self.images, channels=channels)
        label = self.read_label(classes=classes, like=grid(image))
        processed, grids = pipeline.trace(image)
        return LoadedCase(
            name=self.name,
            image=np.ascontiguousarray(processed.data, np.float32),
            label=np.ascontiguousarray(pipeline.apply_label(label, grids).data, np.uint8),
            volume=image.with_data(np.broadcast_to(np.uint8(0), image.spatial_shape)),
            raw_label=label,
            grids=grids,
            lost=lost_lesions(label, pipeline, grids),
        )

    def read_label(self, *, classes: int | None = None, like: Grid | None = None) -> Volume:
        """Read the label map, on the grid of the image.

        Args:
            classes: Number of classes, background included; any number when None.
            like: Grid of the image, where it is known already.

        Returns:
            The classes, uint8; voxels that count for nothing are
            :data:`segjax.data.labels.IGNORED`.

        Raises:
            InputError: The case has no label, it cannot be read, or lies on another grid than
                the image.

        Example:
            >>> find_cases("brains").cases[0].read_label().data.dtype
            dtype('uint8')
        """
        file = self._label_file()
        like = read_grid(self.images[0])[0] if like is None else like
        label = read_label(file, classes=classes, coding=self.coding, like=like)
        if label.data.dtype != np.uint8:
            raise InputError(f"{file}: has labels over 255; give every class a smaller value")
        image = Volume(np.broadcast_to(np.uint8(0), like.shape), like.affine)
        check_same_grid(image, label, (str(self.images[0]), str(file)))
        return label

    def _label_file(self) -> Path:
        if self.label is None:
            raise InputError(f"case '{self.name}' has no label: training needs one")
        return self.label


Stored_co = TypeVar("Stored_co", bound=StoredCase, covariant=True)


@dataclass(frozen=True)
class Dataset(Generic[Stored_co]):
    """The cases of a folder and what its ``dataset.json`` says of them.

    Attributes:
        cases: Sorted by name: ``Case`` objects, or the ``CachedCase`` objects of a cache.
        labels: Class -> name, or None where nothing says it.
        channels: Name of every channel, or None where nothing says it.
        coding: What the values of label maps stand for.

    Example:
        >>> dataset = find_cases("brains")
        >>> len(dataset.cases), dataset.labels
        (5, {0: 'background', 1: 'lesion'})
    """

    cases: tuple[Stored_co, ...]
    labels: dict[int, str] | None = None
    channels: tuple[str, ...] | None = None
    coding: LabelCoding = PLAIN


def dataset_of(cases: Sequence[Case], described: Description) -> Dataset[Case]:
    """Make a dataset of cases, which get its coding.

    Where nothing names the labels, but they are segments with names, these are the labels.

    Raises:
        InputError: Some labels are segments with names and others are not.

    Example:
        >>> dataset_of([], Description(channels=("FLAIR",))).channels
        ('FLAIR',)
    """
    labels, coding = described.labels, described.coding
    if labels is None:
        files = [case.label for case in cases if case.label]
        coding = coding_of_segments({str(file): segment_names(file) for file in files})
        labels = dict(enumerate(coding.names)) or None
    coded = tuple(replace(case, coding=coding) for case in cases)
    return Dataset(coded, labels, described.channels, coding)


def find_cases(folder: str | Path, *, coding: LabelCoding | None = None) -> Dataset[Case]:
    """Find the labelled cases of a folder.

    Accepted are ``images/`` and ``labels/`` with equal names, and ``imagesTr/`` and ``labelsTr/``
    (Medical Segmentation Decathlon, nnU-Net). Where no label has an image's full name, a suffix
    ``_0000``, ``_0001``, … of the image is its channel number. A DICOM series has the name of the
    folder that it lies in, or of the outermost one. A ``dataset.json`` beside the folders gives
    the names of labels and channels, in either project's form; it may name any values, such as
    255, which become the classes 1, 2, … in their order, and voxels of a label called ``ignore``
    count for nothing. A list of values, as nnU-Net has it for regions, is one class; regions that
    overlap are refused. Where it names none, and labels are segments with names, these are the
    labels. nnU-Net's ``dataset.json`` may list the files of every case, wherever they lie, and
    say what they end in.

    Args:
        folder: The dataset's folder, or one such as ``nnUNet_raw`` that holds one dataset
            ``Dataset004_Hippocampus`` or ``Task04_Hippocampus``.
        coding: What the values of label maps stand for, whatever ``dataset.json`` says.

    Returns:
        The dataset, its cases sorted by name.

    Raises:
        InputError: Where the layout is unknown, a folder is empty, an image has no label or a
            label no image, a channel is missing, or ``dataset.json`` cannot be understood.

    Warns:
        UserWarning: Files of the folders are left out.

    Example:
        >>> [case.name for case in find_cases("brains").cases[:2]]
        ['ms_000', 'ms_001']
    """
    folder = dataset_folder(Path(folder))
    described = describe_dataset(folder, coding)
    if listed := listed_files(folder / "dataset.json"):
        cases = [Case(name, files.images, files.label) for name, files in sorted(listed.items())]
        return dataset_of(cases, described)
    for images, labels in _FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            cases = _paired(folder / images, folder / labels, described.channels)
            _warn_of_second(folder, images)
            return dataset_of(cases, described)
    raise InputError(f"{folder}: no dataset found: accepted are {LAYOUTS}")


def is_dataset(folder: str | Path) -> bool:
    """Say whether a folder holds labelled images in one of :data:`LAYOUTS`.

    Raises:
        InputError: There is no such folder, or it holds several datasets of nnU-Net.

    Example:
        >>> import tempfile
        >>> is_dataset(tempfile.mkdtemp())
        False
    """
    folder = dataset_folder(Path(folder))
    laid_out = any((folder / labels).is_dir() for _, labels in _FOLDERS)
    return laid_out or bool(listed_files(folder / "dataset.json"))


def find_test_cases(folder: str | Path, *, coding: LabelCoding | None = None) -> Dataset[Case]:
    """Find the labelled cases that a dataset keeps for testing: ``imagesTs/`` and ``labelsTs/``.

    Args:
        folder: As for :func:`find_cases`.
        coding: As for :func:`find_cases`.

    Returns:
        The dataset, its cases sorted by name; without cases where no test label is there. Images
        without a label are left out.

    Raises:
        InputError: As :func:`find_cases`.

    Example:
        >>> import tempfile
        >>> find_test_cases(tempfile.mkdtemp()).cases
        ()
    """
    folder = dataset_folder(Path(folder))
    images, labels = (folder / part for part in _TEST_FOLDERS)
    if not (images.is_dir() and labels.is_dir() and any(map(is_image, labels.iterdir()))):
        return Dataset[Case](())
    described = describe_dataset(folder, coding)
    cases = _paired(images, labels, described.channels, some=True)
    return dataset_of(cases, described)


def _paired(
    images: Path, labels: Path, channels: Sequence[str] | None, *, some: bool = False
) -> list[Case]:
    """Pair the images and the labels of two folders; some images may have no label."""
    description = images.parent / "dataset.json"
    named = dict(of_ending(list_labels(labels).items(), description))
    listed = of_ending(list_images(images), description)
    found = [_as_labelled(one, images, named) for one in listed]
    if some:
        found = [one for one in found if _label_of(one[0], named)]
    groups = _pair(found, named)
    _check_channels(groups, channels)
    return [Case(name, in_order(group.channels), group.label) for name, group in groups.items()]


def _warn_of_second(folder: Path, taken: str) -> None:
    for images, labels in _FOLDERS:
        if images != taken and (folder / images).is_dir() and (folder / labels).is_dir():
            warnings.warn(
                f"{folder}: left out {images} and {labels}: {taken} is there too; put them into "
                "folders of their own",
                stacklevel=3,
            )


@dataclass(frozen=True)
class _Group:
    """A label and the images that belong to it, by channel number."""

    label: Path
    channels: dict[int, Path | Series]


def _pair(images: Sequence[Named], labels: Mapping[str, Path]) -> dict[str, _Group]:
    """Group images by the label that they belong to."""
    groups = {name: _Group(labels[name], {}) for name in sorted(labels)}
    for named in images:
        image, (name, channel) = named[1], _case_and_channel(named, groups)
        if channel in groups[name].channels:
            other = groups[name].channels[channel]
            raise InputError(f"{image}: case '{name}' already has channel {channel}: {other}")
        groups[name].channels[channel] = image
    for name, group in groups.items():
        if not group.channels:
            raise InputError(f"{group.label}: no image of this name, '{name}'")
    return groups


def _as_labelled(named: Named, folder: Path, labels: Mapping[str, Path]) -> Named:
    """Call a series that lies deeper as the outermost folder, where a label has that name."""
    name, image = named
    if name in labels or not isinstance(image, Series) or image.folder == folder:
        return named
    outer = normal_name(image.folder.relative_to(folder).parts[0])
    return (outer, image) if outer in labels else named


def _case_and_channel(named: Named, names: Collection[str]) -> tuple[str, int]:
    """Return the label's name that an image belongs to, and its channel number."""
    name, image = named
    if found := _label_of(name, names):
        return found
    numbered = channel_of(name)
    wanted = f"'{name}' or '{numbered[0]}'" if numbered else f"'{name}'"
    raise InputError(f"{image}: has no label: expected a label named {wanted}")


def _label_of(name: str, names: Collection[str]) -> tuple[str, int] | None:
    if name in names:
        return name, 0
    numbered = channel_of(name)
    return numbered if numbered and numbered[0] in names else None


def _check_channels(groups: Mapping[str, _Group], channels: Sequence[str] | None) -> None:
    """Check that every case has the same complete set of channel files."""
    numbers = {number for group in groups.values() for number in group.channels}
    expected = len(channels) if channels and _are_suffixed(groups) else max(numbers) + 1
    for name, group in groups.items():
        missing = sorted(set(range(expected)) - set(group.channels))
        if missing:
            raise InputError(
                f"case '{name}': channel {missing[0]} is missing: expected {name}_{missing[0]:04d} "
                f"in {group.label.parent.parent}, as {expected} channels are there or announced"
            )
    if max(numbers) >= expected:
        raise InputError(f"channel {max(numbers)} is there, but dataset.json names {expected}")


def _are_suffixed(groups: Mapping[str, _Group]) -> bool:
    """Say whether names of files state the channel."""
    return any(
        isinstance(image, Path) and stem(image) != name
        for name, group in groups.items()
        for image in group.channels.values()
    )


def in_order(channels: Mapping[int, Path | Series]) -> tuple[Path | Series, ...]:
    """Return the images of channels by rising number."""
    return tuple(channels[number] for number in sorted(channels))
