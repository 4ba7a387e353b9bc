"""What a seed promises: the same bits from another process."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.data.phantom.dataset import write_dataset
from segjax.train.checkpoints import load_variables

PROGRAM = """
import sys
from functools import partial

import train_tiny as tiny

from segjax import models
from segjax.data.cases import find_cases
from segjax.data.splits import split_cases
from segjax.data.prepare.pipeline import (Pipeline)
from segjax.data.prepare.steps import (ZScore)
from segjax.studies import study
from segjax.train._fit import fit

tiny.TINY["small"] = partial(models.UNet, channels=(8, 16), strides=(2,))
config = tiny.config(
    model="small",
    patch_size=(64, 64),
    pipeline=Pipeline((ZScore(),)),
    augment=study("meningioma-2d").augmentation(),
    dropout=0.3,
    ema=0.9,
    patches_per_case=4,
)
dataset = find_cases(sys.argv[1])
split = split_cases([case.name for case in dataset.cases], validation=0.25)
with tiny.registered():
    fit(config, dataset, split, sys.argv[2])
"""


def metrics(run):
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] != "seconds"]


@pytest.mark.slow
def test_same_seed_gives_the_same_bits_in_another_process(tmp_path):
    write_dataset(tmp_path / "heads", count=4, shape=(80, 72))
    for number in (1, 2):  # hashes, and with them the order of sets, differ
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "heads"), str(tmp_path / f"{number}")],
            env=os.environ
            | {"PYTHONHASHSEED": str(number), "PYTHONPATH": str(Path(__file__).parent)},
            check=True,
        )
    assert metrics(tmp_path / "1") == metrics(tmp_path / "2")
    for which in ("last", "best"):
        one, other = (load_variables(tmp_path / number, which) for number in ("1", "2"))
        assert jax.tree.structure(one) == jax.tree.structure(other)
        jax.tree.map(np.testing.assert_array_equal, one, other)
