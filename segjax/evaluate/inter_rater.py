"""Several raters of the same images: how far they agree, and their consensus, from files."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from segjax.components import box_of
from segjax.data.io.formats import stem
from segjax.data.labels import LabelCoding
from segjax.errors import InputError
from segjax.evaluate.compare import Failure, coding_of_predictions, raise_failures
from segjax.evaluate.pairs import Pair, coding_of, find_masks, read_pair
from segjax.evaluate.raters import RaterAgreement, Staple, rater_agreement, staple
from segjax.progress import track
from segjax.text import listed
from segjax.volume import Volume

__all__ = ["Rated", "RatedCase", "rate_cases", "rater_names"]

_NAMED = 3


@dataclass(frozen=True, eq=False)
class RatedCase:
    """One image, marked by several raters.

    Attributes:
        case: Its name.
        agreement: Of all pairs of raters, by label value.
        consensus: STAPLE's, by label value.
        mask: Label map of the consensus; where two labels claim a voxel the more probable one.
    """

    case: str
    agreement: Mapping[int, RaterAgreement]
    consensus: Mapping[int, Staple]
    mask: Volume

    def held(self, value: int) -> bool:
        """Say whether anybody marked a label: of one that nobody did there is no agreement."""
        return value in self.agreement and any(self.agreement[value].volumes.values())

    def rows(self) -> Iterator[tuple[str, int, str, str, float]]:
        """Yield ``(case, label, rater, measure, value)``; of all raters the rater is empty."""
        for value, found in self.agreement.items():
            for rater, dice in found.against_others.items():
                quality = self.consensus[value].raters[rater]
                yield self.case, value, rater, "dice_with_others", dice
                yield self.case, value, rater, "staple_sensitivity", quality.sensitivity
                yield self.case, value, rater, "staple_specificity", quality.specificity
                yield self.case, value, rater, "voxels", float(found.volumes[rater])
            for (one, other), dice in found.dice.items():
                yield self.case, value, f"{one} / {other}", "dice", dice
            for (one, other), kappa in found.cohens_kappa.items():
                yield self.case, value, f"{one} / {other}", "cohens_kappa", kappa
            yield self.case, value, "", "pairwise_dice", found.pairwise_dice.value
            yield self.case, value, "", "fleiss_kappa", found.fleiss_kappa


@dataclass(frozen=True, eq=False)
class Rated:
    """What several raters made of many images.

    Attributes:
        cases: Those that could be compared, in the order of their names.
        failed: The others.
    """

    cases: tuple[RatedCase, ...]
    failed: tuple[Failure, ...] = ()

    def check(self) -> "Rated":
        """Raise what went wrong, if anything did; else return what was compared.

        Raises:
            InputError: With the reason of the first case that failed, and the names of all.

        Example:
            >>> Rated((), (Failure("b", "b.nii.gz: there is no such file"),)).check()
            Traceback (most recent call last):
            segjax.errors.InputError: b.nii.gz: there is no such file
        """
        raise_failures(self.failed, len(self.cases))
        return self


def rate_cases(folders: Sequence[Path]) -> Rated:
    """Compare the masks of several raters; a case that cannot be compared stops no other.

    Sensitivity, specificity and kappa are within the smallest box that holds what anybody marked:
    they grow with the background.

    Args:
        folders: Of each rater, a folder of masks or one mask; files belong together by their
            names. Names of raters are those of the folders. What stored values stand for is
            read from the ``dataset.json`` of the first one; other masks may hold classes.

    Returns:
        The cases that all raters have, and why others could not be compared.

    Raises:
        InputError: There are fewer than two raters, a folder holds no mask, no case is one of
            every rater, or none could be compared.

    Warns:
        UserWarning: A case lacks a rater.

    Example:
        >>> cases = rate_cases([Path("brains/labels"), Path("masks")]).cases
        >>> len(cases), sorted(cases[0].agreement[1].against_others)
        (5, ['labels', 'masks'])
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} rater: give the masks of two or more")
    names, files = rater_names(folders), [_files_of(folder, folders) for folder in folders]
    first, *others = files
    common = sorted(set(first).intersection(*others))
    if not common:
        raise InputError(f"{folders[0]}: no case that every rater has")
    if lone := sorted(set(first).union(*others) - set(common)):
        warnings.warn(f"{listed(lone, _NAMED)}: not of every rater; left out", stacklevel=2)
    coding = coding_of(folders[0])
    pairs = [[Pair(case, first[case], own[case]) for case in common] for own in others]
    codings = [coding_of_predictions(own, coding) if coding.values else coding for own in pairs]
    cases, failed = [], []
    for case, *own in track(list(zip(common, *pairs, strict=True)), "Comparing raters"):
        try:
            cases.append(_rate(case, _read(names, own, coding, codings)))
        except InputError as error:
            failed.append(Failure(case, str(error)))
    rated = Rated(tuple(cases), tuple(failed))
    return rated if cases else rated.check()


def _files_of(folder: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the masks of a rater by case; of single masks the first one names the case."""
    if all(one.is_file() for one in folders):
        return {stem(folders[0]): folder}
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {fault}; give of each rater a folder, or of each one mask")
    return find_masks(folder)


def _read(
    names: Sequence[str],
    pairs: Sequence[Pair],
    coding: LabelCoding,
    codings: Sequence[LabelCoding],
) -> dict[str, Volume]:
    masks: dict[str, Volume] = {}
    for name, pair, predicted in zip(names[1:], pairs, codings, strict=True):
        masks[names[0]], masks[name] = read_pair(pair, coding=coding, predicted=predicted)
    return masks


def rater_names(folders: Sequence[Path]) -> list[str]:
    """Return what raters are called: the last parts of their paths that tell them apart.

    Raises:
        InputError: Two are the same.

    Example:
        >>> rater_names([Path("study/anna"), Path("study/ben")])
        ['anna', 'ben']
        >>> rater_names([Path("anna/masks"), Path("ben/masks")])
        ['anna/masks', 'ben/masks']
    """
    parts = [Path(folder).parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{folders[0]}: is given twice; give each rater once")


def _rate(case: str, masks: Mapping[str, Volume]) -> RatedCase:
    first = next(iter(masks.values()))
    data = {name: mask.data for name, mask in masks.items()}
    marked = np.logical_or.reduce([one > 0 for one in data.values()])
    box = box_of(marked) if marked.any() else tuple(slice(0, n) for n in marked.shape)
    cut = {name: one[box] for name, one in data.items()}
    values = sorted(set(np.unique(np.stack([*cut.values()])).tolist()) - {0}) or [1]
    agreement = {value: rater_agreement(cut, label=value) for value in values}
    consensus = {value: staple(cut, label=value) for value in values}
    whole = np.zeros(marked.shape, np.uint8 if values[-1] < 256 else np.int32)
    whole[box] = _map(consensus)
    return RatedCase(case, agreement, consensus, first.with_data(whole))


def _map(consensus: Mapping[int, Staple]) -> Integer[np.ndarray, "*box"]:
    values = np.array([0, *consensus])
    likely = np.stack([one.probability for one in consensus.values()])
    best = likely.argmax(axis=0)
    return np.where(likely.max(axis=0) >= 0.5, values[1 + best], 0)
