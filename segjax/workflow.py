"""The main roads through the library, which the command line takes.

Preprocess, train, finish, segment.
"""

import csv
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.cache.cache import Cache, CachedCase, Outcome, is_cache, open_cache
from segjax.data.cases import (
    Case,
    Dataset,
    Split,
    files_in,
    find_cases,
    find_images,
    find_subjects,
    find_test_cases,
    is_dataset,
    read_case_label,
    split_cases,
)
from segjax.data.folds import Folding, Grouping
from segjax.data.io.formats import read_image
from segjax.data.labels import IGNORED, PLAIN, LabelCoding, coding_of_labels
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import atomic_path, read_json
from segjax.grid import grid
from segjax.provenance import common_folder, here_and_now, write_part
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.report.training import Example
    from segjax.train._fit import FitResult
    from segjax.train.config import TrainConfig
    from segjax.train.sweeps.sweep import SweepResult
    from segjax_onnx.predict.predictor import Predictor

__all__ = [
    "Plan",
    "Preprocessed",
    "Segmentation",
    "cases_named",
    "check_all",
    "check_outcomes",
    "example",
    "find_data",
    "find_inputs",
    "finish",
    "finish_sweep",
    "plan",
    "plan_folds",
    "preprocess",
    "read_coding",
    "read_settings",
    "read_steps",
    "segment",
    "train",
    "write_niftis",
]

_EXAMPLES = 4  # cases whose pictures go into the report of a training


def find_data(
    folder: str | Path,
    *,
    images: Sequence[str] = (),
    label: str | None = None,
    series: Sequence[str] = (),
    coding: LabelCoding | None = None,
) -> Dataset[Case]:
    """Find images, labelled or not, in whatever way they are laid out.

    Args:
        folder: A dataset (``images/`` and ``labels/``, or ``imagesTr/`` and ``labelsTr/``), an
            ``nnUNet_raw`` folder of one, a folder of images, one image file, or folders of
            subjects.
        images: Name of the file of each channel in every subject's folder.
        label: Name of the label map in every subject's folder.
        series: DICOM series to take of unlabelled images, where not all are wanted.
        coding: What the values of label maps stand for, whatever ``dataset.json`` says.

    Raises:
        InputError: Nothing is found, or something does not fit together.
    """
    folder = Path(folder)
    if images:
        return find_subjects(folder, images=images, label=label, coding=coding)
    if label:
        raise InputError(f"{label}: name the images of a subject too")
    if folder.is_dir() and is_dataset(folder):
        return find_cases(folder, coding=coding)
    bare = [folder / name for name in ("images", "imagesTr") if (folder / name).is_dir()]
    cases = find_images(bare or [folder], series=series)
    return Dataset(tuple(sorted(cases, key=lambda case: case.name)))


def find_inputs(
    paths: Sequence[str | Path],
    *,
    channels: int | None = None,
    images: Sequence[str] = (),
    series: Sequence[str] = (),
) -> list[Case]:
    """Find images to segment.

    Args:
        paths: Image files and folders of them, as :func:`segjax.data.cases.find_images` takes
            them; with ``images``, folders of subjects.
        channels: Channels that the network takes.
        images: Name of the file of each channel in every subject's folder.
        series: DICOM series to take, where not all are wanted.

    Raises:
        InputError: Nothing is found, two cases have one name, or the channels are others.
    """
    if not images:
        return find_images(paths, channels=channels, series=series)
    if not paths:
        raise InputError(f"{', '.join(images)}: name folders of subjects too, before --images")
    if series:
        raise InputError("the images of subjects are found by name: leave out the series")
    if channels is not None and len(images) not in (1, channels):
        raise InputError(
            f"{', '.join(images)}: name the file of each channel; the network takes "
            f"{plural(channels, 'channel')}"
        )
    cases: dict[str, Case] = {}
    found = (find_subjects(path, images=images, coding=PLAIN).cases for path in paths)
    for case in (case for some in found for case in some):
        if case.name in cases:
            first = cases[case.name].images[0]
            raise InputError(f"{first} and {case.images[0]}: are both of '{case.name}'; rename one")
        cases[case.name] = case
    return list(cases.values())


