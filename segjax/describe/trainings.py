"""Say in words what a training is, was or will be: its settings, its run, its sweep."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.data.labels import LabelCoding
from segjax.describe.words import Facts, steps_in_words, times
from segjax.errors import InputError
from segjax.files import read_csv, read_json
from segjax.runs.folder import RunFolder
from segjax.text import plural

if TYPE_CHECKING:
    from segjax.data.splits import Split
    from segjax.runs.folds import FoldScore
    from segjax.train.config import TrainConfig
    from segjax.train.plans.plan import Plan

__all__ = [
    "describe_configuration",
    "describe_folds",
    "describe_plan",
    "describe_run",
    "describe_sweep",
]

_NO_FOLDS = "no folds.csv yet: segjax train writes it after the last fold"


def describe_configuration(path: Path) -> Facts:
    """Describe settings of a training: those of a run, or what ``segjax plan`` proposed."""
    from segjax.train.config import read_config

    config = read_config(path)
    return {
        "kind": "configuration of segjax train",
        **_network(config),
        "training": f"{plural(config.epochs, 'epoch')}, {_rate(config)}",
        "loss": _loss(config),
        **_start(config),
    }


def describe_run(run: Path) -> Facts:
    """Describe a run: its network and settings, how far it got and how well it did."""
    from segjax.data.splits import read_split
    from segjax.train.config import read_config

    config = read_config(run)
    facts = {
        "kind": "run of segjax train",
        **_network(config),
        "loss": _loss(config),
        "learning": _rate(config),
        "cases": _split(read_split(RunFolder(run).split)),
    }
    facts |= _progress(RunFolder(run).metrics, config.epochs)
    return facts | {"made": _made(RunFolder(run)) or "no model.onnx yet: segjax export"}


def describe_sweep(sweep: Path) -> Facts:
    """Describe a sweep: its grid, how many of its trainings are finished, and the best."""
    from segjax.data.splits import read_split

    folder = RunFolder(sweep)
    plan = read_json(folder.grid)
    try:
        grid = {name: plan[name] for name in ("kernels", "alphas", "seeds")}
        labels = plan["base"]["labels"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder.grid}: cannot be read as a sweep ({error})") from error
    done = read_csv(folder.results) if folder.results.is_file() else []
    return {
        "kind": "sweep of segjax sweep",
        **{name: ", ".join(map(str, values)) for name, values in grid.items()},
        "labels": ", ".join(labels),
        "cases": _split(read_split(folder.split)),
        "finished": f"{len(done)} of {prod(map(len, grid.values()))} trainings",
        **_best_member(sweep, done),
        "made": _made(folder) or "nothing yet: segjax sweep",
    }


def describe_folds(folder: Path) -> Facts:
    """Describe a cross-validation: how far each fold got, and the Dice of each label over all."""
    from segjax.runs.folds import read_scores
    from segjax.train.config import read_config

    there = RunFolder(folder)
    begun = [fold for fold in there.folds if fold.config.is_file()]
    facts = {"kind": "cross-validation of segjax train"}
    if begun:
        facts |= _network(read_config(begun[0].path))
    for fold in begun:
        progress = _progress(fold.metrics, fold.planned_epochs)
        facts[fold.path.name.replace("fold", "fold ")] = ", best Dice ".join(progress.values())
    scores = read_scores(there.fold_scores) if there.fold_scores.is_file() else []
    return facts | (_dice_of_folds(scores) if scores else {"Dice": _NO_FOLDS})


def describe_plan(plan: "Plan") -> Facts:
    """Describe what a training is about to do."""
    config, split = plan.config, plan.split
    own = _network(config)
    steps = -(-len(split.train) * config.patches_per_case // config.batch_size)
    return {
        "cases": f"{len(plan.dataset.cases)}: {_split(split)}{_kept(plan)} (seed {config.seed})",
        "labels": _labels(config.labels, plan.dataset.coding),
        "network": f"{config.model}, {_count_parameters(config):,} parameters",
        "input": f"{plural(config.in_channels, 'channel')}, {own['preprocessing']}",
        "patch": own["patch"],
        "training": f"{plural(config.epochs, 'epoch')} of {plural(steps, 'step')}, {_rate(config)}",
        "loss": _loss(config),
        **_start(config),
    }


def _network(config: "TrainConfig") -> Facts:
    return {
        "model": config.model,
        "labels": _labels(config.labels, config.label_values),
        "preprocessing": steps_in_words(config.pipeline.to_json()),
        "patch": f"{times(config.patch_size)}, {config.batch_size} in a step",
    }


def _rate(config: "TrainConfig") -> str:
    optimizer = config.optimizer
    if optimizer.is_handed:
        return optimizer.name
    return f"{optimizer.schedule} learning rate {optimizer.learning_rate:g}"


def _loss(config: "TrainConfig") -> str:
    return " + ".join(_term(term) for term in config.loss.to_json())


def _made(folder: RunFolder) -> str:
    return ", ".join(file.name for file in (folder.model, folder.report) if file.is_file())


def _progress(metrics: Path, epochs: int) -> Facts:
    """Return the last epoch and the best mean validation Dice of a run's ``metrics.csv``."""
    from segjax.runs.metrics import best_epoch, read_metrics, validation_dice

    if not metrics.is_file() or (table := read_metrics(metrics)).empty:
        return {"trained": "not yet"}
    facts = {"trained": f"{table.epoch.max()} of {plural(epochs, 'epoch')}"}
    if (best := best_epoch(table)) is not None:
        dice = validation_dice(table).groupby("epoch").value.mean()[best]
        facts["best Dice"] = f"{dice:.4f} (validation, epoch {best})"
    return facts


