"""Synthetic heads with lesions: data to try everything on, and to prove that a network learns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from segjax.data.cases import Dataset, find_cases
from segjax.data.io.formats import write_volume
from segjax.data.phantom.head import Head, Space, Tissue, draw_head, smooth_noise
from segjax.data.phantom.lesions import paint_meningioma, paint_ms
from segjax.errors import InputError
from segjax.files import write_json
from segjax.volume import Volume

__all__ = ["Kind", "phantom", "write_dataset"]

Kind = Literal["ms", "meningioma"]

_LEAST = 16  # voxels along an axis; smaller heads have no anatomy
_PAINT = {"ms": paint_ms, "meningioma": paint_meningioma}
_CHANNEL = {"ms": "FLAIR", "meningioma": "T1 with gadolinium"}
_SIGNAL = {
    "ms": {
        Tissue.AIR: 0.0, Tissue.FAT: 0.74, Tissue.BONE: 0.08, Tissue.MARROW: 0.32,
        Tissue.FLUID: 0.10, Tissue.GREY: 0.61, Tissue.WHITE: 0.48, Tissue.MUSCLE: 0.33,
        Tissue.DURA: 0.22, Tissue.VESSEL: 0.15, Tissue.OEDEMA: 0.70, Tissue.LESION: 0.98,
    },
    "meningioma": {
        Tissue.AIR: 0.0, Tissue.FAT: 0.95, Tissue.BONE: 0.07, Tissue.MARROW: 0.45,
        Tissue.FLUID: 0.15, Tissue.GREY: 0.36, Tissue.WHITE: 0.46, Tissue.MUSCLE: 0.35,
        Tissue.DURA: 0.30, Tissue.VESSEL: 0.80, Tissue.OEDEMA: 0.33, Tissue.LESION: 0.80,
    },
}  # fmt: skip


def phantom(
    seed: int | tuple[int, ...],
    *,
    shape: tuple[int, ...] = (64, 64, 64),
    kind: Kind = "ms",
    spacing: float = 1.0,
) -> tuple[Volume, Volume]:
    """Draw a synthetic head and the mask of its lesions.

    The head (scalp, skull, folded cortex, white matter, deep nuclei, ventricles, cerebellum, face)
    fills the field of view, is turned by up to 7°, scaled by up to 8 % and bent; then come
    texture, partial volume, a bias field exp(p), with p a polynomial of order 2 whose coefficients
    are U(-0.25, 0.25), and Rician noise of 2.5 % of the full signal.

    Args:
        seed: Seed of ``numpy.random.default_rng``; the same seed gives the same head.
        shape: Voxels along three axes (right, front, top) for a head, or along two (rows from
            front to back, columns from right to left) for an axial slice; at least 16 each.
        kind: ``"ms"``, a FLAIR with fat partly suppressed and 2 to 12 multiple-sclerosis plaques
            (up to 6 in a slice), or ``"meningioma"``, a T1 with gadolinium and one mass on the
            dura.
        spacing: Distance between voxels, in mm.

    Returns:
        The image, float32, 0 to about 2000, and the mask, uint8, 0 or 1, with at least one
        lesion; both without a channel axis.

    Raises:
        InputError: Where shape, kind or spacing cannot be used.

    Example:
        >>> image, label = phantom(0, shape=(32, 32, 32))
        >>> image.spatial_shape, sorted(set(label.data.ravel().tolist()))
        ((32, 32, 32), [0, 1])
    """
    _check(shape, kind, spacing)
    rng = np.random.default_rng(seed)
    head = draw_head(rng, shape)
    mask = _PAINT[kind](rng, head)
    image = _image(rng, head, kind)
    affine = _affine(shape, spacing)
    return Volume(image.reshape(shape), affine), Volume(
        mask.reshape(shape).astype(np.uint8), affine
    )


def write_dataset(
    folder: str | Path,
    *,
    count: int,
    seed: int = 0,
    shape: tuple[int, ...] = (64, 64, 64),
    kind: Kind = "ms",
) -> Dataset:
    """Write a dataset of phantoms: ``images/``, ``labels/`` and ``dataset.json``.

    Heads are written as ``.nii.gz``, slices as 8-bit ``.png`` from each slice's least to its
    greatest value.

    Args:
        folder: Where to write; made if need be.
        count: Number of cases.
        seed: Seed of the whole dataset; a longer one begins with the same cases.
        shape: As for :func:`phantom`.
        kind: As for :func:`phantom`.

    Returns:
        The dataset, as :func:`segjax.data.cases.find_cases` reads it.

    Raises:
        InputError: Where an option cannot be used, or a file exists or cannot be written.

    Example:
        >>> import tempfile
        >>> dataset = write_dataset(tempfile.mkdtemp(), count=2, shape=(32, 32))
        >>> [case.name for case in dataset.cases], dataset.labels
        (['ms_000', 'ms_001'], {0: 'background', 1: 'lesion'})
    """
    if count < 1:
        raise InputError(f"count {count} is no positive number")
    folder = Path(folder)
    suffix = ".nii.gz" if len(shape) == 3 else ".png"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, label = phantom((seed, i), shape=shape, kind=kind)
        image = image if len(shape) == 3 else image.with_data(_eight_bit(image.data))
        write_volume(image, folder / "images" / f"{kind}_{i:03d}{suffix}")
        write_volume(label, folder / "labels" / f"{kind}_{i:03d}{suffix}")
    _write_description(folder / "dataset.json", kind)
    return find_cases(folder)


def _check(shape: Sequence[int], kind: str, spacing: float) -> None:
    if kind not in _PAINT:
        raise InputError(f"unknown phantom '{kind}': known are {', '.join(_PAINT)}")
    if len(shape) not in (2, 3) or min(shape) < _LEAST:
        raise InputError(f"shape {tuple(shape)}: give 2 or 3 axes of at least {_LEAST} voxels")
    if not 0 < spacing < np.inf:
        raise InputError(f"spacing {spacing} is no positive number of millimetres")


def _image(rng: np.random.Generator, head: Head, kind: str) -> np.ndarray:
    """Turn tissues into signals and add what a scanner adds."""
    shape = head.tissue.shape
    table = np.array([_SIGNAL[kind][tissue] for tissue in Tissue], np.float32)
    table *= rng.uniform(0.94, 1.06, table.shape).astype(np.float32)
    image = table[head.tissue]
    image *= 1 + 0.03 * (smooth_noise(rng, shape, 2.5) + head.space.noise(rng, 0.12))
    lesion = head.tissue == Tissue.LESION
    image[lesion] *= 1 + 0.07 * head.space.noise(rng, 0.08)[lesion]
    image = ndimage.gaussian_filter(image, [0.55 if n > 1 else 0 for n in shape])
    image *= _bias_field(rng, head.space)
    noise = 0.025 * rng.standard_normal((2, *shape), dtype=np.float32)
    image = np.hypot(image + noise[0], noise[1])
    return (rng.uniform(700, 1300) * image).astype(np.float32)


def _bias_field(rng: np.random.Generator, space: Space) -> np.ndarray:
    """Return exp of a polynomial of order 2 in the place in the head."""
    x, y, z = space.x, space.y, space.z
    terms = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
    coefficients = rng.uniform(-0.25, 0.25, len(terms))
    total = np.zeros_like(x)
    for c, term in zip(coefficients, terms, strict=True):
        total += np.float32(c) * term
    return np.exp(total)


def _affine(shape: Sequence[int], spacing: float) -> np.ndarray:
    """Put a head's centre at the origin; a slice's first pixel is its origin, as in a PNG."""
    affine = np.diag([*[spacing] * len(shape), 1.0])
    if len(shape) == 3:
        affine[:-1, -1] = [-spacing * (n - 1) / 2 for n in shape]
    return affine


def _eight_bit(image: np.ndarray) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    return np.round((image - low) * (255 / (high - low))).astype(np.uint8)


def _write_description(path: Path, kind: str) -> None:
    """Write names of labels and channel, in nnU-Net's form."""
    name = "lesion" if kind == "ms" else kind
    description = {
        "channel_names": {"0": _CHANNEL[kind]},
        "labels": {"background": 0, name: 1},
    }
    write_json(description, path)
