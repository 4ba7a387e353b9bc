"""Surface elements against hand-made areas, the divergence theorem and surface-distance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import InputError
from segjax.evaluate import surfels
from segjax.evaluate.surfels import corner_codes, element_sizes, linear_map, surface_area
from tests.peers import Peer

lookup_tables = Peer("surface_distance.lookup_tables", "surface_distance")
CUBE = (1.0, 1.0, 1.0)
SHEARED = np.array([[1.0, 0.5, 0, 7], [0, 2, 0.3, 0], [0, 0.4, 3, -2], [0, 0, 0, 1]])
edges = st.floats(0.2, 5)
bits = st.integers(0, 255)


def occupied(code, rank=3):
    """Return the 2 × 2 (× 2) voxels of a code, whose lowest bit is the last voxel."""
    found = [code >> bit & 1 for bit in reversed(range(2**rank))]
    return np.array(found, bool).reshape((2,) * rank)


def test_a_code_names_the_voxels_around_its_corner():
    for code in range(256):
        assert corner_codes(occupied(code))[1, 1, 1] == code
    for code in range(16):
        assert corner_codes(occupied(code, 2))[1, 1] == code


def test_there_is_background_beyond_the_image():
    codes = corner_codes(np.ones((2, 3, 4), bool))
    assert codes.shape == (3, 4, 5)
    assert np.count_nonzero(codes != 255) == 60 - 1 * 2 * 3
    assert codes.min() > 0


def test_elements_of_few_voxels_have_the_areas_of_a_sketch():
    sizes = element_sizes(CUBE)
    triangle, square = math.sqrt(3) / 8, 1.0
    assert sizes[0] == sizes[255] == 0
    assert sizes[1] == pytest.approx(triangle)  # one corner cut off
    assert sizes[0b11] == pytest.approx(math.sqrt(0.5))  # an edge
    assert sizes[0b1111] == pytest.approx(square)  # a face
    assert sizes[0b10000001] == pytest.approx(2 * triangle)  # two corners across the cube
    assert sizes[0b00010111] == pytest.approx(6 * triangle)  # a corner and its three: a hexagon


@pytest.mark.parametrize("rank", [2, 3])
def test_no_corner_between_both_kinds_of_voxels_lacks_a_surface(rank):
    assert (element_sizes(CUBE[:rank])[1:-1] > 0).all()


@pytest.mark.peer("surface_distance")
@settings(max_examples=8)
@given(st.tuples(edges, edges, edges))
def test_areas_of_all_codes_equal_those_of_surface_distance(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(element_sizes(spacing), expected, rtol=1e-9)


@pytest.mark.peer("surface_distance")
@settings(max_examples=20)
@given(st.tuples(edges, edges))
def test_lengths_of_all_codes_equal_those_of_surface_distance(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
    np.testing.assert_allclose(element_sizes(spacing), expected, rtol=1e-9)


@settings(max_examples=20)
@given(bits)
def test_on_cubes_an_element_keeps_its_area_in_every_orientation(code):
    sizes, block = element_sizes(CUBE), occupied(code)
    turned = [
        np.flip(np.transpose(block, axes), flips)
        for axes in ((0, 1, 2), (1, 2, 0), (2, 1, 0))
        for flips in ((), (0,), (1, 2), (0, 1, 2))
    ]
    codes = [int(corner_codes(one)[1, 1, 1]) for one in turned]
    np.testing.assert_allclose(sizes[codes], sizes[code])


def test_triangles_of_a_sheared_grid_are_those_of_a_box_moved_by_the_affine():
    x, y, z = SHEARED[:3, :3].T / 2
    corner = np.linalg.norm(np.cross(y - x, z - x)) / 2  # a triangle through three half edges
    face = 4 * np.linalg.norm(np.cross(y, z))  # a parallelogram
    assert element_sizes(SHEARED)[[1, 0b1111]] == pytest.approx([corner, face])


def test_lines_of_a_sheared_picture_are_those_moved_by_the_affine():
    affine = np.array([[1.0, 0.5, 0], [0, 2, 0], [0, 0, 1]])
    x, y = affine[:2, :2].T / 2
    expected = [np.linalg.norm(x - y), 2 * np.linalg.norm(y), np.linalg.norm(x + y)]
    assert element_sizes(affine)[[0b0001, 0b0011, 0b0010]] == pytest.approx(expected)


def test_a_rotation_changes_no_area():
    angle = 0.4
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1, 2, 3])
    np.testing.assert_allclose(element_sizes(affine), element_sizes((1.0, 2.0, 3.0)))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_surface_of_a_cube_is_that_with_edges_and_corners_cut_off(n):
    expected = 6 * (n - 1) ** 2 + 12 * (n - 1) * math.sqrt(0.5) + math.sqrt(3)
    assert surface_area(np.ones((n,) * 3, bool), CUBE) == pytest.approx(expected)


def test_the_perimeter_of_a_square_has_its_corners_cut_off():
    assert surface_area(np.ones((3, 3), bool), (0.5, 0.5)) == pytest.approx(4 + 2 * math.sqrt(0.5))


def test_the_surface_of_a_large_slab_nears_that_of_its_faces():
    slab = np.ones((200, 100, 3), np.uint8)
    assert surface_area(slab, (0.5, 0.5, 2.0)) == pytest.approx(
        2 * (100 * 50 + 100 * 6 + 50 * 6), rel=0.03
    )


def test_the_surface_of_a_ball_is_nine_percent_too_large_on_any_grid():
    for spacing in (CUBE, (0.8, 1.0, 1.25)):
        places = np.moveaxis(np.indices((53, 43, 35)), 0, -1) - (26, 21, 17)
        ball = (places * spacing) ** 2 @ np.ones(3) <= 14**2
        assert surface_area(ball, spacing) / (4 * math.pi * 14**2) == pytest.approx(1.09, abs=0.02)


def test_an_empty_mask_has_no_surface():
    assert surface_area(np.zeros((3, 4, 5), bool), CUBE) == 0


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
def test_the_surface_does_not_depend_on_place_orientation_or_unit(seed, rank):
    mask = np.random.default_rng(seed).random((4, 3, 5)[:rank]) < 0.5
    area = surface_area(mask, CUBE[:rank])
    assert surface_area(np.pad(mask, 2), CUBE[:rank]) == pytest.approx(area)
    assert surface_area(np.flip(mask, 0).T, CUBE[:rank]) == pytest.approx(area)
    assert surface_area(mask, (2.0,) * rank) == pytest.approx(2 ** (rank - 1) * area)
    label = mask.astype(np.int16) * 3
    assert surface_area(label, np.eye(rank + 1)) == pytest.approx(area)


def test_edges_and_affines_give_the_same_steps():
    np.testing.assert_array_equal(linear_map((0.5, 2.0, 3.0)), linear_map(np.diag([0.5, 2, 3, 1])))
    np.testing.assert_array_equal(linear_map(SHEARED), SHEARED[:3, :3])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), np.eye(3)])
def test_a_spacing_of_another_rank_is_refused(spacing):
    with pytest.raises(InputError, match="has not the 2 axes of its spacing"):
        surface_area(np.ones((2, 2, 2), bool), spacing)


@pytest.mark.parametrize("spacing", [(1.0, -1.0, 1.0), (1.0,), np.zeros((4, 4))])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(InputError, match=r"positive numbers|affine"):
        element_sizes(spacing)


def test_public_names_exist():
    assert all(hasattr(surfels, name) for name in surfels.__all__)
