"""Datasets and their cases."""

import json

import numpy as np
import pytest

from segjax.data.cases import Case, find_cases
from segjax.data.description import read_description
from segjax.data.io.formats import write_volume
from segjax.data.labels import IGNORED, asked_coding
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import CropToForeground, Resample, ZScore
from segjax.data.sources import files_in
from segjax.errors import InputError
from segjax.volume import Volume


def names_of(cases):
    return [
        (case.name, [file.name for image in case.images for file in files_in(image)])
        for case in cases
    ]


def test_images_and_labels_of_equal_names_are_paired(make_folder):
    folder = make_folder("images/b.nii.gz", "images/a.png", "labels/a.npy", "labels/b.nii")
    dataset = find_cases(folder)
    assert names_of(dataset.cases) == [("a", ["a.png"]), ("b", ["b.nii.gz"])]
    assert [case.label for case in dataset.cases] == [
        folder / "labels/a.npy",
        folder / "labels/b.nii",
    ]
    assert (dataset.labels, dataset.channels) == (None, None)


def test_decathlon_layout_gives_label_and_channel_names(make_folder):
    folder = make_folder(
        "imagesTr/brats_01.nii.gz",
        "imagesTr/._brats_01.nii.gz",
        "labelsTr/brats_01.nii.gz",
        "imagesTs/brats_02.nii.gz",
        dataset={
            "labels": {"0": "background", "1": "oedema", "2": "tumour"},
            "modality": {"0": "FLAIR", "1": "T1w"},
        },
    )
    dataset = find_cases(folder)
    assert names_of(dataset.cases) == [("brats_01", ["brats_01.nii.gz"])]
    assert dataset.labels == {0: "background", 1: "oedema", 2: "tumour"}
    assert dataset.channels == ("FLAIR", "T1w")


def test_nnunet_layout_groups_channel_files(make_folder):
    files = [f"imagesTr/{case}_000{i}.nii.gz" for case in ("p1", "p2") for i in (1, 0)]
    folder = make_folder(
        *files,
        "labelsTr/p1.nii.gz",
        "labelsTr/p2.nii.gz",
        dataset={
            "labels": {"lesion": 1, "background": 0},
            "channel_names": {"1": "T1", "0": "FLAIR"},
        },
    )
    dataset = find_cases(folder)
    assert names_of(dataset.cases) == [
        ("p1", ["p1_0000.nii.gz", "p1_0001.nii.gz"]),
        ("p2", ["p2_0000.nii.gz", "p2_0001.nii.gz"]),
    ]
    assert dataset.labels == {0: "background", 1: "lesion"}
    assert dataset.channels == ("FLAIR", "T1")


def test_numbers_that_labels_share_are_no_channels(make_folder):
    folder = make_folder(
        *[f"{part}/scan_000{i}.png" for part in ("images", "labels") for i in "12"]
    )
    assert names_of(find_cases(folder).cases) == [
        ("scan_0001", ["scan_0001.png"]),
        ("scan_0002", ["scan_0002.png"]),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["scans/a.nii"], "accepted are images/ and labels/ .* imagesTr/ and labelsTr/"),
        (["images/a.txt", "labels/a.nii"], r"images: holds no images: accepted are .*\.nii\.gz"),
        (["images/a.nii", "labels/b.nii"], r"a\.nii: has no label: expected a label named 'a'"),
        (["images/a_0000.nii", "labels/b.nii"], "expected a label named 'a_0000' or 'a'"),
        (["images/a.nii", "labels/a.nii", "labels/b.nii"], r"b\.nii: no image of this name"),
        (["images/a.nii", "images/a.png", "labels/a.nii"], "already has channel 0"),
        (["images/a.nii", "labels/a.nii", "labels/a.png"], "have one name"),
        (
            [f"images/{name}.nii" for name in ("a_0000", "a_0001", "b_0000")]
            + [f"labels/{name}.nii" for name in "ab"],
            "case 'b': channel 1 is missing: expected b_0001",
        ),
    ],
)
def test_broken_layouts_are_named(make_folder, files, message):
    with pytest.raises(InputError, match=message) as error:
        find_cases(make_folder(*files))
    assert "\n" not in str(error.value)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_cases(tmp_path / "nowhere")


