"""Surface distances against known answers, plain code, MONAI, surface-distance and SimpleITK."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.components import box_of
from segjax.data.io.formats import read_volume
from segjax.errors import InputError
from segjax.evaluate import surface as module
from segjax.evaluate.surface import surface_distances, surface_measures
from tests.peers import Peer, monai, torch

surface_metrics = Peer("surface_distance.metrics", "surface_distance")
KINDS = ("surfels", "voxels")
CUBE = (1.0, 1.0, 1.0)
SHEARED = np.array([[1.0, 0.5, 0, 7], [0, 2, 0.3, 0], [0, 0.4, 3, -2], [0, 0, 0, 1]])
seeds = st.integers(0, 2**32 - 1)


def box(start, stop, shape=(16, 14, 12)):
    mask = np.zeros(shape, bool)
    mask[tuple(map(slice, start, stop))] = True
    return mask


def ball(radius, shape=(31, 31, 31), spacing=CUBE):
    places = (np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) // 2) * spacing
    return (places**2).sum(axis=-1) <= radius**2


def measured(truth, prediction, spacing=CUBE, surface="surfels"):
    return surface_distances(truth=truth, prediction=prediction, spacing=spacing, surface=surface)


def summary(distances):
    return [
        distances.hausdorff,
        distances.percentile(95),
        distances.percentile(50),
        distances.assd,
        distances.masd,
        distances.dice(1.0),
    ]


def random_pair(seed, shape=None):
    """Draw two masks that are blobs, noise, or small changes of one another; neither is empty."""
    rng = np.random.default_rng(seed)
    shape = shape or tuple(rng.integers(2, 14, rng.integers(2, 4)).tolist())
    field = rng.standard_normal(shape)
    for axis in range(len(shape)):
        field = field + np.roll(field, 1, axis) if rng.random() < 0.6 else field
    other = field + rng.choice([0.1, 0.5, 3]) * rng.standard_normal(shape)
    pair = [values >= np.quantile(values, rng.uniform(0.2, 0.95)) for values in (field, other)]
    spacing = (
        rng.choice([0.5, 0.9, 1, 3], len(shape)) if seed % 2 else rng.uniform(0.3, 4, len(shape))
    )
    return *pair, tuple(spacing.tolist())


@pytest.mark.parametrize("surface", KINDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cube_moved_by_n_voxels_lies_n_of_their_edges_away(surface, axis):
    truth, spacing = box((2, 2, 2), (6, 6, 6)), (1.0, 2.0, 0.5)
    for n in range(4):
        distances = measured(truth, np.roll(truth, n, axis), spacing, surface)
        assert distances.hausdorff == pytest.approx(n * spacing[axis])
        assert distances.from_truth.hausdorff == distances.from_prediction.hausdorff


def test_means_of_a_moved_square_are_those_of_a_sketch():
    truth = box((2, 2), (5, 5), (9, 9))
    distances = measured(truth, np.roll(truth, 2, axis=1), (1.0, 1.0))
    # of 12 corners 4 count √½ and 8 count 1; 2 with √½ and 2 with 1 lie on the far side, 2 away;
    # those of 1 on the line beside it lie 1 away, as the 2 on the near side do
    perimeter, far, near = 8 + 4 * math.sqrt(0.5), 2 + 2 * math.sqrt(0.5), 2 + 2
    assert distances.assd == pytest.approx((2 * far + near) / perimeter)
    assert distances.dice(1.0) == pytest.approx(1 - far / perimeter)
    assert distances.dice(0) == pytest.approx(1 - (far + near) / perimeter)
    assert distances.dice(2.0) == 1
    edges = measured(truth, np.roll(truth, 2, axis=1), (1.0, 1.0), "voxels")
    # of 8 edge pixels 3 lie 2 away, the two of the middle column 1, the others on the other's edge
    assert edges.assd == pytest.approx((3 * 2 + 2 * 1) / 8)
    assert edges.dice(1.0) == pytest.approx(5 / 8)


@pytest.mark.parametrize(("surface", "mean"), [("surfels", 3.5), ("voxels", 3.85)])
def test_spheres_with_one_centre_lie_their_difference_in_radius_apart(surface, mean):
    distances = measured(ball(12), ball(8), surface=surface)
    assert distances.assd == pytest.approx(mean, abs=0.1)  # elements are layers, not points
    assert distances.hausdorff == pytest.approx(4, abs=0.5)
    assert distances.percentile(95) <= distances.hausdorff


@pytest.mark.parametrize(("surface", "depth"), [("surfels", 2), ("voxels", 1)])
def test_a_box_that_is_longer_at_one_end_differs_in_both_directions(surface, depth):
    truth, prediction = box((2, 2, 2), (6, 6, 6)), box((2, 2, 2), (12, 6, 6))
    distances = measured(truth, prediction, surface=surface)
    assert distances.from_prediction.hausdorff == 6
    assert distances.from_truth.hausdorff == depth  # of the middle of the end below the long walls
    assert distances.hausdorff == 6


@pytest.mark.parametrize("surface", KINDS)
def test_a_surface_at_the_border_of_the_image_counts(surface):
    whole, half = np.ones((8, 8, 8), bool), box((0, 0, 0), (4, 8, 8), (8, 8, 8))
    assert measured(whole, half, surface=surface).hausdorff == 4
    inside = measured(np.pad(whole, 3), np.pad(half, 3), surface=surface)
    assert summary(measured(whole, half, surface=surface)) == pytest.approx(summary(inside))


@pytest.mark.parametrize("surface", KINDS)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_missed_label_costs_the_diagonal_of_the_field_of_view(surface, rank):
    truth = box((1,) * rank, (3,) * rank, (6, 10, 4)[:rank])
    nothing, spacing = np.zeros_like(truth), (1.0, 0.5, 3.0)[:rank]
    worst = math.dist((6, 5, 12)[:rank], (0, 0, 0)[:rank])
    for pair in ((truth, nothing), (nothing, truth)):
        distances = measured(*pair, spacing, surface)
        assert summary(distances) == pytest.approx([worst] * 5 + [0])
        assert distances.dice(1e9) == 0
        for one in (distances.from_truth, distances.from_prediction):
            assert [one.hausdorff, one.mean, one.percentile(95)] == pytest.approx([worst] * 3)


def test_the_diagonal_of_a_sheared_field_of_view_is_its_longest():
    affine = np.array([[1.0, -1, 0], [0, 1, 0], [0, 0, 1]])  # (3, 0) + (-3, 3), or (3, 0) - (-3, 3)
    one, nothing = np.eye(3, dtype=bool), np.zeros((3, 3), bool)
    assert measured(one, nothing, affine).hausdorff == pytest.approx(math.hypot(6, 3))


@pytest.mark.parametrize("surface", KINDS)
def test_two_empty_masks_are_perfect(surface):
    nothing = np.zeros((3, 4), bool)
    assert summary(measured(nothing, nothing, (1.0, 1.0), surface)) == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("surface", KINDS)
def test_equal_masks_are_perfect_and_need_no_scipy(surface, monkeypatch):
    monkeypatch.setattr(module, "_to_nearest", None)
    monkeypatch.setattr(module, "_transform", None)
    assert summary(measured(ball(5), ball(5), surface=surface)) == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("part", "dense"), [("spatial", 1), ("ndimage", 0)])
def test_a_missing_scipy_is_named(part, dense, monkeypatch):
    monkeypatch.setattr(module, "_DENSE", dense)
    monkeypatch.setitem(sys.modules, f"scipy.{part}", None)
    with pytest.raises(InputError, match="surface distances needs scipy"):
        measured(ball(5), ball(4))


def brute(truth, prediction, affine):
    """Measure all distances between edge voxels in mm, one by one."""

    def edge_of(mask):
        inside = {tuple(place) for place in np.argwhere(mask).tolist()}
        steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, s)) == 1]
        edge = [p for p in inside if any(tuple(np.add(p, s).tolist()) not in inside for s in steps)]
        return np.array(edge) @ affine[:3, :3].T + affine[:3, 3]

    one, other = edge_of(truth), edge_of(prediction)
    apart = np.linalg.norm(one[:, None] - other[None], axis=-1)
    return apart.min(axis=1), apart.min(axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_distances_on_a_sheared_grid_equal_those_of_all_pairs_in_mm(seed):
    truth, prediction, _ = random_pair(seed, (5, 6, 4))
    distances = measured(truth, prediction, SHEARED, "voxels")
    there, found = brute(truth, prediction, SHEARED)
    np.testing.assert_allclose(np.sort(distances.from_truth.distances), np.sort(there))
    np.testing.assert_allclose(np.sort(distances.from_prediction.distances), np.sort(found))
    assert distances.percentile(95) == pytest.approx(
        max(np.percentile(there, 95), np.percentile(found, 95))
    )


@settings(max_examples=10)
@given(seeds, st.sampled_from(KINDS))
def test_truth_and_prediction_exchanged_exchange_the_directions_alone(seed, surface):
    truth, prediction, spacing = random_pair(seed)
    one, other = (
        measured(*p, spacing, surface) for p in ((truth, prediction), (prediction, truth))
    )
    assert summary(one) == pytest.approx(summary(other))
    assert one.from_truth.mean == pytest.approx(other.from_prediction.mean)


@settings(max_examples=10)
@given(seeds, st.sampled_from(KINDS))
def test_measures_keep_their_order_and_range(seed, surface):
    truth, prediction, spacing = random_pair(seed)
    distances = measured(truth, prediction, spacing, surface)
    median, hd95, largest = (distances.percentile(p) for p in (50, 95, 100))
    assert 0 <= median <= hd95 <= largest == distances.hausdorff
    assert 0 <= distances.assd <= distances.hausdorff <= math.dist((0,) * truth.ndim, [
        n * edge for n, edge in zip(truth.shape, spacing, strict=True)
    ])  # fmt: skip
    shares = [distances.dice(tolerance) for tolerance in (0, 0.5, 1, 2, 1e6)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    if surface == "voxels":  # other masks may have corners at the same places
        assert (distances.hausdorff == 0) == np.array_equal(truth, prediction)


@pytest.mark.parametrize("surface", KINDS)
def test_the_further_a_mask_moves_the_further_its_surface_lies(surface):
    truth = ball(4, (40, 12, 12))
    moved = [measured(truth, np.roll(truth, n, 0), surface=surface) for n in range(12)]
    for measure in (lambda d: d.hausdorff, lambda d: d.assd, lambda d: d.percentile(95)):
        values = [measure(distances) for distances in moved]
        assert values == sorted(values)
    shares = [distances.dice(1.0) for distances in moved[:6]]
    assert shares == sorted(shares, reverse=True)
    assert moved[-1].dice(1.0) == 0


@settings(max_examples=10)
@given(seeds, st.sampled_from(KINDS), st.integers(0, 2), st.floats(0.1, 9))
def test_distances_do_not_depend_on_orientation_and_scale_with_the_unit(seed, surface, axis, scale):
    truth, prediction, spacing = random_pair(seed, (5, 4, 6))
    cubes = measured(truth, prediction, CUBE, surface)
    flipped = measured(np.flip(truth, axis), np.flip(prediction, axis), CUBE, surface)
    assert summary(flipped) == pytest.approx(summary(cubes))
    distances = measured(truth, prediction, spacing, surface)
    axes = np.roll((0, 1, 2), axis)
    turned = measured(
        *(mask.transpose(axes) for mask in (truth, prediction)),
        tuple(spacing[a] for a in axes),
        surface,
    )
    assert turned.hausdorff == pytest.approx(distances.hausdorff)
    assert turned.assd == pytest.approx(distances.assd, rel=0.02)
    scaled = measured(truth, prediction, tuple(scale * edge for edge in spacing), surface)
    assert summary(scaled)[:-1] == pytest.approx([scale * one for one in summary(distances)[:-1]])
    assert scaled.dice(scale * spacing[0]) == pytest.approx(distances.dice(spacing[0]))


@pytest.mark.parametrize("surface", KINDS)
def test_a_rotated_grid_gives_the_same_distances(surface):
    truth, prediction, _ = random_pair(3, (6, 7, 5))
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1, 2, 3])
    straight = measured(truth, prediction, (1.0, 2.0, 3.0), surface)
    turned = measured(truth, prediction, affine, surface)
    assert summary(turned) == pytest.approx(summary(straight))
    assert [turned.dice(t) for t in (1, 2, 3)] == pytest.approx(
        [straight.dice(t) for t in (1, 2, 3)]
    )


@pytest.mark.parametrize("affine", [np.diag([1.0, 2, 3, 1]), SHEARED])
@pytest.mark.parametrize("surface", KINDS)
def test_masks_like_noise_are_measured_as_others_are(surface, affine, monkeypatch):
    rng = np.random.default_rng(0)
    noise, lesion = rng.random((12, 12, 12)) < 0.3, ball(2, (12, 12, 12))
    found = []
    for dense in (0, 1):  # by a distance transform where the grid allows it; by a search
        monkeypatch.setattr(module, "_DENSE", dense)
        found.append(summary(measured(noise, lesion, affine, surface)))
    assert found[0] == pytest.approx(found[1])


def test_slices_of_any_thickness_count_by_area_as_surfels_alone():
    thick, moved = box((3, 3, 2), (9, 9, 4)), box((3, 3, 2), (9, 11, 4))
    thin, thin_moved = (np.repeat(mask, 6, axis=2) for mask in (thick, moved))
    coarse, fine = (1.0, 1.0, 6.0), CUBE
    of_areas, of_counts = (
        [measured(thick, moved, coarse, kind).assd, measured(thin, thin_moved, fine, kind).assd]
        for kind in KINDS
    )
    assert abs(of_areas[0] / of_areas[1] - 1) < abs(of_counts[0] / of_counts[1] - 1)


def test_labels_are_compared_one_by_one():
    truth, prediction = np.zeros((2, 9, 9), np.uint8)
    truth[2:4, 2:4], prediction[2:4, 3:5], prediction[6:, 6:] = 2, 2, 1
    found = surface_distances(truth=truth, prediction=prediction, label=2, spacing=(1.0, 1.0))
    assert found.hausdorff == 1
    assert surface_distances(truth=truth, prediction=prediction).dice(1.0) == 0


def test_a_row_of_a_table_names_its_unit():
    truth, prediction = box((2, 2, 2), (6, 6, 6)), box((2, 2, 2), (12, 6, 6))
    row = surface_measures(truth=truth, prediction=prediction, spacing=(2.0, 2.0, 2.0))
    distances = measured(truth, prediction, (2.0, 2.0, 2.0))
    assert row == {
        "hausdorff_mm": 12,
        "hd95_mm": distances.percentile(95),
        "assd_mm": distances.assd,
        "surface_dice": distances.dice(1.0),
    }
    assert surface_measures(truth=truth, prediction=prediction)["hausdorff_voxels"] == 6
    flat = surface_measures(truth=truth[3], prediction=prediction[8], tolerance=2)
    assert list(flat) == ["hausdorff_pixels", "hd95_pixels", "assd_pixels", "surface_dice"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prediction": np.ones((2, 3), bool)}, r"\(3, 3\) and prediction \(2, 3\)|spatial"),
        ({"spacing": CUBE}, "do not fit their spacing"),
        ({"spacing": np.eye(4)}, "do not fit their spacing"),
        ({"spacing": (1.0, 0.0)}, "positive numbers"),
        ({"surface": "faces"}, "surfels|voxels"),
    ],
)
def test_what_cannot_be_compared_is_refused(changed, message):
    given_ = {"truth": np.eye(3, dtype=bool), "prediction": np.eye(3, dtype=bool), **changed}
    with pytest.raises(Exception, match=message):  # the type checker of the tests may come first
        surface_distances(**given_)


def test_masks_of_other_ranks_are_refused():
    with pytest.raises(InputError, match="rank 2 or 3"):
        surface_distances(truth=np.ones(4, bool), prediction=np.ones(4, bool))


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_impossible_percentages_are_refused(percent):
    with pytest.raises(InputError, match="from 0 to 100"):
        measured(ball(3), ball(4)).percentile(percent)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_impossible_tolerances_are_refused(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        measured(ball(3), ball(4)).dice(tolerance)


def compare_with_surface_distance(truth, prediction, spacing):
    theirs = surface_metrics.compute_surface_distances(truth, prediction, spacing)
    ours = measured(truth, prediction, spacing)
    means = surface_metrics.compute_average_surface_distance(theirs)
    assert (ours.from_truth.mean, ours.from_prediction.mean) == pytest.approx(means, abs=1e-4)
    for percent in (50, 95, 100):
        expected = surface_metrics.compute_robust_hausdorff(theirs, percent)
        assert ours.percentile(percent) == pytest.approx(expected, abs=1e-4)
    for tolerance in (0, 0.5, 1.0, spacing[0]):
        expected = surface_metrics.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert ours.dice(tolerance) == pytest.approx(expected, abs=1e-4)


def compare_with_monai(truth, prediction, spacing, *, measures=7):
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    options = {"include_background": True, "spacing": list(spacing)}
    ours = measured(truth, prediction, spacing, "voxels")
    directed, surfels = ours.from_prediction, measured(truth, prediction, spacing)
    near = {"class_thresholds": [1.0]}
    calls = [
        (ours.percentile(95), "hausdorff_distance", {"percentile": 95}),
        (ours.assd, "average_surface_distance", {"symmetric": True}),
        (ours.dice(1.0), "surface_dice", near),
        (ours.hausdorff, "hausdorff_distance", {}),
        (directed.hausdorff, "hausdorff_distance", {"directed": True}),
        (directed.mean, "average_surface_distance", {}),
        (surfels.dice(1.0), "surface_dice", {"use_subvoxels": True, **near}),
    ]
    for own, name, more in calls[:measures]:
        theirs = getattr(monai.metrics, f"compute_{name}")(one, other, **options, **more)
        assert own == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.peer("surface_distance")
@pytest.mark.parametrize("tens", range(20))
def test_surfels_equal_surface_distance_on_random_masks(tens):
    for seed in range(10 * tens, 10 * tens + 10):
        compare_with_surface_distance(*random_pair(seed))


@pytest.mark.peer("monai", "torch")
@pytest.mark.parametrize("tens", range(20))
def test_edge_voxels_equal_monai_on_random_masks(tens):
    for seed in range(10 * tens, 10 * tens + 10):
        compare_with_monai(*random_pair(seed))


def lesions(folder):
    """Yield masks of each patient's lesions with those of another, or with themselves moved."""
    files = sorted((folder / "ms_lesion_masks").glob("*.nii.gz"))
    files += sorted((folder / "ms_lesions").glob("*/lesions.nii.gz"))
    volumes = [read_volume(file) for file in files]
    for number, volume in enumerate(volumes):
        truth, other = (v.data > 0 for v in (volume, volumes[number - 1]))
        yield truth, np.roll(truth, 1, 0) if number % 2 else other, volume.spacing


