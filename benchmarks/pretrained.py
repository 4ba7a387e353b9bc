"""Train the models that come with segjax, by `segjax` commands, to the same bytes each time.

    python benchmarks/pretrained.py --data DATA --out FOLDER [--models ms-flair ...] [--check]

Each model has its card in `segjax/pretrained/NAME.json`, which people write, but for its last three
fields. FOLDER gets NAME.onnx and NAME.json with these filled in: copy both to `segjax/pretrained`.
`--check` says instead whether the bytes are those of the model that is there.

One thread and no instructions beyond AVX2, so that computers agree, given the same versions of JAX,
NumPy, SciPy and SimpleITK. A training goes on where it was stopped, and is done once in FOLDER.
"""

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from studies import (
    BRAIN,
    CLIPPED,
    DATA,
    FIELD,
    FLIP,
    MS_7T,
    PATIENTS,
    STUDY_2D,
    TURNED,
    contrast,
    meningioma_recipe,
    noise,
    put_in,
    put_in_large,
    run_segjax,
    with_links,
)

import segjax
from segjax import models
from segjax.pretrained import ModelCard, read_model_card
from segjax.pretrained.card import FOLDER
from segjax.train.config import read_config

ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Recipe:
    """What `segjax train` is given, with all cases of a folder and none to validate on.

    Attributes:
        data: Folder in DATA.
        settings: Those of the training.
        others: Of more networks, whose mean probability with that one's is the model: what is
            otherwise in their trainings.
        card: What the exported file says of channels, rules and structures.
        images: Of folders of subjects, the file of each channel.
        cases: All of them, where folders of subjects hold others.
    """

    data: str
    settings: dict
    card: dict
    others: tuple[dict, ...] = ()
    images: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()


RECIPES = {
    "meningioma": Recipe(
        "meningioma2d",
        meningioma_recipe("unet2d-small", "patient fold 0", **TURNED).settings
        | {
            "label_values": {"meningioma": 1},
            "pipeline": [*STUDY_2D, {"step": "resize", "size": 256}],
        },
        {"channels": ["T1 with contrast agent"]},
    ),
    "ms-flair": Recipe(
        "ms_lesions",
        {
            "model": "mpunet++",
            "pipeline": [
                BRAIN[0],
                {"step": "n4"},
                {"step": "brain-extraction", "method": "classical"},
                {"step": "crop-to-brain"},
                *CLIPPED[2:],
            ],
            "patch_size": [32, 32, 32],
            "batch_size": 8,
            "patches_per_case": 128,
            "foreground": 0.6,
            "dropout": 0.0,
            "optimizer": {"learning_rate": 1.2e-2},
            "augment": [put_in(4, 1.0, 2.5, 0.5), put_in_large(1.0, 2.5, 0.25), *MS_7T],
            "epochs": 32,
            "validate_every": 32,
        },
        {  # lesions of MS are 3 mm long or more: a ball of that diameter
            "channels": ["FLAIR"],
            "postprocessing": {"lesion": {"minimum_volume": 14.1}},
        },
        others=(  # too much found where the first one finds too little
            {
                "loss": [
                    {"name": "dice", "per": "image", "smooth": 20.0},
                    {"name": "cross-entropy"},
                ],
                "foreground": 0.5,
                "augment": [
                    put_in(3, 1.2, 3.0, 0.3),
                    put_in_large(1.2, 3.0, 0.15),
                    FLIP,
                    {"transform": "affine"},
                    {"transform": "elastic"},
                    {
                        "transform": "anisotropy",
                        "axes": [2],
                        "downsampling": [1.5, 4.0],
                        "probability": 0.4,
                    },
                    contrast(0.25),
                    noise(0.1, 0.25),
                    FIELD,
                    {"transform": "motion", "probability": 0.05},
                ],
                "epochs": 25,
                "validate_every": 25,
            },
        ),
        images=("flair.nii.gz",),
        cases=PATIENTS,
    ),
    "hippocampus": Recipe(
        "hippocampus",
        {
            "model": "mpunet++",
            "label_values": {"anterior": 1, "posterior": 2},
            "pipeline": [
                BRAIN[0],
                BRAIN[2] | {"tolerance": 0.05},
                {"step": "z-score"},
            ],
            "patch_size": [40, 56, 48],
            "batch_size": 4,
            "patches_per_case": 1,
            "foreground": 0.5,
            "augment": [{"transform": "scale-intensity"}, {"transform": "noise"}],
            "dropout": 0.0,
            "optimizer": {"learning_rate": 1.2e-2},
            "epochs": 20,
            "validate_every": 20,
        },
        {"channels": ["T1"]},
    ),
}


def main():
    options = arguments()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= ONE_THREAD
    wrong = [name for name in options.models if not is_made(name, options)]
    if wrong:
        raise SystemExit(f"{', '.join(wrong)}: other bytes than in {FOLDER}")


def is_made(name, options):
    """Train and export a model; say whether its bytes are as they should be."""
    recipe, out = RECIPES[name], options.out / name
    source = options.data / recipe.data
    if recipe.images:
        source = with_links(source, recipe.images, out / "data")
    for number, changes in enumerate(({}, *recipe.others)):
        settings = recipe.settings | changes
        train(settings, recipe.cases, source, out / f"run/fold{number}", options.data)
    card, file = read_model_card(FOLDER / f"{name}.json"), options.out / f"{name}.onnx"
    told = recipe.card | {"about": about(card)}
    write(out / "card.json", told)
    count = 1 + len(recipe.others)
    runs = (out / "run", "--ensemble") if recipe.others else (out / "run/fold0",)
    run_segjax("export", *runs, "-o", file, "--card", out / "card.json", "--overwrite")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    print(f"{name} {file.stat().st_size:,} bytes, SHA-256 {digest}")
    if options.check:
        return digest == card.sha256
    counted = {"sha256": digest, "parameters": count * parameters(out / "run/fold0")}
    write(
        file.with_suffix(".json"), card.to_json() | counted | {"segjax_version": segjax.__version__}
    )
    return True


def train(settings, cases, source, run, data):
    folder = run.parent
    folder.mkdir(parents=True, exist_ok=True)
    told, split = folder / f"{run.name}.json", folder / "split.json"
    plain = json.dumps(settings).replace(f'"{DATA}/', f'"{data.resolve()}/')
    write(told, json.loads(plain))
    labels = (source / "labels").iterdir()
    cases = cases or sorted(path.name.split(".")[0] for path in labels)
    write(split, {"train": list(cases), "validation": [], "test": []})
    run_segjax("train", "--data", source, "--out", run, "--config", told, "--split", split)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, kept")
    parser.add_argument("--models", nargs="+", default=tuple(RECIPES), choices=tuple(RECIPES))
    parser.add_argument(
        "--check", action="store_true", help="compare with the models that are there"
    )
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data: --data, or SEGJAX_DATA")
    return options


def parameters(run):
    config = read_config(run)
    network = models.create(config.model, **config.interface)
    patch = jax.ShapeDtypeStruct((1, *config.patch_size, config.in_channels), jnp.float32)
    return models.count_parameters(jax.eval_shape(network.init, jax.random.key(0), patch))


def about(card: ModelCard):
    each = {row.label: row.value for row in card.dice if row.label}
    return {
        "license": card.license,
        "citation": "; ".join(card.citations),
        "intended_use": card.intended_use,
        "training_data": card.data,
        "dice": each or {card.labels[0]: card.dice[0].value},
    }


def write(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
