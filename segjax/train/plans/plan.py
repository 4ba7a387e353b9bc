"""What a training is about to do: the cases, their split, and settings with their reasons."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segjax.data.cache.cache import Cache, is_cache, open_cache
from segjax.data.cases import Case, Dataset, find_cases, find_test_cases
from segjax.data.grouping import Grouping
from segjax.data.io.formats import read_image
from segjax.data.labels import LabelCoding, coding_of_labels
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.splits import Folding, Split, split_cases
from segjax.errors import InputError
from segjax.files import read_json
from segjax.text import brief
from segjax.train.cases import choose_cases
from segjax.train.config import TrainConfig
from segjax.train.plans.advice import Advice, Reason, advise
from segjax.train.transfer import recorded
from segjax.volume import Volume

__all__ = ["Plan", "plan", "plan_folds", "read_settings"]

_SETTING = {  # that decides a choice of the advice, where it is given
    "patch": "patch_size",
    "batch": "batch_size",
    "foreground": "foreground",
    "mirroring": "augment",
    "augmentation": "augment",
    "loss": "loss",
    "length": "epochs",
}
_SMALL_PATCHES = (None, (32, 32, 32), [32, 32, 32])
_Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a training is about to do.

    Attributes:
        dataset: The labelled cases, as files or from a cache.
        split: Which of them are for training, for validation and for testing.
        config: Network and settings.
        facts: What the data are like, by name.
        reasons: Why the settings are as they are, where the data decided.

    Example:
        >>> plan("brains", {"model": "mpunet++"}).facts["cases"]
        '5 (5 images looked at, 0 without any label)'
    """

    dataset: Dataset
    split: Split
    config: TrainConfig
    facts: Mapping[str, str]
    reasons: tuple[Reason, ...]

    def cases(self, part: Literal["train", "validation", "test"]) -> tuple[Case, ...]:
        """Return the files of the cases of a part of the split."""
        chosen = choose_cases(self.dataset, self.split, test=True)
        return tuple(case.source for case in getattr(chosen, part))


def plan(
    data: str | Path | Dataset,
    *settings: _Settings,
    look: bool | None = None,
    memory_gb: float | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    split: Split | None = None,
    grouping: Grouping | None = None,
    keep_fitted: bool = False,
) -> Plan:
    """Look at labelled images and decide how to train on them.

    Args:
        data: Folder of labelled images, or a cache that ``segjax preprocess`` made of them, whose
            preprocessing is taken over then; or the cases themselves, such as those that
            :func:`segjax.data.layouts.find_data` finds in folders of subjects.
        settings: Fields of a ``TrainConfig`` as JSON values, which replace the defaults that
            the data suggest; later mappings win, and ``optimizer`` is merged field by field.
            Steps of a ``pipeline`` that learn from images do so from the training cases.
        look: Whether to look at intensities, symmetry and memory, too: see
            :func:`segjax.train.plans.advice.advise` for what then differs. By default at images,
            and not at a cache, whose images are preprocessed already.
        memory_gb: Memory that a training may take, where a look decides.
        validation: Fraction of the cases to validate on.
        test: Fraction of the cases to keep away from the training altogether; ``imagesTs/`` and
            ``labelsTs/`` are kept away besides.
        split: Which cases are for what, instead of these fractions.
        grouping: Which cases, such as the slices of a patient, are all for one of these; by
            default the sessions of a subject, where cases are called as in BIDS.
        keep_fitted: Whether steps of a ``pipeline`` keep what they learned from images before,
            as those of another run's ``config.json``, instead of learning it anew.

    Raises:
        InputError: The data cannot be read, a setting is unknown or out of range, a cache was
            made with another pipeline or is to be looked at, no step has learned what is to be
            kept, or there are both a split and a grouping.

    Example:
        >>> proposed = plan("brains", {"epochs": 20}, validation=0.25)
        >>> proposed.config.epochs, len(proposed.split.validation)
        (20, 1)
    """
    wanted = _wanted(settings, keep_fitted=keep_fitted)
    draft = _draft(_source(data, wanted), wanted, look=look, memory_gb=memory_gb)
    if split is None:
        names = draft.source.names
        groups = (grouping or Grouping()).groups(names)
        sizes = {"validation": validation, "test": test}
        dealt = split_cases(names, **sizes, seed=draft.config.seed, groups=groups)
        split = draft.source.tested(dealt, grouping)
    elif grouping is not None:
        raise InputError("a split says which cases are for what: leave out the grouping")
    return draft.planned(split)


