"""The devices that a training runs on, and what the machine is told before it."""

import ctypes
import math
import os
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float64, PyTree

from segjax.errors import InputError

__all__ = [
    "Devices",
    "choose_devices",
    "connect_hosts",
    "gather_floats",
    "is_first_host",
    "keep_compiled_programs",
    "keep_freed_memory",
    "prepare_process",
    "share_first",
]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h
_TOP_PAD = 64 << 20  # bytes that the heap grows by at least


def prepare_process() -> None:
    """Let this process keep memory that JAX frees on a CPU, or programs for an accelerator.

    Only a program calls it, never a library, right after :func:`connect_hosts`: once JAX was asked
    for its devices, its threads have memory of their own, of which :func:`keep_freed_memory` keeps
    less (MPU-Net++ with two patches of 64³: 0 faults a step and a peak of 1.3 GB, or 170 MB of
    faults and 2.2 GB).

    What JAX and XLA take from the environment of a training on a GPU, and segjax leaves alone:
    ``XLA_PYTHON_CLIENT_MEM_FRACTION=0.9`` lets JAX have 90 % of the GPU's memory instead of 75 %
    (JAX 0.10 and later also name it ``XLA_CLIENT_MEM_FRACTION``);
    ``XLA_PYTHON_CLIENT_PREALLOCATE=false`` takes memory only when it is needed, up to the same
    limit, for a GPU that others use too. ``XLA_FLAGS=--xla_gpu_deterministic_ops=true`` makes
    repeated trainings equal to the bit, at a price in speed: by default XLA times kernels when it
    compiles and takes the fastest of that moment, and some of them add in any order.
    ``XLA_FLAGS=--xla_gpu_autotune_level=0`` leaves out the timing, which compiles faster.

    Example:
        >>> prepare_process()

    Source:
        https://docs.jax.dev/en/latest/gpu_memory_allocation.html,
        https://openxla.org/xla/determinism.
    """
    if _only_cpus() or jax.default_backend() == "cpu":
        keep_freed_memory()
    else:
        keep_compiled_programs()


def _only_cpus() -> bool:
    """Return whether JAX has no accelerator to look for, without starting it."""
    plugins = entry_points(group="jax_plugins") or any(map(find_spec, ("jax_plugins", "libtpu")))
    chosen: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    return chosen == "cpu" or not plugins


def keep_freed_memory() -> bool:
    """Tell glibc to keep the memory that JAX frees, for the next step to use again.

    On a CPU, XLA asks for its scratch memory (about 1 GB for 3D patches) at every step and
    frees it after; by default glibc gives it back to the system each time, and faulting it in
    again takes 300 to 400 ms of a step of 850 to 970 ms. Kept, a step takes about half the
    time; the price is memory: the process never shrinks below its peak, and the peak itself
    is higher (3.4 GB instead of 2.5 GB for MPU-Net++ with two patches of 64³).

    Call it before the first JAX computation of the process, since blocks that are mapped
    already stay as they are. It changes the whole process, so that a program calls it, never
    a library.

    Returns:
        Whether it was done: false where the C library is not glibc (macOS, Windows, musl).

    Example:
        >>> kept = keep_freed_memory()

    Source:
        man 3 mallopt.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1, _M_TOP_PAD: _TOP_PAD}
    done = [library.mallopt(option, value) == 1 for option, value in settings.items()]
    return all(done)


def keep_compiled_programs() -> Path | None:
    """Keep what is compiled for an accelerator on disk, for later processes to load.

    XLA takes from seconds to minutes to compile a train step for a GPU; a training that goes on,
    and the folds and sweeps that share its shapes, then load the program instead. On CPU nothing
    is kept: steps compile in seconds, and a program for one CPU may stop on another that shares
    the folder. ``JAX_COMPILATION_CACHE_DIR`` names another folder, and then counts on a CPU, too.
    The folder may be deleted at any time; nothing else limits its size.

    Call it after :func:`connect_hosts`, since it asks JAX for its devices.

    Returns:
        The folder, ``segjax/compiled`` in ``XDG_CACHE_HOME`` or in ``~/.cache``; ``None`` where
        nothing is kept, also because the folder cannot be written to.

    Example:
        >>> folder = keep_compiled_programs()

    Source:
        https://docs.jax.dev/en/latest/persistent_compilation_cache.html.
    """
    chosen: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen is not None:
        return Path(chosen) if chosen else None
    if jax.default_backend() == "cpu":
        return None
    try:
        base = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(base) if base else Path.home() / ".cache") / "segjax/compiled"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):  # no home, or one that is read-only
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # XLA's own caches inside that folder end a program where they cannot be written
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    return folder


@dataclass(frozen=True)
class Devices:
    """Devices that share the patches of each batch and hold the same parameters.

    A step that gets arrays placed by them computes on all devices; sums over the batch (losses,
    gradients, batch statistics) go over the whole batch, so that the number of devices changes
    results by rounding alone.

    Attributes:
        mesh: The devices along one axis, ``"batch"``; those of all hosts.
    """

    mesh: Mesh

    @cached_property
    def count(self) -> int:
        """Number of devices on all hosts."""
        return int(self.mesh.devices.size)

    def replicate(self, tree: PyTree) -> PyTree:
        """Return a tree of arrays with a copy on each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def rows(self, batch_size: int) -> slice:
        """Return which patches of a batch are for the devices of this host."""
        share = batch_size // self.count
        own = [i for i, d in enumerate(self.mesh.devices) if d.process_index == jax.process_index()]
        return slice(own[0] * share, (own[-1] + 1) * share)

    def place(self, batch: PyTree, batch_size: int) -> PyTree:
        """Spread a batch over the devices.

        Args:
            batch: Arrays whose first axis holds this host's :meth:`rows` of the batch.
            batch_size: Patches of the batch on all hosts.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec("batch"))
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        return jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(
                sharding, rows, (batch_size, *rows.shape[1:])
            ),
            batch,
        )

    def ahead(
        self, batches: Generator[PyTree, None, None], batch_size: int
    ) -> Generator[PyTree, None, None]:
        """Spread batches over accelerators one before its use, so that copies overlap a step.

        Args:
            batches: As :meth:`place` takes them; closed with this generator.
            batch_size: Patches of a batch on all hosts.
        """
        placed: deque[PyTree] = deque()
        early = 0 if jax.default_backend() == "cpu" else 1
        with closing(batches):
            for batch in batches:
                placed.append(self.place(batch, batch_size))
                if len(placed) > early:
                    yield placed.popleft()
            yield from placed

    def local(self, tree: PyTree) -> PyTree:
        """Return a replicated tree as arrays of this host's first device alone."""
        return jax.tree.map(lambda array: array.addressable_data(0), tree)


