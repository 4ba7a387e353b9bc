"""Find the cases of a BIDS data set: names that are made of entities and a suffix."""

import csv
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from segjax.data.cases import Case, Dataset, dataset_of, is_dataset
from segjax.data.description import describe_dataset
from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import normal_name, stem
from segjax.data.labels import LabelCoding, coding_of_labels
from segjax.data.listing import is_image
from segjax.errors import InputError
from segjax.files import reading, walk
from segjax.text import listed, plural

__all__ = [
    "BidsFile",
    "BidsName",
    "check_named",
    "dataset_root",
    "derived_path",
    "find_bids",
    "find_labels",
    "is_bids",
    "kinds_in",
    "list_bids",
    "names_bids",
    "parse_name",
]

_NAME = re.compile(r"((?:[A-Za-z]+-[A-Za-z0-9+]+_)*)([A-Za-z0-9]+)")
_APART = {"sourcedata", "code"}  # folders whose files are no images of the data set
_CASE = ("sub", "ses")
_SEGMENTED = ("anat", "dwi", "func")  # data types of which BIDS knows segmentations
_MOST_KINDS = 12

_Files = Mapping[str, Path]  # of cases


@dataclass(frozen=True)
class BidsName:
    """What the name of a file says, or what is asked for.

    Attributes:
        entities: Such as ``{"sub": "01", "acq": "3d"}``, in their order.
        suffix: What the file is, such as ``"FLAIR"``.
    """

    entities: Mapping[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """Subject and session, such as ``"sub-01_ses-02"``."""
        return "_".join(f"{key}-{self.entities[key]}" for key in _CASE if key in self.entities)

    @property
    def kind(self) -> str:
        """The name without subject and session, such as ``"acq-3d_FLAIR"``."""
        return "".join(f"{key}-{value}_" for key, value in self.rest.items()) + self.suffix

    @property
    def rest(self) -> dict[str, str]:
        """The entities but subject and session."""
        return {key: value for key, value in self.entities.items() if key not in _CASE}

    def is_of(self, wanted: "BidsName") -> bool:
        """Say whether this is the name of a file that was asked for."""
        return self.suffix == wanted.suffix and wanted.entities.items() <= self.entities.items()


@dataclass(frozen=True)
class BidsFile:
    """An image or label map of a data set.

    Attributes:
        path: The file.
        name: What its name says.
        derived: Whether it lies in ``derivatives/``.
    """

    path: Path
    name: BidsName
    derived: bool


def parse_name(text: str) -> BidsName | None:
    """Take a name apart; None of one that BIDS does not know.

    Args:
        text: Name of a file without its suffixes such as ``.nii.gz``.

    Source: Brain Imaging Data Structure 1.10, "Filenames".

    Example:
        >>> name = parse_name("sub-01_ses-02_acq-3d_FLAIR")
        >>> name.case, name.kind, name.suffix
        ('sub-01_ses-02', 'acq-3d_FLAIR', 'FLAIR')
        >>> parse_name("flair.nii.gz") is None
        True
    """
    if not (match := _NAME.fullmatch(text)):
        return None
    pairs = (pair.partition("-") for pair in match[1].split("_") if pair)
    return BidsName({key: value for key, _, value in pairs}, match[2])


def derived_path(image: Path | Series, desc: str) -> Path:
    """Say where in a derivative lies what is made of an image, without the suffix of its kind.

    Args:
        image: The image.
        desc: The entity that tells it apart from what others made of the same image.

    Raises:
        InputError: The image is not called as in BIDS.

    Source: Brain Imaging Data Structure 1.10, "Imaging data types: Segmentations".

    Example:
        >>> image = Path("raw/sub-01/ses-02/dwi/sub-01_ses-02_acq-b1000_dwi.nii.gz")
        >>> derived_path(image, "lesion").as_posix()
        'sub-01/ses-02/dwi/sub-01_ses-02_acq-b1000_desc-lesion'
    """
    name = parse_name(stem(image)) if isinstance(image, Path) else None
    if isinstance(image, Series) or name is None or "sub" not in name.entities:
        raise InputError(f"{image}: is not called as in BIDS (sub-01_FLAIR.nii.gz): no derivative")
    kind = image.parent.name if image.parent.name in _SEGMENTED else "anat"
    entities = {**name.entities, "desc": desc}
    text = "_".join(f"{key}-{entities[key]}" for key in sorted(entities, key="desc".__eq__))
    return Path(*name.case.split("_"), kind, text)


def dataset_root(image: Path) -> Path:
    """Return the data set that an image lies in: the folder of its subject's; else its own.

    Example:
        >>> dataset_root(Path("raw/sub-01/anat/sub-01_FLAIR.nii.gz")).name
        'raw'
    """
    place = Path(os.path.abspath(image))
    subjects = [folder for folder in place.parents if folder.name.startswith("sub-")]
    return subjects[0].parent if subjects else place.parent


def is_bids(folder: str | Path) -> bool:
    """Say whether a folder is a BIDS data set, or that of a subject in one, by its names.

    Example:
        >>> is_bids("patients")
        False
    """
    folder = Path(folder)
    described = (folder / "dataset_description.json").is_file()
    subject = folder.absolute().name.startswith("sub-")
    return described or subject or any(folder.glob("sub-*/"))


def list_bids(folder: str | Path) -> list[BidsFile]:
    """List the images and label maps of a data set, by the names of the files alone.

    Hidden folders, ``sourcedata/`` and ``code/`` are left out.

    Raises:
        InputError: There is no such folder, or it cannot be read.
    """
    return _sorted_out(folder)[0]


def _sorted_out(folder: str | Path) -> tuple[list[BidsFile], list[Path]]:
    """Return the files that BIDS knows, and the images of subjects with other names."""
    found, others = [], []
    for path in walk(folder):
        parts = path.relative_to(folder).parts
        if not is_image(path) or _APART & {*parts} or any(p.startswith(".") for p in parts):
            continue
        name = parse_name(stem(path))
        if name and "sub" in name.entities:
            found.append(BidsFile(path, name, "derivatives" in parts))
        elif parts[0].lower().startswith("sub"):
            others.append(path)
    return found, others


def kinds_in(files: Iterable[BidsFile]) -> str:
    """List what is there, the most frequent first, with how many there are.

    Example:
        >>> flair = BidsName({"sub": "01", "acq": "3d"}, "FLAIR")
        >>> kinds_in([BidsFile(Path("sub-01_acq-3d_FLAIR.nii"), flair, derived=False)])
        'acq-3d_FLAIR (1)'
    """
    counts = Counter(file.name.kind for file in files)
    return listed([f"{kind} ({n})" for kind, n in counts.most_common()], _MOST_KINDS)


def names_bids(folder: str | Path, images: Sequence[str]) -> bool:
    """Say whether images are named by their BIDS suffixes, in a BIDS data set.

    Args:
        folder: Where they should lie.
        images: What is asked for, such as ``["acq-3d_FLAIR", "T1w"]``. Names of files have a dot
            or stars; where nothing is called so, but a folder is, that is meant.

    Example:
        >>> names_bids("patients", ["flair.nii.gz"])
        False
    """
    wanted = [name for image in images if (name := parse_name(image.rpartition("/")[2]))]
    if len(wanted) < len(images) or not is_bids(folder):
        return False
    folder = Path(folder)
    if any(folder.rglob(f"sub-*_{wanted[0].suffix}.*")):
        return True
    return not any(place.is_dir() for place in folder.rglob(images[0]))


def check_named(path: str | Path) -> None:
    """Refuse a BIDS data set of which nobody says what images to take.

    Raises:
        InputError: It is one; the message says what images there are.

    Example:
        >>> check_named("patients")
    """
    folder = Path(path)
    if not (folder.is_dir() and is_bids(folder)) or is_dataset(folder):
        return
    if any(map(is_image, folder.iterdir())):
        return
    if files := [file for file in list_bids(folder) if not file.derived]:
        raise InputError(
            f"{folder}: is a BIDS data set; say which images to take, such as --images "
            f"{files[0].name.kind}; there are: {kinds_in(files)}"
        )


def find_bids(
    folder: str | Path,
    *,
    images: Sequence[str],
    label: str | None = None,
    coding: LabelCoding | None = None,
) -> Dataset[Case]:
    """Find one case for every session of every subject, or every subject where there are none.

    Args:
        folder: The data set, or the folder of a subject.
        images: Suffix of each channel, with entities where it takes them to tell files apart:
            ``["acq-3d_FLAIR", "T1w"]``. Of several files that fit, the one without further
            entities is taken. Images of ``derivatives/`` want the name of a folder there before
            them: ``"stripped/T1w"``.
        label: The same of the label map, such as ``"label-lesion_mask"``, which may lie in
            ``derivatives/`` without that. Or the name of a file beside the first image, with stars
            for any letters.
        coding: What its values stand for, whatever ``dataset.json`` says, or else the table
            ``dseg.tsv`` of the label maps.

    Returns:
        The cases, sorted by name, such as ``sub-01_ses-02``. Channels are called as ``images``.

    Raises:
        InputError: There is no such image or label, a case lacks one, or several fit; the message
            names the files and what tells them apart.

    Warns:
        UserWarning: Sessions have other images, but not the first one; those of one channel
            differ in their entities; or images of subjects are not called as in BIDS.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for file in ("sub-01/anat/sub-01_FLAIR.nii.gz", "sub-01/anat/sub-01_mask.nii.gz"):
        ...     (folder / file).parent.mkdir(parents=True, exist_ok=True)
        ...     (folder / file).touch()
        >>> find_bids(folder, images=["FLAIR"], label="mask").cases[0].label.name
        'sub-01_mask.nii.gz'
    """
    folder = Path(folder)
    files, strange = _sorted_out(folder)
    raw = [file for file in files if not file.derived]
    channels = [
        _choose(folder, files if "/" in image else raw, image, option="images") for image in images
    ]
    names = sorted(channels[0])
    if not any(f"{key}-" in images[0] for key in _CASE):
        _warn_of_others(folder, {file.name.case for file in raw}.difference(names), images[0])
    labels = _labels(folder, files, label, channels[0]) if label else {}
    _warn_of_strange(folder, [path for path in strange if path not in labels.values()])
    chosen = dict(zip(images, channels, strict=True)) | ({label: labels} if label else {})
    for what, found in chosen.items():
        if lacking := sorted(set(names).difference(found)):
            more = f", nor do {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise InputError(f"{folder}: {lacking[0]} has no {what}{more}; every case needs one")
    cases = [Case(n, tuple(found[n] for found in channels), labels.get(n)) for n in names]
    apart = tuple(images) if len(set(images)) == len(images) else None
    described = describe_dataset(folder, coding)
    if described.labels is None and (table := _table_of(folder, labels)):
        described = describe_dataset(folder, _coding_in(table))
    return dataset_of(cases, replace(described, channels=apart))


def find_labels(folder: str | Path, label: str) -> dict[str, Path]:
    """Find the label map of every session that has one.

    Args:
        folder: The data set.
        label: As for :func:`find_bids`, but no pattern.

    Raises:
        InputError: There is none, or a session has several.

    Example:
        >>> find_labels("patients", "dseg")
        Traceback (most recent call last):
            ...
        segjax.errors.InputError: patients: holds no dseg; there are: none
    """
    return dict(_choose(Path(folder), list_bids(folder), label, option="label"))


def _table_of(folder: Path, labels: _Files) -> Path | None:
    """Return the table of what is in label maps, beside the first one or above, as BIDS has it."""
    first = next(iter(labels.values()), None)
    name = first and parse_name(stem(first))
    if first is None or not name or name.suffix != "dseg":
        return None
    for place in first.parents:
        for table in sorted(place.glob("*dseg.tsv")):
            if (own := parse_name(table.stem)) and name.is_of(own):
                return table
        if place == folder:
            break
    return None


def _coding_in(table: Path) -> LabelCoding:
    try:
        with reading(table) as stream:
            lines = stream.read().decode("utf-8-sig").splitlines()
        rows = csv.DictReader(lines, delimiter="\t")
        return coding_of_labels({row["name"]: int(row["index"]) for row in rows}, str(table))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{table}: is no table of index and name; give --labels") from error


def _choose(folder: Path, files: Sequence[BidsFile], text: str, *, option: str) -> _Files:
    """Return the one file of each case that is asked for."""
    place, _, name = text.rpartition("/")
    wanted = parse_name(name)
    if wanted is None:
        raise InputError(f"{text}: is no name of BIDS; give --{option} as FLAIR or acq-3d_FLAIR")
    places = {*place.split("/")} - {""}
    within = [f for f in files if places.issubset(f.path.relative_to(folder).parts)]
    fitting = defaultdict(list)
    for file in within:
        if file.name.is_of(wanted):
            fitting[file.name.case].append(file)
    if not fitting:
        raise InputError(f"{folder}: holds no {text}; there are: {kinds_in(files) or 'none'}")
    chosen = {case: _only(some, wanted, option) for case, some in fitting.items()}
    _warn_of_kinds(folder, text, chosen.values())
    return {case: file.path for case, file in chosen.items()}


def _only(files: Sequence[BidsFile], wanted: BidsName, option: str) -> BidsFile:
    """Return the only file, or the one without further entities."""
    plain = [file for file in files if file.name.rest == wanted.rest]
    if len(files) == 1 or len(plain) == 1:
        return [*plain, *files][0]
    first, second = (plain or files)[:2]
    raise InputError(
        f"{first.path} and {second.path} both are {wanted.kind} of {first.name.case}; "
        f"{_difference(first, second, option)}"
    )


def _difference(first: BidsFile, second: BidsFile, option: str) -> str:
    """Say how to ask for one of two files."""
    if first.name.kind != second.name.kind:
        kinds = f"{first.name.kind} or {second.name.kind}"
        return f"add an entity that tells them apart, such as --{option} {kinds}"
    ours, others = ({*file.path.parts[:-1]} for file in (first, second))
    if option == "label" and (own := [p for p in first.path.parts[:-1] if p not in others]):
        other = next((p for p in second.path.parts[:-1] if p not in ours), None)
        places = " or ".join(f"--label {p}/{first.name.kind}" for p in (own[0], other) if p)
        return f"name a folder that one lies in: {places}"
    return "leave one"


def _labels(folder: Path, files: Sequence[BidsFile], label: str, images: _Files) -> _Files:
    """Return the label map of each case, by its BIDS name or by a pattern beside the image."""
    if parse_name(label.rpartition("/")[2]):
        return _choose(folder, files, label, option="label")
    found = {}
    for case, image in images.items():
        beside = [f for f in sorted(image.parent.iterdir()) if _fits(f, label) and f != image]
        if len(beside) > 1:
            both = f"{beside[0].name} and {beside[1].name}"
            raise InputError(f"{image.parent}: both {both} are {label}")
        if beside:
            found[case] = beside[0]
    return found


def _fits(file: Path, pattern: str) -> bool:
    return is_image(file) and fnmatchcase(normal_name(file.name), normal_name(pattern))


def _warn_of_others(folder: Path, others: Iterable[str], image: str) -> None:
    if left := sorted(others):
        warnings.warn(
            f"{folder}: left out {plural(len(left), 'case')} without {image}, such as {left[0]}",
            stacklevel=3,
        )


def _warn_of_strange(folder: Path, images: Sequence[Path]) -> None:
    if images:
        warnings.warn(
            f"{folder}: left out {plural(len(images), 'image')} of other names than those of BIDS "
            f"(sub-01_FLAIR.nii.gz), such as {images[0].relative_to(folder)}",
            stacklevel=3,
        )


def _warn_of_kinds(folder: Path, wanted: str, files: Iterable[BidsFile]) -> None:
    """Tell of a name that stands for files of different entities."""
    files = list(files)
    if len({file.name.kind for file in files}) > 1:
        warnings.warn(
            f"{folder}: {wanted} stands for {kinds_in(files)}; add entities to take some alone",
            stacklevel=4,
        )
