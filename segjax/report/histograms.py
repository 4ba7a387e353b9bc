"""Figures of what preprocessing did to a set of images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from segjax.data.cache.cache import Cache, CachedCase, Histogram
from segjax.data.io.formats import read_image
from segjax.data.labels import foreground
from segjax.errors import InputError
from segjax.report.style import (
    LABELS,
    PathLike,
    draw_heading,
    draw_panel,
    figure_file,
    style_axes,
)
from segjax.report.views import best_view
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["before_and_after", "draw_histograms"]

_SMOOTH = 1.5  # bins: scaled integers fall into bins unevenly
_FAINTEST = 0.02  # opacity of one of very many lines


def draw_histograms(
    cache: Cache, path: PathLike, *, title: str = "", overwrite: bool = False
) -> None:
    """Draw the histograms of all images of a cache over each other, before and after.

    One line per image: its density of intensities, voxels with the value of the first one (the
    background as a rule) left out, smoothed by a Gaussian of 1.5 % of the range, each line with an
    area of 1. One row of panels per channel.

    Args:
        cache: The preprocessed images.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        title: Text over the picture.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The cache has no case, the file exists already or the format is unknown.

    Example:
        >>> from segjax.data import open_cache
        >>> draw_histograms(open_cache("cache"), "histograms.png")
    """
    if not cache.cases:
        raise InputError(f"{cache.folder}: holds no case to draw")
    pairs = [case.histograms for case in cache.cases]
    channels = min(len(before) for before, _ in pairs)
    names = cache.channels or tuple(f"channel {c}" for c in range(channels))
    with figure_file(path, (9.0, 0.6 + 2.6 * channels), overwrite=overwrite) as figure:
        panels = figure.subplots(channels, 2, squeeze=False)
        for c, (left, right) in enumerate(panels):
            name = f", {names[c]}" if channels > 1 else ""
            _draw_lines(left, [before[c] for before, _ in pairs], f"Before{name}")
            _draw_lines(right, [after[c] for _, after in pairs], f"After{name}")
        draw_heading(figure, title, plural(len(pairs), "image"), between=" · ")


def before_and_after(case: CachedCase, path: PathLike, *, overwrite: bool = False) -> None:
    """Draw one slice of a case before and after its preprocessing, with its label.

    Args:
        case: A case whose source files are still there.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        overwrite: Replace a file that is there already.

    Raises:
        InputError: The source cannot be read, the file exists already or the format is unknown.

    Example:
        >>> from segjax.data import MinMax, Pipeline, open_cache, preprocess, write_dataset
        >>> heads = write_dataset("heads", count=1, shape=(32, 32))
        >>> outcomes = preprocess(heads, Pipeline((MinMax(),)), "processed", workers=1)
        >>> before_and_after(open_cache("processed").cases[0], "case.png")
    """
    labelled = case.source.label is not None
    processed = Volume(case.image, case.grids[-1].affine)
    pairs = [
        ("Before", read_image(case.source.images), case.raw_label() if labelled else None),
        ("After", processed, processed.with_data(case.label) if labelled else None),
    ]
    with figure_file(path, (7.4, 4.2), overwrite=overwrite) as figure:
        panels = figure.subplots(1, 2)
        for axes, (name, image, label) in zip(panels, pairs, strict=True):
            view = best_view(image, label)
            low, high = view.window
            caption = " · ".join(text for text in (name, view.caption) if text)
            draw_panel(axes, view, f"{caption}\n{low:.4g} to {high:.4g}", [])
            if view.truth is not None and min(view.truth.shape) > 1:
                axes.contour(foreground(view.truth), [0.5], colors=[LABELS[3]], linewidths=0.8)
        draw_heading(figure, case.name)


def _draw_lines(axes: "Axes", counts: Sequence[Histogram], title: str) -> None:
    opacity = max(_FAINTEST, 0.7 / np.sqrt(len(counts)))
    lines = [_density(line) for line in counts if line.high > line.low]
    for places, density in lines:
        axes.plot(places, density, color=LABELS[2], lw=0.8, alpha=opacity)
    if lines:  # a spike of dark voxels must not flatten the rest
        usual = [np.percentile(density, 95) for _, density in lines]
        axes.set_ylim(0, 1.5 * float(np.percentile(usual, 90)))
    style_axes(axes, title=title, ylabel="density", xlabel="intensity")


def _density(line: Histogram) -> tuple[np.ndarray, np.ndarray]:
    width = (line.high - line.low) / len(line.counts)
    reach = np.arange(-round(4 * _SMOOTH), round(4 * _SMOOTH) + 1)
    bell = np.exp(-0.5 * (reach / _SMOOTH) ** 2)
    smooth = np.convolve(line.counts, bell)[-reach[0] : reach[0]]
    places = line.low + width * (np.arange(len(smooth)) + 0.5)
    return places, smooth / (smooth.sum() * width)
