"""What a patient's page tells, in words and tables of its language; HTML and PDF show the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import acos, degrees
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32

from segjax.evaluate.diameters import slice_distance
from segjax.evaluate.measure import LabelMeasures, LesionMeasures
from segjax.evaluate.measured import ms_criteria
from segjax.evaluate.response import response
from segjax.evaluate.sizes import LEAST_MM, sphere_mm3
from segjax.grid import orientation, reorient
from segjax.provenance import here_and_now
from segjax.report.patient_slices import KeySlice, LesionId, length_unit, on_edge
from segjax.report.patient_texts import Language
from segjax.text import duration
from segjax.volume import Volume

__all__ = [
    "Content",
    "Patient",
    "Table",
    "criteria_table",
    "cut_sides",
    "definitions",
    "diameters_of",
    "grid_told",
    "label_table",
    "lesion_name",
    "lesion_table",
    "lesion_told",
    "made",
    "ml_digits",
    "obliqueness",
    "place_told",
    "size_table",
    "size_told",
    "slice_of",
    "slices_heading",
    "slices_told",
    "summary",
    "times",
    "warnings_of",
    "zone_table",
]

_CLASSES = (10.0, 100.0, 1000.0)  # mm³, mm² or pixels
_THICK = 4.0  # mm
_TILTED = 3.0  # degrees that nobody need hear of
_CUT = 0.12  # of the brain's largest section, on a face of the image
_CUT_BELOW = 0.4  # where neck and brainstem go on
_CRITERIA = {
    "rano": "RANO",
    "rano-meningioma": "RANO meningioma",
    "rano-bm": "RANO-BM",
    "recist-1.1": "RECIST 1.1",
}
_SIDES = ("left", "right", "back", "front", "feet", "head")
_LISTED = 8


@dataclass(frozen=True, eq=False)
class Patient:
    """An image, its mask and what was measured.

    Attributes:
        name: Heading of the page; nothing else of the patient's identity gets in.
        image: Volume of rank 2 or 3; its first channel is shown.
        mask: Label map on the image's grid.
        labels: What :func:`segjax.evaluate.measure.measure_mask` found in the mask.
        brain: Mask of the brain on this grid, where it is known.
        doubts: In what the image differs from those that the network was trained on, as
            :meth:`segjax.data.seen.Seen.doubts` says it; None where that is not known.
        criteria: Names of response criteria whose figures are told, of
            :data:`segjax.evaluate.response.CRITERIA`; of volumes alone.
        files: Names of files by what they are: ``image``, ``mask``, ``model``, ``brain``,
            ``zones``.

    Example:
        >>> from segjax.evaluate.measure import measure_mask
        >>> image = Volume(np.ones((8, 8, 8), np.float32), np.eye(4))
        >>> mask = image.with_data((np.indices((8, 8, 8)).max(axis=0) < 3).astype(np.uint8))
        >>> Patient("p1", image, mask, measure_mask(mask)).lesions
        1
    """

    name: str
    image: Volume
    mask: Volume
    labels: tuple[LabelMeasures, ...]
    brain: Volume | None = None
    doubts: tuple[str, ...] | None = ()
    criteria: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def lesions(self) -> int:
        """Number of lesions of all labels."""
        return sum(len(label.lesions) for label in self.labels)


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column holds names, the others are numbers.

    Attributes:
        headings: Of the columns.
        rows: Of as many cells.
        lesions: Which lesion each row is of; empty where rows are none.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lesions: tuple[LesionId, ...] = ()


class Content(NamedTuple):
    """What page and sheets show.

    Attributes:
        patient: Measurements.
        slices: Those that are shown, as :func:`segjax.report.patient_slices.key_slices` gives them.
        warnings: As :func:`warnings_of` says them.
        criteria: As :func:`criteria_table` tells them.
        origin: As :func:`made` says it.
        language: Of all texts.
    """

    patient: Patient
    slices: Sequence[KeySlice]
    warnings: Sequence[str]
    criteria: Table | None
    origin: Table
    language: Language


def size_told(size: float, image: Volume, language: Language) -> str:
    r"""Write a volume in ml, or an area in mm² or pixels, with three digits or so.

    Args:
        size: In mm³, mm² or pixels.
        image: Where it was measured.
        language: Of the text.

    Example:
        >>> from segjax.report.patient_texts import language_of
        >>> size_told(41235.0, Volume(np.ones((2, 2, 2)), np.eye(4)), language_of("fr"))
        '41,2\xa0ml'
    """
    if image.spatial_dims == 2:
        unit = "pixels" if length_unit(image) == "px" else "mm²"
        return language.unit(language.number(size, 0 if unit == "pixels" else 1), unit)
    return language.unit(language.number(size / 1e3, ml_digits(size / 1e3)), "ml")


def lesion_name(patient: Patient, lesion: LesionId, language: Language) -> str:
    """Return the number of a lesion, after its label where there are several labels."""
    if len(patient.labels) == 1:
        return str(lesion.number)
    label = next(label for label in patient.labels if label.value == lesion.value)
    return f"{language.translate(label.label)}\N{NO-BREAK SPACE}{lesion.number}"


def diameters_of(patient: Patient, lesion: LesionId, language: Language) -> str:
    """Write the longest diameter of a lesion, its perpendicular, and its extent across slices."""
    (found,) = (
        each
        for label in patient.labels
        for each in label.lesions
        if (label.value, each.number) == lesion
    )
    return language.unit(_diameters(found, language), length_unit(patient.image))


def lesion_told(patient: Patient, lesion: LesionId, language: Language) -> tuple[str, str]:
    """Write the name of a lesion with its diameters; and alone, where there is little room."""
    name = lesion_name(patient, lesion, language)
    return f"{name}{language['colon']}{diameters_of(patient, lesion, language)}", name


def slices_heading(slices: Sequence[KeySlice], language: Language) -> str:
    """Return what stands over the slices, or over a picture."""
    return language["key_slices" if slices[0].plane else "picture"]


def slices_told(patient: Patient, slices: Sequence[KeySlice], language: Language) -> str:
    """Say which slices are shown, and how many lesions are not seen on them; else nothing."""
    seen = {mark.lesion for key in slices for mark in key.marks}
    if len(seen) == patient.lesions:
        return ""
    values = {"seen": language.number(len(seen)), "count": language.number(patient.lesions)}
    return language.say("shown_of", **values)


def summary(patient: Patient, label: LabelMeasures, language: Language) -> dict[str, str]:
    """Return the figures of a label by their names."""
    facts = {
        language["total"]: size_told(_size(label.lesions), patient.image, language),
        language.many("lesions_name", len(label.lesions)): language.number(len(label.lesions)),
    }
    several = len(label.lesions) > 1
    if several:
        largest = size_told(label.lesions[0].size, patient.image, language)
        facts[language["largest"]] = largest
    for first in label.lesions[:1]:
        told = times([first.longest.mm, first.perpendicular.mm], language)
        name = language["largest_diameters" if several else "diameters_of_one"]
        facts[name] = language.unit(told, length_unit(patient.image))
    return facts


def size_table(patient: Patient, label: LabelMeasures, language: Language) -> Table:
    """Count the lesions of each class of size."""
    lows, highs = (0.0, *_CLASSES), (*_CLASSES, np.inf)
    names = _class_names(patient.image, language)
    groups = [
        [lesion for lesion in label.lesions if low <= lesion.size < high]
        for low, high in zip(lows, highs, strict=True)
    ]
    return _groups(patient, language["size_class"], names, groups, language)


def label_table(patient: Patient, language: Language) -> Table:
    """Return the figures of all labels in one table."""
    rows = []
    for label in patient.labels:
        diameters = [
            times([lesion.longest.mm, lesion.perpendicular.mm], language)
            for lesion in label.lesions[:1]
        ]
        total = size_told(_size(label.lesions), patient.image, language)
        largest = size_told(_size(label.lesions[:1]), patient.image, language)
        number = language.number(len(label.lesions))
        name = language.translate(label.label)
        rows.append((name, total, number, largest, *(diameters or ["–"])))
    unit = length_unit(patient.image)
    headings = ("label", "total", "number_of", "largest")
    told = language.say("diameters", unit=unit)
    return Table((*(language[name] for name in headings), told), tuple(rows))


def zone_table(patient: Patient, label: LabelMeasures, language: Language) -> Table | None:
    """Count the lesions of each zone; None where zones are not known."""
    zones = {lesion.zone for lesion in label.lesions} - {None}
    if not zones:
        return None
    names = sorted(zones, key=lambda zone: -sum(le.zone == zone for le in label.lesions))
    groups = [[lesion for lesion in label.lesions if lesion.zone == zone] for zone in names]
    told = [language.translate(str(zone)) for zone in names]
    return _groups(patient, language["zone"], told, groups, language)


def criteria_table(patient: Patient, language: Language) -> Table | None:
    """Return the figures of guidelines, and which lesions make them; None where none is asked for.

    Dissemination in space is told wherever zones are known.

    Raises:
        InputError: Criteria are unknown, or those of response are asked for of a picture.
    """
    rows = []
    for label in patient.labels:
        own = [_response_row(patient, label, name, language) for name in patient.criteria]
        own += _dissemination_rows(label, language)
        several = len(patient.labels) > 1
        after = f"{language['colon']}{language.translate(label.label)}" if several else ""
        rows += [(f"{name}{after}", *told) for name, *told in own]
    headings = (language["criterion"], language["figure"], language["counted"])
    return Table(headings, tuple(rows)) if rows else None


def _response_row(
    patient: Patient, label: LabelMeasures, name: str, language: Language
) -> tuple[str, str, str]:
    affine = patient.mask.affine
    slice_mm = slice_distance(affine) if patient.mask.spatial_dims == 3 else 1.0
    figure = response(label.lesions, name, slice_mm=slice_mm)
    digits, unit = (0, "mm²") if figure.unit == "mm2" else (1, "mm")
    told = language.unit(language.number(figure.value, digits), unit)
    return _CRITERIA.get(name, name), told, _lesions_named(figure.targets, language)


def _dissemination_rows(label: LabelMeasures, language: Language) -> list[tuple[str, str, str]]:
    if (found := ms_criteria(label)) is None:
        return []
    space, _ = found
    told = language["fulfilled" if space.fulfilled else "not_fulfilled"]
    areas = ", ".join(f"{language.translate(area)} ({space.counts[area]})" for area in space.areas)
    return [(language["dissemination"], told, areas or language["none"])]


def _lesions_named(numbers: Sequence[int], language: Language) -> str:
    if not numbers:
        return language["none_measurable"]
    return language.many("lesion_numbers", len(numbers), numbers=", ".join(map(str, numbers)))


def lesion_table(
    patient: Patient, label: LabelMeasures, slices: Sequence[KeySlice], language: Language
) -> Table:
    """List the lesions of a label; the last column names the slice that shows them."""
    columns = _columns(patient, label, language)
    rows = [tuple(cell(lesion) for cell in columns.values()) for lesion in label.lesions]
    ids = tuple(LesionId(label.value, lesion.number) for lesion in label.lesions)
    if slices and slices[0].plane:
        columns[language["slice"]] = str
        rows = [
            (*row, _slice_told(lesion, slices, language))
            for row, lesion in zip(rows, ids, strict=True)
        ]
    return Table(tuple(columns), tuple(rows), ids)


def warnings_of(
    patient: Patient, pieces: Int32[np.ndarray, "*spatial"], language: Language
) -> list[str]:
    """Say what casts doubt on the figures."""
    return [
        *_doubts(patient, language),
        *_brain_warnings(patient, language),
        *_edge_warnings(patient, pieces, language),
        *_thick_warning(patient.image, language),
        *_tiny_warning(patient, language),
    ]


def definitions(patient: Patient, language: Language) -> list[str]:
    """Say what the figures mean, and how pictures lie."""
    flat = patient.image.spatial_dims == 2
    found = [le for label in patient.labels for le in label.lesions]
    texts = []
    if found:
        texts += [language[f"define_{name}{'_flat' * flat}"] for name in ("lesion", "diameters")]
        texts += [] if flat else [language["define_centre"]]
        if any(lesion.contrast is not None for lesion in found):
            texts.append(language.say("define_contrast", unit=length_unit(patient.image)))
        if any(lesion.edge_mm is not None for lesion in found):
            texts.append(language["define_edge"])
    texts.append(language["convention_flat" if flat else "convention"])
    if length_unit(patient.image) == "px":
        texts.append(language["pixels_only"])
    if not flat and (angle := obliqueness(patient.image.affine)) > _TILTED:
        texts.append(language.say("oblique", angle=f"{language.number(angle)}°"))
    return texts


def made(patient: Patient, language: Language, seconds: float | None = None) -> Table:
    """Say from which files, when and by what the page was made."""
    now = here_and_now(seconds=seconds)
    versions = ", ".join(f"{name} {number}" for name, number in now.versions.items())
    facts = {
        **{language[what]: name for what, name in patient.files.items()},
        language["grid"]: grid_told(patient.image, language),
        language["date"]: now.date.replace("T", " "),
        language["program"]: versions,
    }
    if seconds is not None:
        facts[language["time"]] = _decimal(duration(seconds), language)
    return Table(("", ""), tuple(facts.items()))


def obliqueness(affine: Float64[np.ndarray, "4 4"]) -> float:
    """Return the greatest angle between an axis of a grid and the patient's nearest, in degrees.

    Example:
        >>> obliqueness(np.diag([2.0, -1.0, 1.0, 1.0]))
        0.0
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = [
        "RAS".find(side) if side in "RAS" else "LPI".find(side) for side in orientation(affine)
    ]
    cosines = [min(1.0, abs(float(axes[axis, i]))) for i, axis in enumerate(nearest)]
    return degrees(acos(min(cosines)))


