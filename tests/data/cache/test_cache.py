import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segjax.data.cache import make, pool
from segjax.data.cache.cache import CachedCase, is_cache, open_cache, preprocess
from segjax.data.cases import Case, Dataset, find_cases
from segjax.data.images import find_images
from segjax.data.io.formats import read_image, read_label, write_volume
from segjax.data.labels import asked_coding
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare import hd_bet as _hd_bet
from segjax.data.prepare.lost import Lost
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import (
    BiasFieldCorrection,
    BrainExtraction,
    CropOrPad,
    HistogramStandardization,
    MinMax,
    Reorient,
    Resample,
    Rescale,
    ZScore,
)
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.volume import Volume

PIPELINE = Pipeline((Reorient("LPS"), Resample((1.5, 1.0, 1.0)), CropOrPad((20, 20, 20)), ZScore()))


@pytest.fixture
def heads(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "heads", count=3, shape=(20, 18, 16))


def states(outcomes: list) -> list[str]:
    return [outcome.state for outcome in outcomes]


def identity(case: CachedCase) -> dict[str, tuple[int, int]]:
    """Tell whether files are the same ones as before, not only equal ones."""
    files = sorted(case.folder.iterdir())
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def without_raw_labels(out):
    """Make a cache as segjax 0.1.0 did, which kept no label map of the grid on disk."""
    for path in out.glob("cases/*"):
        (path / "raw_label.npz").unlink()
        record = json.loads((path / "case.json").read_text())
        del record["arrays"]["raw_label.npz"]
        (path / "case.json").write_text(json.dumps(record))


