"""The page chooses labels and cleans masks by the rules of a file as segjax does."""

import time

import numpy as np
import pytest
from scipy import ndimage

from segjax.volume import voxel_size
from segjax_onnx.predict.postprocess import LabelRule, postprocess
from tests.geometry import rigid

RULE = LabelRule().to_json()


def page_choose(page_modules, probabilities, rules, affine):
    answer = [
        {"data": label.ravel(), "shape": label.shape, "affine": affine.tolist()}
        for label in np.moveaxis(probabilities, -1, 0)
    ]
    mask = page_modules.call("predict/rules.choose", answer, rules)
    return mask.reshape(probabilities.shape[:-1])


def random_probabilities(rng, shape, labels):
    """Make smooth probabilities with many ties."""
    data = rng.normal(size=(*shape, labels))
    data = ndimage.gaussian_filter(data, (*rng.choice([0, 0.8, 1.5], 3), 0)) * 3
    data = np.exp(data) / np.exp(data).sum(-1, keepdims=True)
    if labels == 1:
        data = rng.random((*shape, 1))
    return (np.round(data * 16) / 16).astype(np.float32)


def random_rule(rng, affine):
    threshold = [None, 0.3, 0.5, 0.25, 1.0][rng.integers(5)]
    volume = [0.0, voxel_size(affine) * rng.integers(1, 20), rng.uniform(0, 30)][rng.integers(3)]
    return LabelRule(
        threshold=threshold,
        minimum_volume=float(volume),
        largest_component=bool(rng.random() < 0.3),
        fill_holes=bool(rng.random() < 0.5),
    )


@pytest.mark.parametrize("seed", range(80))
def test_masks_of_random_rules_are_those_of_segjax(page_modules, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 3))
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.4, 3, 3))
    labels = int(rng.integers(1, 5))
    probabilities = random_probabilities(rng, shape, labels)
    rules = [random_rule(rng, affine) for _ in range(max(1, labels - 1))]
    expected = postprocess(probabilities, rules, affine)
    found = page_choose(page_modules, probabilities, [rule.to_json() for rule in rules], affine)
    np.testing.assert_array_equal(found, expected)
    plain = page_choose(page_modules, probabilities, [], affine)
    np.testing.assert_array_equal(plain, postprocess(probabilities, [], affine))


def test_thresholds_are_compared_in_float32(page_modules):
    foreground = np.float32([np.nextafter(np.float32(0.4), np.float32(0)), 0.4, 0.6])
    both = np.stack([1 - foreground, foreground], -1)[None, None]
    rule = {**RULE, "threshold": 0.4}
    assert page_choose(page_modules, both, [rule], np.eye(4)).ravel().tolist() == [0, 1, 1]


def test_the_lowest_of_equal_labels_is_chosen(page_modules):
    equal = np.full((1, 1, 1, 4), 0.25, np.float32)
    assert page_choose(page_modules, equal, [], np.eye(4)).item() == 0
    rules = [{**RULE, "threshold": t} for t in (None, 0.2, 0.25)]
    assert page_choose(page_modules, equal, rules, np.eye(4)).item() == 2


def sphere_shell(size=11):
    grid = np.indices((size,) * 3) - size // 2
    radius = np.sqrt((grid**2).sum(0))
    return (radius > 2) & (radius < 4)


def test_holes_are_filled_but_not_open_ones(page_modules):
    shell = sphere_shell().astype(np.float32)[..., None]
    rule = {**RULE, "fill_holes": True}
    filled = page_choose(page_modules, shell, [rule], np.eye(4))
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(shell[..., 0]))
    shell[5, 5, :5] = 0  # a channel to the outside
    np.testing.assert_array_equal(
        page_choose(page_modules, shell, [rule], np.eye(4)), shell[..., 0]
    )


def test_a_component_of_just_the_minimum_volume_stays(page_modules):
    probabilities = np.zeros((1, 1, 9, 1), np.float32)
    probabilities[0, 0, [0, 1, 2, 4, 5, 7]] = 1
    affine = np.diag([0.7, 1.1, 1.3, 1.0])
    rule = {**RULE, "minimum_volume": 2 * 0.7 * 1.1 * 1.3}
    found = page_choose(page_modules, probabilities, [rule], affine)
    assert found.ravel().tolist() == [1, 1, 1, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(("neighbours", "rank"), [(6, 1), (26, 3)])
def test_components_are_those_of_scipy(page_modules, neighbours, rank):
    structure = ndimage.generate_binary_structure(3, rank)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(1, 14, 3)) < rng.uniform(0.1, 0.9)
        expected, count = ndimage.label(mask, structure)
        found = page_modules.call(
            "prepare/components.componentsOf", mask.ravel().astype("u1"), mask.shape, neighbours
        )
        assert found["count"] == count
        labels = np.zeros(mask.size, int)
        for start, stop, number in zip(
            found["starts"], found["stops"], found["numbers"], strict=True
        ):
            labels[start:stop] = number + 1
        np.testing.assert_array_equal(labels.reshape(mask.shape), expected)
        np.testing.assert_array_equal(found["sizes"], np.bincount(labels)[1:])


def test_a_whole_head_of_noise_is_cleaned_in_seconds(page_modules):
    rng = np.random.default_rng(0)
    foreground = rng.random((120, 140, 120, 1)).astype(np.float32)
    rule = LabelRule(threshold=0.8, minimum_volume=10, fill_holes=True)
    start = time.perf_counter()
    found = page_choose(page_modules, foreground, [rule.to_json()], np.eye(4))
    assert time.perf_counter() - start < 20
    np.testing.assert_array_equal(found, postprocess(foreground, [rule], np.eye(4)))
