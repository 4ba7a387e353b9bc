"""Pipelines: applied, inverted, written as JSON."""

import json
from dataclasses import dataclass
from typing import ClassVar

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as components
from scipy.spatial.transform import Rotation

from segjax.data.io.nifti import read_nifti, write_nifti
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.bias_field import N4, correct_bias_field
from segjax.data.prepare.intensity import robust_z_score, tissue_peak
from segjax.data.prepare.pipeline import Pipeline, read_pipeline
from segjax.data.prepare.steps import (
    BiasFieldCorrection,
    BrainExtraction,
    Clip,
    ClipPercentiles,
    CropOrPad,
    CropToForeground,
    HistogramStandardization,
    MinMax,
    Reorient,
    Resample,
    Rescale,
    Resize,
    RobustZScore,
    Step,
    TissuePeak,
    ZScore,
)
from segjax.errors import InputError
from segjax.grid import Grid, grid
from segjax.volume import Volume
from tests.peers import monai, torch, torchio

ALL = Pipeline(
    (
        Reorient("LPI"),
        Resample((1.5, 1.0, 2.0)),
        CropOrPad((9, 8, 7)),
        ClipPercentiles(1.0, 99.0),
        ZScore("nonzero"),
        MinMax(),
        Rescale(-1.0, 1.0),
    )
)


def affine_of(angles=(0, 0, 0), spacing=(1, 1, 1), flips=(1, 1, 1), shear=0.0):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + shear * np.eye(3, k=1)) * spacing * flips
    affine[:3, 3] = [-80, 12.5, 33]
    return affine


GEOMETRIES = {
    "axial": (affine_of(), (9, 10, 11)),
    "oblique": (affine_of((10, -25, 40)), (9, 10, 11)),
    "flipped": (affine_of(flips=(-1, 1, -1)), (9, 10, 11)),
    "sagittal": (affine_of((0, 90, 90), flips=(1, -1, 1)), (9, 10, 11)),
    "anisotropic": (affine_of((5, 0, 8), (1, 1, 4)), (12, 11, 5)),
    "sheared": (affine_of((10, -25, 40), (1, 1.5, 2), shear=0.3), (9, 10, 6)),
    "one slice": (affine_of((12, 3, 0), (1, 1, 6.5)), (12, 11, 1)),
    "one sagittal slice": (affine_of((0, 90, 90), (1, 1, 6.5)), (12, 11, 1)),
}


@st.composite
def volumes(draw, channels=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    affine = affine_of(
        rng.uniform(-180, 180, 3),
        rng.uniform(0.3, 4, 3),
        rng.choice([-1, 1], 3),
        rng.uniform(0, 0.4),
    )
    data = rng.integers(1, 100, (*shape, 2) if channels else shape).astype(np.int16)
    return Volume(data, affine)


codes = st.sampled_from(["RAS", "LPS", "SPL", "PIR", "AIR"])
larger = st.tuples(*[st.integers(10, 12)] * 3)
shapes = st.tuples(*[st.integers(1, 10)] * 3)


# -- applying -----------------------------------------------------------------------------------


def test_no_steps_give_float32_with_channels():
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine_of())
    image = Pipeline().apply(volume)
    assert (image.data.shape, image.data.dtype) == ((2, 3, 4, 1), np.float32)
    np.testing.assert_array_equal(image.data[..., 0], volume.data)


def test_image_and_label_land_on_the_same_grid():
    volume = Volume(np.random.default_rng(0).normal(size=(6, 7, 8, 2)), affine_of((10, 5, 3)))
    label = Volume((volume.data[..., 0] > 0).astype(np.uint8), volume.affine)
    image, mask = ALL.apply(volume), ALL.apply_label(label)
    assert image.data.shape == (9, 8, 7, 2)
    assert (mask.data.shape, mask.data.dtype) == ((9, 8, 7), np.uint8)
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert set(np.unique(mask.data)) == {0, 1}
    assert image.data.flags.c_contiguous
    assert mask.data.flags.c_contiguous


