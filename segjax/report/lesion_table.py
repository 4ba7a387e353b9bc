"""The lesions of many cases as a table, with sums and means that hide nothing."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from segjax.evaluate.lesions import COUNTS, RATES, LesionRule, rates
from segjax.evaluate.sizes import SizeClass
from segjax.evaluate.statistics import Interval
from segjax.evaluate.summary import interval_in_words
from segjax.text import plural

__all__ = ["lesion_table", "rule_in_words", "size_table"]

Cells = list[str | float | int]

_HEADINGS = (
    "case", "lesions", "found", "missed", "predicted", "false pos.",
    "sensitivity", "precision", "F1",
)  # fmt: skip


def lesion_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Cells]]:
    """Return counts, ratios and loads of every case, of all lesions together, and the means.

    In the row ``all lesions`` the counts are summed and the ratios are those of the sums: every
    lesion weighs the same. In the row ``mean`` every case weighs the same; a ratio that a case
    does not have (NaN) is left out of its mean, and the number of the others is said with it.

    Args:
        rows: Rows of one label that :func:`segjax.evaluate.compare.score` gave with a
            rule.

    Returns:
        Headings and rows. Cells are text, counts or ratios, NaN where there is none.

    Example:
        >>> row = {"case": "a", "true_lesions": 4, "found_lesions": 3, "predicted_lesions": 2,
        ...        "false_lesions": 1, "lesion_sensitivity": 0.75, "lesion_precision": 0.5,
        ...        "lesion_f1": 0.6, "truth_ml": 1.5, "prediction_ml": 1.0}
        >>> lesion_table([row])[1]
        [['a', 4, 3, 1, 2, 1, 0.75, 0.5, 0.6, 1.5, 1.0]]
    """
    loads = [name for name in rows[0] if name.startswith(("truth_", "prediction_"))]
    headings = [*_HEADINGS, *(name.replace("_", " ").replace("voxels", "pixels") for name in loads)]
    cells = [_cells(row, loads) for row in rows]
    if len(rows) > 1:
        total = _total(rows, loads)
        cells += [_cells(total, loads), _means(rows, total, loads)]
    return headings, cells


def size_table(classes: Sequence[SizeClass], rank: int) -> tuple[list[str], list[Cells]]:
    """Return how many lesions of each size were found, and how many of them are true.

    Args:
        classes: Of all cases, from :func:`segjax.evaluate.sizes.detection_by_size`.
        rank: 3 where sizes are volumes, 2 where they are areas.

    Returns:
        Headings and rows, with Wilson's 95 % intervals.

    Example:
        >>> from segjax.evaluate.sizes import detection_by_size
        >>> size_table(detection_by_size([]), 3)[1][0][:3]
        ['under 10', 0, 0]
    """
    unit = f"mm{'³' if rank == 3 else '²'}"
    headings = [
        f"size ({unit})", "lesions", "found", "sensitivity (95 %)", "predicted", "false pos.",
        "precision (95 %)",
    ]  # fmt: skip
    rows: list[Cells] = [
        [
            _range(one),
            one.true_lesions,
            one.found_lesions,
            _share(one.sensitivity),
            one.predicted_lesions,
            one.false_lesions,
            _share(one.precision),
        ]
        for one in classes
    ]
    return headings, rows


def _range(one: SizeClass) -> str:
    if not one.low:
        return f"under {one.high:g}"
    return f"{one.low:g} and more" if math.isinf(one.high) else f"{one.low:g} to {one.high:g}"


def _share(share: Interval) -> str:
    if math.isnan(share.value):
        return "–"
    return f"{share.value:.3f} ({interval_in_words(share)})"


def _cells(row: Mapping[str, Any], loads: Sequence[str]) -> Cells:
    return [row["case"], *_counts(row), *(row[name] for name in (*RATES, *loads))]


def _total(rows: Sequence[Mapping[str, Any]], loads: Sequence[str]) -> dict[str, Any]:
    """Return the row of all lesions together."""
    sums = {name: sum(row[name] for row in rows) for name in (*COUNTS, *loads)}
    ratios = zip(RATES, rates(*(sums[name] for name in COUNTS)), strict=True)
    return {"case": "all lesions", **sums, **dict(ratios)}


def _means(
    rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any], loads: Sequence[str]
) -> Cells:
    """Return the row in which every case weighs the same."""
    counts = [f"{count / len(rows):.1f}" for count in _counts(total)]
    ratios = [_mean([row[name] for row in rows]) for name in RATES]
    return ["mean", *counts, *ratios, *(total[name] / len(rows) for name in loads)]


def rule_in_words(rule: LesionRule, rank: int) -> str:
    """Say what counts as a lesion and as found.

    Args:
        rule: The rule.
        rank: Spatial axes of the masks: 2 or 3.

    Returns:
        A few sentences.

    Example:
        >>> rule_in_words(LesionRule(min_volume=14.1), 3)[:76]
        'A lesion is a group of connected voxels (26 neighbours) of at least 14.1 mm³'
    """
    voxels = "voxels" if rank == 3 else "pixels"
    neighbours = rule.connectivity or (26 if rank == 3 else 8)
    least = f" of at least {rule.min_volume:g} mm{'³' if rank == 3 else '²'}"
    covered = f"more than {100 * rule.overlap:g} %" if rule.overlap else "at least one"
    spread = (
        f", and when of the lesions that cover it those with the largest share, up to "
        f"{100 * rule.enough:g} % of what is covered, lie outside by at most "
        f"{100 * rule.outside:g} % each"
    )
    return (
        f"A lesion is a group of connected {voxels} ({neighbours} neighbours)"
        f"{least if rule.min_volume else ''}. A true lesion is found, and a predicted one is no "
        f"false positive, when the other mask covers {covered} of its {voxels}"
        f"{spread if rule.outside < 1 else ''}."
    )


def _counts(row: Mapping[str, Any]) -> list[int]:
    true, found, predicted, false = (row[name] for name in COUNTS)
    return [true, found, true - found, predicted, false]


def _mean(values: Sequence[float]) -> float | str:
    known = [value for value in values if not math.isnan(value)]
    if len(known) in (0, len(values)):
        return fmean(values)
    return f"{fmean(known):.3f} ({plural(len(known), 'case')})"
