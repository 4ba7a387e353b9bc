"""Is the sensitivity that `segjax followup --check` tells that of the follow-up?

    python benchmarks/selfcheck.py [--json FILE] [--pairs 8] [--repeats 4]

Pairs of phantom heads of 1.5 mm voxels: one anatomy, other noise, bias field and scale at each
visit, plaques at both, and lesions of 3 to 14 mm at the second one alone, of one contrast. They are
painted by the phantom's own means (tissue replaced, then blurred), not put in by
`segjax.data.synthesis`. "true" is how many of them the follow-up told as new or enlarged; "told"
what `self_check` says of the same pair: share, its interval, number. "images" has no masks;
"threshold" has those of a poor network: brighter than 1.5 interquartile ranges over the brain's
median, slightly smoothed. Registration is left out: the head does not move.
"""

import argparse
import itertools
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from scipy import ndimage

from segjax.data.phantom.head import Tissue, draw_head, smooth_noise
from segjax.data.phantom.lesions import paint_ms
from segjax.evaluate import selfcheck
from segjax.evaluate.followup import Visit, follow_up
from segjax.evaluate.statistics import wilson_interval
from segjax.volume import Volume

SHAPE, SPACING = (112, 136, 128), 1.5
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
EDGES = (3.0, 5.0, 10.0, 14.0)
SIDES = ("true", "told")
BLUR = 0.55  # voxels
OF_EACH = 4  # new lesions of each size
CONTRAST = {  # of all lesions, in interquartile ranges of the brain
    "images": (0.9, 2.0),  # what the check takes for granted without masks
    "threshold": (0.6, 1.6),  # what it has to learn from the mask
}
SIGNAL = {
    Tissue.FAT: 0.74, Tissue.BONE: 0.08, Tissue.MARROW: 0.32, Tissue.FLUID: 0.1,
    Tissue.GREY: 0.61, Tissue.WHITE: 0.48, Tissue.MUSCLE: 0.33, Tissue.DURA: 0.22,
    Tissue.VESSEL: 0.15, Tissue.OEDEMA: 0.7,
}  # fmt: skip


def draw_anatomy(rng):
    """Return the signal of a head without lesions, its brain, white matter and plaques."""
    head = draw_head(rng, SHAPE)
    healthy = head.tissue.copy()
    plaques = paint_ms(rng, head)
    table = np.array([SIGNAL.get(tissue, 0) for tissue in Tissue], np.float32)
    signal = table[healthy] * (1 + 0.03 * smooth_noise(rng, SHAPE, 2.5))
    cells = np.isin(healthy, (Tissue.GREY, Tissue.WHITE))
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(cells, iterations=2))
    return signal, brain, healthy == Tissue.WHITE, plaques


