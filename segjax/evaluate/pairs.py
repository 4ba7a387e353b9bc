"""Find the label of every predicted mask, and read both on one grid."""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from segjax.data.bids import find_labels, names_bids, parse_name
from segjax.data.description import read_description
from segjax.data.io.dicom.segmentation import is_label_object
from segjax.data.io.formats import (
    check_same_grid,
    image_suffixes,
    normal_name,
    read_label,
    segment_names,
    stem,
)
from segjax.data.labels import IGNORED, LabelCoding, coding_of_segments
from segjax.data.listing import is_note
from segjax.data.subjects import find_subjects
from segjax.errors import InputError
from segjax.files import walk
from segjax.grid import Grid, grid
from segjax.text import listed, plural
from segjax.volume import Volume

__all__ = [
    "Pair",
    "coding_of",
    "find_masks",
    "labels_of_subjects",
    "match_masks",
    "names_in",
    "read_pair",
    "with_segment_names",
]

_NAMED = 3  # cases or files that a warning names
_COPY = ".seg.dcm"
_MAPS = "_probabilities"  # what segjax predict --probabilities appends to a mask's name
_BIDS_MASKS, _BIDS_MAPS = ("dseg", "mask"), ("probseg", "uncertainty")
_CLASSES = LabelCoding()


class Pair(NamedTuple):
    """The files of one case: its true labels and what was predicted."""

    case: str
    truth: Path
    prediction: Path


def match_masks(
    predictions: str | Path, labels: str | Path, *, label: str | None = None
) -> list[Pair]:
    """Find the label of every predicted mask, by name.

    Names match whichever Unicode form they are written in; links are followed, and those that
    lead nowhere count, so that reading them says what is wrong.

    Args:
        predictions: Folder of predicted masks, or one file.
        labels: Folder of true labels with the same names (suffixes may differ), or one file. A
            DICOM SEG or RTSTRUCT object in a folder of its own has the name of that folder.
        label: Name of the label file in the folder of every subject, where ``labels`` holds
            folders of subjects. A subject's prediction has the name of its folder, or lies alone
            in a folder of that name. Of a BIDS data set, its suffix and entities: see
            :func:`segjax.data.bids.find_bids`; predictions are ``sub-…_dseg`` or ``sub-…_mask``.

    Returns:
        The pairs, sorted by name. Labels without a prediction are left out, and so are the
        ``NAME_probabilities`` that ``segjax predict --probabilities`` writes beside ``NAME``. The
        label of a prediction that has none is a file that does not exist.

    Raises:
        InputError: There is no prediction, or none has a label; two files have one name; or
            there is a file where a folder is wanted.

    Warns:
        UserWarning: Labels have no prediction; or a folder holds files that are no masks and go
            with none, or masks in folders in it.

    Example:
        >>> match_masks("masks", "brains/labels")[0].truth
        PosixPath('brains/labels/ms_000.nii.gz')
    """
    predictions, labels = Path(predictions), Path(labels)
    if predictions.is_file() and labels.is_file():
        if label:
            raise InputError(f"{labels}: is a file; a label named {label} is looked for in folders")
        return [Pair(stem(predictions), labels, predictions)]
    _check_folders(predictions, labels)
    truths = labels_of_subjects(labels, label) if label else find_masks(labels)
    found = find_masks(predictions, subjects=truths if label else ())
    missing = sorted(set(found) - set(truths))
    if missing and len(missing) == len(found):
        others = f", nor for {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{labels}: no label named {missing[0]} for {found[missing[0]]}{others}")
    if left_out := sorted(set(truths) - set(found)):
        names = listed(left_out, _NAMED)
        warnings.warn(f"{predictions}: no prediction for {names}; left out", stacklevel=2)
    return [Pair(name, truths.get(name, labels / name), found[name]) for name in sorted(found)]


