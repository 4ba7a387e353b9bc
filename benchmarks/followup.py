"""What changed between two real FLAIRs of a patient, against what experts drew.

    SEGJAX_DATA=... python benchmarks/followup.py [--json FILE] [--only pairs rules]

"pairs": Dice of the changed voxels, lesions found (of all, and of those of at least 27 mm³) and
regions that touch none, by the authors' transforms and brain, and by segjax's registration and
brain. "threshold" is what one would write first: both images less their median over their
interquartile range, low frequencies of the difference removed, smoothed by 1.5 mm, over 0.5 and
bright in one of them. "rules": the same against each number of the rules. "contrasts": the second
visit made another, or taken from another sequence. "copies": a scan against itself, moved, turned
by up to 10°, resampled and with other noise.
"""

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK
from scipy import ndimage
from scipy.linalg import sqrtm

from segjax.data.io.formats import read_volume
from segjax.data.prepare.brain import extract_brain
from segjax.data.prepare.spatial import resample
from segjax.evaluate.difference import ChangeRules, compare_images
from segjax.evaluate.registration import Registration, register_visits, to_halfway
from segjax.grid import Grid, grid
from segjax.volume import Volume

PATIENTS = ("patient01", "patient12")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RULES = {
    "smoothing_mm": (0.5, 1.0),
    "bias_mm": (15.0, 30.0),
    "least_scatter": (0.05, 0.15),
    "scatter_mm": (8.0, 18.0),
    "certain": (5.0, 7.0),
    "least": (0.3, 0.5),
    "border": (0.2, 0.3),
    "border_mm": (4.0, 6.0),
    "fluid": (-1.3, -0.7),
    "bright": (0.0, 0.4),
    "core_mm": (2.0, 4.0),
    "edge_mm": (1.0, 3.0),
    "smallest_mm3": (2.0, 6.0),
}


def itk_matrix(path):
    """Read an ITK transform: place in RAS mm of the common grid -> that of the image."""
    transform = SimpleITK.ReadTransform(str(path))
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = (
        np.array([transform.TransformPoint(row) for row in np.eye(3)]).T - origin[:, None]
    )
    matrix[:3, 3] = origin
    return LPS @ matrix @ LPS


class Patient:
    """Two visits, where they lie on the grid that the experts drew on, and what these drew."""

    def __init__(self, folder, ours=False):
        self.images = [read_volume(folder / f"study{n}_FLAIR.nii.gz") for n in (1, 2)]
        self.gt = read_volume(folder / "gt.nii.gz").data > 0
        self.brain = read_volume(folder / "brainmask.nii.gz")
        files = [folder / f"study{n}_FLAIR_to_common_space.txt" for n in (1, 2)]
        self.matrices = [itk_matrix(one) for one in files]
        self.folder = folder
        if ours:
            brains = [extract_brain(one) for one in self.images]
            found = register_visits(self.images, brains=brains)
            between = found.matrices[1] @ np.linalg.inv(found.matrices[0])
            self.matrices[1] = between @ self.matrices[0]  # on the grid that the experts drew on
            placed = [to_halfway(b, self.registration, n).data > 0.5 for n, b in enumerate(brains)]
            self.brain = self.brain.with_data((placed[0] & placed[1]).astype(np.uint8))

    @property
    def registration(self):
        """Return where both visits lie."""
        return Registration(tuple(self.matrices), grid(self.brain), "affine")

    def pair(self):
        """Return both images on the common grid."""
        return [to_halfway(one, self.registration, n) for n, one in enumerate(self.images)]

    def sequence(self, name):
        """Return another sequence of the second visit."""
        image = read_volume(self.folder / f"study2_{name}.nii.gz")
        within = itk_matrix(self.folder / f"study2_{name}_intrastudy_to_FLAIR.txt")
        matrices = (self.matrices[0], within @ self.matrices[1])
        return to_halfway(image, Registration(matrices, grid(self.brain), "affine"), 1)


def scores(changed, gt, spacing):
    every = np.ones((3, 3, 3))
    lesions, count = ndimage.label(gt, every)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:] * np.prod(spacing)
    found = ndimage.maximum(changed, lesions, range(1, count + 1)) > 0
    regions, parts = ndimage.label(changed, every)
    true = ndimage.maximum(gt, regions, range(1, parts + 1)) > 0 if parts else np.zeros(0, bool)
    total = changed.sum() + gt.sum()
    return {
        "dice": round(float(2 * (changed & gt).sum() / total), 3),
        "found": f"{found.sum()}/{count}",
        "found_27mm3": f"{found[sizes >= 27].sum()}/{(sizes >= 27).sum()}",
        "false": int((~true).sum()),
        "ml": round(float(changed.sum() * np.prod(spacing) / 1000), 2),
    }


def threshold(images, brain):
    inside, spacing = brain.data > 0, brain.spacing
    a, c = (
        (one.data - np.median(one.data[inside]))
        / np.subtract(*np.percentile(one.data[inside], [75, 25]))
        for one in images
    )

    def smooth(image, mm):
        return ndimage.gaussian_filter(image, [mm / size for size in spacing])

    weight = smooth(inside.astype(np.float32), 15)
    step = (c - a) * inside
    step = smooth(step - smooth(step, 15) / np.maximum(weight, 1e-3), 1.5)
    bright = np.maximum(smooth(a, 1.0), smooth(c, 1.0)) > 0.3
    return (np.abs(step) > 0.5) & bright & inside


