"""Follow patients up over files: read visits, compare them, write a folder for each patient."""

import hashlib
import json
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import write_volume
from segjax.data.labels import LabelCoding
from segjax.data.prepare.brain import check_method
from segjax.data.sources import sha256_files
from segjax.data.visits import Subject
from segjax.errors import InputError
from segjax.evaluate.followed import change_table, summary_of
from segjax.evaluate.followup import FollowUp, Placed, Visit, follow_up
from segjax.evaluate.registration import write_transform
from segjax.files import atomic_folder, locked, read_json_object, write_csv, write_json
from segjax.progress import track
from segjax.provenance import here_and_now
from segjax.report.page import make_folder
from segjax.visits import read_visits, segment_image

if TYPE_CHECKING:
    from segjax.evaluate.selfcheck import SelfCheck
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["TABLE", "Followed", "Method", "follow", "follow_all"]

TABLE = "followup.csv"
"""Loads and counts of all patients, beside the folders of their reports."""

_SUMMARY, _TABLE = "summary.json", "changes.csv"
_FORMAT, _VERSION = "segjax-followup", 1
_CLASSICAL = "classical"
_FULL = "No space left"
_REMAINS = re.compile(r"\.[0-9a-f]{16}(\.csv)?")  # names of what is not yet whole
_SEED = 0  # of the lesions that are put in: the same scans give the same figures


@dataclass(frozen=True, kw_only=True)
class Method:
    """How visits are compared, and what is written.

    Attributes:
        predictor: The network that segments each visit; None where masks are given, or images alone
            are compared.
        coding: What the values of given masks stand for; by default what ``dataset.json`` beside
            them or their segments say, else classes.
        brain: How brains are found where no mask of them is given: as
            :func:`segjax.data.prepare.brain.extract_brain` takes it.
        registration: "rigid", "affine" or "none".
        intensities: Whether images are compared, too, and may contradict masks.
        check: How often lesions are put into the last scan, to see what would be found; 0 for
            never.
        shapes: Folder of masks of which the shapes of these lesions are; None for drawn ones.
        dated: Whether dates are written, and not the days between visits alone.
        language: Of the page, "en" or "fr".
        pdf: Whether the page is written as PDF too.
    """

    predictor: "Predictor | None" = None
    coding: LabelCoding | None = None
    brain: str | Path = _CLASSICAL
    registration: str = "rigid"
    intensities: bool = True
    check: int = 0
    shapes: Path | None = None
    dated: bool = False
    language: str = "en"
    pdf: bool = False


@dataclass(frozen=True)
class Followed:
    """What became of one patient.

    Attributes:
        subject: The patient's name.
        folder: Of the report.
        summary: What ``summary.json`` holds; empty where there is none.
        error: Why there is none; else empty.
        kept: Whether the report was there already.
    """

    subject: str
    folder: Path
    summary: Mapping[str, Any]
    error: str = ""
    kept: bool = False


def follow(
    subject: Subject, folder: str | Path, method: Method | None = None, *, overwrite: bool = False
) -> Followed:
    """Follow one patient up and write a folder: whole, or not at all.

    The folder gets, of two visits:

    - ``summary.json``: loads, counts, criteria, quality of the registration, warnings, digests of
      the files, versions;
    - ``changes.csv``: a row for each lesion, see
      :func:`segjax.evaluate.followed.change_table`;
    - ``baseline.nii.gz``, ``followup.nii.gz``, ``…_mask.nii.gz``, ``difference.nii.gz`` and
      ``changes.nii.gz`` (numbers of the lesions) on the half-way grid;
    - ``baseline_from_halfway.tfm``, ``followup_from_halfway.tfm``: ITK transforms from points of
      the half-way grid to points of the visit, in LPS mm;
    - ``report.html``, and ``report.pdf`` where it is wanted.

    Of more visits the files are called ``visit1`` … , ``difference_1_2`` and ``changes_1_2`` ….

    Args:
        subject: The patient's visits.
        folder: To write; its parent is made if need be.
        method: How visits are compared.
        overwrite: Replace the report in the folder, if that holds nothing else.

    Returns:
        What was found. A report of the same files and settings that is there already is kept, if
        it is whole.

    Raises:
        InputError: The visits cannot be read or compared, the folder holds something else, or
            cannot be written.

    Example:
        >>> import tempfile
        >>> from segjax.data.visits import find_subject
        >>> patient = find_subject([], masks=["lesions.nii.gz", "lesions.nii.gz"])
        >>> with warnings.catch_warnings(action="ignore"):  # the same file twice
        ...     found = follow(patient, Path(tempfile.mkdtemp()) / "report")
        >>> found.summary["comparisons"][0]["activity"]["new"]
        0
    """
    method = method or Method()
    folder = Path(folder)
    _check_method(method)
    _check_apart(folder, [subject])
    if subject.fault:
        raise InputError(subject.fault)
    inputs = _inputs(subject)
    made_of = _digest(subject, inputs, method)
    if kept := _kept(folder, made_of, overwrite=overwrite):
        return Followed(subject.name, folder, kept, kept=True)
    place = folder.resolve()
    if Path.cwd().is_relative_to(place):
        raise InputError(f"{folder}: is where you are; name a new folder for the report")
    _remove_unfinished(make_folder(place.parent))
    begin = time.perf_counter()
    with _heard(subject.name) as said:
        _warn_of_same(inputs)
        visits, labels = read_visits(
            subject.visits, predictor=method.predictor, coding=method.coding, brain=method.brain
        )
        followup = follow_up(
            visits,
            subject=subject.name,
            labels=labels,
            registration=method.registration,
            intensities=method.intensities,
        )
        if method.check:
            followup = replace(followup, check=_checked(visits, followup, method))
    if not method.dated:
        followup = replace(followup, visits=tuple(map(_undated, followup.visits)))
    summary = {
        "format": _FORMAT,
        "version": _VERSION,
        **summary_of(followup),
        "warnings": said,
        "made_of": made_of,
        "inputs": inputs,
        "networks": _networks(method),
        "settings": _settings(method),
        "provenance": _provenance(begin),
    }
    return Followed(subject.name, folder, _write(followup, place, method, summary))


