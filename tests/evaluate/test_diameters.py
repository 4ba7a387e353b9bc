"""Diameters: against all pairs of faces, contours of contourpy, and shapes whose size is known."""

import math

import numpy as np
import pytest
from contourpy import contour_generator
from hypothesis import given, settings
from scipy.spatial.distance import pdist, squareform
from scipy.spatial.transform import Rotation

from segjax.errors import InputError
from segjax.evaluate.diameters import (
    axial_axis,
    axial_diameters,
    feret_diameter,
    outer_points,
    slice_distance,
)
from segjax.grid import orientation, reorient
from segjax.volume import Volume
from tests.geometry import ORIENTATIONS, affines, rigid, seeds, shapes

UNIT = (1.0, 1.0, 1.0)


def faces_of(mask):
    """Return the centres of the faces between a mask and what is around it."""
    padded = np.pad(mask, 1)
    centres = []
    for axis in range(mask.ndim):
        where = np.argwhere(np.diff(padded.astype(int), axis=axis) != 0) - 1.0
        where[:, axis] += 0.5
        centres.append(where)
    return np.concatenate(centres)


def axial(mask, affine):
    """Return the slices nearest to axial, their two edges in mm, and the axis."""
    axis = next(n for n, letter in enumerate(orientation(affine)) if letter in "IS")
    return np.moveaxis(mask, axis, 0), np.delete(affine[:3, :3], axis, axis=1), axis


def noise(shape, seed, density=0.6):
    mask = np.random.default_rng(seed).random(shape) < density
    mask.flat[0] = True
    return mask


def sheared(rng, shear=0.3):
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.5, 1.5, 3), rng.uniform(-50, 50, 3))
    affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1))
    return affine


def diagonal(edges):
    signs = np.array(np.meshgrid(*[[-1, 1]] * edges.shape[1])).reshape(edges.shape[1], -1)
    return np.linalg.norm(edges @ signs, axis=0).max()


def longest_chords(slice_, edges, along):
    """Return the longest chord at right angles to a direction, between contours of contourpy."""
    lines = contour_generator(z=np.pad(slice_, 1).astype(float), corner_mask=False).lines(0.5)
    first, _ = np.linalg.qr(edges)
    across = first @ [[0, -1], [1, 0]] @ first.T @ along
    segments = [
        np.stack([line[:-1, ::-1] - 1, line[1:, ::-1] - 1], axis=1) @ edges.T for line in lines
    ]
    places = np.concatenate(segments)
    level, height = places @ along, places @ across
    best = 0.0
    for at in np.unique(level):
        touched = (level.min(1) <= at + 1e-9) & (level.max(1) >= at - 1e-9)
        (a, b), (h, g) = level[touched].T, height[touched].T
        share = np.divide(at - a, b - a, out=np.zeros_like(a), where=abs(b - a) > 1e-9)
        heights = np.concatenate([h + np.clip(share, 0, 1) * (g - h)])
        best = max(best, np.ptp(heights))
    return best


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((1, 1, 1), UNIT, (1, 1, 1)),
        ((1, 1, 1), (0.5, 2, 3), (2, 0.5, 3)),
        ((1, 5, 1), UNIT, (5, 1, 5)),
        ((1, 1, 4), (1, 1, 3), (1, 1, 12)),
        ((3, 4, 1), UNIT, (math.sqrt(20), 3 / math.cos(math.atan2(2, 4)), math.sqrt(20))),
    ],
)
def test_boxes_of_voxels_measured_by_hand(shape, spacing, expected):
    mask = np.zeros((7, 7, 7), np.uint8)
    mask[tuple(slice(1, 1 + n) for n in shape)] = 1
    longest, across = axial_diameters(mask, spacing)
    feret = feret_diameter(mask, spacing)
    assert (longest.mm, across.mm, feret.mm) == pytest.approx(expected)


