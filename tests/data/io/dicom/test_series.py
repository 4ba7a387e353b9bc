"""DICOM series: what SimpleITK, pydicom and dcm2niix read, and what nobody should."""

import gzip
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tracemalloc
import types
import zipfile
from contextlib import nullcontext
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from segjax.data.io.dicom.series import (
    Series,
    choose_series,
    convert,
    find_series,
    holds_dicom,
    is_dicom,
    read_dicom,
    scan,
    series_files,
    sidecar,
    write_sidecar,
)
from segjax.errors import InputError
from segjax.grid import orientation, reorient

OBLIQUE = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
AXIAL = np.eye(3)
TILTED = Rotation.from_euler("x", 20, degrees=True).as_matrix()
SHAPE = (4, 6, 5)  # slices, rows, columns
SERIES = generate_uid(entropy_srcs=["segjax"])
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def tmp_path(tmp_path):
    """Return a folder with none beside it or above: the series of all tests have one UID."""
    (tmp_path / "only" / "study").mkdir(parents=True)
    return tmp_path / "only" / "study"


def values(shape=SHAPE, dtype=np.int16):
    return np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)


def dataset(pixels, position=(0, 0, 0), *, directions=AXIAL, syntax=ExplicitVRLittleEndian, **tags):
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = MRImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Modality, one.SeriesInstanceUID, one.SeriesNumber = "MR", SERIES, 4
    one.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    if position is not None:
        one.ImagePositionPatient = [round(float(x), 6) for x in position]
        one.ImageOrientationPatient = [round(float(x), 8) for x in directions[:, :2].T.ravel()]
    one.PixelSpacing, one.SliceThickness = [0.5, 0.75], 2.5
    one.Rows, one.Columns = pixels.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = pixels.dtype.itemsize * 8
    one.HighBit, one.PixelRepresentation = one.BitsStored - 1, int(pixels.dtype.kind == "i")
    one.PixelData = pixels.astype(pixels.dtype.newbyteorder(endian(syntax))).tobytes()
    one["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(one, tag, value)
    return one


def endian(syntax):
    return ">" if syntax == ExplicitVRBigEndian else "<"


def save(one, path):
    syntax = one.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        path,
        one,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return path


def write(folder, data, *, directions=AXIAL, step=3.0, names=None, start=(10, -20, 30), **tags):
    """Write one file per slice; the names are not in the order of the slices."""
    folder.mkdir(exist_ok=True, parents=True)
    names = names or [f"{(7 * k + 3) % 10_007:05d}.dcm" for k in range(len(data))]
    for k, (name, pixels) in enumerate(zip(names, data, strict=True)):
        position = np.array(start) + k * step * directions[:, 2]
        one = dataset(pixels, position, directions=directions, **tags)
        one.InstanceNumber = k + 1
        save(one, folder / name)
    return folder


def write_enhanced(path, data, positions, *, rescale=None, echoes=None, **tags):
    """Write one file of many frames with functional groups."""
    one = dataset(data, None, **tags)
    del one.PixelSpacing, one.SliceThickness
    one.NumberOfFrames = len(data)
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2.5
    plane.ImageOrientationPatient = [round(float(x), 8) for x in OBLIQUE[:, :2].T.ravel()]
    timing = Dataset()
    timing.RepetitionTime, timing.FlipAngle = 9000.0, 90
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    one.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k, position in enumerate(positions):
        group, place, scale, echo = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [round(float(x), 6) for x in position]
        group.PlanePositionSequence = [place]
        scale.RescaleSlope, scale.RescaleIntercept = (rescale or [(1, 0)] * len(data))[k]
        group.PixelValueTransformationSequence = [scale]
        echo.EffectiveEchoTime = (echoes or [100.0] * len(data))[k]
        group.MREchoSequence = [echo]
        groups.append(group)
    one.PerFrameFunctionalGroupsSequence = groups
    return save(one, path)


def itk_affine(image):
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def read_with_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


# -- the real series ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flair(data_dir):
    return data_dir / "dicom" / "flair_oblique"


def test_a_real_oblique_series_is_read_as_simpleitk_reads_it(flair):
    volume, image = read_dicom(flair), read_with_itk(flair)
    assert volume.data.shape == (512, 512, 22)
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-5)


def test_both_readers_agree_on_a_real_oblique_series(flair):
    ours, theirs = read_dicom(flair), read_dicom(flair, reader="dcm2niix")
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert ours.data.dtype == theirs.data.dtype
    np.testing.assert_allclose(ours.affine, theirs.affine, rtol=0, atol=1e-4)
    corner = np.array([511, 511, 21, 1])
    assert np.linalg.norm((ours.affine - theirs.affine) @ corner) < 2e-3  # mm


def test_dcm2niix_turns_the_rows_of_a_real_series(flair, tmp_path):
    import dcm2niix

    dcm2niix.main(["-f", "x", "-o", str(tmp_path), str(flair)], capture_output=True, check=True)
    image = nibabel.load(tmp_path / "x.nii")
    ours = read_dicom(flair)
    assert orientation(ours.affine) == "LPS"
    assert orientation(image.affine) == "LAS"
    turned = reorient(ours, "LAS")
    np.testing.assert_array_equal(turned.data, np.asarray(image.dataobj))
    np.testing.assert_allclose(turned.affine, image.affine, rtol=0, atol=2e-3)


def test_one_file_of_a_real_series_stands_for_all(flair):
    volume = read_dicom(flair / "000005.dcm")
    assert volume.data.shape == (512, 512, 22)
    assert len(series_files(flair / "000005.dcm")) == 22


# -- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [AXIAL, OBLIQUE, OBLIQUE @ np.diag([1, -1, -1])])
def test_slices_are_placed_as_simpleitk_places_them(tmp_path, directions):
    volume = read_dicom(write(tmp_path, values(), directions=directions))
    image = read_with_itk(tmp_path)
    np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-5)


def test_the_affine_is_that_of_the_standard(tmp_path):
    volume = read_dicom(write(tmp_path, values(), directions=OBLIQUE))
    expected = np.eye(4)
    expected[:3, :3] = OBLIQUE * [0.75, 0.5, 3]  # columns are 0.75 mm apart, rows 0.5 mm
    expected[:3, 3] = [10, -20, 30]
    np.testing.assert_allclose(volume.affine, LPS_TO_RAS @ expected, atol=1e-6)
    np.testing.assert_array_equal(volume.data, values().T)


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    order=st.permutations(range(SHAPE[0])),
    step=st.floats(0.5, 8),
)
def test_any_orientation_in_any_order_of_names(tmp_path_factory, angles, order, step):
    directions = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    folder = tmp_path_factory.mktemp("series")
    names = [f"{n}.dcm" for n in order]
    volume = read_dicom(write(folder, values(), directions=directions, step=step, names=names))
    np.testing.assert_array_equal(volume.data, values().T)
    expected = np.column_stack([directions * [0.75, 0.5, step], [10, -20, 30]])
    np.testing.assert_allclose(volume.affine[:3], (LPS_TO_RAS[:3, :3] @ expected), atol=1e-5)


def test_sheared_slices_keep_their_shear(tmp_path):
    for k, pixels in enumerate(values()):  # a tilted gantry
        save(dataset(pixels, (0, k * 1.0, k * 3.0)), tmp_path / f"{k}")
    np.testing.assert_allclose(read_dicom(tmp_path).affine[:3, 2], [0, -1, 3])


@pytest.mark.parametrize(
    ("tags", "thickness"),
    [({}, 2.5), ({"SpacingBetweenSlices": 4}, 4), ({"SliceThickness": None}, 1)],
)
def test_a_single_slice_is_as_thick_as_it_says(tmp_path, tags, thickness):
    volume = read_dicom(write(tmp_path, values((1, 6, 5)), **tags))
    assert volume.data.shape == (5, 6, 1)
    assert volume.spacing == pytest.approx((0.75, 0.5, thickness))


@pytest.mark.parametrize(("missing", "text"), [([2], "1 slice is"), ([2, 3], "2 slices are")])
def test_missing_slices_are_named(tmp_path, missing, text):
    write(tmp_path, values((8, 6, 5)), names=[f"s{k}" for k in range(8)])
    for k in missing:
        (tmp_path / f"s{k}").unlink()
    above = 30 + 3 * (missing[-1] + 1)
    message = (
        rf"{text} missing between 33\.00 and {above}\.00 mm along the normal, between s1 and "
        rf"s{missing[-1] + 1}: the others lie 3 mm apart"
    )
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path)


def test_a_gap_in_three_slices_is_seen(tmp_path):
    write(tmp_path, values((4, 6, 5)), names=["a", "b", "c", "d"])
    (tmp_path / "c").unlink()
    with pytest.raises(InputError, match=r"1 slice is missing between 33\.00 and 39\.00 mm"):
        read_dicom(tmp_path)


def test_duplicate_slices_are_named(tmp_path):
    write(tmp_path, values(), names=["a", "b", "c", "d"])
    shutil.copy(tmp_path / "b", tmp_path / "copy of b")
    message = r"two slices lie at 33\.00 mm along the normal: b and copy of b; remove one"
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path)


def test_uneven_slices_are_refused(tmp_path):
    for k, z in enumerate([0, 3, 6, 10.3, 13.3]):
        save(dataset(values()[0], (0, 0, z)), tmp_path / f"{k}")
    with pytest.raises(InputError, match=r"slices are spaced unevenly: . lies"):
        read_dicom(tmp_path)


def test_slices_beside_the_line_are_refused(tmp_path):
    for k, x in enumerate([0, 0, 2, 0]):
        save(dataset(values()[0], (x, 0, 3 * k)), tmp_path / f"{k}")
    with pytest.raises(InputError, match=r"unevenly: 2 lies 2\.00 mm from where steps of 3 mm"):
        read_dicom(tmp_path)


def test_rounded_positions_are_forgiven(tmp_path):
    for k, z in enumerate([0, 3.01, 5.99, 9.0]):
        save(dataset(values()[k], (0, 0, z)), tmp_path / f"{k}")
    assert read_dicom(tmp_path).spacing[2] == pytest.approx(3)


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_stored_numbers_keep_their_type(tmp_path, dtype, syntax):
    limits = np.iinfo(dtype)
    data = np.random.default_rng(1).integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)
    volume = read_dicom(write(tmp_path, data, syntax=syntax))
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, data.T)


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4"])
def test_big_endian(tmp_path, dtype):
    volume = read_dicom(write(tmp_path, values(dtype=np.dtype(dtype)), syntax=ExplicitVRBigEndian))
    np.testing.assert_array_equal(volume.data, values().T)


def test_big_endian_bytes_in_words_are_refused(tmp_path):
    write(tmp_path, values(dtype=np.uint8), syntax=ExplicitVRBigEndian)
    with pytest.raises(InputError, match="pixels of 8 bits up to bit 7 in 8 cannot be read"):
        read_dicom(tmp_path)


