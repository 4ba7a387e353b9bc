"""The report of a run: complete, self-contained and safe to open."""

import json
import re
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest

import segjax
from segjax.data.labels import IGNORED
from segjax.errors import InputError
from segjax.provenance import Provenance, write_part
from segjax.report import training as report
from segjax.report.training import Example, write_report
from segjax.volume import Volume

CONFIG = {
    "segjax": "0.1.0",
    "model": "mpunet++",
    "patch_size": [32, 32, 32],
    "labels": ["background", "lesion"],
    "pipeline": [{"step": "z-score", "where": "nonzero"}],
    "optimizer": {"learning_rate": 0.003, "gradient_clip": None},
    "augment": [],
    "name": "first & <best>",
}
METRICS = """run,epoch,split,case,label,metric,value
r,1,train,,,loss,1.5
r,1,validation,good,lesion,dice,0.90
r,1,validation,bad,lesion,dice,0.25
r,2,train,,,loss,1.25
r,2,train,,,seconds,90
"""
SPLIT = {"train": ["far", "near"], "validation": ["good", "bad"], "test": ["case <7>"]}
PARTS = [
    Provenance(
        f"2026-03-0{day}T09:30:00+01:00", f"segjax train --data 'a & b' --out run{day}", "/a & b",
        seconds, "Debian, a <CPU>, 4 cores", {"segjax": "0.1.0", "Python": "3.12.1"},
    )
    for day, seconds in ((1, None), (2, 45.0))
]  # fmt: skip


