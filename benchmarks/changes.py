"""Does a follow-up tell what changed? Lesions of known change, and copies in which nothing did.

    python benchmarks/changes.py [--data DATA] [--json results.json] [--only heads]

DATA holds `ms_lesions/` and `ms_lesion_masks/`. Transforms between visits are exact here: how well
segjax registers is another question (benchmarks/registration.py).

"bodies": ellipsoids of 3 to 12 mm, counted on two grids that lie anyhow; masks alone. Half of them
do not change, the others grow or shrink to 1.3 to 3 times. A change counts where the masks on the
visits' own grids differ by over 30 % and 3 voxels of the coarser grid: "right" is how many of these
got their class, "stable" how many of those that did not change.

"copies": the lesions of real patients with up to 10 ml, masks alone, moved by up to 5 mm, turned by
up to 10° and resampled to voxels of 0.8 to 1.25 mm: once by the nearest voxel, once by linear
interpolation and a threshold of a half, which takes volume from all small lesions; "twice": both
visits are counted anew, of smoothed outlines.

"heads": a phantom's head and a real one with their lesions, and ten more put in, of 3 to 12 mm: two
new, one gone, two larger, two smaller, three as they were. Head moved and turned, other noise and
bias field; masks alone, and with images.

"scans": the same heads against copies of themselves, shifted, turned and resampled, masks too; with
images. Nothing changed.
"""

import argparse
import json
import os
import platform
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from segjax.data.io.formats import read_volume
from segjax.data.phantom.dataset import phantom
from segjax.data.prepare.brain import extract_brain
from segjax.evaluate.changes import lesion_changes
from segjax.evaluate.followup import Visit, follow_up
from segjax.evaluate.registration import Registration
from segjax.grid import Grid
from segjax.volume import Volume

ISO, THICK = (1.0, 1.0, 1.0), (0.72, 0.72, 4.0)
GRIDS = {
    "1 mm": (ISO, ISO),
    "0.8 and 1.2 mm": ((0.8, 0.8, 0.8), (1.2, 1.2, 1.2)),
    "1 mm and 0.7 × 0.7 × 3 mm": (ISO, (0.7, 0.7, 3.0)),
    "0.72 × 0.72 × 4 mm": (THICK, THICK),
}
SIZES = (3, 4, 6, 12)  # mm
MOST = 10_000  # mm³ of a patient who is copied
EXPECTED = {"grow": "enlarged", "shrink": "shrunk", "same": "stable"}


def rigid(rng, centre, degrees=5.0, millimetres=2.5):
    """Draw a rigid movement around a centre; two of them differ by twice that at most."""
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre - turn @ centre + rng.uniform(-millimetres, millimetres, 3)
    return matrix


def grid_over(low, high, edges, shift=0.0):
    """Return a grid over a box, which begins up to a voxel before it."""
    edges = np.asarray(edges, float)
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = low - shift * edges
    return Grid(tuple(np.ceil((high - low) / edges).astype(int) + 2), affine)


def places(grid, matrix=None):
    """Return the places in mm of a grid's voxels, moved by a matrix: 3 x y z."""
    whole = grid.affine if matrix is None else matrix @ grid.affine
    x, y, z = np.ix_(*map(np.arange, grid.shape))
    return np.stack([r[0] * x + r[1] * y + r[2] * z + r[3] for r in whole[:3]])


def values_at(volume, where, order=1):
    index = np.linalg.inv(volume.affine)
    at = np.einsum("ij,jxyz->ixyz", index[:3, :3], where) + index[:3, 3, None, None, None]
    return map_coordinates(volume.data.astype(np.float32), at, order=order, mode="constant")


