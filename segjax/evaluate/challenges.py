"""Result tables in the shape of published challenges, so that numbers stand beside theirs.

What a challenge measures is measured again from the masks, by its own rules: neither the lesion
rule nor the metrics of the evaluation count. Only cases that could be measured have a row.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from segjax.errors import InputError
from segjax.evaluate.agreement import pearson
from segjax.evaluate.compare import Comparison, Evaluation
from segjax.evaluate.lesions import LesionMatch, match_lesions
from segjax.evaluate.lesionwise import BRATS_2023, LesionwiseRule, lesionwise_scores
from segjax.evaluate.overlap import (
    absolute_volume_error,
    dice,
    jaccard,
    positive_predictive_value,
    sensitivity,
    specificity,
    volume_error,
)
from segjax.evaluate.pairs import read_pair
from segjax.evaluate.surface import surface_distances
from segjax.evaluate.voxels import Spacing, voxel_of
from segjax.progress import track
from segjax.registry import registry
from segjax.text import unknown

__all__ = ["BRATS_REGIONS", "CHALLENGES", "ChallengeTable", "challenge_table"]

Cell = str | float
Masks = Mapping[str, Any]  # boolean masks, "truth" and "prediction"

CHALLENGES = ("msseg-2016", "isbi-2015", "brats-2023")
"""Names of the challenges."""

BRATS_REGIONS: Mapping[str, tuple[int, ...]] = {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3)}
"""Regions of the BraTS challenges by the label values of 2023: necrotic core 1, edema 2, enhancing
tumour 3. Enhancing tumour, tumour core and whole tumour are compared, each as one mask."""

_BRATS_MEASURES = (
    "LesionWise_Dice", "LesionWise_Hausdorff95", "Dice", "Hausdorff95", "Sensitivity",
    "Specificity", "Num_TP", "Num_FP", "Num_FN",
)  # fmt: skip
_MSSEG = (
    "Case", "Jaccard", "Dice", "Sensitivity", "Specificity", "PPV", "NPV", "RelativeVolumeError",
    "HausdorffDistance", "SurfaceDistance", "PPVL", "SensL", "F1_score", "NbTestedLesions",
    "VolTestedLesions",
)  # fmt: skip
_ISBI = (
    "Case", "Dice", "Jaccard", "PPV", "TPR", "LFPR", "LTPR", "VD", "SD", "SegVol", "TrueVol",
    "Corr", "Score",
)  # fmt: skip


class ChallengeTable(NamedTuple):
    """A table, to be written as CSV.

    Attributes:
        columns: Names of the columns, in the challenge's order.
        rows: One for each case, by column; ISBI's last one is ``mean``. What is not defined for a
            row is missing in it.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Cell]]


