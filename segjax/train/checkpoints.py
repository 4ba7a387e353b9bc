"""Snapshots of a training, whole or not there at all."""

import contextlib
import copy
import json
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from segjax.errors import InputError
from segjax.files import disk_errors
from segjax.runs.folder import RunFolder

State = TypeVar("State")
Which = Literal["best", "last"]
Variables = dict[str, Any]


class _Contents(NamedTuple):
    """What one checkpoint holds, as it was read and found whole."""

    arrays: dict[tuple[str, ...], np.ndarray]
    meta: dict[str, Any]
    best_step: int | None


class Checkpoints:
    """The checkpoints of one training: the newest two and the best one.

    All arrays of a state travel as one vector of bytes with an index, since hundreds of small
    files would take ten times longer. A checkpoint counts only once Orbax has renamed its
    folder, and only while the checksum of its arrays holds: after a crash, a full disk or a
    damaged file, the one before it is used.

    A thread of its own writes, since Orbax's start only once folders are made and the state is
    copied a second time. What it fails at is told by what is asked next of the checkpoints, by
    :meth:`close` at the latest; a process that ends without that gives up what is not written.

    Args:
        folder: Folder of the checkpoints, made if absent.

    Example:
        >>> state = {"weights": jnp.ones(3)}
        >>> with Checkpoints(Path("checkpoints")) as checkpoints:
        ...     checkpoints.save(100, state, {"epoch": 4}, best=True)
        ...     state, meta = checkpoints.restore_last(state)
        >>> meta["epoch"]
        4

    Source:
        https://orbax.readthedocs.io, ``CheckpointManager``.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._policy = _NewestAndBest()
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        with _quiet(), disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(
                folder,
                create=False,
                cleanup_tmp_directories=True,
                preservation_policy=self._policy,
            )

    def save(
        self,
        step: int,
        state: Any,
        meta: dict[str, Any],
        *,
        best: bool = False,
        keep_former: bool = False,
    ) -> None:
        """Copy a state, and leave it to a thread to write it and to remove what is not needed.

        Args:
            step: Number of steps that the state has seen; one that is already saved is replaced.
            state: Pytree of arrays.
            meta: JSON values to keep beside it.
            best: Whether this is the best state so far.
            keep_former: Keep the best state before this one too, so that
                :meth:`restore_last` can go back behind it.

        Raises:
            InputError: The disk was full or not writable at the last call.
        """
        self._wait()
        self._policy.former = self._policy.best if keep_former else None
        self._policy.best = step if best else self._policy.best
        vector, index = _pack(state)
        content = {"best_step": self._policy.best, "index": index, "meta": copy.deepcopy(meta)}
        self._writing = self._writer.submit(self._write, step, vector, content)

    def restore_last(
        self, template: State, *, before: int | None = None
    ) -> tuple[State, dict[str, Any]] | None:
        """Read the newest whole checkpoint and forget all that are newer.

        Args:
            template: Pytree of arrays, or of their shapes and types, with the wanted structure.
            before: Read the newest one before this step; ``None``: of all.

        Returns:
            The state and what was saved beside it; ``None`` where nothing was saved.

        Raises:
            InputError: The checkpoint is of another network or optimizer, or the last one was not
                written.

        Warns:
            UserWarning: A damaged checkpoint was passed over.
        """
        self._wait()
        steps = sorted(self._manager.all_steps(), reverse=True)
        for newer, step in enumerate(steps):
            if before is not None and step >= before:
                continue
            if (contents := self._read_or_warn(step)) is not None:
                self._forget(steps[:newer])
                self._policy.best = contents.best_step
                return _unpack(contents.arrays, template, self._folder / str(step)), contents.meta
        self._forget(steps)
        return None

    def restore_best(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """Read the best checkpoint, as :meth:`restore_last` reads the newest one.

        Raises:
            InputError: The best checkpoint is damaged, or of another network or optimizer, or the
                last one was not written.
        """
        self._wait()
        if self._policy.best is None:
            return None
        contents = _read(self._manager, self._folder, self._policy.best)
        path = self._folder / str(self._policy.best)
        return _unpack(contents.arrays, template, path), contents.meta

    def close(self) -> None:
        """Wait for what is still being written or removed.

        Raises:
            InputError: The disk was full or not writable.
        """
        try:
            self._wait()
        finally:
            self._writer.shutdown()
            with _quiet():
                self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Close; where another error is on its way, one of writing becomes a note of it.

        Ctrl-C is none: who presses it counts on the checkpoint.
        """
        try:
            self.close()
        except Exception as late:
            if error is None or isinstance(error, KeyboardInterrupt):
                raise
            error.add_note(str(late))

    def _write(self, step: int, vector: "_Bytes", content: dict[str, Any]) -> None:
        from orbax.checkpoint import args

        content["checksum"] = _checksum(vector, content)
        items = args.Composite(arrays=args.ArraySave(vector), content=args.JsonSave(content))
        with _unlogged(), disk_errors(self._folder):
            if step in self._manager.all_steps():
                self._forget([step])
            self._manager.save(step, args=items, force=True)

    def _wait(self) -> None:
        """Wait for the thread; raise what it came to."""
        if (writing := self._writing) is not None:
            wait([writing])
            self._writing = None
            writing.result()

    def _read_or_warn(self, step: int) -> _Contents | None:
        try:
            return _read(self._manager, self._folder, step)
        except InputError as error:
            warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=3)
            return None

    def _forget(self, steps: Sequence[int]) -> None:
        """Remove checkpoints, so that their steps can be saved again."""
        with _unlogged():
            for step in steps:
                self._manager.delete(step)


