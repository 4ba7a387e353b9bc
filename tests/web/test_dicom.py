"""DICOM in and out of the page, against pydicom, highdicom and segjax."""

import shutil
import subprocess
import warnings
from io import BytesIO
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from segjax.cli import main
from segjax.data.io.dicom.series import choose_series, find_series
from segjax.data.io.formats import read_label, write_volume
from segjax.volume import Volume
from tests.docs.world import write_scan
from tests.web.node import WEB, DroppedFile, PageModules, PageProblem

HTML = '<img src=x onerror="document.title=1">'
LESION = {"name": "lesion", "value": 1, "color": [86, 180, 233], "code": None}
CORE = {"name": "core", "value": 2, "color": [10, 18, 233], "code": None}
NETWORK = {"network": "unet3d", "sha256": "ab" * 32, "edited": False}


@pytest.fixture(scope="session")
def dicom_modules(tmp_path_factory):
    """The page's modules, with dcmjs inside."""
    if not (WEB / "node_modules").is_dir() or not shutil.which("node"):
        pytest.skip("the page's packages are not there: npm ci --prefix export/web")
    out = tmp_path_factory.mktemp("dicom")
    harness = Path(__file__).with_name("harness.ts")
    config = out / "vite.config.mjs"
    config.write_text("export default { ssr: { noExternal: true } };")
    command = ["node_modules/.bin/vite", "build", ".", "--config", str(config), "--ssr"]
    command += [str(harness), "--outDir", str(out / "built"), "--logLevel", "error"]
    subprocess.run(command, cwd=WEB, check=True)
    modules = PageModules(next((out / "built").glob("harness.*js")))
    yield modules
    modules.close()


@pytest.fixture
def scan(tmp_path):
    """The files of a small oblique series, by name."""
    folder = tmp_path / "scan"
    write_scan(folder)
    turned = np.array([0.999679, 0.02533, 0, -0.0244148, 0.963561, -0.26637])
    normal = np.cross(turned[:3], turned[3:])
    for k, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = turned.tolist()
        dataset.ImagePositionPatient = [f"{x:.4f}" for x in [-7, 3, 20] + 2.5 * k * normal]
        dataset.PixelSpacing, dataset.SliceThickness = [0.43, 0.86], 2
        dataset.SpacingBetweenSlices = 2.5
        dataset.save_as(path)
    return folder


