"""NIfTI files: what nibabel and SimpleITK read and write, and what nobody can."""

import gzip
import struct
import tracemalloc
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from segjax.data.io.nifti import nifti_grid, read_nifti, write_nifti
from segjax.errors import InputError
from segjax.volume import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix() * [0.5, 1, 3]
OBLIQUE[:3, 3] = [-80, 12.5, 33]
LPS = np.array([-1, -1, 1])
SHEARED = OBLIQUE.copy()
SHEARED[:3, 2] += 0.4 * SHEARED[:3, 1]
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def numbers(dtype, shape=(4, 5, 6)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


BYTES = nibabel.Nifti1Image(numbers("i2"), OBLIQUE).to_bytes()


def save(path, data, affine=OBLIQUE, *, kind=nibabel.Nifti1Image, **fields):
    image = kind(data, affine, dtype=data.dtype)
    for field, value in fields.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


def geometry(path):
    """Return origin, spacing and direction of the first three axes, as SimpleITK reads them."""
    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)
    return image.GetOrigin()[:3], image.GetSpacing()[:3], direction[:3, :3].tolist()


def farthest(path, affine, shape):
    """Return how far, in mm, SimpleITK puts a corner from where the affine does."""
    image, apart = sitk.ReadImage(str(path)), []
    for corner in np.ndindex(2, 2, 2):
        index = (np.array(shape) - 1) * corner
        place = image.TransformIndexToPhysicalPoint(index.tolist())
        apart.append(place * LPS - (affine @ [*index, 1])[:3])
    return np.linalg.norm(apart, axis=1).max()


def patch(path, offset, content):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [*DTYPES, ">i2", ">f4"])
def test_values_types_and_affine_are_those_of_nibabel(tmp_path, dtype, suffix):
    path = save(tmp_path / f"a{suffix}", numbers(dtype))
    volume, image = read_nifti(path), nibabel.load(path)
    assert volume.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.data, np.asarray(image.dataobj))
    np.testing.assert_array_equal(volume.affine, image.affine)


def test_data_can_be_written_to(tmp_path):
    volume = read_nifti(save(tmp_path / "a.nii", numbers("f4")))
    volume.data[0, 0, 0] = 7
    assert volume.data[0, 0, 0] == 7


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize(("slope", "inter"), [(0.1, 0), (2.5, -1024.0), (1.0, -1.0)])
def test_scaled_values_are_float32(tmp_path, dtype, slope, inter):
    header = save(tmp_path / "a.nii", numbers(dtype))
    patch(header, 112, struct.pack("<ff", slope, inter))
    volume = read_nifti(header)
    expected = numbers("f8") * np.float32(slope) + inter
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.data, expected, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(volume.data, nibabel.load(header).get_fdata(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (np.nan, 3), (1, 0), (np.inf, 0)])
def test_invalid_and_neutral_scaling_keeps_integers(tmp_path, slope, inter):
    path = patch(save(tmp_path / "a.nii", numbers("i2")), 112, struct.pack("<ff", slope, inter))
    volume = read_nifti(path)
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, numbers("i2"))