def test_bits_beside_the_number_are_dropped(tmp_path):
    stored = np.array([[0xF7FF, 0x0800, 0x0001, 0xFFFF]], np.uint16)  # 12 bits, and others above
    tags = {"BitsStored": 12, "HighBit": 11}
    save(dataset(stored, **tags), tmp_path / "u")
    np.testing.assert_array_equal(read_dicom(tmp_path / "u").data.ravel(), [2047, 2048, 1, 4095])
    tags |= {"PixelRepresentation": 1, "SeriesInstanceUID": "1.2"}
    save(dataset(stored, **tags), tmp_path / "i")
    np.testing.assert_array_equal(read_dicom(tmp_path / "i").data.ravel(), [2047, -2048, 1, -1])
    shifted = {"BitsStored": 12, "HighBit": 15, "SeriesInstanceUID": "1.3"}
    save(dataset(np.array([[0xFFF5]], np.uint16), **shifted), tmp_path / "s")
    assert read_dicom(tmp_path / "s").data.ravel() == [4095]


@pytest.mark.parametrize("rescale", [(2.0, -1024.0), (0.25, 0.5), (1.0, 5.0)])
def test_values_are_rescaled_to_float32(tmp_path, rescale):
    slope, intercept = rescale
    volume = read_dicom(write(tmp_path, values(), RescaleSlope=slope, RescaleIntercept=intercept))
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, values().T * slope + intercept)
    itk = sitk.GetArrayFromImage(read_with_itk(tmp_path)).T
    np.testing.assert_allclose(volume.data, itk, rtol=1e-7)


def test_each_slice_has_its_own_rescaling(tmp_path):
    for k, pixels in enumerate(values()):
        save(dataset(pixels, (0, 0, 3 * k), RescaleSlope=k + 0.5), tmp_path / f"{k}")
    expected = values().T * (np.arange(SHAPE[0]) + 0.5)
    np.testing.assert_array_equal(read_dicom(tmp_path).data, expected)


def test_signed_and_unsigned_slices_share_a_type(tmp_path):
    save(dataset(np.array([[-5, 7]], np.int16)), tmp_path / "a")
    save(dataset(np.array([[65535, 7]], np.uint16), (0, 0, 3)), tmp_path / "b")
    volume = read_dicom(tmp_path)
    assert volume.data.dtype == np.int32
    np.testing.assert_array_equal(volume.data[:, 0].T, [[-5, 7], [65535, 7]])


def compress(folder, syntax):
    for file in sorted(folder.iterdir()):
        one = pydicom.dcmread(file)
        one.compress(syntax, encoding_plugin="pyjpegls" if syntax == JPEGLSLossless else "pydicom")
        one.save_as(file)
    return folder


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_compressed_pixels_are_decoded(tmp_path, syntax, dtype):
    data = values((4, 16, 12), np.dtype(dtype)) % 100
    write(tmp_path, data, directions=OBLIQUE)
    volume = read_dicom(compress(tmp_path, syntax))
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data, data.T)


