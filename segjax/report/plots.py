"""Figures of a training and of its masks, drawn without a display and without global state.

Colours are Okabe and Ito's, which people with a colour-vision deficiency tell apart. Images
follow the radiological convention, and letters name the sides of the patient.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from segjax.errors import InputError
from segjax.evaluate.metrics import best_epoch, read_metrics, validation_dice
from segjax.extras import how_to_install
from segjax.files import atomic_path
from segjax.report.views import View, best_view
from segjax.volume import Volume

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

__all__ = ["dice_by_case", "learning_curves", "overlay", "picture"]

PathLike = str | os.PathLike[str]

_LABELS = ("#56B4E9", "#009E73", "#0072B2", "#E69F00")
_MISSED, _INVENTED, _CONFUSED = "#D55E00", "#F0E442", "#CC79A7"
_INK, _FAINT = "#222222", "#6B6B6B"
_DPI = 200
_LINE = 0.8  # width of an outline in points


def overlay(
    image: Volume,
    *,
    truth: Volume | None = None,
    prediction: Volume | None = None,
    path: PathLike,
    title: str = "",
    labels: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Draw an image, its true mask and its predicted mask side by side.

    Shows the slice with most foreground (see ``best_view``) with true proportions, black and
    white as :func:`segjax.report.views.grey_window` gives them. Where there is a truth, the
    prediction's panel tells voxels with the right label, in that label's colour, from missed
    ones, false alarms and voxels with a wrong label.

    Args:
        image: Volume of rank 2 or 3; its first channel is shown.
        truth: Label map on the image's grid; no panel when None.
        prediction: Label map on the image's grid; no panel when None.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        title: Text over the picture, such as the name of the case.
        labels: Name of each label value from 0, the background, on.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: When a mask does not lie on the image's grid, the file exists already or the
            format is unknown.

    Example:
        >>> overlay(flair, truth=truth, prediction=mask, path="case-7.png",
        ...         labels=("background", "lesion"))  # doctest: +SKIP
    """
    view = best_view(image, truth, prediction)
    layers: list[tuple[str, list[_Layer]]] = [("Image", [])]
    if view.truth is not None:
        layers.append(("Truth", _label_layers(view.truth, labels)))
    if view.prediction is not None:
        layers.append(("Prediction", _prediction_layers(view, labels)))
    with _figure(path, _overlay_size(view, len(layers)), overwrite=overwrite) as figure:
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for axes, (name, shown) in zip(panels, layers, strict=True):
            _draw_panel(axes, view, name, shown)
        _draw_legend(figure, [layer for _, shown in layers for layer in shown])
        _draw_heading(figure, title, view)


def learning_curves(metrics_csv: PathLike, path: PathLike, *, overwrite: bool = False) -> None:
    """Draw the loss and the validation Dice of a training against its epochs.

    Args:
        metrics_csv: Metrics of one or more runs (columns ``run, epoch, split, case, label,
            metric, value``).
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        overwrite: Replace a file that is there already.

    Raises:
        InputError: When the metrics cannot be read or the file exists already.

    Example:
        >>> learning_curves("run/metrics.csv", "curves.png")  # doctest: +SKIP
    """
    metrics = read_metrics(metrics_csv)
    with _figure(path, (9.0, 3.4), overwrite=overwrite) as figure:
        left, right = figure.subplots(1, 2)
        _draw_loss(left, metrics)
        _draw_dice(right, metrics)
        for axes in (left, right):
            _show_epochs(axes, metrics.epoch)


