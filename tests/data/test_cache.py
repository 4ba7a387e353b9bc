import dataclasses
import json
import os
import pickle
import shutil
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from segjax.data import _cache_make, _cache_pool
from segjax.data.cache import CachedCase, open_cache, preprocess
from segjax.data.datasets import Dataset, find_cases, load_case
from segjax.data.formats import read_label, write_volume
from segjax.data.phantom import write_dataset
from segjax.data.pipeline import CropOrPad, MinMax, Pipeline, Reorient, Resample, ZScore
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


def test_cached_case_holds_what_loading_it_gives(heads, tmp_path):
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    cache = open_cache(tmp_path / "cache")
    assert cache.pipeline == PIPELINE
    assert (cache.labels, cache.channels) == (heads.labels, heads.channels)
    for case, cached in zip(heads.cases, cache.cases, strict=True):
        loaded = load_case(case, PIPELINE)
        assert cached.name == case.name
        np.testing.assert_array_equal(cached.image, loaded.image)
        np.testing.assert_array_equal(cached.label, loaded.label)
        np.testing.assert_array_equal(cached.foreground, np.flatnonzero(loaded.label))
        np.testing.assert_array_equal(cached.raw_label().data, loaded.raw_label.data)
        np.testing.assert_array_equal(cached.volume().affine, loaded.volume.affine)
        assert cached.volume().spatial_shape == loaded.volume.spatial_shape
        assert [g.shape for g in cached.grids] == [g.shape for g in loaded.grids]
        np.testing.assert_array_equal(cached.grids[-1].affine, loaded.grids[-1].affine)
        assert cached.values == (0, 1)
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


def look_around(job: _cache_make.Job) -> _cache_make.Outcome:
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS")
    return _cache_make.Outcome(
        job.case.name, json.dumps(["jax" in sys.modules, *(os.environ[n] for n in names)])
    )


def jobs(heads: Dataset, out: Path) -> list[_cache_make.Job]:
    return [_cache_make.Job(case, PIPELINE, 0, out) for case in heads.cases]


def test_workers_share_the_cores_and_load_no_jax(heads, tmp_path, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(_cache_pool, "cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found = _cache_pool.run(look_around, jobs(heads, tmp_path), 2)
    assert {outcome.state for outcome in found} == {'[false, "3", "3"]'}
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_default_number_of_workers_is_that_of_the_cores_but_at_most_8(monkeypatch):
    for cores, workers in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(_cache_pool, "cores", lambda cores=cores: cores)
        assert _cache_pool.default_workers() == workers
