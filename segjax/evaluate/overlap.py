"""How well a predicted mask covers the true one, and how large each of them is.

Every function takes two masks of equal shape, of booleans or of label values, and compares
where they equal ``label``. They are given by name: exchanged, sensitivity and positive predictive
value would turn into one another. No measure is ever NaN: **where both masks are empty it is 1,
where only one of them is empty it is 0**, so that a missed lesion never looks better than a
found one, and a healthy case is right when nothing is found in it. Means of many cases leave the
healthy ones out: see :mod:`segjax.evaluate.scores`. Two measures have other ends, since that of a
miss would be none: see :func:`specificity` and :func:`volume_error`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Integer

from segjax.errors import InputError
from segjax.evaluate.voxels import Spacing, edges_of, voxel_of
from segjax.registry import register, registry

__all__ = [
    "Metric",
    "absolute_volume_error",
    "dice",
    "jaccard",
    "overlap_table",
    "positive_predictive_value",
    "sensitivity",
    "specificity",
    "volume_error",
    "volume_ml",
]

Mask = Bool[np.ndarray, "*spatial"] | Integer[np.ndarray, "*spatial"]


class Metric(Protocol):
    """What can be registered as "metric", and then stands in every table of measures.

    It is given boolean masks ``(*spatial)`` of one label, and the edges of a voxel in mm. Either
    mask may be empty; NaN says that there is nothing to measure.

    Example:
        >>> import segjax
        >>> @segjax.register("metric", "volume_error")
        ... def volume_error(truth, prediction, *, spacing):
        ...     return abs(int(prediction.sum()) - int(truth.sum())) * np.prod(spacing) / 1000
    """

    def __call__(
        self,
        *,
        truth: Bool[np.ndarray, "*spatial"],
        prediction: Bool[np.ndarray, "*spatial"],
        spacing: tuple[float, ...],
    ) -> float:
        """Measure one label of one case."""
        ...


def dice(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the Dice coefficient ``2 TP / (2 TP + FN + FP)``.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From 0 (nothing in common) to 1 (equal); 1 when both are empty.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 1, 0]), np.array([1, 1, 0, 1])
        >>> dice(truth=truth, prediction=prediction)  # TP 2, FN 1, FP 1
        0.6666666666666666

    Source:
        L. R. Dice, Measures of the amount of ecologic association between species, 1945.
    """
    count = _compare(truth, prediction, label)
    return _share(2 * count.true_positive, count.true + count.predicted)


def jaccard(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the Jaccard index, or intersection over union, ``TP / (TP + FN + FP)``.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From 0 (nothing in common) to 1 (equal); 1 when both are empty.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 1, 0]), np.array([1, 1, 0, 1])
        >>> jaccard(truth=truth, prediction=prediction)  # TP 2, FN 1, FP 1
        0.5
    """
    count = _compare(truth, prediction, label)
    return _share(count.true_positive, count.true + count.predicted - count.true_positive)


def sensitivity(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the share of the truth that was found, ``TP / (TP + FN)``; also called recall.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From 0 (all missed) to 1 (all found); 1 when both masks are empty, and 0 when the truth
        is empty but something is predicted.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0])
        >>> sensitivity(truth=truth, prediction=prediction)  # TP 1, FN 2
        0.3333333333333333
    """
    count = _compare(truth, prediction, label)
    return _share(count.true_positive, count.true, otherwise=count.predicted == 0)


def positive_predictive_value(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the share of the prediction that is true, ``TP / (TP + FP)``; also precision.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From 0 (none is true) to 1 (all are); 1 when both masks are empty, and 0 when nothing
        is predicted but something is there.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 0, 0, 0]), np.array([1, 1, 0, 0])
        >>> positive_predictive_value(truth=truth, prediction=prediction)  # TP 1, FP 1
        0.5
    """
    count = _compare(truth, prediction, label)
    return _share(count.true_positive, count.predicted, otherwise=count.true == 0)


def specificity(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the share of the background that is left alone, ``TN / (TN + FP)``.

    It counts every voxel of the masks, also those outside the head: of a small lesion in a large
    image it is close to 1 whatever is predicted, and grows with the field of view. Compare it
    between masks of one grid alone, or crop them to the brain before.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From 0 (all of the background is predicted) to 1 (none is); 1 when the truth leaves no
        background, and when nothing is predicted, be the truth empty or not.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 0, 0, 0, 0]), np.array([1, 0, 1, 0, 0, 0])
        >>> specificity(truth=truth, prediction=prediction)  # TN 3, FP 1
        0.75
    """
    count = _compare(truth, prediction, label)
    background = truth.size - count.true
    false_positive = count.predicted - count.true_positive
    return _share(background - false_positive, background)


