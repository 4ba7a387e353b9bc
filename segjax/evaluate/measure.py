"""What a mask holds, in the figures of a report: sizes, diameters and places of lesions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from segjax.components import box_of, label_components
from segjax.data.io.formats import check_same_grid
from segjax.errors import InputError
from segjax.evaluate.diameters import (
    Diameter,
    axial_axis,
    axial_diameters,
    feret_diameter,
    outer_points,
    slice_distance,
)
from segjax.evaluate.surfels import surface_area
from segjax.volume import Volume

if TYPE_CHECKING:
    from segjax.evaluate.zones import Zones

__all__ = ["Diameter", "LabelMeasures", "LesionMeasures", "measure_mask"]

_AROUND = 3.0  # mm that the tissue around a lesion reaches
_SMALL = 4096  # voxels of a box in which shapes are known again
_COMPARED = 1 << 22  # places that are compared at once

Places = Int[np.ndarray, "voxel rank"]


@dataclass(frozen=True)
class LesionMeasures:
    """A lesion: a connected component of a label, all voxels that touch.

    Attributes:
        number: 1 is the largest one of its label.
        voxels: Number of its voxels.
        size: In mm³, voxels times ``|det affine|``; in mm² in a picture.
        longest: Longest diameter in one axial slice; in the picture in 2D.
        perpendicular: Longest diameter at right angles to it in that slice.
        third_mm: Extent across the axial slices: their number times their distance; None in 2D.
        feret: Longest diameter of all.
        box_mm: Extents along the patient's right, front and head, between centres of faces; rows
            and columns in 2D.
        centre_ras: Mean of its voxels' places, in mm to the right, front and head.
        centre_lps: The same to the left, back and head, as DICOM counts.
        centre_index: The same as a voxel index.
        surface: In mm²; perimeter in mm in 2D.
        sphericity: ``(36 π V²)^(1/3) / A``; in 2D circularity, ``4 π A / P²``. A ball has 0.92, as
            :func:`segjax.evaluate.surfels.surface_area` is 9 % too large; lesions of a few voxels,
            whose corners it cuts off, would have more than 1 and have 1.
        mean: Of the image, where one is given, over voxels that are finite.
        contrast: Mean minus that of the tissue around: of all voxels that belong to no label and,
            where a brain is given, to the brain, with centres at most 3 mm (or the longest edge of
            a voxel) from one of the lesion's. None without an image, or without such voxels.
        edge_mm: Shortest distance from a voxel's centre to that of a voxel at the brain's edge; 0
            where the lesion touches or crosses the edge. None without a brain, or one without edge.
        zone: As :func:`segjax.evaluate.zones.zone_of` names it; None without zones.
        means: Of each map that was given, its mean over the voxels.
    """

    number: int
    voxels: int
    size: float
    longest: Diameter
    perpendicular: Diameter
    third_mm: float | None
    feret: Diameter
    box_mm: tuple[float, ...]
    centre_ras: tuple[float, ...]
    centre_lps: tuple[float, ...]
    centre_index: tuple[float, ...]
    surface: float | None = None
    sphericity: float | None = None
    mean: float | None = None
    contrast: float | None = None
    edge_mm: float | None = None
    zone: str | None = None
    means: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelMeasures:
    """What a mask holds of a label.

    Attributes:
        label: Its name.
        value: Its value in the mask.
        size: In ml; in pixels in a picture.
        unit: ``"ml"`` or ``"pixels"``.
        lesions: The largest first.
        means: Of each map that was given, its mean over the label's voxels; empty without any.
    """

    label: str
    value: int
    size: float
    unit: str
    lesions: tuple[LesionMeasures, ...]
    means: Mapping[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """Size of the largest lesion, in the same unit; 0 where there is none."""
        if not self.lesions:
            return 0.0
        largest = self.lesions[0]
        return float(largest.voxels) if self.unit == "pixels" else largest.size / 1e3


def measure_mask(
    mask: Volume,
    *,
    labels: Sequence[str] = (),
    image: Volume | None = None,
    brain: Volume | None = None,
    zones: "Zones | None" = None,
    maps: Mapping[str, Shaped[np.ndarray, "*spatial map"]] | None = None,
) -> tuple[LabelMeasures, ...]:
    """Measure each label of a mask but the background, and each of its lesions.

    Args:
        mask: Values 0, 1, 2, … ``(*spatial)``.
        labels: Their names, the background first; without any, the values that the mask holds are
            named by their numbers, and label 1 where it holds none.
        image: What to measure intensities in, of its first channel.
        brain: Mask of the brain, or an image of the brain alone: what is not 0 is brain, and so are
            holes in it. Where the image ends, the brain has no edge.
        zones: What each lesion lies in.
        maps: What to average over each lesion, by name: one value a voxel, or one a label, the
            background first, where there are as many as labels.

    Returns:
        What the mask holds of each label.

    Raises:
        InputError: The mask holds no whole numbers from 0 up or values without a name; or image,
            brain or zones lie on another grid, or the brain holds no voxel.

    Example:
        >>> mask = Volume(np.array([[1, 1, 0, 0, 1]], np.uint8)[None], np.diag([10, 10, 10, 1.0]))
        >>> (lesions,) = measure_mask(mask, labels=["background", "lesion"])
        >>> lesions.size, len(lesions.lesions), lesions.largest
        (3.0, 2, 2.0)
        >>> largest = lesions.lesions[0]
        >>> largest.size, largest.centre_ras, largest.feret.mm
        (2000.0, (0.0, 0.0, 5.0), 20.0)
    """
    placed = None if zones is None else zones.map
    for other, name in ((image, "the image"), (brain, "the brain"), (placed, "the zones")):
        if other is not None:
            check_same_grid(mask, other, ("the mask", name))
    if brain is not None and not brain.data.any():
        raise InputError("the brain: holds no voxel that is not 0; give a mask of the brain")
    surroundings = _Surroundings(mask, image, brain, zones)
    names = _names(mask, labels)
    found = []
    for value, label in names.items():
        own = {name: _of_label(map_, value, len(labels)) for name, map_ in (maps or {}).items()}
        found.append(_measure_label(value, label, surroundings, own))
    return tuple(found)


def _names(mask: Volume, labels: Sequence[str]) -> dict[int, str]:
    """Return the names of a mask's values, which are checked."""
    if mask.data.ndim != mask.spatial_dims:
        raise InputError(f"a mask has one value per voxel, not {mask.channels} channels")
    held = np.unique(mask.data[mask.data != 0]).tolist()
    if odd := [value for value in held if value < 0 or value % 1]:
        raise InputError(f"a mask holds whole numbers from 0 up, not {odd[0]:g}")
    values = [int(value) for value in held]
    if not labels:
        return {value: str(value) for value in values or [1]}
    if odd := [value for value in values if value >= len(labels)]:
        raise InputError(
            f"the mask holds the value {odd[0]}, but the labels are {', '.join(labels)}: name all"
        )
    return dict(enumerate(labels[1:], start=1))


