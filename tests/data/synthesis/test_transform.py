"""Lesions that are put into patches."""

import json
from functools import cache

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from segjax.data.augment import Transform, augment_patch
from segjax.data.io.formats import write_volume
from segjax.data.synthesis import PutLesions
from segjax.errors import InputError
from segjax.registry import registry
from segjax.volume import Volume

SHAPES = [(20, 22, 18, 1), (28, 30, 1), (26, 24, 1, 2)]


def patch(shape, seed):
    """Return noise in a disc or ball, 0 around it, and a lesion in it."""
    rng = np.random.default_rng(seed)
    spatial = shape[:-1]
    axes = [axis for axis, size in enumerate(spatial) if size > 1]
    places = (
        np.indices(spatial)[axes] - np.array(spatial).reshape(-1, *(1,) * len(spatial))[axes] / 2
    )
    brain = (places**2).sum(axis=0) < 90 if len(axes) == 3 else (places**2).sum(axis=0) < 120
    image = np.where(brain[..., None], rng.normal(10, 1, shape), 0).astype(np.float32)
    label = np.zeros(spatial, np.uint8)
    middle = tuple(slice(n // 2 - 1, n // 2 + 1) if n > 1 else 0 for n in spatial)
    label[middle] = 1
    image[middle] += 3
    return image, label, brain


@cache
def compiled(transform):
    return jax.jit(lambda *given: transform.apply_both(*given, jnp))


@given(seed=st.integers(0, 2**31), shape=st.sampled_from(SHAPES))
@settings(max_examples=30)
def test_nothing_changes_but_within_reach_in_the_brain_off_true_lesions(seed, shape):
    image, label, brain = patch(shape, seed)
    lesions = PutLesions(probability=1.0, box=10)
    drawn = lesions.draw(np.random.default_rng(seed), shape)
    changed, marked = lesions.apply_both(image, label, drawn, np)
    moved = (changed != image).any(axis=-1)
    inner = ~ndimage.binary_dilation(~brain, np.ones([3 if n > 1 else 1 for n in brain.shape]))
    assert not moved[~inner].any()
    assert not moved[ndimage.binary_dilation(label == 1)].any()
    assert (changed[~moved].view(np.uint32) == image[~moved].view(np.uint32)).all()
    assert (marked[label == 1] == 1).all()
    assert moved[(marked == 1) & (label == 0)].all()
    assert moved.sum() <= drawn["count"] * 10 ** sum(n > 1 for n in brain.shape)


@given(seed=st.integers(0, 2**31), shape=st.sampled_from(SHAPES))
@settings(max_examples=8)
def test_numpy_and_jax_agree(seed, shape):
    image, label, _ = patch(shape, seed)
    lesions = PutLesions(probability=1.0, box=10)
    drawn = lesions.draw(np.random.default_rng(seed), shape)
    expected, marked = lesions.apply_both(image, label, drawn, np)
    other, other_marked = compiled(lesions)(image, label, drawn)
    assert np.abs(np.asarray(other) - expected).max() <= 1e-5 * np.ptp(expected)
    np.testing.assert_array_equal(np.asarray(other_marked), marked)


@pytest.mark.parametrize("shape", SHAPES)
def test_lesions_are_put_in(shape):
    image, label, _ = patch(shape, 0)
    lesions = PutLesions(probability=1.0, lesions=(2, 2), value=2, box=10)
    changed, marked = augment_patch(np.random.default_rng(1), image, label, [lesions])
    assert (marked == 2).any()
    assert (changed[marked == 2] > image[marked == 2]).all()


def test_contrast_is_in_interquartile_ranges_of_the_brain():
    image = np.random.default_rng(0).normal(50, 4, (24, 24, 24, 2)).astype(np.float32)
    lesions = PutLesions(
        probability=1.0, lesions=(1, 1), contrast=(2.0, 2.0, -1.0, -1.0), softness=(0.0, 0.0)
    )
    drawn = lesions.draw(np.random.default_rng(0), image.shape)
    changed, _ = lesions.apply_both(image, np.zeros(image.shape[:3], np.uint8), drawn, np)
    gained = (changed - image).reshape(-1, 2)
    iqr = np.subtract(*np.percentile(image.reshape(-1, 2), [75, 25], axis=0))
    np.testing.assert_allclose(gained[gained[:, 0].argmax()], [2.0, -1.0] * iqr, rtol=0.02)


def test_large_lesions_come_cut_to_the_box_when_drawn_by_volume(tmp_path):
    mask = np.zeros((30, 30, 30), np.uint8)
    mask[:22, :22, :22] = mask[28:, 28:, 27:] = 1
    write_volume(Volume(mask, np.eye(4)), tmp_path / "mask.nii.gz")
    drawn = {}
    for by_volume in (False, True):
        lesions = PutLesions(str(tmp_path), (1, 1), box=12, by_volume=by_volume, probability=1.0)
        shares = lesions.draw(np.random.default_rng(0), (24, 24, 24, 1))["shares"]
        drawn[by_volume] = shares.sum()
    assert drawn[False] < 30  # of 12 mm³, since the other does not fit
    assert drawn[True] > 300


def test_probability_0_is_the_identity():
    image, label, _ = patch(SHAPES[0], 0)
    never = [PutLesions(probability=0.0)]
    changed, marked = augment_patch(np.random.default_rng(0), image, label, never)
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(marked, label)


def test_parameters_of_no_lesion_change_nothing():
    image, label, _ = patch(SHAPES[0], 0)
    lesions = PutLesions()
    changed, marked = lesions.apply_both(image, label, lesions.identity(image.shape), np)
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(marked, label)


def test_parameters_stack():
    lesions, rng = PutLesions(probability=1.0), np.random.default_rng(0)
    drawn = [lesions.draw(rng, SHAPES[0]) for _ in range(3)] + [lesions.identity(SHAPES[0])]
    forms = [{key: (np.shape(v), np.asarray(v).dtype) for key, v in d.items()} for d in drawn]
    assert all(form == forms[0] for form in forms)


def test_a_patch_without_room_stays_as_it_is():
    image, label = np.zeros((16, 16, 16, 1), np.float32), np.zeros((16, 16, 16), np.uint8)
    always = [PutLesions(probability=1.0)]
    changed, marked = augment_patch(np.random.default_rng(0), image, label, always)
    assert not changed.any()
    assert not marked.any()


def test_shapes_come_from_a_folder_that_json_names(tmp_path):
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[2:5, 2:9, 2:5] = 1
    write_volume(Volume(mask, np.eye(4)), tmp_path / "one.nii.gz")
    lesions = PutLesions(str(tmp_path), lesions=(1, 1), probability=1.0)
    assert Transform.from_json(json.loads(json.dumps(lesions.to_json()))) == lesions
    shares = lesions.draw(np.random.default_rng(0), (32, 32, 32, 1))["shares"]
    assert 63 * 0.8**3 * 0.94 <= shares.sum() <= 63 * 1.25**3 * 1.06


def test_a_missing_folder_is_told_at_the_first_patch_whatever_is_drawn(tmp_path):
    lesions = PutLesions(str(tmp_path / "gone"), probability=1e-9)
    with pytest.raises(InputError, match="no such folder of lesion masks"):
        lesions.draw(np.random.default_rng(0), SHAPES[0])


def test_the_label_alone_is_refused():
    lesions = PutLesions()
    with pytest.raises(InputError, match="needs the image"):
        lesions.apply_label(np.zeros((4, 4), np.uint8), lesions.identity((4, 4, 1)), np)


def test_the_transform_is_found_by_its_name():
    assert registry("transform").get("put-lesions") is PutLesions


@pytest.mark.parametrize(
    "options",
    [
        {"lesions": (2, 1)},
        {"softness": (-1.0, 1.0)},
        {"window": (1.0, -1.0)},
        {"contrast": (1.0,)},
        {"value": 0},
        {"box": 2},
        {"spacing": (0.0,)},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="put-lesions: "):
        PutLesions(**options)


def test_contrast_for_other_channels_is_refused():
    lesions = PutLesions(contrast=(1.0, 2.0, 1.0, 2.0), probability=1.0)
    with pytest.raises(InputError, match="3 such pairs"):
        lesions.draw(np.random.default_rng(0), (16, 16, 16, 3))
