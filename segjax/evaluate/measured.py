"""Measure the masks of a folder, and write what was measured as tables or JSON."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.io.formats import image_suffixes, read_image, read_label, segment_names, stem
from segjax.data.labels import IGNORED, LabelCoding
from segjax.errors import InputError
from segjax.evaluate.atlas import ATLAS, find_zones
from segjax.evaluate.compare import Failure, raise_failures
from segjax.evaluate.diameters import slice_distance
from segjax.evaluate.measure import LabelMeasures, LesionMeasures, measure_mask
from segjax.evaluate.pairs import coding_of, find_masks, labels_of_subjects
from segjax.evaluate.response import Response, response
from segjax.evaluate.sizes import EDGES_MM3, LEAST_MM
from segjax.evaluate.zones import (
    Dissemination,
    RadiologicallyIsolated,
    dissemination_in_space,
    radiologically_isolated,
)
from segjax.files import check_target, write_csv, write_json
from segjax.grid import grid
from segjax.progress import track

__all__ = [
    "Measured",
    "MeasuredCase",
    "SizeCount",
    "check_edges",
    "check_measures",
    "lesion_table",
    "measure_files",
    "ms_criteria",
    "responses_of",
    "size_classes",
    "total_table",
    "write_measures",
    "zones_in",
]

_TOTALS = "_totals.csv"

Table = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """What the mask of a case holds.

    Attributes:
        case: Its name.
        mask: Its file.
        labels: What it holds of each label.
        slice_mm: Distance of axial slices; None of a picture.
    """

    case: str
    mask: Path
    labels: tuple[LabelMeasures, ...]
    slice_mm: float | None


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of many cases.

    Attributes:
        cases: Those that could be measured, by name.
        failed: The others.

    Example:
        >>> Measured((), (Failure("b", "b.nii.gz: there is no such file"),)).check()
        Traceback (most recent call last):
        segjax.errors.InputError: b.nii.gz: there is no such file
    """

    cases: tuple[MeasuredCase, ...]
    failed: tuple[Failure, ...] = ()

    def check(self) -> "Measured":
        """Raise what went wrong, if anything did; else return what was measured.

        Raises:
            InputError: With the reason of the first case that failed, and the names of all.
        """
        raise_failures(self.failed, len(self.cases))
        return self


def measure_files(
    masks: str | Path,
    *,
    images: str | Path | None = None,
    brains: str | Path | None = None,
    zones: str | Path | None = None,
    label: str | None = None,
    coding: LabelCoding | None = None,
) -> Measured:
    """Measure a mask, or those of a folder; one that cannot be measured stops no other.

    Args:
        masks: File, or folder of files, or of folders of subjects.
        images: What to measure intensities in: a file; a folder, where each has the name of its
            mask or with the suffix ``_0000`` of a first channel; or the name of a file beside every
            mask.
        brains: Masks or images of the brain alone, found in the same way.
        zones: Label maps of FreeSurfer, SynthSeg or FastSurfer, found in the same way, of whose
            structures :func:`segjax.evaluate.zones.read_zones` makes zones; or ``"atlas"``, which
            is registered to each image.
        label: Name of the mask in the folder of every subject, where ``masks`` holds such folders;
            of a BIDS data set, its suffix and entities.
        coding: What the values of masks stand for; by default what the ``dataset.json`` in or
            beside the folder says, else classes. Ignored voxels are background.

    Returns:
        What each mask holds, and why others could not be measured.

    Raises:
        InputError: There is no mask, or the coding cannot be understood.

    Example:
        >>> measured = measure_files("masks", images="brains/images").check()
        >>> len(measured.cases), measured.cases[0].labels[0].unit
        (5, 'ml')
    """
    masks = Path(masks)
    files = _files_of(masks, label)
    coding = coding_of(masks) if coding is None else coding
    found = [_finder(source, len(files)) for source in (images, brains, zones)]
    cases, failed = [], []
    for case, file in track(sorted(files.items()), "Measuring"):
        try:
            cases.append(_measure(case, file, coding, found))
        except InputError as error:
            failed.append(Failure(case, str(error)))
    return Measured(tuple(cases), tuple(failed))


