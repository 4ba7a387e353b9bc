"""Names and small files of a cache, and what decides whether a cached case is still right."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segjax.data.labels import PLAIN, LabelCoding
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.sources import Source, digest_files
from segjax.errors import InputError
from segjax.files import read_json_object

FORMAT = 1  # raise it when a step's result or the files of a case change
MANIFEST = "manifest.json"
CASES, EARLY = "cases", "early"
IMAGE, LABEL, FOREGROUND, RECORD = "image.npy", "label.npy", "foreground.npy", "case.json"
RAW_LABEL = "raw_label.npz"  # as it was on disk: data and affine, which a validation needs
_KEYS = {"complete", "requested", "pipeline", "learned_from", "labels", "channels", "cases"}


def is_cache(folder: str | Path) -> bool:
    """Say whether a folder was made by ``segjax preprocess``, finished or not, damaged or not.

    Example:
        >>> is_cache("brains")
        False
    """
    try:
        return "segjax_cache" in read_json_object(Path(folder) / MANIFEST)
    except InputError:
        return is_damaged(Path(folder))


def is_damaged(folder: Path) -> bool:
    """Say whether a folder has the cases of a cache, but a manifest that cannot be read."""
    path = folder / MANIFEST
    if not path.is_file() or not (folder / CASES).is_dir():
        return False
    try:
        return not read_json_object(path)
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
        manifest = read_json_object(folder / MANIFEST)
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


def changed(folder: Path) -> int:
    """Return when the manifest of a cache was written last, in ns; 0 where there is none."""
    path = folder / MANIFEST
    return path.stat().st_mtime_ns if path.is_file() else 0


def remove_remains(folder: Path) -> None:
    """Remove the unfinished folders of a run that was killed."""
    for remains in folder.glob(".*"):
        shutil.rmtree(remains, ignore_errors=True)


def record(folder: Path) -> dict[str, Any]:
    """Return the record of a case; empty where there is none to rely on.

    A case that has lost an array, or a part of one, has none.
    """
    try:
        values = read_json_object(folder / RECORD)
    except InputError:
        return {}
    if not {"key", "sources", "grids", "before", "arrays"} <= values.keys():
        return {}
    there = array_sizes(folder)
    lost = any(there.get(name) != size for name, size in values["arrays"].items())
    return {} if lost else values


def array_sizes(folder: Path) -> dict[str, int]:
    """Return the size of every array of a case, in bytes."""
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.np[yz]"))}


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
