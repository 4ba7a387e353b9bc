"""Which cases are trained on, validated on and tested on: in one split, or fold by fold."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.grouping import Grouping
from segjax.data.io.formats import normal_name
from segjax.errors import InputError
from segjax.files import read_json, write_json
from segjax.text import plural

__all__ = [
    "Folding",
    "Split",
    "fold_splits",
    "read_fold_splits",
    "read_split",
    "split_cases",
    "write_split",
]

_Group = Sequence[str]


@dataclass(frozen=True)
class Split:
    """Names of the cases to train on, to validate on and to test on.

    Example:
        >>> Split(train=("a", "b"), validation=("c",)).test
        ()
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()


def split_cases(
    names: Iterable[str],
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Split cases at random, the same way whenever names and seed are the same.

    The sorted groups, every case alone by default, are permuted by
    ``numpy.random.default_rng(seed)``; the first go to the test set, the next to validation, the
    rest to training. A fraction over 0 gives at least one group. Where groups differ in size,
    those are taken that come nearest to the fraction of the cases.

    Args:
        names: Names of the cases, in any order.
        validation: Fraction of the cases to validate on, in [0, 1).
        test: Fraction of the cases to test on, in [0, 1).
        seed: Seed of the permutation.
        groups: Name of a case -> name of its group; cases of one group are never parted.

    Returns:
        The split, each part sorted by name.

    Raises:
        InputError: Where a name occurs twice or has no group, a fraction is out of range, or no
            case is left to train on.

    Example:
        >>> split_cases(["a", "b", "c", "d"], validation=0.25)
        Split(train=('a', 'b', 'd'), validation=('c',), test=())
        >>> patients = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
        >>> split_cases(patients, validation=0.4, groups=patients).validation
        ('a1', 'a2')
    """
    rest = _shuffled_groups(names, groups, seed=seed, where="split")
    total = sum(map(len, rest))
    wanted = [_count(test, total, "test"), _count(validation, total, "validation")]
    there = plural(len(rest), "case" if groups is None else "group")
    parts = []
    for count in wanted:
        part, rest = _take(rest, count)
        parts.append(part)
    lacking = any(count and not part for count, part in zip(wanted, parts, strict=True))
    if sum(wanted) >= total or lacking or not rest:
        raise InputError(
            f"{there} with fractions {validation} for validation and {test} for testing leave none "
            "to train on: give more cases or smaller fractions"
        )
    return Split(train=_members(rest), validation=parts[1], test=parts[0])


def _take(groups: Sequence[_Group], count: int) -> tuple[tuple[str, ...], list[_Group]]:
    """Return the cases of the groups that come nearest to a number, and the other groups."""
    chosen = set(_nearest_share(groups, count))
    rest = [group for place, group in enumerate(groups) if place not in chosen]
    return _members(groups[place] for place in chosen), rest


def _members(groups: Iterable[_Group]) -> tuple[str, ...]:
    return tuple(sorted(chain.from_iterable(groups)))


def _count(fraction: float, total: int, part: str) -> int:
    """Return the number of cases of a part: the nearest, but one at least."""
    if not 0 <= fraction < 1:
        raise InputError(f"fraction {fraction} for {part} is out of range: give one in [0, 1)")
    return max(1, round(fraction * total)) if fraction else 0


def _shuffled_groups(
    names: Iterable[str], groups: Mapping[str, str] | None, *, seed: int, where: str
) -> list[_Group]:
    """Return the cases of every group, sorted by name, and the groups in random order.

    The groups, every case alone by default, are sorted by name and then permuted by
    ``numpy.random.default_rng(seed)``.

    Raises:
        InputError: A name occurs twice or has no group; ``where`` begins the message.

    Example:
        >>> groups = {"b2": "b", "a1": "a", "b1": "b"}
        >>> _shuffled_groups(groups, groups, seed=0, where="split")
        [['a1'], ['b1', 'b2']]
    """
    ordered = sorted(names)
    members: dict[str, list[str]] = {}
    for name, following in pairwise(ordered):
        if name == following:
            raise InputError(f"{where}: case '{name}' occurs more than once")
    for name in ordered:
        if groups is not None and name not in groups:
            raise InputError(f"{where}: case '{name}' belongs to no group")
        members.setdefault(name if groups is None else groups[name], []).append(name)
    listed = [cases for _, cases in sorted(members.items())]
    return [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]


def _nearest_share(groups: Sequence[_Group], wanted: int) -> list[int]:
    """Choose groups that hold as nearly as can be so many cases, but not all groups.

    Of the choices that come equally near, those of fewer cases win, and then those of the groups
    that come first.

    Args:
        groups: The cases of every group.
        wanted: Number of cases; 0 chooses none, more than 0 at least one group.

    Returns:
        Where the chosen groups stand, in rising order; none where all but one are too few.

    Example:
        >>> _nearest_share([["a1", "a2", "a3"], ["b1"], ["c1", "c2"]], 2)
        [2]
    """
    sizes = [len(group) for group in groups]
    if set(sizes) <= {1}:
        return list(range(min(wanted, len(sizes))))
    limit = min(sum(sizes), 2 * wanted + max(sizes))  # no sum beyond it comes nearest
    sums = _possible_sums(sizes, limit)
    possible = [n for n in range(1, limit + 1) if sums[0] >> n & 1 and n < sum(sizes)]
    if wanted == 0 or not possible:
        return []
    return _summands(sizes, sums, min(possible, key=lambda n: abs(n - wanted)))


def _summands(sizes: Sequence[int], sums: Sequence[int], total: int) -> list[int]:
    """Return the first places whose sizes have a sum that is possible."""
    chosen = []
    for place, size in enumerate(sizes):
        if size <= total and sums[place + 1] >> (total - size) & 1:
            chosen.append(place)
            total -= size
    return chosen


def _possible_sums(sizes: Sequence[int], limit: int) -> list[int]:
    """Return, for every place, the sums of some of the sizes from there on: bit n is sum n."""
    mask, sums = (1 << (limit + 1)) - 1, [1]
    for size in reversed(sizes):
        sums.append((sums[-1] | sums[-1] << size) & mask)
    return sums[::-1]


def write_split(split: Split, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a split as JSON.

    Args:
        split: The split.
        path: File to write.
        overwrite: Replace a file that exists.

    Raises:
        InputError: Where the file exists and may not be replaced, or cannot be written.

    Example:
        >>> write_split(Split(train=("a", "b"), validation=("c",)), "split.json")
        >>> read_split("split.json").validation
        ('c',)
    """
    parts = {
        "train": list(split.train),
        "validation": list(split.validation),
        "test": list(split.test),
    }
    write_json(parts, path, overwrite=overwrite)


def read_split(path: str | Path) -> Split:
    """Read a split that :func:`write_split` wrote.

    Args:
        path: JSON file with the lists ``train``, ``validation`` and ``test``.

    Returns:
        The split.

    Raises:
        InputError: Where the file is missing or holds anything else, or names a case twice.

    Example:
        >>> read_split("run/split.json").test
        ()
    """
    parts = read_json(path)
    if isinstance(parts, list) and parts:
        raise InputError(
            f"{path}: holds the splits of {plural(len(parts), 'fold')}, which only segjax train "
            "takes; give one split, an object of the lists train, validation and test"
        )
    return _as_split(parts, str(path))


def read_fold_splits(path: str | Path) -> tuple[Split, ...] | None:
    """Read the splits of a cross-validation, such as nnU-Net's ``splits_final.json``.

    Args:
        path: JSON file: a list of objects with the lists ``train`` and ``val``, one for each fold.

    Returns:
        The split of every fold; None where the file holds an object, as one split.

    Raises:
        InputError: Where the file is missing or holds anything else, or a fold names a case twice.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "splits_final.json"
        >>> _ = path.write_text('[{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]')
        >>> [split.validation for split in read_fold_splits(path)]
        [('a',), ('b',)]
    """
    folds = read_json(path)
    if isinstance(folds, dict):
        return None
    if not isinstance(folds, list) or not folds:
        raise InputError(f"{path}: holds neither a split nor a list of those of folds")
    return tuple(
        _as_split(parts, f"{path}: fold {fold}", validation="val")
        for fold, parts in enumerate(folds)
    )


def _as_split(parts: Any, where: str, validation: str = "validation") -> Split:
    allowed = {"train", validation, "test"}
    if not isinstance(parts, dict) or not {"train", validation} <= set(parts) <= allowed:
        raise InputError(f"{where}: a split is an object of the lists train, {validation} and test")
    names = {
        key: tuple(map(normal_name, _strings(value, where, key))) for key, value in parts.items()
    }
    counts = Counter(name for part in names.values() for name in part)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise InputError(f"{where}: case '{repeated[0]}' occurs more than once")
    return Split(names["train"], names[validation], names.get("test", ()))


def _strings(value: Any, path: str | Path, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{path}: '{key}' is no list of case names")
    return tuple(value)


@dataclass(frozen=True)
class Folding:
    """How the cases of a dataset are dealt into folds.

    Attributes:
        folds: Number of folds, at least 2.
        grouping: Which cases stay in one fold. Where a table has a column ``fold`` of so many
            values, these are the folds, in order; nothing is dealt then.

    Raises:
        InputError: There are too few folds.

    Example:
        >>> names = ["anna_1", "anna_2", "ben_1", "ben_2"]
        >>> Folding(2, Grouping(pattern="^[a-z]+")).splits(names, seed=1)[0].validation
        ('anna_1', 'anna_2')
    """

    folds: int
    grouping: Grouping = field(default_factory=Grouping)

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"{plural(self.folds, 'fold')}: give at least 2")

    def splits(self, names: Iterable[str], *, seed: int = 0) -> tuple[Split, ...]:
        """Return the split of every fold, as :func:`fold_splits` does.

        Raises:
            InputError: As :func:`fold_splits` and the way of grouping.
        """
        listed = list(names)
        if ready := self.grouping.ready_folds(listed, self.folds):
            return _splits(ready)
        return fold_splits(listed, self.folds, seed=seed, groups=self.grouping.groups(listed))


def fold_splits(
    names: Iterable[str], folds: int, *, seed: int = 0, groups: Mapping[str, str] | None = None
) -> tuple[Split, ...]:
    """Deal cases into folds; each fold is validated once and trained on in all other splits.

    The groups (every case alone, by default) are permuted by ``numpy.random.default_rng(seed)``,
    sorted by falling size, and dealt one after another to the fold with the fewest cases. Sizes
    of folds differ by at most the size of the largest group.

    Args:
        names: Names of the cases, in any order.
        folds: Number of folds, at least 2.
        seed: Seed of the permutation.
        groups: Name of a case -> name of its group; cases of one group are never parted.

    Returns:
        One split for each fold, its parts sorted by name and without a test set.

    Raises:
        InputError: A name occurs twice or has no group, or there are fewer groups than folds.

    Example:
        >>> [split.validation for split in fold_splits(["a", "b", "c", "d"], 2)]
        [('b', 'c'), ('a', 'd')]
    """
    shuffled = _shuffled_groups(names, groups, seed=seed, where="folds")
    if not 2 <= folds <= len(shuffled):
        there = plural(len(shuffled), "case" if groups is None else "group")
        raise InputError(f"{plural(folds, 'fold')} of {there}: {_possible(len(shuffled))}")
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return _splits(dealt)


def _splits(dealt: Sequence[Sequence[str]]) -> tuple[Split, ...]:
    """Validate each fold by a network that is trained on the others."""
    everything = {name for fold in dealt for name in fold}
    return tuple(
        Split(train=tuple(sorted(everything - set(fold))), validation=tuple(sorted(fold)))
        for fold in dealt
    )


def _possible(most: int) -> str:
    return f"give from 2 to {most}" if most > 1 else "there must be 2 at least"
