"""Module of 3D Slicer that segments MR volumes with a network which ``segjax export`` wrote."""

from __future__ import annotations  # Slicer before 5.10 reads this file too, to say what it lacks

import importlib.util
import sys
from pathlib import Path

try:
    import ctk
    import qt
    import slicer
    import vtk
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
except ImportError:  # outside of Slicer
    slicer = None
    ScriptedLoadableModule = ScriptedLoadableModuleLogic = object
    ScriptedLoadableModuleTest = ScriptedLoadableModuleWidget = object

HOW_TO_START = (
    "This is a module of 3D Slicer: there, add the folder of this file in Edit → Application "
    "Settings → Modules → Additional module paths, and restart"
)
_PYTHON = (3, 11)
_NEEDED = ("segjax", "segjax_onnx", "onnxruntime")


class SegjaxSegmenter(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        _check_slicer()
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "segjax Segmenter"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Segmentations", "Volumes"]
        parent.contributors = ["The segjax authors"]
        parent.helpText = (
            "Segments MR volumes with a network that segjax export wrote, by onnxruntime. Choose "
            "the file and a volume for each channel, then Apply. For research, not for diagnosis."
        )
        parent.acknowledgementText = "segjax, Apache-2.0."


class SegjaxSegmenterWidget(ScriptedLoadableModuleWidget):
    """What the user chooses, and where the answers are told."""

    def setup(self):
        """Build the panel."""
        _check_slicer()
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = SegjaxSegmenterLogic()
        self.selectors = []
        self._build_network()
        self._build_training()
        self.layout.addStretch(1)
        self._update()

    def cleanup(self):
        """Forget the network when the panel goes."""
        self.logic.close()

    def _build_network(self):
        form = self._section("Segmentation")
        self.file = _path(ctk.ctkPathLineEdit.Files)
        self.file.nameFilters = ["Networks (*.onnx)"]
        self.file.toolTip = "The ONNX file that segjax export wrote"
        form.addRow("Network:", self.file)
        self.volumes = qt.QFormLayout()
        form.addRow(self.volumes)
        self.apply = _button("Apply", "Segment the volumes", self.on_apply)
        form.addRow(self.apply)
        self.told = qt.QLabel()
        self.told.wordWrap = True
        form.addRow(self.told)
        self.file.connect("currentPathChanged(QString)", self.on_file)

    def _build_training(self):
        form = self._section("Edited segmentation")
        self.segmentation = _nodes("vtkMRMLSegmentationNode")
        self.segmentation.connect("currentNodeChanged(vtkMRMLNode*)", self._update)
        form.addRow("Segmentation:", self.segmentation)
        self.measure = _button("Measure", "Make a table of its volumes", self.on_measure)
        form.addRow(self.measure)
        self.folder = _path(ctk.ctkPathLineEdit.Dirs)
        self.folder.toolTip = "Folder of a dataset, with images and labels in it, or a new one"
        form.addRow("Dataset:", self.folder)
        self.case = qt.QLineEdit()
        self.case.toolTip = "Name of the files; empty: case001, case002, …"
        form.addRow("Case:", self.case)
        self.save = _button("Save as training label", "Write images and labels", self.on_save)
        form.addRow(self.save)

    def _section(self, title):
        section = ctk.ctkCollapsibleButton()
        section.text = title
        self.layout.addWidget(section)
        return qt.QFormLayout(section)

    def on_file(self, path):
        """Open the network, and offer a selector for each of its channels."""
        self._clear()
        with _told("The network cannot be opened.", wait=False):
            if path and self.logic.prepare():
                self.logic.open(path)
                for channel in self.logic.segmenter.channels:
                    self._offer(channel)
        self._update()

    def _clear(self):
        self.logic.close()
        self.told.text = ""
        while self.selectors:
            self.selectors.pop()
            self.volumes.removeRow(0)

    def _offer(self, channel):
        selector = _nodes("vtkMRMLScalarVolumeNode")
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self._update)
        self.volumes.addRow(f"{channel.name}{' (optional)' if channel.optional else ''}:", selector)
        self.selectors.append(selector)

    def _chosen(self):
        return [selector.currentNode() for selector in self.selectors]

    def _update(self, *_):
        ready = self.logic.is_enough(self._chosen())
        self.apply.enabled = ready
        edited = self.segmentation.currentNode() is not None
        self.measure.enabled = self.save.enabled = ready and edited

    def on_apply(self, *_):
        """Segment the volumes that are chosen."""
        with _told("The volumes cannot be segmented."):
            node, warned = self.logic.segment(self._chosen())
            self.segmentation.setCurrentNode(node)
            self.told.text = "\n".join(warned)

    def on_measure(self, *_):
        """Measure the segmentation as it is now."""
        with _told("The segmentation cannot be measured."):
            self.logic.measure(self.segmentation.currentNode(), self._chosen())

    def on_save(self, *_):
        """Write volumes and segmentation as a case of a dataset."""
        with _told("The case cannot be saved."):
            place = self.folder.currentPath, self.case.text.strip()
            files = self.logic.save(self.segmentation.currentNode(), self._chosen(), *place)
            self.told.text = "\n".join(["Written:", *map(str, files)])
            self.case.text = ""


