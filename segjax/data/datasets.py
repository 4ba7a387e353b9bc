"""Find the cases of a dataset in a folder, split them, and load them for training."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from segjax.data.dicom import Series, find_series, holds_dicom, is_dicom
from segjax.data.formats import IMAGE_SUFFIXES, check_same_grid, read_image, read_label, stem
from segjax.data.pipeline import Pipeline
from segjax.data.spatial import Grid
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.volume import Volume
from segjax.words import plural

__all__ = [
    "LAYOUTS",
    "Case",
    "Dataset",
    "LoadedCase",
    "Split",
    "find_cases",
    "find_images",
    "find_subjects",
    "load_case",
    "read_split",
    "split_cases",
    "write_split",
]

LAYOUTS = (
    "images/ and labels/ with equal names, or imagesTr/ and labelsTr/ (Medical Segmentation "
    "Decathlon, nnU-Net); channels in files of their own end in _0000, _0001, …"
)
_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Case:
    """One subject's files.

    Attributes:
        name: Unique in its dataset; the file name without suffixes.
        images: One file per channel, or a single file.
        label: The label map, or None where there is none.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


AnyCase = TypeVar("AnyCase")


@dataclass(frozen=True)
class Dataset(Generic[AnyCase]):
    """The cases of a folder and what its ``dataset.json`` says of them.

    Attributes:
        cases: Sorted by name: ``Case`` objects, or the ``CachedCase`` objects of a cache.
        labels: Label value -> name, or None where nothing says it.
        channels: Name of every channel, or None where nothing says it.
    """

    cases: tuple[AnyCase, ...]
    labels: dict[int, str] | None = None
    channels: tuple[str, ...] | None = None


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
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    volume: Volume
    raw_label: Volume
    grids: tuple[Grid, ...] = ()

    def __post_init__(self) -> None:
        if self.image.shape[:-1] != self.label.shape:
            raise InputError(
                f"case '{self.name}': image of shape {self.image.shape} (channels last) and label "
                f"of shape {self.label.shape} differ"
            )


