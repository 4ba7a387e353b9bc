import csv
import errno
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.runs.metrics import (
    MetricsFile,
    Row,
    best_epoch,
    counted_epoch,
    read_metrics,
    validation_dice,
    validation_rows,
)

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


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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


HEAD = "run,epoch,split,case,label,metric,value\n"
EPOCHS = """NA,1,train,,,loss,1.5
NA,1,validation,007,lesion,dice,0.5
NA,1,validation,008,lesion,dice,0.7
NA,2,validation,007,lesion,dice,0.9
NA,2,validation,008,lesion,dice,0.5
NA,3,validation,007,lesion,dice,0.8
NA,3,validation,008,lesion,dice,0.6
NA,3,validation,,,dice,0.99
NA,3,test,007,lesion,dice,1.0
NA,4,train,,,loss,nan
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(HEAD + EPOCHS)
    return path


def test_names_stay_text(table):
    metrics = read_metrics(table)
    assert list(metrics.case[:2]) == ["", "007"]
    assert metrics.run[0] == "NA"
    assert metrics.value.sum() == pytest.approx(7.49)


def test_validation_dice_has_one_row_for_each_case(table):
    assert len(validation_dice(read_metrics(table))) == 6


def test_best_epoch_is_the_first_with_the_highest_mean(table):
    assert best_epoch(read_metrics(table)) == 2


def test_best_epoch_is_none_before_the_first_validation(table):
    table.write_text(HEAD + "run,1,train,,,loss,1.5\n")
    assert best_epoch(read_metrics(table)) is None


def test_cases_without_the_label_are_told_apart(table):
    row = "NA,{},validation,009,lesion,false_positive_ml,{}\n"
    table.write_text(HEAD + EPOCHS + row.format(2, 4.5) + row.format(3, 0.0))
    metrics = read_metrics(table)
    assert best_epoch(metrics) == counted_epoch(metrics) == 2
    assert len(validation_dice(metrics)) == 6
    assert validation_rows(metrics, 2) == [
        Row(2, "validation", "dice", 0.9, "007", "lesion"),
        Row(2, "validation", "dice", 0.5, "008", "lesion"),
        Row(2, "validation", "false_positive_ml", 4.5, "009", "lesion"),
    ]


def test_the_newest_network_counts_where_no_case_holds_a_label(table):
    rows = "".join(f"NA,{n},validation,9,lesion,false_positive_ml,{n}\n" for n in (1, 3))
    table.write_text(HEAD + rows + "NA,4,train,,,loss,1\n")
    assert best_epoch(read_metrics(table)) is None
    assert counted_epoch(read_metrics(table)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,value\n1,2\n", "no metrics file"),
        ("", "cannot be read"),
        (HEAD + "run,one,train,,,loss,1.5\n", "'one'"),
        (HEAD + "run,1,train,,,loss,1.5,9,9\nrun,1\n", "metrics"),
    ],
)
def test_other_files_are_refused_in_one_line(table, text, message):
    table.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_metrics(table)
    assert "metrics.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_metrics(tmp_path / "nowhere.csv")


def test_without_pandas_the_error_says_how_to_get_it(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[report\]" in '):
        read_metrics(table)
