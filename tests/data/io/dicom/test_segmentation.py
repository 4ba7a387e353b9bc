"""DICOM segmentations: what highdicom writes, on every grid of an image, and what is wrong."""

import re

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from segjax.data.io.dicom.labels import Canvas
from segjax.data.io.dicom.segmentation import (
    is_label_object,
    read_dicom_segmentation,
    segment_names,
)
from segjax.data.io.dicom.series import find_series, is_dicom
from segjax.data.io.formats import read_label
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.grid import Grid, reorient, reorient_grid
from segjax.volume import Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
OBLIQUE = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
START = np.array([10.0, -20.0, 30.0])
SPACING = (0.5, 0.75, 3.0)  # between rows, columns, slices
SHAPE = (9, 7, 5)  # columns, rows, slices
NAMES = ("Lesion", "Black hole", "enhancing")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine(directions=OBLIQUE, start=START, spacing=SPACING):
    matrix = np.eye(4)
    matrix[:3, :3] = directions * (spacing[1], spacing[0], spacing[2])
    matrix[:3, 3] = start
    return LPS_TO_RAS @ matrix


LIKE = Grid(SHAPE, affine())


def random_labels(shape=SHAPE, *, slices=(0, 1, 3), seed=0):
    """Return labels 0 to 3 in some slices only."""
    labels = np.zeros(shape, np.uint8)
    some = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels[..., list(slices)] = some[..., list(slices)]
    return labels


def binary(labels):
    """Return (segment, slice, mask of rows and columns) of every plane that is not empty."""
    planes = [(v, k, v == labels[..., k].T) for v in (1, 2, 3) for k in range(labels.shape[2])]
    return [plane for plane in planes if plane[2].any()]


def item(**values):
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return one


