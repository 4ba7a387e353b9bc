"""Structure sets: polygons by hand, matplotlib's idea of what lies inside, and what is wrong."""

import re

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from segjax.data.io.dicom.polygon import fill
from segjax.data.io.dicom.rtstruct import read_rtstruct, roi_names
from segjax.data.io.dicom.segmentation import is_label_object, segment_names
from segjax.data.io.formats import read_label
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.grid import Grid, reorient, reorient_grid
from segjax.volume import Volume

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
OBLIQUE = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
SHAPE = (12, 10, 6)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SQUARE = [(2, 3), (7, 3), (7, 8), (2, 8)]  # corners on voxel centres: 6 x 6 of them
BETWEEN = [(1.5, 2.5), (6.5, 2.5), (6.5, 5.5), (1.5, 5.5)]  # corners between centres: 5 x 3


def affine():
    matrix = np.eye(4)
    matrix[:3, :3] = OBLIQUE * (0.75, 0.5, 3.0)
    matrix[:3, 3] = 10, -20, 30
    return LPS_TO_RAS @ matrix


LIKE = Grid(SHAPE, affine())


def in_slice(corners, place, like=LIKE):
    """Return voxel indices of a contour in a slice as points in mm (LPS+)."""
    voxels = np.array([(*corner, place, 1) for corner in corners], float)
    return (LPS_TO_RAS @ like.affine @ voxels.T).T[:, :3]


def contour(points, *, kind="CLOSED_PLANAR", **tags):
    one = Dataset()
    one.ContourGeometricType, one.NumberOfContourPoints = kind, len(points)
    one.ContourData = [f"{x:.8f}"[:16] for x in np.ravel(points)]
    for keyword, value in tags.items():
        setattr(one, keyword, value)
    return one


def dataset(regions, *, syntax=ImplicitVRLittleEndian):
    """Return a structure set of names and their contours."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = STRUCTURE_SET
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.Modality = "RTSTRUCT"
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions, 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [
            c if isinstance(c, Dataset) else contour(in_slice(*c)) for c in contours
        ]
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(drawn)
    return one


def save(one, path):
    syntax = one.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        path,
        one,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )
    return path


def structures(folder, *contours, change=None, **options):
    """Save a structure set of one region, GTV."""
    one = dataset([("GTV", contours)], **options)
    if change:
        change(one)
    return save(one, folder / "structures.dcm")


def read(path, like=LIKE, **options):
    return read_rtstruct(path, like, **options)[0].data


def expected(**slices):
    """Return a label map of the given (columns, rows) boxes: s2=(2, 8, 3, 9)."""
    labels = np.zeros(SHAPE, np.uint8)
    for name, (left, right, top, bottom) in slices.items():
        labels[left:right, top:bottom, int(name[1:])] = 1
    return labels


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_square_between_centres_holds_the_centres_inside(tmp_path, syntax):
    path = structures(tmp_path, (BETWEEN, 2), syntax=syntax)
    volume, names = read_rtstruct(path, LIKE)
    np.testing.assert_array_equal(volume.data, expected(s2=(2, 7, 3, 6)))
    np.testing.assert_array_equal(volume.affine, LIKE.affine)
    assert names == {1: "GTV"}
    assert volume.data.dtype == np.uint8


def test_centres_on_a_contour_are_inside(tmp_path):
    """PS3.3 C.8.8.6.3: points along the path belong to the region, on all four sides."""
    np.testing.assert_array_equal(
        read(structures(tmp_path, (SQUARE, 1))), expected(s1=(2, 8, 3, 9))
    )


@pytest.mark.parametrize("noise", [1e-5, -1e-5])
def test_rounding_of_corners_moves_no_voxel(tmp_path, noise):
    corners = np.array(SQUARE) + noise * np.array([(1, 1), (-1, 1), (1, -1), (-1, -1)])
    np.testing.assert_array_equal(
        read(structures(tmp_path, (corners, 1))), expected(s1=(2, 8, 3, 9))
    )


def test_triangle_counts_by_hand(tmp_path):
    """Legs of 4.2 from (1.9, 1.9): rows of 4, 3, 2, 1 centres with x + y at most 8.0."""
    triangle = [(1.9, 1.9), (6.1, 1.9), (1.9, 6.1)]
    mask = read(structures(tmp_path, (triangle, 0)))[..., 0]
    by_hand = {(x, y) for x in range(2, 12) for y in range(2, 10) if x + y <= 8}
    assert set(map(tuple, np.argwhere(mask).tolist())) == by_hand


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(3, 40))
def test_random_polygons_agree_with_matplotlib(seed, corners):
    """A star around a centre, so that even-odd and non-zero winding are one."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(1, 15, corners)
    points = np.stack([20.3 + radii * np.cos(angles), 17.6 + radii * np.sin(angles)], axis=1)
    part = fill(points)
    mask = np.zeros((40, 40), bool)
    (row, column), (rows, columns) = part.corner, part.inside.shape
    mask[row : row + rows, column : column + columns] = part.inside | part.edge
    centres = np.stack(np.meshgrid(np.arange(40), np.arange(40), indexing="ij"), -1)
    inside = Polygon(points, closed=False).contains_points(centres.reshape(-1, 2)).reshape(40, 40)
    there = np.roll(points, -1, axis=0)
    share = ((centres[..., None, :] - points) * (there - points)).sum(-1)
    share = (share / ((there - points) ** 2).sum(-1)).clip(0, 1)[..., None]
    near = np.linalg.norm(points + share * (there - points) - centres[..., None, :], axis=-1)
    apart = near.min(axis=-1) > 2e-3
    np.testing.assert_array_equal(mask[apart], inside[apart])


