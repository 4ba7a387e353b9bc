"""Read files with clear errors; write them whole or not at all."""

import csv
import errno
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from segjax.errors import InputError

__all__ = [
    "atomic_folder",
    "atomic_path",
    "check_new",
    "check_target",
    "disk_errors",
    "locked",
    "move",
    "read_csv",
    "read_json",
    "read_json_object",
    "reading",
    "walk",
    "write_csv",
    "write_json",
]

# Errors of the place, not of the program: a full or broken disk, no right to write, no folder.
_PLACE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
_NO_SPACE = "No space left on device"  # in errors that carry no number, such as Orbax's
_NUMBER = re.compile(r"os_error_code='(\d+)'")  # in those of TensorStore, which writes for Orbax


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which becomes ``path`` only when the block ends well.

    The temporary file lies in the same folder and has the same suffixes; at the end it is flushed
    to the disk and renamed, so that readers see the old file or the whole new one, even after a
    power cut. When the block raises, the temporary file is removed.

    Args:
        path: File to write; its folder must exist.
        overwrite: Replace a file that is there already.

    Yields:
        Path of a file that does not exist yet, to be created by the block.

    Raises:
        InputError: There is a file and ``overwrite`` is false (said before the block runs), the
            folder is missing or not writable, or the disk is full.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "split.json") as temporary:
        ...     _ = temporary.write_text("{}")
        >>> (folder / "split.json").read_text()
        '{}'
    """
    path = Path(path)
    if not path.name:
        raise InputError(f"{path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    try:
        check_target(path, overwrite=overwrite)
        temporary.touch(exist_ok=False)  # an unwritable folder shows before the work, not after
        temporary.unlink()
        yield temporary
        _flush(temporary)
        check_target(path, overwrite=overwrite)
        os.replace(temporary, path)
        with suppress(OSError):  # some network file systems cannot flush a folder
            _flush(path.parent)
    except OSError as error:
        if error.errno not in _PLACE or not _concerns(error, temporary, path):
            raise
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes ``path`` only when the block ends well.

    The temporary folder lies beside ``path`` and its name begins with a dot. At the end its files
    are flushed to the disk and it is renamed; a folder that was there before is removed. Readers
    see the old folder, for a moment none, or the whole new one, even after a power cut.

    Args:
        path: Folder to make; its parent must exist.

    Yields:
        Path of an empty folder, for files only.

    Raises:
        InputError: The parent is missing or not writable, or the disk is full.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "case"
        >>> with atomic_folder(path) as temporary:
        ...     _ = (temporary / "case.json").write_text("{}")
        >>> [file.name for file in path.iterdir()]
        ['case.json']
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{secrets.token_hex(8)}") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        for file in (*temporary.iterdir(), temporary):
            _flush(file)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        with suppress(OSError):  # some network file systems cannot flush a folder
            _flush(path.parent)
    except OSError as error:
        inside = error.filename and Path(os.fsdecode(error.filename)).parent == temporary
        if error.errno not in _PLACE or not (inside or _concerns(error, temporary, path)):
            raise
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a path that :func:`atomic_path` would refuse, before the work that leads to it.

    Args:
        path: File to write.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        InputError: There is a file and ``overwrite`` is false, or something that is no file, or
            the folder is missing.

    Example:
        >>> import tempfile
        >>> check_target(Path(tempfile.mkdtemp()) / "metrics.csv")
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first")
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path}: exists and is no ordinary file; choose another name")
    if not overwrite:
        check_new(path)


def check_new(path: Path) -> None:
    """Refuse a path that is there already, and say how it may be replaced.

    Raises:
        InputError: There is a file or folder.

    Example:
        >>> import tempfile
        >>> check_new(Path(tempfile.mkdtemp()) / "mask.nii.gz")
    """
    if path.exists():
        raise InputError(
            f"{path}: exists already; choose another name, or replace it by --overwrite "
            "(in Python: overwrite=True)"
        )


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn errors of the disk into one line that says what to do.

    Args:
        place: File or folder that is written.

    Raises:
        InputError: The disk is full or not writable.
    """
    try:
        yield
    except Exception as error:
        number = _NUMBER.search(str(error))
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            reason = "no space left on the disk: free some"
        elif number or isinstance(error, OSError):
            why = os.strerror(int(number[1])) if number else getattr(error, "strerror", error)
            reason = f"not writable ({why}): make it so"
        else:
            raise
        raise InputError(f"{place}: {reason}, then run the same command again") from error


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """Lock a folder; the system unlocks it when the process ends, however it ends.

    Args:
        folder: Folder that exists.

    Yields:
        Whether the lock is ours, and not another process's; always true where the system or the
        file system knows no locks.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with locked(folder) as first, locked(folder) as second:
        ...     print(first, second)
        True False
    """
    if os.name == "nt":  # has no such locks
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _is_free(descriptor)
    finally:
        os.close(descriptor)


