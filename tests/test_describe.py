import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from segjax.data.cache.cache import preprocess
from segjax.data.cases import Dataset, find_cases
from segjax.data.io.formats import write_volume
from segjax.data.phantom.dataset import write_dataset
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import HistogramStandardization, Resample
from segjax.data.splits import Split, write_split
from segjax.describe import describe, describe_plan
from segjax.describe.words import steps_in_words
from segjax.errors import InputError
from segjax.runs.folds import FoldScore, write_folds
from segjax.train.config import TrainConfig, write_config
from segjax.train.plans.plan import plan
from segjax.volume import Volume
from segjax_onnx.predict.metadata import KEY, About, Code, Structure
from segjax_onnx.predict.postprocess import LabelRule
from tests.segjax_onnx.predict.test_metadata import METADATA, write_network


def test_options_of_steps_are_in_the_order_of_their_fields_though_files_sort_them():
    sorted_steps = [
        {"high": 1.0, "low": -1.0, "step": "rescale"},
        {"b": 1, "a": 2, "step": "of a module that is not there"},
    ]
    assert (
        steps_in_words(sorted_steps)
        == "rescale (-1.0, 1.0), then of a module that is not there (1, 2)"
    )


def test_volume_tells_its_grid_and_values(tmp_path):
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_volume(Volume(data, affine), tmp_path / "a.nii.gz")
    assert describe(tmp_path / "a.nii.gz") == {
        "kind": "3D volume",
        "shape": "2 × 3 × 4 voxels",
        "spacing": "2 × 3 × 4 mm",
        "orientation": "LAS",
        "origin": "10, 20, 30 mm (RAS+)",
        "type": "float32",
        "range": "0 to 23, mean 11.5",
    }


def test_label_map_tells_the_volume_of_each_label(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[:2, :2, :2], data[3, 3, 3] = 1, 3  # 8 voxels and 1 voxel of 5 × 5 × 5 mm
    write_volume(Volume(data, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / "a.nii.gz")
    assert describe(tmp_path / "a.nii.gz")["labels"] == "1: 1 ml, 3: 0.125 ml"


def test_2d_label_map_counts_pixels(tmp_path):
    write_volume(Volume(np.eye(5, dtype=np.uint8), np.eye(3)), tmp_path / "a.png")
    facts = describe(tmp_path / "a.png")
    assert facts["shape"] == "5 × 5 pixels"
    assert facts["labels"] == "1: 5 pixels"
    assert "spacing" not in facts


def test_values_that_are_not_finite_are_counted(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0, np.nan], [np.inf, 3.0]], np.float32))
    facts = describe(tmp_path / "a.npy")
    assert facts["range"] == "1 to 3, mean 2"
    assert facts["not finite"] == "2 values are NaN or infinite"
    np.save(tmp_path / "b.npy", np.full((2, 2), np.nan, np.float32))
    assert describe(tmp_path / "b.npy")["values"] == "none is finite"


def test_channels_are_counted(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6, 2), np.float32))
    facts = describe(tmp_path / "a.npy")
    assert (facts["shape"], facts["channels"]) == ("4 × 5 × 6 voxels", "2")


def test_dicom_folder_tells_how_it_was_acquired(tmp_path):
    one = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")
    one.save_as(tmp_path / "IM0")
    facts = describe(tmp_path)
    assert facts["kind"] == "DICOM series 1, MR"
    assert facts["shape"] == "64 × 64 × 1 voxels"
    assert facts["acquisition"] == "TR 4 s, TE 0.24 s, flip angle 90°"
    one.SeriesInstanceUID, one.SeriesNumber, one.SeriesDescription = "1.2", 7, "T1"
    one.save_as(tmp_path / "IM1")
    assert describe(tmp_path) == {
        "kind": "2 DICOM series",
        "series 1": "MR, 64 × 64, 1 slice",
        "series 7": "T1, 64 × 64, 1 slice",
    }
    assert describe(tmp_path / "IM1")["shape"] == "64 × 64 × 1 voxels"