def small_structures(folder):
    """Yield masks of a part of the hippocampus with themselves moved."""
    for number, file in enumerate(sorted((folder / "hippocampus" / "labels").iterdir())):
        volume = read_volume(file)
        truth = volume.data == 1 + number % 2
        yield truth, np.roll(truth, 1 + number % 3, number % 3), volume.spacing


def tumours(folder):
    """Yield masks of a tumour in 2D with themselves moved."""
    for number, file in enumerate(sorted((folder / "meningioma2d" / "labels").iterdir())):
        truth = read_volume(file).data.squeeze() > 0
        yield truth, np.roll(truth, 1 + number % 4, number % 2), (0.49, 0.49)


def cropped(truth, prediction, spacing):
    """Return what MONAI crops to as well, with a margin, so that it copies less."""
    box = tuple(slice(max(one.start - 2, 0), one.stop + 2) for one in box_of(truth | prediction))
    return np.ascontiguousarray(truth[box]), np.ascontiguousarray(prediction[box]), spacing


@pytest.mark.peer("surface_distance")
@pytest.mark.parametrize("masks", [lesions, small_structures, tumours])
def test_surfels_equal_surface_distance_on_real_masks(data_dir, masks):
    for case in masks(data_dir):
        compare_with_surface_distance(*cropped(*case))