def test_cached_case_holds_what_loading_it_gives(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    cache = open_cache(tmp_path / "cache")
    assert cache.pipeline == PIPELINE
    assert (cache.labels, cache.channels) == (heads.labels, heads.channels)
    for case, cached in zip(heads.cases, cache.cases, strict=True):
        loaded = case.load(PIPELINE)
        assert cached.name == case.name
        np.testing.assert_array_equal(cached.image, loaded.image)
        np.testing.assert_array_equal(cached.label, loaded.label)
        np.testing.assert_array_equal(cached.foreground, np.flatnonzero(loaded.label))
        np.testing.assert_array_equal(cached.raw_label().data, loaded.raw_label.data)
        np.testing.assert_array_equal(cached.raw_label().affine, loaded.raw_label.affine)
        assert cached.raw_label().data.dtype == loaded.raw_label.data.dtype
        np.testing.assert_array_equal(cached.volume().affine, loaded.volume.affine)
        assert cached.volume().spatial_shape == loaded.volume.spatial_shape
        assert [g.shape for g in cached.grids] == [g.shape for g in loaded.grids]
        np.testing.assert_array_equal(cached.grids[-1].affine, loaded.grids[-1].affine)
        assert cached.values == loaded.values == (0, 1)
        assert cached.spacing == loaded.spacing
        assert cached.keeps_grid(PIPELINE) is loaded.keeps_grid(PIPELINE) is False
        assert cached.look(PIPELINE)[2:4] == case.look(PIPELINE)[2:4] == (1, {0, 1})
        assert cached.look(PIPELINE).processed.shape == case.look(PIPELINE).processed.shape
        for one, other in zip(cached.sight(PIPELINE), loaded.sight(PIPELINE), strict=True):
            assert np.array_equal(getattr(one, "affine", one), getattr(other, "affine", other))
        assert cached.source == dataclasses.replace(
            case, images=tuple(p.absolute() for p in case.images), label=case.label.absolute()
        )


def test_arrays_are_read_only_maps_of_plain_npy_files(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    case = open_cache(tmp_path / "cache").cases[0]
    for array, kind in ((case.image, "f4"), (case.label, "u1"), (case.foreground, "i8")):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert array.dtype == kind
        assert array.flags.c_contiguous
    plain = np.load(case.folder / "image.npy")
    np.testing.assert_array_equal(plain, case.image)
    assert case.volume().data.strides == (0, 0, 0)


def test_opening_a_cache_reads_no_array(tmp_path):
    heads = write_dataset(tmp_path / "heads", count=1, shape=(64, 64, 64))
    preprocess(heads, Pipeline(), tmp_path / "cache", workers=1)
    tracemalloc.start()
    case = open_cache(tmp_path / "cache").cases[0]
    assert case.image[3, 4, 5, 0] >= 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000  # of 1,048,576 bytes


def test_case_travels_to_other_processes_as_a_path(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    case = open_cache(tmp_path / "cache").cases[0]
    content = pickle.dumps(case)
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).label, case.label)


def test_second_run_makes_nothing_again(heads, tmp_path):
    out = tmp_path / "cache"
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["made"] * 3
    before = [identity(case) for case in open_cache(out).cases]
    manifest = (out / "manifest.json").stat().st_mtime_ns
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged"] * 3
    assert [identity(case) for case in open_cache(out).cases] == before
    assert (out / "manifest.json").stat().st_mtime_ns == manifest


def test_only_the_case_whose_image_changed_is_made_again(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    changed = heads.cases[1]
    shutil.copy(heads.cases[0].images[0], changed.images[0])
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged", "made", "unchanged"]
    first, second, _ = open_cache(out).cases
    np.testing.assert_array_equal(second.image, first.image)


def test_changed_label_makes_its_case_again(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    label = read_label(heads.cases[2].label)
    write_volume(label.with_data(1 - label.data), heads.cases[2].label, overwrite=True)
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged", "unchanged", "made"]


def test_labels_are_checked_again_when_the_dataset_names_fewer(heads, tmp_path):
    out = tmp_path / "cache"
    names = {0: "background", 1: "core", 2: "oedema"}
    label = read_label(heads.cases[0].label)
    write_volume(label.with_data(label.data * 2), heads.cases[0].label, overwrite=True)
    three = dataclasses.replace(heads, labels=names)
    assert states(preprocess(three, PIPELINE, out, workers=1)) == ["made"] * 3
    outcomes = preprocess(heads, PIPELINE, out, workers=1)
    assert states(outcomes) == ["failed", "made", "made"]
    assert [case.name for case in open_cache(out).cases] == ["ms_001", "ms_002"]


def test_values_that_stand_for_other_classes_make_the_labels_again(tmp_path):
    write_dataset(tmp_path / "heads", count=2, shape=(16, 16))
    found = [
        find_cases(tmp_path / "heads", coding=asked_coding([option]))
        for option in ("1=lesion", "1,2=lesion", "1,2=tumour", "1,2=tumour")
    ]
    said = r"2 cases must be made again, .* and stood for background \(0\), lesion \(1\);"
    with pytest.warns(UserWarning, match=rf"{said} .*give --labels 1=lesion$"):
        made = [states(preprocess(one, Pipeline(), tmp_path / "cache", workers=1)) for one in found]
    assert made == [["made"] * 2] * 3 + [["unchanged"] * 2]
    cache = open_cache(tmp_path / "cache")
    assert (cache.labels, cache.coding) == (found[-1].labels, found[-1].coding)


def test_other_names_of_the_same_values_are_noted_and_make_nothing_again(tmp_path):
    write_dataset(tmp_path / "heads", count=1, shape=(16, 16))
    for name, state in (("lesion", "made"), ("tumour", "unchanged")):
        found = find_cases(tmp_path / "heads", coding=asked_coding([f"1={name}"]))
        assert states(preprocess(found, Pipeline(), tmp_path / "cache", workers=1)) == [state]
        cache = open_cache(tmp_path / "cache")
        assert cache.coding.names == tuple(cache.labels.values()) == ("background", name)


def test_segments_in_another_order_make_the_labels_again(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0], data[1] = 1, 2
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_volume(Volume(data.astype(np.float32), np.eye(4)), tmp_path / "images" / "a.nrrd")
    names = {1: "cyst", 2: "lesion"}
    write_volume(Volume(data, np.eye(4)), tmp_path / "labels" / "a.seg.nrrd", segments=names)
    for order in (["cyst", "lesion"], ["lesion", "cyst"]):
        found = find_cases(tmp_path, coding=asked_coding(names=order))
        assert states(preprocess(found, Pipeline(), tmp_path / "cache", workers=1)) == ["made"]
        label = open_cache(tmp_path / "cache").cases[0].label[:2, 0, 0].tolist()
        assert label == [order.index("cyst") + 1, order.index("lesion") + 1]


def test_touched_file_of_the_same_content_is_not_made_again(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    os.utime(heads.cases[0].images[0], ns=(1, 1))
    image = open_cache(out).cases[0].folder / "image.npy"
    before = image.stat()
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged"] * 3
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    record = json.loads((image.parent / "case.json").read_text())
    assert record["sources"][0]["mtime_ns"] == 1  # so that the next run need not read it


def test_same_data_elsewhere_are_not_made_again_and_are_found_there(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    shutil.move(tmp_path / "heads", tmp_path / "moved")
    assert open_cache(out).cases[0].raw_label().data.any()
    without_raw_labels(out)
    with pytest.raises(InputError, match="label of case 'ms_000' is gone"):
        open_cache(out).cases[0].raw_label()
    moved = find_cases(tmp_path / "moved")
    assert states(preprocess(moved, PIPELINE, out, workers=1)) == ["unchanged"] * 3
    assert open_cache(out).cases[0].raw_label().data.any()


def test_changed_step_makes_all_cases_again(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    other = Pipeline((*PIPELINE.steps[:-1], MinMax()))
    assert states(preprocess(heads, other, out, workers=1)) == ["made"] * 3
    assert open_cache(out).pipeline == other
    assert open_cache(out).cases[0].image.max() == 1


def test_added_case_is_made_alone_and_a_removed_one_is_no_longer_listed(heads, tmp_path):
    out = tmp_path / "cache"
    two = dataclasses.replace(heads, cases=heads.cases[:2])
    preprocess(two, PIPELINE, out, workers=1)
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged", "unchanged", "made"]
    assert len(open_cache(out).cases) == 3
    preprocess(two, PIPELINE, out, workers=1)
    assert [case.name for case in open_cache(out).cases] == ["ms_000", "ms_001"]


def test_images_without_labels_are_cached(heads, tmp_path):
    bare = Dataset(tuple(dataclasses.replace(case, label=None) for case in heads.cases))
    preprocess(bare, PIPELINE, tmp_path / "cache", workers=1)
    cache = open_cache(tmp_path / "cache")
    assert (cache.labels, cache.channels) == (None, None)
    case = cache.cases[0]
    assert case.image.shape == (20, 20, 20, 1)
    assert (case.source.label, case.values) == (None, ())
    for read in (lambda: case.label, lambda: case.foreground, case.raw_label):
        with pytest.raises(InputError, match="'ms_000' has no label"):
            read()


def test_bad_case_does_not_stop_the_others(heads, tmp_path):
    heads.cases[1].images[0].write_bytes(b"no volume")
    outcomes = preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    assert states(outcomes) == ["made", "failed", "made"]
    assert str(heads.cases[1].images[0]) in outcomes[1].error
    assert "\n" not in outcomes[1].error
    assert [case.name for case in open_cache(tmp_path / "cache").cases] == ["ms_000", "ms_002"]


def test_odd_error_of_a_case_names_the_case_and_stops_nothing(heads, tmp_path, monkeypatch):
    def fail(self, image):
        raise RuntimeError("no convergence")

    monkeypatch.setattr(ZScore, "apply", fail)
    outcomes = preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    assert states(outcomes) == ["failed"] * 3
    assert outcomes[0].error.endswith("ms_000.nii.gz: RuntimeError: no convergence")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full((20, 18, 16), 2, np.uint8), "has labels 2, but with 2 classes"),
        (np.full((20, 18, 15), 1, np.uint8), r"has shape \(20, 18, 15\)"),
    ],
)
def test_label_that_does_not_fit_fails_its_case(label, message, heads, tmp_path):
    write_volume(Volume(label, np.eye(4)), heads.cases[0].label, overwrite=True)
    outcome, *_ = preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    assert outcome.state == "failed"
    with pytest.raises(InputError, match=message):
        raise InputError(outcome.error)


def test_labels_over_255_fail_their_case(heads, tmp_path):
    image = read_label(heads.cases[0].label)
    write_volume(image.with_data(image.data.astype(np.int32) * 300), heads.cases[0].label,
                 overwrite=True)  # fmt: skip
    unnamed = dataclasses.replace(heads, labels=None)
    outcome, *_ = preprocess(unnamed, PIPELINE, tmp_path / "cache", workers=1)
    assert "labels over 255" in outcome.error


def test_worker_processes_make_the_same_cache_without_jax(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "one", workers=1)
    outcomes = preprocess(heads, PIPELINE, tmp_path / "two", workers=2)
    assert states(outcomes) == ["made"] * 3
    assert [outcome.case for outcome in outcomes] == [case.name for case in heads.cases]
    assert all(outcome.peak_megabytes > 10 for outcome in outcomes)
    for one, two in zip(open_cache(tmp_path / "one").cases, open_cache(tmp_path / "two").cases,
                        strict=True):  # fmt: skip
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.label, two.label)


def look_around(job: make.Job) -> make.Outcome:
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS")
    return make.Outcome(
        job.case.name, json.dumps(["jax" in sys.modules, *(os.environ[n] for n in names)])
    )


def jobs(heads: Dataset, out: Path) -> list[make.Job]:
    return [make.Job(case, PIPELINE, 0, out) for case in heads.cases]


def test_workers_share_the_cores_and_load_no_jax(heads, tmp_path, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(pool, "cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found = pool.run(look_around, jobs(heads, tmp_path), 2)
    assert {outcome.state for outcome in found} == {'[false, "3", "3"]'}
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_systems_that_do_not_tell_a_process_its_cores_have_some(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert pool.cores() == 1


def test_worker_waits_for_the_end_of_its_parent(monkeypatch):
    ended = []
    parent = SimpleNamespace(join=lambda: ended.append("parent"))
    monkeypatch.setattr(pool, "parent_process", lambda: parent)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(signal, "signal", lambda *words: ended.append(words))
    pool._begin()
    until(lambda: ended[1:], 2)
    assert ended == [(signal.SIGINT, signal.SIG_DFL), "parent", 1]


def test_default_number_of_workers_is_that_of_the_cores_but_at_most_8(monkeypatch):
    for cores, workers in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(pool, "cores", lambda cores=cores: cores)
        assert pool.default_workers() == workers


# Stopped in the middle


PROGRAM = """
import sys
from pathlib import Path
from segjax.data.cache import make
from segjax.data.cache.cache import preprocess
from segjax.data.cases import find_cases
from segjax.data.prepare.pipeline import (Pipeline)
from segjax.data.prepare.steps import (MinMax)

saved = make._save

def save(array, path):
    saved(array, path)
    print(path, flush=True)
    if sys.argv[3] in str(path) and Path(sys.argv[1], "cases", "ms_000").exists():
        input()  # for ever

make._save = save
preprocess(find_cases(sys.argv[2]), Pipeline((MinMax(),)), sys.argv[1], workers=1)
"""


@pytest.mark.parametrize("file", ["image.npy", "label.npy", "foreground.npy"])
def test_killed_run_leaves_no_half_case_and_goes_on(file, heads, tmp_path):
    out = tmp_path / "cache"
    command = [sys.executable, "-c", PROGRAM, str(out), str(tmp_path / "heads"), file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        for line in program.stdout:
            if file.encode() in line and (out / "cases" / "ms_000").exists():
                break
        program.kill()
    remains = [path for path in (out / "cases").iterdir() if path.name.startswith(".")]
    assert [path.name for path in remains[0].iterdir()][-1:]  # it was in the middle of a case
    assert [p.name for p in (out / "cases").iterdir() if p not in remains] == ["ms_000"]
    with pytest.raises(InputError, match="is not finished; run segjax preprocess again"):
        open_cache(out)
    first = identity(CachedCase(out / "cases" / "ms_000"))
    outcomes = preprocess(heads, Pipeline((MinMax(),)), out, workers=1)
    assert states(outcomes) == ["unchanged", "made", "made"]
    assert identity(open_cache(out).cases[0]) == first
    assert sorted(p.name for p in (out / "cases").iterdir()) == ["ms_000", "ms_001", "ms_002"]


def wait_for_ever(job: make.Job) -> make.Outcome:
    (job.out / f"{os.getpid()}").touch()
    time.sleep(600)
    return make.Outcome(job.case.name, "made")


def test_workers_end_with_their_parent(heads, tmp_path):
    code = f"""
from pathlib import Path
from segjax.data.cache import pool
from tests.data.cache.test_cache import jobs, wait_for_ever
from segjax.data.cases import find_cases
if __name__ == "__main__":
    list(pool.run(wait_for_ever, jobs(find_cases({str(tmp_path / "heads")!r}),
         Path({str(tmp_path / "pids")!r})), 2))
"""
    (tmp_path / "pids").mkdir()
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], env=environment) as program:
        workers = until(lambda: [int(path.name) for path in (tmp_path / "pids").iterdir()], 2)
        program.kill()
    until(lambda: [pid for pid in workers if not is_running(pid)], 2)


def until(look, count: int) -> list:
    for _ in range(600):
        if len(found := look()) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing happened: {found}")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # an orphan that nobody waits for is a zombie
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def die(job: make.Job) -> make.Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_killed_worker_is_reported(heads, tmp_path):
    with pytest.raises(InputError, match=r"worker processes was killed.*use fewer workers"):
        list(pool.run(die, jobs(heads, tmp_path), 2))


def test_folder_in_use_is_refused(heads, tmp_path):
    from segjax.files import locked

    (tmp_path / "cache").mkdir()
    with locked(tmp_path / "cache"), pytest.raises(InputError, match="another process"):
        preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)


def test_full_disk_stops_everything_and_says_so(heads, tmp_path, monkeypatch):
    saved, calls = make._save, []

    def save(array, path):
        calls.append(path)
        if len(calls) > 4:  # in the middle of the second case
            raise OSError(28, "No space left on device")
        saved(array, path)

    monkeypatch.setattr(make, "_save", save)
    with pytest.raises(InputError, match=r"No space left on device; make room and run .* again"):
        preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    assert len(calls) == 5  # the third case was not tried
    monkeypatch.undo()
    outcomes = preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    assert states(outcomes) == ["unchanged", "made", "made"]


# Folders


def test_folder_with_other_things_is_left_alone(heads, tmp_path):
    with pytest.raises(InputError, match=r"heads: holds .*, and is no cache"):
        preprocess(heads, PIPELINE, tmp_path / "heads", workers=1)
    with pytest.raises(InputError, match=r"dataset\.json: is a file"):
        preprocess(heads, PIPELINE, tmp_path / "heads" / "dataset.json", workers=1)
    with pytest.raises(InputError, match="0 workers"):
        preprocess(heads, PIPELINE, tmp_path / "cache", workers=0)


def test_what_is_no_cache_is_not_opened(tmp_path):
    assert not is_cache(tmp_path)
    with pytest.raises(InputError, match=r"no manifest\.json"):
        open_cache(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    assert not is_cache(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segjax_cache": 99}, "another version of segjax.*99, not 1"),
        ({"complete": False}, "not finished"),
        ({"cases": ["ms_000", "gone"]}, "gone: is gone"),
    ],
)
def test_cache_that_cannot_be_used_is_refused(change, message, heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | change))
    assert is_cache(out)
    with pytest.raises(InputError, match=message):
        open_cache(out)


def test_damaged_manifest_is_named_and_made_again_while_the_cases_stay(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    made = {path: path.stat().st_mtime_ns for path in out.rglob("image.npy")}
    (out / "manifest.json").write_text('{"segjax_cache": 1, ')
    assert is_cache(out)
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read.*preprocess again"):
        open_cache(out)
    preprocess(heads, PIPELINE, out, workers=1)
    assert len(open_cache(out).cases) == len(made)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("image.npy")} == made


def test_manifest_that_lacks_something_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"segjax_cache": 1}')
    with pytest.raises(InputError, match="'cases' is missing"):
        open_cache(tmp_path)


def test_damaged_case_says_what_to_do_and_is_made_again_once_deleted(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    case = open_cache(out).cases[1]
    (case.folder / "image.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"ms_001: the cached case cannot be read.*delete"):
        _ = case.image
    (case.folder / "image.npy").unlink()
    for read in (lambda: case.image, lambda: CachedCase(out / "nowhere").label):
        with pytest.raises(InputError, match="cannot be read"):
            read()
    shutil.rmtree(case.folder)
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged", "made", "unchanged"]


@pytest.mark.parametrize("file", ["image.npy", "label.npy", "foreground.npy", "raw_label.npz"])
@pytest.mark.parametrize("content", [None, b"\x93NUMPY"])
def test_case_that_lost_an_array_or_a_part_of_one_is_made_again(file, content, heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, PIPELINE, out, workers=1)
    array = out / "cases" / "ms_001" / file
    before = array.read_bytes()
    array.unlink()
    if content is not None:
        array.write_bytes(content)
    assert states(preprocess(heads, PIPELINE, out, workers=1)) == ["unchanged", "made", "unchanged"]
    assert array.read_bytes() == before


def test_missing_hd_bet_is_said_before_the_slow_steps(heads, tmp_path, monkeypatch):
    monkeypatch.setattr(_hd_bet.shutil, "which", lambda command: None)
    monkeypatch.setattr(_hd_bet.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(BiasFieldCorrection, "apply", None)  # not called
    pipeline = Pipeline((BiasFieldCorrection(), BrainExtraction(method="hd-bet")))
    with pytest.raises(InputError, match="HD-BET is not installed"):
        preprocess(heads, pipeline, tmp_path / "cache", workers=1)


def test_label_that_changed_shape_is_not_taken_for_the_old_one(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    other = Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    write_volume(other, heads.cases[0].label, overwrite=True)
    assert open_cache(tmp_path / "cache").cases[0].raw_label().data.any()
    without_raw_labels(tmp_path / "cache")
    with pytest.raises(InputError, match="has changed; run segjax preprocess again"):
        open_cache(tmp_path / "cache").cases[0].raw_label()


# Steps that are slow or learn from the set


SLOW = Pipeline((BiasFieldCorrection(iterations=(2,)), MinMax()))


def early(out: Path) -> list[tuple[int, int]]:
    files = sorted((out / "early").glob("*/image.npy"))
    return [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]


def test_slow_steps_are_not_done_again_when_later_ones_change(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, SLOW, out, workers=1)
    before = early(out)
    assert len(before) == 3
    other = Pipeline((SLOW.steps[0], Reorient("LPS"), ZScore()))
    assert states(preprocess(heads, other, out, workers=1)) == ["made"] * 3
    assert early(out) == before
    fresh = tmp_path / "fresh"
    preprocess(heads, other, fresh, workers=1)
    for one, two in zip(open_cache(out).cases, open_cache(fresh).cases, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.label, two.label)
        assert one.histograms == two.histograms
        assert len(one.grids) == 4


def test_slow_steps_are_done_again_when_they_or_the_image_change(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, SLOW, out, workers=1)
    before = early(out)
    shutil.copy(heads.cases[0].images[0], heads.cases[1].images[0])
    preprocess(heads, SLOW, out, workers=1)
    assert [a == b for a, b in zip(early(out), before, strict=True)] == [True, False, True]
    stronger = Pipeline((BiasFieldCorrection(iterations=(3,)), MinMax()))
    before = early(out)
    preprocess(heads, stronger, out, workers=1)
    assert not set(early(out)) & set(before)


def test_changed_label_leaves_the_slow_steps_alone(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, SLOW, out, workers=1)
    before = early(out)
    label = read_label(heads.cases[2].label)
    write_volume(label.with_data(1 - label.data), heads.cases[2].label, overwrite=True)
    assert states(preprocess(heads, SLOW, out, workers=1)) == ["unchanged", "unchanged", "made"]
    assert early(out) == before


def test_kept_images_may_be_deleted(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, SLOW, out, workers=1)
    shutil.rmtree(out / "early")
    assert states(preprocess(heads, SLOW, out, workers=1)) == ["unchanged"] * 3


@pytest.mark.parametrize("content", [None, b"\x93NUMPY"])
def test_kept_image_that_is_lost_or_cut_short_is_made_again(content, heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, SLOW, out, workers=1)
    kept = out / "early" / "ms_001" / "image.npy"
    before = kept.read_bytes()
    kept.unlink()
    if content is not None:
        kept.write_bytes(content)
    later = Pipeline((*SLOW.steps, Rescale(-1.0, 1.0)))
    assert states(preprocess(heads, later, out, workers=1)) == ["made"] * 3
    assert kept.read_bytes() == before


NYUL = Pipeline((HistogramStandardization(), ZScore(), Rescale(-1.0, 1.0)))


def test_landmarks_are_those_of_the_training_images_and_stay_in_the_manifest(heads, tmp_path):
    out = tmp_path / "cache"
    split = Split(train=("ms_000", "ms_002"), validation=("ms_001",))
    preprocess(heads, NYUL, out, workers=1, split=split)
    cache = open_cache(out)
    images = [read_image(heads.cases[i].images) for i in (0, 2)]
    assert cache.pipeline == NYUL.fit(lambda: images)
    assert cache.requested == NYUL
    assert cache.learned_from == ("ms_000", "ms_002")
    expected = cache.pipeline.apply(read_image(heads.cases[1].images)).data
    np.testing.assert_array_equal(cache.cases[1].image, expected)


def test_landmarks_stay_when_a_case_is_added_until_they_are_refitted(heads, tmp_path):
    out = tmp_path / "cache"
    two = dataclasses.replace(heads, cases=heads.cases[:2])
    preprocess(two, NYUL, out, workers=1)
    before = open_cache(out).pipeline
    assert states(preprocess(heads, NYUL, out, workers=1)) == ["unchanged", "unchanged", "made"]
    assert open_cache(out).pipeline == before
    assert states(preprocess(heads, NYUL, out, workers=1, refit=True)) == ["made"] * 3
    assert open_cache(out).pipeline != before
    assert open_cache(out).learned_from == ("ms_000", "ms_001", "ms_002")


def test_landmarks_of_cases_that_a_split_keeps_apart_are_refused(heads, tmp_path):
    out = tmp_path / "cache"
    preprocess(heads, NYUL, out, workers=1)
    split = Split(train=("ms_000", "ms_002"), validation=("ms_001",))
    with pytest.raises(InputError, match="learned from case 'ms_001', which the split keeps apart"):
        preprocess(heads, NYUL, out, workers=1, split=split)
    preprocess(heads, NYUL, out, workers=1, split=split, refit=True)
    assert open_cache(out).learned_from == split.train


def test_split_of_other_cases_is_refused(heads, tmp_path):
    split = Split(train=("ms_007",), validation=())
    with pytest.raises(InputError, match="the split names case 'ms_007'"):
        preprocess(heads, NYUL, tmp_path / "cache", workers=1, split=split)


def test_landmarks_come_from_the_images_after_the_slow_steps(heads, tmp_path):
    out = tmp_path / "cache"
    heads.cases[1].images[0].write_bytes(b"no volume")
    pipeline = Pipeline((SLOW.steps[0], *NYUL.steps))
    outcomes = preprocess(heads, pipeline, out, workers=1)
    assert states(outcomes) == ["made", "failed", "made"]
    images = [read_image(heads.cases[i].images) for i in (0, 2)]
    cache = open_cache(out)
    assert cache.pipeline == pipeline.fit(lambda: images)
    assert cache.learned_from == ("ms_000", "ms_002")
    np.testing.assert_array_equal(cache.cases[0].image, cache.pipeline.apply(images[0]).data)


def test_run_killed_while_learning_leaves_a_folder_to_go_on_with(heads, tmp_path, monkeypatch):
    def stop(self, images):
        raise KeyboardInterrupt

    out = tmp_path / "cache"
    pipeline = Pipeline((SLOW.steps[0], *NYUL.steps))
    monkeypatch.setattr(HistogramStandardization, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        preprocess(heads, pipeline, out, workers=1)
    before = early(out)
    assert len(before) == 3
    monkeypatch.undo()
    assert states(preprocess(heads, pipeline, out, workers=1)) == ["made"] * 3
    assert early(out) == before


def test_unreadable_image_is_left_out_of_learning(heads, tmp_path):
    heads.cases[0].images[0].write_bytes(b"no volume")
    outcomes = preprocess(heads, NYUL, tmp_path / "cache", workers=1)
    assert states(outcomes) == ["failed", "made", "made"]
    assert open_cache(tmp_path / "cache").learned_from == ("ms_001", "ms_002")


def test_image_that_nothing_can_be_learned_from_is_named(heads, tmp_path):
    blank = Volume(np.full((20, 18, 16), 7, np.uint8), np.eye(4))
    write_volume(blank, heads.cases[1].images[0], overwrite=True)
    with pytest.raises(InputError, match=r"ms_001\.nii\.gz: .*the same value, 7"):
        preprocess(heads, NYUL, tmp_path / "cache", workers=1)


def test_set_without_a_readable_image_teaches_nothing(heads, tmp_path):
    for case in heads.cases:
        case.images[0].write_bytes(b"no volume")
    with pytest.raises(InputError, match=r"cache: .*no image"):
        preprocess(heads, NYUL, tmp_path / "cache", workers=1)


def test_error_of_a_step_names_the_image(heads, tmp_path):
    blank = Volume(np.zeros((20, 18, 16), np.uint8), np.eye(4))
    write_volume(blank, heads.cases[1].images[0], overwrite=True)
    outcomes = preprocess(heads, SLOW, tmp_path / "cache", workers=1)
    assert states(outcomes) == ["made", "failed", "made"]
    assert outcomes[1].error.startswith(f"{heads.cases[1].images[0]}: no voxel")


def test_only_slow_steps_before_anything_is_learned_are_kept():
    n4, nyul = BiasFieldCorrection(), HistogramStandardization()
    for steps, kept in (
        ((Reorient(), MinMax()), 0),
        ((Reorient(), n4, MinMax()), 2),
        ((nyul, n4), 0),
        ((n4, nyul, n4), 1),
    ):
        assert make.kept_steps(Pipeline(steps)) == kept


def test_histograms_count_voxels_that_are_no_background(tmp_path):
    data = np.zeros((10, 10, 10), np.float32)
    data[5:] = 100  # of 500 voxels over 0 ...
    data[9] = 50  # ... 100 have half the value
    data[9, 9, 9] = 1
    (tmp_path / "images").mkdir()
    write_volume(Volume(data, np.eye(4)), tmp_path / "images" / "a.nii.gz")
    dataset = Dataset((Case("a", (tmp_path / "images" / "a.nii.gz",)),))
    preprocess(dataset, Pipeline((MinMax(),)), tmp_path / "cache", workers=1)
    (before,), (after,) = open_cache(tmp_path / "cache").cases[0].histograms
    assert (before.low, before.high) == (1, 100)
    assert (after.low, after.high) == (pytest.approx(0.01), 1)
    for histogram in (before, after):
        assert len(histogram.counts) == 100
        assert [n for n in histogram.counts if n] == [1, 99, 400]


def test_constant_image_has_an_empty_histogram():
    counted = make.count_channels(Volume(np.full((4, 4), 7.0), np.eye(3)))
    assert counted == [{"low": 7.0, "high": 7.0, "counts": [0] * 100}]


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(1, 50),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
    | st.builds(
        lambda low, steps: (
            np.float32(low) + np.spacing(np.float32(low)) * np.array(steps, np.float32)
        ),
        st.sampled_from([0, 1, 1e6, -1e6, 1e30, 1e-40, 3e38]),
        st.lists(st.integers(0, 3), min_size=1, max_size=50),
    )
)
def test_any_finite_values_are_counted_from_low_to_high(values):
    counted = make._count(values)
    inside = values[values != values[0]].astype(np.float64)
    assert len(counted["counts"]) == 100
    between = (counted["low"] <= inside) & (inside <= counted["high"])
    assert sum(counted["counts"]) == between.sum()
    if inside.size:
        assert counted["low"] == inside.min()
        assert counted["high"] == pytest.approx(np.percentile(inside, 99.9), rel=1e-12)


def test_each_count_is_of_a_hundredth_of_the_range():
    rng = np.random.default_rng(0)
    values = np.concatenate([[-7], rng.normal(50, 10, 5000)]).astype(np.float32)
    counted = make._count(values)
    inside, span = values[1:].astype(np.float64), (counted["low"], counted["high"])
    expected, edges = np.histogram(inside, 100, span)
    assert np.abs(inside[:, None] - edges[1:-1]).min() > 1e-9  # no value lies on an edge
    assert counted["counts"] == expected.tolist()


def test_two_values_one_step_of_float32_apart_are_counted():
    values = np.array([0, 1e6, np.nextafter(np.float32(1e6), np.float32(2e6)), 1e6], np.float32)
    counted = make._count(values)
    assert counted["low"] == 1e6
    assert [n for n in counted["counts"] if n] == [2]  # the 99.9th percentile is below the highest


# What a case depends on


def test_all_files_of_a_dicom_series_count(series, tmp_path):
    dataset = Dataset(tuple(find_images([series])))
    assert len(dataset.cases[0].images) == 1
    assert states(preprocess(dataset, Pipeline(), tmp_path / "cache", workers=1)) == ["made"]
    first, second, _ = sorted(series.iterdir())
    first.touch()
    (series / "note.txt").write_text("no image")
    assert states(preprocess(dataset, Pipeline(), tmp_path / "cache", workers=1)) == ["unchanged"]
    content = bytearray(second.read_bytes())
    content[-100] ^= 1  # a voxel
    second.write_bytes(content)
    assert states(preprocess(dataset, Pipeline(), tmp_path / "cache", workers=1)) == ["made"]


def test_error_of_a_series_names_its_folder_alone(series, tmp_path):
    _, second, *_ = sorted(series.iterdir())
    (series / "copy.dcm").write_bytes(second.read_bytes())
    cases = Dataset(tuple(find_images([series])))
    (outcome,) = preprocess(cases, Pipeline((MinMax(),)), tmp_path / "cache", workers=1)
    assert outcome.error.startswith(f"{series} (series 36459): two slices lie at")


def test_peak_memory_is_told_where_the_system_tells_it(monkeypatch):
    assert make.peak_megabytes() > 20
    monkeypatch.setattr(make.Path, "read_text", lambda *a, **k: "VmRSS: 1 kB\n")
    assert make.peak_megabytes() > 20
    monkeypatch.setattr(make.sys, "platform", "win32")
    assert make.peak_megabytes() == 0


def test_warnings_of_workers_are_told_with_their_case(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        data = np.full((8, 8, 8), 7, np.float32)
        data[2:6] += 1e-3
        write_volume(Volume(data, np.eye(4)), tmp_path / "images" / f"{name}.nii")
    cases = tuple(find_images([tmp_path / "images"]))
    with pytest.warns(UserWarning, match="case '") as caught:
        preprocess(Dataset(cases), Pipeline((BiasFieldCorrection(),)), tmp_path / "c", workers=2)
    said = sorted(str(one.message) for one in caught)
    assert [text[:9] for text in said] == ["case 'a':", "case 'b':"]
    assert "bias field" in said[0]


def test_lesions_that_vanish_are_counted_and_told(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    label = np.zeros((21, 21, 21), np.uint8)
    label[1::4, 1::4, 1::4] = 1
    for part, data in (("images", label.astype(np.float32)), ("labels", label)):
        write_volume(Volume(data, np.eye(4)), tmp_path / part / "a.nii")
    pipeline = Pipeline((Resample((4.0, 4.0, 4.0)),))
    with pytest.warns(UserWarning, match="makes 125 lesions vanish, in 1 of 1 cases"):
        preprocess(find_cases(tmp_path), pipeline, tmp_path / "cache", workers=1)
    assert open_cache(tmp_path / "cache").cases[0].lost == Lost(125, 125, 0.001)


def test_tilted_slices_are_told(tmp_path):
    affine = np.eye(4)
    affine[1, 2] = 0.5
    write_volume(Volume(np.ones((8, 8, 8), np.float32), affine), tmp_path / "a.nii")
    with pytest.warns(UserWarning, match=r"a: slices are tilted, 26\.6°"):
        preprocess(Dataset(tuple(find_images([tmp_path]))), Pipeline(), tmp_path / "c", workers=1)


def test_grey_pictures_among_colours_are_cached_in_colour(tmp_path):
    (tmp_path / "images").mkdir()
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    colours = np.stack([grey, grey[::-1], grey.T], axis=-1)
    for name, data in (("a", grey), ("b", colours)):
        write_volume(Volume(data, np.eye(3)), tmp_path / "images" / f"{name}.png")
    cases = Dataset(tuple(find_images([tmp_path / "images"])))
    preprocess(cases, Pipeline(), tmp_path / "cache", workers=1)
    a, b = open_cache(tmp_path / "cache").cases
    assert a.image.shape == b.image.shape == (8, 8, 3)
    assert np.array_equal(a.image[..., 1], grey)