def _kept(folder: Path, made_of: str, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the summary of a whole report that is to stay; None where one is to be made."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    before = _read_summary(folder)
    if not overwrite:
        if before["made_of"] != made_of:
            raise InputError(
                f"{folder}: holds a report of other files or settings; choose another folder, "
                "or replace it by --overwrite (in Python: overwrite=True)"
            )
        if all((folder / name).exists() for name in before["files"]):
            return before
    _check_ours(folder, before)
    return None


def follow_all(
    subjects: Sequence[Subject],
    out: str | Path,
    method: Method | None = None,
    *,
    overwrite: bool = False,
) -> Iterator[Followed]:
    """Follow many patients up, each into a folder of its own; one that fails stops no other.

    A patient whose report is there already is skipped, unless its files or the settings are others:
    that is an error of this patient. ``followup.csv`` holds a row for each patient, pair of visits
    and label (:func:`segjax.evaluate.followed.load_table`) of all reports in the folder; it is made
    of their summaries anew after each patient. A process that ends at any moment leaves whole
    reports alone; the next one goes on.

    Args:
        subjects: The patients.
        out: Folder for the reports; made if need be.
        method: How visits are compared.
        overwrite: Make reports anew that are there.

    Yields:
        What became of each patient, in order.

    Raises:
        InputError: Two patients have one name, ``out`` lies among the files or is in use by another
            process, or the disk is full.

    Example:
        >>> import tempfile
        >>> from segjax.data.visits import find_visits
        >>> subjects = find_visits("bids", images=["FLAIR"], mask="label-lesion_mask")
        >>> how = Method(registration="none")
        >>> with warnings.catch_warnings(action="ignore"):
        ...     for one in follow_all(subjects, tempfile.mkdtemp(), how):
        ...         print([one.subject, one.error])
        ['sub-01', '']
        ['sub-02', 'bids: sub-02: holds 1 visit, ses-01: two are compared']
    """
    method = method or Method()
    out = Path(out)
    _check_method(method)
    _check_apart(out, subjects)
    names = [_folder_name(subject.name) for subject in subjects]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two patients are called {repeated[0]}: rename one")
    make_folder(out)
    with locked(out) as ours:
        if not ours:
            raise InputError(
                f"{out}: another segjax followup writes there; wait, or choose another"
            )
        _remove_remains(out)
        known = _summaries(out)
        for name, subject in zip(names, track(subjects, "Following up"), strict=True):
            found = _attempt(subject, out / name, method, overwrite=overwrite)
            if found.summary:
                known[name] = found.summary
            _write_table(out / TABLE, known)
            yield found


def _attempt(subject: Subject, folder: Path, method: Method, *, overwrite: bool) -> Followed:
    """Follow a patient up, or say why not."""
    try:
        return follow(subject, folder, method, overwrite=overwrite)
    except InputError as error:
        if _FULL in str(error):  # the next one would not fit either
            raise InputError(f"{error}: free some, then run the same command again") from error
        return Followed(subject.name, folder, {}, str(error))
    except Exception as error:  # the other patients are worth having all the same
        return Followed(
            subject.name, folder, {}, f"{subject.name}: {type(error).__name__}: {error}"
        )


# -- before -------------------------------------------------------------------------------------


def _check_method(method: Method) -> None:
    """Refuse, before any work, what is not known."""
    from segjax.report.patient_texts import language_of

    language_of(method.language)
    check_method(method.brain)
    if method.registration not in ("rigid", "affine", "none"):
        raise InputError(f"registration {method.registration!r}: give rigid, affine or none")
    if method.check < 0:
        raise InputError(f"check {method.check}: give how often lesions are put in, 1 or more")


def _check_apart(out: Path, subjects: Sequence[Subject]) -> None:
    """Refuse a folder for reports that holds images."""
    place = out.resolve()
    for part in (part for one in subjects for visit in one.visits for part in visit.parts):
        files = part.files if isinstance(part, Series) else (part,)
        if files and place in files[0].resolve().parents:
            raise InputError(f"{out}: holds {files[0]}; choose another folder for the report")


def _folder_name(name: str) -> str:
    """Return a name that is one of a folder."""
    safe = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name)
    return safe.strip(". ") or "patient"


