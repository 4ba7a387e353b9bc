"""Compare folders of masks, file by file."""

import csv
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.data.datasets import find_subjects
from segjax.data.formats import check_same_grid, read_label, stem
from segjax.errors import InputError
from segjax.evaluate.lesions import LesionMatch, LesionRule, match_lesions
from segjax.evaluate.metrics import COLUMNS
from segjax.evaluate.overlap import overlap_table
from segjax.files import atomic_path
from segjax.progress import track
from segjax.volume import Volume

__all__ = [
    "Comparison",
    "Pair",
    "compare_cases",
    "compare_masks",
    "match_masks",
    "read_pair",
    "write_lesions",
    "write_metrics",
]

Row = dict[str, str | float]

_NAMED = 3  # cases that a warning names
_WHITE = 255


class Pair(NamedTuple):
    """The files of one case: its true labels and what was predicted."""

    case: str
    truth: Path
    prediction: Path


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
    """

    pair: Pair
    rows: list[Row]
    labels: Mapping[int, str]
    affine: np.ndarray
    rule: LesionRule | None
    lesions: Mapping[str, LesionMatch]


def match_masks(
    predictions: str | Path, labels: str | Path, *, label: str | None = None
) -> list[Pair]:
    """Find the label of every predicted mask, by name.

    Args:
        predictions: Folder of predicted masks, or one file.
        labels: Folder of true labels with the same names (suffixes may differ), or one file.
        label: Name of the label file in the folder of every subject, where ``labels`` holds
            folders of subjects. A subject's prediction has the name of its folder, or lies alone
            in a folder of that name.

    Returns:
        The pairs, sorted by name. Labels without a prediction are left out, and so are the
        ``NAME_probabilities`` that ``segjax predict --probabilities`` writes.

    Raises:
        InputError: There is no prediction, or one has no label; two files have one name; or
            there is a file where a folder is wanted.

    Warns:
        UserWarning: Labels have no prediction.

    Example:
        >>> match_masks("masks/a.nii.gz", "labels/a_truth.nii.gz")  # doctest: +SKIP
        [Pair(case='a', truth=PosixPath('labels/a_truth.nii.gz'), ...)]
    """
    predictions, labels = Path(predictions), Path(labels)
    if predictions.is_file() and labels.is_file():
        if label:
            raise InputError(f"{labels}: is a file; a label named {label} is looked for in folders")
        return [Pair(stem(predictions), labels, predictions)]
    if label:
        subjects = find_subjects(labels, images=[label]).cases
        truths = {case.name: case.images[0] for case in subjects}
        found = _subjects_masks(predictions, list(truths)) or _masks(predictions)
    else:
        found, truths = _masks(predictions), _masks(labels)
    if missing := sorted(set(found) - set(truths)):
        raise InputError(
            f"{labels}: no label named {missing[0]} for {found[missing[0]]}"
            f"{f' (nor for {len(missing) - 1} others)' if len(missing) > 1 else ''}"
        )
    if left_out := sorted(set(truths) - set(found)):
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        warnings.warn(
            f"{predictions}: no prediction for {', '.join(left_out[:_NAMED])}{more}; left out",
            stacklevel=2,
        )
    return [Pair(name, truths[name], found[name]) for name in sorted(found)]


def compare_masks(
    pairs: Sequence[Pair], *, names: Sequence[str] = (), rule: LesionRule | None = None
) -> list[Row]:
    """Measure how well each predicted mask covers its label.

    Args:
        pairs: The files of each case.
        names: Names of the label values 1, 2, …; their numbers where none are given.
        rule: What counts as a lesion and as found; lesions are not counted when None.

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
    return [row for case in compare_cases(pairs, names=names, rule=rule) for row in case.rows]


def compare_cases(
    pairs: Sequence[Pair], *, names: Sequence[str] = (), rule: LesionRule | None = None
) -> list[Comparison]:
    """Measure as :func:`compare_masks` does, and keep the lesions of each case.

    Args:
        pairs: The files of each case.
        names: Names of the label values 1, 2, …; their numbers where none are given.
        rule: What counts as a lesion and as found; lesions are not counted when None.

    Returns:
        One comparison for each pair.

    Raises:
        InputError: See :func:`compare_masks`.
    """
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"names: {repeated[0]} occurs more than once; give each label its own")
    values = _values(pairs)
    _refuse_white(values, range(1, len(names) + 1))
    present = set().union(*values.values())
    numbers = [str(value) for value in range(1, max(present, default=1) + 1)]
    labels = ("background", *(names or numbers))
    measured = {value: labels[value] for value in sorted(present) or [1] if value < len(labels)}
    cases = [_compare(pair, labels, measured, rule) for pair in track(pairs, "Comparing")]
    _refuse_mixed(cases)
    return cases


