"""What a training was given, and whether it still is."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from segjax.data.cache.cache import open_cache, preprocess
from segjax.data.cases import Dataset, find_cases
from segjax.data.io.formats import read_volume, write_volume
from segjax.data.labels import LabelCoding, asked_coding
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import Reorient, ZScore
from segjax.data.splits import split_cases
from segjax.errors import InputError
from segjax.runs.folder import RunFolder
from segjax.train.cases import choose_cases, load_cases, read_case
from segjax.train.config import TrainConfig
from segjax.train.inputs import check_inputs, read_seen, write_inputs

PIPELINE = Pipeline((Reorient("RAS"), ZScore()))


@pytest.fixture
def chosen(tmp_path):
    dataset = write_dataset(tmp_path / "data", count=3, shape=(16, 16, 16))
    return choose_cases(dataset, split_cases([case.name for case in dataset.cases]))


def begin(run, chosen):
    run.mkdir(exist_ok=True)
    config = TrainConfig("mpunet++", (16, 16, 16), pipeline=PIPELINE)
    write_inputs(run, check_inputs(run, chosen), config, load_cases(config, chosen).train)


def change(path):
    volume = read_volume(path)
    write_volume(volume.with_data(volume.data + np.float32(1)), path, overwrite=True)


def test_a_training_goes_on_with_the_files_it_began_with(tmp_path, chosen):
    begin(tmp_path / "run", chosen)
    for case in chosen.train:
        os.utime(case.images[0])
    assert set(check_inputs(tmp_path / "run", chosen)) == {"ms_000", "ms_001", "ms_002"}


def test_a_picture_that_has_changed_is_named(tmp_path, chosen):
    begin(tmp_path / "run", chosen)
    path = chosen.train[0].images[0]
    change(path)
    with pytest.raises(InputError, match=rf"{path.name}: case '.*' has changed since the train"):
        check_inputs(tmp_path / "run", chosen)
    assert check_inputs(tmp_path / "run", chosen, begun=False)


def test_a_validation_label_that_has_changed_is_named(tmp_path, chosen):
    begin(tmp_path / "run", chosen)
    label = chosen.validation[0].label
    volume = read_volume(label)
    write_volume(volume.with_data(volume.data * 0), label, overwrite=True)
    with pytest.raises(InputError, match=f"{label.parent.name}/{label.name}: case"):
        check_inputs(tmp_path / "run", chosen)


def test_cases_of_a_cache_are_known_by_what_they_were_made_of(tmp_path):
    heads = write_dataset(tmp_path / "data", count=2, shape=(16, 16, 16))
    split = split_cases([case.name for case in heads.cases], validation=0.5)
    for _ in range(2):
        preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
        cache = open_cache(tmp_path / "cache")
        chosen = choose_cases(Dataset(cache.cases), split)
        if not (tmp_path / "run").exists():
            begin(tmp_path / "run", chosen)
            check_inputs(tmp_path / "run", chosen)
            change(heads.cases[0].images[0])
    with pytest.raises(InputError, match="the cache: case"):
        check_inputs(tmp_path / "run", chosen)


def test_what_the_training_saw_is_kept_in_the_run(tmp_path, chosen):
    begin(tmp_path / "run", chosen)
    seen = read_seen(tmp_path / "run")
    assert (seen.spacing, seen.orientation) == ((1, 1, 1), "RAS")
    ((low, high),) = seen.spans
    assert low < 0 < high


def test_members_of_a_sweep_saw_what_the_sweep_saw(tmp_path, chosen):
    begin(tmp_path / "sweep", chosen)
    member = tmp_path / "sweep" / "runs" / "k3-a0.5-s0"
    member.mkdir(parents=True)
    assert read_seen(member) is None
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    assert read_seen(member) == read_seen(tmp_path / "sweep")


def test_runs_of_earlier_versions_tell_nothing_and_bad_files_are_named(tmp_path, chosen):
    assert read_seen(tmp_path) is None
    (RunFolder(tmp_path).inputs).write_text(json.dumps([]))
    with pytest.raises(InputError, match=r"inputs\.json: holds no JSON object"):
        check_inputs(tmp_path, chosen)


def test_voxels_in_a_file_of_their_own_are_watched_too(tmp_path, chosen):
    case = chosen.train[0]
    volume = sitk.ReadImage(str(case.images[0]))
    sitk.WriteImage(volume, str(tmp_path / "a.mhd"))
    chosen = chosen._replace(train=(replace(case, images=(tmp_path / "a.mhd",)),))
    begin(tmp_path / "run", chosen)
    content = bytearray((tmp_path / "a.raw").read_bytes())
    content[100] ^= 1
    (tmp_path / "a.raw").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mhd: case"):
        check_inputs(tmp_path / "run", chosen)


def test_labels_that_stand_for_something_else_now_are_noticed(tmp_path, chosen):
    begin(tmp_path / "run", chosen)
    coding = LabelCoding(values=(0, 2), ignored=1)
    changed = chosen._replace(train=tuple(replace(case, coding=coding) for case in chosen.train))
    with pytest.raises(InputError, match="what the values of the labels stand for: case"):
        check_inputs(tmp_path / "run", changed)


def test_what_the_values_of_labels_stand_for_is_kept_with_a_run(tmp_path):
    coding = asked_coding(["1=lesion", "7=ignore"])
    write_dataset(tmp_path / "heads", count=2, shape=(16, 16, 16))
    heads = find_cases(tmp_path / "heads", coding=coding)
    preprocess(heads, PIPELINE, tmp_path / "cache", workers=1)
    split = split_cases([case.name for case in heads.cases], validation=0.5)
    for run, dataset in (("a", heads), ("b", open_cache(tmp_path / "cache"))):
        begin(tmp_path / run, choose_cases(Dataset(dataset.cases), split))
        kept = json.loads((RunFolder(tmp_path / run).inputs).read_text())["cases"].values()
        assert [one["coding"] for one in kept] == [coding.to_json()] * 2


def test_cases_that_were_found_with_other_label_values_are_refused(chosen):
    coding = asked_coding(["255=lesion"])
    config = TrainConfig("mpunet++", (16, 16, 16), pipeline=PIPELINE, label_values=coding)
    (case, *_) = chosen.train
    with pytest.raises(InputError, match=rf"{case.name}': its label values .*, but label_values"):
        read_case(config, case)
