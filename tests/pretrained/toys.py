"""Two models in a folder, in the place of those that come with the library."""

import hashlib
import shutil
from pathlib import Path

from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import BiasFieldCorrection, BrainExtraction, Reorient
from segjax.files import write_json
from tests.test_lean_machine import write_threshold
from tests.test_old_files import OLD

CARD = {
    "name": "over-zero",
    "task": "What is over 0 on a FLAIR",
    "input": "One FLAIR of the whole head, on any grid",
    "labels": ["lesion"],
    "data": "Two synthetic heads",
    "citations": ["A. Author, Journal of Toys 2020"],
    "data_license": "CC-BY-SA-4.0",
    "license": "CC-BY-4.0",
    "attribution": "A. Author and others",
    "recipe": "None: its only weight was chosen by hand",
    "command": "python benchmarks/pretrained.py over-zero",
    "dice": [
        {"on": "another patient", "split": "both patients to train on", "value": 0.741, "cases": 1},
        {"on": "the same", "split": "none", "value": 0.9, "cases": 2, "label": "lesion"},
    ],
    "limits": ["It never saw 7 T", "Small lesions are missed"],
    "intended_use": "For research. Not for diagnosis.",
    "sha256": "0" * 64,
    "parameters": 1,
    "segjax_version": "0.1.0",
}
"""All fields of a card."""


def write_toys(folder: Path) -> Path:
    """Write ``over-zero``, which extracts the brain, ``half``, and the mpunet++ ``old``."""
    folder.mkdir()
    whole = Pipeline((Reorient("RAS"), BrainExtraction(), BiasFieldCorrection()))
    write_threshold(folder / "over-zero.onnx", whole.to_json())
    write_threshold(folder / "half.onnx")
    shutil.copyfile(OLD / "model.onnx", folder / "old.onnx")
    for file in folder.glob("*.onnx"):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        write_json({**CARD, "name": file.stem, "sha256": digest}, file.with_suffix(".json"))
    return folder