def test_dataset_tells_cases_sizes_and_labels(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, size in (("a", 4), ("b", 6)):
        data = np.zeros((size, 5, 5), np.uint8)
        write_volume(Volume(data, np.eye(4)), tmp_path / "images" / f"{name}.nii.gz")
        data = data.copy()
        data[:2] = 1  # 50 voxels of 1 mm³ in both cases
        write_volume(Volume(data, np.eye(4)), tmp_path / "labels" / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text(
        '{"labels": {"0": "background", "1": "plaque"}, "modality": {"0": "FLAIR"}}'
    )
    assert describe(tmp_path) == {
        "kind": "labelled data set",
        "cases": "2",
        "channels": "FLAIR",
        "shape": "4 × 5 × 5 to 6 × 5 × 5 voxels",
        "spacing": "1 × 1 × 1 mm",
        "orientation": "RAS",
        "label 1": "plaque in 2 cases, mean 0.05 ml",
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as training leaves it: two epochs, two cases, two labels."""
    folder = tmp_path / "run"
    folder.mkdir()
    labels = ("background", "anterior", "posterior")
    write_config(TrainConfig("mpunet++", (32, 32, 32), labels=labels, epochs=5), folder)
    write_split(Split(("c", "d"), ("a", "b")), folder / "split.json")
    dice = {(1, "a"): (0.2, 0.4), (1, "b"): (0.6, 0.8), (2, "a"): (0.1, 0.1), (2, "b"): (0.2, 0.2)}
    rows = ["run,epoch,split,case,label,metric,value", "run,1,train,,,loss,0.9"]
    for (epoch, case), values in dice.items():
        for label, value in zip(labels[1:], values, strict=True):
            rows.append(f"run,{epoch},validation,{case},{label},dice,{value}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_run_tells_its_best_dice_and_how_far_it_got(run):
    facts = describe(run)
    assert facts["model"] == "mpunet++"
    assert facts["labels"] == "background, anterior, posterior"
    assert facts["cases"] == "2 training, 2 validation"
    assert facts["loss"].startswith("dice")
    assert "one-cycle" in facts["learning"]
    assert facts["trained"] == "2 of 5 epochs"
    assert facts["best Dice"] == "0.5000 (validation, epoch 1)"  # (0.2 + 0.4 + 0.6 + 0.8) / 4
    assert facts["made"] == "no model.onnx yet: segjax export"


def test_a_cross_validation_tells_its_folds_and_the_dice_of_each_label(run, tmp_path):
    whole = tmp_path / "whole"
    for fold in ("fold0", "fold10", "fold2"):
        shutil.copytree(run, whole / fold)
    (whole / "fold10" / "metrics.csv").unlink()
    facts = describe(whole)
    assert list(facts) == [
        "kind", "model", "labels", "preprocessing", "patch", "fold 0", "fold 2", "fold 10", "Dice",
    ]  # fmt: skip
    assert facts["kind"] == "cross-validation of segjax train"
    assert facts["fold 2"] == "2 of 5 epochs, best Dice 0.5000 (validation, epoch 1)"
    assert facts["fold 10"] == "not yet"
    assert facts["Dice"].startswith("no folds.csv yet")
    write_folds(
        [
            FoldScore(0, 1, "a", "posterior", "dice", 0.5),
            FoldScore(2, 1, "b", "posterior", "dice", 0.7),
            FoldScore(2, 1, "b", "anterior", "false_positive_ml", 0.0),
        ],
        whole,
    )
    facts = describe(whole)
    assert facts["Dice posterior"] == "0.6000 ± 0.1414 (validation, 2 folds)"  # 0.2 / √2
    assert facts["Dice anterior"] == "unknown: no validation case holds it"
    (whole / "folds.csv").write_text("fold,dice\n0,0.5\n")
    with pytest.raises(InputError, match=r"folds\.csv: is no table of the folds"):
        describe(whole)


def test_a_configuration_is_told_by_its_settings(run):
    facts = describe(run / "config.json")
    assert facts["kind"] == "configuration of segjax train"
    assert facts["model"] == "mpunet++"
    assert facts["patch"] == describe(run)["patch"]
    assert facts["training"].startswith("5 epochs, ")
    with pytest.raises(InputError, match=r"split\.json"):
        describe(run / "split.json")


def test_run_without_metrics_is_not_trained_yet(run):
    (run / "metrics.csv").write_text("run,epoch,split,case,label,metric,value\n")
    assert describe(run)["trained"] == "not yet"
    (run / "metrics.csv").unlink()
    assert describe(run)["trained"] == "not yet"


def test_plan_tells_what_will_be_trained(tmp_path):
    write_dataset(tmp_path, count=5, shape=(16, 16, 16))
    facts = describe_plan(
        plan(
            tmp_path,
            {"epochs": 7, "batch_size": 3, "patches_per_case": 2, "patch_size": [16, 16, 16]},
            {"loss": [{"name": "tversky", "alpha": 0.7}, {"name": "cross-entropy", "weight": 0.5}]},
        )
    )
    assert facts["cases"] == "5: 4 training, 1 validation (seed 0)"
    assert facts["network"] == "mpunet++, 37,935 parameters"
    assert facts["input"].startswith("1 channel, reorient")
    assert facts["patch"] == "16 × 16 × 16, 3 in a step"
    assert facts["training"].startswith("7 epochs of 3 steps")  # 4 cases × 2 patches in threes
    assert facts["loss"] == "tversky (alpha 0.7) + 0.5 × cross-entropy"


def test_stored_values_of_classes_are_told_where_they_are_others(run):
    config = json.loads((run / "config.json").read_text())
    values = {"core": [1, 4], "ignore": 3}
    changed = {**config, "labels": ["background", "core"], "label_values": values}
    (run / "config.json").write_text(json.dumps(changed))
    assert describe(run)["labels"] == "background (0), core (1, 4), ignore (3)"
    plain = {**changed, "label_values": {"core": 1}}
    (run / "config.json").write_text(json.dumps(plain))
    assert describe(run)["labels"] == "background, core"


def test_unknown_paths_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.nii: no such file or folder"):
        describe(tmp_path / "absent.nii")
    with pytest.raises(InputError, match="no dataset found"):
        describe(tmp_path)


def test_cache_tells_its_cases_steps_and_what_they_learned_from(tmp_path):
    heads = write_dataset(tmp_path / "heads", count=3, shape=(16, 16, 16))
    pipeline = Pipeline((Resample((2.0, 1.0, 1.0)), HistogramStandardization()))
    split = Split(train=("ms_000", "ms_002"), validation=("ms_001",))
    preprocess(heads, pipeline, tmp_path / "cache", workers=1, split=split)
    facts = describe(tmp_path / "cache")
    assert facts["kind"] == "cache made by segjax preprocess"
    assert facts["cases"] == "3"
    assert facts["channels"] == "FLAIR"
    assert facts["shape"] == "8 × 16 × 16 voxels"
    assert facts["spacing"] == "2 × 1 × 1 mm"
    assert facts["labels"] == "background, lesion"
    assert facts["preprocessing"].startswith("resample (2 × 1 × 1), then histogram-standard")
    assert facts["preprocessing"].endswith("(learned from 2 cases)")
    assert facts["size"].endswith(" MB")


def test_cache_without_names_or_labels_says_so(tmp_path):
    heads = write_dataset(tmp_path / "heads", count=1, shape=(16, 16, 16))
    for labelled, labels in ((True, "0, 1"), (False, "none")):
        (case,) = heads.cases
        dataset = Dataset((case if labelled else replace(case, label=None),))
        preprocess(dataset, Pipeline(), tmp_path / f"cache{labelled}", workers=1)
        facts = describe(tmp_path / f"cache{labelled}")
        assert (facts["labels"], facts["channels"]) == (labels, "1")
        assert facts["preprocessing"] == "none"


def test_cache_without_a_case_has_no_shape(tmp_path):
    preprocess(Dataset(()), Pipeline(), tmp_path / "cache", workers=1)
    assert set(describe(tmp_path / "cache")) == {"kind", "cases", "preprocessing", "size"}


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "DICOM segmentation (SEG)"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "DICOM structure set (RTSTRUCT)"),
    ],
)
def test_dicom_segments_are_told_by_name(tmp_path, uid, kind):
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = uid
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = "1.2.3"
    segment, region = pydicom.Dataset(), pydicom.Dataset()
    segment.SegmentNumber = region.ROINumber = 1
    segment.SegmentLabel = region.ROIName = "lesion"
    one.SegmentSequence, one.StructureSetROISequence = [segment], [region]
    one.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert describe(tmp_path / "a.dcm") == {"kind": kind, "segments": "lesion"}


def test_a_data_set_of_pictures_is_told_in_pixels(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("a", (4, 5, 3)), ("b", (4, 5))):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        image = rng.integers(0, 255, shape).astype(np.uint8)
        write_volume(Volume(image, np.eye(3)), tmp_path / "images" / f"{name}.png")
        mask = np.pad(np.ones((2, 3), np.uint8), 1)
        write_volume(Volume(mask, np.eye(3)), tmp_path / "labels" / f"{name}.png")
    assert describe(tmp_path) == {
        "kind": "labelled data set",
        "cases": "2",
        "channels": "1 to 3",
        "shape": "4 × 5 pixels",
        "label 1": "in 2 cases, mean 6 pixels",
    }


def test_pictures_have_no_voxels_nor_millimetres_in_a_cache_either(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        picture = Volume(np.eye(6, dtype=np.uint8), np.eye(3))
        write_volume(picture, tmp_path / "data" / folder / "a.png")
    assert describe(tmp_path / "data" / "images" / "a.png")["kind"] == "2D image"
    preprocess(find_cases(tmp_path / "data"), Pipeline(), tmp_path / "cache", workers=1)
    facts = describe(tmp_path / "cache")
    assert facts["shape"] == "6 × 6 pixels"
    assert "spacing" not in facts


def test_sweep_tells_its_grid_and_its_best_training(tmp_path):
    grid = {"kernels": [3, 5], "alphas": [0.3, 0.7], "seeds": [0]}
    base = {"labels": ["background", "lesion"]}
    (tmp_path / "sweep.json").write_text(json.dumps(grid | {"base": base}))
    write_split(Split(("a", "b"), ("c",), ("d",)), tmp_path / "split.json")
    facts = describe(tmp_path)
    assert (facts["kernels"], facts["alphas"]) == ("3, 5", "0.3, 0.7")
    assert facts["cases"] == "2 training, 1 validation, 1 test"
    assert (facts["finished"], facts["made"]) == ("0 of 4 trainings", "nothing yet: segjax sweep")
    table = "run,validation_dice\nk3-a0.3-s0,0.5\nk5-a0.3-s0,0.625\nk5-a0.7-s0,\n"
    (tmp_path / "results.csv").write_text(table)
    facts = describe(tmp_path)
    assert facts["finished"] == "3 of 4 trainings"
    assert facts["best Dice"] == "0.6250 (validation, k5-a0.3-s0)"
    assert facts["its run"] == str(tmp_path / "runs" / "k5-a0.3-s0")


@pytest.mark.parametrize("values", [{}, [], {"kernels": [3], "alphas": [0.5], "seeds": [0]}])
def test_sweep_that_cannot_be_read_is_named(tmp_path, values):
    (tmp_path / "sweep.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"sweep\.json: cannot be read as a sweep"):
        describe(tmp_path)


def test_model_says_what_people_decided_about_it(tmp_path):
    metadata = replace(
        METADATA,
        channels=("flair", "t1"),
        optional_channels=("t1",),
        postprocessing=(LabelRule(threshold=0.4, minimum_volume=14.1), LabelRule()),
        structures=(Structure((1, 2, 3), Code("SCT", "52988006", "Lesion")), Structure((4, 5, 6))),
        about=About(license="CC-BY-4.0", dice={"lesion": 0.7412}),
    )
    facts = describe(write_network(tmp_path / "model.onnx", **{KEY: metadata.to_json()}))
    assert facts["channels"] == "2 (flair, t1; t1 may be missing)"
    assert facts["rules"] == "lesion: probability from 0.4 on, components from 14.1 mm³ on"
    assert facts["codes"] == "lesion: Lesion (SCT 52988006)"
    assert (facts["licence"], facts["Dice"]) == ("CC-BY-4.0", "lesion 0.741")
    plain = describe(write_network(tmp_path / "plain.onnx", **{KEY: METADATA.to_json()}))
    assert plain["channels"] == "2"
    assert not {"rules", "codes", "licence", "cite"} & set(plain)
