"""The folder of a run: who owns it, and whether a training may go on in it."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from segjax.data.cases import Split, read_split, write_split
from segjax.errors import InputError
from segjax.files import locked
from segjax.runs.metrics import METRICS_FILE
from segjax.train.checkpoints import CHECKPOINT_FOLDER
from segjax.train.config import CONFIG_FILE, TrainConfig, differences, read_config, write_config

SPLIT_FILE = "split.json"
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
    if not (run / CONFIG_FILE).exists():
        _refuse_foreign_files(run)
        return
    before = read_config(run)
    if not has_checkpoints(run):
        return  # it ended before anything was learned: nothing is lost
    if not resume:
        raise InputError(f"{run}: holds a training already; give another folder, or resume it")
    longer = config.epochs > before.epochs
    same_length = dataclasses.replace(before, epochs=config.epochs) if longer else before
    if differences(same_length, config):
        raise InputError(
            f"{run}: holds a training with another configuration: "
            f"{'; '.join(differences(before, config))}; "
            f"use that one to go on with it (--config {run / CONFIG_FILE}), or give another folder"
        )
    if longer and config.optimizer.schedule != _OF_ANY_LENGTH:
        raise InputError(
            f"{run}: the schedule {config.optimizer.schedule} was laid out for {before.epochs} "
            f"epochs, which more would change from the first on; start from what was learned "
            f"there instead: --init {run} --out OTHER"
        )
    check_split(run / SPLIT_FILE, split)


def write_run(run: Path, config: TrainConfig, split: Split) -> None:
    """Write configuration and split, each whole or not at all; :func:`check_run` comes before.

    Raises:
        InputError: They cannot be written.
    """
    if not has_checkpoints(run):
        write_config(config, run, overwrite=True)
        write_split(split, run / SPLIT_FILE, overwrite=True)
    elif planned_epochs(run) < config.epochs:
        write_config(config, run, overwrite=True)


def planned_epochs(run: Path) -> int:
    """Return for how many epochs a training was begun; 0 where none is there."""
    return read_config(run).epochs if (run / CONFIG_FILE).exists() else 0


@contextlib.contextmanager
def owned(run: Path) -> Iterator[None]:
    """Make the folder and keep other trainings out of it; a killed one keeps nobody out.

    Where the block leaves the folder empty, it is removed again, with the parents made for it.

    Raises:
        InputError: Another training is running in the folder, or it cannot be made.
    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if run.is_file() else f"cannot be made ({error.strerror})"
        raise InputError(f"{run}: {reason}; give another folder for the run") from error
    with locked(run) as free:
        if not free:
            raise InputError(f"{run}: another training is running in this folder; wait for it")
        try:
            yield
        finally:
            for folder in (run / CHECKPOINT_FOLDER, *made):
                with contextlib.suppress(OSError):  # one that holds something stays
                    folder.rmdir()


def has_checkpoints(run: Path) -> bool:
    """Say whether a training has got as far as a checkpoint."""
    folder = run / CHECKPOINT_FOLDER
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def _refuse_foreign_files(run: Path) -> None:
    found = [name for name in (SPLIT_FILE, METRICS_FILE) if (run / name).exists()]
    if has_checkpoints(run):
        found.append(CHECKPOINT_FOLDER)
    if found:
        raise InputError(
            f"{run}: holds {found[0]} but no {CONFIG_FILE}, so it is no run to go on with; "
            "give another folder"
        )


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