def ml_digits(ml: float) -> int:
    """Return how many decimals tell a volume.

    Example:
        >>> [ml_digits(ml) for ml in (0.5, 5.0, 50.0)]
        [3, 2, 1]
    """
    return 3 if ml < 1 else 2 if ml < 10 else 1


def _size(lesions: Sequence[LesionMeasures]) -> float:
    return float(sum(lesion.size for lesion in lesions))


def times(lengths: Sequence[float], language: Language) -> str:
    r"""Write lengths side by side.

    Example:
        >>> from segjax.report.patient_texts import language_of
        >>> times([10.25, 4.0], language_of("en"))
        '10.2\xa0×\xa04.0'
    """
    return "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(
        language.number(length, 1) for length in lengths
    )


def _diameters(lesion: LesionMeasures, language: Language) -> str:
    third = [] if lesion.third_mm is None else [lesion.third_mm]
    return times([lesion.longest.mm, lesion.perpendicular.mm, *third], language)


def _class_names(image: Volume, language: Language) -> list[str]:
    def told(size: float) -> str:
        if image.spatial_dims == 3 and size >= 1000:
            return language.unit(language.number(size / 1e3), "ml")
        flat = "pixels" if length_unit(image) == "px" else "mm²"
        return language.unit(language.number(size), flat if image.spatial_dims == 2 else "mm³")

    low, high = told(_CLASSES[0]), told(_CLASSES[-1])
    between = [language.say("between", low=told(a), high=told(b)) for a, b in pairwise(_CLASSES)]
    return [language.say("below", high=low), *between, language.say("above", low=high)]


