"""Figures of a sweep: what kernel size, alpha and seed do to the Dice of validation and test."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segjax.errors import InputError
from segjax.evaluate.scores import DICE, FALSE_POSITIVES
from segjax.extras import needed_for
from segjax.report.plots import overlay
from segjax.report.style import FAINT, INK, LABELS, PathLike, figure_file, style_axes
from segjax.runs.folder import RunFolder
from segjax.runs.metrics import best_epoch, read_metrics, validation_dice
from segjax.text import exact
from segjax.volume import Volume

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "best_member",
    "dice_by_group",
    "dice_by_image",
    "draw_sweep",
    "heat_maps",
    "kernel_curves",
    "read_images",
    "read_sweep",
]

_MEMBER = ["kernel", "alpha", "seed"]
_RESULTS = [*_MEMBER, "run", "validation_dice"]
_IMAGES = [*_MEMBER, "case", "label", "dice"]
_TEXT = {"run": str, "case": str, "label": str, "error": str}
_MAY_BE_EMPTY: Mapping[str, Sequence[str]] = {
    name: [""]
    for name in ("validation_dice", "test_dice", "epoch", DICE, *FALSE_POSITIVES.values())
}
_NAMED = 40  # images that have room for their names


def draw_sweep(folder: PathLike) -> dict[str, Path]:
    """Draw all figures of a sweep, over those that were drawn before.

    Args:
        folder: Of the sweep, finished or not.

    Returns:
        The files in ``figures/``, by name: learning curves of each kernel size, box plots, heat
        maps, Dice of each test image, and overlays of the best member on some of them.

    Raises:
        InputError: The folder holds no sweep, or no member of it is finished.

    Example:
        >>> draw_sweep("sweep")["heat-maps"]
        PosixPath('sweep/figures/heat-maps.png')
    """
    folder = Path(folder)
    results, images = read_sweep(folder)
    figures = RunFolder(folder).figures
    figures.mkdir(exist_ok=True)
    paths = {}
    for kernel in sorted(results.kernel.unique()):
        paths[f"learning-curves-k{kernel}"] = figures / f"learning-curves-k{kernel}.png"
        runs = _runs(folder, results[results.kernel == kernel])
        kernel_curves(runs, paths[f"learning-curves-k{kernel}"], title=f"kernel {kernel}")
    for name, draw in {"boxes": dice_by_group, "heat-maps": heat_maps}.items():
        paths[name] = figures / f"{name}.png"
        draw(images, paths[name])
    paths["images"] = figures / "images.png"
    best, labels = best_member(results), _labels(RunFolder(folder).grid)
    dice_by_image(images, paths["images"], best=best and best[1:])
    for example in sorted(RunFolder(folder).examples.glob(f"{best[0]}-*.npz")) if best else []:
        paths[example.stem] = figures / f"overlay-{example.stem}.png"
        _draw_example(example, paths[example.stem], labels)
    return paths


def read_sweep(folder: PathLike) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Read the tables of a sweep.

    Args:
        folder: Of the sweep.

    Returns:
        One row for each finished member, and one for each of its test images that hold a label,
        with the mean Dice of its labels.

    Raises:
        InputError: The folder holds no sweep, no member of it is finished, or all have failed.

    Example:
        >>> results, images = read_sweep("sweep")
        >>> list(images.columns)
        ['kernel', 'alpha', 'seed', 'case', 'dice']
    """
    results = _read(RunFolder(Path(folder)).results, _RESULTS)
    if "error" in results and (results.error != "").all() and results.epoch.isna().all():
        first = f"{results.run.iloc[0]}: {results.error.iloc[0]}"
        raise InputError(f"{folder}: no member has a network to measure, all failed ({first})")
    return results, read_images(Path(folder)).groupby([*_MEMBER, "case"])[
        ["dice"]
    ].mean().reset_index()


def read_images(folder: Path) -> "pd.DataFrame":
    """Return one row for each finished member, test image and label that it holds."""
    return _read(RunFolder(folder).images, _IMAGES).dropna(subset="dice")


