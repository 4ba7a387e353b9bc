"""The page's modules, called in Node.js."""

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WEB = Path(__file__).parents[2] / "export" / "web"


class PageProblem(Exception):  # noqa: N818  # what the page calls it
    """What the page tells people: the key of a text, and its values."""

    def __init__(self, key: str, values: dict[str, Any]) -> None:
        super().__init__(f"{key} {values}")
        self.key, self.values = key, values


@dataclass(frozen=True)
class DroppedFile:
    """A file as a browser hands it on."""

    name: str
    content: bytes


class PageModules:
    """A process of Node.js that calls functions of ``export/web/src``.

    Arrays go as typed arrays, bytes as an ``ArrayBuffer``, :class:`DroppedFile` as a ``File``;
    typed arrays come back as flat arrays of NumPy.
    """

    def __init__(self, program: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(["node", str(program)], **pipes)

    def call(self, function: str, *args: Any) -> Any:
        """Call ``module.name``, as ``prepare/intensity.zScore``, and return what it returns."""
        module, _, name = function.rpartition(".")
        line = json.dumps({"module": module, "name": name, "args": _encoded(args)})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if error := answer.get("error"):
            if error.get("key"):
                raise PageProblem(error["key"], error["values"])
            raise RuntimeError(error["stack"])
        return _decoded(answer["result"])

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=30)


_NAMES = {
    "float32": "Float32Array", "float64": "Float64Array", "uint8": "Uint8Array",
    "uint16": "Uint16Array", "int16": "Int16Array", "int32": "Int32Array",
}  # fmt: skip


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"$": _NAMES[str(value.dtype)], "base64": _base64(value.tobytes())}
    if isinstance(value, bytes):
        return {"$": "bytes", "base64": _base64(value)}
    if isinstance(value, DroppedFile):
        return {"$": "file", "name": value.name, "base64": _base64(value.content)}
    if isinstance(value, dict):
        return {key: _encoded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$" in value:
        names = {name: dtype for dtype, name in _NAMES.items()}
        return np.frombuffer(base64.b64decode(value["base64"]), names[value["$"]])
    return {key: _decoded(one) for key, one in value.items()}
