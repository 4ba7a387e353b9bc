"""Folders that hold no exported network yet: what they hold instead, and what to do."""

from pathlib import Path
from typing import Any

from segjax.errors import InputError
from segjax.files import read_json


def what_to_do(folder: Path) -> str:
    """Say what a folder holds that has no ``model.onnx``, and how to get one.

    Args:
        folder: Of a run, of a sweep, or any other.
    """
    if (folder / "sweep.json").is_file():
        return "run the same segjax sweep again to finish and export it, or name one of its runs"
    if not (folder / "config.json").is_file():
        return "name the folder of a run that has one, or an ONNX file"
    progress = _progress(folder)
    if progress is None:
        if (folder / "result.json").is_file():
            return "its training failed before it had learned anything"
        return "its training has learned nothing yet: run the same segjax train again"
    if (folder / "result.json").is_file() or _is_finished(progress, folder / "config.json"):
        return f"its training is finished: 'segjax export {folder}' makes the file"
    return (
        f"its training is at epoch {progress['epoch']}: go on with it, or take what it has learned "
        f"so far ('segjax export {folder}' makes the file)"
    )


def _progress(folder: Path) -> dict[str, int] | None:
    """Return how far the newest checkpoint is; None where there is none that can be read."""
    steps = [path for path in folder.glob("checkpoints/*") if path.name.isdecimal()]
    for step in sorted(steps, key=lambda path: int(path.name), reverse=True):
        try:
            meta = read_json(step / "content" / "metadata")["meta"]
            return {name: int(meta.get(name, 0)) for name in ("epoch", "stale")}
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return None


def _is_finished(progress: dict[str, int], config: Path) -> bool:
    settings: Any = read_json(config)
    if not isinstance(settings, dict):
        raise InputError(f"{config}: holds no JSON object; is it the folder of a training?")
    tired = settings.get("patience") is not None and progress["stale"] >= settings["patience"]
    return bool(tired or progress["epoch"] >= settings.get("epochs", 0))
