"""What a training saw, and what is far from it."""

import numpy as np
import pytest

from segjax.data.seen import Seen, Sight, intensity_spans, native_spacing, seen_in, together
from segjax.errors import InputError
from segjax.grid import Grid

ISO = Grid((64, 64, 64), np.eye(4))


def grid(*spacing, shape=(30, 30, 30)):
    return Grid(shape, np.diag([*spacing, 1.0]))


def doubts(sight, *given, axes=3):
    return seen_in([Sight(one, ISO, ((-1.0, 3.0),)) for one in given or (ISO,)]).doubts(
        sight, axes=axes
    )


def test_images_like_those_of_the_training_raise_no_doubt():
    assert doubts(Sight(ISO, ISO, ((-1.1, 3.2),))) == []


@pytest.mark.parametrize("spacing", [(0.43, 0.43, 6.5), (1, 1, 1.6), (0.6, 1, 1)])
def test_voxels_over_one_and_a_half_times_off_are_doubted(spacing):
    (doubt,) = doubts(Sight(grid(*spacing), ISO, ((-1.0, 3.0),)))
    assert doubt == (
        f"its voxels of {' × '.join(f'{s:g}' for s in spacing)} mm are far from 1 × 1 × 1 mm of "
        "the training"
    )


def test_voxels_within_one_and_a_half_times_are_not():
    assert doubts(Sight(grid(1, 1.45, 0.7), ISO, ((-1.0, 3.0),))) == []


def test_what_the_training_was_given_is_near_too():
    given = (ISO, grid(0.5, 0.5, 3))
    assert doubts(Sight(grid(0.5, 0.5, 4), ISO, ((-1.0, 3.0),)), *given) == []
    assert doubts(Sight(grid(0.5, 0.5, 5), ISO, ((-1.0, 3.0),)), *given)


def test_a_pipeline_that_does_not_resample_leaves_the_doubt():
    thick = grid(1, 1, 3)
    assert doubts(Sight(thick, thick, ((-1.0, 3.0),)))


def test_axes_that_the_network_does_not_see_along_do_not_count():
    slices = grid(1, 1, 6.5)
    assert doubts(Sight(slices, ISO, ((-1.0, 3.0),)), axes=2) == []
    one_slice = grid(1, 1, 6.5, shape=(64, 64, 1))
    assert doubts(Sight(one_slice, one_slice, ((-1.0, 3.0),))) == []


@pytest.mark.parametrize("span", [(-1.0, 9.0), (100.0, 104.0), (0.0, 2.0)])
def test_intensities_far_from_those_of_the_training_are_doubted(span):
    (doubt,) = doubts(Sight(ISO, ISO, (span,)))
    assert "are far from -1 to 3 of the training" in doubt


def test_channels_are_told_apart():
    seen = seen_in([Sight(ISO, ISO, ((0.0, 1.0), (0.0, 1.0)))])
    (doubt,) = seen.doubts(Sight(ISO, ISO, ((0.0, 1.0), (0.0, 2.0))))
    assert doubt.startswith("its intensities of channel 1 after preprocessing, 0 to 2,")


def test_pictures_have_no_spacing_to_doubt():
    picture = Grid((64, 64), np.eye(3))
    seen = seen_in([Sight(picture, picture, ((0.0, 1.0),))])
    assert (seen.spacing, seen.orientation) == ((), "")
    assert seen.doubts(Sight(picture, picture, ((0.0, 1.0),)), axes=2) == []
    assert seen.doubts(Sight(grid(1, 1, 9), grid(1, 1, 9), ((0.0, 1.0),)), axes=2) == []


def test_the_native_spacing_follows_the_sides_of_the_patient():
    coronal = Grid((60, 9, 70), np.diag([1.0, 6.0, 2.0, 1.0]))
    assert native_spacing(coronal, "SAL") == ((2.0, 6.0, 1.0), (70, 9, 60))


def test_spans_are_percentiles_of_each_channel():
    ramp = np.stack([np.arange(201.0), np.zeros(201)], axis=-1)
    assert intensity_spans(ramp) == ((1.0, 199.0), (0.0, 0.0))


def test_what_was_seen_survives_json():
    seen = seen_in([Sight(grid(1, 2, 3), grid(1, 2, 3), ((0.0, 1.0),))])
    assert Seen.from_json(seen.to_json()) == seen
    with pytest.raises(InputError, match=r"field finest, coarsest, .* missing"):
        Seen.from_json({"spacing": [1, 1, 1]})


def test_several_networks_have_seen_all_that_each_has():
    one = seen_in([Sight(grid(1, 1, 1), ISO, ((0.0, 1.0),))])
    two = seen_in([Sight(grid(1, 1, 3), ISO, ((-1.0, 0.5),))])
    both = together([one, two])
    assert (both.finest, both.coarsest) == ((1, 1, 1), (1, 1, 3))
    assert (both.spans, both.widths) == (((-1.0, 1.0),), (1.0,))
    assert together([one, None]) is None
    picture = Grid((64, 64), np.eye(3))
    assert together([one, seen_in([Sight(picture, picture, ((0.0, 1.0),))])]) is None