def kernel_curves(runs: "pd.DataFrame", path: PathLike, *, title: str = "") -> None:
    """Draw loss and validation Dice of many trainings, coloured by alpha.

    Dots mark the best epochs.

    Args:
        runs: Metrics of all of them, as :func:`segjax.runs.metrics.read_metrics` gives them,
            with a column ``alpha``.
        path: File to write, or to replace.
        title: What the trainings have in common.

    Raises:
        InputError: The file cannot be written.
    """
    with figure_file(path, (9.0, 3.6), overwrite=True) as figure:
        left, right = figure.subplots(1, 2, sharex=True)
        colours = _colours(sorted(runs.alpha.unique()))
        for (alpha, _), run in runs.groupby(["alpha", "run"], sort=True):
            loss = run[run.metric == "loss"].groupby("epoch").value.mean()
            dice = validation_dice(run).groupby("epoch").value.mean()
            left.plot(loss.index, loss, color=colours[alpha], lw=1.0)
            right.plot(dice.index, dice, color=colours[alpha], lw=1.0)
            if (epoch := best_epoch(run)) is not None:
                right.plot(epoch, dice[epoch], "o", color=colours[alpha], ms=4)
        style_axes(left, title=f"Loss, {title}", ylabel="training loss", xlabel="epoch")
        style_axes(right, title="Validation", ylabel="mean Dice", xlabel="epoch")
        _alpha_legend(right, colours)
        left.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def dice_by_group(images: "pd.DataFrame", path: PathLike) -> None:
    """Draw boxes of the test Dice by kernel size and by alpha.

    Each box holds every test image once for every member of its group. Triangles mark means.

    Args:
        images: As from :func:`read_sweep`.
        path: File to write, or to replace.

    Raises:
        InputError: The file cannot be written.
    """
    sizes = [images[name].nunique() for name in ("kernel", "alpha")]
    width = 2.5 + 0.75 * sum(sizes)
    with figure_file(path, (max(6.0, width), 3.8), overwrite=True) as figure:
        panels = figure.subplots(1, 2, sharey=True, width_ratios=[size + 1 for size in sizes])
        for axes, name, colour in zip(panels, ("kernel", "alpha"), LABELS, strict=False):
            groups = [(key, group.dice.to_numpy()) for key, group in images.groupby(name)]
            _draw_boxes(axes, groups, colour)
            title = f"Test images by {name}"
            ylabel = "Dice" if name == "kernel" else ""
            style_axes(axes, title=title, ylabel=ylabel, xlabel=f"{name}, and the mean of its box")


def heat_maps(images: "pd.DataFrame", path: PathLike) -> None:
    """Draw mean and variance of the test Dice over kernel size and alpha.

    Both are taken over all seeds and test images.

    Args:
        images: As from :func:`read_sweep`.
        path: File to write, or to replace.

    Raises:
        InputError: The file cannot be written.
    """
    cells = images.groupby(["kernel", "alpha"]).dice
    tables = {
        "mean": cells.mean().unstack("alpha"),
        "variance": cells.var(ddof=0).unstack("alpha"),
    }
    rows, columns = tables["mean"].shape
    size = (max(4.0, 1.8 + 0.75 * columns), 2 * (1.0 + 0.5 * rows))
    with figure_file(path, size, overwrite=True) as figure:
        for axes, (name, table) in zip(figure.subplots(2, 1), tables.items(), strict=True):
            _draw_cells(axes, table, "viridis" if name == "mean" else "magma_r")
            axes.set_title(f"Test Dice, {name}", fontsize=10, color=INK, loc="left")


def dice_by_image(
    images: "pd.DataFrame", path: PathLike, *, best: Sequence[Any] | None = None
) -> None:
    """Draw the Dice of each test image over all members: median, and 5th to 95th percentile.

    Args:
        images: As from :func:`read_sweep`.
        path: File to write, or to replace.
        best: Kernel size, alpha and seed of a member to mark.

    Raises:
        InputError: The file cannot be written.
    """
    spread = images.groupby("case").dice.quantile(np.array([0.05, 0.5, 0.95])).unstack()
    spread.columns = ["low", "median", "high"]
    spread = spread.sort_values(["median", "high"])
    places = np.arange(len(spread))
    with figure_file(path, (min(14.0, 4.0 + 0.15 * len(spread)), 4.0), overwrite=True) as figure:
        axes = figure.subplots()
        axes.vlines(places, spread.low, spread.high, color=LABELS[0], lw=2.5, alpha=0.45)
        axes.plot(places, spread["median"], "o", color=LABELS[2], ms=3.5, label="median of members")
        if best is not None:
            own = images[(images[_MEMBER] == list(best)).all(axis=1)].set_index("case").dice
            kernel, alpha, seed = best
            told = f"best by validation: kernel {kernel}, alpha {exact(alpha)}, seed {seed}"
            axes.plot(places, own[spread.index], "x", color=LABELS[3], ms=5, label=told)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        names = list(spread.index) if len(spread) <= _NAMED else []
        axes.set_xticks(places[: len(names)], names, rotation=90)
        style_axes(axes, title=f"{len(spread)} test images", ylabel="Dice")


