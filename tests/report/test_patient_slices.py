"""Slices of a patient's page: which they are, and where lesions and diameters lie on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.evaluate.measure import measure_mask
from segjax.grid import reorient
from segjax.report.patient_slices import (
    colour_of,
    draw_detail,
    draw_whole,
    key_slices,
    length_unit,
    on_edge,
    pieces_of,
    size_in_inches,
)
from segjax.report.patient_texts import language_of
from segjax.report.style import new_figure
from segjax.volume import Volume

ENGLISH, FRENCH = language_of("en"), language_of("fr")
SHAPE = (30, 34, 20)


def head(affine=None):
    """Return a bright block in air, and two lesions: a large one on the patient's right."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine
    image, mask = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    image[4:26, 4:30, 2:18] = np.random.default_rng(0).uniform(60, 140, (22, 26, 16))
    mask[20:25, 8:11, 6:9] = mask[19, 8, 6] = mask[8, 20, 12] = 1
    image[mask > 0] = 200
    return Volume(image, affine), Volume(mask, affine)


def slices_of(image, mask, **options):
    labels = measure_mask(mask)
    return labels, key_slices(image, mask, labels, pieces_of(mask, labels), **options)


def length(line, key):
    (x0, y0), (x1, y1) = line
    return np.hypot((x1 - x0) * key.width, (y1 - y0) * key.width * key.view.aspect)


def test_the_slice_of_the_largest_lesion_comes_first_and_each_bears_its_lesions():
    _, slices = slices_of(*head())
    assert [key.name(ENGLISH) for key in slices] == ["Axial slice 7 of 20", "Axial slice 13 of 20"]
    assert [[mark.lesion.number for mark in key.marks] for key in slices] == [[1], [2]]
    assert slices[0].name(FRENCH) == "Coupe axiale 7 sur 20"


def test_the_patients_right_is_on_the_left_and_the_front_on_top():
    _, (first, _) = slices_of(*head())
    rows, columns = np.nonzero(first.marks[0].mask)
    assert first.view.edges == "RLAP"
    assert columns.mean() < first.view.image.shape[1] / 2  # x is high: the patient's right
    assert rows.mean() > first.view.image.shape[0] / 2  # y is low: the back


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_slices_than_asked_for(most):
    assert len(slices_of(*head(), most=most)[1]) == most


@settings(max_examples=10)
@given(
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    tilt=st.floats(-0.3, 0.3),
)
def test_diameters_are_as_long_in_the_picture_as_in_the_patient(order, signs, tilt):
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag([2.0, 2.0, 3.0]))[:, order] * signs
    image, mask = head()
    moved = [
        np.flip(v.data.transpose(order), [a for a in range(3) if signs[a] < 0])
        for v in (image, mask)
    ]
    labels, slices = slices_of(*(Volume(np.ascontiguousarray(data), affine) for data in moved))
    largest = labels[0].lesions[0]
    mark = next(mark for mark in slices[0].marks if mark.lesion.number == 1)
    for line, diameter in zip(mark.lines, (largest.longest, largest.perpendicular), strict=True):
        assert length(line, slices[0]) == pytest.approx(diameter.mm, abs=1e-6)
        middle = np.mean(line, axis=0)
        assert mark.mask[round(middle[1]), round(middle[0])]
    # the same slice of the patient, in the same view, however it is stored
    expected, _ = slices_of(image, mask)[1]
    np.testing.assert_array_equal(slices[0].view.image, expected.view.image)


def test_pieces_bear_the_numbers_that_were_measured():
    rng = np.random.default_rng(0)
    mask = Volume((rng.random((12, 12, 12)) < 0.06).astype(np.uint8), np.eye(4))
    (label,) = measure_mask(mask)
    pieces = pieces_of(mask, (label,))
    assert pieces.max() == len(label.lesions)
    for lesion in label.lesions:
        places = np.argwhere(pieces == lesion.number)
        assert len(places) == lesion.voxels
        np.testing.assert_allclose(places.mean(axis=0), lesion.centre_index)


def test_a_picture_is_shown_as_it_is_stored():
    image, mask = np.zeros((40, 30), np.float32), np.zeros((40, 30), np.uint8)
    image[5:35, 5:25] = 1
    mask[10:20, 8:12] = 1
    labels, (only,) = slices_of(Volume(image, np.eye(3)), Volume(mask, np.eye(3)))
    assert (only.plane, only.view.edges, only.unit, only.name(ENGLISH)) == ("", "", "px", "Picture")
    line = only.marks[0].lines[0]
    assert length(line, only) == pytest.approx(labels[0].lesions[0].longest.mm)
    ys, xs = np.nonzero(only.marks[0].mask)
    assert (
        ys.min() - 0.51
        <= min(line[0][1], line[1][1])
        < max(line[0][1], line[1][1])
        <= ys.max() + 0.51
    )
    assert xs.min() - 0.51 <= min(line[0][0], line[1][0])


