"""A follow-up on sheets of A4."""

import re

import numpy as np
import pytest

from segjax.report import followup_pdf, sheet
from segjax.report.followup_facts import Content
from segjax.report.followup_pdf import write_followup_pdf
from segjax.report.followup_slices import scene_of
from segjax.report.followup_texts import followup_language
from tests.followed_up import SHAPE, change, checked, follow_up_of, followed


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes sheets: what they say, and where each text begins."""
    monkeypatch.setattr(sheet, "_DPI", 20)
    said, places = [], []
    draw = sheet.Sheet.text

    def note(page, x, y, text, size, **more):
        said.append(text.replace("\u00a0", " "))
        places.append((x, y))
        draw(page, x, y, text, size, **more)

    monkeypatch.setattr(sheet.Sheet, "text", note)

    def written(given, language="en"):
        scenes = tuple(scene_of(given, pair) for pair in given.comparisons)
        path = tmp_path / "report.pdf"
        write_followup_pdf(Content(given, scenes, {}, followup_language(language)), path)
        return path.read_bytes(), said, np.array(places)

    return written


def count_of_sheets(pdf):
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_sheets_say_what_the_page_says(write):
    pdf, said, places = write(checked(followed(subject="case 7")))
    text = " ".join(said)
    for fact in (
        "Follow-up: case 7", "Not for diagnosis.", "1 new lesion, 1 enlarged, 1 shrunk, 1 gone;",
        "1 · + new", "4 · − gone", "Every lesion", "Registration", "Criteria",
        "A new lesion of 3 to 5 mm would have been found in 82 % of cases", "How it came about",
    ):  # fmt: skip
        assert fact in text, fact
    assert count_of_sheets(pdf) == 4
    assert f"page 1 of {count_of_sheets(pdf)}" in said
    assert (places.min(axis=0) > 0.4).all()
    assert (places.max(axis=0) < (8.27 - 0.5, 11.69 - 0.5)).all()  # inches of A4


def test_masks_alone_and_several_visits_have_sheets_too(write):
    _, said, places = write(followed(images=False, days=(203, 180)), "fr")
    text = " ".join(said)
    assert "De visit 1 à visit 2" in text
    assert "changement des contours" in text
    assert "En damier" not in text
    assert (places.max(axis=0) < (8.27 - 0.5, 11.69 - 0.5)).all()


def test_many_lesions_take_few_sheets_and_what_is_left_out_is_said(write, monkeypatch):
    monkeypatch.setattr(followup_pdf, "draw_change", lambda *_: None)
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    numbers, changes = np.zeros(SHAPE, np.int32), []
    places = np.argwhere(np.ones((14, 18, 10), bool))[:80] * 2 + [6, 6, 5]
    for number, place in enumerate(places, 1):
        masks[1][tuple(place)], numbers[tuple(place)] = 1, number
        changes.append(change(number, "new", 0, 1, place))
    pdf, said, _ = write(follow_up_of(masks, numbers, changes))
    assert count_of_sheets(pdf) < 8
    assert "and 20 more, which the HTML page lists" in said
    assert sum(text.endswith("· + new") for text in said) == 12
    assert "68 smaller changes are in the table alone" in " ".join(said)
