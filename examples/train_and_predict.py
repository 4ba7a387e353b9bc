"""Train on labelled images, export one ONNX file, segment with it and measure the masks.

Run it: python examples/train_and_predict.py
"""

import tempfile
from pathlib import Path

import segjax
from segjax.data import write_dataset

folder = Path(tempfile.mkdtemp())
write_dataset(folder / "slices", count=12, shape=(64, 64), kind="meningioma")  # synthetic heads

# Settings come from the data; what is given here replaces them.
settings = {"model": "unet2d-k3", "epochs": 8, "optimizer": {"learning_rate": 5e-3}}
plan = segjax.plan(folder / "slices", settings, validation=1 / 6, test=1 / 6)
result = segjax.fit(plan.config, plan.dataset, plan.split, folder / "run")
print(f"best Dice on validation: {result.best_dice:.3f}, after epoch {result.best_epoch}")

model = segjax.export(folder / "run", folder / "model.onnx")
predictor = segjax.Predictor(model)
for case in plan.cases("test"):
    mask = predictor.predict(case.images[0])  # a Volume on the grid of the image
    segjax.write(mask, folder / f"{case.name}.png")
    for row in segjax.score(truth=case.label, prediction=folder / f"{case.name}.png"):
        print(f"{case.name}, label {row['label']}: Dice {row['dice']:.3f}")
print(f"all of it is in {folder}")