def _read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of a report.

    Raises:
        InputError: The folder holds none.
    """
    with suppress(InputError):
        summary = read_json_object(folder / _SUMMARY)
        known = summary.get("format") == _FORMAT and summary.get("version") == _VERSION
        if known and {"made_of", "files", "comparisons"} <= summary.keys():
            return summary
    raise InputError(
        f"{folder}: exists already and holds no report of segjax followup; choose another name"
    )


def _check_ours(folder: Path, summary: Mapping[str, Any]) -> None:
    """Refuse to replace a folder into which anything else was put."""
    known = {*summary["files"], _SUMMARY}
    if others := sorted(entry.name for entry in folder.iterdir() if entry.name not in known):
        raise InputError(
            f"{folder}: holds {others[0]}, which is not of the report; move it away, or choose "
            "another folder"
        )


def _remove_remains(out: Path) -> None:
    """Remove what a process that was killed left unfinished."""
    for entry in out.iterdir():
        if _REMAINS.fullmatch(entry.name):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _remove_unfinished(parent: Path) -> None:
    """Remove unfinished reports that nobody writes any more, and nothing else."""
    for entry in parent.glob(".*"):
        if _REMAINS.fullmatch(entry.name) and (entry / _TABLE).is_file():
            with suppress(OSError), locked(entry) as ours:
                if ours and not (entry / _SUMMARY).exists():
                    shutil.rmtree(entry, ignore_errors=True)


# -- what a report is made of -------------------------------------------------------------------


def _digest(subject: Subject, inputs: Sequence[Mapping[str, Any]], method: Method) -> str:
    """Return a digest of the files and settings that a report is made of."""
    first = next((visit.date for visit in subject.visits if visit.date), None)
    days = [(visit.date - first).days if first and visit.date else None for visit in subject.visits]
    key = [inputs, _networks(method), _settings(method), days]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _inputs(subject: Subject) -> list[dict[str, Any]]:
    """Return name and digest of each file of each visit; of a DICOM series that of its folder."""
    return [
        {
            "visit": visit.name,
            "files": [
                {
                    "name": part.folder.name if isinstance(part, Series) else part.name,
                    "sha256": sha256_files(part),
                }
                for part in visit.parts
            ],
        }
        for visit in subject.visits
    ]


def _warn_of_same(inputs: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for visit in inputs:
        first, name = visit["files"][0]["sha256"], visit["visit"]
        if first in seen:
            warnings.warn(f"{seen[first]} and {name}: are the same file twice", stacklevel=2)
        seen.setdefault(first, name)


def _networks(method: Method) -> list[dict[str, str]]:
    files = () if method.predictor is None else method.predictor.files
    return [{"name": file.name, "sha256": sha256_files(file)} for file in files]


def _settings(method: Method) -> dict[str, Any]:
    rules = () if method.predictor is None else method.predictor.postprocessing
    return {
        "registration": method.registration,
        "intensities": method.intensities,
        "brain": Path(method.brain).name,
        "labels": None if method.coding is None else method.coding.as_labels(),
        "postprocessing": [asdict(rule) for rule in rules],
        "check": method.check,
        "shapes": None if method.shapes is None else method.shapes.name,
        "dated": method.dated,
        "language": method.language,
        "pdf": method.pdf,
    }


def _provenance(begin: float) -> dict[str, Any]:
    """Return when and by what a report was made; no path, no name of a user or machine."""
    made = here_and_now(seconds=time.perf_counter() - begin)
    return {
        "date": made.date,
        "seconds": made.seconds,
        "machine": made.machine,
        "versions": dict(made.versions),
    }


# -- comparing ----------------------------------------------------------------------------------


def _checked(visits: Sequence[Visit], followup: FollowUp, method: Method) -> "SelfCheck":
    """See what these scans allow to find."""
    from segjax.data.synthesis import read_shapes
    from segjax.evaluate.selfcheck import self_check

    predictor = method.predictor
    shapes = None if method.shapes is None else read_shapes(method.shapes)
    return self_check(
        visits,
        segment=None if predictor is None else partial(segment_image, predictor),
        shapes=shapes,
        repeats=method.check,
        seed=_SEED,
        registration=followup.registration,
        labels=followup.labels,
        intensities=method.intensities,
    )


def _undated(visit: Placed) -> Placed:
    return replace(visit, date=None)


@contextmanager
def _heard(name: str) -> Iterator[list[str]]:
    """Yield the texts of the warnings of the block, which are shown with the patient's name."""
    said: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def hear(message: Warning | str, *place: Any, **more: Any) -> None:
            said.append(" ".join(str(message).split()))
            show(f"{name}: {message}" if name else message, *place, **more)

        warnings.showwarning = hear
        yield said


