"""Progress of loops."""

import io
import sys
import time
from types import SimpleNamespace

import pytest

from segjax import progress
from segjax.progress import track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    """Return a function that puts a stream in the place of stderr for the rest of the test."""

    def put(stream):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        return stream

    return put


def clock(monkeypatch, *times):
    ticks = iter(times)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


def test_items_pass_through_in_order(stderr):
    log = stderr(io.StringIO())
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert log.getvalue() == ""


def test_short_loops_show_nothing_on_a_terminal(stderr):
    terminal = stderr(Terminal())
    assert list(track("abc", "Reading")) == ["a", "b", "c"]
    assert terminal.getvalue() == ""


def test_long_loops_show_a_bar_even_within_the_first_item(stderr, monkeypatch):
    terminal = stderr(Terminal())
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    for _ in track([1, 2], "Predicting", unit="volume"):
        time.sleep(0.15)
        if "0/2" in terminal.getvalue():
            break
    shown = terminal.getvalue()
    assert "Predicting" in shown
    assert "volumes" in shown
    assert "left" in shown


def test_the_bar_ends_when_the_loop_fails(stderr, monkeypatch):
    terminal = stderr(Terminal())
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    items = track(iter("ab"), "Predicting", total=2)
    next(items)
    time.sleep(0.1)
    items.close()
    shown = terminal.getvalue()
    assert shown.endswith(("\x1b[?25h", "\n"))
    assert "\x1b[?25h" in shown  # the cursor is back


def test_log_files_get_a_line_every_thirty_seconds(stderr, monkeypatch):
    log = stderr(io.StringIO())
    clock(monkeypatch, 0.0, 10.0, 31.0, 40.0, 61.5, 3700.0)
    list(track(range(5), "Training", unit="epoch"))
    assert log.getvalue().splitlines() == [
        "Training: 2/5 epochs, 0:00:31, 0:00:46 left",
        "Training: 4/5 epochs, 0:01:02, 0:00:15 left",
        "Training: 5/5 epochs, 1:01:40, 0:00:00 left",
    ]


def test_terminals_get_lines_where_rich_is_missing(stderr, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    screen = stderr(Terminal())
    clock(monkeypatch, 0.0, 31.0)
    list(track(range(1), "Training", unit="epoch"))
    assert screen.getvalue() == "Training: 1/1 epochs, 0:00:31, 0:00:00 left\n"


def test_unknown_totals_are_left_out(stderr, monkeypatch):
    log = stderr(io.StringIO())
    clock(monkeypatch, 0.0, 45.0)
    list(track(iter("a"), "Reading"))
    assert log.getvalue() == "Reading: 1 cases, 0:00:45\n"


def test_a_loop_inside_another_one_has_a_bar_below_while_it_lasts(stderr, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    screen = stderr(Terminal())
    inner = []
    for _ in track(range(2), "Outside"):
        for item in track("ab", "Inside", unit="image"):
            time.sleep(0.3)
            inner.append(item)
    assert inner == ["a", "b", "a", "b"]
    shown = screen.getvalue()
    assert "Outside" in shown
    assert "Inside" in shown
    assert "images" in shown
    last = shown.rpartition("Outside")[2]
    assert "2/2" in last
    assert "Inside" not in last


def test_a_short_loop_inside_another_one_shows_nothing(stderr, monkeypatch):
    screen = stderr(Terminal())
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    outer = track(range(2), "Outside")
    next(outer)
    monkeypatch.setattr(progress, "_PATIENCE", 5.0)
    assert list(track("ab", "Inside")) == ["a", "b"]
    time.sleep(0.15)
    outer.close()
    assert "Outside" in screen.getvalue()
    assert "Inside" not in screen.getvalue()


def test_log_files_get_no_lines_of_a_loop_inside_another_one(stderr, monkeypatch):
    log = stderr(io.StringIO())
    clock(monkeypatch, 0.0, 31.0)
    for _ in track(range(1), "Outside"):
        assert list(track("ab", "Inside")) == ["a", "b"]
    assert log.getvalue() == "Outside: 1/1 cases, 0:00:31, 0:00:00 left\n"


def test_the_next_loop_shows_again_after_one_that_failed(stderr, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    screen = stderr(Terminal())

    def fail():
        for _ in track(range(2), "Broken"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    for _ in track(range(2), "Whole"):
        time.sleep(0.1)
    assert "Whole" in screen.getvalue()
