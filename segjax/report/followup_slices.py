"""Slices of a follow-up's page: each change before, after and as a difference; an overview."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer, Shaped

from segjax.components import box_of
from segjax.evaluate.changes import LesionChange
from segjax.evaluate.followup import Comparison, FollowUp, Placed
from segjax.grid import reorient
from segjax.report.patient_slices import (
    Place,
    centred,
    cut,
    draw_bar,
    local_sides,
    sides_at,
    write_on,
)
from segjax.report.patient_texts import Language
from segjax.report.style import FALSE_POSITIVE, LABELS, draw_outline, draw_panel
from segjax.report.views import View, grey_window, slice_caption
from segjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "AFTER",
    "BEFORE",
    "COLOURS",
    "PANELS",
    "SIGNS",
    "ChangeCut",
    "Scene",
    "Tile",
    "change_cuts",
    "chequers",
    "draw_change",
    "draw_chequer",
    "draw_tile",
    "frame_shape",
    "mosaic",
    "scene_of",
    "slice_name",
]

COLOURS = {
    "new": "#D55E00",
    "enlarged": "#E69F00",
    "stable": "#009E73",
    "shrunk": "#56B4E9",
    "gone": "#0072B2",
}
"""Of each kind of change; of those that colour-blind people tell apart."""
SIGNS = {"new": "+", "enlarged": "▲", "stable": "=", "shrunk": "▼", "gone": "−"}
"""Of each kind of change, so that colours do not speak alone."""
BEFORE, AFTER = LABELS[0], FALSE_POSITIVE
"""Colours of the outlines of both visits."""
PANELS = ("before", "after", "difference")
"""What is drawn of each change, in the order of the page."""

_AXIAL = Place(2, 0)
_LEAST, _FRAME = 56.0, 2.2  # side of a panel in mm at least, and over that of the lesion
_REACH = (4.0, 12.0)  # least and most of the difference that is black or white
_SQUARES = 7  # of a chequered slice's longer side
_LETTERS = 26  # heights of letters that a slice is wide
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn of two visits, on the half-way grid in RAS order.

    Attributes:
        grid: A volume of the half-way grid as it is stored.
        ras: The same in RAS order; the map of the changes' numbers.
        images: Grey values of the earlier and the later visit; None without images.
        windows: Grey values of black and white of each.
        masks: Label maps of both; without voxels where a visit has none.
        difference: Of the images; None where they are not compared.
        reach: Difference that is white.
        box: What pictures of whole slices have to show.
        changes: The changes, the largest first.
    """

    grid: Volume
    ras: Volume
    images: tuple[Float32[np.ndarray, "x y z"], Float32[np.ndarray, "x y z"]] | None
    windows: tuple[tuple[float, float], tuple[float, float]]
    masks: tuple[Integer[np.ndarray, "x y z"], Integer[np.ndarray, "x y z"]]
    difference: Float32[np.ndarray, "x y z"] | None
    reach: float
    box: tuple[slice, ...]
    changes: tuple[LesionChange, ...]

    @property
    def numbers(self) -> Int32[np.ndarray, "x y z"]:
        """Map of the changes' numbers in RAS order."""
        return self.ras.data

    @property
    def third(self) -> str:
        """What the third panel shows, as the texts name it."""
        return "change_of_outlines" if self.difference is None else "difference"


class ChangeCut(NamedTuple):
    """Where a change is shown.

    Attributes:
        change: Which it is.
        place: The slice.
        box: Rows and columns of the slice.
    """

    change: LesionChange
    place: Place
    box: tuple[slice, slice]


class Tile(NamedTuple):
    """A slice of the overview.

    Attributes:
        place: The slice.
        box: Rows and columns of the slice.
        changes: Those that it shows, but for stable lesions.
    """

    place: Place
    box: tuple[slice, slice]
    changes: tuple[LesionChange, ...]


def scene_of(followup: FollowUp, comparison: Comparison) -> Scene:
    """Collect what is drawn of two visits.

    Both images are shown with one window in units of what their brains scatter, unless their
    intensities cannot be compared: then each has its own.

    Args:
        followup: The visits.
        comparison: Two of them that follow each other.
    """
    visits = followup.visits[comparison.first], followup.visits[comparison.second]
    ras = reorient(comparison.numbers)
    masks = _mask_of(visits[0], ras), _mask_of(visits[1], ras)
    marked = (masks[0] > 0) | (masks[1] > 0) | (ras.data > 0)
    brain = None if followup.brain is None else reorient(followup.brain).data > 0
    compared = comparison.difference
    difference = None if compared is None else _data_of(compared.difference)
    images, windows, inside = None, ((0.0, 1.0), (0.0, 1.0)), marked
    if visits[0].image is not None and visits[1].image is not None:
        images = _data_of(visits[0].image), _data_of(visits[1].image)
        alike = compared is None or compared.reliable
        windows = _windows(images, brain, marked, alike=alike)
        bright = images[1] > 0.9 * windows[1][0] + 0.1 * windows[1][1]
        inside = marked | (bright if brain is None or not brain.any() else brain)
    return Scene(
        comparison.numbers,
        ras,
        images,
        windows,
        masks,
        difference,
        _reach_of(difference, ras.data > 0),
        box_of(inside) if inside.any() else tuple(slice(0, size) for size in ras.spatial_shape),
        comparison.changes,
    )


