"""Time and memory of one training step, segjax against PyTorch, side by side in one run.

    python benchmarks/train_step.py [--json results.json] [--cases mpunet++ unet2d-k3 unet3d]

Every measurement runs in its own process. "kept" tells glibc to keep freed memory between
steps, on both sides; "default" leaves the allocator alone. PyTorch runs channels-last.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

CASES = {
    "mpunet++ 2x64x64x64": ("mpunet++", (2, 64, 64, 64), 2),
    "mpunet++ 4x40x56x48": ("mpunet++", (4, 40, 56, 48), 3),
    "unet2d-k3 8x256x256": ("unet2d-k3", (8, 256, 256), 2),
    "unet3d 2x64x64x64": ("unet3d", (2, 64, 64, 64), 2),
}
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


def timed(step, warm_up, repeats):
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def batch(shape, classes):
    import numpy as np

    random = np.random.default_rng(0)
    images = random.standard_normal(shape).astype(np.float32)
    return images, random.integers(0, classes, shape)


def segjax_step(model_name, shape, classes):
    import jax
    import jax.numpy as jnp

    from segjax.models import create
    from segjax.train.config import OptimizerConfig
    from segjax.train.losses import Loss
    from segjax.train.optimizers import make_optimizer
    from segjax.train.step import init_state, make_train_step

    images, labels = batch(shape, classes)
    images, labels = jnp.asarray(images)[..., None], jnp.asarray(labels, jnp.uint8)
    model = create(model_name, out_channels=classes)
    optimizer = make_optimizer(OptimizerConfig(), 100)
    state = init_state(model, optimizer, jax.random.key(0), shape[1:])
    train_step = make_train_step(model, Loss(), optimizer)
    key = jax.random.key(0)

    def step():
        nonlocal state
        state, metrics = train_step(state, images, labels, key)
        jax.block_until_ready((state, metrics))

    return step


def torch_step(model_name, shape, classes):
    import torch
    from peers import dice_and_cross_entropy, torch_network

    torch.set_num_threads(os.cpu_count() or 1)
    layout = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    model = torch_network(model_name, classes=classes).to(memory_format=layout)
    images, labels = map(torch.from_numpy, batch(shape, classes))
    images = images[:, None].to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        value = dice_and_cross_entropy(model(images), labels)
        value.backward()
        optimizer.step()
        value.item()

    return step


def measure(library, case, repeats):
    import resource

    step = {"segjax": segjax_step, "torch": torch_step}[library](*CASES[case])
    milliseconds = timed(step, 3, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": round(milliseconds, 1), "peak_mib": round(peak)}))


def in_own_process(library, case, kept, repeats):
    environment = dict(os.environ) | (KEPT if kept else {})
    command = [sys.executable, __file__, "--measure", library, case, "--repeats", str(repeats)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("jax", "flax", "torch")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure, arguments.repeats)
        return
    rows = []
    print(
        f"{'case':24s}{'malloc':>9s}{'torch ms':>10s}{'segjax ms':>11s}{'ratio':>7s}"
        f"{'torch MiB':>11s}{'segjax MiB':>12s}"
    )
    for case in CASES:
        if arguments.cases and case.split()[0] not in arguments.cases:
            continue
        for kept in (False, True):
            torch, ours = (
                in_own_process(library, case, kept, arguments.repeats)
                for library in ("torch", "segjax")
            )
            row = {
                "case": case,
                "malloc": "kept" if kept else "default",
                "torch": torch,
                "segjax": ours,
                "ratio": round(ours["ms"] / torch["ms"], 3),
            }
            rows.append(row)
            print(
                f"{case:24s}{row['malloc']:>9s}{torch['ms']:10.0f}{ours['ms']:11.0f}"
                f"{row['ratio']:7.2f}{torch['peak_mib']:11d}{ours['peak_mib']:12d}",
                flush=True,
            )
    if arguments.json:
        result = {"machine": arguments.machine, "versions": versions(), "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
