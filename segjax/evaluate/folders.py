"""Compare folders of masks, file by file."""

import csv
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.evaluate._pairs import (
    Pair,
    coding_of,
    match_masks,
    names_in,
    read_pair,
    with_segment_names,
)
from segjax.evaluate.lesions import LesionMatch, LesionRule, match_lesions
from segjax.evaluate.metrics import COLUMNS
from segjax.evaluate.overlap import overlap_table
from segjax.evaluate.scores import DICE, OVERLAPS, score_of_row
from segjax.files import atomic_path
from segjax.progress import track

__all__ = [
    "Comparison",
    "Evaluation",
    "Failure",
    "Pair",
    "coding_of",
    "compare_cases",
    "compare_masks",
    "match_masks",
    "read_pair",
    "write_lesions",
    "write_metrics",
]

Row = dict[str, str | float]
T = TypeVar("T")

_NAMED = 5  # failed cases that a message names
_WHITE = 255
_CLASSES = LabelCoding()


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was measured of one case.

    Attributes:
        pair: Its files.
        rows: A row for each label; see :func:`compare_masks`.
        labels: Value -> name of the labels that were measured.
        affine: Where the voxels lie: index -> mm.
        rule: What counts as a lesion and as found; None where lesions were not counted.
        lesions: Lesions of each label, by name; empty where they were not counted.
        coding: What the values of the truth stand for.
        predicted: What those of the prediction stand for.
    """

    pair: Pair
    rows: list[Row]
    labels: Mapping[int, str]
    affine: np.ndarray
    rule: LesionRule | None
    lesions: Mapping[str, LesionMatch]
    coding: LabelCoding = _CLASSES
    predicted: LabelCoding = _CLASSES


class Failure(NamedTuple):
    """A case that could not be measured, and why."""

    case: str
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of many cases.

    Attributes:
        cases: Those that could be measured, in the order given.
        failed: The others; they count in no mean.

    Example:
        >>> Evaluation((), (Failure("b", "b.nii.gz: there is no such file"),)).check()
        Traceback (most recent call last):
        segjax.errors.InputError: b.nii.gz: there is no such file
    """

    cases: tuple[Comparison, ...]
    failed: tuple[Failure, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """The rows of all measured cases."""
        return [row for case in self.cases for row in case.rows]

    def check(self) -> None:
        """Raise what went wrong, if anything did.

        Raises:
            InputError: With the reason of the first case that failed, and the names of all.
        """
        if not self.failed:
            return
        total = len(self.failed) + len(self.cases)
        names = ", ".join(failure.case for failure in self.failed[:_NAMED])
        more = f" and {len(self.failed) - _NAMED} more" if len(self.failed) > _NAMED else ""
        count = f" ({len(self.failed)} of {total} cases failed: {names}{more})"
        raise InputError(self.failed[0].reason + (count if total > 1 else ""))


def compare_masks(
    pairs: Sequence[Pair],
    *,
    names: Sequence[str] = (),
    rule: LesionRule | None = None,
    coding: LabelCoding = _CLASSES,
) -> list[Row]:
    """Measure how well each predicted mask covers its label.

    Args:
        pairs: The files of each case.
        names: Names of the label values 1, 2, …; where none are given those of the coding, or
            their numbers.
        rule: What counts as a lesion and as found; lesions are not counted when None.
        coding: What the values of the true labels stand for; see :func:`compare_cases`.

    Returns:
        The rows of :func:`segjax.evaluate.overlap.overlap_table`, each with its ``case``; none
        for a label that occurs in no file, which would count as perfect. With a rule each has
        ``true_lesions``, ``found_lesions``, ``predicted_lesions``, ``false_lesions``,
        ``lesion_sensitivity``, ``lesion_precision`` and ``lesion_f1`` too.

    Raises:
        InputError: A file is no label map, holds more labels than names, or lies on another
            grid than its partner; or it holds 0 and 255 where others hold 0 and 1; or some
            cases are slices and others volumes; or two labels have one name.
    """
    evaluation = compare_cases(pairs, names=names, rule=rule, coding=coding)
    evaluation.check()
    return evaluation.rows


def compare_cases(
    pairs: Sequence[Pair],
    *,
    names: Sequence[str] = (),
    rule: LesionRule | None = None,
    coding: LabelCoding = _CLASSES,
) -> Evaluation:
    """Measure as :func:`compare_masks` does, and keep the lesions of each case.

    A case that cannot be measured stops no other, and counts in no mean.

    Voxels that the coding ignores are background in both masks before anything is measured: they
    count in no Dice, no sensitivity and no volume, and belong to no lesion. Of a lesion that
    reaches into them only the rest counts, with the size of the rest, as two lesions where they
    part it; a predicted lesion that lies in them altogether is neither true nor false.

    Predictions hold classes 0, 1, 2, … Where one of them holds other values, and these are values
    that the coding has names for, all of them are taken to hold stored values as the truth does.
    Values that could be either are taken as classes, with a warning.

    Args:
        pairs: The files of each case.
        names: Names of the label values 1, 2, …; where none are given those of the coding or of
            segments that have names, or else their numbers.
        rule: What counts as a lesion and as found; lesions are not counted when None.
        coding: What the values of the true labels stand for: :func:`coding_of` reads it.

    Returns:
        One comparison for each pair that could be measured, and why others could not.

    Raises:
        InputError: No case could be measured, or what concerns all of them is wrong: see
            :func:`compare_masks`.

    Warns:
        UserWarning: Predicted values could be classes, and stored values of other classes.

    Example:
        >>> pairs = match_masks("masks", "brains/labels")  # doctest: +SKIP
        >>> evaluation = compare_cases(pairs, coding=coding_of("brains/labels"))  # doctest: +SKIP
        >>> len(evaluation.cases), evaluation.failed  # doctest: +SKIP
        (12, ())
    """
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"names: {repeated[0]} occurs more than once; give each label its own")
    coding = with_segment_names(coding, pairs)
    names = names or coding.names[1:]
    predicted, values, unread = _read_values(pairs, coding)
    _refuse_mixed(values)
    known = set(range(1, len(names) + 1)) or _numbers(values)
    sound, odd = _attempt(values, lambda pair: _check_values(pair, values[pair], known), "Checking")
    present = _numbers({pair: values[pair] for pair in sound})
    labels = {n: names[n - 1] if names else str(n) for n in sorted(present) or [1]}
    measure = partial(_compare, labels=labels, rule=rule, coding=coding, predicted=predicted)
    cases, unmeasured = _attempt(sound, measure, "Comparing")
    reasons = {**unread, **odd, **unmeasured}
    failed = tuple(Failure(pair.case, reasons[pair]) for pair in pairs if pair in reasons)
    evaluation = Evaluation(tuple(cases.values()), failed)
    if not cases:
        evaluation.check()
    return evaluation


