"""The figures of RANO and RECIST, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.measure import Diameter, measure_mask
from segjax.evaluate.response import CRITERIA, Criteria, response
from segjax.volume import Volume

NOWHERE = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
(ONE,) = measure_mask(Volume(np.ones((1, 1, 1), np.uint8), np.eye(4)))[0].lesions


def lesions(*sizes, third=30.0):
    return [
        replace(
            ONE,
            number=number,
            longest=Diameter(longest, NOWHERE),
            perpendicular=Diameter(across, NOWHERE),
            third_mm=third,
        )
        for number, (longest, across) in enumerate(sizes, 1)
    ]


SEVERAL = lesions((30, 20), (12, 11), (40, 9), (10, 10), (9.9, 9.9), (25, 4))


def test_rano_adds_products_of_lesions_of_10_mm_both_ways():
    for name in ("rano", "rano-meningioma"):
        found = response(SEVERAL, name, slice_mm=3.0)
        assert (found.value, found.unit) == (600 + 132 + 100, "mm2")
        assert (found.targets, found.measurable) == ((1, 2, 4), 3)


def test_rano_bm_adds_longest_diameters_of_lesions_of_5_mm_across():
    found = response(SEVERAL, "rano-bm", slice_mm=3.0)
    assert (found.value, found.unit, found.targets) == (30 + 12 + 40 + 10, "mm", (3, 1, 2, 4))


def test_recist_adds_the_two_longest_of_an_organ():
    found = response(SEVERAL, "recist-1.1", slice_mm=3.0)
    assert (found.value, found.targets, found.measurable) == (70, (3, 1), 5)


def test_five_targets_at_most_the_largest_first():
    found = response(lesions(*[(n, 10.0) for n in range(11, 20)]), "rano", slice_mm=1.0)
    assert found.targets == (9, 8, 7, 6, 5)
    assert found.measurable == 9


def test_a_lesion_must_show_in_two_slices_of_rano_but_not_of_recist():
    flat = lesions((30, 20), third=3.0)
    assert response(flat, "rano", slice_mm=3.0).measurable == 0
    assert response(flat, "rano", slice_mm=1.5).measurable == 1
    assert response(flat, "recist-1.1", slice_mm=3.0).measurable == 1


def test_thick_slices_ask_for_twice_their_distance():
    some = lesions((11, 11), (12, 12), (30, 11))
    assert response(some, "rano", slice_mm=6.0).targets == (2,)
    assert response(some, "rano-bm", slice_mm=6.0).targets == (3, 2)
    assert response(some, "recist-1.1", slice_mm=5.0).targets == (3, 2)


def test_nothing_measurable_is_nought():
    found = response([], "rano", slice_mm=1.0)
    assert (found.value, found.targets) == (0, ())


def test_criteria_of_ones_own():
    own = Criteria(False, 3, 0, 1, 100, "McDonald")
    assert response(SEVERAL, own, slice_mm=1.0).measurable == len(SEVERAL)
    assert all(one.source for one in CRITERIA.values())


def test_other_names_and_pictures_are_refused():
    with pytest.raises(InputError, match="unknown response criteria 'rano-bn': did you mean"):
        response(SEVERAL, "rano-bn", slice_mm=1.0)
    with pytest.raises(InputError, match="a picture shows one slice"):
        response(lesions((30, 20), third=None), "rano", slice_mm=1.0)
