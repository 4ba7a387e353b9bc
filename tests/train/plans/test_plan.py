"""Settings from data: what is trained on which cases, and why."""

import json
import warnings
from pathlib import Path

import pytest

from segjax.data.cache.cache import CachedCase, open_cache, preprocess
from segjax.data.grouping import Grouping
from segjax.data.io.formats import read_image
from segjax.data.labels import asked_coding
from segjax.data.layouts import find_data
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropOrPad, HistogramStandardization, Reorient, ZScore
from segjax.data.splits import Folding, Split
from segjax.errors import InputError
from segjax.train.plans.plan import plan, plan_folds, read_settings

PIPELINE = Pipeline((Reorient("LPS"), CropOrPad((16, 12, 16)), ZScore()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=5, shape=(16, 16, 16))
    return folder


@pytest.fixture(scope="module")
def cache(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "cache"
    preprocess(find_data(data), PIPELINE, folder, workers=1)
    return folder


def test_settings_replace_defaults_and_later_ones_win(data):
    config = plan(data, {"epochs": 3, "seed": 1}, {"epochs": 4}).config
    assert (config.model, config.epochs, config.seed) == ("mpunet++", 4, 1)


def test_optimizer_is_merged_field_by_field(data):
    default = plan(data).config.optimizer
    changed = plan(
        data, {"optimizer": {"learning_rate": 0.5}}, {"optimizer": {"schedule": "cosine"}}
    ).config.optimizer
    assert (changed.learning_rate, changed.schedule) == (0.5, "cosine")
    assert changed.weight_decay == default.weight_decay


def test_preprocessing_among_the_settings_decides_the_patch(data):
    steps = [{"step": "crop-or-pad", "shape": [40, 16, 16]}]
    config = plan(data, {"pipeline": steps}).config
    assert config.pipeline.to_json() == steps
    assert config.patch_size == (40, 16, 16)


def test_split_has_the_asked_sizes_and_does_not_overlap(data):
    split = plan(data, validation=0.2, test=0.4).split
    assert (len(split.train), len(split.validation), len(split.test)) == (2, 1, 2)
    assert len({*split.train, *split.validation, *split.test}) == 5


def test_validation_cases_are_those_of_the_split(data):
    planned = plan(data, validation=0.4)
    assert tuple(case.name for case in planned.cases("validation")) == planned.split.validation


def test_unknown_settings_are_named(data):
    with pytest.raises(InputError, match="learning_speed"):
        plan(data, {"learning_speed": 1})
    with pytest.raises(InputError, match="optimizer must be an object with 'name', not 'adam'"):
        plan(data, {"optimizer": "adam"})


def test_settings_are_read_from_the_config_of_a_run(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"segjax": "0.1.0", "epochs": 5}))
    assert read_settings(path) == {"epochs": 5}


def test_settings_of_a_sweep_are_what_its_members_share(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"base": {"epochs": 5}, "kernels": [3], "alphas": [0.5]}))
    assert read_settings(path) == {"epochs": 5}


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_unreadable_settings_are_named(text, tmp_path):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        read_settings(path)


# Training on what was preprocessed


def test_cache_gives_a_training_its_pipeline_labels_shapes_and_channels(cache, data):
    planned = plan(cache, validation=0.4)
    raw = plan(data, {"pipeline": PIPELINE.to_json()}, look=False, validation=0.4)
    assert planned.config == raw.config
    assert planned.split == raw.split
    assert all(isinstance(case, CachedCase) for case in planned.dataset.cases)
    names = [case.name for case in planned.cases("validation")]
    assert names == list(planned.split.validation)
    images = [case.images[0].name for case in planned.cases("validation")]
    assert images == [case.images[0].name for case in raw.cases("validation")]


