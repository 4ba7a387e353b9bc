"""Blur the edge of a lesion as a scanner does."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

__all__ = ["soften"]

_FAR = 3.0  # standard deviations that the blur reaches


def soften(
    shares: Float32[np.ndarray, "*box"], std: float, spacing: Sequence[float]
) -> Float32[np.ndarray, "*wider"]:
    """Blur the shares of a lesion with a Gaussian kernel, in a box that is wider by its reach.

    Args:
        shares: Shares of the voxels.
        std: Standard deviation of the kernel in mm; 0 blurs nothing.
        spacing: Distance between voxels along each axis in mm.

    Example:
        >>> soften(np.ones((1, 1), np.float32), 0.5, (1.0, 1.0)).astype("f8").round(2).tolist()
        [[0.01, 0.08, 0.01], [0.08, 0.62, 0.08], [0.01, 0.08, 0.01]]
    """
    for axis, size in enumerate(spacing):
        far = int(np.ceil(_FAR * std / size - 0.5))
        if far < 1:
            continue
        offsets = np.arange(-far, far + 1) * (size / std)
        kernel = np.exp(-0.5 * offsets**2)
        kernel /= kernel.sum()
        widths = [(2 * far, 2 * far) if a == axis else (0, 0) for a in range(shares.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(shares, widths), 2 * far + 1, axis=axis
        )
        shares = (windows @ kernel).astype(np.float32)
    return shares
