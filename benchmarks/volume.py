"""Time and memory of whole volumes: segjax's exported networks against MONAI's sliding window.

    python benchmarks/volume.py [--json benchmarks/results/volume.json] [--shape 182 218 182]

Each row is a process of its own that takes one volume of noise through one network, with the same
weights: MONAI's ``sliding_window_inference`` (windows of 64³, half overlap, Gaussian; channels
first and last) and PyTorch in one piece; segjax's `Predictor` as it is, held to the memory that
MONAI took and to half of it. Seconds are those of the second volume (the first one warms up, but
for MONAI, which needs a minute for each); memory is the peak of the whole process. Largest
difference: from PyTorch in one piece for local networks, else from MONAI's windows.

Then the peak of ten volumes of random size is measured (``--sizes``), each held to a random
``memory``, and ``segjax predict`` is timed from its start to the file on disk.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PATCH, NETWORKS = 64, {"mpunet++": True, "unet3d": False}  # whether they are local


def peak():
    """Return the most memory that this process had, in gigabytes (of Linux)."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return 1024 * int(line.split()[1]) / 1e9


def volume(shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def export(name, path):
    import torch
    from peers import network_and_weights

    from segjax import models
    from segjax_onnx.adopt.foreign import Usage, export_weights

    _, state = network_and_weights(name)
    weights = path.with_suffix(".pt")
    torch.save(state, weights)
    if not path.exists():
        export_weights(weights, path, usage=Usage(patch_size=(PATCH,) * 3))
    assert models.create(name).spatial_dims == 3


def of_torch(name, how, image, threads):
    import torch
    from monai.inferers import sliding_window_inference
    from peers import network_and_weights

    torch.set_num_threads(threads)
    network, _ = network_and_weights(name)
    network = torch.nn.Sequential(network, torch.nn.Softmax(1)).eval()
    tensor = torch.from_numpy(image)[None, None]
    if how == "channels last":
        network = network.to(memory_format=torch.channels_last_3d)
    if how == "one piece":
        shape = [max(PATCH, n + -n % 8) for n in image.shape]
        tensor = torch.nn.functional.pad(
            tensor,
            [n for a, b in zip(image.shape[::-1], shape[::-1], strict=True) for n in (0, b - a)],
        )
    start = time.perf_counter()
    with torch.inference_mode():
        if how == "one piece":
            found = network(tensor)[(..., *map(slice, image.shape))]
        else:
            found = sliding_window_inference(
                tensor, (PATCH,) * 3, 1, network, overlap=0.5, mode="gaussian"
            )
    return np.moveaxis(found[0].numpy(), 0, -1), time.perf_counter() - start


def of_segjax(path, memory, image, threads):
    from segjax_onnx import Predictor

    predictor = Predictor(path, threads=threads, memory=memory)
    for _ in range(2):
        found = None
        start = time.perf_counter()
        found = predictor.probabilities(image).data
        seconds = time.perf_counter() - start
    return found, seconds


def child(arguments):
    image = volume(arguments.shape)
    if arguments.child == "segjax":
        found, seconds = of_segjax(arguments.file, arguments.memory, image, arguments.threads)
    else:
        found, seconds = of_torch(arguments.network, arguments.child, image, arguments.threads)
    row = {"seconds": round(seconds, 2), "gigabytes": round(peak(), 3)}
    if arguments.out:
        np.save(arguments.out, found)
    print(json.dumps(row))


def run(shape, threads, *options):
    command = [sys.executable, __file__, "--threads", str(threads), "--shape", *map(str, shape)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, *map(str, options)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def compare(name, local, folder, arguments):
    path, expected = folder / f"{name}.onnx", None
    export(name, path)
    forms = {"MONAI": "channels first", "MONAI, channels last": "channels last"}
    if local:
        forms["PyTorch, one piece"] = "one piece"
    rows = {}
    for title, how in forms.items():
        out = folder / f"{how}.npy"
        rows[title] = run(
            arguments.shape, arguments.threads, "--child", how, "--network", name, "--out", out
        )
        expected = out
        print_row(name, title, rows[title])
    monai = min((rows[one] for one in list(forms)[:2]), key=lambda row: row["seconds"])
    budgets = {"segjax": None}
    if local:
        budgets |= {
            "segjax, MONAI's memory": monai["gigabytes"],
            "segjax, half of that": monai["gigabytes"] / 2,
        }
    for title, memory in budgets.items():
        options = ["--child", "segjax", "--file", path, "--out", folder / "segjax.npy"]
        if memory:
            options += ["--memory", memory]
        row = run(arguments.shape, arguments.threads, *options)
        if "error" not in row:
            found, wanted = np.load(folder / "segjax.npy"), np.load(expected)
            row["of MONAI's time"] = round(row["seconds"] / monai["seconds"], 3)
            row["of MONAI's memory"] = round(row["gigabytes"] / monai["gigabytes"], 2)
            row["largest difference"] = float(np.abs(found - wanted).max())
        if memory:
            row["allowed gigabytes"] = round(memory, 3)
        rows[title] = row
        print_row(name, title, row)
    return rows


def print_row(name, title, row):
    print(f"{name:10s}{title:26s}" + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)


def held(path, arguments):
    """Measure the memory of volumes of random size, each held to a random limit."""
    rng, rows = np.random.default_rng(1), []
    for _ in range(arguments.sizes):
        shape = [int(n) for n in rng.integers(60, 230, 3)]
        allowed = round(float(rng.uniform(0.35, 1.5)), 2)
        row = run(
            shape, arguments.threads, "--child", "segjax", "--file", path, "--memory", allowed
        )
        rows.append({"shape": shape, "allowed gigabytes": allowed, **row})
        print_row("mpunet++", "x".join(map(str, shape)), rows[-1])
    return rows


def command(path, folder, arguments):
    """Time the command from its start to the mask on disk."""
    import nibabel

    image = folder / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume(arguments.shape), np.eye(4)), image)
    rows = []
    for _ in range(2):
        start = time.perf_counter()
        words = ["predict", path, image, "-o", folder / "masks", "--overwrite"]
        threads = ["--threads", str(arguments.threads)]
        subprocess.run(
            [sys.executable, "-m", "segjax", *words, *threads], check=True, capture_output=True
        )
        rows.append(round(time.perf_counter() - start, 2))
    print("segjax predict, from its start to the mask on disk:", min(rows), "s", flush=True)
    return {"seconds": min(rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shape", nargs=3, type=int, default=[182, 218, 182])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--sizes", type=int, default=10)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    for name, kind in (("child", str), ("network", str), ("file", Path), ("out", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    result = {"machine": arguments.machine, "threads": arguments.threads, "shape": arguments.shape}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in arguments.networks:
            result[name] = compare(name, NETWORKS[name], folder, arguments)
        path = folder / "mpunet++.onnx"
        export("mpunet++", path)
        result["held"] = held(path, arguments)
        result["command"] = command(path, folder, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
