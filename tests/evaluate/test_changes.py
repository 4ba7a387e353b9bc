"""Changes of lesions: by hand, of bodies counted on several grids, and what must always hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, label
from scipy.spatial.transform import Rotation

from segjax.components import box_of
from segjax.data.io.formats import read_volume
from segjax.errors import InputError
from segjax.evaluate.changes import KINDS, lesion_changes, volume_variance
from segjax.evaluate.diameters import axial_diameters
from segjax.evaluate.difference import ImageDifference
from segjax.volume import Volume
from tests.geometry import seeds

MIRRORED = {"new": "gone", "gone": "new", "enlarged": "shrunk", "shrunk": "enlarged"}
ONE_MM = (1.0, 1.0)


def empty(shape=(30, 30, 30)):
    return np.zeros(shape, np.float32), np.zeros(shape, np.float32)


def box(mask, start, size):
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1


def changes_of(before, after, affine=None, voxels=ONE_MM, **others):
    affine = np.eye(4) if affine is None else affine
    return lesion_changes(before, after, affine, voxels_mm3=voxels, **others)


def kinds(changes):
    return [change.kind for change in changes]


def ball(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    places = np.ogrid[tuple(map(slice, shape))]
    squares = ((p * s - c) ** 2 for p, s, c in zip(places, spacing, centre, strict=True))
    return (sum(squares) <= radius**2).astype(np.float32)


def images(before, after, changed=None, *, contrast=4.0, confidence=1.0, reliable=True, noise=0.0):
    """Return a difference of images that show lesions as given by two maps of shares."""
    rng = np.random.default_rng(0)
    pair = [0.01 + contrast * x + noise * rng.standard_normal(x.shape) for x in (before, after)]
    pair = [Volume(x.astype(np.float32), np.eye(4)) for x in pair]
    step = pair[1].data - pair[0].data
    marks = np.zeros(step.shape, np.int8) if changed is None else changed.astype(np.int8)
    return ImageDifference(
        baseline=pair[0],
        followup=pair[1],
        difference=pair[0].with_data(5 * step),
        changed=pair[0].with_data(marks),
        confidence=pair[0].with_data(np.full(step.shape, confidence, np.float32)),
        reliable=reliable,
        reason="" if reliable else "other contrasts",
    )


def test_each_kind_by_hand():
    before, after = empty((40, 40, 20))
    box(before, (2, 2, 2), (5, 5, 5))  # grows
    box(after, (2, 2, 2), (5, 5, 9))
    box(before, (2, 20, 2), (6, 6, 6))  # stays
    box(after, (2, 20, 2), (6, 6, 6))
    box(before, (20, 2, 2), (6, 6, 10))  # shrinks
    box(after, (20, 2, 2), (6, 6, 5))
    box(before, (20, 20, 2), (3, 4, 5))  # goes
    box(after, (33, 33, 10), (3, 3, 3))  # appears
    changes, numbers = changes_of(before, after, label="plaque", value=2, days=365.25)
    assert [(c.kind, c.baseline_mm3, c.followup_mm3, c.change_mm3) for c in changes] == [
        ("shrunk", 360, 180, -180),
        ("enlarged", 125, 225, 100),
        ("gone", 60, 0, -60),
        ("new", 0, 27, 27),
        ("stable", 216, 216, 0),
    ]
    assert [c.number for c in changes] == [1, 2, 3, 4, 5]
    assert {(c.label, c.value) for c in changes} == {("plaque", 2)}
    assert [c.change_percent for c in changes] == [-50, 80, -100, None, 0]
    assert [c.percent_per_year for c in changes] == [-50, 80, None, None, 0]
    assert [numbers[p] for p in ((21, 3, 9), (3, 3, 8), (20, 20, 2), (33, 33, 10))] == [1, 2, 3, 4]
    assert changes[1].doubling_days == pytest.approx(365.25 * math.log(2) / math.log(225 / 125))
    assert {c.doubling_days for c in changes if c.kind != "enlarged"} == {None}
    assert {c.evidence for c in changes} == {"masks"}


def test_places_are_those_of_the_grid():
    before, after = empty((20, 20, 12))
    box(after, (4, 6, 3), (4, 3, 2))
    affine = np.array([[-1.0, 0, 0, 30], [0, 1, 0, -40], [0, 0, 2, 5], [0, 0, 0, 1]])
    (change,), numbers = changes_of(before, after, affine, (2.0, 2.0))
    assert change.followup_mm3 == 4 * 3 * 2 * 2
    assert change.centre_index == (5.5, 7, 3.5)
    assert change.centre_ras == (24.5, -33, 12)
    assert change.centre_lps == (-24.5, 33, 12)
    assert change.box == (slice(4, 8), slice(6, 9), slice(3, 5))
    assert (numbers[change.box] == 1).all()
    assert numbers.sum() == 24


def test_diameters_are_those_of_each_visits_mask():
    before, after = empty()
    box(before, (2, 2, 2), (6, 4, 3))
    box(after, (2, 2, 2), (12, 5, 3))
    (change,), _ = changes_of(before, after)
    for mask, found in (
        (before, (change.baseline_longest_mm, change.baseline_perpendicular_mm)),
        (after, (change.followup_longest_mm, change.followup_perpendicular_mm)),
    ):
        assert found == tuple(line.mm for line in axial_diameters(mask > 0, (1.0, 1.0, 1.0)))


def test_a_new_lesion_has_no_diameter_before():
    before, after = empty()
    box(after, (2, 2, 2), (6, 4, 3))
    (change,), _ = changes_of(before, after, days=100.0)
    assert change.baseline_longest_mm is None
    assert change.baseline_perpendicular_mm is None
    assert (change.percent_per_year, change.doubling_days, change.change_percent) == (None,) * 3


def test_lesions_that_merge_or_split_are_one():
    before, after = empty()
    box(before, (5, 5, 5), (4, 6, 6))
    box(before, (12, 5, 5), (4, 6, 6))
    box(after, (5, 5, 5), (11, 6, 6))
    (merged,), _ = changes_of(before, after)
    assert (merged.baseline_parts, merged.followup_parts) == (2, 1)
    assert (merged.baseline_mm3, merged.followup_mm3, merged.kind) == (288, 396, "enlarged")
    (split,), _ = changes_of(after, before)
    assert (split.baseline_parts, split.followup_parts, split.kind) == (1, 2, "shrunk")


def test_a_new_lesion_beside_an_old_one_enlarges_it_and_further_off_is_new():
    for gap, expected in ((1, ["enlarged"]), (3, ["new", "stable"])):
        before, after = empty()
        box(before, (5, 5, 5), (6, 6, 6))
        box(after, (5, 5, 5), (6, 6, 6))
        box(after, (10 + gap, 5, 5), (4, 4, 4))
        changes, _ = changes_of(before, after)
        assert kinds(changes) == expected
        assert changes[0].followup_parts == 1


def test_a_nodule_at_the_edge_of_a_confluent_field_is_found():
    before, after = empty((60, 60, 40))
    box(before, (5, 5, 5), (40, 40, 25))  # 40 ml
    after[:] = before
    box(after, (45, 20, 15), (5, 5, 5))
    changes, numbers = changes_of(before, after)
    assert kinds(changes) == ["enlarged", "stable"]
    nodule, field = changes
    assert nodule.change_mm3 == 125
    assert nodule.followup_mm3 < 500
    assert np.abs(np.subtract(nodule.centre_index, (46, 22, 17))).max() < 2
    assert numbers[47, 22, 17] == 1
    assert nodule.baseline_mm3 + field.baseline_mm3 == 40_000
    assert nodule.followup_mm3 + field.followup_mm3 == 40_125


def test_a_field_that_grows_here_and_shrinks_there_is_two_changes():
    before, after = empty((60, 40, 30))
    box(before, (10, 5, 5), (40, 25, 15))
    after[:] = before
    box(after, (50, 10, 8), (5, 6, 6))
    after[10:15, 10:17, 5:12] = 0
    changes, _ = changes_of(before, after)
    assert kinds(changes) == ["shrunk", "enlarged", "stable"]
    assert [c.change_mm3 for c in changes] == [-5 * 7 * 7, 5 * 6 * 6, 0]


def test_growth_all_around_is_one_change():
    shape, centre = (40, 40, 40), (20.3, 19.8, 20.1)
    for radius in (6.5, 7.5, 9):
        changes, _ = changes_of(ball(shape, centre, 5.5), ball(shape, centre, radius))
        assert kinds(changes) == ["enlarged"]


def test_shares_of_less_than_a_half_count_in_volumes_and_alone():
    before, after = empty()
    box(before, (5, 5, 5), (4, 4, 4))
    after[:] = before
    before[9, 5:9, 5:9] = 0.25  # partial volume at one side
    after[4, 5:9, 5:9] = 0.25
    before[20, 20, 20:22] = after[20, 20, 20:22] = 0.4  # a lesion between voxels
    changes, numbers = changes_of(before, after)
    assert [(c.kind, round(c.baseline_mm3, 5), round(c.followup_mm3, 5)) for c in changes] == [
        ("stable", 68, 68),
        ("stable", 0.8, 0.8),
    ]
    assert changes[1].baseline_longest_mm is not None
    assert numbers[20, 20, 20] == 2


def test_what_grids_cannot_tell_is_stable():
    before, after = empty()
    after[10, 10, 10:13] = 1  # 3 mm³, under 3 mm
    (speck,), _ = changes_of(before, after)
    assert (speck.kind, speck.followup_mm3) == ("stable", 3)
    assert speck.tolerance_mm3 > 3


def test_tolerance_is_30_percent_at_most_where_images_decide():
    before, after = empty()
    box(before, (5, 5, 5), (4, 4, 4))
    box(after, (5, 5, 5), (4, 4, 7))
    (change,), _ = changes_of(before, after, difference=images(before, after))
    assert change.tolerance_mm3 == pytest.approx(0.3 * 64)
    (alone,), _ = changes_of(before, after)
    assert alone.tolerance_mm3 > 0.3 * 64


def test_tolerance_of_a_new_lesion_is_three_voxels_of_the_coarser_grid_at_most():
    before, after = empty()
    box(after, (5, 5, 5), (4, 4, 4))
    for voxels in ((1.0, 2.0), (2.0, 1.0)):
        (change,), _ = changes_of(before, after, voxels=voxels)
        assert (change.kind, change.tolerance_mm3) == ("new", pytest.approx(3 * 2))


def test_tolerance_grows_with_the_voxel():
    before, after = empty()
    box(before, (5, 5, 5), (5, 5, 5))
    box(after, (5, 5, 5), (5, 5, 7))
    (fine,), _ = changes_of(before, after)
    (coarse,), _ = changes_of(before, after, voxels=(20.0, 1.0))
    (thick,), _ = changes_of(before, after, edges_mm=((1.0, 1.0, 6.0), (1.0, 1.0, 6.0)))
    assert fine.tolerance_mm3 < min(coarse.tolerance_mm3, thick.tolerance_mm3)
    assert kinds([fine, coarse, thick]) == ["enlarged", "stable", "stable"]


def test_longest_edge_makes_up_for_the_volume_of_a_voxel():
    before, after = empty((20, 20, 12))
    box(before, (5, 5, 3), (5, 5, 3))
    box(after, (5, 5, 3), (9, 9, 4))
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    (given_,), _ = changes_of(before, after, affine, (2.0, 4.0))
    edges = ((1.0, 1.0, 2.0), (1.0, 1.0, 4.0))
    (same,), _ = changes_of(before, after, affine, (2.0, 4.0), edges_mm=edges)
    assert given_.tolerance_mm3 == pytest.approx(same.tolerance_mm3)


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.0)])
def test_variance_of_counted_balls_follows_the_law(edges):
    rng = np.random.default_rng(0)
    places = [np.arange(-12, 13) * edge for edge in edges]
    errors = []
    for radius in rng.uniform(4, 8, 500):
        shifts = rng.uniform(-0.5, 0.5, 3) * edges
        x, y, z = np.ix_(*((p + s) ** 2 for p, s in zip(places, shifts, strict=True)))
        volume = (x + y + z <= radius**2).sum() * math.prod(edges)
        law = volume_variance(4 * math.pi * radius**2, edges)
        errors.append((volume - 4 / 3 * math.pi * radius**3) / math.sqrt(law))
    assert np.std(errors) == pytest.approx(1, rel=0.1)


def test_variance_in_cubes_is_that_of_kendall():
    # 0.0666 S h⁴; the sum over the cubic lattice is 16.5323 (Epstein's zeta function at 4)
    assert volume_variance(1.0, (1.0, 1.0, 1.0)) == pytest.approx(
        16.5323 / (8 * math.pi**3), rel=0.03
    )
    assert volume_variance(2.0, (3.0, 3.0, 3.0)) == pytest.approx(
        2 * 81 * volume_variance(1.0, (1.0, 1.0, 1.0))
    )


def counted(radii, turn, shift, edge, grow=1.0):
    """Count an ellipsoid in the voxels of a grid of its own, brought onto that of 1 mm."""
    n = math.ceil(24 / edge)
    places = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) + 0.5) * edge - 12
    own = (places - shift) @ turn.as_matrix()
    mask = ((own / (np.array(radii) * grow ** (1 / 3))) ** 2).sum(-1) <= 1
    back = turn.as_matrix() / edge
    centre = (12 + shift) / edge - 0.5
    half = np.full(3, 11.5)
    return affine_transform(
        mask.astype(np.float32), back, centre - back @ half, (24, 24, 24), order=1
    ).clip(0, 1)


def two_visits(seed, grow, least=2.2):
    rng = np.random.default_rng(seed)
    radii = rng.uniform(least, 5, 3)
    edges = rng.uniform(0.8, 1.2, 2)
    pair = [
        counted(radii, Rotation.random(random_state=rng), rng.uniform(-1, 1, 3), edge, factor)
        for edge, factor in zip(edges, (1, grow), strict=True)
    ]
    return pair, tuple((edges**3).tolist())


@settings(max_examples=12)
@given(seeds)
def test_a_body_on_shifted_turned_and_other_grids_is_stable(seed):
    (before, after), voxels = two_visits(seed, 1.0)
    changes, _ = changes_of(before, after, voxels=voxels)
    assert kinds(changes) == ["stable"]


@settings(max_examples=12)
@given(seeds, st.floats(1.7, 3), st.booleans())
def test_growth_and_shrinkage_are_told_on_any_grids(seed, factor, grows):
    (before, after), voxels = two_visits(seed, factor if grows else 1 / factor, least=2.8)
    changes, _ = changes_of(before, after, voxels=voxels)
    assert kinds(changes) == ["enlarged" if grows else "shrunk"]


def blobs(seed, count, shape=(28, 26, 24)):
    """Draw lesions with partial volumes, at two visits."""
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, *shape), np.float32)
    for _ in range(count):
        centre, radius = rng.uniform(3, 21, 3), rng.uniform(0.8, 4)
        for visit in range(2):
            if rng.random() < 0.8:
                reach = radius * rng.choice([1, 1, 0.6, 1.4])
                places = np.ogrid[tuple(map(slice, shape))]
                far = np.sqrt(sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)))
                pair[visit] = np.maximum(pair[visit], np.clip(reach - far + 0.5, 0, 1))
    return pair


@settings(max_examples=12)
@given(seeds, st.integers(0, 6))
def test_swapping_the_visits_mirrors_all(seed, count):
    before, after = blobs(seed, count)
    there, _ = changes_of(before, after)
    back, _ = changes_of(after, before)
    assert [MIRRORED.get(c.kind, c.kind) for c in there] == kinds(back)
    for one, other in zip(there, back, strict=True):
        assert one.change_mm3 == -other.change_mm3
        assert one.tolerance_mm3 == pytest.approx(other.tolerance_mm3)
        assert (one.baseline_parts, one.followup_parts) == (
            other.followup_parts,
            other.baseline_parts,
        )
        assert one.confidence == pytest.approx(other.confidence)
        assert one.box == other.box


@settings(max_examples=12)
@given(seeds, st.integers(0, 6))
def test_volumes_add_up_and_rows_are_sorted(seed, count):
    before, after = blobs(seed, count)
    changes, numbers = changes_of(before, after)
    assert sum(c.baseline_mm3 for c in changes) == pytest.approx(before.sum(dtype=float), abs=0.1)
    assert sum(c.followup_mm3 for c in changes) == pytest.approx(after.sum(dtype=float), abs=0.1)
    sizes = [abs(c.change_mm3) for c in changes]
    assert sizes == sorted(sizes, reverse=True)
    assert [c.number for c in changes] == list(range(1, len(changes) + 1))
    assert {c.kind for c in changes} <= set(KINDS)
    assert all(0 <= c.confidence <= 1 for c in changes)
    assert (numbers[(before >= 0.5) | (after >= 0.5)] > 0).all()
    assert (numbers[(before == 0) & (after == 0)] == 0).all()
    assert set(np.unique(numbers)) - {0} <= {c.number for c in changes}


@settings(max_examples=8)
@given(seeds, st.integers(1, 5))
def test_equal_visits_are_stable(seed, count):
    before, _ = blobs(seed, count)
    changes, _ = changes_of(before, before.copy())
    assert {c.kind for c in changes} <= {"stable"}
    assert {c.confidence for c in changes} <= {1.0}
    assert len(changes) <= label(before > 0, np.ones((3, 3, 3)))[1] + count


@settings(max_examples=8)
@given(seeds, st.integers(1, 4))
def test_lesions_far_away_change_nothing(seed, count):
    before, after = np.zeros((2, 28, 26, 44), np.float32)
    before[..., :24], after[..., :24] = blobs(seed, count)
    alone, _ = changes_of(before, after)
    box(after, (5, 5, 34), (5, 6, 7))
    more, _ = changes_of(before, after)
    added = [c for c in more if c.centre_index[2] > 30]
    assert kinds(added) == ["new"]
    rest = [c for c in more if c not in added]
    assert [(c.kind, c.baseline_mm3, c.followup_mm3, c.box, c.evidence) for c in rest] == [
        (c.kind, c.baseline_mm3, c.followup_mm3, c.box, c.evidence) for c in alone
    ]


def test_no_lesions_are_no_changes():
    before, after = empty((5, 6, 7))
    changes, numbers = changes_of(before, after)
    assert changes == ()
    assert numbers.shape == (5, 6, 7)
    assert not numbers.any()


def test_lesions_at_the_border_of_the_grid_are_told():
    before, after = empty((8, 8, 8))
    box(before, (0, 0, 0), (4, 4, 4))
    box(after, (0, 0, 0), (4, 4, 8))
    assert kinds(changes_of(before, after)[0]) == ["enlarged"]


def test_confidence_grows_with_the_change_and_is_a_half_at_the_tolerance():
    before, _ = empty((40, 40, 40))
    box(before, (5, 5, 5), (6, 6, 6))
    found = []
    for length in range(8, 16, 2):
        after = empty((40, 40, 40))[0]
        box(after, (5, 5, 5), (6, 6, length))
        (change,), _ = changes_of(before, after)
        found.append(change.confidence)
        expected = 1 - 2 ** -((change.change_mm3 / change.tolerance_mm3) ** 2)
        assert change.confidence == pytest.approx(expected)
    assert found == sorted(found)
    assert found[0] >= 0.5


def test_probabilities_weigh_the_confidence():
    before, after = empty()
    box(before, (5, 5, 5), (6, 6, 6))
    box(after, (5, 5, 5), (6, 6, 12))
    (alone,), _ = changes_of(before, after)
    for low, high in ((0.0, 1.0), (0.45, 0.55), (0.2, 0.8)):
        pair = tuple(np.where(x > 0, high, low).astype(np.float32) for x in (before, after))
        (change,), _ = changes_of(before, after, probabilities=pair)
        assert change.kind == "enlarged"
        assert change.confidence == pytest.approx(alone.confidence * (high - low), rel=1e-5)


def grown():
    before, after = empty((30, 30, 30))
    box(before, (5, 5, 5), (6, 6, 6))
    box(after, (5, 5, 5), (6, 6, 12))
    return before, after


def test_images_that_show_a_change_bear_it_out():
    before, after = grown()
    (change,), _ = changes_of(before, after, difference=images(before, after))
    assert (change.kind, change.evidence) == ("enlarged", "both")
    (alone,), _ = changes_of(before, after)
    assert change.confidence == pytest.approx(alone.confidence)
    half = images(before, (before + after) / 2, confidence=0.0)
    (unsure,), _ = changes_of(before, after, difference=half)
    assert unsure.confidence == pytest.approx(alone.confidence / 2, rel=0.2)


def test_images_that_show_no_change_hold_the_lesion_for_stable():
    before, after = grown()
    difference = images(before, before, noise=0.1)
    (change,), _ = changes_of(before, after, difference=difference)
    assert (change.kind, change.evidence) == ("stable", "masks")
    assert change.confidence <= 0.5
    assert change.change_mm3 == 216
    assert change.contradicted
    (borne_out,), _ = changes_of(before, after, difference=images(before, after))
    (same,), _ = changes_of(before, before)
    assert [borne_out.contradicted, same.contradicted] == [False, False]


def test_a_lesion_of_the_masks_alone_is_not_new_where_images_show_none():
    before, after = empty()
    box(before, (3, 3, 3), (6, 6, 6))
    after[:] = before
    seen = after.copy()
    box(after, (20, 20, 20), (4, 4, 4))
    changes, _ = changes_of(before, after, difference=images(before, seen, noise=0.1))
    assert kinds(changes) == ["stable", "stable"]


def test_a_mark_in_the_images_outweighs_their_mean():
    before, after = grown()
    marks = np.zeros(before.shape)
    marks[7, 7, 14] = 1
    (change,), _ = changes_of(before, after, difference=images(before, before, marks))
    assert (change.kind, change.evidence) == ("enlarged", "both")


def test_images_that_cannot_be_compared_have_no_say():
    before, after = grown()
    marks = np.ones(before.shape)
    difference = images(before, before, marks, reliable=False)
    assert changes_of(before, after, difference=difference)[0] == changes_of(before, after)[0]


def test_images_in_which_lesions_do_not_show_contradict_nothing():
    before, after = grown()
    (change,), _ = changes_of(before, after, difference=images(before, before, contrast=0.3))
    assert (change.kind, change.evidence) == ("enlarged", "masks")


def test_dark_lesions_are_borne_out_as_well():
    before, after = grown()
    (change,), _ = changes_of(before, after, difference=images(before, after, contrast=-4.0))
    assert (change.kind, change.evidence) == ("enlarged", "both")


def test_changes_that_images_alone_show_are_rows_of_their_own():
    before, after = empty((40, 40, 40))
    box(before, (3, 3, 3), (8, 8, 8))
    after[:] = before
    box(before, (25, 3, 3), (6, 6, 6))
    box(after, (25, 3, 3), (6, 6, 6))
    marks = np.zeros(before.shape)
    marks[20:24, 20:24, 20:24] = 1  # new
    marks[11:14, 5:9, 5:9] = 1  # at the edge of the first lesion
    marks[20:24, 30:34, 20:25] = -1  # was never in a mask
    marks[31:33, 3:9, 3:9] = -1  # at the edge of the second lesion
    shown = images(before, after, marks)
    changes, numbers = changes_of(before, after, difference=shown, days=100.0)
    found = {c.kind: c for c in changes if c.evidence == "images"}
    assert {c.doubling_days for c in found.values()} == {None}
    assert sorted(found) == ["enlarged", "gone", "new", "shrunk"]
    assert (found["new"].baseline_mm3, found["new"].followup_mm3) == (0, 64)
    assert (found["gone"].baseline_mm3, found["gone"].followup_mm3) == (80, 0)
    assert (found["enlarged"].baseline_mm3, found["enlarged"].followup_mm3) == (0, 48)
    assert (found["shrunk"].baseline_mm3, found["shrunk"].followup_mm3) == (72, 0)
    assert found["enlarged"].baseline_parts == 1
    assert numbers[21, 21, 21] == found["new"].number
    assert numbers[12, 6, 6] == found["enlarged"].number
    masks = [c for c in changes if c.evidence != "images"]
    assert sum(c.followup_mm3 for c in masks) == after.sum()


def test_what_masks_have_in_full_is_no_change_of_the_images():
    before, _ = grown()
    marks = np.zeros(before.shape)
    marks[6:9, 6:9, 6:9] = 1  # in the middle of a lesion of both visits
    marks[25:27, 25, 25] = 1  # too small to tell
    changes, _ = changes_of(before, before, difference=images(before, before, marks))
    assert kinds(changes) == ["stable"]


def test_small_lesions_are_new_where_images_mark_them():
    before, after = empty()
    box(before, (3, 3, 3), (6, 6, 6))
    after[:] = before
    after[20:22, 20, 20:22] = 1
    marks = np.zeros(before.shape)
    marks[20:22, 20, 20:22] = 1
    changes, _ = changes_of(before, after, difference=images(before, after, marks))
    assert [(c.kind, c.evidence) for c in changes] == [("new", "both"), ("stable", "both")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"followup": np.zeros((4, 4, 5), np.float32)}, "one grid"),
        ({"baseline": np.full((4, 4, 4), 2, np.float32)}, "baseline are no shares"),
        ({"followup": np.full((4, 4, 4), np.nan, np.float32)}, "follow-up are no shares"),
        ({"voxels_mm3": (0.0, 1.0)}, "0 is no volume"),
        ({"days": -3.0}, "-3 is no volume of a voxel and no number of days"),
        ({"probabilities": (np.zeros((3, 4, 4), np.float32),) * 2}, "the probabilities of shape"),
    ],
)
def test_what_is_wrong_is_said(change, words):
    zeros = np.zeros((4, 4, 4), np.float32)
    given_ = {"baseline": zeros, "followup": zeros, "voxels_mm3": ONE_MM} | change
    with pytest.raises(InputError, match=words):
        lesion_changes(affine=np.eye(4), **given_)


def test_images_on_another_grid_are_refused():
    before, after = empty((6, 6, 6))
    other = images(*empty((6, 6, 7)))
    with pytest.raises(InputError, match="difference of the images of shape"):
        changes_of(before, after, difference=other)


def test_changes_of_images_alone_have_the_confidence_of_the_images():
    before, after = empty()
    marks = np.zeros(before.shape)
    marks[10:16, 10:16, 10:16] = 1
    for confidence in (1.0, 0.25):
        difference = images(before, after, marks, confidence=confidence)
        (change,), numbers = changes_of(before, after, difference=difference)
        assert (change.kind, change.evidence, change.followup_mm3) == ("new", "images", 216)
        assert change.confidence == pytest.approx(confidence, rel=1e-3)
        assert (numbers > 0).sum() == 216
    pair = (np.zeros_like(before), np.full_like(after, 0.5))
    (both,), _ = changes_of(before, after, difference=difference, probabilities=pair)
    assert both.confidence == pytest.approx((0.25 + 0.5) / 2, rel=1e-3)


def test_real_lesions_on_a_turned_grid_are_stable(data_dir):
    mask = read_volume(data_dir / "ms_lesion_masks" / "patient03.nii.gz").data > 0
    mask = np.pad(mask[box_of(mask)], 8)
    turn = Rotation.from_euler("xyz", (4, -3, 6), degrees=True).as_matrix()
    middle = np.array(mask.shape) / 2
    start = middle - turn @ np.add(middle, (1.3, -2.6, 0.4))
    copied = affine_transform(mask, turn, start, order=0)
    back = affine_transform(
        copied.astype(np.float32), turn.T, -turn.T @ start, order=1, output_shape=mask.shape
    )
    assert copied.sum() == pytest.approx(mask.sum(), rel=0.05)
    changes, _ = changes_of(mask.astype(np.float32), back.clip(0, 1))
    assert len(changes) > 10
    assert {c.kind for c in changes} == {"stable"}
    load = sum(c.followup_mm3 for c in changes)
    assert load == pytest.approx(float(copied.sum()), rel=0.002)


def test_a_lesion_that_may_lie_between_slices_is_new_with_little_confidence():
    before, after = empty((30, 30, 12))
    box(after, (5, 5, 5), (3, 3, 1))
    affine = np.diag([0.8, 0.8, 4.0, 1.0])
    (thick,), _ = changes_of(before, after, affine, (2.56, 2.56))
    assert (thick.kind, thick.confidence < 0.3) == ("new", True)
    after[:] = 0
    box(after, (5, 5, 5), (12, 12, 3))
    (large,), _ = changes_of(before, after, affine, (2.56, 2.56))
    assert (large.kind, large.confidence > 0.9) == ("new", True)


def test_images_have_no_say_outside_what_they_compare():
    before, after = grown()
    whole = images(before, before)
    outside = np.zeros(before.shape, bool)
    outside[..., 11:] = True  # as where the brain ends
    cut = replace(
        whole,
        baseline=whole.baseline.with_data(np.where(outside, 0, whole.baseline.data)),
        followup=whole.followup.with_data(np.where(outside, 0, whole.followup.data)),
    )
    (contradicted,), _ = changes_of(before, after, difference=whole)
    (unseen,), _ = changes_of(before, after, difference=cut)
    assert kinds([contradicted, unseen]) == ["stable", "enlarged"]
    assert unseen.evidence == "masks"


def test_the_contrast_is_that_of_what_was_compared():
    before, after = grown()
    for mask in (before, after):
        box(mask, (19, 3, 3), (10, 20, 20))  # outside the brain
    whole = images(before, after)
    brain = np.zeros(before.shape, bool)
    brain[:15] = True
    cut = replace(
        whole,
        baseline=whole.baseline.with_data(np.where(brain, whole.baseline.data + 0.01, 0)),
        followup=whole.followup.with_data(np.where(brain, whole.followup.data + 0.01, 0)),
    )
    changes, _ = changes_of(before, after, difference=cut)
    assert [c.kind for c in changes] == ["enlarged", "stable"]
    assert changes[0].evidence == "both"


def test_rates_that_would_leave_less_than_nothing_are_not_told():
    before, after = empty()
    box(before, (3, 3, 3), (6, 6, 6))
    box(after, (3, 3, 3), (6, 6, 2))
    (change,), _ = changes_of(before, after, days=100.0)
    assert (change.kind, change.percent_per_year) == ("shrunk", None)
    (change,), _ = changes_of(before, after, days=730.5)
    assert change.percent_per_year == pytest.approx(-100 / 3)
