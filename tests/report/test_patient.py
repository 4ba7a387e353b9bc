"""The page of one patient: what it says, what lies beside it, and what it refuses."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

import segjax
from segjax.errors import InputError
from segjax.evaluate.measure import measure_mask
from segjax.report import patient as patient_report
from segjax.report import sheet, style
from segjax.report.patient import Patient, check_free, write_patient
from segjax.volume import Volume

SHAPE = (30, 34, 20)
NAMES = ("background", "lesion")


def head(affine=None):
    """Return a head with two lesions, of 5 × 3 × 3 voxels and of one."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
    image, mask = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    image[4:26, 4:30, 2:18] = np.random.default_rng(0).uniform(60, 140, (22, 26, 16))
    mask[20:25, 8:11, 6:9] = mask[8, 20, 12] = 1
    return Volume(image, affine), Volume(mask, affine)


def patient(image, mask, *, labels=NAMES, **more):
    found = measure_mask(mask, labels=labels, image=image)
    return Patient("case 7", image, mask, found, **more)


def page_of(given, folder, **options):
    (path,) = write_patient(given, folder / "page.html", **options)
    return path.read_text(encoding="utf-8")


def words(html):
    return unescape(re.sub(r"<[^>]+>", "\n", re.sub(r"(?s)<style>.*?</style>", "", html)))


