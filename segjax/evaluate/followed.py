"""What a follow-up comes to, as tables and as plain data for JSON."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from segjax.evaluate.changes import KINDS, LesionChange
from segjax.evaluate.followup import Comparison, FollowUp, Placed
from segjax.evaluate.measure import LabelMeasures

__all__ = ["as_json", "change_table", "is_compared", "load_table", "summary_of"]

_YEAR = 365.25  # days
_DIGITS = 4

Table = list[dict[str, Any]]


def change_table(followup: FollowUp) -> Table:
    """Return a row for each lesion and pair of visits.

    Columns: ``baseline`` and ``followup`` (the visits) and the ``days`` between; ``lesion`` (1 is
    the largest change), ``label``, ``kind``; ``baseline_mm3``, ``followup_mm3``, ``change_mm3``,
    ``change_percent``, ``tolerance_mm3``; ``baseline_parts``, ``followup_parts``; the diameters
    ``baseline_longest_mm`` … ``followup_perpendicular_mm``; ``percent_per_year``,
    ``doubling_days``; ``confidence``, ``evidence``, and whether the images ``contradicted`` the
    masks, so that a lesion is told as stable; the centre ``x``, ``y``, ``z`` (RAS),
    ``x_lps`` … and as a voxel index ``i``, ``j``, ``k``, all of the half-way grid. What is not
    known is empty.

    Example:
        >>> from segjax.evaluate.followup import Visit, follow_up
        >>> from segjax.volume import Volume
        >>> lesion = np.zeros((24, 24, 24), np.uint8)
        >>> lesion[4:10, 4:10, 4:10] = 1
        >>> before, after = Volume(0 * lesion, np.eye(4)), Volume(lesion, np.eye(4))
        >>> found = follow_up([Visit("2023", mask=before), Visit("2024", mask=after)])
        >>> row = change_table(found)[0]
        >>> row["followup"], row["kind"], row["change_mm3"]
        ('2024', 'new', 216.0)
    """
    return [
        {
            "baseline": followup.visits[pair.first].name,
            "followup": followup.visits[pair.second].name,
            "days": pair.days,
            **_row(change),
        }
        for pair in followup.comparisons
        for change in pair.changes
    ]


def _row(change: LesionChange) -> dict[str, Any]:
    plain = (
        "baseline_mm3", "followup_mm3", "change_mm3", "change_percent", "tolerance_mm3",
        "baseline_parts", "followup_parts", "baseline_longest_mm", "baseline_perpendicular_mm",
        "followup_longest_mm", "followup_perpendicular_mm", "percent_per_year", "doubling_days",
        "confidence", "evidence", "contradicted",
    )  # fmt: skip
    places = {
        **dict(zip("xyz", change.centre_ras, strict=True)),
        **dict(zip(("x_lps", "y_lps", "z_lps"), change.centre_lps, strict=True)),
        **dict(zip("ijk", change.centre_index, strict=True)),
    }
    return {
        "lesion": change.number,
        "label": change.label,
        "kind": change.kind,
        **{name: as_json(getattr(change, name)) for name in plain},
        **{name: round(value, 2) for name, value in places.items()},
    }


def load_table(followup: FollowUp) -> Table:
    """Return a row for each label and pair of visits: loads, and how many lesions changed.

    Columns: ``baseline``, ``followup``, ``days``, ``label``; ``baseline_ml``, ``followup_ml``,
    ``change_ml``, ``change_percent``, ``percent_per_year`` (empty where so much a year would leave
    less than nothing), all empty without masks; and how many
    lesions are ``new``, ``enlarged``, ``stable``, ``shrunk`` and ``gone``, empty where nothing was
    compared.

    Example:
        >>> from segjax.evaluate.followup import Visit, follow_up
        >>> from segjax.volume import Volume
        >>> mask = Volume(np.ones((9, 9, 9), np.uint8), np.eye(4))
        >>> (row,) = load_table(follow_up([Visit("2023", mask=mask), Visit("2024", mask=mask)]))
        >>> row["label"], row["followup_ml"], row["new"], row["stable"]
        ('lesion', 0.729, 0, 1)
    """
    return [row for pair in followup.comparisons for row in _loads(followup, pair)]


def _loads(followup: FollowUp, pair: Comparison) -> Iterator[dict[str, Any]]:
    before, after = followup.visits[pair.first], followup.visits[pair.second]
    for label in followup.labels[1:]:
        first, second = _load(before, label), _load(after, label)
        kinds = [change.kind for change in pair.changes if change.label == label]
        change = None if first is None or second is None else second - first
        percent = None if change is None or not first else 100 * change / first
        yearly = None if percent is None or not pair.days else percent * _YEAR / pair.days
        yield {
            "baseline": before.name,
            "followup": after.name,
            "days": pair.days,
            "label": label,
            "baseline_ml": as_json(first),
            "followup_ml": as_json(second),
            "change_ml": as_json(change),
            "change_percent": as_json(percent),
            "percent_per_year": as_json(yearly if yearly is None or yearly > -100 else None),
            **{kind: kinds.count(kind) if is_compared(followup, pair) else None for kind in KINDS},
        }


def is_compared(followup: FollowUp, pair: Comparison) -> bool:
    """Say whether masks or images tell what changed; where neither do, "no change" is unknown."""
    if any(followup.visits[number].mask is not None for number in (pair.first, pair.second)):
        return True
    return pair.difference is not None and pair.difference.reliable


def _load(visit: Placed, label: str) -> float | None:
    return next((load.size for load in visit.loads if load.label == label), None)


def summary_of(followup: FollowUp) -> dict[str, Any]:
    """Return what a follow-up found, as data that JSON can hold.

    Dates are written where the visits have some; the days between visits always, where they are
    known.

    Example:
        >>> from segjax.evaluate.followup import Visit, follow_up
        >>> from segjax.volume import Volume
        >>> mask = Volume(np.ones((9, 9, 9), np.uint8), np.eye(4))
        >>> found = summary_of(follow_up([Visit("2023", mask=mask), Visit("2024", mask=mask)]))
        >>> list(found)
        ['subject', 'labels', 'visits', 'registration', 'comparisons', 'check']
    """
    return {
        "subject": followup.subject,
        "labels": list(followup.labels),
        "visits": [_visit(visit) for visit in followup.visits],
        "registration": {
            "kind": followup.registration.kind,
            "pairs": [
                {name: value for name, value in as_json(pair).items() if name != "matrix"}
                for pair in followup.registration.pairs
            ],
            "shape": list(followup.registration.grid.shape),
            "spacing_mm": as_json(followup.registration.grid.spacing),
        },
        "comparisons": [_comparison(followup, pair) for pair in followup.comparisons],
        "check": as_json(followup.check),
    }


def _visit(visit: Placed) -> dict[str, Any]:
    dated = {} if visit.date is None else {"date": visit.date.isoformat()}
    return {"name": visit.name, **dated, "loads": [_measures(load) for load in visit.loads]}


def _measures(load: LabelMeasures) -> dict[str, Any]:
    largest = load.lesions[0] if load.lesions else None
    return {
        "label": load.label,
        "ml": as_json(load.size),
        "lesions": len(load.lesions),
        "largest_ml": as_json(load.largest),
        "largest_longest_mm": as_json(largest and largest.longest.mm),
        "largest_perpendicular_mm": as_json(largest and largest.perpendicular.mm),
    }


def _comparison(followup: FollowUp, pair: Comparison) -> dict[str, Any]:
    compared = pair.difference
    images = {"compared": False, "reliable": None, "reason": ""}
    if compared is not None:
        images = {"compared": True, "reliable": compared.reliable, "reason": compared.reason}
    return {
        "baseline": followup.visits[pair.first].name,
        "followup": followup.visits[pair.second].name,
        "days": pair.days,
        "images": images,
        "loads": [
            {name: value for name, value in row.items() if name not in ("baseline", "followup")}
            for row in _loads(followup, pair)
        ],
        "contradicted": sum(change.contradicted for change in pair.changes),
        "activity": as_json(pair.activity) if is_compared(followup, pair) else None,
        "least_confidence": as_json(_least(pair.changes)),
    }


def _least(changes: Sequence[LesionChange]) -> float | None:
    """Return how sure the change is of which least is sure."""
    sure = [change.confidence for change in changes if change.kind != "stable"]
    return min(sure, default=None)


def as_json(value: Any) -> Any:
    """Return numbers, texts, and dataclasses of them, as JSON holds them: rounded, None for NaN.

    Example:
        >>> as_json((1 / 3, math.nan, slice(2, 5)))
        [0.3333, None, [2, 5]]
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # with names
        value = value._asdict()
    if isinstance(value, slice):
        value = (value.start, value.stop)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(one) for one in value]
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value
