"""Find the cases of a dataset in a folder, split them, and load them for training."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from segjax.data._dealing import nearest_share, shuffled_groups
from segjax.data._listing import (
    Named,
    check_unique,
    is_image,
    join_parts,
    list_images,
    list_labels,
    name_apart,
    warn_of_rest,
)
from segjax.data._nnunet import dataset_folder, listed_files, of_ending
from segjax.data.io.dicom.series import Series, choose_series, holds_dicom, is_dicom
from segjax.data.io.formats import (
    COLOURS,
    IMAGE_SUFFIXES,
    check_same_grid,
    normal_name,
    read_grid,
    read_image,
    read_label,
    segment_names,
    stem,
)
from segjax.data.labels import PLAIN, LabelCoding, coding_of_labels, coding_of_segments
from segjax.data.prepare.lost import Lost, lost_lesions
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import atomic_path, read_json, walk
from segjax.grid import Grid, grid
from segjax.text import plural
from segjax.volume import Volume

__all__ = [
    "LAYOUTS",
    "Case",
    "Dataset",
    "LoadedCase",
    "Split",
    "are_colours",
    "files_in",
    "find_cases",
    "find_images",
    "find_subjects",
    "find_test_cases",
    "is_dataset",
    "load_case",
    "read_case_label",
    "read_description",
    "read_fold_splits",
    "read_split",
    "split_cases",
    "write_split",
]

LAYOUTS = (
    "images/ and labels/ with equal names, or imagesTr/ and labelsTr/ (Medical Segmentation "
    "Decathlon, nnU-Net); channels in files of their own end in _0000, _0001, …; or folders of "
    "subjects, whose files --images and --label name"
)
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_TEST_FOLDERS = ("imagesTs", "labelsTs")
_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Case:
    """One subject's files.

    Attributes:
        name: Unique in its dataset; the file name without suffixes.
        images: One file or DICOM series per channel, or a single one.
        label: The label map, or None where there is none.
        coding: What the label map's values stand for.
    """

    name: str
    images: tuple[Path | Series, ...]
    label: Path | None = None
    coding: LabelCoding = PLAIN


AnyCase = TypeVar("AnyCase")


@dataclass(frozen=True)
class Dataset(Generic[AnyCase]):
    """The cases of a folder and what its ``dataset.json`` says of them.

    Attributes:
        cases: Sorted by name: ``Case`` objects, or the ``CachedCase`` objects of a cache.
        labels: Class -> name, or None where nothing says it.
        channels: Name of every channel, or None where nothing says it.
        coding: What the values of label maps stand for.
    """

    cases: tuple[AnyCase, ...]
    labels: dict[int, str] | None = None
    channels: tuple[str, ...] | None = None
    coding: LabelCoding = PLAIN


@dataclass(frozen=True)
class Split:
    """Names of the cases to train on, to validate on and to test on."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()


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
    """

    name: str
    image: np.ndarray
    label: np.ndarray
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
        >>> import tempfile
        >>> from segjax.data.phantom.dataset import write_dataset
        >>> folder = tempfile.mkdtemp()
        >>> _ = write_dataset(folder, count=2, shape=(32, 32))
        >>> [case.name for case in find_cases(folder).cases]
        ['ms_000', 'ms_001']
    """
    folder = dataset_folder(Path(folder))
    described = _read_description(folder / "dataset.json", coding)
    if listed := listed_files(folder / "dataset.json"):
        cases = [Case(name, files.images, files.label) for name, files in sorted(listed.items())]
        return _named_by_segments(replace(described, cases=tuple(cases)))
    for images, labels in _FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            cases = _paired(folder / images, folder / labels, described.channels)
            _warn_of_second(folder, images)
            return _named_by_segments(replace(described, cases=tuple(cases)))
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
        return Dataset(())
    described = _read_description(folder / "dataset.json", coding)
    cases = _paired(images, labels, described.channels, some=True)
    return _named_by_segments(replace(described, cases=tuple(cases)))


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
    return [Case(name, _in_order(group.channels), group.label) for name, group in groups.items()]


def _warn_of_second(folder: Path, taken: str) -> None:
    for images, labels in _FOLDERS:
        if images != taken and (folder / images).is_dir() and (folder / labels).is_dir():
            warnings.warn(
                f"{folder}: left out {images} and {labels}: {taken} is there too; put them into "
                "folders of their own",
                stacklevel=3,
            )


