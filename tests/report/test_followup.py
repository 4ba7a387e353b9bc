"""The page of a follow-up: what it says, shows and lists, and what it refuses."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.evaluate.changes import KINDS
from segjax.report import followup as followup_report
from segjax.report import sheet, style
from segjax.report.followup import write_followup_page
from tests.followed_up import (
    SHAPE,
    change,
    checked,
    follow_up_of,
    followed,
    with_comparison,
)


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch, page):
    """Draw no picture but those of ``page`` and of sheets: that is what costs time."""

    def described(pencil, draw, size, description):
        return f'<img alt="{description}">'

    monkeypatch.setattr(followup_report._Pencil, "__call__", described)
    monkeypatch.setattr(followup_report._Pencil, "plot", described)
    monkeypatch.setattr(sheet, "_DPI", 20)


def page_of(given, folder, **options):
    return write_followup_page(given, folder, **options)["html"].read_text(encoding="utf-8")


def words(html):
    plain = re.sub(r"<[^>]+>", "\n", re.sub(r"(?s)<style>.*?</style>", "", html))
    return unescape(plain).replace("\u00a0", " ").replace("\u202f", " ")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_DPI", 20)
        return page_of(checked(followed()), tmp_path_factory.mktemp("page"))


def rows_of(html):
    """Return kind and cells of each row of lesions."""
    found = re.findall(r'<tr class="(\w+)" id="[^"]+-row">(.*?)</tr>', html)
    return [
        (kind, [words(cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row)])
        for kind, row in found
    ]


def test_page_and_sheets_are_written_where_they_are_told(tmp_path):
    written = write_followup_page(followed(), tmp_path / "out", pdf=True)
    assert written == {"html": tmp_path / "out/report.html", "pdf": tmp_path / "out/report.pdf"}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "report.html", "report.pdf",
    ]  # fmt: skip
    assert written["pdf"].read_bytes().startswith(b"%PDF")


def test_the_page_needs_nothing_but_itself(page):
    assert not re.search(r"https?://|<script|@import|<link", page)
    assert '<html lang="en">' in page
    images = re.findall(r"<img[^>]+>", page)
    assert len(images) > 12
    assert all(re.search(r'alt="[^"]+"', image) for image in images)


def test_the_verdict_comes_first_and_is_that_of_a_calculation_by_hand(page):
    text = words(page)
    # before 4·4·2 + 4·4·2 + 6·4·2 + 3·3·2 = 130 voxels of 12 mm³; after 72 + 72 + 32 + 24 = 200
    said = "1 new lesion, 1 enlarged, 1 shrunk, 1 gone; load 1.56 → 2.40 ml (+54 %) in 203 days."
    assert said in text
    assert text.index(said) < text.index("Overview") < text.index("Each change")
    assert text.index("Not for diagnosis.") < text.index(said)


def test_tiles_tell_counts_loads_and_how_sure_they_are(page):
    tiles = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", page)
    figures = {name: value.replace("\u00a0", " ") for value, name in tiles}
    assert figures == {
        "+ new lesion": "1", "▲ enlarged": "1", "= stable": "1", "▼ shrunk": "1", "− gone": "1",
        "load": "1.56 → 2.40 ml", "changes with a confidence of 0.8 or more": "4 of 4",
    }  # fmt: skip


def test_each_change_is_shown_before_after_and_as_difference_the_largest_first(page):
    cards = re.findall(r'<figure class="change (\w+)".*?</figure>', page, re.S)
    assert cards == ["new", "enlarged", "shrunk", "gone"]  # 72, 40, 24, 18 voxels
    first = re.search(r'<figure class="change new".*?</figure>', page, re.S)[0]
    assert re.findall(r"<span>(\w+)</span>", first) == ["before", "after", "difference"]
    sizes = {re.search(r'width="(\d+)"', image)[1] for image in re.findall("<img[^>]+>", first)}
    assert len(sizes) == 1
    told = words(first)
    for fact in ("0.000 → 0.864 ml", "+0.864 ml", "±0.030 ml", "– → 9.2 × 7.0 mm", "0.90"):
        assert fact in told
    assert "outlines and images" in told


def test_all_lesions_are_listed_with_their_kinds_and_signs(page):
    rows = rows_of(page)
    assert [kind for kind, _ in rows] == ["new", "enlarged", "shrunk", "gone", "stable"]
    number, kind, before, after, difference, percent = rows[2][1][:6]
    assert (number, kind) == ("3", "▼ shrunk")
    assert (before, after, difference, percent) == ("0.576", "0.288", "−0.288", "−50")


def test_kinds_can_be_hidden_without_a_script(page):
    for kind in KINDS:
        assert f'class="show-{kind}"' in page
        assert f"section:has(.show-{kind}:not(:checked)) tr.{kind}" in page


def test_every_link_leads_somewhere_and_no_place_has_two_names(page):
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(names)


def test_criteria_are_told_with_caution_and_sources(page):
    text = words(page)
    table = text[text.index("active lesions") :]
    assert re.search(r"more than 2 active lesions\s+2\s+no\s", table)
    assert re.search(r"a new T2 lesion against a baseline\s+1\s+yes\s", table)
    for word in ("Thompson", "Sormani", "Río", "are not looked at"):
        assert word in text


def test_the_check_is_told_in_plain_words(page):
    text = words(page)
    assert "A new lesion of 3 to 5 mm would have been found in 82 % of cases (68 % to 91 %)" in text
    assert "False changes: 0.5 per comparison (in 2 repeats)." in text
    assert "changes in 0 of 3" in text
    assert "drawn ellipsoids" in text


def test_registration_is_told_and_shown(page):
    text = words(page)
    for fact in ("rigid: shifted and turned", "4.5 mm", "2.2°", "0.970", "0.12 mm", "Chequered"):
        assert fact in text
    assert page.count("chequered") == 3


def test_names_are_text_never_html(tmp_path):
    given = followed(subject="<em>1</em>")
    visit = replace(given.visits[0], name="<i>2024</i>")
    given = replace(given, visits=(visit, *given.visits[1:]))
    html = page_of(given, tmp_path, files={"model": "<u>net</u>.onnx"})
    assert not re.search(r"<em>1|<i>2024|<u>net", html)
    assert "&lt;u&gt;net&lt;/u&gt;.onnx" in html


def test_files_are_told_by_what_they_are(tmp_path):
    files = {"date": "day.nii.gz", "model": "net.onnx"}  # the first is the name of a visit
    text = words(page_of(followed(kinds=()), tmp_path, files=files, language="fr"))
    assert re.search(r"date\s+day\.nii\.gz\s+réseau\s+net\.onnx\s+date\s+20\d\d-", text)


def test_french_pages_have_french_words_and_commas(tmp_path):
    text = words(page_of(checked(followed()), tmp_path, language="fr"))
    said = (
        "1 nouvelle lésion, 1 agrandie, 1 réduite, 1 disparue ; charge 1,56 → 2,40 ml (+54 %) en "
        "203 jours."
    )
    assert said in text
    before = text.partition("Comment ce document")[0]
    assert not re.search(r"\d\.\d", before)
    for word in ("lesion", "before", "after", "change ", "drawn"):
        assert word not in before


def test_nothing_changed_is_said_plainly_with_what_could_have_been_found(tmp_path):
    given = followed(kinds=("stable",))
    text = words(page_of(given, tmp_path))
    assert "No change found; load 0.384 → 0.384 ml (0.0 %) in 203 days." in text
    assert "What could have been found is not known" in text
    text = words(page_of(checked(given), tmp_path, overwrite=True))
    told = text.partition("No change found\n")[2].partition("Every lesion")[0]
    assert "A new lesion of 3 to 5 mm would have been found in 82 % of cases" in told


def test_no_lesion_at_all_is_said(tmp_path):
    html = page_of(followed(kinds=()), tmp_path)
    assert "No lesion at either visit in 203 days." in words(html)
    assert "Every lesion" not in html


def test_masks_alone_are_drawn_as_outlines(tmp_path):
    html = page_of(followed(images=False), tmp_path, pdf=True)
    text = words(html)
    assert "No images were given: outlines alone are drawn." in text
    assert "change of outlines" in text
    assert "The visits were not registered" in text
    assert "chequered" not in html


def test_images_alone_have_no_loads_and_outlines_of_changes(tmp_path):
    given = followed(kinds=("new",))
    bare = [replace(visit, mask=None, loads=()) for visit in given.visits]
    seen = replace(given.comparisons[0].changes[0], evidence="images")
    given = with_comparison(replace(given, visits=tuple(bare)), changes=(seen,))
    html = page_of(given, tmp_path, pdf=True)
    text = words(html)
    assert "new, seen in the images alone" in text
    assert "outline before" not in text
    assert "Loads over time" not in text
    assert re.search(r"Visits\s+visit\s+date", text)
    assert "volume of each label" not in html


def test_where_nothing_could_be_compared_no_page_says_that_nothing_changed(tmp_path):
    given = followed(kinds=(), compared=False)
    bare = [replace(visit, mask=None, loads=()) for visit in given.visits]
    html = page_of(replace(given, visits=tuple(bare)), tmp_path, pdf=True)
    text = words(html)
    assert "Nothing was compared: there are no outlines, and the images could not be." in text
    assert "The intensities of visit 1 and visit 2 were not compared." in text
    for untold in ("No change found", "No lesion appeared", "NEDA", "outlines alone"):
        assert untold not in text


def test_images_that_are_not_compared_show_the_change_of_outlines(tmp_path):
    text = words(page_of(followed(compared=False), tmp_path))
    assert "change of outlines" in text
    assert "mid-grey" not in text


def test_more_than_two_visits_have_a_section_each_and_one_plot(tmp_path):
    html = page_of(followed(days=(203, 180)), tmp_path)
    text = words(html)
    assert [int(n) for n in re.findall(r'id="pair-(\d+)"', html)] == [1, 2]
    assert text.count("From visit 1 to visit 2") == 3  # the verdict, its section, registration
    assert html.count('alt="volume of each label at each visit"') == 1
    assert re.search(r"visit 3\s+2025-02-17\s+383\s", text)
    assert text.index("Loads over time") < text.index("Overview")


def test_visits_without_dates_have_no_days(tmp_path):
    html = page_of(followed(days=(None,)), tmp_path)
    text = words(html)
    assert "(+54 %)." in text
    assert "Dates are not known" in text
    assert "days since the first" not in text


def many(count):
    """Return a follow-up of many new lesions of a voxel."""
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    numbers, changes = np.zeros(SHAPE, np.int32), []
    places = np.argwhere(np.ones((14, 18, 10), bool))[:count] * 2 + [6, 6, 5]
    for number, place in enumerate(places, 1):
        masks[1][tuple(place)] = 1
        numbers[tuple(place)] = number
        changes.append(change(number, "new", 0, 1, place, confidence=0.3, evidence="images"))
    return follow_up_of(masks, numbers, changes)


def test_of_many_changes_24_are_pictured_and_all_are_listed(tmp_path):
    html = page_of(many(300), tmp_path)
    text = words(html)
    assert html.count('<figure class="change') == 24
    assert len(rows_of(html)) == 300
    assert "276 smaller changes are in the table alone." in text
    assert "280 smaller changes or stable lesions" in text
    assert html.count("<details>") == 1
    assert (
        "300 changes are uncertain (confidence below 0.5): 1, 2, 3, 4, 5, 6, 7, 8 (+292)." in text
    )
    assert "300 changes are seen in the images and not in the outlines" in text


def test_what_cannot_be_compared_is_warned_of(tmp_path):
    given = followed()
    difference = given.comparisons[0].difference
    doubted = replace(difference, reliable=False, reason="their contrasts differ too much")
    fit = replace(given.registration.pairs[0], overlap=0.8, inconsistency_mm=1.7)
    given = with_comparison(given, difference=doubted)
    given = replace(given, registration=replace(given.registration, pairs=(fit,)))
    text = words(page_of(checked(given, copies=(0, 2, 0)), tmp_path))
    assert "cannot be compared: their contrasts differ too much. Changes rest on the" in text
    assert "overlap by 80 % alone" in text
    assert "differ by 1.7 mm" in text
    assert "in 1 of 3 copies" in text
    assert "Slices lie 3.0 mm apart" in text


def test_a_mass_has_its_growth_told_and_no_criteria_of_ms(tmp_path):
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    masks[0][10:20, 10:20, 8:14] = masks[1][10:22, 10:20, 8:14] = 1
    numbers = masks[1].astype(np.int32)
    grown = change(
        1, "enlarged", 600, 720, (15, 15, 11), label="meningioma", percent_per_year=36.0,
        doubling_days=771.8,
    )  # fmt: skip
    given = follow_up_of(masks, numbers, [grown], labels=("background", "meningioma"))
    html = page_of(given, tmp_path)
    text = words(html)
    assert "Rio" not in text
    assert "doubling time" in text
    assert "772 days" in text
    assert "+36 %" in text


def test_several_labels_are_told_apart(tmp_path):
    given = followed()
    labels = ("background", "lesion", "black hole")
    hole = replace(given.comparisons[0].changes[0], label="black hole", value=2)
    given = with_comparison(given, changes=(hole, *given.comparisons[0].changes[1:]))
    html = page_of(replace(given, labels=labels), tmp_path)
    text = words(html)
    assert "Lesion: 1 enlarged lesion, 1 shrunk, 1 gone; load" in text
    assert "Black hole: 1 new lesion" in text
    assert "1 · + new · black hole" in text


def test_files_that_are_there_stay_unless_one_says_so(tmp_path):
    given = followed(kinds=("stable",))
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(InputError, match=r"report\.html"):
        write_followup_page(given, tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"
    assert "mine" not in page_of(given, tmp_path, overwrite=True)


def test_another_language_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="unknown language 'de'"):
        write_followup_page(followed(kinds=()), tmp_path / "out", language="de")
    assert not (tmp_path / "out").exists()


def test_nothing_tells_the_folders(page, tmp_path):
    assert "/tmp" not in page
    assert "pytest" not in page
