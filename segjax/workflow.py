"""The main roads through the library, which the command line takes.

Preprocess, train, finish.
"""

import csv
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.cases import Case, Dataset
from segjax.data.io.formats import read_image
from segjax.data.labels import IGNORED
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.sources import files_in
from segjax.errors import InputError
from segjax.files import atomic_path
from segjax.grid import grid
from segjax.runs.folder import RunFolder
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.data.cache.cache import Cache, Outcome
    from segjax.data.splits import Split
    from segjax.report.training import Example
    from segjax.train._fit import FitResult
    from segjax.train.plans.plan import Plan
    from segjax.train.sweeps.sweep import SweepResult
    from segjax_onnx.predict.predictor import Predictor

__all__ = [
    "Preprocessed",
    "check_outcomes",
    "example",
    "finish",
    "finish_sweep",
    "preprocess",
    "train",
    "write_niftis",
]

_EXAMPLES = 4  # cases whose pictures go into the report of a training


@dataclass(frozen=True)
class Preprocessed:
    """What :func:`preprocess` made.

    Attributes:
        outcomes: What became of every case.
        seconds: Time of it all, without the figures.
        early_megabytes: Size of the images after the last expensive step; they may be deleted.
        written: What was written, by name.
    """

    outcomes: tuple["Outcome", ...]
    seconds: float
    early_megabytes: float
    written: dict[str, Path]


def preprocess(
    dataset: Dataset[Case],
    pipeline: Pipeline,
    out: str | Path,
    *,
    workers: int | None = None,
    split: "Split | None" = None,
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
    from segjax.provenance import here_and_now, write_part

    start, out = time.perf_counter(), Path(out)
    options: dict[str, Any] = {"workers": workers, "split": split, "refit": refit}
    outcomes = tuple(cache.preprocess(dataset, pipeline, out, **options))
    seconds = time.perf_counter() - start
    write_part(out, here_and_now(_folder_of(dataset), seconds=seconds))
    written = {"cases": out / "cases", "report": _write_outcomes(outcomes, out / "report.csv")}
    try:
        made = cache.open_cache(out)
        _warn_of_channels(made)
        written |= _draw(made, out / "figures")
    except InputError as error:  # the cases are worth having all the same
        warnings.warn(f"no figures: {error}", stacklevel=2)
    early = sum(file.stat().st_size for file in (out / "early").rglob("*")) / 1e6
    return Preprocessed(outcomes, seconds, early, written)


def _folder_of(dataset: Dataset[Case]) -> str:
    from segjax.provenance import common_folder

    images = (image for case in dataset.cases for image in case.images)
    return common_folder(file for image in images for file in files_in(image))


def _warn_of_channels(cache: "Cache") -> None:
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


def _write_outcomes(outcomes: Sequence["Outcome"], path: Path) -> Path:
    columns = ("case", "state", "seconds", "megabytes", "peak_megabytes", "error")
    rows = [[getattr(outcome, name) for name in columns] for outcome in outcomes]
    with (
        atomic_path(path, overwrite=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([columns, *rows])
    return path


def _draw(cache: "Cache", folder: Path) -> dict[str, Path]:
    from segjax.report.histograms import before_and_after, draw_histograms

    if not cache.cases:
        return {}
    folder.mkdir(exist_ok=True)
    paths = {"histograms": folder / "histograms.png", "picture": folder / "case.png"}
    draw_histograms(cache, paths["histograms"], overwrite=True)
    fullest = max(cache.cases, key=lambda case: case.foreground.size if case.source.label else 0)
    before_and_after(fullest, paths["picture"], overwrite=True)
    return paths


def check_outcomes(outcomes: Sequence["Outcome"], out: str | Path) -> None:
    """Raise what went wrong in :func:`preprocess`, if anything did.

    Raises:
        InputError: With the number of the cases that failed, and why the first one did.
    """
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        there = f"the others are in {out}" if len(failed) < len(outcomes) else "none is left"
        others = f" ({len(failed)} of {len(outcomes)} cases failed; {there})"
        raise InputError(failed[0].error + (others if len(outcomes) > 1 else ""))


def write_niftis(cache: "Cache") -> None:
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


def train(
    plan: "Plan",
    run: str | Path,
    *,
    workers: int | None = None,
    data_on_device: bool | None = None,
    tensorboard: bool = False,
) -> "FitResult":
    """Carry out a plan, or go on with it; a training that is finished is not done again.

    Args:
        plan: What to train.
        run: Folder of the run.
        workers: Processes that draw batches; 0 takes a thread. ``None``: what suits the backend,
            see :class:`segjax.train.Loading`.
        data_on_device: Whether to keep all training cases on the device; ``None`` as above.
        tensorboard: Whether to write TensorBoard logs too.

    Raises:
        InputError: As :func:`segjax.train.fit`.
    """
    from segjax.train._fit import Loading, RunFinishedError, fit

    options: dict[str, Any] = {
        "loading": Loading(workers, data_on_device),
        "tensorboard": tensorboard,
    }
    try:
        return fit(plan.config, plan.dataset, plan.split, run, **options)
    except RunFinishedError as finished:
        if tensorboard and not RunFolder(Path(run)).tensorboard.exists():
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
        InputError: The run cannot be read.

    Warns:
        UserWarning: The network cannot be exported, or the exported one does not agree with it;
            the report has no pictures then.
    """
    from segjax.report.training import write_report
    from segjax_onnx.predict.predictor import Predictor
    from segjax_onnx.write.convert import export_onnx

    run = Path(run)
    try:
        model = export_onnx(run, RunFolder(run).model, overwrite=True)
    except InputError as error:  # what was learned is worth a report all the same
        warnings.warn(f"no {RunFolder(run).model.name}: {error}", stacklevel=2)
        return {"report": write_report(run)}
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
        model = export_onnx(result.run, RunFolder(result.folder).model, overwrite=True)
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
    truth = case.read_label(like=grid(image)) if case.label else None
    mask = predictor.predict(image)
    if truth is not None and case.coding.ignored is not None:
        counts = truth.data != IGNORED
        truth, mask = (one.with_data(one.data * counts) for one in (truth, mask))
    return Example(case.name, image, truth, mask)
