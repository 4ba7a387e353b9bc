"""What the machine has of cores and memory, and what this process may have of it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

__all__ = [
    "available_bytes",
    "cores",
    "device_bytes",
    "free_bytes",
    "machine_bytes",
    "resident_bytes",
    "taken_bytes",
]

_ROOT = Path("/")


def cores() -> int:
    """Return the number of cores that this process may use.

    Example:
        >>> 1 <= cores() <= (os.cpu_count() or 1)
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_bytes() -> int | None:
    """Return the memory of the machine in bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, and systems without these names
        return None


def device_bytes(device: "jax.Device") -> tuple[int, str] | None:
    """Return the memory of a device that JAX may take, in bytes, and whose it is.

    Args:
        device: A GPU, of whose memory ``XLA_PYTHON_CLIENT_MEM_FRACTION`` may be taken, or a CPU,
            of which :func:`available_bytes` tells.

    Returns:
        Bytes, and ``"GPU"``, ``"computer"`` or ``"container"``; ``None`` where nothing tells.

    Example:
        >>> import jax
        >>> size, whose = device_bytes(jax.devices("cpu")[0])
        >>> whose in ("computer", "container")
        True
    """
    if device.platform == "cpu":
        return available_bytes()
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else (limit, "GPU")


def taken_bytes(device: "jax.Device") -> int:
    """Return how many of the bytes that JAX may take on a GPU are taken; 0 for a CPU.

    Example:
        >>> import jax
        >>> taken_bytes(jax.devices("cpu")[0])
        0
    """
    return 0 if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_in_use", 0)


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
    found = [(limit, "container") for limit, _ in _limits(root)]
    if (whole := machine_bytes()) is not None:
        found.insert(0, (whole, "computer"))
    return min(found, key=lambda one: one[0], default=None)


def free_bytes(root: Path = _ROOT) -> int | None:
    """Return the memory that this process could still take without others being pushed out.

    It is what the system calls available, or the least that is left of a limit of the control
    groups that the process is in; where the system tells neither, all memory of the machine.
    Files that are only cached count as free.

    Args:
        root: Folder below which ``proc`` and ``sys`` lie.

    Returns:
        Bytes; ``None`` where the system does not even tell how much memory it has.

    Example:
        >>> (free_bytes() or 1) > 0
        True

    Source:
        https://docs.kernel.org/filesystems/proc.html, ``MemAvailable``.
    """
    found = [max(0, limit - used) for limit, used in _limits(root)]
    available = _numbers(_text(root / "proc/meminfo")).get("MemAvailable:")
    if available is not None:
        found.append(1024 * available)
    elif (whole := machine_bytes()) is not None:
        found.append(whole)
    return min(found, default=None)


def resident_bytes(root: Path = _ROOT) -> int:
    """Return the memory that this process takes now; 0 where the system does not tell.

    Example:
        >>> resident_bytes() >= 0
        True
    """
    return 1024 * _numbers(_text(root / "proc/self/status")).get("VmRSS:", 0)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of the process's control groups and of all that they are in."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        base, (limit, use, cached) = "memory", names
        if not controllers:
            base, limit, use, cached = "", "memory.max", "memory.current", "inactive_file"
        inner = PurePosixPath(group.lstrip("/"))
        for folder in (inner, *inner.parents):  # a container may see its own group as the root
            place = root / "sys/fs/cgroup" / base / folder
            most, used = _text(place / limit).strip(), _text(place / use).strip()
            if most.isdecimal():
                kept = _numbers(_text(place / "memory.stat")).get(cached, 0)
                yield int(most), max(0, int(used) - kept) if used.isdecimal() else 0


def _numbers(text: str) -> dict[str, int]:
    """Return the first whole number of each line, by the word before it."""
    words = (line.split() for line in text.splitlines())
    return {one[0]: int(one[1]) for one in words if len(one) > 1 and one[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # a name that no path can have
        return ""