def find_cases(folder: str | Path) -> Dataset[Case]:
    """Find the labelled cases of a folder.

    Accepted are ``images/`` and ``labels/`` with equal names, and ``imagesTr/`` and ``labelsTr/``
    (Medical Segmentation Decathlon, nnU-Net). Where no label has an image's full name, a suffix
    ``_0000``, ``_0001``, … of the image is its channel number. A ``dataset.json`` beside the
    folders gives the names of labels and channels, in either project's form.

    Args:
        folder: The dataset's folder.

    Returns:
        The dataset, its cases sorted by name.

    Raises:
        InputError: Where the layout is unknown, a folder is empty, an image has no label or a
            label no image, a channel is missing, or ``dataset.json`` cannot be understood.

    Example:
        >>> import tempfile
        >>> from segjax.data.phantom import write_dataset
        >>> folder = tempfile.mkdtemp()
        >>> _ = write_dataset(folder, count=2, shape=(32, 32))
        >>> [case.name for case in find_cases(folder).cases]
        ['ms_000', 'ms_001']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    for images, labels in _FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            groups = _pair(_list(folder / images), _list(folder / labels))
            names, channels = _read_description(folder / "dataset.json")
            _check_channels(groups, channels)
            cases = (Case(name, _in_order(g.channels), g.label) for name, g in groups.items())
            return Dataset(tuple(cases), names, channels)
    raise InputError(f"{folder}: no dataset found: accepted are {LAYOUTS}")


def find_images(paths: Iterable[str | Path], *, channels: int | None = None) -> list[Case]:
    """Turn files and folders into cases to predict.

    Files are grouped by channel where every name ends in ``_0000``, ``_0001``, … and every case
    has the same complete set of channels; otherwise each file is a case. Each DICOM series of a
    folder is a case: a single one with the name of the folder, several with that of the folder
    in it that they lie in (joined by ``_`` where it lies deeper), and ``_seriesNAME`` where they
    share one.

    Args:
        paths: Image files, and folders of image files or, with the folders in them, of DICOM
            files; a DICOM file stands for its series.
        channels: Channels of a case; where given, files are grouped only into cases of so many.

    Returns:
        Cases without labels, in the order given (folders: sorted by name).

    Raises:
        InputError: Where a path does not exist or is no image, a folder holds no image, or two
            cases have one name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png"):
        ...     (folder / name).touch()
        >>> [(case.name, len(case.images)) for case in find_images([folder])]
        [('a', 2), ('b', 2)]
    """
    found = [named for path in paths for named in _expand(Path(path))]
    if not found:
        raise InputError("no image given: name at least one image file or folder")
    _check_unique(found)
    groups = _group_channels(found)
    expected = channels or len(next(iter(groups.values()), ()))
    if groups and all(sorted(group) == list(range(expected)) for group in groups.values()):
        return [Case(name, _in_order(group)) for name, group in groups.items()]
    if channels:
        _check_wanted_channels(groups, channels)
    return [Case(name, (file,)) for name, file in found]


def _check_wanted_channels(groups: Mapping[str, Mapping[int, Path]], channels: int) -> None:
    """Refuse what are channels by their names, but not those that are wanted."""
    wanted = set(range(channels))
    if channels > 1 and all(set(group) <= wanted for group in groups.values()):
        for name, group in groups.items():
            if missing := sorted(wanted - set(group)):
                folder = next(iter(group.values())).parent
                raise InputError(
                    f"{folder / name}: channel _{missing[0]:04d} is missing; the network takes "
                    f"{plural(channels, 'channel')} of every case"
                )
    counts = {len(group) for group in groups.values()}
    whole = all(sorted(group) == list(range(len(group))) for group in groups.values())
    if len(groups) > 1 and whole and counts != {1} and len(counts) == 1:
        name, group = next(iter(groups.items()))
        raise InputError(
            f"{next(iter(group.values())).parent / name}: has files of "
            f"{plural(len(group), 'channel')}, but the network takes {channels}"
        )


def split_cases(
    names: Iterable[str], *, validation: float = 0.2, test: float = 0.0, seed: int = 0
) -> Split:
    """Split cases at random, the same way whenever names and seed are the same.

    The sorted names are permuted by ``numpy.random.default_rng(seed)``; the first go to the test
    set, the next to validation, the rest to training. A fraction over 0 gives at least one case.

    Args:
        names: Names of the cases, in any order.
        validation: Fraction of the cases to validate on, in [0, 1).
        test: Fraction of the cases to test on, in [0, 1).
        seed: Seed of the permutation.

    Returns:
        The split, each part sorted by name.

    Raises:
        InputError: Where a name occurs twice, a fraction is out of range, or no case is left to
            train on.

    Example:
        >>> split_cases(["a", "b", "c", "d"], validation=0.25)
        Split(train=('a', 'b', 'd'), validation=('c',), test=())
    """
    ordered = sorted(names)
    _refuse_repeated(ordered, "split")
    test_count = _count(test, len(ordered), "test")
    held_out = test_count + _count(validation, len(ordered), "validation")
    if held_out >= len(ordered):
        raise InputError(
            f"{plural(len(ordered), 'case')} with fractions {validation} for validation and {test} "
            "for testing leave none to train on: give more cases or smaller fractions"
        )
    shuffled = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    return Split(
        train=tuple(sorted(shuffled[held_out:])),
        validation=tuple(sorted(shuffled[test_count:held_out])),
        test=tuple(sorted(shuffled[:test_count])),
    )


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
    parts = _read_json(Path(path))
    allowed = {"train", "validation", "test"}
    if not isinstance(parts, dict) or not {"train", "validation"} <= set(parts) <= allowed:
        raise InputError(f"{path}: a split is an object of the lists train, validation and test")
    names = {key: _strings(value, path, key) for key, value in parts.items()}
    _refuse_repeated([name for part in names.values() for name in part], str(path))
    return Split(**names)


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
    label = read_label(case.label, classes=classes)
    if label.data.dtype != np.uint8:
        raise InputError(f"{case.label}: has labels over 255; give every class a smaller value")
    check_same_grid(image, label, (str(case.images[0]), str(case.label)))
    processed, grids = pipeline.trace(image)
    return LoadedCase(
        name=case.name,
        image=np.ascontiguousarray(processed.data, np.float32),
        label=np.ascontiguousarray(pipeline.apply_label(label, grids).data, np.uint8),
        volume=image.with_data(np.broadcast_to(np.uint8(0), image.spatial_shape)),
        raw_label=label,
        grids=grids,
    )


@dataclass(frozen=True)
class _Group:
    """A label and the image files that belong to it, by channel number."""

    label: Path
    channels: dict[int, Path]


def _list(folder: Path) -> list[Path]:
    """List a folder's image files by name; hidden files are left out."""
    files = sorted(p for p in folder.iterdir() if _is_image(p) and not p.name.startswith("."))
    if not files:
        raise InputError(f"{folder}: holds no images: accepted are {', '.join(IMAGE_SUFFIXES)}")
    return files


