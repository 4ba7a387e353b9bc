"""What counts of many cases: Dice where a label is there, false positives where it is not.

Dice of a healthy case is 1 where nothing is found in it and 0 where a single voxel is. In a mean
over many cases that would make a network that finds nothing look good, so that means are taken
over the pairs of case and label whose truth holds the label; what is found in the others is told
apart, as a volume.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from segjax.evaluate.lesions import COUNTS, RATES
from segjax.runs.metrics import DICE, FALSE_POSITIVES, validation_rows
from segjax.text import plural
from segjax.volume import voxel_size

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DICE",
    "FALSE_POSITIVES",
    "Score",
    "Scores",
    "absent_in_words",
    "by_label",
    "mean_dice",
    "measures_of",
    "of_absent",
    "score_of_counts",
    "score_of_row",
    "scores_of_rows",
    "validation_scores",
]


class Score(NamedTuple):
    """What counts of one label in one case.

    Attributes:
        metric: ``"dice"`` where the truth holds the label, else ``"false_positive_ml"``, or
            ``"false_positive_pixels"`` of a 2D image.
        value: The Dice coefficient, or the size of what was found.
    """

    metric: str
    value: float


_OF_ABSENT = (
    "truth_ml", "prediction_ml", "truth_voxels", "prediction_voxels", *COUNTS, *RATES,
)  # fmt: skip

Scores = Mapping[str, Mapping[str, Score]]
"""What counts by case and label."""


def score_of_counts(
    true_positive: int, predicted: int, true: int, *, affine: Float64[np.ndarray, "n n"]
) -> Score:
    """Return what counts of one label in one case.

    Args:
        true_positive: Voxels of truth and prediction.
        predicted: Voxels of the prediction.
        true: Voxels of the truth.
        affine: Of the masks, voxel index -> mm.

    Example:
        >>> score_of_counts(2, 3, 3, affine=np.eye(4))
        Score(metric='dice', value=0.6666666666666666)
        >>> score_of_counts(0, 500, 0, affine=np.eye(4))
        Score(metric='false_positive_ml', value=0.5)
    """
    if true:
        return Score(DICE, 2 * true_positive / (predicted + true))
    rank = len(affine) - 1
    return Score(
        FALSE_POSITIVES[rank], predicted * voxel_size(affine) / 1000 if rank == 3 else predicted
    )


def score_of_row(row: Mapping[str, Any]) -> Score:
    """Return what counts of one label in one case that was compared.

    Args:
        row: Of :func:`segjax.evaluate.compare.score`.

    Example:
        >>> score_of_row({"dice": 0.0, "truth_ml": 0.0, "prediction_ml": 0.2})
        Score(metric='false_positive_ml', value=0.2)
    """
    rank, unit = (3, "ml") if "truth_ml" in row else (2, "voxels")
    if row[f"truth_{unit}"]:
        return Score(DICE, row["dice"])
    return Score(FALSE_POSITIVES[rank], row[f"prediction_{unit}"])


def measures_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row measures, without the case and label that it is of.

    Example:
        >>> measures_of({"case": "a", "label": "lesion", "dice": 0.5})
        {'dice': 0.5}
    """
    return {name: value for name, value in row.items() if name not in ("case", "label")}


def of_absent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a row means something in a case that lacks the label: sizes and lesions.

    Example:
        >>> of_absent({"case": "a", "label": "lesion", "hd95_mm": 250.0, "prediction_ml": 0.5})
        {'prediction_ml': 0.5}
    """
    return {name: value for name, value in row.items() if name in _OF_ABSENT}


def scores_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Score]]:
    """Return what counts by case and label of all rows that were compared."""
    scores: dict[str, dict[str, Score]] = {}
    for row in rows:
        scores.setdefault(row["case"], {})[row["label"]] = score_of_row(row)
    return scores


def validation_scores(metrics: "pd.DataFrame", epoch: int) -> dict[str, dict[str, Score]]:
    """Return what counts by validation case and label at the end of an epoch of a run.

    Args:
        metrics: Table that :func:`segjax.runs.metrics.read_metrics` gave.
        epoch: The epoch.

    Returns:
        The scores, in the order of the table.
    """
    scores: dict[str, dict[str, Score]] = {}
    for row in validation_rows(metrics, epoch):
        scores.setdefault(row.case, {})[row.label] = Score(row.metric, row.value)
    return scores


def mean_dice(scores: Scores) -> float | None:
    """Average Dice over the pairs of case and label whose truth holds the label.

    Returns:
        The mean; None where there is no such pair.

    Example:
        >>> healthy = {"lesion": Score("false_positive_ml", 0.0)}
        >>> mean_dice({"a": {"lesion": Score("dice", 0.5)}, "b": healthy})
        0.5
    """
    pairs = (one for labels in scores.values() for one in labels.values())
    values = [one.value for one in pairs if one.metric == DICE]
    return fmean(values) if values else None


def by_label(scores: Scores) -> dict[str, list[Score]]:
    """Return the scores of all cases for each label.

    Example:
        >>> by_label({"a": {"lesion": Score("dice", 0.5)}, "b": {"lesion": Score("dice", 1.0)}})
        {'lesion': [Score(metric='dice', value=0.5), Score(metric='dice', value=1.0)]}
    """
    found: dict[str, list[Score]] = {}
    for labels in scores.values():
        for label, own in labels.items():
            found.setdefault(label, []).append(own)
    return found


def absent_in_words(scores: Sequence[Score]) -> str:
    """Say how many cases lack a label, and what was found in them.

    Args:
        scores: Of one label.

    Returns:
        A few words, of which the mean is over all cases that lack it; empty where none does.

    Example:
        >>> absent_in_words([Score("dice", 0.5), Score("false_positive_ml", 0.25)])
        '1 of 2 cases, false positives in 1 (0.250 ml on average)'
    """
    absent = [one for one in scores if one.metric != DICE]
    if not absent:
        return ""
    wrong, unit = sum(one.value > 0 for one in absent), absent[0].metric.rpartition("_")[-1]
    words = f"{len(absent)} of {plural(len(scores), 'case')}"
    if not wrong:
        return f"{words}, no false positives"
    mean = f"{fmean(one.value for one in absent):.{3 if unit == 'ml' else 0}f} {unit}"
    return f"{words}, false positives in {wrong} ({mean} on average)"