def _read(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    with needed_for("drawing figures"):
        import pandas as pd
    if not path.is_file():
        raise InputError(f"{path.parent}: is no folder of a sweep (it has no {path.name})")
    try:
        table = pd.read_csv(
            path,
            dtype=_TEXT,
            keep_default_na=False,  # a case may be called NA
            na_values=_MAY_BE_EMPTY,
            float_precision="round_trip",
        )
    except ValueError as error:  # an empty table has no columns at all
        raise InputError(f"{path}: no member of the sweep is finished yet") from error
    if missing := [name for name in columns if name not in table]:
        raise InputError(f"{path}: is no table of a sweep (it has no column {missing[0]})")
    return table


def best_member(results: "pd.DataFrame") -> tuple[Any, ...] | None:
    """Return name, kernel size, alpha and seed of the member with the highest validation Dice."""
    measured = results[results.validation_dice.notna()]
    if measured.empty:
        return None
    row = int(measured.validation_dice.to_numpy().argmax())
    return tuple(measured[name].iloc[row] for name in ("run", *_MEMBER))


def _labels(path: Path) -> tuple[str, ...]:
    """Return the names of the label values; none where nothing tells."""
    if not path.is_file():
        return ()
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["base"]["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a sweep ({error})") from error


def _runs(folder: Path, members: "pd.DataFrame") -> "pd.DataFrame":
    """Read the metrics of members, with their alpha."""
    import pandas as pd

    tables = []
    for run, alpha in zip(members.run, members.alpha, strict=True):
        table = read_metrics(RunFolder(folder).member(str(run)).metrics)
        table["alpha"] = float(alpha)
        tables.append(table)
    return pd.concat(tables)


def _colours(alphas: Sequence[float]) -> dict[Any, Any]:
    from matplotlib import colormaps

    places = np.linspace(0.0, 0.92, len(alphas))  # the last of viridis is too bright on white
    return dict(zip(alphas, colormaps["viridis"](places), strict=True))


def _alpha_legend(axes: "Axes", colours: dict[Any, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=c, label=f"alpha {exact(alpha)}") for alpha, c in colours.items()
    ]
    axes.legend(handles=handles, frameon=False, fontsize=7, ncols=1 + len(handles) // 6)


def _draw_boxes(axes: "Axes", groups: Sequence[tuple[Any, np.ndarray]], colour: str) -> None:
    line = {"color": INK, "linewidth": 1.0}
    axes.boxplot(
        [values for _, values in groups],
        widths=0.6,
        showmeans=True,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.5, **line},
        medianprops=line | {"linewidth": 1.8},
        whiskerprops=line,
        capprops=line,
        meanprops={"marker": "^", "markerfacecolor": "white", "markeredgecolor": INK},
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": FAINT},
    )
    names = [f"{exact(float(key))}\n{values.mean():.3f}" for key, values in groups]
    axes.set_xticks(range(1, len(groups) + 1), names)


def _draw_cells(axes: "Axes", table: "pd.DataFrame", colours: str) -> None:
    values = table.to_numpy()
    image = axes.imshow(values, cmap=colours, aspect="auto")
    for (row, column), value in _finite(values):
        shade = np.asarray(image.to_rgba(np.array(value)))[:3] @ (0.299, 0.587, 0.114)
        text = f"{value:.3f}" if np.nanmax(values) >= 0.1 else f"{value:.4f}"
        ink = "white" if shade < 0.5 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(table.columns)), [exact(float(alpha)) for alpha in table.columns])
    axes.set_yticks(range(len(table.index)), [f"{kernel:g}" for kernel in table.index])
    axes.set_xlabel("alpha", fontsize=9, color=INK)
    axes.set_ylabel("kernel", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=0)


def _finite(values: np.ndarray) -> Iterator[tuple[tuple[int, ...], float]]:
    return ((place, float(v)) for place, v in np.ndenumerate(values) if np.isfinite(v))


def _draw_example(path: Path, picture: Path, labels: Sequence[str]) -> None:
    with np.load(path) as arrays:
        image = Volume(arrays["image"], arrays["affine"])
        truth, mask = (image.with_data(arrays[name]) for name in ("truth", "mask"))
    masks = {"truth": truth, "prediction": mask}
    overlay(image, **masks, path=picture, title=path.stem, labels=labels, overwrite=True)
