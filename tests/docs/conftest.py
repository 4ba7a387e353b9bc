"""One world for all pages and docstrings, however many processes run them."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONTENTS = {
    "bids", "brains", "cache", "flair.nii.gz", "lesions.dcm", "lesions.nii.gz", "masks",
    "model.onnx", "patients", "patients.csv", "run", "scan", "slice.png", "slices",
    "structures.dcm", "sweep", "t1.nii.gz",
}  # fmt: skip
"""What the world holds, as world.py makes it."""


@pytest.fixture(scope="session")
def world(tmp_path_factory, worker_id):
    """Return the folder of the images and the run that pages and docstrings name."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "world"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.with_suffix(".made")
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            program = [sys.executable, HERE / "world.py", made]
            subprocess.run(program, check=True, env=environment(folder))
            made.rename(folder)
    return folder


def environment(world: Path) -> dict[str, str]:
    """Return the environment of a program: this checkout, and what others compiled."""
    root = HERE.parents[1]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "export")]),
        "JAX_COMPILATION_CACHE_DIR": str(world.with_suffix(".jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