def dropped(folder):
    return [DroppedFile(p.name, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()]


def read(modules, files):
    return modules.call("dicom/read.readDicom", files)


def keys(answer):
    return [problem["key"] for problem in answer["problems"]]


def changed(folder, change, only=None):
    """Change the headers of all files of a folder, or of the one with a number."""
    for k, path in enumerate(sorted(folder.iterdir())):
        if only is None or k == only:
            dataset = pydicom.dcmread(path)
            change(dataset)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset.save_as(path)


# -- in -------------------------------------------------------------------------------------------


def test_a_series_lies_where_segjax_reads_it(dicom_modules, scan):
    answer = read(dicom_modules, dropped(scan)[::-1])
    expected = choose_series(scan).grid
    (found,) = answer["found"]
    assert answer["problems"] == []
    assert found["slices"] == expected.shape[2]
    assert tuple(found["grid"]["shape"]) == expected.shape
    np.testing.assert_allclose(found["grid"]["affine"], expected.affine, atol=1e-9)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ([1, 0, 0], [0, 1, 0]),
        ([0, 1, 0], [0, 0, -1]),
        ([-1, 0, 0], [0, 0, 1]),
        ([0.8, 0.6, 0], [0.36, -0.48, 0.8]),
        ([0.707, 0.707, 0], [0, 0, -1]),
    ],
)
def test_slices_of_any_orientation_lie_where_segjax_reads_them(dicom_modules, scan, row, column):
    normal = np.cross(row, column)
    for k, path in enumerate(sorted(scan.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [*row, *column]
        dataset.ImagePositionPatient = [f"{x:.3f}" for x in [1, 2, 3] - 2.5 * k * normal]
        dataset.save_as(path)
    (found,) = read(dicom_modules, dropped(scan))["found"]
    expected = choose_series(scan).grid
    np.testing.assert_allclose(found["grid"]["affine"], expected.affine, atol=1e-9)


def test_the_real_oblique_series_lies_where_segjax_reads_it(dicom_modules, real_series):
    (found,) = read(dicom_modules, dropped(real_series))["found"]
    np.testing.assert_allclose(
        found["grid"]["affine"], choose_series(real_series).grid.affine, atol=1e-9
    )


def test_a_tilted_gantry_stays_sheared(dicom_modules, scan):
    for k, path in enumerate(sorted(scan.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0.7 * k, 2.5 * k]
        dataset.save_as(path)
    (found,) = read(dicom_modules, dropped(scan))["found"]
    affine = np.array(found["grid"]["affine"])
    np.testing.assert_allclose(affine[:3, 2], [0, -0.7, 2.5], atol=1e-12)
    np.testing.assert_allclose(affine, choose_series(scan).grid.affine, atol=1e-9)


def test_the_header_places_a_mask_as_the_series(dicom_modules, scan):
    grid = read(dicom_modules, dropped(scan))["found"][0]["grid"]
    made = dicom_modules.call("io/nifti.headerOf", grid).tobytes()
    header = nib.Nifti1Header(made[:348])
    assert header.get_data_shape() == tuple(grid["shape"])
    np.testing.assert_allclose(header.get_sform(), grid["affine"], atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), grid["affine"], atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_values_made_by_dcm2niix_are_turned_onto_the_slices(dicom_modules):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(3, 4, 5)).astype(np.float32)
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    flips = np.diag([1.0, -1.0, -1.0, 1.0])
    flips[:3, 3] = 0, 3, 4
    volume = {
        "data": data[:, ::-1, ::-1].ravel(),
        "shape": list(data.shape),
        "affine": (affine @ flips).tolist(),
    }
    grid = {"shape": list(data.shape), "affine": affine.tolist()}
    turned = dicom_modules.call("dicom/convert.onGrid", volume, grid, "flair")
    np.testing.assert_array_equal(turned["data"], data.ravel())
    volume["affine"][0][3] += 0.5
    with pytest.raises(PageProblem, match="dicomElsewhere"):
        dicom_modules.call("dicom/convert.onGrid", volume, grid, "flair")
    with pytest.raises(PageProblem, match="dicomShape"):
        dicom_modules.call("dicom/convert.onGrid", volume, grid | {"shape": [3, 4, 6]}, "flair")


def implicit(dataset):
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def compressed(dataset):
    stream = BytesIO()
    pixels = dataset.pixel_array.astype(np.uint16)
    Image.fromarray(pixels).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


@pytest.mark.parametrize("coded", [implicit, compressed])
def test_other_codings_are_the_same_series(dicom_modules, scan, coded):
    expected = read(dicom_modules, dropped(scan))["found"][0]["grid"]
    changed(scan, coded)
    answer = read(dicom_modules, dropped(scan))
    assert answer["problems"] == []
    assert answer["found"][0]["grid"] == expected


def test_big_endian_is_the_same_series(dicom_modules, scan):
    expected = read(dicom_modules, dropped(scan))["found"][0]["grid"]
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    answer = read(dicom_modules, dropped(scan))
    assert answer["found"][0]["grid"] == expected


@pytest.mark.parametrize(
    ("charset", "text"),
    [("ISO_IR 100", "Hirnläsion"), ("ISO_IR 192", "病変"), ("ISO_IR 144", "Очаг"), (None, HTML)],
)
def test_descriptions_are_texts_in_any_character_set(dicom_modules, scan, charset, text):
    def describe(dataset):
        dataset.SeriesDescription = text
        if charset:
            dataset.SpecificCharacterSet = charset

    changed(scan, describe)
    (found,) = read(dicom_modules, dropped(scan))["found"]
    assert found["series"]["description"] == text


def test_two_series_are_two_volumes(dicom_modules, scan, tmp_path):
    other = shutil.copytree(scan, tmp_path / "other")
    uid = generate_uid()

    def renumber(dataset):
        dataset.SeriesInstanceUID, dataset.SeriesNumber = uid, 1

    changed(other, renumber)
    found = read(dicom_modules, dropped(scan) + dropped(other))["found"]
    assert len(found) == 2
    assert found[0]["series"]["uid"] == uid


def test_two_echoes_of_one_series_are_two_volumes(dicom_modules, scan):
    for path in sorted(scan.iterdir()):
        for echo in (20, 90):
            dataset = pydicom.dcmread(path)
            dataset.EchoTime = echo
            dataset.save_as(path.with_name(f"{echo}-{path.name}"))
        path.unlink()
    answer = read(dicom_modules, dropped(scan))
    assert [one["slices"] for one in answer["found"]] == [len(list(scan.iterdir())) // 2] * 2
    assert len(find_series(scan)) == 2


def test_frames_of_one_file_are_a_volume(dicom_modules, scan):
    datasets = [pydicom.dcmread(path) for path in sorted(scan.iterdir())]
    for number, dataset in enumerate(datasets, 1):
        dataset.InstanceNumber = number
    expected = choose_series(scan).grid.affine
    try:
        convert = highdicom.legacy.LegacyConvertedEnhancedMRImage
        made = convert(datasets, generate_uid(), 9, generate_uid(), 1)
    except (AttributeError, ValueError) as error:
        pytest.skip(f"highdicom does not make it of this scan: {error}")
    content = BytesIO()
    made.save_as(content)
    (found,) = read(dicom_modules, [DroppedFile("e.dcm", content.getvalue())])["found"]
    assert found["slices"] == len(datasets)
    np.testing.assert_allclose(found["grid"]["affine"], expected, atol=1e-9)


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("implicitly", [False, True])
def test_a_truncated_slice_is_named_and_its_series_not_read(dicom_modules, scan, implicitly):
    if implicitly:
        changed(scan, implicit)
    path = sorted(scan.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-10])
    answer = read(dicom_modules, dropped(scan))
    assert keys(answer) == ["dicomCut", "dicomPart"]
    assert answer["problems"][0]["values"]["name"] == path.name
    assert answer["problems"][1]["values"]["file"] == path.name
    assert answer["found"] == []


@pytest.mark.parametrize("size", [0, 60, 131, 140, 200, 400, 600])
def test_a_header_cut_anywhere_is_named_and_the_series_not_read(dicom_modules, scan, size):
    path = sorted(scan.iterdir())[1]
    path.write_bytes(path.read_bytes()[:size])
    answer = read(dicom_modules, dropped(scan))
    assert answer["problems"][0]["values"]["name"] == path.name
    assert keys(answer)[-1] == "dicomPart"
    assert answer["found"] == []


def test_compressed_pixels_without_their_end_are_truncated(dicom_modules, scan):
    changed(scan, compressed)
    path = sorted(scan.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-12])
    assert keys(read(dicom_modules, dropped(scan)))[0] == "dicomCut"


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_never_end_the_page(dicom_modules, scan, seed):
    rng = np.random.default_rng(seed)
    content = sorted(scan.iterdir())[0].read_bytes()
    files = []
    for number in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        at = rng.integers(132, 1500, size=rng.integers(1, 20))
        damaged[at] = rng.integers(0, 256, at.size)
        files.append(DroppedFile(f"{number}.dcm", damaged.tobytes()))
    answer = read(dicom_modules, files)
    assert len(answer["found"]) + len(answer["problems"]) > 0


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"hello", "dicomNone"),
        (b"", "dicomEmpty"),
        (bytes(128) + b"DICM" + bytes(range(200)), "dicomCorrupt"),
        (b"\x30\x82\x10\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03", "dicomEncrypted"),
    ],
)
def test_files_that_are_no_dicom_are_named(dicom_modules, content, key):
    answer = read(dicom_modules, [DroppedFile("a.txt", content)])
    assert keys(answer) == [key]
    assert answer["problems"][0]["values"]["name"] == "a.txt"


