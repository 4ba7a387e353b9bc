"""The page reads and writes NIfTI files as nibabel and segjax do."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image

import segjax
from tests.geometry import rigid
from tests.web.node import PageProblem

TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def page_read(page_modules, content, name="a.nii"):
    return page_modules.call("io/nifti.readNifti", name, content)


def data_of(image):
    return image["volume"]["data"].reshape(image["volume"]["shape"])


def random_affine(rng, shear=0.0):
    affine = rigid(rng.uniform(-180, 180, 3), rng.uniform(0.3, 4, 3), rng.uniform(-100, 100, 3))
    upper = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    affine[:3, :3] = affine[:3, :3] @ upper @ np.diag(rng.choice([-1, 1], 3))
    return affine


def random_file(rng):
    """Make a file of any version, byte order, type, forms, units and scaling; plain or gzip."""
    kind, image_kind = [(Nifti1Header, Nifti1Image), (Nifti2Header, Nifti2Image)][rng.integers(2)]
    header = kind(endianness=rng.choice(["<", ">"]))
    dtype = np.dtype(rng.choice(TYPES))
    shape = tuple(rng.integers(1, 9, rng.integers(2, 5)))
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["pixdim"][1 : len(shape) + 1] = rng.uniform(0.3, 4, len(shape))
    header["pixdim"][0] = rng.choice([-1, 1])
    if rng.random() < 0.7:
        header.set_sform(random_affine(rng, 0.3), int(rng.integers(0, 5)))
    if rng.random() < 0.7:
        header.set_qform(random_affine(rng), int(rng.integers(0, 5)))
    header["xyzt_units"] = rng.choice([0, 1, 2, 3]) + rng.choice([0, 8])
    if dtype.kind == "f":
        stored = rng.normal(0, 1000, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        stored = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    slope, inter = [(1, 0), (0, 5), (0.37, -12), (2.5, 0)][rng.integers(4)]
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["vox_offset"] = header.single_vox_offset + 16 * rng.integers(0, 2)
    gap = bytes(int(header["vox_offset"]) - len(header.binaryblock))
    voxels = stored.astype(dtype.newbyteorder(header.endianness)).tobytes(order="F")
    content = header.binaryblock + gap + voxels
    return gzip.compress(content) if rng.random() < 0.5 else content, image_kind


@pytest.mark.parametrize("seed", range(60))
def test_random_files_are_read_as_segjax_reads_them(page_modules, tmp_path, seed):
    content, _ = random_file(np.random.default_rng(seed))
    path = tmp_path / ("a.nii.gz" if content[:2] == b"\x1f\x8b" else "a.nii")
    path.write_bytes(content)
    expected = segjax.read(path)
    images = page_read(page_modules, content, path.name)
    assert len(images) == expected.channels
    for channel, image in enumerate(images):
        volume = expected.channels_last[..., channel].astype(np.float32)
        np.testing.assert_array_equal(data_of(image), volume)
        np.testing.assert_allclose(image["volume"]["affine"], expected.affine, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_masks_have_the_bytes_of_segjax_where_the_forms_can_be_kept(page_modules, tmp_path, seed):
    rng = np.random.default_rng(seed)
    content, _ = random_file(rng)
    (tmp_path / "a.nii").write_bytes(
        gzip.decompress(content) if content[:1] == b"\x1f" else content
    )
    image = page_read(page_modules, content)[0]
    shape = image["volume"]["shape"]
    mask = rng.integers(0, 3, shape, dtype=np.uint8)
    written = page_modules.call(
        "io/nifti.writeNifti", bytes_of(image["header"]), shape, mask.ravel(), {"gzip": False}
    )
    place = segjax.read(tmp_path / "a.nii")
    segjax.write(segjax.Volume(mask, place.affine), tmp_path / "mask.nii", like=tmp_path / "a.nii")
    expected = (tmp_path / "mask.nii").read_bytes()
    if made_of_the_affine(tmp_path / "a.nii"):
        same_places(written.tobytes(), expected)
    else:
        assert written.tobytes() == expected


def bytes_of(array):
    return np.frombuffer(array.tobytes(), np.uint8)


def made_of_the_affine(path):
    header = nib.load(path).header
    return int(header["qform_code"]) == 0 and int(header["sform_code"]) > 0


def same_places(content, expected):
    """Both forms, codes and the voxels agree, to float32's rounding."""
    one, other = (Nifti1Image.from_bytes(each) for each in (content, expected))
    np.testing.assert_array_equal(one.dataobj, other.dataobj)
    scale = np.abs(other.affine).max()
    for name in ("get_sform", "get_qform"):
        mine, theirs = getattr(one.header, name)(), getattr(other.header, name)()
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * scale)
    assert one.header["sform_code"] == other.header["sform_code"]
    assert one.header["qform_code"] == other.header["qform_code"]