def challenge_table(
    name: str,
    evaluation: Evaluation,
    *,
    label: str | None = None,
    regions: Mapping[str, Collection[int]] | None = None,
    rule: LesionwiseRule | str = "glioma",
) -> ChallengeTable:
    """Return what was compared as a challenge's table.

    ``msseg-2016`` has the columns and units of animaSegPerfAnalyzer, the challenge's program, but
    for ContourMeanDistance: ``RelativeVolumeError`` in % and signed, distances in mm between edge
    voxels (SurfaceDistance is the mean over those of both masks), lesions by the rule
    ``msseg-2016``. ``NbTestedLesions`` and ``VolTestedLesions`` (mm³), the number and the volume
    of predicted lesions, are told of cases without lesions only.

    ``isbi-2015`` has Dice, Jaccard, PPV, TPR, LFPR and LTPR (rule ``isbi-2015``), the absolute
    relative volume difference VD, the average symmetric surface distance SD in mm, and both
    volumes in mm³; its last row, ``mean``, has the means, Corr, Pearson's correlation of the
    volumes over the cases, and Score ``100 (Dice / 8 + PPV / 8 + (1 - LFPR) / 4 + LTPR / 4 + Corr
    / 4)``. The challenge's site then scales the score so that 90 is what one of its two raters
    reaches against the other, which takes both raters: compare parts rather than scores. Where
    nothing is predicted LFPR is 1, unless nothing is there; where nothing is there LTPR is 0,
    unless nothing is predicted. A correlation that cannot be told counts as 0.

    What is predicted where nothing is there is infinitely too much: such a case has no
    RelativeVolumeError and no VD, and counts in no mean of these.

    ``brats-2023`` has ``scan_id`` and for each region ``LesionWise_Dice_…``,
    ``LesionWise_Hausdorff95_…``, ``Dice_…``, ``Hausdorff95_…``, ``Sensitivity_…``,
    ``Specificity_…``, ``Num_TP_…``, ``Num_FP_…`` and ``Num_FN_…``.

    Args:
        name: ``"msseg-2016"``, ``"isbi-2015"`` or ``"brats-2023"``.
        evaluation: What :func:`segjax.evaluate.compare.compare_cases` measured.
        label: Name of the label to compare, of the MS challenges; needed where there are several.
        regions: Values of each region, of BraTS; by default :data:`BRATS_REGIONS` where the labels
            are 1, 2 and 3, else each label by its name.
        rule: Lesions of BraTS: a rule, or its name in
            :data:`segjax.evaluate.lesionwise.BRATS_2023`.

    Returns:
        Columns and rows.

    Raises:
        InputError: There is no such challenge, label or rule, the labels are several, or a case of
            an MS challenge is a slice; or a file can no longer be read, or SciPy is missing.

    Example:
        >>> from segjax.evaluate.compare import compare_cases
        >>> from segjax.evaluate.pairs import coding_of, match_masks
        >>> pairs = match_masks("masks", "brains/labels")
        >>> evaluation = compare_cases(pairs, coding=coding_of("brains/labels"))
        >>> table = challenge_table("isbi-2015", evaluation)
        >>> table.columns[:3], len(table.rows), table.rows[-1]["Case"]
        (('Case', 'Dice', 'Jaccard'), 6, 'mean')

    Source:
        O. Commowick et al., Scientific Reports 8:13650, 2018, and
        https://anima.readthedocs.io/en/latest/segmentation.html; A. Carass et al., NeuroImage 148,
        2017; https://github.com/Sage-Bionetworks-Challenges/brats2023.
    """
    if name not in CHALLENGES:
        raise InputError(unknown("challenge", name, CHALLENGES))
    if name == "brats-2023":
        return _brats(evaluation, regions, rule)
    if slices := [case.pair.case for case in evaluation.cases if len(case.affine) == 3]:
        raise InputError(f"{slices[0]}: is a slice; the lesions of {name} are those of volumes")
    build = _isbi if name == "isbi-2015" else _msseg
    return build(evaluation, partial(_masks, values=_value(evaluation, label)))


def _value(evaluation: Evaluation, label: str | None) -> tuple[int, ...]:
    """Return the value of the label that is compared."""
    values = {name: value for case in evaluation.cases for value, name in case.labels.items()}
    if label is None and len(values) > 1:
        values_in_words = ",".join(map(str, values.values()))
        raise InputError(
            f"labels {', '.join(values)}: the challenge has one; make them one with "
            f"--labels {values_in_words}=lesion, or name one of them in Python"
        )
    if label is not None and label not in values:
        raise InputError(unknown("label", label, list(values)))
    return (values[label],) if label is not None else tuple(values.values())


def _masks(case: Comparison, *, values: Collection[int]) -> Masks:
    """Read both masks of a case again."""
    pair = read_pair(case.pair, coding=case.coding, predicted=case.predicted)
    return dict(
        zip(
            ("truth", "prediction"),
            (np.isin(mask.data, list(values)) for mask in pair),
            strict=True,
        )
    )


Read = Callable[[Comparison], Masks]


def _msseg(evaluation: Evaluation, read: Read) -> ChallengeTable:
    cases = track(list(evaluation.cases), "Measuring")
    return ChallengeTable(_MSSEG, [_msseg_row(case, read(case)) for case in cases])


def _msseg_row(case: Comparison, masks: Masks) -> dict[str, Cell]:
    match = _lesions(masks, case.affine, "msseg-2016")
    row: dict[str, Cell] = {
        "Case": case.pair.case,
        "Jaccard": jaccard(**masks),
        "Dice": dice(**masks),
        "Sensitivity": sensitivity(**masks),
        "Specificity": specificity(**masks),
        "PPV": positive_predictive_value(**masks),
        "NPV": positive_predictive_value(**{name: ~mask for name, mask in masks.items()}),
        "PPVL": _told(match.precision, otherwise=match.true_lesions == 0),
        "SensL": _told(match.sensitivity, otherwise=match.predicted_lesions == 0),
        "F1_score": _told(match.f1, otherwise=True),
    }
    if math.isfinite(error := volume_error(**masks)):
        row["RelativeVolumeError"] = 100 * error
    distances = surface_distances(**masks, spacing=case.affine, surface="voxels")
    row |= {"HausdorffDistance": distances.hausdorff, "SurfaceDistance": distances.assd}
    if not masks["truth"].any():
        row["NbTestedLesions"] = match.predicted_lesions
        row["VolTestedLesions"] = match.prediction_size
    return row


