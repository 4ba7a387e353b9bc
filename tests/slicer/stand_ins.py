"""Stand-ins of what the module uses of Slicer, Qt, CTK and VTK.

They refuse attributes that the real classes lack. Names and arguments follow Slicer's documented
API; Slicer itself is not here, so what it does beyond that is not tested.
"""

import types
from contextlib import contextmanager
from itertools import count

import numpy as np

_IDS = count(1)


class Widget:
    """A widget of Qt: properties, and signals that are connected by their signature."""

    properties = ("toolTip", "enabled", "text", "wordWrap")
    signals = ()

    def __init__(self, *arguments):
        self.__dict__["slots"] = {}
        if arguments and isinstance(arguments[0], str):
            self.text = arguments[0]

    def __setattr__(self, name, value):
        if name not in self.properties:
            raise AttributeError(f"{type(self).__name__} has no property {name}")
        self.__dict__[name] = value

    def connect(self, signal, slot):
        assert signal in self.signals, f"{type(self).__name__} has no signal {signal}"
        self.slots[signal] = slot

    def emit(self, signal, *values):
        if signal in self.slots:
            self.slots[signal](*values)


class Button(Widget):
    signals = ("clicked(bool)",)

    def click(self):
        assert self.enabled
        self.emit("clicked(bool)", False)


class LineEdit(Widget):
    text = ""


class FormLayout:
    def __init__(self, parent=None):
        self.rows = []

    def addRow(self, *widgets):
        self.rows.append(widgets)

    def removeRow(self, number):
        del self.rows[number]


class BoxLayout:
    def __init__(self):
        self.widgets = []

    def addWidget(self, widget):
        self.widgets.append(widget)

    def addStretch(self, share):
        pass


class PathLineEdit(Widget):
    Files, Dirs = 1, 2
    properties = (*Widget.properties, "filters", "nameFilters")
    signals = ("currentPathChanged(QString)",)
    currentPath = ""  # noqa: N815

    def choose(self, path):
        self.__dict__["currentPath"] = str(path)
        self.emit(self.signals[0], str(path))


class NodeComboBox(Widget):
    properties = (
        *Widget.properties,
        "nodeTypes",
        "showChildNodeTypes",
        "addEnabled",
        "removeEnabled",
        "noneEnabled",
    )
    signals = ("currentNodeChanged(vtkMRMLNode*)",)

    def __init__(self):
        super().__init__()
        self.__dict__["node"] = None

    def setMRMLScene(self, scene):
        pass

    def currentNode(self):
        return self.node

    def setCurrentNode(self, node):
        self.__dict__["node"] = node
        self.emit(self.signals[0], node)


class Matrix:
    def __init__(self):
        self.array = np.eye(4)


class Node:
    def __init__(self):
        self.id, self.name, self.transform = f"node{next(_IDS)}", "", None

    def GetID(self):
        return self.id

    def GetName(self):
        return self.name

    def SetName(self, name):
        self.name = name

    def GetParentTransformNode(self):
        return self.transform

    def GetTransformNodeID(self):
        return self.transform and self.transform.GetID()

    def SetAndObserveTransformNodeID(self, name):
        self.transform = Scene.nodes[name] if name else None


class Transform(Node):
    def __init__(self, array, linear=True):
        super().__init__()
        self.array, self.linear = np.array(array, float), linear
        Scene.nodes[self.id] = self

    def IsTransformToWorldLinear(self):
        return self.linear

    def GetMatrixTransformToWorld(self, matrix):
        matrix.array = self.array.copy()


class VolumeNode(Node):
    def __init__(self, array, matrix, name="FLAIR"):
        super().__init__()
        self.array, self.matrix, self.name = array, np.array(matrix, float), name

    def GetIJKToRASMatrix(self, matrix):
        matrix.array = self.matrix.copy()

    def SetIJKToRASMatrix(self, matrix):
        self.matrix = matrix.array.copy()


class Segment:
    def __init__(self, name, color):
        self.name, self.color, self.tags, self.array = name, color, {}, None

    def GetName(self):
        return self.name

    def SetTag(self, key, value):
        self.tags[key] = value

    def GetTerminologyEntryTagName(self):
        return "TerminologyEntry"


class Segmentation:
    def __init__(self):
        self.segments = {}

    def AddEmptySegment(self, name="", label="", color=None):
        name = name or f"Segment_{len(self.segments) + 1}"
        self.segments[name] = Segment(label, color)
        return name

    def GetSegment(self, name):
        return self.segments[name]

    def GetNumberOfSegments(self):
        return len(self.segments)

    def GetNthSegmentID(self, number):
        return list(self.segments)[number]


