"""DICOM segmentations and reports that segjax writes: read by others, valid, and of nobody else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from segjax.data.io.dicom.origin import write_object
from segjax.data.io.dicom.series import choose_series
from segjax.data.io.dicom.write_report import Findings, make_report
from segjax.data.io.dicom.write_segmentation import Algorithm, Segment, make_segmentation
from segjax.data.io.formats import read_label
from segjax.errors import InputError
from segjax.volume import Volume
from tests.data.io.dicom.made import KINDS, SHAPE, STEPS, write_made

READERS = Path(__file__).parent / "readers"
NETWORK = Algorithm("mpunet++", "0.1.0", ("ab" * 32,))
SEGMENTS = (
    Segment("lesion", (86, 180, 233)),
    Segment("oedema", (255, 0, 0), ("SCT", "79654002", "Edema")),
)
FINDINGS = (Findings(0.25, 2, 0.125), Findings(0.0, 0, 0.0))
ALL = (*KINDS, "single")


def labels(shape=SHAPE):
    """Return a mask that looks otherwise from every side; slice 1 of 5 is empty."""
    some = np.zeros(shape, np.uint8)
    some[0, 0, 0] = some[-1, 2, 0] = some[2:4, 1:6, -1] = 1
    some[5, 3:5, shape[2] // 2] = 2
    return some


def series_of(folder, kind, **tags):
    one = kind == "single"
    return choose_series(
        write_made(folder, "oblique" if one else kind, **tags, slices=1 if one else 5)
    )


def mask_of(series, data=None):
    grid = series.grid
    return Volume(labels(grid.shape) if data is None else data, grid.affine)


def make(series, mask=None, **options):
    return make_segmentation(mask or mask_of(series), series, SEGMENTS, NETWORK, **options)


@pytest.fixture(scope="module", params=[*ALL, "real"])
def written(request, tmp_path_factory):
    """Return kind, series and mask, and the files of its SEG and its report."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    if kind == "real":
        series = choose_series(request.getfixturevalue("data_dir") / "dicom" / "flair_oblique")
    else:
        series = series_of(folder / "scan", kind)
    segmentation = make(series)
    report = make_report(segmentation, series, SEGMENTS, FINDINGS, NETWORK)
    files = folder / "a.seg.dcm", folder / "a.sr.dcm"
    for made, file in zip((segmentation, report), files, strict=True):
        write_object(made, file)
    return kind, series, mask_of(series), files


def voxels(series, segments_and_points):
    """Return a label map of points in the patient (mm, LPS+)."""
    drawn = np.zeros(series.grid.shape, np.uint8)
    for value, points in segments_and_points:
        ras = np.asarray(points) * (-1, -1, 1)
        inverse = np.linalg.inv(series.grid.affine)
        indices = ras @ inverse[:3, :3].T + inverse[:3, 3]
        np.testing.assert_allclose(indices, indices.round(), atol=1e-2)
        drawn[tuple(indices.round().astype(int).T)] = value
    return drawn


@pytest.mark.parametrize("kind", KINDS)
def test_the_grid_is_that_of_the_made_series(tmp_path, kind):
    directions, step = STEPS[kind]
    expected = np.column_stack([0.75 * directions[:, 0], 0.5 * directions[:, 1], step])
    ras = np.diag([-1.0, -1.0, 1.0]) @ expected
    np.testing.assert_allclose(series_of(tmp_path, kind).grid.affine[:3, :3], ras, atol=1e-6)


def test_own_reader_gives_the_mask_back(written):
    _, series, mask, (file, _) = written
    np.testing.assert_array_equal(read_label(file, like=series.grid).data, mask.data)


