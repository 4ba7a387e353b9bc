"""What `gpu.py` measures, stage by stage; each runs in a process of its own."""

import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from time import perf_counter

import gpu_peers
import numpy as np
from gpu_rows import PRECISIONS, batch, inference_cases, networks, rates, serve, timed

IMAGES = {"train": 482, "validation": 120, "test": 106}  # of the meningioma study
CONVOLUTION = re.compile(r'custom_call_target="__cudnn\$conv(\w+)"')
WINDOW = re.compile(r"window=\{size=([\dx]+)[^\n]*__cudnn\$conv")
NO_GPU = 'JAX finds no GPU: pip install ".[cuda]", or see what nvidia-smi says'
FUSION = re.compile(r'"kind":"(__[\w$]+)"')  # of Triton or cuDNN


# ---------------------------------------------------------------- the machine


def environment(settings):
    yield "gpu", gpu
    yield "versions", versions
    yield "jax", jax_device
    yield "onnxruntime", onnxruntime_providers
    if settings["platform"] == "gpu":
        yield "ceilings", functools.partial(ceilings, settings)


def gpu():
    if not shutil.which("nvidia-smi"):
        return {"name": "none"}
    fields = "name,driver_version,memory.total,clocks.max.sm"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(fields.split(","), said.splitlines()[0].split(", "), strict=True))


def versions():
    from importlib.metadata import distributions

    wanted = r"jax.*|flax|optax|orbax-.*|numpy|torch|triton|onnx.*|nvidia-(cudnn|cublas).*"
    found = {d.metadata["Name"]: d.version for d in distributions()}
    return {"python": sys.version.split()[0]} | {
        name: found[name] for name in sorted(found) if re.fullmatch(wanted, name)
    }


def jax_device():
    import jax

    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {"device": device.device_kind, "limit_mib": stats.get("bytes_limit", 0) >> 20}


