"""Visits of one patient on one grid, and what changed from each to the next."""

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.io.formats import read_image
from segjax.data.phantom.dataset import phantom
from segjax.errors import InputError
from segjax.evaluate import followup as module
from segjax.evaluate.difference import ImageDifference
from segjax.evaluate.followup import Visit, follow_up
from segjax.evaluate.registration import unregistered
from segjax.grid import grid
from segjax.volume import Volume

SHAPE = (20, 22, 18)
DAY = datetime.date(2024, 1, 31)


def ball(centre, radius, shape=SHAPE):
    place = np.moveaxis(np.indices(shape), 0, -1) - centre
    return np.linalg.norm(place, axis=-1) <= radius


def mask(*balls, value=1, shape=SHAPE, affine=None):
    data = np.zeros(shape, np.uint8)
    for centre, radius in balls:
        data[ball(centre, radius, shape)] = value
    return Volume(data, np.eye(4) if affine is None else affine)


def masks(*volumes, **known):
    return [Visit(f"v{n}", mask=volume, **known) for n, volume in enumerate(volumes, 1)]


OLD = ((5, 5, 5), 2.5)
GROWN = ((5, 5, 5), 4.2)
NEW = ((14, 15, 12), 2.5)


@pytest.fixture
def quiet(monkeypatch):
    """Let images have no brain unless one is given, so that no extraction runs."""

    def fail(image):
        raise InputError("no brain was found")

    monkeypatch.setattr(module, "extract_brain", fail)


# -- masks alone --------------------------------------------------------------------------------


def test_a_new_lesion_and_a_grown_one_are_found_and_loads_are_counted():
    found = follow_up(masks(mask(OLD), mask(GROWN, NEW)), subject="07")
    (pair,) = found.comparisons
    kinds = {change.kind: change for change in pair.changes}
    assert set(kinds) == {"enlarged", "new"}
    assert (pair.activity.new, pair.activity.enlarged) == (1, 1)
    assert kinds["new"].followup_mm3 == ball(*NEW).sum()
    loads = [visit.loads[0] for visit in found.visits]
    assert loads[0].size == pytest.approx(ball(*OLD).sum() / 1e3)
    assert loads[1].size == pytest.approx((ball(*GROWN) | ball(*NEW)).sum() / 1e3)
    assert found.subject == "07"
    assert found.labels == ("background", "lesion")
    assert found.registration.kind == "none"
    assert found.brain is None
    assert pair.difference is None
    assert pair.days is None


def test_numbers_on_the_map_are_those_of_the_changes():
    (pair,) = follow_up(masks(mask(OLD), mask(GROWN, NEW))).comparisons
    assert [change.number for change in pair.changes] == [1, 2]
    for change in pair.changes:
        i, j, k = (round(index) for index in change.centre_index)
        assert pair.numbers.data[i, j, k] == change.number
    assert set(np.unique(pair.numbers.data)) == {0, 1, 2}
    assert pair.numbers.data.dtype == np.int32


def test_labels_are_compared_apart_and_numbered_together():
    before = mask(OLD)
    after = before.with_data(before.data + mask(NEW, value=2).data)
    found = follow_up(masks(before, after), labels=["background", "a", "b"])
    (pair,) = found.comparisons
    assert [(change.label, change.value, change.kind) for change in pair.changes] == [
        ("b", 2, "new"),
        ("a", 1, "stable"),
    ]
    assert [change.number for change in pair.changes] == [1, 2]
    assert pair.numbers.data[5, 5, 5] == 2
    assert [load.label for load in found.visits[1].loads] == ["a", "b"]


def test_labels_without_names_are_the_values_that_are_held():
    assert follow_up(masks(mask(), mask(NEW, value=2))).labels == ("background", "1", "2")
    assert follow_up(masks(mask(), mask())).labels == ("background", "lesion")


def test_empty_masks_are_loads_of_nothing():
    found = follow_up(masks(mask(), mask()))
    assert found.comparisons[0].changes == ()
    assert [visit.loads[0].size for visit in found.visits] == [0, 0]


