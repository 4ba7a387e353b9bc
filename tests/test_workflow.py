import csv
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax import workflow
from segjax.data.cache.cache import CachedCase, Outcome, open_cache
from segjax.data.cases import Case, Split
from segjax.data.folds import Folding, Grouping
from segjax.data.io.formats import read_image, read_volume, write_volume
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import (
    CropOrPad,
    HistogramStandardization,
    Pipeline,
    Reorient,
    ZScore,
)
from segjax.errors import InputError
from segjax.provenance import read_parts
from segjax.volume import Volume
from segjax.workflow import (
    Segmentation,
    check_all,
    find_data,
    plan,
    read_settings,
    read_steps,
    segment,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=5, shape=(16, 16, 16))
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
    assert tuple(case.name for case in planned.validation_cases) == planned.split.validation


def test_unknown_settings_are_named(data):
    with pytest.raises(InputError, match="learning_speed"):
        plan(data, {"learning_speed": 1})


def test_settings_are_read_from_the_config_of_a_run(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"segjax": "0.1.0", "epochs": 5}))
    assert read_settings(path) == {"epochs": 5}


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_unreadable_settings_are_named(text, tmp_path):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        read_settings(path)


class StandInPredictor:
    """Marks 3 voxels as label 1 and 2 voxels as label 2; cannot read cases named ``bad``."""

    metadata = SimpleNamespace(labels=("background", "one", "two"))

    def __init__(self, rank: int = 3):
        self.rank = rank

    def predict_files(self, cases: Sequence[Case], out: Path, **options: bool) -> list[Path]:
        (case,) = cases
        if case.name == "bad":
            raise InputError("bad.nii.gz: cannot be read")
        data = np.zeros((4,) * self.rank, np.uint8)
        data.flat[:5] = (1, 1, 1, 2, 2)
        affine = np.diag([10.0] * self.rank + [1.0])
        path = Path(out) / (case.name + (".nii.gz" if self.rank == 3 else ".png"))
        write_volume(Volume(data, affine), path)
        return [path]


def cases(*names: str) -> list[Case]:
    return [Case(name, (Path(f"{name}.nii.gz"),)) for name in names]


def test_segmented_images_tell_the_millilitres_of_each_label(tmp_path):
    (result,) = segment(StandInPredictor(), cases("a"), tmp_path)
    assert (result.case, result.sizes, result.unit) == ("a", (3.0, 2.0), "ml")
    assert result.seconds > 0
    check_all([result])


def test_segmented_2d_images_tell_pixels(tmp_path):
    (result,) = segment(StandInPredictor(rank=2), cases("a"), tmp_path)
    assert (result.sizes, result.unit) == ((3.0, 2.0), "pixels")


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    results = list(segment(StandInPredictor(), cases("bad", "a"), tmp_path))
    assert [bool(result.error) for result in results] == [True, False]
    with pytest.raises(InputError, match=r"bad\.nii\.gz: cannot be read \(1 of 2 images failed\)"):
        check_all(results)


def test_single_bad_image_has_its_message_alone():
    with pytest.raises(InputError, match=r"^broken$"):
        check_all([Segmentation("a", 1.0, error="broken")])


def test_finished_training_is_not_done_again(data, tmp_path, monkeypatch):
    from segjax.train import _fit as fit

    result = fit.FitResult(tmp_path, 3, 2, 0.9, 1.0)

    def finished(*_: object, **__: object) -> None:
        raise fit.RunFinishedError(result)

    monkeypatch.setattr(fit, "fit", finished)
    assert workflow.train(plan(data), tmp_path) == result
    with pytest.warns(UserWarning, match="is finished, and was trained without TensorBoard logs"):
        assert workflow.train(plan(data), tmp_path, tensorboard=True) == result


# Preprocessing


PIPELINE = Pipeline((Reorient("LPS"), CropOrPad((16, 12, 16)), ZScore()))


