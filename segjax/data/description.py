"""What a ``dataset.json`` of nnU-Net or the Medical Segmentation Decathlon says of a dataset."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import image_suffixes, normal_name
from segjax.data.labels import PLAIN, LabelCoding, coding_of_labels
from segjax.errors import InputError
from segjax.files import read_json, read_json_object
from segjax.text import plural

__all__ = [
    "Description",
    "Listed",
    "dataset_folder",
    "describe_dataset",
    "listed_files",
    "of_ending",
    "read_description",
]

Image = TypeVar("Image", Path, Path | Series)

_DATASET = re.compile(r"(Dataset\d{3}|Task\d{2,3})_.+")


def dataset_folder(folder: Path) -> Path:
    """Return the one dataset in an ``nnUNet_raw`` folder; any other folder is a dataset itself.

    Raises:
        InputError: There is no such folder, or it holds several datasets.

    Example:
        >>> import tempfile
        >>> raw = Path(tempfile.mkdtemp())
        >>> (raw / "Dataset004_Hippocampus").mkdir()
        >>> dataset_folder(raw).name
        'Dataset004_Hippocampus'
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if any((folder / part).is_dir() for part in ("labels", "labelsTr")):
        return folder
    found = sorted(p for p in folder.iterdir() if _DATASET.fullmatch(p.name) and p.is_dir())
    if len(found) > 1:
        listed = ", ".join(place.name for place in found)
        raise InputError(f"{folder}: holds several datasets; give one of {listed}")
    return found[0] if len(found) == 1 else folder


@dataclass(frozen=True)
class Description:
    """Names of labels and channels.

    Attributes:
        labels: Class -> name, or None where nothing says it.
        channels: Name of every channel, or None where nothing says it.
        coding: What the values of label maps stand for.
    """

    labels: dict[int, str] | None = None
    channels: tuple[str, ...] | None = None
    coding: LabelCoding = PLAIN


def describe_dataset(folder: Path, coding: LabelCoding | None = None) -> Description:
    """Read the names of labels and channels from the ``dataset.json`` of a folder, if it has one.

    Args:
        folder: The dataset's folder.
        coding: Stands in for what the file says of the labels.

    Raises:
        InputError: The file cannot be understood.

    Example:
        >>> describe_dataset(Path("absent")) == Description()
        True
    """
    path = folder / "dataset.json"
    content = read_json_object(path) if path.exists() else {}
    labels, channels = content.get("labels"), content.get("channel_names", content.get("modality"))
    if coding is None and labels is not None:
        coding = _label_coding(labels, path)
    return Description(
        None if coding is None else dict(enumerate(coding.names)),
        None if channels is None else _channel_names(channels, path),
        coding or PLAIN,
    )


def read_description(labels: str | Path) -> Description:
    """Read what a ``dataset.json`` says of the labels in a folder, or beside it.

    Args:
        labels: Folder of label maps.

    Returns:
        What it says; nothing where there is no such file.

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
    found = [place for place in places if (place / "dataset.json").is_file()]
    return describe_dataset(found[0]) if found else Description()


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


@dataclass(frozen=True)
class Listed:
    """The files of one case as ``dataset.json`` lists them."""

    images: tuple[Path, ...]
    label: Path


def listed_files(description: Path) -> dict[str, Listed]:
    """Return the files that nnU-Net's ``dataset.json`` lists case by case under ``dataset``.

    Relative paths start from the folder of that file; variables of the environment are expanded,
    as nnU-Net does.

    Args:
        description: The file; it may be absent.

    Returns:
        Case -> its files; empty where nothing is listed.

    Raises:
        InputError: The list cannot be understood, or a file of it is missing.

    Example:
        >>> listed_files(Path("absent/dataset.json"))
        {}
    """
    listed = _content(description).get("dataset", {})
    if isinstance(listed, str):  # what the dataset is called
        return {}
    if not isinstance(listed, Mapping):
        raise InputError(f"{description}: 'dataset' is no object of cases")
    return {normal_name(name): _files(name, entry, description) for name, entry in listed.items()}


def _files(name: str, entry: Any, description: Path) -> Listed:
    given = entry if isinstance(entry, Mapping) else {}
    images, label = given.get("images"), given.get("label")
    named = [*images, label] if isinstance(images, list) else []
    if len(named) < 2 or not all(isinstance(file, str) and file for file in named):
        raise InputError(
            f"{description}: case '{name}' of 'dataset' needs its 'images', a list, and its 'label'"
        )
    files = [description.parent / os.path.expandvars(file) for file in named]
    for file in files:
        if not os.path.lexists(file):
            raise InputError(f"{file}: no such file, but {description} lists it for case '{name}'")
    return Listed(tuple(files[:-1]), files[-1])


def of_ending(named: Iterable[tuple[str, Image]], description: Path) -> list[tuple[str, Image]]:
    """Leave out files of other endings than the ``file_ending`` of nnU-Net's ``dataset.json``.

    Raises:
        InputError: Files of this ending cannot be read, or there is none.

    Warns:
        UserWarning: Files are left out.

    Example:
        >>> [name for name, _ in of_ending([("a", Path("a.nii.gz"))], Path("absent/dataset.json"))]
        ['a']
    """
    ending = _ending(description)
    listed = list(named)
    kept = [(name, file) for name, file in listed if str(file).endswith(ending)]
    others = [file for _, file in listed if not str(file).endswith(ending)]
    if others and not kept:
        raise InputError(f"{others[0]}: does not end in {ending}, as {description} says all do")
    if others:
        warnings.warn(
            f"{description}: left out {plural(len(others), 'file')} that do not end in {ending}, "
            f"such as {others[0]}",
            stacklevel=3,
        )
    return kept


def _ending(description: Path) -> str:
    """Return the ending of all images and label maps; nothing where none is stated."""
    ending = _content(description).get("file_ending") or ""
    if ending and not (isinstance(ending, str) and ending.lower().endswith(image_suffixes())):
        accepted = ", ".join(image_suffixes())
        raise InputError(f"{description}: file_ending {ending}: accepted are {accepted}")
    return ending


def _content(description: Path) -> Mapping[str, Any]:
    content = read_json(description) if description.exists() else {}
    return content if isinstance(content, Mapping) else {}
