"""Patches: grids, windows, sampling and sliding-window prediction."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segjax.data.labels import IGNORED
from segjax.data.patches import (
    extract_patch,
    gaussian_window,
    grid_corners,
    sample_corner,
    sliding_window,
    sliding_windows,
    to_mask,
    uniform_corner,
)
from segjax.errors import InputError
from tests.peers import monai, torch

shapes = st.lists(st.integers(1, 20), min_size=1, max_size=3)
overlaps = st.sampled_from([0.0, 0.25, 0.5, 0.8])


@st.composite
def volumes_and_patches(draw):
    shape = draw(shapes)
    patch = draw(st.lists(st.integers(1, 12), min_size=len(shape), max_size=len(shape)))
    return tuple(shape), tuple(patch)


def identity(patches):
    return patches


@given(volumes_and_patches(), overlaps)
@settings(max_examples=60, deadline=None)
def test_grid_covers_every_voxel_and_stays_inside(sizes, overlap):
    shape, patch = sizes
    covered = np.zeros(shape, bool)
    for corner in grid_corners(shape, patch, overlap):
        for c, n, p in zip(corner, shape, patch, strict=True):
            assert min(0, n - p) <= c <= max(0, n - p)
        covered[tuple(slice(max(c, 0), c + p) for c, p in zip(corner, patch, strict=True))] = True
    assert covered.all()


@pytest.mark.peer("monai")
@pytest.mark.parametrize(
    ("shape", "patch", "overlap"),
    [((64,), (16,), 0.5), ((35, 51, 35), (16, 24, 32), 0.25), ((33, 20), (8, 20), 0.9)],
)
def test_grid_is_that_of_monai(shape, patch, overlap):

    overlaps = [overlap] * len(shape)
    interval = monai.inferers.utils._get_scan_interval(shape, patch, len(shape), overlaps)
    expected = monai.data.utils.dense_patch_slices(shape, patch, interval)
    corners = grid_corners(shape, patch, overlap)
    assert corners == [tuple(int(s.start) for s in slices) for slices in expected]


@pytest.mark.peer("monai")
@pytest.mark.parametrize("patch", [(64, 64, 64), (40, 56, 48), (7, 12), (1,), (16, 16, 1)])
def test_gaussian_window_is_that_of_monai(patch):

    expected = monai.data.utils.compute_importance_map(patch, mode="gaussian").numpy()
    np.testing.assert_allclose(gaussian_window(patch), expected, rtol=1e-5)


@pytest.mark.peer("monai")
@pytest.mark.parametrize("window", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(30, 20, 25), (10, 40, 12)])
def test_sliding_window_equals_monai(window, shape):

    image = np.random.default_rng(0).standard_normal((*shape, 2)).astype(np.float32)
    ramp = np.arange(16, dtype=np.float32)[:, None, None, None]

    def predict(patches):
        return np.concatenate([patches * ramp, patches[..., :1] ** 2], -1)

    def predict_torch(patches):
        result = predict(np.moveaxis(patches.numpy(), 1, -1))
        return torch.from_numpy(np.moveaxis(result, -1, 1).copy())

    expected = monai.inferers.sliding_window_inference(
        torch.from_numpy(np.moveaxis(image, -1, 0)[None].copy()),
        (16, 16, 16),
        3,
        predict_torch,
        overlap=0.5,
        mode=window,
    )
    result = sliding_window(
        image, predict, patch_size=(16, 16, 16), overlap=0.5, batch_size=3, window=window
    )
    np.testing.assert_allclose(result, np.moveaxis(expected[0].numpy(), 0, -1), atol=1e-4)


@given(
    volumes_and_patches(), overlaps, st.integers(1, 4), st.sampled_from(["gaussian", "constant"])
)
@settings(max_examples=40, deadline=None)
def test_identity_predictor_returns_the_image(sizes, overlap, batch_size, window):
    shape, patch = sizes
    image = np.random.default_rng(0).standard_normal((*shape, 2)).astype(np.float32)
    result = sliding_window(
        image, identity, patch_size=patch, overlap=overlap, batch_size=batch_size, window=window
    )
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, image, atol=1e-5)


@given(volumes_and_patches(), overlaps)
@settings(max_examples=30, deadline=None)
def test_constant_predictor_gives_the_constant_everywhere(sizes, overlap):
    shape, patch = sizes
    result = sliding_window(
        np.zeros((*shape, 1), np.float32),
        lambda patches: np.full((*patches.shape[:-1], 3), 0.7, np.float32),
        patch_size=patch,
        overlap=overlap,
    )
    assert result.shape == (*shape, 3)
    np.testing.assert_allclose(result, 0.7, atol=1e-6)


def test_hundreds_of_patches_over_a_voxel_cost_no_precision():
    result = sliding_window(
        np.zeros((20, 20, 20, 1), np.float32),
        lambda patches: np.full((*patches.shape[:-1], 2), [0.7, 0.3], np.float32),
        patch_size=(8, 8, 8),
        overlap=0.9,
        batch_size=64,
    )
    np.testing.assert_allclose(result, np.full((20, 20, 20, 2), [0.7, 0.3]), atol=1.2e-7, rtol=0)


def test_the_prediction_of_a_single_patch_comes_back_to_the_bit():
    image = np.random.default_rng(0).random((7, 8, 2), np.float32)
    assert (sliding_window(image, identity, patch_size=(8, 8)) == image).all()


def test_every_call_gets_a_full_float32_batch():
    seen = set()

    def predict(patches):
        seen.add((patches.shape, patches.dtype.name))
        return patches

    sliding_window(np.zeros((17, 9, 1)), predict, patch_size=(4, 4), batch_size=7)
    assert seen == {((7, 4, 4, 1), "float32")}


def test_many_volumes_share_batches_and_are_predicted_like_each_alone():
    rng, calls = np.random.default_rng(0), []
    images = [rng.random((*shape, 1), np.float32) for shape in [(9, 7), (4, 4), (3, 5), (12, 4)]]

    def predict(patches):
        calls.append(len(patches))
        return np.concatenate([patches, patches**2], -1)

    found = list(sliding_windows(images, predict, patch_size=(4, 4), batch_size=5))
    assert calls == [5] * 4  # 8 + 1 + 2 + 5 patches
    for one, image in zip(found, images, strict=True):
        alone = sliding_window(image, predict, patch_size=(4, 4))
        np.testing.assert_array_equal(one, alone)


def test_no_volumes_need_no_call():
    assert list(sliding_windows([], identity, patch_size=(4, 4))) == []


def test_results_are_looked_at_after_two_more_calls():
    events = []

    class Promise:
        def __init__(self, number, patches):
            self.number, self.patches = number, patches

        def __array__(self, dtype=None, copy=None):
            events.append(f"fetch {self.number}")
            return self.patches

    def predict(patches):
        number = sum(event.startswith("call") for event in events)
        events.append(f"call {number}")
        return Promise(number, patches)

    image = np.random.default_rng(0).random((16, 1), np.float32)
    result = sliding_window(image, predict, patch_size=(4,), overlap=0.0)
    np.testing.assert_allclose(result, image, rtol=1e-6)
    order = "call 0, call 1, call 2, fetch 0, call 3, fetch 1, fetch 2, fetch 3"
    assert ", ".join(events) == order


def test_small_volume_is_padded_with_zeros_on_both_sides():
    seen = []

    def predict(patches):
        seen.append(patches.copy())
        return patches

    sliding_window(np.ones((2, 1), np.float32), predict, patch_size=(5,))
    assert seen[0].ravel().tolist() == [0, 1, 1, 0, 0]


def test_predictor_that_returns_another_size_is_refused():
    with pytest.raises(ValueError, match="all axes but the last must agree"):
        sliding_window(np.zeros((8, 8, 1)), lambda p: p[:, ::2], patch_size=(4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": (4,)}, r"patch size \(4,\) does not fit"),
        ({"patch_size": (4, 0)}, "one positive number per axis"),
        ({"patch_size": (4, 4), "overlap": 1.0}, "overlap 1.0 is out of range"),
        ({"patch_size": (4, 4), "batch_size": 0}, "batch size 0"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        sliding_window(np.zeros((8, 8, 1)), identity, **options)


def test_unknown_window_is_named():
    options = {"patch_size": (4, 4), "window": "hann"}
    with pytest.raises(Exception, match="hann"):
        sliding_window(np.zeros((8, 8, 1)), identity, **options)


def test_patch_outside_the_volume_holds_the_fill_value():
    image = np.arange(6, dtype=np.int16).reshape(3, 2)
    assert extract_patch(image, (2, -1), (2, 3), fill=9.0).tolist() == [[9, 4, 5], [9, 9, 9]]
    assert extract_patch(image, (7, -5), (2, 2), fill=9.0).tolist() == [[9, 9], [9, 9]]
    assert extract_patch(image, (0,), (1,)).tolist() == [[0, 1]]
    assert extract_patch(image, (0, 0), (1, 1)).dtype == np.int16


def test_patch_is_a_copy():
    image = np.zeros((4, 4))
    extract_patch(image, (0, 0), (2, 2))[:] = 1
    assert image.sum() == 0


def test_most_probable_label_wins_and_the_lowest_of_equals():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], np.float32)
    mask = to_mask(probabilities)
    assert mask.tolist() == [1, 0]
    assert mask.dtype == np.uint8
    assert to_mask(np.array([[0.5, 0.5], [0.4, 0.6], [0.6, 0.4]])).tolist() == [0, 1, 0]


def test_a_single_probability_is_foreground_over_one_half():
    assert to_mask(np.array([[0.5], [0.51]], np.float32)).tolist() == [0, 1]


@given(volumes_and_patches(), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_foreground_patches_always_hold_foreground(sizes, seed):
    shape, patch = sizes
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    label.flat[rng.integers(label.size)] = 1
    corner = sample_corner(rng, label, patch, 1.0)
    assert extract_patch(label, corner, patch).max() == 1


@given(volumes_and_patches(), st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_patches_lie_in_the_volume_or_hold_it(sizes, seed, foreground):
    shape, patch = sizes
    rng = np.random.default_rng(seed)
    corner = sample_corner(rng, rng.integers(0, 2, shape), patch, foreground)
    for c, n, p in zip(corner, shape, patch, strict=True):
        assert (c >= 0 and c + p <= n) or (c <= 0 and c + p >= n)


def test_empty_label_maps_are_sampled_uniformly():
    rng = np.random.default_rng(0)
    corners = {sample_corner(rng, np.zeros(10, np.uint8), (4,), 1.0) for _ in range(200)}
    assert corners == {(i,) for i in range(7)}


def test_ignored_voxels_are_no_foreground():
    rng = np.random.default_rng(0)
    label = np.full(1000, IGNORED, np.uint8)
    label[700] = 2
    drawn = [sample_corner(rng, label, (4,), 1.0)[0] for _ in range(50)]
    assert all(c <= 700 < c + 4 for c in drawn)
    label[700] = 0
    corners = {sample_corner(rng, label[:10], (4,), 1.0) for _ in range(200)}
    assert corners == {(i,) for i in range(7)}


def test_uniform_corners_shift_small_volumes_within_the_patch():
    rng = np.random.default_rng(0)
    assert {uniform_corner(rng, (4,), (6,)) for _ in range(50)} == {(-2,), (-1,), (0,)}


def test_foreground_probability_is_the_fraction_of_patches_with_a_rare_voxel():
    label = np.zeros(1000, np.uint8)
    label[500] = 1
    rng = np.random.default_rng(0)
    corners = [sample_corner(rng, label, (4,), 0.3)[0] for _ in range(2000)]
    hits = np.mean([c <= 500 < c + 4 for c in corners])
    assert abs(hits - 0.3) < 0.04