def read_description(labels: str | Path) -> Dataset[Case]:
    """Read what a ``dataset.json`` says of the labels in a folder, or beside it.

    Args:
        labels: Folder of label maps.

    Returns:
        A dataset without cases; it says nothing where there is no such file.

    Raises:
        InputError: The file cannot be understood.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> text = '{"labels": {"background": 0, "lesion": 255}}'
        >>> _ = (folder / "dataset.json").write_text(text)
        >>> read_description(folder).coding.values
        (0, 255)
    """
    places = (Path(labels), Path(labels).absolute().parent)
    found = [place / "dataset.json" for place in places if (place / "dataset.json").is_file()]
    return _read_description(found[0]) if found else Dataset(())


def _named_by_segments(dataset: Dataset[Case]) -> Dataset[Case]:
    """Give every case the coding, by the names of the segments where nothing else names them."""
    labels, coding = dataset.labels, dataset.coding
    if labels is None:
        files = [case.label for case in dataset.cases if case.label]
        coding = coding_of_segments({str(file): segment_names(file) for file in files})
        labels = dict(enumerate(coding.names)) or None
    cases = tuple(replace(case, coding=coding) for case in dataset.cases)
    return replace(dataset, cases=cases, labels=labels, coding=coding)


def find_images(
    paths: Iterable[str | Path],
    *,
    channels: int | None = None,
    series: Sequence[str] = (),
) -> list[Case]:
    """Turn files and folders into cases to predict.

    Files are grouped by channel where every name ends in ``_0000``, ``_0001``, … and every case
    has the same complete set of channels. Where none does, and there are as many files or DICOM
    folders as channels are wanted, each an image of one channel, these are one case, its channels
    in the order given, under the name of the first. Otherwise each file is a case. Each DICOM
    series of a folder is a case: a single one with the name of the folder, several with that of
    the folder in it that they lie in (joined by ``_`` where it lies deeper), and ``_seriesNAME``
    where they share one. Files of one name are called as their folders:
    ``patients/*/flair.nii.gz``.

    Args:
        paths: Image files, and folders of image files or, with the folders in them, of DICOM
            files; a DICOM file stands for its series.
        channels: Channels of a case; where given, files are grouped only into cases of so many.
        series: Names, numbers or UIDs of the DICOM series to take, where not all are wanted.

    Returns:
        Cases without labels, in the order given (folders: sorted by name).

    Raises:
        InputError: Where a path does not exist or is no image, a folder holds no image, two
            cases have one name, there is no such series, or so many files of one channel are
            given that it is unclear which belong together.

    Warns:
        UserWarning: Files of a folder are left out.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png"):
        ...     (folder / name).touch()
        >>> [(case.name, len(case.images)) for case in find_images([folder])]
        [('a', 2), ('b', 2)]
    """
    given = list(map(Path, paths))
    found = [named for path in given for named in _expand(path, series)]
    if not found:
        raise InputError("no image given: name at least one image file or folder")
    found = name_apart(join_parts(found))
    warn_of_rest(found)
    check_unique(found)
    groups, others = _group_channels(found)
    named = all(isinstance(image, Series) or image in given for _, image in found)
    if named and len(found) == len(given) and not groups and _are_channels(found, channels):
        return [Case(found[0][0], tuple(image for _, image in found))]
    expected = channels or len(next(iter(groups.values()), ()))
    whole = [name for name, group in groups.items() if sorted(group) == list(range(expected))]
    apart = [Case(name, (file,)) for name, file in others]
    if groups and not others and len(whole) == len(groups):
        return [Case(name, _in_order(group)) for name, group in groups.items()]
    if whole and channels is not None and channels > 1:
        for name in set(groups) - set(whole):
            warnings.warn(_missing_channel(groups[name], name, channels), stacklevel=2)
        return [*(Case(name, _in_order(group)) for name, group in groups.items()), *apart]
    if channels and not others:
        _check_wanted_channels(groups, channels)
    return [Case(name, (file,)) for name, file in found]


