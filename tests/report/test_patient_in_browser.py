"""A patient's page in Chromium: it asks for nothing, and can be read on a phone and on paper."""

import re

import numpy as np
import pytest

from segjax.evaluate.measure import measure_mask
from segjax.report.patient import Patient, write_patient
from segjax.volume import Volume

pytestmark = pytest.mark.browser

pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page in French, whose words are the longest, of 40 lesions and with all that may warn."""
    rng = np.random.default_rng(0)
    image, mask = np.zeros((60, 70, 40), np.float32), np.zeros((60, 70, 40), np.uint8)
    image[4:56, 4:66, 2:38] = rng.uniform(60, 140, (52, 62, 36))
    mask[30:45, 30:40, 0:14] = 1
    mask[6:54:6, 6:60:12, 20:36:8] = 1
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    image, mask = Volume(image, affine), Volume(mask, affine)
    brain = image.with_data((image.data > 0).astype(np.uint8))
    found = measure_mask(mask, labels=("background", "lesion"), image=image, brain=brain)
    name = "sub-0123_ses-20260301_acq-3dsagittal_desc-preprocessed_space-T1w_FLAIR"
    given = Patient(
        name, image, mask, found, brain=brain, doubts=None, criteria=("rano", "recist-1.1"),
        files={"image": f"{name}.nii.gz", "mask": f"{name}_dseg.nii.gz"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("patient")
    (page,) = write_patient(given, folder / "page.html", language="fr", seconds=3.0)
    return page.as_uri()


@pytest.mark.parametrize("width", [1200, 400, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.width])")
    assert sizes
    assert all(0 < shown <= min(drawn, width) for drawn, shown in sizes)


def test_no_word_of_a_table_is_broken_on_a_phone(opened):
    page = opened(400)
    heights = page.eval_on_selector_all(
        "thead + tbody tr", "rows => rows.map(row => row.getBoundingClientRect().height)"
    )
    assert max(heights) < 90  # three lines


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_is_on(opened, scheme):
    page = opened(1200, scheme)
    for selector, behind in (("h1", "body"), (".banner", ".banner"), ("td", ".scroll")):
        ink, paper = (
            page.eval_on_selector(each, f"e => getComputedStyle(e).{name}")
            for each, name in ((selector, "color"), (behind, "backgroundColor"))
        )
        levels = sorted(
            0.05
            + sum(
                w * (int(v) / 255) ** 2.2
                for w, v in zip((0.2126, 0.7152, 0.0722), found, strict=False)
            )
            for found in (re.findall(r"\d+", ink), re.findall(r"\d+", paper))
        )
        assert levels[1] / levels[0] > 7  # WCAG's AAA


def test_a_lesion_leads_to_its_slice_and_back(opened):
    page = opened(1200)
    page.click("#lesion-1-1 a")
    assert page.evaluate("location.hash") == "#slice-1"
    page.click('#slice-1 a[href="#lesion-1-1"]')
    assert page.evaluate("document.querySelector(':target').id") == "lesion-1-1"


def test_lesions_that_are_folded_away_can_be_unfolded(opened):
    page = opened(400)
    assert not page.is_visible("#lesion-1-30")
    page.click("summary")
    assert page.is_visible("#lesion-1-30")


def test_it_is_printed_black_on_white_on_few_sheets_of_a4(opened):
    page = opened(1200, "dark")
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)", pdf)
    assert all(
        (float(w), float(h)) == pytest.approx((595.3, 841.9), abs=1.5) for w, h in boxes
    )  # 210 × 297 mm in points
    page.emulate_media(media="print")
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(f"{style}.color") == "rgb(0, 0, 0)"
