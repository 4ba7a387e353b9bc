import contextlib
import csv
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.data.augment import ScaleIntensity
from segjax.data.cache.cache import CachedCase, open_cache, preprocess
from segjax.data.cases import Dataset, find_cases
from segjax.data.io.formats import read_image, read_label, write_volume
from segjax.data.loader import Loader, Sampling
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, Resample
from segjax.data.splits import Split, split_cases
from segjax.errors import InputError
from segjax.provenance import read_parts
from segjax.train import _fit as fit_module
from segjax.train import resident
from segjax.train import run as run_module
from segjax.train._fit import Loading, RunFinishedError, fit
from segjax.train.cases import choose_cases, load_cases
from segjax.train.checkpoints import Checkpoints, load_variables
from segjax.train.config import OptimizerConfig, read_config
from segjax.train.losses import Loss, Term
from tests.train.events import curves

SCRIPT = Path(__file__).with_name("train_tiny.py")
spec = importlib.util.spec_from_file_location("tiny", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(autouse=True)
def _tiny_networks():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    write_dataset(folder, count=4, shape=(20, 18, 16))
    return folder


@pytest.fixture
def dataset(folder):
    return find_cases(folder)


@pytest.fixture
def split(dataset):
    return split_cases([case.name for case in dataset.cases], validation=0.25)


@pytest.fixture
def loader(dataset, split):
    config = tiny.config(augment=())
    return run_module.make_loader(config, load_cases(config, choose_cases(dataset, split)).train)


def metrics(run, *, without=("seconds",)):
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] not in without]


def arrays(run, which="last"):
    return jax.tree.leaves(load_variables(run, which))


def assert_same_end(run, other):
    for which in ("last", "best"):
        for a, b in zip(arrays(run, which), arrays(other, which), strict=True):
            np.testing.assert_array_equal(a, b)
    assert metrics(run) == metrics(other)


RESUMED = {"epochs": 2, "patches_per_case": 2}  # 3 steps and one validation per epoch


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, folder, cache):
    """Return the run of the configuration ``RESUMED`` that nothing stopped."""
    run = tmp_path_factory.mktemp("undisturbed")
    with tiny.registered():
        dataset = find_cases(folder)
        split = split_cases([case.name for case in dataset.cases], validation=0.25)
        fit(tiny.config(**RESUMED), dataset, split, run)
    return run


class Killed(BaseException):
    pass


def test_run_holds_config_split_metrics_and_checkpoints(tmp_path, dataset, split):
    config = tiny.config(epochs=2)
    result = fit(config, dataset, split, tmp_path / "run")
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "split.json",
        "inputs.json",
        "metrics.csv",
        "provenance.json",
        "checkpoints",
    }
    (part,) = read_parts(run)
    assert part.seconds > 0
    assert {Path(case.label).parent for case in dataset.cases} == {Path(part.data) / "labels"}
    assert read_config(run) == config
    assert json.loads((run / "split.json").read_text())["validation"] == list(split.validation)
    assert result.epochs == 2
    assert result.run == run
    assert result.seconds > 0


def test_metrics_have_the_loss_of_each_epoch_and_the_dice_of_each_case(tmp_path, dataset, split):
    result = fit(tiny.config(epochs=2), dataset, split, tmp_path)
    rows = metrics(tmp_path, without=())
    assert {row["run"] for row in rows} == {"tiny"}
    kinds = [(row["epoch"], row["split"], row["metric"], row["case"]) for row in rows]
    (case,) = split.validation
    assert kinds == [
        (str(epoch), *kind)
        for epoch in (1, 2)
        for kind in [
            ("train", "loss", ""),
            ("validation", "dice", case),
            ("train", "seconds", ""),
        ]
    ]
    dice = [float(row["value"]) for row in rows if row["metric"] == "dice"]
    assert result.best_dice == max(dice)
    assert result.best_epoch == dice.index(max(dice)) + 1


