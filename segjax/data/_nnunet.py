"""Where nnU-Net keeps the files of a dataset."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import IMAGE_SUFFIXES, normal_name
from segjax.errors import InputError
from segjax.files import read_json
from segjax.text import plural

__all__ = ["Listed", "dataset_folder", "listed_files", "of_ending"]

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
    found = sorted(place for place in folder.iterdir() if _DATASET.fullmatch(place.name))
    found = [place for place in found if place.is_dir()]
    if len(found) > 1:
        listed = ", ".join(place.name for place in found)
        raise InputError(f"{folder}: holds several datasets; give one of {listed}")
    return found[0] if len(found) == 1 else folder


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
    ending = _content(description).get("file_ending", "")
    if ending and not (isinstance(ending, str) and ending.lower().endswith(IMAGE_SUFFIXES)):
        accepted = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{description}: file_ending {ending}: accepted are {accepted}")
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


def _content(description: Path) -> Mapping[str, Any]:
    content = read_json(description) if description.exists() else {}
    return content if isinstance(content, Mapping) else {}