def load_variables(run: Path, which: Which = "best") -> Variables:
    """Read the variables of a trained network.

    Args:
        run: The run's folder.
        which: ``"best"`` by validation Dice (the newest where nothing was validated yet), or
            ``"last"``.

    Returns:
        ``{"params": …, "batch_stats": …}`` with NumPy arrays, moving averages where the training
        keeps them (``ema``); no ``"batch_stats"`` where the network has none.

    Raises:
        InputError: The run has no such checkpoint, or it is damaged.

    Example:
        >>> sorted(load_variables(Path("run")))
        ['batch_stats', 'params']
    """
    folder = RunFolder(run).checkpoints
    if not folder.is_dir():
        raise InputError(f"{run}: holds no checkpoints; is it the folder of a training?")
    with _quiet():
        manager = _manager(folder, read_only=True)
        contents = _newest_whole(manager, folder)
        if which == "best" and contents.best_step is not None:
            contents = _read(manager, folder, contents.best_step)
        manager.close()
    return _variables(contents.arrays)


def _newest_whole(manager: Any, folder: Path) -> _Contents:
    for step in sorted(manager.all_steps(), reverse=True):
        with contextlib.suppress(InputError):
            return _read(manager, folder, step)
    raise InputError(f"{folder}: no whole checkpoint yet; let the training go on for a while")


def _variables(arrays: dict[tuple[str, ...], np.ndarray]) -> Variables:
    """Return the averages where there are any, else what the last step made."""
    averages = {path[1:]: array for path, array in arrays.items() if path[0] == "average"}
    variables: Variables = {}
    for path, array in (averages or arrays).items():
        if path[0] in ("params", "batch_stats"):
            inner = variables
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = array
    return variables


@dataclass
class _NewestAndBest:
    """Orbax's preservation policy: keep the newest two checkpoints and the best one.

    Two, so that one is left where the newest turns out to be damaged. The best one of before is
    kept where the newest may be given up.
    """

    best: int | None = None
    former: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = [checkpoint.step for checkpoint in checkpoints[-2:]]
        return [item.step in (*newest, self.best, self.former) for item in checkpoints]


