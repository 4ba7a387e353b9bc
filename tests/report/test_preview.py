"""Pictures of augmentation: what is shown where."""

import numpy as np
import pytest

from segjax.data.augment import Flip, Noise, ScaleIntensity
from segjax.errors import InputError
from segjax.registry import registry
from segjax.report.preview import draw_preview, preview_transforms
from segjax.report.style import picture
from segjax.studies import study
from segjax.volume import Volume


def shown(figure, columns):
    """Return the images of a figure: row, column, then the pixels."""
    images = [axes.images[0].get_array() for axes in figure.axes]
    return [images[start : start + columns + 1] for start in range(0, len(images), columns + 1)]


def outlined(axes):
    """Return the pixels around which lines run: lowest and highest of both directions."""
    points = np.concatenate([line for c in axes.collections for line in c.get_segments()])
    return points.min(axis=0).tolist(), points.max(axis=0).tolist()


def slice_of(shape=(12, 10)):
    return Volume(np.random.default_rng(0).random(shape).astype(np.float32), np.eye(3))


def test_rows_show_the_original_then_draws_of_each_transform_then_all():
    image = slice_of()
    double = ScaleIntensity(factor=(2.0, 2.0), probability=0.0)
    both = [double, Flip(axes=(1,), probability=0.0)]
    figure = draw_preview(image, None, both, columns=3).figure
    scaled, flipped, together = shown(figure, 3)
    for row in (scaled, flipped, together):
        np.testing.assert_array_equal(row[0], image.data)
        assert len(row) == 4
    for draw in range(1, 4):
        np.testing.assert_allclose(scaled[draw], 2 * image.data, rtol=1e-6)
        np.testing.assert_array_equal(flipped[draw], image.data[:, ::-1])
        np.testing.assert_array_equal(together[draw], image.data)  # by their own probability
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["scale-intensity", "flip", "all"]
    assert [axes.get_title() for axes in figure.axes[:4]] == [
        "original",
        "draw 1",
        "draw 2",
        "draw 3",
    ]


def test_volumes_show_the_axial_slice_with_most_label_as_radiologists_see_it():
    data = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    label = np.zeros(data.shape, np.uint8)
    label[1:3, 1, 2] = 1
    label[5, 4, 0] = 1
    affine = np.diag([1.0, 2.0, 3.0, 1.0])  # RAS
    drawn = draw_preview(Volume(data, affine), Volume(label, affine), [Flip()], columns=1)
    figure = drawn.figure
    np.testing.assert_array_equal(shown(figure, 1)[0][0], data[::-1, ::-1, 2].T)
    # right is left: voxels 1 and 2 of 6 become columns 4 and 3; voxel 1 of 5 becomes row 3
    assert outlined(figure.axes[0]) == ([2.5, 2.5], [4.5, 3.5])
    assert outlined(figure.axes[1]) == ([0.5, 2.5], [2.5, 3.5])  # flipped
    assert figure.axes[0].get_aspect() == 2.0


def test_what_is_drawn_is_told():
    data = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    label = np.zeros(data.shape, np.uint8)
    label[1:3, 1, 2] = 1
    label[5, 4, 0] = 2
    affine = np.diag([5.0, 10.0, 10.0, 1.0])  # a voxel is half a millilitre
    chain = [ScaleIntensity(factor=(2.0, 2.0), shift=(0.0, 0.0)), Flip(axes=(0,), probability=0.0)]
    drawn = draw_preview(Volume(data, affine), Volume(label, affine), chain, columns=2)
    assert drawn.facts["slice"] == "axial slice 3 of 4"
    assert drawn.facts["label 1"] == "1.000 ml, 2 pixels in the slice"
    assert drawn.facts["label 2"] == "0.500 ml, 0 pixels in the slice"
    low, high = drawn.figure.axes[0].images[0].get_clim()
    told = f"black {low:.4g}, white {high:.4g} (image: {data.min():.4g} to {data.max():.4g})"
    assert drawn.facts["grey values"] == told
    assert [draw[:2] for draw in drawn.draws] == [
        (row, draw) for row in ("scale-intensity", "flip", "all") for draw in "12"
    ]
    assert drawn.draws[0][2] == "factor 2, shift 0"
    assert drawn.draws[2][2] == "flipped yes"
    assert {draw[2] for draw in drawn.draws[4:]} <= {
        "scale-intensity: factor 2, shift 0", "nothing",
    }  # fmt: skip


def test_parameters_of_every_transform_can_be_told():
    drawn = draw_preview(slice_of((24, 20)), None, preview_transforms(), columns=1)
    assert [draw[0] for draw in drawn.draws] == [*registry("transform").names(), "all"]
    assert all(0 < len(draw[2]) < 200 for draw in drawn.draws[:-1])
    elastic = next(draw[2] for draw in drawn.draws if draw[0] == "elastic")
    assert elastic.startswith("control_points 2×")


def test_bright_lesions_are_not_all_white():
    data = np.zeros((40, 40), np.float32)
    data[2:38, 2:38] = np.random.default_rng(0).uniform(0.5, 0.6, (36, 36))
    label = np.zeros(data.shape, np.uint8)
    data[10:12, 10:12] = 1.0
    label[10:12, 10:12] = 1
    drawn = draw_preview(Volume(data, np.eye(3)), Volume(label, np.eye(3)), [Flip()], columns=1)
    assert drawn.figure.axes[0].images[0].get_clim()[1] == 1.0


def test_volumes_in_any_orientation_show_the_same_slice():
    data = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    turned = Volume(data[::-1].transpose(2, 0, 1), np.eye(4)[:, [2, 0, 1, 3]] * [1, -1, 1, 1])
    one, other = (
        shown(draw_preview(volume, None, [Flip()], columns=1).figure, 1)[0][0]
        for volume in (Volume(data, np.eye(4)), turned)
    )
    np.testing.assert_array_equal(one, other)


def test_draws_repeat_by_seed_and_differ_between_columns():
    noise = [Noise(std=(0.1, 0.5))]
    one, same, other = (
        shown(draw_preview(slice_of(), None, noise, seed=seed, columns=2).figure, 2)[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one[1], same[1])
    assert not np.array_equal(one[1], one[2])
    assert not np.array_equal(one[1], other[1])


def test_constant_images_can_be_drawn(tmp_path):
    flat = slice_of().with_data(np.zeros((12, 10)))
    with picture(tmp_path / "flat.png") as save:
        save(draw_preview(flat, None, study("meningioma-2d").augmentation(), columns=1).figure)
    assert (tmp_path / "flat.png").stat().st_size > 1000


def test_transforms_are_those_of_a_recipe_or_all():
    assert preview_transforms("ms-7t") == study("ms-7t").augmentation()
    names = tuple(transform.name for transform in preview_transforms())
    assert names == registry("transform").names()


@pytest.mark.parametrize("options", [{"transforms": []}, {"columns": 0}])
def test_empty_previews_are_refused(options):
    with pytest.raises(InputError, match="one transform and one column"):
        draw_preview(slice_of(), None, **{"transforms": [Flip()], **options})


def test_negative_seeds_are_refused():
    with pytest.raises(InputError, match="seed -1: give a whole number, 0 or more"):
        draw_preview(slice_of(), None, [Flip()], seed=-1)


def test_labels_of_another_grid_are_refused():
    with pytest.raises(InputError, match="label"):
        draw_preview(slice_of(), Volume(np.zeros((3, 3), int), np.eye(3)), [Flip()])