@pytest.fixture
def two_channels(tmp_path):
    """Return a case of two channels and its arrays."""
    rng = np.random.default_rng(0)
    channels = [rng.standard_normal((6, 5, 4)).astype(np.float32) for _ in range(2)]
    label = rng.integers(0, 3, (6, 5, 4)).astype(np.uint8)
    for i, channel in enumerate(channels):
        np.save(tmp_path / f"a_000{i}.npy", channel)
    np.save(tmp_path / "a.npy", label)
    images = (tmp_path / "a_0000.npy", tmp_path / "a_0001.npy")
    return Case("a", images, tmp_path / "a.npy"), np.stack(channels, -1), label


def test_loaded_case_holds_processed_arrays_and_raw_geometry(two_channels):
    case, image, label = two_channels
    loaded = case.load(Pipeline((ZScore(),)), classes=3, channels=2)
    expected = (image - image.mean((0, 1, 2))) / image.std((0, 1, 2))
    np.testing.assert_allclose(loaded.image, expected, atol=1e-5)
    np.testing.assert_array_equal(loaded.label, label)
    assert (loaded.image.dtype, loaded.label.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(loaded.raw_label.data, label)
    assert loaded.volume.spatial_shape == (6, 5, 4)
    np.testing.assert_array_equal(loaded.volume.affine, np.eye(4))


def test_geometry_before_processing_is_kept_for_inversion(two_channels):
    case, _, label = two_channels
    pipeline = Pipeline((Resample(spacing=(0.5, 0.5, 0.5)),))
    loaded = case.load(pipeline)
    assert loaded.label.shape == (12, 10, 8)
    processed = pipeline.apply_label(loaded.raw_label)
    back = pipeline.invert(processed.with_data(loaded.label), loaded.volume)
    np.testing.assert_array_equal(back.data, label)


@pytest.mark.parametrize(
    ("options", "message"), [({"classes": 2}, "2"), ({"channels": 1}, "2 channels")]
)
def test_unexpected_classes_and_channels_are_refused(two_channels, options, message):
    with pytest.raises(InputError, match=message):
        two_channels[0].load(Pipeline(), **options)


def test_case_without_label_cannot_be_trained_on(two_channels):
    case = Case("a", two_channels[0].images)
    with pytest.raises(InputError, match="case 'a' has no label"):
        case.load(Pipeline())


def test_label_of_another_shape_is_refused(two_channels, tmp_path):
    np.save(tmp_path / "b.npy", np.zeros((6, 5, 3), np.uint8))
    case = Case("a", two_channels[0].images, tmp_path / "b.npy")
    with pytest.raises(InputError, match=r"b\.npy"):
        case.load(Pipeline())


def test_labels_over_255_are_refused(two_channels, tmp_path):
    np.save(tmp_path / "b.npy", np.full((6, 5, 4), 256, np.int32))
    case = Case("a", two_channels[0].images, tmp_path / "b.npy")
    with pytest.raises(InputError, match="over 255"):
        case.load(Pipeline())


def test_grids_of_a_case_are_kept_for_the_way_back(tmp_path):
    image, label = np.zeros((2, 6, 5, 4), np.uint8)
    image[1:4, 2:5, 1:3], label[2:4, 2:5, 1:2] = 7, 1
    np.save(tmp_path / "a_0000.npy", image)
    np.save(tmp_path / "a.npy", label)
    pipeline = Pipeline((CropToForeground(0), ZScore()))
    loaded = Case("a", (tmp_path / "a_0000.npy",), tmp_path / "a.npy").load(pipeline)
    assert [grid.shape for grid in loaded.grids] == [(6, 5, 4), (3, 3, 2), (3, 3, 2)]
    assert loaded.label.shape == loaded.image.shape[:-1] == (3, 3, 2)
    processed = Volume(loaded.label, loaded.grids[-1].affine)
    back = pipeline.invert(processed, loaded.volume, grids=loaded.grids)
    np.testing.assert_array_equal(back.data, label)


def test_hippocampus_dataset_is_found_and_loaded(data_dir):
    dataset = find_cases(data_dir / "hippocampus")
    assert len(dataset.cases) == 210
    loaded = dataset.cases[0].load(Pipeline((ZScore(),)), classes=3, channels=1)
    assert loaded.image.shape == (*loaded.label.shape, 1)
    assert set(np.unique(loaded.label)) == {0, 1, 2}


def test_meningioma_slices_are_found_and_loaded(data_dir):
    dataset = find_cases(data_dir / "meningioma2d")
    assert len(dataset.cases) == 602
    loaded = dataset.cases[0].load(Pipeline(), classes=2, channels=1)
    assert (loaded.image.shape, loaded.label.shape) == ((512, 512, 1), (512, 512))
    assert set(np.unique(loaded.label)) == {0, 1}


def write_case(folder, stored, name="a.nii"):
    for part, data in (("images", np.zeros(stored.shape, np.float32)), ("labels", stored)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(data, np.eye(stored.ndim + 1)), folder / part / name)


def describe(folder, labels, encoding="utf-8"):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding=encoding)