def test_contour_in_a_contour_is_a_hole(tmp_path):
    hole = [(3.5, 4.5), (5.5, 4.5), (5.5, 6.5), (3.5, 6.5)]
    labels = expected(s3=(2, 8, 3, 9))
    labels[4:6, 5:7, 3] = 0
    np.testing.assert_array_equal(read(structures(tmp_path, (SQUARE, 3), (hole, 3))), labels)


def test_island_in_a_hole_is_inside(tmp_path):
    outer = [(0.5, 0.5), (10.5, 0.5), (10.5, 8.5), (0.5, 8.5)]
    hole = [(1.5, 1.5), (9.5, 1.5), (9.5, 7.5), (1.5, 7.5)]
    island = [(3.5, 3.5), (5.5, 3.5), (5.5, 5.5), (3.5, 5.5)]
    labels = expected(s3=(1, 11, 1, 9))
    labels[2:10, 2:8, 3] = 0
    labels[4:6, 4:6, 3] = 1
    path = structures(tmp_path, (hole, 3), (island, 3), (outer, 3))
    np.testing.assert_array_equal(read(path), labels)


def test_keyhole_is_a_hole(tmp_path):
    """PS3.3 C.8.8.6.3: a channel of no width leads from the outer contour to the inner one."""
    hole = [(3.5, 4.5), (5.5, 4.5), (5.5, 6.5), (3.5, 6.5), (3.5, 4.5)]
    labels = expected(s3=(2, 8, 3, 9))
    labels[4:6, 5:7, 3] = 0
    path = structures(tmp_path, ([*SQUARE, SQUARE[0], *hole[::-1], SQUARE[0]], 3))
    np.testing.assert_array_equal(read(path), labels)


def test_contours_of_the_type_xor_are_read(tmp_path):
    path = structures(tmp_path, contour(in_slice(BETWEEN, 2), kind="CLOSEDPLANAR_XOR"))
    np.testing.assert_array_equal(read(path), expected(s2=(2, 7, 3, 6)))


def test_closed_contours_of_one_or_two_points_hold_the_centres_on_them(tmp_path):
    """As writers that trace voxels do with regions one voxel wide."""
    path = structures(tmp_path, ([(3, 4)], 2), ([(5, 4), (9, 4)], 2), (SQUARE, 1))
    labels = expected(s1=(2, 8, 3, 9), s2=(5, 10, 4, 5))
    labels[3, 4, 2] = 1
    np.testing.assert_array_equal(read(path), labels)