def test_a_text_beside_a_series_does_no_harm(dicom_modules, scan):
    answer = read(dicom_modules, [*dropped(scan), DroppedFile("README.txt", b"hello")])
    assert keys(answer) == ["dicomNone"]
    assert len(answer["found"]) == 1


def set_to(**values):
    return lambda dataset: [setattr(dataset, name, value) for name, value in values.items()]


def without(name):
    return lambda dataset: delattr(dataset, name)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (set_to(Rows=60000, Columns=60000), "dicomNumbers"),
        (set_to(NumberOfFrames=10**9), "dicomNumbers"),
        (set_to(PixelSpacing=[0, 0]), "dicomNumbers"),
        (set_to(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "dicomNumbers"),
        (set_to(ImagePositionPatient=[1, 2]), "dicomNumbers"),
        (set_to(RescaleSlope=0), "dicomNumbers"),
        (set_to(BitsAllocated=64), "dicomBits"),
        (set_to(SamplesPerPixel=3), "dicomColour"),
        (set_to(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "dicomMosaic"),
        (set_to(ModalityLUTSequence=Sequence([pydicom.Dataset()])), "dicomLookUpTable"),
        (without("ImagePositionPatient"), "dicomNoPlace"),
        (without("Rows"), "dicomNoImage"),
    ],
)
def test_images_that_cannot_be_slices_are_named(dicom_modules, scan, change, key):
    changed(scan, change)
    answer = read(dicom_modules, dropped(scan))
    assert set(keys(answer)) == {key}
    assert answer["found"] == []


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.51", "1.2.3"])
def test_codings_that_are_not_decoded_are_named(dicom_modules, scan, uid):
    path = sorted(scan.iterdir())[0]
    dataset = pydicom.dcmread(path)
    compressed(dataset)
    dataset.file_meta.TransferSyntaxUID = uid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    (problem,) = read(dicom_modules, dropped(scan)[:1])["problems"]
    assert problem["key"] == "dicomCoding"


