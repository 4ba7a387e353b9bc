"""Slices of a follow-up: where each change is shown, how, and what the overview takes."""

from dataclasses import replace

import numpy as np
import pytest

from segjax.grid import reorient
from segjax.report.followup_slices import (
    PANELS,
    change_cuts,
    chequers,
    draw_change,
    draw_chequer,
    draw_tile,
    frame_shape,
    mosaic,
    scene_of,
    slice_name,
)
from segjax.report.followup_texts import followup_language
from segjax.report.style import new_figure
from segjax.volume import Volume
from tests.followed_up import AFFINE, SHAPE, change, follow_up_of, followed, with_comparison

ENGLISH = followup_language("en")


def scene(**options):
    given = followed(**options)
    return scene_of(given, given.comparisons[0])


def axes():
    figure = new_figure((2.0, 2.0))
    figure.set_layout_engine("none")
    return figure.add_axes((0, 0, 1, 1))


def shown(axes):
    """Return the grey values of what was drawn, after the window."""
    image = axes.images[0]
    return image.norm(np.asarray(image.get_array())).data


def outlines(axes):
    """Return number of edges, colour and style of each outline."""
    return [
        (len(each.get_segments()), tuple(each.get_color()[0]), each.get_linestyle()[0][1])
        for each in axes.collections
    ]


def test_a_change_is_shown_on_the_slice_that_changed_most():
    there = scene(kinds=("enlarged",))
    # slices 8 and 9 grew by 8 voxels, slice 10 has 24 that are new
    (cut,) = change_cuts(there, there.changes)
    assert cut.place == (2, 10)


def test_what_is_shown_is_a_square_around_the_change_within_the_slice():
    there = scene(kinds=("new",))
    (cut,) = change_cuts(there, there.changes)
    shape, aspect = frame_shape(there, cut.place, cut.box)
    assert shape == (28, 28)  # 56 mm of pixels of 2 mm
    assert aspect == 1
    rows, columns = cut.box
    # of 40 × 48 voxels, seen from the feet with the front on top, 26:32 and 10:14 are
    # columns 8:14 and rows 34:38
    assert columns.start <= 8
    assert columns.stop >= 14
    assert rows.start <= 34
    assert rows.stop >= 38


def test_the_square_of_a_large_lesion_is_larger():
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    masks[1][10:30, 10:40, 9:12] = 1
    grown = change(1, "new", 0, 1800, (20, 25, 10))
    given = follow_up_of(masks, masks[1].astype(np.int32), [grown])
    there = scene_of(given, given.comparisons[0])
    (cut,) = change_cuts(there, there.changes)
    assert frame_shape(there, cut.place, cut.box)[0] == (48, 40)  # all there is


def test_a_change_that_no_voxel_bears_is_shown_at_its_centre():
    given = followed(kinds=("new",))
    gone = replace(given.comparisons[0].numbers, data=np.zeros(SHAPE, np.int32))
    given = with_comparison(given, numbers=gone)
    there = scene_of(given, given.comparisons[0])
    (cut,) = change_cuts(there, there.changes)
    assert cut.place == (2, 9)


def test_panels_have_the_outlines_of_both_visits():
    there = scene(kinds=("enlarged",))
    (cut,) = change_cuts(there, there.changes)
    cut = cut._replace(place=cut.place._replace(number=9))
    found = {}
    for panel in PANELS:
        found[panel] = axes()
        draw_change(found[panel], there, cut, panel, ENGLISH)
    blue, yellow = (0.337, 0.706, 0.914), (0.941, 0.894, 0.259)
    assert [(n, style) for n, _, style in outlines(found["before"])] == [(16, None)]  # 4 × 4 pixels
    assert outlines(found["before"])[0][1][:3] == pytest.approx(blue, abs=0.01)
    for panel in ("after", "difference"):
        (before, _, dotted), (after, colour, solid) = outlines(found[panel])
        assert (before, after) == (16, 20)  # 4 × 4 and 6 × 4 pixels
        assert dotted is not None
        assert solid is None
        assert colour[:3] == pytest.approx(yellow, abs=0.01)


