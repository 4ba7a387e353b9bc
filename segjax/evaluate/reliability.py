"""Calibration of the probabilities that ``segjax predict --probabilities`` wrote beside masks."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from segjax.data.io.formats import check_same_grid, image_suffixes, read_image, stem
from segjax.errors import InputError
from segjax.evaluate.calibration import Calibration, calibration_of
from segjax.evaluate.compare import Comparison, Failure
from segjax.evaluate.pairs import read_pair
from segjax.progress import track
from segjax.volume import Volume

__all__ = ["Calibrated", "calibrations", "find_probabilities"]

_LEAST = 0.01  # probability of a voxel that counts


def find_probabilities(mask: Path) -> Path:
    """Return the file of probabilities beside a mask.

    Args:
        mask: A predicted mask, ``NAME`` with its suffix.

    Returns:
        ``NAME_probabilities`` with the suffix of an image, or ``.npy``.

    Raises:
        InputError: There is none.

    Example:
        >>> find_probabilities(Path("masks/nothing.nii.gz"))
        Traceback (most recent call last):
        segjax.errors.InputError: masks/nothing.nii.gz: no nothing_probabilities beside it; ...
    """
    name = f"{stem(mask)}_probabilities"
    for suffix in (*image_suffixes(), ".npy"):
        if (file := mask.parent / f"{name}{suffix}").is_file():
            return file
    raise InputError(f"{mask}: no {name} beside it; write it with segjax predict --probabilities")


class Calibrated(NamedTuple):
    """How far probabilities are to be believed.

    Attributes:
        labels: Calibration of each label, by its name, over all cases together; of no case empty.
        failed: Cases whose probabilities could not be held against labels, and why; they count in
            none.
    """

    labels: dict[str, Calibration]
    failed: tuple[Failure, ...] = ()


def calibrations(cases: Iterable[Comparison], *, bins: int = 15) -> Calibrated:
    """Say of each label how far its probabilities are to be believed, over all cases together.

    Only voxels count that are of the label, or get a probability of 1 % or more: over all of a
    head, nearly all of which is far from any lesion, every network would seem calibrated. A case
    whose file of probabilities is missing, lies on another grid, or has not one channel a label,
    stops no other.

    Args:
        cases: What :func:`segjax.evaluate.compare.compare_cases` measured; beside each mask lie
            its probabilities.
        bins: See :func:`segjax.evaluate.calibration.calibration_of`.

    Returns:
        By label, and which cases are not in it.

    Example:
        >>> calibrations([])
        Calibrated(labels={}, failed=())
    """
    sums: dict[str, Calibration] = {}
    failed = []
    for case in track(list(cases), "Calibrating"):
        try:
            own = _calibrations_of(case, bins)
        except InputError as error:
            failed.append(Failure(case.pair.case, str(error)))
            continue
        for label, found in own.items():
            sums[label] = sums[label] + found if label in sums else found
    return Calibrated(sums, tuple(failed))


def _calibrations_of(case: Comparison, bins: int) -> dict[str, Calibration]:
    truth, _ = read_pair(case.pair, coding=case.coding, predicted=case.predicted)
    path = find_probabilities(case.pair.prediction)
    maps = _read_maps(path, case, truth)
    found = {}
    for value, label in case.labels.items():
        there = truth.data == value
        own = maps[..., value if maps.shape[-1] > 1 else 0]
        region = there | ~(own < _LEAST)
        try:
            found[label] = calibration_of(truth=there, probability=own, region=region, bins=bins)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return found


def _read_maps(path: Path, case: Comparison, truth: Volume) -> Float[np.ndarray, "*spatial label"]:
    """Read the probability of each label, the background first; or of the only one."""
    if path.suffix == ".npy":
        maps = np.load(path, allow_pickle=False)
    else:
        volume = read_image(path)
        check_same_grid(volume, truth, (str(path), str(case.pair.truth)))
        maps = volume.channels_last
    shape, most = truth.data.shape, max(case.labels)
    if maps.shape[:-1] != shape or 1 < maps.shape[-1] <= most:
        raise InputError(
            f"{path}: has shape {maps.shape}, but its mask is {shape} with labels up to {most}; "
            "give one probability a voxel and label, the background first"
        )
    return maps.astype(np.float32)
