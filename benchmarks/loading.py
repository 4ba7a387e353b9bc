"""Training patches per second and memory for 10, 100 and 1,000 cases, beside TorchIO's Queue.

    python benchmarks/loading.py [--json benchmarks/results/loading.json] [--seconds 3]

The cases are made on the spot: 96×96×96 voxels with a few bright balls, in the files of a segjax
cache, about 4.4 MB each and all different; 1,000 of them take 4.4 GB of disk. They have just been
written, so that the system holds them in memory: the figures are those of a disk that is fast
enough. Each batch has 4 patches of 64×64×64, half of them around a foreground voxel.

Each row is a process of its own. Patches per second suffer where other programs run; the time that
processors work on a patch, in all processes of the row, does so less. Memory is the highest sum,
sampled every 50 ms, of the proportional set sizes of these processes, libraries included. "thread"
draws batches in a thread of the process, as a training does by default; "device" keeps all cases on
JAX's first device and makes batches there. TorchIO reads the same arrays through a reader of its
own; its Queue holds 64 patches, takes 8 of every volume that it has read, and augments the volume,
as its documentation does, so that 8 patches share one augmentation. segjax reads and augments each
patch alone.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np

COUNTS = (10, 100, 1000)
SIZE, PATCH, BATCH = 96, 64, 4
CPU_TIMES = ("user", "system", "children_user", "children_system")
LIMIT = 120  # seconds for a row
WARM_UP = 4  # batches before the clock starts
FORMS = {  # name -> (workers, numbers of cases)
    "thread": (0, COUNTS),
    "1 worker": (1, COUNTS),
    "2 workers": (2, COUNTS),
    "device": (0, COUNTS[:2]),
    "TorchIO": (0, COUNTS[::2]),
    "TorchIO, 2 workers": (2, COUNTS[::2]),
}


def make_cases(folder, count):
    """Write cases as a cache holds them; each is the last one, shifted and with another noise."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    balls = [(places - rng.integers(20, 76, (3, 1, 1, 1))) ** 2 for _ in range(6)]
    label = np.any([ball.sum(axis=0) < 25 for ball in balls], axis=0).astype(np.uint8)
    noise = rng.standard_normal(label.shape, np.float32)
    for number in range(count):
        shift = tuple(rng.integers(-12, 13, 3))
        moved = np.roll(label, shift, (0, 1, 2))
        image = np.roll(noise, number, 0) + 3 * moved
        case = folder / "cases" / f"case{number:04d}"
        case.mkdir(parents=True)
        np.save(case / "image.npy", image[..., None].astype(np.float32))
        np.save(case / "label.npy", moved)
        np.save(case / "foreground.npy", np.flatnonzero(moved))
        grid = {"shape": label.shape, "affine": np.eye(4).tolist()}
        (case / "case.json").write_text(json.dumps({"grids": [grid]}))


def segjax_batches(folders, form, augmented):
    from segjax.data import augment
    from segjax.data.cache.cache import CachedCase
    from segjax.data.loader import Loader, Sampling, prefetch

    transforms = (
        augment.Affine(),
        augment.Elastic(),
        augment.BiasField(probability=0.2),
        augment.Noise(probability=0.25),
    )
    cases = [CachedCase(folder) for folder in folders]
    sampling = Sampling((PATCH,) * 3, BATCH)
    loader = Loader(cases, sampling, augment=transforms if augmented else ())
    if form == "device":
        from segjax.train.resident import ResidentLoader

        loader = ResidentLoader(loader)
    return prefetch(loader, range(10**9), workers=FORMS[form][0])


def read_for_torchio(path):
    import torch

    return torch.from_numpy(np.load(path).reshape(1, SIZE, SIZE, SIZE)), np.eye(4)


