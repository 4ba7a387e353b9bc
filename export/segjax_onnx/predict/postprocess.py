"""Probabilities to masks: thresholds, holes, and components that are too small."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segjax.codec import Check, Record, check_fields
from segjax.components import box_of, label_components
from segjax.data.patches import to_mask
from segjax.errors import InputError
from segjax.text import plural, unknown
from segjax.volume import voxel_size

__all__ = ["LabelRule", "changed_rules", "check_rules", "postprocess"]

_ROUNDING = 1e-6  # of a volume: a component of just the minimum stays


@dataclass(frozen=True)
class LabelRule(Record):
    """What a voxel and a component need to be of a label.

    Attributes:
        threshold: Probability from which on a voxel is of the label, over 0 and up to 1, rounded
            to float32; None: where the label is the most probable one.
        minimum_volume: Components smaller than this are removed: mm³, mm² in a picture, voxels
            where no spacing is known.
        largest_component: Whether only the largest component stays, the first of equals.
        fill_holes: Whether background that the label encloses becomes the label.

    Raises:
        InputError: A value is out of range.

    Example:
        >>> LabelRule(threshold=0.4, minimum_volume=14.1).to_json()["minimum_volume"]
        14.1
        >>> LabelRule(threshold=2.0)
        Traceback (most recent call last):
        segjax.errors.InputError: threshold must be a number over 0 and up to 1, or null, not 2.0
    """

    threshold: (
        Annotated[float, Check(lambda t: 0 < t <= 1, "a number over 0 and up to 1")] | None
    ) = None
    minimum_volume: Annotated[
        float, Check(lambda v: 0 <= v < math.inf, "a volume of 0 or more, in mm³")
    ] = 0.0
    largest_component: bool = False
    fill_holes: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def postprocess(
    probabilities: Float[np.ndarray, "*spatial label"],
    rules: Sequence[LabelRule],
    affine: Float[np.ndarray, "_ _"],
) -> UInt8[np.ndarray, "*spatial"]:
    """Choose the label of each voxel, and clean what was chosen.

    A label with a threshold t is chosen where p ≥ t; of several such labels the most probable one,
    the lowest of equals. Elsewhere it is the most probable of the background and the labels
    without a threshold, the lowest of equals; of a single probability without one, 1 where it is
    over 0.5.

    Then label after label, from 1 on:

    1. Holes are filled: voxels of the background become the label where no path of face
       neighbours (6 in a volume, 4 in a picture) leads from them to the border without crossing
       it. Other labels inside stay.
    2. Of the components, whose voxels touch at faces, edges or corners (26 or 8 neighbours), the
       largest stays, the first in C order of equals.
    3. Components under the minimum volume, voxels · |det affine| < minimum · (1 − 10⁻⁶), are
       removed. What is removed becomes background.

    Args:
        probabilities: One per label, or a single one, that of label 1.
        rules: One per label after the background; none: the most probable label alone.
        affine: Voxel index -> mm.

    Raises:
        InputError: There are not as many rules as labels.

    Example:
        >>> foreground = np.float32([[0.9, 0.2, 0.4, 0.3]])
        >>> both = np.stack([1 - foreground, foreground], axis=-1)
        >>> postprocess(both, [], np.eye(3)).tolist()
        [[1, 0, 0, 0]]
        >>> postprocess(both, [LabelRule(threshold=0.3)], np.eye(3)).tolist()
        [[1, 0, 1, 1]]
        >>> postprocess(both, [LabelRule(threshold=0.3, minimum_volume=2)], np.eye(3)).tolist()
        [[0, 0, 1, 1]]

    Source: Holes are those of ``scipy.ndimage.binary_fill_holes``, components those of
        ``scipy.ndimage.label``.
    """
    check_rules(rules, max(2, probabilities.shape[-1]))
    mask = _chosen(probabilities, rules)
    for label, rule in enumerate(rules, 1):
        _clean(mask, label, rule, voxel_size(affine))
    return mask


def check_rules(rules: Sequence[LabelRule], labels: int) -> None:
    """Refuse rules that are not one for each label but the background, nor none.

    Raises:
        InputError: They are not.
    """
    if rules and len(rules) != labels - 1:
        raise InputError(
            f"{plural(len(rules), 'rule')} for {plural(labels - 1, 'label')}: give one for each "
            "label after the background, or none"
        )


def changed_rules(
    rules: Sequence[LabelRule],
    labels: Sequence[str],
    changes: Mapping[str | None, Mapping[str, Any]],
) -> tuple[LabelRule, ...]:
    """Return rules with other values for some labels.

    Args:
        rules: One per label after the background, or none.
        labels: All names, the background first.
        changes: Fields of `LabelRule` by the name of a label; those under None are for all labels,
            and come first.

    Raises:
        InputError: A label is unknown, or a value out of range.

    Example:
        >>> changed_rules([], ["background", "lesion"], {"lesion": {"threshold": 0.4}})[0].threshold
        0.4
    """
    foreground = labels[1:]
    if wrong := [name for name in changes if name is not None and name not in foreground]:
        raise InputError(unknown("label", wrong[0], foreground))
    if not changes:
        return tuple(rules)
    everywhere = changes.get(None, {})
    return tuple(
        replace(rule, **{**everywhere, **changes.get(name, {})})
        for name, rule in zip(foreground, rules or [LabelRule()] * len(foreground), strict=True)
    )


def _chosen(
    probabilities: Float[np.ndarray, "*spatial label"], rules: Sequence[LabelRule]
) -> UInt8[np.ndarray, "*spatial"]:
    asked = {n: rule.threshold for n, rule in enumerate(rules, 1) if rule.threshold is not None}
    if not asked:
        return to_mask(probabilities)
    free = [label for label in range(probabilities.shape[-1]) if label not in asked]
    if len(free) > 1:
        mask = np.array(free, np.uint8)[probabilities[..., free].argmax(axis=-1)]
    else:
        mask = np.zeros(probabilities.shape[:-1], np.uint8)
    best = np.zeros(mask.shape, probabilities.dtype)
    for label, threshold in asked.items():
        own = probabilities[..., label - len(rules) - 1]
        better = (own >= np.float32(threshold)) & (own > best)
        mask[better] = label
        best[better] = own[better]
    return mask


def _clean(mask: UInt8[np.ndarray, "*spatial"], label: int, rule: LabelRule, voxel: float) -> None:
    """Clean a label in place; all happens in the box around it."""
    least = rule.minimum_volume / voxel * (1 - _ROUNDING)
    if not (rule.fill_holes or rule.largest_component or least > 1):
        return
    inside = mask[box_of(mask == label)]
    if not inside.size:
        return
    if rule.fill_holes:
        inside[_holes(inside == label) & (inside == 0)] = label
    if rule.largest_component or least > 1:
        numbers, count = label_components(inside == label)
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)
        sizes[0] = 0
        kept = sizes >= least
        if rule.largest_component:
            kept &= np.arange(count + 1) == sizes.argmax()
        kept[0] = True
        inside[~kept[numbers]] = 0


def _holes(mask: Bool[np.ndarray, "*box"]) -> Bool[np.ndarray, "*box"]:
    """Return what no path of face neighbours joins to the outside."""
    numbers, _ = label_components(np.pad(~mask, 1, constant_values=True), axes_at_once=1)
    return numbers[(slice(1, -1),) * mask.ndim] > 1  # the corner, outside, comes first