def test_what_label_values_stand_for_in_a_cache_is_kept_in_the_settings(tmp_path):
    coding = asked_coding(["1=tumour", "7=ignore"])
    write_dataset(tmp_path / "heads", count=3, shape=(16, 16, 16))
    preprocess(find_data(tmp_path / "heads", coding=coding), PIPELINE, tmp_path / "cache")
    config = plan(tmp_path / "cache").config
    assert (config.label_values, config.labels) == (coding, ("background", "tumour"))
    older = {**config.to_json(), "label_values": None}
    assert plan(tmp_path / "cache", older).config.label_values is None


def test_cache_of_other_steps_than_asked_for_is_refused(cache):
    assert plan(cache, {"pipeline": PIPELINE.to_json()}).config.pipeline == PIPELINE
    with pytest.raises(InputError, match="was preprocessed by other steps"):
        plan(cache, {"pipeline": [{"step": "min-max"}]})


NYUL = Pipeline((HistogramStandardization(), ZScore()))


def test_steps_learn_from_the_training_cases_alone(data):
    planned = plan(data, {"pipeline": NYUL.to_json(), "seed": 3}, validation=0.4)
    cases = planned.cases("train")
    expected = NYUL.fit(lambda: [read_image(case.images) for case in cases])
    assert planned.config.pipeline == expected
    assert len(cases) == 3


def test_nothing_learned_is_nothing_to_keep(data):
    for settings in ({}, {"pipeline": NYUL.to_json()}):
        with pytest.raises(InputError, match="--keep-fitted is for what the pipeline"):
            plan(data, settings, keep_fitted=True)


def test_steps_of_another_run_learn_anew_unless_they_are_to_stay(data):
    learned = plan(data, {"pipeline": NYUL.to_json(), "seed": 3}, validation=0.4).config
    again = plan(data, learned.to_json(), {"seed": 1}, validation=0.4)
    cases = again.cases("train")
    expected = NYUL.fit(lambda: [read_image(case.images) for case in cases])
    assert again.config.pipeline == expected != learned.pipeline
    kept = plan(data, learned.to_json(), {"seed": 1}, validation=0.4, keep_fitted=True)
    assert kept.config.pipeline == learned.pipeline


def test_cache_is_known_by_its_steps_whatever_they_learned(data, tmp_path):
    preprocess(find_data(data), NYUL, tmp_path / "cache", workers=1)
    other = plan(data, {"pipeline": NYUL.to_json()}, validation=0.4).config.to_json()
    made = open_cache(tmp_path / "cache").pipeline
    with pytest.warns(UserWarning, match="learned from"):
        assert plan(tmp_path / "cache", other).config.pipeline == made
    with pytest.raises(InputError, match="was preprocessed by other steps"):
        plan(tmp_path / "cache", other, keep_fitted=True)


def test_given_split_is_taken(data):
    split = Split(train=("ms_004", "ms_001"), validation=("ms_000",))
    assert plan(data, split=split).split == split
    with pytest.raises(InputError, match="the split names case 'ms_009'"):
        plan(data, split=Split(train=("ms_009",), validation=()))


def test_preprocessing_that_saw_the_validation_cases_is_pointed_out(data, tmp_path):
    split = Split(train=("ms_000", "ms_001", "ms_002"), validation=("ms_003", "ms_004"))
    for name, given in (("all", None), ("train", split)):
        preprocess(find_data(data), NYUL, tmp_path / name, workers=1, split=given)
    with pytest.warns(UserWarning, match="learned from 2 of the cases that are kept apart"):
        plan(tmp_path / "all", split=split)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planned = plan(tmp_path / "train", {"pipeline": NYUL.to_json()}, split=split)
    assert planned.config.pipeline == open_cache(tmp_path / "train").pipeline


def test_unlabelled_cache_cannot_be_trained_on(data, tmp_path):
    preprocess(find_data(data / "images"), PIPELINE, tmp_path / "cache", workers=1)
    with pytest.raises(InputError, match="'ms_000' has no label: training needs one"):
        plan(tmp_path / "cache")


# Cross-validation


