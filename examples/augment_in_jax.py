"""Augment a batch inside jax.jit and jax.vmap; NumPy gives the same images.

Run it: python examples/augment_in_jax.py
"""

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.augment import Affine, BiasField, Elastic, Gamma, apply_all, draw_all
from segjax.data.phantom.dataset import phantom

# Affine and elastic movements are neighbours: they are one displacement field, interpolated once.
transforms = (Affine(), Elastic(), Gamma(probability=1.0), BiasField(probability=1.0))

heads = [phantom(seed, shape=(32, 32, 32)) for seed in range(4)]
images = np.stack([image.data[..., None] / image.data.max() for image, _ in heads])
labels = np.stack([label.data for _, label in heads])

# Drawing is NumPy's, on the host: one set of parameters for each image of the batch.
rng = np.random.default_rng(0)
drawn = [draw_all(rng, images.shape[1:], transforms) for _ in images]
parameters = jax.tree.map(lambda *each: np.stack(each), *drawn)


@jax.jit
@jax.vmap
def augment(image, label, parameters):
    """Apply what was drawn to one image and its label map."""
    return apply_all(transforms, parameters, image, label, jnp)


on_device, moved = augment(images, labels, parameters)
on_host = np.stack(
    [apply_all(transforms, *one, np)[0] for one in zip(drawn, images, labels, strict=True)]
)
print(f"{on_device.shape} on {on_device.device}, lesions of {int(moved.sum())} voxels")
print(f"largest difference to NumPy: {np.abs(on_device - on_host).max():.1e}")