def _is_image(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(tuple(IMAGE_SUFFIXES))


def _expand(path: Path) -> list[tuple[str, Path]]:
    """Turn a path that the user gave into names and image files."""
    if path.is_dir():
        images = any(_is_image(file) for file in path.iterdir())
        mixed = any(is_dicom(file) for file in path.iterdir() if not _is_image(file))
        series = _series(path) if mixed or (not images and holds_dicom(path)) else []
        files = _list(path) if images or not series else []
        return [*series, *((stem(file), file) for file in files)]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not _is_image(path) and not is_dicom(path):
        accepted = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{path}: not an image: accepted are {accepted} and DICOM")
    return [(stem(path), path)]


def _series(folder: Path) -> list[tuple[str, Path]]:
    """Name the DICOM series of a folder by the folders that they lie in; with their first files."""
    found, name = find_series(folder), folder.resolve().name
    if len(found) == 1:
        return [(name, found[0].files[0])]
    homes = [_home(series).relative_to(folder) for series in found]
    names = ["_".join(home.parts) or name for home in homes]
    alone = [homes.count(home) == 1 for home in homes]
    return [
        (own if single else f"{own}_series{series.name}", series.files[0])
        for series, own, single in zip(found, names, alone, strict=True)
    ]


def _home(series: Series) -> Path:
    """Return the folder that holds all files of a series."""
    return Path(os.path.commonpath([file.parent for file in series.files]))


def _pair(images: Sequence[Path], labels: Sequence[Path]) -> dict[str, _Group]:
    """Group image files by the label that they belong to."""
    _check_unique((stem(label), label) for label in labels)
    groups = {stem(label): _Group(label, {}) for label in sorted(labels, key=stem)}
    for image in images:
        name, channel = _case_and_channel(image, groups)
        if channel in groups[name].channels:
            other = groups[name].channels[channel]
            raise InputError(f"{image}: case '{name}' already has channel {channel}: {other}")
        groups[name].channels[channel] = image
    for group in groups.values():
        if not group.channels:
            raise InputError(f"{group.label}: no image of this name in {images[0].parent}")
    return groups


def _case_and_channel(image: Path, names: Mapping[str, object]) -> tuple[str, int]:
    """Return the label's name that an image belongs to, and its channel number."""
    name = stem(image)
    if name in names:
        return name, 0
    match = _CHANNEL.fullmatch(name)
    if match and match[1] in names:
        return match[1], int(match[2])
    wanted = f"'{name}' or '{match[1]}'" if match else f"'{name}'"
    raise InputError(f"{image}: has no label: expected a label named {wanted}")


def _check_channels(groups: Mapping[str, _Group], channels: Sequence[str] | None) -> None:
    """Check that every case has the same complete set of channel files."""
    numbers = {number for group in groups.values() for number in group.channels}
    suffixed = any(stem(file) != name for name, g in groups.items() for file in g.channels.values())
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


def _group_channels(named: Iterable[tuple[str, Path]]) -> dict[str, dict[int, Path]]:
    """Group files by name and channel suffix; nothing where one has no suffix."""
    groups: dict[str, dict[int, Path]] = {}
    for name, file in named:
        match = _CHANNEL.fullmatch(name)
        if not match:
            return {}
        groups.setdefault(match[1], {})[int(match[2])] = file
    return groups


def _in_order(channels: Mapping[int, Path]) -> tuple[Path, ...]:
    return tuple(channels[number] for number in sorted(channels))


def _check_unique(named: Iterable[tuple[str, Path]]) -> None:
    first: dict[str, Path] = {}
    for name, file in named:
        other = first.setdefault(name, file)
        if other is not file:
            raise InputError(f"{other} and {file} have one name: give each case its own")


def _refuse_repeated(names: Iterable[str], where: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"{where}: case '{repeated[0]}' occurs more than once")


def _count(fraction: float, total: int, part: str) -> int:
    """Return the number of cases of a part: the nearest, but one at least."""
    if not 0 <= fraction < 1:
        raise InputError(f"fraction {fraction} for {part} is out of range: give one in [0, 1)")
    return max(1, round(fraction * total)) if fraction else 0


def _read_description(path: Path) -> tuple[dict[int, str] | None, tuple[str, ...] | None]:
    """Read the names of labels and channels from ``dataset.json``, where there is one."""
    if not path.exists():
        return None, None
    content = _read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    labels, channels = content.get("labels"), content.get("channel_names", content.get("modality"))
    return (
        None if labels is None else _label_names(labels, path),
        None if channels is None else _channel_names(channels, path),
    )


def _label_names(labels: Any, path: Path) -> dict[int, str]:
    """Read ``{"0": "background"}`` (Decathlon) or ``{"background": 0}`` (nnU-Net)."""
    try:
        if all(key.isdigit() for key in labels):
            names = {int(key): str(name) for key, name in labels.items()}
        else:
            names = {int(value): name for name, value in labels.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    if not names or len(names) != len(labels) or sorted(names) != list(range(len(names))):
        raise InputError(
            f"{path}: labels {labels} cannot be used: give one name to every value 0, 1, 2, …"
        )
    return dict(sorted(names.items()))


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error


def find_subjects(
    folder: str | Path, *, images: Sequence[str], label: str | None = None
) -> Dataset[Case]:
    """Find one case in every folder that holds files of certain names, however deep.

    Args:
        folder: Where to look.
        images: Name of the file of each channel, in order, such as ``("flair.nii.gz",)``. Stars
            stand for any letters: ``"*_FLAIR.nii.gz"`` in a BIDS tree.
        label: Name of the label map; None where there are none.

    Returns:
        The cases, sorted by name: the folders from ``folder`` on, joined by ``_``. Channels are
        called as their files.

    Raises:
        InputError: No folder holds the first image, one lacks another file or holds more than one
            of that name, or two cases get one name.

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
    names = [*images, *([label] if label else [])]
    if not images or any(not name or Path(name).is_absolute() for name in names):
        raise InputError(f"{', '.join(names) or 'nothing'}: give names of files, without a folder")
    subjects = sorted({f.parent for f in folder.rglob(images[0]) if not f.name.startswith(".")})
    if not subjects:
        raise InputError(f"{folder}: neither it nor a folder in it holds {images[0]}")
    cases = [
        Case(
            "_".join(subject.relative_to(folder).parts) or folder.absolute().name,
            tuple(_only(subject, name) for name in images),
            _only(subject, label) if label else None,
        )
        for subject in subjects
    ]
    _refuse_repeated([case.name for case in cases], str(folder))
    channels = tuple(stem(name).strip("*?_.") for name in images)
    named = all(channels) and len(set(channels)) == len(channels)
    return Dataset(
        tuple(sorted(cases, key=lambda case: case.name)), channels=channels if named else None
    )


def _only(subject: Path, name: str) -> Path:
    found = sorted(file for file in subject.glob(name) if not file.name.startswith("."))
    if not found:
        raise InputError(f"{subject}: holds no {name}; every case needs one")
    if len(found) > 1:
        raise InputError(f"{subject}: both {found[0].name} and {found[1].name} are {name}")
    return found[0]
