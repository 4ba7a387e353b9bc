"""Read DICOM slices with dcm2niix, in a process and a folder of its own."""

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from segjax.data.io.nifti import read_nifti
from segjax.errors import InputError
from segjax.extras import how_to_install
from segjax.grid import orientation, reorient
from segjax.volume import Volume

__all__ = ["find_dcm2niix", "read_with_dcm2niix"]

_OPTIONS = (
    "-b", "n",  # no JSON
    "-z", "n",  # uncompressed
    "-p", "n",  # scaled by the rescale slope, not by Philips' private one
    "-m", "n",  # nothing merged
    "-x", "i",  # 3D acquisitions neither cropped nor turned
    "-f", "volume",
)  # fmt: skip
_LONGEST = 600  # seconds


def read_with_dcm2niix(
    files: Sequence[Path], affine: Float64[np.ndarray, "4 4"], name: str, *, instead: str = ""
) -> Volume:
    """Convert the files of one volume and read the result.

    dcm2niix turns the rows round, which changes the affine and no voxel's place: the volume comes
    back with its axes along those of the given affine.

    Args:
        files: All files of the volume.
        affine: Affine of the volume as DICOM has it, of which the directions count.
        name: What to call the volume in messages.
        instead: End of the messages: what else can be done.

    Raises:
        InputError: dcm2niix is not installed, fails, or makes other than one volume of the files.
    """
    program = find_dcm2niix()
    with tempfile.TemporaryDirectory(prefix="segjax-") as folder:
        given, made = Path(folder) / "dicom", Path(folder) / "nifti"
        given.mkdir()
        made.mkdir()
        for number, file in enumerate(files):
            _lend(file.resolve(), given / f"{number:06d}.dcm")
        said = _run([program, *_OPTIONS, "-o", str(made), str(given)], name, instead)
        volumes = sorted(made.glob("*.nii"))
        if len(volumes) != 1:
            raise InputError(
                f"{name}: dcm2niix makes {len(volumes)} volumes of these files ({said}){instead}"
            )
        return reorient(read_nifti(volumes[0]), orientation(affine))


def find_dcm2niix() -> str:
    """Return the program of the PyPI package, else the one on the path.

    Raises:
        InputError: It is not installed.
    """
    if importlib.util.find_spec("dcm2niix"):
        return importlib.import_module("dcm2niix").bin
    program = shutil.which("dcm2niix")
    if program is None:
        raise InputError(f"dcm2niix is not installed: {how_to_install('dicom')}")
    return program


def _lend(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file)
    except OSError:  # Windows asks for a right that most users lack
        shutil.copyfile(file, link)


def _run(command: Sequence[str], name: str, instead: str) -> str:
    """Run a program and return the last line it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{name}: dcm2niix cannot be run or does not end: {error}") from error
    said = (done.stderr + done.stdout).strip().splitlines() or ["no output"]
    if done.returncode:
        raise InputError(
            f"{name}: dcm2niix failed with code {done.returncode}: {said[-1]}{instead}"
        )
    return said[-1]
