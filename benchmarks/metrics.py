"""Time and memory of all measures of one case: segjax against MONAI with surface-distance.

    python benchmarks/metrics.py [--data DATA] [--json benchmarks/results/metrics.json] [--rounds 5]

DATA holds `ms_lesions/`; without it the lesions are ellipsoids that are drawn. The grid is
182×218×182 with voxels of 1 mm. Cases: a mask moved by two voxels ("moved"), one from which the
edge voxels were taken ("eroded"), the lesions of another patient ("other"), and, as the worst for a
search of nearest points, a ball within a far larger one ("balls").

Both sides measure Dice, Jaccard, sensitivity and precision, and by both kinds of surface Hausdorff
distance, HD95, average symmetric surface distance and surface Dice at 1 mm; segjax counts lesions
too, which the others do not. Each function is called as its documentation shows, on whole masks.
The sides take turns in one process on one thread; ratios are medians of those of the turns.
"surfels" and "voxels" are the surfaces alone, beside surface-distance and beside MONAI. Memory is
the peak of a process that measures the case once, and what of it came after the imports and masks.
The largest difference is that of any measure that both sides tell.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np

SHAPE, SPACING, TOLERANCE = (182, 218, 182), (1.0, 1.0, 1.0), 1.0


def memory(field):
    """Return what the system tells of this process's memory, in megabytes (of Linux)."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return round(1024 * int(line.split()[1]) / 1e6, 1)


def ellipsoid(centre, radii):
    places = np.ogrid[tuple(map(slice, SHAPE))]
    return sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True)) <= 1


def drawn(seed, count):
    rng = np.random.default_rng(seed)
    lesions = np.zeros(SHAPE, bool)
    for _ in range(count):
        lesions |= ellipsoid(rng.uniform(50, 130, 3), rng.uniform(2, 8, 3))
    return lesions


def patients(data):
    if data is None:
        return drawn(0, 60), drawn(1, 8)
    from segjax.data.io.formats import read_volume

    files = [data / "ms_lesions" / name / "lesions.nii.gz" for name in ("patient19", "patient07")]
    return tuple(sorted((read_volume(file).data > 0 for file in files), key=np.sum, reverse=True))


