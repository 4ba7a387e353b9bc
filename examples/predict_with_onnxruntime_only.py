"""Segment with an exported file where JAX cannot be imported: onnxruntime is enough.

Run it: python examples/predict_with_onnxruntime_only.py [MODEL.onnx IMAGE]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

for package in ("jax", "flax", "jax2onnx"):
    sys.modules[package] = None  # an import of it would fail from here on

import segjax
from segjax.data import write_dataset


def make_model(folder):
    """Train for a moment in another process, which has JAX; return the file and an image."""
    write_dataset(folder / "slices", count=4, shape=(32, 32))
    options = ["--data", "slices", "--out", "run", "--model", "unet2d-k3", "--epochs", "1"]
    command = [sys.executable, "-m", "segjax", "train", *options]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "run/model.onnx", folder / "slices/images/ms_000.png"


model, image = sys.argv[1:] or make_model(Path(tempfile.mkdtemp()))
predictor = segjax.Predictor(model)
print(f"{predictor.metadata.model} for {', '.join(predictor.metadata.labels)}")
print(f"preprocessing that it replays: {[step['step'] for step in predictor.metadata.pipeline]}")

mask = predictor.predict(image)
probabilities = predictor.probabilities(image)
print(f"mask {mask.spatial_shape}, {int((mask.data > 0).sum())} voxels that are no background")
print(f"probabilities {probabilities.data.shape}, at most {probabilities.data.max():.3f}")
