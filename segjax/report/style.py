"""How figures look: colours, panels, axes, and the files that they become.

Colours are Okabe and Ito's, which people with a colour-vision deficiency tell apart. Figures are
drawn without a display and without global state. Imports without matplotlib.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from segjax.errors import InputError
from segjax.extras import needed_for
from segjax.files import atomic_path
from segjax.report.views import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

__all__ = [
    "CONFUSED",
    "FAINT",
    "FALSE_NEGATIVE",
    "FALSE_POSITIVE",
    "INK",
    "LABELS",
    "Layer",
    "PathLike",
    "draw_heading",
    "draw_legend",
    "draw_outline",
    "draw_panel",
    "figure_file",
    "new_figure",
    "picture",
    "style_axes",
]

PathLike = str | os.PathLike[str]

LABELS = ("#56B4E9", "#009E73", "#0072B2", "#E69F00")
"""Colours of the labels 1, 2, …, and of groups that are compared."""
FALSE_NEGATIVE, FALSE_POSITIVE, CONFUSED = "#D55E00", "#F0E442", "#CC79A7"
INK, FAINT = "#222222", "#6B6B6B"
_DPI = 200
_LINE = 0.8  # width of an outline in points


@dataclass(frozen=True, eq=False)
class Layer:
    """A set of pixels, and how it is named and coloured.

    Attributes:
        name: What the legend says.
        colour: As matplotlib takes it.
        mask: The pixels ``(row, column)``.
        opacity: Of what is filled within the outline, from 0 to 1.
    """

    name: str
    colour: str
    mask: Bool[np.ndarray, "row column"]
    opacity: float = 0.5


@contextmanager
def picture(path: PathLike, *, overwrite: bool = False) -> Iterator[Callable[["Figure"], None]]:
    """Yield a function that writes a figure, after a check that it may.

    Args:
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        overwrite: Replace a file that is there already.

    Yields:
        A function of the figure, to be called once.

    Raises:
        InputError: When the file exists already, the format is unknown or matplotlib is missing;
            before anything is drawn.

    Example:
        >>> from matplotlib.figure import Figure
        >>> with picture("preview.png") as save:
        ...     save(Figure())
    """
    canvas, _ = _matplotlib()
    with atomic_path(path, overwrite=overwrite) as temporary:
        if temporary.suffix.removeprefix(".") not in canvas.get_supported_filetypes():
            raise InputError(f"{path}: is no picture; use .png, .pdf or .svg")
        yield lambda figure: figure.savefig(temporary, dpi=_DPI)


@contextmanager
def figure_file(
    path: PathLike, size: tuple[float, float], *, overwrite: bool
) -> Iterator["Figure"]:
    """Yield an empty figure of ``size`` inches, which is written when the block ends well."""
    with picture(path, overwrite=overwrite) as save:
        figure = new_figure(size)
        yield figure
        save(figure)


def new_figure(size: tuple[float, float]) -> "Figure":
    """Return an empty figure of ``size`` inches."""
    canvas, figure_type = _matplotlib()
    figure = figure_type(size, layout="constrained", facecolor="white")
    canvas(figure)
    return figure


def draw_panel(axes: "Axes", view: View, name: str, layers: Sequence[Layer]) -> None:
    """Draw a slice with layers over it, and letters of the patient's sides at its edges."""
    from matplotlib.colors import to_rgba

    low, high = view.window
    show = partial(axes.imshow, aspect=view.aspect, interpolation="nearest")
    show(view.image, cmap="gray", vmin=low, vmax=high)
    for layer in layers:
        fill = np.zeros((*layer.mask.shape, 4), np.float32)
        fill[layer.mask] = to_rgba(layer.colour, layer.opacity)
        show(fill)
        draw_outline(axes, layer.mask, layer.colour)
    axes.set_title(name, fontsize=10, color=INK)
    axes.set_axis_off()
    _draw_edges(axes, view.edges)


def draw_outline(
    axes: "Axes",
    mask: Bool[np.ndarray, "row column"],
    colour: str,
    *,
    width: float = _LINE,
    line: str = "solid",
) -> None:
    """Draw a line along the edges of the pixels of a mask.

    Args:
        axes: Where to draw.
        mask: The pixels.
        colour: As matplotlib takes it.
        width: Of the line in points.
        line: Its style, as matplotlib takes it.
    """
    from matplotlib.collections import LineCollection

    segments = list(_outline(mask))
    axes.add_collection(LineCollection(segments, colors=colour, lw=width, linestyles=line))


def draw_legend(figure: "Figure", layers: Sequence[Layer]) -> None:
    """Draw names and colours of layers under a figure, each once."""
    from matplotlib.patches import Patch

    colours = {layer.name: layer.colour for layer in layers}
    handles = [
        Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.5, label=name)
        for name, colour in colours.items()
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9
        )


def draw_heading(figure: "Figure", *texts: str, between: str = "  ·  ") -> None:
    """Write the texts that are not empty over a figure."""
    if heading := between.join(text for text in texts if text):
        figure.suptitle(heading, fontsize=10, color=INK, x=0.01, ha="left", parse_math=False)


def style_axes(axes: "Axes", *, title: str, ylabel: str, xlabel: str = "") -> None:
    """Give a plot its title, the names of its axes, faint lines and no frame."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _matplotlib() -> tuple[type["FigureCanvasAgg"], type["Figure"]]:
    with needed_for("drawing figures"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    return FigureCanvasAgg, Figure


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixel edges around a mask as segments ``(segment, 2, (x, y))``."""
    padded = np.pad(mask, 1)
    row, column = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = [(column - 0.5, row - 0.5), (column + 0.5, row - 0.5)]
    row, column = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = [(column - 0.5, row - 0.5), (column - 0.5, row + 0.5)]
    return np.concatenate([np.array(level), np.array(upright)], axis=2).transpose(2, 0, 1)


def _draw_edges(axes: "Axes", edges: str) -> None:
    from matplotlib.patheffects import withStroke

    places = ((0.02, 0.5, "left"), (0.98, 0.5, "right"), (0.5, 0.98, "top"), (0.5, 0.02, "bottom"))
    for letter, (x, y, side) in zip(edges, places, strict=False):
        axes.text(
            x,
            y,
            letter,
            ha=side if side in ("left", "right") else "center",
            va=side if side in ("top", "bottom") else "center",
            transform=axes.transAxes,
            fontsize=8,
            color="white",
            path_effects=[withStroke(linewidth=1.5, foreground="black")],
        )