def test_scaling_without_a_finite_intercept_is_refused(tmp_path):
    path = patch(save(tmp_path / "a.nii", numbers("i2")), 112, struct.pack("<ff", 2, np.inf))
    with pytest.raises(InputError, match=r"a\.nii: its header is corrupt"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ((4, 5), (4, 5, 1)),
        ((4, 5, 1), (4, 5, 1)),
        ((4, 5, 6, 1), (4, 5, 6)),
        ((4, 5, 6, 1, 1), (4, 5, 6)),
        ((4, 5, 6, 1, 2), (4, 5, 6, 2)),
        ((4, 5, 6, 1, 1, 2), (4, 5, 6, 2)),
        ((4, 5, 6, 2, 1), (4, 5, 6, 2)),
        ((4, 5, 1, 1, 3), (4, 5, 1, 3)),
        ((1, 1, 1, 1, 3), (1, 1, 1, 3)),
        ((4, 5, 6, 2), (4, 5, 6, 2)),
        ((4, 5, 1, 3), (4, 5, 1, 3)),
        ((1, 5, 6), (1, 5, 6)),
    ],
)
def test_axes(tmp_path, stored, read):
    data = numbers("f4", stored)
    volume = read_nifti(save(tmp_path / "a.nii.gz", data))
    np.testing.assert_array_equal(volume.data, data.reshape(read))


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (4, 5, 6, 2), (4, 5, 3)])
def test_vectors_are_the_channels_that_simpleitk_wrote(tmp_path, shape):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = sitk.GetImageFromArray(data, isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    volume = read_nifti(tmp_path / "a.nii.gz")
    space = written.shape[:-1][::-1]
    expected = np.moveaxis(written, -1, 0).T.reshape((*space, 1)[:3] + shape[-1:])
    np.testing.assert_array_equal(volume.data, expected)


def test_nifti2(tmp_path):
    path = save(tmp_path / "a.nii.gz", numbers("i2"), kind=nibabel.Nifti2Image)
    np.testing.assert_array_equal(read_nifti(path).data, numbers("i2"))
    np.testing.assert_array_equal(read_nifti(path).affine, OBLIQUE)


def test_header_extensions_are_skipped(tmp_path):
    image = nibabel.Nifti1Image(numbers("i2"), OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    nibabel.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").data, numbers("i2"))


def test_an_offset_of_zero_means_right_after_the_header(tmp_path):
    path = patch(save(tmp_path / "a.nii", numbers("i2")), 108, struct.pack("<f", 0))
    np.testing.assert_array_equal(read_nifti(path).data, numbers("i2"))


def test_compression_shows_in_the_content_not_in_the_name(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"))
    (tmp_path / "b.nii").write_bytes(gzip.compress(path.read_bytes()))
    path.rename(tmp_path / "a.nii.gz")
    for name in ("a.nii.gz", "b.nii"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).data, numbers("i2"))


def test_gzip_files_of_several_members(tmp_path):
    raw = save(tmp_path / "a.nii", numbers("i2")).read_bytes()
    members = [gzip.compress(raw[:100]), gzip.compress(raw[100:500]), gzip.compress(raw[500:])]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(members) + b"trailing rubbish")
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").data, numbers("i2"))
    (tmp_path / "c.nii.gz").write_bytes(b"".join(members[:2]))
    with pytest.raises(InputError, match=r"c\.nii\.gz: is truncated: 92 bytes of its 592"):
        read_nifti(tmp_path / "c.nii.gz")


def test_qform_is_used_without_sform(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"), sform_code=0, qform_code=1)
    np.testing.assert_array_equal(read_nifti(path).affine, nibabel.load(path).affine)
    np.testing.assert_allclose(read_nifti(path).affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("excess", [4e-7, 1e-5, 3e-3])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_quaternions_that_rounding_made_too_long_are_rotations(tmp_path, kind, excess):
    axis = np.array([0.6, -0.48, 0.64])
    image = kind(numbers("i2"), np.diag([0.5, 1, 3, 1]))
    image.set_qform(image.affine)
    image.set_sform(None, 0)
    path = tmp_path / "a.nii"
    path.write_bytes(image.to_bytes())
    first, real = (256, "<f4") if kind is nibabel.Nifti1Image else (352, "<f8")
    patch(path, first, (axis * (1 + excess)).astype(real).tobytes())
    half_turn = (2 * np.outer(axis, axis) - np.eye(3)) * [0.5, 1, 3]
    np.testing.assert_allclose(read_nifti(path).affine[:3, :3], half_turn, atol=1e-6)


@pytest.mark.parametrize("offset", [76, 80, 88, 256, 264, 268])  # pixdim, quaternion, qoffset
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_do_not_matter_beside_a_sound_sform(tmp_path, offset, value):
    path = save(tmp_path / "a.nii", numbers("i2"), qform_code=1)
    volume = read_nifti(patch(path, offset, struct.pack("<f", value)))
    np.testing.assert_allclose(volume.affine, OBLIQUE, rtol=1e-6)


@pytest.mark.parametrize("row", [np.zeros(4), np.full(4, np.nan)])
def test_the_qform_stands_in_for_an_sform_that_places_nothing(tmp_path, row):
    path = save(tmp_path / "a.nii", numbers("i2"), qform_code=1)
    patch(path, 296, row.astype("<f4").tobytes())
    with pytest.warns(UserWarning, match=r"a\.nii: sform places no voxels; the qform is taken"):
        volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


def test_voxel_size_alone_gives_the_affine_of_nibabel(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"), sform_code=0, qform_code=0)
    np.testing.assert_array_equal(read_nifti(path).affine, nibabel.load(path).affine)


def test_sheared_affines_survive(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"), SHEARED)
    np.testing.assert_allclose(read_nifti(path).affine, SHEARED, rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e3), ("micron", 1e-3), ("unknown", 1)])
def test_units_become_millimetres(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(numbers("i2"), OBLIQUE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    expected = np.vstack([nibabel.load(tmp_path / "a.nii").affine[:3] * factor, [0, 0, 0, 1]])
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine, expected)


def test_mended_headers_are_said(tmp_path, capfd):
    path = save(tmp_path / "a.nii", numbers("i2"), sform_code=0, qform_code=1)
    patch(path, 80, struct.pack("<f", 0))
    with pytest.warns(UserWarning, match=r"a\.nii: pixdim"):
        volume = read_nifti(path)
    assert volume.spacing[0] == pytest.approx(1)
    assert capfd.readouterr().err == ""


def test_real_volumes_read_as_with_simpleitk(data_dir):
    path = data_dir / "ms_lesions/patient07/flair.nii.gz"
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(read_nifti(path).data, sitk.GetArrayFromImage(image).T)


# -- the grid alone -----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.sampled_from([(), (1,), (3,), (1, 3)]),
    st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    st.sampled_from([None, ".gz", "members"]),
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 1, 2, 3])),
)
def test_the_grid_is_that_of_the_volume(tmp_path_factory, space, rest, kind, packed, codes):
    shape = (*space, 1)[:3] + rest if rest else tuple(space)
    sform, qform, unit = codes
    path = tmp_path_factory.mktemp("grid") / "a.nii"
    save(path, numbers("u1", shape), kind=kind, sform_code=sform, qform_code=qform, xyzt_units=unit)
    raw = path.read_bytes()
    if packed:
        cut = 100 if packed == "members" else 0
        path.write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]))
    volume = read_nifti(path)
    place, channels = nifti_grid(path)
    assert place.shape == volume.spatial_shape
    assert channels == volume.channels
    np.testing.assert_array_equal(place.affine, volume.affine)


