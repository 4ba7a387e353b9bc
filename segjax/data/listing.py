"""List the images of folders under the names of their cases, and say what is left out."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from segjax.data.io.dicom.header import Frame
from segjax.data.io.dicom.segmentation import is_label_object
from segjax.data.io.dicom.series import Series, choose_series, is_dicom, scan
from segjax.data.io.dicom.split import split
from segjax.data.io.formats import image_suffixes, normal_name, stem, suffix
from segjax.errors import InputError
from segjax.files import walk
from segjax.text import plural

__all__ = [
    "Named",
    "channel_of",
    "check_unique",
    "is_image",
    "is_note",
    "join_parts",
    "list_images",
    "list_labels",
    "name_apart",
    "warn_of_rest",
]

Named = tuple[str, Path | Series]
"""Name of a case, and an image of it."""

_BESIDE = {  # what lies beside images and is none: notes, tables, the data of headers
    ".json", ".txt", ".csv", ".tsv", ".md", ".bval", ".bvec", ".xml", ".yaml", ".yml", ".html",
    ".pdf", ".log", ".raw", ".zraw", ".py", ".sh",
}  # fmt: skip
_NOTES = {"readme", "license", "changes", "dicomdir", "thumbs.db", "desktop.ini"}
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LISTED = 3
_DEEPEST = 8
_LOOKED_BESIDE = 8  # series


def channel_of(name: str) -> tuple[str, int] | None:
    """Return the case and the number of a channel that has a file of its own; None for others.

    Example:
        >>> channel_of("anna_0001"), channel_of("anna")
        (('anna', 1), None)
    """
    match = _CHANNEL.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def is_image(path: Path) -> bool:
    """Say whether a file is an image by its name, be it a link that leads nowhere."""
    named = path.name.lower().endswith(image_suffixes()) and not path.name.startswith(".")
    return named and not path.is_dir()


def list_images(folder: Path) -> list[Named]:
    """Name the image files of a folder by their names, its DICOM series by their folders.

    Series are looked for in the folders in it too.

    Raises:
        InputError: There is no image.

    Warns:
        UserWarning: Other files, and image files of the folders in it, are left out.
    """
    images, others = _divide(walk(folder), _is_picture)
    own, deeper = _divide(images, lambda file: file.parent == folder)
    dicom = any(is_dicom(file) or file.is_symlink() for file in others)
    series, said = _series(folder) if dicom else ([], "")
    if not (own or series):
        raise InputError(f"{folder}: {_why_none(folder, images)}")
    _, strange = _divide(sorted(others), lambda file: is_note(file) or is_dicom(file))
    _warn_of(folder, [file for file in strange if str(file) not in said] + deeper)
    return [*series, *((stem(file), file) for file in own)]


def _divide(
    files: Iterable[Path], condition: Callable[[Path], bool]
) -> tuple[list[Path], list[Path]]:
    """Return the files that fulfil a condition, and the others."""
    parts: tuple[list[Path], list[Path]] = [], []
    for file in files:
        parts[not condition(file)].append(file)
    return parts


def _is_picture(file: Path) -> bool:
    """Say whether a file is an image by its name, and no label map."""
    return is_image(file) and not file.name.lower().endswith(".seg.nrrd")


def list_labels(folder: Path) -> dict[str, Path]:
    """Name the label maps of a folder by their names.

    A DICOM SEG or RTSTRUCT object in a folder of its own has the name of that folder.

    Raises:
        InputError: There is none, or two have one name.

    Warns:
        UserWarning: Other files are left out.
    """
    names = {file: _label_name(file, folder) for file in walk(folder)}
    found = [(name, file) for file, name in names.items() if name is not None]
    if not found:
        raise InputError(f"{folder}: {_why_none(folder, list(names))}")
    _warn_of(folder, [file for file in names if names[file] is None and not is_note(file)])
    check_unique(found)
    return dict(found)


def _label_name(file: Path, folder: Path) -> str | None:
    """Name a label map; None for what is none of the folder."""
    own = file.parent == folder
    if is_image(file):
        return stem(file) if own else None
    if is_label_object(file):
        return stem(file) if own else normal_name(file.parent.name)
    return None


def join_parts(named: Sequence[Named]) -> list[Named]:
    """Join DICOM series that are parts of one volume, as folders named one by one may be.

    A joined series is called as the folder that holds all its files.
    """
    series = {n: one for n, (_, one) in enumerate(named) if isinstance(one, Series)}
    placed = {n: one for n, one in series.items() if all(f.position for f in one.frames)}
    listed: dict[int, Named] = dict(enumerate(named))
    for (first, *others), whole in _wholes(placed) if len(placed) > 1 else ():
        listed[first] = normal_name(whole.folder.resolve().name), whole
        for n in others:
            del listed[n]
    return list(listed.values())


def _wholes(series: Mapping[int, Series]) -> Iterator[tuple[list[int], Series]]:
    """Yield the numbers of series that are parts of one volume, and the series that they make."""
    slices = {(f.file, f.index): (n, f) for n, one in series.items() for f in one.frames}
    for volume in split([frame for _, frame in slices.values()]):
        numbers = sorted({slices[frame.file, frame.index][0] for frame in volume})
        parts = [series[n] for n in numbers]
        if len(parts) > 1 and len(volume) == sum(len(part.frames) for part in parts):
            yield numbers, _joined(parts, volume)


def _joined(parts: Sequence[Series], frames: tuple[Frame, ...]) -> Series:
    problems = dict.fromkeys(problem for part in parts for problem in part.problems)
    return replace(parts[0], frames=frames, problems=tuple(problems))


def warn_of_rest(named: Iterable[Named]) -> None:
    """Warn of DICOM series of which another part lies beside the folder that was named.

    Warns:
        UserWarning: There is one among the first few.
    """
    series = [one for _, one in named if isinstance(one, Series) and one.frames]
    for one in series[:_LOOKED_BESIDE]:
        whole = _whole(one)
        if len(whole.frames) > len(one.frames):
            more = plural(len(whole.frames) - len(one.frames), "slice")
            warnings.warn(
                f"{one}: left out {more} of it that lie beside the folder; give {whole.folder}",
                stacklevel=4,
            )


def _whole(series: Series) -> Series:
    """Return the series that a file stands for, from all files that may belong to it."""
    with suppress(InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return choose_series(series.files[0])
    return series


def name_apart(named: Iterable[Named]) -> list[Named]:
    """Give images of one name the names of their folders, and as much more as it takes.

    The same image given twice counts once.

    Example:
        >>> [name for name, _ in name_apart(
        ...     [("flair", Path(f"patients/{n}/flair.nii.gz")) for n in ("p1", "p2")])]
        ['p1', 'p2']
    """
    listed = list({_place(image): (name, image) for name, image in named}.values())
    levels, names = [0] * len(listed), [name for name, _ in listed]
    for _ in range(_DEEPEST):
        counts = Counter(names)
        levels = [n + (counts[name] > 1) for n, name in zip(levels, names, strict=True)]
        names = [_call(*one, level) for one, level in zip(listed, levels, strict=True)]
    return [(name, image) for name, (_, image) in zip(names, listed, strict=True)]


def _place(image: Path | Series) -> str:
    return str(image) if isinstance(image, Series) else os.path.abspath(image)


def _call(name: str, image: Path | Series, level: int) -> str:
    """Return a case's name, that of its folder, or that of the innermost folders and its own.

    A series is called as its folder already.
    """
    home = image.folder if isinstance(image, Series) else image
    folders = Path(os.path.abspath(home)).parts[1:-1]
    if isinstance(image, Series) and level:
        level += 1
    if level == 0 or not folders:
        return name
    return normal_name(folders[-1] if level == 1 else "_".join([*folders[1 - level :], name]))


def check_unique(named: Iterable[Named]) -> None:
    """Refuse two images of one name.

    Raises:
        InputError: There are two.
    """
    first: dict[str, Path | Series] = {}
    for name, image in named:
        other = first.setdefault(name, image)
        if other is not image:
            raise InputError(f"{other} and {image} have one name: give each case its own")


def _series(folder: Path) -> tuple[list[Named], str]:
    """Name the DICOM series of a folder by the folders that they lie in; say what is wrong.

    A file that cannot be read stands for the series that it should be a part of, so that reading
    the case says what is wrong.
    """
    found, broken = scan(folder)
    said = [problem for one in found for problem in one.problems]
    said += [problem.message for problem in broken]
    first = {problem.file.parent: problem.file for problem in reversed(broken)}
    names = _series_names(found, folder)
    return [*zip(names, found, strict=True), *_lost(first, names)], "; ".join(said)


def _series_names(found: Sequence[Series], folder: Path) -> list[str]:
    """Call series as the folders that they lie in, a single one as the folder itself."""
    home = normal_name(folder.resolve().name)
    if len(found) == 1:
        return [home]
    homes = [one.folder.relative_to(folder) for one in found]
    names = [normal_name("_".join(place.parts)) or home for place in homes]
    alone = [homes.count(place) == 1 for place in homes]
    return [
        name if single else f"{name}_series{one.name}"
        for one, name, single in zip(found, names, alone, strict=True)
    ]


def _lost(first: Mapping[Path, Path], taken: Collection[str]) -> list[Named]:
    """Name files that cannot be read by their folders, and by their own names if need be."""
    names = {file: normal_name(place.name) for place, file in first.items()}
    return [
        (f"{name}_{stem(file)}" if name in taken else name, file) for file, name in names.items()
    ]


def is_note(file: Path) -> bool:
    """Say whether a file only goes with images, or is none that anybody would miss."""
    name = file.name.lower()
    known = suffix(name) in _BESIDE or Path(name).stem in _NOTES or name in _NOTES
    return name.startswith(".") or known


def _why_none(folder: Path, deeper: Sequence[Path]) -> str:
    accepted = ", ".join(image_suffixes())
    if not deeper:
        return f"holds no images: accepted are {accepted} and DICOM"
    return (
        f"holds no images itself, but folders in it do, such as {deeper[0].relative_to(folder)}: "
        "name these folders, or files of them, or the file of each channel in every folder "
        f"(such as --images {deeper[0].name})"
    )


def _warn_of(folder: Path, files: Sequence[Path]) -> None:
    if files:
        listed = ", ".join(str(file.relative_to(folder)) for file in files[:_LISTED])
        more = ", …" if len(files) > _LISTED else ""
        warnings.warn(
            f"{folder}: left out {plural(len(files), 'file')} ({listed}{more}): taken are images "
            f"({', '.join(image_suffixes())}) in the folder itself, and DICOM",
            stacklevel=4,
        )