@settings(max_examples=15)
@given(shapes, affines(), seeds)
def test_feret_is_the_longest_distance_of_all_faces(shape, affine, seed):
    mask = noise(shape, seed)
    found = feret_diameter(mask, affine)
    places = faces_of(mask) @ affine[:3, :3].T
    assert found.mm == pytest.approx(pdist(places).max(), rel=1e-12)
    one, other = np.array(found.ends) @ affine[:3, :3].T
    assert np.linalg.norm(one - other) == pytest.approx(found.mm)
    for end in found.ends:
        assert (np.abs(faces_of(mask) - end).max(axis=1) == 0).any()


@settings(max_examples=25)
@given(shapes, affines(), seeds)
def test_axial_diameters_are_the_longest_of_all_slices(shape, affine, seed):
    mask = noise(shape, seed)
    slices, edges, axis = axial(mask, affine)
    places = {n: faces_of(one) @ edges.T for n, one in enumerate(slices) if one.any()}
    expected = max(pdist(own).max() for own in places.values())
    longest, across = axial_diameters(mask, affine)
    assert longest.mm == pytest.approx(expected, rel=1e-9)
    ends = np.array([*longest.ends, *across.ends])
    number = int(ends[0, axis])
    assert (ends[:, axis] == number).all()
    along, sideways = (ends[[1, 3]] - ends[[0, 2]]) @ affine[:3, :3].T
    assert np.linalg.norm(sideways) == pytest.approx(across.mm, abs=1e-6)
    assert abs(along @ sideways) < 1e-6 * longest.mm * across.mm
    chord = longest_chords(slices[number], edges, along / np.linalg.norm(along))
    assert across.mm == pytest.approx(chord, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_perpendiculars_of_large_outlines_are_those_of_contours(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((60, 50)) - 25.0
    wave = 15 + 5 * np.sin(rng.integers(3, 9) * np.arctan2(rows, columns) + seed)
    mask = (np.hypot(rows - 3, columns) < wave) & (rng.random(rows.shape) < 0.9)
    edges = rng.uniform(-1, 1, (2, 2)) + np.diag([3, 2])
    affine = np.eye(3)
    affine[:2, :2] = edges
    longest, across = axial_diameters(mask, affine)
    along = edges @ np.subtract(*longest.ends) / longest.mm
    assert across.mm == pytest.approx(longest_chords(mask, edges, along), abs=1e-6)


def ellipsoid(rng):
    """Return the mask of an ellipsoid in the middle of a voxel, its affine and its diameters."""
    affine, axes = sheared(rng), np.sort(rng.uniform(4, 12, 3))
    turn, linear = Rotation.random(random_state=rng).as_matrix(), affine[:3, :3]
    half = np.ceil(axes[2] * np.linalg.norm(np.linalg.inv(linear), axis=1)).astype(int) + 1
    index = np.indices(2 * half + 1).reshape(3, -1) - half[:, None]
    mask = (((turn / axes).T @ linear @ index) ** 2).sum(0).reshape(2 * half + 1) <= 1
    _, edges, _ = axial(mask, affine)
    plane, _ = np.linalg.qr(edges)
    section = np.linalg.eigvalsh(plane.T @ (turn / axes**2) @ turn.T @ plane)
    return mask, affine, (*(2 / np.sqrt(section)), 2 * axes[2])


def test_ellipsoids_on_oblique_sheared_grids_to_half_a_voxel_at_each_end():
    rng, errors = np.random.default_rng(0), []
    for _ in range(20):
        mask, affine, expected = ellipsoid(rng)
        _, edges, _ = axial(mask, affine)
        longest, across = axial_diameters(mask, affine)
        found = longest.mm, across.mm, feret_diameter(mask, affine).mm
        voxels = [diagonal(edges), diagonal(edges), diagonal(affine[:3, :3])]
        errors.append(np.subtract(found, expected) / voxels)
    assert np.abs(errors).max() < 1
    assert np.abs(np.mean(errors, axis=0)).max() < 0.5  # of several lesions half a voxel in all


@pytest.mark.parametrize("seed", range(12))
def test_ends_in_boxes_on_sheared_grids_are_half_a_voxel_from_the_corners(seed):
    rng = np.random.default_rng(seed)
    affine, shape = sheared(rng), rng.integers(4, 12, 3)
    linear = affine[:3, :3]
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape])).reshape(3, -1).T
    distances = squareform(pdist(corners @ linear.T))
    found = feret_diameter(np.ones(shape, bool), affine)
    assert distances.max() - diagonal(linear) < found.mm <= distances.max()
    for end in found.ends:
        apart = np.linalg.norm((corners - end) @ linear.T, axis=1)
        assert apart.min() <= diagonal(linear) / 2


