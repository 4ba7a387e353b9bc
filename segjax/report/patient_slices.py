"""Slices of a patient's page: which are shown, with the lesions and diameters that lie on them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Integer, Shaped

from segjax.components import box_of, label_components
from segjax.evaluate.measure import LabelMeasures, LesionMeasures
from segjax.grid import reorient
from segjax.report.patient_texts import Language
from segjax.report.style import (
    CONFUSED,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    LABELS,
    draw_outline,
    draw_panel,
)
from segjax.report.views import View, grey_window, slice_axis, slice_caption
from segjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "KeySlice",
    "LesionId",
    "Mark",
    "Place",
    "centred",
    "colour_of",
    "cut",
    "detail_shape",
    "draw_bar",
    "draw_detail",
    "draw_whole",
    "key_slices",
    "length_unit",
    "local_sides",
    "on_edge",
    "pieces_of",
    "sides_at",
    "size_in_inches",
    "write_on",
]

_ENDS = "RLAPSI"  # high and low end of each axis in RAS order
_COLOURS = (*LABELS, FALSE_NEGATIVE, CONFUSED)
_LINE = FALSE_POSITIVE  # the yellow
_LEAST = {"mm": 24.0, "px": 48.0}  # side of a detail
_FRAME = 1.7  # side of a detail over the lesion's
_ENLARGED = 4  # lesions of a slice
_LARGE = 12  # lesions of an image that may be enlarged
_FILLED = 0.6  # of a slice; what takes more is not worth enlarging
_LETTER = 0.0082  # inches of a letter for each point of its size
_SMALLEST = 5.0  # points that can be read
_NUMBERED = 12  # lesions of a slice that bear their number
_BARS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class LesionId(NamedTuple):
    """A lesion: the value of its label, and its number."""

    value: int
    number: int


Line = tuple[tuple[float, float], tuple[float, float]]
"""Two points ``(x, y)`` of a view."""


@dataclass(frozen=True, eq=False)
class Mark:
    """A lesion as a slice shows it.

    Attributes:
        lesion: Which it is.
        mask: Its pixels ``(row, column)``.
        lines: Its longest diameter and the perpendicular, where they were measured on this slice.
        large: Whether it is one of the largest of the image.
    """

    lesion: LesionId
    mask: Bool[np.ndarray, "row column"]
    lines: tuple[Line, ...] = ()
    large: bool = False


@dataclass(frozen=True, eq=False)
class KeySlice:
    """A slice that shows lesions.

    Attributes:
        view: The slice as it is drawn, without dark margins.
        plane: ``axial``, ``coronal`` or ``sagittal``; empty for a picture.
        place: Its number along the axis as it is stored, from 1 on.
        slices: How many there are.
        width: Of a pixel, in ``unit``.
        unit: ``mm``, or ``px`` where the size of pixels is not known.
        marks: Lesions on it, those of one label by number.
    """

    view: View
    plane: str
    place: int
    slices: int
    width: float
    unit: str
    marks: tuple[Mark, ...]

    @property
    def measured(self) -> tuple[Mark, ...]:
        """Those whose diameters were measured on this slice."""
        return tuple(mark for mark in self.marks if mark.lines)

    @property
    def enlarged(self) -> tuple[Mark, ...]:
        """Those of them that are shown enlarged too: large ones that do not fill the slice."""
        rows, columns = self.view.image.shape
        large = [
            mark
            for mark in self.measured
            if mark.large and np.prod(detail_shape(self, mark)) < _FILLED * rows * columns
        ]
        return tuple(sorted(large, key=lambda mark: -int(mark.mask.sum()))[:_ENLARGED])

    def name(self, language: Language) -> str:
        """Say which slice it is.

        Example:
            >>> from segjax.report.patient_texts import language_of
            >>> head = Volume(np.ones((4, 5, 6)), np.eye(4))
            >>> mask = head.with_data(np.zeros((4, 5, 6), np.int32))
            >>> (middle,) = key_slices(head, mask, (), mask.data)
            >>> middle.name(language_of("en"))
            'Axial slice 4 of 6'
        """
        if not self.plane:
            return language["picture"]
        plane = language[self.plane]
        text = language.say("slice_of", plane=plane, number=self.place, count=self.slices)
        return text[0].upper() + text[1:]


def length_unit(image: Volume) -> str:
    """Return the unit of lengths: mm, or pixels of a picture that does not tell their size.

    Example:
        >>> length_unit(Volume(np.ones((4, 5)), np.eye(3)))
        'px'
    """
    flat = image.spatial_dims == 2
    return "px" if flat and np.allclose(image.affine[:2, :2], np.eye(2)) else "mm"


def pieces_of(mask: Volume, labels: Iterable[LabelMeasures]) -> Int32[np.ndarray, "*spatial"]:
    """Number the voxels of every lesion as they were measured, the largest of a label first.

    Example:
        >>> mask = Volume(np.array([[1, 0, 1, 1, 2]]), np.eye(3))
        >>> found = [LabelMeasures(str(n), n, 1.0, "pixels", ()) for n in (1, 2)]
        >>> pieces_of(mask, found).tolist()
        [[2, 0, 1, 1, 1]]
    """
    pieces = np.zeros(mask.data.shape, np.int32)
    for label in labels:
        where = mask.data == label.value
        box = box_of(where)
        numbers, count = label_components(where[box])
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
        rank = np.zeros(count + 1, np.int32)
        rank[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
        pieces[box] += rank[numbers]  # no other label has these voxels
    return pieces


def key_slices(
    image: Volume,
    mask: Volume,
    labels: Sequence[LabelMeasures],
    pieces: Int32[np.ndarray, "*spatial"],
    *,
    most: int = 6,
) -> list[KeySlice]:
    """Choose the slices on which the diameters of the largest lesions were measured.

    Args:
        image: Volume of rank 2 or 3; its first channel is shown.
        mask: Label map on its grid.
        labels: The lesions of the mask.
        pieces: As :func:`pieces_of` gives them.
        most: Number of slices.

    Returns:
        That of the largest lesion first; the middle slice where there is no lesion.
    """
    image = image.with_data(image.channels_last[..., 0])
    lesions = {LesionId(label.value, le.number): le for label in labels for le in label.lesions}
    largest = sorted(lesions, key=lambda lesion: -lesions[lesion].voxels)
    ras, values, numbers = map(reorient, (image, mask, mask.with_data(pieces)))
    window = grey_window(ras.data, numbers.data > 0)
    large = frozenset(largest[:_LARGE])
    whole = _Whole(image, ras, values.data, numbers.data, window, large)
    places = {lesion: _place(image, ras, lesions[lesion]) for lesion in largest}
    found = []
    for place in list(dict.fromkeys(places.values()))[:most] or [_middle(ras)]:
        measured = {lesion: lesions[lesion] for lesion in largest if places[lesion] == place}
        found.append(_key_slice(whole, place, measured))
    return found


def on_edge(
    mask: Integer[np.ndarray, "*spatial"], pieces: Int32[np.ndarray, "*spatial"]
) -> list[LesionId]:
    """Return the lesions that reach the edge of the image.

    Along an axis of one voxel, every voxel is on the edge, and none counts.

    Args:
        mask: Label map.
        pieces: As :func:`pieces_of` gives them.

    Example:
        >>> on_edge(np.array([[0, 0, 0], [0, 4, 0], [0, 0, 4]]), np.diag([0, 2, 1]).astype("int32"))
        [LesionId(value=4, number=1)]
    """
    found: set[LesionId] = set()
    for axis, size in enumerate(pieces.shape):
        for end in (0, -1) if size > 1 else ():
            found |= set(_lesions_of(mask.take(end, axis), pieces.take(end, axis)))
    return sorted(found)


def colour_of(value: int) -> str:
    """Return the colour of a label; six labels have colours of their own."""
    return _COLOURS[(value - 1) % len(_COLOURS)]


def size_in_inches(shape: tuple[int, int], aspect: float, most: float) -> tuple[float, float]:
    """Return width and height of a picture whose longer side has ``most`` inches."""
    rows, columns = shape[0] * aspect, float(shape[1])
    scale = most / max(rows, columns)
    return max(columns * scale, most / 8), max(rows * scale, most / 8)


def draw_whole(axes: "Axes", key: KeySlice, language: Language) -> None:
    """Draw a whole slice: outlines, numbers of lesions, diameters, scale bar, sides."""
    _draw_base(axes, key.view, key.marks, language)
    draw_bar(axes, key.view.image.shape, key.width, key.unit, language)
    for mark in key.marks:
        _draw_lines(axes, mark.lines, width=0.9)
    largest = sorted(key.marks, key=lambda mark: -int(mark.mask.sum()))[:_NUMBERED]
    for mark in largest:
        _draw_number(axes, mark)


def draw_detail(
    axes: "Axes",
    key: KeySlice,
    mark: Mark,
    told: Sequence[str],
    language: Language,
    *,
    inches: float,
) -> None:
    """Draw the surroundings of a lesion over some inches.

    Args:
        axes: Where to draw.
        key: The slice.
        mark: The lesion.
        told: What to write at the top: the first of these that can be read in one line.
        language: Of the letters and the scale.
        inches: Width of the picture.
    """
    box = _around(mark.mask, key)
    rows, columns = box
    first = (columns.start, rows.start)
    view = View(
        key.view.image[box], None, None, key.view.aspect, key.view.window, key.view.edges[:2], ""
    )
    marks = [Mark(m.lesion, m.mask[box]) for m in key.marks if m.mask[box].any()]
    _draw_base(axes, view, marks, language)
    draw_bar(axes, view.image.shape, key.width, key.unit, language)
    _draw_lines(axes, [_moved(line, first) for line in mark.lines], width=1.0)
    sizes = {text: min(8.0, 0.94 * inches / (len(text) * _LETTER)) for text in told}
    for text in [text for text, size in sizes.items() if size > _SMALLEST][:1]:
        write_on(axes, 0.03, 0.97, text, size=sizes[text], va="top", transform=axes.transAxes)


def detail_shape(key: KeySlice, mark: Mark) -> tuple[int, int]:
    """Return rows and columns of what :func:`draw_detail` draws."""
    rows, columns = _around(mark.mask, key)
    return rows.stop - rows.start, columns.stop - columns.start


class Place(NamedTuple):
    """Where to cut a volume in RAS order; a picture is whole, its axis -1."""

    axis: int
    number: int


def _lesions_of(
    values: Integer[np.ndarray, "*pixels"], numbers: Int32[np.ndarray, "*pixels"]
) -> list[LesionId]:
    """Return the lesions that have a pixel among some, those of one label by number."""
    there = numbers > 0
    found = np.unique(np.stack([values[there], numbers[there]]), axis=1)
    return [LesionId(value, number) for value, number in found.T.tolist()]


def _middle(ras: Volume) -> Place:
    if ras.spatial_dims == 2:
        return Place(-1, 0)
    axis = slice_axis(ras)
    return Place(axis, ras.spatial_shape[axis] // 2)


def _place(image: Volume, ras: Volume, lesion: LesionMeasures) -> Place:
    """Return the axial slice on which the diameters of a lesion were measured; a single slice."""
    if ras.spatial_dims == 2:
        return Place(-1, 0)
    ends = _turned(image, ras, (*lesion.longest.ends, *lesion.perpendicular.ends))
    axis = slice_axis(ras) if 1 in ras.spatial_shape else 2
    index = int(np.clip(np.rint(ends[:, axis].mean()), 0, ras.spatial_shape[axis] - 1))
    return Place(axis, index)


def _turned(
    image: Volume, ras: Volume, points: Sequence[Sequence[float]]
) -> Float64[np.ndarray, "point axis"]:
    """Return voxel indices of the image as indices of its RAS order."""
    turn = np.linalg.solve(ras.affine, image.affine)
    return np.asarray(points, np.float64) @ turn[:-1, :-1].T + turn[:-1, -1]


def cut(data: Shaped[np.ndarray, "*spatial"], place: Place) -> Shaped[np.ndarray, "row column"]:
    """Cut out a slice: the right or the front at its left, the head or the front at its top."""
    return data if place.axis < 0 else data.take(place.number, place.axis)[::-1, ::-1].T


@dataclass(frozen=True, eq=False)
class _Whole:
    """An image as it is stored and in RAS order, labels and lesions in RAS order, grey values."""

    image: Volume
    ras: Volume
    values: Integer[np.ndarray, "*spatial"]
    numbers: Int32[np.ndarray, "*spatial"]
    window: tuple[float, float]
    large: Collection[LesionId]


def _key_slice(
    whole: _Whole, place: Place, measured: Mapping[LesionId, LesionMeasures]
) -> KeySlice:
    grey = np.nan_to_num(cut(whole.ras.data, place).astype(np.float32), nan=whole.window[0])
    values, numbers = cut(whole.values, place), cut(whole.numbers, place)
    box = _content(grey, numbers > 0, whole.window)
    marks = []
    for lesion in _lesions_of(values, numbers):
        mask = (values[box] == lesion.value) & (numbers[box] == lesion.number)
        lines = _lines(whole, measured[lesion], place, box) if lesion in measured else ()
        marks.append(Mark(lesion, mask, lines, lesion in whole.large))
    edges, down, across = sides_at(whole.ras, place)
    view = View(grey[box], None, None, down / across, whole.window, edges, "")
    plane, number, count = _named_place(whole.image, place)
    unit = length_unit(whole.image)
    return KeySlice(view, plane, number, count, across, unit, tuple(marks))


def _lines(
    whole: _Whole, lesion: LesionMeasures, place: Place, box: tuple[slice, slice]
) -> tuple[Line, ...]:
    """Return the diameters of a lesion in a slice cut to a box."""
    found = []
    for diameter in (lesion.longest, lesion.perpendicular):
        ends = _turned(whole.image, whole.ras, diameter.ends)
        if place.axis < 0:
            points = ends[:, ::-1]
        else:
            axes = [axis for axis in range(3) if axis != place.axis]
            points = np.array(whole.ras.spatial_shape)[axes] - 1 - ends[:, axes]
        one, other = points.tolist()
        line = (one[0], one[1]), (other[0], other[1])
        found.append(_moved(line, (box[1].start, box[0].start)))
    return tuple(found)


def sides_at(ras: Volume, place: Place) -> tuple[str, float, float]:
    """Return the letters of a slice's edges, and the height and the width of its pixels."""
    if place.axis < 0:
        return "", ras.spacing[0], ras.spacing[1]
    one, two = (axis for axis in range(3) if axis != place.axis)
    edges = _ENDS[2 * one : 2 * one + 2] + _ENDS[2 * two : 2 * two + 2]
    return edges, ras.spacing[two], ras.spacing[one]