def _files_of(masks: Path, label: str | None) -> dict[str, Path]:
    if label is not None:
        return labels_of_subjects(masks, label)
    return find_masks(masks) if masks.is_dir() else {stem(masks): masks}


def _measure(
    case: str, file: Path, coding: LabelCoding, found: Sequence[Callable[[str, Path], Path | None]]
) -> MeasuredCase:
    image_file, brain_file, zone_file = (find(case, file) for find in found)
    image = None if image_file is None else read_image(image_file)
    mask = read_label(file, coding=coding, like=None if image is None else grid(image))
    if coding.ignored is not None:
        mask = mask.with_data(np.where(mask.data == IGNORED, 0, mask.data))
    brain = None if brain_file is None else read_image(brain_file)
    zones = None
    if zone_file is not None:
        zones = find_zones(zone_file, grid(mask), image=image, brain=brain)
    names = coding.names or ("background", *(segment_names(file) or ()))
    try:
        labels = measure_mask(
            mask,
            labels=names if len(names) > 1 else (),
            image=image,
            brain=brain,
            zones=zones,
        )
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    distance = None if mask.spatial_dims == 2 else slice_distance(mask.affine)
    return MeasuredCase(case, file, labels, distance)


def _finder(source: str | Path | None, cases: int) -> Callable[[str, Path], Path | None]:
    """Return what finds the file of a case: given, by its name in a folder, or beside its mask."""
    if source is None:
        return lambda case, mask: None
    path = Path(source)
    if str(source) == ATLAS:
        return lambda case, mask: path
    if path.is_file() and cases == 1:
        return lambda case, mask: path
    if path.is_file() and path.name != str(path):
        raise InputError(f"{path}: is one file for {cases} masks; give a folder of them")
    if not path.is_dir():
        return lambda case, mask: _there(mask.parent / path, f"no {path} beside {mask}")
    named: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.name.lower().endswith((*image_suffixes(), ".mgz")) and file.name[0] != ".":
            named.setdefault(stem(file), []).append(file)

    def find(case: str, mask: Path) -> Path:
        files = [*named.get(case, []), *named.get(f"{case}_0000", [])]
        if len(files) != 1:
            what = f"both {files[0].name} and {files[1].name}" if files else "no file"
            raise InputError(f"{path}: holds {what} for {mask}")
        return files[0]

    return find


def _there(file: Path, fault: str) -> Path:
    if not file.exists():
        raise InputError(fault)
    return file


@dataclass(frozen=True)
class SizeCount:
    """Lesions of one size.

    Attributes:
        low: Least size in mm³ (2D: mm²); lesions of just this size belong here.
        high: Size from which on lesions belong to the next class; infinite in the last one.
        lesions: Their number.
        load: What they take up together, in ml (2D: mm²).
    """

    low: float
    high: float
    lesions: int
    load: float


def size_classes(
    measures: LabelMeasures, edges: Sequence[float] = EDGES_MM3
) -> tuple[SizeCount, ...]:
    """Count the lesions of a label by size, and add up what they take up.

    Args:
        measures: Of a label.
        edges: Between the classes, in mm³ (2D: mm²), from small to large.

    Example:
        >>> from segjax import Volume
        >>> mask = Volume(np.array([[[1, 0, 1, 1]]], np.uint8), np.diag([1, 1, 8, 1.0]))
        >>> [(one.lesions, one.load) for one in size_classes(measure_mask(mask)[0])]
        [(1, 0.008), (1, 0.016), (0, 0.0)]
    """
    check_edges(edges)
    unit = 1.0 if measures.unit == "pixels" else 1e3
    found = []
    for low, high in pairwise((0.0, *edges, np.inf)):
        sizes = [lesion.size for lesion in measures.lesions if low <= lesion.size < high]
        found.append(SizeCount(float(low), float(high), len(sizes), sum(sizes) / unit))
    return tuple(found)