def test_what_is_written_is_read_back(page_modules):
    rng = np.random.default_rng(0)
    for seed in range(20):
        affine = random_affine(np.random.default_rng(seed), 0.2)
        shape = tuple(int(n) for n in rng.integers(1, 20, 3))
        header = page_modules.call("io/nifti.headerOf", {"shape": shape, "affine": affine.tolist()})
        data = rng.normal(size=shape).astype(np.float32)
        written = page_modules.call(
            "io/nifti.writeNifti", bytes_of(header), shape, data.ravel(), {"gzip": True}
        )
        loaded = Nifti1Image.from_bytes(gzip.decompress(written.tobytes()))
        np.testing.assert_array_equal(loaded.dataobj, data)
        np.testing.assert_allclose(loaded.affine, affine, rtol=1e-5, atol=1e-5)
        (again,) = page_read(page_modules, written.tobytes(), "b.nii.gz")
        np.testing.assert_array_equal(data_of(again), data)


def test_qforms_of_half_turns_and_mirrors_say_what_the_sform_says(page_modules):
    for diagonal in np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T:
        for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
            affine = np.eye(4)
            affine[:3, :3] = np.diag(diagonal * [0.9, 1.2, 3.0])[:, order]
            affine[:3, 3] = [10, -20, 30]
            grid = {"shape": [5, 6, 7], "affine": affine.tolist()}
            header = page_modules.call("io/nifti.headerOf", grid)
            loaded = Nifti1Header(header.tobytes()[:348])
            np.testing.assert_allclose(loaded.get_qform(), affine, atol=1e-5)
            np.testing.assert_allclose(loaded.get_sform(), affine, atol=1e-5)


def header_of(**fields):
    header = Nifti1Header()
    header.set_data_shape(fields.pop("shape", (2, 3, 4)))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    header.set_sform(np.eye(4), 1)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4)


def nifti(**fields):
    return header_of(**fields) + bytes(48)


def refused(page_modules, content, name="case.nii.gz"):
    with pytest.raises(PageProblem) as caught:
        page_read(page_modules, content, name)
    assert caught.value.values["name"] == name
    return caught.value


def test_files_that_end_too_early_are_named(page_modules):
    whole = nifti()
    problem = refused(page_modules, whole[:-1])
    assert problem.key == "niftiTruncated"
    assert problem.values == {"name": "case.nii.gz", "bytes": 399, "expected": 400}
    noise = np.random.default_rng(0).integers(0, 255, 48, dtype=np.uint8).tobytes()
    packed = gzip.compress(whole[:352] + noise)
    for missing in (30, 9, 4):
        assert refused(page_modules, packed[:-missing]).key in ("niftiTruncated", "niftiDamaged")
    assert refused(page_modules, gzip.compress(whole[:-1])).key == "niftiTruncated"


def test_headers_that_claim_gigabytes_are_refused_before_memory_is_taken(page_modules):
    giant = nifti(dim=[3, 20000, 20000, 13, 1, 1, 1, 1])
    assert refused(page_modules, giant).key == "niftiTruncated"
    assert refused(page_modules, gzip.compress(giant)).key == "niftiImpossible"
    packed = gzip.compress(giant[:352]) + bytes(20_000_000)
    assert refused(page_modules, packed).key == "niftiTooLarge"
    second = Nifti2Header()
    second.set_data_shape((2**40, 2**40, 2**40))
    assert refused(page_modules, second.binaryblock + bytes(52)).key == "niftiTruncated"


def test_damaged_streams_are_named(page_modules):
    rng = np.random.default_rng(1)
    content = header_of(shape=(40, 40, 40)) + rng.integers(0, 99, 64000, "i2").tobytes()
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 0x55
    assert refused(page_modules, bytes(packed)).key in ("niftiDamaged", "niftiTruncated")
    checksum = bytearray(gzip.compress(content))
    checksum[-6] ^= 1
    assert refused(page_modules, bytes(checksum)).key == "niftiDamaged"


def test_files_of_several_members_and_with_more_behind_are_read(page_modules):
    content = header_of(shape=(40, 40, 40)) + np.arange(64000, dtype="i2").tobytes()
    half = gzip.compress(content[:50_000]) + gzip.compress(content[50_000:])
    for packed in (half, half + bytes(1000), gzip.compress(content + bytes(100_000))):
        (image,) = page_read(page_modules, packed)
        expected = np.arange(64000, dtype="i2").reshape(40, 40, 40).T
        np.testing.assert_array_equal(data_of(image), expected)