def halfway(volume, matrix, grid):
    """Return the shares of a mask on the half-way grid, whose places ``matrix`` moves to it."""
    return np.clip(values_at(volume, places(grid, matrix)), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Body:
    """An ellipsoid at one visit."""

    centre: np.ndarray
    radii: np.ndarray
    turn: np.ndarray

    def depth(self, where):
        """Return how many radii a place lies from the centre."""
        own = np.einsum("ji,jxyz->ixyz", self.turn, where - self.centre[:, None, None, None])
        return np.sqrt(((own / self.radii[:, None, None, None]) ** 2).sum(axis=0))

    def times(self, factor):
        """Return the body with another volume."""
        return Body(self.centre, self.radii * factor ** (1 / 3), self.turn)


def draw_body(rng, diameter, centre):
    shape = rng.uniform(0.6, 1.6, 3)
    radii = diameter / 2 * shape / shape.prod() ** (1 / 3)
    return Body(np.asarray(centre, float), radii, Rotation.random(random_state=rng).as_matrix())


def draw_factor(rng, kind):
    factor = rng.uniform(1.3, 3)
    return {"same": 1.0, "grow": factor, "shrink": 1 / factor}[kind]


def is_change(volumes, voxels):
    return abs(volumes[1] - volumes[0]) > max(0.3 * volumes[0], 3 * max(voxels))


def size_of(diameter):
    low = max(edge for edge in SIZES[:-1] if diameter >= edge)
    return f"{low} to {SIZES[SIZES.index(low) + 1]} mm"


def bodies(rng, edges, count):
    """Follow ellipsoids up that grow, shrink or stay; count what became of them by their size."""
    tally = defaultdict(Counter)
    voxels = tuple(float(np.prod(one)) for one in edges)
    for _ in range(count):
        diameter = rng.uniform(SIZES[0], SIZES[-1])
        kind = rng.choice(["same", "same", "grow", "shrink"])
        body = draw_body(rng, diameter, np.zeros(3))
        pair = (body, body.times(draw_factor(rng, kind)))
        reach = 1.5 * pair[1].radii.max() + pair[0].radii.max() + 8
        box = np.full(3, -reach), np.full(3, reach)
        common = grid_over(*box, np.min(edges, axis=0))
        shares, volumes = [], []
        for own, one, voxel in zip(edges, pair, voxels, strict=True):
            matrix = rigid(rng, np.zeros(3))
            grid = grid_over(*box, own, rng.uniform(0, 1, 3))
            mask = Volume(one.depth(places(grid, np.linalg.inv(matrix))) <= 1, grid.affine)
            shares.append(halfway(mask, matrix, common))
            volumes.append(float(mask.data.sum()) * voxel)
        changes, _ = lesion_changes(
            *shares, common.affine, voxels_mm3=voxels, edges_mm=(edges[0], edges[1])
        )
        row = tally[size_of(diameter)]
        if kind != "same" and not is_change(volumes, voxels):
            row["too little to count"] += 1
            continue
        row["same" if kind == "same" else "changed"] += 1
        found = [one.kind for one in changes] or ["stable"]  # where no visit shows it
        row["stable" if kind == "same" else "right"] += found == [EXPECTED[kind]]
    return {size: dict(tally[size]) for size in sorted(tally, key=lambda one: int(one.split()[0]))}


def copy_of(rng, mask, how):
    """Return both visits' shares of a patient's mask that did not change, and their voxels."""
    rows = np.argwhere(mask.data > 0) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    low, high = rows.min(axis=0) - 10, rows.max(axis=0) + 10
    centre = (low + high) / 2
    body = mask.data.astype(np.float32)
    if how == "twice":
        body = gaussian_filter(body, 0.8)
    source = Volume(body, mask.affine)
    visits, edges = [], []
    for number in range(2):
        edge = (1.0,) * 3 if how != "twice" and not number else (float(rng.uniform(0.8, 1.25)),) * 3
        matrix = rigid(rng, centre) if how == "twice" or number else np.eye(4)
        margin = 0.1 * (high - low)
        grid = grid_over(low - margin, high + margin, edge, rng.uniform(0, 1, 3))
        if how != "twice" and not number:
            visits.append((source, matrix))
        else:
            where = places(grid, np.linalg.inv(matrix))
            found = values_at(source, where, order=0 if how == "nearest" else 1) >= 0.5
            visits.append((Volume(found, grid.affine), matrix))
        edges.append(edge)
    middle = rigid(rng, centre, 2, 1)  # as if half-way: on neither visit's voxels
    common = grid_over(low, high, np.min(edges, axis=0))
    shares = [halfway(visit, matrix @ middle, common) for visit, matrix in visits]
    return shares, common, edges


def copies(rng, files, count, how):
    """Follow patients up against copies of themselves, in which nothing changed."""
    tally, drift = Counter(), []
    for number in range(count):
        mask = read_volume(files[number % len(files)])
        shares, common, edges = copy_of(rng, mask, how)
        voxels = tuple(float(np.prod(edge)) for edge in edges)
        changes, _ = lesion_changes(
            *shares, common.affine, voxels_mm3=voxels, edges_mm=tuple(edges)
        )
        wrong = [one.kind for one in changes if one.kind != "stable"]
        tally.update({"copies": 1, "without a change": not wrong, "rows": len(changes)})
        tally["rows changed"] += len(wrong)
        loads = [float(one.sum(dtype=np.float64)) for one in shares]
        drift.append(100 * (loads[1] / loads[0] - 1))
    return {**tally, "largest drift of the load in percent": round(float(np.abs(drift).max()), 2)}


@dataclass(frozen=True)
class Scene:
    """A head with its lesions, and bodies put in that change."""

    image: Volume
    lesions: Volume
    brain: Volume
    contrasts: tuple[float, ...]
    bodies: tuple[tuple[str, Body | None, Body | None], ...]


def draw_scene(rng, image, lesions, brain):
    """Put ten lesions into a head, each apart from all others."""
    from scipy.ndimage import distance_transform_edt

    inside = distance_transform_edt(brain.data > 0, sampling=image.spacing)
    apart = distance_transform_edt(lesions.data == 0, sampling=image.spacing)
    normal = image.data[(brain.data > 0) & (lesions.data == 0)]
    quartiles = np.percentile(normal, [25, 50, 75])
    bright = np.median(image.data[lesions.data > 0]) - quartiles[1]
    tissue = np.abs(image.data - quartiles[1]) < quartiles[2] - quartiles[0]
    found = []
    for kind in ("new", "new", "gone", "grow", "grow", "shrink", "shrink", "same", "same", "same"):
        free = np.empty((0, 3), int)
        while free.size == 0:
            diameter = rng.uniform(3, 12)
            reach = 0.7 * diameter + 2
            free = np.argwhere((inside > reach) & (apart > reach + 3) & tissue)
        index = free[rng.integers(len(free))]
        centre = image.affine[:3, :3] @ index + image.affine[:3, 3]
        body = draw_body(rng, diameter, centre)
        other = body.times(draw_factor(rng, kind if kind in EXPECTED else "same"))
        pair = (None if kind == "new" else body, None if kind == "gone" else other)
        found.append((kind, *pair))
        away = places(Grid(image.spatial_shape, image.affine)) - centre[:, None, None, None]
        apart = np.minimum(apart, np.maximum(np.linalg.norm(away, axis=0) - reach, 0))
    contrasts = bright * rng.uniform(0.7, 1.1, len(found))
    return Scene(image, lesions, brain, tuple(contrasts.tolist()), tuple(found))


def box_around(image):
    """Return the least and the greatest place in mm of an image whose axes are the patient's."""
    ends = [
        image.affine @ [*index, 1] for index in ((0, 0, 0), np.subtract(image.spatial_shape, 1))
    ]
    low, high = np.sort(ends, axis=0)
    return low[:3], high[:3]


def scan(rng, scene, number, edges, matrix):
    """Scan a scene at a visit: image, mask and brain on a grid of its own, and each body's mask."""
    low, high = box_around(scene.image)
    grid = grid_over(low - 4, high + 4, edges, rng.uniform(0, 1, 3))
    where = places(grid, np.linalg.inv(matrix))
    image = values_at(scene.image, where)
    mask = values_at(scene.lesions, where, order=0) > 0
    brain = values_at(scene.brain, where, order=0) > 0
    own = []
    for contrast, pair in zip(scene.contrasts, scene.bodies, strict=True):
        body = pair[1 + number]
        own.append(np.zeros(grid.shape, bool))
        if body is not None:
            depth = body.depth(where)
            own[-1] = depth <= 1
            share = np.clip((1 - depth) * body.radii.mean() / np.mean(edges) + 0.5, 0, 1)
            image += contrast * share
            mask |= own[-1]
    scale = np.linspace(-1, 1, grid.shape[0])[:, None, None]
    field = np.exp(rng.uniform(-0.1, 0.1) * scale + rng.uniform(-0.1, 0.1) * scale**2)
    noise = rng.normal(0, rng.uniform(0.01, 0.025) * scene.image.data.max(), grid.shape)
    image = np.where(image != 0, np.abs(image * field + noise), 0).astype(np.float32)
    visit = Visit(
        f"visit {number}",
        image=Volume(image * rng.uniform(0.5, 2), grid.affine),
        mask=Volume(mask.astype(np.uint8), grid.affine),
        brain=Volume(brain.astype(np.uint8), grid.affine),
    )
    return visit, [float(one.sum() * np.prod(edges)) for one in own]


def follow_scene(rng, scene, edges):
    """Follow a scene up; return what was found of each body, with images and without."""
    low, high = box_around(scene.image)
    matrices = [rigid(rng, (low + high) / 2) for _ in range(2)]
    scans = [scan(rng, scene, n, edges[n], matrices[n]) for n in range(2)]
    common = grid_over(low, high, np.min(edges, axis=0))
    registration = Registration(tuple(matrices), common, "rigid")
    visits = [visit for visit, _ in scans]
    masks = [Visit(visit.name, mask=visit.mask) for visit in visits]
    found = {}
    for name, those in (("masks alone", masks), ("with images", visits)):
        start = time.process_time()
        followed = follow_up(those, registration=registration, labels=("background", "lesion"))
        row = judged(scene, followed.comparisons[0], [own for _, own in scans], edges)
        row["seconds"] = round(time.process_time() - start, 1)
        found[name] = row
    return found


def judged(scene, comparison, volumes, edges):
    """Count which bodies got their class, and what changed besides."""
    voxels = [float(np.prod(one)) for one in edges]
    numbers, changes = comparison.numbers, {one.number: one for one in comparison.changes}
    tally, used, wrong = Counter(), set(), []
    index = np.linalg.inv(numbers.affine)
    for n, (kind, before, after) in enumerate(scene.bodies):
        pair = volumes[0][n], volumes[1][n]
        body = before or after
        at = np.rint(index[:3, :3] @ body.centre + index[:3, 3]).astype(int)
        near = numbers.data[tuple(slice(a - 1, a + 2) for a in at)]
        row = changes.get(int(near.max()))
        used.add(int(near.max()))
        if kind != "same" and not is_change(pair, voxels):
            tally["too little to count"] += 1
            continue
        expected = EXPECTED.get(kind, kind)
        is_right = row is not None and row.kind == expected
        tally["same" if kind == "same" else "changed"] += 1
        tally["stable" if kind == "same" else "right"] += is_right
        if not is_right:
            wrong.append(f"{expected}: {pair[0]:.0f} to {pair[1]:.0f} mm³ is {row and row.kind}")
    rest = [one for one in changes.values() if one.number not in used]
    tally["other lesions"] = len(rest)
    tally["other lesions changed"] = sum(one.kind != "stable" for one in rest)
    return {**tally, "wrong": wrong}


def patients(data):
    """Yield a phantom's head and, with data, a real one."""
    image, lesions = phantom(1, shape=(128, 160, 128), spacing=1.25)
    yield "phantom", image, lesions, extract_brain(image)
    if data:
        folder = Path(data) / "ms_lesions" / "patient19"
        flair = read_volume(folder / "flair.nii.gz")
        lesions = read_volume(folder / "lesions.nii.gz")
        inside = Volume((flair.data > 0).astype(np.uint8), flair.affine)
        yield "real head", flair, lesions, inside


def heads(rng, data, count):
    results = {}
    for name, image, lesions, brain in patients(data):
        total = defaultdict(Counter)
        for number in range(count):
            edges = (ISO, ISO) if number % 2 else ((0.9, 0.9, 0.9), (1.0, 1.0, 1.2))
            scene = draw_scene(rng, image, lesions, brain)
            for how, row in follow_scene(rng, scene, edges).items():
                print(f"  {name} {number} {how}: {row}", flush=True)
                total[how].update({key: x for key, x in row.items() if key != "wrong"})
        for row in total.values():
            row["seconds"] = round(row["seconds"], 1)
        results[name] = {how: dict(row) for how, row in total.items()}
    return results


def copied_scan(rng, image, lesions, brain, threshold):
    """Return a scan and its copy on another grid, and how they lie on one between."""
    low, high = box_around(image)
    edge = float(rng.uniform(0.9, 1.2) * image.spacing[0])
    matrix = rigid(rng, (low + high) / 2)
    grid = grid_over(low - 4, high + 4, (edge,) * 3, rng.uniform(0, 1, 3))
    where = places(grid, np.linalg.inv(matrix))
    copied = values_at(lesions, where, order=int(threshold)) >= 0.5
    parts = (
        (image, lesions, brain),
        tuple(
            Volume(data, grid.affine)
            for data in (
                values_at(image, where).astype(np.float32),
                copied.astype(np.uint8),
                (values_at(brain, where) >= 0.5).astype(np.uint8),
            )
        ),
    )
    visits = [
        Visit(name, image=scan, mask=mask, brain=inside)
        for name, (scan, mask, inside) in zip(("scan", "copy"), parts, strict=True)
    ]
    middle = rigid(rng, (low + high) / 2, 2, 1)
    common = grid_over(low, high, (min(edge, image.spacing[0]),) * 3)
    return visits, Registration((middle, matrix @ middle), common, "rigid")


def scans(rng, data, count):
    results = {}
    for name, *head in patients(data):
        tally = Counter()
        for number in range(count):
            visits, registration = copied_scan(rng, *head, threshold=number % 2)
            followed = follow_up(visits, registration=registration, labels=("background", "lesion"))
            changes = followed.comparisons[0].changes
            changed = [one for one in changes if one.kind != "stable"]
            tally.update({"copies": 1, "without a change": not changed, "rows": len(changes)})
            tally["rows changed"] += len(changed)
            for one in changed:
                print(
                    f"  {name} {number}: {one.kind} {one.baseline_mm3:.0f} to "
                    f"{one.followup_mm3:.0f} mm³ by {one.evidence}, {one.confidence:.2f}",
                    flush=True,
                )
        results[name] = dict(tally)
    return results


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SEGJAX_DATA"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="bodies, copies, heads or scans")
    parser.add_argument("--count", type=float, default=1.0, help="times as many of each")
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    return parser.parse_args()


def main():
    options = arguments()
    results = {"machine": options.machine}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8")) | results
    if options.only in ("", "bodies"):
        results["bodies"] = {}
        for name, edges in GRIDS.items():
            found = bodies(np.random.default_rng(0), edges, int(800 * options.count))
            results["bodies"][name] = found
            for size, row in found.items():
                print(f"bodies, {name}, {size}: {row}", flush=True)
    if options.only in ("", "copies") and options.data:
        files = sorted((options.data / "ms_lesion_masks").glob("*.nii.gz"))
        files = [file for file in files if np.count_nonzero(read_volume(file).data) <= MOST]
        results["copies"] = {}
        for how, count in (("nearest", 200), ("linear", 20), ("twice", 20)):
            found = copies(np.random.default_rng(0), files, int(count * options.count), how)
            results["copies"][how] = found
            print(f"copies, {how}: {found}", flush=True)
    if options.only in ("", "heads"):
        results["heads"] = heads(np.random.default_rng(0), options.data, int(4 * options.count))
        for name, rows in results["heads"].items():
            for how, row in rows.items():
                print(f"heads, {name}, {how}: {row}", flush=True)
    if options.only in ("", "scans"):
        results["scans"] = scans(np.random.default_rng(0), options.data, int(10 * options.count))
        for name, row in results["scans"].items():
            print(f"scans, {name}: {row}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
