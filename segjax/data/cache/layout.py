"""Names and small files of a cache, and what decides whether a cached case is still right."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.data.cases import Case
from segjax.data.io.dicom.segmentation import is_label_object
from segjax.data.io.dicom.series import Series, is_dicom, series_files
from segjax.data.io.metaimage import metaimage_files
from segjax.data.io.nrrd import nrrd_files
from segjax.data.labels import PLAIN, LabelCoding
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import atomic_path, reading
from segjax.files import read_json as read_any_json

FORMAT = 1  # raise it when a step's result or the files of a case change
MANIFEST = "manifest.json"
CASES, EARLY = "cases", "early"
IMAGE, LABEL, FOREGROUND, RECORD = "image.npy", "label.npy", "foreground.npy", "case.json"
_CHUNK = 2**20
_KEYS = {"complete", "requested", "pipeline", "learned_from", "labels", "channels", "cases"}

Source = Mapping[str, Any]
"""A file or DICOM series that a case was made of: its path, size, time of change and digest."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: The file is missing or holds anything else.
    """
    values = read_any_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no JSON object")
    return values


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, whole or not at all."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def is_cache(folder: str | Path) -> bool:
    """Say whether a folder was made by ``segjax preprocess``, finished or not, damaged or not.

    Example:
        >>> is_cache("brains")
        False
    """
    try:
        return "segjax_cache" in read_json(Path(folder) / MANIFEST)
    except InputError:
        return is_damaged(Path(folder))


def is_damaged(folder: Path) -> bool:
    """Say whether a folder has the cases of a cache, but a manifest that cannot be read."""
    path = folder / MANIFEST
    if not path.is_file() or not (folder / CASES).is_dir():
        return False
    try:
        return not read_json(path)
    except InputError:
        return True


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a cache says of itself.

    Raises:
        InputError: The folder is no cache, or was made by another version.
    """
    if not is_cache(folder):
        raise InputError(f"{folder}: was not made by segjax preprocess (no {MANIFEST})")
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError as error:
        raise InputError(f"{error}; preprocess again, which mends it") from error
    if manifest["segjax_cache"] != FORMAT:
        raise InputError(
            f"{folder}: was made by another version of segjax (format "
            f"{manifest['segjax_cache']!r}, not {FORMAT}); preprocess into a new folder"
        )
    if missing := sorted(_KEYS - set(manifest)):
        raise InputError(
            f"{folder / MANIFEST}: '{missing[0]}' is missing; preprocess into a new folder"
        )
    return manifest


def remove_remains(folder: Path) -> None:
    """Remove the unfinished folders of a run that was killed."""
    for remains in folder.glob(".*"):
        shutil.rmtree(remains, ignore_errors=True)


def record(folder: Path) -> dict[str, Any]:
    """Return the record of a case; empty where there is none to rely on.

    A case that has lost an array, or a part of one, has none.
    """
    try:
        values = read_json(folder / RECORD)
    except InputError:
        return {}
    if not {"key", "sources", "grids", "before", "arrays"} <= values.keys():
        return {}
    there = array_sizes(folder)
    lost = any(there.get(name) != size for name, size in values["arrays"].items())
    return {} if lost else values


def array_sizes(folder: Path) -> dict[str, int]:
    """Return the size of every array of a case, in bytes."""
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.npy"))}


def sources(files: Iterable[Path | Series], before: Mapping[str, Any]) -> list[Source]:
    """Look at the files that a case is made of.

    A file of the size and time that the record of an earlier run states keeps its digest; only
    another one is read.

    Args:
        files: The files and DICOM series of a case; a DICOM file stands for its series.
        before: The record; may be empty.

    Raises:
        InputError: A file is missing or cannot be read.
    """
    known = {_identity(source): source for source in before.get("sources", ())}
    found: list[Source] = []
    for file in files:
        now = _look(file)
        then = known.get(_identity(now))
        same = then is not None and {**then, **now} == then
        found.append({**now, "digest": then["digest"] if then and same else digest_files(file)})
    return found


