"""Find the brain in the image of a head."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Shaped

from segjax.components import label_components
from segjax.data.prepare.hd_bet import Device, hd_bet_mask
from segjax.data.prepare.spatial import resample
from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.grid import grid
from segjax.progress import track
from segjax.registry import register, registry
from segjax.volume import Volume, check_volume

__all__ = ["Extractor", "check_method", "extract_brain"]

Extractor: TypeAlias = Callable[..., Volume]
"""A function ``(image, *, channel)`` that returns a mask; it may take options by keyword."""

_SMALLEST = 50.0  # mm along every axis; less holds no head
_ZEROS = 0.1  # part of the image that is 0 where the background was set to 0
_AIR = 0.4  # of the tissue: air that is not 0, between head and zeros, is darker
_DIP = 1.35  # the scalp is so much brighter than the skull below it


def extract_brain(
    image: Volume,
    method: str | Path | Volume | Extractor = "classical",
    *,
    channel: int = 0,
    **options: Any,
) -> Volume:
    """Return the mask of the brain in an image.

    The ways:

    - "classical": for T1 and FLAIR volumes, without weights: a balloon grows from the middle of
      the head, on rays sampled at 1 mm, to the dark skull (after Smith's BET). Where the
      background is exactly 0 and no bright scalp lies over a dark skull, the brain has been
      extracted already and the mask is that of "zero-background".
    - "hd-bet": HD-BET, where installed; far better on real heads, and the method of the MS study.
    - "zero-background": the image is extracted already: its largest piece that is not 0, with
      holes filled.
    - a path that ends in ``.onnx``: a network of segjax, given the whole image where it takes as
      many channels, else the chosen one; every label but 0 is brain.
    - a volume on the image's grid: every voxel over 0 is brain.
    - a function that is given the image and ``channel``, and returns such a volume; or the name
      under which it is registered, ``segjax.register("extractor", name, function)``. Under a
      suffix, such as ".onnx", a function is registered that makes one of a file.

    Measured by ``benchmarks/brain_extraction.py``: on six FLAIR, T1 and contrast-enhanced T1
    volumes of two real patients, whose background is 0, the Dice of "classical" is 1 with that
    check, and 0.87 to 0.98 for the balloon alone: it is too small where sulci and ventricles are
    wide, above all in T1. On ten phantoms with skull and scalp it is 0.92 (T1) to 0.95 (FLAIR),
    with 98 % of the tissue inside: it is a little too large. Its constants were chosen on these
    patients, on six of the phantoms, and by eye on one real FLAIR. No real head with skull and a
    reference was at hand: look at the masks, above all at orbits and skull base.

    Args:
        image: Image of rank 3 (the ways but "classical" and "hd-bet" take rank 2 too), of any
            grid: oblique, flipped, of thick slices.
        method: One of the ways.
        channel: The channel to look at: best a T1 or a FLAIR.
        options: Of the way: "hd-bet" takes ``device``, "cpu", "cuda" or "mps".

    Returns:
        The mask, uint8, 0 or 1, on the image's grid, without a channel axis.

    Raises:
        InputError: The method is unknown or cannot take the image, HD-BET is not installed or
            fails, the mask lies on another grid, or no brain is found.

    Example:
        >>> from segjax.data.phantom.dataset import phantom
        >>> head, _ = phantom(0, shape=(40, 50, 48), spacing=4.0)
        >>> mask = extract_brain(head)
        >>> bool(0.1 < mask.data.mean() < 0.4)
        True

    Source: S. M. Smith, "Fast robust automated brain extraction", Hum Brain Mapp 17 (2002)
        143-155; F. Isensee et al., "Automated brain extraction of multisequence MRI using
        artificial neural networks", Hum Brain Mapp 40 (2019) 4952-4964 (HD-BET).
    """
    if not 0 <= channel < image.channels:
        raise InputError(f"channel {channel}: the image has {image.channels}, counted from 0")
    if not np.isfinite(image.channels_last[..., channel]).all():
        raise InputError("the image holds NaN or infinite values; mend it first")
    if isinstance(method, Volume):
        mask = method
    else:
        made = _extractor(method)(image, channel=channel, **options)
        mask = check_volume(made, "what the brain extractor returns")
    if mask.spatial_shape != image.spatial_shape or mask.channels != 1:
        raise InputError(
            f"the brain mask has shape {mask.data.shape}, the image {image.spatial_shape}: they "
            "must lie on one grid"
        )
    inside = mask.channels_last[..., 0] > 0
    if not inside.any():
        raise InputError("no brain was found: check the image, or choose another method")
    return image.with_data(inside.astype(np.uint8))


def check_method(method: str | Path) -> str:
    """Return the name in the registry of extractors: the method itself, or the suffix of a file.

    Raises:
        InputError: There is none; the message gives all.

    Example:
        >>> check_method("hd-bet")
        'hd-bet'
    """
    known = registry("extractor")
    for name in (str(method), Path(method).suffix.lower()):
        if name and name in known:
            return name
    words = [name for name in known.names() if not name.startswith(".")]
    files = [name for name in known.names() if name.startswith(".")]
    raise InputError(
        f"method {str(method)!r}: give one of {', '.join(words)}, or a file ({', '.join(files)}); "
        "others are known where the package is imported or installed that registers them"
    )


def _extractor(method: str | Path | Extractor) -> Extractor:
    if callable(method):
        return method
    found = registry("extractor").get(name := check_method(method))
    return found(method) if name.startswith(".") else found


@register("extractor", "classical")
def _balloon(image: Volume, *, channel: int) -> Volume:
    head = _head(image, channel, "classical")
    (mask,) = [_classical(head) for _ in track(range(1), "Extracting the brain", unit="image")]
    return mask


@register("extractor", "hd-bet")
def _hd_bet(image: Volume, *, channel: int, device: Device | None = None) -> Volume:
    return hd_bet_mask(_head(image, channel, "hd-bet"), device)


@register("extractor", "zero-background")
def _zero_background(image: Volume, *, channel: int) -> Volume:
    one = image.channels_last[..., channel]
    return image.with_data(_largest_filled(one != 0))


def _head(image: Volume, channel: int, method: str) -> Volume:
    """Return a channel of a volume that may hold a head."""
    extent = np.multiply(image.spatial_shape, image.spacing)
    if image.spatial_dims != 3 or 1 in image.spatial_shape or extent.min() < _SMALLEST:
        raise InputError(
            f"an image of shape {image.spatial_shape} over {extent.round().tolist()} mm is no "
            f"whole head: {method!r} needs a volume of at least {_SMALLEST:g} mm along every axis"
        )
    return image.with_data(image.channels_last[..., channel])


def _classical(image: Volume) -> Volume:
    with needed_for("extracting a brain"):
        from scipy.ndimage import gaussian_filter

        from segjax.data.prepare.brain_surface import brain_inside, working_grid

    image = image.with_data(image.data.astype(np.float32, copy=False))
    coarse = resample(image, working_grid(grid(image)), interpolation="nearest")
    if np.mean(image.data == 0) > _ZEROS and _is_extracted(coarse):
        return image.with_data(_largest_filled(image.data != 0))
    smooth = gaussian_filter(brain_inside(image).data.astype(np.float32), 0.7)
    fine = resample(coarse.with_data(smooth), grid(image)).data > 0.5
    return image.with_data(fine & _largest_filled(image.data != 0))


def _is_extracted(coarse: Volume) -> bool:
    """Say whether the background is 0 up to the brain: neither air nor scalp lie around it."""
    from scipy.ndimage import distance_transform_edt

    data = coarse.data
    head = _largest_filled(data != 0)
    depth = distance_transform_edt(head) * coarse.spacing[0]
    shells = [data[(depth > d) & (depth <= d + 2)] for d in range(0, 16, 2)]
    if any(shell.size == 0 for shell in shells):
        return False
    means = [float(shell.mean()) for shell in shells]
    deep = float(np.median(data[depth > 14]))
    return means[1] > _AIR * deep and max(means[:3]) < _DIP * min(means[3:7])


def _largest_filled(mask: Bool[np.ndarray, "*spatial"]) -> Shaped[np.ndarray, "*spatial"]:
    """Return the largest piece of a mask, with its holes filled."""
    pieces, count = label_components(mask, axes_at_once=1)
    if count == 0:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    others = np.pad(pieces != sizes.argmax(), 1, constant_values=True)
    around, _ = label_components(others, axes_at_once=1)
    return (around != 1)[(slice(1, -1),) * mask.ndim]  # the first voxel lies outside
