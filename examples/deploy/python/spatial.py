"""Steps that move voxels: each returns the data, the affine and, if it did, the way back."""

import nibabel as nib
import numpy as np
from nibabel import orientations as turns


def reorient(data, affine, orientation="RAS"):
    now, wanted = turns.io_orientation(affine), turns.axcodes2ornt(orientation)
    if np.array_equal(now, wanted):
        return data, affine
    there, back = turns.ornt_transform(now, wanted), turns.ornt_transform(wanted, now)
    moved = affine @ turns.inv_ornt_aff(there, data.shape[:3])
    return turns.apply_orientation(data, there), moved, lambda p: turns.apply_orientation(p, back)


def resample(data, affine, spacing=(1, 1, 1), tolerance=0):
    steps, sizes = spacing / nib.affines.voxel_sizes(affine), data.shape[:3]
    if tolerance and abs(1 / steps - 1).max() <= tolerance:
        return data, affine
    new = [n if n == 1 else max(1, int(n / step + 1e-3)) for n, step in zip(sizes, steps)]
    scaled = affine @ np.diag([*steps, 1])
    return along(data, new, steps), scaled, lambda p: along(p, sizes, 1 / steps)


def along(data, counts, steps):
    """Interpolate linearly at places so many voxels apart, about the centre; beyond it is 0."""
    for axis, (count, step) in enumerate(zip(counts, steps)):
        size, shape = data.shape[axis], [-1 if a == axis else 1 for a in range(4)]
        places = np.round((size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * step, 9)
        inside, places = (places >= -0.5) & (places < size - 0.5), places.clip(0, size - 1)
        low, high = (data.take((places + i).clip(0, size - 1).astype(int), axis) for i in (0, 1))
        weight = (places % 1).astype(np.float32).reshape(shape)
        data = ((high - low) * weight + low) * inside.reshape(shape)
    return data


SPATIAL = {"reorient": reorient, "resample": resample}
