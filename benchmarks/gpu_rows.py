"""What the stages of `gpu.py` share: their cases, the clock, and how rows are handed on."""

import functools
import json
import sys
import traceback
from statistics import median
from time import perf_counter

import numpy as np

NETWORKS = {  # batch and space, in the order of their worth
    "unet2d-k5": (8, 512, 512),
    "mpunet++": (2, 64, 64, 64),
    "unet3d": (2, 64, 64, 64),
    "unet2d-k3": (8, 512, 512),
    "mpunet++ ×8": (8, 64, 64, 64),
    "unet2d-k9": (8, 512, 512),
    "unet2d-k7": (8, 512, 512),
}
QUICK = {"tiny-k3": (2, 32, 32)}
STOPPED = 3  # exit code of a stage that has rows left
FILES = ("mpunet++", "unet3d", "unet2d-k3", "unet2d-k5")
PRECISIONS = ("bfloat16", "tensorfloat32", "float32")


def serve(stages):
    """Measure what is missing of the stage that the command line names.

    A stage is a function of the settings that yields the name of each row, and a function that
    measures it; what fails costs its own row alone.
    """
    stage, settings, path = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    end = perf_counter() + settings["begin"]
    if settings["quick"]:
        register_tiny()
    rows = [(name, row) for name, row in stages[stage](settings) if name not in settings["done"]]
    rows.sort(key=lambda row: row[0] in settings["failed"])  # what failed before comes last
    with open(path, "a", encoding="utf-8") as file:
        for name, measure in rows:
            if perf_counter() > end:
                sys.exit(STOPPED)
            print(json.dumps({"begins": name}), file=file, flush=True)
            start = perf_counter()
            try:
                row = measure()
            except Exception as error:  # whatever it is, the other rows are measured
                traceback.print_exc()
                row = {"error": describe(error)}
            row |= {"seconds": round(perf_counter() - start, 1)}
            print(json.dumps({"ends": name, "row": row}), file=file, flush=True)


def register_tiny():
    """Add the network of a rehearsal, which compiles in a second."""
    from segjax.models.unet import UNet
    from segjax.registry import register

    tiny = functools.partial(UNet, channels=(4, 8), strides=(2,), dropout=0.3)
    register("network", "tiny-k3", tiny)


def describe(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def timed(run, finish, settings):
    """Return milliseconds of a call, and those until it returns: medians over groups of calls.

    Calls of a group follow each other as in a training, without waiting for the device.
    """
    finish(run())
    start = perf_counter()
    finish(run())
    count = max(1, min(50, int(0.25 / (perf_counter() - start))))
    groups, count = (2, 1) if settings["quick"] else (4, count)
    whole, host = [], []
    for _ in range(groups):
        start = perf_counter()
        for _ in range(count):
            last = run()
        host.append(1e3 * (perf_counter() - start) / count)
        finish(last)
        whole.append(1e3 * (perf_counter() - start) / count)
    return {"ms": round(median(whole), 3), "host_ms": round(median(host), 3)}


def networks(settings):
    return QUICK if settings["quick"] else NETWORKS


def spatial(name):
    return NETWORKS[name][1:]


def batch(shape):
    random = np.random.default_rng(0)
    images = random.standard_normal(shape, dtype=np.float32)
    return images, random.integers(0, 2, shape, dtype=np.uint8)


def inference_cases(settings):
    """Yield network, batch and shape."""
    for count in (1,) if settings["quick"] else (8, 1, 32):
        for name in QUICK if settings["quick"] else FILES:
            yield name, count, (count, *(QUICK if settings["quick"] else NETWORKS)[name][1:])


def rates(shape, whole, alone=None):
    own = {} if alone is None else {"device_ms": round(alone, 3)}
    return {"ms": round(whole, 3), **own, "images_s": round(1e3 * shape[0] / whole, 1)}
