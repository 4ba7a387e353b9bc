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
    from segjax_onnx.predictor import Predictor

__all__ = [
    "Plan",
    "Segmentation",
    "check_all",
    "example",
    "finish",
    "plan",
    "read_settings",
    "segment",
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

    def cases(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of the given names, in that order."""
        by_name = {case.name: case for case in self.dataset.cases}
        return tuple(by_name[name] for name in names)


def plan(
    data: str | Path, model: str, *settings: Mapping[str, Any], validation: float = 0.2
) -> Plan:
    """Look at a data folder and decide how to train on it.

    Args:
        data: Folder of labelled images.
        model: Name in :func:`segjax.models.names`.
        settings: Fields of a ``TrainConfig`` as JSON values, which replace the defaults that
            the data suggest; later mappings win, and ``optimizer`` is merged field by field.
        validation: Fraction of the cases to validate on.

    Raises:
        InputError: The data cannot be read, or a setting is unknown or out of range.

    Example:
        >>> plan("brains", "mpunet++", {"epochs": 20}).config.epochs  # doctest: +SKIP
        20
    """
    from segjax.train.config import TrainConfig, default_config

    dataset = find_cases(data)
    values = default_config(dataset, model).to_json()
    for layer in settings:
        values |= {**layer, "optimizer": values["optimizer"] | layer.get("optimizer", {})}
    config = TrainConfig.from_json(values)
    names = [case.name for case in dataset.cases]
    return Plan(dataset, split_cases(names, validation=validation, seed=config.seed), config)


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