def read_pair(pair: Pair, *, classes: int | None = None) -> tuple[Volume, Volume]:
    """Read the true and the predicted label map of a case.

    Args:
        pair: Its files.
        classes: Number of classes, background included; any number when None.

    Returns:
        Truth and prediction.

    Raises:
        InputError: A file is no label map, holds other classes, or they lie on different grids.
    """
    truth = read_label(pair.truth, classes=classes)
    prediction = read_label(pair.prediction, classes=classes)
    check_same_grid(prediction, truth, (str(pair.prediction), str(pair.truth)))
    return truth, prediction


def write_metrics(
    rows: Iterable[Row], path: str | Path, *, split: str = "", overwrite: bool = False
) -> Path:
    """Write rows as CSV, one line for each case, label and metric.

    The columns are those of a run's ``metrics.csv``, so that
    :func:`segjax.evaluate.metrics.read_metrics` reads it; run stays empty and epoch is 0.

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
            for metric, value in row.items():
                if metric not in ("case", "label"):
                    where = {"case": row["case"], "label": row["label"], "split": split}
                    table.writerow({"epoch": 0, **where, "metric": metric, "value": value})
    return Path(path)


def write_lesions(
    cases: Iterable[Comparison], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write every lesion of every case as CSV, one line for each.

    The columns are ``case``, ``label``, ``mask`` (truth or prediction), ``lesion`` (its number,
    the largest first), ``outcome`` (found, missed; true, false), ``voxels``, ``mm3`` (``mm2`` of
    2D images), and the centre ``x``, ``y``, ``z`` in mm: to the patient's right, front and head,
    as viewers show it.

    Args:
        cases: What :func:`compare_cases` returned.
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


def _masks(folder: Path) -> dict[str, Path]:
    from segjax.data.formats import IMAGE_SUFFIXES

    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {fault}; give two folders, or two files")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name = stem(file)
        if file.name.startswith(".") or not file.name.endswith(IMAGE_SUFFIXES):
            continue
        if not name.endswith("_probabilities") and files.setdefault(name, file) is not file:
            raise InputError(f"{file} and {files[name].name} have one name; leave one")
    if not files:
        raise InputError(f"{folder}: holds no mask ({', '.join(IMAGE_SUFFIXES)})")
    return files


def _subjects_masks(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the only mask in each folder that has a subject's name."""
    found = {}
    for name in names:
        if (folder / name).is_dir():
            masks = list(_masks(folder / name).values())
            if len(masks) > 1:
                raise InputError(
                    f"{folder / name}: both {masks[0].name} and {masks[1].name} could be the "
                    "prediction; leave one"
                )
            found[name] = masks[0]
    return found


def _values(pairs: Sequence[Pair]) -> dict[Path, set[int]]:
    """List the foreground values of every file."""
    files = dict.fromkeys(file for pair in pairs for file in (pair.truth, pair.prediction))
    return {
        file: set(np.unique(read_label(file).data).tolist()) - {0}
        for file in track(list(files), "Reading", unit="file")
    }


def _refuse_white(values: Mapping[Path, Collection[int]], named: Collection[int]) -> None:
    """Refuse masks whose foreground is white (255) where it is 1 elsewhere, or by its name."""
    white = [file for file, found in values.items() if set(found) == {_WHITE}]
    others = set(named).union(*(found for file, found in values.items() if file not in white))
    if white and others and _WHITE not in others:
        more = f", and so are {len(white) - 1} more files" if len(white) > 1 else ""
        wanted = ", ".join(map(str, sorted(others)))
        raise InputError(
            f"{white[0]}: is black and white, with the values 0 and 255{more}, but the labels are "
            f"{wanted}: save it with its label's number in place of 255"
        )


def _refuse_mixed(cases: Sequence[Comparison]) -> None:
    """Refuse slices among volumes: their sizes have other units, and no common mean."""
    by_rank = {len(case.affine) - 1: case.pair for case in cases}
    if len(by_rank) > 1:
        raise InputError(
            f"{by_rank[2].truth}: is a slice, but {by_rank[3].truth} a volume; "
            "evaluate slices and volumes apart"
        )


def _compare(
    pair: Pair, labels: Sequence[str], measured: Mapping[int, str], rule: LesionRule | None
) -> Comparison:
    truth, prediction = read_pair(pair, classes=len(labels))
    table = overlap_table(truth.data, prediction.data, labels, truth.spacing)
    rows: list[Row] = [{"case": pair.case, **table[value - 1]} for value in measured]
    lesions = {}
    if rule is not None:
        masks = truth.data, prediction.data
        for (value, name), row in zip(measured.items(), rows, strict=True):
            lesions[name] = match_lesions(*masks, truth.spacing, label=value, rule=rule)
            row.update(_counts(lesions[name]))
    return Comparison(pair, rows, measured, truth.affine, rule, lesions)


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
