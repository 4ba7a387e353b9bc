"""Which files prediction writes, and which it refuses to replace."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from segjax.data.cases import Case
from segjax.data.io.dicom.series import choose_series
from segjax.data.io.formats import write_volume
from segjax.errors import InputError
from segjax.registry import registry
from segjax.volume import Volume
from segjax_onnx.predict.outputs import (
    check_outputs,
    output_files,
    removed_on_error,
    write_map,
)
from tests.data.io.dicom.made import write_made


def cases(*names, folder="scans", suffix=".nii.gz"):
    return [Case(name, (Path(folder) / f"{name}{suffix}",)) for name in names]


def volume(kind):
    return Volume(np.ones((3, 3, 3), kind), np.eye(4))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.nii", "a.nii"),
        ("a.NII.GZ", "a.NII.GZ"),
        ("a.nrrd", "a.seg.nrrd"),
        ("a.mha", "a.nrrd"),
        ("a.hdr", "a.nii.gz"),
    ],
)
def test_masks_have_the_format_of_their_image_or_one_that_holds_masks(image, mask):
    assert output_files(Case("a", (Path(image),)), "out")[0] == Path("out") / mask


def test_masks_of_another_package_s_format_are_written_by_its_writer_or_as_nifti(monkeypatch):
    case = Case("a", (Path("a.xyz"),))
    for kind in ("reader", "writer"):
        names = (*registry(kind).names(), ".xyz")
        monkeypatch.setattr(registry(kind), "names", lambda names=names: names)
        expected = "a.nii.gz" if kind == "reader" else "a.xyz"
        assert output_files(case, "out")[0].name == expected


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("names", "options", "suffix"),
    [
        (("x", "x_probabilities"), {"probabilities": True}, ".nii.gz"),
        (("x", "x_probabilities"), {"probabilities": True, "format": ".npy"}, ".png"),
        (("x", "x"), {}, ".nii.gz"),
        (("x", "X"), {}, ".nii.gz"),
        (("x", "X_Probabilities"), {"probabilities": True}, ".nii.gz"),
        (("Grün", unicodedata.normalize("NFD", "Grün")), {}, ".nii.gz"),
    ],
)
def test_outputs_that_are_one_file_anywhere_are_refused(tmp_path, names, options, suffix, reverse):
    some = cases(*(reversed(names) if reverse else names), suffix=suffix)
    with pytest.raises(InputError, match=r"would be written for '.*' and '.*'; rename one"):
        check_outputs(some, tmp_path, overwrite=True, **options)


def test_names_that_only_look_alike_are_no_clash(tmp_path):
    check_outputs(cases("x", "x_probabilities"), tmp_path)
    check_outputs(cases("x", "x_probabilities", suffix=".png"), tmp_path, probabilities=True)
    check_outputs(cases("a", "á", "b"), tmp_path, probabilities=True)


def test_an_image_is_replaced_by_no_mask_of_any_case(tmp_path):
    images = [tmp_path / "b.nii.gz", tmp_path / "other" / "c.nii.gz"]
    some = [Case("a", (images[0],)), Case("B", (images[1],))]
    with pytest.raises(InputError, match=r"B\.nii\.gz: is an image to segment"):
        check_outputs(some, tmp_path, overwrite=True)


def test_the_folder_of_a_series_gets_no_masks_which_would_be_images_there(tmp_path):
    series = choose_series(write_made(tmp_path / "scan", "axial"))
    check_outputs([Case("a", (series,))], tmp_path)
    with pytest.raises(InputError, match="scan: holds a DICOM series to segment; write to another"):
        check_outputs([Case("a", (series,))], tmp_path / "x" / ".." / "scan")


def test_a_map_of_an_earlier_call_is_replaced_by_no_mask(tmp_path):
    write_volume(volume(np.float32), tmp_path / "x_probabilities.nii.gz")
    some = cases("x_probabilities")
    with pytest.raises(InputError, match="holds probabilities and would be replaced by a mask"):
        check_outputs(some, tmp_path, overwrite=True)
    check_outputs(cases("x"), tmp_path, probabilities=True, overwrite=True)


def test_a_mask_of_an_earlier_call_is_replaced_by_no_map(tmp_path):
    write_volume(volume(np.uint8), tmp_path / "x_probabilities.nii.gz")
    with pytest.raises(InputError, match="holds a mask and would be replaced by probabilities"):
        check_outputs(cases("x"), tmp_path, probabilities=True, overwrite=True)
    check_outputs(cases("x_probabilities"), tmp_path, overwrite=True)
    check_outputs(cases("x"), tmp_path, overwrite=True)


@pytest.mark.parametrize("content", ["", "half a fi"])
def test_a_broken_file_may_be_replaced_by_either(tmp_path, content):
    (tmp_path / "x_probabilities.nii.gz").write_text(content)
    check_outputs(cases("x_probabilities"), tmp_path, overwrite=True)
    check_outputs(cases("x"), tmp_path, probabilities=True, overwrite=True)


def test_files_that_exist_stay_and_the_option_is_named(tmp_path):
    (tmp_path / "x_probabilities.nii.gz").touch()
    check_outputs(cases("x"), tmp_path)
    with pytest.raises(InputError, match=r"x_prob.*: exists already.*--overwrite.*overwrite=True"):
        check_outputs(cases("x"), tmp_path, probabilities=True)


def test_maps_of_pictures_are_arrays(tmp_path):
    data = np.random.default_rng(0).random((4, 5, 2), np.float32)
    write_map(Volume(data, np.eye(3)), tmp_path / "x.npy", like=None, overwrite=False)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), data)


def test_maps_are_removed_again_when_the_mask_cannot_be_written(tmp_path):
    def fail():
        path = tmp_path / "x_uncertainty.nii.gz"
        with removed_on_error() as written:
            written.append(write_map(volume(np.float32), path, like=None, overwrite=False))
            assert path.is_file()
            raise InputError("full")

    with pytest.raises(InputError, match="full"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_uncertainty_is_replaced_by_no_mask(tmp_path):
    write_volume(volume(np.float32), tmp_path / "x_uncertainty.nii.gz")
    with pytest.raises(InputError, match="holds uncertainty and would be replaced by a mask"):
        check_outputs(cases("x_uncertainty"), tmp_path, overwrite=True)
    check_outputs(cases("x"), tmp_path, uncertainty=True, overwrite=True)
