"""A family of tiny networks, and a program that sweeps over it, for tests to run and to kill."""

import functools
import json
import math
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn

from segjax.data.augment import Noise
from segjax.data.cases import find_cases
from segjax.data.prepare.pipeline import Pipeline
from segjax.data.prepare.steps import ZScore
from segjax.data.splits import Split
from segjax.registry import registry
from segjax.train.config import OptimizerConfig, TrainConfig
from segjax.train.losses import Loss, Term


def flat_uniform(key, shape, dtype=jnp.float32):
    """Draw as one row, which compiles fast."""
    limit = (3 / math.prod(shape[:-1])) ** 0.5
    return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)


class Tiny(nn.Module):
    """Two convolutions with BatchNorm and dropout between them.

    The first has no bias: its gradient would be nothing but rounding, which Adam enlarges.
    """

    kernel: int = 3
    in_channels: int = 1
    out_channels: int = 2
    spatial_dims: int = 2
    size_multiple: int = 4
    heads: int = 0

    @nn.compact
    def __call__(self, images, *, train=False):
        size = (self.kernel, self.kernel)
        x = nn.Conv(4, size, use_bias=False, kernel_init=flat_uniform)(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.3, deterministic=not train)(nn.leaky_relu(x))
        return nn.Conv(self.out_channels, size, kernel_init=flat_uniform)(x)


TINY = {f"tiny-k{kernel}": functools.partial(Tiny, kernel) for kernel in (1, 3)}


def exports(network, images):
    """Say nothing against an export, in no time."""
    return ""


@contextmanager
def registered():
    """Let the tiny networks be found by their names."""
    with ExitStack() as stack:
        for name, make in TINY.items():
            stack.enter_context(registry("network").lend(make, name))
        stack.enter_context(registry("exporter").lend(exports, "ONNX"))
        yield


def config(**changes) -> TrainConfig:
    values = {
        "model": "tiny-k3",
        "patch_size": (16, 16),
        "pipeline": Pipeline((ZScore(),)),
        "optimizer": OptimizerConfig(0.3, schedule="constant"),
        "loss": Loss((Term("tversky"), Term("cross-entropy", weight=0.5))),
        "augment": (Noise(),),
        "epochs": 3,
        "overlap": 0.0,
    }
    return TrainConfig(**values | changes)


def split_of(dataset) -> Split:
    """Five cases to train on, two to validate on and two to test on."""
    names = [case.name for case in dataset.cases]
    return Split(tuple(names[:5]), tuple(names[5:7]), tuple(names[7:9]))


def main(data: str, executions: str) -> None:
    """Sweep as a user's program would, into each folder with its own execution."""
    from segjax.train.sweeps.sweep import Execution, SweepConfig, sweep

    dataset = find_cases(data)
    grid = SweepConfig(config(epochs=4), (3,), (0.3, 0.7), (0, 1))
    for out, options in json.loads(executions).items():
        sweep(grid, dataset, split_of(dataset), Path(out), execution=Execution(**options))


if __name__ == "__main__":
    with registered():
        main(*sys.argv[1:])