def _groups(
    patient: Patient,
    heading: str,
    names: Sequence[str],
    groups: Sequence[Sequence[LesionMeasures]],
    language: Language,
) -> Table:
    whole = _size([lesion for group in groups for lesion in group])
    rows = [
        (
            name,
            language.number(len(group)),
            size_told(_size(group), patient.image, language),
            language.unit(language.number(100 * _size(group) / whole if whole else 0), "%"),
        )
        for name, group in zip(names, groups, strict=True)
    ]
    headings = (heading, language["number_of"], language["load"], language["share"])
    return Table(headings, tuple(rows))


def _columns(
    patient: Patient, label: LabelMeasures, language: Language
) -> dict[str, Callable[[LesionMeasures], str]]:
    """Return what is told of each lesion, by the heading of its column."""
    flat, unit = patient.image.spatial_dims == 2, length_unit(patient.image)
    number = language.number
    smallest = min((lesion.size for lesion in label.lesions), default=0.0) / 1e3
    columns: dict[str, Callable[[LesionMeasures], str]] = {
        language["number"]: lambda lesion: str(lesion.number)
    }
    if flat:
        square = "pixels" if unit == "px" else "mm²"
        heading = language.say("area", unit=language.names.get(square, square))
        columns[heading] = lambda lesion: number(lesion.size, 0 if unit == "px" else 1)
    else:
        columns[language.say("volume", unit="ml")] = lambda lesion: number(
            lesion.size / 1e3, ml_digits(smallest)
        )
    columns[language.say("diameters", unit=unit)] = lambda lesion: _diameters(lesion, language)
    if not flat:
        columns[language.say("feret", unit=unit)] = lambda lesion: number(lesion.feret.mm, 1)
    if any(lesion.zone for lesion in label.lesions):
        columns[language["zone"]] = lambda lesion: language.translate(
            lesion.zone or language["no_zone"]
        )
    if flat:
        columns[language["centre_pixel"]] = lambda lesion: ", ".join(
            number(index) for index in lesion.centre_index
        )
    else:
        columns[language.say("centre", unit="mm")] = lambda lesion: place_told(
            lesion.centre_ras, language
        )
    return columns | _optional(label, language)


