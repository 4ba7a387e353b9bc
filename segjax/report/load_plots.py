"""Figures of how well predicted volumes agree with true ones, and where Dice is low."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from segjax.errors import InputError
from segjax.evaluate.agreement import bland_altman, spearman
from segjax.evaluate.statistics import Interval
from segjax.report.style import FAINT, INK, LABELS, PathLike, figure_file, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FEWEST", "dice_against_load", "load_agreement"]

FEWEST = 3
"""Cases that a figure shows at least: of two no spread can be told."""


def load_agreement(
    truth: Mapping[str, float],
    prediction: Mapping[str, float],
    path: PathLike,
    *,
    unit: str = "ml",
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Draw predicted against true volumes, and their differences as Bland and Altman do.

    On the left the line of equality; on the right the difference prediction − truth over the mean
    of both, with its mean (bias), the limits of agreement (bias ± 1.96 standard deviations) and
    the 95 % intervals of all three as bands.

    Args:
        truth: True volume by case.
        prediction: Predicted volume of the same cases.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        unit: Of the volumes.
        title: Over the figure, such as the name of the label.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: There are less than three cases, the cases differ, or the file exists.

    Example:
        >>> truth = {"a": 1.3, "b": 12.0, "c": 49.8}
        >>> load_agreement(truth, {"a": 1.0, "b": 14.1, "c": 45.2}, "load-agreement.png")

    Source:
        J. M. Bland and D. G. Altman, The Lancet 327, 1986.
    """
    there, found = _paired(truth, prediction)
    limits = bland_altman(truth=there, prediction=found)
    with figure_file(path, (9.0, 3.6), overwrite=overwrite) as figure:
        left, right = figure.subplots(1, 2)
        _scatter(left, there, found)
        most = max(float(there.max()), float(found.max())) or 1.0
        left.plot([0, most], [0, most], color=FAINT, lw=0.8)
        style_axes(
            left,
            title=f"{title} volume".strip().capitalize(),
            xlabel=f"truth ({unit})",
            ylabel=f"prediction ({unit})",
        )
        _scatter(right, (there + found) / 2, found - there)
        for name, value in (
            ("bias", limits.bias),
            ("upper limit", limits.upper),
            ("lower limit", limits.lower),
        ):
            _level(right, name, value)
        style_axes(
            right,
            title="Bland–Altman",
            xlabel=f"mean of both ({unit})",
            ylabel=f"prediction − truth ({unit})",
        )


def dice_against_load(
    load: Mapping[str, float],
    dice: Mapping[str, float],
    path: PathLike,
    *,
    unit: str = "ml",
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Draw Dice over the true volume, on a logarithmic axis: small loads are punished.

    Args:
        load: True volume by case, over 0.
        dice: Dice of the same cases.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        unit: Of the volumes.
        title: Over the figure, such as the name of the label.
        overwrite: Replace a file that is there already.

    Raises:
        InputError: There are less than three cases, the cases differ, a volume is not over 0, or
            the file exists.

    Example:
        >>> dice_against_load(
        ...     {"a": 1.3, "b": 12.0, "c": 49.8}, {"a": 0.4, "b": 0.7, "c": 0.8}, "dice-load.png"
        ... )
    """
    loads, values = _paired(load, dice)
    if not (loads > 0).all():
        raise InputError("the true volume of a case is 0: leave out the cases without the label")
    rank = spearman(truth=loads, prediction=values)
    with figure_file(path, (5.0, 3.6), overwrite=overwrite) as figure:
        axes = figure.subplots()
        _scatter(axes, loads, values)
        axes.set_xscale("log")
        axes.set_ylim(-0.03, 1.03)
        heading = f"{title} Dice against volume".strip()
        if not np.isnan(rank.value):
            heading += f" (Spearman {rank.value:.2f})"
        style_axes(axes, title=heading, xlabel=f"truth ({unit})", ylabel="Dice")


def _paired(
    one: Mapping[str, float], other: Mapping[str, float]
) -> tuple[Float64[np.ndarray, " case"], Float64[np.ndarray, " case"]]:
    """Return the values of both for the same cases, in one order."""
    if one.keys() != other.keys():
        raise InputError("the two have other cases: give a value of each case twice")
    if len(one) < FEWEST:
        raise InputError(f"{len(one)} cases: a figure needs {FEWEST} or more")
    return np.array([*one.values()], float), np.array([other[case] for case in one], float)


def _scatter(
    axes: "Axes", x: Float64[np.ndarray, " case"], y: Float64[np.ndarray, " case"]
) -> None:
    axes.scatter(x, y, s=16, color=LABELS[0], edgecolor=INK, lw=0.4, zorder=3)


def _level(axes: "Axes", name: str, value: Interval) -> None:
    axes.axhline(value.value, color=INK, lw=0.9, ls="-" if name == "bias" else "--")
    if not np.isnan(value.low):
        axes.axhspan(value.low, value.high, color=LABELS[3], alpha=0.15, lw=0)
    axes.text(
        1.0,
        value.value,
        f"{name} {value.value:.2f} ",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="bottom",
        fontsize=8,
        color=INK,
    )