def volume_error(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the relative error of the volume, ``(predicted - true) / true``.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        From -1 (nothing is predicted) over 0 (as much as there is, wherever it lies) to any
        size: positive where too much is predicted. 0 when both masks are empty, and infinite
        when the truth alone is.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0])
        >>> volume_error(truth=truth, prediction=prediction)
        -0.25
    """
    count = _compare(truth, prediction, label)
    if not count.true:
        return math.inf if count.predicted else 0.0
    return (count.predicted - count.true) / count.true


def absolute_volume_error(*, truth: Mask, prediction: Mask, label: int = 1) -> float:
    """Return the size of the relative error of the volume, ``|predicted - true| / true``.

    In the mean of many cases too much and too little do not cancel each other, as they do in that
    of :func:`volume_error`. It is the volume difference of the ISBI 2015 challenge.

    Args:
        truth: True mask ``(*spatial)``.
        prediction: Predicted mask of the same shape.
        label: Value to compare.

    Returns:
        0 or more; 1 of a miss, 0 when both masks are empty, infinite when the truth alone is.

    Raises:
        InputError: When the shapes differ.

    Example:
        >>> truth, prediction = np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0])
        >>> absolute_volume_error(truth=truth, prediction=prediction)
        0.25

    Source:
        A. Carass et al., NeuroImage 148, 2017.
    """
    return abs(volume_error(truth=truth, prediction=prediction, label=label))


def volume_ml(mask: Mask, spacing: Spacing) -> float:
    """Return the volume of all voxels that are not zero, in millilitres.

    Args:
        mask: Mask ``(*spatial)``.
        spacing: Three edges of a voxel in mm; for a mask of one 2D slice the third is the
            slice thickness. Or the affine of the mask, of shape ``(4, 4)``: the edges of sheared
            voxels, as of a tilted series, make more than these take up, the affine does not.

    Returns:
        Volume in ml: voxels times the product of the edges, or times ``|det affine|``, over 1000.

    Raises:
        InputError: When the spacing is neither three positive numbers nor such an affine.

    Example:
        >>> volume_ml(np.ones((10, 10, 10), bool), (1.0, 1.0, 3.0))
        3.0
        >>> round(volume_ml(np.ones((10, 10, 10), bool), np.diag([1.0, 1.0, 3.0, 1.0])), 6)
        3.0
    """
    voxel = voxel_of(spacing)
    if voxel.rank != 3:
        raise InputError(
            f"spacing is {np.asarray(spacing).tolist()}: a volume needs three positive numbers in "
            "mm (for a 2D mask the third is the slice thickness) or an affine of shape (4, 4)"
        )
    return float(np.count_nonzero(mask)) * voxel.size / 1000


def overlap_table(
    *,
    truth: Mask,
    prediction: Mask,
    labels: Sequence[str],
    spacing: Spacing | None = None,
) -> list[dict[str, str | float | int]]:
    """Compare two label maps, one label after another.

    Args:
        truth: True label values ``(*spatial)``.
        prediction: Predicted label values of the same shape.
        labels: Name of each value from 0 on; the first one, the background, gets no row.
        spacing: Edges of a voxel in mm, or the affine of the masks, which knows shear. Two
            numbers, or an affine of shape ``(3, 3)``, as of a 2D image, give no volume.

    Returns:
        One dictionary for each label after the first, with ``label``, ``dice``,
        ``sensitivity``, ``positive_predictive_value``, what others have registered as "metric"
        (see :class:`Metric`), and the two sizes: ``truth_ml`` and
        ``prediction_ml`` where a voxel has three edges, else ``truth_voxels`` and
        ``prediction_voxels``.

    Raises:
        InputError: When the shapes differ, the spacing is not positive or a metric fails.

    Example:
        >>> truth, prediction = np.array([1, 1, 2, 0]), np.array([1, 0, 2, 0])
        >>> names = ["background", "anterior", "posterior"]
        >>> rows = overlap_table(truth=truth, prediction=prediction, labels=names)
        >>> [(row["label"], row["dice"]) for row in rows]
        [('anterior', 0.6666666666666666), ('posterior', 1.0)]
    """
    in_ml = spacing if spacing is not None and voxel_of(spacing).rank == 3 else None
    unit = "voxels" if in_ml is None else "ml"

    def size(mask: np.ndarray) -> float | int:
        return int(np.count_nonzero(mask)) if in_ml is None else volume_ml(mask, in_ml)

    edges = (1.0,) * truth.ndim if spacing is None else edges_of(spacing)
    rows: list[dict[str, str | float | int]] = []
    for value, name in enumerate(labels[1:], 1):
        masks = {"truth": truth == value, "prediction": prediction == value}
        metrics = {one: _measure(one, masks, edges) for one in registry("metric").names()}
        sizes = {f"{mask}_{unit}": size(voxels) for mask, voxels in masks.items()}
        rows.append({"label": name, **metrics, **sizes})
    return rows


def _measure(name: str, masks: Mapping[str, np.ndarray], spacing: tuple[float, ...]) -> float:
    """Return what a registered metric measures."""
    try:
        return float(registry("metric").get(name)(**masks, spacing=spacing))
    except InputError:
        raise
    except Exception as error:  # whatever a function of others raises
        raise InputError(f"metric {name!r} failed: {type(error).__name__}: {error}") from error


def _without_spacing(
    measure: Callable[..., float], *, truth: Mask, prediction: Mask, spacing: tuple[float, ...]
) -> float:
    return measure(truth=truth, prediction=prediction)


for _one in (dice, sensitivity, positive_predictive_value):
    register("metric", _one.__name__, partial(_without_spacing, _one))


class _Count(NamedTuple):
    """Voxels that two masks have in common, and those of each."""

    true_positive: int
    true: int
    predicted: int


def _compare(truth: np.ndarray, prediction: np.ndarray, label: int) -> _Count:
    if truth.shape != prediction.shape:
        raise InputError(
            f"truth {truth.shape} and prediction {prediction.shape} differ in shape: "
            "compare masks of one grid"
        )
    there, found = truth == label, prediction == label
    return _Count(*(int(np.count_nonzero(mask)) for mask in (there & found, there, found)))


def _share(part: int, whole: int, *, otherwise: bool = True) -> float:
    return part / whole if whole else float(otherwise)
