"""The pictures of the gallery: each transform has one, all are small, and the script draws."""

import importlib.util
import subprocess
import sys

import pytest

from segjax.registry import registry
from tests.docs.conftest import HERE, environment

DOCS = HERE.parents[1] / "docs"
GALLERY = DOCS / "gallery"
OURS = [
    name
    for name in registry("transform").names()
    if registry("transform").get(name).__module__.startswith("segjax.data.augment.")
]


@pytest.mark.parametrize("name", OURS)
def test_every_transform_has_a_picture_on_the_page(name):
    assert (GALLERY / f"{name}.webp").is_file()
    assert f"(gallery/{name}.webp)" in (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_pictures_are_small_and_all_are_shown():
    pictures = sorted(GALLERY.iterdir())
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert [picture.name for picture in pictures if f"gallery/{picture.name}" not in page] == []
    sizes = [picture.stat().st_size for picture in pictures]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_500_000


@pytest.mark.docs
def test_script_draws_a_transform(tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("figures need matplotlib: the extra train")
    program = [sys.executable, DOCS / "draw_gallery.py", "flip", "--out", tmp_path]
    subprocess.run(program, env=environment(tmp_path), check=True, capture_output=True)
    assert (tmp_path / "flip.webp").read_bytes()[8:12] == b"WEBP"
