"""What a training is made of: plain data that goes to JSON and back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import segjax
from segjax.codec import Check, Record, check_fields
from segjax.data.augment.transform import Transform
from segjax.data.labels import IGNORED, LabelCoding, coding_of_labels
from segjax.data.prepare.pipeline import Pipeline
from segjax.errors import InputError
from segjax.files import read_json, write_json
from segjax.registry import HANDED, accepted, registry
from segjax.runs.folder import RunFolder
from segjax.train.losses import Loss

Activation = Literal["softmax", "sigmoid"]
ComputeDtype = Literal["float32", "tensorfloat32", "bfloat16"]
Count = Annotated[int, Check(lambda n: n >= 1, "a whole number from 1 up")]
Positive = Annotated[float, Check(lambda x: x > 0, "a number over 0")]
Fraction = Annotated[float, Check(lambda x: 0 <= x < 1, "a number from 0 up to, not including, 1")]


@dataclass(frozen=True)
class OptimizerConfig(Record):
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
            Nesterov's momentum; or another one that is registered, as schedules are too: see
            :func:`segjax.train.optimizers.make_optimizer`.
        momentum: Part of the mean gradient that a step keeps (Adam's beta 1), in [0, 1); nnU-Net
            has 0.99 with SGD.
        warmup: Fraction of the steps in which ``"warmup-cosine"`` rises, in [0, 1).
        power: Exponent of ``"polynomial"``.

    Raises:
        InputError: A value is unknown, out of range, or of no effect with this optimizer or
            schedule.

    Example:
        >>> OptimizerConfig(learning_rate=1e-3).schedule
        'one-cycle'
    """

    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Check(lambda x: x >= 0, "a number from 0 up")] = 1e-4
    schedule: str = "one-cycle"
    gradient_clip: Annotated[
        float | None, Check(lambda x: x is None or x > 0, "a number over 0, or null")
    ] = 1.0
    name: str = "adamw"
    momentum: Fraction = 0.9
    warmup: Fraction = 0.1
    power: Positive = 0.9

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_used("optimizer", self.name, ("momentum", "weight_decay"))
        self._check_used("schedule", self.schedule, ("warmup", "power"))

    @property
    def is_handed(self) -> bool:
        """Whether the optimizer is an object without a name, which the other fields do not move."""
        return self.name.startswith(HANDED)

    def _check_used(self, kind: str, name: str, options: tuple[str, ...]) -> None:
        """Refuse an option of this dataclass that an optimizer or a schedule does not take."""
        if self.is_handed:
            return
        makers = registry(kind)
        taken = accepted(makers.get(name), **dict.fromkeys(options))
        for option in options:
            if option not in taken and getattr(self, option) != getattr(type(self), option):
                others = [other for other in makers.names() if _takes(makers.get(other), option)]
                raise InputError(
                    f"{option} does nothing with the {kind} {name}: leave it out, or take "
                    f"{' or '.join(others)}"
                )


def _takes(make: Callable[..., Any], option: str) -> bool:
    return option in accepted(make, **{option: None})


