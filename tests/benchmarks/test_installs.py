"""What each extra costs: counted as pip and the disk count it."""

import sys
import tomllib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def installs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import installs

    yield installs
    sys.modules.pop("installs", None)


def test_what_every_environment_holds_is_not_counted(installs, tmp_path):
    files = {"pip/a.py": 10, "pip-23.2.dist-info/B": 20, "numpy/c/d.so": 3000, "six.py": 500}
    for name, length in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * length)
    assert installs.size(tmp_path) == pytest.approx(3500 / 1e6)
    assert installs.pip_itself(tmp_path) == {"pip-23.2.dist-info"}


def test_measured_extras_are_there(installs):
    text = (BENCHMARKS.parent / "pyproject.toml").read_text("utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(installs.PROOFS) - {"none"} <= set(extras)


def test_what_does_not_work_is_said_and_fails(installs, tmp_path, monkeypatch, capsys):
    row = {"seconds": 1.0, "megabytes": 2.0, "packages": 3}
    monkeypatch.setattr(
        installs, "install", lambda extra, *_: {"extra": extra, **row, "works": extra == "none"}
    )
    report = tmp_path / "installs.json"
    assert installs.main(["none", "--json", str(report)]) == 0
    assert installs.main(["none", "runtime", "--json", str(report)]) == 1
    assert "| runtime | 1 | 2 | 3 | no |" in capsys.readouterr().out
    assert '"extra": "runtime"' in report.read_text()
