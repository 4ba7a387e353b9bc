"""Look through folders for DICOM images, and for files that should be some but cannot be read."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segjax.data._dicom_alike import agree
from segjax.data._dicom_header import FaultyFileError, Frame, Identity, read_frames
from segjax.data._dicom_mark import NAMED_DICOM, has_mark, is_named_otherwise
from segjax.data._dicom_stored import UnfitImageError
from segjax.errors import InputError

__all__ = ["Contents", "Problem", "concerns", "read_files"]

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


@dataclass
class Contents:
    """What files hold.

    Attributes:
        frames: Slices.
        unfit: Files of sound images that are no slices.
        problems: Files that should hold images but cannot be read.
    """

    frames: list[Frame] = field(default_factory=list)
    unfit: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: "Contents") -> None:
        """Add what other files hold."""
        self.frames += other.frames
        self.unfit += other.unfit
        self.problems += other.problems


@dataclass
class _Look:
    """What a look at files has shown so far."""

    contents: Contents = field(default_factory=Contents)
    names: dict[Path, set[str]] = field(default_factory=dict)  # forms of DICOM names, by folder
    locked: list[Problem] = field(default_factory=list)  # cannot be opened
    strange: list[Problem] = field(default_factory=list)  # hold no DICOM


def read_files(files: Iterable[Path], *, until_image: bool = False) -> Contents:
    """Read the headers of the DICOM files among some files.

    Files that cannot be opened or hold no DICOM count as problems where their names are those of
    DICOM files: ``.dcm`` and the like, or of the form of others' in their folder.

    Args:
        files: Any files.
        until_image: Stop at the first image.

    Returns:
        What they hold.
    """
    look = _Look()
    for file in files:
        _read(file, look)
        if until_image and (look.contents.frames or look.contents.unfit):
            break
    look.contents.problems += [p for p in look.locked if _may_be_dicom(p.file, look.names)]
    look.contents.problems += [p for p in look.strange if _is_named_dicom(p.file, look.names)]
    return look.contents


def concerns(problem: Problem, frames: Sequence[Frame], others: set[Path]) -> bool:
    """Say whether a file that cannot be read may hold a part of a volume.

    It may where its header names the same series, or says nothing else, and it lies in a folder
    of its slices; or, where these lie in several folders, in or beside another folder next to
    them that holds no slices of any volume.

    Args:
        problem: The file.
        frames: The slices of the volume.
        others: All folders that hold slices.
    """
    theirs = frames[0].identity
    named = bool(theirs[0]) and problem.identity[:1] == theirs[:1]
    if not named and not agree(problem.identity, theirs):
        return False
    homes = {frame.file.parent for frame in frames}
    home = problem.file.parent
    if home in homes:
        return True
    above = {folder.parent for folder in homes}
    return len(homes) > 1 and home not in others and (home in above or home.parent in above)


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
    try:
        look.contents.frames += read_frames(file)
    except UnfitImageError:
        look.contents.unfit.append(file)
    except InputError as error:
        identity = error.identity if isinstance(error, FaultyFileError) else ()
        look.contents.problems.append(Problem(file, str(error), identity))


def _strangeness(file: Path) -> str:
    what = "holds no DICOM, though its name says so" if file.stat().st_size else "is empty"
    return f"{file}: {what}; fetch it again, or move it away"


def _reason(file: Path, error: OSError) -> str:
    if file.is_symlink() and not file.exists():
        return f"{file}: is a link that leads nowhere; fetch the file that it stands for"
    return f"{file}: cannot be opened: {error.strerror or error}"


def _form(file: Path) -> str:
    """Return a name with its numbers left out: those of one series have one form."""
    return _DIGITS.sub("#", file.name)


def _is_named_dicom(file: Path, names: dict[Path, set[str]]) -> bool:
    """Say whether a file is named as DICOM, or as the DICOM files of its folder."""
    if file.name.startswith(".") or is_named_otherwise(file):
        return False
    numbered = "#" in _form(file) and _form(file) in names.get(file.parent, ())
    return numbered or file.suffix.lower() in NAMED_DICOM


def _may_be_dicom(file: Path, names: dict[Path, set[str]]) -> bool:
    """Say whether a file that cannot be opened may be DICOM: the suffix says no other format."""
    if file.name.startswith(".") or is_named_otherwise(file):
        return False
    suffixes = {Path(name).suffix for name in names.get(file.parent, ())}
    bare = not file.suffix or _NUMBERED.fullmatch(file.suffix) or _form(file)[-1] == "#"
    return bool(bare) or file.suffix in suffixes or _is_named_dicom(file, names)