def test_network_of_a_sweep_is_that_of_its_best_member(tmp_path, monkeypatch):
    from segjax.report import sweep as sweep_report
    from segjax_onnx.write import convert

    calls = []
    monkeypatch.setattr(sweep_report, "write_sweep_report", lambda folder: folder / "report.html")
    monkeypatch.setattr(convert, "export_onnx", lambda *a, **o: calls.append((a, o)) or a[1])
    run = tmp_path / "runs" / "k3-a0.5-s0"
    written = workflow.finish_sweep(SimpleNamespace(folder=tmp_path, run=run))
    assert written == {"report": tmp_path / "report.html", "model": tmp_path / "model.onnx"}
    assert calls == [((run, tmp_path / "model.onnx"), {"overwrite": True})]
    without = workflow.finish_sweep(SimpleNamespace(folder=tmp_path, run=None))
    assert list(without) == ["report"]


@pytest.fixture(scope="module")
def cache(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("caches") / "cache"
    workflow.preprocess(find_data(data), PIPELINE, folder, workers=1)
    return folder


def test_data_are_found_however_they_lie(data, tmp_path):
    labelled = find_data(data)
    assert [case.name for case in labelled.cases] == [f"ms_{n:03d}" for n in range(5)]
    assert labelled.labels == {0: "background", 1: "lesion"}
    for bare in (find_data(data / "images"), find_data(without_labels(data, tmp_path))):
        assert [case.name for case in bare.cases] == [case.name for case in labelled.cases]
        assert {case.label for case in bare.cases} == {None}
    (single,) = find_data(labelled.cases[0].images[0]).cases
    assert single.images == labelled.cases[0].images
    found = find_data(data, images=["ms_003.nii.gz"])
    assert [case.name for case in found.cases] == ["images", "labels"]
    with pytest.raises(InputError, match="name the images"):
        find_data(data, label="lesions.nii.gz")


def without_labels(data: Path, folder: Path) -> Path:
    shutil.copytree(data / "images", folder / "images")
    return folder


def test_preprocessing_leaves_a_report_and_figures(data, cache):
    assert {"report.csv", "figures", "manifest.json"} <= {path.name for path in cache.iterdir()}
    assert {p.name for p in (cache / "figures").iterdir()} == {"histograms.png", "case.png"}
    with (cache / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"ms_{n:03d}" for n in range(5)]
    assert {row["state"] for row in rows} == {"made"}
    again = workflow.preprocess(find_data(data), PIPELINE, cache, workers=1)
    assert {outcome.state for outcome in again.outcomes} == {"unchanged"}
    assert [o.seconds for o in again.outcomes] == [float(row["seconds"]) for row in rows]
    assert again.early_megabytes == 0
    assert all(path.exists() for path in again.written.values())
    first, second = read_parts(cache)
    assert Path(first.data) == data / "images"
    assert first.seconds >= sum(float(row["seconds"]) for row in rows) > second.seconds


def test_cases_of_different_channels_are_named(data, tmp_path):
    image = read_volume(data / "images" / "ms_000.nii.gz")
    (tmp_path / "in").mkdir()
    for name, channels in (("one", 1), ("two", 2)):
        stacked = np.stack([image.data] * channels, axis=-1)
        write_volume(image.with_data(stacked), tmp_path / "in" / f"{name}.nii.gz")
    with pytest.warns(UserWarning, match=r"\('one' has 1, 'two' has 2\); no network takes both"):
        workflow.preprocess(find_data(tmp_path / "in"), PIPELINE, tmp_path / "cache", workers=1)


def test_failed_cases_are_counted_and_the_first_is_explained(tmp_path):
    good, bad = Outcome("a", "made"), Outcome("b", "failed", error="b.nii: broken")
    workflow.check_outcomes([good, good], tmp_path)
    with pytest.raises(InputError, match=r"^b\.nii: broken$"):
        workflow.check_outcomes([bad], tmp_path)
    with pytest.raises(InputError, match=r"b\.nii: broken \(1 of 2 cases failed; the others are"):
        workflow.check_outcomes([good, bad], tmp_path)


def test_cases_are_worth_having_without_figures(data, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(UserWarning, match="no figures: figures need matplotlib"):
        done = workflow.preprocess(find_data(data), PIPELINE, tmp_path / "cache", workers=1)
    assert set(done.written) == {"cases", "report"}


def test_cache_without_a_single_case_has_no_figures(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    done = workflow.preprocess(find_data(tmp_path), PIPELINE, tmp_path / "cache", workers=1)
    assert set(done.written) == {"cases", "report"}


def test_niftis_lie_where_the_processed_image_does(data, tmp_path):
    workflow.preprocess(find_data(data), PIPELINE, tmp_path / "cache", workers=1)
    opened = open_cache(tmp_path / "cache")
    for _ in range(2):  # what is there stays
        workflow.write_niftis(opened)
    case = opened.cases[2]
    image = read_volume(case.folder / "image.nii.gz")
    expected = PIPELINE.apply(read_volume(data / "images" / "ms_002.nii.gz"))
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(image.data, expected.data[..., 0])
    label = read_volume(case.folder / "label.nii.gz")
    np.testing.assert_array_equal(label.data, case.label)


@pytest.mark.parametrize("wrapped", [True, False])
def test_steps_are_read_from_a_list_or_a_configuration(wrapped, tmp_path):
    steps = PIPELINE.to_json()
    path = tmp_path / "steps.json"
    path.write_text(json.dumps({"pipeline": steps, "epochs": 3} if wrapped else steps))
    assert read_steps(path) == PIPELINE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"epochs": 3}', "has no 'pipeline'"),
        ('[{"step": "magic"}]', "unknown step 'magic'"),
        ('"reorient"', "a pipeline is a list of steps"),
    ],
)
def test_file_without_steps_is_named(text, message, tmp_path):
    path = tmp_path / "steps.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"steps\.json: .*{message}"):
        read_steps(path)


