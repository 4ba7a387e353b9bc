"""Patients followed up over files: a folder for each, whole or not at all."""

import datetime
import errno
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segjax import follow as module
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.labels import asked_coding
from segjax.data.visits import Subject, VisitFiles, find_subject, find_visits
from segjax.errors import InputError
from segjax.evaluate.statistics import Interval
from segjax.files import locked, read_csv, read_json
from segjax.follow import Method, follow, follow_all
from segjax.report import followup as page
from segjax.volume import Volume

SHAPE = (16, 18, 14)
OLD, NEW = np.s_[3:7, 3:7, 3:7], np.s_[10:14, 10:14, 8:12]


def save(path, *boxes, value=1):
    data = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        data[box] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(data, np.eye(4)), path, overwrite=True)
    return path


@pytest.fixture(autouse=True)
def plain_page(monkeypatch):
    """Write a page of a line: the real one has tests of its own."""

    def write(followup, folder, *, language, pdf, files):
        (folder / "report.html").write_text(f"{language} {len(followup.visits)}")
        if pdf:
            (folder / "report.pdf").write_bytes(b"%PDF")

    monkeypatch.setattr(page, "write_followup_page", write)


@pytest.fixture
def patient(tmp_path):
    """Two masks of a patient: a lesion, and another one later."""
    before, after = tmp_path / "in" / "2023.nii.gz", tmp_path / "in" / "2024.nii.gz"
    return find_subject([], masks=[save(before, OLD), save(after, OLD, NEW)], name="anna")


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


