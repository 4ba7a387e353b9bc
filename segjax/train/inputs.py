"""What a training was given: the digests of its cases, and what its images were like."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segjax.data.cache import layout
from segjax.data.cache.cache import CachedCase
from segjax.data.cases import Case, LoadedCase
from segjax.data.loader import TrainingCase
from segjax.data.seen import Seen, Sight, intensity_spans, seen_in
from segjax.errors import InputError
from segjax.files import atomic_path, read_json
from segjax.grid import Grid
from segjax.train.cases import Chosen
from segjax.train.config import TrainConfig

__all__ = ["INPUTS_FILE", "check_inputs", "read_seen", "write_inputs"]

INPUTS_FILE = "inputs.json"
_SWEEP_FILE = "sweep.json"  # beside the folder of all runs of a sweep


def check_inputs(run: Path, cases: Chosen, *, begun: bool = True) -> dict[str, Any]:
    """Refuse to go on with a training whose images or labels have changed since it began.

    Args:
        run: Folder of the training; nothing is compared where it holds no :data:`INPUTS_FILE`.
        cases: Its cases as they are now.
        begun: Whether anything was learned from them yet; else nothing is compared.

    Returns:
        What identifies every case now, by name: for :func:`write_inputs`.

    Raises:
        InputError: A file cannot be read, or has changed.
    """
    before = _read(run).get("cases", {}) if begun else {}
    now = {case.name: _identify(case, before.get(case.name, {})) for part in cases for case in part}
    for name, found in now.items():
        if name in before and _digests(before[name]) != _digests(found):
            raise InputError(
                f"{_changed(before[name], found)}: case '{name}' has changed since the training in "
                f"{run} began; put it back, or give another folder to train anew"
            )
    return now


def write_inputs(
    run: Path, identities: Mapping[str, Any], config: TrainConfig, cases: Iterable[TrainingCase]
) -> None:
    """Write what :func:`check_inputs` found, and what the images of the training are like.

    Args:
        run: Folder of the training.
        identities: What :func:`check_inputs` returned.
        config: Its configuration.
        cases: The training cases, preprocessed.

    Raises:
        InputError: The file cannot be written.
    """
    seen = seen_in(_sight(case, config) for case in cases)
    content = {"seen": seen.to_json(), "cases": dict(identities)}
    with atomic_path(run / INPUTS_FILE, overwrite=True) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_seen(run: Path) -> Seen | None:
    """Read what the images of a training were like; None where its run does not tell.

    Args:
        run: Folder of the training, which may be a part of a sweep.

    Raises:
        InputError: What it tells cannot be understood.
    """
    whole = run.absolute().parent.parent
    stored = (_read(run) or (_read(whole) if (whole / _SWEEP_FILE).exists() else {})).get("seen")
    return None if stored is None else Seen.from_json(stored)


def _read(run: Path) -> dict[str, Any]:
    path = run / INPUTS_FILE
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    return content


def _identify(case: Case | CachedCase, before: Mapping[str, Any]) -> dict[str, Any]:
    coding = {} if case.coding.plain else {"coding": case.coding.to_json()}
    if isinstance(case, CachedCase):
        return {"cached": case.digest, **coding}
    return {"sources": layout.sources(layout.files_of(case), before), **coding}


def _digests(identity: Mapping[str, Any]) -> Any:
    if "cached" in identity:
        return identity["cached"]
    return [source["digest"] for source in identity["sources"]], identity.get("coding")


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the first file that is another one than before."""
    then = {source["digest"] for source in before.get("sources", ())}
    changed = [s["path"] for s in now.get("sources", ()) if s["digest"] not in then]
    if changed:
        return changed[0]
    return "the cache" if "cached" in now else "what the values of the labels stand for"


def _sight(case: TrainingCase, config: TrainConfig) -> Sight:
    if isinstance(case, CachedCase):
        return Sight(case.grids[0], case.grids[-1], case.spans)
    first, last = _ends(case, config)
    return Sight(first, last, intensity_spans(case.image))


def _ends(case: LoadedCase, config: TrainConfig) -> tuple[Grid, Grid]:
    grids = case.grids or config.pipeline.grids(case.volume)
    first = Grid(case.volume.spatial_shape, case.volume.affine)
    return (grids[0], grids[-1]) if grids else (first, first)
