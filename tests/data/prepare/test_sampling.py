"""Reading between voxels: against SimpleITK, which works on indices as well."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.formats import read_volume
from segjax.data.prepare.sampling import sample
from tests.geometry import noise, rigid, seeds

KINDS = {True: sitk.sitkLinear, False: sitk.sitkNearestNeighbor}


def simpleitks(data, index, shape, linear):
    rank = len(shape)
    place = sitk.AffineTransform(rank)
    place.SetMatrix(index[:rank, :rank].ravel().tolist())
    place.SetTranslation(index[:rank, rank].tolist())
    image = sitk.GetImageFromArray(data.T)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(shape)
    resampler.SetTransform(place)
    resampler.SetInterpolator(KINDS[linear])
    return sitk.GetArrayFromImage(resampler.Execute(image)).T


def ours(data, index, shape, linear):
    out = np.full(shape, 1, data.dtype)
    sample(data, np.asarray(index, float), out, linear=linear)
    return out


def places(index, shape):
    points = np.indices(shape).reshape(len(shape), -1)
    return (index[:-1, :-1] @ points + index[:-1, -1:]).reshape(len(shape), *shape)


def undecided(index, shape):
    """Mark voxels halfway between two, or at the edge: rounding decides about them."""
    away = places(index, shape) - 0.5
    return (np.abs(away - np.round(away)) < 1e-6).any(axis=0)


def is_equal(data, index, shape):
    decided = ~undecided(index, shape)
    data = data.astype(np.float32)
    found, expected = (f(data, index, shape, True) for f in (ours, simpleitks))
    limit = 1e-5 * max(float(np.ptp(data)), 1e-6)
    np.testing.assert_allclose(found[decided], expected[decided], rtol=0, atol=limit)
    found, expected = (f(data, index, shape, False) for f in (ours, simpleitks))
    np.testing.assert_array_equal(found[decided], expected[decided])
    return True


def turned(angles, shift=1.2):
    index = rigid(angles, spacing=(0.7, 0.8, 0.9))
    index[:3, 3] = shift
    return index


def scaled(scales, offset, order=(0, 1, 2)):
    index = np.eye(len(scales) + 1)
    index[:-1, :-1] = np.diag(scales)[:, order]
    index[:-1, -1] = offset
    return index


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("scales", [(0.4, 0.7, 1.0), (2.3, 1.7, 3.1), (-0.61, 1.0, -1.9)])
def test_axes_that_are_scaled_turned_and_flipped(scales, order):
    offset = [8.3 if scale < 0 else -1.2 for scale in scales]
    assert is_equal(noise((9, 8, 11)), scaled(scales, offset, order), (12, 13, 10))


@pytest.mark.parametrize("spacing", [(0.5, 0.6, 0.7), (1.0, 1.0, 1.0), (2.0, 1.3, 1.8)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_oblique_axes(spacing, flips):
    index = rigid(spacing=spacing, flips=flips)
    index[:3, 3] = np.array([4, 3.5, 5]) - index[:3, :3] @ [5, 6, 5]
    assert is_equal(noise((9, 8, 11)), index, (11, 13, 10))


def test_sheared_axes():
    index = np.eye(4)
    index[0, 1], index[2, 0], index[:3, 3] = 0.31, -0.23, (-1.1, 0.2, 1.4)
    assert is_equal(noise((9, 8, 11)), index, (10, 9, 12))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.lists(st.floats(-2, 2, width=16), min_size=9, max_size=9),
    st.booleans(),
    seeds,
)
def test_any_grid(old, new, numbers, straight, seed):
    matrix = np.reshape(numbers, (3, 3)) * (np.eye(3) if straight else 1)
    index = np.eye(4)
    index[:3, :3] = matrix
    index[:3, 3] = (np.array(old) - 1) / 2 - matrix @ ((np.array(new) - 1) / 2) + 0.0123
    if abs(np.linalg.det(matrix)) > 1e-3:  # SimpleITK takes no other
        assert is_equal(noise(old, seed), index, new)


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_pictures(angle):
    c, s = np.cos(angle), np.sin(angle)
    index = np.array([[0.7 * c, -s, 1.3], [s, 0.7 * c, -1.1], [0, 0, 1]])
    assert is_equal(noise((20, 30)), index, (25, 31))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_axes_of_one_voxel(axis, angle):
    shape = tuple(1 if a == axis else 7 for a in range(3))
    c, s = np.cos(angle), np.sin(angle)
    index = np.array([[c, -s, 0, 0.1], [s, c, 0, 0.1], [0, 0, 0.9, 0.1], [0, 0, 0, 1]])
    assert is_equal(noise(shape), index, (7, 6, 5))


@pytest.mark.parametrize("angle", [0.0, 0.3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_depends_on_the_order_in_memory(order, angle):
    data = noise((9, 8, 7)).astype(np.float32)
    index = turned((10, 20, 30) if angle else (0, 0, 0))
    for linear in (True, False):
        expected = ours(data, index, (10, 9, 8), linear)
        found = ours(np.asarray(data, order=order), index, (10, 9, 8), linear)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [bool, ">i2", np.uint64, np.float16, np.float64, np.longdouble])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_the_nearest_voxel_keeps_any_type(dtype, angle):
    data = noise((9, 8, 7)) > 50 if dtype is bool else noise((9, 8, 7)).astype(dtype)
    index = turned((angle, 0, 0))
    near = np.floor(places(index, (7, 7, 5)) + 0.5).astype(int)
    inside = np.all([(n >= 0) & (n < s) for n, s in zip(near, data.shape, strict=True)], axis=0)
    expected = np.where(inside, data[tuple(np.where(inside, n, 0) for n in near)], 0)
    found = ours(data, index, (7, 7, 5), False)
    assert found.dtype == data.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("angle", [0.0, 1e-9])
def test_halfway_between_two_voxels_the_later_is_the_nearest(angle):
    data = np.arange(12, dtype=np.int16).reshape(6, 2)
    index = scaled((0.1, 1.0), (0.2, 0.0), (0, 1))
    index[0, 1] = angle
    assert ours(data, index, (10, 2), False)[:, 0].tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("angle", [0.0, 0.2])
def test_values_of_one_size_stay_as_they_are(angle):
    data = np.full((9, 8, 7), 0.1, np.float32)
    found = ours(data, turned((angle, 0, 0)), (6, 6, 6), True)
    assert found.any()
    assert set(np.unique(found)) <= {np.float32(0), np.float32(0.1)}


def test_a_volume_that_lies_elsewhere_is_empty():
    for angle in (0.0, 20.0):
        index = turned((angle, 0, 0), shift=100)
        assert not ours(noise((5, 5, 5)), index, (4, 4, 4), False).any()


@pytest.mark.parametrize("angles", [(0, 0, 0), (5, -8, 12)])
def test_a_real_head_as_with_simpleitk(angles, data_dir):
    data = read_volume(data_dir / "ms_lesions" / "patient07" / "flair.nii.gz").data
    index = rigid(angles, spacing=(2.13, 1.87, 2.31))
    index[:3, 3] = (np.array(data.shape) - 1) / 2 - index[:3, :3] @ [42, 58, 39]
    assert is_equal(data, index, (85, 117, 79))
