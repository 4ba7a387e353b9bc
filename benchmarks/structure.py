"""Measure how a checkout is built: folders, functions, public names, circles, what commands load.

    python benchmarks/structure.py [TREE] [--python .venv/bin/python] [--json FILE] [--static]

Needs the standard library alone, and nothing of the tree but its command line and
``segjax.data.write_dataset``. Commands run for real, on heads that are made on the spot, with the
tree's code before any that is installed.

Two numbers tell how tangled a function is. ``branches`` is McCabe's number as ruff's C901 counts
it: 1, and 1 for each if, loop, except, case and nested function. ``decisions`` also counts ``and``
and ``or``, conditional expressions, comprehensions and their conditions, as radon does.

A circle is a set of modules of which each leads to each other by imports, those within functions
included, those for type checkers not.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = {"segjax": "segjax", "segjax_onnx": "export/segjax_onnx"}
LONG, TANGLED = 50, 10  # lines and decisions over which a function asks for a second look
LOOPS = (ast.For, ast.AsyncFor, ast.While)
DECISIONS = (*LOOPS, ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case)
STARTS = 10  # of Python, of which the fastest counts
LOADED = """
import atexit, json, os, runpy, sys
tree, out, *argv = sys.argv[1:]
def count():
    files = {getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())
             if name.partition(".")[0] in ("segjax", "segjax_onnx")}
    inside = sorted(os.path.relpath(file, tree) for file in files if file.startswith(tree + os.sep))
    with open(out, "w") as stream:
        json.dump(inside, stream)
atexit.register(count)
if argv:
    sys.argv = ["segjax", *argv]
    runpy.run_module("segjax", run_name="__main__", alter_sys=True)
else:
    import segjax
"""
EXPORTED = """
import importlib, json, pkgutil, sys
names = {}
for root in ("segjax", "segjax_onnx"):
    package = importlib.import_module(root)
    found = [m.name for m in pkgutil.walk_packages(package.__path__, root + ".") if m.ispkg]
    for name in (root, *found):
        module = importlib.import_module(name)
        names[name] = sorted(set(getattr(module, "__all__", ())))