def test_highdicom_reads_the_same_pixels_of_each_source(written):
    kind, series, mask, (file, _) = written
    read = highdicom.seg.segread(file)
    frames = series.frames
    if kind == "enhanced":
        uid = pydicom.dcmread(frames[0].file).SOPInstanceUID
        options = {"source_frame_numbers": [frame.index + 1 for frame in frames]}
        pixels = read.get_pixels_by_source_frame(
            uid, **options, combine_segments=True, assert_missing_frames_are_empty=True
        )
    else:
        uids = [pydicom.dcmread(frame.file).SOPInstanceUID for frame in frames]
        pixels = read.get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), mask.data)


def test_dcmjs_reads_the_same_voxels_at_the_same_places(written):
    if not (READERS / "node_modules").is_dir() or not shutil.which("node"):
        pytest.skip(f"needs Node.js, and in {READERS}: npm install --ignore-scripts")
    _, series, mask, (file, _) = written
    command = ["node", str(READERS / "segments.mjs"), str(file)]
    read = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert read["labels"] == ["lesion", "oedema"]
    found = []
    for frame in read["frames"]:
        row, column = np.reshape(frame["orientation"], (2, 3))
        between_rows, between_columns = frame["spacing"]
        steps = np.array([row * between_columns, column * between_rows])
        found.append((frame["segment"], frame["position"] + np.array(frame["pixels"]) @ steps))
    np.testing.assert_array_equal(voxels(series, found), mask.data)


@pytest.mark.peer("dcmqi")
def test_dcmqi_reads_the_same_voxels_at_the_same_places(written, tmp_path):
    import dcmqi

    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    kind, series, mask, (file, _) = written
    if kind == "tilted":
        pytest.skip("dcmqi puts the slices of a tilted volume straight above each other")
    options = ("--inputDICOM", file, "--outputDirectory", tmp_path, "-t", "nifti")
    subprocess.run([program, *options], capture_output=True, check=True)
    found = []
    for value in (1, 2):
        image = nibabel.load(tmp_path / f"{value}.nii.gz")
        points = np.argwhere(np.asarray(image.dataobj)) @ image.affine[:3, :3].T
        found.append((value, (points + image.affine[:3, 3]) * (-1, -1, 1)))
    np.testing.assert_array_equal(voxels(series, found), mask.data)


def test_dciodvfy_finds_no_error(written):
    if not shutil.which("dciodvfy"):
        pytest.skip("needs dciodvfy, of Debian's dicom3tools")
    for file in written[-1]:
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert done.returncode == 0


# -- what it says -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axial(tmp_path_factory):
    return series_of(tmp_path_factory.mktemp("axial"), "axial")


def test_segments_have_names_colours_codes_and_the_network(axial):
    lesion, oedema = make(axial).SegmentSequence
    assert (lesion.SegmentLabel, oedema.SegmentLabel) == ("lesion", "oedema")
    kinds = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in (lesion, oedema)]
    assert kinds == ["52988006", "79654002"]
    assert oedema.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    # Lab of sRGB red is (53.24, 80.09, 67.20); DICOM: L * 65535 / 100, (a + 128) * 65535 / 255
    expected = [53.24 * 655.35, 208.09 * 257, 195.20 * 257]
    np.testing.assert_allclose(oedema.RecommendedDisplayCIELabValue, expected, atol=20)
    network = lesion.SegmentationAlgorithmIdentificationSequence[0]
    assert (network.AlgorithmName, network.AlgorithmVersion) == ("mpunet++", "0.1.0")
    assert network.AlgorithmParameters == "SHA-256=" + "ab" * 32
    assert lesion.SegmentAlgorithmType == "AUTOMATIC"


def test_structure_of_the_body_is_no_abnormal_one(axial):
    brain = Segment("brain", (0, 0, 0), ("SCT", "12738006", "Brain"))
    made = make_segmentation(mask_of(axial), axial, [brain, SEGMENTS[1]], NETWORK)
    (category,) = made.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence
    assert category.CodeMeaning == "Anatomical Structure"


def test_patient_study_and_frame_of_reference_are_those_of_the_series(axial):
    source, made = pydicom.dcmread(axial.files[0]), make(axial)
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
        "AccessionNumber", "FrameOfReferenceUID",
    ):  # fmt: skip
        assert made[keyword].value == source[keyword].value, keyword
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert (made.SeriesNumber, made.Modality, made.Manufacturer) == (401, "SEG", "segjax")