def dice_by_case(metrics_csv: PathLike, path: PathLike, *, overwrite: bool = False) -> None:
    """Draw the Dice of every validation case at the best epoch: boxes and points for each label.

    Args:
        metrics_csv: Metrics of a run (columns ``run, epoch, split, case, label, metric, value``).
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        overwrite: Replace a file that is there already.

    Raises:
        InputError: When the metrics cannot be read or hold no validation, or the file exists
            already.

    Example:
        >>> dice_by_case("run/metrics.csv", "dice.png")  # doctest: +SKIP
    """
    metrics = read_metrics(metrics_csv)
    epoch = best_epoch(metrics)
    if epoch is None:
        raise InputError(f"{metrics_csv}: holds no Dice of a validation case")
    rows = validation_dice(metrics)
    groups = _by_label(rows[rows.epoch == epoch])
    with _figure(path, (max(4.0, 1.8 + 1.5 * len(groups)), 3.8), overwrite=overwrite) as figure:
        axes = figure.subplots()
        for position, (_, values) in enumerate(groups):
            _draw_box(axes, position, values.to_numpy())
        names = [f"{name}\nmedian {v.median():.3f}, n = {len(v)}" for name, v in groups]
        axes.set_xticks(range(len(groups)), names)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        _style(axes, ylabel="Dice", title=f"Validation cases, epoch {epoch}")


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
        >>> with picture("preview.png") as save:  # doctest: +SKIP
        ...     save(figure)
    """
    canvas, _ = _matplotlib()
    with atomic_path(path, overwrite=overwrite) as temporary:
        if temporary.suffix.removeprefix(".") not in canvas.get_supported_filetypes():
            raise InputError(f"{path}: is no picture; use .png, .pdf or .svg")
        yield lambda figure: figure.savefig(temporary, dpi=_DPI)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A set of pixels, and how it is named and coloured."""

    name: str
    colour: str
    mask: np.ndarray
    opacity: float = 0.5


@contextmanager
def _figure(path: PathLike, size: tuple[float, float], *, overwrite: bool) -> Iterator["Figure"]:
    """Yield an empty figure of ``size`` inches, which is written when the block ends well."""
    with picture(path, overwrite=overwrite) as save:
        figure = _new_figure(size)
        yield figure
        save(figure)


def _new_figure(size: tuple[float, float]) -> "Figure":
    canvas, figure_type = _matplotlib()
    figure = figure_type(size, layout="constrained", facecolor="white")
    canvas(figure)
    return figure


def _matplotlib() -> tuple[type["FigureCanvasAgg"], type["Figure"]]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"figures need matplotlib: {how_to_install('train')}") from error
    return FigureCanvasAgg, Figure


def _label_layers(mask: np.ndarray, labels: Sequence[str]) -> list[_Layer]:
    values = [int(value) for value in np.unique(mask) if value > 0]
    return [_Layer(_name(v, labels), _LABELS[(v - 1) % len(_LABELS)], mask == v) for v in values]


def _name(value: int, labels: Sequence[str]) -> str:
    return labels[value] if value < len(labels) else f"label {value}"


def _prediction_layers(view: View, labels: Sequence[str]) -> list[_Layer]:
    truth, prediction = view.truth, view.prediction
    assert prediction is not None
    if truth is None:
        return _label_layers(prediction, labels)
    right = np.where(prediction == truth, prediction, 0)
    confused = (prediction > 0) & (truth > 0) & (prediction != truth)
    errors = [
        _Layer("missed", _MISSED, (prediction == 0) & (truth > 0), 0.85),
        _Layer("false alarm", _INVENTED, (prediction > 0) & (truth == 0), 0.85),
        _Layer("wrong label", _CONFUSED, confused, 0.85),
    ]
    return _label_layers(right, labels) + [layer for layer in errors if layer.mask.any()]


def _overlay_size(view: View, panels: int) -> tuple[float, float]:
    """Return the inches of a figure whose panels fill 3.4 inches of width or 4 of height."""
    rows, columns = view.image.shape
    height = 3.4 * view.aspect * rows / columns
    width = 3.4 * min(1.0, 4.0 / height)
    return panels * (max(width, 1.0) + 0.1), min(max(height, 1.0), 4.0) + 0.9


