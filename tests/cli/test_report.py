"""``segjax report``: from files to the page of a patient."""

import json
import re

import numpy as np
import onnx
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.data.seen import Sight, seen_in
from segjax.grid import Grid
from segjax.report import sheet, style
from segjax.volume import Volume
from tests.tiny_network import write_network

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A head of 2 mm with a lesion, in the current folder; pictures of few pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "_DPI", 40)
    monkeypatch.setattr(sheet, "_DPI", 40)
    image, mask = np.zeros((24, 24, 16), np.float32), np.zeros((24, 24, 16), np.uint8)
    image[2:22, 2:22, 2:14] = np.random.default_rng(0).uniform(1, 2, (20, 20, 12))
    mask[5:12, 6:12, 5:8] = 1
    write_volume(Volume(image, AFFINE), "flair.nii.gz")
    write_volume(Volume(mask, AFFINE), "lesions.nii.gz")
    return tmp_path


@pytest.fixture
def report(files, capsys):
    """Run the command and return its exit code and its text."""

    def run(*options):
        code = main(["report", *map(str, options)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_page_is_written_beside_nothing_else(report, files):
    code, said = report("lesions.nii.gz", "flair.nii.gz")
    assert code == 0
    assert "lesions_report/report.html" in said.replace("\n", "")
    assert {file.name for file in (files / "lesions_report").iterdir()} == {
        "report.html", "report.pdf", "figures",
    }  # fmt: skip
    html = (files / "lesions_report/report.html").read_text()
    assert "<title>Measurements: flair</title>" in html
    assert str(files) not in html


def test_language_title_names_and_criteria_are_taken(report, files):
    options = (
        "--language",
        "fr",
        "--title",
        "Cas 7",
        "--names",
        "tumour",
        "--criteria",
        "recist-1.1",
    )
    code, _ = report("lesions.nii.gz", "flair.nii.gz", "-o", "out.html", *options)
    assert code == 0
    html = (files / "out.html").read_text()
    assert "Mesures\u00a0: Cas 7" in html
    assert "contour\u00a0: tumeur" in html
    assert "RECIST 1.1" in html
    assert not (files / "out.pdf").exists()


def test_a_picture_has_the_spacing_that_is_given(report, files):
    image = np.random.default_rng(0).integers(20, 200, (40, 40)).astype(np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:14] = 255
    write_volume(Volume(image, np.eye(3)), "slice.png")
    write_volume(Volume(mask, np.eye(3)), "mask.png")
    options = ("--labels", "255=tumour", "--spacing", "0.5", "0.5")
    code, _ = report("mask.png", "slice.png", "-o", "out.html", *options)
    assert code == 0
    assert "10.0\u00a0mm²" in (files / "out.html").read_text()  # 40 pixels of 0.25 mm²
    code, said = report("lesions.nii.gz", "flair.nii.gz", "--spacing", "1", "1")
    assert (code, "--spacing is of pictures" in said) == (1, True)
    code, said = report("mask.png", "slice.png", "-o", "out", "--criteria", "rano")
    assert (code, "response criteria are of volumes" in said) == (1, True)
    assert not (files / "out").exists()
    code, said = report("mask.png", "slice.png", "--spacing", "0", "1")
    assert (code, "give two lengths over 0" in said) == (1, True)


def test_a_brain_that_is_cut_off_is_told(report, files):
    brain = np.zeros((24, 24, 16), np.uint8)
    brain[2:22, 2:22, 3:] = 1
    write_volume(Volume(brain, AFFINE), "brain.nii.gz")
    assert (
        report("lesions.nii.gz", "flair.nii.gz", "-o", "out.html", "--brain", "brain.nii.gz")[0]
        == 0
    )
    html = (files / "out.html").read_text()
    assert "The brain is cut off at the edge of the image (head)" in html
    assert "to the brain&#x27;s edge (mm)" in html


def with_seen(path, seen):
    """Say in a network's file what it was trained on."""
    model = onnx.load(path)
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "seen": seen.to_json()})
    onnx.save(model, path)


