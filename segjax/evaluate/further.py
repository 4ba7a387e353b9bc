"""Measures beside overlap and lesions, in groups that are asked for by name.

Each is a function of the two boolean masks of a label and of their affine, which returns several
measures by name; all of them become columns of tables. Names are of the kind "measures" of the
registry, so that others can add theirs.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from segjax.errors import InputError
from segjax.evaluate.lesionwise import BRATS_2023, lesionwise_scores
from segjax.evaluate.overlap import (
    absolute_volume_error,
    jaccard,
    specificity,
    volume_error,
)
from segjax.evaluate.panoptic import panoptic_quality
from segjax.evaluate.surface import surface_measures
from segjax.evaluate.voxels import Spacing
from segjax.registry import register, registry

__all__ = ["Measures", "further"]


@runtime_checkable
class Measures(Protocol):
    """What can be registered as "measures".

    Either mask may be empty. Where the truth is, nothing of it is written or averaged.

    Example:
        >>> import segjax
        >>> @segjax.register("measures", "counts")
        ... def counts(*, truth, prediction, spacing):
        ...     return {"missed_voxels": float((truth & ~prediction).sum())}
    """

    def __call__(
        self,
        *,
        truth: Bool[np.ndarray, "*spatial"],
        prediction: Bool[np.ndarray, "*spatial"],
        spacing: Spacing,
    ) -> Mapping[str, float]:
        """Measure one label of one case."""
        ...


def further(names: Sequence[str], *, tolerance: float = 1.0) -> list[Measures]:
    """Return groups of measures by their names.

    Args:
        names: Registered names; ``"all"`` stands for overlap, surfaces, panoptic quality and the
            lesion-wise scores of gliomas.
        tolerance: Distance in mm that surface Dice forgives.

    Raises:
        InputError: There is no such group, or the tolerance is negative.

    Example:
        >>> [one] = further(["overlap"])
        >>> mask = np.array([[True, False]])
        >>> one(truth=mask, prediction=mask, spacing=(1.0, 1.0))["jaccard"]
        1.0
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}: give the distance in mm that is no error")
    asked = dict.fromkeys(name for one in names for name in (_ALL if one == "all" else (one,)))
    found = {name: registry("measures").get(name) for name in asked}
    if "surfaces" in found and found["surfaces"] is surfaces:
        found["surfaces"] = partial(surfaces, tolerance=tolerance)
    return list(found.values())


def overlap(
    *,
    truth: Bool[np.ndarray, "*spatial"],
    prediction: Bool[np.ndarray, "*spatial"],
    spacing: Spacing,
) -> dict[str, float]:
    """Return Jaccard index, specificity and volume errors."""
    return {
        one.__name__: one(truth=truth, prediction=prediction)
        for one in (jaccard, specificity, volume_error, absolute_volume_error)
    }


def panoptic(
    *,
    truth: Bool[np.ndarray, "*spatial"],
    prediction: Bool[np.ndarray, "*spatial"],
    spacing: Spacing,
) -> dict[str, float]:
    """Return what :func:`segjax.evaluate.panoptic.panoptic_quality` tells."""
    return panoptic_quality(truth=truth, prediction=prediction).measures


def lesionwise(
    *,
    truth: Bool[np.ndarray, "*spatial"],
    prediction: Bool[np.ndarray, "*spatial"],
    spacing: Spacing,
    rule: str,
) -> dict[str, float]:
    """Return what :func:`segjax.evaluate.lesionwise.lesionwise_scores` tells."""
    found = lesionwise_scores(truth=truth, prediction=prediction, spacing=spacing, rule=rule)
    return found.measures


def surfaces(
    *,
    truth: Bool[np.ndarray, "*spatial"],
    prediction: Bool[np.ndarray, "*spatial"],
    spacing: Spacing,
    tolerance: float = 1.0,
) -> dict[str, float]:
    """Return what :func:`segjax.evaluate.surface.surface_measures` tells, in pixels of pictures."""
    return surface_measures(
        truth=truth,
        prediction=prediction,
        spacing=None if truth.ndim == 2 else spacing,
        tolerance=tolerance,
    )


_ALL = ("overlap", "surfaces", "panoptic", "brats-2023-glioma")

for _one in (overlap, surfaces, panoptic):
    register("measures", _one.__name__, _one)
for _task in BRATS_2023:
    register("measures", f"brats-2023-{_task}", partial(lesionwise, rule=_task))