def check_edges(edges: Sequence[float]) -> None:
    """Refuse edges between classes of size that make no classes.

    Raises:
        InputError: They are not over 0, or not from small to large.

    Example:
        >>> check_edges([100, 10])
        Traceback (most recent call last):
        segjax.errors.InputError: sizes [100, 10]: give edges over 0, from small to large
    """
    if list(edges) != sorted(set(edges)) or any(not 0 < edge < np.inf for edge in edges):
        raise InputError(f"sizes {list(edges)}: give edges over 0, from small to large")


def lesion_table(measured: Measured) -> Table:
    """Return a row for each lesion.

    Columns: ``case``, ``label``, ``lesion`` (1 is the largest), ``voxels``, ``volume`` in ``unit``
    (mm3, or mm2 of pictures); ``longest_mm``, ``perpendicular_mm``, ``third_mm``, ``feret_mm``;
    ``box_x_mm`` … (to the patient's right, front and head; of pictures rows and columns); its
    centre ``x``, ``y``, ``z`` (RAS), ``x_lps``, ``y_lps``, ``z_lps`` and as an index ``i``, ``j``,
    ``k``; ``surface`` (mm²; of pictures the perimeter in mm), ``sphericity``, ``mean``,
    ``contrast``, ``edge_mm`` and ``zone``. What was not measured is empty.

    Example:
        >>> rows = lesion_table(measure_files("masks"))
        >>> rows[0]["case"], rows[0]["lesion"], rows[0]["unit"]
        ('ms_000', 1, 'mm3')
    """
    return [
        {"case": case.case, "label": label.label, **_lesion_row(lesion, label.unit)}
        for case in measured.cases
        for label in case.labels
        for lesion in label.lesions
    ]