def test_an_image_unlike_those_of_the_training_is_told(report, files):
    write_network(files / "model.onnx")
    options = ("--model", "model.onnx", "-o", "out.html", "--overwrite", "--language", "fr")
    assert report("lesions.nii.gz", "flair.nii.gz", *options)[0] == 0
    html = (files / "out.html").read_text()
    assert "Le fichier du réseau n’indique pas" in html
    assert "contour\u00a0: lésion" in html  # the network names the label
    fine = Grid((64, 64, 64), np.diag([0.5, 0.5, 0.5, 1.0]))
    with_seen(files / "model.onnx", seen_in([Sight(fine, fine, ((0.0, 2.0),))]))
    assert report("lesions.nii.gz", "flair.nii.gz", *options)[0] == 0
    html = (files / "out.html").read_text()
    assert "ses voxels de 2 × 2 × 2 mm sont loin de ceux de l’entraînement (0,5" in html
    assert ">model.onnx<" in html


def test_an_image_of_other_channels_than_the_network_takes_is_refused(report, files):
    write_network(files / "model.onnx")
    image = Volume(np.ones((24, 24, 16, 2), np.float32), AFFINE)
    write_volume(image, "two.nii.gz")
    code, said = report("lesions.nii.gz", "two.nii.gz", "--model", "model.onnx")
    assert (code, "model.onnx: takes 1 channel" in said) == (1, True)


def test_zones_of_a_label_map_are_told(report, files):
    structures = np.full((24, 24, 16), 2)
    structures[4:6, 6:12, 5:8], structures[20:, :, :], structures[:, :, :2] = 4, 3, 16
    write_volume(Volume(structures.astype(np.int16), AFFINE), "aseg.nii.gz")
    code, said = report(
        "lesions.nii.gz", "flair.nii.gz", "-o", "out.html", "--zones", "aseg.nii.gz"
    )
    assert code == 0, said
    html = (files / "out.html").read_text()
    assert "periventricular" in html
    assert "dissemination in space (McDonald 2017)" in html


def test_values_that_are_ignored_are_no_lesions(report, files):
    mask = np.zeros((24, 24, 16), np.uint8)
    mask[5:12, 6:12, 5:8], mask[15, 15, 10] = 1, 3
    write_volume(Volume(mask, AFFINE), "mask.nii.gz")
    options = ("--labels", "1=lesion", "3=ignore")
    assert report("mask.nii.gz", "flair.nii.gz", "-o", "out.html", *options)[0] == 0
    assert re.search(r"<b>1</b><span>lesion<", (files / "out.html").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("absent.nii", "flair.nii.gz"), "absent.nii"),
        (("flair.nii.gz", "lesions.nii.gz"), "flair.nii.gz: has labels that are no integers"),
        (("other.nii.gz", "flair.nii.gz"), "other.nii.gz: has shape (24, 24, 15)"),
        (("many.nii.gz", "flair.nii.gz"), "is it a mask? The order is MASK IMAGE"),
        (("two.nii.gz", "flair.nii.gz", "--names", "a"), "two.nii.gz: "),
        (("lesions.nii.gz", "flair.nii.gz", "--language", "de"), "unknown language 'de'"),
        (("lesions.nii.gz", "flair.nii.gz", "--criteria", "rono"), "did you mean 'rano'"),
        (("lesions.nii.gz", "flair.nii.gz", "-o", "none/out"), "there is no folder none"),
        (("lesions.nii.gz", "flair.nii.gz", "--brain", "other.nii.gz"), "other.nii.gz: has shape"),
    ],
)
def test_bad_input_is_told_in_one_line_before_anything_is_written(report, files, options, message):
    write_volume(Volume(np.zeros((24, 24, 15), np.uint8), AFFINE), "other.nii.gz")
    many = np.arange(24 * 24 * 16).reshape(24, 24, 16) % 100
    write_volume(Volume(many.astype(np.uint8), AFFINE), "many.nii.gz")
    write_volume(Volume((many % 3).astype(np.uint8), AFFINE), "two.nii.gz")
    before = set(files.iterdir())
    code, said = report(*options)
    assert code == 1
    assert message in said
    assert said.count("\n") == 1
    assert set(files.iterdir()) == before


def test_nothing_is_replaced_unasked(report, files):
    assert report("lesions.nii.gz", "flair.nii.gz", "-o", "out.html")[0] == 0
    code, said = report("lesions.nii.gz", "flair.nii.gz", "-o", "out.html")
    assert (code, "exists already" in said) == (1, True)
    assert report("lesions.nii.gz", "flair.nii.gz", "-o", "out.html", "--overwrite")[0] == 0
