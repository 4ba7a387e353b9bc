"""``segjax train``: labelled volumes become a run with an ONNX file and a report."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from segjax.cli.options import (
    LABELS,
    LABELS_OF_DATA,
    MODELS,
    PRESETS,
    grouping,
    kept_on_device,
    label_values,
    labelled_data,
)
from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.data.grouping import Grouping
    from segjax.data.splits import Folding, Split
    from segjax.studies import Study
    from segjax.train._fit import FitResult
    from segjax.train.plans.plan import Plan

_AUTO = "(default: from the data)"
_NONE = "(default: none)"
_OWN = "(default: the network's)"
RECIPES = PRESETS.replace("}", ",none}")
OPTIMIZERS = "{adamw,adam,radam,lamb,lion,sgd}"
SCHEDULES = "{one-cycle,constant,cosine,polynomial,warmup-cosine}"
_FIELDS = (
    "model", "epochs", "batch_size", "patch_size", "ema", "compute_dtype", "dropout", "patience",
    "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Train:
    """Train a network on labelled volumes and export it.

    The data folder holds images/ and labels/ with equal file names, or imagesTr/
    and labelsTr/ as in the Medical Segmentation Decathlon and nnU-Net (imagesTs/ and
    labelsTs/ are test cases then); or folders of subjects, whose files --images and
    --label name; or it is what segjax preprocess made of them. The run folder gets config.json,
    split.json, metrics.csv, checkpoints/, model.onnx and report.html.

    The same command again goes on where it stopped, even after a crash; Ctrl-C writes a
    checkpoint first. With --schedule constant it also goes on for more --epochs.

    Settings come from the data; those of a --preset replace them, those of a
    --config replace both, and options on the line win. A preset is slow where its
    preprocessing is: segjax preprocess does that once, ahead of several trainings.

    Examples:
        segjax train --data hippocampus --model mpunet++ --out run
        segjax train --data brains --out run --epochs 100 --patch-size 64 64 64
        segjax train --data brains --out run --loss tversky --alpha 0.7
        segjax train --data brains --out again --config run/config.json --seed 1
        segjax train --data cache --out run --no-data-on-device --workers 8
        segjax train --data brats --out run --labels 1,4=core 2=edema
        segjax train --data meningiomas --out run --preset meningioma-2d --alpha 0.7
        segjax train --data patients --out run --preset ms-7t --model unet3d
        segjax train --data brains --out tuned --init run --freeze "^X00/" --new-head
        segjax train --data brains --out cv --folds 5 --group-by "^sub-[0-9]+"
        segjax train --data slices --out run --groups patients.csv --test 0.2
        segjax train --data patients --out run --images flair.nii.gz --label lesions.nii.gz
        segjax train --data nnUNet_raw/Dataset004_X --out cv --split splits_final.json
    """

    data: Annotated[Path, arg(metavar="DIR")]
    """Folder of labelled images, of subjects, or of preprocessed images."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="RUN")]
    """Folder of the run, made if absent."""
    images: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Image file of each channel in a subject's folder (* is any letters), or BIDS suffix."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Label file in a subject's folder, or BIDS suffix, as in label-lesion_mask."""
    preset: Annotated[str | None, arg(metavar=PRESETS, help_behavior_hint=_NONE)] = None
    """All settings of a study, preprocessing included, where no other option changes them."""
    brain: Annotated[
        str | None, arg(metavar="METHOD", help_behavior_hint="(default: the preset's)")
    ] = None
    """Brain extraction: hd-bet, classical, zero-background, as registered, or an ONNX file."""
    model: Annotated[
        str | None,
        arg(
            metavar=f"{{{','.join(MODELS)}}}",
            help_behavior_hint="(default: the preset's, or from the data)",
        ),
    ] = None
    """Network, or one that you registered; mpunet++ and unet3d are 3D, the others 2D."""
    epochs: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Passes over the training cases."""
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint=_AUTO)] = None
    """Patches in one step."""
    patch_size: Annotated[
        tuple[int, ...] | None, arg(metavar="N [N N]", help_behavior_hint=_AUTO)
    ] = None
    """Voxels of a patch along each axis."""
    validation: Annotated[
        float | None, arg(metavar="0..1", help_behavior_hint="(default: the preset's, or 0.2)")
    ] = None
    """Fraction of the cases kept apart to measure Dice."""
    test: Annotated[float, arg(metavar="0..1")] = 0.0
    """Fraction of the cases kept away from the training altogether."""
    split: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Cases for training, validation and testing, as in a run's split.json; or those of
    folds, as in nnU-Net's splits_final.json."""
    folds: Annotated[int | None, arg(metavar="N", help_behavior_hint=_NONE)] = None
    """Cross-validation: trainings into RUN/fold0, RUN/fold1, … that validate every case once."""
    fold: Annotated[int | Literal["all"], arg(metavar="{all}|N")] = "all"
    """The fold to train, from 0 on; all: one after another."""
    group_by: Annotated[str | None, arg(metavar="REGEX", help_behavior_hint=_NONE)] = None
    """Cases in whose names it finds the same text, as of a patient, are never parted."""
    neighbours: Annotated[int | None, arg(metavar="N", help_behavior_hint=_NONE)] = None
    """So many cases that follow one another by name are never parted."""
    groups: Annotated[Path | None, arg(metavar="FILE.csv", help_behavior_hint=_NONE)] = None
    """Table of cases (column case) and patients (column patient), which are never parted; or
    of cases and their fold."""
    learning_rate: Annotated[float | None, arg(metavar="X", help_behavior_hint=_AUTO)] = None
    """Peak of the learning-rate schedule; lion wants a third, sgd ten times adamw's."""
    optimizer: Annotated[
        str | None, arg(metavar=OPTIMIZERS, help_behavior_hint="(default: adamw)")
    ] = None
    """What moves the parameters, or one that you registered; sgd has Nesterov's momentum."""
    schedule: Annotated[
        str | None, arg(metavar=SCHEDULES, help_behavior_hint="(default: one-cycle)")
    ] = None
    """How the learning rate changes from the first step to the last, or one that you registered."""
    ema: Annotated[float | None, arg(metavar="0..1", help_behavior_hint=_NONE)] = None
    """Keep moving averages of the parameters, such as 0.999, and export these."""
    compute_dtype: Annotated[
        str | None,
        arg(metavar="{float32,tensorfloat32,bfloat16}", help_behavior_hint="(default: float32)"),
    ] = None
    """Type in which convolutions train; the other two are faster on a GPU alone."""
    deep_supervision: Annotated[bool, arg(help_behavior_hint="")] = False
    """Let each head of mpunet++ learn to segment alone, too."""
    loss: Annotated[str | None, arg(metavar="NAME[+NAME]", help_behavior_hint=_AUTO)] = None
    """Sum of dice, tversky, cross-entropy and those that you registered."""
    alpha: Annotated[float | None, arg(metavar="0..1", help_behavior_hint="(default: 0.5)")] = None
    """Tversky's weight of false negatives: more finds more and invents more."""
    augment: Annotated[str | None, arg(metavar=RECIPES, help_behavior_hint=_AUTO)] = None
    """Random changes of the patches: those of a study, or none."""
    dropout: Annotated[float | None, arg(metavar="0..1", help_behavior_hint=_OWN)] = None
    """Probability of dropout; small networks on many cases learn better with 0."""
    patience: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: never)")] = None
    """Stop after so many validations without a better Dice."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 0)")] = None
    """Of the split, the first weights and the order of training."""
    labels: Annotated[tuple[str, ...], arg(metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)] = ()
    """What label values stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[
        tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: of dataset.json)")
    ] = ()
    """Names of the classes 1, 2, ..., where label values are the classes already."""
    init: Annotated[Path | None, arg(metavar="FILE_OR_RUN", help_behavior_hint=_NONE)] = None
    """Weights to start from: a run, an exported .onnx file or a name of segjax models, whose
    network, patch and preprocessing are taken over where nothing else is said; or the state dict
    of MONAI's UNet or of the MPU-Net++ authors that torch.save wrote (.pt, .safetensors)."""
    freeze: Annotated[tuple[str, ...], arg(metavar="REGEX...", help_behavior_hint=_NONE)] = ()
    """Parameters to leave as in --init, such as ^X00/; they have names as X00/first/kernel."""
    new_head: Annotated[bool, arg(help_behavior_hint="")] = False
    """Draw the layers anew that depend on the number of labels (and, if others, of channels)."""
    workers: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: see below)")] = (
        None
    )
    """Processes that cut and augment patches; 0: the training does it on the side, as it does by
    default on a CPU. For a GPU that cannot hold all cases: one for each core but one, at most 8."""
    data_on_device: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep all training cases on the GPU, and cut and augment patches there; the default on a GPU
    where they take at most half of the memory that JAX may have, and no --workers are given."""
    no_data_on_device: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep them in the computer although the GPU could hold them."""
    tensorboard: Annotated[bool, arg(help_behavior_hint="")] = False
    """Write curves and pictures to RUN/tensorboard, for tensorboard --logdir RUN to show."""
    config: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint=_NONE)] = None
    """Settings as in a run's config.json, or some of them; options here win."""
    keep_fitted: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep what the pipeline of --config learned from images, such as histogram landmarks; else
    it learns anew from these training cases."""

    hosts: Annotated[
        Literal["auto"] | int | None, arg(metavar="{auto}|N", help_behavior_hint="(default: one)")
    ] = None
    """Machines that train together, each with this command; auto asks Slurm or
    Kubernetes, else --host-index and --host-address say the rest."""
    host_index: Annotated[int | None, arg(metavar="N", help_behavior_hint=_NONE)] = None
    """Which of the machines this is, from 0; it writes the run."""
    host_address: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint=_NONE)] = None
    """Where machine 0 can be reached, with any free port."""

    def __call__(self) -> None:
        """Train, export and report; print the plan before and the result after."""
        from segjax.train.devices import prepare_process

        self._connect()
        prepare_process()
        self._greet()
        from segjax.data.splits import read_split
        from segjax.train.plans.plan import plan, plan_folds, read_settings

        config = read_settings(self.config) if self.config else {}
        preset = self._study()
        model = self.model or config.get("model")
        study = {} if preset is None else preset.settings(model=model, brain=self.brain)
        layers = (self._of_init(config), study, config)
        settings = (self._by_memory(), *layers, self._settings(layers))
        keep_fitted = self.keep_fitted or _inherits_fitted(layers)
        coding = settings[-1].get("label_values", config.get("label_values"))
        data = labelled_data(self.data, self.images, self.label, coding)
        if (folding := self._folding()) is not None:
            plans = plan_folds(data, *settings, folding=folding, keep_fitted=keep_fitted)
            self._cross_validate(plans)
            return
        validation = self.validation
        if validation is None:
            validation = 0.2 if preset is None else preset.validation
        planned = plan(
            data,
            *settings,
            validation=validation,
            test=self.test,
            split=read_split(self.split) if self.split else None,
            grouping=self._grouping(),
            keep_fitted=keep_fitted,
        )
        self._train(planned, self.out)

    def _train(self, plan: "Plan", run: Path) -> None:
        from segjax import workflow
        from segjax.cli.console import print_facts
        from segjax.describe import describe_plan
        from segjax.train.devices import is_first_host

        if is_first_host():
            print_facts(describe_plan(plan), title=f"Training {run}")
        result = workflow.train(
            plan,
            run,
            workers=self.workers,
            data_on_device=kept_on_device(self.data_on_device, self.no_data_on_device),
            tensorboard=self.tensorboard,
        )
        if not is_first_host():
            return
        print(f"{run}: writing model.onnx and report.html …", file=sys.stderr)
        written = workflow.finish(run, plan.cases("validation"))
        print_facts({"best Dice": _best(result), **written}, title="Done")

    def _cross_validate(self, plans: Sequence["Plan"]) -> None:
        """Train the folds that are wanted, and show what all came to that are there."""
        from segjax.cli.console import print_facts, print_folds
        from segjax.runs.folder import RunFolder
        from segjax.runs.folds import read_folds, write_folds
        from segjax.train.devices import is_first_host

        for fold in self._wanted(len(plans)):
            self._train(plans[fold], RunFolder(self.out).fold(fold).path)
        if not is_first_host():
            return
        scores = read_folds(self.out, len(plans))
        print_folds(scores)
        print_facts({"folds": write_folds(scores, self.out)})

    def _connect(self) -> None:
        """Meet the other machines, where there are some."""
        from segjax.train.devices import connect_hosts

        if self.hosts is None:
            if self.host_index is not None or self.host_address is not None:
                raise InputError("--host-index and --host-address need the number of --hosts")
        elif self.hosts == "auto":
            connect_hosts()
        else:
            connect_hosts(self.host_address, hosts=self.hosts, index=self.host_index)

    def _greet(self) -> None:
        """Say before the data are looked at that a training is there to go on with."""
        from segjax.runs.folder import RunFolder
        from segjax.train.devices import is_first_host

        if RunFolder(self.out).has_checkpoints and is_first_host():
            print(f"{self.out}: holds a training; checking that it is this one", file=sys.stderr)

    def _wanted(self, folds: int) -> Sequence[int]:
        if self.fold == "all":
            return range(folds)
        if not 0 <= self.fold < folds:
            raise InputError(f"fold {self.fold}: give one from 0 to {folds - 1}, or all")
        return [self.fold]

    def _folding(self) -> "Folding | Sequence[Split] | None":
        from segjax.data.grouping import Grouping
        from segjax.data.splits import Folding

        if self.folds is not None:
            if self.split is not None or self._asks_for_sets:
                raise InputError("--folds makes splits: leave out --split, --validation and --test")
            return Folding(self.folds, self._grouping() or Grouping())
        splits = self._written_splits()
        if splits is None and self.fold != "all":
            raise InputError("--fold needs the number of --folds, or the --split of every fold")
        return splits

    def _written_splits(self) -> "Sequence[Split] | None":
        """Return the splits of the folds that --split holds, if it is such a file."""
        from segjax.data.splits import read_fold_splits

        if self.split is None:
            return None
        splits = read_fold_splits(self.split)
        if self._asks_for_sets or self._grouping():
            raise InputError(
                f"{self.split}: says which cases are for what: leave out --validation, --test, "
                "--group-by, --neighbours and --groups"
            )
        return splits

    @property
    def _asks_for_sets(self) -> bool:
        return self.validation is not None or bool(self.test)

    def _grouping(self) -> "Grouping | None":
        return grouping(self.group_by, self.neighbours, self.groups)

    def _study(self) -> "Study | None":
        if self.preset is not None:
            from segjax.studies import study

            return study(self.preset)
        if self.brain is not None:
            raise InputError("--brain belongs to --preset; a --config names its own method")
        return None

    def _by_memory(self) -> dict[str, Any]:
        """Return what a run, or other folds of it, chose by the memory of their machine."""
        from segjax.runs.folder import RunFolder
        from segjax.train.config import read_config

        run = RunFolder(self.out)
        begun = next((one for one in (run, *run.folds) if one.has_checkpoints), None)
        if begun is None or not begun.config.is_file():
            return {}
        plain = read_config(begun.path).to_json()
        return {name: plain[name] for name in ("patch_size", "batch_size", "foreground")}

    def _of_init(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the network, patch and preprocessing that the weights of --init know.

        Or those of ``init`` in the settings of --config.

        A training that goes on has them already: where the weights came from may have moved. One
        that was stopped before it learned anything is begun anew, and decides nothing.
        """
        from segjax.cli.console import print_notices
        from segjax.data.cache.layout import is_cache
        from segjax.pretrained import model_path
        from segjax.runs.folder import RunFolder
        from segjax.train.transfer import source_exists

        source = self.init or (Path(config["init"]["source"]) if config.get("init") else None)
        if source is None:
            return {}
        if source_exists(source):
            print_notices([model_path(source)])
        if source == self.out:
            raise InputError(f"{self.out}: the weights come from there: give --out another folder")
        run = RunFolder(self.out)
        there = [folder for folder in (run, *run.folds) if folder.config.is_file()]
        begun = [folder for folder in there if folder.has_checkpoints or not source_exists(source)]
        if self.init is None and not begun and not source_exists(source):
            return {}  # the config of a run whose weights have moved
        known = _trained_with(begun[0].path if begun else source)
        if is_cache(self.data):
            _compare_steps(self.data, known.pop("pipeline", None), source)
        return known

    def _settings(self, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the options that were given, as fields of a configuration, over other settings."""
        settings = {name: getattr(self, name) for name in _FIELDS}
        settings["deep_supervision"] = self.deep_supervision or None
        settings["optimizer"] = self._optimizer() or None
        settings["loss"] = self._loss(layers)
        if self.augment is not None:
            from segjax.studies import study

            settings["augment"] = [] if self.augment == "none" else study(self.augment).transforms
        settings |= self._transfer()
        settings["label_values"] = label_values(self.labels, self.names)
        return {name: value for name, value in settings.items() if value is not None}

    def _optimizer(self) -> dict[str, Any]:
        fields = {
            "name": self.optimizer,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _transfer(self) -> dict[str, Any]:
        if self.init is None:
            if self.new_head:
                raise InputError("--new-head replaces a part of what --init gives: add --init")
            return {"freeze": self.freeze or None}
        init = {"source": str(self.init), "new_head": self.new_head}
        return {"init": init, "freeze": self.freeze or None}

    def _loss(self, layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
        """Return the terms of --loss, or with --alpha those of the settings below."""
        terms = [{"name": name} for name in self.loss.split("+")] if self.loss is not None else None
        if self.alpha is None:
            return terms
        if terms is None:
            terms = next((layer["loss"] for layer in reversed(layers) if "loss" in layer), [])
        if not any(term.get("name") == "tversky" for term in terms):
            raise InputError("--alpha belongs to the Tversky loss: add --loss tversky")
        return [self._weighed(term) for term in terms]

    def _weighed(self, term: dict[str, Any]) -> dict[str, Any]:
        """Return a term with --alpha, and the beta that follows from it, where it is Tversky's."""
        mine = {"alpha": self.alpha, "beta": None}
        return term | mine if term.get("name") == "tversky" else term


def _trained_with(source: Path) -> dict[str, Any]:
    """Return what a run or an exported network says of its training; a state dict says nothing."""
    from segjax.pretrained import model_path
    from segjax.train.config import read_config

    path = model_path(source)
    if not path.exists():  # said before the images are looked at
        raise InputError(f"{path}: no such file or folder to start from")
    if path.is_dir():
        config = read_config(path)
        pipeline = config.pipeline.to_json()
        known = {"model": config.model, "pipeline": pipeline, "patch_size": [*config.patch_size]}
    elif path.suffix.lower() == ".onnx" and path.is_file():
        from segjax_onnx import read_metadata

        told = read_metadata(path)
        known = {"model": told.model, "pipeline": told.pipeline, "patch_size": [*told.patch_size]}
    else:
        known = {}
    return known


def _compare_steps(cache: Path, steps: Sequence[Any] | None, source: Path) -> None:
    """Say if a cache's images are not as those that weights learned from; training goes on."""
    from segjax.data.cache.layout import read_manifest
    from segjax.data.prepare.pipeline import Pipeline

    if steps is None:  # a state dict does not say
        return
    if Pipeline.from_json(read_manifest(cache)["pipeline"]) != Pipeline.from_json(steps):
        print(
            f"Warning: {cache} was not preprocessed as the weights of {source} saw images (segjax "
            f"info {source}); train on the images themselves, and they will be",
            file=sys.stderr,
        )


def _inherits_fitted(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the preprocessing is that of the weights, and learned from images before."""
    from segjax.data.prepare.pipeline import Pipeline

    if "pipeline" not in layers[0] or any("pipeline" in layer for layer in layers[1:]):
        return False
    pipeline = Pipeline.from_json(layers[0]["pipeline"])
    return pipeline != pipeline.unfitted()


def _best(result: "FitResult") -> str:
    if result.best_dice is None:
        return "unknown: no validation case holds a label"
    where = f"validation cases that hold the label, epoch {result.best_epoch}"
    return f"{result.best_dice:.4f} (mean of the {where})"
