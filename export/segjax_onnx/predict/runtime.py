"""Open ONNX files with onnxruntime, and say in one line what is wrong with them."""

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.extras import how_to_install, needed_for
from segjax.machine import cores
from segjax_onnx.predict.digest import checked

CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_DEVICES = {"cpu": CPU, "cuda": _CUDA}
_GPU_WHEEL = "onnxruntime-gpu"
# TF32 would round what is convolved to 10 bits: masks would differ from those of a CPU.
# HEURISTIC, cuDNN's mode A, finds kernels as fast as the default does, mode B, and is quicker to
# plan a convolution, which is done anew whenever the shape of the batch changes
# (github.com/microsoft/onnxruntime/issues/22705, github.com/PaddlePaddle/PaddleX/pull/5057).
_OPTIONS = {_CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}}
_FATAL_ONLY = 4  # what fails is told by exceptions, in one line


def open_session(
    source: str | Path | bytes,
    *,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    optimize: bool = True,
) -> Any:
    """Open a network.

    Args:
        source: An ONNX file, or its bytes.
        threads: Threads for one operation; by default one per core that this process may use.
        providers: onnxruntime's execution providers, or ``"cpu"`` and ``"cuda"``; by default CUDA
            where there is one, then the CPU.
        optimize: Whether the network will run; without, opening is faster.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        InputError: If onnxruntime is missing, the file is missing or no ONNX network, or a
            provider is unknown; or as :func:`segjax_onnx.predict.digest.checked`.

    Warns:
        UserWarning: A GPU cannot be used: the provider does not start, or onnxruntime-gpu lost
            its files to onnxruntime, which owns the same module.
    """
    onnxruntime = _import_onnxruntime()
    name = "the network" if isinstance(source, bytes) else str(source)
    model = checked(source, name)
    chosen = [(p, _OPTIONS.get(p, {})) for p in _choose_providers(onnxruntime, providers)]
    options = _session_options(onnxruntime, threads, optimize)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # onnxruntime prints that it falls back
            session = onnxruntime.InferenceSession(model, options, providers=chosen)
        session.disable_fallback()  # of its runs, which prints: `Network.run` warns
        session.get_modelmeta().custom_metadata_map  # noqa: B018  # decodes its texts
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise InputError(f"{name}: no ONNX network ({first_line(error)})") from error
    _warn_of_fallback([provider for provider, _ in chosen], session.get_providers())
    return session


def _warn_of_fallback(wanted: Sequence[str], found: Sequence[str]) -> None:
    missing = [provider for provider in wanted if provider not in found]
    if missing:
        warnings.warn(f"{missing[0]} could not start: using {found[0]}", stacklevel=4)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _import_onnxruntime() -> Any:
    with needed_for("running a network"):
        import onnxruntime
    if not hasattr(onnxruntime, "InferenceSession"):  # of two packages one was removed
        raise InputError(f"onnxruntime has lost files: {_how_to_repair()}")
    return onnxruntime


def _how_to_repair() -> str:
    """Return the command that brings back the files of a package of onnxruntime."""
    for name in (_GPU_WHEEL, "onnxruntime"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.version(name)
            return f"pip install --force-reinstall --no-deps {name}=={installed}"
    return how_to_install("runtime")


@functools.cache
def _warn_of_lost_gpu() -> None:
    """Tell, once, that onnxruntime was installed over onnxruntime-gpu, if it was."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.version(_GPU_WHEEL)
        warnings.warn(
            f"networks run on the CPU: onnxruntime was installed over the files of {_GPU_WHEEL}; "
            f"to run them on the GPU: {_how_to_repair()}",
            stacklevel=5,
        )


def _session_options(onnxruntime: Any, threads: int | None, optimize: bool) -> Any:
    if threads is not None and threads < 1:
        raise InputError(f"threads = {threads}: give a number of at least 1")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    if _share_arena(onnxruntime):
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads or _usable_cores()
    if not optimize:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    return options


def freeing() -> Any:
    """Return options of a run after which the arena of the CPU gives back what it does not use."""
    options = _import_onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


@functools.cache
def _share_arena(onnxruntime: Any) -> bool:
    """Let all networks of this process take their memory from one arena, if that is possible.

    The stages of one network, and the networks of an ensemble, run one after another.
    """
    try:
        cpu = onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        )
        onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg({}))
    except Exception:  # another part of the process has one, or this runtime knows none
        return False
    return True


def _usable_cores() -> int:
    """Return how many cores this process may use, or 0 (onnxruntime decides) if that is all."""
    usable = cores()
    return 0 if usable == os.cpu_count() else usable


def usable_threads(threads: int | None) -> int:
    """Return a number of threads; by default one per core that this process may use."""
    return threads or cores()


def _choose_providers(onnxruntime: Any, wanted: Sequence[str] | None) -> list[str]:
    available = onnxruntime.get_available_providers()
    if wanted is None:
        chosen = [p for p in (_CUDA, CPU) if p in available]
    else:
        chosen = [_DEVICES.get(name, name) for name in wanted]
    unknown = sorted(set(chosen) - set(available))
    if unknown or not chosen:
        raise InputError(f"providers = {chosen}: this onnxruntime has {', '.join(available)}")
    if _CUDA in chosen:
        _load_cuda(onnxruntime)
    elif wanted is None:
        _warn_of_lost_gpu()
    return chosen


def _load_cuda(onnxruntime: Any) -> None:
    """Load the CUDA libraries that pip installed; what is missing shows when a session opens."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
