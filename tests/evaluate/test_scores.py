"""What counts of many cases."""

import numpy as np
import pandas as pd
import pytest

from segjax.evaluate.scores import (
    Score,
    absent_in_words,
    by_label,
    mean_dice,
    score_of_counts,
    scores_of_rows,
    validation_scores,
)

HEALTHY = Score("false_positive_ml", 0.0)


def dice(value):
    return Score("dice", value)


def test_dice_follows_its_definition_where_the_label_is_there():
    assert score_of_counts(2, 3, 5, affine=np.eye(4)) == dice(2 * 2 / (3 + 5))
    assert score_of_counts(0, 0, 5, affine=np.eye(4)) == dice(0)


def test_false_positives_are_millilitres_or_pixels():
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    assert score_of_counts(0, 7, 0, affine=affine) == Score(
        "false_positive_ml", pytest.approx(0.21)
    )
    assert score_of_counts(0, 7, 0, affine=np.diag([2.0, 3.0, 1.0])) == Score(
        "false_positive_pixels", 7
    )
    assert score_of_counts(0, 0, 0, affine=affine) == HEALTHY


def test_rows_of_a_comparison_hold_the_same():
    row = {"label": "lesion", "dice": 0.0, "prediction_ml": 0.3}
    rows = [
        {**row, "case": "a", "truth_ml": 0.1},
        {**row, "case": "b", "truth_ml": 0.0},
        {"case": "c", "label": "lesion", "dice": 1.0, "truth_voxels": 0, "prediction_voxels": 0},
    ]
    assert scores_of_rows(rows) == {
        "a": {"lesion": dice(0)},
        "b": {"lesion": Score("false_positive_ml", 0.3)},
        "c": {"lesion": Score("false_positive_pixels", 0)},
    }


def test_mean_is_over_pairs_of_case_and_label_that_are_there():
    scores = {"a": {"x": dice(1.0), "y": HEALTHY}, "b": {"x": dice(0.25), "y": dice(0.25)}}
    assert mean_dice(scores) == 0.5
    assert by_label(scores) == {"x": [dice(1.0), dice(0.25)], "y": [HEALTHY, dice(0.25)]}


def test_there_is_no_mean_of_healthy_cases():
    assert mean_dice({"a": {"x": HEALTHY}}) is None
    assert mean_dice({}) is None


def test_a_network_that_finds_nothing_is_no_match_for_a_good_one():
    # two patients, three healthy: with 1 for what is found in none of those, nothing wins
    blind = {"a": {"x": dice(0)}, "b": {"x": dice(0)}} | {n: {"x": HEALTHY} for n in "cde"}
    spots = {"x": Score("false_positive_ml", 0.01)}
    good = {"a": {"x": dice(0.9)}, "b": {"x": dice(0.8)}} | dict.fromkeys("cde", spots)
    assert mean_dice(blind) == 0
    assert mean_dice(good) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([dice(1)], ""),
        ([dice(1), HEALTHY, HEALTHY], "2 of 3 cases, no false positives"),
        (
            [HEALTHY, Score("false_positive_ml", 0.5)],
            "2 of 2 cases, false positives in 1 (0.250 ml on average)",
        ),
        (
            [dice(1), Score("false_positive_pixels", 12)],
            "1 of 2 cases, false positives in 1 (12 pixels on average)",
        ),
    ],
)
def test_words_tell_how_many_cases_lack_a_label_and_what_was_found(scores, words):
    assert absent_in_words(scores) == words


def test_scores_of_an_epoch_are_read_from_the_metrics_of_a_run():
    rows = [
        (1, "train", "", "", "loss", 0.1),
        (1, "validation", "a", "lesion", "dice", 0.5),
        (2, "validation", "a", "lesion", "dice", 0.75),
        (2, "validation", "b", "lesion", "false_positive_ml", 1.5),
        (2, "train", "", "", "seconds", 9.0),
    ]
    metrics = pd.DataFrame(rows, columns=["epoch", "split", "case", "label", "metric", "value"])
    assert validation_scores(metrics, 2) == {
        "a": {"lesion": Score("dice", 0.75)},
        "b": {"lesion": Score("false_positive_ml", 1.5)},
    }
