"""``segjax measure``."""

import json

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.files import read_csv
from segjax.volume import Volume


def save(path, data, affine=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    write_volume(Volume(np.asarray(data), np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Masks and images of two cases: a box of 12 × 11 × 6 voxels and a voxel; and none."""
    data = np.zeros((20, 20, 9), np.uint8)
    data[2:14, 3:14, 1:7], data[17, 17, 8] = 1, 1
    for case, mask in (("a", data), ("b", 0 * data)):
        save(tmp_path / "masks" / f"{case}.nii.gz", mask)
        save(tmp_path / "images" / f"{case}.nii.gz", 10.0 + 5 * data)
    return tmp_path


@pytest.fixture
def measure(capsys):
    """Run the command and return its exit code and its text."""

    def run(*options):
        code = main(["measure", *map(str, options)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def line(text, start):
    return next(row.split() for row in text.splitlines() if row.startswith(start))


@pytest.mark.parametrize(("name", "told"), [("a.png", True), ("a.nii.gz", False)])
def test_pictures_are_said_to_have_no_millimetres(measure, tmp_path, name, told):
    data = np.zeros((9, 8, 3)[: 2 if told else 3], np.uint8)
    data[2:6, 3:5] = 1
    mask = tmp_path / name
    write_volume(Volume(data, np.eye(data.ndim + 1)), mask)
    code, text = measure(mask)
    assert code == 0
    assert ("a pixel of PNG or NPY, which tell no size, counts as 1 mm" in text) is told


def test_lesions_of_a_mask_and_its_totals_are_printed(measure, folder):
    code, text = measure(
        folder / "masks" / "a.nii.gz",
        "--image",
        folder / "images" / "a.nii.gz",
        *("--criteria", "rano", "rano-bm", "--sizes", "5", "500"),
    )
    assert code == 0
    assert line(text, "1 ")[:5] == ["1", "792", "16.3", "×", "16.3"] or line(text, "1 ")[1] == "792"
    assert line(text, "2 ")[1:5] == ["1", "1.0", "×", "1.0"]
    assert "contrast" in text
    assert "to edge" not in text
    totals = text[text.index("case") :]
    for size in ("under 5 mm³", "5 to 500 mm³", "500 mm³ and more"):
        assert size in totals
    row = line(totals, "a ")
    assert row[:5] == ["a", "1", "0.793", "ml", "2"]
    assert "mm² of 1" in totals


def test_a_folder_has_a_row_for_each_case_and_its_tables(measure, folder):
    out = folder / "measures.csv"
    code, text = measure(folder / "masks", "-o", out)
    assert code == 0
    assert "Lesions of label" not in text
    assert line(text, "b ")[:5] == ["b", "1", "0.000", "ml", "0"]
    assert [row["volume"] for row in read_csv(out)] == ["792.0", "1.0"]
    assert [row["case"] for row in read_csv(folder / "measures_totals.csv")] == ["a", "b"]
    code, text = measure(folder / "masks", "-o", out)
    assert code == 1
    assert "measures.csv" in text
    assert measure(folder / "masks", "-o", out, "--overwrite")[0] == 0


def test_a_case_that_fails_is_named_and_the_others_are_written(measure, folder):
    (folder / "masks" / "c.nii.gz").write_bytes(b"nothing")
    out = folder / "measures.json"
    code, text = measure(folder / "masks", "-o", out)
    assert code == 1
    assert line(text[text.index("failed") :], "c ")
    assert "1 of 3 cases failed: c" in text
    found = json.loads(out.read_text())
    assert [case["case"] for case in found["cases"]] == ["a", "b"]
    assert found["failed"][0]["case"] == "c"


def test_subjects_folders_hold_mask_and_image(measure, tmp_path):
    for case in ("p1", "p2"):
        save(tmp_path / case / "lesions.nii.gz", np.eye(4, dtype=np.uint8)[None])
        save(tmp_path / case / "flair.nii.gz", np.ones((1, 4, 4)))
    options = ("--label", "lesions.nii.gz", "--image", "flair.nii.gz", "--names", "MS lesion")
    code, _ = measure(tmp_path, *options, "-o", tmp_path / "m.csv")
    assert code == 0
    rows = read_csv(tmp_path / "m.csv")
    told = ("case", "label", "mean")
    assert [[row[name] for name in told] for row in rows] == [
        ["p1", "MS lesion", "1.0"],
        ["p2", "MS lesion", "1.0"],
    ]


def test_many_lesions_are_cut_short_on_the_terminal(measure, tmp_path):
    data = np.zeros((1, 1, 99), np.uint8)
    data[..., ::4] = 1
    code, text = measure(save(tmp_path / "a.nii.gz", data))
    assert code == 0
    assert "and 5 smaller ones" in text


def test_pictures_have_pixels_and_no_response(measure, tmp_path):
    data = np.zeros((12, 12), np.uint8)
    data[2:8, 3:6] = 255
    mask = save(tmp_path / "a.png", data, np.eye(3))
    code, text = measure(mask, "--labels", "255=tumour", "--criteria", "rano")
    assert code == 0
    assert "18 pixels" in text
    assert "1 (18 mm²)" in text
    assert "pictures have none" in text
    assert "tumour" in text


def test_wrong_criteria_targets_and_grids_are_told_before_the_work(measure, folder):
    mask = folder / "masks" / "a.nii.gz"
    assert "did you mean 'rano'" in measure(mask, "--criteria", "ranoo")[1]
    assert "written as .csv or .json" in measure(mask, "-o", folder / "a.txt")[1]
    small = save(folder / "small.nii.gz", np.ones((3, 3, 3)))
    code, text = measure(mask, "--brain", small)
    assert code == 1
    assert "a.nii.gz: the brain: has shape (3, 3, 3)" in text


def test_classes_of_size_that_are_none_are_refused_before_the_work(measure, folder, monkeypatch):
    monkeypatch.setattr("segjax.evaluate.measured.measure_files", None)
    for edges in (("100", "10"), ("0",), ("nan",), ("inf",)):
        code, text = measure(folder / "masks", "--sizes", *edges)
        assert code == 1
        assert "give edges over 0, from small to large" in text


def test_large_lesions_are_told_in_figures(measure, tmp_path):
    mask = save(tmp_path / "a.nii.gz", np.ones((30, 30, 30), np.uint8))
    assert line(measure(mask)[1], "1 ")[1] == "27000"
