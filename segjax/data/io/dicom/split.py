"""Group DICOM slices into volumes by what their headers say."""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations, pairwise, starmap
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.io.dicom.alike import agree, essence, is_parallel, is_roughly_parallel, same_time
from segjax.data.io.dicom.geometry import SAME_PLACE, heights, holes, sort
from segjax.data.io.dicom.header import IDENTITY, KIND, TIMING, Frame

__all__ = ["differences", "distinctions", "split", "torn"]

_FEW_HOLES = 0.1  # of the slices; parts that leave more holes do not belong together
_LEAST_STACK = 3  # slices whose steps can be even or not
_MOST_PAIRED = 20  # parts that are tried in pairs

_WHO = IDENTITY.index("StudyDate")  # series, study and patient come before
_UNSAID = (  # no values in messages
    "StudyInstanceUID", "StudyDate", "AccessionNumber", "Patient", "SeriesDescription",
    "ProtocolName",
)  # fmt: skip

Slices = list[Frame]
Key = tuple[Hashable, ...]


def split(frames: Sequence[Frame]) -> list[tuple[Frame, ...]]:
    """Split images into volumes, each in order.

    Images of one volume have one identity (patient, study, series, frame of reference, …), size,
    orientation and pixel spacing, and one kind and timing (description, temporal position, times
    of echo, inversion and repetition, …). What a header does not say agrees with everything, and
    times that differ by less than 1 % are one. Images of several kinds or timings are yet one
    volume where they interleave: together one even stack, with no two at one place, in which no
    two of them are blocks of their own. Where images share a place, they are told apart by type,
    acquisition, trigger time and the like, else by the folders that they lie in, if that gives
    volumes. Each mosaic is a volume.
    """
    order = {id(frame): number for number, frame in enumerate(frames)}
    mosaics = [[frame] for frame in frames if frame.is_mosaic]
    slices = [frame for frame in frames if not frame.is_mosaic]
    alike = _divide(_group(slices, lambda frame: essence(frame.identity)), _by_geometry)
    told = _divide(_completed(_divide(alike, _sequences)), _told_apart)
    told = sorted((*mosaics, *told), key=lambda part: min(order[id(frame)] for frame in part))
    return [sort(part) for part in told]


def differences(frames: Sequence[Frame]) -> list[str]:
    """Return under which DICOM names the slices of one volume say different things."""
    differ = [
        name
        for i, name in enumerate(KIND)
        if len({frame.kind[i] for frame in frames if frame.kind[i]}) > 1
    ]
    for i, name in enumerate(TIMING):
        known = _clusters({frame.timing[i] for frame in frames if frame.timing[i]})
        differ += [name] if len(set(known.values())) > 1 else []
    return differ


def torn(volumes: Sequence[Sequence[Frame]]) -> list[tuple[int, ...]]:
    """Return the numbers of volumes of one series that would make one even stack together."""
    by_uid: dict[Hashable, list[int]] = {}
    for number, frames in enumerate(volumes):
        if frames[0].identity[0] and not frames[0].is_mosaic:
            by_uid.setdefault(frames[0].identity[0], []).append(number)
    found: list[tuple[int, ...]] = []
    for numbers in by_uid.values():
        few = 2 < len(numbers) <= _MOST_PAIRED
        tried = [tuple(numbers), *(combinations(numbers, 2) if few else ())]
        whole = [some for some in tried if _would_stack([volumes[number] for number in some])]
        found += whole[:1] if tuple(numbers) in whole else whole
    return found


def distinctions(volumes: Sequence[Sequence[Frame]]) -> list[str]:
    """Return the DICOM names under which volumes say different things, and what they say."""
    said = [[_said(frame) for frame in frames] for frames in volumes]
    told = []
    for name in said[0][0]:
        values = [{one[name] for one in part} for part in said]
        if not set.intersection(*(_numbered(values) if name in TIMING else values)):
            told.append(name + ("" if name.startswith(_UNSAID) else _listed(values)))
    return told


def _numbered(parts: Sequence[set[tuple[float, ...]]]) -> list[set[int]]:
    """Return the times that parts state by number; those that differ by less than 1 % are one."""
    known = _clusters(set.union(*parts))
    return [{known[time] for time in part} for part in parts]


def _said(frame: Frame) -> dict[str, Any]:
    """Return by DICOM's names what tells volumes apart."""
    return {
        **dict(zip(IDENTITY, essence(frame.identity), strict=True)),
        **dict(zip(KIND, frame.kind, strict=True)),
        **dict(zip(TIMING, frame.timing, strict=True)),
        "PixelSpacing": frame.spacing,
        "ImageOrientationPatient": frame.orientation,
    }