def test_no_voxel_is_decompressed_for_the_grid(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (200, 200, 100), np.uint8)
    write_nifti(Volume(data, OBLIQUE), tmp_path / "a.nii.gz")
    tracemalloc.start()
    assert nifti_grid(tmp_path / "a.nii.gz")[0].shape == data.shape
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 347), st.integers(0, 255)), min_size=1, max_size=4))
def test_the_grid_fails_as_the_volume_does(tmp_path_factory, changes):
    raw = bytearray(BYTES)
    for position, value in changes:
        raw[position] = value
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.nii"
    path.write_bytes(raw)
    said = []
    for read in (read_nifti, nifti_grid):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                read(path)
                said.append([str(warning.message) for warning in caught])
            except InputError as error:
                said.append(str(error))
    assert said[0] == said[1]


def test_missing_files_have_no_grid(tmp_path):
    with pytest.raises(InputError, match=r"none\.nii: there is no such file"):
        nifti_grid(tmp_path / "none.nii")


# -- files that cannot be read ------------------------------------------------------------------


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.nii.gz", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}: there is no such file"):
            read_nifti(path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"hello", bytes(400), b"\x89PNG" * 200])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_files_of_something_else_are_no_nifti(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^\S*{name}: is (no NIfTI file|truncated|corrupt)"):
        read_nifti(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_truncation_is_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    raw = save(tmp_path / f"a{suffix}", rng.normal(size=(4, 5, 6)).astype("f4")).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in [*range(0, len(raw) - 1, 13), len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(InputError, match=rf"^\S*cut{suffix}: .*(truncated|no NIfTI|corrupt)"):
            read_nifti(path)


def test_every_flipped_byte_of_compressed_voxels_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    raw = save(tmp_path / "a.nii.gz", rng.normal(size=(4, 5, 6)).astype("f4")).read_bytes()
    path = tmp_path / "b.nii.gz"
    for position in range(20, len(raw), 11):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1 :])
        with pytest.raises(InputError, match=r"^\S*b\.nii\.gz: "):
            read_nifti(path)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_header_gives_a_volume_or_a_clear_error(tmp_path_factory, changes):
    raw = bytearray(BYTES)
    for position, value in changes:
        raw[position] = value
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.nii"
    path.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            message = f"{path}: {read_nifti(path).spatial_shape}"
        except InputError as error:
            message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", [400, 32767])
def test_sizes_that_the_file_cannot_hold_take_no_memory(tmp_path, suffix, axis):
    raw = bytearray(BYTES)
    raw[40:56] = struct.pack("<8h", 3, axis, axis, axis, 1, 1, 1, 1)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix == ".nii.gz" else raw)
    tracemalloc.start()
    with pytest.raises(InputError, match="truncated, or its header lies: it states"):
        read_nifti(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_sizes_beyond_the_bound_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("segjax.data.io.nifti._MOST_BYTES", 500)
    with pytest.raises(InputError, match=r"a\.nii: states 592 bytes; at most 500 are read"):
        read_nifti(save(tmp_path / "a.nii", numbers("i2")))


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"),
        (np.dtype("c8"), "complex64"),
    ],
)
def test_colours_and_complex_numbers_are_refused(tmp_path, dtype, what):
    path = save(tmp_path / "a.nii", np.zeros((4, 5, 6), dtype))
    with pytest.raises(InputError, match=f"holds .*{what}"):
        read_nifti(path)


