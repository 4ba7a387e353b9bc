"""Put DICOM slices in order, and place them in the patient."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
from jaxtyping import Float64

from segjax.data.io.dicom.header import Frame
from segjax.errors import InputError
from segjax.grid import Grid

__all__ = ["SAME_PLACE", "heights", "holes", "is_localiser", "place", "sort"]

SAME_PLACE = 1e-2  # mm; two slices closer than that are one
_LEAST_TILT = 1e-4  # radians; scanners' gantries tilt by far more
_MOST_ROUNDED = 2  # decimals; fewer are no rounding
_UNEVEN = 0.1  # of the distance between slices; what rounded positions come to is far less
_CROSSING = 0.1  # cosine between the normals of planes that cross
_LOCALISERS = ("localizer", "localiser", "scout", "survey", "3-plane", "3 plane", "3plane")
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS+ -> RAS+


def is_localiser(frames: Sequence[Frame]) -> bool:
    """Say whether the images of one series only serve to plan others.

    They do where their type or description says so, or where some cross others at right angles.
    """
    _, _, description = frames[0].series
    named = any(word in description.lower() for word in _LOCALISERS)
    typed = any("LOCALIZER" in frame.image_type for frame in frames)
    directions = {frame.orientation: frame for frame in frames}
    planes = {tuple(_axes(frame)[:, 2].round(3)) for frame in directions.values()}
    first = np.array(next(iter(planes)))
    return named or typed or any(abs(first @ np.array(other)) < _CROSSING for other in planes)


def sort(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Put parallel slices in order along their normal; those at one place by file and frame."""
    along = heights(frames)
    order = sorted(
        range(len(frames)), key=lambda i: (along[i], str(frames[i].file), frames[i].index)
    )
    return tuple(frames[i] for i in order)


def place(frames: Sequence[Frame], name: str) -> Grid:
    """Return the shape (column, row, slice) and the affine of slices in order.

    Directions that the header rounds become the nearest ones at right angles. Slices whose
    corners leave their normal by no more than rounding explains lie on it, as in other readers;
    those of a tilted gantry stay sheared.

    Args:
        frames: Parallel slices of one size, in order.
        name: Where they come from, for messages.

    Raises:
        InputError: A slice is missing, is there twice, has no position, or lies between others'.
    """
    lacking = next((frame for frame in frames if frame.position is None), None)
    if lacking:
        raise InputError(f"{lacking.file}: says nothing of its position, orientation or spacing")
    first = frames[0]
    rows, columns = first.pixels.shape
    corners = _corners(frames)
    axes = _axes(first)
    affine = np.eye(4)
    affine[:3, 0] = axes[:, 0] * first.spacing[1]
    affine[:3, 1] = axes[:, 1] * first.spacing[0]
    affine[:3, 2] = axes[:, 2] * (first.thickness or 1.0)
    affine[:3, 3] = corners[0]
    if len(frames) > 1:
        _check_places(frames, heights(frames), name)
        _check_spacing(frames, np.diff(heights(frames)), name)
        step = (corners[-1] - corners[0]) / (len(frames) - 1)
        _check_line(frames, corners, step, name)
        affine[:3, 2] = _without_rounding(step, axes[:, 2], frames)
    return Grid((columns, rows, len(frames)), _RAS @ affine)


def heights(frames: Sequence[Frame]) -> Float64[np.ndarray, "slice"]:
    """Return the places of parallel slices along the normal of the first, in mm."""
    return _corners(frames) @ _axes(frames[0])[:, 2]


def holes(frames: Sequence[Frame]) -> int | None:
    """Count the slices that an even stack lacks between its first and its last.

    Args:
        frames: Two or more parallel slices in any order.

    Returns:
        How many; None where the slices are no even stack: two at one place, or uneven steps.
    """
    corners = _corners(frames)
    along = heights(frames)
    corners, along = corners[along.argsort()], np.sort(along)
    steps = np.diff(along)
    if steps.min() <= SAME_PLACE:
        return None
    sites = np.rint(np.concatenate([[0.0], np.cumsum(np.rint(steps / _usual(steps)))]))
    if sites[-1] < len(steps):
        return None
    expected = corners[0] + np.outer(sites / sites[-1], corners[-1] - corners[0])
    off = np.linalg.norm(corners - expected, axis=1).max()
    even = off <= _UNEVEN * np.linalg.norm(corners[-1] - corners[0]) / sites[-1]
    return int(sites[-1]) - len(steps) if even else None


def _corners(frames: Sequence[Frame]) -> Float64[np.ndarray, "slice 3"]:
    return np.array([frame.position or (0.0, 0.0, 0.0) for frame in frames], dtype=np.float64)


