"""What pages are made of."""

import re

import pytest

from segjax.report import page


def cells(html):
    return re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)


def test_tables_escape_text_round_numbers_and_show_nan_as_a_dash():
    html = page.table(["<case>", "n", "Dice"], [["a & b", 3, 0.12345], ["c", 0, float("nan")]])
    assert cells(html) == [
        "&lt;case&gt;", "n", "Dice", "a &amp; b", "3", "0.123", "c", "0", "–",
    ]  # fmt: skip


def test_what_is_infinite_is_a_sign():
    assert cells(page.table([], [[float("inf"), -float("inf")]])) == ["∞", "−∞"]


def test_dice_is_told_with_its_spread_and_without_a_value_as_dashes():
    html = page.dice_summary({"lesion": [0.25, 0.75], "cyst": []})
    assert cells(html)[8:] == [
        "lesion", "0.500", "0.250 to 0.750", "0.250", "0.500", "0.250", "0.750", "2",
        "cyst", "–", "–", "–", "–", "–", "–", "0",
    ]  # fmt: skip


def test_sizes_of_pictures_are_headed_in_pixels():
    assert page.headings({"truth_ml": 0}) == ["truth (ml)"]
    assert page.headings({"truth_voxels": 0, "mine": 0}) == ["truth (pixels)", "mine"]


def test_measures_are_headed_in_words():
    names = {"dice": 0, "lesionwise_hd95_mm": 0, "recognition_quality": 0}
    assert page.headings(names) == ["Dice", "lesion-wise HD95 (mm)", "recognition quality"]


@pytest.mark.parametrize(("truth", "shown"), [(0.0, "–"), (1.0, "0.250")])
def test_every_metric_of_an_absent_label_is_a_dash(truth, shown):
    row = {"label": "lesion", "dice": 0.5, "mine": 0.25, "truth_ml": truth, "prediction_ml": 2.0}
    found = cells(page.table([], [page.measures(row)]))
    assert found == ["lesion", "0.500" if truth else "–", shown, f"{truth:.3f}", "2.000"]