def onnxruntime_providers():
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def ceilings(settings):
    """Return what the card does at best: a matrix product in bfloat16, and a copy."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() == "cpu":
        raise RuntimeError(NO_GPU)
    a = jax.random.normal(jax.random.key(0), (8192, 8192), jnp.bfloat16)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    x = jax.random.normal(jax.random.key(1), (1 << 30,), jnp.float32)
    one = timed(lambda: product(a, a), jax.block_until_ready, settings)["ms"]
    other = timed(lambda: copy(x), jax.block_until_ready, settings)["ms"]
    rates = {"bfloat16_tflops": 2 * 8192**3 / one / 1e9, "copy_gb_s": 8 * x.size / other / 1e6}
    return {name: round(rate) for name, rate in rates.items()}


# ---------------------------------------------------------------- the train step


def train(settings):
    for precision in PRECISIONS:
        for name, shape in networks(settings).items():
            row = functools.partial(train_row, name.split()[0], shape, precision, settings)
            yield f"{name} {precision}", row


def train_step(name, shape, precision):
    import jax
    import jax.numpy as jnp

    from segjax.models import create
    from segjax.train.config import OptimizerConfig
    from segjax.train.losses import Loss
    from segjax.train.optimizers import make_optimizer
    from segjax.train.step import init_state, make_train_step

    images, labels = batch(shape)
    model, optimizer = create(name), make_optimizer(OptimizerConfig(), 1000)
    state = init_state(model, optimizer, jax.random.key(0), shape[1:])
    step = make_train_step(model, Loss(), optimizer, compute_dtype=precision)
    return step, state, (jnp.asarray(images)[..., None], jnp.asarray(labels), jax.random.key(1))


def train_row(name, shape, precision, settings):
    step, state, inputs = train_step(name, shape, precision)
    compiled, facts = compile_step(step, state, *inputs)
    return facts | step_times(compiled, state, inputs, settings)


def step_times(step, state, inputs, settings):
    import jax

    def run():
        nonlocal state
        state, loss = step(state, *inputs)
        return loss

    return timed(run, jax.block_until_ready, settings)


def compile_step(step, *arguments):
    """Compile a program; say how long it took, its memory, and what became of its convolutions."""
    lowered = step.lower(*arguments)
    start = perf_counter()
    compiled = lowered.compile()
    seconds = round(perf_counter() - start, 1)
    counts = convolutions(lowered.as_text(), compiled.as_text())
    return compiled, {"compile_s": seconds, "mib": program_mib(compiled), **counts}


def program_mib(compiled):
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return (used + memory.output_size_in_bytes - memory.alias_size_in_bytes) >> 20


def convolutions(before, after):
    """Count the convolutions of a program, and what they are once it is compiled for CUDA.

    Args:
        before: StableHLO.
        after: Optimised HLO.
    """
    groups = Counter(map(int, re.findall(r"feature_group_count = (\d+)", before)))
    groups += Counter(map(int, re.findall(r"batch_group_count = (\d+)", before)))
    kinds = Counter(CONVOLUTION.findall(after))
    windows = [int(size) for window in WINDOW.findall(after) for size in window.split("x")]
    return {
        "convolutions": before.count("stablehlo.convolution"),
        "grouped": sum(count for size, count in groups.items() if size > 1),
        "cudnn": sum(kinds.values()),
        "widest": max(windows, default=0),
        "left": len(re.findall(r" convolution\(", after)),
        "transposes": len(re.findall(r" transpose\(", after)),
        "copies": len(re.findall(r" copy\(", after)),
        "kinds": dict(kinds + Counter(FUSION.findall(after))),
    }


# ---------------------------------------------------------------- the sweep


def sweep_cases(settings):
    """Yield kernel, precision, way and members, in the order of their worth."""
    if settings["quick"]:
        yield from [(3, "float32", "apart", 1), (3, "float32", "unrolled", 2)]
        yield (3, "float32", "vmap", 2)
        return
    for kernel in (5, 3, 7, 9):
        yield kernel, "bfloat16", "apart", 1
    yield from [(5, "bfloat16", "vmap", 4), (5, "bfloat16", "unrolled", 4)]
    yield from [(3, "bfloat16", "vmap", 4), (3, "bfloat16", "unrolled", 4)]
    for kernel in (5, 3, 7, 9):
        yield kernel, "tensorfloat32", "apart", 1
    for kernel in (5, 3):
        yield from [(kernel, "bfloat16", "vmap", 12), (kernel, "bfloat16", "unrolled", 12)]
    for kernel in (9, 7):
        yield from [(kernel, "bfloat16", "vmap", 4), (kernel, "bfloat16", "unrolled", 4)]


def sweep(settings):
    yield "batch", functools.partial(batch_row, settings)
    for case in sweep_cases(settings):
        yield sweep_name(*case), functools.partial(sweep_row, *case, settings)


def sweep_row(kernel, precision, way, members, settings):
    from sweep import segjax_program

    size, count = (32, 2) if settings["quick"] else (512, 8)
    case = {"kernel": kernel, "dtype": precision, "way": way, "members": members}
    family = "tiny" if settings["quick"] else "unet2d"
    asked = {**case, "family": family, "size": size, "batch": count}
    program, packed, seats = segjax_program(asked)
    compiled, facts = compile_step(program, packed, seats)
    times = step_times(compiled, packed, (seats,), settings)
    steps = -(-IMAGES["train"] // count)
    epoch = round(1e-3 * times["ms"] * steps / members, 3)
    return {**case, **facts, **times, "member_epoch_s": epoch}


def batch_row(settings):
    """Return milliseconds of a batch that is cut and augmented on the device, draws included."""
    import jax

    from segjax.data.loaded import LoadedCase
    from segjax.data.loader import Loader, Sampling
    from segjax.studies import study
    from segjax.train.resident import ResidentLoader
    from segjax.volume import Volume

    size, count = (32, 2) if settings["quick"] else (512, 8)
    cases = []
    for index in range(8 if settings["quick"] else IMAGES["train"]):
        image, label = disc(index, size)
        volume, image = Volume(label, np.eye(3)), image[..., None].astype(np.float32)
        cases.append(LoadedCase(str(index), image, label, volume, volume))
    sampling = Sampling((size, size), count)
    loader = ResidentLoader(Loader(cases, sampling, augment=study("meningioma-2d").augmentation()))
    loader.compile()
    steps = itertools.count()
    times = timed(lambda: loader.batch(next(steps)), jax.block_until_ready, settings)
    return times | {"cases_mib": loader.nbytes >> 20}


def capped_sweep(settings):
    """Measure members of the sweep where JAX may take the memory of the study's card alone."""
    if settings["platform"] == "gpu":
        total = int(gpu()["memory.total"].split()[0])
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"
        os.environ.pop("XLA_CLIENT_MEM_FRACTION", None)  # JAX refuses both names at once
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{8188 / total:.6f}"
    yield "jax", jax_device
    for case in list(sweep_cases(settings))[:4]:
        yield sweep_name(*case), functools.partial(sweep_row, *case, settings)


