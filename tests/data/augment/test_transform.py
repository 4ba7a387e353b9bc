"""What all transforms share: NumPy and JAX agree, labels gain no values, chances hold."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields
from functools import cache
from typing import ClassVar

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from segjax.codec import from_json, to_json
from segjax.data.augment import (
    Affine,
    Anisotropy,
    BiasField,
    Blur,
    Contrast,
    Elastic,
    Flip,
    Gamma,
    Ghosting,
    Motion,
    Noise,
    ScaleIntensity,
    Spike,
    Transform,
    apply_all,
    augment_patch,
    draw_all,
)
from segjax.data.augment.transform import IntensityTransform, for_spacing
from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.registry import registry
from tests.data.augment.doubling import Doubling

TRANSFORMS = [
    Affine(degrees=(-40.0, 40.0), translation=(-1.0, 1.0)),
    Elastic(max_displacement=(2.0,), locked_borders=1),
    Flip(axes=(0, 1), probability=0.9),
    Noise(std=(0.1, 0.5), probability=1.0),
    ScaleIntensity(factor=(0.5, 2.0), shift=(-1.0, 1.0), probability=1.0),
    Gamma(probability=1.0),
    BiasField(probability=1.0),
    Blur(probability=1.0),
    Ghosting(probability=1.0, restore=(0.0, 0.5)),
    Motion(translation=(-2.0, 2.0), probability=1.0),
    Spike(num_spikes=(1, 3), probability=1.0),
    Anisotropy(scalars_only=False, probability=1.0),
    Contrast(probability=1.0),
]
KINDS = [type(transform) for transform in TRANSFORMS]
each = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: t.name)


def make_pair(seed, channels=2):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((6, 7, 5, channels)).astype(np.float32)
    return image, rng.choice([0, 1, 2, 3, IGNORED], (6, 7, 5)).astype(np.uint8)


@cache
def compiled(transform):
    return jax.jit(
        lambda image, label, parameters: (
            transform.apply(image, parameters, jnp),
            transform.apply_label(label, parameters, jnp),
        )
    )


@each
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_numpy_and_jax_agree(transform, seed):
    image, label = make_pair(seed)
    parameters = transform.draw(np.random.default_rng(seed), image.shape)
    if parameters is None:
        return
    expected = transform.apply(image, parameters, np)
    result, result_label = compiled(transform)(image, label, parameters)
    assert isinstance(result, jax.Array)
    assert result.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    expected = transform.apply_label(label, parameters, np)
    np.testing.assert_array_equal(result_label, expected)


@each
@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
@pytest.mark.parametrize("xp", [np, jnp])
def test_whole_and_short_numbers_are_worked_on_as_float32(transform, dtype, xp):
    image = np.random.default_rng(0).integers(150, 250, (6, 7, 5, 2)).astype(dtype)
    label = make_pair(0)[1]
    parameters = [transform.draw(np.random.default_rng(1), image.shape)]
    expected, _ = apply_all([transform], parameters, image.astype(np.float32), label, xp)
    result, _ = apply_all([transform], parameters, image, label, xp)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("transform", TRANSFORMS[5:], ids=lambda t: t.name)
def test_transform_of_intensities_alone_takes_whole_numbers_too(transform):
    image = np.random.default_rng(0).integers(150, 250, (6, 7, 5, 2)).astype(np.uint8)
    parameters = transform.draw(np.random.default_rng(1), image.shape)
    expected = transform.apply(image.astype(np.float32), parameters, np)
    np.testing.assert_array_equal(transform.apply(image, parameters, np), expected)


@each
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_label_maps_keep_type_shape_and_gain_no_values(transform, seed):
    image, label = make_pair(seed)
    parameters = transform.draw(np.random.default_rng(seed), image.shape)
    if parameters is None:
        return
    result = transform.apply_label(label, parameters, np)
    assert (result.shape, result.dtype) == (label.shape, label.dtype)
    assert set(result.ravel().tolist()) <= set(label.ravel().tolist())


@each
def test_transforms_run_under_jit_and_vmap(transform):
    pairs = [make_pair(seed)[0] for seed in range(2)]
    rngs = [np.random.default_rng(seed) for seed in (0, 3)]
    drawn = [transform.draw(rng, pairs[0].shape) for rng in rngs]
    assert all(drawn)
    stacked = {key: np.stack([d[key] for d in drawn]) for key in drawn[0]}
    apply = jax.jit(jax.vmap(lambda image, p: transform.apply(image, p, jnp)))
    for result, image, p in zip(apply(np.stack(pairs), stacked), pairs, drawn, strict=True):
        np.testing.assert_allclose(result, transform.apply(image, p, np), rtol=1e-5, atol=1e-5)


@each
def test_identity_parameters_change_nothing_and_have_the_form_of_drawn_ones(transform):
    image, label = make_pair(3)
    nothing = transform.identity(image.shape)
    drawn = transform.draw(np.random.default_rng(3), image.shape)
    assert {k: (np.shape(v), np.asarray(v).dtype) for k, v in nothing.items()} == {
        k: (np.shape(v), np.asarray(v).dtype) for k, v in drawn.items()
    }
    in_numpy = transform.apply(image, nothing, np), transform.apply_label(label, nothing, np)
    for same_image, same_label in (in_numpy, compiled(transform)(image, label, nothing)):
        np.testing.assert_allclose(same_image, image, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(same_label, label)


@each
def test_draws_repeat_by_seed(transform):
    one, other = (transform.draw(np.random.default_rng(5), (9, 8, 7, 2)) for _ in range(2))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_draws_repeat_in_another_process():
    code = (
        "import json, sys, numpy as np\n"
        "from segjax.data.augment import Transform, draw_all\n"
        "from segjax.codec import from_json\n"
        "transforms = from_json(tuple[Transform, ...], json.load(sys.stdin))\n"
        "drawn = draw_all(np.random.default_rng(5), (9, 8, 7, 1), transforms)\n"
        "print(repr([float(value.sum()) for p in drawn for value in p.values()]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(to_json(TRANSFORMS)),
        capture_output=True,
        text=True,
        check=True,
    )
    drawn = draw_all(np.random.default_rng(5), (9, 8, 7, 1), TRANSFORMS)
    assert other.stdout.strip() == repr([float(v.sum()) for p in drawn for v in p.values()])


def slice_pair():
    rng = np.random.default_rng(8)
    image = rng.standard_normal((9, 11, 2)).astype(np.float32)
    return image, rng.choice([0, 1, IGNORED], (9, 11)).astype(np.uint8)


def assert_slice_is_changed_as_image(transform, axis):
    image, label = slice_pair()
    volume, map_of_volume = np.expand_dims(image, axis), np.expand_dims(label, axis)
    (flat, flat_label), (thick, thick_label) = (
        augment_patch(np.random.default_rng(4), *pair, [transform])
        for pair in ((image, label), (volume, map_of_volume))
    )
    assert not np.array_equal(flat, image)
    np.testing.assert_allclose(thick.squeeze(axis), flat, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(thick_label.squeeze(axis), flat_label)


@each
def test_slice_of_a_volume_is_changed_as_an_image_of_two_axes(transform):
    assert_slice_is_changed_as_image(transform, 2)


@pytest.mark.parametrize(
    "transform",
    [t for t in TRANSFORMS if not isinstance(t, Flip | Motion)],  # those count or point the axes
    ids=lambda t: t.name,
)
def test_slice_along_the_first_axis_is_changed_as_an_image_too(transform):
    assert_slice_is_changed_as_image(transform, 0)


@pytest.mark.parametrize("axis", range(3))
def test_lesion_of_a_slice_keeps_its_area_and_the_slice_its_tissue(axis):
    places = np.indices((48, 48)) - 23.5
    label = np.expand_dims(((places**2).sum(axis=0) < 64).astype(np.uint8), axis)
    image = np.ones((*label.shape, 1), np.float32)
    chain = [Affine(fill=-1.0), Elastic(max_displacement=(4.0,), fill=-1.0)]
    areas, filled = [], []
    for seed in range(40):
        result, moved = augment_patch(
            np.random.default_rng(seed), image, label, chain, spacing=(1.0, 1.0, 1.0)
        )
        areas.append(moved.sum() / label.sum())
        filled.append((result < 0).mean())
    assert 0.95 < np.mean(areas) < 1.1  # a factor of 0.9 to 1.1 along each axis: 1 on average
    assert min(areas) > 0.6
    assert np.mean(filled) < 0.1


def test_own_spacing_of_a_transform_stays():
    own, other = Affine(spacing=(2.0, 2.0)), Elastic()
    assert for_spacing([own, other], (1.0, 3.0)) == (own, Elastic(spacing=(1.0, 3.0)))
    assert for_spacing([own, other], ()) == (own, other)


@pytest.mark.parametrize("xp", [np, jnp])
def test_transform_without_parameters_is_applied_unless_it_drew_none(xp):
    image, label = slice_pair()
    for parameters, factor in (({}, 2), (None, 1)):
        result, _ = apply_all([Doubling()], [parameters], image, label, xp)
        np.testing.assert_array_equal(result, factor * image)


def test_consecutive_spatial_transforms_interpolate_once():
    image = np.random.default_rng(0).random((16, 16, 1)).astype(np.float32)
    label = (image[..., 0] > 0.5).astype(np.uint8)
    right, left = (Affine(scales=(1, 1), degrees=(0, 0), translation=(d, d)) for d in (0.5, -0.5))
    parameters = draw_all(np.random.default_rng(0), image.shape, [right, left])
    result, same = apply_all([right, left], parameters, image, label, np)
    np.testing.assert_allclose(result, image, atol=1e-6)  # two interpolations would blur it
    np.testing.assert_array_equal(same, label)


def test_transforms_between_and_after_elastic_ones_keep_their_order():
    image, label = make_pair(0)
    chain = [Elastic(max_displacement=(1.0,)), Affine(), ScaleIntensity(probability=1.0), Affine()]
    parameters = draw_all(np.random.default_rng(1), image.shape, chain)
    result, labels = apply_all(chain, parameters, image, label, np)
    for transform, drawn in zip(chain, parameters, strict=True):
        image = transform.apply(image, drawn, np)
        label = transform.apply_label(label, drawn, np)
    np.testing.assert_allclose(result, image, atol=1e-6)
    np.testing.assert_array_equal(labels, label)


@each
def test_inputs_are_left_as_they_were(transform):
    image, label = make_pair(0)
    before = image.copy(), label.copy()
    augment_patch(np.random.default_rng(0), image, label, [transform])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@each
def test_probability_zero_draws_nothing(transform):
    rng = np.random.default_rng(0)
    never = type(transform)(probability=0.0)
    assert all(never.draw(rng, (4, 4, 1)) is None for _ in range(20))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Flip])
def test_transforms_are_drawn_as_often_as_their_probability_says(kind):
    rng = np.random.default_rng(0)
    drawn = [kind(probability=0.25).draw(rng, (2, 2, 1)) is not None for _ in range(2000)]
    assert abs(np.mean(drawn) - 0.25) < 0.03


def test_patches_go_through_all_transforms_in_order():
    image, label = make_pair(0)
    double = ScaleIntensity(factor=(2.0, 2.0), probability=1.0)
    add = ScaleIntensity(factor=(1.0, 1.0), shift=(1.0, 1.0), probability=1.0)
    result, same = augment_patch(np.random.default_rng(0), image, label, [double, add])
    np.testing.assert_allclose(result, 2 * image + 1, rtol=1e-6)
    np.testing.assert_array_equal(same, label)


@each
def test_transforms_are_of_one_kind(transform):
    assert isinstance(transform, Transform)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_impossible_probabilities_are_refused(kind, probability):
    with pytest.raises(InputError, match=r"probability .* out of range"):
        kind(probability=probability)


def test_json_gives_the_same_transforms_back():
    text = json.dumps(to_json(TRANSFORMS))
    assert from_json(tuple[Transform, ...], json.loads(text)) == tuple(TRANSFORMS)
    assert {transform.name for transform in TRANSFORMS} <= set(registry("transform").names())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"transform": "warp"}, "unknown transform 'warp': known are affine, "),
        ({"axes": [0]}, "unknown transform {'axes': \\[0\\]}: known are affine, "),
        ({"transform": "noise", "sigma": 1}, "'noise': unknown field 'sigma': known are .*std"),
        ({"transform": "noise", "std": "big"}, "'noise': std must be a list of 2, not 'big'"),
        ({"transform": "noise", "std": 1}, "'noise': std must be a list of 2, not 1"),
        ({"transform": "flip", "axes": ["left"]}, r"'flip': axes\[0\] must be a whole number"),
        ({"transform": "flip", "axes": [-1]}, "'flip': .*must be different numbers, 0 or more"),
    ],
)
def test_json_that_cannot_be_understood_is_named(step, message):
    with pytest.raises(InputError, match=message):
        Transform.from_json(step)


@dataclass(frozen=True)
class Brighten(IntensityTransform):
    name: ClassVar[str] = "brighten"
    most: float = 0.5

    def parameters(self, rng, shape):
        return {"added": np.float32(rng.uniform(0, self.most))}

    def identity(self, shape):
        return {"added": np.float32(0)}

    def apply(self, image, parameters, xp):
        return image + parameters["added"]


def test_transform_of_others_is_known_by_its_name_drawn_by_its_chance_and_applied():
    image, label = make_pair(0)
    (own,) = from_json(tuple[Transform, ...], [{"transform": "brighten", "most": 2.0}])
    assert own == Brighten(most=2.0)
    rng = np.random.default_rng(0)
    drawn = [own.draw(rng, image.shape) for _ in range(1000)]
    assert 0.45 < np.mean([one is not None for one in drawn]) < 0.55
    result, same = augment_patch(rng, image, label, [Brighten(most=2.0, probability=1.0)])
    assert 0 < (result - image).max() <= 2
    np.testing.assert_array_equal(same, label)
    with pytest.raises(InputError, match="brighten: probability 2 is out of range"):
        Brighten(probability=2)


def test_json_of_transforms_is_that_of_the_files_there_are():
    assert to_json((Flip(axes=(0, 1)), Blur(std=(0.0, 1.0)))) == [
        {"transform": "flip", "axes": [0, 1], "probability": 0.5},
        {"transform": "blur", "std": [0.0, 1.0], "spacing": [], "probability": 0.5},
    ]
    for transform in TRANSFORMS:
        assert list(transform.to_json())[:: len(fields(transform))] == ["transform", "probability"]