def test_network_learns_to_find_bright_boxes(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        truth = np.zeros((16, 16, 16), np.uint8)
        x, y, z = rng.integers(2, 8, 3)
        truth[x : x + 6, y : y + 6, z : z + 6] = 1
        image = truth + rng.normal(0, 0.2, truth.shape)
        for kind, data in (("images", image.astype(np.float32)), ("labels", truth)):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"box{number}.npy", data)
    data = find_cases(tmp_path)
    split = split_cases([case.name for case in data.cases], validation=0.25)
    config = tiny.config(epochs=30, validate_every=30, augment=(ScaleIntensity(),))
    assert fit(config, data, split, tmp_path / "run").best_dice > 0.9


def test_training_again_gives_the_same_to_the_bit(tmp_path, dataset, split, undisturbed):
    fit(tiny.config(**RESUMED), dataset, split, tmp_path)
    assert_same_end(tmp_path, undisturbed)


def test_another_seed_gives_another_network(tmp_path, dataset, split, undisturbed):
    fit(tiny.config(**RESUMED, seed=1), dataset, split, tmp_path)
    pairs = zip(arrays(tmp_path), arrays(undisturbed), strict=True)
    assert any((a != b).any() for a, b in pairs)


@pytest.mark.parametrize(
    ("stop", "written"),  # the third save ends the first epoch, the sixth is the last
    [(2, True), (3, False), (4, False), (6, True)],
)
def test_resuming_after_a_stop_at_any_save_is_exact(
    tmp_path, dataset, split, undisturbed, monkeypatch, stop, written
):
    saves, save = 0, Checkpoints.save

    def save_and_die(self, *args, **options):
        nonlocal saves
        saves += 1
        if saves != stop or written:
            save(self, *args, **options)
        if saves == stop:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_and_die)
    config = tiny.config(**RESUMED)
    with pytest.raises(Killed):
        fit(config, dataset, split, tmp_path, checkpoint_seconds=0)
    if stop == 6 and written:  # that was the last one
        with pytest.raises(RunFinishedError):
            fit(config, dataset, split, tmp_path, checkpoint_seconds=0)
    else:
        fit(config, dataset, split, tmp_path, checkpoint_seconds=0)
    parts = read_parts(tmp_path)
    assert len(parts) == (1 if stop == 6 and written else 2)
    assert all(part.seconds is not None for part in parts)
    assert_same_end(tmp_path, undisturbed)


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_disk_that_takes_no_more_at_the_end_of_a_training_ends_it_in_one_line(
    tmp_path, dataset, split, undisturbed, monkeypatch
):
    import resource

    numbers, save = iter(range(1, 100)), Checkpoints.save
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_to_full_disk(self, *args, **options):
        if next(numbers) == 6:  # the last one
            self.restore_best(args[1])  # waits
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
        save(self, *args, **options)

    config = tiny.config(**RESUMED)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_to_full_disk)
        try:
            with pytest.raises(InputError, match=r"checkpoints: not writable \(File too large\)"):
                fit(config, dataset, split, tmp_path, checkpoint_seconds=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    whole = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdecimal()]
    assert max(whole) == 5
    fit(config, dataset, split, tmp_path)
    assert_same_end(tmp_path, undisturbed)


@pytest.fixture(scope="module")
def preprocessed(folder, tmp_path_factory):
    """Return the cases of ``folder``, preprocessed."""
    out = tmp_path_factory.mktemp("preprocessed")
    preprocess(find_cases(folder), tiny.config().pipeline, out, workers=1)
    cache = open_cache(out)
    return Dataset(cache.cases, cache.labels, cache.channels)


def stop_at_save(monkeypatch, number):
    saves, save = 0, Checkpoints.save

    def save_and_die(self, *args, **options):
        nonlocal saves
        saves += 1
        save(self, *args, **options)
        if saves == number:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_and_die)


def test_a_cache_trains_as_its_files_do(tmp_path, preprocessed, split, undisturbed):
    fit(tiny.config(**RESUMED), preprocessed, split, tmp_path)
    assert_same_end(tmp_path, undisturbed)


@pytest.mark.slow
def test_workers_change_nothing_also_when_their_number_changes(
    tmp_path, preprocessed, split, undisturbed, monkeypatch
):
    pytest.importorskip("grain")
    stop_at_save(monkeypatch, 2)
    config = tiny.config(**RESUMED)
    options = {"checkpoint_seconds": 0, "loading": Loading(workers=2)}
    with pytest.raises(Killed):
        fit(config, preprocessed, split, tmp_path, **options)
    fit(config, preprocessed, split, tmp_path, loading=Loading(workers=1))
    assert_same_end(tmp_path, undisturbed)


