"""A tiny network and a program that trains it, for the tests to run and to kill."""

import functools
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
from segjax.data.prepare.steps import Reorient, ZScore
from segjax.data.splits import Split, split_cases
from segjax.registry import registry
from segjax.train.config import OptimizerConfig, TrainConfig


def flat_uniform(key, shape, dtype=jnp.float32):
    """Draw as one row: XLA takes seconds to compile random numbers of five axes."""
    limit = (3 / math.prod(shape[:-1])) ** 0.5
    return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)


class Tiny(nn.Module):
    """Two convolutions with BatchNorm and dropout between them."""

    in_channels: int = 1
    out_channels: int = 2
    spatial_dims: int = 3
    size_multiple: int = 4
    heads: int = 0

    @nn.compact
    def __call__(self, images, *, train=False):
        kernel = (3,) * self.spatial_dims
        x = nn.Conv(4, kernel, kernel_init=flat_uniform)(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.3, deterministic=not train)(nn.leaky_relu(x))
        return nn.Conv(self.out_channels, kernel, kernel_init=flat_uniform)(x)


class TinyNoNorm(Tiny):
    """A network without running statistics."""

    @nn.compact
    def __call__(self, images, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        kernel = (3,) * self.spatial_dims
        return nn.Conv(self.out_channels, kernel, kernel_init=flat_uniform)(images * scale)


TINY = {
    "tiny": Tiny,
    "tiny2d": functools.partial(Tiny, spatial_dims=2),
    "tiny-no-norm": TinyNoNorm,
}


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
        "model": "tiny",
        "patch_size": (16, 16, 16),
        "pipeline": Pipeline((Reorient("RAS"), ZScore())),
        "optimizer": OptimizerConfig(1e-2, schedule="constant"),  # compiled once for all lengths
        "augment": (Noise(),),
        "epochs": 3,
        "overlap": 0.0,
        "name": "tiny",
    }
    return TrainConfig(**values | changes)


def main(data: str, out: str, epochs: str, tensorboard: str, *host: str) -> None:
    """Train as a user's program would, alone or on two hosts, with many checkpoints."""
    from segjax.train._fit import fit
    from segjax.train.devices import connect_hosts

    if host:
        connect_hosts(host[0], hosts=2, index=int(host[1]))
    dataset = find_cases(data)
    split: Split = split_cases([case.name for case in dataset.cases], validation=0.25)
    one_cycle = OptimizerConfig(learning_rate=1e-2)
    fit(
        config(epochs=int(epochs), batch_size=4, patches_per_case=8, optimizer=one_cycle),
        dataset,
        split,
        Path(out),
        checkpoint_seconds=0.05,
        tensorboard=tensorboard == "tensorboard",
    )


if __name__ == "__main__":
    with registered():
        main(*sys.argv[1:])
