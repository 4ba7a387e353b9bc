"""Damaged files: a readable error or a valid volume, never anything else."""

import sys

import numpy as np
import pytest

from benchmarks import fuzz_readers
from segjax.errors import InputError
from segjax.volume import Volume

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs limits on memory")


@pytest.mark.slow
def test_hundreds_of_damaged_files_are_read_or_refused():
    """So many that each file is damaged in each way; the benchmark reads thousands."""
    result = fuzz_readers.run(count := 300, seed=2)
    assert result["neither valid nor refused"] == []
    assert sum(result["outcomes"].values()) == result["count"] == count
    assert result["outcomes"]["refused"] > count / 4
    assert result["outcomes"]["valid"] > count / 10
    assert result["peak memory above the libraries', MiB"] < 256


def test_the_same_seed_damages_the_same_way(tmp_path):
    seeds = fuzz_readers.write_seeds(tmp_path)
    one, two = ([fuzz_readers.damaged(seeds, 5, k) for k in range(40)] for _ in range(2))
    assert one == two
    assert len({content for _, content in one}) > 35
    kept = sum(content == (tmp_path / name).read_bytes() for name, content in one)
    assert kept < 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("{path}: is cut"), "refused"),
        (InputError("the file is cut"), "unclear"),
        (InputError("{path}: one line\nand another"), "unclear"),
        (InputError("{path}: " + "x" * 700), "unclear"),
        (ValueError("{path}"), "escaped"),
        (MemoryError(), "escaped"),
        (RecursionError(), "escaped"),
    ],
)
def test_errors_that_do_not_name_the_file_in_one_line_count_as_bugs(tmp_path, error, expected):
    def read(path):
        raise type(error)(*(str(text).replace("{path}", str(path)) for text in error.args))

    assert fuzz_readers.outcome(read, tmp_path / "a.nii")[0] == expected


def test_volumes_count_as_valid(tmp_path):
    volume = Volume(np.zeros((2, 3, 4)), np.eye(4))
    assert fuzz_readers.outcome(lambda path: volume, tmp_path / "a") == ("valid", "(2, 3, 4)")


def test_a_reader_that_dies_or_hangs_is_seen(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, signal\n"
        'print(json.dumps({"number": 3, "name": "a.nii"}), flush=True)\n'
        'row = {"outcome": "valid", "message": "", "seconds": 0.1, "peak": 1.0}\n'
        'print(json.dumps({"number": 3} | row), flush=True)\n'
        'print(json.dumps({"number": 4, "name": "b.nii"}), flush=True)\n'
        "os.kill(os.getpid(), signal.SIGSEGV if os.environ['END'] == 'crash' else signal.SIGALRM)\n"
    )
    monkeypatch.setattr(fuzz_readers, "__file__", str(script))
    for end, expected in (("crash", "crashed"), ("hang", "hung")):
        monkeypatch.setenv("END", end)
        rows = fuzz_readers.read_in_child(tmp_path, 0, 3, 5)
        assert [(row["name"], row["outcome"]) for row in rows] == [
            ("a.nii", "valid"),
            ("b.nii", expected),
        ]
    script.write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="died at once with code 1"):
        fuzz_readers.read_in_child(tmp_path, 0, 3, 5)
