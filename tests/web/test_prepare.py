"""The page prepares images, and brings answers back, as segjax's Pipeline does."""

import time

import numpy as np
import pytest

import segjax
from segjax.data import Pipeline
from segjax.grid import Grid, orientation
from segjax.volume import Volume
from tests.geometry import ORIENTATIONS, rigid
from tests.web.node import PageProblem

LANDMARKS = [0, 9, 19, 24, 30, 41, 52, 60, 68, 75, 80, 91, 100]

INTENSITIES = [
    {"step": "z-score"},
    {"step": "z-score", "where": "nonzero"},
    {"step": "z-score", "where": "above-mean"},
    {"step": "min-max"},
    {"step": "rescale"},
    {"step": "rescale", "low": 3, "high": 7.5},
    {"step": "clip-percentiles"},
    {"step": "clip-percentiles", "low": 10, "high": 61.3},
    {"step": "clip", "low": -0.1, "high": 70.3},
    {"step": "robust-z-score"},
    {"step": "robust-z-score", "where": "above-mean"},
    {"step": "tissue-peak"},
    {"step": "tissue-peak", "side": "upper"},
    {"step": "tissue-peak", "peak": "first", "side": "lower", "where": "all"},
    {"step": "tissue-peak", "peak": "last"},
]
HISTOGRAMS = [
    {"step": "histogram-standardization", "landmarks": [LANDMARKS]},
    {
        "step": "histogram-standardization",
        "landmarks": [LANDMARKS],
        "where": "above-mean",
        "cutoff": [0, 1],
    },
]
SPACES = [
    {"step": "reorient"},
    {"step": "reorient", "orientation": "SPL"},
    {"step": "resample"},
    {"step": "resample", "spacing": [0.7, 1.9, 1.1]},
    {"step": "resample", "spacing": [1, 1, 1], "tolerance": 0.6},
    {"step": "resize", "size": 5},
    {"step": "resize", "size": 31},
    {"step": "crop-or-pad", "shape": [9, 6, 13]},
    {"step": "crop-to-brain"},
    {"step": "crop-to-brain", "margin": 0},
]


def page_volume(data, affine):
    return {"data": data.ravel(), "shape": data.shape, "affine": affine.tolist()}


def array_of(volume):
    return volume["data"].reshape(volume["shape"])


def random_affine(rng, shear=0.3):
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.4, 3, 3), rng.uniform(-100, 100, 3))
    upper = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    affine[:3, :3] = affine[:3, :3] @ upper @ np.diag(rng.choice([-1, 1], 3))
    return affine