def read_steps(path: str | Path) -> Pipeline:
    """Read a pipeline from a JSON file: a list of steps, or an object that has one.

    Args:
        path: What :meth:`Pipeline.to_json` returns, or a run's ``config.json``.

    Raises:
        InputError: The file holds no pipeline; the message names the file.
    """
    values = read_json(path)
    try:
        return Pipeline.from_json(values["pipeline"] if isinstance(values, dict) else values)
    except KeyError as error:
        raise InputError(f"{path}: has no 'pipeline', and is no list of steps") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_coding(path: str | Path) -> LabelCoding | None:
    """Read what label values stand for from a run's ``config.json``; None where it does not say.

    Args:
        path: As for :func:`read_steps`.

    Raises:
        InputError: The file is none of these; the message names the file.
    """
    values = read_json(path)
    return _coding(values, f"{path}: label_values") if isinstance(values, dict) else None


@dataclass(frozen=True)
class Preprocessed:
    """What :func:`preprocess` made.

    Attributes:
        outcomes: What became of every case.
        seconds: Time of it all, without the figures.
        early_megabytes: Size of the images after the last expensive step; they may be deleted.
        written: What was written, by name.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    early_megabytes: float
    written: dict[str, Path]


def preprocess(
    dataset: Dataset[Case],
    pipeline: Pipeline,
    out: str | Path,
    *,
    workers: int | None = None,
    split: Split | None = None,
    refit: bool = False,
) -> Preprocessed:
    """Make a cache, as :func:`segjax.data.cache.cache.preprocess` does, and show what was done.

    The folder gets ``report.csv`` with a row per case, ``provenance.json`` with date, command,
    data, time, machine and versions of every call, ``figures/histograms.png`` with the histograms
    of all images before and after, and ``figures/case.png`` with a slice of one.

    Raises:
        InputError: As :func:`segjax.data.cache.cache.preprocess`.

    Warns:
        UserWarning: Cases have different numbers of channels; or there can be no figures.
    """
    from segjax.data.cache import cache

    start, out = time.perf_counter(), Path(out)
    options: dict[str, Any] = {"workers": workers, "split": split, "refit": refit}
    outcomes = tuple(cache.preprocess(dataset, pipeline, out, **options))
    seconds = time.perf_counter() - start
    write_part(out, here_and_now(_folder_of(dataset), seconds=seconds))
    written = {"cases": out / "cases", "report": _write_outcomes(outcomes, out / "report.csv")}
    try:
        made = open_cache(out)
        _warn_of_channels(made)
        written |= _draw(made, out / "figures")
    except InputError as error:  # the cases are worth having all the same
        warnings.warn(f"no figures: {error}", stacklevel=2)
    early = sum(file.stat().st_size for file in (out / "early").rglob("*")) / 1e6
    return Preprocessed(outcomes, seconds, early, written)


def _folder_of(dataset: Dataset[Case]) -> str:
    images = (image for case in dataset.cases for image in case.images)
    return common_folder(file for image in images for file in files_in(image))


def _warn_of_channels(cache: Cache) -> None:
    """Name a case of each number of channels, where they are not all alike."""
    examples: dict[int, str] = {}
    for case in cache.cases:
        examples.setdefault(case.image.shape[-1], case.name)
    if len(examples) > 1:
        found = ", ".join(f"'{name}' has {count}" for count, name in sorted(examples.items()))
        warnings.warn(
            f"cases have different numbers of channels ({found}); no network takes both",
            stacklevel=3,
        )


def _write_outcomes(outcomes: Sequence[Outcome], path: Path) -> Path:
    columns = ("case", "state", "seconds", "megabytes", "peak_megabytes", "error")
    rows = [[getattr(outcome, name) for name in columns] for outcome in outcomes]
    with (
        atomic_path(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([columns, *rows])
    return path


def _draw(cache: Cache, folder: Path) -> dict[str, Path]:
    from segjax.report.histograms import before_and_after, histograms

    if not cache.cases:
        return {}
    folder.mkdir(exist_ok=True)
    paths = {"histograms": folder / "histograms.png", "picture": folder / "case.png"}
    histograms(cache, paths["histograms"], overwrite=True)
    fullest = max(cache.cases, key=lambda case: case.foreground.size if case.source.label else 0)
    before_and_after(fullest, paths["picture"], overwrite=True)
    return paths


def check_outcomes(outcomes: Sequence[Outcome], out: str | Path) -> None:
    """Raise what went wrong in :func:`preprocess`, if anything did.

    Raises:
        InputError: With the number of the cases that failed, and why the first one did.
    """
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        others = f" ({len(failed)} of {len(outcomes)} cases failed; the others are in {out})"
        raise InputError(failed[0].error + (others if len(outcomes) > 1 else ""))


def write_niftis(cache: Cache) -> None:
    """Write ``image.nii.gz`` and, where there is one, ``label.nii.gz`` beside the arrays.

    Args:
        cache: Preprocessed volumes; what was written before is left alone.

    Raises:
        InputError: They are images of rank 2, or a file cannot be written.
    """
    from segjax.data.io.nifti import write_nifti
    from segjax.progress import track

    for case in track(cache.cases, "Writing NIfTI"):
        affine = case.grids[-1].affine
        wanted = ["image", *(["label"] if case.source.label else [])]
        for name in wanted:
            path = case.folder / f"{name}.nii.gz"
            if not path.exists():
                write_nifti(Volume(getattr(case, name), affine), path)


@dataclass(frozen=True)
class Plan:
    """What a training is about to do: hand it to :func:`segjax.train.fit`.

    Attributes:
        dataset: The labelled cases, as files or from a cache.
        split: Which of them are for training, for validation and for testing.
        config: Network and settings.
    """

    dataset: Dataset
    split: Split
    config: "TrainConfig"

    @property
    def validation_cases(self) -> tuple[Case, ...]:
        """The files of the cases to validate on."""
        return tuple(
            case.source if isinstance(case, CachedCase) else case
            for case in cases_named(self.dataset, self.split.validation)
        )


def plan(
    data: str | Path,
    *settings: Mapping[str, Any],
    validation: float = 0.2,
    test: float = 0.0,
    split: Split | None = None,
    grouping: Grouping | None = None,
    images: Sequence[str] = (),
    label: str | None = None,
    keep_fitted: bool = False,
) -> Plan:
    """Look at a data folder and decide how to train on it.

    Args:
        data: Folder of labelled images, or a cache that ``segjax preprocess`` made of them, whose
            preprocessing is taken over then.
        settings: Fields of a ``TrainConfig`` as JSON values, which replace the defaults that
            the data suggest; later mappings win, and ``optimizer`` is merged field by field.
            Steps of a ``pipeline`` that learn from images do so from the training cases.
        validation: Fraction of the cases to validate on.
        test: Fraction of the cases to keep away from the training altogether; ``imagesTs/`` and
            ``labelsTs/`` are kept away besides.
        split: Which cases are for what, instead of these fractions.
        grouping: Which cases, such as the slices of a patient, are all for one of these.
        images: Name of the file of each channel, where the data are folders of subjects.
        label: Name of the label map in every subject's folder.
        keep_fitted: Whether steps of a ``pipeline`` keep what they learned from images before,
            as those of another run's ``config.json``, instead of learning it anew.

    Raises:
        InputError: The data cannot be read, a setting is unknown or out of range, a cache was
            made with another pipeline, or there are both a split and a grouping.

    Example:
        >>> plan("brains", {"model": "unet3d", "epochs": 20}).config.epochs  # doctest: +SKIP
        20
    """
    draft = _draft(data, settings if keep_fitted else _unfitted(settings), images, label)
    if split is None:
        names = draft.names
        groups = None if grouping is None else grouping.groups(names)
        sizes = {"validation": validation, "test": test}
        dealt = split_cases(names, **sizes, seed=draft.config.seed, groups=groups)
        split = draft.tested(dealt, grouping)
    elif grouping is not None:
        raise InputError("a split says which cases are for what: leave out the grouping")
    return draft.planned(split)


def plan_folds(
    data: str | Path,
    *settings: Mapping[str, Any],
    folding: Folding | Sequence[Split],
    images: Sequence[str] = (),
    label: str | None = None,
    keep_fitted: bool = False,
) -> tuple[Plan, ...]:
    """Look at a data folder and decide how to train in a cross-validation.

    Args:
        data: As for :func:`plan`.
        settings: As for :func:`plan`. Steps of a ``pipeline`` that learn from images do so in
            every fold anew; the ``seed`` decides the folds too.
        folding: How many folds, and which cases stay together; or the split of every fold.
        images: As for :func:`plan`.
        label: As for :func:`plan`.
        keep_fitted: As for :func:`plan`: steps that learned before are the same in all folds.

    Returns:
        A plan for each fold.

    Raises:
        InputError: As :func:`plan`; or the cases cannot be dealt so.

    Example:
        >>> plan_folds("brains", folding=Folding(5))[0].split.validation  # doctest: +SKIP
        ('brain_004', 'brain_011')
    """
    draft = _draft(data, settings if keep_fitted else _unfitted(settings), images, label)
    if isinstance(folding, Folding):
        dealt = folding.splits(draft.names, seed=draft.config.seed)
        splits = [draft.tested(split, folding.grouping) for split in dealt]
    else:
        splits = list(folding)
    return tuple(draft.planned(split) for split in splits)


@dataclass(frozen=True)
class _Draft:
    """A plan that lacks a split; ``kept`` are cases that the dataset keeps for testing."""

    dataset: Dataset
    config: "TrainConfig"
    cache: Cache | None
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

    def planned(self, split: Split) -> Plan:
        if self.cache is not None:
            _warn_of_leak(self.cache, split)
        dataset = replace(self.dataset, cases=(*self.dataset.cases, *self.kept))
        for names in (split.validation, split.test):
            cases_named(dataset, names)
        cases = cases_named(dataset, split.train)
        return Plan(dataset, split, _fitted(self.config, cases))


def _warn_of_shared_groups(
    groups: Mapping[str, str] | None, kept: Mapping[str, str] | None
) -> None:
    if both := sorted(set((groups or {}).values()).intersection((kept or {}).values())):
        warnings.warn(
            f"imagesTr and imagesTs both hold cases of {', '.join(both)}: what is measured on the "
            "test cases flatters; move them into one of both, or give the cases by a split",
            stacklevel=5,
        )


def _draft(
    data: str | Path,
    settings: Sequence[Mapping[str, Any]],
    images: Sequence[str] = (),
    label: str | None = None,
) -> _Draft:
    from segjax.train.config import TrainConfig, default_config
    from segjax.train.transfer import recorded

    wanted = _merged({}, *settings)
    pipeline = Pipeline.from_json(wanted.pop("pipeline")) if "pipeline" in wanted else None
    cache = open_cache(data) if is_cache(data) else None
    coding = _coding(wanted)
    if cache is not None and (images or label):
        raise InputError(f"{data}: is a cache: leave out the names of images and label")
    if cache is None:
        dataset: Dataset = _labelled(data, images, label, coding)
    else:
        dataset = _of_cache(cache, pipeline, coding)
    pipeline = pipeline if cache is None else cache.pipeline
    default = default_config(dataset, wanted.get("model", "mpunet++"), pipeline=pipeline)
    config = TrainConfig.from_json(_merged(default.to_json(), wanted))
    kept: tuple[Case, ...] = ()
    if cache is None and not images:
        kept = find_test_cases(data, coding=dataset.coding).cases
    return _Draft(dataset, recorded(config), cache, kept)


def _coding(settings: Mapping[str, Any], name: str = "label_values") -> LabelCoding | None:
    values = settings.get("label_values")
    return None if values is None else coding_of_labels(values, name)


def _labelled(
    data: str | Path, images: Sequence[str], label: str | None, coding: LabelCoding | None
) -> Dataset[Case]:
    if images and not label:
        raise InputError(f"{data}: name the label map of a subject too, as the images")
    if images or label:
        return find_data(data, images=images, label=label, coding=coding)
    return find_cases(data, coding=coding)


def _unfitted(settings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Let the steps of the pipelines among settings forget what they learned from images."""
    return [
        {**values, "pipeline": Pipeline.from_json(values["pipeline"]).unfitted().to_json()}
        if "pipeline" in values
        else values
        for values in settings
    ]


