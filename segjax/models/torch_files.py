"""Read the weights that PyTorch and others leave in files; say what a file holds instead."""

import json
import pickletools
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from segjax.errors import InputError
from segjax.files import reading

__all__ = ["SUFFIXES", "read_state_dict"]

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""Suffixes of files that hold weights."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network_weights")
_SHOWN = 4  # names in a message
_HOW = "load it with PyTorch and torch.save(network.state_dict(), …)"
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip

State = dict[str, Shaped[np.ndarray, "..."]]


def read_state_dict(path: str | Path) -> State:
    """Read the weights of a network, by name.

    A state dict may lie in a dictionary of a training, under ``state_dict``,
    ``model_state_dict``, ``model`` or ``network_weights``.

    Args:
        path: What ``torch.save`` wrote of a state dict (``.pt``, ``.pth``, ``.ckpt``, ``.bin``),
            which takes PyTorch to read, or a ``.safetensors`` file, which takes none.

    Returns:
        Name -> array, float32 where the file has fractions.

    Raises:
        InputError: PyTorch is missing, or the file is no state dict: the message says what it is,
            a pickled network, a TorchScript archive or something else, and what to do.

    Example:
        >>> list(read_state_dict("weights.pt"))[:2]  # needs PyTorch  # doctest: +SKIP
        ['model.0.conv.weight', 'model.0.conv.bias']
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: is no file of weights; known are {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    _refuse_others(path)
    content = _load(path)
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return _arrays(path, content)


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{path}: reading it needs PyTorch: pip install torch") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and PyTorch each have errors of their own
        reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])[:120]
        raise InputError(f"{path}: cannot be read as weights of PyTorch ({reason})") from error


def _arrays(path: Path, content: Any) -> State:
    import torch

    found = type(content).__name__
    if isinstance(content, Mapping):
        others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
        if content and not others:
            return {name: _array(path, name, tensor) for name, tensor in content.items()}
        found = _listed(others) or "nothing"
    raise InputError(f"{path}: holds no state dict, from names to tensors, but {found}: {_HOW}")


def _array(path: Path, name: str, tensor: Any) -> np.ndarray:
    try:
        dense = tensor.detach().to_dense()
        return (dense.float() if dense.is_floating_point() else dense).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # quantized, or without data
        kind = f"{tensor.dtype} on the device {tensor.device}"
        raise InputError(
            f"{path}: {name} is {kind}, which holds no plain numbers: {_HOW}"
        ) from error


def _refuse_others(path: Path) -> None:
    """Say what an archive is that holds more than tensors and numbers; nothing in it is run."""
    with reading(path) as stream:
        if not zipfile.is_zipfile(stream):  # older files, which PyTorch itself judges
            return
        try:
            names, pickles = _contents(stream)
            classes = _classes(pickles)
        except (ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: is damaged ({error}); fetch it again") from error
    if any(name.endswith("constants.pkl") for name in names):
        raise InputError(
            f"{path}: is a TorchScript archive, a network as code: save the weights in it by "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), …)"
        )
    if others := [name for name in classes if _is_foreign(name)]:
        whole = _is_foreign(classes[0])
        what = "is a whole network, pickled" if whole else "holds more than weights"
        raise InputError(f"{path}: {what} ({others[0]}{_origin(pickles)}): {_HOW}")


def _contents(stream: BinaryIO) -> tuple[list[str], list[bytes]]:
    """Return the names of an archive's files, and those files that say what it holds."""
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        return names, [archive.read(name) for name in names if name.endswith("data.pkl")]


def _classes(pickles: Iterable[bytes]) -> list[str]:
    """Return what pickles would import, in order."""
    codes = chain.from_iterable(map(pickletools.genops, pickles))
    return [str(name).replace(" ", ".") for code, name, _ in codes if code.name == "GLOBAL"]


def _is_foreign(name: str) -> bool:
    known = name.partition(".")[0] in ("torch", "collections", "numpy", "_codecs", "builtins")
    return name.startswith("torch.nn.modules.") or not known


def _origin(pickles: Sequence[bytes]) -> str:
    lightning = any(b"pytorch-lightning_version" in pickle for pickle in pickles)
    return ", in a Lightning checkpoint" if lightning else ""


def _read_safetensors(path: Path) -> State:
    """Read the format of https://huggingface.co/docs/safetensors: a header in JSON, then bytes."""
    with reading(path) as stream:
        content = stream.read()
    try:
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        header.pop("__metadata__", None)
        body = memoryview(content)[end:]
        return {name: _tensor(entry, body) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is no whole .safetensors file ({error})") from error


def _tensor(entry: Mapping[str, Any], content: memoryview) -> np.ndarray:
    (start, stop), kind, shape = entry["data_offsets"], entry["dtype"], tuple(entry["shape"])
    if not 0 <= start <= stop <= len(content) or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape} at {start} to {stop} of {len(content)} bytes")
    data = np.frombuffer(content[start:stop], _TYPES[kind]).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        return (data.astype("<u4") << 16).view("<f4")
    return data.astype(np.float32) if data.dtype.kind == "f" else data


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