@pytest.mark.parametrize("shape", [(2, 3, 4, 2, 2), (2, 3, 1, 5, 1, 2)])
def test_times_of_channels_are_refused(tmp_path, shape):
    path = save(tmp_path / "a.nii", numbers("f4", shape))
    with pytest.raises(InputError, match=r"a\.nii: has shape \(2, 3, .*; give three axes of sp"):
        read_nifti(path)


@pytest.mark.parametrize("dims", [(0, 1, 1, 1), (3, 4, 0, 6), (3, 4, -5, 6), (1, 10, 1, 1)])
def test_shapes_without_voxels_are_refused(tmp_path, dims):
    path = patch(save(tmp_path / "a.nii", numbers("i2")), 40, struct.pack("<4h", *dims))
    with pytest.raises(InputError, match=r"a\.nii: its header states shape"):
        read_nifti(path)


def test_voxels_that_begin_nowhere_are_refused(tmp_path):
    path = patch(save(tmp_path / "a.nii", numbers("i2")), 108, struct.pack("<f", np.nan))
    with pytest.raises(InputError, match=r"a\.nii: .*header is corrupt"):
        read_nifti(path)


def test_rotations_that_are_none_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"), sform_code=0, qform_code=1)
    patch(path, 256, struct.pack("<3f", 5, 5, 5))
    with pytest.raises(InputError, match=r"a\.nii: its affine is corrupt"):
        read_nifti(path)


def test_affines_without_volume_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2"))
    for offset in (280, 296, 312):
        patch(path, offset, struct.pack("<f", 0))
    with pytest.raises(InputError, match=r"a\.nii: the affine is not invertible"):
        read_nifti(path)


def test_header_of_a_pair_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(numbers("i2"), OBLIQUE), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(InputError, match="not in the same file"):
        read_nifti(tmp_path / "a.nii")


# -- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        ("bool", "u1"),
        ("u1", "u1"),
        ("i1", "i1"),
        ("i2", "i2"),
        (">i2", "i2"),
        ("u2", "u2"),
        ("i4", "i4"),
        ("i8", "i4"),
        ("u8", "u4"),
        ("f2", "f4"),
        ("f4", "f4"),
        ("f8", "f4"),
    ],
)
def test_nibabel_reads_what_is_written(tmp_path, dtype, written, suffix):
    data = numbers(dtype)
    write_nifti(Volume(data, OBLIQUE), tmp_path / f"a{suffix}")
    image = nibabel.load(tmp_path / f"a{suffix}")
    assert image.get_data_dtype() == np.dtype(written)
    np.testing.assert_array_equal(np.asarray(image.dataobj), data)
    np.testing.assert_allclose(image.affine, OBLIQUE, rtol=1e-6)


def test_simpleitk_finds_each_voxel_at_its_place(tmp_path):
    write_nifti(Volume(numbers("i2"), OBLIQUE), tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    place = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3))) * [-1, -1, 1]  # LPS -> RAS
    np.testing.assert_allclose(place, (OBLIQUE @ [1, 2, 3, 1])[:3], atol=1e-3)
    assert image[1, 2, 3] == numbers("i2")[1, 2, 3]