def test_each_fold_has_its_own_split_and_its_own_learned_steps(data):
    folding = Folding(2, Grouping(neighbours=2))
    plans = plan_folds(data, {"pipeline": NYUL.to_json(), "seed": 3}, folding=folding)
    assert [plan.split for plan in plans] == list(
        folding.splits([f"ms_{n:03d}" for n in range(5)], seed=3)
    )
    for plan_of_fold in plans:
        cases = plan_of_fold.cases("train")
        expected = NYUL.fit(lambda cases=cases: [read_image(case.images) for case in cases])
        assert plan_of_fold.config.pipeline == expected


def test_folds_share_what_was_learned_before_only_where_it_is_to_stay(data):
    folding, seed = Folding(2), {"seed": 3}
    learned = plan(data, {"pipeline": NYUL.to_json()}, validation=0.2).config.to_json()
    anew = plan_folds(data, {"pipeline": NYUL.to_json()}, seed, folding=folding)
    own = plan_folds(data, {"pipeline": learned["pipeline"]}, seed, folding=folding)
    pipelines = [plan_of_fold.config.pipeline for plan_of_fold in own]
    assert pipelines == [plan_of_fold.config.pipeline for plan_of_fold in anew]
    assert pipelines[0] != pipelines[1]
    options = {"folding": folding, "keep_fitted": True}
    for shared in plan_folds(data, {"pipeline": learned["pipeline"]}, seed, **options):
        assert shared.config.pipeline == Pipeline.from_json(learned["pipeline"])


def test_a_list_of_steps_is_told_where_it_belongs(tmp_path):
    path = tmp_path / "steps.json"
    path.write_text('[{"step": "z-score"}]')
    with pytest.raises(InputError, match=r'stand in it as \{"pipeline": \[\.\.\.\]\}'):
        read_settings(path)


@pytest.mark.parametrize("settings", ['{"epoch": 3}', '{"epochs": -1}', '{"optimizer": {"x": 1}}'])
def test_wrong_settings_are_said_to_be_in_their_file(settings, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(settings)
    with pytest.raises(InputError, match=r"settings\.json: .*(epoch|optimizer.*\bx\b)"):
        read_settings(path)


# A look at the images


def test_a_look_tells_why_and_changes_what_the_images_speak_against(data):
    usual, looked = plan(data, look=False), plan(data, memory_gb=2.0)
    assert [reason.choice for reason in usual.reasons] == [
        "spacing", "network", "normalisation", "patch", "batch", "augmentation", "length",
    ]  # fmt: skip
    assert {reason.choice: reason.why for reason in usual.reasons}["normalisation"] == "the usual"
    added = {reason.choice for reason in looked.reasons} - {r.choice for r in usual.reasons}
    assert added == {"foreground", "mirroring"}
    assert usual.split == looked.split
    assert usual.facts["shape"] == looked.facts["shape"] == "16 × 16 × 16"
    assert "pieces" in looked.facts
    assert "pieces" not in usual.facts


def test_settings_that_are_given_have_no_reason_in_the_data(data):
    given = {"pipeline": PIPELINE.to_json(), "epochs": 2, "foreground": 0.1, "augment": []}
    made = plan(data, given, look=True, memory_gb=2.0)
    assert made.config.pipeline == PIPELINE
    assert (made.config.foreground, made.config.augment) == (0.1, ())
    reasons = {reason.choice: reason.why for reason in made.reasons}
    assert reasons["normalisation"] == "that of the preprocessing asked for"
    assert not {"length", "foreground", "mirroring"} & reasons.keys()


def test_preprocessed_images_are_not_looked_at(cache):
    with pytest.raises(InputError, match="plan on the ones it was made of"):
        plan(cache, look=True)


def test_cases_may_be_handed_over(data):
    assert plan(find_data(data)) == plan(data)
    with pytest.raises(InputError, match="the dataset: its label values stand for background"):
        plan(find_data(data), {"label_values": asked_coding(["1=tumour"]).as_labels()})
