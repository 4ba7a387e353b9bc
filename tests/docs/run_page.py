"""Run the code of a page, block after block, in the current folder.

Lines of ``sh`` blocks that begin with ``segjax`` run in this process, others in bash; ``python``
blocks share one namespace, ``pycon`` blocks are doctests in it, ``json`` and ``toml`` must parse.
Trainings take one epoch of small patches, sweeps at most two values of each axis. A block after
the line ``<!-- not run: why -->`` or ``<!-- test command -->`` is left out; ``<!-- file: NAME -->``
also writes the block to a file.
"""

import doctest
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import segjax.train._fit
from segjax.cli import main

BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<kind>not run|file|test command)(?:: (?P<said>.+?))? -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
AXES = ("--kernel", "--alpha", "--seed")


class Block(NamedTuple):
    """Code of a page.

    Attributes:
        line: Its first line in the page.
        language: What the fence says.
        code: The code, without the indent of the fence.
        reason: Why it is not run; None where it is.
        file: Name of the file that it shows; None where it is none.
    """

    line: int
    language: str
    code: str
    reason: str | None
    file: str | None


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page."""
    found = []
    for match in BLOCK.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text[: match.start("code")].count("\n") + 1
        said = {match["kind"]: match["said"] or "the gate runs it"}
        reason = said.get("not run", said.get("test command"))
        found.append(Block(line, match["language"], code, reason, said.get("file")))
    return found


def run_page(page: Path) -> None:
    """Run all blocks of a page; raise at the first that fails."""
    segjax.train._fit.fit = _short(segjax.train._fit.fit)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.code, encoding="utf-8")
        elif block.reason is None:
            _run(block, page.name, names)


def _run(block: Block, page: str, names: dict[str, Any]) -> None:
    print(f"--- {page}:{block.line} {block.language}", flush=True)
    if block.language == "python":
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, page, "exec"), names)
    elif block.language == "pycon":
        test = doctest.DocTestParser().get_doctest(block.code, names, page, page, block.line - 1)
        if doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed:
            raise AssertionError(f"{page}:{block.line}")
        names.update(test.globs)
    elif block.language == "sh":
        for line in block.code.replace("\\\n", " ").splitlines():
            _command(line, f"{page}:{block.line}")
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)


def _command(line: str, place: str) -> None:
    words = shlex.split(line, comments=True)
    if words[:1] == ["segjax"] and not {"|", ">", "&&", ";", "&"} & set(words):
        print("$", line, flush=True)
        code = main(_shortened(words[1:]))
    else:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        shell = ["bash", "-euo", "pipefail", "-c", line]
        code = subprocess.run(shell, env=os.environ | {"PATH": path}, check=False).returncode
    if code != 0:
        raise AssertionError(f"{place}: exit code {code}: {line}")


def _shortened(words: list[str]) -> list[str]:
    if words[:1] != ["sweep"] or "--figures-only" in words:
        return words
    kept, axis, values = [], "", 0
    for word in words:
        values = values + 1 if not word.startswith("-") else 0
        axis = word if word.startswith("-") else axis
        if axis not in AXES or values <= 2:
            kept.append(word)
    for name, value in zip(AXES, ("3", "0.5", "0"), strict=True):
        kept += [] if name in kept else [name, value]
    return [*kept, "--epochs", "1", "--patch-size", "32", "32"]


def _short(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Return fit for one epoch of small patches, whose programs the pages share."""

    def fit_one_epoch(config: Any, *args: Any, **options: Any) -> Any:
        size = 16 if len(config.patch_size) == 3 else 32
        patch = tuple(min(voxels, size) for voxels in config.patch_size)
        small = replace(config, epochs=1, batch_size=2, patch_size=patch)
        return fit(small, *args, **options)

    return fit_one_epoch


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
