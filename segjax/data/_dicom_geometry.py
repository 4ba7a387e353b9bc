"""Group DICOM slices into volumes, put them in order, and place them in the patient."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float64

from segjax.data._dicom_header import Frame
from segjax.data.spatial import Grid
from segjax.errors import InputError

__all__ = ["is_localiser", "place", "sort", "split"]

_SAME_COSINES = 2e-3  # 0.1°
_SAME_SPACING = 1e-3  # of the distance between pixels
_SAME_PLACE = 1e-2  # mm; two slices closer than that are one
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
    planes = {tuple(_normal(frame).round(3)) for frame in frames}
    first = np.array(next(iter(planes)))
    return named or typed or any(abs(first @ np.array(other)) < _CROSSING for other in planes)


def split(frames: Sequence[Frame]) -> list[tuple[Frame, ...]]:
    """Split the images of one series into volumes, each in order.

    Images of one volume have one size, orientation, pixel spacing, echo, inversion and temporal
    position. Where images still share a place, they are told apart by type, acquisition and
    trigger time, if that gives volumes of similar size.
    """
    groups: list[list[Frame]] = []
    for frame in frames:
        home = next((group for group in groups if _fit(group[0], frame)), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    hints = range(len(frames[0].hints))
    return [sort(part) for group in groups for part in _separate(group, hints)]


def sort(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Put parallel slices in order along their normal; those at one place by file and frame."""
    heights = _heights(frames)
    order = sorted(
        range(len(frames)), key=lambda i: (heights[i], str(frames[i].file), frames[i].index)
    )
    return tuple(frames[i] for i in order)


def place(frames: Sequence[Frame], name: str) -> Grid:
    """Return the shape (column, row, slice) and the affine of slices in order.

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
    corners = np.array([frame.position for frame in frames], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
    affine[:3, 2] = _normal(first) * (first.thickness or 1.0)
    affine[:3, 3] = corners[0]
    if len(frames) > 1:
        _check_places(frames, _heights(frames), name)
        affine[:3, 2] = (corners[-1] - corners[0]) / (len(frames) - 1)
        _check_line(frames, corners, affine[:3, 2], name)
    return Grid((columns, rows, len(frames)), _RAS @ affine)


def _fit(one: Frame, other: Frame) -> bool:
    """Say whether two slices can belong to one volume."""
    return (
        one.pixels.shape == other.pixels.shape
        and one.kind == other.kind
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_COSINES)
        and np.allclose(one.spacing, other.spacing, rtol=_SAME_SPACING, atol=0)
    )


def _separate(frames: list[Frame], hints: Sequence[int]) -> list[list[Frame]]:
    """Tell apart slices at one place by the first hints that do; leave them if none does."""
    repeats = _repeats(frames)
    if repeats == 1 or not hints:
        return [frames]
    parts = _group(frames, lambda frame: frame.hints[hints[0]])
    if 1 < len(parts) <= repeats and 2 * min(map(len, parts)) >= max(map(len, parts)):
        separated = [p for part in parts for p in _separate(part, hints[1:])]
        if all(_repeats(part) == 1 for part in separated):
            return separated
    return _separate(frames, hints[1:])


def _group(frames: Sequence[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    groups: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return list(groups.values())


def _repeats(frames: Sequence[Frame]) -> int:
    """Return how many slices there are at the place that has most."""
    heights = np.sort(_heights(frames))
    places = np.concatenate([[0], np.cumsum(np.diff(heights) > _SAME_PLACE)])
    return max(Counter(places.tolist()).values())


def _normal(frame: Frame) -> Float64[np.ndarray, "3"]:
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal / np.linalg.norm(normal)


def _heights(frames: Sequence[Frame]) -> Float64[np.ndarray, "slice"]:
    """Return the places of parallel slices along the normal of the first, in mm."""
    corners = np.array([frame.position or (0.0, 0.0, 0.0) for frame in frames], dtype=np.float64)
    return corners @ _normal(frames[0])


def _check_places(
    frames: Sequence[Frame], heights: Float64[np.ndarray, "slice"], name: str
) -> None:
    """Refuse slices that are there twice or missing."""
    steps = np.diff(heights)
    closest = int(steps.argmin())
    if steps[closest] <= _SAME_PLACE:
        raise InputError(
            f"{name}: two slices lie at {heights[closest]:.2f} mm along the normal: "
            f"{_call(frames[closest])} and {_call(frames[closest + 1])}; remove one"
        )
    usual = float(np.quantile(steps, 0.5, method="lower"))
    missing = np.rint(steps / usual) - 1
    whole = np.abs(steps / usual - missing - 1) <= _UNEVEN * (missing + 1)
    for k in np.flatnonzero((missing > 0) & whole).tolist():
        raise InputError(
            f"{name}: {missing[k]:.0f} slice{'s are' if missing[k] > 1 else ' is'} missing between "
            f"{heights[k]:.2f} and {heights[k + 1]:.2f} mm along the normal, between "
            f"{_call(frames[k])} and {_call(frames[k + 1])}: the others lie {usual:.4g} mm apart; "
            "fetch the whole series"
        )


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