@pytest.mark.parametrize(
    ("content", "key", "format"),
    [
        (bytes(128) + b"DICM" + bytes(400), "niftiOtherFormat", "DICOM"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "niftiOtherFormat", "PNG"),
        (b"NRRD0004\n" + bytes(400), "niftiOtherFormat", "NRRD"),
        (b"\x08\x08\x12\x06segjax" + bytes(400), "niftiOtherFormat", "ONNX"),
        (gzip.compress(b"NRRD0004\n" + bytes(400), mtime=0), "niftiOtherFormat", "NRRD (.gz)"),
        (b"\x89PNG\r\n", "niftiOtherFormat", "PNG"),
        (b"<html>" + bytes(500), "niftiOtherFormat", "XML / HTML"),
        (b"hello", "niftiUnknown", None),
        (b"", "niftiUnknown", None),
        (bytes(1000), "niftiUnknown", None),
    ],
)
def test_other_files_are_called_by_their_format(page_modules, content, key, format):
    problem = refused(page_modules, content)
    assert (problem.key, problem.values.get("format")) == (key, format)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"datatype": 128}, "niftiDatatype"),
        ({"datatype": 32}, "niftiDatatype"),
        ({"datatype": 1536}, "niftiDatatype"),
        ({"datatype": 7}, "niftiDatatype"),
        ({"dim": [3, 2, -3, 4, 1, 1, 1, 1]}, "niftiHeader"),
        ({"dim": [3, 2, 0, 4, 1, 1, 1, 1]}, "niftiHeader"),
        ({"dim": [1, 24, 1, 1, 1, 1, 1, 1]}, "niftiHeader"),
        ({"dim": [5, 2, 1, 3, 2, 2, 1, 1]}, "niftiAxes"),
        ({"vox_offset": 12}, "niftiHeader"),
        ({"vox_offset": np.nan}, "niftiHeader"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "niftiHeader"),
        ({"srow_x": [0, 0, 0, 0]}, "niftiAffine"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "niftiAffine"),
        ({"srow_x": [0, 1, 0, 0]}, "niftiAffine"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 2}, "niftiAffine"),
        ({"magic": b"ni1"}, "niftiPair"),
        ({"magic": b""}, "niftiPair"),
    ],
)
def test_headers_that_cannot_be_are_refused(page_modules, fields, key):
    assert refused(page_modules, nifti(**fields)).key == key


def test_voxels_that_are_not_finite_are_counted(page_modules):
    content = header_of(datatype=16, bitpix=32) + np.float32([np.nan, np.inf] + [1] * 22).tobytes()
    problem = refused(page_modules, content)
    assert (problem.key, problem.values["count"]) == ("niftiNotFinite", 2)
    beyond = header_of(scl_slope=1e38) + np.full(24, 9, "i2").tobytes()
    assert refused(page_modules, beyond).values["count"] == 24


def test_no_damage_of_a_header_does_anything_but_a_problem(page_modules):
    rng = np.random.default_rng(3)
    whole = nifti()
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, 352, rng.integers(1, 6)):
            content[place] = rng.integers(256)
        packed = bytes(content) if rng.random() < 0.5 else gzip.compress(bytes(content))
        try:
            images = page_read(page_modules, packed)
        except PageProblem:
            continue
        assert all(np.isfinite(data_of(image)).all() for image in images)


@pytest.mark.parametrize(
    "pattern",
    ["hippocampus/images/*.nii*", "ms_lesions/patient07/flair.nii.gz",
     "ms_lesions/patient07/lesions.nii.gz", "ms_longitudinal/**/study1_FLAIR.nii.gz"],
)  # fmt: skip
def test_real_files_are_read_and_their_masks_placed_as_nibabel_does(
    page_modules, tmp_path, data_dir, pattern
):
    path = sorted(data_dir.glob(pattern))[0]
    (image,) = page_read(page_modules, path.read_bytes(), path.name)
    loaded = nib.load(path)
    expected = np.asarray(loaded.dataobj).reshape(image["volume"]["shape"]).astype(np.float32)
    np.testing.assert_array_equal(data_of(image), expected)
    np.testing.assert_allclose(image["volume"]["affine"], loaded.affine, rtol=0, atol=1e-5)
    mask = (expected > expected.mean()).astype(np.uint8)
    written = page_modules.call(
        "io/nifti.writeNifti", bytes_of(image["header"]), mask.shape, mask.ravel(), {"gzip": True}
    )
    made = Nifti1Image.from_bytes(gzip.decompress(written.tobytes()))
    np.testing.assert_array_equal(made.dataobj, mask)
    segjax.write(segjax.Volume(mask, loaded.affine), tmp_path / "mask.nii.gz", like=path)
    segjax_made = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(made.affine, segjax_made.affine)
    assert made.header["qform_code"] == segjax_made.header["qform_code"]
    assert made.header["sform_code"] == segjax_made.header["sform_code"]
