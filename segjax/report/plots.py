"""Figures of a training and of its masks.

Images follow the radiological convention, and letters name the sides of the patient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from segjax.errors import InputError
from segjax.report.style import (
    CONFUSED,
    FAINT,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    INK,
    LABELS,
    Layer,
    PathLike,
    draw_heading,
    draw_legend,
    draw_panel,
    figure_file,
    style_axes,
)
from segjax.report.views import View, best_view
from segjax.runs.metrics import best_epoch, read_metrics, validation_dice
from segjax.volume import Volume

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["dice_by_case", "learning_curves", "overlay"]


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
        >>> from segjax import read
        >>> flair, lesions = read("flair.nii.gz"), read("lesions.nii.gz")
        >>> overlay(flair, truth=lesions, prediction=lesions, path="case-7.png",
        ...         labels=("background", "lesion"))
    """
    view = best_view(image, truth, prediction)
    layers: list[tuple[str, list[Layer]]] = [("Image", [])]
    if view.truth is not None:
        layers.append(("Truth", _label_layers(view.truth, labels)))
    if view.prediction is not None:
        layers.append(("Prediction", _prediction_layers(view, labels)))
    with figure_file(path, _overlay_size(view, len(layers)), overwrite=overwrite) as figure:
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for axes, (name, shown) in zip(panels, layers, strict=True):
            draw_panel(axes, view, name, shown)
        draw_legend(figure, [layer for _, shown in layers for layer in shown])
        draw_heading(figure, title, view.caption)


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
        >>> learning_curves("run/metrics.csv", "curves.png")
    """
    metrics = read_metrics(metrics_csv)
    with figure_file(path, (9.0, 3.4), overwrite=overwrite) as figure:
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
        >>> dice_by_case("run/metrics.csv", "dice.png")
    """
    metrics = read_metrics(metrics_csv)
    epoch = best_epoch(metrics)
    if epoch is None:
        raise InputError(f"{metrics_csv}: holds no Dice of a validation case")
    rows = validation_dice(metrics)
    groups = _by_label(rows[rows.epoch == epoch])
    with figure_file(path, (max(4.0, 1.8 + 1.5 * len(groups)), 3.8), overwrite=overwrite) as figure:
        axes = figure.subplots()
        for position, (_, values) in enumerate(groups):
            _draw_box(axes, position, values.to_numpy())
        names = [f"{name}\nmedian {v.median():.3f}, n = {len(v)}" for name, v in groups]
        axes.set_xticks(range(len(groups)), names)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        style_axes(axes, ylabel="Dice", title=f"Validation cases, epoch {epoch}")


def _label_layers(mask: np.ndarray, labels: Sequence[str]) -> list[Layer]:
    values = [int(value) for value in np.unique(mask) if value > 0]
    return [Layer(_name(v, labels), LABELS[(v - 1) % len(LABELS)], mask == v) for v in values]


def _name(value: int, labels: Sequence[str]) -> str:
    return labels[value] if value < len(labels) else f"label {value}"


def _prediction_layers(view: View, labels: Sequence[str]) -> list[Layer]:
    truth, prediction = view.truth, view.prediction
    assert prediction is not None
    if truth is None:
        return _label_layers(prediction, labels)
    right = np.where(prediction == truth, prediction, 0)
    confused = (prediction > 0) & (truth > 0) & (prediction != truth)
    errors = [
        Layer("missed", FALSE_NEGATIVE, (prediction == 0) & (truth > 0), 0.85),
        Layer("false alarm", FALSE_POSITIVE, (prediction > 0) & (truth == 0), 0.85),
        Layer("wrong label", CONFUSED, confused, 0.85),
    ]
    return _label_layers(right, labels) + [layer for layer in errors if layer.mask.any()]


def _overlay_size(view: View, panels: int) -> tuple[float, float]:
    """Return the inches of a figure whose panels fill 3.4 inches of width or 4 of height."""
    rows, columns = view.image.shape
    height = 3.4 * view.aspect * rows / columns
    width = 3.4 * min(1.0, 4.0 / height)
    return panels * (max(width, 1.0) + 0.1), min(max(height, 1.0), 4.0) + 0.9


def _draw_loss(axes: "Axes", metrics: "pd.DataFrame") -> None:
    _draw_curves(axes, metrics[metrics.metric == "loss"], "split")
    style_axes(axes, title="Loss", ylabel="loss", xlabel="epoch")


def _draw_dice(axes: "Axes", metrics: "pd.DataFrame") -> None:
    dice = validation_dice(metrics)
    _draw_curves(axes, dice, "label")
    epoch = best_epoch(metrics)
    if epoch is not None:
        mean = dice[dice.epoch == epoch].value.mean()
        axes.axvline(epoch, color=FAINT, lw=0.8, ls=":")
        axes.set_title(f"best mean {mean:.3f}, epoch {epoch}", loc="right", fontsize=8, color=FAINT)
    style_axes(axes, title="Validation Dice", ylabel="Dice, mean over cases", xlabel="epoch")


def _draw_curves(axes: "Axes", rows: "pd.DataFrame", kind: str) -> None:
    """Draw the mean of each epoch, one line for each run and each value of the column ``kind``."""
    several = rows.run.nunique() > 1
    for i, ((run, name), group) in enumerate(rows.groupby(["run", kind], sort=False)):
        curve = group.groupby("epoch").value.mean()
        label = f"{run}, {name}" if several else str(name)
        colour, size = LABELS[i % len(LABELS)], 2.5 if len(curve) > 1 else 6
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
    colour = LABELS[position % len(LABELS)]
    line = {"color": INK, "linewidth": 1.0}
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
    axes.scatter(position + spread, values, s=12, color=colour, edgecolor=INK, lw=0.4, zorder=3)
