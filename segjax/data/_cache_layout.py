"""Names and small files of a cache, and what decides whether a cached case is still right."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segjax.data.datasets import Case
from segjax.data.dicom import is_dicom, series_files
from segjax.data.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import atomic_path, reading

FORMAT = 1  # raise it when a step's result or the files of a case change
MANIFEST = "manifest.json"
CASES, EARLY = "cases", "early"
IMAGE, LABEL, FOREGROUND, RECORD = "image.npy", "label.npy", "foreground.npy", "case.json"
_CHUNK = 2**20
_KEYS = {"complete", "requested", "pipeline", "learned_from", "labels", "channels", "cases"}

Source = Mapping[str, Any]
"""A file that a case was made of: its path, size, time of change and digest."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: The file is missing or holds anything else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
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


def sources(paths: Iterable[Path], before: Mapping[str, Any]) -> list[Source]:
    """Look at the files that a case is made of; a DICOM file stands for its series.

    A file of the size and time that the record of an earlier run states keeps its digest; only
    another one is read.

    Args:
        paths: The files of a case.
        before: The record; may be empty.

    Raises:
        InputError: A file is missing or cannot be read.
    """
    known = {source["path"]: source for source in before.get("sources", ())}
    found = [_look(path) for path in paths]
    return [
        {**now, "digest": then["digest"]}
        if (then := known.get(now["path"])) and {**then, **now} == then
        else {**now, "digest": digest_files(Path(now["path"]))}
        for now in found
    ]


def unchanged(paths: Iterable[Path], before: Mapping[str, Any]) -> bool:
    """Say whether no file has changed since its record, by size and time alone."""
    known = {source["path"]: source for source in before.get("sources", ())}
    try:
        found = [_look(path) for path in paths]
    except InputError:
        return False
    return all({**known.get(now["path"], {}), **now} == known.get(now["path"]) for now in found)


def key(pipeline: Pipeline, found: Iterable[Source], classes: int | None = None) -> str:
    """Return what stays the same as long as a result does: a digest of the steps and contents."""
    steps = pipeline.to_json()
    models = [
        digest_files(Path(value))
        for step in steps
        for value in step.values()
        if isinstance(value, str) and value.endswith(".onnx")
    ]
    content = [FORMAT, steps, models, [source["digest"] for source in found], classes]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=20).hexdigest()


def digest_files(path: Path) -> str:
    """Return a digest of the content of a file, or of the files of a DICOM series in order.

    Raises:
        InputError: A file cannot be read.
    """
    total = hashlib.blake2b(digest_size=20)
    series = path.is_dir() or is_dicom(path)
    for file in series_files(path) if series else (path,):
        with reading(file) as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
    return total.hexdigest()


def _look(path: Path) -> dict[str, Any]:
    try:
        states = [file.stat() for file in _beside(path)]
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    return {
        "path": str(path.absolute()),
        "size": sum(state.st_size for state in states),
        "mtime_ns": sum(state.st_mtime_ns for state in states),
    }


def _beside(path: Path) -> list[Path]:
    """List the files that a source may be made of: the file, or all beside a DICOM file."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if is_dicom(path):
        return sorted(file for file in path.parent.iterdir() if file.is_file())
    return [path]


def files_of(case: Case) -> tuple[Path, ...]:
    """Return all files of a case, the label last."""
    return (*case.images, *([case.label] if case.label else []))
