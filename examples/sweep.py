"""Train a grid of kernel sizes, alphas and seeds, and take the best network.

Run it: python examples/sweep.py
"""

import tempfile
from pathlib import Path

import segjax
from segjax.data import write_dataset
from segjax.studies import study
from segjax.train import SweepConfig

folder = Path(tempfile.mkdtemp())
write_dataset(folder / "slices", count=12, shape=(48, 48), kind="meningioma")

# The study's own settings, made small: whole slices, two epochs, no early stop.
settings = study("meningioma-2d").settings(model="unet2d-k3")
small = {"patch_size": [32, 32], "batch_size": 4, "epochs": 2, "patience": None}
plan = segjax.plan(folder / "slices", settings, small, validation=0.25, test=0.25)

grid = SweepConfig(plan.config, kernels=(3,), alphas=(0.3, 0.7), seeds=(0,))
result = segjax.sweep(grid, plan.dataset, plan.split, folder / "sweep")
for member in result.members:
    print(f"{member.name}: Dice on validation {result.results[member.name].validation_dice:.3f}")
print(f"best: {result.best.name}, per image in {folder / 'sweep/images.csv'}")
segjax.export(result.run, folder / "best.onnx")
