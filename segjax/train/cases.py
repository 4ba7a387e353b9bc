"""The cases of a training: chosen by name, read, and checked against the configuration."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.cache.cache import CachedCase, open_cache
from segjax.data.cases import Case, Dataset, LoadedCase, Split, files_in, load_case
from segjax.data.labels import IGNORED, foreground
from segjax.data.loader import TrainingCase
from segjax.data.prepare.lost import warn_of_lost
from segjax.errors import InputError
from segjax.progress import track
from segjax.provenance import common_folder
from segjax.text import plural
from segjax.train.config import TrainConfig

__all__ = [
    "AnyDataset",
    "Chosen",
    "Loaded",
    "choose_cases",
    "folder_of_cases",
    "load_cases",
    "read_case",
    "with_maps",
]

AnyDataset = Dataset[Case] | Dataset[CachedCase]


class Chosen(NamedTuple):
    """The cases of a split, on disk."""

    train: tuple[Case | CachedCase, ...]
    validation: tuple[Case | CachedCase, ...]
    test: tuple[Case | CachedCase, ...] = ()


class Loaded(NamedTuple):
    """The cases of a split, preprocessed."""

    train: list[TrainingCase]
    validation: list[TrainingCase]
    test: list[TrainingCase]


def choose_cases(dataset: AnyDataset, split: Split, *, test: bool = False) -> Chosen:
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
    return common_folder(file for part in cases for case in part for file in _places(case))


def _places(case: Case | CachedCase) -> tuple[Path, ...]:
    if isinstance(case, CachedCase):
        return (case.folder.parent,)
    images = tuple(file for image in case.images for file in files_in(image))
    return images if case.label is None else (*images, case.label)


def load_cases(config: TrainConfig, cases: Chosen) -> Loaded:
    """Read and preprocess all cases; of cached ones only small files are looked at.

    Raises:
        InputError: A case cannot be used with this configuration.

    Warns:
        UserWarning: No training case has a certain label, or no validation case has any.
    """

    def load(some: Sequence[Case | CachedCase], description: str) -> list[TrainingCase]:
        return [read_case(config, case) for case in track(some, description)]

    _check_pipeline(config, cases)
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


def read_case(config: TrainConfig, case: Case | CachedCase) -> TrainingCase:
    """Read and preprocess a case; look only at the small files of a cached one.

    Raises:
        InputError: It has other channels or labels than the configuration.
    """
    if config.label_values is not None and config.label_values != case.coding:
        held = case.coding if case.coding.names else "themselves"
        raise InputError(
            f"case '{case.name}': its label values stand for {held}, but label_values of the "
            f"configuration are {config.label_values}; find the cases with that coding"
        )
    if isinstance(case, Case):
        return load_case(case, config.pipeline, classes=config.classes, channels=config.in_channels)
    *shape, channels = case.image.shape
    if tuple(shape) != case.label.shape or channels != config.in_channels:
        raise InputError(
            f"case '{case.name}' has {plural(channels, 'channel')} of shape {tuple(shape)} and a "
            f"label of shape {case.label.shape}; {config.in_channels} of one shape are expected"
        )
    if wrong := [value for value in case.values if value >= config.classes]:
        raise InputError(
            f"case '{case.name}' has labels {', '.join(map(str, wrong))}, but with "
            f"{config.classes} classes values go from 0 to {config.classes - 1}"
        )
    return case


def with_maps(case: TrainingCase) -> LoadedCase:
    """Return a case with all that a validation needs; the arrays of a cached one stay on disk."""
    if isinstance(case, LoadedCase):
        return case
    return LoadedCase(
        case.name, case.image, case.label, case.volume(), case.raw_label(), case.grids
    )


def _check_pipeline(config: TrainConfig, cases: Chosen) -> None:
    """Refuse a cache that another pipeline made: the exported network would replay this one."""
    cached = [case for part in cases for case in part if isinstance(case, CachedCase)]
    for folder in {case.folder.parent.parent for case in cached}:
        if open_cache(folder).pipeline != config.pipeline:
            raise InputError(
                f"{folder}: was preprocessed by other steps than those of the configuration; "
                "take its pipeline, or preprocess again with these"
            )


def _values(case: TrainingCase) -> tuple[int, ...]:
    """Return the values of a case's label map."""
    if isinstance(case, CachedCase):
        return case.values
    return tuple(np.unique(case.label[case.label != IGNORED]).tolist())


def _warn_of_absent_labels(config: TrainConfig, cases: Sequence[TrainingCase]) -> None:
    present: set[int] = set().union(*map(_values, cases))
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
    if cases and not any(map(_holds_label, cases)):
        warnings.warn(
            f"no label is in any of {plural(len(cases), 'validation case')}: they measure false "
            "positives alone, so that the newest network counts as the best, and patience does "
            "nothing; validate on cases with lesions",
            stacklevel=4,
        )


def _holds_label(case: TrainingCase) -> bool:
    """Say whether a case has any label, where a validation looks for it: on disk."""
    if isinstance(case, CachedCase):
        return any(case.values)
    return bool(foreground(case.raw_label.data).any())
