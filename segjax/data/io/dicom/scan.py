"""Look through folders for DICOM images, and for files that should be some but cannot be read."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segjax.data.io.dicom.alike import agree, same_series
from segjax.data.io.dicom.header import (
    FaultyFileError,
    Frame,
    Identity,
    UnfitFileError,
    read_frames,
)
from segjax.data.io.dicom.mark import NAMED_DICOM, has_mark, is_named_otherwise
from segjax.errors import InputError
from segjax.extras import needed_for

__all__ = ["Contents", "Problem", "Stray", "concerns", "is_part", "read_files"]

_DIGITS = re.compile(r"\d+")
_NUMBERED = re.compile(r"\.\d+")


@dataclass(frozen=True)
class Problem:
    """A file that should hold an image but cannot be read.

    Attributes:
        file: The file.
        message: What is wrong with it, in a line that names it.
        identity: What its header says of whose and which image it is, if it can be read.
    """

    file: Path
    message: str
    identity: Identity = ()


@dataclass(frozen=True)
class Stray:
    """A sound image that is no slice of a volume.

    Attributes:
        file: The file.
        identity: What its header says of whose and which image it is.
        shape: Its rows and columns.
        is_unfit: Whether it is in colour or of bits; else it has no place.
    """

    file: Path
    identity: Identity
    shape: tuple[int, int]
    is_unfit: bool = False

    @property
    def message(self) -> str:
        """What is wrong with it, in a line that names it."""
        what = (
            "is in colour or of bits"
            if self.is_unfit
            else "says nothing of its position, orientation or spacing"
        )
        return (
            f"{self.file}: is an image of this series and {what}; fetch it again, or move it away"
        )


@dataclass
class Contents:
    """What files hold.

    Attributes:
        frames: Slices with a place.
        strays: Sound images that are no slices.
        problems: Files that should hold images but cannot be read.
    """

    frames: list[Frame] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: "Contents") -> None:
        """Add what other files hold."""
        self.frames += other.frames
        self.strays += other.strays
        self.problems += other.problems


@dataclass
class _Look:
    """What a look at files has shown so far."""

    contents: Contents = field(default_factory=Contents)
    names: dict[Path, set[str]] = field(default_factory=dict)  # forms of DICOM names, by folder
    locked: list[Problem] = field(default_factory=list)  # cannot be opened
    strange: list[Problem] = field(default_factory=list)  # hold no DICOM
    bare: Counter[Path] = field(default_factory=Counter)  # DICOM files without suffix, by folder

    def suspects(self) -> list[Problem]:
        """Return the files that should be DICOM by their names, but cannot be read."""
        coded = Counter(p.file.parent for p in self.strange if _is_coded(p.file))
        odd = self.bare - coded  # the folders where these are fewer than the DICOM files
        return [p for p in self.locked if _may_be_dicom(p.file, self.names)] + [
            p
            for p in self.strange
            if _is_named_dicom(p.file, self.names) or (p.file.parent in odd and _is_coded(p.file))
        ]


def read_files(files: Iterable[Path], *, until_image: bool = False) -> Contents:
    """Read the headers of the DICOM files among some files.

    Files that cannot be opened or hold no DICOM count as problems where their names are those of
    DICOM files: ``.dcm`` and the like, or of the form of others' in their folder.

    Args:
        files: Any files.
        until_image: Stop at the first image with a place.

    Returns:
        What they hold.
    """
    look = _Look()
    for file in files:
        _read(file, look)
        if until_image and look.contents.frames:
            break
    look.contents.problems += look.suspects()
    return look.contents


def concerns(
    problem: Problem, frames: Sequence[Frame], others: set[Path], *, beside: bool = False
) -> bool:
    """Say whether a file that cannot be read may hold a part of a volume.

    It may where its header names the same series, or says nothing else, and it lies in a folder
    of its slices; or, where these lie in several folders, in or beside another folder next to
    them that holds no slices of any volume.

    Args:
        problem: The file.
        frames: The slices of the volume.
        others: All folders that hold slices.
        beside: Whether files named like the slices count next to a single folder of slices too.
    """
    theirs = frames[0].identity
    if not (same_series(problem.identity, theirs) or agree(problem.identity, theirs)):
        return False
    homes = {frame.file.parent for frame in frames}
    home = problem.file.parent
    if home in homes:
        return True
    spread = len(homes) > 1 or (beside and _is_named_alike(problem.file, frames))
    return spread and home not in others and _is_next_to(home, homes)


def is_part(stray: Stray, frames: Sequence[Frame]) -> bool:
    """Say whether an image that is no slice should be one of a volume's, by series and size.

    One without a place should wherever it lies, if both name the series; others among the slices.
    """
    first = frames[0]
    if stray.shape != first.pixels.shape or not agree(stray.identity, first.identity):
        return False
    named = same_series(stray.identity, first.identity)
    return (named and not stray.is_unfit) or stray.file.parent in {f.file.parent for f in frames}


def _is_next_to(folder: Path, homes: set[Path]) -> bool:
    """Say whether a folder lies in, beside or above one of some, or in one beside them."""
    above = {home.parent for home in homes}
    return folder in above or folder.parent in above | homes


def _is_named_alike(file: Path, frames: Sequence[Frame]) -> bool:
    """Say whether a file is named as DICOM, or with the suffix or the form of some slices."""
    endings = {_ending(frame.file) for frame in frames}
    return file.suffix.lower() in NAMED_DICOM or _ending(file) in endings


def _ending(file: Path) -> str:
    return "" if _is_bare(file) else file.suffix.lower()


def _is_bare(file: Path) -> bool:
    """Say whether a name has no suffix, or only numbers after its last point."""
    return not file.suffix or bool(_NUMBERED.fullmatch(file.suffix))


def _is_coded(file: Path) -> bool:
    """Say whether a name without suffix holds a digit, as those do that programs give."""
    hidden = file.name.startswith(".")
    return not file.suffix and not hidden and bool(_DIGITS.search(file.name))


def _read(file: Path, look: _Look) -> None:
    """Read one file and note what it is."""
    try:
        if not has_mark(file):
            if file.is_file() and not is_named_otherwise(file):
                look.strange.append(Problem(file, _strangeness(file)))
            return
    except OSError as error:
        look.locked.append(Problem(file, _reason(file, error)))
        return
    look.names.setdefault(file.parent, set()).add(_form(file))
    look.bare[file.parent] += not file.suffix
    with needed_for("reading DICOM"):
        import pydicom  # noqa: F401 - without it no file of these can be read
    try:
        frames = read_frames(file)
        look.contents.frames += [frame for frame in frames if frame.position is not None]
        look.contents.strays += _strays(frames)
    except UnfitFileError as error:
        look.contents.strays.append(Stray(file, error.identity, error.shape, is_unfit=True))
    except InputError as error:
        identity = error.identity if isinstance(error, FaultyFileError) else ()
        look.contents.problems.append(Problem(file, str(error), identity))


def _strays(frames: Sequence[Frame]) -> list[Stray]:
    """Return the file of some frames once, if one has no place."""
    lost = [frame for frame in frames if frame.position is None]
    return [Stray(frame.file, frame.identity, frame.pixels.shape) for frame in lost[:1]]


def _strangeness(file: Path) -> str:
    what = "holds no DICOM, though its name says so" if file.stat().st_size else "is empty"
    return f"{file}: {what}; fetch it again, or move it away"


def _reason(file: Path, error: OSError) -> str:
    if file.is_symlink() and not file.exists():
        return f"{file}: is a link that leads nowhere; fetch the file that it stands for"
    return f"{file}: cannot be opened: {error.strerror or error}"


def _form(file: Path) -> str:
    """Return a name with its numbers left out: those of one series have one form."""
    return _DIGITS.sub("#", file.name.removeprefix("."))


def _is_named_dicom(file: Path, names: dict[Path, set[str]]) -> bool:
    """Say whether a file is named as DICOM, or as the DICOM files of its folder."""
    if is_named_otherwise(file):
        return False
    numbered = "#" in _form(file) and _form(file) in names.get(file.parent, ())
    return numbered or (not file.name.startswith(".") and file.suffix.lower() in NAMED_DICOM)


def _may_be_dicom(file: Path, names: dict[Path, set[str]]) -> bool:
    """Say whether a file that cannot be opened may be DICOM: the suffix says no other format."""
    if file.name.startswith((".#", "._")) or is_named_otherwise(file):
        return False
    if file.name.startswith("."):
        return file.suffix.lower() in NAMED_DICOM or _is_named_dicom(file, names)
    suffixes = {Path(name).suffix for name in names.get(file.parent, ())}
    return (
        _is_bare(file)
        or _form(file)[-1] == "#"
        or file.suffix in suffixes
        or _is_named_dicom(file, names)
    )
