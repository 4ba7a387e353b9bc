import csv
import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.loaded import LoadedCase
from segjax.data.phantom.dataset import phantom
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.evaluate.scores import Score, mean_dice
from segjax.train.checkpoints import Checkpoints, load_variables
from segjax.train.config import TrainConfig
from segjax.train.run import Progress, Run, Underway, make_loader
from segjax.train.step import TrainState

SPLIT = Split(("a",), ("b",))
ILL = {"b": {"lesion": Score("dice", 0.8)}}
WORSE = {"b": {"lesion": Score("dice", 0.5)}}


def loader(config, rows=slice(None)):
    image, label = phantom(0, shape=(32, 32))
    case = LoadedCase("a", image.channels_last, label.data, image, label)
    return make_loader(config, [case], rows=rows)


def state(value):
    return TrainState({"w": jnp.full(2, value)}, {}, (), jnp.int32(0))


@pytest.fixture
def start(tmp_path):
    """Begin or go on with a training of two steps an epoch, in one folder."""
    opened = []

    def start(progress=None, **changes):
        values = {"model": "unet2d-k3", "patch_size": (32, 32), "patches_per_case": 2}
        config = TrainConfig(**values | {"batch_size": 1, "epochs": 3, "name": "it"} | changes)
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        run = Run(tmp_path, config, loader(config), checkpoints, progress or Progress())
        run.begin(SPLIT)
        opened.append(run)
        return run

    yield start
    for run in opened:
        run.close()


def restored(run):
    with Checkpoints(run.folder / "checkpoints") as checkpoints:
        return checkpoints.restore_last(state(0.0))


def do_epoch(run, scores, value):
    for loss in (0.75, 0.25):
        run.add_loss(loss)
    loss_and_dice = run.end_epoch(scores)
    run.save(state(value))
    return loss_and_dice


def test_epoch_is_chosen_by_the_cases_that_hold_a_label():
    # a network that finds nothing would win where a healthy case counts 1 for that
    nothing = {"ill": {"x": Score("dice", 0.0)}, "well": {"x": Score("false_positive_ml", 0.0)}}
    good = {"ill": {"x": Score("dice", 0.8)}, "well": {"x": Score("false_positive_ml", 0.1)}}
    progress = Progress()
    for epoch, scores in enumerate((nothing, good, nothing, {"well": nothing["well"]}), 1):
        progress = dataclasses.replace(progress, epoch=epoch).validated(mean_dice(scores))
    assert (progress.best_epoch, progress.best_dice, progress.stale) == (2, 0.8, 1)


def test_checkpoints_of_earlier_versions_tell_how_far_they_are():
    meta = {"epoch": 2, "losses": [0.5, 0.25], "best_dice": 0.75, "best_epoch": 1, "stale": 1}
    progress = Progress.from_json(json.loads(json.dumps(meta | {"seconds": 3.5})))
    assert progress == Progress(2, (0.5, 0.25), 0.75, 1, 1, 3.5)
    assert json.loads(json.dumps(dataclasses.asdict(progress))) == meta | {"seconds": 3.5}
    assert Progress.from_json({}) == Progress()


def test_epoch_gives_its_loss_its_scores_and_its_time(start):
    run = start()
    run.add_seconds(2.0)
    assert do_epoch(run, ILL, 1.0) == (0.5, 0.8)
    with (run.folder / "metrics.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("it", "1", "train", "", "", "loss", "0.5"),
        ("it", "1", "validation", "b", "lesion", "dice", "0.8"),
        ("it", "1", "train", "", "", "seconds", "2.0"),
    ]
    assert run.progress == Progress(1, (), 0.8, 1, 0, 2.0)


def test_checkpoint_holds_all_that_it_takes_to_go_on(start):
    run = start()
    do_epoch(run, ILL, 1.0)
    run.add_loss(0.5)
    run.save(state(2.0))
    run.close()
    found, meta = restored(run)
    np.testing.assert_array_equal(found.params["w"], [2.0, 2.0])
    assert Progress.from_json(meta) == run.progress
    assert start(run.progress).step == 3


