"""Thresholds, holes and components: against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segjax.errors import InputError
from segjax_onnx.predict.postprocess import LabelRule, changed_rules, postprocess

ISOTROPIC = np.eye(4)


def softmax(shape, labels, seed):
    logits = np.random.default_rng(seed).normal(size=(*shape, labels)).astype(np.float32)
    logits = ndimage.gaussian_filter(logits, (*[0.7] * len(shape), 0)) * 4
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def cleaned(mask, rules, voxel):
    """The same with SciPy, one voxel or component at a time."""
    mask = mask.copy()
    for label, rule in enumerate(rules, 1):
        if rule.fill_holes:
            mask[ndimage.binary_fill_holes(mask == label) & (mask == 0)] = label
        numbers, count = ndimage.label(mask == label, np.ones((3,) * mask.ndim))
        sizes = [int((numbers == n).sum()) for n in range(1, count + 1)]
        for n, size in enumerate(sizes, 1):
            is_largest = n == 1 + sizes.index(max(sizes))
            if size * voxel < rule.minimum_volume or (rule.largest_component and not is_largest):
                mask[numbers == n] = 0
    return mask


def chosen(probabilities, rules):
    """The label of one voxel, as it is defined."""
    asked = {n: r.threshold for n, r in enumerate(rules, 1) if r.threshold is not None}
    passed = [n for n, t in asked.items() if probabilities[n] >= np.float32(t)]
    free = [n for n in range(len(probabilities)) if n not in asked]
    return max(passed or free, key=lambda n: (probabilities[n], -n))


RULES = st.fixed_dictionaries(
    {
        "threshold": st.none() | st.floats(0.05, 1),
        "minimum_volume": st.sampled_from([0, 2, 5.5, 30]),
        "largest_component": st.booleans(),
        "fill_holes": st.booleans(),
    }
).map(LabelRule.from_json)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=3),
    st.lists(RULES, min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_masks_are_those_of_the_definition_and_scipy(shape, rules, seed):
    probabilities = softmax(shape, len(rules) + 1, seed)
    affine = np.diag([*[0.5, 1.0, 3.0][: len(shape)], 1.0])
    voxel = float(np.prod([0.5, 1.0, 3.0][: len(shape)]))
    plain = np.apply_along_axis(chosen, -1, probabilities, rules).astype(np.uint8)
    found = postprocess(probabilities, rules, affine)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, cleaned(plain, rules, voxel))


def test_without_rules_the_most_probable_label_is_chosen():
    probabilities = softmax((7, 6, 5), 4, 0)
    found = postprocess(probabilities, [LabelRule()] * 3, ISOTROPIC)
    np.testing.assert_array_equal(found, probabilities.argmax(axis=-1))
    np.testing.assert_array_equal(postprocess(probabilities, [], ISOTROPIC), found)


def test_a_single_probability_takes_a_threshold_too():
    probabilities = np.float32([[0.3, 0.5, 0.6]])[..., None]
    assert postprocess(probabilities, [LabelRule()], np.eye(3)).tolist() == [[0, 0, 1]]
    assert postprocess(probabilities, [LabelRule(0.3)], np.eye(3)).tolist() == [[1, 1, 1]]


def test_a_cavity_is_filled_and_what_is_open_or_of_another_label_stays():
    picture = """
        .......#######.
        .###...#.....#.
        .#.#...#.+.#.#.
        .###...#######.
        ..........##...
        ###......#.#...
        #.#.......##..."""
    mask = np.array([[".#+".index(c) for c in line] for line in picture.split()], np.uint8)
    filled = """
        .......#######.
        .###...#######.
        .###...##+####.
        .###...#######.
        ..........##...
        ###......###...
        #.#.......##..."""
    expected = np.array([[".#+".index(c) for c in line] for line in filled.split()], np.uint8)
    probabilities = np.eye(3, dtype=np.float32)[mask]
    found = postprocess(probabilities, [LabelRule(fill_holes=True), LabelRule()], np.eye(3))
    np.testing.assert_array_equal(found, expected)


def test_a_component_of_just_the_minimum_stays():
    probabilities = np.zeros((9, 1, 1, 1), np.float32)
    probabilities[[0, 1, 2, 5, 6]] = 1
    affine = np.diag([0.1, 1, 1, 1])  # whose product with 3 is 0.30000000000000004
    found = postprocess(probabilities, [LabelRule(minimum_volume=0.3)], affine)
    assert np.flatnonzero(found).tolist() == [0, 1, 2]
    found = postprocess(probabilities, [LabelRule(minimum_volume=0.2)], affine)
    assert np.flatnonzero(found).tolist() == [0, 1, 2, 5, 6]


def test_shear_does_not_make_a_component_larger():
    probabilities = np.ones((1, 1, 4, 1), np.float32)
    affine = np.eye(4)
    affine[1, 2] = 3.0
    assert postprocess(probabilities, [LabelRule(minimum_volume=4)], affine).all()
    assert not postprocess(probabilities, [LabelRule(minimum_volume=4.1)], affine).any()


def test_rules_are_one_for_each_label():
    with pytest.raises(InputError, match="2 rules for 1 label"):
        postprocess(softmax((3, 3), 2, 0), [LabelRule()] * 2, np.eye(3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0}, "threshold must be a number over 0 and up to 1, or null, not 0"),
        ({"threshold": float("nan")}, "threshold must be a number over 0"),
        ({"minimum_volume": -1}, "minimum_volume must be a volume of 0 or more, in mm³, not -1"),
        ({"largest_component": 1}, "largest_component must be true or false, not 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        LabelRule.from_json(values)


def test_rules_come_back_from_json():
    rule = LabelRule(0.4, 14.1, largest_component=True)
    assert LabelRule.from_json(rule.to_json()) == rule
    assert LabelRule.from_json({}) == LabelRule()


LABELS = ("background", "edema", "core")


def test_rules_are_changed_by_the_name_of_a_label_and_otherwise_stay():
    rules = (LabelRule(0.4, 14.1), LabelRule(fill_holes=True))
    changed = changed_rules(rules, LABELS, {"core": {"threshold": 0.3}})
    assert changed == (rules[0], LabelRule(0.3, fill_holes=True))
    changed = changed_rules((), LABELS, {None: {"minimum_volume": 3}, "core": {"threshold": 0.3}})
    assert changed == (LabelRule(None, 3), LabelRule(0.3, 3))
    assert changed_rules((), LABELS, {}) == ()


@pytest.mark.parametrize("name", ["cores", "background"])
def test_a_label_that_is_none_is_told(name):
    with pytest.raises(InputError, match=rf"unknown label '{name}'.* edema, core"):
        changed_rules((), LABELS, {name: {"threshold": 0.3}})