def test_three_visits_are_compared_each_with_the_next_on_one_grid():
    dates = [DAY, DAY + datetime.timedelta(90), None]
    visits = [
        Visit(str(n), mask=one, date=date)
        for n, (one, date) in enumerate(
            zip((mask(OLD), mask(OLD, NEW), mask(OLD, NEW)), dates, strict=True)
        )
    ]
    found = follow_up(visits)
    assert [(pair.first, pair.second) for pair in found.comparisons] == [(0, 1), (1, 2)]
    assert [pair.days for pair in found.comparisons] == [90, None]
    assert [pair.activity.new for pair in found.comparisons] == [1, 0]
    assert [visit.date for visit in found.visits] == dates


def test_two_scans_of_one_day_have_no_rate():
    visits = [Visit("a", mask=mask(OLD), date=DAY), Visit("b", mask=mask(GROWN), date=DAY)]
    (pair,) = follow_up(visits).comparisons
    assert pair.days == 0
    assert pair.changes[0].percent_per_year is None


def test_masks_of_other_grids_meet_on_a_common_one():
    thick = np.diag([1, 1, 3, 1.0])
    fine = np.zeros((20, 20, 20), np.uint8)
    fine[4:10, 4:10, 6:12] = 1
    coarse = np.zeros((20, 20, 7), np.uint8)
    coarse[4:10, 4:10, 2:4] = 1
    moved = thick.copy()
    moved[2, 3] = 1  # slice 2 covers 6 to 8 mm
    found = follow_up(masks(Volume(fine, np.eye(4)), Volume(coarse, moved)))
    assert found.registration.grid.spacing == pytest.approx((1, 1, 1))
    (change,) = found.comparisons[0].changes
    assert change.kind == "stable"
    assert {visit.mask.spatial_shape for visit in found.visits} == {found.registration.grid.shape}
    assert [visit.loads[0].size for visit in found.visits] == pytest.approx([0.216, 0.216])


def test_lesions_out_of_the_others_sight_are_no_change_and_told_of():
    cut = mask(OLD)
    cut = Volume(cut.data[:, :, :9], cut.affine)
    with pytest.warns(UserWarning, match=r"v1: 0\.0\d ml of lesion lie out of the other visit's"):
        found = follow_up(masks(mask(OLD, NEW), cut))
    assert [change.kind for change in found.comparisons[0].changes] == ["stable"]
    assert found.visits[0].loads[0].size == pytest.approx(mask(OLD, NEW).data.sum() / 1e3)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_swapped_visits_mirror_every_kind(seed):
    rng = np.random.default_rng(seed)
    both = [mask(*((rng.uniform(4, 14, 3), rng.uniform(1, 3)) for _ in range(3))) for _ in range(2)]
    there, back = (follow_up(masks(*pair)).comparisons[0] for pair in (both, both[::-1]))
    mirror = {"new": "gone", "enlarged": "shrunk", "shrunk": "enlarged", "gone": "new"}
    kinds = sorted(mirror.get(change.kind, change.kind) for change in there.changes)
    assert kinds == sorted(change.kind for change in back.changes)
    total = sum(change.change_mm3 for change in there.changes)
    assert total == pytest.approx(-sum(change.change_mm3 for change in back.changes), abs=1e-3)
    assert total == pytest.approx(float(both[1].data.sum()) - float(both[0].data.sum()), abs=1e-2)


def test_many_small_changes_the_same_way_are_told(recwarn):
    data = np.zeros((60, 12, 12), np.uint8)
    for n in range(2, 58, 8):
        data[n : n + 3, 3:6, 3:6] = 1
    less = data.copy()
    less[:, :, 5] = 0  # 27 -> 18 voxels of each
    both = Volume(data, np.eye(4)), Volume(less, np.eye(4))
    found = follow_up(masks(*both))
    assert {change.kind for change in found.comparisons[0].changes} == {"stable"}
    assert str(recwarn.pop().message) == (
        "v1 → v2: masks of lesion changed by -0.063 ml in 7 lesions told as stable, each within "
        "its tolerance: were these masks made in one way?"
    )
    follow_up(masks(both[0], both[0]))
    assert not recwarn