def sweep_name(kernel, precision, way, members):
    return f"k{kernel} {precision} {way} ×{members}"


def disc(index, size):
    """Return an image of noise and a brighter disc, uint8, and the mask of the disc."""
    random = np.random.default_rng(index)
    centre, radius = random.uniform(0.3, 0.7, 2) * size, random.uniform(0.05, 0.15) * size
    along = (np.arange(size) - centre[:, None]) ** 2
    mask = (along[0][:, None] + along[1] < radius**2).astype(np.uint8)
    return random.integers(0, 128, (size, size), dtype=np.uint8) + 90 * mask, mask


def sweep_run(settings):
    for kernel in (3,) if settings["quick"] else (5, 3, 7, 9):
        yield f"k{kernel}", functools.partial(sweep_run_row, kernel, settings)


def drawn_images(settings):
    """Return a folder of images and labels that are drawn where it does not exist."""
    total, size = (8, 32) if settings["quick"] else (sum(IMAGES.values()), 512)
    folder = Path(settings["scratch"], f"images-{total}")
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(total):
        file = f"{index:04d}.npy"
        if not (folder / "labels" / file).exists():
            image, label = disc(index, size)
            np.save(folder / "images" / file, image)
            np.save(folder / "labels" / file, label)
    return folder


def sweep_run_row(kernel, settings):
    """Train one member for a few epochs by `segjax.sweep`, validation and test included."""
    from segjax.data.cases import find_cases
    from segjax.data.splits import split_cases
    from segjax.train.config import TrainConfig
    from segjax.train.sweeps.sweep import SweepConfig, sweep

    dataset = find_cases(settings.get("data") or drawn_images(settings))
    total = sum(IMAGES.values())
    parts = {name: IMAGES[name] / total for name in ("validation", "test")}
    split = split_cases([case.name for case in dataset.cases], **parts)
    grid = SweepConfig(
        TrainConfig.from_json(study_settings(kernel, settings)), (kernel,), (0.5,), (0,)
    )
    with tempfile.TemporaryDirectory(dir=settings["scratch"]) as out:
        start = perf_counter()
        result = sweep(grid, dataset, split, out)
        return epochs_of(result) | {"whole_s": round(perf_counter() - start, 1)}


def study_settings(kernel, settings):
    """Return the study's training, for few epochs and without its histogram standardisation."""
    from segjax.studies import study

    values = study("meningioma-2d").settings(model=f"unet2d-k{kernel}")
    values |= {"pipeline": [step for step in values["pipeline"] if "histogram" not in step["step"]]}
    if settings["quick"]:
        tiny = {"model": f"tiny-k{kernel}", "patch_size": [32, 32], "batch_size": 2, "augment": []}
        return {**values, **tiny, "epochs": 2}
    return {**values, "epochs": 4, "patience": None, "compute_dtype": "bfloat16"}


