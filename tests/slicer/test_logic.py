import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from segjax.data.cases import find_cases
from segjax.data.io.formats import read_volume, write_volume
from segjax.errors import InputError
from segjax.grid import reorient
from segjax.volume import Volume
from segjax_onnx import Predictor
from tests.geometry import from_sitk, noise, rigid, to_sitk
from tests.slicer.conftest import FOLDER
from tests.slicer.networks import write_network

pytestmark = pytest.mark.filterwarnings("ignore:.*far from", "ignore:.*tilted")
ROOT = FOLDER.parents[2]
SHAPE = (9, 12, 7)
SPACING = (1.0, 1.3, 2.4)
ORIENTATIONS = ["RAS", "LPS", "LAS", "RPI", "ASR", "PIL", "ILP", "SRA", "AIL", "SPL", "IRP", "PSR"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def segmenter(logic, files):
    return logic.Segmenter(write_network(files / "one.onnx"))


@pytest.fixture
def two(logic, files):
    names = ("flair", "t1")
    return logic.Segmenter(write_network(files / "two.onnx", names, optional=("t1",)))


def placed(logic, volume):
    return logic.Placed(np.ascontiguousarray(volume.data.T), volume.affine)


def read_like_slicer(logic, path):
    """Read a NIfTI as ITK does, and turn its LPS into Slicer's RAS."""
    image = sitk.ReadImage(str(path))
    return logic.Placed(sitk.GetArrayFromImage(image), from_sitk(image).affine)


def test_labels_are_those_of_the_same_volume_as_a_file(logic, segmenter, files, tmp_path):
    head = Volume(noise(SHAPE), rigid((12, -7, 18), SPACING))
    predictor, path = Predictor(files / "one.onnx"), tmp_path / "a.nii.gz"
    for orientation in ORIENTATIONS:
        write_volume(reorient(head, orientation), path, overwrite=True)
        found = segmenter.segment([read_like_slicer(logic, path)])
        np.testing.assert_array_equal(found.labels, predictor.predict(path).data.T)
        assert set(np.unique(found.labels)) == {0, 1, 2}


def test_sheared_volumes_keep_their_place(logic, segmenter, files, tmp_path):
    affine = rigid((5, 3, -8), SPACING)
    affine[:3, 2] += 0.4 * affine[:3, 1]
    sheared = Volume(noise(SHAPE), affine)
    write_volume(sheared, tmp_path / "a.nii.gz")
    expected = Predictor(files / "one.onnx").predict(tmp_path / "a.nii.gz")
    found = segmenter.segment([placed(logic, sheared)])
    np.testing.assert_array_equal(found.labels, expected.data.T)
    assert "tilt" in found.warnings[0]


def test_volumes_on_other_grids_are_resampled_to_the_first(logic, two, files):
    first = Volume(noise(SHAPE), rigid((8, 4, -6), SPACING))
    other = Volume(noise((14, 11, 15), seed=1), rigid((-15, 9, 3), (0.9, 1.4, 1.1)))
    resampled = from_sitk(sitk.Resample(to_sitk(other), to_sitk(first)))
    image = first.with_data(np.stack([first.data, resampled.data], axis=-1))
    expected = Predictor(files / "two.onnx").predict(image)
    found = two.segment([placed(logic, first), placed(logic, other)])
    assert (found.labels != expected.data.T).mean() < 1e-3


def test_an_optional_channel_may_be_missing_and_comes_back(logic, two, files):
    head = Volume(noise(SHAPE), np.eye(4))
    both = two.segment([placed(logic, head)] * 2).labels
    alone = two.segment([placed(logic, head), None]).labels
    predictor = Predictor(files / "two.onnx")
    predictor.missing = ["t1"]
    np.testing.assert_array_equal(alone, predictor.predict(head).data.T)
    np.testing.assert_array_equal(two.segment([placed(logic, head)] * 2).labels, both)
    assert (alone != both).any()


def test_channels_that_must_be_there_are_named(logic, two):
    head = placed(logic, Volume(noise(SHAPE), np.eye(4)))
    assert two.channels == [("flair", False), ("t1", True)]
    with pytest.raises(InputError, match="channel flair: choose a volume"):
        two.segment([None, head])
    with pytest.raises(InputError, match="choose a volume"):
        two.segment([None, None])


def test_volumes_of_other_places_are_refused(logic, two):
    head = Volume(noise(SHAPE), np.eye(4))
    away = head.affine.copy()
    away[2, 3] = 50
    with pytest.raises(InputError, match="do not overlap: register"):
        two.segment([placed(logic, head), placed(logic, Volume(head.data, away))])


def test_names_colours_and_terminology_are_those_of_the_file(segmenter):
    lesion, vein = segmenter.segments
    assert lesion[:3] == (1, "lesion", (1.0, 0.0, 0.2))
    assert lesion.terminology == (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^49755003^Morphologically Altered Structure~SCT^52988006^Lesion~^^"
        "~Anatomic codes - DICOM master list~^^~^^"
    )
    assert vein == (2, "vein", (0.0, 0.4, 1.0), "")


def test_volumes_are_millilitres_of_sheared_voxels_too(logic, segmenter):
    labels = np.zeros((4, 4, 8), np.uint8)
    labels[0, 0, :5] = labels[3, 3, 7] = 1
    matrix = np.array([[10.0, 4, 0, 0], [0, 10, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    rows = segmenter.measure(logic.Placed(labels, matrix))
    assert rows == [("lesion", 3.0, 2, 2.5), ("vein", 0.0, 0, 0.0)]


def test_later_labels_hold_where_segments_overlap(segmenter):
    first, second = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    first[0], second[:, 0] = True, True
    merged = segmenter.merge({"vein": second, "lesion": first})
    np.testing.assert_array_equal(merged, [[[2, 2], [1, 1]], [[2, 2], [0, 0]]])
    with pytest.raises(InputError, match=r"'Segment_3' is no label .* lesion, vein: rename it"):
        segmenter.merge({"Segment_3": first})
    with pytest.raises(InputError, match="no segment"):
        segmenter.merge({})


def test_training_cases_are_a_dataset_on_the_grid_of_the_first(logic, two, tmp_path):
    first = Volume(noise(SHAPE).astype(np.int16), rigid(spacing=SPACING))
    other = Volume(noise((14, 11, 15), seed=1), rigid((-15, 9, 3), (0.9, 1.4, 1.1)))
    labels = np.random.default_rng(0).integers(0, 3, SHAPE[::-1]).astype(np.uint8)
    given = [placed(logic, first), placed(logic, other)]
    assert logic.next_case(tmp_path) == "case001"
    two.save(given, labels, tmp_path, "case001")
    assert logic.next_case(tmp_path) == "case002"
    dataset = find_cases(tmp_path)
    assert dataset.labels == {0: "background", 1: "lesion", 2: "vein"}
    assert dataset.channels == ("flair", "t1")
    (case,) = dataset.cases
    saved = read_volume(case.images[0])
    np.testing.assert_array_equal(saved.data, first.data)
    np.testing.assert_allclose(saved.affine, first.affine, atol=1e-4)
    np.testing.assert_array_equal(case.read_label().data, labels.T)
    with pytest.raises(InputError, match="case001_0000"):
        two.save(given, labels, tmp_path, "case001")


@pytest.mark.parametrize("case", ["", "a/b", ".hidden", ".."])
def test_a_case_is_named_as_a_file(logic, segmenter, tmp_path, case):
    head = placed(logic, Volume(noise(SHAPE), np.eye(4)))
    with pytest.raises(InputError, match="a name that a file can have"):
        segmenter.save([head], np.zeros(SHAPE[::-1], np.uint8), tmp_path, case)


def test_a_dataset_of_other_labels_gets_no_case(logic, segmenter, two, tmp_path):
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "tumour": 1}}')
    head = placed(logic, Volume(noise(SHAPE), np.eye(4)))
    with pytest.raises(InputError, match=r"tumour \(1\), those of the network background, lesion"):
        segmenter.save([head], np.zeros(SHAPE[::-1], np.uint8), tmp_path, "a")
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.json"]
    with pytest.raises(InputError, match="choose a volume for each"):
        two.save([head, None], np.zeros(SHAPE[::-1], np.uint8), tmp_path, "a")


def test_onnxruntime_and_the_base_are_enough(tmp_path):
    np.save(tmp_path / "kji.npy", np.arange(60.0).reshape(3, 4, 5) - 30)
    program = (
        "import sys, numpy; from tests.lean_machine import HEAVY\n"
        "sys.modules.update(dict.fromkeys((*HEAVY, 'torch', 'slicer', 'qt', 'vtk', 'ctk')))\n"
        "from SegjaxSegmenterLib.logic import Placed, Segmenter\n"
        "volume = Placed(numpy.load(sys.argv[2]), numpy.eye(4))\n"
        "print(Segmenter(sys.argv[1]).segment([volume]).rows[0][:3])"
    )
    places = os.pathsep.join(map(str, (ROOT, ROOT / "export", FOLDER)))
    files = [FOLDER / "Resources" / "threshold.onnx", tmp_path / "kji.npy"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *files],
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("('lesion', 0.029, 1)\n", 0), done.stderr