# -- images -------------------------------------------------------------------------------------


def scan(lesions, *, level=100.0, noise=0, affine=None):
    data = level + 50.0 * lesions.data + noise * np.random.default_rng(1).normal(size=SHAPE)
    return Volume(data.astype(np.float32), np.eye(4) if affine is None else affine)


def whole(volume):
    return volume.with_data(np.ones(volume.spatial_shape, np.uint8))


@pytest.fixture
def compared(monkeypatch):
    """Compare images by a threshold, and remember what was compared."""
    asked = []

    def compare(baseline, followup, brain):
        asked.append((baseline, followup, brain))
        difference = (followup.data - baseline.data) / 10
        changed = np.where(np.abs(difference) > 2.5, np.sign(difference), 0).astype(np.int8)
        sure = (changed != 0).astype(np.float32)
        parts = (
            baseline,
            followup,
            *(Volume(d, brain.affine) for d in (difference, changed, sure)),
        )
        return ImageDifference(*parts, True, "")

    monkeypatch.setattr(module, "compare_images", compare)
    return asked


def test_first_channels_of_images_are_compared_within_the_brain_of_both(compared):
    images = [scan(mask(OLD)), scan(mask(OLD, NEW))]
    two = images[0].with_data(np.stack([images[0].data, 0 * images[0].data], axis=-1))
    other = images[1].with_data(np.stack([images[1].data, images[1].data], axis=-1))
    brains = [whole(images[0]), whole(images[1])]
    brains[1].data[:, :, :3] = 0
    visits = [
        Visit("a", two, mask(OLD), brain=brains[0]),
        Visit("b", other, mask(OLD, NEW), brain=brains[1]),
    ]
    found = follow_up(visits, registration="none")
    ((first, _, brain),) = compared
    assert (first.data == images[0].data).all()
    assert (brain.data == brains[1].data).all()
    assert (found.brain.data == brains[1].data).all()
    assert found.comparisons[0].difference.reliable
    kinds = {change.kind: change.evidence for change in found.comparisons[0].changes}
    assert set(kinds) == {"new", "stable"}
    assert kinds["new"] == "both"
    assert (found.visits[1].image.data == images[1].data).all()


def test_images_alone_show_changes_without_loads(compared):
    images = scan(mask(OLD)), scan(mask(OLD, NEW))
    visits = [Visit(str(n), one, brain=whole(one)) for n, one in enumerate(images)]
    found = follow_up(visits, registration="none")
    assert [visit.loads for visit in found.visits] == [(), ()]
    assert [visit.mask for visit in found.visits] == [None, None]
    changes = found.comparisons[0].changes
    assert [(one.kind, one.evidence) for one in changes] == [("new", "images")]


def test_changes_of_masks_that_images_contradict_are_warned_of_and_can_be_trusted(compared):
    images = scan(mask(OLD)), scan(mask(OLD))
    visits = [
        Visit(name, image, lesions, brain=whole(image))
        for name, image, lesions in zip("ab", images, (mask(OLD), mask(OLD, NEW)), strict=True)
    ]
    with pytest.warns(
        UserWarning,
        match=r"a → b: masks of lesion changed by \+0\.081 ml in 1 lesion told as stable, "
        r"which images do not show: .*--no-intensities",
    ):
        found = follow_up(visits, registration="none")
    changes = found.comparisons[0].changes
    assert [one.kind for one in changes] == ["stable", "stable"]
    assert [one.contradicted for one in changes] == [True, False]
    trusted = follow_up(visits, registration="none", intensities=False).comparisons[0].changes
    assert [one.kind for one in trusted] == ["new", "stable"]


def test_a_change_in_the_images_counts_for_one_label_alone(compared):
    images = scan(mask()), scan(mask(OLD, NEW))
    before, after = mask(), mask(NEW, value=2)
    visits = [
        Visit("a", images[0], before, brain=whole(before)),
        Visit("b", images[1], after, brain=whole(after)),
    ]
    found = follow_up(visits, labels=["background", "one", "two"], registration="none")
    changes = {change.label: change for change in found.comparisons[0].changes}
    assert len(found.comparisons[0].changes) == 2
    assert (changes["two"].kind, changes["two"].evidence) == ("new", "both")
    assert (changes["one"].kind, changes["one"].evidence) == ("new", "images")


