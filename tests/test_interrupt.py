"""Ctrl-C, as the system sends it."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from segjax.interrupt import noted, stoppable


def run(done, *, pressed, looks):
    """Loop over five steps; Ctrl-C is pressed in some, and after them the loop may look."""
    with stoppable("stopping: saving first") as stop:
        for step in range(5):
            if step in pressed:
                signal.raise_signal(signal.SIGINT)
            done.append(step)
            if looks:
                stop.check()


def test_first_interrupt_is_a_wish_that_the_loop_fulfils(capsys):
    done = []
    with pytest.raises(KeyboardInterrupt):
        run(done, pressed=[2], looks=True)
    assert done == [0, 1, 2]
    assert capsys.readouterr().err == "stopping: saving first; Ctrl-C again ends at once\n"


def test_second_interrupt_does_not_wait_for_the_loop():
    done = []
    with pytest.raises(KeyboardInterrupt):
        run(done, pressed=[1, 3], looks=False)
    assert done == [0, 1, 2]


def test_loop_that_never_looks_is_followed_by_the_interrupt():
    done = []
    with pytest.raises(KeyboardInterrupt):
        run(done, pressed=[1], looks=False)
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fails", [False, True])
def test_handler_of_before_is_back_afterwards(fails):
    before = signal.getsignal(signal.SIGINT)
    try:
        with stoppable("stopping"):
            assert signal.getsignal(signal.SIGINT) is not before
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_interrupts_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable("stopping") as stop:
            signal.raise_signal(signal.SIGINT)
        assert not stop.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_may_use_it_too():
    seen = []

    def work():
        with stoppable("stopping") as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


BUSY = """
import hashlib, sys
from contextlib import nullcontext
from segjax.interrupt import answer_at_once, noted
with answer_at_once(), noted(sys.argv[1]) if sys.argv[1] else nullcontext():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # compiled code: no handler of Python's runs
"""


@pytest.mark.parametrize(
    ("note", "answer"),
    [
        ("stopping: saving first", "stopping: saving first; Ctrl-C again ends at once\n"),
        ("", "stopping; Ctrl-C again ends at once\n"),
    ],
)
def test_compiled_code_delays_no_answer_and_the_second_interrupt_ends_it(note, answer):
    command = [sys.executable, "-c", BUSY, note]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.1)  # for it to begin
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == answer
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "ended at once: what was saved before is whole\n"
        assert process.wait() == 130


def test_notes_end_with_their_block():
    from segjax import interrupt

    with pytest.raises(ValueError, match="x"), noted("outer"), noted("inner"):
        raise ValueError("x")
    assert interrupt._notes == []