# -- writing ------------------------------------------------------------------------------------


def _write(
    followup: FollowUp, folder: Path, method: Method, summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a report, and return its summary with the names of its files."""
    from segjax.report.followup import write_followup_page

    temporary = folder
    try:
        with atomic_folder(folder) as temporary, locked(temporary):
            rows = change_table(followup)
            columns = list(rows[0]) if rows else ["baseline", "followup", "days", "lesion", "label"]
            write_csv([columns, *(row.values() for row in rows)], temporary / _TABLE)
            _write_volumes(followup, temporary)
            write_followup_page(
                followup,
                temporary,
                language=method.language,
                pdf=method.pdf,
                files=_named_files(summary),
            )
            files = sorted(entry.name for entry in temporary.iterdir())
            whole = {**summary, "files": [*files, _SUMMARY]}
            write_json(whole, temporary / _SUMMARY)
    except InputError as error:
        raise InputError(str(error).replace(str(temporary), str(folder))) from error
    return whole


def _named_files(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the files that a report is made of, by what they are."""
    told = {
        visit["visit"]: ", ".join(file["name"] for file in visit["files"])
        for visit in summary["inputs"]
    }
    networks = ", ".join(network["name"] for network in summary["networks"])
    return told | ({"model": networks} if networks else {})


def _write_volumes(followup: FollowUp, folder: Path) -> None:
    """Write what lies on the half-way grid, and the ways from there."""
    two = len(followup.visits) == 2
    count = range(1, len(followup.visits) + 1)
    roles = ("baseline", "followup") if two else tuple(f"visit{number}" for number in count)
    for number, (role, visit) in enumerate(zip(roles, followup.visits, strict=True)):
        for end, volume in (("", visit.image), ("_mask", visit.mask)):
            if volume is not None:
                write_volume(volume, folder / f"{role}{end}.nii.gz")
        matrix = followup.registration.matrices[number]
        write_transform(folder / f"{role}_from_halfway.tfm", matrix)
    for pair in followup.comparisons:
        end = "" if two else f"_{pair.first + 1}_{pair.second + 1}"
        if pair.difference is not None:
            write_volume(pair.difference.difference, folder / f"difference{end}.nii.gz")
        write_volume(pair.numbers, folder / f"changes{end}.nii.gz")


def _summaries(out: Path) -> dict[str, Mapping[str, Any]]:
    """Read the summaries of all reports in a folder."""
    found: dict[str, Mapping[str, Any]] = {}
    for folder in sorted(entry for entry in out.iterdir() if entry.is_dir()):
        with suppress(InputError):
            found[folder.name] = _read_summary(folder)
    return found


def _write_table(path: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row for each patient, pair of visits and label."""
    rows = [
        {
            "subject": name,
            "baseline": pair["baseline"],
            "followup": pair["followup"],
            **load,
            "images_reliable": pair["images"]["reliable"],
        }
        for name, summary in sorted(summaries.items())
        for pair in summary["comparisons"]
        for load in pair["loads"]
    ]
    if rows:
        write_csv([list(rows[0]), *(row.values() for row in rows)], path, overwrite=True)