def dataset(planes, *, names=NAMES, kind="BINARY", start=START, syntax=ExplicitVRLittleEndian):
    """Return a segmentation by hand: each plane of one segment, or of labels, is a frame."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    uid = LABEL_MAP if kind == "LABELMAP" else SEGMENTATION
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = uid
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Modality, one.SegmentationType = "SEG", kind
    one.SegmentSequence = [
        item(SegmentNumber=i, SegmentLabel=name) for i, name in enumerate(names, 1)
    ]
    pixels = np.stack([plane for *_, plane in planes])
    one.NumberOfFrames, one.Rows, one.Columns = pixels.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.PixelRepresentation = 0
    one.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[
                item(PixelSpacing=[0.5, 0.75], SliceThickness=2.5, SpacingBetweenSlices=3.0)
            ],
            PlaneOrientationSequence=[
                item(ImageOrientationPatient=OBLIQUE[:, :2].T.round(10).ravel().tolist())
            ],
        )
    ]
    one.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[
                item(ImagePositionPatient=(start + 3.0 * k * OBLIQUE[:, 2]).round(6).tolist())
            ],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=v)],
        )
        for v, k, _ in planes
    ]
    store(one, pixels, kind)
    return one


def store(one, pixels, kind="BINARY"):
    bits = 1 if kind == "BINARY" else pixels.dtype.itemsize * 8
    one.BitsAllocated = one.BitsStored = bits
    one.HighBit = bits - 1
    content = np.packbits(pixels.ravel(), bitorder="little") if bits == 1 else pixels
    raw = content.tobytes()
    one.PixelData = raw + b"\0" * (len(raw) % 2)
    one["PixelData"].VR = "OW" if bits == 16 else "OB"
    if kind == "FRACTIONAL":
        one.SegmentationFractionalType, one.MaximumFractionalValue = "PROBABILITY", 200


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


def segmentation(folder, planes=None, **options):
    return save(dataset(planes or binary(random_labels()), **options), folder / "seg.dcm")


def changed(folder, change, planes=None, **options):
    """Save a segmentation in which one thing is changed."""
    one = dataset(planes or binary(random_labels()), **options)
    change(one)
    return save(one, folder / "seg.dcm")


def shared(one):
    return one.SharedFunctionalGroupsSequence[0]


def frame(one, number):
    return one.PerFrameFunctionalGroupsSequence[number]


def measures(one):
    return shared(one).PixelMeasuresSequence[0]


def source_images():
    """Return the slices of the image as highdicom wants them."""
    images = []
    study, series, reference = generate_uid(), generate_uid(), generate_uid()
    for k in range(SHAPE[2]):
        images.append(
            item(
                SOPClassUID=MRImageStorage,
                SOPInstanceUID=generate_uid(),
                StudyInstanceUID=study,
                SeriesInstanceUID=series,
                FrameOfReferenceUID=reference,
                PatientID="",
                PatientName="",
                PatientBirthDate="",
                PatientSex="",
                AccessionNumber="",
                StudyID="",
                StudyDate="",
                StudyTime="",
                ReferringPhysicianName="",
                Modality="MR",
                Rows=SHAPE[1],
                Columns=SHAPE[0],
                PixelSpacing=[0.5, 0.75],
                SliceThickness=2.5,
                SpacingBetweenSlices=3.0,
                ImagePositionPatient=(START + 3.0 * k * OBLIQUE[:, 2]).round(6).tolist(),
                ImageOrientationPatient=OBLIQUE[:, :2].T.round(10).ravel().tolist(),
            )
        )
        images[-1].file_meta = FileMetaDataset()
        images[-1].file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return images


def foreign(labels, images, path, kind, syntax=ExplicitVRLittleEndian):
    """Write a segmentation with highdicom."""
    descriptions = [
        SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(NAMES, 1)
    ]
    Segmentation(
        source_images=images,
        pixel_array=labels.transpose(2, 1, 0),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="highdicom",
        manufacturer_model_name="highdicom",
        software_versions=highdicom.__version__,
        device_serial_number="1",
        transfer_syntax_uid=syntax,
    ).save_as(path)
    return path


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", ExplicitVRLittleEndian),
        ("BINARY", ImplicitVRLittleEndian),
        ("LABELMAP", ExplicitVRLittleEndian),
        ("LABELMAP", RLELossless),
        ("FRACTIONAL", ExplicitVRLittleEndian),
        ("FRACTIONAL", JPEGLSLossless),
    ],
)
def test_segmentation_of_highdicom_gives_its_labels(tmp_path, kind, syntax):
    labels = random_labels()
    path = foreign(labels, source_images(), tmp_path / "seg.dcm", kind, syntax)
    volume, names = read_dicom_segmentation(path, LIKE)
    np.testing.assert_array_equal(volume.data, labels)
    assert volume.data.dtype == np.uint8
    np.testing.assert_array_equal(volume.affine, LIKE.affine)
    assert names == dict(enumerate(NAMES, 1))
    assert segment_names(path) == NAMES
    assert is_label_object(path) == "SEG"


def test_series_in_reverse_gives_the_same_labels(tmp_path):
    labels = random_labels()
    path = foreign(labels[..., ::-1], source_images()[::-1], tmp_path / "seg.dcm", "BINARY")
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


@pytest.mark.parametrize("turned", ["RAS", "LPI", "SAR", "PIR", "ILP"])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_labels_follow_an_image_that_is_flipped_or_permuted(tmp_path, turned, kind):
    labels = random_labels()
    path = foreign(labels, source_images(), tmp_path / "seg.dcm", kind)
    volume, _ = read_dicom_segmentation(path, reorient_grid(LIKE, turned))
    expected = reorient(Volume(labels, LIKE.affine), turned)
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_array_equal(volume.affine, expected.affine)


def test_labels_follow_a_sheared_image(tmp_path):
    """A gantry tilt: each slice is one column further on than upright slices would be."""
    labels = random_labels()
    one = dataset(binary(labels))
    sheared = affine()
    sheared[:3, 2] += sheared[:3, 0]
    for (_, k, _), group in zip(binary(labels), one.PerFrameFunctionalGroupsSequence, strict=True):
        position = LPS_TO_RAS @ sheared @ [0, 0, k, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = position[:3].round(6).tolist()
    path = save(one, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(
        read_dicom_segmentation(path, Grid(SHAPE, sheared))[0].data, labels
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    slices=st.sets(st.integers(0, SHAPE[2] - 1), min_size=1),
    columns=st.integers(1, SHAPE[0]),
    rows=st.integers(1, SHAPE[1]),
)
def test_frames_of_any_size_and_order_keep_their_place(
    tmp_path_factory, seed, slices, columns, rows
):
    rng = np.random.default_rng(seed)
    labels = random_labels((columns, rows, SHAPE[2]), slices=sorted(slices), seed=seed)
    planes = binary(labels) or [(1, 0, np.zeros((rows, columns), bool))]
    order = rng.permutation(len(planes))
    path = segmentation(tmp_path_factory.mktemp("seg"), [planes[i] for i in order])
    volume, _ = read_dicom_segmentation(path, Grid(labels.shape, affine()))
    np.testing.assert_array_equal(volume.data, labels)


def test_single_bits_run_on_from_frame_to_frame(tmp_path):
    """35 pixels are no whole number of bytes; bit 35 is the first of the second frame."""
    planes = [(1, 0, np.ones((5, 7), bool)), (1, 1, np.zeros((5, 7), bool))]
    planes[1][2][0, 0] = True
    path = segmentation(tmp_path, planes)
    volume, _ = read_dicom_segmentation(path, Grid((7, 5, 2), affine()))
    assert volume.data[..., 0].sum() == 35
    assert np.argwhere(volume.data[..., 1]).tolist() == [[0, 0]]


def test_binary_of_a_byte_per_pixel_is_read(tmp_path):
    labels = random_labels()
    path = changed(
        tmp_path,
        lambda one: store(one, np.stack([m for *_, m in binary(labels)]).astype(np.uint8), "BYTES"),
    )
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


def test_label_map_of_two_bytes_is_read(tmp_path):
    labels = random_labels().astype(np.uint16) * 300
    planes = [(1, k, labels[..., k].T) for k in range(SHAPE[2])]

    def renumber(one):
        for segment in one.SegmentSequence:
            segment.SegmentNumber = segment.SegmentNumber * 300

    path = changed(tmp_path, renumber, planes, kind="LABELMAP")
    volume, names = read_dicom_segmentation(path, LIKE)
    np.testing.assert_array_equal(volume.data, labels // 300)
    assert names == dict(enumerate(NAMES, 1))


def test_segment_of_number_zero_is_a_segment_unless_it_pads(tmp_path):
    planes = [(1, 0, np.array([[0, 1, 2]], np.uint8))]
    like = Grid((3, 1, 1), affine())

    def from_zero(one):
        for number, segment in enumerate(one.SegmentSequence):
            segment.SegmentNumber = number

    path = changed(tmp_path, from_zero, planes, kind="LABELMAP")
    assert read_dicom_segmentation(path, like)[0].data.ravel().tolist() == [1, 2, 3]

    def padded(one):
        from_zero(one)
        one.PixelPaddingValue = 0

    path = changed(tmp_path, padded, planes, kind="LABELMAP")
    volume, names = read_dicom_segmentation(path, like)
    assert volume.data.ravel().tolist() == [0, 1, 2]
    assert names == {1: "Black hole", 2: "enhancing"}


def test_segments_come_in_the_order_of_their_numbers(tmp_path):
    labels = random_labels()
    path = changed(tmp_path, lambda one: one.SegmentSequence.reverse(), binary(labels))
    assert segment_names(path) == NAMES
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


def test_many_segments_take_two_bytes(tmp_path):
    names = [f"segment {i}" for i in range(1, 301)]
    path = segmentation(tmp_path, [(300, 0, np.ones((7, 9), bool))], names=names)
    volume, _ = read_dicom_segmentation(path, LIKE)
    assert volume.data.dtype == np.uint16
    assert set(np.unique(volume.data)) == {0, 300}


@pytest.mark.parametrize("wanted", [["Lesion"], ["lesion"], [" LESION "]])
def test_only_wanted_segments_are_drawn_and_keep_their_values(tmp_path, wanted):
    labels = random_labels()
    path = segmentation(tmp_path, binary(labels))
    volume, names = read_dicom_segmentation(path, LIKE, wanted=["Enhancing", *wanted])
    np.testing.assert_array_equal(volume.data, np.where(labels == 2, 0, labels))
    assert names == {1: "Lesion", 3: "enhancing"}


def test_nothing_wanted_gives_an_empty_map(tmp_path):
    volume, names = read_dicom_segmentation(segmentation(tmp_path), LIKE, wanted=[])
    assert names == {}
    assert not volume.data.any()


def test_exact_name_comes_before_names_that_differ_in_case(tmp_path):
    planes = [(v, v - 1, np.ones((7, 9), bool)) for v in (1, 2)]
    path = segmentation(tmp_path, planes, names=("Lesion", "lesion"))
    assert read_dicom_segmentation(path, LIKE, wanted=["lesion"])[1] == {2: "lesion"}
    assert read_dicom_segmentation(path, LIKE, wanted=["LESION"])[1] == {1: "Lesion", 2: "lesion"}


def test_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match=r"no segment 'tumour', but 'Lesion', 'Black hole'"):
        read_dicom_segmentation(segmentation(tmp_path), LIKE, wanted=["tumour"])


@pytest.mark.parametrize(
    ("names", "said"), [(("a", "b", "a"), "one name, 'a'"), (("", "b", ""), "one name, ''")]
)
def test_two_segments_of_one_name_are_refused(tmp_path, names, said):
    with pytest.raises(InputError, match=re.escape(said)):
        segment_names(segmentation(tmp_path, names=names))


def test_two_segments_of_one_number_are_refused(tmp_path):
    path = changed(tmp_path, lambda one: setattr(one.SegmentSequence[1], "SegmentNumber", 1))
    with pytest.raises(InputError, match="one number, 1"):
        segment_names(path)


def test_segments_that_overlap_are_refused_with_names_and_number(tmp_path):
    both = np.zeros((7, 9), bool)
    both[2:4, 3:6] = True
    path = segmentation(tmp_path, [(1, 0, np.ones((7, 9), bool)), (3, 0, both)])
    with pytest.raises(InputError, match=r"'Lesion' and 'enhancing' share 6 voxels"):
        read_dicom_segmentation(path, LIKE)
    volume, _ = read_dicom_segmentation(path, LIKE, wanted=["enhancing"])
    assert np.count_nonzero(volume.data == 3) == 6


def test_field_of_view_beyond_the_image_may_be_empty(tmp_path):
    labels = random_labels()
    path = segmentation(tmp_path, binary(np.pad(labels, ((2, 3), (1, 4), (0, 0)))), start=start(2))
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


def start(columns, rows=1):
    return START - 0.75 * columns * OBLIQUE[:, 0] - 0.5 * rows * OBLIQUE[:, 1]


@pytest.mark.parametrize("turned", [None, "RAS", "SAR"])
def test_voxels_outside_the_image_are_refused_with_their_number(tmp_path, turned):
    like = reorient_grid(LIKE, turned) if turned else LIKE
    wide = np.zeros((12, 9, 7), np.uint8)
    wide[0, 0, 0], wide[11, 1:3, 2], wide[4, 4, 4], wide[4, 4, 6] = 1, 2, 2, 2
    path = segmentation(tmp_path, binary(wide), start=start(1))
    with pytest.raises(InputError, match=r"4 voxels .*: 1 of 'Lesion', 3 of 'Black hole'"):
        read_dicom_segmentation(path, like)


def test_rounded_positions_and_cosines_are_the_same_grid(tmp_path):
    labels = random_labels()

    def round_off(one):
        plane = shared(one).PlaneOrientationSequence[0]
        plane.ImageOrientationPatient = [round(x, 4) for x in plane.ImageOrientationPatient]
        for group in one.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            place.ImagePositionPatient = [round(x, 2) for x in place.ImagePositionPatient]

    path = changed(tmp_path, round_off, binary(labels))
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


@pytest.mark.parametrize(("off", "fits"), [(0.08, True), (0.2, False)])
def test_slices_may_be_as_uneven_as_those_of_a_series(tmp_path, off, fits):
    labels = random_labels()

    def shift(one):
        place = frame(one, 1).PlanePositionSequence[0]
        moved = np.array(place.ImagePositionPatient, float) + 3.0 * off * OBLIQUE[:, 2]
        place.ImagePositionPatient = moved.round(6).tolist()

    path = changed(tmp_path, shift, binary(labels))
    if fits:
        np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)
    else:
        with pytest.raises(InputError, match=r"another grid .* frame 2 is off .* up to 0\.20"):
            read_dicom_segmentation(path, LIKE)


def grids_elsewhere():
    turn = Rotation.from_euler("z", 1, degrees=True).as_matrix()
    yield "shifted", affine(start=START + 0.3 * 0.75 * OBLIQUE[:, 0]), "up to 0.30"
    yield "slightly shifted", affine(start=START + 0.1 * 0.5 * OBLIQUE[:, 1]), "up to 0.10"
    yield "turned", affine(OBLIQUE @ turn), "up to 0."
    yield "larger pixels", affine(spacing=(1.0, 1.5, 3.0)), "[0.5, 0.0, 0.0]"
    yield "smaller pixels", affine(spacing=(0.25, 0.375, 3.0)), "[2.0, 0.0, 0.0]"
    yield "slightly larger pixels", affine(spacing=(0.51, 0.75, 3.0)), "up to 0.12"
    yield "diagonal", affine(OBLIQUE @ Rotation.from_euler("z", 0.7).as_matrix()), "from pixel"


@pytest.mark.parametrize(("what", "place", "said"), [*grids_elsewhere()])
def test_another_grid_is_refused(tmp_path, what, place, said):
    with pytest.raises(InputError, match=r"another grid .*resample") as error:
        read_dicom_segmentation(segmentation(tmp_path), Grid(SHAPE, place))
    assert said in str(error.value), what


def test_flat_frames_are_refused(tmp_path):
    """Rows as long as nothing: both steps along one axis of the image."""
    flat = affine()
    flat[:3, 1] *= 40
    with pytest.raises(InputError, match="another grid"):
        read_dicom_segmentation(segmentation(tmp_path), Grid(SHAPE, flat))


@pytest.mark.parametrize(
    ("slices", "change", "fits"),
    [
        ((0, 2, 4), {"SpacingBetweenSlices": 6.0}, False),
        ((2,), {"SpacingBetweenSlices": 6.0}, False),
        ((2,), {"SpacingBetweenSlices": 1.5}, False),
        ((0, 2), {"SpacingBetweenSlices": None, "SliceThickness": 6.0}, False),
        ((2,), {"SpacingBetweenSlices": "nan"}, False),
        ((0, 1, 4), {"SpacingBetweenSlices": 6.0}, True),
        ((0, 2), {"SpacingBetweenSlices": -3.0}, True),
        ((0, 2), {"SpacingBetweenSlices": None, "SliceThickness": 1.0}, True),
        ((0, 2), {"SpacingBetweenSlices": None, "SliceThickness": None}, True),
    ],
)
def test_slices_that_stand_for_several_of_the_image_are_refused(tmp_path, slices, change, fits):
    labels = random_labels(slices=slices)

    def alter(one):
        for keyword, value in change.items():
            if value is None:
                delattr(measures(one), keyword)
            else:
                setattr(measures(one), keyword, value)

    path = changed(tmp_path, alter, binary(labels))
    if fits:
        np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)
    else:
        with pytest.raises(InputError, match=r"slices are .* mm apart, the image's 3 mm"):
            read_dicom_segmentation(path, LIKE)


def test_image_of_one_slice_may_be_of_any_thickness(tmp_path):
    labels = random_labels((9, 7, 1), slices=(0,))
    like = Grid(labels.shape, affine(spacing=(0.5, 0.75, 1.0)))
    path = segmentation(tmp_path, binary(labels))
    np.testing.assert_array_equal(read_dicom_segmentation(path, like)[0].data, labels)


def test_probabilities_are_inside_from_half_of_the_maximum_on_and_it_is_said(tmp_path):
    plane = np.array([[0, 1, 99, 100, 101, 200]], np.uint8)
    path = segmentation(tmp_path, [(1, 0, plane)], kind="FRACTIONAL")
    with pytest.warns(UserWarning, match="fractional, with 4 voxels"):
        volume, _ = read_dicom_segmentation(path, Grid((6, 1, 1), affine()))
    assert volume.data.ravel().tolist() == [0, 0, 0, 1, 1, 1]


def test_orientation_may_differ_from_frame_to_frame(tmp_path):
    """A frame whose rows run the other way, from the other end."""
    labels = random_labels()
    planes = binary(labels)

    def turn(one):
        last = frame(one, -1)
        one_way = OBLIQUE[:, :2].T.round(10)
        place = last.PlanePositionSequence[0]
        end = np.array(place.ImagePositionPatient, float) + 8 * 0.75 * OBLIQUE[:, 0]
        place.ImagePositionPatient = end.round(6).tolist()
        cosines = [*(-one_way[0]).tolist(), *one_way[1].tolist()]
        last.PlaneOrientationSequence = [item(ImageOrientationPatient=cosines)]
        pixels = np.stack([m for *_, m in planes[:-1]] + [planes[-1][2][:, ::-1]])
        store(one, pixels)

    path = changed(tmp_path, turn, planes)
    np.testing.assert_array_equal(read_dicom_segmentation(path, LIKE)[0].data, labels)


def remove(owner, keyword):
    return lambda one: delattr(owner(one), keyword)


def put(owner, keyword, value):
    return lambda one: setattr(owner(one), keyword, value)


def itself(one):
    return one


def first_position(one):
    return frame(one, 0).PlanePositionSequence[0]


def plane(one):
    return shared(one).PlaneOrientationSequence[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(itself, "SOPClassUID", MRImageStorage), "is no DICOM segmentation"),
        (remove(itself, "SegmentSequence"), "SegmentSequence"),
        (remove(itself, "PerFrameFunctionalGroupsSequence"), "describes 0 of its 9 frames"),
        (remove(itself, "SharedFunctionalGroupsSequence"), "its ImageOrientationPatient is []"),
        (put(itself, "NumberOfFrames", 8), "describes 9 of its 8 frames"),
        (put(itself, "TotalPixelMatrixRows", 7), "is tiled"),
        (put(itself, "DimensionOrganizationType", "TILED_FULL"), "is tiled"),
        (remove(lambda one: frame(one, 0), "PlanePositionSequence"), "frame 1 does not say where"),
        (remove(first_position, "ImagePositionPatient"), "frame 1 does not say where"),
        (
            put(first_position, "ImagePositionPatient", ["nan", 0, 0]),
            "ImagePositionPatient is [nan",
        ),
        (put(first_position, "ImagePositionPatient", [1e300, 0, 0]), "ImagePositionPatient is [1e"),
        (put(first_position, "ImagePositionPatient", [1, 2]), "ImagePositionPatient is [1.0, 2.0]"),
        (put(measures, "PixelSpacing", [0, 0.75]), "pixels of [0.0, 0.75] mm"),
        (put(measures, "PixelSpacing", [-0.5, 0.75]), "pixels of [-0.5, 0.75] mm"),
        (put(plane, "ImageOrientationPatient", [1, 0, 0, 0, 1.1, 0]), "no pair of unit vectors"),
        (put(plane, "ImageOrientationPatient", [1, 0, 0, 0.6, 0.8, 0]), "no pair of unit vectors"),
        (put(plane, "ImageOrientationPatient", [0] * 6), "no pair of unit vectors"),
        (remove(lambda one: frame(one, 0), "SegmentIdentificationSequence"), "segment None"),
        (
            put(
                lambda one: frame(one, 2).SegmentIdentificationSequence[0],
                "ReferencedSegmentNumber",
                7,
            ),
            "frame 3 is of segment 7",
        ),
        (put(itself, "SegmentationType", "MAGIC"), "type 'MAGIC'"),
        (put(itself, "SegmentationType", "FRACTIONAL"), "MaximumFractionalValue"),
        (put(itself, "SegmentationType", "LABELMAP"), "type 'LABELMAP' with 1 bits"),
        (put(itself, "SamplesPerPixel", 3), "9×7×3 values are not read"),
        (put(itself, "Rows", 0), "9×0×1 values are not read"),
        (put(itself, "Columns", 10), "take 79 bytes, but it holds 72"),
        (put(itself, "PixelData", b"\0" * 70), "take 71 bytes, but it holds 70"),
        (put(itself, "PixelData", b"\0" * 74), "take 71 bytes, but it holds 74"),
        (remove(itself, "PixelData"), "holds no pixels"),
        (remove(itself, "Rows"), "Rows"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corrupt_segmentation_is_refused_by_name(tmp_path, change, said):
    path = changed(tmp_path, change)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_dicom_segmentation(path, LIKE)
    assert str(error.value).startswith(str(path))


def test_number_that_is_none_is_refused_by_name(tmp_path):
    path = segmentation(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"0.5\\0.75", b"0.5\\none"))
    with pytest.raises(InputError, match=r"seg\.dcm: its DICOM header is corrupt"):
        read_dicom_segmentation(path, LIKE)


def test_two_frames_of_one_segment_at_one_place_are_refused(tmp_path):
    planes = [(2, 1, np.ones((7, 9), bool)), (1, 1, np.zeros((7, 9), bool))]
    path = segmentation(tmp_path, [*planes, planes[0]])
    with pytest.raises(InputError, match="frames 1 and 3 show one segment at one place"):
        read_dicom_segmentation(path, LIKE)
    read_dicom_segmentation(path, LIKE, wanted=["Lesion"])


@pytest.mark.parametrize("kind", ["BYTES", "FRACTIONAL", "LABELMAP"])
def test_values_that_stand_for_nothing_are_refused_with_their_number(tmp_path, kind):
    pixels = np.zeros((1, 7, 9), np.uint8)
    pixels[0, 2, 3:5] = 201

    def fill(one):
        store(one, pixels, kind)
        one.SegmentationType = "BINARY" if kind == "BYTES" else kind

    path = changed(tmp_path, fill, [(1, 0, pixels[0])])
    with pytest.raises(InputError, match=r"2 pixels of values .* such as 201"):
        read_dicom_segmentation(path, LIKE)


def test_label_map_of_background_only_has_no_segments(tmp_path):
    def background(one):
        one.SegmentSequence[0].SegmentNumber = one.PixelPaddingValue = 0

    planes = [(1, 0, np.zeros((7, 9), np.uint8))]
    path = changed(tmp_path, background, planes, names=("Background",), kind="LABELMAP")
    volume, names = read_dicom_segmentation(path, LIKE)
    assert names == {}
    assert not volume.data.any()


def test_image_without_a_place_in_the_patient_is_refused(tmp_path):
    with pytest.raises(InputError, match="its image has no place there"):
        Canvas(tmp_path / "seg.dcm", Grid((9, 7), np.eye(3)), {})
    with pytest.raises(InputError, match="its image has no place there"):
        read_dicom_segmentation(segmentation(tmp_path), Grid((9, 7), np.eye(3)))


@pytest.mark.parametrize(
    ("syntax", "said"),
    [(ExplicitVRBigEndian, "is big-endian"), (DeflatedExplicitVRLittleEndian, "deflated")],
)
def test_codings_that_are_not_read_are_named(tmp_path, syntax, said):
    path = segmentation(tmp_path, syntax=syntax)
    with pytest.raises(InputError, match=said):
        read_dicom_segmentation(path, LIKE)
    assert is_label_object(path) == "SEG"


@pytest.mark.parametrize(
    ("syntax", "frames", "said"),
    [
        (HTJ2KLossless, 2, "cannot be decoded"),
        (RLELossless, 2, "cannot be decoded"),
        (JPEGLSLossless, 1, "cannot be decoded"),
        (JPEGLSLossless, 2, "cannot be decoded"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compressed_pixels_that_are_corrupt_are_refused(tmp_path, syntax, frames, said):
    small = np.zeros((7, 8), np.uint8)

    def compress(one):
        store(one, np.stack([small] * 2), "LABELMAP")
        if syntax == JPEGLSLossless:
            one.Columns = 8
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.compress(syntax, generate_instance_uid=False)
            streams = list(generate_frames(one.PixelData, number_of_frames=2))
            one.PixelData = encapsulate(streams[:frames])
            one.Columns = 9
        else:
            one.PixelData = encapsulate([b"\1\2\3\4"] * frames)
        one["PixelData"].is_undefined_length = True

    planes = [(1, k, np.zeros((7, 9), np.uint8)) for k in range(2)]
    path = changed(tmp_path, compress, planes, kind="LABELMAP", syntax=syntax)
    with pytest.raises(InputError, match=said) as error:
        read_dicom_segmentation(path, LIKE)
    assert str(error.value).startswith(str(path))


def test_file_cut_anywhere_is_refused_by_name(tmp_path):
    whole = segmentation(tmp_path).read_bytes()
    path = tmp_path / "cut.dcm"
    for size in range(140, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_dicom_segmentation(path, LIKE)


@settings(max_examples=150, deadline=None)
@given(
    at=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    byte=st.integers(0, 255),
    cut=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_wrong_with_a_file_is_an_input_error(tmp_path_factory, at, byte, cut):
    folder = tmp_path_factory.mktemp("seg")
    content = bytearray(segmentation(folder).read_bytes())
    for share in at:
        content[132 + int(share * (len(content) - 133))] = byte
    path = folder / "broken.dcm"
    path.write_bytes(content[: len(content) if cut < 0.7 else int(cut * len(content))])
    try:
        segment_names(path)
        read_dicom_segmentation(path, LIKE)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_files_that_are_no_label_objects_are_none(tmp_path):
    image = changed(tmp_path, put(itself, "SOPClassUID", MRImageStorage))
    image = image.rename(tmp_path / "image.dcm")
    content = segmentation(tmp_path).read_bytes()
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "cut.dcm").write_bytes(content[:140])
    (tmp_path / "odd.dcm").write_bytes(content.replace(b"\2\0\x10\0UI", b"\2\0\x10\0QQ"))
    names = ("missing.dcm", "notes.txt", "empty.dcm", "cut.dcm", "odd.dcm")
    files = [tmp_path, image, *(tmp_path / name for name in names)]
    assert [is_label_object(path) for path in files] == [None] * 7


def test_data_set_counts_more_than_file_meta_information(tmp_path):
    one = dataset(binary(random_labels()))
    one.file_meta.MediaStorageSOPClassUID = MRImageStorage
    pydicom.dcmwrite(tmp_path / "seg.dcm", one, implicit_vr=False, little_endian=True)
    assert is_label_object(tmp_path / "seg.dcm") == "SEG"


def test_file_without_preamble_is_told_as_others_are(tmp_path):
    path = tmp_path / "bare.dcm"
    one = dataset(binary(random_labels()))
    del one.file_meta
    pydicom.dcmwrite(path, one, implicit_vr=True, little_endian=True)
    assert is_label_object(path) == ("SEG" if is_dicom(path) else None)


def test_segmentation_of_a_real_series_lies_on_it_and_on_its_conversion(data_dir, tmp_path):
    series = find_series(data_dir / "dicom" / "flair_oblique")[0]
    like = series.grid
    labels = random_labels(like.shape, slices=(2, 3, 9, 20))
    images = [pydicom.dcmread(file) for file in series.files]
    path = foreign(labels, images, tmp_path / "seg.dcm", "BINARY")
    for turned in ("RAS", "LPS"):
        volume, _ = read_dicom_segmentation(path, reorient_grid(like, turned))
        expected = reorient(Volume(labels, like.affine), turned).data
        np.testing.assert_array_equal(volume.data, expected)


def test_segments_that_the_coding_does_not_name_are_left_out_with_a_word_or_refused(tmp_path):
    labels = random_labels() % 3
    path = segmentation(tmp_path, binary(labels), names=("Lesion", "other"))
    lesion = LabelCoding(names=("background", "lesion"))
    with pytest.warns(UserWarning, match=r"seg\.dcm: left out segment 'other'"):
        found = read_label(path, coding=lesion, like=LIKE)
    np.testing.assert_array_equal(found.data, labels == 1)
    tumour = LabelCoding(names=("background", "tumour"))
    with pytest.raises(InputError, match=r"seg\.dcm: has segments 'Lesion', 'other', but none"):
        read_label(path, coding=tumour, like=LIKE)
