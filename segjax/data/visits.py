"""Find which files are which visits of which patient, and when these were."""

import csv
import datetime
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from segjax.data.bids import check_named, find_bids, find_labels, names_bids, parse_name
from segjax.data.io.dicom.mark import is_dicom
from segjax.data.io.dicom.series import Series, choose_series, holds_dicom, sidecar
from segjax.data.io.formats import image_suffixes, normal_name, stem
from segjax.data.listing import is_image
from segjax.errors import InputError
from segjax.files import reading
from segjax.text import listed, plural

__all__ = ["Subject", "VisitFiles", "date_of", "find_subject", "find_visits", "read_date"]

_NAMED = 4
_ANY = ("*",)
_DATES = ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate")  # of DICOM

_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ].*|\d{2,6}(?:[.+-].*)?)?")

Image = Path | Series


@dataclass(frozen=True)
class VisitFiles:
    """What belongs to one visit.

    Attributes:
        name: What the visit is called.
        images: A file or DICOM series for each channel, or one of all; none where there is a mask
            alone.
        mask: Its label map.
        brain: Mask of its brain, or an image of the brain alone.
        date: When it was, where anything tells.
    """

    name: str
    images: tuple[Image, ...] = ()
    mask: Path | None = None
    brain: Path | None = None
    date: datetime.date | None = None

    @property
    def parts(self) -> tuple[Image, ...]:
        """All that is read."""
        return (*self.images, *(part for part in (self.mask, self.brain) if part is not None))


@dataclass(frozen=True)
class Subject:
    """The visits of one patient.

    Attributes:
        name: What the patient is called.
        visits: In the order of time.
        fault: Why they cannot be compared; empty where they can.
    """

    name: str
    visits: tuple[VisitFiles, ...]
    fault: str = ""


@dataclass(frozen=True)
class _Wanted:
    """Names of the files of a visit."""

    images: tuple[str, ...]
    mask: str | None
    brain: str | None
    series: str | None

    @property
    def others(self) -> tuple[str, ...]:
        """What is no image."""
        return tuple(name for name in (self.mask, self.brain) if name is not None)


def find_subject(
    visits: Sequence[str | Path],
    *,
    images: Sequence[str] = (),
    masks: Sequence[str | Path] = (),
    brains: Sequence[str | Path] = (),
    series: str | None = None,
    dates: Sequence[str] = (),
    name: str = "",
) -> Subject:
    """Find the files of one patient, whose visits are given one by one.

    Args:
        visits: Of each visit its image: a file, a folder that holds a DICOM series or one image,
            or a folder that holds ``images``. None where there are masks alone.
        images: Name of the file of each channel in the folder of a visit.
        masks: Of each visit its label map; or, of visits that are folders, its name in them.
        brains: The same of the mask of the brain.
        series: DICOM series to take where there are several: see
            :meth:`segjax.data.io.dicom.series.Series.is_called`.
        dates: When the visits were, as ``2024-01-31``; by default what DICOM headers say.
        name: What to call the patient.

    Returns:
        The patient's visits, in the order given.

    Raises:
        InputError: There are fewer than two, a file is missing or ambiguous, or masks, brains or
            dates are not as many as the visits.

    Example:
        >>> patient = find_subject(["patients/01", "patients/02"], images=["flair.nii.gz"])
        >>> [(visit.name, visit.images[0].name) for visit in patient.visits]
        [('01', 'flair.nii.gz'), ('02', 'flair.nii.gz')]
    """
    places = [Path(visit) for visit in visits]
    count = len(places) or len(masks)
    if count < 2:
        raise InputError(f"{plural(count, 'visit')}: give two or more, in the order of time")
    own_masks = _of_each(places, masks, count, "--masks")
    own_brains = _of_each(places, brains, count, "--brain")
    own_dates = _dates(dates, count)
    own_images = [_images_in(place, images, series) for place in places] or [()] * count
    named = places or [mask for mask in own_masks if mask is not None]
    return Subject(
        name,
        tuple(
            VisitFiles(called, files, mask, brain, date or _date_of(files))
            for called, files, mask, brain, date in zip(
                _apart(named), own_images, own_masks, own_brains, own_dates, strict=True
            )
        ),
    )