def test_a_gap_is_named_with_the_slices_beside_it(dicom_modules, scan):
    paths = sorted(scan.iterdir())
    paths[3].unlink()
    (problem,) = read(dicom_modules, dropped(scan))["problems"]
    assert problem["key"] == "dicomGap"
    assert problem["values"]["count"] == 1
    assert {problem["values"]["first"], problem["values"]["second"]} == {
        paths[2].name,
        paths[4].name,
    }


def test_two_slices_at_one_place_are_named(dicom_modules, scan):
    first = sorted(scan.iterdir())[0]
    shutil.copy(first, scan / "again.dcm")
    (problem,) = read(dicom_modules, dropped(scan))["problems"]
    assert problem["key"] == "dicomTwice"
    assert {problem["values"]["first"], problem["values"]["second"]} == {first.name, "again.dcm"}


def test_uneven_slices_are_named(dicom_modules, scan):
    def move(dataset):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + 1]

    changed(scan, move, only=2)
    (problem,) = read(dicom_modules, dropped(scan))["problems"]
    assert problem["key"] == "dicomUneven"


def test_every_second_slice_alone_is_no_series(dicom_modules, scan):
    for path in sorted(scan.iterdir())[1::2]:
        path.unlink()
    (problem,) = read(dicom_modules, dropped(scan))["problems"]
    assert problem["key"] == "dicomSparse"


def test_localisers_are_left_out_where_there_is_something_else(dicom_modules, scan, tmp_path):
    other = shutil.copytree(scan, tmp_path / "other")
    values = {"SeriesInstanceUID": generate_uid(), "SeriesDescription": "3-plane scout"}
    changed(other, set_to(**values))
    answer = read(dicom_modules, dropped(scan) + dropped(other))
    assert keys(answer) == ["dicomLocaliser"]
    assert len(answer["found"]) == 1
    assert len(read(dicom_modules, dropped(other))["found"]) == 1


# -- out ------------------------------------------------------------------------------------------


