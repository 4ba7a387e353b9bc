"""Shapes of lesions."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from segjax.data.io.formats import write_volume
from segjax.data.synthesis import LesionShapes, draw_shape, ellipsoids, read_shapes
from segjax.data.synthesis.shapes import BENT, draw_part, shapes_of
from segjax.errors import InputError
from segjax.volume import Volume


def some_mask(seed=0, shape=(20, 24, 18)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return (noise > 1.6 * noise.std()).astype(np.uint8)


def test_shapes_are_the_components_that_scipy_finds():
    mask = some_mask()
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(mask, numbers, range(1, count + 1))
    shapes = shapes_of([Volume(mask, np.diag([1.0, 2.0, 0.5, 1.0]))], "noise")
    assert shapes.volumes.tolist() == sizes[sizes >= 3].tolist()
    boxes = ndimage.find_objects(numbers)
    kept = [box for box, size in zip(boxes, sizes, strict=True) if size >= 3]
    assert [each.shape for each in shapes.masks] == [
        tuple(cut.stop - cut.start for cut in box) for box in kept
    ]


def test_voxels_that_count_for_nothing_are_no_lesion():
    mask = np.zeros((8, 8), np.uint8)
    mask[1:4, 1:4], mask[5:, 5:] = 1, 255
    assert shapes_of([Volume(mask, np.eye(3))], "a mask").volumes.tolist() == [9.0]


def test_an_empty_mask_has_no_shapes():
    with pytest.raises(InputError, match="no lesion of 3 voxels"):
        shapes_of([Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4))], "a mask")


def test_a_folder_of_masks_is_read_once(tmp_path):
    for number in range(2):
        write_volume(Volume(some_mask(number), np.eye(4)), tmp_path / f"p{number}.nii.gz")
    shapes = read_shapes(tmp_path)
    both = [shapes_of([Volume(some_mask(n), np.eye(4))], "").volumes.tolist() for n in range(2)]
    assert sorted(shapes.volumes.tolist()) == sorted(both[0] + both[1])
    assert read_shapes(tmp_path) is shapes


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone: there is no such folder of lesion masks"):
        read_shapes(tmp_path / "gone")


def test_a_folder_without_masks_is_named(tmp_path):
    with pytest.raises(InputError, match=tmp_path.name):
        read_shapes(tmp_path)


@given(
    seed=st.integers(0, 2**31),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (0.8, 1.2), (2.0, 2.0, 2.0)]),
    diameter=st.floats(4.0, 14.0),
    real=st.booleans(),
)
@settings(max_examples=40)
def test_the_volume_is_the_one_that_was_asked_for(seed, spacing, diameter, real):
    rank = len(spacing)
    library = (
        shapes_of([Volume(some_mask(), np.eye(4))], "noise") if real else ellipsoids(rank=rank)
    )
    volume = np.pi * diameter**2 / 4 if rank == 2 else np.pi * diameter**3 / 6
    shares = draw_shape(np.random.default_rng(seed), library, spacing, volume=volume)
    assert abs(shares.sum() * np.prod(spacing) / volume - 1) < 0.05
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-6
    assert all(size % 2 for size in shares.shape)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_a_shape_stays_within_its_reach(seed):
    shares = draw_shape(np.random.default_rng(seed), ellipsoids(), (1.0, 1.0, 1.0), reach=6.0)
    places = np.argwhere(shares > 0.5) - np.array(shares.shape) // 2
    assert np.linalg.norm(places, axis=1).max() <= 6.0


def test_a_ball_that_is_hardly_bent_has_the_radius_of_its_volume():
    grid = np.indices((21,) * 3) - 10
    ball = (grid**2).sum(axis=0) <= 81
    shapes = LesionShapes((ball,), ((0.5,) * 3,), "a ball")
    shares = draw_shape(np.random.default_rng(0), shapes, (0.5,) * 3, volume=4 / 3 * np.pi * 5**3)
    away = np.linalg.norm(np.argwhere(shares > 0.5) - np.array(shares.shape) // 2, axis=1) * 0.5
    assert 5.0 <= away.max() <= 5.0 * (1 + BENT) + 0.5
    assert len(away) == pytest.approx(shares.sum(), rel=0.03)


def test_parts_come_from_shapes_in_proportion_to_their_volumes_and_around_their_voxels():
    voxels = (np.ones((2, 2, 2), bool), np.ones((12, 12, 12), bool))
    shapes = LesionShapes(voxels, ((1.0, 1.0, 1.0),) * 2, "cubes")
    rng = np.random.default_rng(0)
    parts = [draw_part(rng, shapes, (1.0, 1.0, 1.0), reach=5.0) for _ in range(60)]
    assert {part.shape for part in parts} == {(11, 11, 11)}
    assert np.mean([part[4:7, 4:7, 4:7].max() > 0.5 for part in parts]) == 1.0
    assert np.median([part.sum() for part in parts]) > 250  # the small cube has 16 at most


def test_a_part_of_a_large_lesion_fills_its_box():
    shapes = LesionShapes((np.ones((40, 40), bool),), ((1.0, 1.0),), "a square")
    rng = np.random.default_rng(0)
    filled = [draw_part(rng, shapes, (1.0, 1.0), reach=3.0).min() == 1.0 for _ in range(40)]
    assert 0.3 < np.mean(filled) < 1.0


def test_shapes_that_all_reach_too_far_are_refused():
    with pytest.raises(InputError, match="give a larger box"):
        draw_shape(np.random.default_rng(0), ellipsoids(), (1.0, 1.0, 1.0), reach=1.0)


def test_flat_shapes_do_not_fit_a_volume():
    with pytest.raises(InputError, match="rank 2 do not fit"):
        draw_shape(np.random.default_rng(0), ellipsoids(rank=2), (1.0, 1.0, 1.0))


def test_equal_seeds_draw_equal_shapes():
    one, other = (
        draw_shape(np.random.default_rng(3), ellipsoids(), (1.0, 1.0, 2.0)) for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_the_lesions_of_patients_are_read(data_dir):
    shapes = read_shapes(data_dir / "ms_lesion_masks")
    assert len(shapes) > 2000
    assert np.median(shapes.volumes) < 50  # mm³: most lesions are small


@pytest.mark.parametrize("largest", [12.0, 24.0])
def test_drawn_ellipsoids_have_diameters_of_3_mm_to_the_largest(largest):
    diameters = (6 / np.pi * ellipsoids(500, largest=largest).volumes) ** (1 / 3)
    assert 2.99 < diameters.min() < 3.1
    assert 0.97 * largest < diameters.max() < 1.001 * largest
    middle = np.sqrt(3 * largest)
    assert 0.45 < (diameters < middle).mean() < 0.55