def _named_place(image: Volume, place: Place) -> tuple[str, int, int]:
    """Return the plane of a slice, its number from 1 on, and the number of slices."""
    if place.axis < 0:
        return "", 1, 1
    plane, _, number, _, count = slice_caption(image, place.axis, place.number).split()
    return plane, int(number), int(count)


def _content(
    grey: Float[np.ndarray, "row column"],
    lesions: Bool[np.ndarray, "row column"],
    window: tuple[float, float],
) -> tuple[slice, slice]:
    """Return the part of a slice that is worth seeing, and a narrow frame around it."""
    bright = grey > 0.9 * window[0] + 0.1 * window[1]
    rows, columns = box_of(bright | lesions)
    return _framed(rows, grey.shape[0]), _framed(columns, grey.shape[1])


def _framed(place: slice, size: int) -> slice:
    if place.stop == place.start:
        return slice(0, size)
    frame = 2 + (place.stop - place.start) // 16
    return slice(max(0, place.start - frame), min(size, place.stop + frame))


def _around(mask: Bool[np.ndarray, "row column"], key: KeySlice) -> tuple[slice, slice]:
    """Return a square, in mm, around a lesion and inside the slice where that is large enough."""
    rows, columns = box_of(mask)
    down = key.width * key.view.aspect
    lengths = (rows.stop - rows.start) * down, (columns.stop - columns.start) * key.width
    side = max(_LEAST[key.unit], _FRAME * max(lengths))
    return (
        centred(rows, round(side / down), mask.shape[0]),
        centred(columns, round(side / key.width), mask.shape[1]),
    )