@pytest.fixture(scope="module", autouse=True)
def _coarse_pictures():
    """Draw few pixels, which no test looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_DPI", 40)
        patch.setattr(sheet, "_DPI", 40)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "out"
    files = {"image": "flair.nii.gz", "mask": "lesions.nii.gz", "model": "model.onnx"}
    paths = write_patient(patient(*head(), files=files), folder, seconds=65.0)
    return folder, paths, (folder / "report.html").read_text(encoding="utf-8")


def test_a_folder_gets_page_sheets_and_pictures(written):
    folder, paths, _ = written
    assert paths == (folder / "report.html", folder / "report.pdf")
    assert {file.name for file in folder.rglob("*.*")} == {
        "report.html", "report.pdf", "slice-1.png", "slice-1.svg", "slice-2.png", "slice-2.svg",
        "lesion-1.png", "lesion-1.svg", "lesion-2.png", "lesion-2.svg",
    }  # fmt: skip
    assert (folder / "figures/slice-1.svg").read_text().startswith("<?xml")


def test_the_page_needs_nothing_but_itself(written):
    _, _, html = written
    assert html.count("data:image/png;base64,") == 4
    assert not re.search(r"https?://|<script|@import|<link", html)
    assert '<html lang="en">' in html
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]+>", html))


def test_every_link_leads_somewhere_and_no_place_has_two_names(written):
    _, _, html = written
    names = re.findall(r'id="([^"]+)"', html)
    links = set(re.findall(r'href="#([^"]+)"', html))
    assert len(names) == len(set(names))
    assert links == {"slice-1", "slice-2", "lesion-1-1", "lesion-1-2"}
    assert links <= set(names)


def test_figures_are_those_of_a_calculation_by_hand(written):
    _, _, html = written
    tiles = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", html)
    # 45 and 1 voxels of 8 mm³; from face to face of 5 × 3 voxels it is 2 √(5² + 2²) = 10.8 mm
    figures = {name: value.replace("\u00a0", " ") for value, name in tiles}
    assert figures["total"] == "0.368 ml"
    assert figures["lesions"] == "2"
    assert figures["largest lesion"] == "0.360 ml"
    assert figures["largest lesion: two diameters"].startswith("10.8 × ")
    row = re.search(r'<tr id="lesion-1-1">(.*?)</tr>', html)[1]
    cells = [cell.replace("\u00a0", " ") for cell in re.findall(r"<td>(.*?)</td>", row)]
    assert cells[:2] == ["1", "0.360"]
    assert cells[2].startswith("10.8 × ")
    assert cells[2].endswith(" × 6.0")  # three slices of 2 mm
    assert "R 44 · A 18 · S 14" in cells
    assert cells[-1] == '<a href="#slice-1">axial 7</a>'


def test_the_page_says_how_it_came_about_and_what_it_is_not(written):
    _, _, html = written
    text = words(html)
    assert "Not for diagnosis." in text
    for fact in ("flair.nii.gz", "lesions.nii.gz", "model.onnx", "1 min 5 s"):
        assert fact in text
    assert f"segjax {segjax.__version__}" in text
    assert "30 × 34 × 20 voxels of 2 × 2 × 2 mm" in text


def test_nothing_tells_the_folders_or_the_command(written):
    folder, _, html = written
    assert str(folder.parent) not in html
    assert "pytest" not in html
    assert str(folder.parent).encode() not in (folder / "report.pdf").read_bytes()


def test_french_pages_have_commas_and_french_words(tmp_path):
    html = page_of(patient(*head()), tmp_path, language="fr")
    text = words(html).replace("\u00a0", " ")
    assert '<html lang="fr">' in html
    for word in ("Mesures : case 7", "0,368 ml", "Coupe axiale 7 sur 20", "Ne pas utiliser"):
        assert word in text
    assert "D 44 · A 18 · S 14" in text
    assert not re.search(r"\d\.\d", text.split("Comment ce document")[0])
    assert "lesion" not in re.sub(r"(?s)Comment ce document.*", "", text)


def test_a_mask_without_lesions_is_told_with_the_middle_slice(tmp_path):
    image, mask = head()
    mask.data[:] = 0
    html = page_of(patient(image, mask), tmp_path)
    assert "No lesion found" in html
    assert html.count("<img") == 1
    assert "Axial slice 11 of 20" in html
    assert "Every lesion" not in html
    (sheets,) = write_patient(patient(image, mask), tmp_path / "page.pdf")
    assert count_of_sheets(sheets) == 1


def count_of_sheets(path):
    return len(re.findall(rb"/Type /Page\b", path.read_bytes()))


def many(count):
    """Return a patient with so many lesions of a voxel, and a large one."""
    mask = np.zeros((48, 48, 30), np.uint8)
    places = np.stack(np.meshgrid(*[range(1, n, 3) for n in mask.shape], indexing="ij"), axis=-1)
    mask[tuple(places.reshape(-1, 3)[: count - 1].T)] = 1
    mask[40:47, 40:47, 10] = 1
    image = np.random.default_rng(0).uniform(1, 2, mask.shape).astype(np.float32)
    return patient(Volume(image, np.eye(4)), Volume(mask, np.eye(4)))


def test_three_hundred_lesions_fold_away_and_what_is_left_out_is_told(tmp_path):
    given = many(300)
    html = page_of(given, tmp_path)
    before, after = html.split("<details>")
    assert len(re.findall(r'<tr id="lesion', before)) == 20
    assert len(re.findall(r'<tr id="lesion', after)) == 280
    assert "280 smaller lesions" in after
    shown = int(re.search(r"(\d+) of 300 lesions are seen on them", html)[1])
    assert len(set(re.findall(r'href="#(lesion-[\d-]+)"', html))) == shown
    assert len(re.findall(r"<figure", html)) <= 6
    (sheets,) = write_patient(given, tmp_path / "page.pdf")
    assert 1 <= count_of_sheets(sheets) <= 2


def test_a_picture_is_measured_in_pixels_unless_their_size_is_known(tmp_path):
    image, mask = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.uint8)
    image[5:60, 5:60] = np.random.default_rng(0).uniform(1, 2, (55, 55))
    mask[20:30, 20:24] = 1
    text = words(page_of(patient(Volume(image, np.eye(3)), Volume(mask, np.eye(3))), tmp_path))
    text = text.replace("\u00a0", " ")
    assert "40 pixels" in text
    assert "lengths are in pixels" in text
    assert " mm" not in text
    sized = np.diag([0.5, 0.5, 1.0])
    given = patient(Volume(image, sized), Volume(mask, sized))
    text = words(page_of(given, tmp_path, overwrite=True)).replace("\u00a0", " ")
    assert "10.0 mm²" in text
    assert "lengths are in pixels" not in text


def test_labels_are_told_apart_everywhere(tmp_path):
    image, mask = head()
    mask.data[8, 20, 12] = 2
    given = patient(image, mask, labels=("background", "core", "edema"))
    write_patient(given, tmp_path / "out")
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for heading in ("In total: core", "In total: edema", "Every lesion: core", "outline: edema"):
        assert heading in html
    assert 'href="#lesion-2-1">edema\u00a01</a>' in html
    assert (tmp_path / "out/figures/lesion-2-1.png").is_file()


def test_a_label_without_lesions_is_told_beside_one_that_has_some(tmp_path):
    html = page_of(patient(*head(), labels=(*NAMES, "cyst")), tmp_path)
    assert "<p>No lesion.</p>" in html


@pytest.mark.parametrize("labels", [3, 20])
def test_sheets_of_many_labels_stay_two_and_say_what_they_leave_out(tmp_path, labels, monkeypatch):
    said, places = [], []
    write = sheet.Sheet.text

    def note(sheet, x, y, text, size, **more):
        said.append(text)
        places.append((x, y))
        write(sheet, x, y, text, size, **more)

    monkeypatch.setattr(sheet.Sheet, "text", note)
    image, mask = head()
    for n in range(labels):
        mask.data[6 + n % 4 * 5, 6 + n // 4 * 4, 4] = n + 1
    names = ["background", *(f"label {n}" for n in range(labels))]
    given = patient(image, mask, labels=names)
    given = replace(given, criteria=("rano", "recist-1.1") if labels > 3 else ())
    (path,) = write_patient(given, tmp_path / "page.pdf")
    assert count_of_sheets(path) == 2
    listed = [n for n in range(labels) if f"Every lesion: label {n}" in said]
    left = " ".join(said).partition("No room for")[2]
    assert all(f"label {n}" in left for n in range(labels) if n not in listed)
    assert (np.max(places, axis=0) < (8.27 - 0.5, 11.69 - 0.5)).all()  # inches of A4


def test_names_are_text_never_html(tmp_path):
    image, mask = head()
    found = measure_mask(mask, labels=("background", "<b>"), image=image)
    given = Patient("<i>x</i> $\\alpha$", image, mask, found, files={"image": "<u>.nii"})
    html = page_of(given, tmp_path)
    assert "<i>x" not in html
    assert "<b>&" not in html
    assert "<u>" not in html
    assert "&lt;i&gt;x&lt;/i&gt; $\\alpha$" in html
    write_patient(given, tmp_path / "page.pdf")


def test_zones_and_criteria_are_shown_where_they_are_known(tmp_path):
    image, mask = head()
    (label,) = measure_mask(mask, labels=NAMES, image=image)
    zones = ["periventricular", "infratentorial"]
    lesions = tuple(replace(le, zone=z) for le, z in zip(label.lesions, zones, strict=True))
    found = (replace(label, lesions=lesions),)
    given = Patient("x", image, mask, found, criteria=("rano", "recist-1.1"))
    text = words(page_of(given, tmp_path, language="fr")).replace("\u00a0", " ")
    assert text.count("périventriculaire") == 3  # by zone, of the lesion, of the criteria
    assert "sous-tentorielle" in text
    assert "RECIST 1.1\n\n10,8 mm\n\nlésion 1" in text
    assert "RANO\n\n0 mm²\n\naucune lésion mesurable" in text  # 10.8 × 6.5 mm is too narrow
    assert "non remplie (cerveau seul)" in text  # the second lesion is under 3 mm


def test_dissemination_in_space_is_told_of_lesions_of_3_mm(tmp_path):
    image, mask = head()
    mask.data[8:11, 20, 12] = 1
    (label,) = measure_mask(mask, labels=NAMES)
    zones = ["periventricular", "juxtacortical"]
    lesions = tuple(replace(le, zone=z) for le, z in zip(label.lesions, zones, strict=True))
    given = Patient("x", image, mask, (replace(label, lesions=lesions),))
    text = words(page_of(given, tmp_path))
    assert "\nfulfilled (brain alone)" in text
    assert "periventricular (1), juxtacortical (1)" in text


def test_another_grid_is_named_with_the_files(tmp_path):
    image, mask = head()
    moved = Volume(image.data, image.affine + np.diag([0, 0, 0.5, 0]))
    files = {"image": "flair.nii", "mask": "lesions.nii"}
    given = Patient("x", moved, mask, measure_mask(mask, labels=NAMES), files=files)
    with pytest.raises(InputError, match=r"lesions.nii: lies elsewhere than flair.nii"):
        write_patient(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_language_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown language 'de'"):
        write_patient(patient(*head()), tmp_path / "out", language="de")


@pytest.mark.parametrize("name", ["report.html", "report.pdf", "figures"])
def test_what_is_there_is_not_replaced_unasked(tmp_path, name):
    (tmp_path / name).mkdir() if name == "figures" else (tmp_path / name).touch()
    with pytest.raises(InputError, match="exists already"):
        check_free(tmp_path)
    check_free(tmp_path, overwrite=True)


def test_places_where_no_report_may_go_are_named(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "old.html").touch()
    for place, message in (
        (tmp_path, "is the folder of a run"),
        (tmp_path / "notes.txt", "is a file; name a folder, or a file that ends in .html or .pdf"),
        (tmp_path / "none/out", "there is no folder"),
        (tmp_path / "none/x.pdf", "there is no folder"),
        (tmp_path / "old.html", "exists already"),
    ):
        with pytest.raises(InputError, match=message):
            check_free(place)


def test_overwriting_takes_pictures_of_the_earlier_report_away_and_nothing_else(tmp_path):
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("slice-9.png", "lesion-44.svg", "mine.png"):
        (figures / name).touch()
    image, mask = head()
    mask.data[:] = 0
    write_patient(patient(image, mask), tmp_path, overwrite=True)
    assert {file.name for file in figures.iterdir()} == {"mine.png", "slice-1.png", "slice-1.svg"}


def test_what_fails_leaves_the_earlier_report(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(patient_report, "write_pdf", fail)
    with pytest.raises(OSError, match="No space"):
        write_patient(patient(*head()), tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
