"""How well images lie on each other, and the map that lays them best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from segjax.evaluate.alignment import (
    Sampled,
    align,
    edge_agreement,
    edges,
    even,
    exponential,
    flatten,
    logarithm,
    mutual_information,
    places_in,
    search,
    smooth,
    values_at,
)
from segjax.volume import Volume

PLACE = np.diag([3.0, 3.0, 3.0, 1.0])
PLACE[:3, 3] = -36


def texture(seed=0, shape=(25, 26, 24)):
    """Return an image of blobs of about 6 mm."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return Volume((gaussian_filter(noise, 2) * 100 + 50).astype(np.float32), PLACE)


def ball(volume, radius=27.0):
    index = np.moveaxis(np.indices(volume.data.shape), 0, -1)
    places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return volume.with_data((np.linalg.norm(places, axis=-1) < radius).astype(np.uint8))


def motion(degrees, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(
        np.deg2rad(degrees) * np.array([0.6, 0.0, 0.8])
    ).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def test_information_is_the_entropy_of_equal_images():
    bins = np.repeat(np.arange(4.0), 25)
    assert mutual_information(bins, bins) == pytest.approx((np.log(4), 1.0))
    seen = np.where(np.arange(100) < 50, bins, np.nan)
    assert mutual_information(bins, seen) == pytest.approx((np.log(2), 0.5))


def test_information_of_what_has_nothing_in_common_is_none():
    first, second = np.meshgrid(np.arange(32.0), np.arange(32.0))
    assert mutual_information(first.ravel(), second.ravel())[0] == pytest.approx(0, abs=1e-12)
    lone = np.full(1024, np.nan)
    lone[:50] = 1
    assert mutual_information(first.ravel(), lone) == (0.0, 50 / 1024)


@given(st.integers(0, 2**32 - 1), st.integers(100, 400))
def test_information_is_symmetric_and_at_most_either_entropy(seed, size):
    first, second = np.random.default_rng(seed).uniform(0, 31, (2, size))
    there, back = mutual_information(first, second)[0], mutual_information(second, first)[0]
    assert there == pytest.approx(back)
    assert -1e-9 <= there <= np.log(32)


def test_a_motion_is_found_in_turned_values():
    image, matrix = texture(), motion(5, (4, -3, 2))
    other = Volume(100 - image.data, matrix @ PLACE)
    places = places_in(ball(image), 4000)
    ours, theirs = Sampled.of(image, places), Sampled.of(other, places @ matrix.T)
    found, information = align(ours, theirs, places, motion(2, (3, -1, 1)))
    np.testing.assert_allclose(found, matrix, atol=0.02)
    assert information > 2
    stretched = matrix @ np.diag([1.04, 0.97, 1, 1])
    theirs = Sampled.of(Volume(image.data, stretched @ PLACE), places)
    found, _ = align(ours, theirs, places, matrix, affine=True)
    np.testing.assert_allclose(found, stretched, atol=0.05)


def test_a_head_is_found_wherever_it_lies_and_however_it_is_turned():
    image = texture(1)
    image = image.with_data(image.data * ball(image).data)
    matrix = motion(0, (70, -40, 90)) @ np.array(
        [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    )
    other = Volume(image.data, matrix @ PLACE)
    ours, theirs = places_in(ball(image), 2000), places_in(ball(image), 2000) @ matrix.T
    found = search(Sampled.of(image, ours), Sampled.of(other, theirs), ours, theirs)
    np.testing.assert_allclose(found, matrix, atol=0.3)


def test_images_without_contrast_stay_where_they_start():
    even_one = texture().with_data(np.ones((25, 26, 24), np.float32))
    places = places_in(ball(even_one), 500)
    flat = Sampled.of(even_one, places)
    found, information = align(flat, flat, places, motion(3, (1, 2, 3)))
    np.testing.assert_allclose(found, motion(3, (1, 2, 3)))
    assert information == pytest.approx(0, abs=1e-12)


def test_edges_agree_in_any_contrast_where_they_lie_on_each_other():
    image, matrix = texture(2), motion(20, (4, -3, 2))
    places = places_in(ball(image, 18), 2000)
    first = edges(image)
    other = edges(even(Volume((100 - image.data) ** 3, PLACE), 3.0))
    assert edge_agreement(first, other, np.eye(4), places) > 0.95
    turned = edges(even(Volume(image.data, matrix @ PLACE), 3.0))
    assert edge_agreement(first, turned, matrix, places) > 0.95
    assert edge_agreement(first, edges(texture(3)), np.eye(4), places) == pytest.approx(
        1 / 3, abs=0.1
    )
    assert edge_agreement(first, first, motion(0, (500, 0, 0)), places) == 0
    assert edge_agreement(first, edges(image.with_data(image.data * 0)), np.eye(4), places) == 0


def test_places_lie_in_the_mask_between_voxels_and_are_the_same_each_time():
    mask = ball(texture(), 12)
    places = places_in(mask, 200)
    np.testing.assert_array_equal(places, places_in(mask, 200))
    index = np.rint((places - PLACE[:, 3])[:, :3] / 3).astype(int)
    assert mask.data[tuple(index.T)].all()
    assert len(np.unique(index, axis=0)) == 200
    assert len(places_in(mask, 10**6)) == mask.data.sum()


def test_brightness_that_drifts_is_taken_out():
    index = np.indices((40, 40, 40)) / 39 - 0.5
    checks = 100 + 40 * (np.indices((40, 40, 40)).sum(axis=0) // 3 % 2)
    image = Volume(checks.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    drifted = image.with_data((image.data * np.exp(index[0] - index[2])).astype(np.float32))
    flat, drift = (flatten(one, even(one, 4.0)).data[5:-5, 5:-5, 5:-5] for one in (image, drifted))
    assert np.abs(drift / flat - 1).max() < 0.25
    assert np.abs(drifted.data / image.data - 1).max() > 1


def test_thick_slices_are_not_smoothed_across():
    data = np.zeros((9, 9, 9), np.float32)
    data[4, 4, 4] = 1
    found = smooth(Volume(data, np.diag([1.0, 1.0, 4.0, 1.0])), 1.0).data
    assert found[:, :, 4].sum() == pytest.approx(1, abs=1e-4)
    assert found[3, 4, 4] > 0.05


@settings(max_examples=20)
@given(st.floats(-150, 150), st.tuples(*[st.floats(-90, 90)] * 3))
def test_maps_have_logarithms(degrees, shift):
    matrix = motion(degrees, shift)
    np.testing.assert_allclose(exponential(logarithm(matrix)), matrix, atol=1e-8)
    np.testing.assert_allclose(logarithm(np.linalg.inv(matrix)), -logarithm(matrix), atol=1e-8)


def test_values_outside_an_image_are_not_known():
    image = texture()
    found = values_at(image, np.array([[0, 0, 0, 1], [900, 0, 0, 1.0]]))
    assert np.isfinite(found).tolist() == [True, False]
