"""Look for the rest of a series in the folders beside the one that a file of it lies in."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from segjax.data.io.dicom.alike import agree, is_parallel, same_time
from segjax.data.io.dicom.geometry import SAME_PLACE, heights, holes, sort
from segjax.data.io.dicom.header import Frame
from segjax.data.io.dicom.scan import Contents, read_files
from segjax.errors import InputError

__all__ = ["gather"]

_STEEPEST = 1 / np.cos(np.radians(35))  # way over height; gantries tilt by up to 30°
_MOST_UNCLES = 1000  # folders beside the one above that are looked into
_SAME_STEP = 0.1  # of a way; what rounded positions come to is far less


def gather(path: Path, own: Sequence[Frame]) -> Contents:
    """Read the files that may belong to the series of a file, wherever they lie.

    Those of its folder; and those of the folders beside, above and in it, and of its name beside
    the one above, whose first image is of the series and whose images lie where others of the
    series may lie.

    Args:
        path: The file.
        own: Its frames, which have positions.

    Raises:
        InputError: Its folder cannot be listed.
    """
    try:
        contents = read_files(sorted(path.parent.iterdir()))
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be listed: {error.strerror}") from error
    mine = _beside(own[0], contents.frames)
    for folder in _near(path.parent):
        first = read_files(_files(folder), until_image=True)
        if any(_may_continue(mine, frame) for frame in first.frames[:1]):
            there = read_files(_files(folder))
            if _continues(mine, _beside(own[0], there.frames)):
                contents.add(there)
            continue
        contents.strays += first.strays
        if not first.frames:
            contents.problems += first.problems
    return contents


def _may_continue(frames: Sequence[Frame], other: Frame) -> bool:
    """Say whether an image of another folder can be of the series of some images.

    Where a header lacks the series instance UID, all that else tells volumes apart must agree,
    and the image must not lie where one of them lies.
    """
    first = frames[0]
    if not agree(first.identity, other.identity):
        return False
    if first.identity[0] and other.identity[0]:
        return True
    alike = first.kind == other.kind and is_parallel(first, other)
    timed = all(same_time(a, b) for a, b in zip(first.timing, other.timing, strict=True))
    return alike and timed and len(_one_per_place([*frames, other])) > len(_one_per_place(frames))


def _continues(frames: Sequence[Frame], others: Sequence[Frame]) -> bool:
    """Say whether images of another folder lie where the rest of a series may lie.

    They do not where they are parallel images of the same places (copies, or another volume), or
    of other steps, or beside the line of the stack.

    Args:
        frames: Images of the series, parallel to each other.
        others: Images of the other folder.
    """
    own = _one_per_place(frames)
    parallel = [frame for frame in others if is_parallel(frames[0], frame)]
    rest = _one_per_place(parallel) if parallel else ()
    both = _one_per_place([*own, *rest])
    if 2 * (len(own) + len(rest) - len(both)) >= min(len(own), len(rest)):
        return False
    return _is_upright(both) and (holes(both) is not None or _follow(own, rest))


def _is_upright(frames: Sequence[Frame]) -> bool:
    """Say whether slices in order lie above each other, as far as a gantry tilts."""
    way = np.array(frames[-1].position) - np.array(frames[0].position)
    along = heights([frames[0], frames[-1]]) @ [-1, 1]
    return bool(np.linalg.norm(way) <= _STEEPEST * along)


def _one_per_place(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the slices in order, one of those at one place."""
    ordered = sort(frames)
    new = np.diff(heights(ordered), prepend=-np.inf) > SAME_PLACE
    return tuple(frame for frame, is_new in zip(ordered, new, strict=True) if is_new)


def _follow(frames: Sequence[Frame], others: Sequence[Frame]) -> bool:
    """Say whether stacks of one step lie on one line, one after the other."""
    first, second = sorted((frames, others), key=lambda stack: heights([frames[0], *stack])[1])
    line = np.array([f.position for f in (first[0], first[-1], second[0], second[-1])])
    ends = line @ np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    if ends[1] >= ends[2] or min(len(first), len(second)) < 2:
        return False
    steps = (line[1] - line[0]) / (len(first) - 1), (line[3] - line[2]) / (len(second) - 1)
    way, gap = line[2] - line[1], (ends[2] - ends[1]) / (ends[3] - ends[2])
    one_step = np.linalg.norm(steps[0] - steps[1]) <= _SAME_STEP * np.linalg.norm(steps[0])
    on_line = np.linalg.norm(way - gap * (line[3] - line[2])) <= _SAME_STEP * np.linalg.norm(way)
    return bool(one_step and on_line)


def _beside(frame: Frame, others: Sequence[Frame]) -> list[Frame]:
    """Return the slices that are parallel to one and of the same series."""
    placed = [other for other in others if other.position is not None]
    alike = [other for other in placed if agree(frame.identity, other.identity)]
    return [other for other in alike if is_parallel(frame, other)]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder itself, by name; none where it cannot be listed."""
    with suppress(OSError):
        yield from (entry for entry in sorted(folder.iterdir()) if not entry.is_dir())


def _near(folder: Path) -> Iterator[Path]:
    """Yield the folders beside a folder, the one above it, those in it, and cousins; each once.

    Cousins are folders of its name in the folders beside the one above.
    """
    here = Path(os.path.abspath(folder))
    seen = {os.path.realpath(here)}
    uncles = _folders(here.parent.parent)[:_MOST_UNCLES]
    cousins = (uncle / here.name for uncle in uncles if (uncle / here.name).is_dir())
    for near in (*_folders(here.parent), here.parent, *_folders(folder), *cousins):
        real = os.path.realpath(near)
        if real not in seen:
            seen.add(real)
            yield near


def _folders(folder: Path) -> list[Path]:
    """List the folders in a folder that are not hidden; none where it cannot be listed."""
    with suppress(OSError):
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return []
