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
    "brains", "cache", "flair.nii.gz", "lesions.dcm", "lesions.nii.gz", "masks", "model.onnx",
    "patients", "patients.csv", "run", "scan", "slice.png", "slices", "structures.dcm", "sweep",
    "t1.nii.gz",
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
            environ = environment() | {"JAX_COMPILATION_CACHE_DIR": str(folder.with_suffix(".jax"))}
            subprocess.run([sys.executable, HERE / "world.py", made], check=True, env=environ)
            made.rename(folder)
    return folder


def environment() -> dict[str, str]:
    """Return the environment of the programs: this checkout, and programs kept for the others."""
    root = HERE.parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "export")])}