def change_cuts(scene: Scene, changes: Sequence[LesionChange]) -> list[ChangeCut]:
    """Choose for each change the axial slice on which most of it lies, and what is shown around.

    Args:
        scene: Two visits.
        changes: Some of theirs.

    Returns:
        A place for each, in their order; squares in mm, within the slice.
    """
    voxels = _voxels_by_number(scene.numbers)
    return [_cut_of(scene, change, voxels.get(change.number)) for change in changes]


def mosaic(scene: Scene, most: int = 9) -> list[Tile]:
    """Choose axial slices that show most of the changes, each once at least where that is possible.

    Args:
        scene: Two visits.
        most: Number of slices.

    Returns:
        From the feet to the head; three slices that part the brain evenly without a change.
    """
    changed = {c.number: c for c in scene.changes if c.kind != "stable"}
    voxels = _voxels_by_number(scene.numbers)
    there = [n for n in changed if n in voxels]
    box = _frame(scene, 2)
    if not there:
        along = scene.box[2]
        last = along.stop - 1 - along.start
        middle = [along.start + round(share * last) for share in (0.25, 0.5, 0.75)]
        return [Tile(Place(2, number), box, ()) for number in dict.fromkeys(middle)]
    counts = np.zeros((len(there), scene.numbers.shape[2]))
    for row, number in enumerate(there):
        counts[row] = np.bincount(voxels[number][2], minlength=scene.numbers.shape[2])
    return [
        Tile(
            Place(2, number),
            box,
            tuple(changed[n] for row, n in enumerate(there) if counts[row, number]),
        )
        for number in sorted(_cover(counts, most))
    ]