def write_metrics(
    rows: Iterable[Row], path: str | Path, *, split: str = "", overwrite: bool = False
) -> Path:
    """Write rows as CSV, one line for each case, label and metric.

    The columns are those of a run's ``metrics.csv``, so that
    :func:`segjax.evaluate.metrics.read_metrics` reads it; run stays empty and epoch is 0. Where a
    case lacks a label, ``false_positive_ml`` (``false_positive_pixels`` of 2D images) stands in
    the place of Dice, sensitivity and predictive value, so that means over the file are those
    over the cases that hold it.

    Args:
        rows: What :func:`compare_masks` returned.
        path: File to write.
        split: What the cases were for, such as ``"test"``.
        overwrite: Replace a file that exists.

    Returns:
        The file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    with (
        atomic_path(Path(path), overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for row in rows:
            where = {"case": row["case"], "label": row["label"], "split": split}
            for metric, value in _measures(row).items():
                table.writerow({"epoch": 0, **where, "metric": metric, "value": value})
    return Path(path)


def _measures(row: Row) -> dict[str, str | float]:
    """Return what a row measures; of a case that lacks the label what means something there."""
    measures = {name: value for name, value in row.items() if name not in ("case", "label")}
    score = score_of_row(row)
    if score.metric == DICE:
        return measures
    others = {name: value for name, value in measures.items() if name not in OVERLAPS}
    return {score.metric: score.value, **others}


def write_lesions(
    cases: Iterable[Comparison], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write every lesion of every case as CSV, one line for each.

    The columns are ``case``, ``label``, ``mask`` (truth or prediction), ``lesion`` (its number,
    the largest first), ``outcome`` (found, missed; true, false), ``voxels``, ``mm3`` (``mm2`` of
    2D images), and the centre ``x``, ``y``, ``z`` in mm: to the patient's right, front and head,
    as viewers show it.

    Args:
        cases: What :func:`compare_cases` measured.
        path: File to write.
        overwrite: Replace a file that exists.

    Returns:
        The file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    cases = list(cases)
    rows = [row for case in cases for row in _lesion_rows(case)]
    rank = len(cases[0].affine) - 1 if cases else 3
    columns = ("case", "label", "mask", "lesion", "outcome", "voxels", f"mm{rank}", *"xyz"[:rank])
    with (
        atomic_path(Path(path), overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    return Path(path)


def _lesion_rows(case: Comparison) -> Iterable[Row]:
    for label, match in case.lesions.items():
        for mask, lesions, words in (
            ("truth", match.truth, ("missed", "found")),
            ("prediction", match.prediction, ("false", "true")),
        ):
            for number, lesion in enumerate(lesions, 1):
                place = case.affine[:-1] @ np.array([*lesion.centre, 1.0])
                yield {
                    "case": case.pair.case,
                    "label": label,
                    "mask": mask,
                    "lesion": number,
                    "outcome": words[lesion.matched],
                    "voxels": lesion.voxels,
                    f"mm{match.rank}": round(lesion.size, 4),
                    **dict(zip("xyz", np.round(place, 2).tolist(), strict=False)),
                }


@dataclass(frozen=True)
class _Values:
    """Foreground values of the masks of a case, and their rank."""

    truth: frozenset[int]
    prediction: frozenset[int]
    rank: int


def _attempt(
    pairs: Iterable[Pair], measure: Callable[[Pair], T], description: str
) -> tuple[dict[Pair, T], dict[Pair, str]]:
    """Return what could be measured of each pair, and why not of the others."""
    done: dict[Pair, T] = {}
    failed: dict[Pair, str] = {}
    for pair in track(list(pairs), description):
        try:
            done[pair] = measure(pair)
        except InputError as error:
            failed[pair] = str(error)
    return done, failed


def _read_values(
    pairs: Sequence[Pair], coding: LabelCoding
) -> tuple[LabelCoding, dict[Pair, _Values], dict[Pair, str]]:
    """Return what predicted values stand for, the values of each pair, and why others have none."""
    classes = LabelCoding(names=coding.names)
    values, failed = _attempt(
        pairs, partial(_values_of, coding=coding, predicted=classes), "Reading"
    )
    if not any(_are_stored(one.prediction, coding) for one in values.values()):
        _warn_of_two_readings(values, coding)
        return classes, values, failed
    values, failed = _attempt(
        pairs, partial(_values_of, coding=coding, predicted=coding), "Reading"
    )
    return coding, values, failed


def _are_stored(values: Collection[int], coding: LabelCoding) -> bool:
    """Say whether predicted values are no classes, but all stored in true labels."""
    return set(values) <= set(coding.classes) and max(values, default=-1) >= len(coding.values)


def _warn_of_two_readings(values: Mapping[Pair, _Values], coding: LabelCoding) -> None:
    """Say so where predicted values may be classes, and may be stored values of others too."""
    held = {pair: one.prediction for pair, one in values.items() if one.prediction}
    found = frozenset().union(*held.values())
    unlike = [value for value in sorted(found) if coding.classes.get(value) != value]
    if not unlike or not found <= set(coding.classes):
        return
    unnamed = [
        pair for pair, some in held.items() if unlike[0] in some and not names_in(pair.prediction)
    ]
    if not unnamed:
        return
    value, stored = unlike[0], coding.classes[unlike[0]]
    names = coding.names or [str(number) for number in range(len(coding.values))]
    warnings.warn(
        f"{unnamed[0].prediction}: its value {value} is taken as class {value}, "
        f"{names[value]!r}, as segjax predict writes it; but {value} is stored for "
        f"{names[stored]!r} in the labels: if that is meant, save it as {stored}",
        stacklevel=4,
    )


def _values_of(pair: Pair, *, coding: LabelCoding, predicted: LabelCoding) -> _Values:
    masks = read_pair(pair, coding=coding, predicted=predicted)
    truth, prediction = (frozenset(np.unique(mask.data).tolist()) - {0} for mask in masks)
    return _Values(truth, prediction, masks[0].spatial_dims)


def _numbers(values: Mapping[Pair, _Values]) -> set[int]:
    """Return all labels; 255 only where it is not the white of black and white masks."""
    files = [file for one in values.values() for file in (one.truth, one.prediction)]
    others = set().union(*(file for file in files if file != {_WHITE}))
    return others or set().union(*files)


def _check_values(pair: Pair, values: _Values, known: Collection[int]) -> None:
    """Refuse labels that have no name, or are white (255) where they are 1 elsewhere."""
    for file, found in ((pair.truth, values.truth), (pair.prediction, values.prediction)):
        odd = ", ".join(map(str, sorted(found - set(known))))
        wanted = ", ".join(map(str, sorted(known)))
        if odd and found == {_WHITE}:
            raise InputError(
                f"{file}: is black and white, with the values 0 and 255, but the labels are "
                f"{wanted}: {_remedy(pair, file)}"
            )
        if odd:
            raise InputError(
                f"{file}: has labels {odd}, but those with names are {wanted}; name all, or none"
            )


def _remedy(pair: Pair, file: Path) -> str:
    if file == pair.prediction:
        return "save it with its label's number in place of 255"
    return (
        "say what they stand for with --labels, such as 255=lesion, or in a dataset.json beside "
        'the labels, such as {"labels": {"background": 0, "lesion": 255}}'
    )


def _refuse_mixed(values: Mapping[Pair, _Values]) -> None:
    """Refuse slices among volumes: their sizes have other units, and no common mean."""
    by_rank = {one.rank: pair for pair, one in values.items()}
    if len(by_rank) > 1:
        raise InputError(
            f"{by_rank[2].truth}: is a slice, but {by_rank[3].truth} a volume; "
            "evaluate slices and volumes apart"
        )


def _compare(
    pair: Pair,
    *,
    labels: Mapping[int, str],
    rule: LesionRule | None,
    coding: LabelCoding,
    predicted: LabelCoding,
) -> Comparison:
    truth, prediction = read_pair(pair, coding=coding, predicted=predicted)
    rows: list[Row] = []
    lesions = {}
    for value, name in labels.items():
        compared: dict[str, Any] = {
            "truth": truth.data == value,
            "prediction": prediction.data == value,
            "spacing": truth.affine,
        }
        (row,) = overlap_table(**compared, labels=("background", name))
        rows.append({"case": pair.case, **row})
        if rule is not None:
            lesions[name] = match_lesions(**compared, rule=rule)
            rows[-1].update(_counts(lesions[name]))
    return Comparison(pair, rows, labels, truth.affine, rule, lesions, coding, predicted)


def _counts(match: LesionMatch) -> Row:
    return {
        "true_lesions": match.true_lesions,
        "found_lesions": match.found,
        "predicted_lesions": match.predicted_lesions,
        "false_lesions": match.false_positives,
        "lesion_sensitivity": match.sensitivity,
        "lesion_precision": match.precision,
        "lesion_f1": match.f1,
    }
