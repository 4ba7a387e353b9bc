"""Reading the metrics of a run."""

import sys

import pytest

from segjax.errors import InputError
from segjax.evaluate.metrics import (
    best_epoch,
    counted_epoch,
    read_metrics,
    validation_dice,
    validation_scores,
)

HEAD = "run,epoch,split,case,label,metric,value\n"
ROWS = """NA,1,train,,,loss,1.5
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
def csv(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(HEAD + ROWS)
    return path


def test_names_stay_text(csv):
    metrics = read_metrics(csv)
    assert list(metrics.case[:2]) == ["", "007"]
    assert metrics.run[0] == "NA"
    assert metrics.value.sum() == pytest.approx(7.49)


def test_validation_dice_has_one_row_for_each_case(csv):
    assert len(validation_dice(read_metrics(csv))) == 6


def test_best_epoch_is_the_first_with_the_highest_mean(csv):
    assert best_epoch(read_metrics(csv)) == 2


def test_best_epoch_is_none_before_the_first_validation(csv):
    csv.write_text(HEAD + "run,1,train,,,loss,1.5\n")
    assert best_epoch(read_metrics(csv)) is None


def test_cases_without_the_label_are_told_apart(csv):
    row = "NA,{},validation,009,lesion,false_positive_ml,{}\n"
    csv.write_text(HEAD + ROWS + row.format(2, 4.5) + row.format(3, 0.0))
    metrics = read_metrics(csv)
    assert best_epoch(metrics) == counted_epoch(metrics) == 2
    assert len(validation_dice(metrics)) == 6
    assert validation_scores(metrics, 2) == {
        "007": {"lesion": ("dice", 0.9)},
        "008": {"lesion": ("dice", 0.5)},
        "009": {"lesion": ("false_positive_ml", 4.5)},
    }


def test_the_newest_network_counts_where_no_case_holds_a_label(csv):
    rows = "".join(f"NA,{n},validation,9,lesion,false_positive_ml,{n}\n" for n in (1, 3))
    csv.write_text(HEAD + rows + "NA,4,train,,,loss,1\n")
    assert best_epoch(read_metrics(csv)) is None
    assert counted_epoch(read_metrics(csv)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,value\n1,2\n", "no metrics file"),
        ("", "cannot be read"),
        (HEAD + "run,one,train,,,loss,1.5\n", "'one'"),
        (HEAD + "run,1,train,,,loss,1.5,9,9\nrun,1\n", "metrics"),
    ],
)
def test_other_files_are_refused_in_one_line(csv, text, message):
    csv.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_metrics(csv)
    assert "metrics.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_metrics(tmp_path / "nowhere.csv")


def test_without_pandas_the_error_says_how_to_get_it(csv, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r'pip install .*"\.\[train\]" in '):
        read_metrics(csv)
