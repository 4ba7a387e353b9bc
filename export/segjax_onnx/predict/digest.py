"""A seal on ONNX files: what was changed on the way, or reads from outside, is not run.

The last bytes of a sealed file are one entry of its metadata, the SHA-256 of all bytes before. To
every other reader it is an ONNX file with one more entry.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import InputError
from segjax_onnx.predict.wire import fields

KEY = "segjax-digest"
"""The name under which the file's metadata hold the digest, in hexadecimal digits."""

_DIGITS = hashlib.sha256().digest_size * 2
# metadata_props is field 14 of a ModelProto; key and value are fields 1 and 2 of an entry.
_ENTRY = b"\x0a" + bytes([len(KEY)]) + KEY.encode() + b"\x12" + bytes([_DIGITS])
_HEAD = b"\x72" + bytes([len(_ENTRY) + _DIGITS]) + _ENTRY
_LENGTH = len(_HEAD) + _DIGITS


def sealed(model: bytes) -> bytes:
    """Append the digest of an ONNX file to it.

    Example:
        >>> check(sealed(b""), "model.onnx")
        >>> check(sealed(b"")[:-1] + b"0", "model.onnx")
        Traceback (most recent call last):
            ...
        segjax.errors.InputError: model.onnx: is not what was exported, some of its bytes were \
changed: copy it anew from where it came from, or export it again
    """
    return model + _HEAD + hashlib.sha256(model).hexdigest().encode()


def checked(source: str | Path | bytes, name: str) -> bytes:
    """Return the bytes of an ONNX file, if they are those that were sealed and all that it needs.

    Files without a digest, of earlier versions, pass.

    Args:
        source: The file, which is read once, or its bytes.
        name: Of the file, for messages.

    Raises:
        InputError: The file cannot be read, is no ONNX file, has another digest than its own, or
            keeps weights in other files.
    """
    model = source if isinstance(source, bytes) else _read(Path(source), name)
    check(model, name)
    return model


def _read(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise InputError(f"{name}: no such file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error


def check(model: bytes, name: str) -> None:
    """Refuse the bytes of an ONNX file, as :func:`checked`."""
    if _seems_sealed(model) and sealed(model[:-_LENGTH]) != model:
        raise InputError(
            f"{name}: is not what was exported, some of its bytes were changed: copy it anew from "
            "where it came from, or export it again"
        )
    try:
        outside = any(_outside(memoryview(model), "model"))
    except ValueError as error:
        raise InputError(f"{name}: no ONNX network, or a damaged one") from error
    if outside:
        raise InputError(
            f"{name}: keeps weights in other files, which segjax does not read: save it whole, as "
            "onnx.save does by default"
        )


def _seems_sealed(model: bytes) -> bool:
    """Say whether a digest is there, or a damaged one at the end."""
    same = sum(a == b for a, b in zip(model[-_LENGTH:], _HEAD, strict=False))
    return 2 * same > len(_HEAD) or KEY.encode() in model


# Which fields of ONNX's messages hold messages on the way to a tensor.
_INNER = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_DEEPEST = 64  # messages in one another: those of a network of segjax are four


def _outside(part: memoryview, kind: str, depth: int = 0) -> Iterator[bool]:
    """Yield True for every tensor of a serialised message whose data lie in another file."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    for field, value in fields(part):
        if kind == "tensor":
            yield field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)
        elif (inner := _INNER[kind].get(field)) is not None:
            if isinstance(value, int):
                raise ValueError("a number for a message")
            yield from _outside(value, inner, depth + 1)