def move(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file, or a folder, such that it stays renamed after a power cut.

    Args:
        source: File or folder, whose content is on the disk.
        target: Its new path, on the same file system; a file that is there is replaced.

    Raises:
        OSError: It cannot be renamed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a").mkdir()
        >>> move(folder / "a", folder / "b")
        >>> [path.name for path in folder.iterdir()]
        ['b']
    """
    os.replace(source, target)
    with suppress(OSError):  # some network file systems cannot flush a folder
        _flush(Path(target).parent)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read its bytes.

    Args:
        path: File to read.

    Yields:
        The open file.

    Raises:
        InputError: There is no such file, or it cannot be read; errors of the block too, where
            they come from the operating system.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "split.json"
        >>> _ = path.write_text("{}")
        >>> with reading(path) as stream:
        ...     stream.read()
        b'{}'
    """
    try:
        if not Path(path).is_file():
            raise InputError(f"{path}: {_why_missing(Path(path))}")
        with Path(path).open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, with or without a byte-order mark.

    Args:
        path: File to read.

    Returns:
        The parsed value.

    Raises:
        InputError: The file is missing, cannot be read, or holds no JSON.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "dataset.json"
        >>> _ = path.write_text('{"labels": {}}', encoding="utf-8-sig")
        >>> read_json(path)
        {'labels': {}}
    """
    with reading(path) as stream:
        content = stream.read()
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: is no JSON ({error})") from error


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds names and values.

    Raises:
        InputError: As :func:`read_json`, and where it holds anything else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    return content


def write_json(
    content: Any, path: str | os.PathLike[str], *, overwrite: bool = False, indent: int = 2
) -> None:
    """Write a JSON file, as :func:`atomic_path` writes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "split.json"
        >>> write_json({"train": ["a"]}, path)
        >>> read_json(path)
        {'train': ['a']}
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def write_csv(
    rows: Iterable[Iterable[object]], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a table, its first row the names of the columns, as :func:`atomic_path` writes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "folds.csv"
        >>> write_csv([("fold", "dice"), (0, 0.5)], path)
        >>> path.read_text().splitlines()
        ['fold,dice', '0,0.5']
    """
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read a table whose first row names the columns.

    Raises:
        InputError: The file cannot be read, or is no text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "folds.csv"
        >>> write_csv([("fold", "dice"), (0, 0.5)], path)
        >>> read_csv(path)
        [{'fold': '0', 'dice': '0.5'}]
    """
    with reading(path) as stream:
        try:
            text = stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: cannot be read as a table: it is no text") from error
    return list(csv.DictReader(io.StringIO(text, newline="")))


def walk(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield all files of a folder and the folders in it, sorted, through links.

    Links to folders are followed after all else, each real folder once, so that a folder is called
    by its own name where it lies in the tree itself; links that lead nowhere are yielded as the
    files that they should be.

    Args:
        folder: Where to look.

    Yields:
        The files, hidden ones too: those of a folder before those of the folders in it.

    Raises:
        InputError: There is no such folder, or it or one in it cannot be listed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "patient07").mkdir()
        >>> (folder / "patient07" / "flair.nii.gz").touch()
        >>> [file.name for file in walk(folder)]
        ['flair.nii.gz']
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: there is no such folder")
    seen: set[str] = set()
    links = [Path(folder)]
    for link in links:  # which grow
        yield from _walk(link, seen, links)


def _why_missing(path: Path) -> str:
    if not path.is_symlink():
        return "there is no such file"
    return f"is a link to {os.readlink(path)}, and there is no such file; fetch it"


def _walk(folder: Path, seen: set[str], links: list[Path]) -> Iterator[Path]:
    """Yield the files below a folder, but list the links to folders instead of following them."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
        inner = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    yield from (entry for entry in entries if entry not in inner)
    for entry in inner:
        if entry.is_symlink():
            links.append(entry)
        else:
            yield from _walk(entry, seen, links)


def _is_free(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _concerns(error: OSError, temporary: Path, path: Path) -> bool:
    """Say whether an error is about the file being written, not about one being read."""
    if error.filename is None:
        return True
    return Path(os.fsdecode(error.filename)) in (temporary, path, path.parent)
