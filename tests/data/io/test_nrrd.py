"""NRRD files and 3D Slicer's segmentations: what SimpleITK reads and writes, and nobody can."""

import bz2
import contextlib
import gzip
import warnings
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segjax.data.io.nifti import read_nifti
from segjax.data.io.nrrd import nrrd_grid, read_nrrd, read_segmentation_nrrd, write_nrrd
from segjax.errors import InputError
from segjax.grid import Grid, grid, reorient
from segjax.volume import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix() * [0.5, 1, 3]
OBLIQUE[:3, 3] = [-80, 12.5, 33]
SHEARED = OBLIQUE.copy()
SHEARED[:3, 2] += 0.4 * SHEARED[:3, 1]
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SHORTS = np.arange(24, dtype="<i2")
RAW = SHORTS.tobytes()
PLAIN = "type: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n"
PLACED = PLAIN + (
    "space: left-posterior-superior\nspace directions: (1,0,0) (0.5,2,0) (0,0,3)\n"
    "space origin: (10,20,30)\n"
)
SHEAR = [[-1, -0.5, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]  # of PLACED, in RAS
FOUR = (
    "type: short\ndimension: 4\nsizes: 2 2 3 2\nendian: little\nencoding: raw\n"
    "space: left-posterior-superior\nspace origin: (10,20,30)\n"
)


def write(path, header, content=RAW):
    path.write_bytes(f"NRRD0004\n{header}\n".encode() + content)
    return path


def shorts(*shape):
    """Return 0, 1, 2, … with the first axis the fastest."""
    return np.arange(np.prod(shape)).reshape(shape, order="F")


def sitk_values(image):
    """Return SimpleITK's values in the axis order of a volume."""
    array = sitk.GetArrayFromImage(image)
    vectors = image.GetNumberOfComponentsPerPixel() > 1
    return array.transpose(2, 1, 0, 3) if vectors else array.T


def sitk_affine(image):
    """Return SimpleITK's affine in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def sitk_image(data, affine=OBLIQUE, *, vectors=False):
    image = sitk.GetImageFromArray(data.transpose(2, 1, 0, *([3] * vectors)), isVector=vectors)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((lps[:3, :3] / spacing).ravel())
    image.SetOrigin(lps[:3, 3])
    return image


def random_affine(seed):
    generator = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = Rotation.random(random_state=int(generator.integers(2**31))).as_matrix()
    affine[:3, :3] = turn * generator.uniform(0.3, 6, 3) * generator.choice([-1, 1], 3)
    affine[:3, 3] = generator.uniform(-300, 300, 3)
    return affine


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_simpleitk_writes_equals_its_nifti_twin(tmp_path, dtype, suffix, compressed):
    data = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)
    sitk.WriteImage(sitk_image(data), tmp_path / f"a{suffix}", compressed)
    sitk.WriteImage(sitk_image(data), tmp_path / "a.nii.gz")
    volume, twin = read_nrrd(tmp_path / f"a{suffix}"), read_nifti(tmp_path / "a.nii.gz")
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_array_equal(volume.data, twin.data)
    np.testing.assert_allclose(volume.affine, twin.affine, rtol=0, atol=1e-4)
    np.testing.assert_allclose(volume.affine, OBLIQUE, rtol=0, atol=1e-12)


def test_vectors_become_channels(tmp_path):
    data = np.random.default_rng(1).normal(size=(4, 5, 6, 3)).astype("f4")
    sitk.WriteImage(sitk_image(data, vectors=True), tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read_nrrd(tmp_path / "a.nrrd").data, data)


def test_a_2d_file_becomes_one_slice_like_its_nifti_twin(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype="i2").reshape(2, 3))
    image.SetSpacing((2, 3))
    image.SetOrigin((5, 6))
    image.SetDirection((0.6, -0.8, 0.8, 0.6))
    for name in ("a.nrrd", "a.nii.gz"):
        sitk.WriteImage(image, tmp_path / name)
    volume, twin = read_nrrd(tmp_path / "a.nrrd"), read_nifti(tmp_path / "a.nii.gz")
    assert volume.data.shape == (3, 2, 1)
    np.testing.assert_array_equal(volume.data, twin.data)
    np.testing.assert_allclose(volume.affine, twin.affine, rtol=0, atol=1e-4)


def test_a_slice_in_space_lies_along_its_normal(tmp_path):
    header = "type: short\ndimension: 2\nsizes: 4 6\nendian: little\nencoding: raw\nspace: RAS\n"
    path = write(tmp_path / "a.nrrd", header + "space directions: (0,2,0) (0,0,3)\n")
    volume = read_nrrd(path)
    np.testing.assert_array_equal(volume.data[..., 0], shorts(4, 6))
    expected = [[0, 0, 1, 0], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)


def test_a_sheared_affine_is_exact(tmp_path):
    volume = read_nrrd(write(tmp_path / "a.nrrd", PLACED))
    np.testing.assert_array_equal(volume.affine, SHEAR)
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))


@pytest.mark.parametrize(
    ("space", "factors"),
    [
        ("right-anterior-superior", (1, 1, 1)), ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)), ("LAS", (-1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)), ("LPS", (-1, -1, 1)),
        ("scanner-xyz", (-1, -1, 1)),
    ],
)  # fmt: skip
def test_each_space_is_turned_into_ras_as_by_simpleitk(tmp_path, space, factors):
    path = write(tmp_path / "a.nrrd", PLACED.replace("left-posterior-superior", space))
    affine = read_nrrd(path).affine
    np.testing.assert_array_equal(affine[:3, 3], np.array([10, 20, 30]) * factors)
    np.testing.assert_allclose(affine, sitk_affine(sitk.ReadImage(path)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        "", "spacings: 1 2 3\n", "spacings: 1 -2 3\n", "space dimension: 3\n",
        "spacings: 2 2 2\naxis mins: 1 2 3\n",
        "spacings: 2 2 2\naxismins: 1 2 3\ncenterings: node node node\n",
        "spacings: 2 2 2\naxis mins: 1 2 3\ncenters: cell cell cell\n",
    ],
)  # fmt: skip
def test_places_without_directions_are_those_of_simpleitk(tmp_path, fields):
    path = write(tmp_path / "a.nrrd", PLAIN + fields)
    expected = sitk_affine(sitk.ReadImage(path))
    np.testing.assert_allclose(read_nrrd(path).affine, expected, rtol=0, atol=1e-12)


def test_bounds_give_the_spacing(tmp_path):
    bounds = "axis mins: 0 0 0\naxis maxs: 4 6 9\n"
    cells = read_nrrd(write(tmp_path / "a.nrrd", PLAIN + bounds))
    nodes = read_nrrd(write(tmp_path / "b.nrrd", PLAIN + bounds + "centers: node node node\n"))
    assert cells.spacing == (4 / 2, 6 / 3, 9 / 4)
    assert nodes.spacing == (4 / 1, 6 / 2, 9 / 3)


def test_spacings_and_an_origin_place_an_image_in_a_space(tmp_path):
    fields = "space: RAS\nspacings: 1 2 3\nspace origin: (10,20,30)\n"
    affine = read_nrrd(write(tmp_path / "a.nrrd", PLAIN + fields)).affine
    np.testing.assert_array_equal(affine[:3], [[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30]])


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("cm", 10), ("m", 1e3), ("mm", 1)])
def test_units_of_length_become_mm(tmp_path, unit, factor):
    units = f'space units: "{unit}" "{unit}" "{unit}"\n'
    affine = read_nrrd(write(tmp_path / "a.nrrd", PLACED + units)).affine
    np.testing.assert_allclose(affine[:3], np.array(SHEAR[:3]) * factor, rtol=1e-12)
    spaced = f'spacings: 1 2 3\nunits: "{unit}" "{unit}" "{unit}"\n'
    spacing = read_nrrd(write(tmp_path / "b.nrrd", PLAIN + spaced)).spacing
    np.testing.assert_allclose(spacing, np.array([1, 2, 3]) * factor, rtol=1e-12)


def test_an_unknown_unit_is_said(tmp_path):
    path = write(tmp_path / "a.nrrd", PLACED + 'space units: "px" "px" "px"\n')
    with pytest.warns(UserWarning, match=r"a\.nrrd: its unit of length 'px' is unknown"):
        read_nrrd(path)


@pytest.mark.parametrize(
    ("fields", "channel"),
    [
        ("kinds: list domain domain domain\nspace directions: none (1,0,0) (0,2,0) (0,0,3)\n", 0),
        ("kinds: domain domain domain list\nspace directions: (1,0,0) (0,2,0) (0,0,3) none\n", 3),
        ("space directions: (1,0,0) none (0,2,0) (0,0,3)\n", 1),
        ("kinds: vector space space space\n", 0),
        ("kinds: space space space time\nspacings: 1 2 3 4\n", 3),
        ("spacings: 1 2 nan 3\n", 2),
        ("", 3),
    ],
)
def test_the_axis_outside_space_holds_the_channels(tmp_path, fields, channel):
    path = write(tmp_path / "a.nrrd", FOUR + fields)
    expected = np.moveaxis(shorts(2, 2, 3, 2), channel, -1)
    np.testing.assert_array_equal(read_nrrd(path).data, expected)
    assert nrrd_grid(path)[1] == expected.shape[-1]


def test_an_axis_of_one_channel_is_dropped(tmp_path):
    header = FOUR.replace("2 2 3 2", "1 2 3 4") + "kinds: list domain domain domain\n"
    assert read_nrrd(write(tmp_path / "a.nrrd", header)).data.shape == (2, 3, 4)


@pytest.mark.parametrize("name", ["raw", "gzip", "gz", "bzip2", "ascii", "txt", "hex"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("detached", [False, True])
def test_every_encoding_gives_the_same_voxels(tmp_path, name, endian, detached):
    raw = SHORTS.astype("<i2" if endian == "little" else ">i2").tobytes()
    content = {
        "raw": raw, "gzip": gzip.compress(raw), "gz": gzip.compress(raw),
        "bzip2": bz2.compress(raw),
        "ascii": " ".join(map(str, SHORTS)).encode(), "txt": ",\n".join(map(str, SHORTS)).encode(),
        "hex": raw.hex().encode(),
    }[name]  # fmt: skip
    header = PLACED.replace("raw", name).replace("little", endian)
    if detached:
        (tmp_path / "voxels of a").write_bytes(content)
        header, content = header + "data file: voxels of a\n", b""
    volume = read_nrrd(write(tmp_path / "a.nhdr", header, content))
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))


def test_a_gzip_file_of_two_members_is_read(tmp_path):
    content = gzip.compress(SHORTS[:5].tobytes()) + gzip.compress(SHORTS[5:].tobytes())
    path = write(tmp_path / "a.nrrd", PLACED.replace("raw", "gzip"), content)
    np.testing.assert_array_equal(read_nrrd(path).data, shorts(2, 3, 4))


@pytest.mark.parametrize(
    "names", ["LIST\ns 1.raw\ns 2.raw\ns 3.raw\ns 4.raw", "s %d.raw 1 4 1", "s %d.raw 1 4 1 2"]
)
def test_voxels_in_several_files_are_joined(tmp_path, names):
    for i in range(4):
        (tmp_path / f"s {i + 1}.raw").write_bytes(SHORTS[6 * i : 6 * i + 6].tobytes())
    path = write(tmp_path / "a.nhdr", f"{PLACED}data file: {names}", b"")
    np.testing.assert_array_equal(read_nrrd(path).data, shorts(2, 3, 4))


def test_numbered_files_may_count_down_and_be_padded(tmp_path):
    for i in range(4):
        (tmp_path / f"s{{}}{i:03d}.raw").write_bytes(SHORTS[6 * i : 6 * i + 6].tobytes())
    path = write(tmp_path / "a.nhdr", PLACED + "data file: s{}%03d.raw 3 0 -1\n", b"")
    np.testing.assert_array_equal(read_nrrd(path).data, shorts(2, 3, 4)[:, :, ::-1])


@pytest.mark.parametrize(
    ("skip", "encoding", "content"),
    [
        ("line skip: 2\nbyte skip: 3", "raw", b"one\ntwo\nabc" + RAW),
        ("byteskip: -1", "raw", b"anything" + RAW),
        ("byte skip: 4", "gzip", gzip.compress(b"abcd" + RAW, mtime=0)),
        ("lineskip: 9\nbyte skip: -1", "raw", RAW),
    ],
)
def test_lines_and_bytes_are_skipped(tmp_path, skip, encoding, content):
    (tmp_path / "a.raw").write_bytes(content)
    header = f"{PLACED.replace('raw', encoding)}{skip}\ndata file: a.raw\n"
    volume = read_nrrd(write(tmp_path / "a.nhdr", header, b""))
    np.testing.assert_array_equal(volume.data, shorts(2, 3, 4))


def test_carriage_returns_and_comments_are_no_part_of_the_header(tmp_path):
    header = "# made: by hand\n" + PLACED.replace("sizes", "Sizes")
    path = write(tmp_path / "a.nrrd", header)
    path.write_bytes(f"NRRD0004\n{header}\n".replace("\n", "\r\n").encode() + RAW)
    np.testing.assert_array_equal(read_nrrd(path).data, shorts(2, 3, 4))


def test_data_can_be_written_to(tmp_path):
    volume = read_nrrd(write(tmp_path / "a.nrrd", PLACED))
    volume.data[0, 0, 0] = 7
    assert volume.data[0, 0, 0] == 7


def test_bytes_beyond_the_voxels_are_said(tmp_path):
    path = write(tmp_path / "a.nrrd", PLACED, RAW + b"0")
    with pytest.warns(UserWarning, match=r"a\.nrrd: holds more than the 48 bytes"):
        read_nrrd(path)
    for more in (gzip.compress(RAW + b"0"), gzip.compress(RAW) + b"0"):
        write(path, PLACED.replace("raw", "gzip"), more)
        with pytest.warns(UserWarning, match=r"a\.nrrd: holds more than the 48 bytes"):
            np.testing.assert_array_equal(read_nrrd(path).data, shorts(2, 3, 4))


def test_the_grid_is_read_without_the_voxels(tmp_path):
    place, channels = nrrd_grid(write(tmp_path / "a.nrrd", PLACED, b""))
    np.testing.assert_array_equal(place.affine, SHEAR)
    assert (place.shape, channels) == ((2, 3, 4), 1)


# -- what cannot be read ------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.nrrd: there is no such file"):
        read_nrrd(tmp_path / "a.nrrd")


def test_a_missing_file_of_voxels_is_named(tmp_path):
    path = write(tmp_path / "a.nhdr", PLACED + "data file: b.raw\n", b"")
    with pytest.raises(InputError, match=r"b\.raw: there is no such file"):
        read_nrrd(path)


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        ("raw", RAW[:-1], "is truncated: 1 bytes of its 48 are missing"),
        ("raw", b"", "is truncated: 48 bytes"),
        ("gzip", gzip.compress(RAW, mtime=0)[:-1], "is truncated"),
        ("gzip", gzip.compress(RAW, mtime=0)[:20], "is truncated"),
        ("gzip", gzip.compress(RAW[:-2], mtime=0), "is truncated: 2 bytes"),
        (
            "gzip",
            gzip.compress(RAW, mtime=0)[:-8] + b"12345678",
            "is corrupt: .*incorrect data",
        ),
        ("gzip", b"what is this", "is corrupt: .*incorrect header"),
        ("bzip2", bz2.compress(RAW)[:-3], "is truncated"),
        ("bzip2", b"what is this", "cannot be read: Invalid data stream"),
        ("ascii", b"1 2 3", "is truncated: 42 bytes"),
        ("ascii", b"1 2 three", "is corrupt: .*three"),
        ("ascii", b"1 2 \xff", "is corrupt: "),
        ("hex", b"0102zz", "is corrupt: "),
    ],
)
def test_truncated_and_corrupt_voxels_are_refused(tmp_path, encoding, content, message):
    path = write(tmp_path / "a.nrrd", PLACED.replace("raw", encoding), content)
    with pytest.raises(InputError, match=rf"a\.nrrd: {message}"):
        read_nrrd(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes: 2 3 4", "sizes: 2 3", "its header is corrupt: sizes is '2 3'"),
        ("sizes: 2 3 4", "sizes: 2 3 x", "its header is corrupt: sizes"),
        ("sizes: 2 3 4", "sizes: 2 0 4", "its header is corrupt: sizes"),
        ("sizes: 2 3 4", "sizes: 2000 30000 40000", "states 4,800,000,000,000 bytes; at most"),
        ("sizes: 2 3 4\n", "", "its header is corrupt: sizes is missing"),
        ("dimension: 3", "dimension: three", "its header is corrupt: dimension is 'three'"),
        ("type: short", "type: block", "holds values of type 'block'"),
        ("endian: little\n", "", "its header is corrupt: endian is missing"),
        ("encoding: raw\n", "", "is encoded as ''"),
        ("encoding: raw", "encoding: zrl", "is encoded as 'zrl'"),
        ("(0.5,2,0)", "(0.5,nan,0)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(nan,nan,nan)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(0.5,inf,0)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(0.5,b,0)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(0.5,2)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(0.5,2,0) (1,1,1)", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "0.5,2,0", "its header is corrupt: spacedirections"),
        ("(0.5,2,0)", "(2,0,0)", "the affine is not invertible"),
        ("(0.5,2,0) (0,0,3)", "none none", "has 1 axes in space"),
        ("(10,20,30)", "(10,20)", "its header is corrupt: spaceorigin"),
        ("(10,20,30)", "none", "its header is corrupt: spaceorigin"),
        ("left-posterior-superior", "left-posterior-superior-time", "its header is corrupt: space"),
        ("encoding: raw", 'encoding: raw\nspace units: "mm"', "its header is corrupt: spaceunits"),
        ("encoding: raw", "encoding: raw\nbyte skip: -2", "its header states -2 bytes to skip"),
        ("encoding: raw", f"encoding: raw\nbyte skip: {10**30}", "header states 10+ bytes to"),
        ("encoding: raw", "encoding: gzip\nbyte skip: -1", "its header states -1 bytes to skip"),
        ("encoding: raw", "encoding: raw\ndata file: a%d 1 5 0", "it names the files 'a%d 1 5 0'"),
        ("encoding: raw", "encoding: raw\ndata file: a%d 1 5 1", "names 5 files, which cannot"),
    ],
)  # fmt: skip
def test_headers_without_sense_are_refused(tmp_path, old, new, message):
    assert old in PLACED
    path = write(tmp_path / "a.nrrd", PLACED.replace(old, new))
    with pytest.raises(InputError, match=rf"a\.nrrd: .*{message}"):
        read_nrrd(path)
    if "file" not in new:
        with pytest.raises(InputError):
            nrrd_grid(path)


@pytest.mark.parametrize("spacings", ["nan 2 3", "1 0 3", "1 2", "1 2 x"])
def test_spacings_without_sense_are_refused(tmp_path, spacings):
    with pytest.raises(InputError, match=r"a\.nrrd: "):
        read_nrrd(write(tmp_path / "a.nrrd", f"{PLAIN}spacings: {spacings}\n"))


@pytest.mark.parametrize(
    ("kind", "what"),
    [("RGB-color", "colours"), ("RGBA-color", "colours"), ("complex", "complex numbers")],
)
def test_colours_and_complex_numbers_are_refused(tmp_path, kind, what):
    path = write(tmp_path / "a.nrrd", f"{FOUR}kinds: {kind} domain domain domain\n")
    with pytest.raises(InputError, match=rf"a\.nrrd: holds {what}"):
        read_nrrd(path)


def test_two_axes_outside_space_are_refused(tmp_path):
    path = write(tmp_path / "a.nrrd", FOUR + "kinds: list domain domain list\n")
    with pytest.raises(InputError, match=r"has sizes \(2, 2, 3, 2\); give at most three axes"):
        read_nrrd(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"NRRD0004", b"NRRD0004\nsizes"])
def test_what_is_no_nrrd_is_refused(tmp_path, content):
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.nrrd: (is no NRRD file|its header is corrupt)"):
        read_nrrd(tmp_path / "a.nrrd")


def test_a_header_without_end_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n" + b"x" * 2**24 + b"\nx")
    with pytest.raises(InputError, match=r"a\.nrrd: is no NRRD file: its header does not end"):
        read_nrrd(tmp_path / "a.nrrd")


def test_a_list_of_no_files_is_refused(tmp_path):
    path = write(tmp_path / "a.nhdr", f"{PLACED}data file: LIST", b"")
    with pytest.raises(InputError, match=r"a\.nhdr: names 0 files"):
        read_nrrd(path)


# -- writing ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), dtype=st.sampled_from([*DTYPES, ">i2", ">f8"]),
    channels=st.sampled_from([None, 1, 2, 5]), shape=st.tuples(*[st.integers(1, 6)] * 3),
)  # fmt: skip
def test_a_written_volume_comes_back_and_opens_in_simpleitk(
    tmp_path_factory, seed, dtype, channels, shape
):
    path = tmp_path_factory.mktemp("nrrd") / "a.nrrd"
    shape = shape if channels is None else (*shape, channels)
    data = np.random.default_rng(seed).integers(0, 127, shape).astype(dtype)
    affine = random_affine(seed)
    write_nrrd(Volume(data, affine), path)
    volume, image = read_nrrd(path), sitk.ReadImage(path)
    assert volume.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.data, data[..., 0] if channels == 1 else data)
    np.testing.assert_array_equal(volume.affine, affine)
    assert image.GetSize() == shape[:3]
    np.testing.assert_array_equal(sitk_values(image).reshape(shape), data)
    np.testing.assert_allclose(sitk_affine(image), affine, rtol=0, atol=1e-5)
    place, count = nrrd_grid(path)
    assert (place.shape, count) == (volume.spatial_shape, volume.channels)


def test_a_sheared_affine_comes_back_exactly(tmp_path):
    write_nrrd(Volume(np.zeros((2, 3, 4)), SHEARED), tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read_nrrd(tmp_path / "a.nrrd").affine, SHEARED)


@pytest.mark.parametrize(("dtype", "written"), [("?", "u1"), ("f2", "f4")])
def test_types_that_nrrd_has_not_widen(tmp_path, dtype, written):
    data = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(dtype)
    write_nrrd(Volume(data, OBLIQUE), tmp_path / "a.nrrd")
    volume = read_nrrd(tmp_path / "a.nrrd")
    assert volume.data.dtype == np.dtype(written)
    np.testing.assert_array_equal(volume.data, data)


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    volume = Volume(np.random.default_rng(0).normal(size=(4, 5, 6)), OBLIQUE)
    for name in ("a.nrrd", "b.nrrd"):
        write_nrrd(volume, tmp_path / name)
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()


def test_a_file_is_replaced_only_when_asked(tmp_path):
    volume = Volume(np.zeros((2, 3, 4)), OBLIQUE)
    write_nrrd(volume, tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="exists already"):
        write_nrrd(volume, tmp_path / "a.nrrd")
    write_nrrd(volume.with_data(volume.data + 1), tmp_path / "a.nrrd", overwrite=True)
    assert read_nrrd(tmp_path / "a.nrrd").data.all()


@pytest.mark.parametrize(
    ("volume", "name", "message"),
    [
        (Volume(np.zeros((2, 3)), np.eye(3)), "a.nrrd", "takes volumes of three axes"),
        (Volume(np.zeros((2, 3, 4)), np.eye(4)), "a.nhdr", "name ends in .nrrd"),
        (Volume(np.zeros((2, 3, 4), complex), np.eye(4)), "a.nrrd", "of type complex128 cannot"),
    ],
)
def test_what_nrrd_cannot_hold_is_refused(tmp_path, volume, name, message):
    with pytest.raises(InputError, match=message):
        write_nrrd(volume, tmp_path / name)
    assert not list(tmp_path.iterdir())


# -- segmentations ------------------------------------------------------------------------------


def segmented(path, layers, segments, *, affine=OBLIQUE, more=""):
    """Write a segmentation as 3D Slicer does: layers first, one key per property."""
    layers = [np.asarray(layer, np.uint8) for layer in layers]
    data = layers[0] if len(layers) == 1 else np.stack(layers)
    lps = (np.diag([-1, -1, 1, 1]) @ affine)[:3].T.tolist()
    vectors = [f"({','.join(map(repr, column))})" for column in lps]
    several = len(layers) > 1
    lines = [
        "type: unsigned char", f"dimension: {data.ndim}", "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, data.shape))}",
        f"space directions: {'none ' * several}{' '.join(vectors[:3])}",
        f"kinds: {'list ' * several}domain domain domain", "encoding: gzip",
        f"space origin: {vectors[3]}",
        *(f"Segment{i}_{k}:={v}" for i, s in enumerate(segments) for k, v in s.items()),
    ]  # fmt: skip
    write(path, "\n".join(lines) + f"\n{more}", gzip.compress(data.tobytes(order="F")))
    return path


def box(shape, start, stop, value=1):
    data = np.zeros(shape, np.uint8)
    data[tuple(slice(*ends) for ends in zip(start, stop, strict=True))] = value
    return data


SHAPE = (6, 7, 8)
TWO = box(SHAPE, (1, 1, 1), (3, 3, 3), 1) + box(SHAPE, (4, 4, 4), (6, 7, 8), 5)
NAMES = {1: "Läsion: T2 \\ (alt)", 5: "zwei\nZeilen "}


def test_a_label_map_keeps_its_values_and_names(tmp_path):
    write_nrrd(Volume(TWO, SHEARED), tmp_path / "a.seg.nrrd", segments=NAMES)
    volume, names = read_segmentation_nrrd(tmp_path / "a.seg.nrrd")
    assert names == NAMES
    np.testing.assert_array_equal(volume.data, TWO)
    np.testing.assert_array_equal(volume.affine, SHEARED)


def test_the_fields_are_those_of_3d_slicer(tmp_path):
    write_nrrd(Volume(TWO, OBLIQUE), tmp_path / "a.seg.nrrd", segments=NAMES | {9: "leer"})
    image = sitk.ReadImage(tmp_path / "a.seg.nrrd")
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert keys["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert [keys[f"Segment{i}_Name"] for i in range(3)] == [*NAMES.values(), "leer"]
    assert [keys[f"Segment{i}_LabelValue"] for i in range(3)] == ["1", "5", "9"]
    assert {keys[f"Segment{i}_Layer"] for i in range(3)} == {"0"}
    assert {keys[f"Segment{i}_Extent"] for i in range(3)} == {"0 5 0 6 0 7"}  # of the layer
    assert len({keys[f"Segment{i}_ID"] for i in range(3)}) == 3
    colours = np.array([keys[f"Segment{i}_Color"].split() for i in range(3)], float)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert len(np.unique(colours, axis=0)) == 3
    np.testing.assert_array_equal(sitk_values(image), TWO)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1], "u1"), ([255], "u1"), ([300], "i2"), ([40000], "u2"), ([70000], "i4"), ([-2, 3], "i2")],
)
def test_segments_are_written_in_the_smallest_type(tmp_path, values, dtype):
    data = np.zeros(SHAPE, np.int64)
    data[0, 0, : len(values)] = values
    names = {value: f"segment {value}" for value in values}
    write_nrrd(Volume(data, OBLIQUE), tmp_path / "a.seg.nrrd", segments=names)
    volume, found = read_segmentation_nrrd(tmp_path / "a.seg.nrrd")
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, data)
    assert found == names


def test_a_bool_mask_is_a_segment(tmp_path):
    write_nrrd(Volume(TWO > 0, OBLIQUE), tmp_path / "a.seg.nrrd", segments={1: "lesion"})
    np.testing.assert_array_equal(read_segmentation_nrrd(tmp_path / "a.seg.nrrd")[0].data, TWO > 0)


@pytest.mark.parametrize("segments", [None, {}, {5: "b"}])
def test_values_without_a_name_are_segments_too(tmp_path, segments):
    write_nrrd(Volume(TWO, OBLIQUE), tmp_path / "a.seg.nrrd", segments=segments)
    volume, names = read_segmentation_nrrd(tmp_path / "a.seg.nrrd")
    assert names == {1: "Segment_1", 5: "Segment_5"} | (segments or {})
    np.testing.assert_array_equal(volume.data, TWO)


@pytest.mark.parametrize(
    ("data", "segments", "message"),
    [
        (TWO, {0: "background", **NAMES}, "0 is the background's value"),
        (TWO.astype(float), NAMES, "segments need a label map, not float64"),
        (TWO[..., None], NAMES, "segments need a label map"),
        (TWO, {**NAMES, 2**33: "far"}, "reach beyond 32 bits"),
    ],
)
def test_label_maps_that_segments_do_not_describe_are_refused(tmp_path, data, segments, message):
    with pytest.raises(InputError, match=rf"a\.seg\.nrrd: .*{message}"):
        write_nrrd(Volume(data, OBLIQUE), tmp_path / "a.seg.nrrd", segments=segments)


def test_layers_with_values_of_their_own_keep_them(tmp_path):
    layers = [box(SHAPE, (0, 0, 0), (2, 2, 2), 3), box(SHAPE, (3, 3, 3), (5, 5, 5), 200)]
    segments = [{"Name": "a", "LabelValue": 3, "Layer": 0}, {"Name": "b", "LabelValue": 200,
                                                             "Layer": 1}]  # fmt: skip
    volume, names = read_segmentation_nrrd(segmented(tmp_path / "a.seg.nrrd", layers, segments))
    assert names == {3: "a", 200: "b"}
    np.testing.assert_array_equal(volume.data, layers[0] + layers[1])


@pytest.mark.parametrize("explicit", [True, False])
def test_layers_that_share_a_value_are_numbered(tmp_path, explicit):
    layers = [box(SHAPE, (0, 0, 0), (2, 2, 2)), box(SHAPE, (3, 3, 3), (5, 5, 5))]
    segments = [{"ID": f"S{i}", "Name": name} for i, name in enumerate("ab")]
    for i, segment in enumerate(segments if explicit else []):
        segment |= {"LabelValue": 1, "Layer": i}
    volume, names = read_segmentation_nrrd(segmented(tmp_path / "a.seg.nrrd", layers, segments))
    assert names == {1: "a", 2: "b"}
    np.testing.assert_array_equal(volume.data, layers[0] + 2 * layers[1])


def test_overlapping_segments_are_named_with_their_voxels(tmp_path):
    layers = [box(SHAPE, (0, 0, 0), (3, 3, 3)), box(SHAPE, (1, 1, 1), (5, 5, 5))]
    segments = [{"Name": name, "LabelValue": 1, "Layer": i} for i, name in enumerate("ab")]
    path = segmented(tmp_path / "a.seg.nrrd", layers, segments)
    with pytest.raises(
        InputError, match=r"a\.seg\.nrrd: its segments 'a' and 'b' overlap in 8 vox"
    ):
        read_segmentation_nrrd(path)


def test_a_segment_without_a_name_goes_by_its_id_or_number(tmp_path):
    segments = [{"ID": "Segment_1", "LabelValue": 1}, {"LabelValue": 5}]
    path = segmented(tmp_path / "a.seg.nrrd", [TWO], segments)
    assert read_segmentation_nrrd(path)[1] == {1: "Segment_1", 5: "Segment 1"}


def test_a_plain_label_map_has_no_names(tmp_path):
    write_nrrd(Volume(TWO.astype("f4"), OBLIQUE), tmp_path / "a.nrrd")
    volume, names = read_segmentation_nrrd(tmp_path / "a.nrrd")
    assert (volume.data.dtype, names) == (np.int32, {})
    np.testing.assert_array_equal(volume.data, TWO)


def test_names_in_latin_1_are_read(tmp_path):
    path = segmented(tmp_path / "a.seg.nrrd", [TWO], [{"Name": "Laesion", "LabelValue": 1}])
    path.write_bytes(path.read_bytes().replace(b"Laesion", "Läsion".encode("latin-1")))
    assert read_segmentation_nrrd(path)[1] == {1: "Läsion"}


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([{"Name": "a", "LabelValue": 0}], "segment 'a' has the value 0"),
        ([{"Name": "a", "LabelValue": "x"}], "segment 'a' has value x"),
        ([{"Name": "a", "LabelValue": 1, "Layer": 2}], "in layer 2, but there are 1 layer"),
        (
            [{"Name": n, "LabelValue": 1} for n in "ab"],
            "'a' and 'b' have the same value 1 in layer",
        ),
    ],
)
def test_segments_without_sense_are_refused(tmp_path, segments, message):
    path = segmented(tmp_path / "a.seg.nrrd", [TWO], segments)
    with pytest.raises(InputError, match=rf"a\.seg\.nrrd: .*{message}"):
        read_segmentation_nrrd(path)


def test_values_of_layers_that_no_segment_has_are_refused(tmp_path):
    segments = [{"Name": "a", "LabelValue": 1, "Layer": 0}]
    path = segmented(
        tmp_path / "a.seg.nrrd", [TWO > 0, np.arange(336).reshape(SHAPE) % 20], segments
    )
    with pytest.raises(
        InputError, match=r"layer 1 of 2 holds values .*: 1, 2, 3, 4, 5, 6, 7, 8, …"
    ):
        read_segmentation_nrrd(path)


def test_empty_layers_without_segments_are_an_empty_label_map(tmp_path):
    path = segmented(tmp_path / "a.seg.nrrd", [np.zeros(SHAPE)] * 2, [])
    volume, names = read_segmentation_nrrd(path)
    assert (volume.data.any(), names) == (False, {})


@pytest.mark.parametrize("key", ["MasterRepresentation", "SourceRepresentation"])
def test_fractions_are_no_label_map(tmp_path, key):
    more = f"Segmentation_{key}:=Fractional labelmap\n"
    path = segmented(tmp_path / "a.seg.nrrd", [TWO], [], more=more)
    with pytest.raises(InputError, match="holds segments as 'Fractional labelmap'"):
        read_segmentation_nrrd(path)


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0**40])
def test_values_that_are_no_whole_numbers_are_no_label_map(tmp_path, value):
    write_nrrd(Volume(np.full(SHAPE, value), OBLIQUE), tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="its values are no whole numbers"):
        read_segmentation_nrrd(tmp_path / "a.nrrd")


# -- segmentations on the grid of an image --------------------------------------------------------


def moved(affine, start):
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(start, float)
    return affine


def cropped(path, *, off=(0, 0, 0), affine=OBLIQUE):
    """Write the part of TWO that its segments take up, as 3D Slicer does."""
    part = TWO[1:, 1:, 1:]
    segments = [{"Name": "a", "LabelValue": 1}, {"Name": "b", "LabelValue": 5}]
    place = moved(affine, np.add((1, 1, 1), off))
    more = "Segmentation_ReferenceImageExtentOffset:=1 1 1\n"
    return segmented(path, [part], segments, affine=place, more=more)


@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED])
def test_a_cropped_segmentation_returns_to_the_image(tmp_path, affine):
    path = cropped(tmp_path / "a.seg.nrrd", affine=affine)
    volume, names = read_segmentation_nrrd(path, like=Grid(SHAPE, affine))
    np.testing.assert_array_equal(volume.data, TWO)
    np.testing.assert_array_equal(volume.affine, affine)
    assert names == {1: "a", 5: "b"}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    axes=st.permutations("xyz"),
    signs=st.tuples(*[st.booleans()] * 3),
)
def test_an_image_with_other_axes_gets_the_same_voxels(tmp_path_factory, seed, axes, signs):
    path = cropped(tmp_path_factory.mktemp("seg") / "a.seg.nrrd")
    letters = dict(zip("xyz", ("RL", "AP", "SI"), strict=True))
    turned = "".join(letters[axis][sign] for axis, sign in zip(axes, signs, strict=True))
    expected = reorient(Volume(TWO, OBLIQUE), turned)
    jitter = np.random.default_rng(seed).uniform(-1e-3, 1e-3, (3, 4)) * [[1, 1, 1, 10]]
    like = Grid(expected.spatial_shape, expected.affine + np.vstack([jitter, np.zeros(4)]))
    volume, _ = read_segmentation_nrrd(path, like=like)
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_array_equal(volume.affine, like.affine)


@pytest.mark.parametrize("off", [(0.3, 0, 0), (0, 0, 0.5)])
def test_voxels_between_those_of_the_image_are_refused(tmp_path, off):
    path = cropped(tmp_path / "a.seg.nrrd", off=off)
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: lies between the voxels of .* resample"):
        read_segmentation_nrrd(path, like=Grid(SHAPE, OBLIQUE))


def test_another_spacing_is_refused(tmp_path):
    path = cropped(tmp_path / "a.seg.nrrd")
    like = Grid(SHAPE, OBLIQUE @ np.diag([1, 1, 1.1, 1]))
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: lies between the voxels"):
        read_segmentation_nrrd(path, like=like)


def test_voxels_outside_the_image_are_said(tmp_path):
    path = cropped(tmp_path / "a.seg.nrrd")
    like = Grid((6, 7, 5), OBLIQUE)
    with pytest.warns(UserWarning, match=r"a\.seg\.nrrd: 18 of 32 voxels of its segments lie out"):
        volume, _ = read_segmentation_nrrd(path, like=like)
    np.testing.assert_array_equal(volume.data, TWO[:, :, :5])


def test_a_segmentation_of_another_image_is_refused(tmp_path):
    path = cropped(tmp_path / "a.seg.nrrd", off=(100, 0, 0))
    with pytest.raises(InputError, match="none of its segments lies within the image"):
        read_segmentation_nrrd(path, like=Grid(SHAPE, OBLIQUE))


def test_a_picture_has_no_place_for_a_segmentation(tmp_path):
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: lies in space, but the image"):
        read_segmentation_nrrd(cropped(tmp_path / "a.seg.nrrd"), like=Grid((6, 7), np.eye(3)))


def test_one_empty_voxel_stands_for_no_segments(tmp_path):
    path = segmented(tmp_path / "a.seg.nrrd", [np.zeros((1, 1, 1))], [], affine=np.eye(4))
    volume, names = read_segmentation_nrrd(path, like=Grid(SHAPE, OBLIQUE))
    assert (volume.data.any(), names) == (False, {})
    assert volume.spatial_shape == SHAPE


def test_one_voxel_that_is_a_segment_stays_where_it_is(tmp_path):
    segments = [{"Name": "a", "LabelValue": 1}]
    place = moved(OBLIQUE, (2, 3, 4))
    path = segmented(tmp_path / "a.seg.nrrd", [np.ones((1, 1, 1))], segments, affine=place)
    volume, _ = read_segmentation_nrrd(path, like=Grid(SHAPE, OBLIQUE))
    np.testing.assert_array_equal(np.argwhere(volume.data), [[2, 3, 4]])


def test_an_image_and_its_segmentation_lie_on_one_grid(tmp_path):
    image = Volume(np.zeros(SHAPE), OBLIQUE)
    write_nrrd(image, tmp_path / "a.nrrd")
    like = grid(read_nrrd(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(
        read_segmentation_nrrd(cropped(tmp_path / "a.seg.nrrd"), like=like)[0].data, TWO
    )


# -- any bytes ------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.nrrd"
    header = PLACED.replace("raw", "gzip")
    content = f"NRRD0004\n{header}\n".encode() + zlib.compress(RAW)
    at = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.binary(min_size=0, max_size=4))
    path.write_bytes(content[:at] + damage + content[at + len(damage) :])
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore", UserWarning)  # more bytes than stated
        assert read_nrrd(path).data.size > 0