def test_region_traced_through_its_border_voxels_comes_back(tmp_path):
    """A staircase of single voxels, as OpenCV traces it: there and back again."""
    there = [(2, 2), (3, 3), (4, 4), (4, 5), (4, 6)]
    mask = read(structures(tmp_path, (there + there[-2:0:-1], 0)))[..., 0]
    assert set(map(tuple, np.argwhere(mask).tolist())) == set(there)


@pytest.mark.parametrize("turned", ["RAS", "LPI", "SAR", "PIR"])
def test_regions_follow_an_image_that_is_flipped_or_permuted(tmp_path, turned):
    path = structures(tmp_path, (BETWEEN, 2), (SQUARE, 4))
    labels = reorient(Volume(expected(s2=(2, 7, 3, 6), s4=(2, 8, 3, 9)), LIKE.affine), turned).data
    np.testing.assert_array_equal(read(path, reorient_grid(LIKE, turned)), labels)


def test_contours_may_lie_in_other_planes_than_slices(tmp_path):
    """Sagittal contours: corners along rows and slices."""
    corners = [(4, y, z) for y, z in [(1.5, 0.5), (5.5, 0.5), (5.5, 3.5), (1.5, 3.5)]]
    voxels = np.c_[np.array(corners), np.ones(4)]
    points = (LPS_TO_RAS @ LIKE.affine @ voxels.T).T[:, :3]
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 2:6, 1:4] = 1
    np.testing.assert_array_equal(read(structures(tmp_path, contour(points))), labels)


def test_offset_vector_moves_the_contour(tmp_path):
    one = contour(in_slice(BETWEEN, 2), ContourOffsetVector=(3.0 * OBLIQUE[:, 2]).round(9).tolist())
    np.testing.assert_array_equal(read(structures(tmp_path, one)), expected(s3=(2, 7, 3, 6)))


def regions(folder, **contours):
    return save(dataset(list(contours.items())), folder / "structures.dcm")


def test_regions_are_numbered_in_the_order_of_their_numbers(tmp_path):
    one = dataset([("b", [(BETWEEN, 1)]), ("a", [(BETWEEN, 2)]), ("empty", [])])
    one.StructureSetROISequence.reverse()
    one.ROIContourSequence[0], one.ROIContourSequence[1] = list(one.ROIContourSequence[1::-1])
    del one.ROIContourSequence[2]
    path = save(one, tmp_path / "structures.dcm")
    volume, names = read_rtstruct(path, LIKE)
    assert names == {1: "b", 2: "a", 3: "empty"}
    assert roi_names(path) == segment_names(path) == ("b", "a", "empty")
    assert is_label_object(path) == "RTSTRUCT"
    expect = expected(s1=(2, 7, 3, 6)) + 2 * expected(s2=(2, 7, 3, 6))
    np.testing.assert_array_equal(volume.data, expect)


def test_only_wanted_regions_are_drawn(tmp_path):
    path = regions(tmp_path, Brain=[(SQUARE, 1)], GTV=[(BETWEEN, 1)])
    volume, names = read_rtstruct(path, LIKE, wanted=["gtv "])
    assert names == {2: "GTV"}
    np.testing.assert_array_equal(volume.data, 2 * expected(s1=(2, 7, 3, 6)))


def test_regions_that_overlap_are_refused_with_names_and_number(tmp_path):
    """Columns 2 to 6, rows 3 to 5: all 15 centres of one lie in the other."""
    with pytest.raises(InputError, match=r"'Brain' and 'GTV' share 15 voxels"):
        read(regions(tmp_path, Brain=[(SQUARE, 1)], GTV=[(BETWEEN, 1)]))


def test_contours_that_reach_outside_are_refused_with_their_number(tmp_path):
    wide = [(8, 2), (12.5, 2), (12.5, 5), (8, 5)]
    path = structures(tmp_path, (wide, 1), (SQUARE, 6), (SQUARE, -1), (SQUARE, 2))
    with pytest.raises(InputError, match=r"has 3 contours of 'GTV' outside the grid"):
        read(path)


def test_contour_may_reach_up_to_the_next_centre_outside(tmp_path):
    hugging = [(-0.9, -0.9), (11.9, -0.9), (11.9, 9.9), (-0.9, 9.9)]
    assert read(structures(tmp_path, (hugging, 0)))[..., 0].all()