def _fitted(config: "TrainConfig", cases: Sequence[Any]) -> "TrainConfig":
    """Let the steps of a pipeline that are not fitted learn from the images of cases."""
    if config.pipeline.fitted:
        return config
    return replace(config, pipeline=config.pipeline.fit(lambda: _Images(cases)))


def _of_cache(
    cache: Cache, pipeline: Pipeline | None, coding: LabelCoding | None
) -> Dataset[CachedCase]:
    if pipeline not in (None, cache.pipeline, cache.requested, cache.pipeline.unfitted()):
        raise InputError(
            f"{cache.folder}: was preprocessed by other steps than the settings ask for; leave "
            "them out, or preprocess again with these"
        )
    if coding not in (None, cache.coding):
        held = cache.coding if cache.coding.names else "themselves"
        raise InputError(
            f"{cache.folder}: its label values stand for {held}, not for {coding}; leave --labels "
            "and --names out, or preprocess again with these"
        )
    return Dataset(cache.cases, cache.labels, cache.channels, cache.coding)


def _warn_of_leak(cache: Cache, split: Split) -> None:
    seen = {*split.validation, *split.test}.intersection(cache.learned_from)
    if seen:
        warnings.warn(
            f"{cache.folder}: the preprocessing learned from {len(seen)} of the cases that are "
            "kept apart to measure; to be strict, preprocess with --split and train with it",
            stacklevel=4,
        )


