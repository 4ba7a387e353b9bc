"""The pages: their code runs, their links and pictures are there, each is in the navigation."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.conftest import HERE, environment
from tests.docs.run_page import blocks

ROOT = HERE.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [page for page in PAGES if any(b.reason is None for b in blocks(page.read_text()))]
LANGUAGES = {"sh", "python", "pycon", "json", "toml", "text", "csv", "yaml"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.docs
@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_code_of_a_page_runs(page, world, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(world, folder, ignore=shutil.ignore_patterns("cache", "sweep"))
    program = [sys.executable, HERE / "run_page.py", page]
    done = subprocess.run(
        program, cwd=folder, env=environment(world), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_say_their_language_and_why_they_are_not_run(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        assert block.language in LANGUAGES, f"{name(page)}:{block.line}"
        assert block.reason is None or len(block.reason) > 8, f"{name(page)}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pictures_and_files_that_a_page_links_to_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), f"{name(page)}: {target}"


def test_navigation_names_every_page_once():
    _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")
    named = sorted(re.findall(r"[\w/-]+\.md", navigation))
    assert named == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def test_readme_fits_in_100_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
