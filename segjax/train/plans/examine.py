"""What images and label maps of a dataset are like, as far as it decides about a training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from segjax.data.cases import Case
from segjax.data.io.formats import read_image
from segjax.data.labels import foreground
from segjax.data.prepare.pipeline import Pipeline
from segjax.grid import grid
from segjax.progress import track

_COARSE = 24  # samples along an axis that are enough to see a symmetry
_CORNERS = 64  # patches drawn from a case to see how many hold a lesion
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """What one case is like, turned to one orientation with all others.

    Attributes:
        background: Fraction of the voxels that are exactly 0 in every channel.
        tail: How far the brightest voxel lies over the median, in units of the 99.5th percentile.
        median: Median intensity of the voxels that are not 0, averaged over channels.
        contrasts: How far the median of the foreground lies over that of the voxels that are not
            0, in their interquartile ranges, for each channel; NaN without any.
        fractions: Fraction of the voxels of each foreground label.
        lesions: Voxels of every connected piece of foreground.
        symmetry: Correlation of the image with its mirror image, for each axis.
        centres: Centre of each label as a fraction of the image; NaN where it is absent.
    """

    background: float
    tail: float
    median: float
    contrasts: tuple[float, ...]
    fractions: tuple[float, ...]
    lesions: tuple[int, ...]
    symmetry: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]


def examine(cases: Sequence[Case], pipeline: Pipeline, classes: int) -> list[Look]:
    """Look at some cases.

    Args:
        cases: Labelled cases.
        pipeline: What turns them to one orientation.
        classes: Number of label values, the background included.
    """
    return [_look(case, pipeline, classes) for case in track(cases, "Looking at the images")]


def hit_rate(labels: Iterable[UInt8[np.ndarray, "..."]], patch: _Shape) -> float:
    """Return the fraction of patches, drawn anywhere, that hold some foreground.

    Example:
        >>> label = np.zeros((8, 8), np.uint8)
        >>> label[0, 0] = 1
        >>> hit_rate([label], (8, 8)), 0 < hit_rate([label], (4, 4)) < 0.2
        (1.0, True)
    """
    rng = np.random.default_rng(0)
    return float(np.mean([_hits(rng, label > 0, patch) for label in labels]))


def read_labels(cases: Sequence[Case], pipeline: Pipeline) -> Iterator[UInt8[np.ndarray, "..."]]:
    """Yield the foreground of cases one after another, turned as the pipeline turns the images."""
    for case in track(cases, "Drawing patches"):
        label = pipeline.apply_label(case.read_label()).data
        yield foreground(np.asarray(label, np.uint8)).astype(np.uint8)


def _hits(rng: np.random.Generator, mask: np.ndarray, patch: _Shape) -> float:
    last = [max(0, size - wanted) for size, wanted in zip(mask.shape, patch, strict=True)]
    corners = rng.integers(0, np.array(last) + 1, (_CORNERS, mask.ndim))
    return float(
        np.mean(
            [
                mask[tuple(slice(c, c + n) for c, n in zip(corner, patch, strict=True))].any()
                for corner in corners
            ]
        )
    )


def _look(case: Case, pipeline: Pipeline, classes: int) -> Look:
    given = read_image(case.images)
    image = pipeline.apply(given).data
    label = pipeline.apply_label(case.read_label(like=grid(given))).data
    seen = np.asarray(image.any(axis=-1))
    values = [channel[seen] for channel in np.moveaxis(image, -1, 0)] if seen.any() else [image]
    return Look(
        background=1 - float(seen.mean()),
        tail=max(map(_tail, values)),
        median=float(np.mean([np.median(channel) for channel in values])),
        contrasts=tuple(_contrast(c, seen, foreground(label)) for c in np.moveaxis(image, -1, 0)),
        fractions=tuple(float((label == value).mean()) for value in range(1, classes)),
        lesions=_pieces(foreground(label)),
        symmetry=_symmetry(image.mean(axis=-1)),
        centres=tuple(_centre(label == value) for value in range(1, classes)),
    )


def _tail(values: np.ndarray) -> float:
    median, high, highest = np.percentile(values, (50, 99.5, 100))
    return float((highest - median) / (high - median)) if high > median else 1.0


def _contrast(channel: np.ndarray, seen: np.ndarray, lesions: np.ndarray) -> float:
    if not seen.any() or not lesions.any():
        return float("nan")
    first, median, third = np.percentile(channel[seen], (25, 50, 75))
    spread = third - first
    return float((np.median(channel[lesions]) - median) / spread) if spread else float("nan")


def _pieces(mask: np.ndarray) -> tuple[int, ...]:
    pieces, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return tuple(np.bincount(pieces.ravel())[1:].tolist())


def _symmetry(image: Float[np.ndarray, "..."]) -> tuple[float, ...]:
    """Correlate what both the object and its mirror image cover."""
    inside = image > image.mean()
    box = ndimage.find_objects(inside.astype(np.uint8))
    part = image[box[0]] if box else image
    steps = tuple(slice(None, None, max(1, size // _COARSE)) for size in part.shape)
    small = ndimage.uniform_filter(part, [step.step for step in steps])[steps]
    seen = small > image.mean()
    return tuple(
        _correlation(small, np.flip(small, axis), seen & np.flip(seen, axis))
        for axis in range(small.ndim)
    )


def _correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    if not where.any():
        return 0.0
    a, b = a[where] - a[where].mean(), b[where] - b[where].mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm else 1.0


def _centre(mask: np.ndarray) -> tuple[float, ...]:
    if not mask.any():
        return (float("nan"),) * mask.ndim
    return tuple(
        float((c + 0.5) / n) for c, n in zip(ndimage.center_of_mass(mask), mask.shape, strict=True)
    )


def fixed_sides(looks: Sequence[Look], axis: int) -> bool:
    """Say whether labels lie along an axis as they never lie in a mirror.

    With several labels, whether one of a pair lies on the same side of the other in nine of ten
    cases; with a single one, whether it lies in the same half of the image in nine of ten.
    """
    centres = np.array([[centre[axis] for centre in look.centres] for look in looks])
    if centres.shape[1] > 1:
        pairs = combinations(range(centres.shape[1]), 2)
        differences = [centres[:, a] - centres[:, b] for a, b in pairs]
    else:
        differences = [centres[:, 0] - 0.5]
    return any(_one_sided(values[np.isfinite(values)]) for values in differences)


def _one_sided(values: np.ndarray) -> bool:
    apart = np.abs(values).mean() > 0.02 if values.size else False
    return bool(apart and max((values > 0).mean(), (values < 0).mean()) >= 0.9)
