"""The plot of loads over time."""

from dataclasses import replace

import numpy as np
import pytest

from segjax.report.followup_facts import Content
from segjax.report.followup_plots import draw_loads
from segjax.report.followup_texts import followup_language
from segjax.report.style import new_figure
from tests.followed_up import SHAPE, follow_up_of, followed


def drawn(given, language="en"):
    axes = new_figure((4.0, 2.0)).subplots()
    draw_loads(axes, Content(given, (), {}, followup_language(language)))
    return axes


def test_loads_stand_over_the_days():
    (line,) = drawn(followed(days=(203, 180))).lines
    assert line.get_xdata().tolist() == [0, 203, 383]
    assert line.get_ydata() == pytest.approx([1.56, 2.4, 2.4])


def test_loads_stand_over_the_days_where_dates_are_hidden():
    given = followed(days=(203, 180))
    given = replace(given, visits=tuple(replace(visit, date=None) for visit in given.visits))
    (line,) = drawn(given).lines
    assert line.get_xdata().tolist() == [0, 203, 383]


def test_without_dates_visits_stand_at_equal_distances():
    axes = drawn(followed(days=(None, None)), "fr")
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["visit 1", "visit 2", "visit 3"]
    assert "1,56" in [text.get_text() for text in axes.texts]
    assert "0,50" in [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks()]


def test_labels_differ_by_marker_and_have_a_legend():
    masks = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    masks[1][4:8, 4:8, 4:8], masks[1][20:24, 4:8, 4:8] = 1, 2
    given = follow_up_of(
        masks, np.zeros(SHAPE, np.int32), (), labels=("background", "lesion", "black hole")
    )
    axes = drawn(given)
    assert len({line.get_marker() for line in axes.lines}) == 2
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["lesion", "black hole"]


def test_visits_without_a_mask_have_no_point():
    given = followed()
    first, second = given.visits
    given = replace(given, visits=(first, replace(second, mask=None, loads=())))
    assert drawn(given).lines[0].get_xdata().tolist() == [0]


def test_names_of_many_visits_are_turned():
    axes = drawn(followed(days=(30,) * 6))
    assert {tick.get_rotation() for tick in axes.get_xticklabels()} == {45.0}


def test_long_names_are_cut_in_their_middle():
    given = followed(days=(None,))
    long = replace(given.visits[0], name="sub-0123_ses-20260301_acq-3dsagittal_FLAIR")
    axes = drawn(replace(given, visits=(long, given.visits[1])))
    assert axes.get_xticklabels()[0].get_text() == "sub-0123_ses…gittal_FLAIR"


def test_a_visit_that_is_named_by_its_date_tells_it_once():
    given = followed()
    dated = replace(given.visits[0], name="2024-01-31")
    axes = drawn(replace(given, visits=(dated, given.visits[1])))
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names == ["2024-01-31", "visit 2\n2024-08-21"]