def _of_label(
    map_: Shaped[np.ndarray, "*spatial map"], value: int, labels: int
) -> Shaped[np.ndarray, "*spatial"]:
    return map_[..., value if map_.shape[-1] == labels else -1]


def _measure_label(
    value: int,
    label: str,
    surroundings: "_Surroundings",
    maps: Mapping[str, Shaped[np.ndarray, "*spatial"]],
) -> LabelMeasures:
    mask = surroundings.mask
    shapes = _Shapes(mask.affine)
    lesions = tuple(
        surroundings.measure(number, places, shapes, maps)
        for number, places in enumerate(_components(mask.data == value), start=1)
    )
    voxels = sum(lesion.voxels for lesion in lesions)
    flat = mask.spatial_dims == 2
    size = float(voxels) if flat else voxels * mask.voxel_size / 1e3
    means = {
        name: sum(lesion.means[name] * lesion.voxels for lesion in lesions) / voxels
        for name in maps
        if voxels
    }
    return LabelMeasures(label, value, size, "pixels" if flat else "ml", lesions, means)


def _components(where: Bool[np.ndarray, "*spatial"]) -> Iterator[Places]:
    """Yield the places of each component's voxels, the largest first."""
    box = box_of(where)
    numbers, count = label_components(where[box])
    places = np.argwhere(numbers)
    own = numbers[tuple(places.T)] - 1
    places = places[np.argsort(own, kind="stable")] + [edge.start for edge in box]
    sizes = np.bincount(own, minlength=count)
    stops = np.cumsum(sizes)
    for number in np.argsort(-sizes, kind="stable"):
        yield places[stops[number] - sizes[number] : stops[number]]


@dataclass(frozen=True)
class _Shape:
    """What is measured of a lesion wherever it lies; ends of diameters count from its box."""

    longest: Diameter
    perpendicular: Diameter
    third_mm: float | None
    feret: Diameter
    box_mm: tuple[float, ...]
    surface: float

    def placed(self, start: Int[np.ndarray, " rank"]) -> "_Shape":
        """Return the shape with its diameters where the box begins."""
        return replace(
            self,
            longest=_moved(self.longest, start),
            perpendicular=_moved(self.perpendicular, start),
            feret=_moved(self.feret, start),
        )


