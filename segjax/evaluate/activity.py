"""What changes of lesions mean: activity of multiple sclerosis, and growth of a mass.

Masks tell the part of MRI alone: what criteria say of relapses, of disability, of enhancement and
of steroids is not in these figures. They inform whoever judges; they do not judge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segjax.errors import InputError
from segjax.evaluate.changes import KINDS, LesionChange

__all__ = ["Activity", "Growth", "activity_of", "growth_of"]

_RIO, _MODIFIED_RIO = 2, 4  # lesions; more than that
_YEAR = 365.25  # days
_MEASURABLE = 10.0  # mm
_PROGRESSION, _MINOR, _PARTIAL = 25.0, 25.0, 50.0  # percent of the area
_VOLUME = 40.0  # percent of the volume
_WHOLE = -100.0  # percent


@dataclass(frozen=True)
class Activity:
    """Lesions by what became of them, and what criteria of MS make of that.

    The scores are of the first year of a treatment with interferon: at another time they tell the
    count alone. Enhancing lesions, which the Rio score adds, are not counted: a mask does not tell
    them from others. Dissemination in time is shown by one new lesion against a baseline of any
    date; it says nothing of dissemination in space.

    Attributes:
        new: Number of new lesions.
        enlarged: Number of enlarged ones.
        stable: Number of stable ones.
        shrunk: Number of shrunk ones.
        gone: Number of those that are gone.
        rio: The MRI part of the Rio score: whether over two lesions are active.
        modified_rio: That of the modified Rio score: whether over four lesions are new.
        dissemination_in_time: Whether a lesion is new, as McDonald's criteria ask.
        no_activity: The MRI part of "no evidence of disease activity" (NEDA-3) but enhancement:
            whether no lesion is new or enlarged.

    Source: J. Río et al., Mult. Scler. 15, 2009; M. P. Sormani et al., Mult. Scler. 19, 2013 (over
        four; the abstract writes five); A. J. Thompson et al., Lancet Neurol. 17, 2018 (McDonald
        2017; the revision of 2024 keeps it as one way); G. Giovannoni et al., Mult. Scler. Relat.
        Disord. 4, 2015.
    """

    new: int
    enlarged: int
    stable: int
    shrunk: int
    gone: int
    rio: bool
    modified_rio: bool
    dissemination_in_time: bool
    no_activity: bool

    @property
    def active(self) -> int:
        """Number of new and enlarged lesions."""
        return self.new + self.enlarged


@dataclass(frozen=True)
class Growth:
    """Growth of a mass, such as a meningioma, from one visit to the next.

    V are volumes, d and D diameters in an axial slice, t years. What lacks a date, a baseline or a
    lesion to measure is None.

    Attributes:
        change_mm3: ``V2 - V1``.
        change_percent: ``100 (V2 - V1) / V1``.
        mm3_per_year: ``(V2 - V1) / t``: absolute growth rate.
        percent_per_year: ``100 (V2 - V1) / (V1 t)``: relative growth rate; None where so
            much a year would leave less than nothing.
        exponential_per_year: ``ln(V2 / V1) / t``.
        doubling_days: ``days · ln 2 / ln(V2 / V1)``; None where the change is within its tolerance
            or none of growth.
        longest_change_mm: Of the longest diameter.
        longest_mm_per_year: The same by the year.
        perpendicular_change_mm: Of the longest diameter across that.
        perpendicular_mm_per_year: The same by the year.
        area_change_percent: Of the product of both diameters.
        area_class: What RANO calls that of a meningioma: ``"progression"`` from 25 % on,
            ``"minor response"`` from -25 %, ``"partial response"`` from -50 %, else ``"stable"``;
            ``"complete response"`` where it is gone. None where it was not measurable, both
            diameters 10 mm or more, unless it is gone. RANO compares progression with the
            smallest size so far.
        volume_progression: Whether the volume grew by 40 % or more, and by more than its tolerance.

    Source: M. Nakamura et al., Neurosurgery 53, 2003 (rates, doubling time); R. Y. Huang et al.,
        Neuro-Oncology 21, 2019 (RANO).
    """

    change_mm3: float
    change_percent: float | None
    mm3_per_year: float | None
    percent_per_year: float | None
    exponential_per_year: float | None
    doubling_days: float | None
    longest_change_mm: float | None
    longest_mm_per_year: float | None
    perpendicular_change_mm: float | None
    perpendicular_mm_per_year: float | None
    area_change_percent: float | None
    area_class: str | None
    volume_progression: bool | None


def activity_of(changes: Sequence[LesionChange]) -> Activity:
    """Count what became of the lesions of MS, and apply the criteria.

    Args:
        changes: Of one label, as :func:`segjax.evaluate.changes.lesion_changes` gives them.

    Example:
        >>> activity_of([])
        Activity(new=0, enlarged=0, ..., dissemination_in_time=False, no_activity=True)
    """
    kinds = [change.kind for change in changes]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    active = counts["new"] + counts["enlarged"]
    return Activity(
        **counts,
        rio=active > _RIO,
        modified_rio=counts["new"] > _MODIFIED_RIO,
        dissemination_in_time=counts["new"] > 0,
        no_activity=active == 0,
    )


def growth_of(change: LesionChange, *, days: float | None = None) -> Growth:
    """Return the growth of a mass.

    Args:
        change: What became of it.
        days: From the first visit to the second.

    Raises:
        InputError: The days are not over 0.

    Example:
        >>> import numpy as np
        >>> from segjax.evaluate.changes import lesion_changes
        >>> before, after = np.zeros((2, 30, 30, 30), np.float32)
        >>> before[5:15, 5:15, 5:15] = after[5:20, 5:17, 5:15] = 1
        >>> (change,), _ = lesion_changes(before, after, np.eye(4), voxels_mm3=(1.0, 1.0))
        >>> growth = growth_of(change, days=2 * 365.25)
        >>> growth.change_percent, growth.percent_per_year, growth.area_class
        (80.0, 40.0, 'progression')
    """
    if days is not None and not 0 < days < math.inf:
        raise InputError(f"{days:g} days from the first visit to the second: give over 0")
    years = None if days is None else days / _YEAR
    before, after = change.baseline_mm3, change.followup_mm3
    rate = math.log(after / before) if before and after else None
    longest = _less(change.followup_longest_mm, change.baseline_longest_mm)
    across = _less(change.followup_perpendicular_mm, change.baseline_perpendicular_mm)
    area = _area_percent(change)
    percent = change.change_percent
    yearly = _per(percent, years)
    grown = change.change_mm3 > change.tolerance_mm3
    return Growth(
        change_mm3=change.change_mm3,
        change_percent=percent,
        mm3_per_year=_per(change.change_mm3, years),
        percent_per_year=None if yearly is None or yearly <= _WHOLE else yearly,
        exponential_per_year=_per(rate, years),
        doubling_days=days * math.log(2) / rate if days and rate and grown else None,
        longest_change_mm=longest,
        longest_mm_per_year=_per(longest, years),
        perpendicular_change_mm=across,
        perpendicular_mm_per_year=_per(across, years),
        area_change_percent=area,
        area_class=_area_class(change, area),
        volume_progression=None if percent is None else percent >= _VOLUME and grown,
    )


def _per(amount: float | None, years: float | None) -> float | None:
    return None if amount is None or years is None else amount / years


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _area_percent(change: LesionChange) -> float | None:
    before, after = (
        None if longest is None or across is None else longest * across
        for longest, across in (
            (change.baseline_longest_mm, change.baseline_perpendicular_mm),
            (change.followup_longest_mm, change.followup_perpendicular_mm),
        )
    )
    return 100 * (after - before) / before if before and after is not None else None


def _area_class(change: LesionChange, percent: float | None) -> str | None:
    if change.kind == "gone":
        return "complete response"
    across = change.baseline_perpendicular_mm
    if percent is None or across is None or across < _MEASURABLE:
        return None
    if percent >= _PROGRESSION:
        return "progression"
    if percent <= -_PARTIAL:
        return "partial response"
    return "minor response" if percent <= -_MINOR else "stable"