def _isbi(evaluation: Evaluation, read: Read) -> ChallengeTable:
    cases = track(list(evaluation.cases), "Measuring")
    rows = [_isbi_row(case, read(case)) for case in cases]
    if not rows:
        return ChallengeTable(_ISBI, [])
    mean: dict[str, Cell] = {"Case": "mean"}
    for column in _ISBI[1:]:
        if values := [float(row[column]) for row in rows if column in row]:
            mean[column] = fmean(values)
    mean["Corr"] = _volume_correlation(rows)
    parts = {column: float(value) for column, value in mean.items() if column != "Case"}
    mean["Score"] = 100 * (
        (parts["Dice"] + parts["PPV"]) / 8 + (1 - parts["LFPR"] + parts["LTPR"] + parts["Corr"]) / 4
    )
    return ChallengeTable(_ISBI, [*rows, mean])


def _isbi_row(case: Comparison, masks: Masks) -> dict[str, Cell]:
    match = _lesions(masks, case.affine, "isbi-2015")
    size = voxel_of(case.affine).size
    row: dict[str, Cell] = {
        "Case": case.pair.case,
        "Dice": dice(**masks),
        "Jaccard": jaccard(**masks),
        "PPV": positive_predictive_value(**masks),
        "TPR": sensitivity(**masks),
        "LFPR": 1 - _told(match.precision, otherwise=match.true_lesions == 0),
        "LTPR": _told(match.sensitivity, otherwise=match.predicted_lesions == 0),
        "SD": surface_distances(**masks, spacing=case.affine, surface="voxels").assd,
        "SegVol": float(np.count_nonzero(masks["prediction"]) * size),
        "TrueVol": float(np.count_nonzero(masks["truth"]) * size),
    }
    if math.isfinite(error := absolute_volume_error(**masks)):
        row["VD"] = error
    return row


def _volume_correlation(rows: Sequence[Mapping[str, Cell]]) -> float:
    if len(rows) < 2:
        return 0.0
    volumes: dict[str, Any] = {
        name: [float(row[column]) for row in rows]
        for name, column in (("truth", "TrueVol"), ("prediction", "SegVol"))
    }
    return _told(pearson(**volumes).value, otherwise=False)


def _brats(
    evaluation: Evaluation,
    regions: Mapping[str, Collection[int]] | None,
    rule: LesionwiseRule | str,
) -> ChallengeTable:
    regions = _regions(evaluation) if regions is None else regions
    columns = ("scan_id", *(f"{one}_{name}" for one in _BRATS_MEASURES for name in regions))
    rows = []
    for case in track(list(evaluation.cases), "Measuring"):
        row: dict[str, Cell] = {"scan_id": case.pair.case}
        for name, values in regions.items():
            measures = _brats_measures(_masks(case, values=values), case.affine, rule)
            row |= {f"{one}_{name}": value for one, value in measures.items()}
        rows.append({column: row[column] for column in columns})
    return ChallengeTable(columns, rows)


def _regions(evaluation: Evaluation) -> Mapping[str, Collection[int]]:
    labels = {value: name for case in evaluation.cases for value, name in case.labels.items()}
    if set(labels) == {1, 2, 3}:
        return BRATS_REGIONS
    return {name: (value,) for value, name in labels.items()}


def _brats_measures(masks: Masks, affine: Spacing, rule: LesionwiseRule | str) -> dict[str, float]:
    found = lesionwise_scores(**masks, spacing=affine, rule=rule)
    worst = BRATS_2023[rule].worst_mm if isinstance(rule, str) else rule.worst_mm
    values = (
        found.dice,
        found.hd95_mm,
        dice(**masks),
        _hd95(masks, affine, worst),
        sensitivity(**masks),
        specificity(**masks),
        found.true_positives,
        found.false_positives,
        found.false_negatives,
    )
    return dict(zip(_BRATS_MEASURES, values, strict=True))


def _hd95(masks: Masks, affine: Spacing, worst: float) -> float:
    held = [mask.any() for mask in masks.values()]
    if not all(held):
        return worst if any(held) else 0.0
    return surface_distances(**masks, spacing=affine, surface="surfels").percentile(95)


def _lesions(masks: Masks, affine: Spacing, rule: str) -> LesionMatch:
    return match_lesions(**masks, spacing=affine, rule=registry("lesion-rule").get(rule))


def _told(value: float, *, otherwise: bool) -> float:
    """Return a rate, or what stands for one that cannot be told."""
    return float(otherwise) if math.isnan(value) else value
