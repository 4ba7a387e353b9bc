"""Studies that arrive in a folder, and what a process that dies leaves of them."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import warnings
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest

import segjax.watch
from segjax.cli import main
from segjax.data.io.formats import read_image, write_volume
from segjax.errors import InputError
from segjax.volume import Volume
from segjax.watch import Record, Task, watch
from segjax_onnx.predict.predictor import Predictor
from tests.data.io.dicom.made import MARK, write_made
from tests.tiny_network import watch_with, write_network


class StandInPredictor:
    """Marks one voxel; knows nothing of images whose names start with ``bad``."""

    metadata = SimpleNamespace(labels=("background", "lesion"), in_channels=1)
    missing = ()
    files = ()

    def __init__(self):
        self.made = []

    def predict_files(self, cases, out, **options):
        (case,) = cases
        read_image(case.images)
        if case.name.startswith("bad"):
            raise InputError(f"{case.images[0]}: holds no numbers")
        self.made.append(case.name)
        data = np.zeros((4, 4, 4), np.uint8)
        data[0, 0, 0] = 1
        path = Path(out) / f"{case.name}.nii.gz"
        write_volume(Volume(data, np.eye(4)), path)
        return [path]


class Clock:
    """Time that passes only where somebody sleeps; things happen at times."""

    def __init__(self, monkeypatch):
        self.now, self.plans = 1000.0, {}
        fake = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(segjax.watch, "time", fake)

    def sleep(self, seconds):
        self.now += seconds
        for at in sorted(at for at in self.plans if at <= self.now - 1000.0):
            self.plans.pop(at)()

    def at(self, seconds, act):
        self.plans[seconds] = act


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def put(path, value=1.0, *, age=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.full((4, 4, 4), value, np.float32), np.eye(4)).to_filename(path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def run(inbox, predictor=None, **options):
    """Watch once, at once unless options say otherwise."""
    task = Task(predictor or StandInPredictor())
    return list(watch(inbox, inbox.parent / "out", task, **{"settle": 0, "once": True, **options}))


def log(inbox):
    text = (inbox.parent / "out" / "watch.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def results(inbox):
    """List the folders of results; nothing else may lie beside them."""
    found = {path.name for path in (inbox.parent / "out").iterdir()}
    return sorted(found - {"failed", "watch.jsonl"})


def test_complete_studies_are_segmented_the_oldest_first(inbox):
    put(inbox / "p1" / "flair.nii.gz", age=10)
    put(inbox / "p2" / "deep" / "flair.nii.gz", age=30)
    put(inbox / "a.nii.gz", age=20)
    records = run(inbox)
    assert [(record.result, record.status) for record in records] == [
        ("p2", "done"), ("a", "done"), ("p1", "done"),
    ]  # fmt: skip
    assert [Record.from_json(line) for line in log(inbox)] == records
    names = {file.name for file in (inbox.parent / "out" / "p2").iterdir()}
    assert names == {"flair.nii.gz", "volumes.csv", "lesions.csv", "study.json"}
    assert results(inbox) == ["a", "p1", "p2"]


def test_nothing_is_done_twice_or_written_into_the_inbox(inbox):
    put(inbox / "p1" / "flair.nii.gz")
    before = sorted((path, path.stat().st_mtime_ns) for path in inbox.rglob("*"))
    assert len(run(inbox)) == 1
    assert run(inbox) == []
    assert sorted((path, path.stat().st_mtime_ns) for path in inbox.rglob("*")) == before


def test_a_result_that_was_fetched_is_not_made_again(inbox):
    put(inbox / "p1" / "flair.nii.gz")
    run(inbox)
    shutil.rmtree(inbox.parent / "out" / "p1")
    assert run(inbox) == []
    put(inbox / "p1" / "t1.nii.gz")
    assert [record.result for record in run(inbox)] == ["p1-2"]


def test_a_study_waits_until_its_files_settle(inbox, clock):
    put(inbox / "p1" / "a.nii.gz")
    clock.at(30, lambda: put(inbox / "p1" / "b.nii.gz"))
    clock.at(95, lambda: put(inbox / "p2" / "a.nii.gz"))
    found = watch(inbox, inbox.parent / "out", Task(StandInPredictor()), settle=60, poll=5)
    first = next(found)
    assert (first.study, first.masks, clock.now - 1000) == ("p1", 2, 90)
    assert (next(found).study, clock.now - 1000) == ("p2", 155)


def test_once_waits_as_long_as_files_may_settle(inbox, clock):
    put(inbox / "p1" / "a.nii.gz")
    clock.at(7, lambda: put(inbox / "p2" / "a.nii.gz"))
    assert [record.study for record in run(inbox, settle=12)] == ["p1"]
    assert clock.now - 1000 == 12
    assert [record.study for record in run(inbox, settle=12)] == ["p2"]


def test_a_study_that_changes_while_it_is_segmented_is_left_for_later(inbox):
    class Slow(StandInPredictor):
        def predict_files(self, cases, out, **options):
            if not self.made:
                put(inbox / "p1" / "b.nii.gz")
            return super().predict_files(cases, out, **options)

    put(inbox / "p1" / "a.nii.gz")
    predictor = Slow()
    assert run(inbox, predictor) == []
    assert results(inbox) == []
    (record,) = run(inbox, predictor)
    assert (record.result, record.masks) == ("p1", 2)


def test_late_images_make_a_second_result(inbox):
    put(inbox / "p1" / "a.nii.gz")
    run(inbox)
    put(inbox / "p1" / "a.nii.gz", 2.0)
    (record,) = run(inbox)
    assert (record.result, record.replaces) == ("p1-2", "p1")
    assert results(inbox) == ["p1", "p1-2"]


def test_the_same_images_sent_again_are_not_segmented_again(inbox):
    put(inbox / "p1" / "a.nii.gz")
    run(inbox)
    put(inbox / "p1" / "a.nii.gz", age=-50)
    (inbox / "p1" / "notes.txt").touch()
    assert run(inbox) == []
    assert results(inbox) == ["p1"]


def test_a_bad_study_is_set_aside_and_the_others_done(inbox):
    put(inbox / "bad" / "bad.nii.gz")
    put(inbox / "p1" / "a.nii.gz", age=-10)
    bad, good = sorted(run(inbox), key=lambda record: record.study)
    assert (bad.status, bad.reason) == ("failed", "bad/bad.nii.gz: holds no numbers")
    assert good.status == "done"
    told = json.loads((inbox.parent / "out" / "failed" / "bad.json").read_text())
    assert told["reason"] == bad.reason
    assert results(inbox) == ["p1"]
    assert run(inbox) == []


def test_a_bad_study_is_tried_again_when_it_changes_or_its_file_is_removed(inbox):
    failed = inbox.parent / "out" / "failed" / "p1.json"
    put(inbox / "p1" / "bad.nii.gz")
    assert [record.status for record in run(inbox)] == ["failed"]
    failed.unlink()
    assert [record.result for record in run(inbox)] == ["failed/p1.json"]
    (inbox / "p1" / "bad.nii.gz").rename(inbox / "p1" / "good.nii.gz")
    assert [record.result for record in run(inbox)] == ["p1"]
    assert not failed.exists()
    assert len(log(inbox)) == 3


def test_a_study_of_which_an_image_fails_is_done_in_part(inbox):
    put(inbox / "p1" / "a.nii.gz")
    put(inbox / "p1" / "bad.nii.gz")
    (record,) = run(inbox)
    assert (record.status, record.masks) == ("partly", 1)
    assert record.reason == "p1/bad.nii.gz: holds no numbers"
    table = (inbox.parent / "out" / "p1" / "volumes.csv").read_text()
    assert "p1/bad.nii.gz: holds no numbers" in table
    assert ".watch" not in table


def test_warnings_and_reasons_name_files_as_they_lie_in_the_inbox(inbox):
    class Wary(StandInPredictor):
        def predict_files(self, cases, out, **options):
            warnings.warn(f"{cases[0].images[0]}: odd voxels", stacklevel=1)
            return super().predict_files(cases, out, **options)

    put(inbox / "p1" / "a.nii.gz")
    with pytest.warns(UserWarning, match="^p1/a.nii.gz: odd voxels$"):
        run(inbox, Wary())
    table = (inbox.parent / "out" / "p1" / "volumes.csv").read_text()
    assert ",p1/a.nii.gz: odd voxels," in table


def test_subjects_of_bids_are_found_by_suffix_and_others_by_file_name(inbox):
    for name in ("sub-01/ses-1/anat/sub-01_ses-1_FLAIR", "sub-01/ses-1/anat/sub-01_ses-1_T1w"):
        put(inbox / f"{name}.nii.gz")
    task = Task(StandInPredictor(), images=["FLAIR"])
    options = {"settle": 0, "once": True}
    (record,) = watch(inbox, inbox.parent / "out", task, **options)
    assert (record.result, record.masks) == ("sub-01", 1)
    assert (inbox.parent / "out" / "sub-01" / "sub-01_ses-1.nii.gz").exists()
    put(inbox / "p1" / "flair.nii.gz")
    put(inbox / "p1" / "t1.nii.gz")
    task = Task(StandInPredictor(), images=["flair.nii.gz"])
    (record,) = watch(inbox, inbox.parent / "out", task, **options)
    assert (record.result, record.masks) == ("p1", 1)


def test_a_series_with_a_gap_waits_for_its_slice_and_late_ones_replace_nothing(inbox):
    write_made(inbox / "p1", "oblique")
    gap, last = sorted((inbox / "p1").iterdir(), key=number_of)[3:]
    for file in (gap, last):
        file.rename(inbox.parent / file.name)
    write_made(inbox / "p2", "enhanced")
    assert [one.status for one in run(inbox)] == ["done", "done"]
    (inbox.parent / last.name).rename(last)
    (record,) = run(inbox)
    assert (record.status, record.result, record.replaces) == ("failed", "failed/p1.json", "p1")
    (inbox.parent / gap.name).rename(gap)
    (record,) = run(inbox)
    assert (record.status, record.result, record.replaces) == ("done", "p1-2", "p1")
    assert not list((inbox.parent / "out" / "failed").iterdir())


def number_of(file):
    return pydicom.dcmread(file).InstanceNumber


def test_studies_of_one_name_get_folders_of_their_own(inbox):
    put(inbox / "a.nii.gz")
    put(inbox / "a" / "t1.nii.gz")
    put(inbox / "failed" / "t1.nii.gz")
    run(inbox)
    assert results(inbox) == ["a", "a-2", "failed-2"]
    assert run(inbox) == []


def test_loose_dicom_is_named_by_its_uid_and_nothing_tells_the_patient(inbox):
    for number in "12":
        write_made(inbox / "x", "axial", slices=4, StudyInstanceUID=f"1.2.{number}")
        for file in (inbox / "x").iterdir():
            file.rename(inbox / f"{number}{file.name}")
    (inbox / "x").rmdir()
    (inbox / "103.dcm").write_bytes((inbox / "103.dcm").read_bytes()[:-9])
    one, two = sorted(run(inbox), key=lambda record: record.study)
    assert (one.status, two.status, two.result) == ("failed", "done", "1.2.2")
    assert (inbox.parent / "out" / "1.2.2" / "1.2.2.nii.gz").exists()
    for file in (inbox.parent / "out").rglob("*.*"):
        assert MARK.encode() not in (file.read_bytes() if file.is_file() else b"")


def test_two_processes_do_not_share_an_outbox(inbox):
    put(inbox / "p1" / "a.nii.gz")
    first = watch(inbox, inbox.parent / "out", Task(StandInPredictor()), settle=0)
    next(first)
    with pytest.raises(InputError, match="another segjax watch writes there"):
        run(inbox)
    first.close()
    assert run(inbox) == []


@pytest.mark.parametrize(("one", "other"), [("in", "in"), ("in", "in/out"), ("in/deep", "in")])
def test_inbox_and_outbox_are_apart(one, other, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    with pytest.raises(InputError, match="one lies in the other"):
        next(watch(tmp_path / one, tmp_path / other, Task(StandInPredictor())))


@pytest.mark.parametrize("options", [{"settle": -1}, {"settle": float("nan")}, {"poll": -1}])
def test_times_are_seconds(options, inbox):
    with pytest.raises(InputError, match="give seconds, 0 or more"):
        run(inbox, **options)


def test_an_inbox_that_goes_away_is_waited_for(inbox, clock):
    put(inbox / "p1" / "a.nii.gz")
    away = inbox.rename(inbox.with_name("away"))
    inbox.mkdir()
    clock.at(3, inbox.rmdir)
    clock.at(21, lambda: away.rename(inbox))
    found = watch(inbox, inbox.parent / "out", Task(StandInPredictor()), settle=1, poll=1)
    with pytest.warns(UserWarning, match="cannot be listed"):
        assert next(found).study == "p1"


def test_a_full_disk_is_waited_for(inbox, clock, monkeypatch):
    put(inbox / "p1" / "a.nii.gz")
    real, room = segjax.watch.move, iter([False, False, True])

    def move(source, target):
        if not next(room):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(segjax.watch, "move", move)
    found = watch(inbox, inbox.parent / "out", Task(StandInPredictor()), settle=0)
    with pytest.warns(UserWarning, match="p1: .*No space left on device") as said:
        record = next(found)
    assert [str(one.message).rpartition("; ")[2] for one in said] == [
        "again in 60 s",
        "again in 120 s",
    ]
    assert (record.status, clock.now - 1000) == ("done", 180)


def test_a_line_that_the_disk_refuses_is_written_later_and_nothing_twice(inbox, clock, monkeypatch):
    put(inbox / "p1" / "a.nii.gz")
    put(inbox / "p2" / "a.nii.gz", age=-10)
    real, room = os.fsync, iter([False, False])

    def fsync(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("watch.jsonl") and not next(
            room, True
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    found = watch(inbox, inbox.parent / "out", Task(StandInPredictor()), settle=0)
    with pytest.warns(UserWarning, match="p1: not in the log yet"):
        assert [next(found).result, next(found).result] == ["p1", "p2"]
    assert [line["study"] for line in log(inbox)] == ["p1", "p2"]
    assert clock.now - 1000 == 120


def test_once_says_what_a_full_disk_left_undone(inbox, monkeypatch):
    def move(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    put(inbox / "p1" / "a.nii.gz")
    monkeypatch.setattr(segjax.watch, "move", move)
    with pytest.warns(UserWarning, match="p1"), pytest.raises(InputError, match="p1: not done"):
        run(inbox)
    monkeypatch.undo()
    assert [record.result for record in run(inbox)] == ["p1"]


def test_short_memory_is_waited_for_a_few_times(inbox, clock):
    class Large(StandInPredictor):
        def predict_files(self, cases, out, **options):
            self.made.append(clock.now)
            raise MemoryError("no")

    predictor = Large()
    put(inbox / "p1" / "a.nii.gz")
    found = watch(inbox, inbox.parent / "out", Task(predictor), settle=0, poll=60)
    with pytest.warns(UserWarning, match="again in"):
        record = next(found)
    assert record.status == "failed"
    assert "MemoryError" in record.reason
    assert np.diff(predictor.made).tolist() == [60, 120, 240, 480]


class Killed(BaseException):
    pass


def test_a_death_at_any_moment_loses_and_repeats_nothing(inbox, monkeypatch):
    """Die at each call of what writes, one after the other, until a run needs no more calls."""
    predictor, deaths = StandInPredictor(), 0
    for name in ("p1", "p2", "bad"):
        put(inbox / name / f"{name}.nii.gz")
    for step in count(1):
        left = [step]
        with monkeypatch.context() as patch:
            for module, name in (
                (segjax.watch, "move"), (segjax.watch, "write_json"),
                (segjax.watch, "sha256_files"), (os, "fsync"), (os, "replace"),
                (shutil, "rmtree"), (json, "dumps"),
            ):  # fmt: skip
                patch.setattr(module, name, dying(getattr(module, name), left))
            try:
                run(inbox, predictor)
                break
            except Killed:
                deaths += 1
                log_file = inbox.parent / "out" / "watch.jsonl"
                if step % 2 and log_file.exists():  # half a line got to the disk
                    with log_file.open("a") as file:
                        file.write('{"time": "20')
    assert deaths > 20
    assert sorted(line["study"] for line in log(inbox)) == ["bad", "p1", "p2"]
    assert results(inbox) == ["p1", "p2"]
    assert (inbox.parent / "out" / "failed" / "bad.json").exists()


def dying(call, left):
    """Return a function that dies before the call, or after it, when its time has come."""

    def other(*args, **options):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        made = call(*args, **options)
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return made

    return other


def test_a_study_that_kills_processes_goes_last_and_is_set_aside(inbox):
    class Deadly(StandInPredictor):
        def predict_files(self, cases, out, **options):
            if cases[0].name == "p1":
                os._exit(9)
            return super().predict_files(cases, out, **options)

    put(inbox / "p1" / "p1.nii.gz", age=10)
    put(inbox / "p2" / "p2.nii.gz")
    context = multiprocessing.get_context("fork")
    for death in range(5):
        process = context.Process(target=run, args=(inbox, Deadly()))
        process.start()
        process.join()
        assert process.exitcode == 9
        assert results(inbox) == [".watch", *(["p2"] if death else [])]
    (record,) = run(inbox, Deadly())
    assert (record.study, record.status) == ("p1", "failed")
    assert "5 processes died" in record.reason


def test_a_lost_log_is_written_anew(inbox):
    put(inbox / "p1" / "a.nii.gz", age=10)
    put(inbox / "bad" / "bad.nii.gz")
    run(inbox)
    before = log(inbox)
    (inbox.parent / "out" / "watch.jsonl").unlink()
    assert run(inbox) == []
    assert log(inbox) == before


def test_a_file_that_is_no_log_is_left_alone(inbox):
    file = inbox.parent / "out" / "watch.jsonl"
    file.parent.mkdir()
    file.write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=r"watch\.jsonl: is no log of segjax watch"):
        run(inbox)
    assert file.read_text() == '{"a": 1}\n'


def test_copies_do_where_links_are_impossible(inbox, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    put(inbox / "p1" / "a.nii.gz")
    assert [record.status for record in run(inbox)] == ["done"]


# -- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("network") / "model.onnx")


def test_command_prints_a_line_for_each_study(network, inbox, capsys):
    out = inbox.parent / "out"
    put(inbox / "p1" / "a.nii.gz")
    command = ["watch", str(inbox), str(out), "--model", str(network), "--once", "--settle", "0"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"{out}/p1: done, ")
    put(inbox / "p2" / "a.nii.gz").write_bytes(b"no image")
    assert main(command) == 1
    told, said = capsys.readouterr()
    assert told.startswith(f"{out}/failed/p2.json: failed, ")
    assert said.startswith("segjax: error: p2: p2/a.nii.gz: is no NIfTI")
    assert main(command) == 0


def test_command_writes_dicom_beside_the_masks_of_dicom(network, inbox):
    write_made(inbox / "p1", "oblique")
    command = ["watch", str(inbox), str(inbox.parent / "out"), "--model", str(network), "--dicom"]
    assert main([*command, "--once", "--settle", "0"]) == 0
    names = {file.name for file in (inbox.parent / "out" / "p1").glob("*.dcm")}
    assert names == {"p1.seg.dcm", "p1.sr.dcm"}
    for file in (inbox.parent / "out").rglob("*"):
        if file.is_file() and file.suffix != ".dcm":
            assert MARK.encode() not in file.read_bytes()


@pytest.mark.slow
def test_twenty_kills_lose_and_repeat_nothing(network, inbox):
    context = multiprocessing.get_context("forkserver")  # starts a process in no time
    context.set_forkserver_preload(["segjax.watch", "segjax.evaluate.volumes", "nibabel"])
    names = [f"p{number:03d}" for number in range(100)]
    done = []
    for kill, moment in enumerate(np.random.default_rng(0).uniform(0.0, 0.6, 20)):
        for name in names[5 * kill : 5 * (kill + 1)]:
            put(inbox / name / "a.nii.gz")
        begun = context.Event()
        process = context.Process(target=watch_with, args=(network, inbox, begun))
        process.start()
        begun.wait()
        process.join(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        file = inbox.parent / "out" / "watch.jsonl"
        done.append(file.read_bytes().count(b"\n") if file.exists() else 0)
    assert len(set(done)) > 8  # they died at work
    run(inbox, Predictor(network))
    assert sorted(line["study"] for line in log(inbox)) == names
    assert results(inbox) == names
    times = [line["time"] for line in log(inbox)]
    assert times == sorted(times)
    for name in names:
        files = {file.name for file in (inbox.parent / "out" / name).iterdir()}
        assert files == {"a.nii.gz", "volumes.csv", "lesions.csv", "study.json"}