def test_lengths_of_a_picture_are_in_mm_where_its_pixels_have_a_size():
    assert length_unit(Volume(np.ones((4, 4)), np.diag([0.5, 0.5, 1.0]))) == "mm"
    assert length_unit(Volume(np.ones((4, 4, 4)), np.eye(4))) == "mm"


def test_a_single_coronal_slice_is_shown_whole():
    image = np.ones((20, 1, 16), np.float32)
    image[0] = 0
    mask = np.zeros(image.shape, np.uint8)
    mask[5:12, 0, 4:9] = 1
    _, (only,) = slices_of(Volume(image, np.eye(4)), Volume(mask, np.eye(4)))
    assert (only.name(ENGLISH), only.view.edges) == ("Coronal slice 1 of 1", "RLSI")
    assert only.marks[0].mask.sum() == 35


@pytest.mark.parametrize(("size", "plane"), [(1.0, "axial"), (6.0, "coronal")])
def test_without_lesions_the_middle_of_the_acquired_slices_is_shown(size, plane):
    image = Volume(np.ones((6, 8, 10), np.float32), np.diag([1.0, size, 1.0, 1.0]))
    empty = image.with_data(np.zeros(image.data.shape, np.uint8))
    _, (only,) = slices_of(image, empty)
    assert only.plane == plane
    assert only.marks == ()


def test_dark_margins_are_cut_off():
    image, mask = head()
    _, (first, _) = slices_of(image, mask)
    assert first.view.image.shape < reorient(image).data.shape[:2][::-1]


def test_lesions_that_fill_a_slice_are_not_enlarged():
    image, mask = head()
    mask.data[4:26, 4:30, 10] = 1
    _, slices = slices_of(image, mask)
    assert slices[0].measured
    assert slices[0].enlarged == ()


def test_lesions_at_the_edge_are_named_but_not_along_an_axis_of_one_voxel():
    pieces = np.zeros((5, 1, 5), np.int32)
    pieces[2, 0, 2], pieces[4, 0, 1] = 1, 2
    assert on_edge(np.where(pieces, 3, 0), pieces) == [(3, 2)]
    assert on_edge(np.ones((1, 1), np.uint8), np.ones((1, 1), np.int32)) == []


def test_lesions_of_several_labels_are_told_apart_where_they_have_one_number():
    image, mask = head()
    mask.data[20:25, 8:11, 6:9] *= 2
    _, slices = slices_of(image, mask)
    assert [[mark.lesion for mark in key.marks] for key in slices] == [[(1, 2), (2, 1)], [(1, 1)]]


def test_a_black_picture_is_shown_whole():
    image = Volume(np.zeros((6, 8), np.float32), np.eye(3))
    _, (only,) = slices_of(image, image.with_data(np.zeros((6, 8), np.uint8)))
    assert only.view.image.shape == (6, 8)


def test_pictures_fit_into_their_inches():
    assert size_in_inches((100, 50), 1.0, 4.0) == (2.0, 4.0)
    assert size_in_inches((50, 50), 0.5, 4.0) == (4.0, 2.0)
    assert size_in_inches((1, 800), 1.0, 4.0) == (4.0, 0.5)


def test_six_labels_have_colours_of_their_own_and_more_go_round():
    assert len({colour_of(value) for value in range(1, 7)}) == 6
    assert colour_of(7) == colour_of(1)


def test_drawings_bear_numbers_sides_a_scale_and_the_two_diameters():
    _, (first, _) = slices_of(*head())
    axes = new_figure((2, 2)).add_axes((0, 0, 1, 1))
    draw_whole(axes, first, FRENCH)
    assert {text.get_text() for text in axes.texts} == {"1", "D", "G", "A", "P", "10\u00a0mm"}
    assert len(axes.lines) == 3  # two diameters and the scale
    bar = axes.lines[0].get_xdata()
    field = 2 * first.view.image.shape[1]  # mm
    assert (bar[1] - bar[0]) * field == pytest.approx(10)
    axes = new_figure((2, 2)).add_axes((0, 0, 1, 1))
    draw_detail(axes, first, first.enlarged[0], ("1: 5 mm", "1"), ENGLISH, inches=2)
    assert "1: 5 mm" in {text.get_text() for text in axes.texts}


def test_what_can_not_be_read_in_a_small_picture_is_told_in_short():
    _, (first, _) = slices_of(*head())
    axes = new_figure((0.5, 0.5)).add_axes((0, 0, 1, 1))
    draw_detail(axes, first, first.enlarged[0], ("1: 10.0 × 12.1 mm", "1"), ENGLISH, inches=0.5)
    assert {"1", "R", "L", "5\u00a0mm"} == {text.get_text() for text in axes.texts}


def test_a_number_at_the_right_edge_stands_on_the_left():
    image, mask = head()
    image.data[:, :, :] = 100
    mask.data[:3, 4:6, 6] = 1  # low x: the patient's left, on the right
    _, slices = slices_of(image, mask)
    key = next(key for key in slices if key.place == 7)
    axes = new_figure((2, 2)).add_axes((0, 0, 1, 1))
    draw_whole(axes, key, ENGLISH)
    sides = {text.get_text(): text.get_ha() for text in axes.texts}
    assert sides["2"] == "right"