@dataclass(frozen=True)
class InitConfig(Record):
    """Weights that a training starts from, in the place of random ones.

    Attributes:
        source: Folder of a run, PyTorch state dict, exported ONNX file or name of a model that
            comes with segjax; see :func:`segjax.train.transfer.load_source`.
        digest: SHA-256 of the weights, by which a training that goes on knows them;
            :func:`segjax.plan` fills it in.
        new_head: Whether the layers are drawn anew that depend on the number of labels, and, if
            that is another one, on the number of channels.

    Example:
        >>> InitConfig("run").new_head
        False
    """

    source: Annotated[str, Check(bool, "a file or the folder of a run")]
    digest: str | None = None
    new_head: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainConfig(Record):
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
        compute_dtype: What convolutions train in. ``"float32"`` means float32 on a GPU, too;
            ``"tensorfloat32"`` lets its tensor cores round what is multiplied to 10 bits of
            mantissa, and ``"bfloat16"`` keeps features in half precision: each faster than the one
            before on a GPU that has it, and a CPU gains by neither. Parameters, norms and losses
            are float32 always, and so are validation and the exported network.
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

    model: Annotated[str, Check(bool, "the name of a model")]
    patch_size: Annotated[
        tuple[int, ...],
        Check(lambda v: len(v) in (2, 3) and min(v) >= 1, "2 or 3 whole numbers from 1 up"),
    ]
    in_channels: Count = 1
    labels: Annotated[
        tuple[str, ...],
        Check(
            lambda v: all(v) and 2 <= len(set(v)) == len(v) <= IGNORED,
            "2 to 255 different names, that of the background first",
        ),
    ] = ("background", "lesion")
    activation: Activation = "softmax"
    dropout: Fraction | None = None
    pipeline: Pipeline = field(default_factory=Pipeline)
    batch_size: Count = 2
    patches_per_case: Count = 1
    foreground: Annotated[float, Check(lambda x: 0 <= x <= 1, "a number from 0 to 1")] = 0.5
    overlap: Fraction = 0.5
    epochs: Count = 50
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: Annotated[
        float | None,
        Check(lambda x: x is None or 0 < x < 1, "a number between 0 and 1, or null"),
    ] = None
    compute_dtype: ComputeDtype = "float32"
    loss: Loss = field(default_factory=Loss)
    deep_supervision: bool = False
    augment: tuple[Transform, ...] = ()
    validate_every: Count = 1
    patience: Annotated[
        int | None, Check(lambda n: n is None or n >= 1, "a whole number from 1 up, or null")
    ] = None
    seed: Annotated[int, Check(lambda n: 0 <= n < 2**32, "a whole number from 0 to 2**32 - 1")] = 0
    name: str = "run"
    init: InitConfig | None = None
    freeze: Annotated[tuple[str, ...], Check(lambda _: True, "a list of regular expressions")] = ()
    label_values: LabelCoding | None = None

    def __post_init__(self) -> None:
        check_fields(self)
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

    @property
    def rank(self) -> int:
        """Spatial axes of a patch; 2 of a slice ``(x, y, 1)``."""
        return 2 if self.patch_size[2:] in ((), (1,)) else 3

    @property
    def interface(self) -> dict[str, int]:
        """What :func:`segjax.models.create` fits a network to."""
        channels = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        return {**channels, "rank": self.rank}

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        coding = self.label_values
        return super().to_json() | {"label_values": coding and coding.as_labels()}

    @classmethod
    def from_json(cls, plain: Any) -> "TrainConfig":
        """Make a configuration of JSON values; fields that are left out keep their default.

        Raises:
            InputError: A field is unknown, missing or out of range.
        """
        if isinstance(plain, Mapping) and plain.get("label_values") is not None:
            coding = coding_of_labels(plain["label_values"], "label_values")
            plain = {"labels": coding.names, **plain, "label_values": coding}
        return super().from_json(plain)


def write_config(config: TrainConfig, run: Path, *, overwrite: bool = False) -> None:
    """Write a configuration, as the ``config.json`` of a run.

    Args:
        config: The configuration.
        run: The run's folder, or the file itself.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The file exists and may not be replaced, or it cannot be written.

    Example:
        >>> write_config(TrainConfig("mpunet++", (64, 64, 64), epochs=20), Path("config.json"))
        >>> read_config(Path("config.json")).epochs
        20
    """
    path = RunFolder(run).config if run.is_dir() else run
    write_json({"segjax": segjax.__version__, **config.to_json()}, path, overwrite=overwrite)


def read_config(run: Path) -> TrainConfig:
    """Read the configuration of a run.

    Args:
        run: The run's folder, or a ``config.json`` itself.

    Raises:
        InputError: There is no configuration, or it is not valid; the message names the file.

    Example:
        >>> read_config(Path("run")).model
        'mpunet++'
    """
    path = RunFolder(run).config if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run}: no run of segjax (it has no config.json){_what_else(run)}")
    values = read_json(path)
    if not isinstance(values, dict) or "segjax" not in values:
        raise InputError(f"{path}: not the configuration of a segjax run")
    try:
        return TrainConfig.from_json({k: v for k, v in values.items() if k != "segjax"})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _what_else(folder: Path) -> str:
    """Say what to name instead of a folder of several runs; nothing of any other."""
    run = RunFolder(folder)
    if run.kind == "sweep":
        return f", but a sweep: name one of its runs, in {run.runs}"
    if run.folds:
        return f", but a cross-validation: name one of its folds, such as {run.folds[0].path}"
    return ""


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """List the fields in which two configurations differ, each with both values.

    Example:
        >>> old = TrainConfig("mpunet++", (64, 64, 64), seed=1)
        >>> from dataclasses import replace
        >>> differences(old, replace(old, seed=2))
        ['seed (1 there, 2 now)']
    """
    before, after = _flat(old.to_json()), _flat(new.to_json())
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name} ({json.dumps(before.get(name))} there, {json.dumps(after.get(name))} now)"
        for name in names
        if before.get(name) != after.get(name)
        and not (name == "label_values" and before.get(name) is None)  # inputs.json tells
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lift the optimizer's fields, so that a difference names the one that differs."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value if name == "optimizer" else None
        flat |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: value}
    return flat
