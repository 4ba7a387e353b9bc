"""HD-BET, where it is installed: its command, or its Python package, version 1 or 2."""

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segjax.data.io.nifti import read_nifti, write_nifti
from segjax.errors import InputError
from segjax.progress import track
from segjax.volume import Volume

Device = Literal["cpu", "cuda", "mps"]

_HOW = (
    "HD-BET is not installed: 'pip install hd-bet' puts it into this environment (with PyTorch; "
    "its weights are downloaded on first use), or choose the method 'classical'"
)


def hd_bet_mask(image: Volume, device: Device | None = None) -> Volume:
    """Return the brain mask that HD-BET finds, on the image's grid.

    The command ``hd-bet`` is run where the search path has it, else the package ``HD_BET`` is
    called in this process. Without mirroring on a CPU, as its authors recommend.

    Args:
        image: A head without channel axis.
        device: Where HD-BET computes; by default a GPU where ``nvidia-smi`` is found, else the
            CPU.

    Raises:
        InputError: HD-BET is not installed, fails, or leaves no mask.
    """
    if device is None:
        device = "cuda" if shutil.which("nvidia-smi") else "cpu"
    with tempfile.TemporaryDirectory(prefix="segjax-hd-bet-") as folder:
        source, target = Path(folder, "image.nii.gz"), Path(folder, "brain.nii.gz")
        write_nifti(image.with_data(image.data.astype(np.float32)), source)
        for _ in track(range(1), "Running HD-BET", unit="image"):
            _extract(source, target, device)
        masks = [Path(folder, f"brain_{end}.nii.gz") for end in ("bet", "mask")]  # version 2, 1
        written = next((mask for mask in masks if mask.is_file()), None)
        if written is None:
            raise InputError("HD-BET wrote no mask: run hd-bet by hand on the image to see why")
        return image.with_data(read_nifti(written).data > 0)


def check_installed() -> None:
    """Raise InputError, which says how to get HD-BET, where it is not installed."""
    if not shutil.which("hd-bet") and not importlib.util.find_spec("HD_BET"):
        raise InputError(_HOW)


def _extract(source: Path, target: Path, device: Device) -> None:
    check_installed()
    if command := shutil.which("hd-bet"):
        _run(command, source, target, device)
    else:
        _call(source, target, device)


def _run(command: str, source: Path, target: Path, device: Device) -> None:
    options = ["-i", str(source), "-o", str(target), *_options(_help(command), device)]
    done = subprocess.run([command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise InputError(f"hd-bet failed with exit status {done.returncode}: {last}")


def _options(help_text: str, device: Device) -> list[str]:
    """Return the options of the version that has this help text."""
    if "--save_bet_mask" in help_text:
        options = ["-device", device, "--save_bet_mask", "--no_bet_image"]
        return [*options, "--disable_tta"] if device == "cpu" else options
    if device == "cpu":
        return ["-device", "cpu", "-mode", "fast", "-tta", "0", "-s", "1"]
    return ["-device", "0", "-mode", "accurate", "-tta", "1", "-s", "1"]


@cache
def _help(command: str) -> str:
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _call(source: Path, target: Path, device: Device) -> None:
    try:
        if importlib.util.find_spec("HD_BET.hd_bet_prediction"):
            prediction = importlib.import_module("HD_BET.hd_bet_prediction")
            prediction.hdbet_predict(
                str(source),
                str(target),
                _predictor(device),
                keep_brain_mask=True,
                compute_brain_extracted_image=False,
            )
        else:
            run = importlib.import_module("HD_BET.run")
            slow = device == "cpu"
            run.run_hd_bet(
                str(source),
                str(target),
                mode="fast" if slow else "accurate",
                device="cpu" if slow else 0,
                do_tta=not slow,
                keep_mask=True,
            )
    except Exception as error:  # whatever PyTorch, nnU-Net or a download raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"HD-BET failed: {reason[0]}") from error


@cache
def _predictor(device: Device) -> Any:
    """Return version 2's network, loaded once; its weights are downloaded on first use."""
    import torch

    importlib.import_module("HD_BET.checkpoint_download").maybe_download_parameters()
    prediction = importlib.import_module("HD_BET.hd_bet_prediction")
    return prediction.get_hdbet_predictor(use_tta=device != "cpu", device=torch.device(device))
