"""Sums and means over cases, by hand."""

import math

import numpy as np
import pytest

from segjax.evaluate.lesions import LesionRule, match_lesions
from segjax.evaluate.sizes import detection_by_size
from segjax.registry import registry
from segjax.report.lesion_table import lesion_table, rule_in_words, size_table


def row(case, counts, ratios, loads=(1.0, 3.0)):
    names = ("true_lesions", "found_lesions", "predicted_lesions", "false_lesions")
    rates = ("lesion_sensitivity", "lesion_precision", "lesion_f1")
    sizes = dict(zip(("truth_ml", "prediction_ml"), loads, strict=True))
    counted = dict(zip(names, counts, strict=True)) | dict(zip(rates, ratios, strict=True))
    return {"case": case, "label": "lesion", "dice": 0.5, **counted, **sizes}


ROWS = [
    row("a", (8, 2, 3, 0), (0.25, 1.0, 0.4)),
    row("nothing predicted", (2, 0, 0, 0), (0.0, math.nan, 0.0), (2.0, 0.0)),
    row("healthy", (0, 0, 1, 1), (math.nan, 0.0, 0.0), (0.0, 3.0)),
]


def test_sums_weigh_lesions_and_means_weigh_cases():
    headings, cells = lesion_table(ROWS)
    assert headings[:6] == ["case", "lesions", "found", "missed", "predicted", "false pos."]
    assert headings[6:] == ["sensitivity", "precision", "F1", "truth ml", "prediction ml"]
    assert [line[0] for line in cells] == [
        "a", "nothing predicted", "healthy", "all lesions", "mean",
    ]  # fmt: skip
    assert cells[0][1:] == [8, 2, 6, 3, 0, 0.25, 1.0, 0.4, 1.0, 3.0]
    assert cells[3][1:6] == [10, 2, 8, 4, 1]
    assert cells[3][6:9] == pytest.approx([2 / 10, 3 / 4, 2 * 0.2 * 0.75 / 0.95])
    assert cells[3][9:] == [3.0, 6.0]
    assert cells[4][1:6] == ["3.3", "0.7", "2.7", "1.3", "0.3"]
    assert cells[4][9:] == [1.0, 2.0]


def test_means_say_how_many_cases_have_the_ratio():
    means = lesion_table(ROWS)[1][-1]
    assert means[6:8] == ["0.125 (2 cases)", "0.500 (2 cases)"]
    assert means[8] == pytest.approx(0.4 / 3)
    healthy = row("b", (0, 0, 0, 0), (math.nan,) * 3)
    assert lesion_table([healthy, ROWS[0]])[1][-1][6] == "0.250 (1 case)"
    assert all(math.isnan(v) for v in lesion_table([healthy, healthy])[1][-1][6:9])


def test_one_case_needs_no_sums():
    assert [line[0] for line in lesion_table(ROWS[:1])[1]] == ["a"]


@pytest.mark.parametrize(
    ("rule", "rank", "words"),
    [
        (LesionRule(), 3, ("26 neighbours", "at least one of its voxels.")),
        (LesionRule(), 2, ("8 neighbours",)),
        (LesionRule(min_volume=14.1), 3, ("at least 14.1 mm³",)),
        (LesionRule(min_volume=9), 2, ("at least 9 mm²",)),
        (
            registry("lesion-rule").get("msseg-2016"),
            3,
            ("18 neighbours", "more than 10 %", "65 %", "at most 70 %"),
        ),
    ],
)
def test_rules_are_put_into_words(rule, rank, words):
    text = rule_in_words(rule, rank)
    assert all(part in text for part in words)


def test_sizes_are_told_with_what_was_found_of_each():
    truth, mask = np.zeros((2, 12, 12, 12), bool)
    truth[0, 0, 0] = truth[4:8, 4:8, 4:8] = mask[4:8, 4:8, 4:8] = True  # 1 and 64 mm³
    match = match_lesions(truth=truth, prediction=mask, spacing=(1.0, 1.0, 1.0))
    headings, rows = size_table(detection_by_size([match]), 3)
    assert headings[0] == "size (mm³)"
    assert [row[0] for row in rows] == ["under 10", "10 to 100", "100 and more"]
    assert rows[0][1:5] == [1, 0, "0.000 (0.000 to 0.793)", 0]
    assert rows[1][1:3] == [1, 1]
    assert rows[2][3] == "–"
