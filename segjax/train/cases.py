"""The cases of a training: chosen by name, read, and checked against the configuration."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from segjax.data.cases import Dataset, StoredCase
from segjax.data.loaded import TrainingCase
from segjax.data.prepare.lost import warn_of_lost
from segjax.data.splits import Split
from segjax.errors import InputError
from segjax.progress import track
from segjax.provenance import common_folder
from segjax.text import plural
from segjax.train.config import TrainConfig

__all__ = [
    "Chosen",
    "Loaded",
    "choose_cases",
    "folder_of_cases",
    "load_cases",
    "read_case",
]


class Chosen(NamedTuple):
    """The cases of a split, on disk."""

    train: tuple[StoredCase, ...]
    validation: tuple[StoredCase, ...]
    test: tuple[StoredCase, ...] = ()


class Loaded(NamedTuple):
    """The cases of a split, preprocessed."""

    train: list[TrainingCase]
    validation: list[TrainingCase]
    test: list[TrainingCase]


def choose_cases(dataset: Dataset[StoredCase], split: Split, *, test: bool = False) -> Chosen:
    """Take the cases of a split from a dataset.

    Args:
        dataset: Labelled cases, as files or of a cache.
        split: Their names.
        test: Whether the test cases are wanted too.

    Raises:
        InputError: There is nothing to train on, a case is both for training and for measuring,
            or a name is unknown.
    """
    if not split.train:
        raise InputError(
            f"no case is left to train on (cases: {len(dataset.cases)}, validation: "
            f"{len(split.validation)}, test: {len(split.test)}): change the split"
        )
    if both := set(split.train) & {*split.validation, *split.test}:
        raise InputError(f"case '{min(both)}' is for training and for measuring: change the split")
    cases = {case.name: case for case in dataset.cases}
    parts = (split.train, split.validation, split.test if test else ())
    if unknown := [name for part in parts for name in part if name not in cases]:
        raise InputError(f"the split names case '{unknown[0]}', which the dataset does not have")
    return Chosen(*(tuple(cases[name] for name in part) for part in parts))


def folder_of_cases(cases: Chosen) -> str:
    """Return the folder that holds all cases: of a data set or of a cache; empty without one."""
    return common_folder(place for part in cases for case in part for place in case.places)


def load_cases(config: TrainConfig, cases: Chosen) -> Loaded:
    """Read and preprocess all cases; of cached ones only small files are looked at.

    Raises:
        InputError: A case cannot be used with this configuration.

    Warns:
        UserWarning: No training case has a certain label, or no validation case has any.
    """

    def load(some: Sequence[StoredCase], description: str) -> list[TrainingCase]:
        return [read_case(config, case) for case in track(some, description)]

    loaded = Loaded(
        load(cases.train, "Reading training"),
        load(cases.validation, "Reading validation"),
        load(cases.test, "Reading test"),
    )
    _warn_of_absent_labels(config, loaded.train)
    _warn_of_nothing_to_find(loaded.validation)
    everything = [case for part in loaded for case in part]
    found = ((case.name, case.lost) for case in everything)
    warn_of_lost({name: lost for name, lost in found if lost}, len(everything))
    return loaded


def read_case(config: TrainConfig, case: StoredCase) -> TrainingCase:
    """Read and preprocess a case; look only at the small files of a cached one.

    Raises:
        InputError: It has other channels or labels than the configuration.
    """
    if config.label_values is not None and config.label_values != case.coding:
        raise InputError(
            f"case '{case.name}': its label values stand for {case.coding}, but label_values of "
            f"the configuration are {config.label_values}; find the cases with that coding"
        )
    return case.load(config.pipeline, classes=config.classes, channels=config.in_channels)


def _warn_of_absent_labels(config: TrainConfig, cases: Sequence[TrainingCase]) -> None:
    present = {value for case in cases for value in case.values}
    if not present - {0}:
        warnings.warn(
            "all label maps of the training cases are empty: the network will learn to find "
            "nothing",
            stacklevel=4,
        )
        return
    absent = [name for value, name in enumerate(config.labels) if value and value not in present]
    if absent:
        warnings.warn(
            f"no training case has the label {', '.join(absent)}: the network cannot learn it",
            stacklevel=4,
        )


def _warn_of_nothing_to_find(cases: Sequence[TrainingCase]) -> None:
    """Say so where no validation case can tell how good a network is."""
    if cases and not any(any(case.values) for case in cases):
        warnings.warn(
            f"no label is in any of {plural(len(cases), 'validation case')}: they measure false "
            "positives alone, so that the newest network counts as the best, and patience does "
            "nothing; validate on cases with lesions",
            stacklevel=4,
        )