def _moved(line: Diameter, start: Int[np.ndarray, " rank"]) -> Diameter:
    one, other = (np.array(line.ends) + start).tolist()
    return Diameter(line.mm, (tuple(one), tuple(other)))


@dataclass
class _Shapes:
    """Measures shapes, of small ones each but once: masks of noise hold thousands of a voxel."""

    affine: np.ndarray
    known: dict[tuple[tuple[int, ...], bytes], _Shape] = field(default_factory=dict)

    def of(self, where: Bool[np.ndarray, "*box"]) -> _Shape:
        if where.size > _SMALL:
            return _shape(where, self.affine)
        key = (where.shape, where.tobytes())
        if key not in self.known:
            self.known[key] = _shape(where, self.affine)
        return self.known[key]


def _shape(where: Bool[np.ndarray, "*box"], affine: Float[np.ndarray, "n n"]) -> _Shape:
    longest, perpendicular = axial_diameters(where, affine)
    linear = affine[:-1, :-1]
    if where.ndim == 2:
        third = None
        box = where.shape * np.linalg.norm(linear, axis=0)
    else:
        third = where.shape[axial_axis(affine)] * slice_distance(affine)
        box = np.ptp(outer_points(where) @ linear.T, axis=0)
    feret = longest if where.ndim == 2 else feret_diameter(where, affine)
    surface = surface_area(where, affine)
    return _Shape(longest, perpendicular, third, feret, tuple(box.tolist()), surface)


@dataclass(frozen=True)
class _Surroundings:
    """What lies around the lesions of a mask."""

    mask: Volume
    image: Volume | None
    brain: Volume | None
    zones: "Zones | None"

    def measure(
        self,
        number: int,
        places: Places,
        shapes: _Shapes,
        maps: Mapping[str, Shaped[np.ndarray, "*spatial"]],
    ) -> LesionMeasures:
        """Measure a lesion."""
        start = places.min(axis=0)
        where = np.zeros(places.max(axis=0) - start + 1, bool)
        where[tuple((places - start).T)] = True
        shape = shapes.of(where).placed(start)
        affine, index = self.mask.affine, places.mean(axis=0)
        centre = affine[:-1, :-1] @ index + affine[:-1, -1]
        flipped = 0.0 + centre * [-1, -1, 1][: len(centre)]
        size = len(places) * self._voxel_size
        mean, contrast = self._intensity(where, start)
        return LesionMeasures(
            number=number,
            voxels=len(places),
            size=size,
            **vars(shape),
            sphericity=_roundness(size, shape.surface, len(index)),
            centre_ras=tuple(centre.tolist()),
            centre_lps=tuple(flipped.tolist()),
            centre_index=tuple(index.tolist()),
            mean=mean,
            contrast=contrast,
            edge_mm=self._edge_mm(places),
            zone=self._zone(where, start),
            means={name: float(map_[tuple(places.T)].mean()) for name, map_ in maps.items()},
        )

    def _intensity(
        self, where: Bool[np.ndarray, "*box"], start: Int[np.ndarray, " rank"]
    ) -> tuple[float | None, float | None]:
        if self.image is None:
            return None, None
        values = self.image.channels_last[..., 0]
        inside = values[_box(start, where.shape)][where]
        around, corner = _dilated(where, self._steps)
        first = np.maximum(start - corner, 0)
        last = np.minimum(start - corner + around.shape, values.shape)
        box = _box(first, last - first)
        around = around[_box(first - (start - corner), last - first)] & self._tissue[box]
        mean, beside = _mean(inside), _mean(values[box][around])
        return mean, None if mean is None or beside is None else mean - beside

    @cached_property
    def _voxel_size(self) -> float:
        return self.mask.voxel_size

    @cached_property
    def _steps(self) -> Int[np.ndarray, "step rank"]:
        """Steps from a voxel to those that lie around it."""
        linear = self.mask.affine[:-1, :-1]
        reach = max(_AROUND, *self.mask.spacing)
        most = np.floor(reach * np.linalg.norm(np.linalg.inv(linear), axis=1) + 1e-6).astype(int)
        steps = np.array(list(product(*(range(-n, n + 1) for n in most))))
        return steps[np.linalg.norm(steps @ linear.T, axis=1) <= reach * (1 + 1e-6)]

    @cached_property
    def _tissue(self) -> Bool[np.ndarray, "*spatial"]:
        """What belongs to no label and, where the brain is known, to the brain."""
        free = self.mask.data == 0
        return free if self._brain is None else free & self._brain[0]

    @cached_property
    def _brain(
        self,
    ) -> tuple[Bool[np.ndarray, "*spatial"], Float[np.ndarray, "place rank"]] | None:
        """The brain without holes, and the places in mm of the voxels at its edge."""
        if self.brain is None:
            return None
        inside, border = _filled(self.brain.channels_last[..., 0] != 0)
        return inside, np.argwhere(border) @ self.mask.affine[:-1, :-1].T

    def _edge_mm(self, places: Places) -> float | None:
        if self._brain is None or not len(self._brain[1]):
            return None
        inside, border = self._brain
        if not inside[tuple(places.T)].all():
            return 0.0
        return _nearest(places @ self.mask.affine[:-1, :-1].T, border)

    def _zone(self, where: Bool[np.ndarray, "*box"], start: Int[np.ndarray, " rank"]) -> str | None:
        if self.zones is None:
            return None
        from segjax.evaluate.zones import zone_of

        around = Volume(self.zones.map.data[_box(start, where.shape)], self.mask.affine)
        return zone_of(where, replace(self.zones, map=around))


