"""From Orthanc to a watched folder and back, over the loopback interface."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from segjax.cli import main
from tests.data.io.dicom.made import write_made
from tests.docs.run_page import blocks
from tests.tiny_network import write_network

PAGE = Path(__file__).parents[1] / "docs" / "watch.md"
PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")


class Server:
    """A running Orthanc."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"

    def get(self, path):
        with urlopen(self.address + path) as answer:
            return answer.read()

    def post(self, path, content):
        with urlopen(Request(self.address + path, content, method="POST")) as answer:
            return json.loads(answer.read())


@pytest.fixture
def server(tmp_path):
    """Start Orthanc with an empty store, which nothing outside this machine can reach."""
    if PROGRAM is None:
        pytest.skip("needs Orthanc: apt install orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [],
    }
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(config))
    with (tmp_path / "orthanc.log").open("w") as log:
        process = subprocess.Popen([PROGRAM, file], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield await_answer(Server(port), process)
    finally:
        process.terminate()
        process.wait(20)


def await_answer(server, process):
    for _ in range(200):
        assert process.poll() is None, "Orthanc ended"
        try:
            server.get("/system")
            return server
        except URLError:
            time.sleep(0.1)
    raise TimeoutError("Orthanc does not answer")


@pytest.mark.slow
def test_a_series_goes_from_orthanc_through_the_folder_and_its_mask_back(server, tmp_path):
    (script,) = (block.code for block in blocks(PAGE.read_text()) if block.file == "orthanc.py")
    (tmp_path / "orthanc.py").write_text(script)
    for file in write_made(tmp_path / "scan", "oblique").iterdir():
        server.post("/instances", file.read_bytes())
    inbox, out = tmp_path / "in", tmp_path / "out"
    bring = [sys.executable, tmp_path / "orthanc.py", server.address, inbox, out]
    model = write_network(tmp_path / "model.onnx", over=400)
    command = ["watch", str(inbox), str(out), "--model", str(model), "--dicom"]

    subprocess.run(bring, check=True)
    assert main([*command, "--once", "--settle", "0"]) == 0
    subprocess.run(bring, check=True)

    (study,) = json.loads(server.get("/studies"))
    query = {"Level": "Instance", "Query": {"Modality": "SEG"}}
    (segmentation,) = server.post("/tools/find", json.dumps(query).encode())
    (file,) = (out / study).glob("*.seg.dcm")
    assert server.get(f"/instances/{segmentation}/file") == file.read_bytes()
    assert json.loads(server.get(f"/instances/{segmentation}/study"))["ID"] == study

    subprocess.run(bring, check=True)  # mask and report come along, and are no new images
    assert len(list((inbox / study).iterdir())) == 5 + 2
    assert main([*command, "--once", "--settle", "0"]) == 0
    assert len((out / "watch.jsonl").read_text().splitlines()) == 1
