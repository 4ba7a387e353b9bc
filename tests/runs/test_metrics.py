import csv
import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.evaluate.metrics import read_metrics
from segjax.runs.metrics import MetricsFile, Row

ROWS = [
    Row(1, "train", "loss", 0.5),
    Row(1, "validation", "dice", 0.25, "case, one", "lesion"),
    Row(2, "train", "loss", 1 / 3),
    Row(2, "validation", "dice", 1.0, 'case "two"', "lesion"),
]


def written(path, rows=ROWS, run="first run"):
    metrics = MetricsFile(path / "metrics.csv", run)
    metrics.rewind(0)
    metrics.append(rows)
    return metrics


def test_rows_are_read_as_they_were_measured(tmp_path):
    table = read_metrics(written(tmp_path).path)
    assert list(table.itertuples(index=False, name=None)) == [
        ("first run", 1, "train", "", "", "loss", 0.5),
        ("first run", 1, "validation", "case, one", "lesion", "dice", 0.25),
        ("first run", 2, "train", "", "", "loss", 1 / 3),
        ("first run", 2, "validation", 'case "two"', "lesion", "dice", 1.0),
    ]


def test_new_file_holds_the_columns_alone(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv", "run")
    metrics.rewind(0)
    assert metrics.path.read_text() == "run,epoch,split,case,label,metric,value\n"


def test_rewinding_drops_what_came_after(tmp_path):
    metrics = written(tmp_path)
    whole = metrics.path.read_bytes()
    metrics.rewind(2)
    assert metrics.path.read_bytes() == whole
    metrics.rewind(1)
    assert metrics.path.read_bytes() == written(tmp_path, ROWS[:2]).path.read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rewinding_mends_a_file_that_was_cut_anywhere_after(tmp_path, data):
    first = written(tmp_path, ROWS[:2]).path.read_bytes()
    whole = written(tmp_path).path.read_bytes()
    metrics = MetricsFile(tmp_path / "metrics.csv", "first run")
    cut = data.draw(st.integers(len(first), len(whole)))
    metrics.path.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\xff", b"\x00"])))
    metrics.rewind(1)
    assert metrics.path.read_bytes() == first


def test_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    metrics = written(tmp_path)

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=r"metrics.csv: no space left on the disk"):
        metrics.append(ROWS)


def test_file_is_plain_csv(tmp_path):
    with written(tmp_path).path.open(newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {7}