def chequers(scene: Scene) -> list[tuple[Place, tuple[slice, slice]]]:
    """Return the middle slices of the brain along each axis, and what is shown of them."""
    middle = [(along.start + along.stop) // 2 for along in scene.box]
    return [(Place(axis, middle[axis]), _frame(scene, axis)) for axis in (2, 1, 0)]


def frame_shape(
    scene: Scene, place: Place, box: tuple[slice, slice]
) -> tuple[tuple[int, int], float]:
    """Return rows and columns of a part of a slice, and height of its pixels over width."""
    _, down, across = sides_at(scene.ras, place)
    rows, columns = (side.stop - side.start for side in box)
    return (rows, columns), down / across


def slice_name(scene: Scene, place: Place, language: Language) -> str:
    """Say which slice of the half-way grid it is, as its files are stored."""
    plane, _, number, _, count = slice_caption(scene.grid, place.axis, place.number).split()
    text = language.say("slice_of", plane=language[plane], number=number, count=count)
    return text[0].upper() + text[1:]


def draw_change(
    axes: "Axes", scene: Scene, what: ChangeCut, panel: str, language: Language
) -> None:
    """Draw one of :data:`PANELS` of a change.

    Args:
        axes: Where to draw.
        scene: Two visits.
        what: Where the change lies.
        panel: Which panel.
        language: Of letters and scale.
    """
    _draw(axes, scene, what.place, what.box, panel, language)
    before, after = (_at(mask == what.change.value, what) for mask in scene.masks)
    own = _at(scene.numbers == what.change.number, what)
    if panel == "before":
        _draw_lines(axes, before, own, BEFORE, "solid")
    else:
        _draw_lines(axes, before, own, BEFORE, "dotted")
        _draw_lines(axes, after, own, AFTER, "solid")
    if panel == "difference" and scene.difference is None:
        _fill(axes, own & after & ~before, COLOURS["new"])
        _fill(axes, own & before & ~after, COLOURS["gone"])
    if what.change.evidence == "images" and not (own & (before | after)).any():
        draw_outline(axes, own, COLOURS[what.change.kind], width=1.0)


def draw_tile(axes: "Axes", scene: Scene, tile: Tile, language: Language) -> None:
    """Draw a slice of the later visit with the changes on it, their numbers and signs."""
    _draw(axes, scene, tile.place, tile.box, "after", language)
    numbers = cut(scene.numbers, tile.place)[tile.box]
    for change in tile.changes:
        own = numbers == change.number
        _fill(axes, own, COLOURS[change.kind], opacity=0.35)
        draw_outline(axes, own, COLOURS[change.kind], width=1.0)
    boxes: list[tuple[float, float, float, float]] = []
    for change in tile.changes:
        text = f"{change.number}\N{NO-BREAK SPACE}{SIGNS[change.kind]}"
        _number(axes, numbers == change.number, text, boxes)


def draw_chequer(
    axes: "Axes", scene: Scene, place: Place, box: tuple[slice, slice], language: Language
) -> None:
    """Draw squares of one visit and of the other in turn; a scene without images has none."""
    if scene.images is None:
        return
    one, other = (
        np.clip((cut(image, place)[box] - low) / (high - low), 0, 1)
        for image, (low, high) in zip(scene.images, scene.windows, strict=True)
    )
    edges, down, across = sides_at(scene.ras, place)
    heights, widths = (np.arange(one.shape[0]) * down, np.arange(one.shape[1]) * across)
    side = max(heights[-1], widths[-1], across) / _SQUARES
    odd = (heights[:, None] // side + widths[None] // side) % 2 > 0
    _show(axes, np.where(odd, other, one), (0.0, 1.0), down / across, local_sides(edges, language))
    draw_bar(axes, one.shape, across, "mm", language)


def _data_of(volume: Volume) -> Float32[np.ndarray, "x y z"]:
    data = reorient(volume.with_data(volume.channels_last[..., 0])).data
    return np.nan_to_num(data.astype(np.float32, copy=False), posinf=0.0, neginf=0.0)


def _mask_of(visit: Placed, ras: Volume) -> Integer[np.ndarray, "x y z"]:
    if visit.mask is None:
        return np.zeros(ras.spatial_shape, np.uint8)
    return reorient(visit.mask).data


def _windows(
    images: tuple[Float32[np.ndarray, "x y z"], Float32[np.ndarray, "x y z"]],
    brain: Bool[np.ndarray, "x y z"] | None,
    marked: Bool[np.ndarray, "x y z"],
    *,
    alike: bool,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return black and white of each image, the same in units of what their tissue scatters."""
    found, scales = [], []
    for image in images:
        inside = image != 0 if brain is None or not brain.any() else brain
        tissue = image[inside] if inside.any() else image.ravel()
        low, middle, high = np.percentile(tissue, (25, 50, 75)).tolist()
        scales.append((middle, max(high - low, _SAME)))
        found.append(grey_window(image, marked))
    if not alike:
        return found[0], found[1]
    low = min((w[0] - m) / s for w, (m, s) in zip(found, scales, strict=True))
    high = max((w[1] - m) / s for w, (m, s) in zip(found, scales, strict=True))
    one, other = ((m + low * s, m + high * s) for m, s in scales)
    return one, other


def _reach_of(
    difference: Float32[np.ndarray, "x y z"] | None, changed: Bool[np.ndarray, "x y z"]
) -> float:
    if difference is None or not changed.any():
        return _REACH[0]
    return float(np.clip(np.ceil(np.percentile(np.abs(difference[changed]), 90)), *_REACH))


def _voxels_by_number(
    numbers: Int32[np.ndarray, "x y z"],
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the indices of the voxels of each number."""
    where = np.nonzero(numbers)
    own = numbers[where]
    order = np.argsort(own, kind="stable")
    x, y, z = (axis[order] for axis in where)
    values, starts = np.unique(own[order], return_index=True)
    bounds = pairwise([*starts.tolist(), len(order)])
    return {
        number: (x[i:j], y[i:j], z[i:j])
        for number, (i, j) in zip(values.tolist(), bounds, strict=True)
    }


def _cut_of(scene: Scene, change: LesionChange, voxels: tuple[np.ndarray, ...] | None) -> ChangeCut:
    """Cut where most voxels changed, of those the slice with most of the lesion."""
    if voxels is None:
        turn = np.linalg.solve(scene.ras.affine, np.array([*change.centre_ras, 1.0]))
        middle = np.clip(np.rint(turn[:3]), 0, np.array(scene.ras.spatial_shape) - 1)
        voxels = tuple(np.array([int(n)]) for n in middle)
    before, after = (mask[tuple(voxels)] == change.value for mask in scene.masks)
    size = scene.ras.spatial_shape[2]
    moved = np.bincount(voxels[2], (before != after).astype(float), minlength=size)
    number = int(np.lexsort((np.bincount(voxels[2], minlength=size), moved))[-1])
    place = Place(2, number)
    here = np.zeros((*scene.ras.spatial_shape[:2], 1), bool)
    on = voxels[2] == number
    here[voxels[0][on], voxels[1][on], 0] = True
    _, down, across = sides_at(scene.ras, place)
    rows, columns = box_of(cut(here, _AXIAL))
    lengths = (rows.stop - rows.start) * down, (columns.stop - columns.start) * across
    side = max(_LEAST, _FRAME * max(lengths))
    shape = here.shape[1], here.shape[0]
    box = (
        centred(rows, round(side / down), shape[0]),
        centred(columns, round(side / across), shape[1]),
    )
    return ChangeCut(change, place, box)


def _cover(counts: Shaped[np.ndarray, "change slice"], most: int) -> list[int]:
    """Take slices, each time the one on which most changes are seen well that none shows yet.

    Seen well is a change on a slice with half the voxels or more of the one with most of it.
    """
    best = counts.max(axis=1, keepdims=True)
    well = counts >= best / 2
    chosen: list[int] = []
    while len(chosen) < most and well.any():
        gain = well.sum(axis=0) + (well * counts / best).sum(axis=0) / (len(counts) + 1)
        chosen.append(int(gain.argmax()))
        well[well[:, chosen[-1]]] = False
    return chosen


def _frame(scene: Scene, axis: int) -> tuple[slice, slice]:
    """Return rows and columns of slices that show what they have to, with a narrow frame."""
    sides = []
    for each, (along, size) in enumerate(zip(scene.box, scene.ras.spatial_shape, strict=True)):
        start, stop = size - along.stop, size - along.start  # counted from the other end
        frame = 2 + (stop - start) // 20
        if each != axis:
            sides.append(slice(max(0, start - frame), min(size, stop + frame)))
    return sides[1], sides[0]


def _at(data: Shaped[np.ndarray, "x y z"], what: ChangeCut) -> Shaped[np.ndarray, "row column"]:
    return cut(data, what.place)[what.box]


def _draw(
    axes: "Axes",
    scene: Scene,
    place: Place,
    box: tuple[slice, slice],
    panel: str,
    language: Language,
) -> None:
    """Draw the grey values of a panel, sides and scale."""
    edges, down, across = sides_at(scene.ras, place)
    if panel == "difference" and scene.difference is not None:
        grey, window = scene.difference, (-scene.reach, scene.reach)
    elif scene.images is None:
        grey, window = np.zeros((1, 1, 1), np.float32), (0.0, 1.0)
    else:
        visit = 0 if panel == "before" else 1
        grey, window = scene.images[visit], scene.windows[visit]
    if scene.images is None and grey.size == 1:
        shape = tuple(side.stop - side.start for side in box)
        pixels = np.full(shape, 0.12, np.float32)
    else:
        pixels = cut(grey, place)[box]
    _show(axes, pixels, window, down / across, local_sides(edges, language))
    draw_bar(axes, pixels.shape, across, "mm", language)


def _show(
    axes: "Axes",
    pixels: Shaped[np.ndarray, "row column"],
    window: tuple[float, float],
    aspect: float,
    edges: str,
) -> None:
    draw_panel(axes, View(pixels, None, None, aspect, window, edges, ""), "", [])


def _draw_lines(
    axes: "Axes",
    mask: Bool[np.ndarray, "row column"],
    own: Bool[np.ndarray, "row column"],
    colour: str,
    line: str,
) -> None:
    """Outline the lesion itself, and more thinly those around it."""
    if (mask & ~own).any():
        draw_outline(axes, mask & ~own, colour, width=0.4, line=line)
    if (mask & own).any():
        draw_outline(axes, mask & own, colour, width=1.1, line=line)


def _fill(
    axes: "Axes", mask: Bool[np.ndarray, "row column"], colour: str, opacity: float = 0.6
) -> None:
    from matplotlib.colors import to_rgba

    fill = np.zeros((*mask.shape, 4), np.float32)
    fill[mask] = to_rgba(colour, opacity)
    axes.imshow(fill, aspect=axes.get_aspect(), interpolation="nearest")


def _number(
    axes: "Axes",
    own: Bool[np.ndarray, "row column"],
    text: str,
    boxes: list[tuple[float, float, float, float]],
) -> None:
    """Write a number beside a lesion where no other stands yet; nowhere where all is taken."""
    rows, columns = np.nonzero(own)
    if not rows.size:
        return
    letter = own.shape[1] / _LETTERS
    width, height = 0.62 * letter * len(text), letter
    left, right = float(columns.min()), float(columns.max())
    top, bottom = float(rows.min()), float(rows.max())
    corners = [(right + 1, top - height), (right + 1, bottom), (left - 1 - width, top - height)]
    for x, y in [*corners, (left - 1 - width, bottom)]:
        inside = min(x, y) >= 0 and x + width < own.shape[1] and y + height < own.shape[0]
        free = all(
            x + width < x0 or x1 < x or y + height < y0 or y1 < y for x0, y0, x1, y1 in boxes
        )
        if inside and free:
            boxes.append((x, y, x + width, y + height))
            write_on(axes, x, y + height / 2, text, size=6.5, ha="left", va="center")
            return
