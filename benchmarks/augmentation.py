"""Volumes augmented per second: segjax in NumPy and in JAX against TorchIO, in one run.

    python benchmarks/augmentation.py [--json results.json] [--repeat 40]

Each row is one transform (with probability 1) or one recipe (with its probabilities), for an image
and its label map of 64×64×64 or 512×512 voxels. NumPy and TorchIO work on one volume at a time, in
one process, on one thread each; calls alternate between them, so that a busy machine slows both.
Times are means over the calls, random draws included, without the slowest tenth. JAX augments
batches in compiled programs, on the device there is: on a CPU with all of its cores. Where TorchIO
is not installed, its columns stay empty.
"""

import argparse
import itertools
import json
import os
import platform
import time
import warnings
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import jax
import numpy as np

from segjax.data import augment
from segjax.studies import study
from segjax.train.resident import augment_batch, stack_parameters

try:
    import SimpleITK
    import torch
    import torchio
except ImportError:
    torchio = None

SHAPES = {"64³": (64, 64, 64), "512²": (512, 512)}
BATCH = {"cpu": 4, "gpu": 64}
SINGLE = {
    "affine": augment.Affine(),
    "elastic": augment.Elastic(),
    "flip": augment.Flip(axes=(0, 1), probability=1.0),
    "noise": augment.Noise(probability=1.0),
    "gamma": augment.Gamma(probability=1.0),
    "bias field": augment.BiasField(probability=1.0),
    "motion": augment.Motion(probability=1.0),
    "blur": augment.Blur(probability=1.0),
    "ghosting": augment.Ghosting(probability=1.0),
    "spike": augment.Spike(probability=1.0),
    "anisotropy": augment.Anisotropy(probability=1.0),
}


def rows():
    for name, transform in SINGLE.items():
        yield name, (transform,)
    yield "affine + elastic", (augment.Affine(), augment.Elastic())
    for name in ("meningioma-2d", "ms-7t"):
        yield f"recipe {name}", study(name).augmentation()


def torchio_rows(rank):
    """Return TorchIO's counterparts; what it lacks (±30 % of intensity) is left out there."""
    axes = tuple(range(rank))
    affine, elastic = torchio.RandomAffine(), torchio.RandomElasticDeformation()
    common = [torchio.RandomMotion(p=0.05), torchio.RandomBiasField(p=0.2)]
    compose = torchio.Compose
    return {
        "affine": affine,
        "elastic": elastic,
        "flip": torchio.RandomFlip(axes=(0, 1), flip_probability=1),
        "noise": torchio.RandomNoise(std=(0, 0.1)),
        "gamma": torchio.RandomGamma(),
        "bias field": torchio.RandomBiasField(),
        "motion": torchio.RandomMotion(),
        "blur": torchio.RandomBlur(),
        "ghosting": torchio.RandomGhosting(axes=axes),
        "spike": torchio.RandomSpike(),
        "anisotropy": torchio.RandomAnisotropy(axes=axes),
        "affine + elastic": torchio.RandomAffineElasticDeformation(),
        "recipe meningioma-2d": compose([affine, elastic, torchio.RandomNoise(p=0.25), *common]),
        "recipe ms-7t": compose(
            [
                torchio.RandomFlip(axes=(0,)),
                affine,
                elastic,
                torchio.RandomGamma(p=0.25),
                torchio.RandomNoise(std=(0, 0.1), p=0.25),
                *common,
            ]
        ),
    }


def make_pair(shape):
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 1), dtype=np.float32)
    return image, (image[..., 0] > 0.7).astype(np.uint8)


def numpy_call(transforms, image, label):
    rng = np.random.default_rng(0)
    return lambda: augment.augment_patch(rng, image, label, transforms)


def torchio_call(transform, image, label):
    volume, mask = np.moveaxis(image, -1, 0), label[None]
    if label.ndim == 2:
        volume, mask = volume[..., None], mask[..., None]
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=torch.tensor(volume)),
        label=torchio.LabelMap(tensor=torch.tensor(mask)),
    )
    return lambda: transform(subject)


def mean_without_slowest(seconds):
    kept = sorted(seconds)[: max(1, len(seconds) * 9 // 10)]
    return sum(kept) / len(kept)


def time_alternating(calls, repeat):
    """Return the mean seconds of each call."""
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: mean_without_slowest(values) for name, values in seconds.items()}


def host_calls(name, transforms, image, label):
    """Return the calls that augment one volume on the host, TorchIO's where it is installed."""
    calls = {"numpy": numpy_call(transforms, image, label)}
    if torchio:
        calls["torchio"] = torchio_call(torchio_rows(label.ndim)[name], image, label)
    return calls


def time_jax(transforms, image, label, repeat, batch):
    """Return seconds per volume of a batch on the device, with the draws and without them."""
    rng = np.random.default_rng(0)
    images, labels = (jax.device_put(np.stack([array] * batch)) for array in (image, label))

    def draw():
        drawn = [augment.draw_all(rng, image.shape, transforms) for _ in range(batch)]
        parameters, applied = stack_parameters(transforms, drawn, image.shape)
        return jax.device_put(parameters), applied

    def call(drawn):
        jax.block_until_ready(augment_batch(transforms, *drawn, images, labels))

    ahead = itertools.cycle([draw() for _ in range(8)])
    parameters, applied = next(ahead)
    call((parameters, np.ones_like(applied)))  # compiles what is rarely drawn, too
    calls = {"jax": lambda: call(draw()), "device": lambda: call(next(ahead))}
    seconds = time_alternating(calls, max(3, repeat // 4))
    return {name: each / batch for name, each in seconds.items()}


def measure(name, transforms, shape, repeat):
    image, label = make_pair(SHAPES[shape])
    seconds = time_alternating(host_calls(name, transforms, image, label), repeat)
    batch = BATCH["cpu" if jax.default_backend() == "cpu" else "gpu"]
    seconds |= time_jax(transforms, image, label, repeat, batch)
    return {"transform": name, "shape": shape, **{k: 1 / v for k, v in seconds.items()}}


def show(row):
    peer = row.get("torchio")
    cells = [f"{row[name]:10.1f}" for name in ("numpy", "jax")]
    ratios = [f"{row[name] / peer:8.1f}×" if peer else " " * 9 for name in ("numpy", "jax")]
    theirs = f"{peer:10.1f}" if peer else " " * 10
    print(f"{row['transform']:22}{row['shape']:6}", *cells, theirs, *ratios, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if torchio:
        torch.set_num_threads(1)
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print(f"{'volumes per second':28}{'NumPy':>10} {'JAX':>10} {'TorchIO':>10}  NumPy/T   JAX/T")
    results = []
    for shape in SHAPES:
        for name, transforms in rows():
            results.append(measure(name, transforms, shape, arguments.repeat))
            show(results[-1])
    if arguments.json:
        report = {"machine": arguments.machine, "unit": "volumes per second", "rows": results}
        arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