def test_images_are_not_compared_where_that_is_not_wanted_or_a_brain_lacks(compared, quiet):
    image = scan(mask(OLD))
    with_brain = Visit("a", image, mask(OLD), brain=whole(image))
    follow_up([with_brain, with_brain], registration="none", intensities=False)
    with pytest.warns(UserWarning, match="b: goes without a brain: no brain was found"):
        found = follow_up([with_brain, Visit("b", image, mask(OLD))], registration="none")
    assert compared == []
    assert found.comparisons[0].difference is None
    assert found.brain is None


def test_what_is_no_brain_by_its_size_is_none(monkeypatch, compared):
    image = scan(mask(OLD))
    monkeypatch.setattr(module, "extract_brain", whole)
    with pytest.warns(UserWarning, match="a: goes without a brain: what was found takes 8 ml"):
        follow_up([Visit(name, image) for name in "ab"], registration="none")
    assert compared == []
    large = np.diag([5, 5, 5, 1.0])
    images = [Visit(name, Volume(image.data, large)) for name in "ab"]
    assert follow_up(images, registration="none").brain.data.all()
    assert len(compared) == 1


def test_images_are_registered_by_their_first_channels_and_brains(monkeypatch, compared):
    image, asked = scan(mask(OLD)), []

    def register(images, *, brains, kind, names):
        asked.append((images, brains, kind))
        assert names == ["a", "b"]
        return unregistered([grid(one) for one in images])

    monkeypatch.setattr(module, "register_visits", register)
    brain = whole(image)
    follow_up([Visit(n, image, brain=brain) for n in "ab"], registration="affine")
    ((images, brains, kind),) = asked
    assert kind == "affine"
    assert brains == [brain, brain]
    assert (images[0].data == image.data).all()


def test_a_registration_that_was_found_before_is_taken(compared):
    image = scan(mask(OLD, NEW))
    shift = np.eye(4)
    shift[0, 3] = 2
    moved = Volume(image.data, shift)
    before = unregistered([grid(image), grid(image)])
    placing = type(before)((np.eye(4), shift), before.grid, "rigid", ())
    visits = [Visit("a", image, brain=whole(image)), Visit("b", moved, brain=whole(moved))]
    found = follow_up(visits, registration=placing)
    assert found.registration is placing
    assert (found.visits[1].image.data == image.data).all()
    assert found.comparisons[0].changes == ()
    with pytest.raises(InputError, match="the registration is of 2 visits, but 3 are given"):
        follow_up([*visits, visits[1]], registration=placing)


def test_probabilities_come_along(compared):
    image, lesions = scan(mask(OLD)), mask(OLD)
    maps = np.stack([1 - 0.8 * lesions.data, 0.8 * lesions.data], axis=-1).astype(np.float32)
    known = {"probabilities": image.with_data(maps), "brain": whole(image)}
    visits = [Visit(n, image, lesions, **known) for n in "ab"]
    found = follow_up(visits, registration="none")
    assert found.visits[0].probabilities.data[5, 5, 5] == pytest.approx([0.2, 0.8])
    with pytest.raises(InputError, match="a: 2 probabilities a voxel, but the labels are back"):
        follow_up(visits, labels=["background", "one", "two"], registration="none")


# -- what does not go together ------------------------------------------------------------------


def volume(data, affine=None):
    return Volume(np.asarray(data), np.eye(4) if affine is None else affine)


GOOD = Visit("good", mask=mask(OLD))


