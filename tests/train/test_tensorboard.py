import csv
import dataclasses
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.data.cases import find_cases
from segjax.data.io.formats import read_label
from segjax.data.labels import IGNORED
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import ZScore
from segjax.data.splits import split_cases
from segjax.errors import InputError
from segjax.evaluate.scores import Score
from segjax.train._fit import fit
from segjax.train.checkpoints import Checkpoints
from segjax.train.config import OptimizerConfig
from segjax.train.tensorboard import Board, _means, check_tensorboard, overlay_png
from tests.peers import Peer
from tests.train.events import curves, pictures

reader = Peer("tensorboard.backend.event_processing.event_accumulator", "tensorboard")

SCRIPT = Path(__file__).with_name("train_tiny.py")
spec = importlib.util.spec_from_file_location("tiny", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module", autouse=True)
def _tiny_networks():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    write_dataset(folder, count=4, shape=(16, 16), kind="meningioma")
    return find_cases(folder)


@pytest.fixture(scope="module")
def split(dataset):
    return split_cases([case.name for case in dataset.cases], validation=0.25)


# A cosine of 6 steps: 3 steps and one validation per epoch.
CONFIG = tiny.config(
    model="tiny2d",
    patch_size=(16, 16),
    pipeline=Pipeline((ZScore(),)),
    epochs=2,
    patches_per_case=2,
    labels=("background", "lesion core"),
    optimizer=OptimizerConfig(0.1, schedule="cosine"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset, split):
    """A training that nothing stopped."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    fit(CONFIG, dataset, split, run, tensorboard=True)
    return run


def values(run, metric):
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == metric]


def test_curves_are_those_of_the_metrics(whole):
    found = curves(whole)
    assert [step for step, _ in found["loss/step"]] == [1, 2, 3, 4, 5, 6]
    by_step = np.reshape([value for _, value in found["loss/step"]], (2, 3))
    np.testing.assert_allclose(by_step.mean(axis=1), values(whole, "loss"), rtol=1e-6)
    for name, metric in {
        "loss/epoch": "loss",
        "dice/mean": "dice",
        "dice/lesion_core": "dice",
        "seconds/total": "seconds",
    }.items():
        assert [step for step, _ in found[name]] == [3, 6]
        np.testing.assert_allclose([v for _, v in found[name]], values(whole, metric), rtol=1e-6)
    seconds = np.diff([0, *values(whole, "seconds")])
    np.testing.assert_allclose([v for _, v in found["seconds/epoch"]], seconds, rtol=1e-4)


def test_learning_rate_of_each_step_is_shown(whole):
    expected = [(t + 1, 0.1 * (1 + np.cos(np.pi * t / 6)) / 2) for t in range(6)]
    np.testing.assert_allclose(curves(whole)["learning_rate"], expected, rtol=1e-5)


def test_picture_is_shown_whenever_dice_rises(whole):
    dice = values(whole, "dice")
    rises = [3, 6] if dice[1] > dice[0] else [3]
    shown = pictures(whole, "validation")
    assert [step for step, _ in shown] == rises
    _, picture = shown[0]
    image = Image.open(io.BytesIO(picture.encoded_image_string))
    assert image.size == (picture.width, picture.height)
    assert np.ptp(np.asarray(image)[..., :3]) > 100  # not blank


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.peer("tensorboard")
def test_tensorboard_shows_all_that_was_written(whole):
    found = reader.EventAccumulator(str(whole / "tensorboard"), {"images": 0}).Reload()
    shown = {name: found.Scalars(name) for name in found.Tags()["scalars"]}
    points = {name: [(each.step, each.value) for each in some] for name, some in shown.items()}
    assert points == curves(whole)
    images = [(each.step, each.encoded_image_string) for each in found.Images("validation")]
    ours = pictures(whole, "validation")
    assert images == [(step, picture.encoded_image_string) for step, picture in ours]


@pytest.mark.parametrize(("stop", "written"), [(2, True), (3, False)])
def test_stopped_training_goes_on_without_points_lost_or_twice(
    whole, tmp_path, dataset, split, monkeypatch, stop, written
):
    count, save = iter(range(1, 100)), Checkpoints.save

    def save_and_die(self, *arguments, **options):
        number = next(count)
        if number != stop or written:
            save(self, *arguments, **options)
        if number == stop:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            fit(CONFIG, dataset, split, tmp_path, checkpoint_seconds=0, tensorboard=True)
    (last,) = (tmp_path / "tensorboard").iterdir()
    with last.open("ab") as file:
        file.write(last.read_bytes()[-30:-1])  # a record that was cut short
    fit(CONFIG, dataset, split, tmp_path, tensorboard=True)
    assert curves(tmp_path, times=False) == curves(whole, times=False)
    assert pictures(tmp_path, "validation") == pictures(whole, "validation")
    seconds = [value for _, value in curves(tmp_path)["seconds/epoch"]]
    np.testing.assert_allclose(seconds, np.diff([0, *values(tmp_path, "seconds")]), rtol=1e-3)


def test_logs_that_begin_late_tell_no_time_of_an_epoch_that_they_did_not_see(tmp_path):
    board = Board(tmp_path, CONFIG, steps_per_epoch=3, done=3)
    board.epoch(2, [0.5, 0.25, 0.75], None, seconds=60.0)
    board.close()
    found = curves(tmp_path)
    assert found["loss/step"] == [(4, 0.5), (5, 0.25), (6, 0.75)]
    assert found["loss/epoch"] == [(6, 0.5)]
    assert found["seconds/total"] == [(6, 60.0)]
    assert "seconds/epoch" not in found
    assert "dice/mean" not in found


def test_files_of_one_second_do_not_replace_one_another(tmp_path):
    for done in range(3):
        board = Board(tmp_path, CONFIG, steps_per_epoch=3, done=done)
        board.steps(0, [0.5] * (done + 1))
        board.close()
    assert curves(tmp_path)["loss/step"] == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_missing_package_is_named_before_anything_is_made(tmp_path, dataset, split, monkeypatch):
    monkeypatch.setattr("segjax.train.tensorboard.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r'need tensorboardX: pip install .*"\.\[tensorboard\]" in '
    ):
        fit(CONFIG, dataset, split, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError):
        check_tensorboard()


def test_picture_shows_no_mask_where_voxels_are_ignored(dataset):
    case = dataset.cases[0]
    truth = read_label(case.label)
    halves = np.zeros_like(truth.data)
    halves[:8] = 1
    ignored, absent = halves.copy(), halves.copy()
    ignored[8:], absent[8:] = IGNORED, 0
    found = np.ones_like(halves)

    def drawn(label, mask):
        return overlay_png(case, truth.with_data(label), mask, labels=("a", "b"), title="")

    assert drawn(ignored, found) == drawn(absent, halves)
    assert drawn(ignored, found) != drawn(absent, found)


def test_picture_of_a_case_whose_image_is_gone_is_left_out(tmp_path, dataset):
    case = dataset.cases[0]
    moved = dataclasses.replace(case, images=(tmp_path / "gone.png",))
    truth = read_label(case.label)
    assert overlay_png(moved, truth, truth.data, labels=("a", "b"), title="") is None
    board = Board(tmp_path, CONFIG, steps_per_epoch=3)
    board.picture(1, "validation", None)
    board.close()
    assert pictures(tmp_path, "validation") == []


def test_curves_tell_false_positives_apart_from_dice():
    scores = {
        "ill": {"x": Score("dice", 0.5), "y": Score("dice", 1.0)},
        "well": {"x": Score("false_positive_ml", 0.2), "y": Score("dice", 0.0)},
        "too": {"x": Score("false_positive_ml", 0.0), "y": Score("false_positive_ml", 0.0)},
    }
    assert _means(scores) == {
        "dice/mean": 0.5,
        "dice/x": 0.5,
        "false_positive_ml/x": 0.1,
        "dice/y": 0.5,
        "false_positive_ml/y": 0.0,
    }
    assert _means({"too": scores["too"]}).keys() == {"false_positive_ml/x", "false_positive_ml/y"}