def test_sizes_of_boxes_are_exact_across_slices():
    affine = sheared(np.random.default_rng(3))
    axis = axial_axis(affine)
    edges = np.delete(affine[:3, :3], axis, axis=1)
    area = np.linalg.norm(np.cross(*edges.T))
    assert slice_distance(affine) == pytest.approx(abs(np.linalg.det(affine[:3, :3])) / area)


@settings(max_examples=10)
@given(shapes, seeds)
def test_diameters_do_not_depend_on_the_order_of_voxels(shape, seed):
    volume = Volume(noise(shape, seed), rigid(spacing=(1.0, 1.0, 2.5)))
    before = [one.mm for one in axial_diameters(volume.data, volume.affine)]
    for other in (reorient(volume, letters) for letters in ORIENTATIONS):
        after = [one.mm for one in axial_diameters(other.data, other.affine)]
        assert after == pytest.approx(before, rel=1e-6)
        feret = feret_diameter(other.data, other.affine).mm
        assert feret == pytest.approx(feret_diameter(volume.data, volume.affine).mm)


def test_diameters_grow_with_the_voxels():
    mask = noise((6, 7, 5), 1)
    small, large = (axial_diameters(mask, size) for size in ((1, 2, 3.0), (0.5, 1, 1.5)))
    assert [one.mm for one in small] == pytest.approx([2 * one.mm for one in large])


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_axial_slices_lie_along_the_axis_nearest_to_the_head(letters):
    oblique = Volume(np.ones((3, 4, 5)), rigid((10, -25, 40)))
    affine = reorient(oblique, letters).affine
    assert letters[axial_axis(affine)] in "IS"


def test_of_equal_lines_the_one_with_the_longest_across_counts():
    mask = np.zeros((9, 9, 2), bool)
    mask[0:9, 4, 0] = True  # a row of 9, and another one with a bar
    mask[4, 0:9, 1] = True
    mask[3:6, 4, 1] = True
    longest, across = axial_diameters(mask, UNIT)
    assert (longest.mm, across.mm) == (9, 3)
    assert longest.ends[0][2] == 1


def test_lines_may_leave_a_bent_lesion():
    mask = np.ones((9, 9), bool)
    mask[3:, 3:6] = False  # a horseshoe
    longest, across = axial_diameters(mask, (1.0, 1.0))
    assert longest.mm == pytest.approx(math.hypot(9, 8))
    assert across.mm > 9


def test_ends_are_indices_of_the_mask():
    mask = np.zeros((20, 20, 20), bool)
    mask[11:15, 7, 3] = True
    longest, across = axial_diameters(mask, UNIT)
    assert longest.ends == feret_diameter(mask, UNIT).ends == ((10.5, 7, 3), (14.5, 7, 3))
    assert {end[1] for end in across.ends} == {6.5, 7.5}


def test_the_hull_of_a_picture_has_its_corners_among_the_outer_points():
    mask = noise((8, 9), 4, 0.3)
    faces, outer = faces_of(mask), outer_points(mask)
    for angle in np.linspace(0, 2 * np.pi, 60):
        way = [np.cos(angle), np.sin(angle)]
        assert (outer @ way).max() == pytest.approx((faces @ way).max())


def test_empty_masks_and_other_ranks_are_refused():
    with pytest.raises(InputError, match="an empty mask has no diameter"):
        axial_diameters(np.zeros((3, 3, 3), bool), UNIT)
    with pytest.raises(InputError, match="a mask of rank 2 has no diameters in mm with 3 edges"):
        feret_diameter(np.ones((3, 3), bool), UNIT)
