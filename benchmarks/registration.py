"""How near two visits are registered, and how fast: segjax against elastix and ANTs.

    SEGJAX_DATA=... python benchmarks/registration.py [--json benchmarks/results/registration.json]
        [--sides segjax elastix ants]

Pairs are the two visits of each patient of `ms_longitudinal`: FLAIR and FLAIR, and of other
contrasts, as where a scanner or its protocol changed. The reference are the data set's authors' own
transforms (affine, of FLAIR to a common space and of each study's images to its FLAIR); the error
is the mean distance between both maps from visit to visit over the voxels of the authors' mask of
the brain. "best rigid" is the error of the rigid map nearest to theirs: below it no rigid method
comes but by chance.

"made" pairs are the FLAIRs with the second one made harder: turned by 30 degrees and moved by 58
mm; of another gamma and brightness that drifts; of slices twice as thick; without its lowest
quarter. Each side is called as its documentation shows: segjax finds the brains itself; elastix
takes its default parameters for rigid registration, ANTs "Rigid". Seconds are those of the
processor, of all threads, without reading the files.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(_name, "2")

import numpy as np
from scipy.spatial.transform import Rotation

from segjax.data.io.formats import read_volume, write_volume
from segjax.errors import InputError
from segjax.evaluate.registration import read_transform, register_visits
from segjax.volume import Volume

PAIRS = (
    ("patient01", "FLAIR", "FLAIR"),
    ("patient12", "FLAIR", "FLAIR"),
    ("patient01", "FLAIR", "T2W"),
    ("patient01", "T1W", "FLAIR"),
    ("patient12", "FLAIR", "T2W"),
    ("patient12", "T1W", "FLAIR"),
)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image(folder, study, name):
    volume = read_volume(folder / f"{study}_{name}.nii.gz")
    return volume.with_data(volume.channels_last[..., 0].astype(np.float32))


def to_common(folder, study, name):
    """Return the map from the common space to an image."""
    flair = read_transform(folder / f"{study}_FLAIR_to_common_space.txt")
    if name == "FLAIR":
        return flair
    return read_transform(folder / f"{study}_{name}_intrastudy_to_FLAIR.txt") @ flair


def turned(volume):
    matrix = np.eye(4)
    axis = np.array([1, 0.5, 2]) / np.linalg.norm([1, 0.5, 2])
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(30) * axis).as_matrix()
    matrix[:3, 3] = 40, -30, 30
    return Volume(volume.data, matrix @ volume.affine), matrix


def other_values(volume):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.data.shape], indexing="ij")
    bright = np.percentile(volume.data, 99.5)
    data = np.clip(volume.data / bright, 0, 1.5) ** 0.5 * np.exp(0.4 * x - 0.4 * z + 0.3 * y * y)
    return volume.with_data(data.astype(np.float32)), np.eye(4)


def thick(volume):
    pairs = volume.data.shape[2] // 2
    data = volume.data[:, :, : 2 * pairs].reshape(*volume.data.shape[:2], pairs, 2).mean(axis=-1)
    index = np.diag([1.0, 1.0, 2.0, 1.0])
    index[2, 3] = 0.5
    return Volume(data, volume.affine @ index), np.eye(4)


def cut(volume):
    first = volume.data.shape[2] // 4
    index = np.eye(4)
    index[2, 3] = first
    return Volume(volume.data[:, :, first:].copy(), volume.affine @ index), np.eye(4)


HARDER = {"turned": turned, "other values": other_values, "thick slices": thick, "cut": cut}


def make_pairs(data):
    """Yield a name, both images, places in the first's brain and the authors' map."""
    for patient, first, second in PAIRS:
        folder = data / "ms_longitudinal" / patient
        images = image(folder, "study1", first), image(folder, "study2", second)
        here, there = to_common(folder, "study1", first), to_common(folder, "study2", second)
        mask = read_volume(folder / "brainmask.nii.gz")
        index = np.argwhere(mask.data > 0)[::37]
        places = np.c_[index, np.ones(len(index))] @ (here @ mask.affine).T
        truth = there @ np.linalg.inv(here)
        yield f"{patient} {first} {second}", *images, places, truth
        if (first, second) == ("FLAIR", "FLAIR"):
            for name, make in HARDER.items():
                other, matrix = make(images[1])
                yield f"{patient} {name}", images[0], other, places, matrix @ truth


def by_segjax(first, second):
    found = register_visits([first, second]).matrices
    return found[1] @ np.linalg.inv(found[0])


def by_elastix(first, second):
    import itk

    with tempfile.TemporaryDirectory() as folder:
        fixed, moving = (itk.imread(file, itk.F) for file in written(Path(folder), first, second))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("rigid"))
    _, result = itk.elastix_registration_method(fixed, moving, parameter_object=parameters)
    values = result.GetParameterMap(0)
    *angles, x, y, z = (float(value) for value in values["TransformParameters"])
    centre = np.array([float(value) for value in values["CenterOfRotationPoint"]])
    about = [
        Rotation.from_rotvec(angle * axis) for angle, axis in zip(angles, np.eye(3), strict=True)
    ]
    matrix = np.eye(4)
    matrix[:3, :3] = (about[2] * about[0] * about[1]).as_matrix()
    matrix[:3, 3] = centre + np.array((x, y, z)) - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS


def by_ants(first, second):
    import ants

    with tempfile.TemporaryDirectory() as folder:
        fixed, moving = (
            ants.image_read(str(file)) for file in written(Path(folder), first, second)
        )
        found = ants.registration(
            fixed, moving, type_of_transform="Rigid", outprefix=f"{folder}/found", random_seed=1
        )
        return read_transform(found["fwdtransforms"][0])


def written(folder, *images):
    for number, volume in enumerate(images):
        write_volume(volume, folder / f"{number}.nii.gz")
        yield folder / f"{number}.nii.gz"


SIDES = {"segjax": by_segjax, "elastix": by_elastix, "ants": by_ants}
PACKAGES = ("numpy", "scipy", "SimpleITK", "itk-elastix", "antspyx")


def error(found, truth, places):
    return float(np.linalg.norm((places @ (found - truth).T)[:, :3], axis=1).mean())


def best_rigid(truth, places):
    here, there = places[:, :3], (places @ truth.T)[:, :3]
    turn, _ = Rotation.align_vectors(there - there.mean(axis=0), here - here.mean(axis=0))
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = there.mean(axis=0) - matrix[:3, :3] @ here.mean(axis=0)
    return matrix


def measure(sides, first, second, places, truth):
    row = {
        "before": round(error(np.eye(4), truth, places), 2),
        "best rigid": round(error(best_rigid(truth, places), truth, places), 3),
    }
    for side in sides:
        start = time.process_time()
        try:
            found = SIDES[side](first, second)
        except (InputError, RuntimeError) as failure:
            row[side] = {"failed": str(failure).strip().splitlines()[-1][:80]}
            continue
        seconds = time.process_time() - start
        row[side] = {"mm": round(error(found, truth, places), 3), "seconds": round(seconds, 1)}
    return row


def told(cell):
    return "failed" if "failed" in cell else f"{cell['mm']:.2f} mm {cell['seconds']:.0f} s"


def versions():
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--machine", default="2 AMD EPYC cores, no GPU")
    options = parser.parse_args(arguments)
    print(f"{'pair':24s}{'best rigid':>11s}" + "".join(f"{side:>16s}" for side in options.sides))
    rows = []
    for name, *pair in make_pairs(Path(os.environ["SEGJAX_DATA"])):
        row = {"pair": name, **measure(options.sides, *pair)}
        rows.append(row)
        cells = "".join(f"{told(row[side]):>16s}" for side in options.sides)
        print(f"{name:24s}{row['best rigid']:11.2f}{cells}", flush=True)
        if options.json:
            report = {"machine": options.machine, "versions": dict(versions()), "rows": rows}
            options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