def image_of(folder):
    """What the page has of a series."""
    grid = choose_series(folder).grid
    volume = {
        "data": np.zeros(1, np.float32),
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
    }
    series = {"uid": "", "description": "", "modality": "MR", "files": dropped(folder)[::-1]}
    return {"name": "flair", "volume": volume, "header": np.zeros(352, np.uint8), "series": series}


def mask_of(folder):
    """Draw two labels, asymmetric along each axis, corners included."""
    mask = np.zeros(choose_series(folder).grid.shape, np.uint8)
    mask[3:8, 2:5, 1:4] = 1
    mask[5:7, 7:11, 2] = 2
    mask[0, 0, 0], mask[-1, 0, -1], mask[-1, -1, -1] = 2, 1, 2
    return mask


def segmentation(modules, folder, mask, segments=(LESION, CORE), maker=NETWORK, **image):
    arguments = (image_of(folder) | image, mask.ravel(), list(segments), maker)
    return modules.call("dicom/segmentation.writeSegmentation", *arguments).tobytes()


@pytest.fixture
def made(dicom_modules, scan, tmp_path):
    path = tmp_path / "made.seg.dcm"
    path.write_bytes(segmentation(dicom_modules, scan, mask_of(scan)))
    return path


def test_segjax_reads_the_same_mask_on_the_same_grid(made, scan):
    grid = choose_series(scan).grid
    read_back = read_label(made, like=grid)
    np.testing.assert_array_equal(read_back.data, mask_of(scan))
    np.testing.assert_allclose(read_back.affine, grid.affine, atol=1e-6)


def test_highdicom_reads_the_same_mask(made, scan):
    volume = highdicom.seg.segread(made).get_volume(combine_segments=True)
    along = volume.affine[:3, 0] @ np.diag([-1, -1, 1]) @ choose_series(scan).grid.affine[:3, 2]
    slices = volume.array if along > 0 else volume.array[::-1]
    np.testing.assert_array_equal(slices, mask_of(scan).transpose(2, 1, 0))


