"""From folders in any layout to plans and to what is segmented."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segjax.data import layouts
from segjax.data.cache.cache import preprocess
from segjax.data.grouping import Grouping
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import ZScore
from segjax.data.splits import Folding, Split
from segjax.describe import describe, describe_plan
from segjax.errors import InputError
from segjax.train.plans import plan as planning

QUICK = {"model": "unet2d-k3", "patch_size": [32, 32]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, count=6, shape=(32, 32))
    return folder


@pytest.fixture(scope="module")
def subjects(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return folders of subjects, each with images of two channels and a label; one is a link."""
    folder, store = (tmp_path_factory.mktemp(name) for name in ("subjects", "store"))
    for image in sorted((data / "images").iterdir()):
        label = data / "labels" / image.name
        home = (store if image.name.startswith("ms_005") else folder) / image.name.split(".")[0]
        home.mkdir()
        for name, source in (("flair", image), ("t1", image), ("lesions", label)):
            shutil.copy(source, home / f"{name}{''.join(source.suffixes)}")
    (folder / "ms_005").symlink_to(store / "ms_005")
    return folder


def name_of(folder: Path, kind: str) -> str:
    return next(file.name for file in folder.rglob(f"{kind}.*"))


@pytest.fixture(scope="module")
def raw(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ``nnUNet_raw`` folder with four cases to train on and two to test on."""
    folder = tmp_path_factory.mktemp("nnUNet_raw") / "Dataset004_Heads"
    for part in ("images", "labels"):
        for n, file in enumerate(sorted((data / part).iterdir())):
            home = folder / f"{part}{'Tr' if n < 4 else 'Ts'}"
            home.mkdir(parents=True, exist_ok=True)
            channel = "_0000" if part == "images" else ""
            shutil.copy(file, home / file.name.replace(".", f"{channel}.", 1))
    description = {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "file_ending": "".join(file.suffixes),
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder.parent


def test_patients_are_never_parted_in_a_plain_training(data, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"ms_00{n},p{n // 2}\n" for n in range(6)))
    for grouping in (Grouping(neighbours=2), Grouping(table=table)):
        for seed in range(3):
            plan = planning.plan(data, QUICK, {"seed": seed}, test=0.3, grouping=grouping)
            parts = [plan.split.train, plan.split.validation, plan.split.test]
            patients = [{int(name[-1]) // 2 for name in part} for part in parts]
            assert list(map(len, parts)) == [2, 2, 2]
            assert sorted(p for part in patients for p in part) == [0, 1, 2]


def test_sessions_of_a_bids_subject_are_never_parted_though_nobody_asks(data, tmp_path):
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
        for n, file in enumerate(sorted((data / place).iterdir())):
            name = f"sub-{n // 2}_ses-{n % 2}{''.join(file.suffixes)}"
            shutil.copy(file, tmp_path / place / name)
    for split in (
        planning.plan(tmp_path, QUICK, validation=0.3).split,
        *(plan.split for plan in planning.plan_folds(tmp_path, QUICK, folding=Folding(3))),
    ):
        subjects = [{name[:5] for name in part} for part in (split.train, split.validation)]
        assert list(map(len, subjects)) == [2, 1]
        assert subjects[0].isdisjoint(subjects[1])


def test_a_split_and_a_grouping_are_not_both_taken(data):
    split = Split(("ms_000",), ("ms_001",))
    with pytest.raises(InputError, match="leave out the grouping"):
        planning.plan(data, QUICK, split=split, grouping=Grouping(neighbours=2))


@pytest.mark.parametrize("split", [Split(("ms_000",), ("x",)), Split(("ms_000",), (), ("x",))])
def test_a_split_of_other_data_is_named_before_the_training(data, split):
    with pytest.raises(InputError, match="the split names case 'x'"):
        planning.plan(data, QUICK, split=split)


def test_subjects_are_trained_on_through_links(subjects):
    images = [name_of(subjects, "flair"), name_of(subjects, "t1")]
    label = name_of(subjects, "lesions")
    dataset = layouts.find_data(subjects, images=images, label=label)
    plan = planning.plan(dataset, QUICK)
    assert [case.name for case in plan.dataset.cases] == [f"ms_00{n}" for n in range(6)]
    assert plan.config.in_channels == 2
    folding = Folding(3, Grouping(neighbours=2))
    plans = planning.plan_folds(dataset, QUICK, folding=folding)
    assert len(plans) == 3


def test_names_of_subjects_do_not_go_with_a_cache(data, tmp_path):
    preprocess(layouts.find_data(data), Pipeline((ZScore(),)), tmp_path, workers=1)
    with pytest.raises(InputError, match="is a cache: leave out"):
        layouts.find_data(tmp_path, images=["flair.nii.gz"], label="lesions.nii.gz")


def test_test_cases_of_nnunet_are_kept_for_testing(raw):
    plan = planning.plan(raw, QUICK)
    assert plan.split.test == ("ms_004", "ms_005")
    assert sorted(plan.split.train + plan.split.validation) == [f"ms_00{n}" for n in range(4)]
    assert "6: 3 training, 1 validation, 2 test, 2 of them in labelsTs" in str(describe_plan(plan))
    plans = planning.plan_folds(raw, QUICK, folding=Folding(2))
    assert {plan.split.test for plan in plans} == {("ms_004", "ms_005")}
    assert len(layouts.find_data(raw).cases) == 4
    assert describe(raw)["cases"] == "4"


def test_patients_in_training_and_in_the_test_folder_are_told(raw, tmp_path):
    table = tmp_path / "patients.csv"
    patients = zip(range(6), ["anna", "ben", "carl", "dora", "anna", "emil"], strict=True)
    table.write_text("case,patient\n" + "".join(f"ms_00{n},{who}\n" for n, who in patients))
    grouping = Grouping(table=table)
    with pytest.warns(UserWarning, match="imagesTr and imagesTs both hold cases of anna: "):
        planning.plan(raw, QUICK, grouping=grouping)
    with pytest.warns(UserWarning, match="both hold cases of anna: "):
        planning.plan_folds(raw, QUICK, folding=Folding(2, grouping))


def test_a_case_to_train_on_and_to_test_on_is_refused(raw, tmp_path):
    folder = shutil.copytree(raw / "Dataset004_Heads", tmp_path / "Dataset004_Heads")
    for part in ("images", "labels"):
        (file,) = (folder / f"{part}Ts").glob("ms_004*")
        file.rename(file.with_name(file.name.replace("004", "000")))
    with pytest.raises(InputError, match="case 'ms_000' is in imagesTr and in imagesTs"):
        planning.plan(folder, QUICK)


def test_splits_of_folds_are_taken_as_they_are(raw):
    splits = [Split(("ms_000",), ("ms_001",)), Split(("ms_002",), ("ms_003",))]
    plans = planning.plan_folds(raw, QUICK, folding=splits)
    assert [plan.split for plan in plans] == splits


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        np.save(folder / name, np.zeros((4, 4, 4), np.float32))
    return folder


def test_subjects_are_segmented_by_the_names_of_their_files(tmp_path):
    touch(tmp_path / "p1", "flair.npy", "t1.npy", "t2.npy")
    touch(tmp_path / "p2", "flair.npy", "t1.npy")
    cases = layouts.find_inputs([tmp_path], channels=2, images=["t1.npy", "flair.npy"])
    assert [case.name for case in cases] == ["p1", "p2"]
    assert cases[0].images == (tmp_path / "p1" / "t1.npy", tmp_path / "p1" / "flair.npy")
    one = layouts.find_inputs([tmp_path / "p2"], channels=2, images=["t1.npy", "flair.npy"])
    assert [case.name for case in one] == ["p2"]


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "f.npy, t.npy: name folders of subjects too, before --images"),
        (["a"], {"series": ["3"]}, "leave out the series"),
        (["a"], {"channels": 3}, "f.npy, t.npy: name the file of each channel; .* 3 channels"),
        (["a", "b"], {}, r"a/p/f\.npy and .*b/p/f\.npy: are both of 'p'"),
        (["absent"], {}, "absent: no such folder"),
    ],
)
def test_subjects_that_cannot_be_segmented_are_named(tmp_path, paths, options, message):
    for home in ("a", "b"):
        touch(tmp_path / home / "p", "f.npy", "t.npy")
    folders = [tmp_path / path for path in paths]
    with pytest.raises(InputError, match=message):
        layouts.find_inputs(folders, images=["f.npy", "t.npy"], **options)


def test_data_are_found_however_they_lie(data, tmp_path):
    labelled = layouts.find_data(data)
    assert [case.name for case in labelled.cases] == [f"ms_{n:03d}" for n in range(6)]
    assert labelled.labels == {0: "background", 1: "lesion"}
    for folder in (data / "images", without_labels(data, tmp_path)):
        bare = layouts.find_data(folder)
        assert [case.name for case in bare.cases] == [case.name for case in labelled.cases]
        assert {case.label for case in bare.cases} == {None}
    (single,) = layouts.find_data(labelled.cases[0].images[0]).cases
    assert single.images == labelled.cases[0].images
    found = layouts.find_data(data, images=[name_of(data / "images", "ms_003")])
    assert [case.name for case in found.cases] == ["images", "labels"]
    with pytest.raises(InputError, match="name the images"):
        layouts.find_data(data, label="lesions.nii.gz")


def without_labels(data: Path, folder: Path) -> Path:
    shutil.copytree(data / "images", folder / "images")
    return folder