def _are_channels(found: Sequence[Named], channels: int | None) -> bool:
    """Say whether images are the channels of one case, in order.

    Raises:
        InputError: They are channels, but of more cases than one, or too few.
    """
    if channels is None or channels < 2 or not all(_is_one_channel(i, channels) for _, i in found):
        return False
    if len(found) != channels:
        raise InputError(
            f"{found[0][1]}: is one channel, but the network takes {channels} of every patient: "
            f"give the {channels} files of one patient, in order; or name the files of each "
            "patient …_0000, …_0001; or give folders of patients, and the files in them by --images"
        )
    return True


def _is_one_channel(image: Path | Series, wanted: int) -> bool:
    """Say whether an image has one channel and does not stand for all that are wanted."""
    if wanted == COLOURS and str(image).lower().endswith(".png"):
        return False
    with suppress(InputError):  # reading the case says what is wrong
        return read_grid(image)[1] == 1
    return False


def _check_wanted_channels(
    groups: Mapping[str, Mapping[int, Path | Series]], channels: int
) -> None:
    """Refuse what are channels by their names, but not those that are wanted."""
    wanted = set(range(channels))
    if channels > 1 and all(set(group) <= wanted for group in groups.values()):
        for name, group in groups.items():
            if wanted - set(group):
                raise InputError(_missing_channel(group, name, channels))
    counts = {len(group) for group in groups.values()}
    whole = all(sorted(group) == list(range(len(group))) for group in groups.values())
    if len(groups) > 1 and whole and counts != {1} and len(counts) == 1:
        name, group = next(iter(groups.items()))
        raise InputError(
            f"{_beside(group, name)}: has files of "
            f"{plural(len(group), 'channel')}, but the network takes {channels}"
        )


def _missing_channel(group: Mapping[int, Path | Series], name: str, channels: int) -> str:
    missing = next((n for n in range(channels) if n not in group), channels)
    return (
        f"{_beside(group, name)}: channel _{missing:04d} is missing; the network takes "
        f"{plural(channels, 'channel')} of every case"
    )


def _beside(group: Mapping[int, Path | Series], name: str) -> Path:
    first = next(iter(group.values()))
    return (first.folder if isinstance(first, Series) else first.parent) / name


