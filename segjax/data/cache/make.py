"""Make one cached case."""

import errno
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from segjax.data import sources
from segjax.data.cache import layout
from segjax.data.cases import Case
from segjax.data.io.dicom.series import Series
from segjax.data.io.formats import COLOURS, may_name_segments, read_image
from segjax.data.labels import LabelCoding, classes_of, foreground
from segjax.data.prepare.lost import lost_lesions
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.seen import intensity_spans
from segjax.errors import InputError
from segjax.files import atomic_folder, write_json
from segjax.grid import Grid, grid
from segjax.volume import Volume

_EXPENSIVE = {"n4", "brain-extraction"}  # seconds to minutes for a volume
_BINS = 100
_SAMPLE = 1_000_000  # voxels that a histogram is made of, about
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Job:
    """One case to make; sent to a worker process.

    Attributes:
        case: Its files.
        pipeline: Preprocessing that has nothing left to learn.
        kept: Number of first steps whose result is kept in ``early/``; 0 keeps nothing.
        out: Folder of the cache.
        classes: Number of label values, background included; any number when None.
        colours: Whether grey pictures get three channels, as the others of the set have.
    """

    case: Case
    pipeline: Pipeline
    kept: int
    out: Path
    classes: int | None = None
    colours: bool = False

    @property
    def folder(self) -> Path:
        """Where the case goes."""
        return self.out / layout.CASES / self.case.name

    @property
    def early(self) -> Pipeline:
        """The steps whose result is kept."""
        return Pipeline(self.pipeline.steps[: self.kept])

    @property
    def late(self) -> Pipeline:
        """The other steps."""
        return Pipeline(self.pipeline.steps[self.kept :])


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: Its name.
        state: "made", "unchanged" (it was there, and right) or "failed".
        seconds: Time that it took, now or when it was made.
        megabytes: Size of its files.
        peak_megabytes: Highest resident memory, until then, of the process that made it; 0 where
            the system does not tell.
        error: Why it failed; empty otherwise.
        stops: Whether all others would fail for the same reason: the disk is full.
        warnings: What was warned of.
    """

    case: str
    state: str
    seconds: float = 0.0
    megabytes: float = 0.0
    peak_megabytes: float = 0.0
    error: str = ""
    stops: bool = False
    warnings: tuple[str, ...] = ()


def kept_steps(pipeline: Pipeline) -> int:
    """Count the steps up to the last expensive one before anything is learned from a set."""
    count = 0
    for number, step in enumerate(pipeline.steps, start=1):
        if not Pipeline((step,)).fitted:
            break
        if step.name in _EXPENSIVE and getattr(step, "method", "") != "zero-background":
            count = number
    return count


def find(job: Job) -> Outcome | None:
    """Return the outcome of a case that is there and right, by size and time of its files."""
    before = layout.record(job.folder)
    files = job.case.parts
    if (
        before
        and sources.same_files(files, before)
        and sources.unchanged(files, before)
        and _key(job, before["sources"]) == before["key"]
        and before.get("coding", job.case.coding.to_json()) == job.case.coding.to_json()
    ):
        return _outcome(job, "unchanged")
    return None


def coding_before(job: Job) -> LabelCoding | None:
    """Return what label values stood for, where a case is outdated by nothing else."""
    before = layout.record(job.folder)
    if not before.get("coding"):
        return None
    then = LabelCoding.from_json(before["coding"])
    case, classes = replace(job.case, coding=then), len(then.names) or None
    unaltered = _key(replace(job, case=case, classes=classes), before["sources"]) == before["key"]
    return then if unaltered and _key(job, before["sources"]) != before["key"] else None


def make(job: Job) -> Outcome:
    """Make a case, or find that it is right; an error becomes part of the outcome."""
    return _watched(job, _make)


def prepare(job: Job) -> Outcome:
    """Do the steps whose result is kept."""
    return _watched(job, _prepare)


def early_image(job: Job) -> Volume:
    """Return the image after the steps whose result is kept; made before by :func:`prepare`.

    Raises:
        InputError: The image cannot be read or processed.
    """
    found = sources.identify(job.case.images, layout.record(job.folder))
    return _early(job, found).image


def _watched(job: Job, do: Callable[[Job], Outcome]) -> Outcome:
    """Turn errors and warnings, which other processes could not show, into outcomes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _tried(job, do)
    said = dict.fromkeys(str(one.message) for one in caught if one.category is UserWarning)
    return replace(outcome, warnings=tuple(said))


