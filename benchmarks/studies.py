"""Train both studies' networks on public data by `segjax` commands; Dice of cases never seen.

    python benchmarks/studies.py --data DATA --out FOLDER [--study ms] [--rows TEXT ...]
        [--json results.json]

DATA holds `meningioma2d/`, `hippocampus/` and `ms_lesions/`. Each training is one command, goes on
where it was stopped, and is done once in FOLDER; the same call again only collects. Unless its
name says "patience", nothing is validated before the last epoch, and the last network is measured:
the cases that its Dice is of have chosen nothing. Dice is of whole images, on their own grid.

Rows of `--json` that are there already stay, also those of other studies; `--list` names all rows.
"""

import argparse
import csv
import itertools
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from scipy import ndimage

from segjax.data.io.formats import read_volume
from segjax.data.prepare.pipeline import Pipeline
from segjax.studies import study

SEGJAX = (sys.executable, "-c", "from segjax.cli import main; raise SystemExit(main())")
STUDY_2D = [
    {"step": "histogram-standardization", "landmarks": [], "cutoff": [0.01, 0.99]},
    {"step": "z-score"},
    {"step": "rescale", "low": -1.0, "high": 1.0},
]
RANDOM_SPLIT = ("--validation", str(120 / 602))
BLURS = (0.0, 0.7, 1.0)  # mm
BLOCKS = ("--folds", "5", "--neighbours", "20")


@dataclass(frozen=True)
class Training:
    """A call of `segjax train`."""

    data: str
    options: tuple[str, ...]
    settings: dict
    images: tuple[str, ...] = ()  # of subject folders: one file for each channel
    split: dict = field(default_factory=dict)
    folds: str = ""  # table of the data, with columns case and fold
    alone: bool = False  # whether nothing but the cases to train on is there, to choose settings by


def meningioma(size, epochs, *options, patience=False):
    """Return a training of the meningioma study, kernel 3 and α 0.5, on slices of size × size."""
    spacing = [512 / size, 512 / size, 1.0]
    steps = [*STUDY_2D, {"step": "resample", "spacing": spacing}]
    settings = {"pipeline": steps, "patch_size": [size, size], "epochs": epochs}
    if not patience:
        cycle = {"learning_rate": 5e-3, "schedule": "one-cycle"}
        settings |= {"patience": None, "validate_every": epochs, "optimizer": cycle}
    preset = ("--preset", "meningioma-2d", "--model", "unet2d-k3")
    return Training("meningioma2d", (*preset, *options), settings)


MIRRORED = [{"transform": "flip", "axes": [0]}, *study("meningioma-2d").transforms]
AUGMENTED = {"dropout": 0.0, "optimizer": {"learning_rate": 5e-3}, "augment": MIRRORED}


def meningioma_recipe(model, split, **changes):
    """Return a training on mirrored slices of 256 × 256, with averaged parameters."""
    base = meningioma(256, 60).settings
    usual = study("meningioma-2d").training | {"loss": [{"name": "tversky", "alpha": 0.5}]}
    settings = usual | base | {"model": model, "augment": MIRRORED, "ema": 0.998}
    settings |= ({"dropout": 0.0} if model == "unet2d-small" else {}) | changes
    options, folds = MENINGIOMA_SPLITS[split]
    return Training("meningioma2d", options, settings, folds=folds)


def hippocampus_recipe(model, epochs):
    """Return a training with small turns and bends and averaged parameters, on fold 0."""
    augment = [
        {"transform": "affine", "scales": [0.9, 1.1], "degrees": [-12.0, 12.0], "probability": 0.5},
        {"transform": "elastic", "max_displacement": [2.0], "probability": 0.2},
        {"transform": "gamma", "probability": 0.2},
        {"transform": "scale-intensity", "factor": [0.8, 1.25]},
        {"transform": "noise", "std": [0.0, 0.15]},
    ]
    return hippocampus(model, epochs, fold="0", augment=augment, ema=0.999)


def hippocampus(model, epochs, *options, fold="all", **others):
    settings = {"dropout": 0.0, "optimizer": {"learning_rate": RATES[model]}} | others
    settings |= {"epochs": epochs, "validate_every": epochs}
    chosen = ("--model", model, "--folds", "5", "--fold", fold)
    return Training("hippocampus", (*chosen, *options), settings)