def test_the_difference_is_mid_grey_where_nothing_changed():
    there = scene(kinds=("new",))
    (cut,) = change_cuts(there, there.changes)
    drawn = axes()
    draw_change(drawn, there, cut, "difference", ENGLISH)
    grey = shown(drawn)
    rows, columns = cut.box
    inside = (slice(34 - rows.start, 38 - rows.start), slice(8 - columns.start, 14 - columns.start))
    assert grey[inside].mean() > 0.75
    grey[inside] = np.nan
    assert np.nanmean(grey) == pytest.approx(0.5, abs=0.02)


def test_both_visits_have_one_window_though_the_scanner_scales_otherwise():
    given = followed(kinds=("new",))
    first, second = given.visits
    brighter = replace(second, image=second.image.with_data(3 * second.image.data))
    given = replace(given, visits=(first, brighter))
    there = scene_of(given, given.comparisons[0])
    drawn = []
    for panel in ("before", "after"):
        drawn.append(axes())
        (cut,) = change_cuts(there, there.changes)
        draw_change(drawn[-1], there, cut, panel, ENGLISH)
    assert np.median(shown(drawn[0])) == pytest.approx(np.median(shown(drawn[1])), abs=0.05)


def test_images_that_cannot_be_compared_have_their_own_windows():
    given = followed(kinds=("new",))
    doubted = replace(given.comparisons[0].difference, reliable=False, reason="contrast")
    first, second = given.visits
    odd = replace(second, image=second.image.with_data(second.image.data**2))
    given = with_comparison(replace(given, visits=(first, odd)), difference=doubted)
    one, other = scene_of(given, given.comparisons[0]).windows
    assert other[1] == pytest.approx(second.image.data.max() ** 2, rel=0.5)
    assert one[1] < 300


def test_without_a_difference_gained_and_lost_voxels_are_filled():
    there = scene(kinds=("shrunk",), images=False)
    (cut,) = change_cuts(there, there.changes)
    drawn = axes()
    draw_change(drawn, there, cut, "difference", ENGLISH)
    fills = [np.asarray(image.get_array())[..., 3] > 0 for image in drawn.images[1:]]
    assert [int(fill.sum()) for fill in fills] == [0, 12]  # of 6 × 4 pixels, 3 × 4 remain
    assert np.ptp(shown(drawn)) == 0


def test_a_change_that_images_alone_show_has_its_own_outline():
    given = followed(kinds=("new",))
    (found,) = given.comparisons[0].changes
    bare = [replace(v, mask=v.mask.with_data(0 * v.mask.data)) for v in given.visits]
    given = with_comparison(
        replace(given, visits=tuple(bare)), changes=(replace(found, evidence="images"),)
    )
    there = scene_of(given, given.comparisons[0])
    (cut,) = change_cuts(there, there.changes)
    drawn = axes()
    draw_change(drawn, there, cut, "after", ENGLISH)
    assert [edges for edges, _, _ in outlines(drawn)] == [20]  # of 6 × 4 pixels


def test_outlines_are_those_of_the_changes_label():
    given = followed(kinds=("enlarged", "new"))
    found = [replace(c, value=2) for c in given.comparisons[0].changes]
    there = scene_of(with_comparison(given, changes=tuple(found)), given.comparisons[0])
    drawn = axes()
    draw_change(drawn, there, change_cuts(there, found)[0], "after", ENGLISH)
    assert outlines(drawn) == []


def test_the_overview_shows_every_change_once_on_few_slices():
    tiles = mosaic(scene())
    assert [tile.place.number for tile in tiles] == sorted(tile.place.number for tile in tiles)
    seen = {change.kind for tile in tiles for change in tile.changes}
    assert seen == {"new", "enlarged", "shrunk", "gone"}
    assert len(tiles) == 3  # slice 8, 9 or 10 has both the new and the enlarged one


def test_the_overview_has_no_more_slices_than_it_may():
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    numbers = np.zeros(SHAPE, np.int32)
    for n in range(12):
        masks[1][10, 10, 2 * n + 3] = 1
        numbers[10, 10, 2 * n + 3] = n + 1
    changes = [change(n + 1, "new", 0, 1, (10, 10, 2 * n + 3)) for n in range(12)]
    given = follow_up_of(masks, numbers, changes)
    there = scene_of(given, given.comparisons[0])
    assert len(mosaic(there)) == 9
    assert len(mosaic(there, 4)) == 4


@pytest.mark.parametrize("images", [True, False])
def test_without_a_change_the_overview_shows_three_slices(images):
    there = scene(kinds=(), images=images)
    numbers = [tile.place.number for tile in mosaic(there)]
    assert numbers == ([9, 15, 20] if images else [7, 14, 22])  # of 3 to 26; of 0 to 29
    assert not any(tile.changes for tile in mosaic(there))