def _draw_panel(axes: "Axes", view: View, name: str, layers: Sequence[_Layer]) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    low, high = view.window
    show = partial(axes.imshow, aspect=view.aspect, interpolation="nearest")
    show(view.image, cmap="gray", vmin=low, vmax=high)
    for layer in layers:
        fill = np.zeros((*layer.mask.shape, 4), np.float32)
        fill[layer.mask] = to_rgba(layer.colour, layer.opacity)
        show(fill)
        edges = list(_outline(layer.mask))
        axes.add_collection(LineCollection(edges, colors=layer.colour, lw=_LINE))
    axes.set_title(name, fontsize=10, color=_INK)
    axes.set_axis_off()
    _draw_edges(axes, view.edges)


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


def _draw_legend(figure: "Figure", layers: Sequence[_Layer]) -> None:
    from matplotlib.patches import Patch

    colours = {layer.name: layer.colour for layer in layers}
    handles = [
        Patch(facecolor=colour, edgecolor=_FAINT, linewidth=0.5, label=name)
        for name, colour in colours.items()
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9
        )


def _draw_heading(figure: "Figure", title: str, view: View) -> None:
    heading = "  ·  ".join(text for text in (title, view.caption) if text)
    if heading:
        figure.suptitle(heading, fontsize=10, color=_INK, x=0.01, ha="left", parse_math=False)


def _draw_loss(axes: "Axes", metrics: "pd.DataFrame") -> None:
    _draw_curves(axes, metrics[metrics.metric == "loss"], "split")
    _style(axes, title="Loss", ylabel="loss", xlabel="epoch")


def _draw_dice(axes: "Axes", metrics: "pd.DataFrame") -> None:
    dice = validation_dice(metrics)
    _draw_curves(axes, dice, "label")
    epoch = best_epoch(metrics)
    if epoch is not None:
        mean = dice[dice.epoch == epoch].value.mean()
        axes.axvline(epoch, color=_FAINT, lw=0.8, ls=":")
        axes.set_title(
            f"best mean {mean:.3f}, epoch {epoch}", loc="right", fontsize=8, color=_FAINT
        )
    _style(axes, title="Validation Dice", ylabel="Dice, mean over cases", xlabel="epoch")


def _draw_curves(axes: "Axes", rows: "pd.DataFrame", kind: str) -> None:
    """Draw the mean of each epoch, one line for each run and each value of the column ``kind``."""
    several = rows.run.nunique() > 1
    for i, ((run, name), group) in enumerate(rows.groupby(["run", kind], sort=False)):
        curve = group.groupby("epoch").value.mean()
        label = f"{run}, {name}" if several else str(name)
        colour, size = _LABELS[i % len(_LABELS)], 2.5 if len(curve) > 1 else 6
        axes.plot(curve.index, curve, color=colour, lw=1.6, marker="o", ms=size, label=label)
    if len(rows):
        axes.legend(frameon=False, fontsize=8)


def _show_epochs(axes: "Axes", epochs: "pd.Series[int]") -> None:
    """Let an axis run over all epochs of a training, with ticks at whole ones."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs):
        frame = max(0.5, 0.03 * (epochs.max() - epochs.min()))
        axes.set_xlim(epochs.min() - 0.5, epochs.max() + frame)


def _by_label(rows: "pd.DataFrame") -> list[tuple[str, "pd.Series[float]"]]:
    """Return the values of each label, in the order of the file."""
    return [(str(name), group.value) for name, group in rows.groupby("label", sort=False)]


def _draw_box(axes: "Axes", position: int, values: np.ndarray) -> None:
    colour = _LABELS[position % len(_LABELS)]
    line = {"color": _INK, "linewidth": 1.0}
    axes.boxplot(
        values,
        positions=[position],
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.35, **line},
        medianprops=line | {"linewidth": 1.8},
        whiskerprops=line,
        capprops=line,
    )
    spread = np.random.default_rng(0).uniform(-0.16, 0.16, len(values))
    axes.scatter(position + spread, values, s=12, color=colour, edgecolor=_INK, lw=0.4, zorder=3)


def _style(axes: "Axes", *, title: str, ylabel: str, xlabel: str = "") -> None:
    axes.set_title(title, fontsize=10, color=_INK, loc="left")
    axes.set_xlabel(xlabel, fontsize=9, color=_INK)
    axes.set_ylabel(ylabel, fontsize=9, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(axis="y", color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
