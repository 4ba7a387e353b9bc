"""``segjax followup``."""

import sys
import warnings

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.data.phantom.dataset import phantom
from segjax.evaluate import followup as comparing
from segjax.evaluate import selfcheck
from segjax.evaluate.difference import ImageDifference
from segjax.evaluate.statistics import Interval
from segjax.files import read_csv, read_json
from segjax.report import followup as page
from segjax.volume import Volume
from tests.tiny_network import write_network

SHAPE = (16, 18, 14)
OLD, NEW = np.s_[3:7, 3:7, 3:7], np.s_[10:14, 10:14, 8:12]


def save(path, *boxes, value=1):
    data = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        data[box] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(data, np.eye(4)), path)
    return path


def unchanged(baseline, followup, brain):
    """Say that images cannot be compared, in no time."""
    nothing = [brain.with_data(np.zeros(brain.data.shape, kind)) for kind in ("f4", "i1", "f4")]
    return ImageDifference(baseline, followup, *nothing, reliable=False, reason="contrasts differ")


@pytest.fixture
def followup(capsys, tmp_path, monkeypatch):
    """Run the command in a folder of its own; return its exit code and its text."""

    def write(followup, folder, *, language, pdf, files):
        (folder / "report.html").write_text(language)

    monkeypatch.setattr(page, "write_followup_page", write)
    monkeypatch.setattr(comparing, "compare_images", unchanged)
    monkeypatch.chdir(tmp_path)

    def run(*options):
        code = main(["followup", *map(str, options)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def pair(tmp_path):
    """Two masks; the second has one lesion more."""
    return save(tmp_path / "a.nii.gz", OLD), save(tmp_path / "b.nii.gz", OLD, NEW)


def test_two_masks_are_compared_and_what_changed_is_printed(followup, pair, tmp_path):
    code, text = followup(*pair)
    assert code == 0
    row = next(line.split() for line in text.splitlines() if line.startswith("a → b"))
    assert row == ["a", "→", "b", "lesion", "–", "0.064", "ml", "0.128", "ml", "+100.0", "%",
                   "1", "0", "1", "0", "0"]  # fmt: skip
    assert "followup/report.html" in text
    assert (tmp_path / "followup" / "summary.json").exists()
    code, text = followup(*pair)
    assert code == 0
    assert "was there already" in text
    code, text = followup("--masks", *pair, "--names", "plaque")
    assert code == 1
    assert "holds a report of other files or settings" in text
    code, _ = followup("--masks", *pair, "--names", "plaque", "--overwrite")
    assert code == 0
    assert read_json(tmp_path / "followup" / "summary.json")["labels"] == ["background", "plaque"]


def test_the_check_is_printed_and_runs_10_times(followup, pair, monkeypatch):
    asked = []

    def check(visits, *, repeats, **options):
        asked.append(repeats)
        sizes = [
            selfcheck.SizeClass(low, high, 4, found, Interval(found / 4, 0, 1))
            for low, high, found in ((3.0, 5.0, 1), (5.0, None, 4))
        ]
        return selfcheck.SelfCheck(
            tuple(sizes), Interval(0.6, 0, 1), (0, 1), (0, 2), (), "drawn", 0
        )

    monkeypatch.setattr(selfcheck, "self_check", check)
    code, text = followup(*pair, "--check")
    assert code == 0
    assert asked == [10]
    assert "3 to 5 mm" in text
    assert "1 of 4 found" in text
    assert "5 mm and more" in text
    assert "1 in 2 comparisons, 2 in 2 copies of the scans" in text
    followup(*pair, "--check", 3, "-o", "again")
    assert asked == [10, 3]


def test_a_missing_package_is_told_before_the_visits_are_read(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("segjax.data.visits.find_subject", None)
    assert main(["followup", *map(str, pair), "-o", str(tmp_path / "out")]) == 1
    assert "drawing figures needs matplotlib" in capsys.readouterr().err


def test_dates_give_days_and_rates(followup, pair, tmp_path):
    code, _ = followup(*pair, "--dates", "2024-01-31", "2024-08-21", "-o", "report")
    assert code == 0
    summary = read_json(tmp_path / "report" / "summary.json")
    assert summary["visits"][1]["date"] == "2024-08-21"
    assert summary["comparisons"][0]["days"] == 203


def test_patients_have_reports_and_a_table_and_the_failed_are_named(followup, tmp_path):
    for name in ("p1", "p2", "p3"):
        save(tmp_path / "in" / name / "1_m.nii.gz", OLD)
        if name != "p2":
            save(tmp_path / "in" / name / "2_m.nii.gz", OLD, NEW)
    code, text = followup("in", "--images", "*_m.nii.gz", "-o", "out", "--language", "fr")
    assert code == 1
    assert "p2: holds 1 visit, 1: two are compared (1 of 3 cases failed: p2)" in text
    assert [row["subject"] for row in read_csv(tmp_path / "out" / "followup.csv")] == ["p1", "p3"]
    assert (tmp_path / "out" / "p3" / "report.html").read_text() == "fr"
    assert "out/followup.csv" in text


def test_patients_have_masks_beside_their_images(followup, tmp_path):
    for visit, boxes in (("1", (OLD,)), ("2", (OLD, NEW))):
        save(tmp_path / "in" / "p" / visit / "flair.nii.gz", np.s_[:], value=1)
        save(tmp_path / "in" / "p" / visit / "m.nii.gz", *boxes)
        save(tmp_path / "in" / "p" / visit / "brain.nii.gz", np.s_[:])
    names = ("--images", "flair.nii.gz", "--masks", "m.nii.gz", "--brain", "brain.nii.gz")
    code, text = followup("in", *names, "--registration", "none", "-o", "out")
    assert code == 0
    assert "1 → 2: intensities are not compared: contrasts differ" in text
    assert read_json(tmp_path / "out/p/summary.json")["comparisons"][0]["loads"][0]["new"] == 1


def test_images_that_cannot_be_compared_are_no_stable_patient(followup, tmp_path):
    brain = save(tmp_path / "brain.nii.gz", np.s_[:])
    images = [tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"]
    for seed, path in enumerate(images):
        noise = np.random.default_rng(seed).normal(100, 9, SHAPE).astype("f4")
        write_volume(Volume(noise, np.eye(4)), path)
    code, text = followup(*images, "--brain", brain, brain, "--registration", "none")
    assert code == 0
    assert "nothing was compared: give masks (--masks) or a network (--model)" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a.nii.gz"], "a.nii.gz: is one visit; give two or more, or a folder of patients"),
        ([], "0 visits: give two or more"),
        (["in", "-o", "in/out"], "in/out: lies among the patients; choose another folder by -o"),
        (["in", "--dates", "2024-01-31"], "--dates are of one patient"),
        (["in", "--masks", "a", "b"], "--masks: give one name, which all visits of in have"),
        (["a.nii.gz", "b.nii.gz", "--check", "0"], "--check 0: give one number, 1 or more"),
        (["a.nii.gz", "b.nii.gz", "--check", "1", "2"], "--check 1 2: give one number"),
        (["a.nii.gz", "b.nii.gz", "--brain", "x", "y"], "x: there is no such file"),
        (["a.nii.gz", "b.nii.gz", "--language", "de"], "language"),
        (["a.nii.gz", "b.nii.gz", "--dates", "x", "y"], "'x': is no date"),
    ],
)
def test_what_cannot_be_compared_is_one_line(followup, pair, tmp_path, options, said):
    (tmp_path / "in").mkdir()
    code, text = followup(*options)
    assert code == 1
    assert said in text
    assert text.count("\n") == 1
    assert not (tmp_path / "followup").exists()


def test_help_and_wrong_options_are_told(followup, pair):
    code, text = followup("--help")
    assert code == 0
    assert "segjax followup v1 v2 v3 --images flair.nii.gz t1.nii.gz" in text
    assert followup(*pair, "--registration", "elastic")[0] == 2


def test_a_network_segments_the_visits(followup, tmp_path):
    image, _ = phantom(0, shape=(24, 28, 24), spacing=6.0)
    low = np.percentile(image.data[image.data > 0], 90)
    for name, seed in (("a", 1), ("b", 2)):
        noise = np.random.default_rng(seed).normal(0, 5, image.data.shape)
        write_volume(
            image.with_data((image.data + noise).astype(np.float32)), tmp_path / f"{name}.nii.gz"
        )
        save_brain = image.with_data((image.data > 0).astype(np.uint8))
        write_volume(save_brain, tmp_path / f"{name}_brain.nii.gz")
    network = write_network(tmp_path / "n.onnx", over=float(low))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, text = followup(
            *("a.nii.gz", "b.nii.gz", "--model", network, "--registration", "none"),
            *("--brain", "a_brain.nii.gz", "b_brain.nii.gz", "-o", "report"),
        )
    assert code == 0, text
    summary = read_json(tmp_path / "report" / "summary.json")
    assert summary["networks"][0]["name"] == "n.onnx"
    assert summary["labels"] == ["background", "lesion"]
    assert summary["comparisons"][0]["images"]["compared"]
    assert len(summary["inputs"][0]["files"]) == 2