def test_dciodvfy_finds_no_error(made):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    done = subprocess.run(["dciodvfy", made], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_evaluate_takes_it(made, scan, tmp_path, capsys):
    masks, labels = tmp_path / "masks", tmp_path / "labels"
    masks.mkdir()
    labels.mkdir()
    shutil.copy(made, masks / "a.dcm")
    volume = Volume(mask_of(scan), choose_series(scan).grid.affine)
    write_volume(volume, labels / "a.nii.gz")
    assert main(["evaluate", str(masks), str(labels)]) == 0, capsys.readouterr().err


def test_it_is_of_the_same_patient_study_and_frame_of_reference(made, scan):
    source, made = pydicom.dcmread(sorted(scan.iterdir())[0]), pydicom.dcmread(made)
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert made.get(name) == source.get(name), name
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID


def test_each_frame_refers_to_the_slice_where_it_lies(made, scan):
    places = {}
    for path in scan.iterdir():
        source = pydicom.dcmread(path, stop_before_pixels=True)
        places[source.SOPInstanceUID] = list(source.ImagePositionPatient)
    made = pydicom.dcmread(made)
    slices = (mask_of(scan)[..., None] == [1, 2]).any((0, 1)).sum()
    assert int(made.NumberOfFrames) == slices
    for frame in made.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert list(place) == places[source.ReferencedSOPInstanceUID]


def test_its_attributes_are_those_of_predict(made, scan, tmp_path):
    from segjax.data.io.dicom.write_segmentation import Algorithm, Segment, make_segmentation

    series = choose_series(scan)
    segments = [Segment("lesion", (86, 180, 233)), Segment("core", (10, 18, 233))]
    network = Algorithm("unet3d", "0.1.0", ("ab" * 32,))
    mask = Volume(mask_of(scan), series.grid.affine)
    expected = make_segmentation(mask, series, segments, network)
    made = pydicom.dcmread(made)
    missing = {element.keyword for element in expected} - {element.keyword for element in made}
    assert missing <= {"ContributingEquipmentSequence"}
    for k in (0, 1):
        assert made.SegmentSequence[k] == expected.SegmentSequence[k]
    ours, theirs = (one.SharedFunctionalGroupsSequence[0] for one in (made, expected))
    for group, name, number in (
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
        ("PixelMeasuresSequence", "SpacingBetweenSlices", 1),
        ("PixelMeasuresSequence", "SliceThickness", 1),
    ):
        stated = [np.atleast_1d(one[group].value[0][name].value) for one in (ours, theirs)]
        assert len(stated[0]) == number
        np.testing.assert_allclose(*np.array(stated, float), rtol=1e-12)


@pytest.mark.parametrize(
    ("maker", "kind"),
    [
        (NETWORK, "AUTOMATIC"),
        (NETWORK | {"edited": True}, "SEMIAUTOMATIC"),
        ({"network": None, "edited": True}, "MANUAL"),
    ],
)
def test_it_says_who_drew_it(dicom_modules, scan, tmp_path, maker, kind):
    content = segmentation(dicom_modules, scan, mask_of(scan), maker=maker)
    made = pydicom.dcmread(BytesIO(content))
    assert {segment.SegmentAlgorithmType for segment in made.SegmentSequence} == {kind}


def test_names_are_texts_of_any_letters(dicom_modules, scan):
    names = [HTML, "Läsion 病変 \\ " + 30 * "é"]
    segments = [LESION | {"name": names[0]}, CORE | {"name": names[1]}]
    made = pydicom.dcmread(BytesIO(segmentation(dicom_modules, scan, mask_of(scan), segments)))
    assert made.SegmentSequence[0].SegmentLabel == HTML
    label = made.SegmentSequence[1].SegmentLabel
    assert label.startswith("Läsion 病変 / é")
    assert len(label.encode()) <= 64


def test_a_code_of_a_part_of_the_body_is_of_its_category(dicom_modules, scan):
    brain = {"scheme": "SCT", "value": "12738006", "meaning": "Brain"}
    content = segmentation(dicom_modules, scan, mask_of(scan), [LESION, CORE | {"code": brain}])
    first, second = pydicom.dcmread(BytesIO(content)).SegmentSequence
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeValue == "12738006"
    assert second.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"


def test_an_empty_mask_keeps_all_its_frames(dicom_modules, scan, tmp_path):
    mask = np.zeros_like(mask_of(scan))
    path = tmp_path / "empty.seg.dcm"
    path.write_bytes(segmentation(dicom_modules, scan, mask))
    assert int(pydicom.dcmread(path).NumberOfFrames) == 2 * mask.shape[2]
    assert not read_label(path, like=choose_series(scan).grid).data.any()


def test_odd_values_of_a_header_are_left_out(dicom_modules, scan):
    def spoil(dataset):
        dataset.PatientAge, dataset.PatientSex = "old", "X"
        dataset.StudyDate = "yesterday"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed(scan, spoil)
    made = pydicom.dcmread(BytesIO(segmentation(dicom_modules, scan, mask_of(scan))))
    assert (made.get("PatientAge"), made.PatientSex, made.StudyDate) == (None, "", "")


def test_a_mask_of_another_grid_is_refused(dicom_modules, scan):
    with pytest.raises(PageProblem, match="segmentationGrid"):
        segmentation(dicom_modules, scan, mask_of(scan)[1:])


def test_an_image_that_is_not_dicom_is_refused(dicom_modules, scan):
    with pytest.raises(PageProblem, match="segmentationSource"):
        segmentation(dicom_modules, scan, mask_of(scan), series=None)


def test_a_series_without_uids_is_refused(dicom_modules, scan):
    changed(scan, set_to(SOPInstanceUID=""), only=1)
    with pytest.raises(PageProblem, match="segmentationUid"):
        segmentation(dicom_modules, scan, mask_of(scan))


@pytest.fixture
def real_series():
    import os

    folder = Path(os.environ.get("SEGJAX_DATA", "absent")) / "dicom" / "flair_oblique"
    if not folder.is_dir():
        pytest.skip("SEGJAX_DATA names no folder with dicom/flair_oblique")
    return folder
