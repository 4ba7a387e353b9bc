"""Choose the label of each voxel by a network's rules, with NumPy; components need SciPy."""

import numpy as np


def choose(p, rules, affine):
    """Return the mask, uint8, of probabilities ``(x, y, z, label)`` or of a single one."""
    if p.shape[-1] == 1:
        p = np.concatenate([0.5 + 0 * p, p], axis=-1)  # label 1 where it is over one half
    thresholds = [rule["threshold"] for rule in rules]
    asked = [label for label, least in enumerate(thresholds, start=1) if least is not None]
    free = [label for label in range(p.shape[-1]) if label not in asked]
    mask = np.array(free, np.uint8)[p[..., free].argmax(axis=-1)]
    best = np.zeros(mask.shape, np.float32)
    for label in asked:
        better = (p[..., label] >= np.float32(thresholds[label - 1])) & (p[..., label] > best)
        mask[better], best[better] = label, p[..., label][better]
    for label, rule in enumerate(rules, start=1):
        clean(mask, label, rule, abs(np.linalg.det(affine[:3, :3])))
    return mask


def clean(mask, label, rule, voxel):
    """Fill the holes of a label, and remove components that its rule does not want, in place."""
    if not (rule["fill_holes"] or rule["largest_component"] or rule["minimum_volume"]):
        return
    from scipy import ndimage

    if rule["fill_holes"]:
        mask[ndimage.binary_fill_holes(mask == label) & (mask == 0)] = label
    numbers, count = ndimage.label(mask == label, np.ones((3, 3, 3)))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes * voxel >= rule["minimum_volume"] * (1 - 1e-6)
    if rule["largest_component"]:
        kept &= np.arange(count + 1) == sizes.argmax()
    mask[(mask == label) & ~kept[numbers]] = 0