def test_steps_run_in_order():
    volume = Volume(np.arange(1.0, 5.0).reshape(1, 4), np.eye(3))
    padded_first = Pipeline((CropOrPad((1, 5)), MinMax())).apply(volume)
    scaled_first = Pipeline((MinMax(), CropOrPad((1, 5)))).apply(volume)
    np.testing.assert_allclose(padded_first.data.ravel(), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(scaled_first.data.ravel(), [0, 0, 1 / 3, 2 / 3, 1], atol=1e-7)


def test_the_input_is_not_changed():
    volume = Volume(np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32), affine_of())
    before = volume.data.copy()
    ALL.apply(volume)
    ZScore().apply(volume.with_data(volume.channels_last))
    np.testing.assert_array_equal(volume.data, before)


@pytest.mark.peer("torchio")
def test_preprocessing_of_the_lesion_study_is_torchios():
    rng = np.random.default_rng(0)
    volume = Volume(
        rng.gamma(2, 50, (22, 19, 8)).astype(np.float32), affine_of((8, -5, 12), (0.7, 0.8, 3))
    )
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume.data[None]), affine=volume.affine)
    peer = torchio.Compose(
        [
            torchio.ToCanonical(),
            torchio.Resample((1.03, 1.03, 1.03)),
            torchio.CropOrPad((16, 16, 24)),
            torchio.RescaleIntensity((0, 1)),
        ]
    )
    expected = peer(image)
    steps = (Reorient(), Resample((1.03, 1.03, 1.03)), CropOrPad((16, 16, 24)), MinMax())
    result = Pipeline(steps).apply(volume)
    np.testing.assert_allclose(result.data[..., 0], expected.numpy()[0], atol=1e-4)
    np.testing.assert_allclose(result.affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(value):
    data = np.ones((3, 4, 5))
    data[0, 0, :2] = value
    with pytest.raises(InputError, match="2 voxels of the image are NaN or infinite"):
        Pipeline((ZScore(),)).apply(Volume(data, np.eye(4)))


def test_rank_two_takes_the_first_two_numbers():
    volume = Volume(np.ones((4, 6), np.uint8), np.eye(3))
    steps = (Reorient("LPS"), Resample((2.0, 1.0, 9.0)), CropOrPad((5, 5, 9)))
    pipeline = Pipeline(steps)
    assert pipeline.apply(volume).data.shape == (5, 5, 1)
    mask = pipeline.apply_label(volume)
    np.testing.assert_array_equal(mask.data, [[0] * 5, [0] * 5, [1] * 5, [1] * 5, [0] * 5])
    assert pipeline.invert(mask, volume).data.shape == (4, 6)


def test_resizing_gives_square_pixels_along_the_longer_side_and_keeps_slices():
    series = Grid((256, 192, 22), affine_of((8, -5, 12), (0.8, 1.0, 6.5)))
    (after,) = Pipeline((Resize(128),)).grids(Volume(np.zeros(series.shape), series.affine))[1:]
    assert after.shape == (128, 120, 22)  # sides of 204.8 and 192 mm, pixels of 1.6 mm
    np.testing.assert_allclose(after.spacing, (1.6, 1.6, 6.5))
    middles = [g.affine @ (*(np.array(g.shape) - 1) / 2, 1) for g in (series, after)]
    np.testing.assert_allclose(*middles, atol=1e-9)


def test_resizing_leaves_slices_of_that_size_alone():
    picture = Volume(np.random.default_rng(0).random((256, 200)).astype(np.float32), np.eye(3))
    same = Pipeline((Resize(256),))
    np.testing.assert_array_equal(same.apply(picture).data[..., 0], picture.data)
    assert same.keeps_grid(picture)


@pytest.mark.parametrize("size", [256, 1024])
@pytest.mark.peer("monai")
def test_resized_pictures_are_monais(size):
    picture = np.random.default_rng(0).random((512, 400)).astype(np.float32)
    resized = monai.transforms.Resized("image", size, size_mode="longest", mode="bilinear")
    expected = np.asarray(resized({"image": picture[None]})["image"])[0]
    image = Volume(picture, np.eye(3))
    result = Pipeline((Resize(size),)).apply(image)
    np.testing.assert_allclose(result.data[..., 0], expected, atol=1e-5)


def test_a_mask_of_resized_slices_returns_to_their_grid():
    series = Volume(np.zeros((60, 48, 5), np.uint8), affine_of((3, 2, 1), (0.5, 0.5, 6.0)))
    series.data[20:40, 10:30, 2] = 1
    pipeline = Pipeline((Reorient("PLS"), Resize(30)))
    back = pipeline.invert(pipeline.apply_label(series), series)
    np.testing.assert_array_equal(back.data, series.data)


def test_two_numbers_do_not_suffice_for_rank_three():
    volume = Volume(np.ones((4, 6, 5), np.uint8), np.eye(4))
    for step in (Resample((1.0, 2.0)), CropOrPad((4, 4))):
        with pytest.raises(InputError, match="give 3 numbers"):
            Pipeline((step,)).apply(volume)


# -- inverting ----------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(volumes(), codes, larger, codes)
def test_reorienting_and_padding_round_trip_exactly(volume, first, shape, second):
    pipeline = Pipeline((Reorient(first), CropOrPad(shape), Reorient(second), ZScore()))
    back = pipeline.invert(pipeline.apply_label(volume), volume)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, volume.affine)


