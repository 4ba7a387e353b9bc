"""What networks compute with: the shapes of features, and the operations on them."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Images = Float[Any, "batch *spatial channel"]
Features = Float[Array, "batch ..."]  # the rest in the layout of the form
Kernel = Float[Array, "*size in out"]
Matrix = Float[Array, "row column"]
PerChannel = Float[Array, " channel"]
Weights = Float[Array | np.ndarray, "*size in out"]  # NumPy's are those of an export
Vector = Float[Array | np.ndarray, " channel"]
Slope = Float[Array | np.ndarray, ""]
Keep = tuple[Bool[Array, "batch ..."], float | Float[Array, ""]]
"""Which elements dropout keeps, and the factor for those, which is traced under jit."""


@runtime_checkable
class Forms(Protocol):
    """How the operations of :mod:`segjax.models.ops` are computed, on features of one layout."""

    def from_images(self, images: Images) -> Features: ...
    def to_images(self, features: Features) -> Features: ...
    def channels(self, features: Features) -> int: ...
    def conv(
        self,
        xs: Sequence[Features],
        kernel: Weights,
        bias: Vector | None,
        stride: int,
    ) -> Features: ...
    def conv_transpose(
        self,
        xs: Sequence[Features],
        kernel: Weights,
        bias: Vector | None,
        stride: int,
    ) -> Features: ...
    def batch_norm_leaky_relu(
        self, y: Features, scale: Vector, shift: Vector, slope: float
    ) -> tuple[Features, PerChannel, PerChannel]: ...
    def leaky_relu(self, y: Features, slope: float) -> Features: ...
    def instance_norm_prelu(self, y: Features, slope: Slope, keep: Keep | None) -> Features: ...
    def dropout_mask(self, key: PRNGKeyArray, rate: float, y: Features) -> Keep: ...
    def channel_dropout(self, x: Features, rate: float, key: PRNGKeyArray) -> Features: ...
    def max_pool(self, x: Features) -> Features: ...
    def upsample(self, x: Features) -> Features: ...
