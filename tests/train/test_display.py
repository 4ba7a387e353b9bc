import io
import sys

import pytest

from segjax.train import display
from segjax.train.display import show_training


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(epochs=3, first_step=0):
    with show_training(epochs, 2, first_step=first_step) as shown:
        for epoch in range(first_step // 2, epochs):
            for step in range(2):
                shown.step(epoch * 2 + step + 1, 0.5 if step else None)
            shown.validate(epoch + 1)
            shown.epoch(epoch + 1, 0.25, 0.5 + epoch / 10, 0.8)


def test_log_files_get_one_line_per_epoch(capsys):
    run()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 3
    assert lines[1].startswith("epoch 2/3, loss 0.2500, Dice 0.6000, best 0.8000, 0:00:00 left")


def test_other_hosts_than_the_first_show_nothing(capsys, monkeypatch):
    monkeypatch.setattr(display, "is_first_host", lambda: False)
    run()
    assert capsys.readouterr() == ("", "")


def test_epoch_without_validation_shows_no_dice(capsys):
    with show_training(9, 2) as shown:
        shown.epoch(1, 0.25, None, None)
    assert capsys.readouterr().err.startswith("epoch 1/9, loss 0.2500, 0:")


def test_time_left_is_that_of_the_epochs_so_far(capsys, monkeypatch):
    clock = iter([100.0, 160.0, 220.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    with show_training(64, 2, first_step=4) as shown:  # two epochs were done before
        shown.epoch(3, 0.1, None, None)
        shown.epoch(4, 0.1, None, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("1:01:00 left")  # 61 epochs of a minute
    assert lines[1].endswith("1:00:00 left")


@pytest.mark.parametrize("first_step", [0, 3])
def test_terminal_gets_a_bar_with_epoch_loss_and_best_dice(monkeypatch, first_step):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    run(first_step=first_step)
    shown = terminal.getvalue()
    assert "epoch 3/3" in shown
    assert "loss 0.2500" in shown
    assert "best Dice 0.8000" in shown
    assert "left" in shown
