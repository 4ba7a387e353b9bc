"""A folder of odd files through the whole program: each comes out right, or is named."""

import contextlib
import gzip
import io
import re
import struct
import unicodedata

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from segjax.cli import main
from segjax.data.io.formats import read_volume
from segjax.grid import reorient
from segjax.volume import Volume

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("odd files")]  # one training for all

SHAPE = (24, 32, 16)
AFFINE = np.array([[1.0, 0, 0, -12], [0, 1.0, 0, -16], [0, 0, 2.0, 5], [0, 0, 0, 1]])
BALL = sum((a - c) ** 2 for a, c in zip(np.indices(SHAPE), (9, 20, 7), strict=True)) < 25
DATA = np.where(BALL, 900, np.random.default_rng(0).integers(0, 300, SHAPE)).astype(np.int16)


def image(data=DATA, affine=AFFINE, kind=nib.Nifti1Image):
    made = kind(data, affine)
    made.set_sform(affine, 1)
    if np.allclose(affine[:3, :3].T @ affine[:3, :3], np.diag([1, 1, 4])):
        made.set_qform(affine, 1)
    return made


def raw(changes=(), **options):
    """Return the bytes of a NIfTI file with fields of its header overwritten."""
    content = bytearray(image(**options).to_bytes())
    for place, form, *values in changes:
        struct.pack_into(form, content, place, *values)
    return bytes(content)


def turned(angle):
    affine = AFFINE.copy()
    c, s = np.cos(angle), np.sin(angle)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    return affine


def niftis(folder):
    """Write NIfTI files that hold the same anatomy in odd ways."""

    def put(name, content):
        (folder / name).write_bytes(content)

    nib.save(image(), folder / "plain.nii.gz")
    nib.save(image(DATA.astype(np.float64)), folder / "float64.nii")
    nib.save(image(kind=nib.Nifti2Image), folder / "nifti2.nii.gz")
    put("big_endian.nii", nib.Nifti1Image(DATA, AFFINE, image().header.as_byteswapped()).to_bytes())
    put("uncompressed.nii.gz", raw())
    put("compressed.nii", gzip.compress(raw()))
    put("UPPER.NII.GZ", gzip.compress(raw()))
    put("no_intent_5d.nii", raw(data=DATA[..., None, None]))
    put("quaternion.nii", raw([(256, "<fff", *[np.sqrt((1 + 8e-7) / 3)] * 3), (252, "<h", 0)]))
    put("nan_pixdim.nii", raw([(76, "<f", np.nan), (256, "<f", np.nan)]))
    put("qform_only.nii", raw([(254, "<h", 0)]))
    scaled = image(DATA)
    scaled.header.set_slope_inter(2.5, -100)
    put("scaled.nii", scaled.to_bytes())
    metres = AFFINE.copy()
    metres[:3] /= 1000
    small = nib.Nifti1Image(DATA, metres)
    small.header.set_xyzt_units("meter")
    small.set_sform(metres, 1)
    nib.save(small, folder / "metres.nii.gz")
    nib.save(image(DATA[::-1], AFFINE @ flip(0)), folder / "left.nii.gz")
    nib.save(image(DATA[:, ::-1, ::-1], AFFINE @ flip(1) @ flip(2)), folder / "flipped.nii.gz")
    swapped = AFFINE[:, [2, 0, 1, 3]]
    nib.save(image(DATA.transpose(2, 0, 1), swapped), folder / "swapped.nii.gz")
    nib.save(image(affine=turned(0.3)), folder / "oblique.nii.gz")
    rounded = np.round(turned(0.3), 3)
    nib.save(image(affine=rounded), folder / "rounded.nii.gz")
    nib.save(image(DATA + np.int16(1000)), folder / "offset.nii.gz")
    put(unicodedata.normalize("NFD", "Zoë.nii"), raw())
    put("kept elsewhere.bin", gzip.compress(raw()))
    (folder / "link.nii.gz").symlink_to(folder / "kept elsewhere.bin")


def flip(axis):
    index = np.eye(4)
    index[axis, axis], index[axis, 3] = -1, SHAPE[axis] - 1
    return index


def others(folder):
    """Write other formats."""
    volume = sitk.GetImageFromArray(DATA.T)
    volume.SetSpacing((1, 1, 2))
    volume.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    volume.SetOrigin((12, 16, 5))
    for name in ("slicer.nrrd", "meta.mha", "meta2.mhd"):
        sitk.WriteImage(volume, str(folder / name))