def split_cases(
    names: Iterable[str],
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Split cases at random, the same way whenever names and seed are the same.

    The sorted groups, every case alone by default, are permuted by
    ``numpy.random.default_rng(seed)``; the first go to the test set, the next to validation, the
    rest to training. A fraction over 0 gives at least one group. Where groups differ in size,
    those are taken that come nearest to the fraction of the cases.

    Args:
        names: Names of the cases, in any order.
        validation: Fraction of the cases to validate on, in [0, 1).
        test: Fraction of the cases to test on, in [0, 1).
        seed: Seed of the permutation.
        groups: Name of a case -> name of its group; cases of one group are never parted.

    Returns:
        The split, each part sorted by name.

    Raises:
        InputError: Where a name occurs twice or has no group, a fraction is out of range, or no
            case is left to train on.

    Example:
        >>> split_cases(["a", "b", "c", "d"], validation=0.25)
        Split(train=('a', 'b', 'd'), validation=('c',), test=())
        >>> patients = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
        >>> split_cases(patients, validation=0.4, groups=patients).validation
        ('a1', 'a2')
    """
    rest = shuffled_groups(names, groups, seed=seed, where="split")
    total = sum(map(len, rest))
    wanted = [_count(test, total, "test"), _count(validation, total, "validation")]
    there = plural(len(rest), "case" if groups is None else "group")
    parts = []
    for count in wanted:
        chosen = set(nearest_share(rest, count))
        parts.append(tuple(sorted(name for place in chosen for name in rest[place])))
        rest = [group for place, group in enumerate(rest) if place not in chosen]
    lacking = any(count and not part for count, part in zip(wanted, parts, strict=True))
    if sum(wanted) >= total or lacking or not rest:
        raise InputError(
            f"{there} with fractions {validation} for validation and {test} for testing leave none "
            "to train on: give more cases or smaller fractions"
        )
    train = tuple(sorted(name for group in rest for name in group))
    return Split(train=train, validation=parts[1], test=parts[0])


def write_split(split: Split, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a split as JSON.

    Args:
        split: The split.
        path: File to write.
        overwrite: Replace a file that exists.

    Raises:
        InputError: Where the file exists and may not be replaced, or cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "split.json"
        >>> write_split(Split(train=("a", "b"), validation=("c",)), path)
        >>> read_split(path).validation
        ('c',)
    """
    parts = {
        "train": list(split.train),
        "validation": list(split.validation),
        "test": list(split.test),
    }
    with atomic_path(Path(path), overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")


def read_split(path: str | Path) -> Split:
    """Read a split that :func:`write_split` wrote.

    Args:
        path: JSON file with the lists ``train``, ``validation`` and ``test``.

    Returns:
        The split.

    Raises:
        InputError: Where the file is missing or holds anything else, or names a case twice.
    """
    parts = read_json(path)
    if isinstance(parts, list) and parts:
        raise InputError(
            f"{path}: holds the splits of {plural(len(parts), 'fold')}, which only segjax train "
            "takes; give one split, an object of the lists train, validation and test"
        )
    return _as_split(parts, str(path))


def read_fold_splits(path: str | Path) -> tuple[Split, ...] | None:
    """Read the splits of a cross-validation, such as nnU-Net's ``splits_final.json``.

    Args:
        path: JSON file: a list of objects with the lists ``train`` and ``val``, one for each fold.

    Returns:
        The split of every fold; None where the file holds an object, as one split.

    Raises:
        InputError: Where the file is missing or holds anything else, or a fold names a case twice.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "splits_final.json"
        >>> _ = path.write_text('[{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]')
        >>> [split.validation for split in read_fold_splits(path)]
        [('a',), ('b',)]
    """
    folds = read_json(path)
    if isinstance(folds, dict):
        return None
    if not isinstance(folds, list) or not folds:
        raise InputError(f"{path}: holds neither a split nor a list of those of folds")
    return tuple(
        _as_split(parts, f"{path}: fold {fold}", validation="val")
        for fold, parts in enumerate(folds)
    )


def _as_split(parts: Any, where: str, validation: str = "validation") -> Split:
    allowed = {"train", validation, "test"}
    if not isinstance(parts, dict) or not {"train", validation} <= set(parts) <= allowed:
        raise InputError(f"{where}: a split is an object of the lists train, {validation} and test")
    names = {
        key: tuple(map(normal_name, _strings(value, where, key))) for key, value in parts.items()
    }
    _refuse_repeated([name for part in names.values() for name in part], where)
    return Split(names["train"], names[validation], names.get("test", ()))


def load_case(
    case: Case, pipeline: Pipeline, *, classes: int | None = None, channels: int | None = None
) -> LoadedCase:
    """Read a labelled case and run the preprocessing pipeline over image and label.

    Args:
        case: The case; it must have a label.
        pipeline: Preprocessing steps.
        classes: Number of label values, background included; larger values are refused.
        channels: Number of channels that the image must have.

    Returns:
        The case in memory.

    Raises:
        InputError: A file cannot be read, image and label lie on different grids, the case
            has no label, or values or channels are not those expected.
    """
    if case.label is None:
        raise InputError(f"case '{case.name}' has no label: training needs one")
    image = read_image(case.images, channels=channels)
    label = read_case_label(case, classes=classes, like=grid(image))
    processed, grids = pipeline.trace(image)
    return LoadedCase(
        name=case.name,
        image=np.ascontiguousarray(processed.data, np.float32),
        label=np.ascontiguousarray(pipeline.apply_label(label, grids).data, np.uint8),
        volume=image.with_data(np.broadcast_to(np.uint8(0), image.spatial_shape)),
        raw_label=label,
        grids=grids,
        lost=lost_lesions(label, pipeline, grids),
    )


def read_case_label(case: Case, *, classes: int | None = None, like: Grid | None = None) -> Volume:
    """Read the label map of a case, on the grid of its image.

    Args:
        case: The case; it must have a label.
        classes: Number of classes, background included; any number when None.
        like: Grid of the image, where it is known already.

    Returns:
        The classes, uint8; voxels that count for nothing are
        :data:`segjax.data.labels.IGNORED`.

    Raises:
        InputError: The case has no label, it cannot be read, or lies on another grid than the
            image.

    Example:
        >>> read_case_label(find_cases("brains").cases[0]).data.dtype  # doctest: +SKIP
        dtype('uint8')
    """
    if case.label is None:
        raise InputError(f"case '{case.name}' has no label: training needs one")
    like = read_grid(case.images[0])[0] if like is None else like
    label = read_label(case.label, classes=classes, coding=case.coding, like=like)
    if label.data.dtype != np.uint8:
        raise InputError(f"{case.label}: has labels over 255; give every class a smaller value")
    image = Volume(np.broadcast_to(np.uint8(0), like.shape), like.affine)
    check_same_grid(image, label, (str(case.images[0]), str(case.label)))
    return label


@dataclass(frozen=True)
class _Group:
    """A label and the images that belong to it, by channel number."""

    label: Path
    channels: dict[int, Path | Series]


def are_colours(cases: Sequence[Case]) -> bool:
    """Say whether cases are pictures of which some are in colour and others grey.

    Example:
        >>> are_colours([])
        False
    """
    pictures = [
        image
        for case in cases
        for image in case.images
        if isinstance(image, Path) and image.name.lower().endswith(".png") and image.is_file()
    ]
    if not cases or len(pictures) < len(cases):
        return False
    found = set()
    for picture in pictures:
        with suppress(InputError):  # reading the case says what is wrong
            found.add(read_grid(picture)[1])
    return found == {1, COLOURS}


def files_in(image: Path | Series) -> tuple[Path, ...]:
    """Return the files that an image is read from.

    Example:
        >>> [file.name for file in files_in(Path("patients/07/flair.nii.gz"))]
        ['flair.nii.gz']
    """
    return image.files if isinstance(image, Series) else (image,)


def _expand(path: Path, series: Sequence[str]) -> list[Named]:
    """Turn a path that the user gave into names and images."""
    if path.is_dir():
        if series:
            return _chosen(path, series)
        return list_images(path)
    if not path.exists() and not path.is_symlink():
        raise InputError(f"{path}: no such file or folder")
    if is_image(path):
        return [(stem(path), path)]
    if is_dicom(path) or path.name.lower().endswith(".dcm"):
        return [(stem(path), choose_series(path, name)) for name in series or (None,)]
    accepted = ", ".join(IMAGE_SUFFIXES)
    raise InputError(f"{path}: not an image: accepted are {accepted} and DICOM")


def _chosen(folder: Path, wanted: Sequence[str]) -> list[Named]:
    """Return the series of a folder that have certain names, numbers or UIDs."""
    known = [(name, one) for name, one in list_images(folder) if isinstance(one, Series)]
    called = {one.name: {one.name, one.uid, one.name.partition("-")[0]} for _, one in known}
    for name in wanted:
        if not any(name in names for names in called.values()):
            listed = ", ".join(called) or "none"
            raise InputError(f"{folder}: holds no series {name}; there are: {listed}")
    return [(name, one) for name, one in known if called[one.name] & set(wanted)]


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
    match = _CHANNEL.fullmatch(name)
    wanted = f"'{name}' or '{match[1]}'" if match else f"'{name}'"
    raise InputError(f"{image}: has no label: expected a label named {wanted}")


def _label_of(name: str, names: Collection[str]) -> tuple[str, int] | None:
    match = _CHANNEL.fullmatch(name)
    if name in names:
        return name, 0
    return (match[1], int(match[2])) if match and match[1] in names else None


def _check_channels(groups: Mapping[str, _Group], channels: Sequence[str] | None) -> None:
    """Check that every case has the same complete set of channel files."""
    numbers = {number for group in groups.values() for number in group.channels}
    suffixed = any(
        isinstance(image, Path) and stem(image) != name
        for name, group in groups.items()
        for image in group.channels.values()
    )
    expected = len(channels) if channels and suffixed else max(numbers) + 1
    for name, group in groups.items():
        missing = sorted(set(range(expected)) - set(group.channels))
        if missing:
            raise InputError(
                f"case '{name}': channel {missing[0]} is missing: expected {name}_{missing[0]:04d} "
                f"in {group.label.parent.parent}, as {expected} channels are there or announced"
            )
    if max(numbers) >= expected:
        raise InputError(f"channel {max(numbers)} is there, but dataset.json names {expected}")


def _group_channels(
    named: Iterable[Named],
) -> tuple[dict[str, dict[int, Path | Series]], list[Named]]:
    """Group files by name and channel suffix; return those without a suffix apart."""
    groups: dict[str, dict[int, Path | Series]] = {}
    others = []
    for name, file in named:
        match = _CHANNEL.fullmatch(name)
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = file
        else:
            others.append((name, file))
    return groups, others


def _in_order(channels: Mapping[int, Path | Series]) -> tuple[Path | Series, ...]:
    return tuple(channels[number] for number in sorted(channels))


def _refuse_repeated(names: Iterable[str], where: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"{where}: case '{repeated[0]}' occurs more than once")


def _count(fraction: float, total: int, part: str) -> int:
    """Return the number of cases of a part: the nearest, but one at least."""
    if not 0 <= fraction < 1:
        raise InputError(f"fraction {fraction} for {part} is out of range: give one in [0, 1)")
    return max(1, round(fraction * total)) if fraction else 0


def _read_description(path: Path, coding: LabelCoding | None = None) -> Dataset[Case]:
    """Read the names of labels and channels from ``dataset.json``, where there is one.

    A coding that is given stands in for what the file says of the labels.
    """
    if not path.exists():
        return Dataset(()) if coding is None else _named(coding)
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    labels, channels = content.get("labels"), content.get("channel_names", content.get("modality"))
    if coding is None and labels is not None:
        coding = _label_coding(labels, path)
    named = Dataset[Case](()) if coding is None else _named(coding)
    return replace(named, channels=None if channels is None else _channel_names(channels, path))


def _named(coding: LabelCoding) -> Dataset[Case]:
    return Dataset((), dict(enumerate(coding.names)), coding=coding)


def _label_coding(labels: Any, path: Path) -> LabelCoding:
    """Read ``{"0": "background"}`` (Decathlon) or ``{"background": 0}`` (nnU-Net)."""
    if isinstance(labels, Mapping) and labels and all(map(str.isdecimal, labels)):
        labels = _by_name(labels, path)
    ordered = sorted(coding_of_labels(labels, f"{path}: labels").as_labels().items(), key=_lowest)
    return coding_of_labels(dict(ordered))


def _lowest(label: tuple[str, Any]) -> int:
    values = label[1]
    return min(values) if isinstance(values, list) else values


def _by_name(labels: Mapping[str, Any], path: Path) -> dict[str, int]:
    for called, count in Counter(map(str, labels.values())).items():
        if count > 1:
            raise InputError(
                f"{path}: labels: two labels are called {called!r}; give each its own name"
            )
    return {str(called): int(value) for value, called in labels.items()}


def _channel_names(channels: Any, path: Path) -> tuple[str, ...]:
    """Read ``{"0": "FLAIR", "1": "T1"}`` or ``["FLAIR", "T1"]``."""
    try:
        numbered = dict(enumerate(channels)) if isinstance(channels, list) else dict(channels)
        names = {int(number): str(name) for number, name in numbered.items()}
    except (TypeError, ValueError):
        names = {}
    if not names or sorted(names) != list(range(len(names))):
        raise InputError(f"{path}: channels {channels} cannot be used: name channels 0, 1, 2, …")
    return tuple(names[number] for number in range(len(names)))


def _strings(value: Any, path: str | Path, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{path}: '{key}' is no list of case names")
    return tuple(value)


def find_subjects(
    folder: str | Path,
    *,
    images: Sequence[str],
    label: str | None = None,
    coding: LabelCoding | None = None,
) -> Dataset[Case]:
    """Find one case in every folder that holds files of certain names, however deep.

    Args:
        folder: Where to look.
        images: Name of the file of each channel, in order, such as ``("flair.nii.gz",)``, or of
            a folder that holds one DICOM series. Stars stand for any letters:
            ``"*_FLAIR.nii.gz"`` in a BIDS tree.
        label: Name of the label map; None where there are none.
        coding: What its values stand for, whatever ``dataset.json`` says.

    Returns:
        The cases, sorted by name: the folders from ``folder`` on, joined by ``_``. Channels are
        called as their files.

    Raises:
        InputError: No folder holds the first image, one lacks another file or holds more than one
            of that name, or two cases get one name.

    Warns:
        UserWarning: Folders that hold the other files, or any images, hold no first image.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("flair.nii.gz", "lesions.nii.gz"):
        ...     (folder / "patient07").mkdir(exist_ok=True)
        ...     (folder / "patient07" / name).touch()
        >>> dataset = find_subjects(folder, images=["flair.nii.gz"], label="lesions.nii.gz")
        >>> dataset.cases[0].name, dataset.channels
        ('patient07', ('flair',))
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    names = [normal_name(name) for name in (*images, *([label] if label else []))]
    if not images or any(not name or len(Path(name).parts) != 1 for name in names):
        raise InputError(f"{', '.join(names) or 'nothing'}: give names of files, without a folder")
    tree = _entries(folder)
    subjects = [place for place, entries in tree.items() if _matching(entries, names[0])]
    if not subjects:
        raise InputError(f"{folder}: neither it nor a folder in it holds {images[0]}")
    _warn_of_others(folder, tree, subjects, names)
    named = [_subject_name(folder, subject) for subject in subjects]
    found = [[_only(tree[subject], subject, name) for name in names] for subject in subjects]
    count = len(images)
    cases = [
        Case(name, tuple(map(_image, files[:count])), files[count] if label else None)
        for name, files in zip(named, found, strict=True)
    ]
    _refuse_repeated(named, str(folder))
    described = _read_description(folder / "dataset.json", coding)
    channels = tuple(stem(name).strip("*?_.") for name in images)
    told = all(channels) and len(set(channels)) == len(channels)
    ordered = tuple(sorted(cases, key=lambda case: case.name))
    return _named_by_segments(
        replace(described, cases=ordered, channels=channels if told else None)
    )


def _entries(folder: Path) -> dict[Path, list[Path]]:
    """List the files of every folder in a tree, and the folders in it; hidden ones are left out."""
    tree: dict[Path, dict[Path, None]] = {folder: {}}
    for file in walk(folder):
        inside = [file, *(up for up in file.parents if up != folder and folder in up.parents)]
        if any(entry.name.startswith(".") for entry in inside):
            continue
        for entry in inside:
            tree.setdefault(entry.parent, {})[entry] = None
    return {place: list(entries) for place, entries in sorted(tree.items())}


def _matching(entries: Sequence[Path], pattern: str) -> list[Path]:
    """Return the files and DICOM folders whose name a pattern fits."""
    fitting = [entry for entry in entries if fnmatchcase(normal_name(entry.name), pattern)]
    return [entry for entry in fitting if not entry.is_dir() or holds_dicom(entry)]


def _warn_of_others(
    folder: Path,
    tree: Mapping[Path, Sequence[Path]],
    subjects: Sequence[Path],
    names: Sequence[str],
) -> None:
    """Name the folders that hold images or labels but lack the first image, and broken links."""
    lost = [entry for entries in tree.values() for entry in entries if _is_broken(entry)]
    others = [
        place
        for place, entries in tree.items()
        if place not in subjects
        and not any(subject in place.parents for subject in subjects)
        and (any(map(is_image, entries)) or any(_matching(entries, name) for name in names[1:]))
    ]
    for what, found in ((f"without {names[0]}", others), ("that are links to nowhere", lost)):
        if found:
            warnings.warn(
                f"{folder}: left out {plural(len(found), 'folder')} {what}, such as "
                f"{found[0].relative_to(folder)}",
                stacklevel=3,
            )


def _is_broken(entry: Path) -> bool:
    """Say whether what should be a folder is a link that leads nowhere."""
    return entry.is_symlink() and not entry.exists() and not entry.suffix


def _subject_name(folder: Path, subject: Path) -> str:
    return normal_name("_".join(subject.relative_to(folder).parts) or folder.absolute().name)


def _only(entries: Sequence[Path], subject: Path, name: str) -> Path:
    found = _matching(entries, name)
    if not found:
        raise InputError(f"{subject}: holds no {name}; every case needs one")
    if len(found) > 1:
        raise InputError(f"{subject}: both {found[0].name} and {found[1].name} are {name}")
    return found[0]


def _image(entry: Path) -> Path | Series:
    """Return the series that a folder holds; a file is an image itself."""
    return choose_series(entry, None) if entry.is_dir() else entry