def _lesion_row(lesion: LesionMeasures, unit: str) -> dict[str, Any]:
    def along(names: Sequence[str], values: Sequence[float], digits: int = 2) -> dict[str, float]:
        rounded = [round(value, digits) for value in values]
        return dict(zip(names, rounded, strict=False))

    return {
        "lesion": lesion.number,
        "voxels": lesion.voxels,
        "volume": round(lesion.size, 4),
        "unit": "mm2" if unit == "pixels" else "mm3",
        "longest_mm": round(lesion.longest.mm, 2),
        "perpendicular_mm": round(lesion.perpendicular.mm, 2),
        "third_mm": _rounded(lesion.third_mm, 2),
        "feret_mm": round(lesion.feret.mm, 2),
        **along(("box_x_mm", "box_y_mm", "box_z_mm"), lesion.box_mm),
        **along("xyz", lesion.centre_ras),
        **along(("x_lps", "y_lps", "z_lps"), lesion.centre_lps),
        **along("ijk", lesion.centre_index),
        "surface": _rounded(lesion.surface, 3),
        "sphericity": _rounded(lesion.sphericity, 4),
        "mean": _rounded(lesion.mean, 6),
        "contrast": _rounded(lesion.contrast, 6),
        "edge_mm": _rounded(lesion.edge_mm, 2),
        "zone": lesion.zone,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def total_table(
    measured: Measured, *, edges: Sequence[float] = EDGES_MM3, criteria: Sequence[str] = ()
) -> Table:
    """Return a row for each case and label, and one for each case that failed.

    Columns: ``case``, ``label``, ``volume`` and ``largest`` in ``unit`` (ml, or pixels of
    pictures), ``lesions``; ``longest_mm`` and ``perpendicular_mm`` of the largest lesion; for each
    class of size ``lesions_10_to_100`` and ``ml_10_to_100`` (of pictures ``mm2_10_to_100``); for
    each response criteria, which are of volumes alone, its figure, such as ``rano_mm2``, and the
    number of lesions in it, ``rano_targets``; where zones were given, for each its number of
    lesions, and of those of 3 mm or more ``mcdonald_2017_areas`` (with a lesion),
    ``dissemination_in_space`` (1 or 0) and ``isolated_2009_criteria`` (of four, that of the
    radiologically isolated syndrome); and ``error``.

    Args:
        measured: What was measured.
        edges: Between the classes of size: see :func:`size_classes`.
        criteria: Names in :data:`segjax.evaluate.response.CRITERIA`.

    Raises:
        InputError: Edges or criteria make no sense.

    Example:
        >>> rows = total_table(measure_files("masks"), criteria=["rano"])
        >>> list(rows[0])[:5], "rano_mm2" in rows[0]
        (['case', 'label', 'volume', 'unit', 'lesions'], True)
    """
    rows: Table = [
        {"case": case.case, **_total_row(case, label, edges, criteria), "error": ""}
        for case in measured.cases
        for label in case.labels
    ]
    return rows + [{"case": case, "error": reason} for case, reason in measured.failed]


def _total_row(
    case: MeasuredCase, label: LabelMeasures, edges: Sequence[float], criteria: Sequence[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "label": label.label,
        "volume": round(label.size, 6),
        "unit": label.unit,
        "lesions": len(label.lesions),
        "largest": round(label.largest, 6),
        "longest_mm": round(label.lesions[0].longest.mm, 2) if label.lesions else None,
        "perpendicular_mm": round(label.lesions[0].perpendicular.mm, 2) if label.lesions else None,
    }
    load = "mm2" if label.unit == "pixels" else "ml"
    for one in size_classes(label, edges):
        name = f"from_{one.low:g}" if np.isinf(one.high) else f"{one.low:g}_to_{one.high:g}"
        row |= {f"lesions_{name}": one.lesions, f"{load}_{name}": round(one.load, 6)}
    for name, figure in responses_of(case, label, criteria).items():
        column = name.replace("-", "_").replace(".", "_")
        row[f"{column}_{figure.unit}"] = round(figure.value, 2)
        row[f"{column}_targets"] = len(figure.targets)
    row |= {f"lesions {zone}": count for zone, count in zones_in(label).items()}
    if (found := ms_criteria(label)) is not None:
        dissemination, isolated = found
        row["mcdonald_2017_areas"] = len(dissemination.areas)
        row["dissemination_in_space"] = int(dissemination.fulfilled)
        row["isolated_2009_criteria"] = sum(isolated.criteria.values())
    return row


def responses_of(
    case: MeasuredCase, label: LabelMeasures, criteria: Sequence[str]
) -> dict[str, Response]:
    """Return the figures of a label by response criteria; none of a picture.

    Args:
        case: What was measured.
        label: One of its labels.
        criteria: Names in :data:`segjax.evaluate.response.CRITERIA`.

    Example:
        >>> case = measure_files("masks").cases[0]
        >>> responses_of(case, case.labels[0], ["rano-bm"])["rano-bm"].unit
        'mm'
    """
    if case.slice_mm is None:
        return {}
    return {name: response(label.lesions, name, slice_mm=case.slice_mm) for name in criteria}


def zones_in(label: LabelMeasures) -> dict[str, int]:
    """Count the lesions of a label by zone; nothing where no zones were given."""
    zones = [lesion.zone for lesion in label.lesions if lesion.zone is not None]
    if not zones:
        return {}
    counts = dissemination_in_space(zones).counts
    return {zone: count for zone, count in counts.items() if zone != "spinal cord"}


def ms_criteria(label: LabelMeasures) -> tuple[Dissemination, RadiologicallyIsolated] | None:
    """Hold the lesions of a label against McDonald 2017 and the radiologically isolated syndrome.

    Args:
        label: Its lesions; those under 3 mm, in their longest axial diameter or across the
            slices, do not count.

    Returns:
        Dissemination in space, and what images tell of the syndrome; None without zones.

    Example:
        >>> (case, *_) = measure_files("masks").cases
        >>> ms_criteria(case.labels[0]) is None
        True
    """
    if all(lesion.zone is None for lesion in label.lesions):
        return None
    zones = [
        lesion.zone
        for lesion in label.lesions
        if lesion.zone is not None and max(lesion.longest.mm, lesion.third_mm or 0.0) >= LEAST_MM
    ]
    return dissemination_in_space(zones), radiologically_isolated(zones)


def check_measures(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse what :func:`write_measures` could not write, before the work.

    Raises:
        InputError: The suffix is another one, or a file is there or cannot be written.
    """
    for file in _files(Path(path)):
        check_target(file, overwrite=overwrite)


def write_measures(
    measured: Measured,
    path: str | os.PathLike[str],
    *,
    edges: Sequence[float] = EDGES_MM3,
    criteria: Sequence[str] = (),
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write what was measured.

    Args:
        measured: What was measured.
        path: ``NAME.csv``, which holds :func:`lesion_table` and gets ``NAME_totals.csv`` with
            :func:`total_table` beside it; or ``NAME.json``, with all of it and the ends of
            diameters as voxel indices.
        edges: See :func:`total_table`.
        criteria: See :func:`total_table`.
        overwrite: Replace files that exist.

    Returns:
        The files.

    Raises:
        InputError: As :func:`total_table`; or the files cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "measures.csv"
        >>> [file.name for file in write_measures(measure_files("masks"), path)]
        ['measures.csv', 'measures_totals.csv']
    """
    files = _files(Path(path))
    check_measures(path, overwrite=overwrite)
    if len(files) == 1:
        write_json(_as_json(measured, edges, criteria), files[0], overwrite=overwrite)
    else:
        tables = (lesion_table(measured), total_table(measured, edges=edges, criteria=criteria))
        for table, file in zip(tables, files, strict=True):
            write_csv(_lines(table), file, overwrite=overwrite)
    return files


def _files(path: Path) -> tuple[Path, ...]:
    if path.suffix.lower() == ".json":
        return (path,)
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: measurements are written as .csv or .json")
    return path, path.with_name(path.stem + _TOTALS)


def _lines(table: Table) -> list[list[object]]:
    """Return the columns of all rows, ``error`` the last, and the cells of each row."""
    columns = list(dict.fromkeys(name for row in table for name in row)) or ["case"]
    columns.sort(key=lambda name: name == "error")
    cells = [["" if row.get(name) is None else row[name] for name in columns] for row in table]
    return [list(columns), *cells]


def _as_json(
    measured: Measured, edges: Sequence[float], criteria: Sequence[str]
) -> Mapping[str, Any]:
    return {
        "cases": [
            {
                "case": case.case,
                "mask": str(case.mask),
                "slice_mm": case.slice_mm,
                "labels": [_label_as_json(case, label, edges, criteria) for label in case.labels],
            }
            for case in measured.cases
        ],
        "failed": [failure._asdict() for failure in measured.failed],
    }


def _label_as_json(
    case: MeasuredCase, label: LabelMeasures, edges: Sequence[float], criteria: Sequence[str]
) -> dict[str, Any]:
    classes = [asdict(one) for one in size_classes(label, edges)]
    for one in classes:
        one["high"] = None if np.isinf(one["high"]) else one["high"]
    found = asdict(label)
    for lesion in (found, *found["lesions"]):
        del lesion["means"]  # of maps, which files do not give
    return {
        **found,
        "largest": label.largest,
        "size_classes": classes,
        "response": {
            name: asdict(one) for name, one in responses_of(case, label, criteria).items()
        },
        "zones": zones_in(label),
    }
