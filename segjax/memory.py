"""How much memory there is: that of the machine, or what a container may have of it."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segjax.provenance import machine_bytes

_ROOT = Path("/")


def available_bytes(root: Path = _ROOT) -> tuple[int, str] | None:
    """Return the memory that this process may have, in bytes, and whose it is.

    It is that of the machine, or the least limit of the control groups (version 2 or 1) that the
    process is in, such as those of a container or of a batch system.

    Args:
        root: Folder below which ``proc`` and ``sys`` lie.

    Returns:
        Bytes, and ``"computer"`` or ``"container"``; ``None`` where the system tells neither.

    Source:
        https://docs.kernel.org/admin-guide/cgroup-v2.html, ``memory.max``; cgroup-v1/memory.html,
        ``memory.limit_in_bytes``.
    """
    found = [(limit, "container") for limit in _limits(root)]
    if (whole := machine_bytes()) is not None:
        found.insert(0, (whole, "computer"))
    return min(found, key=lambda one: one[0], default=None)


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of the process's control groups and of all that they are in."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        inner = PurePosixPath(group.lstrip("/"))
        for folder in (inner, *inner.parents):  # a container may see its own group as the root
            limit = _text(root / "sys/fs/cgroup" / base / folder / name).strip()
            if limit.isdecimal():
                yield int(limit)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # a name that no path can have
        return ""