json.dump(names, sys.stdout)
"""
HEADS = """
import sys
from segjax.data import write_dataset
write_dataset(sys.argv[1], count=4, shape=(32, 32, 32))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--python", default=sys.executable, help="with what the tree needs")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--static", action="store_true", help="run nothing of the tree")
    parser.add_argument("--machine", default="", help="a few words on it, for the results")
    options = parser.parse_args()
    tree = options.tree.resolve()
    sources = dict(read_sources(tree))
    results: dict[str, Any] = {
        "machine": options.machine,
        "folders": folders(sources),
        "functions": functions(sources),
        "circles": circles(sources),
    }
    if not options.static:
        results |= running(tree, options.python)
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read_sources(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the path in the tree and the text of every module."""
    for folder in PACKAGES.values():
        for path in sorted((tree / folder).rglob("*.py")):
            yield path.relative_to(tree).as_posix(), path.read_text(encoding="utf-8")


def folders(sources: dict[str, str]) -> dict[str, Any]:
    """Count files and lines; a folder's own lines are those of its files, without subfolders."""
    lines = {path: len(text.splitlines()) for path, text in sources.items()}
    code = {path: code_lines(text) for path, text in sources.items()}
    own: Counter[str] = Counter()
    deep: Counter[str] = Counter()
    for path, count in lines.items():
        own[str(Path(path).parent)] += count
        deep.update({str(folder): count for folder in Path(path).parents if str(folder) != "."})
    total, largest = sum(lines.values()), max(own, key=lambda folder: own[folder])
    return {
        "files": len(lines),
        "lines": total,
        "code_lines": sum(code.values()),
        "largest": largest,
        "largest_share": round(own[largest] / total, 4),
        "own": dict(own.most_common()),
        "with_subfolders": dict(deep.most_common()),
    }


def code_lines(text: str) -> int:
    """Count the lines that hold more than a blank, a comment or a docstring."""
    lines = text.splitlines()
    plain = {n for n, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            plain -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(plain)


def functions(sources: dict[str, str]) -> dict[str, Any]:
    """Measure every function: lines without its docstring, branches and decisions."""
    rows = [
        (f"{path}:{node.lineno} {node.name}", body_lines(node), branches(node), decisions(node))
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    def over(column: int, limit: int) -> dict[str, int]:
        found = sorted((row for row in rows if row[column] > limit), key=lambda row: -row[column])
        return {row[0]: row[column] for row in found}

    return {
        "number": len(rows),
        "median_lines": median(row[1] for row in rows),
        "over_50_lines": over(1, LONG),
        "over_10_branches": over(2, TANGLED),
        "over_10_decisions": over(3, TANGLED),
    }


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def branches(node: ast.AST) -> int:
    """Return McCabe's number of a function, as ruff's C901."""
    count = 1
    for part in ast.walk(node):
        if isinstance(part, (*LOOPS, ast.If, ast.ExceptHandler)):
            count += 1
        elif isinstance(part, ast.Try | ast.TryStar):
            count += bool(part.orelse)
        elif isinstance(part, ast.Match):
            count += len(part.cases) - irrefutable(part.cases[-1])
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            count += part is not node
    return count


def irrefutable(case: ast.match_case) -> bool:
    plain = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
    return plain and case.guard is None


def decisions(node: ast.AST) -> int:
    """Return McCabe's number with what expressions decide."""
    count = 1
    for part in ast.walk(node):
        if isinstance(part, ast.BoolOp):
            count += len(part.values) - 1
        elif isinstance(part, ast.comprehension):
            count += 1 + len(part.ifs)
        elif isinstance(part, DECISIONS):
            count += 1
    return count


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Return the sets of modules that import each other, the largest first."""
    modules = {module_name(path): path for path in sources}
    arrows = {
        name: {
            found
            for target in imports(name, path, ast.parse(sources[path]))
            if (found := known(target, modules)) and found != name
        }
        for name, path in modules.items()
    }
    return sorted((sorted(group) for group in strongly_connected(arrows)), key=lambda g: -len(g))


def module_name(path: str) -> str:
    parts = list(Path(path.removeprefix("export/")).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, path: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, but for type checkers: modules, and names in them."""
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            home = ".".join(part for part in (base, node.module) if part)
            yield from (f"{home}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def known(target: str, modules: dict[str, str]) -> str | None:
    """Return the module that holds an imported name."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target or None


def strongly_connected(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of two or more nodes that are reached from each other."""
    reached = {node: reach(node, arrows) for node in arrows}
    groups = {
        frozenset(other for other in reached[node] if node in reached[other]) for node in arrows
    }
    return [set(group) for group in groups if len(group) > 1]


def reach(node: str, arrows: dict[str, set[str]]) -> set[str]:
    seen, waiting = set(), [node]
    while waiting:
        for other in arrows[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def running(tree: Path, python: str) -> dict[str, Any]:
    """Import packages and run commands; count what each loads."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        call = Caller(tree, python, folder)
        call("-c", HEADS, "heads")
        image = "heads/images/ms_000.nii.gz"
        train = ("train", "--data", "heads", "--out", "run", "--epochs", "1")
        commands = {
            "import segjax": (),
            "segjax --help": ("--help",),
            "segjax info IMAGE": ("info", image),
            "segjax train": (*train, "--patch-size", "16", "16", "16"),
            "segjax predict": ("predict", "run/model.onnx", image, "-o", "masks"),
        }
        loaded = {}
        for name, arguments in commands.items():
            call("-c", LOADED, str(tree), "loaded.json", *arguments)
            loaded[name] = json.loads((folder / "loaded.json").read_text(encoding="utf-8"))
        bare, whole = call.fastest("pass"), call.fastest("import segjax")
        exported = json.loads(call("-c", EXPORTED))
    return {
        "public_names": exported,
        "files_executed": loaded,
        "import_seconds": round(whole - bare, 4),
    }


class Caller:
    """Runs Python in a folder, with the packages of a tree before any others."""

    def __init__(self, tree: Path, python: str, folder: Path):
        self._python, self._folder = os.path.abspath(python), folder
        paths = os.pathsep.join([str(tree), str(tree / "export")])
        self._environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}

    def __call__(self, *arguments: str) -> str:
        """Return what Python prints; where it fails, stop and show that."""
        done = subprocess.run(
            [self._python, *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{arguments[1:]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def fastest(self, code: str) -> float:
        """Return the seconds of the fastest of several starts."""
        times = []
        for _ in range(STARTS):
            start = time.perf_counter()
            self("-c", code)
            times.append(time.perf_counter() - start)
        return min(times)


def show(results: dict[str, Any]) -> None:
    """Print a table."""
    house, inside = results["folders"], results["functions"]
    rows = [
        ("files", house["files"]),
        ("lines", house["lines"]),
        ("lines of code alone", house["code_lines"]),
        (f"largest folder ({house['largest']})", f"{house['largest_share']:.1%}"),
        ("functions", inside["number"]),
        ("median lines of a function", inside["median_lines"]),
        (f"functions over {LONG} lines", len(inside["over_50_lines"])),
        (f"functions over {TANGLED} branches", len(inside["over_10_branches"])),
        (f"functions over {TANGLED} decisions", len(inside["over_10_decisions"])),
        ("modules in import circles", " + ".join(str(len(c)) for c in results["circles"]) or 0),
    ]
    for name, names in results.get("public_names", {}).items():
        rows += [(f"public names of {name}", len(names))] if names else []
    for command, files in results.get("files_executed", {}).items():
        rows.append((f"files executed by {command}", len(files)))
    if "import_seconds" in results:
        rows.append(("import segjax, seconds", results["import_seconds"]))
    for folder, lines in house["own"].items():
        deep = house["with_subfolders"][folder]
        share = lines / house["lines"]
        rows.append((f"lines in {folder}", f"{lines} ({share:.1%}; with subfolders {deep})"))
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))


if __name__ == "__main__":
    main()