def test_same_result_has_the_same_uids_and_another_one_others(axial):
    first, again = make(axial), make(axial)
    other = make(axial, mask_of(axial, np.flip(labels(), 0)))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value == again[keyword].value
        assert first[keyword].value != other[keyword].value
    assert make(axial, keep_empty=True).SOPInstanceUID != first.SOPInstanceUID
    reports = [make_report(s, axial, SEGMENTS, FINDINGS, NETWORK) for s in (first, again, other)]
    assert [r.SOPInstanceUID == reports[0].SOPInstanceUID for r in reports] == [True, True, False]


def test_empty_slices_are_left_out_or_kept(axial, tmp_path):
    assert make(axial).NumberOfFrames == 2 + 1  # slices 0 and 4 of lesion, 2 of oedema
    kept = make(axial, keep_empty=True)
    assert kept.NumberOfFrames == 2 * SHAPE[2]
    write_object(kept, tmp_path / "a.seg.dcm")
    read = read_label(tmp_path / "a.seg.dcm", like=axial.grid)
    np.testing.assert_array_equal(read.data, labels())


def test_empty_mask_is_written_whole_and_read_as_empty(axial, tmp_path):
    made = make(axial, mask_of(axial, np.zeros(SHAPE, np.uint8)))
    write_object(made, tmp_path / "a.seg.dcm")
    assert not read_label(tmp_path / "a.seg.dcm", like=axial.grid).data.any()


def test_all_files_and_channels_of_the_study_on_the_grid_are_sources(tmp_path):
    study = {"StudyInstanceUID": "1.2.3"}
    first, second = (series_of(tmp_path / name, "axial", **study) for name in "ab")
    elsewhere = series_of(tmp_path / "c", "oblique", **study)
    foreign = series_of(tmp_path / "d", "axial")
    made = make(first, others=[second, elsewhere, foreign])
    named = {
        one.SeriesInstanceUID: len(one.ReferencedInstanceSequence)
        for one in made.ReferencedSeriesSequence
    }
    assert named == {first.uid: 5, second.uid: 5}
    sources = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    uids = [one.ReferencedSOPInstanceUID for one in sources.SourceImageSequence]
    position = made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    for uid, series in zip(uids, (first, second), strict=True):
        (file,) = [f for f in series.files if pydicom.dcmread(f).SOPInstanceUID == uid]
        assert pydicom.dcmread(file).ImagePositionPatient == position.ImagePositionPatient


@pytest.mark.filterwarnings("ignore:.*for VR")
def test_values_that_dicom_does_not_allow_stay_behind(tmp_path):
    tags = {"PatientSex": "female", "PatientWeight": "", "PatientAge": "72", "StudyID": "x" * 40}
    series = series_of(tmp_path, "axial", PatientName="Zoë^Ünal", **tags)
    for file in series.files:
        one = pydicom.dcmread(file)
        one.SpecificCharacterSet = "ISO_IR 100"
        one.save_as(file)
    made = make(choose_series(tmp_path))
    assert (made.PatientSex, made.StudyID) == ("", "")
    assert not {"PatientAge", "PatientWeight"} & set(made.dir())
    write_object(made, tmp_path / "a.seg.dcm")
    read = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (read.SpecificCharacterSet, str(read.PatientName)) == ("ISO_IR 192", "Zoë^Ünal")


def test_series_without_a_frame_of_reference_gets_one_of_its_own(tmp_path):
    series = series_of(tmp_path, "axial", FrameOfReferenceUID="")
    assert make(series).FrameOfReferenceUID.startswith("2.25.")


