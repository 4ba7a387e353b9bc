"""A follow-up's page in Chromium: asks for nothing, can be read on a phone and on paper."""

import re
from dataclasses import replace

import numpy as np
import pytest

from segjax.report.followup import write_followup_page
from tests.followed_up import SHAPE, change, checked, follow_up_of

pytestmark = pytest.mark.browser

pytest.importorskip("playwright.sync_api")

KINDS = ("new", "enlarged", "stable", "shrunk", "gone")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page in French, whose words are the longest, of 40 lesions, three visits and warnings."""
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    numbers, changes = np.zeros(SHAPE, np.int32), []
    for number, place in enumerate(np.argwhere(np.ones((5, 8, 1), bool)) * 5 + [8, 6, 10], 1):
        kind = KINDS[number % 5]
        one, other = 60 if kind != "new" else 0, 60 if kind != "gone" else 0
        masks[0][tuple(place)], masks[1][tuple(place)] = one > 0, other > 0
        numbers[tuple(place)] = number
        more = {"percent_per_year": 12.0, "doubling_days": 2204.0, "confidence": 0.4}
        changes.append(change(number, kind, one, other, place, **more))
    given = checked(follow_up_of(masks, numbers, changes, days=(203, 180)), copies=(0, 2))
    name = "sub-0123_ses-20260301_acq-3dsagittal_desc-preprocessed_space-T1w_FLAIR"
    visits = tuple(replace(v, name=f"{name}_{n}") for n, v in enumerate(given.visits))
    given = replace(given, subject=name, visits=visits)
    folder = tmp_path_factory.mktemp("followed")
    files = {"model": f"{name}.onnx"}
    return write_followup_page(given, folder, language="fr", files=files)["html"].as_uri()


@pytest.mark.parametrize("width", [1200, 400, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.width])")
    assert sizes
    assert all(0 < shown <= min(drawn, width) for drawn, shown in sizes)


def test_the_panels_of_a_change_have_one_size(opened):
    page = opened(1200)
    sizes = page.eval_on_selector_all(
        ".change .panels", "all => all.map(p => [...p.querySelectorAll('img')].map(i => i.width))"
    )
    assert sizes
    assert all(len(each) == 3 and len(set(each)) == 1 for each in sizes)


def test_kinds_are_hidden_and_shown_again(opened):
    page = opened(1200)
    row = page.locator("tr.new").first
    assert row.is_visible()
    page.locator("#pair-1 .show-new").uncheck()
    assert not row.is_visible()
    assert page.locator("tr.gone").first.is_visible()
    page.locator("#pair-1 .show-new").check()
    assert row.is_visible()


def test_a_change_leads_to_its_row_and_back(opened):
    page = opened(1200)
    page.locator("figure.change h3 a").first.click()
    name = page.evaluate("document.querySelector(':target').id")
    assert name.endswith("-row")
    page.locator(f"#{name} a").click()
    assert page.evaluate("document.querySelector(':target').tagName") == "FIGURE"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_verdict_stands_out_from_what_it_is_on(opened, scheme):
    page = opened(1200, scheme)
    ink, paper = (
        page.eval_on_selector(each, f"e => getComputedStyle(e).{name}")
        for each, name in ((".verdict p", "color"), ("body", "backgroundColor"))
    )
    levels = [sum(map(int, re.findall(r"\d+", each)[:3])) / 765 for each in (ink, paper)]
    assert abs(levels[0] - levels[1]) > 0.7


def test_it_is_printed_black_on_white_on_sheets_of_a4(opened):
    page = opened(1200, "dark")
    page.locator("#pair-1 .show-new").uncheck()
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)", pdf)
    assert all(
        (float(w), float(h)) == pytest.approx((595.3, 841.9), abs=1.5) for w, h in boxes
    )  # 210 × 297 mm in points
    page.emulate_media(media="print")
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(f"{style}.color") == "rgb(0, 0, 0)"
    assert page.locator("tr.new").first.is_visible()  # paper shows all