# Training on what was preprocessed


def test_cache_gives_a_training_its_pipeline_labels_shapes_and_channels(cache, data):
    planned = plan(cache, validation=0.4)
    raw = plan(data, {"pipeline": PIPELINE.to_json()}, validation=0.4)
    assert planned.config == raw.config
    assert planned.split == raw.split
    assert all(isinstance(case, CachedCase) for case in planned.dataset.cases)
    names = [case.name for case in planned.validation_cases]
    assert names == list(planned.split.validation)
    images = [case.images[0].name for case in planned.validation_cases]
    assert images == [case.images[0].name for case in raw.validation_cases]


def test_cache_of_other_steps_than_asked_for_is_refused(cache):
    assert plan(cache, {"pipeline": PIPELINE.to_json()}).config.pipeline == PIPELINE
    with pytest.raises(InputError, match="was preprocessed by other steps"):
        plan(cache, {"pipeline": [{"step": "min-max"}]})


NYUL = Pipeline((HistogramStandardization(), ZScore()))


def test_steps_learn_from_the_training_cases_alone(data):
    planned = plan(data, {"pipeline": NYUL.to_json(), "seed": 3}, validation=0.4)
    cases = workflow.cases_named(planned.dataset, planned.split.train)
    expected = NYUL.fit(lambda: [read_image(case.images) for case in cases])
    assert planned.config.pipeline == expected
    assert len(cases) == 3


def test_steps_of_another_run_learn_anew_unless_they_are_to_stay(data):
    learned = plan(data, {"pipeline": NYUL.to_json(), "seed": 3}, validation=0.4).config
    again = plan(data, learned.to_json(), {"seed": 1}, validation=0.4)
    cases = workflow.cases_named(again.dataset, again.split.train)
    expected = NYUL.fit(lambda: [read_image(case.images) for case in cases])
    assert again.config.pipeline == expected != learned.pipeline
    kept = plan(data, learned.to_json(), {"seed": 1}, validation=0.4, keep_fitted=True)
    assert kept.config.pipeline == learned.pipeline


def test_cache_is_known_by_its_steps_whatever_they_learned(data, tmp_path):
    workflow.preprocess(find_data(data), NYUL, tmp_path / "cache", workers=1)
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
        workflow.preprocess(find_data(data), NYUL, tmp_path / name, workers=1, split=given)
    with pytest.warns(UserWarning, match="learned from 2 of the cases that are kept apart"):
        plan(tmp_path / "all", split=split)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planned = plan(tmp_path / "train", {"pipeline": NYUL.to_json()}, split=split)
    assert planned.config.pipeline == open_cache(tmp_path / "train").pipeline


def test_unlabelled_cache_cannot_be_trained_on(data, tmp_path):
    workflow.preprocess(find_data(data / "images"), PIPELINE, tmp_path / "cache", workers=1)
    with pytest.raises(InputError, match="'ms_000' has no label: training needs one"):
        plan(tmp_path / "cache")


# Cross-validation