@pytest.mark.filterwarnings("ignore:.*(for VR|exceeds)")
def test_what_archives_file_by_stays_whatever_dicom_allows(tmp_path):
    tags = {
        "PatientID": "x" * 70,
        "PatientName": "y" * 70,
        "AccessionNumber": "12345678901234567890",
        "FrameOfReferenceUID": "1.2.03.4",
        "ClinicalTrialSponsorName": "made",
        "ClinicalTrialSiteID": "",
    }
    series = series_of(tmp_path, "axial", **tags)
    segmentation = make(series)
    report = make_report(segmentation, series, SEGMENTS, FINDINGS, NETWORK)
    assert {keyword: segmentation[keyword].value for keyword in tags} == tags
    assert (report.PatientID, report.AccessionNumber) == (tags["PatientID"], "12345678901234567890")


def test_series_that_nothing_can_refer_to_is_refused(tmp_path):
    series = series_of(tmp_path, "axial", StudyInstanceUID="")
    with pytest.raises(InputError, match=r"\.dcm: states no StudyInstanceUID"):
        make(series)


def test_mask_that_lies_elsewhere_is_refused(axial):
    moved = axial.grid.affine + np.diag([0, 0, 0.1, 0])
    with pytest.raises(InputError, match=r"the mask: lies elsewhere than .*series 4"):
        make(axial, Volume(labels(), moved))


def test_whatever_fails_repeats_no_value_of_the_header(axial, monkeypatch):
    def fail(*_, **__):
        raise ValueError("Zorbulon is no name")

    monkeypatch.setattr(highdicom.seg, "Segmentation", fail)
    with pytest.raises(
        InputError, match=r"no SEG can be made of its header \(ValueError\)"
    ) as told:
        make(axial)
    assert "Zorbulon" not in str(told.value)


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on file sizes")
def test_full_disk_is_said_in_a_line(axial, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = make(axial)
    made.PixelData = bytes(20_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"a\.seg\.dcm: cannot be written: File too large$"):
            write_object(made, tmp_path / "a.seg.dcm")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_value_that_cannot_be_written_is_not_repeated(axial, tmp_path):
    made = make(axial)
    made["Rows"]._value = "Zorbulon"
    with pytest.raises(InputError, match=r"a\.seg\.dcm: no SEG can be made") as told:
        write_object(made, tmp_path / "a.seg.dcm")
    assert "Zorbulon" not in str(told.value)


# -- the report ---------------------------------------------------------------------------------


def test_report_holds_the_findings_of_each_segment(axial):
    segmentation = make(axial)
    report = make_report(segmentation, axial, SEGMENTS, FINDINGS, NETWORK)
    assert (report.PatientName, report.SeriesNumber) == (segmentation.PatientName, 402)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    read = highdicom.sr.Comprehensive3DSR.from_dataset(report).content
    told = []
    for number, group in enumerate(read.get_volumetric_roi_measurement_groups(), 1):
        held = group.referenced_segment
        assert held.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert held[0].referenced_segment_numbers == [number]
        told.append(
            {
                (one.name.meaning, one.unit.value, one.derivation and one.derivation.meaning): (
                    float(one.value)
                )
                for one in group.get_measurements()
            }
        )
    assert told == [
        {
            ("Volume", "ml", None): 0.25,
            ("Number of lesions", "1", None): 2,
            ("Volume", "ml", "Maximum"): 0.125,
        },
        {("Volume", "ml", None): 0, ("Number of lesions", "1", None): 0},
    ]


@pytest.mark.peer("dcmqi")
def test_dcmqi_reads_the_report(written, tmp_path):
    import dcmqi

    program = Path(dcmqi.__file__).parent / "bin" / "tid1500reader"
    options = ("--inputDICOM", written[-1][1], "--outputMetadata", tmp_path / "read.json")
    subprocess.run([program, *options], capture_output=True, check=True)
    groups = json.loads((tmp_path / "read.json").read_text())["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == ["lesion", "oedema"]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2]
    values = [[float(item["value"]) for item in group["measurementItems"]] for group in groups]
    assert values == [[0.25, 2, 0.125], [0, 0]]
