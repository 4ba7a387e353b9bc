"""Docstring examples: each public name has one, and what is not run says why.

``pytest --doctest-modules segjax export/segjax_onnx`` runs them.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = (
    "segjax", "segjax.data", "segjax.data.augment", "segjax.evaluate", "segjax.models",
    "segjax.report", "segjax.train", "segjax_onnx",
)  # fmt: skip
REASON = re.compile(r">>> .*  # (needs|takes) [\w ]+  # doctest: \+SKIP$")
LEFT_OUT = 10


def test_examples_that_do_not_run_say_why_and_are_few():
    files = [*(ROOT / "segjax").rglob("*.py"), *(ROOT / "export" / "segjax_onnx").rglob("*.py")]
    lines = [(file.name, line) for file in files for line in file.read_text().splitlines()]
    skipped = [(name, line) for name, line in lines if "+SKIP" in line]
    assert [found for found in skipped if not REASON.search(found[1])] == []
    assert len(skipped) <= LEFT_OUT


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_has_an_example(package):
    module = importlib.import_module(package)
    things = {name: getattr(module, name) for name in module.__all__}
    own = {
        name: thing
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__.startswith("segjax")
    }
    assert [name for name, thing in own.items() if ">>>" not in (thing.__doc__ or "")] == []