def _optional(
    label: LabelMeasures, language: Language
) -> dict[str, Callable[[LesionMeasures], str]]:
    """Return the columns of what was measured where more than the mask was given."""
    columns: dict[str, Callable[[LesionMeasures], str]] = {}
    if any(lesion.edge_mm is not None for lesion in label.lesions):
        columns[language["edge"]] = lambda lesion: _known(lesion.edge_mm, 1, language)
    if any(lesion.contrast is not None for lesion in label.lesions):
        most = max(abs(lesion.contrast or 0) for lesion in label.lesions)
        digits = 0 if most >= 100 else 1 if most >= 10 else 2
        columns[language["contrast"]] = lambda lesion: _known(lesion.contrast, digits, language)
    return columns


def _known(value: float | None, digits: int, language: Language) -> str:
    return "–" if value is None or np.isnan(value) else language.number(value, digits)


def place_told(ras: Sequence[float], language: Language) -> str:
    r"""Write a place in mm with the letters of the patient's sides.

    Example:
        >>> from segjax.report.patient_texts import language_of
        >>> place_told((-3.2, 4.0, 0.0), language_of("en"))
        'L\xa03\xa0· A\xa04\xa0· S\xa00'
    """
    high, low = language["sides"][::2], language["sides"][1::2]
    return "\N{NO-BREAK SPACE}· ".join(
        f"{(high if value >= 0 else low)[axis]}\N{NO-BREAK SPACE}{language.number(abs(value))}"
        for axis, value in enumerate(ras)
    )