@pytest.mark.parametrize("off", [0.1, -0.1])
def test_contour_near_the_centre_of_a_slice_is_in_it(tmp_path, off):
    path = structures(tmp_path, (BETWEEN, 2 + off))
    np.testing.assert_array_equal(read(path), expected(s2=(2, 7, 3, 6)))


@pytest.mark.parametrize("step", [0.5, 5 / 6, 1.25, 1.5])
def test_contours_on_slices_of_another_spacing_are_refused(tmp_path, step):
    path = structures(tmp_path, *((BETWEEN, step * k) for k in range(4)))
    with pytest.raises(InputError, match=r"contours of 'GTV' lie between the image's slices"):
        read(path)


def test_contours_across_slices_are_refused(tmp_path):
    askew = in_slice(BETWEEN, 2)
    askew[0] += 1.2 * OBLIQUE[:, 2]
    with pytest.raises(InputError, match=r"lie in no plane of the image, but across 0\.40"):
        read(structures(tmp_path, contour(askew)))


@pytest.mark.parametrize(("places", "said"), [((0, 2, 4), True), ((0, 2, 3), False)])
def test_contours_in_every_other_slice_only_are_said(tmp_path, places, said, recwarn):
    path = structures(tmp_path, *((BETWEEN, place) for place in places))
    np.testing.assert_array_equal(read(path), expected(**{f"s{p}": (2, 7, 3, 6) for p in places}))
    assert [str(w.message) for w in recwarn if "2 slices apart" in str(w.message)] == (
        [str(recwarn[0].message)] if said else []
    )


def test_points_are_left_out_and_it_is_said(tmp_path):
    point = contour(in_slice([(5, 5)], 0), kind="POINT")
    with pytest.warns(UserWarning, match="'GTV': 1 contour of type POINT, left out"):
        labels = read(structures(tmp_path, point, (BETWEEN, 2)))
    np.testing.assert_array_equal(labels, expected(s2=(2, 7, 3, 6)))
    with pytest.warns(UserWarning, match="POINT"):
        assert not read(structures(tmp_path, point)).any()


def test_contour_between_centres_is_said(tmp_path):
    tiny = [(5.2, 5.2), (5.4, 5.2), (5.4, 5.4)]
    with pytest.warns(UserWarning, match="'GTV': 2 contours with no voxel's centre inside"):
        assert not read(structures(tmp_path, (tiny, 2), (tiny, 3))).any()


def test_contour_that_is_there_twice_is_taken_once_and_it_is_said(tmp_path):
    again = [*BETWEEN[1:], BETWEEN[0]]
    with pytest.warns(UserWarning, match="'GTV': 1 contour there twice, taken once"):
        labels = read(structures(tmp_path, (BETWEEN, 2), (again[::-1], 2)))
    np.testing.assert_array_equal(labels, expected(s2=(2, 7, 3, 6)))


def test_contours_that_cross_are_said(tmp_path):
    other = [(4.5, 1.5), (9.5, 1.5), (9.5, 4.5), (4.5, 4.5)]
    with pytest.warns(UserWarning, match="contours cross each other in 1 slice"):
        labels = read(structures(tmp_path, (BETWEEN, 2), (other, 2)))
    both = expected(s2=(2, 7, 3, 6)) ^ expected(s2=(5, 10, 2, 5))
    np.testing.assert_array_equal(labels, both)


def test_contours_that_touch_do_not_cross(tmp_path, recwarn):
    left, right = [[(x, 2), (x + 3, 2), (x + 3, 6), (x, 6)] for x in (2, 5)]
    labels = read(structures(tmp_path, (left, 2), (right, 2)))
    np.testing.assert_array_equal(labels, expected(s2=(2, 9, 2, 7)))
    assert not recwarn


def first(one):
    return one.ROIContourSequence[0].ContourSequence[0]


def put(owner, keyword, value):
    return lambda one: setattr(owner(one), keyword, value)


def remove(owner, keyword):
    return lambda one: delattr(owner(one), keyword)


