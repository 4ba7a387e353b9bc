"""Show what augmentation does to a case, before a network trains on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer

from segjax.data.augment import Transform, apply_all, draw_all, from_json, names
from segjax.data.augment.recipes import recipe
from segjax.data.formats import check_same_grid
from segjax.data.spatial import reorient
from segjax.errors import InputError
from segjax.evaluate.plots import _INK, _LABELS, _LINE, _new_figure, _outline
from segjax.progress import track
from segjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["preview_figure", "preview_transforms"]

_HEIGHT = 1.6  # inches of a panel


def preview_transforms(name: str | None = None) -> tuple[Transform, ...]:
    """Return the transforms of a recipe, or every transform there is.

    Args:
        name: Name of a recipe; None for every transform, as it is by default.

    Raises:
        InputError: There is no such recipe.

    Example:
        >>> [transform.name for transform in preview_transforms()][:3]
        ['affine', 'anisotropy', 'bias-field']
    """
    return from_json({"transform": each} for each in names()) if name is None else recipe(name)


def preview_figure(
    image: Volume,
    label: Volume | None,
    transforms: Sequence[Transform],
    *,
    seed: int = 0,
    columns: int = 4,
) -> "Figure":
    """Draw an image as each of some transforms leaves it, and as all of them do.

    One row for each transform: the image as it is, then with parameters drawn anew in each
    column, the transform applied in any case. In the last row all transforms follow each other,
    each with its own probability. Labels are outlined. Of a volume the axial slice with most
    label is shown, or the middle one where there is no label, the patient's right on the left and
    the front on top. Black and white are the 1st and 99th percentile of the image as it is.

    Args:
        image: Volume of rank 2 or 3, with such intensities as the transforms are meant for; its
            first channel is shown.
        label: Label map on the image's grid; None where there is none.
        transforms: In the order in which training applies them.
        seed: Of all draws.
        columns: Number of draws.

    Returns:
        The figure, which :func:`~segjax.evaluate.plots.picture` writes.

    Raises:
        InputError: The label map lies on another grid, there are no transforms or no columns, the
            seed is negative, or a transform does not fit the image.

    Example:
        >>> from segjax.data.augment import Flip
        >>> figure = preview_figure(Volume(np.eye(8), np.eye(3)), None, [Flip()], columns=2)
        >>> len(figure.axes)  # two rows of one original and two draws
        6
    """
    if not transforms or columns < 1:
        raise InputError("a preview needs one transform and one column or more")
    if seed < 0:
        raise InputError(f"seed {seed}: give a whole number, 0 or more")
    case = _case(image, label)
    rows = [(transform.name, [_certain(transform)]) for transform in transforms]
    rows.append(("all", list(transforms)))
    width = _HEIGHT * min(max(case.proportion, 0.5), 2.0)
    figure = _new_figure((1.2 + (columns + 1) * width, 0.4 + len(rows) * _HEIGHT))
    panels = figure.subplots(len(rows), columns + 1, squeeze=False)
    for row, (name, chain) in enumerate(track(rows, "Drawing", unit="transform")):
        for axes, shown in zip(panels[row], _drawn(case, chain, (seed, row), columns), strict=True):
            _draw(axes, case, *shown)
        panels[row][0].text(
            -0.08,
            0.5,
            name,
            transform=panels[row][0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
            color=_INK,
        )
    for column, axes in enumerate(panels[0]):
        axes.set_title(f"draw {column}" if column else "original", fontsize=9, color=_INK)
    return figure


@dataclass(frozen=True, eq=False)
class _Case:
    """An image in RAS order, and how a slice of it is shown."""

    image: Float[np.ndarray, "*spatial channel"]
    label: Integer[np.ndarray, "*spatial"]
    index: int  # of the axial slice
    aspect: float  # height of a pixel over its width
    window: tuple[float, float]
    spacing: tuple[float, ...]

    def cut(self, data: np.ndarray) -> np.ndarray:
        """Return the slice, row 0 at the top."""
        return data if data.ndim == 2 else data[::-1, ::-1, self.index].T

    @property
    def proportion(self) -> float:
        """Width of the slice over its height."""
        rows, columns = self.cut(self.label).shape
        return columns / (rows * self.aspect)


def _case(image: Volume, label: Volume | None) -> _Case:
    if label is None:
        label = Volume(np.zeros(image.spatial_shape, np.uint8), image.affine)
    check_same_grid(image, label, ("image", "label"))
    image, label = reorient(image), reorient(label)
    size, spacing = label.data.shape, image.spacing
    upright = 0 if len(size) == 2 else 1
    data = np.ascontiguousarray(image.channels_last, np.float32)
    return _Case(
        data,
        np.ascontiguousarray(label.data),
        index=_fullest(label.data),
        aspect=spacing[upright] / spacing[1 - upright],
        window=_window(data[..., 0]),
        spacing=spacing,
    )


def _fullest(label: Integer[np.ndarray, "*spatial"]) -> int:
    counts = np.count_nonzero(label, axis=(0, 1))
    return int(np.argmax(counts)) if np.any(counts) else label.shape[-1] // 2


def _window(data: Float[np.ndarray, "*spatial"]) -> tuple[float, float]:
    tissue = data[data > data.min()]
    low, high = np.percentile(tissue, (1, 99)) if tissue.size else (0.0, 1.0)
    return float(low), float(high)


def _certain(transform: Any) -> Transform:
    """Return a transform that is applied whenever it is drawn."""
    return type(transform)(**{**vars(transform), "probability": 1.0})


def _drawn(
    case: _Case, chain: Sequence[Transform], seed: tuple[int, int], columns: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield slices of image and label: the original ones, then those of each draw."""
    image, label = case.image, case.label
    yield case.cut(image[..., 0]), case.cut(label)
    for column in range(columns):
        rng = np.random.default_rng([*seed, column])
        parameters = draw_all(rng, image.shape, chain, spacing=case.spacing)
        changed, moved = apply_all(chain, parameters, image, label, np)
        yield case.cut(changed[..., 0]), case.cut(moved)


def _draw(axes: "Axes", case: _Case, image: np.ndarray, label: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    low, high = case.window
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, aspect=case.aspect, interpolation="nearest"
    )
    for value in np.unique(label[label > 0]):
        colour = _LABELS[(int(value) - 1) % len(_LABELS)]
        axes.add_collection(LineCollection(list(_outline(label == value)), colors=colour, lw=_LINE))
    axes.set_axis_off()