@settings(max_examples=80, deadline=None)
@given(volumes(channels=True), codes, shapes, codes, larger)
def test_what_was_not_cropped_returns_to_its_voxel(volume, first, crop, second, pad):
    pipeline = Pipeline((Reorient(first), CropOrPad(crop), Reorient(second), CropOrPad(pad)))
    back = pipeline.invert(pipeline.apply(volume), volume)
    kept = back.data != 0
    assert kept.any()
    np.testing.assert_array_equal(back.data[kept], volume.data[kept])
    np.testing.assert_array_equal(back.affine, volume.affine)


@settings(max_examples=60, deadline=None)
@given(volumes(), st.floats(0.15, 1.0), st.integers(0, 2**32 - 1))
def test_a_lesion_survives_finer_resampling_to_the_voxel(volume, fineness, seed):
    spacing = tuple(fineness * s for s in volume.spacing)
    label = volume.with_data(np.zeros(volume.spatial_shape, np.uint8))
    marked = tuple(np.random.default_rng(seed).integers(0, volume.spatial_shape))
    label.data[marked] = 1
    pipeline = Pipeline((Resample(spacing),))
    back = pipeline.invert(pipeline.apply_label(label), label)
    np.testing.assert_array_equal(np.argwhere(back.data), [marked])


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_lesion_drawn_on_the_processed_grid_lies_at_its_place_in_the_file(
    tmp_path, name, compressed
):
    affine, shape = GEOMETRIES[name]
    path = tmp_path / ("flair.nii.gz" if compressed else "flair.nii")
    data = np.random.default_rng(0).integers(0, 1000, shape).astype(np.float32)
    image = nibabel.Nifti1Image(data, affine)
    image.set_data_dtype(np.int16)  # nibabel scales: int16 with slope and intercept
    nibabel.save(image, path)
    flair = read_nifti(path)
    pipeline = Pipeline((Reorient(), Resample((0.5, 0.5, 0.5)), CropOrPad((70, 70, 70)), ZScore()))
    processed = pipeline.apply(flair)
    place = (affine @ [*(np.array(shape) // 2), 1])[:3]
    index = np.indices(processed.spatial_shape).reshape(3, -1)
    centres = processed.affine[:3, :3] @ index + processed.affine[:3, 3:]
    near = np.abs(np.linalg.inv(affine[:3, :3]) @ (centres - place[:, None])).max(axis=0) < 0.5
    lesion = near.reshape(processed.spatial_shape).astype(np.uint8)
    write_nifti(pipeline.invert(processed.with_data(lesion), flair), tmp_path / "mask.nii.gz")
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert mask.shape == shape
    np.testing.assert_allclose(mask.affine, nibabel.load(path).affine, rtol=1e-6)
    np.testing.assert_array_equal(np.argwhere(mask.dataobj), [np.array(shape) // 2])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_probabilities_return_smoothly(name):
    affine, shape = GEOMETRIES[name]
    like = Volume(np.zeros(shape, np.uint8), affine)
    pipeline = Pipeline((Reorient(), Resample((0.8, 0.8, 0.8)), CropOrPad((50, 50, 50))))
    processed = pipeline.apply(like)
    index = np.indices(processed.spatial_shape).reshape(3, -1)
    ramp = (processed.affine[:3, :3] @ index + processed.affine[:3, 3:])[0]
    both = np.stack([ramp, -2 * ramp], axis=-1).reshape(*processed.spatial_shape, 2)
    back = pipeline.invert(processed.with_data(both), like, interpolation="linear")
    assert back.data.dtype == np.float32
    voxels = np.indices(shape).reshape(3, -1)
    expected = (affine[:3, :3] @ voxels + affine[:3, 3:])[0].reshape(shape)
    np.testing.assert_allclose(back.data[..., 0], expected, atol=0.5)  # half a voxel at the border
    np.testing.assert_allclose(back.data[..., 1], -2 * back.data[..., 0], rtol=1e-5)
    inner = tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)
    if "slice" not in name:
        np.testing.assert_allclose(back.data[..., 0][inner], expected[inner], atol=1e-3)


def test_outside_the_processed_field_of_view_is_zero():
    like = Volume(np.ones((6, 6, 6), np.uint8), np.eye(4))
    pipeline = Pipeline((CropOrPad((2, 2, 2)),))
    back = pipeline.invert(pipeline.apply_label(like), like)
    assert back.data.sum() == 8
    assert (back.data[2:4, 2:4, 2:4] == 1).all()


def test_inverting_another_shape_is_refused():
    like = Volume(np.ones((6, 6, 6), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"\(6, 6, 6\) does not lie on .* \(3, 3, 3\)"):
        Pipeline((Resample((2.0, 2.0, 2.0)),)).invert(like, like)


def test_intensities_are_left_alone_on_the_way_back():
    like = Volume(np.ones((6, 6, 6), np.uint8), np.eye(4))
    pipeline = Pipeline((ZScore(), MinMax(), Rescale(), ClipPercentiles()))
    np.testing.assert_array_equal(pipeline.invert(like, like).data, like.data)


@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_real_lesions_keep_their_place_and_number(data_dir, patient):
    lesions = read_nifti(data_dir / "ms_lesions" / patient / "lesions.nii.gz")
    pipeline = Pipeline((Reorient(), Resample(), CropOrPad((192, 192, 192))))
    back = pipeline.invert(pipeline.apply_label(lesions), lesions)
    assert components(back.data)[1] == components(lesions.data)[1]
    np.testing.assert_array_equal(back.data, lesions.data)


# -- grids that depend on the image --------------------------------------------------------------


def blob(seed, shape=(14, 13, 12), spacing=None):
    """Return an image that is 0 but in a box, obliquely placed, and a label map on its grid."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 5, 3)
    high = low + rng.integers(3, 7, 3)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    data = np.zeros(shape, np.float32)
    data[box] = rng.uniform(1, 100, data[box].shape)
    label = np.zeros(shape, np.uint8)
    label[box] = rng.integers(0, 3, label[box].shape)
    spacing = rng.uniform(0.5, 3, 3) if spacing is None else spacing
    affine = affine_of(rng.uniform(-180, 180, 3), spacing, rng.choice([-1, 1], 3))
    return Volume(data, affine), Volume(label, affine)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), codes, st.floats(0, 6), shapes, codes)
def test_cropped_labels_return_to_their_voxels_exactly(seed, first, margin, shape, second):
    image, label = blob(seed)
    padded = tuple(n + 14 for n in shape)
    steps = (Reorient(first), CropToForeground(margin), CropOrPad(padded), Reorient(second))
    pipeline = Pipeline(steps)
    processed, grids = pipeline.trace(image)
    mask = pipeline.apply_label(label, grids)
    assert mask.spatial_shape == processed.spatial_shape == grids[-1].shape
    np.testing.assert_array_equal(mask.affine, processed.affine)
    assert not (mask.data.astype(bool) & (processed.data[..., 0] == 0)).any()
    back = pipeline.invert(mask, image, grids=grids)
    np.testing.assert_array_equal(back.data, label.data)
    np.testing.assert_array_equal(back.affine, image.affine)


def test_cropped_and_resampled_labels_return_to_their_grid():
    image, label = blob(3, spacing=(1.0, 1.5, 4.0))
    pipeline = Pipeline((Reorient(), CropToForeground(4.0), Resample((0.5, 0.5, 0.5)), MinMax()))
    processed, grids = pipeline.trace(image)
    back = pipeline.invert(pipeline.apply_label(label, grids), image, grids=grids)
    np.testing.assert_array_equal(back.data, label.data)
    probabilities = processed.with_data(np.stack([processed.data[..., 0]] * 2, -1))
    smooth = pipeline.invert(probabilities, image, grids=grids, interpolation="linear")
    assert smooth.data.shape == (*image.data.shape, 2)
    inside = image.data > 0
    expected = (image.data - image.data.min()) / np.ptp(image.data)
    assert np.corrcoef(smooth.data[..., 0][inside], expected[inside])[0, 1] > 0.95


def test_trace_names_the_grid_after_every_step():
    image, _ = blob(1)
    pipeline = Pipeline((Reorient("LPI"), CropToForeground(0), ZScore(), Resample((1.0, 2.0, 3.0))))
    processed, grids = pipeline.trace(image)
    assert len(grids) == 5
    assert grids[0].shape == image.data.shape
    assert grids[2].shape == grids[3].shape
    assert grids[2].shape < grids[1].shape
    np.testing.assert_allclose(grids[4].spacing, (1, 2, 3))
    np.testing.assert_array_equal(grids[4].affine, processed.affine)
    np.testing.assert_array_equal(pipeline.apply(image).data, processed.data)


def test_grids_are_known_without_the_image_where_they_can_be():
    image = Volume(np.random.default_rng(0).normal(size=(6, 7, 8)), affine_of((10, 5, 3)))
    known, (_, traced) = ALL.grids(image), ALL.trace(image)
    for one, other in zip(known, traced, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one.affine, other.affine)
    assert Pipeline((CropToForeground(),)).grids(image) is None


def test_without_the_grids_a_crop_cannot_be_repeated_or_undone():
    image, label = blob(0)
    pipeline = Pipeline((Reorient(), CropToForeground()))
    with pytest.raises(InputError, match="after 'crop-to-brain' depends on the image: hand over"):
        pipeline.apply_label(label)
    with pytest.raises(InputError, match="after 'crop-to-brain' depends on the image: hand over"):
        pipeline.invert(pipeline.apply(image), image)


@pytest.mark.parametrize("wrong", ["fewer", "other", "none"])
def test_grids_of_something_else_are_refused(wrong):
    image, label = blob(0)
    pipeline = Pipeline((Reorient(), CropToForeground()))
    _, grids = pipeline.trace(image)
    given = {"fewer": grids[1:], "other": (Grid((3, 3, 3), np.eye(4)), *grids[1:]), "none": ()}
    with pytest.raises(InputError, match="do not fit 2 steps on an image of shape"):
        pipeline.apply_label(label, given[wrong])


def test_a_label_that_lies_a_hair_off_lands_on_the_images_grid():
    image = Volume(np.ones((6, 6, 6)), affine_of((0, 0, 44.9999)))
    label = Volume(np.arange(216, dtype=np.int16).reshape(6, 6, 6), affine_of((0, 0, 45.0001)))
    pipeline = Pipeline((Reorient(),))
    _, grids = pipeline.trace(image)
    same = Volume(label.data, image.affine)
    np.testing.assert_array_equal(
        pipeline.apply_label(label, grids).data, pipeline.apply_label(same).data
    )


def test_a_real_lesion_map_survives_the_crop_to_the_brain(data_dir):
    folder = data_dir / "ms_lesions" / "patient19"
    flair, lesions = read_nifti(folder / "flair.nii.gz"), read_nifti(folder / "lesions.nii.gz")
    pipeline = Pipeline((Reorient(), BrainExtraction("zero-background"), CropToForeground(5)))
    processed, grids = pipeline.trace(flair)
    assert processed.data.size < 0.5 * flair.data.size
    back = pipeline.invert(pipeline.apply_label(lesions, grids), flair, grids=grids)
    np.testing.assert_array_equal(back.data, lesions.data)


# -- fitting ------------------------------------------------------------------------------------


def heads(count, **options):
    return lambda: (phantom(seed, shape=(24, 24, 24), **options)[0] for seed in range(count))


def test_steps_learn_from_images_as_they_are_before_them():
    pipeline = Pipeline((MinMax(), HistogramStandardization(), ZScore("above-mean")))
    assert not pipeline.fitted
    fitted = pipeline.fit(heads(3))
    assert fitted.fitted
    scaled = [Pipeline((MinMax(),)).apply(head) for head in heads(3)()]
    alone = HistogramStandardization().fit(scaled)
    assert fitted.steps == (MinMax(), alone, ZScore("above-mean"))


def test_two_steps_are_fitted_one_after_the_other():
    twice = Pipeline((HistogramStandardization(), HistogramStandardization(where="nonzero")))
    passes = []

    def images():
        passes.append(1)
        return heads(2)()

    fitted = twice.fit(images)
    assert len(passes) == 2
    first = Pipeline(fitted.steps[:1])
    again = HistogramStandardization(where="nonzero").fit(first.apply(h) for h in heads(2)())
    assert fitted.steps[1] == again


def test_what_is_fitted_needs_no_images():
    pipeline = Pipeline((MinMax(),))

    def never():
        raise AssertionError

    assert pipeline.fit(never) is pipeline


def test_unfitted_steps_cannot_be_applied_but_say_why():
    pipeline = Pipeline((HistogramStandardization(),))
    with pytest.raises(InputError, match="has no landmarks yet: fit the pipeline first"):
        pipeline.apply(next(iter(heads(1)())))
    with pytest.raises(InputError, match="no image to train landmarks on"):
        pipeline.fit(lambda: [])


def test_fitted_steps_are_stored_with_what_they_learnt():
    pipeline = Pipeline((HistogramStandardization(where="above-mean"),))
    assert Pipeline.from_json(json.loads(json.dumps(pipeline.to_json()))) == pipeline
    fitted = pipeline.fit(heads(3))
    stored = Pipeline.from_json(json.loads(json.dumps(fitted.to_json())))
    assert stored == fitted
    assert stored.fitted
    head = next(iter(heads(1)()))
    np.testing.assert_array_equal(stored.apply(head).data, fitted.apply(head).data)


# -- correction and brain -----------------------------------------------------------------------


def test_bias_field_is_corrected_on_the_tissue():
    head = next(iter(heads(1)()))
    step = BiasFieldCorrection(shrink=2, iterations=(5,))
    corrected = Pipeline((step,)).apply(head)
    expected = correct_bias_field(head, options=N4(shrink=2, iterations=(5,)))
    np.testing.assert_array_equal(corrected.data[..., 0], expected.data)
    inside = head.with_data(np.where(head.data > 300, head.data, 0))
    nonzero = BiasFieldCorrection("nonzero", shrink=2, iterations=(5,))
    expected = correct_bias_field(
        inside, mask=inside.with_data(inside.data > 0), options=N4(shrink=2, iterations=(5,))
    )
    np.testing.assert_array_equal(Pipeline((nonzero,)).apply(inside).data[..., 0], expected.data)


def test_what_is_not_brain_becomes_zero_in_every_channel():
    data = np.zeros((8, 8, 8, 2), np.float32)
    data[1:5, 1:5, 1:5, 0] = 3
    data[..., 1] = 7
    result = Pipeline((BrainExtraction("zero-background"),)).apply(Volume(data, np.eye(4))).data
    np.testing.assert_array_equal(result[..., 0], data[..., 0])
    np.testing.assert_array_equal(result[..., 1] > 0, data[..., 0] > 0)


def test_every_step_goes_through_json():
    pipeline = Pipeline(
        (
            BiasFieldCorrection("nonzero", 2, 100.0, (20, 10), 0.01),
            BrainExtraction("brain.onnx", 1),
            CropToForeground(3),
            HistogramStandardization((tuple(range(13)), tuple(range(1, 14))), "nonzero", (0, 1)),
        )
    )
    text = json.dumps(pipeline.to_json())
    assert Pipeline.from_json(json.loads(text)) == pipeline
    assert [step["step"] for step in pipeline.to_json()] == [
        "n4", "brain-extraction", "crop-to-brain", "histogram-standardization"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "made"),
    [
        (RobustZScore("above-mean"), lambda data: robust_z_score(data, where="above-mean")),
        (
            TissuePeak("first", "upper", "all"),
            lambda data: tissue_peak(data, peak="first", side="upper", where="all"),
        ),
        (TissuePeak(), tissue_peak),
        (Clip(20, 50.5), lambda data: np.minimum(np.maximum(data, 20), 50.5).astype(np.float32)),
    ],
)
def test_steps_of_intensities_keep_their_settings_and_the_grid(step, made):
    rng = np.random.default_rng(0)
    image = Volume(rng.gamma(3, 20, (5, 6, 7, 2)).astype(np.float32), affine_of((10, -25, 40)))
    result = Pipeline.from_json(json.loads(json.dumps(Pipeline((step,)).to_json()))).apply(image)
    np.testing.assert_array_equal(result.data, made(image.data))
    np.testing.assert_array_equal(result.affine, image.affine)


# -- JSON ---------------------------------------------------------------------------------------


def test_json_round_trip():
    text = json.dumps(ALL.to_json())
    assert Pipeline.from_json(json.loads(text)) == ALL


def test_json_is_plain():
    assert ALL.to_json()[:5] == [
        {"step": "reorient", "orientation": "LPI"},
        {"step": "resample", "spacing": [1.5, 1.0, 2.0], "tolerance": 0.0},
        {"step": "crop-or-pad", "shape": [9, 8, 7]},
        {"step": "clip-percentiles", "low": 1.0, "high": 99.0},
        {"step": "z-score", "where": "nonzero"},
    ]


def test_fields_may_be_left_out():
    given = [{"step": "resample"}, {"step": "z-score"}, {"step": "rescale", "low": 0}]
    assert Pipeline.from_json(given).steps == (Resample(), ZScore(), Rescale(0.0, 1.0))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"step": "n5"}], "unknown step 'n5': known are reorient, resample"),
        ([{"where": "all"}], "unknown step {'where': 'all'}"),
        (["z-score"], "must be an object with 'step', not 'z-score'"),
        ([{"step": ["z-score"]}], r"unknown step \['z-score'\]"),
        ({"step": "z-score"}, "a pipeline is a list of steps"),
        ("z-score", "a pipeline is a list of steps"),
        ([{"step": "z-score", "mask": 1}], "'z-score': unknown field 'mask'"),
        ([{"step": "crop-or-pad"}], "'crop-or-pad': field shape is missing"),
        ([{"step": "z-score", "where": "brain"}], "'z-score': .*brain"),
        ([{"step": "robust-z-score", "where": "brain"}], "'robust-z-score': .*brain"),
        ([{"step": "tissue-peak", "peak": "middle"}], "'tissue-peak': .*middle"),
        ([{"step": "tissue-peak", "side": "left"}], "'tissue-peak': .*left"),
        ([{"step": "reorient", "orientation": "XYZ"}], "'reorient': .*XYZ"),
        ([{"step": "reorient", "orientation": 3}], "'reorient': .*3"),
        ([{"step": "resample", "spacing": [1, 0, 1]}], r"'resample': spacing \(1, 0, 1\)"),
        ([{"step": "resample", "spacing": 1.0}], "'resample': .*1.0"),
        ([{"step": "resample", "spacing": "111"}], "'resample': .*111"),
        ([{"step": "resample", "spacing": [1]}], "'resample': spacing"),
        ([{"step": "crop-or-pad", "shape": [4.5, 4, 4]}], "'crop-or-pad': .*4.5"),
        ([{"step": "crop-or-pad", "shape": [float("inf"), 4, 4]}], "'crop-or-pad': .*inf"),
        ([{"step": "resize"}], "'resize': field size is missing"),
        ([{"step": "resize", "size": 0}], "'resize': size 0: give a whole number of pixels"),
        ([{"step": "resize", "size": 2.5}], "'resize': .*2.5"),
        ([{"step": "resize", "size": True}], "'resize': .*True"),
        ([{"step": "rescale", "low": 2.0, "high": 1.0}], "'rescale': range 2.0 to 1.0"),
        ([{"step": "rescale", "low": "a"}], "'rescale': .*a"),
        ([{"step": "rescale", "low": True}], "'rescale': .*True"),
        ([{"step": "clip", "low": 2.0, "high": 2.0}], "'clip': range 2.0 to 2.0"),
        ([{"step": "clip", "low": 2.0}], "'clip': .*high"),
        ([{"step": "clip-percentiles", "high": 101}], "'clip-percentiles': percentiles"),
        ([{"step": "n4", "where": "brain"}], "'n4': .*brain"),
        ([{"step": "n4", "shrink": 0}], "'n4': shrink 0"),
        ([{"step": "n4", "shrink": "a"}], "'n4': .*a"),
        ([{"step": "n4", "iterations": 50}], "'n4': .*50"),
        ([{"step": "n4", "iterations": [1.5]}], "'n4': .*iterations"),
        ([{"step": "brain-extraction", "method": "bet"}], "'brain-extraction': method 'bet'"),
        ([{"step": "brain-extraction", "method": 3}], "'brain-extraction': .*3"),
        ([{"step": "brain-extraction", "channel": -1}], "'brain-extraction': channel -1"),
        ([{"step": "crop-to-brain", "margin": -1}], "'crop-to-brain': margin -1"),
        ([{"step": "crop-to-brain", "margin": "5"}], "'crop-to-brain': .*5"),
        ([{"step": "histogram-standardization", "landmarks": [[1, 2]]}], "landmarks of shape"),
        ([{"step": "histogram-standardization", "where": "brain"}], "brain"),
        ([{"step": "histogram-standardization", "where": [1]}], "where"),
        ([{"step": "histogram-standardization", "cutoff": [0.5, 0.6]}], "cutoff 0.5 and 0.6"),
        ([{"step": "histogram-standardization", "cutoff": [0.5]}], "cutoff"),
    ],
)
def test_json_that_means_nothing_is_refused(steps, message):
    with pytest.raises((InputError, TypeError), match=message):
        Pipeline.from_json(steps)


@dataclass(frozen=True)
class Clip(Step):
    name: ClassVar[str] = "clip-of-others"
    most: float = 1.0

    def apply(self, image):
        return image.with_data(np.minimum(image.data, self.most))


def test_a_step_of_others_is_stored_read_and_applied():
    pipeline = Pipeline((Clip(2.0), MinMax()))
    assert pipeline.to_json() == [{"step": "clip-of-others", "most": 2.0}, {"step": "min-max"}]
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    volume = Volume(np.array([[0.0, 1.0, 9.0]]), np.eye(3))
    assert pipeline.apply(volume).data.ravel().tolist() == [0.0, 0.5, 1.0]


def test_a_step_that_nobody_registered_is_told_with_what_to_do():
    with pytest.raises(InputError, match=r"unknown step .sharpen.: .*import or install"):
        Pipeline.from_json([{"step": "sharpen"}])


def test_a_step_that_overrides_nothing_changes_nothing():
    volume = Volume(np.ones((3, 4, 5)), affine_of())
    step = Step()
    assert step.apply(volume) is volume
    before: Grid = grid(volume)
    assert step.apply_label(volume, before) is volume
    assert step.grid(before) is before
    assert step.fitted
    assert step.fit([volume]) is step
    assert step.invert(volume, before, "nearest") is volume


@pytest.mark.parametrize("returned", [None, np.ones((2, 3))])
def test_a_step_that_returns_no_volume_is_named(returned):
    class Forgetful(Step):
        def apply(self, image):
            return returned

    forgetful = Forgetful()
    object.__setattr__(forgetful, "name", "forgetful")
    with pytest.raises(InputError, match="what step 'forgetful' returns must be a segjax"):
        Pipeline((forgetful,)).apply(Volume(np.ones((2, 3)), np.eye(3)))


@pytest.mark.parametrize("part", ["z-score", ZScore])
def test_what_is_no_step_is_refused(part):
    pipeline = object.__new__(Pipeline)  # whose types are checked in tests alone
    object.__setattr__(pipeline, "steps", (part,))
    with pytest.raises(InputError, match=r"a pipeline holds steps, such as ZScore\(\), not"):
        pipeline.__post_init__()


@pytest.mark.parametrize("wrapped", [True, False])
def test_steps_are_read_from_a_list_or_a_configuration(wrapped, tmp_path):
    steps = ALL.to_json()
    path = tmp_path / "steps.json"
    path.write_text(json.dumps({"pipeline": steps, "epochs": 3} if wrapped else steps))
    assert read_pipeline(path) == ALL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"epochs": 3}', "has no 'pipeline', and is no list of steps, such as"),
        ('[{"step": "magic"}]', "unknown step 'magic'"),
        ('"reorient"', "a pipeline is a list of steps"),
    ],
)
def test_file_without_steps_is_named(text, message, tmp_path):
    path = tmp_path / "steps.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"steps\.json: .*{message}"):
        read_pipeline(path)