def _tried(job: Job, do: Callable[[Job], Outcome]) -> Outcome:
    start = time.perf_counter()
    stops = False
    try:
        return do(job)
    except InputError as problem:
        error = _about(job, problem)
        stops = getattr(problem.__cause__, "errno", None) in _NO_SPACE
    except Exception as problem:  # one odd case must not cost the work on the others
        error = f"{', '.join(map(str, job.case.images))}: {type(problem).__name__}: {problem}"
    failed = Outcome(job.case.name, "failed", time.perf_counter() - start, error=error)
    return replace(failed, peak_megabytes=peak_megabytes(), stops=stops)


def _about(job: Job, problem: InputError) -> str:
    """Name the image where an error, as that of a step, names no file."""
    files = job.case.parts
    named = [str(job.out), *map(str, files), *(f"{file.parent}:" for file in map(_first, files))]
    known = any(name in str(problem) for name in named)
    return str(problem) if known else f"{job.case.images[0]}: {problem}"


def _key(job: Job, found: Sequence[sources.Source]) -> str:
    case = job.case
    named = case.label is not None and may_name_segments(case.label)
    return layout.key(
        job.pipeline, found, job.classes, case.coding, colours=job.colours, named=named
    )


def _first(source: Path | Series) -> Path:
    return source.files[0] if isinstance(source, Series) else source


def _outcome(job: Job, state: str) -> Outcome:
    record = layout.record(job.folder)
    size = sum(file.stat().st_size for file in job.folder.glob("*")) / 1e6
    return Outcome(job.case.name, state, record["seconds"], size, record["peak_megabytes"])


def _make(job: Job) -> Outcome:
    begin = time.perf_counter()
    before = layout.record(job.folder)
    found = sources.identify(job.case.parts, before)
    key = _key(job, found)
    if before.get("key") == key:
        _refresh(job, before, found)
        return _outcome(job, "unchanged")
    start = _early(job, found[: len(job.case.images)])
    raw = _raw_label(job, start.grids[0])
    image, later = job.late.trace(start.image)
    grids = (*start.grids, *later[1:])
    label = None if raw is None else job.pipeline.apply_label(raw, grids).data.astype(np.uint8)
    values = [] if raw is None else classes_of(raw.data, job.case.coding)
    with atomic_folder(job.folder) as folder:
        _save(image.data.astype(np.float32, copy=False), folder / layout.IMAGE)
        if raw is not None and label is not None:
            np.savez_compressed(folder / layout.RAW_LABEL, data=raw.data, affine=raw.affine)
            _save(label, folder / layout.LABEL)
            _save(np.flatnonzero(foreground(label)).astype(np.int64), folder / layout.FOREGROUND)
        record = {
            "key": key,
            **_origin(job, found),
            "values": values,
            "arrays": layout.array_sizes(folder),
            "lost": None if raw is None else lost_lesions(raw, job.pipeline, grids),
            "grids": _plain(grids),
            "spans": intensity_spans(image.channels_last),
            "before": start.histograms,
            "after": count_channels(image),
            "seconds": time.perf_counter() - begin,
            "peak_megabytes": peak_megabytes(),
        }
        write_json(record, folder / layout.RECORD, overwrite=True, indent=1)
    return _outcome(job, "made")


def _refresh(job: Job, before: dict[str, Any], found: Sequence[sources.Source]) -> None:
    """Note that files have the content they had, under another name or of another time."""
    now = {**before, **_origin(job, found)}
    if now != before:
        write_json(now, job.folder / layout.RECORD, overwrite=True, indent=1)