def coding_of(labels: str | Path, *, ignored: int | None = None) -> LabelCoding:
    """Say what the stored values of true labels stand for.

    Args:
        labels: Folder of labels, or one of them; the coding is in the ``dataset.json`` in the
            folder, or in the one that it lies in. Without one, values are classes.
        ignored: Stored value of voxels that count for nothing, where no file says it.

    Returns:
        The coding.

    Raises:
        InputError: The file cannot be understood, or says something else of the ignored value; or
            this is not over 0.

    Example:
        >>> import tempfile
        >>> coding_of(tempfile.mkdtemp(), ignored=255).ignored
        255
    """
    labels = Path(labels)
    if ignored is not None and ignored <= 0:
        fault = "is the background's" if ignored == 0 else "is no value of a label"
        raise InputError(f"{labels}: {ignored} cannot be ignored, it {fault}; give one over 0")
    coding = read_description(labels if labels.is_dir() else labels.parent).coding
    if ignored is None or coding.ignored_values == (ignored,):
        return coding
    if coding.ignored is not None:
        raise InputError(
            f"{labels}: dataset.json says that {_values(coding)} is to be ignored, not {ignored}; "
            "leave one"
        )
    if replace(coding, ignored=None).plain:
        return LabelCoding(names=coding.names, ignored=ignored)
    if ignored in coding.classes:
        raise InputError(
            f"{labels}: dataset.json names the value {ignored}, which is to be ignored; call it "
            "'ignore' there"
        )
    return replace(coding, ignored=ignored)


def read_pair(
    pair: Pair,
    *,
    coding: LabelCoding = _CLASSES,
    predicted: LabelCoding = _CLASSES,
) -> tuple[Volume, Volume]:
    """Read the true and the predicted label map of a case, on one grid.

    Voxels that the truth ignores are background in both.

    Args:
        pair: Its files. Where one holds segments that lie somewhere in an image (DICOM SEG,
            RTSTRUCT, ``.seg.nrrd``), the other one tells the grid.
        coding: What the values of the truth stand for.
        predicted: What those of the prediction stand for.

    Returns:
        Truth and prediction.

    Raises:
        InputError: A file is no label map, holds a value that stands for nothing, or they lie on
            different grids.

    Example:
        >>> truth, prediction = read_pair(match_masks("masks", "brains/labels")[0])
        >>> truth.spatial_shape == prediction.spatial_shape
        True
    """
    if _holds_segments(pair.prediction) and not _holds_segments(pair.truth):
        truth, ignored = _read_truth(pair.truth, coding)
        prediction = read_label(pair.prediction, coding=predicted, like=grid(truth))
    else:
        prediction = read_label(pair.prediction, coding=predicted)
        truth, ignored = _read_truth(pair.truth, coding, like=grid(prediction))
    check_same_grid(prediction, truth, (str(pair.prediction), str(pair.truth)))
    if coding.ignored is None:
        return truth, prediction
    truth, prediction = (mask.with_data(mask.data * ~ignored) for mask in (truth, prediction))
    if predicted.ignored is not None and (prediction.data == IGNORED).any():
        raise InputError(
            f"{pair.prediction}: has the value {_values(predicted)}, which counts for nothing, "
            f"where {pair.truth} has labels; give these voxels a label"
        )
    return truth, prediction


def with_segment_names(coding: LabelCoding, pairs: Sequence[Pair]) -> LabelCoding:
    """Name the classes by the segments of the true labels, where nothing else names them.

    Raises:
        InputError: Their segments name no classes: see
            :func:`segjax.data.labels.coding_of_segments`.
    """
    if coding.names:
        return coding
    found = coding_of_segments({str(pair.truth): names_in(pair.truth) for pair in pairs})
    if not found.names:
        return coding
    if found.ignored is None and coding.ignored is not None:
        raise InputError(
            f"{pairs[0].truth}: holds segments with names; call the one 'ignore' that is to be "
            f"ignored, instead of the value {_values(coding)}"
        )
    return found


def _values(coding: LabelCoding) -> str:
    return " or ".join(map(str, coding.ignored_values))


def _read_truth(
    path: Path, coding: LabelCoding, *, like: Grid | None = None
) -> tuple[Volume, Bool[np.ndarray, "*spatial"]]:
    """Read true labels, and say which voxels count for nothing."""
    if coding.values or coding.ignored is None:
        truth = read_label(path, coding=coding, like=like)
        return truth, truth.data == IGNORED
    # any value may be a class here, that which stands for ignored voxels in memory too
    truth = read_label(path, coding=replace(coding, ignored=None), like=like)
    return truth, np.isin(truth.data, coding.ignored_values)


def _holds_segments(path: Path) -> bool:
    return path.name.lower().endswith(".seg.nrrd") or segment_names(path) is not None


def names_in(path: Path) -> tuple[str, ...] | None:
    """Return the names of a file's segments; none of one that cannot be read."""
    try:
        return segment_names(path)
    except InputError:
        return ()


def _check_folders(*folders: Path) -> None:
    for folder in folders:
        fault = "is a file" if folder.exists() else "no such folder"
        if folder.is_symlink() and not folder.exists():
            fault = "is a link that leads nowhere"
        if not folder.is_dir():
            raise InputError(f"{folder}: {fault}; give two folders, or two files")