@pytest.mark.parametrize(
    ("visits", "said"),
    [
        ([GOOD], "^1 visit: give two or more"),
        ([GOOD, Visit("b")], "b: has neither image nor mask"),
        ([GOOD, Visit("b", scan(mask()))], "good: has no image, but other visits have"),
        (
            [Visit("a", scan(mask()), mask()), Visit("b", scan(mask()))],
            "b: has no mask, but other visits have; give it to all",
        ),
        (
            [GOOD, Visit("flat", mask=Volume(np.zeros((9, 9), np.uint8), np.eye(3)))],
            r"flat: the mask is a picture or one slice, of shape \(9, 9\)",
        ),
        (
            [GOOD, Visit("flat", mask=volume(np.zeros((9, 9, 1), np.uint8)))],
            "flat: the mask is a picture or one slice",
        ),
        (
            [GOOD, Visit("b", scan(mask()), mask(affine=np.diag([2, 2, 2, 1.0])))],
            "b: the mask: lies elsewhere than its image",
        ),
        ([GOOD, Visit("b", mask=volume(np.full(SHAPE, 0.5)))], "b: the mask holds other values"),
        ([GOOD, Visit("b", mask=volume(np.full(SHAPE, 999)))], "other values than whole numbers"),
        ([GOOD, Visit("b", mask=volume(np.zeros((*SHAPE, 2))))], "b: the mask has 2 channels"),
        ([GOOD, Visit("b", mask=volume(np.full(SHAPE, np.nan)))], "b: the mask holds NaN"),
        (
            [
                Visit("a", scan(mask())),
                Visit("b", scan(mask()).with_data(np.zeros((*SHAPE, 3), np.float32))),
            ],
            "visits of different channels: a has 1 and b has 3",
        ),
        (
            [
                Visit("a", mask=mask(), date=DAY),
                Visit("b", mask=mask()),
                Visit("c", mask=mask(), date=datetime.date(2023, 1, 1)),
            ],
            "c: is older than a, which is given before it",
        ),
    ],
)
def test_visits_that_do_not_go_together_are_said(visits, said):
    with pytest.raises(InputError, match=said):
        follow_up(visits)


def test_values_without_a_name_are_said():
    with pytest.raises(InputError, match="v2: the mask holds the value 2, but the labels are"):
        follow_up(masks(mask(OLD), mask(OLD, value=2)), labels=["background", "lesion"])


# -- all of it ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_moved_head_with_a_new_lesion_is_followed_up_whole():
    head, lesions = phantom(3, shape=(48, 56, 48), spacing=3.5)
    place = np.moveaxis(np.indices(head.spatial_shape), 0, -1)
    new = np.linalg.norm(place - (17, 24, 29), axis=-1) < 1.8
    bright = 1.5 * np.median(head.data[head.data > 300])
    later = head.with_data(np.where(new, bright, head.data).astype(np.float32))
    both = lesions.with_data((lesions.data.astype(bool) | new).astype(np.uint8))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    turn[:3, 3] = 6, -4, 8
    turned = turn @ head.affine  # the same voxels elsewhere: the patient moved
    moved = [Volume(one.data, turned) for one in (later, both)]
    found = follow_up([Visit("before", head, lesions), Visit("after", *moved)])
    matrix = found.registration.matrices[1] @ np.linalg.inv(found.registration.matrices[0])
    corners = np.indices((2, 2, 2)).reshape(3, -1) * 100 - 50
    apart = (matrix - turn)[:3, :3] @ corners + (matrix - turn)[:3, 3:]
    assert np.linalg.norm(apart, axis=0).max() < 1.0
    (pair,) = found.comparisons
    assert pair.difference.reliable
    assert [change.kind for change in pair.changes if change.kind != "stable"] == ["new"]
    (change,) = (change for change in pair.changes if change.kind == "new")
    assert change.followup_mm3 == pytest.approx(new.sum() * 3.5**3, rel=0.1)
    assert change.evidence == "both"
    sizes = [visit.loads[0].size for visit in found.visits]
    assert sizes[1] - sizes[0] == pytest.approx(new.sum() * 3.5**3 / 1e3, rel=1e-6)


@pytest.mark.slow
def test_real_visits_whose_first_is_also_the_last_are_unchanged(data_dir):
    folder = data_dir / "ms_longitudinal" / "patient12"
    image = read_image(folder / "study1_FLAIR.nii.gz")
    found = follow_up([Visit("a", image), Visit("b", image)])
    assert found.comparisons[0].changes == ()
    assert found.registration.matrices[1] == pytest.approx(np.eye(4), abs=1e-3)
