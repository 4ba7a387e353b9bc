"""The files that a case is made of, and what tells whether they are still the same."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.data.io.dicom.segmentation import is_label_object
from segjax.data.io.dicom.series import Series, is_dicom, series_files
from segjax.data.io.metaimage import metaimage_files
from segjax.data.io.nrrd import nrrd_files
from segjax.errors import InputError
from segjax.files import reading

__all__ = [
    "Source",
    "digest_files",
    "files_in",
    "identify",
    "image_of",
    "same_files",
    "sha256_files",
    "unchanged",
]

_CHUNK = 2**20

Source = Mapping[str, Any]
"""A file or DICOM series that a case was made of: its path, size, time of change and digest."""


def files_in(image: Path | Series) -> tuple[Path, ...]:
    """Return the files that an image is read from.

    Example:
        >>> [file.name for file in files_in(Path("patients/07/flair.nii.gz"))]
        ['flair.nii.gz']
    """
    return image.files if isinstance(image, Series) else (image,)


def identify(files: Iterable[Path | Series], before: Mapping[str, Any]) -> list[Source]:
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
    """Return the file or series that :func:`identify` looked at; it may be gone."""
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


def digest_files(source: Path | Series) -> str:
    """Return a digest of the content of a file, or of the files of a DICOM series in order.

    Raises:
        InputError: A file cannot be read.
    """
    total = hashlib.blake2b(digest_size=20)
    if isinstance(source, Series):
        total.update(source.name.encode())
    for chunk in _chunks(source):
        total.update(chunk)
    return total.hexdigest()


def sha256_files(source: Path | Series) -> str:
    """Return the SHA-256 of a file; of the bytes of several, one after another, as ``cat`` does.

    Raises:
        InputError: A file cannot be read.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "model.onnx"
        >>> _ = file.write_bytes(b"abc")
        >>> sha256_files(file)[:16]
        'ba7816bf8f01cfea'
    """
    total = hashlib.sha256()
    for chunk in _chunks(source):
        total.update(chunk)
    return total.hexdigest()


def _chunks(source: Path | Series) -> Iterator[bytes]:
    for file in _parts(source):
        with reading(file) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


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
