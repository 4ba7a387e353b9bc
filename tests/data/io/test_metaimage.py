"""MetaImage files: what SimpleITK reads and writes, and what nobody can."""

import contextlib
import warnings
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segjax.data.io.metaimage import metaimage_grid, read_metaimage
from segjax.data.io.nifti import read_nifti
from segjax.errors import InputError

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SHORTS = np.arange(24, dtype="<i2")
RAW = SHORTS.tobytes()
PLACED = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "CompressedData = False\nTransformMatrix = 1 0 0 0.5 2 0 0 0 1\nOffset = 10 20 30\n"
    "ElementSpacing = 1 2 3\nDimSize = 2 3 4\nElementType = MET_SHORT\n"
)
SHEAR = [[-1, -1, 0, -10], [0, -4, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]  # of PLACED, in RAS


def write(path, header, content=RAW, *, data="LOCAL"):
    path.write_bytes(f"{header}ElementDataFile = {data}\n".encode() + content)
    return path


def shorts(*shape):
    """Return 0, 1, 2, … with the first axis the fastest."""
    return np.arange(np.prod(shape)).reshape(shape, order="F")


def lps(affine):
    return np.diag([-1, -1, 1, 1]) @ affine


def sitk_image(data, affine, *, vectors=False):
    image = sitk.GetImageFromArray(data.transpose(2, 1, 0, *([3] * vectors)), isVector=vectors)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((lps(affine)[:3, :3] / spacing).ravel())
    image.SetOrigin(lps(affine)[:3, 3])
    return image


def sitk_affine(image):
    """Return SimpleITK's affine in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return lps(affine)


def random_affine(seed):
    generator = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = Rotation.random(random_state=int(generator.integers(2**31))).as_matrix()
    affine[:3, :3] = turn * generator.uniform(0.3, 6, 3) * generator.choice([-1, 1], 3)
    affine[:3, 3] = generator.uniform(-300, 300, 3)
    return affine


# -- reading ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), dtype=st.sampled_from(DTYPES), channels=st.integers(1, 4),
    shape=st.tuples(*[st.integers(1, 6)] * 3), compressed=st.booleans(),
    suffix=st.sampled_from([".mha", ".mhd"]),
)  # fmt: skip
def test_what_simpleitk_writes_equals_its_nifti_twin(
    tmp_path_factory, seed, dtype, channels, shape, compressed, suffix
):
    folder = tmp_path_factory.mktemp("meta")
    shape = shape if channels == 1 else (*shape, channels)
    data = np.random.default_rng(seed).integers(0, 127, shape).astype(dtype)
    affine = random_affine(seed)
    image = sitk_image(data, affine, vectors=channels > 1)
    sitk.WriteImage(image, folder / f"a{suffix}", compressed)
    volume = read_metaimage(folder / f"a{suffix}")
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-5)
    place, count = metaimage_grid(folder / f"a{suffix}")
    assert (place.shape, count) == (volume.spatial_shape, volume.channels)
    if channels == 1:
        sitk.WriteImage(image, folder / "a.nii.gz")
        twin = read_nifti(folder / "a.nii.gz")
        np.testing.assert_array_equal(volume.data, twin.data)
        np.testing.assert_allclose(volume.affine, twin.affine, rtol=0, atol=1e-4)


def test_a_2d_file_becomes_one_slice_like_its_nifti_twin(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype="i2").reshape(2, 3))
    image.SetSpacing((2, 3))
    image.SetOrigin((5, 6))
    image.SetDirection((0.6, -0.8, 0.8, 0.6))
    for name in ("a.mha", "a.nii.gz"):
        sitk.WriteImage(image, tmp_path / name)
    volume, twin = read_metaimage(tmp_path / "a.mha"), read_nifti(tmp_path / "a.nii.gz")
    assert volume.data.shape == (3, 2, 1)
    np.testing.assert_array_equal(volume.data, twin.data)
    np.testing.assert_allclose(volume.affine, twin.affine, rtol=0, atol=1e-4)


def test_a_2d_file_of_vectors_becomes_one_slice_with_channels(tmp_path):
    data = np.random.default_rng(0).integers(0, 99, (5, 4, 3)).astype("u1")
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=True), tmp_path / "a.mha")
    volume = read_metaimage(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.data, data.transpose(1, 0, 2)[:, :, None])


def test_a_fourth_axis_holds_channels(tmp_path):
    data = np.random.default_rng(0).integers(0, 99, (5, 4, 3, 2)).astype("i2")
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=False), tmp_path / "a.mha")
    volume = read_metaimage(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.data, data.T)
    assert metaimage_grid(tmp_path / "a.mha")[1] == 5


def test_a_fourth_axis_of_one_voxel_is_dropped(tmp_path):
    header = PLACED.replace("NDims = 3", "NDims = 4").replace("2 3 4", "2 3 4 1")
    fields = ("TransformMatrix", "Offset", "ElementSpacing")
    kept = "".join(f"{line}\n" for line in header.splitlines() if not line.startswith(fields))
    volume = read_metaimage(write(tmp_path / "a.mha", kept))
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))


def test_a_sheared_affine_is_exact(tmp_path):
    path = write(tmp_path / "a.mha", PLACED)
    np.testing.assert_array_equal(read_metaimage(path).affine, SHEAR)
    np.testing.assert_allclose(sitk_affine(sitk.ReadImage(path)), SHEAR, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Offset", "Position"), ("Offset", "Origin"), ("TransformMatrix", "Rotation"),
        ("TransformMatrix", "Orientation"), ("ElementSpacing", "ElementSize"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 -2 3"), (" = ", "="), ("\n", "\r\n"),
        ("TransformMatrix = 1 0 0 0.5 2 0 0 0 1\n", ""), ("Offset = 10 20 30\n", ""),
        ("ElementSpacing = 1 2 3\n", ""), ("ObjectType = Image\n", ""),
        ("DimSize", "AnatomicalOrientation = RPI\nCenterOfRotation = 1 2 3\nDimSize"),
    ],
)  # fmt: skip
def test_headers_of_other_programs_are_read_as_by_simpleitk(tmp_path, old, new):
    path = write(tmp_path / "a.mha", PLACED.replace(old, new))
    volume, image = read_metaimage(path), sitk.ReadImage(path)
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, sitk_affine(image), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("MET_CHAR", "i1"), ("MET_UCHAR", "u1"), ("MET_SHORT", "i2"), ("MET_USHORT", "u2"),
        ("MET_INT", "i4"), ("MET_UINT", "u4"), ("MET_LONG", "i4"), ("MET_ULONG", "u4"),
        ("MET_LONG_LONG", "i8"), ("MET_ULONG_LONG", "u8"), ("MET_FLOAT", "f4"),
        ("MET_DOUBLE", "f8"), ("MET_USHORT_ARRAY", "u2"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("last_first", [False, True])
def test_types_and_byte_orders_are_those_of_simpleitk(tmp_path, name, dtype, last_first):
    header = PLACED.replace("MET_SHORT", name).replace("MSB = False", f"MSB = {last_first}")
    content = SHORTS.astype(np.dtype(dtype).newbyteorder(">" if last_first else "<")).tobytes()
    path = write(tmp_path / "a.mha", header, content)
    volume = read_metaimage(path)
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))
    array = sitk.GetArrayFromImage(sitk.ReadImage(path))
    np.testing.assert_array_equal(volume.data, array.reshape(4, 3, 2).T)


def test_text_is_read(tmp_path):
    header = PLACED.replace("BinaryData = True", "BinaryData = False")
    path = write(tmp_path / "a.mha", header, " ".join(map(str, SHORTS)).encode())
    np.testing.assert_array_equal(read_metaimage(path).data, shorts(2, 3, 4))


@pytest.mark.parametrize("names", ["LIST\ns1.raw\ns2.raw\ns3.raw\ns4.raw", "s%d.raw 1 4 1"])
def test_voxels_in_several_files_are_joined_as_by_simpleitk(tmp_path, names):
    for i in range(4):
        (tmp_path / f"s{i + 1}.raw").write_bytes(SHORTS[6 * i : 6 * i + 6].tobytes())
    path = write(tmp_path / "a.mhd", PLACED, b"", data=names)
    volume = read_metaimage(path)
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(sitk.ReadImage(path)).T)


def test_the_header_of_a_file_of_voxels_is_skipped_as_by_simpleitk(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"twelve bytes" + RAW)
    for size in (12, -1):
        header = PLACED.replace("DimSize", f"HeaderSize = {size}\nDimSize")
        path = write(tmp_path / "a.mhd", header, b"", data="a.raw")
        volume = read_metaimage(path)
        np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))
        np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(sitk.ReadImage(path)).T)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("cm", 10), ("mm", 1), ("?", 1)])
def test_units_of_length_become_mm(tmp_path, unit, factor):
    header = PLACED.replace("DimSize", f"DistanceUnits = {unit}\nDimSize")
    affine = read_metaimage(write(tmp_path / "a.mha", header)).affine
    np.testing.assert_allclose(affine[:3], np.array(SHEAR[:3]) * factor, rtol=1e-12)


def test_an_intensity_function_is_said(tmp_path):
    header = PLACED.replace("DimSize", "ElementToIntensityFunctionSlope = 2\nDimSize")
    path = write(tmp_path / "a.mha", header)
    with pytest.warns(UserWarning, match=r"a\.mha: states the intensities to be \[2\.0\] \* value"):
        volume = read_metaimage(path)
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))


def test_bytes_beyond_the_voxels_are_said(tmp_path):
    path = write(tmp_path / "a.mha", PLACED, RAW + b"0")
    with pytest.warns(UserWarning, match=r"a\.mha: holds more than the 48 bytes"):
        read_metaimage(path)


def test_the_grid_is_read_without_the_voxels(tmp_path):
    place, channels = metaimage_grid(write(tmp_path / "a.mhd", PLACED, b"", data="a.raw"))
    np.testing.assert_array_equal(place.affine, SHEAR)
    assert (place.shape, channels) == ((2, 3, 4), 1)


# -- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mha", "b.raw"])
def test_missing_files_are_named(tmp_path, name):
    write(tmp_path / "a.mhd", PLACED, b"", data="b.raw")
    path = tmp_path / ("a.mhd" if name == "b.raw" else name)
    with pytest.raises(InputError, match=rf"{name}: there is no such file"):
        read_metaimage(path)


@pytest.mark.parametrize(
    ("compressed", "content", "message"),
    [
        (False, RAW[:-1], "is truncated: 1 bytes of its 48 are missing"),
        (False, b"", "is truncated: 48 bytes"),
        (True, zlib.compress(RAW)[:-1], "is truncated"),
        (True, zlib.compress(RAW)[:9], "is truncated"),
        (True, zlib.compress(RAW[:-2]), "is truncated: 2 bytes"),
        (True, b"what is this", "is corrupt: .*incorrect header"),
        (True, zlib.compress(RAW)[:-4] + b"1234", "is corrupt: .*incorrect data"),
    ],
)
def test_truncated_and_corrupt_voxels_are_refused(tmp_path, compressed, content, message):
    header = PLACED.replace("CompressedData = False", f"CompressedData = {compressed}")
    path = write(tmp_path / "a.mha", header, content)
    with pytest.raises(InputError, match=rf"a\.mha: {message}"):
        read_metaimage(path)


def test_a_refusal_prints_nothing(tmp_path, capfd):
    with pytest.raises(InputError):
        read_metaimage(write(tmp_path / "a.mha", PLACED, b""))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DimSize = 2 3 4", "DimSize = 2 3", "its header is corrupt: DimSize = 2 3"),
        ("DimSize = 2 3 4", "DimSize = 2 3 x", "its header is corrupt: DimSize = 2 3 x"),
        ("DimSize = 2 3 4", "DimSize = 2 0 4", "its header is corrupt: DimSize"),
        ("DimSize = 2 3 4", "DimSize = 2 3 4.5", "its header is corrupt: DimSize"),
        ("DimSize = 2 3 4", "DimSize = 2000 30000 40000", "states 4,800,000,000,000 bytes; at mo"),
        ("DimSize = 2 3 4\n", "", "its header is corrupt: DimSize"),
        ("NDims = 3", "NDims = 3 3", "its header is corrupt: NDims"),
        ("MET_SHORT", "MET_STRING", "holds values of type MET_STRING"),
        ("= Image", "= Mesh", "holds a Mesh, no image"),
        ("NDims", "ElementNumberOfChannels = 0\nNDims", "corrupt: ElementNumberOfChannels = 0"),
        ("NDims", "HeaderSize = -2\nNDims", "its header states -2 bytes to skip"),
        ("NDims", "HeaderSize = 9e30\nNDims", r"its header states \d{31} bytes to skip"),
        ("0.5 2 0", "nan 2 0", "the affine holds values that are not finite"),
        ("0.5 2 0", "2 0 0", "the affine is not invertible"),
        ("0.5 2 0", "0.5 2", "its header is corrupt: TransformMatrix"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2", "corrupt: ElementSpacing = 1 2"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 0 3", "the affine is not invertible"),
        ("Offset = 10 20 30", "Offset = 10 20 z", "its header is corrupt: Offset = 10 20 z"),
    ],
)
def test_headers_without_sense_are_refused(tmp_path, old, new, message):
    assert old in PLACED
    path = write(tmp_path / "a.mha", PLACED.replace(old, new))
    for read in (read_metaimage, metaimage_grid):
        with pytest.raises(InputError, match=rf"a\.mha: .*{message}"):
            read(path)


def four(matrix, *, channels=1):
    return (
        f"NDims = 4\nBinaryData = True\nElementNumberOfChannels = {channels}\nDimSize = 2 2 3 2\n"
        f"TransformMatrix = {' '.join(map(str, np.ravel(matrix)))}\nElementType = MET_SHORT\n"
    )


def test_channels_and_a_fourth_axis_are_refused(tmp_path):
    path = write(tmp_path / "a.mha", four(np.eye(4), channels=2), RAW * 2)
    with pytest.raises(InputError, match=r"a\.mha: has shape \(2, 2, 3, 2\) and 2 values per vox"):
        read_metaimage(path)


def test_a_fourth_axis_that_moves_the_voxels_is_refused(tmp_path):
    matrix = np.eye(4)
    matrix[3, 0] = 1
    with pytest.raises(InputError, match=r"a\.mha: its fourth axis is no channel"):
        read_metaimage(write(tmp_path / "a.mha", four(matrix)))


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"NDims = 3", b"a = b\n" * 2**18])
def test_what_is_no_metaimage_is_refused(tmp_path, content):
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mha: is no MetaImage file, or its header is trunc"):
        read_metaimage(tmp_path / "a.mha")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.mha"
    header = PLACED.replace("CompressedData = False", "CompressedData = True")
    content = write(path, header, zlib.compress(RAW)).read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.binary(min_size=0, max_size=4))
    path.write_bytes(content[:at] + damage + content[at + len(damage) :])
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore", UserWarning)  # more bytes than stated
        assert read_metaimage(path).data.size > 0