def plan_folds(
    data: str | Path | Dataset,
    *settings: _Settings,
    folding: Folding | Sequence[Split],
    keep_fitted: bool = False,
) -> tuple[Plan, ...]:
    """Look at labelled images and decide how to train in a cross-validation.

    Args:
        data: As for :func:`plan`.
        settings: As for :func:`plan`. Steps of a ``pipeline`` that learn from images do so in
            every fold anew; the ``seed`` decides the folds too.
        folding: How many folds, and which cases stay together; or the split of every fold.
        keep_fitted: As for :func:`plan`: steps that learned before are the same in all folds.

    Returns:
        A plan for each fold.

    Raises:
        InputError: As :func:`plan`; or the cases cannot be dealt so.

    Example:
        >>> len(plan_folds("brains", folding=Folding(5))[0].split.validation)
        1
    """
    wanted = _wanted(settings, keep_fitted=keep_fitted)
    source = _source(data, wanted)
    draft = _draft(source, wanted)
    if isinstance(folding, Folding):
        dealt = folding.splits(source.names, seed=draft.config.seed)
        splits = [source.tested(split, folding.grouping) for split in dealt]
    else:
        splits = list(folding)
    return tuple(draft.planned(split) for split in splits)


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings for :func:`plan`: the ``config.json`` of a run, or any part of one.

    Those of a sweep are in its ``sweep.json``.

    Raises:
        InputError: The file is no JSON object, or a field is unknown or out of range; the message
            names the file.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(
            f'{path}: settings are an object, such as {{"epochs": 50}}; steps of preprocessing '
            'stand in it as {"pipeline": [...]}'
        )
    values = values.get("base", values)  # of a sweep
    settings = {name: value for name, value in values.items() if name != "segjax"}
    try:  # with what a dataset would decide
        TrainConfig.from_json({"model": "mpunet++", "patch_size": [64, 64, 64], **settings})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return settings


@dataclass(frozen=True)
class _Source:
    """Labelled cases, the cache that they lie in, and others that are for testing alone."""

    dataset: Dataset
    cache: Cache | None = None
    kept: tuple[Case, ...] = ()

    @property
    def names(self) -> list[str]:
        return [case.name for case in self.dataset.cases]

    def tested(self, split: Split, grouping: Grouping | None) -> Split:
        kept = [case.name for case in self.kept]
        if both := set(kept).intersection(self.names):
            raise InputError(f"case '{min(both)}' is in imagesTr and in imagesTs; rename one")
        if kept and grouping is not None:
            _warn_of_shared_groups(grouping.groups(self.names), grouping.groups(kept))
        return replace(split, test=tuple(sorted([*split.test, *kept])))


@dataclass(frozen=True)
class _Draft:
    """A plan that lacks a split."""

    source: _Source
    config: TrainConfig
    advice: Advice

    def planned(self, split: Split) -> Plan:
        source = self.source
        if source.cache is not None:
            _warn_of_leak(source.cache, split)
        dataset = replace(source.dataset, cases=(*source.dataset.cases, *source.kept))
        config = _fitted(self.config, choose_cases(dataset, split, test=True).train)
        return Plan(dataset, split, config, self.advice.facts, self.advice.reasons)


def _wanted(settings: Sequence[_Settings], *, keep_fitted: bool) -> dict[str, Any]:
    """Merge settings; steps of their pipeline forget what they learned from images."""
    wanted = _merged({}, *settings)
    given = _pipeline(wanted)
    unfitted = None if given is None else given.unfitted()
    if keep_fitted and given == unfitted:
        raise InputError(
            "--keep-fitted is for what the pipeline of a --config learned: give one with it"
        )
    if unfitted is not None and not keep_fitted:
        wanted["pipeline"] = unfitted.to_json()
    return wanted


def _merged(values: _Settings, *layers: _Settings) -> dict[str, Any]:
    merged = dict(values)
    for layer in layers:
        if layer.get("label_values") is not None:
            merged.pop("labels", None)  # they name other classes
        if not isinstance(own := layer.get("optimizer", {}), Mapping):
            raise InputError(f"optimizer must be an object with 'name', not {brief(own)}")
        optimizer = {**merged.get("optimizer", {}), **own}
        merged = {**merged, **layer} | ({"optimizer": optimizer} if optimizer else {})
    return merged