class SegmentationNode(Node):
    def __init__(self):
        super().__init__()
        self.segmentation, self.reference, self.shown = Segmentation(), None, False

    def GetSegmentation(self):
        return self.segmentation

    def CreateDefaultDisplayNodes(self):
        self.shown = True

    def SetReferenceImageGeometryParameterFromVolumeNode(self, node):
        self.reference = node


class Column(list):
    def SetName(self, name):
        self.name = name

    def InsertNextValue(self, value):
        self.append(value)


class TableNode(Node):
    def __init__(self):
        super().__init__()
        self.columns = []

    def AddColumn(self, column):
        self.columns.append(column)

    def GetCellText(self, row, column):
        return str(self.columns[column][row])


class Tree:
    """The subject hierarchy; an item is the node itself."""

    def __init__(self):
        self.parents = {}

    def GetItemByDataNode(self, node):
        return node

    def GetItemParent(self, item):
        return self.parents.get(item, "scene")

    def SetItemParent(self, item, parent):
        self.parents[item] = parent


_CLASSES = {"vtkMRMLSegmentationNode": SegmentationNode, "vtkMRMLTableNode": TableNode}
_NODES = {}


class Scene:
    nodes = _NODES

    def __init__(self):
        self.tree = Tree()

    def AddNewNodeByClass(self, kind):
        node = _CLASSES[kind]()
        self.nodes[node.GetID()] = node
        return node

    def GetSubjectHierarchyNode(self):
        return self.tree

    def Clear(self):
        self.nodes.clear()


class Util:
    """``slicer.util``."""

    def __init__(self, scene):
        self.scene, self.errors, self.installed, self.agrees = scene, [], [], True

    def arrayFromVolume(self, node):
        return node.array

    def arrayFromVTKMatrix(self, matrix):
        return matrix.array

    def vtkMatrixFromArray(self, array):
        matrix = Matrix()
        matrix.array = array
        return matrix

    def addVolumeFromArray(self, array, name):
        return VolumeNode(array, np.eye(4), name)

    def getNode(self, name):
        return next(node for node in self.scene.nodes.values() if node.GetName() == name)

    def updateSegmentBinaryLabelmapFromArray(self, array, node, name, reference):
        assert array.shape == reference.array.shape
        assert array.dtype == np.uint8
        node.GetSegmentation().GetSegment(name).array = array.copy()

    def arrayFromSegmentBinaryLabelmap(self, node, name, reference):
        array = node.GetSegmentation().GetSegment(name).array
        return np.zeros(reference.array.shape, np.uint8) if array is None else array

    def confirmOkCancelDisplay(self, text, title=None):
        self.question = text
        return self.agrees

    def pip_install(self, requirements):
        self.installed.append(requirements)

    @contextmanager
    def tryWithErrorDisplay(self, message=None, show=True, waitCursor=False):
        try:
            yield
        except Exception as error:
            self.errors.append(f"{message} {error}")


class LoadableModule:
    def __init__(self, parent):
        self.parent = parent


class LoadableModuleWidget:
    def __init__(self, parent=None):
        self.parent, self.layout = parent, BoxLayout()

    def setup(self):
        pass


def modules():
    """Return the modules by name, with a new scene."""
    scene = Scene()
    slicer = types.ModuleType("slicer")
    slicer.mrmlScene, slicer.util = scene, Util(scene)
    slicer.qMRMLNodeComboBox = NodeComboBox
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    base.ScriptedLoadableModule = LoadableModule
    base.ScriptedLoadableModuleWidget = LoadableModuleWidget
    base.ScriptedLoadableModuleLogic = type("Logic", (), {})
    base.ScriptedLoadableModuleTest = type("Test", (), {})
    qt, ctk, vtk = map(types.ModuleType, ("qt", "ctk", "vtk"))
    qt.QFormLayout, qt.QPushButton, qt.QLabel, qt.QLineEdit = FormLayout, Button, Widget, LineEdit
    qt.QFileDialog = types.SimpleNamespace(getExistingDirectory=lambda parent, title: "")
    ctk.ctkPathLineEdit, ctk.ctkCollapsibleButton = PathLineEdit, Widget
    vtk.vtkMatrix4x4 = Matrix
    vtk.vtkStringArray = vtk.vtkDoubleArray = vtk.vtkIntArray = Column
    return {m.__name__: m for m in (qt, ctk, vtk, slicer, base)}