def _axes(frame: Frame) -> Float64[np.ndarray, "3 3"]:
    """Return the directions of columns, rows and slices: the nearest rotation of the header's."""
    stated = np.array(frame.orientation, dtype=np.float64).reshape(2, 3).T
    left, _, right = np.linalg.svd(stated, full_matrices=False)
    plane = left @ right
    return np.column_stack([plane, np.cross(plane[:, 0], plane[:, 1])])


def _without_rounding(
    step: Float64[np.ndarray, "3"], normal: Float64[np.ndarray, "3"], frames: Sequence[Frame]
) -> Float64[np.ndarray, "3"]:
    """Return a step between slices along the normal, where rounding explains that it leaves it."""
    along = float(step @ normal)
    aside = float(np.linalg.norm(step - along * normal))
    cosines = _rounding(abs(x) for x in frames[0].orientation)
    positions = max(_rounding(map(abs, frame.position or ())) for frame in frames)
    turned = np.sqrt(6) * cosines  # each of six cosines is off by that much at most
    moved = np.sqrt(12) * positions / (len(frames) - 1)  # so is each number of both ends
    return along * normal if aside <= max(turned, _LEAST_TILT) * along + moved else step


def _rounding(numbers: Iterable[float]) -> float:
    """Return half a unit of the last decimal that the larger of some numbers have."""
    stated = [number for number in numbers if number]
    large = [number for number in stated if number >= max(stated) / 10]
    decimals = [-int(Decimal(repr(number)).normalize().as_tuple().exponent) for number in large]
    fewest = max(decimals, default=0)
    return 0.5 * 10.0**-fewest if fewest >= _MOST_ROUNDED else 0.0


def _check_places(frames: Sequence[Frame], along: Float64[np.ndarray, "slice"], name: str) -> None:
    """Refuse slices that are there twice or missing."""
    steps = np.diff(along)
    closest = int(steps.argmin())
    if steps[closest] <= SAME_PLACE:
        raise InputError(
            f"{name}: two slices lie at {along[closest]:.2f} mm along the normal: "
            f"{_call(frames[closest])} and {_call(frames[closest + 1])}; remove one"
        )
    usual = _usual(steps)
    missing = np.rint(steps / usual) - 1
    whole = np.abs(steps / usual - missing - 1) <= _UNEVEN * (missing + 1)
    for k in np.flatnonzero((missing > 0) & whole).tolist():
        raise InputError(
            f"{name}: {missing[k]:.0f} slice{'s are' if missing[k] > 1 else ' is'} missing between "
            f"{along[k]:.2f} and {along[k + 1]:.2f} mm along the normal, between "
            f"{_call(frames[k])} and {_call(frames[k + 1])}: the others lie {usual:.4g} mm apart; "
            "fetch the whole series"
        )


def _check_spacing(frames: Sequence[Frame], steps: Float64[np.ndarray, "step"], name: str) -> None:
    """Refuse steps that are all twice, three times, … what the headers state: slices are missing.

    A stated distance of less than half the thickness, or less than the thickness that makes the
    step with it, is the gap, as some scanners state it.
    """
    stated = {frame.stated for frame in frames if frame.stated[0] > SAME_PLACE}
    if len(stated) != 1:
        return
    between, thick = stated.pop()
    times = np.rint(steps / between)
    twice = times.min() > 1 and np.abs(steps / between - times).max() <= _UNEVEN
    is_gap = between < thick and np.allclose(steps, thick + between, rtol=_UNEVEN)
    if twice and not is_gap and between >= thick / 2:
        raise InputError(
            f"{name}: slices are missing: they lie {_usual(steps):.4g} mm apart, but their "
            f"SpacingBetweenSlices is {between:.4g} mm; fetch the whole series"
        )


def _usual(steps: Float64[np.ndarray, "step"]) -> float:
    return float(np.quantile(steps, 0.5, method="lower"))


def _check_line(
    frames: Sequence[Frame],
    corners: Float64[np.ndarray, "slice 3"],
    step: Float64[np.ndarray, "3"],
    name: str,
) -> None:
    """Refuse slices that do not lie one step apart on a line."""
    expected = corners[0] + np.arange(len(corners))[:, None] * step
    off = np.linalg.norm(corners - expected, axis=1)
    worst = int(off.argmax())
    if off[worst] > _UNEVEN * np.linalg.norm(step):
        raise InputError(
            f"{name}: slices are spaced unevenly: {_call(frames[worst])} lies {off[worst]:.2f} mm "
            f"from where steps of {np.linalg.norm(step):.4g} mm lead; fetch the whole series"
        )


def _call(frame: Frame) -> str:
    frames = frame.pixels.frames
    return f"{frame.file.name} (frame {frame.index + 1})" if frames > 1 else frame.file.name
