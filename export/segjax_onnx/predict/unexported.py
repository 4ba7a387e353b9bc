"""Folders that hold no exported network yet: what they hold instead, and what to do."""

from pathlib import Path

from segjax.pretrained.shipped import hidden_model
from segjax.runs.folder import RunFolder


def what_to_do(folder: Path) -> str:
    """Say what a folder holds that has no ``model.onnx``, and how to get one.

    Args:
        folder: Of a run, of a sweep, or any other.
    """
    run = RunFolder(folder)
    if run.kind == "sweep":
        return "run the same segjax sweep again to finish and export it, or name one of its runs"
    if run.kind != "run":
        return f"name the folder of a run that has one, or an ONNX file{hidden_model(folder)}"
    return _run_to_do(folder, run)


def _run_to_do(folder: Path, run: RunFolder) -> str:
    if run.epoch is None:
        if run.result.is_file():
            return "its training failed before it had learned anything"
        return "its training has learned nothing yet: run the same segjax train again"
    if run.is_finished:
        return f"its training is finished: 'segjax export {folder}' makes the file"
    return (
        f"its training is at epoch {run.epoch}: go on with it, or take what it has learned "
        f"so far ('segjax export {folder}' makes the file)"
    )