def random_image(rng, channels=1):
    """Make an image with a background of zeros around, and a few values that repeat."""
    shape = tuple(rng.integers(2, 14, 3)) if rng.random() < 0.9 else (5, 6, 1)
    data = rng.gamma(2, 50, (*shape, channels)).astype(np.float32)
    data = np.where(rng.random(data.shape) < 0.3, np.round(data), data)
    data[: shape[0] // 4] = 0
    data[..., shape[2] - shape[2] // 5 :, :] = 0
    return Volume(data.astype(np.float32), random_affine(rng))


def page_prepare(page_modules, image, pipeline, missing=()):
    channels = [
        None if c in missing else page_volume(image.data[..., c], image.affine)
        for c in range(image.channels)
    ]
    return page_modules.call("prepare/pipeline.prepare", channels, pipeline)


def assert_as_segjax(page_modules, image, pipeline, rng, labels=3):
    expected = Pipeline.from_json(pipeline)
    processed, grids = expected.trace(image)
    made = page_prepare(page_modules, image, pipeline)
    for c, channel in enumerate(made["channels"]):
        np.testing.assert_allclose(channel["affine"], processed.affine, rtol=0, atol=1e-9)
        scale = np.abs(processed.data[..., c]).max()
        np.testing.assert_allclose(
            array_of(channel), processed.data[..., c], rtol=0, atol=1e-6 * scale
        )
    answer = rng.dirichlet(np.ones(labels), processed.spatial_shape).astype(np.float32)
    back = expected.restore(processed.with_data(answer), image, grids=grids).data
    given = [page_volume(answer[..., n], processed.affine) for n in range(labels)]
    restored = page_modules.call("prepare/pipeline.restore", given, made["way"])
    assert len(restored) == labels
    for n, volume in enumerate(restored):
        np.testing.assert_array_equal(volume["affine"], image.affine)
        np.testing.assert_allclose(array_of(volume), back[..., n], rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", INTENSITIES + HISTOGRAMS + SPACES, ids=str)
def test_each_step_gives_what_segjax_gives(page_modules, step):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        assert_as_segjax(page_modules, random_image(rng), [step], rng)


@pytest.mark.parametrize("seed", range(40))
def test_pipelines_of_any_order_give_what_segjax_gives(page_modules, seed):
    rng = np.random.default_rng(100 + seed)
    channels = int(rng.integers(1, 4))
    steps = [rng.choice(SPACES + INTENSITIES) for _ in range(4)]
    image = random_image(rng, channels)
    pipeline = Pipeline.from_json(steps)
    try:
        pipeline.trace(image)
    except segjax.InputError:
        with pytest.raises(PageProblem, match="stepNothingToCrop"):
            page_prepare(page_modules, image, steps)
        return
    assert_as_segjax(page_modules, image, steps, rng, labels=int(rng.integers(1, 5)))


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_orientations_are_those_of_segjax(page_modules, letters):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        affine = random_affine(rng)
        assert page_modules.call("prepare/grid.orientationOf", affine.tolist()) == orientation(
            affine
        )
        assert_as_segjax(
            page_modules,
            Volume(rng.random((3, 4, 5, 1), np.float32), affine),
            [{"step": "reorient", "orientation": letters}],
            rng,
        )


@pytest.mark.parametrize("value", [0, 7, -3.25, 1e-30])
def test_constant_images_are_treated_as_segjax_does(page_modules, value):
    image = Volume(np.full((3, 4, 5, 1), value, np.float32), np.eye(4))
    for step in INTENSITIES:
        expected = Pipeline.from_json([step]).apply(image)
        made = page_prepare(page_modules, image, [step])["channels"][0]
        np.testing.assert_array_equal(array_of(made), expected.data[..., 0])


def test_histograms_of_one_value_are_refused(page_modules):
    image = Volume(np.full((3, 4, 5, 1), 5, np.float32), np.eye(4))
    with pytest.raises(PageProblem, match="stepFlatImage"):
        page_prepare(page_modules, image, [HISTOGRAMS[0]])
    nothing = {**HISTOGRAMS[0], "where": "nonzero"}
    with pytest.raises(PageProblem, match="stepNoVoxels"):
        page_prepare(page_modules, image.with_data(0 * image.data), [nothing])


def test_percentiles_are_those_of_numpy(page_modules):
    rng = np.random.default_rng(0)
    wanted = [0, 0.5, 1, 33.3, 50, 99.5, 100]
    for size in (1, 2, 3, 100, 70_001):
        for drawn in (
            rng.normal(0, 1e3, size),
            rng.integers(-3, 4, size),
            rng.random(size) * 1e-40,
        ):
            data = drawn.astype(np.float32)
            found = page_modules.call("prepare/percentiles.percentiles", data, wanted)
            np.testing.assert_allclose(found, np.percentile(data, wanted), rtol=1e-12, atol=0)


def test_missing_channels_are_zero_after_the_preprocessing(page_modules):
    rng = np.random.default_rng(5)
    image = random_image(rng, 3)
    steps = [{"step": "crop-to-brain"}, {"step": "resample"}, {"step": "z-score"}]
    holes = image.with_data(image.data * np.float32([1, 0, 1]))
    expected = Pipeline.from_json(steps).apply(holes).data
    made = page_prepare(page_modules, image, steps, missing={1})["channels"]
    assert not made[1]["data"].any()
    for c in (0, 2):
        np.testing.assert_allclose(array_of(made[c]), expected[..., c], rtol=0, atol=1e-5)
    with pytest.raises(PageProblem, match="allChannelsMissing"):
        page_prepare(page_modules, image, steps, missing={0, 1, 2})


def test_brains_that_were_extracted_are_masked_as_segjax_does(page_modules):
    rng = np.random.default_rng(1)
    image = random_image(rng, 2)
    step = {"step": "brain-extraction", "method": "zero-background", "channel": 1}
    holes = image.with_data(np.where(rng.random(image.data.shape) < 0.4, 0, image.data))
    assert_as_segjax(page_modules, holes, [step], rng)
    with pytest.raises(PageProblem, match="stepNoBrain"):
        page_prepare(page_modules, image.with_data(0 * image.data), [step])


def test_what_a_browser_cannot_run_is_named_before_anything_starts(page_modules):
    steps = [
        {"step": "n4"},
        {"step": "brain-extraction", "method": "hd-bet"},
        {"step": "brain-extraction"},
        {"step": "brain-extraction", "method": "zero-background"},
        {"step": "z-score"},
        {"step": "sharpen"},
        {"step": "toString"},
    ]
    named = ["n4", "brain-extraction (hd-bet)", "brain-extraction (classical)"]
    named += ["sharpen", "toString"]
    assert page_modules.call("prepare/pipeline.applicable", steps) == named
    image = Volume(np.ones((2, 2, 2, 1), np.float32), np.eye(4))
    with pytest.raises(PageProblem) as caught:
        page_prepare(page_modules, image, steps)
    assert caught.value.values == {"steps": ", ".join(named)}


@pytest.mark.parametrize(
    ("step", "key", "field"),
    [
        ({"step": "z-score", "over": 3}, "stepField", "over"),
        ({"step": "min-max", "low": 3}, "stepField", "low"),
        ({"step": "z-score", "where": "some"}, "stepValue", "where"),
        ({"step": "reorient", "orientation": "RRS"}, "stepValue", "orientation"),
        ({"step": "reorient", "orientation": 3}, "stepValue", "orientation"),
        ({"step": "resample", "spacing": [1, 1]}, "stepValue", "spacing"),
        ({"step": "resample", "spacing": [1, 1, 0]}, "stepValue", "spacing"),
        ({"step": "resample", "tolerance": 1}, "stepValue", "tolerance"),
        ({"step": "resize"}, "stepValue", "size"),
        ({"step": "resize", "size": 1.5}, "stepValue", "size"),
        ({"step": "crop-or-pad"}, "stepValue", "shape"),
        ({"step": "crop-or-pad", "shape": [2, 2, 2.5]}, "stepValue", "shape"),
        ({"step": "crop-to-brain", "margin": -1}, "stepValue", "margin"),
        ({"step": "rescale", "low": 2}, "stepValue", "high"),
        ({"step": "clip-percentiles", "high": 101}, "stepValue", "high"),
        ({"step": "clip", "low": 1}, "stepValue", "high"),
        ({"step": "clip", "low": 1, "high": 1}, "stepValue", "high"),
        ({"step": "tissue-peak", "peak": "middle"}, "stepValue", "peak"),
        ({"step": "tissue-peak", "side": "left"}, "stepValue", "side"),
        ({"step": "robust-z-score", "where": 1}, "stepValue", "where"),
        ({"step": "histogram-standardization"}, "stepValue", "landmarks"),
        ({"step": "histogram-standardization", "landmarks": [[1, 2]]}, "stepValue", "landmarks"),
        ({**HISTOGRAMS[0], "cutoff": [0.2, 1]}, "stepValue", "cutoff"),
    ],
)
def test_fields_that_are_unknown_or_wrong_are_refused_by_name(page_modules, step, key, field):
    with pytest.raises(PageProblem) as caught:
        page_modules.call("prepare/pipeline.applicable", [step])
    assert caught.value.key == key
    assert caught.value.values["step"] == step["step"]
    assert caught.value.values["field"] == field


def test_spacings_that_no_browser_can_hold_are_refused(page_modules):
    image = Volume(np.ones((50, 50, 50, 1), np.float32), np.diag([9, 9, 9, 1.0]))
    step = {"step": "resample", "spacing": [0.01, 0.01, 0.01]}
    with pytest.raises(PageProblem, match="stepTooManyVoxels"):
        page_prepare(page_modules, image, [step])


def test_same_grids_are_those_of_segjax(page_modules):
    grid = Grid((5, 6, 7), rigid())
    for shift, same in ((0, True), (5e-5, True), (2e-4, False)):
        affine = grid.affine.copy()
        affine[:3, 3] += shift * affine[:3, 0]
        one, other = ({"shape": grid.shape, "affine": a.tolist()} for a in (grid.affine, affine))
        assert page_modules.call("prepare/grid.isSameGrid", one, other) is same


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "reorient"}, {"step": "resample", "tolerance": 0.05}, {"step": "z-score"}],
        [
            {"step": "reorient", "orientation": "LPS"},
            {"step": "crop-to-brain"},
            {"step": "resample", "spacing": [1.2, 0.9, 2]},
            {"step": "clip-percentiles"},
            {"step": "z-score", "where": "nonzero"},
            {"step": "crop-or-pad", "shape": [160, 160, 80]},
        ],
        [
            {"step": "crop-to-brain"},
            {"step": "tissue-peak", "side": "upper"},
            {"step": "clip", "low": -5, "high": 8},
        ],
        [{"step": "reorient", "orientation": "PLS"}, {"step": "resize", "size": 160}],
        [{"step": "robust-z-score"}, {"step": "tissue-peak", "peak": "last"}],
    ],
)
def test_a_real_flair_is_prepared_as_segjax_does(page_modules, data_dir, steps):
    flair = segjax.read(data_dir / "ms_lesions" / "patient07" / "flair.nii.gz")
    image = flair.with_data(flair.channels_last.astype(np.float32))
    start = time.perf_counter()
    assert_as_segjax(page_modules, image, steps, np.random.default_rng(0), labels=2)
    assert time.perf_counter() - start < 120
