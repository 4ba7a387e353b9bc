"""The page, built once, and its modules in Node.js."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.node import WEB, PageModules


@pytest.fixture(scope="session")
def page_modules(tmp_path_factory):
    """The page's modules, to be called from tests."""
    if not (WEB / "node_modules").is_dir() or not shutil.which("node"):
        pytest.skip("the page's packages are not there: npm ci --prefix export/web")
    out = tmp_path_factory.mktemp("harness")
    harness = Path(__file__).with_name("harness.ts")
    command = ["node_modules/.bin/vite", "build", "--ssr", str(harness), "--outDir", str(out)]
    subprocess.run([*command, "--logLevel", "warn"], cwd=WEB, check=True)
    modules = PageModules(next(out.rglob("harness*.*js")))
    yield modules
    modules.close()


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
