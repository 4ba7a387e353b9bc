import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Resample, ZScore
from segjax.evaluate.scores import Score
from segjax.train.config import TrainConfig
from segjax.train.scoring import Scorer, count_overlaps
from segjax.train.validate import validate_case
from segjax.volume import Volume

LABELS = ("background", "core", "rim")


def case(name, shape=(8, 8), pipeline=None, classes=3, ignored=0.0):
    """Make a case of noise and a label map of noise, of which a part is ignored."""
    rng = np.random.default_rng(sum(map(ord, name)))
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    if ignored:
        truth[rng.random(shape) < ignored] = IGNORED
    raw = Volume(truth, np.diag([2.0, 1, 1]))
    image = raw.with_data(rng.standard_normal(shape).astype(np.float32))
    processed, grids = (pipeline or Pipeline()).trace(image)
    label = (pipeline or Pipeline()).apply_label(raw, grids)
    return LoadedCase(name, processed.channels_last, label.data, image, raw, grids)


def config(**changes):
    return TrainConfig("m", labels=LABELS, **{"patch_size": (8, 8), "overlap": 0.5, **changes})


@jax.jit
def predict(weights, images):
    return jax.nn.softmax(images * weights, axis=-1)


WEIGHTS = jnp.array([-1.0, 0.3, 1.0])


def near(scores):
    return {
        label: Score(one.metric, pytest.approx(one.value, abs=1e-6))
        for label, one in scores.items()
    }


def one_by_one(cases, config, predict, weights):
    return {c.name: validate_case(c, lambda x: predict(weights, x), config) for c in cases}


def test_whole_images_score_as_they_do_one_by_one():
    cases = [case(name) for name in "abcde"]
    scorer = Scorer(cases, config(), predict, batch=2)
    expected = one_by_one(cases, config(), predict, WEIGHTS)
    found = scorer.scores(WEIGHTS)
    assert list(found) == list(expected)
    for name in expected:
        assert found[name] == near(expected[name])


@pytest.mark.parametrize("resampled", [False, True])
def test_images_of_all_kinds_score_as_they_do_one_by_one(resampled):
    steps = Pipeline((ZScore(), Resample((1.0, 1.0))) if resampled else (ZScore(),))
    settings = config(pipeline=steps)
    cases = [case("whole", (8, 8), steps), case("large", (12, 9), steps), case("b", (4, 8), steps)]
    found = Scorer(cases, settings, predict).scores(WEIGHTS)
    expected = one_by_one(cases, settings, predict, WEIGHTS)
    for name in expected:
        assert found[name] == near(expected[name])


def test_one_output_means_foreground_over_one_half():
    cases = [case("a", classes=2), case("b", classes=2)]
    settings = TrainConfig("m", (8, 8), activation="sigmoid")
    sigmoid = jax.jit(lambda weight, images: jax.nn.sigmoid(images * weight))
    found = Scorer(cases, settings, sigmoid).scores(jnp.float32(1.5))
    assert found == one_by_one(cases, settings, sigmoid, jnp.float32(1.5))


def test_what_is_found_where_there_is_nothing_is_told_apart():
    probabilities = jnp.array([[[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]])
    counts = count_overlaps(probabilities, jnp.array([[0, 0]]), 3)
    assert counts.tolist() == [[[0, 1, 0], [0, 0, 0]]]
    empty = case("a", classes=1)
    scores = Scorer([empty], config(), predict).scores(WEIGHTS)
    assert scores == one_by_one([empty], config(), predict, WEIGHTS)
    assert {one.metric for one in scores["a"].values()} == {"false_positive_pixels"}
    assert scores["a"]["core"].value + scores["a"]["rim"].value > 0


def test_ignored_voxels_are_neither_found_nor_missed_nor_invented():
    foreground = jnp.array([[[0.9], [0.2], [0.8], [0.7], [0.3]]])
    truths = jnp.array([[1, 1, 0, IGNORED, IGNORED]], jnp.uint8)
    assert count_overlaps(foreground, truths, 2).tolist() == [[[1, 2, 2]]]


def test_whole_images_with_ignored_voxels_score_as_they_do_one_by_one():
    cases = [case(name, ignored=0.4) for name in "abc"]
    cases.append(case("large", (12, 9), ignored=0.4))
    expected = one_by_one(cases, config(), predict, WEIGHTS)
    found = Scorer(cases, config(), predict).scores(WEIGHTS)
    for name in expected:
        assert found[name] == near(expected[name])


def test_nothing_to_score_gives_no_scores():
    assert Scorer([], config(), predict).scores(WEIGHTS) == {}