def _manager(folder: Path, **options: Any) -> Any:
    import orbax.checkpoint as ocp

    handlers = {"arrays": ocp.ArrayCheckpointHandler(), "content": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(
        folder.absolute(),
        item_handlers=handlers,
        options=ocp.CheckpointManagerOptions(
            enable_async_checkpointing=False, multiprocessing_options=_alone(), **options
        ),
    )


def _alone() -> Any:
    """Let Orbax wait for no other host: one host writes, and it holds the whole state."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own,
        active_processes={own} if jax.process_count() > 1 else None,
        barrier_sync_key_prefix=f"host{own}" if jax.process_count() > 1 else None,
    )


def _read(manager: Any, folder: Path, step: int) -> _Contents:
    """Read one checkpoint and compare its checksum."""
    from orbax.checkpoint import RestoreArgs, args

    arrays = args.ArrayRestore(restore_args=RestoreArgs(restore_type=np.ndarray))
    try:
        with _quiet():
            items = manager.restore(
                step, args=args.Composite(arrays=arrays, content=args.JsonRestore())
            )
        vector, content = items.arrays, dict(items.content)
        if content.pop("checksum") != _checksum(vector, content):
            raise ValueError("its checksum is wrong")
        found = _split(vector, content["index"])
        return _Contents(found, content["meta"], content["best_step"])
    except Exception as error:  # Orbax lets many kinds through for what is not there or cut short
        reason = str(error).partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{folder / str(step)}: damaged checkpoint ({reason})") from error


class _Bytes(np.ndarray):
    """Bytes that nobody changes any more: Orbax, which copies what it writes, need not."""

    def __deepcopy__(self, _: object) -> "_Bytes":
        return self


def _pack(state: Any) -> tuple[_Bytes, list[dict[str, Any]]]:
    """Copy all arrays of a pytree end to end; say in the index which is where."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for _, leaf in leaves:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    vector = np.empty(sum(leaf.nbytes for _, leaf in leaves), np.uint8)
    index, start = [], 0
    for path, leaf in leaves:
        array = np.asarray(leaf)
        index.append({"path": _names(path), "dtype": array.dtype.name, "shape": list(array.shape)})
        stop = start + array.nbytes
        vector[start:stop].view(array.dtype).reshape(array.shape)[...] = array
        start = stop
    return vector.view(_Bytes), index


def _names(path: Sequence[Any]) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _split(
    vector: UInt8[np.ndarray, " byte"], index: list[dict[str, Any]]
) -> dict[tuple[str, ...], np.ndarray]:
    arrays, start = {}, 0
    for entry in index:
        shape, dtype = tuple(entry["shape"]), jnp.dtype(entry["dtype"])
        stop = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        arrays[tuple(entry["path"])] = vector[start:stop].copy().view(dtype).reshape(shape)
        start = stop
    return arrays


def _unpack(arrays: dict[tuple[str, ...], np.ndarray], template: State, path: Path) -> State:
    """Put arrays into the template's structure, as JAX arrays of their own memory."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [tuple(_names(key)) for key, _ in leaves]
    if set(names) != set(arrays):
        example = "/".join(min(set(names) ^ set(arrays)))
        raise InputError(f"{path}: of another network or optimizer (only one has {example})")
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            raise InputError(
                f"{path}: of another network or optimizer ({'/'.join(name)} is "
                f"{arrays[name].dtype}{list(arrays[name].shape)}, not "
                f"{leaf.dtype}{list(leaf.shape)})"
            )
    return jax.tree_util.tree_unflatten(structure, [jnp.array(arrays[name]) for name in names])


def _checksum(vector: UInt8[np.ndarray, " byte"], content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode(), zlib.crc32(vector.data))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Orbax's log lines and warnings, which say nothing to a user."""
    with _unlogged(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Hold back Orbax's log lines, in all threads and for as many of them as ask for it."""
    logger = logging.getLogger("absl")

    def is_fatal(record: logging.LogRecord) -> bool:
        return record.levelno > logging.ERROR

    logger.addFilter(is_fatal)
    try:
        yield
    finally:
        logger.removeFilter(is_fatal)