def unchanged(files: Iterable[Path | Series], before: Mapping[str, Any]) -> bool:
    """Say whether no file has changed since its record, by size and time alone."""
    known = {_identity(source): source for source in before.get("sources", ())}
    try:
        found = [_look(file) for file in files]
    except InputError:
        return False
    return all(
        {**known.get(_identity(now), {}), **now} == known.get(_identity(now)) for now in found
    )


def image_of(source: Source) -> Path | Series:
    """Return the file or series that :func:`sources` looked at; it may be gone."""
    if (series := source.get("series")) is None:
        return Path(source["path"])
    try:
        return Series.from_json(series)
    except InputError:  # reading its first file says what is wrong
        return Path(series["files"][0])


def same_files(files: Iterable[Path | Series], before: Mapping[str, Any]) -> bool:
    """Say whether a record is of these files, changed or not."""
    now = [_identity(_place(file)) for file in files]
    return now == [_identity(source) for source in before.get("sources", ())]


def key(
    pipeline: Pipeline,
    found: Iterable[Source],
    classes: int | None = None,
    coding: LabelCoding = PLAIN,
    *,
    colours: bool = False,
    named: bool = False,
) -> str:
    """Return what stays the same as long as a result does: a digest of the steps and contents.

    The names of classes matter where labels are ``named`` segments.
    """
    steps = pipeline.to_json()
    models = [
        digest_files(Path(value))
        for step in steps
        for value in step.values()
        if isinstance(value, str) and value.endswith(".onnx")
    ]
    content = [FORMAT, steps, models, [source["digest"] for source in found], classes]
    if not coding.plain or named:
        content.append(coding.to_json())
    if colours:
        content.append("colours")
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=20).hexdigest()


def digest_files(source: Path | Series) -> str:
    """Return a digest of the content of a file, or of the files of a DICOM series in order.

    Raises:
        InputError: A file cannot be read.
    """
    total = hashlib.blake2b(digest_size=20)
    if isinstance(source, Series):
        total.update(source.name.encode())
    for file in _parts(source):
        with reading(file) as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
    return total.hexdigest()


def _parts(source: Path | Series) -> tuple[Path, ...]:
    if isinstance(source, Series):
        return source.files
    if source.is_dir() or _is_slice(source):
        return series_files(source)
    return _FILES.get(source.suffix.lower(), _itself)(source)


def _is_slice(source: Path) -> bool:
    return is_dicom(source) and is_label_object(source) is None


def _itself(source: Path) -> tuple[Path, ...]:
    return (source,)


_FILES: dict[str, Callable[[Path], tuple[Path, ...]]] = {
    ".mha": metaimage_files,
    ".mhd": metaimage_files,
    ".nhdr": nrrd_files,
    ".nrrd": nrrd_files,
}


def _place(source: Path | Series) -> dict[str, Any]:
    if isinstance(source, Series):
        return {"path": str(source.folder.absolute()), "series": source.to_json()}
    return {"path": str(source.absolute())}


def _identity(source: Source) -> str:
    return json.dumps([source["path"], source.get("series")], sort_keys=True)


def _look(source: Path | Series) -> dict[str, Any]:
    try:
        states = [file.stat() for file in _beside(source)]
    except OSError as error:
        raise InputError(f"{error.filename or source}: cannot be read: {error.strerror}") from error
    return {
        **_place(source),
        "size": sum(state.st_size for state in states),
        "mtime_ns": sum(state.st_mtime_ns for state in states),
    }


def _beside(source: Path | Series) -> Sequence[Path]:
    """List the files that a source may be made of: the file, or all beside a DICOM file."""
    if isinstance(source, Series):
        return source.files
    if source.is_dir():
        return sorted(file for file in source.rglob("*") if file.is_file())
    if _is_slice(source):
        return sorted(file for file in source.parent.iterdir() if file.is_file())
    return _parts(source)


def files_of(case: Case) -> tuple[Path | Series, ...]:
    """Return all files of a case, the label last."""
    return (*case.images, *([case.label] if case.label else []))
