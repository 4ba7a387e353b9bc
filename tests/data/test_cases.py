"""Folder layouts, splits and loading."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from segjax.data.cases import (
    Case,
    Dataset,
    LoadedCase,
    Split,
    files_in,
    find_cases,
    find_images,
    find_subjects,
    load_case,
    read_case_label,
    read_description,
    read_fold_splits,
    read_split,
    split_cases,
    write_split,
)
from segjax.data.io.formats import write_volume
from segjax.data.labels import IGNORED, asked_coding
from segjax.data.prepare.pipeline import CropToForeground, Pipeline, Resample, ZScore
from segjax.errors import InputError
from segjax.volume import Volume


@pytest.fixture
def make_folder(tmp_path):
    """Return a function that makes a folder of empty files, and JSON files from objects."""

    def make(*files, **jsons):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        for name, content in jsons.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return make


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


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([], "holds no JSON object"),
        ({"labels": {"background": 0, "a": 1.5}}, "'a' has the value 1.5"),
        ({"labels": {"background": 0, "ignore": 1}}, "nothing is labelled but"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "the value 1 is of 'a' and of 'b'"),
        ({"labels": ["background", "lesion"]}, "labels: must be an object of names"),
        ({"labels": {}}, "nothing is labelled but"),
        ({"channel_names": {"FLAIR": "0"}}, "channels .* cannot be used"),
        ({"channel_names": 3}, "channels .* cannot be used"),
        ({"channel_names": ["FLAIR", "T1"]}, "channel 1 is missing"),
        ({"channel_names": ["FLAIR"]}, None),
    ],
)
def test_descriptions_are_checked(make_folder, description, message):
    folder = make_folder("images/a_0000.nii", "labels/a.nii", dataset=description)
    if message is None:
        assert find_cases(folder).channels == ("FLAIR",)
    else:
        with pytest.raises(InputError, match=message):
            find_cases(folder)


def test_more_channels_than_described_are_named(make_folder):
    files = ["images/a_0000.nii", "images/a_0001.nii", "labels/a.nii"]
    folder = make_folder(*files, dataset={"channel_names": {"0": "FLAIR"}})
    with pytest.raises(InputError, match=r"channel 1 is there, but dataset\.json names 1"):
        find_cases(folder)


def test_description_that_is_no_json_is_named(make_folder):
    folder = make_folder("images/a.nii", "labels/a.nii")
    (folder / "dataset.json").write_text("{labels")
    with pytest.raises(InputError, match=r"dataset\.json: .*is no JSON"):
        find_cases(folder)


def test_files_and_folders_become_cases_in_the_order_given(make_folder):
    folder = make_folder("x/b.png", "x/a.png", "x/notes.txt", "z.nii.gz")
    cases = find_images([folder / "z.nii.gz", str(folder / "x")])
    assert names_of(cases) == [("z", ["z.nii.gz"]), ("a", ["a.png"]), ("b", ["b.png"])]
    assert all(case.label is None for case in cases)


def test_channel_files_are_grouped_where_all_have_suffixes(make_folder):
    folder = make_folder("a_0001.nii", "a_0000.nii", "b_0000.nii", "b_0001.nii")
    grouped = [
        ("a", ["a_0000.nii", "a_0001.nii"]),
        ("b", ["b_0000.nii", "b_0001.nii"]),
    ]
    assert names_of(find_images([folder])) == grouped
    assert names_of(find_images([folder], channels=2)) == grouped
    with pytest.raises(InputError, match="has files of 2 channels, but the network takes 1"):
        find_images([folder], channels=1)


@pytest.mark.parametrize(
    "files",
    [
        ["a_0000.nii", "b.nii"],
        ["a_0001.nii", "a_0002.nii"],
        ["a_0000.nii", "a_0001.nii", "b_0000.nii"],
    ],
)
def test_numbered_files_are_cases_of_their_own_where_sets_are_incomplete(make_folder, files):
    cases = find_images([make_folder(*files)])
    assert [[path.name for path in case.images] for case in cases] == [[name] for name in files]


@pytest.fixture
def scan(tmp_path):
    """Return a function that writes a real DICOM slice to a file, as part of a series."""
    one = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")

    def write(name, series):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        one.SeriesNumber, one.SeriesInstanceUID = series, f"1.2.{series}"
        one.save_as(tmp_path / name)
        return tmp_path / name

    return write


def test_a_folder_of_one_dicom_series_is_a_case_of_its_name(scan):
    file = scan("patient.7/deep/IM0", 3)
    (case,) = find_images([file.parent.parent])
    assert names_of([case]) == [("patient.7", ["IM0"])]
    assert case.images[0].files == (file,)
    (case,) = find_images([file])
    assert names_of([case]) == [("IM0", ["IM0"])]


def test_each_dicom_series_of_a_folder_is_a_case(scan):
    files = [scan(f"exam/{name}", number) for name, number in (("a.dcm", 2), ("b", 11), ("c", 5))]
    cases = find_images([files[0].parent])
    assert names_of(cases) == [
        ("exam_series2", ["a.dcm"]),
        ("exam_series5", ["c"]),
        ("exam_series11", ["b"]),
    ]


def test_dicom_series_in_folders_of_their_own_have_the_names_of_the_folders(scan):
    scan("study/anna/flair/IM0", 4)
    scan("study/anna/t1/IM0", 5)
    scan("study/bob/IM0", 6)
    scan("study/carl/IM0", 7)
    folder = scan("study/carl/IM1", 8).parent.parent
    assert names_of(find_images([folder])) == [
        ("anna_flair", ["IM0"]),
        ("anna_t1", ["IM0"]),
        ("bob", ["IM0"]),
        ("carl_series7", ["IM0"]),
        ("carl_series8", ["IM1"]),
    ]


def test_dicom_beside_other_images_is_not_passed_over(scan):
    file = scan("exam/IM0", 2)
    (file.parent / "t1.nii").touch()
    assert names_of(find_images([file.parent])) == [("exam", ["IM0"]), ("t1", ["t1.nii"])]
    scan("other/deep/IM0", 2)
    (file.parent.parent / "other" / "t1.nii").touch()
    found = names_of(find_images([file.parent.parent / "other"]))
    assert found == [("other", ["IM0"]), ("t1", ["t1.nii"])]


def test_folders_of_dicom_are_channels_by_their_names(scan):
    folders = [scan(f"p_000{k}/IM0", k).parent for k in (1, 0)]
    (case,) = find_images(folders, channels=2)
    assert case.name == "p"
    assert [series.folder for series in case.images] == [folders[1], folders[0]]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no image given"),
        (["missing.nii"], r"missing\.nii: no such file"),
        (["notes.txt"], r"notes\.txt: not an image"),
        (["x"], "have one name"),
        (["empty"], "empty: holds no images"),
    ],
)
def test_paths_that_are_no_images_are_named(make_folder, paths, message):
    folder = make_folder("notes.txt", "x/a.png", "x/a.npy", "empty/notes.txt")
    with pytest.raises(InputError, match=message):
        find_images([folder / path for path in paths])


def test_split_is_a_partition_of_the_given_sizes():
    names = [f"case{i:03d}" for i in range(210)]
    split = split_cases(names, validation=0.2, test=0.1, seed=3)
    assert (len(split.train), len(split.validation), len(split.test)) == (147, 42, 21)
    assert sorted(split.train + split.validation + split.test) == names


def test_split_depends_on_names_and_seed_alone():
    names = [f"case{i}" for i in range(30)]
    assert split_cases(names) == split_cases(reversed(names))
    assert split_cases(names) != split_cases(names, seed=1)


def test_test_set_stays_when_validation_changes():
    names = [f"case{i}" for i in range(30)]
    tests = {split_cases(names, validation=v, test=0.2).test for v in (0.0, 0.1, 0.4)}
    assert len(tests) == 1


def test_small_datasets_keep_one_case_to_validate_on():
    split = split_cases(["a", "b"], validation=0.1)
    assert (len(split.train), len(split.validation)) == (1, 1)
    assert split_cases(["a"], validation=0.0) == Split(("a",), ())


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a", "a"], {}, "case 'a' occurs more than once"),
        (["a", "b"], {"validation": 1.0}, "fraction 1.0 for validation"),
        (["a", "b"], {"test": -0.1}, "fraction -0.1 for test"),
        (["a"], {}, "leave none to train on"),
        (["a", "b"], {"test": 0.5}, "leave none to train on"),
    ],
)
def test_impossible_splits_are_refused(names, options, message):
    with pytest.raises(InputError, match=message):
        split_cases(names, **options)


def test_split_survives_a_file(tmp_path):
    split = Split(train=("a", "b"), validation=("c",), test=("é",))
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    with pytest.raises(InputError, match="exists"):
        write_split(split, tmp_path / "split.json")
    write_split(Split(("x",), ()), tmp_path / "split.json", overwrite=True)
    assert read_split(tmp_path / "split.json") == Split(("x",), ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("{", "is no JSON"),
        ("[]", "a split is an object"),
        ('{"train": ["a"]}', "a split is an object"),
        ('{"train": "a", "validation": []}', "'train' is no list"),
        ('{"train": ["a"], "validation": ["a"]}', "case 'a' occurs more than once"),
    ],
)
def test_files_that_are_no_split_are_named(tmp_path, content, message):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"split\.json: .*{message}"):
        read_split(path)


def test_groups_are_split_whole_and_as_near_to_the_fractions_as_they_can_be():
    sizes = {"a": 10, "b": 4, "c": 3, "d": 2, "e": 1}
    groups = {f"{group}{n}": group for group, size in sizes.items() for n in range(size)}
    for seed in range(8):
        split = split_cases(groups, validation=0.2, test=0.3, seed=seed, groups=groups)
        parts = [{groups[name] for name in part} for part in (split.train, split.validation)]
        parts.append({groups[name] for name in split.test})
        assert sum(map(len, parts)) == 5
        assert (len(split.validation), len(split.test)) == (4, 6)
        assert sorted(split.train + split.validation + split.test) == sorted(groups)


def test_groups_of_one_case_change_no_split():
    names = [f"case{i}" for i in range(30)]
    alone = {name: name for name in names}
    for seed in range(4):
        plain = split_cases(names, test=0.1, seed=seed)
        assert split_cases(names, test=0.1, seed=seed, groups=alone) == plain


def test_a_split_without_groups_is_the_one_it_always_was():
    names = [f"case{i:02d}" for i in range(12)]
    order = [sorted(names)[i] for i in np.random.default_rng(3).permutation(12)]
    split = split_cases(names, validation=0.25, test=0.1, seed=3)
    assert split.test == tuple(order[:1])
    assert split.validation == tuple(sorted(order[1:4]))


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match=r"1 group with fractions .* leave none to train on"):
        split_cases("ab", groups={"a": "x", "b": "x"})


def test_splits_of_folds_are_read_as_nnunet_writes_them(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]')
    assert read_fold_splits(path) == (Split(("a", "b"), ("c",)), Split(("c",), ("a", "b")))
    with pytest.raises(InputError, match=r"splits_final\.json: holds the splits of 2 folds"):
        read_split(path)
    write_split(Split(("a",), ("b",)), tmp_path / "split.json")
    assert read_fold_splits(tmp_path / "split.json") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "neither a split nor a list"),
        ("3", "neither a split nor a list"),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["a"]}]', "fold 1: a split is an object of"),
        ('[{"train": ["a"], "val": ["a"]}]', "fold 0: case 'a' occurs more than once"),
        ('[{"train": "a", "val": []}]', "fold 0: 'train' is no list"),
    ],
)
def test_files_that_are_no_splits_of_folds_are_named(tmp_path, content, message):
    path = tmp_path / "splits_final.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"splits_final\.json.*{message}"):
        read_fold_splits(path)


@pytest.fixture
def channel_files(tmp_path):
    """Return a function that writes images of so many channels and returns their files."""

    def written(*names, channels=1):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            np.save(tmp_path / name, np.zeros((4, 4, 4, channels), np.float32))
        return [tmp_path / name for name in names]

    return written


def test_files_in_the_order_of_the_channels_are_one_case(channel_files):
    files = channel_files("p/t1.npy", "p/flair.npy")
    (case,) = find_images(files[::-1], channels=2)
    assert (case.name, case.images) == ("flair", (files[1], files[0]))
    assert len(find_images(files, channels=1)) == len(find_images(files)) == 2


def test_files_that_hold_all_channels_are_cases(channel_files):
    files = channel_files("a.npy", "b.npy", channels=2)
    assert [case.name for case in find_images(files, channels=2)] == ["a", "b"]


def test_channels_of_several_patients_must_be_told_apart(channel_files):
    files = channel_files("p1/f.npy", "p1/t.npy", "p2/f.npy", "p2/t.npy")
    with pytest.raises(InputError, match=r"f\.npy: is one channel.* takes 2 .* by --images"):
        find_images(files, channels=2)
    with pytest.raises(InputError, match="takes 3 of every patient"):
        find_images(files[:2], channels=3)


def test_images_of_a_folder_are_not_taken_for_channels(channel_files):
    folder = channel_files("p/t1.npy", "p/flair.npy")[0].parent
    assert [case.name for case in find_images([folder], channels=2)] == ["flair", "t1"]
    folders = [file.parent for file in channel_files("p1/f.npy", "p2/f.npy")]
    assert [case.name for case in find_images(folders, channels=2)] == ["p1", "p2"]


def test_dicom_folders_in_the_order_of_the_channels_are_one_case(scan):
    folders = [scan(f"p/{name}/IM0", number).parent for name, number in (("t1", 1), ("flair", 2))]
    (case,) = find_images(folders, channels=2)
    assert (case.name, [series.folder for series in case.images]) == ("t1", folders)


def test_grey_pictures_are_no_channels_of_one_in_colour(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        write_volume(Volume(np.zeros((4, 4), np.uint8), np.eye(3)), file)
    assert len(find_images(files, channels=3)) == 3


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
    loaded = load_case(case, Pipeline((ZScore(),)), classes=3, channels=2)
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
    loaded = load_case(case, pipeline)
    assert loaded.label.shape == (12, 10, 8)
    processed = pipeline.apply_label(loaded.raw_label)
    back = pipeline.invert(processed.with_data(loaded.label), loaded.volume)
    np.testing.assert_array_equal(back.data, label)


@pytest.mark.parametrize(
    ("options", "message"), [({"classes": 2}, "2"), ({"channels": 1}, "2 channels")]
)
def test_unexpected_classes_and_channels_are_refused(two_channels, options, message):
    with pytest.raises(InputError, match=message):
        load_case(two_channels[0], Pipeline(), **options)


def test_case_without_label_cannot_be_trained_on(two_channels):
    case = Case("a", two_channels[0].images)
    with pytest.raises(InputError, match="case 'a' has no label"):
        load_case(case, Pipeline())


def test_label_of_another_shape_is_refused(two_channels, tmp_path):
    np.save(tmp_path / "b.npy", np.zeros((6, 5, 3), np.uint8))
    case = Case("a", two_channels[0].images, tmp_path / "b.npy")
    with pytest.raises(InputError, match=r"b\.npy"):
        load_case(case, Pipeline())


def test_labels_over_255_are_refused(two_channels, tmp_path):
    np.save(tmp_path / "b.npy", np.full((6, 5, 4), 256, np.int32))
    case = Case("a", two_channels[0].images, tmp_path / "b.npy")
    with pytest.raises(InputError, match="over 255"):
        load_case(case, Pipeline())


def test_grids_of_a_case_are_kept_for_the_way_back(tmp_path):
    image, label = np.zeros((2, 6, 5, 4), np.uint8)
    image[1:4, 2:5, 1:3], label[2:4, 2:5, 1:2] = 7, 1
    np.save(tmp_path / "a_0000.npy", image)
    np.save(tmp_path / "a.npy", label)
    pipeline = Pipeline((CropToForeground(0), ZScore()))
    loaded = load_case(Case("a", (tmp_path / "a_0000.npy",), tmp_path / "a.npy"), pipeline)
    assert [grid.shape for grid in loaded.grids] == [(6, 5, 4), (3, 3, 2), (3, 3, 2)]
    assert loaded.label.shape == loaded.image.shape[:-1] == (3, 3, 2)
    processed = Volume(loaded.label, loaded.grids[-1].affine)
    back = pipeline.invert(processed, loaded.volume, grids=loaded.grids)
    np.testing.assert_array_equal(back.data, label)


def test_image_and_label_in_memory_must_have_one_shape():
    volume = Volume(np.zeros((4, 4)), np.eye(3))
    with pytest.raises(InputError, match="case 'a': image of shape"):
        LoadedCase("a", np.zeros((4, 4, 1)), np.zeros((4, 5)), volume, volume)


def test_hippocampus_dataset_is_found_and_loaded(data_dir):
    dataset = find_cases(data_dir / "hippocampus")
    assert len(dataset.cases) == 210
    loaded = load_case(dataset.cases[0], Pipeline((ZScore(),)), classes=3, channels=1)
    assert loaded.image.shape == (*loaded.label.shape, 1)
    assert set(np.unique(loaded.label)) == {0, 1, 2}


def test_meningioma_slices_are_found_and_loaded(data_dir):
    dataset = find_cases(data_dir / "meningioma2d")
    assert len(dataset.cases) == 602
    loaded = load_case(dataset.cases[0], Pipeline(), classes=2, channels=1)
    assert (loaded.image.shape, loaded.label.shape) == ((512, 512, 1), (512, 512))
    assert set(np.unique(loaded.label)) == {0, 1}


def test_a_missing_channel_is_named(make_folder):
    folder = make_folder("a_0000.nii", "a_0001.nii", "b_0000.nii")
    with pytest.warns(UserWarning, match=r"b: channel _0001 is missing; the network takes 2"):
        find_images([folder], channels=2)


def test_numbered_slices_are_no_channels(make_folder):
    assert len(find_images([make_folder("s_0000.png", "s_0001.png")], channels=1)) == 2


# Folders of subjects


def subjects(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_every_folder_with_the_named_files_is_a_case(tmp_path):
    names = ("flair.nii.gz", "t1.nii.gz", "lesions.nii.gz", "brain.nii.gz")
    folder = subjects(tmp_path, *(f"patient{n}/{name}" for n in ("07", "19") for name in names))
    images = ("flair.nii.gz", "t1.nii.gz")
    dataset = find_subjects(folder, images=images, label="lesions.nii.gz")
    assert dataset.channels == ("flair", "t1")
    assert dataset.cases == tuple(
        Case(name, tuple(folder / name / i for i in images), folder / name / "lesions.nii.gz")
        for name in ("patient07", "patient19")
    )


def test_subjects_of_a_bids_tree_are_found_by_stars(tmp_path):
    files = [f"sub-{n}/anat/sub-{n}_{kind}.nii.gz" for n in "12" for kind in ("FLAIR", "T1w")]
    folder = subjects(tmp_path, *files, "sub-1/anat/.sub-1_FLAIR.nii.gz")
    dataset = find_subjects(folder, images=["*_FLAIR.nii.gz"])
    assert [case.name for case in dataset.cases] == ["sub-1_anat", "sub-2_anat"]
    assert dataset.cases[1].images == (folder / files[2],)
    assert (dataset.cases[0].label, dataset.channels) == (None, ("FLAIR",))


def test_folder_may_be_a_subject_itself(tmp_path):
    folder = subjects(tmp_path / "patient07", "flair.nii.gz")
    assert [c.name for c in find_subjects(folder, images=["flair.nii.gz"]).cases] == ["patient07"]


@pytest.mark.parametrize(
    ("files", "images", "message"),
    [
        (["a/t1.nii.gz"], ["flair.nii.gz"], r"neither it nor a folder in it holds flair\.nii\.gz"),
        (["a/f.nii", "b/f.nii", "a/t.nii"], ["f.nii", "t.nii"], r"b: holds no t\.nii"),
        (["a/1_f.nii", "a/2_f.nii"], ["*_f.nii"], r"a: both 1_f\.nii and 2_f\.nii are \*_f\.nii"),
        (["a/b/f.nii", "a_b/f.nii"], ["f.nii"], "case 'a_b' occurs more than once"),
        (["a/f.nii"], [], "give names of files"),
        (["a/f.nii"], ["/a/f.nii"], "give names of files"),
        (["a/f.nii"], [""], "give names of files"),
    ],
)
def test_subjects_that_do_not_fit_are_named(files, images, message, tmp_path):
    with pytest.raises(InputError, match=message):
        find_subjects(subjects(tmp_path, *files), images=images)


def test_absent_folder_of_subjects_is_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder"):
        find_subjects(tmp_path / "absent", images=["flair.nii.gz"])


def test_channels_called_alike_have_no_names(tmp_path):
    folder = subjects(tmp_path, "a/x_f.nii", "a/f.nii")
    assert find_subjects(folder, images=["x_*.nii", "x_*.nii"]).channels is None


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
    assert read_case_label(dataset.cases[0]).data.tolist() == [[[0, 2, 1]]]
    assert read_description(tmp_path / "labels").coding == dataset.coding


def test_a_label_named_ignore_is_no_class(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2]]], np.uint8))
    describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 2})
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "lesion"}
    loaded = load_case(dataset.cases[0], Pipeline(), classes=2)
    assert loaded.label.tolist() == [[[0, 1, IGNORED]]]


def test_a_value_that_dataset_json_does_not_name_is_refused(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 3]]], np.uint8))
    describe(tmp_path, {"background": 0, "lesion": 1, "ignore": 2})
    with pytest.raises(InputError, match=r"a\.nii: has labels 3, but the labels are 0, 1"):
        read_case_label(find_cases(tmp_path).cases[0])


def test_regions_that_lie_apart_are_merged_classes(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2, 3, 4]]], np.uint8))
    regions = {"background": 0, "edema": 2, "core": [1, 3], "ignore": 4}
    description = {"labels": regions, "regions_class_order": [2, 1]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "core", 2: "edema"}
    assert read_case_label(dataset.cases[0]).data.tolist() == [[[0, 1, 2, 1, IGNORED]]]


def test_regions_that_overlap_are_refused_until_labels_are_given(tmp_path):
    write_case(tmp_path, np.array([[[0, 1, 2, 3]]], np.uint8))
    describe(tmp_path, {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3})
    with pytest.raises(InputError, match=r"dataset\.json: labels: the value 2 is of .*--labels"):
        find_cases(tmp_path)
    coding = asked_coding(["1=edema", "2,3=core"])
    dataset = find_cases(tmp_path, coding=coding)
    assert dataset.labels == {0: "background", 1: "edema", 2: "core"}
    assert read_case_label(dataset.cases[0]).data.tolist() == [[[0, 1, 2, 2]]]


def test_labels_of_subjects_are_what_the_coding_says(tmp_path):
    for name, data in (("flair.nii", [[[0.0, 0, 0]]]), ("tumour.nii", [[[0, 1, 4]]])):
        (tmp_path / "p1").mkdir(exist_ok=True)
        write_volume(Volume(np.array(data, np.float32), np.eye(4)), tmp_path / "p1" / name)
    coding = asked_coding(["1,4=tumour"])
    found = find_subjects(tmp_path, images=["flair.nii"], label="tumour.nii", coding=coding)
    assert (found.labels, found.coding) == ({0: "background", 1: "tumour"}, coding)
    assert read_case_label(found.cases[0]).data.tolist() == [[[0, 1, 1]]]


def test_nothing_is_said_of_labels_without_dataset_json(tmp_path):
    assert read_description(tmp_path / "labels") == Dataset(())


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
    a, b = (read_case_label(case).data[:2, 0, 0].tolist() for case in find_cases(tmp_path).cases)
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
    assert read_case_label(dataset.cases[0]).data[:3, 0, 0].tolist() == [IGNORED, 1, 0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "lesion": 1, "ignore": -1}, "the label 'ignore' has the value -1"),
        ({"0": "background", "1": "a", "2": "a"}, "two labels are called 'a'"),
        ({"background": 0, "": 1}, "a label has no name"),
    ],
)
def test_names_that_tell_no_labels_apart_are_refused(tmp_path, labels, said):
    describe(tmp_path, labels)
    with pytest.raises(InputError, match=rf"dataset\.json: labels: {said}"):
        read_description(tmp_path)


def test_series_are_chosen_by_name_and_number(scan):
    files = [scan(f"exam/{name}", number) for name, number in (("a", 2), ("b", 11), ("c", 5))]
    folder = files[0].parent
    assert names_of(find_images([folder], series=["5", "1.2.11"])) == [
        ("exam_series5", ["c"]),
        ("exam_series11", ["b"]),
    ]
    with pytest.raises(InputError, match=r"exam: holds no series 7; there are: 2, 5, 11"):
        find_images([folder], series=["7"])
    assert names_of(find_images([files[1]], series=["11"])) == [("b", ["b"])]


def test_a_folder_of_one_series_is_an_image_of_its_subject(scan, tmp_path):
    scan("set/p1/flair/IM0", 3)
    scan("set/p2/flair/IM0", 4)
    dataset = find_subjects(tmp_path / "set", images=["flair"])
    assert names_of(dataset.cases) == [("p1", ["IM0"]), ("p2", ["IM0"])]
    assert dataset.channels == ("flair",)