def find_visits(
    folder: str | Path,
    *,
    images: Sequence[str] = (),
    mask: str | None = None,
    brain: str | None = None,
    series: str | None = None,
) -> list[Subject]:
    """Find the visits of all patients of a folder.

    A patient is a folder in it. A visit is a folder in the patient's that holds the images, or a
    DICOM series; or a file in the patient's, called as the visit. In the names of files a star
    stands for the name of the visit: ``*_flair.nii.gz`` beside ``*_lesions.nii.gz``. Of a BIDS
    data set, visits are sessions.

    Visits are in the order of their dates, where all have one (DICOM headers; BIDS
    ``sessions.tsv`` and ``scans.tsv``), else in that of their names, numbers by their size.

    Args:
        folder: Where the patients are.
        images: Name of the file of each channel, or its suffix in BIDS; by default the only image.
        mask: Name of the label map, or its suffix and entities in BIDS.
        brain: The same of the mask of the brain.
        series: DICOM series to take, where there are several.

    Returns:
        The patients by name; those without two whole visits have a fault that says why.

    Raises:
        InputError: There is no such folder, or it holds no folders of patients; or a BIDS data set
            whose images nobody names.

    Warns:
        UserWarning: A folder in a patient's holds other images alone.

    Example:
        >>> [subject.fault for subject in find_visits("patients", images=["flair.nii.gz"])][0]
        'patients/01: holds 1 visit, flair: two are compared'
    """
    folder = Path(folder)
    if images and names_bids(folder, images):
        found = _subjects_of_bids(folder, _Wanted(tuple(images), mask, brain, series))
    else:
        check_named(folder)
        wanted = _Wanted(tuple(map(normal_name, images)) or _ANY, mask, brain, series)
        found = [_subject(place, wanted) for place in _folders(folder)]
    if not found:
        raise InputError(
            f"{folder}: holds no folders of patients with their visits; the visits of one patient "
            "are given one by one"
        )
    return found


def read_date(text: str) -> datetime.date:
    """Read a date as ISO 8601 or DICOM writes it; a time after it is left out.

    Raises:
        InputError: It is none.

    Example:
        >>> read_date("2024-01-31") == read_date("20240131") == read_date("2024-01-31T10:00:00")
        True
    """
    if match := _DATE.fullmatch(text.strip()):
        with suppress(ValueError):
            return datetime.date(*map(int, match.groups()))
    raise InputError(f"{text!r}: is no date; give year, month and day, such as 2024-01-31")


def date_of(series: Series) -> datetime.date | None:
    """Return when a DICOM series was acquired; None where its header does not tell.

    Raises:
        InputError: The header cannot be read.

    Example:
        >>> from segjax.data.io.dicom.series import find_series
        >>> date_of(find_series("scan")[0]) is None
        True
    """
    facts = sidecar(series, identifiers=True)
    for keyword in _DATES:
        with suppress(InputError):
            return read_date(str(facts.get(keyword, "")))
    return None


def _date_of(images: Sequence[Image]) -> datetime.date | None:
    dates = (date_of(image) for image in images if isinstance(image, Series))
    return next((date for date in dates if date is not None), None)


def _dates(texts: Sequence[str], count: int) -> list[datetime.date | None]:
    if not texts:
        return [None] * count
    if len(texts) != count:
        raise InputError(f"--dates: {len(texts)} for {count} visits; give one for each")
    dates = [read_date(text) for text in texts]
    if dates != sorted(dates):
        raise InputError("--dates: go backwards; give the visits in the order of time")
    return list(dates)


def _of_each(
    places: Sequence[Path], files: Sequence[str | Path], count: int, option: str
) -> list[Path | None]:
    """Return the file of each visit: given, or of one name in the folders of all."""
    if not files:
        return [None] * count
    paths = [Path(file) for file in files]
    if len(paths) == 1 and places and all(place.is_dir() for place in places):
        return [_only(place, str(files[0])) for place in places]
    if len(paths) != count:
        raise InputError(f"{option}: {len(paths)} for {count} visits; give one for each, in order")
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(f"{missing[0]}: there is no such file")
    return list(paths)


def _apart(places: Sequence[Path]) -> list[str]:
    """Return names that tell visits apart: of the files, of their folders, or with numbers."""
    by_file = [place.name if place.is_dir() else stem(place) for place in places]
    by_folder = [normal_name(place.absolute().parent.name) for place in places]
    for names in (by_file, by_folder):
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{name}-{number}" for number, name in enumerate(by_file, start=1)]


