"""Segment four FLAIRs as a clinic's scanner made them: two visits of two patients with MS.

    SEGJAX_DATA=... python benchmarks/clinical.py [--model ms-flair] [--json FILE] [--picture FILE]

No lesion masks of these scans are public, only what changed between the visits (`ms_longitudinal`),
on a common grid. So for each patient: what is found at each visit; the Dice of both visits' masks,
which nothing but change and error keeps from 1; which part of the changed voxels, and how many of
the changes of 27 mm³ or more, are found at one of the visits; and the same for a threshold on the
blurred FLAIR more than 6 mm inside the brain.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from followup import PATIENTS, Patient
from matplotlib.figure import Figure
from scipy import ndimage
from studies import machine

from segjax.data.prepare.pipeline import Pipeline
from segjax.evaluate.registration import to_halfway
from segjax_onnx.predict.predictor import Predictor

PREPARED = [
    {"step": "n4"},
    {"step": "brain-extraction"},
    {"step": "tissue-peak", "side": "upper"},
]
LEAST = 1.5  # best from patient07 to patient19 in these units, see docs/recipes.md
SMALLEST = 27.0  # mm³
SHOWN = 5


def main():
    options = arguments()
    predictor = Predictor(options.model)
    ways = {options.model: predictor.predict, f"threshold {LEAST}": over_threshold}
    rows, shown = [], {}
    for name in PATIENTS:
        patient = Patient(options.data / "ms_longitudinal" / name)
        for way, segment in ways.items():
            start = time.process_time()
            masks = [segment(flair) for flair in patient.images]
            seconds = (time.process_time() - start) / len(masks)
            rows.append({"patient": name, "by": way, **measured(patient, masks)})
            rows[-1]["cpu_seconds"] = round(seconds, 1)
            print(rows[-1])
            shown.setdefault(name, (patient.images, masks))
    if options.json:
        found = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.picture:
        draw(shown, options.picture)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEGJAX_DATA", "data")))
    parser.add_argument("--model", default="ms-flair")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    return parser.parse_args()


def over_threshold(flair):
    scaled = Pipeline.from_json(PREPARED).apply(flair)
    values = scaled.channels_last[..., 0]
    deep = ndimage.distance_transform_edt(values > values.min(), sampling=flair.spacing) > 6
    blurred = ndimage.gaussian_filter(values, [1 / mm for mm in flair.spacing])
    return flair.with_data(((blurred > LEAST) & deep).astype(np.uint8))


def measured(patient, masks):
    """Compare the masks of two visits with each other and with what changed."""
    registration = patient.registration
    first, second = (
        to_halfway(mask.with_data(mask.data.astype(np.float32)), registration, visit).data >= 0.5
        for visit, mask in enumerate(masks)
    )
    changed, either = patient.gt, first | second
    pieces, count = ndimage.label(changed, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:] * np.prod(patient.brain.spacing)
    large = [n for n in range(1, count + 1) if sizes[n - 1] >= SMALLEST]
    loads = [float((mask.data > 0).sum() * mask.voxel_size / 1000) for mask in masks]
    return {
        "ml": [round(load, 1) for load in loads],
        "dice_of_visits": round(
            float(2 * (first & second).sum() / (first.sum() + second.sum())), 3
        ),
        "of_changed_voxels": round(float(either[changed].mean()), 3),
        "changes_found": [sum(bool(either[pieces == n].any()) for n in large), len(large)],
    }


def draw(shown, path):
    """Draw the slices that hold most, and one that holds little, of each scan."""
    figure = Figure(figsize=(3 * SHOWN, 3.2 * 2 * len(shown)), facecolor="black")
    axes = figure.subplots(2 * len(shown), SHOWN, squeeze=False)
    scans = [pair for flairs, masks in shown.values() for pair in zip(flairs, masks, strict=True)]
    for row, (flair, mask) in zip(axes, scans, strict=True):
        found = mask.data > 0
        where = np.flatnonzero(flair.data.max(axis=(0, 1)) > 0)
        places = np.quantile(where, np.linspace(0.3, 0.85, SHOWN)).astype(int)
        for axis, place in zip(row, places, strict=True):
            image = flair.data[..., place].T
            axis.imshow(image, cmap="gray", vmin=0, vmax=np.quantile(flair.data, 0.997))
            axis.invert_yaxis()
            if found[..., place].any():
                axis.contour(found[..., place].T, [0.5], colors="#ff9f1a", linewidths=1.6)
            axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(path, dpi=60)


if __name__ == "__main__":
    main()