def test_any_values_that_dataset_json_names_become_classes(tmp_path):
    stored = np.array([[[0, 255, 7]]], np.uint8)
    write_case(tmp_path, stored)
    describe(tmp_path, {"background": 0, "lesion": 255, "vessel": 7}, encoding="utf-8-sig")
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "vessel", 2: "lesion"}
    assert dataset.cases[0].read_label().data.tolist() == [[[0, 2, 1]]]
    assert read_description(tmp_path / "labels").coding == dataset.coding


def test_a_label_named_ignore_is_no_class(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2]]], np.uint8))
    describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 2})
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "lesion"}
    loaded = dataset.cases[0].load(Pipeline(), classes=2)
    assert loaded.label.tolist() == [[[0, 1, IGNORED]]]


def test_a_value_that_dataset_json_does_not_name_is_refused(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 3]]], np.uint8))
    describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 2})
    with pytest.raises(InputError, match=r"a\.nii: has labels 3, but the labels are 0, 1"):
        find_cases(tmp_path).cases[0].read_label()


def test_regions_that_lie_apart_are_merged_classes(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2, 3, 4]]], np.uint8))
    regions = {"background": 0, "edema": 2, "core": [1, 3], "ignore": 4}
    description = {"labels": regions, "regions_class_order": [2, 1]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "core", 2: "edema"}
    assert dataset.cases[0].read_label().data.tolist() == [[[0, 1, 2, 1, IGNORED]]]


def test_regions_that_overlap_are_refused_until_labels_are_given(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2, 3]]], np.uint8))
    describe(tmp_path, {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3})
    with pytest.raises(InputError, match=r"dataset\.json: labels: the value 2 is of .*--labels"):
        find_cases(tmp_path)
    coding = asked_coding(["1=edema", "2,3=core"])
    dataset = find_cases(tmp_path, coding=coding)
    assert dataset.labels == {0: "background", 1: "edema", 2: "core"}
    assert dataset.cases[0].read_label().data.tolist() == [[[0, 1, 2, 2]]]


def segments(path, names, values=(1, 2)):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0], data[1] = values
    write_volume(Volume(data, np.eye(4)), path, segments=dict(zip(values, names, strict=True)))


def test_segments_are_classes_by_their_names_whatever_their_numbers(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for name in ("a", "b"):
        image = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
        write_volume(image, tmp_path / "images" / f"{name}.nrrd")
    segments(tmp_path / "labels" / "a.seg.nrrd", ("lesion", "vessel"))
    segments(tmp_path / "labels" / "b.seg.nrrd", ("Vessel ", "lesion"))
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "lesion", 2: "vessel"}
    describe(tmp_path, {"background": 0, "lesion": 1, "vessel": 2})
    a, b = (case.read_label().data[:2, 0, 0].tolist() for case in find_cases(tmp_path).cases)
    assert (a, b) == ([1, 2], [2, 1])


def test_named_segments_beside_plain_labels_need_names_for_all(tmp_path):
    write_case(tmp_path, np.zeros((4, 4, 4), np.uint8))
    write_volume(Volume(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "images" / "b.nrrd")
    segments(tmp_path / "labels" / "b.seg.nrrd", ("lesion", "vessel"))
    with pytest.raises(InputError, match="name the labels in dataset"):
        find_cases(tmp_path)


def test_a_segment_named_ignore_counts_for_nothing(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_volume(Volume(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "images" / "a.nrrd")
    segments(tmp_path / "labels" / "a.seg.nrrd", ("Ignore", "lesion"))
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "lesion"}
    assert dataset.cases[0].read_label().data[:3, 0, 0].tolist() == [IGNORED, 1, 0]