def make_cases(data):
    from scipy.ndimage import binary_erosion

    truth, other = patients(data)
    middle = [n // 2 for n in SHAPE]
    return {
        "moved": (truth, np.roll(truth, 2, axis=0)),
        "eroded": (truth, binary_erosion(truth)),
        "other": (truth, other),
        "balls": (ellipsoid(middle, (80,) * 3), ellipsoid(middle, (30,) * 3)),
    }


def by_segjax(truth, prediction):
    from segjax.evaluate import jaccard, match_lesions, overlap_table

    masks = {"truth": truth, "prediction": prediction}
    (row,) = overlap_table(**masks, labels=("background", "lesion"), spacing=SPACING)
    names = ("dice", "sensitivity", "positive_predictive_value")
    return {
        **{name: row[name] for name in names},
        "jaccard": jaccard(**masks),
        "lesion_f1": match_lesions(**masks, spacing=SPACING).f1,
        **surfels_by_segjax(truth, prediction),
        **voxels_by_segjax(truth, prediction),
    }


def surfaces_by_segjax(truth, prediction, surface):
    from segjax.evaluate.surface import surface_distances

    found = surface_distances(truth=truth, prediction=prediction, spacing=SPACING, surface=surface)
    return {
        f"{surface}_hausdorff": found.hausdorff,
        f"{surface}_hd95": found.percentile(95),
        f"{surface}_assd": found.assd,
        f"{surface}_dice": found.dice(TOLERANCE),
    }


def surfels_by_segjax(truth, prediction):
    return surfaces_by_segjax(truth, prediction, "surfels")


def voxels_by_segjax(truth, prediction):
    return surfaces_by_segjax(truth, prediction, "voxels")


def tensors(truth, prediction):
    import torch

    return [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]


def by_peers(truth, prediction):
    from monai import metrics

    one, other = tensors(truth, prediction)
    counts = metrics.get_confusion_matrix(one, other, include_background=True)
    return {
        "dice": float(metrics.compute_dice(one, other)),
        "jaccard": float(metrics.compute_iou(one, other)),
        "sensitivity": float(metrics.compute_confusion_matrix_metric("sensitivity", counts)),
        "positive_predictive_value": float(
            metrics.compute_confusion_matrix_metric("precision", counts)
        ),
        **surfels_by_peer(truth, prediction),
        **voxels_by_peer(truth, prediction),
    }


def surfels_by_peer(truth, prediction):
    import surface_distance as peer

    found = peer.compute_surface_distances(truth, prediction, SPACING)
    sizes = [found["surfel_areas_gt"], found["surfel_areas_pred"]]
    means = peer.compute_average_surface_distance(found)
    return {
        "surfels_hausdorff": peer.compute_robust_hausdorff(found, 100),
        "surfels_hd95": peer.compute_robust_hausdorff(found, 95),
        "surfels_assd": np.average(means, weights=[size.sum() for size in sizes]),
        "surfels_dice": peer.compute_surface_dice_at_tolerance(found, TOLERANCE),
    }


def voxels_by_peer(truth, prediction):
    from monai import metrics

    one, other = tensors(truth, prediction)
    options = {"include_background": True, "spacing": list(SPACING)}
    return {
        "voxels_hausdorff": float(metrics.compute_hausdorff_distance(one, other, **options)),
        "voxels_hd95": float(
            metrics.compute_hausdorff_distance(one, other, percentile=95, **options)
        ),
        "voxels_assd": float(
            metrics.compute_average_surface_distance(one, other, symmetric=True, **options)
        ),
        "voxels_dice": float(metrics.compute_surface_dice(one, other, [TOLERANCE], **options)),
    }


PAIRS = {
    "all": (by_segjax, by_peers),
    "surfels": (surfels_by_segjax, surfels_by_peer),
    "voxels": (voxels_by_segjax, voxels_by_peer),
}
SIDES = {"segjax": by_segjax, "peers": by_peers}


def compare(masks, rounds):
    """Let both sides of each pair take turns; return their seconds and the ratios of turns."""
    rows = {}
    for name, sides in PAIRS.items():
        turns = [[seconds_of(side, masks) for side in sides] for _ in range(rounds)]
        rows[name] = {
            "segjax seconds": round(statistics.median(own for own, _ in turns), 3),
            "peers' seconds": round(statistics.median(theirs for _, theirs in turns), 3),
            "times as fast": round(statistics.median(theirs / own for own, theirs in turns), 2),
        }
    return rows


def seconds_of(side, masks):
    start = time.perf_counter()
    side(*masks)
    return time.perf_counter() - start


def difference(masks):
    own, theirs = by_segjax(*masks), by_peers(*masks)
    return max(abs(own[name] - value) for name, value in theirs.items())


def child(side, file):
    """Measure a case once in this process, and print how much memory that took."""
    masks = np.load(file)
    tiny = np.zeros((2, 6, 6, 6), bool)
    tiny[:, 2:4, 2:4, 2:4] = tiny[1, 1:3, 2:4, 2:4] = True
    SIDES[side](*tiny)  # imports what it needs
    before = memory("VmRSS")
    SIDES[side](*masks)
    peak = memory("VmHWM")
    print(json.dumps({"peak megabytes": peak, "of these after imports": round(peak - before, 1)}))


def memory_of(side, file):
    command = [sys.executable, __file__, "--child", side, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of the name of a case")
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    parser.add_argument("--child", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def print_row(case, name, row):
    print(
        f"{case:8}{name:10}" + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True
    )


def main():
    options = arguments()
    if options.child:
        child(options.child, options.file)
        return
    import torch

    torch.set_num_threads(1)
    results = {"machine": options.machine, "shape": SHAPE, "rounds": options.rounds, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, masks in make_cases(options.data).items():
            if options.only not in name:
                continue
            file = Path(folder) / "masks.npy"
            np.save(file, np.stack(masks))
            largest = difference(masks)  # the first call, which warms up, too
            rows = compare(masks, options.rounds)
            rows["memory"] = {side: memory_of(side, file) for side in SIDES}
            voxels = [int(mask.sum()) for mask in masks]
            results["cases"][name] = {"voxels": voxels, "largest difference": largest, **rows}
            for row_name, row in rows.items():
                print_row(name, row_name, row)
            print_row(name, "", {"voxels": voxels, "largest difference": f"{largest:.1e}"})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
