"""The module in Slicer's own scene, which ``slicer-core`` has without the windows."""

import importlib
import sys
import types

import numpy as np
import pytest

from segjax.data.cases import find_cases
from segjax_onnx import Predictor
from tests.geometry import noise, rigid
from tests.slicer import stand_ins
from tests.slicer.networks import write_network

pytestmark = [
    pytest.mark.peer("slicer_core"),
    pytest.mark.filterwarnings("ignore:.*far from", "ignore:.*tilted"),
]
SHAPE = (9, 12, 7)
OBLIQUE = rigid((12, -7, 18), (1.0, 1.3, 2.4))
LOGICS = {
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}
SHEARED = OBLIQUE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def slicer(on_path, monkeypatch):
    slicer = importlib.import_module("slicer")
    importlib.import_module("slicer.util")
    scene, logics = slicer.vtkMRMLScene(), {}
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    for name, kind in LOGICS.items():
        logic = logics[name] = getattr(slicer, kind)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
    modules = {
        name.lower(): types.SimpleNamespace(logic=lambda logic=logic: logic)
        for name, logic in logics.items()
    }
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    kept = types.SimpleNamespace(**modules, application=application)  # logics do not own it
    monkeypatch.setattr(slicer, "modules", kept, raising=False)
    for name in ("qt", "ctk", "slicer.ScriptedLoadableModule"):
        monkeypatch.setitem(sys.modules, name, stand_ins.modules()[name])
    return slicer


@pytest.fixture
def module(slicer):
    return importlib.import_module("SegjaxSegmenter")


@pytest.fixture
def logic(module, tmp_path):
    made = module.SegjaxSegmenterLogic()
    made.open(write_network(tmp_path / "two.onnx", ("flair", "t1"), optional=("t1",)))
    return made


def add_volume(slicer, affine, seed=0):
    kji = np.ascontiguousarray(noise(SHAPE, seed).T)
    return slicer.util.addVolumeFromArray(kji, np.array(affine), "FLAIR")


def cells(table):
    rows, columns = range(table.GetNumberOfRows()), range(table.GetNumberOfColumns())
    return [[table.GetCellText(row, column) for column in columns] for row in rows]


def test_its_own_test_runs(module):
    module.SegjaxSegmenterTest().test_what_is_bright_becomes_a_segment()


@pytest.mark.parametrize("above", [None, rigid((30, 0, 10), (1, 1, 1))], ids=["as is", "moved"])
@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED], ids=["oblique", "sheared"])
def test_segments_lie_where_the_labels_do(slicer, logic, tmp_path, affine, above):
    volume = add_volume(slicer, affine)
    if above is not None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(above))
        volume.SetAndObserveTransformNodeID(transform.GetID())
    node, _ = logic.segment([volume, None])
    predictor = Predictor(tmp_path / "two.onnx")
    predictor.missing = ["t1"]
    world = affine if above is None else above @ affine
    expected = predictor.predict(noise(SHAPE), affine=world).data.T
    for value, name in enumerate(("lesion", "vein"), start=1):
        segment = node.GetSegmentation().GetSegmentIdBySegmentName(name)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, volume)
        np.testing.assert_array_equal(found > 0, expected == value)


def test_terminology_is_what_slicer_understands(slicer, logic):
    import vtk

    node, _ = logic.segment([add_volume(slicer, OBLIQUE), None])
    lesion = node.GetSegmentation().GetSegment(node.GetSegmentation().GetNthSegmentID(0))
    tag, entry = vtk.mutable(""), slicer.vtkSlicerTerminologyEntry()
    assert lesion.GetTag(lesion.GetTerminologyEntryTagName(), tag)
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(str(tag), entry)
    type_ = entry.GetTypeObject()
    code = type_.GetCodingSchemeDesignator(), type_.GetCodeValue(), type_.GetCodeMeaning()
    assert code == ("SCT", "52988006", "Lesion")
    assert entry.GetCategoryObject().GetCodeMeaning() == "Morphologically Altered Structure"
    assert lesion.GetColor() == pytest.approx((1, 0, 0.2))


def test_edited_segments_are_measured_and_saved(slicer, logic, tmp_path):
    volumes = [add_volume(slicer, OBLIQUE), add_volume(slicer, OBLIQUE, seed=1)]
    node, _ = logic.segment(volumes)
    edited = np.zeros(SHAPE[::-1], np.uint8)
    edited[1:3, 4, 5] = 1
    segments = node.GetSegmentation()
    for number, array in enumerate((edited, np.zeros_like(edited))):
        name = segments.GetNthSegmentID(number)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, name, volumes[0])
    table = logic.measure(node, volumes)
    assert cells(table) == [["lesion", "0.0062", "1", "0.0062"], ["vein", "0", "0", "0"]]
    logic.save(node, volumes, tmp_path / "dataset")
    (case,) = find_cases(tmp_path / "dataset").cases
    np.testing.assert_array_equal(case.read_label().data, edited.T)


def test_the_segmentation_lies_in_the_study_of_the_volume(slicer, module, logic):
    volume = add_volume(slicer, OBLIQUE)
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
    tree.CreateItem(study, volume)
    node, _ = logic.segment([volume, None])
    tree.CreateItem(tree.GetSceneItemID(), node)  # which Slicer's windows do by themselves
    module._beside(volume, node)
    assert tree.GetItemParent(tree.GetItemByDataNode(node)) == study


def test_bending_transforms_are_refused(slicer, logic):
    import vtk

    bending, points = vtk.vtkThinPlateSplineTransform(), (vtk.vtkPoints(), vtk.vtkPoints())
    for n in range(5):
        points[0].InsertNextPoint(n, n * n, 3 * n % 4)
        points[1].InsertNextPoint(n, n * n + 1, 3 * n % 4 + n * n)
    bending.SetBasisToR()
    bending.SetSourceLandmarks(points[0])
    bending.SetTargetLandmarks(points[1])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(bending)
    volume = add_volume(slicer, OBLIQUE)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(RuntimeError, match="FLAIR lies under a transform that bends it"):
        logic.segment([volume, None])