def epochs_of(result):
    """Return the seconds of each epoch after the first, which compiles, and the Dice."""
    import pandas as pd

    member = result.members[0]
    dice = result.results[member.name].validation_dice
    table = pd.read_csv(result.run / "metrics.csv")
    seconds = table[table.metric == "seconds"].value.to_numpy()
    epoch = float(np.diff(seconds).mean())
    return {
        "dtype": member.config.compute_dtype,
        "member_epoch_s": round(epoch, 3),
        "first_epoch_s": round(float(seconds[0]), 1),
        "dice": dice and round(dice, 4),
    }


# ---------------------------------------------------------------- where the time goes


def profile(settings):
    for name, shape in list(networks(settings).items())[:3]:
        yield name, functools.partial(profile_row, name.split()[0], shape, settings)


def profile_row(name, shape, settings):
    """Trace some steps; return the time of the device, and that of its longest kernels."""
    import jax

    precision = "float32" if settings["platform"] == "cpu" else "bfloat16"
    step, state, inputs = train_step(name, shape, precision)
    state, loss = step(state, *inputs)
    jax.block_until_ready(loss)
    steps = 2 if settings["quick"] else 10
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, loss = step(state, *inputs)
            jax.block_until_ready(loss)
        whole = 1e3 * (perf_counter() - start) / steps
        kernels = device_kernels(next(Path(folder).rglob("*.xplane.pb")))
    stats = jax.devices()[0].memory_stats() or {}
    total = sum(milliseconds for milliseconds, _ in kernels.values())
    longest = sorted(kernels, key=kernels.get, reverse=True)[:12]
    return {
        "traced_ms": round(whole, 3),
        "device_ms": round(total / steps, 3),
        "launches": round(sum(count for _, count in kernels.values()) / steps),
        "peak_mib": stats.get("peak_bytes_in_use", 0) >> 20,
        "kernels": {n[:90]: [round(kernels[n][0] / steps, 4), kernels[n][1]] for n in longest},
    }


def device_kernels(path):
    """Sum up milliseconds and launches of each kernel of a trace."""
    from jax.profiler import ProfileData

    kernels = defaultdict(lambda: (0.0, 0))
    for plane in ProfileData.from_file(str(path)).planes:
        if "/device:GPU" not in plane.name:
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                milliseconds, count = kernels[event.name]
                kernels[event.name] = milliseconds + event.duration_ns / 1e6, count + 1
    return kernels


# ---------------------------------------------------------------- augmentation


def augmentation(settings):
    edges = {"ms-7t": (16,) * 3, "meningioma-2d": (32,) * 2}
    if not settings["quick"]:
        edges = {"ms-7t": (64,) * 3, "meningioma-2d": (512,) * 2}
    for name, shape in edges.items():
        for count in (2,) if settings["quick"] else (64, 8, 1):
            row = functools.partial(augmentation_row, name, shape, count, settings)
            yield f"{name} ×{count}", row
        yield f"{name} host", functools.partial(augmentation_row, name, shape, 0, settings)


def augmentation_row(name, shape, count, settings):
    """Return volumes a second of a batch on the device, or of the host where there is none."""
    from augmentation import host_calls, time_alternating, time_jax

    from segjax.studies import study

    transforms, repeat = study(name).augmentation(), 2 if settings["quick"] else 40
    image = np.random.default_rng(0).random((*shape, 1), dtype=np.float32)
    label = (image[..., 0] > 0.7).astype(np.uint8)
    if count:
        seconds = time_jax(transforms, image, label, repeat, count)
    else:
        calls = host_calls(f"recipe {name}", transforms, image, label)
        seconds = time_alternating(calls, repeat)
    return {f"{key}_volumes_s": round(1 / each, 1) for key, each in seconds.items()}


# ---------------------------------------------------------------- inference


def inference(settings):
    for name, count, shape in inference_cases(settings):
        yield f"{name} ×{count} jit", functools.partial(inference_row, name, shape, settings)
    for name, count, shape in inference_cases(settings):
        if settings.get("onnx") and Path(settings["onnx"], f"{name}.onnx").exists():
            row = functools.partial(onnx_row, name, shape, settings)
            yield f"{name} ×{count} onnxruntime", row


