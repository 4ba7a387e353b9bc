"""Choose the slice of a volume that shows most, and lay it out as a radiologist expects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from segjax.errors import InputError
from segjax.grid import orientation, reorient
from segjax.volume import Volume

__all__ = ["View", "best_view", "grey_window", "slice_axis", "slice_caption", "views_at"]

_PLANES = ("sagittal", "coronal", "axial")
_ENDS = ("LR", "PA", "IS")  # low and high end of each axis in RAS order
_ANISOTROPIC = 1.5


@dataclass(frozen=True, eq=False)
class View:
    """Hold one slice, ready to be drawn with row 0 at the top.

    Attributes:
        image: Grey values ``(row, column)``.
        truth: True label values ``(row, column)``; None where there is no truth.
        prediction: Predicted label values ``(row, column)``; None where there is none.
        aspect: Height of a pixel over its width.
        window: Grey values of black and white, of the whole image: see :func:`grey_window`.
        edges: Letters of the patient's sides at the left, right, top and bottom edge; empty
            for a 2D image, which does not know its place in the patient.
        caption: Which slice this is.
    """

    image: Float[np.ndarray, "row column"]
    truth: Integer[np.ndarray, "row column"] | None
    prediction: Integer[np.ndarray, "row column"] | None
    aspect: float
    window: tuple[float, float]
    edges: str
    caption: str


def best_view(image: Volume, truth: Volume | None = None, prediction: Volume | None = None) -> View:
    """Return the slice with most foreground, in radiological convention.

    The plane is the one that the image was acquired in, where one edge of the voxels is over 1.5
    times as long as another; otherwise axial. The patient's right is on the left of axial and
    coronal slices, the front on the left of sagittal ones; the front of axial slices and the
    head of the others is on top. Oblique volumes are shown along their own axes, named by the
    nearest ones of the patient. Images of rank 2 are shown as they are stored.

    Args:
        image: Volume of rank 2 or 3; its first channel is shown.
        truth: Label map on the image's grid.
        prediction: Label map on the image's grid.

    Returns:
        The slice with most foreground in the truth, or in the prediction where the truth is
        empty or None, or the middle slice where both are.

    Raises:
        InputError: When a label map has another shape than the image.

    Example:
        >>> view = best_view(Volume(np.zeros((4, 5, 6)), np.diag([1.0, 1.0, 3.0, 1.0])))
        >>> view.image.shape, view.edges, view.caption
        ((5, 4), 'RLAP', 'axial slice 4 of 6')
    """
    _check_grid(image, truth, prediction)
    index = None if image.spatial_dims == 2 else _fullest(image, (truth, prediction))
    return views_at(image, [index], truth, prediction)[0]


def views_at(
    image: Volume,
    places: Sequence[int | None],
    truth: Volume | None = None,
    prediction: Volume | None = None,
) -> list[View]:
    """Return certain slices, laid out as by :func:`best_view`, all cut to one frame.

    Args:
        image: Volume of rank 2 or 3; its first channel is shown.
        places: Numbers of the slices along :func:`slice_axis`, from 0 on from the patient's left,
            back or feet; of an image of rank 2, which is one slice, they do not matter.
        truth: Label map on the image's grid.
        prediction: Label map on the image's grid.

    Returns:
        A slice for each place.

    Raises:
        InputError: When a label map has another shape than the image.

    Example:
        >>> head = Volume(np.ones((4, 5, 6)), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> [view.caption for view in views_at(head, [0, 5])]
        ['axial slice 1 of 6', 'axial slice 6 of 6']
    """
    _check_grid(image, truth, prediction)
    image = image.with_data(image.channels_last[..., 0])
    window = grey_window(image.data, None if truth is None else truth.data > 0)
    return _cropped([_view(image, _place(image, i), truth, prediction, window) for i in places])


def slice_axis(image: Volume) -> int:
    """Return the axis of RAS order that runs through the slices that are shown of a volume.

    Args:
        image: Volume of rank 3.

    Returns:
        0 (sagittal), 1 (coronal) or 2 (axial slices): the axis of a single slice, or of slices
        over 1.5 times as thick as a pixel, else 2.

    Example:
        >>> slice_axis(Volume(np.ones((4, 5, 6)), np.diag([1.0, 3.0, 1.0, 1.0])))
        1
    """
    return _normal(reorient(image))


def grey_window(
    data: Float[np.ndarray, "*spatial"], inside: Bool[np.ndarray, "*spatial"] | None = None
) -> tuple[float, float]:
    """Return the grey values that are to be black and white, so that lesions are not all white.

    Black is the 0.5th percentile of all voxels but the background: those of the value that is
    most frequent on the edge of the image. White lies as far above their 99.5th percentile as
    that is above the 95th, or at the 99th percentile of the voxels ``inside`` where that is
    higher; but not above the highest value.

    Args:
        data: Grey values; those that are no numbers count for nothing.
        inside: Voxels that must not be all white, such as lesions; None where none are known.

    Returns:
        Black and white, the first below the second.

    Example:
        >>> scan = np.zeros((20, 20))
        >>> scan[5:15, 5:15] = np.linspace(100, 200, 100).reshape(10, 10)
        >>> grey_window(scan)
        (100.5, 200.0)
    """
    finite = data[np.isfinite(data)]
    tissue = finite[finite != _background(data)]
    if not tissue.size:
        return 0.0, 1.0
    low, bright, high = (float(p) for p in np.percentile(tissue, (0.5, 95, 99.5)))
    white = high + (high - bright)
    if inside is not None and (marked := data[inside & np.isfinite(data)]).size:
        white = max(white, float(np.percentile(marked, 99)))
    white = min(white, float(tissue.max()))
    return (low, white) if white > low else (min(float(finite.min()), white - 1), white)


def _background(data: Float[np.ndarray, "*spatial"]) -> float:
    """Return the value that is most frequent on the edge of an image."""
    faces = [data.take(end, axis).ravel() for axis in range(data.ndim) for end in (0, -1)]
    edge = np.concatenate(faces)
    values, counts = np.unique(edge[np.isfinite(edge)], return_counts=True)
    return float(values[counts.argmax()]) if values.size else np.nan


class _Place(NamedTuple):
    """Where to cut a volume in RAS order, and what is then seen; an image of rank 2 is whole."""

    axis: int
    number: int
    aspect: float
    edges: str
    caption: str


def _place(image: Volume, number: int | None) -> _Place:
    if image.spatial_dims == 2 or number is None:
        return _Place(0, 0, image.spacing[0] / image.spacing[1], "", "")
    ras = reorient(image)
    axis = _normal(ras)
    across, upwards = (a for a in range(3) if a != axis)
    return _Place(
        axis,
        number,
        aspect=ras.spacing[upwards] / ras.spacing[across],
        edges=_ENDS[across][::-1] + _ENDS[upwards][::-1],
        caption=slice_caption(image, axis, number),
    )


def _view(
    image: Volume,
    place: _Place,
    truth: Volume | None,
    prediction: Volume | None,
    window: tuple[float, float],
) -> View:
    grey = _cut(image, place).astype(np.float32)
    return View(
        image=np.nan_to_num(grey, nan=window[0], posinf=window[1], neginf=window[0]),
        truth=_cut_mask(truth, place),
        prediction=_cut_mask(prediction, place),
        aspect=place.aspect,
        window=window,
        edges=place.edges,
        caption=place.caption,
    )


def _cut(volume: Volume, place: _Place) -> np.ndarray:
    """Cut out a slice: the right or the front at its left, the head or the front at its top."""
    if volume.spatial_dims == 2:
        return volume.data
    return reorient(volume).data.take(place.number, place.axis)[::-1, ::-1].T


def _cut_mask(volume: Volume | None, place: _Place) -> np.ndarray | None:
    return None if volume is None else _cut(volume, place).astype(np.int64)


def _cropped(views: Sequence[View]) -> list[View]:
    """Cut off the dark margins that views of one size share, but for a narrow frame."""
    content = np.logical_or.reduce([_content(view) for view in views])
    if not content.any():
        return list(views)
    box = tuple(_extent(content.any(axis=1 - axis)) for axis in (0, 1))
    return [
        replace(
            view,
            image=view.image[box],
            truth=None if view.truth is None else view.truth[box],
            prediction=None if view.prediction is None else view.prediction[box],
        )
        for view in views
    ]


def _content(view: View) -> np.ndarray:
    """Return which pixels of a view are worth seeing."""
    masks = [mask > 0 for mask in (view.truth, view.prediction) if mask is not None]
    dark = 0.9 * view.window[0] + 0.1 * view.window[1]
    return np.logical_or.reduce([view.image > dark, *masks])


def _extent(full: np.ndarray) -> slice:
    """Return where a line of pixels is not empty, and a frame of 5 % of it."""
    places = np.flatnonzero(full)
    frame = 1 + (places[-1] - places[0]) // 20
    return slice(max(0, places[0] - frame), places[-1] + frame + 1)


def _check_grid(image: Volume, truth: Volume | None, prediction: Volume | None) -> None:
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask is not None and mask.data.shape != image.spatial_shape:
            raise InputError(
                f"{name} of shape {mask.data.shape} does not lie on the image's grid of "
                f"{image.spatial_shape} voxels"
            )


def _normal(image: Volume) -> int:
    """Return the axis through the slices: of a single slice, of the thickest ones, or z."""
    if 1 in image.spatial_shape:
        return image.spatial_shape.index(1)
    thick = max(image.spacing) > _ANISOTROPIC * min(image.spacing)
    return image.spacing.index(max(image.spacing)) if thick else 2


def _fullest(image: Volume, masks: Sequence[Volume | None]) -> int:
    axis = slice_axis(image)
    others = tuple(a for a in range(3) if a != axis)
    for mask in masks:
        if mask is not None and mask.data.any():
            return int(np.count_nonzero(reorient(mask).data, axis=others).argmax())
    return reorient(image).spatial_shape[axis] // 2


def slice_caption(volume: Volume, axis: int, index: int) -> str:
    """Name a slice by its number on the axis of the volume as it is stored, counted from 1."""
    letters = orientation(volume.affine)
    stored = next(i for i, letter in enumerate(letters) if letter in _ENDS[axis])
    count = volume.spatial_shape[stored]
    number = index + 1 if letters[stored] == _ENDS[axis][1] else count - index
    return f"{_PLANES[axis]} slice {number} of {count}"