def _box(
    start: Int[np.ndarray, " rank"], shape: Sequence[int] | Int[np.ndarray, " rank"]
) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, shape, strict=True))


def _mean(values: Shaped[np.ndarray, " voxel"]) -> float | None:
    """Return the mean of what is finite; None where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else None


def _roundness(size: float, surface: float, rank: int) -> float:
    """Return the sphericity in rank 3, and the circularity in rank 2."""
    if rank == 2:
        return min(4 * math.pi * size / surface**2, 1.0)
    return min((36 * math.pi * size**2) ** (1 / 3) / surface, 1.0)


def _dilated(
    where: Bool[np.ndarray, "*box"], steps: Int[np.ndarray, "step rank"]
) -> tuple[Bool[np.ndarray, "*larger"], Int[np.ndarray, " rank"]]:
    """Return a mask with all that lies a step off, and how much earlier its box begins."""
    reach = steps.max(axis=0)
    grown = np.zeros(where.shape + 2 * reach, bool)
    for step in steps:
        grown[_box(reach + step, where.shape)] |= where
    return grown, reach


def _filled(
    brain: Bool[np.ndarray, "*spatial"],
) -> tuple[Bool[np.ndarray, "*spatial"], Bool[np.ndarray, "*spatial"]]:
    """Return a mask without its holes, and those of its voxels that have others at a face."""
    box = box_of(brain)
    numbers, _ = label_components(np.pad(~brain[box], 1, constant_values=True), axes_at_once=1)
    outside = numbers == numbers.flat[0]
    inner = (slice(1, -1),) * brain.ndim
    filled, border = np.zeros_like(brain), np.zeros_like(brain)
    filled[box] = ~outside[inner]
    for axis, edge in enumerate(box):
        beyond = np.moveaxis(outside, axis, 0)
        beyond[0] &= edge.start > 0
        beyond[-1] &= edge.stop < brain.shape[axis]
    for axis, step in product(range(brain.ndim), (0, 2)):
        beside = [slice(1, -1)] * brain.ndim
        beside[axis] = slice(step, outside.shape[axis] - 2 + step)
        border[box] |= outside[tuple(beside)]
    return filled, border & filled


def _nearest(
    ones: Float[np.ndarray, "place rank"], others: Float[np.ndarray, "other rank"]
) -> float:
    """Return the shortest distance between places of two kinds.

    Others that are farther from the box around the ones than a distance that is already known are
    left out.
    """
    distance, place = math.inf, ones.mean(axis=0)
    while True:
        other = others[np.linalg.norm(others - place, axis=1).argmin()]
        distances = np.linalg.norm(ones - other, axis=1)
        if distances.min() >= distance:
            break
        distance, place = float(distances.min()), ones[distances.argmin()]
    apart = np.maximum(np.maximum(ones.min(axis=0) - others, others - ones.max(axis=0)), 0)
    near = others[np.linalg.norm(apart, axis=1) < distance]
    at_once = max(1, _COMPARED // len(ones))
    for first in range(0, len(near), at_once):
        some = near[first : first + at_once]
        squares = sum((x[:, None] - y) ** 2 for x, y in zip(ones.T, some.T, strict=True))
        distance = min(distance, math.sqrt(float(np.min(squares))))
    return distance
