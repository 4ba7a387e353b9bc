"""Files by suffix, images and labels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from segjax.data.images import find_images
from segjax.data.io.formats import (
    check_same_grid,
    image_suffixes,
    mask_suffixes,
    read_grid,
    read_image,
    read_label,
    read_volume,
    segment_names,
    stem,
    suffix,
    write_volume,
)
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.registry import register, registry
from segjax.volume import Volume

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])


def save(path, data, affine=AFFINE):
    write_volume(Volume(np.asarray(data), affine), path)
    return path


def cube(value=0, dtype=np.float32):
    return np.full((3, 4, 5), value, dtype)


def test_suffixes():
    known = (".nii", ".nii.gz", ".png", ".npy", ".nrrd", ".nhdr", ".mha", ".mhd", ".seg.nrrd")
    assert known == image_suffixes()
    assert mask_suffixes() == (".nii", ".nii.gz", ".png", ".npy", ".nrrd", ".seg.nrrd")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "a.npy"])
def test_volumes_survive_each_format(tmp_path, name):
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = save(tmp_path / name, data)
    np.testing.assert_array_equal(read_volume(path).data, data)
    np.testing.assert_array_equal(read_volume(str(path)).data, data)


def test_slices_survive_png(tmp_path):
    path = save(tmp_path / "a.PNG", np.eye(4, dtype=np.uint8), np.eye(3))
    np.testing.assert_array_equal(read_volume(path).data, np.eye(4))


@pytest.mark.parametrize("name", ["a.img", "a.gz", "a", "a.nii.bz2"])
def test_other_suffixes_are_refused(tmp_path, name):
    message = rf"{name}: is of no known format; give one of \.nii, \.nii\.gz, \.png, \.npy"
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path / name)
    with pytest.raises(InputError, match=message):
        write_volume(Volume(cube(), AFFINE), tmp_path / name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("images/sub-01.5_flair.nii.gz", "sub-01.5_flair"),
        ("a.nii", "a"),
        ("a.NII.GZ", "a"),
        ("/x/y.png", "y"),
        ("run.json", "run"),
        ("a.nii.nii.gz", "a.nii"),
    ],
)
def test_stem(path, expected):
    assert stem(path) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_a_full_disk_leaves_nothing_in_any_format(tmp_path):
    program = f"""
import resource
import numpy as np
from segjax.data import write_volume
from segjax.errors import InputError
from segjax.volume import Volume
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
noise = np.random.default_rng(0).integers(0, 255, (64, 64, 64), dtype=np.uint8)
for name in ("a.nii", "a.nii.gz", "a.npy", "a.png"):
    slices = name.endswith("png")
    volume = Volume(noise.reshape(512, 512), np.eye(3)) if slices else Volume(noise, np.eye(4))
    try:
        write_volume(volume, {str(tmp_path)!r} + "/" + name)
    except InputError as error:
        print(error)
