"""What is written of how a result came about, and what is not."""

import getpass
import json
import os
import platform
import subprocess
import sys
from datetime import datetime

import pytest

from segjax import provenance
from segjax.errors import InputError
from segjax.provenance import (
    common_folder,
    here_and_now,
    read_parts,
    recording,
    write_part,
)
from segjax.runs.folder import RunFolder


def test_date_has_a_zone_and_is_that_of_the_beginning():
    before = datetime.now().astimezone()
    begun = datetime.fromisoformat(here_and_now(seconds=60).date)
    assert begun.utcoffset() is not None
    assert 58 <= (before - begun).total_seconds() <= 62


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/env/bin/segjax", "train", "--data", "my brains"], "segjax train --data 'my brains'"),
        (["/lib/segjax/__main__.py", "info", "run"], "python -m segjax info run"),
        (["/home/someone/study.py", "--token", "secret"], "python study.py"),
        (["/lib/ipykernel_launcher.py", "-f", "kernel.json"], "Python"),
        (["-c"], "Python"),
        ([""], "Python"),
        (["segjax", "train", "--data", "HOME/a b", "--out=HOME/run", "HOMEx"],
         "segjax train --data ~/'a b' '--out=~/run' HOMEx"),
    ],
)  # fmt: skip
def test_commands_can_be_repeated_but_name_no_home(argv, command, monkeypatch):
    home = "/home/someone"
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(sys, "argv", [word.replace("HOME", home) for word in argv])
    assert here_and_now().command == command.replace("HOME", home)


def test_neither_user_nor_machine_is_named(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "reading-room-7")
    monkeypatch.setattr(getpass, "getuser", lambda: "dr.house")
    monkeypatch.setenv("USER", "dr.house")
    monkeypatch.setenv("HOME", "/home/dr.house")
    text = str(here_and_now("/home/dr.house/brains"))
    assert "dr.house" not in text
    assert "reading-room-7" not in text
    assert os.uname().nodename not in here_and_now().machine


def test_machine_and_versions_are_told():
    made = here_and_now()
    assert f"{len(os.sched_getaffinity(0))} core" in made.machine
    assert "GiB of memory" in made.machine
    assert made.versions["Python"] == platform.python_version()
    assert {"segjax", "jax", "onnxruntime"} <= set(made.versions)


def test_describing_a_machine_imports_no_heavy_package():
    code = (
        "import sys; from segjax.provenance import here_and_now; here_and_now()\n"
        "print(sorted({'jax', 'numpy', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_accelerators_are_counted_by_kind(monkeypatch):
    class Device:
        def __init__(self, platform, device_kind):
            self.platform, self.device_kind = platform, device_kind

    class Jax:
        @staticmethod
        def devices():
            return [Device("gpu", "NVIDIA H100"), Device("gpu", "NVIDIA H100"), Device("cpu", "x")]

    monkeypatch.setitem(sys.modules, "jax", Jax)
    assert here_and_now().machine.endswith("2 × NVIDIA H100")


def interrupted(folder):
    with recording(folder, "brains"):
        (running,) = read_parts(folder)
        assert running.seconds is None
        raise KeyboardInterrupt


def test_a_part_is_there_while_it_runs_and_has_its_time_when_it_breaks(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    with recording(tmp_path):
        pass
    first, second = read_parts(tmp_path)
    assert (first.data, second.data) == ("brains", "")
    assert first.seconds is not None
    assert second.seconds is not None
    write_part(tmp_path, here_and_now("third"))
    assert [part.data for part in read_parts(tmp_path)] == ["brains", "", "third"]


def test_a_full_disk_at_the_end_hides_no_other_error(tmp_path, monkeypatch):
    def full(*_):
        raise InputError("no space left")

    def broken():
        with recording(tmp_path):
            monkeypatch.setattr(provenance, "_write", full)
            raise ValueError("the real one")

    with pytest.raises(ValueError, match="the real one"):
        broken()


def test_nothing_written_are_no_parts(tmp_path):
    assert read_parts(tmp_path) == ()


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"date": "x"}]', "no JSON"])
def test_a_file_of_other_content_is_named(tmp_path, content):
    RunFolder(tmp_path).provenance.write_text(content)
    with pytest.raises(InputError, match=r"provenance\.json"):
        read_parts(tmp_path)


def test_the_file_is_a_plain_list(tmp_path):
    write_part(tmp_path, here_and_now("a"))
    (part,) = json.loads(RunFolder(tmp_path).provenance.read_text())
    assert list(part) == ["date", "command", "data", "seconds", "machine", "versions"]


def test_the_folder_of_all_files_is_the_innermost(tmp_path):
    files = [tmp_path / "images" / "a.nii", tmp_path / "labels" / "a.nii"]
    assert common_folder(files) == str(tmp_path)
    assert common_folder([]) == ""


def test_what_is_unknown_is_not_shown():
    facts = here_and_now().facts()
    assert "data" not in facts
    assert "time" not in facts
    assert here_and_now(seconds=7200).facts()["time"] == "2 h 0 min"
