"""The scripts under ``examples/``: short, and each runs by itself."""

import subprocess
import sys

import pytest

from tests.docs.conftest import HERE, environment

EXAMPLES = sorted((HERE.parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_says_what_it_shows(example):
    text = example.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 45


@pytest.mark.docs
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, world, tmp_path):
    environ = environment(world) | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, env=environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
