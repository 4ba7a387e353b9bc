"""Sheets of A4."""

import re

import pytest

from segjax.report.patient_facts import Table
from segjax.report.patient_texts import language_of
from segjax.report.sheet import MARGIN, ROW, TEXT, Sheet, within, wrapped, write_sheets


def test_sheets_are_numbered_and_of_a4(tmp_path):
    write_sheets([Sheet(), Sheet()], "A title", tmp_path / "two.pdf", language_of("en"))
    pdf = (tmp_path / "two.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 2
    assert b"(A title)" in pdf
    (width, height) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", pdf)[0]
    assert (float(width), float(height)) == pytest.approx((595.3, 841.9), abs=1)


def test_what_is_written_takes_room():
    sheet = Sheet()
    room = sheet.room
    sheet.heading("Title")
    sheet.table(Table(("a", "b"), (("1", "2"), ("3", "4"))))
    assert room - sheet.room > 2 * ROW
    assert sheet.y > MARGIN


def test_lines_fit_the_width():
    lines = wrapped("word " * 200, TEXT, 8)
    assert len(lines) > 5
    assert " ".join(lines).split() == ["word"] * 200
    assert wrapped("", TEXT, 8) == [""]


def test_pictures_fill_what_room_there_is():
    assert within((3.0, 2.0), (1.0, 1.0)) == (2.0, 2.0)
    assert within((3.0, 20.0), (1.0, 2.0)) == (3.0, 6.0)
