"""How a result came about: when, by which command, on which data, machine and versions."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.files import atomic_path, read_json
from segjax.machine import cores, machine_bytes
from segjax.runs.folder import RunFolder
from segjax.text import duration, plural

__all__ = [
    "Provenance",
    "common_folder",
    "here_and_now",
    "read_parts",
    "recording",
    "write_part",
]

_PACKAGES = ("jax", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Provenance:
    """How a result came about; the names of user and machine are not asked for.

    Attributes:
        date: Beginning, as ISO 8601 with the offset of the time zone.
        command: The ``segjax`` command as a shell takes it; of other programs the script's name,
            or ``Python``. The home folder is written as ``~``.
        data: Folder of the data; empty where there is no single one.
        seconds: Time that it took; None while it runs, or where it was killed.
        machine: System, processor, cores, memory and accelerators.
        versions: Of segjax, Python, JAX and ONNX Runtime, by name.

    Example:
        >>> made = Provenance("2026-03-01T09:30:00+01:00", "segjax train", "brains", 90.0,
        ...                   "Linux", {"segjax": "0.1.0"})
        >>> made.facts()["time"]
        '1 min 30 s'
    """

    date: str
    command: str
    data: str
    seconds: float | None
    machine: str
    versions: Mapping[str, str]

    def facts(self) -> dict[str, str]:
        """Return names and values to show, without those that are unknown."""
        facts = {
            "date": self.date.replace("T", " "),
            "command": self.command,
            "data": self.data,
            "time": "" if self.seconds is None else duration(self.seconds),
            "machine": self.machine,
            "versions": ", ".join(f"{name} {number}" for name, number in self.versions.items()),
        }
        return {name: value for name, value in facts.items() if value}


def here_and_now(data: str | Path = "", *, seconds: float | None = None) -> Provenance:
    """Describe what runs now.

    Args:
        data: Folder of the data.
        seconds: Time that it took so far, before which it began.

    Example:
        >>> here_and_now("brains").data
        'brains'
    """
    begun = datetime.fromtimestamp(time.time() - (seconds or 0)).astimezone()
    return Provenance(
        date=begun.isoformat(timespec="seconds"),
        command=_command(sys.argv),
        data=_without_home(str(data)),
        seconds=None if seconds is None else round(seconds, 1),
        machine=_machine(),
        versions=_versions(),
    )


def common_folder(files: Iterable[str | Path]) -> str:
    """Return the innermost folder that holds all files; empty where there is none.

    Example:
        >>> common_folder(["/brains/images/a.nii", "/brains/labels/a.nii"])
        '/brains'
    """
    folders = [os.path.abspath(Path(file).parent) for file in files]
    with suppress(ValueError):  # no files, or on several drives
        return os.path.commonpath(folders)
    return ""


def read_parts(folder: str | os.PathLike[str]) -> tuple[Provenance, ...]:
    """Read how the result in a folder came about.

    Args:
        folder: Such as that of a run.

    Returns:
        One for each part of a training that was gone on with; none where nothing is written.

    Raises:
        InputError: The file cannot be read.
    """
    path = RunFolder(Path(folder)).provenance
    if not path.is_file():
        return ()
    parts = read_json(path)
    names = {field.name for field in fields(Provenance)}
    if not isinstance(parts, list) or any(
        not isinstance(part, dict) or set(part) != names for part in parts
    ):
        raise InputError(f"{path}: is no record of how a result came about; delete it")
    return tuple(Provenance(**part) for part in parts)


def write_part(folder: str | os.PathLike[str], part: Provenance) -> None:
    """Add a part to what :func:`read_parts` reads.

    Raises:
        InputError: The file cannot be read or written.
    """
    _write(folder, [*read_parts(folder), part])


@contextmanager
def recording(folder: str | os.PathLike[str], data: str | Path = "") -> Iterator[None]:
    """Write a part before the block runs, and its time when the block ends, however it ends.

    Args:
        folder: Where the result comes about.
        data: Folder of the data.

    Raises:
        InputError: The file cannot be read, or written before the block.

    Example:
        >>> import tempfile
        >>> run = tempfile.mkdtemp()
        >>> with recording(run, "brains"):
        ...     print(read_parts(run)[0].seconds)
        None
        >>> read_parts(run)[0].data
        'brains'
    """
    before, part, start = read_parts(folder), here_and_now(data), time.monotonic()
    _write(folder, [*before, part])
    try:
        yield
    finally:
        took = replace(part, seconds=round(time.monotonic() - start, 1))
        with suppress(InputError):  # a full disk, of which the block tells
            _write(folder, [*before, took])


def _write(folder: str | os.PathLike[str], parts: Iterable[Provenance]) -> None:
    text = json.dumps([asdict(part) for part in parts], indent=2, ensure_ascii=False)
    with atomic_path(RunFolder(Path(folder)).provenance, overwrite=True) as path:
        path.write_text(text + "\n", encoding="utf-8")


def _command(argv: list[str]) -> str:
    """Return the command as a shell takes it; of others than segjax no arguments."""
    program = Path(argv[0] if argv else "")
    if program.stem == "segjax":
        words = ["segjax"]
    elif program.parts[-2:] == ("segjax", "__main__.py"):
        words = ["python", "-m", "segjax"]
    elif program.suffix == ".py" and program.stem != "ipykernel_launcher":
        return shlex.join(["python", program.name])
    else:
        return "Python"
    return " ".join([*words, *map(_quoted, argv[1:])])


def _quoted(argument: str) -> str:
    """Quote an argument for a shell, but for the ~ that begins it."""
    short = _without_home(argument)
    return f"~/{shlex.quote(short[2:])}" if short.startswith("~/") else shlex.quote(short)


def _without_home(text: str) -> str:
    home = os.path.expanduser("~").rstrip("/\\")
    inner = rf"(?<![^=:,\s]){re.escape(home)}(?=[/\\]|$)"
    return re.sub(inner, "~", text) if home not in ("", "~") else text


def _machine() -> str:
    memory = machine_bytes()
    parts = [
        _system(),
        _processor(),
        plural(cores(), "core"),
        f"{memory / 2**30:.0f} GiB of memory" if memory else "",
        _accelerators(),
    ]
    return ", ".join(part for part in parts if part)


def _system() -> str:
    with suppress(OSError, AttributeError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return f"{platform.system()} {platform.release()}".strip()


@lru_cache
def _processor() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError):
            return subprocess.run(
                command, capture_output=True, text=True, check=False
            ).stdout.strip()
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def _accelerators() -> str:
    """Return the devices of JAX, where it is imported: importing it takes seconds."""
    jax = sys.modules.get("jax")
    if jax is None:
        return ""
    with suppress(RuntimeError):  # its backend cannot start
        kinds = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
        return ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))
    return ""


def _versions() -> dict[str, str]:
    import segjax

    found: dict[str, Any] = {"segjax": segjax.__version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
