"""What the images of a training were like, so that others can be held against them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from segjax.codec import Record
from segjax.grid import Grid, orientation, reorient_grid

__all__ = [
    "Seen",
    "Sight",
    "Span",
    "intensity_spans",
    "native_spacing",
    "seen_in",
    "together",
]

_FAR = 1.5  # times
_SAMPLE = 1_000_000  # voxels that percentiles are taken of, about
_PERCENTILES = (0.5, 99.5)

Span = tuple[float, float]
"""The 0.5th and the 99.5th percentile of the intensities of a channel."""


class Sight(NamedTuple):
    """One image as a network sees it.

    Attributes:
        given: Grid of the image as it was on disk.
        processed: Its grid after the pipeline.
        spans: Of every channel, after the pipeline.
    """

    given: Grid
    processed: Grid
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Seen(Record):
    """Spacing, orientation and intensities of the images that a network was trained on.

    Attributes:
        spacing: Distance between voxels along each axis after the pipeline, the median in mm;
            empty for pictures, which have none.
        finest: The least distance along each of these axes in the images as they were given.
        coarsest: The greatest.
        orientation: Sides of the patient that the axes point to after the pipeline.
        spans: Lowest and highest :data:`Span` of each channel after the pipeline.
        widths: Width of the narrowest span of each channel.

    Example:
        >>> head = Grid((64, 64, 64), np.eye(4))
        >>> seen = seen_in([Sight(head, head, ((-1.0, 3.0),))])
        >>> seen.spacing, seen.orientation, Seen.from_json(seen.to_json()) == seen
        ((1.0, 1.0, 1.0), 'RAS', True)
    """

    spacing: tuple[float, ...]
    finest: tuple[float, ...]
    coarsest: tuple[float, ...]
    orientation: str
    spans: tuple[Span, ...]
    widths: tuple[float, ...]

    def doubts(self, image: Sight, *, axes: int = 3) -> list[str]:
        """Say in what an image lies far, over 1.5 times, from those of the training.

        Args:
            image: The image.
            axes: Axes along which the network sees: 2 for one of slices. Axes of one voxel do not
                count.

        Returns:
            A clause for each doubt; none for an image like those of the training.

        Example:
            >>> head = Grid((64, 64, 64), np.eye(4))
            >>> thick = Grid((64, 64, 20), np.diag([1.0, 1.0, 6.5, 1.0]))
            >>> seen = seen_in([Sight(head, head, ((-1.0, 3.0),))])
            >>> seen.doubts(Sight(thick, head, ((-1.0, 3.0),)))
            ['its voxels of 1 × 1 × 6.5 mm are far from 1 × 1 × 1 mm of the training']
        """
        return [*self._spacing_doubt(image, axes), *self._intensity_doubts(image.spans)]

    def _spacing_doubt(self, image: Sight, axes: int) -> list[str]:
        if not self.spacing or len(image.given.shape) != len(self.spacing):
            return []
        given, sizes = native_spacing(image.given, self.orientation)
        lows = np.minimum(self.finest, self.spacing) if self._resampled(image) else self.finest
        highs = np.maximum(self.coarsest, self.spacing) if self._resampled(image) else self.coarsest
        far = (np.divide(given, highs) > _FAR) | (np.divide(lows, given) > _FAR)
        now = np.divide(image.processed.spacing, self.spacing)
        far |= np.maximum(now, 1 / now) > _FAR
        counted = (np.arange(len(far)) < axes) & (np.array(sizes) > 1)
        if not (far & counted).any():
            return []
        low, high = _times(self.finest), _times(self.coarsest)
        trained = low if low == high else f"{low} to {high}"
        return [f"its voxels of {_times(given)} mm are far from {trained} mm of the training"]

    def _resampled(self, image: Sight) -> bool:
        """Say whether the pipeline brings images to the spacing that the network saw."""
        return bool(np.allclose(image.processed.spacing, self.spacing, rtol=0.06))

    def _intensity_doubts(self, spans: Sequence[Span]) -> list[str]:
        doubts = []
        for channel, ((low, high), (lowest, highest), narrowest) in enumerate(
            zip(spans, self.spans, self.widths, strict=False)
        ):
            width, slack = highest - lowest, (_FAR - 1) / 2 * (highest - lowest)
            wide = high - low > _FAR * width or high - low < narrowest / _FAR
            if wide or low < lowest - slack or high > highest + slack:
                which = f" of channel {channel}" if len(self.spans) > 1 else ""
                doubts.append(
                    f"its intensities{which} after preprocessing, {low:.3g} to {high:.3g}, are far "
                    f"from {lowest:.3g} to {highest:.3g} of the training"
                )
        return doubts


def seen_in(images: Iterable[Sight]) -> Seen:
    """Sum up the images of a training.

    Args:
        images: At least one, all of one rank and number of channels.
    """
    listed = list(images)
    first = listed[0].processed
    sides = orientation(first.affine) if len(first.shape) == 3 else ""
    spans = np.array([image.spans for image in listed])
    low, high = spans[..., 0].min(axis=0), spans[..., 1].max(axis=0)
    volumes = [image for image in listed if len(image.given.shape) == 3]
    given = np.array([native_spacing(image.given, sides)[0] for image in volumes])
    processed = np.array([image.processed.spacing for image in volumes])
    return Seen(
        spacing=_plain(np.median(processed, axis=0)) if volumes else (),
        finest=_plain(given.min(axis=0)) if volumes else (),
        coarsest=_plain(given.max(axis=0)) if volumes else (),
        orientation=sides,
        spans=_pairs(low, high),
        widths=_plain((spans[..., 1] - spans[..., 0]).min(axis=0)),
    )


def together(several: Iterable[Seen | None]) -> Seen | None:
    """Return what networks have seen that answer together: all that each of them has.

    Args:
        several: What each has seen; nothing is known where it is not known of one.

    Example:
        >>> together([None]) is None
        True
    """
    listed = list(several)
    return reduce(_both, listed) if listed else None


def _both(one: Seen | None, other: Seen | None) -> Seen | None:
    if one is None or other is None or len(one.spacing) != len(other.spacing):
        return None
    spans = np.array([one.spans, other.spans])
    return replace(
        one,
        finest=_plain(np.minimum(one.finest, other.finest)),
        coarsest=_plain(np.maximum(one.coarsest, other.coarsest)),
        spans=_pairs(spans[..., 0].min(axis=0), spans[..., 1].max(axis=0)),
        widths=_plain(np.minimum(one.widths, other.widths)),
    )


def native_spacing(given: Grid, sides: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the spacing and the size of a grid along axes that point to certain sides.

    Example:
        >>> native_spacing(Grid((60, 9, 70), np.diag([1.0, 6.0, 1.0, 1.0])), "RSA")
        ((1.0, 1.0, 6.0), (60, 70, 9))
    """
    turned = reorient_grid(given, sides)
    return turned.spacing, turned.shape


def intensity_spans(image: Real[np.ndarray, "*spatial channel"]) -> tuple[Span, ...]:
    """Return the 0.5th and 99.5th percentile of each channel; of large images from a sample.

    Example:
        >>> intensity_spans(np.linspace(0, 200, 201)[:, None])
        ((1.0, 199.0),)
    """
    flat = image.reshape(-1, image.shape[-1])
    sample = flat[:: max(1, len(flat) // _SAMPLE)].astype(np.float32)
    low, high = np.percentile(sample, _PERCENTILES, axis=0)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def _pairs(low: np.ndarray, high: np.ndarray) -> tuple[Span, ...]:
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _times(numbers: Sequence[float]) -> str:
    return " × ".join(f"{number:.3g}" for number in numbers)