def inference_row(name, shape, settings):
    import jax

    from segjax.models import create
    from segjax.train.step import make_predict

    images, model = batch(shape)[0][..., None], create(name)
    placed, predict = jax.device_put(images), make_predict(model, "softmax")
    variables = jax.jit(lambda key: model.lazy_init(key, placed))(jax.random.key(0))
    whole = timed(lambda: np.asarray(predict(variables, images)), np.asarray, settings)
    alone = timed(lambda: predict(variables, placed), jax.block_until_ready, settings)
    return rates(shape, whole["ms"], alone["ms"])


def onnx_row(name, shape, settings):
    """Time onnxruntime, and compare its probabilities with those of JAX for the same weights."""
    from peers import network_and_weights

    from segjax.models import create, from_torch
    from segjax.train.step import make_predict
    from segjax_onnx.predict.runtime import open_session

    session = open_session(Path(settings["onnx"], f"{name}.onnx"))
    images = batch(shape)[0]
    feed = {session.get_inputs()[0].name: images[:, None]}
    whole = timed(lambda: session.run(None, feed)[0], np.asarray, settings)
    variables = from_torch(name, network_and_weights(name)[1])
    expected = make_predict(create(name), "softmax")(variables, images[..., None])
    found = np.moveaxis(session.run(None, feed)[0], 1, -1)
    differ = float(f"{np.abs(found - np.asarray(expected)).max():.2g}")
    return rates(shape, whole["ms"]) | {"provider": session.get_providers()[0], "differ": differ}


# ---------------------------------------------------------------- tests


def parity(settings):
    """Yield every test that is marked `gpu`."""
    tests = Tests()
    if code := tests.run("tests/test_on_gpu.py", "--collect-only", "-m", "gpu"):
        sys.exit(f"pytest finds no tests: it ended with {code}")
    for name in list(tests.names):
        if not settings["quick"] or "flip" in name:
            yield name.partition("::")[2], functools.partial(test_row, name)


class Tests:
    """A plugin of pytest: the names of tests, and how each ended."""

    def __init__(self):
        self.names, self.reports = [], []

    def run(self, *arguments):
        """Run pytest in this process; return its exit code."""
        import pytest

        options = ["-o", "addopts=--import-mode=importlib", "-q", "-p", "no:cacheprovider"]
        os.chdir(Path(__file__).parent.parent)
        return pytest.main([*options, *arguments], [self])

    def pytest_collection_modifyitems(self, items):
        """Keep what was found."""
        self.names = [item.nodeid for item in items]

    def pytest_runtest_logreport(self, report):
        """Keep how a test ended."""
        self.reports.append(report)


def test_row(name):
    tests = Tests()
    code = tests.run(name)
    for report in tests.reports:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            raise AssertionError(crash.message if crash else str(report.longrepr))
    if code:
        raise AssertionError(f"pytest ended with {code}")
    skipped = [report.longrepr[2] for report in tests.reports if report.skipped]
    return {"result": skipped[0] if skipped else "passed"}


def of_jax(stage):
    """Refuse a stage where JAX would measure a CPU for a GPU."""

    def rows(settings):
        found = list(stage(settings))  # which may set what JAX reads when it starts
        if settings["platform"] == "gpu":
            import jax

            if jax.default_backend() == "cpu":
                sys.exit(NO_GPU)
        return found

    return rows


def stages():
    return {
        "environment": environment,
        "train": of_jax(train),
        "torch": gpu_peers.train,
        "sweep": of_jax(sweep),
        "sweep-8gb": of_jax(capped_sweep),
        "sweep-run": of_jax(sweep_run),
        "profile": of_jax(profile),
        "augmentation": of_jax(augmentation),
        "inference": of_jax(inference),
        "torch-inference": gpu_peers.inference,
        "parity": of_jax(parity),
    }


if __name__ == "__main__":
    serve(stages())