def itk_stream(pixels, compressor, folder):
    """Return the compressed stream of a slice, and its transfer syntax, from GDCM's encoder."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(folder / "encoded.dcm"))
    writer.Execute(sitk.GetImageFromArray(pixels[None]))
    one = pydicom.dcmread(folder / "encoded.dcm")
    (folder / "encoded.dcm").unlink()
    return next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1)), one


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_lossless_jpeg_and_jpeg_2000_are_decoded(tmp_path, compressor, dtype):
    data = values((3, 16, 12), np.dtype(dtype)) % 100
    for k, pixels in enumerate(data):
        stream, encoded = itk_stream(pixels, compressor, tmp_path)
        one = dataset(pixels, (0, 0, 3 * k))
        one.file_meta.TransferSyntaxUID = encoded.file_meta.TransferSyntaxUID
        one.PixelData = encapsulate([stream])
        save(one, tmp_path / f"{k}.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path).data, data.T)


def test_several_fragments_make_a_frame(tmp_path):
    pixels = values((1, 16, 12))[0]
    stream, encoded = itk_stream(pixels, "JPEG2000", tmp_path)
    one = dataset(pixels)
    one.file_meta.TransferSyntaxUID = encoded.file_meta.TransferSyntaxUID
    one.PixelData = encapsulate([stream], fragments_per_frame=3)
    np.testing.assert_array_equal(read_dicom(save(one, tmp_path / "a")).data[..., 0], pixels.T)


def test_decoding_leaves_no_temporary_files_and_hands_on_no_header(tmp_path, monkeypatch):
    scratch, seen = tmp_path / "scratch", []
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    data = values((4, 16, 12))
    compress(write(tmp_path / "series", data, PatientName="MARKER^ONE"), RLELossless)
    original = sitk.ImageFileReader.Execute
    monkeypatch.setattr(
        sitk.ImageFileReader,
        "Execute",
        lambda reader: (seen.append(Path(reader.GetFileName()).read_bytes()), original(reader))[1],
    )
    read_dicom(tmp_path / "series")
    assert len(seen) == SHAPE[0]
    assert not any(b"MARKER" in content for content in seen)
    assert list(scratch.iterdir()) == []


CORPUS = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.glob("MR_small*")))
def test_a_real_slice_is_the_same_in_every_transfer_syntax(tmp_path, name):
    path = shutil.copy(CORPUS / name, tmp_path)
    expected = pydicom.dcmread(CORPUS / "MR_small.dcm").pixel_array
    padded = name == "MR_small_padded.dcm"  # as long as if it had another row
    message = r"MR_small_padded\.dcm: left out 128 bytes of padding after its pixels"
    with pytest.warns(UserWarning, match=message) if padded else nullcontext():
        volume = read_dicom(path)
    np.testing.assert_array_equal(volume.data[..., 0].T, expected)


def read_or_none(path):
    try:
        return read_dicom(path)
    except InputError:
        return None


@pytest.mark.filterwarnings("ignore:.*padding")
def test_odd_files_are_read_as_pydicom_reads_them_or_refused(tmp_path):
    read = 0
    for file in sorted(CORPUS.glob("*.dcm")):
        (tmp_path / file.stem).mkdir()
        volume = read_or_none(shutil.copy(file, tmp_path / file.stem))
        if volume is not None:
            one = pydicom.dcmread(file)
            expected = one.pixel_array * float(one.get("RescaleSlope", 1))
            expected += float(one.get("RescaleIntercept", 0))
            np.testing.assert_array_equal(volume.data[..., 0].T, expected)
            read += 1
    assert read >= 10


# -- objects of many frames ---------------------------------------------------------------------


def oblique_positions(count, step=3.0):
    return [np.array([10, -20, 30]) + k * step * OBLIQUE[:, 2] for k in range(count)]


def test_frames_of_one_file_are_ordered_by_their_places(tmp_path):
    order = [2, 0, 3, 1]
    places = oblique_positions(4)
    path = write_enhanced(tmp_path / "e.dcm", values()[order], [places[k] for k in order])
    volume = read_dicom(path)
    np.testing.assert_array_equal(volume.data, values().T)
    expected = np.column_stack([OBLIQUE * [0.75, 0.5, 3], [10, -20, 30]])
    np.testing.assert_allclose(volume.affine[:3], LPS_TO_RAS[:3, :3] @ expected, atol=1e-5)


def test_frames_have_their_own_rescaling(tmp_path):
    rescale = [(k + 1.5, -k) for k in range(4)]
    write_enhanced(tmp_path / "e.dcm", values(), oblique_positions(4), rescale=rescale)
    expected = values().T * (np.arange(4) + 1.5) - np.arange(4)
    np.testing.assert_array_equal(read_dicom(tmp_path).data, expected)


def test_echoes_in_one_file_are_series_of_their_own(tmp_path):
    places = oblique_positions(2)
    path = write_enhanced(
        tmp_path / "e.dcm", values(), [places[0], places[0], places[1], places[1]],
        echoes=[10.0, 80.0] * 2,
    )  # fmt: skip
    first, second = find_series(tmp_path)
    assert (first.name, second.name) == ("4-1", "4-2")
    np.testing.assert_array_equal(read_dicom(second).data, values()[1::2].T)
    np.testing.assert_array_equal(read_dicom(path, series="4-1").data, values()[::2].T)
    with pytest.raises(InputError, match=r"holds 2 series: 4-1 \(MR, 2 slices of 5×6"):
        read_dicom(path)


def test_compressed_frames_of_one_file(tmp_path):
    data = values((4, 16, 12))
    path = write_enhanced(tmp_path / "e.dcm", data, oblique_positions(4))
    compress(tmp_path, RLELossless)
    np.testing.assert_array_equal(read_dicom(path).data, data.T)
    one = pydicom.dcmread(path)
    streams = list(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=4))
    for count, message in ((3, "holds 3 of 4 frames"), (5, "holds 5 of 4 frames")):
        one.PixelData = encapsulate((streams + streams)[:count])
        with pytest.raises(InputError, match=message):
            read_dicom(save(one, path))
    one.PixelData = encapsulate(streams[:3], has_bot=False)
    with pytest.raises(InputError, match="compressed pixels are corrupt: Unable to generate"):
        read_dicom(save(one, path))


def test_a_missing_frame_is_named(tmp_path):
    places = oblique_positions(5)
    write_enhanced(tmp_path / "e.dcm", values(), places[:3] + places[4:])
    message = r"1 slice is missing .* between e\.dcm \(frame 3\) and e\.dcm \(frame 4\)"
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path)


def test_frames_that_are_not_described_are_refused(tmp_path):
    path = write_enhanced(tmp_path / "e.dcm", values(), oblique_positions(3))
    with pytest.raises(InputError, match=r"e\.dcm: describes 3 of its 4 frames"):
        read_dicom(path)


def test_many_frames_without_places_are_refused(tmp_path):
    save(dataset(values(), NumberOfFrames=4), tmp_path / "cine.dcm")
    with pytest.raises(InputError, match=r"cine\.dcm: says nothing of its position"):
        read_dicom(tmp_path / "cine.dcm")


# -- which series -------------------------------------------------------------------------------


def test_series_are_found_in_folders_and_by_content(tmp_path):
    write(tmp_path / "a" / "deep", values(), names=["IM0", "IM1", "1.2.3", "x.dcm"])
    other = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 2, "SeriesDescription": "T1"}
    write(tmp_path / "b", values((3, 6, 5)), **other)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    first, second = find_series(tmp_path)
    assert (first.name, first.uid, first.description) == ("2", "1.2.3", "T1")
    assert (second.name, second.modality, len(second.files)) == ("4", "MR", 4)
    assert first.grid.shape == (5, 6, 3)
    assert holds_dicom(tmp_path)
    assert not is_dicom(tmp_path / "b" / "notes.txt")
    assert not is_dicom(tmp_path / "none")


def test_one_of_several_series_is_chosen(tmp_path):
    write(tmp_path, values(), SeriesDescription="FLAIR")
    names = ["a", "b", "c"]
    write(tmp_path, values((3, 6, 5)), SeriesInstanceUID="1.2.3", SeriesNumber=2, names=names)
    message = (
        r"holds 2 series: 2 \(MR, 3 slices of 5×6\); 4 \(MR, 4 slices of 5×6\); "
        r"choose with --series 2 on the command line, series='2' in Python, or give a file"
    )
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path)
    for choice in (2, "2", "1.2.3"):
        assert read_dicom(tmp_path, series=choice).data.shape == (5, 6, 3)
    assert read_dicom(tmp_path / "b").data.shape == (5, 6, 3)
    assert read_dicom(find_series(tmp_path)[1]).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match="holds no series 7"):
        read_dicom(tmp_path, series=7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"EchoTime": 10}, {"EchoTime": 80}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({"InversionTime": 700}, {"InversionTime": 2500}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"TriggerTime": 0}, {"TriggerTime": 400}),
        ({"SequenceName": "ep_b0"}, {"SequenceName": "ep_b1000#1"}),
        ({"PixelSpacing": [0.5, 0.75]}, {"PixelSpacing": [0.5, 0.8]}),
        ({"directions": AXIAL}, {"directions": TILTED}),
    ],
)  # fmt: skip
def test_what_cannot_be_one_volume_is_told_apart(tmp_path, one, other):
    write(tmp_path / "a", values(), **one)
    write(tmp_path / "b", values() + 1, **other)
    found = find_series(tmp_path)
    assert [series.name for series in found] == ["4-1", "4-2"]
    np.testing.assert_array_equal(read_dicom(found[0]).data, values().T)
    np.testing.assert_array_equal(read_dicom(found[1]).data, values().T + 1)


def test_sizes_are_told_apart(tmp_path):
    write(tmp_path / "a", values())
    write(tmp_path / "b", values((4, 6, 7)))
    assert [series.grid.shape for series in find_series(tmp_path)] == [(5, 6, 4), (7, 6, 4)]


def test_two_hints_tell_four_volumes_apart(tmp_path):
    count = 0
    for kind in "MP":
        for acquisition in (1, 2):
            tags = {"ImageType": ["ORIGINAL", "PRIMARY", kind], "AcquisitionNumber": acquisition}
            write(tmp_path / str(count), values() + count, **tags)
            count += 1
    found = find_series(tmp_path)
    assert [read_dicom(series).data[0, 0, 0] - values()[0, 0, 0] for series in found] == [
        0,
        1,
        2,
        3,
    ]


def test_numbers_that_differ_by_slice_do_not_tear_a_volume(tmp_path):
    for k, pixels in enumerate(values()):
        tags = {"AcquisitionNumber": k, "TriggerTime": 100 * k, "InstanceNumber": k}
        save(dataset(pixels, (0, 0, 3 * k), **tags), tmp_path / f"{k}")
    assert read_dicom(tmp_path).data.shape == (5, 6, 4)


def test_localisers_are_left_out_with_a_word(tmp_path):
    write(tmp_path / "flair", values())
    tags = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 1}
    write(
        tmp_path / "scout",
        values((3, 6, 5)),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        **tags,
    )
    with pytest.warns(UserWarning, match="left out the localiser of series 1; read it by one of"):
        volume = read_dicom(tmp_path)
    assert volume.data.shape == (5, 6, 4)
    assert read_dicom(tmp_path / "scout" / "00003.dcm").data.shape == (5, 6, 3)


def test_planes_at_right_angles_are_a_localiser(tmp_path):
    write(tmp_path / "flair", values())
    for plane in ("xyz", "yzx", "zxy"):
        directions = np.eye(3)[["xyz".index(axis) for axis in plane]]
        write(
            tmp_path / plane,
            values((3, 6, 5)),
            directions=directions,
            SeriesInstanceUID="1.2.3",
            SeriesNumber=1,
        )
    with pytest.warns(UserWarning, match="left out the localiser of series 1"):
        (series,) = find_series(tmp_path)
    assert series.name == "4"


def test_folders_of_localisers_alone_hold_no_volume(tmp_path):
    write(tmp_path, values(), SeriesDescription="Survey 3 plane")
    with (
        pytest.warns(UserWarning, match="localiser"),
        pytest.raises(InputError, match="holds no DICOM images of a volume"),
    ):
        find_series(tmp_path)


def test_images_without_a_position_are_left_out_with_a_word(tmp_path):
    write(tmp_path, values())
    save(dataset(values()[0], None, SeriesInstanceUID="1.2"), tmp_path / "screenshot")
    with pytest.warns(UserWarning, match="left out 1 images without a position"):
        assert read_dicom(tmp_path).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match="screenshot: says nothing of its position, orientation"):
        read_dicom(tmp_path / "screenshot")


def test_screenshots_in_colour_are_left_out_with_a_word(tmp_path):
    write(tmp_path, values())
    save(dataset(values()[0], SamplesPerPixel=3, SeriesNumber=99), tmp_path / "screenshot")
    with pytest.warns(UserWarning, match=r"left out 1 images in colour or of bits, .*screenshot"):
        assert read_dicom(tmp_path).data.shape == (5, 6, 4)
    assert read_dicom(tmp_path / "00003.dcm").data.shape == (5, 6, 4)
    with pytest.raises(InputError, match="screenshot: holds colours"):
        read_dicom(tmp_path / "screenshot")


@pytest.mark.parametrize("home", ["", "other"])
@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_images_of_a_series_without_a_place_are_named_not_skipped(tmp_path, home, tag):
    write_each(FAR, lambda k: tmp_path / "a" if k < 10 else tmp_path / "a" / home)
    for k in (10, 11):
        path = tmp_path / "a" / home / f"i{k:03d}.dcm"
        one = pydicom.dcmread(path)
        del one[tag]
        save(one, path)
    for source in (tmp_path, tmp_path / "a" / "i000.dcm"):
        with pytest.raises(
            InputError, match=r"i010\.dcm: is an image of this series and says noth"
        ):
            read_dicom(source)
    (series,) = find_series(tmp_path)
    assert len(series.problems) == 2


def test_images_in_colour_among_slices_of_their_series_are_named_not_skipped(tmp_path):
    write(tmp_path, FAR)
    save(dataset(values()[0], SamplesPerPixel=3), tmp_path / "z")
    for source in (tmp_path, tmp_path / "00003.dcm"):
        with pytest.raises(InputError, match="z: is an image of this series and is in colour"):
            read_dicom(source)


def test_images_of_another_size_or_series_are_no_part_of_a_volume(tmp_path):
    write(tmp_path, FAR)
    save(dataset(values((1, 9, 9))[0], None), tmp_path / "larger")
    save(dataset(values()[0], None, SeriesInstanceUID="1.2.3"), tmp_path / "other")
    with pytest.warns(UserWarning, match="left out 2 images without a position"):
        assert read_dicom(tmp_path).data.shape == (5, 6, 12)
    assert read_dicom(tmp_path / "00003.dcm").data.shape == (5, 6, 12)


def test_a_stray_image_does_not_hide_the_slices_after_it(tmp_path):
    write_each(FAR, LAYOUTS["two folders"](tmp_path))
    one = dataset(values((1, 9, 9))[0], SamplesPerPixel=3, SeriesInstanceUID="1.2.3")
    save(one, tmp_path / "part1" / "a.dcm")
    assert read_dicom(tmp_path / "part0" / "i000.dcm").data.shape == (5, 6, 12)


def test_pipes_in_a_folder_do_not_stop_the_search(tmp_path):
    write(tmp_path, values())
    os.mkfifo(tmp_path / "pipe")
    assert read_dicom(tmp_path).data.shape == (5, 6, 4)


@pytest.mark.parametrize("tag", ["ImageOrientationPatient", "PixelSpacing"])
def test_nothing_is_made_up_of_what_a_file_does_not_say(tmp_path, tag):
    save(dataset(values()[0], **{tag: None}), tmp_path / "a")
    with pytest.raises(InputError, match="says nothing of its position, orientation or spacing"):
        read_dicom(tmp_path / "a")


def test_series_beyond_the_bound_are_refused(tmp_path, monkeypatch):
    write(tmp_path, values())
    monkeypatch.setattr("segjax.data.io.dicom.pixels.MOST_BYTES", 239)
    with pytest.raises(InputError, match="states 240 bytes; at most 239 are read"):
        read_dicom(tmp_path)


def test_what_holds_no_image_is_passed_over(tmp_path):
    write(tmp_path, values())
    report = dataset(values()[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")  # text
    del report.Rows, report.Columns, report.PixelData
    save(report, tmp_path / "report")
    assert read_dicom(tmp_path).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match="report: holds no image"):
        read_dicom(tmp_path / "report")


def test_an_image_cut_before_its_size_is_not_passed_over(tmp_path):
    write(tmp_path, values(), names=["a", "b", "c", "d"])
    content = (tmp_path / "d").read_bytes()
    (tmp_path / "d").write_bytes(content[: content.index(b"\x28\0\x10\0")])
    with pytest.raises(InputError, match="d: is truncated, or an image without rows and columns"):
        read_dicom(tmp_path)


def test_messages_are_one_line_whatever_the_header_holds(tmp_path):
    for number in (1, 2):
        text = "line one\nline two\x1b[31m"
        tags = {"SeriesNumber": number, "SeriesInstanceUID": f"1.{number}"}
        write(tmp_path / str(number), values(), Modality=text, **tags)
    with pytest.raises(InputError, match=r"1 \(line one line two \[31m, 4 slices"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("name", ["none", "none.dcm"])
def test_missing_files_and_folders_are_named(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: there is no such file"):
        read_dicom(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: there is no such folder"):
        find_series(tmp_path / name)


def test_a_changed_file_is_read_anew(tmp_path):
    write(tmp_path, values((1, 6, 5)))
    assert read_dicom(tmp_path).data.shape == (5, 6, 1)
    write(tmp_path, values((1, 7, 5)))
    assert read_dicom(tmp_path).data.shape == (5, 7, 1)


def test_pixels_are_not_read_while_series_are_looked_for(tmp_path):
    write(tmp_path, np.zeros((3, 1000, 1000), np.int16))
    find_series(tmp_path)  # imports
    for file in tmp_path.iterdir():
        file.touch()
    tracemalloc.start()
    find_series(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # a slice takes 2,000,000 bytes


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SamplesPerPixel": 3}, "holds colours, or a bit per pixel"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "holds colours, or a bit per pixel"),
        ({"BitsAllocated": 1}, "holds colours, or a bit per pixel"),
        ({"ModalityLUTSequence": []}, "its values go through a look-up table, which is not read"),
        ({"BitsAllocated": 64}, "pixels of 16 bits up to bit 15 in 64 cannot be read"),
        ({"BitsStored": 0}, "pixels of 0 bits"),
        ({"HighBit": 3}, "pixels of 16 bits up to bit 3"),
        ({"Rows": 7}, r"takes? 70 bytes, but it states 60"),
        ({"Rows": 4}, r"take 40 bytes, but it states 60"),
        ({"NumberOfFrames": 2}, r"2 frames of 5×6 pixels take 120 bytes"),
        ({"NumberOfFrames": 0}, "states 0 frames"),
        ({"NumberOfFrames": 65_537}, "states 65537 frames"),
        ({"Rows": 65535, "Columns": 65535}, "at most 65,536 frames of 67,108,864 pixels and 17,"),
        ({"PixelSpacing": [0, 1]}, "header is corrupt: PixelSpacing is"),
        ({"PixelSpacing": [1, 1, 1]}, "header is corrupt: PixelSpacing is"),
        ({"ImagePositionPatient": [0, 1]}, "header is corrupt: ImagePositionPatient is"),
        ({"ImagePositionPatient": [0, 1, 1e10]}, "header is corrupt: ImagePositionPatient is"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "is no pair of unit vectors"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "is no pair of unit vectors"),
        ({"RescaleSlope": 0}, "header is corrupt: RescaleSlope is 0"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path, tags, message):
    save(dataset(values()[0], **tags), tmp_path / "a.dcm")
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path / "a.dcm")


def test_a_little_padding_is_forgiven(tmp_path):
    one = dataset(values((1, 3, 3), np.uint8)[0])
    one.PixelData += b"\0"
    assert read_dicom(save(one, tmp_path / "a")).data.shape == (3, 3, 1)


@pytest.mark.parametrize("keep", [0, 100, 131, 132, 200, 500, -70, -1])
def test_cut_files_are_refused(tmp_path, keep):
    path = save(dataset(values()[0]), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.dcm: "):
        read_dicom(path)


def test_files_that_shrink_after_the_scan_are_refused(tmp_path):
    (series,) = find_series(write(tmp_path, values()))
    series.files[2].write_bytes(series.files[2].read_bytes()[:-10])
    with pytest.raises(InputError, match="is truncated; fetch"):
        read_dicom(series)


def test_deflated_files_are_refused(tmp_path):
    path = save(dataset(values()[0], syntax=DeflatedExplicitVRLittleEndian), tmp_path / "a")
    with pytest.raises(InputError, match="is deflated as a whole; convert it with dcmconv"):
        read_dicom(path)


def test_unknown_codings_are_named(tmp_path):
    one = dataset(values()[0], syntax=MPEG2MPML)
    one.PixelData = encapsulate([bytes(60)])
    with pytest.raises(InputError, match="coded in MPEG2 Main Profile / Main Level, which is not"):
        read_dicom(save(one, tmp_path / "a"))


@pytest.fixture
def compressed(tmp_path):
    """Return a function that writes a file of one J2K, JPEG, JPEG-LS or RLE frame, changed."""
    pixels = values((1, 16, 12))[0]
    streams = {}
    for name, compressor in (("jpeg", "JPEG"), ("j2k", "JPEG2000")):
        stream, encoded = itk_stream(pixels, compressor, tmp_path)
        streams[name] = stream, encoded.file_meta.TransferSyntaxUID
    one = dataset(pixels)
    one.compress(RLELossless, encoding_plugin="pydicom")
    streams["rle"] = (
        next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1)),
        RLELossless,
    )

    def make(name, change, **tags):
        stream, syntax = streams[name]
        one = dataset(pixels, syntax=syntax, **tags)
        one.PixelData = encapsulate([change(stream)])
        return save(one, tmp_path / "a.dcm")

    return make


@pytest.mark.parametrize("name", ["jpeg", "j2k", "rle"])
@pytest.mark.parametrize("keep", [1, 20, 100])
def test_cut_streams_are_refused(compressed, name, keep):
    path = compressed(name, lambda stream: stream[:keep])
    with pytest.raises(InputError, match=r"a\.dcm: its compressed pixels"):
        read_dicom(path)


@pytest.mark.parametrize("name", ["jpeg", "j2k"])
def test_streams_of_another_size_are_refused(compressed, name):
    path = compressed(name, lambda stream: stream, Rows=17)
    message = "pixels state 12×16×1 values of 16 bits, but its header 12×17×1 of 16"
    with pytest.raises(InputError, match=message):
        read_dicom(path)


def test_streams_of_more_bits_than_codecs_take_are_refused(compressed):
    """GDCM dies of this one."""
    path = compressed("jpeg", lambda stream: stream.replace(b"\xc3\0\x0b\x10", b"\xc3\0\x0b\x14"))
    with pytest.raises(InputError, match="values of 20 bits, but its header 12×16×1 of 16"):
        read_dicom(path)


def test_run_lengths_cannot_stand_for_more_than_they_can(compressed):
    path = compressed("rle", lambda stream: stream, Rows=8000, Columns=8000)
    with pytest.raises(InputError, match="compressed pixels are cut or corrupt"):
        read_dicom(path)


def test_streams_that_are_noise_inside_are_refused(compressed):
    path = compressed(
        "jpeg", lambda stream: stream[:-40].replace(b"\xff\xda", b"\xff\xff") + stream[-2:]
    )
    with pytest.raises(InputError, match="its compressed pixels are c"):
        read_dicom(path)


def test_wrong_marker_lengths_are_refused(compressed):
    path = compressed("jpeg", lambda stream: stream[:2] + b"\xff\xe0\0\0" + stream[2:])
    with pytest.raises(InputError, match="compressed pixels are cut or corrupt"):
        read_dicom(path)


def test_frames_that_cannot_be_there_are_refused(compressed):
    path = compressed("jpeg", lambda stream: stream, NumberOfFrames=60_000)
    with pytest.raises(InputError, match="is truncated: 60000 frames do not fit"):
        read_dicom(path)


def test_fragments_without_an_end_are_refused(compressed):
    path = compressed("jpeg", lambda stream: stream)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="is truncated; fetch"):
        read_dicom(path)


def test_other_readers_are_refused(tmp_path):
    with pytest.raises(InputError, match="reader 'gdcm': give 'simpleitk' or 'dcm2niix'"):
        read_dicom.__wrapped__(tmp_path, reader="gdcm")


# -- one series, wherever its files lie ---------------------------------------------------------


def write_each(data, folder_of, *, step=3.0, drop=(), **tags):
    """Write slice k as a file of its own in the folder that a function gives for k."""
    for k, pixels in enumerate(data):
        one = dataset(pixels, (10, -20, k * step), InstanceNumber=k + 1)
        for tag, value in tags.items():
            setattr(one, tag, value(k) if callable(value) else value)
        for tag in drop:
            delattr(one, tag)
        folder_of(k).mkdir(parents=True, exist_ok=True)
        save(one, folder_of(k) / f"i{k:03d}.dcm")


LAYOUTS = {
    "two folders": lambda root: lambda k: root / f"part{k // 6}",
    "a folder per slice": lambda root: lambda k: root / f"s{k:02d}",
    "a folder in the other": lambda root: lambda k: root / "a" / "b" if k < 6 else root / "a",
    "every other slice": lambda root: lambda k: root / f"part{k % 2}",
    "folders of one name": lambda root: lambda k: root / f"part{k // 6}" / "images",
}
FAR = values((12, 6, 5))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("drop", [(), ("SeriesInstanceUID",)])
def test_a_series_is_whole_wherever_its_files_lie(tmp_path, layout, drop):
    write_each(FAR, layout(tmp_path), drop=drop)
    (series,) = find_series(tmp_path)
    assert series.grid.shape == (5, 6, 12)
    for source in (tmp_path, series, series.files[0], series.files[7]):
        np.testing.assert_array_equal(read_dicom(source).data, FAR.T)
    assert tmp_path in (series.folder, series.folder.parent)
    assert str(series) == f"{series.folder} (series 4)"


@pytest.mark.parametrize("names", ["i{:03d}.dcm", "IM{:03d}", "1.2.840.{}"])
def test_a_folder_of_dangling_links_beside_a_file_s_own_is_told(tmp_path, names):
    names = [names.format(k) for k in range(12)]
    write(tmp_path / "a", FAR[:6], names=names[:6])
    (tmp_path / "b").mkdir()
    for name in names[6:]:
        (tmp_path / "b" / name).symlink_to(tmp_path / "annex" / name)
    with pytest.warns(UserWarning, match=r"may lack a part: .*leads nowhere.*3 more such files"):
        assert read_dicom(tmp_path / "a" / names[0]).data.shape[2] == 6


def test_links_named_otherwise_beside_a_file_s_own_folder_do_not_count(tmp_path):
    write(tmp_path / "a", FAR)
    (tmp_path / "old").symlink_to(tmp_path / "annex")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "latest").symlink_to(tmp_path / "annex")
    assert read_dicom(tmp_path / "a" / "00003.dcm").data.shape == (5, 6, 12)


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("named", ["folder", "file"])
def test_every_second_slice_alone_is_no_volume(tmp_path, every, named):
    write(tmp_path, FAR[::every], step=3.0 * every, SpacingBetweenSlices=3.0)
    message = f"slices are missing: they lie {3 * every} mm apart, but .*BetweenSlices is 3 mm"
    with pytest.raises(InputError, match=message):
        read_dicom(tmp_path if named == "folder" else tmp_path / "00003.dcm")


@pytest.mark.parametrize(
    ("step", "tags"),
    [
        (3.0, {"SpacingBetweenSlices": 3.0}),
        (6.0, {"SliceThickness": 3.0}),  # gaps are normal
        (6.0, {"SliceThickness": 5.0, "SpacingBetweenSlices": 1.0}),  # the gap in its place
        (6.0, {"SliceThickness": 4.0, "SpacingBetweenSlices": 2.0}),
        (4.5, {"SpacingBetweenSlices": 3.0}),
        (6.0, {"SpacingBetweenSlices": 0}),
    ],
)
def test_steps_that_are_no_multiple_of_the_stated_spacing_are_as_they_are(tmp_path, step, tags):
    write(tmp_path, FAR, step=step, **tags)
    assert read_dicom(tmp_path).spacing == pytest.approx((0.75, 0.5, step))


def test_spacings_that_slices_state_differently_do_not_count(tmp_path):
    write_each(FAR, lambda k: tmp_path, step=6.0, SpacingBetweenSlices=lambda k: 3.0 - k % 2)
    assert read_dicom(tmp_path).spacing == pytest.approx((0.75, 0.5, 6.0))


def halves(one, other):
    return lambda k: one if k < 6 else other


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientID": "1", "PatientName": halves("Doe^Jo", "DOE ^JO^^ ")},
        {"PatientID": "1", "PatientName": halves("Doe^Jo=Doe", "doe^jo^=doe")},
        {"StudyInstanceUID": "1.2", "StudyDate": halves("20200101", "20200102")},
        {"StudyInstanceUID": "1.2", "AccessionNumber": halves("7", "8")},
    ],
)
def test_ways_to_write_one_name_and_midnight_do_not_tear_a_volume(tmp_path, tags):
    write_each(FAR, LAYOUTS["two folders"](tmp_path), **tags)
    for source in (tmp_path, tmp_path / "part0" / "i000.dcm"):
        np.testing.assert_array_equal(read_dicom(source).data, FAR.T)


@pytest.mark.parametrize(
    ("tag", "one", "other", "said"),
    [
        ("RepetitionTime", 9000, 9100, r"RepetitionTime \(9000, 9100\)"),
        ("SeriesDescription", "t1", "t2", "SeriesDescription"),
        ("ScanningSequence", "SE", "", r"ScanningSequence \(SE, not stated\)"),
        ("SeriesNumber", 4, 5, r"SeriesNumber \(4, 5\)"),
        ("FrameOfReferenceUID", "1.2", "1.3", r"FrameOfReferenceUID \(1.2, 1.3\)"),
        ("StudyDate", "20200101", "20210101", "StudyDate"),
        ("PixelSpacing", [0.5, 0.75], [0.502, 0.753], r"PixelSpacing \(0.5.0.75, 0.502.0.753\)"),
    ],
)
def test_a_stack_that_is_read_as_two_volumes_is_told(tmp_path, tag, one, other, said):
    tags = {tag: halves(one, other)}
    if other == "":
        tags["SequenceVariant"] = halves("a", "b")
        said += r", SequenceVariant \(a, b\)"
    write_each(FAR, lambda k: tmp_path, **tags)
    message = rf"would make one stack of 12 slices, but their {said} differ: read as 2 volumes"
    with pytest.warns(UserWarning, match=message):
        assert [len(series.frames) for series in find_series(tmp_path)] == [6, 6]
    with pytest.warns(UserWarning, match=message):
        assert len(choose_series(tmp_path / "i000.dcm").frames) == 6


def test_two_parts_of_a_stack_beside_another_volume_are_told(tmp_path):
    write_each(FAR, lambda k: tmp_path / "a", RepetitionTime=halves(500, 600))
    write_each(FAR, lambda k: tmp_path / "b", RepetitionTime=9000)
    with pytest.warns(UserWarning, match=r"series 4-1, 4-2 of one SeriesInst.*\(500, 600\)"):
        assert len(find_series(tmp_path)) == 3


@pytest.mark.filterwarnings("error")
def test_echoes_and_patients_are_no_parts_of_one_stack(tmp_path):
    write_each(FAR, lambda k: tmp_path / "a", EchoTime=10)
    write_each(FAR, lambda k: tmp_path / "b", EchoTime=90)
    write_each(FAR, lambda k: tmp_path / "c", PatientID=halves("1", "2"))
    assert len(find_series(tmp_path)) == 4
    write_enhanced(tmp_path / "d", FAR, oblique_positions(6) * 2, echoes=[10.0] * 6 + [90.0] * 6)
    assert len(find_series(tmp_path)) == 6


def test_files_given_by_a_relative_path_find_the_rest(tmp_path, monkeypatch):
    write_each(FAR, LAYOUTS["two folders"](tmp_path))
    monkeypatch.chdir(tmp_path / "part0")
    series = choose_series("i000.dcm")
    np.testing.assert_array_equal(read_dicom(series).data, FAR.T)
    assert series.folder == tmp_path
    assert Series.from_json(series.to_json()).files == tuple(
        Path(os.path.abspath(file)) for file in series.files
    )


def test_slices_without_a_series_uid_belong_to_those_with_one(tmp_path):
    write_each(FAR[:9], lambda k: tmp_path)
    for k in range(9, 12):
        one = dataset(FAR[k], (10, -20, 3 * k))
        del one.SeriesInstanceUID
        save(one, tmp_path / f"i{k:03d}.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path).data, FAR.T)


def test_links_to_folders_are_followed(tmp_path):
    write(tmp_path / "archive" / "flair", values())
    (tmp_path / "patients").mkdir()
    (tmp_path / "patients" / "flair").symlink_to(tmp_path / "archive" / "flair")
    assert holds_dicom(tmp_path / "patients")
    assert read_dicom(tmp_path / "patients").data.shape == (5, 6, 4)


def test_the_first_image_of_each_folder_beside_is_looked_at_and_no_more(tmp_path, monkeypatch):
    write(tmp_path / "mine", values(), PatientID="mine")
    for n in range(5):
        write(tmp_path / f"patient{n}", values(), PatientID=str(n))
    seen = []
    original = pydicom.dcmread
    monkeypatch.setattr(
        "pydicom.dcmread", lambda f, **k: (seen.append(f.name), original(f, **k))[1]
    )
    assert read_dicom(tmp_path / "mine" / "00003.dcm").data.shape == (5, 6, 4)
    assert len(set(seen)) == len(seen) == 4 + 5


def test_copies_in_other_folders_are_no_part_of_a_file_s_series(tmp_path):
    write(tmp_path / "series", values())
    shutil.copytree(tmp_path / "series", tmp_path / "backup")
    (tmp_path / "sample").mkdir()
    shutil.copy(tmp_path / "series" / "00003.dcm", tmp_path / "sample")
    write(tmp_path / "finer", values(), step=0.8)
    write(tmp_path / "aside", values(), start=(70, -20, 60))
    write(tmp_path / "colour", values((1, 6, 5)), SamplesPerPixel=3)
    np.testing.assert_array_equal(read_dicom(tmp_path / "series" / "00003.dcm").data, values().T)


@pytest.mark.parametrize(("first", "message"), [(9, "4 slices are missing"), (3, "two slices lie")])
def test_parts_that_do_not_fit_are_no_volume_by_themselves(tmp_path, first, message):
    """Half of a series is never read in silence, where the other half overlaps or lies apart."""
    write(tmp_path / "one", values((5, 6, 5)))
    start = (10, -20, 30 + 3 * (first if first > 5 else 4))
    write(tmp_path / "other", values((5, 6, 5)), start=start)
    for source in (tmp_path, tmp_path / "one" / "00003.dcm"):
        with pytest.raises(InputError, match=message):
            read_dicom(source)


def test_parts_at_an_uneven_distance_are_no_volume_by_themselves(tmp_path):
    write(tmp_path / "one", values())
    write(tmp_path / "other", values(), start=(10, -20, 43.3))
    for source in (tmp_path, tmp_path / "one" / "00003.dcm", tmp_path / "other" / "00003.dcm"):
        with pytest.raises(InputError, match="slices are spaced unevenly"):
            read_dicom(source)


@pytest.mark.parametrize(
    ("tag", "one", "other"),
    [
        ("PatientID", "1", "2"),
        ("PatientName", "Muster^Max", "Muster^Moritz"),
        ("PatientBirthDate", "19500101", "19600101"),
        ("StudyInstanceUID", "1.2.3", "1.2.4"),
        ("StudyDate", "20200101", "20210101"),
        ("FrameOfReferenceUID", "1.2.3", "1.2.4"),
        ("SeriesNumber", 4, 5),
        ("Modality", "MR", "CT"),
        ("SeriesDescription", "t1", "t2"),
        ("ProtocolName", "t1", "t2"),
        ("EchoTime", 10, 90),
        ("RepetitionTime", 500, 4000),
        ("FlipAngle", 15, 90),
        ("ScanningSequence", "GR", "SE"),
    ],
)
@pytest.mark.parametrize("lower", [0, 24])
def test_patients_and_sequences_under_one_uid_are_told_apart(tmp_path, tag, one, other, lower):
    """They lie at the same places, or one continues where the other ends."""
    write(tmp_path, FAR[:8], names=[f"a{k}" for k in range(8)], **{tag: one})
    names = [f"b{k}" for k in range(8)]
    start = (10, -20, 30 + lower)
    write(tmp_path, FAR[:8] + 1, names=names, start=start, **{tag: other})
    first, second = find_series(tmp_path)
    np.testing.assert_array_equal(read_dicom(first).data, FAR[:8].T)
    np.testing.assert_array_equal(read_dicom(second).data, FAR[:8].T + 1)
    np.testing.assert_array_equal(read_dicom(tmp_path / "b0").data, FAR[:8].T + 1)


@pytest.mark.parametrize("drop", [(), ("SeriesInstanceUID", "SeriesNumber")])
@pytest.mark.parametrize("layout", [0, 1])
def test_patients_with_equal_headers_are_told_apart_by_their_folders(tmp_path, drop, layout):
    for n, count in enumerate((12, 7)):
        inner = [lambda k, n=n: tmp_path / f"p{n}", lambda k, n=n: tmp_path / f"p{n}" / f"s{k}"]
        write_each(FAR[:count] + n, inner[layout], drop=drop)
    found = find_series(tmp_path)
    assert [series.folder for series in found] == [tmp_path / "p0", tmp_path / "p1"]
    for n, series in enumerate(found):
        np.testing.assert_array_equal(read_dicom(series).data, FAR[: (12, 7)[n]].T + n)
        np.testing.assert_array_equal(read_dicom(series.folder).data, read_dicom(series).data)
    if not layout:
        assert len(series_files(tmp_path / "p0" / "i000.dcm")) == 12


def test_patients_without_any_uid_on_other_grids_are_told_apart_by_their_folders(tmp_path):
    for n, start in enumerate(((10, -20, 30), (10, -20, 31.3))):
        write(tmp_path / f"p{n}", values() + n, start=start)
        for file in (tmp_path / f"p{n}").iterdir():
            one = pydicom.dcmread(file)
            del one.SeriesInstanceUID
            one.save_as(file)
    assert [series.folder.name for series in find_series(tmp_path)] == ["p0", "p1"]
    np.testing.assert_array_equal(read_dicom(tmp_path / "p0" / "00003.dcm").data, values().T)


def test_a_copied_slice_in_another_folder_is_named(tmp_path):
    write(tmp_path / "series", values(), names=["a", "b", "c", "d"])
    (tmp_path / "copies").mkdir()
    shutil.copy(tmp_path / "series" / "b", tmp_path / "copies" / "b2")
    with pytest.raises(InputError, match=r"two slices lie at 33\.00 mm .*: b2 and b; remove one"):
        read_dicom(tmp_path)


# -- values that vary within a series -----------------------------------------------------------


def every_other(one, other):
    return lambda k: (one, other)[k % 2]


JITTER = np.random.default_rng(3).uniform(0.93, 1.07, 12).tolist()


@pytest.mark.parametrize(
    "tags",
    [
        {"InversionTime": every_other("2500", "2500.5")},
        {"EchoTime": every_other("20", "20.1")},
        {"RepetitionTime": lambda k: round(4000 * (1 + 0.0009 * k), 1)},
        {"RepetitionTime": lambda k: 9000, "FlipAngle": every_other(89.9, 90)},
        {"SequenceName": lambda k: f"*tse{k}", "AcquisitionNumber": lambda k: k // 6 + 1},
        {"TriggerTime": lambda k: 50 * k, "AcquisitionTime": lambda k: f"1200{k:02d}"},
        {"WindowCenter": lambda k: 100 + k, "ContentTime": lambda k: f"1200{k:02d}"},
        {"ImageType": lambda k: ["DERIVED" if k < 4 else "ORIGINAL", "PRIMARY", "M"]},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_scanners_let_vary_does_not_tear_a_volume(tmp_path, tags):
    write_each(FAR, lambda k: tmp_path, **tags)
    np.testing.assert_array_equal(read_dicom(tmp_path).data, FAR.T)


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ({"InversionTime": every_other(2500, 2700)}, "InversionTime"),
        ({"InversionTime": lambda k: 2000 + 100 * (k % 3)}, "InversionTime"),
        ({"SeriesDescription": every_other("odd", "even")}, "SeriesDescription"),
        (
            {"SeriesDescription": every_other("odd", "even"), "EchoTime": every_other(20, 21)},
            "SeriesDescription, EchoTime",
        ),
        ({"RepetitionTime": lambda k: 4000 * JITTER[k]}, "RepetitionTime"),  # gated by the heart
        ({"RepetitionTime": lambda k: 4000 if k < 11 else 4400}, "RepetitionTime"),
    ],
)
def test_kinds_that_interleave_are_one_volume_with_a_word(tmp_path, tags, names):
    write_each(FAR, lambda k: tmp_path, **tags)
    with pytest.warns(UserWarning, match=rf"\(series 4\): its slices state different {names}, but"):
        np.testing.assert_array_equal(read_dicom(tmp_path).data, FAR.T)


def test_a_slice_that_is_missing_of_interleaved_ones_is_named(tmp_path):
    write_each(FAR, lambda k: tmp_path, InversionTime=every_other(2500, 2700))
    (tmp_path / "i005.dcm").unlink()
    message = "1 slice is missing between"
    with pytest.warns(UserWarning, match="Inversion"), pytest.raises(InputError, match=message):
        read_dicom(tmp_path)


def test_echoes_whose_inversion_times_alternate_are_two_volumes(tmp_path):
    for n, echo in enumerate((10, 90)):
        write_each(
            FAR + n,
            lambda k, n=n: tmp_path / f"e{n}",
            EchoTime=echo,
            InversionTime=every_other(100, 120),
        )
    with pytest.warns(UserWarning, match="state different InversionTime, but"):
        found = find_series(tmp_path)
    for n, series in enumerate(found):
        np.testing.assert_array_equal(read_dicom(series).data, FAR.T + n)


def test_pairs_that_interleave_are_joined_beside_a_third_volume(tmp_path):
    write_each(FAR, lambda k: tmp_path / "a", EchoTime=every_other(20, 21))
    write_each(FAR + 1, lambda k: tmp_path / "b", EchoTime=90)
    with pytest.warns(UserWarning, match="state different EchoTime, but"):
        found = find_series(tmp_path)
    assert [len(series.frames) for series in found] == [12, 12]


def test_sequences_of_other_steps_do_not_interleave(tmp_path):
    write(tmp_path / "a", FAR[:8], EchoTime=10, step=2)
    write(tmp_path / "b", FAR[:4], EchoTime=90, step=4, start=(10, -20, 31))
    assert [len(series.frames) for series in find_series(tmp_path)] == [8, 4]


def test_two_slices_of_two_echoes_are_no_stack(tmp_path):
    write_each(FAR[:2], lambda k: tmp_path, EchoTime=every_other(10, 90))
    assert [len(series.frames) for series in find_series(tmp_path)] == [1, 1]


def test_slices_between_others_are_no_stack(tmp_path):
    """Neither is the whole one, nor are the folders volumes of their own."""
    for name, heights in (("a", (0, 3, 6, 9)), ("b", (12, 13, 14.4))):
        (tmp_path / name).mkdir()
        for k, z in enumerate(heights):
            one = dataset(values()[0], (0, 0, z))
            del one.SeriesInstanceUID
            save(one, tmp_path / name / f"{k}")
    with pytest.raises(InputError, match="slices are spaced unevenly"):
        read_dicom(tmp_path)


def test_files_whose_identity_is_corrupt_concern_all_series_of_their_folder(tmp_path):
    write(tmp_path, values(), names=["a", "b", "c", "d"])
    content = (tmp_path / "d").read_bytes()
    number = content.index(b"\x20\0\x11\0IS")
    broken = content[: number + 8] + b"x " + content[number + 10 : -20]
    (tmp_path / "d").write_bytes(broken)
    with pytest.raises(InputError, match=r"d: .*a part of .* may be missing"):
        read_dicom(tmp_path)


def test_what_a_header_does_not_say_agrees(tmp_path):
    tags = {"PatientID": "1", "EchoTime": 90, "FrameOfReferenceUID": "1.2.3"}
    write_each(FAR, lambda k: tmp_path, **tags)
    for k in (2, 7, 11):
        one = pydicom.dcmread(tmp_path / f"i{k:03d}.dcm")
        del one.PatientID, one.EchoTime, one.FrameOfReferenceUID
        one.save_as(tmp_path / f"i{k:03d}.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path).data, FAR.T)


def test_localisers_are_found_by_planes_of_one_sequence_only(tmp_path):
    """An axial and a sagittal sequence under one UID are none."""
    write(tmp_path / "a", values(), SeriesDescription="t1 axial")
    sagittal = np.eye(3)[[2, 0, 1]]
    write(tmp_path / "b", values(), SeriesDescription="t2 sagittal", directions=sagittal)
    assert len(find_series(tmp_path)) == 2


# -- files that cannot be read ------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def cut_header(path):
    path.write_bytes(path.read_bytes()[:300])


def empty(path):
    path.write_bytes(b"")


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def dangle(path):
    path.unlink()
    path.symlink_to(path.with_name("annex") / path.name)


FAULTS = {
    cut: "is truncated, or its header lies",
    cut_header: "is truncated|header is corrupt",
    empty: "is empty; fetch it again",
    zero: "holds no DICOM, though its name says so; fetch",
    dangle: "is a link that leads nowhere; fetch the file that it stands for",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("names", ["i{:03d}.dcm", "IM{:04d}", "1.2.840.{}"])
def test_files_that_cannot_be_read_are_named_not_skipped(tmp_path, fault, names):
    names = [names.format(k) for k in range(12)]
    write(tmp_path, FAR, names=names)
    for k in (10, 11):
        fault(tmp_path / names[k])
    message = rf"{names[10]}: ({FAULTS[fault]}).*; and 1 more such file: a part of .* may be miss"
    (series,) = find_series(tmp_path)
    assert len(series.problems) == 2
    for read in (read_dicom, choose_series, series_files):
        for source in (tmp_path, tmp_path / names[0]):
            if read is choose_series:
                assert read(source).problems == series.problems
                continue
            with pytest.raises(InputError, match=message):
                read(source)
    for ask in (lambda: series.grid, lambda: read_dicom(Series.from_json(series.to_json()))):
        with pytest.raises(InputError, match=message):
            ask()


def test_files_without_the_right_to_read_are_named(tmp_path, monkeypatch):
    write(tmp_path, values(), names=["a1", "a2", "a3", "a4"])
    original = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "a4":
            raise PermissionError(13, "Permission denied")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"a4: cannot be opened: Permission denied: a part of"):
        read_dicom(tmp_path)
    assert not is_dicom(tmp_path / "a4")


def test_other_files_beside_slices_are_none_of_theirs(tmp_path):
    write(tmp_path, values())
    for name in ("notes", "x.txt", "done", ".DS_Store", "._00003.dcm", ".hidden.dcm", "x.nii.gz"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "LOCK").touch()
    for name in (".#lock", "volume.nii.gz", "facts.json"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    assert read_dicom(tmp_path).data.shape == (5, 6, 4)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_of_no_suffix_among_slices_of_none_is_named(tmp_path, content):
    names = [f"{7919**k % 2**32:08x}" + "abcdefghijkl"[k] for k in range(12)]
    write(tmp_path, FAR, names=names)
    (tmp_path / names[11]).write_bytes(content)
    (tmp_path / "README").write_text("no image")
    for source in (tmp_path, tmp_path / names[0]):
        with pytest.raises(
            InputError, match=rf"{names[11]}: .*; fetch it again, or move it away: "
        ):
            read_dicom(source)


def test_files_of_no_suffix_beside_slices_of_a_suffix_are_none_of_theirs(tmp_path):
    write(tmp_path, FAR)
    (tmp_path / "notes2").write_text("no image")
    assert read_dicom(tmp_path).data.shape == (5, 6, 12)


@pytest.mark.parametrize("name", [".i011.dcm", ".z.dcm"])
def test_a_hidden_link_to_nowhere_named_as_dicom_counts(tmp_path, name):
    write_each(FAR[:11], lambda k: tmp_path)
    (tmp_path / name).symlink_to(tmp_path / "annex")
    for source in (tmp_path, tmp_path / "i000.dcm"):
        with pytest.raises(InputError, match=rf"{re.escape(name)}: is a link that leads nowhere"):
            read_dicom(source)


def test_a_corrupt_file_stops_only_its_own_series(tmp_path):
    write(tmp_path, values(), names=["a", "b", "c", "d"], PatientID="1")
    other = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 2}
    write(tmp_path, values(), names=["e", "f", "g", "h"], **other)
    cut(tmp_path / "h")
    write(tmp_path / "deep", values(), SeriesInstanceUID="1.2.4", SeriesNumber=9)
    second, fourth, ninth = find_series(tmp_path)
    assert read_dicom(fourth).data.shape == read_dicom(ninth).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match=r"h: is truncated, or its header lies"):
        read_dicom(second)


def test_broken_files_of_no_series_are_told(tmp_path):
    write(tmp_path / "good", values())
    (tmp_path / "bad").mkdir()
    for k in range(5):
        (tmp_path / "bad" / f"{k}.dcm").touch()
    found = scan(tmp_path)
    assert [series.problems for series in found.series] == [()]
    assert [problem.message.split(": ")[1][:8] for problem in found.broken] == ["is empty"] * 5
    with pytest.warns(UserWarning, match=r"left out .*0\.dcm: is empty.*2\.dcm: .*; and 2 more"):
        assert read_dicom(tmp_path).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match=r"holds no DICOM images of a volume: .*0\.dcm: is empty"):
        find_series(tmp_path / "bad")


@pytest.mark.parametrize("fault", [cut_header, dangle])
def test_a_slice_s_own_folder_that_holds_nothing_else_counts(tmp_path, fault):
    write_each(FAR, lambda k: tmp_path / f"s{k:02d}")
    fault(tmp_path / "s11" / "i011.dcm")
    for source in (tmp_path, tmp_path / "s00" / "i000.dcm"):
        with pytest.raises(InputError, match=r"i011\.dcm: .*a part of .* may be missing"):
            read_dicom(source)


def test_a_slice_s_own_folder_that_is_a_link_to_nowhere_counts(tmp_path):
    write_each(FAR[:11], lambda k: tmp_path / f"s{k:02d}")
    (tmp_path / "s11").symlink_to(tmp_path / "annex")
    for source in (tmp_path, tmp_path / "s00" / "i000.dcm"):
        with pytest.raises(InputError, match=r"s11: is a link that leads nowhere"):
            read_dicom(source)


def test_folders_that_cannot_be_listed(tmp_path, monkeypatch):
    write(tmp_path / "a", values())
    write(tmp_path / "b", values(), start=(10, -20, 42))
    original = Path.iterdir

    def refuse(folder):
        if folder.name in hidden:
            raise PermissionError(13, "Permission denied")
        return original(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    hidden = {"a"}
    with pytest.raises(InputError, match="a: cannot be listed: Permission denied"):
        read_dicom(tmp_path / "a" / "00003.dcm")
    hidden = {"b", tmp_path.name}  # whose they are is not known
    assert read_dicom(tmp_path / "a" / "00003.dcm").data.shape == (5, 6, 4)


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"])
def test_segmentations_are_neither_slices_nor_corrupt(tmp_path, kind):
    write(tmp_path, values())
    one = dataset(values(dtype=np.uint8), SOPClassUID=kind, Modality="SEG", NumberOfFrames=4)
    save(one, tmp_path / "seg.dcm")
    del one.Rows
    save(one, tmp_path / "seg2.dcm")
    report = dataset(values()[0], SOPClassUID="1.3.12.2.1107.5.9.1", SeriesInstanceUID="1.2")
    del report.Rows, report.Columns, report.PixelData  # what one manufacturer calls "non-image"
    save(report, tmp_path / "private.dcm")
    structures = dataset(values()[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    del structures.Rows, structures.Columns, structures.PixelData
    save(structures, tmp_path / "rtstruct.dcm")
    assert read_dicom(tmp_path).data.shape == (5, 6, 4)
    with pytest.raises(InputError, match=r"seg\.dcm: holds no image"):
        read_dicom(tmp_path / "seg.dcm")


def test_what_is_left_out_is_named_with_a_file(tmp_path):
    write(tmp_path / "flair", values())
    scout = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 1, "SeriesDescription": "localizer"}
    write(tmp_path / "scout", values((3, 6, 5)), names=["s0", "s1", "s2"], **scout)
    save(dataset(values()[0], BitsAllocated=1), tmp_path / "bits")
    save(dataset(values()[0], None, SeriesInstanceUID="1.2"), tmp_path / "screenshot")
    with pytest.warns(UserWarning, match="left out") as record:
        read_dicom(tmp_path)
    said = "\n".join(str(warning.message) for warning in record)
    for text in (
        r"left out 1 images in colour or of bits, such as .*bits",
        r"left out 1 images without a position, orientation or spacing, such as .*screenshot",
        r"left out the localiser of series 1; read it by one of its files, such as .*s0",
    ):
        assert re.search(text, said)


# -- series as JSON -----------------------------------------------------------------------------


def test_series_survive_json_and_pickle(tmp_path):
    write(tmp_path / "a", values())
    write(tmp_path / "b", values((3, 6, 7)))
    places = oblique_positions(2)
    write_enhanced(tmp_path / "e.dcm", values(), [places[k // 2] for k in range(4)],
                   echoes=[10.0, 80.0] * 2, SeriesNumber=5)  # fmt: skip
    found = find_series(tmp_path)
    assert [series.name for series in found] == ["4-1", "4-2", "5-1", "5-2"]
    assert str(found[3]) == f"{tmp_path / 'e.dcm'} (series 5-2)"
    for series in found:
        again = Series.from_json(json.loads(json.dumps(series.to_json())))
        assert again == series == pickle.loads(pickle.dumps(series))
        np.testing.assert_array_equal(read_dicom(again).data, read_dicom(series).data)


def test_json_of_a_series_that_is_gone_or_changed_is_refused(tmp_path):
    (series,) = find_series(write(tmp_path, values()))
    content = series.to_json()
    assert set(content) == {"name", "files"}
    one = pydicom.dcmread(series.files[1])
    one.SeriesInstanceUID = "1.2.3"
    one.save_as(series.files[1])
    with pytest.raises(InputError, match="files are no longer the one series 4 that they were"):
        Series.from_json(content)
    series.files[1].unlink()
    with pytest.raises(InputError, match=rf"{series.files[1].name}: cannot be read: No such file"):
        Series.from_json(content)
    with pytest.raises(InputError, match="no longer the one series 4"):
        Series.from_json({"name": "4", "files": []})
    for odd in (
        None,
        {},
        {"name": "4", "files": 3},
        {"name": "4", "files": [], "frames": [[2, 0]]},
    ):
        with pytest.raises(InputError, match="this describes no DICOM series"):
            Series.from_json(odd)


# -- files without DICOM's mark -----------------------------------------------------------------


def strip(path, *, keep_meta=False):
    """Leave out the preamble and the mark, as old archives do; and the group of the file."""
    content = path.read_bytes()
    meta = 12 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[132 if keep_meta else 132 + meta :])


@pytest.mark.parametrize(
    ("syntax", "keep_meta"),
    [
        (ImplicitVRLittleEndian, False),
        (ExplicitVRLittleEndian, False),
        (ExplicitVRBigEndian, False),
        (ImplicitVRLittleEndian, True),
        (ExplicitVRLittleEndian, True),
        (RLELossless, True),
    ],
)
@pytest.mark.parametrize("bare", [slice(None), slice(2, None)])
def test_files_without_the_mark_are_read(tmp_path, syntax, keep_meta, bare):
    compressed = syntax == RLELossless
    write(tmp_path, values((4, 16, 12)), syntax=ExplicitVRLittleEndian if compressed else syntax)
    files = sorted((compress(tmp_path, syntax) if compressed else tmp_path).iterdir())
    for file in files[bare]:
        strip(file, keep_meta=keep_meta)
        assert is_dicom(file)
    np.testing.assert_array_equal(read_dicom(tmp_path).data, values((4, 16, 12)).T)
    assert holds_dicom(tmp_path)
    assert sidecar(find_series(tmp_path)[0])["Modality"] == "MR"


CHARSETS = Path(pydicom.__file__).parent / "data" / "charset_files"


def test_files_of_pydicom_are_known_as_dicom():
    files = [*CORPUS.glob("*.dcm"), *CHARSETS.glob("*.dcm")]
    assert len(files) > 80
    shifted = ["no_meta.dcm"]  # a byte stands before its data set, which pydicom reads as noise
    assert [file.name for file in files if not is_dicom(file)] == shifted


def write_others(folder):
    """Write a file of each other format, named as what it is and as nothing."""
    image = nibabel.Nifti1Image(values(), np.eye(4))
    for name in ("a.nii", "b.nii.gz"):
        nibabel.save(image, folder / name)
    nibabel.save(nibabel.Nifti2Image(values(), np.eye(4)), folder / "c.nii")
    np.save(folder / "d.npy", values())
    Image.fromarray(values()[0].astype(np.uint8)).save(folder / "e.png")
    (folder / "f.json").write_text('{"a": 1}' * 100)
    (folder / "g.txt").write_text("some words " * 100)
    with zipfile.ZipFile(folder / "h.zip", "w") as archive:
        archive.writestr("x", "y" * 500)
    (folder / "i.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(500))
    (folder / "j.gz").write_bytes(gzip.compress(b"x" * 1000))
    (folder / "k.bin").write_bytes(bytes(1000))
    (folder / "l.bin").write_bytes(b"\x08\x00" * 500)
    for file in list(folder.iterdir()):
        shutil.copy(file, folder / file.stem)


def test_other_formats_are_no_dicom_whatever_their_names(tmp_path):
    write_others(tmp_path)
    assert [file.name for file in tmp_path.iterdir() if is_dicom(file)] == []
    assert not holds_dicom(tmp_path)


@settings(max_examples=300, deadline=None)
@given(
    begin=st.sampled_from([b"", b"\x08\x00", b"\x08\x00\x05\x00", b"\x02\x00\x00\x00UL\x04\x00"]),
    content=st.binary(min_size=0, max_size=600),
)
def test_noise_is_no_dicom(tmp_path_factory, begin, content):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(begin + content)
    assert not is_dicom(path)


def test_files_named_as_texts_are_known_by_the_mark(tmp_path):
    suffixes = ("txt", "log", "bak", "raw", "html", "pdf")
    names = [f"i{k:03d}.{suffixes[k % 6]}" for k in range(12)]
    write(tmp_path, FAR, names=names)
    assert is_dicom(tmp_path / names[0])
    for source in (tmp_path, tmp_path / names[0]):
        np.testing.assert_array_equal(read_dicom(source).data, FAR.T)


def test_files_named_as_texts_without_the_mark_are_none(tmp_path):
    strip(save(dataset(values()[0]), tmp_path / "a.txt"))
    assert not is_dicom(tmp_path / "a.txt")
    assert is_dicom((tmp_path / "a.txt").rename(tmp_path / "a.bin"))


@pytest.mark.parametrize("name", ["a.nii", "b.nii.gz", "c.png", "d.npy", "e.json", "f.onnx"])
def test_files_named_as_other_formats_are_never_opened_as_dicom(tmp_path, name, monkeypatch):
    save(dataset(values()[0]), tmp_path / name)
    monkeypatch.setattr(Path, "open", lambda *args: pytest.fail("was opened"))
    assert not is_dicom(tmp_path / name)


# -- padding, mosaics, rounded directions -------------------------------------------------------


def test_bytes_after_the_pixels_are_left_out_with_a_word(tmp_path):
    for k, pixels in enumerate(values()):
        one = dataset(pixels, (0, 0, 3 * k))
        one.PixelData += bytes(40)
        save(one, tmp_path / f"{k}")
    message = r"0: left out 40 bytes of padding after its pixels \(and those of 3 more files\)"
    with pytest.warns(UserWarning, match=message):
        np.testing.assert_array_equal(read_dicom(tmp_path).data, values().T)


def test_pixels_after_the_stated_ones_are_no_padding(tmp_path):
    one = dataset(values()[0])
    one.PixelData += values()[1].tobytes()
    with pytest.raises(InputError, match="its header lies: 1 frames of 5×6 pixels take 60 bytes"):
        read_dicom(save(one, tmp_path / "a"))


@pytest.fixture
def mosaics(tmp_path):
    """Return a folder with two volumes of a real diffusion series."""
    for name in ("siemens_dwi_0", "siemens_dwi_1000"):
        content = (Path(nibabel.__file__).parent / f"nicom/tests/data/{name}.dcm.gz").read_bytes()
        (tmp_path / f"{name}.dcm").write_bytes(gzip.decompress(content))
    return tmp_path


@pytest.mark.filterwarnings("ignore:The DICOM readers")
def test_mosaics_are_read_as_nibabel_reads_them(mosaics):
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    for series in find_series(mosaics):
        volume, theirs = read_dicom(series), wrapper_from_file(series.files[0])
        np.testing.assert_array_equal(volume.data, theirs.get_data().transpose(1, 0, 2))
        expected = (LPS_TO_RAS @ theirs.affine)[:, [1, 0, 2, 3]]  # nibabel puts rows first
        np.testing.assert_allclose(volume.affine, expected, atol=1e-3)
        assert series.grid.shape == volume.data.shape == (128, 128, 48)


def test_mosaics_ask_for_dcm2niix_where_it_is_not_there(mosaics, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(mosaics))
    message = (
        r"siemens_dwi_0\.dcm \(series 12-1\): is a mosaic of slices, which dcm2niix reads; "
        r'dcm2niix is not installed: pip install .*"\.\[dicom\]" in '
    )
    with pytest.raises(InputError, match=message):
        read_dicom(find_series(mosaics)[0])


def corners(affine, shape):
    ends = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    return ends @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("decimals", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(2))
def test_rounded_directions_become_a_rotation_at_the_places_of_simpleitk(tmp_path, decimals, seed):
    rotation = Rotation.random(random_state=seed).as_matrix()
    for k in range(24):
        one = dataset(values((1, 32, 40))[0], 3 * k * rotation[:, 2] + [10, -20, 30])
        stated = rotation[:, :2].T.ravel()
        one.ImageOrientationPatient = [round(float(x), decimals) for x in stated]
        one.ImagePositionPatient = [round(float(x), 3) for x in one.ImagePositionPatient]
        one.InstanceNumber = k + 1
        save(one, tmp_path / f"{k:02d}.dcm")
    (series,) = find_series(tmp_path)
    directions = series.grid.affine[:3, :3] / series.grid.spacing
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    theirs = corners(itk_affine(read_with_itk(tmp_path)), series.grid.shape)
    assert (
        np.linalg.norm(corners(series.grid.affine, series.grid.shape) - theirs, axis=1).max() < 0.05
    )
    true = np.column_stack([rotation * [0.75, 0.5, 3], [10, -20, 30]])
    off = corners(series.grid.affine, series.grid.shape) - corners(
        LPS_TO_RAS[:3, :3] @ true, series.grid.shape
    )
    assert np.linalg.norm(off, axis=1).max() < 150 * 10.0**-decimals + 0.005  # of the rounding


@pytest.mark.parametrize("degrees", [0.5, 12, 25])
def test_a_tilted_gantry_stays_a_shear_beside_rounded_directions(tmp_path, degrees):
    aside = 3 * np.tan(np.radians(degrees))
    for k, pixels in enumerate(values((8, 6, 5))):
        one = dataset(pixels, (0, round(k * aside, 4), k * 3.0))
        one.ImageOrientationPatient = [0.955, 0.296, 0, -0.296, 0.955, 0]
        save(one, tmp_path / f"{k}")
    np.testing.assert_allclose(read_dicom(tmp_path).affine[:3, 2], [0, -aside, 3], atol=1e-4)


# -- dcm2niix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": 0.5, "RescaleIntercept": 10}])
@pytest.mark.parametrize("directions", [AXIAL, OBLIQUE])
def test_dcm2niix_reads_the_same(tmp_path, directions, tags):
    data = values((4, 32, 24))
    write(tmp_path, data, directions=directions, Manufacturer="SIEMENS", **tags)
    ours, theirs = read_dicom(tmp_path), read_dicom(tmp_path, reader="dcm2niix")
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-6)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)


def fake_program(tmp_path, monkeypatch, script):
    program = tmp_path / "dcm2niix"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setitem(
        sys.modules, "dcm2niix", types.SimpleNamespace(bin=str(program), __spec__=1)
    )
    return write(tmp_path / "series", values())


def test_dcm2niix_that_fails_says_so(tmp_path, monkeypatch):
    script = "import sys; print('Error: no luck'); sys.exit(3)"
    folder = fake_program(tmp_path, monkeypatch, script)
    with pytest.raises(
        InputError,
        match=r"series \(series 4\): dcm2niix failed with code 3: Error: no luck; use reader=",
    ):
        read_dicom(folder, reader="dcm2niix")


def test_dcm2niix_that_makes_nothing_says_so(tmp_path, monkeypatch):
    folder = fake_program(tmp_path, monkeypatch, "")
    with pytest.raises(
        InputError, match=r"makes 0 volumes of these files \(no output\); use reader="
    ):
        read_dicom(folder, reader="dcm2niix")


def test_dcm2niix_that_makes_another_size_says_so(tmp_path, monkeypatch):
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "x.nii")
    copy = f"import shutil, sys; shutil.copy({str(tmp_path / 'x.nii')!r}, sys.argv[-2])"
    folder = fake_program(tmp_path, monkeypatch, copy)
    with pytest.raises(InputError, match=r"makes a volume of \(2, 2, 2\) of these files, not of"):
        read_dicom(folder, reader="dcm2niix")


def test_dcm2niix_that_hangs_is_ended(tmp_path, monkeypatch):
    folder = fake_program(tmp_path, monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr("segjax.data.io.dicom.dcm2niix._LONGEST", 0.2)
    with pytest.raises(InputError, match="cannot be run or does not end"):
        read_dicom(folder, reader="dcm2niix")


def test_dcm2niix_that_is_not_there_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r'is not installed: pip install .*"\.\[dicom\]" in '):
        read_dicom(write(tmp_path / "series", values()), reader="dcm2niix")


def test_dcm2niix_on_the_path_is_found(tmp_path, monkeypatch):
    folder = fake_program(tmp_path, monkeypatch, "print('mine')")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"makes 0 volumes of these files \(mine\)"):
        read_dicom(folder, reader="dcm2niix")


def test_files_are_copied_where_links_are_forbidden(tmp_path, monkeypatch):
    def refuse(link, target):
        raise OSError("a privilege is not held")

    folder = write(tmp_path, values((4, 32, 24)), Manufacturer="SIEMENS")
    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    np.testing.assert_array_equal(read_dicom(folder, reader="dcm2niix").data, values((4, 32, 24)).T)


# -- what leaves --------------------------------------------------------------------------------

MARKER = "ZQXMARK"
FREE_TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR", "CS"}
KEPT = {  # values that say how the image was made, whatever their type
    "Modality", "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "BodyPartExamined",
    "PatientPosition", "MRAcquisitionType", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "SequenceName", "PulseSequenceName", "ReceiveCoilName", "InPlanePhaseEncodingDirection",
    "ImageType", "PhotometricInterpretation", "PixelPresentation", "SpecificCharacterSet",
}  # fmt: skip


def marked(one):
    """Fill every element that the dictionary has and that can hold text with a marker."""
    for tag, (vr, _, _, _, keyword) in pydicom.datadict.DicomDictionary.items():
        if not keyword or keyword in KEPT or tag >> 16 in (0x0000, 0x0002) or tag >> 16 >= 0x5000:
            continue
        if vr in FREE_TEXT:
            one.add_new(tag, vr, MARKER)
        elif vr in ("DA", "DT", "TM"):
            one.add_new(tag, vr, {"DA": "19870623", "DT": "19870623", "TM": "235959"}[vr])
        elif vr == "UI" and keyword not in ("SOPClassUID", "SeriesInstanceUID"):
            one.add_new(tag, vr, "1.2.840.987654321")
    private = one.private_block(0x0013, MARKER, create=True)
    private.add_new(0x10, "LO", MARKER)
    one.SeriesInstanceUID = "1.2.840.987654321"
    return one


@pytest.mark.parametrize("reader", ["simpleitk", "dcm2niix"])
def test_nothing_of_the_patient_leaves(tmp_path, reader):
    (tmp_path / "in").mkdir()
    for k, pixels in enumerate(values((4, 32, 24))):
        tags = {"Manufacturer": "SIEMENS", "EchoTime": 127.764, "RepetitionTime": 9000}
        one = marked(dataset(pixels, (0, 0, 3 * k), InstanceNumber=k + 1, **tags))
        save(one, tmp_path / "in" / f"{k}.dcm")
    (path,) = convert(tmp_path / "in", tmp_path / "out", reader=reader)
    assert path == tmp_path / "out" / "series4.nii.gz"
    facts = json.loads((tmp_path / "out" / "series4.json").read_text())
    assert (facts["EchoTime"], facts["RepetitionTime"]) == (0.127764, 9.0)
    nifti = nibabel.load(path)
    everything = nifti.header.binaryblock + nifti.dataobj.get_unscaled().tobytes()
    everything += path.read_bytes() + (tmp_path / "out" / "series4.json").read_bytes()
    for marker in (MARKER, "1987", "0623", "235959", "987654321"):
        assert marker.encode() not in everything
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "series4.json", "series4.nii.gz",
    ]  # fmt: skip


def test_identifiers_are_written_where_they_are_asked_for(tmp_path):
    tags = {"PatientName": "Muster^Max", "PatientID": "42", "StudyDate": "20200119"}
    write(tmp_path / "in", values(), **tags)
    convert(tmp_path / "in", tmp_path / "out", identifiers=True)
    facts = json.loads((tmp_path / "out" / "series4.json").read_text())
    assert {key: facts[key] for key in tags} == tags


def test_facts_have_the_names_and_units_of_bids(tmp_path):
    write(
        tmp_path, values(), MagneticFieldStrength=7, FlipAngle=111, InversionTime=2250,
        EchoTime="127.764", ScanningSequence=["SE", "IR"], SeriesDescription="Muster Max",
    )  # fmt: skip
    facts = sidecar(find_series(tmp_path)[0])
    assert facts == {
        "Modality": "MR", "ScanningSequence": ["SE", "IR"],
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "MagneticFieldStrength": 7, "EchoTime": 0.127764, "InversionTime": 2.25, "FlipAngle": 111,
        "SliceThickness": 2.5, "SeriesNumber": 4,
    }  # fmt: skip


def test_facts_of_functional_groups_are_found(tmp_path):
    write_enhanced(tmp_path / "e", values(), oblique_positions(4))
    facts = sidecar(find_series(tmp_path)[0])
    assert (facts["RepetitionTime"], facts["EchoTime"], facts["FlipAngle"]) == (9.0, 0.1, 90)


def test_odd_values_are_no_facts(tmp_path):
    with pydicom.config.disable_value_validation():
        one = dataset(values()[0], ScanOptions="a" * 80)
    one.add_new("MagneticFieldStrength", "LO", "three")
    one.add_new("FlipAngle", "FD", float("nan"))
    save(one, tmp_path / "a")
    facts = sidecar(find_series(tmp_path)[0])
    assert not {"MagneticFieldStrength", "FlipAngle", "ScanOptions"} & set(facts)


def test_our_facts_are_those_of_dcm2niix(flair, tmp_path):
    import dcm2niix

    options = ["-b", "o", "-f", "x", "-o", str(tmp_path), str(flair)]
    dcm2niix.main(options, capture_output=True, check=True)
    theirs = json.loads((tmp_path / "x.json").read_text())
    ours = sidecar(find_series(flair)[0])
    shared = {key for key in ours if key in theirs and not isinstance(ours[key], list)}
    assert {"EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "SAR"} <= shared
    assert {key: ours[key] for key in shared} == pytest.approx({key: theirs[key] for key in shared})


def test_written_facts_are_never_overwritten_unasked(tmp_path):
    (series,) = find_series(write(tmp_path / "in", values()))
    path = tmp_path / "facts.json"
    write_sidecar(series, path)
    with pytest.raises(InputError, match="exists already"):
        write_sidecar(series, path)
    write_sidecar(series, path, overwrite=True)
    assert json.loads(path.read_text()) == sidecar(series)


def test_conversion_never_overwrites_unasked(tmp_path):
    write(tmp_path / "in", values())
    convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match=r"series4\.nii\.gz: exists already"):
        convert(tmp_path / "in", tmp_path / "out")
    (written,) = convert(tmp_path / "in", tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(nibabel.load(written).dataobj, values().T)
    with pytest.raises(InputError, match="cannot be made a folder"):
        convert(tmp_path / "in", written)


def test_importing_loads_neither_pydicom_nor_simpleitk():
    code = (
        "import sys, segjax.data.io.dicom.series; "
        "print(sorted({'pydicom', 'SimpleITK', 'nibabel', 'jax', 'dcm2niix'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