class Page(HTMLParser):
    """Collects what a page shows and what it loads; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def make_run(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "split.json").write_text(json.dumps(SPLIT))
    for part in PARTS:
        write_part(folder, part)
    return folder


def make_example():
    data = np.random.default_rng(0).uniform(1, 2, (10, 10, 10)).astype(np.float32)
    image = Volume(data, np.diag([1.0, 1.0, 2.0, 1.0]))
    truth, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    truth[2:6, 2:6, 5] = 1
    prediction[4:8, 2:6, 5] = 1  # 8 of 16 voxels in common, each of 2 µl
    return Example("case <7>", image, image.with_data(truth), image.with_data(prediction))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of a whole run with one example, drawn once: tests only read it."""
    return write_report(make_run(tmp_path_factory.mktemp("run")), examples=[make_example()])


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text())


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose pictures are not drawn: of them :mod:`segjax.report.plots` has tests."""

    def draw(*arguments, path=None, **_):
        (path or arguments[1]).write_bytes(b"\x89PNG" + b"\0" * 20)

    for name in ("learning_curves", "dice_by_case", "overlay"):
        monkeypatch.setattr(report, name, draw)
    return make_run(tmp_path)


@pytest.fixture
def example():
    return make_example()


def after(page, heading):
    """Return the words of a page from a heading on."""
    words = [word for word in page.words if word]
    return words[words.index(heading) :]


def test_the_page_loads_nothing_from_elsewhere(written, page):
    assert len(page.loaded) == 3  # curves, boxes, one overlay
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert not re.search(r"https?://|<script|@import", written.read_text())


def test_the_page_says_what_was_measured(written, page):
    words = page.words
    assert written.name == "report.html"
    assert "0.575" in words  # mean of 0.90 and 0.25
    table = after(page, "Every validation case, the worst first")
    assert table.index("bad") < table.index("good")
    row = words[words.index("prediction (ml)") + 1 :]
    assert [word for word in row if word][:6] == [
        "lesion", "0.500", "0.500", "0.500", "0.032", "0.032",
    ]  # fmt: skip


def test_the_page_says_what_every_case_was_for(page):
    words = [word for word in page.words if word]
    counts = {role: words[words.index(f"{role} cases") - 1] for role in SPLIT if role != "train"}
    assert counts == {"validation": "2", "test": "1"}
    assert words[words.index("training cases") - 1] == "2"
    assert after(page, "What each of 5 cases was for")[4:13] == [
        "training", "2", "far, near", "validation", "2", "good, bad", "test", "1", "case <7>",
    ]  # fmt: skip
    assert "case <7> (test case)" in words


def test_a_pictured_case_that_no_split_names_is_not_said_to_be_new(run, example):
    (run / "split.json").unlink()
    page = Page(write_report(run, examples=[example]).read_text())
    assert "case <7> (whether it was trained on is not known)" in page.words
    assert "Cases" not in page.words


def test_the_page_says_how_the_training_came_about(page):
    words = after(page, "How it came about")
    first, second = (words.index(f"Part {n} of 2, 2026-03-0{n} 09:30:00+01:00") for n in (1, 2))
    assert words[first + 1 : second] == [
        "date", "2026-03-01 09:30:00+01:00", "command", "segjax train --data 'a & b' --out run1",
        "data", "/a & b", "machine", "Debian, a <CPU>, 4 cores",
        "versions", "segjax 0.1.0, Python 3.12.1",
    ]  # fmt: skip
    assert words[words.index("time") + 1] == "45.0 s"  # of the second: the first was killed
    assert page.words[page.words.index("time of training") - 1] == "1 min 30 s"


def test_the_page_says_when_it_was_written_and_by_what(page):
    now = datetime.now().astimezone()
    (said,) = (word for word in page.words if word.startswith("Page written"))
    date = datetime.fromisoformat(" ".join(said.split()[2:4]))
    assert abs((now - date).total_seconds()) < 600
    assert said.endswith(f"by segjax {segjax.__version__}.")


def test_a_run_of_an_older_version_has_a_report(run):
    (run / "provenance.json").unlink()
    assert "How it came about" not in Page(write_report(run).read_text()).words


def test_millilitres_of_sheared_images_are_not_the_product_of_edges(run, example):
    sheared = np.eye(4)
    sheared[:3, 2] = (0, 1.5, 3)  # a voxel of 3 µl with edges of 1, 1 and 3.354 mm
    masks = [Volume(mask.data, sheared) for mask in (example.truth, example.prediction)]
    example = Example("tilted", Volume(example.image.data, sheared), *masks)
    words = Page(write_report(run, examples=[example]).read_text()).words
    row = [word for word in words[words.index("prediction (ml)") + 1 :] if word]
    assert row[4:6] == ["0.048", "0.048"]  # 16 voxels


def test_voxels_to_be_ignored_count_in_no_measure(run, example):
    example.truth.data[6:8] = IGNORED  # all of the prediction that is wrong
    words = Page(write_report(run, examples=[example]).read_text()).words
    row = [word for word in words[words.index("prediction (ml)") + 1 :] if word]
    assert row[1:6] == ["0.667", "0.500", "1.000", "0.032", "0.016"]  # TP 8, FN 8


def test_names_are_escaped(written):
    text = written.read_text()
    assert "first &amp; &lt;best&gt;: mpunet++" in text
    assert "<best>" not in text
    assert "<7>" not in text
    assert "<CPU>" not in text


def test_every_setting_is_shown(page):
    words = page.words
    for name, value in {
        "patch_size": "32, 32, 32",
        "pipeline 1": "step z-score, where nonzero",
        "optimizer.learning_rate": "0.003",
        "optimizer.gradient_clip": "none",
        "augment": "none",
    }.items():
        assert words[words.index(name) + 1] == value


def test_a_case_without_truth_is_shown_without_numbers(run, example):
    example = Example(example.name, example.image, None, example.prediction)
    page = Page(write_report(run, examples=[example]).read_text())
    assert len(page.loaded) == 3
    assert "prediction (ml)" not in page.words


def test_a_run_without_validation_has_a_report(run):
    (run / "metrics.csv").write_text("\n".join(METRICS.splitlines()[:2]) + "\n")
    page = Page(write_report(run).read_text())
    assert len(page.loaded) == 1
    assert "mean validation Dice" not in page.words


def test_an_earlier_report_is_replaced(run, example):
    write_report(run)
    assert "Examples" in Page(write_report(run, examples=[example]).read_text()).words
    assert sorted(path.name for path in (run / "figures").iterdir()) == [
        "dice_by_case.png", "example_1.png", "learning_curves.png",
    ]  # fmt: skip


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_what_is_no_run_is_refused(run, text):
    (run / "config.json").unlink()
    if text is not None:
        (run / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        write_report(run)


def test_a_file_in_the_place_of_the_figures_is_named(run):
    (run / "figures").write_text("")
    with pytest.raises(InputError, match="figures"):
        write_report(run)


def test_cases_without_the_label_are_in_no_mean_and_named(run):
    rows = "".join(
        f"r,1,validation,healthy{n},lesion,false_positive_ml,{0.3 * n}\n" for n in (0, 1)
    )
    (run / "metrics.csv").write_text(METRICS + rows)
    (run / "split.json").unlink()
    words = Page(write_report(run).read_text()).words
    assert words[words.index("mean validation Dice") - 1] == "0.575"
    assert words[words.index("validation cases") - 1] == "4"
    told = "Without lesion: 2 of 4 cases, false positives in 1 (0.150 ml on average)."
    assert any(told in word for word in words)
    (run / "metrics.csv").write_text(METRICS.replace("dice", "false_positive_ml"))
    assert "false positives in 2" in write_report(run).read_text()


def test_a_pictured_case_without_the_label_has_dashes(run):
    image = Volume(np.random.default_rng(0).random((8, 8, 4), np.float32), np.eye(4))
    nothing = image.with_data(np.zeros((8, 8, 4), np.uint8))
    found = nothing.data.copy()
    found[2, 2, 2] = 1
    example = Example("healthy", image, nothing, image.with_data(found))
    words = Page(write_report(run, examples=[example]).read_text()).words
    cells = [word for word in words if word]
    start = len(cells) - 1 - cells[::-1].index("prediction (ml)")
    assert cells[start + 1 : start + 7] == ["lesion", "–", "–", "–", "0.000", "0.001"]