def itself(one):
    return one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(itself, "SOPClassUID", MRImageStorage), "is no DICOM structure set"),
        (remove(itself, "StructureSetROISequence"), "StructureSetROISequence is missing"),
        (remove(itself, "ROIContourSequence"), "ROIContourSequence is missing"),
        (remove(lambda one: one.StructureSetROISequence[0], "ROINumber"), "ROINumber"),
        (
            put(lambda one: one.ROIContourSequence[0], "ReferencedROINumber", 5),
            "contours of region 5, which it does not name",
        ),
        (remove(first, "ContourData"), "states 4 points, but has 0 numbers"),
        (put(first, "ContourData", []), "states 4 points, but has 0 numbers"),
        (put(first, "ContourData", ["1", "2", "3"]), "states 4 points, but has 3 numbers"),
        (put(first, "ContourData", "1"), "states 4 points, but has 1 number,"),
        (put(first, "ContourData", ["nan"] * 12), "contour 1 of 'GTV' has points at no place"),
        (put(first, "ContourData", ["1e300"] * 12), "contour 1 of 'GTV' has points at no place"),
        (put(first, "NumberOfContourPoints", 5), "states 5 points, but has 12 numbers"),
        (put(first, "ContourOffsetVector", [1, 2]), "header is corrupt: 'not enough values"),
        (put(first, "ContourGeometricType", "OPEN_PLANAR"), "type 'OPEN_PLANAR', which encloses"),
        (put(first, "ContourGeometricType", "OPEN_NONPLANAR"), "type 'OPEN_NONPLANAR'"),
        (remove(first, "ContourGeometricType"), "type ''"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corrupt_structure_set_is_refused_by_name(tmp_path, change, said):
    path = structures(tmp_path, (BETWEEN, 2), change=change)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read(path)
    assert str(error.value).startswith(str(path))


def test_number_that_is_none_is_refused_by_name(tmp_path):
    path = structures(tmp_path, (BETWEEN, 2))
    number = str(first(pydicom.dcmread(path)).ContourData[0]).encode()
    path.write_bytes(path.read_bytes().replace(number, b"x" * len(number)))
    with pytest.raises(InputError, match=r"structures\.dcm: its DICOM header is corrupt"):
        read(path)


def test_two_regions_of_one_name_are_refused(tmp_path):
    path = save(dataset([("GTV", []), ("GTV", [])]), tmp_path / "structures.dcm")
    with pytest.raises(InputError, match="2 segments have one name, 'GTV'"):
        roi_names(path)


def test_structure_set_without_regions_is_empty(tmp_path):
    path = save(dataset([]), tmp_path / "structures.dcm")
    volume, names = read_rtstruct(path, LIKE)
    assert names == {}
    assert not volume.data.any()


@settings(max_examples=150, deadline=None)
@given(
    at=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    byte=st.integers(0, 255),
    cut=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_wrong_with_a_file_is_an_input_error(tmp_path_factory, at, byte, cut):
    folder = tmp_path_factory.mktemp("structures")
    content = bytearray(structures(folder, (BETWEEN, 2), (SQUARE, 3)).read_bytes())
    for share in at:
        content[132 + int(share * (len(content) - 133))] = byte
    path = folder / "broken.dcm"
    path.write_bytes(content[: len(content) if cut < 0.7 else int(cut * len(content))])
    try:
        segment_names(path)
        read(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_segments_that_the_coding_does_not_name_are_left_out_with_a_word_or_refused(tmp_path):
    one = dataset([("GTV", [(BETWEEN, 2)]), ("other", [(SQUARE, 3)])])
    path = save(one, tmp_path / "structures.dcm")
    lesion = LabelCoding(names=("background", "gtv"))
    with pytest.warns(
        UserWarning, match=r"structures\.dcm: left out segment 'other', no label here"
    ):
        labels = read_label(path, coding=lesion, like=LIKE)
    np.testing.assert_array_equal(labels.data, expected(s2=(2, 7, 3, 6)))
    tumour = LabelCoding(names=("background", "tumour"))
    with pytest.raises(InputError, match=r"structures\.dcm: has segments 'GTV', 'other', but none"):
        read_label(path, coding=tumour, like=LIKE)
