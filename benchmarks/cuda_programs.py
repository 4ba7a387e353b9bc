"""What XLA makes of each train step for an NVIDIA GPU: compiled on any computer, without a GPU.

    pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION   # as jaxlib's
    python benchmarks/cuda_programs.py [--json programs.json] [--networks mpunet++ unet2d-k3]

Every row counts the calls of cuDNN by kind, names convolutions that are bad news (a window larger
than the network's kernels outside a kernel gradient, groups that the network has not, or none of
cuDNN's), and tells the memory that the step needs beside its arguments. Times need a GPU: see
gpu.py. The device is described in words that XLA reads, so that its pipeline is that of the device,
but for the choice of kernels by timing.
"""

import argparse
import json
import os
import platform
import re
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

DEVICES = {  # by NVIDIA's data sheets and CUDA's table of compute capabilities
    "h200": {"capability": (9, 0), "cores": 132, "GHz": 1.98, "TB/s": 4.8, "GB": 141, "L2 MB": 50},
    "rtx4070-laptop": {
        "capability": (8, 9),
        "cores": 36,
        "GHz": 2.175,
        "TB/s": 0.256,
        "GB": 8,
        "L2 MB": 32,
    },
}
SHARED = {(9, 0): (233472, 232448, 2048), (8, 9): (102400, 101376, 1536)}  # bytes, bytes, threads
NETWORKS = ("mpunet++", "unet3d", "unet2d-k3", "unet2d-k5", "unet2d-k7", "unet2d-k9")
DTYPES = ("float32", "tensorfloat32", "bfloat16")
WAYS = {"apart": 1, "unrolled": 4, "vmap": 4}
KINDS = ("Forward", "BackwardInput", "BackwardFilter")


def description(name):
    """Describe a device as XLA's GpuTargetConfigProto."""
    device = DEVICES[name]
    (major, minor), (shared, of_block, threads) = device["capability"], SHARED[device["capability"]]
    facts = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": shared,
        "shared_memory_per_block_optin": of_block,
        "threads_per_core_limit": threads,
        "core_count": device["cores"],
        "fpus_per_core": 128,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(device["TB/s"] * 1e12),
        "l2_cache_size": device["L2 MB"] << 20,
        "clock_rate_ghz": device["GHz"],
        "device_memory_size": int(device["GB"] * 1e9),
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    versions = {
        "dnn_version": "9.12.0",
        "runtime_version": "13.0.0",
        "driver_version": "13.0.0",
        "compile_time_toolkit_version": "13.0.0",
    }
    lines = [f"{key}: {value}" for key, value in facts.items()]
    lines += [f'{key}: "{value}"' for key, value in versions.items()]
    lines.append(f"cuda_compute_capability {{ major: {major} minor: {minor} }}")
    body = "\n".join(lines)
    return (
        f'gpu_device_info {{\n{body}\n}}\nplatform_name: "CUDA"\n'
        f'dnn_version_info {{ major: 9 minor: 12 }}\ndevice_description_str: "{name}"\n'
    )


WHEELS = ("jax-cuda13-plugin", "jax-cuda13-pjrt")
OPTIONS = {"xla_gpu_autotune_level": 0}  # there is nothing to time kernels on


def compile_for(name, function, *args):
    """Compile a function whose first argument is donated for a device that is not here."""
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name=name, topology="1x1x1", target_config=description(name)
        )
    except NotImplementedError:  # of a JAX without CUDA
        wheels = " ".join(f"{wheel}=={jax.lib.__version__}" for wheel in WHEELS)
        sys.exit(f"XLA's compiler for CUDA is missing: pip install --no-deps {wheels}")
    place = SingleDeviceSharding(topology.devices[0])
    jitted = jax.jit(function, in_shardings=place, out_shardings=place, donate_argnums=0)
    return jitted.trace(*args).lower(lowering_platforms=("cuda",)).compile(OPTIONS)


def arguments_of(config, programs, members):
    """Return the shapes of what a step of some members takes."""
    from segjax.train.network import Network
    from segjax.train.sweeps.together import Seat

    network, key = Network(config, 100), jax.eval_shape(lambda: jax.random.key(0))
    shape = (config.batch_size, *config.patch_size)
    batch = jax.ShapeDtypeStruct((*shape, 1), jnp.float32), jax.ShapeDtypeStruct(shape, jnp.uint8)
    packed = jax.eval_shape(
        lambda keys: programs.pack([network.first_state(key) for key in keys]), [key] * members
    )
    alpha = jax.ShapeDtypeStruct((), jnp.float32)
    return packed, tuple(Seat(batch, key, alpha) for _ in range(members))


def measure(network, dtype, way, device):
    from segjax.train.config import TrainConfig
    from segjax.train.losses import Loss, Term
    from segjax.train.sweeps.together import Programs

    flat = network.startswith("unet2d")
    config = TrainConfig(
        network,
        (512, 512) if flat else (64, 64, 64),
        batch_size=8 if flat else 2,
        loss=Loss((Term("tversky"),)),
        compute_dtype=dtype,
    )
    programs, start = Programs(config, 100, way), time.perf_counter()
    compiled = compile_for(device, programs.step, *arguments_of(config, programs, WAYS[way]))
    text, memory = compiled.as_text(), compiled.memory_analysis()
    targets = Counter(re.findall(r'custom_call_target="__cudnn\$conv(\w+)"', text))
    targets["Forward"] += targets.pop("BiasActivationForward", 0)
    row = {"network": network, "dtype": dtype, "way": way, "members": WAYS[way]}
    return row | {
        **{kind: targets[kind] for kind in KINDS},
        "bad": bad_convolutions(text, int(network[-1]) if flat else 3),
        "temporary_mib": memory.temp_size_in_bytes >> 20,
        "arguments_mib": memory.argument_size_in_bytes >> 20,
        "compiled_s": round(time.perf_counter() - start, 1),
    }


def bad_convolutions(text, largest):
    """Name convolutions that cuDNN computes slowly, or does not compute."""
    found = []
    for line in text.splitlines():
        window = re.search(r"window=\{size=([\dx]+)", line)
        if " convolution(" in line:
            found.append("not cuDNN's")
        if "__cudnn$conv" not in line or not window:
            continue
        if max(map(int, window[1].split("x"))) > largest:
            found.append(f"window {window[1]}")
        if groups := re.search(r"feature_group_count=(\d+)", line):
            found.append(f"{groups[1]} groups")
    return dict(Counter(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=("apart",))
    parser.add_argument("--device", choices=DEVICES, default="h200")
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} CPU cores")
    arguments = parser.parse_args()
    jax.default_backend = lambda: "gpu"  # so that segjax takes the forms of a GPU
    rows = []
    for network in arguments.networks:
        for dtype in arguments.dtypes:
            for way in arguments.ways:
                rows.append(measure(network, dtype, way, arguments.device))
                print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        about = {
            "device": arguments.device,
            "compiled_on": arguments.machine,
            "jax": jax.__version__,
        }
        arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