def dicoms(folder):
    """Write DICOM series that hold the same anatomy in odd ways."""
    for k in range(SHAPE[2]):
        dicom(folder / "two_folders" / f"part{k // 9}", k)
        dicom(folder / "slice_folders" / f"s{k:02}", k, SeriesInstanceUID=None, SeriesNumber=None)
        dicom(folder / "no_preamble" / "a", k, preamble=bool(k % 2))
        dicom(folder / "inversions" / "a", k, InversionTime=["2500", "2500.5"][k % 2])
        dicom(
            folder / "cosines" / "a",
            k,
            ImageOrientationPatient=[-0.955, -0.296, 0, 0.296, -0.955, 0],
        )


def dicom(folder, k, *, preamble=True, **tags):
    folder.mkdir(parents=True, exist_ok=True)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    ds.PatientID, ds.Modality = folder.parent.name, "MR"
    ds.SeriesInstanceUID, ds.SeriesNumber = "1.2.3.4", 3
    ds.Rows, ds.Columns, ds.SamplesPerPixel = SHAPE[1], SHAPE[0], 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.ImagePositionPatient = [12, 16, 5 + 2.0 * k]
    ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 2
    ds.PixelData = DATA[:, :, k].T.astype(np.uint16).tobytes()
    for name, value in tags.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if preamble else ImplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path = folder / f"i{k:03d}.dcm"
    ds.save_as(path, enforce_file_format=True)
    if not preamble:
        content = path.read_bytes()
        path.write_bytes(content[144 + struct.unpack_from("<I", content, 140)[0] :])


