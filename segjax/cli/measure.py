"""``segjax measure``: sizes, diameters and places of the lesions of masks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA

if TYPE_CHECKING:
    from segjax.evaluate.measure import LabelMeasures, LesionMeasures
    from segjax.evaluate.measured import Measured, MeasuredCase, SizeCount

_NONE = "(default: none)"
_PRINTED = 20  # lesions of a label


@dataclass(frozen=True)
class Measure:
    """Measure the lesions of a mask, or of all masks of a folder.

    Of each label: volume, number of lesions, and how many and how much in each class of
    size. Of each lesion, which is all voxels that touch: volume, the longest diameter in
    an axial slice and the longest one across it, its extent across the slices, the
    longest diameter of all, its place, surface and sphericity. With --image its mean
    intensity and the contrast to what lies within 3 mm around it, with --brain the
    distance to the brain's edge, with --zones where it lies: periventricular,
    juxtacortical, infratentorial or in the deep white matter.

    --image, --brain and --zones take a file, a folder of files with the names of the masks,
    or the name of a file beside every mask. A case that cannot be measured stops no
    other: it is named at the end, and the exit code is 1.

    --criteria adds the figure that is compared between visits: rano and rano-meningioma the
    sum of products of diameters, rano-bm and recist-1.1 the sum of longest diameters.

    Examples:
        segjax measure lesions.nii.gz --image flair.nii.gz
        segjax measure masks --image brains/images -o measures.csv
        segjax measure masks --brain brains/images --zones aseg -o measures.json
        segjax measure patients --label lesions.nii.gz --image flair.nii.gz
        segjax measure tumour.nii.gz --criteria rano rano-meningioma
        segjax measure brats/labelsTr --labels 1,4=core 2=edema -o measures.csv
    """

    masks: Annotated[Positional[Path], arg(metavar="MASK")]
    """A mask, or a folder of masks."""
    out: Annotated[
        Path | None, arg(aliases=["-o"], metavar="FILE.csv|.json", help_behavior_hint=_NONE)
    ] = None
    """Write a row for each lesion, and the totals beside it: NAME_totals.csv; or all as JSON."""
    image: Annotated[Path | None, arg(metavar="IMAGE", help_behavior_hint=_NONE)] = None
    """Image to measure intensities in."""
    brain: Annotated[Path | None, arg(metavar="BRAIN", help_behavior_hint=_NONE)] = None
    """Mask of the brain, or an image of the brain alone: what is not 0, without holes."""
    zones: Annotated[Path | None, arg(metavar="ZONES", help_behavior_hint=_NONE)] = None
    """Label map of FreeSurfer, SynthSeg or FastSurfer, such as aparc+aseg.mgz; or the word
    atlas: one that is registered to the image."""
    names: Annotated[
        tuple[str, ...],
        arg(metavar="NAME...", help_behavior_hint="(default: of dataset.json, or 1, 2, ...)"),
    ] = ()
    """Names of the classes 1, 2, ..."""
    coding: Annotated[
        tuple[str, ...], arg(name="labels", metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)
    ] = ()
    """What the values in MASK stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_NONE)] = None
    """Mask in every subject's folder, where MASK holds such folders."""
    sizes: Annotated[
        tuple[float, ...], arg(metavar="MM3...", help_behavior_hint="(default: 10 100)")
    ] = ()
    """Edges between the classes of size, in mm³ (2D: mm², PNG: pixels)."""
    criteria: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """rano, rano-meningioma, rano-bm or recist-1.1: their figures of each label."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace files that exist."""

    def __call__(self) -> None:
        """Print the measurements of every case and label."""
        from segjax.cli.console import print_facts, print_words
        from segjax.data.labels import asked_coding
        from segjax.evaluate.measured import (
            check_edges,
            check_measures,
            measure_files,
            write_measures,
        )
        from segjax.evaluate.response import criteria_of
        from segjax.evaluate.sizes import EDGES_MM3

        for name in self.criteria:
            criteria_of(name)
        edges = self.sizes or EDGES_MM3
        check_edges(edges)
        if self.out:
            check_measures(self.out, overwrite=self.overwrite)
        measured = measure_files(
            self.masks,
            images=self.image,
            brains=self.brain,
            zones=self.zones,
            label=self.label,
            coding=asked_coding(self.coding, names=self.names),
        )
        if measured.cases:
            _print(measured, edges, self.criteria)
        if self.out and measured.cases:
            files = write_measures(
                measured, self.out, edges=edges, criteria=self.criteria, overwrite=self.overwrite
            )
            print_facts({"written": ", ".join(map(str, files))})
        if measured.failed and len(measured.cases) + len(measured.failed) > 1:
            print_words(["failed", "reason"], measured.failed)
        measured.check()


