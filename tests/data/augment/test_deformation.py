"""Deformations: compositions, and B-splines against SciPy."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from segjax.data.augment._deformation import Deformation, bspline_weights, compose
from segjax.errors import InputError


@pytest.mark.parametrize(("size", "count"), [(1, 4), (9, 5), (64, 7)])
def test_weights_are_those_of_a_uniform_cubic_spline(size, count):
    places = (np.arange(size) + 0.625) / (size + 0.25) * (count - 3)
    spline = BSpline(np.arange(count + 4) - 3.0, np.eye(count), 3)
    np.testing.assert_allclose(bspline_weights(size, count), spline(places), atol=1e-6)


def moved(deformation, spatial, point):
    field = deformation.field(spatial, np)
    displacement = deformation.displacement(field, spatial, slice(0, spatial[0]), np)
    return point + displacement[(slice(None), *point)]


def test_a_composition_goes_where_its_parts_go_one_after_the_other():
    rng = np.random.default_rng(0)
    first, second = (
        Deformation(rng.integers(-1, 2, (2, 3)).astype(np.float32) * np.float32(2)) for _ in "ab"
    )
    points = rng.uniform(-1, 1, (2, 5, 5)).astype(np.float32)
    bent = Deformation(second.matrix, points)
    place = np.array([4, 2])
    halfway = moved(bent, (9, 9), place)
    centred = halfway - 4
    expected = halfway + first.matrix[:, :-1] @ centred + first.matrix[:, -1]
    np.testing.assert_allclose(
        moved(compose(first, bent, np), (9, 9), place), expected, rtol=1e-5, atol=1e-5
    )


def test_nothing_is_composed_onto_an_elastic_deformation():
    still = Deformation(np.zeros((2, 3), np.float32))
    bent = Deformation(np.zeros((2, 3), np.float32), np.zeros((2, 5, 5), np.float32))
    with pytest.raises(InputError, match="only be the last"):
        compose(bent, still, np)