def _origin(job: Job, found: Sequence[sources.Source]) -> dict[str, Any]:
    label = job.case.label
    return {
        "sources": list(found),
        "label": str(label.absolute()) if label else None,
        "coding": job.case.coding.to_json(),
    }


def _prepare(job: Job) -> Outcome:
    early_image(job)
    return Outcome(job.case.name, "made")


class _Start(NamedTuple):
    """An image after the first steps, their grids, and histograms of the image before them."""

    image: Volume
    grids: tuple[Grid, ...]
    histograms: list[dict[str, Any]]


def _early(job: Job, found: Sequence[sources.Source]) -> _Start:
    """Read the image after the steps whose result is kept, or make it."""
    if not job.kept:
        return _begin(job)
    folder = job.out / layout.EARLY / job.case.name
    key = layout.key(job.early, found, colours=job.colours)
    record = layout.record(folder)
    if record.get("key") == key:
        grids = read_grids(record)
        data = np.load(folder / layout.IMAGE, allow_pickle=False)
        return _Start(Volume(data, grids[-1].affine), grids, record["before"])
    start = _begin(job)
    image, grids = job.early.trace(start.image)
    with atomic_folder(folder) as temporary:
        _save(image.data, temporary / layout.IMAGE)
        record = {
            "key": key,
            "sources": list(found),
            "arrays": layout.array_sizes(temporary),
            "grids": _plain(grids),
            "before": start.histograms,
        }
        write_json(record, temporary / layout.RECORD, overwrite=True, indent=1)
    return _Start(image, grids, start.histograms)


def _begin(job: Job) -> _Start:
    image = read_image(job.case.images, channels=COLOURS if job.colours else None)
    return _Start(image, (grid(image),), count_channels(image))


def _raw_label(job: Job, place: Grid) -> Volume | None:
    if job.case.label is None:
        return None
    return job.case.read_label(classes=job.classes, like=place)


def read_grids(record: dict[str, Any]) -> tuple[Grid, ...]:
    """Return the grids of a record."""
    return tuple(Grid(tuple(g["shape"]), np.array(g["affine"])) for g in record["grids"])


def _plain(grids: Sequence[Grid]) -> list[dict[str, Any]]:
    return [{"shape": list(grid.shape), "affine": grid.affine.tolist()} for grid in grids]


def count_channels(image: Volume) -> list[dict[str, Any]]:
    """Count the intensities of each channel up to its 99.9th percentile.

    Voxels with the value of the first one, which is background as a rule, are left out, and of a
    large volume every n-th voxel is taken.
    """
    flat = image.channels_last.reshape(-1, image.channels)
    return [_count(channel) for channel in flat[:: max(1, len(flat) // _SAMPLE)].T]


def _count(values: np.ndarray) -> dict[str, Any]:
    inside = values[values != values[0]].astype(np.float64)  # float32 cannot part every range
    if not inside.size:
        return {"low": float(values[0]), "high": float(values[0]), "counts": [0] * _BINS}
    low, high = float(inside.min()), float(np.percentile(inside, 99.9))
    width = (high - low) / _BINS or 1.0
    bins = np.minimum((inside[inside <= high] - low) // width, _BINS - 1).astype(np.int64)
    counts = np.bincount(bins, minlength=_BINS)
    return {"low": low, "high": high, "counts": counts.tolist()}


def _save(array: np.ndarray, path: Path) -> None:
    """Write an NPY file; unlike NumPy, say why where it cannot be written."""
    with path.open("wb") as stream:
        _write(np.ascontiguousarray(array), stream)


def _write(array: np.ndarray, stream: BinaryIO) -> None:
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(stream, header)
    stream.write(array.data)


def peak_megabytes() -> float:
    """Return the highest resident memory of this process so far, in 10⁶ bytes; 0 if unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):  # no Linux
        return _peak_elsewhere()


def _peak_elsewhere() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
