import csv
import dataclasses
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data.cases import find_cases
from segjax.data.loader import Loader
from segjax.data.phantom.dataset import write_dataset
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.evaluate.scores import Score
from segjax.provenance import read_parts
from segjax.train import resident
from segjax.train._fit import RunFinishedError, fit
from segjax.train.checkpoints import Checkpoints, load_variables
from segjax.train.config import InitConfig, read_config
from segjax.train.losses import Loss
from segjax.train.network import Network
from segjax.train.resident import ResidentLoader
from segjax.train.run import make_loader
from segjax.train.sweeps import loop as _sweep_loop
from segjax.train.sweeps import member as _member
from segjax.train.sweeps.display import SweepDisplay, show_sweep
from segjax.train.sweeps.loop import make_batches
from segjax.train.sweeps.sweep import (
    Execution,
    MemberResult,
    SweepConfig,
    SweepResult,
    _write_example,
    sweep,
)
from segjax.train.sweeps.together import Programs, Seat
from tests.train.events import curves

SCRIPT = Path(__file__).with_name("sweep_tiny.py")
spec = importlib.util.spec_from_file_location("sweep_tiny", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module", autouse=True)
def _tiny_networks():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    write_dataset(folder, count=9, shape=(16, 16), kind="meningioma")
    return folder


@pytest.fixture(scope="module")
def dataset(data):
    return find_cases(data)


@pytest.fixture(scope="module")
def split(dataset):
    return tiny.split_of(dataset)


GRID = {"kernels": (3, 1), "alphas": (0.3, 0.7), "seeds": (0,)}
PAIRS = Execution("unrolled", at_once=2, tensorboard=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory, dataset, split):
    """A sweep of four members that all run to their last epoch."""
    out = tmp_path_factory.mktemp("sweeps") / "sweep"
    return sweep(SweepConfig(tiny.config(), **GRID), dataset, split, out, execution=PAIRS)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, dataset, split):
    """Train a member by itself, once."""
    folder, made = tmp_path_factory.mktemp("alone"), {}

    def train(config):
        if config not in made.values():
            fit(config, dataset, split, folder / str(len(made)))
            made[folder / str(len(made))] = config
        return next(run for run, known in made.items() if known == config)

    return train


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def values(run):
    """Return what a run measured, apart from the time."""
    rows = table(run / "metrics.csv")
    return {
        (row["epoch"], row["split"], row["case"], row["metric"]): float(row["value"])
        for row in rows
        if row["metric"] != "seconds"
    }


def test_grid_holds_every_combination_once():
    grid = SweepConfig(tiny.config(name="any", seed=9), (3, 1), (0.3, 0.7), (0, 1))
    names = [member.name for member in grid.members]
    assert names[:3] == ["k3-a0.3-s0", "k3-a0.3-s1", "k3-a0.7-s0"]
    assert len(set(names)) == 8
    last = grid.members[-1].config
    assert (last.model, last.loss.terms[0].options["alpha"], last.seed) == ("tiny-k1", 0.7, 1)
    assert last.loss.terms[1] == tiny.config().loss.terms[1]
    assert last.augment == tiny.config().augment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alphas": ()}, "alphas of a sweep: give one or more"),
        ({"seeds": (1, 1)}, "each once"),
        ({"alphas": (0.5, 1.5)}, "alpha 1.5 is out of range"),
        ({"base": tiny.config(model="mpunet++")}, "no kernel size to vary"),
        ({"base": tiny.config(init=InitConfig("other.onnx"))}, "init: members of a sweep"),
        ({"base": tiny.config(loss=Loss())}, "no Tversky term"),
    ],
)
def test_grids_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        SweepConfig(**{"base": tiny.config(), **GRID, **changes})


def test_impossible_execution_is_refused():
    with pytest.raises(InputError, match="0 members at once"):
        Execution(at_once=0)
    assert Execution("unrolled").members_at_once == 4
    assert Execution("vmap", at_once=3).members_at_once == 3
    assert Execution().members_at_once == 1
    assert Execution("apart", at_once=1).members_at_once == 1
    with pytest.raises(InputError, match="0 devices: give 1 or more"):
        Execution(devices=0)
    assert len(Execution(devices=9).local_devices) == len(jax.local_devices())