def _listed(values: Sequence[set[tuple[Any, ...]]]) -> str:
    """Return the first values of some parts, in brackets."""
    firsts = dict.fromkeys(sorted(said)[0] for said in values)
    texts = ("\\".join(f"{x:g}" if isinstance(x, float) else x for x in v) for v in firsts)
    return f" ({', '.join(text or 'not stated' for text in texts)})"


def _would_stack(parts: Sequence[Sequence[Frame]]) -> bool:
    """Say whether volumes of one patient would make one even stack."""
    first = parts[0][0]
    near = all(is_roughly_parallel(first, part[0]) for part in parts)
    near = near and all(agree(first.identity[:_WHO], part[0].identity[:_WHO]) for part in parts)
    return len(parts) > 1 and near and _is_stack([frame for part in parts for frame in part])


def _group(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> list[Slices]:
    groups: dict[Hashable, Slices] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return list(groups.values())


def _divide(parts: Iterable[Slices], how: Callable[[Slices], list[Slices]]) -> list[Slices]:
    return [smaller for part in parts for smaller in how(part)]


def _by_geometry(frames: Slices) -> list[Slices]:
    groups: list[Slices] = []
    for frame in frames:
        home = next((group for group in groups if is_parallel(group[0], frame)), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    return groups


# -- kinds and timings --------------------------------------------------------------------------


def _sequences(frames: Slices) -> list[Slices]:
    """Tell apart images of one identity and geometry by kind and timing."""
    times = [_clusters({frame.timing[i] for frame in frames}) for i in range(len(frames[0].timing))]
    parts: dict[Key, Slices] = {}
    for frame in frames:
        timing = (known[time] for known, time in zip(times, frame.timing, strict=True))
        parts.setdefault((*frame.kind, *timing), []).append(frame)
    for ignored in range(len(next(iter(parts)))):
        parts = _joined(parts, ignored)
    return list(_joined(parts, None).values())


def _clusters(values: set[tuple[float, ...]]) -> dict[tuple[float, ...], int]:
    """Number the distinct times; neighbours that differ by less than 1 % are one."""
    ordered = sorted(values)
    apart = [False for _ in ordered[:1]] + [not same_time(a, b) for a, b in pairwise(ordered)]
    return dict(zip(ordered, np.cumsum(apart).tolist(), strict=True))


def _joined(parts: dict[Key, Slices], ignored: int | None) -> dict[Key, Slices]:
    """Join the parts that interleave of those that differ in one value only, or in any."""
    bundles: dict[Key, dict[Key, Slices]] = {}
    for key, frames in parts.items():
        rest = () if ignored is None else key[:ignored] + key[ignored + 1 :]
        bundles.setdefault(rest, {})[key] = frames
    return {key: frames for bundle in bundles.values() for key, frames in _mixed(bundle).items()}


def _mixed(bundle: dict[Key, Slices]) -> dict[Key, Slices]:
    """Join all parts of a bundle if they interleave, else pairs that do."""
    if len(bundle) > 1 and _interleave(list(bundle.values())):
        return {next(iter(bundle)): [frame for frames in bundle.values() for frame in frames]}
    bundle = dict(bundle)
    for one, other in combinations(bundle, 2) if 2 < len(bundle) <= _MOST_PAIRED else ():
        if one in bundle and other in bundle and _interleave([bundle[one], bundle[other]]):
            bundle[one] = bundle[one] + bundle.pop(other)
    return bundle


def _interleave(parts: Sequence[Slices]) -> bool:
    """Say whether parts make one even stack together, and are no blocks of their own in it."""
    frames = [frame for part in parts for frame in part]
    if not _is_stack(frames):
        return False
    labels = np.repeat(range(len(parts)), [len(part) for part in parts])
    labels = labels[heights(frames).argsort(kind="stable")]
    starts = Counter(labels[np.flatnonzero(np.diff(labels, prepend=-1))].tolist())
    blocks = [len(part) for k, part in enumerate(parts) if starts[k] == 1 and len(part) > 1]
    return len(blocks) < 2 or 2 * sum(blocks) <= len(frames)


def _is_stack(frames: Slices) -> bool:
    """Say whether slices are one even stack, of which few are missing."""
    if len(frames) < _LEAST_STACK:
        return False
    missing = holes(frames)
    return missing is not None and missing <= max(1, _FEW_HOLES * len(frames))


# -- headers that lack something ----------------------------------------------------------------


def _completed(volumes: list[Slices]) -> list[Slices]:
    """Join what some headers do not say to the one volume that it agrees with and continues."""
    homes: dict[Hashable, list[Slices]] = {}  # by series and by folder
    joined: list[Slices] = []
    for volume in sorted(volumes, key=lambda volume: _lacks(volume[0])):
        marks = _marks(volume)
        near = {id(home): home for mark in marks for home in homes.get(mark, ())}
        fitting = [home for home in near.values() if _complete(home, volume)]
        if len(fitting) == 1:
            fitting[0].extend(volume)
            continue
        joined.append(home := list(volume))
        for mark in marks:
            homes.setdefault(mark, []).append(home)
    return joined


def _lacks(frame: Frame) -> int:
    return sum(not said for said in (*frame.identity, *frame.kind, *frame.timing))


def _marks(volume: Slices) -> set[Hashable]:
    uid = volume[0].identity[0]
    return {*({uid} if uid else ()), *(frame.file.parent for frame in volume)}


def _complete(home: Slices, volume: Slices) -> bool:
    one, other = home[0], volume[0]
    alike = agree(one.identity, other.identity) and is_parallel(one, other)
    alike = alike and all(a == b for a, b in _said_by_both(one.kind, other.kind))
    timed = all(starmap(same_time, _said_by_both(one.timing, other.timing)))
    return alike and timed and _is_stack([*home, *volume])


def _said_by_both(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(a, b) for a, b in zip(one, other, strict=True) if a and b]


# -- slices at one place ------------------------------------------------------------------------


def _told_apart(frames: Slices) -> list[Slices]:
    """Tell apart slices at one place by hints, else by folders; leave them if none does."""
    return _divide(_by_hints(frames, 0), _by_folders)


def _hints(frame: Frame) -> Key:
    """Return what may tell slices at one place apart, the likeliest first."""
    return (*frame.hints, *frame.kind, *frame.timing)


def _by_hints(frames: Slices, first: int) -> list[Slices]:
    """Tell apart slices at one place by the first hints that do; leave them if none does."""
    repeats = _most_at_a_place(frames)
    if repeats == 1 or first == len(_hints(frames[0])):
        return [frames]
    parts = _group(frames, lambda frame: _hints(frame)[first])
    if 1 < len(parts) <= repeats and 2 * min(map(len, parts)) >= max(map(len, parts)):
        told = [p for part in parts for p in _by_hints(part, first + 1)]
        if all(_most_at_a_place(part) == 1 for part in told):
            return told
    return _by_hints(frames, first + 1)


def _by_folders(frames: Slices) -> list[Slices]:
    """Tell apart what cannot be one volume by the folders that the files lie in.

    That is: slices at one place; and uneven ones whose headers do not name their series.
    """
    repeats = _most_at_a_place(frames)
    uneven = not frames[0].identity[0] and len(frames) > 1 and holes(frames) is None
    if repeats == 1 and not uneven:
        return [frames]
    inner = _inner_folders(frames)
    for depth in range(1, max(map(len, inner.values())) + 1):
        parts = _group(frames, lambda frame: inner[frame.file][:depth])  # noqa: B023
        if _are_volumes(parts, frames, repeats):
            return parts
    return [frames]


def _inner_folders(frames: Slices) -> dict[Path, tuple[str, ...]]:
    """Return the folders that lead from the one that holds all files to each."""
    homes = {frame.file: Path(os.path.abspath(frame.file.parent)) for frame in frames}
    base = Path(os.path.commonpath(homes.values()))
    return {file: home.relative_to(base).parts for file, home in homes.items()}


def _are_volumes(parts: list[Slices], frames: Slices, repeats: int) -> bool:
    """Say whether the parts of what cannot be one volume can be volumes, and no halves of one."""
    least = min(map(len, parts))
    if len(parts) < 2 or not all(_can_be_volume(part) for part in parts):
        return False
    if repeats == 1:
        return least >= _LEAST_STACK
    alike = least >= _LEAST_STACK or least == max(map(len, parts))
    shared = sum(count > 1 for count in _places(frames).values())
    return alike and len(parts) <= repeats and 2 * shared >= least


def _can_be_volume(frames: Slices) -> bool:
    return _most_at_a_place(frames) == 1 and (len(frames) < _LEAST_STACK or _is_stack(frames))


def _places(frames: Sequence[Frame]) -> Counter[int]:
    """Count the slices at each place."""
    along = np.sort(heights(frames))
    return Counter(np.concatenate([[0], np.cumsum(np.diff(along) > SAME_PLACE)]).tolist())


def _most_at_a_place(frames: Sequence[Frame]) -> int:
    return max(_places(frames).values())
