"""Train a network and a loss of your own, by names of your own, and export the network.

Run it: python examples/custom_network_and_loss.py
"""

import tempfile
from pathlib import Path

import jax.numpy as jnp
from flax import linen as nn

import segjax
from segjax.data import write_dataset


@segjax.register("network", "my-net")
class MyNet(nn.Module):
    """Three convolutions; logits of the shape of the image, one for each label."""

    out_channels: int = 2

    @nn.compact
    def __call__(self, images):
        """Return logits (batch, *spatial, label)."""
        features = nn.relu(nn.Conv(8, (3, 3))(images))
        features = nn.relu(nn.Conv(8, (3, 3))(features))
        return nn.Conv(self.out_channels, (1, 1))(features)


@segjax.register("loss", "my-focal")
def focal(probabilities, targets, *, gamma: float = 2.0):
    """Return the focal loss of probabilities and targets, both (batch, *spatial, label)."""
    log = jnp.log(jnp.clip(probabilities, 1e-7, 1))
    return -(targets * (1 - probabilities) ** gamma * log).sum() / (targets.sum() + 1e-7)


folder = Path(tempfile.mkdtemp())
write_dataset(folder / "slices", count=8, shape=(48, 48), kind="meningioma")
loss = [{"name": "my-focal", "gamma": 1.0}, {"name": "dice", "weight": 0.5}]
plan = segjax.plan(folder / "slices", {"model": "my-net", "loss": loss, "epochs": 2})
result = segjax.fit(plan.config, plan.dataset, plan.split, folder / "run")
print(f"Dice on validation: {result.best_dice:.3f}")
print(segjax.export(folder / "run", folder / "my-net.onnx"))
