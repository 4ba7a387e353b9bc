"""``segjax sweep``: every combination of kernel size, alpha and seed, in one table."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from segjax.cli.options import (
    LABELS,
    LABELS_OF_DATA,
    grouping,
    kept_on_device,
    label_values,
    labelled_data,
)
from segjax.errors import InputError
from segjax.text import exact

if TYPE_CHECKING:
    from segjax.train.plans.plan import Plan
    from segjax.train.sweeps.sweep import Execution, SweepResult

_AUTO = "(default: the preset's, or from the data)"
_NONE = "(default: none)"
_BASE = "unet2d-k3"


@dataclass(frozen=True)
class Sweep:
    """Train every combination of kernel size, alpha and seed, and compare them.

    The data folder is one for segjax train. The sweep folder gets results.csv (a row
    for each training), images.csv (Dice of each test image), report.html with figures/,
    model.onnx (the network of the best validation Dice) and runs/ with the folder of
    each training, which segjax export, info and train take.

    The same command again goes on where it stopped, even after a crash; the grid may
    have grown, the split stays. Trainings that are finished cost nothing.

    Examples:
        segjax sweep --data meningiomas --out sweep --preset meningioma-2d
        segjax sweep --data cache --out sweep --kernel 3 5 --alpha 0.3 0.5 0.7 --seed 0 1
        segjax sweep --data slices --out sweep --groups patients.csv
        segjax sweep --figures-only sweep
        segjax predict sweep images/ -o masks
        segjax export sweep/runs/k5-a0.5-s1 -o best.onnx
    """

    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(required)")] = None
    """Folder of labelled images, of subjects, or of preprocessed images."""
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="SWEEP", help_behavior_hint="(required)")
    ] = None
    """Folder of the sweep, made if absent."""
    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in a subject's folder (* is any letters), or BIDS suffix."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Label file in a subject's folder, or BIDS suffix, as in label-lesion_mask."""
    kernel: Annotated[tuple[int, ...], arg(metavar="N [N ...]")] = (3, 5, 7, 9)
    """Kernel sizes of the U-Net."""
    alpha: Annotated[tuple[float, ...], arg(metavar="0..1 [0..1 ...]")] = (
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    )  # fmt: skip
    """Tversky's weights of false negatives."""
    seed: Annotated[tuple[int, ...], arg(metavar="N [N ...]")] = (0, 1, 2)
    """Seeds of first weights, order of training, augmentation and dropout."""
    preset: Annotated[str | None, arg(metavar="{meningioma-2d}", help_behavior_hint=_NONE)] = None
    """All settings of the study, preprocessing included, where no other option changes them."""
    epochs: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Passes over the training cases, at most."""
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Patches in one step."""
    patch_size: Annotated[tuple[int, ...] | None, arg(metavar="N N", help_behavior_hint=_AUTO)] = (
        None
    )
    """Pixels of a patch along each axis."""
    learning_rate: Annotated[float | None, arg(metavar="X", help_behavior_hint=_AUTO)] = None
    """Peak of the learning-rate schedule."""
    patience: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: the preset's, or 5)")
    ] = None
    """Each training stops after so many validations without a better Dice."""
    validation: Annotated[float, arg(metavar="0..1")] = 0.17
    """Fraction of the cases kept apart to stop by and to choose by."""
    test: Annotated[float, arg(metavar="0..1")] = 0.15
    """Fraction of the cases kept away from all trainings, to measure on."""
    split: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Cases for training, validation and testing, as in a run's split.json."""
    group_by: Annotated[str | None, arg(metavar="REGEX", help_behavior_hint=_NONE)] = None
    """Cases in whose names it finds the same text, as of a patient, are never parted."""
    neighbours: Annotated[int | None, arg(metavar="N", help_behavior_hint=_NONE)] = None
    """So many cases that follow one another by name are never parted."""
    groups: Annotated[Path | None, arg(metavar="FILE.csv", help_behavior_hint=_NONE)] = None
    """Table of cases (column case) and patients (column patient), which are never parted."""
    labels: Annotated[tuple[str, ...], arg(metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)] = ()
    """What label values stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: of dataset.json)")
    ] = ()
    """Names of the classes 1, 2, ..., where label values are the classes already."""
    config: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Settings as in a run's config.json or a sweep's sweep.json, or some of them; options win."""
    keep_fitted: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep what the pipeline of --config learned from images, such as histogram landmarks."""
    together: Annotated[
        Literal["apart", "unrolled", "vmap"], arg(metavar="{apart,unrolled,vmap}")
    ] = "apart"
    """How trainings share a program: not at all, one written after the other, or stacked. What is
    fastest is measured by benchmarks/gpu.py; vmap needs several times the memory on a GPU."""
    at_once: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: 1 apart, 4 unrolled, 8 vmap)")
    ] = None
    """Trainings under way at a time, where they share a program; more take more memory."""
    data_on_device: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep all training cases on the GPU, and cut and augment patches there; the default on a GPU
    where they take at most half of the memory that JAX may have."""
    no_data_on_device: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep them in the computer although the GPU could hold them."""
    tensorboard: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write curves of each training, for tensorboard --logdir SWEEP/runs to show."""
    figures_only: Annotated[Path | None, arg(metavar="SWEEP", help_behavior_hint=_NONE)] = None
    """Write the figures and the report of a sweep again, finished or not; train nothing."""

    def __call__(self) -> None:
        """Train, measure, report and export; or only report."""
        from segjax.cli.console import print_facts

        if self.figures_only is not None:
            from segjax.report.sweep import write_sweep_report

            report = write_sweep_report(self.figures_only)
            print_facts(_files(self.figures_only) | {"report": report}, title="Done")
            return
        if self.data is None or self.out is None:
            raise InputError("a sweep needs --data and --out, or --figures-only")
        from segjax.train.devices import prepare_process

        prepare_process()
        from segjax.workflow import finish_sweep

        execution = self._execution()
        result = self._sweep(self._plan(self.data), self.out, execution)
        self._show(result)
        print_facts(_files(self.out) | finish_sweep(result), title="Done")

    def _execution(self) -> "Execution":
        from segjax.train.sweeps.sweep import Execution

        on_device = kept_on_device(self.data_on_device, self.no_data_on_device)
        return Execution(self.together, self.at_once, on_device, tensorboard=self.tensorboard)

    def _plan(self, data: Path) -> "Plan":
        from segjax.data.splits import read_split
        from segjax.studies import study
        from segjax.train.plans.plan import plan, read_settings

        defaults = study(self.preset).settings(model=_BASE) if self.preset else _DEFAULTS
        config = read_settings(self.config) if self.config else {}
        split = read_split(self.split) if self.split else None
        options = self._settings()
        coding = options.get("label_values", config.get("label_values"))
        return plan(
            labelled_data(data, self.images, self.label, coding),
            *(defaults, config, options),
            validation=self.validation,
            test=self.test,
            split=split,
            grouping=grouping(self.group_by, self.neighbours, self.groups),
            keep_fitted=self.keep_fitted,
        )

    def _sweep(self, plan: "Plan", out: Path, execution: "Execution") -> "SweepResult":
        from segjax.cli.console import print_facts
        from segjax.describe import describe_plan
        from segjax.train.sweeps.sweep import SweepConfig, sweep

        grid = SweepConfig(plan.config, self.kernel, self.alpha, self.seed)
        number = (
            f"{len(grid.members)}, {execution.members_at_once} at a time ({execution.together})"
        )
        if (devices := len(execution.local_devices)) > 1:
            number += f" on each of {devices} devices"
        varied = {"kernels": grid.kernels, "alphas": grid.alphas, "seeds": grid.seeds}
        lists = {name: ", ".join(map(str, values)) for name, values in varied.items()}
        shared = {n: fact for n, fact in describe_plan(plan).items() if n not in _VARIED}
        print_facts({"trainings": number, **lists, **shared}, title=f"Sweep {out}")
        return sweep(grid, plan.dataset, plan.split, out, execution=execution)

    def _settings(self) -> dict[str, Any]:
        """Return the options that were given, as fields of a configuration."""
        fields = ("epochs", "batch_size", "patch_size", "patience")
        settings = {name: getattr(self, name) for name in fields}
        if self.learning_rate is not None:
            settings["optimizer"] = {"learning_rate": self.learning_rate}
        settings["label_values"] = label_values(self.labels, self.names)
        return {name: value for name, value in settings.items() if value is not None}

    def _show(self, result: "SweepResult") -> None:
        """Print the mean test Dice of each kernel size and alpha."""
        from segjax.cli.console import print_facts, print_table, say

        columns = ["mean test Dice", *(f"alpha {exact(alpha)}" for alpha in self.alpha)]
        rows = [
            [f"kernel {kernel}", *(_text(result.mean_test_dice(kernel, a)) for a in self.alpha)]
            for kernel in self.kernel
        ]
        print_table(columns, rows)
        best = result.best
        if best is not None:
            found = result.results[best.name]
            told = f"{best.name}: {_text(found.validation_dice)}, on test {_text(found.test_dice)}"
            print_facts({"best by validation": told, "its run": result.run})
        for member in result.failed:
            say(f"{member.name} failed: {result.results[member.name].error}")


_VARIED = ("network", "loss")  # of which a plan describes only one
_DEFAULTS: dict[str, Any] = {"model": _BASE, "loss": [{"name": "tversky"}], "patience": 5}


def _files(sweep: Path) -> dict[str, Path]:
    from segjax.runs.folder import RunFolder

    return {"results": RunFolder(sweep).results, "figures": RunFolder(sweep).figures}


def _text(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.4f}"