def choose_devices(batch_size: int, *, devices: Sequence[Any] | None = None) -> Devices:
    """Take as many devices as a batch can be shared among evenly.

    Args:
        batch_size: Patches of a batch.
        devices: Devices to choose from; all of all hosts when ``None``.

    Returns:
        All of them on several hosts; on a single one the most whose number divides the batch.

    Raises:
        InputError: There are several hosts, and their devices cannot share a batch evenly.

    Warns:
        UserWarning: Some devices are left without work; the message says which batch uses all.

    Example:
        >>> choose_devices(4, devices=jax.devices()[:1]).count
        1
    """
    found = list(jax.devices() if devices is None else devices)
    count = max(n for n in range(1, len(found) + 1) if batch_size % n == 0)
    if count < len(found) and jax.process_count() > 1:
        raise InputError(
            f"batch_size {batch_size}: {len(found)} devices on {jax.process_count()} hosts cannot "
            f"share it evenly; give a multiple of {len(found)}"
        )
    if count < len(found):
        warnings.warn(
            f"batch_size {batch_size}: {count} of {len(found)} devices are used; "
            f"{math.ceil(batch_size / len(found)) * len(found)} would use all",
            stacklevel=2,
        )
    return Devices(Mesh(np.array(found[:count]), ("batch",)))


def connect_hosts(
    address: str | None = None, *, hosts: int | None = None, index: int | None = None
) -> None:
    """Let this process and those on other hosts train together.

    Call it before anything else of JAX, in every process. Under Slurm, Open MPI and on cloud TPUs
    and Kubernetes, JAX finds out everything by itself.

    Args:
        address: ``host:port`` of the process with index 0, reachable from all.
        hosts: Number of processes.
        index: Which of them this one is, from 0.

    Raises:
        InputError: JAX cannot tell who takes part, or the others cannot be reached.

    Example:
        >>> connect_hosts("node7:8476", hosts=2, index=0)  # needs two hosts  # doctest: +SKIP

    Source:
        https://docs.jax.dev/en/latest/multi_process.html
    """
    given = [value is not None for value in (address, hosts, index)]
    if any(given) and not all(given):
        raise InputError("several hosts: give address, number of hosts and index, or none of them")
    try:
        jax.distributed.initialize(address, num_processes=hosts, process_id=index)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"several hosts cannot be connected: {reason}") from error


def is_first_host() -> bool:
    """Say whether this process is the one that writes files and shows progress."""
    return jax.process_index() == 0


def share_first(tree: PyTree, text: str) -> tuple[PyTree, str]:
    """Give every host the arrays and the text of the first one.

    Args:
        tree: Arrays; on the other hosts, ones of the same shapes and types.
        text: Any text; that of the other hosts is ignored.
    """
    if jax.process_count() == 1:
        return tree, text
    from jax.experimental.multihost_utils import broadcast_one_to_all

    letters = np.frombuffer(text.encode(), np.uint8)
    size = int(broadcast_one_to_all(np.asarray(len(letters), np.int32)))
    letters = np.resize(letters, size) if size else np.zeros(0, np.uint8)
    tree = broadcast_one_to_all(jax.tree.map(np.asarray, tree))
    return tree, bytes(np.asarray(broadcast_one_to_all(letters), np.uint8)).decode()


def gather_floats(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "host ..."]:
    """Collect an array of every host, all of one shape, to the last bit.

    Example:
        >>> gather_floats(np.array([0.1, 0.2])).tolist()
        [[0.1, 0.2]]
    """
    from jax.experimental.multihost_utils import process_allgather

    words = np.ascontiguousarray(values).view(np.uint32)  # JAX would round 64 bits to 32
    found = np.asarray(process_allgather(words)).reshape(jax.process_count(), *words.shape)
    return np.ascontiguousarray(found).view(np.float64)