"""
    lines = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    reason = "cannot be written: File too large"
    names = ("a.nii", "a.nii.gz", "a.npy", "a.png")
    assert lines == [f"{tmp_path / name}: {reason}" for name in names]
    assert list(tmp_path.iterdir()) == []


# -- DICOM --------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    """Return a folder with a real slice twice, 5 mm apart, in files of odd names."""
    folder = tmp_path / "scan"
    folder.mkdir()
    one = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")
    one.save_as(folder / "IM0002")
    one.ImagePositionPatient = [*one.ImagePositionPatient[:2], one.ImagePositionPatient[2] + 5]
    one.save_as(folder / "x.dcm")
    return folder


def test_a_folder_or_a_file_of_dicom_is_a_series(scan):
    for path in (scan, scan / "IM0002", scan / "x.dcm"):
        volume = read_volume(path)
        assert volume.data.shape == (64, 64, 2)
        np.testing.assert_array_equal(volume.data[..., 0], volume.data[..., 1])
    assert read_image(scan).data.shape == (64, 64, 2, 1)
    assert read_image([scan, scan / "x.dcm"], channels=2).channels == 2


def test_masks_of_dicom_are_written_like_others(scan, tmp_path):
    volume = read_volume(scan)
    mask = volume.with_data(volume.data > 1000)
    write_volume(mask, tmp_path / "mask.nii.gz", like=scan / "IM0002")
    written = read_label(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(written.data, mask.data)
    check_same_grid(volume, written, ("scan", "mask"))


def test_what_is_no_dicom_is_named(tmp_path):
    (tmp_path / "a.dcm").write_text("no image")
    with pytest.raises(InputError, match=r"a\.dcm: is no DICOM file"):
        read_volume(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match=r"b\.dcm: there is no such file"):
        read_volume(tmp_path / "b.dcm")


# -- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_one_file_is_one_channel_of_float32(tmp_path, dtype):
    image = read_image(save(tmp_path / "a.nii.gz", cube(7, dtype)))
    assert (image.data.shape, image.data.dtype) == ((3, 4, 5, 1), np.float32)
    assert (image.data == 7).all()
    np.testing.assert_array_equal(image.affine, AFFINE)


def test_files_are_channels_in_order(tmp_path):
    paths = [save(tmp_path / f"{i}.nii.gz", cube(i, np.uint8)) for i in range(3)]
    image = read_image(paths, channels=3)
    np.testing.assert_array_equal(image.data[0, 0, 0], [0, 1, 2])


def test_files_with_channels_are_concatenated(tmp_path):
    two = save(tmp_path / "two.nii", np.stack([cube(1), cube(2)], -1))
    three = save(tmp_path / "three.nii", cube(3))
    np.testing.assert_array_equal(read_image([two, three]).data[0, 0, 0], [1, 2, 3])


def test_other_numbers_of_channels_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", cube())
    with pytest.raises(InputError, match=r"a\.nii: 1 channel, but 2 are expected"):
        read_image(path, channels=2)


def test_no_files_are_refused():
    with pytest.raises(InputError, match="no image file given"):
        read_image([])


def test_channels_of_other_shapes_are_refused(tmp_path):
    paths = [save(tmp_path / "a.nii", cube()), save(tmp_path / "b.nii", np.zeros((3, 4, 6)))]
    with pytest.raises(InputError, match=r"b\.nii: has shape \(3, 4, 6\), but .*a\.nii has \(3, 4"):
        read_image(paths)


def test_channels_that_lie_elsewhere_are_refused(tmp_path):
    moved = AFFINE.copy()
    moved[1, 3] = 2.5
    paths = [save(tmp_path / "a.nii", cube()), save(tmp_path / "b.nii", cube(), moved)]
    with pytest.raises(InputError, match=r"b\.nii: lies elsewhere than .*a\.nii: .* by up to 2\.5"):
        read_image(paths)


@pytest.mark.parametrize(("value", "count"), [(np.nan, 3), (np.inf, 1), (-np.inf, 60)])
def test_images_that_are_not_finite_are_refused(tmp_path, value, count):
    data = cube()
    data.reshape(-1)[:count] = value
    paths = [save(tmp_path / "a.nii", cube()), save(tmp_path / "b.nii", data)]
    with pytest.raises(InputError, match=rf"b\.nii: {count} of 60 voxels are NaN or infinite"):
        read_image(paths)


def test_values_beyond_float32_count_as_infinite(tmp_path):
    with pytest.raises(InputError, match="60 of 60 voxels"):
        read_image(save(tmp_path / "a.npy", cube(1e300, np.float64)))


# -- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (70000, np.int32)]
)
@pytest.mark.parametrize("stored", [np.int32, np.float64])
def test_labels_get_the_smallest_type(tmp_path, high, dtype, stored):
    data = cube(0, stored)
    data[1, 2, 3] = high
    label = read_label(save(tmp_path / "a.nii.gz", data))
    assert label.data.dtype == dtype
    np.testing.assert_array_equal(label.data, data)


def test_labels_of_one_fourth_voxel_lose_that_axis(tmp_path):
    assert read_label(save(tmp_path / "a.nii", cube()[..., None])).data.shape == (3, 4, 5)


def test_rounding_of_scaled_labels_is_forgiven(tmp_path):
    label = read_label(save(tmp_path / "a.npy", cube(1 + 1e-6)), classes=2)
    assert (label.data == 1).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 3, 4], r"labels 3, 4, but with 3 classes they go from 0 to 2"),
        ([255], r"labels 255, but"),
        (list(range(20)), r"labels 3, 4, 5, 6, 7, 8, 9, 10, …, but"),
        ([-1, 1, 2], r"labels that are no classes: -1"),
        ([0.5, 1.25], r"labels that are no integers: 0\.5, 1\.25"),
        ([np.nan], "labels that are NaN or infinite"),
        ([np.inf], "labels that are NaN or infinite"),
        ([1e30], "labels that are no integers: 1e\\+30"),
    ],
)
def test_labels_that_are_no_classes_are_named(tmp_path, values, message):
    data = cube(0, np.float64)
    data.reshape(-1)[: len(values)] = values
    with pytest.raises(InputError, match=rf"a\.npy: has {message}"):
        read_label(save(tmp_path / "a.npy", data), classes=3)


def test_labels_beyond_all_reason_are_refused(tmp_path):
    with pytest.raises(InputError, match="no classes"):
        read_label(save(tmp_path / "a.npy", cube(2**40, np.int64)))


def test_labels_with_channels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: has 3 channels"):
        read_label(save(tmp_path / "a.png", np.arange(60).reshape(4, 5, 3), np.eye(3)))


# -- grids --------------------------------------------------------------------------------------


def test_the_same_grid_passes_up_to_rounding():
    near = AFFINE + np.array([[5e-4] * 4] * 3 + [[0] * 4])
    check_same_grid(Volume(cube(), AFFINE), Volume(cube(), near), ("a", "b"))


def test_ranks_must_agree():
    with pytest.raises(InputError, match=r"b: has shape \(3, 4\), but a has \(3, 4, 5\)"):
        check_same_grid(Volume(cube(), AFFINE), Volume(np.zeros((3, 4)), np.eye(3)), ("a", "b"))


def test_pictures_are_labels_by_the_values_that_they_store(tmp_path):
    mask = (np.arange(64).reshape(8, 8) % 3 == 0).astype(np.uint8)
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "one_bit.png")
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("one_bit.png", "palette.png"):
        assert np.array_equal(read_label(tmp_path / name).data, mask)
    assert read_volume(tmp_path / "one_bit.png").data.max() == 255


def test_a_grey_picture_among_colours_has_three_equal_channels(tmp_path):
    write_volume(Volume(np.arange(12, dtype=np.uint8).reshape(3, 4), np.eye(3)), tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", channels=3)
    assert image.channels == 3
    assert (image.data == image.data[..., :1]).all()
    with pytest.raises(InputError, match="1 channel, but 2 are expected"):
        read_image(tmp_path / "a.png", channels=2)


def test_values_beyond_the_classes_say_how_they_can_be_mapped(tmp_path):
    write_volume(Volume(np.full((3, 4), 255, np.uint8), np.eye(3)), tmp_path / "mask.png")
    words = r'mask\.png: has labels 255, but with 2 classes .* \{"background": 0, "lesion": 255\}'
    with pytest.raises(InputError, match=words):
        read_label(tmp_path / "mask.png", classes=2)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy", "a.nrrd"])
def test_the_grid_of_a_file_is_that_of_its_volume(tmp_path, name):
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) if name != "a.npy" else np.eye(4)
    write_volume(Volume(np.zeros((4, 5, 6, 2), np.float32), affine), tmp_path / name)
    place, channels = read_grid(tmp_path / name)
    assert (place.shape, channels) == ((4, 5, 6), 2)
    assert np.allclose(place.affine, affine)


def test_segments_of_no_known_name_are_refused_and_some_are_left_out_with_a_word(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0], data[1] = 1, 2
    path = tmp_path / "a.seg.nrrd"
    write_volume(Volume(data, np.eye(4)), path, segments={1: "lesion", 2: "skull"})
    lesion = LabelCoding(names=("background", "lesion"))
    with pytest.warns(UserWarning, match=r"a\.seg\.nrrd: left out segment 'skull'"):
        assert read_label(path, coding=lesion).data[:2, 0, 0].tolist() == [1, 0]
    with pytest.raises(InputError, match="has segments 'lesion', 'skull', but none of 'tumour'"):
        read_label(path, coding=LabelCoding(names=("background", "tumour")))
    assert read_label(path).data[:2, 0, 0].tolist() == [1, 2]
    assert read_volume(path).data[1, 0, 0] == 2


def test_links_that_lead_nowhere_are_said_to_be_such(tmp_path):
    for name in ("a.nii.gz", "a"):
        (tmp_path / name).symlink_to(tmp_path / "annex" / "7")
        with pytest.raises(InputError, match=rf"{name}: is a link to .*annex/7, and there is no"):
            read_volume(tmp_path / name)


def test_names_in_either_form_of_unicode_are_one():
    assert stem("Zoe\u0308.nii.gz") == stem("Zo\u00eb.nii") == "Zo\u00eb"
    assert suffix("Zoe\u0308.NII.gz") == ".NII.gz"


def test_values_that_no_segment_has_are_refused_where_names_count(tmp_path):
    from segjax.data.io.nrrd import write_nrrd

    data = np.zeros((4, 4, 4), np.uint8)
    data[0], data[1] = 1, 2
    path = tmp_path / "a.seg.nrrd"
    write_nrrd(Volume(data, np.eye(4)), path, segments={1: "lesion", 2: "other"})
    content = path.read_bytes()
    fields = [line for line in content.split(b"\n") if line.startswith(b"Segment1_")]
    for line in fields:
        content = content.replace(line + b"\n", b"")
    path.write_bytes(content)
    assert segment_names(path) == ("lesion",)
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: has values that no segment has: 2;"):
        read_label(path, coding=LabelCoding(names=("background", "lesion")))
    assert read_label(path).data[:3, 0, 0].tolist() == [1, 2, 0]


def test_a_seg_nrrd_without_segments_is_read_as_any_label_map(tmp_path):
    data = np.zeros((4, 4, 4), np.uint8)
    data[0] = 255
    write_volume(Volume(data, np.eye(4)), tmp_path / "a.nrrd")
    path = (tmp_path / "a.nrrd").rename(tmp_path / "a.seg.nrrd")
    assert segment_names(path) is None
    coding = LabelCoding(values=(0, 255), names=("background", "lesion"))
    assert read_label(path, coding=coding).data[:2, 0, 0].tolist() == [1, 0]
    with pytest.raises(InputError, match="has labels 255, but the labels are 0, 7"):
        read_label(path, coding=LabelCoding(values=(0, 7), names=("background", "lesion")))
    write_volume(Volume(0 * data, np.eye(4)), path, overwrite=True)
    assert segment_names(path) == ()


def test_contrast_that_float32_cannot_hold_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", 1e8 + np.eye(4))
    with pytest.raises(InputError, match=r"a\.npy: its values, 100000000 to 100000001, are one"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", 1e6 + np.eye(4))
    assert len(np.unique(read_image(tmp_path / "b.npy").data)) == 2


@pytest.fixture
def xyz(monkeypatch):
    """A format of another package: the shape, and the voxels as bytes."""
    for kind in ("reader", "writer"):
        registry(kind).names()
        monkeypatch.setattr(registry(kind), "_things", {**registry(kind)._things})

    @register("reader", ".xyz")
    def read(path):
        head, voxels = path.read_bytes().split(b"\n", 1)
        shape = tuple(map(int, head.split()))
        return Volume(np.frombuffer(voxels, np.uint8).reshape(shape), np.diag([2.0, 2, 2, 1]))

    @register("writer", ".xyz")
    def write(volume, path, *, overwrite):
        head = " ".join(map(str, volume.data.shape)).encode()
        with path.open("wb" if overwrite else "xb") as file:
            file.write(head + b"\n" + volume.data.astype(np.uint8).tobytes())


def test_a_reader_that_returns_no_volume_is_named(xyz, tmp_path):
    register("reader", ".raw-example", lambda path: np.ones((2, 3, 4)))
    with pytest.raises(InputError, match=r"a\.raw-example: what its reader returns must be"):
        read_volume(tmp_path / "a.raw-example")


def test_a_format_of_another_package_is_read_and_written_by_its_suffix(xyz, tmp_path):
    path = tmp_path / "sub-1.XYZ"
    write_volume(Volume(np.arange(24).reshape(2, 3, 4), np.eye(4)), path)
    assert (stem(path), suffix(path)) == ("sub-1", ".XYZ")
    place, channels = read_grid(str(path))
    assert (place.shape, place.spacing, channels) == ((2, 3, 4), (2, 2, 2), 1)
    np.testing.assert_array_equal(read_image(path).data[..., 0], np.arange(24).reshape(2, 3, 4))
    assert read_label(path).data.max() == 23
    (case,) = find_images([tmp_path])
    assert (case.name, case.images) == ("sub-1", (path,))