def test_training_with_the_data_on_the_device_resumes_exactly(
    tmp_path, preprocessed, dataset, split, undisturbed, monkeypatch
):
    config, on_device = tiny.config(**RESUMED), Loading(on_device=True)
    fit(config, preprocessed, split, tmp_path / "whole", loading=on_device)
    stop_at_save(monkeypatch, 2)
    options = {"checkpoint_seconds": 0, "loading": on_device}
    with pytest.raises(Killed):
        fit(config, dataset, split, tmp_path / "stopped", **options)
    fit(config, dataset, split, tmp_path / "stopped", **options)
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")
    for one, other in zip(metrics(tmp_path / "whole"), metrics(undisturbed), strict=True):
        if one["metric"] == "loss":
            assert float(one["value"]) == pytest.approx(float(other["value"]), rel=1e-4)


def test_averages_are_what_is_kept_and_leave_the_training_alone(tmp_path, dataset, split):
    one_step = tiny.config(epochs=1, batch_size=3)
    fit(one_step, dataset, split, tmp_path / "plain")
    fit(dataclasses.replace(one_step, ema=0.5), dataset, split, tmp_path / "averaged")
    first_key, _ = jax.random.split(jax.random.key(one_step.seed))
    first = tiny.Tiny().init(first_key, np.zeros((1, 16, 16, 16, 1)))
    leaves = zip(
        jax.tree.leaves(first),
        arrays(tmp_path / "plain"),
        arrays(tmp_path / "averaged"),
        strict=True,
    )
    for start, after, average in leaves:
        np.testing.assert_allclose(average, 0.1 * start + 0.9 * after, atol=1e-6)


def test_training_with_averages_resumes_exactly(tmp_path, dataset, split, monkeypatch):
    config = tiny.config(**RESUMED, ema=0.9)
    fit(config, dataset, split, tmp_path / "whole")
    stop_at_save(monkeypatch, 2)
    with pytest.raises(Killed):
        fit(config, dataset, split, tmp_path / "stopped", checkpoint_seconds=0)
    fit(config, dataset, split, tmp_path / "stopped", checkpoint_seconds=0)
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