@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([-1.0, -2.0, 3.0, 1.0]), np.eye(4)])
def test_both_transforms_of_the_header_are_set(tmp_path, affine):
    write_nifti(Volume(numbers("i2"), affine), tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    np.testing.assert_allclose(header.get_sform(coded=True)[0], affine, rtol=1e-6)
    np.testing.assert_allclose(header.get_qform(coded=True)[0], affine, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_shear_stays_in_the_sform_and_the_qform_turns_about_the_same_centre(tmp_path):
    write_nifti(Volume(numbers("i2"), SHEARED), tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    qform, code = header.get_qform(coded=True)
    assert code == 1
    np.testing.assert_allclose(header.get_sform(coded=True)[0], SHEARED, rtol=1e-6)
    edges = np.linalg.norm(SHEARED[:3, :3], axis=0)
    nearest, _ = polar(SHEARED[:3, :3] / edges)
    np.testing.assert_allclose(qform[:3, :3], nearest * edges, atol=1e-5)
    centre = np.array([1.5, 2, 2.5, 1])
    np.testing.assert_allclose(qform @ centre, SHEARED @ centre, atol=1e-4)
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    place = image.TransformContinuousIndexToPhysicalPoint(centre[:3].tolist()) * LPS
    np.testing.assert_allclose(place, (SHEARED @ centre)[:3], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [np.eye(3), np.diag([-1.0, -1, 1]), np.diag([-1.0, 1, 1]), np.eye(3)[[1, 2, 0]]]
    ),
    st.tuples(*[st.floats(-30, 30)] * 3),
    st.sampled_from([3, 4, 5, 6, 17]),
    st.tuples(*[st.integers(1, 60)] * 3),
)
def test_simpleitk_is_within_a_twentieth_of_a_millimetre_of_rounded_rotations(
    tmp_path_factory, flip, angles, digits, shape
):
    affine = np.eye(4)
    cosines = (Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ flip).round(digits)
    affine[:3] = np.c_[cosines * [0.9, 1, 2.2], [-80, 12.5, 33]]
    path = tmp_path_factory.mktemp("rounded") / "a.nii"
    write_nifti(Volume(np.zeros(shape, np.uint8), affine), path)
    assert farthest(path, affine, shape) < 0.05
    np.testing.assert_allclose(nibabel.load(path).affine, affine, atol=1e-5)


@pytest.mark.parametrize("turn", [-1e-3, 1e-5, 6e-4, 7e-4])
def test_turns_near_a_half_one_keep_what_precision_a_qform_has(tmp_path, turn):
    affine = np.diag([-1.0, -1, 1, 1])
    affine[:3, :3] = affine[:3, :3] @ Rotation.from_euler("z", turn).as_matrix()
    affine[:3, 1] += 5e-4 * affine[:3, 0]  # no rotation to ITK, which then takes the qform
    write_nifti(Volume(np.zeros((100, 100, 10), np.uint8), affine), tmp_path / "a.nii")
    assert farthest(tmp_path / "a.nii", affine, (100, 100, 10)) < 0.03


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (4, 5, 6, 1), (4, 5, 1), (1, 1, 1)])
def test_shapes_survive(tmp_path, shape):
    write_nifti(Volume(numbers("f4", shape), OBLIQUE), tmp_path / "a.nii.gz")
    assert nibabel.load(tmp_path / "a.nii.gz").shape == shape


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(Volume(numbers("i2"), OBLIQUE), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_files_are_overwritten_only_on_request(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(Volume(numbers("i2"), OBLIQUE), path)
    with pytest.raises(InputError, match="exists already"):
        write_nifti(Volume(numbers("i2") + 1, OBLIQUE), path)
    np.testing.assert_array_equal(read_nifti(path).data, numbers("i2"))
    write_nifti(Volume(numbers("i2") + 1, OBLIQUE), path, overwrite=True)
    np.testing.assert_array_equal(read_nifti(path).data, numbers("i2") + 1)


@pytest.mark.parametrize(
    ("data", "affine", "message"),
    [
        (np.zeros((4, 5, 6), "c8"), np.eye(4), "complex64 cannot be written"),
        (np.full((4, 5, 6), 2**31), np.eye(4), "reach beyond int32"),
        (np.full((4, 5, 6), 2**32, "u8"), np.eye(4), "reach beyond uint32"),
        (np.zeros((4, 5), "f4"), np.eye(3), "three axes"),
        (np.zeros((32768, 1, 1), "u1"), np.eye(4), "32,767 voxels along an axis"),
    ],
)
def test_what_nifti_cannot_say_is_refused(tmp_path, data, affine, message):
    with pytest.raises(InputError, match=rf"a\.nii: .*{message}"):
        write_nifti(Volume(data, affine), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.mha: .*\.nii or \.nii\.gz"):
        write_nifti(Volume(numbers("i2"), OBLIQUE), tmp_path / "a.mha")


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from(["u1", "i2", "i4", "f4"]),
    st.sampled_from([".nii", ".nii.gz"]),
    st.integers(0, 2**32 - 1),
)
def test_volumes_survive_a_round_trip(tmp_path_factory, shape, dtype, suffix, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 100, shape).astype(dtype)
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4)) + np.eye(3, 4) * 5
    path = tmp_path_factory.mktemp("trip") / f"a{suffix}"
    write_nifti(Volume(data, affine), path)
    volume = read_nifti(path)
    assert volume.data.dtype == data.dtype
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-6, atol=1e-7)