def _draft(
    source: _Source,
    wanted: _Settings,
    *,
    look: bool | None = None,
    memory_gb: float | None = None,
) -> _Draft:
    if look is None:
        look = source.cache is None
    if look and source.cache is not None:
        raise InputError(
            f"{source.cache.folder}: its images are preprocessed already: plan on the ones it was "
            "made of"
        )
    pipeline = _pipeline(wanted) if source.cache is None else source.cache.pipeline
    options: dict[str, Any] = {"pipeline": pipeline, "look": look, "memory_gb": memory_gb}
    options["small_patches"] = wanted.get("patch_size") in _SMALL_PATCHES
    options["put_lesions"] = "augment" not in wanted
    advice = advise(source.dataset, model=wanted.get("model"), **options)
    others = {name: value for name, value in wanted.items() if name != "pipeline"}
    config = TrainConfig.from_json(_merged(advice.config.to_json(), _held(source, wanted), others))
    free = tuple(reason for reason in advice.reasons if _SETTING.get(reason.choice) not in wanted)
    return _Draft(source, recorded(config), replace(advice, reasons=free))


def _held(source: _Source, wanted: _Settings) -> _Settings:
    """Return what label values stand for in a cache, which nothing beside its files says."""
    coding = source.dataset.coding
    if source.cache is None or coding.plain or "labels" in wanted:
        return {}
    return {"label_values": coding.as_labels()}


def _pipeline(wanted: _Settings) -> Pipeline | None:
    return Pipeline.from_json(wanted["pipeline"]) if "pipeline" in wanted else None


def _source(data: str | Path | Dataset, wanted: _Settings) -> _Source:
    values = wanted.get("label_values")
    coding = None if values is None else coding_of_labels(values, "label_values")
    if isinstance(data, Dataset):
        _check_coding("the dataset", data.coding, coding, "find its cases with it")
        return _Source(data)
    if not is_cache(data):
        dataset = find_cases(data, coding=coding)
        return _Source(dataset, kept=find_test_cases(data, coding=dataset.coding).cases)
    cache = open_cache(data)
    if _pipeline(wanted) not in (None, cache.pipeline, cache.requested, cache.pipeline.unfitted()):
        raise InputError(
            f"{cache.folder}: was preprocessed by other steps than the settings ask for; leave "
            "them out, or preprocess again with these"
        )
    way_out = "leave --labels and --names out, or preprocess again with these"
    _check_coding(str(cache.folder), cache.coding, coding, way_out)
    return _Source(Dataset(cache.cases, cache.labels, cache.channels, cache.coding), cache)


def _check_coding(where: str, held: LabelCoding, asked: LabelCoding | None, way_out: str) -> None:
    if asked not in (None, held):
        raise InputError(f"{where}: its label values stand for {held}, not for {asked}; {way_out}")


def _fitted(config: TrainConfig, cases: Sequence[Any]) -> TrainConfig:
    """Let the steps of a pipeline that are not fitted learn from the images of cases."""
    if config.pipeline.fitted:
        return config
    return replace(config, pipeline=config.pipeline.fit(lambda: _Images(cases)))


class _Images:
    """The images of cases, read one at a time."""

    def __init__(self, cases: Sequence[Case]):
        self._cases = cases

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Volume]:
        return (read_image(case.images) for case in self._cases)


def _warn_of_shared_groups(
    groups: Mapping[str, str] | None, kept: Mapping[str, str] | None
) -> None:
    if both := sorted(set((groups or {}).values()).intersection((kept or {}).values())):
        warnings.warn(
            f"imagesTr and imagesTs both hold cases of {', '.join(both)}: what is measured on the "
            "test cases flatters; move them into one of both, or give the cases by a split",
            stacklevel=5,
        )


def _warn_of_leak(cache: Cache, split: Split) -> None:
    seen = {*split.validation, *split.test}.intersection(cache.learned_from)
    if seen:
        warnings.warn(
            f"{cache.folder}: the preprocessing learned from {len(seen)} of the cases that are "
            "kept apart to measure; to be strict, preprocess with --split and train with it",
            stacklevel=4,
        )