class _Images:
    """The images of cases, read one at a time."""

    def __init__(self, cases: Sequence[Case]):
        self._cases = cases

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Volume]:
        return (read_image(case.images) for case in self._cases)


def _merged(values: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for layer in layers:
        if layer.get("label_values") is not None:
            merged.pop("labels", None)  # they name other classes
        optimizer = {**merged.get("optimizer", {}), **layer.get("optimizer", {})}
        merged = {**merged, **layer} | ({"optimizer": optimizer} if optimizer else {})
    return merged


def cases_named(dataset: Dataset, names: Sequence[str]) -> tuple[Any, ...]:
    """Return the cases of the given names, in that order.

    Raises:
        InputError: A name is unknown.
    """
    by_name = {case.name: case for case in dataset.cases}
    if unknown := [name for name in names if name not in by_name]:
        raise InputError(f"the split names case '{unknown[0]}', which the dataset does not have")
    return tuple(by_name[name] for name in names)


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings for :func:`plan`: the ``config.json`` of a run, or any part of one.

    Raises:
        InputError: The file is no JSON object, or a field is unknown or out of range; the message
            names the file.
    """
    from segjax.train.config import TrainConfig

    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f'{path}: settings are an object, such as {{"epochs": 50}}')
    settings = {name: value for name, value in values.items() if name != "segjax"}
    try:  # with what a dataset would decide
        TrainConfig.from_json({"model": "mpunet++", "patch_size": [64, 64, 64], **settings})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return settings


def train(
    plan: Plan,
    run: str | Path,
    *,
    workers: int = 0,
    data_on_device: bool = False,
    tensorboard: bool = False,
) -> "FitResult":
    """Carry out a plan, or go on with it; a training that is finished is not done again.

    Args:
        plan: What to train.
        run: Folder of the run.
        workers: Processes that draw batches; 0 takes a thread.
        data_on_device: Whether to keep all training cases on the device.
        tensorboard: Whether to write TensorBoard logs too.

    Raises:
        InputError: As :func:`segjax.train.fit`.
    """
    from segjax.train._fit import Loading, RunFinishedError, fit
    from segjax.train.tensorboard import TENSORBOARD_FOLDER

    options: dict[str, Any] = {
        "loading": Loading(workers, data_on_device),
        "tensorboard": tensorboard,
    }
    try:
        return fit(plan.config, plan.dataset, plan.split, run, **options)
    except RunFinishedError as finished:
        if tensorboard and not (Path(run) / TENSORBOARD_FOLDER).exists():
            warnings.warn(
                f"{run}: is finished, and was trained without TensorBoard logs; none are written",
                stacklevel=2,
            )
        return finished.result


def finish(run: str | Path, cases: Sequence[Case]) -> dict[str, Path]:
    """Export the network of a run and write its report.

    The pictures of the report are made by the exported file alone, as a user of it would see
    them.

    Args:
        run: Folder of a finished training; gets ``model.onnx`` and ``report.html``.
        cases: Labelled cases to show; the first few are taken whose files are there.

    Returns:
        What was written, by name.

    Raises:
        InputError: The run cannot be read, or the exported network does not agree with it.
    """
    from segjax.report.training import write_report
    from segjax_onnx.predict.predictor import Predictor
    from segjax_onnx.write.convert import export_onnx

    run = Path(run)
    model = export_onnx(run, run / "model.onnx", overwrite=True)
    predictor = Predictor(model)
    shown = [case for case in cases if _is_there(case)][:_EXAMPLES]
    examples = [example(case, predictor) for case in shown]
    return {"model": model, "report": write_report(run, examples=examples)}


def finish_sweep(result: "SweepResult") -> dict[str, Path]:
    """Write the report of a sweep and export the network of its best member.

    Args:
        result: Of :func:`segjax.train.sweep`; its folder gets ``report.html``, ``figures/``
            and ``model.onnx``, over those of a smaller grid.

    Returns:
        What was written, by name; no model where no member has a validation Dice.

    Raises:
        InputError: All members have failed, or the exported network does not agree with its run.
    """
    from segjax.report.sweep import write_sweep_report
    from segjax_onnx.write.convert import export_onnx

    written = {"report": write_sweep_report(result.folder)}
    if result.run is not None:
        model = export_onnx(result.run, result.folder / "model.onnx", overwrite=True)
        written["model"] = model
    return written


def _is_there(case: Case) -> bool:
    """Say whether the files of a case are there: those of a cached one may have been moved."""
    files = [file for image in case.images for file in files_in(image)]
    return all(path.exists() for path in (*files, *([case.label] if case.label else [])))


def example(case: Case, predictor: "Predictor") -> "Example":
    """Segment a labelled case, for a report or a picture."""
    from segjax.report.training import Example

    image = read_image(case.images, channels=predictor.metadata.in_channels)
    truth = read_case_label(case, like=grid(image)) if case.label else None
    mask = predictor.predict(image)
    if truth is not None and case.coding.ignored is not None:
        counts = truth.data != IGNORED
        truth, mask = (one.with_data(one.data * counts) for one in (truth, mask))
    return Example(case.name, image, truth, mask)


@dataclass(frozen=True)
class Segmentation:
    """What became of one image.

    Attributes:
        case: Its name.
        seconds: Time from reading the image to having written the mask.
        sizes: Size of each label but the background.
        unit: Of the sizes: ``"ml"``, or ``"pixels"`` for a 2D image.
        error: Why there is no mask; empty where there is one.
        kept: Whether the mask was there already.
    """

    case: str
    seconds: float
    sizes: tuple[float, ...] = ()
    unit: str = "ml"
    error: str = ""
    kept: bool = False


def segment(
    predictor: "Predictor",
    cases: Sequence[Case],
    out: str | Path,
    *,
    skip_existing: bool = False,
    **options: Any,
) -> Iterator[Segmentation]:
    """Segment images one after another; one that fails does not stop the others.

    Args:
        predictor: The exported network.
        cases: What to segment.
        out: Folder for the masks.
        skip_existing: Keep masks that exist, with whatever they hold, and segment the others.
        options: As for :meth:`segjax_onnx.predict.predictor.Predictor.predict_files`.

    Yields:
        One result for each case, in order, as soon as its mask is written.

    Raises:
        InputError: Masks that exist shall be replaced and kept; or, before any work, a file
            would be written twice, over an image, or over one of another kind.
    """
    from segjax.progress import track
    from segjax_onnx.predict.outputs import check_outputs

    if options.get("overwrite") and skip_existing:
        raise InputError("masks that exist can be overwritten or skipped, but not both")
    if skip_existing:
        options["overwrite"] = True  # a mask without the probabilities that are wanted too
    wanted = {name: options[name] for name in ("format", "probabilities") if name in options}
    check_outputs(cases, out, **wanted, overwrite=True)
    for case in cases if len(cases) == 1 else track(cases, "Segmenting"):
        start = time.perf_counter()
        try:
            mask = _finished(case, out, options) if skip_existing else None
            kept = mask is not None
            if mask is None:
                (mask,) = predictor.predict_files([case], out, **options)
            sizes, unit = _sizes(mask, len(predictor.metadata.labels))
            done = Segmentation(case.name, time.perf_counter() - start, sizes, unit, kept=kept)
        except Exception as error:  # the other images are worth having all the same
            done = Segmentation(case.name, time.perf_counter() - start, error=_reason(case, error))
        yield done


def _reason(case: Case, error: Exception) -> str:
    """Say why a case failed, and which file that is about."""
    files = ", ".join(map(str, case.images))
    if not isinstance(error, InputError):
        return f"{files}: {type(error).__name__}: {error}"
    named = any(str(image) in str(error) for image in case.images)
    known = named or any(file.name in str(error) for i in case.images for file in files_in(i))
    return str(error) if known else f"{files}: {error}"


def _finished(case: Case, out: str | Path, options: Mapping[str, Any]) -> Path | None:
    """Return the mask of a case where all that is wanted of it exists."""
    from segjax_onnx.predict.outputs import output_files

    mask, map_ = output_files(case, out, options.get("format"))
    done = mask.exists() and (map_.exists() or not options.get("probabilities"))
    return mask if done else None


def check_all(results: Sequence[Segmentation]) -> None:
    """Raise what went wrong in :func:`segment`, if anything did.

    Raises:
        InputError: With the message of the first image that failed, and how many others did.
    """
    failed = [result for result in results if result.error]
    if failed:
        others = f" ({len(failed)} of {len(results)} images failed)" if len(results) > 1 else ""
        raise InputError(f"{failed[0].error}{others}")


def _sizes(mask: Path, classes: int) -> tuple[tuple[float, ...], str]:
    import numpy as np

    from segjax.data.io.formats import read_label
    from segjax.evaluate.overlap import volume_ml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the image's header, which was told of before
        volume = read_label(mask, classes=classes)
    masks = [volume.data == value for value in range(1, classes)]
    if volume.spatial_dims == 2:
        return tuple(float(np.count_nonzero(mask)) for mask in masks), "pixels"
    return tuple(volume_ml(mask, volume.affine) for mask in masks), "ml"