def _images_in(place: Path, names: Sequence[str], series: str | None) -> tuple[Image, ...]:
    """Return the images of a visit that a path stands for."""
    if not place.exists():
        raise InputError(f"{place}: there is no such file or folder")
    if place.is_dir():
        return _images_of(place, names or _ANY, (), series)
    if names:
        raise InputError(f"{place}: is a file; {', '.join(names)} are looked for in folders")
    if is_image(place):
        return (place,)
    if is_dicom(place):
        return (choose_series(place, series),)
    accepted = ", ".join(image_suffixes())
    raise InputError(f"{place}: is no image: accepted are {accepted} and DICOM")


def _images_of(
    place: Path, names: Sequence[str], others: Sequence[str], series: str | None
) -> tuple[Image, ...]:
    """Return the images in the folder of a visit."""
    if tuple(names) == _ANY and not _matching(place, "*", others) and holds_dicom(place):
        return (choose_series(place, series),)
    files = [_only(place, name, others) for name in names]
    return tuple(choose_series(file, series) if file.is_dir() else file for file in files)


def _only(place: Path, name: str, others: Sequence[str] = ()) -> Path:
    found = _matching(place, name, others)
    if len(found) > 1:
        both = f"both {found[0].name} and {found[1].name}"
        what = "images; name the one to take by --images" if name == "*" else name
        raise InputError(f"{place}: {both} are {what}")
    if not found:
        raise InputError(f"{place}: holds no {'image' if name == '*' else name}")
    return found[0]


def _matching(place: Path, pattern: str, others: Sequence[str] = ()) -> list[Path]:
    """Return what fits a pattern: images by their names, and where it is named folders of DICOM."""
    found = []
    for entry in _entries(place):
        name = normal_name(entry.name)
        if not fnmatchcase(name, pattern) or any(fnmatchcase(name, other) for other in others):
            continue
        if is_image(entry) or (pattern != "*" and (not entry.is_dir() or holds_dicom(entry))):
            found.append(entry)
    return found


def _entries(place: Path) -> list[Path]:
    try:
        return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{place}: cannot be listed: {error.strerror}") from error


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        raise InputError(f"{place}: there is no such folder")
    return [entry for entry in _entries(place) if entry.is_dir()]


def _subject(place: Path, wanted: _Wanted) -> Subject:
    name = normal_name(place.name)
    try:
        visits = [*_visits_by_file(place, wanted), *_visits_by_folder(place, wanted)]
    except InputError as error:
        return Subject(name, (), str(error))
    return _whole(name, visits, str(place))


def _whole(name: str, visits: Sequence[VisitFiles], place: str) -> Subject:
    """Return a patient with the visits in order; a fault where there are no two."""
    dated = all(visit.date for visit in visits)
    ordered = sorted(visits, key=lambda visit: _natural(visit.name))
    if dated:
        ordered.sort(key=lambda visit: visit.date or datetime.date.min)
    if len(ordered) < 2:
        held = f"1 visit, {ordered[0].name}" if ordered else "no visit"
        return Subject(name, tuple(ordered), f"{place}: holds {held}: two are compared")
    return Subject(name, tuple(ordered))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts ``visit10`` after ``visit2``."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]


def _visits_by_file(place: Path, wanted: _Wanted) -> Iterator[VisitFiles]:
    """Yield the visits that are files in a patient's folder."""
    first = wanted.images[0]
    for file in _matching(place, first, wanted.others):
        if file.is_dir():
            continue
        name = _starred(first, file.name) or stem(file)
        rest = (_only(place, _filled(other, name)) for other in wanted.images[1:])
        mask, brain = (
            None if other is None else _only(place, _filled(other, name))
            for other in (wanted.mask, wanted.brain)
        )
        yield VisitFiles(name, (file, *rest), mask, brain)


def _starred(pattern: str, name: str) -> str:
    """Return what the first star of a pattern stands for, if there is more than a star."""
    before, star, after = pattern.partition("*")
    if not star or pattern == "*":
        return ""
    end = "".join(".*" if letter == "*" else re.escape(letter) for letter in after)
    match = re.fullmatch(f"{re.escape(before)}(.*){end}", normal_name(name))
    return match[1].strip("_-. ") if match else ""


