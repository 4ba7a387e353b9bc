"""The slice that is shown, and where the patient's sides are in it."""

import itertools

import numpy as np
import pytest

from segjax.data.io.formats import read_image, read_label
from segjax.errors import InputError
from segjax.report.views import best_view, grey_window, slice_axis, views_at
from segjax.volume import Volume

SHAPE, SPACING = (7, 8, 9), (1.0, 1.1, 1.2)  # of the axes right, front, head
ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def store(data, axes, signs):
    """Store an array of RAS order with its axes permuted and flipped; the affine says how."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, stored] = sign * SPACING[axis]
    flips = tuple(slice(None, None, sign) for sign in signs)
    return Volume(data.transpose(axes)[flips], affine)


def plain(shape=(5, 6, 7), spacing=(1.0, 1.0, 1.0), fill=1.0):
    data = np.full(shape, fill, np.float32)
    data[0, 0] = 0
    return Volume(data, np.diag([*spacing, 1.0][-len(shape) - 1 :]))


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_the_patients_right_is_on_the_left_and_the_front_is_on_top(axes, signs):
    image = 1 + np.random.default_rng(0).random(SHAPE).astype(np.float32)
    truth = np.zeros(SHAPE, np.uint8)
    truth[5, 6, 3] = 1  # near the right, near the front
    truth[0, 0, 3] = 2  # leftmost and rearmost
    view = best_view(store(image, axes, signs), store(truth, axes, signs))
    assert view.truth is not None
    assert np.argwhere(view.truth == 1).tolist() == [[1, 1]]
    assert np.argwhere(view.truth == 2).tolist() == [[7, 6]]
    assert view.image[1, 1] == image[5, 6, 3]
    assert view.edges == "RLAP"
    assert view.aspect == pytest.approx(1.1)
    stored = axes.index(2)
    number = 4 if signs[stored] > 0 else 6  # of 9, counted from 1 along the stored axis
    assert view.caption == f"axial slice {number} of 9"


@pytest.mark.parametrize(
    ("spacing", "plane", "edges"),
    [
        ((6.5, 0.5, 0.5), "sagittal slice 3 of 5", "APSI"),
        ((0.5, 6.5, 0.5), "coronal slice 4 of 6", "RLSI"),
        ((0.5, 0.5, 6.5), "axial slice 4 of 7", "RLAP"),
        ((1.0, 1.2, 1.0), "axial slice 4 of 7", "RLAP"),
    ],
)
def test_thick_slices_are_shown_in_their_own_plane(spacing, plane, edges):
    view = best_view(plain(spacing=spacing))
    assert (view.caption, view.edges) == (plane, edges)


def test_a_single_slice_is_shown_whole():
    view = best_view(plain((1, 6, 7)))
    assert view.image.shape == (7, 6)
    assert view.caption == "sagittal slice 1 of 1"


def test_the_slice_has_most_foreground():
    image = plain((6, 6, 9))
    mask = np.zeros((6, 6, 9), np.uint8)
    mask[2, 2, 1] = 1
    mask[2:4, 2, 7] = 1
    assert best_view(image, image.with_data(mask)).caption == "axial slice 8 of 9"
    empty = image.with_data(np.zeros_like(mask))
    assert best_view(image, empty, image.with_data(mask)).caption == "axial slice 8 of 9"
    assert best_view(image, empty, empty).caption == "axial slice 5 of 9"


def test_images_of_rows_and_columns_are_shown_as_stored():
    data = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)
    view = best_view(Volume(data, np.diag([2.0, 0.5, 1.0])), prediction=None)
    np.testing.assert_array_equal(view.image, data)
    assert view.aspect == 4
    assert (view.edges, view.caption, view.truth) == ("", "", None)


def test_the_window_leaves_out_background_and_outliers():
    data = np.zeros(100_000, np.float32)
    data[500:1501] = np.arange(1000, 2001)
    data[1501:1505] = np.inf, -np.inf, np.nan, 1e6
    view = best_view(Volume(data.reshape(100, 1000), np.eye(3)))
    # of 1002 values: the 0.5th percentile, and the 99.5th with what that is above the 95th
    assert view.window == pytest.approx((1005, 1995.99 + (1995.99 - 1950.95)), abs=0.1)
    assert np.isfinite(view.image).all()


def test_a_background_above_the_lowest_value_is_no_tissue():
    data = np.zeros((40, 40, 40), np.float32)
    data[10:30, 10:30, 10:30] = np.linspace(50, 100, 8000).reshape(20, 20, 20)
    data[15, 15, 15] = -20  # as interpolation by splines leaves it
    low, high = grey_window(data)
    assert low == pytest.approx(50.2, abs=0.1)
    assert high == 100


def test_lesions_brighter_than_all_tissue_are_not_all_white():
    rng = np.random.default_rng(0)
    data = np.zeros((40, 40, 40), np.float32)
    data[5:35, 5:35, 5:35] = rng.normal(100, 5, (30, 30, 30))
    data[10:13, 10:13, 10:13] = rng.uniform(150, 170, (3, 3, 3))
    lesions = data > 140
    white = grey_window(data)[1]
    assert 105 < white < 130  # nothing told it of the lesions, which are 1 in 1000 voxels
    low, high = grey_window(data, lesions)
    assert (data[lesions] > high).mean() < 0.05
    assert low < 100
    assert best_view(Volume(data, np.eye(4)), Volume(lesions * 1, np.eye(4))).window == (low, high)


def test_lesions_of_real_flair_images_are_not_all_white(data_dir):
    folder = data_dir / "ms_lesions" / "patient07"
    flair = read_image(folder / "flair.nii.gz").data[::2, ::2, ::2, 0]
    lesions = read_label(folder / "lesions.nii.gz").data[::2, ::2, ::2] > 0
    white, told = grey_window(flair)[1], grey_window(flair, lesions)[1]
    assert (flair[lesions] > white).mean() < 0.25  # of the 99th percentile it is 0.7
    assert (flair[lesions] > told).mean() < 0.02
    assert 0.5 < np.median(flair[flair > 20]) / told < 0.8  # and the brain is not dark


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_constant_images_have_a_window(value):
    low, high = best_view(Volume(np.full((4, 4), value, np.float32), np.eye(3))).window
    assert low < high


def test_two_grey_values_have_a_window_that_tells_them_apart():
    data = np.zeros((4, 4), np.float32)
    data[1:3] = 7
    assert best_view(Volume(data, np.eye(3))).window == (0, 7)


def test_dark_margins_are_cut_off_but_masks_are_kept():
    data = np.zeros((100, 200), np.float32)
    data[40:60, 100:140] = np.random.default_rng(0).uniform(90, 100, (20, 40))
    mask = np.zeros(data.shape, np.uint8)
    mask[50, 20] = 1
    view = best_view(Volume(data, np.eye(3)), Volume(mask, np.eye(3)))
    assert view.image.shape == (20 + 2 * 1, 120 + 2 * 6)  # a frame of 1 + 5 % of the content
    assert view.truth is not None
    assert view.truth.sum() == 1


def test_the_first_channel_is_shown():
    data = np.stack([np.full((4, 4), 3.0), np.full((4, 4), 8.0)], axis=-1)
    assert (best_view(Volume(data, np.eye(3))).image == 3).all()


def test_a_mask_of_another_grid_is_refused():
    image = plain()
    mask = Volume(np.zeros((5, 6, 8), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"prediction of shape \(5, 6, 8\).*\(5, 6, 7\)"):
        best_view(image, None, mask)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::7])
def test_slices_are_counted_from_the_feet_however_they_are_stored(axes, signs):
    image = 1 + np.random.default_rng(0).random(SHAPE).astype(np.float32)
    volume = store(image, axes, signs)
    first, last = views_at(volume, [0, 8])
    np.testing.assert_array_equal(first.image, image[::-1, ::-1, 0].T)
    np.testing.assert_array_equal(last.image, image[::-1, ::-1, 8].T)
    assert slice_axis(volume) == 2


def test_slices_of_one_volume_have_one_frame_and_one_window():
    data = np.zeros((60, 60, 4), np.float32)
    data[10:20, 30:40, 1] = np.random.default_rng(0).uniform(5, 6, (10, 10))
    data[40:50, 20:30, 2] = np.random.default_rng(1).uniform(7, 9, (10, 10))
    views = views_at(Volume(data, np.eye(4)), [0, 1, 2])
    assert {view.image.shape for view in views} == {(20 + 2 * 1, 40 + 2 * 2)}
    assert len({view.window for view in views}) == 1
    assert [view.image.any() for view in views] == [False, True, True]
