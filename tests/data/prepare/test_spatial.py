"""Grids: against nibabel, SimpleITK, TorchIO and by properties."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from segjax.data.io.formats import read_volume
from segjax.data.prepare.spatial import (
    crop_or_pad,
    crop_or_pad_grid,
    crop_to_foreground,
    foreground_grid,
    resample,
    spacing_grid,
)
from segjax.errors import InputError
from segjax.grid import Grid, grid, reorient
from segjax.volume import Volume
from tests.geometry import (
    affines,
    centres,
    from_sitk,
    image_range,
    noise,
    rigid,
    seeds,
    shapes,
    to_sitk,
)
from tests.peers import torch, torchio


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_oblique_resampling_is_simpleitks(interpolation, flips):
    volume = Volume(noise((24, 20, 9)), rigid(flips=flips))
    affine = rigid((14, -20, 33), (0.9, 1.1, 1.3))
    affine[:3, 3] = centres(volume, (11.3, 9.6, 4.1)) - affine[:3, :3] @ [8, 11, 12]
    target = Volume(noise((18, 22, 24), 1), affine)
    kind = sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor
    expected = sitk.Resample(to_sitk(volume), to_sitk(target), sitk.Transform(), kind)
    result = resample(volume, grid(target), interpolation=interpolation)
    assert 0.1 < (result.data != 0).mean() < 0.99
    np.testing.assert_allclose(result.data, from_sitk(expected).data, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float64])
def test_nearest_keeps_type_and_values(dtype):
    volume = Volume(noise((9, 8, 7), dtype=dtype), rigid())
    target = spacing_grid(volume, (0.61, 0.93, 1.13))
    expected = sitk.Resample(
        to_sitk(volume), to_sitk(Volume(np.zeros(target.shape), target.affine)), sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )  # fmt: skip
    result = resample(volume, target, interpolation="nearest")
    assert result.data.dtype == dtype
    assert set(np.unique(result.data)) <= set(np.unique(volume.data)) | {0}
    np.testing.assert_array_equal(result.data, from_sitk(expected).data)


def test_masks_stay_masks():
    volume = Volume(noise((9, 8, 7)) > 50, rigid())
    result = resample(volume, spacing_grid(volume, (0.61, 0.93, 1.13)), interpolation="nearest")
    assert result.data.dtype == bool
    assert 0.3 < result.data.mean() < 0.7


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float64, ">i2", np.longdouble])
def test_linear_gives_float32_of_any_type(dtype):
    volume = Volume(noise((9, 8, 7), dtype=dtype), np.diag([1.0, 1.0, 2.0, 1.0]))
    result = resample(volume, spacing_grid(volume, (1.0, 1.0, 1.0)))
    assert result.data.dtype == np.float32
    between = 0.75 * volume.data[..., 2].astype(float) + 0.25 * volume.data[..., 3].astype(float)
    np.testing.assert_allclose(result.data[..., 5], between, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(affines(), affines(), seeds)
def test_sheared_grids_agree_with_interpolation_by_scipy(before, after, seed):
    volume = Volume(noise((6, 7, 8), seed), before)
    after[:3, 3] = centres(volume, (2.5, 3, 3.5)) - after[:3, :3] @ [2, 2, 2]
    index = np.linalg.inv(before) @ after
    points = np.indices((5, 5, 5)).reshape(3, -1)
    places = index[:3, :3] @ points + index[:3, 3:]
    inside = ((places > 0) & (places < np.array([[5], [6], [7]]))).all(axis=0)
    expected = map_coordinates(volume.data, places, order=1)[inside]
    result = resample(volume, Grid((5, 5, 5), after)).data.ravel()[inside]
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_the_border_holds_half_a_voxel_and_then_zero():
    volume = Volume(np.array([[[5.0]], [[7.0]]]), np.eye(4))
    affine = np.diag([0.25, 1, 1, 1])
    affine[0, 3] = -0.7
    result = resample(volume, Grid((12, 1, 1), affine)).data[:, 0, 0]
    expected = [0, 5, 5, 5.1, 5.6, 6.1, 6.6, 7, 7, 0, 0, 0]  # at -0.7, -0.45, -0.2, 0.05, …
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_channels_are_resampled_apart():
    data = noise((6, 5, 4, 2))
    target = spacing_grid(Grid((6, 5, 4), np.eye(4)), (0.7, 0.7, 0.7))
    both = resample(Volume(data, np.eye(4)), target)
    for c in range(2):
        one = resample(Volume(data[..., c], np.eye(4)), target)
        np.testing.assert_array_equal(both.data[..., c], one.data)


def test_rank_two():
    volume = Volume(np.array([[0.0, 1.0], [2.0, 3.0]]), np.eye(3))
    result = resample(volume, spacing_grid(volume, (0.5, 1.0)))
    np.testing.assert_allclose(result.data, [[0, 1], [0.5, 1.5], [1.5, 2.5], [2, 3]])


def test_the_same_grid_returns_the_same_data():
    volume = Volume(noise((9, 8, 7)), rigid())
    near = volume.affine.copy()
    near[:3, 3] += 1e-6
    assert resample(volume, Grid((9, 8, 7), near)).data is volume.data


def test_a_flipped_grid_is_an_exact_flip():
    volume = Volume(noise((9, 8, 7)), rigid())
    flipped = reorient(volume, "LPI")
    result = resample(volume, grid(flipped), interpolation="nearest")
    np.testing.assert_array_equal(result.data, flipped.data)


def test_other_ranks_are_refused():
    with pytest.raises(InputError, match=r"rank 3 has no place on \(4, 5\)"):
        resample(Volume(noise((3, 4, 5)), np.eye(4)), Grid((4, 5), np.eye(3)))


def test_unknown_interpolation_is_refused():
    volume = Volume(noise((3, 4, 5)), np.eye(4))
    with pytest.raises((InputError, TypeError), match="cubic"):
        resample(volume, grid(volume), interpolation="cubic")


def test_a_real_oblique_series_resamples_as_with_simpleitk(data_dir):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data_dir / "dicom/flair_oblique")))
    image = sitk.Cast(reader.Execute()[::4, ::4], sitk.sitkFloat32)
    volume = from_sitk(image)
    target = spacing_grid(volume, (2.0, 2.0, 2.0))
    reference = to_sitk(Volume(np.zeros(target.shape), target.affine))
    expected = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear)
    assert not np.allclose(volume.affine[:3, :3], np.diag(np.diag(volume.affine[:3, :3])))
    result = resample(volume, target).data
    np.testing.assert_allclose(result, from_sitk(expected).data, atol=1e-4 * image_range(volume))


@pytest.mark.peer("torchio")
@pytest.mark.parametrize(
    ("shape", "spacing", "new"),
    [
        ((24, 20, 9), (0.5, 1.0, 3.0), (0.97, 0.93, 0.95)),
        ((24, 20, 9), (0.5, 1.0, 3.0), (0.7, 1.3, 0.9)),
        ((24, 20, 1), (0.5, 1.0, 6.5), (0.97, 0.97, 0.97)),
        ((7, 5, 3), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
    ],
)
def test_grid_and_values_are_torchios(shape, spacing, new):
    volume = Volume(noise(shape), rigid(spacing=spacing))
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume.data[None]), affine=volume.affine)
    expected = torchio.Resample(new)(image)
    target = spacing_grid(volume, new)
    assert target.shape == expected.spatial_shape
    np.testing.assert_allclose(target.affine, expected.affine, atol=1e-5)
    result = resample(volume, target).data
    np.testing.assert_allclose(result, expected.numpy()[0], atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(affines(), shapes, st.tuples(*[st.floats(0.2, 5)] * 3))
def test_centre_and_axes_stay_and_the_field_of_view_never_grows(affine, shape, new):
    before = Grid(shape, affine)
    after = spacing_grid(before, new)
    np.testing.assert_allclose(after.spacing, new, rtol=1e-9)
    np.testing.assert_allclose(
        after.affine @ [*(np.array(after.shape) - 1) / 2, 1],
        before.affine @ [*(np.array(shape) - 1) / 2, 1],
        atol=1e-6,
    )
    old, now = np.multiply(shape, before.spacing), np.multiply(after.shape, new)
    many = np.array(after.shape) > 1
    assert (now[many] <= old[many] + 0.002 * np.array(new)[many]).all()
    assert (now[np.array(shape) > 1] > (old - new)[np.array(shape) > 1] - 1e-6).all()


def test_its_own_spacing_gives_the_grid_itself():
    for spacing in (0.1, 0.7, 1 / 3, 1.2):  # floor(7 * 0.7 / 0.7) is 6
        before = Grid((7, 31, 182), rigid(spacing=(spacing,) * 3))
        after = spacing_grid(before, (spacing,) * 3)
        assert after.shape == before.shape
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-9)


def test_voxels_larger_than_the_image_leave_one():
    assert spacing_grid(Grid((3, 4, 5), np.eye(4)), (10.0, 10.0, 2.0)).shape == (1, 1, 2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1, -1, 1), (1.0, 1.0, np.nan)])
def test_spacing_must_be_positive_and_of_the_rank(spacing):
    with pytest.raises(InputError, match="give 3 positive numbers"):
        spacing_grid(Grid((3, 4, 5), np.eye(4)), spacing)


def test_a_spacing_that_asks_for_the_moon_is_refused():
    with pytest.raises(InputError, match="check the spacing in the image's header"):
        spacing_grid(Grid((300, 300, 300), np.diag([1e4, 1e4, 1e4, 1])), (1.0, 1.0, 1.0))


@pytest.mark.peer("torchio")
@settings(max_examples=40, deadline=None)
@given(affines(shear=0.0), shapes, shapes, seeds)
def test_crop_or_pad_is_torchios(affine, shape, target, seed):
    volume = Volume(noise(shape, seed), affine)
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume.data[None]), affine=affine)
    expected = torchio.CropOrPad(target)(image)
    result = crop_or_pad(volume, target)
    np.testing.assert_array_equal(result.data, expected.numpy()[0])
    np.testing.assert_allclose(result.affine, expected.affine, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(affines(), shapes, shapes, seeds)
def test_the_way_back_restores_what_was_not_cropped(affine, shape, target, seed):
    volume = Volume(noise(shape, seed) + 1, affine)
    back = crop_or_pad(crop_or_pad(volume, target), shape)
    kept = back.data != 0
    assert kept.sum() == np.prod(np.minimum(shape, target))
    np.testing.assert_array_equal(back.data[kept], volume.data[kept])
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(affines(), shapes, shapes, seeds)
def test_cropping_and_padding_move_no_voxel(affine, shape, target, seed):
    volume = Volume(np.zeros(shape, np.uint8), affine)
    marked = tuple(np.random.default_rng(seed).integers(0, shape))
    volume.data[marked] = 1
    result = crop_or_pad(volume, target)
    for found in np.argwhere(result.data):
        np.testing.assert_allclose(centres(result, found), centres(volume, marked), atol=1e-9)


def test_the_larger_half_is_at_the_start():
    volume = Volume(np.array([[1, 2, 3, 4]]), np.eye(3))
    np.testing.assert_array_equal(crop_or_pad(volume, (2, 1)).data, [[0], [3]])
    np.testing.assert_array_equal(crop_or_pad(volume, (1, 7)).data, [[0, 0, 1, 2, 3, 4, 0]])


def test_fill_and_channels():
    volume = Volume(np.ones((1, 1, 2), np.float32), np.eye(3))
    result = crop_or_pad(volume, (2, 1), fill=-5)
    np.testing.assert_array_equal(result.data, [[[-5, -5]], [[1, 1]]])


def test_the_same_shape_returns_a_view():
    volume = Volume(noise((3, 4, 5)), np.eye(4))
    assert np.shares_memory(crop_or_pad(volume, (3, 4, 5)).data, volume.data)


@pytest.mark.parametrize("shape", [(3, 4), (3, 0, 4), (3, -1, 4)])
def test_shapes_must_be_positive_and_of_the_rank(shape):
    with pytest.raises(InputError, match="give 3 positive numbers of voxels"):
        crop_or_pad_grid(Grid((3, 4, 5), np.eye(4)), shape)


@settings(max_examples=60, deadline=None)
@given(affines(), shapes, seeds, st.floats(0, 5))
def test_the_box_is_the_smallest_that_holds_the_foreground(affine, shape, seed, margin):
    rng = np.random.default_rng(seed)
    data = (rng.random((*shape, 2)) > 0.9).astype(np.int16)
    data[tuple(rng.integers(0, shape))] = -1  # negative values are foreground
    volume = Volume(data, affine)
    result = crop_to_foreground(volume, margin=margin)
    assert np.count_nonzero(result.data) == np.count_nonzero(data)
    index = np.linalg.inv(affine) @ result.affine
    for axis in range(3):
        inside = np.flatnonzero(data.any(-1).any(tuple(a for a in range(3) if a != axis)))
        more = int(np.ceil(margin / volume.spacing[axis] - 1e-3))
        low, high = max(inside[0] - more, 0), min(inside[-1] + more, shape[axis] - 1)
        assert index[axis, 3] == pytest.approx(low, abs=1e-6)
        assert result.data.shape[axis] == high - low + 1


def test_an_empty_image_has_no_foreground():
    with pytest.raises(InputError, match="every voxel of the image is 0"):
        crop_to_foreground(Volume(np.zeros((3, 4, 5)), np.eye(4)))
    with pytest.raises(InputError, match="margin -1"):
        foreground_grid(Volume(np.ones((3, 4, 5)), np.eye(4)), margin=-1)


@pytest.mark.peer("torchio")
def test_a_real_volume_is_treated_as_by_torchio(data_dir):
    volume = read_volume(data_dir / "ms_lesions" / "patient07" / "flair.nii.gz")
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume.data[None]), affine=volume.affine)
    limit = 1e-5 * np.ptp(volume.data)
    canonical = torchio.ToCanonical()(image)
    ours = reorient(volume)
    np.testing.assert_array_equal(ours.data, canonical.numpy()[0])
    np.testing.assert_allclose(ours.affine, canonical.affine, atol=1e-6)
    coarse = torchio.Resample((2.3, 1.9, 2.7))(canonical)
    result = resample(ours, spacing_grid(ours, (2.3, 1.9, 2.7)))
    np.testing.assert_allclose(result.affine, coarse.affine, atol=1e-5)
    np.testing.assert_allclose(result.data, coarse.numpy()[0], atol=limit)
    expected = torchio.CropOrPad((192, 192, 224))(canonical)
    padded = crop_or_pad(ours, (192, 192, 224))
    np.testing.assert_array_equal(padded.data, expected.numpy()[0])
    np.testing.assert_allclose(padded.affine, expected.affine, atol=1e-6)
