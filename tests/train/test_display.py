import io
import sys

import pytest

from segjax import progress
from segjax.train import display
from segjax.train.display import show_resumption, show_training


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
    assert len(lines) == 4
    assert lines[0] == "compiling …"
    assert lines[2].startswith("epoch 2/3, loss 0.2500, Dice 0.6000, best 0.8000, 0:00:00 left")


def test_terminal_gets_the_same_lines_where_rich_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run()
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_other_hosts_than_the_first_show_nothing(capsys, monkeypatch):
    monkeypatch.setattr(display, "is_first_host", lambda: False)
    run()
    assert capsys.readouterr() == ("", "")


def test_epoch_without_validation_shows_no_dice(capsys):
    with show_training(9, 2) as shown:
        shown.epoch(1, 0.25, None, None)
    assert capsys.readouterr().err.splitlines()[1].startswith("epoch 1/9, loss 0.2500, 0:")


def test_time_left_is_that_of_the_epochs_so_far(capsys, monkeypatch):
    clock = iter([100.0, 160.0, 220.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with show_training(64, 2, first_step=4) as shown:  # two epochs were done before
        shown.epoch(3, 0.1, None, None)
        shown.epoch(4, 0.1, None, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].endswith("1:01:00 left")  # 61 epochs of a minute
    assert lines[2].endswith("1:00:00 left")


@pytest.mark.parametrize("first_step", [0, 3])
def test_terminal_tells_of_the_compiler_until_there_is_a_loss(monkeypatch, first_step):
    monkeypatch.setattr(sys, "stderr", Terminal())
    epoch = first_step // 2 + 1
    with show_training(3, 2, first_step=first_step) as shown:
        assert f"epoch {epoch}/3: compiling …" in described(shown)
        shown.step(first_step + 1, None)
        assert "compiling" in described(shown)
        shown.step(first_step + 2, 0.5)
        assert "compiling" not in described(shown)


def described(shown):
    return shown._progress.tasks[0].description


@pytest.mark.parametrize(
    ("done", "first_step", "said"),
    [
        (0, 0, ""),
        (3, 6, "goes on after epoch 3 of 8 (step 6 of 16)\n"),
        (3, 7, "goes on in epoch 4 of 8 (step 7 of 16)\n"),
        (3, 8, "goes on in epoch 4 of 8 (step 8 of 16)\n"),  # before its validation
    ],
)
def test_training_that_goes_on_says_where(done, first_step, said, capsys):
    show_resumption(8, 2, done=done, first_step=first_step)
    assert capsys.readouterr() == ("", said)


def test_epoch_that_lacked_its_validation_alone_tells_no_time(capsys):
    with show_training(3, 2, first_step=2) as shown:
        shown.epoch(1, 0.25, 0.5, 0.5)
    assert (
        capsys.readouterr().err.splitlines()[1]
        == "epoch 1/3, loss 0.2500, Dice 0.5000, best 0.5000"
    )


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
