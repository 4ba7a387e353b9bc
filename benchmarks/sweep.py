"""Time of a training step of each member of a sweep: together, apart, and in PyTorch.

    python benchmarks/sweep.py --json sweep.json [--kernels 3 5] [--members 2 4 8]

Every measurement runs in its own process, and is in the JSON file as soon as it is made: the same
command goes on where it stopped, and stops by itself before --minutes are over. The network is
the U-Net of the meningioma study with dropout 0.3 and Tversky loss, whose alpha differs between
members; batches lie on the device. "apart" is one member alone; "torch" is its counterpart there,
channels-last, on a GPU compiled and with autocast.
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

WAYS = ("apart", "unrolled", "vmap", "torch")


def batch(size, count):
    import numpy as np

    random = np.random.default_rng(0)
    images = random.standard_normal((count, size, size)).astype(np.float32)
    return images, random.integers(0, 2, images.shape).astype(np.uint8)


def timed(step, repeats):
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return first, median(times)


def segjax_program(case):
    """Return the program of one step of all members, and the states and seats that it takes."""
    import jax
    import jax.numpy as jnp

    from segjax.train.config import TrainConfig
    from segjax.train.losses import Loss, Term
    from segjax.train.network import Network
    from segjax.train.sweeps.together import Programs, Seat

    config = TrainConfig(
        f"{case.get('family', 'unet2d')}-k{case['kernel']}",
        (case["size"], case["size"]),
        loss=Loss((Term("tversky"),)),
        compute_dtype=case["dtype"],
    )
    images, labels = batch(case["size"], case["batch"])
    arrays = jnp.asarray(images)[..., None], jnp.asarray(labels)
    network = Network(config, 100)
    programs = Programs(config, 100, case["way"])
    first = jax.jit(network.first_state)
    keys = jax.random.split(jax.random.key(0), case["members"])
    packed = programs.pack([first(key) for key in keys])
    seats = [Seat(arrays, key, jnp.float32(0.1 + 0.05 * i)) for i, key in enumerate(keys)]
    return jax.jit(programs.step, donate_argnums=0), packed, tuple(seats)


def segjax_step(case):
    import jax

    program, packed, seats = segjax_program(case)

    def step():
        nonlocal packed
        packed, losses = program(packed, seats)
        jax.block_until_ready((packed, losses))

    return step, jax.devices()[0].device_kind


def torch_step(case):
    import torch
    from peers import torch_network, tversky_loss

    gpu = torch.cuda.is_available()
    torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if gpu else "cpu"
    model = torch_network(f"unet2d-k{case['kernel']}")
    model = model.to(device, memory_format=torch.channels_last)
    images, labels = map(torch.from_numpy, batch(case["size"], case["batch"]))
    images = images[:, None].to(device, memory_format=torch.channels_last)
    labels = labels.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    predict = torch.compile(model) if gpu else model

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=gpu and case["dtype"] != "float32"):
            logits = predict(images)
        value = tversky_loss(logits, labels)
        value.backward()
        optimizer.step()
        value.item()

    return step, torch.cuda.get_device_name() if gpu else platform.machine()


def measure(case):
    import resource

    step, device = (torch_step if case["way"] == "torch" else segjax_step)(case)
    first, milliseconds = timed(step, case["repeats"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per_member = milliseconds / case["members"]
    figures = {"ms": round(per_member, 2), "first_s": round(first, 1), "peak_mib": round(peak)}
    print(json.dumps({"device": device, **figures}))


def in_own_process(case):
    command = [sys.executable, __file__, "--measure", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def cases(arguments):
    shared = {name: getattr(arguments, name) for name in ("size", "batch", "dtype", "repeats")}
    for kernel in arguments.kernels:
        for way in arguments.ways:
            alone = way in ("apart", "torch")
            for members in [1] if alone else arguments.members:
                yield {"kernel": kernel, "way": way, "members": members, **shared}


def show(rows):
    """Print the time per member and step, over that of a member apart and of PyTorch."""
    print(f"{'kernel':>6s} {'way':9s}{'members':>8s}{'ms each':>10s}{'/ apart':>9s}{'/ torch':>9s}")
    alone = {(r["kernel"], r["way"]): r["ms"] for r in rows if r["members"] == 1 and "ms" in r}
    for row in rows:
        line = f"{row['kernel']:6d} {row['way']:9s}{row['members']:8d}"
        if "error" in row:
            print(f"{line}  {row['error']}")
            continue
        over = [alone.get((row["kernel"], way)) for way in ("apart", "torch")]
        ratios = "".join(f"{row['ms'] / peer:9.2f}" if peer else f"{'–':>9s}" for peer in over)
        print(f"{line}{row['ms']:10.1f}{ratios}")


def read(path):
    return json.loads(path.read_text())["rows"] if path and path.exists() else []


def write(path, rows, machine):
    if path:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 5, 7, 9])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--members", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    start, longest, rows = time.monotonic(), 0.0, read(arguments.json)
    for case in cases(arguments):
        if case in [row["case"] for row in rows]:
            continue
        began = time.monotonic()
        if began - start + longest > 60 * arguments.minutes:
            print("the time is over: the same command goes on", file=sys.stderr)
            break
        rows.append({"case": case, **case, **in_own_process(case)})
        longest = max(longest, time.monotonic() - began)
        write(arguments.json, rows, arguments.machine)
        print(f"{case['way']}, kernel {case['kernel']}: done", file=sys.stderr, flush=True)
    wanted = list(cases(arguments))
    show([row for row in rows if row["case"] in wanted])


if __name__ == "__main__":
    main()
