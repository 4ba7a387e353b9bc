"""What a training is made of: plain data that goes to JSON and back."""

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

import segjax
from segjax.data import augment
from segjax.data.augment.transform import Transform
from segjax.data.cases import Dataset
from segjax.data.labels import IGNORED, LabelCoding, coding_of_labels
from segjax.data.prepare.pipeline import Pipeline, Reorient, Resample, Step, ZScore
from segjax.errors import InputError
from segjax.files import atomic_path, read_json
from segjax.train.losses import Loss
from segjax.train.plans.survey import SAME_SPACING, Survey, spacing_spread, survey

CONFIG_FILE = "config.json"
_LARGEST = {2: 256, 3: 64}  # voxels along an axis of a default patch, by the network's rank
_SMALL_PATCH = 48**3  # voxels; of smaller patches four make a batch
_STEPS = 1000  # steps of a default training, about
Activation = Literal["softmax", "sigmoid"]
ComputeDtype = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "adam", "radam", "lamb", "lion", "sgd"]
Schedule = Literal["one-cycle", "constant", "cosine", "polynomial", "warmup-cosine"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How the parameters move.

    Attributes:
        learning_rate: Peak of the schedule. Lion wants about a third of what suits AdamW, and SGD
            ten times as much.
        weight_decay: Decay of the kernels; biases, norms and slopes have none.
        schedule: ``"one-cycle"`` rises over the first 30 % of the steps and falls to almost
            nothing, ``"cosine"`` falls from the start, ``"constant"`` stays, ``"polynomial"``
            falls almost in a line, as nnU-Net's, and ``"warmup-cosine"`` rises before it falls.
        gradient_clip: Greatest global norm of the gradient; ``None`` clips nothing.
        name: ``"adamw"``, ``"adam"``, ``"radam"``, ``"lamb"``, ``"lion"`` or ``"sgd"``, which has
            Nesterov's momentum.
        momentum: Part of the mean gradient that a step keeps (Adam's beta 1), in [0, 1); nnU-Net
            has 0.99 with SGD.
        warmup: Fraction of the steps in which ``"warmup-cosine"`` rises, in [0, 1).
        power: Exponent of ``"polynomial"``.

    Raises:
        InputError: A value is out of range, or of no effect with this schedule.

    Example:
        >>> OptimizerConfig(learning_rate=1e-3).schedule
        'one-cycle'
    """

    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    schedule: Schedule = "one-cycle"
    gradient_clip: float | None = 1.0
    name: Optimizer = "adamw"
    momentum: float = 0.9
    warmup: float = 0.1
    power: float = 0.9

    def __post_init__(self) -> None:
        _check(vars(self), _OPTIMIZER_RULES, "optimizer.")
        for option, schedule in _SCHEDULE_OPTIONS.items():
            if getattr(self, option) != getattr(type(self), option) and self.schedule != schedule:
                raise InputError(
                    f"optimizer.{option} does nothing with the schedule {self.schedule}: leave it "
                    f"out, or take {schedule}"
                )


@dataclass(frozen=True)
class InitConfig:
    """Weights that a training starts from, in the place of random ones.

    Attributes:
        source: Folder of a run, PyTorch state dict or exported ONNX file; see
            :func:`segjax.train.transfer.load_source`.
        digest: SHA-256 of the weights, by which a training that goes on knows them;
            ``segjax.workflow.plan`` fills it in.
        new_head: Whether the layers are drawn anew that depend on the number of labels, and, if
            that is another one, on the number of channels.

    Example:
        >>> InitConfig("run").new_head
        False
    """

    source: str
    digest: str | None = None
    new_head: bool = False

    def __post_init__(self) -> None:
        _check(vars(self), _INIT_RULES, "init.")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training does, apart from the data.

    Attributes:
        model: Name in :func:`segjax.models.names`.
        patch_size: Voxels of a training patch. ``(x, y, 1)`` lets a 2D network train on the
            slices of volumes.
        in_channels: Channels of an image.
        labels: Name of each class; the first one, 0, is the background.
        activation: ``"softmax"`` over one output per label, or ``"sigmoid"`` of one output for
            one foreground label.
        dropout: Probability of dropout in training, in [0, 1); ``None`` takes the network's own,
            which is that of its study.
        pipeline: Preprocessing, stored here and in the exported network.
        batch_size: Patches in one step.
        patches_per_case: Patches drawn from every case in one epoch.
        foreground: Fraction of patches drawn around a foreground voxel, in [0, 1].
        overlap: Fraction shared by neighbouring patches of the sliding window, in [0, 1).
        epochs: Passes over the training cases.
        optimizer: What moves the parameters, and how far.
        ema: Part of an exponential moving average of the parameters that a step keeps, such as
            0.999; the averages are then what is validated and exported. ``None`` keeps none.
        compute_dtype: ``"bfloat16"`` lets convolutions train in half precision, which a GPU does
            faster, and a CPU slower; parameters, norms and losses stay float32, and so do
            validation and the exported network.
        loss: Weighted sum of loss terms.
        deep_supervision: Whether every head of the network learns to segment alone, too; the
            exported network is the same. Only mpunet++ has heads.
        augment: Random transforms of the patches, in this order.
        validate_every: Epochs between two validations; the last epoch always has one.
        patience: Validations without a better Dice after which training stops; ``None`` never.
        seed: Decides first weights, sampling, augmentation and dropout, and nothing else does: see
            :func:`segjax.train.fit` for when the result is the same to the bit.
        name: Name of the run in ``metrics.csv``.
        init: Weights to start from; ``None`` draws them.
        freeze: Regular expressions on the paths of parameters that stay as in ``init``, such as
            ``"^X00/"``; batch norms that are frozen use and keep their running statistics.
        label_values: What the values of label maps stand for, where that is said here and not by
            the data; as JSON ``{"core": [1, 4], "edema": 2, "ignore": 3}``, for which see
            :func:`segjax.data.labels.coding_of_labels`. ``None`` leaves it to the data.

    Raises:
        InputError: A value is out of range; the message names the field.

    Example:
        >>> config = TrainConfig("mpunet++", patch_size=(64, 64, 64), epochs=20)
        >>> config.out_channels
        2
        >>> TrainConfig.from_json(config.to_json()) == config
        True
    """

    model: str
    patch_size: tuple[int, ...]
    in_channels: int = 1
    labels: tuple[str, ...] = ("background", "lesion")
    activation: Activation = "softmax"
    dropout: float | None = None
    pipeline: Pipeline = field(default_factory=Pipeline)
    batch_size: int = 2
    patches_per_case: int = 1
    foreground: float = 0.5
    overlap: float = 0.5
    epochs: int = 50
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: float | None = None
    compute_dtype: ComputeDtype = "float32"
    loss: Loss = field(default_factory=Loss)
    deep_supervision: bool = False
    augment: tuple[Transform, ...] = ()
    validate_every: int = 1
    patience: int | None = None
    seed: int = 0
    name: str = "run"
    init: InitConfig | None = None
    freeze: tuple[str, ...] = ()
    label_values: LabelCoding | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", tuple(self.augment))
        _check(vars(self), _TRAIN_RULES)
        if self.label_values is not None and self.label_values.names != self.labels:
            raise InputError(
                f"label_values name the labels {', '.join(self.label_values.names)}, but labels "
                f"are {', '.join(self.labels)}: leave labels out"
            )
        if self.activation == "sigmoid" and len(self.labels) != 2:
            raise InputError(
                f"activation sigmoid has one output, but there are {len(self.labels)} labels "
                f"({', '.join(self.labels)}): use softmax"
            )
        if self.freeze and self.init is None:
            raise InputError("freeze keeps weights that are there: give init too")

    @property
    def classes(self) -> int:
        """Number of label values, the background included."""
        return len(self.labels)

    @property
    def out_channels(self) -> int:
        """Number of outputs of the network: 1 for sigmoid, else one per label."""
        return 1 if self.activation == "sigmoid" else self.classes

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        return {name: field_to_json(name, getattr(self, name)) for name in _names(type(self))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Make a configuration of JSON values; fields that are left out keep their default.

        Raises:
            InputError: A field is unknown, missing or out of range.
        """
        _check_names(cls, values)
        decoded = {name: field_from_json(name, value) for name, value in values.items()}
        _check(decoded, _TRAIN_RULES)
        if decoded.get("label_values") is not None:
            decoded.setdefault("labels", decoded["label_values"].names)
        return cls(**decoded)


def field_to_json(name: str, value: Any) -> Any:
    """Return a field of a :class:`TrainConfig` as JSON values."""
    return None if value is None else _ENCODERS.get(name, _same)(value)


def field_from_json(name: str, value: Any) -> Any:
    """Return the field of a :class:`TrainConfig` that :func:`field_to_json` wrote.

    Raises:
        InputError: The value is unknown, incomplete or out of range.
    """
    return _DECODERS.get(name, _same)(value)


def write_config(config: TrainConfig, run: Path, *, overwrite: bool = False) -> None:
    """Write ``config.json`` into a run's folder.

    Args:
        config: The configuration.
        run: The folder.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The file exists and may not be replaced, or it cannot be written.
    """
    text = json.dumps({"segjax": segjax.__version__, **config.to_json()}, indent=2)
    with atomic_path(run / CONFIG_FILE, overwrite=overwrite) as path:
        path.write_text(text + "\n", encoding="utf-8")


def read_config(run: Path) -> TrainConfig:
    """Read the configuration of a run.

    Args:
        run: The run's folder, or a ``config.json`` itself.

    Raises:
        InputError: There is no configuration, or it is not valid; the message names the file.
    """
    path = run / CONFIG_FILE if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run}: no run of segjax (it has no {CONFIG_FILE}){_what_else(run)}")
    values = read_json(path)
    if not isinstance(values, dict) or "segjax" not in values:
        raise InputError(f"{path}: not the configuration of a segjax run")
    try:
        return TrainConfig.from_json({k: v for k, v in values.items() if k != "segjax"})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _what_else(folder: Path) -> str:
    """Say what to name instead of a folder of several runs; nothing of any other."""
    if (folder / "sweep.json").is_file():
        return f", but a sweep: name one of its runs, in {folder / 'runs'}"
    if (folder / "fold0").is_dir():
        return f", but a cross-validation: name one of its folds, such as {folder / 'fold0'}"
    return ""


def default_config(
    dataset: Dataset, model: str = "mpunet++", *, pipeline: Pipeline | None = None
) -> TrainConfig:
    """Choose a configuration for a dataset, from its rank, sizes, channels and labels.

    Volumes are turned to RAS and brought to the median spacing of the set, where theirs differs
    from it by more than 5 %; intensities become z-scores. A patch covers 95 of 100 cases where
    they are small, and has at most 64 voxels along an axis of a volume, 256 of an image; a 2D
    network on volumes gets patches of one slice. About 1000 steps are made, in epochs that see
    each case about once as a whole. Intensities are scaled and noise is added; nothing is
    flipped, since left and right differ in a brain. MPU-Net++ gets no dropout: on
    hippocampi, runs without it reached 0.887 and with its study's 0.3 of 6 to 9 channels 0.867,
    at different learning rates.

    Args:
        dataset: Labelled cases, as files, whose label maps are all read, or from a cache.
        model: Name in :func:`segjax.models.names`.
        pipeline: Preprocessing, if another one is wanted; for a cache the one it was made by.

    Raises:
        InputError: The dataset cannot be used, or the model does not fit it.

    Example:
        >>> dataset = find_cases("hippocampus")  # doctest: +SKIP
        >>> default_config(dataset).patch_size  # doctest: +SKIP
        (40, 56, 48)
    """
    if pipeline is None:
        found = survey(dataset, Pipeline((Reorient("RAS"),)))
        resample = resampling(found)
        found = functools.reduce(Survey.after, resample, found)
        pipeline = Pipeline((Reorient("RAS"), *resample, ZScore()))
    else:
        found = survey(dataset, pipeline)
        _warn_of_spacings(found)
    network = create_model(model, in_channels=found.channels, out_channels=len(found.labels))
    if network.spatial_dims > found.spatial_dims:
        raise InputError(f"model {model} needs volumes, but the cases are 2D: use a 2D model")
    patch = _patch_size(found.shapes, network)
    flat = network.spatial_dims == 2
    batch_size = 8 if flat else 4 if math.prod(patch) <= _SMALL_PATCH else 2
    patches_per_case = _patches_per_case(found.shapes, patch)
    steps = math.ceil(len(dataset.cases) * patches_per_case / batch_size)
    return TrainConfig(
        model,
        patch,
        in_channels=found.channels,
        labels=found.labels,
        pipeline=pipeline,
        batch_size=batch_size,
        patches_per_case=patches_per_case,
        epochs=max(10, math.ceil(_STEPS / steps)),
        validate_every=max(1, math.ceil(_STEPS / steps) // 20),
        dropout=0.0 if model == "mpunet++" else None,
        optimizer=OptimizerConfig(learning_rate=1e-2 if model == "mpunet++" else 1e-3),
        augment=(augment.ScaleIntensity(), augment.Noise()),
    )


def resampling(found: Survey, spacing: Sequence[float] | None = None) -> tuple[Step, ...]:
    """Return what brings the images of a dataset, and later ones, to one spacing.

    Args:
        found: The dataset, turned to the orientation that the spacing is for.
        spacing: In mm; by default the median of the set, along each axis.

    Returns:
        One step, which leaves spacings within 5 % alone; none for pictures, which have no spacing.

    Example:
        >>> from segjax.data.prepare.spatial import Grid
        >>> thick = Grid((192, 192, 60), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> resampling(Survey((thick,), 1, ("background", "lesion")))
        (Resample(spacing=(1.0, 1.0, 3.0), tolerance=0.05),)
    """
    if found.spatial_dims == 2:
        return ()
    target = np.median(np.array(found.spacings), axis=0) if spacing is None else spacing
    rounded = tuple(float(f"{value:.3g}") for value in target)
    return (Resample(rounded, tolerance=SAME_SPACING),)


def _warn_of_spacings(found: Survey) -> None:
    if spacing_spread(found.spacings) > SAME_SPACING:
        rows = np.array(found.spacings)
        low, high = (" × ".join(f"{mm:.3g}" for mm in row) for row in (rows.min(0), rows.max(0)))
        warnings.warn(
            f"voxels go from {low} to {high} mm, and nothing resamples them: lesions of one size "
            "look different in size to the network; segjax plan proposes a spacing",
            stacklevel=4,
        )


def create_model(model: str, *, in_channels: int, out_channels: int, **overrides: Any) -> Any:
    """Create a network by name, as :func:`segjax.models.create` does.

    Raises:
        InputError: The name is unknown.
    """
    from segjax import models

    if model not in models.names():
        raise InputError(f"no network is named '{model}': choose {', '.join(models.names())}")
    return models.create(model, in_channels=in_channels, out_channels=out_channels, **overrides)


def _patch_size(shapes: Sequence[tuple[int, ...]], model: Any) -> tuple[int, ...]:
    largest, multiple = _LARGEST[model.spatial_dims], model.size_multiple
    usual = np.percentile(np.array(shapes), 95, axis=0)
    sizes = [max(multiple, -(-min(int(n), largest) // multiple) * multiple) for n in np.ceil(usual)]
    return (*sizes[: model.spatial_dims], *[1] * (len(sizes) - model.spatial_dims))


def _patches_per_case(shapes: Sequence[tuple[int, ...]], patch: tuple[int, ...]) -> int:
    voxels = float(np.median(np.prod(np.array(shapes), axis=1)))
    return min(8, max(1, round(voxels / math.prod(patch))))


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """List the fields in which two configurations differ, each with both values.

    Example:
        >>> old = TrainConfig("mpunet++", (64, 64, 64), seed=1)
        >>> differences(old, dataclasses.replace(old, seed=2))
        ['seed (1 there, 2 now)']
    """
    before, after = _flat(old.to_json()), _flat(new.to_json())
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name} ({json.dumps(before.get(name))} there, {json.dumps(after.get(name))} now)"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lift the optimizer's fields, so that a difference names the one that differs."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value if name == "optimizer" else None
        flat |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: value}
    return flat


def _names(cls: type) -> list[str]:
    return [item.name for item in dataclasses.fields(cls)]


def _check_names(cls: type, values: object, prefix: str = "") -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"{prefix or 'configuration'}: must be an object, not {values!r}")
    known = _names(cls)
    if unknown := [prefix + str(name) for name in values if name not in known]:
        raise InputError(f"unknown field {', '.join(unknown)}; known: {', '.join(known)}")
    required = [f.name for f in dataclasses.fields(cls) if _is_required(f)]
    if missing := [prefix + name for name in required if name not in values]:
        raise InputError(f"field {', '.join(missing)} is missing")


def _is_required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _same(value: Any) -> Any:
    return value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _optimizer(values: Any) -> OptimizerConfig:
    _check_names(OptimizerConfig, values, "optimizer.")
    _check(values, _OPTIMIZER_RULES, "optimizer.")
    return OptimizerConfig(**values)


def _init(values: Any) -> InitConfig | None:
    if values is None:
        return None
    _check_names(InitConfig, values, "init.")
    _check(values, _INIT_RULES, "init.")
    return InitConfig(**values)


def _label_values(values: Any) -> LabelCoding | None:
    return None if values is None else coding_of_labels(values, "label_values")


_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "init": dataclasses.asdict,
    "freeze": list,
    "patch_size": list,
    "labels": list,
    "label_values": LabelCoding.as_labels,
    "pipeline": Pipeline.to_json,
    "optimizer": dataclasses.asdict,
    "loss": Loss.to_json,
    "augment": augment.to_json,
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "init": _init,
    "freeze": _tuple,
    "patch_size": _tuple,
    "labels": _tuple,
    "label_values": _label_values,
    "pipeline": Pipeline.from_json,
    "optimizer": _optimizer,
    "loss": Loss.from_json,
    "augment": augment.from_json,
}


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names_of_labels(value: Any) -> bool:
    names = isinstance(value, tuple) and all(isinstance(v, str) and v for v in value)
    return names and 2 <= len(set(value)) == len(value) <= IGNORED


def _is_patch(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) in (2, 3) and all(_whole(v, 1) for v in value)


Rule = tuple[Callable[[Any], bool], str]


def _one_of(kind: Any) -> Rule:
    choices = get_args(kind)
    return (lambda v: v in choices, f"one of {', '.join(choices)}")


_COUNT: Rule = (lambda v: _whole(v, 1), "a whole number from 1 up")
_OPTIONAL_COUNT: Rule = (lambda v: v is None or _whole(v, 1), "a whole number from 1 up, or null")
_POSITIVE: Rule = (lambda v: _number(v) and v > 0, "a number over 0")
_FRACTION: Rule = (
    lambda v: _number(v) and 0 <= v < 1,
    "a number from 0 up to, not including, 1",
)

_OPTIMIZER_RULES: dict[str, Rule] = {
    "learning_rate": _POSITIVE,
    "weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0 up"),
    "schedule": _one_of(Schedule),
    "gradient_clip": (lambda v: v is None or _POSITIVE[0](v), "a number over 0, or null"),
    "name": _one_of(Optimizer),
    "momentum": _FRACTION,
    "warmup": _FRACTION,
    "power": _POSITIVE,
}
_INIT_RULES: dict[str, Rule] = {
    "source": (lambda v: isinstance(v, str) and v != "", "a file or the folder of a run"),
    "digest": (lambda v: v is None or isinstance(v, str), "text, or null"),
    "new_head": (lambda v: isinstance(v, bool), "true or false"),
}
_SCHEDULE_OPTIONS = {"warmup": "warmup-cosine", "power": "polynomial"}
_TRAIN_RULES: dict[str, Rule] = {
    "model": (lambda v: isinstance(v, str) and v != "", "the name of a model"),
    "patch_size": (_is_patch, "2 or 3 whole numbers from 1 up"),
    "in_channels": _COUNT,
    "labels": (_names_of_labels, "2 to 255 different names, that of the background first"),
    "activation": _one_of(Activation),
    "dropout": (lambda v: v is None or _FRACTION[0](v), _FRACTION[1]),
    "batch_size": _COUNT,
    "patches_per_case": _COUNT,
    "foreground": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "overlap": _FRACTION,
    "epochs": _COUNT,
    "ema": (lambda v: v is None or (_number(v) and 0 < v < 1), "a number between 0 and 1, or null"),
    "compute_dtype": _one_of(ComputeDtype),
    "deep_supervision": (lambda v: isinstance(v, bool), "true or false"),
    "validate_every": _COUNT,
    "patience": _OPTIONAL_COUNT,
    "seed": (lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 2**32 - 1"),
    "name": (lambda v: isinstance(v, str), "text"),
    "freeze": (
        lambda v: isinstance(v, tuple) and all(isinstance(item, str) for item in v),
        "a list of regular expressions",
    ),
}


def _check(values: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    for name, (holds, requirement) in rules.items():
        if name in values and not holds(values[name]):
            raise InputError(f"{prefix}{name} must be {requirement}, not {values[name]!r}")
