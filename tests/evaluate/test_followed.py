"""What a follow-up comes to, as tables and plain data."""

import datetime
import json
import math

import numpy as np

from segjax.evaluate.changes import KINDS
from segjax.evaluate.followed import as_json, change_table, load_table, summary_of
from segjax.evaluate.followup import Visit, follow_up
from segjax.evaluate.registration import PairFit
from segjax.evaluate.statistics import Interval
from segjax.volume import Volume

SHAPE = (16, 18, 14)
OLD, NEW = np.s_[3:7, 3:7, 3:7], np.s_[10:14, 10:14, 8:12]


def mask(*boxes, affine=None):
    data = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        data[box] = 1
    return Volume(data, np.eye(4) if affine is None else affine)


def found(*masks, labels=(), dates=None):
    dates = dates or [None] * len(masks)
    visits = [
        Visit(str(n), mask=one, date=date)
        for n, (one, date) in enumerate(zip(masks, dates, strict=True))
    ]
    return follow_up(visits, subject="07", labels=labels)


def test_a_row_for_each_lesion_has_its_place_in_all_three_ways():
    affine = np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = 10, 20, 30
    (row, *_) = change_table(found(mask(affine=affine), mask(NEW, affine=affine)))
    assert (row["baseline"], row["followup"], row["lesion"], row["kind"]) == ("0", "1", 1, "new")
    assert (row["i"], row["j"], row["k"]) == (11.5, 11.5, 9.5)
    assert (row["x"], row["y"], row["z"]) == (-1.5, 31.5, 39.5)
    assert (row["x_lps"], row["y_lps"], row["z_lps"]) == (1.5, -31.5, 39.5)
    assert (row["baseline_mm3"], row["followup_mm3"]) == (0.0, 64.0)
    assert row["change_percent"] is None
    assert row["days"] is None


def test_a_row_for_each_label_and_pair_has_loads_and_counts():
    two = mask(OLD)
    two.data[NEW] = 2
    dates = [datetime.date(2023, 1, 1), datetime.date(2024, 1, 1), datetime.date(2025, 1, 1)]
    names = ("background", "one", "two")
    rows = load_table(found(mask(OLD), two, mask(), labels=names, dates=dates))
    assert [(row["followup"], row["label"], row["days"]) for row in rows] == [
        ("1", "one", 365),
        ("1", "two", 365),
        ("2", "one", 366),
        ("2", "two", 366),
    ]
    assert [(row["baseline_ml"], row["followup_ml"]) for row in rows] == [
        (0.064, 0.064),
        (0.0, 0.064),
        (0.064, 0.0),
        (0.064, 0.0),
    ]
    assert [row["change_percent"] for row in rows] == [0.0, None, -100.0, -100.0]
    assert rows[2]["percent_per_year"] == round(-100 * 365.25 / 366, 4)
    assert [[row[kind] for kind in KINDS] for row in rows] == [
        [0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1],
    ]


def test_a_summary_is_json_and_tells_least_confidence_and_largest_lesions():
    summary = summary_of(found(mask(OLD), mask(OLD, NEW)))
    assert json.loads(json.dumps(summary)) == summary
    assert summary["subject"] == "07"
    load = summary["visits"][1]["loads"][0]
    assert (load["ml"], load["lesions"], load["largest_ml"]) == (0.128, 2, 0.064)
    assert load["largest_longest_mm"] > 4
    assert 0.5 < summary["comparisons"][0]["least_confidence"] <= 1
    empty = summary_of(found(mask(), mask()))
    assert empty["comparisons"][0]["least_confidence"] is None
    assert empty["visits"][0]["loads"][0]["largest_longest_mm"] is None
    assert "date" not in empty["visits"][0]


def test_the_quality_of_a_registration_is_told_without_its_matrix():
    one = found(mask(OLD), mask(OLD))
    fit = PairFit(
        first=0, second=1, matrix=np.eye(4), overlap=None, similarity=0.5,
        inconsistency_mm=0.1, degrees=1.0, millimetres=2.0,
    )  # fmt: skip
    placing = type(one.registration)(
        one.registration.matrices, one.registration.grid, "rigid", (fit,)
    )
    told = summary_of(type(one)(**{**vars(one), "registration": placing}))["registration"]
    assert told["kind"] == "rigid"
    assert told["pairs"][0]["degrees"] == 1.0
    assert "matrix" not in told["pairs"][0]
    assert told["spacing_mm"] == [1.0, 1.0, 1.0]


def test_values_become_those_of_json():
    given = {"a": np.float32(0.5), "b": (1, math.inf), "c": np.arange(2), 3: None, "d": slice(1, 4)}
    assert as_json(Interval(0.5, math.nan, 1)) == {"value": 0.5, "low": None, "high": 1}
    assert as_json(given) == {"a": 0.5, "b": [1, None], "c": [0, 1], "3": None, "d": [1, 4]}


def test_nothing_is_counted_where_nothing_was_compared():
    image = Volume(np.random.default_rng(0).random(SHAPE).astype(np.float32), np.eye(4))
    brain = image.with_data(np.ones(SHAPE, np.uint8))
    visits = [Visit(name, image, brain=brain) for name in "ab"]
    unseen = follow_up(visits, registration="none", intensities=False)
    (row,) = load_table(unseen)
    assert {row[kind] for kind in KINDS} == {None}
    (pair,) = summary_of(unseen)["comparisons"]
    assert pair["activity"] is None
    assert summary_of(found(mask(), mask()))["comparisons"][0]["activity"]["no_activity"]
