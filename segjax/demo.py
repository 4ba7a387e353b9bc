"""The whole chain on synthetic heads: draw, train, export, segment, measure, report."""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from segjax import workflow
from segjax.data.cases import Case
from segjax.errors import InputError
from segjax.evaluate.compare import Row, compare_cases
from segjax.evaluate.pairs import Pair
from segjax.evaluate.tables import write_metrics

__all__ = ["DemoResult", "run_demo"]

_HEADS, _VALIDATION, _TEST = 30, 4, 6
_SETTINGS: Mapping[str, Any] = {  # 150 steps: small patches of many heads teach fastest
    "patch_size": [32, 32, 32],
    "batch_size": 4,
    "patches_per_case": 5,
    "foreground": 0.3,
    "epochs": 6,
    "validate_every": 2,
    "optimizer": {"learning_rate": 0.02},
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo made and measured.

    Attributes:
        rows: Measures of each test head, from :func:`segjax.evaluate.compare.score`.
        paths: What to look at, by name.
        seconds: Time that it took.
    """

    rows: tuple[Row, ...]
    paths: dict[str, Path]
    seconds: float

    @property
    def dice(self) -> float:
        """Mean Dice of the test heads, which training and model selection never saw."""
        return fmean(float(row["dice"]) for row in self.rows)


def run_demo(
    out: str | Path, *, seed: int = 0, say: Callable[[str], object] = lambda text: None
) -> DemoResult:
    """Draw heads with lesions, train on some, and segment others with the exported network.

    Takes about two minutes on two CPU cores.

    Args:
        out: Folder for everything; must be empty or absent.
        seed: Decides the heads, the split and the training.
        say: Told what comes next, in a line.

    Returns:
        Dice of the test heads, and where to find pictures, report, model and masks.

    Raises:
        InputError: The folder holds files already, or cannot be written.

    Example:
        >>> run_demo("segjax-demo").dice > 0.8  # takes two minutes  # doctest: +SKIP
        True
    """
    from segjax.data.phantom.dataset import write_dataset
    from segjax.train.plans.plan import plan as plan_training
    from segjax_onnx.predict.predictor import Predictor

    importlib.import_module("segjax.train._fit")  # says before all work where JAX is missing
    start, out = time.perf_counter(), Path(out)
    _refuse_files(out)
    say(f"1/4  drawing {_HEADS} synthetic heads with lesions")
    write_dataset(out / "data", count=_HEADS, seed=seed)
    plan = plan_training(
        out / "data",
        {**_SETTINGS, "seed": seed, "name": "demo"},
        look=False,
        validation=_VALIDATION / _HEADS,
        test=_TEST / _HEADS,
    )
    unseen = plan.cases("test")
    say(f"2/4  training {plan.config.model} on {len(plan.split.train)} of them")
    workflow.train(plan, out / "run")
    say("3/4  exporting the network as one ONNX file, which is compared with JAX")
    written = workflow.finish(out / "run", unseen)
    say(f"4/4  segmenting {len(unseen)} unseen heads with onnxruntime alone")
    Predictor(written["model"]).predict_files(unseen, out / "masks")
    pairs = [_pair(case, out / "masks") for case in unseen]
    rows = compare_cases(pairs, names=["lesion"]).check().rows
    paths = {
        "picture": _overview(out, unseen, rows),
        **written,
        "masks": out / "masks",
        "measures": write_metrics(rows, out / "test_metrics.csv", split="test"),
    }
    return DemoResult(tuple(rows), paths, time.perf_counter() - start)


def _pair(case: Case, masks: Path) -> Pair:
    """Return the files of a head and of its mask."""
    assert case.label is not None
    return Pair(case.name, case.label, masks / case.images[0].name)


def _refuse_files(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already; remove it, or give another folder")


def _overview(out: Path, cases: Sequence[Case], rows: Sequence[Row]) -> Path:
    """Draw the case of median Dice: neither the best nor the worst."""
    from segjax.data.io.formats import read_image, read_label
    from segjax.report.plots import overlay

    row = sorted(rows, key=lambda row: float(row["dice"]))[len(rows) // 2]
    case = next(case for case in cases if case.name == row["case"])
    assert case.label is not None
    path = out / "overview.png"
    overlay(
        read_image(case.images),
        truth=read_label(case.label),
        prediction=read_label(out / "masks" / case.images[0].name),
        path=path,
        title=f"{case.name}, unseen in training: Dice {row['dice']:.2f}",
        labels=("background", "lesion"),
    )
    return path
