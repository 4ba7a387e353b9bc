"""Make the files of this folder: `python make.py FOLDER`, with segjax 0.1.0 (commit 04409cd) alone.

Everything comes from synthetic heads. Paths are relative, so that no file tells of a machine.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from segjax.data.datasets import Split, find_cases
from segjax.data.formats import write_volume
from segjax.data.pipeline import (
    BiasFieldCorrection,
    BrainExtraction,
    ClipPercentiles,
    CropOrPad,
    CropToForeground,
    HistogramStandardization,
    MinMax,
    Pipeline,
    Reorient,
    Resample,
    Rescale,
    ZScore,
)
from segjax.train.sweep import SweepConfig, sweep

from segjax.data.augment import from_json as transforms_from_json
from segjax.data.augment import names as transform_names
from segjax.data.labels import coding_of_labels
from segjax.data.phantom import phantom, write_dataset
from segjax.train import fit as fitting
from segjax.train import presets
from segjax.train.checkpoints import load_variables
from segjax.train.config import InitConfig, OptimizerConfig, TrainConfig, write_config
from segjax.train.losses import Loss, Term
from segjax.train.optimizers import make_optimizer
from segjax.train.transfer import freeze
from segjax.workflow import plan, preprocess
from segjax_onnx import Predictor, export_ensemble, export_onnx

SPLIT = Split(("head_0", "head_1", "head_2"), ("head_3",), ("head_4",))
LEARNED = (
    Reorient("LPS"),
    Resample((1.0, 1.0, 1.25)),
    HistogramStandardization(where="above-mean"),
    ClipPercentiles(0.5, 99.5),
    ZScore("above-mean"),
)
AUGMENT = [
    {"transform": "flip", "axes": [0, 1]},
    {"transform": "affine", "degrees": [-15.0, 15.0], "isotropic": True},
    {"transform": "elastic", "max_displacement": [2.0], "probability": 0.5},
    {"transform": "gamma"},
    {"transform": "blur", "std": [0.0, 1.0]},
    {"transform": "bias-field", "order": 2},
    {"transform": "noise", "std": [0.0, 0.2]},
]
TRAINING = {
    "model": "mpunet++",
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "patches_per_case": 16,
    "foreground": 0.75,
    "overlap": 0.25,
    "epochs": 3,
    "dropout": 0.1,
    "ema": 0.9,
    "validate_every": 1,
    "patience": 5,
    "seed": 7,
    "name": "old",
    "pipeline": Pipeline(LEARNED).to_json(),
    # Adam would enlarge the rounding in gradients that are zero, as of biases before a norm
    "optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9, "gradient_clip": 5.0},
    "loss": [
        {"name": "dice", "background": True},
        {"name": "tversky", "alpha": 0.7, "per": "image", "weight": 0.5},
        {"name": "cross-entropy", "weight": 0.25},
    ],
    "augment": AUGMENT,
}


def main(folder: str) -> None:
    out = Path(folder).absolute()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        heads()
        training(out)
        stopped(out)
        cache(out)
        old_sweep(out)
        shutil.make_archive(str(out / "heads"), "zip", ".", "heads")
    configs(out / "configs")
    states(out / "states.json")


def heads() -> None:
    """Write five heads of int16 and their labels."""
    for part in ("images", "labels"):
        (Path("heads") / part).mkdir(parents=True)
    for index in range(5):
        image, label = phantom((11, index), shape=(20, 24, 18), kind="meningioma")
        image = image.with_data(np.round(image.data).astype(np.int16))
        write_volume(image, f"heads/images/head_{index}.nii.gz")
        write_volume(label, f"heads/labels/head_{index}.nii.gz")
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "mass": 1}}
    Path("heads/dataset.json").write_text(json.dumps(description), encoding="utf-8")


def training(out: Path) -> None:
    """Train three epochs at once and export the network."""
    made = plan("heads", TRAINING, split=SPLIT)
    fitting.fit(made.config, made.dataset, made.split, "run")
    shutil.copy("run/metrics.csv", out / "metrics_after_3_epochs.csv")
    variables = load_variables(Path("run"), "last")
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    kept = {
        name(path): leaf for path, leaf in leaves if {"X00", "X03"} & set(name(path).split("/"))
    }
    np.savez_compressed(out / "variables_after_3_epochs.npz", **kept)
    export_onnx("run", out / "model.onnx", overwrite=True)


def stopped(out: Path) -> None:
    """Stop the same training after its first epoch; export it with the other, and segment."""
    made = plan("heads", TRAINING, split=SPLIT)
    save = fitting._Files.save

    class Killed(BaseException):
        pass

    def save_and_die(files, state, progress, **options):
        save(files, state, progress, **options)
        if progress.epoch == 1:
            raise Killed

    fitting._Files.save = save_and_die
    with suppress(Killed):
        fitting.fit(made.config, made.dataset, made.split, "stopped", checkpoint_seconds=1e9)
    fitting._Files.save = save
    archive(Path("stopped"), out / "stopped_after_1_epoch.zip")
    export_onnx("stopped", "first.onnx")
    export_ensemble([out / "model.onnx", "first.onnx"], out / "ensemble.onnx", overwrite=True)
    masks = {
        file: Predictor(out / f"{file}.onnx").predict("heads/images/head_4.nii.gz").data
        for file in ("model", "ensemble")
    }
    np.savez_compressed(out / "masks.npz", **masks)


def cache(out: Path) -> None:
    """Preprocess the heads by steps of which some are kept, and some learn."""
    steps = (BiasFieldCorrection(iterations=(5, 5), shrink=2), *LEARNED, Rescale(-1, 1))
    preprocess(find_cases("heads"), Pipeline(steps), "cache", workers=1, split=SPLIT)
    shutil.rmtree("cache/figures", ignore_errors=True)
    archive(Path("cache"), out / "cache.zip")


def old_sweep(out: Path) -> None:
    """Sweep over slices of 32 x 32; keep all but weights."""
    dataset = write_dataset("slices", count=8, shape=(32, 32), kind="meningioma")
    names = [case.name for case in dataset.cases]
    base = TrainConfig(
        "unet2d-k3",
        (32, 32),
        labels=("background", "meningioma"),
        pipeline=Pipeline((ZScore(),)),
        loss=Loss((Term("tversky"),)),
        optimizer=OptimizerConfig(1e-3, schedule="constant"),
        augment=transforms_from_json([{"transform": "noise"}]),
        epochs=2,
        patience=5,
    )
    grid = SweepConfig(base, kernels=(3,), alphas=(0.3, 0.7), seeds=(0, 1))
    sweep(grid, dataset, Split(tuple(names[:4]), tuple(names[4:6]), tuple(names[6:])), "sweep")
    for weights in Path("sweep").rglob("checkpoints"):
        shutil.rmtree(weights)
    archive(Path("sweep"), out / "sweep.zip")


def configs(out: Path) -> None:
    """Write a config.json for each study, optimizer and schedule, with every kind of part."""
    made = {name: presets.preset(name).config for name in presets.names()}
    choices = {
        "sgd": {"schedule": "polynomial", "power": 1.5, "momentum": 0.99, "gradient_clip": None},
        "adamw": {"schedule": "one-cycle"},
        "adam": {"schedule": "cosine", "weight_decay": 0.0},
        "radam": {"schedule": "warmup-cosine", "warmup": 0.2},
        "lamb": {"schedule": "constant", "learning_rate": 1e-2},
        "lion": {"schedule": "constant", "gradient_clip": 12.0},
    }
    parts = (
        {"augment": transforms_from_json({"transform": name} for name in transform_names())},
        {"pipeline": everything(), "validate_every": 3, "compute_dtype": "bfloat16"},
        {"loss": every_loss(), "deep_supervision": True, "ema": 0.999},
        {"init": InitConfig("before", "0" * 64, new_head=True), "freeze": ("^X00/", "^X10/")},
        {"activation": "sigmoid", "dropout": 0.0, "patience": None, "in_channels": 4},
        coded(),
    )
    for (name, options), part in zip(choices.items(), parts, strict=True):
        optimizer = OptimizerConfig(name=name, **options)
        made[name] = TrainConfig("mpunet++", (64, 64, 64), optimizer=optimizer, **part)
    out.mkdir(exist_ok=True)
    for name, config in made.items():
        write_config(config, out, overwrite=True)
        (out / "config.json").rename(out / f"{name}.json")


def everything() -> Pipeline:
    landmarks = tuple(float(value) for value in np.linspace(0, 100, 13))
    return Pipeline(
        (
            Reorient("PIR"),
            BiasFieldCorrection(where="nonzero", iterations=(20, 10)),
            BrainExtraction("zero-background", channel=0),
            BrainExtraction("hd-bet"),
            CropToForeground(2),
            Resample((1, 1, 1.5), tolerance=0.05),
            CropOrPad((96, 96, 64)),
            HistogramStandardization((landmarks,), where="above-mean", cutoff=(0.02, 0.98)),
            ClipPercentiles(1, 99),
            MinMax(),
            ZScore("nonzero"),
            Rescale(0, 1),
        )
    )


def every_loss() -> Loss:
    return Loss(
        (
            Term("dice", weight=2, background=True, smooth=1e-3),
            Term("tversky", alpha=0.3, beta=0.9, per="image"),
            Term("tversky", alpha=0.6),
            Term("cross-entropy", weight=0.5),
        )
    )


def coded() -> dict:
    coding = coding_of_labels({"core": [1, 4], "edema": 2, "ignore": 3}, "label_values")
    return {"label_values": coding, "labels": coding.names}


def states(path: Path) -> None:
    """Write how the state of each optimizer is laid out in a checkpoint."""
    made = {
        f"{optimizer}, gradient_clip {clip}, {schedule}": make_optimizer(
            OptimizerConfig(name=optimizer, gradient_clip=clip, schedule=schedule), 10
        )
        for optimizer in ("adamw", "adam", "radam", "lamb", "lion", "sgd")
        for clip in (1.0, None)
        for schedule in ("one-cycle", "constant", "cosine", "polynomial", "warmup-cosine")
    }
    made["adamw, freeze"] = freeze(made["adamw, gradient_clip 1.0, one-cycle"], ("^X00/",))
    layer = {"kernel": np.ones((3, 3), np.float32), "bias": np.ones(3, np.float32)}
    table = {}
    for key, optimizer in made.items():
        leaves = jax.tree_util.tree_leaves_with_path(optimizer.init({"X00": layer, "X01": layer}))
        table[key] = [f"{name(path)} {leaf.dtype} {list(leaf.shape)}" for path, leaf in leaves]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(rows)}" for key, rows in table.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def name(path) -> str:
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)


def archive(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for part in sorted(folder.rglob("*")):
            file.write(part, part.relative_to(folder))


if __name__ == "__main__":
    main(sys.argv[1])
