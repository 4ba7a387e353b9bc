"""Parts of others, as docs/extending.md writes them: trained, killed, exported and used."""

import ast
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segjax.data.io.nifti import write_nifti
from segjax.data.phantom.dataset import phantom

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.partition("## And without")[0], re.DOTALL)
LONGEST = 20
SETTINGS = {
    "model": "mylab-net",
    "patch_size": [16, 16, 16],
    "patches_per_case": 2,
    "epochs": 2,
    "optimizer": {"name": "mylab-adabelief", "schedule": "constant"},
    "loss": [{"name": "mylab-focal", "gamma": 1.5}],
    "augment": [{"transform": "mylab-fade", "least": 0.7}],
    "pipeline": [
        {"step": "brain-extraction", "method": "mylab-bright"},
        {"step": "mylab-sharpen", "strength": 0.25},
    ],
}


def test_each_part_takes_few_lines():
    parts = [
        part
        for block in BLOCKS
        for part in ast.parse(block).body
        if isinstance(part, ast.FunctionDef | ast.ClassDef)
    ]
    assert len(parts) == 8
    for part in parts:
        first = min([part.lineno, *(each.lineno for each in part.decorator_list)])
        assert part.end_lineno - first < LONGEST, part.name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a folder with images, and the environment of one who has installed the plug-in."""
    folder = tmp_path_factory.mktemp("lab")
    site = folder / "site"
    (site / "mylab-1.dist-info").mkdir(parents=True)
    (site / "mylab.py").write_text("\n\n".join(BLOCKS), encoding="utf-8")
    (site / "mylab-1.dist-info" / "METADATA").write_text("Name: mylab\nVersion: 1\n")
    points = "[segjax.plugins]\nmylab = mylab\n"
    (site / "mylab-1.dist-info" / "entry_points.txt").write_text(points)
    for name in ("images", "labels", "masks"):
        (folder / name).mkdir()
    for seed in range(5):
        image, label = phantom(seed, shape=(24, 24, 24))
        with (folder / "images" / f"head{seed}.mylab").open("wb") as file:
            np.savez(file, voxels=image.data, affine=image.affine)
        write_nifti(label, folder / "labels" / f"head{seed}.nii.gz")
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    paths = [str(site), str(ROOT), str(ROOT / "export")]
    return folder, os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def segjax(lab, *arguments):
    folder, environment = lab
    command = [sys.executable, "-m", "segjax", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True
    )


def finished(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_parts_of_others_train_go_on_after_a_kill_export_and_predict(lab):
    folder, _ = lab
    train = ("train", "--data", ".", "--config", "settings.json", "--out", "run")
    first = segjax(lab, *train)
    while first.poll() is None and not list(folder.glob("run/checkpoints/[0-9]*")):
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    told = first.communicate()[0]
    assert list(folder.glob("run/checkpoints/[0-9]*")), told
    assert not (folder / "run" / "model.onnx").exists()
    finished(segjax(lab, *train))
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        losses = [row["epoch"] for row in csv.DictReader(file) if row["metric"] == "loss"]
    assert losses == ["1", "2"]
    stored = json.loads((folder / "run" / "config.json").read_text())
    assert [step["step"] for step in stored["pipeline"]] == ["brain-extraction", "mylab-sharpen"]
    finished(segjax(lab, "predict", "run", "images", "-o", "masks/new"))
    assert len(list((folder / "masks" / "new").glob("*.nii.gz"))) == 5
    finished(segjax(lab, "evaluate", "masks/new", "labels", "-o", "scores.csv"))
    assert "volume_error" in (folder / "scores.csv").read_text()


@pytest.mark.slow
def test_a_run_with_parts_that_are_not_there_names_them(lab):
    folder, environment = lab
    without = environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "export")])}
    process = segjax(
        (folder, without), "train", "--data", ".", "--config", "settings.json", "--out", "x"
    )
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "mylab" in output
    assert "Traceback" not in output
