"""How far the answers of a network depend on its images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segjax.models import ops
from segjax.models._forms import Features, Keep, Slope, Vector, Weights
from segjax.models._lax import LaxForms
from segjax.models.network import Network, built_on_ops

__all__ = ["halo_of"]

_FARTHEST = 1024  # voxels: a network that sees farther is not taken for a local one


def halo_of(network: Network) -> int | None:
    """Return how many voxels away from an output the image matters at most.

    Voxels on one side of a border are marked, and what depends on them is followed through the
    network, along one axis. The border lies at a multiple of ``network.size_multiple``, as those
    of tiles do.

    Args:
        network: Any, whose kernels are as long along all axes.

    Returns:
        Voxels; ``None`` where outputs depend on all of the image, as after instance norms, or
        nothing is known of the network, as it is not built on :mod:`segjax.models.ops`.

    Example:
        >>> from segjax import models
        >>> halo_of(models.create("mpunet++")), halo_of(models.create("unet3d"))
        (46, None)
    """
    if not built_on_ops(network):
        return None
    rank, multiple = network.spatial_dims, network.size_multiple
    half = -(-_FARTHEST // multiple) * multiple
    small = (1, *(multiple,) * rank, network.in_channels)
    sizes = jax.ShapeDtypeStruct(small, "float32")
    variables = jax.eval_shape(network.init, jax.random.key(0), sizes)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    marks = np.arange(2 * half) < half
    with ops.use(_Marks(rank)):
        images = _spread(marks, network.in_channels, rank)
        outputs = _marked(network.apply(zeros, images))
        images = _spread(~marks, network.in_channels, rank)
        mirrored = _marked(network.apply(zeros, images))
    halo = max(int(outputs[half:].sum()), int(mirrored[:half].sum()))
    return halo if halo < half else None


def _spread(marks: np.ndarray, channels: int, rank: int) -> Features:
    """Give marks along one axis the shape of features."""
    shape = (1, len(marks), *(1,) * (rank - 1), channels)
    return jnp.broadcast_to(jnp.asarray(marks, "float32").reshape(1, -1, *(1,) * rank), shape)


def _marked(features: Features | np.ndarray) -> np.ndarray:
    """Return what is marked along the first axis."""
    return np.asarray(np.asarray(features).reshape(features.shape[1], -1).any(axis=-1))


class _Marks(LaxForms):
    """Forms that tell of every feature whether it depends on a marked voxel: 1, else 0."""

    def conv(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        size, marks = kernel.shape[0], self._any(xs)
        before = np.pad(marks, ((size - 1) // 2, size // 2))
        windows = np.lib.stride_tricks.sliding_window_view(before, size)[::stride]
        return _spread(_marked(windows[np.newaxis]), kernel.shape[-1], self.rank)

    def conv_transpose(
        self, xs: Sequence[Features], kernel: Weights, bias: Vector | None, stride: int
    ) -> Features:
        size, marks = kernel.shape[0], self._any(xs)
        found = np.zeros(stride * len(marks) + size, bool)
        for step in range(size):
            found[step : step + stride * len(marks) : stride] |= marks
        start = (size - 1) // 2
        return _spread(found[start : start + stride * len(marks)], kernel.shape[-1], self.rank)

    def instance_norm_prelu(self, y: Features, slope: Slope, keep: Keep | None) -> Features:
        return jnp.broadcast_to(y.max(), y.shape)

    def max_pool(self, x: Features) -> Features:
        return self._spread_like(x, _marked(self._any([x]).reshape(1, -1, 2)))

    def upsample(self, x: Features) -> Features:
        return self._spread_like(x, self._any([x]).repeat(2))

    def _any(self, xs: Sequence[Features]) -> np.ndarray:
        return np.logical_or.reduce([_marked(x) for x in xs])

    def _spread_like(self, x: Features, marks: np.ndarray) -> Features:
        return _spread(marks, x.shape[-1], self.rank)
