"""Several raters of the same images: how far they agree, and their consensus, from files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from segjax.components import box_of
from segjax.errors import InputError
from segjax.evaluate.pairs import coding_of, match_masks, read_pair
from segjax.evaluate.raters import RaterAgreement, Staple, rater_agreement, staple
from segjax.progress import track
from segjax.volume import Volume

__all__ = ["RatedCase", "rate_cases", "rater_names"]


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


def rate_cases(folders: Sequence[Path]) -> list[RatedCase]:
    """Compare the masks of several raters.

    Sensitivity, specificity and kappa are within the smallest box that holds what anybody marked:
    they grow with the background.

    Args:
        folders: Of each rater, a folder of masks or one mask; files belong together by their
            names. Names of raters are those of the folders.

    Returns:
        The cases that all raters have, in the order of their names.

    Raises:
        InputError: There are fewer than two raters, a mask of one has no partner, or masks of an
            image lie on other grids.

    Example:
        >>> cases = rate_cases([Path("brains/labels"), Path("masks")])
        >>> len(cases), sorted(cases[0].agreement[1].against_others)
        (5, ['brains/labels', 'masks'])
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} rater: give the masks of two or more")
    names = rater_names(folders)
    first, *others = folders
    pairs = {
        name: {pair.case: pair for pair in match_masks(folder, first)}
        for name, folder in zip(names[1:], others, strict=True)
    }
    coding = coding_of(first)
    common = [
        case for case in next(iter(pairs.values())) if all(case in own for own in pairs.values())
    ]
    if not common:
        raise InputError(f"{first}: no case that every rater has")
    rated = []
    for case in track(common, "Comparing raters"):
        masks = {}
        for name in names[1:]:
            masks[names[0]], masks[name] = read_pair(
                pairs[name][case], coding=coding, predicted=coding
            )
        rated.append(_rate(case, {name: masks[name] for name in names}))
    return rated


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
