"""Run a network over an image, in windows or in one piece: NumPy alone."""

import itertools
import math

import numpy as np


def probabilities(session, meta, image):
    """Return the answer ``(x, y, z, label)``, float32, to an image ``(x, y, z, channel)``."""
    rank, sizes, labels = meta["spatial_dims"], image.shape[:3], len(meta["labels"])
    patch, before = [*meta["patch_size"], 1][:3], [0, 0, 0]  # a 2D network sees slices
    if meta["halo"]:  # a local network: all in one piece, padded behind
        multiples = [*[meta["size_multiple"]] * rank, 1][:3]
        patch = [max(p, -(-n // m) * m) for n, m, p in zip(sizes, multiples, patch)]
    else:
        before = [max(0, p - n) // 2 for n, p in zip(sizes, patch)]
    pads = [(b, max(0, p - n) - b) for b, n, p in zip(before, sizes, patch)]
    image = np.pad(image, [*pads, (0, 0)])
    sums = np.zeros((*image.shape[:3], 1 if meta["activation"] == "sigmoid" else labels))
    total, weights = np.zeros((*image.shape[:3], 1)), window(patch, **meta["window"])
    strides = [max(1, int(p * (1 - meta["overlap"]))) for p in patch]
    counts = [math.ceil((n - p) / s) + 1 for n, p, s in zip(image.shape, patch, strides)]
    for place in itertools.product(*map(range, counts)):
        first = [min(i * s, n - p) for i, s, n, p in zip(place, strides, image.shape, patch)]
        box = tuple(slice(f, f + p) for f, p in zip(first, patch))
        seen = np.moveaxis(image[box], -1, 0).reshape(1, -1, *patch[:rank])
        answer = np.moveaxis(session.run(None, {"image": seen})[0][0], 0, -1)
        sums[box] += weights * answer.reshape(*patch, -1)
        total[box] += weights
    inside = tuple(slice(b, b + n) for b, n in zip(before, sizes))
    return (sums / total)[inside].astype(np.float32)


def window(patch, function, sigma=0.125, floor=0.001):
    """Return how the voxels of a patch are weighed, ``(x, y, z, 1)``."""
    weights = np.ones((*patch, 1))
    if function == "gaussian":
        for axis, n in enumerate(patch):
            x = (np.arange(n) - (n - 1) / 2) / (n * sigma)
            weights *= np.exp(-0.5 * x**2).reshape([-1 if a == axis else 1 for a in range(4)])
    return np.maximum(weights, floor).astype(np.float32)
