"""What tables on the terminal say."""

import math

from segjax.cli.console import print_folds, print_scores
from segjax.runs.folds import FoldScore


def score(fold, case, label, metric, value):
    return FoldScore(fold, 1, case, label, metric, value)


def test_folds_are_averaged_over_the_cases_that_hold_the_label(capsys):
    print_folds(
        [
            score(0, "a", "core", "dice", 0.5),
            score(0, "b", "core", "false_positive_ml", 0.25),
            score(1, "c", "core", "false_positive_ml", 0.0),
        ]
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["core", "0.5000", "–", "0.5000", "±", "0.0000"] in lines
    told = "without core 2 of 3 cases, false positives in 1 (0.125 ml on average)"
    assert told.split() in lines


def test_folds_in_which_no_case_holds_a_label_have_no_mean(capsys):
    print_folds([score(0, "a", "core", "false_positive_pixels", 3)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["core", "–", "–"] in lines


def test_a_label_that_no_case_holds_has_no_table_of_dashes(capsys):
    row = {"case": "a", "dice": 0.5, "truth_ml": 1.0, "prediction_ml": 1.0}
    print_scores([row | {"label": "core"}, row | {"label": "cyst", "dice": 0.0, "truth_ml": 0.0}])
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines() if "95 % interval" in line] == ["core"]
    assert "without cyst" in text


def test_what_a_measure_cannot_tell_counts_in_no_mean(capsys):
    row = {"label": "core", "dice": 0.5, "truth_ml": 1.0, "prediction_ml": 1.0}
    print_scores([row | {"case": "a", "depth": 3.0}, row | {"case": "b", "depth": math.nan}])
    print_scores([row | {"case": "b", "depth": math.nan}])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    means = [(line[1], line[-1]) for line in lines if line[:1] == ["depth"]]
    assert means == [("3.0000", "1"), ("–", "0")]