def test_best_network_is_kept_whether_written_at_once_or_later(start):
    run = start()
    do_epoch(run, ILL, 1.0)
    do_epoch(run, WORSE, 2.0)
    run.close()
    np.testing.assert_array_equal(load_variables(run.folder)["params"]["w"], [1.0, 1.0])


def test_best_network_that_is_held_is_written_with_the_next_checkpoint(start):
    run = start()
    for value, scores in ((1.0, ILL), (2.0, WORSE)):
        for loss in (0.75, 0.25):
            run.add_loss(loss)
        run.end_epoch(scores)
        run.hold_best(state(value))
    run.save(state(2.0))
    run.close()
    for which, value in (("best", 1.0), ("last", 2.0)):
        np.testing.assert_array_equal(load_variables(run.folder, which)["params"]["w"], [value] * 2)


def test_same_checkpoint_is_not_written_twice(start, monkeypatch):
    run = start()
    do_epoch(run, ILL, 1.0)
    monkeypatch.setattr(Checkpoints, "save", lambda *_, **__: pytest.fail("written again"))
    run.save(state(1.0))


def test_training_ends_after_its_epochs_or_where_patience_is_over(start):
    run = start(patience=1)
    assert not run.finished
    do_epoch(run, ILL, 1.0)
    do_epoch(run, WORSE, 1.0)
    assert run.finished
    assert Progress(epoch=3).finished(run.config)


def test_last_epoch_is_always_validated(start):
    run = start(validate_every=2)
    validated = []
    for _ in range(3):
        validated.append(run.is_validated)
        do_epoch(run, None, 1.0)
    assert validated == [False, True, True]


def test_loss_that_is_not_finite_ends_the_training_and_keeps_its_batch(start):
    run = start()
    for loss in (0.5, float("nan"), float("inf")):  # the last was under way already
        run.add_loss(loss)
    assert run.finished
    assert run.step == 2
    path = run.folder / "failed-batch.npz"
    assert str(run.failure).startswith(f"{path}: the loss became nan at step 2 with this batch")
    with np.load(path) as batch:
        np.testing.assert_array_equal(batch["images"], loader(run.config).batch(1)[0])
    run.save(None)
    assert restored(run) is None


def test_host_that_writes_nothing_knows_the_same_progress(start, tmp_path):
    run = start()
    other = Run(tmp_path / "other", run.config, loader(run.config), None, Progress())
    other.begin(SPLIT, tensorboard=True)
    assert do_epoch(run, ILL, 1.0) == do_epoch(other, ILL, 1.0)
    assert other.progress == run.progress
    other.add_loss(float("nan"))
    assert isinstance(other.failure, InputError)
    other.close()
    assert not (tmp_path / "other").exists()


def test_metrics_after_the_present_progress_are_dropped(start):
    run = start()
    do_epoch(run, ILL, 1.0)
    first = run.progress
    do_epoch(run, WORSE, 2.0)
    run.close()
    before = (run.folder / "metrics.csv").read_text().splitlines()
    start(first)
    assert (run.folder / "metrics.csv").read_text().splitlines() == before[:4]


def test_losses_are_waited_for_late_and_time_is_shared(start, monkeypatch):
    clock = iter([10.0, 12.0, 16.0])
    monkeypatch.setattr("segjax.train.run.time", SimpleNamespace(monotonic=lambda: next(clock)))
    one, other = start(), start()
    underway = Underway()
    for losses in ([0.5, 0.25], [1.0, 2.0], [3.0, 4.0]):
        underway.append(jnp.array(losses), [one, other])
    underway.settle([one, other], ahead=2)
    assert (one.progress.losses, other.progress.losses) == ((0.5,), (0.25,))
    underway.settle([one, other])
    assert (one.progress.losses, other.progress.losses) == ((0.5, 1.0, 3.0), (0.25, 2.0, 4.0))
    assert (one.progress.seconds, other.progress.seconds) == (3.0, 3.0)


def test_hosts_share_the_rows_of_a_batch(start):
    config = dataclasses.replace(start().config, batch_size=2)
    whole, half = loader(config).batch(0), loader(config, rows=slice(1, 2)).batch(0)
    np.testing.assert_array_equal(half[0], whole[0][1:])