def test_table_has_one_row_for_each_combination(done):
    rows = table(done.folder / "results.csv")
    found = [(int(row["kernel"]), float(row["alpha"]), int(row["seed"])) for row in rows]
    assert found == [(k, a, s) for k in (3, 1) for a in (0.3, 0.7) for s in (0,)]
    assert all((row["epochs"], row["steps"], row["error"]) == ("3", "9", "") for row in rows)
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_table_agrees_with_the_metrics_of_each_member(done):
    for row in table(done.folder / "results.csv"):
        dice = {}
        for (epoch, _, _, metric), value in values(done.folder / "runs" / row["run"]).items():
            if metric == "dice":
                dice.setdefault(epoch, []).append(value)
        means = {epoch: np.mean(found) for epoch, found in dice.items()}
        assert float(row["validation_dice"]) == pytest.approx(max(means.values()))
        assert means[row["epoch"]] == pytest.approx(max(means.values()))


def test_images_have_the_dice_of_each_member_and_average_to_the_table(done, split):
    images = table(done.folder / "images.csv")
    assert len(images) == 4 * len(split.test)
    assert {row["case"] for row in images} == set(split.test)
    for row in table(done.folder / "results.csv"):
        same = ("kernel", "alpha", "seed")
        own = [float(i["dice"]) for i in images if all(i[name] == row[name] for name in same)]
        assert float(row["test_dice"]) == pytest.approx(np.mean(own))


def test_member_of_a_group_equals_the_same_training_alone(done, alone):
    member = done.members[1]
    expected = values(alone(member.config))
    assert values(done.folder / "runs" / member.name) == pytest.approx(expected, abs=1e-5)


def test_members_are_ordinary_runs(done, alone, dataset, split):
    member = done.members[1]
    run = done.folder / "runs" / member.name
    assert read_config(run) == member.config
    with pytest.raises(RunFinishedError):
        fit(member.config, dataset, split, run)
    ours, theirs = (load_variables(folder) for folder in (run, alone(member.config)))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_stacked_members_equal_unrolled_ones(done, tmp_path, dataset, split):
    grid = SweepConfig(tiny.config(), (3,), (0.3, 0.7), (0,))
    stacked = Execution("vmap", at_once=2)
    other = sweep(grid, dataset, split, tmp_path / "vmap", execution=stacked)
    for member in grid.members:
        ours, theirs = (values(r.folder / "runs" / member.name) for r in (other, done))
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_each_member_has_curves_for_tensorboard(done):
    for member in done.members:
        run = done.folder / "runs" / member.name
        losses = [value for key, value in values(run).items() if key[-1] == "loss"]
        expected = [*zip((3, 6, 9), losses, strict=True)]
        np.testing.assert_allclose(curves(run)["loss/epoch"], expected, rtol=1e-6)
        assert [step for step, _ in curves(run)["loss/step"]] == list(range(1, 10))