@pytest.mark.peer("monai", "torch")
@pytest.mark.parametrize(("masks", "step"), [(lesions, 1), (small_structures, 3), (tumours, 9)])
def test_edge_voxels_equal_monai_on_real_masks(data_dir, masks, step):
    for case in itertools.islice(masks(data_dir), 0, None, step):
        compare_with_monai(*cropped(*case), measures=3)


def edges_by_simpleitk(truth, prediction, spacing):
    """Return the distances between the contours of two masks by SimpleITK, in both directions."""
    sitk = pytest.importorskip("SimpleITK")
    pair = []
    for mask in (truth, prediction):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        contour = sitk.LabelContour(image)
        far = sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
        pair.append((sitk.GetArrayFromImage(contour) > 0, np.abs(sitk.GetArrayFromImage(far))))
    (one, to_one), (other, to_other) = pair
    return to_other[one], to_one[other]


@pytest.mark.parametrize("seed", range(6))
def test_distances_of_edge_voxels_equal_those_of_simpleitk(seed):
    truth, prediction, spacing = random_pair(seed, (9, 8, 7))
    ours = measured(truth, prediction, spacing, "voxels")
    there, found = edges_by_simpleitk(truth, prediction, spacing)
    np.testing.assert_allclose(np.sort(ours.from_truth.distances), np.sort(there), atol=1e-4)
    np.testing.assert_allclose(np.sort(ours.from_prediction.distances), np.sort(found), atol=1e-4)


def hausdorff_of_sets(truth, prediction, spacing):
    sitk = pytest.importorskip("SimpleITK")
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, prediction)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*images)
    return measure.GetHausdorffDistance()


def test_simpleitk_measures_sets_which_lie_nearer_or_further_than_their_edges():
    small, large = ball(4), ball(10)
    shell = large & ~ball(6)
    edges = measured(small, large, surface="voxels")
    assert hausdorff_of_sets(small, large, CUBE) == pytest.approx(edges.hausdorff)
    assert hausdorff_of_sets(shell, large, CUBE) == pytest.approx(math.hypot(6, 1))  # the centre
    edges = measured(shell, large, surface="voxels")
    assert edges.from_prediction.hausdorff == 0  # the outer edge is common
    assert 3 < edges.hausdorff < 4  # from the edge of the hole to it


def test_public_names_exist():
    assert all(hasattr(module, name) for name in module.__all__)
