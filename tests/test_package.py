"""What importing the package costs and offers."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import segjax
import segjax_onnx

WINGS = ("data", "evaluate", "models", "report", "train")


def test_importing_segjax_loads_no_heavy_package():
    code = (
        "import sys, segjax\n"
        "heavy = {'jax', 'flax', 'numpy', 'scipy', 'nibabel', 'SimpleITK', 'jaxtyping', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "package", [segjax, *(getattr(segjax, wing) for wing in WINGS), segjax_onnx]
)
def test_every_public_name_can_be_reached(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize(
    "package", [segjax, *(getattr(segjax, wing) for wing in WINGS), segjax_onnx]
)
def test_no_public_name_is_that_of_a_module_beside_it(package):
    wings = set(WINGS) | {"augment"}
    folder = Path(package.__file__).parent
    beside = {path.stem for path in folder.iterdir()} - {"__init__"}
    assert set(package.__all__) & beside <= wings


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Net'"):
        segjax.Net  # noqa: B018


# -- arrows -------------------------------------------------------------------------------------

ORDER = [  # a room imports from the lines above its own, and from itself
    "segjax.errors",
    "segjax.text segjax.extras segjax.machine segjax.interrupt",
    "segjax.components segjax.interpolation",
    "segjax.files segjax.registry segjax.progress",
    "segjax.codec",
    "segjax.models segjax.pretrained segjax.volume",
    "segjax.grid",
    "segjax.runs",
    "segjax.data.labels",
    "segjax.data.io",
    "segjax.data.prepare segjax.data.augment",
    "segjax.data",
    "segjax.data.cache segjax.data.phantom",
    "segjax.data.layouts",
    "segjax.derivative segjax.studies segjax.provenance segjax_onnx.predict",
    "segjax.evaluate",
    "segjax.report",
    "segjax.train",
    "segjax_onnx.write",
    "segjax_onnx.adopt",
    "segjax_onnx.plugin segjax.describe segjax.dicom_out segjax.segment segjax.visits",
    "segjax.follow segjax.workflow",
    "segjax.demo segjax.viewer segjax.watch",
    "segjax.cli",
    "segjax.__main__",
]
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms.split()}
WITHOUT_JAX = ("segjax.data", "segjax.evaluate", "segjax.report", "segjax_onnx.predict")
STILL_AGAINST: set[tuple[str, str]] = set()
"""Arrows that point the other way: a module, and what it should not import."""


def find_modules():
    root = Path(__file__).parents[1]
    for top in (root / "segjax", root / "export" / "segjax_onnx"):
        for file in top.rglob("*.py"):
            parts = file.relative_to(top.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


MODULES = dict(find_modules())


@cache
def imports_of(file):
    """Name the modules that a file imports anywhere but for types alone."""
    waiting, found = [ast.parse(file.read_text())], []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = (f"{node.module}.{each.name}" for each in node.names)
            found += [name if name in MODULES else node.module for name in inner]
        if isinstance(node, ast.mod | ast.stmt | ast.match_case | ast.ExceptHandler):
            waiting += ast.iter_child_nodes(node)
    return found


def room_of(module):
    """Return the room of a module: the longest one that its name starts with."""
    pieces = module.split(".")
    names = [".".join(pieces[:count]) for count in range(len(pieces), 0, -1)]
    return next((name for name in names if name in RANKS), None)


def is_against(module, other):
    here, there = room_of(module), room_of(other)
    if not here or not there or here == there:
        return False
    into_export = there.startswith("segjax_onnx") and not here.startswith("segjax_onnx")
    late = RANKS[here] >= RANKS["segjax_onnx.write"]  # only these know that networks are exported
    return RANKS[here] <= RANKS[there] or (into_export and not late)


def test_every_module_has_a_room():
    faces = {"segjax", "segjax_onnx"}
    assert [name for name in MODULES if not room_of(name) and name not in faces] == []


def test_arrows_point_one_way():
    against = {
        (module, other)
        for module, file in MODULES.items()
        for other in imports_of(file)
        if is_against(module, other)
    }
    assert against == STILL_AGAINST


@pytest.mark.parametrize("room", WITHOUT_JAX)
def test_rooms_of_numpy_never_import_jax(room):
    heavy = {"jax", "flax", "optax", "orbax", "jax2onnx"}
    found = {
        (module, other)
        for module, file in MODULES.items()
        if f"{module}.".startswith(f"{room}.")
        for other in imports_of(file)
        if other.split(".")[0] in heavy
    }
    assert found == set()


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("segjax.data.prepare.brain", "segjax_onnx.predict.predictor"),
        ("segjax.train.transfer", "segjax_onnx.write.weights"),
        ("segjax.models.zoo", "segjax.data.cases"),
        ("segjax.data.io.formats", "segjax.data.cases"),
        ("segjax_onnx.predict.network", "segjax.train.config"),
    ],
)
def test_an_arrow_the_other_way_is_seen(module, other):
    assert is_against(module, other)
    assert not is_against("segjax.cli.train", other)


def test_no_files_import_each_other_in_a_circle():
    graph = {name: [o for o in imports_of(file) if o in MODULES] for name, file in MODULES.items()}
    TopologicalSorter(graph).prepare()


SHADOWED = "segjax.train._fit"  # named so that segjax.train.fit is the function


def private_names(file, module):
    """Name what a file takes of another module that is private there."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segjax"):
            folder, _, last = node.module.rpartition(".")
            beside = module.startswith(f"{folder}.") or module.startswith(f"{node.module}.")
            if last.startswith("_") and not beside and node.module != SHADOWED:
                yield node.module
            for each in node.names:
                private = each.name.startswith("_") and not each.name.startswith("__")
                if private and not (f"{node.module}.{each.name}" in MODULES and beside):
                    yield f"{node.module}.{each.name}"


def test_no_module_takes_private_names_of_another():
    found = {name: list(private_names(file, name)) for name, file in MODULES.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_private_names_are_seen(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from segjax.report.page import _tile\nfrom segjax.models._cpu import Forms\n")
    found = list(private_names(file, "segjax.cli.own"))
    assert found == ["segjax.report.page._tile", "segjax.models._cpu"]
