import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segjax.data.cases import Case
from segjax.data.io.dicom.series import choose_series
from segjax.data.io.formats import read_grid, read_label, write_volume
from segjax.dicom_out import dicom_objects
from segjax.errors import InputError
from segjax.evaluate.pairs import match_masks
from segjax.segment import segment
from segjax.volume import Volume
from segjax_onnx.predict.metadata import Code, Structure
from tests.data.io.dicom.made import write_made


class StandIn:
    """Marks the first column of slice 2 as label 2."""

    metadata = SimpleNamespace(
        model="stand-in",
        labels=("background", "one", "two"),
        structures=(Structure((1, 2, 3)), Structure((4, 5, 6), Code("SCT", "79654002", "Edema"))),
    )
    files = ()

    def predict_files(self, cases, out, **_):
        (case,) = cases
        grid, _ = read_grid(case.images[0])
        data = np.zeros(grid.shape, np.uint8)
        data[0, :, 2] = 2
        path = Path(out) / f"{case.name}.nii.gz"
        write_volume(Volume(data, grid.affine), path, overwrite=True)
        return [path]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_made(tmp_path_factory.mktemp("dicom") / "scan", "oblique")


def test_objects_lie_beside_the_mask_and_hold_it(scan, tmp_path):
    predictor = StandIn()
    case = Case("scan", (choose_series(scan),))
    (result,) = segment(predictor, [case], tmp_path, companions=[dicom_objects(predictor)])
    assert not result.error
    mask = read_label(tmp_path / "scan.nii.gz")
    again = read_label(tmp_path / "scan.seg.dcm", like=case.images[0].grid)
    np.testing.assert_array_equal(again.data, mask.data)
    assert (tmp_path / "scan.sr.dcm").is_file()


def test_image_that_is_no_dicom_fails_and_the_others_go_on(scan, tmp_path):
    predictor = StandIn()
    write_volume(Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "b.nii.gz")
    cases = [Case("b", (tmp_path / "b.nii.gz",)), Case("scan", (next(scan.iterdir()),))]
    options = {"companions": [dicom_objects(predictor)]}
    bad, good = segment(predictor, cases, tmp_path / "out", **options)
    assert "is no DICOM series" in bad.error
    assert not good.error
    assert not (tmp_path / "out" / "b.nii.gz").exists()
    with pytest.raises(InputError, match="is no DICOM series"):
        list(segment(predictor, cases[:1], tmp_path / "none", **options))
    assert not (tmp_path / "none").exists()


def test_finished_objects_are_kept_and_lacking_ones_made(scan, tmp_path):
    predictor = StandIn()
    cases = [Case("scan", (choose_series(scan),))]
    options = {"companions": [dicom_objects(predictor)], "skip_existing": True}
    assert [one.kept for one in segment(predictor, cases, tmp_path, **options)] == [False]
    assert [one.kept for one in segment(predictor, cases, tmp_path, **options)] == [True]
    (tmp_path / "scan.sr.dcm").unlink()
    assert [one.kept for one in segment(predictor, cases, tmp_path, **options)] == [False]
    assert (tmp_path / "scan.sr.dcm").is_file()


def test_mask_without_a_place_is_refused(scan):
    with pytest.raises(InputError, match=r"scan\.npy: has no place in the patient"):
        dicom_objects(StandIn()).files(Case("scan", (choose_series(scan),)), Path("scan.npy"))


def test_image_is_never_written_over(scan, tmp_path):
    (tmp_path / "a.seg.dcm").write_bytes(next(scan.iterdir()).read_bytes())
    case = Case("a", (choose_series(tmp_path / "a.seg.dcm"),))
    with pytest.raises(InputError, match=r"a\.seg\.dcm: is an image to segment"):
        dicom_objects(StandIn()).files(case, tmp_path / "a.nii.gz")


@pytest.mark.parametrize("option", ["overwrite", "skip_existing"])
def test_segmentation_of_others_is_never_written_over(scan, tmp_path, option):
    predictor = StandIn()
    case = Case("scan", (choose_series(scan),))
    theirs = tmp_path / "scan.seg.dcm"
    theirs.write_bytes(next(scan.iterdir()).read_bytes())
    with pytest.raises(InputError, match=r"scan\.seg\.dcm: was not made by segjax"):
        list(
            segment(
                predictor, [case], tmp_path, companions=[dicom_objects(predictor)], **{option: True}
            )
        )
    assert theirs.read_bytes() == next(scan.iterdir()).read_bytes()


def test_folder_of_masks_and_their_objects_is_one_of_masks(scan, tmp_path):
    predictor = StandIn()
    case = Case("scan", (choose_series(scan),))
    list(segment(predictor, [case], tmp_path, companions=[dicom_objects(predictor)]))
    (pair,) = match_masks(tmp_path, tmp_path)
    assert (pair.case, pair.prediction.name) == ("scan", "scan.nii.gz")
    (tmp_path / "scan.nii.gz").unlink()
    (pair,) = match_masks(tmp_path, tmp_path)
    assert (pair.case, pair.prediction.name) == ("scan", "scan.seg.dcm")


def test_what_is_missing_is_said_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(
        InputError, match=r'writing DICOM needs highdicom: pip install.*"\.\[dicom\]"'
    ):
        dicom_objects(StandIn())
