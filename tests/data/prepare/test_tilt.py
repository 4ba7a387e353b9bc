"""Volumes whose axes are not at right angles."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.prepare.tilt import tilt, upright, upright_grid, warn_of_tilts
from segjax.grid import Grid
from segjax.volume import Volume


def sheared(degrees, spacing=(1.0, 1.0, 3.0), axis=2):
    """Return an affine whose third axis leans towards the second."""
    affine = np.diag([*spacing, 1.0])
    affine[1, 2] = math.tan(math.radians(degrees)) * spacing[2]
    order = [a for a in range(3) if a != 2]
    order.insert(axis, 2)
    return affine[:, [*order, 3]]


@pytest.mark.parametrize("degrees", [0.0, 5.0, 26.6])
def test_tilt_is_the_angle_of_the_gantry(degrees):
    assert tilt(sheared(degrees)) == pytest.approx(degrees, abs=1e-6)


def test_flips_and_rotations_are_no_tilt():
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    assert tilt(turn @ np.diag([-1, 2, 3, 1.0])) == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.floats(1, 35), st.integers(0, 2), st.integers(2, 9))
def test_an_upright_grid_covers_all_voxels_with_voxels_of_one_size(degrees, axis, size):
    given_grid = Grid((size, 5, 6), sheared(degrees, axis=axis))
    grid = upright_grid(given_grid)
    assert tilt(grid.affine) < 1e-5
    assert abs(np.linalg.det(grid.affine)) == pytest.approx(abs(np.linalg.det(given_grid.affine)))
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(given_grid.shape)[:, None] - 1)
    places = given_grid.affine @ np.vstack([corners, np.ones(8)])
    index = np.linalg.solve(grid.affine, places)[:3]
    assert (index > -1e-4).all()
    assert (index < np.array(grid.shape)[:, None] - 1 + 1e-4).all()


def test_slices_keep_their_plane_where_the_gantry_was_tilted():
    grid = upright_grid(Grid((8, 9, 10), sheared(20.0)))
    assert grid.affine[:3, :2] == pytest.approx(sheared(20.0)[:3, :2])
    assert grid.affine[:3, 2] == pytest.approx([0, 0, 3])


def test_a_blob_stays_where_it_was_in_the_patient():
    data = np.zeros((9, 40, 12), np.float32)
    data[4, 20, 6] = 1
    affine = sheared(20.0)
    found = upright(Volume(data, affine))
    weights = found.data / found.data.sum()
    index = [float((weights * axis).sum()) for axis in np.indices(found.data.shape)]
    assert found.affine[:3] @ [*index, 1] == pytest.approx(affine[:3] @ [4, 20, 6, 1], abs=1e-3)


def test_upright_volumes_and_pictures_come_back_as_they_are():
    for volume in (Volume(np.ones((2, 3, 4)), np.eye(4)), Volume(np.ones((2, 3)), np.eye(3))):
        assert upright(volume) is volume


def test_a_tilt_is_said_with_its_angle():
    affines = {"a.nii": np.eye(4), "b.nii": sheared(10.0), "c.nii": sheared(20.0)}
    with pytest.warns(UserWarning, match=r"c\.nii \(and 1 other\): slices are tilted, 20\.0°.*!$"):
        warn_of_tilts(affines, "!")
