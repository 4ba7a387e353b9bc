"""Find the cases of a dataset that has a folder for every subject."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from segjax.data.cases import Case, Dataset, dataset_of
from segjax.data.description import describe_dataset
from segjax.data.io.dicom.series import Series, choose_series, holds_dicom
from segjax.data.io.formats import normal_name, stem
from segjax.data.labels import LabelCoding
from segjax.data.listing import is_image
from segjax.errors import InputError
from segjax.files import walk
from segjax.text import plural

__all__ = ["find_subjects"]


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
            a folder that holds one DICOM series. Stars stand for any letters. Of a BIDS data set,
            :func:`segjax.data.bids.find_bids` takes the suffixes.
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
    names = _file_names(images, label)
    subjects = _subjects(folder, names)
    found = [[_only(subject, name) for name in names] for subject in subjects]
    count = len(images)
    cases = [
        Case(subject.name, tuple(map(_image, files[:count])), next(iter(files[count:]), None))
        for subject, files in zip(subjects, found, strict=True)
    ]
    counts = Counter(case.name for case in cases)
    if repeated := sorted(name for name in counts if counts[name] > 1):
        raise InputError(f"{folder}: case '{repeated[0]}' occurs more than once")
    described = replace(describe_dataset(folder, coding), channels=_channels(images))
    return dataset_of(sorted(cases, key=lambda case: case.name), described)


@dataclass(frozen=True)
class _Subject:
    name: str
    folder: Path
    entries: Sequence[Path]


def _file_names(images: Sequence[str], label: str | None) -> list[str]:
    """Return the names of a subject's files, that of the label last, in Unicode's composed form."""
    names = [normal_name(name) for name in (*images, *([label] if label else []))]
    if not images or any(not name or len(Path(name).parts) != 1 for name in names):
        raise InputError(f"{', '.join(names) or 'nothing'}: give names of files, without a folder")
    return names


def _channels(images: Sequence[str]) -> tuple[str, ...] | None:
    """Call channels as their files; None where that tells them not apart."""
    names = tuple(stem(name).strip("*?_.") for name in images)
    return names if all(names) and len(set(names)) == len(names) else None


def _subjects(folder: Path, names: Sequence[str]) -> list[_Subject]:
    """Return the folders that hold the first image; warn of others that hold images."""
    tree = _entries(folder)
    places = [place for place, entries in tree.items() if _matching(entries, names[0])]
    if not places:
        raise InputError(f"{folder}: neither it nor a folder in it holds {names[0]}")
    _warn_of_others(folder, tree, places, names)
    return [_Subject(_subject_name(folder, place), place, tree[place]) for place in places]


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
    places: Sequence[Path],
    names: Sequence[str],
) -> None:
    """Name the folders that hold images or labels but lack the first image, and broken links."""
    lost = [entry for entries in tree.values() for entry in entries if _is_broken(entry)]
    others = [
        place
        for place, entries in tree.items()
        if {place, *place.parents}.isdisjoint(places) and _holds_some(entries, names[1:])
    ]
    for what, found in ((f"without {names[0]}", others), ("that are links to nowhere", lost)):
        if found:
            warnings.warn(
                f"{folder}: left out {plural(len(found), 'folder')} {what}, such as "
                f"{found[0].relative_to(folder)}",
                stacklevel=4,
            )


def _holds_some(entries: Sequence[Path], names: Sequence[str]) -> bool:
    """Say whether a folder holds any image, or a file of certain names."""
    return any(map(is_image, entries)) or any(_matching(entries, name) for name in names)


def _is_broken(entry: Path) -> bool:
    """Say whether what should be a folder is a link that leads nowhere."""
    return entry.is_symlink() and not entry.exists() and not entry.suffix


def _subject_name(folder: Path, subject: Path) -> str:
    return normal_name("_".join(subject.relative_to(folder).parts) or folder.absolute().name)


def _only(subject: _Subject, name: str) -> Path:
    found = _matching(subject.entries, name)
    if not found:
        raise InputError(f"{subject.folder}: holds no {name}; every case needs one")
    if len(found) > 1:
        raise InputError(f"{subject.folder}: both {found[0].name} and {found[1].name} are {name}")
    return found[0]


def _image(entry: Path) -> Path | Series:
    """Return the series that a folder holds; a file is an image itself."""
    return choose_series(entry, None) if entry.is_dir() else entry
