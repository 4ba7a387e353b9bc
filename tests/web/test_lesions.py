"""The page measures lesions as segjax does, and their longest diameters."""

import time

import numpy as np
import pytest
from scipy.spatial.distance import pdist

import segjax
from segjax.evaluate.measure import measure_mask
from segjax.volume import Volume
from tests.geometry import rigid


def page_measure(page_modules, mask, affine, labels=("background", "lesion")):
    return page_modules.call(
        "measure/lesions.measure", mask.astype("u1").ravel(), mask.shape, affine.tolist(), labels
    )


def assert_as_segjax(loads, mask, affine, labels):
    named = np.where(mask < len(labels), mask, 0)
    expected = measure_mask(Volume(named.astype("u1"), affine), labels=labels)
    assert [load["label"] for load in loads] == list(labels[1:])
    assert [load["value"] for load in loads] == list(range(1, len(labels)))
    for load, other in zip(loads, expected, strict=True):
        assert load["volume"] == pytest.approx(other.size, rel=1e-12)
        assert [lesion["number"] for lesion in load["lesions"]] == list(
            range(1, len(other.lesions) + 1)
        )
        for lesion, piece in zip(load["lesions"], other.lesions, strict=True):
            assert lesion["voxels"] == piece.voxels
            assert lesion["volume"] == pytest.approx(piece.size, rel=1e-12)
            np.testing.assert_allclose(lesion["centre"], piece.centre_ras, rtol=0, atol=1e-9)
            assert lesion["diameter"] == pytest.approx(piece.feret.mm, rel=1e-9)


def faces_of(mask):
    """Return the centres of the faces between a mask and what is around it."""
    padded = np.pad(mask, 1)
    centres = []
    for axis in range(3):
        where = np.argwhere(np.diff(padded.astype(int), axis=axis) != 0) - 1.0
        where[:, axis] += 0.5
        centres.append(where)
    return np.concatenate(centres)


def longest(mask, affine):
    return pdist(faces_of(mask) @ affine[:3, :3].T).max()


@pytest.mark.parametrize("seed", range(60))
def test_random_masks_are_measured_as_segjax_does(page_modules, seed):
    rng = np.random.default_rng(seed)
    labels = ["background", "<b>one</b>", "two", "three"][: rng.integers(2, 5)]
    shape = tuple(rng.integers(1, 12, 3))
    density = rng.uniform(0.02, 0.9)
    mask = rng.integers(0, len(labels) + 1, shape) * (rng.random(shape) < density)
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.3, 4, 3), rng.uniform(-90, 90, 3))
    loads = page_measure(page_modules, mask, affine, labels)
    assert_as_segjax(loads, mask, affine, labels)


@pytest.mark.parametrize("seed", range(60))
def test_diameters_are_the_longest_distances_of_all_faces(page_modules, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    mask = rng.random(shape) < rng.uniform(0.05, 0.95)
    mask[0, 0, 0] = True
    upper = np.eye(4)
    upper[:3, :3] += np.triu(rng.uniform(-0.3, 0.3, (3, 3)), 1)
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.3, 4, 3)) @ upper
    (load,) = page_measure(page_modules, mask, affine)
    components = page_modules.call(
        "prepare/components.componentsOf", mask.astype("u1").ravel(), shape, 26
    )
    runs = list(zip(components["starts"], components["stops"], components["numbers"], strict=True))
    order = np.argsort(-components["sizes"], kind="stable")
    for lesion, component in zip(load["lesions"], order, strict=True):
        own = np.zeros(mask.size, bool)
        for start, stop, number in runs:
            own[start:stop] |= number == component
        own = own.reshape(shape)
        assert lesion["diameter"] == pytest.approx(longest(own, affine), rel=1e-12)
        places = np.argwhere(own) @ affine[:3, :3].T + affine[:3, 3]
        distances = np.linalg.norm(places - lesion["centre"], axis=1)
        nearest = affine[:3, :3] @ lesion["nearest"] + affine[:3, 3]
        assert own[tuple(lesion["nearest"])]
        assert np.linalg.norm(nearest - lesion["centre"]) <= distances.min() + 1e-9


@pytest.mark.parametrize(
    ("box", "spacing", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), 1.0),
        ((1, 1, 1), (0.5, 1, 3), 3.0),
        ((2, 1, 1), (1, 1, 1), 2.0),
        ((4, 5, 6), (1, 1, 1), np.sqrt(3**2 + 4**2 + 6**2)),
        ((10, 10, 10), (1, 1, 2), np.sqrt(9**2 + 9**2 + 20**2)),
    ],
)
def test_boxes_have_nearly_their_diagonal(page_modules, box, spacing, expected):
    mask = np.zeros((12, 12, 12), bool)
    mask[tuple(slice(1, 1 + n) for n in box)] = True
    (load,) = page_measure(page_modules, mask, rigid((0, 0, 0), spacing))
    (lesion,) = load["lesions"]
    assert lesion["diameter"] == pytest.approx(expected)
    assert lesion["voxels"] == np.prod(box)


@pytest.mark.parametrize("seed", range(8))
def test_ellipsoids_have_their_longest_axis_to_half_a_voxel_at_each_end(page_modules, seed):
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.5, 1.5, 3)
    affine = rigid(rng.uniform(-180, 180, 3), spacing, (0, 0, 0))
    axes = np.sort(rng.uniform(6, 16, 3))
    turn = rigid(rng.uniform(-180, 180, 3), (1, 1, 1))[:3, :3]
    size = (np.ceil(2 * axes[2] / spacing) + 3).astype(int)
    index = np.indices(size).reshape(3, -1) - (size[:, None] - 1) / 2
    place = turn @ (affine[:3, :3] @ index)
    mask = ((place / axes[:, None]) ** 2).sum(0).reshape(size) <= 1
    (load,) = page_measure(page_modules, mask, affine)
    (lesion,) = load["lesions"]
    assert abs(lesion["diameter"] - 2 * axes[2]) <= spacing.max()


def test_the_first_of_equal_lesions_comes_first(page_modules):
    mask = np.zeros((1, 1, 9))
    mask[0, 0, [1, 3, 4, 6, 7]] = 1
    (load,) = page_measure(page_modules, mask, np.eye(4))
    assert [lesion["nearest"][2] for lesion in load["lesions"]] == [3, 6, 1]


def test_empty_masks_hold_nothing(page_modules):
    (load,) = page_measure(page_modules, np.zeros((2, 3, 4)), np.eye(4))
    assert load == {"label": "lesion", "value": 1, "volume": 0, "lesions": []}


@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_real_lesions_are_measured_as_segjax_does_in_seconds(page_modules, data_dir, patient):
    lesions = segjax.read(data_dir / "ms_lesions" / patient / "lesions.nii.gz")
    start = time.perf_counter()
    loads = page_measure(page_modules, lesions.data, lesions.affine)
    assert time.perf_counter() - start < 20
    assert_as_segjax(loads, lesions.data, lesions.affine, ["background", "lesion"])


def test_a_head_of_noise_is_measured_in_seconds(page_modules):
    mask = np.random.default_rng(0).random((128, 128, 128)) < 0.3
    start = time.perf_counter()
    (load,) = page_measure(page_modules, mask, np.eye(4))
    assert time.perf_counter() - start < 60
    assert load["lesions"][0]["diameter"] == pytest.approx(np.sqrt(127**2 * 2 + 128**2), abs=1)
