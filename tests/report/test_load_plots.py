"""Plots of volumes: what they show, and which numbers they refuse."""

import re

import pytest

from segjax.errors import InputError
from segjax.report.load_plots import dice_against_load, load_agreement

TRUTH = {"a": 2.0, "b": 5.0, "c": 9.0, "d": 14.0}
FOUND = {"d": 12.0, "a": 2.5, "b": 4.0, "c": 9.5}  # in another order


def words(svg):
    """What is written in a picture: matplotlib keeps texts as comments beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"))


def test_bias_and_limits_of_agreement_are_written_on_the_plot(tmp_path):
    load_agreement(TRUTH, FOUND, tmp_path / "loads.svg", title="lesion")
    # differences 0.5, -1, 0.5, -2: mean -0.5, standard deviation 1.2247
    told = words(tmp_path / "loads.svg")
    for text in ("bias -0.50", "lower limit -2.90", "upper limit 1.90"):
        assert text in [one.replace("−", "-").strip() for one in told]


def test_rank_correlation_of_dice_and_load_is_told(tmp_path):
    dice = {"a": 0.3, "b": 0.6, "c": 0.7, "d": 0.9}
    dice_against_load(TRUTH, dice, tmp_path / "dice.svg")
    assert any("Spearman 1.00" in text for text in words(tmp_path / "dice.svg"))
    flat = dict.fromkeys(TRUTH, 0.5)  # has no ranks
    dice_against_load(TRUTH, flat, tmp_path / "flat.svg")
    assert not any("Spearman" in text for text in words(tmp_path / "flat.svg"))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (TRUTH, {"a": 1.0}, "the two have other cases"),
        ({"a": 1.0}, {"a": 1.0}, "a figure needs 3 or more"),
        ({**TRUTH, "a": 0.0}, TRUTH, "leave out the cases without the label"),
    ],
)
def test_numbers_that_make_no_plot_are_refused(tmp_path, one, other, said):
    with pytest.raises(InputError, match=said):
        dice_against_load(one, other, tmp_path / "dice.png")
    assert not (tmp_path / "dice.png").exists()
