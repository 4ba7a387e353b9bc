"""How well "classical" brain extraction does: real brains without skull, phantoms with one.

    SEGJAX_DATA=... python benchmarks/brain_extraction.py [--json FILE] [--phantoms 5]

The reference of the MS patients is their background of zeros; the reference of the phantoms their
grey and white matter and lesions, closed by 6 mm so that the fluid in the sulci belongs to it.
"balloon" is the method without the check whether the brain has been extracted already.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage

from segjax.data.io.formats import read_volume
from segjax.data.phantom.dataset import phantom
from segjax.data.phantom.head import Tissue, draw_head
from segjax.data.prepare import brain
from segjax.data.prepare.spatial import crop_or_pad

SHAPE = (160, 200, 192)
CELLS = (Tissue.GREY, Tissue.WHITE)


def dice(first, second):
    return float(2 * np.count_nonzero(first & second) / (first.sum() + second.sum()))


def patients(folder):
    for patient in ("patient07", "patient19"):
        for name in ("flair", "t1", "t1post"):
            image = read_volume(folder / "ms_lesions" / patient / f"{name}.nii.gz")
            yield f"{patient} {name}", image, ndimage.binary_fill_holes(image.data != 0)


def phantoms(count):
    for kind in ("ms", "meningioma"):
        for seed in range(count):
            image, lesions = phantom(seed, shape=SHAPE, kind=kind)
            tissue = draw_head(np.random.default_rng(seed), SHAPE).tissue
            cells = np.isin(tissue, CELLS) | (lesions.data > 0)
            padded = crop_or_pad(image.with_data(cells), tuple(n + 16 for n in SHAPE)).data
            far = ndimage.distance_transform_edt(~padded) > 6
            closed = image.with_data(ndimage.distance_transform_edt(~far)[(slice(8, -8),) * 3] > 6)
            yield f"phantom {kind} {seed}", image, ndimage.binary_fill_holes(closed.data)


def measure(name, image, truth):
    start = time.perf_counter()
    mask = brain.extract_brain(image).data > 0
    seconds = time.perf_counter() - start
    check, brain._is_extracted = brain._is_extracted, lambda coarse: False
    try:
        balloon = brain.extract_brain(image).data > 0
    finally:
        brain._is_extracted = check
    return {
        "case": name,
        "dice": round(dice(mask, truth), 4),
        "balloon_dice": round(dice(balloon, truth), 4),
        "balloon_kept": round(float((balloon & truth).sum() / truth.sum()), 4),
        "seconds": round(seconds, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--phantoms", type=int, default=5)
    parser.add_argument("--machine", default="2 AMD EPYC cores, no GPU")
    arguments = parser.parse_args()
    print(f"{'case':24s}{'Dice':>8s}{'balloon':>9s}{'kept':>8s}{'s':>6s}")
    rows = []
    folder = Path(os.environ["SEGJAX_DATA"])
    for cases in (patients(folder), phantoms(arguments.phantoms)):
        for case in cases:
            row = measure(*case)
            rows.append(row)
            numbers = (row["dice"], row["balloon_dice"], row["balloon_kept"])
            print(f"{row['case']:24s}{numbers[0]:8.4f}{numbers[1]:9.4f}{numbers[2]:8.4f}"
                  f"{row['seconds']:6.1f}", flush=True)  # fmt: skip
    if arguments.json:
        versions = {name: version(name) for name in ("numpy", "scipy", "SimpleITK")}
        result = {"machine": arguments.machine, "versions": versions, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