def _slice_told(lesion: LesionId, slices: Sequence[KeySlice], language: Language) -> str:
    found = slice_of(lesion, slices)
    return "–" if found is None else f"{language[found.plane]} {found.place}"


def slice_of(lesion: LesionId, slices: Sequence[KeySlice]) -> KeySlice | None:
    """Return the slice that shows a lesion best: where it was measured, or where most of it is."""
    best = max(
        (
            (bool(m.lines), int(m.mask.sum()), -n)
            for n, key in enumerate(slices)
            for m in key.marks
            if m.lesion == lesion
        ),
        default=None,
    )
    return None if best is None else slices[-best[2]]


def _doubts(patient: Patient, language: Language) -> list[str]:
    if patient.doubts is None:
        return [language["warn_model_unknown"]]
    return [language.say("warn_model", doubt=language.translate(each)) for each in patient.doubts]


def _brain_warnings(patient: Patient, language: Language) -> list[str]:
    if patient.brain is None:
        return []
    brain = patient.brain.with_data(patient.brain.data > 0)
    texts = []
    if sides := cut_sides(brain):
        told = ", ".join(language[side] for side in sides)
        texts.append(language.say("warn_brain", sides=told))
    for label in patient.labels:
        where = patient.mask.data == label.value
        voxels = int(np.count_nonzero(where))
        outside = int(np.count_nonzero(where & ~brain.data)) / max(1, voxels)
        if outside > 0.005:
            share = language.unit(language.number(100 * outside, 1), "%")
            texts.append(
                language.say("warn_outside", share=share, label=language.translate(label.label))
            )
    return texts