BAD = {
    "truncated": lambda path: path.write_bytes(gzip.compress(raw())[:2000]),
    "not_finite": lambda path: nib.save(image(np.where(BALL, np.nan, DATA)), path),
    "two_channels": lambda path: nib.save(image(np.stack([DATA, DATA], -1)), path),
    "text": lambda path: path.write_text("no image\n"),
    "empty": lambda path: path.touch(),
    "dangling": lambda path: path.symlink_to(path.parent / "annex"),
    "flat": lambda path: path.write_bytes(raw([(280, "<4f", 0, 0, 0, 0), (252, "<h", 0)])),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a data set of odd images, each with its label, and of bad ones."""
    folder = tmp_path_factory.mktemp("odd")
    images, labels = folder / "images", folder / "labels"
    images.mkdir()
    labels.mkdir()
    niftis(images)
    others(images)
    dicoms(images)
    for path in list(images.iterdir()):
        if path.name not in ("kept elsewhere.bin", "meta2.raw"):
            name = re.sub(r"\.(nii\.gz|NII\.GZ|nii|nrrd|mha|mhd)$", "", path.name)
            volume = reorient(read_volume(path), "RAS")
            write_label(labels / f"{name}.nii.gz", path, volume)
    for name, make in BAD.items():
        make(images / f"{name}.nii.gz")
        nib.save(image(BALL.astype(np.uint8)), labels / f"{name}.nii.gz")
    return folder


def write_label(path, source, upright):
    """Write the ball on the grid that an image has on disk."""
    given = read_volume(source)
    lesion = (reorient(given.with_data(given.data.reshape(given.spatial_shape)), "RAS").data) > (
        0.8 * upright.data.max()
    )
    back = Volume(lesion.reshape(upright.spatial_shape).astype(np.uint8), upright.affine)
    from segjax.grid import grid, restore_orientation

    nib.save(
        nib.Nifti1Image(restore_orientation(back, grid(given), "RAS").data, given.affine), path
    )


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return code, out.out + out.err


def good_names(folder):
    return {path.name.removesuffix(".nii.gz") for path in (folder / "labels").iterdir()} - set(BAD)


def test_every_image_has_the_voxels_and_the_places_of_the_plain_one(made):
    for path in (made / "images").iterdir():
        if path.stem.split(".")[0] in BAD or path.name in ("kept elsewhere.bin", "meta2.raw"):
            continue
        volume = reorient(read_volume(path), "RAS")
        data = volume.data.reshape(SHAPE).astype(np.float64)
        data = data / 2.5 + 40 if path.name == "scaled.nii" else data
        data = data - 1000 if path.name == "offset.nii.gz" else data
        assert np.array_equal(data, DATA), path
        assert volume.voxel_size == pytest.approx(2, rel=2e-3), path


def test_info_describes_or_names_each(made, capsys):
    for path in (made / "images").iterdir():
        if path.name in ("kept elsewhere.bin", "meta2.raw"):
            continue
        code, said = run(capsys, "info", path)
        bad = path.name.split(".")[0] in set(BAD) - {"not_finite", "two_channels"}
        assert code == bool(bad), said
        assert path.name in said
        if not bad:
            assert "24 × 32 × 16" in said or "32" in said


def test_preprocessing_makes_the_good_ones_and_names_the_others(made, tmp_path, capsys):
    steps = tmp_path / "steps.json"
    steps.write_text('[{"step": "reorient"}, {"step": "min-max"}]')
    code, said = run(capsys, "preprocess", made, tmp_path / "out", "--config", steps, "-j", 1)
    assert code == 1
    for name in set(BAD) - {"two_channels"}:
        assert f"{name}.nii.gz" in said
    there = {normal(p.name) for p in (tmp_path / "out" / "cases").iterdir()}
    wanted = {normal(name) for name in good_names(made)}
    assert there == wanted | {"two_channels"}
    assert "different numbers of channels" in said
    first = np.load(tmp_path / "out" / "cases" / "plain" / "image.npy")
    for name in wanted - {"plain"}:
        other = np.load(tmp_path / "out" / "cases" / name / "image.npy")
        assert np.allclose(other, first, atol=1e-3), name


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory, small_networks):
    """Train on what is left when the images that are named have been taken away."""
    folder, named = tmp_path_factory.mktemp("run") / "run", []
    options = ["--model", "small3d", "--epochs", "6", "--batch-size", "4"]
    options += ["--patch-size", "24", "32", "16", "--learning-rate", "0.02", "--dropout", "0"]
    for _ in range(len(BAD) + 1):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["train", "--data", str(made), "--out", str(folder), *options])
        if code == 0:
            break
        named.append(take_away(made, said.getvalue()))
    return code, named, folder


def take_away(made, said):
    """Set aside the bad image that an error names, as somebody does who reads it."""
    error = next(line for line in said.splitlines() if line.startswith("segjax: error"))
    (name,) = (name for name in BAD if re.search(rf"\b{name}\b", error))
    for part in ("images", "labels"):
        (made / f"aside_{part}").mkdir(exist_ok=True)
        (made / part / f"{name}.nii.gz").rename(made / f"aside_{part}" / f"{name}.nii.gz")
    return name


def test_training_names_one_bad_image_after_another_and_takes_the_rest(trained):
    code, named, _ = trained
    assert code == 0
    assert set(named) == set(BAD)


def test_prediction_makes_the_good_ones_right_and_names_the_others(made, trained, tmp_path, capsys):
    model, masks = trained[2] / "model.onnx", tmp_path / "masks"
    inputs = [made / "images", made / "aside_images"]
    code, said = run(capsys, "predict", model, *inputs, "-o", masks)
    assert code == 1
    for name in BAD:
        assert f"{name}.nii.gz" in said
    assert "kept elsewhere.bin" in said
    found = {case_of(path): path for path in masks.iterdir() if path.suffix != ".csv"}
    assert set(found) == {normal(name) for name in good_names(made)}
    expected = reorient(read_volume(found["plain"]), "RAS").data
    assert 0.8 < expected.sum() / BALL.sum() < 1.2
    for name, mask in found.items():
        volume = read_volume(mask)
        assert np.array_equal(reorient(volume, "RAS").data.reshape(SHAPE), expected), name
        assert sitk.ReadImage(str(mask)).GetSize() == volume.spatial_shape
        assert_placed_as_its_image(made, name, volume)


def normal(name):
    return unicodedata.normalize("NFC", name)


def case_of(path):
    """Return the name of the image that a mask is of; a series has that of its folders."""
    return normal(re.split(r"\.(?:nii|seg|nrrd|NII)", path.name)[0]).removesuffix("_a")


def assert_placed_as_its_image(made, name, mask):
    (source,) = (
        path
        for path in (made / "images").iterdir()
        if normal(path.name) == name or normal(path.name).startswith(f"{name}.")
        if path.suffix != ".raw"
    )
    last = np.array(mask.spatial_shape)[:, None] - 1
    corners = np.vstack([np.indices((2, 2, 2)).reshape(3, -1) * last, np.ones(8)])
    apart = np.abs((mask.affine - read_volume(source).affine) @ corners)
    assert apart.max() < 0.05, name