def test_each_fold_has_its_own_split_and_its_own_learned_steps(data):
    folding = Folding(2, Grouping(neighbours=2))
    plans = workflow.plan_folds(data, {"pipeline": NYUL.to_json(), "seed": 3}, folding=folding)
    assert [plan.split for plan in plans] == list(
        folding.splits([f"ms_{n:03d}" for n in range(5)], seed=3)
    )
    for plan_of_fold in plans:
        cases = workflow.cases_named(plan_of_fold.dataset, plan_of_fold.split.train)
        expected = NYUL.fit(lambda cases=cases: [read_image(case.images) for case in cases])
        assert plan_of_fold.config.pipeline == expected


def test_folds_share_what_was_learned_before_only_where_it_is_to_stay(data):
    folding, seed = Folding(2), {"seed": 3}
    learned = plan(data, {"pipeline": NYUL.to_json()}, validation=0.2).config.to_json()
    anew = workflow.plan_folds(data, {"pipeline": NYUL.to_json()}, seed, folding=folding)
    own = workflow.plan_folds(data, {"pipeline": learned["pipeline"]}, seed, folding=folding)
    pipelines = [plan_of_fold.config.pipeline for plan_of_fold in own]
    assert pipelines == [plan_of_fold.config.pipeline for plan_of_fold in anew]
    assert pipelines[0] != pipelines[1]
    options = {"folding": folding, "keep_fitted": True}
    for shared in workflow.plan_folds(data, {"pipeline": learned["pipeline"]}, seed, **options):
        assert shared.config.pipeline == Pipeline.from_json(learned["pipeline"])


@pytest.mark.parametrize("settings", ['{"epoch": 3}', '{"epochs": -1}', '{"optimizer": {"x": 1}}'])
def test_wrong_settings_are_said_to_be_in_their_file(settings, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(settings)
    with pytest.raises(InputError, match=r"settings\.json: .*(epoch|optimizer\.x)"):
        read_settings(path)


# Going on with a folder of masks


class Counting(StandInPredictor):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def predict_files(self, cases, out, **options):
        assert options["overwrite"]
        self.made += [case.name for case in cases]
        (Path(out) / f"{cases[0].name}.nii.gz").unlink(missing_ok=True)
        return super().predict_files(cases, out, **options)


def test_finished_masks_are_kept_and_the_others_made(tmp_path):
    list(segment(StandInPredictor(), cases("a", "c"), tmp_path))
    before = (tmp_path / "a.nii.gz").stat().st_mtime_ns
    predictor = Counting()
    results = list(segment(predictor, cases("a", "b", "c"), tmp_path, skip_existing=True))
    assert predictor.made == ["b"]
    assert [result.kept for result in results] == [True, False, True]
    assert {result.sizes for result in results} == {(3.0, 2.0)}
    assert (tmp_path / "a.nii.gz").stat().st_mtime_ns == before


def test_mask_without_the_wanted_probabilities_is_made_again(tmp_path):
    list(segment(StandInPredictor(), cases("a"), tmp_path))
    predictor = Counting()
    options = {"skip_existing": True, "probabilities": True}
    list(segment(predictor, cases("a"), tmp_path, **options))
    (tmp_path / "a_probabilities.nii.gz").touch()
    list(segment(predictor, cases("a"), tmp_path, **options))
    assert predictor.made == ["a"]


def test_masks_are_not_both_kept_and_replaced(tmp_path):
    with pytest.raises(InputError, match="not both"):
        list(segment(Counting(), cases("a"), tmp_path, overwrite=True, skip_existing=True))


def test_a_map_is_never_written_over_the_mask_of_another_case(tmp_path):
    with pytest.raises(InputError, match=r"a_probabilities\.nii\.gz: would be written for"):
        list(segment(Counting(), cases("a", "a_probabilities"), tmp_path, probabilities=True))


def test_whatever_fails_stops_no_other_case_and_names_the_file(tmp_path):
    class Odd(StandInPredictor):
        def predict_files(self, some, out, **options):
            if some[0].name == "odd":
                raise KeyError("no such code")
            return super().predict_files(some, out, **options)

    odd, good = segment(Odd(), cases("odd", "a"), tmp_path)
    assert "odd.nii.gz: KeyError" in odd.error
    assert not good.error
