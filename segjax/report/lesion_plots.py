"""Pictures of found, missed and invented lesions."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from segjax.components import label_components
from segjax.evaluate.lesions import ANY, LesionMatch, LesionRule, match_lesions, outcome_maps
from segjax.grid import reorient
from segjax.report.style import (
    CONFUSED,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    LABELS,
    Layer,
    PathLike,
    draw_heading,
    draw_legend,
    draw_panel,
    figure_file,
)
from segjax.report.views import View, slice_axis, views_at
from segjax.text import plural
from segjax.volume import Volume

__all__ = ["lesion_overlay"]

_SLICES = 6
_COLUMNS = 3
_NAMES = (
    "found: prediction",
    "found: true outline",
    "missed",
    "false positive",
    "too small to count",
)


def lesion_overlay(
    image: Volume,
    *,
    truth: Volume,
    prediction: Volume,
    path: PathLike,
    label: int = 1,
    rule: LesionRule = ANY,
    title: str = "",
    overwrite: bool = False,
) -> LesionMatch:
    """Draw which lesions were found, missed and invented, on the slices that show most of them.

    Up to six slices, in the plane and orientation of :func:`segjax.report.views.best_view`. They
    are chosen one after another: each time the one that adds most, where a slice shows as much of
    a lesion as its area there, over its area in the slice where it is largest; found, missed and
    invented lesions weigh equally as groups. A 2D image is shown whole.

    Args:
        image: Volume of rank 2 or 3; its first channel is shown.
        truth: True label map on the image's grid.
        prediction: Predicted label map on the image's grid.
        path: File to write; its suffix gives the format (.png, .pdf, .svg).
        label: Value to show.
        rule: What counts as a lesion and as found.
        title: Text over the picture, such as the name of the case.
        overwrite: Replace a file that is there already.

    Returns:
        The lesions that were drawn.

    Raises:
        InputError: When a mask does not lie on the image's grid, the rule does not fit, the file
            exists already or the format is unknown.

    Example:
        >>> from segjax import read
        >>> flair, lesions = read("flair.nii.gz"), read("lesions.nii.gz")
        >>> found = lesion_overlay(flair, truth=lesions, prediction=lesions, path="case-7.png")
        >>> len(found.truth), len(found.prediction)
        (2, 2)
    """
    compared: dict[str, Any] = {
        "truth": truth.data,
        "prediction": prediction.data,
        "spacing": truth.affine,
        "label": label,
        "rule": rule,
    }
    match, maps = match_lesions(**compared), outcome_maps(**compared)
    outcomes = [image.with_data(outcome) for outcome in maps]
    views = views_at(image, _places(image, outcomes), *outcomes)
    columns = min(_COLUMNS, len(views))
    with figure_file(path, _size(views), overwrite=overwrite) as figure:
        panels = figure.subplots(-(-len(views) // columns), columns, squeeze=False).ravel()
        shown = [_layers(view) for view in views]
        for axes, view, layers in zip(panels, views, shown, strict=False):
            draw_panel(axes, view, view.caption, layers)
        for axes in panels[len(views) :]:
            axes.set_axis_off()
        used = [layer for layers in shown for layer in layers]
        draw_legend(figure, sorted(used, key=lambda layer: _NAMES.index(layer.name)))
        draw_heading(figure, title, _summary(match))
    return match


def _summary(match: LesionMatch) -> str:
    total = plural(match.true_lesions, "lesion")
    return f"{match.found} of {total} found  ·  {plural(match.false_positives, 'false positive')}"


def _size(views: Sequence[View]) -> tuple[float, float]:
    """Return the inches of a figure whose panels fill 3.6 inches of width or 4.2 of height."""
    rows, columns = views[0].image.shape
    height = 3.6 * views[0].aspect * rows / columns
    width = 3.6 * min(1.0, 4.2 / height)
    across = min(_COLUMNS, len(views))
    down = -(-len(views) // across)
    return max(across * max(width, 1.0), 5.2), down * (min(max(height, 1.0), 4.2) + 0.25) + 0.7


def _layers(view: View) -> list[Layer]:
    assert view.truth is not None
    assert view.prediction is not None
    small = (view.truth == 3) | (view.prediction == 3)
    layers = [
        Layer(_NAMES[0], LABELS[1], view.prediction == 1, 0.3),
        Layer(_NAMES[1], LABELS[0], view.truth == 1, 0.0),
        Layer(_NAMES[2], FALSE_NEGATIVE, view.truth == 2, 0.85),
        Layer(_NAMES[3], FALSE_POSITIVE, view.prediction == 2, 0.85),
        Layer(_NAMES[4], CONFUSED, small, 0.0),
    ]
    return [layer for layer in layers if layer.mask.any()]


def _places(image: Volume, outcomes: Sequence[Volume]) -> Sequence[int | None]:
    """Return the numbers of the slices to show, in order."""
    if image.spatial_dims == 2:
        return [None]
    axis = slice_axis(image)
    truth, prediction = (reorient(outcome).data for outcome in outcomes)
    groups = [_areas(mask, axis) for mask in (truth == 1, truth == 2, prediction == 2)]
    chosen = _choose([areas for areas in groups if len(areas)], _SLICES)
    return sorted(chosen) or [truth.shape[axis] // 2]


def _areas(mask: np.ndarray, axis: int) -> Int[np.ndarray, "lesion slice"]:
    """Count the voxels of every connected component on every slice."""
    labels, count = label_components(mask)
    where = np.nonzero(labels)
    width = mask.shape[axis]
    cells = (labels[where].astype(np.int64) - 1) * width + where[axis]
    return np.bincount(cells, minlength=count * width).reshape(count, width)


def _choose(groups: Iterable[Int[np.ndarray, "_ slice"]], most: int) -> list[int]:
    """Choose slices greedily, so that together they show lesions where those are large."""
    shares = [areas / areas.max(axis=1, keepdims=True) for areas in groups]
    if not shares:
        return []
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in shares])
    table = np.concatenate(shares)
    seen = np.zeros(len(table))
    chosen: list[int] = []
    for _ in range(most):
        gains = weights @ np.maximum(table - seen[:, None], 0)
        if gains.max() <= 0:
            break
        chosen.append(int(gains.argmax()))
        seen = np.maximum(seen, table[:, chosen[-1]])
    return chosen