class SegjaxSegmenterLogic(ScriptedLoadableModuleLogic):
    """Nodes of the scene in, nodes out; ``SegjaxSegmenterLib.logic`` computes."""

    def __init__(self):
        _check_slicer()
        ScriptedLoadableModuleLogic.__init__(self)
        self.segmenter = None

    def prepare(self):
        """Install segjax and onnxruntime where they are missing, if the user agrees.

        Returns:
            Whether they are there.
        """
        if all(map(importlib.util.find_spec, _NEEDED)):
            return True
        if sys.version_info < _PYTHON:
            raise RuntimeError("segjax needs Python 3.11 or later: use Slicer 5.10 or later")
        question = (
            "segjax and onnxruntime, about 200 MB, are to be installed into Slicer's Python. "
            "This needs the network, and takes a minute or two."
        )
        if not slicer.util.confirmOkCancelDisplay(question, "Install segjax"):
            return False
        if source := _source():
            slicer.util.pip_install([f"{source}[runtime]"])
            importlib.invalidate_caches()
        return bool(source)

    def open(self, path):
        """Read a network."""
        from SegjaxSegmenterLib.logic import Segmenter

        self.segmenter = Segmenter(path)

    def close(self):
        """Forget the network."""
        self.segmenter = None

    def is_enough(self, nodes):
        """Say whether there is a network, and a volume for each channel that needs one."""
        lacking = [n for n, node in enumerate(nodes) if node is None]
        channels = self.segmenter.channels if self.segmenter else []
        return len(lacking) < len(nodes) and all(channels[n].optional for n in lacking)

    def segment(self, nodes):
        """Segment volumes, None where one is missing.

        Returns:
            The segmentation's node, and what was doubted.
        """
        result = self.segmenter.segment(_volumes(nodes))
        reference = _first(nodes)
        made = self._show(result.labels, reference)
        _table(f"{reference.GetName()} volumes", result.rows)
        return made, result.warnings

    def _show(self, labels, reference):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.SetName(f"{reference.GetName()} segmentation")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
        for segment in self.segmenter.segments:
            name = node.GetSegmentation().AddEmptySegment("", segment.name, segment.color)
            made = node.GetSegmentation().GetSegment(name)
            if segment.terminology:
                made.SetTag(made.GetTerminologyEntryTagName(), segment.terminology)
            where = (labels == segment.value).astype("uint8")
            if where.any():
                slicer.util.updateSegmentBinaryLabelmapFromArray(where, node, name, reference)
        _beside(reference, node)
        return node

    def measure(self, segmentation, nodes):
        """Make a table of the volumes of a segmentation; return its node."""
        from SegjaxSegmenterLib.logic import Placed

        reference = _first(nodes)
        labels = Placed(self._labels(segmentation, reference), _placed(reference).ijk_to_ras)
        return _table(f"{segmentation.GetName()} volumes", self.segmenter.measure(labels))

    def save(self, segmentation, nodes, folder, case=""):
        """Write volumes and segmentation as a case of a dataset; return the files."""
        from SegjaxSegmenterLib.logic import next_case

        if not folder:
            raise ValueError("choose the folder of a dataset")
        labels = self._labels(segmentation, _first(nodes))
        return self.segmenter.save(_volumes(nodes), labels, folder, case or next_case(folder))

    def _labels(self, node, reference):
        """Return the segments as one label map on the grid of a volume."""
        segments = node.GetSegmentation()
        names = [segments.GetNthSegmentID(n) for n in range(segments.GetNumberOfSegments())]
        read = slicer.util.arrayFromSegmentBinaryLabelmap
        return self.segmenter.merge(
            {segments.GetSegment(n).GetName(): read(node, n, reference) > 0 for n in names}
        )


