"""The studies in a folder into which files arrive, and what tells whether they still do."""

import hashlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from segjax.data.io.dicom.header import read_study
from segjax.data.io.dicom.series import is_dicom
from segjax.data.io.formats import normal_name, stem, suffix
from segjax.data.listing import channel_of, is_note
from segjax.errors import InputError
from segjax.extras import needed_for

__all__ = ["Inbox", "Study"]

_PASSING = (".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".temp", "~")
_PIXELS = (".raw", ".zraw", ".img")  # of headers beside them
_UID = re.compile(r"\d[\d.]{0,63}")
_NO_DICOM, _NO_IMAGE = "", "-"  # instead of the UID of a study

Stamp = tuple[int, int]
"""Bytes of a file, and its time of change in ns; -1 and 0 of one that cannot be looked at."""
Files = dict[str, Stamp]
"""Files by their paths within a folder."""


@dataclass(frozen=True)
class Study:
    """Files that are segmented together.

    Attributes:
        key: What tells it from others in the inbox, however many files it gets.
        name: What to call it.
        root: Folder that it lies in.
        files: The files as they are now.
    """

    key: str
    name: str
    root: Path
    files: Files = field(repr=False)

    @cached_property
    def state(self) -> str:
        """Digest of the names, sizes and times of the files: 16 hexadecimal digits."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()[:16]

    @property
    def newest(self) -> int:
        """Time of the last change, in ns."""
        return max(changed for _, changed in self.files.values())

    def link(self, folder: Path) -> Path:
        """Lay links to the files into a folder; copies where links are impossible.

        Files that are hidden, or still written by their names, are left out.

        Args:
            folder: Folder that holds none of the study's name.

        Returns:
            The folder of that name in it.

        Raises:
            OSError: They cannot be laid there.
        """
        home = folder / self.name
        home.mkdir(parents=True)
        for place in self.files:
            if not _is_passing(place):
                _lay(self.root / place, home / place)
        return home


@dataclass
class Inbox:
    """A folder into which studies arrive: from a DICOM node, a script, a person.

    Each folder in it is a study. DICOM images count to a study by their StudyInstanceUID, so that
    a folder may hold several. Of the files that lie in the inbox directly, DICOM images make
    studies in the same way, and any other file is a study. Files that are hidden, or still written
    by their names (``.part``, ``.tmp``, …), notes (``.json``, ``.txt``, …) and DICOM objects that
    are no image of a volume make none.

    Args:
        folder: The folder; it is only read.
        channels: Images of a case; where there are several, ``a_0000.nii.gz`` and
            ``a_0001.nii.gz`` are one study.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("anna.nii.gz", "notes.txt", "bert.nii.gz.part"):
        ...     (folder / name).touch()
        >>> [study.name for study in Inbox(folder).look()]
        ['anna']
    """

    folder: Path
    channels: int = 1
    _uids: dict[str, tuple[Stamp, str]] = field(default_factory=dict, init=False, repr=False)
    _before: dict[str, tuple[Stamp, str]] = field(default_factory=dict, init=False, repr=False)

    def look(self) -> list[Study]:
        """Return the studies that are there now.

        The header of a DICOM file is read once, as long as it does not change; after that, files
        are only listed.

        Raises:
            InputError: The folder cannot be listed.
        """
        try:
            names = sorted(os.listdir(self.folder))
            loose = self._loose()
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be listed: {error.strerror}") from error
        self._before, self._uids = self._uids, {}  # of files that are gone, nothing is kept
        return [*(study for name in names for study in self._inside(name)), *loose]

    def again(self, study: Study) -> Study | None:
        """Return a study as it is now; None where it is gone."""
        with suppress(OSError):
            loose = study.root == self.folder
            found = self._loose() if loose else self._inside(study.root.name)
            return next((one for one in found if one.key == study.key), None)
        return None

    def _inside(self, child: str) -> list[Study]:
        """Return the studies of a folder; none where it is no folder, or cannot be listed."""
        root, name = self.folder / child, normal_name(child)
        files: Files = {}
        with suppress(OSError):
            files = {} if _is_passing(child) else dict(_listed(str(root), "", set()))
        shown = {place: stamp for place, stamp in files.items() if not _is_passing(place)}
        studies, rest = self._by_uid(root, shown)
        if not studies:
            noted = all(is_note(Path(place)) for place in rest)
            return [] if noted else [Study(name, name, root, files)]
        beside = rest | {place: stamp for place, stamp in files.items() if place not in shown}
        names = {uid: f"{name}_{uid}" if len(studies) > 1 else name for uid in studies}
        return [
            Study(f"{name}/{uid}", names[uid], root, own | beside) for uid, own in studies.items()
        ]

    def _loose(self) -> list[Study]:
        """Return the studies of the files that lie in the inbox itself."""
        with os.scandir(self.folder) as entries:
            files = {
                e.name: _stamp(e) for e in entries if not _is_passing(e.name) and not e.is_dir()
            }
        studies, rest = self._by_uid(self.folder, dict(sorted(files.items())))
        groups: dict[str, Files] = defaultdict(dict)
        for name, stamp in rest.items():
            if _is_pixels(name) or not is_note(Path(name)):
                groups[self._called(name)][name] = stamp
        headed = {name: own for name, own in groups.items() if not all(map(_is_pixels, own))}
        return [
            *(Study(uid, uid, self.folder, own) for uid, own in studies.items()),
            *(Study(f"{name}.*", name, self.folder, own) for name, own in headed.items()),
        ]

    def _called(self, file: str) -> str:
        """Return what loose files that belong together share."""
        numbered = channel_of(stem(file)) if self.channels > 1 else None
        return numbered[0] if numbered else stem(file)

    def _by_uid(self, root: Path, files: Files) -> tuple[dict[str, Files], Files]:
        """Return the DICOM images among some files by study, and the files that are no DICOM."""
        groups: dict[str, Files] = defaultdict(dict)
        for place, stamp in files.items():
            groups[self._uid(os.path.join(root, place), stamp)][place] = stamp
        groups.pop(_NO_IMAGE, None)
        rest = groups.pop(_NO_DICOM, {})
        return dict(sorted(groups.items())), rest

    def _uid(self, file: str, stamp: Stamp) -> str:
        known = self._uids.get(file) or self._before.get(file)
        if known is None or known[0] != stamp:
            known = stamp, _study_of(Path(file))
        self._uids[file] = known
        return known[1]


def _study_of(file: Path) -> str:
    """Return the UID of the study that a DICOM image is of; other words for other files."""
    if not is_dicom(file) or file.name.lower() == "dicomdir":
        return _NO_DICOM
    with needed_for("reading DICOM"):
        import pydicom  # noqa: F401 - without it all of these would seem broken
    try:
        uid = read_study(file)
    except InputError:
        return _NO_DICOM
    if uid is None:
        return _NO_IMAGE
    return uid if _UID.fullmatch(uid) else f"unknown-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def _listed(root: str, place: str, seen: set[str]) -> Iterator[tuple[str, Stamp]]:
    """Yield the files of a folder and the folders in it, through links, each real folder once."""
    folder = os.path.join(root, place)
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in listed:
        inner = os.path.join(place, entry.name)
        if entry.is_dir():
            yield from _listed(root, inner, seen)
        else:
            yield inner, _stamp(entry)


def _stamp(entry: "os.DirEntry[str]") -> Stamp:
    try:
        status = entry.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _is_passing(place: str) -> bool:
    """Say whether a file, or a folder that it lies in, is hidden or still written by its name."""
    return any(
        p.startswith((".", "~")) or p.lower().endswith(_PASSING) for p in place.split(os.sep)
    )


def _is_pixels(name: str) -> bool:
    return suffix(name).lower() in _PIXELS


def _lay(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(file.absolute())
    except OSError:  # of file systems and users that may make no links
        shutil.copy2(file, target)