def labels_of_subjects(folder: Path, label: str) -> dict[str, Path]:
    """Name the label files in the folders of subjects by these.

    Args:
        folder: Of folders of subjects, or a BIDS data set.
        label: Name of the file; of BIDS its suffix and entities.

    Returns:
        Case -> file.

    Raises:
        InputError: No folder holds one.

    Example:
        >>> labels_of_subjects(Path("patients"), "lesions.nii.gz")["01"]
        PosixPath('patients/01/lesions.nii.gz')
    """
    if names_bids(folder, [label.rpartition("/")[2]]):
        return find_labels(folder, label)
    subjects = find_subjects(folder, images=[label], coding=_CLASSES)  # dataset.json is read later
    found = {case.name: case.images[0] for case in subjects.cases}
    return {n: file if isinstance(file, Path) else file.files[0] for n, file in found.items()}


def find_masks(folder: Path, *, subjects: Collection[str] = ()) -> dict[str, Path]:
    """Name the masks of a folder by their names, or by those of subjects that they lie in.

    Args:
        folder: Of masks; maps of probabilities beside them are none.
        subjects: Names of folders in it, or of subjects of BIDS, whose masks count too.

    Returns:
        Case -> mask.

    Raises:
        InputError: It holds no mask, or two of one name.

    Warns:
        UserWarning: It holds files that are no masks and go with none.

    Example:
        >>> find_masks(Path("masks"))["ms_000"]
        PosixPath('masks/ms_000.nii.gz')
    """
    cases = {file: _case_of(file, folder, subjects) for file in _visible_files(folder)}
    masks = _masks_by_case(cases)
    others = [file for file, case in cases.items() if case is None and not _goes_with(file)]
    names = listed([file.relative_to(folder) for file in others], _NAMED)
    if not masks:
        there = f"; it holds {names}" if others else ""
        raise InputError(f"{folder}: holds no mask ({', '.join(image_suffixes())}){there}")
    if others:
        warnings.warn(
            f"{folder}: left out {plural(len(others), 'file')}: {names}; masks are files of "
            f"{', '.join(image_suffixes())} in the folder itself",
            stacklevel=3,
        )
    return masks


def _goes_with(file: Path) -> bool:
    name = parse_name(stem(file))
    is_map = name is not None and name.suffix in _BIDS_MAPS
    return is_note(file) or is_map or file.name.lower().endswith(".sr.dcm")


def _visible_files(folder: Path) -> list[Path]:
    """Return all files but hidden ones, and those in hidden folders."""
    files = ((file, file.relative_to(folder).parts) for file in walk(folder))
    return [file for file, parts in files if not any(part.startswith(".") for part in parts)]


def _masks_by_case(cases: Mapping[Path, str | None]) -> dict[str, Path]:
    """Return the one mask of each case; probabilities and SEG object of a mask beside are none."""
    places = Counter((file.parent, stem(file)) for file, case in cases.items() if case is not None)
    masks: dict[str, Path] = {}
    for file, case in cases.items():
        if case is None or _is_map(file, places) or _is_copy(file, places):
            continue
        if masks.setdefault(case, file) is not file:
            raise InputError(f"{masks[case]} and {file} both are the mask of {case}; leave one")
    return masks


def _case_of(file: Path, folder: Path, subjects: Collection[str]) -> str | None:
    """Return the case that a mask belongs to; None of any other file."""
    by_suffix = file.name.lower().endswith(image_suffixes())
    if not by_suffix and is_label_object(file) is None:
        return None
    home = normal_name("_".join(file.parent.relative_to(folder).parts))
    if home in subjects:
        return home
    name = parse_name(stem(file))
    if name and name.suffix in _BIDS_MASKS and name.case in subjects:
        return name.case
    if file.parent == folder:
        return stem(file)
    return None if by_suffix else normal_name(file.parent.name)


def _is_map(file: Path, places: Collection[tuple[Path, str]]) -> bool:
    """Say whether a file holds the probabilities of a mask beside it."""
    name = stem(file)
    return name.endswith(_MAPS) and (file.parent, name.removesuffix(_MAPS)) in places


def _is_copy(file: Path, places: Mapping[tuple[Path, str], int]) -> bool:
    """Say whether a file is a DICOM segmentation beside a mask of its name."""
    return file.name.lower().endswith(_COPY) and places[file.parent, stem(file)] > 1
