"""Grids: against nibabel, SimpleITK, TorchIO and by properties."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.grid import Grid, crop_to_grid, grid, orientation, reorient, restore_orientation
from segjax.volume import Volume
from tests.geometry import (
    ORIENTATIONS,
    affines,
    centres,
    noise,
    rigid,
    seeds,
    shapes,
)


@settings(max_examples=200, deadline=None)
@given(affines())
def test_orientation_is_nibabels(affine):
    assert orientation(affine) == "".join(nibabel.aff2axcodes(affine))


def test_oblique_axes_are_used_once_each():
    affine = np.eye(4)
    affine[:3, :3] = [[0.8, 0.6, 0], [0.6, -0.79, 0], [0, 0, 1]]
    assert orientation(affine) == "RPS"


@settings(max_examples=50, deadline=None)
@given(affines(), shapes, seeds)
def test_ras_is_nibabels_closest_canonical(affine, shape, seed):
    volume = Volume(noise(shape, seed), affine)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.data, affine))
    result = reorient(volume)
    np.testing.assert_array_equal(result.data, np.asarray(expected.dataobj))
    np.testing.assert_allclose(result.affine, expected.affine, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(affines(), shapes, st.sampled_from(ORIENTATIONS), seeds)
def test_no_voxel_moves_in_the_patient(affine, shape, code, seed):
    volume = Volume(np.zeros(shape, np.uint8), affine)
    marked = tuple(np.random.default_rng(seed).integers(0, shape))
    volume.data[marked] = 1
    result = reorient(volume, code)
    (found,) = np.argwhere(result.data)
    np.testing.assert_allclose(centres(result, found), centres(volume, marked), atol=1e-9)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_the_result_has_the_orientation_that_was_asked_for(code):
    volume = Volume(noise((3, 4, 5)), rigid())
    assert orientation(reorient(volume, code).affine) == code


@settings(max_examples=50, deadline=None)
@given(affines(), shapes, st.sampled_from(ORIENTATIONS), st.booleans(), seeds)
def test_restoring_an_orientation_is_exact(affine, shape, code, channels, seed):
    volume = Volume(noise((*shape, 2) if channels else shape, seed), affine)
    result = restore_orientation(reorient(volume, code), grid(volume), code)
    np.testing.assert_array_equal(result.data, volume.data)
    np.testing.assert_array_equal(result.affine, volume.affine)


@pytest.mark.parametrize("angle", [45, 135, -45])
def test_restoring_is_exact_where_two_axes_are_equally_near(angle):
    volume = Volume(noise((3, 4, 5)), rigid((0, 0, angle), (1, 1, 1)))
    for code in ORIENTATIONS:
        back = restore_orientation(reorient(volume, code), grid(volume), code)
        np.testing.assert_array_equal(back.data, volume.data)


def test_slices_without_a_place_keep_their_axes():
    volume = Volume(noise((3, 4)), np.diag([-1.0, 1.0, 1.0]))
    assert reorient(volume, "LPS") is volume
    assert restore_orientation(volume, grid(volume), "LPS") is volume


def test_data_are_not_copied():
    volume = Volume(noise((3, 4, 5)), np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert np.shares_memory(reorient(volume).data, volume.data)


@pytest.mark.parametrize("code", ["RAR", "RA", "ras", "XYZ", "RASL", ""])
def test_letters_that_name_no_orientation_are_refused(code):
    with pytest.raises(InputError, match=f"orientation '{code}': give three letters"):
        reorient(Volume(noise((3, 4, 5)), np.eye(4)), code)


def test_restoring_another_shape_is_refused():
    volume = Volume(noise((3, 4, 5)), np.eye(4))
    with pytest.raises(InputError, match=r"\(3, 4, 5\) does not fit \(3, 4, 6\)"):
        restore_orientation(volume, Grid((3, 4, 6), np.eye(4)), "RAS")


@settings(max_examples=60, deadline=None)
@given(affines(), shapes, shapes, seeds)
def test_cropping_to_a_grid_and_back_keeps_every_voxel_in_it(affine, shape, target, seed):
    rng = np.random.default_rng(seed)
    volume = Volume(noise(shape, seed) + 1, affine)
    moved = affine.copy()
    start = rng.integers(-4, 8, 3)
    moved[:3, 3] += affine[:3, :3] @ start
    there = crop_to_grid(volume, Grid(target, moved))
    assert there.data.shape == target
    back = crop_to_grid(there, grid(volume))
    kept = back.data != 0
    low, high = np.maximum(start, 0), np.minimum(start + target, shape)
    assert kept.sum() == np.prod(np.maximum(high - low, 0))
    np.testing.assert_array_equal(back.data[kept], volume.data[kept])


def test_cropping_to_a_grid_is_resampling_by_the_nearest():
    volume = Volume(noise((6, 7, 8)), rigid())
    further = volume.affine.copy()
    further[:3, 3] += volume.affine[:3, :3] @ (2, -1, 3)
    target = Grid((5, 9, 4), further)
    expected = resample(volume, target, interpolation="nearest")
    np.testing.assert_array_equal(crop_to_grid(volume, target).data, expected.data)


def test_grids_between_the_voxels_are_refused():
    volume = Volume(noise((3, 4, 5)), np.eye(4))
    between, wider = np.eye(4), np.diag([2.0, 1, 1, 1])
    between[0, 3] = 0.5
    for affine in (between, wider):
        with pytest.raises(InputError, match=r"between those of the volume .* resample"):
            crop_to_grid(volume, Grid((3, 4, 5), affine))
    with pytest.raises(InputError, match="rank 3 has no place"):
        crop_to_grid(volume, Grid((3, 4), np.eye(3)))


@pytest.mark.parametrize(
    ("shape", "affine"),
    [((3, 4), np.eye(4)), ((3, 4, 0), np.eye(4)), ((3, 4, 5), np.diag([1.0, 0, 1, 1]))],
)
def test_grids_that_place_nothing_are_refused(shape, affine):
    with pytest.raises(InputError):
        Grid(shape, affine)
