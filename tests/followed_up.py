"""Follow-ups made by hand: boxes that appear, grow, shrink or vanish in a head of noise."""

import datetime
from dataclasses import replace

import numpy as np

from segjax.evaluate.activity import activity_of
from segjax.evaluate.changes import KINDS, LesionChange
from segjax.evaluate.difference import ImageDifference
from segjax.evaluate.followup import Comparison, FollowUp, Placed
from segjax.evaluate.measure import measure_mask
from segjax.evaluate.registration import PairFit, Registration
from segjax.evaluate.selfcheck import PutIn, SelfCheck, SizeClass
from segjax.evaluate.statistics import Interval
from segjax.grid import Grid
from segjax.volume import Volume

SHAPE, AFFINE = (40, 48, 30), np.diag([2.0, 2.0, 3.0, 1.0])
VOXEL = 12.0  # mm³
NAMES = ("background", "lesion")
BOXES = {  # places of the lesions before and after
    "new": (None, np.s_[26:32, 10:14, 8:11]),
    "enlarged": (np.s_[8:12, 12:16, 8:10], np.s_[8:14, 12:16, 8:11]),
    "stable": (np.s_[10:14, 30:34, 14:16], np.s_[10:14, 30:34, 14:16]),
    "shrunk": (np.s_[24:30, 30:34, 20:22], np.s_[24:27, 30:34, 20:22]),
    "gone": (np.s_[18:21, 22:25, 15:17], None),
}


def change(number, kind, before, after, index, **more):
    """Return a change of some voxels before to some after, around an index."""
    one, other = before * VOXEL, after * VOXEL
    centre = tuple(float(n) for n in index)
    ras = tuple(float(n) for n in AFFINE[:3, :3] @ index)
    given = LesionChange(
        number=number, label="lesion", value=1, kind=kind, baseline_mm3=one, followup_mm3=other,
        change_mm3=other - one, change_percent=100 * (other - one) / one if one else None,
        tolerance_mm3=30.0, baseline_parts=int(one > 0), followup_parts=int(other > 0),
        baseline_longest_mm=8.0 if one else None, baseline_perpendicular_mm=6.5 if one else None,
        followup_longest_mm=9.25 if other else None,
        followup_perpendicular_mm=7.0 if other else None,
        centre_ras=ras, centre_lps=(-ras[0], -ras[1], ras[2]), centre_index=centre,
        box=(slice(0, 1),) * 3, confidence=0.9, evidence="both",
        percent_per_year=None, doubling_days=None,
    )  # fmt: skip
    return replace(given, **more)


def followed(*, kinds=KINDS, images=True, compared=True, days=(203,), subject="case 7"):
    """Return a follow-up of two visits whose lesions changed as they are named.

    Each further number of days adds a visit at which nothing changed.
    """
    masks, places = [np.zeros(SHAPE, np.uint8) for _ in range(2)], {}
    for kind in kinds:
        places[kind] = [np.zeros(SHAPE, bool) for _ in range(2)]
        for mask, place, box in zip(masks, places[kind], BOXES[kind], strict=True):
            if box is not None:
                mask[box], place[box] = 1, True
    voxels = {kind: [int(place.sum()) for place in own] for kind, own in places.items()}
    numbers, changes = np.zeros(SHAPE, np.int32), []
    for kind in sorted(kinds, key=lambda kind: -abs(voxels[kind][1] - voxels[kind][0])):
        where = places[kind][0] | places[kind][1]
        numbers[where] = len(changes) + 1
        middle = np.argwhere(where).mean(axis=0)
        changes.append(change(len(changes) + 1, kind, *voxels[kind], middle))
    whole = follow_up_of(masks, numbers, changes, images=images, compared=compared, days=days)
    return replace(whole, subject=subject)


def follow_up_of(masks, numbers, changes, *, images=True, compared=True, days=(203,), labels=NAMES):
    """Return the follow-up of two masks, the second of which is that of all later visits."""
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, np.uint8)
    brain[4:36, 4:44, 3:27] = 1
    masks = [masks[0], *(masks[1] for _ in days)]
    scans = [
        (brain * rng.normal(100, 8, SHAPE) + 60 * (mask > 0)).astype(np.float32) for mask in masks
    ]
    dates = [None] * len(masks)
    if None not in days:
        passed = np.cumsum([0, *days]).tolist()
        dates = [datetime.date(2024, 1, 31) + datetime.timedelta(days=each) for each in passed]
    visits = tuple(
        Placed(
            name=f"visit {n + 1}",
            date=dates[n],
            image=Volume(scans[n], AFFINE) if images else None,
            mask=Volume(mask, AFFINE),
            probabilities=None,
            loads=measure_mask(Volume(mask, AFFINE), labels=labels),
        )
        for n, mask in enumerate(masks)
    )
    pairs = []
    for first, gap in enumerate(days):
        found = () if first else tuple(changes)
        difference = _difference(*scans[first : first + 2]) if images and compared else None
        own = Volume(0 * numbers if first else numbers, AFFINE)
        pairs.append(Comparison(first, first + 1, gap, difference, found, own, activity_of(found)))
    fits = [PairFit(n, n + 1, np.eye(4), 0.97, 0.8, 0.12, 2.25, 4.5) for n in range(len(days))]
    registration = Registration(
        matrices=(np.eye(4),) * len(masks),
        grid=Grid(SHAPE, AFFINE),
        kind="rigid" if images else "none",
        pairs=tuple(fits) if images else (),
    )
    shared = Volume(brain, AFFINE) if images else None
    return FollowUp("", labels, visits, tuple(pairs), registration, shared)


def _difference(before, after):
    z = ((after - before) / 11.3).astype(np.float32)
    changed = np.where(np.abs(z) > 4, np.sign(z), 0).astype(np.int8)
    volumes = (before, after, z, changed, np.clip(np.abs(z) / 8, 0, 1))
    return ImageDifference(*(Volume(each, AFFINE) for each in volumes), True, "")


def checked(followup, *, copies=(0, 0, 0), put_in=True):
    """Return a follow-up with a check: 33 of 40 lesions from 3 to 5 mm were found."""
    lesions = [PutIn(0, 4.0, 33.5, (0.0, 0.0, 0.0), 1.0, n < 33) for n in range(40)]
    share, none = Interval(0.825, 0.68, 0.913), Interval(np.nan, np.nan, np.nan)
    sizes = (
        SizeClass(0.0, 3.0, 0, 0, none),
        SizeClass(3.0, 5.0, 40 if put_in else 0, 33 if put_in else 0, share if put_in else none),
        SizeClass(5.0, None, 0, 0, none),
    )
    check = SelfCheck(
        sizes, share if put_in else none, (0, 1) if put_in else (), copies,
        tuple(lesions) if put_in else (), "drawn ellipsoids", 7,
    )  # fmt: skip
    return replace(followup, check=check)


def with_comparison(followup, **more):
    """Return a follow-up whose first comparison has other values."""
    first, *others = followup.comparisons
    return replace(followup, comparisons=(replace(first, **more), *others))
