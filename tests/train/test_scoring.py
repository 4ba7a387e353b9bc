import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.labels import IGNORED
from segjax.data.loaded import LoadedCase
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Resample, ZScore
from segjax.evaluate.scores import Score
from segjax.train import scoring
from segjax.train.config import TrainConfig
from segjax.train.scoring import Scorer, count_overlaps, validation_batch
from segjax.train.validate import validate_cases
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
    found = validate_cases(cases, lambda x: predict(weights, x), config)
    return {case.name: scores for case, scores in zip(cases, found, strict=True)}


@pytest.mark.parametrize("kept", [False, True])
def test_whole_images_score_as_they_do_one_by_one(monkeypatch, kept):
    monkeypatch.setattr(scoring, "_fits", lambda size, device: kept)
    cases = [case(name) for name in "abcde"]
    scorer = Scorer(cases, config(batch_size=2), predict)
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


class Traced:
    """A network that counts how often it is traced, and for which batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, weights, images):
        self.batches.append(images.shape)
        return jax.nn.softmax(images * weights, axis=-1)


def test_one_program_serves_all_cases_of_all_shapes_and_validations():
    traced = Traced()
    shapes = [(12, 9), (9, 16), (5, 5), (17, 8), (8, 9)]
    cases = [case(f"c{number}", shape) for number, shape in enumerate(shapes)]
    scorer = Scorer(cases, config(batch_size=3), jax.jit(traced))
    for weights in (WEIGHTS, 2 * WEIGHTS):
        scorer.scores(weights)
    assert traced.batches == [(3, 8, 8, 1)]


def test_one_program_serves_all_whole_images():
    traced = Traced()
    scorer = Scorer([case(name) for name in "abcde"], config(batch_size=2), traced)
    for weights in (WEIGHTS, 2 * WEIGHTS):
        scorer.scores(weights)
    assert traced.batches == [(2, 8, 8, 1)]


def test_a_case_is_segmented_by_the_program_of_the_validation():
    traced = Traced()
    cases = [case("a", (12, 9)), case("b", (17, 8))]
    scorer = Scorer(cases, config(batch_size=3), jax.jit(traced))
    scorer.scores(WEIGHTS)
    mask = scorer.segment(WEIGHTS, cases[0])
    assert traced.batches == [(3, 8, 8, 1)]
    expected = np.argmax(cases[0].image * np.asarray(WEIGHTS), -1)
    np.testing.assert_array_equal(mask, expected)


def test_images_are_read_again_for_each_validation_unless_they_stay_on_the_device(monkeypatch):
    def reads(kept):
        monkeypatch.setattr(scoring, "_fits", lambda size, device: kept)
        read = []

        class Read(LoadedCase):
            def loaded(self):
                read.append(self.name)
                return self

        cases = [Read(**vars(case(name))) for name in "abc"]
        scorer = Scorer(cases, config(), predict)
        scores = [scorer.scores(WEIGHTS) for _ in range(2)]
        assert scores[0] == scores[1]
        return "".join(read)

    assert reads(kept=True) == "abc"
    assert reads(kept=False) == "abcabc"


@pytest.mark.parametrize(
    ("memory", "size", "fits"), [(800, 100, True), (800, 101, False), (None, 1, False)]
)
def test_images_stay_where_they_take_an_eighth_of_an_accelerators_memory(
    monkeypatch, memory, size, fits
):
    (device,) = jax.local_devices()[:1]
    assert not scoring._fits(1, device)  # the memory of a CPU is the machine's
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(scoring, "device_bytes", lambda device: memory and (memory, "GPU"))
    assert scoring._fits(size, device) is fits


@pytest.mark.parametrize("shape", [(8, 8), (12, 9)])
def test_a_validation_ends_before_the_next_batch_where_it_is_asked_to(shape):
    asked = []

    def check():
        asked.append(True)
        if len(asked) == 2:
            raise KeyboardInterrupt

    scorer = Scorer([case("a", shape), case("b", shape)], config(batch_size=1), predict)
    with pytest.raises(KeyboardInterrupt):
        scorer.scores(WEIGHTS, check)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("backend", "patches", "devices", "expected"),
    [
        ("cpu", 100, 1, 8),
        ("cpu", 3, 1, 3),
        ("cpu", 9, 1, 5),  # 2 calls of 5, not of 8
        ("gpu", 100, 1, 15),  # 7 calls of at most 16
        ("gpu", 100, 4, 4),  # 25 calls of at most 4
        ("gpu", 0, 1, 1),
    ],
)
def test_batch_fills_an_accelerator_and_no_call_in_vain(
    monkeypatch, backend, patches, devices, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert validation_batch(config(batch_size=8), patches, devices) == expected
