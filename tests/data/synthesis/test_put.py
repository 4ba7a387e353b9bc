"""Lesions of known sizes that are put into a scan."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.data.phantom.dataset import phantom
from segjax.data.synthesis import ellipsoids, put_lesions
from segjax.errors import InputError
from segjax.volume import Volume


def scan(shape=(40, 44, 30), spacing=(1.0, 1.0, 2.0), seed=0):
    noise = np.random.default_rng(seed).normal(300, 20, shape).astype(np.float32)
    return Volume(noise, np.diag([*spacing, 1.0]))


def put(volume, seed=0, **options):
    return put_lesions(volume, ellipsoids(), np.random.default_rng(seed), **options)


def test_volumes_are_those_that_were_asked_for():
    volume = scan()
    _, shares, lesions = put(volume, volumes=[60.0, 400.0, 120.0])
    assert [lesion.mm3 for lesion in lesions] == pytest.approx([400.0, 120.0, 60.0], rel=0.06)
    assert shares.data.sum() * 2 == pytest.approx(sum(lesion.mm3 for lesion in lesions), rel=1e-4)


def test_each_lesion_lies_where_it_is_told_and_off_the_others():
    _, shares, lesions = put(scan(), volumes=[100.0] * 4)
    numbers, count = ndimage.label(shares.data > 0.05, np.ones((3, 3, 3)))
    assert count == len(lesions) == 4
    centres = ndimage.center_of_mass(shares.data, numbers, range(1, 5))
    places = sorted(tuple(np.array(centre) * (1, 1, 2)) for centre in centres)
    told = sorted(lesion.centre_ras for lesion in lesions)
    np.testing.assert_allclose(told, places, atol=0.2)


def test_what_is_out_of_reach_stays_bit_for_bit():
    volume = scan()
    changed, shares, _ = put(volume, volumes=[100.0, 50.0])
    near = ndimage.distance_transform_edt(shares.data == 0, sampling=(1, 1, 2)) <= 4.0
    assert (changed.data[~near].view(np.uint32) == volume.data[~near].view(np.uint32)).all()
    assert (changed.data[shares.data > 0.5] > volume.data[shares.data > 0.5]).all()


def test_lesions_lie_in_the_brain_off_true_ones():
    volume = scan()
    brain, true = np.zeros(volume.data.shape, np.uint8), np.zeros(volume.data.shape, np.uint8)
    brain[4:36, 4:36, 4:26] = 1
    true[18:22, 18:22, 12:18] = 1
    _, shares, lesions = put(
        volume,
        volumes=[40.0] * 6,
        brain=volume.with_data(brain),
        lesions=volume.with_data(true),
    )
    assert len(lesions) > 2
    assert not shares.data[brain == 0].any()
    assert not shares.data[ndimage.binary_dilation(true, iterations=2)].any()


def test_what_finds_no_place_is_left_out():
    _, shares, lesions = put(scan((16, 16, 8)), volumes=[3000.0])
    assert lesions == ()
    assert not shares.data.any()


def test_equal_seeds_put_equal_lesions():
    first, second = (put(scan(), seed=4, volumes=[90.0, 80.0]) for _ in range(2))
    np.testing.assert_array_equal(first[0].data, second[0].data)
    assert [one.centre_ras for one in first[2]] == [one.centre_ras for one in second[2]]


def test_slices_and_channels_are_taken():
    noise = np.random.default_rng(0).normal(0, 1, (60, 60, 2)).astype(np.float32)
    changed, shares, lesions = put_lesions(
        Volume(noise, np.eye(3)),
        ellipsoids(rank=2),
        np.random.default_rng(0),
        volumes=[60.0],
        contrast=(1.5, 1.5),
    )
    assert (changed.data.shape, shares.data.shape) == ((60, 60, 2), (60, 60))
    assert lesions[0].mm3 == pytest.approx(60, rel=0.06)
    assert (changed.data[shares.data > 0.9] > noise[shares.data > 0.9]).all()


def test_lesions_of_a_phantom_lie_in_its_brain():
    image, label = phantom(0, shape=(48, 48, 48), spacing=3.0)
    _, shares, lesions = put(image, volumes=[900.0] * 3, lesions=label)
    assert not shares.data[label.data > 0].any()
    assert len(lesions) == 3


def test_masks_on_another_grid_are_refused():
    volume = scan()
    with pytest.raises(InputError, match="brain lie on another grid"):
        put(volume, volumes=[50.0], brain=Volume(np.ones(volume.data.shape), np.eye(4)))
