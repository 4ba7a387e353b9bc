"""``segjax view``, as people start and end it."""

import signal
import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import pytest

from segjax.cli import main
from segjax.data.io.formats import write_volume
from segjax.volume import Volume


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "flair.nii.gz"
    write_volume(Volume(np.zeros((3, 4, 5), np.float32), np.eye(4)), path)
    return path


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page in place of the built one."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("the page")
    monkeypatch.setattr("segjax.viewer._page_folder", lambda: folder)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_it_prints_the_address_serves_and_ends_with_ctrl_c(image, page):
    code = (
        "import sys; from pathlib import Path; import segjax.viewer as viewer\n"
        f"viewer._page_folder = lambda: Path({str(page)!r})\n"
        f"from segjax.cli import main; sys.exit(main(['view', {str(image)!r}, '--no-browser']))"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    assert urlopen(address, timeout=10).read() == b"the page"
    assert process.stdout.readline() == "Ctrl-C ends\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("", "", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.nii"], "absent.nii"),
        (["flair.nii.gz", "--mask", "absent.nii"], "absent.nii"),
        (["flair.nii.gz", "--model", "absent.onnx"], "absent.onnx: no such file"),
        (["flair.nii.gz", "--port", "70000"], "port 70000"),
    ],
)
def test_wrong_files_are_told_in_one_line(arguments, message, image, page, monkeypatch, capsys):
    monkeypatch.chdir(image.parent)
    assert main(["view", *arguments, "--no-browser"]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