def test_a_mask_takes_over_the_forms_of_its_image_with_their_codes(tmp_path):
    turned = np.array([[0, -1, 0, 9], [1, 0, 0, 5], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    source = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    source.set_sform(np.diag([1, 1, 3, 1.0]), code=4)
    source.set_qform(turned, code=1)
    nibabel.save(source, tmp_path / "image.nii.gz")
    image = read_nifti(tmp_path / "image.nii.gz")
    mask = image.with_data(np.ones((4, 5, 6), np.uint8))
    write_nifti(mask, tmp_path / "mask.nii.gz", like=tmp_path / "image.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(written.affine, np.diag([1, 1, 3, 1.0]))
    assert int(written.header["sform_code"]) == 4
    assert int(written.header["qform_code"]) == 1
    np.testing.assert_allclose(written.get_qform(), turned, atol=1e-6)


def test_forms_of_an_image_on_another_grid_are_not_taken_over(tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "image.nii"
    )
    volume = Volume(np.zeros((4, 5, 6), np.uint8), np.diag([2, 2, 2, 1.0]))
    write_nifti(volume, tmp_path / "mask.nii", like=tmp_path / "image.nii")
    np.testing.assert_array_equal(
        nibabel.load(tmp_path / "mask.nii").affine, np.diag([2, 2, 2, 1.0])
    )


# -- writing masks like their images ------------------------------------------------------------

FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def forms(path):
    """Return the fields of place as the file holds them."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    kind = nibabel.Nifti2Header if raw[:4] == struct.pack("<i", 540) else nibabel.Nifti1Header
    header = kind(raw[: kind.template_dtype.itemsize], check=False)
    fields = {name: header[name].tolist() for name in FIELDS}
    unit = int(header["xyzt_units"]) & 7
    return fields | {"pixdim": header["pixdim"][:4].tolist(), "unit": unit}


def mask_like(image, channels=()):
    """Write a mask, or a map of some channels, like an image."""
    volume = read_nifti(image)
    path = image.parent / "mask.nii.gz"
    mask = volume.with_data(np.zeros(volume.spatial_shape + channels, np.float32))
    write_nifti(mask, path, like=image, overwrite=True)
    return path


MOVED = OBLIQUE.copy()
MOVED[:3, 3] += [-10, 5, 3]


def turn(length):
    """Return the fields of a quaternion of some length."""
    return {"quatern_b": 0.6 * length, "quatern_c": -0.48 * length, "quatern_d": 0.64 * length}


SOURCES = {
    "forms differ": {"affine": MOVED, "sform_code": 4, "qform_code": 1},
    "sform alone": {"sform_code": 1, "qform_code": 0},
    "qform alone": {"sform_code": 0, "qform_code": 2},
    "neither": {"sform_code": 0, "qform_code": 0},
    "sheared sform beside a qform": {"affine": SHEARED, "sform_code": 2, "qform_code": 1},
    "quaternion over 1": {"sform_code": 2, "qform_code": 1} | turn(1 + 4e-7),
    "quaternion over 1 alone": {"sform_code": 0, "qform_code": 1} | turn(1.0001),
    "metres": {"xyzt_units": 1},
    "micrometres and seconds": {"xyzt_units": 3 | 8},
    "no unit": {"xyzt_units": 0},
    "five axes": {"shape": (4, 5, 6, 1, 2)},
}  # fmt: skip


@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize("named", [".nii", ".nii.gz", "uncompressed.nii.gz"])
@pytest.mark.parametrize("source", SOURCES)
def test_masks_and_maps_have_the_fields_of_their_image(tmp_path, source, named, channels):
    fields = {"qform_code": 1} | SOURCES[source]
    affine, shape = fields.pop("affine", OBLIQUE), fields.pop("shape", (4, 5, 6))
    image = nibabel.Nifti1Image(numbers("i2", shape), affine)
    image.set_qform(OBLIQUE)
    for field, value in fields.items():
        image.header[field] = value
    image.header.set_data_offset(352)
    path = tmp_path / f"image{named}"
    raw = image.header.binaryblock + bytes(4) + numbers("i2", shape).tobytes("F")
    path.write_bytes(gzip.compress(raw) if named == ".nii.gz" else raw)
    mask = mask_like(path, channels)
    assert forms(mask) == forms(path)
    assert geometry(mask) == geometry(path)
    np.testing.assert_array_equal(read_nifti(mask).affine, read_nifti(path).affine)


@pytest.mark.parametrize("codes", [(2, 1), (1, 0), (0, 1), (0, 0)])
def test_masks_of_nifti2_images_have_their_fields_in_single_precision(tmp_path, codes):
    sform, qform = codes
    path = save(
        tmp_path / "a.nii", numbers("i2"), kind=nibabel.Nifti2Image,
        sform_code=sform, qform_code=qform,
    )  # fmt: skip
    mask = mask_like(path)
    for field, value in forms(path).items():
        np.testing.assert_array_equal(forms(mask)[field], np.float32(value))
    np.testing.assert_allclose(read_nifti(mask).affine, read_nifti(path).affine, atol=1e-4)
    assert farthest(mask, read_nifti(path).affine, (4, 5, 6)) < 1e-3 or codes == (0, 0)


def test_nifti2_fields_that_nifti1_cannot_hold_are_not_taken_over(tmp_path):
    path = save(
        tmp_path / "a.nii", numbers("i2"), kind=nibabel.Nifti2Image, sform_code=1,
        qform_code=2**16 + 1,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="qform_code 65537 not valid"):
        mask = mask_like(path)
    assert farthest(mask, OBLIQUE, (4, 5, 6)) < 1e-3
    assert forms(mask)["sform_code"] == forms(mask)["qform_code"] == 1


@pytest.mark.parametrize("offset", [80, 88, 256, 264, 268])
@pytest.mark.parametrize("code", [1, 3])
def test_masks_of_images_with_nan_beside_a_sound_sform_have_forms_of_their_own(
    tmp_path, offset, code
):
    path = save(tmp_path / "a.nii.gz", numbers("i2"), qform_code=1, sform_code=code)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + 4] = struct.pack("<f", np.nan)
    path.write_bytes(gzip.compress(raw))
    mask = mask_like(path)
    assert forms(mask)["sform_code"] == forms(mask)["qform_code"] == code
    assert farthest(mask, OBLIQUE, (4, 5, 6)) < 1e-3
    np.testing.assert_allclose(nibabel.load(mask).affine, OBLIQUE, rtol=1e-6)


@pytest.mark.parametrize("affine", [SHEARED, np.round(OBLIQUE, 3)])
def test_masks_open_in_simpleitk_where_their_image_has_no_form_for_it(tmp_path, affine):
    path = save(tmp_path / "a.nii", numbers("i2"), affine, sform_code=4, qform_code=0)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    mask = mask_like(path)
    sitk.ReadImage(str(mask))
    assert forms(mask)["sform_code"] == 4
    np.testing.assert_allclose(nibabel.load(mask).affine, affine, rtol=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"no NIfTI" * 100])
def test_masks_like_something_else_have_forms_of_their_own(tmp_path, content):
    if content is not None:
        (tmp_path / "a.dcm").write_bytes(content)
    mask = tmp_path / "mask.nii"
    write_nifti(Volume(numbers("u1"), OBLIQUE), mask, like=tmp_path / "a.dcm")
    np.testing.assert_allclose(nibabel.load(mask).affine, OBLIQUE, rtol=1e-6)


def test_forms_of_an_image_of_another_size_are_not_taken_over(tmp_path):
    path = save(tmp_path / "a.nii", numbers("i2", (4, 5, 7)), sform_code=4)
    write_nifti(Volume(numbers("u1"), OBLIQUE), tmp_path / "mask.nii", like=path)
    assert forms(tmp_path / "mask.nii")["sform_code"] == 1
