"""Random numbers of dropout."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PRNGKeyArray

from segjax.models._forms import Features, Keep


def dropout_mask(key: PRNGKeyArray, rate: float, shape: tuple[int, ...]) -> Keep:
    """Draw which elements dropout keeps, and the factor that keeps the mean.

    One random byte decides one element, so that a 32-bit word serves four of them:
    the rate is rounded to 1/256, at most 255/256, and the factor 1 / (1 - rate) uses the rounded
    rate.
    """
    size = math.prod(shape)
    dropped = min(round(256 * rate), 255)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    octets = lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size]
    return octets.reshape(shape) >= dropped, 256 / (256 - dropped)


def channel_dropout(x: Features, rate: float, key: PRNGKeyArray, channel_axis: int) -> Features:
    """Set whole channels of each image to zero with probability `rate`; scale the others."""
    shape = [1] * x.ndim
    shape[0], shape[channel_axis] = x.shape[0], x.shape[channel_axis]
    kept = jax.random.bernoulli(key, 1 - rate, tuple(shape))
    return x * (kept / (1 - rate)).astype(x.dtype)