def cut_sides(brain: Volume) -> list[str]:
    """Name the faces of the image that the brain is cut off at.

    A face counts where the brain's section on it is over 12 % of its largest one along that axis;
    of the face at the feet, where the brainstem goes on, over 40 %.

    Args:
        brain: Mask of rank 3; of rank 2 nothing is told.

    Example:
        >>> brain = np.zeros((9, 9, 9), bool)
        >>> brain[2:7, 2:7, 4:] = True
        >>> cut_sides(Volume(brain, np.eye(4)))
        ['head']
    """
    if brain.spatial_dims == 2:
        return []
    data: Bool[np.ndarray, "x y z"] = reorient(brain).data
    found = []
    for axis, size in enumerate(data.shape):
        sections = np.count_nonzero(data, axis=tuple(a for a in range(3) if a != axis))
        for end, side in zip((0, -1), _SIDES[2 * axis : 2 * axis + 2], strict=True):
            share = _CUT_BELOW if side == "feet" else _CUT
            if size > 1 and sections[end] > share * max(1, sections.max()):
                found.append(side)
    return found


def _edge_warnings(
    patient: Patient, pieces: Int32[np.ndarray, "*spatial"], language: Language
) -> list[str]:
    texts, edge = [], on_edge(patient.mask.data, pieces)
    for label in patient.labels:
        if numbers := [lesion.number for lesion in edge if lesion.value == label.value]:
            more = " …" if len(numbers) > _LISTED else ""
            told = ", ".join(map(str, numbers[:_LISTED])) + more
            name = language.translate(label.label)
            texts.append(language.many("warn_edge", len(numbers), numbers=told, label=name))
    return texts


def _thick_warning(image: Volume, language: Language) -> list[str]:
    thickest = max(image.spacing)
    if image.spatial_dims == 2 or 1 in image.spatial_shape or thickest < _THICK:
        return []
    told = language.unit(language.number(thickest, 1), "mm")
    return [language.say("warn_thick", spacing=told)]


def _tiny_warning(patient: Patient, language: Language) -> list[str]:
    if patient.image.spatial_dims == 2:
        return []
    sizes = [lesion.size for label in patient.labels for lesion in label.lesions]
    tiny = sum(size < sphere_mm3(LEAST_MM) for size in sizes)
    size = language.unit(language.number(sphere_mm3(LEAST_MM), 1), "mm³")
    return [language.many("warn_tiny", tiny, size=size)] if tiny else []


def grid_told(image: Volume, language: Language) -> str:
    """Write how many voxels or pixels an image has, and of which size."""
    shape = " × ".join(str(n) for n in image.spatial_shape)
    spacing = " × ".join(_decimal(f"{size:.3g}", language) for size in image.spacing)
    if image.spatial_dims == 3:
        return language.say("grid_text", shape=shape, spacing=spacing)
    flat = "grid_pixels" if length_unit(image) == "px" else "grid_flat"
    return language.texts[flat].format(shape=shape, spacing=spacing)


def _decimal(text: str, language: Language) -> str:
    return text.replace(".", language.decimal)