def torchio_batches(folders, form, augmented):
    import torch
    import torchio

    torch.set_num_threads(1)
    workers = FORMS[form][0]
    transforms = [
        torchio.RandomAffine(),
        torchio.RandomElasticDeformation(),
        torchio.RandomBiasField(p=0.2),
        torchio.RandomNoise(std=(0, 0.1), p=0.25),
    ]

    subjects = [
        torchio.Subject(
            image=torchio.ScalarImage(folder / "image.npy", reader=read_for_torchio),
            label=torchio.LabelMap(folder / "label.npy", reader=read_for_torchio),
        )
        for folder in folders
    ]
    dataset = torchio.SubjectsDataset(
        subjects, transform=torchio.Compose(transforms) if augmented else None
    )
    sampler = torchio.LabelSampler(PATCH, "label", {0: 0.5, 1: 0.5})
    queue = torchio.Queue(dataset, 64, 8, sampler, num_workers=workers, start_background=False)
    for _ in itertools.count():
        for batch in torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0):
            yield batch["image"]["data"], batch["label"]["data"]


def run_one(folder, count, form, augmented, seconds):
    """Return patches and CPU milliseconds of one row; runs in a process of its own."""
    folders = sorted((folder / "cases").iterdir())[:count]
    make = torchio_batches if form.startswith("TorchIO") else segjax_batches
    batches = make(folders, form, augmented)
    for _ in range(WARM_UP):
        next(batches)
    start, cpu, done = time.perf_counter(), cpu_seconds(), 0
    while time.perf_counter() - start < seconds:
        done += len(np.asarray(next(batches)[0]))
    rate, cpu = done / (time.perf_counter() - start), cpu_seconds() - cpu
    batches.close()
    return {
        "patches per second": round(rate, 1),
        "CPU milliseconds per patch": round(1000 * cpu / done, 2),
    }


def cpu_seconds():
    """Return the time that this process and its children, ended ones too, have computed."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(getattr(time, field, 0) for time in times for field in CPU_TIMES)


def measure(folder, count, form, augmented, seconds):
    """Run one row in a process, and watch its memory."""
    arguments = [folder, count, form, augmented, seconds]
    command = [sys.executable, __file__, "--one", json.dumps(arguments, default=str)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, end = 0, time.monotonic() + LIMIT
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.05)
        if time.monotonic() > end:
            process.kill()
    if process.returncode:
        raise SystemExit(f"{form}, {count} cases: failed")
    return {
        "cases": count,
        "form": form,
        "augmented": augmented,
        **json.loads(process.stdout.read().splitlines()[-1]),
        "peak MB": round(peak / 1e6),
    }


def memory(pid):
    """Return the proportional set size of a process and its children, in bytes."""
    import psutil

    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, OSError):  # has ended meanwhile
            continue
    return total


def machine():
    """Say in words what this runs on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = " ".join(names[0].partition(":")[2].split()[:2]) if names else cpu
    import jax

    device = jax.devices()[0]
    gpu = "no GPU" if device.platform == "cpu" else device.device_kind
    return f"{len(os.sched_getaffinity(0))} {cpu} cores, {gpu}"


def versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "grain", "jax", "torch", "torchio")}


def print_rows(rows):
    print(f"{'':20s}" + "".join(f"{f'{count:,} cases':>26s}" for count in COUNTS))
    for augmented in (False, True):
        print("affine, elastic, bias field, noise" if augmented else "without augmentation")
        for form in FORMS:
            cells = {
                row["cases"]: f"{row['patches per second']:,.0f}/s "
                f"{row['CPU milliseconds per patch']:,.1f} ms {row['peak MB']:,} MB"
                for row in rows
                if row["form"] == form and row["augmented"] == augmented
            }
            print(f"  {form:18s}" + "".join(f"{cells.get(count, ''):>26s}" for count in COUNTS))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="timed for each row")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, *rest = json.loads(arguments.one)
        print(json.dumps(run_one(Path(folder), *rest)))
        return
    load = [round(os.getloadavg()[0], 1)]
    with tempfile.TemporaryDirectory() as folder:
        make_cases(Path(folder), max(COUNTS))
        rows = [
            measure(folder, count, form, augmented, arguments.seconds)
            for augmented in (False, True)
            for form, (_, counts) in FORMS.items()
            for count in counts
        ]
    load.append(round(os.getloadavg()[0], 1))
    print_rows(rows)
    result = {
        "machine": machine(),
        "load average before and after": load,
        "versions": versions(),
        "rows": rows,
    }
    print(result["machine"], f"load average {load[0]} before, {load[1]} after", sep="; ")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