def state(folder):
    """Return what is in a folder of reports, and when it was made."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "followup.csv"
    }


# -- one patient --------------------------------------------------------------------------------


def test_a_report_of_masks_alone_holds_masks_changes_and_transforms(patient, tmp_path):
    found = follow(patient, tmp_path / "out" / "report")
    folder = tmp_path / "out" / "report"
    assert files(folder) == [
        "baseline_from_halfway.tfm",
        "baseline_mask.nii.gz",
        "changes.csv",
        "changes.nii.gz",
        "followup_from_halfway.tfm",
        "followup_mask.nii.gz",
        "report.html",
        "summary.json",
    ]
    (new, stable) = read_csv(folder / "changes.csv")
    assert (new["kind"], new["followup_mm3"], new["baseline"]) == ("new", "64.0", "2023")
    assert stable["kind"] == "stable"
    assert (read_volume(folder / "changes.nii.gz").data[NEW] == int(new["lesion"])).all()
    assert (read_volume(folder / "followup_mask.nii.gz").data[NEW] == 1).all()
    assert found.summary == read_json(folder / "summary.json")


def test_the_summary_tells_what_was_found_and_of_what(patient, tmp_path):
    summary = follow(patient, tmp_path / "report").summary
    assert (summary["format"], summary["version"]) == ("segjax-followup", 1)
    assert summary["subject"] == "anna"
    assert summary["labels"] == ["background", "lesion"]
    assert [visit["loads"][0]["ml"] for visit in summary["visits"]] == [0.064, 0.128]
    (pair,) = summary["comparisons"]
    assert pair["loads"][0]["change_percent"] == 100.0
    assert pair["loads"][0]["new"] == 1
    assert pair["activity"]["new"] == 1
    assert pair["images"] == {"compared": False, "reliable": None, "reason": ""}
    assert summary["inputs"][0]["files"][0]["name"] == "2023.nii.gz"
    assert len(summary["inputs"][0]["files"][0]["sha256"]) == 64
    assert summary["networks"] == []
    assert summary["check"] is None
    assert summary["registration"]["kind"] == "none"
    assert set(summary["files"]) == set(files(tmp_path / "report"))
    assert summary["provenance"]["versions"]["segjax"]


def test_no_folder_and_no_command_get_into_the_summary(patient, tmp_path):
    follow(patient, tmp_path / "report")
    text = (tmp_path / "report" / "summary.json").read_text()
    assert str(tmp_path) not in text
    assert "pytest" not in text


@pytest.mark.parametrize("dated", [False, True])
def test_dates_are_written_where_they_are_wanted_and_days_always(patient, tmp_path, dated):
    dates = datetime.date(2024, 1, 31), datetime.date(2024, 8, 21)
    visits = [replace(v, date=d) for v, d in zip(patient.visits, dates, strict=True)]
    dated_patient = replace(patient, visits=tuple(visits))
    summary = follow(dated_patient, tmp_path / "report", Method(dated=dated)).summary
    assert summary["comparisons"][0]["days"] == 203
    assert summary["comparisons"][0]["loads"][0]["percent_per_year"] == pytest.approx(179.93, 1e-4)
    text = (tmp_path / "report" / "summary.json").read_text()
    assert ("2024-01-31" in text) is dated


def test_the_same_command_keeps_a_report_and_another_one_is_refused(patient, tmp_path):
    first = follow(patient, tmp_path / "report")
    before = state(tmp_path / "report")
    again = follow(patient, tmp_path / "report")
    assert (first.kept, again.kept) == (False, True)
    assert again.summary == first.summary
    assert state(tmp_path / "report") == before
    for other in (Method(language="fr"), Method(coding=asked_coding(names=["plaque"]))):
        with pytest.raises(InputError, match="holds a report of other files or settings"):
            follow(patient, tmp_path / "report", other)
    follow(patient, tmp_path / "report", Method(language="fr", pdf=True), overwrite=True)
    assert (tmp_path / "report" / "report.html").read_text() == "fr 2"
    assert (tmp_path / "report" / "report.pdf").exists()
    assert files(tmp_path) == ["in", "report"]


def test_nothing_of_the_user_is_replaced(patient, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="mine: exists already and holds no report"):
            follow(patient, mine, overwrite=overwrite)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="file: exists already and holds no report"):
        follow(patient, file, overwrite=True)
    follow(patient, tmp_path / "report")
    (tmp_path / "report" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is not of the report"):
        follow(patient, tmp_path / "report", overwrite=True)
    assert (mine / "thesis.txt").exists()
    assert (tmp_path / "report" / "notes.txt").exists()


def test_an_empty_folder_is_filled_and_one_with_the_images_refused(patient, tmp_path):
    (tmp_path / "empty").mkdir()
    assert not follow(patient, tmp_path / "empty").error
    for place in (tmp_path / "in", tmp_path):
        with pytest.raises(InputError, match=r"holds .*2023\.nii\.gz; choose another folder"):
            follow(patient, place, overwrite=True)


def test_a_report_that_fails_leaves_nothing(patient, tmp_path, monkeypatch):
    def fail(*given, **options):
        raise ValueError("odd")

    monkeypatch.setattr(page, "write_followup_page", fail)
    with pytest.raises(ValueError, match="odd"):
        follow(patient, tmp_path / "report")
    assert files(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["write_volume", "write_csv", "write_json", "write_transform"])
def test_a_full_disk_is_one_line_that_names_the_report(patient, tmp_path, monkeypatch, name):
    real = getattr(module, name)

    def full(*given, **options):
        path = next(part for part in given if isinstance(part, Path))
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, name, full)
    with pytest.raises(InputError) as said:
        follow(patient, tmp_path / "report")
    assert str(said.value).startswith(f"{tmp_path / 'report'}")
    assert "No space left on device" in str(said.value)
    assert files(tmp_path) == ["in"]
    monkeypatch.setattr(module, name, real)
    assert not follow(patient, tmp_path / "report").error


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Method(language="de"), "language"),
        (Method(registration="elastic"), "registration 'elastic': give rigid, affine or none"),
        (Method(brain="magic"), "method 'magic'"),
        (Method(check=-1), "check -1: give how often"),
    ],
)
def test_settings_that_are_unknown_are_said_before_any_work(patient, tmp_path, method, said):
    with pytest.raises(InputError, match=said):
        follow(patient, tmp_path / "report", method)


def test_a_patient_with_a_fault_is_not_compared(tmp_path):
    with pytest.raises(InputError, match="holds 1 visit"):
        follow(Subject("b", (), "b: holds 1 visit"), tmp_path / "report")


def test_the_same_file_twice_is_told_of_and_stays_in_the_summary(tmp_path):
    one = save(tmp_path / "a.nii.gz", OLD)
    patient = find_subject([], masks=[one, one])
    with pytest.warns(UserWarning, match="a-1 and a-2: are the same file twice"):
        found = follow(patient, tmp_path / "report")
    assert found.summary["warnings"] == ["a-1 and a-2: are the same file twice"]


def test_more_visits_have_numbers(tmp_path):
    given = [
        save(tmp_path / "in" / f"{n}.nii.gz", *boxes)
        for n, boxes in enumerate([(OLD,), (OLD, NEW), (NEW,)])
    ]
    found = follow(find_subject([], masks=given), tmp_path / "report")
    names = files(tmp_path / "report")
    assert {"visit1_mask.nii.gz", "visit3_from_halfway.tfm", "changes_1_2.nii.gz"} <= set(names)
    assert "changes_2_3.nii.gz" in names
    kinds = [pair["loads"][0]["gone"] for pair in found.summary["comparisons"]]
    assert kinds == [0, 1]


# -- many patients ------------------------------------------------------------------------------


def make_patients(folder, count, *, lacking="", broken=""):
    """Write patients of two masks each, of which one lacks the second and one cannot be read."""
    for name in (f"p{number:02d}" for number in range(count)):
        save(folder / name / "1" / "m.nii.gz", OLD)
        if name == broken:
            (folder / name / "2").mkdir()
            (folder / name / "2" / "m.nii.gz").write_bytes(b"broken")
        elif name != lacking:
            save(folder / name / "2" / "m.nii.gz", OLD, NEW)
    return find_visits(folder, images=["m.nii.gz"])


@pytest.fixture
def patients(tmp_path):
    """Four patients."""
    return make_patients(tmp_path / "in", 4)


def test_one_of_twenty_that_fails_or_lacks_a_visit_stops_no_other(tmp_path):
    patients = make_patients(tmp_path / "in", 20, lacking="p07", broken="p09")
    found = list(follow_all(patients, tmp_path / "out"))
    failed = {one.subject: one.error for one in found if one.error}
    assert set(failed) == {"p07", "p09"}
    assert failed["p07"].endswith("p07: holds 1 visit, 1: two are compared")
    assert "m.nii.gz" in failed["p09"]
    rows = read_csv(tmp_path / "out" / "followup.csv")
    names = [f"p{number:02d}" for number in range(20) if number not in (7, 9)]
    assert [row["subject"] for row in rows] == names
    assert {row["new"] for row in rows} == {"1"}
    assert files(tmp_path / "out") == sorted(["followup.csv", *names])


def test_running_again_makes_only_what_lacks(tmp_path):
    out, given = tmp_path / "out", tmp_path / "in"
    list(follow_all(make_patients(given, 4, lacking="p02", broken="p03"), out))
    before = state(out)
    for name in ("p02", "p03"):
        save(given / name / "2" / "m.nii.gz", OLD)
    again = find_visits(given, images=["m.nii.gz"])
    found = list(follow_all(again, out))
    assert [one.kept for one in found] == [True, True, False, False]
    assert {name: state(out)[name] for name in before} == before
    assert len(read_csv(out / "followup.csv")) == 4
    save(given / "p00" / "1" / "m.nii.gz", NEW)
    (first, *others) = follow_all(again, out)
    assert "p00: holds a report of other files or settings" in first.error
    assert all(one.kept for one in others)
    (first,) = follow_all(again[:1], out, overwrite=True)
    assert not first.error
    assert len(read_csv(out / "followup.csv")) == 4


def test_whatever_fails_stops_no_other_patient(patients, tmp_path, monkeypatch):
    real = module.follow_up

    def odd(visits, *, subject, **options):
        if subject == "p01":
            raise KeyError("no such thing")
        return real(visits, subject=subject, **options)

    monkeypatch.setattr(module, "follow_up", odd)
    found = list(follow_all(patients[:3], tmp_path / "out"))
    assert [bool(one.error) for one in found] == [False, True, False]
    assert found[1].error == "p01: KeyError: 'no such thing'"


def test_a_full_disk_ends_it_and_the_next_run_goes_on(patients, tmp_path, monkeypatch):
    real, left = module.write_volume, [5]

    def full(volume, path, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(volume, path, **options)

    monkeypatch.setattr(module, "write_volume", full)
    with pytest.raises(InputError, match=r"p01: cannot be written: No space left on device: free"):
        list(follow_all(patients, tmp_path / "out"))
    assert files(tmp_path / "out") == ["followup.csv", "p00"]
    monkeypatch.setattr(module, "write_volume", real)
    found = list(follow_all(patients, tmp_path / "out"))
    assert [one.kept for one in found] == [True, False, False, False]


def test_two_patients_of_one_name_and_two_processes_are_refused(patients, tmp_path):
    with pytest.raises(InputError, match="two patients are called p00"):
        list(follow_all([patients[0], patients[0]], tmp_path / "out"))
    (tmp_path / "busy").mkdir()
    with (
        locked(tmp_path / "busy"),
        pytest.raises(InputError, match="busy: another segjax followup writes there"),
    ):
        list(follow_all(patients[:1], tmp_path / "busy"))


def test_names_of_patients_become_names_of_folders(tmp_path, patient):
    odd = replace(patient, name="../Ann/a?")
    (found,) = follow_all([odd], tmp_path / "out")
    assert found.folder == tmp_path / "out" / "_Ann_a_"
    assert not found.error


def test_a_report_that_lacks_a_file_is_made_anew(patient, tmp_path):
    folder = tmp_path / "report"
    follow(patient, folder)
    whole = files(folder)
    (folder / "report.html").unlink()
    assert not follow(patient, folder).kept
    assert files(folder) == whole
    (folder / "report.html").unlink()
    (folder / "mine.txt").write_text("")
    with pytest.raises(InputError, match=r"holds mine\.txt, which is not of the report"):
        follow(patient, folder)
    assert follow(patient, tmp_path / "report2").kept is False


def test_the_folder_one_is_in_is_refused(patient, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match=r"^\.: is where you are; name a new folder"):
        follow(patient, ".")


def test_a_link_to_a_folder_is_followed(patient, tmp_path):
    place, link = tmp_path / "large_disk", tmp_path / "report"
    place.mkdir()
    link.symlink_to(place, target_is_directory=True)
    assert follow(patient, link).folder == link
    assert link.is_symlink()
    assert (place / "summary.json").is_file()


# -- kills --------------------------------------------------------------------------------------


def die(moment: str, count: int, subjects: list[Subject], out: Path) -> None:
    """Follow up, and die at a call of a function."""
    real, left = getattr(module, moment), [count]

    def deadly(*given, **options):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*given, **options)

    setattr(module, moment, deadly)
    list(follow_all(subjects, out))
    os._exit(0)


@pytest.mark.parametrize("moment", ["follow_up", "write_volume", "write_json", "_write_table"])
def test_a_process_that_dies_leaves_whole_reports_alone(patients, tmp_path, moment):
    context = multiprocessing.get_context("fork")
    out, some = tmp_path / "out", patients[:3]
    for count in (0, 2):
        process = context.Process(target=die, args=(moment, count, some, out))
        process.start()
        process.join()
        assert process.exitcode == 9
        for folder in out.iterdir():
            if not folder.name.startswith(".") and folder.is_dir():
                held = set(read_json(folder / "summary.json")["files"])
                assert held == set(files(folder))
    before = state(out)
    found = list(follow_all(some, out))
    assert [one.error for one in found] == [""] * 3
    kept = {name for name in before if not name.startswith(".")}
    assert {name: state(out)[name] for name in kept} == {name: before[name] for name in kept}
    assert files(out) == ["followup.csv", "p00", "p01", "p02"]
    rows = read_csv(out / "followup.csv")
    assert [row["subject"] for row in rows] == ["p00", "p01", "p02"]


def die_alone(subject: Subject, folder: Path) -> None:
    module._write_volumes = lambda *_: os._exit(9)
    follow(subject, folder)


def test_what_a_single_report_that_was_killed_left_is_removed_by_the_next(patient, tmp_path):
    parent = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(
        target=die_alone, args=(patient, parent / "report")
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    (left,) = parent.iterdir()
    assert left.name.startswith(".")
    used, foreign = parent / f".{'ab' * 8}", parent / f".{'cd' * 8}"
    for folder, name in ((used, "changes.csv"), (foreign, "mine.txt")):
        folder.mkdir()
        (folder / name).write_text("")
    with locked(used):
        follow(patient, parent / "report")
    assert files(parent) == sorted([used.name, foreign.name, "report"])


def work(subjects: list[Subject], out: Path) -> None:
    list(follow_all(subjects, out))


def seconds_of_one(subject: Subject, out: Path) -> float:
    begin = time.perf_counter()
    follow(subject, out)
    return time.perf_counter() - begin


@pytest.mark.slow
def test_twenty_kills_at_any_moment_lose_and_repeat_nothing(tmp_path):
    context, out = multiprocessing.get_context("fork"), tmp_path / "out"
    whole = make_patients(tmp_path / "in", 20)
    made: dict[str, int] = {}
    done: set[int] = set()
    one = min(seconds_of_one(whole[0], tmp_path / f"timed{n}") for n in range(4))
    draw = np.random.default_rng(0)
    for number in range(20):
        process = context.Process(target=work, args=(whole, out))
        process.start()
        # every second one dies after it has made a report, however fast the machine is just then
        while number % 2 and process.is_alive() and len(list(out.glob("p*"))) == len(made):
            time.sleep(one / 50)
        time.sleep(draw.uniform(0, one))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for folder in out.glob("p*"):
            held = set(read_json(folder / "summary.json")["files"])
            assert held == set(files(folder))
            now = (folder / "summary.json").stat().st_mtime_ns
            assert made.setdefault(folder.name, now) == now
        done.add(len(made))
    assert len(done) > 5  # they died at work
    work(whole, out)
    assert files(out) == sorted(["followup.csv", *(one.name for one in whole)])
    assert len(read_csv(out / "followup.csv")) == len(whole)


# -- the check ----------------------------------------------------------------------------------


def test_the_check_is_asked_for_with_the_visits_and_lands_in_the_summary(
    patient, tmp_path, monkeypatch
):
    from segjax.evaluate import selfcheck

    asked = []

    def check(visits, *, registration, labels, **options):
        assert len(visits) == len(registration.matrices) == 2
        asked.append((labels, options))
        return selfcheck.SelfCheck((), Interval(0.5, 0.25, 0.75), (0, 1), (0,), (), "drawn", 0)

    monkeypatch.setattr(selfcheck, "self_check", check, raising=False)
    found = follow(patient, tmp_path / "report", Method(check=2))
    options = {"segment": None, "shapes": None, "repeats": 2, "seed": 0, "intensities": True}
    assert asked == [(("background", "lesion"), options)]
    assert found.summary["check"]["false_changes"] == [0, 1]
    assert found.summary["settings"]["check"] == 2


# -- images -------------------------------------------------------------------------------------


def test_images_and_their_difference_are_written(tmp_path, monkeypatch):
    from segjax.evaluate import followup as comparing
    from segjax.evaluate.difference import ImageDifference

    def compare(baseline, followup, brain):
        difference = followup.with_data(followup.data - baseline.data)
        changed = followup.with_data(np.zeros(followup.spatial_shape, np.int8))
        sure = followup.with_data(np.zeros(followup.spatial_shape, np.float32))
        parts = (baseline, followup, difference, changed, sure)
        return ImageDifference(*parts, reliable=False, reason="contrasts differ")

    monkeypatch.setattr(comparing, "compare_images", compare)
    images = []
    for number, boxes in enumerate([(OLD,), (OLD, NEW)]):
        data = np.full(SHAPE, 10.0, np.float32)
        data[OLD] = 20 + number
        for box in boxes:
            data[box] = 30
        images.append(tmp_path / "in" / f"{number}.nii.gz")
        images[-1].parent.mkdir(exist_ok=True)
        write_volume(Volume(data, np.eye(4)), images[-1])
    brain = save(tmp_path / "in" / "brain.nii.gz", np.s_[:, :, :])
    files_of = [VisitFiles(str(n), (image,), None, brain) for n, image in enumerate(images)]
    subject = Subject("", tuple(files_of))
    found = follow(subject, tmp_path / "report", Method(registration="none"))
    assert found.summary["comparisons"][0]["images"]["reason"] == "contrasts differ"
    assert found.summary["comparisons"][0]["loads"][0]["baseline_ml"] is None
    difference = read_volume(tmp_path / "report" / "difference.nii.gz")
    assert float(difference.data[12, 12, 10]) == 20
    assert {"baseline.nii.gz", "followup.nii.gz"} <= set(files(tmp_path / "report"))
