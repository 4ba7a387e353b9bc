"""The main roads through the library, which the command line takes: train, finish, segment."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.datasets import Case, Dataset, Split, find_cases, split_cases
from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.evaluate.report import Example
    from segjax.train.config import TrainConfig
    from segjax.train.fit import FitResult
    from segjax_onnx.predictor import Predictor

__all__ = [
    "Plan",
    "Segmentation",
    "cases_named",
    "check_all",
    "example",
    "finish",
    "plan",
    "read_settings",
    "segment",
    "train",
]

_EXAMPLES = 4  # cases whose pictures go into the report of a training


@dataclass(frozen=True)
class Plan:
    """What a training is about to do: hand it to :func:`segjax.train.fit.fit`.

    Attributes:
        dataset: The labelled cases.
        split: Which of them are for training, for validation and for testing.
        config: Network and settings.
    """

    dataset: Dataset
    split: Split
    config: "TrainConfig"

    @property
    def validation_cases(self) -> tuple[Case, ...]:
        """The cases to validate on."""
        return cases_named(self.dataset, self.split.validation)


def plan(
    data: str | Path, *settings: Mapping[str, Any], validation: float = 0.2, test: float = 0.0
) -> Plan:
    """Look at a data folder and decide how to train on it.

    Args:
        data: Folder of labelled images.
        settings: Fields of a ``TrainConfig`` as JSON values, which replace the defaults that
            the data suggest; later mappings win, and ``optimizer`` is merged field by field.
        validation: Fraction of the cases to validate on.
        test: Fraction of the cases to keep away from the training altogether.

    Raises:
        InputError: The data cannot be read, or a setting is unknown or out of range.

    Example:
        >>> plan("brains", {"model": "unet3d", "epochs": 20}).config.epochs  # doctest: +SKIP
        20
    """
    from segjax.data.pipeline import Pipeline
    from segjax.train.config import TrainConfig, default_config

    wanted = _merged({}, *settings)
    pipeline = Pipeline.from_json(wanted["pipeline"]) if "pipeline" in wanted else None
    dataset = find_cases(data)
    default = default_config(dataset, wanted.get("model", "mpunet++"), pipeline=pipeline)
    config = TrainConfig.from_json(_merged(default.to_json(), wanted))
    names = [case.name for case in dataset.cases]
    split = split_cases(names, validation=validation, test=test, seed=config.seed)
    return Plan(dataset, split, config)


def _merged(values: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for layer in layers:
        optimizer = {**merged.get("optimizer", {}), **layer.get("optimizer", {})}
        merged = {**merged, **layer} | ({"optimizer": optimizer} if optimizer else {})
    return merged


def cases_named(dataset: Dataset, names: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases of the given names, in that order.

    Raises:
        KeyError: A name is unknown.
    """
    by_name = {case.name: case for case in dataset.cases}
    return tuple(by_name[name] for name in names)


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings for :func:`plan`: the ``config.json`` of a run, or any part of one.

    Raises:
        InputError: The file is no JSON object.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f'{path}: settings are an object, such as {{"epochs": 50}}')
    return {name: value for name, value in values.items() if name != "segjax"}


def train(plan: Plan, run: str | Path) -> "FitResult":
    """Carry out a plan, or go on with it; a training that is finished is not done again.

    Raises:
        InputError: As :func:`segjax.train.fit.fit`.
    """
    from segjax.train.fit import RunFinishedError, fit

    try:
        return fit(plan.config, plan.dataset, plan.split, run)
    except RunFinishedError as finished:
        return finished.result


def finish(run: str | Path, cases: Sequence[Case]) -> dict[str, Path]:
    """Export the network of a run and write its report.

    The pictures of the report are made by the exported file alone, as a user of it would see
    them.

    Args:
        run: Folder of a finished training; gets ``model.onnx`` and ``report.html``.
        cases: Labelled cases to show; the first few are taken.

    Returns:
        What was written, by name.

    Raises:
        InputError: The run cannot be read, or the exported network does not agree with it.
    """
    from segjax.evaluate.report import write_report
    from segjax_onnx.convert import export_onnx
    from segjax_onnx.predictor import Predictor

    run = Path(run)
    model = export_onnx(run, run / "model.onnx", overwrite=True)
    predictor = Predictor(model)
    examples = [example(case, predictor) for case in cases[:_EXAMPLES]]
    return {"model": model, "report": write_report(run, examples=examples)}


def example(case: Case, predictor: "Predictor") -> "Example":
    """Segment a labelled case, for a report or a picture."""
    from segjax.data.formats import read_image, read_label
    from segjax.evaluate.report import Example

    image = read_image(case.images)
    truth = read_label(case.label) if case.label else None
    return Example(case.name, image, truth, predictor.predict(image))


@dataclass(frozen=True)
class Segmentation:
    """What became of one image.

    Attributes:
        case: Its name.
        seconds: Time from reading the image to having written the mask.
        sizes: Size of each label but the background.
        unit: Of the sizes: ``"ml"``, or ``"pixels"`` for a 2D image.
        error: Why there is no mask; empty where there is one.
    """

    case: str
    seconds: float
    sizes: tuple[float, ...] = ()
    unit: str = "ml"
    error: str = ""


def segment(
    predictor: "Predictor",
    cases: Sequence[Case],
    out: str | Path,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
) -> Iterator[Segmentation]:
    """Segment images one after another; one that fails does not stop the others.

    Args:
        predictor: The exported network.
        cases: What to segment.
        out: Folder for the masks.
        probabilities: Write the probability of each label too.
        overwrite: Replace masks that exist.

    Yields:
        One result for each case, in order, as soon as its mask is written.
    """
    for case in cases:
        start = time.perf_counter()
        try:
            (mask,) = predictor.predict_files(
                [case], out, probabilities=probabilities, overwrite=overwrite
            )
            sizes, unit = _sizes(mask, len(predictor.metadata.labels))
            yield Segmentation(case.name, time.perf_counter() - start, sizes, unit)
        except InputError as error:  # the other images are worth having all the same
            yield Segmentation(case.name, time.perf_counter() - start, error=str(error))


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

    from segjax.data.formats import read_label
    from segjax.evaluate.overlap import volume_ml

    volume = read_label(mask, classes=classes)
    masks = [volume.data == value for value in range(1, classes)]
    if volume.spatial_dims == 2:
        return tuple(float(np.count_nonzero(mask)) for mask in masks), "pixels"
    return tuple(volume_ml(mask, volume.spacing) for mask in masks), "ml"
