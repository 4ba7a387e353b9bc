"""Lesions as they are measured: against SciPy, shapes whose size is known, and each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage
from scipy.spatial.distance import cdist

from segjax.errors import InputError
from segjax.evaluate.diameters import axial_axis, axial_diameters, feret_diameter
from segjax.evaluate.measure import measure_mask
from segjax.evaluate.zones import Zones
from segjax.grid import reorient
from segjax.volume import Volume
from tests.geometry import ORIENTATIONS, affines, rigid, seeds

LABELS = ("background", "edema", "core")
AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])


def noise(shape=(12, 11, 10), affine=AFFINE):
    rng = np.random.default_rng(0)
    return Volume(rng.choice([0, 0, 0, 0, 1, 2], shape).astype(np.uint8), affine), rng.random(shape)


def ball(radius=10, shape=(27, 27, 27), centre=(13, 13, 13)):
    where = sum((x - c) ** 2 for x, c in zip(np.indices(shape), centre, strict=True)) <= radius**2
    return where.astype(np.uint8)


def test_lesions_and_their_means_are_scipys():
    mask, spread = noise()
    found = measure_mask(mask, labels=LABELS, maps={"spread": spread[..., None]})
    for value, load in enumerate(found, 1):
        where = mask.data == value
        numbers, count = ndimage.label(where, np.ones((3, 3, 3)))
        index = np.arange(1, count + 1)
        sizes = ndimage.sum(where, numbers, index)
        order = np.argsort(-sizes, kind="stable")
        indices = np.array(ndimage.center_of_mass(where, numbers, index))[order]
        centres = indices @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        lesions = load.lesions
        assert (load.label, load.value, load.unit) == (LABELS[value], value, "ml")
        assert load.size == pytest.approx(where.sum() * 6 / 1000)
        assert [lesion.voxels for lesion in lesions] == sizes[order].tolist()
        assert [lesion.size for lesion in lesions] == pytest.approx(sizes[order] * 6)
        assert [lesion.number for lesion in lesions] == list(range(1, count + 1))
        assert load.largest == pytest.approx(sizes.max() * 6 / 1000)
        np.testing.assert_allclose([lesion.centre_index for lesion in lesions], indices)
        np.testing.assert_allclose([lesion.centre_ras for lesion in lesions], centres)
        lps = [lesion.centre_lps for lesion in lesions]
        np.testing.assert_allclose(lps, centres * [-1, -1, 1])
        means = np.array(ndimage.mean(spread, numbers, index))[order]
        np.testing.assert_allclose([lesion.means["spread"] for lesion in lesions], means)
        assert load.means["spread"] == pytest.approx(spread[where].mean())


@settings(max_examples=5)
@given(affines(), seeds)
def test_diameters_are_those_of_each_lesion_alone(affine, seed):
    mask = np.random.default_rng(seed).random((8, 7, 6)) < 0.15
    mask[0, 0, 0] = True
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    centres = ndimage.center_of_mass(mask, numbers, np.arange(1, count + 1))
    (found,) = measure_mask(Volume(mask.astype(np.uint8), affine))
    for lesion in found.lesions:
        apart = np.linalg.norm(np.subtract(centres, lesion.centre_index), axis=1)
        own = numbers == apart.argmin() + 1
        assert own.sum() == lesion.voxels
        assert (lesion.longest, lesion.perpendicular) == axial_diameters(own, affine)
        assert lesion.feret == feret_diameter(own, affine)
        assert lesion.feret.mm >= lesion.longest.mm - 1e-9
        assert lesion.longest.mm >= lesion.perpendicular.mm - 1e-9


def test_equal_shapes_at_different_places_have_their_own_ends():
    data = np.zeros((1, 1, 20), np.uint8)
    data[..., 2:5] = data[..., 10:13] = 1
    (found,) = measure_mask(Volume(data, np.eye(4)))
    first, second = (lesion.feret.ends for lesion in found.lesions)
    assert (first[0][2], first[1][2]) == (1.5, 4.5)
    assert (second[0][2], second[1][2]) == (9.5, 12.5)


def test_boxes_have_their_extents():
    data = np.zeros((10, 10, 10), np.uint8)
    data[2:6, 3:5, 1:9] = 1
    (found,) = measure_mask(Volume(data, np.diag([1.0, 2.0, 3.0, 1.0])))
    (lesion,) = found.lesions
    assert lesion.box_mm == pytest.approx((4, 4, 24))
    assert lesion.third_mm == pytest.approx(24)
    (turned,) = measure_mask(reorient(Volume(data, np.diag([1.0, 2.0, 3.0, 1.0])), "SAL"))
    assert turned.lesions[0].box_mm == pytest.approx((4, 4, 24))
    assert turned.lesions[0].third_mm == pytest.approx(24)


def test_volumes_of_sheared_voxels_are_exact_and_thickness_is_across_the_slices():
    affine = rigid((0, 0, 30), (1.0, 1.0, 2.0))
    affine[:3, 2] += affine[:3, 0]  # slices that slide
    (found,) = measure_mask(Volume(np.ones((4, 5, 6), np.uint8), affine))
    assert found.size == pytest.approx(4 * 5 * 6 * 2 / 1000)
    assert found.lesions[0].third_mm == pytest.approx(12)
    assert axial_axis(affine) == 2


def test_balls_are_round_and_bars_are_not():
    (round_one,) = measure_mask(Volume(ball(), np.eye(4)))
    (bar,) = measure_mask(Volume(np.ones((2, 2, 40), np.uint8), np.eye(4)))
    assert round_one.lesions[0].surface == pytest.approx(4 * math.pi * 100, rel=0.1)
    assert 0.9 < round_one.lesions[0].sphericity <= 1
    assert bar.lesions[0].sphericity < 0.6
    (voxel,) = measure_mask(Volume(np.ones((1, 1, 1), np.uint8), np.eye(4)))
    assert voxel.lesions[0].sphericity == 1


def test_discs_are_round_in_pictures():
    disc = ball(12, (30, 30), (15, 14))
    (found,) = measure_mask(Volume(disc, np.diag([0.5, 0.5, 1.0])))
    lesion = found.lesions[0]
    assert (found.unit, found.size) == ("pixels", disc.sum())
    assert lesion.size == pytest.approx(disc.sum() / 4)
    assert lesion.third_mm is None
    assert lesion.feret == lesion.longest
    assert lesion.box_mm == pytest.approx((12.5, 12.5))
    assert lesion.surface == pytest.approx(2 * math.pi * 6, rel=0.1)
    assert 0.85 < lesion.sphericity <= 1
    assert (lesion.centre_ras, lesion.centre_lps) == ((7.5, 7.0), (-7.5, -7.0))


def test_pictures_are_measured_in_pixels():
    mask = Volume(np.array([[1, 1, 0], [0, 0, 1]], np.uint8), np.diag([0.5, 0.5, 1]))
    (found,) = measure_mask(mask, labels=["background", "lesion"])
    assert (found.size, found.unit, found.largest) == (3.0, "pixels", 3.0)
    assert found.lesions[0].size == 0.75


def test_a_lesion_has_the_mean_of_its_own_probability():
    mask = Volume(np.array([[[0, 1, 2]]], np.uint8), np.eye(4))
    several = np.arange(9.0).reshape(1, 1, 3, 3)
    found = measure_mask(mask, labels=LABELS, maps={"probability": several})
    assert [label.means["probability"] for label in found] == [4, 8]
    one = {"probability": np.array([0.1, 0.9, 0.2]).reshape(1, 1, 3, 1)}
    (only,) = measure_mask(Volume(mask.data == 1, np.eye(4)), labels=LABELS[:2], maps=one)
    assert only.means == {"probability": 0.9}


def test_a_label_that_is_not_there_has_nothing():
    mask, _ = noise()
    empty = mask.with_data(np.zeros_like(mask.data))
    for found in measure_mask(empty, labels=LABELS, maps={"spread": np.ones((12, 11, 10, 1))}):
        assert (found.size, found.lesions, found.largest, found.means) == (0, (), 0, {})
    (found,) = measure_mask(empty)
    assert (found.label, found.value, found.size) == ("1", 1, 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.1, 4.0)])
def test_contrast_is_to_what_lies_within_3_mm_and_in_no_label(spacing):
    mask, values = noise((9, 10, 8), rigid(spacing=spacing))
    data = mask.data * (values < 0.2)
    data[5, 5, 5], mask = 1, mask.with_data(data)
    image = mask.with_data(values)
    reach = max(3, *spacing)
    places = np.argwhere(data == 0)
    for label in measure_mask(mask, image=image):
        for lesion in label.lesions[:5]:
            numbers, _ = ndimage.label(data == label.value, np.ones((3, 3, 3)))
            number = numbers[tuple(np.rint(np.mean(lesion.longest.ends, axis=0)).astype(int))]
            if lesion.voxels > 1 or number == 0:
                continue
            own = np.argwhere(numbers == number)
            near = cdist(places * spacing, own * spacing).min(axis=1) <= reach + 1e-6
            around = values[tuple(places[near].T)].mean()
            assert lesion.mean == pytest.approx(values[tuple(own.T)].mean())
            assert lesion.contrast == pytest.approx(lesion.mean - around)


def test_contrast_leaves_out_what_is_no_brain_and_is_none_without_tissue():
    data = np.zeros((5, 5, 9), np.uint8)
    data[2, 2, 4] = 1
    image = np.full(data.shape, 100.0)
    image[..., :4], image[2, 2, 4] = 0.0, 130.0
    brain = np.zeros_like(data)
    brain[..., 4:] = 1
    mask, volume = Volume(data, np.eye(4)), Volume(image, np.eye(4))
    assert measure_mask(mask, image=volume)[0].lesions[0].contrast > 30
    with_brain = measure_mask(mask, image=volume, brain=mask.with_data(brain))[0].lesions[0]
    assert with_brain.contrast == pytest.approx(30)
    alone = measure_mask(mask, image=volume, brain=mask)[0].lesions[0]
    assert (alone.mean, alone.contrast) == (130, None)
    image[2, 2, 4] = np.nan
    nowhere = measure_mask(mask, image=mask.with_data(image))[0].lesions[0]
    assert (nowhere.mean, nowhere.contrast) == (None, None)


def test_distance_to_the_brains_edge_is_to_the_nearest_voxel_of_the_edge():
    affine = rigid((5, 10, 15), (1.0, 1.5, 2.0))
    brain = ball(11, (26, 26, 26), (13, 13, 13))
    brain[12:14, 12:14, 12:14] = 0  # a hole is no edge
    edge = brain.astype(bool) & ~ndimage.binary_erosion(ndimage.binary_fill_holes(brain))
    data = np.zeros_like(brain)
    data[14:17, 13, 13], data[4:6, 12:15, 12], data[20:, 20:, 20:] = 1, 1, 1
    lesions = measure_mask(Volume(data, affine), brain=Volume(brain, affine))[0].lesions
    numbers, _ = ndimage.label(data, np.ones((3, 3, 3)))
    places = np.argwhere(edge) @ affine[:3, :3].T
    for lesion in lesions:
        number = numbers[tuple(np.rint(lesion.centre_index).astype(int))]
        own = np.argwhere(numbers == number) @ affine[:3, :3].T
        outside = not brain[numbers == number].all()
        expected = 0 if outside else cdist(own, places).min()
        assert lesion.edge_mm == pytest.approx(expected)
    assert sorted(lesion.edge_mm > 0 for lesion in lesions) == [False, True, True]


def test_a_brain_without_a_voxel_is_refused():
    mask = Volume(ball(3, (9, 9, 9), (4, 4, 4)), np.eye(4))
    with pytest.raises(InputError, match="the brain: holds no voxel that is not 0"):
        measure_mask(mask, brain=mask.with_data(np.zeros_like(mask.data)))


def test_where_the_image_ends_the_brain_has_no_edge():
    data = np.zeros((6, 6, 6), np.uint8)
    data[0, 0, 0] = 1
    brain = np.ones_like(data)
    assert (
        measure_mask(Volume(data, np.eye(4)), brain=Volume(brain, np.eye(4)))[0].lesions[0].edge_mm
        is None
    )
    brain[5] = 0
    (found,) = measure_mask(Volume(data, np.eye(4)), brain=Volume(brain, np.eye(4)))
    assert found.lesions[0].edge_mm == 4


def test_each_lesion_lies_in_a_zone():
    data = np.zeros((1, 1, 9), np.uint8)
    data[..., [0, 4, 8]] = 1
    zones = np.array([1, 1, 0, 0, 0, 0, 0, 3, 3], np.uint8).reshape(data.shape)
    mask = Volume(data, np.eye(4))
    (found,) = measure_mask(mask, zones=Zones(mask.with_data(zones)))
    named = [lesion.zone for lesion in found.lesions]
    assert named == ["periventricular", "deep white matter", "infratentorial"]


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_nothing_depends_on_the_order_of_voxels(letters):
    mask, values = noise((8, 9, 7), rigid())
    turned = [reorient(Volume(one, mask.affine), letters) for one in (mask.data, values)]
    before = measure_mask(mask, image=mask.with_data(values))
    after = measure_mask(turned[0], image=turned[1])
    for one, other in zip(before, after, strict=True):
        assert one.size == pytest.approx(other.size)
        biggest = [label.lesions[0] for label in (one, other)]
        for name in ("size", "third_mm", "box_mm", "centre_ras", "mean", "contrast", "surface"):
            first, second = (getattr(lesion, name) for lesion in biggest)
            assert first == pytest.approx(second), name


def test_what_cannot_be_measured_is_named():
    mask, values = noise()
    with pytest.raises(InputError, match="the mask holds the value 2, but the labels are back"):
        measure_mask(mask, labels=LABELS[:2])
    with pytest.raises(InputError, match=r"whole numbers from 0 up, not 0\.\d"):
        measure_mask(mask.with_data(values))
    with pytest.raises(InputError, match="one value per voxel, not 2 channels"):
        measure_mask(mask.with_data(np.zeros((12, 11, 10, 2), np.uint8)))
    with pytest.raises(InputError, match="the image: has shape"):
        measure_mask(mask, image=Volume(values[1:], AFFINE))
    with pytest.raises(InputError, match="the brain: lies elsewhere than the mask"):
        measure_mask(mask, brain=Volume(values, np.eye(4)))


def test_real_lesions_add_up(data_dir):
    import segjax

    folder = data_dir / "ms_lesions" / "patient07"
    mask, image = (segjax.read(folder / name) for name in ("lesions.nii.gz", "flair.nii.gz"))
    (found,) = measure_mask(mask, labels=["background", "lesion"], image=image, brain=image)
    assert found.size == pytest.approx((mask.data > 0).sum() * mask.voxel_size / 1000)
    assert sum(lesion.voxels for lesion in found.lesions) == (mask.data > 0).sum()
    assert all(0 < lesion.sphericity <= 1 for lesion in found.lesions)
    assert np.mean([lesion.contrast > 0 for lesion in found.lesions]) > 0.9  # bright on FLAIR