def centred(place: slice, length: int, size: int) -> slice:
    """Return so many places around some, moved into what there is."""
    length = min(max(length, place.stop - place.start), size)
    start = min(max((place.start + place.stop - length) // 2, 0), size - length)
    return slice(start, start + length)


def _moved(line: Line, first: tuple[int, int]) -> Line:
    (x0, y0), (x1, y1) = line
    return (x0 - first[0], y0 - first[1]), (x1 - first[0], y1 - first[1])


def _draw_base(axes: "Axes", view: View, marks: Sequence[Mark], language: Language) -> None:
    draw_panel(axes, replace(view, edges=local_sides(view.edges, language)), "", [])
    for value in sorted({mark.lesion.value for mark in marks}):
        masks = [mark.mask for mark in marks if mark.lesion.value == value]
        draw_outline(axes, np.logical_or.reduce(masks), colour_of(value))


def local_sides(edges: str, language: Language) -> str:
    """Return the letters of the patient's sides in a language.

    Example:
        >>> from segjax.report.patient_texts import language_of
        >>> local_sides("RLAP", language_of("fr"))
        'DGAP'
    """
    letters = dict(zip(_ENDS, language["sides"], strict=True))
    return "".join(letters[letter] for letter in edges)


def _draw_lines(axes: "Axes", lines: Iterable[Line], *, width: float) -> None:
    from matplotlib.patheffects import withStroke

    for line, style in zip(lines, ("-", (0, (2.2, 1.4))), strict=False):
        (x0, y0), (x1, y1) = line
        axes.plot(
            [x0, x1],
            [y0, y1],
            color=_LINE,
            lw=width,
            ls=style,
            solid_capstyle="butt",
            path_effects=[withStroke(linewidth=width + 0.6, foreground="black")],
        )


def _draw_number(axes: "Axes", mark: Mark) -> None:
    """Write the number of a lesion at its upper right, or upper left where that is the edge."""
    rows, columns = np.nonzero(mark.mask)
    left = columns.max() > 0.94 * mark.mask.shape[1]
    corner = int(np.argmax(-columns - rows if left else columns - rows))
    x, y = float(columns[corner]) + (-1.5 if left else 1.5), float(rows[corner]) - 1
    side = "right" if left else "left"
    write_on(axes, x, y, str(mark.lesion.number), size=6.5, ha=side)


def draw_bar(
    axes: "Axes", shape: tuple[int, int], width: float, unit: str, language: Language
) -> None:
    """Draw a bar of a round length at the lower right.

    Args:
        axes: Of a picture.
        shape: Rows and columns of the picture.
        width: Of a pixel, in the unit.
        unit: ``mm`` or ``px``.
        language: Of the text.
    """
    from matplotlib.patheffects import withStroke

    field = shape[1] * width
    length = max((bar for bar in _BARS if bar <= 0.3 * field), default=_BARS[0])
    end = 0.96
    start = end - length / field
    axes.plot(
        [start, end],
        [0.045, 0.045],
        transform=axes.transAxes,
        color="white",
        lw=2,
        solid_capstyle="butt",
        path_effects=[withStroke(linewidth=3, foreground="black")],
    )
    axes.annotate(
        language.unit(str(length), unit),
        (end, 0.045),
        (0, 2.5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color="white",
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )


def write_on(axes: "Axes", x: float, y: float, text: str, *, size: float, **more: Any) -> None:
    """Write white letters with a dark edge on a picture, as matplotlib's ``text`` takes them."""
    from matplotlib.patheffects import withStroke

    axes.text(
        x,
        y,
        text,
        fontsize=size,
        color="white",
        parse_math=False,
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
        **more,
    )