def ms(train, test, *images):
    """Return a training of MPU-Net++ on one patient; the other one is segmented afterwards.

    In the study's patches of 64³ the lesions of patient07, 35 voxels on average, are too rare: a
    loss of 1, that of an empty mask, after 200 steps. Patches of 32³ take the same time.
    """
    settings = {"pipeline": BRAIN, "patch_size": [32] * 3, "batch_size": 8, "dropout": 0.0}
    settings |= {"optimizer": {"learning_rate": RATES["mpunet++"]}, "foreground": 0.75}
    settings |= {"epochs": 25, "patches_per_case": 64, "validate_every": 25}
    files = tuple(f"{image}.nii.gz" for image in images)
    split = {"train": [train], "validation": [], "test": [test]}
    return Training("ms_lesions", ("--model", "mpunet++"), settings, files, split)


BRAIN = [
    {"step": "reorient", "orientation": "RAS"},
    {"step": "z-score", "where": "nonzero"},
    {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
]
FINE = [
    {"step": "reorient", "orientation": "RAS"},
    {"step": "z-score"},
    {"step": "resample", "spacing": [0.7, 0.7, 0.7]},
]
NORMALISATIONS = {
    "z-score": BRAIN[1],
    "robust z-score": {"step": "robust-z-score"},
    "tissue peak": {"step": "tissue-peak"},
    "upper half of the tissue peak": {"step": "tissue-peak", "side": "upper"},
}
DATA = "DATA"  # in settings: the folder of the data
PEAK = [BRAIN[0], NORMALISATIONS["upper half of the tissue peak"], BRAIN[2]]
CROPPED = [PEAK[0], {"step": "crop-to-brain"}, *PEAK[1:]]
CLIPPED = [*CROPPED[:-1], {"step": "clip", "low": -5.0, "high": 8.0}, CROPPED[-1]]
PATIENTS = ("patient07", "patient19")
NO_DROPOUT = {
    "dropout": 0.0,
    "loss": [{"name": "tversky", "alpha": 0.5}, {"name": "cross-entropy"}],
}
TURNED = NO_DROPOUT | {
    "augment": [
        MIRRORED[0],
        {"transform": "affine", "degrees": [-180.0, 180.0]},
        *MIRRORED[2:],
    ],
}
MENINGIOMA_RECIPES = {
    "mirrored": {},
    "mirrored, no dropout, cross-entropy too": NO_DROPOUT,
    "mirrored and turned by any angle, no dropout, cross-entropy too": TURNED,
}
MENINGIOMA_SPLITS = {"random split seed 0": ((*RANDOM_SPLIT, "--seed", "0"), "")} | {
    f"patient fold {fold}": (("--fold", str(fold)), "patient_folds.csv") for fold in range(5)
}
PICTURES = {  # what nobody asked for, on slices as they are: patches of 256 × 256
    "nothing asked for": {},
    "intensities scaled and noise, dropout": {
        "dropout": 0.3,
        "optimizer": {"learning_rate": 1e-3},
        "augment": [
            {"transform": "scale-intensity", "factor": [0.7, 1.3], "probability": 0.5},
            {"transform": "noise", "std": [0.0, 0.1], "probability": 0.5},
        ],
    },
    "augmentation of meningioma-2d, mirrored": AUGMENTED,
    "augmentation of meningioma-2d, mirrored, patches of 512": AUGMENTED
    | {"patch_size": [512, 512], "batch_size": 2, "patches_per_case": 1},
}
RATES = {"mpunet++": 1.2e-2, "unet3d": 2e-3}


@dataclass(frozen=True)
class Threshold:
    """No network: all over the threshold of FLAIR that is best for some patient."""

    on: str
    chosen_on: str
    step: dict


def ms_recipe(train, test, seed, **recipe):
    """Return a training of MPU-Net++ on FLAIR of one patient by a recipe."""
    settings = {"pipeline": PEAK, "patch_size": [32] * 3, "batch_size": 8, "dropout": 0.0}
    settings |= {"optimizer": {"learning_rate": RATES["mpunet++"]}, "foreground": 0.6}
    settings |= {"epochs": 15, "patches_per_case": 128, "validate_every": 15} | recipe
    split = {"train": [train], "validation": [], "test": [test]}
    options = ("--model", "mpunet++", "--seed", str(seed))
    return Training("ms_lesions", options, settings, ("flair.nii.gz",), split)


VARIATIONS = {
    "as it is": (),
    "no augmentation": ("--augment", "none"),
    "augmentation of ms-7t": ("--augment", "ms-7t"),
    "constant learning rate": ("--schedule", "constant"),
    "moving average 0.99": ("--ema", "0.99"),
    "dropout 0.3": ("--dropout", "0.3"),
}
FLIP = {"transform": "flip", "axes": [0]}
FIELD = {"transform": "bias-field", "probability": 0.2}


def affine(low, high, probability):
    return {"transform": "affine", "scales": [low, high], "probability": probability}


def contrast(most):
    return {"transform": "contrast", "log_slope": [-most, most], "probability": 0.5}


def noise(most, probability):
    return {"transform": "noise", "std": [0.0, most], "probability": probability}


def put_in(most, low, high, probability):
    shown = {"transform": "put-lesions", "shapes": f"{DATA}/ms_lesion_masks"}
    return shown | {"lesions": [1, most], "contrast": [low, high], "probability": probability}


def put_in_large(low, high, probability):
    return put_in(2, low, high, probability) | {"by_volume": True, "box": 40}


def drawn(transform):
    """Return lesions put in as ellipsoids, without a folder of shapes."""
    return {field: value for field, value in transform.items() if field != "shapes"}


MS_7T = study("ms-7t").transforms
RECIPES = {
    "strong augmentation": {
        "pipeline": BRAIN,
        "epochs": 20,
        "validate_every": 20,
        "augment": [
            FLIP,
            {"transform": "affine", "probability": 0.5},
            {"transform": "elastic", "probability": 0.25},
            {"transform": "blur", "probability": 0.2},
            {
                "transform": "scale-intensity",
                "factor": [0.6, 1.5],
                "shift": [-0.5, 0.5],
                "probability": 0.8,
            },
            FIELD,
            noise(0.5, 0.5),
        ],
    },
    "augmentation of ms-7t": {
        "pipeline": CROPPED,
        "epochs": 30,
        "validate_every": 30,
        "augment": [*MS_7T],
    },
    "augmentation of ms-7t, Tversky 0.8": {
        "pipeline": CROPPED,
        "epochs": 30,
        "validate_every": 30,
        "loss": [{"name": "tversky", "alpha": 0.8}],
        "augment": [*MS_7T],
    },
    "put-in lesions of all sizes, ms-7t": {
        "pipeline": CLIPPED,
        "foreground": 0.4,
        "epochs": 30,
        "validate_every": 30,
        "augment": [put_in(4, 1.0, 2.5, 0.6), put_in_large(1.0, 2.5, 0.3), *MS_7T],
    },
    "put-in lesions of all sizes, ms-7t, Tversky 0.8": {
        "pipeline": CLIPPED,
        "foreground": 0.4,
        "epochs": 30,
        "validate_every": 30,
        "loss": [{"name": "tversky", "alpha": 0.8}],
        "augment": [put_in(4, 1.0, 2.5, 0.6), put_in_large(1.0, 2.5, 0.3), *MS_7T],
    },
    "drawn lesions of all sizes, ms-7t, Tversky 0.8": {
        "pipeline": CLIPPED,
        "foreground": 0.4,
        "epochs": 30,
        "validate_every": 30,
        "loss": [{"name": "tversky", "alpha": 0.8}],
        "augment": [drawn(put_in(4, 1.0, 2.5, 0.6)), drawn(put_in_large(1.0, 2.5, 0.3)), *MS_7T],
    },
    "put-in lesions of all sizes alone, ms-7t": {
        "pipeline": CLIPPED,
        "label_values": {"lesion": 2, "ignore": 1},
        "foreground": 0.0,
        "epochs": 30,
        "validate_every": 30,
        "augment": [put_in(6, 1.0, 2.5, 0.8), put_in_large(1.0, 2.5, 0.3), *MS_7T],
    },
    "put-in lesions": {
        "pipeline": PEAK,
        "foreground": 0.4,
        "augment": [
            put_in(4, 0.5, 1.8, 0.7),
            FLIP,
            affine(0.8, 1.8, 0.6),
            contrast(0.3),
            FIELD,
            noise(0.3, 0.3),
        ],
    },
    "put-in lesions alone": {  # the patient's own count for nothing
        "pipeline": CROPPED,
        "label_values": {"lesion": 2, "ignore": 1},
        "foreground": 0.0,
        "augment": [
            put_in(6, 0.7, 2.2, 0.8),
            FLIP,
            affine(0.8, 1.25, 0.5),
            contrast(0.4),
            FIELD,
            {"transform": "blur", "std": [0.0, 0.8], "probability": 0.3},
            noise(0.3, 0.2),
        ],
    },
    "put-in lesions, enlarged, Tversky 0.7": {
        "pipeline": CROPPED,
        "loss": [{"name": "tversky", "alpha": 0.7}, {"name": "cross-entropy"}],
        "augment": [
            put_in(4, 0.7, 2.2, 0.7),
            FLIP,
            affine(0.8, 2.5, 0.7),
            contrast(0.4),
            FIELD,
            noise(0.9, 0.4),
        ],
    },
}
AS_CHOSEN = {"validate_every": 1000}  # nothing but what `segjax train` chooses
TRAININGS = {
    "meningioma 256 random split seed 0": meningioma(256, 60, *RANDOM_SPLIT, "--seed", "0"),
    **{
        f"meningioma 128 random split seed {seed}": meningioma(
            128, 30, *RANDOM_SPLIT, "--seed", str(seed)
        )
        for seed in range(3)
    },
    "meningioma 128 random split patience 5": meningioma(128, 100, *RANDOM_SPLIT, patience=True),
    "meningioma 128 5 random folds": meningioma(128, 16, "--folds", "5"),
    "meningioma 128 5 folds of neighbours": meningioma(128, 16, *BLOCKS),
    **{
        f"meningioma 256 {model}, {name}, {split}": meningioma_recipe(model, split, **changes)
        for name, changes in MENINGIOMA_RECIPES.items()
        for model in ("unet2d-k3", "unet2d-k5", "unet2d-small")
        for split in MENINGIOMA_SPLITS
    },
    **{
        f"meningioma 512, {name}, random split seed 0": Training(
            "meningioma2d",
            (*RANDOM_SPLIT, "--seed", "0"),
            {"epochs": 10, "validate_every": 10} | changes,
        )
        for name, changes in PICTURES.items()
    },
    "hippocampus mpunet++ 5 folds": hippocampus("mpunet++", 16),
    "hippocampus unet3d 5 folds": hippocampus("unet3d", 60),
    **{
        f"hippocampus {model} fold 0, 15 epochs, {name}": hippocampus(model, 15, *changes, fold="0")
        for model in RATES
        for name, changes in VARIATIONS.items()
    },
    **{
        f"hippocampus {model} fold 0, turned and bent, averaged, {epochs} epochs": (
            hippocampus_recipe(model, epochs)
        )
        for model, epochs in (("mpunet++", 40), ("unet3d", 150))
    },
    **{
        f"hippocampus {model} fold 0, {epochs} epochs": hippocampus(model, epochs, fold="0")
        for model in RATES
        for epochs in (5, 20, 45)
    },
    **{
        f"hippocampus {model} fold 0, 15 epochs, voxels of 0.7 mm": hippocampus(
            model, 15, fold="0", pipeline=FINE, patch_size=[56, 80, 64]
        )
        for model in RATES
    },
    **{
        f"ms {chosen_on} to {on}, bare threshold, {name}": Threshold(on, chosen_on, step)
        for name, step in NORMALISATIONS.items()
        for chosen_on in PATIENTS
        for on in PATIENTS
    },
    **{
        f"ms {train} to {test}, flair, nothing asked for": Training(
            "ms_lesions",
            (),
            AS_CHOSEN,
            ("flair.nii.gz",),
            {"train": [train], "validation": [], "test": [test]},
            alone=True,
        )
        for train, test in (PATIENTS, PATIENTS[::-1])
    },
    **{
        f"ms {train} to {test}, flair, {name}, seed {seed}": ms_recipe(train, test, seed, **recipe)
        for name, recipe in RECIPES.items()
        for train, test in (PATIENTS, PATIENTS[::-1])
        for seed in range(2)
    },
    **{
        f"ms {train} to {test}, {' + '.join(images)}": ms(train, test, *images)
        for images in (("flair",), ("flair", "t1", "t2"))
        for train, test in (PATIENTS, PATIENTS[::-1])
    },
}


def main():
    options = arguments()
    rows = {name: each for name, each in TRAININGS.items() if is_chosen(name, options)}
    if options.list:
        print(*rows, sep="\n")
        return
    results = {"machine": machine(), "trainings": {}}
    if options.json and options.json.is_file():
        results["trainings"] = json.loads(options.json.read_text(encoding="utf-8"))["trainings"]
    for name, training in rows.items():
        results["trainings"][name] = once(training, options.data, folder_of(name, options.out))
        print_row(name, results["trainings"][name])
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def is_chosen(name, options):
    of_study = options.study is None or name.startswith(options.study)
    return of_study and (not options.rows or any(text in name for text in options.rows))


def folder_of(name, out):
    return out / name.replace(" ", "-").replace(",", "")


def once(training, data, folder):
    """Return the row of a training; that of one which is done already, as it was measured then."""
    row, asked = folder / "row.json", json.loads(json.dumps(asdict(training)))
    if row.is_file():
        done = json.loads(row.read_text(encoding="utf-8"))
        if done["training"] == asked:
            return done["result"]
        raise SystemExit(f"{folder}: holds another training of the same name: remove it")
    folder.mkdir(parents=True, exist_ok=True)
    is_threshold = isinstance(training, Threshold)
    result = over_threshold(training, data) if is_threshold else run(training, data, folder)
    plain = {"training": asked, "result": result}
    row.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return result


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--out", type=Path, help="folder of the runs, kept")
    parser.add_argument("--study", choices=("meningioma", "hippocampus", "ms"))
    parser.add_argument("--rows", "--only", nargs="+", default=(), help="parts of names of rows")
    parser.add_argument("--list", action="store_true", help="name the rows, and train nothing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.list:
        return options
    if options.out is None:
        parser.error("name a folder for the runs: --out")
    if options.data is None:
        parser.error("name the folder of the data: --data, or SEGJAX_DATA")
    return options


def run(training, data, folder):
    """Train, unless that is done, and collect."""
    source = data / training.data
    if training.images:
        subjects, source = source, with_links(source, training.images, folder / "data")
    seen, split = source, training.split
    if training.alone:
        seen = with_links(subjects, training.images, folder / "alone", split["train"])
        split = split | {"test": []}
    settings = folder / "settings.json"
    wanted = json.dumps(training.settings, indent=2).replace(f'"{DATA}/', f'"{data.resolve()}/')
    settings.write_text(wanted + "\n", encoding="utf-8")
    options = [*training.options, "--config", str(settings)]
    if split:
        (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")
        options += ["--split", str(folder / "split.json")]
    if training.folds:
        write_folds(source / training.folds, folder / "folds.json")
        options += ["--split", str(folder / "folds.json")]
    out = folder / "run"
    run_segjax("train", "--data", seen, "--out", out, *options)
    rows = measured(source, folder, training.split) if training.split else validated(out)
    runs = sorted(out.glob("fold?")) or [out]
    return {
        "command": shlex.join(["segjax", "train", "--data", training.data, *training.options]),
        "settings": training.settings,
        "minutes": [round(seconds(each) / 60, 1) for each in runs],
        **summary(rows),
    }


def write_folds(table, file):
    """Write folds that a table gives as nnU-Net's splits_final.json."""
    of_case = {row["case"]: row["fold"] for row in read(table)}
    parts = [
        {
            "train": [c for c in of_case if of_case[c] != fold],
            "val": [c for c in of_case if of_case[c] == fold],
        }
        for fold in sorted(set(of_case.values()))
    ]
    file.write_text(json.dumps(parts), encoding="utf-8")


def over_threshold(row, data):
    """Measure one threshold of the blurred FLAIR: that which is best for some patient.

    FLAIR is normalised by one step; voxels count that lie more than 6 mm inside the brain.
    """
    chosen_on, own = (
        normalised_flair(data / "ms_lesions" / name, row.step) for name in (row.chosen_on, row.on)
    )
    choices = itertools.product(BLURS, np.arange(0.5, 4.0, 0.05).round(2).tolist())
    blur, least = max(choices, key=lambda choice: dice_over(*choice, *chosen_on))
    dice = round(dice_over(blur, least, *own), 4)
    chosen = {"step": row.step, "blur_mm": blur, "threshold": least}
    return {"settings": chosen, "minutes": [0.0], "dice": {"1": dice}, "mean_dice": dice}


def normalised_flair(patient, step):
    """Return FLAIR at each blur, and the lesions, of the voxels that count."""
    flair = read_volume(patient / "flair.nii.gz")
    inside = ndimage.distance_transform_edt(flair.data != 0) > 6
    scaled = Pipeline.from_json([step]).apply(flair).data[..., 0]
    blurred = {blur: ndimage.gaussian_filter(scaled, blur)[inside] for blur in BLURS}
    lesions = read_volume(patient / "lesions.nii.gz").data != 0
    return blurred, lesions[inside], lesions.sum()


def dice_over(blur, least, blurred, lesions, count):
    found = blurred[blur] > least
    return float(2 * (found & lesions).sum() / (found.sum() + count))


def with_links(subjects, images, folder, only=()):
    """Lay out folders of subjects as a data folder with one file for each channel."""
    for subject in sorted(path for path in subjects.iterdir() if path.is_dir()):
        if only and subject.name not in only:
            continue
        for channel, image in enumerate(images):
            link(folder / "images" / f"{subject.name}_{channel:04}.nii.gz", subject / image)
        link(folder / "labels" / f"{subject.name}.nii.gz", subject / "lesions.nii.gz")
    return folder


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target.resolve())


def run_segjax(*arguments):
    subprocess.run([*SEGJAX, *map(str, arguments)], check=True, stdout=sys.stderr)


def measured(source, folder, split):
    """Segment the test cases with the exported network and compare them with their labels."""
    table, inputs = folder / "test.csv", folder / "inputs"
    for case in split["test"]:
        for image in (source / "images").glob(f"{case}_*"):
            link(inputs / image.name, image)
    run_segjax(
        "predict", folder / "run/model.onnx", inputs, "-o", folder / "masks", "--skip-existing"
    )
    shown = ("--lesions", "--images", inputs, "--report", folder / "report", "-o", table)
    run_segjax("evaluate", folder / "masks", source / "labels", *shown, "--overwrite")
    return [row | {"fold": 0} for row in read(table)]


def validated(run):
    """Return Dice of every case at the last validation, or the best one of early stopping."""
    if (run / "folds.csv").is_file():
        return read(run / "folds.csv")
    rows = [row for row in read(run / "metrics.csv") if row["metric"] == "dice"]
    by_epoch = defaultdict(list)
    for row in rows:
        by_epoch[int(row["epoch"])].append(row | {"fold": 0})
    return max(by_epoch.values(), key=lambda some: fmean(float(row["value"]) for row in some))


def summary(rows):
    """Average each metric by label over all cases, and Dice over the cases of each fold."""
    values, folds = defaultdict(list), defaultdict(list)
    for row in rows:
        values[row["metric"], row["label"]].append(float(row["value"]))
        if row["metric"] == "dice":
            folds[row["fold"]].append(float(row["value"]))
    metrics = defaultdict(dict)
    for (metric, label), some in values.items():
        known = [value for value in some if not math.isnan(value)]
        metrics[metric][label] = round(fmean(known), 4) if known else None
    means = [round(fmean(some), 4) for some in folds.values()]
    result = {"cases": len({row["case"] for row in rows}), **metrics, "dice_of_folds": means}
    result["mean_dice"] = round(fmean(metrics["dice"].values()), 4)
    return result | ({"sd_of_folds": round(stdev(means), 4)} if len(means) > 1 else {})


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def seconds(run):
    rows = [row for row in read(run / "metrics.csv") if row["metric"] == "seconds"]
    return float(rows[-1]["value"])


def print_row(name, result):
    print(f"{name:45} Dice {result['mean_dice']:.4f}  {result['dice']}  {result['minutes']} min")


def machine():
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores of {model}"


if __name__ == "__main__":
    main()