def draw_lesions(rng, white, taken):
    """Return the numbers of new lesions, and their diameters."""
    numbers, diameters = np.zeros(SHAPE, np.int32), []
    inner = ndimage.binary_erosion(white, iterations=2)
    away = ndimage.distance_transform_edt(~taken) * SPACING
    ends = list(itertools.pairwise(EDGES)) * OF_EACH
    for low, high in sorted(ends, reverse=True):
        diameter = np.exp(rng.uniform(np.log(low), np.log(high)))
        places = np.argwhere(inner & (away > diameter / 2 + 6))
        if not len(places):
            continue
        axes = rng.uniform(0.7, 1.3, 3)
        axes *= diameter / 2 / np.prod(axes) ** (1 / 3) / SPACING
        centre = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 3)
        offsets = np.indices(SHAPE, np.float32) - centre.reshape(3, 1, 1, 1).astype(np.float32)
        depth = np.sqrt(((offsets / axes.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
        own = (depth + 0.1 * smooth_noise(rng, SHAPE, diameter / 3) < 1) & white
        if own.sum() * SPACING**3 >= np.pi / 6 * low**3:
            diameters.append((6 * own.sum() * SPACING**3 / np.pi) ** (1 / 3))
            numbers[own] = len(diameters)
            beside = np.linalg.norm(offsets, axis=0) * SPACING - 0.8 * diameter
            away = np.minimum(away, beside)
    return numbers, diameters


def scan(rng, signal):
    """Return what a scanner makes of signals."""
    image = ndimage.gaussian_filter(signal, BLUR)
    image *= np.exp(0.04 * smooth_noise(rng, SHAPE, 60))
    noise = 0.013 * rng.standard_normal((2, *SHAPE), dtype=np.float32)
    return Volume((rng.uniform(700, 1300) * np.hypot(image + noise[0], noise[1])), AFFINE)


def draw_pair(seed, contrast):
    """Return both scans, their brain, and the lesions of the second one alone."""
    rng = np.random.default_rng(seed)
    signal, brain, white, plaques = draw_anatomy(rng)
    numbers, diameters = draw_lesions(rng, white, plaques)
    blurred = ndimage.gaussian_filter(signal, BLUR)  # contrasts are told in units of the image
    spread = np.subtract(*np.percentile(blurred[brain], [75, 25]))
    pieces, count = ndimage.label(plaques)
    for piece in range(1, count + 1):
        signal[pieces == piece] += np.float32(rng.uniform(*contrast) * spread)
    changed = signal.copy()
    for number in range(1, len(diameters) + 1):
        level = SIGNAL[Tissue.WHITE] + rng.uniform(*contrast) * spread
        changed[numbers == number] = level
    inside = Volume(brain.astype(np.uint8), AFFINE)
    return scan(rng, signal), scan(rng, changed), inside, numbers, diameters


def network_of(brain):
    """Return a poor network."""

    def segment(image):
        smooth = ndimage.gaussian_filter(image.data, 0.4)
        low, middle, high = np.percentile(image.data[brain.data > 0], [25, 50, 75])
        inner = ndimage.binary_erosion(brain.data > 0, iterations=2)
        bright = (smooth > middle + 1.5 * (high - low)) & inner
        return image.with_data(bright.astype(np.uint8)), None

    return segment


def measure(method, seed, repeats):
    """Compare what is told of a pair with what is true of it."""
    first, second, brain, numbers, diameters = draw_pair(seed, CONTRAST[method])
    segment = network_of(brain) if method == "threshold" else None
    visits = [
        Visit(name, image=image, mask=segment and segment(image)[0], brain=brain)
        for name, image in (("first", first), ("second", second))
    ]
    start = time.process_time()
    seen = follow_up(visits, registration="none").comparisons[0]
    seconds = time.process_time() - start
    grown = [c.number for c in seen.changes if c.kind in ("new", "enlarged")]
    hit = set(np.unique(numbers[np.isin(seen.numbers.data, grown)]).tolist())
    found = [number in hit for number in range(1, len(diameters) + 1)]
    told = selfcheck.self_check(
        visits, segment=segment, repeats=repeats, registration="none", seed=seed
    )
    return {
        "true": [(float(d), bool(f)) for d, f in zip(diameters, found, strict=True)],
        "told": [(lesion.diameter_mm, lesion.found) for lesion in told.put_in],
        "false_changes": list(told.false_changes),
        "reason": seen.difference.reason,
        "seconds": round(seconds, 1),
    }


def shares(lesions):
    """Return the sensitivity of each size and of all, with its interval and the number."""
    rows = {}
    for low, high in (*itertools.pairwise(EDGES), (EDGES[0], EDGES[-1])):
        own = [found for diameter, found in lesions if _within(diameter, low, high)]
        share = wilson_interval(sum(own), len(own))
        rows[f"{low:g} to {high:g} mm"] = [*(round(float(x), 3) for x in share), len(own)]
    return rows


def _within(diameter, low, high):
    return (diameter >= low or low == EDGES[0]) and (diameter < high or high == EDGES[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=["images", "threshold"])
    parser.add_argument("--machine", default="2 AMD EPYC cores, no GPU")
    arguments = parser.parse_args()
    selfcheck._Check._copied = lambda self, number: 0  # copies are another question
    result = {}
    for method in arguments.methods:
        rows = []
        for seed in range(arguments.pairs):
            row = measure(method, seed, arguments.repeats)
            counts = [(side, sum(f for _, f in row[side]), len(row[side])) for side in SIDES]
            print(method, seed, row["seconds"], row["reason"], row["false_changes"], *counts)
            rows.append(row)
        both = {side: shares([one for row in rows for one in row[side]]) for side in SIDES}
        for size, share in both["true"].items():
            print(f"{method:10s} {size:12s} true {share}  told {both['told'][size]}", flush=True)
        false = [count for row in rows for count in row["false_changes"]]
        result[method] = both | {"false_changes": false, "reasons": [r["reason"] for r in rows]}
    if arguments.json:
        versions = {name: version(name) for name in ("numpy", "scipy")}
        told = {"machine": arguments.machine, "versions": versions, "repeats": arguments.repeats}
        arguments.json.write_text(json.dumps(told | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