def compared(patient, second=None, **rules):
    first, own = patient.pair()
    start = time.process_time()
    found = compare_images(
        first, second or own, patient.brain, rules=replace(ChangeRules(), **rules)
    )
    row = scores(found.changed.data != 0, patient.gt, patient.brain.spacing)
    return row | {
        "reliable": found.reliable,
        "reason": found.reason,
        "cpu_s": round(time.process_time() - start, 1),
    }


def pairs(folder):
    for name in PATIENTS:
        for ours in (False, True):
            patient = Patient(folder / name, ours)
            what = {"patient": name, "registration": "segjax" if ours else "authors"}
            changed = threshold(patient.pair(), patient.brain)
            yield (
                what | {"method": "threshold"} | scores(changed, patient.gt, patient.brain.spacing)
            )
            yield what | {"method": "segjax"} | compared(patient)


def rules(folder):
    patients = {name: Patient(folder / name) for name in PATIENTS}
    for rule, values in RULES.items():
        for value in values:
            for name, patient in patients.items():
                yield {"patient": name, "rule": rule, "value": value} | compared(
                    patient, **{rule: value}
                )


def contrasts(folder):
    for name in PATIENTS:
        patient = Patient(folder / name)
        image = patient.pair()[1]
        data = np.maximum(image.data, 0)
        middle = float(np.median(data[patient.brain.data > 0]))
        x, _, z = (np.linspace(-0.5, 0.5, n) for n in data.shape)
        noise = np.random.default_rng(0).normal(size=data.shape)
        scale = [1 / size for size in image.spacing]
        levels = np.array([0, 0.7, 0.92, 1.1, 2]), np.array([0, 0.5, 0.97, 1.05, 1.6])
        made = {
            "gamma 0.6": middle * (data / middle) ** 0.6,
            "gamma 1.6": middle * (data / middle) ** 1.6,
            "monotone map": middle * np.interp(data / middle, *levels),
            "bias field": data * (1 - 0.5 * x[:, None, None]) * (1 + 0.8 * z),
            "noise": np.abs(data + 0.05 * middle * noise),
            "blur of 1 mm": ndimage.gaussian_filter(data, scale),
            "T2W": patient.sequence("T2W").data,
            "T1W": patient.sequence("T1W").data,
        }
        for what, changed in made.items():
            second = image.with_data(changed.astype(np.float32))
            yield {"patient": name, "second": what} | compared(patient, second)


def motion(rng, centre):
    transform = SimpleITK.Euler3DTransform()
    transform.SetRotation(*np.deg2rad(rng.uniform(-10, 10, 3) * (1, 0.5, 1)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = rng.uniform(-5, 5, 3) + centre - matrix[:3, :3] @ centre
    return matrix


def copies(folder, count):
    for seed in range(count):
        name, visit = PATIENTS[seed % 2], seed // 2 % 2
        patient = Patient(folder / name)
        rng = np.random.default_rng(seed)
        image = patient.images[visit]
        middle = image.affine @ [*np.array(image.spatial_shape) / 2, 1]
        moved = motion(rng, middle[:3])  # place of the copy -> place of the image
        scale = rng.uniform([0.9, 0.9, 0.8], [1.3, 1.3, 1.1])
        shape = tuple(int(n / k) + 1 for n, k in zip(image.spatial_shape, scale, strict=True))
        placed = Volume(image.data, np.linalg.inv(moved) @ image.affine)
        copy = resample(placed, Grid(shape, image.affine @ np.diag([*scale, 1])))
        noise = rng.choice([0, 0.02, 0.04]) * np.median(image.data[image.data > image.data.mean()])
        copy = copy.with_data(np.abs(copy.data + noise * rng.normal(size=shape)).astype(np.float32))
        half = np.real(sqrtm(moved))  # half-way -> image; its inverse -> copy
        seen = Registration((half, np.linalg.inv(half)), grid(image), "rigid")
        own = Registration((np.linalg.inv(patient.matrices[visit]) @ half,), grid(image), "rigid")
        brain = to_halfway(patient.brain, own, 0, interpolation="nearest")
        found = compare_images(
            *(to_halfway(v, seen, n) for n, v in enumerate((image, copy))), brain
        )
        regions, number = ndimage.label(found.changed.data != 0, np.ones((3, 3, 3)))
        yield {"patient": name, "visit": visit + 1, "seed": seed, "reliable": found.reliable,
               "changes": number, "voxels": int((regions > 0).sum())}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=["pairs", "rules", "contrasts", "copies"])
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--machine", default="2 AMD EPYC cores, no GPU")
    arguments = parser.parse_args()
    folder = Path(os.environ["SEGJAX_DATA"]) / "ms_longitudinal"
    parts = {
        "pairs": lambda: pairs(folder),
        "rules": lambda: rules(folder),
        "contrasts": lambda: contrasts(folder),
        "copies": lambda: copies(folder, arguments.copies),
    }
    result = {"machine": arguments.machine}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text()) | result
    result["versions"] = {name: version(name) for name in ("numpy", "scipy", "SimpleITK")}
    for part in arguments.only:
        result[part] = []
        for row in parts[part]():
            result[part].append(row)
            print(part, *(f"{key}={value}" for key, value in row.items()), sep="  ", flush=True)
        result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