class SegjaxSegmenterTest(ScriptedLoadableModuleTest):
    """Segments a made volume in Slicer: *Reload and Test* in developer mode."""

    def runTest(self):  # noqa: N802  # Slicer calls it so
        """Clear the scene and run the test."""
        slicer.mrmlScene.Clear()
        self.test_what_is_bright_becomes_a_segment()

    def test_what_is_bright_becomes_a_segment(self):
        """A network that marks what is over 0, on a volume that is turned and anisotropic."""
        import numpy as np

        data = np.full((4, 5, 6), -1.0, np.float32)
        data[1, 2:4, 3:] = 1
        volume = slicer.util.addVolumeFromArray(data, name="made")
        turned = [[0, -2, 0, 5], [1, 0, 0, 7], [0, 0, 3, -9], [0, 0, 0, 1]]
        volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.array(turned, float)))
        logic = SegjaxSegmenterLogic()
        assert logic.prepare()
        logic.open(Path(__file__).with_name("Resources") / "threshold.onnx")
        node, _ = logic.segment([volume])
        np.testing.assert_array_equal(logic._labels(node, volume), data > 0)
        assert slicer.util.getNode("made volumes").GetCellText(0, 0) == "lesion"


def _check_slicer():
    if slicer is None:
        raise RuntimeError(HOW_TO_START)


def _told(what, *, wait=True):
    """Show errors of a block to the user, and a cursor that says to wait."""
    return slicer.util.tryWithErrorDisplay(what, waitCursor=wait)


def _path(kind):
    edit = ctk.ctkPathLineEdit()
    edit.filters = kind
    return edit


def _button(text, tip, slot):
    button = qt.QPushButton(text)
    button.toolTip = tip
    button.connect("clicked(bool)", slot)
    return button


def _nodes(kind):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = [kind]
    selector.showChildNodeTypes = False
    selector.addEnabled = selector.removeEnabled = False
    selector.noneEnabled = True  # else the first node of the scene is chosen, for every channel
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def _source():
    """Return the folder of segjax's source, the copy that this module lies in or one that is told.

    segjax is on no index of packages: what has its name there is something else.
    """
    root = Path(__file__).resolve().parents[3]
    if (root / "export" / "segjax_onnx").is_dir():
        return root
    told = qt.QFileDialog.getExistingDirectory(None, "Folder of segjax's source")
    if told and not (Path(told) / "export" / "segjax_onnx").is_dir():
        raise RuntimeError(f"{told} is no copy of segjax: it has no folder export/segjax_onnx")
    return Path(told) if told else None


def _first(nodes):
    return next(node for node in nodes if node is not None)


def _volumes(nodes):
    given = [node.GetID() for node in nodes if node is not None]
    if len(set(given)) < len(given):
        raise ValueError("one volume is chosen for two channels")
    return [None if node is None else _placed(node) for node in nodes]


def _placed(node):
    """Return voxels and matrix of a volume, through the transforms that it lies under."""
    from SegjaxSegmenterLib.logic import Placed

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    place = slicer.util.arrayFromVTKMatrix(matrix)
    if parent := node.GetParentTransformNode():
        if not parent.IsTransformToWorldLinear():
            raise RuntimeError(
                f"{node.GetName()} lies under a transform that bends it: harden that first"
            )
        parent.GetMatrixTransformToWorld(matrix)
        place = slicer.util.arrayFromVTKMatrix(matrix) @ place
    return Placed(slicer.util.arrayFromVolume(node), place)


def _beside(reference, node):
    """Put a node where a volume lies in the tree of the data, in its patient and study."""
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = tree.GetItemParent(tree.GetItemByDataNode(reference))
    tree.SetItemParent(tree.GetItemByDataNode(node), study)


def _table(name, rows):
    columns = {
        "Structure": (vtk.vtkStringArray, [row.name for row in rows]),
        "Volume (ml)": (vtk.vtkDoubleArray, [round(row.volume, 4) for row in rows]),
        "Lesions": (vtk.vtkIntArray, [row.lesions for row in rows]),
        "Largest (ml)": (vtk.vtkDoubleArray, [round(row.largest, 4) for row in rows]),
    }
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    node.SetName(name)
    for title, (kind, values) in columns.items():
        column = kind()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node


if __name__ == "__main__" and slicer is None:
    sys.exit(HOW_TO_START)