def _dice_of_folds(scores: Sequence["FoldScore"]) -> Facts:
    """Return the mean Dice of each label, with its standard deviation over the folds."""
    from segjax.runs.folds import mean_and_deviation, mean_by_label

    facts = {}
    for label, means in mean_by_label(scores).items():
        facts[f"Dice {label}"] = "unknown: no validation case holds it"
        if means:
            mean, deviation = mean_and_deviation(means)
            words = f"{mean:.4f} ± {deviation:.4f} (validation, {plural(len(means), 'fold')})"
            facts[f"Dice {label}"] = words
    return facts


def _best_member(sweep: Path, done: Sequence[dict[str, str]]) -> Facts:
    measured = [row for row in done if row.get("validation_dice")]
    if not measured:
        return {}
    best = max(measured, key=lambda row: float(row["validation_dice"]))
    dice = f"{float(best['validation_dice']):.4f} (validation, {best['run']})"
    return {"best Dice": dice, "its run": str(RunFolder(sweep).member(best["run"]).path)}


def _labels(names: Sequence[str], coding: LabelCoding | None) -> str:
    """Name the classes, with the stored values of each where these are others."""
    if coding is None or coding.plain or not coding.names:
        return ", ".join(names)
    return str(coding)


def _start(config: "TrainConfig") -> Facts:
    if config.init is None:
        return {}
    head = ", with a new head" if config.init.new_head else ""
    frozen = f", {' and '.join(config.freeze)} frozen" if config.freeze else ""
    digest = f" (SHA-256 {config.init.digest[:12]}…)" if config.init.digest else ""
    return {"start": f"{config.init.source}{digest}{head}{frozen}"}


def _split(split: "Split") -> str:
    parts = ("train", "training"), ("validation", "validation"), ("test", "test")
    sizes = [(len(getattr(split, name)), text) for name, text in parts]
    return ", ".join(f"{size} {text}" for size, text in sizes if size or text != "test")


def _kept(plan: "Plan") -> str:
    """Say how many of the test cases the dataset itself keeps for testing."""
    test = set(plan.split.test)
    labels = [case.source.label for case in plan.dataset.cases if case.name in test]
    kept = sum(label is not None and label.parent.name == "labelsTs" for label in labels)
    return f", {kept} of them in labelsTs" if kept else ""


def _term(term: Mapping[str, Any]) -> str:
    weight = "" if term["weight"] == 1 else f"{term['weight']:g} × "
    alpha = f" (alpha {term['alpha']:g})" if "alpha" in term else ""
    return f"{weight}{term['name']}{alpha}"


def _count_parameters(config: "TrainConfig") -> int:
    """Count without computing: JAX only follows the shapes."""
    import jax

    from segjax import models

    model = models.create(config.model, **config.interface)
    size = (model.size_multiple,) * model.spatial_dims
    image = jax.ShapeDtypeStruct((1, *size, config.in_channels), "float32")
    return models.count_parameters(jax.eval_shape(model.init, jax.random.key(0), image))