def test_finished_members_are_not_touched_again(done, dataset, split, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(_sweep_loop.SweepLoop, "run", never)
    monkeypatch.setattr("segjax.train.sweeps.sweep.load_cases", never)
    again = sweep(SweepConfig(tiny.config(), **GRID), dataset, split, done.folder)
    assert again.results == done.results
    assert again.best == done.best


def test_best_member_is_chosen_by_validation_and_shown_on_test_images(done, split):
    best = max(done.results.values(), key=lambda result: result.validation_dice)
    assert done.results[done.best.name] == best
    assert done.run == done.folder / "runs" / done.best.name
    files = sorted((done.folder / "examples").glob("*.npz"))
    assert [f.stem for f in files] == [f"{done.best.name}-{name}" for name in sorted(split.test)]
    for file, name in zip(files, sorted(split.test), strict=True):
        with np.load(file) as arrays:
            both = (arrays["mask"] == 1) & (arrays["truth"] == 1)
            total = arrays["mask"].sum() + arrays["truth"].sum()
            found = 2 * both.sum() / total if total else 1.0
            assert found == pytest.approx(best.test[name]["lesion"].value, abs=1e-6)
            assert arrays["image"].shape == (16, 16, 1)


@pytest.fixture(scope="module")
def tired(tmp_path_factory, dataset, split):
    """Four members, two at a time, that stop at different epochs."""
    out = tmp_path_factory.mktemp("sweeps") / "tired"
    grid = SweepConfig(tiny.config(epochs=6, patience=1), (3,), (0.5,), (0, 1, 2, 3))
    return sweep(grid, dataset, split, out, execution=PAIRS)


def test_every_member_stops_by_its_own_validation(tired, alone):
    epochs = [tired.results[member.name].epochs for member in tired.members]
    assert len(set(epochs)) > 1  # or this test would show nothing
    for member in tired.members[1:2]:
        expected = values(alone(member.config))
        assert values(tired.folder / "runs" / member.name) == pytest.approx(expected, abs=1e-5)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("stop", [7])
def test_sweep_stopped_at_any_checkpoint_ends_as_if_undisturbed(
    tired, tmp_path, dataset, split, monkeypatch, stop
):
    save, count = Checkpoints.save, iter(range(1, 1000))

    def save_and_die(self, *arguments, **options):
        save(self, *arguments, **options)
        if next(count) == stop:
            raise Killed

    grid = SweepConfig(tired.members[0].config, (3,), (0.5,), (0, 1, 2, 3))
    often = dataclasses.replace(PAIRS, checkpoint_seconds=0.05)
    out = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            sweep(grid, dataset, split, out, execution=often)
    again = sweep(grid, dataset, split, out, execution=often)
    for member in tired.members:
        ours, theirs = (values(r.folder / "runs" / member.name) for r in (again, tired))
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert again.results[member.name].test == tired.results[member.name].test
        runs = (result.folder / "runs" / member.name for result in (again, tired))
        ours, theirs = (curves(run)["loss/step"] for run in runs)
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_disk_that_takes_no_more_ends_a_sweep_in_one_line(tmp_path, dataset, split, monkeypatch):
    import resource

    numbers, save = iter(range(1, 100)), Checkpoints.save
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_to_full_disk(self, *args, **options):
        if next(numbers) == 4:  # the second of each of two members is whole, then
            self.restore_best(args[1])  # waits
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        save(self, *args, **options)

    grid = SweepConfig(tiny.config(epochs=2), (3,), (0.5,), (0, 1))
    often = Execution("unrolled", at_once=2, checkpoint_seconds=0)
    monkeypatch.setattr(Checkpoints, "save", save_to_full_disk)
    try:
        with pytest.raises(InputError, match=r"checkpoints: not writable \(File too large\)"):
            sweep(grid, dataset, split, tmp_path, execution=often)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for member in grid.members:
        assert load_variables(tmp_path / "runs" / member.name, "last")


def test_interrupted_sweep_has_written_what_every_member_learned(
    tmp_path, dataset, split, monkeypatch, capsys
):
    pressed = []

    def press(self, run, loss):
        if not pressed:
            pressed.append(run)
            signal.raise_signal(signal.SIGINT)

    grid = SweepConfig(tiny.config(epochs=6), (3,), (0.5,), (0, 1))
    monkeypatch.setattr(SweepDisplay, "epoch", press)
    with pytest.raises(KeyboardInterrupt):
        sweep(grid, dataset, split, tmp_path, execution=PAIRS)
    assert "stopping: writing checkpoints first" in capsys.readouterr().err
    for member in grid.members:
        (step,) = (tmp_path / "runs" / member.name / "checkpoints").iterdir()
        assert int(step.name) == pressed[0].step > 0


def test_grid_may_grow(tired, dataset, split, tmp_path):
    base = tired.members[0].config
    small, large = (SweepConfig(base, (3,), (0.5,), seeds) for seeds in ((0,), (0, 1)))
    sweep(small, dataset, split, tmp_path / "sweep", execution=Execution("apart"))
    assert len(table(tmp_path / "sweep" / "results.csv")) == 1
    before = (tmp_path / "sweep" / "runs" / "k3-a0.5-s0" / "result.json").stat()
    grown = sweep(large, dataset, split, tmp_path / "sweep", execution=Execution("apart"))
    assert (tmp_path / "sweep" / "runs" / "k3-a0.5-s0" / "result.json").stat() == before
    assert len(table(tmp_path / "sweep" / "results.csv")) == 2
    for name, result in grown.results.items():
        assert result.epochs == tired.results[name].epochs


def test_member_that_diverges_ends_and_the_others_go_on(tmp_path, dataset, split, monkeypatch):
    add = _member.MemberRun.add_loss

    def add_loss(self, loss):
        add(self, float("nan") if self.member.seed == 1 and self.step == 4 else loss)

    monkeypatch.setattr(_member.MemberRun, "add_loss", add_loss)
    grid = SweepConfig(tiny.config(), (3,), (0.3,), (0, 1))
    result = sweep(grid, dataset, split, tmp_path / "sweep", execution=PAIRS)
    well, failed = (result.results[member.name] for member in grid.members)
    assert well.error == ""
    said = "failed-batch.npz: the loss became nan at step 5 with this batch, from "
    assert failed.error.startswith(said)
    assert failed.steps == 5
    with np.load(tmp_path / "sweep" / "runs" / "k3-a0.3-s1" / "failed-batch.npz") as batch:
        expected = make_loader(grid.members[1].config, _training_cases(dataset, split)).batch(4)
        np.testing.assert_array_equal(batch["images"], expected[0])
        np.testing.assert_array_equal(batch["labels"], expected[1])
    rows = table(tmp_path / "sweep" / "results.csv")
    assert [row["epochs"] for row in rows] == ["3", "1"]
    assert all(row["test_dice"] for row in rows)  # those of the first epoch's network


def test_sweep_says_how_it_came_about_and_its_members_nothing_else(done, dataset):
    (part,) = read_parts(done.folder)
    assert {Path(case.label).parent for case in dataset.cases} == {Path(part.data) / "labels"}
    assert part.seconds > 0
    assert all(read_parts(done.folder / "runs" / member.name) == () for member in done.members)


def test_folder_of_another_sweep_is_refused(done, dataset, split):
    grid = SweepConfig(tiny.config(epochs=7), **GRID)
    with pytest.raises(InputError, match=r"another configuration: epochs \(3 there, 7 now\)"):
        sweep(grid, dataset, split, done.folder)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("alphas", [(0.3, 0.7), (0.3, 0.7, 0.9)])
def test_sweep_on_other_cases_is_refused_and_nothing_is_touched(done, dataset, split, alphas):
    before = contents(done.folder)
    swapped = dataclasses.replace(
        split,
        train=(*split.train[1:], split.validation[0]),
        validation=(split.train[0], *split.validation[1:]),
    )
    grid = SweepConfig(tiny.config(), **GRID | {"alphas": alphas})
    with pytest.raises(InputError, match=r"split\.json: .* has other train cases"):
        sweep(grid, dataset, swapped, done.folder)
    assert contents(done.folder) == before


def test_order_of_names_in_a_split_means_nothing(done, dataset, split):
    turned = dataclasses.replace(split, train=split.train[::-1])
    again = sweep(SweepConfig(tiny.config(), **GRID), dataset, turned, done.folder)
    assert again.results == done.results


def test_alphas_that_differ_late_have_folders_of_their_own():
    grid = SweepConfig(tiny.config(), (3,), (0.5, 0.5000001, 0.1 + 0.2, 1), (0,))
    assert [member.name for member in grid.members] == [
        "k3-a0.5-s0",
        "k3-a0.5000001-s0",
        "k3-a0.30000000000000004-s0",
        "k3-a1-s0",
    ]
    assert [m.config.loss.terms[0].options["alpha"] for m in grid.members][:2] == [0.5, 0.5000001]


def test_several_at_once_apart_are_refused():
    with pytest.raises(InputError, match=r"3 members at once .*--together unrolled"):
        Execution(at_once=3)


def test_members_that_failed_count_by_the_network_they_had(done):
    members = SweepConfig(tiny.config(), (3,), (0.5,), (0, 1, 2, 3)).members
    names = [member.name for member in members]
    found = {"case": {"lesion": Score("dice", 0.5)}}
    lost = {"case": {"lesion": Score("dice", 0.75)}}
    results = {
        names[0]: MemberResult(0.6, 2, 3, 9, 1.0, found),
        names[1]: MemberResult(0.8, 1, 1, 4, 1.0, lost, "the loss became nan at step 4"),
        names[2]: MemberResult(None, None, 0, 1, 1.0, {}, "the loss became nan at step 1"),
    }  # the fourth has not ended
    result = SweepResult(done.folder, members, results)
    assert result.best == members[1]
    assert result.failed == members[1:3]
    assert result.mean_test_dice(3, 0.5) == pytest.approx(0.625)


def test_folders_that_are_no_sweep_are_refused(dataset, split, tmp_path):
    grid = SweepConfig(tiny.config(), **GRID)
    (tmp_path / "a" / "runs").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds runs but no sweep\.json"):
        sweep(grid, dataset, split, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a sweep"):
        sweep(grid, dataset, split, tmp_path / "b")


def test_sweep_without_test_cases_is_refused(dataset, split, tmp_path):
    grid = SweepConfig(tiny.config(), **GRID)
    without = dataclasses.replace(split, test=())
    with pytest.raises(InputError, match="needs validation and test cases"):
        sweep(grid, dataset, without, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_sweep_over_several_machines_is_refused(dataset, split, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="takes the devices of one machine"):
        sweep(SweepConfig(tiny.config(), **GRID), dataset, split, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_results_keep_scores_and_those_of_earlier_versions_are_dice(tmp_path):
    test = {"a": {"x": Score("dice", 0.5)}, "b": {"x": Score("false_positive_ml", 0.1)}}
    result = MemberResult(0.5, 2, 3, 9, 1.0, test)
    (tmp_path / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    assert _member.read_result(tmp_path) == result
    assert result.test_dice == 0.5
    old = dataclasses.asdict(result) | {"test": {"a": {"x": 0.5}, "b": {"x": 1}}}
    (tmp_path / "result.json").write_text(json.dumps(old))
    assert _member.read_result(tmp_path).test_dice == 0.75


def test_damaged_result_is_named(done, tmp_path):
    (tmp_path / "result.json").write_text('{"epochs": 3}')
    with pytest.raises(InputError, match=r"result\.json: is no result of a sweep"):
        _member.read_result(tmp_path)


def test_data_go_to_the_device_where_they_fit(dataset, split, monkeypatch, capsys):
    config = tiny.config()
    cases = _training_cases(dataset, split)
    devices = jax.local_devices()[:1]

    def kind(on_device):
        return type(make_batches(make_loader(config, cases), on_device, devices)[devices[0]])

    assert (kind(None), kind(True)) == (Loader, ResidentLoader)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert kind(None) == ResidentLoader
    monkeypatch.setattr(resident, "device_bytes", lambda device: (1000, "GPU"))
    assert kind(None) == Loader
    assert "not kept on the device: the 5 training cases take" in capsys.readouterr().err
    with pytest.raises(InputError, match="on the device"):
        kind(True)


def _training_cases(dataset, split):
    from segjax.train.cases import choose_cases, load_cases

    return load_cases(tiny.config(), choose_cases(dataset, split)).train


@pytest.mark.parametrize("together", ["unrolled", "vmap"])
def test_a_step_takes_the_memory_of_all_states_for_the_next_one(together):
    network, programs = Network(tiny.config(), 3), Programs(tiny.config(), 3, together)
    packed = programs.pack([network.init(), network.init()])
    batch = jnp.zeros((2, 16, 16, 1)), jnp.zeros((2, 16, 16), jnp.uint8)
    programs.step(packed, [Seat(batch, network.dropout_key, jnp.float32(0.5))] * 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(packed))


@pytest.mark.parametrize("on_device", [False, True])
def test_reseeded_batches_are_those_of_a_loader_of_that_seed(dataset, split, on_device):
    cases = _training_cases(dataset, split)
    devices = jax.local_devices()[:1]

    def batches(seed):
        return make_batches(make_loader(tiny.config(seed=seed), cases), on_device, devices)

    ours = batches(0)[devices[0]].reseeded(7).batch(3)
    theirs = batches(7)[devices[0]].batch(3)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_best_of_a_sweep_in_which_all_diverged_is_none(done):
    lost = MemberResult(None, None, 0, 1, 1.0, {}, "the loss became nan at step 1")
    results = {member.name: lost for member in done.members}
    result = SweepResult(done.folder, done.members, results)
    assert result.best is None
    assert result.run is None
    assert lost.test_dice is None


def test_time_left_counts_epochs_of_every_member_that_is_left(capsys):
    members = SweepConfig(tiny.config(epochs=10), (1, 3), (0.5,), (0, 1)).members
    display = SweepDisplay(members, {})
    assert display.seconds_left() is None
    display.end(members[0], MemberResult(0.5, 1, 4, 12, 8.0, {}))  # 2 s an epoch, 4 epochs
    # one more of kernel 1: 4 epochs of 2 s; two of kernel 3: 4 epochs of 9 · 2 s each
    assert display.seconds_left() == pytest.approx(8 + 2 * 4 * 18)
    told = capsys.readouterr().err
    assert "k1-a0.5-s0: validation Dice 0.5000, test Dice –, 4 epochs" in told
    assert "1/4 finished, about 0:02:32 left" in told


def test_terminal_gets_one_bar_that_tells_the_time_left(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    members = SweepConfig(tiny.config(epochs=10), (3,), (0.5,), (0, 1)).members
    with show_sweep(members, {}) as display:
        display.end(members[0], MemberResult(0.5, 1, 4, 12, 8.0, {}))
    told = capsys.readouterr().err
    assert "1/2" in told
    assert "about 0:00:08 left" in told


def test_example_whose_image_is_gone_is_left_out_with_a_warning(done, dataset, split, tmp_path):
    case = next(case for case in dataset.cases if case.name in split.test)
    moved = dataclasses.replace(case, images=(tmp_path / "gone.png",))
    with pytest.warns(UserWarning, match="not made, for its image is gone"):
        _write_example(tmp_path / "a.npz", moved, Network(done.best.config, 1), {})
    assert not (tmp_path / "a.npz").exists()


def start(data, cache, executions, *, devices):
    """Sweep in another process, which has so many devices."""
    plan = json.dumps({str(out): options for out, options in executions.items()})
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, str(SCRIPT), str(data), plan]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    try:
        error = process.communicate(timeout=240)[1]
    finally:
        process.kill()
    assert process.returncode == 0, error


def members(sweep):
    return [sweep / "runs" / row["run"] for row in table(sweep / "results.csv")]


@pytest.mark.slow
def test_members_on_several_devices_are_those_on_one(tmp_path, data, cache):
    apart, stacked = {"together": "apart"}, {"together": "vmap", "at_once": 2, "on_device": True}
    executions = {
        tmp_path / "apart-1": apart | {"devices": 1},
        tmp_path / "apart-4": apart | {"devices": 4},
        tmp_path / "vmap-1": stacked | {"devices": 1},
        tmp_path / "vmap-2": stacked | {"devices": 2},
    }
    finish(start(data, cache, executions, devices=4))
    for name, other in [("apart-4", "apart-1"), ("vmap-2", "vmap-1")]:
        pairs = zip(members(tmp_path / name), members(tmp_path / other), strict=True)
        for run, expected in pairs:
            assert values(run) == values(expected)
            leaves = (jax.tree.leaves(load_variables(folder)) for folder in (run, expected))
            for ours, theirs in zip(*leaves, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    four, one = (table(tmp_path / name / "images.csv") for name in ("apart-4", "apart-1"))
    assert four == one


@pytest.mark.slow
def test_killed_sweep_goes_on_exactly_also_on_other_devices(tmp_path, data, cache):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    often = {"together": "unrolled", "at_once": 2, "checkpoint_seconds": 0.0, "tensorboard": True}
    begun = time.monotonic()
    finish(start(data, cache, {whole: often}, devices=1))
    lasted = time.monotonic() - begun
    rng = random.Random(0)
    for devices in (4, 1):
        process = start(data, cache, {killed: often}, devices=devices)
        time.sleep(lasted * rng.uniform(0.4, 0.8))
        process.kill()
        process.communicate(timeout=60)
    finish(start(data, cache, {killed: often}, devices=2))
    assert table(killed / "images.csv") == table(whole / "images.csv")
    for ours, theirs in zip(members(killed), members(whole), strict=True):
        assert values(ours) == pytest.approx(values(theirs), abs=1e-5)
        steps, expected = (curves(run)["loss/step"] for run in (ours, theirs))
        np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)


def test_split_and_grid_are_written(done, split):
    kept = json.loads((done.folder / "sweep.json").read_text())
    assert kept["alphas"] == [0.3, 0.7]
    parts = json.loads((done.folder / "split.json").read_text())
    assert Split(*(tuple(parts[name]) for name in ("train", "validation", "test"))) == split
