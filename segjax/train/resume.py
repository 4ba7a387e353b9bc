"""Whether a training may start or go on in a folder, and what identifies it there."""

import dataclasses
from pathlib import Path

from segjax.data.splits import Split, read_split, write_split
from segjax.errors import InputError
from segjax.registry import HANDED
from segjax.runs.folder import RunFolder
from segjax.train.config import TrainConfig, differences, read_config, write_config

__all__ = ["check_run", "check_split", "write_run"]

_OF_ANY_LENGTH = "constant"  # a schedule that does not depend on the number of epochs
_SHOWN = 4  # names in a message


def check_run(run: Path, config: TrainConfig, split: Split, *, resume: bool) -> None:
    """Refuse a folder in which this training may not start, nor go on.

    A training may go on for more epochs than it was begun with, where its learning rate does not
    depend on their number.

    Args:
        run: Folder of the run; need not exist.
        config: What is to be trained.
        split: On which cases.
        resume: Whether a training that is there may go on.

    Raises:
        InputError: The folder holds another training, or files of that name that are no run.
    """
    folder = RunFolder(run)
    if not folder.config.exists():
        _refuse_foreign_files(folder)
        return
    before = read_config(run)
    if not folder.has_checkpoints:
        return  # it ended before anything was learned: nothing is lost
    if not resume:
        raise InputError(f"{run}: holds a training already; give another folder, or resume it")
    longer = config.epochs > before.epochs
    same_length = dataclasses.replace(before, epochs=config.epochs) if longer else before
    if differences(same_length, config):
        changed = "; ".join(differences(before, config))
        how = f"use that one to go on with it (--config {folder.config})"
        if f'("{HANDED}' in changed:
            how = "hand the same objects to fit again to go on with it"
        raise InputError(
            f"{run}: holds a training with another configuration: {changed}; {how}, or give "
            "another folder"
        )
    if longer and config.optimizer.schedule != _OF_ANY_LENGTH:
        raise InputError(
            f"{run}: the schedule {config.optimizer.schedule} was laid out for {before.epochs} "
            f"epochs, which more would change from the first on; start from what was learned "
            f"there instead: --init {run} --out OTHER"
        )
    check_split(folder.split, split)


def write_run(run: Path, config: TrainConfig, split: Split) -> None:
    """Write configuration and split, each whole or not at all; :func:`check_run` comes before.

    Raises:
        InputError: They cannot be written.
    """
    folder = RunFolder(run)
    if not folder.has_checkpoints or folder.planned_epochs < config.epochs:
        write_config(config, folder.config, overwrite=True)
    if not folder.has_checkpoints:
        write_split(split, folder.split, overwrite=True)


def check_split(path: Path, split: Split) -> None:
    """Refuse to go on with a training on other cases than those it began with.

    Args:
        path: The split that was written when it began.
        split: The one of now; the order of its names means nothing.

    Raises:
        InputError: They differ, or the file cannot be read.
    """
    before = read_split(path)
    for part in ("train", "validation", "test"):
        then, now = set(getattr(before, part)), set(getattr(split, part))
        if then != now:
            names = sorted(then ^ now)
            more = ", …" if len(names) > _SHOWN else ""
            raise InputError(
                f"{path}: the training there has other {part} cases "
                f"(only one of both has {', '.join(names[:_SHOWN])}{more}); "
                f"use the same data and the options that parted it (--split {path} stands for "
                "them), or give another folder"
            )


def _refuse_foreign_files(folder: RunFolder) -> None:
    found = [path.name for path in (folder.split, folder.metrics) if path.exists()]
    if folder.has_checkpoints:
        found.append(folder.checkpoints.name)
    if found:
        raise InputError(
            f"{folder.path}: holds {found[0]} but no {folder.config.name}, so it is no run to go "
            "on with; give another folder"
        )