def _filled(pattern: str, visit: str) -> str:
    """Return the pattern of another file of a visit."""
    if "*" not in pattern:
        raise InputError(
            f"{pattern}: visits are files of one folder; put a star for the name of the visit, "
            f"such as *_{pattern}"
        )
    before, _, after = pattern.partition("*")
    return f"{before}{visit}{after}"


def _visits_by_folder(place: Path, wanted: _Wanted) -> Iterator[VisitFiles]:
    """Yield the visits that are folders in a patient's folder."""
    first, left = wanted.images[0], []
    for folder in _folders(place):
        named = _matching(folder, first, wanted.others)
        if not named and not (wanted.images == _ANY and holds_dicom(folder)):
            left.append(folder)
            continue
        images = _images_of(folder, wanted.images, wanted.others, wanted.series)
        mask, brain = (
            None if other is None else _only(folder, other) for other in (wanted.mask, wanted.brain)
        )
        yield VisitFiles(normal_name(folder.name), images, mask, brain, _date_of(images))
    if lacking := [folder for folder in left if any(map(is_image, _entries(folder)))]:
        warnings.warn(
            f"{place}: left out {listed([each.name for each in lacking], _NAMED)} without {first}",
            stacklevel=5,
        )


def _subjects_of_bids(folder: Path, wanted: _Wanted) -> list[Subject]:
    """Return the subjects of a BIDS data set, whose visits are sessions."""
    channels = [
        {case.name: case.images[0] for case in find_bids(folder, images=[image]).cases}
        for image in wanted.images
    ]
    finders = [_finder(folder, name) for name in (wanted.mask, wanted.brain)]
    sessions = defaultdict(list)
    for case in sorted(channels[0]):
        sessions[case.partition("_")[0]].append(case)
    subjects = {*sessions, *(place.name for place in folder.glob("sub-*") if place.is_dir())}
    found = []
    for subject in sorted(subjects, key=_natural):
        try:
            visits = [_session(case, channels, finders, wanted) for case in sessions[subject]]
        except InputError as error:
            found.append(Subject(subject, (), str(error)))
        else:
            found.append(_whole(subject, visits, f"{folder}: {subject}"))
    return found


_Find = Callable[[str, Path], Path | None]


def _finder(folder: Path, name: str | None) -> _Find:
    """Return what finds the mask of a session: by its BIDS name, or by that of a file beside."""
    if name is None:
        return lambda case, image: None
    if parse_name(name.rpartition("/")[2]) is None:
        return lambda case, image: _only(image.parent, name)
    labels = find_labels(folder, name)

    def find(case: str, image: Path) -> Path:
        if case not in labels:
            raise InputError(f"{folder}: {case} has no {name}")
        return labels[case]

    return find


def _session(
    case: str,
    channels: Sequence[Mapping[str, Image]],
    finders: Sequence[_Find],
    wanted: _Wanted,
) -> VisitFiles:
    for name, files in zip(wanted.images, channels, strict=True):
        if case not in files:
            raise InputError(f"{case}: has no {name}")
    images = tuple(files[case] for files in channels)
    image = images[0] if isinstance(images[0], Path) else images[0].folder
    mask, brain = (find(case, image) for find in finders)
    session = case.partition("_")[2] or case
    return VisitFiles(session, images, mask, brain, _date_of(images) or _date_in_bids(image, case))


def _date_in_bids(image: Path, case: str) -> datetime.date | None:
    """Return what ``sessions.tsv`` or ``scans.tsv`` says of the time of a session."""
    subject, _, session = case.partition("_")
    for place in image.parents:
        for row in _rows(place / f"{case}_scans.tsv"):
            if Path(row.get("filename") or "").name == image.name and (date := _told(row)):
                return date
        for row in _rows(place / f"{subject}_sessions.tsv"):
            if row.get("session_id") == session and (date := _told(row)):
                return date
        if place.name == subject:
            break
    return None


def _told(row: Mapping[str, str]) -> datetime.date | None:
    with suppress(InputError):
        return read_date(row.get("acq_time") or "")
    return None


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with reading(table) as stream:
        lines = stream.read().decode("utf-8-sig", errors="replace").splitlines()
    return list(csv.DictReader(lines, delimiter="\t"))