def _print(measured: "Measured", edges: Sequence[float], criteria: Sequence[str]) -> None:
    """Print the lesions of a single mask, and the totals of all."""
    from segjax.cli.console import print_table, say

    if len(measured.cases) == 1:
        for label in measured.cases[0].labels:
            _print_lesions(label)
    rows = [
        dict(_totals(case, label, edges, criteria))
        for case in measured.cases
        for label in case.labels
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print_table(columns, [[row.get(name, "–") for name in columns] for row in rows])
    for case in measured.cases:
        for label in case.labels:
            _print_ms(case.case, label)
    if criteria and any(case.slice_mm is None for case in measured.cases):
        say("Response criteria are of volumes: pictures have none.\n")


def _totals(
    case: "MeasuredCase", label: "LabelMeasures", edges: Sequence[float], criteria: Sequence[str]
) -> Iterator[tuple[str, str]]:
    from segjax.evaluate.measured import responses_of, size_classes, zones_in

    flat = label.unit == "pixels"
    size = "{:.0f} pixels" if flat else "{:.3f} ml"
    yield "case", case.case
    yield "label", label.label
    yield "volume", size.format(label.size)
    yield "lesions", str(len(label.lesions))
    yield "largest", size.format(label.largest)
    yield "longest × across", _across(label.lesions[0]) if label.lesions else "–"
    for one in size_classes(label, edges):
        unit, load = ("mm²", "{:.0f} mm²") if flat else ("mm³", "{:.3f} ml")
        yield _range(one, unit), f"{one.lesions} ({load.format(one.load)})"
    for name, figure in responses_of(case, label, criteria).items():
        unit = figure.unit.replace("2", "²")
        yield name, f"{figure.value:.0f} {unit} of {len(figure.targets)}"
    for zone, count in zones_in(label).items():
        yield zone, str(count)


def _range(one: "SizeCount", unit: str) -> str:
    if not one.low:
        return f"under {one.high:g} {unit}"
    if math.isinf(one.high):
        return f"{one.low:g} {unit} and more"
    return f"{one.low:g} to {one.high:g} {unit}"


def _print_ms(case: str, label: "LabelMeasures") -> None:
    """Say what lesions of 3 mm or more come to by criteria of multiple sclerosis."""
    from segjax.cli.console import say
    from segjax.evaluate.measured import ms_criteria

    if (found := ms_criteria(label)) is None:
        return
    dissemination, isolated = found
    areas = ", ".join(dissemination.areas) or "none"
    fulfilled = "fulfilled" if dissemination.fulfilled else "not fulfilled"
    met = [name for name, holds in isolated.criteria.items() if holds]
    say(f"{case}: dissemination in space (McDonald 2017) {fulfilled}: {areas}")
    say(f"{case}: {len(met)} of 4 criteria of 2009 (isolated syndrome): {'; '.join(met) or 'none'}")


def _across(lesion: "LesionMeasures") -> str:
    return f"{lesion.longest.mm:.1f} × {lesion.perpendicular.mm:.1f}"


def _print_lesions(label: "LabelMeasures") -> None:
    from segjax.cli.console import print_table, say

    if not label.lesions:
        return
    flat = " (a pixel of PNG or NPY, which tell no size, counts as 1 mm)"
    unit = "mm" + flat * (label.unit == "pixels")
    say(f"Lesions of label {label.label}, in {unit}; the centre to the right, front and head")
    rows = [dict(_cells(lesion)) for lesion in label.lesions[:_PRINTED]]
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    print_table(columns, [[_text(row[name]) for name in columns] for row in rows])
    if len(label.lesions) > _PRINTED:
        say(f"and {len(label.lesions) - _PRINTED} smaller ones, which -o FILE.csv writes\n")


def _cells(lesion: "LesionMeasures") -> Iterator[tuple[str, float | str | None]]:
    unit = "mm³" if lesion.third_mm is not None else "mm²"
    yield "lesion", str(lesion.number)
    yield unit, round(lesion.size, 1)
    yield "longest × across", _across(lesion)
    yield "third", None if lesion.third_mm is None else round(lesion.third_mm, 1)
    yield "longest in 3D", None if lesion.third_mm is None else round(lesion.feret.mm, 1)
    yield "centre", " ".join(f"{place:.1f}" for place in lesion.centre_ras)
    yield "sphericity", lesion.sphericity
    yield "mean", lesion.mean
    yield "contrast", lesion.contrast
    yield "to edge", None if lesion.edge_mm is None else round(lesion.edge_mm, 1)
    yield "zone", lesion.zone


def _text(cell: float | str | None) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return str(cell)
