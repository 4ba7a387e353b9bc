"""Latency of exported networks: segjax's ONNX files against torch.onnx's, in one onnxruntime.

    python benchmarks/onnx_latency.py [--json results.json] [--threads 2]

Each row is one network with the same weights in three or four forms: PyTorch itself (inference
mode), torch.onnx's TorchScript exporter, its torch.export exporter (where onnxscript is
installed), and segjax's export. Calls alternate between the forms, so that a busy machine slows
all of them; times are medians. Every form's probabilities are compared with PyTorch's.
"""

import argparse
import collections
import contextlib
import importlib.util
import io
import json
import logging
import os
import platform
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from peers import network_and_weights

from segjax import models
from segjax_onnx import ModelMetadata, to_onnx

CASES = {
    "mpunet++": (64, 64, 64),
    "unet2d-k3": (512, 512),
    "unet2d-k5": (512, 512),
    "unet3d": (64, 64, 64),
}
OPSET = 18


def export_segjax(name, space, state):
    model = models.create(name)
    metadata = ModelMetadata(
        model=name,
        labels=("background", "lesion"),
        activation="softmax",
        spatial_dims=len(space),
        in_channels=1,
        patch_size=space,
        overlap=0.5,
        batch_size=1,
        size_multiple=model.size_multiple,
        pipeline=[],
        segjax_version="0",
    )
    variables = models.from_torch(name, state)
    return to_onnx(model, variables, metadata=metadata, opset=OPSET)


def export_torchscript(network, image):
    file = io.BytesIO()
    axes = {0: "batch"} | {axis: f"size{axis}" for axis in range(2, image.ndim)}
    torch.onnx.export(
        network,
        (image,),
        file,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_axes={"image": axes, "probabilities": axes},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


def export_dynamo(network, image):
    image = torch.cat([image, image])  # torch.export takes a batch of one for a constant
    dims = {0: "batch"} | dict.fromkeys(range(2, image.ndim), torch.export.Dim.DYNAMIC)
    program = torch.onnx.export(
        network,
        (image,),
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=(dims,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    return program.model_proto


def quietly(export, *arguments):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return export(*arguments)


def runner(proto, image, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)[0]


def torch_runner(network, image):
    def run():
        with torch.inference_mode():
            return network(image).numpy()

    return run


def timed(runners, repeats):
    """Return the median milliseconds of every runner; their calls alternate."""
    for run in runners.values():
        run()
    times = collections.defaultdict(list)
    for _ in range(repeats):
        for form, run in runners.items():
            start = time.perf_counter()
            run()
            times[form].append(1e3 * (time.perf_counter() - start))
    return {form: median(values) for form, values in times.items()}


def measure(name, space, threads, repeats):
    network, state = network_and_weights(name)
    network = torch.nn.Sequential(network, torch.nn.Softmax(1)).eval()
    image = torch.randn(1, 1, *space)
    files = {"segjax": export_segjax(name, space, state)}
    files["torchscript"] = quietly(export_torchscript, network, image)
    if importlib.util.find_spec("onnxscript"):
        files["dynamo"] = quietly(export_dynamo, network, image)
    runners = {form: runner(proto, image, threads) for form, proto in files.items()}
    runners["torch"] = torch_runner(network, image)
    expected = runners["torch"]()
    difference = {form: float(np.abs(run() - expected).max()) for form, run in runners.items()}
    milliseconds = timed(runners, repeats)
    exported = [ms for form, ms in milliseconds.items() if form in ("torchscript", "dynamo")]
    return {
        "network": name,
        "image": list(space),
        "milliseconds": {form: round(ms, 2) for form, ms in milliseconds.items()},
        "ratio to the faster torch.onnx": round(milliseconds["segjax"] / min(exported), 3),
        "ratio to torch": round(milliseconds["segjax"] / milliseconds["torch"], 3),
        "nodes": {form: len(proto.graph.node) for form, proto in files.items()},
        "transposes": {
            form: sum(node.op_type == "Transpose" for node in proto.graph.node)
            for form, proto in files.items()
        },
        "largest difference": {form: d for form, d in difference.items() if form != "torch"},
    }


def print_row(row):
    ms, nodes = row["milliseconds"], row["nodes"]
    image = "x".join(str(n) for n in row["image"])
    print(
        f"{row['network']:11s}{image:>10s}{ms['torch']:9.1f}{ms['torchscript']:13.1f}"
        f"{ms.get('dynamo', float('nan')):9.1f}{ms['segjax']:9.1f}"
        f"{row['ratio to the faster torch.onnx']:12.2f}{row['ratio to torch']:9.2f}"
        f"{nodes['torchscript']:7d}/{nodes['segjax']:<4d}"
        f"{max(row['largest difference'].values()):9.1e}",
        flush=True,
    )


def versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("onnxruntime", "torch", "jax2onnx")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    print("Milliseconds a call; segjax divided by torch.onnx's faster file and by PyTorch itself.")
    print(
        f"{'network':11s}{'image':>10s}{'PyTorch':>9s}{'TorchScript':>13s}{'dynamo':>9s}"
        f"{'segjax':>9s}{'/torch.onnx':>12s}{'/PyTorch':>9s}{'nodes':>12s}{'differ':>9s}"
    )
    rows = []
    for name in arguments.cases:
        rows.append(measure(name, CASES[name], arguments.threads, arguments.repeats))
        print_row(rows[-1])
    if arguments.json:
        result = {
            "machine": arguments.machine,
            "threads": arguments.threads,
            "versions": versions(),
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
