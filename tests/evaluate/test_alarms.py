"""False alarms against hand counts."""

import math

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.alarms import false_alarms
from segjax.evaluate.compare import score
from segjax.evaluate.statistics import wilson_interval
from segjax.volume import Volume


def row(name, truth, prediction, unit="ml", **more):
    sizes = {f"truth_{unit}": truth, f"prediction_{unit}": prediction}
    return {"case": name, "label": "lesion", **sizes, **more}


ROWS = [
    row("a", 0.0, 0.0, false_lesions=0),
    row("b", 0.0, 0.3, false_lesions=2),
    row("c", 5.0, 9.0, false_lesions=7, dice=0.4),
    row("d", 0.0, 0.0, false_lesions=0),
    row("e", 0.0, 0.1, false_lesions=1),
]


def test_cases_without_the_label_alone_are_counted():
    found = false_alarms(ROWS)
    assert (found.cases, found.alarms, found.cases_per_alarm) == (4, 2, 2)
    assert found.share == wilson_interval(2, 4)
    assert found.size.value == pytest.approx(0.1)
    assert found.lesions == 0.75


def test_no_alarm_in_any_case_is_an_endless_time_until_the_next_one():
    found = false_alarms([ROWS[0], ROWS[3]])
    assert (found.cases_per_alarm, found.size.value, found.share.value) == (math.inf, 0, 0)
    assert found.share.high == pytest.approx(wilson_interval(0, 2).high)


def test_without_healthy_cases_nothing_can_be_told():
    for rows in ([], [ROWS[2]]):
        found = false_alarms(rows)
        assert found.cases == found.alarms == 0
        assert np.isnan([found.cases_per_alarm, *found.share, *found.size, found.lesions]).all()


def test_lesions_that_were_not_counted_cannot_be_told():
    assert math.isnan(false_alarms([row("a", 0.0, 0.1)]).lesions)


def test_slices_are_counted_in_pixels():
    found = false_alarms([row("a", 0, 12, "voxels"), row("b", 0, 0, "voxels")])
    assert (found.unit, found.size.value) == ("pixels", 6)
    assert found.measures["false_positive_pixels"] == 6


def test_rows_of_a_comparison_are_read():
    truth = Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    prediction = truth.with_data(np.eye(4, dtype=np.uint8)[..., None] * np.ones(4, np.uint8))
    found = false_alarms(score(truth=truth, prediction=prediction, rule="any"))
    assert (found.alarms, found.lesions) == (1, 1)
    assert found.size.value == pytest.approx(0.016)


def test_rows_of_several_labels_or_units_are_refused():
    with pytest.raises(InputError, match="labels edema, lesion"):
        false_alarms([*ROWS, {**ROWS[0], "label": "edema"}])
    with pytest.raises(InputError, match="no common size"):
        false_alarms([*ROWS, row("a", 0, 0, "voxels")])


def test_measures_are_plain_numbers():
    measures = false_alarms(ROWS).measures
    assert measures["cases_per_false_alarm"] == 2
    assert all(type(value) in (int, float) for value in measures.values())
