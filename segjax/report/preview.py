"""Show what augmentation does to a case, before a network trains on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer

from segjax.data.augment import Transform, apply_all, draw_all
from segjax.data.io.formats import check_same_grid
from segjax.errors import InputError
from segjax.evaluate.overlap import volume_ml
from segjax.grid import reorient
from segjax.progress import track
from segjax.registry import registry
from segjax.report.style import INK, LABELS, draw_outline, new_figure
from segjax.report.views import grey_window, slice_caption
from segjax.studies import study
from segjax.text import plural
from segjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Preview", "draw_preview", "preview_transforms"]

_HEIGHT = 1.6  # inches of a panel
_LISTED = 12  # numbers of a parameter that are told one by one


def preview_transforms(name: str | None = None) -> tuple[Transform, ...]:
    """Return the transforms of a study, or every transform there is.

    Args:
        name: Name of a study; None for every transform, as it is by default.

    Raises:
        InputError: There is no such study.

    Example:
        >>> [transform.name for transform in preview_transforms()][:3]
        ['affine', 'anisotropy', 'bias-field']
    """
    if name is not None:
        return study(name).augmentation()
    every = registry("transform")
    return tuple(every.get(each)() for each in every.names())


@dataclass(frozen=True, eq=False)
class Preview:
    """What :func:`draw_preview` drew.

    Attributes:
        figure: The picture, which :func:`~segjax.report.style.picture` writes.
        facts: Slice, grey values and the size of every label, in words.
        draws: Row, number of the draw from 1 on, and the parameters of its transforms, in words.
    """

    figure: "Figure"
    facts: dict[str, str]
    draws: tuple[tuple[str, str, str], ...]


def draw_preview(
    image: Volume,
    label: Volume | None,
    transforms: Sequence[Transform],
    *,
    seed: int = 0,
    columns: int = 4,
) -> Preview:
    """Draw an image as each of some transforms leaves it, and as all of them do.

    One row for each transform: the image as it is, then with parameters drawn anew in each
    column, the transform applied in any case. In the last row all transforms follow each other,
    each with its own probability. Labels are outlined. Of a volume the axial slice with most
    label is shown, or the middle one where there is no label, the patient's right on the left and
    the front on top. Black and white are those of the image as it is
    (:func:`segjax.report.views.grey_window`) in all columns.

    Args:
        image: Volume of rank 2 or 3, with such intensities as the transforms are meant for; its
            first channel is shown.
        label: Label map on the image's grid; None where there is none.
        transforms: In the order in which training applies them.
        seed: Of all draws.
        columns: Number of draws.

    Raises:
        InputError: The label map lies on another grid, there are no transforms or no columns, the
            seed is negative, or a transform does not fit the image.

    Example:
        >>> from segjax.data.augment import Flip
        >>> drawn = draw_preview(Volume(np.eye(8), np.eye(3)), None, [Flip(axes=(0,))], columns=1)
        >>> len(drawn.figure.axes)  # two rows of one original and one draw
        4
        >>> drawn.draws[0]
        ('flip', '1', 'flipped yes')
    """
    if not transforms or columns < 1:
        raise InputError("a preview needs one transform and one column or more")
    if seed < 0:
        raise InputError(f"seed {seed}: give a whole number, 0 or more")
    case = _case(image, label)
    rows = [(transform.name, [_certain(transform)]) for transform in transforms]
    rows.append(("all", list(transforms)))
    width = _HEIGHT * min(max(case.proportion, 0.5), 2.0)
    figure = new_figure((1.2 + (columns + 1) * width, 0.4 + len(rows) * _HEIGHT))
    panels = figure.subplots(len(rows), columns + 1, squeeze=False)
    draws = []
    for row, (name, chain) in enumerate(track(rows, "Drawing", unit="transform")):
        _draw(panels[row][0], case, case.cut(case.image[..., 0]), case.cut(case.label))
        _name_row(panels[row][0], name)
        for column in range(columns):
            parameters = _drawn(case, chain, (seed, row, column))
            changed, moved = apply_all(chain, parameters, case.image, case.label, np)
            _draw(panels[row][column + 1], case, case.cut(changed[..., 0]), case.cut(moved))
            draws.append((name, str(column + 1), _in_words(chain, parameters)))
    for column, axes in enumerate(panels[0]):
        axes.set_title(f"draw {column}" if column else "original", fontsize=9, color=INK)
    return Preview(figure, _facts(image, case), tuple(draws))


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
        window=grey_window(data[..., 0], label.data > 0),
        spacing=spacing,
    )


def _fullest(label: Integer[np.ndarray, "*spatial"]) -> int:
    counts = np.count_nonzero(label, axis=(0, 1))
    return int(np.argmax(counts)) if np.any(counts) else label.shape[-1] // 2


def _facts(image: Volume, case: _Case) -> dict[str, str]:
    """Say in words which slice is shown, between which grey values, and how large labels are."""
    flat = case.label.ndim == 2
    low, high = case.window
    data = case.image[..., 0]
    greys = f"black {low:.4g}, white {high:.4g} (image: {data.min():.4g} to {data.max():.4g})"
    facts = {} if flat else {"slice": slice_caption(image, 2, case.index)}
    facts["grey values"] = greys
    for value in np.unique(case.label[case.label > 0]):
        mask = case.label == value
        size = plural(int(np.count_nonzero(case.cut(mask))), "pixel")
        whole = "" if flat else f"{volume_ml(mask, image.affine):.3f} ml, "
        facts[f"label {value}"] = f"{whole}{size}{'' if flat else ' in the slice'}"
    return facts


def _in_words(chain: Sequence[Transform], parameters: Sequence[Mapping[str, Any] | None]) -> str:
    """Say what was drawn: of one transform its parameters, of several the names too."""
    if len(chain) == 1:
        return "nothing" if parameters[0] is None else _told(parameters[0])
    drawn = zip(chain, parameters, strict=True)
    return "; ".join(f"{t.name}: {_told(p)}" for t, p in drawn if p is not None) or "nothing"


def _told(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in parameters.items()) or "applied"


def _value(value: Any) -> str:
    """Return a few numbers one by one, and of many how many there are and their range."""
    numbers = np.asarray(value)
    if numbers.size > _LISTED:
        size = "×".join(map(str, numbers.shape))
        return f"{size} values, {numbers.min():.3g} to {numbers.max():.3g}"
    if numbers.dtype == bool:
        return " ".join("yes" if one else "no" for one in numbers.ravel())
    form = "d" if np.issubdtype(numbers.dtype, np.integer) else ".3g"
    return " ".join(f"{one:{form}}" for one in numbers.ravel().tolist())


def _certain(transform: Any) -> Transform:
    """Return a transform that is applied whenever it is drawn."""
    return type(transform)(**{**vars(transform), "probability": 1.0})


def _drawn(
    case: _Case, chain: Sequence[Transform], seed: tuple[int, int, int]
) -> list[Mapping[str, Any] | None]:
    rng = np.random.default_rng(seed)
    return draw_all(rng, case.image.shape, chain, spacing=case.spacing)


def _name_row(axes: "Axes", name: str) -> None:
    place: dict[str, Any] = {"ha": "right", "va": "center", "transform": axes.transAxes}
    axes.text(-0.08, 0.5, name, fontsize=9, color=INK, **place)


def _draw(axes: "Axes", case: _Case, image: np.ndarray, label: np.ndarray) -> None:
    low, high = case.window
    axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, aspect=case.aspect, interpolation="nearest"
    )
    for value in np.unique(label[label > 0]):
        draw_outline(axes, label == value, LABELS[(int(value) - 1) % len(LABELS)])
    axes.set_axis_off()
