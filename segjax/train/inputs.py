"""What a training was given: the digests of its cases, and what its images were like."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segjax.codec import from_json
from segjax.data.cases import StoredCase
from segjax.data.loaded import TrainingCase
from segjax.data.seen import Seen, seen_in
from segjax.errors import InputError
from segjax.files import read_json_object, write_json
from segjax.runs.folder import RunFolder
from segjax.train.cases import Chosen
from segjax.train.config import TrainConfig

__all__ = ["check_inputs", "read_seen", "write_inputs"]


def check_inputs(run: Path, cases: Chosen, *, begun: bool = True) -> dict[str, Any]:
    """Refuse to go on with a training whose images or labels have changed since it began.

    Args:
        run: Folder of the training; nothing is compared where it holds no ``inputs.json``.
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
    seen = seen_in(case.sight(config.pipeline) for case in cases)
    content = {"seen": seen.to_json(), "cases": dict(identities)}
    write_json(content, RunFolder(run).inputs, overwrite=True, indent=1)


def read_seen(run: Path) -> Seen | None:
    """Read what the images of a training were like; None where its run does not tell.

    Args:
        run: Folder of the training, which may be a part of a sweep.

    Raises:
        InputError: What it tells cannot be understood.
    """
    whole = RunFolder(run).sweep
    stored = (_read(run) or (_read(whole.path) if whole else {})).get("seen")
    where = f"{RunFolder(run).inputs}: seen"
    return None if stored is None else from_json(Seen, stored, where=where)


def _read(run: Path) -> dict[str, Any]:
    path = RunFolder(run).inputs
    return read_json_object(path) if path.exists() else {}


def _identify(case: StoredCase, before: Mapping[str, Any]) -> dict[str, Any]:
    coding = {} if case.coding.plain else {"coding": case.coding.to_json()}
    return {**case.identity(before), **coding}


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
