"""The site: built strictly, with every public name, and nothing fetched when it is read."""

import importlib
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.docs.conftest import HERE

ROOT = HERE.parents[1]
WINGS = {
    "data": "segjax.data",
    "augment": "segjax.data.augment",
    "models": "segjax.models",
    "train": "segjax.train",
    "evaluate": "segjax.evaluate",
    "report": "segjax.report",
    "onnx": "segjax_onnx",
}


class _Fetched(HTMLParser):
    """Addresses that a browser loads with a page; links that a reader may follow are none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src"))
        elif tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the site, built strictly."""
    if not importlib.util.find_spec("mkdocstrings"):
        pytest.skip('needs MkDocs: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    program = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.docs
def test_reference_describes_every_public_name(site):
    for page, package in WINGS.items():
        text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        described = set(re.findall(rf'<h2 id="{re.escape(package)}\.(\w+)"', text))
        module = importlib.import_module(package)
        modules = {name for name in module.__all__ if is_module(getattr(module, name))}
        assert set(module.__all__) - modules <= described, page


@pytest.mark.docs
def test_examples_of_the_reference_are_code_and_no_markup_is_left(site):
    for page in (site / "reference").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r":(?:class|func|meth|mod):|<p>\s*(?:&gt;){3}", text), page.name


@pytest.mark.docs
def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        parser = _Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not [to for to in parser.found if to and re.match(r"(?:\w+:)?//", to)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


def is_module(thing) -> bool:
    return isinstance(thing, type(importlib))