def test_tiles_tell_number_and_sign_of_changes():
    there = scene()
    written = []
    for tile in mosaic(there):
        drawn = axes()
        draw_tile(drawn, there, tile, ENGLISH)
        written += [text.get_text() for text in drawn.texts]
    for text in ("1\u00a0+", "2\u00a0▲", "3\u00a0▼", "4\u00a0−", "R", "20\u00a0mm"):
        assert text in written


def test_numbers_of_neighbours_do_not_stand_on_each_other():
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    numbers = np.zeros(SHAPE, np.int32)
    for n in range(6):
        masks[1][18 + 2 * (n % 3), 20 + 2 * (n // 3), 10] = 1
        numbers[18 + 2 * (n % 3), 20 + 2 * (n // 3), 10] = n + 1
    changes = [change(n + 1, "new", 0, 1, (18, 20, 10)) for n in range(6)]
    given = follow_up_of(masks, numbers, changes)
    there = scene_of(given, given.comparisons[0])
    (tile,) = mosaic(there)
    drawn = axes()
    draw_tile(drawn, there, tile, ENGLISH)
    places = [text.get_position() for text in drawn.texts if "+" in text.get_text()]
    assert 2 <= len(places) <= 6
    assert len(set(places)) == len(places)


def test_squares_of_both_visits_alternate():
    given = followed(kinds=())
    first, second = given.visits
    whole = np.ones(SHAPE, np.float32)
    given = replace(
        given,
        visits=(
            replace(first, image=first.image.with_data(0 * whole)),
            replace(second, image=second.image.with_data(whole)),
        ),
    )
    there = replace(scene_of(given, given.comparisons[0]), windows=((0.0, 1.0), (0.0, 1.0)))
    for place, box in chequers(there):
        drawn = axes()
        draw_chequer(drawn, there, place, box, ENGLISH)
        grey = shown(drawn)
        assert set(np.unique(grey)) == {0.0, 1.0}
        assert 0.3 < grey.mean() < 0.7


def test_slices_through_the_brain_are_chosen_along_each_axis():
    there = scene(kinds=())
    places = [place for place, _ in chequers(there)]
    assert places == [(2, 15), (1, 24), (0, 20)]  # of 3:27, 4:44 and 4:36
    assert slice_name(there, places[2], ENGLISH) == "Sagittal slice 21 of 40"


def test_without_images_nothing_is_chequered():
    there = scene(kinds=(), images=False)
    drawn = axes()
    draw_chequer(drawn, there, *chequers(there)[0], ENGLISH)
    assert not drawn.images


def test_the_way_the_grid_is_stored_does_not_matter():
    given = followed()
    stored = turned(given, "LPI")
    one, other = (scene_of(each, each.comparisons[0]) for each in (given, stored))
    for mine, theirs in zip(
        change_cuts(one, one.changes), change_cuts(other, other.changes), strict=True
    ):
        assert mine.place == theirs.place
        assert mine.box == theirs.box
    assert np.array_equal(one.numbers, other.numbers)
    assert np.array_equal(one.images[1], other.images[1])
    # names tell the slice as it is stored, there from the head on
    assert slice_name(other, chequers(other)[0][0], ENGLISH) == "Axial slice 15 of 30"


def turned(given, orientation):
    """Return a follow-up whose half-way grid is stored in another order."""

    def turn(volume):
        return None if volume is None else reorient(volume, orientation)

    pair = given.comparisons[0]
    difference = replace(
        pair.difference,
        **{
            name: turn(getattr(pair.difference, name))
            for name in ("baseline", "followup", "difference", "changed", "confidence")
        },
    )
    visits = tuple(replace(v, image=turn(v.image), mask=turn(v.mask)) for v in given.visits)
    given = replace(given, visits=visits, brain=turn(given.brain))
    return with_comparison(given, difference=difference, numbers=turn(pair.numbers))


def test_values_that_are_no_numbers_are_black():
    given = followed(kinds=("new",))
    first, second = given.visits
    holes = second.image.data.copy()
    holes[0] = np.nan
    given = replace(given, visits=(first, replace(second, image=Volume(holes, AFFINE))))
    assert np.isfinite(scene_of(given, given.comparisons[0]).images[1]).all()
