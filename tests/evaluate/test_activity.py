"""Activity and growth, by hand and by the numbers of the criteria."""

import math
from dataclasses import replace

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.activity import activity_of, growth_of
from segjax.evaluate.changes import KINDS, lesion_changes

LESION = np.ones((5, 5, 5), np.float32)
(ONE,), _ = lesion_changes(LESION, LESION, np.eye(4), voxels_mm3=(1.0, 1.0))


def one_change(**others):
    return replace(ONE, **others)


def of_kinds(**counts):
    return [one_change(kind=kind) for kind, count in counts.items() for _ in range(count)]


def test_kinds_are_counted():
    counts = dict(zip(KINDS, (3, 1, 4, 2, 5), strict=True))
    found = activity_of(of_kinds(**counts))
    assert {kind: getattr(found, kind) for kind in KINDS} == counts
    assert found.active == 4


@pytest.mark.parametrize(
    ("new", "enlarged", "rio", "modified"),
    [
        (0, 0, False, False),
        (1, 1, False, False),
        (0, 3, True, False),
        (2, 1, True, False),
        (4, 0, True, False),
        (5, 0, True, True),
        (4, 9, True, False),
    ],
)
def test_rio_asks_for_over_two_active_and_its_modification_for_over_four_new(
    new, enlarged, rio, modified
):
    found = activity_of(of_kinds(new=new, enlarged=enlarged, shrunk=9, gone=9))
    assert (found.rio, found.modified_rio) == (rio, modified)


def test_one_new_lesion_shows_dissemination_in_time_and_activity():
    new, enlarged = activity_of(of_kinds(new=1)), activity_of(of_kinds(enlarged=1))
    assert (new.dissemination_in_time, new.no_activity) == (True, False)
    assert (enlarged.dissemination_in_time, enlarged.no_activity) == (False, False)
    calm = activity_of(of_kinds(stable=3, shrunk=1, gone=1))
    assert (calm.dissemination_in_time, calm.no_activity) == (False, True)


def mass(before_mm3, after_mm3, before=(20.0, 15.0), after=(24.0, 18.0), **others):
    change = after_mm3 - before_mm3
    return one_change(
        baseline_mm3=before_mm3,
        followup_mm3=after_mm3,
        change_mm3=change,
        change_percent=100 * change / before_mm3 if before_mm3 else None,
        baseline_longest_mm=before[0],
        baseline_perpendicular_mm=before[1],
        followup_longest_mm=after[0],
        followup_perpendicular_mm=after[1],
        **({"kind": "enlarged", "tolerance_mm3": 100.0} | others),
    )


def test_growth_by_hand():
    found = growth_of(mass(4000.0, 6000.0), days=730.5)
    assert found.change_mm3 == 2000
    assert found.change_percent == 50
    assert found.mm3_per_year == 1000
    assert found.percent_per_year == 25
    assert found.exponential_per_year == pytest.approx(math.log(1.5) / 2)
    assert found.doubling_days == pytest.approx(730.5 / math.log2(1.5))
    assert (found.longest_change_mm, found.longest_mm_per_year) == (4, 2)
    assert (found.perpendicular_change_mm, found.perpendicular_mm_per_year) == (3, 1.5)
    assert found.area_change_percent == pytest.approx(44)
    assert found.area_class == "progression"
    assert found.volume_progression is True


def test_a_mass_that_doubles_has_its_interval_as_doubling_time():
    assert growth_of(mass(1000.0, 2000.0), days=500).doubling_days == pytest.approx(500)


def test_without_days_there_are_no_rates():
    found = growth_of(mass(4000.0, 6000.0))
    rates = [name for name in vars(found) if name.endswith(("per_year", "days"))]
    assert len(rates) == 6
    assert {getattr(found, name) for name in rates} == {None}
    assert found.change_percent == 50


def test_a_change_within_its_tolerance_doubles_at_no_time():
    found = growth_of(mass(4000.0, 4050.0), days=365.25)
    assert found.doubling_days is None
    assert found.percent_per_year == pytest.approx(1.25)
    assert growth_of(mass(4000.0, 3000.0), days=365.25).doubling_days is None
    assert growth_of(mass(4000.0, 6000.0, tolerance_mm3=3000.0)).volume_progression is False


def test_a_new_mass_has_no_relative_growth():
    found = growth_of(mass(0.0, 500.0, before=(None, None), kind="new"), days=100)
    assert found.mm3_per_year == pytest.approx(500 * 365.25 / 100)
    assert found.percent_per_year is None
    assert found.exponential_per_year is None
    assert found.longest_change_mm is None
    assert (found.area_change_percent, found.area_class, found.volume_progression) == (None,) * 3


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((20.0, 18.75), "progression"),
        ((20.0, 18.7), "stable"),
        ((20.0, 11.3), "stable"),
        ((20.0, 11.25), "minor response"),
        ((20.0, 7.6), "minor response"),
        ((20.0, 7.5), "partial response"),
    ],
)
def test_areas_are_classed_as_rano_does(after, expected):
    assert growth_of(mass(4000.0, 4000.0, after=after)).area_class == expected


def test_a_small_mass_is_not_measurable_and_one_that_is_gone_has_responded():
    assert growth_of(mass(300.0, 900.0, before=(20.0, 9.9))).area_class is None
    gone = mass(4000.0, 0.0, after=(None, None), kind="gone")
    assert growth_of(gone).area_class == "complete response"


def test_days_go_forwards():
    with pytest.raises(InputError, match="-3 days"):
        growth_of(mass(4000.0, 6000.0), days=-3)
