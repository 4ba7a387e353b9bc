"""False alarms: what is found in cases that have nothing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from segjax.errors import InputError
from segjax.evaluate.statistics import Interval, mean_interval, named, wilson_interval

__all__ = ["FalseAlarms", "false_alarms"]


@dataclass(frozen=True)
class FalseAlarms:
    """What was found in cases whose truth lacks a label.

    Attributes:
        cases: Number of such cases.
        alarms: Those in which anything was found.
        share: Alarms over cases, with Wilson's interval; NaN without such a case.
        size: Mean size of what was found, over all such cases, with its bootstrap interval.
        unit: Of the size: ``"ml"``, or ``"pixels"`` of slices.
        lesions: Mean number of false lesions over all such cases; NaN where lesions were not
            counted.
    """

    cases: int
    alarms: int
    share: Interval
    size: Interval
    unit: str
    lesions: float

    @property
    def cases_per_alarm(self) -> float:
        """Cases over alarms: how many healthy images one reads until the next false alarm.

        Infinite where there was none in any, NaN without such a case.
        """
        if not self.cases:
            return math.nan
        return self.cases / self.alarms if self.alarms else math.inf

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, for a tidy table."""
        return {
            "cases_without_label": self.cases,
            "false_alarms": self.alarms,
            "cases_per_false_alarm": self.cases_per_alarm,
            **named("false_alarm_share", self.share),
            **named(f"false_positive_{self.unit}", self.size),
            "false_lesions_per_case": self.lesions,
        }


def false_alarms(
    rows: Iterable[Mapping[str, Any]], *, confidence: float = 0.95, seed: int = 0
) -> FalseAlarms:
    """Count what was found in the cases whose truth lacks a label.

    Args:
        rows: Of one label, from :func:`segjax.evaluate.compare.score`; those whose truth holds
            the label are passed over.
        confidence: Of the intervals.
        seed: Seed of the bootstrap.

    Returns:
        The counts, and the mean size of false positives.

    Raises:
        InputError: There are rows of several labels, or of slices and volumes.

    Example:
        >>> rows = [{"case": "a", "label": "lesion", "truth_ml": 0.0, "prediction_ml": 0.0},
        ...         {"case": "b", "label": "lesion", "truth_ml": 0.0, "prediction_ml": 0.3}]
        >>> found = false_alarms(rows)
        >>> found.alarms, found.cases_per_alarm, found.size.value
        (1, 2.0, 0.15)
    """
    rows = list(rows)
    if len(labels := sorted({str(row["label"]) for row in rows})) > 1:
        raise InputError(f"rows are of the labels {', '.join(labels)}: count one at a time")
    if len({"truth_ml" in row for row in rows}) > 1:
        raise InputError("slices and volumes have no common size: count them apart")
    unit = "ml" if not rows or "truth_ml" in rows[0] else "voxels"
    absent = [row for row in rows if not row[f"truth_{unit}"]]
    sizes = [float(row[f"prediction_{unit}"]) for row in absent]
    alarms = sum(size > 0 for size in sizes)
    lesions = [row["false_lesions"] for row in absent if "false_lesions" in row]
    return FalseAlarms(
        cases=len(absent),
        alarms=alarms,
        share=wilson_interval(alarms, len(absent), confidence=confidence),
        size=mean_interval(sizes, confidence=confidence, seed=seed),
        unit="pixels" if unit == "voxels" else unit,
        lesions=fmean(lesions) if lesions else math.nan,
    )
