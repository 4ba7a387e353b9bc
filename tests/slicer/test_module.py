import importlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from segjax.data.cases import find_cases
from segjax_onnx import Predictor
from tests.geometry import noise, rigid
from tests.slicer.conftest import FOLDER
from tests.slicer.networks import write_network
from tests.slicer.stand_ins import Transform, VolumeNode

pytestmark = pytest.mark.filterwarnings("ignore:.*far from")
SHAPE = (7, 12, 9)
MATRIX = rigid((12, -7, 18), (1.0, 1.3, 2.4), flips=(1, -1, 1))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "two.onnx"
    return write_network(path, ("flair", "t1"), optional=("t1",))


@pytest.fixture
def widget(module):
    panel = module.SegjaxSegmenterWidget()
    panel.setup()
    return panel


def volume(name="FLAIR", seed=0):
    return VolumeNode(noise(SHAPE, seed), MATRIX, name)


def masks(node):
    return {s.name: s.array for s in node.segmentation.segments.values()}


def test_without_slicer_the_module_says_where_it_belongs(on_path):
    module = importlib.import_module("SegjaxSegmenter")
    with pytest.raises(RuntimeError, match="Additional module paths"):
        module.SegjaxSegmenterLogic()
    done = subprocess.run(
        [sys.executable, FOLDER / "SegjaxSegmenter.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"{module.HOW_TO_START}\n")


def test_a_selector_stands_for_each_channel_of_the_file(widget, slicer, network):
    assert not widget.apply.enabled
    widget.file.choose(network)
    assert [label for label, _ in widget.volumes.rows] == ["flair:", "t1 (optional):"]
    widget.selectors[1].setCurrentNode(volume("T1"))
    assert not widget.apply.enabled
    widget.selectors[0].setCurrentNode(volume())
    assert widget.apply.enabled
    widget.file.choose(network.with_name("missing.onnx"))
    assert "missing.onnx: no such file" in slicer.util.errors[0]
    assert (widget.volumes.rows, widget.apply.enabled) == ([], False)


def test_apply_makes_a_segmentation_and_a_table(widget, slicer, network):
    head = volume()
    widget.file.choose(network)
    widget.selectors[0].setCurrentNode(head)
    slicer.mrmlScene.tree.SetItemParent(head, "study")
    widget.apply.click()
    assert slicer.util.errors == []
    node = slicer.util.getNode("FLAIR segmentation")
    lesion, vein = node.segmentation.segments.values()
    predictor = Predictor(network)
    predictor.missing = ["t1"]
    expected = predictor.predict(head.array.T, affine=MATRIX).data.T
    np.testing.assert_array_equal(lesion.array, expected == 1)
    np.testing.assert_array_equal(vein.array, expected == 2)
    assert (lesion.color, vein.tags) == ((1.0, 0.0, 0.2), {})
    assert "~SCT^52988006^Lesion~" in lesion.tags["TerminologyEntry"]
    assert (node.reference, node.shown) == (head, True)
    assert slicer.mrmlScene.tree.GetItemParent(node) == "study"
    table = {column.name: column for column in slicer.util.getNode("FLAIR volumes").columns}
    assert table["Structure"] == ["lesion", "vein"]
    millilitres = (expected == 1).sum() * 1.0 * 1.3 * 2.4 / 1000
    assert table["Volume (ml)"][0] == pytest.approx(millilitres, abs=1e-4)
    assert "far from" in widget.told.text


def test_edited_segmentations_are_measured_and_saved(widget, slicer, network, tmp_path):
    widget.file.choose(network)
    widget.selectors[0].setCurrentNode(volume())
    widget.selectors[1].setCurrentNode(volume("T1", seed=1))
    assert not widget.save.enabled
    widget.apply.click()
    segments = widget.segmentation.currentNode().segmentation.segments
    lesion, vein = segments.values()
    lesion.array, vein.array = np.zeros(SHAPE, np.uint8), None  # what a user painted, and removed
    lesion.array[1:3, 4, 5] = 1
    widget.measure.click()
    table = slicer.util.getNode("FLAIR segmentation volumes")
    assert [column[0] for column in table.columns] == ["lesion", 0.0062, 1, 0.0062]
    widget.folder.choose(tmp_path)
    widget.save.click()
    assert slicer.util.errors == []
    (case,) = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_label().data, lesion.array.T)
    assert case.name == "case001"
    assert "case001_0001.nii.gz" in widget.told.text


def test_transforms_above_volumes_count(module, network):
    logic = module.SegjaxSegmenterLogic()
    logic.open(network)
    moved, parent = volume(), Transform(rigid((30, 0, 0), (1, 1, 1)))
    moved.transform = parent
    node, _ = logic.segment([moved, None])
    predictor = Predictor(network)
    predictor.missing = ["t1"]
    expected = predictor.predict(moved.array.T, affine=parent.array @ MATRIX).data.T
    np.testing.assert_array_equal(masks(node)["lesion"], expected == 1)
    assert node.transform is parent
    parent.linear = False
    with pytest.raises(RuntimeError, match="FLAIR lies under a transform that bends it"):
        logic.segment([moved, None])


def test_one_volume_is_not_taken_for_two_channels(widget, slicer, network):
    widget.file.choose(network)
    head = volume()
    for selector in widget.selectors:
        selector.setCurrentNode(head)
    widget.apply.click()
    assert slicer.util.errors == [
        "The volumes cannot be segmented. one volume is chosen for two channels"
    ]


def test_packages_are_installed_from_the_source_if_the_user_agrees(module, slicer, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    logic = module.SegjaxSegmenterLogic()
    slicer.util.agrees = False
    assert not logic.prepare()
    assert slicer.util.installed == []
    slicer.util.agrees = True
    assert logic.prepare()
    assert slicer.util.installed == [[f"{FOLDER.parents[2]}[runtime]"]]
    assert "about 200 MB" in slicer.util.question
    monkeypatch.setattr(module.sys, "version_info", (3, 9, 10))
    with pytest.raises(RuntimeError, match="use Slicer 5"):
        logic.prepare()


def test_a_module_apart_from_the_source_asks_for_it(module, slicer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c" / "Module.py"))
    assert module._source() is None
    dialog = types.SimpleNamespace(getExistingDirectory=lambda parent, title: str(tmp_path))
    monkeypatch.setattr(module.qt, "QFileDialog", dialog)
    with pytest.raises(RuntimeError, match="is no copy of segjax"):
        module._source()
    (tmp_path / "export" / "segjax_onnx").mkdir(parents=True)
    assert module._source() == tmp_path


def test_its_own_test_runs(module):
    module.SegjaxSegmenterTest().runTest()


def test_slicer_finds_the_module_and_what_it_is(module):
    parent = types.SimpleNamespace()
    module.SegjaxSegmenter(parent)
    assert (parent.title, parent.categories) == ("segjax Segmenter", ["Segmentation"])
    listed = re.findall(r"^ +(\S+\.\w+)$", (FOLDER / "CMakeLists.txt").read_text(), re.MULTILINE)
    files = {Path(name.replace("${MODULE_NAME}", "SegjaxSegmenter")) for name in listed}
    kinds = {".py", ".png", ".onnx"}
    there = {f.relative_to(FOLDER) for f in FOLDER.rglob("*") if f.suffix in kinds}
    assert files == there
    entry = json.loads((FOLDER.parent / "SegjaxSegmenter.json").read_text())
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert (
        f'EXTENSION_CATEGORY "{entry["category"]}"'
        in (FOLDER.parent / "CMakeLists.txt").read_text()
    )