def test_data_too_large_for_the_device_leave_nothing_behind(tmp_path, dataset, split, monkeypatch):
    monkeypatch.setattr(resident, "device_bytes", lambda device: (1000, "GPU"))
    with pytest.raises(InputError, match="3 training cases take"):
        fit(tiny.config(), dataset, split, tmp_path / "run", loading=Loading(on_device=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("loading", "room", "used"),
    [
        (Loading(), 10**9, "kept on the device, "),
        (Loading(), 1000, "drawn by 7 processes"),
        (Loading(on_device=False), 10**9, "drawn by 7 processes"),
        (Loading(workers=2), 10**9, "drawn by 2 processes"),
        (Loading(workers=0), 10**9, "drawn by a thread of this process"),
        (Loading(workers=0, on_device=True), 10**9, "kept on the device, "),
    ],
)
def test_an_accelerator_never_waits_for_batches_if_that_can_be_helped(
    loading, room, used, loader, monkeypatch, capsys
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(resident, "device_bytes", lambda device: (room, "GPU"))
    monkeypatch.setattr(fit_module, "default_workers", lambda copied: 7)
    capsys.readouterr()
    with contextlib.closing(loading.batches(loader, range(2))) as batches:
        if used.startswith("kept"):
            assert all(isinstance(array, jax.Array) for array in next(batches))
    told = capsys.readouterr().err
    assert f"training cases: {used}" in told
    assert ("not kept on the device: the 3 training cases take" in told) is (room == 1000)


def test_a_cpu_draws_batches_in_a_thread_and_says_nothing(loader, capsys):
    capsys.readouterr()
    with contextlib.closing(Loading().batches(loader, range(2))) as batches:
        assert all(isinstance(array, np.ndarray) for array in next(batches))
    assert capsys.readouterr().err == ""
    assert multiprocessing.active_children() == []


def test_impossible_loading_is_refused():
    with pytest.raises(InputError, match="-1 workers: give 0 or more"):
        Loading(workers=-1)
    with pytest.raises(InputError, match=r"2 workers .* have nothing to do"):
        Loading(workers=2, on_device=True)


def test_cache_of_another_pipeline_is_refused(tmp_path, preprocessed, split):
    config = tiny.config(pipeline=Pipeline((Reorient("RAS"),)))
    with pytest.raises(InputError, match="was preprocessed by other steps"):
        fit(config, preprocessed, split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cached_cases_of_another_kind_are_refused(tmp_path, preprocessed, split, monkeypatch):
    with pytest.raises(InputError, match=r"'ms_.*' has 1 channel of .*; 2 of one shape"):
        fit(tiny.config(in_channels=2), preprocessed, split, tmp_path)
    monkeypatch.setattr(CachedCase, "values", (0, 1, 3))
    with pytest.raises(InputError, match="'ms_000' has labels 3, but with 2 classes"):
        fit(tiny.config(), preprocessed, split, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_data_leave_nothing_behind(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "data")
    data = find_cases(tmp_path / "data")
    split = split_cases([case.name for case in data.cases], validation=0.25)
    (case,) = [case for case in data.cases if case.name in split.validation]
    image = read_image(case.images)
    write_volume(image.with_data(image.data * np.nan), case.images[0], overwrite=True)
    with pytest.raises(InputError, match=case.images[0].name):
        fit(tiny.config(epochs=1), data, split, tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_metrics_of_an_epoch_that_is_done_again_are_not_there_twice(
    tmp_path, dataset, split, undisturbed, monkeypatch
):
    def die(*args, **options):
        raise Killed

    config = tiny.config(**RESUMED)
    monkeypatch.setattr(Checkpoints, "save", die)
    with pytest.raises(Killed):
        fit(config, dataset, split, tmp_path)
    monkeypatch.undo()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("tiny,1,valid")  # cut short
    fit(config, dataset, split, tmp_path)
    assert metrics(tmp_path) == metrics(undisturbed)


def test_finished_training_is_not_overwritten_and_tells_its_result(tmp_path, dataset, split):
    config = tiny.config(epochs=1)
    result = fit(config, dataset, split, tmp_path)
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(RunFinishedError, match=r"this training is finished \(epochs: 1, best") as e:
        fit(config, dataset, split, tmp_path)
    assert e.value.result == result
    assert (tmp_path / "metrics.csv").read_bytes() == before
    with pytest.raises(InputError, match="holds a training already"):
        fit(config, dataset, split, tmp_path, resume=False)
    with pytest.raises(InputError, match=r"seed \(0 there, 1 now\)"):
        fit(tiny.config(epochs=1, seed=1), dataset, split, tmp_path)


def test_more_epochs_end_as_if_all_had_been_asked_for_at_once(
    tmp_path, dataset, split, undisturbed
):
    config = tiny.config(**RESUMED)
    fit(dataclasses.replace(config, epochs=1), dataset, split, tmp_path)
    assert fit(config, dataset, split, tmp_path).epochs == 2
    assert_same_end(tmp_path, undisturbed)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize("seconds", [60])  # between checkpoints
def test_validation_that_only_fewer_epochs_end_with_is_taken_back(
    tmp_path, dataset, split, monkeypatch, seconds
):
    def train(run, epochs, *dice):
        values = iter(dice)
        monkeypatch.setattr(run_module, "mean_dice", lambda scores: next(values))
        config = tiny.config(epochs=epochs, validate_every=2)
        return fit(config, dataset, split, tmp_path / run, checkpoint_seconds=seconds)

    train("at once", 4, 0.5, 0.4)
    assert train("longer", 3, 0.5, 0.9).best_epoch == 3
    with pytest.warns(UserWarning, match="validation after epoch 3 is dropped.* 4 epochs with"):
        result = train("longer", 4, 0.4)
    assert (result.epochs, result.best_epoch, result.best_dice) == (4, 2, 0.5)
    assert_same_end(tmp_path / "longer", tmp_path / "at once")


def test_more_epochs_change_nothing_where_patience_was_over(tmp_path, dataset, split, monkeypatch):
    monkeypatch.setattr(run_module, "mean_dice", lambda scores: 0.5)
    config = tiny.config(epochs=3, patience=1)
    assert fit(config, dataset, split, tmp_path).epochs == 2
    with (
        pytest.warns(UserWarning, match="stopped after epoch 2, since its patience of 1 was over"),
        pytest.raises(RunFinishedError),
    ):
        fit(dataclasses.replace(config, epochs=9), dataset, split, tmp_path)


class Pressing:
    """A display at which Ctrl-C is pressed."""

    def __init__(self, during):
        self.during = during

    def step(self, done, loss):
        self._press(f"step {done}")

    def validate(self, epoch):
        self._press(f"validation {epoch}")

    def epoch(self, epoch, loss, dice, best):
        self._press(f"epoch {epoch}")

    def _press(self, now):
        if now == self.during:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("during", "said"),
    [
        ("step 3", "goes on in epoch 1 of 2 (step 3 of 6)"),
        ("validation 1", "goes on in epoch 1 of 2 (step 3 of 6)"),
        ("epoch 1", "goes on in epoch 2 of 2 (step 4 of 6)"),
    ],
)
def test_interrupt_loses_no_step(
    tmp_path, dataset, split, undisturbed, monkeypatch, capsys, during, said
):
    config = tiny.config(**RESUMED)
    with monkeypatch.context() as patch:
        shown = contextlib.nullcontext(Pressing(during))
        patch.setattr(fit_module, "show_training", lambda *_, **__: shown)
        with pytest.raises(KeyboardInterrupt):
            fit(config, dataset, split, tmp_path)
    assert "stopping: writing a checkpoint first" in capsys.readouterr().err
    fit(config, dataset, split, tmp_path)
    assert said in capsys.readouterr().err
    assert_same_end(tmp_path, undisturbed)


def test_early_stopping_counts_validations_without_a_better_dice(
    tmp_path, dataset, split, monkeypatch
):
    dice = iter([0.5, 0.6, 0.6, 0.55, 0.7])
    monkeypatch.setattr(run_module, "mean_dice", lambda scores: next(dice))
    config = tiny.config(epochs=9, patience=2)
    result = fit(config, dataset, split, tmp_path)
    assert (result.epochs, result.best_epoch, result.best_dice) == (4, 2, 0.6)
    with pytest.raises(RunFinishedError, match="epochs: 4"):
        fit(config, dataset, split, tmp_path)


def test_best_network_is_the_one_of_the_best_validation(tmp_path, dataset, split, monkeypatch):
    # with a constant rate the first two of four epochs are those of two
    for epochs in (2, 4):
        values = iter([0.6, 0.8, 0.7, 0.1])
        monkeypatch.setattr(run_module, "mean_dice", lambda scores, v=values: next(v))
        fit(tiny.config(epochs=epochs), dataset, split, tmp_path / str(epochs))
    for a, b in zip(arrays(tmp_path / "4", "best"), arrays(tmp_path / "2"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_validation_keeps_its_pace_and_never_misses_the_last_epoch(tmp_path, dataset, split):
    fit(tiny.config(epochs=5, validate_every=2), dataset, split, tmp_path)
    epochs = [row["epoch"] for row in metrics(tmp_path) if row["metric"] == "dice"]
    assert epochs == ["2", "4", "5"]


def test_training_without_validation_cases_works(tmp_path, dataset):
    split = Split(tuple(case.name for case in dataset.cases), ())
    config = tiny.config(epochs=1, patience=3)
    with pytest.warns(UserWarning, match="patience does nothing"):
        result = fit(config, dataset, split, tmp_path)
    assert result.best_dice is None
    assert [row["metric"] for row in metrics(tmp_path)] == ["loss"]
    with (
        pytest.warns(UserWarning, match="patience"),
        pytest.raises(RunFinishedError, match=r"\(epochs: 1\)"),
    ):
        fit(config, dataset, split, tmp_path)


def test_batch_may_be_larger_than_the_set(tmp_path, dataset, split):
    result = fit(tiny.config(epochs=1, batch_size=9), dataset, split, tmp_path)
    assert result.epochs == 1


def test_2d_network_trains_on_slices_of_volumes(tmp_path, dataset, split):
    config = tiny.config(model="tiny2d", patch_size=(16, 16, 1), epochs=1)
    assert 0 <= fit(config, dataset, split, tmp_path).best_dice <= 1


def test_2d_network_trains_on_images_with_one_output(tmp_path):
    data = write_dataset(tmp_path / "data", count=3, shape=(20, 24))
    split = split_cases([case.name for case in data.cases], validation=0.3)
    config = tiny.config(
        model="tiny2d", patch_size=(16, 16), epochs=1, activation="sigmoid", loss=Loss((Term(),))
    )
    assert 0 <= fit(config, data, split, tmp_path / "run").best_dice <= 1


def test_no_case_to_train_on_is_said(tmp_path, dataset):
    with pytest.raises(InputError, match=r"no case is left to train on \(cases: 4, validation: 1"):
        fit(tiny.config(), dataset, Split((), ("ms_000",)), tmp_path)


def test_split_that_does_not_fit_the_dataset_is_named(tmp_path, dataset):
    with pytest.raises(InputError, match="the split names case 'nobody'"):
        fit(tiny.config(), dataset, Split(("ms_000",), ("nobody",)), tmp_path)
    with pytest.raises(InputError, match="'ms_000' is for training and for measuring"):
        fit(tiny.config(), dataset, Split(("ms_000",), ("ms_000",)), tmp_path)


def test_unknown_model_is_refused_before_anything_is_made(tmp_path, dataset, split):
    with pytest.raises(InputError, match="unknown network 'huge'"):
        fit(tiny.config(model="huge"), dataset, split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_label_beyond_the_classes_names_the_file_and_can_be_mended(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "data")
    data = find_cases(tmp_path / "data")
    split = split_cases([case.name for case in data.cases], validation=0.25)
    case = next(case for case in data.cases if case.name == split.train[0])
    right = read_label(case.label)
    write_volume(right.with_data(right.data * 3), case.label, overwrite=True)
    with pytest.raises(InputError, match=rf"{case.label.name}: has labels 3, but with 2 classes"):
        fit(tiny.config(epochs=1), data, split, tmp_path / "run")
    write_volume(right, case.label, overwrite=True)
    assert fit(tiny.config(epochs=1, seed=7), data, split, tmp_path / "run").epochs == 1


def test_wrong_number_of_channels_is_said(tmp_path, dataset, split):
    with pytest.raises(InputError, match="1 channel, but 3 are expected"):
        fit(tiny.config(in_channels=3), dataset, split, tmp_path)


def test_loss_that_is_not_finite_stops_and_is_not_saved(tmp_path, dataset, split, monkeypatch):
    rates = OptimizerConfig(1e30, schedule="constant", gradient_clip=None)
    config = tiny.config(epochs=9, optimizer=rates, seed=5)
    said = (
        r"failed-batch.npz: the loss became (nan|inf) at step (\d+) with this batch, from ms_.*, "
        r"intensities from -.* to .*: train in a new folder with a lower learning rate than 1e\+30 "
        "or gradient_clip, and look for extreme values in the images$"
    )
    with pytest.raises(InputError, match=said) as error:
        fit(config, dataset, split, tmp_path, checkpoint_seconds=0)
    for leaf in arrays(tmp_path):
        assert np.isfinite(leaf).all()
    step = int(re.search(said, str(error.value))[2]) - 1
    cases = {case.name: case for case in dataset.cases}
    chosen = [cases[name].load(config.pipeline) for name in split.train]
    sampling = Sampling(config.patch_size, config.batch_size, config.foreground)
    loader = Loader(chosen, sampling, augment=config.augment, seed=5)
    with np.load(tmp_path / "failed-batch.npz") as batch:
        assert (int(batch["step"]), int(batch["seed"])) == (step, 5)
        assert set(batch["cases"].tolist()) <= set(split.train)
        for found, expected in zip(
            (batch["images"], batch["labels"]), loader.batch(step), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_empty_masks_are_warned_of(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "data")
    data = find_cases(tmp_path / "data")
    for case in data.cases:
        label = read_label(case.label)
        write_volume(label.with_data(label.data * 0), case.label, overwrite=True)
    split = split_cases([case.name for case in data.cases], validation=0.25)
    with (
        pytest.warns(UserWarning, match="all label maps of the training cases are empty"),
        pytest.warns(UserWarning, match="no label is in any of 1 validation case: .* newest"),
    ):
        result = fit(tiny.config(epochs=1), data, split, tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert [row["metric"] for row in rows] == ["loss", "false_positive_ml"]
    assert np.isfinite([float(row["value"]) for row in rows]).all()
    assert (result.epochs, result.best_epoch, result.best_dice) == (1, None, None)
    best, last = (arrays(tmp_path / "run", which) for which in ("best", "last"))
    assert all((a == b).all() for a, b in zip(best, last, strict=True))


def test_label_that_never_occurs_is_warned_of(tmp_path, dataset, split):
    config = tiny.config(epochs=1, labels=("background", "lesion", "oedema"))
    with pytest.warns(UserWarning, match="no training case has the label oedema"):
        fit(config, dataset, split, tmp_path)


def test_ordinary_training_warns_of_nothing_and_prints_plain_lines(tmp_path, dataset, split, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tiny.config(epochs=2), dataset, split, tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line[:9] for line in lines] == ["compiling", "epoch 1/2", "epoch 2/2"]


def test_damaged_newest_checkpoint_costs_one_epoch_and_nothing_else(
    tmp_path, dataset, split, undisturbed
):
    shutil.copytree(undisturbed, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    file = newest / "arrays" / "checkpoint" / "0"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged checkpoint .*; the checkpoint before it"):
        fit(tiny.config(**RESUMED), dataset, split, tmp_path / "run")
    assert_same_end(tmp_path / "run", undisturbed)


def environment(cache, devices=1):
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }


def start(folder, run, cache, epochs, *, devices=1, tensorboard=False):
    logs = "tensorboard" if tensorboard else ""
    command = [sys.executable, str(SCRIPT), str(folder), str(run), str(epochs), logs]
    return subprocess.Popen(
        command, env=environment(cache, devices), stderr=subprocess.PIPE, text=True
    )


def wait_for_training(process, run):
    """Wait until the first step is near: the metrics file is written anew before it."""
    before = (run / "metrics.csv").stat().st_mtime_ns if (run / "metrics.csv").exists() else 0
    give_up = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < give_up:
        path = run / "metrics.csv"
        if path.exists() and path.stat().st_mtime_ns != before:
            return
        time.sleep(0.01)


TIMEOUT = 120  # seconds after which a process hangs


def end(process):
    """Wait until a process ends, but not forever; return what it wrote."""
    try:
        return process.communicate(timeout=TIMEOUT)[1]
    finally:
        process.kill()


def finish(process):
    """Let a training run to its end, which it may have reached before it was killed."""
    error = end(process)
    assert process.returncode == 0 or "RunFinishedError" in error, error


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "times"), [(4, 3)])
def test_killing_at_random_times_changes_nothing(tmp_path, folder, cache, devices, times):
    whole, run, epochs = tmp_path / "whole", tmp_path / "run", 4 * times
    options = {"devices": devices, "tensorboard": devices == 2}
    process = start(folder, whole, cache, epochs, **options)
    wait_for_training(process, whole)
    begin = time.monotonic()
    finish(process)
    lasts = time.monotonic() - begin
    rng, killed = random.Random(0), 0
    for _ in range(times):
        process = start(folder, run, cache, epochs, **options)
        if rng.random() < 0.9:
            wait_for_training(process, run)
            time.sleep(rng.uniform(0, lasts / times))
        else:
            time.sleep(rng.uniform(0, 3))  # reading, compiling
        process.kill()
        error = end(process)
        assert process.returncode == -signal.SIGKILL or "RunFinishedError" in error, error
        killed += process.returncode == -signal.SIGKILL
    finish(start(folder, run, cache, epochs, **options))
    assert killed >= times / 2
    assert_same_end(run, whole)
    if options["tensorboard"]:
        assert curves(run, times=False) == curves(whole, times=False)
        assert len(curves(run)["loss/step"]) == 6 * epochs


@pytest.mark.slow
def test_killing_while_checkpoints_are_written_changes_nothing(tmp_path, folder, cache):
    """Kill whenever a checkpoint that is not whole yet is seen in the folder."""
    whole, run, epochs = tmp_path / "whole", tmp_path / "run", 8
    finish(start(folder, whole, cache, epochs))
    halves = 0
    for attempt in range(20):
        process = start(folder, run, cache, epochs)
        wait_for_training(process, run)
        time.sleep(0.1 + 0.01 * attempt)
        while process.poll() is None:
            folder_of = run / "checkpoints"
            if folder_of.exists() and any("tmp" in path.name for path in folder_of.iterdir()):
                break
        process.kill()
        end(process)
        halves += any("tmp" in path.name for path in (run / "checkpoints").iterdir())
        if halves == 3:
            break
    finish(start(folder, run, cache, epochs))
    assert halves == 3
    assert_same_end(run, whole)


def start_hosts(folder, run, cache, epochs):
    """Start a training on two hosts, which meet at a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, str(SCRIPT), str(folder), str(run), str(epochs), "", address]
    options = {"env": environment(cache), "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, str(index)], **options) for index in range(2)]


def finish_all(hosts):
    try:
        for host in hosts:
            finish(host)
    finally:
        for host in hosts:
            host.kill()


@pytest.mark.slow
def test_two_hosts_train_like_one_also_when_either_is_killed(tmp_path, folder, cache):
    alone, whole, run, epochs = tmp_path / "alone", tmp_path / "whole", tmp_path / "run", 12
    finish(start(folder, alone, cache, epochs))
    finish_all(start_hosts(folder, whole, cache, epochs))
    expected, found = metrics(alone), metrics(whole)
    for row, other in zip(expected, found, strict=True):
        assert {**row, "value": ""} == {**other, "value": ""}
        assert float(other["value"]) == pytest.approx(float(row["value"]), abs=1e-4)
    rng = random.Random(0)
    for victims in ([1], [0]):
        hosts = start_hosts(folder, run, cache, epochs)
        wait_for_training(hosts[0], run)
        time.sleep(rng.uniform(0.1, 1.0))
        for index in victims:
            hosts[index].kill()
        time.sleep(1)  # in which the other one notices, and could do harm
        for host in hosts:
            host.kill()
            end(host)
    finish_all(start_hosts(folder, run, cache, epochs))
    assert_same_end(run, whole)


def test_a_picture_that_changed_after_the_training_finished_is_noticed(tmp_path, split):
    write_dataset(tmp_path / "heads", count=4, shape=(20, 18, 16))
    dataset = find_cases(tmp_path / "heads")
    fit(tiny.config(epochs=1), dataset, split, tmp_path / "run")
    path = dataset.cases[0].images[0]
    image = read_image(path)
    write_volume(image.with_data(image.data + np.float32(1)), path, overwrite=True)
    with pytest.raises(InputError, match=rf"{path.name}: case '.*' has changed since the training"):
        fit(tiny.config(epochs=1), dataset, split, tmp_path / "run")


def test_lesions_that_the_network_never_sees_are_told(tmp_path, dataset, split):
    pipeline = Pipeline((Reorient("RAS"), Resample((7.0, 7.0, 7.0))))
    config = tiny.config(epochs=1, pipeline=pipeline, patch_size=(4, 4, 4))
    with pytest.warns(UserWarning, match=r"makes \d+ lesions? vanish, in \d of 4 cases"):
        fit(config, dataset, split, tmp_path / "run")


COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.mark.parametrize("on_device", [False, True])
def test_nothing_is_compiled_or_copied_unasked_after_the_first_epoch(
    tmp_path, dataset, split, on_device, monkeypatch
):
    compiled, by_epoch = [], []
    save = fit_module._Loop._save

    def saved(loop, state):
        save(loop, state)
        by_epoch.append(len(compiled))
        jax.config.update("jax_transfer_guard_host_to_device", "disallow")

    def count(name, seconds, **details):
        compiled.extend([details] if name == COMPILED else [])

    monkeypatch.setattr(fit_module._Loop, "_save", saved)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        loading = Loading(on_device=on_device)
        fit(tiny.config(epochs=2), dataset, split, tmp_path / "run", loading=loading)
    finally:
        jax.config.update("jax_transfer_guard_host_to_device", "allow")
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(by_epoch) == 2
    assert by_epoch[1] == by_epoch[0] > 0
