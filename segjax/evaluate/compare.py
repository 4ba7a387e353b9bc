"""Compare masks with true labels: two masks, two files, or folders of files."""

import warnings
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from segjax.data.io.formats import check_same_grid
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.evaluate.calibration import Calibration
from segjax.evaluate.further import Measures
from segjax.evaluate.lesions import COUNTS, RATES, LesionMatch, LesionRule, match_lesions
from segjax.evaluate.overlap import overlap_table
from segjax.evaluate.pairs import (
    Pair,
    coding_of,
    match_masks,
    names_in,
    read_pair,
    with_segment_names,
)
from segjax.evaluate.statistics import ModelComparison
from segjax.progress import track
from segjax.registry import registry
from segjax.text import listed
from segjax.volume import Volume

__all__ = [
    "Comparison",
    "Evaluation",
    "Failure",
    "Row",
    "coding_of_predictions",
    "compare_cases",
    "raise_failures",
    "score",
    "without_lesions",
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
        rows: A row for each label; see :func:`score`.
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


def raise_failures(failed: Sequence[Failure], done: int) -> None:
    """Raise what went wrong, if anything did.

    Args:
        failed: Cases that failed.
        done: Number of the others.

    Raises:
        InputError: With the reason of the first case that failed, and the names of all.
    """
    if not failed:
        return
    total = len(failed) + done
    names = listed([failure.case for failure in failed], _NAMED)
    count = f" ({len(failed)} of {total} cases failed: {names})"
    raise InputError(failed[0].reason + (count if total > 1 else ""))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of many cases.

    Attributes:
        cases: Those that could be measured, in the order given.
        failed: The others; they count in no mean.
        groups: Patient of each case, over whom intervals are taken; None where none are named.
        compared: What a comparison with a second model gave, by label and measure: see
            :func:`segjax.evaluate.summary.compare_rows`.
        calibrated: Calibration of the probabilities of each label: see
            :func:`segjax.evaluate.reliability.calibrations`.

    Example:
        >>> Evaluation((), (Failure("b", "b.nii.gz: there is no such file"),)).check()
        Traceback (most recent call last):
        segjax.errors.InputError: b.nii.gz: there is no such file
    """

    cases: tuple[Comparison, ...]
    failed: tuple[Failure, ...] = ()
    groups: Mapping[str, Hashable] | None = None
    compared: Mapping[tuple[str, str], ModelComparison] = field(default_factory=dict)
    calibrated: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """The rows of all measured cases."""
        return [row for case in self.cases for row in case.rows]

    def check(self) -> "Evaluation":
        """Raise what went wrong, if anything did; else return the evaluation.

        Raises:
            InputError: With the reason of the first case that failed, and the names of all.
        """
        raise_failures(self.failed, len(self.cases))
        return self


def score(
    *,
    truth: str | Path | Volume,
    prediction: str | Path | Volume,
    names: Sequence[str] = (),
    rule: LesionRule | str | None = None,
    coding: LabelCoding | None = None,
    also: Sequence[Measures | str] = (),
) -> list[Row]:
    """Measure how well predicted masks cover true ones.

    Args:
        truth: Label map, or its file, or a folder of such files.
        prediction: The same; files of folders belong together by their names, and those without a
            prediction are left out.
        names: Names of the label values 1, 2, …; by default those that files tell, or numbers.
        rule: What counts as a lesion and as found, or its registered name, such as "any";
            lesions are not counted when None.
        coding: What the values of true labels stand for; by default what :func:`coding_of` finds
            beside files, else classes.
        also: Further measures, or their registered names: see
            :mod:`segjax.evaluate.further`.

    Returns:
        For each case and label the row of :func:`segjax.evaluate.overlap.overlap_table`, with its
        ``case`` (empty where masks were given); none for a label that occurs nowhere, which would
        count as perfect. With a rule each has ``true_lesions``, ``found_lesions``,
        ``predicted_lesions``, ``false_lesions``, ``lesion_sensitivity``, ``lesion_precision`` and
        ``lesion_f1`` too, and then what ``also`` measures.

    Raises:
        InputError: A file has no partner, is no label map, holds more labels than names, or lies
            on another grid than its partner; or it holds 0 and 255 where others hold 0 and 1; or
            some cases are slices and others volumes; or two labels have one name.

    Example:
        >>> truth = Volume(np.array([[1, 1, 1, 0]]), np.eye(3))
        >>> found = score(truth=truth, prediction=truth.with_data(np.array([[1, 1, 0, 1]])))
        >>> [(row["label"], round(row["dice"], 3)) for row in found]  # TP 2, FN 1, FP 1
        [('1', 0.667)]
        >>> found = score(truth="brains/labels", prediction="masks", rule="isbi-2015")
        >>> len(found)
        5
    """
    rule = registry("lesion-rule").get(rule) if isinstance(rule, str) else rule
    further = [registry("measures").get(one) if isinstance(one, str) else one for one in also]
    if isinstance(truth, Volume) and isinstance(prediction, Volume):
        return _score_masks(truth, prediction, names, rule, further)
    if isinstance(truth, Volume) or isinstance(prediction, Volume):
        raise InputError("truth and prediction: give two masks, two files or two folders")
    pairs = match_masks(prediction, truth)
    coding = coding_of(truth) if coding is None else coding
    found = compare_cases(pairs, names=names, rule=rule, coding=coding, also=further)
    return found.check().rows


def compare_cases(
    pairs: Sequence[Pair],
    *,
    names: Sequence[str] = (),
    rule: LesionRule | None = None,
    coding: LabelCoding = _CLASSES,
    also: Sequence[Measures] = (),
) -> Evaluation:
    """Measure files as :func:`score` does, and keep the lesions of each case.

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
        also: Further measures of each label, such as those of
            :mod:`segjax.evaluate.further`.

    Returns:
        One comparison for each pair that could be measured, and why others could not.

    Raises:
        InputError: No case could be measured, or what concerns all of them is wrong: see
            :func:`score`.

    Warns:
        UserWarning: Predicted values could be classes, and stored values of other classes.

    Example:
        >>> pairs = match_masks("masks", "brains/labels")
        >>> evaluation = compare_cases(pairs, coding=coding_of("brains/labels"))
        >>> len(evaluation.cases), evaluation.failed
        (5, ())
    """
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"names: {repeated[0]} occurs more than once; give each label its own")
    lone = {pair: _no_label(pair) for pair in pairs if not _is_there(pair.truth)}
    labelled = [pair for pair in pairs if pair not in lone]
    coding = with_segment_names(coding, labelled)
    names = names or coding.names[1:]
    predicted, values, unread = _read_values(labelled, coding)
    _refuse_mixed(values)
    known = set(range(1, len(names) + 1)) or _numbers(values)
    sound, odd = _attempt(values, lambda pair: _check_values(pair, values[pair], known), "Checking")
    labels = _labels(_numbers({pair: values[pair] for pair in sound}), names)
    measure = partial(
        _compare, labels=labels, rule=rule, coding=coding, predicted=predicted, also=also
    )
    cases, unmeasured = _attempt(sound, measure, "Comparing")
    reasons = {**lone, **unread, **odd, **unmeasured}
    failed = tuple(Failure(pair.case, reasons[pair]) for pair in pairs if pair in reasons)
    evaluation = Evaluation(tuple(cases.values()), failed)
    if not cases:
        evaluation.check()
    return evaluation


def _is_there(path: Path) -> bool:
    return path.is_file() or path.is_symlink()  # reading a link that leads nowhere says so


def _no_label(pair: Pair) -> str:
    return f"{pair.truth.parent}: no label named {pair.case} for {pair.prediction}"


def coding_of_predictions(pairs: Sequence[Pair], coding: LabelCoding) -> LabelCoding:
    """Say what the values of predictions stand for: classes, or what true labels store.

    Args:
        pairs: The files of each case.
        coding: What the values of the true labels stand for.

    Returns:
        The coding that :func:`compare_cases` reads predictions with.

    Warns:
        UserWarning: As :func:`compare_cases`.

    Example:
        >>> pairs = match_masks("masks", "brains/labels")
        >>> coding_of_predictions(pairs, coding_of("brains/labels")).values
        ()
    """
    return _read_values(pairs, coding)[0]


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
    if (found := _with_two_readings(values, coding)) is None:
        return
    file, value = found
    stored = coding.classes[value]
    names = coding.names or [str(number) for number in range(len(coding.values))]
    warnings.warn(
        f"{file}: its value {value} is taken as class {value}, "
        f"{names[value]!r}, as segjax predict writes it; but {value} is stored for "
        f"{names[stored]!r} in the labels: if that is meant, save it as {stored}",
        stacklevel=4,
    )


def _with_two_readings(
    values: Mapping[Pair, _Values], coding: LabelCoding
) -> tuple[Path, int] | None:
    """Return a prediction, and a value in it that is a class and stored for another one."""
    found = frozenset().union(*(one.prediction for one in values.values()))
    unlike = [value for value in sorted(found) if coding.classes.get(value) != value]
    if not unlike or not found <= set(coding.classes):
        return None
    holding = (pair.prediction for pair, one in values.items() if unlike[0] in one.prediction)
    return next(((file, unlike[0]) for file in holding if not names_in(file)), None)


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


def _labels(numbers: Collection[int], names: Sequence[str]) -> dict[int, str]:
    """Return the names of labels by their numbers; label 1 alone where there is none."""
    return {n: names[n - 1] if names else str(n) for n in sorted(numbers) or [1]}


def _score_masks(
    truth: Volume,
    prediction: Volume,
    names: Sequence[str],
    rule: LesionRule | None,
    also: Sequence[Measures],
) -> list[Row]:
    check_same_grid(truth, prediction, ("truth", "prediction"))
    values = np.union1d(truth.data, prediction.data).tolist()
    if any(value < 0 or value % 1 for value in values):
        raise InputError("truth and prediction: give label maps, of whole numbers from 0 up")
    numbers = {int(value) for value in values if value}
    if names and max(numbers, default=0) > len(names):
        raise InputError(f"label {max(numbers)} has no name; name all, or none")
    labels = _labels(numbers, names)
    rows, _ = _measure(truth, prediction, labels, rule, also)
    return [{"case": "", **row} for row in rows]


def _compare(
    pair: Pair,
    *,
    labels: Mapping[int, str],
    rule: LesionRule | None,
    coding: LabelCoding,
    predicted: LabelCoding,
    also: Sequence[Measures],
) -> Comparison:
    truth, prediction = read_pair(pair, coding=coding, predicted=predicted)
    rows, lesions = _measure(truth, prediction, labels, rule, also)
    rows = [{"case": pair.case, **row} for row in rows]
    return Comparison(pair, rows, labels, truth.affine, rule, lesions, coding, predicted)


def _measure(
    truth: Volume,
    prediction: Volume,
    labels: Mapping[int, str],
    rule: LesionRule | None,
    also: Sequence[Measures],
) -> tuple[list[Row], dict[str, LesionMatch]]:
    """Return the measures of each label, and its lesions where they are to be counted."""
    rows: list[Row] = []
    lesions = {}
    for value, name in labels.items():
        compared: dict[str, Any] = {
            "truth": truth.data == value,
            "prediction": prediction.data == value,
            "spacing": truth.affine,
        }
        rows += overlap_table(**compared, labels=("background", name))
        if rule is not None:
            lesions[name] = match_lesions(**compared, rule=rule)
            rows[-1].update(lesions[name].measures)
        for one in also:
            rows[-1].update(one(**compared))
    return rows, lesions


def without_lesions(row: Row) -> Row:
    """Return a row without what a rule has added to it."""
    return {name: value for name, value in row.items() if name not in (*COUNTS, *RATES)}
